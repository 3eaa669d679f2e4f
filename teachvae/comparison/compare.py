"""The comparison of the lecture: every route on the same split, with the same decoder, and its ledger.

`run` trains the models and measures them, the ledger case by case and the tasks of `tasks`; `tables`
shows the result.
Nothing here prints. A number that a model does not have, or that cannot be had exactly, is None; a model
that the data refuse has a row without numbers and its reason. NaN in the data, where the data set lets it
stand for missing entries, is integrated out by the models that can.
"""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
import time
import warnings

import numpy as np

from .. import datasets
from ..arrays.backend import to_numpy
from ..doors.columns import MovedWarning, columns_for
from ..doors.validate import check_size
from ..evaluation import grid, nlml
from ..inference import linear_gaussian
from ..likelihoods import Categories
from ..messages import column_names, named, shorten
from ..networks.training import TrainingError
from ..routes.autoencoder import Autoencoder
from ..routes.factor_analysis import FactorAnalysis
from ..routes.principal_components import PrincipalComponents
from ..routes.questions import NotALikelihoodWarning
from ..routes.vae import VAE
from ..routes.variational_em import VariationalEM
from . import tasks
from .probe import check_classes, check_labels

LINEAR = ("fa", "vem-linear", "vae-linear")
AGREEMENT = 0.01  # nats per data case within which the linear models must agree on training data
PARTS = ("training", "held out")
SHARES = ("not_gaussian", "diagonal", "amortisation")  # from NLML up to Q
CASES, FEW_CASES = 1500, 100  # in the ledger, of each part, at the most; FEW where K > 2
REFUSALS = (ValueError, TrainingError)  # of one model: the others go on
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


