"""`teachvae.compare`: the comparison in one call, and what it hands back, to be printed, looked at and asked.

The command line stands on it.
"""

from dataclasses import dataclass, fields, replace
from pathlib import Path
import time
import warnings

import numpy as np

from ..arrays import ranks
from ..datasets import Dataset
from ..doors.validate import check_choice, check_data, check_hidden, check_size
from ..likelihoods import LIKELIHOODS
from ..messages import on_a_page, shorten
from . import compare as comparing, report, saved, tables


@dataclass(frozen=True, eq=False)
class Result:
    """A comparison that was run: print(result) has its tables, result.report() writes the pictures.

    comparison  the `compare.Comparison`: every run with its split, its models, their ledgers and remarks
    seconds     that training and measuring took

    Of several seeds, models, rows and ledgers are those of the first.
    """

    comparison: comparing.Comparison
    seconds: float

    @property
    def models(self):
        """{what the tables call it: fitted model}, without those that the data refuse."""
        return {f.row.model: f.estimator for f in self._fitted() if f.estimator is not None}

    @property
    def rows(self):
        """{model: its `compare.Numbers`}: NLML and Q of both parts, the tasks' errors, seconds, …"""
        return {f.row.model: f.row for f in self._fitted()}

    @property
    def ledgers(self):
        """{model: {"training" or "held out": its `gaps.Gaps`}}, of the models that have one."""
        return {f.row.model: f.ledger for f in self._fitted() if f.ledger}

    @property
    def train(self):
        """The data set that the models were trained on."""
        return self.comparison.runs[0].train

    @property
    def held_out(self):
        """The data set that was held out."""
        return self.comparison.runs[0].held_out

    @property
    def failures(self):
        """The checks that failed, in words, as in `compare.check`."""
        return self.comparison.failures

    @property
    def remarks(self):
        """(model, sentence) of all that was warned of while the models were trained and measured."""
        return [(f.row.model, text) for run in self.comparison.runs for f in run.fitted for text in f.remarks]

    def report(self, folder="teachvae-report"):
        """Write report.html, one page with tables and pictures, into a folder; returns its path.

        The folder is made where it is not there. Raises OSError where it cannot be written.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what there is to warn of stands among the remarks already
            return report.write(self.comparison, folder / "report.html", self.seconds)

    def as_json(self):
        """A dict of plain numbers, strings, lists and None: what `teachvae compare --json` prints."""
        return tables.as_json(self.comparison)

    def _fitted(self):
        return self.comparison.runs[0].fitted

    def __str__(self):
        return tables.text(self.comparison)

    def __repr__(self):
        held_out = f"{len(self.train.x)} training and {len(self.held_out.x)} held-out data cases"
        return f"<comparison of {len(self.models)} models on {self.comparison.dataset.name}: {held_out}>"

    _repr_html_ = on_a_page


def compare(
    data, n_components=2, *, labels=None, missing="error", progress=None, n_jobs=None, save=None,
    resume=False, comm=None, **options,
):
    """Every route on the same split of the same data, measured side by side: a `Result`.

    data      X (N, D), an array or a data frame, or a `datasets.Dataset`, such as datasets.digits()
    labels    (N,) a class for each row of X, for the probe and the colours; no model learns from it
    missing   "error", or "marginalise": NaN in X stands for an entry that was not observed
    progress  progress(title, step, steps, value) is called while a model trains, and for the ledger
    n_jobs    threads that share E-steps and ledger: the numbers do not depend on them; -1: every core
    save      a folder that keeps the split, every model and its ledger as they are done, with resume=True to
              go on from there; or None
    comm      `ranks.comm("mpi")`, to share data cases and ledger out over ranks; or None
    options   of `compare.Options`: hidden=(64, 64), likelihood="gaussian", seed=0, seeds=1, epochs=300,
              held_out=0.2, ledger=None, binarise=None, early_stopping=False, dtype, backend

    Nothing is printed, and what is warned of stands among the remarks. Raises TypeError for an unknown option
    and for data that are neither, and ValueError for others that do not fit, and for data that every model
    with a likelihood refuses.
    """
    comm = ranks.SERIAL if comm is None else comm
    options = _options(n_components=n_components, **options)
    dataset = _dataset(data, labels, missing)
    if resume and save is None:
        raise ValueError(
            "--resume goes on in the folder of --save FOLDER, resume=True in that of save: give it too"
        )
    if save is not None and comm.size > 1:
        raise ValueError("--save (save=) keeps what one process has: leave it out where ranks share the data")
    folder = saved.Nowhere() if save is None else saved.Folder(save, resume)
    start = time.perf_counter()
    comparison = comparing.run(dataset, options, progress, n_jobs, comm, folder)
    return Result(comparison, time.perf_counter() - start)


def _options(**given):
    """The `compare.Options`, checked."""
    known = [field.name for field in fields(comparing.Options)]
    unknown = [name for name in given if name not in known]
    if unknown:
        raise TypeError(f"compare has no option {shorten(unknown)}; it has {', '.join(known)}")
    if given.get("binarise") is not None:
        check_choice("binarise", given["binarise"], ["fixed", "fresh", "threshold"])
        given = {"likelihood": "bernoulli", **given}
    options = comparing.Options(**given)
    for name, least in {"n_components": 1, "seed": 0, "seeds": 1, "epochs": 1}.items():
        check_size(name, getattr(options, name), least)
    if options.ledger is not None:
        check_size("ledger", options.ledger, 0)
    check_choice("likelihood", options.likelihood, LIKELIHOODS)
    if options.binarise is not None and options.likelihood != "bernoulli":
        raise ValueError(
            f"binarise={options.binarise!r} makes data for likelihood='bernoulli', not for "
            f"{options.likelihood!r}: leave one out"
        )
    check_choice("backend", options.backend, ["numpy", "cupy", "auto"])
    check_choice("dtype", options.dtype, ["float64", "float32"])
    return replace(options, hidden=check_hidden(options.hidden))


def _dataset(data, labels, missing):
    """The `Dataset` that was given, or one of a table X (N, D)."""
    if isinstance(data, Dataset):
        if labels is not None:
            raise ValueError("a Dataset has labels of its own: give dataclasses.replace(data, labels=…)")
        return data
    if isinstance(data, (str, Path)):
        name = str(data)
        raise TypeError(f"data must be X (N, D) or a Dataset, got {name!r}: give datasets.load({name!r})")
    check_choice("missing", missing, ["error", "marginalise"])
    x, names = check_data(data, 2, name="data", missing=missing == "marginalise")
    return Dataset(
        np.array(x, dtype="float64"), "data", "A table, as it was handed over.", "handed over to compare",
        labels=None if labels is None else np.asarray(labels),
        columns=None if names is None else tuple(names), missing=missing == "marginalise",
    )
