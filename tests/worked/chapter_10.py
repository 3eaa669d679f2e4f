"""The worked examples of chapter 10."""

import math

import numpy as np
from scipy import stats
from worked import example

from teachvae import expectations
from teachvae.arrays.special import log_factorial, log_poisson_peak, poisson_quantile
from teachvae.arrays.observed import Observed
from teachvae.datasets import bits_per_dimension
from teachvae.likelihoods import (
    Bernoulli, Categorical, Gaussian, Mixed, Poisson, PredictedGaussian, StudentT, relaxed_bernoulli
)
from teachvae.model import Model

MODEL, THETA = example.linear()
X, PSI, PARAMS = example.x, example.psi, THETA["likelihood"]
F, _ = MODEL.f(THETA, example.z)                                   # (S, N, D)
TWO = F[:, 0]                                                      # (1.5, 4) and (-0.5, 0)
LOG_2PI, LOG3 = math.log(2 * math.pi), math.log(3)
CONSTANTS = np.sum(np.log(PSI)) + 2 * LOG_2PI

BITS = np.array([[1.0, 0.0], [1.0, 1.0]])
COUNTS = np.array([[2.0, 0.0], [4.0, 4.0]])
LOGITS = np.array([[LOG3, 0.0], [0.0, LOG3]])                      # and logarithms of rates
ONE_HOT = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
SCORES = np.array([[math.log(2), 0.0, 0.0], [0.0, 0.0, 0.0]])

PREDICTED = PredictedGaussian(2, 0.25)
FIRST = np.array([1.5, 4.0, math.log(0.75), math.log(1.75)])       # m = (1.5, 4), v = (1, 2)
T = StudentT(2, 4.0)
MIXED = Mixed(((Gaussian(1, 1.0), [0]), (Bernoulli(1), [1])))


def value(p, params, f, x, mask=None):
    """log p(x|f) of one row."""
    return p.forward(params, f[None, None], x[None], mask)[0][0, 0]


def gradient(p, params, f, x, mask=None):
    """df of one row, where dlog_p is 1."""
    _, cache = p.forward(params, f[None, None], x[None], mask)
    return p.backward(params, cache, np.ones((1, 1)))[0][0, 0]


def all_gradients(p, params, mask=None):
    """df (S, N, D) and dlog_psi at the running example's f, where all dlog_p are 1."""
    log_p, cache = p.forward(params, F, X, mask)
    df, dparams = p.backward(params, cache, np.ones_like(log_p))
    return df, dparams.get("log_psi")


def eq_5_40():
    one, other = Bernoulli(1).mean({}, np.array([LOG3, 0.0]))
    both = [math.exp(value(Bernoulli(2), {}, LOGITS[0], np.array([1.0, v]))) for v in (1, 0)]
    yield from (one, other, one, other, one, 1 - other, sum(both))
    seen = Observed(X[:1], np.array([[1.0, 0.0]]))
    yield from (F[0, 0, 0], (X - F[0])[0, 0] ** 2)
    yield MODEL.log_likelihood(THETA, seen, example.z[:1, :1])[0][0, 0]


def eq_5_42():
    df, dlog_psi = all_gradients(Gaussian(2), PARAMS, np.array([[1.0, 0.0], [1.0, 1.0]]))
    yield from (*df[0, 0], *all_gradients(Gaussian(2), PARAMS)[0][0, 0])
    yield from dlog_psi[::-1]


def eq_5_44():
    p, f = Bernoulli(1), np.array([LOG3])
    mean = p.mean({}, f)[0]
    up, down = (gradient(p, {}, f, np.array([v]))[0] for v in (1.0, 0.0))
    yield from (mean, up, down)
    yield from (mean, up, 1 - mean, down, mean * up + (1 - mean) * down)
    h = 1e-5
    slope = (gradient(p, {}, f + h, np.ones(1)) - gradient(p, {}, f - h, np.ones(1)))[0] / (2 * h)
    yield from (mean, 1 - mean, -slope)


