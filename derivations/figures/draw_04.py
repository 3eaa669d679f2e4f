"""The pictures of chapter 4."""

from matplotlib.figure import Figure
import numpy as np

from teachvae import datasets, nlml
from teachvae.inference import e_step
from teachvae.likelihoods import Gaussian
from teachvae.model import Model
from teachvae.networks.layers import Linear, Sequential, Tanh
from teachvae.posteriors import DiagonalGaussian

BLUE, ORANGE, BLACK, GREY = "#0072b2", "#d55e00", "#000000", "#999999"
W, B, PSI = np.array([[1.0, 2.0]]), np.array([0.0, 1.0]), np.array([1.0, 2.0])
LAYER = {"W": W, "b": B}


def line():
    """The linear model of the running example, and its parameters."""
    return Model(Linear(1, 2), Gaussian(2), 1), {"decoder": LAYER, "likelihood": {"log_psi": np.log(PSI)}}


def bent():
    """The bent one."""
    model = Model(Sequential((Tanh(), Linear(1, 2))), Gaussian(2), 1)
    return model, {"decoder": [{}, LAYER], "likelihood": {"log_psi": np.log(PSI)}}


def draw_integrand():
    """p(x, z) of both cases against z: of the linear model a normal curve, of the bent one not."""
    figure = Figure(figsize=(6.5, 2.8), layout="constrained")
    z, cases = np.linspace(-4, 4, 401), np.array([[2.0, 3.0], [-1.0, 0.0]])
    models = line(), bent()
    for axes, (model, theta), name in zip(figure.subplots(1, 2, sharey=True), models, ("linear", "bent")):
        log_joint = model.log_joint(theta, cases, z[:, None, None])
        at = e_step.at_a_point(model, cases[:, :1])
        found = e_step.from_starts(at[0], theta, [e_step.prior_phi(at[0], cases)], cases, *at[1:])
        for n, (colour, label) in enumerate(((BLUE, "case 1"), (ORANGE, "case 2"))):
            mode = found.phi[n, 0]
            beside = mode + np.array([0.01, 0, -0.01])[:, None, None]
            up, top, down = model.log_joint(theta, cases, beside)[:, n]
            H = (2 * top - up - down) / 1e-4
            axes.plot(z, np.exp(log_joint[:, n]), color=colour, label=label)
            axes.plot(z, np.exp(top - H * (z - mode) ** 2 / 2), color=BLACK, linestyle="--", linewidth=1,
                      label="normal curve at the peak" if n else None)
        axes.set(title=f"{name} decoder", xlabel="$z$", xlim=(-4, 4), ylim=(-0.002, 0.05))
    figure.axes[0].set_ylabel("$p(x_n, z)$")
    figure.axes[0].legend(frameon=False, fontsize=8, loc="upper right")
    return figure


def draw_data():
    """Draws of the spiral and, seen along its axis, of the bent sheet, each about its decoder's image."""
    figure = Figure(figsize=(6.5, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    data, z = datasets.spiral(n_cases=180, noise=0.01), np.linspace(-3, 3, 301)[:, None]
    f, _ = data.truth.decoder.forward({}, z)
    left.plot(*data.x.T, ".", color=BLUE, markersize=3, label="$x = f(z) + $ noise")
    left.plot(*f.T, color=ORANGE, linewidth=1, label="$f(z)$")
    left.set(xlabel="$x_1$", ylabel="$x_2$")
    left.set_title("a curve: K = 1, D = 2", fontsize=10)
    data = datasets.bent_sheet(n_cases=180, noise=0.01)
    f, _ = data.truth.decoder.forward({}, np.concatenate([1.5 * z, 0 * z], axis=1))
    right.plot(data.x[:, 0], data.x[:, 2], ".", color=BLUE, markersize=3)
    right.plot(f[:, 0], f[:, 2], color=ORANGE, linewidth=1)
    right.set(xlabel="$x_1$", ylabel="$x_3$")
    right.set_title("a sheet, from its edge: K = 2, D = 3", fontsize=10)
    for axes in (left, right):
        axes.set_aspect("equal", adjustable="datalim")
    left.legend(frameon=False, fontsize=8)
    return figure


def copies(K, n_cases=200):
    """The linear model K times side by side, and data from it."""
    model = Model(Linear(K, 2 * K), Gaussian(2 * K), K, DiagonalGaussian(K))
    layer = {"W": np.kron(np.eye(K), W), "b": np.tile(B, K)}
    theta = {"decoder": layer, "likelihood": {"log_psi": np.log(np.tile(PSI, K))}}
    rng = np.random.default_rng(4)
    f, _ = model.f(theta, rng.standard_normal((n_cases, K)))
    return model, theta, model.likelihood.sample(theta["likelihood"], f, rng.standard_normal(f.shape))


def draw_dimensions():
    """How much too high the value of the median data case is as K grows: draws of the prior, and of a q."""
    figure = Figure(figsize=(6.5, 3), layout="constrained")
    axes, sizes = figure.subplots(), (1, 2, 4, 6, 8, 12, 16, 20, 24)
    rows = {"prior, S = 100": [], "prior, S = 10 000": [], "q 1.2 times too wide, S = 100": []}
    for K in sizes:
        model, theta, x = copies(K)
        exact = nlml.exact(model, theta, x).values
        A = theta["decoder"]["W"] / np.exp(theta["likelihood"]["log_psi"])
        mean = (x - theta["decoder"]["b"]) @ A.T / 4
        phi = np.concatenate([mean, np.full(mean.shape, np.log(1.2 * 0.5))], axis=1)
        rng = np.random.default_rng
        found = (
            nlml.prior(model, theta, x, rng(0), n_samples=100),
            nlml.prior(model, theta, x, rng(0), n_samples=10_000),
            nlml.importance(model, theta, phi, x, rng(0), n_samples=100),
        )
        for row, result in zip(rows.values(), found):
            row.append(np.median(result.values - exact))
    for (name, row), style, colour in zip(rows.items(), ("o-", "s--", "^:"), (BLUE, ORANGE, BLACK)):
        axes.plot(sizes, row, style, color=colour, label=name)
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.set(xlabel="latent variables $K$", ylabel="value $-$ nlml, median case (nats)")
    axes.legend(frameon=False)
    return figure
