"""E-steps: the φ_n that minimise Q_n with θ fixed, for every data case at once.

Two roads. A linear-Gaussian model has its minimiser in closed form (`closed_form`). For any other
model `e_step` runs quasi-Newton steps on fixed nodes η, so that Q_n is a smooth deterministic
function of φ_n: all rows of a block move together, but each row has its own curvature matrix, its
own step size and its own end, so no row's result depends on the others. Equations (2.x) are in
derivations/equations.md. Where data x (N, D) are asked for, anything will do that has their shape and
gives x[rows, :] for a block of them, an array or an `Observed`, such as `columns.Cases`.
"""

from typing import NamedTuple

from ..arrays import tree
from ..arrays.backend import constant, double, identity, namespace, to_numpy
from ..arrays.observed import seen
from ..arrays.rows import blocks, put_rows, take_rows
from ..arrays.workers import each
from .. import bound
from ..model import Model
from ..posteriors import has_kl
from ..posteriors.nodes import e_step_nodes, sigma_points
from . import linear_gaussian
from .bfgs import minimise
from .expectations import bound_on_nodes

SEARCH_POINTS = 2048  # draws of the prior among which `search` is given its choice
NARROW = 400          # the precision of a q that starts at a peak: s_k = 1/20


class EStep(NamedTuple):
    """What an E-step leaves: phi (N, n_phi), Q (N,), and ‖∂Q_n/∂φ_n‖∞ (N,)."""

    phi: object
    Q: object
    gradient_norm: object


def closed_form(model, theta, x):
    """The minimiser of Q over φ for a linear-Gaussian model: the member of the family that is
    closest to the exact posterior, phi (N, n_phi). Computed in float64             (2.3), (2.10).
    """
    parameters = linear_gaussian.parameters(model, tree.map(double, theta))
    mean, precision = linear_gaussian.posterior(*parameters, *seen(double(x)))
    return namespace(x).astype(model.posterior.closest(mean, precision), x.dtype)


def prior_phi(model, x):
    """φ (N, n_phi) with q_n = p(z) = N(0, I): where an E-step starts when nothing is known."""
    xp = namespace(x)
    mean = xp.zeros_like(seen(x)[0][:, :1]) + constant([0.0] * model.n_latent, like=x)
    return closest(model.posterior, mean, identity(model.n_latent, like=x))


def closest(posterior, mean, precision):
    """The φ (N, n_phi) with the least KL(q_n ‖ N(mean_n, precision⁻¹)), mean (N, K), precision (K, K).

    By the family's own closed form where it has one, else by quasi-Newton steps from φ = 0: but for a
    constant that divergence is KL(q ‖ N(0, I)) + E_q[½ z (P − I) zᵀ − z P meanᵀ], P being the precision.
    Raises TypeError for a family that has neither `closest` nor a `kl`.
    """
    if hasattr(posterior, "closest"):
        return posterior.closest(mean, precision)
    if not has_kl(posterior):
        raise TypeError(
            f"this posterior, {type(posterior).__name__}, has neither kl nor closest: E-steps start from a "
            "Gaussian, so a family whose KL is no closed form says by closest(mean, precision) where that is"
        )
    K, xp = posterior.n_latent, namespace(mean)
    _, (eta, weights) = coarse_and_fine(posterior, 64 + 4 * K, like=mean)
    w, beyond = weights[:, None], precision - identity(K, like=mean)

    def objective(phi, mean):
        kl, kl_cache = posterior.kl(phi)
        z, cache = posterior.sample(phi, eta)                      # (S, N, K)
        pull, pulled = z @ beyond, mean @ precision
        value = kl + xp.sum(w * xp.sum(z * (0.5 * pull - pulled), axis=2), axis=0)
        dz = w[:, :, None] * (pull - pulled)
        return value, posterior.kl_backward(kl_cache, xp.ones_like(kl)) + posterior.sample_backward(cache, dz)

    phi = xp.zeros_like(mean[:, :1]) + constant([0.0] * posterior.n_phi, like=mean)
    return minimise(objective, phi, posterior.natural_scale(phi), mean, max_steps=100, tol=COARSE_TOL)[0]


