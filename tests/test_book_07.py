"""Chapter 7: what its closed forms say, by a second road."""

from itertools import product

import numpy as np
import pytest
from worked import example

from teachvae import bound
from teachvae.course import gradient_estimators as ge
from teachvae.posteriors.nodes import gauss_hermite

M = 4.0                                                            # of the linear running example
MEAN = np.array([1.0, -0.5])


def parts(n):
    """a, b, Q and s of (10.16) for a case of the running example."""
    m, s = example.m[n, 0], example.s[n, 0]
    model, theta = example.linear()
    Q = bound.forward(model, theta, example.phi, example.x, example.eta)[0][n]
    return 0.5 * (M * s**2 - 1), M * s * (m - MEAN[n]), Q, s


@pytest.mark.parametrize("n", [0, 1])
def test_10_16_variances_are_those_of_the_estimators_over_nodes(n):
    a, b, Q, s = parts(n)
    m = example.m[n, 0]

    def through(kappa, b):
        return kappa**2 / s**2, b**2 + 2 * kappa**2

    written = [
        (ge.naive, {}, (1 / s**2, 2)),
        (ge.score_function, {}, ((Q**2 + 4 * a * Q + 10 * a**2 + 2 * b**2) / s**2,
                                 2 * Q**2 + 16 * a * Q + 56 * a**2 + 10 * b**2)),
        (ge.reparameterised, {"kl": "sampled"}, through(2 * a + 1, b)),
        (ge.reparameterised, {"kl": "analytic"}, through(2 * a + 1 - s**2, b - m * s)),
        (ge.without_score_term, {}, through(2 * a, b)),
    ]
    eta, w = gauss_hermite(1, 6)
    for estimator, options, variance in written:
        g = estimator(*example.linear(), example.phi, example.x, eta, **options)[:, n]
        mean = w @ g
        if estimator is not ge.naive:
            np.testing.assert_allclose(mean, [b / s, 2 * a], atol=1e-10)
        np.testing.assert_allclose(w @ (g - mean) ** 2, variance, atol=1e-9)


@pytest.mark.parametrize("S", [2, 3])
def test_10_16_the_baseline_over_all_pairs_and_triples(S):
    a, b, _, s = parts(0)
    eta, w = gauss_hermite(1, 6)
    places = np.array(list(product(range(6), repeat=S))).T         # (S, 6^S): a data case for every tuple
    rows = np.zeros(places.shape[1], dtype=int)
    g = ge.score_function(*example.linear(), example.phi[rows], example.x[rows], eta[places, 0],
                          baseline="leave-one-out")[0]
    www = np.prod(w[places], axis=0)
    mean, others = www @ g, (2 * a**2 + b**2) / (S - 1)
    np.testing.assert_allclose(mean, [b / s, 2 * a], atol=1e-10)
    np.testing.assert_allclose(
        www @ (g - mean) ** 2,
        [(10 * a**2 + 2 * b**2 + others) / s**2, 56 * a**2 + 10 * b**2 + 2 * others], rtol=1e-9,
    )
