"""exp, log and their kind as plain arithmetic without a branch, for a compiler to make vectors of.

The library's own functions are called number by number, which costs ten times as much. `compiled` reads these
for both dtypes: the constants in capitals are float64's, and `SINGLE` holds float32's. Each function stays
within 3 units of the last digit, and does with 0, −0, ±∞ and NaN what the library does.
"""

from math import copysign, inf, log as _log, nan

import numpy as np

LOG2_E = 1 / _log(2)
LN2_HIGH, LN2_LOW = 0.6931471803691238, 1.9082149292705877e-10     # log 2; k · LN2_HIGH is exact
MAGIC = 1.5 * 2.0**52                  # MAGIC + k holds the whole number k in its last bits
WHOLE = 2.0**52                        # the same for k ≥ 0
SHIFT, MANTISSA = 52, 2**52 - 1        # the bits of the fraction: how many, and a mask of them
BIAS = 1023                            # of the exponent
OFFSET = WHOLE + BIAS                  # from such a number to the exponent
BITS_OF_1, BITS_OF_WHOLE = BIAS << SHIFT, (BIAS + SHIFT) << SHIFT
LEAST, MOST = -746.0, 710.0            # beyond, exp is 0 and ∞
TINY = 2.0**-1022                      # a smaller x has fewer digits: log x = log(x · LIFT) − LIFTED log 2
LIFT, LIFTED = 2.0**54, 54.0
HUGE, INFINITY, NOT_A_NUMBER = 1.7976931348623157e308, inf, nan
SINGLE = {
    "LN2_HIGH": 0.693359375, "LN2_LOW": -2.1219444005469058e-4, "MAGIC": 1.5 * 2.0**23, "WHOLE": 2.0**23,
    "SHIFT": 23, "MANTISSA": 2**23 - 1, "BIAS": 127, "OFFSET": 2.0**23 + 127, "BITS_OF_1": 127 << 23,
    "BITS_OF_WHOLE": (127 + 23) << 23, "LEAST": -104.0, "MOST": 89.0, "TINY": 2.0**-126, "LIFT": 2.0**25,
    "LIFTED": 25.0, "HUGE": 3.4028234663852886e38,
}


def bits(x):
    """The bits of a number, as a whole number."""
    return np.float64(x).view(np.int64)


def as_float(b):
    """The number that has these bits."""
    return np.int64(b).view(np.float64)


def maximum(a, b):
    """The larger number; NaN where one is NaN."""
    return a if (a >= b) | (a != a) else b


def minimum(a, b):
    """The smaller number; NaN where one is NaN."""
    return a if (a <= b) | (a != a) else b


def where(condition, a, b):
    """a where the condition holds, else b."""
    return a if condition else b


def ones_like(x):
    """1, whatever x is."""
    return 1


def zeros_like(x):
    """0, whatever x is."""
    return 0


def two_to_the(whole):
    """2ᵏ from MAGIC + k, whose last bits are k: they become the exponent's."""
    return as_float((bits(whole) + BIAS) << SHIFT)


def reduced(x):
    """MAGIC + k, and r with |r| ≤ ½ log 2, of x = k log 2 + r."""
    whole = x * LOG2_E + MAGIC
    k = whole - MAGIC
    return whole, (x - k * LN2_HIGH) - k * LN2_LOW


def near_expm1(r):
    """e^r − 1 for |r| ≤ ½ log 2, by its series."""
    p = 1 / 6227020800
    p = p * r + 1 / 479001600
    p = p * r + 1 / 39916800
    p = p * r + 1 / 3628800
    p = p * r + 1 / 362880
    p = p * r + 1 / 40320
    p = p * r + 1 / 5040
    p = p * r + 1 / 720
    p = p * r + 1 / 120
    p = p * r + 1 / 24
    p = p * r + 1 / 6
    p = p * r + 1 / 2
    return r + r * r * p


def exp(x):
    """e^x = 2ᵏ e^r with x = k log 2 + r; 2ᵏ in two factors, for it may be beyond the range."""
    whole, r = reduced(minimum(maximum(x, LEAST), MOST))
    k = whole - MAGIC
    half = k * 0.5 + MAGIC
    rest = k - (half - MAGIC) + MAGIC
    return (1 + near_expm1(r)) * two_to_the(half) * two_to_the(rest)


def expm1(x):
    """e^x − 1 = 2 (2ᵏ⁻¹ (e^r − 1) + (2ᵏ⁻¹ − ½)): exact near 0, where k = 0; 2ᵏ may be out of range."""
    whole, r = reduced(minimum(maximum(x, -60), MOST))
    half = two_to_the(whole - 1)
    return where(x == 0, x, 2 * (half * near_expm1(r) + (half - 0.5)))


def tanh(x):
    """(e^2u − 1) / (e^2u + 1) of u = |x|, and the sign of x."""
    t = expm1(2 * minimum(abs(x), 20.0))
    return copysign(t / (t + 2), x)


def log(x):
    """log x = k log 2 + log m with x = 2ᵏ m and m between √½ and √2."""
    small = x < TINY
    lifted = where(small, x * LIFT, x)
    b = bits(lifted)
    k = as_float((b >> SHIFT) + BITS_OF_WHOLE) - OFFSET
    m = as_float((b & MANTISSA) + BITS_OF_1)
    high = m > 1.4142135623730951
    m = where(high, 0.5 * m, m)
    k = where(high, k + 1, k) - where(small, LIFTED, 0.0)
    s = (m - 1) / (m + 1)
    z = s * s
    p = 1 / 21
    p = p * z + 1 / 19
    p = p * z + 1 / 17
    p = p * z + 1 / 15
    p = p * z + 1 / 13
    p = p * z + 1 / 11
    p = p * z + 1 / 9
    p = p * z + 1 / 7
    p = p * z + 1 / 5
    p = p * z + 1 / 3
    finite = k * LN2_HIGH + (2 * s + (2 * s * z * p + k * LN2_LOW))
    finite = where(x > HUGE, x, finite)
    return where(x > 0, finite, where(x == 0, -INFINITY, NOT_A_NUMBER))


def log1p(x):
    """log(1 + x): what 1 + x rounds off is put back as a slope."""
    w = 1 + x
    lost = where((w > 0) & (w <= HUGE), (x - (w - 1)) / w, 0.0)
    return where(x == 0, x, log(w) + lost)
