"""The worked examples of derivations/06-variational-em.md."""

import numpy as np

from teachvae.arrays.special import log_sum_exp
from teachvae.inference import linear_gaussian, mixture
from teachvae.inference.e_step import e_step
from teachvae.inference.em import Complete
from teachvae.likelihoods import Gaussian
from teachvae.posteriors import DiagonalGaussian, FullGaussian
from teachvae.posteriors.nodes import sigma_points
from worked import example

ONE, TWO = DiagonalGaussian(1), DiagonalGaussian(2)
W, b, psi, x = example.W, example.b, example.psi, example.x
TURNED = np.ones((2, 1)) @ W / np.sqrt(2)                          # (1, 2)/√2 twice: K = 2, the same WᵀW
M = linear_gaussian.precision(TURNED, psi)
S = np.cov(x.T, bias=True)                                         # 2.25 everywhere

# two components with unit covariances, their means (1, 2) and (0, 1)
THETA = mixture.Mixture(np.array([0.75, 0.25]), np.array([[1.0, 2.0], [0.0, 1.0]]), np.ones((2, 2)))
LOG_P = mixture.log_joint(THETA, x)
NONE = np.full(2, 1e-9)                                            # a floor that nothing touches


def eq_9_17():
    before = linear_gaussian.bound(W, b, psi, example.phi, ONE, x)
    mean, precision = linear_gaussian.posterior(W, b, psi, x)
    phi = ONE.closest(mean, precision)
    after_e = linear_gaussian.bound(W, b, psi, phi, ONE, x)
    better = linear_gaussian.m_step(linear_gaussian.statistics(ONE, phi, x))
    after_m = linear_gaussian.bound(*better, phi, ONE, x).mean()
    return [*before, before.mean(), *mean[:, 0], 0.5, *after_e, after_e.mean(), *better[0][0], *better[1],
            *better[2], after_m, linear_gaussian.nlml(*better, x).mean()]


def eq_2_13():
    m, s = example.m[0, 0], example.s[0, 0]
    r = x[0] - b - m * W[0]
    kl = ONE.kl(example.phi)[0][0]
    Q = linear_gaussian.bound(W, b, psi, example.phi, ONE, x)[0]
    return [m, s, m, *r, kl, np.sum(r**2 / psi), kl, 2 * np.log(2 * np.pi), np.log(psi).sum(),
            np.sum(r**2 / psi), Q]


def eq_2_10():
    mean, _ = linear_gaussian.posterior(TURNED, b, psi, x)
    phi = TWO.closest(mean, M)
    full = FullGaussian(2)
    exact = linear_gaussian.bound(TURNED, b, psi, full.closest(mean, M), full, x)
    return [*np.diag(M), M[0, 1], np.linalg.det(M), *mean[0], *np.exp(2 * phi[0, 2:]), 6.25,
            linear_gaussian.mean_field_gap(TURNED, psi), *exact,
            *linear_gaussian.bound(TURNED, b, psi, phi, TWO, x)]


def eq_9_18():
    exact = np.linalg.inv(M)
    s2 = np.exp(2 * TWO.closest(np.zeros((1, 2)), M)[0, 2:])
    return [M[0, 0], M[0, 1], s2[0], M[0, 0], M[0, 1], M[1, 1], exact[0, 0], s2[0], exact[0, 0]]


def eq_9_19():
    exact = np.linalg.inv(M)
    rho = exact[0, 1] / exact[0, 0]
    return [exact[0, 0], exact[0, 1], rho, 1 - rho**2, exact[0, 0], (1 - rho**2) * exact[0, 0], 1 - rho**2,
            linear_gaussian.diagonal_gap(M)]


def eq_2_25():
    stats, Q = linear_gaussian.e_step_moments(TURNED, psi, S, TWO)
    _, nlml = linear_gaussian.e_step_moments(TURNED, psi, S)
    beta = np.linalg.solve(M, TURNED / psi)
    spread = beta @ S @ beta.T
    return [S[0, 0], beta[0, 0], spread[0, 0], 0.4, stats.zz[0, 0], stats.zz[0, 1], nlml,
            linear_gaussian.diagonal_gap(M), Q]


def eq_2_28():
    family = Complete(S, Gaussian(2), None, TWO)
    canonical = linear_gaussian.canonical(TURNED, psi)
    M_c = linear_gaussian.precision(canonical, psi)

    def Q(W):
        return linear_gaussian.e_step_moments(W, psi, family.S, TWO)[1]

    turn = np.array([[np.cos(np.pi / 8), np.sin(np.pi / 8)], [-np.sin(np.pi / 8), np.cos(np.pi / 8)]])
    half = turn @ canonical
    return [*np.diag(M), linear_gaussian.diagonal_gap(M), *np.diag(linear_gaussian.precision(half, psi)),
            linear_gaussian.mean_field_gap(half, psi), *canonical[0], *canonical[1], *np.diag(M_c), Q(TURNED),
            Q(half), Q(canonical)]


