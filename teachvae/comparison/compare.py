"""The comparison of the lecture: every route on the same split, with the same decoder, and its ledger.

`run` trains the models of `models` and measures them, the ledger case by case and the tasks of `tasks`;
`tables` shows the result.
Nothing here prints. A number that a model does not have, or that cannot be had exactly, is None; a model
that the data refuse has a row without numbers and its reason. NaN in the data, where the data set lets it
stand for missing entries, is integrated out by the models that can.
"""

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
import time
import warnings

import numpy as np

from .. import datasets
from ..arrays import ranks, store, workers
from ..arrays.backend import keep_freed_memory, to_numpy
from ..doors.columns import MovedWarning, columns_for
from ..doors.validate import check_jobs, check_size
from ..evaluation import grid, nlml
from ..inference import linear_gaussian
from ..likelihoods import Categories
from ..messages import column_names, named, shorten
from ..networks.training import TrainingError
from ..routes.checkpoint import CheckpointError
from ..routes.questions import NotALikelihoodWarning
from . import models, tasks
from .probe import check_classes, check_labels
from .saved import Nowhere

AGREEMENT = 0.01  # nats per data case within which the linear models must agree on training data
PARTS = TRAINING, HELD_OUT = "training", "held out"
ENDINGS = {TRAINING: "train", HELD_OUT: "held_out"}  # of the names in Numbers
SHARES = ("not_gaussian", "diagonal", "amortisation")  # from NLML up to Q
CASES, FEW_CASES = 1500, 100  # in the ledger, of each part, at the most; FEW where K > 2
ASIDE = 0.1  # of the training data, for --early-stopping
REFUSALS = (ValueError, TrainingError)  # of one model: the others go on
NOWHERE = Nowhere()
ROADS = 20  # held-out cases for which Q − NLML is held against KL(q ‖ posterior)


@dataclass(frozen=True)
class Options:
    """What `run` is asked for.

    epochs   passes over the data for the networks; variational EM takes a fifth as many rounds, each
             with five passes
    ledger   how many cases of each part the ledger measures, at the most; None: CASES, and FEW_CASES
             where K > 2; 0: none. A linear-Gaussian model is measured on all: it costs nothing
    seeds    how many times to repeat, with seeds seed, seed + 1, …: another split, start and noise
    binarise None, or what makes grey values binary: "threshold"; "fixed", one draw for each seed; "fresh",
             a new draw for every minibatch of a VAE, and "fixed" for all that has no minibatches
    early_stopping  of the training data of what stops early the share ASIDE is not trained on: the
             parameters of its least Q are kept, and training ends after a tenth of the epochs, or rounds,
             without a new least
    """

    n_components: int = 2
    hidden: tuple = (64, 64)
    likelihood: str = "gaussian"
    seed: int = 0
    seeds: int = 1
    epochs: int = 300
    dtype: str = "float64"
    backend: str = "numpy"
    held_out: float = 0.2
    ledger: int | None = None
    binarise: str | None = None
    early_stopping: bool = False


@dataclass(frozen=True)
class Numbers:
    """One line of the tables; means over data cases, in nats per data case, None where there is none.

    reconstruction, denoising and imputation are root mean squared errors on held-out data scaled to
    [0, 1], probe the held-out accuracy of a linear probe on z, see `tasks`.
    """

    model: str
    nlml_train: float | None = None
    q_train: float | None = None
    nlml_held_out: float | None = None
    q_held_out: float | None = None
    reconstruction: float | None = None
    denoising: float | None = None
    imputation: float | None = None
    probe: float | None = None
    parameters: int | None = None
    seconds: float | None = None

    @property
    def gap_train(self):
        """Q − nlml on training data."""
        return _difference(self.q_train, self.nlml_train)

    @property
    def gap_held_out(self):
        """Q − nlml on held-out data."""
        return _difference(self.q_held_out, self.nlml_held_out)


