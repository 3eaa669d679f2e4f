"""How well K factors fit a covariance: χ² against the saturated model, RMSEA, AIC and BIC.

The saturated model is a Gaussian with any covariance at all: nothing Gaussian has a higher likelihood. All
that is needed of a fit is its mean nlml. Equations (7.x) are in derivations/equations.md.
"""

import math
from typing import NamedTuple

import numpy as np

from ..arrays.special import LOG_2PI


class UntestableError(ValueError):
    """There is no χ² of this fit; the words say why."""


class FitTest(NamedTuple):
    """The test that K factors are enough.

    F                 the discrepancy, twice the mean nlml above the saturated model's (7.16)
    chi2, dof, p      Bartlett's statistic, its degrees of freedom, and the probability of a larger one
                      where K factors are enough and data cases many
    rmsea, interval   the error of approximation per degree of freedom, and the ends of its 90 % interval
                      (7.17)
    """

    F: float
    chi2: float
    dof: int
    p: float
    rmsea: float
    interval: tuple


def degrees_of_freedom(D, K):
    """The entries of a covariance (D, D) less the parameters of K factors and a diagonal Ψ     (7.16)."""
    return ((D - K) ** 2 - D - K) // 2


def free_parameters(D, K, n_noise):
    """Parameters of K factors, n_noise variances and D means that p(x) tells apart             (7.18)."""
    return D * K - K * (K - 1) // 2 + n_noise + D


def saturated_nlml(S):
    """The mean nlml of the saturated model of data whose covariance is S (D, D), in nats per data case.

    Raises UntestableError where S is singular: then there is no least one.
    """
    D, spread = len(S), np.sqrt(np.diag(S))
    values = np.linalg.eigvalsh(S / np.outer(spread, spread))
    if values[0] <= D * np.finfo("float64").eps * values[-1]:
        raise UntestableError(
            "the covariance is singular, as of fewer data cases than columns, or of a column that others add "
            "up to"
        )
    log_det = float(np.sum(np.log(values)) + 2 * np.sum(np.log(spread)))
    return 0.5 * (D * LOG_2PI + log_det + D)                       #                       (7.16)


def fit_test(nlml, S, n_cases, K):
    """The `FitTest` of K factors and a diagonal Ψ, whose mean nlml is at its minimum for n_cases data cases
    of covariance S (D, D).

    Raises UntestableError where there is none.
    """
    D = len(S)
    dof = degrees_of_freedom(D, K)
    if dof <= 0:
        raise UntestableError(
            f"{K} factors of {D} columns leave {dof} degrees of freedom: so many parameters cannot be "
            "tested, fewer factors can"
        )
    scale = n_cases - 1 - (2 * D + 5) / 6 - 2 * K / 3              #                       (7.16)
    if scale <= 0:
        raise UntestableError(f"{n_cases:g} data cases are too few for Bartlett's correction to {D} columns")
    from scipy import special                                      # not at import teachvae

    F = max(2 * (nlml - saturated_nlml(S)), 0.0)                   # below 0 only by rounding (7.16)
    chi2 = scale * F
    rmsea = math.sqrt(max(chi2 - dof, 0) / (scale * dof))          #                       (7.17)
    return FitTest(
        F, chi2, dof, float(special.chdtrc(dof, chi2)), rmsea,
        tuple(math.sqrt(_noncentrality(chi2, dof, p) / (scale * dof)) for p in (0.95, 0.05)),
    )


def _noncentrality(chi2, dof, p):
    """The λ for which a non-central χ² is below chi2 with probability p, or 0 where none is    (7.17)."""
    from scipy import special

    return 0.0 if special.chdtr(dof, chi2) <= p else float(special.chndtrinc(chi2, dof, p))


def information_criteria(nlml, n_cases, n_parameters):
    """AIC and BIC, in the usual units of twice a nat, of all n_cases with the mean nlml        (7.18)."""
    deviance = 2 * n_cases * nlml
    return deviance + 2 * n_parameters, deviance + n_parameters * math.log(n_cases)
