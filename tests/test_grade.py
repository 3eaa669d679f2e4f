"""Tests of the grader itself, on exercises of its own: what is no function, what raises, writes into its
arguments or draws noise; what a verdict says, and that it is shown."""

import functools

import numpy as np
import pytest

from teachvae import grade
from teachvae.course import exercise
from teachvae.course.exercise import SIZES, Exercise


def draw(rng, n):
    """x (N, D) and w (D,)."""
    return {"x": rng.standard_normal((n.N, n.D)), "w": rng.uniform(0.5, 1.5, n.D)}


def scores(x, w):
    """(N,)"""
    return x @ w


def loss(x, w):
    """One number."""
    return 0.5 * np.sum((x @ w) ** 2)


def of_x(x, w):
    return np.outer(x @ w, w)


VALUE = Exercise(
    "99-1", "scores", "1.1", "x w, (N,)", draw, exercise.by_value(scores),
    {"w is squared": lambda x, w: x @ w**2},
)
GRADIENT = Exercise(
    "99-2", "gradients", "1.2", "dx and dw", draw, exercise.by_gradient(
        loss, ("x", "w"), terms={name: lambda x, w: 0.5 * loss(x, w) for name in ("half", "rest")},
        inputs={"w": lambda x, w: w},
    ),
)
MINIMUM = Exercise(
    "99-3", "nearest", "1.3", "the place where Σ (m − x)² is least, (D,)", draw,
    exercise.by_minimum(lambda m, x, w: np.sum((m - x) ** 2), like=lambda x, w: w),
)
CHOICE = Exercise(
    "99-4", "signs", "1.4", "which sign", None,
    exercise.by_choice({"Q": "upper", "ELBO": "lower"}, {("Q", "lower"): "Q is minimised"}),
)
NUMBER = Exercise("99-5", "answer", "1.5", "a number", None, exercise.by_value(42.0), {"half of it": 21.0})


@pytest.fixture(autouse=True)
def own_exercises(monkeypatch):
    for one in (VALUE, GRADIENT, MINIMUM, CHOICE, NUMBER):
        monkeypatch.setitem(grade.EXERCISES, one.name, one)


def said(name, answer, seed=0):
    """The verdict on an answer."""
    return grade.check(name, answer, seed=seed)


# ---- right, not yet, not attempted --------------------------------------------------------------


@pytest.mark.parametrize("answer", [
    scores, np.dot, lambda a, b: a @ b, lambda *both: both[0] @ both[1],
    functools.partial(lambda k, x, w: k * x @ w, 1),
])
def test_a_right_answer_is_right_however_it_is_called(answer):
    verdict = said("99-1", answer)
    assert verdict.ok and verdict.outcome == "right" and verdict.error < 1e-12
    assert str(verdict).startswith("99-1 scores: right\non data drawn afresh the largest error is ")


def test_every_judge_knows_right_from_wrong():
    assert said("99-2", lambda x, w: (of_x(x, w), x.T @ (x @ w))).ok
    assert "dw" in str(said("99-2", lambda x, w: (of_x(x, w), w))) and "right already: dx" in str(
        said("99-2", lambda x, w: (of_x(x, w), w)))
    assert said("99-3", lambda x, w: x.mean(axis=0)).ok
    assert "still goes down" in str(said("99-3", lambda x, w: np.median(x, axis=0)))
    assert said("99-4", {"ELBO": "lower", "Q": "upper"}).ok
    assert "Q is minimised" in str(said("99-4", {"ELBO": "lower", "Q": "lower"}))
    assert said("99-5", 42).ok and "half of it" in str(said("99-5", 21.0))


def test_a_stub_is_not_attempted():
    def with_words(x, w):
        """Words."""

    def with_dots(x, w):
        ...

    def of_dots(x, w):
        return ..., ...

    def in_a_formula(x, w):
        return x @ w + ...

    def to_be_written(x, w):
        raise NotImplementedError

    for stub in (None, ..., with_words, with_dots, in_a_formula, to_be_written):
        assert said("99-1", stub).outcome == "not attempted"
    assert said("99-2", of_dots).outcome == said("99-4", {"Q": ...}).outcome == "not attempted"
    assert said("99-5", ...).outcome == "not attempted"


