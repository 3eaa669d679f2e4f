"""The pictures of chapter 16."""

import math

from matplotlib.figure import Figure
import numpy as np

from teachvae.evaluation.iwae import iwae
from teachvae.inference import linear_gaussian
from teachvae.inference import simple_structure as simple
from teachvae.inference.expectations import log_weight
from teachvae.likelihoods import Gaussian
from teachvae.model import Model
from teachvae.networks.layers import Linear
from teachvae.posteriors.nodes import gauss_hermite

X, W, B, PSI = np.array([[2.0, 3.0]]), np.array([[1.0, 2.0]]), np.array([0.0, 1.0]), np.array([1.0, 2.0])
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#888888"
LOADINGS = np.array([[0.7, 0.4], [0.8, 0.35], [0.6, 0.3], [0.7, -0.4], [0.75, -0.3], [0.6, -0.45]])


def draw_bounds():
    """L_k of case 1 for the running example's q, and for a q that is better for Q and too narrow."""
    model = Model(Linear(1, 2), Gaussian(2), 1)
    theta = {"decoder": {"W": W, "b": B}, "likelihood": {"log_psi": np.log(PSI)}}
    nlml = linear_gaussian.nlml(W, B, PSI, X)[0]
    eta, weights = gauss_hermite(1, 96)
    sizes = np.array([1, 2, 5, 10, 20, 50])
    figure = Figure(figsize=(6.5, 3.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    kinds = ((0.5, 1.0, BLUE, "o", "m = 1/2, s = 1"), (1.0, 0.3, ORANGE, "s", "m = 1, s = 0.3"))
    for m, s, colour, marker, name in kinds:
        phi = np.array([[m, math.log(s)]])
        found = iwae(model, theta, phi, X, np.random.default_rng(0), sizes=tuple(sizes), n_samples=1_000_000)
        L, error = found.values[:, 0], found.standard_error[:, 0]
        left.plot(sizes, L, marker, color=colour, ls="-", ms=4, label=name)
        right.errorbar(sizes, L - nlml, 2 * error, color=colour, marker=marker, ls="-", ms=4, lw=1)
        if s == 1:
            shares = np.exp(log_weight(model, theta, phi, X, eta)[:, 0] + nlml)
            v = weights @ shares**2 - 1                            # (12.4)
            right.plot(sizes, v / (2 * sizes), "--", color="black", lw=1, label="v / 2k")
    left.axhline(nlml, color=GREY, ls=":", label="nlml")
    left.set(xscale="log", xlabel="k, samples", ylabel="$L_k$, nats")
    right.set(xscale="log", yscale="log", xlabel="k, samples", ylabel="$L_k$ − nlml, nats", ylim=(4e-3, 3))
    left.legend(frameon=False, fontsize=8)
    right.legend(frameon=False, fontsize=8)
    return figure


def draw_varimax():
    """V of six variables' loadings against the angle, and their plane with the old and the new axes."""
    rows = LOADINGS / np.linalg.norm(LOADINGS, axis=1, keepdims=True)
    angles = np.linspace(-45, 135, 361)
    turns = (np.array([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]]) for a in np.radians(angles))
    values = [simple.criterion(rows @ turn) for turn in turns]
    T = simple.varimax(LOADINGS)
    best = math.degrees(math.atan2(T[1, 0], T[0, 0]))
    figure = Figure(figsize=(6.5, 3.0), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    left.plot(angles, values, color=BLUE)
    left.plot([best], [simple.criterion(rows @ T)], "D", color=ORANGE, label=f"best turn, {best:.0f}°")
    left.set(xlabel="angle, degrees", ylabel="V", xticks=[-45, 0, 45, 90, 135], ylim=(0, 0.55))
    left.legend(frameon=False, fontsize=8, loc="upper right")
    for axis in np.eye(2):
        right.plot(*zip(-0.25 * axis, 1.05 * axis), color=GREY, lw=1)
    for axis, sign in zip(T.T, np.sign((LOADINGS @ T).sum(axis=0))):
        arrow = {"arrowstyle": "->", "color": ORANGE, "lw": 1.5}
        right.annotate("", 1.05 * sign * axis, (0, 0), arrowprops=arrow)
    right.plot(*LOADINGS[:3].T, "o", color=BLUE)
    right.plot(*LOADINGS[3:].T, "^", color=BLUE)
    right.set(xlabel="loading on factor 1", ylabel="loading on factor 2", xlim=(-0.3, 1.1), ylim=(-0.9, 1.1))
    right.set_aspect("equal")
    return figure
