"""Rotations of the loadings to simple structure, in which every variable loads on few factors.

p(x) is blind to a rotation of z, so one may be chosen that is easy to read: varimax, which leaves the factors
uncorrelated, or promax, which lets them correlate. Loadings are L = Wᵀ (D, K) here, one row per variable,
in units of the variables' standard deviations; a rotation is a matrix T (K, K), and L T the rotated loadings.
Equations (2.x) are in derivations/equations.md.
"""

from itertools import combinations
import math
from typing import NamedTuple

from ..arrays.backend import identity, namespace
from ..arrays.special import diagonal
from ..messages import warn
from ..networks.convergence import ConvergenceWarning
from .linear_gaussian import diagonal_gap, precision, signs

GAIN = 1e-14                                                       # of a whole sweep, where varimax ends
SWEEPS = 1000                                                      # at most; without structure it takes many
POWER = 4                                                          # of promax's target, as in R


class Rotation(NamedTuple):
    """A fitted model told in rotated factors z T⁻ᵀ, the largest first: W ← TᵀW              (2.29).

    method        its name
    W             (K, D), the rotated loadings in the units of x; `loadings` (D, K) is its transpose
    T             (K, K), by which the loadings were multiplied
    correlations  (K, K), of the factors: I for an orthogonal rotation
    criterion     of the rotated loadings, as varimax has it (2.30)
    diagonal_gap  Q − nlml of the best diagonal q of these factors, of complete data, in nats per data case
    """

    method: str
    W: object
    T: object
    correlations: object
    criterion: float
    diagonal_gap: float

    @property
    def loadings(self):
        """Wᵀ (D, K)."""
        return self.W.T

    def scores(self, z, covariance):
        """Scores z (N, K) of the factors before, and their covariance (…, K, K), as those of these factors.
        """
        back = namespace(self.T).linalg.inv(self.T)                # T⁻¹
        return z @ back.T, back @ covariance @ back.T


def rotate(W, psi, method):
    """The `Rotation` of W (K, D), psi (D,) by a method of `METHODS`.

    It does not depend on the units of x. The entry of largest size of each factor, in standard units, is
    positive. Raises ValueError where promax is asked to rotate loadings of a rank below K.
    """
    xp = namespace(W)
    communality = xp.sum(W * W, axis=0)                            # (D,)
    L = (W / xp.sqrt(communality + psi)).T                         # (D, K), in standard units
    T = METHODS[method](L)
    rotated = (L @ T).T                                            # (K, D)
    falling = xp.argsort(-xp.sum(rotated * rotated, axis=1))
    T = xp.take(T * signs(rotated), falling, axis=1)
    back = xp.linalg.inv(T)
    return Rotation(
        method,
        W=T.T @ W,
        T=T,
        correlations=back @ back.T,                                # (K, K)                (2.29)
        criterion=criterion(_normalised(L) @ T),
        diagonal_gap=diagonal_gap(T.T @ precision(W, psi) @ T),    #                       (2.29)
    )


def criterion(L):
    """The variances of the squares in each column of L (D, K), added up                        (2.30)."""
    xp = namespace(L)
    squares = L * L
    return float(xp.sum(xp.mean(squares * squares, axis=0) - xp.mean(squares, axis=0) ** 2))


def varimax(L):
    """The orthogonal T (K, K) of largest `criterion`, each row of L (D, K) scaled to length 1 (Kaiser 1958).

    One pair of factors after the other is turned by the angle that is best for it; ending at `SWEEPS` through
    all pairs warns.
    """
    xp = namespace(L)
    D, K = L.shape
    whole = xp.concat([_normalised(L), identity(K, like=L)], axis=0)  # I becomes T as the rows above it turn
    columns = [whole[:, k] for k in range(K)]
    for _ in range(SWEEPS):
        gained = 0.0
        for j, k in combinations(range(K), 2):
            a, b = columns[j], columns[k]
            u, v = (a * a - b * b)[:D], (2 * a * b)[:D]            # (a + ib)² = u + iv
            U, V = float(xp.sum(u)), float(xp.sum(v))
            real = float(xp.sum(u * u - v * v)) - (U * U - V * V) / D
            imaginary = 2 * float(xp.sum(u * v)) - 2 * U * V / D
            angle = math.atan2(imaginary, real) / 4                #                       (2.31)
            gained += math.hypot(real, imaginary) * math.sin(2 * angle) ** 2 / (2 * D)  #  (2.31)
            c, s = math.cos(angle), math.sin(angle)
            columns[j], columns[k] = c * a + s * b, c * b - s * a
        if gained < GAIN:
            break
    else:
        warn(
            f"varimax stopped after {SWEEPS} sweeps, the last of which raised its criterion by {gained:.1e}: "
            "the loadings have next to no simple structure to turn to",
            ConvergenceWarning,
        )
    return xp.stack([column[D:] for column in columns], axis=1)


def promax(L):
    """T (K, K) that brings varimax's loadings near to their own fourth powers (Hendrickson & White 1964)."""
    xp = namespace(L)
    K = L.shape[1]
    T = varimax(L)
    if K == 1:
        return T
    rank = int(xp.linalg.matrix_rank(L))
    if rank < K:
        raise ValueError(
            f"promax needs loadings of rank K = {K}, those of this fit have rank {rank}: fit fewer factors, "
            "or rotate by 'varimax'"
        )
    X = L @ T
    target = X * xp.abs(X) ** (POWER - 1)                          # (D, K)
    G = xp.linalg.solve(X.T @ X, X.T @ target)                     # (K, K)                (2.32)
    scale = xp.sqrt(diagonal(xp.linalg.inv(G.T @ G)))              # (K,)                  (2.32)
    return T @ (G * scale)


METHODS = {"varimax": varimax, "promax": promax}


def _normalised(L):
    """L (D, K) with rows of length 1; a row of zeros, a variable without a factor, stays."""
    xp = namespace(L)
    length = xp.sqrt(xp.sum(L * L, axis=1, keepdims=True))
    return L / xp.where(length > 0, length, xp.ones_like(length))