def eq_5_1():
    log_p, cache = Gaussian(2).forward(PARAMS, F, X)
    residual, squares = cache[:2]
    quadratic = squares @ (1 / PSI)
    yield from (example.z[0, 0, 0], F[0, 0, 0], residual[0, 0, 0], squares[0, 0, 0], quadratic[0, 0])
    yield from (CONSTANTS, quadratic[0, 0], CONSTANTS, log_p[0, 0])
    yield from (F[0, 1, 0], F[1, 0, 0], quadratic[0, 1], quadratic[1, 0], quadratic[1, 1])
    yield from (log_p[0, 1], log_p[1, 0], log_p[1, 1])


def eq_5_2():
    df, _ = all_gradients(Gaussian(2), PARAMS)
    r = X - F
    yield from (r[0, 0, 0], *df[0, 0], r[0, 1, 0], *df[0, 1], r[1, 0, 0], *df[1, 0], r[1, 1, 0], *df[1, 1])


def eq_5_3():
    _, dlog_psi = all_gradients(Gaussian(2), PARAMS)
    for column, d in zip(((X - F) ** 2 / PSI).reshape(4, 2).T, dlog_psi):
        yield from (*column, d)


def eq_5_4():
    params = {"log_psi": np.zeros(1)}
    yield from all_gradients(Gaussian(2), {"log_psi": np.zeros(2)})[1]
    yield from all_gradients(Gaussian(2, "isotropic"), params)[1]


def eq_5_5():
    yield from (F[0, 0, 0], F[0, 0, 0])
    yield from Gaussian(2).sample(PARAMS, F[0, 0], np.array([1.0, -1.0]))


def eq_5_11():
    pairs = Gaussian(2).cross(PARAMS, TWO, X)
    centre = TWO.mean(axis=0)
    f, x = TWO - centre, X - centre
    products, squares = f / PSI @ x.T, np.sum(x**2 / PSI, axis=1)
    yield from (TWO[0, 0], TWO[1, 0], centre[0], x[0, 0], x[1, 0])
    yield from (x[0, 0], products[0, 0], x[1, 0], products[0, 1], *products[1], *squares)
    yield from (products[0, 0], squares[0], CONSTANTS, pairs[0, 0])
    yield from (products[1, 1], squares[1], CONSTANTS, pairs[1, 1])


def eq_5_7():
    each = [value(Bernoulli(1), {}, LOGITS[0, d : d + 1], BITS[0, d : d + 1]) for d in range(2)]
    yield from (LOG3, *each, value(Bernoulli(2), {}, LOGITS[0], BITS[0]))
    yield from Bernoulli(2).mean({}, LOGITS[0])


def eq_5_8():
    yield from Bernoulli(2).mean({}, LOGITS[0])
    yield from gradient(Bernoulli(2), {}, LOGITS[0], BITS[0])


def eq_5_9():
    u, mean = np.array([0.7, 0.6]), Bernoulli(2).mean({}, LOGITS[0])
    yield from (*mean, *u, *Bernoulli(2).sample({}, LOGITS[0], u))
    yield from (u[0], mean[0], u[1], mean[1])


def eq_5_12():
    pairs = Bernoulli(2).cross({}, LOGITS, BITS)
    products = LOGITS @ BITS.T
    yield from (products[0, 0], products[1, 0], math.log(4) + math.log(2))
    yield from (*pairs[:, 0], pairs[0, 1])


def eq_5_45():
    nodes, weights = np.polynomial.legendre.leggauss(20)
    log_p, _ = relaxed_bernoulli(1).forward({}, np.full((20, 1, 1), LOG3), (nodes[:, None, None] + 1) / 2)
    total = np.exp(log_p[:, 0]) @ weights / 2
    yield from (LOG3, LOG3, total, LOG3 / 2, math.tanh(LOG3 / 2), LOG3, total)


def eq_5_10():
    nats = -math.log(4 * 0.5)
    yield from (nats, nats, math.log(4), math.log(2), bits_per_dimension(nats, 1, 4))
    yield from (0.0, bits_per_dimension(0.0, 1, 4))


def eq_5_13():
    few, none = (value(Poisson(1), {}, LOGITS[0, d : d + 1], COUNTS[0, d : d + 1]) for d in range(2))
    peak, u = log_poisson_peak(COUNTS[0, :1])[0], LOG3 - math.log(2)
    yield from (LOG3, few, u, peak, math.exp(u), u, peak - few, few, none)
    yield value(Poisson(2), {}, LOGITS[0], COUNTS[0])


