"""The exercises of notebook 11, one core, two machines, and an array library that is not NumPy."""

from dataclasses import replace
import operator

import numpy as np

from ...gradcheck import Report, check_value
from ...gradcheck.values import value_error
from ...inference.moments import Moments
from ..exercise import Exercise, by_value

MIXED = (
    "arrays of NumPy and of another library are mixed; bring all of them to one place first, by "
    "Backend.asarray, or .get() to the host"
)
HANDED_OVER = (
    "NumPy was handed an array whose numbers lie elsewhere; take the functions of xp = namespace(x), or "
    "bring them to the host by .get()"
)


class Elsewhere:
    """An array of a library that is not NumPy, as a GPU's are: it stands in for one where there is none.

    Its numbers are computed by NumPy, bit for bit, but NumPy's own functions and arrays refuse it, as they
    refuse CuPy's. `get` brings the numbers to the host. `LIBRARY.calls` counts what is computed.
    """

    __hash__ = None
    device = "elsewhere"

    def __init__(self, numbers):
        self._numbers = np.asarray(numbers)

    shape = property(lambda self: self._numbers.shape)
    ndim = property(lambda self: self._numbers.ndim)
    size = property(lambda self: self._numbers.size)
    dtype = property(lambda self: self._numbers.dtype)
    T = property(lambda self: Elsewhere(self._numbers.T))

    def get(self):
        """The numbers, as a NumPy array."""
        return self._numbers.copy()

    def __array_namespace__(self, api_version=None):
        return LIBRARY

    def __array__(self, dtype=None, copy=None):
        raise TypeError(HANDED_OVER)

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        raise TypeError(MIXED if any(isinstance(one, np.ndarray) for one in inputs) else HANDED_OVER)

    def __getitem__(self, place):
        return Elsewhere(self._numbers[_inside(place)])

    def __setitem__(self, place, values):
        self._numbers[_inside(place)] = _inside(values)

    def __len__(self):
        return len(self._numbers)

    def __float__(self):
        return float(self._numbers)

    def __bool__(self):
        return bool(self._numbers)

    def __repr__(self):
        return f"Elsewhere({self._numbers!r})"


def _inside(value):
    """What NumPy computes with, from an argument of a function of the library."""
    if isinstance(value, Elsewhere):
        return value._numbers
    if isinstance(value, np.ndarray):
        raise TypeError(MIXED)
    if isinstance(value, (list, tuple)):
        return type(value)(map(_inside, value))
    return value


def _outside(value):
    """What the library gives, from a result of NumPy's."""
    if isinstance(value, (list, tuple)):
        return tuple(map(_outside, value))
    return Elsewhere(value) if isinstance(value, (np.ndarray, np.generic)) else value


class Library:
    """The module that `Elsewhere` belongs to: NumPy's functions of its arrays."""

    __name__ = "elsewhere"
    calls = 0

    def asarray(self, values, dtype=None, device=None):
        """Numbers of the host, or an array that is here already, as an `Elsewhere`."""
        values = values._numbers if isinstance(values, Elsewhere) else values
        return Elsewhere(np.asarray(values, dtype=dtype))

    def __getattr__(self, name):
        found = getattr(np, name)
        if isinstance(found, type) or not callable(found):
            return found                                           # float64, pi, …

        def function(*args, **options):
            self.calls += 1
            inside = {key: _inside(value) for key, value in options.items()}
            return _outside(found(*map(_inside, args), **inside))

        return function


LIBRARY = Library()


def _operator(function, reflected=False):
    """A method of `Elsewhere` for an operator of one or two arrays."""
    def method(self, *other):
        LIBRARY.calls += 1
        arrays = self._numbers, *map(_inside, other)
        return _outside(function(*(arrays[::-1] if reflected else arrays)))

    return method


def _in_place(function):
    """A method of `Elsewhere` for an operator such as +=."""
    def method(self, other):
        LIBRARY.calls += 1
        self._numbers[...] = function(self._numbers, _inside(other))
        return self

    return method


