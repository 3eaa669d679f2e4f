"""Through all the rows, block by block: no more than a block is ever held beside the data.

What is asked of a data case does not depend on the block that it came in.
"""

from dataclasses import dataclass

import numpy as np

from . import ranks
from .backend import index, namespace, to_numpy
from .observed import Observed

CASES = 1024                           # of a block: 6 MB of float64 for 784 columns


def slices(n_cases, size=None):
    """Slices of at most `size` data cases, `CASES` where None, that together are all of them."""
    size = CASES if size is None else size
    return [slice(start, min(start + size, n_cases)) for start in range(0, n_cases, size)]


def float_type(dtype):
    """The name of the float type in which host data of `dtype` are computed: float64 but for float32."""
    return "float32" if dtype == np.float32 else "float64"


def as_floats(x):
    """A block x (n, D) of host data as contiguous floats, of its `float_type`."""
    return np.ascontiguousarray(x, dtype=float_type(x.dtype))


def collect(n_cases, answer, each=map, places=None):
    """answer(rows) of every block, one after the other in one host array (N, …); the blocks are `slices`, or
    `places` where given.

    An answer that is a named tuple is collected field by field; a field that is no array, such as the name
    of a method, is the same in every block. `workers.each` for `each` shares the blocks among threads: for
    an answer that warns of nothing, draws from nothing that another block draws from, and has no blocks of
    its own that are better shared.
    """
    whole, places = None, slices(n_cases) if places is None else places
    for rows, part in zip(places, each(answer, places)):
        if whole is None:
            whole = _like(part, n_cases)
        _put(part, whole, rows)
    return whole


def _like(part, n_cases):
    """Room on the host for n_cases rows such as those of `part`."""
    if isinstance(part, tuple):
        return type(part)(*(_like(field, n_cases) for field in part))
    if part is None or isinstance(part, str):
        return part
    part = to_numpy(part)
    return np.empty((n_cases, *part.shape[1:]), part.dtype)


def _put(part, whole, rows):
    if isinstance(part, tuple):
        for field, into in zip(part, whole):
            _put(field, into, rows)
    elif not (part is None or isinstance(part, str)):
        whole[rows] = to_numpy(part)


def misfits(x, test):
    """How many entries of host data x (N, D) `test`, a function of a block, is True of, and the place (n, d)
    of the first, or None.
    """
    count, first = 0, None
    for rows in slices(x.shape[0]):
        bad = test(x[rows])
        count += int(bad.sum())
        if first is None and bad.any():
            n, d = [int(i[0]) for i in bad.nonzero()]
            first = rows.start + n, d
    return count, first


def extremes(x):
    """The least and the largest number in each column of host data x (N, D), (D,) each; NaN are left out.

    Of all ranks that have data cases, as `mean_and_variance`.
    """
    low = np.fmin.reduce([np.fmin.reduce(as_floats(x[rows])) for rows in slices(x.shape[0])])
    high = np.fmax.reduce([np.fmax.reduce(as_floats(x[rows])) for rows in slices(x.shape[0])])
    lows, highs = zip(*ranks.of(x).gather((low, high)))
    return np.fmin.reduce(lows), np.fmax.reduce(highs)


def mean_and_variance(x, weights=None):
    """Those of each column of host data x (N, D), (D,) each in float64; NaN are left out.

    Data case n counts weights_n times, once where None.
    """
    def sums(function):
        def part(rows):
            values = function(as_floats(x[rows]))
            return values if weights is None else weights[rows, None] * values

        own = sum(np.nansum(part(rows), axis=0, dtype="float64") for rows in slices(x.shape[0]))
        return ranks.of(x).sum(own)

    count = sums(lambda b: b == b)
    mean = sums(lambda b: b) / count
    return mean, sums(lambda b: (b - mean) ** 2) / count


@dataclass(frozen=True)
class Share:
    """The columns `places` of host data x (N, D), picked out where a block is read: share[rows]."""

    x: object
    places: list

    @property
    def shape(self):
        """(N, the number of these columns)."""
        return self.x.shape[0], len(self.places)

    @property
    def comm(self):
        """That of x."""
        return ranks.of(self.x)

    @property
    def dtype(self):
        """That of x."""
        return self.x.dtype

    def __getitem__(self, rows):
        return self.x[rows][:, self.places]


ROWS = 2048  # rows of decoder input held at a time, samples times data cases: they fit a core's cache


def blocks(n_cases, n_samples):
    """Slices of the data cases such that a block has about `ROWS` rows of decoder input."""
    return slices(n_cases, max(1, min(256, ROWS // n_samples)))


def affine(x, W, b):
    """x W + b, (R, n_out), b added in place: a network's largest array is not held twice for it."""
    y = x @ W
    y += b
    return y


def sum_first(x):
    """The sum of the rows of x (R, D), (D,): a product with ones, faster than `sum`."""
    return namespace(x).ones_like(x[:, 0]) @ x


def sum_last(x):
    """x (…, D) summed over its last axis: a product with ones, faster than `sum`, most so for short rows."""
    row = x[(0,) * (x.ndim - 1) + (...,)]
    return x @ namespace(x).ones_like(row)


def put_rows(x, rows, values):
    """x (N, …) with `values` (n, …) at the n places `rows`."""
    place = list(range(x.shape[0]))
    for i, row in enumerate(rows):
        place[row] = x.shape[0] + i
    return take_rows(namespace(x).concat([x, values], axis=0), place)


def resample(candidates, w, u):
    """M of the S candidates (S, N, K) of every data case, (M, N, K), each drawn with the probability that is
    its weight's share of w (S, N), given host numbers u (M, N), uniform on [0, 1): the first candidate up to
    which the weights sum to more than the share u. Places are found on the host.
    """
    xp, (S, N, K) = namespace(candidates), candidates.shape
    up_to = np.cumsum(to_numpy(w), axis=0, dtype="float64")        # (S, N)
    sought = u * up_to[-1]                                         # below the last, rounded too
    places = [np.searchsorted(up_to[:, n], sought[:, n], side="right") * N + n for n in range(N)]
    places = np.minimum(np.stack(places, axis=1), S * N - 1)       # (M, N); NaN leads past the end
    rows = xp.take(xp.reshape(candidates, (S * N, K)), index(places.ravel(), candidates), axis=0)
    return xp.reshape(rows, (-1, N, K))


def take_draws(eta, rows):
    """The draws eta (S, N, K) of the data cases `rows`, a slice or a host array of places, (S, n, K)."""
    if isinstance(rows, slice):
        return eta[:, rows, :]
    return namespace(eta).take(eta, index(rows, eta), axis=1)


def take_rows(x, rows):
    """The data cases `rows` (a slice or a host array of places) of x (N, …)."""
    if isinstance(rows, slice):
        return x[rows, ...]
    if isinstance(x, Observed):
        return x.each(lambda array: take_rows(array, rows))
    return namespace(x).take(x, index(rows, x), axis=0)
