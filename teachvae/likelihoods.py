"""Likelihoods p(x|z) = p(x|f): what the decoder's output f means for the data.

    log_p, cache = likelihood.forward(params, f, x, mask=None)     f (S, N, n_f), x (N, D) → (S, N)
    df, dparams  = likelihood.backward(params, cache, dlog_p)

log_p is in nats with every constant kept. mask (N, D) holds 1 where x was observed and 0 where it
was not; unobserved entries (any finite number stands there) leave the sum. A likelihood owns its
parameters: its density, its mean, its sample, its start from data and its closed-form M-step.
Equations (5.x) are in derivations/equations.md.
"""

from dataclasses import dataclass
import math
from numbers import Real

from .backend import constant, log_factorial, namespace, poisson_quantile
from .layers import sigmoid, softplus
from .posteriors import LOG_2PI


@dataclass(frozen=True)
class Gaussian:
    """p(x|f) = N(x; f, Ψ), Ψ diagonal. Parameters: log_psi, the logarithms of Ψ's diagonal.

    n_visible  D
    noise      "diagonal": one variance per variable, log_psi (D,);
               "isotropic": one for all, log_psi (1,), which makes the linear model probabilistic PCA;
               a number σ² > 0: fixed, and there are no parameters
    """

    n_visible: int
    noise: object = "diagonal"

    def __post_init__(self):
        if self.noise not in ("diagonal", "isotropic"):
            number = isinstance(self.noise, Real) and not isinstance(self.noise, bool)
            if not (number and 0 < self.noise < math.inf):
                raise ValueError(
                    f"noise must be 'diagonal', 'isotropic' or a variance > 0, got {self.noise!r}"
                )

    @property
    def n_f(self):
        return self.n_visible

    @property
    def learns_noise(self):
        return isinstance(self.noise, str)

    def init(self, rng, backend):
        if not self.learns_noise:
            return {}
        return {"log_psi": backend.zeros((self.n_visible if self.noise == "diagonal" else 1,))}

    def psi(self, params, like):
        """The diagonal of Ψ, (D,), beside the array `like`."""
        xp = namespace(like)
        if not self.learns_noise:
            return constant([self.noise] * self.n_visible, like)
        return xp.broadcast_to(xp.exp(params["log_psi"]), (self.n_visible,))

    def forward(self, params, f, x, mask=None):
        xp = namespace(f, x)
        psi = self.psi(params, like=f)                             # (D,)
        residual = x - f                                           # (S, N, D)
        terms = residual * residual / psi + xp.log(psi) + LOG_2PI
        if mask is not None:
            terms = terms * mask
        return -0.5 * xp.sum(terms, axis=2), (residual, psi, mask)  # (S, N)               (5.1)

    def backward(self, params, cache, dlog_p, *, need_dparams=True):
        xp = namespace(dlog_p)
        residual, psi, mask = cache
        d = dlog_p[:, :, None] if mask is None else dlog_p[:, :, None] * mask
        df = d * residual / psi                                    # (S, N, D)             (5.2)
        if not need_dparams:
            return df, None
        if not self.learns_noise:
            return df, {}
        dlog_psi = 0.5 * xp.sum(df * residual - d, axis=(0, 1))    # (D,)                  (5.3)
        if self.noise == "isotropic":
            dlog_psi = xp.sum(dlog_psi, axis=0, keepdims=True)     # (1,)                  (5.4)
        return df, {"log_psi": dlog_psi}

    def cross(self, params, f, x):
        """log p(x_n|f_g) for every pair, from f (G, D) and x (N, D): (G, N), by one product  (5.11)."""
        xp = namespace(f, x)
        psi = self.psi(params, like=f)
        centre = xp.mean(f, axis=0)                                # keeps the squares small
        f, x = f - centre, x - centre
        scaled = f / psi
        squares = xp.sum(f * scaled, axis=1)[:, None] + xp.sum(x * x / psi, axis=1)
        constant_ = xp.sum(xp.log(psi)) + self.n_visible * LOG_2PI
        return scaled @ x.T - 0.5 * (squares + constant_)

    def mean(self, params, f):
        """E[x|f], shaped like f."""
        return f

    def draw_noise(self, rng, shape):
        """The noise that `sample` takes, drawn on the host: standard normal."""
        return rng.standard_normal(shape)

    def sample(self, params, f, noise):
        """x ~ p(x|f) from standard normal `noise`, shaped like f                           (5.5)."""
        return f + noise * namespace(f).sqrt(self.psi(params, like=f))

    def start(self, mean, variance):
        """(f (D,), params): the best fit that ignores z, from the columns' mean and variance."""
        return mean, self.m_step(variance, None)

    def start_W(self, W):
        """The decoder's last weights (., n_f) to start from, given random ones."""
        return W

    def m_step(self, mean_square, lower):
        """Ψ in closed form from the expected squared residuals (D,), kept at or above `lower` (5.6).

        `lower` is a tree of this likelihood's parameters, as from `lower_bounds`, or None.
        """
        xp = namespace(mean_square)
        if not self.learns_noise:
            return {}
        if self.noise == "isotropic":
            mean_square = xp.mean(mean_square, axis=0, keepdims=True)
        if lower is not None:
            floor = xp.exp(lower["log_psi"])
            mean_square = xp.where(mean_square > floor, mean_square, floor)
        return {"log_psi": xp.log(mean_square)}

    def lower_bounds(self, variance, min_noise):
        """The floor of Ψ: log_psi of `min_noise` times each column's variance (D,)."""
        return self.m_step(min_noise * variance, None)

    def standard_units(self, mean, variance):
        """shift and scale (D,) such that (x − shift)/scale has variances about 1.

        One common scale where Ψ is isotropic or fixed: only so does the model stay the same model.
        """
        xp = namespace(mean, variance)
        if self.noise != "diagonal":
            variance = xp.zeros_like(variance) + xp.mean(variance)
        return mean, xp.sqrt(xp.where(variance > 0, variance, xp.ones_like(variance)))

    def units_of_f(self, shift, scale):
        """shift and scale (n_f,) that turn f for x into f for x·scale + shift."""
        return shift, scale

    def rescaled(self, scale):
        """This likelihood for x/scale; `scale` is the common number where Ψ is fixed."""
        return self if self.learns_noise else Gaussian(self.n_visible, float(self.noise / scale**2))

    def rescale_params(self, params, scale):
        """The parameters for x·scale from those for x; scale (D,)."""
        xp = namespace(scale)
        if not self.learns_noise:
            return {}
        log_scale = xp.log(scale if self.noise == "diagonal" else scale[:1])
        return {"log_psi": params["log_psi"] + 2 * log_scale}

    def check_values(self, x, names):
        """Every finite number has a density."""

    def check(self, x, names):
        """Raise ValueError where host data x (N, D) cannot be fitted; `names` (D,) for the message."""
        if not self.learns_noise:
            return
        spread = abs(x - x[0, :]).max(axis=0)
        still = spread * spread <= 1e-300  # equal, or so near that the variance underflows to 0
        constant_columns = [name for name, flat in zip(names, still) if flat]
        if constant_columns and self.noise == "diagonal":
            raise ValueError(
                f"{len(constant_columns)} of {x.shape[1]} columns are constant: "
                f"{shorten(constant_columns)}; a learnt diagonal Ψ would send their density to "
                "infinity: drop these columns, or use noise='isotropic' or a fixed variance"
            )
        if len(constant_columns) == x.shape[1]:
            raise ValueError(
                f"all {x.shape[1]} columns are constant, so a learnt Ψ would send the density to "
                "infinity: give data that vary, or use a fixed variance"
            )


