"""The worked examples of derivations/02-factor-analysis.md.

From EM on there is a third data case, (-1, 3), which makes the covariance S = (2 1; 1 2). Where entries are
missing its first one is. The free rotation needs K = 2: W2, with the same Ψ.
"""

from contextlib import contextmanager
from itertools import islice
from unittest.mock import patch
import warnings

import numpy as np

from teachvae import FactorAnalysis, linear_gaussian, moments
from teachvae.arrays import rows
from teachvae.arrays.observed import Observed
from teachvae.arrays.special import LOG_2PI
from teachvae.doors.units import HeywoodWarning
from teachvae.inference import em
from teachvae.inference.expectations import expected_squares
from teachvae.inference.missing import (
    observed_e_step, observed_m_step, observed_statistics, pattern_precisions
)
from teachvae.likelihoods import Gaussian
from teachvae.posteriors import DiagonalGaussian
from worked import example
from worked.example import W, b, psi, r, x

x3 = np.array([[2.0, 3.0], [-1.0, 0.0], [-1.0, 3.0]])              # three data cases
mask3 = np.array([[1.0, 1.0], [1.0, 1.0], [0.0, 1.0]])             # where one entry of them is missing
S3 = moments.moments(x3).covariance
W2 = np.array([[2.0, -0.4], [1.0, 2.8]])
T2 = np.array([[0.6, 0.8], [-0.8, 0.6]])

complete = em.Complete(S3, Gaussian(2))
start = em.Parameters(W, np.zeros(2), psi)                         # of EM; b is the data's mean


def one_round():
    """The statistics of the E-step at `start`, the mean nlml there, and the M-step's parameters."""
    stats, nlml = complete.e_step(start)
    return stats, nlml, complete.m_step(stats)


def table():
    """The statistics of the two data cases under the running example's q."""
    return linear_gaussian.statistics(DiagonalGaussian(1), example.phi, x)


def incomplete():
    """The E-step of the three data cases with one entry missing: means, covariances, nlml, statistics."""
    mean, covariance, nlml = observed_e_step(W, b, psi, x3, mask3)
    return mean[:, 0], covariance[:, 0, 0], nlml, observed_statistics(mean, covariance, x3, mask3)


