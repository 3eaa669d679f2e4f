"""A mixture of factor analysers: its E-step, its M-step, the code that it gives a data case, and its starts.

Of J factor analysers, one for each component j, a data case has one: p(j) = π_j, z ~ N(0, I), and
x = z W_j + b_j + noise, noise ~ N(0, Ψ_j). Given j all is linear-Gaussian, and over j there are sums. Shapes:
x (N, D), K the size of z, which may be 0; mask (N, D) as in `linear_gaussian`. Equations (9.x) are in
derivations/equations.md.
"""

from typing import NamedTuple

import numpy as np

from ..arrays.backend import namespace, to_numpy
from ..arrays.rows import as_floats, slices
from ..arrays.special import LOG_2PI
from ..likelihoods import Gaussian
from . import em, linear_gaussian
from .mixture import EMPTY, divergence, far_apart, free, log_pmf
from .moments import moments


class Analysers(NamedTuple):
    """The parameters θ of p(x, z, j).

    weights  (J,) π_j = p(j)
    W, b     (J, K, D), (J, D) of the decoders z W_j + b_j
    psi      (D,) the diagonal of Ψ, which all components share, or (J, D) those of the Ψ_j
    """

    weights: object
    W: object
    b: object
    psi: object


def component(p, j):
    """W_j (K, D), b_j (D,) and psi_j (D,) of component j."""
    return p.W[j, ...], p.b[j, :], p.psi if p.psi.ndim == 1 else p.psi[j, :]


# ---- one bound over j and z ------------------------------------------------------------------------


def e_step(p, x, mask=None):
    """log p(x_n, j) (N, J), and of p(z|x_n, j) the means (N, K) and the covariances, J of each."""
    one = linear_gaussian.e_step if p.W.shape[1] else without_z
    means, covariances, nlml = zip(*(one(*component(p, j), x, mask) for j in range(p.b.shape[0])))
    log_p = log_pmf(p.weights) - namespace(x).stack(list(nlml), axis=1)  # (N, J)          (9.10)
    return log_p, means, covariances


def without_z(W, b, psi, x, mask=None):
    """`linear_gaussian.e_step` for K = 0, where nothing is to be inverted: cuSOLVER takes no empty matrix."""
    xp, r = namespace(psi), x - b
    terms = r * r / psi + xp.log(psi) + LOG_2PI                    # (N, D)                 (9.1)
    nlml = 0.5 * xp.sum(terms if mask is None else mask * terms, axis=1)
    return r[:, :0], W @ W.T, nlml


def log_joint(p, x):
    """log p(x_n, j), z integrated out, (N, J)."""
    return e_step(p, x)[0]


class Moments(NamedTuple):
    """What an M-step needs of the data, given the parameters p of the E-step.

    n_cases     (J,) N_j, of `weights` of mean 1
    statistics  J `linear_gaussian.Statistics`, of x − b_j; None where component j is empty
    """

    p: Analysers
    n_cases: object
    statistics: list


def weighted_sums(h, r, m):
    """Sums over data cases of r (n, D) and the means m (n, K) of z, each case h_n times; the covariance of z,
    which is the same for all, is still to be added.
    """
    hm = h[:, None] * m
    return linear_gaussian.Statistics(h @ r, h @ (r * r), h @ m, m.T @ hm, r.T @ hm)


class Problem:
    """The steps of EM for `em.em`.

    data     x (N, D), read as data[rows, …];  weights  (N,) of mean 1: how often each data case counts
    lowest   (D,) the floor of Ψ
    """

    def __init__(self, data, weights, lowest):
        self.data, self.weights, self.lowest = data, weights, lowest

    def e_step(self, p):
        """The `Moments` of all data cases under q(j) q(z|j), and the mean Q."""
        J, N = p.b.shape[0], self.data.shape[0]
        sums, n_cases, total = [None] * J, 0.0, 0.0
        for rows in slices(N):
            x, w = self.data[rows, ...], self.weights[rows]
            log_p, means, covariances = e_step(p, x)
            q = free(log_p)                                        # (n, J)                 (9.4)
            h = w[:, None] * q
            n_cases = n_cases + namespace(h).sum(h, axis=0)        # (J,)                  (9.12)
            total = total + w @ divergence(q, log_p)               #                       (9.11)
            for j in range(J):
                part = weighted_sums(h[:, j], x - p.b[j, :], means[j])  #                  (9.12)
                whole = part if sums[j] is None else (a + c for a, c in zip(sums[j], part))
                sums[j] = linear_gaussian.Statistics(*whole)
        statistics = [None] * J
        for j in np.flatnonzero(to_numpy(n_cases) >= EMPTY).tolist():
            s = linear_gaussian.Statistics(*(part / n_cases[j] for part in sums[j]))
            statistics[j] = s._replace(zz=s.zz + covariances[j])   #                       (9.12)
        return Moments(p, n_cases, statistics), float(total) / N

    def m_step(self, moments):
        """The `Analysers` of least Q given q(j) and q(z|j). Of an empty component W, b and psi stay."""
        p, n_cases, statistics = moments
        xp = namespace(p.b)
        W, b, left = [], [], []
        for j, s in enumerate(statistics):
            W_j, b_j, v = component(p, j)
            if s is not None:
                W_j, shift, v = linear_gaussian.m_step(s)          #                       (9.13)
                b_j = b_j + shift
            W, b, left = [*W, W_j], [*b, b_j], [*left, v]
        weights = n_cases / self.data.shape[0]                     # (J,)                  (9.13)
        left = xp.stack(left, axis=0)                              # v_jd, (J, D)
        psi = left if p.psi.ndim == 2 else weights @ left          # (J, D) or (D,)        (9.13)
        return Analysers(weights, xp.stack(W, axis=0), xp.stack(b, axis=0), self.floored(psi))

    def widened(self, p, moments):
        """The `Analysers` p of an M-step as that of the wider model, z ~ N(a_j, R_j), has them."""
        if p.W.shape[1] == 0:
            return p
        xp = namespace(p.b)
        wide = [
            (p.W[j, ...], p.b[j, :]) if s is None else
            linear_gaussian.expanded(p.W[j, ...], p.b[j, :], s.z, s.zz)  #                 (2.24)
            for j, s in enumerate(moments.statistics)
        ]
        W, b = (xp.stack(list(parts), axis=0) for parts in zip(*wide))
        return p._replace(W=W, b=b)

    def turned(self, p):
        """The same: q is the posterior in any rotation of z."""
        return p

    def floored(self, psi):
        """psi, (D,) or (J, D), at or above its floor."""
        return namespace(psi).where(psi > self.lowest, psi, self.lowest)  #               (9.13)