@dataclass(frozen=True)
class Bernoulli:
    """p(x|f) = Π_d σ(f_d)^x_d (1 − σ(f_d))^(1−x_d) for x in {0, 1}; f are logits. No parameters."""

    n_visible: int

    @property
    def n_f(self):
        return self.n_visible

    def init(self, rng, backend):
        return {}

    def forward(self, params, f, x, mask=None):
        xp = namespace(f, x)
        terms = x * f - softplus(f)                                # (S, N, D)
        if mask is not None:
            terms = terms * mask
        return xp.sum(terms, axis=2), (f, x, mask)                 # (S, N)                (5.7)

    def backward(self, params, cache, dlog_p, *, need_dparams=True):
        f, x, mask = cache
        d = dlog_p[:, :, None] if mask is None else dlog_p[:, :, None] * mask
        return d * (x - sigmoid(f)), {} if need_dparams else None  # (S, N, D)             (5.8)

    def cross(self, params, f, x):
        """log p(x_n|f_g) for every pair, from f (G, D) and x (N, D): (G, N), by one product (5.12)."""
        return f @ x.T - namespace(f, x).sum(softplus(f), axis=1)[:, None]

    def mean(self, params, f):
        """E[x|f] = σ(f), shaped like f."""
        return sigmoid(f)

    def draw_noise(self, rng, shape):
        """The noise that `sample` takes, drawn on the host: uniform on [0, 1)."""
        return rng.random(shape)

    def sample(self, params, f, noise):
        """x ~ p(x|f) from uniform `noise`, shaped like f: 1 where noise < σ(f)            (5.9)."""
        xp = namespace(f, noise)
        return xp.where(noise < sigmoid(f), xp.ones_like(f), xp.zeros_like(f))

    def start(self, mean, variance):
        """(f (D,), params): the logits of the columns' means, kept inside [0.01, 0.99]."""
        xp = namespace(mean)
        mean = xp.where(mean < 0.01, xp.zeros_like(mean) + 0.01, mean)
        mean = xp.where(mean > 0.99, xp.zeros_like(mean) + 0.99, mean)
        return xp.log(mean) - xp.log1p(-mean), {}

    def start_W(self, W):
        return W

    def m_step(self, mean_square, lower):
        return {}

    def lower_bounds(self, variance, min_noise):
        return {}

    def standard_units(self, mean, variance):
        """x is 0 or 1 and stays so: shift 0, scale 1."""
        xp = namespace(mean)
        return xp.zeros_like(mean), xp.ones_like(mean)

    def units_of_f(self, shift, scale):
        return shift, scale

    def rescaled(self, scale):
        return self

    def rescale_params(self, params, scale):
        return {}

    def check(self, x, names):
        """Raise ValueError where host data x (N, D) cannot be fitted; `names` (D,) for the message."""
        self.check_values(x, names)

    def check_values(self, x, names):
        """Raise ValueError where host data x (N, D) is not binary; `names` (D,) for the message."""
        bad = (x != 0) & (x != 1)
        if bad.any():
            n, d = [int(i[0]) for i in bad.nonzero()]
            raise ValueError(
                f"the Bernoulli likelihood needs data of 0 and 1, got {int(bad.sum())} other values, "
                f"the first {x[n, d]:g} in row {n}, column {names[d]}: binarise the data "
                "(x > threshold), or use likelihood='gaussian'"
            )


