"""The one training loop: minibatches through an optimiser, or the full batch through L-BFGS.

Both take a `Run`, a training as it stands, and lead it on; what they train is a tree packed into one flat
vector, by a function

    objective(params, rows) → (mean_Q, grads)

that returns the mean of Q over the data cases `rows` (a host array of places, or a slice) and its
gradient, shaped like params. Neither knows what is being trained. On several ranks an objective returns what
the data cases of its own add to that mean, and one message a step sums it over the ranks.
"""

from collections.abc import Callable
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
import math
from typing import NamedTuple

from ..arrays import ranks, tree
from ..arrays.backend import constant, is_on_host, keep_freed_memory, namespace, to_numpy
from ..arrays.rows import blocks
from .optimizers import lbfgs


class TrainingError(ArithmeticError):
    """A number that training needs stopped being finite; the message says where, which, and what to try.

    last  of EM, what the iteration before had led to, None where there was none
    """

    def __init__(self, message, last=None):
        super().__init__(message)
        self.last = last


class Best(NamedTuple):
    """The lowest held-out value so far, the epoch after which it was (counted from 1), and what had it."""

    value: float
    epoch: int
    params: object
    table: object


@dataclass
class Run:
    """A training as it stands after an epoch, a round or an iteration: all that it takes to go on from there.

    params          the tree that is trained
    generators      {name: numpy Generator} of all that is still to be drawn; whoever draws, draws from these
    optimizer       the optimiser's state, None before the first step, and always with L-BFGS
    path            the mean of the objective in each epoch
    table           {name: array} of what is kept for every data case besides, as variational EM's φ
    held_out_path   the held-out value after each epoch, where there is one
    best            the `Best` of them, or None
    converged       whether it has come to its end by itself, as L-BFGS does
    """

    params: object
    generators: dict = field(default_factory=dict)
    optimizer: object = None
    path: list = field(default_factory=list)
    table: dict = field(default_factory=dict)
    held_out_path: list = field(default_factory=list)
    best: Best | None = None
    converged: bool = False

    def copied(self):
        """The same, which stays as it is while this one is led on."""
        return replace(
            self,
            params=_copy(self.params),
            generators=deepcopy(self.generators),
            optimizer=deepcopy(self.optimizer),
            path=list(self.path),
            table=_copy(self.table),
            held_out_path=list(self.held_out_path),                # what is best is replaced, never changed
        )

    @property
    def kept(self):
        """The parameters to keep: those of the lowest held-out value, or of the last epoch."""
        return self.params if self.best is None else self.best.params

    @property
    def kept_table(self):
        """The table that belongs to them."""
        return self.table if self.best is None else self.best.table

    @property
    def judged(self):
        """The path that says whether going on is of use: the held-out one, where there is one."""
        return self.held_out_path or self.path


@dataclass(frozen=True)
class HeldOut:
    """What is measured on held-out data after every epoch, and how long without a new best is waited for.

    value     run → float, lower is better, without noise from one call to the next
    patience  training ends after so many epochs without a new best; None: it does not
    """

    value: Callable
    patience: int | None = None

    def measure(self, run):
        """Add the held-out value to the run's path, and keep what has the lowest. Raises TrainingError where
        it is NaN; one that overflows is no best.
        """
        value = float(self.value(run))
        run.held_out_path.append(value)
        if math.isnan(value):
            raise TrainingError(
                f"the held-out value became nan in epoch {len(run.path)}, where that of training is finite: "
                "look for held-out data unlike the training data"
            )
        if value < (math.inf if run.best is None else run.best.value):
            run.best = Best(value, len(run.held_out_path), _copy(run.params), _copy(run.table))


def exhausted(run, held_out):
    """Whether the patience of `held_out`, which may be None, is at its end."""
    if held_out is None or held_out.patience is None or run.best is None:
        return False
    return len(run.held_out_path) - run.best.epoch >= held_out.patience


def ended(run, held_out, after):
    """What follows an epoch: the held-out value, then after(run). Returns whether training ends here."""
    if held_out is not None:
        held_out.measure(run)
    told = after is not None and bool(after(run))
    return told or exhausted(run, held_out)


def minibatches(
    objective, run, n_cases, *, optimizer, epochs, batch_size, rate=None, lower=None, held_out=None,
    after=None, comm=ranks.SERIAL,
):
    """Lead `run` on over shuffled minibatches until its path has `epochs` epochs. Returns the run.

    run       a `Run` with a generator "shuffle"; its params are copied, not changed in place
    rate      a function of the epoch of the path, counted from 1: a learning rate that takes the place of the
              optimiser's; or None
    lower     a tree shaped like params of bounds from below, applied after each step, or None
    held_out  a `HeldOut`, or None
    after     after(run) is called after each epoch, or None; where it returns True, training ends
    comm      from `ranks`. All ranks shuffle all n_cases, with the same rng
    path      the mean of the objective over each epoch's batches, weighted by their sizes

    Raises TrainingError where the objective, or a parameter, becomes NaN or infinite; the run then has the
    parameters that it had after the last epoch that was finished.
    """
    keep_freed_memory()
    flat, run.params = tree.pack(run.params)
    flat_grad, grad = tree.pack(run.params)                        # one vector for the gradients of all steps
    flat_lower = None if lower is None else tree.flatten(lower, run.params)
    xp = namespace(flat)
    if run.optimizer is None:
        run.optimizer = optimizer.init(flat)
    while len(run.path) < epochs and not exhausted(run, held_out):
        epoch = f"epoch {len(run.path) + 1} of {epochs}"
        if rate is not None:
            optimizer = replace(optimizer, learning_rate=rate(len(run.path) + 1))
        order = run.generators["shuffle"].permutation(n_cases)
        values, shares = [], []
        with undone(flat):
            for start in range(0, n_cases, batch_size):
                rows = order[start : start + batch_size]
                value, grads = objective(run.params, rows)
                tree.write(grads, grad)
                value, summed = ranks.total(comm, (value, flat_grad))
                values.append(value)
                shares.append(len(rows) / n_cases)
                if is_on_host(value) and not math.isfinite(value):  # a device is waited for once, at the end
                    _diverged(f"{became(value)} in batch {len(values)} of {epoch}", run.params, grad)
                optimizer.step(flat, summed, run.optimizer)
                if flat_lower is not None:
                    flat[...] = xp.maximum(flat, flat_lower)
            # One message from the device: what every batch had, and whether all parameters are numbers.
            sound = xp.min(xp.astype(xp.isfinite(flat), flat.dtype))
            *told, sound = to_numpy(xp.stack([*values, sound])).tolist()
            for batch, value in enumerate(told, 1):
                if not math.isfinite(value):
                    _diverged(f"{became(value)} in batch {batch} of {epoch}", run.params, grad)
            if not sound:
                _diverged(f"the parameters left the finite numbers in {epoch}", run.params, grad)
            comm.same({"the parameters": flat}, f"after epoch {len(run.path) + 1} of training")
        run.path.append(sum(share * value for share, value in zip(shares, told)))
        if ended(run, held_out, after):
            break
    return run