def canonical(p):
    """The same `Analysers` in the rotations of z that make every W_j Ψ_j⁻¹ W_jᵀ diagonal."""
    if p.W.shape[1] == 0:
        return p
    parts = (component(p, j) for j in range(p.b.shape[0]))
    W = [linear_gaussian.canonical(W, psi) for W, _, psi in parts]
    return p._replace(W=namespace(p.W).stack(W, axis=0))


# ---- the code of a data case, and what is read off it ----------------------------------------------


def code(p, x, mask=None):
    """The mean of the code y = (e_j, e_j ⊗ z) of x under the posterior, (N, J + JK): the q_nj, and then, for
    every component, q_nj times the mean of z. e_j is J numbers of which the j-th is 1.
    """
    log_p, means, _ = e_step(p, x, mask)
    q = free(log_p)
    return namespace(q).concat([q, *(q[:, j : j + 1] * m for j, m in enumerate(means))], axis=1)  # (9.14)


def decode(p, y):
    """E[x|y] = Σ_j (y_j b_j + y_jz W_j) of codes y (N, J + JK): (N, D), linear in y."""
    J, K, D = p.W.shape
    xp = namespace(p.W)
    return y @ xp.concat([p.b, xp.reshape(p.W, (J * K, D))], axis=0)  # (N, D)             (9.14)


def denoised(p, x, tau2):
    """E[x|x̃] (N, D) of data x̃ that are x with noise N(0, τ²I) added; tau2 a number on the device."""
    log_p, means, _ = e_step(p._replace(psi=p.psi + tau2), x)      #                (9.15), (5.27)
    q, clean = free(log_p), 0.0
    for j, mean in enumerate(means):
        W, b, psi = component(p, j)
        f = mean @ W + b
        clean = clean + q[:, j : j + 1] * (f + psi / (psi + tau2) * (x - f))  #     (9.15), (5.28)
    return clean


# ---- where EM starts -------------------------------------------------------------------------------


def start(x, variance, n_components, n_latent, shared, lowest, rng, weights=None):
    """`Analysers` on the host for EM to start from: equal weights, and factor analyses of the data cases that
    lie nearest to each of J data cases far from one another.

    x         host data (N, D) or a `columns.Table`;  variance (D,) of its columns
    shared    whether all components share Ψ;  lowest (D,) its floor
    weights   (N,): how often each data case counts, once where None

    Few data cases say little of a covariance, so a tenth of an average component is mixed in, spread as the
    Gaussian mixture's start has it, by the columns' variances times J^(−2/D)               (9.16).
    """
    D, (places, draws) = x.shape[1], rng.spawn(2)
    centres = x[far_apart(x, variance, n_components, places, weights)].astype("float64")
    spread = np.diag(variance * n_components ** (-2 / D))
    gaussian = Gaussian(D)
    lower = gaussian.m_step(lowest, None)
    mixed_in = 0.1 * (x.shape[0] if weights is None else weights.sum()) / n_components
    parts = []
    for near in nearest(x, centres / np.sqrt(variance), np.sqrt(variance), weights):
        S = (near.scatter + mixed_in * spread) / (near.n_cases + mixed_in)  # (D, D)       (9.16)
        W, psi = em.start(S, n_latent, gaussian, draws.standard_normal((D, n_latent)), lower)
        parts.append((W, near.mean, psi))
    W, b, psi = (np.stack(part) for part in zip(*parts))
    return Analysers(np.full(n_components, 1 / n_components), W, b, psi.mean(axis=0) if shared else psi)


def nearest(x, centres, scale, weights=None):
    """The `moments.Moments` of the data cases that lie nearest to each of the centres (J, D), J of them; all
    is measured in units of scale (D,). No centre may be without any.
    """
    found = [None] * len(centres)
    for rows in slices(x.shape[0]):
        block = as_floats(x[rows])
        far = np.stack([np.sum((block / scale - centre) ** 2, axis=1) for centre in centres])
        label = far.argmin(axis=0)
        for j in np.unique(label).tolist():
            own = label == j
            part = moments(block[own], weights=None if weights is None else weights[rows][own])
            found[j] = part if found[j] is None else found[j] + part
    return found
