"""EM for the linear-Gaussian model, the lecture's first algorithm: an E-step and an M-step in turn.

    stats, Q = problem.e_step(p)       the best q of every data case for the parameters p
    p = problem.m_step(stats)          the best p for these q

There are three E-steps: from the covariance of complete data, case by case where entries are missing, and
with the closest member of a family of q in place of the posterior, for either, which is variational EM.
A rotation of z comes in between where the family has a say in it, `LongerSteps` spare most of the
iterations, and of several starts `race` goes on with the best. Equations
(2.x) are in derivations/equations.md.
"""

from dataclasses import dataclass
from itertools import islice
import math
from typing import NamedTuple

from ..arrays import ranks
from ..arrays.backend import constant, identity, namespace
from ..arrays.observed import seen
from ..arrays.rows import slices
from ..arrays.special import diagonal
from ..networks.convergence import ROUNDING, settled
from ..networks.training import TrainingError, not_finite
from . import linear_gaussian
from .linear_gaussian import canonical
from .missing import latent_moments, observed_e_step, observed_m_step, observed_statistics


class Parameters(NamedTuple):
    """W (K, D), b (D,) less the data's mean, psi (D,)."""

    W: object
    b: object
    psi: object


class Fit(NamedTuple):
    """Where EM stands after an E-step: the parameters, the mean Q after each so far, whether it is at rest,
    and the `LongerSteps` that led there.
    """

    p: Parameters
    path: list
    converged: bool
    steps: object = None


def em(problem, p, *, tol, begun=None):
    """EM from the parameters p until it has come to rest: yields a `Fit` after every E-step.

    problem  `Complete`, `Incomplete`, or another with their steps
    begun    None, or the `Fit` to go on from, in place of p: it comes first again
    Q never rises, beyond rounding: each part of a step minimises it, the M-step within the bounds of Ψ
    (2.36), (9.17). With the posterior itself for q it is nlml. Raises TrainingError where Q stops being a
    finite number.
    """
    if begun is None:
        path, steps, p = [], LongerSteps(), problem.turned(p)
    else:
        path, steps, p = begun.path[:-1], begun.steps, begun.p     # the last Q is that of p
    while True:
        stats, Q = problem.e_step(p)
        if not steps.accept(Q, path):
            p = problem.turned(steps.taken_back())
            continue
        if not math.isfinite(Q):
            raise TrainingError(
                f"Q became {Q} in the E-step of iteration {len(path)} of EM: the first that is not finite is "
                f"{not_finite(p._asdict()) or 'Q itself'}; look for columns with a few huge entries",
                begun,
            )
        path.append(Q)
        converged = settled(path, tol)
        begun = Fit(p, path, converged, steps)
        yield begun
        if converged:
            return
        p = problem.turned(steps.take(problem, p, stats))


class LongerSteps:
    """Steps that go past the M-step of the wider model (2.24), each 1.1 times as far as the last; in ψ_d only
    as long as it keeps its direction. Where Q rose the step is taken back, and that M-step's own is taken in
    its place (Salakhutdinov & Roweis 2003).
    """

    def __init__(self):
        self.own, self.is_longer = None, False
        self.length, self.lengths = 1.0, 1.0                       # of W and b; of every ψ_d
        self.before = 0.0                                          # the last step of log ψ, (D,)

    def accept(self, Q, path):
        """Whether Q, after the last step, is no higher than before it."""
        return not self.is_longer or Q <= path[-1] + ROUNDING * abs(path[-1])

    def taken_back(self):
        """The `Parameters` of the M-step's own step, in place of the longer one."""
        xp = namespace(self.lengths)
        self.is_longer, self.length = False, 1.0
        self.lengths = xp.where(self.lengths > 2, 0.5 * self.lengths, xp.ones_like(self.lengths))
        return self.own

    def take(self, problem, p, stats):
        """The `Parameters` after a step from p, given the statistics there."""
        own = problem.widened(problem.m_step(stats), stats)
        self.own, self.is_longer = own, True
        xp = namespace(own.psi)
        step = xp.log(own.psi) - xp.log(p.psi)
        same_way = step * self.before > 0
        self.length = LENGTHENING * self.length
        self.lengths = xp.where(same_way, LENGTHENING * self.lengths, xp.ones_like(step))
        self.before = step
        far = xp.clip(self.lengths * step, -3.0, 3.0)              # no ψ_d by more than a factor of e³
        W = p.W + self.length * (own.W - p.W)                      # (K, D)                (2.26)
        b = p.b + self.length * (own.b - p.b)                      # (D,)                  (2.26)
        psi = p.psi * xp.exp(far)                                  # (D,)                  (2.26)
        return own._replace(W=W, b=b, psi=problem.floored(psi))


LENGTHENING = 1.1                      # of a step over the one before


