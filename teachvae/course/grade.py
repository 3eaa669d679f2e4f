"""The grader of the course: grade.check("02-1", posterior) says what is right, or which mistake is there.

An answer is called with data drawn afresh, of two sizes; what comes back is held against another road to the
same numbers, never its text. There are three outcomes: not attempted, not yet, right. A check raises nothing,
whatever was handed in, and has at most six lines: what is right already, where and by how much it differs,
the mistake in a sentence, and the equation that says how it should be.
"""

from dataclasses import dataclass, replace
import dis
from html import escape
import inspect
import linecache
import traceback
from types import CodeType

import numpy as np

from ..arrays import tree
from ..gradcheck.answers import is_nothing
from ..gradcheck.values import value_error
from . import equations
from .exercise import SIZES
from .exercises.table import EXERCISES

OUTCOMES = "not attempted", "not yet", "right"
GRADIENT = "analytic", "numeric"                                    # the columns of a report on a gradient
ALIKE = 1e-7                                                       # an answer has a mistake's very numbers
LONGEST = 160                                                      # characters of an error or a line of code
DONE = "RESUME", "NOP", "LOAD_CONST", "RETURN_VALUE", "RETURN_CONST"  # all that an unwritten function does


@dataclass(frozen=True)
class Verdict:
    """What a check says, printed or in a notebook: an outcome, one of `OUTCOMES`, and lines on it.

    error  the largest error of the answer, as the exercise's judge measures it; 0 where nothing came
    seed   of the data: check(…, seed=seed) draws the same again
    """

    exercise: str
    asks: str
    outcome: str
    lines: tuple
    equation: str
    seed: int
    error: float = 0.0

    @property
    def ok(self):
        """Whether the answer is right."""
        return self.outcome == "right"

    def __str__(self):
        return "\n".join([self._head(), *self.lines, self._foot()])

    def __repr__(self):
        return str(self)

    def _head(self):
        return f"{self.exercise} {self.asks}: {self.outcome}"

    def _foot(self):
        seed = "" if self.outcome == "not attempted" else f"   (seed {self.seed})"
        return f"equation {self.equation}, {equations.table()[self.equation]['title']}{seed}"

    def _repr_html_(self):
        mark = {"right": "✔", "not yet": "✘", "not attempted": "○"}[self.outcome]
        lines = [f"<b>{mark} {escape(self._head())}</b>", *map(escape, self.lines)]
        return "<div>" + "<br>".join([*lines, equations.linked(self._foot())]) + "</div>"


def check(name, answer, seed=None):
    """Judge the answer to an exercise; returns a `Verdict`, which a notebook shows.

    name    of the exercise, such as "02-1"
    answer  the function that it asks for, or the value
    seed    of the data; None draws another at every call, and the verdict says which

    Raises ValueError for an exercise that there is not; for an answer it raises nothing.
    """
    if name not in EXERCISES:
        raise ValueError(f"there is no exercise {name!r}; expected one of {', '.join(EXERCISES)}")
    exercise = EXERCISES[name]
    seed = int(np.random.SeedSequence().entropy % 10**6) if seed is None else seed
    verdict = None
    for sizes in SIZES if exercise.draw else SIZES[:1]:
        before, verdict = verdict, _looked_at(exercise, answer, sizes, seed)
        if not verdict.ok:
            break
    if not verdict.ok and before is not None and before.ok:
        one, other = (tuple(sizes) for sizes in SIZES)
        line = f"it is right for N, D, K, S = {one}, and not for {other}: is a size written down?"
        verdict = replace(verdict, outcome="not yet", lines=(line, *verdict.lines[:3]))
    return verdict


def _looked_at(exercise, answer, sizes, seed):
    """The `Verdict` on data of these sizes, whatever the answer does when it is looked at."""
    try:
        said = _at(exercise, answer, sizes, seed)
    except Exception as error:                                     # of objects that are made to be in the way
        line = f"what was handed in cannot be looked at: {_short(error)}"
        said = Verdict(exercise.name, exercise.asks, "not yet", (line,), exercise.equation, seed, np.inf)
    return replace(said, lines=tuple(" ".join(line.splitlines()) for line in said.lines))


def _at(exercise, answer, sizes, seed):
    """The `Verdict` on data of these sizes."""
    def verdict(outcome, *lines, error=0.0):
        return Verdict(exercise.name, exercise.asks, outcome, lines, exercise.equation, seed, error)

    task = f"asked for: {exercise.task}"
    if is_nothing(answer):
        return verdict("not attempted", task)
    arguments = {}
    if exercise.draw is not None:
        arguments = exercise.draw(np.random.default_rng([seed, sizes.N]), sizes)
        if sentence := _no_function(exercise, answer, arguments):
            return verdict("not yet", sentence, error=np.inf)
        with np.errstate(all="ignore"):                            # NaN is told below
            given, sentence = _called(answer, arguments)
        if sentence:
            return verdict(*sentence, error=np.inf)
        if given is None and _unwritten(answer):
            return verdict("not attempted", task)
    else:
        given = answer
    try:
        with np.errstate(all="ignore"):
            report = exercise.judge(arguments, given, sizes)
    except Exception as error:                                     # an answer that no array can be made of
        return verdict("not yet", f"what came back cannot be compared: {_short(error)}", error=np.inf)
    if report.outcome == "not attempted" and given is not None:
        return verdict("not attempted", task)
    if report.ok:
        error = report.worst.error
        fresh = f"on data drawn afresh the largest error is {error:.0e}"
        said = fresh if exercise.draw else "all of it is right"
        return verdict("right", said, error=error)
    return verdict("not yet", *_explained(exercise, arguments, given, report), error=report.worst.error)


