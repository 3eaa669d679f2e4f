"""A mixture of factor analysers fitted by EM: a discrete and a continuous latent variable under one bound.

A data case belongs to one of J components, and within it z and x are as in factor analysis. So q has two
parts, a PMF over the components and, for each of them, a Gaussian over z; both are had in closed form, and Q
ends on nlml (Ghahramani & Hinton 1996; McLachlan & Peel 2000). With one component it is factor analysis, with
K = 0 and a Ψ for each component the Gaussian mixture of diagonal covariances. Equations (9.x) are in
derivations/equations.md.
"""

from copy import copy
from dataclasses import KW_ONLY, replace

import numpy as np

from ..arrays.backend import get_backend, to_numpy
from ..arrays.observed import seen
from ..arrays.rows import as_floats, collect, mean_and_variance
from ..doors.columns import Cases, Table, columns_for
from ..doors.units import HeywoodWarning
from ..doors.validate import check_choice, check_data, check_positive, check_size, generator, weighted_rows
from ..inference import em, mixture_of_factor_analysers as analysers
from ..messages import column_names, shorten, warn
from .checkpoint import Checkpoint
from .conventions import (
    CONSTANT, EM_BACKEND, EM_DTYPE, LatentCode, estimator, leaving_last, option, quietly, tell
)
from .discrete import CollapseWarning, DiscreteModel, check_columns, check_init


