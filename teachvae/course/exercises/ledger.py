"""The exercises of notebook 08, the ledger."""

import math

import numpy as np

from ...evaluation.gaps import Gaps
from ..exercise import Exercise, by_choice, by_value

# ---- the shares, and what makes Q rise -----------------------------------------------------------


def _rising(rng, n_cases):
    """Four columns (n, 4): nlml, and Q of the best Gaussian, of the best of the family, of the φ in use."""
    steps = rng.exponential(size=(n_cases, 4)) * [0.0, 0.4, 0.8, 2.0] + [0.0, 0.05, 0.1, 0.2]
    return np.cumsum(steps, axis=1) + 10 * rng.standard_normal((n_cases, 1)) - 40


def _four(rng, n):
    return dict(zip(("nlml", "q_full", "q_optimal", "q_used"), _rising(rng, n.N).T.copy()))


def _shares(nlml, q_full, q_optimal, q_used):
    ledger = Gaps(nlml, q_full, q_optimal, q_used, *[None] * 7)
    return ledger.not_gaussian, ledger.diagonal, ledger.amortisation


SHARES = Exercise(
    "08-1", "shares_of_gap", "10.1", "what the shape, the axes and the network cost, for every data case",
    _four, by_value(_shares, names=["not Gaussian", "diagonal", "amortisation"]),
    {
        "all three have their sign turned: Q is minimised, so the better of two q is the one to subtract":
            lambda nlml, q_full, q_optimal, q_used: (nlml - q_full, q_full - q_optimal, q_optimal - q_used),
        "the amortisation gap has its sign turned: the best q of the family comes second, so that it is ≥ 0":
            lambda nlml, q_full, q_optimal, q_used: (q_full - nlml, q_optimal - q_full, q_optimal - q_used),
        "the three are in the order of the bound from above: not Gaussian comes first":
            lambda nlml, q_full, q_optimal, q_used: (q_used - q_optimal, q_optimal - q_full, q_full - nlml),
        "each is counted from nlml on, so that the first is in all of them: from one q to the next":
            lambda nlml, q_full, q_optimal, q_used: (q_full - nlml, q_optimal - nlml, q_used - nlml),
        "diagonal is the whole approximation gap here: what no Gaussian saves is a share of its own":
            lambda nlml, q_full, q_optimal, q_used: (q_full - nlml, q_optimal - nlml, q_used - q_optimal),
        "the amortisation gap is all of Q − nlml here: what the family costs is not the network's":
            lambda nlml, q_full, q_optimal, q_used: (q_full - nlml, q_optimal - q_full, q_used - nlml),
        "the best diagonal and the best Gaussian q are exchanged":
            lambda nlml, q_full, q_optimal, q_used: (q_optimal - nlml, q_full - q_optimal, q_used - q_full),
        "each is counted up to Q in use, so that the last is in all of them: from one q to the next":
            lambda nlml, q_full, q_optimal, q_used: (q_used - nlml, q_used - q_full, q_used - q_optimal),
        "amortisation is counted from the best Gaussian q: the network names diagonal "
        "ones, and what the axes cost is a share of its own":
            lambda nlml, q_full, q_optimal, q_used: (q_full - nlml, q_optimal - q_full, q_used - q_full),
        "not Gaussian is counted to the best diagonal q: what the axes cost is a share of its own":
            lambda nlml, q_full, q_optimal, q_used: (
                q_optimal - nlml, q_optimal - q_full, q_used - q_optimal
            ),
        "these are parts of the whole gap: nats are asked for":
            lambda nlml, q_full, q_optimal, q_used: tuple(
                share / (q_used - nlml) for share in _shares(nlml, q_full, q_optimal, q_used)
            ),
    },
)


def _two_tables(rng, n):
    """The four columns of N training cases and of S new ones, whose network is worse."""
    new = _rising(rng, n.S)
    new[:, 3] += 1 + rng.random(n.S)
    return {"train": _rising(rng, n.N), "new": new + 3}


def _rise(train, new):
    def mean(table, a, b):
        return math.fsum(float(row[a]) - (0.0 if b is None else float(row[b])) for row in table) / len(table)

    return tuple(mean(new, a, b) - mean(train, a, b) for a, b in ((0, None), (2, 0), (3, 2)))


def _of_columns(function):
    """A mistake: function of the columns' means over new and over training cases."""
    return lambda train, new: tuple(function(new.mean(axis=0), train.mean(axis=0)))


