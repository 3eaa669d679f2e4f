"""The worked examples of derivations/03-autoencoders-and-factor-analysis.md."""

import math

import numpy as np
from worked import example
from worked.example import W, b, psi, r, x

from teachvae import linear_gaussian
from teachvae.arrays.special import LOG_2PI
from teachvae.comparison.probe import cross_entropy, log_softmax
from teachvae.doors.units import PrincipalAxes
from teachvae.inference.em import start
from teachvae.likelihoods import Gaussian, PredictedGaussian
from teachvae.networks.layers import Linear
from teachvae.routes.autoencoder import in_nats, squared_error
from teachvae.routes.principal_components import PrincipalComponents

FOUR = np.array([[2.0, 4], [-2, -4], [2, -1], [-2, 1]])            # on the axes (1, 2) and (2, −1)
S = FOUR.T @ FOUR / 4
ZERO = np.zeros(2)
FIRST, SECOND = np.array([1.0, 2]) / math.sqrt(5), np.array([2.0, -1]) / math.sqrt(5)
BEST = ([0.2, 0.4], [1.0, 2.0])                                    # the encoder and decoder of (1.19)


def autoencoder(encoder, decoder, data=FOUR, noise=None):
    """Loss and gradients of a linear autoencoder with one code number and no biases."""
    params = {
        "encoder": {"W": np.array(encoder)[:, None], "b": np.zeros(1)},
        "decoder": {"W": np.array(decoder)[None, :], "b": np.zeros(2)},
    }
    return squared_error(Linear(2, 1), Linear(1, 2), params, data, noise)


def probabilistic_pca(noise):
    """W (1, 2) and psi (2,) of (2.16) for S, with a fixed noise variance or "isotropic"."""
    W, psi = start(S, 1, Gaussian(2, noise), None)
    return W * np.sign(W[0, 0]), psi


def eq_1_19():
    yield autoencoder(*BEST)[0]
    yield from autoencoder(*BEST, data=FOUR[2:3])[1]["decoder"]["b"] / 4       # one case: its residual


def eq_8_7():
    pca = PrincipalComponents(1).fit(FOUR)
    code = pca.transform(FOUR)[:, 0]
    yield from pca.components_[0]
    yield from (pca.components_[0, 0], pca.components_[0, 1], code[0], pca.explained_variance_[0])
    yield np.mean(np.sum((FOUR - pca.reconstruct(FOUR)) ** 2, axis=1))


def eq_8_8():
    encoder, decoder = np.array([1.0, 2]), np.array([0.2, 0.4])
    yield from decoder
    yield from np.outer(encoder, decoder).ravel()
    loss, _ = autoencoder(encoder, decoder)
    yield from (2 * loss, loss)
    other = np.array([0.4, -0.2])
    saddle, grads = autoencoder([2.0, -1.0], other)
    turned = math.sqrt(0.9) * SECOND + math.sqrt(0.1) * FIRST
    after, _ = autoencoder(turned, turned)
    slope = max(np.abs(grads[part][name]).max() for part in grads for name in grads[part])
    yield from (*other, slope, 2 * saddle, saddle)
    yield from (0.1, 2 * (saddle - loss), 0.1, saddle - after, after)


def eq_6_9():
    L = autoencoder(*BEST)[0]
    (whole,), (half,) = in_nats([L], 2), in_nats([L / 2], 2)
    yield from (L, L, L, whole + 1 + LOG_2PI, L, whole, 1 + LOG_2PI, whole - half)


def eq_2_16():
    W, psi = probabilistic_pca("isotropic")
    covariance = W.T @ W
    nlml = linear_gaussian.e_step_moments(W, psi, S)[1]
    yield psi[0]
    yield from (psi[0], W[0, 0] ** 2, *W[0])
    yield from (covariance[0, 0], psi[0], covariance[0, 1], covariance[1, 0], covariance[1, 1], psi[1])
    yield from (2 * LOG_2PI, 2 * LOG_2PI, 2 * nlml - 2 * LOG_2PI - 2, nlml)


def reconstruction(sigma2):
    """Of (2, 4) by (8.9): the factor, E[z|x] W and the posterior variance."""
    W, psi = probabilistic_pca(sigma2)
    mean, M = linear_gaussian.posterior(W, ZERO, psi, FOUR[:1])
    back = (mean @ W)[0]
    return back[0] / FOUR[0, 0], back, 1 / M.item()


def eq_8_9():
    factor, back, variance = reconstruction(2.5)
    yield from (2.5, factor * 10, factor, *back, variance)
    factor, back, variance = reconstruction(0.1)
    yield from (0.1, factor, *back, variance)


