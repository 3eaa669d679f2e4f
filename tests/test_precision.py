"""No number is lost in a difference of large ones: small noise, large counts, data far from the origin.

What a float can hold is known exactly, so the second road here is rational and decimal arithmetic, or the
same question in float64.
"""

from decimal import Decimal, localcontext
from fractions import Fraction
import math

import numpy as np
import pytest

from teachvae import FactorAnalysis, Model, VAE, VariationalEM, expectations, layers, nlml, tree
from teachvae.arrays.observed import Observed
from teachvae.doors.units import StandardUnits
from teachvae.inference.linear_gaussian import nlml as linear_nlml
from teachvae.likelihoods import Gaussian, Poisson
from teachvae.routes.conventions import Transformer

pytestmark = pytest.mark.short                                   # most fits here end early on purpose

ESTIMATORS = {
    "factor analysis": lambda **k: FactorAnalysis(2, **k),
    "variational EM": lambda **k: VariationalEM(2, hidden=(), posterior="full", tol=1e-3, **k),
    "VAE": lambda **k: VAE(2, hidden=(), posterior="full", epochs=3, **k),
}


def exact_nlml(W, b, psi, x):
    """−log N(x_n; b, WᵀW + Ψ) (N,) of the very numbers given, by L D Lᵀ in rational arithmetic; NaN in x are
    missing.
    """
    W, b, psi = (np.vectorize(lambda v: Fraction(float(v)), otypes=[object])(a) for a in (W, b, psi))
    values = []
    for row in np.asarray(x, dtype="float64"):
        seen = np.flatnonzero(~np.isnan(row))
        S = W[:, seen].T @ W[:, seen] + np.diag(psi[seen])
        r = np.array([Fraction(v) for v in row[seen]], dtype=object) - b[seen]
        quadratic, log_det = Fraction(0), 0.0
        for d in range(len(seen)):                                 # column by column off the matrix
            pivot, below = S[d, d], S[d + 1 :, d].copy()
            quadratic += r[d] * r[d] / pivot
            log_det += math.log(pivot.numerator) - math.log(pivot.denominator)
            S[d + 1 :, d + 1 :] = S[d + 1 :, d + 1 :] - np.outer(below, below) / pivot
            r[d + 1 :] = r[d + 1 :] - below * r[d] / pivot
        values.append(0.5 * (len(seen) * math.log(2 * math.pi) + log_det + float(quadratic)))
    return np.array(values)


def copied_column(rng, N=60):
    """Two factors, the first column there twice: its noise variance ends at the floor."""
    x = rng.normal(size=(N, 2)) @ rng.normal(size=(2, 5)) + 0.4 * rng.normal(size=(N, 5))
    return np.concatenate([x, x[:, :1]], axis=1)


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("noise", [1e-2, 1e-6, 1e-9, 1e-12])
def test_the_closed_form_at_any_noise(noise, missing):
    rng = np.random.default_rng(0)
    W, b, psi = rng.normal(size=(3, 6)), rng.normal(size=6), noise * rng.uniform(0.5, 2, 6)
    x = rng.normal(size=(12, 3)) @ W + b + rng.normal(size=(12, 6)) * np.sqrt(psi)
    if missing:
        x[rng.random(x.shape) < 0.2] = np.nan
    mask = 1.0 * ~np.isnan(x)
    found = linear_nlml(W, b, psi, np.where(mask, x, 0), mask) if missing else linear_nlml(W, b, psi, x)
    # a residual keeps 16 digits of x, and is told in standard deviations
    np.testing.assert_allclose(found, exact_nlml(W, b, psi, x), rtol=0, atol=2e-14 / noise**0.5)


@pytest.mark.filterwarnings("ignore:.*Heywood", "ignore:.*stopped after")
@pytest.mark.parametrize("missing", ["error", "marginalise"])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_nlml_in_float32_is_that_of_the_fitted_numbers(name, missing):
    x = copied_column(np.random.default_rng(0)).astype("float32")
    if missing == "marginalise":
        x[np.random.default_rng(1).random(x.shape) < 0.1] = np.nan
    model = ESTIMATORS[name](missing=missing).fit(x)
    layer = model.theta_["decoder"][0]
    exact = exact_nlml(layer["W"], layer["b"], model.noise_variance_, x)
    np.testing.assert_allclose(model.nlml(x).values, exact, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(model.score_samples(x), -exact, rtol=1e-5, atol=1e-5)
    assert (model.bound(x) - exact > -1e-5 * (1 + abs(exact))).all(), "a bound below the nlml"


def test_nlml_in_float32_with_little_noise():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2)) @ rng.normal(size=(2, 8)) + 1e-3 * rng.normal(size=(60, 8))
    model = FactorAnalysis(2, noise="isotropic").fit(x.astype("float32"))
    exact = exact_nlml(model.components_, model.mean_, model.noise_variance_, x.astype("float32"))
    # b is told in float32: half of its last digit is 3e-5 standard deviations of the noise, in eight columns
    np.testing.assert_allclose(model.nlml(x.astype("float32")).values, exact, rtol=0, atol=1e-3)