RISE_OF_Q = Exercise(
    "08-2", "rise_of_q", "12.2", "who is to blame that Q is higher on new data: model, family or network",
    _two_tables, by_value(_rise, names=["model", "family", "network"]),
    {
        "sums over the cases are subtracted, and there are more of one kind than of the other: take means":
            lambda train, new: tuple(
                v(new.sum(axis=0)) - v(train.sum(axis=0))
                for v in (lambda c: c[0], lambda c: c[2] - c[0], lambda c: c[3] - c[2])
            ),
        "the sign: a rise is what new cases cost more than training cases":
            _of_columns(lambda u, t: (t[0] - u[0], t[2] - t[0] - u[2] + u[0], t[3] - t[2] - u[3] + u[2])),
        "the family's part lacks what no Gaussian saves: the approximation gap is counted from nlml on":
            _of_columns(lambda u, t: (u[0] - t[0], u[2] - u[1] - t[2] + t[1], u[3] - u[2] - t[3] + t[2])),
        "the three are how far the columns rise: a gap is the difference of two columns":
            _of_columns(lambda u, t: (u[0] - t[0], u[2] - t[2], u[3] - t[3])),
        "these are the rises of the three shares of Q − nlml: the first part is the model's own, NLML":
            _of_columns(lambda u, t: np.diff(u - t)),
        "these are the means on new cases alone: subtract what the training cases have":
            _of_columns(lambda u, t: (u[0], u[2] - u[0], u[3] - u[2])),
        "the network's part is all of Q − nlml here: the family's is counted twice":
            _of_columns(lambda u, t: (u[0] - t[0], u[2] - u[0] - t[2] + t[0], u[3] - u[0] - t[3] + t[0])),
        "the family's part ends at the best Gaussian q, and the family is the diagonal ones":
            _of_columns(lambda u, t: (u[0] - t[0], u[1] - u[0] - t[1] + t[0], u[3] - u[2] - t[3] + t[2])),
        "the best Gaussian q stands where the best diagonal one belongs, column 2":
            _of_columns(lambda u, t: (u[0] - t[0], u[1] - u[0] - t[1] + t[0], u[3] - u[1] - t[3] + t[1])),
        "the order: the model comes first, the network last":
            _of_columns(lambda u, t: (u[3] - u[2] - t[3] + t[2], u[2] - u[0] - t[2] + t[0], u[0] - t[0])),
    },
)

# ---- importance weights --------------------------------------------------------------------------


def _log_weights(rng, n):
    """log ω (S, N), as small as those of images are: exp of them is 0 in double precision, and still is for
    some cases where the largest of all of them is taken out.
    """
    return {"log_w": -770 - 180 * rng.permutation(n.N) + 2.5 * rng.standard_normal((n.S, n.N))}


def _log_mean(log_w):
    return math.log(len(log_w)) - np.logaddexp.reduce(log_w, axis=0)


NLML_ESTIMATE = Exercise(
    "08-3", "nlml_estimate", "7.1", "NLML by importance sampling, from the logarithms of the weights",
    _log_weights, by_value(_log_mean, names=["nlml"]),
    {
        "this is the mean of −log ω, which estimates Q: first the mean of the weights, then the logarithm":
            lambda log_w: -log_w.mean(axis=0),
        "1/S is forgotten: under the logarithm a sum stands where a mean belongs, which is log S off":
            lambda log_w: _log_mean(log_w) - math.log(len(log_w)),
        "the sign: NLML is minus the logarithm of the mean weight": lambda log_w: -_log_mean(log_w),
        "the mean is over the data cases: it is over the draws, axis 0, and each data case keeps its own":
            lambda log_w: _log_mean(log_w.T),
        "only the largest weight of each case is taken: the others count, too":
            lambda log_w: -log_w.max(axis=0),
        "the largest logarithm is put back with the wrong sign: it is added to the log, inside of the minus":
            lambda log_w: _log_mean(log_w) + 2 * log_w.max(axis=0),
        "the largest logarithm was subtracted before exp, and not added again behind the log":
            lambda log_w: _log_mean(log_w - log_w.max(axis=0)),
        "log S has the wrong sign: the sum is divided by S, so log S is taken off its logarithm":
            lambda log_w: _log_mean(log_w) - 2 * math.log(len(log_w)),
        "divided by the number of data cases, where it is that of draws, S":
            lambda log_w: _log_mean(log_w) + math.log(log_w.shape[1] / len(log_w)),
    },
)


