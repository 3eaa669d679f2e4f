"""Data to learn from: a set that comes along, sets whose truth is known, and files of your own.

    digits()            1797 handwritten digits, 8 × 8 pixels                 (1797, 64)
    linear_gaussian()   factor analysis is true of it: x = z W + b + ψ^½ ε    (1000, 10), K = 3
    spiral()            a curve in the plane, with noise                      (1000, 2),  K = 1
    bent_sheet()        a sheet bent around a cylinder, with noise            (1000, 3),  K = 2
    mnist()             70000 handwritten digits, 28 × 28 pixels              (60000, 784)
    images("folder")    images in a folder of IDX files, laid out like MNIST's
    load("data.csv")    .csv, .npy or .npz, such a folder, and by name each of the above

Each returns a `Dataset`; where we made the data, it carries the `Truth`: the decoder and the very z
that made it, so that what a fit finds can be compared with what is the case. Everything here lies on
the host in float64; a seed is what `validate.generator` takes, an integer or a numpy.random.Generator.
Equations (4.x) and (5.x) are in derivations/equations.md.
"""

from dataclasses import dataclass, replace
import math
import os
from pathlib import Path

import numpy as np

from . import readers
from .backend import get_backend, namespace
from .layers import Linear, Sequential
from .validate import generator


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


# ---- the digits ------------------------------------------------------------------------------


def digits(*, dequantise=True, threshold=None, seed=0):
    """1797 handwritten digits of 8 × 8 pixels X in 0..16, as a `Dataset` with x (1797, 64) in [0, 1].

    By default x = (X + u)/17 with u uniform on [0, 1), drawn from `seed`: counts have no density,
    and a Gaussian could fit a pixel that is always 0 with a variance that runs to 0. So spread out,
    they have one, and floor(17 x) gives the counts back.

    dequantise  False: x = X/16, for pictures and for reconstruction errors; not for densities
    threshold   an integer t in 1..16: x = 1 where X >= t and 0 elsewhere, for the Bernoulli
                likelihood; 8 is half way. `dequantise` and `seed` then have no say
    labels are the digits, 0..9. Pixels 0, 32 and 39 are 0 in every image.

    Raises ValueError for another threshold. Source: E. Alpaydin and C. Kaynak (1998), Optical
    Recognition of Handwritten Digits, UCI, doi:10.24432/C50P49, the test part; CC BY 4.0.
    """
    with np.load(Path(__file__).parent / "data" / "digits.npz", allow_pickle=False) as arrays:
        X, labels = arrays["x"].astype(np.float64), arrays["y"].astype(np.int64)
    levels = None
    if threshold is not None:
        if isinstance(threshold, bool) or threshold not in range(1, 17):
            raise ValueError(
                f"threshold must be an integer in 1..16, got {threshold!r}: pixels are counts from 0 to "
                "16, and x = 1 where the count is at least the threshold"
            )
        x = (X >= threshold).astype(np.float64)
        note = f"Pixel counts 0..16 made binary: 1 where the count is at least {threshold}."
    elif dequantise:
        levels = 17
        x = _dequantise(X, levels, seed)
        note = "Pixel counts 0..16 dequantised: x = (count + u)/17, u uniform on [0, 1)."
    else:
        x = X / 16
        note = "Pixel counts 0..16 divided by 16; discrete, so a density of x has no lower limit."
    return Dataset(
        x,
        name="digits",
        note=note,
        source="Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak (1998), UCI, "
        "doi:10.24432/C50P49, CC BY 4.0, test part",
        labels=labels,
        image_shape=(8, 8),
        levels=levels,
        range=(0.0, 1.0),
        ink=True,
    )


def _dequantise(X, levels, seed):
    """(X + u)/levels, in the memory of u: MNIST's takes 376 MB."""
    x = generator(seed, "seed").random(X.shape)
    x += X
    x /= levels
    return x


# ---- images of bytes -------------------------------------------------------------------------

MNIST_MIRRORS = (
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
)
MNIST_SHA256 = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}