def eq_5_14():
    yield from gradient(Poisson(2), {}, LOGITS[0], COUNTS[0])


def eq_5_15():
    rate, log_rate, slope, log_slope = (v[0] for v in Poisson(1).rate(np.array([31.0])))
    yield from (slope, rate, math.exp(31), log_rate, log_slope)


def eq_5_16():
    first, second = 10 * (math.log(10) - 1), 0.5 * math.log(20 * math.pi)
    yield from (first, second, first + second, 1 / 120, 1 / 360000, log_factorial(np.array([10.0]))[0])


def eq_5_17():
    yield from stats.poisson.cdf(range(4), 3)
    yield from (0.5, poisson_quantile(np.array([0.5]), np.array([3.0]))[0])


def eq_5_18():
    pairs = Poisson(2).cross({}, LOGITS, COUNTS)
    yield from (LOG3, pairs[0, 0], LOG3, pairs[0, 1], *pairs[1])


def eq_5_19():
    _, scale = Poisson(2).standard_units(COUNTS.mean(axis=0), COUNTS.var(axis=0))
    small = COUNTS[0] / scale
    yield from (scale[0], small[0], value(Poisson(2), {}, LOGITS[0], COUNTS[0]))
    yield value(Poisson(2).rescaled(scale), {}, LOGITS[0], small)


def eq_5_20():
    _, log_v, slope = PREDICTED.split(FIRST)
    floor, v = PREDICTED.floor, np.exp(log_v)
    yield from (floor, *(v - floor), *FIRST[2:], math.log(floor))
    yield from (math.log(floor), log_v[0], math.log(floor), log_v[1], *slope)


def eq_5_21():
    wide = np.array([*FIRST[:3], math.log(3.75)])
    yield from (FIRST[0], value(PREDICTED, {}, FIRST, X[0]), np.exp(wide[3]), wide[3])
    yield from (X[0] - wide[:2]) ** 2 / np.exp(PREDICTED.split(wide)[1])
    yield value(PREDICTED, {}, wide, X[0])


def eq_5_22():
    yield from (FIRST[0], X[0, 0] - FIRST[0], *gradient(PREDICTED, {}, FIRST, X[0])[:2])


def eq_5_23():
    _, log_v, slope = PREDICTED.split(FIRST)
    u2, dl = (X[0] - FIRST[:2]) ** 2 / np.exp(log_v), gradient(PREDICTED, {}, FIRST, X[0])[2:]
    yield from (*u2, u2[0], slope[0], dl[0], u2[1], slope[1], dl[1])


def eq_5_24():
    yield from (FIRST[0], *PREDICTED.sample({}, FIRST, np.array([1.0, -1.0])))


def eq_5_25():
    f = np.array([FIRST, [-0.5, 0.0, math.log(1.75), math.log(0.75)]])
    m, v = f[:, :2], np.exp(PREDICTED.split(f)[1])
    centre = m.mean(axis=0)
    x, m1 = X[0] - centre, m[0] - centre
    product, square = m1 / v[0] @ x, np.sum(x**2 / v[0])
    c = np.sum(m1**2 / v[0] + np.log(v[0]) + LOG_2PI)
    yield from (m[0, 0], m[1, 0], centre[0], x[0], product, x[0] ** 2, square, c, product, square, c)
    yield from PREDICTED.cross({}, f, X)[:, 0]


def eq_5_26():
    c = np.array([2.0, 2.0])
    shift, scale = PREDICTED.units_of_f(np.ones(2), c)
    f = (FIRST - shift) / scale
    floor = PREDICTED.rescaled(c).floor
    yield from (floor, *f[:2], math.exp(f[2]), f[2])
    yield from (*FIRST[:2], f[2], shift[2], FIRST[2], floor, PREDICTED.floor)


def eq_5_29():
    log_pi = Categorical((3,)).log_pi(SCORES[0] + 1000)
    yield from (SCORES[0, 0], *np.exp(SCORES[0] - SCORES[0, 0])[1:], *log_pi, *np.exp(log_pi))


