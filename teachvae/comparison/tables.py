"""What a comparison says, as text and as JSON: the table of the models, the ledger, the remarks below."""

from dataclasses import asdict
import math

import numpy as np

from .. import datasets
from ..messages import align, fixed
from . import tasks
from .compare import ASIDE, PARTS, SHARES, linear_spread, two_roads, unfinished

COLUMNS = (
    # heading, line below it, field of Numbers, digits
    ("training", "NLML", "nlml_train", 3),
    ("", "Q", "q_train", 3),
    ("", "gap", "gap_train", 3),
    ("held out", "NLML", "nlml_held_out", 3),
    ("", "Q", "q_held_out", 3),
    ("", "gap", "gap_held_out", 3),
    ("", "params", "parameters", 0),
    ("", "seconds", "seconds", 2),
)
TASK_COLUMNS = (
    ("RMSE", "reconstr.", "reconstruction", 4),
    ("", "denoising", "denoising", 4),
    ("", "imputation", "imputation", 4),
    ("accuracy", "probe", "probe", 3),
)


def cells(comparison):
    """The table of the models as text: a list of rows of strings, the model first, the spread after ± ."""
    return [_line([r.fitted[i].row for r in comparison.runs], COLUMNS) for i in _models(comparison)]


def task_cells(comparison):
    """The table of the tasks as text, rows as in `cells`, the last one without a model."""
    rows = [_line([r.fitted[i].row for r in comparison.runs], TASK_COLUMNS) for i in _models(comparison)]
    return [*rows, _line([r.no_model for r in comparison.runs], TASK_COLUMNS)]


def unit_of_errors(comparison):
    """What the tasks' errors are, in a word."""
    return "wrong" if comparison.runs[0].tasks.categories else "RMSE"


def _models(comparison):
    return range(len(comparison.runs[0].fitted))


def _line(rows, columns):
    """One line of a table: `rows` holds the `Numbers` of every run."""
    cells = (_cell([getattr(r, name) for r in rows], digits) for _, _, name, digits in columns)
    return [rows[0].model, *cells]


LEDGER_COLUMNS = ("NLML", "not Gaussian", "diagonal", "amortisation", "Q", "error", "cases")


def ledger_cells(comparison):
    """The ledger of the first run as text: a list of rows of strings, the model and the part first.

    Means over the cases whose NLML is known; the error is the mean of the cases' larger error, that of the
    approximation or of the amortisation gap.
    """
    body = []
    for fitted in comparison.runs[0].fitted:
        for i, (part, gaps) in enumerate(fitted.ledger.items()):
            known = gaps.settled
            line = [fitted.row.model if i == 0 else "", part]
            if known.any():
                means = [getattr(gaps, name)[known].mean() for name in ("nlml", *SHARES, "q_used")]
                line += [_cell([mean], 3 if j in (0, 4) else 4) for j, mean in enumerate(means)]
                error = np.maximum(gaps.approximation_error, gaps.amortisation_error)[known].mean()
                line.append("0" if error == 0 else f"{error:.0e}")
            else:
                line += ["–"] * (len(LEDGER_COLUMNS) - 1)
            body.append([*line, str(int(known.sum()))])
    return body


def shares(gaps):
    """{name: mean nats} of the shares of a ledger that make up Q − NLML, over the settled cases."""
    known = gaps.settled
    return {
        name: float(nats[known].mean()) if known.any() else 0.0 for name, nats in gaps.shares.items()
    }


def text(comparison):
    """All that is printed: the aligned table of the models, the ledger, and the remarks below each."""
    heads = [["", *(c[0] for c in COLUMNS)], ["model", *(c[1] for c in COLUMNS)]]
    parts = [align([*heads, *cells(comparison)], left=1, heads=2), "", *remarks(comparison)]
    first = [c[0].replace("RMSE", unit_of_errors(comparison)) for c in TASK_COLUMNS]
    heads = [["", *first], ["tasks, held out", *(c[1] for c in TASK_COLUMNS)]]
    parts += ["", align([*heads, *task_cells(comparison)], left=1, heads=2), "", *task_remarks(comparison)]
    ledger = ledger_cells(comparison)
    if ledger:
        heads = [["the ledger", "", *LEDGER_COLUMNS]]
        parts += ["", align([*heads, *ledger], left=2, heads=1), "", *ledger_remarks(comparison)]
    return "\n".join(parts)