def _error_and_size(log_w):
    shares = np.exp(log_w - np.logaddexp.reduce(log_w, axis=0))
    S, concentration = len(log_w), np.sum(shares**2, axis=0)
    return np.sqrt((S * concentration - 1) / (S - 1)), 1 / concentration


def _but(error=None, size=None):
    """A mistake in one of the two: a function of weights (S, N) of which the mean is 1."""
    def made(log_w):
        w = np.exp(log_w + _log_mean(log_w))
        se, s_eff = _error_and_size(log_w)
        return (se if error is None else error(w), s_eff if size is None else size(w))

    return made


ERROR_AND_SIZE = Exercise(
    "08-4", "error_and_size", "7.2", "how far to trust it: standard error and effective sample size",
    _log_weights, by_value(_error_and_size, names=["standard error", "effective sample size"]),
    {
        "the size is right; the error is that of one weight: of a mean of S it is smaller by √S":
            _but(error=lambda w: w.std(axis=0, ddof=1)),
        "the size is right; the error is over S, and that of a mean of S is over √S":
            _but(error=lambda w: w.std(axis=0, ddof=1) / len(w)),
        "the size is right; the error is over the root of the number of data cases, and of draws is asked":
            _but(error=lambda w: w.std(axis=0, ddof=1) / w.shape[1] ** 0.5),
        "the size is right; in the error the divisor under the root is S, where S − 1 makes it unbiased":
            _but(error=lambda w: w.std(axis=0) / len(w) ** 0.5),
        "the size is right; the error is a variance: take its root":
            _but(error=lambda w: w.var(axis=0, ddof=1) / len(w)),
        "the size is right; the error is that of the mean of log ω, and the logarithm of a mean is asked for":
            lambda log_w: (log_w.std(axis=0, ddof=1) / len(log_w) ** 0.5, _error_and_size(log_w)[1]),
        "the size is right; the error is not relative: d log ŵ = dŵ / ŵ, so divide by the mean weight":
            lambda log_w: (
                np.exp(log_w - log_w.max(axis=0)).std(axis=0, ddof=1) / len(log_w) ** 0.5,
                _error_and_size(log_w)[1],
            ),
        "the error is right; the size is upside down: (Σω)² is above, Σω² below":
            _but(size=lambda w: np.sum(w**2, axis=0) / np.sum(w, axis=0) ** 2),
        "the error is right; the size is (Σω)²/Σω², and the square of the sum is left out":
            _but(size=lambda w: np.sum(w / w.max(axis=0), axis=0) / np.sum((w / w.max(axis=0)) ** 2, axis=0)),
        "the error is right; this is the share of the draws, S_eff / S":
            _but(size=lambda w: np.sum(w, axis=0) ** 2 / np.sum(w**2, axis=0) / len(w)),
        "the error is right; this is the sum of the weights over the largest: the squares are asked for":
            _but(size=lambda w: np.sum(w, axis=0) / w.max(axis=0)),
        "the error is right; the size is that of equal weights, S, and these are not equal":
            _but(size=lambda w: np.full(w.shape[1], float(len(w)))),
        "the two are exchanged: first the error, then the size":
            lambda log_w: _error_and_size(log_w)[::-1],
    },
)

# ---- a lattice and its certificate -----------------------------------------------------------------


def _on_a_lattice(rng, n):
    """log p(x_n, z_g) on 2S + 1 points z_g, a mesh h apart, of posteriors of about that width."""
    h = 0.4 + 0.2 * rng.random()
    z = h * np.arange(-n.S, n.S + 1)
    mean, sigma = h * rng.uniform(-1, 1, (n.N, 1)), h * rng.uniform(0.45, 0.65, (n.N, 1))
    tilt = 0.3 * np.tanh(z + 0.4)
    size = rng.uniform(-60, -20, (n.N, 1))
    return {"log_p": -0.5 * ((z - mean) / sigma) ** 2 + tilt + size, "h": h}


def _lattice(log_p, h):
    fine, coarse = (
        -np.array([np.logaddexp.reduce(list(row[::step])) + math.log(step * h) for row in log_p])
        for step in (1, 2)
    )
    return fine, np.abs(fine - coarse)


def _lse(log_p):
    return np.logaddexp.reduce(log_p, axis=1)


