"""The Bernoulli likelihood, for variables that are 0 or 1.

Equations (5.x) are in derivations/equations.md.
"""

from dataclasses import dataclass

from ..arrays.backend import namespace
from ..arrays.rows import misfits, sum_last
from ..arrays.special import sigmoid, softplus
from ..messages import about_rows
from .likelihood import Likelihood


@dataclass(frozen=True)
class Bernoulli(Likelihood):
    """p(x|f) = Π_d σ(f_d)^x_d (1 − σ(f_d))^(1−x_d) for x in {0, 1}; f are logits. No parameters.

    n_visible  D
    relaxed    also take grey values between 0 and 1. The same formula is then no likelihood: over
               [0, 1] it does not integrate to one (5.45), for its constant is missing (Loaiza-Ganem &
               Cunningham 2019), so its numbers are comparable with nothing but each other
    """

    n_visible: int
    relaxed: bool = False

    @property
    def normalised(self):
        """Whether p(x|f) integrates to one."""
        return not self.relaxed

    @property
    def n_f(self):
        """How many numbers the decoder gives for a data case."""
        return self.n_visible

    def forward(self, params, f, x, mask=None):
        """log p(x|f) (S, N) of f (S, N, D), x and mask (N, D), and a cache."""
        terms = x * f - softplus(f)                                # (S, N, D)
        if mask is not None:
            terms = terms * mask
        log_p = sum_last(terms)                                    # (S, N)                (5.7)
        return log_p, (f, x, mask)

    def backward(self, params, cache, dlog_p, *, need_dparams=True):
        """df (S, N, D) from dlog_p (S, N); there are no parameters."""
        f, x, mask = cache
        d = dlog_p[:, :, None] if mask is None else dlog_p[:, :, None] * mask
        df = d * (x - sigmoid(f))                                  # (S, N, D)             (5.8)
        return df, {} if need_dparams else None

    def cross(self, params, f, x, mask=None):
        """log p(x_n|f_g) for every pair, from f (G, D) and x (N, D): (G, N), by one product."""
        cost = softplus(f)
        if mask is not None:
            return f @ (x * mask).T - cost @ mask.T                # (G, N)                (5.12)
        return f @ x.T - sum_last(cost)[:, None]                   # (G, N)                (5.12)

    def mean(self, params, f):
        """E[x|f] = σ(f), shaped like f."""
        return sigmoid(f)

    def draw_noise(self, rng, shape):
        """The noise that `sample` takes, drawn on the host: uniform, and below 1 in float32 too."""
        noise = rng.random(shape)
        return namespace(noise).clip(noise, 0.0, 1 - 2.0**-24)

    def sample(self, params, f, noise):
        """x ~ p(x|f) from uniform `noise`, shaped like f: 1 where noise < σ(f)."""
        xp = namespace(f, noise)
        return xp.where(noise < sigmoid(f), xp.ones_like(f), xp.zeros_like(f))  # like f   (5.9)

    def start(self, mean, variance):
        """(f (D,), params): the logits of the columns' means, kept inside [0.01, 0.99]."""
        xp = namespace(mean)
        mean = xp.where(mean < 0.01, xp.zeros_like(mean) + 0.01, mean)
        mean = xp.where(mean > 0.99, xp.zeros_like(mean) + 0.99, mean)
        return xp.log(mean) - xp.log1p(-mean), {}

    def check_values(self, x, names):
        """Raise ValueError where host data x (N, D) is not binary; `names` (D,) for the message."""

        def bad(x):
            if self.relaxed:
                return (x < 0) | (x > 1)
            return (x != 0) & (x != 1) & (x == x)                  # NaN: not observed

        count, place = misfits(x, bad)
        if count:
            n, d = place
            needed = "grey values from 0 to 1: scale the data" if self.relaxed else (
                "0 and 1: binarise the data (x > threshold)"
            )
            raise about_rows(
                ValueError,
                f"the Bernoulli likelihood got {count} other values, the first {x[n : n + 1][0, d]:g} in row "
                f"{{rows}}, column {names[d]}; it needs {needed}, or use likelihood='gaussian'",
                [n],
            )


def relaxed_bernoulli(n_visible):
    """The Bernoulli formula for grey values between 0 and 1: not a likelihood."""
    return Bernoulli(n_visible, relaxed=True)