def task_remarks(comparison):
    """The sentences below the table of the tasks."""
    run = comparison.runs[0]
    of_categories = run.tasks.categories
    what = (
        "The share of wrong categories. Reconstruction: the most probable one" if of_categories else
        "RMSE on data scaled to [0, 1]. Reconstruction: E[x|z]"
    )
    sentences = [
        f"{what} at the mean of q(z|x)."
        + (
            "" if run.tasks.noisy is None else
            f" Denoising: of known noise N(0, {tasks.NOISE}²); Gaussian models infer z with it in Ψ."
        )
        + f" Imputation: of {tasks.HIDDEN:.0%} of the cells, hidden at random, given the others."
    ]
    if run.no_model.probe is not None:
        sentences.append("Probe: the labels read off z by a linear map (off the data, without a model).")
    sentences.append(
        f"No model: the columns' {'most frequent categories' if of_categories else 'means'} for "
        "reconstruction and imputation"
        + ("." if run.tasks.noisy is None else "; the noisy data as they are.")
    )
    return sentences


def ledger_remarks(comparison):
    """The sentences below the ledger: how to read it, its headline, its certificates."""
    run, options = comparison.runs[0], comparison.options
    seed = "" if options.seeds == 1 else f" Seed {options.seed} alone."
    return [
        "NLML + not Gaussian + diagonal + amortisation = Q. Not Gaussian: what the best Gaussian q misses; "
        "diagonal: what its diagonal costs on top; amortisation: what the φ in use costs beyond the best."
        f"{seed}",
        *_over_fitting(run),
        *_how_far_the_roads_differ(run),
        *_how_nlml_was_had(run),
    ]


def _over_fitting(run):
    for f in run.fitted:
        if f.entry.amortised and len(f.ledger) == len(PARTS):
            train, held_out = (shares(f.ledger[part])["amortisation"] for part in PARTS)
            verdict = ": it over-fits" if held_out > 1.5 * train + 0.01 else ""
            yield (
                f"The recognition network's φ costs {train:.3f} nats on training data, {held_out:.3f} on "
                f"held-out data{verdict}."
            )


def _how_far_the_roads_differ(run):
    roads = [two_roads(f) for f in run.fitted if f.divergence is not None]
    if not roads:
        return
    known = [(a, e) for road in roads for a, e in zip(*road) if np.isfinite(a)]
    apart, error = max(known, default=(0.0, 0.0))
    refused = sum(len(a) for a, _ in roads) - len(known)
    sizes = sorted({len(a) for a, _ in roads})
    yield (
        f"Q − NLML and KL(q ‖ posterior), computed separately, differ by at most {apart:.1e} nats, where "
        f"{error:.0e} was stated, in the first {' or '.join(map(str, sizes))} held-out cases of every model"
        + (f"; {refused} could not be had." if refused else ".")
    )


def _how_nlml_was_had(run):
    methods = {gaps.method for f in run.fitted for gaps in f.ledger.values()}
    if "grid" in methods:
        yield (
            "NLML by the grid where no closed form is; error: the mean over the cases of what is stated of "
            "their gaps."
        )
    if "importance" in methods:
        yield (
            "NLML by importance sampling from the best Gaussian where no closed form is, Q on fresh draws; "
            "error: the mean over the cases of their gaps' standard errors, and of what a mode that was not "
            "tried may save. There the ledger holds the first cases of each part only, and so its Q is not "
            "that of the table above."
        )


def remarks(comparison, bits=True):
    """The sentences below the table; bits: with the one on bits per pixel, where the data has levels."""
    return [
        *_about_the_data(comparison),
        *_about_models_without_numbers(comparison),
        *_about_early_stopping(comparison),
        *_about_the_likelihood(comparison.options),
        *_about_the_linear_models(comparison),
        *(_in_bits(comparison) if bits else ()),
    ]


def _about_the_data(comparison):
    options, run = comparison.options, comparison.runs[0]
    N, D = run.train.x.shape
    discrete = ("bernoulli", "poisson", "categorical")
    unit = "nats per data case" + (" (probabilities)" if options.likelihood in discrete else "")
    seeds = "" if options.seeds == 1 else f"; mean ± standard deviation of {options.seeds} seeds"
    yield (
        f"{comparison.dataset.name}: {N} training and {len(run.held_out.x)} held-out cases, D = {D}, "
        f"K = {options.n_components}; NLML, Q and gap = Q − NLML are means in {unit}{seeds}."
    )
    yield "–: the model has no such number, or it is not had exactly for every case."
    missing = np.isnan(comparison.dataset.x)
    if missing.any():
        yield (
            f"{missing.sum()} of {missing.size} entries are missing: integrated out. Errors are those of the "
            "others."
        )


