"""Tests of the course's exercises: every wrong answer is told its own mistake and no other, every right one
is right, whatever the road; nothing else passes, and a check neither raises nor says more than six lines."""

import ast
from collections import Counter
import copy
import functools
import re

from answers import BANDS, RIGHT, WRONG
import numpy as np
import pytest

from notebooks import build
from teachvae.course import equations, grade
from teachvae.course.exercise import SIZES
from teachvae.course.exercises.table import EXERCISES

SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.thorough) for seed in (1, 2))]
BAND = 1e3


def in_the_notebooks(tag):
    """{exercise: (source, the namespace it is run in)} of the cells with this tag, exercise or solution."""
    found = {}
    for notebook in build.names():
        cells = build.read((build.SOURCES / f"{notebook}.py").read_text(encoding="utf-8"))
        if not any(cell.tag == "exercise" for cell in cells):
            continue
        namespace = {}
        for cell in [cell for cell in cells if cell.cell_type == "code" and not cell.tag][:2]:
            exec(cell.source, namespace)                           # settings and imports
        name = stub = None
        for cell in cells:
            if cell.tag == "exercise":
                stub = cell.source
            elif cell.tag == "check":
                name = re.fullmatch(r'grade\.check\("(\d\d-\d+)", (\w+)\)', cell.source)[1]
            elif cell.tag == "solution" and cell.cell_type == "code" and stub:
                exec(cell.source, namespace)
                found[name] = stub if tag == "exercise" else cell.source, dict(namespace)
                stub = None
    return found


STUBS, SOLUTIONS = in_the_notebooks("exercise"), in_the_notebooks("solution")
EACH = pytest.mark.parametrize("name", EXERCISES)


def answer_of(name):
    """The solution's function, or value."""
    return SOLUTIONS[name][1][EXERCISES[name].asks]


def verdict(name, answer, seed=0):
    """The verdict on an answer, whose words keep to the rules."""
    said = grade.check(name, answer, seed=seed)
    assert said.outcome in grade.OUTCOMES
    assert len(str(said).splitlines()) <= 6 and "Traceback" not in str(said)
    assert f"#eq-{said.equation.replace('.', '-')}" in said._repr_html_()
    return said


# ---- the exercises as they stand in the notebooks ---------------------------------------------


def test_every_exercise_stands_in_its_notebook_and_is_numbered_in_order():
    assert list(EXERCISES) == list(SOLUTIONS)
    counted = Counter()
    for exercise in EXERCISES.values():
        counted[exercise.notebook] += 1
        assert exercise.name == f"{exercise.notebook}-{counted[exercise.notebook]}"
        assert exercise.equation in equations.table()


@pytest.mark.parametrize("notebook", [name for name in build.names() if "tags=[\"exercise\"]" in
                                      (build.SOURCES / f"{name}.py").read_text(encoding="utf-8")])
def test_an_exercise_has_a_stub_a_check_three_hints_and_a_solution(notebook):
    cells = build.read((build.SOURCES / f"{notebook}.py").read_text(encoding="utf-8"))
    tags = "".join(cell.tag[:1] or "." for cell in cells)
    assert re.fullmatch(r"(ech{3}s+|[.s])+", tags), tags
    assert tags.count("e") == sum(exercise.notebook == notebook[:2] for exercise in EXERCISES.values())


@EACH
def test_the_stub_is_not_attempted(name):
    source, namespace = STUBS[name]
    own = dict(namespace)
    exec(source, own)
    assert verdict(name, own[EXERCISES[name].asks]).outcome == "not attempted"


@pytest.mark.parametrize("seed", SEEDS)
@EACH
def test_the_solution_is_right(name, seed):
    assert verdict(name, answer_of(name), seed).ok, verdict(name, answer_of(name), seed)


# ---- the matrix ------------------------------------------------------------------------------


@functools.cache
def told_if_wrong(name, seed):
    """{words: verdict} of the wrong answers."""
    return {words: verdict(name, answer, seed) for words, answer in WRONG[name].items()}


@functools.cache
def told_if_right(name, seed):
    """The verdicts on the right answers."""
    return [verdict(name, answer, seed) for answer in RIGHT[name]]


@pytest.mark.parametrize("seed", SEEDS)
@EACH
def test_every_wrong_answer_is_told_its_own_mistake_and_no_other(name, seed):
    assert len(WRONG[name]) >= 3
    for words, said in told_if_wrong(name, seed).items():
        assert said.outcome == "not yet"
        assert [other for other in WRONG[name] if other in str(said)] == [words], said


@pytest.mark.parametrize("seed", SEEDS)
@EACH
def test_every_right_answer_is_right_whatever_its_road(name, seed):
    assert len(RIGHT[name]) >= 4 or EXERCISES[name].draw is None
    for said in told_if_right(name, seed):
        assert said.ok, said


