"""Tests of derivations/02-factor-analysis.md, by a second road: what test_derivations.py leaves."""

from itertools import islice

import numpy as np
import pytest
from scipy import optimize, stats

from teachvae import FactorAnalysis, linear_gaussian, noise
from teachvae.doors.units import HeywoodWarning
from teachvae.inference import em
from teachvae.likelihoods import Gaussian
from teachvae.model import Model
from teachvae.networks.layers import Linear
from teachvae.posteriors import FullGaussian

K, D = 2, 4


@pytest.fixture
def linear():
    """W (K, D), b (D,), psi (D,) and data x (N, D) that this model did not make."""
    rng = np.random.default_rng(202)
    W, b, psi = rng.standard_normal((K, D)), rng.standard_normal(D), rng.uniform(0.3, 2, D)
    return W, b, psi, 2 * rng.standard_normal((12, D)) + rng.standard_normal(D)


def test_1_1_2_34_prior_and_joint_are_the_density_of_all_numbers_together(linear):
    W, b, psi, x = linear
    model = Model(Linear(K, D), Gaussian(D), K)
    theta = {"decoder": {"W": W, "b": b}, "likelihood": {"log_psi": np.log(psi)}}
    z = np.random.default_rng(1).standard_normal((5, len(x), K))
    prior = stats.multivariate_normal(np.zeros(K), np.eye(K))
    np.testing.assert_allclose(model.log_prior(z), prior.logpdf(z), rtol=1e-12)
    covariance = np.block([[np.eye(K), W], [W.T, W.T @ W + np.diag(psi)]])
    both = stats.multivariate_normal(np.append(np.zeros(K), b), covariance)
    rows = np.concatenate([z, np.broadcast_to(x, (5, *x.shape))], axis=2)
    np.testing.assert_allclose(model.log_joint(theta, x, z), both.logpdf(rows), rtol=1e-10)


