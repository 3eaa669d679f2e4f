"""Answers to the exercises of notebook 11, one core, two machines."""

from decimal import Decimal, localcontext
import math

import numpy as np

from teachvae.arrays import special
from teachvae.arrays.backend import namespace

# ---- 11-1 any library ------------------------------------------------------------------------


def by_numpy(log_p):
    top = np.max(log_p, axis=1, keepdims=True)
    return (top + np.log(np.sum(np.exp(log_p - top), axis=1, keepdims=True)))[:, 0]


def on_the_host(log_p):
    return np.logaddexp.reduce(log_p.get(), axis=1)


def by_methods(log_p):
    xp = namespace(log_p)
    top = log_p.max(axis=1)
    return top + xp.log(xp.sum(xp.exp(log_p - top[:, None]), axis=1))


def overflowing(log_p):
    xp = namespace(log_p)
    return xp.log(xp.sum(xp.exp(log_p), axis=1))


def top_of_all(log_p):
    xp = namespace(log_p)
    top = xp.max(log_p)
    return top + xp.log(xp.sum(xp.exp(log_p - top), axis=1))


def top_of_all_off_and_own_on(log_p):
    xp = namespace(log_p)
    return xp.max(log_p, axis=1) + xp.log(xp.sum(xp.exp(log_p - xp.max(log_p)), axis=1))


def over_cases(log_p):
    xp = namespace(log_p)
    top = xp.max(log_p, axis=0)
    return top + xp.log(xp.sum(xp.exp(log_p - top), axis=0))


def top_not_added(log_p):
    xp = namespace(log_p)
    return xp.log(xp.sum(xp.exp(log_p - xp.max(log_p, axis=1, keepdims=True)), axis=1))


def top_alone(log_p):
    return namespace(log_p).max(log_p, axis=1)


def log_mean(log_p):
    xp = namespace(log_p)
    top = xp.max(log_p, axis=1, keepdims=True)
    return top[:, 0] + xp.log(xp.mean(xp.exp(log_p - top), axis=1))


def log_forgotten(log_p):
    xp = namespace(log_p)
    return xp.sum(xp.exp(log_p - xp.max(log_p, axis=1, keepdims=True)), axis=1)


def one_column(log_p):
    xp = namespace(log_p)
    top = xp.max(log_p, axis=1, keepdims=True)
    return top + xp.log(xp.sum(xp.exp(log_p - top), axis=1, keepdims=True))


def mixed(log_p):
    xp = namespace(log_p)
    top = xp.max(log_p, axis=1, keepdims=True)
    return xp.log(np.ones(log_p.shape[0]) * xp.sum(xp.exp(log_p - top), axis=1)) + top[:, 0]


def anywhere(log_p):
    xp = namespace(log_p)
    top = xp.max(log_p, axis=1)
    return top + xp.log(xp.sum(xp.exp(log_p - top[:, None]), axis=1))


def of_the_array(log_p):
    xp = log_p.__array_namespace__()
    top = xp.max(log_p, axis=-1, keepdims=True)
    return xp.squeeze(xp.log(xp.sum(xp.exp(log_p - top), axis=-1, keepdims=True)) + top, axis=-1)


def two_at_a_time(log_p):
    xp, total = namespace(log_p), log_p[:, 0]
    for d in range(1, log_p.shape[1]):
        high, low = xp.maximum(total, log_p[:, d]), xp.minimum(total, log_p[:, d])
        total = high + xp.log1p(xp.exp(low - high))
    return total


def by_logaddexp(log_p):
    xp, total = namespace(log_p), log_p[:, 0]
    for d in range(1, log_p.shape[1]):
        total = xp.logaddexp(total, log_p[:, d])
    return total


def below_the_mean(log_p):
    xp = namespace(log_p)
    middle = xp.mean(log_p, axis=1, keepdims=True)
    return xp.log(xp.sum(xp.exp(log_p - middle), axis=1)) + middle[:, 0]


# ---- 11-2 few digits -------------------------------------------------------------------------


def exactly(m, log_s):
    return 0.5 * np.sum(m**2 + np.expm1(2 * log_s) - 2 * log_s, axis=1)


