"""The Poisson likelihood, for counts.

Equations (5.x) are in derivations/equations.md.
"""

from dataclasses import dataclass
import math

from ..arrays.backend import namespace
from ..arrays.rows import misfits, sum_last
from ..arrays.special import exp, expm1, log1p, log_factorial, log_poisson_peak, poisson_quantile
from ..messages import about_rows
from .likelihood import Likelihood


MOST_LOG_RATE = 30.0                   # of a rate that is exp f; e³⁰ is about 1e13
MOST_COUNT = 1e12                      # of data, well below that rate


@dataclass(frozen=True)
class Poisson(Likelihood):
    """p(x|f) = Π_d λ_d^x_d exp(−λ_d) / x_d! for counts x; λ = exp f is the rate. No parameters.

    Above f = MOST_LOG_RATE the rate goes on along the tangent of exp (5.15): there it stays a Poisson
    distribution, and neither value nor gradient can overflow.

    n_visible  D
    unit       x·unit are the counts: 1, but while networks are trained in units of the counts' size
    """

    n_visible: int
    unit: float = 1.0

    @property
    def n_f(self):
        """How many numbers the decoder gives for a data case."""
        return self.n_visible

    def rate(self, f):
        """λ, log λ, dλ/df and d log λ/df, each shaped like f                              (5.15)."""
        xp = namespace(f)
        low, over = xp.minimum(f, MOST_LOG_RATE), xp.maximum(f - MOST_LOG_RATE, 0)
        slope = exp(low)
        return slope * (1 + over), low + log1p(over), slope, 1 / (1 + over)

    def counts(self, x):
        """x·unit, whole again after the rounding of a division."""
        return x if self.unit == 1 else namespace(x).round(x * self.unit)

    def forward(self, params, f, x, mask=None):
        """log p(x|f) (S, N) of f (S, N, D), x and mask (N, D), and a cache."""
        xp = namespace(f, x)
        rate, log_rate, *slopes = self.rate(f)
        x = self.counts(x)                                         # (N, D)
        u = log_rate - xp.log(xp.where(x > 0, x, xp.ones_like(x)))  # log(λ/x), (S, N, D)
        below_peak = xp.where(x > 0, x * (expm1(u) - u), rate)
        terms = log_poisson_peak(x) + math.log(self.unit) - below_peak
        if mask is not None:
            terms = terms * mask
        log_p = sum_last(terms)                                    # (S, N)               (5.13)
        return log_p, (x, slopes, mask)

    def backward(self, params, cache, dlog_p, *, need_dparams=True):
        """df (S, N, D) from dlog_p (S, N); there are no parameters."""
        x, (slope, log_slope), mask = cache                        # dλ/df, d log λ/df, (S, N, D)
        d = dlog_p[:, :, None] if mask is None else dlog_p[:, :, None] * mask
        df = d * (x * log_slope - slope)                           # (S, N, D)            (5.14)
        return df, {} if need_dparams else None

    def cross(self, params, f, x, mask=None):
        """log p(x_n|f_g) for every pair, from f (G, D) and x (N, D): (G, N), by two products."""
        xp = namespace(f, x)
        rate, log_rate, _, _ = self.rate(f)
        x = self.counts(x)
        mask = xp.ones_like(x) if mask is None else mask
        own = xp.sum((log_factorial(x) - math.log(self.unit)) * mask, axis=1)
        return log_rate @ (x * mask).T - rate @ mask.T - own       # (G, N)               (5.18)

    def mean(self, params, f):
        """E[x|f] = λ/unit, shaped like f."""
        return self.rate(f)[0] / self.unit

    def draw_noise(self, rng, shape):
        """The noise that `sample` takes, drawn on the host: uniform on [0, 1)."""
        return rng.random(shape)

    def sample(self, params, f, noise):
        """x ~ p(x|f) from uniform `noise`, shaped like f: its quantile, found on the host."""
        return poisson_quantile(noise, self.rate(f)[0]) / self.unit  # like f             (5.17)

    def start(self, mean, variance):
        """(f (D,), params): the logarithms of the counts' means, these kept at or above 0.01."""
        xp = namespace(mean)
        mean = mean * self.unit
        return xp.log(xp.where(mean < 0.01, xp.zeros_like(mean) + 0.01, mean)), {}

    def start_W(self, W):
        """A tenth: rates are exp of f, and a poor draw of z must not cost thousands of nats at the start."""
        return 0.1 * W

    def standard_units(self, mean, variance):
        """shift 0 and one common scale (D,), the root mean square of all counts              (5.19)."""
        xp = namespace(mean, variance)
        square = xp.zeros_like(mean) + xp.mean(variance + mean * mean)
        return xp.zeros_like(mean), xp.sqrt(xp.where(square > 0, square, xp.ones_like(square)))

    def units_of_f(self, shift, scale):
        """f is the logarithm of a count's rate, whatever the unit of x: shift 0, scale 1."""
        xp = namespace(scale)
        return xp.zeros_like(scale), xp.ones_like(scale)

    def rescaled(self, scale):
        """This likelihood for x/scale, scale (D,) one common number                        (5.19)."""
        return Poisson(self.n_visible, float(self.unit * scale[0]))

    def check_values(self, x, names):
        """Raise ValueError where host data x (N, D) are no counts; `names` (D,) for the message."""

        def bad(x):
            return ((x < 0) | (x != namespace(x).floor(x)) | (x > MOST_COUNT)) & (x == x)  # NaN: not observed

        count, place = misfits(x, bad)
        if count:
            n, d = place
            raise about_rows(
                ValueError,
                f"the Poisson likelihood needs counts, whole numbers from 0 to {MOST_COUNT:.0e}, got "
                f"{count} other values, the first {x[n : n + 1][0, d]:g} in row {{rows}}, column {names[d]}: "
                "give the counts themselves, neither scaled nor centred, or use likelihood='gaussian'",
                [n],
            )
