"""Functions that stay exact where the plain formula overflows or cancels, in the dtype of their argument."""

import math

import numpy as np

from .backend import constant, namespace, to_numpy
from .elementwise import elementwise

LOG_2PI = math.log(2 * math.pi)


@elementwise
def exp(xp, x):
    """exp x, shaped like x."""
    return xp.exp(x)


@elementwise
def expm1(xp, x):
    """exp x − 1, shaped like x."""
    return xp.expm1(x)


@elementwise
def log1p(xp, x):
    """log(1 + x), shaped like x."""
    return xp.log1p(x)


@elementwise
def tanh(xp, x):
    """tanh x, shaped like x."""
    return xp.tanh(x)


@elementwise
def sigmoid(xp, x):
    """1 / (1 + exp(−x)), for x < 0 as exp x / (1 + exp x): nothing can overflow, nor vanish beside 1."""
    small = xp.exp(-xp.abs(x))
    return xp.where(x < 0, small, xp.ones_like(x)) / (1 + small)


@elementwise
def softplus(xp, x):
    """log(1 + exp x) as max(x, 0) + log(1 + exp(−|x|)), which cannot overflow."""
    return xp.maximum(x, 0) + xp.log1p(xp.exp(-xp.abs(x)))


def log_sum_exp(log_p, axis=-1):
    """log Σ exp log_p along an axis, which goes, without leaving log space; −∞ where all are −∞.

    Over the classes of `log_joint` (N, K) it is −nlml (N,)                                  (9.2).
    """
    xp = namespace(log_p)
    top = xp.max(log_p, axis=axis, keepdims=True)
    finite = xp.where(xp.isfinite(top), top, xp.zeros_like(top))   # ∞ − ∞ is no number
    total = xp.sum(exp(log_p - finite), axis=axis, keepdims=True)
    total = total + xp.astype(total == 0, total.dtype)             # there the top, −∞, is the answer
    return xp.squeeze(top + xp.log(total), axis=axis)


def log_softmax(logits):
    """log of exp l_c / Σ_j exp l_j along the last axis, shaped like logits (…, C). Nothing can overflow."""
    xp = namespace(logits)
    below = logits - xp.max(logits, axis=-1, keepdims=True)        # all ≤ 0, and one of them is 0
    return below - xp.log(xp.sum(xp.exp(below), axis=-1, keepdims=True))


def log_factorial(x):
    """log x! for whole numbers x ≥ 0, in x's dtype (5.16); finite for any other finite number."""
    xp = namespace(x)
    small = xp.zeros_like(x)
    for k in range(2, 9):
        small = small + xp.astype(x >= k, x.dtype) * math.log(k)   # exact: log x! = Σ_{k ≤ x} log k
    z = xp.where(x > 8, x, xp.zeros_like(x) + 9)
    return xp.where(x > 8, z * (xp.log(z) - 1) + 0.5 * xp.log(2 * math.pi * z) + _stirling(z), small)


def log_poisson_peak(x):
    """log p(x) of a Poisson distribution whose rate is x itself, x log x − x − log x!, in x's dtype.

    For large x two numbers of the size of x log x would cancel: what is left comes from (5.16).
    """
    xp = namespace(x)
    few, many = xp.where(x > 8, xp.zeros_like(x), x), xp.where(x > 8, x, xp.zeros_like(x) + 9)
    log_few = xp.log(xp.where(few > 0, few, xp.ones_like(few)))
    large = -0.5 * xp.log(2 * math.pi * many) - _stirling(many)
    return xp.where(x > 8, large, few * (log_few - 1) - log_factorial(few))


def _stirling(z):
    """log z! − z (log z − 1) − ½ log(2πz) for z > 8, by the series of (5.16)."""
    w, series = 1 / (z * z), namespace(z).zeros_like(z)
    for c in (1 / 156, -691 / 360360, 1 / 1188, -1 / 1680, 1 / 1260, -1 / 360, 1 / 12):
        series = series * w + c
    return series / z


def poisson_quantile(u, rate):
    """The smallest whole k with P(X ≤ k) ≥ u for X ~ Poisson(rate), beside `rate`. Found on the host.

    Above a rate of 1e9, where SciPy's inverse begins to fail, a normal distribution stands for it.
    """
    from scipy import special  # not at import teachvae

    top = 1 - float(namespace(rate).finfo(rate.dtype).eps)  # float32 rounds the last u up to 1
    u = np.minimum(to_numpy(u).astype("float64"), top)
    host = np.maximum(to_numpy(rate).astype("float64"), 1e-300)
    few = np.minimum(host, 1e9)
    k = np.ceil(special.pdtrik(u, few))
    below = np.maximum(k - 1, 0)
    k = np.where(special.pdtr(below, few) >= u, below, k)  # the inverse may round up past its k
    many = np.maximum(np.rint(host + np.sqrt(host) * special.ndtri(u)), 0)
    return constant(np.where(host > 1e9, many, k), like=rate)


def diagonal(A):
    """The diagonal of a square matrix A (D, D), (D,)."""
    D = A.shape[0]
    return namespace(A).reshape(A, (-1,))[:: D + 1]
