"""Factor analysis fitted by EM: route one, where the E-step is a closed form.

x = z W + b + noise with z ~ N(0, I) and noise ~ N(0, Ψ), Ψ diagonal. EM needs nothing of the data
but N, Σx and Σxxᵀ, so after one pass over X an iteration costs O(D²K), whatever N is (Rubin & Thayer
1982). Only where entries are missing does every iteration go through the data again. Two additions to
the plain M-step spare most of the iterations, (2.24) and (2.26); without them EM is
`VariationalEM(K, hidden=(), posterior="full")`. Equations (2.x) are in derivations/equations.md.
"""

import warnings

import numpy as np

from . import infer, linear_gaussian, tree
from .backend import get_backend, namespace, to_numpy
from .blocks import float_type, mean_and_variance, slices
from .columns import Cases, Columns, Table
from .estimator import LatentVariableModel
from .fit import ROUNDING, STARTS, ConvergenceWarning, race, settled
from .layers import Linear, Sequential
from .likelihoods import Gaussian, Observed, split
from .likelihoods.gaussian import negligible
from .model import Model
from .moments import moments
from .names import column_names, shorten
from .posteriors import FullGaussian
from .units import heywood, rounded_off
from .validate import check_data, check_positive, check_size, generator, weighted_rows


class FactorAnalysis(LatentVariableModel):
    """Factor analysis by maximum likelihood.

    n_components  K <= D
    noise         "diagonal", "isotropic" (probabilistic PCA), or a fixed variance σ²
    missing       "error", or "marginalise": NaN stands for an entry that was not observed, and EM is
                  exact on what was
    constant      "error", or "drop": what becomes of constant columns under a diagonal Ψ
    tol           EM ends when the nlml still to be gained, as extrapolated from the last steps, and what the
                  last quarter of the steps has gained are below tol nats per data case (6.6)
    max_iter      the most EM iterations, those not counted that are taken back (2.26); ending there warns
    n_starts      from how many starts EM goes a hundred steps, to go on from the best. None: 4, or the
                  first alone where it arrives from there within them. The likelihood of a diagonal Ψ can have
                  several maxima, and EM ends in one near its start: the highest where the data say much
                  about few factors, not always where cases are few, K is large, or Ψ runs to its floor.
                  More starts find it more often; nlml_path_[-1] tells which of two fits is better
    min_noise     the floor of Ψ as a share of each column's variance
    backend, dtype, random_state   where and in what precision results live, EM itself being float64; the
                  seed of the starts

    After fit, for the D columns that constant="drop" has not set aside:
    components_ (K, D) canonical loadings, W Ψ⁻¹ Wᵀ diagonal; loadings_ (D, K) their transpose;
    mean_ (D,); noise_variance_ (D,); nlml_path_ mean nlml in nats per data case before each M-step
    and at the end; n_iter_; converged_; heywood_ places of columns whose variance ended at the floor;
    moments_ the `moments.Moments` of complete data, or None; n_samples_ how many data cases there were, or
    the sum of their weights.
    """

    def __init__(
        self,
        n_components=2,
        *,
        noise="diagonal",
        missing="error",
        constant="error",
        tol=1e-8,
        max_iter=20000,
        n_starts=None,
        min_noise=1e-6,
        backend="numpy",
        dtype=None,
        random_state=0,
    ):
        self.n_components = n_components
        self.noise = noise
        self.missing = missing
        self.constant = constant
        self.tol = tol
        self.max_iter = max_iter
        self.n_starts = n_starts
        self.min_noise = min_noise
        self.backend = backend
        self.dtype = dtype
        self.random_state = random_state

    def fit(self, X, y=None, sample_weight=None, *, progress=None):
        """Fit to X (N, D). Returns self. Raises ValueError for data that cannot be fitted.

        sample_weight (N,) >= 0: how often each data case counts, once where None, and with 0 not at all.
        The estimate depends on the ratios of the weights alone.
        progress(iteration, max_iter, mean_nlml) is called after each iteration where given.
        """
        X, weights = weighted_rows(X, sample_weight)
        table, names, likelihood = self._open(X, "gaussian", self.noise)
        self._check_parameters(likelihood.n_visible)
        if any(np.isnan(table[rows]).any() for rows in slices(table.shape[0])):
            found, fitted = self._em_observed(table, weights, likelihood, progress), None
        else:
            fitted = moments(table, self.backend, weights)
            found = self._em(fitted.covariance, fitted.mean, progress)
        self._finish(*found, likelihood, names, table.columns, self._backend_for(table.x.dtype))
        self.n_samples_ = table.shape[0] if weights is None else float(weights.sum())
        self.moments_ = fitted
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
        X, weights = weighted_rows(X, sample_weight)
        seen = getattr(self, "moments_", None)
        if seen is None:
            if hasattr(self, "n_features_in_"):
                raise ValueError("partial_fit cannot go on from this fit, which left no moments: start anew")
            x, names = check_data(X)
        elif self.columns_.dropped:
            aside = shorten([self.columns_.given[d] for d in self.columns_.dropped])
            raise ValueError(
                f"partial_fit cannot go on from a fit with constant='drop', which set columns {aside} aside: "
                "start anew"
            )
        else:
            x, names = self._table(X), getattr(self, "feature_names_in_", None)
        labels = column_names(names, x.shape[1])
        new = moments(Table(x, Columns(labels)), self.backend, weights)
        whole = new if seen is None else seen + new
        if seen is None and len(x) < 2:
            raise ValueError("the first partial_fit needs 2 data cases or more, got 1")
        spread = np.sqrt(np.maximum(np.diag(whole.covariance), 0)).astype(float_type(x.dtype))
        none = negligible(spread, np.abs(whole.mean), SUMMED)
        flat = [label for label, constant in zip(labels, none) if constant]
        if (flat and self.noise == "diagonal") or (len(flat) == len(labels) and self.noise == "isotropic"):
            raise ValueError(
                f"columns {shorten(flat)} are constant so far: begin with data cases in which they vary"
            )
        self._check_parameters(x.shape[1])
        found = self._em(whole.covariance, whole.mean, None)
        likelihood = Gaussian(x.shape[1], self.noise)
        self._finish(*found, likelihood, names, Columns(labels), self._backend_for(x.dtype))
        self.n_samples_, self.moments_ = whole.n_cases, whole
        return self

    def fit_covariance(self, S, n_samples=None, mean=None):
        """Fit to a covariance matrix S (D, D) with divisor N, or to a correlation matrix.

        n_samples is not needed for the maximum and only kept; mean (D,) is 0 where None. Raises
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
        if n_samples is not None:
            check_size("n_samples", n_samples, 2)
        mean = np.zeros(D) if mean is None else np.asarray(mean, dtype="float64")
        if mean.shape != (D,) or not np.isfinite(mean).all():
            raise ValueError(f"mean must be ({D},) finite numbers, got {mean} of shape {mean.shape}")
        spread = np.sqrt(np.maximum(np.diag(S), 0))
        flat = np.flatnonzero(negligible(spread, np.abs(mean), SUMMED))
        if len(flat):
            raise ValueError(f"columns {flat.tolist()} have variance 0: drop these rows and columns of S")
        self._check_parameters(D)
        found = self._em((S + S.T) / 2, mean, None)
        columns = Columns(column_names(names, D))
        self._finish(*found, Gaussian(D, self.noise), names, columns, self._backend_for("float64"))
        self.n_samples_, self.moments_ = n_samples, None
        return self

    def _check_parameters(self, n_visible):
        check_size("n_components", self.n_components, 1, n_visible, f" (X has {n_visible} columns)")
        check_size("max_iter", self.max_iter)
        if self.n_starts is not None:
            check_size("n_starts", self.n_starts)
        check_positive("tol", self.tol)
        check_positive("min_noise", self.min_noise)

    def _em(self, S, mean, progress):
        """EM on the covariance S (D, D): W (K, D), b (D,), psi (D,), S's diagonal, path, converged."""
        double = get_backend(self.backend, "float64")
        rng, n_starts = generator(self.random_state), self.n_starts or STARTS
        W, psi, path, converged = em(
            double.asarray(S),
            self.n_components,
            Gaussian(len(mean), self.noise),
            start_noises=(double.normal(rng, (len(mean), self.n_components)) for _ in range(n_starts)),
            every=self.n_starts is not None,
            min_noise=self.min_noise,
            tol=self.tol,
            max_iter=self.max_iter,
            progress=progress,
        )
        return to_numpy(linear_gaussian.canonical(W, psi)), mean, to_numpy(psi), np.diag(S), path, converged

    def _em_observed(self, table, weights, likelihood, progress):
        """EM on the data of a `Table` with NaN where nothing was observed; returns what `_em` does."""
        double = get_backend(self.backend, "float64")
        rng, n_starts = generator(self.random_state), self.n_starts or STARTS
        weights = np.ones(table.shape[0]) if weights is None else weights / weights.mean()
        mean, variance = mean_and_variance(table, weights)
        W, b, psi, path, converged = em_observed(
            Cases(table, double, masked=True, origin=mean),
            double.asarray(weights),
            double.asarray(variance),
            self.n_components,
            likelihood,
            start_noises=(double.normal(rng, (len(mean), self.n_components)) for _ in range(n_starts)),
            every=self.n_starts is not None,
            min_noise=self.min_noise,
            tol=self.tol,
            max_iter=self.max_iter,
            progress=progress,
        )
        W = to_numpy(linear_gaussian.canonical(W, psi))
        return W, mean + to_numpy(b), to_numpy(psi), variance, path, converged

    def _finish(self, W, mean, psi, variance, path, converged, likelihood, names, columns, backend):
        """Store what was learned; `variance` (D,) is that of the data's columns."""
        K, D = W.shape
        gaussian = likelihood.likelihood if isinstance(likelihood, Observed) else likelihood
        if not converged:
            sinking = np.flatnonzero((psi < 0.01 * variance) & (psi > self.min_noise * variance))
            hint = (
                f"; the noise of {shorten([columns.names[d] for d in sinking])} is below a hundredth of its "
                "variance and may be on its way to the floor, a Heywood case, where EM slows down"
                if len(sinking) and gaussian.noise == "diagonal"
                else ""
            )
            warnings.warn(
                f"EM stopped after max_iter={self.max_iter} iterations with more than tol={self.tol} "
                f"nats per data case still to be gained: raise max_iter or tol{hint}",
                ConvergenceWarning,
                stacklevel=3,
            )
        noise = gaussian.m_step(psi, None)
        self.heywood_ = heywood(likelihood, noise, variance, self.min_noise, columns.names)
        self.nlml_path_ = np.array(path)
        self.n_iter_ = len(path) - 1
        self.converged_ = converged
        # Where entries are missing, the posteriors of one model are no longer all diagonal in one basis.
        family = FullGaussian(K) if isinstance(likelihood, Observed) else None
        self.model_ = Model(Sequential((Linear(K, D),)), likelihood, K, family)
        exact = {"decoder": [{"W": W, "b": mean}], "likelihood": noise}
        exact = tree.map(get_backend(backend, "float64").asarray, exact)
        self.theta_ = tree.map(backend.asarray, exact)
        self.theta_rest_ = rounded_off(exact, self.theta_)
        self.columns_ = columns
        self._keep(backend, names, len(columns.given))

    def _phi(self, theta, cases):
        return self._closed_form(self.model_, theta, cases)

    def infer(self, X):
        """φ of the exact posterior: (N, 2K) = [m | log s], for it is diagonal for canonical loadings; with
        missing="marginalise" (N, K + K(K+1)/2) = [m | L].
        """
        return self._phi(*self._centred(X))

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


