"""The exact referee for a few latent variables: −log ∫ p(x_n, z) dz on a grid, with a certificate.

The decoder is evaluated once on a lattice that all data cases share; log p(x_n|z_g) for all pairs is
then one matrix product, in blocks of bounded memory. On a smooth integrand that dies out, plain sums
over a lattice converge faster than any power of the mesh. Each case carries a certificate: how much
its value moved when the mesh was halved and when the box was enlarged by half. A case that still moves
gets a lattice of its own, refined only where its posterior has mass, and what is not settled then is
refused. Equations (7.x) are in derivations/equations.md.
"""

import math
import warnings

import numpy as np

from . import tree
from .backend import constant, double, take_rows, to_numpy
from .nlml import NLML, log_prior

BOX = 6.0                              # the shared lattice covers [−BOX, BOX]^K, and half as much again
MESH = {1: 0.05, 2: 0.1, 3: 0.5}       # its first mesh, by K
MOST_NODES = 1_000_000                 # of a lattice; a case that needs more gets its own
MARGIN = 22                            # nats below the peak where an own lattice ends
HALVINGS = 8                           # of an own lattice's mesh, at the most
CASES = 2048                           # that share a lattice
PAIRS = 2**20                          # pairs (node, case) held at a time: 8 MB


class GridWarning(UserWarning):
    """Some data cases could not be integrated to the tolerance; their values are NaN."""


def grid(model, theta, x, *, tol=1e-6, first=0):
    """−log p(x_n) by quadrature, for K ≤ 3: an `NLML` with a certificate (N,) per case.  (7.3), (7.4)

    The certificate is the larger change of the value from halving the mesh and from enlarging the box
    by half: an estimate of the error, blind to a mode so narrow that no node sees it (half of `MESH`).
    Cases with a certificate above `tol` nats are refused: NaN, and a `GridWarning` names them, the first of x
    being number `first`.
    Computed in float64. Raises ValueError for K > 3.
    """
    K = model.n_latent
    if K not in MESH:
        raise ValueError(
            f"method='grid' needs K <= 3 latent variables, the model has {K}; use method='importance'"
        )
    theta, x = tree.map(double, theta), double(x)
    N = x.shape[0]
    parts = [_rows(model, theta, x[n : min(n + CASES, N), :], tol) for n in range(0, N, CASES)]
    values, certificate = np.concatenate(parts, axis=1)
    refused = np.flatnonzero(~(certificate <= tol))
    if len(refused):
        values[refused] = np.nan
        warnings.warn(
            f"{len(refused)} of {len(values)} data cases moved by more than {tol:g} nats when the grid was "
            f"refined or enlarged (rows {(first + refused[:8]).tolist()}{' …' if len(refused) > 8 else ''}): they "
            "are refused and left NaN",
            GridWarning,
            stacklevel=2,
        )
    return NLML(constant(values, like=x), None, constant(certificate, like=x), "grid")


def _rows(model, theta, x, tol):
    """Values and certificates (2, N): by the shared lattices, and by their own for those that still move."""
    values, certificate = _shared(model, theta, x, tol)
    late = np.flatnonzero(~(certificate <= tol))
    if len(late):
        values[late], certificate[late] = _own(model, theta, take_rows(x, late), tol)
    return values, certificate


def _shared(model, theta, x, tol):
    """Values and certificates (N,) on lattices that all cases share, refined while it helps."""
    K, h = model.n_latent, MESH[model.n_latent]
    wide = lattice(1.5 * BOX, h, K)
    inside = np.abs(wide).max(axis=1) <= BOX + 1e-9
    rows = np.arange(x.shape[0])
    values, certificate = np.empty(len(rows)), np.full(len(rows), np.inf)
    log_coarse = _log_mass(model, theta, x, wide[inside])
    log_ring = _log_mass(model, theta, x, wide[~inside]) + K * math.log(h)
    while len(rows):
        fine = lattice(BOX, h / 2, K)
        if len(fine) > MOST_NODES:
            break
        between = fine[(np.rint(2 * fine / h) % 2 != 0).any(axis=1)]  # not on the coarse lattice
        log_fine = np.logaddexp(log_coarse, _log_mass(model, theta, take_rows(x, rows), between))
        coarse, finer = log_coarse + K * math.log(h), log_fine + K * math.log(h / 2)  # (7.3)
        wider = np.logaddexp(finer, log_ring)
        values[rows] = -wider
        certificate[rows] = np.maximum(np.abs(finer - coarse), wider - finer)         # (7.4)
        go_on = (np.abs(finer - coarse) > tol) & (wider - finer <= tol)
        rows, log_coarse, log_ring, h = rows[go_on], log_fine[go_on], log_ring[go_on], h / 2
    return values, certificate


