"""Parameters as nested dicts and lists of arrays, all of them views into one flat vector.

A tree is a dict, a list or tuple, or an array (a leaf). Two trees match by their dicts' keys, in
whatever order these stand. `pack` copies the leaves of a tree into one vector
and returns the tree again, its leaves now views into that vector: an optimiser, a gradient check,
L-BFGS or a checkpoint works on the one vector, and the layers see the change without being told.
"""

from .backend import namespace


def leaves(tree, path=""):
    """All leaves of `tree` in order, as (path, array) pairs; a path reads ``decoder[0].W``."""
    named = tree._asdict() if hasattr(tree, "_asdict") else tree   # a named tuple
    if isinstance(named, dict):
        return [
            pair
            for key, branch in named.items()
            for pair in leaves(branch, f"{path}.{key}" if path else str(key))
        ]
    if isinstance(tree, (list, tuple)):
        return [pair for i, branch in enumerate(tree) for pair in leaves(branch, f"{path}[{i}]")]
    return [(path, tree)]


def map(function, tree, *others):  # noqa: A001 - tree.map(...) is how it is read
    """The tree of ``function(leaf, *leaves at the same place of others)``."""
    if isinstance(tree, dict):
        return {key: map(function, tree[key], *(o[key] for o in others)) for key in tree}
    if isinstance(tree, (list, tuple)):
        branches = [map(function, *branches) for branches in zip(tree, *others, strict=True)]
        return type(tree)(*branches) if hasattr(tree, "_asdict") else branches
    return function(tree, *others)


def filled(partial, whole):
    """The tree `partial` with branches of `whole` where it has None, or lacks a name."""
    if partial is None:
        return whole
    if isinstance(whole, dict):
        return {name: filled(partial.get(name), branch) for name, branch in whole.items()}
    if isinstance(whole, (list, tuple)):
        return [filled(*pair) for pair in zip(partial, whole, strict=True)]
    return partial


def size(tree):
    """How many numbers the leaves of `tree` hold together."""
    return sum(_count(leaf.shape) for _, leaf in leaves(tree))


def flatten(tree, like=None):
    """A new vector (P,) with the numbers of all leaves, in the order of `like`'s leaves (None: its own)."""
    tree = tree if like is None else map(lambda _, leaf: leaf, like, tree)
    arrays = [leaf for _, leaf in leaves(tree)]
    if not arrays:
        raise ValueError("a tree without leaves has no flat vector")
    xp = namespace(*arrays)
    dtypes = {str(array.dtype) for array in arrays}
    if len(dtypes) > 1:
        raise TypeError(f"all leaves of a tree must share one dtype, got {sorted(dtypes)}")
    return xp.concat([xp.reshape(array, (-1,)) for array in arrays])


def views(flat, like):
    """A tree shaped like `like` whose leaves are views into the vector `flat` (P,)."""
    if flat.shape != (size(like),):
        raise ValueError(f"expected a vector of {size(like)} numbers, got shape {flat.shape}")
    xp = namespace(flat)
    start = 0

    def view(leaf):
        nonlocal start
        stop = start + _count(leaf.shape)
        part = xp.reshape(flat[start:stop], leaf.shape)
        start = stop
        return part

    return map(view, like)


def write(tree, into):
    """Copy the leaves of `tree` into those of `into`, a tree of the same shape."""
    if isinstance(into, dict):
        for key, branch in into.items():
            write(tree[key], branch)
    elif isinstance(into, (list, tuple)):
        for source, target in zip(tree, into, strict=True):
            write(source, target)
    else:
        if tree.shape != into.shape:                               # it would be broadcast
            raise ValueError(f"a gradient has shape {tree.shape} where its parameter has {into.shape}")
        into[...] = tree


def pack(tree):
    """(flat, views): the leaves of `tree` copied into one vector, and the tree as views into it."""
    flat = flatten(tree)
    return flat, views(flat, tree)


def _count(shape):
    count = 1
    for length in shape:
        count *= length
    return count