def _about_models_without_numbers(comparison):
    for run in comparison.runs:
        seed = "" if comparison.options.seeds == 1 else f", seed {run.seed}"
        for f in run.fitted:
            if f.estimator is None:
                yield f"{f.row.model}{seed}: no numbers, for {f.remarks[-1]}."


def _about_early_stopping(comparison):
    """How long each model was trained that had training data set aside."""
    if not comparison.options.early_stopping:
        return
    run = comparison.runs[0]
    ends = [
        f"{f.row.model} {f.estimator.best_iter_} of {f.estimator.epochs}"
        for f in run.fitted if f.entry.stops_early and f.estimator is not None
    ]
    yield (
        f"Early stopping: {ASIDE:.0%} of the training data were set aside for the neural models, and what is "
        f"kept is the epoch, or round, of their least Q: in seed {run.seed} {', '.join(ends)}. The training "
        "columns are of all training data, with those set aside."
    )


def _about_the_likelihood(options):
    if options.likelihood == "bernoulli-relaxed":
        yield (
            "Not a likelihood: the Bernoulli formula on grey values does not integrate to one; its NLML and "
            "Q are comparable with nothing but each other."
        )
    if options.binarise is not None:
        words = {
            "threshold": "1 where the grey value is above one half",
            "fixed": "one draw, then kept",
            "fresh": "a new draw for every minibatch of the VAEs; one fixed draw for all other models",
        }
        yield (
            f"Binarised, {options.binarise}: {words[options.binarise]}. Numbers of different ways to "
            "binarise are never to be compared."
        )


def _about_the_linear_models(comparison):
    spreads = [s for s in (linear_spread(run) for run in comparison.runs) if s is not None]
    if not spreads:
        fitted = [f for run in comparison.runs for f in run.fitted if f.estimator is not None]
        early = sorted({f.row.model for f in fitted if getattr(f.estimator, "converged_", None) is False})
        if early:
            yield f"Stopped before they converged: {', '.join(early)}."
        return
    train, held_out = np.max(spreads, axis=0)
    yield (
        f"The three linear models' Q differ by {train:.1e} nats on training data and by {held_out:.1e} on "
        "held-out data."
    )
    early = sorted({model for run in comparison.runs for model in unfinished(run)})
    if early:
        yield f"That they agree was not checked: not converged are {', '.join(early)}."


def _in_bits(comparison):
    if comparison.dataset.levels is not None:
        values = [(f.row.model, bits_per_pixel(comparison, f.row)) for f in comparison.runs[0].fitted]
        listed = ", ".join(f"{model} {value:.3f}" for model, value in values if value is not None)
        yield f"Held-out Q in bits per pixel of the integers: {listed}."


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
        "runs": [_run_json(run, comparison) for run in comparison.runs],
        "failures": list(comparison.failures),
    }


def _run_json(run, comparison):
    return {
        "seed": run.seed,
        "rows": {part: [int(n) for n in data.row_names] for part, data in run.parts.items()},
        "linear_models_differ_by": linear_spread(run),
        "tasks_without_a_model": {name: getattr(run.no_model, name) for _, _, name, _ in TASK_COLUMNS},
        "models": [_model_json(f, comparison) for f in run.fitted],
    }


def _model_json(fitted, comparison):
    return {
        "key": fitted.key,
        **asdict(fitted.row),
        "gap_train": fitted.row.gap_train,
        "gap_held_out": fitted.row.gap_held_out,
        "bits_per_pixel_held_out": bits_per_pixel(comparison, fitted.row),
        "remarks": list(fitted.remarks),
        "ledger": {part: _ledger_json(gaps) for part, gaps in fitted.ledger.items()},
        "kl_to_posterior_held_out": None if fitted.divergence is None else _list(fitted.divergence),
    }


def _ledger_json(gaps):
    """The ledger of one part, case by case, in the order of the split."""
    names = ("nlml", "q_full", "q_optimal", "q_used", "nlml_error", "approximation_error",
             "amortisation_error", "gradient_norm")
    return {"nlml_method": gaps.method, **{name: _list(getattr(gaps, name)) for name in names}}


def _list(values):
    """Numbers for JSON, which has no NaN."""
    return [float(v) if np.isfinite(v) else None for v in values]


def _cell(values, digits):
    if any(v is None for v in values):
        return "–"
    text = fixed(math.fsum(values) / len(values), digits)
    if len(values) > 1 and digits:
        text += f" ±{np.std(values, ddof=1):.{digits}f}"
    return text