def _own(model, theta, x, tol):
    """Values and certificates (n,) of data cases x (n, D), each on a lattice refined where its mass is.

    A wide lattice, still shared, shows where that is; from then on each halving of the mesh keeps the
    points around those with mass. Several modes, and modes far out, are kept like any other     (7.5).
    """
    K, h = model.n_latent, MESH[model.n_latent]
    wide = lattice(2.25 * BOX, h, K)
    inside = np.abs(wide).max(axis=1) <= 1.5 * BOX + 1e-9
    step = max(1, 2**24 // len(wide))                              # cases whose wide lattice is held
    results = []
    for start in range(0, x.shape[0], step):
        rows = x[start : min(start + step, x.shape[0]), :]
        log_p = np.concatenate([to_numpy(b) for b in _pair_blocks(model, theta, rows, wide)])
        ring = _log_sum(log_p[~inside]) + K * math.log(h)
        for n in range(rows.shape[0]):
            value, change = _refined(model, theta, rows[n : n + 1, :], wide[inside], log_p[inside, n], h, tol)
            wider = np.logaddexp(value, ring[n])
            results.append((-wider, max(change, wider - value)))
    return np.array(results).T


def _refined(model, theta, x, z, log_p, h, tol):
    """log p(x_1) of one case from its log p(x_1, z_g) on a lattice z (G, K) of mesh h, and its change."""
    K = z.shape[1]
    places, value, change = np.rint(z / h).astype(int), _log_sum(log_p) + K * math.log(h), np.inf
    neighbours = np.rint(lattice(1, 1, K)).astype(int)            # the 3^K steps of −1, 0, 1
    for _ in range(HALVINGS):
        # A peak between the points may rise above one of them by about as much as log p falls around it.
        kept = places[log_p + _falls(places, log_p, neighbours) > log_p.max() - MARGIN]
        places = _distinct((2 * kept[:, None, :] + neighbours).reshape(-1, K))
        if len(places) > MOST_NODES:
            break
        h = h / 2
        log_p = np.concatenate([to_numpy(b)[:, 0] for b in _pair_blocks(model, theta, x, h * places)])
        finer = _log_sum(log_p) + K * math.log(h)
        change, value = abs(finer - value), finer
        if change < 0.1 * tol:
            break
    return value, change


def _falls(places, log_p, neighbours):
    """How far log p (G,) falls at the most from each of the integer places (G, K) to one next to it, (G,)."""
    low = places.min(axis=0) - 1
    spans = places.max(axis=0) + 2 - low
    numbers = np.ravel_multi_index(tuple((places - low).T), tuple(spans))
    strides = np.cumprod([1, *spans[:0:-1]])[::-1]                 # of one step along each axis
    order = np.argsort(numbers)
    numbers, sorted_log_p = numbers[order], log_p[order]
    lowest = sorted_log_p.copy()
    for step in neighbours @ strides:
        there = np.minimum(np.searchsorted(numbers, numbers + step), len(numbers) - 1)
        found = numbers[there] == numbers + step
        lowest = np.where(found, np.minimum(lowest, sorted_log_p[there]), lowest)
    falls = np.empty_like(log_p)
    falls[order] = sorted_log_p - lowest
    return falls


def _log_mass(model, theta, x, z):
    """log Σ_g p(x_n, z_g) (N,) over host nodes z (G, K)."""
    total = np.full(x.shape[0], -np.inf)
    for log_p in _pair_blocks(model, theta, x, z):
        total = np.logaddexp(total, _log_sum(to_numpy(log_p)))
    return total


def _pair_blocks(model, theta, x, z):
    """log p(x_n, z_g) (g, N) in blocks of the host nodes z (G, K), of bounded memory."""
    step = max(1, PAIRS // max(x.shape[0], x.shape[1]))
    for start in range(0, len(z), step):
        yield _log_pairs(model, theta, x, constant(z[start : start + step], like=x))


def _log_pairs(model, theta, x, z):
    """log p(x_n, z_g) (G, N) for every pair."""
    f, _ = model.decoder.forward(theta["decoder"], z)
    return model.likelihood.cross(theta["likelihood"], f, x) + log_prior(z)[:, None]


def _log_sum(log_p):
    """log Σ exp over the first axis; −∞ where all are."""
    top = log_p.max(axis=0)
    top = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        return np.log(np.exp(log_p - top).sum(axis=0)) + top


def lattice(box, h, K):
    """All points of the lattice with mesh h inside [−box, box]^K, (G, K); 0 is one of them."""
    side = h * np.arange(-math.floor(box / h + 1e-9), math.floor(box / h + 1e-9) + 1)
    return np.stack([axis.ravel() for axis in np.meshgrid(*[side] * K, indexing="ij")], axis=1)


def _distinct(places):
    """The distinct rows of integers (G, K), by one number for each: much faster than unique rows."""
    low = places.min(axis=0)
    span = places.max(axis=0) - low + 1
    numbers = np.unique(np.ravel_multi_index(tuple((places - low).T), tuple(span)))
    return np.stack(np.unravel_index(numbers, tuple(span)), axis=1) + low
