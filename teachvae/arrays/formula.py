"""A formula's source as a syntax tree, with the numbers taken out of it, for a compiler to be handed.

What is made of Python's numbers alone, such as 1 − β₁, is computed by Python and then rounded to the arrays'
dtype, as it is where NumPy meets it: so what is compiled is what NumPy would do, operator by operator.
"""

import ast
import copy
import inspect
import textwrap


SAME = ("co_code", "co_consts", "co_names", "co_varnames")


def definition(function):
    """The syntax tree of a function, without its decorators and its docstring.

    Raises ValueError where the file no longer holds what Python runs: it was changed since it was imported.
    """
    tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    tree.decorator_list = []
    module = compile(ast.Module([tree], []), "<formula>", "exec")
    read_now = next(code for code in module.co_consts if hasattr(code, "co_code"))
    if any(getattr(read_now, part) != getattr(function.__code__, part) for part in SAME):
        raise ValueError(f"the source of {function.__name__} is not what was imported")
    if ast.get_docstring(tree) is not None:
        tree.body = tree.body[1:]
    return tree


def count_returned(tree):
    """How many arrays come out of the formula of a tree."""
    value = tree.body[-1].value
    return len(value.elts) if isinstance(value, ast.Tuple) else 1


def python(arguments, value):
    """Python's own function of these arguments, with the value of a tree."""
    given = ast.arguments([], [ast.arg(arg=a) for a in arguments], None, [], [], None, [])
    tree = ast.fix_missing_locations(ast.Expression(ast.Lambda(given, value)))
    return eval(compile(tree, __file__, "eval"), {})


def read(function, kinds, functions):
    """The syntax tree of a formula (xp, x, …), its numbers taken out, and the `Numbers` themselves.

    kinds      of its arguments, "number" or another;  functions  the names that may stand behind ``xp.``
    """
    tree = definition(function)
    given = {a.arg: kind for a, kind in zip(tree.args.args[1:], kinds, strict=True)}
    settings = vars(inspect.getmodule(function)) if inspect.getmodule(function) else {}
    meaning = {name: ast.Constant(v) for name, v in settings.items() if isinstance(v, (int, float))}
    meaning |= {name: ast.Name(name, ast.Load()) for name, kind in given.items() if kind == "number"}
    numbers = Numbers(meaning, functions, list(given))
    tree = numbers.visit(tree)
    tree.args.args = [ast.arg(arg=a) for a, kind in given.items() if kind != "number"]
    return tree, numbers


class Numbers(ast.NodeTransformer):
    """Takes out of a tree what is made of numbers alone, and puts a name in its place.

    meaning    {name: its tree} of the names that stand for numbers
    functions  the names that may stand behind ``xp.``, which goes
    arguments  names of the formula's arguments

    constants  {name: value} of what hangs on nothing;  made  {name: tree} of what hangs on arguments
    """

    def __init__(self, meaning, functions=(), arguments=()):
        self.meaning, self.functions, self.arguments = dict(meaning), functions, arguments
        self.constants, self.made = {}, {}

    def of(self):
        """A function of the formula's arguments → the values of what is `made` of them, a tuple."""
        return python(self.arguments, ast.Tuple(list(self.made.values()), ast.Load()))

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
            value = python([], number)()
            place = f"number_{value!r}".translate(str.maketrans(".-+", "_mp"))
            self.constants[place] = value
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
        if node.attr not in self.functions:
            raise ValueError(f"a compiled formula knows no xp.{node.attr}")
        return ast.Name(node.attr, ast.Load())
