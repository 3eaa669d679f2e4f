"""A gradient checker that names the mistake: analytic against numeric, then the likely cause in words.

    report = check(f, params, grads)
    print(report)

f(params) is one number L, params a tree of float64 arrays, grads the tree ∂L/∂params that a backward
made (or a function of params that makes it). At every index i of every leaf

    numeric_i = (f(p + h_i e_i) − f(p − h_i e_i)) / 2h_i,   h_i = h max(1, |p_i|)                  (8.1)
    error_i   = |analytic_i − numeric_i| / max(|analytic_i|, |numeric_i|, largest / 100)           (8.2)

where largest is the leaf's largest entry. An entry that fails is looked at again with steps of many
sizes, and with what is known of f's own rounding (8.5), (8.6): a step too wide for the parameter, or
a large constant in f, is no mistake of the gradient. How to ask for a check that means something:
float64; noise and data fixed outside f; parameters away from zero, where a forgotten factor can hide;
L = Σ c·y with random c, because the plain sum of a softmax is constant. And mind what passes: a check
proves that a backward belongs to its forward, never that the forward is right. exp(log variance) taken
for a standard deviation in both passes with full marks; so every value needs an oracle of its own.
"""

from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np

from . import tree
from .backend import to_numpy


@dataclass(frozen=True)
class Row:
    """One leaf's result: its worst index, both gradients there, and a diagnosis ("" where all is right).

    verdict  "ok", "WRONG", or "?": at a kink, of zeros, or under f's rounding nothing is proved
    """

    path: str
    shape: tuple
    error: float
    index: tuple
    analytic: float
    numeric: float
    diagnosis: str
    verdict: str
    kinks: tuple = ()

    @property
    def ok(self):
        return self.verdict == "ok"


@dataclass(frozen=True)
class Report:
    """One `Row` per leaf, and notes on what the leaves have in common; str(report) is a table."""

    rows: list
    tolerance: float
    notes: list = field(default_factory=list)

    @property
    def ok(self):
        return self.verdict == "ok"

    @property
    def verdict(self):
        """"WRONG" where a leaf is, or a note says so; else "?" where a leaf is undecided; else "ok"."""
        verdicts = {row.verdict for row in self.rows} | ({"WRONG"} if self.notes else set())
        return next((verdict for verdict in ("WRONG", "?") if verdict in verdicts), "ok")

    @property
    def worst(self):
        """The row of the leaf with the largest error."""
        return max(self.rows, key=lambda row: row.error)

    @property
    def kinks(self):
        """(path, index) of every index that sits on a kink of f: draw another point."""
        return [(row.path, index) for row in self.rows for index in row.kinks]

    def __str__(self):
        cells = [("leaf", "shape", "worst error", "at", "analytic", "numeric", "")]
        for row in self.rows:
            numbers = (f"{row.error:.1e}", str(row.index), f"{row.analytic:.8g}", f"{row.numeric:.8g}")
            cells.append((row.path, str(row.shape), *numbers, row.verdict))
        diagnoses = [f"{row.path}: {row.diagnosis}." for row in self.rows if row.diagnosis]
        return "\n".join([align(cells)] + [f"{note}." for note in self.notes] + diagnoses)


