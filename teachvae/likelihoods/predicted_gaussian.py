"""The Gaussian likelihood whose variances the decoder predicts.

Equations (5.x) are in derivations/equations.md.
"""

from dataclasses import dataclass
import math
from numbers import Real

from ..arrays.backend import namespace
from ..arrays.rows import extremes, float_type, mean_and_variance, sum_last
from ..arrays.special import LOG_2PI, exp, sigmoid, softplus
from ..messages import shorten
from .gaussian import Gaussian
from .likelihood import Likelihood


@dataclass(frozen=True)
class PredictedGaussian(Likelihood):
    """p(x|f) = N(x; m, v), v diagonal, both from the decoder: f = [m | l], v = floor + exp l.

    l is the logarithm of the variance above the floor. There are no parameters of its own.

    n_visible  D, so that n_f = 2D
    floor      below every variance, in units of x²
    """

    n_visible: int
    floor: float = 1e-4

    def __post_init__(self):
        number = isinstance(self.floor, Real) and not isinstance(self.floor, bool)
        if not (number and 0 < self.floor < math.inf):
            raise ValueError(
                "the floor of predicted variances (noise, where not 'diagonal') must be a finite number > 0, "
                f"got {self.floor!r}"
            )

    @property
    def n_f(self):
        """2D: means and logarithms of variances."""
        return 2 * self.n_visible

    def split(self, f):
        """m, log v and d log v / dl, each (…, D), from f (…, 2D)."""
        m, l = f[..., : self.n_visible], f[..., self.n_visible :]
        over = l - math.log(self.floor)
        log_v = math.log(self.floor) + softplus(over)              # (…, D)               (5.20)
        return m, log_v, sigmoid(over)

    def forward(self, params, f, x, mask=None):
        """log p(x|f) (S, N) of f (S, N, 2D), x and mask (N, D), and a cache."""
        m, log_v, slope = self.split(f)
        residual, precision = x - m, exp(-log_v)                   # (S, N, D)
        terms = residual * residual * precision + log_v + LOG_2PI
        if mask is not None:
            terms = terms * mask
        log_p = -0.5 * sum_last(terms)                             # (S, N)               (5.21)
        return log_p, (residual, precision, slope, mask)

    def backward(self, params, cache, dlog_p, *, need_dparams=True):
        """df = [dm | dl] (S, N, 2D) from dlog_p (S, N); there are no parameters."""
        xp = namespace(dlog_p)
        residual, precision, slope, mask = cache
        d = dlog_p[:, :, None] if mask is None else dlog_p[:, :, None] * mask
        dm = d * residual * precision                              # (S, N, D)            (5.22)
        dl = 0.5 * (dm * residual - d) * slope                     # (S, N, D)            (5.23)
        df = xp.concat([dm, dl], axis=2)                           # (S, N, 2D)
        return df, {} if need_dparams else None

    def cross(self, params, f, x, mask=None):
        """log p(x_n|f_g) for every pair, from f (G, 2D), x (N, D): (G, N), by three products."""
        xp = namespace(f, x)
        m, log_v, _ = self.split(f)
        centre = xp.mean(m, axis=0)                                # keeps the squares small
        mask = xp.ones_like(x) if mask is None else mask
        m, x, precision = m - centre, (x - centre) * mask, exp(-log_v)
        own = m * m * precision + log_v + LOG_2PI
        return (m * precision) @ x.T - 0.5 * (precision @ (x * x).T + own @ mask.T)  #    (5.25)

    def mean(self, params, f):
        """E[x|f] = m, (…, D)."""
        return self.split(f)[0]

    def draw_noise(self, rng, shape):
        """The noise that `sample` takes for f of this shape, drawn on the host: standard normal (…, D)."""
        return rng.standard_normal((*shape[:-1], self.n_visible))

    def sample(self, params, f, noise):
        """x ~ p(x|f) from standard normal `noise` (…, D)."""
        m, log_v, _ = self.split(f)
        return m + noise * namespace(f).exp(0.5 * log_v)           # (…, D)               (5.24)

    def start(self, mean, variance):
        """(f (2D,), params): the columns' means and variances, these kept a tenth above the floor."""
        xp = namespace(mean, variance)
        above = variance - self.floor
        least = xp.zeros_like(above) + 0.1 * self.floor
        return xp.concat([mean, xp.log(xp.where(above > least, above, least))]), {}

    def start_W(self, W):
        """Variances that do not yet depend on z."""
        D = self.n_visible
        return namespace(W).concat([W[:, :D], 0 * W[:, D:]], axis=1)

    def standard_units(self, mean, variance):
        """shift and one common scale (D,): only so does one floor stay one floor."""
        return Gaussian(self.n_visible, "isotropic").standard_units(mean, variance)

    def units_of_f(self, shift, scale):
        """m takes the shift and the scale of x, l the logarithm of the scale's square     (5.26)."""
        xp = namespace(scale)
        return xp.concat([shift, 2 * xp.log(scale)]), xp.concat([scale, xp.ones_like(scale)])

    def rescaled(self, scale):
        """This likelihood for x/scale, scale (D,) one common number: the floor is a variance (5.26)."""
        return PredictedGaussian(self.n_visible, float(self.floor / scale[0] ** 2))

    def check(self, x, names):
        """Raise ValueError where host data x (N, D) cannot be fitted; `names` (D,) for the message."""
        if not (mean_and_variance(x)[1] > self.floor).any():
            raise ValueError(
                f"no column has a variance above the floor of {self.floor:g} under predicted variances "
                f"({shorten(list(names))}): give the data in smaller units, or a lower floor as noise"
            )
        low, high = extremes(x)
        largest = float(namespace(low).maximum(abs(low), abs(high)).max())
        most = (float(namespace(low).finfo(float_type(x.dtype)).max) * self.floor / x.shape[1]) ** 0.5
        if largest > 1e-3 * most:                                  # x − E[x|z] is larger than x for some z
            raise ValueError(
                f"the data have entries of size {largest:.1e}, whose squares over variances near the "
                f"floor of {self.floor:g} overflow: give the data in larger units, or a higher floor as noise"
            )

    def noisier(self, params, tau2):
        """The likelihood, and its parameters, of x with noise N(0, τ²I) added."""
        return PredictedGaussian(self.n_visible, self.floor + float(tau2)), {}  #         (5.27)

    def denoised(self, params, f, x, tau2):
        """E[x|x̃, f] where x̃ = x + N(0, τ²I) was seen, (…, D)."""
        m, log_v, _ = self.split(f)
        v = namespace(f).exp(log_v)
        return m + v / (v + tau2) * (x - m)                        # (…, D)               (5.28)
