"""From the source of a formula to one loop that Numba compiles and keeps on disk.

The formula is read as a syntax tree. Its arrays become numbers of their dtype; what is made of Python's
numbers alone, such as 1 − β₁, is computed by Python and then rounded to that dtype, as it is where NumPy
meets it; ``xp.exp`` becomes the `vectorised` one. So what is compiled is what NumPy would do, operator by
operator.
"""

import ast
import copy
import hashlib
import inspect
import math
import textwrap
import threading

import numba
import numpy as np

from . import vectorised

VERSION = numba.__version__
OPTIONS = {"error_model": "numpy", "nogil": True}                  # dividing by 0 gives ∞ and raises nothing
INSIDE = {**OPTIONS, "forceinline": True}                          # a call keeps a loop from vectors
INTEGER = {"float64": np.int64, "float32": np.int32}
AT = {"same": "{0}[r, j]", "rows": "{0}[r % {0}.shape[0], j]", "column": "{0}[r, 0]"}
_lock = threading.Lock()
_libraries = {}


def loop(formula, dtype, kinds, places):
    """The loop of a formula for arrays of a dtype: a function (x, *others) → what comes out.

    kinds   of its arguments, of "same", "rows", "column" and "number", see `elementwise`
    places  those of the arguments into which it is put, or None for new arrays

    None where it cannot be compiled, or not be kept.
    """
    try:
        with _lock:
            return _loop(formula, dtype, kinds, places)
    except Exception:                                              # no place to keep it, another Numba
        return None


def _loop(formula, dtype, kinds, places):
    tree = _definition(formula)
    arguments = [a.arg for a in tree.args.args[1:]]
    names, settings = dict(_library(dtype)), formula.__globals__
    numbers = {name: ast.Constant(v) for name, v in settings.items() if isinstance(v, (int, float))}
    numbers |= {a: ast.Name(a, ast.Load()) for a, kind in zip(arguments, kinds) if kind == "number"}
    typed = _Typed(numbers, names, np.dtype(dtype).type)
    tree = typed.visit(tree)
    arrays = [a for a, kind in zip(arguments, kinds) if kind != "number"]
    names["formula"] = _compile(tree, arrays + list(typed.made), names)

    array_kinds = [kind for kind in kinds if kind != "number"]
    outputs = _count_returned(tree)
    source = _source(array_kinds, list(typed.made), outputs, places)
    # Numba tells a kept loop from others by its name and types: the name says what is in it.
    text = ast.unparse(tree) + source + inspect.getsource(vectorised) + dtype
    name = f"{formula.__name__}_{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    exec(compile(source.replace("LOOP", name), __file__, "exec"), names)
    compiled = numba.njit(names[name], cache=True, **OPTIONS)
    flat, kind = set(array_kinds) == {"same"}, np.dtype(dtype).type
    numbers_of = typed.by_python(arguments)

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
    run(*(1.0 if kind == "number" else np.ones((1, 1), dtype) for kind in kinds))
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


