"""The pictures of chapter 2, drawn by the package's own numbers."""

from itertools import islice
from unittest.mock import patch

import matplotlib.pyplot as plt
import numpy as np

from teachvae import datasets, linear_gaussian, moments
from teachvae.inference import em
from teachvae.likelihoods import Gaussian

BLACK, BLUE, ORANGE, GREY = "#000000", "#0072B2", "#E69F00", "#999999"


def draw_plane():
    """The running example in the plane of x."""
    W, b, psi = np.array([[1.0, 2.0]]), np.array([0.0, 1.0]), np.array([1.0, 2.0])
    x = np.array([[2.0, 3.0], [-1.0, 0.0]])
    mean, M = linear_gaussian.posterior(W, b, psi, x)
    sd = M[0, 0] ** -0.5
    figure, axes = plt.subplots(figsize=(6.5, 3.6))
    turn = np.linspace(0, 2 * np.pi, 200)
    root = np.linalg.cholesky(W.T @ W + np.diag(psi))
    for radius, style in ((1, "-"), (2, "--")):
        ring = b + radius * np.column_stack([np.cos(turn), np.sin(turn)]) @ root.T
        label = f"p(x), {radius} standard deviation{'s' * (radius - 1)}"
        axes.plot(*ring.T, style, color=GREY, linewidth=1, label=label)
    line = b + np.array([[-2.4], [2.4]]) @ W
    axes.plot(*line.T, ":", color=BLUE, linewidth=1.2, label="decoder outputs zW + b")
    for n, (x_n, m_n) in enumerate(zip(x, mean)):
        at = b + m_n @ W
        first = n == 0                                             # each kind is named once
        bar = b + (m_n + np.array([[-sd], [sd]])) @ W
        axes.plot(*bar.T, color=BLUE, linewidth=4, alpha=0.5, solid_capstyle="butt",
                  label="posterior, 1 standard deviation" if first else None)
        axes.plot(*np.array([x_n, at]).T, color=BLACK, linewidth=0.8)
        axes.plot(*at, "D", color=BLUE, markersize=6, label="output at the posterior mean" if first else None)
        axes.plot(*x_n, "o", color=BLACK, markersize=7, label="data case" if first else None)
        side = (9, "left") if first else (-9, "right")
        axes.annotate(f"case {n + 1}", x_n, xytext=(side[0], -4), ha=side[1], textcoords="offset points")
    axes.set(xlabel="column 1 of x", ylabel="column 2 of x", aspect="equal")
    axes.set(xlim=(-4.6, 4.6), ylim=(-4.3, 6.3))
    axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False, fontsize=9)
    figure.tight_layout()
    return figure


class Plain(em.Complete):
    """EM without the wider model of (2.24)."""

    def widened(self, p, stats):
        return p


WAYS = (
    ("plain EM", Plain, 1.0, GREY, "-", "o"),
    ("wider M-step (2.24)", em.Complete, 1.0, BLUE, "--", "s"),
    ("with longer steps (2.26)", em.Complete, em.LENGTHENING, ORANGE, "-.", "^"),
)


def fits(S, kind, lengthening, p, n_iter):
    """The first `Fit`s of EM on a covariance from the parameters p."""
    gaussian = Gaussian(len(S))
    problem = kind(S, gaussian, gaussian.lower_bounds(np.diag(S), 1e-6))
    with patch.object(em, "LENGTHENING", lengthening):
        for fit in islice(em.em(problem, p, tol=0.0), n_iter + 1):
            yield fit.p, fit.path[-1]


def draw_paths():
    """What is still to be gained of the nlml after t iterations."""
    x = datasets.linear_gaussian(n_cases=300, n_visible=20, n_latent=3).x
    S = moments.moments(x).covariance
    W, psi = em.start(S, 3, Gaussian(20), np.random.default_rng(0).standard_normal((20, 3)))
    p = em.Parameters(W, np.zeros(20), psi)
    least = min(nlml for _, nlml in fits(S, em.Complete, em.LENGTHENING, p, 500))
    figure, axes = plt.subplots(figsize=(6.5, 3))
    for label, kind, lengthening, colour, style, marker in WAYS:
        left = np.array([nlml for _, nlml in fits(S, kind, lengthening, p, 300)]) - least
        end = 1 + int(np.argmax(np.append(left[1:] < 1e-11, True)))  # below that is rounding
        shown = np.arange(1, end)
        axes.loglog(shown, left[shown], style, color=colour, label=label,
                    marker=marker, markevery=0.12, markersize=5)
    axes.set(xlabel="iterations", ylabel="nlml above its minimum\n(nats per data case)")
    axes.legend(frameon=False)
    figure.tight_layout()
    return figure


FINE = np.array([[1, 0.48, 0.4], [0.48, 1, 0.3], [0.4, 0.3, 1]])
HEYWOOD = np.array([[1, 0.8, 0.8], [0.8, 1, 0.5], [0.8, 0.5, 1]])


def profile(R, psi_1):
    """The least nlml of one factor for three columns whose first noise variance is psi_1."""
    W, psi = np.array([[0.9, 0.7, 0.7]]), np.array([psi_1, 0.4, 0.4])
    for _ in range(20000):
        stats, nlml = linear_gaussian.e_step_moments(W, psi, R)
        new, _, square = linear_gaussian.m_step(stats)
        new, _ = linear_gaussian.expanded(new, np.zeros(3), stats.z, stats.zz)
        new_psi = np.array([psi_1, *square[1:]])
        if max(np.abs(new - W).max(), np.abs(new_psi - psi).max()) < 1e-9:
            break
        W, psi = new, new_psi
    return nlml


def draw_heywood():
    """The nlml over one noise variance, and the way of EM along it."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.5, 3.1))
    grid = np.geomspace(1e-4, 0.95, 45)
    both = (HEYWOOD, "0.8, 0.8, 0.5", ORANGE, "-"), (FINE, "0.48, 0.4, 0.3", BLUE, "--")
    for R, label, colour, style in both:
        values = np.array([profile(R, psi_1) for psi_1 in grid])
        left.semilogx(grid, values - values.min(), style, color=colour, label=label)
        lowest = np.argmin(values)
        left.plot(grid[lowest], 0, "o", color=colour, markersize=6)
    left.set(xlabel="noise variance of column 1", ylabel="least nlml above its minimum\n(nats per data case)")
    left.set_ylim(-0.005, 0.1)
    left.legend(title="correlations", frameon=False)
    p = em.Parameters(np.array([[0.9, 0.7, 0.7]]), np.zeros(3), np.array([0.2, 0.5, 0.5]))
    for label, kind, lengthening, colour, style, _ in WAYS[::2]:
        psi_1 = [p.psi[0] for p, _ in fits(HEYWOOD, kind, lengthening, p, 3000)]
        label = label.split(" (")[0].removeprefix("with ")
        right.loglog(np.arange(1, len(psi_1) + 1), psi_1, style, color=colour, label=label)
    right.axhline(1e-6, color=BLACK, linewidth=0.8, linestyle=":")
    right.annotate("floor", (1.2, 1.3e-6), fontsize=9)
    right.set(xlabel="iterations + 1", ylabel="noise variance of column 1")
    right.legend(loc="lower left", bbox_to_anchor=(0.0, 0.14), frameon=False, fontsize=9)
    figure.tight_layout()
    return figure