@dataclass(frozen=True)
class Row:
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

    estimator  None where the model cannot be had: the last of the remarks is the reason
    phi        of held-out data (N, n_phi), or None
    ledger     {part: `gaps.Gaps` of the first cases of that part}, empty for a model without a bound
    divergence KL(q ‖ posterior) of the first ROADS held-out cases, by a road of its own, or None
    """

    key: str
    estimator: object
    row: Row
    latent: np.ndarray | None = None
    remarks: tuple = ()
    ledger: dict = field(default_factory=dict)
    divergence: np.ndarray | None = None
    phi: np.ndarray | None = None


@dataclass(frozen=True)
class Run:
    """One seed: the split, its tasks, the models, and the row of the tasks without a model."""

    seed: int
    train: datasets.Dataset
    held_out: datasets.Dataset
    tasks: tasks.Tasks
    fitted: tuple
    no_model: Row

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


DENSITIES = ("gaussian", "gaussian-predicted", "student-t")  # what a Gaussian's NLML can be compared with


def models(options, seed, noise_variance, likelihood=None, missing="error"):
    """(key, title, estimator) of the models, linear ones first; noise_variance is the denoising task's.

    likelihood is that of the options, or one that names all categories; missing is the models'.
    """
    K, epochs = options.n_components, options.epochs
    common = {"backend": options.backend, "dtype": options.dtype, "random_state": seed}
    holes = {**common, "constant": "drop", "missing": missing}
    density = {**holes, "likelihood": likelihood or options.likelihood}
    linear, neural = {**density, "hidden": ()}, {**density, "hidden": options.hidden}
    rounds = max(1, epochs // 5)
    fresh = "fresh" if options.binarise == "fresh" else None
    if options.likelihood == "gaussian":
        linear_em = VariationalEM(K, **linear)
        linear_vae = VAE(K, optimizer="lbfgs", nodes="sigma", **linear)
    else:
        linear_em = VariationalEM(K, epochs=rounds, **linear)
        linear_vae = VAE(K, epochs=epochs, binarise=fresh, **linear)
    plain = {**common, "hidden": options.hidden, "epochs": epochs}
    mark = " (not a likelihood)" if options.likelihood == "bernoulli-relaxed" else ""
    return [
        ("fa", "factor analysis, EM", FactorAnalysis(K, **holes)),
        ("vem-linear", f"variational EM, linear{mark}", linear_em),
        ("vem", f"variational EM, neural{mark}", VariationalEM(K, epochs=rounds, **neural)),
        ("vae-linear", f"VAE, linear{mark}", linear_vae),
        ("vae", f"VAE{mark}", VAE(K, epochs=epochs, binarise=fresh, **neural)),
        ("ae", "autoencoder", Autoencoder(K, **plain)),
        ("dae", "denoising autoencoder", Autoencoder(K, noise_variance=noise_variance, **plain)),
        ("pca", "principal components", PrincipalComponents(K)),
    ]


def run(dataset, options=None, progress=None, workers=1):
    """Train and measure every model for every seed. Returns a `Comparison`.

    progress(title, step, steps, value) is called while a model trains, value being mean Q, the mean
    nlml or the autoencoder's loss, and for each part of the ledger, value being its mean Q. workers:
    threads that measure the ledger, best as many as cores where BLAS itself uses one thread. Raises
    ValueError for data that the likelihood, or every model with a likelihood, refuses.
    """
    options = Options() if options is None else options
    check_size("n_components", options.n_components, 1, dataset.x.shape[1], " (the columns of the data)")
    likelihood = _likelihood(dataset, options)
    dataset = _with_classes(dataset)
    runs = tuple(
        _one_seed(dataset, options, likelihood, options.seed + i, progress, workers)
        for i in range(options.seeds)
    )
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


def _one_seed(dataset, options, likelihood, seed, progress, workers):
    train, held_out = datasets.split(dataset, options.held_out, seed=seed)
    grey = train.x
    if options.binarise is not None:
        how = "fixed" if options.binarise == "fresh" else options.binarise
        train, held_out = (
            datasets.binarised(part, how, np.random.default_rng([seed, 3 + i]))
            for i, part in enumerate((train, held_out))
        )
    job = tasks.make(train, held_out, seed, noise=options.likelihood in DENSITIES)
    n_missing = int(np.isnan(dataset.x).sum())
    missing = "marginalise" if n_missing else "error"
    trained = []                                                  # key, title, estimator, seconds, φ, remarks
    errors = []
    for key, title, estimator in models(options, seed, job.noise_variance, likelihood, missing):
        if key == "dae" and job.noisy is None:
            continue
        reason = None
        if key == "fa" and options.likelihood not in DENSITIES:
            reason = (
                "factor analysis has a Gaussian likelihood: its numbers are not those of "
                f"{options.likelihood}"
            )
        elif n_missing and not hasattr(estimator, "missing"):
            reason = (
                f"it takes complete data only, here {n_missing} of {dataset.x.size} entries are missing"
            )
        if reason is not None:
            trained.append((key, title, None, None, None, (reason,)))
            continue
        report = None if progress is None else (lambda *a, title=title: progress(title, *a))
        remarks, phi, seconds = [], None, None
        start = time.perf_counter()
        try:
            with _remarked(remarks, train):
                if key == "pca":
                    estimator.fit(train.x)
                else:
                    fresh = getattr(estimator, "binarise", None) == "fresh"
                    estimator.fit(grey if fresh else train.x, progress=report)
                seconds = time.perf_counter() - start
                if hasattr(estimator, "bound"):
                    phi = [_phi_of_training(estimator, train.x)]
            if phi is not None:
                with _remarked(remarks, held_out):
                    phi.append(_phi_of_new(estimator, held_out.x))
        except REFUSALS as error:
            errors.append(error)
            remarks.append(named(error, train.row_names))
            estimator = phi = None
        trained.append((key, title, estimator, seconds, phi, tuple(dict.fromkeys(remarks))))
    if not any(hasattr(estimator, "bound") for _, _, estimator, *_ in trained):
        why = named(errors[0], train.row_names)
        raise ValueError(f"no model with a likelihood can be had: {why}") from errors[0]

    parts = (train, held_out)
    ledgers = _ledgers(trained, parts, options, seed, progress, workers)
    fitted = []
    for key, title, estimator, seconds, phi, remarks in trained:
        if estimator is None:
            fitted.append(Fitted(key, None, Row(title), remarks=remarks))
            continue
        ledger, divergence, more = ledgers.get(key, ({}, None, ()))
        try:
            row, latent, late = measure(title, estimator, job, seconds, seed, phi, ledger, parts)
        except REFUSALS as error:
            remarks = (*remarks, *more, named(error, held_out.row_names))
            fitted.append(Fitted(key, None, Row(title), remarks=remarks))
            continue
        phi = None if phi is None else phi[1]
        fitted.append(Fitted(key, estimator, row, latent, (*remarks, *more, *late), ledger, divergence, phi))
    return Run(seed, train, held_out, job, tuple(fitted), Row("no model", **job.without_a_model()))


@contextmanager
def _remarked(remarks, part):
    """Append what is warned of to the list `remarks`, rows named as in the data set `part` is of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        finally:
            remarks += [named(warning.message, part.row_names) for warning in caught]