@contextmanager
def quiet():
    """Where a Heywood case is meant, and no news."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HeywoodWarning)
        yield


def three_columns(r12, r13, r23):
    """A fit with one factor to three correlations."""
    R = np.array([[1, r12, r13], [r12, 1, r23], [r13, r23, 1]])
    return FactorAnalysis(1, tol=1e-12).fit_covariance(R)


# ---- the model --------------------------------------------------------------------------------


def eq_1_1():
    model, _ = example.linear()
    at = model.log_prior(example.z)                                # (S, N): z is 1.5 and 0.5, -0.5 and -0.5
    half = 0.5 * LOG_2PI
    yield from (half, 1.5, -0.5 * 1.5**2, half, at[0, 0])
    yield from (-0.5, -0.5 * 0.5**2, half, at[1, 0])


def eq_2_34():
    model, theta = example.linear()
    at = model.log_joint(theta, x, np.array([[[1.5], [0.0]], [[1.0], [0.0]]]))[:, 0]
    residual = r[0] - model.f(theta, np.array([[1.5]]))[0][0] + b
    square = np.sum(residual**2 / psi)
    yield from (np.sum(np.log(psi)), 3 * LOG_2PI, 1.5, *residual, *residual**2, square, 1.5**2)
    yield from (square, 1.5**2, np.sum(np.log(psi)), 3 * LOG_2PI, at[0], at[1])


def eq_2_1():
    at_b = linear_gaussian.nlml(W, b, psi, b[None, :])[0]
    yield from (2 * LOG_2PI, 2 * at_b - 2 * LOG_2PI, at_b)


# ---- the posterior and the density ------------------------------------------------------------


def eq_2_2():
    yield linear_gaussian.precision(W, psi)[0, 0]
    for d in range(2):                                             # what column d adds
        yield linear_gaussian.precision(W[:, [d]], psi[[d]])[0, 0] - 1


def eq_2_3():
    mean, M = linear_gaussian.posterior(W, b, psi, x)
    beta, _ = linear_gaussian.posterior(W, np.zeros(2), psi, np.eye(2))  # a unit in one column
    yield from (*beta[:, 0], beta[0, 0], beta[1, 0], mean[0, 0])
    yield from (-beta[0, 0], beta[1, 0], mean[1, 0], 1 / M[0, 0], M[0, 0] ** -0.5)
    yield linear_gaussian.bartlett(mean, M)[0][0, 0]


def eq_2_4():
    M = linear_gaussian.precision(W, psi)
    yield from (np.log(1), np.log(2), np.log(M[0, 0]), linear_gaussian._log_det(M, psi))


def quadratic_forms():
    """r Σ⁻¹ rᵀ of both cases, from their nlml and the determinant."""
    log_det = linear_gaussian._log_det(linear_gaussian.precision(W, psi), psi)
    return 2 * linear_gaussian.nlml(W, b, psi, x) - 2 * LOG_2PI - log_det


def eq_2_5():
    mean, M = linear_gaussian.posterior(W, b, psi, x)
    one, two = quadratic_forms()
    whole, less = np.sum(r**2 / psi, axis=1), np.sum(mean @ M * mean, axis=1)
    yield from (one, whole[0], less[0], one)
    yield from (*(mean @ W)[1], *(r - mean @ W)[1])
    yield from (0.5**2, 0.5**2, two, whole[1], less[1], two)


def eq_2_6():
    log_det = linear_gaussian._log_det(linear_gaussian.precision(W, psi), psi)
    for quadratic, nlml in zip(quadratic_forms(), linear_gaussian.nlml(W, b, psi, x)):
        yield from (2 * LOG_2PI, log_det, quadratic, nlml)


# ---- what data cannot tell --------------------------------------------------------------------


def eq_2_35():
    yield from (*W2.ravel(), *T2.ravel())
    for (t1, t2), turned in zip(T2, T2 @ W2):
        yield from (t1, *W2[0], t2, *W2[1], *turned)
    nlml = linear_gaussian.nlml(W2, b, psi, x)[0]
    assert np.isclose(nlml, linear_gaussian.nlml(T2 @ W2, b, psi, x)[0], rtol=1e-14)
    yield nlml


def eq_2_14():
    (one, beside), (_, two) = linear_gaussian.precision(W2, psi) - np.eye(2)
    turned = linear_gaussian.canonical(W2, psi)
    large, small = np.diag(linear_gaussian.precision(turned, psi)) - 1
    yield from (2.0, 0.4, one, 1.0, 2.8, two, 2.0, 1.0, 0.4, 2.8, beside)
    yield from (one, two, beside, large * small, *linear_gaussian.rotation(W2, psi)[0], *turned.ravel())
    yield from (2.0, 2.0, large, 1.0, 2.0, small, np.linalg.det(linear_gaussian.precision(turned, psi)))
    yield from (1 + one, 1 + two, linear_gaussian.mean_field_gap(W2, psi))


# ---- EM ---------------------------------------------------------------------------------------


def eq_2_36():
    stats, before, p = one_round()
    mean, M = linear_gaussian.posterior(W, x3.mean(axis=0), psi, x3)
    family = DiagonalGaussian(1)
    phi = family.closest(mean, M)
    Q = linear_gaussian.bound(p.W, x3.mean(axis=0), p.psi, phi, family, x3).mean()
    after = complete.e_step(p)[1]
    yield from (before, *p.W[0], *p.psi, Q, after, Q - after, after, Q, before)


def eq_2_7():
    stats, nlml, _ = one_round()
    log_det = linear_gaussian._log_det(linear_gaussian.precision(W, psi), psi)
    trace = 2 * nlml - 2 * LOG_2PI - log_det
    yield from (S3[0, 0], S3[1, 1], S3[0, 1], 0.25, 0.25, *stats.xz[:, 0], *stats.xz[:, 0], trace)
    yield from (2 * LOG_2PI, log_det, trace, nlml)


def eq_2_8():
    stats, _, _ = one_round()
    one, two = stats.xz[:, 0]
    yield from (0.25, 0.25, 0.25, 0.25, one, two)
    yield from (0.25, 0.25, one, two, 0.25, 0.25 * (one + two), stats.zz[0, 0])


def eq_2_9():
    s = table()
    yield from (example.m[0, 0], example.s[1, 0], s.z[0], 0.5**2, 0.5**2, s.zz[0, 0])
    yield from (*s.x, 0.5, s.xz[0, 0], 0.5, s.xz[1, 0])


def eq_2_11():
    stats, _, p = one_round()
    yield from (stats.xz[0, 0], stats.zz[0, 0], p.W[0, 0])
    s = table()
    A = np.array([[s.zz[0, 0], s.z[0]], [s.z[0], 1]])
    yield from (A[0, 0], A[0, 1], A[1, 0], A[0, 0], A[0, 1] ** 2, np.linalg.det(A))
    yield from (s.xz[0, 0], s.x[0], s.xz[1, 0], s.x[1])
    (W_table,), b_table, _ = linear_gaussian.m_step(s)
    yield from (s.xz[0, 0], s.z[0], s.x[0], np.linalg.det(A), W_table[0])
    yield from (s.zz[0, 0], s.x[0], s.z[0], s.xz[0, 0], np.linalg.det(A), b_table[0], W_table[1], b_table[1])


def eq_2_12():
    stats, _, p = one_round()
    _, _, v = linear_gaussian.m_step(stats)
    yield from (p.W[0, 0], stats.xz[0, 0], p.W[0, 0] * stats.xz[0, 0], v[0])
    s = table()
    (W_table,), b_table, v = linear_gaussian.m_step(s)
    yield s.xx[0]
    for d in range(2):
        yield from (s.xx[d], W_table[d], s.xz[d, 0], b_table[d], s.x[d], v[d])


def eq_5_6():
    model, theta = example.linear()
    nodes = example.eta[:, :1, :], np.array([0.5, 0.5])
    each = np.array([expected_squares(model, theta, example.phi[[n]], x[[n]], *nodes)[0] for n in range(2)])
    f, _ = model.f(theta, example.m)
    yield from (*f[0], r[0, 0] - 0.5, each[0, 0], each[0, 1])
    yield from (0.5**2, each[1, 0], 0.5**2, each[1, 1])

    def found(x, noise="diagonal", lower=None):
        gaussian = Gaussian(2, noise)
        v, share = expected_squares(model, theta, example.phi, x, *nodes)
        return gaussian.psi(gaussian.m_step(v, lower, share), like=psi)

    yield from (*found(x), found(x, "isotropic")[0])
    gap = Observed(x, np.array([[1.0, 1.0], [0.0, 1.0]]))
    yield from (found(gap)[0], *found(gap), found(gap, "isotropic")[0])
    yield from (4.0, *found(x, lower={"log_psi": np.log([4.0, 4.0])}))


# ---- where EM starts --------------------------------------------------------------------------


def correlation():
    """The correlation of S3's two columns."""
    return S3[0, 1] / np.sqrt(S3[0, 0] * S3[1, 1])


