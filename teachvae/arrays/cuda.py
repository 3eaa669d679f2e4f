"""From the source of a formula to one CuPy kernel, in which every thread has one number.

A formula's lines are translated one by one: its names become variables of the arrays' type, its functions
those of CUDA's mathematics.
"""

import ast

from .formula import count_returned, read

TYPES = {"float64": "double", "float32": "float"}
FUNCTIONS = {
    "exp": "exp({})", "expm1": "expm1({})", "log": "log({})", "log1p": "log1p({})", "sqrt": "sqrt({})",
    "tanh": "tanh({})", "abs": "fabs({})", "where": "({} ? {} : {})", "ones_like": "1", "zeros_like": "0",
    # NaN where one is NaN, as in NumPy
    "maximum": "({0} >= {1} || {0} != {0} ? {0} : {1})", "minimum": "({0} <= {1} || {0} != {0} ? {0} : {1})",
}
OPERATORS = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">",
    ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=", ast.BitAnd: "&&", ast.BitOr: "||", ast.USub: "-",
}


def kernel(cupy, formula, dtype, kinds):
    """A function (*given, out=()) of the formula's arguments: the arrays that come out, or one of them; out
    are those into which they are put, or none.
    """
    inputs, outputs, body, numbers_of = source(formula, dtype, kinds)
    run = cupy.ElementwiseKernel(
        ", ".join(f"{dtype} {name}" for name in inputs),
        ", ".join(f"{dtype} {name}" for name in outputs),
        body,
        f"teachvae_{formula.__name__}",
    )

    def call(*given, out=()):
        arrays = [a for a, kind in zip(given, kinds) if kind != "number"]
        return run(*arrays, *numbers_of(*given), *out)

    return call


def source(formula, dtype, kinds):
    """The names of the kernel's arguments and of what comes out of it, its body in C, and the function that
    makes of the formula's arguments the numbers among the kernel's.
    """
    tree, numbers = read(formula, kinds, FUNCTIONS)
    kind = TYPES[dtype]
    lines = [f"const {kind} {name} = ({kind}){value!r};" for name, value in numbers.constants.items()]
    inputs = [a.arg for a in tree.args.args] + list(numbers.made)
    outputs = [f"y{i}" for i in range(count_returned(tree))]
    known = {}                                                     # the variable of a name's last value
    for line in tree.body:
        value = line.value
        if isinstance(line, ast.Return):
            values = value.elts if isinstance(value, ast.Tuple) else [value]
            lines += [f"{y} = {_expression(v, known)};" for y, v in zip(outputs, values, strict=True)]
            continue
        target, made = line.targets[0], {}
        several = isinstance(target, ast.Tuple)
        for name, part in zip(target.elts, value.elts, strict=True) if several else [(target, value)]:
            made[name.id] = f"{name.id}_{len(lines)}"
            lines.append(f"const {kind} {made[name.id]} = {_expression(part, known)};")
        known |= made
    return inputs, outputs, "\n".join(lines), numbers.of()


def _expression(node, known):
    """An expression in C; known {name: variable}."""
    if isinstance(node, ast.Name):
        return known.get(node.id, node.id)
    if isinstance(node, ast.Call):
        return FUNCTIONS[node.func.id].format(*(_expression(a, known) for a in node.args))
    if isinstance(node, ast.UnaryOp):
        return f"({OPERATORS[type(node.op)]}{_expression(node.operand, known)})"
    left, operator, right = (
        (node.left, node.ops[0], node.comparators[0]) if isinstance(node, ast.Compare)
        else (node.left, node.op, node.right)
    )
    return f"({_expression(left, known)} {OPERATORS[type(operator)]} {_expression(right, known)})"
