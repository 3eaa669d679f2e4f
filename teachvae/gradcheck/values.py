"""A number or an array beside the one that is asked for, where no gradient is: and which mistake it shows.

    report = check_value(log_p, reference)
    print(report)

The reference is another road to the same number. What differs is looked at as a gradient is: first whether
there is an array of that shape, then its numbers, and the likely cause in words.
"""

from itertools import combinations
import math

import numpy as np

from .answers import beside, fault_of, is_nothing
from .evidence import index_of, meaning_of_factor, where_in
from .report import Report, Row, unusable

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def check_value(student, reference, *, names=None, counts=None, tolerance=1e-9):
    """Compare what `student` gave with `reference`, shape, dtype and values; returns a `Report`.

    student    a number, an array or a tree of these; whatever else it is, a sentence says so
    reference  the same as it should be, a tree of numbers and arrays
    names      what to call the leaves, in their order, where their paths say too little
    counts     numbers that would show as a factor or a length, such as {"N": 6, "S": 7}

    The error is |yours − asked| / max(|asked|, largest / 100), largest being the leaf's largest entry in
    size, or |yours| where all of the leaf is asked to be zero. A leaf is "ok" where it is nowhere above
    `tolerance`, and infinities and NaN are where they are asked for; "?" where the reference has only NaN, so
    that nothing is proved. `Report.outcome` is "not attempted", "not yet" or "right". Raises TypeError where
    the reference holds anything but numbers, ValueError where it holds none.
    """
    pairs, surplus = beside(reference, student)
    if not pairs:
        raise ValueError("the reference holds no number: there is nothing to compare with")
    rows = []
    names = names or [path or "value" for path, *_ in pairs]
    for (_, asked, given), name in zip(pairs, names, strict=True):
        asked = np.asarray(asked)
        if asked.dtype.kind not in "fiub":
            raise TypeError(f"the reference must be numbers; leaf {name!r} is {asked.dtype}")
        if asked.size == 0:
            raise ValueError(f"leaf {name!r} of the reference has shape {asked.shape}: nothing to compare")
        rows.append(_compared(name, given, asked, counts or {}, tolerance))
    return Report(rows, tolerance, surplus, ("yours", "asked"))


def _compared(name, given, asked, counts, tolerance):
    """The `Row` of one leaf."""
    kind = "i" if asked.dtype.kind == "u" else asked.dtype.kind
    if fault := fault_of(given, asked.shape, counts, kind):
        fault += _of_other_shape(given, asked, tolerance)
        return unusable(name, asked.shape, fault, attempted=not is_nothing(given))
    yours, asked = np.asarray(given, dtype=float), asked.astype(float)
    with np.errstate(all="ignore"):                                # what overflows explains nothing
        error = value_error(yours, asked)
        wrong = error > tolerance
        verdict, diagnosis = "ok", ""
        if np.all(np.isnan(asked)):
            verdict, diagnosis = "?", "the reference is NaN at every index, which proves nothing"
        elif wrong.any():
            verdict, diagnosis = "WRONG", _explained(yours, asked, wrong, counts, tolerance)
    worst = index_of(np.unravel_index(np.argmax(error), asked.shape))
    numbers = float(error[worst]), worst, float(yours[worst]), float(asked[worst])
    return Row(name, asked.shape, *numbers, diagnosis, verdict)


def value_error(yours, asked):
    """|yours − asked| relative to what is asked, at every index; infinite where one alone is no number."""
    finite = np.isfinite(yours) & np.isfinite(asked)
    same = (yours == asked) | (np.isnan(yours) & np.isnan(asked))
    size = np.abs(np.where(np.isfinite(asked), asked, 0.0))
    scale = np.maximum(size, 1e-2 * size.max())
    difference = np.where(finite, yours, 0.0) - np.where(finite, asked, 0.0)
    off = np.abs(difference) / (scale if size.max() > 0 else 1.0)
    return np.where(same, 0.0, np.where(finite, off, np.inf))


def _explained(yours, asked, wrong, counts, tolerance):
    """The first mistake that makes `asked` into `yours`, in words."""
    where = where_in(wrong, ~wrong & (asked == 0))
    bad = ~np.isfinite(yours) & wrong
    if bad.any():
        what, at = "NaN" if np.isnan(yours[bad]).all() else "not finite", where_in(bad, np.zeros_like(bad))
        return (
            f"it is {what} {at}; look for a log of 0 or of something negative, a division by 0, or the exp "
            "of something large"
        )
    if not np.any(yours):
        return "it is zero at every index; look for an array that was made and not filled"

    def agrees(candidate):
        errors = value_error(yours, candidate), value_error(candidate, yours)  # of either's size
        return bool(np.all(np.maximum(*errors)[wrong] <= 2 * tolerance))

    if not np.any(yours[wrong]):
        return f"it is 0 {where}, and right elsewhere; look for what was not filled, a mask, or a diagonal"
    if np.all(yours >= 0) and np.any(~wrong & (asked > 0)) and agrees(np.abs(asked)):
        return f"its sign is lost {where}; look for a square, an abs or a root of a square"
    for says, candidate in _candidates(asked):
        if np.all(np.isfinite(candidate[wrong])) and agrees(candidate):
            return says.format(where=where)
    if wrong.sum() > 1 or asked.size == 1:
        if constant := _off_by_a_constant(yours, asked, wrong, where, agrees, counts):
            return constant
    if np.max(value_error(yours, asked)) < 1e-5:
        return f"it is close {where}, but not equal; look for a small number added, or for lost digits"
    in_order = value_error(np.sort(yours, axis=None), np.sort(asked, axis=None))
    if asked.size > 1 and np.all(in_order <= tolerance):
        return "the right numbers stand at the wrong places; look for a reshape, or a sort"
    if where == "at every index":
        return "it is another number at every index, in no pattern known here; look at its equation by terms"
    return f"it is wrong {where}, and right elsewhere; look at what is different about these"