def em(S, n_latent, likelihood, *, start_noises, every, min_noise, tol, max_iter, progress=None):
    """EM for factor analysis on the covariance S (D, D) alone.

    start_noises are one standard normal (D, K) for each start, to break its symmetry; `every` is what
    `fit.race` asks for. Returns W (K, D), psi (D,), the path of the mean nlml, and whether the
    extrapolated rest fell below tol. The nlml never rises, beyond rounding:
    given the E-step's statistics, W, b and the floored Ψ of the M-step are Q's minimiser within bounds,
    those of the wider model (2.24) a lower one of the same nlml, and a longer step is taken back where it
    rises.
    """
    lower = likelihood.lower_bounds(linear_gaussian.diagonal(S), min_noise)
    zero = namespace(S).zeros_like(S[0, :])

    def floored(psi):
        return likelihood.psi(likelihood.m_step(psi, lower), like=psi)

    def e_step(W, b, psi):
        return linear_gaussian.e_step_moments(W, psi, S)

    def m_step(stats):
        W, b, mean_square = linear_gaussian.m_step(stats)
        return *linear_gaussian.expanded(W, b, stats.z, stats.zz), floored(mean_square)

    starts = linear_gaussian.starts(S, n_latent, likelihood, start_noises, lower)
    runs = (_iterate(e_step, m_step, floored, (W, zero, psi), tol) for W, psi in starts)
    (W, _, psi), path, converged = race(runs, tol=tol, max_iter=max_iter, every=every, progress=progress)
    return W, psi, path, converged


