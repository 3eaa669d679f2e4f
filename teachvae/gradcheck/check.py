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

import numpy as np

from ..arrays import tree
from .answers import beside, fault_of, is_nothing
from .diagnoses import explain
from .differences import Probe, number_of, relative_error, rounding_of
from .evidence import Evidence, index_of, meaning_of_factor
from .report import Report, Row, unusable
from .terms import terms_of


def check(f, params, grads, *, h=1e-5, tolerance=1e-7, names=None, counts=None, terms=None, inputs=None):
    """Compare the gradient `grads` of f with central differences at every index; returns a `Report`.

    f       params → one number
    params  a tree of float64 arrays (one array is a tree too); copied, the caller's are never written
    grads   a tree of the same structure and shapes, or a function params → such a tree
    names   what to call the leaves, in their order, where their paths say too little
    counts  numbers that would show as a factor where a mean is forgotten, such as {"N": 6, "S": 7}
    terms   {"reconstruction": f1, "KL": f2, …}, functions whose sum is f: a mistake is looked for within
            each, so the finer they are the better. One that returns its summands, (S,) or (S, N), shows what
            was forgotten under their sum too
    inputs  {"eta": eta, "s": s, …}, arrays that are factors somewhere: each is tried as one left out

    A leaf is "ok" where every error (8.2) is below `tolerance`. It is "?" where nothing is proved: its
    gradient is all zero, f has a kink, or no step shows the slope of f so well, and what it shows does not
    speak against the gradient. Neither "?" nor "WRONG" has passed. The keys of dicts are matched by name,
    in whatever order they stand. Where grads are None, of another structure, shape or dtype, the leaf is
    "WRONG" and the sentence says so. Raises TypeError where params or f are anything but float64, ValueError
    where the terms do not add up to f.
    """
    _require_float64(params, "params")
    flat, p = tree.pack(params)
    before = flat.copy()
    value = number_of(f(p))
    probe = Probe(f, p, flat, value, h, rounding_of(f, p, flat, value))
    parts = terms_of(value, p, terms, inputs)
    analytic, faults, surplus = _read(grads(p) if callable(grads) else grads, p, counts)
    again = _read(grads(p), p, counts)[0] if callable(grads) else analytic
    redrawn = _redrawn(probe.value, number_of(f(p)), analytic, again)
    if not np.array_equal(flat, before):
        raise ValueError("f or grads changed its params in place; a gradient check needs them as they were")

    numeric = np.array([0.5 * sum(probe.slopes(i)) for i in range(len(flat))])                   # (8.1)
    paths = names or [path or "params" for path, _ in tree.leaves(p)]
    trees = (p, tree.views(analytic, p), tree.views(numeric, p))
    leaves = list(zip(paths, *([leaf for _, leaf in tree.leaves(t)] for t in trees), faults, strict=True))
    stops = np.cumsum([leaf.size for _, leaf, *_ in leaves])
    places = [slice(int(stop) - leaf.size, int(stop)) for stop, (_, leaf, *_) in zip(stops, leaves)]
    rows = []
    for (path, leaf, a, n, fault), place in zip(leaves, places):
        if fault:
            rows.append(unusable(path, leaf.shape, *fault))
            continue
        error = relative_error(a, n)                                                             # (8.2)
        kink, doubt = np.zeros(leaf.shape, dtype=bool), np.zeros(leaf.shape)
        for j in () if redrawn else np.flatnonzero(error >= tolerance):
            kink.flat[j] = probe.on_kink(place.start + j, abs(a.flat[j] - n.flat[j]))
            if not kink.flat[j]:
                n.flat[j], doubt.flat[j] = probe.refined(place.start + j)
        error = relative_error(a, n)
        if redrawn:
            verdict, diagnosis = "WRONG", "the numeric gradient is a difference of two noises"
        else:
            off = (error >= tolerance) & ~kink
            undecided_ = off & (np.abs(a - n) <= doubt)
            seen = leaf, a, n, error, off & ~undecided_, undecided_, kink
            zero = np.where(doubt > 0, doubt, probe.zero)
            others = [(leaf[0], leaf[3], there) for leaf, there in zip(leaves, places) if there != place]
            known = zero, tolerance, counts or {}, others, probe, path, place, parts
            verdict, diagnosis = explain(Evidence(*seen, *known))
        worst = index_of(np.unravel_index(np.argmax(error), leaf.shape))
        kinks = tuple(index_of(index) for index in np.argwhere(kink))
        numbers = float(error[worst]), worst, float(a[worst]), float(n[worst])
        rows.append(Row(path, leaf.shape, *numbers, diagnosis, verdict, kinks))
    return Report(rows, tolerance, redrawn or surplus + _in_common(analytic, numeric, rows, counts or {}))


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


def _redrawn(value, again, analytic, analytic_again):
    """Sentences where f, or the backward, gives two answers at one point."""
    pairs = [("f", np.array([value]), np.array([again])), ("the backward", analytic, analytic_again)]
    return [
        f"{who} gives two answers at one point; noise is redrawn between forward and backward; draw eta "
        "once, outside, and hand the same eta to both"
        for who, one, two in pairs
        if not np.allclose(one, two, rtol=1e-12, atol=1e-14, equal_nan=True)
    ]


def _in_common(analytic, numeric, rows, counts):
    """A sentence where every leaf is wrong by the same factor."""
    if len(rows) < 2 or any(row.verdict != "WRONG" or row.kinks for row in rows):
        return []
    if not np.all(np.isfinite(analytic + numeric)) or not (np.any(analytic) and np.any(numeric)):
        return []
    with np.errstate(all="ignore"):                                # squares may underflow
        c = (analytic @ numeric) / (numeric @ numeric)
    if not np.isfinite(c) or np.max(relative_error(analytic, c * numeric)) > 1e-5 or abs(c - 1) < 1e-5:
        return []
    look = meaning_of_factor(c, counts, ()) or "look at the sign, the mean and the weights of L itself"
    return [
        f"analytic = {c:.6g} · numeric in every leaf; it is one mistake, where the backward starts; {look}"
    ]


def _read(grads, params, counts):
    """The gradient tree as one new vector, NaN where a leaf cannot be compared; why, leaf by leaf, as what
    `unusable` asks, or (); and sentences on what has no place in params.
    """
    pairs, surplus = beside(params, grads)
    vector, faults = [], []
    for _, leaf, given in pairs:
        fault = fault_of(given, leaf.shape, counts)
        faults.append((fault, not is_nothing(given)) if fault else ())
        vector.append(np.full(leaf.size, np.nan) if fault else np.ravel(np.asarray(given, dtype=float)))
    return np.concatenate(vector), faults, surplus


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
