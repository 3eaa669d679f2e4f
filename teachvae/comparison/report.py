"""The report of a comparison: one self-contained HTML page with the table and the pictures."""

import base64
from html import escape
import os
from pathlib import Path
import platform
import sys
import warnings

import numpy as np

from .. import plots
from ..doors.columns import MovedWarning
from ..likelihoods import Gaussian
from ..posteriors import FullGaussian
from . import compare, explorer, tables, tasks
from .explorer import packaged

SHOWN = 10  # images per row
POINTS = 400  # points per cloud


def write(comparison, path, seconds=None):
    """Write the report of `comparison` to `path` and return the path.

    The page holds everything it shows. It is written beside and then moved into place, so that no
    half page is ever found there.
    """
    path = Path(path)
    page = html(comparison, seconds)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        temporary.write_text(page, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def html(comparison, seconds=None):
    """The report as the text of an HTML page."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MovedWarning)             # it stands among the models' remarks
        return _page(comparison, seconds)


def _page(comparison, seconds):
    run = comparison.runs[0]
    fitted = [f for f in run.fitted if f.estimator is not None]
    parts = [
        "<h1>Three routes, one bound</h1>",
        *(f"<p class=lead>{escape(text)}</p>" for text in _lead(comparison)),
        f"<p class=note>{escape(_setting(comparison, seconds))}</p>",
        *(f"<p class=failed>Check failed: {escape(text)}</p>" for text in comparison.failures),
        "<h2>The table</h2>",
        _table(comparison),
        *(f"<p class=note>{escape(text)}</p>" for text in tables.remarks(comparison, bits=False)),
        "<h2>What the models are good for</h2>",
        _tasks(comparison),
        *(f"<p class=note>{escape(text)}</p>" for text in tables.task_remarks(comparison)),
        *_ledger(comparison, run),
        "<h2>What was done to the data, and where Ψ ended</h2>",
        f"<p>{escape(comparison.dataset.note)} Source: {escape(comparison.dataset.source)}.</p>",
        _noise(run, fitted),
        "<h2>Learning curves</h2>",
        _image(_curves(fitted), "mean Q on training data against iterations"),
        "<p class=note>Factor analysis, and the mixture of them: one EM iteration per step, and Q = NLML. "
        "Variational EM: one round. Linear VAE: one iteration of L-BFGS. VAE: one epoch, its Q with fresh "
        "noise. Dashed: training data that were set aside, where --early-stopping asks for it.</p>",
        "<h2>The latent space</h2>",
        _image(
            plots.latent_scatter(
                [(f.row.model, f.latent) for f in fitted if not f.entry.discrete], run.held_out.labels
            ),
            "posterior means of held-out data",
        ),
        f"<p class=note>Held-out data: the mean of q(z|φ_n){escape(_class_words(run))} A mixture has another "
        "plane for each of its components.</p>",
        *_explorer(run, fitted),
        "<h2>Reconstructions</h2>",
        _image(_reconstructions(run, fitted), "held-out data and their reconstructions"),
        "<p class=note>Held-out data, and E[x|z] at the mean of q(z|φ_n).</p>",
        "<h2>Samples</h2>",
        _image(_samples(run, fitted), "samples from each model"),
        f"<p class=note>z ~ N(0, I), in a mixture a component too, then {escape(_sample_words(run))}. An "
        "autoencoder has no p(z) to draw from.</p>",
        "<h2>Denoising</h2>",
        *_denoising(run, fitted),
        "<h2>Missing entries</h2>",
        *_imputation(run, fitted),
        *_remarks(run),
        f"<p class=note>{escape(_versions())}</p>",
    ]
    title = f"teachvae: {comparison.dataset.name}"
    return (
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<title>{escape(title)}</title><style>{packaged('report.css')}</style></head>\n<body>\n"
        f"{_contents(parts)}\n<script>{packaged('report.js')}</script>\n</body></html>\n"
    )


def _contents(parts):
    """The parts of the page, and beside them the list of their headings, each a link."""
    links, marked = [], []
    for part in parts:
        if part.startswith("<h2>"):
            words = part.removeprefix("<h2>").removesuffix("</h2>")
            name = f"part-{len(links) + 1}"
            links.append(f"<li><a href=#{name}>{words}</a></li>")
            part = f"<h2 id={name}>{words}</h2>"
        marked.append(part)
    nav = f"<nav aria-label=Contents><ol>{''.join(links)}</ol></nav>"
    return "\n".join([nav, "<main>", *marked, "</main>"])


def _lead(comparison):
    """What the three routes are, and what the tables say of them, in sentences."""
    yield (
        "Factor analysis, variational EM and the variational autoencoder are one model, p(z) = N(0, I) with "
        "p(x|z), and one bound, Q ≥ NLML. They differ in who fills in φ, the parameters of the q(z|φ) that "
        "stands in for a data case's posterior: a closed form, a search for each case, or a recognition "
        "network."
    )
    rows = [f.row for f in comparison.runs[0].fitted if f.row.q_held_out is not None]
    if comparison.options.likelihood == "bernoulli-relaxed" or len(rows) < 2:
        return
    best = min(rows, key=lambda row: row.q_held_out)
    text = (
        f"Here the least Q on held-out data, {best.q_held_out:.3f} nats per data case, is that of "
        f"{best.model}: the less, the better a model is sure to explain what it has not seen, for its NLML "
        "is Q or less."
    )
    if all(row.gap_held_out is not None for row in rows):
        better = min(rows, key=lambda row: row.nlml_held_out)
        if better is not best:
            text += f" By NLML itself, {better.nlml_held_out:.3f} nats, {better.model} is ahead."
        worst = max(rows, key=lambda row: row.gap_held_out)
        if worst.gap_held_out > 5e-4:
            text += (
                f" The widest gap between the two, {worst.gap_held_out:.3f} nats, is that of {worst.model}; "
                "the ledger says what it is made of."
            )
    yield text


def _setting(comparison, seconds):
    o, run = comparison.options, comparison.runs[0]
    text = (
        f"{comparison.dataset.name}: {len(run.train.x)} cases to train on, {len(run.held_out.x)} held out, "
        f"{run.train.x.shape[1]} variables. K = {o.n_components}; neural decoders "
        f"{'–'.join(str(n) for n in (o.n_components, *o.hidden, run.train.x.shape[1]))}; {o.likelihood} "
        f"likelihood; {o.epochs} epochs; {o.dtype} on {o.backend}; seed {o.seed}"
    )
    if o.seeds > 1:
        text += f" and the {o.seeds - 1} after it (pictures: seed {o.seed})"
    return text + ("." if seconds is None else f". Trained and measured in {seconds:.0f} seconds.")


def _table(comparison):
    """The table of the models, with bits per pixel where the data have levels."""
    lines, heads = tables.cells(comparison), ["model", *(c[1] for c in tables.COLUMNS)]
    above = "<th></th><th colspan=3>training</th><th colspan=3>held out</th><th></th><th></th>"
    if comparison.dataset.levels is not None:
        bits = [tables.bits_per_pixel(comparison, f.row) for f in comparison.runs[0].fitted]
        lines = [[*line, "–" if b is None else f"{b:.3f}"] for line, b in zip(lines, bits)]
        heads, above = [*heads, "bits/pixel"], f"{above}<th>held out</th>"
    return _html_table(heads, lines, above)


def _tasks(comparison):
    heads = ["model", *(c[1] for c in tables.TASK_COLUMNS)]
    above = "<th></th><th colspan=3>RMSE, held out</th><th>accuracy</th>"
    return _html_table(heads, tables.task_cells(comparison), above)


def _html_table(heads, lines, above=None):
    """Lines of cells as a table; above: a row over its headings, as HTML."""
    above = "" if above is None else f"<tr>{above}</tr>"
    heads = "".join(f"<th>{escape(head)}</th>" for head in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line) + "</tr>" for line in lines)
    return (
        f"<div class=wide><table><thead>{above}<tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _ledger(comparison, run):
    """The ledger: its table, and pictures where it is not all in closed form."""
    lines = tables.ledger_cells(comparison)
    if not lines:
        return []
    parts = [
        "<h2>The ledger: what each gap costs</h2>",
        _html_table(["model", "part", *tables.LEDGER_COLUMNS], lines),
        *(f"<p class=note>{escape(sentence)}</p>" for sentence in tables.ledger_remarks(comparison)),
    ]
    neural = [f for f in run.fitted if any(gaps.method != "exact" for gaps in f.ledger.values())]
    if neural:
        parts += _pictures_of_gaps(neural)
    if comparison.options.n_components == 2:
        parts += _pictures_of_posteriors(neural, run)
    return parts


def _pictures_of_gaps(fitted):
    """The mean shares as bars, and how the gaps are spread over the cases."""
    bars = [
        (f"{f.row.model}, {part}", tables.shares(gaps))
        for f in fitted
        for part, gaps in f.ledger.items()
    ]
    spread = [
        (
            f"{f.row.model}: {name} gap",
            {part: getattr(gaps, name)[gaps.settled] for part, gaps in f.ledger.items()},
        )
        for f in fitted
        for name in ("approximation", "amortisation")
    ]
    return [
        _image(plots.ledger_bars(bars), "mean shares of Q − NLML, per model and part"),
        _image(plots.gap_histograms(spread), "the gaps over the data cases"),
    ]


def _pictures_of_posteriors(fitted, run):
    """True posteriors of a few held-out cases, K = 2, with their q."""
    rows = [(f.row.model, _posteriors(f, run)) for f in fitted if compare.HELD_OUT in f.ledger]
    rows = [(title, panels) for title, panels in rows if panels]
    if not rows:
        return []
    return [
        _image(plots.posterior_panels(rows), "posteriors and the q that stand in for them"),
        "<p class=note>Three held-out cases of each model, by Q − NLML: the least, the median, the "
        "largest; above each, its approximation gap + its amortisation gap. Grey: the regions that "
        "hold 50, 90 and 99 % of the true posterior p(z|x). Ellipses hold 90 % of q.</p>",
    ]


def _posteriors(fitted, run):
    """Panels for the held-out cases of the least, the median and the largest gap."""
    gaps, estimator = fitted.ledger[compare.HELD_OUT], fitted.estimator
    if estimator.model_.n_latent != 2:
        return []
    known = np.flatnonzero(gaps.settled)
    if not len(known):
        return []
    order = known[np.argsort((gaps.q_used - gaps.nlml)[known])]
    places = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
    x = run.held_out.x[list(places.values())]
    phi_used = fitted.phi[list(places.values())]
    family, full = estimator.model_.posterior, FullGaussian(2)
    panels = []
    for i, (word, n) in enumerate(places.items()):
        gaussians = {
            label: (q.mean(phi)[0], q.covariance(phi)[0])
            for label, q, phi in (
                ("q in use", family, phi_used[i : i + 1]),
                ("best q of the family", family, gaps.phi_optimal[n : n + 1]),
                ("best q of any covariance", full, gaps.phi_full[n : n + 1]),
            )
        }
        title = f"{word}: {gaps.approximation[n]:.3f} + {gaps.amortisation[n]:.3f} nats"
        case = estimator.model_input(x[i : i + 1])
        panels.append(plots.posterior_panel(title, estimator.model_, estimator.theta_, case, gaussians))
    return panels


def _noise(run, fitted):
    """Where Ψ ended: its range per model, and how much of it is the dequantisation's own."""
    levels = run.train.levels
    own = None if levels is None else 1 / (12 * levels**2)
    parts = [] if own is None else [_dequantisation(run, levels, own)]
    heads = ["Ψ of", "smallest", "median", "largest"]
    heads += [] if own is None else ["within 10 % of the dequantisation's"]
    lines = []
    for f in fitted:
        model = getattr(f.estimator, "model_", None)
        if model is None or not isinstance(model.likelihood, Gaussian):
            continue
        psi = f.estimator.noise_variance_
        line = [f.row.model, f"{psi.min():.2e}", f"{np.median(psi):.2e}", f"{psi.max():.2e}"]
        line += [] if own is None else [str(int((psi < 1.1 * own).sum()))]
        lines.append([*line, str(len(f.estimator.heywood_))])
    if lines:
        parts += [
            _html_table([*heads, "at the floor"], lines),
            "<p class=note>The floor of Ψ is a millionth of each variable's variance, for every route.</p>",
        ]
    return "".join(parts)


def _dequantisation(run, levels, own):
    counts = np.floor(run.train.x * levels)
    constant = int((counts == counts[0]).all(axis=0).sum())
    return (
        f"<p>{constant} of {counts.shape[1]} pixels are constant in the training part. Spread out over "
        f"their grey level they have the variance of the dequantisation, 1/(12·{levels}²) = {own:.2e}, "
        "and so no density runs to infinity; but a large share of each density is that of this known "
        "noise, and Q and NLML say as much about it as about the images.</p>"
    )


def _curves(fitted):
    noted = [f for f in fitted if any(hasattr(f.estimator, path) for path in plots.PATHS)]
    models = {f.row.model: f.estimator for f in noted}
    return plots.learning_curves(models, "mean Q, nats per training case")


def _limits(run):
    return run.train.range or (float(np.nanmin(run.train.x)), float(np.nanmax(run.train.x)))


def _first_of_each_class(held_out):
    """The first case of every class, then further ones, SHOWN in all; the first ones without classes."""
    places = np.arange(len(held_out.x))
    if held_out.labels is not None:
        _, first = np.unique(held_out.labels, return_index=True)
        places = np.concatenate([first, np.setdiff1d(places, first)])
    return places[:SHOWN]


def _show(run, rows):
    """Rows of images where a case is an image, else clouds of points."""
    if run.train.image_shape is not None:
        return plots.image_rows(rows, run.train.image_shape, _limits(run), run.train.ink)
    return plots.point_clouds(rows, run.train.x[:POINTS], run.train.columns)


def _explorer(run, fitted):
    """The latent explorer of the three routes on held-out data, or a sentence why there is none."""
    routes = {f.row.model: f for f in fitted if f.key in explorer.ROUTES}
    refused = {title: explorer.refusal(f.estimator) for title, f in routes.items()}
    shown = {title: f for title, f in routes.items() if refused[title] is None}
    whole = not np.isnan(run.held_out.x).any(axis=1).all()
    parts = ["<h2>The latent explorer</h2>"]
    if shown and whole:
        phi = {title: f.phi for title, f in shown.items()}
        models = {title: f.estimator for title, f in shown.items()}
        parts += [explorer.section(models, run.held_out, phi=phi)]
    elif not whole:
        parts += ["<p>It shows complete data cases, and here every one has missing entries.</p>"]
    for title, why in refused.items():
        if why is not None:
            parts += [f"<p class=note>{escape(title)} is not shown: {escape(why)}.</p>"]
    return parts


def _reconstructions(run, fitted):
    places = _places(run)
    rows = [("data", run.held_out.x[places])] if run.train.image_shape is not None else []
    return _show(run, rows + [(f.row.model, f.estimator.decode(f.latent[places])) for f in fitted])


def _class_words(run):
    return "." if run.held_out.labels is None else ", coloured by class. No model has seen the classes."


def _sample_words(run):
    return "the mean E[x|z] (without the noise of Ψ)" if run.train.image_shape else "x ~ p(x|z)"


def _samples(run, fitted):
    rows = []
    for f in fitted:
        if not hasattr(f.estimator, "sample"):
            rows.append((f.row.model, "no p(x)"))
        elif run.train.image_shape is not None:
            rows.append((f.row.model, f.estimator.decode(f.estimator.prior_codes(SHOWN, run.seed))))
        else:
            rows.append((f.row.model, f.estimator.sample(POINTS, random_state=run.seed)))
    return _show(run, rows)


def _places(run):
    """The held-out cases that are shown: images by class, points as they come."""
    if run.train.image_shape is not None:
        return _first_of_each_class(run.held_out)
    return np.arange(min(POINTS, len(run.held_out.x)))


def _denoising(run, fitted):
    fitted = [f for f in fitted if f.row.denoising is not None]
    if not fitted:
        return ["<p>Gaussian noise is added to real numbers; this data has none.</p>"]
    places = _places(run)
    rows = [("clean", run.held_out.x[places])] if run.train.image_shape is not None else []
    rows += [("noisy", run.tasks.noisy[places])]
    rows += [(f.row.model, run.tasks.denoised(f.estimator, places)) for f in fitted]
    return [
        _image(_show(run, rows), "clean, noisy and denoised held-out data"),
        f"<p class=note>N(0, {tasks.NOISE}²) added to held-out data, its range taken as [0, 1]; the same "
        "draws for every model. A model with a Gaussian likelihood is told the variance: it infers z with "
        "the noise in Ψ, and gives E[x|x̃]. An autoencoder can only have been trained with such noise.</p>",
    ]


def _imputation(run, fitted):
    fitted = [f for f in fitted if f.row.imputation is not None]
    if not fitted:
        return ["<p>No model here can impute.</p>"]
    places = _places(run)
    incomplete = run.tasks.incomplete[places]
    rows = []
    if run.train.image_shape is not None:
        rows = [("data", run.held_out.x[places]), ("observed", incomplete)]
    rows += [(f.row.model, f.estimator.impute(incomplete)) for f in fitted]
    words = "" if run.incomplete else " The models were trained on complete data."
    words += " Blue: not seen." if run.train.image_shape is not None else ""
    return [
        _image(_show(run, rows), "held-out data with hidden cells, and the cells filled in"),
        f"<p class=note>{tasks.HIDDEN:.0%} of the cells of held-out data are hidden and filled in from the "
        f"others: their conditional mean.{words}</p>",
    ]


def _remarks(run):
    lines = [f"<li>{escape(f.row.model)}: {escape(text)}</li>" for f in run.fitted for text in f.remarks]
    return ["<h2>Remarks</h2>", f"<ul>{''.join(lines)}</ul>"] if lines else []


def _versions():
    import matplotlib

    from .. import __version__

    return (
        f"teachvae {__version__}, Python {platform.python_version()}, NumPy {np.__version__}, "
        f"Matplotlib {matplotlib.__version__}, {sys.platform}."
    )


def _image(figure, alt):
    data = base64.b64encode(plots.png(figure)).decode("ascii")
    picture = f'<img alt="{escape(alt)}" src="data:image/png;base64,{data}">'
    return f'<p><button type=button class=picture title="Enlarge">{picture}</button></p>'