@dataclass(frozen=True)
class Fitted:
    """A trained model, its row, where it puts held-out data (N, K), and what was warned of meanwhile.

    entry      of `models.ENTRIES`
    estimator  None where the model cannot be had: the last of the remarks is the reason
    phi        of held-out data (N, n_phi), or None
    ledger     {part: `gaps.Gaps` of the first cases of that part}, empty for a model without a bound
    divergence KL(q ‖ posterior) of the first ROADS held-out cases, by a road of its own, or None
    """

    entry: models.Entry
    estimator: object
    row: Numbers
    latent: np.ndarray | None = None
    remarks: tuple = ()
    ledger: dict = field(default_factory=dict)
    divergence: np.ndarray | None = None
    phi: np.ndarray | None = None

    @property
    def key(self):
        """The model's name in JSON."""
        return self.entry.key


@dataclass(frozen=True)
class Run:
    """One seed: the split, its tasks, the row of the tasks without a model, and the models.

    grey  (N, D) training data before they were made binary, for models that do so themselves
    """

    seed: int
    train: datasets.Dataset
    held_out: datasets.Dataset
    grey: np.ndarray
    tasks: tasks.Tasks
    no_model: Numbers
    fitted: tuple = ()

    @property
    def parts(self):
        """{name of the part: its data set}."""
        return dict(zip(PARTS, (self.train, self.held_out)))

    @property
    def incomplete(self):
        """Whether entries are missing."""
        return any(np.isnan(part.x).any() for part in (self.train, self.held_out))


@dataclass(frozen=True)
class Comparison:
    """All runs, and the checks that failed, in words."""

    options: Options
    dataset: datasets.Dataset
    runs: tuple
    failures: tuple = field(default=())


def run(dataset, options=None, progress=None, n_jobs=None, comm=ranks.SERIAL, folder=NOWHERE):
    """Train and measure every model for every seed. Returns a `Comparison`.

    progress(title, step, steps, value) is called while a model trains, value being mean Q, the mean
    nlml or the autoencoder's loss, and for each part of the ledger, value being its mean Q. n_jobs: threads
    that share the E-steps and the ledger, see `workers`; -1: as many as there are cores. comm: of ranks
    that each have all of the dataset; the models with a bound are fitted to a share of the rows on each, the
    others to all rows on all, and the ledger is shared out. folder: a `saved.Folder` in which all of it is
    kept, and from which an interrupted comparison goes on. Raises ValueError for data that the likelihood,
    or every model with a likelihood, refuses; on several ranks that any model refuses.
    """
    keep_freed_memory()
    comm.same({"the data set": dataset.x}, "before the comparison")
    options = Options() if options is None else options
    check_jobs("n_jobs", n_jobs)
    check_size("n_components", options.n_components, 1, dataset.x.shape[1], " (the columns of the data)")
    likelihood = _likelihood(dataset, options)
    folder.begin(dataset, options)
    dataset = _with_classes(dataset)
    seeds = range(options.seed, options.seed + options.seeds)
    splits = (_split(dataset, options, seed) for seed in seeds)
    with workers.threads(n_jobs):
        runs = tuple(_with_models(split, options, likelihood, progress, comm, folder) for split in splits)
    failures = tuple(f"seed {r.seed}: {text}" for r in runs for text in check(r))
    return Comparison(options, dataset, runs, failures)


def _likelihood(dataset, options):
    """The likelihood that the models are given: categories are those of the whole table, not of a part.

    Raises ValueError for a table that it refuses, naming columns and rows as the data set does.
    """
    x, spec = dataset.x, options.likelihood
    names = column_names(dataset.columns, x.shape[1])
    if options.binarise is not None:
        return spec                                                # the data become what it asks for
    try:
        columns, likelihood = columns_for(spec, x, names, constant="drop")
        likelihood.check_values(columns.encode(x), columns.names)
    except ValueError as error:
        raise ValueError(named(error, dataset.row_names)) from error
    if spec != "categorical":
        return spec
    return Categories(tuple(columns.levels[d] for d in range(x.shape[1])))


