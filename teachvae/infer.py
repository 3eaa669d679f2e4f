"""E-steps: the φ_n that minimise Q_n with θ fixed, for every data case at once.

Two roads. A linear-Gaussian model has its minimiser in closed form (`closed_form`). For any other
model `e_step` runs quasi-Newton steps on fixed nodes η, so that Q_n is a smooth deterministic
function of φ_n: all rows of a block move together, but each row has its own curvature matrix, its
own step size and its own end, so no row's result depends on the others. Equations (6.x) are in
derivations/equations.md. Where data x (N, D) are asked for, anything will do that has their shape and
gives x[rows, :] for a block of them, such as `columns.Cases`.
"""

from typing import NamedTuple

from . import bound, linear_gaussian, noise, tree
from .backend import constant, double, identity, index, namespace, sum_last, take_rows, to_numpy
from .blocks import slices
from .likelihoods import split
from .model import Model

SEARCH_POINTS = 2048  # draws of the prior among which `search` is given its choice
ROWS = 2048  # rows of decoder input held at a time, samples times data cases: they fit a core's cache


class EStep(NamedTuple):
    """What an E-step leaves: phi (N, n_phi), Q (N,), and ‖∂Q_n/∂φ_n‖∞ (N,)."""

    phi: object
    Q: object
    gradient_norm: object


