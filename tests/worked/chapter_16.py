"""The worked examples of derivations/16-beyond-the-lecture.md."""

import math

import numpy as np
from worked import example as ex

from teachvae import importance_weighted
from teachvae.arrays.observed import Observed
from teachvae.arrays.rows import resample
from teachvae.evaluation import goodness
from teachvae.inference import draws, linear_gaussian
from teachvae.inference import mixture_of_factor_analysers as mofa
from teachvae.inference import simple_structure as simple
from teachvae.inference.expectations import log_weight
from teachvae.inference.mixture import divergence, free
from teachvae.posteriors.nodes import gauss_hermite

ONE = slice(0, 1)                                                  # data case 1
CASE = ex.phi[ONE], ex.x[ONE]


def weights(order=96):
    """log ω of case 1 on Gauss–Hermite nodes, (G,), and the nodes' weights (G,)."""
    eta, w = gauss_hermite(1, order)
    return log_weight(*ex.linear(), *CASE, eta)[:, 0], w


def l_2(log_w, w):
    """L_2 of case 1: the expectation over two independent draws, by a sum over pairs of nodes."""
    pairs = np.logaddexp(log_w[:, None], log_w) - math.log(2)
    return -w @ pairs @ w


def eq_7_8():
    log_w = log_weight(*ex.linear(), *CASE, ex.eta[:, ONE])[:, 0]
    yield from log_w
    L, _ = importance_weighted.forward(*ex.linear(), *CASE, ex.eta[:, ONE])
    nlml = linear_gaussian.nlml(ex.W, ex.b, ex.psi, ex.x)[0]
    yield from (L[0], nlml)
    log_w, w = weights()
    yield from (-w @ log_w, l_2(log_w, w), nlml)


def eq_12_4():
    log_w, w = weights()
    nlml = linear_gaussian.nlml(ex.W, ex.b, ex.psi, ex.x)[0]
    shares = np.exp(log_w + nlml)                                  # ω / p(x)
    square = w @ shares**2
    yield from (square, square - 1, (square - 1) / 4, l_2(log_w, w) - nlml, (square - 1) / 200)


def eq_7_22():
    _, cache = importance_weighted.forward(*ex.linear(), *CASE, ex.eta[:, ONE])
    share = cache[1][:, 0]
    yield from share
    dphi, _ = importance_weighted.backward(*ex.linear(), cache, np.ones(1))
    dreg, _ = importance_weighted.backward(*ex.linear(), cache, np.ones(1), estimator="dreg")
    # dz of the two samples, from what (7.23) makes of them: dm = Σ ω̃ dz, dlog s = Σ ω̃ dz η
    dz = np.array([dreg[0].sum(), dreg[0] @ [1, -1]]) / 2 / share
    yield from dz
    yield from (share[0] - share[1], dz.sum(), dphi[0, 0], dphi[0, 1])


def eq_7_23():
    _, cache = importance_weighted.forward(*ex.linear(), *CASE, ex.eta[:, ONE])
    dreg, _ = importance_weighted.backward(*ex.linear(), cache, np.ones(1), estimator="dreg")
    yield from dreg[0]
    plain, _ = importance_weighted.backward(*ex.linear(), cache, np.ones(1))
    yield from plain[0]


def eq_7_19():
    z = draws.exact(*ex.linear(), ex.x, ex.eta)
    yield from z[:, 0, 0]
    yield from z[:, 1, 0]


def eq_7_20():
    _, cache = importance_weighted.forward(*ex.linear(), *CASE, ex.eta[:, ONE])
    z, share = cache[0], cache[1]
    yield from share[:, 0]
    u = np.array([[0.5], [0.99]])
    drawn = resample(z, share, u)[:, 0, 0]
    yield from (u[0, 0], drawn[0], u[1, 0], drawn[1])
    yield (share * z[:, :, 0]).sum()
    yield linear_gaussian.posterior(ex.W, ex.b, ex.psi, ex.x)[0][0, 0]


def eq_7_21():
    model, theta = ex.linear()
    half = Observed(ex.x[ONE], np.array([[1.0, 0.0]]))
    mean, M = linear_gaussian.posterior(ex.W, ex.b, ex.psi, half.x, half.mask)
    W, psi = ex.W[0, 1], ex.psi[1]
    yield from (mean[0, 0], 1 / M[0, 0, 0])
    yield from (ex.b[1] + W * mean[0, 0], W**2 / M[0, 0, 0] + psi)
    z = draws.exact(model, theta, half, np.ones((1, 1, 1)))
    f, _ = model.f(theta, z)
    x = model.likelihood.sample(theta["likelihood"], f, np.array([[[0.0, -0.5]]]))
    yield from (z[0, 0, 0], -0.5, x[0, 0, 1])


TURN = np.array([[1.0, 1.0], [1.0, -1.0]]) / math.sqrt(2)


def eq_2_29():
    W = np.concatenate([ex.W, np.zeros((1, 2))])
    P = TURN.T @ linear_gaussian.precision(W, ex.psi) @ TURN
    yield from (TURN.T @ W)[0]
    yield from (P[0, 0], P[0, 1], linear_gaussian.diagonal_gap(P))


TWO_GROUPS = np.array([[1.0, 1.0], [1.0, 1.0], [1.0, -1.0], [1.0, -1.0]]) / math.sqrt(2)


