"""From the source of a formula to one loop that Numba compiles and keeps on disk.

In it the formula's arrays are numbers of their dtype, and ``xp.exp`` is the `vectorised` one.
"""

import ast
import hashlib
import inspect
import math
import threading

import numba
import numpy as np

from . import vectorised
from .formula import Numbers, count_returned, definition, read

VERSION = numba.__version__
OPTIONS = {"error_model": "numpy", "nogil": True}                  # dividing by 0 gives ∞ and raises nothing
INSIDE = {**OPTIONS, "forceinline": True}                          # a call keeps a loop from vectors
INTEGER = {"float64": np.int64, "float32": np.int32}
AT = {"same": "{0}[r, j]", "rows": "{0}[r % {0}.shape[0], j]", "column": "{0}[r, 0]"}
failures = {}                          # of formulas, by name: why one was not kept, or not compiled
_lock = threading.Lock()
_libraries = {}


def loop(formula, dtype, kinds, places):
    """The loop of a formula for arrays of a dtype: a function (x, *others) → what comes out.

    kinds   of its arguments, of "same", "rows", "column" and "number", see `elementwise`
    places  those of the arguments into which it is put, or None for new arrays

    Where it cannot be kept, or what is kept cannot be read, it is compiled in every process anew; None where
    it cannot be compiled. `failures` says why.
    """
    with _lock:
        for keep in (True, False):
            try:
                return _loop(formula, dtype, kinds, places, keep)
            except Exception as error:                             # whatever Numba, of any age, may raise
                failures[formula.__name__] = f"{type(error).__name__}: {error}".splitlines()[0]
        return None


def _loop(formula, dtype, kinds, places, keep):
    names = dict(_library(dtype))
    tree, numbers = read(formula, kinds, names)
    names["formula"] = _compile(tree, numbers, names, dtype)

    array_kinds = [kind for kind in kinds if kind != "number"]
    outputs = count_returned(tree)
    source = _source(array_kinds, list(numbers.made), outputs, places)
    # Numba tells a kept loop from others by its name and types: the name says what is in it.
    text = ast.unparse(tree) + source + inspect.getsource(vectorised) + dtype
    name = f"{formula.__name__}_{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    exec(compile(source.replace("LOOP", name), __file__, "exec"), names)
    compiled = numba.njit(names[name], cache=keep, **OPTIONS)
    flat, kind, numbers_of = set(array_kinds) == {"same"}, np.dtype(dtype).type, numbers.of()

    def run(*given):
        x = given[0]
        rows, columns = (1, x.size) if flat else (x.size // x.shape[-1], x.shape[-1])
        width = {"same": columns, "rows": columns, "column": 1}
        tables = [
            np.reshape(np.ascontiguousarray(a), (-1, width[k])) for a, k in zip(given, kinds) if k != "number"
        ]
        made = tuple(np.empty(x.shape, dtype) for _ in range(outputs)) if places is None else ()
        compiled(*(np.reshape(y, (rows, columns)) for y in made), *tables, *map(kind, numbers_of(*given)))
        return made[0] if len(made) == 1 else made

    # The first call compiles, or reads what is kept; what fails, fails here.
    run(*(0.5 if kind == "number" else np.ones((1, 1), dtype) for kind in kinds))
    return run


def _source(array_kinds, numbers, outputs, places):
    """The loop's source: the outputs are filled with the formula of the arrays (R, C), …, and the numbers."""
    given = [f"a{i}" for i in range(len(array_kinds))]
    made = [f"y{i}" for i in range(outputs)] if places is None else [given[i] for i in places]
    values = [AT[kind].format(a) for a, kind in zip(given, array_kinds)]
    return (
        f"def LOOP({', '.join((made if places is None else []) + given + numbers)}):\n"
        f"    for r in range({made[0]}.shape[0]):\n"
        f"        for j in range({made[0]}.shape[1]):\n"
        f"            {', '.join(y + '[r, j]' for y in made)} = formula({', '.join(values + numbers)})\n"
    )


def _compile(tree, numbers, names, dtype, **options):
    """The function of a tree, with `names` for what it calls and the `Numbers` that were taken out of it."""
    names = {**names, **{name: np.dtype(dtype).type(value) for name, value in numbers.constants.items()}}
    tree.args.args += [ast.arg(arg=a) for a in numbers.made]
    tree.name = "of_numbers"                                       # the formula tanh calls another tanh
    exec(compile(ast.fix_missing_locations(ast.Module([tree], [])), __file__, "exec"), names)
    return numba.njit(names[tree.name], **INSIDE, **options)


def _library(dtype):
    """The functions of `vectorised`, compiled for a dtype, and what else a formula may call, by name."""
    if dtype not in _libraries:
        kind, whole, names = np.dtype(dtype).type, INTEGER[dtype], {"abs": abs, "sqrt": math.sqrt}
        names["__name__"] = __name__                               # where Numba looks for what it kept
        constants = {name: value for name, value in vars(vectorised).items() if name.isupper()}
        single = constants.pop("SINGLE")
        for name, value in {**constants, **(single if dtype == "float32" else {})}.items():
            names[name] = kind(value) if isinstance(value, float) else whole(value)
        functions = {name: f for name, f in vars(vectorised).items() if inspect.isfunction(f)}
        names["copysign"] = vectorised.copysign
        names["bits"] = numba.njit(lambda x: kind(x).view(whole), **INSIDE)
        names["as_float"] = numba.njit(lambda b: whole(b).view(kind), **INSIDE)
        for name, function in functions.items():
            if name not in names:
                numbers = Numbers({})
                tree = numbers.visit(definition(function))
                names[name] = _compile(tree, numbers, names, dtype, fastmath={"contract"})
        _libraries[dtype] = names
    return _libraries[dtype]


