"""The slope of a function by differences, how far off it may be, and how far two gradients lie apart.

Equations (8.x) are in derivations/equations.md.
"""

from dataclasses import dataclass, replace

import numpy as np

from ..arrays.backend import to_numpy


def relative_error(analytic, numeric):
    """(8.2) at every index of a leaf; infinite where one of the two is not finite."""
    finite = np.isfinite(analytic) & np.isfinite(numeric)
    a, n = np.where(finite, analytic, 0.0), np.where(finite, numeric, 0.0)
    scale = scale_of(a, n)
    return np.where(finite, np.abs(a - n) / np.where(scale > 0, scale, 1.0), np.inf)


@dataclass(frozen=True)
class Probe:
    """f at one point and beside it: `flat` is the point as one vector, `p` the tree of views into it.

    rounding  by how much the rounding inside f changes its value                              (8.5)
    """

    f: object
    p: object
    flat: np.ndarray
    value: float
    h: float
    rounding: float

    @property
    def zero(self):
        """The largest slope that rounding can make of a slope of 0."""
        return 100 * self.rounding / self.h

    def slopes(self, i, shrink=1):
        """The slopes of f to the left and to the right of entry i; their mean is (8.1)."""
        here = self.flat[i]
        step = self.h * max(1, abs(here)) / shrink
        low, high = here - step, here + step                       # rounded, and so is the step to them
        with np.errstate(all="ignore"):
            left = np.divide(self.value - self._beside(i, low), here - low)
            right = np.divide(self._beside(i, high) - self.value, high - here)
        return left, right

    def _beside(self, i, place):
        """f with entry i at another place; NaN where f does not go on so far, as a log below 0."""
        here = self.flat[i]
        self.flat[i] = place
        try:
            return number_of(self.f(self.p))
        except (ArithmeticError, ValueError):
            return np.nan
        finally:
            self.flat[i] = here

    def slopes_where(self, place, other, factor):
        """The slopes (8.1) of the entries at `place`, a slice, where those at `other` are times `factor`."""
        kept = self.flat[other].copy()
        self.flat[other] = factor * kept
        try:
            there = replace(self, value=number_of(self.f(self.p)))
            return np.array([0.5 * sum(there.slopes(i)) for i in range(place.start, place.stop)])
        except (ArithmeticError, ValueError):                      # f has no value there
            return np.full(place.stop - place.start, np.nan)
        finally:
            self.flat[other] = kept

    def on_kink(self, i, difference):
        """Whether f has a kink at entry i, within the step, that can explain a `difference` of gradients.

        The one-sided slopes of a smooth f differ by h f″: a tenth of the step, a tenth of the gap. At
        a kink the gap stays, or vanishes once the step no longer reaches it. Where f only bends much within
        the step, as a log near 0, its gap is even at a hundredth of it.
        """
        gap, third, tenth, hundredth, thousandth = (
            abs(np.subtract(*self.slopes(i, shrink))) for shrink in (1, 3, 10, 100, 1000)
        )
        uneven = max(abs(third - gap / 3), abs(tenth - gap / 10)) > 0.05 * gap + self.zero
        bends = hundredth > 100 * self.zero and abs(thousandth - hundredth / 10) < 0.05 * hundredth
        return bool(gap >= difference and uneven and not bends)

    def refined(self, i):
        """The slope of f at entry i as well as any step shows it, and how far off it may be       (8.6).

        Steps of (8.1)'s size times 10⁻¹⁰ … 10⁴, two neighbours joined so that the error of order h² goes.
        From the smallest on, a longer step is believed as long as it agrees with the shorter ones as well as
        their rounding lets it, and leaves less doubt. NaN and infinity where f is finite for none.
        """
        sizes = 10.0 ** np.arange(-10, 4.5, 0.5)
        central = np.array([0.5 * sum(self.slopes(i, 1 / size)) for size in sizes])
        with np.errstate(all="ignore"):
            joined = (10 * central[:-1] - central[1:]) / 9
            step = self.h * max(1, abs(self.flat[i])) * sizes[:-2]
            doubt = 10 * self.rounding / step + np.abs(np.diff(joined)) / 3
        best, least = np.nan, np.inf
        for slope, its_doubt in zip(joined, doubt):
            if not np.isfinite(its_doubt):
                continue
            if abs(slope - best) > least:
                break
            if its_doubt < least:
                best, least = slope, its_doubt
        return best, least


def rounding_of(f, p, flat, value):
    """By how much the rounding inside f changes its value: the spread of its third differences at points
    too near for f itself to bend, and at the least that of the value's own last digit             (8.5).

    The points are as near as they can be with most values still different: nearer, a large number on the
    way to the value hides that it is rounded.
    """
    here, sign = flat.copy(), np.where(np.arange(flat.size) % 2, -1, 1)
    for distance in 10.0 ** np.arange(-12, -6):
        values = []
        for t in range(8):
            flat[...] = here + t * distance * sign * np.where(here == 0, 1, np.abs(here))
            values.append(number_of(f(p)))
        if len(set(values)) > 5:
            break
    flat[...] = here
    with np.errstate(all="ignore"):
        spread = np.sqrt(np.mean(np.diff(values, 3) ** 2) / 20)
    last_digit = np.finfo(float).eps * abs(value)
    return float(np.max([x for x in (spread, last_digit) if np.isfinite(x)], initial=0.0))


def scale_of(a, n):
    """The denominator of (8.2)."""
    both = np.maximum(np.abs(a), np.abs(n))
    return np.maximum(both, 1e-2 * np.max(both))


def number_of(value):
    """What f returned, as a float; refuses arrays, and anything less precise than float64."""
    value = to_numpy(value)
    if value.size != 1:
        raise ValueError(
            f"f must return one number, got shape {value.shape}; weight the values by random numbers and sum"
        )
    if value.dtype in (np.float16, np.float32):
        raise TypeError(f"f returned {value.dtype}; a gradient check needs float64 throughout")
    return value.item()
