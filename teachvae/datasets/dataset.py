"""A data set, what is known of it, and what can be done to one."""

from dataclasses import dataclass, replace
import math

import numpy as np

from ..doors.validate import check_size, generator
from ..networks.layers import Linear, Sequential


@dataclass(frozen=True, eq=False)
class Truth:
    """The model that generated a data set, p(z) = N(0, I), p(x|z) = N(x; f(z), Ψ), and its z.

    decoder  the layer f, from K to D numbers
    params   the decoder's parameters
    psi      the noise variances, the diagonal of Ψ, (D,)
    z        the latent variables of every data case, (N, K)
    """

    decoder: object
    params: object
    psi: np.ndarray
    z: np.ndarray

    @property
    def n_latent(self):
        """K."""
        return self.z.shape[1]

    @property
    def theta(self):
        """The parameters of a model with this decoder and a Gaussian likelihood with diagonal Ψ."""
        return {"decoder": self.params, "likelihood": {"log_psi": np.log(self.psi)}}


@dataclass(frozen=True, eq=False)
class Dataset:
    """Data x and what is known about it.

    x            (N, D), float64: a data case is a row. Finite, but for NaN where `missing` lets it stand
    name         a short name, for a title or a table
    note         one or two sentences: what was done to the data
    source       where it comes from: a citation, a path, or the call that generated it
    labels       (N,): a class per data case, for colouring; no method learns from it. Or None
    columns      the D variables' names, or None
    image_shape  (h, w) where a row is an image, its rows one after the other, h·w = D. Or None
    levels       the number of grey levels where x is dequantised pixel data on [0, 1):
                 a density of x is then worth `bits_per_dimension`. Or None
    range        (low, high), the interval to which x is meant to be scaled, or None
    truth        the `Truth` where the data was generated, or None
    missing      whether NaN stands for entries that were not observed; else it is refused
    rows         what messages call the rows, (N,): lines of a file, counted from 1. Or None: 0 … N − 1
    ink          of images, whether the greatest value is black, ink on paper, and not white

    Raises ValueError where these do not fit together or x is not finite.
    """

    x: np.ndarray
    name: str
    note: str
    source: str
    labels: np.ndarray | None = None
    columns: tuple | None = None
    image_shape: tuple | None = None
    levels: int | None = None
    range: tuple | None = None
    truth: Truth | None = None
    missing: bool = False
    rows: np.ndarray | None = None
    ink: bool = False

    def __post_init__(self):
        x = self.x
        if not isinstance(x, np.ndarray) or x.ndim != 2 or x.dtype != np.float64 or x.size == 0:
            raise ValueError(
                f"{self.source}: x must be a float64 array (N, D) with N, D >= 1, got "
                f"{getattr(x, 'dtype', type(x).__name__)} {getattr(x, 'shape', '')}"
            )
        bad = np.isinf(x) if self.missing else ~np.isfinite(x)
        if bad.any():
            n, d = np.argwhere(bad)[0]
            raise ValueError(
                f"{self.source}: x holds {x[n, d]} in row {n}, column {d} (counted from 0); expected "
                "finite numbers only: drop such rows, or fill them in, before making a data set; or say that "
                "NaN stands for missing entries, Dataset(…, missing=True), load(…, missing_values=[]), or "
                "--missing to teachvae"
            )
        N, D = x.shape
        sizes = [("labels", self.labels, N), ("columns", self.columns, D), ("rows", self.rows, N)]
        if self.truth is not None:
            sizes += [("truth.z", self.truth.z, N), ("truth.psi", self.truth.psi, D)]
        for what, values, expected in sizes:
            if values is not None and len(values) != expected:
                raise ValueError(
                    f"{self.source}: x is {N} × {D}, so {what} must have {expected} entries, "
                    f"got {len(values)}"
                )
        if self.image_shape is not None and math.prod(self.image_shape) != D:
            raise ValueError(f"{self.source}: image_shape {self.image_shape} does not give {D} pixels")

    @property
    def row_names(self):
        """What messages call the rows, (N,)."""
        return np.arange(len(self.x)) if self.rows is None else self.rows


# ---- changing a data set ---------------------------------------------------------------------


def split(dataset, held_out=0.2, *, seed=0):
    """(train, test): the rows shuffled once by `seed`, the first round(held_out · N) of them held out.

    held_out is a fraction of the data cases. labels, truth.z and the rows' names go along. Raises
    ValueError where fewer than 2 rows would be left to train on or none would be held out.
    """
    N = dataset.x.shape[0]
    n_test = round(held_out * N) if 0 < held_out < 1 else 0
    if n_test < 1 or N - n_test < 2:
        raise ValueError(
            f"held_out must be a fraction between 0 and 1 that leaves at least 1 of the {N} data cases "
            f"to test on and 2 to train on, got {held_out!r}"
        )
    order = generator(seed, "seed").permutation(N)
    return (
        _rows(dataset, order[n_test:], f"Training part, {N - n_test} of {N} cases."),
        _rows(dataset, order[:n_test], f"Held-out part, {n_test} of {N} cases."),
    )


def first(dataset, n_cases):
    """The data set's first n_cases rows. Raises ValueError where it has fewer."""
    check_size("n_cases", n_cases)
    N = len(dataset.x)
    if n_cases > N:
        raise ValueError(f"{dataset.name} has {N} data cases, {n_cases} were asked for: ask for no more")
    return dataset if n_cases == N else _rows(dataset, np.arange(n_cases), f"The first {n_cases} cases.")


def _rows(dataset, rows, remark):
    truth = dataset.truth
    return replace(
        dataset,
        x=dataset.x[rows],
        labels=None if dataset.labels is None else dataset.labels[rows],
        rows=dataset.row_names[rows],
        truth=None if truth is None else replace(truth, z=truth.z[rows]),
        note=f"{dataset.note} {remark}",
    )


def to_unit_interval(dataset, *, limits=None):
    """The data set with x replaced by (x − low)/(high − low), one low and one high for all columns.

    limits is (low, high), or None for the least and the greatest number in x; a data set whose range
    is (0, 1) already is returned as it is. Scale before you split, or hand the test part the limits
    of the training part: else the two differ in scale. With limits, x may reach outside [0, 1]. One
    scale for all, so noise of one size means the same in every column. truth is scaled along, by
    one more linear layer. levels is dropped: the density is another.

    Raises ValueError where all of x is one number, or not low < high.
    """
    if limits is None and dataset.range == (0.0, 1.0):
        return dataset
    low, high = (np.nanmin(dataset.x), np.nanmax(dataset.x)) if limits is None else limits
    low, high = float(low), float(high)
    span = high - low
    if limits is None and span == 0:
        raise ValueError(
            f"{dataset.source}: every entry of x is {low:g}; expected at least two different numbers, for "
            "data of one number cannot be scaled to [0, 1]: leave it as it is, or hand over limits"
        )
    if not 0 < span < math.inf:
        raise ValueError(f"limits must be (low, high) with low < high, both finite, got ({low:g}, {high:g})")
    truth = dataset.truth
    if truth is not None:
        D = dataset.x.shape[1]
        scale = {"W": np.eye(D) / span, "b": np.full(D, -low / span)}
        truth = replace(
            truth,
            decoder=Sequential((truth.decoder, Linear(D, D))),
            params=[truth.params, scale],
            psi=truth.psi / span**2,
        )
    return replace(
        dataset,
        x=(dataset.x - low) / span,
        note=f"{dataset.note} Scaled to [0, 1]: (x − {low:g})/{span:g}.",
        levels=None,
        range=(0.0, 1.0),
        truth=truth,
    )
