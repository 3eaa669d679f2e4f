"""EM for factor analysis: an E-step and an M-step in turn, both closed forms; and where it starts.

Equations (2.x) are in derivations/equations.md.
"""

from itertools import islice

from ..arrays.backend import identity, namespace
from ..arrays.rows import slices
from ..arrays.special import diagonal
from ..likelihoods import split
from ..networks.convergence import ROUNDING, settled
from . import linear_gaussian
from .missing import latent_moments, observed_e_step, observed_m_step, observed_statistics


def em(S, n_latent, likelihood, *, start_noises, every, min_noise, tol, max_iter, progress=None):
    """EM for factor analysis on the covariance S (D, D) alone.

    start_noises are one standard normal (D, K) for each start, to break its symmetry; `every` is what
    `fit.race` asks for. Returns W (K, D), psi (D,), the path of the mean nlml, and whether the
    extrapolated rest fell below tol. The nlml never rises, beyond rounding:
    given the E-step's statistics, W, b and the floored Ψ of the M-step are Q's minimiser within bounds,
    those of the wider model (2.24) a lower one of the same nlml, and a longer step is taken back where it
    rises.
    """
    lower = likelihood.lower_bounds(diagonal(S), min_noise)
    zero = namespace(S).zeros_like(S[0, :])

    def floored(psi):
        return likelihood.psi(likelihood.m_step(psi, lower), like=psi)

    def e_step(W, b, psi):
        return linear_gaussian.e_step_moments(W, psi, S)

    def m_step(stats):
        W, b, mean_square = linear_gaussian.m_step(stats)
        return *linear_gaussian.expanded(W, b, stats.z, stats.zz), floored(mean_square)

    begun = starts(S, n_latent, likelihood, start_noises, lower)
    runs = (_iterate(e_step, m_step, floored, (W, zero, psi), tol) for W, psi in begun)
    (W, _, psi), path, converged = race(runs, tol=tol, max_iter=max_iter, every=every, progress=progress)
    return W, psi, path, converged


def em_observed(
    data, weights, variance, n_latent, likelihood, *,
    start_noises, every, min_noise, tol, max_iter, progress=None,
):
    """EM for factor analysis on data [x | mask] (N, 2D), x of mean 0, that count where the mask is 1.

    weights (N,), of mean 1: how often each data case counts. likelihood the `Observed` one, variance (D,) of
    the columns; the rest is as in `em`. The E-step inverts one K × K matrix for every pattern of missing
    entries, the M-step solves one regression per column. Returns W (K, D), b (D,), psi (D,), the path of the
    mean nlml, and whether it converged.
    """
    xp, N = namespace(variance), data.shape[0]

    def parts():
        for rows in slices(N):
            x, mask = split(likelihood, data[rows, ...])
            yield x * mask, mask, weights[rows]

    # Correlations of columns that are filled with their means are too small, which does for a start.
    S = sum((w[:, None] * x).T @ x for x, _, w in parts()) / N
    share = sum(w @ mask for _, mask, w in parts()) / N
    gaussian = likelihood.likelihood
    lower = gaussian.lower_bounds(variance, min_noise)

    def floored(psi):
        return gaussian.psi(gaussian.m_step(psi, lower, share), like=psi)

    def e_step(W, b, psi):
        sums, total = None, 0.0
        for x, mask, w in parts():
            mean, covariance, values = observed_e_step(W, b, psi, x, mask)
            part = observed_statistics(mean, covariance, x, mask, w)
            sums = part if sums is None else type(part)(*(a + c for a, c in zip(sums, part)))
            total = total + float(xp.sum(w * values))
        return sums, total / N

    def m_step(sums):
        W, b, mean_square = observed_m_step(sums)
        return *linear_gaussian.expanded(W, b, *latent_moments(sums)), floored(mean_square)

    begun = starts(S, n_latent, gaussian, start_noises, lower)
    zero = xp.zeros_like(variance)
    runs = (_iterate(e_step, m_step, floored, (W, zero, psi), tol) for W, psi in begun)
    (W, b, psi), path, converged = race(runs, tol=tol, max_iter=max_iter, every=every, progress=progress)
    return W, b, psi, path, converged