def eq_2_15():
    R = np.array([[1.0, correlation()], [correlation(), 1.0]])
    V, (explained,) = em._leading(R, np.ones((2, 1)))
    (W_start,), psi_start = em.start(S3, 1, Gaussian(2), np.ones((2, 1)))
    left = 2 - explained
    yield from (correlation(), V[0, 0] ** 2, correlation(), explained, explained, left)
    yield from (V[0, 0] ** 2, explained, left, W_start[0] ** 2, correlation(), psi_start[0])


def eq_2_27():
    (W_start,), psi_start = em.regression_start(S3, 1, Gaussian(2), np.ones((2, 1)))
    u = psi_start[0] / 2
    explained = W_start[0] ** 2 / (psi_start[0] * 0.5) + 1
    yield from (0.99, 0.01, 0.99 * correlation(), 0.99 * correlation())
    yield from (u / 0.75, u / 0.75, u, u, psi_start[0])
    yield from (1 + correlation(), u, explained, psi_start[0], 0.5, explained - 1, W_start[0] ** 2)


# ---- fewer iterations, and cheaper ones -------------------------------------------------------


def wide():
    """The parameters after the M-step of the wider model, from `start`."""
    stats, _, p = one_round()
    return complete.widened(p, stats)


def eq_2_24():
    stats, _, p = one_round()
    W_wide, psi_wide = wide().W[0], wide().psi
    R = stats.zz[0, 0]
    yield from (R, np.sqrt(R), np.sqrt(R), p.W[0, 0], W_wide[0])
    yield from (W_wide[0] ** 2, psi_wide[0], W_wide[0] ** 2 + psi_wide[0])
    yield from (p.W[0, 0] ** 2, p.psi[0], p.W[0, 0] ** 2 + p.psi[0])
    yield from (complete.e_step(wide())[1], complete.e_step(p)[1], least())
    s = table()
    W_table, b_table, _ = linear_gaussian.m_step(s)
    W_new, b_new = linear_gaussian.expanded(W_table, b_table, s.z, s.zz)
    R = s.zz[0, 0] - s.z[0] ** 2
    yield from (s.z[0], R, np.sqrt(R), np.sqrt(R), W_table[0, 0], W_new[0, 0])
    for b_d in b_table:
        yield from (b_d, s.z[0], W_table[0, 0])
    yield from b_new