def e_step(model, theta, phi, x, eta, weights, *, max_steps=200, tol=1e-6):
    """Minimise Q_n over φ_n from phi (N, n_phi), at most `max_steps` steps per data case.

    eta (S, 1, K), weights (S,)  nodes, the same for all rows
    tol                          a row is done when ‖∂Q_n/∂φ_n‖∞ < tol

    No step raises any Q_n, beyond rounding. Returns an `EStep`; rows that did not get there show in
    gradient_norm.
    """
    xp = namespace(phi)

    def objective(phi, x):
        Q, cache = bound.forward(model, theta, phi, x, eta, weights=weights)
        dphi, _ = bound.backward(model, theta, cache, xp.ones_like(Q), need_dtheta=False)
        return Q, dphi

    def minimiser(rows):
        start = phi[rows, :]
        scale = model.posterior.natural_scale(start)               # the first step is a natural-gradient step
        return minimise(objective, start, scale, x[rows, :], max_steps=max_steps, tol=tol)

    parts = each(minimiser, blocks(x.shape[0], eta.shape[0]))
    return EStep(*(xp.concat(list(field), axis=0) for field in zip(*parts)))


def search(model, theta, x, z):
    """φ (N, n_phi) around the best of the latent points z (R, K) for each data case.

    The posterior of a neural decoder can have several modes; an E-step only ever finds the nearest.
    So it is started at the z_r with the largest log p(x_n, z_r), `NARROW`: a wide q may leave that mode in
    its first step, a narrow one grows.
    """
    means = best_point(model, theta, x, z)
    return closest(model.posterior, means, NARROW * identity(model.n_latent, like=z))


def best_point(model, theta, x, z):
    """For each data case the one of the latent points z (R, K) with the largest log p(x_n, z_r), (N, K)."""
    xp = namespace(z)

    def best(rows):
        log_joint = model.log_joint_of_pairs(theta, x[rows, :], z)  # (R, n)
        return xp.take(z, xp.argmax(log_joint, axis=0), axis=0)

    return xp.concat(list(each(best, blocks(x.shape[0], 1))), axis=0)


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


def nodes_for(posterior, order, n_samples, like):
    """Nodes (eta (S, 1, K), weights (S,)) on which φ of this family may be sought, beside the array `like`:
    Gauss–Hermite with `order` nodes per dimension for K ≤ 2, else n_samples whitened draws.

    A family that samples its KL fits the nodes it is sought on: few of them could let Q on them fall without
    end, while the true one rises. It is given `SOUND` nodes per dimension at the least, and beyond K = 2
    `DRAWS_PER_NUMBER` draws for every number of φ, so that Q on them is too low by some 1/64 nats    (6.11).
    """
    if not has_kl(posterior):
        order = max(order, SOUND.get(posterior.n_latent, 0))
        n_samples = max(n_samples, DRAWS_PER_NUMBER * posterior.n_phi)
    return tuple(constant(a, like=like) for a in e_step_nodes(posterior.n_latent, order, n_samples))


SOUND = {1: 20, 2: 10}                # nodes per dimension, by K, for a family that samples its KL, at least
FINER = {1: 64, 2: 20}                # … and where its search ends
DRAWS_PER_NUMBER = 64                 # … and whitened draws for each of the n_phi numbers, for K > 2


def coarse_and_fine(posterior, n_samples, like):
    """Coarse and fine nodes for `optimal`, each (eta (S, 1, K), weights (S,)), beside the array `like`.

    Gauss–Hermite for K ≤ 2; beyond, n_samples whitened draws for both. More of them as `nodes_for` says.
    """
    coarse = nodes_for(posterior, COARSE, n_samples, like)
    if posterior.n_latent > 2:
        return coarse, coarse
    orders = FINE if has_kl(posterior) else FINER
    return coarse, nodes_for(posterior, orders[posterior.n_latent], n_samples, like)