def _with_classes(dataset):
    """The data set without its labels where they are no classes: its note says why."""
    if dataset.labels is None:
        return dataset
    try:
        check_classes(check_labels(dataset.labels, len(dataset.x)))
    except (TypeError, ValueError) as error:
        return replace(dataset, labels=None, note=f"{dataset.note} The labels are left out: {error}.")
    return dataset


def _split(dataset, options, seed):
    """The `Run` of one seed, without its models yet."""
    train, held_out = datasets.split(dataset, options.held_out, seed=seed)
    grey = train.x
    if options.binarise is not None:
        how = "fixed" if options.binarise == "fresh" else options.binarise
        train, held_out = (
            datasets.binarised(part, how, np.random.default_rng([seed, 3 + i]))
            for i, part in enumerate((train, held_out))
        )
    made = tasks.make(
        train, held_out, seed, noise=options.likelihood in models.DENSITIES,
        categories=options.likelihood == "categorical",
    )
    no_model = Numbers("no model", **made.without_a_model())
    return Run(seed=seed, train=train, held_out=held_out, grey=grey, tasks=made, no_model=no_model)


def _with_models(run, options, likelihood, progress, comm, folder):
    """The run with all models, trained and measured. Raises ValueError where none with a likelihood is."""
    fewest = min(len(part.x) for part in run.parts.values())
    if fewest < comm.size:
        raise ValueError(
            f"{comm.size} ranks share {fewest} data cases out: start no more ranks than there are data cases"
        )
    setting = models.Setting(
        options=options,
        seed=run.seed,
        likelihood=likelihood,
        noise_variance=None if run.tasks.noisy is None else run.tasks.noise_variance,
        n_missing=sum(int(np.isnan(part.x).sum()) for part in run.parts.values()),
        n_entries=sum(part.x.size for part in run.parts.values()),
        comm=comm,
    )
    folder.keep_split(run)
    trained = [_train(entry, setting, run, progress, folder) for entry in models.entries(setting)]
    if not any(t.phi for t in trained):
        error = next(t.error for t in trained if t.error is not None)
        why = named(error, run.train.row_names)
        raise ValueError(f"no model with a likelihood can be had: {why}") from error
    ledgers = _ledgers(trained, run, options, progress, comm, folder)
    return replace(run, fitted=tuple(_measured(t, ledgers[t.entry.key], run) for t in trained))


@dataclass(frozen=True)
class Trained:
    """A model that has not been measured yet.

    estimator  None where the model cannot be had, with the error where there was one
    phi        {part: (N, n_phi)}, empty for a model without a bound
    """

    entry: models.Entry
    title: str
    estimator: object = None
    seconds: float | None = None
    phi: dict = field(default_factory=dict)
    remarks: tuple = ()
    error: Exception | None = None


