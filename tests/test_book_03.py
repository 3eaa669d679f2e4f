"""Tests of derivations/03-autoencoders-and-factor-analysis.md that no other file has: saddles of the linear
autoencoder, the limit of no noise, units and rotations, the best linear denoiser."""

from itertools import combinations

import numpy as np
import pytest
from scipy import optimize

from teachvae import linear_gaussian
from teachvae.inference.em import start
from teachvae.likelihoods import Gaussian
from teachvae.networks.layers import Linear
from teachvae.routes.autoencoder import squared_error
from teachvae.routes.principal_components import PrincipalComponents

D, K, N = 4, 2, 40
RNG = np.random.default_rng(3)
X = RNG.standard_normal((N, D)) @ RNG.standard_normal((D, D)) * np.array([2.0, 1, 1, 0.5])
X -= X.mean(axis=0)
S = X.T @ X / N
VALUES, VECTORS = np.linalg.eigh(S)
VALUES, VECTORS = VALUES[::-1], VECTORS[:, ::-1].T                 # λ falling, u_k in rows


def loss_and_gradients(A, B, noise=None):
    """(1.19) of g(x) = x A, f(z) = z B on X, and its gradients in A and B."""
    params = {"encoder": {"W": A, "b": np.zeros(K)}, "decoder": {"W": B, "b": np.zeros(D)}}
    loss, grads = squared_error(Linear(D, K), Linear(K, D), params, X, noise)
    return loss, grads["encoder"]["W"], grads["decoder"]["W"]


def test_8_8_every_other_stationary_point_is_a_saddle():
    T = np.array([[2.0, 1.0], [0.5, -1.0]])
    least = 0.5 * VALUES[K:].sum()
    for chosen in combinations(range(D), K):
        V = VECTORS[list(chosen)]
        loss, dA, dB = loss_and_gradients(V.T @ T, np.linalg.solve(T, V))
        assert loss == pytest.approx(0.5 * (VALUES.sum() - VALUES[list(chosen)].sum()), rel=1e-10)
        assert max(np.abs(dA).max(), np.abs(dB).max()) < 1e-12     # all of them are stationary
        if chosen == (0, 1):
            assert loss == pytest.approx(least, rel=1e-10)
            continue
        i = next(k for k in range(D) if k not in chosen)           # a larger eigenvalue that is not taken
        j, angle = chosen[-1], 0.2
        turned = V.copy()
        turned[-1] = np.cos(angle) * VECTORS[j] + np.sin(angle) * VECTORS[i]
        fall = 0.5 * (VALUES[i] - VALUES[j]) * np.sin(angle) ** 2
        assert loss_and_gradients(turned.T, turned)[0] == pytest.approx(loss - fall, rel=1e-10)
        assert loss_and_gradients(2 * V.T, V)[0] > loss            # and up along another direction
    found = optimize.minimize(
        lambda v: loss_and_gradients(v[: D * K].reshape(D, K), v[D * K :].reshape(K, D))[0],
        np.random.default_rng(0).standard_normal(2 * D * K), options={"gtol": 1e-8},
    )
    assert found.fun == pytest.approx(least, rel=1e-7)


def test_8_9_without_noise_the_posterior_mean_is_the_projection():
    pca = PrincipalComponents(K).fit(X)
    offs = []
    for sigma2 in (0.1 * VALUES[K - 1], 1e-4, 1e-6):
        W, psi = start(S, K, Gaussian(D, float(sigma2)), None)
        mean, M = linear_gaussian.posterior(W, np.zeros(D), psi, X)
        drawn_in = X @ sum((v - sigma2) / v * np.outer(u, u) for v, u in zip(VALUES[:K], VECTORS))
        np.testing.assert_allclose(mean @ W, drawn_in, rtol=0, atol=1e-9)
        np.testing.assert_allclose(np.linalg.inv(M), np.diag(sigma2 / VALUES[:K]), rtol=1e-9, atol=1e-12)
        offs.append(np.abs(mean @ W - pca.reconstruct(X)).max())
    assert offs[0] > 0.1 and offs[1] < 1e-2 and offs[2] < 0.02 * offs[1]
    any_W, small = np.random.default_rng(1).standard_normal((K, D)), np.full(D, 1e-9)
    mean, _ = linear_gaussian.posterior(any_W, np.zeros(D), small, X)
    foot = X @ any_W.T @ np.linalg.solve(any_W @ any_W.T, any_W)
    np.testing.assert_allclose(mean @ any_W, foot, rtol=0, atol=1e-6)


def test_8_10_units_and_rotations_of_the_maximum():
    R, _ = np.linalg.qr(np.random.default_rng(2).standard_normal((D, D)))
    c = np.array([10.0, 0.3, 1.0, 2.0])
    W, psi = start(S, K, Gaussian(D, "isotropic"), None)
    turned, psi_turned = start(R.T @ S @ R, K, Gaussian(D, "isotropic"), None)
    np.testing.assert_allclose(psi_turned, psi, rtol=1e-9)
    np.testing.assert_allclose(turned.T @ turned, R.T @ W.T @ W @ R, rtol=0, atol=1e-9)
    zero = np.zeros(D)
    before = linear_gaussian.nlml(W, zero, psi, X)
    np.testing.assert_allclose(linear_gaussian.nlml(W @ R, zero, psi, X @ R), before, rtol=1e-9)
    psi = np.array([0.5, 1.0, 2.0, 0.7])                           # a factor analysis, in other units
    before = linear_gaussian.nlml(W, zero, psi, X)
    after = linear_gaussian.nlml(W * c, zero, psi * c * c, X * c)
    np.testing.assert_allclose(after - before, np.log(c).sum(), rtol=1e-9)
    scaled, psi_scaled = start(S * np.outer(c, c), K, Gaussian(D, "isotropic"), None)
    back = (scaled.T @ scaled + np.diag(psi_scaled)) / np.outer(c, c)
    assert np.abs(back - W.T @ W - np.diag(start(S, K, Gaussian(D, "isotropic"), None)[1])).max() > 0.05
    assert np.ptp(np.diag(R.T @ np.diag(psi) @ R) - psi) > 0.1     # and a turned Ψ is not diagonal
    assert np.abs(R.T @ np.diag(psi) @ R - np.diag(np.diag(R.T @ np.diag(psi) @ R))).max() > 0.1


def test_8_11_the_best_linear_denoiser_by_search():
    """The expectation over the noise by eight corners with covariance τ² I, exact for squares."""
    tau2 = 0.8
    corners = np.sqrt(tau2 * D) * np.concatenate([np.eye(D), -np.eye(D)])

    def objective(v):
        A, B = v[: D * K].reshape(D, K), v[D * K :].reshape(K, D)
        losses, dA, dB = zip(*(loss_and_gradients(A, B, corner[None, :]) for corner in corners))
        return np.mean(losses), np.concatenate([np.mean(dA, axis=0).ravel(), np.mean(dB, axis=0).ravel()])

    found = optimize.minimize(
        objective, np.random.default_rng(0).standard_normal(2 * D * K), jac=True, options={"gtol": 1e-9}
    )
    drawn_in = VALUES[:K] / (VALUES[:K] + tau2)
    written = VECTORS[:K].T @ (drawn_in[:, None] * VECTORS[:K])
    A, B = found.x[: D * K].reshape(D, K), found.x[D * K :].reshape(K, D)
    np.testing.assert_allclose(A @ B, written, rtol=0, atol=1e-5)
    assert found.fun == pytest.approx(0.5 * (np.sum(drawn_in * tau2) + VALUES[K:].sum()), rel=1e-8)