def _iterate(e_step, m_step, floored, parameters, tol):
    """E- and M-steps in turn from parameters (W, b, psi), until they converge: yields, after every E-step, the
    parameters, the path, which goes on growing, and whether they have converged.

    e_step(W, b, psi) → (statistics, mean nlml), m_step(statistics) → (W, b, psi). Each step goes a little
    further than the M-step says, and further than the one before: in ψ_d as long as it keeps its direction.
    Where the nlml rises, back to the M-step's own (Salakhutdinov & Roweis 2003)            (2.26).
    """
    xp, one = namespace(parameters[0]), namespace(parameters[2]).ones_like(parameters[2])
    path, longer, m_steps_own = [], False, parameters
    length, lengths, before = 1.0, one, 0 * one                    # of W and b; of every ψ_d
    while True:
        stats, value = e_step(*parameters)
        if longer and not float(value) <= path[-1] + ROUNDING * abs(path[-1]):
            parameters, longer = m_steps_own, False
            length, lengths = 1.0, xp.where(lengths > 2, 0.5 * lengths, one)
            continue
        path.append(float(value))
        converged = settled(path, tol)
        yield parameters, path, converged
        if converged:
            return
        m_steps_own, longer = m_step(stats), True
        (W, b, psi), (W_own, b_own, psi_own) = parameters, m_steps_own
        step = xp.log(psi_own) - xp.log(psi)
        length, lengths = LENGTHENING * length, xp.where(step * before > 0, LENGTHENING * lengths, one)
        before = step
        far = xp.clip(lengths * step, -3.0, 3.0)                   # no ψ_d by more than a factor of e³
        parameters = W + length * (W_own - W), b + length * (b_own - b), floored(psi * xp.exp(far))


LENGTHENING = 1.1                      # of a step over the one before


def race(runs, *, tol, max_iter, every, progress=None):
    """The best of several runs of EM, at its end: (parameters, path, converged).

    runs      iterators, one for each start, that yield such a triple after every E-step and end where one
              has converged; each keeps one growing path of its own
    every     whether all of them are raced; else none but the first where that converges within `RACE` steps
    progress  progress(iteration, max_iter, value) of the run that wins, its first steps once that is known; or
              None

    Each goes `RACE` steps, and the one that is lowest then goes on to the end, the first of those that are
    equal to within tol.
    """
    runs, steps = iter(runs), min(RACE, max_iter)
    leader = next(runs)
    best = _last(islice(leader, steps + 1))
    for run in () if best[2] and not every else runs:
        end = _last(islice(run, steps + 1))
        if end[1][-1] < best[1][-1] - tol:
            leader, best = run, end
    for iteration, value in enumerate(best[1] if progress is not None else ()):
        progress(iteration, max_iter, value)
    for best in islice(leader, max_iter - steps):
        if progress is not None:
            progress(len(best[1]) - 1, max_iter, best[1][-1])
    return best


def _last(items):
    for item in items:
        pass
    return item


STARTS = 4                             # how many are raced where no number was given
RACE = 100                             # steps of EM, after which the best of several starts is chosen


def starts(S, n_latent, likelihood, noises, lower=None):
    """Starts (W, psi) for EM from the covariance S (D, D), one for each of `noises`, standard normal (D, K).

    With a learnt diagonal Ψ the likelihood can have several maxima, so starts of two kinds take turns. An
    isotropic or fixed Ψ has one maximum, and one start: the maximum itself.
    """
    if likelihood.noise != "diagonal":
        yield start(S, n_latent, likelihood, None, lower)
        return
    for place, noise in enumerate(noises):
        kind = regression_start if place % 2 == 0 else start
        yield kind(S, n_latent, likelihood, noise, lower)