def _no_function(exercise, answer, arguments):
    """A sentence where the answer cannot be called with the arguments, or ""."""
    expected = f"{exercise.asks}({', '.join(arguments)})"
    if not callable(answer):
        kind = type(answer).__name__
        return f"{expected} is asked for, and {kind} was handed in: give the function's name alone"
    if isinstance(answer, type):
        return f"the function {expected} is asked for, and a class was handed in"
    try:
        inspect.signature(answer).bind(*arguments.values())
    except TypeError:
        return (
            f"your function takes {inspect.signature(answer)}, and will be called as {expected}: "
            "keep the arguments of the exercise"
        )
    except ValueError:                                             # a builtin has no signature
        pass
    return ""


def _called(answer, arguments):
    """What the function gives, called twice on copies; or the outcome and lines on why there is nothing."""
    copies = [tree.map(_copied, list(arguments.values())) for _ in range(2)]
    try:
        given, again = answer(*copies[0]), answer(*copies[1])
    except KeyboardInterrupt:
        raise
    except BaseException as error:                                 # SystemExit, and what else there is
        if isinstance(error, NotImplementedError) or "ellipsis" in _short(error):
            return None, ("not attempted", f"it raises {_short(error)}: a … of the exercise is still there")
        return None, ("not yet", *_of_exception(answer, error))
    for name, value, copy in zip(arguments, arguments.values(), copies[0]):
        if not _same(value, copy):
            return None, (
                "not yet", f"your function changes its argument {name} in place: write y = 2 * x, not x *= 2"
            )
    if not _same(given, again):
        return None, (
            "not yet",
            "two calls with the same arguments give two answers: you redrew the noise; use what was given",
        )
    return given, None


def _copied(value):
    return value.copy() if isinstance(value, np.ndarray) else value


def _of_exception(answer, error):
    """Lines on an exception: the line of the student's code, and what it says."""
    code = _code(answer)
    frames = traceback.extract_tb(error.__traceback__)             # from `_called` down to what raised it
    own = [frame for frame in frames if code is not None and frame.filename == code.co_filename]
    frame = (own or frames)[-1]
    text = (frame.line or linecache.getline(frame.filename, frame.lineno)).strip()[:LONGEST]
    inside = "it"
    if own:
        below = frame.lineno - code.co_firstlineno
        inside = f"line {below} below its def" if below > 0 else f"line {frame.lineno} of its cell"
    lines = [f"{inside} raises {_short(error)}"]
    return [*lines, f"    {text}"] if text else lines


def _short(error):
    """An exception in one line of bearable length."""
    try:
        says = " ".join(str(error).split())
    except Exception:                                              # it cannot even be said
        says = ""
    says = says if len(says) <= LONGEST else says[: LONGEST - 1] + "…"
    return f"{type(error).__name__}: {says}" if says else type(error).__name__


def _unwritten(answer):
    """Whether a function does nothing but return a constant, as the stub of an exercise does."""
    code = _code(answer)
    return code is not None and all(step.opname in DONE for step in dis.get_instructions(code))


def _code(answer):
    """The compiled lines of a function, or None."""
    code = getattr(answer, "__code__", None)
    return code if isinstance(code, CodeType) else None


def _explained(exercise, arguments, given, report):
    """What is right already, what differs, and the mistake in a sentence: at most four lines."""
    wrong = [row for row in report.rows if not row.ok] or list(report.rows)
    unknown = "in no pattern known"                                # what tells most comes first
    wrong.sort(key=lambda row: (row.verdict != "WRONG", unknown in row.diagnosis))
    d = "d" if report.columns == GRADIENT else ""                  # dW is the answer, W the parameter
    right = [d + row.path for row in report.rows if row.ok]
    lines = [f"right already: {', '.join(right)}"] if right else []
    row = wrong[0]                                                 # place and sentence are of one leaf
    if np.isfinite(row.error) and not (np.isnan(row.analytic) and np.isnan(row.numeric)):
        place = f"{d}{row.path}{list(row.index) if row.index else ''}"
        yours, asked = ("yours", "by finite differences") if d else report.columns
        lines.append(f"{place}: {yours} {row.analytic:.6g}, {asked} {row.numeric:.6g}")
    sentence = _known(exercise, arguments, given)
    if not sentence:
        sentence = report.notes[0] if report.notes else f"{d}{row.path}: {row.diagnosis}"
    return [*lines, sentence]


def _known(exercise, arguments, given):
    """The sentence of the first mistake whose numbers the answer has, or ""."""
    for sentence, mistake in exercise.mistakes.items():
        with np.errstate(all="ignore"):
            made = mistake(**arguments) if callable(mistake) else mistake
        if _same(given, made, ALIKE):
            return sentence
    return ""


def _same(one, two, tolerance=0.0):
    """Whether two trees have the same structure and numbers, NaN where the other has."""
    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(_same(one[name], two[name], tolerance) for name in one)
    if isinstance(one, (list, tuple)) and isinstance(two, (list, tuple)):
        return len(one) == len(two) and all(map(_same, one, two, [tolerance] * len(one)))
    kinds = (np.ndarray, np.generic, int, float)
    if not (isinstance(one, kinds) and isinstance(two, kinds)):
        return one is two or type(one) is type(two)
    one, two = np.asarray(one), np.asarray(two)
    if one.shape != two.shape:
        return False
    if one.dtype.kind not in "fiub" or two.dtype.kind not in "fiub":
        return one.dtype == two.dtype                              # told by what it is, not by its numbers
    return one.size == 0 or bool(np.all(value_error(one.astype(float), two.astype(float)) <= tolerance))
