"""Gaussian likelihoods: one Ψ for all data cases, or variances that the decoder predicts.

Equations (5.x) are in derivations/equations.md.
"""

from dataclasses import dataclass
import math
from numbers import Real

from ..backend import constant, namespace, sum_last
from ..blocks import extremes, mean_and_variance
from ..layers import sigmoid, softplus
from ..posteriors import LOG_2PI
from ..names import shorten


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

    normalised = True

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
        psi = xp.exp(params["log_psi"])
        return psi if self.noise == "diagonal" else xp.broadcast_to(psi, (self.n_visible,))

    def forward(self, params, f, x, mask=None):
        xp = namespace(f, x)
        psi = self.psi(params, like=f)                             # (D,)
        precision, cost = 1 / psi, xp.log(psi) + LOG_2PI
        residual = x - f                                           # (S, N, D)
        squares = xp.square(residual)
        if mask is None:
            cost = xp.sum(cost)
        else:
            squares *= mask
            cost = mask @ cost                                     # (N,)
        log_p = -0.5 * (squares @ precision + cost)                # (S, N)                (5.1)
        return log_p, (residual, squares, precision, mask)

    def backward(self, params, cache, dlog_p, *, need_dparams=True):
        xp = namespace(dlog_p)
        residual, squares, precision, mask = cache
        df = residual * precision                                  # (S, N, D)             (5.2)
        df *= dlog_p[:, :, None] if mask is None else dlog_p[:, :, None] * mask
        if not need_dparams:
            return df, None
        if not self.learns_noise:
            return df, {}
        total = xp.sum(dlog_p) if mask is None else xp.sum(dlog_p, axis=0) @ mask
        weighted = xp.reshape(dlog_p, (-1,)) @ xp.reshape(squares, (-1, self.n_visible))
        dlog_psi = 0.5 * (weighted * precision - total)            # (D,)                  (5.3)
        if self.noise == "isotropic":
            dlog_psi = xp.sum(dlog_psi, axis=0, keepdims=True)     # (1,)                  (5.4)
        return df, {"log_psi": dlog_psi}

    def cross(self, params, f, x, mask=None):
        """log p(x_n|f_g) for every pair, from f (G, D) and x (N, D): (G, N), by one product  (5.11)."""
        xp = namespace(f, x)
        psi = self.psi(params, like=f)
        centre = xp.mean(f, axis=0)                                # keeps the squares small
        f, x = f - centre, x - centre
        scaled = f / psi
        if mask is not None:                                       # two products, for f² now meets the mask
            own = xp.sum((x * x / psi + xp.log(psi) + LOG_2PI) * mask, axis=1)
            return scaled @ (x * mask).T - 0.5 * ((f * scaled) @ mask.T + own)
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

    def squares(self, params, f, x):
        """The squared residuals (S, N, D) whose mean under q the M-step takes."""
        return (x - f) ** 2

    def m_step(self, mean_square, lower, share=None):
        """Ψ in closed form from the expected squared residuals (D,), kept at or above `lower` (5.6).

        `lower` is a tree of this likelihood's parameters, as from `lower_bounds`, or None; share (D,)
        is how much of each column was observed, None for all of it.
        """
        xp = namespace(mean_square)
        if not self.learns_noise:
            return {}
        if self.noise == "isotropic":
            share = xp.ones_like(mean_square) if share is None else share
            mean_square = xp.sum(share * mean_square, axis=0, keepdims=True) / xp.sum(share)
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
        """This likelihood for x/scale; scale (D,) holds one common number where Ψ is fixed."""
        return self if self.learns_noise else Gaussian(self.n_visible, float(self.noise / scale[0] ** 2))

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
        if self.noise == "diagonal":
            refuse_constant(x, names)
        elif self.learns_noise and still(x).all():
            raise ValueError(
                f"all {x.shape[1]} columns are constant, so a learnt Ψ would send the density to "
                "infinity: give data that vary, or use a fixed variance"
            )

    def noisier(self, params, variance):
        """The likelihood, and its parameters, of x with noise N(0, variance·I) added         (5.27)."""
        xp, log_psi = namespace(variance), params.get("log_psi")
        psi = self.psi(params, like=variance if log_psi is None else log_psi)
        return Gaussian(self.n_visible), {"log_psi": xp.log(psi + variance)}

    def denoised(self, params, f, x, variance):
        """E[x|x̃, f] where x̃ = x + N(0, variance·I) was seen, shaped like f                    (5.28)."""
        psi = self.psi(params, like=f)
        return f + psi / (psi + variance) * (x - f)


