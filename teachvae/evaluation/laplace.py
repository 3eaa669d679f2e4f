"""Laplace's approximation of −log p(x_n): a normal distribution around the posterior's mode.

Equations (7.x) are in derivations/equations.md.
"""

from ..arrays import tree
from ..arrays.backend import constant, double, identity, namespace
from ..arrays.rows import blocks
from ..arrays.special import LOG_2PI
from ..arrays.workers import each
from ..inference import e_step
from .nlml import NLML


def laplace(model, theta, x, rng):
    """Laplace's approximation: p(x_n, z) as a normal distribution around its mode ẑ_n.

    The mode is sought from 0 and from the best of many draws of the prior, the better kept; its
    curvature H_n is the central difference of the hand-derived gradient. Exact for a linear-Gaussian
    model; elsewhere neither a bound nor of known error. NaN where H_n is not positive definite or no mode
    was reached (kinks, of ReLU, have none). Computed in float64.
    """
    theta, x = tree.map(double, theta), double(x)
    xp, K = namespace(x), model.n_latent
    z = constant(rng.standard_normal((e_step.SEARCH_POINTS, K)), like=x)
    point, node, weight = e_step.at_a_point(model, z)
    starts = [e_step.prior_phi(point, x), e_step.search(point, theta, x, z)]
    found = e_step.from_starts(point, theta, starts, x, node, weight, max_steps=500)
    mode = found.phi[:, :K]
    parts = each(lambda rows: _around(model, theta, x[rows, :], mode[None, rows, :]), blocks(x.shape[0], 1))
    values = xp.concat(list(parts), axis=0)
    values = xp.where(found.gradient_norm < 1e-3, values, xp.zeros_like(values) + float("nan"))
    return NLML(values, None, None, "laplace")


def _around(model, theta, x, mode):
    """Laplace's value (N,) around the modes (1, N, K); NaN where H is not positive definite."""
    xp, K = namespace(x), model.n_latent
    h = 1e-5
    columns = []
    for k in range(K):
        e = constant([h if j == k else 0.0 for j in range(K)], like=x)
        _, up = model.log_likelihood_gradient(theta, x, mode + e)
        _, down = model.log_likelihood_gradient(theta, x, mode - e)
        columns.append((down - up)[0, :, :] / (2 * h))             # (N, K)
    H = xp.stack(columns, axis=2)
    H = 0.5 * (H + xp.permute_dims(H, (0, 2, 1))) + identity(K, like=x)  # + that of −log p(z)
    curved = xp.min(xp.linalg.eigvalsh(H), axis=1) > 0
    _, log_det = xp.linalg.slogdet(H)
    values = 0.5 * log_det - model.log_joint(theta, x, mode)[0, :] - 0.5 * K * LOG_2PI  #   (7.9)
    return xp.where(curved, values, xp.zeros_like(values) + float("nan"))