def em_observed(
    data, weights, variance, n_latent, likelihood, *,
    start_noises, every, min_noise, tol, max_iter, progress=None,
):
    """EM for factor analysis on data [x | mask] (N, 2D), x of mean 0, that count where the mask is 1.

    weights (N,), of mean 1: how often each data case counts. likelihood the `Observed` one, variance (D,) of
    the columns; the rest is as in `em`. The E-step inverts one K × K matrix for every pattern of missing
    entries, the M-step solves one regression per column. Returns W (K, D), b (D,), psi (D,), the path of the
    mean nlml, and whether it converged.
    """
    xp, N = namespace(variance), data.shape[0]

    def parts():
        for rows in slices(N):
            x, mask = split(likelihood, data[rows, ...])
            yield x * mask, mask, weights[rows]

    # Correlations of columns that are filled with their means are too small, which does for a start.
    S = sum((w[:, None] * x).T @ x for x, _, w in parts()) / N
    share = sum(w @ mask for _, mask, w in parts()) / N
    gaussian = likelihood.likelihood
    lower = gaussian.lower_bounds(variance, min_noise)

    def floored(psi):
        return gaussian.psi(gaussian.m_step(psi, lower, share), like=psi)

    def e_step(W, b, psi):
        sums, total = None, 0.0
        for x, mask, w in parts():
            mean, covariance, values = linear_gaussian.observed_e_step(W, b, psi, x, mask)
            part = linear_gaussian.observed_statistics(mean, covariance, x, mask, w)
            sums = part if sums is None else type(part)(*(a + c for a, c in zip(sums, part)))
            total = total + float(xp.sum(w * values))
        return sums, total / N

    def m_step(sums):
        W, b, mean_square = linear_gaussian.observed_m_step(sums)
        return *linear_gaussian.expanded(W, b, *linear_gaussian.latent_moments(sums)), floored(mean_square)

    starts = linear_gaussian.starts(S, n_latent, gaussian, start_noises, lower)
    zero = xp.zeros_like(variance)
    runs = (_iterate(e_step, m_step, floored, (W, zero, psi), tol) for W, psi in starts)
    (W, b, psi), path, converged = race(runs, tol=tol, max_iter=max_iter, every=every, progress=progress)
    return W, b, psi, path, converged