def eq_5_30():
    yield from (Categorical((3,)).mean({}, SCORES[0])[1], value(Categorical((3,)), {}, SCORES[0], ONE_HOT[0]))


def eq_5_31():
    p = Categorical((3,))
    yield from p.mean({}, SCORES[0])
    yield from gradient(p, {}, SCORES[0], ONE_HOT[0])
    yield from gradient(p, {}, SCORES[0], ONE_HOT[0], np.zeros((1, 3)))


def eq_5_32():
    yield from Categorical((3,)).cross({}, SCORES, ONE_HOT).T.ravel()


def eq_5_33():
    p = Categorical((3,))
    yield from np.cumsum(p.mean({}, SCORES[0]))
    yield from (0.6, *p.sample({}, SCORES[0], np.array([0.6])))


def eq_5_34():
    log_p, cache = T.forward(PARAMS, F, X)
    u2 = cache[1]
    yield from (math.exp(T.log_constant()), T.log_constant(), F[0, 0, 0], *u2[0, 0])
    yield from (T.log_constant(), 2.5, *(1 + u2[0, 0] / 4), log_p[0, 0])
    yield from (F[1, 0, 0], *u2[1, 0], log_p[1, 0], Gaussian(2).forward(PARAMS, F, X)[0][1, 0])


def eq_5_41():
    constant = StudentT(1, 200.0).log_constant()
    yield from (-0.5 * LOG_2PI, 1 / 800, 1 / (192 * 100.0**3), constant)


def eq_5_35():
    u2 = (X - F) ** 2 / PSI
    weight, (df, _) = T.weight(u2), all_gradients(T, PARAMS)
    for s in range(2):
        yield from (4 + u2[s, 0, 0], weight[s, 0, 0], 4 + u2[s, 0, 1], weight[s, 0, 1])
        yield from (*all_gradients(Gaussian(2), PARAMS)[0][s, 0], *df[s, 0])


def eq_5_36():
    weight, (_, dlog_psi) = T.weight((X - F) ** 2 / PSI), all_gradients(T, PARAMS)
    for column, d in zip(weight.reshape(4, 2).T, dlog_psi):
        yield from (*column, column.sum(), column.sum(), d)


def eq_5_37():
    model = Model(MODEL.decoder, T, 1)
    mean_square, _ = expectations.expected_squares(
        model, THETA, example.phi, X, example.eta[:, :1], np.array([0.5, 0.5])
    )
    psi = np.exp(T.closed_form(PARAMS, mean_square, None)["log_psi"])
    yield from ((X - F) ** 2)[..., 0].ravel()
    for column, new in zip(T.squares(PARAMS, F, X).reshape(4, 2).T, psi):
        yield from (*column, column.sum(), new)


def eq_5_43():
    yield from (F[0, 0, 0], *T.sample(PARAMS, F[0, 0], np.array([1.0, -1.0])))
    yield from (2 * stats.t.sf(3, T.dof), 2 * stats.norm.sf(3))


def eq_5_46():
    u2 = (X - F)[0, 0] ** 2 / PSI
    one, two = (
        StudentT(1, 4.0).cross({"log_psi": np.log(PSI[d : d + 1])}, TWO[:, d : d + 1], X[:, d : d + 1])[0, 0]
        for d in range(2)
    )
    c = T.log_constant()
    yield from (F[0, 0, 0], c, 2.5, 1 + u2[0] / 4, one, c, math.log(2) / 2, 2.5, 1 + u2[1] / 4, two)
    yield T.cross(PARAMS, TWO, X)[0, 0]


def eq_5_38():
    f, x = np.array([1.5, LOG3]), np.array([2.0, 1.0])
    measured, bit = value(Gaussian(1, 1.0), {}, f[:1], x[:1]), value(Bernoulli(1), {}, f[1:], x[1:])
    yield from ((x[0] - f[0]) ** 2, measured, math.exp(bit), bit, value(MIXED, [{}, {}], f, x))


def eq_5_39():
    f, x = np.array([1.5, LOG3]), np.array([2.0, 1.0])
    df = gradient(MIXED, [{}, {}], f, x)
    yield from (f[0], df[0], Bernoulli(1).mean({}, f[1:])[0], df[1], *df)
