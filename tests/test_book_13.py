"""Chapter 13 of derivations/ by a second road: rates of searches on quadratics, the least change that BFGS
makes, and what the two rules of stopping promise."""

import numpy as np
import pytest

from teachvae.doors.units import PrincipalAxes
from teachvae.inference.bfgs import _bfgs_update
from teachvae.networks.convergence import remaining
from teachvae.networks.optimizers import PATIENCE, SGD, lbfgs


def quadratic(rng, eigenvalues):
    """H (P, P) with these eigenvalues, along axes of no interest."""
    U, _ = np.linalg.qr(rng.standard_normal((len(eigenvalues),) * 2))
    return U @ np.diag(eigenvalues) @ U.T


@pytest.mark.parametrize("kappa", [2.0, 100.0])
def test_6_15_the_rates_on_a_quadratic(kappa, rng):
    """How fast the error shrinks, from the last steps of many; no learning rate near is faster."""
    H = quadratic(rng, np.linspace(1, kappa, 4))
    start, n = rng.standard_normal(4), 400

    def rate(alpha, mu):
        p, optimizer = start.copy(), SGD(alpha, mu)
        state, sizes = optimizer.init(p), []
        for _ in range(n):
            optimizer.step(p, p @ H, state)
            sizes.append(abs(p).max())
        sizes = [size for size in sizes if size > 1e-250]
        half = len(sizes) // 2
        return (sizes[-1] / sizes[half]) ** (1 / (len(sizes) - 1 - half))

    plain, root = (kappa - 1) / (kappa + 1), (kappa**0.5 - 1) / (kappa**0.5 + 1)
    assert rate(2 / (1 + kappa), 0.0) == pytest.approx(plain, rel=1e-3)
    assert rate(0.9 * 2 / (1 + kappa), 0.0) > plain and rate(1.02 * 2 / (1 + kappa), 0.0) > plain
    assert rate((1 + root) ** 2 / kappa, root**2) == pytest.approx(root, rel=0.03)
    assert rate(2.01 / kappa, 0.0) > 1


def test_6_4_no_other_solution_of_the_secant_condition_is_nearer(rng):
    A = rng.standard_normal((2, 5, 5))
    H, G = A @ np.swapaxes(A, 1, 2) + np.eye(5)
    s = rng.standard_normal(5)
    y = s @ G
    change = _bfgs_update(H[None], s[None], y[None])[0] - H

    def size(change):
        return np.trace(change @ G @ change @ G)

    across = np.eye(5) - np.outer(y, y) / (y @ y)
    for _ in range(100):                                           # other symmetric Δ, y Δ = s − y H
        B = across @ rng.standard_normal((5, 5)) @ across
        other = change + 10 ** rng.uniform(-4, 1) * (B + B.T)
        np.testing.assert_allclose(y @ (H + other), s, rtol=1e-8, atol=1e-8)
        assert size(other) > size(change)


def test_6_16_a_step_in_other_variables_is_a_preconditioned_step(rng):
    H, A, p = quadratic(rng, [1.0, 5.0, 30.0]), rng.standard_normal((3, 3)), rng.standard_normal(3)
    p_hat, optimizer = p @ np.linalg.inv(A), SGD(0.01, 0.0)
    optimizer.step(p_hat, p @ H @ A.T, optimizer.init(p_hat))
    np.testing.assert_allclose(p_hat @ A, p - 0.01 * p @ H @ A.T @ A, rtol=1e-9)
    x = rng.standard_normal((50, 4)) @ (rng.standard_normal((4, 4)) * [1e-2, 1, 1, 30])
    covariance = np.cov(x.T, bias=True)
    axes = PrincipalAxes(x.mean(axis=0), covariance, like=x)
    turned = axes.A.T @ covariance @ axes.A                        # the curvature in an encoder's weights
    assert np.linalg.cond(covariance) > 1e4 and np.linalg.cond(turned) == pytest.approx(1, rel=1e-6)


def test_6_17_the_extrapolation_is_never_more_than_what_is_to_come(rng):
    for n_parts in (1, 2, 5):
        for _ in range(50):
            c, r = rng.uniform(0, 1, n_parts), rng.uniform(0, 0.99, n_parts)
            path = [float(np.sum(c * r**t / (1 - r))) for t in range(4)]  # it ends at 0
            assert remaining(path) <= path[-1] * (1 + 1e-9) + 1e-12
            if n_parts == 1:
                assert remaining(path) == pytest.approx(path[-1], rel=1e-6)


@pytest.mark.parametrize("tol", [1e-3, 1e-6])
def test_6_18_the_search_ends_at_the_first_ten_iterations_that_gain_too_little(tol, rng):
    H = quadratic(rng, np.logspace(0, 5, 60))

    def objective(p):
        return 0.5 * p @ H @ p - 3.0, p @ H

    path, converged, _ = lbfgs(objective, rng.standard_normal(60), tol=tol, max_iter=5000, memory=5)
    assert converged and len(path) > 2 * PATIENCE
    gains = -np.diff(path) / np.maximum(np.abs(path[1:]), 1)
    sums = np.convolve(gains, np.ones(PATIENCE), mode="valid")
    assert sums[-1] < tol and (sums[:-1] >= tol).all()
