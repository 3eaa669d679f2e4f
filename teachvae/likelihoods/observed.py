"""Data cases with missing entries: a likelihood of what was observed.

Equations (5.x) are in derivations/equations.md.
"""

from dataclasses import dataclass

from ..arrays.backend import namespace


@dataclass(frozen=True)
class Observed:
    """p(x_observed|f) = Π over the observed d of p(x_d|f): missing entries are integrated out   (5.40).

    Each data case carries its mask beside it: x is [x | mask], (N, 2D), where mask holds 1 for an
    entry that was observed and 0 for one that was not, and any finite number stands in its place. So
    everything that works on data cases works on incomplete ones, and a recognition network sees which
    entries it may trust.

    likelihood  of complete data
    """

    likelihood: object

    @property
    def n_visible(self):
        return self.likelihood.n_visible

    @property
    def n_f(self):
        return self.likelihood.n_f

    @property
    def has_m_step(self):
        return self.likelihood.has_m_step

    @property
    def normalised(self):
        return self.likelihood.normalised

    def split(self, x):
        """x and mask, each (N, D), from [x | mask]."""
        return x[:, : self.n_visible], x[:, self.n_visible :]

    def init(self, rng, backend):
        return self.likelihood.init(rng, backend)

    def forward(self, params, f, x, mask=None):
        x, seen = self.split(x)
        return self.likelihood.forward(params, f, x, seen if mask is None else seen * mask)

    def backward(self, params, cache, dlog_p, *, need_dparams=True):
        return self.likelihood.backward(params, cache, dlog_p, need_dparams=need_dparams)

    def cross(self, params, f, x, mask=None):
        """log p(x_n|f_g) for every pair, from f (G, n_f) and [x | mask] (N, 2D): (G, N)."""
        x, seen = self.split(x)
        return self.likelihood.cross(params, f, x, seen if mask is None else seen * mask)

    def mean(self, params, f):
        """E[x|f] of all entries, (…, D)."""
        return self.likelihood.mean(params, f)

    def draw_noise(self, rng, shape):
        return self.likelihood.draw_noise(rng, shape)

    def sample(self, params, f, noise):
        """Complete data (…, D)."""
        return self.likelihood.sample(params, f, noise)

    def start(self, mean, variance):
        return self.likelihood.start(mean, variance)

    def start_W(self, W):
        return self.likelihood.start_W(W)

    def squares(self, params, f, x):
        """The squares (S, N, D) that the M-step takes; what stands for missing entries is to be masked."""
        return self.likelihood.squares(params, f, self.split(x)[0])

    def closed_form(self, params, squares, lower, share=None):
        return self.likelihood.closed_form(params, squares, lower, share)

    def by_gradient(self, dparams):
        return self.likelihood.by_gradient(dparams)

    def at_the_floor(self, params, variance, min_noise):
        return self.likelihood.at_the_floor(params, variance, min_noise)

    def lower_bounds(self, variance, min_noise):
        return self.likelihood.lower_bounds(variance, min_noise)

    def standard_units(self, mean, variance):
        return self.likelihood.standard_units(mean, variance)

    def units_of_f(self, shift, scale):
        return self.likelihood.units_of_f(shift, scale)

    def rescaled(self, scale):
        return Observed(self.likelihood.rescaled(scale))

    def rescale_params(self, params, scale):
        return self.likelihood.rescale_params(params, scale)

    def check(self, x, names):
        """As of the likelihood of complete data, for host data x (N, D) with NaN where nothing was seen."""
        self.likelihood.check(x, names)

    def check_values(self, x, names):
        self.likelihood.check_values(x, names)


def bare(likelihood):
    """The likelihood of complete data."""
    return likelihood.likelihood if isinstance(likelihood, Observed) else likelihood


def split(likelihood, x):
    """x (N, D) and its mask (N, D), None where `likelihood` is of complete data."""
    return likelihood.split(x) if isinstance(likelihood, Observed) else (x, None)


def join(x, mask):
    """[x | mask], (N, 2D)."""
    return namespace(x, mask).concat([x, mask], axis=1)