def least():
    """The least mean nlml of S3: that of W = (1, 1), Ψ = I, which is S3 itself."""
    return complete.e_step(em.Parameters(np.ones((1, 2)), np.zeros(2), np.ones(2)))[1]


def left_after(n, lengthening):
    """What n iterations of EM from `start` leave of the nlml to be gained."""
    with patch.object(em, "LENGTHENING", lengthening):
        return next(islice(em.em(complete, start, tol=0.0), n, None)).path[-1] - least()


def eq_2_26():
    own = wide()
    longer = em.LongerSteps().take(complete, start, complete.e_step(start)[0])
    yield from (*own.W[0], *own.psi, em.LENGTHENING)
    for d in range(2):
        yield from (em.LENGTHENING, W[0, d] - own.W[0, d], longer.W[0, d])
    yield from (*longer.psi, complete.e_step(longer)[1], complete.e_step(own)[1])
    yield from (left_after(8, em.LENGTHENING), left_after(8, 1.0))


# ---- moments that merge by addition -----------------------------------------------------------


def eq_2_17():
    with patch.object(rows, "CASES", 1):
        found, far = moments.moments(x), moments.moments(x + 1000)
    delta = found.mean - x[0]
    yield from (*delta, *found.mean, -delta[0], found.scatter[0, 0])
    np.testing.assert_array_equal(far.scatter, found.scatter)
    square = 2 * far.mean[0] ** 2
    yield from (square, square + far.scatter[0, 0])


def eq_2_18():
    one, two = moments.moments(x3[:2]), moments.moments(x3[2:])
    both, delta = one + two, two.mean - one.mean
    yield from (*one.mean, one.scatter[0, 0], *delta)
    yield from (one.mean[0], -delta[0] / 3, one.mean[1], delta[1] / 3, *both.mean)
    last = both.scatter - one.scatter - two.scatter
    yield from (delta[1], last[0, 0], last[0, 1], both.scatter[0, 0], both.scatter[0, 1])


# ---- missing entries --------------------------------------------------------------------------


def eq_2_19():
    M, place = pattern_precisions(W, psi, mask3)
    assert list(place) == [0, 0, 1]
    yield from M[:, 0, 0]


def eq_2_20():
    mean, variance, _, _ = incomplete()
    whole, M = linear_gaussian.posterior(W, b, psi, x3)
    yield from (mean[2], variance[2], whole[2, 0], 1 / M[0, 0], *mean[:2])


def eq_2_21():
    mean, variance, nlml, _ = incomplete()
    residual = 2 - mean[2] * 2
    yield from (mean[2], residual)
    yield from (residual**2 / 2, np.log(2), LOG_2PI, -np.log(variance[2]), mean[2] ** 2, nlml[2])
    alone = linear_gaussian.nlml(W[:, 1:], b[1:], psi[1:], x3[2:, 1:])[0]
    yield from (-np.log(variance[2]), LOG_2PI, np.log(6), alone)


def eq_2_22():
    mean, variance, _, s = incomplete()
    yield from (mean[1], variance[0])
    yield from (variance[0], mean[1] ** 2, variance[1], -mean[1], *s.zz[0, 0], *s.zz[0, 1])
    yield from (mean[1], 1.0, *s.xz[0], s.xx[0])
    yield from (variance[2], mean[2] ** 2, mean[2], *s.zz[1, 0], *s.zz[1, 1])
    yield from (mean[2], 1.0, *s.xz[1], s.xx[1])


