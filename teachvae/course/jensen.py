"""Jensen's inequality with numbers: f(E_q[g]) ≤ E_q[f(g)] for a convex f, and the bound Q that it gives.

    f(∫ q(x) g(x) dx) ≤ ∫ q(x) f(g(x)) dx            f(Σ_k Q_k g_k) ≤ Σ_k Q_k f(g_k)

With f = −log and g = p(x, z)/q(z) the left side is the nlml of a data case, the right side is Q, and
what lies between them is KL(q ‖ p(z|x)). Sums are exact; integrals are adaptive quadrature and come
with its error. Equations (1.x) are in derivations/equations.md.
"""

from itertools import pairwise
import math
from typing import NamedTuple

import numpy as np

ROUNDING = 1e-13                                                   # of a sum, relative to its terms
PMF_SUM = 1e-6                                                     # how far from 1 it may be, float32 or not
DENSITY_INTEGRAL = 1e-8


class Jensen(NamedTuple):
    """Both sides of the inequality, as floats.

    lhs    f(E_q[g])
    rhs    E_q[f(g)]
    gap    rhs − lhs, as computed: rounding can take it below 0 by no more than `error`
    error  an estimate of what rounding, or quadrature, may have added to the gap
    """

    lhs: float
    rhs: float
    gap: float
    error: float


def jensen_discrete(f, g, pmf):
    """f(Σ_k Q_k g_k) ≤ Σ_k Q_k f(g_k), for a convex f                                     (1.21).

    f    function of a real number
    g    (K,) its arguments
    pmf  (K,) the probabilities Q_k: none is negative, their sum is 1 but for rounding, which is divided out

    An entry with Q_k = 0 plays no part, even where f(g_k) is infinite or not defined. Raises ValueError
    where pmf is no PMF for g, and where the numbers show that f is not convex.
    """
    g, pmf = np.asarray(g, dtype="float64"), _check_pmf(pmf)
    if g.shape != pmf.shape:
        raise ValueError(f"g must have shape {pmf.shape}, that of pmf, got shape {g.shape}")
    g, pmf = g[pmf > 0], pmf[pmf > 0]
    if not np.isfinite(g).all():
        raise ValueError(f"g must be finite numbers where pmf is not 0, got {g}")
    values = np.array([_call(f, u) for u in g])
    mean = math.fsum(pmf * g)
    rhs = math.fsum(pmf * values)
    return _compare(
        f,
        mean,
        rhs,
        reach=(g.min(), g.max()),
        mean_error=ROUNDING * math.fsum(pmf * abs(g)),
        rhs_error=ROUNDING * math.fsum(pmf * abs(values)),
    )


def jensen_continuous(f, g, density, interval=(-math.inf, math.inf)):
    """f(∫ q(x) g(x) dx) ≤ ∫ q(x) f(g(x)) dx, for a convex f                               (1.20).

    f, g, density  functions of a real number; density is q(x), its integral 1 to 1e-8
    interval       its two ends, and between them, in rising order, any points where something is steep
                   or has a kink: quadrature goes from point to point

    Where the density is 0, g and f are not asked. Raises ValueError where the density is negative or does
    not integrate to 1, where an integral does not converge, and where the numbers show that f is not convex.
    """
    seen = []

    def q(x):
        value = float(density(x))
        if not value >= 0:
            raise ValueError(f"a density must be >= 0, got {value} at x = {x:g}")
        return value

    def q_g(x):
        weight = q(x)
        if weight == 0:
            return 0.0
        seen.append(float(g(x)))
        return weight * seen[-1]

    def q_f_of_g(x):
        weight = q(x)
        return weight * _call(f, g(x)) if weight > 0 else 0.0

    total = _check_density(q, interval)
    mean, mean_error = _integral(q_g, interval, "∫ q(x) g(x) dx")
    rhs, rhs_error = _integral(q_f_of_g, interval, "∫ q(x) f(g(x)) dx")
    return _compare(
        f,
        mean / total,
        rhs / total,
        reach=(min(seen), max(seen)),
        mean_error=mean_error,
        rhs_error=rhs_error,
    )


def nlml_as_jensen_discrete(log_joint, pmf):
    """nlml ≤ Q for a discrete z: Jensen's inequality with f = −log and g_k = p(x, z=k)/q_k  (1.22).

    log_joint  (K,) log p(x, z=k), −inf where that is 0
    pmf        (K,) q_k = q(z=k)

    Returns a `Jensen` with lhs the nlml, rhs Q, gap KL(q ‖ p(z|x)), in nats. Where q_k = 0 there is no
    g_k: Jensen's own left side is then −log Σ p(x, z=k) over the k with q_k > 0, which is no less than the
    nlml, so the bound holds all the more, and the gap is the KL all the same.
    """
    log_joint, pmf = np.asarray(log_joint, dtype="float64"), _check_pmf(pmf)
    if log_joint.shape != pmf.shape:
        raise ValueError(
            f"log_joint must have shape {pmf.shape}, that of pmf, got shape {log_joint.shape}"
        )
    if np.isnan(log_joint).any() or not -math.inf < log_joint.max() < math.inf:
        raise ValueError(f"log_joint must be numbers or −inf, and not all −inf, got {log_joint}")
    top = float(log_joint.max())
    nlml = -(top + math.log(math.fsum(np.exp(log_joint - top))))
    log_joint, q = log_joint[pmf > 0], pmf[pmf > 0]
    terms = q * (np.log(q) - log_joint)                            # q_k · −log g_k
    Q = math.fsum(terms)
    error = ROUNDING * (abs(nlml) + math.fsum(abs(terms)))
    return Jensen(nlml, Q, Q - nlml, error)                        # gap = KL              (1.23)