def eq_6_3():
    model, theta = example.linear()
    start = np.zeros((1, 2))
    eta, weights = sigma_points(1)

    def after(steps):
        return e_step(model, theta, start, x[:1], eta, weights, max_steps=steps, tol=1e-9)

    m, log_s = after(1).phi[0]
    end = after(50)
    nlml = linear_gaussian.nlml(W, b, psi, x[:1])[0]
    before, first = after(0).Q[0], after(1).Q[0]
    return [nlml, m, log_s, before, first, before - first, *end.phi[0], end.Q[0]]


def eq_9_1():
    one, two = mixture.log_pmf(THETA.weights)
    log_2pi = np.log(2 * np.pi)
    first, second = [0.75, one, log_2pi, one, log_2pi, LOG_P[0, 0]], [0.25, two, two, log_2pi, LOG_P[0, 1]]
    return [*THETA.weights, *first, *second, *LOG_P[1]]


def eq_9_2():
    nlml = -log_sum_exp(LOG_P)
    below = LOG_P[0, 1] - LOG_P[0, 0]
    return [LOG_P[0].max(), -below, below, np.exp(below), *nlml]


def eq_9_3():
    q = np.full((2, 2), 0.5)
    half = np.log(0.5)
    return [*q[0], 0.5, half, half, -LOG_P[0, 0], -LOG_P[0, 1], *mixture.divergence(q, LOG_P)]


def eq_9_9():
    q, posterior = np.full((2, 2), 0.5), mixture.free(LOG_P)
    gap = mixture.divergence(q, np.log(posterior))
    return [*posterior[0], 0.5, np.log(0.5), *np.log(posterior[0]), gap[0], mixture.divergence(q, LOG_P)[0],
            -log_sum_exp(LOG_P)[0]]


def eq_9_4():
    q = mixture.free(LOG_P)
    apart = LOG_P[:, 0] - LOG_P[:, 1]
    one, two = np.exp(apart)
    return [apart[0], one, one, one, q[0, 0], two, two, two, q[1, 0], *mixture.divergence(q, LOG_P)]


def eq_9_5():
    Q = mixture.divergence(mixture.hard(LOG_P), LOG_P)
    q = mixture.free(LOG_P)
    gap = Q + log_sum_exp(LOG_P)
    return [*Q, q[0, 0], gap[0], q[1, 1], gap[1], np.log(2)]


def eq_9_20():
    equal = THETA._replace(weights=np.array([0.5, 0.5]))
    log_p = mixture.log_joint(equal, x)
    q = mixture.hard(log_p)
    log_2, log_2pi = np.log(2), np.log(2 * np.pi)
    return [log_2, log_2pi, log_2, log_2pi, mixture.divergence(q, log_p).mean(),
            *mixture.m_step(equal, q, x, NONE).means.ravel()]


def eq_9_6():
    ell = LOG_P.mean(axis=0)
    q = mixture.tied(LOG_P)
    return [*ell, ell[0] - ell[1], *q[0], mixture.divergence(q, LOG_P).mean(), -log_sum_exp(LOG_P).mean()]


def eq_9_7():
    q = mixture.free(LOG_P)
    theta = mixture.m_step(THETA, q, x, NONE)
    log_p = mixture.log_joint(theta, x)
    n_cases = q.sum(axis=0)
    return [*q[:, 0], n_cases[0], theta.weights[0], q[0, 0] / n_cases[0], *theta.means[0],
            theta.covariances[0, 0], theta.covariances[0, 1], mixture.divergence(q, LOG_P).mean(),
            mixture.divergence(q, log_p).mean(), -log_sum_exp(log_p).mean()]


def eq_9_21():
    theta = mixture.m_step(THETA, mixture.tied(LOG_P), x, NONE)
    log_p = mixture.log_joint(theta, x)
    return [*theta.weights, *theta.means[0], *theta.means[1], *theta.covariances.ravel(),
            mixture.divergence(mixture.tied(log_p), log_p).mean(), -log_sum_exp(log_p).mean()]


def eq_9_8():
    F = np.array([0.5, 0.5])
    raised = mixture.raise_to_floor(S, F)
    diagonal = mixture.raise_to_floor(np.diag(S), F)
    across, along = np.linalg.eigvalsh(S)
    raised_across, raised_along = np.linalg.eigvalsh(raised)
    in_units = [along / F[0], across / F[0], raised_along / F[0]]
    return [S[0, 0], along, across, *F, *in_units, F[0], raised_along, raised_across, *raised[0],
            *diagonal]
