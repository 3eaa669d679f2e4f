"""The exact referee for a few latent variables: −log ∫ p(x_n, z) dz on a grid, with a certificate.

The decoder is evaluated once on a lattice that all data cases share; log p(x_n|z_g) for all pairs is
then one matrix product, in blocks of bounded memory. On a smooth integrand that dies out, plain sums
over a lattice converge faster than any power of the mesh. Each case carries a certificate: how much
its value moved when the mesh was halved and when the box was enlarged by half. A case that still moves
gets a lattice of its own, refined only where its posterior has mass, and what is not settled then is
refused. Equations (7.x) are in derivations/equations.md.
"""

from functools import reduce
import math

import numpy as np

from ..arrays import tree
from ..arrays.backend import constant, double, to_numpy
from ..arrays.rows import slices, take_rows
from ..arrays.special import log_sum_exp
from ..arrays.workers import each
from ..inference import e_step
from ..messages import warn
from .nlml import NLML

BOX = 6.0                              # the shared lattice covers [−BOX, BOX]^K, and half as much again
MESH = {1: 0.05, 2: 0.1, 3: 0.5}       # its first mesh, by K
MOST_NODES = 1_000_000                 # of a lattice; a case that needs more gets its own
MARGIN = 22                            # nats below the peak where an own lattice ends
HALVINGS = 8                           # of an own lattice's mesh, at the most
LOOK = {1: 0.05, 2: 0.3}               # mesh of the lattice on which an E-step looks for other modes, by K
REACHES = (1, 2, 3)                    # … and for K > 2, how far out its sets of draws are, one each
LAYERS = 1000                          # by which an own lattice grows, at the most
PEAKS = 16                             # of a look at a posterior that are climbed, at the most
CASES = 2048                           # that share a lattice
PAIRS = 2**20                          # pairs (node, case) held at a time: 8 MB


class GridWarning(UserWarning):
    """Some data cases could not be integrated to the tolerance; their values are NaN."""


def grid(model, theta, x, *, tol=1e-6, first=0):
    """−log p(x_n) by quadrature, for K ≤ 3: an `NLML` with a certificate (N,) per case.  (7.3), (7.4)

    The certificate is the larger change of the value from halving the mesh and from enlarging the box
    by half: an estimate of the error, blind to a mode so narrow that no node sees it (half of `MESH`), and
    too small at times under kinks, where two meshes can agree by accident: to some 1e-5 nats, by what was
    seen. Cases with a certificate above `tol` nats are refused: NaN, and a `GridWarning` names them, the
    first of x being number `first`. Computed in float64. Raises ValueError for K > 3.
    """
    K = model.n_latent
    if K not in MESH:
        raise ValueError(
            f"method='grid' needs K <= 3 latent variables, the model has {K}; use method='importance'"
        )
    theta, x = tree.map(double, theta), double(x)
    parts = [_rows(model, theta, x[rows, :], tol) for rows in slices(x.shape[0], CASES)]
    values, certificate = np.concatenate(parts, axis=1)
    values = np.where(certificate <= tol, values, np.nan)
    warn_of_refused(values, tol, first)
    return NLML(constant(values, like=x), None, constant(certificate, like=x), "grid")


