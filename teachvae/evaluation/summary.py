"""What factor analysts expect to see of a fit: loadings, uniquenesses, shares of variance, and tests of fit.

The text follows the print-out of R's factanal: variables sorted by the factor they load on, small loadings
left blank.
"""

from dataclasses import dataclass

import numpy as np

from ..messages import align
from .goodness import FitTest


@dataclass(frozen=True, eq=False)
class Summary:
    """A fitted factor analysis, in units of the variables' standard deviations under the model.

    names          of the D variables
    n_cases        N, or None
    loadings       (D, K), correlations of variables and factors where the factors are uncorrelated
    uniquenesses, communalities    (D,), shares of each variance that are noise and that the factors explain
    rotation       the name of a rotation, or None: canonical factors
    correlations   (K, K) of the factors
    ss_loadings    (K,), sums of squared loadings
    proportion, cumulative         (K,), their share in the variance of all variables, and its running sum;
                   None where factors are correlated, for then they share what they explain
    test           a `goodness.FitTest`, or None; `remarks` say why
    n_parameters   that p(x) tells apart;    aic, bic   or None where N is not known
    remarks        sentences on what could not be had, and on what is not to be trusted

    str(summary) is a text.
    """

    names: list
    n_cases: float | None
    loadings: np.ndarray
    uniquenesses: np.ndarray
    rotation: str | None
    correlations: np.ndarray
    test: FitTest | None
    n_parameters: int
    aic: float | None
    bic: float | None
    remarks: tuple

    @property
    def communalities(self):
        """1 − uniquenesses, (D,)."""
        return 1 - self.uniquenesses

    @property
    def ss_loadings(self):
        """The sum of each factor's squared loadings, (K,)."""
        return np.sum(self.loadings**2, axis=0)

    @property
    def proportion(self):
        """Each factor's share in the variance of all variables, (K,), or None."""
        uncorrelated = np.allclose(self.correlations, np.eye(len(self.correlations)), rtol=0, atol=1e-12)
        return self.ss_loadings / len(self.loadings) if uncorrelated else None

    @property
    def cumulative(self):
        """The share of the first factors together, (K,), or None."""
        return None if self.proportion is None else np.cumsum(self.proportion)

    def order(self):
        """The variables (D,) as they are printed: by the factor of the largest loading, in their own order,
        and last those without a loading of 0.5.
        """
        size = np.abs(self.loadings)
        factor = np.where(size.max(axis=1) < SALIENT, size.shape[1], size.argmax(axis=1))
        return np.argsort(factor, kind="stable")

    def __str__(self):
        K = self.loadings.shape[1]
        factors = [f"factor {k + 1}" for k in range(K)]
        of = "" if self.n_cases is None else f" in {self.n_cases:g} data cases"
        rotation = "canonical" if self.rotation is None else self.rotation
        parts = [f"Factor analysis: K = {K}, {len(self.loadings)} variables{of}; loadings: {rotation}", ""]
        table = [["", *factors, "communality", "uniqueness"]]
        for d in self.order():
            cells = [f"{v:.3f}" if abs(v) >= CUT else "" for v in self.loadings[d]]
            table.append(
                [str(self.names[d]), *cells, f"{self.communalities[d]:.3f}", f"{self.uniquenesses[d]:.3f}"]
            )
        parts += [align(table, left=1, heads=1), ""]
        shares = [["", *factors], ["SS loadings", *_three(self.ss_loadings)]]
        if self.proportion is not None:
            shares += [["proportion", *_three(self.proportion)], ["cumulative", *_three(self.cumulative)]]
        parts += [align(shares, left=1, heads=1), ""]
        if self.proportion is None:
            rows = [[name, *_three(row)] for name, row in zip(factors, self.correlations)]
            parts += [align([["correlations", *factors], *rows], left=1, heads=1), ""]
        if self.test is not None:
            t, (low, high) = self.test, self.test.interval
            parts += [
                f"test that {K} factor{'s are' if K > 1 else ' is'} enough: χ² = {t.chi2:.2f} on {t.dof} "
                f"degrees of freedom, p = {t.p:.3g}; F = {t.F:.4f}",
                f"RMSEA = {t.rmsea:.3f}, 90 % interval {low:.3f} to {high:.3f}",
            ]
        if self.aic is not None:
            parts += [f"AIC = {self.aic:.2f}, BIC = {self.bic:.2f}, {self.n_parameters} parameters"]
        return "\n".join([*parts, *self.remarks])


SALIENT = 0.5                                                      # a loading that says where it belongs
CUT = 0.1                                                          # a smaller loading is not printed


def _three(values):
    return [f"{value:.3f}" for value in values]