def by_decimals(m, log_s):
    with localcontext() as context:
        context.prec = 60
        return np.array([
            float(sum((Decimal(a) ** 2 + (2 * Decimal(b)).exp() - 1 - 2 * Decimal(b)) / 2
                      for a, b in zip(row_m.tolist(), row_s.tolist())))
            for row_m, row_s in zip(m, log_s)
        ])


def by_sinh(m, log_s):
    return np.einsum("nk->n", 0.5 * m * m + np.exp(log_s) * np.sinh(log_s) - log_s)


def by_factors(m, log_s):
    e = np.expm1(log_s)                                            # s² − 1 = (s − 1)(s + 1)
    return (0.5 * m**2 + 0.5 * e * (e + 2) - log_s).sum(axis=1)


def by_loops(m, log_s):
    found = []
    for n in range(len(m)):
        found.append(sum(m[n, k] ** 2 / 2 + math.expm1(2 * v) / 2 - v for k, v in enumerate(log_s[n])))
    return np.array(found)


def by_series(m, log_s):
    x, term, total = 2 * log_s, 1.0, 0.0
    for i in range(1, 8):
        term = term * x / i
        total = total + (term if i > 1 else 0.0)
    return np.sum(0.5 * (m**2 + total), axis=1)


# ---- 11-3 moments of two ranks ---------------------------------------------------------------


def merged(n1, mean1, scatter1, n2, mean2, scatter2):
    n, delta = n1 + n2, mean2 - mean1
    return {
        "n": n, "mean": mean1 + n2 / n * delta,
        "scatter": scatter1 + scatter2 + n1 * n2 / n * np.outer(delta, delta),
    }


def with_factor(factor):
    """The scatter with another factor of δᵀδ."""
    def answer(n1, mean1, scatter1, n2, mean2, scatter2):
        delta = mean2 - mean1
        scatter = scatter1 + scatter2 + factor(n1, n2) * delta[:, None] * delta
        return merged(n1, mean1, scatter1, n2, mean2, scatter2) | {"scatter": scatter}

    return answer


def entry_by_entry(n1, mean1, scatter1, n2, mean2, scatter2):
    right = merged(n1, mean1, scatter1, n2, mean2, scatter2)
    between = n1 * n2 / (n1 + n2) * (mean2 - mean1) ** 2
    return right | {"scatter": scatter1 + scatter2 + between}


def pooled(n1, mean1, scatter1, n2, mean2, scatter2):
    right = merged(n1, mean1, scatter1, n2, mean2, scatter2)
    return right | {"scatter": n1 / right["n"] * scatter1 + n2 / right["n"] * scatter2}


def with_share(share, start=lambda mean1, mean2: mean1):
    """The mean with another share of δ, or from elsewhere."""
    def answer(n1, mean1, scatter1, n2, mean2, scatter2):
        mean = start(mean1, mean2) + share(n1, n2) * (mean2 - mean1)
        return merged(n1, mean1, scatter1, n2, mean2, scatter2) | {"mean": mean}

    return answer


def covariance(n1, mean1, scatter1, n2, mean2, scatter2):
    right = merged(n1, mean1, scatter1, n2, mean2, scatter2)
    return right | {"scatter": right["scatter"] / right["n"]}


def inner_product(n1, mean1, scatter1, n2, mean2, scatter2):
    delta = mean2 - mean1
    scatter = scatter1 + scatter2 + n1 * n2 / (n1 + n2) * (delta @ delta)
    return merged(n1, mean1, scatter1, n2, mean2, scatter2) | {"scatter": scatter}


def as_tuple(n1, mean1, scatter1, n2, mean2, scatter2):
    return tuple(merged(n1, mean1, scatter1, n2, mean2, scatter2).values())


def short_formula(n1, mean1, scatter1, n2, mean2, scatter2):
    n = n1 + n2
    mean = (n1 * mean1 + n2 * mean2) / n
    sums = scatter1 + n1 * np.outer(mean1, mean1) + scatter2 + n2 * np.outer(mean2, mean2)
    return {"n": n, "mean": mean, "scatter": sums - n * np.outer(mean, mean)}


def about_the_mean(n1, mean1, scatter1, n2, mean2, scatter2):
    mean = np.average([mean1, mean2], axis=0, weights=[n1, n2])
    scatter = scatter1 + scatter2
    for n, own in ((n1, mean1), (n2, mean2)):
        scatter = scatter + n * (own - mean)[:, None] @ (own - mean)[None, :]
    return {"n": n1 + n2, "mean": mean, "scatter": scatter}


