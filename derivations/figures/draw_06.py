"""The pictures of chapter 6."""

from matplotlib.figure import Figure
import numpy as np

from teachvae.inference import linear_gaussian
from teachvae.posteriors import DiagonalGaussian
from worked import example

BLUE, ORANGE, GREY = "#0b5fa5", "#d55e00", "#555555"
TURNED = np.ones((2, 1)) @ example.W / np.sqrt(2)


def draw_ladder():
    """The mean nlml against the size w of W, and the bounds that two E-steps make."""
    q, sizes = DiagonalGaussian(1), np.linspace(0.05, 2.1, 200)

    def nlml(w):
        return linear_gaussian.nlml(w * example.W, example.b, example.psi, example.x).mean()

    def touching(w):
        phi = q.closest(*linear_gaussian.posterior(w * example.W, example.b, example.psi, example.x))
        return lambda v: linear_gaussian.bound(
            v * example.W, example.b, example.psi, phi, q, example.x
        ).mean()

    figure = Figure(figsize=(6.5, 3.2))
    axes = figure.subplots()
    axes.plot(sizes, [nlml(w) for w in sizes], color=GREY, lw=2.5, label="nlml")
    w = 0.3
    for name, style, colour in (("first", "--", BLUE), ("second", "-.", ORANGE)):
        Q = touching(w)
        curve = np.array([Q(v) for v in sizes])
        a, b, _ = np.polyfit(sizes, curve, 2)                      # Q is a parabola in w
        lowest = -b / (2 * a)
        axes.plot(sizes, curve, style, color=colour, label=f"Q after the {name} E-step")
        axes.plot([w], [nlml(w)], "o", color=colour)
        axes.plot([lowest], [Q(lowest)], "v", color=colour)
        axes.annotate("", (lowest, nlml(lowest)), (lowest, Q(lowest)), arrowprops={"arrowstyle": "->"})
        w = lowest
    axes.set(xlabel="size w of W = w · (1, 2)", ylabel="mean over the data, nats", ylim=(3.4, 4.3))
    small = {"fontsize": 8, "title_fontsize": 8}
    axes.legend(frameon=False, loc="upper right", title="dot: Q touches\ntriangle: M-step", **small)
    figure.tight_layout()
    return figure


def ellipse(covariance):
    """The points one standard deviation away from 0, (2, 200)."""
    turn = np.linspace(0, 2 * np.pi, 200)
    return np.linalg.cholesky(covariance) @ np.stack([np.cos(turn), np.sin(turn)])


def draw_rotation():
    """The exact posterior and the best mean-field q before and after the rotation; the gap against the angle.
    """
    q = DiagonalGaussian(2)
    canonical = linear_gaussian.canonical(TURNED, example.psi)
    figure = Figure(figsize=(6.5, 2.7))
    panels = figure.subplots(1, 3, width_ratios=(1, 1, 1.4))
    for axes, W, title in zip(panels, (TURNED, canonical), ("as it was told", "rotated")):
        M = linear_gaussian.precision(W, example.psi)
        axes.plot(*ellipse(np.linalg.inv(M)), color=GREY, lw=2.5, label="posterior")
        phi = q.closest(np.zeros((1, 2)), M)
        axes.plot(*ellipse(q.covariance(phi)[0]), "--", color=ORANGE, lw=2, label="mean field")
        axes.set(title=title, xlabel="$z_1 - m_1$", xlim=(-1.15, 1.15), ylim=(-1.15, 1.55))
        axes.set_aspect("equal")
    panels[0].set_ylabel("$z_2 - m_2$")
    panels[0].legend(frameon=False, loc="upper center", fontsize=8)
    angles = np.linspace(0, np.pi / 2, 121)
    gaps = []
    for a in angles:
        turn = np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])
        gaps.append(linear_gaussian.mean_field_gap(turn @ canonical, example.psi))
    panels[2].plot(np.degrees(angles), gaps, color=BLUE)
    panels[2].plot([0, 45], [gaps[0], gaps[60]], "o", color=ORANGE)
    panels[2].set(title="gap, nats", xlabel="angle of the axes, degrees", xticks=[0, 45, 90])
    figure.tight_layout()
    return figure
