"""The pictures of chapter 7: what the estimators scatter, and three sets of nodes."""

from matplotlib.figure import Figure
import numpy as np

from teachvae.course import gradient_estimators as ge
from teachvae.likelihoods import Gaussian
from teachvae.model import Model
from teachvae.networks.layers import Linear
from teachvae.posteriors import DiagonalGaussian
from teachvae.posteriors.nodes import gauss_hermite, matched_draws, sigma_points

X = np.array([[2.0, 3.0]])                                         # case 1 of the running example
THETA = {"decoder": {"W": np.array([[1.0, 2.0]]), "b": np.array([0.0, 1.0])},
         "likelihood": {"log_psi": np.log([1.0, 2.0])}}
MODEL = Model(Linear(1, 2), Gaussian(2), 1, DiagonalGaussian(1))


def draw_variances():
    """The variance of one draw's gradient in m and log s, from case 1's q to its posterior."""
    way = np.linspace(0, 1, 31)
    phi = np.stack([0.5 + 0.5 * way, way * np.log(0.5)], axis=1)   # (31, 2): a data case for each place
    x = np.repeat(X, len(way), axis=0)
    nodes, w = gauss_hermite(1, 6)
    i, j = (a.ravel() for a in np.meshgrid(*[np.arange(6)] * 2, indexing="ij"))

    def variance(estimator, **options):
        g = estimator(MODEL, THETA, phi, x, nodes, **options)
        return np.einsum("s,sni->ni", w, (g - np.einsum("s,sni->ni", w, g)) ** 2)

    def of_baseline():
        """Over all pairs of nodes, S = 2."""
        pairs = [ge.score_function(MODEL, THETA, phi, x, nodes[[a, b]], baseline="leave-one-out")[0]
                 for a, b in zip(i, j)]
        ww, g = w[i] * w[j], np.array(pairs)
        return np.einsum("s,sni->ni", ww, (g - np.einsum("s,sni->ni", ww, g)) ** 2)

    curves = [
        ("score function", variance(ge.score_function), "-", "#000000"),
        ("score function, baseline (S = 2)", of_baseline(), "--", "#E69F00"),
        ("reparameterised", variance(ge.reparameterised, kl="sampled"), "-", "#0072B2"),
        ("reparameterised, analytic KL", variance(ge.reparameterised), "-.", "#56B4E9"),
        ("path derivative", variance(ge.without_score_term), "--", "#CC79A7"),
        ("naive (and biased)", variance(ge.naive), ":", "#777777"),
    ]
    figure = Figure(figsize=(6.5, 3.4), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for k, (ax, title) in enumerate(zip(axes, ("gradient in m", "gradient in log s"))):
        for name, values, style, colour in curves:
            ax.semilogy(way, np.maximum(values[:, k], 1e-6), style, color=colour, label=name, lw=1.8)
        ax.set(title=title, xlabel="share of the way to the posterior", ylim=(0.1, 700), xlim=(0, 1))
        ax.grid(alpha=0.25)
    axes[0].set_ylabel("variance of one draw")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return figure


def draw_nodes():
    """Sigma points, a Gauss–Hermite grid and matched draws for K = 2."""
    sets = [
        ("sigma points", sigma_points(2)),
        ("Gauss–Hermite, 5 × 5", gauss_hermite(2, 5)),
        ("12 matched draws", matched_draws(np.random.default_rng(3), 12, 2)),
    ]
    figure = Figure(figsize=(6.5, 2.6), layout="constrained")
    turn = np.linspace(0, 2 * np.pi, 200)
    for ax, (title, (eta, w)) in zip(figure.subplots(1, 3, sharey=True), sets):
        for radius in (1, 2):
            ax.plot(radius * np.cos(turn), radius * np.sin(turn), color="#BBBBBB", lw=0.8)
        ax.scatter(*eta[:, 0].T, s=np.maximum(400 * w, 2), color="#0072B2", alpha=0.8, lw=0)
        ax.set(title=title, xlabel="$\\eta_1$", xlim=(-3.2, 3.2), ylim=(-3.2, 3.2), aspect="equal")
        ax.title.set_fontsize(9)
    figure.axes[0].set_ylabel("$\\eta_2$")
    return figure
