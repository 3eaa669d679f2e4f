"""The pictures of the report and the notebooks, each a function from arrays to a Matplotlib figure.

Figures are made without pyplot: nothing global is touched, and nothing is shown or saved here.
"""

import io
import re

from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
import numpy as np

from ..arrays.backend import constant, to_numpy

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


def learning_curves(curves, ylabel):
    """One line per model, and a dashed one where there is a held-out path: curves is a list of (title,
    values, held-out values or None); the horizontal axis is logarithmic.

    The window holds the last twentieth of every curve, and all that lies lower.
    """
    figure = Figure(figsize=(7.5, 3.8))
    ax = figure.add_subplot()
    for i, (title, values, held_out) in enumerate(curves):
        if held_out is not None:
            ax.plot(np.arange(1, len(held_out) + 1), held_out, color=COLOURS[i % 8], lw=1.2, ls="--",
                    label=f"{title}, data set aside")
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


SHARE_COLOURS = {"not Gaussian": "#56B4E9", "diagonal": "#E69F00", "amortisation": "#D55E00"}


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
        ax.text(left + 0.01 * longest, -i, f" {left:.3f}", va="center", fontsize=9, color=GREY)
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
    figure = Figure(figsize=(2.5 * columns + 0.5, 2.0 * len(rows) + 0.3))
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, (title, found) in zip(axes, rows):
        for ax in line[found.counts.shape[1] :]:
            ax.set_axis_off()
        edges = np.concatenate([[0], np.cumsum(found.expected)]) / found.expected.sum()
        for k, ax in enumerate(line[: found.counts.shape[1]]):
            low, high, level = (np.append(v, v[-1]) for v in (*found.band, found.expected))
            ax.fill_between(edges, low, high, step="post", color="#CCCCCC", lw=0)
            ax.step(edges, level, where="post", color=GREY, lw=0.8)
            ax.stairs(found.counts[:, k], edges, color=COLOURS[0], lw=1.6)
            ax.set(xlim=(0, 1), ylim=(0, 1.15 * max(found.counts[:, k].max(), high.max())))
            ax.set_title(f"$z_{{{k + 1}}}$:  p = {found.p_value[k]:.2g}", fontsize=9)
            ax.tick_params(labelsize=7)
            ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))
            ax.spines[["top", "right"]].set_visible(False)
        line[0].set_ylabel(f"{title}\ndata cases", fontsize=9)
    for ax in axes[-1]:
        ax.set_xlabel("share of the draws below $\\tilde{z}$", fontsize=8, labelpad=1)
    figure.tight_layout()
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
        mass = np.exp(log_p - log_p.max())
        levels = [*_levels(mass, (0.99, 0.9, 0.5)), 1.01]
        ax.contourf(z1, z2, mass, levels=levels, colors=["#DDDDDD", "#BBBBBB", "#999999"])
        for i, (label, log_q) in enumerate(rungs.items()):
            style = {"colors": [COLOURS[(0, 2, 3)[i]]], "linewidths": 1.5, "linestyles": ("--", "--", "-")[i]}
            density = np.exp(log_q - log_q.max())
            line = ax.contour(z1, z2, density, _levels(density, (0.9,)), **style)
            handles[label], = line.legend_elements()[0]
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
    def on(z1, z2, log_density):
        z = np.stack([g.ravel() for g in np.meshgrid(z1, z2)], axis=1)[:, None, :]
        return to_numpy(log_density(constant(z, like=x))).reshape(len(z2), len(z1))

    densities = {label: lambda z, q=q, phi=phi: q.log_prob(phi, z)[0] for label, (q, phi) in rungs.items()}
    densities[""] = lambda z: model.log_joint(theta, x, z)
    side = np.linspace(-6, 6, 241)
    looks = [on(side, side, log_density) for log_density in densities.values()]
    inside = np.any([log_p > log_p.max() - 5.5 for log_p in looks], axis=0)
    sides = []
    for places in np.meshgrid(side, side):
        low, high = places[inside].min(), places[inside].max()
        sides.append(np.linspace(low - 0.06 * (high - low) - 0.02, high + 0.06 * (high - low) + 0.02, 241))
    found = {label: on(*sides, log_density) for label, log_density in densities.items()}
    return title, *sides, found.pop(""), found


def posterior_panels(rows):
    """True posteriors with Gaussians drawn over them, for K = 2.

    rows is a list of (title, panels), the panels from `posterior_panel`. Shading: the regions that hold
    50, 90 and 99 % of the
    posterior; a Gaussian: its ellipse that holds 90 %.
    """
    columns = max(len(panels) for _, panels in rows)
    figure = Figure(figsize=(3.1 * columns + 0.3, 2.9 * len(rows) + 0.4))
    axes = figure.subplots(len(rows), columns, squeeze=False)
    handles = {}
    for line, (row_title, panels) in zip(axes, rows):
        for ax, (title, z1, z2, log_p, gaussians) in zip(line, panels):
            mass = np.exp(log_p - log_p.max())
            levels = _levels(mass, (0.99, 0.9, 0.5))
            ax.contourf(z1, z2, mass, levels=[*levels, 1.01], colors=["#DDDDDD", "#BBBBBB", "#999999"])
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