def check(f, params, grads, *, h=1e-5, tolerance=1e-7, names=None, counts=None):
    """Compare the gradient `grads` of f with central differences at every index; returns a `Report`.

    f       params → one number
    params  a tree of float64 arrays (one array is a tree too); copied, the caller's are never written
    grads   a tree of the same structure and shapes, or a function params → such a tree
    names   what to call the leaves, in their order, where their paths say too little
    counts  numbers that would show as a factor where a mean is forgotten, such as {"N": 6, "S": 7}

    A leaf is "ok" where every error (8.2) is below `tolerance`. It is "?" where nothing is proved: its
    gradient is all zero, f has a kink, or no step shows the slope of f so well, and what it shows does not
    speak against the gradient. Neither "?" nor "WRONG" has passed. The keys of dicts are matched by name,
    in whatever order they stand. Raises TypeError for anything but float64, ValueError where structures or
    shapes differ.
    """
    _require_float64(params, "params")
    flat, p = tree.pack(params)
    before = flat.copy()
    value = _number(f(p))
    probe = Probe(f, p, flat, value, h, _rounding(f, p, flat, value))
    analytic = _vector(grads(p) if callable(grads) else grads, p)
    again = _vector(grads(p), p) if callable(grads) else analytic
    redrawn = _redrawn(probe.value, _number(f(p)), analytic, again)
    if not np.array_equal(flat, before):
        raise ValueError("f or grads changed its params in place; a gradient check needs them as they were")

    numeric = np.array([0.5 * sum(probe.slopes(i)) for i in range(len(flat))])                   # (8.1)
    paths = names or [path or "params" for path, _ in tree.leaves(p)]
    trees = (p, tree.views(analytic, p), tree.views(numeric, p))
    leaves = list(zip(paths, *([leaf for _, leaf in tree.leaves(t)] for t in trees), strict=True))
    rows, start = [], 0
    for path, leaf, a, n in leaves:
        error = relative_error(a, n)                                                             # (8.2)
        kink, doubt = np.zeros(leaf.shape, dtype=bool), np.zeros(leaf.shape)
        for j in () if redrawn else np.flatnonzero(error >= tolerance):
            kink.flat[j] = probe.on_kink(start + j, abs(a.flat[j] - n.flat[j]))
            if not kink.flat[j]:
                n.flat[j], doubt.flat[j] = probe.refined(start + j)
        start += leaf.size
        error = relative_error(a, n)
        if redrawn:
            verdict, diagnosis = "WRONG", "the numeric gradient is a difference of two noises"
        else:
            off = (error >= tolerance) & ~kink
            undecided_ = off & (np.abs(a - n) <= doubt)
            seen = leaf, a, n, error, off & ~undecided_, undecided_, kink
            zero = np.where(doubt > 0, doubt, probe.zero)
            others = [(other, numeric_of) for other, _, _, numeric_of in leaves if other != path]
            verdict, diagnosis = explain(Evidence(*seen, zero, tolerance, counts or {}, others, probe))
        worst = _index(np.unravel_index(np.argmax(error), leaf.shape))
        kinks = tuple(_index(index) for index in np.argwhere(kink))
        numbers = float(error[worst]), worst, float(a[worst]), float(n[worst])
        rows.append(Row(path, leaf.shape, *numbers, diagnosis, verdict, kinks))
    return Report(rows, tolerance, redrawn or _in_common(analytic, numeric, rows))


def draw_until_smooth(make_check, seeds):
    """The first report of make_check(seed) without a kink, or the last one where all have kinks.

    A ReLU has no derivative at 0: where a random point falls within h of one, another is drawn. A
    wrong gradient is not drawn away: an index is a kink only where f itself is not smooth.
    """
    for seed in seeds:
        report = make_check(seed)
        if not report.kinks:
            break
    return report


def relative_error(analytic, numeric):
    """(8.2) at every index of a leaf; infinite where one of the two is not finite."""
    finite = np.isfinite(analytic) & np.isfinite(numeric)
    a, n = np.where(finite, analytic, 0.0), np.where(finite, numeric, 0.0)
    scale = _scale(a, n)
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
            return _number(self.f(self.p))
        except (ArithmeticError, ValueError):
            return np.nan
        finally:
            self.flat[i] = here

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

        Steps of (8.1)'s size times 10⁻¹⁰ … 10⁴, two neighbours joined so that the error of order h² goes. From
        the smallest on, a longer step is believed as long as it agrees with the shorter ones as well as their
        rounding lets it, and leaves less doubt. NaN and infinity where f is finite for none.
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


