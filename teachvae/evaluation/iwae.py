"""The importance-weighted bounds between Q and nlml, and what S draws say of Q and of them.

Equations (7.x) are in derivations/equations.md.
"""

import math
from typing import NamedTuple

import numpy as np

from .. import bound, importance_weighted
from ..arrays.backend import constant, namespace, to_numpy
from ..arrays.rows import blocks, slices, take_rows
from ..arrays.special import log_sum_exp
from ..arrays.workers import each
from ..inference.expectations import log_weight


class IWAE(NamedTuple):
    """The importance-weighted bounds: sizes, the list of k; values and standard_error (len(sizes), N)."""

    sizes: tuple
    values: object
    standard_error: object


def iwae(model, theta, phi, x, rng, *, sizes=(1, 5, 50, 500, 5000), n_samples=5000):
    """L_k = −E[log (1/k) Σ_{s≤k} w_s] for every k in sizes, in nats per data case.

    L_1 is Q, L_k falls with k, and tends to nlml (Burda et al. 2016). The n_samples draws are used for
    every k, as n_samples // k groups of k, whose mean is the value and whose spread its standard error
    (NaN for a single group). Returns an `IWAE`; raises ValueError for no k or one outside 1 … n_samples.
    """
    sizes = tuple(sizes)
    if not sizes or not all(1 <= k <= n_samples for k in sizes):
        raise ValueError(f"every k must lie in 1 … n_samples = {n_samples}, got sizes={sizes}")
    xp = namespace(phi, x)
    eta = rng.standard_normal((n_samples, 1, model.n_latent))

    def bounds(rows):
        log_w = xp.concat(
            [
                log_weight(model, theta, phi[rows, :], x[rows, :], constant(eta[s : s + 64], like=phi))
                for s in range(0, n_samples, 64)
            ],
            axis=0,
        )                                                          # (n_samples, n)
        return [xp.stack(list(field)) for field in zip(*(_group_means(log_w, k) for k in sizes))]

    step = max(1, min(128, PAIRS // n_samples))
    parts = zip(*each(bounds, slices(x.shape[0], step)))
    return IWAE(sizes, *(xp.concat(list(field), axis=1) for field in parts))


PAIRS = 2**20      # log weights held at a time by `iwae`


def _group_means(log_w, k):
    """L_k (n,) from log weights (S, n) in S // k groups of k, and its standard error (n,)."""
    xp = namespace(log_w)
    groups = log_w.shape[0] // k
    log_w = xp.reshape(log_w[: groups * k, :], (groups, k, log_w.shape[1]))
    bounds = math.log(k) - log_sum_exp(log_w, axis=1)              # (groups, n)            (7.8)
    mean = xp.mean(bounds, axis=0)
    if groups == 1:
        return mean, xp.zeros_like(mean) + float("nan")
    return mean, xp.sqrt(xp.sum((bounds - mean) ** 2, axis=0) / (groups * (groups - 1)))


class SampledBounds(NamedTuple):
    """What training sees: R estimates of Q, and of L_S, each by S draws of its own for every data case.

    sizes                the list of S
    Q, L                 (len(sizes), R), means over the data cases, in nats per data case
    Q_level, nlml_level  what they are estimates of, and what L_S tends to, as exactly as the model has them
    """

    sizes: tuple
    Q: object
    L: object
    Q_level: float
    nlml_level: float


def estimates(model, theta, phi, x, rng, S, n_repeats):
    """n_repeats estimates by S draws each of Q and of L_S, means over data cases x (N, D), with φ (N, n_phi):
    two arrays (n_repeats,) on the host, in nats per data case.

    The draws of different estimates, and of different data cases, are independent.
    """
    N, K = x.shape[0], model.n_latent

    def of_case(n, rows):
        phi_n, x_n = (take_rows(a, [n] * (rows.stop - rows.start)) for a in (phi, x))
        eta = constant(rng.standard_normal((S, rows.stop - rows.start, K)), like=phi)
        Q, _ = bound.forward(model, theta, phi_n, x_n, eta)
        L, _ = importance_weighted.forward(model, theta, phi_n, x_n, eta)
        return np.stack([to_numpy(Q), to_numpy(L)])                # (2, repeats)

    parts = [
        sum(of_case(n, rows) for n in range(N)) / N for rows in blocks(n_repeats, S)
    ]
    return np.concatenate(parts, axis=1)
