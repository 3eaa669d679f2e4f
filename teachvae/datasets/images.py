"""Images: the digits that come along, MNIST, and folders laid out like it.

Equations (5.x) are in derivations/equations.md.
"""

from dataclasses import replace
import math
import os
from pathlib import Path

import numpy as np

from ..doors.validate import check_size, generator
from . import readers
from .dataset import Dataset


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
    with np.load(Path(__file__).parent / "digits.npz", allow_pickle=False) as arrays:
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
        check_size("n_cases", n_cases)
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
