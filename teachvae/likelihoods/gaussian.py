"""The Gaussian likelihood, with one Ψ for all data cases.

Equations (5.x) are in derivations/equations.md.
"""

from dataclasses import dataclass
import math
from numbers import Real

from ..arrays.backend import constant, namespace, to_numpy
from ..arrays.special import LOG_2PI
from .checks import refuse_constant
from .likelihood import Likelihood


@dataclass(frozen=True)
class Gaussian(Likelihood):
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
        """How many numbers the decoder gives for a data case."""
        return self.n_visible

    @property
    def learns_noise(self):
        """Whether Ψ is learnt."""
        return isinstance(self.noise, str)

    @property
    def has_m_step(self):
        """Whether some parameters have a closed-form M-step."""
        return self.learns_noise

    def init(self, rng, backend):
        """log_psi (D,), (1,) where isotropic: Ψ = I. No parameters where the variance is fixed."""
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
        """log p(x|f) (S, N) of f (S, N, D), x and mask (N, D), and a cache."""
        xp = namespace(f, x)
        psi = self.psi(params, like=f)                             # (D,)
        precision, cost = 1 / psi, xp.log(psi) + LOG_2PI           # (D,)
        residual = x - f                                           # (S, N, D)
        squares = residual * residual
        if mask is not None:
            squares = squares * mask
        constants = xp.sum(cost) if mask is None else mask @ cost  # () or (N,)
        log_p = -0.5 * (squares @ precision + constants)           # (S, N)                (5.1)
        return log_p, (residual, squares, precision, mask)

    def backward(self, params, cache, dlog_p, *, need_dparams=True):
        """df (S, N, D), and dlog_psi, shaped like log_psi, from dlog_p (S, N)."""
        xp = namespace(dlog_p)
        residual, squares, precision, mask = cache
        d = dlog_p[:, :, None] if mask is None else dlog_p[:, :, None] * mask
        df = d * (residual * precision)                            # (S, N, D)             (5.2)
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
        """log p(x_n|f_g) for every pair, from f (G, D) and x (N, D): (G, N), by one product."""
        xp = namespace(f, x)
        psi = self.psi(params, like=f)
        centre = xp.mean(f, axis=0)                                # keeps the squares small
        f, x = f - centre, x - centre
        scaled = f / psi
        if mask is not None:                                       # two products, for f² now meets the mask
            own = xp.sum((x * x / psi + xp.log(psi) + LOG_2PI) * mask, axis=1)
            return scaled @ (x * mask).T - 0.5 * ((f * scaled) @ mask.T + own)  # (G, N)  (5.11)
        squares = xp.sum(f * scaled, axis=1)[:, None] + xp.sum(x * x / psi, axis=1)
        constants = xp.sum(xp.log(psi)) + self.n_visible * LOG_2PI
        return scaled @ x.T - 0.5 * (squares + constants)          # (G, N)               (5.11)

    def mean(self, params, f):
        """E[x|f], shaped like f."""
        return f

    def draw_noise(self, rng, shape):
        """The noise that `sample` takes, drawn on the host: standard normal."""
        return rng.standard_normal(shape)

    def sample(self, params, f, noise):
        """x ~ p(x|f) from standard normal `noise`, shaped like f."""
        return f + noise * namespace(f).sqrt(self.psi(params, like=f))  # like f           (5.5)

    def start(self, mean, variance):
        """(f (D,), params): the best fit that ignores z, from the columns' mean and variance."""
        return mean, self.m_step(variance, None)

    def squares(self, params, f, x):
        """The squared residuals (S, N, D) whose mean under q the M-step takes."""
        return (x - f) ** 2

    def m_step(self, mean_square, lower, share=None):
        """Ψ in closed form from the expected squared residuals (D,), kept at or above `lower`.

        `lower` is a tree of this likelihood's parameters, as from `lower_bounds`, or None; share (D,)
        is how much of each column was observed, None for all of it.
        """
        xp = namespace(mean_square)
        if not self.learns_noise:
            return {}
        if self.noise == "isotropic":
            share = xp.ones_like(mean_square) if share is None else share
            mean_square = xp.sum(share * mean_square, axis=0, keepdims=True) / xp.sum(share)  #  (5.6)
        if lower is not None:
            floor = xp.exp(lower["log_psi"])
            mean_square = xp.where(mean_square > floor, mean_square, floor)  #             (5.6)
        return {"log_psi": xp.log(mean_square)}

    def closed_form(self, params, mean_square, lower, share=None):
        """The parameters of `m_step`."""
        return self.m_step(mean_square, lower, share)

    def by_gradient(self, dparams):
        """0 for log_psi, which has a closed form."""
        return {name: 0 * d for name, d in dparams.items()}

    def at_the_floor(self, params, variance, min_noise):
        """Places of the columns whose entry of a learnt diagonal Ψ ended at its floor, a list; variance (D,).
        """
        if self.noise != "diagonal":
            return []
        psi = namespace(params["log_psi"]).exp(params["log_psi"])
        floor = min_noise * constant(variance, like=psi) * (1 + 1e-5)
        return [d for d, low in enumerate(to_numpy(psi <= floor).tolist()) if low]

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

    def check(self, x, names):
        """Raise ValueError where host data x (N, D) cannot be fitted; `names` (D,) for the message."""
        if self.learns_noise:
            refuse_constant(x, names, every=self.noise == "isotropic")

    def noisier(self, params, tau2):
        """The likelihood, and its parameters, of x with noise N(0, τ²I) added."""
        xp, log_psi = namespace(tau2), params.get("log_psi")
        psi = self.psi(params, like=tau2 if log_psi is None else log_psi)
        return Gaussian(self.n_visible), {"log_psi": xp.log(psi + tau2)}  #               (5.27)

    def denoised(self, params, f, x, tau2):
        """E[x|x̃, f] where x̃ = x + N(0, τ²I) was seen, shaped like f."""
        psi = self.psi(params, like=f)
        return f + psi / (psi + tau2) * (x - f)                    # like f               (5.28)