def eq_8_10():
    c = np.array([10.0, 1.0])
    before = linear_gaussian.nlml(W, b, psi, x)[0]
    after = linear_gaussian.nlml(W * c, b * c, psi * c * c, x * c)[0]
    yield from (after, before, before, after - before)
    axis = PrincipalComponents(1).fit(FOUR * c).components_[0]
    old = axis / c / np.linalg.norm(axis / c)
    yield from (*axis, *old, *PrincipalComponents(1).fit(FOUR).components_[0])


def eq_6_7():
    axes = PrincipalAxes(ZERO, S, like=ZERO)
    y = np.abs(((FOUR - axes.mean) @ axes.A)[:, ::-1])             # the largest eigenvalue first
    code = PrincipalComponents(2).fit(FOUR).transform(FOUR)
    values = np.linalg.eigvalsh(S)
    yield values[0]
    yield from (abs(code[0, 0]), *y[0], abs(code[2, 1]), *y[2])
    variances = np.mean(y * y, axis=0)
    yield from (variances[0], values[0], values[1] / values[0], variances[0] / variances[1])


def noisier():
    """(model, theta) of the running example with τ² = 1 on top."""
    model, theta = example.linear()
    return model, theta, *model.likelihood.noisier(theta["likelihood"], np.array(1.0))


def eq_5_27():
    _, _, likelihood, params = noisier()
    variances = likelihood.psi(params, like=b)
    log_p = likelihood.forward(params, b[None, None, :], x[:1])[0].item()
    log_det = np.log(variances).sum()
    yield from (*variances, 2 * LOG_2PI, 2 * LOG_2PI, log_det, -2 * log_p - 2 * LOG_2PI - log_det, log_p)
    own = PredictedGaussian(2, 0.1)
    noisy, _ = own.noisier({}, np.array(1.0))
    yield from (0.1, own.floor + math.exp(0), noisy.floor + math.exp(0))


def eq_5_28():
    model, theta, likelihood, params = noisier()
    mean, M = linear_gaussian.posterior(W, b, likelihood.psi(params, like=b), x[:1])
    f = mean @ W + b
    clean = model.likelihood.denoised(theta["likelihood"], f, x[:1], np.array(1.0))[0]
    f, Sigma = f[0], W.T @ W + np.diag(psi)
    yield from (M.item(), M.item(), mean.item(), f[0], f[1] - 1, *f)
    yield from (f[0], f[0], clean[0], f[1], f[1], clean[1])
    yield from r[0] @ np.linalg.solve(Sigma + np.eye(2), Sigma)


def eq_8_11():
    tau2, u = 2.5, FIRST
    factor = 10 / (10 + tau2)
    corners = math.sqrt(2 * tau2) * np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])     # of covariance τ² I
    losses, slopes = zip(*(autoencoder(u, factor * u, noise=corner[None, :]) for corner in corners))
    assert all(np.abs(sum(g[p][n] for g in slopes)).max() < 1e-12 for p in slopes[0] for n in slopes[0][p])
    plain = np.mean([autoencoder(u, u, noise=corner[None, :])[0] for corner in corners])
    kept = 2 * np.mean(losses) - tau2
    yield from (tau2, 10 + tau2, factor, *(factor * FOUR[0]))
    yield from (tau2, 10 + tau2, tau2, kept, tau2, np.mean(losses))
    yield from (tau2, tau2, plain)


def probe():
    """Codes, logits, loss and gradient of (8.3) and (8.4)."""
    mean, _ = linear_gaussian.posterior(W, b, psi, x)
    spread = mean.std(axis=0)
    z = (mean - mean.mean(axis=0)) / spread
    layer, params = Linear(1, 2), {"W": np.array([[0.5, -0.5]]), "b": np.zeros(2)}
    loss, grads = cross_entropy(layer, params, z, np.eye(2), 0.1)
    return mean, spread, params, layer.forward(params, z)[0], loss, grads


def eq_8_3():
    mean, spread, params, logits, loss, _ = probe()
    log_p = log_softmax(logits)[0, 0]
    decay = np.sum(params["W"] ** 2)
    yield from (mean[1, 0], mean.mean(), spread[0], *params["W"][0], 0.1, *logits[0], log_p)
    yield from (-log_p, (loss + log_p) / decay, decay, loss)


def eq_8_4():
    *_, logits, _, grads = probe()
    p = np.exp(log_softmax(logits))
    dlogits = (p - np.eye(2)) / 2
    both = grads["W"][0] - 0.1 * np.array([0.5, -0.5])             # without the decay
    yield from (p[0, 0], p[0, 0], p[0, 1], *dlogits[0], *dlogits[1])
    yield from (both[0], 0.05, both[1], 0.05, *grads["W"][0], *grads["b"])
