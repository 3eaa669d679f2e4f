"""What is known of one leaf whose gradient is wrong, and what a factor in it can stand for."""

from dataclasses import dataclass
from itertools import combinations, permutations

import numpy as np

from .differences import Probe, scale_of


@dataclass(frozen=True)
class Evidence:
    """What is known of one leaf; all arrays are shaped like it. `wrong` is without the open and the kinks.

    open    where the gradients differ by no more than the numeric one is in doubt
    zero    a slope that rounding can make of 0
    others  (path, numeric gradient, place in the vector) of the other leaves
    path    of this leaf, and place, a slice, in the vector of all parameters
    terms   the `Terms` of f, or None
    """

    p: np.ndarray
    analytic: np.ndarray
    numeric: np.ndarray
    error: np.ndarray
    wrong: np.ndarray
    open: np.ndarray
    kink: np.ndarray
    zero: np.ndarray
    tolerance: float
    counts: dict
    others: list
    probe: Probe
    path: str
    place: slice
    terms: object

    def explained_by(self, candidate):
        """Whether the analytic gradient equals `candidate` wherever it is wrong."""
        candidate = np.where(self.wrong, candidate, self.analytic)
        if not np.all(np.isfinite(candidate)):
            return False
        scale = np.maximum(scale_of(self.analytic, candidate), scale_of(self.analytic, self.numeric))
        return bool(np.all(np.abs(self.analytic - candidate) <= 2 * self.tolerance * scale))

    def fit(self, base, term, axis=None):
        """The c for which analytic = base + c · term wherever it is wrong, or None.

        One c for the whole leaf (axis None), or one per index of `axis`. At least two wrong entries
        must share each c: one entry alone fits anything.
        """
        across = None if axis is None else tuple(k for k in range(self.p.ndim) if k != axis)
        u, v = np.where(self.wrong, self.analytic - base, 0.0), np.where(self.wrong, term, 0.0)
        if not np.all(np.isfinite(v)):
            return None
        shared = np.sum(self.wrong, axis=across, keepdims=True)
        uv, vv = (np.sum(v * w, axis=across, keepdims=True) for w in (u, v))
        if np.any(shared == 1) or np.any((shared > 0) & (vv == 0)):
            return None
        c = uv / np.where(vv > 0, vv, 1.0)
        return c if self.explained_by(base + c * v) else None

    @property
    def where(self):
        """The wrong indices in words."""
        return where_in(self.wrong, np.maximum(np.abs(self.analytic), np.abs(self.numeric)) <= self.zero)


def where_in(wrong, quiet):
    """The indices that are `wrong`, in words; what is `quiet`, too small to show it, may count as wrong."""
    if np.all(wrong | quiet):
        return "at every index"
    for axis, name in ((wrong.ndim - 1, "columns" if wrong.ndim > 1 else "entries"), (0, "rows")):
        across = tuple(k for k in range(wrong.ndim) if k != axis)
        touched = np.any(wrong, axis=across)
        if touched.sum() < touched.size and np.all(touched <= np.all(wrong | quiet, axis=across)):
            return f"in {name} {_ranges(np.flatnonzero(touched))} of 0–{touched.size - 1}"
    indices = [str(index_of(index)) for index in np.argwhere(wrong)]
    some = ", ".join(indices[:6]) + (", …" if len(indices) > 6 else "")
    return f"at {len(indices)} of {wrong.size} indices, {some}"


def readings(counts, shape):
    """[(factor, what it can stand for)]: 2, ½, counts and the leaf's lengths, 1 over these, two counts."""
    lengths = [(f"{name} = {count}", count) for name, count in counts.items()]
    for (one, n_one), (two, n_two) in combinations(counts.items(), 2):
        lengths.append((f"{one}·{two} = {n_one * n_two}", n_one * n_two))
    lengths += [
        (f"{length}, the length of axis {axis}", length)
        for axis, length in enumerate(shape) if length not in counts.values()
    ]
    found = [(2, "a ½ is forgotten, or a term counted twice"),
             (1 / 2, "a 2 is forgotten, as that of a square or of s² = exp(2 log s)")]
    for name, count in lengths:
        if count > 1:
            found.append((count, f"the factor is {name}: a sum stands where a mean belongs"))
            found.append((1 / count, f"the factor is 1/({name}): a mean stands where a sum belongs"))
    for (one, n_one), (two, n_two) in permutations(counts.items(), 2):
        meaning = f"the factor is {one}/{two} = {n_one}/{n_two}: one stands for the other"
        found.append((n_one / n_two, meaning))
    return found


def meaning_of_factor(factor, counts, shape):
    """What a constant factor can stand for, in words; "" where that is not known."""
    found = [text for value, text in readings(counts, shape) if np.isclose(abs(factor), value, rtol=1e-5)]
    return " or ".join(found) + (", and the sign is flipped" if found and factor < 0 else "")


def index_of(index):
    """An index as a tuple of Python's integers, for messages."""
    return tuple(int(i) for i in index)


def _ranges(numbers):
    """0, 1, 2, 5 as "0–2, 5"."""
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs)