@estimator
class MixtureOfFactorAnalysers(DiscreteModel, LatentCode):
    """p(x) = Σ_j π_j N(x; b_j, W_jᵀW_j + Ψ_j): J factor analysers, of which each data case has one.

    n_components is J, how many components there are, as in `GaussianMixture`; the K of all other routes, how
    many numbers z is, is n_latent.

    {options}

    Entries that are missing are refused in fit; `impute` fills them in.

    After fit, for the D columns that constant="drop" has not set aside:
    weights_ (J,); means_ (J, D) the b_j; components_ (J, K, D) canonical loadings, each W_j Ψ_j⁻¹ W_jᵀ
    diagonal; noise_variance_ (D,), or (J, D) where each has its own; covariances_ (J, D, D); q_path_ mean Q,
    which is nlml, in nats per data case before each M-step and at the end; n_iter_; converged_; empty_ places
    of components with less than 1e-10 data cases; collapsed_ places of components whose own Ψ_j ended at the
    floor, all of it; heywood_ places of the other entries of Ψ that ended there, columns (h,), or
    (component, column) (h, 2).
    """

    n_components: int = option(2, "J, no more than there are data cases")
    _: KW_ONLY
    n_latent: int = option(2, "K <= D; 0: no z, and so a Gaussian mixture")
    noise: str = option(
        "shared",
        '"shared": one Ψ for all components, the noise of a measurement that does not ask what is measured; '
        '"own": one for each. A component with its own can shrink onto a few data cases',
    )
    constant: str = option("error", CONSTANT)
    tol: float = option(
        1e-8,
        "EM ends when both what the last quarter of the steps has gained and all that is still to come, "
        "as extrapolated from the last steps, are below tol nats per data case (6.6)",
    )
    max_iter: int = option(
        20000, "the most EM iterations, those not counted that are taken back (2.26); ending there warns"
    )
    n_starts: int = option(
        4,
        "from how many starts EM goes a hundred steps, to go on from the best. EM ends in a minimum near its "
        "start, and a mixture has many; q_path_[-1] tells which of two fits is better",
    )
    min_noise: float = option(1e-6, "the floor of Ψ as a share of each column's variance")
    init: object = option(
        None,
        "(weights (J,), W (J, K, D), b (J, D), psi (D,) or (J, D)) to start from. None: factor analyses "
        "of the data cases around each of J that are far from one another (9.16)",
    )
    backend: str = option("numpy", EM_BACKEND)
    dtype: object = option(None, EM_DTYPE)
    random_state: object = option(0, "seed of the starts")

    def fit(self, X, y=None, sample_weight=None, *, checkpoint=None, progress=None):
        """Fit to X (N, D). Returns self. Raises ValueError for data or options that cannot be fitted, and
        TrainingError where Q stops being a number.

        sample_weight (N,) >= 0: how often each data case counts, once where None, and with 0 not at all. From
        the same init the estimate depends on the ratios of the weights alone, and is that of rows that are
        repeated; without init the data cases it starts from are drawn by their weights.
        checkpoint is a file for the model, and for EM, as they stand after the last iteration, from when one
        of the starts is chosen; else as in `VAE.fit`.
        progress(iteration, max_iter, mean_Q) is called after each iteration where given; where it returns
        True, EM ends. With a parameter called now it is handed a function that returns the model as it
        stands.
        """
        X, weights = weighted_rows(X, sample_weight)
        x, names = check_data(X, minimum_rows=2)
        labels = column_names(None if names is None else list(X.columns), x.shape[1])
        columns, _ = columns_for("gaussian", x, labels, constant=self.constant)
        if columns.dropped:
            warn(f"constant columns are set aside: {shorten([labels[d] for d in columns.dropped])}")
        table, double = Table(x, columns), get_backend(self.backend, "float64")
        N, D = table.shape
        self._check_parameters(N, D)
        weights = None if weights is None else weights / weights.mean()
        _, variance = mean_and_variance(table, weights)
        lowest = self.min_noise * variance
        check_columns(table, lowest, columns.names, "drop these columns (constant='drop')")
        problem = analysers.Problem(
            Cases(table, double),
            double.asarray(np.ones(N) if weights is None else weights),
            double.asarray(lowest),
        )
        rest = lowest, N, names, columns, self._backend_for(x.dtype)

        def stood(fit):
            mixture = copy(self)
            quietly(mixture._finish, fit, *rest)
            return mixture

        def report(iteration, most, Q, p):
            return tell(progress, iteration, most, Q, lambda: stood(em.Fit(p, [Q], None)))

        starts = (
            analysers.Analysers(*(double.asarray(part) for part in start))
            for start in self._starts(table, variance, lowest, weights)
        )
        saved = Checkpoint(checkpoint, self, {"X": x, "sample_weight": weights})
        begun, report = saved.begun(double), None if progress is None else report
        with saved.kept(stood) as after, leaving_last(self, stood, saved):
            how = {"max_iter": self.max_iter, "progress": report, "after": after}
            if begun is None:
                runs = (em.em(problem, p, tol=self.tol) for p in starts)
                found = em.race(runs, tol=self.tol, every=True, **how)
            else:
                run = em.em(problem, None, tol=self.tol, begun=begun)
                found = em.to_the_end(run, next(run), **how)
        self._finish(found, *rest)
        saved.write(self)
        return self

    def _check_parameters(self, n_cases, n_visible):
        check_size("n_components", self.n_components, 1, n_cases, f" (X has {n_cases} data cases)")
        check_size("n_latent", self.n_latent, 0, n_visible, f" (X has {n_visible} columns)")
        check_choice("noise", self.noise, ("shared", "own"))
        check_size("max_iter", self.max_iter)
        check_size("n_starts", self.n_starts)
        check_positive("tol", self.tol)
        check_positive("min_noise", self.min_noise)

    def _starts(self, table, variance, lowest, weights):
        """An iterator of `Analysers` on the host, each made when it is asked for."""
        J, K, D, shared = self.n_components, self.n_latent, len(variance), self.noise == "shared"
        if self.init is not None:
            given = check_start(self.init, J, K, D, shared)
            # below its floor the first M-step would have to raise Q
            return iter([given._replace(psi=np.maximum(given.psi, lowest))])
        rng = generator(self.random_state)
        return (
            analysers.start(table, variance, J, K, shared, lowest, rng, weights)
            for _ in range(self.n_starts)
        )

    def _finish(self, found, lowest, n_cases, names, columns, backend):
        """Store the `Fit` found; lowest (D,) is the floor of Ψ, n_cases N."""
        p = found.p
        self.empty_ = self._warn_of(found.converged, n_cases * to_numpy(p.weights))
        low = to_numpy(p.psi) <= lowest * (1 + 1e-5)               # (D,) or (J, D)
        if low.ndim == 2:
            low[self.empty_] = False
        self.collapsed_ = np.flatnonzero(low.all(axis=1)) if low.ndim == 2 else np.zeros(0, dtype=int)
        if len(self.collapsed_):
            warn(
                f"components {shorten(self.collapsed_.tolist())} shrank to the floor of their Ψ, without "
                "which Q would fall for ever: they hold too few different data cases; fewer components, "
                "another random_state or init, noise='shared', or a larger min_noise may be meant",
                CollapseWarning,
            )
            low[self.collapsed_] = False
        places = np.argwhere(low)                                  # (h, 1) or (h, 2)
        self.heywood_ = places if low.ndim == 2 else places[:, 0]
        if len(places):
            whose = f" of components {shorten(np.unique(places[:, 0]).tolist())}" if low.ndim == 2 else ""
            named = shorten([columns.names[d] for d in np.unique(places[:, -1])])
            warn(
                f"{len(places)} noise variance(s){whose} ended at the floor, columns {named}: a Heywood "
                "case, the factors explain these columns completely; smaller n_components or n_latent, or "
                "min_noise larger than now, may be meant",
                HeywoodWarning,
            )
        self.q_path_ = np.array(found.path)
        self.n_iter_ = len(found.path) - 1
        self.converged_ = found.converged
        self.theta_ = analysers.canonical(p)
        self.columns_ = columns
        self._keep(backend, names, len(columns.given))

    _joint = staticmethod(analysers.log_joint)

    def _move(self, backend):
        double = get_backend(backend, "float64")
        self.theta_ = analysers.Analysers(*(double.asarray(part) for part in self.theta_))

    def _cases(self, X, backend, missing=False, noisy=False):
        """New data X (N, D), checked, as `Cases` of the model's columns. missing: NaN is let in; noisy: a
        column that was set aside need not be constant.
        """
        self._require_fit()
        columns, x = replace(self.columns_, masked=missing), self._table(X, missing=missing)
        if not noisy:
            columns.warn_of_moved(x)
        return Cases(Table(x, columns), backend)

    @property
    def _double(self):
        """The backend of θ."""
        self._require_fit()
        return get_backend(self.backend_, "float64")

    _width = "J (1 + K)"

    @property
    def _n_latent(self):
        """How many numbers a code is."""
        J, K, _ = self.theta_.W.shape
        return J * (1 + K)

    def transform(self, X):
        """E[y_n] of the code y = (e_j, e_j ⊗ z), (N, J + JK): the probabilities of the components, and for
        each of them its probability times the mean of its z                                   (9.14).

        A component's z says nothing under another one's W, so each has columns of its own. `decode` is linear
        in y: what it makes of E[y] is the mean of x given z and j, over both.
        """
        cases = self._cases(X, self._double)
        return collect(
            cases.shape[0], lambda rows: self._output(analysers.code(self.theta_, cases[rows, ...]))
        )

    def decode(self, Z):
        """E[x|y] of codes y, such as `transform` has them, (N, J + JK): (N, D)                 (9.14)."""
        y, double = self._latent_input(Z), self._double
        return collect(
            len(y), lambda rows: self._decoded(analysers.decode(self.theta_, double.asarray(y[rows])))
        )

    def impute(self, X):
        """X (N, D) with every NaN replaced by the mean of that entry given the observed ones, exactly: the
        components are weighed by what the observed entries say of them                        (9.15).
        """
        cases = self._cases(X, self._double, missing=True)

        def filled(rows):
            x, block = as_floats(cases.table.x[rows]), seen(cases[rows, ...])
            whole = self._decoded(analysers.decode(self.theta_, analysers.code(self.theta_, *block)))
            return np.where(np.isnan(x), whole, x).astype(x.dtype)

        return collect(cases.shape[0], filled)

    def denoise(self, X, noise_variance):
        """E[x|x̃] for data X = x̃ (N, D) that are x with noise N(0, noise_variance·I) added: (N, D), exactly.

        The components, and z in each, are inferred with the noise in Ψ                        (9.15).
        """
        check_positive("noise_variance", noise_variance)
        cases, tau2 = self._cases(X, self._double, noisy=True), self._double.asarray(noise_variance)
        return collect(
            cases.shape[0],
            lambda rows: self._decoded(analysers.denoised(self.theta_, cases[rows, ...], tau2)),
        )

    def _decoded(self, x):
        """The model's columns (n, V) of a block as X's, on the host."""
        return self.columns_.decode(self._output(x))

    def prior_codes(self, n_samples=1, random_state=None):
        """Codes y of j ~ π and z ~ N(0, I), (n_samples, J + JK), to be decoded."""
        self._require_fit()
        check_size("n_samples", n_samples)
        return self._output(self._draw(n_samples, generator(random_state)))

    def _draw(self, n_samples, rng):
        """`prior_codes` on the host in float64."""
        J, K, _ = self.theta_.W.shape
        weights = to_numpy(self.theta_.weights)
        j = rng.choice(J, size=n_samples, p=weights / weights.sum())
        chosen = np.eye(J)[j]                                      # e_j, (n_samples, J)
        z = chosen[:, :, None] * rng.standard_normal((n_samples, 1, K))
        return np.concatenate([chosen, z.reshape(n_samples, J * K)], axis=1)

    def sample(self, n_samples=1, random_state=None):
        """New data: j ~ π and z ~ N(0, I), then x ~ N(z W_j + b_j, Ψ_j). Returns (n_samples, D)."""
        self._require_fit()
        check_size("n_samples", n_samples)
        rng, double = generator(random_state), self._double
        y, psi = self._draw(n_samples, rng), to_numpy(self.theta_.psi)
        J, _, D = self.theta_.W.shape

        def draws(rows):
            variance = psi if psi.ndim == 1 else y[rows, :J] @ psi
            f = to_numpy(analysers.decode(self.theta_, double.asarray(y[rows])))
            return self._decoded(f + np.sqrt(variance) * rng.standard_normal((len(f), D)))

        return collect(n_samples, draws)

    @property
    def means_(self):
        """b (J, D)."""
        self._require_fit()
        return self._output(self.theta_.b)

    @property
    def components_(self):
        """W (J, K, D), canonical."""
        self._require_fit()
        return self._output(self.theta_.W)

    @property
    def noise_variance_(self):
        """The diagonal of Ψ, (D,), or those of the Ψ_j, (J, D)."""
        self._require_fit()
        return self._output(self.theta_.psi)

    @property
    def covariances_(self):
        """W_jᵀW_j + Ψ_j, (J, D, D)."""
        W, psi = self.components_, self.noise_variance_
        return np.swapaxes(W, 1, 2) @ W + psi[..., None, :] * np.eye(W.shape[2], dtype=W.dtype)

    @property
    def n_parameters_(self):
        """How many numbers were learned that are used for new data: of the J weights, J − 1."""
        self._require_fit()
        J, K, D = self.theta_.W.shape
        return J - 1 + J * K * D + J * D + (D if self.theta_.psi.ndim == 1 else J * D)


def check_start(init, n_components, n_latent, n_visible, shared):
    """`init` as `Analysers` on the host; ValueError where they are none of the kind asked for."""
    J, K, D = n_components, n_latent, n_visible
    shapes = analysers.Analysers((J,), (J, K, D), (J, D), (D,) if shared else (J, D))
    about = f"n_components={J}, n_latent={K}, noise={'shared' if shared else 'own'!r} and {D} columns"
    p = check_init(init, analysers.Analysers, shapes, about)
    if not p.psi.min() > 0:
        raise ValueError(f"the psi of init must be variances > 0, the least is {p.psi.min():.3g}")
    return p
