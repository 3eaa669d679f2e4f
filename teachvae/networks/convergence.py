"""When a path of values has come to rest, and how a path that only noise moves is told from one that falls.

A deterministic path (EM, L-BFGS) ends by `settled`. One of a stochastic search has no such end: it is cut off
after so many epochs, and `falling` says whether that was too early. Equations (6.x) are in
derivations/equations.md.
"""

import math
from typing import NamedTuple

from ..messages import warn


class ConvergenceWarning(UserWarning):
    """A search stopped before it reached its tolerance."""


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
    """Whether a path has come to rest: its last quarter fell, and what is to come will, by less than tol.

    The extrapolation alone sees the fast part of a path and misses a slow one behind it, and after one
    huge step it promises too much.
    """
    return remaining(path) < tol and path[-1 - max(1, len(path) // 4)] - path[-1] < tol


# ---- stochastic paths ------------------------------------------------------------------------------


class Trend(NamedTuple):
    """By how much the last `length` values of a path fell, and the standard error of that, of noise."""

    fall: float
    error: float
    length: int


def trend(path):
    """The `Trend` of the last quarter of a path, of its last `SHORTEST` values at least         (6.8).

    The fall is that of the line of least squares. What noise there is, the second differences tell, in which
    a line is 0. Below three values there is none, and the `Trend` is None.
    """
    w = min(len(path), max(len(path) // 4, SHORTEST))
    if w < 3:
        return None
    last = [float(value) for value in path[-w:]]
    second = [a - 2 * b + c for a, b, c in zip(last, last[1:], last[2:])]
    sigma = math.sqrt(sum(d * d for d in second) / (6 * len(second)))  #                   (6.8)
    middle = (w - 1) / 2
    slope = 12 * sum((t - middle) * value for t, value in enumerate(last)) / (w * (w * w - 1))
    return Trend(-slope * (w - 1), sigma * math.sqrt(12 * (w - 1) / (w * (w + 1))), w)  #    (6.8)


def falling(path):
    """By how many nats per data case a path, in these units, was still falling when it ended: over the window
    of `trend`, and 0.0 where that is no more than `TOLERANCE` beyond what noise does. None below three
    values, of which nobody knows.
    """
    found = trend(path)
    if found is None:
        return None
    return found.fall if found.fall > TOLERANCE + WIDTHS * found.error else 0.0


def warn_of_falling(path, unit, advice):
    """`falling`, with a ConvergenceWarning where it is above 0; unit names the steps, advice the cure."""
    fall = falling(path)
    if fall:
        warn(
            f"training ended after {len(path)} {unit} while it still gained: {fall:.2g} nats per data case "
            f"in the last {trend(path).length}, more than noise and the {TOLERANCE} let pass; {advice}",
            ConvergenceWarning,
        )
    return fall


SHORTEST = 8                           # values that a trend is read from, where there are as many
TOLERANCE = 0.1                        # nats per data case: the last digit that publications of Q give
WIDTHS = 3                             # standard errors that noise is allowed