def warn_of_refused(values, tol, first=0):
    """Warn of the cases that are NaN among values (N,), the first of which is number `first`: their lattice
    did not settle to tol nats.
    """
    refused = np.flatnonzero(np.isnan(values))
    if len(refused):
        warn(
            f"{len(refused)} of {len(values)} data cases moved by more than {tol:g} nats when the grid was "
            f"refined or enlarged (rows {(first + refused[:8]).tolist()}"
            f"{' …' if len(refused) > 8 else ''}): they are refused and left NaN",
            GridWarning,
        )


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
    """Values and certificates (n,) of data cases x (n, D), each on a lattice of its own             (7.5).

    A wide lattice, still shared, shows where its mass is. The own one starts there, grows until nothing is
    left at its edge, wherever that leads, and is then refined. Several modes, and modes far out, are
    followed like any other.
    """
    K, h = model.n_latent, MESH[model.n_latent]
    wide = lattice(2.25 * BOX, h, K)
    step = max(1, 2**24 // len(wide))                              # cases whose wide lattice is held
    results = []
    for rows in slices(x.shape[0], step):
        few = x[rows, :]
        log_p = np.concatenate([to_numpy(b) for b in pair_blocks(model, theta, few, wide)])

        def of_case(n):
            log_joint = log_joint_of(model, theta, few[n : n + 1, :])
            value, change = integral(log_joint, wide, log_p[:, n], h, tol)
            return -value, change

        results += each(of_case, range(few.shape[0]))
    return np.array(results).T


def places(model, theta, x, phi, z, reach=e_step.REACH):
    """Points from which the φ of data cases x (N, D) are to be sought, beside phi (N, n_phi): (row, z) pairs
    for `e_step.from_places`.

    K ≤ 2: the peaks that a lattice shows which may be as high as log p at phi's mean, less `reach` nats.
    Beyond: for every case the best of each third of the host draws z (R, K), the second of them twice as far
    out, the last one three times.
    """
    K = model.n_latent
    if K > 2:
        sets = [far * part for far, part in zip(REACHES, np.array_split(z, len(REACHES)))]
        best = [to_numpy(e_step.best_point(model, theta, x, constant(part, like=x))) for part in sets]
        return [(row, point) for points in best for row, point in enumerate(points)]
    mean = model.posterior.mean(phi)
    own, here = to_numpy(mean), to_numpy(model.log_joint(theta, x, mean[None, :, :])[0, :])
    look, found = lattice(1.5 * BOX, LOOK[K], K), []
    shape, step = (round(len(look) ** (1 / K)),) * K, max(1, 2**22 // len(look))  # cases whose look is held
    for rows in slices(x.shape[0], step):
        start = rows.start
        log_p = np.concatenate([to_numpy(b) for b in pair_blocks(model, theta, x[rows, :], look)])
        tops, cases = np.nonzero(log_p == _highest_beside(log_p.reshape(*shape, -1), K).reshape(log_p.shape))
        # A parabola rises between the points of a lattice by a quarter of its fall to the next at the most.
        at = np.stack(np.unravel_index(tops, shape), axis=1)[:, None, :] + _steps(K)
        beside = np.ravel_multi_index(tuple(np.moveaxis(at, 2, 0)), shape, mode="clip")  # (peaks, 3^K)
        hopes = log_p[tops, cases] + 0.25 * (log_p[tops, cases] - log_p[beside, cases[:, None]].min(axis=1))
        far = np.abs(look[tops] - own[cases + start]).max(axis=1) > LOOK[K]
        for n in np.unique(cases[far & (hopes > here[cases + start] - reach)]):
            i = np.flatnonzero(far & (cases == n) & (hopes > here[n + start] - reach))
            found += [(int(n) + start, look[g]) for g in tops[i[np.argsort(-hopes[i])[:PEAKS]]]]
    return found


def _highest_beside(log_p, K):
    """The highest of log p (side, …, N) at each point and the 3^K − 1 next to it."""
    highest = log_p.copy()
    for k in range(K):
        before = highest.copy()
        line, old = np.moveaxis(highest, k, 0), np.moveaxis(before, k, 0)
        np.maximum(line[1:], old[:-1], out=line[1:])
        np.maximum(line[:-1], old[1:], out=line[:-1])
    return highest


def log_joint_of(model, theta, x):
    """A function from host nodes z (G, K) to log p(x_1, z_g) (G,), for one data case x (1, D)."""
    return lambda z: np.concatenate([to_numpy(b)[:, 0] for b in pair_blocks(model, theta, x, z)])


def integral(log_joint, look, log_p, h, tol, mesh=1.0):
    """log ∫ exp log_joint(z) dz, and how far it may be off, from a look at it: log_p (G,) at the points
    look (G, K) of a lattice with mesh h.

    The lattice is that of the highest peak: its axes, and their lengths, are those of the curvature there,
    its first mesh is `mesh` in such units. Where that has too many points, the axes of z are tried.
    """
    K = look.shape[1]
    falls, is_peak, _ = _surroundings(np.rint(look / h).astype(int), log_p)
    # A parabola rises between the points of a lattice by a quarter of its fall to the next at the most.
    hopes = np.where(is_peak, log_p + falls / 4, -np.inf)
    best = [i for i in np.argsort(-hopes)[:PEAKS] if np.isfinite(hopes[i])]
    peaks, axes = zip(*(climb(log_joint, look[i], h) for i in best))
    heights = log_joint(np.array(peaks))
    highest = np.argmax(heights)
    origin, axes, top = peaks[highest], axes[highest], max(heights.max(), log_p.max())
    # What is wide beside the peak may weigh as much where it is so much lower.
    floor = top - MARGIN + min(0.0, np.linalg.slogdet(axes)[1])
    seeds = np.concatenate([np.array(peaks)[heights > floor], look[log_p > floor]])
    rest = log_p[log_p <= floor]                                   # where nothing will be looked at again
    log_rest = (log_sum_exp(rest) if len(rest) else -np.inf) + K * math.log(h)
    value, change = -np.inf, np.inf
    for axes, mesh in ((axes, mesh), (np.identity(K), h)):
        value, change = _followed(log_joint, origin, axes, mesh, seeds, floor, tol)
        if change <= 0.5 * tol:
            break
    return value, change + np.logaddexp(value, log_rest) - value


def _followed(log_joint, origin, axes, h, seeds, floor, tol):
    """log ∫ over the lattice origin + h·axes·i from the seeds (G, K), grown and halved, and its last change.

    At each mesh the lattice grows by the neighbours of the points with mass until none of those is new;
    a halving keeps the points around those with mass.
    """
    K = len(origin)
    log_cell = np.linalg.slogdet(axes)[1]
    places = _distinct(np.rint(np.linalg.solve(axes, (seeds - origin).T).T / h).astype(int))
    value, change = -np.inf, np.inf
    for halving in range(HALVINGS + 1):
        places, log_p = _grown(lambda i: log_joint(origin + h * i @ axes.T), places, floor)
        if places is None:
            break
        finer = log_sum_exp(log_p) + K * math.log(h) + log_cell
        change, value = abs(finer - value), finer
        if change < 0.5 * tol:
            break
        kept = places[log_p + _surroundings(places, log_p)[0] > floor]
        if not len(kept):
            break
        halves = _steps(K)[(_steps(K) >= 0).all(axis=1)]           # the 2^K steps of 0, 1
        places, h = (2 * kept[:, None, :] + halves).reshape(-1, K), h / 2
    return value, change


def _grown(log_p_at, places, floor):
    """Integer places (G, K) and log p there, with the neighbours of those above the floor, and theirs, …;
    None and None where they become too many.
    """
    K, layers, before = places.shape[1], [], np.empty((0, places.shape[1]), dtype=int)
    new, total = places, 0
    while len(new):
        total += len(new)
        if total > MOST_NODES or len(layers) > LAYERS:
            return None, None
        log_p = log_p_at(new)
        layers.append((new, log_p))
        # A peak between the first points may rise above one by about as much as log p falls around it.
        rises, edge = 0.0, True
        if len(layers) == 1:
            rises, _, edge = _surroundings(new, log_p)
        alive = new[(log_p + rises > floor) & edge]
        around = _distinct((alive[:, None, :] + _steps(K)).reshape(-1, K)) if len(alive) else alive
        known = np.concatenate([before, new])                      # a layer's neighbours are in the last two
        before, new = new, around[~_among(around, known)] if len(around) else around
    places, log_p = (np.concatenate(parts) for parts in zip(*layers))
    once = _first_of_each(places)                                  # but one below the floor may come again
    return places[once], log_p[once]


def climb(log_joint, z, h):
    """The peak near z (K,), and axes (K, K) that are the standard deviations of a normal density with the
    curvature there, none above 1: by parabolas through the 3^K points around, forward evaluations only.
    """
    K = len(z)
    steps, axes = _steps(K).astype(float), h * np.identity(K)
    for _ in range(60):
        values = log_joint(z + steps @ axes.T)
        slope, curvature = _parabola(steps, values)
        length, turn = np.linalg.eigh(curvature)                   # of −log p, in units of the axes
        size = np.maximum(np.abs(length), 1e-3)
        step = axes @ turn @ ((turn.T @ slope) / size)
        tries = np.concatenate([z + steps @ axes.T, z + np.outer(0.5 ** np.arange(6), step)])
        log_p = np.concatenate([values, log_joint(tries[len(steps) :])])
        best = np.argmax(log_p)
        rise = log_p[best] - values[len(steps) // 2]
        z = tries[best]
        before = axes
        # Standard deviations where the surface is curved as a peak is, shorter axes where it is not yet.
        axes = axes @ turn / np.sqrt(np.maximum(length, 0.25))
        axes = _shortened(axes)
        if rise <= 1e-3 and abs(np.linalg.slogdet(axes)[1] - np.linalg.slogdet(before)[1]) < 0.1:
            break
    return z, axes


def _shortened(axes):
    """The principal axes (K, K) of the ellipsoid of `axes`, none longer than 1."""
    U, lengths, _ = np.linalg.svd(axes)
    return U * np.minimum(lengths, 1.0)


def _parabola(steps, values):
    """Slope (K,) and curvature (K, K) of −, log p being the values (3^K,) at the steps −1, 0, 1."""
    K = steps.shape[1]

    def at(*moves):
        place = np.zeros(K)
        for k, size in moves:
            place[k] += size
        return values[(steps == place).all(axis=1)][0]

    slope = np.array([(at((k, 1)) - at((k, -1))) / 2 for k in range(K)])
    curvature = np.empty((K, K))
    for k in range(K):
        curvature[k, k] = 2 * at() - at((k, 1)) - at((k, -1))
        for j in range(k):
            mixed = at((k, 1), (j, 1)) + at((k, -1), (j, -1)) - at((k, 1), (j, -1)) - at((k, -1), (j, 1))
            curvature[k, j] = curvature[j, k] = -mixed / 4
    return slope, curvature


def _steps(K):
    """The 3^K steps of −1, 0, 1, the middle one in the middle."""
    return np.rint(lattice(1, 1, K)).astype(int)


def _first_of_each(places):
    """Indices of the distinct rows of integers (G, K)."""
    low = places.min(axis=0)
    span = tuple(places.max(axis=0) - low + 1)
    return np.unique(np.ravel_multi_index(tuple((places - low).T), span), return_index=True)[1]


def _among(places, others):
    """Which of the integer places (G, K) are among the others."""
    low = np.minimum(places.min(axis=0), others.min(axis=0))
    span = tuple(np.maximum(places.max(axis=0), others.max(axis=0)) - low + 1)
    numbers, known = (np.ravel_multi_index(tuple((p - low).T), span) for p in (places, others))
    return np.isin(numbers, known)


def _surroundings(places, log_p):
    """Of the integer places (G, K): how far log p (G,) falls at the most to a place next to it, whether it
    rises to none, and whether a place next to it is missing, each (G,).
    """
    low = places.min(axis=0) - 1
    spans = places.max(axis=0) + 2 - low
    numbers = np.ravel_multi_index(tuple((places - low).T), tuple(spans))
    strides = np.cumprod([1, *spans[:0:-1]])[::-1]                 # of one step along each axis
    order = np.argsort(numbers)
    numbers, sorted_log_p = numbers[order], log_p[order]
    lowest, highest, missing = sorted_log_p.copy(), sorted_log_p.copy(), np.zeros(len(log_p), dtype=bool)
    for step in _steps(places.shape[1]) @ strides:
        there = np.minimum(np.searchsorted(numbers, numbers + step), len(numbers) - 1)
        found = numbers[there] == numbers + step
        beside = np.where(found, sorted_log_p[there], sorted_log_p)
        lowest, highest, missing = np.minimum(lowest, beside), np.maximum(highest, beside), missing | ~found
    back = np.argsort(order)
    return (sorted_log_p - lowest)[back], (sorted_log_p == highest)[back], missing[back]


def _log_mass(model, theta, x, z):
    """log Σ_g p(x_n, z_g) (N,) over host nodes z (G, K)."""
    def part(nodes):
        return log_sum_exp(to_numpy(_pairs(model, theta, x, z[nodes])), axis=0)

    return reduce(np.logaddexp, each(part, _node_blocks(x, z)), np.full(x.shape[0], -np.inf))


def pair_blocks(model, theta, x, z):
    """log p(x_n, z_g) (g, N) in blocks of the host nodes z (G, K), of bounded memory."""
    return each(lambda nodes: _pairs(model, theta, x, z[nodes]), _node_blocks(x, z))


def _pairs(model, theta, x, z):
    return model.log_joint_of_pairs(theta, x, constant(z, like=x))


def _node_blocks(x, z):
    return slices(len(z), max(1, PAIRS // max(x.shape[0], x.shape[1])))


def lattice(box, h, K):
    """All points of the lattice with mesh h inside [−box, box]^K, (G, K); 0 is one of them."""
    side = h * np.arange(-math.floor(box / h + 1e-9), math.floor(box / h + 1e-9) + 1)
    return np.stack([axis.ravel() for axis in np.meshgrid(*[side] * K, indexing="ij")], axis=1)


def _distinct(places):
    """The distinct rows of integers (G, K)."""
    return places[_first_of_each(places)]
