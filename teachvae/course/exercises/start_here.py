"""The exercises of notebook 00, start here: minus the logarithm of a Gaussian, its gradient, and shapes."""

import math

import numpy as np

from ...likelihoods import Gaussian
from ..exercise import Exercise, by_choice, by_gradient, by_value


def draw_normal(rng, n):
    """Data (N, D), means and variances (D,)."""
    return {
        "x": rng.standard_normal((n.N, n.D)), "mu": rng.standard_normal(n.D),
        "sigma2": rng.uniform(0.3, 2.5, n.D),
    }


def draw_log_normal(rng, n):
    """The same, with the logarithms of the variances."""
    x, mu, sigma2 = draw_normal(rng, n).values()
    return {"x": x, "mu": mu, "log_sigma2": np.log(sigma2)}


def minus_log_normal(x, mu, sigma2):
    """(N,) by the package's likelihood, whose f is μ for every data case."""
    f = np.broadcast_to(mu, (1, *x.shape))
    return -Gaussian(x.shape[1]).forward({"log_psi": np.log(sigma2)}, f, x, None)[0][0]


def without_constant(x, mu, sigma2):
    """(N,) without ½ D log 2π."""
    return minus_log_normal(x, mu, sigma2) - 0.5 * x.shape[1] * math.log(2 * math.pi)


def with_deviations(x, mu, sigma2):
    """(N,) with σ² read as a standard deviation."""
    return minus_log_normal(x, mu, sigma2**2)


def without_half_log(x, mu, sigma2):
    """(N,) with log σ² in place of its half."""
    return minus_log_normal(x, mu, sigma2) + 0.5 * np.sum(np.log(sigma2))


def mean_over_variables(x, mu, sigma2):
    """(N,) with the mean over the variables."""
    return minus_log_normal(x, mu, sigma2) / x.shape[1]


def objective(x, mu, log_sigma2):
    """One number: the sum over the data cases."""
    return np.sum(minus_log_normal(x, mu, np.exp(log_sigma2)))


def in_the_variance(x, mu, log_sigma2):
    """The gradient in σ² itself, without the chain rule's factor σ²."""
    variance = np.exp(log_sigma2)
    slope = np.sum(0.5 / variance - 0.5 * (x - mu) ** 2 / variance**2, axis=0)
    return np.sum((mu - x) / variance, axis=0), slope


def in_log_sigma(x, mu, log_sigma2):
    """The gradient in log σ, which is twice that in log σ²."""
    variance = np.exp(log_sigma2)
    return np.sum((mu - x) / variance, axis=0), np.sum(1 - (x - mu) ** 2 / variance, axis=0)


EXERCISES = [
    Exercise(
        "00-1", "minus_log_normal", "0.9", "−log N(x_n; μ, diag σ²) of every data case, (N,)", draw_normal,
        by_value(minus_log_normal),
        {
            "the ½ log 2π of every variable is missing: with it the numbers are densities, in nats":
                without_constant,
            "σ² is taken for a standard deviation: it is squared once too often": with_deviations,
            "the logarithm of σ² stands there whole: the density has its root, so it is halved":
                without_half_log,
            "mean where it should be a sum: independent variables' log densities are added up over d":
                mean_over_variables,
        },
    ),
    Exercise(
        "00-2", "gradient_of_normal", "0.2", "dmu and dlog_sigma2, each (D,)", draw_log_normal,
        by_gradient(objective, ("mu", "log_sigma2")),
        {
            "right for mu; the other is the gradient in σ²: the chain rule's ∂σ²/∂log σ² = σ² is missing":
                in_the_variance,
            "right for mu; the other is twice too large everywhere: is it log σ or log σ² that is learned?":
                in_log_sigma,
        },
    ),
    Exercise(
        "00-3", "shapes", "1.7", "the shapes of φ, η, f and Q, as words in a dict", None,
        by_choice(
            {"phi": "N, 2K", "eta": "S, N, K", "f": "S, N, D", "Q": "N"},
            {
                ("phi", "S, N, K"): "φ is not drawn: all samples of a data case share its q",
                ("phi", "N"): "φ_n is more than one number: a mean and a width for each latent variable",
                ("phi", "N, D"): "φ speaks of latent variables, not of visible ones",
                ("eta", "N, 2K"): "η is the noise of each sample, one number for each latent variable",
                ("eta", "S, N, D"): "η is noise of z, which has K numbers, not of x",
                ("f", "N, D"): "every sample has a mean f(z_sn) of its own",
                ("f", "S, N, K"): "f is in the space of the data",
                ("Q", "S, N, D"): "Q averages over the samples and adds up over the variables",
                ("Q", "N, D"): "log p(x|z) adds up over the D variables",
            },
        ),
    ),
]