def with_rows_made_up(n1, mean1, scatter1, n2, mean2, scatter2):
    """Rows that have these means and no scatter, beside the scatters."""
    rows = np.concatenate([np.tile(mean1, (n1, 1)), np.tile(mean2, (n2, 1))])
    centred = rows - rows.mean(axis=0)
    return {"n": len(rows), "mean": rows.mean(axis=0), "scatter": scatter1 + scatter2 + centred.T @ centred}


def from_the_second(n1, mean1, scatter1, n2, mean2, scatter2):
    return merged(n2, mean2, scatter2, n1, mean1, scatter1)


def by_einsum(n1, mean1, scatter1, n2, mean2, scatter2):
    delta, N = mean1 - mean2, n1 + n2
    between = np.einsum("i,j->ij", delta, delta) / (1 / n1 + 1 / n2)
    return {"scatter": between + scatter1 + scatter2, "mean": mean2 + delta * n1 / N, "n": N}


# ---- 11-4 gradients of parts -----------------------------------------------------------------


def parts_by_loops(means, counts, n_cases):
    total, rows = np.zeros(means.shape[1]), 0
    for mean, count in zip(means, counts):
        total += count * mean
        rows += count
    return n_cases / rows * total


def top_and_rest(log_p, together):
    xp = namespace(log_p)
    top = xp.max(log_p, axis=1, keepdims=True)
    return together(xp, top[:, 0], xp.log(xp.sum(xp.exp(log_p - top), axis=1)))


def top_is_the_smallest(log_p):
    xp = namespace(log_p)
    low = xp.min(log_p, axis=1, keepdims=True)
    return xp.log(xp.sum(xp.exp(log_p - low), axis=1)) + low[:, 0]


