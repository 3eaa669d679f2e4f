"""When a path of values has come to rest.

Equations (6.x) are in derivations/equations.md.
"""

import math


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