def _rounding(f, p, flat, value):
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
            values.append(_number(f(p)))
        if len(set(values)) > 5:
            break
    flat[...] = here
    with np.errstate(all="ignore"):
        spread = np.sqrt(np.mean(np.diff(values, 3) ** 2) / 20)
    last_digit = np.finfo(float).eps * abs(value)
    return float(np.max([x for x in (spread, last_digit) if np.isfinite(x)], initial=0.0))


# ---- One small function per mistake: a sentence (what is seen; what it means; where to look) or "".


@dataclass(frozen=True)
class Evidence:
    """What is known of one leaf; all arrays are shaped like it. `wrong` is without the open and the kinks.

    open    where the gradients differ by no more than the numeric one is in doubt
    zero    a slope that rounding can make of 0
    others  (path, numeric gradient) of the other leaves
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

    def explained_by(self, candidate):
        """Whether the analytic gradient equals `candidate` wherever it is wrong."""
        candidate = np.where(self.wrong, candidate, self.analytic)
        if not np.all(np.isfinite(candidate)):
            return False
        scale = np.maximum(_scale(self.analytic, candidate), _scale(self.analytic, self.numeric))
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
        quiet = np.maximum(np.abs(self.analytic), np.abs(self.numeric)) <= self.zero
        if np.all(self.wrong | quiet):
            return "at every index"
        for axis, name in ((self.p.ndim - 1, "columns" if self.p.ndim > 1 else "entries"), (0, "rows")):
            across = tuple(k for k in range(self.p.ndim) if k != axis)
            touched = np.any(self.wrong, axis=across)
            if touched.sum() < touched.size and np.all(touched <= np.all(self.wrong | quiet, axis=across)):
                return f"in {name} {_ranges(np.flatnonzero(touched))} of 0–{touched.size - 1}"
        indices = [str(_index(index)) for index in np.argwhere(self.wrong)]
        some = ", ".join(indices[:6]) + (", …" if len(indices) > 6 else "")
        return f"at {len(indices)} of {self.p.size} indices, {some}"


def not_finite(e):
    bad_a, bad_n = ~np.isfinite(e.analytic), ~np.isfinite(e.numeric)
    if not (bad_a.any() or bad_n.any()):
        return ""
    whose = "the analytic gradient" if bad_a.any() else "f, here or a step beside,"
    return (
        f"{whose} is not finite {replace(e, wrong=bad_a | bad_n, zero=0.0).where}; an overflow, a log of 0 "
        "or a division by 0; look for the exp of something large"
    )


def at_a_kink(e):
    if not e.kink.any():
        return ""
    also = f"; it is also wrong {e.where}" if e.wrong.any() else ""
    return (
        f"f has a kink {replace(e, wrong=e.kink).where}; the slopes to the left and to the right differ, as "
        f"where a ReLU meets 0, and there is no derivative to compare with; draw another point{also}"
    )


def zero_everywhere(e):
    if np.any(np.maximum(np.abs(e.analytic), np.abs(e.numeric)) > e.zero):
        return ""
    if np.any(e.analytic) and np.max(np.abs(e.analytic)) > 1e-3 * np.max(e.zero):
        return undecided(replace(e, open=np.ones(e.p.shape, dtype=bool)))
    return (
        "both gradients are zero at every index, which proves nothing; f does not depend on this leaf at "
        "this point; take parameters away from zero, and a random cotangent instead of a plain sum"
    )


def undecided(e):
    if not e.open.any():
        return ""
    return (
        f"rounding of f decides {replace(e, wrong=e.open).where}; f is {e.probe.value:.3g} here and rounded "
        f"by about {e.probe.rounding:.0e}, so no step shows its slope to better than "
        f"{np.max(e.zero[e.open]):.0e}, and the two gradients differ by no more; take a large constant off f, "
        "or bring f and its slopes nearer to each other in size"
    )


def barely_off(e):
    worst = np.max(e.error[e.wrong])
    if worst >= 100 * e.tolerance:
        return ""
    return (
        f"the error is {worst:.0e} {e.where}, small for a wrong formula; a number of few digits is likelier; "
        "look for float32 on the way, or a constant that was cut short"
    )


def never_reached(e):
    if np.any(e.analytic[e.wrong]):
        return ""
    return (
        f"analytic is exactly zero {e.where} and numeric is not; the backward never reached this leaf there; "
        "look for a gradient computed and not returned, or a path that was left out"
    )


def not_used(e):
    if np.any(np.abs(e.numeric) > e.zero, where=e.wrong):
        return ""
    return (
        f"numeric is zero {e.where} and analytic is not; f does not use the params that it is handed there; "
        "look for a forward that reads other arrays, or a mask that the backward forgot"
    )


def sign_flipped(e):
    if not e.explained_by(-e.numeric):
        return ""
    return (
        f"analytic = −numeric {e.where}; the sign is flipped; look for a forgotten minus, such as that of "
        "−log p, or of ∂(x − f)/∂f = −1"
    )


def constant_factor(e):
    alone = e.wrong.sum() == 1
    c = e.analytic[e.wrong] / e.numeric[e.wrong] if alone else e.fit(0.0, e.numeric)
    if c is None:
        return ""
    meaning = meaning_of_factor(c.item(), e)
    if alone and not meaning:
        return ""
    meaning = meaning or "a constant that only one of forward and backward has"
    return f"analytic = {c.item():.6g} · numeric {e.where}; {meaning}; look at the constants of its equation"


def meaning_of_factor(factor, e):
    """What a constant factor can stand for: ½, 2, a count of the problem, a length of the leaf."""
    counts = [(f"{name} = {count}", count) for name, count in e.counts.items()]
    for (one, n_one), (two, n_two) in combinations(e.counts.items(), 2):
        counts.append((f"{one}·{two} = {n_one * n_two}", n_one * n_two))
    counts += [(f"{length}, the length of axis {axis}", length) for axis, length in enumerate(e.p.shape)]
    readings = [(2, "a ½ is forgotten, or a term counted twice"),
                (1 / 2, "a 2 is forgotten, as that of a square or of s² = exp(2 log s)")]
    for name, count in counts:
        if count > 1:
            readings.append((count, f"the factor is {name}: a sum stands where a mean belongs"))
            readings.append((1 / count, f"the factor is 1/({name}): a mean stands where a sum belongs"))
    found = [text for value, text in readings if np.isclose(abs(factor), value, rtol=1e-5)]
    return " or ".join(found) + (", and the sign is flipped" if found and factor < 0 else "")


def transposed(e):
    for one, two in combinations(range(e.p.ndim), 2):
        swapped = np.swapaxes(e.numeric, one, two)
        if swapped.shape == e.p.shape and e.explained_by(swapped):
            return (
                f"analytic is numeric with axes {one} and {two} exchanged; it is transposed; look at the "
                "order of the product, dW = xᵀ dy and not dyᵀ x"
            )
        back = np.swapaxes(e.numeric.reshape(swapped.shape), one, two)
        if e.explained_by(swapped.reshape(e.p.shape)) or e.explained_by(back):
            return (
                f"analytic has the entries of numeric in transposed order (axes {one} and {two}); a reshape "
                "stands where a transpose belongs; look at dW = xᵀ dy"
            )
    return ""


def of_another_leaf(e):
    for path, other in e.others:
        if other.shape == e.p.shape and e.explained_by(other):
            return (
                f"analytic is the gradient of {path}; two gradients are exchanged; look at the order in "
                "which the backward returns them"
            )
    return ""


def log_mixed_up(e):
    ratios = [
        ("exp(p)", np.exp(e.p)), ("exp(−p)", np.exp(-e.p)), ("exp(2p)", np.exp(2 * e.p)),
        ("exp(−2p)", np.exp(-2 * e.p)), ("p", e.p), ("1/p", 1 / e.p),
    ]
    for name, ratio in ratios:
        for c in (1, 2, 0.5):
            if e.explained_by(c * ratio * e.numeric):
                return (
                    f"analytic = {'' if c == 1 else f'{c:g} · '}{name} · numeric {e.where}, p being the "
                    "parameter; log-variance, log s and standard deviation are mixed up; look at the chain "
                    "rule, ∂s/∂log s = s and ∂s²/∂log s = 2s²"
                )
    return ""


def factor_per_slice(e):
    for axis in range(e.p.ndim):
        if e.fit(0.0, e.numeric, axis) is not None:
            return (
                f"analytic = c · numeric {e.where}, with another c for every index of axis {axis}; a weight "
                "per index is left out or used twice; look at the incoming gradient (it is not all ones), "
                "the sample weights and the mask"
            )
    return ""


def missing_term(e):
    s, s2 = np.exp(e.p), np.exp(2 * e.p)
    terms = [
        ("c", np.ones_like(e.p), "an additive constant is missing, such as the −1 of s² − 1"),
        ("c · p", e.p, "a quadratic term is missing, such as a penalty or the ½ m² of the KL"),
        ("c · (exp(2p) − 1)", s2 - 1, "the ½ (s² − 1 − 2 log s) of the KL is missing or counted twice"),
        ("c · (exp(2p) − exp(p))", s2 - s, "s stands where s² belongs: log-variance and log s are mixed up"),
        ("c · exp(2p)", s2, "a term in s² is missing, p being log s"),
        ("c · exp(p)", s, "a term in s is missing, p being log s"),
    ]
    for axis in (None, *range(e.p.ndim)):
        for name, term, meaning in terms:
            c = e.fit(e.numeric, term, axis)
            if c is not None:
                c_is = f"c = {c.item():.6g}" if axis is None else f"another c for every index of axis {axis}"
                return (
                    f"analytic − numeric = {name} {e.where}, p being the parameter and {c_is}; {meaning}; "
                    "look for a term of f that the backward dropped or doubled"
                )
    return ""


def moved(e):
    for axis in range(e.p.ndim):
        for shift in range(1, e.p.shape[axis]):
            if e.explained_by(np.roll(e.numeric, shift, axis)):
                return (
                    f"analytic is numeric shifted by {shift} along axis {axis}; a slice starts at the wrong "
                    "place; look at the starts and stops"
                )
    in_order = relative_error(np.sort(e.analytic, axis=None), np.sort(e.numeric, axis=None))
    if e.p.size > 1 and np.max(in_order) < e.tolerance:
        return (
            "analytic has the right numbers at the wrong places; they are permuted; look for a reshape of "
            "axes in another order, or an index list used the wrong way round"
        )
    return ""


def two_mistakes(e):
    """φ = [m | log s] is one leaf with two meanings: each part of its columns may have its own mistake."""
    columns = np.arange(e.p.shape[-1]) if e.p.ndim else np.arange(0)
    for cut in columns[1:]:
        parts = [replace(e, wrong=e.wrong & side) for side in (columns < cut, columns >= cut)]
        if all(part.wrong.any() for part in parts):
            sentences = [first_of(PATTERNS, part) for part in parts]
            if all(sentences):
                return "two mistakes: " + "; and ".join(sentences)
    return ""


def unrecognised(e):
    if np.all(e.wrong):
        return "wrong at every index, in no pattern known here; look at this leaf's equation line by line"
    return (
        f"wrong {e.where}, and right elsewhere; a term that reaches only these is missing or wrong; look at "
        "what their equation has and the others' has not"
    )


PATTERNS = [
    never_reached, not_used, sign_flipped, constant_factor, log_mixed_up, factor_per_slice, missing_term,
]
DIAGNOSES = [
    barely_off, never_reached, not_used, sign_flipped, constant_factor, transposed, of_another_leaf,
    log_mixed_up, factor_per_slice, missing_term, moved, two_mistakes, unrecognised,
]


def first_of(diagnoses, evidence):
    """The first sentence that one of `diagnoses` has to say, or ""."""
    return next((text for text in (diagnosis(evidence) for diagnosis in diagnoses) if text), "")


def explain(evidence):
    """The verdict on one leaf, and the diagnosis in words, "" where it is right."""
    with np.errstate(all="ignore"):                                # what overflows explains nothing
        if infinite := not_finite(evidence):
            return "WRONG", infinite
        if nothing := zero_everywhere(evidence):
            return "?", nothing
        if evidence.wrong.any():
            return "WRONG", first_of([at_a_kink, *DIAGNOSES], evidence)
        doubt = first_of([at_a_kink, undecided], evidence)
        return ("?", doubt) if doubt else ("ok", "")


def _redrawn(value, again, analytic, analytic_again):
    """Sentences where f, or the backward, gives two answers at one point."""
    pairs = [("f", np.array([value]), np.array([again])), ("the backward", analytic, analytic_again)]
    return [
        f"{who} gives two answers at one point; noise is redrawn between forward and backward; draw eta "
        "once, outside, and hand the same eta to both"
        for who, one, two in pairs
        if not np.allclose(one, two, rtol=1e-12, atol=1e-14, equal_nan=True)
    ]


def _in_common(analytic, numeric, rows):
    """A sentence where every leaf is wrong by the same factor."""
    if len(rows) < 2 or any(row.verdict != "WRONG" or row.kinks for row in rows):
        return []
    if not np.all(np.isfinite(analytic + numeric)) or not (np.any(analytic) and np.any(numeric)):
        return []
    with np.errstate(all="ignore"):                                # squares may underflow
        c = (analytic @ numeric) / (numeric @ numeric)
    if not np.isfinite(c) or np.max(relative_error(analytic, c * numeric)) > 1e-5 or abs(c - 1) < 1e-5:
        return []
    return [
        f"analytic = {c:.6g} · numeric in every leaf; it is one mistake, where the backward starts; look at "
        "the sign, the mean and the weights of L itself"
    ]


def _scale(a, n):
    """The denominator of (8.2)."""
    both = np.maximum(np.abs(a), np.abs(n))
    return np.maximum(both, 1e-2 * np.max(both))


def _number(value):
    """What f returned, as a float; refuses arrays, and anything less precise than float64."""
    value = to_numpy(value)
    if value.size != 1:
        raise ValueError(
            f"f must return one number, got shape {value.shape}; weight the values by random numbers and sum"
        )
    if value.dtype in (np.float16, np.float32):
        raise TypeError(f"f returned {value.dtype}; a gradient check needs float64 throughout")
    return value.item()


def _vector(grads, params):
    """The gradient tree as one new vector, once its structure is known to be that of params."""
    _require_float64(grads, "grads")
    wanted, given = ([(path, leaf.shape) for path, leaf in tree.leaves(t)] for t in (params, grads))
    if sorted(wanted) != sorted(given):
        hint = "; a shape is transposed" if [(path, s[::-1]) for path, s in given] == wanted else ""
        raise ValueError(
            "params and grads differ in structure or shape: params has "
            + ", ".join(f"{path} {shape}" for path, shape in wanted)
            + "; grads has "
            + (", ".join(f"{path} {shape}" for path, shape in given) or "no leaves")
            + hint
        )
    return tree.flatten(grads, params)


def _require_float64(arrays, what):
    for path, leaf in tree.leaves(arrays):
        if not isinstance(leaf, (np.ndarray, np.float64)) or leaf.dtype != np.float64:
            raise TypeError(
                f"a gradient check needs NumPy arrays of float64; leaf {path!r} of {what} is "
                f"{getattr(leaf, 'dtype', type(leaf).__name__)}; float32 has seven digits, of which a "
                "difference quotient leaves three"
            )
        if leaf.size == 0:
            raise ValueError(f"leaf {path!r} of {what} has shape {leaf.shape}: nothing to check")


def _index(index):
    return tuple(int(i) for i in index)


def _ranges(numbers):
    """0, 1, 2, 5 as "0–2, 5"."""
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs)


def align(cells):
    """Rows of strings as lines of aligned columns."""
    widths = [max(len(row[k]) for row in cells) for k in range(len(cells[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
    return "\n".join(line.rstrip() for line in lines)