def test_a_forgotten_return_is_not_yet():
    def forgotten(x, w):
        x @ w

    verdict = said("99-1", forgotten)
    assert verdict.outcome == "not yet" and "ends without a return" in str(verdict)


# ---- what cannot be judged ----------------------------------------------------------------------


def test_an_exception_is_shown_as_the_line_of_the_students_code():
    def transposed(x, w):
        scale = 1.0
        return scale * (w @ x)

    lines = str(said("99-1", transposed)).splitlines()
    assert lines[1].startswith("line 2 below its def raises ValueError: ") and len(lines) <= 6
    assert lines[2] == "    return scale * (w @ x)"


def test_an_exception_in_a_function_of_the_students_own_names_that_line():
    def inner(x):
        return x / {}

    def outer(x, w):
        return inner(x)

    assert "    return x / {}" in str(said("99-1", outer)).splitlines()


@pytest.mark.parametrize(("answer", "words"), [
    (3.0, "float was handed in: give the function's name alone"),
    (lambda x: x, "keep the arguments of the exercise"),
    (lambda x, w: "text", "text came back"),
    (lambda x, w: [1.0] * len(x), "a list came back, where an array of shape (6,) is asked for"),
    (lambda x, w: np.float32(x @ w), "it is float32"),
    (lambda x, w: (x @ w)[:, None], "it has shape (6, 1) where (6,) is asked for"),
    (lambda x, w: x @ w * np.nan, "it is NaN"),
    (lambda x, w: exit(), "raises SystemExit"),
    (lambda x, w: x.__imul__(2) @ w, "changes its argument x in place"),
    (lambda x, w: x @ w + np.random.default_rng().normal(), "you redrew the noise"),
    (lambda x, w: x @ w**2, "w is squared"),
    (lambda x, w: x[:, :5] @ w[:5] if len(x) == 6 else x[:, 0], "is a size written down?"),
    (lambda x, w: x @ w + (0 if len(x) == 6 else 1), "is a size written down?"),
    (type("Own", (), {}), "a class was handed in"),
])
def test_what_is_wrong_is_said(answer, words):
    verdict = said("99-1", answer)
    assert verdict.outcome == "not yet" and words in str(verdict) and len(str(verdict).splitlines()) <= 6


def test_an_exercise_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="there is no exercise '99-9'; expected one of 00-1"):
        grade.check("99-9", scores)


# ---- data, and how a verdict is shown -------------------------------------------------------------


def test_data_are_drawn_afresh_and_again_by_their_seed():
    wrong, seen = (lambda x, w: x @ w + 1), []
    first, second = grade.check("99-1", wrong), grade.check("99-1", wrong)
    assert first.seed != second.seed and f"(seed {first.seed})" in str(first)
    assert str(grade.check("99-1", wrong, seed=first.seed)) == str(first)
    grade.check("99-1", lambda x, w: seen.append(x.shape) or x @ w)
    assert seen == 2 * [(SIZES[0].N, SIZES[0].D)] + 2 * [(SIZES[1].N, SIZES[1].D)]


def test_arguments_are_copies():
    kept = []
    grade.check("99-1", lambda x, w: kept.append((x, w)) or x @ w, seed=0)
    one, two = kept[:2]
    assert np.array_equal(one[0], two[0]) and one[0] is not two[0]


def test_a_verdict_is_shown_with_a_link_to_its_equation_and_escapes_what_it_quotes():
    verdict = said("99-1", lambda x, w: x @ w + "<b>")
    html = verdict._repr_html_()
    assert '<a href="../derivations/02-factor-analysis.md#eq-1-1"' in html
    assert "&lt;b&gt;" in html and "<b>✘ 99-1 scores: not yet</b>" in html
    assert repr(verdict) == str(verdict)
