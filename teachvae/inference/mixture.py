"""A mixture of Gaussians: its joint density, the PMFs of least Q, the parameters of least Q, and EM.

Equations (9.x) are in derivations/equations.md.
"""

import math
from typing import NamedTuple

import numpy as np

from ..arrays.backend import index, namespace, to_numpy
from ..arrays.rows import as_floats, slices
from ..arrays.special import LOG_2PI, diagonal
from ..doors.validate import generator
from ..networks.convergence import settled
from ..networks.training import TrainingError, not_finite


class Mixture(NamedTuple):
    """The parameters θ of p(x, z).

    weights      (K,) π_k = p(z=k)
    means        (K, D) μ_k
    covariances  (K, D) the diagonals of Σ_k, or (K, D, D) the Σ_k themselves
    """

    weights: object
    means: object
    covariances: object


# ---- the bound and its minimisers ------------------------------------------------------------------


def log_joint(theta, x):
    """log p(x_n, z=k) = log π_k + log N(x_n; μ_k, Σ_k) of x (N, D), as (N, K)."""
    columns = [
        log_normal(x, theta.means[k, :], theta.covariances[k, ...]) for k in range(theta.means.shape[0])
    ]
    return log_pmf(theta.weights) + namespace(x).stack(columns, axis=1)  # (N, K)           (9.1)


def log_pmf(weights):
    """log π_k of weights (K,), −∞ where one is 0."""
    xp, on = namespace(weights), weights > 0
    return xp.where(on, xp.log(xp.where(on, weights, xp.ones_like(weights))), -xp.inf)


def log_normal(x, mean, covariance):
    """log N(x_n; mean, Σ) of x (N, D), (N,); covariance is Σ (D, D) or its diagonal (D,)."""
    xp = namespace(x)
    r = x - mean
    if covariance.ndim == 1:
        half_log_det = 0.5 * xp.sum(xp.log(covariance))
        u = r / xp.sqrt(covariance)
    else:
        L = xp.linalg.cholesky(covariance)
        half_log_det = xp.sum(xp.log(diagonal(L)))
        u = xp.linalg.solve(L, r.T).T                              # Σ = L Lᵀ, so u uᵀ = r Σ⁻¹ rᵀ
    return -0.5 * xp.sum(u * u, axis=1) - half_log_det - 0.5 * x.shape[1] * LOG_2PI


def divergence(q, log_p):
    """Σ_k q_nk (log q_nk − log_p_nk), (N,), where 0 log 0 = 0.

    With log_p the joint log p(x_n, z=k) this is Q_n (9.3), with log_p the posterior it is
    KL(q_n ‖ p(z|x_n)) (9.9).
    """
    xp = namespace(q, log_p)
    on = q > 0
    log_q = xp.log(xp.where(on, q, xp.ones_like(q)))
    log_p = xp.where(on, log_p, xp.zeros_like(log_p))
    return xp.sum(q * (log_q - log_p), axis=1)                     # (N,)            (9.3), (9.9)


def free(log_p):
    """The PMFs q (N, K) of least Q, each row by itself: the posterior p(z|x_n)."""
    xp = namespace(log_p)
    p = xp.exp(log_p - xp.max(log_p, axis=1)[:, None])
    return p / xp.sum(p, axis=1)[:, None]                          # (N, K)                 (9.4)


def hard(log_p):
    """The same among PMFs with all probability in one place: where p(x_n, z) is largest.

    Of places that are equally good the first is taken.
    """
    xp = namespace(log_p)
    best = xp.argmax(log_p, axis=1)
    places = index(range(log_p.shape[1]), best)
    return xp.where(best[:, None] == places, xp.ones_like(log_p), xp.zeros_like(log_p))  #  (9.5)


def tied(log_p):
    """The same among tables whose rows are all equal: geometric means of the joint, scaled."""
    xp = namespace(log_p)
    return xp.zeros_like(log_p) + free(xp.mean(log_p, axis=0)[None, :])  # (N, K)           (9.6)


E_STEPS = {"free": free, "hard": hard, "tied": tied}
EMPTY = 1e-10                                                      # data cases


def m_step(theta, q, x, lowest):
    """The θ of least Q given the PMFs q (N, K), whatever their family                (9.7), (9.8).

    x (N, D); lowest (D,) the floor of the covariances. Of a component with less than `EMPTY` data cases
    the mean and covariance stay as they were in `theta`: Q hardly depends on them, and not at all on
    those of one that is quite empty.
    """
    xp = namespace(q)
    n_cases = xp.sum(q, axis=0)                                    # N_k, (K,)
    full = theta.covariances.ndim == 3
    K = q.shape[1]
    means, covariances = [theta.means[k, :] for k in range(K)], [theta.covariances[k, ...] for k in range(K)]
    filled = np.flatnonzero(to_numpy(n_cases) >= EMPTY).tolist()
    shares = {k: q[:, k] / n_cases[k] for k in filled}             # (N,), its sum is 1

    def spread(share, x, mean):
        r = x - mean
        return (r * share[:, None]).T @ r if full else share @ (r * r)

    def sums(function):
        """Σ over the blocks of function(k, rows, x[rows]), for every component with data cases."""
        totals = dict.fromkeys(filled, 0.0)
        for rows in slices(x.shape[0]):
            block = x[rows, ...]
            for k in filled:
                totals[k] = totals[k] + function(k, rows, block)
        return totals

    for k, mean in sums(lambda k, rows, x: shares[k][rows] @ x).items():
        means[k] = mean
    for k, covariance in sums(lambda k, rows, x: spread(shares[k][rows], x, means[k])).items():
        covariances[k] = raise_to_floor(covariance, lowest)
    return Mixture(n_cases / x.shape[0], xp.stack(means, axis=0), xp.stack(covariances, axis=0))