def _phi_of_training(estimator, x):
    """φ of training data: variational EM knows them in its table."""
    table = getattr(estimator, "phi_", None)
    return _phi_of_new(estimator, x) if table is None else table


def _phi_of_new(estimator, x):
    """φ of other data, by whichever route the estimator has: for these variational EM searches."""
    return estimator.encode(x) if hasattr(estimator, "encode") else estimator.infer(x)


def _ledgers(trained, parts, options, seed, progress, workers):
    """{key: (ledger, divergence, remarks)} of every model that has a bound."""
    cap = (CASES if options.n_components <= 2 else FEW_CASES) if options.ledger is None else options.ledger
    jobs = []
    for key, _, estimator, _, phi, _ in trained:
        if phi is None:
            continue
        linear = linear_gaussian.applies(estimator.model_)
        for name, part, p in zip(PARTS, parts, phi):
            cases = len(part.x) if linear else min(cap, len(part.x))
            if cases:
                jobs.append((key, name, part, estimator, part.x[:cases], p[:cases]))

    def work(job):
        key, name, part, estimator, x, phi = job
        few = slice(0, ROADS)
        ledger = divergence = None
        try:
            ledger = estimator.gaps(x, phi=phi, random_state=seed)
            if name == PARTS[1] and estimator.model_.n_latent <= 2:
                divergence = estimator.kl_to_posterior(x[few], phi=phi[few])
            doubts = tuple(_doubts(name, ledger, part.row_names))
        except REFUSALS as error:
            doubts = (f"the ledger of {name} cases was left: {named(error, part.row_names)}",)
        return key, name, ledger, divergence, doubts

    # What the grid warns of stands in the result: NaN where it refused a case.
    found = {key: ({}, None, ()) for key, *_ in jobs}
    with warnings.catch_warnings(), ThreadPoolExecutor(workers) as pool:
        warnings.simplefilter("ignore", grid.GridWarning)
        warnings.simplefilter("ignore", nlml.FewDrawsWarning)
        warnings.simplefilter("ignore", NotALikelihoodWarning)    # the models' titles say so
        warnings.simplefilter("ignore", MovedWarning)             # it stands among the model's remarks
        results = map(work, jobs) if workers == 1 else pool.map(work, jobs)
        for done, (key, name, ledger, divergence, doubts) in enumerate(results, 1):
            own, before, remarks = found[key]
            if ledger is not None:
                own[name] = ledger
            divergence = before if divergence is None else divergence
            found[key] = own, divergence, (*remarks, *doubts)
            if progress is not None and ledger is not None:
                progress("the ledger", done, len(jobs), float(ledger.q_used.mean()))
    return found


def _doubts(part, ledger, rows):
    """What in a ledger is not as it should be, in words; rows (N,) are the names of the part's cases."""
    refused = np.flatnonzero(~settled(ledger))
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


def settled(ledger):
    """The cases (N,) bool of a ledger whose nlml is known, and its error: all means are over these."""
    return np.isfinite(ledger.nlml) & np.isfinite(ledger.nlml_error)


