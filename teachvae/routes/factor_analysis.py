"""Factor analysis fitted by EM: route one, where the E-step is a closed form.

x = z W + b + noise with z ~ N(0, I) and noise ~ N(0, Ψ), Ψ diagonal. EM needs nothing of the data
but N, Σx and Σxxᵀ, so after one pass over X an iteration costs O(D²K), whatever N is (Rubin & Thayer
1982). Only where entries are missing does every iteration go through the data again. Two additions to
the plain M-step spare most of the iterations, (2.24) and (2.26); without them EM is
`VariationalEM(K, hidden=(), posterior="full")`. Equations (2.x) are in derivations/equations.md.
"""

from copy import copy
from dataclasses import KW_ONLY
from typing import NamedTuple

import numpy as np

from ..arrays import ranks, tree
from ..arrays.backend import double, get_backend, to_numpy
from ..arrays.observed import seen
from ..arrays.rows import collect, float_type, mean_and_variance, slices
from ..arrays.special import diagonal
from ..doors.columns import Cases, Columns, Table
from ..doors.units import centred, heywood, rounded_off
from ..doors.validate import check_choice, check_data, check_positive, check_size, generator, weighted_rows
from ..evaluation import goodness
from ..evaluation.goodness import UntestableError
from ..evaluation.summary import Summary
from ..inference import em, linear_gaussian
from ..inference.moments import moments
from ..inference.simple_structure import METHODS, rotate
from ..likelihoods import Gaussian
from ..likelihoods.checks import negligible, refuse_small
from ..messages import about_rows, align, column_names, counted, fixed, on_a_page, shorten, warn
from ..model import Model
from ..networks.convergence import ConvergenceWarning
from ..networks.layers import Linear, Sequential
from ..posteriors import FullGaussian
from .checkpoint import Checkpoint
from .conventions import (
    COMM, EM_BACKEND, EM_DTYPE, agreed, estimator, in_threads, leaving_last, option, quietly
)
from .questions import LatentVariableModel


class Scores(NamedTuple):
    """The factors' values (N, K) of data cases, and their standard errors (N, K).

    print(scores) is a table of means and spreads.
    """

    values: np.ndarray
    standard_errors: np.ndarray

    def __str__(self):
        table = [["", "mean", "std. deviation", "std. error", "largest error"]]
        columns = zip(self.values.T, self.standard_errors.T)
        for k, (values, errors) in enumerate(columns, 1):
            numbers = values.mean(), values.std(), errors.mean(), errors.max()
            table.append([f"factor {k}", *(fixed(number) for number in numbers)])
        return "\n".join([
            align(table, left=1, heads=1),
            f"over {counted(len(self.values))}, in units of p(z), whose standard deviation is 1;",
            "std. error: the mean of the cases'",
        ])

    def __repr__(self):
        N, K = self.values.shape
        return f"<Scores of K = {K} factors for {counted(N)}>"

    _repr_html_ = on_a_page


