"""A mixture of Gaussians fitted through the bound Q: the same story with a discrete latent variable.

z is one of K components, so q(z|φ_n) is a PMF: φ_n is a row of K probabilities, and where the other
models have an integral there is a sum. The E-step minimises Q over the rows, within a family; the M-step
minimises it over the weights, means and covariances. With any PMF allowed Q ends on nlml and the method
is EM; a family that is too small leaves a gap, KL(q_n ‖ p(z|x_n)), which is exact here for every data
case. Equations (9.x) are in derivations/equations.md.
"""

from copy import copy
from dataclasses import KW_ONLY

import numpy as np

from ..arrays.backend import constant, get_backend, namespace, to_numpy
from ..arrays.rows import collect, mean_and_variance
from ..arrays.special import log_sum_exp
from ..doors.columns import Cases, Columns, Table
from ..doors.validate import check_choice, check_data, check_positive, check_size, generator, weighted_rows
from ..evaluation.nlml import NLML
from ..inference.mixture import EMPTY, E_STEPS, Mixture, divergence, em, log_joint_table, start
from ..likelihoods.checks import still
from ..messages import column_names, shorten, warn
from ..networks.convergence import ConvergenceWarning
from .checkpoint import Checkpoint
from .conventions import EM_BACKEND, EM_DTYPE, Transformer, estimator, leaving_last, option, tell


class CollapseWarning(UserWarning):
    """A component ended without data cases, or shrank to the floor of its covariance."""


