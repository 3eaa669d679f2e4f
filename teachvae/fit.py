"""The one training loop: minibatches through an optimiser, or the full batch through L-BFGS.

Both work on params, a tree packed into one flat vector, and on a function

    objective(params, rows) → (mean_Q, grads)

that returns the mean of Q over the data cases `rows` (a host array of places, or a slice) and its
gradient, shaped like params. Neither knows what is being trained.
"""

from itertools import islice
import math

from . import tree
from .backend import namespace
from .infer import blocks
from .optimizers import lbfgs


class ConvergenceWarning(UserWarning):
    """A search stopped before it reached its tolerance."""


class TrainingError(ArithmeticError):
    """The objective stopped being a finite number; the message says where and what to try."""


def minibatches(
    objective, params, n_cases, *, optimizer, epochs, batch_size, rng, lower=None, state=None, progress=None
):
    """Train for `epochs` passes over shuffled minibatches. Returns (params, path, state).

    params    a tree; it is copied, the trained tree is returned
    rng       a numpy Generator for the shuffling
    lower     a tree shaped like params of bounds from below, applied after each step, or None
    state     the optimiser's state from an earlier call, or None
    progress  progress(epoch, epochs, mean_Q) after each epoch, or None
    path      the mean of the objective over each epoch's batches, weighted by their sizes

    Raises TrainingError where the objective becomes NaN or infinite.
    """
    flat, params = tree.pack(params)
    flat_grad, grad = tree.pack(params)                            # one vector for the gradients of all steps
    flat_lower = None if lower is None else tree.flatten(lower, params)
    xp = namespace(flat)
    state = optimizer.init(flat) if state is None else state
    path = []
    for epoch in range(epochs):
        order = rng.permutation(n_cases)
        total = xp.zeros_like(flat[0])                             # stays on the device
        for start in range(0, n_cases, batch_size):
            rows = order[start : start + batch_size]
            value, grads = objective(params, rows)
            tree.write(grads, grad)
            optimizer.step(flat, flat_grad, state)
            if flat_lower is not None:
                flat[...] = xp.maximum(flat, flat_lower)
            total = total + value * (len(rows) / n_cases)
        path.append(float(total))
        if not math.isfinite(path[-1]):
            raise TrainingError(
                f"the objective became {path[-1]} in epoch {epoch + 1} of {epochs}; "
                "a smaller learning_rate usually helps"
            )
        if progress is not None:
            progress(epoch + 1, epochs, path[-1])
    return params, path, state


def full_batch(
    objective, params, n_cases, *, max_iter, tol, n_samples=1, lower=None, memory=30, progress=None
):
    """Train a deterministic objective to its minimum with L-BFGS. Returns (params, path, converged).

    The data cases are walked through in blocks that suit n_samples samples per case, so memory is
    bounded. `lower`, `progress` and `path` are as in `minibatches`, with iterations for epochs; tol and
    memory are those of `lbfgs`.
    """
    flat, params = tree.pack(params)
    flat_lower = None if lower is None else tree.flatten(lower, params)
    evaluations = 0

    def whole(vector):
        nonlocal evaluations
        flat[...] = vector
        value, grad = 0.0, None
        for rows in blocks(n_cases, n_samples):
            share = (rows.stop - rows.start) / n_cases
            part, grads = objective(params, rows)
            value = value + share * part
            grad_part = share * tree.flatten(grads, params)
            grad = grad_part if grad is None else grad + grad_part
        evaluations += 1
        if not math.isfinite(float(value)):
            raise TrainingError(f"the objective became {float(value)} in evaluation {evaluations}")
        if progress is not None:
            progress(min(evaluations, max_iter), max_iter, float(value))
        return value, grad

    path, converged, _ = lbfgs(whole, flat, lower=flat_lower, max_iter=max_iter, tol=tol, memory=memory)
    return params, path, converged


def no_lower_bound(params):
    """A tree like params of −∞: no bound from below."""
    return tree.map(lambda leaf: namespace(leaf).zeros_like(leaf) - math.inf, params)


def remaining(path):
    """The decrease still to come of a linearly converging path, extrapolated                (6.6).

    The last two decreases d₁, d₂, each over a twentieth of the path, shrink by r = d₂/d₁; the rest is
    the geometric series d₂ r/(1 − r). Infinite while the decreases grow, and where the path rises; 0
    where d₂ is rounding.
    """
    if len(path) < 3:
        return math.inf
    w = max(1, len(path) // 20)                                    # longer steps drown less in rounding
    d1, d2 = path[-1 - 2 * w] - path[-1 - w], path[-1 - w] - path[-1]
    if d2 < -1e-9 * (1 + abs(path[-1])):
        return math.inf
    if d2 <= ROUNDING * abs(path[-1]):
        return 0.0
    if d2 >= d1:
        return math.inf
    return d2 * d2 / (d1 - d2)


ROUNDING = 1e-14                       # of a mean over data cases in float64, beside its value


def settled(path, tol):
    """Whether a path has come to rest: its last quarter fell, and what is to come will fall, by less than tol.

    The extrapolation alone sees the fast part of a path and misses a slow one behind it, and after one
    huge step it promises too much.
    """
    return remaining(path) < tol and path[-1 - max(1, len(path) // 4)] - path[-1] < tol


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