def test_2_35_nothing_but_a_rotation_is_free(linear):
    W, b, psi, x = linear
    T = linear_gaussian.rotation(W, psi)
    np.testing.assert_allclose(T @ T.T, np.eye(K), atol=1e-13)
    nlml = linear_gaussian.nlml(W, b, psi, x)
    np.testing.assert_allclose(linear_gaussian.nlml(T @ W, b, psi, x), nlml, rtol=1e-12)
    (mean, M), (turned, turned_M) = (linear_gaussian.posterior(w, b, psi, x) for w in (W, T @ W))
    np.testing.assert_allclose(turned, mean @ T.T, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(turned_M, T @ M @ T.T, rtol=1e-9, atol=1e-12)

    values, vectors = np.linalg.eigh(W.T @ W)                      # another root of the same matrix
    other = np.sqrt(values[-K:])[:, None] * vectors[:, -K:].T
    T = other @ W.T @ np.linalg.inv(W @ W.T)
    np.testing.assert_allclose(T.T @ T, np.eye(K), atol=1e-10)
    np.testing.assert_allclose(T @ W, other, atol=1e-10)
    shear = np.array([[1.0, 0.2], [0.0, 1.0]])                     # no rotation, and it shows
    assert np.abs(linear_gaussian.nlml(shear @ W, b, psi, x) - nlml).max() > 0.01


def test_2_36_the_nlml_lies_below_q_and_neither_rises(linear):
    """Q by quadrature of the joint density, in every iteration of EM."""
    W, _, psi, x = linear
    x = x - x.mean(axis=0)
    S, family = x.T @ x / len(x), FullGaussian(K)
    problem, p = em.Complete(S, Gaussian(D)), em.Parameters(W, np.zeros(D), psi)
    eta, w = noise.gauss_hermite(K, 4)
    for _ in range(5):
        phi = family.closest(*linear_gaussian.posterior(*p, x))
        z, _ = family.sample(phi, eta)                             # (S, N, K)
        log_q, _ = family.log_prob(phi, z)

        def Q(p, z=z, log_q=log_q):
            log_p = stats.norm.logpdf(x, z @ p.W + p.b, np.sqrt(p.psi)).sum(axis=2)
            return (w @ (log_q - log_p - stats.norm.logpdf(z).sum(axis=2))).mean()

        stats_, before = problem.e_step(p)
        new = problem.m_step(stats_)
        after = problem.e_step(new)[1]
        assert Q(p) == pytest.approx(before, rel=1e-10)            # it touches
        assert after < Q(new) - 1e-6 < before - 1e-5               # and is pushed down
        mean, M = linear_gaussian.posterior(*new, x)
        old_mean, C = family.mean(phi), family.covariance(phi)
        r = old_mean - mean
        kl = 0.5 * (np.sum(M * C, axis=(1, 2)) - K + np.sum(r @ M * r, axis=1)
                    - np.linalg.slogdet(C)[1] - np.linalg.slogdet(M)[1])
        assert Q(new) - after == pytest.approx(kl.mean(), rel=1e-8)
        p = new


def factor_correlations(rng, D, K):
    """R (D, D) of a factor model, and its noise variances (D,)."""
    W = rng.uniform(-1, 1, (K, D))
    psi = rng.uniform(0.2, 1, D)
    variance = np.sum(W * W, axis=0) + psi
    R = (W.T @ W + np.diag(psi)) / np.sqrt(np.outer(variance, variance))
    return R, psi / variance


def test_2_27_the_start_by_regressions():
    rng, D, K = np.random.default_rng(227), 7, 2
    R, psi = factor_correlations(rng, D, K)
    scale, draw = rng.uniform(0.1, 10, D), rng.standard_normal((D, K))
    assert (psi < 1 / np.diag(np.linalg.inv(R))).all()             # Guttman's bound
    mixed, left = 0.99 * R + 0.01 * np.eye(D), np.zeros(D)
    for d in range(D):                                             # by the normal equations
        others = np.arange(D) != d
        left[d] = 1 - mixed[d, others] @ np.linalg.solve(mixed[np.ix_(others, others)], mixed[others, d])
    W, start_psi = em.regression_start(R * np.outer(scale, scale), K, Gaussian(D), draw)
    u = (1 - K / (2 * D)) * left
    np.testing.assert_allclose(start_psi, scale**2 * u, rtol=1e-10)
    A = R / np.sqrt(np.outer(u, u))
    V, _ = np.linalg.qr(np.linalg.matrix_power(A, em.POWER_ITERATIONS) @ draw)
    directions = W / (scale * np.sqrt(u))                          # rows, at right angles
    lengths = np.linalg.norm(directions, axis=1)
    unit = directions / lengths[:, None]
    np.testing.assert_allclose(unit @ unit.T, np.eye(K), atol=1e-10)
    np.testing.assert_allclose(unit.T @ unit, V @ V.T, atol=1e-8)
    excess = np.sum(unit @ A * unit, axis=1) - 1
    np.testing.assert_allclose(lengths**2, np.maximum(excess, 0.1), rtol=1e-9)
    assert excess[0] > 0.1

    lower = Gaussian(D).lower_bounds(np.ones(D), 0.9)              # a floor above all of it
    np.testing.assert_allclose(em.regression_start(R, K, Gaussian(D), draw, lower)[1], 0.9, rtol=1e-10)
    W, _ = em.regression_start(np.eye(D), K, Gaussian(D), draw)    # no factor at all: 1.17 - 1 is left
    np.testing.assert_allclose(np.sum(W * W, axis=1), 1 - (1 - K / (2 * D)), rtol=1e-10)
    alike = em.regression_start(np.ones((3, 3)), 1, Gaussian(3), draw[:3, :1])
    assert np.isfinite(alike[0]).all() and (alike[1] > 0).all()    # R has no inverse


def test_2_27_starts_take_turns_and_the_best_of_a_race_goes_on():
    rng = np.random.default_rng(228)
    R, _ = factor_correlations(rng, 5, 2)
    draws, gaussian = rng.standard_normal((4, 5, 2)), Gaussian(5)
    kinds = em.regression_start, em.start, em.regression_start, em.start
    for (W, psi), kind, draw in zip(em.starts(R, 2, gaussian, draws), kinds, draws, strict=True):
        expected = kind(R, 2, gaussian, draw)
        np.testing.assert_array_equal(W, expected[0])
        np.testing.assert_array_equal(psi, expected[1])

    begun = []

    def run(name, last, length):
        begun.append(name)
        path = []
        for i in range(length):
            path.append(last + 1 / (1 + i))
            yield em.Fit(name, path, i == length - 1)

    def race(first_length, every):
        begun.clear()
        runs = (run(*r) for r in (("a", 5.0, first_length), ("b", 3.0, 400), ("c", 4.0, 400)))
        return em.race(runs, tol=1e-8, max_iter=1000, every=every)

    slow = race(400, every=False)
    assert (slow.p, len(slow.path), slow.converged, begun) == ("b", 400, True, ["a", "b", "c"])
    quick = race(50, every=False)                                  # it arrived: no other is tried
    assert (quick.p, len(quick.path), begun) == ("a", 50, ["a"])
    assert race(50, every=True).p == "b"


def test_2_37_no_nlml_is_below_what_the_floor_allows(linear):
    W, b, _, x = linear
    gaussian, variance = Gaussian(D), x.var(axis=0)
    lower = gaussian.lower_bounds(variance, 1e-3)
    least = 0.5 * np.sum(np.log(2 * np.pi) + np.log(1e-3 * variance))
    rng = np.random.default_rng(3)
    for size in (0, 1e-3, 1, 1e3):
        psi = gaussian.psi(gaussian.m_step(rng.uniform(0, 1e-2, D) * variance, lower), like=b)
        assert (psi >= 1e-3 * variance * (1 - 1e-12)).all()
        assert (linear_gaussian.nlml(size * W, b, psi, x) >= least - 1e-12).all()
    at_the_bound = linear_gaussian.nlml(0 * W, b, 1e-3 * variance, b[None, :])
    assert at_the_bound == pytest.approx(least, rel=1e-12)

    S = np.cov(x.T, bias=True)                                     # it has an inverse: S itself is best
    least = 0.5 * (D * np.log(2 * np.pi) + np.linalg.slogdet(S)[1] + D)
    root = np.linalg.cholesky(S - 0.5 * np.linalg.eigvalsh(S)[0] * np.eye(D)).T
    psi = np.full(D, 0.5 * np.linalg.eigvalsh(S)[0])
    assert linear_gaussian.e_step_moments(root, psi, S)[1] == pytest.approx(least, rel=1e-12)
    for _ in range(20):
        other = root + 0.1 * rng.standard_normal(root.shape)
        assert linear_gaussian.e_step_moments(other, psi, S)[1] > least

    with pytest.warns(HeywoodWarning):                             # S of rank 1: both end at the floor
        fitted = FactorAnalysis(1).fit_covariance(np.full((2, 2), 2.25))
    assert list(fitted.heywood_) == [0, 1]


def test_2_38_a_variance_on_its_way_to_zero(linear):
    W, _, psi, x = linear
    x, d = x - x.mean(axis=0), 1
    S, others = x.T @ x / len(x), np.arange(D) != d
    for small in (0.5, 1e-2, 1e-4):
        psi[d] = small
        stats_, _ = linear_gaussian.e_step_moments(W, psi, S)
        ours = stats_.xx[d] - 2 * stats_.xz[d] @ W[:, d] + W[:, d] @ stats_.zz @ W[:, d]
        Sigma = (W.T @ W + np.diag(psi))[np.ix_(others, others)]   # the second road: dense regression
        gain = W[:, d] @ W[:, others] @ np.linalg.inv(Sigma)
        c = W[:, d] @ W[:, d] - gain @ W[:, others].T @ W[:, d]
        e = np.mean((x[:, d] - x[:, others] @ gain) ** 2)
        written = small - small**2 / (small + c) + small**2 * e / (small + c) ** 2
        assert ours == pytest.approx(written, rel=1e-9)
    assert ours == pytest.approx(small - (c - e) / c**2 * small**2, rel=1e-7)


def test_2_39_one_factor_for_three_columns():
    S = np.array([[1.5, 0.6, -0.5], [0.6, 2.0, -0.4], [-0.5, -0.4, 0.9]])
    fitted = FactorAnalysis(1, tol=1e-13).fit_covariance(S)
    s12, s13, s23 = S[0, 1], S[0, 2], S[1, 2]
    squares = np.array([s12 * s13 / s23, s12 * s23 / s13, s13 * s23 / s12])
    np.testing.assert_allclose(fitted.components_[0] ** 2, squares, rtol=1e-4)
    np.testing.assert_allclose(fitted.noise_variance_, np.diag(S) - squares, rtol=1e-4)

    R = np.array([[1, 0.8, 0.8], [0.8, 1, 0.5], [0.8, 0.5, 1]])    # asks for a square of 1.28
    with pytest.warns(HeywoodWarning):
        fitted = FactorAnalysis(1, tol=1e-12).fit_covariance(R)
    np.testing.assert_allclose(fitted.components_[0], [1, 0.8, 0.8], atol=1e-5)
    np.testing.assert_allclose(fitted.noise_variance_, [1e-6, 0.36, 0.36], atol=1e-5)
    by_hand = 0.5 * (3 * np.log(2 * np.pi) + 2 * np.log(0.36) + 3)
    assert fitted.nlml_path_[-1] == pytest.approx(by_hand, abs=1e-5)

    def nlml(v):
        Sigma = np.outer(v[:3], v[:3]) + np.diag(np.exp(v[3:]))
        trace = np.trace(np.linalg.solve(Sigma, R))
        return 0.5 * (3 * np.log(2 * np.pi) + np.linalg.slogdet(Sigma)[1] + trace)

    rng = np.random.default_rng(4)
    bounds = [(None, None)] * 3 + [(np.log(1e-6), None)] * 3
    starts = (np.append(rng.uniform(0.2, 1, 3), rng.uniform(-3, 0, 3)) for _ in range(5))
    found = min(optimize.minimize(nlml, v, method="L-BFGS-B", bounds=bounds).fun for v in islice(starts, 5))
    assert fitted.nlml_path_[-1] < found + 1e-6
