"""The categorical likelihood, for variables that take one of C values.

Equations (5.x) are in derivations/equations.md.
"""

from dataclasses import dataclass
from itertools import accumulate
from math import isfinite

from ..arrays.backend import constant, namespace
from ..arrays.rows import misfits, sum_last
from ..arrays.special import log_softmax
from ..messages import about_rows, shorten
from .likelihood import Likelihood


@dataclass(frozen=True)
class Categories:
    """likelihood="categorical" with the categories that each column can have, seen in training or not.

    A name alone takes them from the training data, and a part that is held out may then have others.

    levels  for every column its categories, any numbers that differ, at least one: ((0, 1, 2), (1, 5))

    Raises ValueError for anything else.
    """

    levels: tuple

    def __post_init__(self):
        try:
            levels = tuple(tuple(sorted(map(float, column))) for column in self.levels)
        except (TypeError, ValueError):
            levels = ()
        known = all(column and len(set(column)) == len(column) for column in levels)
        if not levels or not known or not all(isfinite(level) for column in levels for level in column):
            raise ValueError(
                "levels must hold every column's categories, numbers that differ, such as ((0, 1, 2), (1, "
                f"5)) for two columns, got {self.levels!r}"
            )
        object.__setattr__(self, "levels", levels)


@dataclass(frozen=True)
class Categorical(Likelihood):
    """p(x|f) = Π_i softmax(f_i)_{x_i}, each variable i with logits f_i of its own. No parameters.

    x holds every variable as a one-hot block: C_i columns, of which one is 1 and the others are 0. A
    mask of a variable that was not observed is 0 in all columns of its block.

    sizes  (C_1, C_2, …), how many values each variable takes; D is their sum
    """

    sizes: tuple

    def __post_init__(self):
        try:
            sizes = tuple(int(size) for size in self.sizes)
        except TypeError:
            sizes = ()
        if not sizes or min(sizes) < 1:
            raise ValueError(
                "sizes must be a tuple with every variable's number of categories, >= 1, such as (3,) for "
                f"one variable of 3, got {self.sizes!r}"
            )
        object.__setattr__(self, "sizes", sizes)

    @property
    def n_visible(self):
        """D, the columns of x."""
        return sum(self.sizes)

    @property
    def n_f(self):
        """How many numbers the decoder gives for a data case."""
        return self.n_visible

    def blocks(self):
        """The columns of every variable, slices."""
        ends = list(accumulate(self.sizes))
        return [slice(end - size, end) for end, size in zip(ends, self.sizes)]

    def log_pi(self, f):
        """log p of every category, shaped like f (…, D)."""
        blocks = [log_softmax(f[..., block]) for block in self.blocks()]
        return namespace(f).concat(blocks, axis=-1)                # like f               (5.29)

    def forward(self, params, f, x, mask=None):
        """log p(x|f) (S, N) of f (S, N, D), x and mask (N, D), and a cache."""
        log_pi = self.log_pi(f)                                    # (S, N, D)
        seen = x if mask is None else x * mask                     # (N, D)
        log_p = sum_last(seen * log_pi)                            # (S, N)               (5.30)
        return log_p, (log_pi, seen)

    def backward(self, params, cache, dlog_p, *, need_dparams=True):
        """df (S, N, D) from dlog_p (S, N); there are no parameters."""
        xp = namespace(dlog_p)
        log_pi, seen = cache
        dlog_pi = dlog_p[:, :, None] * seen                        # (S, N, D)
        # Σ_j over each block, spread over its columns again.
        total = [xp.sum(dlog_pi[..., b], axis=2, keepdims=True) + 0 * dlog_pi[..., b] for b in self.blocks()]
        df = dlog_pi - xp.exp(log_pi) * xp.concat(total, axis=2)   # (S, N, D)            (5.31)
        return df, {} if need_dparams else None

    def cross(self, params, f, x, mask=None):
        """log p(x_n|f_g) for every pair, from f (G, D) and x (N, D): (G, N), by one product."""
        return self.log_pi(f) @ (x if mask is None else x * mask).T  # (G, N)             (5.32)

    def mean(self, params, f):
        """E[x|f], the probabilities of the categories, shaped like f."""
        return namespace(f).exp(self.log_pi(f))

    def draw_noise(self, rng, shape):
        """The noise that `sample` takes for f of this shape: uniform on [0, 1), one per variable."""
        return rng.random((*shape[:-1], len(self.sizes)))

    def sample(self, params, f, noise):
        """x ~ p(x|f) from uniform `noise` (…, variables): the first category whose cumulated probability
        exceeds it, one-hot, shaped like f                                                   (5.33).
        """
        xp = namespace(f, noise)
        parts = []
        for d, block in enumerate(self.blocks()):
            pi = self.mean(params, f)[..., block]
            C = self.sizes[d]
            up_to = constant([[float(i <= j) for j in range(C)] for i in range(C)], like=f)
            cumulated, rest = pi @ up_to, pi @ (1 - up_to)         # (…, C) each
            # rounding may leave the noise above all sums: no category is passed after which none is left
            passed = (noise[..., d : d + 1] >= cumulated) & (rest > 0)
            place = xp.sum(xp.astype(passed, f.dtype), axis=-1, keepdims=True)  # c* − 1  (5.33)
            parts.append(xp.astype(place == constant(list(range(C)), like=f), f.dtype))
        return xp.concat(parts, axis=-1)

    def start(self, mean, variance):
        """(f (D,), params): the logarithms of the categories' shares, these kept at or above 0.001."""
        xp = namespace(mean)
        return xp.log(xp.where(mean < 1e-3, xp.zeros_like(mean) + 1e-3, mean)), {}

    def check_values(self, x, names):
        """Raise ValueError where host data x (N, D) are not one-hot; `names` (D,) for the message."""

        def wrong(x):
            variables = []
            for block in self.blocks():
                b = x[:, block]
                observed = (b == b).any(axis=1)                    # NaN: not observed
                variables.append(observed & ((((b != 0) & (b != 1)).any(axis=1)) | (b.sum(axis=1) != 1)))
            return namespace(x).stack(variables, axis=1)

        count, place = misfits(x, wrong)
        if count:
            n, d = place
            block = self.blocks()[d]
            raise about_rows(
                ValueError,
                f"the categorical likelihood needs one-hot columns, exactly one 1 among 0s in "
                f"{shorten(list(names[block]))}; row {{rows}} has {x[n : n + 1][0, block].tolist()}: give "
                "the categories as one column of numbers with likelihood='categorical', or encode them",
                [n],
            )
