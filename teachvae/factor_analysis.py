"""Factor analysis fitted by EM: route one, where the E-step is a closed form.

x = z W + b + noise with z ~ N(0, I) and noise ~ N(0, Ψ), Ψ diagonal. EM needs nothing of the data
but N, Σx and Σxxᵀ, so after one pass over X an iteration costs O(D²K), whatever N is (Rubin & Thayer
1982). Equations (2.x) are in derivations/equations.md.
"""

import warnings

import numpy as np

from . import infer, linear_gaussian, tree
from .backend import get_backend, to_numpy
from .estimator import LatentVariableModel
from .fit import ConvergenceWarning, settled
from .layers import Linear, Sequential
from .likelihoods import Gaussian, shorten
from .model import Model
from .units import heywood
from .validate import check_data, check_positive, check_size, column_names


class FactorAnalysis(LatentVariableModel):
    """Factor analysis by maximum likelihood.

    n_components  K <= D
    noise         "diagonal", "isotropic" (probabilistic PCA), or a fixed variance σ²
    tol           EM ends when the nlml still to be gained, as extrapolated from the last steps (6.6),
                  is below tol nats per data case
    max_iter      the most EM iterations; ending there warns
    min_noise     the floor of Ψ as a share of each column's variance
    backend, dtype, random_state   where and in what precision results live; EM itself is float64

    After fit:
    components_ (K, D) canonical loadings, W Ψ⁻¹ Wᵀ diagonal; loadings_ (D, K) their transpose;
    mean_ (D,); noise_variance_ (D,); nlml_path_ mean nlml in nats per data case before each M-step
    and at the end; n_iter_; converged_; heywood_ places of columns whose variance ended at the floor.
    """

    def __init__(
        self,
        n_components=2,
        *,
        noise="diagonal",
        tol=1e-8,
        max_iter=20000,
        min_noise=1e-6,
        backend="numpy",
        dtype=None,
        random_state=0,
    ):
        self.n_components = n_components
        self.noise = noise
        self.tol = tol
        self.max_iter = max_iter
        self.min_noise = min_noise
        self.backend = backend
        self.dtype = dtype
        self.random_state = random_state

    def fit(self, X, y=None, *, progress=None):
        """Fit to X (N, D). Returns self. Raises ValueError for data that cannot be fitted.

        progress(iteration, max_iter, mean_nlml) is called after each iteration where given.
        """
        x, names = check_data(X, minimum_rows=2)
        Gaussian(x.shape[1], self.noise).check(x, column_names(names, x.shape[1]))
        backend = self._backend_for(x.dtype)
        mean = x.mean(axis=0, dtype="float64")
        centred = get_backend(self.backend, "float64").asarray(x - mean)
        S = to_numpy(centred.T @ centred) / len(x)
        self._fit_moments(S, mean, names, backend, progress)
        self.n_samples_ = len(x)
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
        flat = np.flatnonzero(np.diag(S) <= 0)
        if len(flat):
            raise ValueError(f"columns {flat.tolist()} have variance 0: drop these rows and columns of S")
        if n_samples is not None:
            check_size("n_samples", n_samples, 2)
        mean = np.zeros(D) if mean is None else np.asarray(mean, dtype="float64")
        if mean.shape != (D,) or not np.isfinite(mean).all():
            raise ValueError(f"mean must be ({D},) finite numbers, got {mean} of shape {mean.shape}")
        self._fit_moments((S + S.T) / 2, mean, names, self._backend_for("float64"))
        self.n_samples_ = n_samples
        return self

    def _fit_moments(self, S, mean, names, backend, progress=None):
        D = len(mean)
        check_size("n_components", self.n_components, 1, D, f" (X has {D} columns)")
        check_size("max_iter", self.max_iter)
        check_positive("tol", self.tol)
        check_positive("min_noise", self.min_noise)
        likelihood = Gaussian(D, self.noise)
        double = get_backend(self.backend, "float64")
        rng = np.random.default_rng(self.random_state)

        W, psi, path, converged = em(
            double.asarray(S),
            self.n_components,
            likelihood,
            start_noise=double.normal(rng, (D, self.n_components)),
            min_noise=self.min_noise,
            tol=self.tol,
            max_iter=self.max_iter,
            progress=progress,
        )
        W, psi = to_numpy(linear_gaussian.canonical(W, psi)), to_numpy(psi)

        labels = column_names(names, D)
        if not converged:
            sinking = np.flatnonzero((psi < 0.01 * np.diag(S)) & (psi > self.min_noise * np.diag(S)))
            hint = (
                f"; the noise of {shorten([labels[d] for d in sinking])} is below a hundredth of its "
                "variance and may be on its way to the floor, a Heywood case, where EM slows down"
                if len(sinking) and likelihood.noise == "diagonal"
                else ""
            )
            warnings.warn(
                f"EM stopped after max_iter={self.max_iter} iterations with more than tol={self.tol} "
                f"nats per data case still to be gained: raise max_iter or tol{hint}",
                ConvergenceWarning,
                stacklevel=3,
            )
        noise = likelihood.m_step(psi, None)
        self.heywood_ = heywood(likelihood, noise, np.diag(S), self.min_noise, labels)
        self.nlml_path_ = np.array(path)
        self.n_iter_ = len(path) - 1
        self.converged_ = converged
        self.model_ = Model(Sequential((Linear(self.n_components, D),)), likelihood, self.n_components)
        theta = {"decoder": [{"W": W, "b": mean}], "likelihood": noise}
        self.theta_ = tree.map(backend.asarray, theta)
        self._keep(backend, names, D)

    def _phi(self, x):
        return infer.closed_form(self.model_, self.theta_, x)

    def infer(self, X):
        """φ (N, 2K) = [m | log s] of the exact posterior, which is diagonal for canonical loadings."""
        return to_numpy(self._phi(self._input(X)))

    def get_covariance(self):
        """The model's covariance WᵀW + Ψ, (D, D)."""
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


def em(S, n_latent, likelihood, *, start_noise, min_noise, tol, max_iter, progress=None):
    """EM for factor analysis on the covariance S (D, D) alone.

    start_noise (D, K) breaks the symmetry of the start. Returns W (K, D), psi (D,), the path of the
    mean nlml, and whether the extrapolated rest fell below tol. The nlml never rises: given the
    E-step's statistics, W, b and the floored Ψ of the M-step are Q's minimiser within bounds.
    """
    lower = likelihood.lower_bounds(linear_gaussian.diagonal(S), min_noise)
    W, psi = linear_gaussian.start(S, n_latent, likelihood, start_noise, lower)
    path = []
    for _ in range(max_iter + 1):
        stats, mean_nlml = linear_gaussian.e_step_moments(W, psi, S)
        path.append(float(mean_nlml))
        if progress is not None:
            progress(len(path) - 1, max_iter, path[-1])
        if settled(path, tol):
            return W, psi, path, True
        if len(path) > max_iter:
            break
        W, _, mean_square = linear_gaussian.m_step(stats)
        psi = likelihood.psi(likelihood.m_step(mean_square, lower), like=W)
    return W, psi, path, False
