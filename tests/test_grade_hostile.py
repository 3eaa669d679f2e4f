"""No answer makes a check raise, or say more than six lines: objects that are in the way, functions that
cannot be called, numbers that are none."""

import asyncio
import functools
import operator
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest

from teachvae import grade
from teachvae.course.exercises.table import EXERCISES

NAME = next(name for name, exercise in EXERCISES.items() if exercise.asks == "posterior")


def refuse(*_, **__):
    raise RuntimeError("in the way")


NAMES = "eq", "ne", "repr", "str", "array", "len", "iter", "bool", "hash", "float", "getattr"
Evil = type("Evil", (), {f"__{name}__": refuse for name in NAMES})
EvilDict = type("EvilDict", (dict,), dict.fromkeys(["keys", "items", "get", "__iter__"], refuse))
EvilList = type("EvilList", (list,), dict.fromkeys(["__iter__", "__len__"], refuse))
EvilFloat = type("EvilFloat", (float,), dict.fromkeys(["__eq__", "__float__"], refuse))
EvilArray = type("EvilArray", (np.ndarray,), dict.fromkeys(
    ["__array_ufunc__", "__array_function__", "__eq__", "__repr__", "__sub__"], refuse))
EvilError = type("EvilError", (Exception,), {"__str__": refuse})
OfTwoLines = type("of\ntwo", (Exception,), {})
Meta = type("Meta", (type,), {"__getattribute__": refuse})
Hidden = Meta("Hidden", (), {})
IN_ITSELF, WITH_ITSELF, DEEP = [], {}, []
IN_ITSELF.append(IN_ITSELF)
WITH_ITSELF |= {"mean": WITH_ITSELF, "cov": WITH_ITSELF}
for _ in range(50_000):
    DEEP = [DEEP]

VALUES = {
    "an object in the way": Evil(), "a dict in the way": EvilDict(mean=1), "a float in the way": EvilFloat(2),
    "a list in the way": EvilList([1]), "an array in the way": np.ones((6, 2)).view(EvilArray),
    "an object without a name": type("", (), {})(), "a name of two lines": OfTwoLines(),
    "a class in the way": Hidden(), "in itself": IN_ITSELF, "with itself": WITH_ITSELF, "deep": DEEP,
    "names of two lines": {"a\nb": 1, 3: 2, (1, 2): 3, None: 4},
    "in the way within": {"mean": 1, "cov": Evil()}, "a mock": mock.MagicMock(),
    "a matrix": np.ones((6, 2)).view(np.matrix), "a date": np.array(["2020"], "M8[D]"),
    "a masked array": np.ma.masked_array(np.ones((6, 2)), mask=True), "records": np.zeros(3, [("a", float)]),
    "an integer too large": 10**400, "far too many numbers": np.broadcast_to(1.0, (10**5, 10**5, 10**3)),
    "half a character": "\ud800", "half a character as a name": {"\ud800": 1}, "a module": np, "a set": {1},
}


def never_raises(name, answer):
    """The verdict on an answer, which is not right."""
    said = grade.check(name, answer, seed=1)
    lines = str(said).splitlines()
    assert said.outcome != "right" and len(lines) <= 6 and max(map(len, lines)) < 400
    assert "<div>" in said._repr_html_()
    return str(said)


@pytest.mark.parametrize("what", VALUES)
def test_a_value_in_the_way_is_told(what):
    never_raises(NAME, lambda *_: VALUES[what])
    never_raises(NAME, VALUES[what])
    for name, exercise in EXERCISES.items():
        if exercise.draw is None:
            never_raises(name, VALUES[what])


@pytest.mark.parametrize("mean, words", [
    (np.ones((6, 2)) * 1j, "complex128"), (np.array([["a"]]), "it is <U1"), (10**400, "mean"),
    (np.array([1, None]), "Python objects"), (np.ones((6, 2), np.longdouble), "float"),
    ([[1.0], [2.0, 3.0]], "a list came back"), (np.ones((6, 2), np.float16), "float16"),
])
def test_what_is_no_float64_is_not_called_noise(mean, words):
    said = never_raises(NAME, lambda *_: {"mean": mean, "cov": np.eye(2)})
    assert words in said and "noise" not in said


def raising(error):
    """A function that raises."""
    def answer(*_):
        raise error

    return answer


def without_end(*arguments):
    return without_end(*arguments)


def broken(*_):
    return np.linalg.inv(np.zeros((2, 2)))


async def later(*_):
    return 1


async def many_later(*_):
    yield 1


def many(*_):
    yield 1


def by_name(*, x, W, b, psi):
    return x


def called(**attributes):
    """An object that can be called, with these attributes."""
    return type("Called", (), {"__call__": lambda self, *_: 1 / 0} | attributes)()


FUNCTIONS = {
    "an error that cannot be said": raising(EvilError()), "an error of two lines": raising(OfTwoLines("a")),
    "an error of an object in the way": raising(Exception(Evil())), "an exit": raising(SystemExit(3)),
    "half a character": raising(ValueError("\ud800")),
    "a group": raising(ExceptionGroup("x", [ValueError(1)])),
    "cancelled": raising(asyncio.CancelledError()), "a generator's exit": raising(GeneratorExit()),
    "no end": without_end, "within NumPy": broken, "many": many, "many later": many_later, "by name": by_name,
    "a partial": functools.partial(lambda *_: 1, 1), "cached": functools.lru_cache(lambda *_: 1),
    "an object": called(), "no signature": called(__signature__=3), "a signature in the way":
        called(__signature__=property(refuse)), "no code": called(__code__=3),
    "some code": called(__code__=SimpleNamespace(co_filename=3)), "attributes in the way":
        called(__getattr__=refuse), "built in": max, "a ufunc": np.add, "a method": [].append, "a class": int,
    "a metaclass": Hidden, "a getter": operator.itemgetter(1), "vectorised": np.vectorize(lambda *_: 1),
    "static": staticmethod(lambda *_: 1), "a property": property(lambda *_: 1), "its arguments": lambda *a: a,
}


@pytest.mark.parametrize("what", FUNCTIONS)
def test_a_function_in_the_way_is_told(what):
    never_raises(NAME, FUNCTIONS[what])


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
def test_a_function_for_later_is_told():
    assert "a coroutine came back" in never_raises(NAME, later)


def test_the_line_of_the_student_is_shown_where_numpy_raises():
    said = never_raises(NAME, broken)
    assert "line 1 below its def raises LinAlgError" in said and "np.linalg.inv(np.zeros((2, 2)))" in said


def test_an_interruption_is_one():
    with pytest.raises(KeyboardInterrupt):
        grade.check(NAME, raising(KeyboardInterrupt()))