WRONG = {
    "11-1": {
        "taken off again after the log": lambda log_p: top_and_rest(log_p, lambda xp, top, rest: rest - top),
        "it is not finite": top_is_the_smallest,
        "TypeError: NumPy was handed": by_numpy,
        "the numbers have left their library": on_the_host,
        "has no attribute 'max'": by_methods,
        "overflows: take the largest": overflowing,
        "what is far below it vanishes": top_of_all,
        "axis=1 is missing in one of them": top_of_all_off_and_own_on,
        "its log is asked for": lambda log_p: namespace(log_p).sum(namespace(log_p).exp(log_p), axis=1),
        "(5,) where (6,) is asked for": over_cases,
        "is not added again": top_not_added,
        "this is the largest alone": top_alone,
        "it is log D too low": log_mean,
        "the log is missing": log_forgotten,
        "(6, 1) where (6,) is asked for": one_column,
        "are mixed": mixed,
    },
    "11-2": {
        "m² without its ½": lambda m, log_s: np.sum(m**2 + np.expm1(2 * log_s) / 2 - log_s, axis=1),
        "s² − 1 is expm1(2 log s)": lambda m, log_s: np.sum(m**2 - 2 * log_s + np.expm1(log_s), axis=1) / 2,
        "has lost the digits that count":
            lambda m, log_s: 0.5 * np.sum(m**2 + np.exp(log_s) ** 2 - 1 - 2 * log_s, axis=1),
        "½ m² is missing": lambda m, log_s: np.sum(np.expm1(2 * log_s) - 2 * log_s, axis=1) / 2,
        "the ½ is missing": lambda m, log_s: np.sum(m * m + np.expm1(2 * log_s) - 2 * log_s, axis=1),
        "mean where it sums": lambda m, log_s: exactly(m, log_s) / m.shape[1],
        "without −2 log s": lambda m, log_s: 0.5 * (m**2 + np.expm1(2 * log_s)).sum(axis=1),
        "taken for log s²": lambda m, log_s: 0.5 * (m**2 + np.expm1(log_s) - log_s).sum(axis=1),
        "inside the bracket": lambda m, log_s: 0.5 * np.sum(m**2 + np.expm1(2 * log_s) - log_s, axis=1),
        "+2 log s": lambda m, log_s: 0.5 * np.sum(m**2 + np.expm1(2 * log_s) + 2 * log_s, axis=1),
        "for the part of s": lambda m, log_s: 0.5 * np.sum(m**2 + log_s**2, axis=1),
        "zero at every index": lambda m, log_s: np.zeros(len(m)),
        "axis 1 of length K = 2 is still there": lambda m, log_s: 0.5 * (m**2 + np.expm1(2 * log_s)) - log_s,
        "its sign turned": lambda m, log_s: -exactly(m, log_s),
    },
    "11-3": {
        "stands on the diagonal alone": lambda n1, m1, s1, n2, m2, s2: {
            "n": n1 + n2, "mean": (n1 * m1 + n2 * m2) / (n1 + n2),
            "scatter": s1 + s2 + np.diag(n1 * n2 / (n1 + n2) * (m1 - m2) ** 2),
        },
        "divided by N − 1": lambda n1, m1, s1, n2, m2, s2: {
            "n": n1 + n2, "mean": (n1 * m1 + n2 * m2) / (n1 + n2),
            "scatter": (s1 + s2 + n1 * n2 / (n1 + n2) * np.outer(m1 - m2, m1 - m2)) / (n1 + n2 - 1),
        },
        "the sums of the two alone": with_factor(lambda n1, n2: 0),
        "counts as much as the other": with_share(lambda n1, n2: 0.5),
        "the two means are added": with_share(lambda n1, n2: 0, lambda mean1, mean2: mean1 + mean2),
        "is no matrix": entry_by_entry,
        "a weighted mean of the two": pooled,
        "the shares are exchanged": with_share(lambda n1, n2: n1 / (n1 + n2)),
        "which N divides": with_factor(lambda n1, n2: n1 * n2),
        "δᵀδ has no factor": with_factor(lambda n1, n2: 1),
        "N is divided by once": with_factor(lambda n1, n2: n1 / (n1 + n2) * n2 / (n1 + n2)),
        "it is taken off": with_factor(lambda n1, n2: -n1 * n2 / (n1 + n2)),
        "it is the covariance": covariance,
        "its trace alone is added": inner_product,
        "a tuple came back": as_tuple,
    },
    "11-4": {
        "with N/M before them": lambda means, counts, n_cases: means.sum(0) / counts.sum() * n_cases,
        "each mean is divided by its rows":
            lambda means, counts, n_cases: n_cases * (means / counts[:, None]).sum(0) / counts.sum(),
        "ranks with few rows count as much": lambda means, counts, n_cases: n_cases * np.mean(means, axis=0),
        "the mean over the minibatch":
            lambda means, counts, n_cases: np.average(means, axis=0, weights=counts),
        "the sum over the minibatch: N/M": lambda means, counts, n_cases: (counts[:, None] * means).sum(0),
        "M/N, where the sum": lambda means, counts, n_cases: counts.sum() / n_cases * (counts @ means),
        "divided by N, where": lambda means, counts, n_cases: (counts / n_cases) @ means,
        "the ranks' means are added": lambda means, counts, n_cases: n_cases * means.sum(0),
        "it still has to be divided": lambda means, counts, n_cases: n_cases * (counts @ means),
        "the wrong way round": lambda means, counts, n_cases: n_cases * np.average(
            means, axis=0, weights=1 / counts
        ),
        "divided by the number of ranks":
            lambda means, counts, n_cases: n_cases * (counts @ means) / len(means),
        "axis 0 of length K = 2 is still there":
            lambda means, counts, n_cases: n_cases / counts.sum() * counts[:, None] * means,
    },
}

RIGHT = {
    "11-1": [anywhere, of_the_array, two_at_a_time, by_logaddexp, below_the_mean, special.log_sum_exp],
    "11-2": [exactly, by_decimals, by_sinh, by_factors, by_loops, by_series],
    "11-3": [merged, short_formula, about_the_mean, with_rows_made_up, from_the_second, by_einsum],
    "11-4": [
        parts_by_loops,
        lambda means, counts, n_cases: n_cases * np.average(means, axis=0, weights=counts),
        lambda means, counts, n_cases: n_cases / counts.sum() * counts @ means,
        lambda means, counts, n_cases: np.einsum("r,rp->p", counts * n_cases / counts.sum(), means),
        lambda means, counts, n_cases: (means.T @ (counts / counts.sum())) * n_cases,
        lambda means, counts, n_cases: np.tensordot(counts, means, 1) * (n_cases / np.add.reduce(counts)),
    ],
}