def nlml_as_jensen_continuous(log_joint, log_q, interval=(-math.inf, math.inf)):
    """nlml ≤ Q for a real z: Jensen's inequality with f = −log and g(z) = p(x, z)/q(z)     (1.22).

    log_joint  function of z, log p(x, z) for the data case in question
    log_q      function of z, log q(z); −inf where q is 0
    interval   as for `jensen_continuous`, and wide enough to hold p(x, z) too

    Returns a `Jensen` with lhs the nlml, rhs Q, gap KL(q ‖ p(z|x)), in nats. The integral on the left is
    taken of e^Q p(x, z), which is e^gap: no p(x, z) is too small for that. Raises ValueError as
    `jensen_continuous` does, and where the gap is beyond what exp can hold (about 700 nats) or infinite.
    """

    def q(z):
        return math.exp(float(log_q(z)))

    def q_f_of_g(z):
        weight = q(z) / total
        return weight * (math.log(weight) - float(log_joint(z))) if weight > 0 else 0.0

    def q_g(z):
        try:
            return math.exp(float(log_joint(z)) + Q)
        except OverflowError:
            raise ValueError(
                f"the gap is more than exp can hold: Q = {Q:g}, but log p(x, z) = {float(log_joint(z)):g} at "
                f"z = {z:g}; give a q that is nearer to the posterior"
            ) from None

    total = _check_density(q, interval)
    Q, Q_error = _integral(q_f_of_g, interval, "∫ q(z) (log q(z) − log p(x, z)) dz")
    ratio, ratio_error = _integral(q_g, interval, "∫ p(x, z) dz")
    gap = math.log(ratio)                                          # Q − nlml = KL         (1.23)
    return Jensen(Q - gap, Q, gap, Q_error + ratio_error / ratio)


def _compare(f, mean, rhs, *, reach, mean_error, rhs_error):
    """The `Jensen` of f(mean) and rhs; ValueError where lhs > rhs by more than their errors.

    A mean lies within the reach (least, largest) of what it is the mean of; computed, it may not, and f
    need not be defined there.
    """
    low, high = reach
    mean = min(max(mean, low), high)
    lhs = _call(f, mean)
    if lhs == rhs:                                                 # both may be infinite
        return Jensen(lhs, rhs, 0.0, rhs_error)
    nearby = [_call(f, min(max(u, low), high)) for u in (mean - mean_error, mean + mean_error)]
    error = rhs_error + max(abs(value - lhs) for value in nearby) + ROUNDING * abs(lhs)
    if lhs > rhs + error:
        raise ValueError(
            f"f is not convex on the values of g, which reach from {low:g} to {high:g}: f(E[g]) = {lhs:.10g} "
            f"is more than E[f(g)] = {rhs:.10g}. Jensen's inequality is for convex f; for a concave f give −f"
        )
    return Jensen(lhs, rhs, rhs - lhs, error)


def _call(f, u):
    """f(u) as a float; −log 0 is +inf."""
    with np.errstate(divide="ignore"):
        value = float(f(np.float64(u)))
    if math.isnan(value) or value == -math.inf:
        raise ValueError(f"a convex f is a real number wherever it is needed, got f({u:g}) = {value}")
    return value


def _check_pmf(pmf):
    """pmf as an array (K,) of float64 with sum 1; ValueError where it is none."""
    pmf = np.asarray(pmf, dtype="float64")
    if pmf.ndim != 1 or pmf.size == 0:
        raise ValueError(f"pmf must be one row of probabilities, shape (K,), got shape {pmf.shape}")
    if not np.isfinite(pmf).all() or (pmf < 0).any():
        k = int(np.argmin(np.isfinite(pmf) & (pmf >= 0)))
        raise ValueError(f"a PMF has finite entries >= 0, got {pmf[k]} at place {k}")
    total = math.fsum(pmf)
    if abs(total - 1) > PMF_SUM:
        raise ValueError(f"a PMF must sum to 1, got a sum of {total:.10g}: give pmf / pmf.sum()")
    return pmf / total


def _check_density(q, interval):
    """The integral of q; ValueError where it is not 1."""
    total, _ = _integral(q, interval, "∫ q")
    if abs(total - 1) > DENSITY_INTEGRAL:
        raise ValueError(
            f"a density must integrate to 1, got {total:.10g} over {interval}: divide by that number; or, if "
            "it is a density and quadrature missed it, give an interval with points around where it lives"
        )
    return total


def _integral(function, interval, name):
    """The integral of `function` from point to point of `interval`, and the estimate of its error."""
    from scipy.integrate import quad

    points = [float(point) for point in interval]
    if len(points) < 2 or not all(a < b for a, b in pairwise(points)):
        raise ValueError(f"interval must be two or more numbers in rising order, got {interval}")
    total, total_error, diverges = 0.0, 0.0, False
    for a, b in pairwise(points):
        value, error, _, *remarks = quad(
            function, a, b, epsabs=1e-12, epsrel=1e-11, limit=500, full_output=1
        )
        total, total_error = total + value, total_error + error
        # QUADPACK extrapolates: for ∫ x^(−1.2) dx from 0 to 1 it finds −5, with a tiny error, and a remark
        diverges = diverges or any("divergent" in str(remark) for remark in remarks)
    if diverges or not total_error <= 1e-8 * max(1.0, abs(total)):
        raise ValueError(
            f"the integral {name} did not converge: {total:g} with an estimated error of {total_error:.1e}; "
            "it may be infinite, or the interval may need points where the integrand is steep"
        )
    return total, total_error
