"""The pictures of chapter 3."""

from matplotlib.figure import Figure
import numpy as np

from teachvae import linear_gaussian
from teachvae.inference.em import start
from teachvae.likelihoods import Gaussian
from teachvae.networks.layers import Linear
from teachvae.routes.autoencoder import squared_error
from teachvae.routes.factor_analysis import FactorAnalysis
from teachvae.routes.principal_components import PrincipalComponents

FOUR = np.array([[2.0, 4], [-2, -4], [2, -1], [-2, 1]])


def loss(angle):
    """The loss (1.19) of encoder and decoder along one direction, (cos angle, sin angle)."""
    u = np.array([[np.cos(angle), np.sin(angle)]])
    params = {"encoder": {"W": u.T, "b": np.zeros(1)}, "decoder": {"W": u, "b": np.zeros(2)}}
    return squared_error(Linear(2, 1), Linear(1, 2), params, FOUR)[0]


def draw_plane():
    """Data, the principal axis, two reconstructions; the loss of a linear autoencoder over its angle."""
    figure = Figure(figsize=(6.5, 3.1), layout="constrained")
    left, right = figure.subplots(1, 2)
    pca = PrincipalComponents(1).fit(FOUR)
    axis = pca.components_[0]
    W, psi = start(FOUR.T @ FOUR / 4, 1, Gaussian(2, "isotropic"), None)
    drawn_in = linear_gaussian.posterior(W, np.zeros(2), psi, FOUR)[0] @ W
    left.plot(*(axis[:, None] * [-5.2, 5.2]), color="0.6", linewidth=1, label="principal axis")
    left.plot(*FOUR.T, "o", color="black", label="data")
    left.plot(*pca.reconstruct(FOUR).T, "s", color="tab:blue", markerfacecolor="none", markersize=10,
              label="principal components")
    left.plot(*drawn_in.T, "^", color="tab:orange", label="probabilistic PCA")
    left.set(xlabel="$x_1$", ylabel="$x_2$", aspect="equal", xlim=(-6.5, 6.5), ylim=(-5.5, 5.5),
             title="reconstructions")
    left.legend(fontsize=6.5, loc="upper left", handlelength=1.4)

    angles = np.linspace(-90, 180, 271)
    right.plot(angles, [loss(a) for a in np.radians(angles)], color="tab:blue")
    best = np.degrees(np.arctan2(axis[1], axis[0]))
    for place, marker, words, up in ((best, "o", "the principal axis", -13), (best - 90, "x", "a saddle", 6)):
        value = loss(np.radians(place))
        right.plot([place], [value], marker, color="tab:orange")
        right.annotate(words, (place, value), (0, up), textcoords="offset points", ha="center", fontsize=8)
    right.set(xlabel="angle of its axis [degrees]", ylabel=r"loss $\ell$ [units of $x^2$]",
              title="linear autoencoder, K = 1", ylim=(0.4, 5.8), xticks=[-90, 0, 90, 180])
    return figure


def draw_units():
    """The direction of the first loadings in two columns, told in old units, over a change of units."""
    rng = np.random.default_rng(4)
    W, noise = np.array([[1.0, 1.5, 1.0, 0.8]]), np.array([1.0, 0.8, 0.6, 1.0])
    x = rng.standard_normal((400, 1)) @ W + rng.standard_normal((400, 4)) * np.sqrt(noise)
    factors = np.geomspace(0.1, 10, 21)
    angles = {"principal components": [], "factor analysis": []}
    for factor in factors:
        c = np.array([factor, 1, 1, 1])
        for name, rows in (
            ("principal components", PrincipalComponents(1).fit(x * c).components_),
            ("factor analysis", FactorAnalysis(1).fit(x * c).components_),
        ):
            v = rows[0] / c * np.sign(rows[0, 1])
            angles[name].append(np.degrees(np.arctan2(v[1], v[0])))
    figure = Figure(figsize=(6.5, 3), layout="constrained")
    axes = figure.subplots()
    for (name, values), style in zip(angles.items(), ("-", "--")):
        axes.plot(factors, values, style, color="tab:blue" if style == "-" else "tab:orange", label=name)
    axes.set(xscale="log", xlabel="factor by which the first column was multiplied",
             ylabel="angle in the plane of\ncolumns 1, 2 [degrees]")
    axes.legend(fontsize=9, loc="lower left")
    return figure
