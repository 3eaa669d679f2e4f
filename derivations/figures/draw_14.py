"""The pictures of chapter 14."""

from matplotlib.figure import Figure
import numpy as np

from teachvae import bound
from teachvae.arrays import tree
from teachvae.gradcheck.differences import Probe
from teachvae.inference import linear_gaussian
from teachvae.model import Model
from teachvae.networks.layers import ReLU
from teachvae.posteriors import DiagonalGaussian
from worked import chapter_14, example

BLUE, ORANGE, GREY = "#0b5fa5", "#d55e00", "#555555"


def slope_errors(dtype, steps):
    """Q_1 of the bent example, and |n(h) − ∂Q_1/∂m_1| for every step, computed in this dtype."""
    model, theta = example.bent()
    Q, cache = bound.forward(model, theta, example.phi, example.x, example.eta)
    exact = bound.backward(model, theta, cache, np.array([1.0, 0.0]))[0][0, 0]
    theta, phi, x, eta = tree.map(
        lambda leaf: np.asarray(leaf, dtype=dtype), [theta, example.phi, example.x, example.eta]
    )
    flat = phi.ravel().copy()

    def f(p):
        return float(bound.forward(model, theta, p.reshape(2, 2), x, eta)[0][0])

    probes = (Probe(f, flat, flat, f(flat), h, 0.0) for h in steps)
    return Q[0], [abs(0.5 * sum(probe.slopes(0)) - exact) for probe in probes]


def draw_steps():
    """The error of the central difference against the step, in both precisions, with truncation and rounding.
    """
    steps = 10.0 ** np.arange(-12, 0.01, 0.125)
    figure = Figure(figsize=(6.5, 3.3))
    axes = figure.subplots()
    kinds = ("float64", BLUE, "o"), ("float32", ORANGE, "s")
    for dtype, colour, marker in kinds:
        value, errors = slope_errors(dtype, steps)
        axes.loglog(steps, errors, marker, color=colour, ms=3, label=f"measured in {dtype}")
        rho = np.finfo(dtype).eps * value
        axes.loglog(steps, rho / steps, "--", color=colour, lw=1)
        if dtype == "float64":
            third = 6 * slope_errors(dtype, [1e-2])[1][0] / 1e-4
            axes.loglog(steps, third * steps**2 / 6, color=GREY, lw=1, label="truncation")
        best = (3 * rho / third) ** (1 / 3)
        axes.loglog([best], [1.5 * rho / best], "*", color=colour, mec="black", ms=12)
    axes.plot([], [], "--", color=GREY, lw=1, label="rounding, ρ/h")
    axes.plot([], [], "*", color="white", mec="black", ms=12, label="the best step, and its bound")
    axes.set(xlabel="step h", ylabel="error of the slope", ylim=(1e-14, 30), xlim=(1e-12, 1))
    axes.legend(frameon=False, fontsize=8, loc="lower left")
    figure.tight_layout()
    return figure


def draw_kinks():
    """The difference of the one-sided slopes against the step, of a smooth function and at a corner."""
    steps = 10.0 ** np.arange(-5, 0.01, 0.02)

    def gaps(f, point, i):
        probes = (chapter_14.probe(f, point, h) for h in steps)
        return np.array([abs(np.subtract(*probe.slopes(i))) for probe in probes])

    def relu(p):
        return float(ReLU().forward({}, p)[0][0])

    figure = Figure(figsize=(6.5, 2.9))
    axes = figure.subplots()
    axes.loglog(steps, gaps(chapter_14.kl, chapter_14.CASE_2, 1), color=BLUE, label="the KL: a bend")
    corner = gaps(relu, [0.003], 0)
    seen = corner > 1e-9
    axes.loglog(steps[seen], corner[seen], "--", color=ORANGE, lw=2, label="a ReLU at 0.003: a kink")
    axes.axvline(0.003, color=GREY, ls=":", lw=1)
    axes.set(xlabel="step h", ylabel="right − left slope", ylim=(1e-6, 5))
    axes.legend(frameon=False)
    figure.tight_layout()
    return figure


def draw_below():
    """Q and the faulty Q of case 1 against s, with m at the posterior's mean, and nlml."""
    sound, theta = example.linear()
    widths = np.linspace(0.2, 1.0, 200)
    eta, weights = chapter_14.sigma_points(1)
    figure = Figure(figsize=(6.5, 2.9))
    axes = figure.subplots()
    faulty = chapter_14.VarianceForDeviation(1)
    families = (DiagonalGaussian(1), "Q", "-", BLUE), (faulty, "faulty Q", "--", ORANGE)
    x = np.repeat(example.x[:1], len(widths), axis=0)
    phi = np.stack([np.ones_like(widths), np.log(widths)], axis=1)
    for family, name, style, colour in families:
        model = Model(sound.decoder, sound.likelihood, 1, family)
        Q, _ = bound.forward(model, theta, phi, x, eta, weights=weights)
        axes.plot(widths, Q, style, color=colour, lw=2, label=name)
    nlml = linear_gaussian.nlml(example.W, example.b, example.psi, example.x)[0]
    axes.axhline(nlml, color=GREY, ls=":", label="nlml")
    axes.set(xlabel="standard deviation s of q", ylabel="nats")
    axes.legend(frameon=False)
    figure.tight_layout()
    return figure
