"""The mistake within one term of f = f₁ + f₂ + …, where the gradients of the others are right.

Q is a reconstruction term and a KL, and most wrong gradients of Q are right but for one of the two. Each
term's own numeric gradient is what that one can be seen in: every mistake of `variants` is tried within each
term, first in one alone, then in two together.
"""

from dataclasses import dataclass

import numpy as np

from ..arrays.backend import to_numpy
from .evidence import meaning_of_factor
from .variants import variants


@dataclass(frozen=True)
class Terms:
    """The terms of f, {name: function}, and the inputs to be tried as factors, {name: array}.

    A function gives its term, or the term's summands, (S,) or (S, N): params → one number or an array.
    """

    functions: dict
    inputs: dict

    def summands(self, name, probe, place, shape):
        """(…, *shape) slopes, by central differences, of a term's summands in the leaf at `place`."""
        slopes = []
        for i in range(place.start, place.stop):
            here = probe.flat[i]
            step = probe.h * max(1, abs(here))
            low, high = here - step, here + step                   # rounded, and so is the step to them
            try:
                probe.flat[i] = low
                below = values_of(name, self.functions[name], probe.p)
                probe.flat[i] = high
                slopes.append((values_of(name, self.functions[name], probe.p) - below) / (high - low))
            finally:
                probe.flat[i] = here
        return np.stack(slopes, axis=-1).reshape(*slopes[0].shape, *shape)


def terms_of(f_value, p, terms, inputs):
    """The `Terms` at the point p, or None where neither terms nor inputs are given.

    Raises ValueError where the terms do not add up to f, and TypeError for anything but float64.
    """
    if terms is not None:
        parts = {name: values_of(name, function, p) for name, function in terms.items()}
        total = sum(float(part.sum()) for part in parts.values())
        size = max([abs(f_value), *(float(np.abs(part).sum()) for part in parts.values())])
        if not abs(total - f_value) <= 1e-9 * size:
            raise ValueError(
                f"the terms {', '.join(terms)} add up to {total!r}, and f is {f_value!r} at the same params: "
                "give terms whose sum is f, with the same noise, data and weights"
            )
    inputs = {name: np.asarray(to_numpy(given)) for name, given in (inputs or {}).items()}
    for name, given in inputs.items():
        if given.dtype.kind not in "fiub":
            raise TypeError(
                f"inputs must be arrays of numbers, to be tried as factors; {name!r} is {given.dtype}"
            )
    inputs = {name: given.astype(float) for name, given in inputs.items()}
    return Terms(terms or {}, inputs) if terms or inputs else None


def values_of(name, function, p):
    """A term's summands as an array (…) of float64."""
    values = np.asarray(to_numpy(function(p)))
    if values.dtype != np.float64:
        raise TypeError(
            f"the term {name!r} returned {values.dtype}; a gradient check needs float64 throughout"
        )
    return values


def within_terms(e):
    """A mistake within one term, or in each of two; the rest is right."""
    if e.terms is None:
        return ""
    summands = {
        name: e.terms.summands(name, e.probe, e.place, e.p.shape) for name in e.terms.functions
    } or {"": e.numeric}
    whole = {name: _total(slopes, e) for name, slopes in summands.items()}
    live = [name for name in whole if np.any(np.abs(whole[name]) > np.max(e.zero))]
    found = {}
    for name in live:
        found[name] = list(variants(summands[name], e.p, e.terms.inputs, e.counts, _in_others(e, name)))
        rest = e.numeric - whole[name]
        for variant in found[name]:
            if e.explained_by(rest + variant.slopes):
                return f"{_alone(name, live)} {variant.says} {e.where}; {variant.look}"
    for name in live:
        if name and (sentence := _scaled(e, _alone(name, live), whole[name], found[name])):
            return sentence
    return _in_two(e, whole, found)


def _total(summands, e):
    return summands.sum(axis=tuple(range(summands.ndim - e.p.ndim)))


def _alone(name, live):
    if not name:
        return "the gradient"
    return f"right except for the {name} term, which" if len(live) > 1 else f"the {name} term"


def _in_others(e, name):
    """{path: slopes of the term in the other leaves of the same shape}."""
    if not name:
        return {}
    return {
        path: _total(e.terms.summands(name, e.probe, place, e.p.shape), e)
        for path, numeric, place in e.others if numeric.shape == e.p.shape
    }


def _scaled(e, subject, whole, found):
    """A factor too many in a term, alone or beside another mistake; or one for every index of an axis."""
    rest = e.numeric - whole
    if (c := e.fit(rest, whole)) is not None:
        return (
            f"{subject} has the factor {c.item():.6g} {e.where}; a constant that only one of forward and "
            "backward has"
        )
    for variant in found:
        if (c := e.fit(rest, variant.slopes)) is not None:
            c, meaning = c.item(), meaning_of_factor(c.item(), e.counts, e.p.shape)
            says = f"{variant.says}, and has the factor {c:.6g} {e.where}"
            return f"{subject} {says}; {meaning or 'look at the constants too'}; {variant.look}"
    for axis in range(e.p.ndim):
        if e.fit(rest, whole, axis) is not None:
            return (
                f"{subject} has a factor of its own for every index of axis {axis} {e.where}; a weight per "
                "index is left out or used twice"
            )
    return ""


def _in_two(e, whole, found):
    """A mistake in each of two terms. One wrong entry alone would fit some pair of them."""
    if e.wrong.sum() < 2:
        return ""
    names = list(found)
    for i, one in enumerate(names):
        for two in names[i + 1:]:
            rest = e.numeric - whole[one] - whole[two]
            left = (e.analytic - rest)[e.wrong]
            first, second = (np.array([v.slopes[e.wrong] for v in found[name]]) for name in (one, two))
            off = np.max(np.abs(left - first[:, None] - second), axis=-1, initial=0.0)
            for a, b in np.argwhere(off <= 1e-5 * np.max(np.abs(left))):
                a, b = found[one][a], found[two][b]
                if e.explained_by(rest + a.slopes + b.slopes):
                    return (
                        f"two mistakes {e.where}: the {one} term {a.says}; {a.look}; and the {two} term "
                        f"{b.says}; {b.look}"
                    )
    return ""