def images(folder, part="train", n_cases=None, *, dequantise=True, seed=0):
    """Images of bytes X in 0..255 from a folder laid out like MNIST's, as a `Dataset` with x (N, h·w).

    By default x = (X + u)/256 with u uniform on [0, 1), as in `digits`; floor(256 x) gives X back.

    part        "train", "test", or "both": the training images first
    n_cases     the first so many rows, with the x that they have among all of them; None: all
    dequantise  False: x = X/255, the grey value, for pictures and for `binarise`; not for densities
    labels are those of the folder, or None where it has none. `readers.idx_folder` says which files it
    looks for, and what it refuses; beyond that, raises ValueError where n_cases is not an integer
    from 1 to the number of images.
    """
    folder = Path(folder)
    X, labels = readers.idx_folder(folder, part)                   # (N, h, w)
    if n_cases is not None:
        _check_sizes(n_cases=n_cases)
        if n_cases > len(X):
            raise ValueError(
                f"{folder}: n_cases = {n_cases}, but part={part!r} has {len(X)} images; ask for no more"
            )
    X = X[:n_cases]
    if dequantise:
        levels, x = 256, _dequantise(X.reshape(len(X), -1), 256, seed)
        note = "Pixel values 0..255 dequantised: x = (value + u)/256, u uniform on [0, 1)."
    else:
        levels, x = None, X.reshape(len(X), -1) / 255
        note = "Pixel values 0..255 divided by 255; discrete, so a density of x has no lower limit."
    of = {"train": "Training images", "test": "Test images", "both": "Training and test images"}[part]
    return Dataset(
        x,
        name=folder.resolve().name,
        note=f"{note} {of}.",
        source=str(folder),
        labels=None if labels is None else labels[:n_cases],
        image_shape=X.shape[1:],
        levels=levels,
        range=(0.0, 1.0),
    )


def mnist(folder=None, part="train", n_cases=None, *, dequantise=True, seed=0):
    """MNIST, 60000 training and 10000 test images of handwritten digits, 28 × 28 pixels, as a `Dataset`.

    folder  where the IDX files lie. None: the folder that the environment variable TEACHVAE_DATA names;
            without one, the four files are downloaded (11 MB, with pooch: pip install 'teachvae[data]')
            and kept in pooch's cache; later calls find them there
    The other options are those of `images`. Only what is downloaded is held against the published
    checksums: a folder may hold other images of the same layout.

    Raises what `images` and `readers.download` raise.
    """
    if folder is None:
        folder = os.environ.get("TEACHVAE_DATA")
        if folder and not Path(folder).is_dir():
            raise FileNotFoundError(
                f"the environment variable TEACHVAE_DATA names {folder}, which is no folder; expected the "
                "one with MNIST's IDX files: correct it, or unset it to download them"
            )
    if not folder:
        folder = readers.download(MNIST_SHA256, MNIST_MIRRORS)
    return replace(
        images(folder, part, n_cases, dequantise=dequantise, seed=seed),
        name="mnist",
        ink=True,
        source=f"MNIST, Y. LeCun, C. Cortes and C. J. C. Burges, read from {folder}",
    )


def binarise(x, how, rng=None):
    """Grey values made 0 and 1, for the Bernoulli likelihood, float64 of the shape of x.

    x    bytes (uint8), of which the grey value is x/255, or floats, themselves grey values in [0, 1].
         For images(…, dequantise=False).x, np.rint(255 * x).astype(np.uint8) are the bytes again
    how  "threshold"  1 where the grey value is above one half; rng has no say
         "fixed"      1 with probability the grey value, one uniform number per pixel: drawn once,
                      before training, and kept
         "fresh"      the same probability, drawn anew for every epoch or minibatch; bytes only. One
                      random integer r, uniform on 0..254, per pixel: 1 where r < x, so with probability
                      x/255 exactly. Of r on 0..255 it would be x/256, and white would turn out black
    rng  a numpy.random.Generator, or a seed for "fixed"

    Models trained on fixed and on fresh binarisation differ by nats: never compare the two.

    Raises ValueError for another `how`, for x that are no grey values, and where rng is missing.
    """
    x = np.asarray(x)
    if how not in ("fixed", "threshold", "fresh"):
        raise ValueError(f"how must be 'fixed', 'threshold' or 'fresh', got {how!r}")
    if x.dtype != np.uint8 and (x.dtype.kind != "f" or not ((x >= 0) & (x <= 1)).all()):
        span = f", from {x.min():g} to {x.max():g}" if x.dtype.kind in "iuf" and x.size else ""
        raise ValueError(
            f"x is {x.dtype}{span}; expected grey values: bytes (uint8, 0 to 255), or finite floats from 0 "
            "to 1: scale it first"
        )
    if how == "threshold":
        return (x > 127 if x.dtype == np.uint8 else x > 0.5).astype(np.float64)
    if how == "fresh":
        if x.dtype != np.uint8 or not isinstance(rng, np.random.Generator):
            raise ValueError(
                f"how='fresh' got x of {x.dtype} and rng {type(rng).__name__}; expected uint8 and a "
                "numpy.random.Generator, since a seed would draw the same pixels in every epoch: hand over "
                "the bytes, and one generator for the whole training"
            )
        return (rng.integers(0, 255, x.shape, dtype=np.uint8) < x).astype(np.float64)
    if rng is None:
        raise ValueError(
            "how='fixed' got no rng; expected a seed or a numpy.random.Generator, so that the draw can be "
            "repeated"
        )
    grey = x / 255 if x.dtype == np.uint8 else x
    return (generator(rng, "rng").random(x.shape) < grey).astype(np.float64)


