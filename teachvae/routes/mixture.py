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
from ..doors.columns import Cases, Columns, Table
from ..doors.validate import check_choice, check_data, check_positive, check_size, generator, weighted_rows
from ..inference.mixture import EMPTY, E_STEPS, Mixture, em, log_joint, start
from ..messages import column_names, shorten, warn
from .checkpoint import Checkpoint
from .conventions import EM_BACKEND, EM_DTYPE, estimator, leaving_last, option, tell
from .discrete import CollapseWarning, DiscreteModel, check_columns, check_init


@estimator
class GaussianMixture(DiscreteModel):
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
            theta = check_start(self.init, self.n_components, D, self.covariance)

        def stood(theta, path):
            mixture = copy(self)
            mixture.theta_, mixture.pmf_, mixture.q_path_ = theta, self.pmf, np.array(path)
            mixture._keep(backend, names, D)
            return mixture

        def report(iteration, most, Q, theta):
            return tell(progress, iteration, most, Q, lambda: stood(theta, [Q]))

        saved = Checkpoint(checkpoint, self, {"X": x, "sample_weight": weights})
        theta = Mixture(*(double.asarray(part) for part in theta))
        theta, path = saved.begun(double) or (theta, [])

        def now(state):
            return stood(*state)

        with saved.kept(now) as after, leaving_last(self, now, saved):
            theta, phi, path, converged = em(
                theta,
                Cases(Table(x, Columns(column_names(names, D))), double),
                self.pmf,
                weights=double.asarray(np.ones(N) if weights is None else weights),
                lowest=double.asarray(lowest),
                tol=self.tol,
                max_iter=self.max_iter,
                progress=None if progress is None else report,
                path=path[:-1],
                after=after and (lambda *state: after(state)),
            )
        n_cases = N * to_numpy(theta.weights)
        shrunk = [at_floor(covariance, lowest) for covariance in to_numpy(theta.covariances)]
        empty = self._warn_of(converged, n_cases)
        collapsed = np.flatnonzero(np.array(shrunk) & (n_cases >= EMPTY))
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

    _joint = staticmethod(log_joint)

    def _move(self, backend):
        self.theta_ = Mixture(*(get_backend(backend, "float64").asarray(part) for part in self.theta_))
        self.phi_ = self.phi_.astype(backend.dtype)

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

    def _own_pmf(self, log_p):
        if self.pmf_ == "tied":                                    # the PMF that was fitted
            return namespace(log_p).zeros_like(log_p) + constant(self.phi_[0], like=log_p)
        return E_STEPS[self.pmf_](log_p)


def at_floor(covariance, lowest):
    """Whether a host covariance (D,) or (D, D) touches the floor diag(lowest) in some direction."""
    ratio = covariance / lowest
    if covariance.ndim == 2:
        ratio = np.linalg.eigvalsh(covariance / np.outer(np.sqrt(lowest), np.sqrt(lowest)))
    return bool(ratio.min() <= 1 + 1e-6)


def check_start(init, n_components, n_visible, covariance):
    """`init` as a `Mixture` on the host; ValueError where it is no mixture of the kind asked for."""
    K, D = n_components, n_visible
    shapes = Mixture((K,), (K, D), (K, D) if covariance == "diagonal" else (K, D, D))
    about = f"n_components={K}, covariance={covariance!r} and {D} columns"
    theta = check_init(init, Mixture, shapes, about)
    for k, part in enumerate(theta.covariances):
        if part.ndim == 2 and np.abs(part - part.T).max() > 1e-8 * np.abs(part).max():
            raise ValueError(f"covariance {k} of init is not symmetric: give (S + S.T) / 2 if that is meant")
        least = part.min() if part.ndim == 1 else np.linalg.eigvalsh(part).min()
        if not least > 0:
            raise ValueError(
                f"covariance {k} of init must have variance > 0 in every direction, the least is {least:.3g}"
            )
    return theta
