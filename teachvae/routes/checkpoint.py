"""A training in a file as it stands after its last whole epoch, from which the same fit goes on.

The file is a saved estimator, which `teachvae.load` reads, with the training beside it: parameters in the
units in which they are trained, the optimiser's moments, the random generators, φ, the path. So a fit that
was ended in whatever way, and begun anew, comes to the same bits as one that was not.
"""

from contextlib import contextmanager
from copy import copy, deepcopy
import hashlib
import math
import os
import time

import numpy as np

from ..arrays import store, tree
from ..arrays.rows import slices
from ..inference.em import LongerSteps
from ..networks.training import Run
from . import persistence

SECONDS = 2.0                          # at least, from one writing to the next
FREE = {"comm", "epochs", "max_iter", "n_jobs"}  # hyper-parameters in which two parts of a fit may differ


class CheckpointError(ValueError):
    """A checkpoint belongs to another fit; the message says in what they differ."""


class Checkpoint:
    """The file of one fit.

    file       a path, or None: then nothing is read or written
    estimator  the one that is fitted
    data       {name: array, table or None} of all that fit was given, such as X

    Raises CheckpointError, a ValueError, where the file belongs to another fit, ValueError on several ranks,
    TypeError where the estimator has no place in a file, and FileError and OSError as `teachvae.load` does.
    """

    def __init__(self, file, estimator, data):
        self.file, self.state, self.written = file, None, -math.inf
        if file is None:
            return
        if getattr(estimator, "comm", None) is not None and estimator.comm.size > 1:
            raise ValueError(
                f"a checkpoint is of one process, this fit runs on {estimator.comm.size} ranks: leave it out"
            )
        self.belongs = _belongs(estimator, data)
        if os.path.exists(file):
            self.state = self._read()

    def _read(self):
        values = store.read(self.file, persistence.PARTS, only=("training", "belongs"))
        if set(values) != {"training", "belongs"}:
            raise CheckpointError(
                f"{self.file} holds no training that could be gone on with: give checkpoint= another file"
            )
        there = values["belongs"]
        differences = [
            f"{name} is {here} here, and {there.get(name, ['not there'])[0]} there"
            for name, (here, mark) in self.belongs.items()
            if there.get(name, [None, None])[1] != mark
        ]
        more = sorted(set(there) - set(self.belongs))
        differences += [f"{name} is not given here, and is {there[name][0]} there" for name in more]
        if differences:
            raise CheckpointError(
                f"{self.file} belongs to another fit: {'; '.join(differences)}. It is left as it is: give "
                "checkpoint= another file, or go on with the fit that it belongs to"
            )
        return values["training"]

    def begun(self, backend):
        """The state that was written, with its arrays on a `Backend`, or None."""
        return None if self.state is None else on_backend(self.state, backend)

    def lead_back(self, run, backend):
        """Make a `training.Run` that is about to begin the one that was written, where there is one.

        Its generators go on in place, so whoever holds them sees it.
        """
        if self.state is None:
            return
        for name, generator in run.generators.items():
            generator.bit_generator.state = self.state.generators[name].bit_generator.state
        saved = on_backend(self.state, backend)
        for name in ("params", "optimizer", "path", "table", "held_out_path", "best"):
            setattr(run, name, getattr(saved, name))

    @contextmanager
    def kept(self, estimator_of, report=None):
        """What is to be called after every whole epoch, after(state), or None: it takes a copy of the state,
        has it written from time to time, and at last when the block is left, in whatever way, and returns
        report(state).

        estimator_of  state → the estimator as it then stands
        """
        if self.file is None:
            yield report
            return
        waiting = False

        def write():
            nonlocal waiting
            self.write(estimator_of(self.state))
            self.written, waiting = time.monotonic(), False

        def after(state):
            nonlocal waiting
            self.state, waiting = deepcopy(state), True
            if time.monotonic() - self.written >= SECONDS:
                write()
            return report is not None and report(state)

        try:
            yield after
        finally:
            if waiting:
                write()

    def write(self, estimator):
        """Write the estimator, and beside it the training as it stood after the last whole epoch."""
        if self.file is not None:
            persistence.save(estimator, self.file, training=self.state, belongs=self.belongs)


def on_backend(state, backend, dtype=None):
    """A state with its arrays on a `Backend`, in a dtype, or each in its own."""
    def there(leaf):
        if type(leaf) in (Run, LongerSteps):
            moved = copy(leaf)
            vars(moved).update(tree.map(there, vars(leaf)))
            return moved
        return backend.asarray(leaf, dtype or leaf.dtype.name) if isinstance(leaf, np.ndarray) else leaf

    return tree.map(there, state)


def _belongs(estimator, data):
    """{what a fit is known by: [in words, its sha256]}."""
    marks = {"the class": type(estimator).__name__, **persistence.plain_parameters(estimator)}
    marks = {name: value for name, value in marks.items() if name not in FREE}
    asked = {name: [repr(value)[:80], store.fingerprint(value)] for name, value in marks.items()}
    return asked | {name: _of_data(x) for name, x in data.items() if x is not None}


def _of_data(x):
    """[in words, sha256] of data cases on the host, an array or a mapped file, read block by block."""
    sha256 = hashlib.sha256(f"{x.shape} {x.dtype}".encode())
    for rows in slices(x.shape[0]):
        sha256.update(np.ascontiguousarray(x[rows]).data)
    return [f"{' × '.join(map(str, x.shape))} numbers, sha256 {sha256.hexdigest()[:8]}…", sha256.hexdigest()]
