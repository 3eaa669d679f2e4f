"""KL(q_n ‖ p(z|x_n)) by a road of its own: what Q − nlml must be.

Equations (10.x) are in derivations/equations.md.
"""

import numpy as np

from ..arrays import tree
from ..arrays.backend import constant, double, namespace, to_numpy
from ..arrays.observed import seen
from ..arrays.rows import slices
from ..arrays.workers import each
from ..inference import expectations, linear_gaussian
from . import grid


def kl_to_posterior(model, theta, phi, x, *, tol=1e-6):
    """KL(q_n ‖ p(z|x_n)) (N,), by a road of its own: what Q − nlml must be.

    Linear-Gaussian models: the closed form between two normal distributions. K ≤ 3: log q − log p(z|x)
    summed over a lattice around q, with p(z|x) normalised by its own sum over a lattice around the
    posterior, wherever that is: neither Q nor `grid` is asked. Both are refined, and widened, until the sum
    moves by less than tol nats or the rounding of its terms; where one does not get there the value is NaN,
    and a `grid.GridWarning` names the case. Raises ValueError for other models with K > 3. Computed in
    float64.
    """
    theta, phi, x = tree.map(double, theta), double(phi), double(x)
    xp, K = namespace(phi, x), model.n_latent
    if linear_gaussian.gaussian_q_applies(model):
        parameters = linear_gaussian.parameters(model, theta)
        mean, M = linear_gaussian.posterior(*parameters, *seen(x))
        C, r = model.posterior.covariance(phi), model.posterior.mean(phi) - mean
        log_det = xp.linalg.slogdet(C)[1] + xp.linalg.slogdet(M)[1]
        quadratic = xp.sum(M * r[:, :, None] * r[:, None, :], axis=(1, 2))
        return 0.5 * (xp.sum(C * M, axis=(1, 2)) - K + quadratic - log_det)  # (N,)        (10.6)
    if K > 3:
        raise ValueError(f"the KL divergence by a lattice needs K <= 3 latent variables, the model has {K}")
    mesh = LOOK_MESH[K]
    look, values = grid.lattice(LOOK_BOX, mesh, K), []
    step = max(1, 2**22 // len(look))                              # cases whose look is held
    for rows in slices(x.shape[0], step):
        looks = np.concatenate([to_numpy(b) for b in grid.pair_blocks(model, theta, x[rows, :], look)])

        def of_case(n):
            one = slice(n, n + 1)
            log_joint = grid.log_joint_of(model, theta, x[one, :])
            log_px, change = grid.integral(log_joint, look, looks[:, n - rows.start], mesh, tol, mesh=0.9)
            mean, moved, size = _mean_log_weight(model, theta, phi[one, :], x[one, :], tol)
            kl = log_px - mean                                     #                       (10.7)
            return kl if change + moved <= tol + ROUNDING * size else np.nan

        values += each(of_case, range(rows.start, rows.stop))
    values = np.array(values)
    grid.warn_of_refused(values, tol)
    return constant(values, like=x)


LOOK_BOX, LOOK_MESH = 13.0, {1: 0.04, 2: 0.15, 3: 0.7}  # where the KL road looks for a posterior's mass, by K
ETA_BOX, ETA_MESH = 8.0, {1: 0.02, 2: 0.2, 3: 0.8}      # its lattice in units of q, at first
WIDENINGS = 8                                           # … and how often that is widened or refined
ROUNDING = 1e-13                                        # of a sum, as a share of its terms' sizes


def _mean_log_weight(model, theta, phi, x, tol):
    """E_q[log p(x_1, z) − log q(z)] of one case, how far it may be off, and the size of its terms.

    The mean of two lattices in η, one between the points of the other. Where they differ the mesh is halved;
    where something is left at the edge of their box that is widened by half.
    """
    K = model.n_latent
    box, mesh = ETA_BOX, ETA_MESH[K]

    def terms(eta):
        """The terms (S,) of the sum over the lattice eta (S, K)."""
        w = np.exp(-0.5 * np.sum(eta * eta, axis=1)) * (mesh / np.sqrt(2 * np.pi)) ** K
        step = max(1, 2**20 // x.shape[1])
        blocks = [constant(eta[s : s + step, None, :], like=x) for s in range(0, len(eta), step)]
        log_w = [expectations.log_weight(model, theta, phi, x, block)[:, 0] for block in blocks]
        return w * np.concatenate([to_numpy(part) for part in log_w])

    value, off, size = np.nan, np.inf, 0.0
    for _ in range(WIDENINGS):
        eta = grid.lattice(box, mesh, K)
        if len(eta) > grid.MOST_NODES:
            break
        on, between = terms(eta), terms(eta + 0.5 * mesh)
        edge = np.abs(on[np.abs(eta).max(axis=1) > box - 1.5 * mesh]).sum()
        value, size = 0.5 * (on.sum() + between.sum()), np.abs(on).sum()
        off = edge + abs(on.sum() - between.sum())
        if not off > 0.1 * tol + ROUNDING * size:
            break
        box, mesh = (1.5 * box, mesh) if edge > 0.05 * tol else (box, 0.5 * mesh)
    return value, off, size
