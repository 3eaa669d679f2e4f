"""The picture of chapter 15: an importance sampler's bias and spread against S, and rules of quadrature."""

from matplotlib.figure import Figure
import numpy as np

from teachvae import bound
from teachvae.evaluation import nlml
from teachvae.inference import expectations
from teachvae.likelihoods import Gaussian
from teachvae.model import Model
from teachvae.networks.layers import Linear, Sequential, Tanh
from teachvae.posteriors import DiagonalGaussian
from teachvae.posteriors.nodes import gauss_hermite

X = np.array([[2.0, 3.0], [-1.0, 0.0]])                            # the running example
PHI = np.array([[0.5, 0.0], [0.0, np.log(0.5)]])
LAYER = {"W": np.array([[1.0, 2.0]]), "b": np.array([0.0, 1.0])}
NOISE = {"log_psi": np.log([1.0, 2.0])}
LINEAR = Model(Linear(1, 2), Gaussian(2), 1, DiagonalGaussian(1)), {"decoder": LAYER, "likelihood": NOISE}
BENT = (Model(Sequential([Tanh(), Linear(1, 2)]), Gaussian(2), 1, DiagonalGaussian(1)),
        {"decoder": [{}, LAYER], "likelihood": NOISE})
RHO = 4 / np.sqrt(7) * np.exp(1 / 7)                               # (10.18) of case 1


def sampler(ax):
    """Bias and standard deviation of −log p̂ over many runs, with their laws."""
    truth, rng = nlml.exact(*LINEAR, X[:1]).values[0], np.random.default_rng(0)
    sizes, runs = 2 ** np.arange(0, 10), 4000
    found = []
    for S in sizes:
        eta = rng.standard_normal((S * runs, 1, 1))
        omega = np.exp(expectations.log_weight(*LINEAR, PHI[:1], X[:1], eta)[:, 0] + truth).reshape(runs, S)
        p_hat = omega.mean(axis=1)
        found.append((np.mean(-np.log(p_hat) + p_hat - 1), np.std(np.log(p_hat))))  # p̂ − 1 has mean 0
    bias, spread = np.array(found).T
    ax.loglog(sizes, spread, "s", color="#0072B2", ms=4, label="standard deviation")
    law = "$\\sqrt{(\\rho - 1) / S}$"
    ax.loglog(sizes, np.sqrt((RHO - 1) / sizes), "-", color="#0072B2", lw=1, label=law)
    ax.loglog(sizes, bias, "o", color="#D55E00", ms=4, label="bias")
    ax.loglog(sizes, (RHO - 1) / (2 * sizes), "--", color="#D55E00", lw=1, label="$(\\rho - 1) / 2S$")
    ax.set(xlabel="draws S", ylabel="nats", title="$-\\log\\,\\hat{p}$ from q, linear, case 1")


def rules(ax):
    """Error of Gauss–Hermite rules for the bent example, and the certificate that three rules give."""
    def Q(order):
        eta, w = gauss_hermite(1, order)
        return bound.forward(*BENT, PHI, X, eta, weights=w)[0]

    truth, orders = Q(200), np.array([4, 6, 8, 12, 16, 24, 32, 48, 64])
    values = np.array([Q(order) for order in orders])
    for n, (colour, mark) in enumerate((("#D55E00", "o"), ("#0072B2", "s"))):
        error = np.maximum(np.abs(values[:, n] - truth[n]), 1e-13)
        steps = np.abs(values[2:, n] - values[1:-1, n]), np.abs(values[2:, n] - values[:-2, n])
        ax.loglog(orders, error, mark, color=colour, ms=4, label=f"error, case {n + 1}")
        ax.loglog(orders[2:], np.maximum(*steps), "-" if n == 0 else "--", color=colour, lw=1,
                  label=f"certificate, case {n + 1}")
    ax.set_xticks([4, 8, 16, 32, 64], ["4", "8", "16", "32", "64"])
    ax.minorticks_off()
    ax.set(xlabel="Gauss–Hermite nodes", ylabel="nats", title="Q by rules, bent decoder")


def draw_laws():
    """Both panels."""
    figure = Figure(figsize=(6.5, 3.1), layout="constrained")
    for ax, panel in zip(figure.subplots(1, 2), (sampler, rules)):
        panel(ax)
        ax.title.set_fontsize(9)
        ax.grid(alpha=0.25)
        ax.legend(fontsize=7, loc="lower left")
    return figure