def _candidates(asked):
    """(sentence, array): what each mistake would make of what is asked."""
    yield "it has its sign turned {where}; look at whether it is log p or −log p, Q or the ELBO", -asked
    for axis in range(asked.ndim):
        for other in range(axis):
            if asked.shape[other] == asked.shape[axis]:
                yield (
                    f"it is transposed, axes {other} and {axis} exchanged; look at the order of the product",
                    np.swapaxes(asked, axis, other),
                )
        if asked.shape[axis] > 1:
            yield f"it runs backwards along axis {axis}; look for [::-1]", np.flip(asked, axis)
            for shift in range(1, asked.shape[axis]):
                yield (
                    f"it is shifted by {shift} along axis {axis}; look at where a slice starts and stops",
                    np.roll(asked, shift, axis),
                )
            for name, taken in (("sum", np.sum), ("mean", np.mean)):
                yield (
                    f"it has its {name} over axis {axis} at every index of it; look at axis= and keepdims=",
                    taken(asked, axis=axis, keepdims=True) + 0.0 * asked,
                )
    for name, made in (
        ("its log", np.log(asked)), ("minus its log", -np.log(asked)), ("its exp", np.exp(asked)),
        ("the exp of minus it", np.exp(-asked)), ("1 over it", 1 / asked),
        ("its square, as a variance for a standard deviation,", asked**2),
        ("its root, as a standard deviation for a variance,", np.sqrt(asked)),
        ("its log in base 2", np.log2(asked)),
        ("its normalised values: they are divided by their sum", asked / np.sum(asked)),
        ("what is asked, cut off to whole numbers", np.trunc(asked)),
    ):
        yield f"it is {name} {{where}}, where what is asked is the number itself", made


def _off_by_a_constant(yours, asked, wrong, where, agrees, counts):
    """yours = asked · c, or asked + c, with what c can be."""
    c = np.sum((yours * asked)[wrong]) / np.sum(asked[wrong] ** 2)
    offset = np.mean((yours - asked)[wrong])
    added = _meaning_of_offset(offset, counts)
    factor = np.isfinite(c) and agrees(c * asked)
    meaning = _meaning_of_scale(c, counts, asked.shape) if factor else ""
    if factor and (meaning or wrong.sum() > 1 and not added):
        return f"it is {c:.6g} times what is asked {where}; {meaning or 'look at its constant factors'}"
    if agrees(asked + offset) and (added or wrong.sum() > 1):
        return f"it is off by {offset:+.6g} {where}; {added or 'look for an additive constant'}"
    return ""


def _meaning_of_scale(c, counts, shape):
    for value, one, other in ((math.log(2), "nats", "bits"), (1 / math.log(2), "bits", "nats")):
        if np.isclose(abs(c), value, rtol=1e-9):
            return f"the factor is that between nats and bits: {one} stand where {other} belong"
    return meaning_of_factor(c, counts, shape)


def _meaning_of_offset(offset, counts):
    """What a constant can stand for that was left out or is too many."""
    many = offset / HALF_LOG_2PI
    if abs(many) > 0.5 and abs(many - round(many)) < 1e-7 * abs(many):
        times, doing = abs(round(many)), "too many" if many > 0 else "missing"
        named = "".join(f", {name} = {count}" for name, count in counts.items() if count == times)
        return (
            f"it is {times} · ½ log 2π{named}: the constant of a Gaussian density of {times} "
            f"variable{'s' if times > 1 else ''} is {doing}, or has the wrong sign"
        )
    for name, count in counts.items():
        if count > 1 and np.isclose(abs(offset), math.log(count), rtol=1e-8):
            return f"it is log {name} = log {count}: under the log, sum and mean are taken for one another"
    if np.isclose(abs(offset), 1, rtol=1e-9) or np.isclose(abs(offset), 0.5, rtol=1e-9):
        return "a constant is missing or has its sign turned, such as the −1 of s² − 1"
    return ""


def _of_other_shape(given, asked, tolerance):
    """What the numbers of another shape are, "; …", where they can be told."""
    if not isinstance(given, (np.ndarray, np.generic, float)) or np.asarray(given).dtype.kind not in "fiu":
        return ""
    yours, asked = np.asarray(given, dtype=float), asked.astype(float)
    if yours.shape == asked.shape:                                 # the dtype is what is wrong
        return ""
    whole, part = (asked, yours) if asked.size > yours.size else (yours, asked)
    for k in range(1, whole.ndim + 1):
        for axes in combinations(range(whole.ndim), k):
            for name, taken in (("sum", np.sum), ("mean", np.mean), ("largest", np.max)):
                reduced = taken(whole, axis=axes)
                if reduced.size == part.size and np.all(
                    value_error(reduced.reshape(part.shape), part) <= 2 * tolerance
                ):
                    over = f"over axis {axes[0]}" if k == 1 else f"over axes {axes}"
                    if whole is asked:
                        return f"; its numbers are the {name} {over} of what is asked"
                    return f"; what is asked is its {name} {over}"
    return ""
