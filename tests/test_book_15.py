"""Chapter 15: its laws of errors, by quadrature and by repeated runs."""

import numpy as np
import pytest
from worked import example

from teachvae.evaluation import nlml
from teachvae.inference import expectations
from teachvae.posteriors.nodes import gauss_hermite

M, MEAN = 4.0, np.array([1.0, -0.5])                               # posteriors of the linear running example
MODEL, THETA = example.linear()


def rho(m, s, mean):
    """(10.18)."""
    t = M * s**2
    return t / np.sqrt(2 * t - 1) * np.exp(M * (m - mean) ** 2 / (2 * t - 1))


def relative_weights(phi, x, eta):
    """ω_s / p(x), (S, N)."""
    return np.exp(expectations.log_weight(MODEL, THETA, phi, x, eta) + nlml.exact(MODEL, THETA, x).values)


@pytest.mark.parametrize("m, s", [(0.5, 1.0), (0.0, 0.5), (0.2, 0.8), (0.0, 1.0)])
def test_10_18_the_worth_of_a_draw_by_quadrature_and_by_draws(m, s):
    phi = np.tile([m, np.log(s)], (2, 1))
    eta, w = gauss_hermite(1, 120)
    squares = w @ relative_weights(phi, example.x, eta) ** 2
    np.testing.assert_allclose(squares, rho(m, s, MEAN), rtol=1e-9)
    light = rho(m, s, MEAN) < 10                                   # a heavier tail needs more draws
    run = nlml.importance(MODEL, THETA, phi, example.x, np.random.default_rng(0), n_samples=200_000)
    worth, variance = run.effective_sample_size / 200_000, run.standard_error**2 * 200_000
    np.testing.assert_allclose(worth[light], 1 / rho(m, s, MEAN)[light], rtol=0.03)
    np.testing.assert_allclose(variance[light], rho(m, s, MEAN)[light] - 1, rtol=0.06)


def test_10_19_the_bias_falls_as_one_over_s():
    """With p̂/p − 1, whose mean is known to be 0, taken off: what is left scatters as 1/S, like the bias."""
    phi, x, rng = example.phi[:1], example.x[:1], np.random.default_rng(1)
    for S in (40, 160):
        omega = relative_weights(phi, x, rng.standard_normal((S * 8000, 1, 1))).reshape(8000, S)
        p_hat = omega.mean(axis=1)
        left = -np.log(p_hat) + (p_hat - 1)
        law = (rho(0.5, 1.0, 1.0) - 1) / (2 * S)
        assert left.std() / np.sqrt(8000) < 0.03 * law
        assert left.mean() == pytest.approx(law, rel=0.1)


def test_10_20_values_far_below_the_truth_are_rare():
    rng, runs = np.random.default_rng(2), 4000
    for S in (1, 3):
        omega = relative_weights(example.phi, example.x, rng.standard_normal((S * runs, 1, 1)))
        below = np.log(omega.reshape(runs, S, 2).mean(axis=1))     # nlml less the estimate
        for t in (0.1, 0.5, 1.0):
            assert (np.mean(below >= t, axis=0) <= np.exp(-t)).all()
        assert (np.mean(below >= 0.1, axis=0) > 0.1).all()         # and not for want of such values
        assert below.min() < -5                                    # far above the truth is an ordinary thing
