"""What an exercise of the course is: the data drawn for it, what is asked for, how an answer is judged.

    Exercise("02-1", "posterior", "2.3", "the posterior of every data case", draw, by_value(answer), mistakes)

A judge takes the arguments and what the student's function made of them, and gives a `gradcheck.Report`.
There are four: the numbers themselves, the gradient of an objective, a minimum, and choices among names.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from ..gradcheck import Report, Row, check, check_minimum, check_value


class Sizes(NamedTuple):
    """Data cases, visible and latent variables, samples: no two alike, so that an axis has a name."""

    N: int
    D: int
    K: int
    S: int


SIZES = Sizes(6, 5, 2, 7), Sizes(7, 4, 3, 5)


@dataclass(frozen=True)
class Exercise:
    """One exercise.

    name      "02-1": the number of its notebook, and its place there
    asks      the name of the function, or of the value, that the notebook asks for
    equation  the number of the card that proves the answer
    task      what is asked, in a few words, for a line of a table
    draw      (rng, `Sizes`) → {argument: value}, in the order in which they are handed over; None where a
              value is asked for, and no function
    judge     (arguments, what came back, sizes) → `gradcheck.Report`
    mistakes  {sentence: function of the same arguments}: what is often handed in instead, and what to say of
              it; a value where `draw` is None
    """

    name: str
    asks: str
    equation: str
    task: str
    draw: Callable | None
    judge: Callable
    mistakes: dict = field(default_factory=dict)

    @property
    def notebook(self):
        """The number of its notebook, "02"."""
        return self.name.split("-")[0]


def by_value(answer, *, names=None, tolerance=1e-9):
    """A judge: the numbers are those of answer(**arguments), a tree of arrays.

    names  what to call the leaves, in their order
    """
    def judge(arguments, given, sizes):
        asked = answer(**arguments) if callable(answer) else answer
        return check_value(given, asked, names=names, counts=sizes._asdict(), tolerance=tolerance)

    return judge


def by_gradient(objective, of, *, terms=None, inputs=None, tolerance=1e-7):
    """A judge: the numbers are the gradient of objective(**arguments), one number, in the arguments `of`.

    of      names of arguments: one, whose gradient comes back as it is, or a tuple of them
    terms   {name: function of the arguments}, whose sum is the objective
    inputs  {name: function of the arguments}: arrays that are factors somewhere and may be left out
    """
    def judge(arguments, given, sizes):
        def at(function):
            return lambda p: function(**arguments | (dict(zip(of, p)) if isinstance(of, tuple) else {of: p}))

        params = [arguments[name] for name in of] if isinstance(of, tuple) else arguments[of]
        given = list(given) if isinstance(given, tuple) and isinstance(of, tuple) else given
        return check(
            at(objective), params, given, tolerance=tolerance,
            names=of if isinstance(of, tuple) else [of],
            counts=sizes._asdict(),
            terms=terms and {name: at(term) for name, term in terms.items()},
            inputs=inputs and {name: array(**arguments) for name, array in inputs.items()},
        )

    return judge


def by_minimum(objective, *, like=None, names=None, tolerance=1e-4):
    """A judge: what came back is where objective(answer, **arguments), one number, has its minimum.

    like  function of the arguments that gives a tree of the structure and shapes that are asked for
    """
    def judge(arguments, given, sizes):
        expected = None if like is None else like(**arguments)
        return check_minimum(
            lambda answer: objective(answer, **arguments), given, like=expected, names=names,
            tolerance=tolerance,
        )

    return judge


def by_choice(right, because):
    """A judge: what came back is the dict `right`, {question: one of the words}.

    because  {(question, wrong word): why it is not that one}
    """
    def judge(arguments, given, sizes):
        rows = [_chosen(question, word, given, because) for question, word in right.items()]
        return Report(rows, 0.0, columns=("yours", "asked"))

    return judge


def _chosen(question, word, given, because):
    """The `Row` of one question."""
    why = {other: words for (asked, other), words in because.items() if asked == question}
    words = ", ".join(repr(other) for other in sorted({word, *why}))
    chosen = given.get(question) if isinstance(given, dict) else given
    attempted = chosen is not None and chosen is not Ellipsis
    like = {other.lower(): other for other in (word, *why)}.get(str(chosen).strip().lower())
    if not isinstance(given, dict):
        says = "a dict is asked for, {question: your word for it}"
    elif like == word:
        return Row(question, (), 0.0, (), 0.0, 0.0, "", "ok")
    elif not attempted:
        says = f"nothing is chosen for {question}; the words are {words}"
    else:
        says = why.get(like, f"{str(chosen)[:40]!r} is none of the words, {words}")
    return Row(question, (), inf, (), inf, inf, says, "WRONG", attempted=attempted)
