"""What a representation is good for on held-out data: reconstruction, denoising, imputation, labels.

Every task is the same for all models: the same noise, the same hidden cells, the same probe. Errors are
root mean squares on data scaled to a range of 1; of categories, whose numbers are but names, the share of
those that are wrong.
"""

from dataclasses import dataclass

import numpy as np

from .probe import LinearProbe

NOISE = 0.2  # standard deviation of the noise to be taken out again, on data scaled to [0, 1]
HIDDEN = 0.2  # share of the held-out cells that are hidden, to be imputed


@dataclass(frozen=True, eq=False)
class Tasks:
    """The tasks of one split.

    train, held_out      (N, D) data, NaN where nothing was observed; labels of each, (N,) or None
    span                 the width of the data's range
    noisy                held-out data with noise N(0, noise_variance·I), or None for data that has none
    hidden               (N, D) bool, the observed cells of held-out data that are to be imputed
    categories           whether the data are categories
    """

    train: np.ndarray
    held_out: np.ndarray
    train_labels: np.ndarray | None
    labels: np.ndarray | None
    span: float
    noisy: np.ndarray | None
    hidden: np.ndarray
    categories: bool = False

    @property
    def noise_variance(self):
        """That of the noise to be taken out."""
        return (NOISE * self.span) ** 2

    @property
    def incomplete(self):
        """Held-out data with NaN in the hidden cells."""
        return np.where(self.hidden, np.nan, self.held_out)

    def error(self, x, cells=slice(None)):
        """The root mean squared error of x (N, D) in those of the cells asked for that were observed; of
        categories the share of those that x has wrong.
        """
        if self.categories:
            seen = ~np.isnan(self.held_out[cells])
            return float(np.mean(x[cells][seen] != self.held_out[cells][seen]))
        return float(np.sqrt(np.nanmean((x - self.held_out)[cells] ** 2, dtype="float64"))) / self.span

    def measure(self, estimator, z_train, z):
        """{task: number or None where the model cannot do it}, from its codes of both parts (N, K)."""
        likelihood = estimator.model_.likelihood if hasattr(estimator, "model_") else None
        can_denoise = hasattr(estimator, "denoise") and (likelihood is None or hasattr(likelihood, "noisier"))
        denoising = imputation = None
        if can_denoise and self.noisy is not None:
            denoising = self.error(self.denoised(estimator))
        if hasattr(estimator, "impute") and self.hidden.any():
            imputation = self.error(estimator.impute(self.incomplete), self.hidden)
        return {
            "reconstruction": self.error(estimator.decode(z)),
            "denoising": denoising,
            "imputation": imputation,
            "probe": self.probe(z_train, z),
        }

    def denoised(self, estimator, rows=slice(None)):
        """What a model makes of noisy data."""
        return estimator.denoise(self.noisy[rows], self.noise_variance)

    def probe(self, z_train, z):
        """The held-out accuracy of a linear probe on codes (N, K), or None where there are no labels."""
        if self.labels is None or len(np.unique(self.train_labels)) < 2:
            return None
        return LinearProbe().fit(z_train, self.train_labels).score(z, self.labels)

    def without_a_model(self):
        """The same numbers where nothing is learned: the columns' means, of categories the most frequent
        ones, for reconstruction and imputation, the noisy data as they are, and a probe on the data
        themselves, with those means for missing entries, categories as one-hot columns.
        """
        typical = [_most_frequent(column) for column in self.train.T] if self.categories else (
            np.nanmean(self.train, axis=0, dtype="float64")
        )
        guess = np.broadcast_to(typical, self.held_out.shape)
        whole = [np.where(np.isnan(x), guess[0], x) for x in (self.train, self.held_out)]
        if self.categories:
            levels = [np.unique(column) for column in whole[0].T]
            whole = [
                np.concatenate([(x[:, [d]] == own).astype(float) for d, own in enumerate(levels)], axis=1)
                for x in whole
            ]
        return {
            "reconstruction": self.error(guess),
            "denoising": None if self.noisy is None else self.error(self.noisy),
            "imputation": self.error(guess, self.hidden) if self.hidden.any() else None,
            "probe": self.probe(*whole),
        }


def _most_frequent(column):
    values, counts = np.unique(column[~np.isnan(column)], return_counts=True)
    return values[counts.argmax()]


def make(train, held_out, seed, noise=True, categories=False):
    """The `Tasks` of two `Dataset`s; noise False where noise cannot be added to such data, categories True
    where they are such.
    """
    low, high = held_out.range or (float(np.nanmin(train.x)), float(np.nanmax(train.x)))
    span = high - low
    noise_rng, hidden_rng = np.random.default_rng([seed, 1]), np.random.default_rng([seed, 2])
    noisy = held_out.x + NOISE * span * noise_rng.standard_normal(held_out.x.shape) if noise else None
    hidden = (hidden_rng.random(held_out.x.shape) < HIDDEN) & ~np.isnan(held_out.x)
    return Tasks(train.x, held_out.x, train.labels, held_out.labels, span, noisy, hidden, categories)
