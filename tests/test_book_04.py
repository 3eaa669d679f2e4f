"""Second roads for what no other test checks in derivations/04-non-linear-factor-analysis.md."""

import numpy as np
import pytest
from scipy import integrate, stats
from worked import example

from teachvae import datasets, expectations, grid, nlml
from teachvae.inference import linear_gaussian


def test_7_25_mean_and_covariance_of_a_spiral_in_closed_form():
    """f as a complex number is e^{cz}, whose moments are E[e^{cz}] = e^{c²/2}; draws must agree."""
    alpha, omega, noise, N = 0.3, 1.5, 0.04, 200_000
    c = alpha + 1j * omega
    x = datasets.spiral(n_cases=N, noise=noise, alpha=alpha, omega=omega, seed=1).x
    mean = np.exp(c**2 / 2)
    size, square = np.exp(2 * alpha**2), np.exp(2 * c**2)          # E[|f|²] and E[f²]
    second = {(0, 0): size + square.real, (1, 1): size - square.real, (0, 1): square.imag}
    centred = x - [mean.real, mean.imag]
    assert np.all(np.abs(centred.mean(axis=0)) < 4.5 * x.std(axis=0) / np.sqrt(N))
    for (i, j), twice in second.items():
        covariance = twice / 2 - (mean.real, mean.imag)[i] * (mean.real, mean.imag)[j] + noise * (i == j)
        products = centred[:, i] * centred[:, j]
        assert abs(products.mean() - covariance) < 4.5 * products.std() / np.sqrt(N)


@pytest.mark.parametrize("make, quadratic", [(example.linear, True), (example.bent, False)])
def test_7_26_the_log_joint_is_quadratic_where_the_closed_form_applies(make, quadratic):
    model, theta = make()
    z = np.arange(-2, 3, 0.5)[:, None, None]
    thirds = np.diff(model.log_joint(theta, example.x, z), n=3, axis=0)
    assert linear_gaussian.applies(model) == quadratic
    assert np.all(np.abs(thirds) < 1e-12) == quadratic


def test_7_27_the_bent_integral_as_written_and_by_another_quadrature():
    for x, exact in zip(example.x, grid.grid(*example.bent(), example.x).values):
        r = x - example.b
        A, B, R = 3.0, r[0] + r[1], r[0] ** 2 + r[1] ** 2 / 2

        def integrand(z):
            return np.exp(B * np.tanh(z) - A / 2 * np.tanh(z) ** 2 - z**2 / 2)

        constant = np.exp(-R / 2) / ((2 * np.pi) ** 1.5 * np.sqrt(2))
        found, _ = integrate.quad(integrand, -15, 15, limit=200)
        assert -np.log(constant * found) == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize("sigma, m, s", [(0.5, 0.0, 1.0), (0.3, -1.2, 1.0), (0.5, 0.4, 0.5), (0.8, 0.7, 0.7)])
def test_7_28_7_29_the_second_moment_of_a_weight_against_quadrature(sigma, m, s):
    def integrand(z):
        return np.exp(2 * stats.norm.logpdf(z, 0, sigma) - stats.norm.logpdf(z, m, s))

    written = s**2 / (sigma * np.sqrt(2 * s**2 - sigma**2)) * np.exp(m**2 / (2 * s**2 - sigma**2))
    found, _ = integrate.quad(integrand, -20, 20, points=(-2, 0, 2), limit=400)
    assert found == pytest.approx(written, rel=1e-8)


def test_7_28_averaged_over_the_data_the_second_moment_is_a_variance_turned_over():
    """Where the posterior mean is distributed as it is under the model, N(0, 1 − σ²)."""
    for sigma in (0.3, 0.5, 0.9):
        def integrand(m):
            log_weight = m**2 / (2 - sigma**2) + stats.norm.logpdf(m, 0, np.sqrt(1 - sigma**2))
            return np.exp(log_weight) / (sigma * np.sqrt(2 - sigma**2))

        assert integrate.quad(integrand, -40, 40, limit=400)[0] == pytest.approx(sigma**-2, rel=1e-8)


def test_7_29_the_effective_sample_size_is_what_the_formula_says():
    model, theta = example.linear()
    rng = np.random.default_rng(0)
    result = nlml.importance(model, theta, example.phi, example.x, rng, n_samples=100_000)
    second = 1 / (0.5 * np.sqrt(1.75)) * np.exp(0.25 / 1.75)       # of case 1; that of case 2 is e
    np.testing.assert_allclose(100_000 / result.effective_sample_size, [second, np.e], rtol=0.05)


@pytest.mark.parametrize("make", [example.linear, example.bent])
def test_7_30_the_log_likelihood_averaged_over_all_temperatures_is_nlml(make):
    """−log p(x) = −∫ E_{p_β}[log p(x|z)] dβ, from β = 0 to 1, each average by a lattice in z."""
    model, theta = make()
    z, h = np.linspace(-9, 9, 1801, retstep=True)
    log_p = model.log_likelihood(theta, example.x, z[:, None, None])[0]
    log_prior = model.log_prior(z[:, None])[:, None]

    def log_z_and_mean(beta):
        p = np.exp(log_prior + beta * log_p)
        return np.log(h * p.sum(axis=0)), np.sum(p * log_p, axis=0) / p.sum(axis=0)

    nodes, weights = np.polynomial.legendre.leggauss(40)
    averages = [log_z_and_mean((1 + node) / 2)[1] for node in nodes]
    values = -np.sum(weights[:, None] / 2 * averages, axis=0)
    np.testing.assert_allclose(values, grid.grid(model, theta, example.x).values, atol=1e-7)
    np.testing.assert_allclose(-log_z_and_mean(1)[0], values, atol=1e-7)
    np.testing.assert_allclose(log_z_and_mean(0)[0], 0, atol=1e-12)


def test_7_1_a_weight_is_the_joint_over_q():
    model, theta = example.bent()
    log_w = expectations.log_weight(model, theta, example.phi, example.x, example.eta)
    f = np.tanh(example.z) @ example.W + example.b
    log_joint = stats.norm.logpdf(example.x, f, np.sqrt(example.psi)).sum(axis=2)
    log_joint += stats.norm.logpdf(example.z)[:, :, 0]
    log_q = stats.norm.logpdf(example.z, example.m, example.s)[:, :, 0]
    np.testing.assert_allclose(log_w, log_joint - log_q, rtol=1e-12)