@pytest.mark.filterwarnings("ignore:.*Heywood", "ignore:.*stopped after")
@pytest.mark.parametrize("posterior", ["diagonal", "full"])
def test_the_posterior_in_float32_is_that_of_the_fitted_numbers(posterior):
    """q is the family's closest to the posterior of the parameters as they are, and Q says so."""
    x = copied_column(np.random.default_rng(0)).astype("float32")
    model = VariationalEM(2, hidden=(), posterior=posterior, tol=1e-3).fit(x)
    theta = tree.map(lambda a: a.astype("float64"), model.theta_)
    W, b = theta["decoder"][0]["W"], theta["decoder"][0]["b"]
    psi = np.exp(theta["likelihood"]["log_psi"])
    covariance = np.linalg.inv(W.T @ W + np.diag(psi))
    np.testing.assert_allclose(model.transform(x), (x - b) @ covariance @ W.T, rtol=1e-5, atol=1e-5)
    if posterior == "full":
        exact = exact_nlml(W, b, np.exp(theta["likelihood"]["log_psi"]), x)
        np.testing.assert_allclose(model.bound(x), exact, rtol=1e-5, atol=1e-5)


def test_plain_monte_carlo_in_float32():
    rng = np.random.default_rng(0)
    model = Model(layers.mlp(2, (), 20), Gaussian(20), 2)
    theta = {"decoder": [{"W": rng.normal(size=(2, 20)), "b": rng.normal(size=20)}]}
    theta["likelihood"] = {"log_psi": np.full(20, math.log(1e-4))}
    theta = tree.map(lambda a: a.astype("float32"), theta)
    x = (rng.normal(size=(8, 2)) @ theta["decoder"][0]["W"] + theta["decoder"][0]["b"]).astype("float32")
    double = tree.map(lambda a: a.astype("float64"), theta)
    found = nlml.prior(model, theta, x, np.random.default_rng(1), n_samples=500).values
    exact = nlml.prior(model, double, x.astype("float64"), np.random.default_rng(1), n_samples=500).values
    np.testing.assert_allclose(found, exact, rtol=1e-6)


def exact_poisson(x, log_rate):
    """log p(x|λ) of one count in decimal arithmetic, log x! by Stirling's series."""
    with localcontext() as context:
        context.prec = 60
        x, log_rate = Decimal(int(x)), Decimal(float(log_rate))
        two_pi = Decimal("6.28318530717958647692528676655900576839433879875021")
        log_factorial = x * x.ln() - x + (two_pi * x).ln() / 2 + 1 / (12 * x) - 1 / (360 * x**3)
        return float(x * log_rate - log_rate.exp() - log_factorial)


@pytest.mark.parametrize("dtype, digits", [("float64", 1e-15), ("float32", 1e-6)])
@pytest.mark.parametrize("size", [1e3, 1e5, 1e7, 1e11])
def test_the_poisson_of_large_counts(size, dtype, digits):
    """A count within a few standard deviations of its rate: ten nats, though x log λ has up to 10¹³."""
    rng = np.random.default_rng(0)
    x = np.rint(size + np.sqrt(size) * rng.normal(size=(1, 20)))
    x = x.astype(dtype)
    f = np.log(size + np.sqrt(size) * rng.normal(size=(1, 20))).astype(dtype)[None]
    exact = sum(exact_poisson(a, b) for a, b in zip(x[0], f[0, 0]))
    # A rounding of log λ by its last digit moves log p by (x − λ) log λ digits, a few √x: no form is better.
    found, _ = Poisson(20).forward({}, f, x)
    assert found.dtype == dtype and abs(found[0, 0] - exact) < 30 * digits * (1 + math.sqrt(size))


def test_standard_units_of_pressures_in_float32():
    """300 000 numbers near 101 325: their sum has more digits than float32."""
    rng = np.random.default_rng(0)
    x = (101_325 + 20 * rng.standard_normal((300_000, 2))).astype("float32")
    for seen in (None, rng.random(x.shape) < 0.7):
        exact, data = x.astype("float64"), x
        if seen is not None:
            exact = np.where(seen, exact, np.nan)
            data = Observed(np.where(seen, x, 0), seen.astype("float32"))
        units = StandardUnits(Gaussian(2), data)
        np.testing.assert_allclose(units.shift, np.nanmean(exact, axis=0), rtol=1e-9)
        np.testing.assert_allclose(units.scale, np.nanstd(exact, axis=0), rtol=1e-6)
        expected = (exact - np.nanmean(exact, axis=0)) / np.nanstd(exact, axis=0)
        standard = units.to_standard(data)
        standard = standard if seen is None else standard.x
        np.testing.assert_allclose(standard, np.where(np.isnan(expected), 0, expected), atol=1e-6)


def test_the_residuals_of_many_cases_in_float32():
    """Ψ's M-step is a mean over all data cases: a running float32 sum of them would lose digits."""
    rng = np.random.default_rng(0)
    x = (3 + rng.standard_normal((300_000, 1))).astype("float32")
    model = Model(layers.mlp(1, (), 1), Gaussian(1), 1)
    theta = {"decoder": [{"W": np.zeros((1, 1)), "b": np.zeros(1)}], "likelihood": {"log_psi": np.zeros(1)}}
    theta, phi = tree.map(lambda a: a.astype("float32"), theta), np.zeros((len(x), 2), "float32")
    eta, weights = np.array([[[1.0]], [[-1.0]]], "float32"), np.array([0.5, 0.5], "float32")
    squares, share = expectations.expected_squares(model, theta, phi, x, eta, weights)
    assert squares.dtype == np.float32 and share == 1
    assert squares[0] == pytest.approx(np.mean(x.astype("float64") ** 2), rel=1e-7)


def test_active_units_of_many_cases_in_float32():
    """Var_n of codes that hardly move about 1000: their sum has more digits than float32."""
    class Codes(Transformer):
        def transform(self, X):
            return X

    rng = np.random.default_rng(0)
    z = (1000 + np.sqrt([0.02, 0.005]) * rng.standard_normal((300_000, 2))).astype("float32")
    assert Codes().active_units(z).tolist() == [True, False]
