"""How many factors: factor analysis with every K of a list, judged by BIC or by data that were held out."""

from dataclasses import dataclass

import numpy as np

from .. import plots
from ..doors.validate import check_choice, check_data, check_size, generator
from ..evaluation import goodness
from ..messages import align
from ..routes.conventions import quietly
from ..routes.factor_analysis import FactorAnalysis

UNITS = {"bic": "BIC", "held out": "nlml held out, nats per data case"}


@dataclass(frozen=True)
class Row:
    """What one K reached.

    nlml    mean over the data that it was fitted to, in nats per data case
    value   BIC (7.18), or the mean nlml of data cases that were held out, in nats per data case
    above   how far value is above that of the chosen K
    error   of nlml held out, the standard error of `above` over the data cases; None for BIC
    remark  whether EM ended in a Heywood case or did not converge
    """

    n_components: int
    n_parameters: int
    nlml: float
    value: float
    above: float
    error: float | None
    remark: str


@dataclass(frozen=True)
class Selection:
    """The K of least value, and a `Row` for every K. str(selection) is a table."""

    n_components: int
    by: str
    rows: tuple

    def figure(self):
        """The values over K, a Matplotlib figure."""
        Ks, values = [r.n_components for r in self.rows], [r.value for r in self.rows]
        errors = None if self.by == "bic" else [r.error for r in self.rows]
        return plots.choice(Ks, values, errors, self.n_components, "K", UNITS[self.by])

    def __str__(self):
        digits = 2 if self.by == "bic" else 4
        table = [["K", "parameters", "nlml", self.by, "above the least", ""]]
        for r in self.rows:
            above = f"{r.above:.{digits}f}" + ("" if r.error is None else f" ± {r.error:.{digits}f}")
            numbers = [f"{r.nlml:.4f}", f"{r.value:.{digits}f}", above]
            table.append([str(r.n_components), str(r.n_parameters), *numbers, r.remark])
        return f"{align(table, left=0, heads=1)}\nchosen: K = {self.n_components}, by {UNITS[self.by]}"


def select_n_components(X, candidates, by="bic", *, n_folds=5, random_state=0, **options):
    """How many factors X (N, D) has: of the numbers `candidates` the best, a `Selection`.

    by       "bic": the least BIC (7.18), which of many data cases finds the K that made them; "held out": the
             least nlml of data cases that a fit has not seen, each of n_folds parts being left out in turn,
             which finds the K that foretells best
    options  of `FactorAnalysis`, such as noise="isotropic" or missing="marginalise"; tol is 1e-5 where it
             is not given, as K is told by more than that

    Raises ValueError for candidates that are no numbers of factors, and for BIC where they have more
    parameters than a covariance has entries; and whatever a fit raises.
    """
    x, _ = check_data(X, minimum_rows=2, missing=options.get("missing") == "marginalise")
    Ks = _checked(candidates, x.shape[1], by, options.get("noise", "diagonal"))
    check_size("n_folds", n_folds, 2, len(x), f" (X has {len(x)} data cases)")
    options = {"tol": 1e-5, "random_state": random_state, **options}
    fits = [FactorAnalysis(K, **options) for K in Ks]
    summaries = [quietly(fa.fit, x).summary() for fa in fits]
    if by == "bic":
        values = np.array([[summary.bic] for summary in summaries])           # (len(Ks), 1)
    else:
        values = np.array(_held_out(fits, x, n_folds, random_state))          # (len(Ks), N)
    best = int(values.mean(axis=1).argmin())

    def row(K, fa, summary, own):
        above = own - values[best]
        error = None if by == "bic" else float(above.std(ddof=1) / np.sqrt(len(above)))
        remarks = ["Heywood case"] * bool(len(fa.heywood_)) + ["not converged"] * (fa.converged_ is False)
        numbers = float(fa.nlml_path_[-1]), float(own.mean()), float(above.mean())
        return Row(K, summary.n_parameters, *numbers, error, ", ".join(remarks))

    return Selection(Ks[best], by, tuple(map(row, Ks, fits, summaries, values)))


def _checked(candidates, D, by, noise):
    """The candidates for D columns, rising."""
    check_choice("by", by, UNITS)
    try:
        Ks = list(candidates)
    except TypeError:
        Ks = []
    if not Ks or isinstance(candidates, str):
        raise ValueError(
            f"candidates must be several numbers of factors, such as range(1, 6), got {candidates!r}"
        )
    for K in Ks:
        check_size("a candidate", K, 1, D, f" (X has {D} columns)")
    most = max(K for K in range(D) if goodness.degrees_of_freedom(D, K) >= 0)
    if by == "bic" and noise == "diagonal" and max(Ks) > most:
        raise ValueError(
            f"BIC counts parameters, and {max(Ks)} factors of {D} columns have more than their covariance "
            f"has entries: give candidates up to {most}, or by='held out'"
        )
    return sorted(set(Ks))


def _held_out(fits, x, n_folds, random_state):
    """The nlml (N,) of every data case under each kind of fit to the parts that it is not in."""
    part = generator(random_state).permutation(len(x)) % n_folds
    nlml = np.empty((len(fits), len(x)))
    for left_out in range(n_folds):
        seen, unseen = x[part != left_out], x[part == left_out]
        for own, fa in zip(nlml, fits):
            fitted = quietly(type(fa)(**fa.get_params()).fit, seen)
            own[part == left_out] = quietly(fitted.nlml, unseen).values
    return nlml