@dataclass(frozen=True)
class Poisson:
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
        return self.n_visible

    def init(self, rng, backend):
        return {}

    def rate(self, f):
        """λ, log λ, dλ/df and d log λ/df, each shaped like f                              (5.15)."""
        xp = namespace(f)
        over = f - MOST_LOG_RATE
        over = xp.where(over > 0, over, xp.zeros_like(f))
        low = xp.where(over > 0, xp.zeros_like(f) + MOST_LOG_RATE, f)
        slope = xp.exp(low)
        return slope * (1 + over), low + xp.log1p(over), slope, 1 / (1 + over)

    def counts(self, x):
        """x·unit, whole again after the rounding of a division."""
        return x if self.unit == 1 else namespace(x).round(x * self.unit)

    def forward(self, params, f, x, mask=None):
        xp = namespace(f, x)
        rate, log_rate, *slopes = self.rate(f)
        x = self.counts(x)                                         # (N, D)
        terms = x * log_rate - rate - log_factorial(x) + math.log(self.unit)  # (S, N, D)
        if mask is not None:
            terms = terms * mask
        return xp.sum(terms, axis=2), (x, slopes, mask)            # (S, N)               (5.13)

    def backward(self, params, cache, dlog_p, *, need_dparams=True):
        x, (drate, dlog_rate), mask = cache                        # by f
        d = dlog_p[:, :, None] if mask is None else dlog_p[:, :, None] * mask
        return d * (x * dlog_rate - drate), {} if need_dparams else None  # (S, N, D)     (5.14)

    def cross(self, params, f, x):
        """log p(x_n|f_g) for every pair, from f (G, D) and x (N, D): (G, N), by one product (5.18)."""
        xp = namespace(f, x)
        rate, log_rate, _, _ = self.rate(f)
        x = self.counts(x)
        own = xp.sum(log_factorial(x) - math.log(self.unit), axis=1)
        return log_rate @ x.T - xp.sum(rate, axis=1)[:, None] - own

    def mean(self, params, f):
        """E[x|f] = λ/unit, shaped like f."""
        return self.rate(f)[0] / self.unit

    def draw_noise(self, rng, shape):
        """The noise that `sample` takes, drawn on the host: uniform on [0, 1)."""
        return rng.random(shape)

    def sample(self, params, f, noise):
        """x ~ p(x|f) from uniform `noise`, shaped like f: its quantile, found on the host (5.17)."""
        return poisson_quantile(noise, self.rate(f)[0]) / self.unit

    def start(self, mean, variance):
        """(f (D,), params): the logarithms of the counts' means, these kept at or above 0.01."""
        xp = namespace(mean)
        mean = mean * self.unit
        return xp.log(xp.where(mean < 0.01, xp.zeros_like(mean) + 0.01, mean)), {}

    def start_W(self, W):
        """A tenth: rates are exp of f, and a poor draw of z must not cost thousands of nats at the start."""
        return 0.1 * W

    def m_step(self, mean_square, lower):
        return {}

    def lower_bounds(self, variance, min_noise):
        return {}

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
        """This likelihood for x/scale, `scale` the common number                           (5.19)."""
        return Poisson(self.n_visible, float(self.unit * scale))

    def rescale_params(self, params, scale):
        return {}

    def check(self, x, names):
        """Raise ValueError where host data x (N, D) cannot be fitted; `names` (D,) for the message."""
        self.check_values(x, names)

    def check_values(self, x, names):
        """Raise ValueError where host data x (N, D) are no counts; `names` (D,) for the message."""
        bad = (x < 0) | (x != namespace(x).floor(x)) | (x > MOST_COUNT)
        if bad.any():
            n, d = [int(i[0]) for i in bad.nonzero()]
            raise ValueError(
                f"the Poisson likelihood needs counts, whole numbers from 0 to {MOST_COUNT:.0e}, got "
                f"{int(bad.sum())} other values, the first {x[n, d]:g} in row {n}, column {names[d]}: "
                "give the counts themselves, neither scaled nor centred, or use likelihood='gaussian'"
            )


