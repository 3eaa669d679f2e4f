"""Tests of derivations/01-gaussians-and-matrices.md: each identity by a second road, SciPy, differences,
quadrature or plain loops."""

import math

import numpy as np
import pytest
from scipy import integrate, optimize, special, stats

from teachvae import linear_gaussian
from teachvae.arrays.special import log_softmax, log_sum_exp
from teachvae.evaluation.divergence import kl_to_posterior
from teachvae.likelihoods import Gaussian
from teachvae.model import Model
from teachvae.networks.layers import Linear
from teachvae.posteriors import DiagonalGaussian


@pytest.fixture
def linear(rng):
    """W (K, D), psi (D,), Σ (D, D), M (K, K) with K = 2, D = 4."""
    W, psi = rng.standard_normal((2, 4)), rng.uniform(0.3, 2, 4)
    return W, psi, W.T @ W + np.diag(psi), linear_gaussian.precision(W, psi)


def definite(rng, size):
    """A random symmetric positive definite matrix."""
    A = rng.standard_normal((size, size))
    return A @ A.T + 0.5 * np.eye(size)


def slope(f, h=1e-5):
    """df/dt at t = 0 by central differences; f(t) may be an array."""
    return (f(h) - f(-h)) / (2 * h)


def test_0_1_traces_against_loops(rng):
    A, B, C, E, a = (rng.standard_normal(shape) for shape in ((3, 4), (4, 3), (3, 3), (3, 3), (3,)))
    by_loops = sum(A[i, j] * B[j, i] for i in range(3) for j in range(4))
    assert np.trace(A @ B) == pytest.approx(by_loops) and np.trace(B @ A) == pytest.approx(by_loops)
    form = sum(a[i] * C[i, j] * a[j] for i in range(3) for j in range(3))
    assert np.trace(C @ np.outer(a, a)) == pytest.approx(form)
    assert np.sum(A * B.T) == pytest.approx(by_loops)
    assert np.trace(C @ A @ B @ E) == pytest.approx(np.trace(E @ C @ A @ B))
    assert abs(np.trace(C @ A @ B @ E) - np.trace(C @ E @ A @ B)) > 1e-3   # a circle is not any order


def test_0_2_the_gradient_of_a_squared_error_by_differences(rng):
    W, z, x, b, psi = (rng.standard_normal(s) for s in ((2, 3), (1, 2), (1, 3), (3,), (3,)))
    layer, likelihood, params = Linear(2, 3), Gaussian(3), {"log_psi": psi}

    def loss(W, z):
        return -likelihood.forward(params, (z @ W + b)[None], x)[0].item()

    f, cache = layer.forward({"W": W, "b": b}, z)
    df, _ = likelihood.backward(params, likelihood.forward(params, f[None], x)[1], -np.ones((1, 1)))
    dz, grads = layer.backward({"W": W, "b": b}, cache, df[0])
    written = -z.T @ ((x - f) / np.exp(psi))
    np.testing.assert_allclose(grads["W"], written, rtol=1e-12)
    for i in np.ndindex(W.shape):
        one = np.zeros_like(W)
        one[i] = 1
        assert written[i] == pytest.approx(slope(lambda t: loss(W + t * one, z)), rel=1e-6)
    for k, one in enumerate(np.eye(2)):
        assert dz[0, k] == pytest.approx(slope(lambda t: loss(W, z + t * one)), rel=1e-6)


def test_0_3_0_4_inverse_and_log_determinant_by_differences(rng):
    A, direction = definite(rng, 4) + rng.standard_normal((4, 4)), rng.standard_normal((4, 4))
    inverse = np.linalg.inv(A)
    by_differences = slope(lambda t: np.linalg.inv(A + t * direction))
    np.testing.assert_allclose(-inverse @ direction @ inverse, by_differences, rtol=0, atol=1e-6)
    rise = slope(lambda t: np.linalg.slogdet(A + t * direction)[1])
    assert np.trace(inverse @ direction) == pytest.approx(rise, rel=1e-6)
    assert np.sum(inverse.T * direction) == pytest.approx(rise, rel=1e-6)