@estimator
class FactorAnalysis(LatentVariableModel):
    """Factor analysis by maximum likelihood.

    {options}

    After fit, for the D columns that constant="drop" has not set aside:
    components_ (K, D) canonical loadings, W Ψ⁻¹ Wᵀ diagonal; loadings_ (D, K) their transpose;
    mean_ (D,); noise_variance_ (D,); nlml_path_ mean nlml in nats per data case before each M-step
    and at the end; n_iter_; converged_; heywood_ places of columns whose variance ended at the floor;
    moments_ the `moments.Moments` of complete data, or None; covariance_ (D, D) what `fit_covariance` was
    given, or None; n_cases_ how many data cases there were, or the sum of their weights.

    `rotate` turns the factors to simple structure, `scores` gives their values with standard errors, and
    `summary` what factor analysts print; the fit knows nothing of a rotation, and neither does p(x).
    """

    n_components: int = option(2, "K <= D")
    _: KW_ONLY
    noise: object = option("diagonal", '"diagonal", "isotropic" (probabilistic PCA), or a fixed variance σ²')
    missing: str = option(
        "error",
        '"error", or "marginalise": NaN stands for an entry that was not observed, and EM is exact on '
        "what was",
    )
    constant: str = option(
        "error",
        '"error", or "drop": what becomes of constant columns under a diagonal Ψ',
    )
    tol: float = option(
        1e-8,
        "EM ends when the nlml still to be gained, as extrapolated from the last steps, and what the last "
        "quarter of the steps has gained are below tol nats per data case (6.6)",
    )
    max_iter: int = option(
        20000,
        "the most EM iterations, those not counted that are taken back (2.26); ending there warns",
    )
    n_starts: object = option(
        None,
        "from how many starts EM goes a hundred steps, to go on from the best. None: 4, or the first "
        "alone where it arrives from there within them. The likelihood of a diagonal Ψ can have several "
        "maxima, and EM ends in one near its start: the highest where the data say much about few "
        "factors, not always where cases are few, K is large, or Ψ runs to its floor. More starts find it "
        "more often; nlml_path_[-1] tells which of two fits is better",
    )
    min_noise: float = option(1e-6, "the floor of Ψ as a share of each column's variance")
    backend: str = option("numpy", EM_BACKEND)
    dtype: object = option(None, EM_DTYPE)
    random_state: object = option(0, "seed of the starts")
    comm: object = option(None, COMM)

    def fit(self, X, y=None, sample_weight=None, *, checkpoint=None, progress=None):
        """Fit to X (N, D). Returns self. Raises ValueError for data that cannot be fitted.

        sample_weight (N,) >= 0: how often each data case counts, once where None, and with 0 not at all.
        The estimate depends on the ratios of the weights alone.
        checkpoint is a file for the model, and for EM, as they stand after the last iteration, from when one
        of the starts is chosen; else as in `VAE.fit`. It is of use where EM takes long: entries are missing.
        progress(iteration, max_iter, mean_nlml) is called after each iteration where given; where it returns
        True, EM ends. With a parameter called now it is handed a function that returns the model as it
        stands.
        """
        X, weights = weighted_rows(X, sample_weight)
        table, names, likelihood = self._open(X, "gaussian", self.noise, weighted=weights is not None)
        self._check_parameters(likelihood.n_visible)
        comm, n_rows = table.comm, ranks.places(table).n_cases
        n_cases = n_rows if weights is None else float(comm.sum(weights.sum()))
        tell = agreed(comm, progress)
        incomplete = any(np.isnan(table[rows]).any() for rows in slices(table.shape[0]))
        if any(comm.gather(incomplete)):
            whole, (mean, variance) = None, mean_and_variance(table, weights)
            shares = None if weights is None else weights / (n_cases / n_rows)
            problem = self._incomplete(table, likelihood, mean, variance, shares)
        else:
            whole = moments(table, self.backend, weights)
            mean, variance, problem = whole.mean, np.diag(whole.covariance), self._complete(whole.covariance)
        backend = self._backend_for(table.x.dtype)
        rest = mean, variance, likelihood, names, table.columns, backend, n_cases, whole

        def stood(fit):
            fa = copy(self)
            quietly(fa._finish, fit, *rest)
            return fa

        def report(iteration, most, nlml, p):
            return tell(iteration, most, nlml, lambda: stood(em.Fit(p, [nlml], None)))

        saved = Checkpoint(checkpoint, self, {"X": table.x, "sample_weight": weights}, comm)
        begun = saved.begun(get_backend(self.backend, "float64"))
        with saved.kept(stood) as after, leaving_last(self, stood, saved):
            found = self._em(problem, None if tell is None else report, begun, after)
        self._finish(found, *rest)
        saved.write(self)
        self._end(comm, self.theta_)
        return self

    def partial_fit(self, X, y=None, sample_weight=None):
        """Add the data cases X (N, D) to those seen so far and fit to all of them. Returns self.

        What is kept of the data is their `moments_`, which are added up: the result is that of one fit to
        all data cases, up to rounding. sample_weight (N,) is as in `fit`; the weights of all calls are on one
        scale. Raises ValueError as `fit` does, and for missing entries, which have no such moments.
        """
        if self.constant != "error" or self.missing != "error":
            raise ValueError(
                "partial_fit needs complete data: use it with missing='error' and constant='error'"
            )
        comm, (X, weights) = self._ranks(), weighted_rows(X, sample_weight)
        seen = getattr(self, "moments_", None)
        if seen is None:
            if hasattr(self, "n_features_in_"):
                raise ValueError("partial_fit cannot go on from this fit, which left no moments: start anew")
            x, names = check_data(X, dtype=self._held)
        elif self.columns_.dropped:
            aside = shorten([self.columns_.given[d] for d in self.columns_.dropped])
            raise ValueError(
                f"partial_fit cannot go on from a fit with constant='drop', which set columns {aside} aside: "
                "start anew"
            )
        else:
            x, names = self._table(X), getattr(self, "feature_names_in_", None)
        self._agree(comm, x, names, begun=seen is not None, weighted=weights is not None)
        labels = column_names(names, x.shape[1])
        table = Table(x, Columns(labels), comm, self._held)
        new = moments(table, self.backend, weights)
        whole = new if seen is None else seen + new
        if seen is None and ranks.places(table).n_cases < 2:
            raise ValueError("the first partial_fit needs 2 data cases or more, got 1")
        spread = np.sqrt(np.maximum(np.diag(whole.covariance), 0)).astype(float_type(x.dtype))
        if self.noise == "diagonal":
            refuse_small(whole.mean - spread, whole.mean + spread, labels, table.dtype)
        none = negligible(spread, np.abs(whole.mean), SUMMED)
        flat = [label for label, constant in zip(labels, none) if constant]
        if (flat and self.noise == "diagonal") or (len(flat) == len(labels) and self.noise == "isotropic"):
            raise ValueError(
                f"columns {shorten(flat)} are constant so far: begin with data cases in which they vary"
            )
        self._check_parameters(x.shape[1])
        found, variance = self._em(self._complete(whole.covariance)), np.diag(whole.covariance)
        likelihood, backend = Gaussian(x.shape[1], self.noise), self._backend_for(x.dtype)
        columns = Columns(labels)
        self._finish(found, whole.mean, variance, likelihood, names, columns, backend, whole.n_cases, whole)
        self._end(comm, self.theta_)
        return self

    def fit_covariance(self, S, n_cases=None, mean=None):
        """Fit to a covariance matrix S (D, D) with divisor N, or to a correlation matrix.

        n_cases is not needed for the maximum, but for tests of fit; mean (D,) is 0 where None. Raises
        ValueError where S is not a symmetric matrix without negative eigenvalues.
        """
        S, names = check_data(S, name="S")
        S = S.astype("float64")
        D = S.shape[1]
        if S.shape != (D, D):
            raise ValueError(
                f"a covariance matrix must be square, got shape {S.shape}: give np.cov(X.T, bias=True), "
                "or the data themselves to fit(X)"
            )
        asymmetry = np.abs(S - S.T)
        if asymmetry.max() > 1e-8 * np.abs(S).max():
            i, j = np.unravel_index(np.argmax(asymmetry), S.shape)
            raise ValueError(
                f"a covariance matrix must be symmetric, got S[{i}, {j}] = {S[i, j]:g} and "
                f"S[{j}, {i}] = {S[j, i]:g}: give (S + S.T) / 2 if that is what is meant"
            )
        lowest = np.linalg.eigvalsh(S)[0]
        if lowest < -1e-8 * np.abs(S).max():
            raise ValueError(
                f"a covariance matrix has no negative eigenvalues, the smallest of this one is {lowest:.3g}: "
                "compute it from the same data cases for every pair of columns"
            )
        if n_cases is not None:
            check_size("n_cases", n_cases, 2)
        mean = np.zeros(D) if mean is None else np.asarray(mean, dtype="float64")
        if mean.shape != (D,) or not np.isfinite(mean).all():
            raise ValueError(f"mean must be ({D},) finite numbers, got {mean} of shape {mean.shape}")
        spread = np.sqrt(np.maximum(np.diag(S), 0))
        flat = np.flatnonzero(negligible(spread, np.abs(mean), SUMMED))
        if len(flat):
            raise ValueError(f"columns {flat.tolist()} have variance 0: drop these rows and columns of S")
        self._check_parameters(D)
        S, columns = (S + S.T) / 2, Columns(column_names(names, D))
        found, backend = self._em(self._complete(S)), self._backend_for("float64")
        likelihood = Gaussian(D, self.noise)
        self._finish(found, mean, np.diag(S), likelihood, names, columns, backend, n_cases, covariance=S)
        return self

    def _check_parameters(self, n_visible):
        check_size("n_components", self.n_components, 1, n_visible, f" (X has {n_visible} columns)")
        check_size("max_iter", self.max_iter)
        if self.n_starts is not None:
            check_size("n_starts", self.n_starts)
        check_positive("tol", self.tol)
        check_positive("min_noise", self.min_noise)

    def _complete(self, S):
        """EM's problem on the covariance S (D, D)."""
        S, gaussian = get_backend(self.backend, "float64").asarray(S), Gaussian(len(S), self.noise)
        return em.Complete(S, gaussian, gaussian.lower_bounds(diagonal(S), self.min_noise))

    def _incomplete(self, table, gaussian, mean, variance, weights):
        """EM's problem on the data of a `Table` with NaN where nothing was observed; weights of mean 1."""
        double = get_backend(self.backend, "float64")
        return em.Incomplete(
            Cases(table, double, origin=mean),
            gaussian,
            gaussian.lower_bounds(double.asarray(variance), self.min_noise),
            weights=None if weights is None else double.asarray(weights),
        )

    def _em(self, problem, progress=None, begun=None, after=None):
        """The `Fit` of EM from the best of `n_starts` starts, or from the one that was `begun`."""
        rng, double = generator(self.random_state), get_backend(self.backend, "float64")
        size = problem.S.shape[0], self.n_components
        return em.fit(
            problem,
            self.n_components,
            (double.normal(rng, size) for _ in range(self.n_starts or em.STARTS)),
            tol=self.tol,
            max_iter=self.max_iter,
            every=self.n_starts is not None,
            progress=progress,
            begun=begun,
            after=after,
        )

    def _finish(
        self, found, mean, variance, gaussian, names, columns, backend, n_cases, moments=None, covariance=None
    ):
        """Store the `Fit` found; mean and variance (D,) are those of the data's columns."""
        W, psi = (to_numpy(part) for part in (linear_gaussian.canonical(found.p.W, found.p.psi), found.p.psi))
        K, D = W.shape
        if found.converged is False:
            sinking = np.flatnonzero((psi < 0.01 * variance) & (psi > self.min_noise * variance))
            hint = (
                f"; the noise of {shorten([columns.names[d] for d in sinking])} is below a hundredth of its "
                "variance and may be on its way to the floor, a Heywood case, where EM slows down"
                if len(sinking) and gaussian.noise == "diagonal"
                else ""
            )
            warn(
                f"EM stopped after max_iter={self.max_iter} iterations with more than tol={self.tol} "
                f"nats per data case still to be gained: raise max_iter or tol{hint}",
                ConvergenceWarning,
            )
        noise = gaussian.m_step(psi, None)
        self.heywood_ = heywood(gaussian, noise, variance, self.min_noise, columns.names)
        self.nlml_path_ = np.array(found.path)
        self.n_iter_ = len(found.path) - 1
        self.converged_ = found.converged
        # Where entries are missing, the posteriors of one model are no longer all diagonal in one basis.
        family = FullGaussian(K) if columns.masked else None
        self.model_ = Model(Sequential((Linear(K, D),)), gaussian, K, family)
        exact = {"decoder": [{"W": W, "b": mean + to_numpy(found.p.b)}], "likelihood": noise}
        exact = tree.map(get_backend(backend, "float64").asarray, exact)
        self.theta_ = tree.map(backend.asarray, exact)
        self.theta_rest_ = rounded_off(exact, self.theta_)
        self.columns_ = columns
        self.n_cases_, self.moments_, self.covariance_ = n_cases, moments, covariance
        self._keep(backend, names, len(columns.given))

    def _phi(self, theta, cases):
        return self._closed_form(self.model_, theta, cases)

    def infer(self, X):
        """φ of the exact posterior: (N, 2K) = [m | log s], for it is diagonal for canonical loadings; with
        missing="marginalise" (N, K + K(K+1)/2) = [m | L].
        """
        return self._phi(*self._centred(X))

    def rotate(self, method="varimax"):
        """The factors turned to simple structure: a `simple_structure.Rotation`, with loadings (D, K).

        method  "varimax": the factors stay uncorrelated; "promax": they may correlate

        The fit, p(x), nlml and Q of a full q are blind to it. A diagonal q is not: its Q rises by the
        rotation's `diagonal_gap` in every complete data case. Raises ValueError where promax finds loadings
        of a rank below K.
        """
        self._require_fit()
        check_choice("method", method, METHODS)
        return rotate(*self._exact_loadings(), method)

    def _exact_loadings(self):
        """W (K, D) and psi (D,) on the host in float64, whatever dtype and library the fit lives in."""
        theta, _ = centred(self.model_, tree.map(double, self.theta_), self.theta_rest_)
        W, _, psi = linear_gaussian.parameters(self.model_, theta)
        return to_numpy(W), to_numpy(psi)

    @in_threads
    def scores(self, X, method="regression", rotation=None):
        """The factors' values for data X (N, D), with standard errors: `Scores`.

        method    "regression": the posterior's mean and standard deviation, shrunk towards 0 by the prior;
                  "bartlett": weighted least squares, of which z is unbiased, with its standard error given z
        rotation  None: the canonical factors, or "varimax", "promax": those of `rotate`

        Raises ValueError for Bartlett's scores where the columns that a data case has cannot tell the factors
        apart.
        """
        check_choice("method", method, ("regression", "bartlett"))
        turn = None if rotation is None else self.rotate(rotation)
        theta, cases = self._centred(X)
        parameters = [to_numpy(p) for p in linear_gaussian.parameters(self.model_, tree.map(double, theta))]

        def block(rows):
            x, mask = seen(double(cases[rows, ...]))
            x, mask = to_numpy(x), None if mask is None else to_numpy(mask)
            z, M = linear_gaussian.posterior(*parameters, x, mask)
            if method == "regression":
                covariance = np.linalg.inv(M)
            else:
                self._refuse_what_is_not_told_apart(M, rows, mask)
                z, covariance = linear_gaussian.bartlett(z, M)
            if turn is not None:
                z, covariance = turn.scores(z, covariance)
            variances = np.diagonal(covariance, axis1=-2, axis2=-1)
            return Scores(z, np.broadcast_to(np.sqrt(variances), z.shape))

        return collect(cases.shape[0], block)

    def _refuse_what_is_not_told_apart(self, M, rows, mask):
        """Raise ValueError where M − I, (K, K) or one per data case, is singular beside M."""
        values = np.linalg.eigvalsh(M) - 1                         # of W Ψ⁻¹ Wᵀ, as exact as M
        none = values[..., 0] <= 1e-12 * (1 + values[..., -1])
        if np.any(none):
            what = "these columns" if mask is None else "the entries observed in rows {rows}"
            raise about_rows(
                ValueError,
                f"Bartlett's scores need data that tell {M.shape[-1]} factors apart, and {what} do not: use "
                "method='regression', or fit fewer components",
                [] if mask is None else (rows.start + np.flatnonzero(none)).tolist(),
            )

    def summary(self, rotation=None):
        """What factor analysts print of a fit, a `summary.Summary`: print(fa.summary("varimax")).

        rotation  None: the canonical factors, or "varimax", "promax": those of `rotate`

        What cannot be had is None, and the summary's remarks say why.
        """
        self._require_fit()
        W, psi = self._exact_loadings()
        turned = None if rotation is None else self.rotate(rotation)
        K, D = W.shape
        spread = np.sqrt(np.sum(W * W, axis=0) + psi)              # of x under the model, (D,)
        noise, nlml = self.model_.likelihood.noise, float(self.nlml_path_[-1])
        n_parameters = goodness.free_parameters(D, K, {"diagonal": D, "isotropic": 1}.get(noise, 0))
        aic, bic, remarks, test = None, None, [], None
        try:
            test = self._fit_test(noise, nlml, K)
        except UntestableError as reason:
            remarks.append(f"No χ², and no RMSEA: {reason}.")
        if self.n_cases_ is None:
            remarks.append("No AIC, no BIC: how many data cases there were is not known.")
        else:
            aic, bic = goodness.information_criteria(nlml, self.n_cases_, n_parameters)
        if len(self.heywood_):
            names = shorten([self.columns_.names[d] for d in self.heywood_])
            remarks.append(
                f"A Heywood case: the noise of {names} ended at its floor, where no χ², p or RMSEA is to be "
                "trusted."
            )
        if self.converged_ is False:
            remarks.append("EM stopped before it converged: F and χ² are too large.")
        return Summary(
            names=list(self.columns_.names),
            n_cases=self.n_cases_,
            loadings=(W if turned is None else turned.W).T / spread[:, None],
            uniquenesses=psi / spread**2,
            rotation=rotation,
            correlations=np.eye(K) if turned is None else turned.correlations,
            test=test,
            n_parameters=n_parameters,
            aic=aic,
            bic=bic,
            remarks=tuple(remarks),
        )

    def _fit_test(self, noise, nlml, K):
        """The `goodness.FitTest` of the fit. Raises UntestableError where there is none."""
        S = self.covariance_ if self.moments_ is None else self.moments_.covariance
        if noise != "diagonal":
            raise UntestableError(f"they are for noise='diagonal', this fit has noise={noise!r}")
        if S is None:
            raise UntestableError("entries are missing, and the saturated model is not fitted to such data")
        if self.n_cases_ is None:
            raise UntestableError(
                "how many data cases there were is not known: give fit_covariance(S, n_cases)"
            )
        return goodness.fit_test(nlml, S, self.n_cases_, K)

    def get_covariance(self):
        """The model's covariance WᵀW + Ψ, (D, D), of the columns that were not set aside."""
        W = self.components_
        return W.T @ W + np.diag(self.noise_variance_)

    @property
    def components_(self):
        """W (K, D), canonical."""
        self._require_fit()
        return to_numpy(self.theta_["decoder"][0]["W"])

    @property
    def loadings_(self):
        """Wᵀ (D, K), canonical."""
        return self.components_.T

    @property
    def mean_(self):
        """The mean of x, (D,)."""
        self._require_fit()
        return to_numpy(self.theta_["decoder"][0]["b"])


SUMMED = 64                            # units of the last digit by which a mean may be off, and so a spread