NLML_ON_GRID = Exercise(
    "08-5", "nlml_on_grid", "7.4", "NLML by a sum over a lattice, and how far to trust it",
    _on_a_lattice, by_value(_lattice, names=["nlml", "certificate"]),
    {
        "the mesh is left out: an integral is the sum times h":
            lambda log_p, h: (-_lse(log_p), np.abs(_lse(log_p[:, ::2]) + math.log(2) - _lse(log_p))),
        "right except for the certificate: every other point has the mesh 2h, and here both sums have h":
            lambda log_p, h: (_lattice(log_p, h)[0], np.abs(_lse(log_p[:, ::2]) - _lse(log_p))),
        "right except for the certificate: it is how far the value moved, a size, and never below 0":
            lambda log_p, h: (_lattice(log_p, h)[0], _lse(log_p[:, ::2]) + math.log(2) - _lse(log_p)),
        "right except for the certificate: it is how far the value moved, a size, without a sign":
            lambda log_p, h: (_lattice(log_p, h)[0], _lse(log_p) - math.log(2) - _lse(log_p[:, ::2])),
        "right except for the certificate: it is a difference of integrals, and one of nats is asked for":
            lambda log_p, h: (
                _lattice(log_p, h)[0], np.abs(h * np.exp(_lse(log_p)) - 2 * h * np.exp(_lse(log_p[:, ::2])))
            ),
        "log h has the wrong sign: the integral is the sum times h, so −log h belongs to NLML":
            lambda log_p, h: (_lattice(log_p, h)[0] + 2 * math.log(h), _lattice(log_p, h)[1]),
        "the sign: NLML is minus the logarithm of the integral":
            lambda log_p, h: (-_lattice(log_p, h)[0], _lattice(log_p, h)[1]),
        "a mean over the lattice stands where an integral belongs: the sum times the mesh":
            lambda log_p, h: (
                math.log(log_p.shape[1]) - _lse(log_p),
                np.abs(_lse(log_p[:, ::2]) - _lse(log_p) + math.log(log_p.shape[1] / log_p[:, ::2].shape[1])),
            ),
        "right except for the certificate: one half of the lattice is compared with the other half":
            lambda log_p, h: (_lattice(log_p, h)[0], np.abs(_lse(log_p[:, ::2]) - _lse(log_p[:, 1::2]))),
        "the value is that of the coarse lattice: keep the finer one":
            lambda log_p, h: (-_lse(log_p[:, ::2]) - math.log(2 * h), _lattice(log_p, h)[1]),
        "right except for the certificate: every other point from the second on, where the first is asked":
            lambda log_p, h: (
                _lattice(log_p, h)[0], np.abs(_lse(log_p[:, 1::2]) + math.log(2) - _lse(log_p))
            ),
        "right except for the certificate: the mesh of every other point is 2h, and here it is h/2":
            lambda log_p, h: (
                _lattice(log_p, h)[0], np.abs(_lse(log_p[:, ::2]) - math.log(2) - _lse(log_p))
            ),
        "right except for the certificate: this is the coarse value itself; how far apart are the two?":
            lambda log_p, h: (_lattice(log_p, h)[0], -_lse(log_p[:, ::2]) - math.log(2 * h)),
        "right except for the certificate: it is divided by the value; nats are asked for":
            lambda log_p, h: (_lattice(log_p, h)[0], _lattice(log_p, h)[1] / np.abs(_lattice(log_p, h)[0])),
        "the mesh is left out of both: an integral is the sum times h":
            lambda log_p, h: (-_lse(log_p), np.abs(_lse(log_p[:, ::2]) - _lse(log_p))),
    },
)

# ---- calibration ---------------------------------------------------------------------------------


def _truth_and_draws(rng, n):
    """What made the data cases, z (N, K), and S draws of q for each, (S, N, K), shifted and too narrow."""
    return {
        "z": rng.standard_normal((n.N, n.K)),
        "draws": 0.3 + 0.8 * rng.standard_normal((n.S, n.N, n.K)),
    }


def _ranks(z, draws):
    L = len(draws)
    ranks = np.stack([
        [np.searchsorted(np.sort(draws[:, n, k]), z[n, k]) for k in range(z.shape[1])] for n in range(len(z))
    ])
    # Var[r] by pairs, over the variance of flat ranks, by the sum over 0 … L.
    pairs = 0.5 * np.mean((ranks[:, None] - ranks[None]) ** 2.0, axis=(0, 1))
    return ranks, pairs / (sum(r * r for r in range(L + 1)) / (L + 1) - (L / 2) ** 2)


def _spread_by(function):
    """A mistake in the spread: function of ranks (N, K) and L."""
    return lambda z, draws: ((draws < z).sum(axis=0), function((draws < z).sum(axis=0), len(draws)))