def eq_2_23():
    s = incomplete()[3]
    (W_new,), b_new, v = observed_m_step(s)
    (a, c), _ = s.zz[0]
    det = np.linalg.det(s.zz[0])
    yield from (a, c, det, s.xz[0, 0], c, s.xz[0, 1], det, W_new[0])
    yield from (a, s.xz[0, 1], c, s.xz[0, 0], det, b_new[0])
    yield from (s.xz[0, 0], W_new[0], s.xz[0, 1], b_new[0], v[0])
    (a, c), _ = s.zz[1]
    det = np.linalg.det(s.zz[1])
    yield from (det, c, det, W_new[1], a, c, det, b_new[1], W_new[1], b_new[1], v[1])


# ---- Heywood cases, and the floor -------------------------------------------------------------


def eq_2_37():
    two = moments.moments(x)
    S = two.covariance
    yield from (two.scatter[0, 0], S[0, 0], 1.5, 1.5)
    W_two = np.array([[1.5, 1.5]])
    nlml = [linear_gaussian.e_step_moments(W_two, np.full(2, v), S)[1] for v in (0.01, 0.0001)]
    yield from (0.01, 0.01, nlml[0], 0.0001, 0.0001, nlml[1], nlml[0] - nlml[1])
    floor = Gaussian(2).lower_bounds(np.diag(S), 1e-6)["log_psi"]
    with quiet():
        fitted = FactorAnalysis(1, tol=1e-12).fit_covariance(S)
    assert list(fitted.heywood_) == [0, 1]
    yield from (S[0, 0], LOG_2PI, 2.25e-6, 0.5 * np.sum(LOG_2PI + floor), fitted.nlml_path_[-1])


def sinking(psi_1):
    """v_1 of (2.38) in the Heywood case of three columns."""
    R = np.array([[1, 0.8, 0.8], [0.8, 1, 0.5], [0.8, 0.5, 1]])
    W_three, psi_three = np.array([[1.0, 0.8, 0.8]]), np.array([psi_1, 0.36, 0.36])
    s, _ = linear_gaussian.e_step_moments(W_three, psi_three, R)
    return (s.xx - 2 * W_three[0] * s.xz[:, 0] + W_three[0] ** 2 * s.zz[0, 0])[0]


def eq_2_38():
    W_rest, psi_rest = np.array([[0.8, 0.8]]), np.array([0.36, 0.36])
    R_rest = np.array([[1, 0.5], [0.5, 1]])
    M = linear_gaussian.precision(W_rest, psi_rest)[0, 0]
    s, _ = linear_gaussian.e_step_moments(W_rest, psi_rest, R_rest)
    gain = linear_gaussian.posterior(W_rest, np.zeros(2), psi_rest, np.array([[1.0, 0.0]]))[0][0, 0]
    e = 1 - 2 * gain * (0.8 + 0.8) + (s.zz[0, 0] - 1 / M)          # E[x₁²] - 2 E[x₁ m̂] + E[m̂²]
    yield from (0.8, 0.8, 0.5, 0.8, 0.8, 0.36)
    yield from (0.64, 0.36, M, M, 1 / M, gain, gain, 1.6, gain, e)
    yield from (0.1, sinking(0.1), 0.001, sinking(0.001))


def eq_2_39():
    fine = three_columns(0.48, 0.4, 0.3)
    yield from (0.48, 0.4, 0.3, 0.48, 0.4, 0.3, fine.components_[0, 0] ** 2)
    yield from (*fine.components_[0], *fine.noise_variance_)
    with quiet():
        heywood = three_columns(0.8, 0.8, 0.5)
    assert list(heywood.heywood_) == [0]
    yield from (0.8, 0.8, 0.5, 0.8, 0.8, 0.5, 0.8 * 0.8 / 0.5, 1 - 0.8 * 0.8 / 0.5)
    yield from (*heywood.components_[0], heywood.noise_variance_[1], heywood.nlml_path_[-1])
    R = np.array([[1, 0.8, 0.8], [0.8, 1, 0.5], [0.8, 0.5, 1]])
    yield 0.5 * (3 * LOG_2PI + np.linalg.slogdet(R)[1] + 3)