def test_0_5_0_6_a_large_matrix_from_a_small_one(linear, rng):
    W, psi, Sigma, M = linear
    inverse = np.diag(1 / psi) - (W / psi).T @ np.linalg.inv(M) @ (W / psi)
    np.testing.assert_allclose(inverse @ Sigma, np.eye(4), rtol=0, atol=1e-12)
    np.testing.assert_allclose(np.linalg.solve(M, W / psi), W @ np.linalg.inv(Sigma), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(np.linalg.inv(M), np.eye(2) - W @ np.linalg.solve(Sigma, W.T), atol=1e-12)
    assert linear_gaussian._log_det(M, psi) == pytest.approx(np.linalg.slogdet(Sigma)[1], rel=1e-12)
    A, B = rng.standard_normal((4, 2)), rng.standard_normal((2, 4))
    large, small = np.linalg.det(np.eye(4) + A @ B), np.linalg.det(np.eye(2) + B @ A)
    assert large == pytest.approx(small, rel=1e-10)
    R = definite(rng, 2)
    wide = np.linalg.inv(np.diag(psi) + W.T @ R @ W)
    core = np.linalg.inv(np.linalg.inv(R) + (W / psi) @ W.T)
    np.testing.assert_allclose(np.diag(1 / psi) - (W / psi).T @ core @ (W / psi), wide, atol=1e-11)


def test_0_7_the_square_is_completed(rng):
    P, h = definite(rng, 3), rng.standard_normal(3)

    def quadratic(z):
        return 0.5 * z @ P @ z - h @ z

    m = np.linalg.solve(P, h)
    least = optimize.minimize(quadratic, np.zeros(3), options={"gtol": 1e-9})
    np.testing.assert_allclose(m, least.x, rtol=0, atol=1e-6)
    assert least.fun == pytest.approx(-0.5 * m @ P @ m, rel=1e-9)
    z = rng.standard_normal(3)
    assert quadratic(z) == pytest.approx(0.5 * (z - m) @ P @ (z - m) - 0.5 * m @ P @ m, rel=1e-12)


def test_0_8_a_change_of_variables_against_scipys_log_normal():
    u = np.linspace(-2, 2, 9)
    np.testing.assert_allclose(stats.norm.logpdf(u) - u, stats.lognorm(1).logpdf(np.exp(u)), rtol=1e-12)
    A = np.array([[1.0, 2.0], [0.5, -1.0]])                        # x = u A, dx = du A
    x = np.array([0.3, -0.7])
    written = stats.norm.logpdf(x @ np.linalg.inv(A)).sum() - np.linalg.slogdet(A)[1]
    assert written == pytest.approx(stats.multivariate_normal([0, 0], A.T @ A).logpdf(x), rel=1e-12)


def test_0_9_the_density_against_scipy_and_its_integral(linear, rng):
    W, psi, Sigma, _ = linear
    x, b = rng.standard_normal((5, 4)), rng.standard_normal(4)
    theirs = stats.multivariate_normal(b, Sigma).logpdf(x)
    np.testing.assert_allclose(-linear_gaussian.nlml(W, b, psi, x), theirs, rtol=1e-11)
    Sigma2, side = Sigma[:2, :2], np.linspace(-30, 30, 601)
    points = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    p = np.exp(-0.5 * np.sum(points @ np.linalg.inv(Sigma2) * points, axis=1))
    p *= 0.01 / (2 * np.pi * math.sqrt(np.linalg.det(Sigma2)))     # the mesh is 0.1
    assert p.sum() == pytest.approx(1, abs=1e-10)
    np.testing.assert_allclose(points.T @ (p[:, None] * points), Sigma2, rtol=1e-9)


def test_0_10_a_linear_map_of_a_normal_row_by_quadrature(rng):
    """The density of z w + ε as an integral over z, both normal; and moments of a map to fewer columns."""
    w, v, at = 1.3, 0.4, 0.8
    density, _ = integrate.quad(lambda z: stats.norm.pdf(z) * stats.norm.pdf(at, z * w, math.sqrt(v)), -9, 9)
    assert density == pytest.approx(stats.norm.pdf(at, 0, math.sqrt(w * w + v)), rel=1e-10)
    Sigma, A, t = definite(rng, 3), rng.standard_normal((3, 2)), 0.3 * rng.standard_normal(2)
    nodes, weights = np.polynomial.hermite_e.hermegauss(24)
    eta = np.stack(np.meshgrid(nodes, nodes, nodes), axis=-1).reshape(-1, 3)
    weights = np.prod(np.stack(np.meshgrid(weights, weights, weights), axis=-1), axis=-1).ravel()
    y = 0.5 + eta @ np.linalg.cholesky(Sigma).T @ A
    mgf = np.sum(weights * np.exp(y @ t)) / (2 * np.pi) ** 1.5
    assert mgf == pytest.approx(math.exp(0.5 * t.sum() + 0.5 * t @ A.T @ Sigma @ A @ t), rel=1e-9)


def test_0_11_the_conditional_against_the_ratio_of_densities(linear, rng):
    W, psi, Sigma, M = linear
    joint = stats.multivariate_normal(np.zeros(6), np.block([[np.eye(2), W], [W.T, Sigma]]))
    x, z = rng.standard_normal(4), rng.standard_normal(2)
    B = np.linalg.solve(Sigma, W.T)                                # Σ_xx⁻¹ Σ_xz
    conditional = stats.multivariate_normal(x @ B, np.eye(2) - W @ B)
    marginal = stats.multivariate_normal(np.zeros(4), Sigma)
    ratio = joint.logpdf(np.concatenate([z, x])) - marginal.logpdf(x)
    assert conditional.logpdf(z) == pytest.approx(ratio, rel=1e-9)
    mean, precision = linear_gaussian.posterior(W, np.zeros(4), psi, x[None])
    np.testing.assert_allclose(mean[0], x @ B, rtol=1e-9)
    np.testing.assert_allclose(np.linalg.inv(precision), np.eye(2) - W @ B, rtol=0, atol=1e-12)


def test_0_12_a_product_of_normal_densities(rng):
    A, C, a, c, z = definite(rng, 2), definite(rng, 2), *rng.standard_normal((3, 2))
    P = np.linalg.inv(A) + np.linalg.inv(C)
    m = (a @ np.linalg.inv(A) + c @ np.linalg.inv(C)) @ np.linalg.inv(P)

    def log_normal(at, mean, covariance):
        return stats.multivariate_normal(mean, covariance).logpdf(at)

    right = log_normal(a, c, A + C) + log_normal(z, m, np.linalg.inv(P))
    assert log_normal(z, a, A) + log_normal(z, c, C) == pytest.approx(right, rel=1e-10)


def test_0_13_the_mean_of_a_quadratic_form_of_a_skewed_row(rng):
    """Four points with weights, nothing normal about them."""
    x, weights = rng.standard_normal((4, 3)) ** 3, rng.dirichlet(np.ones(4))
    A, a = rng.standard_normal((3, 3)), rng.standard_normal(3)
    mean = weights @ x
    Sigma = (x - mean).T @ (weights[:, None] * (x - mean))
    direct = sum(w * (row - a) @ A @ (row - a) for w, row in zip(weights, x))
    assert (mean - a) @ A @ (mean - a) + np.trace(A @ Sigma) == pytest.approx(direct, rel=1e-11)
    np.testing.assert_allclose(x.T @ (weights[:, None] * x), Sigma + np.outer(mean, mean), rtol=1e-10)


def test_0_14_the_entropy_against_scipy(linear):
    Sigma = linear[2]
    written = 0.5 * (4 + 4 * math.log(2 * math.pi) + np.linalg.slogdet(Sigma)[1])
    assert written == pytest.approx(stats.multivariate_normal(np.zeros(4), Sigma).entropy(), rel=1e-12)
    by_kl = DiagonalGaussian(1).kl(np.array([[0.0, math.log(0.1)]]))[0][0]     # −H − E[log p(z)]
    exact = stats.norm(0, 0.1).entropy()
    assert 0.5 * (math.log(2 * math.pi) + 0.01) - by_kl == pytest.approx(exact, rel=1e-12)


def test_10_6_the_kl_by_quadrature():
    """One latent variable: the integral of q (log q − log p(z|x)) by adaptive quadrature."""
    W, b, psi = np.array([[0.8, -1.5]]), np.array([0.3, 0.0]), np.array([0.5, 2.0])
    x = np.array([[1.0, -2.0]])
    model = Model(Linear(1, 2), Gaussian(2), 1, DiagonalGaussian(1))
    theta = {"decoder": {"W": W, "b": b}, "likelihood": {"log_psi": np.log(psi)}}
    Sigma, m, s = W.T @ W + np.diag(psi), 0.4, 0.7
    log_px = stats.multivariate_normal(b, Sigma).logpdf(x[0])

    def integrand(z):
        log_q = stats.norm.logpdf(z, m, s)
        log_joint = stats.norm.logpdf(z) + stats.norm.logpdf(x[0], z * W[0] + b, np.sqrt(psi)).sum()
        return math.exp(log_q) * (log_q - log_joint + log_px)

    by_quadrature, _ = integrate.quad(integrand, m - 9 * s, m + 9 * s, epsabs=1e-12)
    ours = kl_to_posterior(model, theta, np.array([[m, math.log(s)]]), x)
    assert ours[0] == pytest.approx(by_quadrature, abs=1e-9) and ours[0] > 0.01


def test_0_15_the_derivative_goes_under_the_integral():
    m, s = 0.4, 0.7

    def mean(m):
        return integrate.quad(lambda z: stats.norm.pdf(z, m, s) * math.cos(z), -9, 9, epsabs=1e-13)[0]

    def under(z):
        return stats.norm.pdf(z, m, s) * (z - m) / s**2 * math.cos(z)

    inside, _ = integrate.quad(under, -9, 9, epsabs=1e-13)
    assert inside == pytest.approx(slope(lambda t: mean(m + t)), rel=1e-6)
    score, _ = integrate.quad(lambda z: stats.norm.pdf(z, m, s) * (z - m) / s**2, -9, 9)
    assert score == pytest.approx(0, abs=1e-10)


def test_0_16_log_sum_exp_its_gradient_and_its_bounds(rng):
    a = 3 * rng.standard_normal(5)
    assert log_sum_exp(a) == pytest.approx(special.logsumexp(a), rel=1e-14)
    assert a.max() <= log_sum_exp(a) <= a.max() + math.log(5)
    p = np.exp(log_softmax(a))
    for k, one in enumerate(np.eye(5)):
        assert p[k] == pytest.approx(slope(lambda t: log_sum_exp(a + t * one)), rel=1e-7)
        second = slope(lambda t: np.exp(log_softmax(a + t * one)))
        np.testing.assert_allclose(second, p[k] * one - p[k] * p, rtol=0, atol=1e-9)
    assert log_sum_exp(np.array([-1e4, -1e4])) == pytest.approx(-1e4 + math.log(2))
    u, v = rng.standard_normal((2, 5))
    assert log_sum_exp(0.5 * (u + v)) <= 0.5 * (log_sum_exp(u) + log_sum_exp(v))
