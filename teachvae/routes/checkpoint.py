"""Checkpoints: the file of a training as it stood after its last whole epoch, from which the fit goes on.

The file is a saved estimator, which `teachvae.load` reads, with the training beside it: parameters in the
units in which they are trained, the optimiser's moments, the random generators, φ, the path. So a fit that
was ended in whatever way, and begun anew, comes to the same bits as one that was not.
"""

from contextlib import contextmanager, suppress
from copy import copy
import hashlib
import math
import os
import time

import numpy as np

from ..arrays import ranks, store
from ..arrays.rows import slices
from ..inference.em import Fit, LongerSteps
from ..networks.training import Run
from . import persistence

PAUSE = 2.0                            # seconds at least, from the end of one writing to the next
SHARE = 0.1                            # of the time, at the most, that goes into writing
MAY_DIFFER = {"comm", "epochs", "max_iter", "n_jobs"}  # hyper-parameters that may change on the way


class CheckpointError(ValueError):
    """A checkpoint belongs to another fit; the message says in what they differ."""


class Checkpoint:
    """The file of one fit.

    file       a path, or None: then nothing is read or written
    estimator  the one that is fitted
    data       {name: array, table or None} of all that fit was given, such as X
    comm       of the ranks that fit together; on several there is none

    Raises CheckpointError, a ValueError, where the file belongs to another fit, ValueError on several ranks,
    TypeError where the estimator has no place in a file, and FileError and OSError as `teachvae.load` does,
    and where the file could not be written.
    """

    def __init__(self, file, estimator, data, comm=ranks.SERIAL):
        self.file, self.state, self.pause_until = file, None, -math.inf
        if comm.size > 1 and any(comm.gather(file is not None)):
            raise ValueError(
                f"a checkpoint is of one process, this fit runs on {comm.size} ranks: leave it out"
            )
        if file is None:
            return
        self.belongs = _belongs(estimator, data)
        if os.path.exists(file):
            self.state = self._read()
        store.make_ready(file)

    def _read(self):
        values = store.read(self.file, persistence.PARTS, only=("training", "belongs"))
        if set(values) != {"training", "belongs"}:
            raise CheckpointError(
                f"{self.file} holds no training that could be gone on with: give checkpoint= another file"
            )
        there, nothing = values["belongs"], ["not given", None]
        if there["the class"] != self.belongs["the class"]:        # all else differs with it
            there = {**self.belongs, "the class": there["the class"]}
        differences = [
            f"{name} is {here} here, and {there.get(name, nothing)[0]} there"
            for name, (here, mark) in self.belongs.items() if there.get(name, nothing)[1] != mark
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
        for name in ("params", "optimizer", "path", "table", "held_out_path", "best", "converged"):
            setattr(run, name, getattr(saved, name))

    @contextmanager
    def kept(self, estimator_of, report=None):
        """The function to call after every whole epoch, after(state), or None.

        It keeps a copy of the state, writes it now and then, and returns report(state). Where an exception
        leaves the block, the last copy is written too; else the fit is to end with `write`.

        estimator_of  state → the estimator as it then stands
        """
        if self.file is None:
            yield report
            return
        waiting = False

        def write():
            nonlocal waiting
            start = time.monotonic()
            self.write(estimator_of(self.state))
            waiting, end = False, time.monotonic()
            self.pause_until = end + max(PAUSE, (end - start) / SHARE)

        def after(state):
            nonlocal waiting
            self.state, waiting = copied(state), True
            if time.monotonic() >= self.pause_until:
                write()
            return report is not None and report(state)

        try:
            yield after
        except BaseException:
            if waiting:
                with suppress(OSError):                            # what has ended the training is the news
                    write()
            raise

    def write(self, estimator, state=None):
        """Write the estimator, and beside it the training: this state, or, where None, that of the last whole
        epoch.
        """
        if self.file is None:
            return
        state = self.state if state is None else state
        own = store.parts_of_ones_own({"training": state}, persistence.PARTS)
        if own:
            raise TypeError(
                f"the training holds objects of {', '.join(own)}, which a checkpoint cannot have back: let "
                "an optimiser's state be made of arrays, numbers, lists and dicts"
            )
        persistence.save(estimator, self.file, training=state, belongs=self.belongs)


def copied(state):
    """A state that stays as it is while the training goes on: a `Run`, a `Fit` of EM, or (θ, path)."""
    if isinstance(state, Run):
        return state.copied()
    if isinstance(state, Fit):
        return state._replace(path=list(state.path), steps=copy(state.steps))
    theta, path = state
    return theta, list(path)


def on_backend(state, backend, dtype=None):
    """A state with its arrays on a `Backend`, in a dtype, or each in its own."""
    def there(part):
        if isinstance(part, np.ndarray):
            return backend.asarray(part, dtype or part.dtype.name)
        if isinstance(part, dict):
            return {name: there(one) for name, one in part.items()}
        if isinstance(part, (list, tuple)):
            moved = [there(one) for one in part]
            return type(part)(*moved) if hasattr(part, "_fields") else type(part)(moved)
        if type(part) in (Run, LongerSteps):
            moved = copy(part)
            vars(moved).update(there(vars(part)))
            return moved
        return part

    return there(state)


def _belongs(estimator, data):
    """{what a fit is known by: [in words, its sha256]}."""
    marks = {"the class": type(estimator).__name__, **persistence.plain_parameters(estimator)}
    for name, value in marks.items():
        if isinstance(value, (np.random.Generator, np.random.RandomState)):  # a fit moves it on
            marks[name] = f"a {type(value).__name__}"
    marks = {name: value for name, value in marks.items() if name not in MAY_DIFFER}
    asked = {name: [repr(value)[:80], store.fingerprint(value, name)] for name, value in marks.items()}
    return asked | {name: mark_of_data(x) for name, x in data.items() if x is not None}


def mark_of_data(x):
    """[in words, sha256] of data cases on the host, an array or a mapped file, read block by block."""
    sha256 = hashlib.sha256(f"{x.shape} {x.dtype}".encode())
    for rows in slices(x.shape[0]):
        sha256.update(np.ascontiguousarray(x[rows]).data)
    return [f"{' × '.join(map(str, x.shape))} numbers, sha256 {sha256.hexdigest()[:16]}…", sha256.hexdigest()]
