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

from .backend import constant, namespace
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

    def m_step(self, mean_square, lower):
        return {}

    def lower_bounds(self, variance, min_noise):
        return {}

    def standard_units(self, mean, variance):
        """x is 0 or 1 and stays so: shift 0, scale 1."""
        xp = namespace(mean)
        return xp.zeros_like(mean), xp.ones_like(mean)

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


def shorten(names, most=8):
    """The first few of `names`, joined for a message."""
    text = ", ".join(str(name) for name in names[:most])
    return text if len(names) <= most else f"{text}, … ({len(names)} in all)"


LIKELIHOODS = {"gaussian": Gaussian, "bernoulli": Bernoulli}
