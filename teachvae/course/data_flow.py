"""The one picture of the course: a data case goes through the bound, x → φ → z → f → Q, and back.

    data_flow(vae.trace(x), shape=(8, 8))

Everything in it is read off a `Trace`, so that it shows what training does.
"""

from matplotlib.figure import Figure
from matplotlib.patches import Ellipse, FancyArrowPatch
import numpy as np

from ..arrays.backend import to_numpy
from ..plots import COLOURS, GREY

FORWARD, BACKWARD = COLOURS[0], COLOURS[3]


def data_flow(trace, case=0, shape=None):
    """The picture of one data case of a `Trace`: what every station holds, and what came back to it.

    case   which data case of the trace
    shape  (height, width) where x is an image; else its D numbers are drawn as bars

    Solid arrows are the forward, dashed ones the backward with the root mean square of the gradient there, in
    nats per unit. Shows the first two latent variables. Raises ValueError for a case that the trace has not.
    """
    n_cases = len(to_numpy(trace["x"]))
    if not 0 <= case < n_cases:
        raise ValueError(f"the trace has {n_cases} data cases, got case={case}")
    x, f = to_numpy(trace["x"])[case], to_numpy(trace["f"])[0, case]
    figure = Figure(figsize=(7, 3.2))
    axes = [figure.add_axes([left, 0.34, 0.17, 0.37]) for left in (0.03, 0.29, 0.55)]
    _data(axes[0], x, shape)
    _latent(axes[1], trace, case)
    _data(axes[2], f[: x.size], shape)
    q = float(to_numpy(trace["Q"])[case])
    figure.text(0.91, 0.525, f"{q:.4g}\nnats", ha="center", va="center", fontsize=13)
    stations = [0.115, 0.375, 0.635, 0.91]
    names = ["$x_n$", r"$q(z|\phi_n)$, and $z_{sn}$", "$f(z_{1n})$", "$Q_n$"]
    roads = [r"$\phi_n = g_v(x_n)$" if "recognition" in trace.before else "", "$f_w$", r"$-\log p(x|z) + KL$"]
    for place, name in zip(stations, names):
        figure.text(place, 0.75, name, ha="center", fontsize=11)
    for left, right, road, back in zip(stations, stations[1:], roads, _gradients(trace)):
        _arrow(figure, left + 0.06, right - 0.06, 0.87, road, FORWARD, "-")
        if back:
            _arrow(figure, right - 0.06, left + 0.06, 0.17, back, BACKWARD, "--")
    return figure


def _gradients(trace):
    """Words for the backward's three arrows: through the network, the decoder and the densities."""
    sizes = {}
    for name in ("phi", "z", "f"):
        sizes[name] = f"{np.sqrt(np.mean(to_numpy(trace.gradient(name)) ** 2)):.2g}"
    first = rf"to $v$: $\partial Q/\partial\phi$ {sizes['phi']}" if "recognition" in trace.before else ""
    return first, rf"$\partial Q/\partial z$ {sizes['z']}", rf"$\partial Q/\partial f$ {sizes['f']}"


def _data(ax, values, shape):
    if shape is None:
        ax.bar(np.arange(values.size), values, color=GREY)
        ax.spines[["top", "right"]].set_visible(False)
    else:
        ax.imshow(values.reshape(shape), cmap="gray_r")
    ax.set_xticks([])
    ax.set_yticks([])


def _latent(ax, trace, case):
    """q's ellipse and the samples, in the plane of the first two latent variables, with the prior behind."""
    m, s = (to_numpy(trace[name])[case] for name in ("m", "s"))
    z = to_numpy(trace["z"])[:, case]
    flat = np.zeros(1)
    m, s = np.concatenate([m, flat])[:2], np.concatenate([s, flat])[:2]
    z = np.concatenate([z, np.zeros((len(z), 1))], axis=1)[:, :2]
    for radius in (1, 2):
        ax.add_patch(Ellipse((0, 0), 2 * radius, 2 * radius, fill=False, ec="#BBBBBB", lw=0.8))
    ax.add_patch(Ellipse(m, 4 * s[0], 4 * s[1], fc=FORWARD, alpha=0.25, ec=FORWARD))
    ax.plot(*z.T, "k.", ms=4)
    ax.set(xlim=(-3, 3), ylim=(-3, 3), xticks=[], yticks=[], aspect="equal")


def _arrow(figure, start, end, height, words, colour, style):
    figure.add_artist(FancyArrowPatch(
        (start, height), (end, height), transform=figure.transFigure, arrowstyle="-|>", mutation_scale=14,
        color=colour, lw=1.6, ls=style,
    ))
    above = 0.035 if style == "-" else -0.09
    figure.text((start + end) / 2, height + above, words, ha="center", fontsize=9, color=colour)