def regression_start(S, n_latent, likelihood, noise, lower=None):
    """A start (W, psi) from what the other columns leave of each; the arguments are those of `start`.

    That is more than the column's Ψ, for factors say more than the other columns do. R's factanal starts from
    Jöreskog's share of it (1963). The columns of a singular correlation matrix leave nothing, so a little of
    the identity is mixed in                                                         (2.27).
    """
    xp = namespace(S)
    D = S.shape[0]
    variance = diagonal(S)
    sd = xp.sqrt(variance)
    R = S / (sd[:, None] * sd)
    inverse = _inverse_of_lower(xp.linalg.cholesky((1 - RIDGE) * R + RIDGE * identity(D, like=S)))
    uniqueness = (1 - 0.5 * n_latent / D) / xp.sum(inverse * inverse, axis=0)  # diag(L⁻ᵀL⁻¹)
    root = xp.sqrt(uniqueness)
    V, explained = _leading(R / (root[:, None] * root), noise)     # 1 where there is no factor
    excess = xp.where(explained > 1.1, explained - 1, xp.zeros_like(explained) + 0.1)
    W = (V * xp.sqrt(excess)).T * (root * sd)                      # (K, D)
    return W, likelihood.psi(likelihood.m_step(uniqueness * variance, lower), like=W)


def start(S, n_latent, likelihood, noise, lower=None):
    """A start (W, psi) for EM from the covariance S (D, D); noise (D, K) is standard normal.

    psi lies at or above `lower`, from `likelihood.lower_bounds`, where given.

    A learnt diagonal Ψ: a few power iterations on the correlation matrix            (2.15).
    Scaling to correlations keeps one loud column from taking a factor for itself, and stopping
    early from a random start leaves no symmetry for EM to be caught in.
    An isotropic or fixed Ψ: the maximum itself, which is known in closed form (Tipping & Bishop
    1999)                                                                            (2.16).
    """
    xp = namespace(S)
    D = S.shape[0]
    variance = diagonal(S)
    if likelihood.noise != "diagonal":
        values, vectors = xp.linalg.eigh(S)
        values, vectors = xp.flip(values, axis=0), xp.flip(vectors, axis=1)
        if likelihood.noise == "isotropic":
            discarded = values[n_latent:] if n_latent < D else values[-1:]
            sigma2 = float(xp.mean(discarded))
        else:
            sigma2 = float(likelihood.noise)
        excess = values[:n_latent] - sigma2
        excess = xp.where(excess > 0, excess, xp.zeros_like(excess))
        W = vectors[:, :n_latent].T * xp.sqrt(excess)[:, None]
        # K factors explain data of rank K completely: σ² would be 0
        return W, likelihood.psi(likelihood.m_step(xp.zeros_like(variance) + sigma2, lower), like=W)

    sd = xp.sqrt(variance)
    R = S / (sd[:, None] * sd)
    V, explained = _leading(R, noise)
    left = (D - float(xp.sum(explained))) / max(D - n_latent, 1)   # the other directions' mean
    excess = xp.where(explained - left > 0.1, explained - left, xp.zeros_like(explained) + 0.1)
    W = (V * xp.sqrt(excess)).T                                    # (K, D)
    uniqueness = 1 - xp.sum(W * W, axis=0)
    uniqueness = xp.where(uniqueness > 0.1, uniqueness, xp.zeros_like(uniqueness) + 0.1)
    return W * sd, likelihood.psi(likelihood.m_step(uniqueness * variance, lower), like=W)


def _leading(A, V):
    """A few power iterations with A (D, D) from V (D, K): directions (D, K), and how much of A lies along
    each, the Rayleigh quotients (K,).
    """
    xp = namespace(A)
    for _ in range(POWER_ITERATIONS):
        V, _ = xp.linalg.qr(A @ V)
    return V, xp.sum(V * (A @ V), axis=0)


def _inverse_of_lower(L):
    """L⁻¹ of a lower triangular L (D, D), by halves: a third of the time of a plain inverse."""
    xp = namespace(L)
    D = L.shape[0]
    if D <= 64:
        return xp.linalg.inv(L)
    half = D // 2
    first, last = _inverse_of_lower(L[:half, :half]), _inverse_of_lower(L[half:, half:])
    right, below = xp.zeros_like(L[:half, half:]), -last @ (L[half:, :half] @ first)
    return xp.concat([xp.concat([first, right], axis=1), xp.concat([below, last], axis=1)], axis=0)


POWER_ITERATIONS = 4
RIDGE = 0.01                           # the share of the identity in the matrix that (2.27) inverts
