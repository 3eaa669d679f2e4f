"""The pictures of chapter 11."""

from matplotlib.figure import Figure
import numpy as np

from teachvae.posteriors import DiagonalGaussian, FullGaussian, coupling_flow
from teachvae.posteriors.planar import SHIFT

BLUE, ORANGE, BLACK = "#0072B2", "#D55E00", "#000000"


def draw_families():
    """Densities of the diagonal family, the full one, and a flow with the same m and L."""
    full = FullGaussian(2)
    phi = np.array([[0.0, 0.0, np.log(1.5), 0.55, np.log(0.75)]])
    m, L = full.unpack(phi)
    flow = coupling_flow(2)
    bent = flow.from_full(phi)
    bent[0, 5:11] = [-2.0, 0.0, 0.0, 0.0, 2.0, 0.0]               # of the first coupling, unit by unit
    diagonal = DiagonalGaussian(2)
    narrow = np.concatenate([m, np.log(np.sqrt(np.sum(L**2, axis=2)))], axis=1)
    panels = [("diagonal", diagonal, narrow), ("full", full, phi), ("flow", flow, bent)]
    axis = np.linspace(-4.2, 4.2, 91)
    z = np.stack([a.ravel() for a in np.meshgrid(axis, axis)], axis=1)[:, None, :]
    fig = Figure(figsize=(6.5, 2.5), layout="constrained")
    for panel, (name, q, numbers) in zip(fig.subplots(1, 3, sharey=True), panels):
        log_q = q.log_prob(numbers, z)[0].reshape(91, 91)
        panel.contour(
            axis, axis, np.exp(log_q - log_q.max()), levels=[0.05, 0.2, 0.5, 0.8],
            colors=BLUE, linewidths=[0.7, 1.0, 1.4, 1.8],
        )
        panel.set_title(name, fontsize=9)
        panel.set_xlabel(r"$z_1$")
        panel.set_aspect("equal")
        panel.set_xticks([-4, 0, 4])
        panel.set_yticks([-4, 0, 4])
        if name == "diagonal":
            panel.set_ylabel(r"$z_2$")
    return fig


def draw_planar():
    """What a planar layer does along w, and how v is pushed."""
    fig = Figure(figsize=(6.5, 2.9), layout="constrained")
    left, right = fig.subplots(1, 2)
    a = np.linspace(-3, 3, 121)
    for x, style, color in ((0.73, "-", BLUE), (-0.7, "--", BLACK), (-1.6, ":", ORANGE)):
        left.plot(a, a + x * np.tanh(a), style, color=color, label=f"x = {x:g}".replace("-", "−"))
    left.set_xlabel("a, before the layer")
    left.set_ylabel(r"$a + x\,\tanh a$, after it")
    left.legend(frameon=False, fontsize=8)
    v = np.linspace(-4, 3, 121)
    right.plot(v, np.log1p(np.exp(v + SHIFT)) - 1, "-", color=BLUE, label=r"$r w^\top = g(x) - 1$")
    right.plot(v, v, "--", color=BLACK, linewidth=1, label=r"$r = v$, not pushed")
    right.axhline(-1, linestyle=":", color=ORANGE, label=r"$-1$, where points meet")
    right.set_xlabel(r"$x = v w^\top$, asked for")
    right.set_ylabel(r"$r w^\top$")
    right.legend(frameon=False, fontsize=8)
    return fig
