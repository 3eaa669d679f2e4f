"""The pictures of chapter 8."""

from matplotlib.figure import Figure
import numpy as np
from scipy.stats import norm

from teachvae.evaluation import calibration, gaps
from teachvae.inference import em, linear_gaussian
from teachvae.likelihoods import Gaussian
from teachvae.model import Model
from teachvae.networks.layers import Linear, Sequential, Tanh
from teachvae.posteriors import DiagonalGaussian, FullGaussian

X, B, PSI = np.array([[2.0, 3.0], [-1.0, 0.0]]), np.array([0.0, 1.0]), np.array([1.0, 2.0])
PHI = np.array([[0.5, 0.0], [0.0, np.log(0.5)]])                   # the running example's m and log s
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#888888"


def draw_ledger():
    """The posterior of the bent example's case 1, the best q and the q in use; the shares of both cases."""
    model = Model(Sequential([Tanh(), Linear(1, 2)]), Gaussian(2), 1, DiagonalGaussian(1))
    decoder = [{}, {"W": np.array([[1.0, 2.0]]), "b": B}]
    theta = {"decoder": decoder, "likelihood": {"log_psi": np.log(PSI)}}
    g = gaps.gaps(model, theta, PHI, X, np.random.default_rng(0))
    z = np.linspace(-2.5, 4.0, 400)[:, None, None] * np.ones((1, 2, 1))
    log_p = model.log_joint(theta, X, z)[:, 0]
    figure = Figure(figsize=(6.5, 2.9), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.3, 1))
    z_axis = z[:, 0, 0]
    left.plot(z_axis, np.exp(log_p + g.nlml[0]), color="black", label="posterior of case 1")
    kinds = ((g.phi_optimal, "best Gaussian", "--", BLUE), (PHI, "q in use", ":", ORANGE))
    for phi, name, style, colour in kinds:
        log_q, _ = model.posterior.log_prob(phi, z)
        left.plot(z_axis, np.exp(log_q[:, 0]), style, color=colour, label=name, lw=2)
    left.set(xlabel="z", ylabel="density", ylim=(0, 0.98))
    left.legend(frameon=False, fontsize=8, loc="upper left")
    start = np.zeros(2)
    bars = (("not Gaussian", g.not_gaussian, BLUE, "////"), ("amortisation", g.amortisation, ORANGE, ""))
    for name, share, colour, hatch in bars:
        look = {"color": colour, "hatch": hatch, "edgecolor": "white", "height": 0.5}
        right.barh([1, 0], share, left=start, label=name, **look)
        start = start + share
    right.set(xlabel="nats above nlml", yticks=[1, 0], yticklabels=["case 1", "case 2"], ylim=(-0.5, 1.9))
    right.legend(frameon=False, fontsize=8, loc="upper right")
    return figure


def draw_collapse():
    """Eigenvalues of a covariance over the noise, and what the loadings of each unit explain."""
    values = np.array([5.0, 3.0, 1.5, 0.6, 0.2])
    figure = Figure(figsize=(6.5, 2.8), layout="constrained")
    for axes, sigma2, title in zip(figure.subplots(1, 2, sharey=True), (1.0, 2.0), ("β = 1", "β = 2")):
        W, _ = em.start(np.diag(values), 5, Gaussian(5, sigma2), None)
        explained = np.sum(W * W, axis=1)
        places = np.arange(1, 6)
        axes.bar(places, values, color="white", edgecolor=GREY, label="eigenvalue")
        axes.bar(places, explained, bottom=np.minimum(values, sigma2), color=BLUE, hatch="////",
                 edgecolor="white", label="explained by the unit")
        axes.axhline(sigma2, color=ORANGE, ls="--", label="βσ², with σ² = 1")
        active = int(np.sum(explained > 0))
        axes.set(xlabel="unit", title=f"{title}: {active} units are active", xticks=places)
    figure.axes[0].set_ylabel("variance")
    figure.axes[1].legend(frameon=False, fontsize=8)
    return figure


def draw_ranks():
    """Ranks of the first of two latent variables under three q, of 20 000 simulated data cases."""
    N, L, rng = 20_000, 99, np.random.default_rng(0)
    W = np.array([[1.0, 2.0], [1.0, 2.0]]) / np.sqrt(2)
    z = rng.standard_normal((N, 2))
    x = z @ W + B + np.sqrt(PSI) * rng.standard_normal((N, 2))
    mean, M = linear_gaussian.posterior(W, B, PSI, x)
    shift = 0.25 * np.sqrt(np.linalg.inv(M)[0, 0])
    cases = (
        (DiagonalGaussian(2), mean, "best diagonal q", 0.8, 0.0),
        (FullGaussian(2), mean, "the posterior", 1.0, 0.0),
        (FullGaussian(2), mean + shift, "too high by σ/4", 1.0, 0.25),
    )
    figure = Figure(figsize=(6.5, 2.6), layout="constrained")
    for axes, (family, centre, title, rho, delta) in zip(figure.subplots(1, 3, sharey=True), cases):
        draws, _ = family.sample(family.closest(centre, M), rng.standard_normal((L, N, 2)))
        found = calibration.calibration(calibration.ranks(z, draws), L)
        edges = np.linspace(0, 1, len(found.expected) + 1)
        axes.fill_between([0, 1], *found.band[:, 0], color=GREY, alpha=0.4, lw=0, label="99 % of flat ones")
        axes.stairs(found.counts[:, 0], edges, color=BLUE, label="ranks")
        t = norm.ppf(np.linspace(0.004, 0.996, 200))
        density = rho * norm.pdf(rho * (t + delta)) / norm.pdf(t)  # (10.15)
        axes.plot(norm.cdf(t), found.expected[0] * density, "--", color=ORANGE, lw=1.2, label="its law")
        axes.set(xlabel="rank / L", title=title, xlim=(0, 1), ylim=(0, 2200))
    figure.axes[0].set_ylabel("data cases in a bin")
    figure.axes[1].legend(frameon=False, fontsize=8)
    return figure