def _definition(function):
    """The syntax tree of a function, without its decorators and its docstring."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    tree.decorator_list = []
    if ast.get_docstring(tree) is not None:
        tree.body = tree.body[1:]
    return tree


def _count_returned(tree):
    value = tree.body[-1].value
    return len(value.elts) if isinstance(value, ast.Tuple) else 1


def _compile(tree, arguments, names, **options):
    """The function of a tree, of these arguments, with `names` for what it calls."""
    tree.args.args = [ast.arg(arg=a) for a in arguments]
    tree.name = "of_numbers"                                       # the formula tanh calls another tanh
    exec(compile(ast.fix_missing_locations(ast.Module([tree], [])), __file__, "exec"), names)
    return numba.njit(names.pop(tree.name), **INSIDE, **options)


def _library(dtype):
    """The functions of `vectorised`, compiled for a dtype, and what else a formula may call, by name."""
    if dtype not in _libraries:
        kind, whole, names = np.dtype(dtype).type, INTEGER[dtype], {"abs": abs, "sqrt": math.sqrt}
        names["__name__"] = __name__                               # where Numba looks for what it kept
        numbers = {
            **{name: value for name, value in vars(vectorised).items() if name.isupper()},
            **(vectorised.SINGLE if dtype == "float32" else {}),
        }
        functions = {name: f for name, f in vars(vectorised).items() if inspect.isfunction(f)}
        for name, value in numbers.items():
            if not isinstance(value, dict):
                names[name] = kind(value) if isinstance(value, float) else whole(value)
        names["copysign"] = vectorised.copysign
        names["bits"] = numba.njit(lambda x: kind(x).view(whole), **INSIDE)
        names["as_float"] = numba.njit(lambda b: whole(b).view(kind), **INSIDE)
        for name, function in functions.items():
            if name not in names:
                tree = _Typed({}, names, kind).visit(_definition(function))
                names[name] = _compile(tree, [a.arg for a in tree.args.args], names, fastmath={"contract"})
        _libraries[dtype] = names
    return _libraries[dtype]


def _python(arguments, value):
    """Python's own function of these arguments, with the value of a tree."""
    given = ast.arguments([], [ast.arg(arg=a) for a in arguments], None, [], [], None, [])
    tree = ast.fix_missing_locations(ast.Expression(ast.Lambda(given, value)))
    return eval(compile(tree, __file__, "eval"), {})


class _Typed(ast.NodeTransformer):
    """Takes what is made of numbers alone out of a formula, for Python to compute it: a constant becomes a
    typed constant in `names`, what hangs on arguments one more argument, in `made`.

    numbers  {name: its tree} of the names that stand for numbers
    """

    def __init__(self, numbers, names, kind):
        self.meaning = dict(numbers)
        self.names, self.kind, self.made = names, kind, {}

    def by_python(self, arguments):
        """A function of the formula's arguments → the numbers that are `made` of them."""
        values = ast.Tuple(list(self.made.values()), ast.Load())
        return _python(arguments, values)

    def _number(self, node):
        """The tree of a number, in terms of constants and arguments, or None where an array is in it."""
        if isinstance(node, ast.Constant):
            return node
        if isinstance(node, ast.Name):
            return self.meaning.get(node.id) if isinstance(node.ctx, ast.Load) else None
        if not isinstance(node, (ast.BinOp, ast.UnaryOp)):
            return None
        fields = ("left", "right") if isinstance(node, ast.BinOp) else ("operand",)
        found = {field: self._number(getattr(node, field)) for field in fields}
        if None in found.values():
            return None
        node = copy.copy(node)
        vars(node).update(found)
        return node

    def visit(self, node):
        """A number is taken out; anything else is gone through."""
        number = self._number(node) if isinstance(node, ast.expr) else None
        if number is None:
            return super().visit(node)
        names = {part.id for part in ast.walk(number) if isinstance(part, ast.Name)}
        if names:
            place = f"n{len(self.made)}"
            self.made[place] = number
        else:
            value = _python([], number)()
            place = f"c_{value!r}".translate(str.maketrans(".-+", "_mp"))
            self.names[place] = self.kind(value)
        return ast.Name(place, ast.Load())

    def visit_Assign(self, node):
        """A name for a number goes; any other may have stood for one before."""
        number = self._number(node.value)
        if number is not None:
            self.meaning[node.targets[0].id] = number
            return None
        node = self.generic_visit(node)
        for name in [part.id for part in ast.walk(node.targets[0]) if isinstance(part, ast.Name)]:
            self.meaning.pop(name, None)
        return node

    def visit_Attribute(self, node):
        """xp.name: the function of that name."""
        if node.attr not in self.names:
            raise ValueError(f"a compiled formula knows no xp.{node.attr}")
        return ast.Name(node.attr, ast.Load())