def measure(title, estimator, job, seconds, seed, phi, ledger, parts):
    """The `Row` of a trained model, its means of z for held-out data, and what was warned of meanwhile.

    job the `tasks.Tasks`; phi, ledger and parts are those of the two parts. NLML stands in the row where
    the ledger measured all cases.
    """
    data, numbers, remarks = (job.train, job.held_out), {}, []
    with _remarked(remarks, parts[1]):
        warnings.simplefilter("ignore", NotALikelihoodWarning)
        if phi is None:
            codes = [estimator.transform(x) for x in data]
        else:
            codes = [to_numpy(estimator.model_.posterior.mean(p)) for p in phi]
            for part, name, x, p in zip(PARTS, ("train", "held_out"), data, phi):
                gaps = ledger.get(part)
                if gaps is not None and len(gaps.nlml) == len(x) and gaps.method != "importance":
                    known = settled(gaps)
                    numbers[f"nlml_{name}"] = float(gaps.nlml[known].mean()) if known.any() else None
                    Q = gaps.q_used[known] if known.any() else gaps.q_used
                else:
                    Q = estimator.bound(x, phi=p, random_state=seed)
                numbers[f"q_{name}"] = float(Q.mean())
        numbers |= job.measure(estimator, *codes)
    row = Row(title, parameters=estimator.n_parameters_, seconds=seconds, **numbers)
    return row, codes[1], tuple(dict.fromkeys(remarks))


def check(run):
    """What should hold and does not, in words.

    No share of the ledger lies below zero by more than its error: Q ≥ nlml, and no φ beats the best.
    Q − nlml is KL(q ‖ posterior). The linear models agree.
    """
    failures = []
    for f in run.fitted:
        exact = f.estimator is not None and f.estimator.backend_.dtype == "float64"
        for part, ledger in f.ledger.items():
            slack = (1e-7 if exact else 1e-3) * (1 + np.abs(ledger.q_used))
            widths = 6 if ledger.method == "importance" else 1     # standard errors, or certificates
            for name in ("approximation", *SHARES):
                error = ledger.amortisation_error if name == "amortisation" else ledger.approximation_error
                below = -getattr(ledger, name)
                wrong = below > slack + widths * error
                if wrong.any():
                    failures.append(
                        f"{f.row.model}: the share {name!r} of {int(wrong.sum())} {part} cases lies below "
                        f"zero, by up to {below[wrong].max():.2e} nats"
                    )
        if f.divergence is not None:
            apart, error = two_roads(f)
            wrong = apart > error + (1e-4 if exact else 1e-2)
            if wrong.any():
                worst = np.argmax(np.where(wrong, apart, 0))
                failures.append(
                    f"{f.row.model}: Q − NLML and KL(q ‖ posterior) of {int(wrong.sum())} held-out cases "
                    f"differ by up to {apart[worst]:.2e} nats, where {error[worst]:.0e} was stated"
                )
    spread = linear_spread(run)
    if spread is not None and not unfinished(run) and spread[0] > AGREEMENT:
        failures.append(
            f"the linear models' mean Q on training data differ by {spread[0]:.4f} nats, "
            f"more than {AGREEMENT}"
        )
    return failures


def two_roads(fitted):
    """|Q − NLML − KL(q ‖ posterior)| of the cases of `divergence`, and what is stated of its error."""
    ledger, few = fitted.ledger[PARTS[1]], slice(0, len(fitted.divergence))
    apart = np.abs(ledger.q_used[few] - ledger.nlml[few] - fitted.divergence)
    return apart, ledger.approximation_error[few] + ledger.amortisation_error[few]


def unfinished(run):
    """The linear models, by name, that stopped before they converged: their agreement is not checked."""
    linear = (f for f in run.fitted if f.key in LINEAR and f.estimator)
    return [f.row.model for f in linear if not f.estimator.converged_]


def linear_spread(run):
    """The largest difference in mean Q among the linear models: (training, held-out), or None.

    None too where entries are missing: the posterior's covariance is then another for every case, and
    no one rotation of z makes all of them diagonal.
    """
    linear = [f for f in run.fitted if f.key in LINEAR and f.estimator]
    rows = [f.row for f in linear if linear_gaussian.applies(f.estimator.model_)]
    if len(rows) < len(LINEAR) or rows[0].nlml_train is None or run.incomplete:
        return None
    return tuple(
        max(getattr(r, name) for r in rows) - min(getattr(r, name) for r in rows)
        for name in ("q_train", "q_held_out")
    )


def _difference(a, b):
    return None if a is None or b is None else a - b