def full_batch(
    objective, run, n_cases, *, max_iter, tol, n_samples=1, lower=None, memory=30, held_out=None, after=None,
    comm=ranks.SERIAL,
):
    """Lead `run` to the minimum of a deterministic objective with L-BFGS. Returns whether it got there, None
    where `held_out` or `after` has ended it.

    The data cases are walked through in blocks that suit n_samples samples per case, so memory is bounded.
    `run`, `lower`, `held_out`, `after`, `comm` and the error are as in `minibatches`, with iterations for
    epochs, and n_cases of them are on this rank; tol and memory are those of `lbfgs`. A run that is given
    back starts with no curvature remembered.
    """
    if run.converged:                                              # it was given back at its end
        return True
    if len(run.path) >= max_iter:
        return False
    if exhausted(run, held_out):
        return None
    keep_freed_memory()
    flat, run.params = tree.pack(run.params)
    flat_lower = None if lower is None else tree.flatten(lower, run.params)
    finished, of_all = flat + 0, sum(comm.gather(n_cases))
    evaluated, stopped = None, False

    def whole(vector):
        nonlocal evaluated
        where = f"iteration {len(run.path) + 1}"
        comm.same({"the parameters": vector}, f"in {where} of L-BFGS")
        flat[...] = vector
        value, grad = 0.0, None
        for rows in blocks(n_cases, n_samples):
            share = (rows.stop - rows.start) / of_all
            part, grads = objective(run.params, rows)
            value = value + share * part
            grad_part = share * tree.flatten(grads, run.params)
            grad = grad_part if grad is None else grad + grad_part
        value, grad = ranks.total(comm, (value, grad))
        value = float(value)                                       # a GPU is waited for, once
        if not math.isfinite(value):
            _diverged(f"{became(value)} in {where}", run.params, tree.views(grad, run.params))
        evaluated = value
        return value, grad

    def iterated(value, vector):
        nonlocal stopped
        if value != evaluated:                                     # else flat is where the iteration ended
            flat[...] = constant(vector, like=flat)
        finished[...] = flat
        run.path.append(value)
        stopped = ended(run, held_out, after)
        return stopped

    try:
        _, converged, _ = lbfgs(
            whole, flat, lower=flat_lower, max_iter=max_iter - len(run.path), tol=tol, memory=memory,
            after=iterated,
        )
    except BaseException:                                          # at a trial point
        flat[...] = finished
        raise
    run.converged = converged and not stopped
    return None if stopped else converged


@contextmanager
def undone(flat):
    """What becomes of the vector flat in the block is undone where an exception leaves the block."""
    before = flat + 0
    try:
        yield
    except BaseException:                                          # Ctrl-C too
        flat[...] = before
        raise


def _diverged(what, params, grad):
    """Raise the TrainingError that begins with `what` and names the first of the numbers that is not finite.
    """
    wrong, of = not_finite(params), ""
    if wrong is None:
        wrong, of = not_finite(grad), "'s gradient, all parameters being finite"
    named = "the parameters and their gradient are finite" if wrong is None else (
        f"the first that is not finite is {wrong}{of}"
    )
    raise TrainingError(
        f"{what}: {named}; a smaller learning_rate usually helps, and `gradcheck.part` tries a part of "
        "your own"
    )


def became(value):
    """The words for a value that is not finite."""
    return f"the objective became {float(value)}"


def not_finite(params):
    """The path of the first leaf with an entry that is not finite, such as recognition[0].W, or None."""
    for path, leaf in tree.leaves(params):
        if not bool(namespace(leaf).all(namespace(leaf).isfinite(leaf))):
            return path or "the array itself"
    return None


def _copy(params):
    return tree.map(lambda leaf: leaf + 0, params)


def nothing(params):
    """What an objective of params returns for no data cases: 0, and a gradient of zeros."""
    zeros = tree.map(lambda leaf: namespace(leaf).zeros_like(leaf), params)
    _, leaf = tree.leaves(zeros)[0]
    return namespace(leaf).sum(leaf), zeros


def no_lower_bound(params):
    """A tree like params of −∞: no bound from below."""
    return tree.map(lambda leaf: namespace(leaf).zeros_like(leaf) - math.inf, params)
