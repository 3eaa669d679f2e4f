"""Principal components: the codes that other codes are compared with."""

import numpy as np

from ..arrays.backend import get_backend
from ..arrays.rows import as_floats, collect, extremes, mean_and_variance, slices
from ..doors.validate import check_data, check_size, weighted_rows
from .conventions import LatentCode, estimator, option


@estimator
class PrincipalComponents(LatentCode):
    """PCA: the K directions in which the data vary most, by the SVD of the centred data.

    {options}

    After fit: components_ (K, D), orthonormal rows, the largest entry of each positive; mean_ (D,);
    explained_variance_ (K,), the variances of the codes, falling, with the divisor N.
    """

    n_components: int = option(2, "K, no more than the centred data's rank")

    def fit(self, X, y=None, sample_weight=None):
        """Fit to X (N, D). Returns self. Raises ValueError where there are no K directions to find.

        sample_weight (N,) >= 0: how often each data case counts, once where None; their ratios alone matter.
        """
        X, weights = weighted_rows(X, sample_weight)
        x, names = check_data(X, minimum_rows=2)
        N, D = x.shape
        K = self.n_components
        check_size("n_components", K, 1, min(N - 1, D), f" (X has {N} data cases and {D} columns)")
        backend = get_backend("numpy", "float64")
        weights = np.ones(N) if weights is None else weights / weights.mean()
        mean, _ = mean_and_variance(x, weights)
        root = np.sqrt(weights)[:, None]
        R = np.zeros((0, D))                                       # RᵀR = (x − mean)ᵀ(x − mean)
        for rows in slices(N):
            R = np.linalg.qr(np.concatenate([R, root[rows] * (as_floats(x[rows]) - mean)]), mode="r")
        _, spread, directions = np.linalg.svd(R, full_matrices=False)          # (min(N, D), D)
        # The size of x counts too: it is what x − mean has been rounded by.
        rounding = np.finfo("float64").eps * max(N, D) * max(spread[0], np.abs(extremes(x)).max())
        rank = int(np.sum(spread > rounding))
        if rank < K:
            raise ValueError(
                f"n_components={K} directions are asked for, but X varies in {rank} only (the rank of X "
                "minus its mean): give no more than that"
            )
        components = directions[:K]
        largest = np.take_along_axis(components, np.abs(components).argmax(axis=1)[:, None], axis=1)
        self.components_ = components * np.sign(largest)           # the SVD leaves the signs open
        self.mean_, self.explained_variance_ = mean, spread[:K] ** 2 / N
        self._keep(backend, names, D)
        return self

    def transform(self, X):
        """The codes (x − mean) componentsᵀ, (N, K)."""
        self._require_fit()
        cases = self._cases(X, origin=self.mean_)
        return collect(cases.shape[0], lambda rows: cases[rows, ...] @ self.components_.T)

    def decode(self, Z):
        """z components + mean for codes Z (N, K): (N, D), of `transform(X)` the points of the plane through
        the mean along the components that are nearest to X.
        """
        z = self._latent_input(Z)
        return collect(len(z), lambda rows: z[rows] @ self.components_ + self.mean_)

    @property
    def _n_latent(self):
        """The K that was fitted, whatever n_components has been set to since."""
        return len(self.components_)

    @property
    def n_parameters_(self):
        """How many numbers were learned."""
        return self.components_.size + self.mean_.size

    def denoise(self, X, noise_variance=None):
        """The projection of noisy data, (N, D): it does not ask how noisy they are."""
        return self.reconstruct(X)
