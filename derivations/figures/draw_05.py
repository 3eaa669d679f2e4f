"""The pictures of chapter 5."""

from matplotlib.figure import Figure
import numpy as np

from teachvae import bound, nlml
from teachvae.course.jensen import jensen_discrete
from teachvae.inference import linear_gaussian
from teachvae.likelihoods import Gaussian
from teachvae.model import Model
from teachvae.networks.layers import Linear
from teachvae.posteriors.nodes import sigma_points

BLUE, ORANGE, BLACK, GREY = "#0072b2", "#d55e00", "#000000", "#999999"
X = np.array([[2.0, 3.0], [-1.0, 0.0]])
W, B, PSI = np.array([[1.0, 2.0]]), np.array([0.0, 1.0]), np.array([1.0, 2.0])
MODEL = Model(Linear(1, 2), Gaussian(2), 1)


def theta_of(w):
    """The linear model of the running example with the loadings w (1, 2)."""
    return {"decoder": {"W": w * W, "b": B}, "likelihood": {"log_psi": np.log(PSI)}}


def phi_of(w, s=None):
    """The best φ (N, 2) at these loadings, of all normal q or of those with standard deviation s."""
    mean, M = linear_gaussian.posterior(w * W, B, PSI, X)
    phi = MODEL.posterior.closest(mean, M)
    return phi if s is None else np.stack([phi[:, 0], np.full(2, np.log(s))], axis=1)


def mean_nlml(w):
    """The mean of nlml over both data cases."""
    return nlml.exact(MODEL, theta_of(w), X).values.mean()


def mean_Q(w, phi):
    """The mean of Q."""
    eta, weights = sigma_points(1)
    return bound.forward(MODEL, theta_of(w), phi, X, eta, weights=weights)[0].mean()


def draw_jensen():
    """−log u, its chord between two points, and the gap between the two at their mean."""
    figure = Figure(figsize=(6.5, 3), layout="constrained")
    axes, u = figure.subplots(), np.linspace(0.45, 5, 200)
    found = jensen_discrete(lambda v: -np.log(v), (1, 4), (0.25, 0.75))
    axes.plot(u, -np.log(u), color=BLUE, label="$-\\log u$")
    axes.plot(u, -np.log(3.25) - (u - 3.25) / 3.25, color=GREY, linestyle=":", label="tangent at the mean")
    axes.plot([1, 4], -np.log([1, 4]), "o--", color=ORANGE, label="chord: averages of two values")
    axes.plot([3.25, 3.25], [found.lhs, found.rhs], color=BLACK, linewidth=3)
    axes.annotate("what Jensen's inequality loses", (3.25, 0.5 * (found.lhs + found.rhs)), (2.9, -0.4),
                  arrowprops={"arrowstyle": "-", "color": BLACK, "linewidth": 0.8})
    axes.set(xlabel="$u$", ylabel="value (nats)")
    axes.set_xticks([1, 3.25, 4], ["$g_1 = 1$", "mean", "$g_2 = 4$"])
    axes.legend(frameon=False)
    return figure


def draw_touching():
    """nlml and bounds against the size w of the loadings: a bound that touches, and one that cannot."""
    figure = Figure(figsize=(6.5, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    w = np.linspace(0, 1.6, 161)
    curve = [mean_nlml(v) for v in w]
    at = 0.25
    for axes in (left, right):
        axes.plot(w, curve, color=BLACK, linewidth=2, label="nlml")
    for style, colour, name in (("--", BLUE, "Q, its φ best at A"), ("-.", ORANGE, "Q, its φ best at B")):
        Q = np.array([mean_Q(v, phi_of(at)) for v in w])
        left.plot(w, Q, style, color=colour, label=name)
        left.plot(at, mean_nlml(at), "o", color=colour)
        left.annotate(name[-1], (at, mean_nlml(at)), (at - 0.06, mean_nlml(at) - 0.1))
        at = w[np.argmin(Q)]
        left.plot(at, Q.min(), "x", color=colour)
    stuck = np.array([mean_Q(v, phi_of(v, 1.0)) for v in w])
    right.plot(w, stuck, "--", color=ORANGE, label="least Q where s = 1")
    right.fill_between(w, curve, stuck, color=GREY, alpha=0.3, linewidth=0, label="KL to the posterior")
    right.plot(w[np.argmin(stuck)], stuck.min(), "x", color=ORANGE)
    right.plot(w[np.argmin(curve)], min(curve), "x", color=BLACK)
    left.set(title="q may be any normal density", ylabel="mean over the data (nats)")
    right.set(title="q has s = 1", ylim=(3.3, 5.4))
    for axes in (left, right):
        axes.set_xlabel("size of the loadings, $w$")
        axes.legend(frameon=False, fontsize=8, loc="upper left")
    return figure
