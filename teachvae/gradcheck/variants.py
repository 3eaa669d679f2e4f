"""The mistakes that one term of a sum can have, each as the gradient that it would give.

A term may be known by its summands, one for every sample s and data case n: then a factor that was forgotten
under the sum, as η_ns, can be told too, though the sum itself shows no factor.
"""

from dataclasses import dataclass

import numpy as np

from .evidence import meaning_of_factor, readings


@dataclass(frozen=True)
class Variant:
    """A mistake: what the term does, a verb and what follows it; where to look; the slopes it would give."""

    says: str
    look: str
    slopes: np.ndarray


def variants(summands, p, inputs, counts, others):
    """Every `Variant` of one term of f, from the plainest on.

    summands  (…, *leaf) slopes of the term's summands in every entry of the leaf; the term's are their sum
    p         (*leaf) the parameters
    inputs    {name: array}, tried as factors where its shape goes with some of summands' axes and the leaf's
    others    {path: (*leaf) slopes of the same term in another leaf of the same shape}
    """
    depth = summands.ndim - p.ndim
    whole = summands.sum(axis=tuple(range(depth)))
    yield Variant("is missing", "look for what was computed and not added", 0.0 * whole)
    yield Variant("has its sign turned", "look for a forgotten minus, or one too many", -whole)
    yield from _factors(whole, counts)
    yield from _places(whole)
    yield from _inputs(summands, depth, inputs)
    yield from _exponentials(whole, p)
    yield from _exchanged(inputs, others)
    yield from _summed_short(summands, depth)


def _factors(whole, counts):
    for value in dict.fromkeys(value for value, _ in readings(counts, whole.shape)):
        for factor in (value, -value):
            meaning = meaning_of_factor(factor, counts, whole.shape)
            yield Variant(f"has the factor {factor:.6g}", meaning, factor * whole)


def _inputs(summands, depth, inputs):
    for name, given in inputs.items():
        for slopes, v in _side_by_side(summands, depth, given):
            def total(ratio):
                return np.sum(slopes * ratio, axis=tuple(range(slopes.ndim - summands.ndim + depth)))

            chain = "look at the chain rule from one line of the forward to the next"
            yield Variant(f"lacks the factor {name}", chain, total(1 / v))
            yield Variant(f"has the factor {name} once too often, or is not divided by it", chain, total(v))
            yield Variant(f"lacks the factor {name}²", chain, total(1 / v**2))
            yield Variant(f"has the factor {name}² too often, or is not divided by it", chain, total(v**2))
            for axis in range(v.ndim):
                for shift in (1, -1):
                    says = f"takes {name} shifted by {shift} along axis {axis} of {v.shape}"
                    yield Variant(says, "an index is off by one", total(np.roll(v, shift, axis) / v))
            for other, instead in inputs.items():
                if other != name:
                    for beside, u in _side_by_side(summands, depth, instead):
                        if beside.shape == slopes.shape:
                            says = f"takes {other} where {name} belongs"
                            yield Variant(says, "look at what the forward put into this place", total(u / v))


def _side_by_side(summands, depth, given):
    """(slopes, given) in shapes that go together: summands, over some of whose own axes they are summed.

    An input of half the leaf's width also goes with its second half: φ = [m | log s].
    """
    widened = [given]
    if given.ndim and 2 * given.shape[-1] == summands.shape[-1]:
        widened.append(np.concatenate([np.ones_like(given), given], axis=-1))
    for kept in range(depth, -1, -1):
        slopes = summands.sum(axis=tuple(range(kept, depth)))
        for v in widened:
            for ones in range(slopes.ndim - v.ndim + 1):
                spread = v.reshape(v.shape + (1,) * ones)
                if all(n in (1, m) for n, m in zip(spread.shape[::-1], slopes.shape[::-1])):
                    yield slopes, spread


def _places(whole):
    """The right numbers at the wrong places, or shared out along an axis."""
    for axis, length in enumerate(whole.shape):
        for other in range(axis):
            if whole.shape[other] == length:
                says = f"is transposed, axes {other} and {axis} exchanged"
                yield Variant(says, "look at the order of the product", np.swapaxes(whole, axis, other))
        if length == 1:
            continue
        yield Variant(f"runs backwards along axis {axis}", "look for [::-1]", np.flip(whole, axis))
        for shift in range(1, length):
            by = shift if shift <= length // 2 else shift - length
            says = f"is shifted by {by} along axis {axis}"
            yield Variant(says, "an index is off; look at the starts and stops", np.roll(whole, shift, axis))
        for name, taken in (("sum", np.sum), ("mean", np.mean)):
            says = f"has its {name} over axis {axis} at every index of it"
            shared = taken(whole, axis=axis, keepdims=True) + 0.0 * whole
            yield Variant(says, "it goes over the wrong axis; look at axis= and keepdims=", shared)


def _exponentials(whole, p):
    for name, ratio in (
        ("exp(p)", np.exp(p)), ("exp(−p)", np.exp(-p)), ("exp(2p)", np.exp(2 * p)),
        ("exp(−2p)", np.exp(-2 * p)), ("p", p), ("1/p", 1 / p),
    ):
        says = f"has the factor {name} too often, p being the parameter"
        look = "log-variance, log s and standard deviation are mixed up; look at ∂s/∂log s = s"
        yield Variant(says, look, ratio * whole)


def _exchanged(inputs, others):
    for path, slopes in others.items():
        look = "look at which gradient goes where, and what is missing between the two"
        yield Variant(f"is that of {path}", look, slopes)
        for name, given in inputs.items():
            for _, v in _side_by_side(slopes, 0, given):
                yield Variant(f"is that of {path}, times {name}", look, v * slopes)


def _summed_short(summands, depth):
    for axis in range(depth):
        rest = tuple(k for k in range(depth) if k != axis)
        each = summands.sum(axis=rest)
        if len(each) > 1:
            look = "an index is off by one; look at where the loop or the slice starts and stops"
            yield Variant(f"leaves out the last index of axis {axis} of its sum", look, each[:-1].sum(axis=0))
            yield Variant(f"leaves out the first index of axis {axis} of its sum", look, each[1:].sum(axis=0))
