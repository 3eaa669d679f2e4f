"""The comparison of the lecture: every route on the same split, with the same decoder, in one table.

`run` trains the six models and measures them; `table` and `as_json` show the result. Nothing here
prints. A number that a model does not have, or that cannot be had exactly, is None and shown as "–".
"""

from dataclasses import asdict, dataclass, field
import math
import time
import warnings

import numpy as np

from . import datasets, linear_gaussian
from .autoencoder import Autoencoder
from .backend import to_numpy
from .factor_analysis import FactorAnalysis
from .vae import VAE
from .variational_em import VariationalEM

NOISE = 0.2  # standard deviation of the noise to be taken out again, on data scaled to [0, 1]
LINEAR = ("fa", "vem-linear", "vae-linear")
AGREEMENT = 0.01  # nats per data case within which the linear models must agree on training data


@dataclass(frozen=True)
class Options:
    """What `run` is asked for.

    epochs   passes over the data for the networks; variational EM takes a fifth as many rounds, each
             with five passes
    seeds    how many times to repeat, with seeds seed, seed + 1, …: another split, start and noise
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


@dataclass(frozen=True)
class Row:
    """One line of the table; means over data cases, in nats per data case, None where there is none.

    reconstruction and denoising are root mean squared errors on held-out data scaled to [0, 1].
    """

    model: str
    nlml_train: float | None = None
    q_train: float | None = None
    nlml_held_out: float | None = None
    q_held_out: float | None = None
    reconstruction: float | None = None
    denoising: float | None = None
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
    """A trained model, its row, where it puts held-out data (N, K), and what was warned of meanwhile."""

    key: str
    estimator: object
    row: Row
    latent: np.ndarray | None = None
    remarks: tuple = ()


@dataclass(frozen=True)
class Run:
    """One seed: the split, the noisy held-out data, and the models."""

    seed: int
    train: datasets.Dataset
    held_out: datasets.Dataset
    noisy: np.ndarray
    fitted: tuple


@dataclass(frozen=True)
class Comparison:
    """All runs, and the checks that failed, in words."""

    options: Options
    dataset: datasets.Dataset
    runs: tuple
    failures: tuple = field(default=())


def models(options, seed):
    """(key, title, estimator) of the six models, the linear ones first."""
    K, epochs = options.n_components, options.epochs
    common = {"backend": options.backend, "dtype": options.dtype, "random_state": seed}
    linear = {**common, "likelihood": options.likelihood, "hidden": ()}
    neural = {**common, "likelihood": options.likelihood, "hidden": options.hidden}
    rounds = max(1, epochs // 5)
    if options.likelihood == "gaussian":
        linear_em = VariationalEM(K, **linear)
        linear_vae = VAE(K, optimizer="lbfgs", nodes="sigma", **linear)
    else:
        linear_em = VariationalEM(K, epochs=rounds, **linear)
        linear_vae = VAE(K, epochs=epochs, **linear)
    return [
        ("fa", "factor analysis, EM", FactorAnalysis(K, **common)),
        ("vem-linear", "variational EM, linear", linear_em),
        ("vem", "variational EM, neural", VariationalEM(K, epochs=rounds, **neural)),
        ("vae-linear", "VAE, linear", linear_vae),
        ("vae", "VAE", VAE(K, epochs=epochs, **neural)),
        ("ae", "autoencoder", Autoencoder(K, hidden=options.hidden, epochs=epochs, **common)),
    ]


def run(dataset, options=None, progress=None):
    """Train and measure every model for every seed. Returns a `Comparison`.

    progress(title, step, steps, value) is called while a model trains, value being mean Q, the mean
    nlml or the autoencoder's loss. Raises ValueError for data that a model cannot be fitted to.
    """
    options = Options() if options is None else options
    runs = tuple(_one_seed(dataset, options, options.seed + i, progress) for i in range(options.seeds))
    failures = tuple(f"seed {r.seed}: {text}" for r in runs for text in check(r))
    return Comparison(options, dataset, runs, failures)


def _one_seed(dataset, options, seed, progress):
    train, held_out = datasets.split(dataset, options.held_out, seed=seed)
    low, high = dataset.range or (float(train.x.min()), float(train.x.max()))
    span = high - low
    rng = np.random.default_rng([seed, 1])
    noisy = held_out.x + NOISE * span * rng.standard_normal(held_out.x.shape)
    fitted = []
    for key, title, estimator in models(options, seed):
        if key == "fa" and options.likelihood != "gaussian":
            remark = "factor analysis has a Gaussian likelihood: not fitted to binary data"
            fitted.append(Fitted(key, None, Row(title), remarks=(remark,)))
            continue
        report = None if progress is None else (lambda *a, title=title: progress(title, *a))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            start = time.perf_counter()
            estimator.fit(train.x, progress=report)
            seconds = time.perf_counter() - start
            binary = options.likelihood == "bernoulli"
            row, latent = measure(
                title, estimator, train.x, held_out.x, None if binary else noisy, span, seconds, seed
            )
        remarks = tuple(dict.fromkeys(str(w.message) for w in caught))
        fitted.append(Fitted(key, estimator, row, latent, remarks))
    return Run(seed, train, held_out, noisy, tuple(fitted))


def measure(title, estimator, train, held_out, noisy, span, seconds, seed):
    """The `Row` of a trained model, and its means of z for held-out data.

    train, held_out, noisy are data (N, D), noisy None where there is no such thing; span is the width
    of the data's range.
    """

    def error(latent):
        return float(np.sqrt(np.mean((estimator.decode(latent) - held_out) ** 2))) / span

    numbers = {}
    if hasattr(estimator, "bound"):
        # φ is filled in once: for variational EM that is a search. Its table knows the training data.
        phi = fill(estimator, held_out)
        latent = to_numpy(estimator.model_.posterior.mean(phi))
        table = getattr(estimator, "phi_", None)
        numbers["q_train"] = float(estimator.bound(train, phi=table, random_state=seed).mean())
        numbers["q_held_out"] = float(estimator.bound(held_out, phi=phi, random_state=seed).mean())
        if linear_gaussian.applies(estimator.model_):
            numbers["nlml_train"] = float(estimator.nlml(train).values.mean())
            numbers["nlml_held_out"] = float(estimator.nlml(held_out).values.mean())
    else:
        latent = estimator.transform(held_out)
    row = Row(
        title,
        reconstruction=error(latent),
        denoising=None if noisy is None else error(estimator.transform(noisy)),
        parameters=estimator.n_parameters_,
        seconds=seconds,
        **numbers,
    )
    return row, latent


def fill(estimator, x):
    """φ (N, n_phi) of data x, by whichever route the estimator has."""
    return estimator.encode(x) if hasattr(estimator, "encode") else estimator.infer(x)


def check(run):
    """What should hold and does not, in words: Q ≥ nlml, and the linear models agree."""
    failures = []
    for f in run.fitted:
        if f.estimator is None or f.row.nlml_train is None:
            continue
        for part, x in (("training", run.train.x), ("held-out", run.held_out.x)):
            nlml = f.estimator.nlml(x).values
            below = nlml - f.estimator.bound(x)
            wrong = below > (1e-7 if nlml.dtype == np.float64 else 1e-3) * (1 + np.abs(nlml))
            if wrong.any():
                failures.append(
                    f"{f.row.model}: Q lies below nlml for {int(wrong.sum())} {part} cases, by up to "
                    f"{below.max():.2e} nats"
                )
    spread = linear_spread(run)
    finished = all(f.estimator.converged_ for f in run.fitted if f.key in LINEAR and f.estimator)
    if spread is not None and finished and spread[0] > AGREEMENT:
        failures.append(
            f"the linear models' mean Q on training data differ by {spread[0]:.4f} nats, "
            f"more than {AGREEMENT}"
        )
    return failures


def linear_spread(run):
    """The largest difference in mean Q among the linear models: (training, held-out), or None."""
    rows = [f.row for f in run.fitted if f.key in LINEAR and f.estimator]
    if len(rows) < len(LINEAR) or rows[0].nlml_train is None:
        return None
    return tuple(
        max(getattr(r, name) for r in rows) - min(getattr(r, name) for r in rows)
        for name in ("q_train", "q_held_out")
    )


# ---- showing it ------------------------------------------------------------------------------

COLUMNS = (
    # heading, line below it, attribute of Row, digits
    ("training", "NLML", "nlml_train", 3),
    ("", "Q", "q_train", 3),
    ("", "gap", "gap_train", 3),
    ("held out", "NLML", "nlml_held_out", 3),
    ("", "Q", "q_held_out", 3),
    ("", "gap", "gap_held_out", 3),
    ("RMSE", "reconstr.", "reconstruction", 4),
    ("", "denoising", "denoising", 4),
    ("", "params", "parameters", 0),
    ("", "seconds", "seconds", 2),
)


def cells(comparison):
    """The table as text: a list of rows of strings, the model first, spread appended with ± ."""
    body = []
    for i, fitted in enumerate(comparison.runs[0].fitted):
        line = [fitted.row.model]
        for _, _, name, digits in COLUMNS:
            values = [getattr(r.fitted[i].row, name) for r in comparison.runs]
            line.append(_cell(values, digits))
        body.append(line)
    return body


def table(comparison):
    """The aligned table as text, with a line on units and on how far the linear models agree."""
    lines = [
        ["", *(c[0] for c in COLUMNS)],
        ["model", *(c[1] for c in COLUMNS)],
        *cells(comparison),
    ]
    widths = [max(len(line[j]) for line in lines) for j in range(len(lines[0]))]
    text = [
        "  ".join(
            cell.ljust(width) if j == 0 else cell.rjust(width)
            for j, (cell, width) in enumerate(zip(line, widths))
        ).rstrip()
        for line in lines
    ]
    text.insert(2, "-" * sum([*widths, 2 * (len(widths) - 1)]))
    return "\n".join([*text, "", *remarks(comparison)])


def remarks(comparison, bits=True):
    """The sentences below the table; bits: with the one on bits per pixel, where the data has levels."""
    options, first = comparison.options, comparison.runs[0]
    N, D = first.train.x.shape
    unit = "nats per data case" if options.likelihood == "gaussian" else "nats per data case (probabilities)"
    seeds = "" if options.seeds == 1 else f"; mean ± standard deviation of {options.seeds} seeds"
    text = [
        f"{comparison.dataset.name}: {N} training and {len(first.held_out.x)} held-out cases, D = {D}, "
        f"K = {options.n_components}; NLML, Q and gap = Q − NLML are means in {unit}{seeds}.",
        "–: the model has no such number, or it cannot be had exactly.",
    ]
    spreads = [s for s in (linear_spread(r) for r in comparison.runs) if s is not None]
    if spreads:
        train, held_out = (max(s[i] for s in spreads) for i in (0, 1))
        text.append(
            f"The three linear models' Q differ by {train:.1e} nats on training data and by "
            f"{held_out:.1e} on held-out data."
        )
    if bits and comparison.dataset.levels is not None:
        values = [(f.row.model, bits_per_pixel(comparison, f.row)) for f in first.fitted]
        listed = ", ".join(f"{model} {value:.3f}" for model, value in values if value is not None)
        text.append(f"Held-out Q in bits per pixel of the integers: {listed}.")
    return text


def bits_per_pixel(comparison, row):
    """Held-out Q restated in bits per pixel of the integer data, or None                   (5.10)."""
    dataset = comparison.dataset
    if dataset.levels is None or row.q_held_out is None:
        return None
    return float(datasets.bits_per_dimension(row.q_held_out, dataset.x.shape[1], dataset.levels))


def as_json(comparison):
    """The comparison as a dict of plain numbers, strings, lists and None."""
    first = comparison.runs[0]
    return {
        "data": {
            "name": comparison.dataset.name,
            "note": comparison.dataset.note,
            "source": comparison.dataset.source,
            "n_train": len(first.train.x),
            "n_held_out": len(first.held_out.x),
            "n_visible": first.train.x.shape[1],
        },
        "unit": "nats per data case",
        "options": asdict(comparison.options),
        "runs": [
            {
                "seed": run.seed,
                "linear_models_differ_by": linear_spread(run),
                "models": [
                    {
                        "key": f.key,
                        **asdict(f.row),
                        "gap_train": f.row.gap_train,
                        "gap_held_out": f.row.gap_held_out,
                        "bits_per_pixel_held_out": bits_per_pixel(comparison, f.row),
                        "remarks": list(f.remarks),
                    }
                    for f in run.fitted
                ],
            }
            for run in comparison.runs
        ],
        "failures": list(comparison.failures),
    }


def _difference(a, b):
    return None if a is None or b is None else a - b


def _cell(values, digits):
    if any(v is None for v in values):
        return "–"
    mean = math.fsum(values) / len(values)
    text = f"{mean:.{digits}f}"
    if text.strip("-0.") == "" and text.startswith("-"):
        text = text[1:]  # no "-0.000"
    if len(values) > 1 and digits:
        text += f" ±{np.std(values, ddof=1):.{digits}f}"
    return text
