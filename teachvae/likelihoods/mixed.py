"""The likelihood of tables whose columns differ in kind.

Equations (5.x) are in derivations/equations.md.
"""

from dataclasses import dataclass

from ..arrays.backend import index, namespace
from ..arrays.rows import Share
from .likelihood import Likelihood


@dataclass(frozen=True)
class Mixed(Likelihood):
    """p(x|f) = Π_i p_i(x_i|f_i): the columns of x shared out among likelihoods of different kinds.

    parts  ((likelihood, columns), …); the columns of all parts together are 0 … D − 1, each once.
           f is the parts' f side by side, in the order of the parts

    Parameters: a list with each part's.
    """

    parts: tuple

    def __post_init__(self):
        parts = tuple((p, tuple(int(c) for c in columns)) for p, columns in self.parts)
        every = sorted(c for _, columns in parts for c in columns)
        if not parts or every != list(range(len(every))):
            raise ValueError(f"the parts' columns must be 0 … D − 1, each once, got {every}")
        for p, columns in parts:
            if p.n_visible != len(columns):
                raise ValueError(
                    f"{type(p).__name__} has {p.n_visible} columns, its place in Mixed has {len(columns)}"
                )
        object.__setattr__(self, "parts", parts)

    @property
    def n_visible(self):
        """D, the columns of x."""
        return sum(p.n_visible for p, _ in self.parts)

    @property
    def n_f(self):
        """How many numbers the decoder gives for a data case."""
        return sum(p.n_f for p, _ in self.parts)

    @property
    def has_m_step(self):
        """Whether some parameters have a closed-form M-step."""
        return any(p.has_m_step for p, _ in self.parts)

    @property
    def normalised(self):
        """Whether p(x|f) integrates to one."""
        return all(p.normalised for p, _ in self.parts)

    def split(self, params, f):
        """(likelihood, columns, its parameters, its f) of every part."""
        end = 0
        for (p, columns), own in zip(self.parts, params):
            start, end = end, end + p.n_f
            yield p, columns, own, f[..., start:end]

    def init(self, rng, backend):
        """Each part's parameters, a list."""
        return [p.init(rng, backend) for p, _ in self.parts]

    def forward(self, params, f, x, mask=None):
        """log p(x|f) (S, N) of f (S, N, n_f), x and mask (N, D), and the parts' caches."""
        log_p, caches = 0.0, []
        for p, columns, own, f_p in self.split(params, f):
            part, cache = p.forward(own, f_p, take(x, columns), take(mask, columns))
            log_p = log_p + part                                   # (S, N)                (5.38)
            caches.append(cache)
        return log_p, caches

    def backward(self, params, cache, dlog_p, *, need_dparams=True):
        """df (S, N, n_f) and each part's dparams, from dlog_p (S, N)."""
        df, dparams = [], []
        for (p, _), own, c in zip(self.parts, params, cache):
            df_p, dparams_p = p.backward(own, c, dlog_p, need_dparams=need_dparams)
            df.append(df_p)
            dparams.append(dparams_p)
        df = namespace(dlog_p).concat(df, axis=2)                  # (S, N, n_f)           (5.39)
        return df, dparams if need_dparams else None

    def cross(self, params, f, x, mask=None):
        """log p(x_n|f_g) for every pair, from f (G, n_f) and x (N, D): (G, N)."""
        return sum(
            p.cross(own, f_p, take(x, columns), take(mask, columns))
            for p, columns, own, f_p in self.split(params, f)
        )

    def mean(self, params, f):
        """E[x|f], (…, D)."""
        return self.gather([p.mean(own, f_p) for p, _, own, f_p in self.split(params, f)])

    def draw_noise(self, rng, shape):
        """The noise that `sample` takes for f of this shape: a list with each part's."""
        return [p.draw_noise(rng, (*shape[:-1], p.n_f)) for p, _ in self.parts]

    def sample(self, params, f, noise):
        """x ~ p(x|f) from `noise`, (…, D)."""
        pairs = zip(self.split(params, f), noise)
        return self.gather([p.sample(own, f_p, noise_p) for (p, _, own, f_p), noise_p in pairs])

    def gather(self, shares):
        """The parts' columns, shares[i] (…, D_i), put back in their places, (…, D)."""
        xp = namespace(shares[0])
        order = [c for _, columns in self.parts for c in columns]
        back = sorted(range(len(order)), key=order.__getitem__)
        return xp.take(xp.concat(shares, axis=-1), index(back, shares[0]), axis=-1)

    def start(self, mean, variance):
        """(f (n_f,), params): each part's."""
        starts = [p.start(take(mean, columns), take(variance, columns)) for p, columns in self.parts]
        return namespace(mean).concat([f for f, _ in starts]), [params for _, params in starts]

    def start_W(self, W):
        """The decoder's last weights (., n_f) to start from, each part's."""
        weights, end = [], 0
        for p, _ in self.parts:
            start, end = end, end + p.n_f
            weights.append(p.start_W(W[:, start:end]))
        return namespace(W).concat(weights, axis=1)

    def squares(self, params, f, x):
        """The squares (S, N, D) of the parts that have an M-step, and 0 for the others."""
        xp = namespace(f, x)
        shares = []
        for p, columns, own, f_p in self.split(params, f):
            x_p = take(x, columns)
            squares = p.squares(own, f_p, x_p) if p.has_m_step else xp.zeros_like(f_p[..., :1] * x_p[:, :1])
            shares.append(squares + xp.zeros_like(x_p))
        return self.gather(shares)

    def closed_form(self, params, mean_square, lower, share=None):
        """Each part's parameters, from the expected squares (D,)."""
        lower = [None] * len(self.parts) if lower is None else lower
        return [
            p.closed_form(own, take(mean_square, columns), floor, take(share, columns))
            for (p, columns), own, floor in zip(self.parts, params, lower)
        ]

    def by_gradient(self, dparams):
        """Each part's."""
        return [p.by_gradient(own) for (p, _), own in zip(self.parts, dparams)]

    def lower_bounds(self, variance, min_noise):
        """Each part's bounds, or None, a list."""
        return [p.lower_bounds(take(variance, columns), min_noise) for p, columns in self.parts]

    def at_the_floor(self, params, variance, min_noise):
        """Places of all the parts' columns whose noise variance ended at its floor, a sorted list."""
        return sorted(
            columns[i]
            for (p, columns), own in zip(self.parts, params)
            for i in p.at_the_floor(own, take(variance, columns), min_noise)
        )

    def standard_units(self, mean, variance):
        """shift and scale (D,), each part's."""
        pairs = [p.standard_units(take(mean, columns), take(variance, columns)) for p, columns in self.parts]
        return self.gather([shift for shift, _ in pairs]), self.gather([scale for _, scale in pairs])

    def units_of_f(self, shift, scale):
        """shift and scale (n_f,) that turn f for x into f for x·scale + shift."""
        pairs = [p.units_of_f(take(shift, columns), take(scale, columns)) for p, columns in self.parts]
        xp = namespace(shift)
        return xp.concat([a for a, _ in pairs]), xp.concat([b for _, b in pairs])

    def rescaled(self, scale):
        """This likelihood for x/scale; scale (D,)."""
        return Mixed(tuple((p.rescaled(take(scale, columns)), columns) for p, columns in self.parts))

    def rescale_params(self, params, scale):
        """The parameters for x·scale from those for x; scale (D,)."""
        return [
            p.rescale_params(own, take(scale, columns)) for (p, columns), own in zip(self.parts, params)
        ]

    def check(self, x, names):
        """Raise ValueError where host data x (N, D) cannot be fitted; `names` (D,) for the message."""
        for p, columns in self.parts:
            p.check(Share(x, list(columns)), [names[c] for c in columns])

    def check_values(self, x, names):
        """Raise ValueError where a part has no density for host data x (N, D)."""
        for p, columns in self.parts:
            p.check_values(Share(x, list(columns)), [names[c] for c in columns])


def take(array, columns):
    """The columns (…, D_i) of an array (…, D); None stays None."""
    if array is None:
        return None
    return namespace(array).take(array, index(columns, array), axis=-1)