def raise_to_floor(covariance, lowest):
    """The Σ with no less variance than diag(lowest) in any direction that has the least Q    (9.8).

    covariance (D,) or (D, D) is the minimiser without a floor, lowest (D,).
    """
    xp = namespace(covariance, lowest)
    if covariance.ndim == 1:
        return xp.where(covariance > lowest, covariance, lowest)
    units = xp.sqrt(lowest)[:, None] * xp.sqrt(lowest)
    values, V = xp.linalg.eigh(covariance / units)
    raised = (V * xp.maximum(values, 1)) @ V.T * units
    return xp.where(xp.min(values) >= 1, covariance, raised)       # as it is where nothing is below


def em(theta, x, pmf, *, weights, lowest, tol, max_iter, progress=None, path=(), after=None):
    """Variational EM from `theta` on x (N, D) with PMFs of the family called `pmf`; weights (N,), of mean 1,
    are how often each data case counts.

    path   () at the start; else that of the EM which led to theta, to go on from there, its last Q left out
    after  after(θ, path) is called after each E-step, or None

    Raises TrainingError where Q stops being a finite number, its last (θ, path) of the iteration before.
    Returns θ, its PMFs (N, K), the path of the mean Q, and whether it converged.
    Q never rises: both steps are its exact minimisers, the M-step under the floor, to which the
    covariances of the start are raised first.
    """
    xp = namespace(theta.means)
    K = theta.means.shape[0]
    if not path:
        raised = [raise_to_floor(theta.covariances[k, ...], lowest) for k in range(K)]
        theta = Mixture(theta.weights, theta.means, xp.stack(raised, axis=0))
    path, last = list(path), None
    while True:
        log_p = xp.concat([log_joint(theta, x[rows, ...]) for rows in slices(x.shape[0])], axis=0)
        # "tied" alone looks at more than one data case
        q = E_STEPS[pmf](weights[:, None] * log_p if pmf == "tied" else log_p)
        Q = float(xp.mean(weights * divergence(q, log_p)))
        if not math.isfinite(Q):
            raise TrainingError(
                f"Q became {Q} in the E-step of iteration {len(path)} of EM: the first that is not finite is "
                f"{not_finite(theta) or 'Q itself'}; look for columns with a few huge entries",
                None if last is None else (last, path),
            )
        path.append(Q)
        if after is not None:
            after(theta, path)
        if progress is not None and progress(len(path) - 1, max_iter, path[-1], theta):
            return theta, q, path, None
        converged = settled(path, tol)
        if converged or len(path) > max_iter:
            return theta, q, path, converged
        last, theta = theta, m_step(theta, weights[:, None] * q, x, lowest)


# ---- where it starts, and what it is given ---------------------------------------------------------


def start(x, variance, n_components, covariance, seed, weights=None):
    """A `Mixture` on the host: equal weights, spread-out data cases as means, and as covariances the columns'
    variances times K^(−2/D), so that K of them fill the volume of the data.

    weights (N,) as in `far_apart`, which finds the means. Raises ValueError where there are fewer than K
    different data cases.
    """
    means = x[far_apart(x, variance, n_components, generator(seed), weights)]
    one = variance * n_components ** (-2 / x.shape[1])
    one = one if covariance == "diagonal" else np.diag(one)
    weights = np.full(n_components, 1 / n_components)
    return Mixture(weights, means.astype("float64"), np.stack([one] * n_components))


def far_apart(x, variance, n_components, rng, weights=None):
    """Places (K,) of data cases far from one another, of host data x (N, D) or a `columns.Table`.

    They are drawn one by one, each data case with a probability that grows with the square of its distance
    from the nearest one so far, in units of the columns' spread (k-means++; Arthur & Vassilvitskii 2007), and
    with its weight where weights (N,) are given. Raises ValueError where there are fewer than K different
    data cases.
    """
    N = x.shape[0]
    shares = 1.0 if weights is None else weights / weights.sum()
    places = [rng.integers(N) if weights is None else rng.choice(N, p=shares)]
    nearest = np.full(N, np.inf)
    while len(places) < n_components:
        last = x[places[-1:]].astype("float64")
        for rows in slices(N):
            away = np.sum(((as_floats(x[rows]) - last) / np.sqrt(variance)) ** 2, axis=1)
            nearest[rows] = np.minimum(nearest[rows], away)
        if not nearest.any():
            raise ValueError(
                f"X has only {len(places)} different data cases, n_components={n_components} needs as many: "
                "give fewer components"
            )
        drawn = shares * nearest
        places.append(rng.choice(N, p=drawn / drawn.sum()))
    return places
