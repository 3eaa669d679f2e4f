"""The one training loop: minibatches through an optimiser, or the full batch through L-BFGS.

Both work on params, a tree packed into one flat vector, and on a function

    objective(params, rows) → (mean_Q, grads)

that returns the mean of Q over the data cases `rows` (a host array of places, or a slice) and its
gradient, shaped like params. Neither knows what is being trained. On several ranks an objective returns what
the data cases of its own add to that mean, and one message a step sums it over the ranks.
"""

import math

from ..arrays import ranks, tree
from ..arrays.backend import keep_freed_memory, namespace
from ..arrays.rows import blocks
from .optimizers import lbfgs


class TrainingError(ArithmeticError):
    """The objective stopped being a finite number; the message says where and what to try."""


def minibatches(
    objective, params, n_cases, *, optimizer, epochs, batch_size, rng, lower=None, state=None, progress=None,
    comm=ranks.SERIAL,
):
    """Train for `epochs` passes over shuffled minibatches. Returns (params, path, state).

    params    a tree; it is copied, the trained tree is returned
    rng       a numpy Generator for the shuffling
    lower     a tree shaped like params of bounds from below, applied after each step, or None
    state     the optimiser's state from an earlier call, or None
    progress  progress(epoch, epochs, mean_Q, params) after each epoch, or None; where it returns True,
              training ends
    comm      from `ranks`. All ranks shuffle all n_cases, with the same rng
    path      the mean of the objective over each epoch's batches, weighted by their sizes

    Raises TrainingError where the objective becomes NaN or infinite.
    """
    keep_freed_memory()
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
            value, summed = ranks.total(comm, (value, flat_grad))
            optimizer.step(flat, summed, state)
            if flat_lower is not None:
                flat[...] = xp.maximum(flat, flat_lower)
            total = total + value * (len(rows) / n_cases)
        path.append(float(total))
        comm.same({"the parameters": flat}, f"after epoch {epoch + 1} of training")
        if not math.isfinite(path[-1]):
            raise TrainingError(
                f"the objective became {path[-1]} in epoch {epoch + 1} of {epochs}; "
                "a smaller learning_rate usually helps"
            )
        if progress is not None and progress(epoch + 1, epochs, path[-1], params):
            break
    return params, path, state


def full_batch(
    objective, params, n_cases, *, max_iter, tol, n_samples=1, lower=None, memory=30, progress=None,
    comm=ranks.SERIAL,
):
    """Train a deterministic objective to its minimum with L-BFGS. Returns (params, path, converged).

    The data cases are walked through in blocks that suit n_samples samples per case, so memory is
    bounded. `lower`, `progress`, `comm` and `path` are as in `minibatches`, with iterations for epochs, and
    n_cases of them are on this rank; tol and memory are those of `lbfgs`; converged is None where `progress`
    has ended it.
    """
    keep_freed_memory()
    flat, params = tree.pack(params)
    flat_lower = None if lower is None else tree.flatten(lower, params)
    evaluations, ended, of_all = 0, False, sum(comm.gather(n_cases))

    def whole(vector):
        nonlocal evaluations, ended
        comm.same({"the parameters": vector}, f"in evaluation {evaluations + 1} of the objective")
        flat[...] = vector
        value, grad = 0.0, None
        for rows in blocks(n_cases, n_samples):
            share = (rows.stop - rows.start) / of_all
            part, grads = objective(params, rows)
            value = value + share * part
            grad_part = share * tree.flatten(grads, params)
            grad = grad_part if grad is None else grad + grad_part
        value, grad = ranks.total(comm, (value, grad))
        evaluations += 1
        value = float(value)                                       # a GPU is waited for, once
        if not math.isfinite(value):
            raise TrainingError(f"the objective became {value} in evaluation {evaluations}")
        if progress is not None:
            ended = bool(progress(min(evaluations, max_iter), max_iter, value, params)) or ended
        return value, grad

    path, converged, _ = lbfgs(
        whole, flat, lower=flat_lower, max_iter=max_iter, tol=tol, memory=memory, ended=lambda: ended
    )
    return params, path, None if ended else converged


def nothing(params):
    """What an objective of params returns for no data cases: 0, and a gradient of zeros."""
    zeros = tree.map(lambda leaf: namespace(leaf).zeros_like(leaf), params)
    _, leaf = tree.leaves(zeros)[0]
    return namespace(leaf).sum(leaf), zeros


def no_lower_bound(params):
    """A tree like params of −∞: no bound from below."""
    return tree.map(lambda leaf: namespace(leaf).zeros_like(leaf) - math.inf, params)