def _iterate(e_step, m_step, floored, parameters, tol):
    """E- and M-steps in turn from parameters (W, b, psi), until they converge: yields, after every E-step, the
    parameters, the path, which goes on growing, and whether they have converged.

    e_step(W, b, psi) → (statistics, mean nlml), m_step(statistics) → (W, b, psi). Each step goes a little
    further than the M-step says, and further than the one before: in ψ_d as long as it keeps its direction.
    Where the nlml rises, back to the M-step's own (Salakhutdinov & Roweis 2003)            (2.26).
    """
    xp, one = namespace(parameters[0]), namespace(parameters[2]).ones_like(parameters[2])
    path, longer, m_steps_own = [], False, parameters
    length, lengths, before = 1.0, one, 0 * one                    # of W and b; of every ψ_d
    while True:
        stats, value = e_step(*parameters)
        if longer and not float(value) <= path[-1] + ROUNDING * abs(path[-1]):
            parameters, longer = m_steps_own, False
            length, lengths = 1.0, xp.where(lengths > 2, 0.5 * lengths, one)
            continue
        path.append(float(value))
        converged = settled(path, tol)
        yield parameters, path, converged
        if converged:
            return
        m_steps_own, longer = m_step(stats), True
        (W, b, psi), (W_own, b_own, psi_own) = parameters, m_steps_own
        step = xp.log(psi_own) - xp.log(psi)
        length, lengths = LENGTHENING * length, xp.where(step * before > 0, LENGTHENING * lengths, one)
        before = step
        far = xp.clip(lengths * step, -3.0, 3.0)                   # no ψ_d by more than a factor of e³
        parameters = W + length * (W_own - W), b + length * (b_own - b), floored(psi * xp.exp(far))


SUMMED = 64                            # units of the last digit by which a mean may be off, and so a spread
LENGTHENING = 1.1                      # of a step over the one before