@dataclass(frozen=True)
class Complete:
    """The two steps for complete data, of which the covariance S (D, D) says all.

    likelihood  the Gaussian;  lower  the floor of its Ψ, from `lower_bounds`, or None
    family      None: q is the posterior; else a family of `posteriors`, and q its member closest to that
    """

    S: object
    likelihood: object
    lower: object = None
    family: object = None

    def e_step(self, p):
        """The `Statistics` of the centred data, and the mean Q                 (2.7), (2.8), (2.25)."""
        stats, Q = linear_gaussian.e_step_moments(p.W, p.psi, self.S, self.family)
        return stats, float(Q)

    def m_step(self, stats):
        """The `Parameters` of least Q                                                (2.11), (2.12)."""
        W, b, mean_square = linear_gaussian.m_step(stats)
        return Parameters(W, b, self.floored(mean_square))

    def widened(self, p, stats):
        """The `Parameters` p of an M-step as that of the wider model has them                  (2.24)."""
        W, b = linear_gaussian.expanded(p.W, p.b, stats.z, stats.zz)
        return Parameters(W, b, p.psi)

    def turned(self, p):
        """The `Parameters` of the rotation of z with the least Q                               (2.28)."""
        return p if self.family is None else p._replace(W=canonical(p.W, p.psi))

    def floored(self, psi):
        """psi (D,), as the likelihood's noise is, at or above its floor."""
        return self.likelihood.psi(self.likelihood.m_step(psi, self.lower), like=psi)


class Incomplete:
    """The two steps for data cases with missing entries, which are gone through block by block.

    data     x (N, D) about its mean, read as data[rows, …], each an `Observed`; each rank has its own, and a
             round sends one message
    weights  (N,) of mean 1: how often each data case counts; once where None
    likelihood, lower, family  as in `Complete`
    """

    def __init__(self, data, likelihood, lower=None, family=None, weights=None):
        self.data, self.likelihood = data, likelihood
        self.lower, self.family, self.weights = lower, family, weights
        # Correlations of columns that are filled with their means are too small, which does for a start.
        products = sum((w[:, None] * x).T @ x for x, _, w in self.blocks())
        counts = sum(w @ mask for _, mask, w in self.blocks())
        self.comm, self.n_cases = ranks.of(data), ranks.places(data).n_cases
        products, counts = ranks.total(self.comm, (products, counts))
        self.S, self.share = products / self.n_cases, counts / self.n_cases
        self.whole = bool(namespace(counts).all(self.share > 1 - 1e-12))  # nothing is missing after all

    def blocks(self):
        """x (n, D), 0 where it is missing, the mask (n, D) and the weights (n,) of every block."""
        for rows in slices(self.data.shape[0]):
            x, mask = seen(self.data[rows, ...])
            ones = namespace(x).ones_like(x[:, 0])
            yield x * mask, mask, ones if self.weights is None else self.weights[rows]

    def e_step(self, p):
        """The `ObservedStatistics` of all data cases, and the mean Q."""
        sums, total = None, 0.0
        for x, mask, w in self.blocks():
            mean, covariance, Q = self._best_q(p, x, mask)
            part = observed_statistics(mean, covariance, x, mask, w)  #                    (2.22)
            sums = part if sums is None else type(part)(*(a + c for a, c in zip(sums, part)))
            total = total + w @ Q
        sums, total = ranks.total(self.comm, (sums, constant([0.0], like=sums.xx) + total))
        return sums, float(total[0]) / self.n_cases

    def _best_q(self, p, x, mask):
        """The mean (n, K) and covariance (n, K, K) of the best q of each data case, and Q (n,)."""
        if self.family is None:
            return observed_e_step(*p, x, mask)                    #               (2.20), (2.21)
        phi = self.family.closest(*linear_gaussian.posterior(*p, x, mask))  #      (2.19), (2.10)
        Q = linear_gaussian.bound(*p, phi, self.family, x, mask)
        return self.family.mean(phi), self.family.covariance(phi), Q

    def m_step(self, sums):
        """The `Parameters` of least Q                                                         (2.23)."""
        W, b, mean_square = observed_m_step(sums)
        return Parameters(W, b, self.floored(mean_square))

    def widened(self, p, sums):
        """The `Parameters` p of an M-step as that of the wider model has them, but as they are where a family
        may lack what its q become then                                                        (2.24).
        """
        if self.family is not None and not self.whole:
            return p
        W, b = linear_gaussian.expanded(p.W, p.b, *latent_moments(sums))
        return Parameters(W, b, p.psi)

    def turned(self, p):
        """The same where entries are missing: no one rotation suits the posteriors of all data cases."""
        return p if self.family is None or not self.whole else p._replace(W=canonical(p.W, p.psi))

    def floored(self, psi):
        """psi (D,), as the likelihood's noise is, at or above its floor."""
        return self.likelihood.psi(self.likelihood.m_step(psi, self.lower, self.share), like=psi)