for _name in "add sub mul truediv".split():
    setattr(Elsewhere, f"__i{_name}__", _in_place(getattr(operator, _name)))
for _name in "add sub mul truediv pow matmul".split():
    setattr(Elsewhere, f"__{_name}__", _operator(getattr(operator, _name)))
    setattr(Elsewhere, f"__r{_name}__", _operator(getattr(operator, _name), reflected=True))
for _name in "eq ne lt le gt ge and_ or_ neg abs invert".split():
    setattr(Elsewhere, f"__{_name.strip('_')}__", _operator(getattr(operator, _name)))


# ---- any library -----------------------------------------------------------------------------


def draw_logarithms(rng, n):
    """Logarithms (N, D), some rows of them far above 0, some far below, in a library that is not NumPy."""
    log_p = 3 * rng.standard_normal((n.N, n.D)) + np.resize([0.0, 900.0, -900.0], n.N)[:, None]
    log_p[0, 0] = -1500.0                                          # the smallest is no help, the largest is
    return {"log_p": Elsewhere(log_p)}


def log_sum(log_p):
    """log Σ exp along the last axis, of a NumPy array, by adding two at a time."""
    return np.logaddexp.reduce(log_p, axis=-1)


ROWS = {
    "the largest was taken off before exp, and is not added again after the log":
        lambda log_p: log_sum(log_p) - log_p.max(axis=1),
    "the largest is added twice: exp was taken of the logarithms as they were, or it is there already":
        lambda log_p: log_sum(log_p) + log_p.max(axis=1),
    "this is the largest alone; the others add to it": lambda log_p: log_p.max(axis=1),
    "mean where it sums: it is log D too low": lambda log_p: log_sum(log_p) - np.log(log_p.shape[1]),
    "exp is taken of the logarithms as they are, and overflows: take the largest of each row off before":
        lambda log_p: np.log(np.exp(log_p).sum(axis=1)),
    "the largest of all rows is taken off each: what is far below it vanishes; axis=1 is missing":
        lambda log_p: log_p.max() + np.log(np.exp(log_p - log_p.max()).sum(axis=1)),
    "the largest of all rows is taken off, and each row's own is added: axis=1 is missing in one of them":
        lambda log_p: log_p.max(axis=1) + np.log(np.exp(log_p - log_p.max()).sum(axis=1)),
    "this is the sum of exp, which overflows; its log is asked for":
        lambda log_p: np.exp(log_p).sum(axis=1),
    "the log is missing: this is the sum over the largest":
        lambda log_p: np.exp(log_sum(log_p) - log_p.max(axis=1)),
    "the largest is taken off again after the log, and has to be added":
        lambda log_p: log_sum(log_p) - 2 * log_p.max(axis=1),
    "the sum goes over all rows: axis=1 is missing in it":
        lambda log_p: log_p.max(axis=1) + np.log(np.exp(log_p - log_p.max(axis=1, keepdims=True)).sum()),
}


def judge_logarithms(arguments, given, sizes):
    """The `Report` on numbers that have to be where the argument's are."""
    log_p = arguments["log_p"].get()
    here = isinstance(given, np.ndarray)
    numbers = given.get() if isinstance(given, Elsewhere) else given
    report = check_value(numbers, log_sum(log_p), names=["log_sum_exp"], counts=sizes._asdict())
    if here:
        sentence = (
            "a NumPy array came back: the numbers have left their library; on a GPU each such way to the "
            "host waits for all that is being computed"
        )
        return _said(report, sentence, wrong=True)
    if isinstance(given, Elsewhere) and not report.ok and numbers.shape == log_p.shape[:1]:
        for sentence, mistake in ROWS.items():
            if np.max(value_error(numbers, mistake(log_p))) < 1e-7:
                return _said(report, sentence)
    return report


def _said(report, sentence, wrong=False):
    """The report with this sentence in its one row, and wrong whatever its numbers are."""
    row = report.rows[0]
    if wrong:
        row = replace(row, error=np.inf, verdict="WRONG", analytic=np.nan, numeric=np.nan)
    return Report([replace(row, diagnosis=sentence)], report.tolerance, report.notes, report.columns)


