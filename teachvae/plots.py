"""Every picture, of the report, of results and of notebooks: functions from arrays, or from fitted models, to
a Matplotlib figure.

Figures are made without pyplot: nothing global is touched, and nothing is shown or saved here.
"""

import io
import re

from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
import numpy as np

from .arrays.backend import constant, to_numpy
from .messages import fixed

# Okabe & Ito's colours, told apart by readers with any colour vision; neighbours differ in their marker, too,
# and no pair of the two comes twice among 32 classes.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#B8A800")
MARKERS = ("o", "^", "s", "v")
GREY = "#666666"
HOLE = "#A8D5F2"                                                   # a pixel that was not seen


def png(figure, dpi=110):
    """The figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight", facecolor="white")
    return buffer.getvalue()


def learning_curves(models, ylabel="mean Q, nats per data case"):
    """The paths of fitted models {title: model}: of training data one line per model, and a dashed one of the
    held-out data that `fit` was given as validation; the horizontal axis is logarithmic.

    The window holds the last twentieth of every curve, and all that lies lower. Raises ValueError for a model
    that has noted no path of Q or nlml, as an autoencoder has not.
    """
    curves = [(title, *_paths(title, model)) for title, model in models.items()]
    figure = Figure(figsize=(7.5, 3.8))
    ax = figure.add_subplot()
    for i, (title, values, held_out) in enumerate(curves):
        if held_out is not None:
            ax.plot(np.arange(1, len(held_out) + 1), held_out, color=COLOURS[i % 8], lw=1.2, ls="--",
                    label=f"{title}, held out")
        ax.plot(np.arange(1, len(values) + 1), values, color=COLOURS[i % 8], label=title,
                lw=3.2 if i == 0 else 1.6, alpha=0.6 if i == 0 else 1.0,  # the first may lie under others
                marker="o" if len(values) == 1 else None)
    ax.set_xscale("log")
    paths = [path for _, *both in curves for path in both if path is not None]
    low = min(min(path) for path in paths)
    high = max(max(path[-max(1, len(path) // 20) :]) for path in paths)
    pad = 0.08 * (high - low) + 1e-6
    ax.set_ylim(low - pad, high + 4 * pad)
    ax.set_xlabel("iteration, round or epoch")
    ax.set_ylabel(ylabel)
    ax.legend(frameon=False, fontsize=9)
    ax.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return figure


PATHS = "q_path_", "nlml_path_"                                    # what training may have noted


def _paths(title, model):
    """The path of a model's training, and that of its held-out data, or None."""
    for name in PATHS:
        if hasattr(model, name):
            return getattr(model, name), getattr(model, name.replace("path", "validation_path"), None)
    raise ValueError(
        f"{title!r} is {model!r}, which has noted no path of Q or nlml ({', '.join(PATHS)}): give fitted "
        "models with a bound"
    )


def q_against_s(model, X, **options):
    """What S draws say of Q, and of the importance-weighted bound L_S, against S: of a fitted model the mean
    over data cases X (n, D), best a few.

    Lines: the mean of many estimates; bands: where nine in ten of them lie. Q stays, and only its spread
    falls; L_S falls from Q towards NLML. options are those of `model.sampled_bounds`.
    """
    found = model.sampled_bounds(X, **options)
    figure = Figure(figsize=(6.4, 4.0))
    ax = figure.add_subplot()
    lines = ("Q", found.Q, COLOURS[3], "-"), ("$L_S$", found.L, COLOURS[0], "--")
    for name, values, colour, style in lines:
        low, high = np.quantile(values, [0.05, 0.95], axis=1)
        ax.fill_between(found.sizes, low, high, color=colour, alpha=0.25, lw=0)
        ax.plot(found.sizes, values.mean(axis=1), style, color=colour, lw=1.8, marker="o", ms=3.5,
                label=f"{name} by S draws: mean, and nine in ten")
    for name, level, style in (("Q", found.Q_level, "-"), ("NLML", found.nlml_level, ":")):
        ax.axhline(level, color=GREY, lw=1.2, ls=style, zorder=0, label=f"{name} = {level:.3f}")
    ax.set_xscale("log")
    ax.set_xlabel("S, draws of z for each data case")
    ax.set_ylabel("nats per data case")
    ax.legend(frameon=False, fontsize=9)
    ax.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return figure


