"""Answers to the exercises of notebook 08, the ledger."""

from fractions import Fraction
import math

import numpy as np
from scipy.special import logsumexp, softmax
from scipy.stats import rankdata

# ---- 08-1 shares_of_gap, 08-2 rise_of_q --------------------------------------------------------


def _by_diff(nlml, q_full, q_optimal, q_used):
    return tuple(np.diff([nlml, q_full, q_optimal, q_used], axis=0))


def _case_by_case(nlml, q_full, q_optimal, q_used):
    rows = [(b - a, c - b, d - c) for a, b, c, d in zip(nlml, q_full, q_optimal, q_used)]
    return tuple(np.array(column) for column in zip(*rows))


def _from_the_top(nlml, q_full, q_optimal, q_used):
    amortisation = -(q_optimal - q_used)
    return -(nlml - q_full), q_used - amortisation - q_full, amortisation


def _by_matrix(nlml, q_full, q_optimal, q_used):
    steps = np.array([[-1.0, 1, 0, 0], [0, -1, 1, 0], [0, 0, -1, 1]])
    return list(steps @ np.stack([nlml, q_full, q_optimal, q_used]))


def _rise_by_means(train, new):
    t, u = train.mean(axis=0), new.mean(axis=0)
    return u[0] - t[0], (u[2] - u[0]) - (t[2] - t[0]), (u[3] - u[2]) - (t[3] - t[2])


def _rise_by_columns(train, new):
    (a, _, c, d), (e, _, g, h) = train.T, new.T
    return np.mean(e) - np.mean(a), np.mean(g - e) - np.mean(c - a), np.mean(h - g) - np.mean(d - c)


def _rise_by_weights(train, new):
    weight = np.concatenate([np.full(len(new), 1 / len(new)), np.full(len(train), -1 / len(train))])
    table = weight @ np.concatenate([new, train])
    return table[0], table[2] - table[0], table[3] - table[2]


def _rise_from_the_sum(train, new):
    rise = np.average(new, axis=0) - np.average(train, axis=0)
    network = rise[3] - rise[2]
    return rise[0], rise[3] - rise[0] - network, network


def _rise_with_floats(train, new):
    def mean(table, take):
        return sum(take(row) for row in table.tolist()) / len(table)

    takes = (lambda r: r[0], lambda r: r[2] - r[0], lambda r: r[3] - r[2])
    return [mean(new, take) - mean(train, take) for take in takes]


def _rise_of_sums(train, new):
    t, u = train.sum(axis=0), new.sum(axis=0)
    return u[0] - t[0], (u[2] - u[0]) - (t[2] - t[0]), (u[3] - u[2]) - (t[3] - t[2])


# ---- 08-3 nlml_estimate, 08-4 error_and_size ---------------------------------------------------


def _max_out(log_w):
    top = log_w.max(axis=0)
    return -(top + np.log(np.mean(np.exp(log_w - top), axis=0)))


def _exactly(log_w):
    """With fractions, so that nothing underflows."""
    found = []
    for column in log_w.T:
        top = max(column)
        total = sum(Fraction(math.exp(v - top)) for v in column)
        found.append(-top - math.log(total / len(column)))
    return np.array(found)


def _streaming(log_w):
    """One draw after the other."""
    total = log_w[0].copy()
    for row in log_w[1:]:
        total = np.maximum(total, row) + np.log1p(np.exp(-abs(total - row)))
    return np.log(len(log_w)) - total


def _from_the_middle(log_w):
    shift = np.median(log_w, axis=0)
    return -np.log(np.exp(log_w - shift).sum(axis=0) / log_w.shape[0]) - shift


def _weights(log_w):
    w = np.exp(log_w - log_w.max(axis=0))
    return w / w.mean(axis=0)


def _size(log_w):
    return 1 / np.sum(softmax(log_w, axis=0) ** 2, axis=0)


def _error(log_w):
    w = _weights(log_w)
    return np.std(w, axis=0, ddof=1) / np.sqrt(len(w))


def _by_softmax(log_w):
    size, S = _size(log_w), len(log_w)
    return np.sqrt((S / size - 1) / (S - 1)), size