def binarised(dataset, how, rng=None):
    """A `Dataset` of grey values in [0, 1] made 0 and 1: "threshold" or "fixed", as in `binarise`."""
    words = {"threshold": "1 where the grey value is above one half",
             "fixed": "1 with probability the grey value, drawn once"}
    x = binarise(dataset.x, how, rng)
    return replace(dataset, x=x, note=f"{dataset.note} Made binary: {words[how]}.", levels=None)


# ---- nats and bits ---------------------------------------------------------------------------


def bits_per_dimension(nats, n_visible, levels):
    """A bound on the bits per pixel of the integers X, from Q or nlml of x = (X + u)/levels   (5.10).

        bits = (nats/D + log levels) / log 2

    The density of X + u is that of x divided by levels^D, by the Jacobian of the scaling: hence the
    log. And P(X) = ∫ p(X + u) du over the unit cube, so by Jensen's inequality −log P(X) is at most
    the mean over u of −log p(X + u): hence a bound. The uniform density on [0, 1)^D has 0 nats and
    costs log2(levels) bits.

    nats       a number or an array: Q or nlml per data case, all D variables together
    n_visible  D
    levels     the number of grey levels; 1 where x is binary, for a probability only changes its unit

    Raises ValueError where n_visible or levels is below 1. Returns what `nats` is, in bits.
    """
    if n_visible < 1 or levels < 1:
        raise ValueError(f"n_visible and levels must be >= 1, got {n_visible} and {levels}")
    return (nats / n_visible + math.log(levels)) / math.log(2)


# ---- data whose truth is known ---------------------------------------------------------------


@dataclass(frozen=True)
class Spiral:
    """A logarithmic spiral: f(z) = e^{αz} (cos ωz, sin ωz). No parameters; the cache is f.

    It never crosses itself, and |f'(z)| grows with z: equal steps in z are short ones near the middle.
    """

    alpha: float = 0.4
    omega: float = 2.0
    n_in = 1
    n_out = 2

    def init(self, rng, backend):
        return {}

    def forward(self, params, z):
        xp = namespace(z)
        angle = self.omega * z                                     # (R, 1)
        direction = xp.concat([xp.cos(angle), xp.sin(angle)], axis=1)
        f = xp.exp(self.alpha * z) * direction                     # (R, 2)               (4.17)
        return f, f

    def backward(self, params, cache, df, *, need_dx=True, need_dparams=True):
        f1, f2 = cache[:, :1], cache[:, 1:]
        df1, df2 = df[:, :1], df[:, 1:]
        a, w = self.alpha, self.omega
        return (a * f1 - w * f2) * df1 + (a * f2 + w * f1) * df2, {}  # (R, 1)            (4.18)


@dataclass(frozen=True)
class BentSheet:
    """A sheet bent around a cylinder: f(z) = (r sin(z1/r), z2, r (1 − cos(z1/r))), r the radius.

    Bending does not stretch: lengths on the sheet are lengths in z. No parameters; the cache is
    cos(z1/r) and sin(z1/r). The edges meet at |z1| = πr.
    """

    radius: float = 1.5
    n_in = 2
    n_out = 3

    def init(self, rng, backend):
        return {}

    def forward(self, params, z):
        xp = namespace(z)
        r = self.radius
        angle = z[:, :1] / r
        cos, sin = xp.cos(angle), xp.sin(angle)                    # (R, 1)
        f = xp.concat([r * sin, z[:, 1:], r * (1 - cos)], axis=1)  # (R, 3)               (4.19)
        return f, (cos, sin)

    def backward(self, params, cache, df, *, need_dx=True, need_dparams=True):
        xp = namespace(df)
        cos, sin = cache
        dz1 = cos * df[:, :1] + sin * df[:, 2:]                    # (R, 1)               (4.20)
        return xp.concat([dz1, df[:, 1:2]], axis=1), {}            # (R, 2)


