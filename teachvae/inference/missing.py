"""The closed forms of a linear-Gaussian model whose data cases have missing entries.

Shapes are those of `linear_gaussian`; mask (N, D) holds 1 where x was observed, 0 where it was not. Missing
entries take their columns of W and Ψ out of a data case's model. Equations (2.x) are in
derivations/equations.md.
"""

from typing import NamedTuple

from ..arrays.backend import identity, namespace, to_numpy
from ..arrays.rows import take_rows
from ..arrays.special import LOG_2PI


def pattern_precisions(W, psi, mask):
    """M (P, K, K) of every distinct row of mask (N, D), and which of them each case has, (N,)."""
    xp = namespace(W, mask)
    K, D = W.shape
    first, place = {}, []
    for n, row in enumerate(to_numpy(mask)):
        place.append(first.setdefault(row.tobytes(), (len(first), n))[0])
    precisions = take_rows(mask, [n for _, n in first.values()]) / psi  # (P, D)
    products = xp.reshape(W[:, None, :] * W[None, :, :], (K * K, D))
    M = identity(K, like=W) + xp.reshape(precisions @ products.T, (-1, K, K))  # (P, K, K) (2.19)
    return M, place


def observed_e_step(W, b, psi, x, mask):
    """The posterior's mean (N, K) and covariance (N, K, K), and the nlml (N,), of incomplete data cases
    x (N, D), in one go.
    """
    xp = namespace(W, x)
    M, place = pattern_precisions(W, psi, mask)                    # one for every pattern of gaps
    covariance = take_rows(xp.linalg.inv(M), place)
    projected = ((x - b) * mask / psi) @ W.T                       # (N, K)
    mean = xp.sum(covariance * projected[:, None, :], axis=2)      # (N, K)                (2.20)
    residual = x - b - mean @ W
    own = xp.sum((residual * residual / psi + xp.log(psi) + LOG_2PI) * mask, axis=1)
    log_det = take_rows(xp.linalg.slogdet(M)[1], place)
    nlml = 0.5 * (own + log_det + xp.sum(mean * mean, axis=1))     # (N,)                  (2.21)
    return mean, covariance, nlml


class ObservedStatistics(NamedTuple):
    """Sums over incomplete data cases, for every column over those that have it: they add up over blocks.

    zz (D, K+1, K+1) of E[(z, 1)(z, 1)ᵀ]    xz (D, K+1) of x E[(z, 1)]    xx (D,) of x²    count (D,)
    whole (K+1, K+1) of E[(z, 1)(z, 1)ᵀ] over all cases, whatever they have
    """

    zz: object
    xz: object
    xx: object
    count: object
    whole: object


def observed_statistics(mean, covariance, x, mask, weights=None):
    """`ObservedStatistics` of x (N, D), from q's mean (N, K) and covariance (N, K, K).

    Data case n counts weights_n times, once where None.
    """
    xp = namespace(mean, x)
    N, K = mean.shape
    z = xp.concat([mean, xp.ones_like(mean[:, :1])], axis=1)       # (z, 1), (N, K+1)
    right, below = xp.zeros_like(covariance[:, :, :1]), xp.zeros_like(z[:, None, :])
    spread = xp.concat([xp.concat([covariance, right], axis=2), below], axis=1)
    zz = xp.reshape(spread + z[:, :, None] * z[:, None, :], (N, (K + 1) ** 2))
    counted = mask
    if weights is not None:
        counted, zz = weights[:, None] * mask, weights[:, None] * zz
    seen = x * counted
    return ObservedStatistics(
        zz=xp.reshape(mask.T @ zz, (-1, K + 1, K + 1)),            # A_d                  (2.22)
        xz=seen.T @ z,                                             # B_d                  (2.22)
        xx=xp.sum(seen * x, axis=0),                               # X_d                  (2.22)
        count=xp.sum(counted, axis=0),                             # N_d                  (2.22)
        whole=xp.reshape(xp.sum(zz, axis=0), (K + 1, K + 1)),
    )


def observed_m_step(stats):
    """The minimiser of Q over W and b: for every column a regression over the cases that have it.

    Returns W (K, D), b (D,), and the expected squared residual of every column, (D,).
    `latent_moments` has what `expanded` needs beside.
    """
    xp = namespace(stats.zz)
    G = xp.linalg.solve(stats.zz, stats.xz[:, :, None])[:, :, 0]   # (D, K+1)              (2.23)
    mean_square = (stats.xx - xp.sum(G * stats.xz, axis=1)) / stats.count  # (D,)          (2.23)
    return G[:, :-1].T, G[:, -1], mean_square


def latent_moments(stats):
    """E[z] (K,) and E[z zᵀ] (K, K) of `ObservedStatistics`, over all data cases."""
    whole = stats.whole / stats.whole[-1, -1]                      # that entry counts the cases
    return whole[:-1, -1], whole[:-1, :-1]