def blocks(n_cases, n_samples):
    """Slices of the data cases such that a block has about `ROWS` rows of decoder input."""
    return slices(n_cases, max(1, min(256, ROWS // n_samples)))


def closed_form(model, theta, x):
    """The minimiser of Q over φ for a linear-Gaussian model: the member of the family that is
    closest to the exact posterior, phi (N, n_phi). Computed in float64             (2.3), (2.10).
    """
    parameters = linear_gaussian.parameters(model, tree.map(double, theta))
    mean, precision = linear_gaussian.posterior(*parameters, *split(model.likelihood, double(x)))
    return namespace(x).astype(model.posterior.closest(mean, precision), x.dtype)


def prior_phi(model, x):
    """φ (N, n_phi) with q_n = p(z) = N(0, I): where an E-step starts when nothing is known."""
    xp = namespace(x)
    mean = xp.zeros_like(x[:, :1]) + constant([0.0] * model.n_latent, like=x)
    return model.posterior.closest(mean, identity(model.n_latent, like=x))


def e_step(model, theta, phi, x, eta, weights, *, max_steps=200, tol=1e-6):
    """Minimise Q_n over φ_n from phi (N, n_phi), at most `max_steps` steps per data case.

    eta (S, 1, K), weights (S,)  nodes, the same for all rows
    tol                          a row is done when ‖∂Q_n/∂φ_n‖∞ < tol

    No step raises any Q_n, beyond rounding. Returns an `EStep`; rows that did not get there show in
    gradient_norm.
    """
    xp = namespace(phi)
    parts = []
    for rows in blocks(x.shape[0], eta.shape[0]):
        parts.append(_minimise(model, theta, phi[rows, :], x[rows, :], eta, weights, max_steps, tol))
    return EStep(*(xp.concat(list(field), axis=0) for field in zip(*parts)))


def _minimise(model, theta, phi, x, eta, weights, max_steps, tol):
    """BFGS with backtracking on all rows of one block, one evaluation of Q per step        (6.3).

    Each row proposes φ + t p. Where Q fell enough the row moves and updates its inverse Hessian H;
    where it did not the row stays and halves t. H starts from the inverse Fisher information of q:
    the first step is a natural-gradient step.
    """
    xp = namespace(phi)
    rows = list(range(x.shape[0]))          # places in the block of the rows still under way
    done = []                               # (places, EStep) of those that have ended

    def evaluate(phi, x):
        Q, cache = bound.forward(model, theta, phi, x, eta, weights=weights)
        g, _ = bound.backward(model, theta, cache, xp.ones_like(Q), need_dtheta=False)
        return Q, g

    Q, g = evaluate(phi, x)
    H = _initial_hessian(model, phi)                               # (R, P, P)
    p, slope = _direction(H, g)
    norm, t = _largest(g), xp.ones_like(Q)
    rounding = 1e-13 if str(phi.dtype).endswith("float64") else 1e-5

    for step in range(max_steps + 1):
        # A row whose t has shrunk to nothing sits at the rounding error of Q.
        under_way = to_numpy((norm >= tol) & (t > 1e-12))
        if step == max_steps or not under_way.any():
            done.append((rows, EStep(phi, Q, norm)))
            break
        if under_way.sum() <= 0.75 * len(rows):
            stay = [i for i in range(len(rows)) if under_way[i]]
            end = [i for i in range(len(rows)) if not under_way[i]]
            pick = _picker(end, phi)
            done.append(([rows[i] for i in end], EStep(pick(phi), pick(Q), pick(norm))))
            pick = _picker(stay, phi)
            rows = [rows[i] for i in stay]
            phi, Q, g, norm, H, p, slope, t, x = [pick(a) for a in (phi, Q, g, norm, H, p, slope, t, x)]
            under_way = under_way[stay]

        moving = constant(under_way, like=Q)
        s = (t * moving)[:, None] * p                              # the step tried, (R, P)
        Q_new, g_new = evaluate(phi + s, x)
        norm_new = _largest(g_new)
        slack = rounding * (1 + xp.abs(Q))
        fell = Q_new <= Q + 1e-4 * t * slope                       # Armijo
        flat = (Q_new <= Q + slack) & (norm_new < norm)
        accept = (fell | flat) & (moving > 0)                      # a NaN compares as False

        H_new = _bfgs_update(H, s, g_new - g)
        phi = xp.where(accept[:, None], phi + s, phi)
        Q, g = xp.where(accept, Q_new, Q), xp.where(accept[:, None], g_new, g)
        norm = xp.where(accept, norm_new, norm)
        H = xp.where(accept[:, None, None], H_new, H)
        p_new, slope_new = _direction(H, g)
        p, slope = xp.where(accept[:, None], p_new, p), xp.where(accept, slope_new, slope)
        t = xp.where(accept, xp.ones_like(t), 0.5 * t)

    order = [place for places, _ in done for place in places]
    back = _picker([order.index(i) for i in range(len(order))], phi)
    return EStep(*(back(xp.concat([getattr(e, f) for _, e in done], axis=0)) for f in EStep._fields))


def _initial_hessian(model, phi):
    return model.posterior.natural_scale(phi)[:, :, None] * identity(phi.shape[1], like=phi)


def _direction(H, g):
    """p = −H g, shortened where it would change any entry of φ by more than 2, and gᵀp."""
    xp = namespace(H, g)
    p = -_times(H, g)                                              # (R, P)
    longest = _largest(p)
    p = p * (2 / xp.where(longest > 2, longest, xp.zeros_like(longest) + 2))[:, None]
    return p, sum_last(g * p)


def _bfgs_update(H, s, y):
    """The BFGS update of the inverse Hessian H (R, P, P); left alone where sᵀy is not positive (6.4)."""
    xp = namespace(H)
    sy = sum_last(s * y)
    good = sy > 1e-12 * xp.sqrt(sum_last(s * s) * sum_last(y * y))
    rho = xp.where(good, 1 / xp.where(good, sy, xp.ones_like(sy)), xp.zeros_like(sy))
    Hy = _times(H, y)                                              # (R, P)
    half = 0.5 * (1 + rho * sum_last(y * Hy))
    c = half[:, None] * s - Hy
    sc = (rho[:, None] * s)[:, :, None] * c[:, None, :]            # ρ s cᵀ
    return H + sc + xp.permute_dims(sc, (0, 2, 1))


def _times(H, v):
    """H_n v_n (R, P) of every row, from H (R, P, P) and v (R, P)."""
    return (H @ v[:, :, None])[:, :, 0]


def _largest(v):
    """‖v_n‖∞ (R,) of every row of v (R, P)."""
    xp = namespace(v)
    return xp.max(xp.abs(v), axis=1)


def _picker(places, like):
    """A function that takes the rows at `places` out of an array, the places uploaded once."""
    xp = namespace(like)
    places = index(places, like)
    return lambda array: xp.take(array, places, axis=0)


def search(model, theta, x, z):
    """φ (N, n_phi) around the best of the latent points z (R, K) for each data case.

    The posterior of a neural decoder can have several modes; an E-step only ever finds the nearest.
    So it is started at the z_r with the largest log p(x_n, z_r), with s_k = 1/20: a wide q may leave
    that mode in its first step, a narrow one grows.
    """
    means = best_point(model, theta, x, z)
    return model.posterior.closest(means, 400 * identity(model.n_latent, like=z))


def best_point(model, theta, x, z):
    """For each data case the one of the latent points z (R, K) with the largest log p(x_n, z_r), (N, K)."""
    xp = namespace(z)
    f, _ = model.decoder.forward(theta["decoder"], z)
    log_prior = -0.5 * xp.sum(z * z, axis=1)[:, None]              # (R, 1), up to a constant
    means = []
    for rows in blocks(x.shape[0], 1):
        log_px = model.likelihood.cross(theta["likelihood"], f, x[rows, :])  # (R, n)
        means.append(xp.take(z, xp.argmax(log_px + log_prior, axis=0), axis=0))
    return xp.concat(means, axis=0)


def from_starts(model, theta, starts, x, eta, weights, *, max_steps=200, tol=1e-6):
    """E-steps from several starts, each phi (N, n_phi); per data case the lowest Q is kept."""
    best = None
    for phi in starts:
        e = e_step(model, theta, phi, x, eta, weights, max_steps=max_steps, tol=tol)
        best = e if best is None else _lower(e, best)
    return best


def _lower(a, b):
    """Row by row, the `EStep` with the lower Q: b's where they are equal."""
    xp, lower = namespace(a.Q), a.Q < b.Q
    return EStep(*(xp.where(lower[:, None] if f.ndim == 2 else lower, f, g) for f, g in zip(a, b)))


def nodes(n_latent, n_samples, like):
    """Coarse and fine nodes for `optimal`, each (eta (S, 1, K), weights (S,)), beside the array `like`.

    Gauss–Hermite for K ≤ 2; beyond, n_samples whitened draws for both.
    """
    if n_latent <= 2:
        pair = noise.gauss_hermite(n_latent, COARSE), noise.gauss_hermite(n_latent, FINE[n_latent])
    else:
        pair = (noise.e_step_nodes(n_latent, COARSE, n_samples),) * 2
    return tuple(tuple(constant(a, like=like) for a in rule) for rule in pair)


COARSE, FINE = 5, {1: 32, 2: 14}      # nodes per dimension, by K
COARSE_TOL = 1e-2                     # ‖∂Q_n/∂φ_n‖∞ at which the search on the coarse nodes ends


def optimal(model, theta, starts, x, coarse, fine, *, max_steps=500, tol=1e-6):
    """The `EStep` of the lowest Q_n that E-steps from several starts, each phi (N, n_phi), lead to.

    The search runs on the coarse nodes (eta, weights) and ends on the fine ones. Coarse nodes can be
    taken in by a narrow posterior, so what they found is judged on the fine ones, beside the first
    start as it was given: the result is never above it.
    """
    xp = namespace(starts[0])
    best = starts[0]
    lowest = q(model, theta, best, x, *fine)
    for start in starts:
        found = e_step(model, theta, start, x, *coarse, max_steps=max_steps, tol=COARSE_TOL).phi
        Q = q(model, theta, found, x, *fine)
        lower = Q < lowest
        best, lowest = xp.where(lower[:, None], found, best), xp.where(lower, Q, lowest)
    return e_step(model, theta, best, x, *fine, max_steps=max_steps, tol=tol)


REACH = 5             # nats that a peak may lie below a case's own and still be tried
TRIED = 3             # peaks of a case that are tried, at the most
SAME = 0.05           # apart, in z and in nats, two climbs have ended on one peak


def from_places(model, theta, best, x, places, coarse, fine, *, reach=REACH, tried=TRIED, **options):
    """The `EStep` best, where a case has gone on to a better mode.

    places  [(row, z)], points z (K,) on the host from which the data case `row` is to be looked at again

    From each point the peak of p(x_n, z) is climbed, which takes one node only. Of a case's peaks that are
    not its own, and not more than `reach` nats lower, the `tried` highest are where E-steps start.
    """
    if not places:
        return best
    rows, starts = _rivals(model, theta, best, x, places, reach, tried)
    if not rows:
        return best
    coarsely = {**options, "tol": COARSE_TOL}
    few = take_rows(x, rows)
    phi = e_step(model, theta, starts, few, *coarse, **coarsely).phi
    lowest, better = to_numpy(best.Q).tolist(), {}
    for i, Q in enumerate(to_numpy(q(model, theta, phi, few, *fine)).tolist()):
        if Q < lowest[rows[i]]:
            lowest[rows[i]], better[rows[i]] = Q, i
    if not better:
        return best
    found = e_step(
        model, theta, take_rows(phi, list(better.values())), take_rows(x, list(better)), *fine, **options
    )
    place = list(range(x.shape[0]))
    for i, row in enumerate(better):
        place[row] = x.shape[0] + i
    concat = namespace(x).concat
    return EStep(*(take_rows(concat([old, new], axis=0), place) for old, new in zip(best, found)))


def _rivals(model, theta, best, x, places, reach, tried):
    """The rows of the E-steps that `from_places` tries, and where each starts, phi (len(rows), n_phi)."""
    near = sorted({row for row, _ in places})
    own = to_numpy(take_rows(model.posterior.mean(best.phi), near))
    points = [*zip(near, own), *places]                            # a case's own peak comes first
    seen = take_rows(x, [row for row, _ in points])
    tops = peaks(model, theta, seen, constant([[float(k) for k in z] for _, z in points], like=x))
    met = {row: [] for row in near}
    for (row, _), top in zip(points, zip(*tops)):
        if all(max(abs(top[0] - z).max(), abs(top[1] - h)) > SAME for z, h in met[row]):
            met[row].append(top)
    rows, means = [], []
    for row, (first, *others) in met.items():
        others = [other for other in others if other[1] > first[1] - reach]
        for z, _ in sorted(others, key=lambda top: -top[1])[:tried]:
            rows.append(row)
            means.append([float(k) for k in z])
    if not rows:
        return rows, None
    return rows, model.posterior.closest(constant(means, like=x), 400 * identity(model.n_latent, like=x))


def peaks(model, theta, x, z, max_steps=50):
    """The peaks of p(x_n, z) near z (N, K), and log p there but for a constant: host arrays (N, K), (N,).

    Q at the single node η = 0 is −log p(x|m) + KL, and its minimiser over m is the peak.
    """
    xp, K = namespace(x), model.n_latent
    point = Model(model.decoder, model.likelihood, K)
    node, weight = xp.zeros_like(z[:1, :])[None, :, :], xp.ones_like(z[:1, 0])
    start = point.posterior.closest(z, 400 * identity(K, like=x))
    phi = e_step(point, theta, start, x, node, weight, max_steps=max_steps, tol=COARSE_TOL).phi
    phi = point.posterior.closest(point.posterior.mean(phi), identity(K, like=x))
    return to_numpy(phi[:, :K]), -to_numpy(q(point, theta, phi, x, node, weight))


def q(model, theta, phi, x, eta, weights=None):
    """Q_n (N,) on nodes eta (S, 1, K) with weights (S,), in blocks of bounded memory."""
    return namespace(phi).concat(
        [
            bound.forward(model, theta, phi[rows, :], x[rows, :], eta, weights=weights)[0]
            for rows in blocks(x.shape[0], eta.shape[0])
        ],
        axis=0,
    )


def expected_squares(model, theta, phi, x, eta, weights):
    """E_q of the likelihood's `squares`, (x − f(z))² for a Gaussian, averaged over the data cases that have
    the column, (D,), and the share of those, (D,): what the M-step of its noise needs (5.6).
    """
    xp, likelihood = namespace(phi), model.likelihood
    S, total, count = eta.shape[0], 0.0, 0.0
    for rows in blocks(x.shape[0], S):
        z, _ = model.posterior.sample(phi[rows, :], eta)           # (S, n, K)
        f, _ = model.decoder.forward(theta["decoder"], xp.reshape(z, (-1, model.n_latent)))
        f = xp.reshape(f, (S, -1, f.shape[1]))
        block = x[rows, :]
        squares = likelihood.squares(theta["likelihood"], f, block)
        _, mask = split(likelihood, block)
        mask = xp.ones_like(squares[0, :, :]) if mask is None else mask
        total = total + double(xp.sum(weights[:, None, None] * squares * mask, axis=(0, 1)))
        count = count + double(xp.sum(mask, axis=0))
    return xp.astype(total / count, phi.dtype), xp.astype(count / x.shape[0], phi.dtype)


def expected(model, theta, phi, eta, weights, function):
    """E_q[function(f(z), rows)] of every data case, by nodes: (N, V).

    function takes f (S, n, n_f) and the slice of its n data cases, and returns (S, n, V).
    """
    parts, S = [], eta.shape[0]
    xp = namespace(phi)
    for rows in blocks(phi.shape[0], S):
        z, _ = model.posterior.sample(phi[rows, :], eta)           # (S, n, K)
        f, _ = model.decoder.forward(theta["decoder"], xp.reshape(z, (-1, model.n_latent)))
        values = function(xp.reshape(f, (S, -1, f.shape[1])), rows)
        parts.append(xp.sum(weights[:, None, None] * values, axis=0))
    return xp.concat(parts, axis=0)