def _by_var(log_w):
    w = np.exp(log_w - np.mean(log_w, axis=0))
    return (w.var(axis=0, ddof=1) / len(w)) ** 0.5 / w.mean(axis=0), w.sum(axis=0) ** 2 / (w**2).sum(axis=0)


def _by_jackknife(log_w):
    """The standard error of a mean by leaving one out, relative."""
    w, S = _weights(log_w), len(log_w)
    left = (w.sum(axis=0) - w) / (S - 1)
    return np.sqrt((S - 1) / S * np.sum((left - 1) ** 2, axis=0)), S**2 / np.sum(w * w, axis=0)


def _by_log_space(log_w):
    S = len(log_w)
    log_size = 2 * logsumexp(log_w, axis=0) - logsumexp(2 * log_w, axis=0)
    return np.sqrt(np.expm1(np.log(S) - log_size) / (S - 1)), np.exp(log_size)


def _by_columns(log_w):
    se, size = [], []
    for column in log_w.T:
        w = np.exp(column - column.max())
        p = w.mean()
        se.append(math.sqrt(sum((v - p) ** 2 for v in w) / (len(w) * (len(w) - 1))) / p)
        size.append(w.sum() ** 2 / (w @ w))
    return np.array(se), np.array(size)


# ---- 08-5 nlml_on_grid -------------------------------------------------------------------------


def _grid_scipy(log_p, h):
    fine = -logsumexp(log_p, axis=1) - np.log(h)
    return fine, abs(fine + logsumexp(log_p[:, ::2], axis=1) + np.log(2 * h))


def _grid_shifted(log_p, h):
    top = log_p.max(axis=1)
    p = np.exp(log_p - top[:, None])
    value, coarse = (-top - np.log(p[:, ::step].sum(axis=1) * step * h) for step in (1, 2))
    return value, np.maximum(value - coarse, coarse - value)


def _grid_rows(log_p, h):
    values, certificates = [], []
    for row in log_p:
        top = max(row)
        p = [math.exp(v - top) for v in row]
        a, b = math.fsum(p) * h, math.fsum(p[::2]) * 2 * h
        values.append(-math.log(a) - top)
        certificates.append(abs(math.log(a / b)))
    return np.array(values), np.array(certificates)


def _grid_ratio(log_p, h):
    p = np.exp(log_p - log_p.mean(axis=1, keepdims=True))
    even, all_ = p[:, ::2] @ np.ones(p[:, ::2].shape[1]), p @ np.ones(p.shape[1])
    return -np.log(h * all_) - log_p.mean(axis=1), np.abs(np.log(all_) - np.log(2 * even))


def _grid_weights(log_p, h):
    G = log_p.shape[1]
    mask = np.where(np.arange(G) % 2 == 0, np.log(2 * h), -np.inf)
    fine = -np.logaddexp.reduce(log_p + np.log(h), axis=1)
    return fine, np.abs(np.logaddexp.reduce(log_p + mask, axis=1) + fine)


def _lse(log_p):
    return logsumexp(log_p, axis=1)


# ---- 08-6 ranks_and_spread ---------------------------------------------------------------------


def _spread(ranks, L):
    return np.var(ranks, axis=0) / (L * (L + 2) / 12)


def _by_loops(z, draws):
    L, (N, K) = len(draws), z.shape
    ranks = np.array([[sum(int(d[n, k] < z[n, k]) for d in draws) for k in range(K)] for n in range(N)])
    return ranks, np.array([12 * np.mean((c - c.mean()) ** 2) / (L * (L + 2)) for c in ranks.T])


def _by_rankdata(z, draws):
    ranks = rankdata(np.concatenate([z[None], draws]), axis=0)[0].astype(int) - 1
    return ranks, ranks.var(axis=0) / ((len(draws) + 1) ** 2 - 1) * 12


def _by_argsort(z, draws):
    ranks = np.argmax(np.argsort(np.concatenate([draws, z[None]]), axis=0) == len(draws), axis=0)
    return ranks, _spread(ranks, len(draws))