def eq_2_30():
    turned = TWO_GROUPS @ TURN
    yield from (np.mean(TWO_GROUPS[:, 0] ** 4), np.mean(TWO_GROUPS[:, 0] ** 2), simple.criterion(TWO_GROUPS))
    yield from (np.mean(turned[:, 0] ** 4), np.mean(turned[:, 0] ** 2), simple.criterion(turned))


def eq_2_31():
    T = simple.varimax(TWO_GROUPS)
    found = np.abs(TWO_GROUPS @ T)
    yield from (found[0, 0], found[0, 1])
    yield simple.criterion(TWO_GROUPS @ T) - simple.criterion(TWO_GROUPS)


def eq_2_32():
    X = np.array([[0.8, 0.2], [0.2, 0.8]])
    yield from (X[0, 0], X[0, 1])
    T = simple.promax(X)
    rotated, back = X @ T, np.linalg.inv(T)
    target = X**4
    G = np.linalg.solve(X, target)
    scale = T[0, 0] / G[0, 0]
    yield from (target[0, 0], target[0, 1], G[0, 0], G[0, 1], scale**2, scale)
    yield from (rotated[0, 0], rotated[0, 1], (back @ back.T)[0, 1])


def eq_2_33():
    mean, M = linear_gaussian.posterior(ex.W, ex.b, ex.psi, ex.x)
    z, covariance = linear_gaussian.bartlett(mean, M)
    yield from (*mean[:, 0], *z[:, 0], covariance[0, 0], 1 / M[0, 0])


def pairs():
    """(S, mean nlml): two pairs of columns, of which one factor explains all but the pairs."""
    S = np.full((4, 4), 0.45) + 0.55 * np.eye(4)
    S[0, 1] = S[1, 0] = S[2, 3] = S[3, 2] = 0.6
    W, psi = np.full((1, 4), math.sqrt(0.5)), np.full(4, 0.5)
    return S, linear_gaussian.e_step_moments(W, psi, S)[1]


def eq_7_16():
    S, nlml = pairs()
    found = goodness.fit_test(nlml, S, 100, 1)
    yield from (S[0, 1], S[0, 2], 0.5)
    yield from (nlml, goodness.saturated_nlml(S), found.F)
    yield from (found.chi2 / found.F, found.chi2, found.p)


def eq_7_17():
    S, nlml = pairs()
    found = goodness.fit_test(nlml, S, 100, 1)
    yield from (found.chi2, found.chi2 / found.F, found.rmsea, *found.interval)


def eq_7_18():
    _, nlml = pairs()
    aic, bic = goodness.information_criteria(nlml, 100, goodness.free_parameters(4, 1, 4))
    yield from (nlml, aic, bic)


def analysers():
    """The running example's linear model, and another one with W = (1, 0) and b = (−1, 0)."""
    W, b = np.array([[[1.0, 2.0]], [[1.0, 0.0]]]), np.array([[0.0, 1.0], [-1.0, 0.0]])
    return mofa.Analysers(np.array([0.5, 0.5]), W, b, np.stack([ex.psi, ex.psi]))


def eq_9_10():
    p = analysers()
    yield from linear_gaussian.nlml(*mofa.component(p, 0), ex.x)
    yield from linear_gaussian.nlml(*mofa.component(p, 1), ex.x)
    yield from mofa.log_joint(p, ex.x).ravel()


def eq_9_11():
    log_p = mofa.log_joint(analysers(), ex.x)
    q = free(log_p)
    yield from (log_p[0, 0], log_p[0, 1], q[0, 0], q[0, 1], divergence(q, log_p)[0])
    yield divergence(np.full((2, 2), 0.5), log_p)[0]


def moments():
    problem = mofa.Problem(ex.x, np.ones(2), np.full(2, 1e-6))
    return problem, problem.e_step(analysers())[0]


def eq_9_12():
    q = free(mofa.log_joint(analysers(), ex.x))
    _, found = moments()
    yield from (q[0, 0], q[1, 0], found.n_cases[0])
    s = found.statistics[0]
    yield from (s.z[0], s.zz[0, 0], s.x[0], s.xz[0, 0])


def eq_9_13():
    problem, found = moments()
    p = problem.m_step(found)
    yield from p.weights
    s = found.statistics[0]
    yield from (s.xz[0, 0] - s.x[0] * s.z[0], s.zz[0, 0] - s.z[0] ** 2, p.W[0, 0, 0], p.b[0, 0], p.psi[0, 0])


def eq_9_14():
    p = analysers()
    y = mofa.code(p, ex.x)
    yield from y[0]
    yield from mofa.decode(p, y)[0]


def eq_9_15():
    p, mask = analysers(), np.array([[1.0, 0.0]])
    y = mofa.code(p, ex.x[ONE], mask)
    yield from (y[0, 0], mofa.decode(p, y)[0, 1])
    noisy = p._replace(psi=p.psi + 1.0)
    log_p, means, _ = mofa.e_step(noisy, ex.x[ONE])
    yield from (means[0][0, 0], means[1][0, 0], free(log_p)[0, 0])
    yield from mofa.denoised(p, ex.x[ONE], 1.0)[0]


def eq_9_16():
    variance = ex.x.var(axis=0)
    p = mofa.start(ex.x, variance, 2, 1, False, np.full(2, 1e-6), np.random.default_rng(0))
    yield from (variance[0], 0.1, np.sum(p.W[0] ** 2, axis=0)[0] + p.psi[0, 0])
