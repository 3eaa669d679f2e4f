"""Tests of chapter 10: what holds for several likelihoods at once, by sums over all their values."""

import math

import numpy as np
import pytest
from scipy import special

from teachvae.arrays.special import log_factorial, log_poisson_peak
from teachvae.likelihoods import Bernoulli, Categorical, Gaussian, Poisson, StudentT

LINE, STEP = np.linspace(-60, 60, 24001, retstep=True)

# likelihood, f, all its values (M, D) and their weights, and whether log p is x f less what normalises it
FAMILIES = [
    (Bernoulli(1), np.array([0.7]), np.array([[0.0], [1.0]]), 1.0, True),
    (Poisson(1), np.array([1.3]), np.arange(80.0)[:, None], 1.0, True),
    (Categorical((4,)), np.array([0.3, -1.2, 0.0, 2.0]), np.eye(4), 1.0, True),
    (Gaussian(1, 1.0), np.array([0.4]), LINE[:, None], STEP, True),
    (StudentT(1, 9.0), np.array([0.4]), 20 * LINE[:, None], 20 * STEP, False),
]


def log_p_and_gradient(p, f, x):
    """log p(x|f) (M,) of every value x (M, D), and its gradient for f (M, n_f)."""
    params = {"log_psi": np.zeros(1)} if isinstance(p, StudentT) else {}
    log_p, cache = p.forward(params, np.tile(f, (1, len(x), 1)), x)
    df, _ = p.backward(params, cache, np.ones_like(log_p))
    return log_p[0], df[0]


@pytest.mark.parametrize("p, f, x, weight, natural", FAMILIES, ids=lambda v: type(v).__name__)
def test_5_44_gradients_are_residuals_with_mean_zero_and_slope_minus_variance(p, f, x, weight, natural):
    log_p, df = log_p_and_gradient(p, f, x)
    share = weight * np.exp(log_p)
    assert share.sum() == pytest.approx(1, abs=1e-8)
    np.testing.assert_allclose(share @ df, 0, atol=1e-8)           # for every density, Student's t too
    mean = share @ x
    variance = (share[:, None] * (x - mean)).T @ (x - mean)
    if not natural:
        assert not np.allclose(df, x - mean)
        return
    np.testing.assert_allclose(df, x - mean, atol=1e-8)
    h = 1e-5
    for d in range(len(f)):
        step = h * np.eye(len(f))[d]
        slope = (log_p_and_gradient(p, f + step, x)[1] - log_p_and_gradient(p, f - step, x)[1]) / (2 * h)
        np.testing.assert_allclose(slope, np.tile(-variance[d], (len(x), 1)), atol=1e-7)


def test_5_16_stirlings_series_against_whole_numbers():
    """log n! of Python's integers, and the coefficients from Bernoulli's numbers."""
    x = np.array([*range(200), 500])
    exact = [math.log(math.factorial(int(n))) for n in x]
    np.testing.assert_allclose(log_factorial(x.astype(float)), exact, rtol=6e-16, atol=1e-15)
    B = special.bernoulli(16)
    written = [1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156, -3617 / 122400]
    np.testing.assert_allclose([B[2 * k] / (2 * k * (2 * k - 1)) for k in range(1, 9)], written, rtol=1e-10)
    peak = [n * math.log(n) - n - math.log(math.factorial(n)) for n in range(1, 60)]
    np.testing.assert_allclose(log_poisson_peak(np.arange(1.0, 60)), peak, atol=2e-13)
    assert log_poisson_peak(np.array([0.0]))[0] == 0
