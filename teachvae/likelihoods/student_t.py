"""The Student-t likelihood: Gaussian factor analysis that outliers cannot pull about.

Equations (5.x) are in derivations/equations.md.
"""

from dataclasses import dataclass
import math
from numbers import Real

from ..arrays.backend import namespace
from ..arrays.rows import sum_last
from ..arrays.special import log1p
from .checks import refuse_constant
from .gaussian import Gaussian
from .likelihood import Likelihood


@dataclass(frozen=True)
class StudentT(Likelihood):
    """p(x|f) = Π_d t_ν((x_d − f_d)/√ψ_d)/√ψ_d. Parameters: log_psi (D,), the squared scales' logarithms.

    n_visible  D
    dof        ν > 2, fixed; for ν → ∞ this is the Gaussian with Ψ = ψ. The variance is ψ ν/(ν − 2)
    """

    n_visible: int
    dof: float = 4.0

    has_m_step = True

    def __post_init__(self):
        if not (isinstance(self.dof, Real) and 2 < self.dof < math.inf):
            raise ValueError(f"dof must be a number > 2, for the variance to exist, got {self.dof!r}")

    @property
    def n_f(self):
        """How many numbers the decoder gives for a data case."""
        return self.n_visible

    def init(self, rng, backend):
        """log_psi (D,): ψ = 1."""
        return {"log_psi": backend.zeros((self.n_visible,))}

    def log_constant(self):
        """log of the density of t_ν at 0."""
        h = self.dof / 2
        if h > 50:                                                 # where the difference below would cancel
            w = 1 / h                                              # h³ itself may be beyond 1e308
            return -0.5 * math.log(2 * math.pi) - w / 8 + w**3 / 192 - w**5 / 640  #      (5.41)
        return math.lgamma(h + 0.5) - math.lgamma(h) - 0.5 * math.log(self.dof * math.pi)

    def forward(self, params, f, x, mask=None):
        """log p(x|f) (S, N) of f (S, N, D), x and mask (N, D), and a cache."""
        xp = namespace(f, x)
        log_psi = params["log_psi"]
        residual = x - f                                           # (S, N, D)
        u2 = residual * residual * xp.exp(-log_psi)
        terms = self.log_constant() - 0.5 * log_psi - 0.5 * (self.dof + 1) * log1p(u2 / self.dof)
        if mask is not None:
            terms = terms * mask
        log_p = sum_last(terms)                                    # (S, N)               (5.34)
        return log_p, (residual, u2, log_psi, mask)

    def backward(self, params, cache, dlog_p, *, need_dparams=True):
        """df (S, N, D), and dlog_psi (D,), from dlog_p (S, N)."""
        xp = namespace(dlog_p)
        residual, u2, log_psi, mask = cache
        d = dlog_p[:, :, None] if mask is None else dlog_p[:, :, None] * mask
        weight = self.weight(u2)
        df = d * weight * residual * xp.exp(-log_psi)              # (S, N, D)            (5.35)
        if not need_dparams:
            return df, None
        dlog_psi = 0.5 * self.dof * xp.sum(d * (1 - weight), axis=(0, 1))  # (D,)         (5.36)
        return df, {"log_psi": dlog_psi}

    def weight(self, u2):
        """How much a residual counts beside one of a Gaussian, from u² = (x − f)²/ψ."""
        return (self.dof + 1) / (self.dof + u2)                    # like u2              (5.35)

    def cross(self, params, f, x, mask=None):
        """log p(x_n|f_g) for every pair, from f (G, D) and x (N, D): (G, N), column by column."""
        xp = namespace(f, x)
        log_psi = params["log_psi"]
        scale, total = xp.exp(-0.5 * log_psi), 0.0
        for d in range(self.n_visible):
            u = (x[:, d] - f[:, d][:, None]) * scale[d]            # (G, N)
            terms = -0.5 * (self.dof + 1) * log1p(u * u / self.dof) - 0.5 * log_psi[d]
            terms = terms + self.log_constant()
            total = total + (terms if mask is None else terms * mask[:, d])  # (G, N)     (5.46)
        return total

    def mean(self, params, f):
        """E[x|f], shaped like f."""
        return f

    def draw_noise(self, rng, shape):
        """The noise that `sample` takes, drawn on the host: t_ν."""
        return rng.standard_t(self.dof, shape)

    def sample(self, params, f, noise):
        """x ~ p(x|f) from t_ν-distributed `noise`, shaped like f."""
        return f + noise * namespace(f).exp(0.5 * params["log_psi"])        #               (5.43)

    def start(self, mean, variance):
        """(f (D,), params): the columns' means, and scales that have the columns' variances."""
        xp = namespace(variance)
        return mean, {"log_psi": xp.log(variance * (1 - 2 / self.dof))}

    def squares(self, params, f, x):
        """The squared residuals (S, N, D) whose mean under q the M-step takes, each by its weight."""
        xp = namespace(f, x)
        r2 = (x - f) ** 2
        return self.weight(r2 * xp.exp(-params["log_psi"])) * r2

    def m_step(self, mean_square, lower, share=None):
        """ψ from the expected weighted squares (D,): a step that never raises Q."""
        return Gaussian(self.n_visible).m_step(mean_square, lower)  #                     (5.37)

    def closed_form(self, params, mean_square, lower, share=None):
        """The parameters of `m_step`."""
        return self.m_step(mean_square, lower, share)

    def by_gradient(self, dparams):
        """0 for log_psi, which has a closed form."""
        return Gaussian(self.n_visible).by_gradient(dparams)

    def at_the_floor(self, params, variance, min_noise):
        """Places of the columns whose ψ ended at its floor, a list."""
        return Gaussian(self.n_visible).at_the_floor(params, variance, min_noise)

    def lower_bounds(self, variance, min_noise):
        """The floor of ψ: log_psi of `min_noise` times each column's variance (D,)."""
        return Gaussian(self.n_visible).lower_bounds(variance, min_noise)

    def standard_units(self, mean, variance):
        """shift and scale (D,) such that (x − shift)/scale has variances about 1."""
        return Gaussian(self.n_visible).standard_units(mean, variance)

    def units_of_f(self, shift, scale):
        """f is the location, in the units of x: the same shift and scale, (D,)."""
        return shift, scale

    def rescale_params(self, params, scale):
        """The parameters for x·scale from those for x; scale (D,)."""
        return {"log_psi": params["log_psi"] + 2 * namespace(scale).log(scale)}

    def check(self, x, names):
        """Raise ValueError where host data x (N, D) cannot be fitted; `names` (D,) for the message."""
        refuse_constant(x, names)