@estimator
class GaussianMixture(Transformer):
    """p(x) = Σ_k π_k N(x; μ_k, Σ_k), fitted by minimising Q over θ and a PMF for each data case.

    {options}

    After fit:
    weights_ (K,), means_ (K, D), covariances_ (K, D) or (K, D, D); phi_ (N, K) the PMF of every data
    case; q_path_ mean Q in nats per data case before each M-step and at the end; n_iter_ how many M-steps;
    converged_; pmf_ the family; empty_ places of components with less than 1e-10 data cases, whose mean and
    covariance no longer change; collapsed_ places of components at the floor of their covariance.
    """

    n_components: int = option(2, "K, no more than there are data cases")
    _: KW_ONLY
    covariance: str = option("diagonal", '"diagonal" or "full" Σ_k')
    pmf: str = option(
        "free",
        'the family of q: "free", any PMF for each data case: EM; "hard", all probability on one '
        'component for each data case; "tied", one PMF for all data cases, which cannot tell the '
        "components apart: all of them end as the same Gaussian",
    )
    tol: float = option(
        1e-8,
        "EM ends when both what the last quarter of the steps has gained and all that is still to come, "
        "as extrapolated from the last steps, are below tol nats per data case (6.6)",
    )
    max_iter: int = option(20000, "the most M-steps; ending there warns")
    min_variance: float = option(
        1e-6,
        "the floor of Σ_k as a share of each column's variance (9.8). Without one the likelihood of a "
        "mixture has no maximum: a component may shrink onto a single data case",
    )
    init: object = option(
        None,
        "(weights (K,), means (K, D), covariances (K, D) or (K, D, D)) to start from. None: equal "
        "weights, data cases far from one another for means, diagonal covariances. EM ends in a minimum "
        "near its start: compare the q_path_ of several values of random_state",
    )
    backend: str = option("numpy", EM_BACKEND)
    dtype: object = option(None, EM_DTYPE)
    random_state: object = option(0, "seed of the start")

    def fit(self, X, y=None, sample_weight=None, *, checkpoint=None, progress=None):
        """Fit to X (N, D). Returns self. Raises ValueError for data or options that cannot be fitted.

        sample_weight (N,) >= 0: how often each data case counts, once where None; one of weight 0 is left
        out, of phi_ too. From the same init the estimate depends on the ratios of the weights alone, and is
        that of rows that are repeated; without init the data cases it starts from are drawn by their weights.
        checkpoint is a file for the model, and for EM, as they stand after the last E-step, as in `VAE.fit`.
        progress(iteration, max_iter, mean_Q) is called after each E-step where given.
        """
        X, weights = weighted_rows(X, sample_weight)
        x, names = check_data(X, minimum_rows=2, dtype=self._held)
        N, D = x.shape
        weights = None if weights is None else weights / weights.mean()
        check_size("n_components", self.n_components, 1, N, f" (X has {N} data cases)")
        check_size("max_iter", self.max_iter)
        check_positive("tol", self.tol)
        check_positive("min_variance", self.min_variance)
        check_choice("covariance", self.covariance, ("diagonal", "full"))
        check_choice("pmf", self.pmf, E_STEPS)
        backend, double = self._backend_for(x.dtype), get_backend(self.backend, "float64")
        _, variance = mean_and_variance(x, weights)
        lowest = self.min_variance * variance
        check_columns(x, lowest, column_names(names, D))
        if self.init is None:
            theta = start(x, variance, self.n_components, self.covariance, self.random_state, weights)
        else:
            theta = check_init(self.init, self.n_components, D, self.covariance)

        def stood(theta, path):
            mixture = copy(self)
            mixture.theta_, mixture.pmf_, mixture.q_path_ = theta, self.pmf, np.array(path)
            mixture._keep(backend, names, D)
            return mixture

        def report(iteration, most, Q, theta):
            return tell(progress, iteration, most, Q, lambda: stood(theta, [Q]))

        saved = Checkpoint(checkpoint, self, {"X": x, "sample_weight": weights})
        theta = Mixture(*(double.asarray(part) for part in theta))
        begun = saved.begun(double) or {"theta": theta, "path": []}
        with saved.kept(lambda state: stood(**state)) as after, leaving_last(self, lambda last: stood(*last)):
            theta, phi, path, converged = em(
                begun["theta"],
                Cases(Table(x, Columns(column_names(names, D))), double),
                self.pmf,
                weights=double.asarray(np.ones(N) if weights is None else weights),
                lowest=double.asarray(lowest),
                tol=self.tol,
                max_iter=self.max_iter,
                progress=None if progress is None else report,
                path=begun["path"][:-1],
                after=after and (lambda theta, path: after({"theta": theta, "path": path})),
            )
        n_cases = N * to_numpy(theta.weights)
        shrunk = [at_floor(covariance, lowest) for covariance in to_numpy(theta.covariances)]
        empty = np.flatnonzero(n_cases < EMPTY)
        collapsed = np.flatnonzero(np.array(shrunk) & (n_cases >= EMPTY))
        if converged is False:
            warn(
                f"EM stopped after max_iter={self.max_iter} iterations with more than tol={self.tol} "
                "nats per data case still to be gained: raise max_iter or tol",
                ConvergenceWarning,
            )
        if len(empty):
            warn(
                f"components {shorten(empty.tolist())} ended without data cases: give fewer components, or "
                "another random_state or init",
                CollapseWarning,
            )
        if len(collapsed):
            warn(
                f"components {shorten(collapsed.tolist())} shrank to the floor of their covariance, without "
                "which Q would fall for ever: they hold too few different data cases, or columns that follow "
                "from one another; fewer components, another random_state or init, covariance='diagonal', "
                "or a larger min_variance may be meant",
                CollapseWarning,
            )
        self.empty_, self.collapsed_ = empty, collapsed
        self.q_path_ = np.array(path)
        self.n_iter_ = len(path) - 1
        self.converged_ = converged
        self.theta_, self.pmf_ = theta, self.pmf
        self._keep(backend, names, D)
        self.phi_ = self._output(phi)
        saved.write(self)
        return self

    def _move(self, backend):
        self.theta_ = Mixture(*(get_backend(backend, "float64").asarray(part) for part in self.theta_))
        self.phi_ = self.phi_.astype(backend.dtype)

    def bound(self, X, *, phi=None):
        """Q_n = Σ_k q_nk (log q_nk − log p(x_n, z=k)) ≥ −log p(x_n), (N,), in nats          (9.3).

        phi  (N, K) the PMFs; None: the model's own, `infer(X)`
        """
        log_p = self._log_joint(X)
        return self._output(divergence(self._pmf(log_p, phi), log_p))

    def nlml(self, X):
        """−log p(x_n) per data case, an `nlml.NLML` with values (N,) in nats: a sum over K, so exact."""
        return NLML(self._output(-log_sum_exp(self._log_joint(X))), None, None, "exact")

    def kl_to_posterior(self, X, *, phi=None):
        """KL(q_n ‖ p(z|x_n)) in nats, (N,), of the model's own PMFs or of phi (N, K): Q_n − nlml_n  (9.9).

        Computed from the posterior, not from that difference.
        """
        log_p = self._log_joint(X)
        q = self._pmf(log_p, phi)
        log_posterior = log_p - log_sum_exp(log_p)[:, None]
        return self._output(divergence(q, log_posterior))

    def infer(self, X):
        """The PMFs q_n of X, (N, K): the E-step with θ fixed. "tied" keeps the PMF that was fitted."""
        return self._output(self._pmf(self._log_joint(X), None))

    def transform(self, X):
        """E_q[z_n], z written as K numbers of which one is 1: the same as `infer`, (N, K)."""
        return self.infer(X)

    def sample(self, n_samples=1, random_state=None):
        """New data: a component z ~ π, then x ~ N(μ_z, Σ_z). Returns (n_samples, D)."""
        self._require_fit()
        check_size("n_samples", n_samples)
        rng = generator(random_state)
        weights, means, covariances = (to_numpy(part) for part in self.theta_)
        z = rng.choice(len(weights), size=n_samples, p=weights / weights.sum())
        spreads = [np.diag(np.sqrt(C)) if C.ndim == 1 else np.linalg.cholesky(C) for C in covariances]

        def draws(rows):
            x = rng.standard_normal((rows.stop - rows.start, means.shape[1]))
            for k, spread in enumerate(spreads):
                own = z[rows] == k
                x[own] = means[k] + x[own] @ spread.T
            return self._output(x)

        return collect(n_samples, draws)

    def score_samples(self, X):
        """log p(x_n) per data case, (N,): scikit-learn's sign, −nlml."""
        return -self.nlml(X).values

    def score(self, X, y=None):
        """The mean of `score_samples`: mean log p(x), higher is better."""
        return float(np.mean(self.score_samples(X)))

    @property
    def weights_(self):
        """π (K,)."""
        self._require_fit()
        return self._output(self.theta_.weights)

    @property
    def means_(self):
        """μ (K, D)."""
        self._require_fit()
        return self._output(self.theta_.means)

    @property
    def covariances_(self):
        """Σ (K, D, D), or their diagonals (K, D)."""
        self._require_fit()
        return self._output(self.theta_.covariances)

    @property
    def n_parameters_(self):
        """How many numbers were learned that are used for new data: of the K weights, K − 1."""
        K, D = self.means_.shape
        return K - 1 + K * D + K * (D if self.theta_.covariances.ndim == 2 else D * (D + 1) // 2)

    def _log_joint(self, X):
        self._require_fit()
        double = get_backend(self.backend_, "float64")
        return double.asarray(log_joint_table(self.theta_, self._cases(X, double)))

    def _pmf(self, log_p, phi):
        """q (N, K): the rows of phi where given, else those of the family that was fitted."""
        if phi is not None:
            return constant(check_phi(phi, log_p.shape), like=log_p)
        if self.pmf_ == "tied":
            return namespace(log_p).zeros_like(log_p) + constant(self.phi_[0], like=log_p)
        return E_STEPS[self.pmf_](log_p)

    def _output(self, values):
        return np.array(to_numpy(values), dtype=self.backend_.dtype)


def at_floor(covariance, lowest):
    """Whether a host covariance (D,) or (D, D) touches the floor diag(lowest) in some direction."""
    ratio = covariance / lowest
    if covariance.ndim == 2:
        ratio = np.linalg.eigvalsh(covariance / np.outer(np.sqrt(lowest), np.sqrt(lowest)))
    return bool(ratio.min() <= 1 + 1e-6)


def check_init(init, n_components, n_visible, covariance):
    """`init` as a `Mixture` on the host; ValueError where it is no mixture of the kind asked for."""
    try:
        theta = Mixture(*(np.asarray(to_numpy(part), dtype="float64") for part in init))
    except (TypeError, ValueError) as error:
        raise ValueError(f"init must be (weights, means, covariances) or None: {error}") from error
    K, D = n_components, n_visible
    shapes = Mixture((K,), (K, D), (K, D) if covariance == "diagonal" else (K, D, D))
    for name, part, shape in zip(Mixture._fields, theta, shapes):
        if part.shape != shape or not np.isfinite(part).all():
            raise ValueError(
                f"the {name} of init must be finite numbers of shape {shape} for n_components={K}, "
                f"covariance={covariance!r} and {D} columns, got shape {part.shape}"
            )
    total = theta.weights.sum()
    if (theta.weights < 0).any() or abs(total - 1) > 1e-8:
        raise ValueError(
            f"the weights of init must be >= 0 and sum to 1, got {theta.weights} with sum {total:.10g}: "
            "divide them by their sum"
        )
    for k, part in enumerate(theta.covariances):
        if part.ndim == 2 and np.abs(part - part.T).max() > 1e-8 * np.abs(part).max():
            raise ValueError(f"covariance {k} of init is not symmetric: give (S + S.T) / 2 if that is meant")
        least = part.min() if part.ndim == 1 else np.linalg.eigvalsh(part).min()
        if not least > 0:
            raise ValueError(
                f"covariance {k} of init must have variance > 0 in every direction, the least is {least:.3g}"
            )
    return theta


def check_columns(x, lowest, names):
    """Raise ValueError where a column of host data x (N, D) does not vary, so that its floor is 0."""
    flat = [name for name, constant, floor in zip(names, still(x), lowest) if constant or floor == 0]
    if flat:
        raise ValueError(
            f"{len(flat)} of {x.shape[1]} columns are constant: {shorten(flat)}; a learnt variance would "
            "send their density to infinity: drop these columns"
        )


def check_phi(phi, shape):
    """phi as host PMFs of `shape` (N, K); ValueError where they are none."""
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
