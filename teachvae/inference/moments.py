"""The sufficient statistics of factor analysis, N, Σx and Σxxᵀ, which merge by addition.

They are kept as N, the mean and the sums about it, so that nothing is lost far from the origin.
Equations (2.x) are in derivations/equations.md.
"""

from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np

from ..arrays import ranks
from ..arrays.backend import get_backend, to_numpy
from ..arrays.observed import network_input
from ..arrays.rows import slices


@dataclass(frozen=True, eq=False)
class Moments:
    """What factor analysis needs of complete data x (N, D); a + b is that of both together.

    n_cases  N, or the sum of the data cases' weights    mean (D,)
    scatter (D, D) = Σ_n (x_n − mean)(x_n − mean)ᵀ, all in float64
    """

    n_cases: int
    mean: np.ndarray
    scatter: np.ndarray

    @property
    def covariance(self):
        """scatter / N, (D, D)."""
        return self.scatter / self.n_cases

    def __add__(self, other):
        """The moments of both sets of data cases (Chan, Golub & LeVeque 1983).

        As exact as the two means, which far from the origin are rounded themselves.
        """
        if not isinstance(other, Moments):
            return NotImplemented
        if self.mean.shape != other.mean.shape:
            raise ValueError(
                f"moments of {len(self.mean)} and of {len(other.mean)} columns cannot be added: give the "
                "same columns"
            )
        N = self.n_cases + other.n_cases
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.n_cases / N)
        between = np.outer(delta, delta) * (self.n_cases * other.n_cases / N)
        scatter = self.scatter + other.scatter + between           # (D, D)                (2.18)
        return Moments(N, mean, scatter)


def moments(x, backend="numpy", weights=None):
    """The `Moments` of x (N, D), host data of float64 or float32, in one pass over blocks of rows, and of the
    data cases of all other ranks.

    Data case n counts weights_n times, weights (N,) > 0; once where None.

    All blocks are centred by the first one's mean, so near to that of all that the correction at the end
    loses few digits, wherever the origin is.
    """
    N, D = x.shape
    double = get_backend(backend, "float64")
    guess = x[slices(N)[0]].mean(axis=0, dtype="float64")
    products, total = double.zeros((D, D)), np.zeros(D)
    for rows in slices(N):
        centred = x[rows] - guess                                  # float64, whatever x is
        counted = centred if weights is None else weights[rows, None] * centred
        total += counted.sum(axis=0)
        counted = double.asarray(counted)
        products = products + counted.T @ (counted if weights is None else double.asarray(centred))
    count = N if weights is None else float(weights.sum())
    shift = total / count
    scatter = to_numpy(products) - count * np.outer(shift, shift)  # (D, D)                (2.17)
    return _of_all(Moments(count, guess + shift, scatter), ranks.of(x))


def _of_all(own, comm):
    """The `Moments` of all ranks' data cases from each one's own: all means, then a sum of D² numbers."""
    if comm.size == 1:
        return own
    counts, means = zip(*comm.gather((own.n_cases, own.mean)))
    shares = np.array(counts) / sum(counts)
    mean = means[0] + shares @ (np.array(means) - means[0])
    delta = own.mean - mean
    scatter = comm.sum(own.scatter + own.n_cases * np.outer(delta, delta))  # (D, D)      (2.18)
    return Moments(sum(counts), mean, scatter)


def moments_of_input(x):
    """The `Moments` of a recognition network's input, from data cases that are read as x[rows, …], such as
    `columns.Cases`.
    """
    own = (moments(to_numpy(network_input(x[rows, ...]))) for rows in slices(x.shape[0]))
    return _of_all(reduce(add, own), ranks.of(x))