def _train(entry, setting, run, progress, folder):
    """The model of `entry` as a `Trained`."""
    title, reason = entry.title(setting), entry.refusal(setting)
    if reason is not None:
        return Trained(entry, title, remarks=(reason,))
    kept = folder.model(run, entry)
    if kept is not None:
        estimator, beside = kept
        return Trained(entry, title, estimator, **beside)
    estimator, phi, remarks = entry.make(setting), {}, []
    comm = getattr(estimator, "comm", ranks.SERIAL)
    own, own_held_out = (ranks.share(comm, len(part.x)) for part in run.parts.values())
    x = (run.grey if getattr(estimator, "binarise", None) == "fresh" else run.train.x)[own]
    reported = {}
    if entry.iterated and progress is not None:
        reported["progress"] = partial(progress, title)
    if entry.iterated:
        reported["checkpoint"] = folder.checkpoint(run, entry)
    rows = run.train.row_names[own]
    if entry.stops_early and setting.options.early_stopping:
        trained, aside = _set_aside(len(x), run.seed)
        x, rows, validation = x[trained], rows[trained], x[aside]
        reported |= {"validation": validation, "patience": max(1, estimator.epochs // 10)}
    start = time.perf_counter()
    try:
        with _remarked(remarks, rows):
            estimator.fit(x, **reported)
            seconds = time.perf_counter() - start
            if entry.ledger:
                phi[TRAINING] = _phi_of_training(estimator, run.train.x[own])
        if entry.ledger:
            with _remarked(remarks, run.held_out.row_names[own_held_out]):
                phi[HELD_OUT] = _phi_of_new(estimator, run.held_out.x[own_held_out])
        phi = {part: np.concatenate(comm.gather(rows)) for part, rows in phi.items()}
        remarks = [remark for theirs in comm.gather(remarks) for remark in theirs]
    except (CheckpointError, store.FileError):                     # the folder's, not the model's
        raise
    except REFUSALS as error:
        if comm.size > 1:                                          # the others may be waiting for this one
            raise
        remarks.append(named(error, run.train.row_names))
        return Trained(entry, title, remarks=_once_each(remarks), error=error)
    trained = {"seconds": seconds, "phi": phi, "remarks": _once_each(remarks)}
    folder.keep_model(run, entry, estimator, **trained)
    return Trained(entry, title, estimator, **trained)


def _set_aside(n_cases, seed):
    """The places of the data cases that are trained on, and of the share ASIDE that is not."""
    order = np.random.default_rng([seed, 5]).permutation(n_cases)
    few = max(1, round(ASIDE * n_cases))
    return np.sort(order[few:]), np.sort(order[:few])


@contextmanager
def _remarked(remarks, rows):
    """Append what is warned of to the list `remarks`, data cases by their names `rows` (N,)."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        finally:
            remarks += [named(warning.message, rows) for warning in caught]


def _once_each(remarks):
    return tuple(dict.fromkeys(remarks))


def _phi_of_training(estimator, x):
    """φ of training data: variational EM knows them in its table, where none were set aside."""
    table = getattr(estimator, "phi_", None)
    return _phi_of_new(estimator, x) if table is None or len(table) < len(x) else table


def _phi_of_new(estimator, x):
    """φ of other data, by whichever route the estimator has: for these variational EM searches."""
    return estimator.encode(x) if hasattr(estimator, "encode") else estimator.infer(x)


@dataclass
class Ledger:
    """What is found of one model case by case: {part: `gaps.Gaps`}, the divergence, see `Fitted`, and doubts
    in words.
    """

    gaps: dict = field(default_factory=dict)
    divergence: np.ndarray | None = None
    doubts: list = field(default_factory=list)


def _ledgers(trained, run, options, progress, comm, folder):
    """{key: Ledger} of all models, empty ones where there is no bound."""
    most = (CASES if options.n_components <= 2 else FEW_CASES) if options.ledger is None else options.ledger
    jobs = []
    for t in trained:
        for part, phi in t.phi.items():
            cases = len(phi) if linear_gaussian.applies(t.estimator.model_) else min(most, len(phi))
            if cases:
                jobs.append((t, part, cases))
    found = {t.entry.key: Ledger() for t in trained}
    # What the grid warns of stands in the result: NaN where it refused a case.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", grid.GridWarning)
        warnings.simplefilter("ignore", nlml.FewDrawsWarning)
        warnings.simplefilter("ignore", NotALikelihoodWarning)    # the models' titles say so
        warnings.simplefilter("ignore", MovedWarning)             # it stands among the model's remarks
        own = workers.each(partial(_gaps_and_divergence, run, folder), jobs[comm.rank :: comm.size])
        results = ranks.dealt(comm, own)
        for done, ((t, part, _), (gaps, divergence, doubts)) in enumerate(zip(jobs, results), 1):
            ledger = found[t.entry.key]
            ledger.doubts += doubts
            if divergence is not None:
                ledger.divergence = divergence
            if gaps is not None:
                ledger.gaps[part] = gaps
                if progress is not None:
                    progress("the ledger", done, len(jobs), float(gaps.q_used.mean()))
    return found


def _gaps_and_divergence(run, folder, job):
    """(gaps, divergence, doubts) of the first cases of one part: job is (trained, part, how many cases)."""
    trained, part, cases = job
    kept = folder.ledger(run, trained.entry, part)
    if kept is not None:
        return kept["gaps"], kept["divergence"], kept["doubts"]
    estimator, data = trained.estimator, run.parts[part]
    x, phi, few = data.x[:cases], trained.phi[part][:cases], slice(0, ROADS)
    gaps = divergence = None
    try:
        gaps = estimator.gaps(x, phi=phi, random_state=run.seed)
        if part == HELD_OUT and estimator.model_.n_latent <= 2:
            divergence = estimator.kl_to_posterior(x[few], phi=phi[few])
        doubts = list(_doubts(part, gaps, data.row_names))
    except REFUSALS as error:
        doubts = [f"the ledger of {part} cases was left: {named(error, data.row_names)}"]
    folder.keep_ledger(run, trained.entry, part, gaps=gaps, divergence=divergence, doubts=doubts)
    return gaps, divergence, doubts


def _doubts(part, ledger, rows):
    """What in a ledger is not as it should be, in words; rows (N,) are the names of the part's cases."""
    refused = np.flatnonzero(~ledger.settled)
    if len(refused):
        sampled = ledger.method == "importance"
        what = "a few draws carry the NLML of" if sampled else "the grid refused"
        yield (
            f"{what} {len(refused)} {part} cases (rows {shorten(rows[refused].tolist())}, "
            f"mean Q {ledger.q_used[refused].mean():.3f}): they are left out of all means of NLML and Q"
        )
    lesser = np.flatnonzero(ledger.maybe_lesser)
    if len(lesser):
        yield (
            f"{len(lesser)} {part} cases (rows {shorten(rows[lesser].tolist())}) may have been left in a "
            "lesser mode: their best Q lies more than log 2 above NLML, and not every mode was tried"
        )
    far = ledger.gradient_norm[~(ledger.gradient_norm < 1e-3)]
    if len(far):
        yield (
            f"the search for the optimal φ of {len(far)} {part} cases ended at a gradient of up to "
            f"{far.max():.1e}"
        )


def _measured(trained, ledger, run):
    """The model as a `Fitted`, with its row."""
    entry, estimator, title = trained.entry, trained.estimator, trained.title
    remarks = (*trained.remarks, *ledger.doubts)
    if estimator is None:
        return Fitted(entry, None, Numbers(title), remarks=remarks)
    late, numbers = [], {}
    try:
        for part, phi in trained.phi.items():
            with _remarked(late, run.parts[part].row_names):
                warnings.simplefilter("ignore", NotALikelihoodWarning)
                numbers |= _worth(estimator, part, phi, run, ledger.gaps.get(part))
        with _remarked(late, run.held_out.row_names):
            codes = _codes(trained, run)
            numbers |= _sums(estimator, run) if entry.discrete else {}
            numbers |= run.tasks.measure(estimator, *codes)
    except REFUSALS as error:
        remarks = (*remarks, named(error, run.held_out.row_names))
        return Fitted(entry, None, Numbers(title), remarks=remarks)
    return Fitted(
        entry=entry,
        estimator=estimator,
        row=Numbers(title, parameters=estimator.n_parameters_, seconds=trained.seconds, **numbers),
        latent=codes[1],
        remarks=(*remarks, *_once_each(late)),
        ledger=ledger.gaps,
        divergence=ledger.divergence,
        phi=trained.phi.get(HELD_OUT),
    )


def _codes(trained, run):
    """The means of z for training and held-out data, each (N, K)."""
    if trained.phi:
        return [to_numpy(trained.estimator.model_.posterior.mean(phi)) for phi in trained.phi.values()]
    return [trained.estimator.transform(part.x) for part in run.parts.values()]


def _worth(estimator, part, phi, run, gaps):
    """{field of Numbers: number}: mean Q of a part, and mean NLML where its ledger `gaps` has all cases."""
    name, x = ENDINGS[part], run.parts[part].x
    if gaps is None or len(gaps.nlml) < len(x) or gaps.method == "importance":
        return {f"q_{name}": float(estimator.bound(x, phi=phi, random_state=run.seed).mean())}
    known = gaps.settled
    if not known.any():
        return {f"q_{name}": float(gaps.q_used.mean())}
    return {f"nlml_{name}": float(gaps.nlml[known].mean()), f"q_{name}": float(gaps.q_used[known].mean())}


def _sums(estimator, run):
    """The same of a model whose NLML and Q are sums over its components."""
    numbers = {}
    for part, data in run.parts.items():
        numbers[f"nlml_{ENDINGS[part]}"] = float(estimator.nlml(data.x).values.mean())
        numbers[f"q_{ENDINGS[part]}"] = float(estimator.bound(data.x).mean())
    return numbers


def check(run):
    """What should hold and does not, in words.

    No share of the ledger lies below zero by more than its error: Q ≥ nlml, and no φ beats the best.
    Q − nlml is KL(q ‖ posterior). The linear models agree.
    """
    failures = []
    for f in run.fitted:
        if f.estimator is not None:
            failures += [*_shares_below_zero(f), *_roads_apart(f)]
    spread = linear_spread(run)
    if spread is not None and not unfinished(run) and spread[0] > AGREEMENT:
        failures.append(
            f"the linear models' mean Q on training data differ by {spread[0]:.4f} nats, "
            f"more than {AGREEMENT}"
        )
    return failures


def _shares_below_zero(fitted):
    for part, ledger in fitted.ledger.items():
        slack = (1e-7 if _is_double(fitted) else 1e-3) * (1 + np.abs(ledger.q_used))
        widths = 6 if ledger.method == "importance" else 1         # standard errors, or certificates
        for name in ("approximation", *SHARES):
            error = ledger.amortisation_error if name == "amortisation" else ledger.approximation_error
            below = -getattr(ledger, name)
            wrong = below > slack + widths * error
            if wrong.any():
                yield (
                    f"{fitted.row.model}: the share {name!r} of {int(wrong.sum())} {part} cases lies below "
                    f"zero, by up to {below[wrong].max():.2e} nats"
                )


def _roads_apart(fitted):
    if fitted.divergence is None:
        return
    apart, error = two_roads(fitted)
    wrong = apart > error + (1e-4 if _is_double(fitted) else 1e-2)
    if wrong.any():
        worst = np.argmax(np.where(wrong, apart, 0))
        yield (
            f"{fitted.row.model}: Q − NLML and KL(q ‖ posterior) of {int(wrong.sum())} held-out cases "
            f"differ by up to {apart[worst]:.2e} nats, where {error[worst]:.0e} was stated"
        )


def _is_double(fitted):
    return fitted.estimator.backend_.dtype == "float64"


def two_roads(fitted):
    """|Q − NLML − KL(q ‖ posterior)| of the cases of `divergence`, and what is stated of its error."""
    ledger, few = fitted.ledger[HELD_OUT], slice(0, len(fitted.divergence))
    apart = np.abs(ledger.q_used[few] - ledger.nlml[few] - fitted.divergence)
    return apart, ledger.approximation_error[few] + ledger.amortisation_error[few]


def unfinished(run):
    """The linear models, by name, that stopped before they converged: their agreement is not checked."""
    return [f.row.model for f in _linear(run) if not f.estimator.converged_]


def linear_spread(run):
    """The largest difference in mean Q among the linear models: (training, held-out), or None.

    None too where entries are missing: the posterior's covariance is then another for every case, and
    no one rotation of z makes all of them diagonal.
    """
    rows = [f.row for f in _linear(run) if linear_gaussian.applies(f.estimator.model_)]
    everyone = sum(entry.linear for entry in models.ENTRIES)
    if len(rows) < everyone or rows[0].nlml_train is None or run.incomplete:
        return None
    return tuple(
        max(getattr(r, name) for r in rows) - min(getattr(r, name) for r in rows)
        for name in ("q_train", "q_held_out")
    )


def _linear(run):
    return [f for f in run.fitted if f.entry.linear and f.estimator is not None]


def _difference(a, b):
    return None if a is None or b is None else a - b