def linear_gaussian(*, n_cases=1000, n_visible=10, n_latent=3, seed=0):
    """Data of which factor analysis is true: x = z W + b + ψ^½ ε, as a `Dataset` with x (N, D).

    z (N, K) and ε (N, D) are standard normal, b (D,) too, and ψ (D,) is uniform on [0.2, 1]. The
    loadings W (K, D) have W Ψ⁻¹ Wᵀ = D diag(4 … 1), falling by equal factors: no factor can be
    taken for another, W is already in the canonical rotation, and no variable is free of noise. For
    one seed, W, b and ψ do not depend on n_cases. labels: the quartile of z_1, 0..3.

    Raises ValueError where a size is not an integer >= 1 or K > D.
    """
    _check_sizes(n_cases=n_cases, n_visible=n_visible, n_latent=n_latent)
    if n_latent > n_visible:
        raise ValueError(f"n_latent must be <= n_visible, got {n_latent} and {n_visible}")
    rng = generator(seed, "seed")
    psi = rng.uniform(0.2, 1.0, n_visible)                         # (D,)
    directions = np.linalg.qr(rng.standard_normal((n_visible, n_latent))).Q.T  # (K, D), orthonormal
    signal = np.geomspace(4, 1, n_latent)[:, None]                 # (K, 1), per variable, noise = 1
    W = np.sqrt(n_visible * signal) * directions * np.sqrt(psi)    # (K, D)
    b = rng.standard_normal(n_visible)
    return _generate(
        Linear(n_latent, n_visible),
        {"W": W, "b": b},
        psi,
        n_cases,
        rng,
        name="linear",
        call=f"linear_gaussian(n_cases={n_cases}, n_visible={n_visible}, n_latent={n_latent}, seed={seed})",
    )


def spiral(*, n_cases=1000, noise=0.05**2, seed=0, alpha=0.4, omega=2.0):
    """A curve in the plane with noise: x = f(z) + √noise ε, f the `Spiral`, z (N, 1), x (N, 2).

    noise is a variance, the same for both variables. labels: the quartile of z, 0..3, from the
    middle outwards. Raises ValueError where n_cases is not an integer >= 1 or noise not > 0.
    """
    call = f"spiral(n_cases={n_cases}, noise={noise:g}, seed={seed}, alpha={alpha}, omega={omega})"
    return _on_a_surface(Spiral(alpha, omega), n_cases, noise, seed, "spiral", call)


def bent_sheet(*, n_cases=1000, noise=0.05**2, seed=0, radius=1.5):
    """A bent sheet in space with noise: x = f(z) + √noise ε, f the `BentSheet`, z (N, 2), x (N, 3).

    noise is a variance, the same for all three variables. labels: the quartile of z_1, which runs
    around the bend, 0..3. Raises ValueError where n_cases is not an integer >= 1 or noise or radius
    not > 0.
    """
    _check_positive(radius=radius)
    call = f"bent_sheet(n_cases={n_cases}, noise={noise:g}, seed={seed}, radius={radius})"
    return _on_a_surface(BentSheet(radius), n_cases, noise, seed, "bent_sheet", call)


def _on_a_surface(decoder, n_cases, noise, seed, name, call):
    _check_sizes(n_cases=n_cases)
    _check_positive(noise=noise)
    psi = np.full(decoder.n_out, float(noise))
    return _generate(decoder, {}, psi, n_cases, generator(seed, "seed"), name=name, call=call)


def _generate(decoder, params, psi, n_cases, rng, *, name, call):
    """The data set of N draws z ~ N(0, I), x ~ N(f(z), Ψ)."""
    backend = get_backend()
    z = backend.normal(rng, (n_cases, decoder.n_in))               # (N, K)
    f, _ = decoder.forward(params, z)                              # (N, D)
    x = f + np.sqrt(psi) * backend.normal(rng, f.shape)
    quartile = np.searchsorted(np.quantile(z[:, 0], [0.25, 0.5, 0.75]), z[:, 0])
    return Dataset(
        x,
        name=name,
        note="Generated; labels are the quartile of z_1, 0 the lowest.",
        source=f"teachvae.datasets.{call}",
        labels=quartile,
        truth=Truth(decoder, params, psi, z),
    )


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
    _check_sizes(n_cases=n_cases)
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


