"""Where η comes from: random draws, or nodes that make an expectation over N(0, I) exact.

Every function returns host arrays: eta (S, N, K) or (S, 1, K), one set of nodes for all data cases,
and, but for independent draws, their weights (S,). The bound takes either: Monte Carlo and quadrature
are one code path. Equations (1.x) are in derivations/equations.md.
"""

import numpy as np


def monte_carlo(rng, n_samples, n_cases, n_latent):
    """Independent draws: eta (S, N, K) ~ N(0, I), and nothing beside; their weights are 1/S."""
    return rng.standard_normal((n_samples, n_cases, n_latent))


def own_generators(rng, rows):
    """A generator for each data case of the slice `rows`, by its place: what one draws depends neither on the
    others nor on the blocks. rng is left as it is, so that all blocks agree.
    """
    seed = rng.bit_generator.seed_seq
    return [
        np.random.default_rng(
            np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, n), pool_size=seed.pool_size)
        )
        for n in range(rows.start, rows.stop)
    ]


def sigma_points(n_latent):
    """η = ±√K e_k with weights 1/(2K): exact for every polynomial of degree ≤ 3        (1.14).

    Returns eta (2K, 1, K), weights (2K,). With a linear decoder and a Gaussian likelihood the
    integrand is quadratic, so Q is exact.
    """
    eta = np.concatenate([np.eye(n_latent), -np.eye(n_latent)]) * np.sqrt(n_latent)  # (2K, K) (1.14)
    return eta[:, None, :], np.full(2 * n_latent, 0.5 / n_latent)


def gauss_hermite(n_latent, order):
    """The product rule with `order` nodes per dimension: exact to degree 2·order − 1     (1.15).

    Returns eta (order^K, 1, K), weights (order^K,).
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(order)
    weights = weights / weights.sum()                              # NumPy's sum to √(2π)
    grid = np.meshgrid(*[nodes] * n_latent, indexing="ij")
    eta = np.stack([g.ravel() for g in grid], axis=-1)
    w = weights
    for _ in range(n_latent - 1):
        w = np.multiply.outer(w, weights)                          # (R, …, R)            (1.15)
    return eta[:, None, :], w.ravel()


def matched_draws(rng, n_samples, n_latent):
    """Random nodes with mean exactly 0 and covariance exactly I, the same for every case.

    Draws and their mirror images, whitened. Like sigma points they make every quadratic exact, and
    there are as many as asked for: n_samples is raised to an even number of at least 2K.
    Returns eta (S, 1, K), weights (S,).
    """
    half = max((n_samples + 1) // 2, n_latent)
    U = rng.standard_normal((half, n_latent))                      # (H, K)
    L = np.linalg.cholesky(U.T @ U / half)                         # (K, K)               (1.16)
    rows = np.linalg.solve(L, U.T).T                               # U L⁻ᵀ, (H, K)
    eta = np.concatenate([rows, -rows])                            # (2H, K)              (1.16)
    return eta[:, None, :], np.full(len(eta), 1 / len(eta))


def e_step_nodes(n_latent, order, n_samples):
    """Nodes for E-steps, the same in every call: Gauss–Hermite with `order` nodes per dimension for
    K ≤ 2, else n_samples whitened draws. Returns eta (S, 1, K), weights (S,).
    """
    if n_latent <= 2:
        return gauss_hermite(n_latent, order)
    return matched_draws(np.random.default_rng(0), n_samples, n_latent)
