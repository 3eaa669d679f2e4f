"""The questions that a fitted mixture answers: z, or a part of it, is one of a few components.

`DiscreteModel` has what is the same for all of them: q is a PMF over the components for each data case, and
the bound, nlml and the gap between them are sums. A mixture adds how it is fitted and its log joint.
Equations (9.x) are in derivations/equations.md.
"""

import numpy as np

from ..arrays.backend import constant, get_backend, to_numpy
from ..arrays.rows import collect
from ..arrays.special import log_sum_exp
from ..evaluation.nlml import NLML
from ..inference.mixture import EMPTY, divergence, free
from ..likelihoods.checks import still
from ..messages import shorten, warn
from ..networks.convergence import ConvergenceWarning
from .conventions import Transformer


class CollapseWarning(UserWarning):
    """A component ended without data cases, or shrank to the floor of its covariance."""


class DiscreteModel(Transformer):
    """The questions that every fitted mixture of J components answers. Chapter 9 counts them by k = 1, …, K
    as long as there is no other z.

    A subclass has the hyper-parameters tol and max_iter, sets backend_ and theta_ in fit, a named tuple of
    arrays in float64 of which the first is weights (J,), and gives `_joint(theta, x)`: log p(x_n, j) of a
    block x (n, D), (n, J).
    """

    def bound(self, X, *, phi=None):
        """Q_n = Σ_j q_nj (log q_nj − log p(x_n, j)) ≥ −log p(x_n), (N,), in nats          (9.3), (9.11).

        phi  (N, J) the PMFs; None: the model's own, `infer(X)`
        """
        log_p = self._log_joint(X)
        return self._output(divergence(self._pmf(log_p, phi), log_p))

    def nlml(self, X):
        """−log p(x_n) per data case, an `nlml.NLML` with values (N,) in nats: a sum over J, so exact."""
        return NLML(self._output(-log_sum_exp(self._log_joint(X))), None, None, "exact")

    def kl_to_posterior(self, X, *, phi=None):
        """KL(q_n ‖ p(j|x_n)) in nats, (N,), of the model's own PMFs or of phi (N, J): Q_n − nlml_n  (9.9).

        Computed from the posterior, not from that difference.
        """
        log_p = self._log_joint(X)
        q = self._pmf(log_p, phi)
        log_posterior = log_p - log_sum_exp(log_p)[:, None]
        return self._output(divergence(q, log_posterior))

    def infer(self, X):
        """The PMFs q_n of X, (N, J): the E-step with θ fixed."""
        return self._output(self._pmf(self._log_joint(X), None))

    def score_samples(self, X):
        """log p(x_n) per data case, (N,): scikit-learn's sign, −nlml."""
        return -self.nlml(X).values

    def score(self, X, y=None):
        """The mean of `score_samples`: mean log p(x), higher is better."""
        return float(np.mean(self.score_samples(X)))

    @property
    def weights_(self):
        """π (J,)."""
        self._require_fit()
        return self._output(self.theta_.weights)

    def _log_joint(self, X):
        self._require_fit()
        double = get_backend(self.backend_, "float64")
        cases = self._cases(X, double)
        table = collect(cases.shape[0], lambda rows: self._joint(self.theta_, cases[rows, ...]))
        return double.asarray(table)

    def _pmf(self, log_p, phi):
        """q (N, J): the rows of phi where given, else the model's own."""
        if phi is None:
            return self._own_pmf(log_p)
        return constant(check_phi(phi, log_p.shape), like=log_p)

    def _own_pmf(self, log_p):
        return free(log_p)

    def _output(self, values):
        return np.array(to_numpy(values), dtype=self.backend_.dtype)

    def _warn_of(self, converged, n_cases):
        """Places of the components whose n_cases (J,) are fewer than `EMPTY`; warns of them, and where EM has
        not converged.
        """
        if converged is False:
            warn(
                f"EM stopped after max_iter={self.max_iter} iterations with more than tol={self.tol} "
                "nats per data case still to be gained: raise max_iter or tol",
                ConvergenceWarning,
            )
        empty = np.flatnonzero(n_cases < EMPTY)
        if len(empty):
            warn(
                f"components {shorten(empty.tolist())} ended without data cases: give fewer components, or "
                "another random_state or init",
                CollapseWarning,
            )
        return empty


def check_init(init, kind, shapes, about):
    """`init` as a `kind`, a named tuple whose first field is weights, on the host; ValueError where its parts
    have other shapes than those of the `kind` called shapes, or are no numbers, or its weights are no PMF.

    about  what the shapes follow from, for the message
    """
    try:
        theta = kind(*(np.asarray(to_numpy(part), dtype="float64") for part in init))
    except (TypeError, ValueError) as error:
        raise ValueError(f"init must be ({', '.join(kind._fields)}) or None: {error}") from error
    for name, part, shape in zip(kind._fields, theta, shapes):
        if part.shape != shape or not np.isfinite(part).all():
            raise ValueError(
                f"the {name} of init must be finite numbers of shape {shape} for {about}, got shape "
                f"{part.shape}"
            )
    total = theta.weights.sum()
    if (theta.weights < 0).any() or abs(total - 1) > 1e-8:
        raise ValueError(
            f"the weights of init must be >= 0 and sum to 1, got {theta.weights} with sum {total:.10g}: "
            "divide them by their sum"
        )
    return theta


def check_columns(x, lowest, names, cure="drop these columns"):
    """Raise ValueError where a column of host data x (N, D) does not vary, so that its floor is 0."""
    flat = [name for name, constant, floor in zip(names, still(x), lowest) if constant or floor == 0]
    if flat:
        raise ValueError(
            f"{len(flat)} of {x.shape[1]} columns are constant: {shorten(flat)}; a learnt variance would "
            f"send their density to infinity: {cure}"
        )


def check_phi(phi, shape):
    """phi as host PMFs of `shape` (N, J); ValueError where they are none."""
    phi = np.asarray(to_numpy(phi), dtype="float64")
    if phi.shape != shape:
        raise ValueError(f"phi must have shape {shape}, got {phi.shape}")
    totals = phi.sum(axis=1)
    bad = np.flatnonzero(~((phi >= 0).all(axis=1) & (np.abs(totals - 1) <= 1e-6)))
    if len(bad):
        raise ValueError(
            f"each row of phi must be >= 0 and sum to 1, got {phi[bad[0]]} with sum {totals[bad[0]]:.10g} in "
            f"row {bad[0]} ({len(bad)} such rows): divide the rows by their sums"
        )
    return phi