# ---- few digits ------------------------------------------------------------------------------


def draw_near_prior(rng, n):
    """m and log_s (N, K) of units that have all but collapsed."""
    small = [rng.choice([-1.0, 1.0], (n.N, n.K)) * rng.uniform(3e-8, 1e-7, (n.N, n.K)) for _ in range(2)]
    return {"m": small[0], "log_s": small[1]}


def near_prior(m, log_s):
    """The KL by the series of e^{2l} − 1 − 2l, of which the fourth term is below all digits."""
    return np.sum(0.5 * m**2 + log_s**2 * (1 + 2 / 3 * log_s + log_s**2 / 3), axis=1)


def judge_near_prior(arguments, given, sizes):
    """The `Report` on the KL; what is off by the last digits of 1 has lost its own to cancellation."""
    asked = near_prior(**arguments)
    report = check_value(given, asked, names=["kl"], counts=sizes._asdict(), tolerance=1e-6)
    if not report.ok and getattr(given, "shape", None) == asked.shape and given.dtype == np.float64:
        if np.max(np.abs(given - asked)) < 1e-15:
            sentence = (
                "right but for rounding: exp(2 log s) − 1 has lost the digits that count; there is a "
                "function for exp x − 1"
            )
            return _said(report, sentence)
    return report


# ---- several ranks ---------------------------------------------------------------------------


def draw_moments(rng, n):
    """How many, mean (D,) and scatter (D, D), of the rows of two ranks."""
    arguments = {}
    for rank, rows in (("1", n.N), ("2", n.S + n.N)):
        x = rng.standard_normal((rows, n.D)) + 2 * rng.standard_normal(n.D)
        centred = x - x.mean(axis=0)
        arguments |= {f"n{rank}": rows, f"mean{rank}": x.mean(axis=0), f"scatter{rank}": centred.T @ centred}
    return arguments


def merged(n1, mean1, scatter1, n2, mean2, scatter2):
    """By the package's own sum of moments."""
    both = Moments(n1, mean1, scatter1) + Moments(n2, mean2, scatter2)
    return {"n": both.n_cases, "mean": both.mean, "scatter": both.scatter}


def _merged(change):
    """A mistake: the right answer, changed by a function of it, of δ and of the two numbers of rows."""
    def mistake(n1, mean1, scatter1, n2, mean2, scatter2):
        right = merged(n1, mean1, scatter1, n2, mean2, scatter2)
        delta = mean2 - mean1
        within = scatter1 + scatter2
        return right | change(right, within, np.outer(delta, delta), (mean1 + mean2) / 2, n1, n2)

    return mistake


def draw_parts(rng, n):
    """Of R ranks the mean gradient (R, P) over their rows of a minibatch; how many rows; of how many."""
    counts = rng.permutation(np.arange(3, 3 + n.K)) * 2
    return {
        "means": rng.standard_normal((n.K, n.D)), "counts": counts,
        "n_cases": int(10 * counts.sum() + 7),
    }


def of_parts(means, counts, n_cases):
    """N times the mean over all rows, each of which has its rank's mean gradient."""
    return n_cases * np.repeat(means, counts, axis=0).mean(axis=0)


