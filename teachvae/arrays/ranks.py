"""Data cases that lie on several machines: every rank, a process, has rows of its own, and sums go over all.

The same program runs on every rank, started by

    mpiexec -n 4 python -m mpi4py program.py

and `comm("mpi")` in it knows its rank, 0 … size − 1, and sums what the ranks have. Data know their comm, as
arrays know their library: where a sum over data cases is formed, `of(x)` adds what the other ranks have, and
for data that lie in one process it is `SERIAL`, which leaves everything as it is. What a step costs, and what
its message, is in docs/ranks.md.
"""

from dataclasses import dataclass
from functools import reduce
import hashlib
import re
import sys

import numpy as np

from . import tree as trees
from .backend import constant, to_numpy


class RanksError(RuntimeError):
    """The ranks are not all at the same place with the same numbers, or cannot be; the message says why."""


class Serial:
    """One process that has all data cases."""

    rank, size = 0, 1

    def __repr__(self):
        return "comm('serial')"

    def sum(self, vector):
        """The sum over all ranks of a host array: the array itself."""
        return vector

    def gather(self, value):
        """What every rank has, in a list in their order."""
        return [value]

    def same(self, values, when):
        """One rank agrees with itself."""


SERIAL = Serial()


class Mpi:
    """The ranks of an MPI job. A method is called on all of them, in the same order, or none of them goes on.

    rank, size       which of how many
    sums, numbers    how many messages `sum` has sent so far, and how many numbers in them
    gathers          how many, of a few bytes, the other methods

    Raises ImportError without mpi4py, and RanksError where a rank that fails would not end the job.
    """

    def __init__(self):
        try:
            from mpi4py import MPI
        except (ImportError, RuntimeError) as error:               # the latter: mpi4py finds no MPI
            raise ImportError(
                f"comm('mpi') needs mpi4py and an MPI, which cannot be imported ({error}); install both "
                "with: pip install 'teachvae[mpi]', or use comm('serial')"
            ) from error
        self._world = MPI.COMM_WORLD
        self.rank, self.size = self._world.Get_rank(), self._world.Get_size()
        self.sums, self.numbers, self.gathers = 0, 0, 0
        if self.size > 1 and "mpi4py.run" not in sys.modules:
            raise RanksError(
                f"{self.size} ranks were started by plain python, where one that fails leaves the others "
                f"waiting for ever: start them by mpiexec -n {self.size} python -m mpi4py program.py"
            )

    def __repr__(self):
        return "comm('mpi')"

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self

    def __reduce__(self):
        return _unpickled, ()

    def sum(self, vector):
        """The sum over all ranks of a host array, of the same shape and dtype on each, in one message.

        Every rank adds up one piece of the vector, in the ranks' order, and hands it round: each entry is
        computed once, so all ranks have the same bits, take the same decisions, and none waits for a message
        that the others do not send.
        """
        flat = np.ravel(vector)
        pieces = np.zeros((self.size, -(-flat.size // self.size)), flat.dtype)
        pieces.reshape(-1)[: flat.size] = flat
        mine, whole = np.empty_like(pieces), np.empty_like(pieces)
        self._world.Alltoall(pieces, mine)                         # row r: what rank r has of this piece
        self._world.Allgather(np.ascontiguousarray(reduce(np.add, mine)), whole)
        self.sums, self.numbers = self.sums + 1, self.numbers + flat.size
        return whole.reshape(-1)[: flat.size].reshape(np.shape(vector))

    def gather(self, value):
        """What every rank has, in a list in their order; any object, for what is small."""
        self.gathers += 1
        return self._world.allgather(value)

    def same(self, values, when):
        """Raise RanksError, on every rank, unless {name: value} is the same on all of them; `when` ends the
        sentence "the ranks differ …". An array is compared by its hash, all else by its repr.
        """
        told = self.gather({name: _digest(value) for name, value in values.items()})
        first, nothing = told[0], "not there"
        wrong = [
            f"{name} is {theirs.get(name, nothing)} on rank {rank} and {first.get(name, nothing)} on rank 0"
            for rank, theirs in enumerate(told)
            for name in {**first, **theirs}
            if theirs.get(name) != first.get(name)
        ]
        if wrong:
            raise RanksError(
                f"the ranks differ {when}: {'; '.join(wrong[:3])}. All must run the same program, with the "
                "same hyper-parameters, seed and columns, on processors and libraries that round alike"
            )


def _unpickled():
    """The `Mpi` of a process that is a rank; another one that unpickles it has all data cases."""
    world = sys.modules.get("mpi4py.MPI")
    return Mpi() if world is not None and world.COMM_WORLD.Get_size() > 1 else SERIAL


def _digest(value):
    """A value as short text: of an array, and where it would be long, a hash."""
    if isinstance(value, (set, frozenset)):
        value = sorted(value, key=repr)
    if hasattr(value, "shape") and value.dtype == object:
        value = value.tolist()
    if hasattr(value, "shape"):
        value = to_numpy(value)
        return f"{value.dtype} {_hash(value.tobytes())}"
    text = re.sub(" at 0x[0-9a-f]+", "", repr(value))              # an address is another on every rank
    return text if len(text) < 80 else f"{text[:60]}… {_hash(text.encode())}"


def _hash(data):
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def comm(name):
    """The `Serial` or the `Mpi` of this process, by its name, "serial" or "mpi".

    Raises ValueError for another name, ImportError without mpi4py, and RanksError as `Mpi` does.
    """
    if name not in ("serial", "mpi"):
        raise ValueError(f"comm must be 'serial' or 'mpi', got {name!r}")
    return SERIAL if name == "serial" else Mpi()


def of(x):
    """The comm of data cases x: that which they carry, as a `columns.Table` does, else `SERIAL`."""
    return getattr(x, "comm", SERIAL)


def total(comm, tree):
    """A tree of arrays summed over all ranks, in one message: one vector, which is staged through the host.

    Copying an array of a GPU to the host waits for what is still being computed there, so the message has the
    finished numbers, and the MPI need know nothing of GPUs.
    """
    if comm.size == 1:
        return tree
    flat = trees.flatten(tree)
    return trees.views(constant(comm.sum(to_numpy(flat)), like=flat), tree)


@dataclass(frozen=True)
class Places:
    """Where the n data cases of this rank stand among the n_cases of all: from `first` on."""

    first: int
    n: int
    n_cases: int

    def own(self, rows):
        """Which of the data cases `rows` lie here, counted from 0, and where they stand in `rows`.

        rows  places among all n_cases, a host array; a slice is one of the data cases here, and all are
        """
        if isinstance(rows, slice) or self.n == self.n_cases:
            return rows, slice(None)
        here = np.flatnonzero((rows >= self.first) & (rows < self.first + self.n))
        return rows[here] - self.first, here


def share(comm, n_cases):
    """The slice that is this rank's of n_cases data cases which all can read, about as many for each."""
    return slice(n_cases * comm.rank // comm.size, n_cases * (comm.rank + 1) // comm.size)


def dealt(comm, results):
    """The results of jobs in their order, on every rank, from those that each has of jobs[rank::size]."""
    if comm.size == 1:
        return results
    hands = comm.gather(list(results))
    return [hands[place % comm.size][place // comm.size] for place in range(sum(map(len, hands)))]


def places(x):
    """The `Places` of data cases x (n, …): ranks stand in their order, each with its rows in theirs."""
    sizes, rank = of(x).gather(x.shape[0]), of(x).rank
    return Places(sum(sizes[:rank]), sizes[rank], sum(sizes))
