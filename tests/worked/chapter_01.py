"""The worked examples of derivations/01-gaussians-and-matrices.md."""

import math

import numpy as np
from worked import example
from worked.example import W, b, eta, m, phi, psi, r, s, x, z

from teachvae import bound, linear_gaussian
from teachvae.arrays.special import LOG_2PI, log_softmax, log_sum_exp
from teachvae.evaluation.divergence import kl_to_posterior
from teachvae.likelihoods import Gaussian
from teachvae.networks.layers import Linear
from teachvae.posteriors import DiagonalGaussian

q = DiagonalGaussian(1)


def covariance():
    """Σ and its inverse by the small matrix M."""
    M, A = linear_gaussian.precision(W, psi), W / psi
    return W.T @ W + np.diag(psi), np.diag(1 / psi) - A.T @ np.linalg.solve(M, A)


def eq_0_1():
    """Case 1's rΨ⁻¹rᵀ, from the log likelihood at f = b; and the trace."""
    model, theta = example.linear()
    log_p, _ = model.likelihood.forward(theta["likelihood"], b[None, None, :] + 0 * x[:1], x[:1])
    yield -2 * log_p.item() - 2 * LOG_2PI - np.log(psi).sum()
    product = np.diag(1 / psi) @ np.outer(r[0], r[0])
    yield from np.diag(product)
    yield np.trace(product)


def eq_0_2():
    """dW and dz of case 1 at its first sample, by the backwards of the likelihood and of the decoder."""
    z1 = z[0, :1]
    f, cache = Linear(1, 2).forward({"W": W, "b": b}, z1)
    residual = (x[:1] - f)[0]
    likelihood, params = Gaussian(2), {"log_psi": np.log(psi)}
    _, terms = likelihood.forward(params, f[None], x[:1])
    df, _ = likelihood.backward(params, terms, -np.ones((1, 1)))   # of −log p
    dz, grads = Linear(1, 2).backward({"W": W, "b": b}, cache, df[0])
    minus = -df[0, 0]                                              # rΨ⁻¹
    yield from (z1.item(), z1.item(), *residual, *minus)
    yield from (-z1.item(), *minus, *grads["W"][0], minus[0], -minus[1], dz.item())


def eq_0_3():
    _, inverse = covariance()
    yield from inverse.ravel()
    yield from (-np.outer(inverse[:, 0], inverse[0])).ravel()


def eq_0_4():
    _, inverse = covariance()
    for d in (0, 1):
        yield from [inverse[d, d]] * 2


def eq_0_5():
    Sigma, inverse = covariance()
    taken = (np.diag(1 / psi) - inverse)[0, 0]
    yield from (taken, taken, -taken, -taken, 1 / psi[1], taken)
    yield from inverse.ravel()
    mean, _ = linear_gaussian.posterior(W, b, psi, b + np.eye(2))  # the columns of M⁻¹WΨ⁻¹
    yield from mean[:, 0]


def eq_0_6():
    M = linear_gaussian.precision(W, psi)
    yield from (np.log(psi).sum(), math.log(M.item()), linear_gaussian._log_det(M, psi))


def eq_0_7():
    mean, M = linear_gaussian.posterior(W, b, psi, x)
    least = 0.5 * (mean[0] @ M @ mean[0])
    start = 0.5 * np.sum(r[0] ** 2 / psi)
    yield from (mean[0, 0], least, start, start, least, start - least)


def eq_0_8():
    log_eta, _ = q.log_prob(np.zeros((1, 2)), np.ones((1, 1, 1)))
    log_q, _ = q.log_prob(phi, z)
    yield from (s[1, 0], z[0, 1, 0], log_eta.item(), log_eta.item(), s[1, 0], log_eta.item(),
                -math.log(s[1, 0]), log_q[0, 1])


def eq_0_9():
    _, inverse = covariance()
    total, log_det = inverse.sum(), linear_gaussian._log_det(linear_gaussian.precision(W, psi), psi)
    nlml = linear_gaussian.nlml(W, b, psi, x)[0]
    quadratic = 2 * nlml - 2 * LOG_2PI - log_det
    yield from (inverse[0, 0], -inverse[0, 1], -inverse[1, 0], inverse[1, 1], total, total, quadratic)
    yield from (2 * LOG_2PI, log_det, 2 * LOG_2PI, log_det, quadratic, -nlml)


def eq_0_10():
    Sigma, _ = covariance()
    yield from Sigma.ravel()
    yield from Sigma.ravel()
    yield Sigma.sum()


def eq_0_11():
    mean, M = linear_gaussian.posterior(W, b, psi, x[:1])
    beta = np.linalg.solve(M, W / psi)[0]
    _, inverse = covariance()
    yield from (inverse[0, 0], -2 * inverse[0, 1], inverse[1, 0], 2 * inverse[1, 1], *beta)
    yield from (*beta, mean.item(), *beta, 1 / M.item())


def eq_0_12():
    mean, M = linear_gaussian.posterior(W, b, psi, x[:1])
    estimate, variance = linear_gaussian.bartlett(mean, M)
    estimate, variance = estimate.item(), variance.item()
    factor, _ = q.log_prob(np.array([[0.0, 0.5 * math.log(1 + variance)]]), np.full((1, 1, 1), estimate))
    yield from (estimate, variance, M.item(), estimate, mean.item(), estimate, 1 + variance)
    yield from (LOG_2PI, math.log(1 + variance), estimate**2 / (1 + variance), factor.item())


def eq_0_13():
    model, theta = example.linear()
    residual = r[0] - m[0] @ W
    Q, _ = bound.forward(model, theta, phi, x, eta)
    whole = linear_gaussian.bound(W, b, psi, phi, q, x)[0] - q.kl(phi)[0][0]
    whole = 2 * whole - 2 * LOG_2PI - np.log(psi).sum()
    at_mean = np.sum(residual**2 / psi)
    at_samples = [np.sum((r[0] - z_s @ W) ** 2 / psi) for z_s in z[:, 0]]
    sampled = 2 * (Q[0] - q.kl(phi)[0][0]) - 2 * LOG_2PI - np.log(psi).sum()
    yield from (m[0, 0], m[0, 0], *residual, *residual, at_mean, whole - at_mean, whole)
    yield from (*z[:, 0, 0], *at_samples, sampled)


def eq_0_14():
    log_q, _ = q.log_prob(phi, z)                                  # two nodes have every square exactly
    entropy = -log_q.mean(axis=0)
    yield from (LOG_2PI, entropy[0], s[1, 0], entropy[0], -math.log(s[1, 0]), entropy[1])


def eq_10_6():
    model, theta = example.linear()
    first, second = kl_to_posterior(model, theta, phi, x)
    mean, M = linear_gaussian.posterior(W, b, psi, x)
    yield from (m[0, 0], abs(m[0, 0] - mean[0, 0]), math.log(M.item()), first)
    yield from (s[1, 0], mean[1, 0], s[1, 0] ** 2, abs(m[1, 0] - mean[1, 0]), second)


def eq_0_15():
    log_q, cache = q.log_prob(phi, z)
    z1 = z[:, 0, 0]
    yield 2 * m[0, 0]
    yield from z1
    yield from z1**2
    scores = [q.log_prob_backward(cache, one)[0][0, 0] for one in np.eye(2)[:, :, None] * [1.0, 0.0]]
    yield np.mean(z1**2 * scores)
    yield from (scores[0], -scores[1], np.mean(scores))


def eq_0_16():
    a = np.array([-1000.0, -1001.0])
    yield log_sum_exp(a) - a[0]
    yield log_sum_exp(a)
    yield from np.exp(log_softmax(a))