@dataclass(frozen=True)
class PredictedGaussian:
    """p(x|f) = N(x; m, v), v diagonal, both from the decoder: f = [m | l], v = floor + exp l.

    l is the logarithm of the variance above the floor. There are no parameters of its own.

    n_visible  D, so that n_f = 2D
    floor      below every variance, in units of x²
    """

    n_visible: int
    floor: float = 1e-4

    learns_noise = False
    normalised = True

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
        return -0.5 * sum_last(terms), (residual, precision, share, mask)  # (S, N)       (5.21)

    def backward(self, params, cache, dlog_p, *, need_dparams=True):
        xp = namespace(dlog_p)
        residual, precision, share, mask = cache
        d = dlog_p[:, :, None] if mask is None else dlog_p[:, :, None] * mask
        dm = d * residual * precision                              # (S, N, D)            (5.22)
        dl = 0.5 * (dm * residual - d) * share                     # (S, N, D)            (5.23)
        return xp.concat([dm, dl], axis=2), {} if need_dparams else None

    def cross(self, params, f, x, mask=None):
        """log p(x_n|f_g) for every pair, from f (G, 2D), x (N, D): (G, N), by three products (5.25)."""
        xp = namespace(f, x)
        m, log_v, _ = self.split(f)
        centre = xp.mean(m, axis=0)                                # keeps the squares small
        mask = xp.ones_like(x) if mask is None else mask
        m, x, precision = m - centre, (x - centre) * mask, xp.exp(-log_v)
        own = m * m * precision + log_v + LOG_2PI
        return (m * precision) @ x.T - 0.5 * (precision @ (x * x).T + own @ mask.T)

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

    def check_values(self, x, names):
        """Every finite number has a density."""

    def check(self, x, names):
        """Raise ValueError where host data x (N, D) cannot be fitted; `names` (D,) for the message."""
        if not (mean_and_variance(x)[1] > self.floor).any():
            raise ValueError(
                f"no column has a variance above the floor of {self.floor:g} under predicted variances "
                f"({shorten(list(names))}): give the data in smaller units, or a lower floor as noise"
            )

    def noisier(self, params, variance):
        """The likelihood, and its parameters, of x with noise N(0, variance·I) added         (5.27)."""
        return PredictedGaussian(self.n_visible, self.floor + float(variance)), {}

    def denoised(self, params, f, x, variance):
        """E[x|x̃, f] where x̃ = x + N(0, variance·I) was seen, (…, D)                            (5.28)."""
        m, log_v, _ = self.split(f)
        v = namespace(f).exp(log_v)
        return m + v / (v + variance) * (x - m)


def still(x):
    """Which columns of host data x (N, D), NaN where missing, are constant but for rounding: (D,) bool."""
    low, high = extremes(x)
    return negligible(high - low, namespace(low).maximum(abs(high), abs(low)))


def negligible(spread, size, units=4):
    """Whether a spread of numbers of this size is rounding: a few units of their last digit, as between 0.3
    and 0.1 + 0.2, or so little that its square underflows to 0.
    """
    eps = float(namespace(spread).finfo(spread.dtype).eps)
    return (spread <= units * eps * size) | (spread**2 <= 1e-300)


def refuse_constant(x, names):
    """Raise ValueError naming the constant columns of host data x (N, D): a learnt diagonal Ψ has none."""
    constant_columns = [name for name, flat in zip(names, still(x)) if flat]
    if constant_columns:
        raise ValueError(
            f"{len(constant_columns)} of {x.shape[1]} columns are constant: "
            f"{shorten(constant_columns)}; a learnt diagonal Ψ would send their density to "
            "infinity: drop these columns (constant='drop'), or use noise='isotropic' or a fixed variance"
        )
