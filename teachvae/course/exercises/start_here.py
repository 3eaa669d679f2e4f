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


def _terms(square, log, power=2, axis=1):
    """(N,) with other factors before the square and the logarithm, or another power of the residual."""
    def made(x, mu, sigma2):
        u = (x - mu) ** power / sigma2
        return np.sum(square * u + log * np.log(sigma2) + 0.5 * math.log(2 * math.pi), axis=axis)

    return made


def by_the_deviation(x, mu, sigma2):
    """(N,) with the square over σ in place of σ²."""
    return minus_log_normal(x, mu, sigma2) + np.sum((x - mu) ** 2 * (sigma2**-0.5 - 1 / sigma2) / 2, axis=1)


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


def _slopes(variance, square, one=0.5):
    """(dmu, dlog_sigma2) with another variance, or other factors before the one and the square."""
    def made(x, mu, log_sigma2):
        v = variance(log_sigma2)
        return np.sum((mu - x) / v, axis=0), np.sum(one + square * (x - mu) ** 2 / v, axis=0)

    return made


def half_once(x, mu, log_sigma2):
    """The ½ that ½ log σ² leaves, once instead of once for each data case."""
    dmu, slope = _slopes(np.exp, -0.5)(x, mu, log_sigma2)
    return dmu, slope - 0.5 * (len(x) - 1)


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
            "the ½ before the square is missing": _terms(1.0, 0.5),
            "the residual x − μ is not squared": _terms(0.5, 0.5, power=1),
            "the square is divided by σ, and the density divides it by the variance σ²": by_the_deviation,
            "½ log σ² is missing: a wide density is a low one": _terms(0.5, 0.0),
            "the square has the wrong sign: minus the logarithm grows with the distance from μ":
                _terms(-0.5, 0.5),
            "½ log σ² has the wrong sign: a wide density is a low one": _terms(0.5, -0.5),
            "both logarithms have the wrong sign: it is minus the logarithm of 1/√(2πσ²), so they are added":
                lambda x, mu, sigma2: -_terms(-0.5, 0.5)(x, mu, sigma2),
            "½ log σ² and ½ log 2π are missing: only the square is there":
                lambda x, mu, sigma2: 0.5 * np.sum((x - mu) ** 2 / sigma2, axis=1),
            "summed over the data cases; each keeps its own number, and the sum is over its variables":
                _terms(0.5, 0.5, axis=0),
            "it is in powers of ten: nats ask for the natural logarithm, np.log":
                lambda x, mu, sigma2: minus_log_normal(x, mu, sigma2) / math.log(10),
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
            "the variance is taken squared: exp of log σ² is σ² already":
                _slopes(lambda log_sigma2: np.exp(2 * log_sigma2), -0.5),
            "log σ² itself stands where the variance belongs: the exp is missing":
                _slopes(lambda log_sigma2: log_sigma2, -0.5),
            "exp(½ log σ²) = σ stands where the variance σ² belongs":
                _slopes(lambda log_sigma2: np.exp(log_sigma2 / 2), -0.5),
            "right for mu; in the other the square has the wrong sign: e^{−l} has the slope −e^{−l}":
                _slopes(np.exp, 0.5),
            "right for mu; in the other the ½ before the square is missing": _slopes(np.exp, -1.0),
            "right for mu; in the other the ½ before the 1 is missing": _slopes(np.exp, -0.5, 1.0),
            "right for mu; in the other the ½ of ½ log σ² stands once, and it comes from every data case":
                half_once,
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
                ("phi", "S, N, D"): "φ is not drawn, and it speaks of the K latent variables",
                ("eta", "N, 2K"): "η is the noise of each sample, one number for each latent variable",
                ("eta", "S, N, D"): "η is noise of z, which has K numbers, not of x",
                ("eta", "N, D"): "η is drawn anew for every sample, and it is noise of z, not of x",
                ("eta", "N"): "η is drawn anew for every sample, K numbers for each",
                ("f", "N, D"): "every sample has a mean f(z_sn) of its own",
                ("f", "S, N, K"): "f is in the space of the data",
                ("f", "N, 2K"): "f is a mean of x: D numbers, for every sample; 2K numbers are φ's",
                ("f", "N"): "f is a mean of x: D numbers, for every sample of every data case",
                ("Q", "S, N, D"): "Q averages over the samples and adds up over the variables",
                ("Q", "N, D"): "log p(x|z) adds up over the D variables",
                ("Q", "S, N, K"): "Q averages over the samples; its KL adds up over the latent variables",
                ("Q", "N, 2K"): "Q_n is one number: what 2K numbers belong to is φ_n",
            },
        ),
    ),
]
