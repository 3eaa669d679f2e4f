"""Whether parameters are a minimum: the answer of an E- or M-step, where a right gradient is zero.

    report = check_minimum(lambda p: Q(p).sum(), {"m": m, "log_s": log_s})
    print(report)

At a minimum the slope g of f vanishes, and what a slope means depends on the curvature c beside it: one
Newton step, g/c, is how far each parameter still is from the minimum along its own axis. Whether it is a
minimum, a saddle or a maximum is asked of the matrix of all second differences, and of small random steps, of
which none may go down.
"""

from dataclasses import dataclass, replace

import numpy as np

from ..arrays import tree
from .answers import beside, fault_of, is_nothing
from .differences import number_of, rounding_of
from .evidence import index_of, where_in
from .report import Report, Row, unusable

COLUMNS = "slope", "curvature"
STEP = 1e-4                                                        # of differences, in parameters' sizes
SIZES = 1e-3, 1e-2                                                 # of the random steps, likewise
STEPS = 50                                                         # of each size


def check_minimum(f, params, *, like=None, names=None, tolerance=1e-5, seed=0):
    """Whether f has a minimum at `params`, by differences of f alone; returns a `Report`.

    f          params → one number
    params     a tree of float64 arrays, such as an M-step returns; copied, never written
    like       a tree of the structure and shapes that params should have, such as the start, if any
    names      what to call the leaves, in their order, where their paths say too little
    tolerance  how far from the minimum a parameter may be, in its own size: |p_i|, at the least a hundredth
               of the leaf's largest, or 1 where the leaf is all zero
    seed       of the random steps

    A row's numbers are the slope and the curvature of f along the parameter that is farthest off, its error
    how far that is. A leaf is "?" where f does not depend on it, or where rounding hides whether it is there;
    "WRONG" where a step is left, where f bends down, or no array of float64 is given. Notes tell a saddle, a
    maximum, and a random step that goes down. P parameters take about P² evaluations of f. Raises TypeError
    or ValueError where f does not return one number of float64.
    """
    leaves, surplus = beside(params if like is None else like, params)
    paths = names or [path or "params" for path, *_ in leaves]
    faults = [_fault(path, given, asked, like is not None) for path, asked, given in leaves]
    if any(faults) or surplus or not leaves:
        rows = [
            _not_looked_at(path, asked, given, fault)
            for path, (_, asked, given), fault in zip(paths, leaves, faults, strict=True)
        ]
        return Report(rows, tolerance, surplus, COLUMNS)
    flat, p = tree.pack(tree.map(np.asarray, params))
    at = Place(f, p, flat, np.concatenate([_size(leaf) for _, leaf in tree.leaves(p)]))
    with np.errstate(all="ignore"):                                # f may have no value a step beside
        here = at.differences()
        rows, start = [], 0
        for path, (_, leaf) in zip(paths, tree.leaves(p), strict=True):
            rows.append(_row(path, leaf, slice(start, start + leaf.size), here, tolerance))
            start += leaf.size
        notes = []
        if all(row.error <= tolerance for row in rows):
            notes = _bends_down(at, here, paths, rows) or _goes_down(at, here, tolerance, seed)
    return Report(rows, tolerance, notes, COLUMNS)


def _fault(path, given, asked, compared):
    """Why a leaf of the parameters cannot be put into f, in a sentence, or ""."""
    if path.endswith("]") and type(given) in (int, float):
        return "a list of numbers came back, where an array is asked for; make it one by np.array(…)"
    fault = fault_of(given, np.shape(asked) if compared else np.shape(given))
    if fault:
        return fault
    bad = ~np.isfinite(np.asarray(given, dtype=float))
    if np.size(given) == 0:
        return "it holds no number"
    if bad.any():
        return f"it is not finite {where_in(bad, np.zeros_like(bad))}; look for a division by 0"
    return ""


def _not_looked_at(path, asked, given, fault):
    """The `Row` of a leaf where f cannot be asked: WRONG where it is this leaf's `fault`, else "?"."""
    row = unusable(path, np.shape(asked), fault, attempted=not is_nothing(given))
    return row if fault else replace(row, verdict="?", diagnosis="f cannot be asked before the rest is right")


def _size(leaf):
    """(P,) the size of each parameter of a leaf, by which its steps are measured."""
    size = np.abs(leaf).ravel()
    return np.maximum(size, 1e-2 * size.max()) if size.max() > 0 else np.ones(leaf.size)


@dataclass(frozen=True)
class Here:
    """f at the place and a step ahead and behind, (P,); slopes and curvatures in the parameters' sizes."""

    value: float
    slope: np.ndarray
    curvature: np.ndarray
    ahead: np.ndarray
    behind: np.ndarray
    size: np.ndarray
    rounding: float

    @property
    def slope_of_noise(self):
        """The largest slope that rounding can make of 0."""
        return 10 * self.rounding / STEP

    @property
    def curvature_of_noise(self):
        """The largest curvature that rounding can make of 0."""
        return 10 * self.rounding / STEP**2