@EACH
def test_nothing_else_passes(name):
    exercise = EXERCISES[name]
    assert verdict(name, None).outcome == verdict(name, ...).outcome == "not attempted"
    if exercise.draw is None:
        others = [0.0, np.nan, "", [], {}, lambda: None, {"no": "question"}]
        assert {verdict(name, other).outcome for other in others} <= {"not yet", "not attempted"}
        return
    arguments = exercise.draw(np.random.default_rng(0), SIZES[0])
    given, n = answer_of(name), len(arguments)
    takes = ", ".join(arguments)

    def made(text):
        """A function of the right arguments that returns what this expression says of the right answer."""
        return eval(f"lambda {takes}: change(right({takes}))", {"right": given, "change": text})

    for outcome, change in [
        ("not attempted", lambda right: None), ("not attempted", lambda right: ...),
        ("not yet", lambda right: _mapped(right, np.zeros_like)),
        ("not yet", lambda right: _mapped(right, lambda leaf: np.full_like(leaf, np.nan, dtype=float))),
        ("not yet", lambda right: _mapped(right, lambda leaf: np.asarray(leaf, dtype="float32"))),
        ("not yet", lambda right: _mapped(right, lambda leaf: np.asarray(leaf)[None])),
        ("not yet", lambda right: "text"), ("not yet", lambda right: object()),
        ("not yet", lambda right: [[1], 2]),
    ]:
        said = verdict(name, made(change))
        assert said.outcome == outcome or change(0) is None and said.outcome == "not yet", said
    for place in range(n):
        assert not verdict(name, eval(f"lambda {takes}: ({takes},)[{place}]")).ok

    def raises(*_):
        raise RuntimeError("of the student's own\nin two lines")

    for answer in (raises, 3, "text", [given], type("Answer", (), {}), lambda: 0, lambda *_: 1 / 0):
        assert verdict(name, answer).outcome == "not yet"


def _mapped(tree, function):
    if isinstance(tree, dict):
        return {name: _mapped(leaf, function) for name, leaf in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(_mapped(leaf, function) for leaf in tree)
    return function(tree)


@EACH
def test_the_answer_to_another_exercise_does_not_pass(name):
    for other in EXERCISES.values():
        if other.equation != EXERCISES[name].equation:             # two exercises may end on one equation
            assert not verdict(name, answer_of(other.name)).ok, other.name


@pytest.mark.parametrize("seed", SEEDS)
@EACH
def test_a_wide_band_lies_between_right_and_wrong(name, seed):
    if EXERCISES[name].draw is None:
        return                                                     # a word is right or not
    right = max(said.error for said in [verdict(name, answer_of(name), seed), *told_if_right(name, seed)])
    wrong = min(said.error for said in told_if_wrong(name, seed).values())
    below, above = (10.0**power for power in BANDS[name])
    assert right < below and wrong >= above >= BAND * below, (right, wrong)


# ---- a solution with one thing changed ---------------------------------------------------------


def changes(source):
    """(what was changed, source) with one sign, factor, axis or transpose of it changed."""
    root = ast.parse(source)
    for place, node in enumerate(ast.walk(root)):
        for what, change in _changes_of(node):
            changed = copy.deepcopy(root)
            twin = list(ast.walk(changed))[place]
            change(twin)
            yield f"line {getattr(node, 'lineno', 0)}: {what}", ast.unparse(changed)


def _changes_of(node):
    """(words, function that makes the change in a node like this one)."""
    if isinstance(node, ast.BinOp) and type(node.op) in OPPOSITES:
        other = OPPOSITES[type(node.op)]
        yield f"{type(node.op).__name__} to {other.__name__}", lambda twin: setattr(twin, "op", other())
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield "a minus less", lambda twin: setattr(twin, "op", ast.UAdd())
    if isinstance(node, ast.keyword) and node.arg == "axis" and isinstance(node.value, ast.Constant):
        axis = 0 if node.value.value else 1
        yield f"axis {axis}", lambda twin: setattr(twin, "value", ast.Constant(axis))
    if isinstance(node, ast.Constant) and type(node.value) is float:
        yield f"twice {node.value}", lambda twin: setattr(twin, "value", 2 * twin.value or 1.0)


OPPOSITES = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}


@pytest.mark.thorough
@EACH
def test_a_solution_with_one_sign_factor_or_axis_changed_fails(name):
    source, namespace = SOLUTIONS[name]
    asks, tried = EXERCISES[name].asks, 0
    for what, changed in changes(source):
        own = dict(namespace)
        try:
            exec(changed, own)
        except Exception:
            continue                                               # a value that cannot be made any more
        tried += 1
        said = verdict(name, own[asks])
        assert not said.ok or _alike(name, own[asks]), f"{what}\n{changed}"
    assert tried or EXERCISES[name].draw is None


def _alike(name, answer):
    """Whether it gives the very numbers of the solution: what was changed has no effect."""
    for sizes in SIZES:
        draw = [EXERCISES[name].draw(np.random.default_rng(1), sizes) for _ in range(2)]
        one, two = answer(*draw[0].values()), answer_of(name)(*draw[1].values())
        if str(one) != str(two):
            return False
    return True