def fit(problem, n_latent, draws, *, tol, max_iter, every, progress=None, begun=None, after=None):
    """The `Fit` at the end of EM from the best of several starts, one for each of `draws` (D, K).

    begun  None, or the `Fit` to go on from, in place of all starts
    The rest as in `race`.
    """
    if begun is not None:
        run = em(problem, None, tol=tol, begun=begun)
        return to_the_end(run, next(run), max_iter=max_iter, progress=progress, after=after)
    begun = starts(problem.S, n_latent, problem.likelihood, draws, problem.lower)
    zero = namespace(problem.S).zeros_like(problem.S[0, :])
    runs = (em(problem, Parameters(W, zero, psi), tol=tol) for W, psi in begun)
    return race(runs, tol=tol, max_iter=max_iter, every=every, progress=progress, after=after)


def race(runs, *, tol, max_iter, every, progress=None, after=None):
    """The `Fit` at the end of the best of several runs of EM.

    runs      iterators, one for each start, that yield a `Fit` after every E-step and end where one has
              converged; each keeps one growing path of its own
    every     whether all of them are raced; else none but the first where that converges within `RACE` steps
    progress  progress(iteration, max_iter, Q, p) of the run that wins, or None; its first steps once that is
              known, all with the p where they led. Where it returns True EM ends, and converged is None
    after     after(fit) with each `Fit` of the run that wins, from when that is known, or None

    Each goes `RACE` steps, and the one that is lowest then goes on to the end, the first of those that are
    equal to within tol.
    """
    runs, lap = iter(runs), min(RACE, max_iter)
    leader = next(runs)
    best = _last(islice(leader, lap + 1))
    for run in () if best.converged and not every else runs:
        end = _last(islice(run, lap + 1))
        if end.path[-1] < best.path[-1] - tol:
            leader, best = run, end
    if after is not None:
        after(best)
    for iteration, Q in enumerate(best.path if progress is not None else ()):
        if progress(iteration, max_iter, Q, best.p):
            return best._replace(converged=None)
    return to_the_end(leader, best, max_iter=max_iter, progress=progress, after=after)


def to_the_end(run, best, *, max_iter, progress, after):
    """The `Fit` at the end of a run of EM, of which `best` was the last; the rest as in `race`."""
    for best in islice(run, max(0, max_iter + 1 - len(best.path))):
        if after is not None:
            after(best)
        if progress is not None and progress(len(best.path) - 1, max_iter, best.path[-1], best.p):
            return best._replace(converged=None)
    return best


def _last(items):
    for item in items:
        pass
    return item


STARTS = 4                             # how many are raced where no number was given
RACE = 100                             # steps of EM, after which the best of several starts is chosen


def starts(S, n_latent, likelihood, draws, lower=None):
    """Starts (W, psi) for EM from the covariance S (D, D), one for each of `draws`, standard normal (D, K).

    With a learnt diagonal Ψ the likelihood can have several maxima, so starts of two kinds take turns. An
    isotropic or fixed Ψ has one maximum, and one start, which is that maximum if S is of complete data.
    """
    if likelihood.noise != "diagonal":
        yield start(S, n_latent, likelihood, None, lower)
        return
    for place, draw in enumerate(draws):
        kind = regression_start if place % 2 == 0 else start
        yield kind(S, n_latent, likelihood, draw, lower)


def regression_start(S, n_latent, likelihood, draw, lower=None):
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
    uniqueness = (1 - 0.5 * n_latent / D) / xp.sum(inverse * inverse, axis=0)  # diag(L⁻ᵀL⁻¹) (2.27)
    root = xp.sqrt(uniqueness)
    V, explained = _leading(R / (root[:, None] * root), draw)      # 1 where there is no factor
    excess = xp.where(explained > 1.1, explained - 1, xp.zeros_like(explained) + 0.1)
    W = (V * xp.sqrt(excess)).T * (root * sd)                      # (K, D)               (2.27)
    return W, likelihood.psi(likelihood.m_step(uniqueness * variance, lower), like=W)


def start(S, n_latent, likelihood, draw, lower=None):
    """A start (W, psi) for EM from the covariance S (D, D); draw (D, K) is standard normal.

    psi lies at or above `lower`, from `likelihood.lower_bounds`, where given.

    A learnt diagonal Ψ: a few power iterations on the correlation matrix            (2.15).
    Scaling to correlations keeps one loud column from taking a factor for itself, and stopping
    early from a random start leaves no symmetry for EM to be caught in.
    An isotropic or fixed Ψ: the maximum itself of complete data, which is known in closed form (Tipping &
    Bishop 1999)                                                                     (2.16).
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
        W = vectors[:, :n_latent].T * xp.sqrt(excess)[:, None]     # (K, D)               (2.16)
        # K factors explain data of rank K completely: σ² would be 0
        return W, likelihood.psi(likelihood.m_step(xp.zeros_like(variance) + sigma2, lower), like=W)

    sd = xp.sqrt(variance)
    R = S / (sd[:, None] * sd)
    V, explained = _leading(R, draw)
    left = (D - float(xp.sum(explained))) / max(D - n_latent, 1)   # the other directions' mean
    excess = xp.where(explained - left > 0.1, explained - left, xp.zeros_like(explained) + 0.1)
    W = (V * xp.sqrt(excess)).T                                    # (K, D), over sd      (2.15)
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
