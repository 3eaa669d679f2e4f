"""Numbers that change from epoch to epoch: a learning rate that falls, a weight on the KL that warms up.

A schedule is any function of the epoch, counted from 1, and nothing else: a training that goes on from a file
at epoch e then sees what one that never stopped has seen. A plain number is the schedule that never changes.
Those here are values, which a file holds; a named function of your own is handed in where the file is loaded.
Equations (6.x) are in derivations/equations.md.
"""

from dataclasses import dataclass
import math
from numbers import Integral, Real


@dataclass(frozen=True)
class Stages:
    """The learning rate of Burda et al. (2016): stage i = 0 … n − 1 has 3^i epochs at `rate`·10^(−i/7), after
    the last of which that of the last goes on                                              (6.12).

    Eight stages are 3280 epochs; stage i begins in epoch begin(i), and begin(n) is the one after them all.
    """

    rate: float = 1e-3
    n: int = 8

    def __post_init__(self):
        _check_whole("n", self.n)

    def __call__(self, epoch):
        i = max(i for i in range(self.n) if epoch >= self.begin(i))
        return self.rate * 10 ** (-i / 7)                          # (6.12)

    def begin(self, i):
        """The first epoch of stage i: 1 + Σ_{j<i} 3^j."""
        return 1 + (3**i - 1) // 2                                 # (6.12)


@dataclass(frozen=True)
class Cosine:
    """From `start` in the first epoch down half a cosine to `end` after `epochs` of them, and on at that
    (Loshchilov & Hutter 2017)                                                             (6.13).
    """

    start: float
    epochs: int
    end: float = 0.0

    def __post_init__(self):
        _check_whole("epochs", self.epochs)

    def __call__(self, epoch):
        done = min((epoch - 1) / self.epochs, 1.0)
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * done)) / 2  #  (6.13)


@dataclass(frozen=True)
class WarmUp:
    """From `end`/`epochs` in the first epoch in equal steps to `end`, and on at that (6.14): of the weight of
    the KL (Bowman et al. 2016, Sønderby et al. 2016), or of a learning rate.
    """

    epochs: int
    end: float = 1.0

    def __post_init__(self):
        _check_whole("epochs", self.epochs)

    def __call__(self, epoch):
        return self.end * min(epoch / self.epochs, 1.0)            # (6.14)


def at(schedule, epoch):
    """What a number, or a function of the epoch, is in that epoch, counted from 1."""
    return float(schedule(epoch) if callable(schedule) else schedule)


def check(name, schedule, epochs, zero=False):
    """Raise ValueError unless a number, or what a function of the epoch returns of each of so many, is finite
    and above 0, or 0 where it may be `zero`: before training, not in its midst. name is for the message.
    """
    asked = f"must be a finite number {'>=' if zero else '>'} 0, or a function of the epoch that returns one"
    if not callable(schedule):
        if not _in_range(schedule, zero):
            raise ValueError(f"{name} {asked}, got {schedule!r}")
        return
    for epoch in range(1, epochs + 1):
        value = schedule(epoch)
        if not _in_range(value, zero):
            raise ValueError(f"{name} {asked}, counted from 1: this one returns {value!r} of epoch {epoch}")


def _in_range(value, zero):
    number = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    return number and (value >= 0 if zero else value > 0)


def _check_whole(name, n):
    if isinstance(n, bool) or not isinstance(n, Integral) or n < 1:
        raise ValueError(f"{name} must be a whole number of 1 or more, got {n!r}")