RANKS_AND_SPREAD = Exercise(
    "08-6", "ranks_and_spread", "10.13", "where the truth stands among draws of q; whether q is too narrow",
    _truth_and_draws, by_value(_ranks, names=["ranks", "spread"]),
    {
        "the draws above z̃ are counted: a rank counts those below it":
            lambda z, draws: ((draws > z).sum(axis=0), _ranks(z, draws)[1]),
        "a share of the draws came back for the rank: count them, from 0 to L":
            lambda z, draws: ((draws < z).mean(axis=0), _ranks(z, draws)[1]),
        "the ranks are counted from 1: where no draw lies below z̃ it is 0":
            lambda z, draws: ((draws < z).sum(axis=0) + 1, _ranks(z, draws)[1]),
        "the ranks are right; L² / 12 is the variance of a number flat on 0 to L: of whole numbers it is "
        "L (L + 2) / 12":
            _spread_by(lambda r, L: r.var(axis=0) / (L**2 / 12)),
        "the ranks are right; the spread is a ratio of variances, and this is one of standard deviations":
            _spread_by(lambda r, L: r.std(axis=0) / (L * (L + 2) / 12) ** 0.5),
        "the ranks are right; the variance is taken over the latent variables: over the data cases, axis 0":
            _spread_by(lambda r, L: r.var(axis=1) / (L * (L + 2) / 12)),
        "the ranks are right; the variance has the divisor N − 1, and N is asked for":
            _spread_by(lambda r, L: r.var(axis=0, ddof=1) / (L * (L + 2) / 12)),
        "the ranks are right; ranks from 0 to L are L + 1 numbers, and (L² − 1) / 12 is the variance of L":
            _spread_by(lambda r, L: r.var(axis=0) / ((L**2 - 1) / 12)),
        "the ranks are right; their mean square is taken, and the variance is about their mean":
            _spread_by(lambda r, L: np.mean(r**2.0, axis=0) / (L * (L + 2) / 12)),
        "the ranks are right; the spread is not yet divided by the variance that flat ranks have":
            _spread_by(lambda r, L: r.var(axis=0)),
    },
)

# ---- sound or not ----------------------------------------------------------------------------------

CLAIMS = {"A": "two bounds", "B": "nothing", "C": "a constant", "D": "few draws", "E": "two data sets"}
REASONS = {
    ("A", "two data sets"): "A's numbers are about the same test data: look at what each of them is called",
    ("A", "a constant"): "A's models have the same likelihood, constants and all: what was computed of each?",
    ("A", "few draws"): "A compares 5000 draws with none: Q is another bound, however many draws there are",
    ("A", "nothing"): "A's 86.4 is an L_k of 5000 draws and its 87.9 a Q, which lies higher for every model",
    ("B", "two bounds"): "B names one number only: is a negative NLML a mistake at all?",
    ("B", "two data sets"): "B is about one set of data: must a density be smaller than one?",
    ("B", "a constant"): "B has all constants: pixels are continuous, and a density may be larger than one",
    ("B", "few draws"): "B took the grid, where nothing is drawn: a density may be larger than one",
    ("C", "two bounds"): "C's numbers are both Q: by how much do they differ, for each of the 64 pixels?",
    ("C", "two data sets"): "C took the same data twice: how much is it for each of the 64 pixels?",
    ("C", "few draws"): "C's difference is the same for all cases, so it is no noise: divide it by 64",
    ("C", "nothing"): "C's difference is 64 times ½ log 2π to all digits: no over-fitting is so exact",
    ("D", "two bounds"): "D names one estimate only: how many draws carry it?",
    ("D", "two data sets"): "D is about one data case: how many draws carry it?",
    ("D", "a constant"): "D's weights are whole: how many of them count, when S_eff is 1.2?",
    ("D", "nothing"): "D's error comes from the weights that were met, and it cannot exceed one nat",
    ("E", "two bounds"): "E takes Q of both: how were the zeros and ones of the two tests made?",
    ("E", "a constant"): "E's likelihood has no constant: how were the zeros and ones of the tests made?",
    ("E", "few draws"): "E's means are over 10 000 images: how were their zeros and ones made?",
    ("E", "nothing"): "E binarises in two ways, which are nats apart for one and the same model",
}

SOUND = Exercise(
    "08-7", "claims", "7.8", "what is wrong with the numbers of five sentences, if anything",
    None, by_choice(CLAIMS, REASONS),
)

EXERCISES = [SHARES, RISE_OF_Q, NLML_ESTIMATE, ERROR_AND_SIZE, NLML_ON_GRID, RANKS_AND_SPREAD, SOUND]
