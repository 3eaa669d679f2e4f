"""Every function that the compute code asks of its array library exists in CuPy, read from the source.

No GPU is needed for this: CuPy can be imported without one.
"""

import ast
from functools import reduce
from pathlib import Path

import fake_gpu
import pytest
import teachvae

FILES = sorted(Path(teachvae.__file__).parent.rglob("*.py"))


def names_asked(source):
    """The dotted names that follow `xp` or `namespace(...)` in a source text: {"exp", "linalg.solve"}."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        parts = []
        while isinstance(node, ast.Attribute):
            parts.insert(0, node.attr)
            node = node.value
        is_xp = isinstance(node, ast.Name) and node.id == "xp"
        is_call = (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "namespace"
        )
        if parts and (is_xp or is_call) and parts != ["__name__"]:
            names.add(".".join(parts))
    return names


def missing_in(library, names):
    nothing = object()                                             # newaxis is None, and there

    def found(name):
        return reduce(lambda owner, part: getattr(owner, part, nothing), name.split("."), library)

    return [name for name in sorted(names) if found(name) is nothing]


def test_the_reader_sees_names():
    source = "y = xp.exp(x) + namespace(x).tanh(x)\nz = xp.linalg.solve(A, b)\n"
    assert {"exp", "tanh", "linalg.solve"} <= names_asked(source)


def test_every_name_is_in_cupy():
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed (pip install -e '.[gpu]')")
    names = set().union(*(names_asked(path.read_text(encoding="utf-8")) for path in FILES))
    assert len(names) > 25
    assert missing_in(cupy, names) == []
    assert missing_in(cupy, {"exp", "vecdot", "linalg.vector_norm"}) == ["linalg.vector_norm", "vecdot"]


def test_every_name_is_in_the_stand_in_and_its_own_are_in_cupy():
    names = set().union(*(names_asked(path.read_text(encoding="utf-8")) for path in FILES))
    assert missing_in(fake_gpu.module(), names - {"__name__.startswith"}) == []
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed (pip install -e '.[gpu]')")
    own = {*fake_gpu.FUNCTIONS, *fake_gpu.CONSTANTS, *(f"linalg.{name}" for name in fake_gpu.LINALG)}
    assert missing_in(cupy, own) == []