def latent_scatter(panels, labels):
    """Where each model puts the data: panels is a list of (title, z (N, K)); coloured by labels (N,), which
    are written at their places where all are one letter or digit.

    With K = 1, z is the horizontal axis and the classes lie above one another; with K > 2 the first
    two are shown.
    """
    figure = Figure(figsize=(3.1 * min(3, len(panels)), 3.0 * -(-len(panels) // 3) + 0.4))
    axes = _grid(figure, len(panels), 3)
    labels = np.zeros(len(panels[0][1])) if labels is None else np.asarray(labels)
    classes = np.unique(labels)
    if len(classes) > 32:
        classes, labels = np.array([0]), np.zeros(len(labels))
    written = len(classes) > 1 and all(re.fullmatch("[0-9A-Za-z]", str(c)) for c in classes)
    for ax, (title, z) in zip(axes, panels):
        for i, c in enumerate(classes):
            rows = labels == c
            y = z[rows, 1] if z.shape[1] > 1 else np.full(rows.sum(), i) + _jitter(rows.sum())
            look = {"marker": MARKERS[(i + i // 8) % 4], "s": 7, "lw": 0, "alpha": 0.75}
            if written:
                look = {"marker": f"${c}$", "s": 22, "lw": 0.3}
            ax.scatter(z[rows, 0], y, color=COLOURS[i % 8], label=plain(c), **look)
        ax.set_title(title, fontsize=10)
        ax.set_xlabel("$z_1$", labelpad=1)
        ax.set_ylabel("$z_2$" if z.shape[1] > 1 else "class", labelpad=1)
        ax.tick_params(labelsize=7)
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.yaxis.set_major_locator(MaxNLocator(5))
    if len(classes) > 1 and not written:
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(
            handles, names, loc="upper center", ncols=min(10, len(names)), frameon=False,
            fontsize=9, markerscale=2.2, handletextpad=0.1, columnspacing=1.0,
        )
    figure.tight_layout(rect=(0, 0, 1, 1 if written else 1 - 0.32 / figure.get_figheight()))
    return figure


def image_rows(rows, shape, limits, ink=False):
    """Rows of small images: rows is a list of (title, images (n, D) or a sentence why there are none).

    limits  (low, high): black and white, or with ink white and black, as of ink on paper. NaN is blue
    """
    shades = colormaps["gray_r" if ink else "gray"].with_extremes(bad=HOLE)
    n = max(len(images) for _, images in rows if not isinstance(images, str))
    figure = Figure(figsize=(1.9 + 0.62 * n, 0.68 * len(rows) + 0.1))
    axes = figure.subplots(len(rows), n, squeeze=False)
    for line, (title, images) in zip(axes, rows):
        for ax in line:
            ax.set_axis_off()
        if isinstance(images, str):
            line[0].text(0, 0.5, images, va="center", fontsize=9, color=GREY, transform=line[0].transAxes)
        else:
            for ax, image in zip(line, images):
                ax.imshow(image.reshape(shape), cmap=shades, vmin=limits[0], vmax=limits[1])
        line[0].text(-0.25, 0.5, title, va="center", ha="right", fontsize=9, transform=line[0].transAxes)
    figure.subplots_adjust(left=0.02 + 1.6 / figure.get_figwidth(), right=0.99, top=0.99, bottom=0.01,
                           wspace=0.06, hspace=0.08)
    return figure


def point_clouds(panels, background, names=None):
    """Points over the data, in the first two columns and, where D > 2, in columns 1 and 3 too.

    panels is a list of (title, points (n, D) or a sentence why there are none); background (N, D).
    """
    D = background.shape[1]
    pairs = [(0, min(1, D - 1))] if D < 3 else [(0, 1), (0, 2)]
    figure = Figure(figsize=(2.5 * len(panels), 2.6 * len(pairs)))
    axes = figure.subplots(len(pairs), len(panels), squeeze=False)
    for line, (i, j) in zip(axes, pairs):
        for ax, (title, points) in zip(line, panels):
            ax.scatter(background[:, i], background[:, j], s=4, color="#BBBBBB", lw=0)
            limits = ax.get_xlim(), ax.get_ylim()
            if isinstance(points, str):
                ax.text(0.5, 0.5, points, ha="center", va="center", fontsize=9, color=GREY,
                        transform=ax.transAxes, wrap=True)
            else:
                ax.scatter(points[:, i], points[:, j], s=4, color=COLOURS[0], lw=0, alpha=0.7)
            ax.set(xlim=limits[0], ylim=limits[1])
            ax.set_xlabel(_name(names, i), labelpad=1, fontsize=8)
            ax.set_ylabel(_name(names, j), labelpad=1, fontsize=8)
            ax.tick_params(labelsize=7)
            ax.set_title(title, fontsize=9)
    figure.tight_layout()
    return figure


SHARE_COLOURS = {
    "not Gaussian": "#56B4E9", "diagonal": "#E69F00", "amortisation": "#D55E00",
    "left by the flow": "#0072B2", "bent": "#56B4E9", "turned": "#E69F00",
}


def shares_by_case(shares, error, stated):
    """What Q − NLML is made of in every data case: shares is {name: nats (N,)}, error (N,) what is stated of
    their sum.

    Left: stacked, the cases sorted by their sum; a share below zero hangs below the axis. Right: each share
    sorted by itself, on a logarithmic axis, and the error, under which a share is not told from 0.
    stated is the error's name, or None where it is 0.
    """
    total = sum(shares.values())
    order, places = np.argsort(-total), np.arange(1, len(total) + 1)
    figure = Figure(figsize=(9.0, 3.6))
    stack, sorted_ = figure.subplots(1, 2)
    above, below = np.zeros(len(total)), np.zeros(len(total))
    for name, values in shares.items():
        colour, label = SHARE_COLOURS[name], name
        for base, part in ((above, np.maximum(values[order], 0)), (below, np.minimum(values[order], 0))):
            _steps(stack, base, base + part, color=colour, lw=0, label=label)
            base += part
            label = None
        sorted_.plot(places, np.sort(values)[::-1], color=colour, lw=1.8, drawstyle="steps-mid",
                     marker="o" if len(places) == 1 else None)
    if stated is not None:
        _steps(stack, (total - error)[order], (total + error)[order], color=GREY, alpha=0.5, lw=0)
        sorted_.plot(places, np.sort(error)[::-1], color=GREY, lw=1.2, ls="--", drawstyle="steps-mid",
                     marker="_" if len(places) == 1 else None, label=f"{stated} of the sum")
        sorted_.legend(frameon=False, fontsize=9)
    sorted_.set_yscale("log", nonpositive="mask")
    low, high = sorted_.get_ylim()
    sorted_.set_ylim(max(low, ROUNDING), max(high, 1e3 * ROUNDING))
    stack.set_ylim(top=max(stack.get_ylim()[1], ROUNDING))
    stack.set_ylabel("nats above NLML")
    stack.set_xlabel("data case, sorted by the sum")
    sorted_.set_ylabel("nats")
    sorted_.set_xlabel("data case, each share sorted by itself")
    for ax in (stack, sorted_):
        ax.set_xlim(0.5, len(total) + 0.5)
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        ax.spines[["top", "right"]].set_visible(False)
    figure.legend(*stack.get_legend_handles_labels(), loc="upper center", ncols=3, frameon=False, fontsize=9)
    figure.tight_layout(rect=(0, 0, 1, 0.93))
    return figure


ROUNDING = 1e-9                                                    # nats, less than which no picture shows


def _steps(ax, low, high, **style):
    """Fill between low and high (N,), flat over the width of each of the places 1 … N."""
    edges = np.arange(len(low) + 1) + 0.5
    ax.fill_between(edges, np.append(low, low[-1]), np.append(high, high[-1]), step="post", **style)


def ledger_bars(rows):
    """One stacked bar per line: rows is a list of (title, {share: mean nats above NLML}), top to bottom."""
    figure = Figure(figsize=(7.5, 0.42 * len(rows) + 0.9))
    ax = figure.add_subplot()
    longest = max(sum(max(v, 0) for v in shares.values()) for _, shares in rows)
    for i, (_, shares) in enumerate(rows):
        left = 0.0
        for name, value in shares.items():
            label = name if i == 0 else None
            ax.barh(-i, value, left=left, color=SHARE_COLOURS[name], height=0.65, label=label)
            left += value
        ax.text(left + 0.01 * longest, -i, f" {fixed(left, 3)}", va="center", fontsize=9, color=GREY)
    ax.set_yticks([-i for i in range(len(rows))], [title for title, _ in rows], fontsize=9)
    ax.set_xlim(0, 1.12 * longest + 1e-9)
    ax.set_xlabel("Q − NLML, mean nats per data case")
    ax.legend(frameon=False, fontsize=9, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    ax.spines[["top", "right"]].set_visible(False)
    return figure


def gap_histograms(panels):
    """How a share is spread over the data cases: panels is a list of (title, {label: nats (n,)}).

    The horizontal axis is logarithmic, the same for all panels; values below its left end are
    gathered in the first bar, which says so.
    """
    figure = Figure(figsize=(7.5, 2.5 * -(-len(panels) // 2)))
    axes = figure.subplots(-(-len(panels) // 2), 2, sharex=True, squeeze=False).ravel()
    largest = max([float(v.max()) for _, groups in panels for v in groups.values() if len(v)], default=1.0)
    high = max(int(np.ceil(np.log10(max(largest, 1e-3)))), -2)
    bins = np.logspace(-4, high, 4 * (high + 4) + 1)
    for ax, (title, groups) in zip(axes, panels):
        for i, (label, values) in enumerate(groups.items()):
            weights = np.full(len(values), 100 / max(len(values), 1))
            ax.hist(
                np.maximum(values, bins[0]), bins=bins, weights=weights, histtype="step", lw=1.8,
                color=COLOURS[(0, 3)[i % 2]], label=label,
            )
        ax.set_xscale("log")
        ax.set_title(title, fontsize=10)
        ax.set_xlabel("nats (10⁻⁴ or less at the left end)", fontsize=8)
        ax.tick_params(labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
    for ax in axes[::2]:
        ax.set_ylabel("% of data cases", fontsize=9)
    axes[0].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    return figure


def rank_histograms(rows):
    """Where z̃ stands among draws of q: rows is a list of (title, `calibration.Calibration`), a row of panels
    each, one for each of the first six latent variables.

    The line is where the bars would end on average if q were the posterior, the band holds 99 of 100 of them.
    """
    columns = min(6, max(found.counts.shape[1] for _, found in rows))
    figure = Figure(figsize=(2.5 * columns + 0.5, 2.0 * len(rows) + 0.6))
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, (title, found) in zip(axes, rows):
        for ax in line[found.counts.shape[1] :]:
            ax.set_axis_off()
        edges = np.concatenate([[0], np.cumsum(found.expected)]) / found.expected.sum()
        for k, ax in enumerate(line[: found.counts.shape[1]]):
            low, high, level = (np.append(v, v[-1]) for v in (*found.band, found.expected))
            ax.fill_between(
                edges, low, high, step="post", color="#CCCCCC", lw=0, label="holds 99 % of counts"
            )
            ax.step(edges, level, where="post", color=GREY, lw=0.8, label="their mean, if q is exact")
            ax.stairs(found.counts[:, k], edges, color=COLOURS[0], lw=1.6)
            ax.set(xlim=(0, 1), ylim=(0, 1.15 * max(found.counts[:, k].max(), high.max())))
            ax.set_title(f"$z_{{{k + 1}}}$:  p = {found.p_value[k]:.2g}", fontsize=9)
            ax.tick_params(labelsize=7)
            ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))
            ax.spines[["top", "right"]].set_visible(False)
        line[0].set_ylabel(f"{title}\ndata cases", fontsize=9)
    for ax in axes[-1]:
        ax.set_xlabel("share of the draws below $\\tilde{z}$", fontsize=8, labelpad=1)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    lines = 2 if columns == 1 else 1
    figure.legend(handles, labels, loc="upper center", ncols=2 // lines, frameon=False, fontsize=8)
    figure.tight_layout(rect=(0, 0, 1, 1 - (0.05 + 0.2 * lines) / figure.get_figheight()))
    return figure


def posterior_panel(title, model, theta, x, gaussians):
    """A panel for `posterior_panels`: the posterior of x (1, D) on a lattice that holds its mass and the
    gaussians {label: (mean (2,), covariance (2, 2))}. Returns (title, z1 (a,), z2 (b,), log_p (b, a),
    gaussians).
    """

    def on(z1, z2):
        z = np.stack([g.ravel() for g in np.meshgrid(z1, z2)], axis=1)[:, None, :]
        return to_numpy(model.log_joint(theta, x, constant(z, like=x))).reshape(len(z2), len(z1))

    side = np.linspace(-6, 6, 241)
    log_p = on(side, side)
    inside = log_p > log_p.max() - 8                               # whatever holds a share worth seeing
    sides = []
    for k, places in enumerate(np.meshgrid(side, side)):
        ends = [mean[k] + 2.6 * np.sqrt(c[k, k]) * np.array([-1, 1]) for mean, c in gaussians.values()]
        values = np.concatenate([places[inside], *ends])
        margin = 0.06 * (values.max() - values.min()) + 0.02
        sides.append(np.linspace(values.min() - margin, values.max() + margin, 241))
    return title, *sides, on(*sides), gaussians


def ladder_panels(panels):
    """True posteriors with the rungs of `gaps.Ladder` drawn over them, for K = 2.

    panels is a list of (title, z1 (a,), z2 (b,), log_p (b, a), {label: log_q (b, a)}), from `ladder_panel`.
    Shading: the regions that hold 50, 90 and 99 % of the posterior; a line: that which holds 90 % of a q.
    """
    figure = Figure(figsize=(3.1 * len(panels) + 0.3, 3.3))
    handles = {}
    for ax, (title, z1, z2, log_p, rungs) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels):
        handles |= _shade(ax, z1, z2, log_p, rungs)[1]
        ax.set_title(title, fontsize=9)
        ax.tick_params(labelsize=7)
        ax.set_xlabel("$z_1$", fontsize=9, labelpad=1)
    figure.axes[0].set_ylabel("$z_2$", fontsize=9)
    figure.legend(
        handles.values(), handles.keys(), loc="upper center", ncols=len(handles), frameon=False, fontsize=9
    )
    figure.tight_layout(rect=(0, 0, 1, 0.93))
    return figure


def ladder_panel(title, model, theta, x, rungs):
    """A panel for `ladder_panels`: the posterior of x (1, D), and {label: (family, phi (1, n_phi))}, on a
    lattice that holds the mass of all.
    """
    sides, log_p, found = densities(model, theta, x, rungs)
    return title, *sides, log_p, found


POINTS, LOOKS = 241, 3                 # of a side of a lattice; how often it closes in
LOW = 5.5                              # nats below its peak, where a density ends


def densities(model, theta, x, rungs):
    """The posterior of one data case x (1, D) and each q of the rungs {label: (family, phi (1, n_phi))}, on a
    lattice that holds the mass of all, K = 1 or 2.

    Returns the lattice's sides, K arrays, log p(x, z) on it, (a,) or (b, a), and {label: log q} likewise.
    """
    K = model.n_latent

    def on(sides, log_density):
        """A density at the points of the lattice, of K = 2 line by line, so that little is held at a time."""
        along = sides[0]
        lines = [[]] if K == 1 else [[z2] for z2 in sides[1]]
        z = [np.column_stack([along, *(np.full(len(along), z2) for z2 in line)]) for line in lines]
        values = [to_numpy(log_density(constant(points[:, None, :], like=x)))[:, 0] for points in z]
        return values[0] if K == 1 else np.stack(values)

    looked_at = {label: lambda z, q=q, phi=phi: q.log_prob(phi, z)[0] for label, (q, phi) in rungs.items()}
    looked_at[None] = lambda z: model.log_joint(theta, x, z)
    means = np.concatenate([to_numpy(q.mean(phi)) for q, phi in rungs.values()] + [np.zeros((1, K))])
    ends = zip(means.min(axis=0), means.max(axis=0))
    sides = [np.linspace(low - 6, high + 6, POINTS) for low, high in ends]
    for _ in range(LOOKS):
        looks = [on(sides, log_density) for log_density in looked_at.values()]
        inside = np.any([look > look.max() - LOW for look in looks], axis=0)
        ends = [(places[inside].min(), places[inside].max()) for places in np.meshgrid(*sides)]
        steps = [side[1] - side[0] for side in sides]              # a peak may lie between two points
        sides = [
            np.linspace(low - 0.06 * (high - low) - step, high + 0.06 * (high - low) + step, POINTS)
            for (low, high), step in zip(ends, steps)
        ]
    found = {label: on(sides, log_density) for label, log_density in looked_at.items()}
    return sides, found.pop(None), found


def posterior(title, sides, log_p, rungs):
    """The posterior p(z|x) of one data case with q, and perhaps another one, over it: from `densities`, K = 1
    or 2, log_p being log p(z|x).

    K = 1: densities. K = 2, shading: the regions that hold 50, 90 and 99 % of the posterior; a line: that
    which holds 90 % of a q.
    """
    figure = Figure(figsize=(6.0, 4.4))
    ax = figure.add_subplot()
    if len(sides) == 1:
        ax.fill_between(sides[0], np.exp(log_p), color="#BBBBBB", lw=0, label="p(z|x)")
        for (label, log_q), style in zip(rungs.items(), LINES[::-2]):
            ax.plot(sides[0], np.exp(log_q), label=label, **style)
        ax.set_ylim(bottom=0)
        ax.set_xlabel("z")
        ax.set_ylabel("density, per unit of z")
        handles, labels = ax.get_legend_handles_labels()
    else:
        shading, lines = _shade(ax, *sides, log_p, rungs, LINES[::-2])
        ax.set_xlabel("$z_1$")
        ax.set_ylabel("$z_2$")
        handles, labels = [*shading, *lines.values()], ["p(z|x): 99 %", "90 %", "50 %", *lines]
    figure.suptitle(title, fontsize=10)
    ax.spines[["top", "right"]].set_visible(False)
    figure.legend(handles, labels, loc="lower center", ncols=3, frameon=False, fontsize=9)
    figure.tight_layout(rect=(0, 0.06 * -(-len(labels) // 3), 1, 1))
    return figure


LINES = [{"color": COLOURS[k], "lw": 1.6, "ls": ls} for k, ls in ((0, "--"), (2, "--"), (3, "-"))]


def _shade(ax, z1, z2, log_p, rungs, styles=LINES):
    """The regions of a posterior, and a line for each q; for a legend a list of those, and {label: line}."""
    mass = np.exp(log_p - log_p.max())
    greys = ["#DDDDDD", "#BBBBBB", "#999999"]
    ax.contourf(z1, z2, mass, levels=[*_levels(mass, (0.99, 0.9, 0.5)), 1.01], colors=greys)
    lines = {}
    for (label, log_q), style in zip(rungs.items(), styles):
        density = np.exp(log_q - log_q.max())
        line = ax.contour(z1, z2, density, _levels(density, (0.9,)), colors=[style["color"]],
                          linewidths=style["lw"], linestyles=style["ls"])
        lines[label], = line.legend_elements()[0]
    return [Patch(color=grey) for grey in greys], lines


def posterior_panels(rows):
    """True posteriors with Gaussians drawn over them, for K = 2.

    rows is a list of (title, panels), the panels from `posterior_panel`. Shading: the regions that hold
    50, 90 and 99 % of the posterior; a Gaussian: its ellipse that holds 90 %.
    """
    columns = max(len(panels) for _, panels in rows)
    figure = Figure(figsize=(3.1 * columns + 0.3, 2.9 * len(rows) + 0.4))
    axes = figure.subplots(len(rows), columns, squeeze=False)
    handles = {}
    for line, (row_title, panels) in zip(axes, rows):
        for ax, (title, z1, z2, log_p, gaussians) in zip(line, panels):
            _shade(ax, z1, z2, log_p, {})
            for i, (label, (mean, covariance)) in enumerate(gaussians.items()):
                outline = mean + np.sqrt(-2 * np.log(0.1)) * _circle() @ np.linalg.cholesky(covariance).T
                handles[label], = ax.plot(
                    *outline.T, color=COLOURS[(3, 0, 2)[i]], lw=1.5, ls=("-", "-", "--")[i]
                )
            ax.set_title(title, fontsize=9)
            ax.tick_params(labelsize=7)
            ax.xaxis.set_major_locator(MaxNLocator(4))
            ax.yaxis.set_major_locator(MaxNLocator(4))
            ax.set(xlim=(z1[0], z1[-1]), ylim=(z2[0], z2[-1]))
        line[0].set_ylabel(f"{row_title}\n$z_2$", fontsize=9)
    for ax in axes[-1]:
        ax.set_xlabel("$z_1$", fontsize=9, labelpad=1)
    figure.legend(
        handles.values(), handles.keys(), loc="upper center", ncols=len(handles), frameon=False, fontsize=9
    )
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.3 / figure.get_figheight()))
    return figure


def choice(places, values, errors, chosen, xlabel, ylabel):
    """Values over places, of which one is chosen: the lowest. errors as long as values, or None."""
    figure = Figure(figsize=(5.5, 3.4))
    ax = figure.add_subplot()
    ax.errorbar(places, values, yerr=errors, color=COLOURS[0], marker="o", ms=4, lw=1.6, capsize=3)
    ax.plot(chosen, values[list(places).index(chosen)], "o", ms=11, mfc="none", mec=COLOURS[3], mew=2,
            label=f"chosen: {xlabel} = {chosen}")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    ax.legend(frameon=False, fontsize=9)
    ax.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return figure


def _levels(mass, shares):
    """The heights above which `shares` of the mass lie, rising and distinct."""
    ordered = np.sort(mass.ravel())[::-1]
    cumulative = np.cumsum(ordered) / ordered.sum()
    levels = [ordered[min(np.searchsorted(cumulative, share), len(ordered) - 1)] for share in shares]
    for i in range(1, len(levels)):
        levels[i] = max(levels[i], levels[i - 1] * (1 + 1e-9))
    return levels


def _circle():
    angle = np.linspace(0, 2 * np.pi, 121)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _grid(figure, count, columns):
    """`count` axes in rows of `columns`; what is left of the last row stays empty."""
    rows = -(-count // columns)
    axes = figure.subplots(rows, min(columns, count), squeeze=False).ravel()
    for ax in axes[count:]:
        ax.set_axis_off()
    return axes[:count]


def _jitter(n):
    return 0.6 * (np.random.default_rng(0).random(n) - 0.5)


def _name(names, i):
    return f"$x_{{{i + 1}}}$" if names is None else plain(names[i])


def plain(name):
    """A name that comes from data, for Matplotlib to show letter by letter: no formula, no label that legends
    leave out, and no longer than a picture is wide.
    """
    text = str(name)
    text = (text if len(text) <= 30 else f"{text[:29]}…").replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text