def _by_signs(z, draws):
    L = len(draws)
    ranks = np.count_nonzero(np.sign(z - draws) > 0, axis=0)
    return ranks, (np.mean(ranks**2, axis=0) - np.mean(ranks, axis=0) ** 2) * 12 / (L**2 + 2 * L)


def _by_cov(z, draws):
    ranks = len(draws) - (draws >= z).sum(axis=0)
    flat = np.arange(len(draws) + 1).var()
    return [ranks, np.diag(np.cov(ranks.T, bias=True)) / flat]


def _weights_error(log_w):
    w = np.exp(log_w - log_w.max(axis=0))
    return w.std(axis=0, ddof=1) / len(w) ** 0.5 / w.mean(axis=0)


WRONG = {
    "08-1": {
        "is counted from the best Gaussian q": lambda a, b, c, d: (b - a, c - b, d - b),
        "is counted to the best diagonal q": lambda a, b, c, d: (c - a, c - b, d - c),
        "nats are asked for": lambda a, b, c, d: ((b - a) / (d - a), (c - b) / (d - a), (d - c) / (d - a)),
        "all three have their sign turned": lambda a, b, c, d: (a - b, b - c, c - d),
        "the amortisation gap has its sign turned": lambda a, b, c, d: (b - a, c - b, c - d),
        "not Gaussian comes first": lambda a, b, c, d: (d - c, c - b, b - a),
        "each is counted from nlml on": lambda a, b, c, d: (b - a, c - a, d - a),
        "diagonal is the whole approximation gap": lambda a, b, c, d: (b - a, c - a, d - c),
        "the best Gaussian q are exchanged": lambda a, b, c, d: (c - a, b - c, d - b),
        "what the family costs is not": lambda a, b, c, d: (b - a, c - b, d - a),
        "axis 0 of length N": lambda a, b, c, d: (np.mean(b - a), np.mean(c - b), np.mean(d - c)),
    },
    "08-2": {
        "ends at the best Gaussian q": lambda train, new: (lambda d: (d[0], d[1] - d[0], d[3] - d[2]))(
            new.mean(0) - train.mean(0)
        ),
        "take means": _rise_of_sums,
        "the sign: a rise": lambda train, new: tuple(-v for v in _rise_by_means(train, new)),
        "the family's part lacks": lambda train, new: (
            _rise_by_means(train, new)[0], np.mean(new @ [0, -1, 1, 0]) - np.mean(train @ [0, -1, 1, 0]),
            _rise_by_means(train, new)[2],
        ),
        "how far the columns rise": lambda train, new: tuple((new.mean(0) - train.mean(0))[[0, 2, 3]]),
        "the first part is the model's own": lambda train, new: tuple(
            np.diff(new.mean(axis=0) - train.mean(axis=0))
        ),
        "on new cases alone": lambda train, new: _rise_by_means(0 * train, new),
        "is all of Q − nlml here": lambda train, new: (
            *_rise_by_means(train, new)[:2], np.mean(new @ [-1, 0, 0, 1]) - np.mean(train @ [-1, 0, 0, 1]),
        ),
    },
    "08-3": {
        "log S has the wrong sign": lambda log_w: -logsumexp(log_w, axis=0) - np.log(len(log_w)),
        "which estimates Q": lambda log_w: -np.mean(log_w, axis=0),
        "1/S is forgotten": lambda log_w: -logsumexp(log_w, axis=0),
        "the sign: NLML is minus": lambda log_w: np.logaddexp.reduce(log_w, axis=0) - np.log(len(log_w)),
        "it is over the draws, axis 0": lambda log_w: np.log(log_w.shape[1]) - logsumexp(log_w, axis=1),
        "only the largest weight": lambda log_w: -np.max(log_w, axis=0),
        "put back with the wrong sign": lambda log_w: -np.log(
            np.mean(np.exp(log_w - np.max(log_w, axis=0)), axis=0)
        ) + np.max(log_w, axis=0),
        "not added again behind the log": lambda log_w: -np.log(
            np.mean(np.exp(log_w - np.max(log_w, axis=0)), axis=0)
        ),
        "it is not finite": lambda log_w: -np.log(np.mean(np.exp(log_w), axis=0)),
    },
    "08-4": {
        "over the largest: the squares": lambda log_w: (
            _weights_error(log_w), 1 / softmax(log_w, axis=0).max(axis=0)
        ),
        "the error is that of one weight": lambda log_w: (_weights(log_w).std(axis=0, ddof=1), _size(log_w)),
        "the error is over S": lambda log_w: (_weights(log_w).std(axis=0, ddof=1) / len(log_w), _size(log_w)),
        "the root of the number of data cases": lambda log_w: (
            _weights(log_w).std(axis=0, ddof=1) / np.sqrt(log_w.shape[1]), _size(log_w)
        ),
        "in the error the divisor under the root is S": lambda log_w: (
            np.std(_weights(log_w), axis=0) / np.sqrt(len(log_w)), _size(log_w)
        ),
        "the error is a variance": lambda log_w: (_error(log_w) ** 2, _size(log_w)),
        "that of the mean of log ω": lambda log_w: (
            np.std(log_w, axis=0, ddof=1) / np.sqrt(len(log_w)), _size(log_w)
        ),
        "the error is not relative": lambda log_w: (
            np.exp(log_w - log_w.max(axis=0)).std(axis=0, ddof=1) / len(log_w) ** 0.5, _size(log_w)
        ),
        "the size is upside down": lambda log_w: (_error(log_w), 1 / _size(log_w)),
        "the square of the sum is left out": lambda log_w: (
            _error(log_w), np.exp(logsumexp(log_w, 0) - logsumexp(2 * log_w, 0) + np.max(log_w, 0))
        ),
        "this is the share of the draws": lambda log_w: (_error(log_w), _size(log_w) / len(log_w)),
    },
    "08-5": {
        "from the second on": lambda log_p, h: (lambda fine, odd: (fine, abs(fine - odd)))(
            -logsumexp(log_p, axis=1) - np.log(h), -logsumexp(log_p[:, 1::2], axis=1) - np.log(2 * h)
        ),
        "and here it is h/2": lambda log_p, h: (lambda fine, some: (fine, abs(fine - some)))(
            -logsumexp(log_p, axis=1) - np.log(h), -logsumexp(log_p[:, ::2], axis=1) - np.log(h / 2)
        ),
        "the mesh is left out": lambda log_p, h: (
            -_lse(log_p), np.abs(_lse(log_p) - _lse(log_p[:, ::2]) - np.log(2))
        ),
        "here both sums have h": lambda log_p, h: (
            -_lse(log_p) - np.log(h), np.abs(_lse(log_p) - _lse(log_p[:, ::2]))
        ),
        "a size, and never below 0": lambda log_p, h: (
            -_lse(log_p) - np.log(h), _lse(log_p[:, ::2]) + np.log(2) - _lse(log_p)
        ),
        "without a sign": lambda log_p, h: (
            -_lse(log_p) - np.log(h), _lse(log_p) - np.log(2) - _lse(log_p[:, ::2])
        ),
        "a difference of integrals": lambda log_p, h: (
            -_lse(log_p) - np.log(h),
            np.abs(np.exp(log_p).sum(axis=1) * h - np.exp(log_p[:, ::2]).sum(axis=1) * 2 * h),
        ),
        "log h has the wrong sign": lambda log_p, h: (
            -_lse(log_p) + np.log(h), np.abs(_lse(log_p) - _lse(log_p[:, ::2]) - np.log(2))
        ),
        "the sign: NLML is minus": lambda log_p, h: (
            _lse(log_p) + np.log(h), np.abs(_lse(log_p) - _lse(log_p[:, ::2]) - np.log(2))
        ),
        "a mean over the lattice": lambda log_p, h: (
            -np.log(np.mean(np.exp(log_p - log_p.max()), axis=1)) - log_p.max(),
            np.abs(
                np.log(np.mean(np.exp(log_p - log_p.max()), axis=1))
                - np.log(np.mean(np.exp(log_p - log_p.max())[:, ::2], axis=1))
            ),
        ),
        "compared with the other half": lambda log_p, h: (
            -_lse(log_p) - np.log(h), np.abs(_lse(log_p[:, ::2]) - _lse(log_p[:, 1::2]))
        ),
        "the value is that of the coarse lattice": lambda log_p, h: (
            -_lse(log_p[:, ::2]) - np.log(2 * h), np.abs(_lse(log_p) - _lse(log_p[:, ::2]) - np.log(2))
        ),
    },
    "08-6": {
        "(L² − 1) / 12 is the variance of L": lambda z, draws: (
            (draws < z).sum(0), (draws < z).sum(0).var(0) * 12 / (len(draws) ** 2 - 1)
        ),
        "the draws above z̃ are counted": lambda z, draws: ((draws > z).sum(0), _by_loops(z, draws)[1]),
        "a share of the draws came back": lambda z, draws: ((draws < z).mean(0), _by_loops(z, draws)[1]),
        "the ranks are counted from 1": lambda z, draws: (1 + (draws < z).sum(0), _by_loops(z, draws)[1]),
        "of a number flat on 0 to L": lambda z, draws: (
            (draws < z).sum(0), np.var((draws < z).mean(0), axis=0) * 12
        ),
        "this is one of standard deviations": lambda z, draws: (
            (draws < z).sum(0), np.sqrt(_spread((draws < z).sum(0), len(draws)))
        ),
        "over the data cases, axis 0": lambda z, draws: (
            (draws < z).sum(0), (draws < z).sum(0).var(axis=1) * 12 / len(draws) / (len(draws) + 2)
        ),
        "has the divisor N − 1": lambda z, draws: (
            (draws < z).sum(0), (draws < z).sum(0).var(axis=0, ddof=1) * 12 / len(draws) / (len(draws) + 2)
        ),
        "not yet divided": lambda z, draws: ((draws < z).sum(0), (draws < z).sum(0).var(axis=0)),
    },
    "08-7": {
        "which lies higher for every model": {
            "A": "nothing", "B": "nothing", "C": "a constant", "D": "few draws", "E": "two data sets",
        },
        "B has all constants": {
            "A": "two bounds", "B": "a constant", "C": "a constant", "D": "few draws", "E": "two data sets",
        },
        "no over-fitting is so exact": {
            "A": "two bounds", "B": "nothing", "C": "nothing", "D": "few draws", "E": "two data sets",
        },
        "it cannot exceed one nat": {
            "A": "two bounds", "B": "nothing", "C": "a constant", "D": "nothing", "E": "two data sets",
        },
        "nats apart for one and the same model": {
            "A": "two bounds", "B": "nothing", "C": "a constant", "D": "few draws", "E": "nothing",
        },
        "a dict is asked for": ["two bounds", "nothing", "a constant", "few draws", "two data sets"],
        "nothing is chosen for D": {"A": "two bounds", "B": "nothing", "C": "a constant", "E": ""},
    },
}

RIGHT = {
    "08-1": [
        _by_diff, _case_by_case, _from_the_top, _by_matrix,
        lambda a, b, c, d: (np.subtract(b, a), np.subtract(c, b), np.subtract(d, c)),
    ],
    "08-2": [_rise_by_means, _rise_by_columns, _rise_by_weights, _rise_from_the_sum, _rise_with_floats],
    "08-3": [
        _max_out, _exactly, _streaming, _from_the_middle,
        lambda log_w: np.log(len(log_w)) - logsumexp(log_w, axis=0),
    ],
    "08-4": [_by_softmax, _by_var, _by_jackknife, _by_log_space, _by_columns],
    "08-5": [_grid_scipy, _grid_shifted, _grid_rows, _grid_ratio, _grid_weights],
    "08-6": [_by_loops, _by_rankdata, _by_argsort, _by_signs, _by_cov],
    "08-7": [
        {"A": "two bounds", "B": "nothing", "C": "a constant", "D": "few draws", "E": "two data sets"},
        {"E": "two data sets", "D": "few draws", "C": "a constant", "B": "nothing", "A": "two bounds"},
    ],
}