def steady_nodes(model, like):
    """Nodes (eta (S, 1, K), weights (S,)), always the same, for the mean Q of many cases: the sigma points of
    a linear-Gaussian model, else 7 Gauss–Hermite nodes per dimension for K ≤ 2 and 64 + 4K whitened draws
    beyond, more where `nodes_for` says so.
    """
    K = model.n_latent
    if linear_gaussian.gaussian_q_applies(model):
        return tuple(constant(a, like=like) for a in sigma_points(K))
    return nodes_for(model.posterior, 7, 64 + 4 * K, like)


COARSE, FINE = 5, {1: 32, 2: 14}      # nodes per dimension, by K
COARSE_TOL = 1e-2                     # ‖∂Q_n/∂φ_n‖∞ at which the search on the coarse nodes ends


def optimal(model, theta, starts, x, coarse, fine, *, max_steps=500, tol=1e-6):
    """The `EStep` of the lowest Q_n that E-steps from several starts, each phi (N, n_phi), lead to.

    The search runs on the coarse nodes (eta, weights) and ends on the fine ones. Coarse nodes can be
    taken in by a narrow posterior, so what they found is judged on the fine ones, beside the first
    start as it was given: the result is never above it.
    """
    xp, phi = namespace(starts[0]), starts[0]
    lowest = bound_on_nodes(model, theta, phi, x, *fine)
    for start in starts:
        found = e_step(model, theta, start, x, *coarse, max_steps=max_steps, tol=COARSE_TOL).phi
        Q = bound_on_nodes(model, theta, found, x, *fine)
        lower = Q < lowest
        phi, lowest = xp.where(lower[:, None], found, phi), xp.where(lower, Q, lowest)
    return e_step(model, theta, phi, x, *fine, max_steps=max_steps, tol=tol)


REACH = 5             # nats that a peak may lie below a case's own and still be tried
TRIED = 3             # peaks of a case that are tried, at the most
SAME = 0.05           # apart, in z and in nats, two climbs have ended on one peak


def from_places(model, theta, best, x, places, coarse, fine, *, reach=REACH, tried=TRIED, **options):
    """The `EStep` best, with the cases that reached a lower Q from another mode replaced.

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
    for i, Q in enumerate(to_numpy(bound_on_nodes(model, theta, phi, few, *fine)).tolist()):
        if Q < lowest[rows[i]]:
            lowest[rows[i]], better[rows[i]] = Q, i
    if not better:
        return best
    found = e_step(
        model, theta, take_rows(phi, list(better.values())), take_rows(x, list(better)), *fine, **options
    )
    return EStep(*(put_rows(old, list(better), new) for old, new in zip(best, found)))


def _rivals(model, theta, best, x, places, reach, tried):
    """The rows of the E-steps that `from_places` tries, and where each starts, phi (len(rows), n_phi)."""
    near = sorted({row for row, _ in places})
    own = to_numpy(take_rows(model.posterior.mean(best.phi), near))
    points = [*zip(near, own), *places]                            # a case's own peak comes first
    again = take_rows(x, [row for row, _ in points])
    tops = peaks(model, theta, again, constant([[float(k) for k in z] for _, z in points], like=x))
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
    return rows, closest(model.posterior, constant(means, like=x), NARROW * identity(model.n_latent, like=x))


def at_a_point(model, like):
    """The model with a diagonal q, and one node with its weight, so that its E-steps climb p(x_n, z): Q at
    η = 0 alone is −log p(x|m) + KL, and its minimiser over m is the peak. like (…, K).
    """
    xp, K = namespace(like), model.n_latent
    point = Model(model.decoder, model.likelihood, K)
    return point, xp.zeros_like(like[:1, :])[None, :, :], xp.ones_like(like[:1, 0])


def peaks(model, theta, x, z, max_steps=50):
    """The peaks of p(x_n, z) near z (N, K), and log p there but for a constant: host arrays (N, K), (N,)."""
    K = model.n_latent
    point, node, weight = at_a_point(model, z)
    start = closest(point.posterior, z, NARROW * identity(K, like=x))
    phi = e_step(point, theta, start, x, node, weight, max_steps=max_steps, tol=COARSE_TOL).phi
    phi = closest(point.posterior, point.posterior.mean(phi), identity(K, like=x))
    return to_numpy(phi[:, :K]), -to_numpy(bound_on_nodes(point, theta, phi, x, node, weight))
