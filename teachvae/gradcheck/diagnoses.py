"""One small function per mistake of a gradient: what is seen; what it means; where to look; or ""."""

from dataclasses import replace
from itertools import combinations

import numpy as np

from .differences import relative_error
from .evidence import meaning_of_factor
from .terms import within_terms


def not_finite(e):
    """Overflow, or a division by 0: where either gradient is not finite."""
    bad_a, bad_n = ~np.isfinite(e.analytic), ~np.isfinite(e.numeric)
    if not (bad_a.any() or bad_n.any()):
        return ""
    whose = "the analytic gradient" if bad_a.any() else "f, here or a step beside,"
    return (
        f"{whose} is not finite {replace(e, wrong=bad_a | bad_n, zero=0.0).where}; an overflow, a log of 0 "
        "or a division by 0; look for the exp of something large"
    )


def at_a_kink(e):
    """No derivative: where the slopes to the left and to the right differ."""
    if not e.kink.any():
        return ""
    also = f"; it is also wrong {e.where}" if e.wrong.any() else ""
    return (
        f"f has a kink {replace(e, wrong=e.kink).where}; the slopes to the left and to the right differ, as "
        f"where a ReLU meets 0, and there is no derivative to compare with; draw another point{also}"
    )


def zero_everywhere(e):
    """A check of nothing: both gradients are zero at every index."""
    if np.any(np.maximum(np.abs(e.analytic), np.abs(e.numeric)) > e.zero):
        return ""
    if np.any(e.analytic) and np.max(np.abs(e.analytic)) > 1e-3 * np.max(e.zero):
        return undecided(replace(e, open=np.ones(e.p.shape, dtype=bool)))
    return (
        "both gradients are zero at every index, which proves nothing; f does not depend on this leaf at "
        "this point; take parameters away from zero, and a random cotangent instead of a plain sum"
    )


def undecided(e):
    """Rounding of f hides whether the gradients differ."""
    if not e.open.any():
        return ""
    return (
        f"rounding of f decides {replace(e, wrong=e.open).where}; f is {e.probe.value:.3g} here and rounded "
        f"by about {e.probe.rounding:.0e}, so no step shows its slope to better than "
        f"{np.max(e.zero[e.open]):.0e}, and the two gradients differ by no more; take a large constant off "
        "f, or bring f and its slopes nearer to each other in size"
    )


def barely_off(e):
    """Few digits: the error is small for a wrong formula."""
    worst = np.max(e.error[e.wrong])
    if worst >= 100 * e.tolerance:
        return ""
    return (
        f"the error is {worst:.0e} {e.where}, small for a wrong formula; a number of few digits is likelier; "
        "look for float32 on the way, or a constant that was cut short"
    )


def never_reached(e):
    """A backward that does not get here: analytic is exactly zero."""
    if np.any(e.analytic[e.wrong]):
        return ""
    return (
        f"analytic is exactly zero {e.where} and numeric is not; the backward never reached this leaf there; "
        "look for a gradient computed and not returned, or a path that was left out"
    )


def not_used(e):
    """A forward that does not read this leaf: numeric is zero."""
    if np.any(np.abs(e.numeric) > e.zero, where=e.wrong):
        return ""
    return (
        f"numeric is zero {e.where} and analytic is not; f does not use the params that it is handed there; "
        "look for a forward that reads other arrays, or a mask that the backward forgot"
    )


def sign_flipped(e):
    """A forgotten minus: analytic = −numeric."""
    if not e.explained_by(-e.numeric):
        return ""
    return (
        f"analytic = −numeric {e.where}; the sign is flipped; look for a forgotten minus, such as that of "
        "−log p, or of ∂(x − f)/∂f = −1"
    )


