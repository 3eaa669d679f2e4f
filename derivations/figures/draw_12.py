"""The picture of chapter 12: case 1 of the bent running example, values and gradients along the bound."""

import matplotlib
from matplotlib.figure import Figure
import numpy as np

from teachvae.course.trace import Trace
from teachvae.likelihoods import Gaussian
from teachvae.model import Model
from teachvae.networks.layers import Linear, Sequential, Tanh
from teachvae.posteriors import DiagonalGaussian

MODEL = Model(Sequential([Tanh(), Linear(1, 2)]), Gaussian(2), 1, DiagonalGaussian(1))
THETA = {"decoder": [{}, {"W": np.array([[1.0, 2.0]]), "b": np.array([0.0, 1.0])}],
         "likelihood": {"log_psi": np.log([1.0, 2.0])}}
DOWN, UP = "#0072B2", "#D55E00"


def texts(values):
    """An array as text, a line for each number; no −0."""
    return "\n".join(f"{v + 0:.3f}".replace("-", "−") for v in np.round(np.ravel(values), 3))


def draw_trace():
    """Boxes from φ to Q; in each the value above, the gradient below."""
    trace = Trace(MODEL, THETA, np.array([[0.5, 0.0]]), np.array([[2.0, 3.0]]), np.array([[[1.0]], [[-1.0]]]),
                  dQ=np.ones(1))
    figure = Figure(figsize=(6.5, 3.2), layout="constrained")
    ax = figure.subplots()
    ax.set(xlim=(-0.6, 5.65), ylim=(-0.05, 3.0))
    ax.axis("off")
    rows = {1: 2.1, 2: 0.75}                                       # where the samples are
    middle = sum(rows.values()) / 2

    def box(x, y, title, value, gradient):
        ax.text(x, y + 0.43, title, ha="center", va="bottom", fontsize=9)
        middle = {"ha": "center", "va": "center", "fontsize": 7.5, "linespacing": 1.05}
        ax.text(x, y + 0.2, texts(value), color=DOWN, **middle)
        ax.text(x, y - 0.2, texts(gradient), color=UP, style="italic", **middle)
        ax.plot([x - 0.33, x + 0.33], [y, y], color="#BBBBBB", lw=0.6)
        ax.add_patch(matplotlib.patches.FancyBboxPatch(
            (x - 0.33, y - 0.4), 0.66, 0.8, boxstyle="round,pad=0.02", fill=False, ec="#444444", lw=0.8))

    def arrows(x0, y0, x1, y1):
        for colour, style, off, ends in ((DOWN, "-", 0.05, ((x0, y0), (x1, y1))),
                                         (UP, "--", -0.05, ((x1, y1), (x0, y0)))):
            (a, b), (c, d) = ends
            ax.annotate("", (c, d + off), (a, b + off), arrowprops={
                "arrowstyle": "->", "color": colour, "ls": style, "lw": 1.1, "shrinkA": 0, "shrinkB": 0})

    box(-0.2, middle, "$\\phi$: m, log s", trace["phi"], trace["dphi"])
    box(5.2, middle, "Q", trace["Q"], trace["dQ"])
    names = (("z", "z", "dz"), ("decoder[0].y", "tanh z", "decoder[0].dy"), ("f", "f", "df"),
             ("log_p", "log p", "dlog_p"))
    for s, y in rows.items():
        for i, (name, title, gradient) in enumerate(names):
            x = 1.0 + 1.05 * i
            values, slopes = (np.reshape(trace[n], (2, -1))[s - 1] for n in (name, gradient))
            box(x, y, title, values, slopes)
            if i:
                arrows(x - 0.7, y, x - 0.35, y)
        arrows(0.15, middle + (0.1 if s == 1 else -0.1), 0.65, y)
        arrows(4.52, y, 4.85, middle + (0.1 if s == 1 else -0.1))
    ax.text(2.6, middle, f"KL = {float(trace['kl'][0]):.3f}, sends to $\\phi$: "
            f"{texts(trace['dphi_kl'][0]).replace(chr(10), ', ')}", ha="center", va="center", fontsize=8)
    ax.text(-0.55, 2.9, "value", color=DOWN, fontsize=9)
    ax.text(-0.55, 2.7, "gradient of Q", color=UP, style="italic", fontsize=9)
    return figure