# ---- by name, or from a file -----------------------------------------------------------------

DATASETS = {
    "digits": digits,
    "mnist": mnist,
    "linear": linear_gaussian,
    "spiral": spiral,
    "bent_sheet": bent_sheet,
}


def load(name_or_path, **options):
    """The `Dataset` of this name, made with `options`, or read from this file or folder.

    names   those of DATASETS: "digits", "mnist", "linear", "spiral", "bent_sheet"; options go to its function
    .csv    numbers separated by commas, semicolons or tabs, a data case per line, with decimal points or
            commas. A first line of different words, none a number, is taken for the columns' names; one
            that counts 0, 1, 2, … too, where a column below is written otherwise; and a first column of
            different whole numbers without a name, beside others that have one, for numbers of the rows,
            which are set aside. Options:
              header     True or False: whether the first line holds names
              separator  "," or ";" or "\\t";  decimal  "." or ","
    .npy    an array of numbers (N, D), or images (N, h, w), which become rows of h·w pixels
    .npz    one such array of any name; or x, such an array, and y, labels (N,)
    folder  IDX files laid out like MNIST's; options go to `images`. "./mnist" is a folder, "mnist" a name

    Files have one option more, missing_values: codes, numbers or words, that stand for missing entries and
    become NaN, as do an empty cell, NA, N/A, NaN, null, None, ?, . and - where it is given, also as []. A
    number that looks like such a code and is not named is warned of.

    The numbers of a file are taken as they are, unscaled; those of a folder are dequantised, as `images`
    says. `note` says what in a file was taken for what; where it may mean two things, it is refused.
    Raises FileNotFoundError where there is no such file, and ValueError for an unknown name or suffix, a
    file above 1 GiB, and whatever in it is not a finite number (the message names row and column) or has
    another shape. Pickled objects are refused.
    """
    of_files = sorted(FILE_OPTIONS[".csv"] & set(options))
    if of_files and (name_or_path in DATASETS or Path(name_or_path).is_dir()):
        raise ValueError(
            f"options {of_files} were given with {str(name_or_path)!r}; expected them with a file, ending in "
            f"{_either(readers.READERS)}: leave them out"
        )
    if name_or_path in DATASETS:
        return DATASETS[name_or_path](**options)
    path = Path(name_or_path)
    suffixes = _either(readers.READERS)
    if path.suffix == "" and not path.exists():
        raise ValueError(
            f"unknown data set {str(name_or_path)!r}; expected one of {sorted(DATASETS)}, or the path of a "
            f"file that ends in {suffixes}, or of a folder of IDX files"
        )
    if path.is_dir():
        return images(path, **options)
    if path.suffix.lower() not in readers.READERS:
        raise ValueError(
            f"{path}: cannot read a file that ends in {path.suffix!r}; expected {suffixes}, or a folder of "
            "IDX files: save the data with numpy.save(path, x), or as comma separated text; of IDX files, "
            "give their folder"
        )
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file (looked from {Path.cwd()}); check the path, or give one of the names "
            f"{sorted(DATASETS)}"
        )
    suffix = path.suffix.lower()
    unknown = sorted(set(options) - FILE_OPTIONS[suffix])
    if unknown:
        raise ValueError(
            f"{path}: options {unknown} were given, but a {suffix} file takes only "
            f"{sorted(FILE_OPTIONS[suffix])}: leave them out"
        )
    return Dataset(**readers.READERS[suffix](path, **options))


FILE_OPTIONS = {
    ".csv": {"header", "separator", "decimal", "missing_values"},
    ".npy": {"missing_values"},
    ".npz": {"missing_values"},
}


def _either(words):
    *first, last = words
    return f"{', '.join(first)} or {last}"


def _check_sizes(**sizes):
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < 1:
            raise ValueError(f"{name} must be an integer >= 1, got {size!r}")


def _check_positive(**numbers):
    for name, number in numbers.items():
        if not 0 < number < math.inf:
            raise ValueError(f"{name} must be a finite number > 0, got {number!r}")
