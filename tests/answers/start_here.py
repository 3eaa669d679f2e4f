"""Answers to the exercises of notebook 00."""

import numpy as np
from scipy import stats

LOG_2PI = np.log(2 * np.pi)


def no_constant(x, mu, sigma2):
    return ((x - mu) ** 2 / (2 * sigma2) + np.log(np.sqrt(sigma2))).sum(1)


def deviations(x, mu, sigma2):
    return -stats.norm.logpdf(x, mu, sigma2).sum(axis=1)


def whole_logarithm(x, mu, sigma2):
    u = (x - mu) ** 2 / sigma2
    return (0.5 * u + np.log(sigma2) + 0.5 * LOG_2PI).sum(axis=1)


def a_mean(x, mu, sigma2):
    return -stats.norm.logpdf(x, mu, np.sqrt(sigma2)).mean(axis=1)


def plus(x, mu, sigma2):
    return stats.norm.logpdf(x, mu, np.sqrt(sigma2)).sum(axis=1)


def one_for_all(x, mu, sigma2):
    return -stats.norm.logpdf(x, mu, np.sqrt(sigma2)).sum()


def of_every_number(x, mu, sigma2):
    return -stats.norm.logpdf(x, mu, np.sqrt(sigma2))


def without_a_half(x, mu, sigma2):
    return ((x - mu) ** 2 / sigma2 + np.log(np.sqrt(2 * np.pi * sigma2))).sum(axis=1)


def not_squared(x, mu, sigma2):
    return (0.5 * ((x - mu) / sigma2 + np.log(sigma2) + LOG_2PI)).sum(axis=1)


def over_sigma(x, mu, sigma2):
    return (0.5 * ((x - mu) ** 2 / np.sqrt(sigma2) + np.log(sigma2) + LOG_2PI)).sum(axis=1)


def of_each_variable(x, mu, sigma2):
    return -stats.norm.logpdf(x, mu, np.sqrt(sigma2)).sum(axis=0)


def logarithms_turned(x, mu, sigma2):
    return (0.5 * (x - mu) ** 2 / sigma2 + np.log(1 / np.sqrt(2 * np.pi * sigma2))).sum(axis=1)


def of_ten(x, mu, sigma2):
    return -np.log10(stats.norm.pdf(x, mu, np.sqrt(sigma2))).sum(axis=1)


def squared_again(x, mu, log_sigma2):
    s = np.exp(log_sigma2)
    return ((mu - x) / s**2).sum(0), (0.5 - 0.5 * (x - mu) ** 2 / s**2).sum(0)


def no_exp(x, mu, log_sigma2):
    return ((mu - x) / log_sigma2).sum(0), (0.5 - 0.5 * (x - mu) ** 2 / log_sigma2).sum(0)


def plus_square(x, mu, log_sigma2):
    dmu, dlog = right_gradient(x, mu, log_sigma2)
    return dmu, len(x) - dlog


def one_half(x, mu, log_sigma2):
    dmu, _ = right_gradient(x, mu, log_sigma2)
    return dmu, 0.5 - 0.5 * ((x - mu) ** 2 / np.exp(log_sigma2)).sum(0)


def as_the_variance(x, mu, log_sigma2):
    sigma2 = np.exp(log_sigma2)
    return ((mu - x) / sigma2).sum(0), (0.5 / sigma2 - (x - mu) ** 2 / (2 * sigma2**2)).sum(0)


def as_log_sigma(x, mu, log_sigma2):
    e = (x - mu) / np.exp(log_sigma2 / 2)
    return -(e / np.exp(log_sigma2 / 2)).sum(0), (1 - e**2).sum(0)


def turned(x, mu, log_sigma2):
    dmu, dlog = right_gradient(x, mu, log_sigma2)
    return -dmu, dlog


def averaged(x, mu, log_sigma2):
    dmu, dlog = right_gradient(x, mu, log_sigma2)
    return dmu / len(x), dlog / len(x)


def over_the_wrong_axis(x, mu, log_sigma2):
    sigma2 = np.exp(log_sigma2)
    return ((mu - x) / sigma2).sum(axis=1), 0.5 * (1 - (x - mu) ** 2 / sigma2).sum(axis=1)


def without_the_half(x, mu, log_sigma2):
    dmu, _ = right_gradient(x, mu, log_sigma2)
    return dmu, -0.5 * ((x - mu) ** 2 / np.exp(log_sigma2)).sum(0)