@dataclass(frozen=True)
class Place:
    """f around the parameters `flat`, of which `p` is the tree of views; `size` (P,) measures the steps."""

    f: object
    p: object
    flat: np.ndarray
    size: np.ndarray

    def value(self, step):
        """f at this step (P,) in the parameters' sizes; NaN where f has no value there."""
        kept = self.flat.copy()
        self.flat[...] += step * self.size
        try:
            return number_of(self.f(self.p))
        except ArithmeticError:
            return np.nan
        finally:
            self.flat[...] = kept

    def along(self, *axes):
        """f a step ahead along these axes together."""
        step = np.zeros(self.flat.size)
        for axis, sign in axes:
            step[axis] += sign * STEP
        return self.value(step)

    def differences(self):
        """`Here`: central and second differences along every axis."""
        value = number_of(self.f(self.p))
        ahead, behind = (
            np.array([self.along((i, sign)) for i in range(self.flat.size)]) for sign in (1, -1)
        )
        slope, curvature = (ahead - behind) / (2 * STEP), (ahead - 2 * value + behind) / STEP**2
        rounding = rounding_of(self.f, self.p, self.flat, value)
        return Here(value, slope, curvature, ahead, behind, self.size, rounding)

    def bends(self, here):
        """(P, P) second differences along every two axes, in the parameters' sizes."""
        matrix = np.diag(here.curvature)
        for i in range(self.flat.size):
            for j in range(i):
                both = self.along((i, 1), (j, 1)) + self.along((i, -1), (j, -1)) + 2 * here.value
                alone = here.ahead[i] + here.behind[i] + here.ahead[j] + here.behind[j]
                matrix[i, j] = matrix[j, i] = (both - alone) / (2 * STEP**2)
        return matrix


def _row(path, leaf, place, here, tolerance):
    """The `Row` of one leaf: how many of its sizes its farthest parameter is from where the slope is zero."""
    slope, curvature = (a[place].reshape(leaf.shape) for a in (here.slope, here.curvature))
    size = here.size[place].reshape(leaf.shape)
    finite = np.isfinite(slope) & np.isfinite(curvature)
    tilted = np.abs(slope) > here.slope_of_noise
    left = np.where(tilted, np.abs(slope) / np.maximum(np.abs(curvature), here.curvature_of_noise), 0.0)
    left = np.where(finite, left, np.inf)
    worst = index_of(np.unravel_index(np.argmax(left), leaf.shape))
    still = np.zeros(leaf.shape, dtype=bool)
    down = curvature < -here.curvature_of_noise
    doubt = here.slope_of_noise / np.abs(curvature)
    verdict, diagnosis = "ok", ""
    if not finite.all():
        verdict = "WRONG"
        diagnosis = f"f is not finite a small step beside {where_in(~finite, still)}; it ends what f can take"
    elif np.any(left > tolerance):
        verdict, diagnosis = "WRONG", _still_to_go(left > tolerance, worst, slope, curvature, size, here)
    elif down.any():
        verdict = "WRONG"
        diagnosis = f"the slope is zero, and f bends down {where_in(down, still)}: there it is at its largest"
    elif not np.any(np.abs(curvature) > here.curvature_of_noise):
        verdict = "?"
        diagnosis = (
            f"f does not change with this leaf by more than its rounding, {here.rounding:.0e}, which proves "
            "nothing; look at whether f uses its params, or adds a large constant"
        )
    elif np.any(doubt[np.abs(curvature) > here.curvature_of_noise] > tolerance):
        verdict = "?"
        diagnosis = (
            f"rounding of f decides whether it is there; f is {here.value:.3g} here and rounded by about "
            f"{here.rounding:.0e}; take a large constant off f, or ask for a larger tolerance"
        )
    numbers = slope[worst] / size[worst], curvature[worst] / size[worst] ** 2
    return Row(path, leaf.shape, float(left[worst]), worst, *map(float, numbers), diagnosis, verdict)


def _still_to_go(off, worst, slope, curvature, size, here):
    """How far it is still, and what f would gain."""
    says = f"f still goes down {where_in(off, np.zeros_like(off))}"
    if curvature[worst] > here.curvature_of_noise:
        step, gain = -(slope / curvature * size)[worst], (slope**2 / curvature)[worst] / 2
        return (
            f"{says}; the largest step left is about {step:+.3g} at {worst}, where f would fall by about "
            f"{gain:.3g}; look at its equation, or whether it was iterated to the end"
        )
    slope = (slope / size)[worst]
    return f"{says}; at {worst} its slope is {slope:.3g} and it does not bend up; no minimum is near"


def _bends_down(at, here, paths, rows):
    """A note on a saddle or a maximum: some direction along which f bends down."""
    matrix = at.bends(here)
    if not np.all(np.isfinite(matrix)):
        return []
    bends, directions = np.linalg.eigh(matrix)
    noise = len(matrix) * here.curvature_of_noise + 1e-6 * np.abs(bends).max()
    if bends[0] >= -noise:
        return []
    if bends[-1] < -noise:
        return ["it is a maximum: f bends down in every direction; look at the sign of f or of the step"]
    named = [
        f"{path}{list(index) if index else ''}"
        for path, row in zip(paths, rows) for index in np.ndindex(row.shape)
    ]
    most = np.argsort(-np.abs(directions[:, 0]), kind="stable")[:2]
    strong = [f"{directions[i, 0]:+.2f} in {named[i]}" for i in most if abs(directions[i, 0]) > 0.1]
    return [f"it is a saddle: the slopes are zero, and f bends down in a direction with {', '.join(strong)}"]


def _goes_down(at, here, tolerance, seed):
    """A note on a small random step that goes down by more than rounding and the tolerance leave."""
    rng, lowest, its_size = np.random.default_rng(seed), here.value, 0.0
    for size in SIZES:
        for _ in range(STEPS):
            step = rng.standard_normal(len(here.size))
            value = at.value(size * step / np.linalg.norm(step))
            if value < lowest:
                lowest, its_size = value, size
    left = 0.5 * tolerance**2 * np.sum(np.abs(here.curvature))
    if here.value - lowest <= 10 * here.rounding + left:
        return []
    return [
        f"a random step of {its_size:g} of the parameters' sizes goes down, by {here.value - lowest:.2g}: f "
        "is flat here and has no minimum"
    ]
