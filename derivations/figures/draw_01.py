"""The pictures of chapter 1."""

from matplotlib.figure import Figure
import numpy as np

from teachvae import linear_gaussian
from teachvae.posteriors import DiagonalGaussian

W, b, psi = np.array([[1.0]]), np.array([0.0]), np.array([1.0])    # the running example's first column
SEEN = np.array([[2.0]])


def density(z, mean, sd):
    """N(z; mean, sd²) on a line."""
    phi = np.array([[mean, np.log(sd)]])
    return np.exp(DiagonalGaussian(1).log_prob(phi, z[:, None, None])[0][:, 0])


def draw_conditional():
    """The joint density of z and x₁, cut at x₁ = 2; the prior and the conditional of z."""
    mean, M = linear_gaussian.posterior(W, b, psi, SEEN)
    mean, sd = mean.item(), M.item() ** -0.5
    figure = Figure(figsize=(6.5, 3), layout="constrained")
    left, right = figure.subplots(1, 2)

    z, x1 = np.linspace(-3.3, 3.3, 121), np.linspace(-4.3, 4.3, 121)
    log_p = -linear_gaussian.nlml(W, b, psi, x1[:, None])            # log p(x₁)
    conditional_means, _ = linear_gaussian.posterior(W, b, psi, x1[:, None])
    log_z = np.array([
        DiagonalGaussian(1).log_prob(np.array([[m, np.log(sd)]]), z[:, None, None])[0][:, 0]
        for m in conditional_means[:, 0]
    ]).T                                                           # log p(z|x₁)
    joint = np.exp(log_p + log_z)
    left.contour(x1, z, joint, levels=np.array([0.05, 0.25, 0.5, 0.75, 0.95]) * joint.max(), colors="0.45",
                 linewidths=0.8)
    left.plot(x1, conditional_means[:, 0], color="tab:blue", label=r"$\mathbb{E}[z \mid x_1]$")
    left.axvline(SEEN.item(), color="tab:orange", linestyle="--", label="$x_1 = 2$, seen")
    left.plot(SEEN[0], [mean], "o", color="tab:orange")
    left.set(xlabel="$x_1$", ylabel="$z$", title=r"joint density $p(z, x_1)$")
    left.legend(loc="lower right", fontsize=8)

    right.plot(z, density(z, 0, 1), color="0.45", label=r"prior $p(z)$, variance 1")
    right.plot(z, density(z, mean, sd), color="tab:orange", linestyle="--",
               label=rf"$p(z \mid x_1 = 2)$, variance {sd**2:.1f}")
    right.set(xlabel="$z$", ylabel="density", title="before and after", ylim=(0, 0.85))
    right.legend(loc="upper left", fontsize=8)
    return figure