EXERCISES = [
    Exercise(
        "11-1", "log_sum_exp_anywhere", "0.16", "log Σ exp of each row (N,), in the library of log_p",
        draw_logarithms, judge_logarithms,
    ),
    Exercise(
        "11-2", "kl_near_prior", "3.4", "the KL (N,) of units whose m and log s are nearly 0",
        draw_near_prior, judge_near_prior,
        {
            "½ m² is missing: only the part of s is there": lambda m, log_s: near_prior(0 * m, log_s),
            "the factor 2 everywhere: the ½ is missing": lambda m, log_s: 2 * near_prior(m, log_s),
            "mean where it sums over latent variables":
                lambda m, log_s: near_prior(m, log_s) / m.shape[1],
            "s² − 1 alone, without −2 log s: the two cancel but for their second order":
                lambda m, log_s: np.sum(0.5 * m**2 + 0.5 * np.expm1(2 * log_s), axis=1),
            "−log s where −2 log s belongs, inside the bracket with the ½ before it":
                lambda m, log_s: near_prior(m, log_s) + 0.5 * log_s.sum(axis=1),
            "+2 log s where −2 log s belongs": lambda m, log_s: near_prior(m, log_s) + 2 * log_s.sum(axis=1),
            "½ (log s)² for the part of s: e^{2l} − 1 − 2l begins with 2l², half of which is l²":
                lambda m, log_s: 0.5 * np.sum(m**2 + log_s**2, axis=1),
            "log s is taken for log s²: expm1(log s) − log s stands where both have a 2":
                lambda m, log_s: near_prior(m, 0.5 * log_s),
            "expm1(log s) is s − 1, and s² − 1 is expm1(2 log s)":
                lambda m, log_s: np.sum(0.5 * m**2 + 0.5 * np.expm1(log_s) - log_s, axis=1),
            "the 1 is taken off twice: expm1 has done it":
                lambda m, log_s: near_prior(m, log_s) - 0.5 * m.shape[1],
            "m² without its ½": lambda m, log_s: near_prior(m, log_s) + 0.5 * np.sum(m**2, axis=1),
            "m is not squared":
                lambda m, log_s: near_prior(0 * m, log_s) + 0.5 * m.sum(axis=1),
        },
    ),
    Exercise(
        "11-3", "merged_moments", "2.18", "n, mean (D,) and scatter (D, D) of the rows of two ranks",
        draw_moments, by_value(merged),
        {
            "right except for the mean: the two means are added; it lies between them":
                _merged(lambda right, within, between, middle, n1, n2: {"mean": 2 * middle}),
            "right except for the scatter: δ² entry by entry is no matrix; take the outer product":
                _merged(lambda right, within, between, middle, n1, n2: {
                    "scatter": within + n1 * n2 / (n1 + n2) * np.diag(between)
                }),
            "right except for the scatter: a weighted mean of the two, where the sums are added":
                lambda n1, mean1, scatter1, n2, mean2, scatter2: (
                    merged(n1, mean1, scatter1, n2, mean2, scatter2)
                    | {"scatter": (n1 * scatter1 + n2 * scatter2) / (n1 + n2)}
                ),
            "right except for the scatter: the sums of the two alone, as if both had the same mean":
                _merged(lambda right, within, between, middle, n1, n2: {"scatter": within}),
            "right except for the mean: the rank with fewer rows counts as much as the other":
                _merged(lambda right, within, between, middle, n1, n2: {"mean": middle}),
            "right except for the mean: the shares are exchanged, n₁/N stands where n₂/N belongs":
                _merged(lambda right, within, between, middle, n1, n2: {
                    "mean": 2 * middle - right["mean"]
                }),
            "right except for the scatter: δᵀδ has the factor n₁ n₂, which N divides":
                _merged(lambda right, within, between, middle, n1, n2: {
                    "scatter": within + n1 * n2 * between
                }),
            "right except for the scatter: δ times δ is a matrix (D, D), and its trace alone is added":
                _merged(lambda right, within, between, middle, n1, n2: {
                    "scatter": within + n1 * n2 / (n1 + n2) * np.trace(between)
                }),
            "right except for the scatter: δᵀδ has no factor, which is n₁ n₂ / N":
                _merged(lambda right, within, between, middle, n1, n2: {"scatter": within + between}),
            "right except for the scatter: δᵀδ has the factor n₁ n₂ / N², and N is divided by once":
                _merged(lambda right, within, between, middle, n1, n2: {
                    "scatter": within + n1 * n2 / (n1 + n2) ** 2 * between
                }),
            "right except for the scatter: it is taken off, and two means that differ make it larger":
                _merged(lambda right, within, between, middle, n1, n2: {
                    "scatter": within - n1 * n2 / (n1 + n2) * between
                }),
            "right except for the scatter: divided by N it is the covariance; the sums are asked for":
                _merged(lambda right, within, between, middle, n1, n2: {
                    "scatter": right["scatter"] / (n1 + n2)
                }),
            "right except for the scatter: divided by N − 1 it is a covariance; the sums are asked for":
                _merged(lambda right, within, between, middle, n1, n2: {
                    "scatter": right["scatter"] / (n1 + n2 - 1)
                }),
            "right except for the scatter: δᵀδ has the factor N, which is n₁ n₂ / N":
                _merged(lambda right, within, between, middle, n1, n2: {
                    "scatter": within + (n1 + n2) * between
                }),
            "right except for the scatter: δ² stands on the diagonal alone; δᵀδ has all products":
                _merged(lambda right, within, between, middle, n1, n2: {
                    "scatter": within + n1 * n2 / (n1 + n2) * np.diag(np.diag(between))
                }),
            "right except for the scatter: these are the products about 0; N x̄ᵀx̄ is still to be taken off":
                _merged(lambda right, within, between, middle, n1, n2: {
                    "scatter": right["scatter"] + (n1 + n2) * np.outer(right["mean"], right["mean"])
                }),
            "right except for the scatter: the product of the two means, where it is that of δ with itself":
                lambda n1, mean1, scatter1, n2, mean2, scatter2: (
                    merged(n1, mean1, scatter1, n2, mean2, scatter2)
                    | {"scatter": scatter1 + scatter2 + n1 * n2 / (n1 + n2) * np.outer(mean1, mean2)}
                ),
            "right except for the mean: it goes away from the second rank; δ is mean2 − mean1, and is added":
                lambda n1, mean1, scatter1, n2, mean2, scatter2: (
                    merged(n1, mean1, scatter1, n2, mean2, scatter2)
                    | {"mean": mean1 - n2 / (n1 + n2) * (mean2 - mean1)}
                ),
        },
    ),
    Exercise(
        "11-4", "gradient_of_parts", "1.29", "the estimate (P,) of the gradient of Σ Q over all cases",
        draw_parts, by_value(of_parts, names=["gradient"]),
        {
            "ranks with few rows count as much as those with many: each mean has to be weighted by its rows":
                lambda means, counts, n_cases: n_cases * means.mean(axis=0),
            "this is the mean over the minibatch; the sum over all data cases is N times as much":
                lambda means, counts, n_cases: counts @ means / counts.sum(),
            "this is the sum over the minibatch: N/M of it, with M rows in it, stands for all data cases":
                lambda means, counts, n_cases: counts @ means,
            "divided by N, where there are M rows in the minibatch, and N multiplies":
                lambda means, counts, n_cases: counts @ means / n_cases,
            "M/N, where the sum over the minibatch has to be made larger, by N/M":
                lambda means, counts, n_cases: counts.sum() / n_cases * (counts @ means),
            "the ranks' means are added: with R ranks that is R times too much":
                lambda means, counts, n_cases: n_cases * means.sum(axis=0),
            "N times the sum over the minibatch: it still has to be divided by its M rows":
                lambda means, counts, n_cases: n_cases * (counts @ means),
            "the weights are the wrong way round: a rank with many rows counts for less":
                lambda means, counts, n_cases: n_cases * ((1 / counts) @ means) / np.sum(1 / counts),
            "divided by the number of ranks, where it is the M rows of the minibatch":
                lambda means, counts, n_cases: n_cases * (counts @ means) / len(counts),
            "the mean of the ranks' means: each has to be weighted by its rows, and N stands before the sum":
                lambda means, counts, n_cases: means.mean(axis=0),
            "the means are added with N/M before them: each mean has first to become the sum of its rows":
                lambda means, counts, n_cases: n_cases / counts.sum() * means.sum(axis=0),
            "each mean is divided by its rows, and has to be multiplied by them to be their sum again":
                lambda means, counts, n_cases: n_cases / counts.sum() * ((1 / counts) @ means),
            "divided by the number of ranks once more: the M rows are all that it is divided by":
                lambda means, counts, n_cases: n_cases * (counts @ means) / counts.sum() / len(counts),
        },
    ),
]