WRONG = {
    "00-1": {
        "½ log 2π of every variable is missing": no_constant,
        "taken for a standard deviation": deviations,
        "stands there whole": whole_logarithm,
        "mean where it should be a sum": a_mean,
        "log p or −log p": plus,
        "is gone; look for a sum": one_for_all,
        "the ½ before the square": without_a_half,
        "is not squared": not_squared,
        "divided by σ, and": over_sigma,
        "each keeps its own number": of_each_variable,
        "both logarithms have the wrong sign": logarithms_turned,
        "powers of ten": of_ten,
        "what is asked is its sum over axis 1": of_every_number,
    },
    "00-2": {
        "the chain rule's ∂σ²/∂log σ² = σ² is missing": as_the_variance,
        "log σ or log σ² that is learned": as_log_sigma,
        "the sign is flipped": turned,
        "where the backward starts": averaged,
        "it has shape": over_the_wrong_axis,
        "the ½ that ½ log ψ leaves": without_the_half,
        "exp of log σ² is σ² already": squared_again,
        "the exp is missing": no_exp,
        "the square has the wrong sign": plus_square,
        "it comes from every data case": one_half,
    },
    "00-3": {
        "φ is not drawn": {"phi": "S, N, K", "eta": "S, N, K", "f": "S, N, D", "Q": "N"},
        "η is noise of z": {"phi": "N, 2K", "eta": "S, N, D", "f": "S, N, D", "Q": "N"},
        "a mean f(z_sn) of its own": {"phi": "N, 2K", "eta": "S, N, K", "f": "N, D", "Q": "N"},
        "adds up over the D variables": {"phi": "N, 2K", "eta": "S, N, K", "f": "S, N, D", "Q": "N, D"},
        "what 2K numbers belong to is φ_n": {"phi": "N, 2K", "eta": "S, N, K", "f": "S, N, D", "Q": "N, 2K"},
        "none of the words": {"phi": "N, 2K", "eta": "S, N, K", "f": "S, N, D", "Q": 1},
        "nothing is chosen for Q": {"phi": "N, 2K", "eta": "S, N, K", "f": "S, N, D"},
        "a dict is asked for": "N, 2K",
    },
}


def by_scipy(x, mu, sigma2):
    return -stats.norm.logpdf(x, mu, np.sqrt(sigma2)).sum(axis=1)


def as_one_density(x, mu, sigma2):
    return -stats.multivariate_normal(mu, np.diag(sigma2)).logpdf(x)


def by_loops(x, mu, sigma2):
    total = np.zeros(len(x))
    for n, row in enumerate(x):
        for value, m, v in zip(row, mu, sigma2):
            total[n] += (value - m) ** 2 / (2 * v) + 0.5 * np.log(2 * np.pi * v)
    return total


def by_einsum(x, mu, sigma2):
    return 0.5 * (np.einsum("nd,nd,d->n", x - mu, x - mu, 1 / sigma2) + np.log(2 * np.pi * sigma2).sum())


def by_product(x, mu, sigma2):
    return -np.log(np.prod(np.exp(-((x - mu) ** 2) / 2 / sigma2) / np.sqrt(2 * np.pi * sigma2), axis=1))


def right_gradient(x, mu, log_sigma2):
    precision = np.exp(-log_sigma2)
    return precision * (len(x) * mu - x.sum(0)), 0.5 * (len(x) - precision * ((x - mu) ** 2).sum(0))


def in_a_list(x, mu, log_sigma2):
    return list(right_gradient(x, mu, log_sigma2))


def by_moments(x, mu, log_sigma2):
    n, v = len(x), np.exp(log_sigma2)
    return n * (mu - x.mean(0)) / v, n / 2 * (1 - (x.var(0) + (x.mean(0) - mu) ** 2) / v)


def case_by_case(x, mu, log_sigma2):
    dmu, dlog = np.zeros_like(mu), np.zeros_like(mu)
    for row in x:
        e = row - mu
        dmu -= e / np.exp(log_sigma2)
        dlog += 0.5 - 0.5 * e * e / np.exp(log_sigma2)
    return dmu, dlog


def by_chain(x, mu, log_sigma2):
    e, v = x - mu, np.exp(log_sigma2)
    de, dv = e / v, 0.5 / v - 0.5 * e**2 / v**2
    return -de.sum(axis=0), (dv * v).sum(axis=0)


RIGHT = {
    "00-1": [by_scipy, as_one_density, by_loops, by_einsum, by_product],
    "00-2": [right_gradient, in_a_list, by_moments, case_by_case, by_chain],
    "00-3": [{"Q": "N", "f": "S, N, D", "eta": "S, N, K", "phi": "N, 2K"}],
}