def constant_factor(e):
    """A forgotten ½ or 2, a mean for a sum: analytic = c · numeric."""
    alone = e.wrong.sum() == 1
    c = e.analytic[e.wrong] / e.numeric[e.wrong] if alone else e.fit(0.0, e.numeric)
    if c is None:
        return ""
    meaning = meaning_of_factor(c.item(), e.counts, e.p.shape)
    if alone and not meaning:
        return ""
    meaning = meaning or "a constant that only one of forward and backward has"
    return f"analytic = {c.item():.6g} · numeric {e.where}; {meaning}; look at the constants of its equation"


def transposed(e):
    """An xᵀ dy that became dyᵀ x, or a reshape for a transpose."""
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
    """Two gradients that were exchanged: analytic is that of another leaf."""
    for path, other, _ in e.others:
        if other.shape == e.p.shape and e.explained_by(other):
            return (
                f"analytic is the gradient of {path}; two gradients are exchanged; look at the order in "
                "which the backward returns them"
            )
    return ""


def log_mixed_up(e):
    """A forgotten chain rule: analytic = c · exp(±p) · numeric, or with exp(±2p), p, 1/p for exp(±p)."""
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


def of_other_params(e):
    """A forgotten bias, or one of the wrong sign: analytic is the gradient for other values of a leaf."""
    for path, place in [*((path, place) for path, _, place in e.others), (e.path, e.place)]:
        for factor, were, happened in (
            (0, "0", "is left out on the way, as a bias that the forward adds and the backward does not, or "
                     "a scale exp(·) taken for 1"),
            (-1, f"−{path}", "has its sign turned on the way"),
        ):
            if e.explained_by(e.probe.slopes_where(e.place, place, factor).reshape(e.p.shape)):
                return (
                    f"analytic is the gradient that would be right {e.where} if {path} were {were}; {path} "
                    f"{happened}; look at where it enters"
                )
    return ""


def factor_per_slice(e):
    """A weight left out or used twice: another factor for every index of an axis."""
    for axis in range(e.p.ndim):
        if e.fit(0.0, e.numeric, axis) is not None:
            return (
                f"analytic = c · numeric {e.where}, with another c for every index of axis {axis}; a weight "
                "per index is left out or used twice; look at the incoming gradient (it is not all ones), "
                "the sample weights and the mask"
            )
    return ""


def missing_term(e):
    """A term dropped or counted twice: analytic − numeric = c · (a function of p)."""
    s, s2 = np.exp(e.p), np.exp(2 * e.p)
    terms = [
        ("c", np.ones_like(e.p), ""),
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
                meaning = meaning or _of_constant(e, axis)
                c_is = f"c = {c.item():.6g}" if axis is None else f"another c for every index of axis {axis}"
                return (
                    f"analytic − numeric = {name} {e.where}, p being the parameter and {c_is}; {meaning}; "
                    "look for a term of f that the backward dropped or doubled"
                )
    return ""


def _of_constant(e, axis):
    """What a constant that is missing can be: one per column is of something that all data cases share."""
    if axis is not None and axis == e.p.ndim - 1:
        return "something that all data cases share is left out on the way, such as a bias"
    return "an additive constant is missing, such as the −1 of s² − 1, or the ½ that ½ log ψ leaves"


def moved(e):
    """The right numbers at the wrong places: shifted or permuted."""
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
    """None of the mistakes above: where it is wrong."""
    if np.all(e.wrong):
        return "wrong at every index, in no pattern known here; look at this leaf's equation line by line"
    return (
        f"wrong {e.where}, and right elsewhere; a term that reaches only these is missing or wrong; look at "
        "what their equation has and the others' has not"
    )


PATTERNS = [
    never_reached, not_used, sign_flipped, constant_factor, log_mixed_up, within_terms, of_other_params,
    factor_per_slice, missing_term,
]
DIAGNOSES = [
    barely_off, never_reached, not_used, sign_flipped, constant_factor, transposed, of_another_leaf,
    log_mixed_up, within_terms, of_other_params, factor_per_slice, missing_term, moved, two_mistakes,
    unrecognised,
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