@dataclass(frozen=True)
class PredictedGaussian:
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
                "the floor of predicted variances (noise, where not 'diagonal') must be a number > 0, "
                f"got {self.floor!r}"
            )

    @property
    def n_f(self):
        return 2 * self.n_visible

    def init(self, rng, backend):
        return {}

    def split(self, f):
        """m, log v and d log v / dl, each (…, D), from f (…, 2D)                          (5.20)."""
        m, l = f[..., : self.n_visible], f[..., self.n_visible :]
        above = l - math.log(self.floor)
        return m, math.log(self.floor) + softplus(above), sigmoid(above)

    def forward(self, params, f, x, mask=None):
        xp = namespace(f, x)
        m, log_v, share = self.split(f)
        residual, precision = x - m, xp.exp(-log_v)                # (S, N, D)
        terms = residual * residual * precision + log_v + LOG_2PI
        if mask is not None:
            terms = terms * mask
        return -0.5 * xp.sum(terms, axis=2), (residual, precision, share, mask)  # (S, N) (5.21)

    def backward(self, params, cache, dlog_p, *, need_dparams=True):
        xp = namespace(dlog_p)
        residual, precision, share, mask = cache
        d = dlog_p[:, :, None] if mask is None else dlog_p[:, :, None] * mask
        dm = d * residual * precision                              # (S, N, D)            (5.22)
        dl = 0.5 * (dm * residual - d) * share                     # (S, N, D)            (5.23)
        return xp.concat([dm, dl], axis=2), {} if need_dparams else None

    def cross(self, params, f, x):
        """log p(x_n|f_g) for every pair, from f (G, 2D), x (N, D): (G, N), by two products (5.25)."""
        xp = namespace(f, x)
        m, log_v, _ = self.split(f)
        centre = xp.mean(m, axis=0)                                # keeps the squares small
        m, x, precision = m - centre, x - centre, xp.exp(-log_v)
        own = xp.sum(m * m * precision + log_v, axis=1)[:, None] + self.n_visible * LOG_2PI
        return (m * precision) @ x.T - 0.5 * (precision @ (x * x).T + own)

    def mean(self, params, f):
        """E[x|f] = m, (…, D)."""
        return self.split(f)[0]

    def draw_noise(self, rng, shape):
        """The noise that `sample` takes for f of this shape, drawn on the host: standard normal (…, D)."""
        return rng.standard_normal((*shape[:-1], self.n_visible))

    def sample(self, params, f, noise):
        """x ~ p(x|f) from standard normal `noise` (…, D)                                  (5.24)."""
        m, log_v, _ = self.split(f)
        return m + noise * namespace(f).exp(0.5 * log_v)

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

    def m_step(self, mean_square, lower):
        return {}

    def lower_bounds(self, variance, min_noise):
        return {}

    def standard_units(self, mean, variance):
        """shift and one common scale (D,): only so does one floor stay one floor."""
        return Gaussian(self.n_visible, "isotropic").standard_units(mean, variance)

    def units_of_f(self, shift, scale):
        """m takes the shift and the scale of x, l the logarithm of the scale's square     (5.26)."""
        xp = namespace(scale)
        return xp.concat([shift, 2 * xp.log(scale)]), xp.concat([scale, xp.ones_like(scale)])

    def rescaled(self, scale):
        """This likelihood for x/scale, `scale` the common number: the floor is a variance (5.26)."""
        return PredictedGaussian(self.n_visible, float(self.floor / scale**2))

    def rescale_params(self, params, scale):
        return {}

    def check_values(self, x, names):
        """Every finite number has a density."""

    def check(self, x, names):
        """Raise ValueError where host data x (N, D) cannot be fitted; `names` (D,) for the message."""
        low = [name for name, v in zip(names, x.var(axis=0)) if not v > self.floor]
        if low:
            raise ValueError(
                f"{len(low)} of {x.shape[1]} columns have a variance at or below the floor of "
                f"{self.floor:g} under predicted variances: {shorten(low)}; drop constant columns, give "
                "the data in smaller units, or give a lower floor as noise"
            )


def shorten(names, most=8):
    """The first few of `names`, joined for a message."""
    text = ", ".join(str(name) for name in names[:most])
    return text if len(names) <= most else f"{text}, … ({len(names)} in all)"


MOST_LOG_RATE = 30.0                   # of a Poisson rate that is exp f; e³⁰ is about 1e13
MOST_COUNT = 1e12                      # of Poisson data, well below that rate

LIKELIHOODS = {
    "gaussian": Gaussian,
    "bernoulli": Bernoulli,
    "poisson": Poisson,
    "gaussian-predicted": PredictedGaussian,
}
