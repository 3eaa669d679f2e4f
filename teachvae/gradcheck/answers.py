"""What was handed in, before its numbers are looked at: nothing, a list, float32, another shape, other names.

A gradient, a value or parameters are asked for as a tree of arrays. `beside` lays what came back beside
it, and `fault_of` says of one leaf what keeps its numbers from being compared, in a sentence of its own.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np


@dataclass(frozen=True)
class Misfit:
    """Stands for the leaves of a branch that cannot be laid beside what is asked, and says why."""

    sentence: str


def beside(asked, given, path=""):
    """What is `given` for each leaf of the tree `asked`, and sentences on what is given beyond it.

    Returns [(path, leaf of asked, what is given there)], a `Misfit` where the structures part, and a list of
    sentences. The keys of dicts are matched by name, in whatever order they stand.
    """
    if not isinstance(asked, (dict, list, tuple)):
        return [(path, asked, given)], []
    names, where = _branches(asked), f" for {path}" if path else ""
    if is_nothing(given) or isinstance(given, Misfit):
        found = dict.fromkeys(names, given)
    elif sentence := _of_structure(asked, given, where):
        found = dict.fromkeys(names, Misfit(sentence))
    else:
        found = _branches(given)
    pairs, surplus = [], []
    for name, branch in names.items():
        below = _joined(path, name, asked)
        absent = Misfit(f"it is not there; what came back{where} has {_listed(found) or 'nothing in it'}")
        more, too_many = beside(branch, found.get(name, absent), below)
        pairs += more
        surplus += too_many
    surplus += [
        f"{_joined(path, name, asked)} came back, and nobody asked for it; the names are {_listed(names)}"
        for name in found if name not in names
    ]
    return pairs, surplus


def is_nothing(given):
    """Whether nothing was handed in: None, the … of an exercise, or NotImplemented."""
    return given is None or given is Ellipsis or given is NotImplemented


def fault_of(given, shape, counts=None, kind="f"):
    """Why `given` is no array of this shape and NumPy `kind`, of float64 where that is "f"; "" where it is.

    counts  names of lengths, such as {"N": 5, "S": 3}, so that an axis can be called by its name
    """
    if isinstance(given, Misfit):
        return given.sentence
    if given is None:
        return "None came back; the function ends without a return, or this was computed and not returned"
    if is_nothing(given):
        return "it is still the … of the exercise; put your own line there"
    if isinstance(given, (list, tuple)):
        return (
            f"{_a(given)} came back, where an array of shape {shape} is asked for; make it one by np.array(…)"
        )
    if callable(given):
        return "a function came back, where its result is asked for; call it"
    if not isinstance(given, (np.ndarray, np.generic)) and not _is_number(given):
        return f"{_a(given)} came back, where a NumPy array of shape {shape} is asked for"
    array = np.asarray(given)
    return _of_dtype(given, array.dtype, kind) or _of_shape(array.shape, shape, counts or {})


def _of_structure(asked, given, where):
    """What keeps the branches of two trees from being laid side by side, in a sentence; or ""."""
    if _has_names(asked):
        if _has_names(given):
            return ""
        names = _listed(_branches(asked))
        return f"{_a(given)} came back{where}, where a dict with the names {names} is asked for"
    if isinstance(given, (list, tuple)) and len(given) == len(asked):
        return ""
    length = f" of length {len(given)}" if isinstance(given, (list, tuple)) else ""
    return f"{_a(given)}{length} came back{where}, where {len(asked)} arrays in their order are asked for"


def _of_dtype(given, dtype, kind):
    if dtype == np.float64 if kind == "f" else dtype.kind in ("iu" if kind == "i" else kind):
        return ""
    if kind == "f" and dtype.kind == "f" and dtype.itemsize < 8:
        return (
            f"it is {dtype}; single precision came in on the way, and seven of sixteen digits are left; look "
            "for astype, dtype=, or data that were float32"
        )
    if kind == "f" and dtype.kind in "iu":
        return "" if type(given) is int else (
            f"it is {dtype}; whole numbers have lost what stood behind the point; look for zeros_like of an "
            "array of whole numbers, or for //"
        )
    if dtype.kind == "O":
        return "it is an array of Python objects; look for rows of different lengths, or for None in it"
    return f"it is {dtype}, where {KINDS[kind]} is asked for"


KINDS = {"f": "float64", "i": "an array of whole numbers", "b": "an array of bool"}


def _of_shape(got, shape, counts):
    if got == shape:
        return ""
    says = f"it has shape {got} where {shape} is asked for"
    if len(got) > 1 and got == shape[::-1]:
        return f"{says}; it is transposed; look at the order of the product, or take .T"
    if len(got) == len(shape) and all(g in (1, n) for g, n in zip(got, shape)):
        short = _axes([axis for axis, (g, n) in enumerate(zip(got, shape)) if g != n])
        return (
            f"{says}; it has one number along {short}, where each index has its own; it was summed over "
            "there, or would be broadcast; look at axis= and keepdims="
        )
    if axes := _left_out(shape, got):
        if len(got) > 0 or len(shape) == 1:
            return f"{says}; {_named(axes, shape, counts)} is gone; look for a sum or a mean over it"
        return f"{says}; it is one number; look for a sum or a mean over all that is there"
    if axes := _left_out(got, shape):
        if all(got[axis] == 1 for axis in axes):
            return f"{says}; {_axes(axes)} of length 1 is too many; look for keepdims=True, or an index None"
        return f"{says}; {_named(axes, got, counts)} is still there; look for a forgotten sum or mean"
    names = {length: name for name, length in counts.items()}
    other = [(g, n) for g, n in zip(got, shape) if g != n]
    if len(got) == len(shape) and all(g in names and n in names for g, n in other):
        instead = " and ".join(f"{names[g]} = {g} stands for {names[n]} = {n}" for g, n in other)
        return f"{says}; {instead}; look for a sum over the wrong axis"
    if np.prod(got) == np.prod(shape):
        return f"{says}; the numbers of its entries agree; look for a reshape"
    return says


def _left_out(longer, shorter):
    """The axes that `longer` has and `shorter` has not, where the rest agrees; () where it does not."""
    for axes in combinations(range(len(longer)), max(len(longer) - len(shorter), 0)):
        if axes and tuple(n for axis, n in enumerate(longer) if axis not in axes) == shorter:
            return axes
    return ()


def _named(axes, shape, counts):
    names = {length: name for name, length in counts.items()}
    lengths = [f"{names[n]} = {n}" if (n := shape[axis]) in names else str(n) for axis in axes]
    return f"{_axes(axes)} of length {' and '.join(lengths)}"


def _axes(axes):
    return ("axis " if len(axes) == 1 else "axes ") + " and ".join(str(axis) for axis in axes)


def _is_number(given):
    return isinstance(given, (bool, int, float, complex))


def _branches(tree):
    if hasattr(tree, "_asdict"):                                   # a named tuple
        return tree._asdict()
    return tree if isinstance(tree, dict) else dict(enumerate(tree))


def _has_names(tree):
    return isinstance(tree, dict) or hasattr(tree, "_asdict")


def _joined(path, name, tree):
    if _has_names(tree):
        return f"{path}.{name}" if path else str(name)
    return f"{path}[{name}]"


def _listed(names):
    return ", ".join(str(name) for name in names)


def _a(given):
    name = type(given).__name__
    name = {"ndarray": "array", "str": "text", "NoneType": "None"}.get(name, name)
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"
