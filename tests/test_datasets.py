"""Tests of the data sets: the digits are the published ones, generated sets obey their own truth, images
are read and made binary as said, and splits and scales lose nothing."""

from dataclasses import replace
import hashlib
from importlib import resources
import math
import os
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from teachvae import datasets
from teachvae.arrays.backend import get_backend
from teachvae.datasets import images
from teachvae.networks.layers import Linear

def write_idx(path, array, dtype=">u1", code=8):
    """An IDX file, written without the reader: magic, sizes, numbers, all big-endian."""
    header = bytes([0, 0, code, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    path.write_bytes(header + array.astype(dtype).tobytes())


def write_folder(folder):
    """30 training and 20 test images of 4 × 3 pixels, no two files alike, and their labels."""
    rng = np.random.default_rng(1)
    X, y = {}, {}
    for part, start, N in (("train", "train", 30), ("test", "t10k", 20)):
        X[part], y[part] = rng.integers(0, 256, (N, 4, 3)), rng.integers(0, 10, N)
        X[part][0, 0] = 0, 255, 128
        write_idx(folder / f"{start}-images-idx3-ubyte", X[part])
        write_idx(folder / f"{start}-labels-idx1-ubyte", y[part])
    return X, y


GENERATED = {
    "linear": (datasets.linear_gaussian, 10, 3),
    "spiral": (datasets.spiral, 2, 1),
    "bent_sheet": (datasets.bent_sheet, 3, 2),
}
ALONE = [name for name in datasets.DATASETS if name != "mnist"]  # those that need no file
# Seeds are fixed, so these bounds never fail by chance; they say how unlikely a fair draw beyond them is.
RARE = 1e-4


def assert_noise_is(residual, psi):
    """residual (N, D) ~ N(0, diag psi): per column, the sum of squares lies where χ²_N does."""
    N = len(residual)
    chi2 = (residual**2 / psi).sum(axis=0)
    assert chi2.shape == psi.shape
    assert (chi2 > stats.chi2.ppf(RARE, N)).all() and (chi2 < stats.chi2.isf(RARE, N)).all()
    assert (np.abs(residual.mean(axis=0)) < 5 * np.sqrt(psi / N)).all()


# ---- the digits ------------------------------------------------------------------------------


def digits_file():
    with (resources.files("teachvae") / "datasets" / "digits.npz").open("rb") as file:
        with np.load(file, allow_pickle=False) as arrays:
            return arrays["x"], arrays["y"]


def test_digits_file_is_scikit_learns():
    load_digits = pytest.importorskip("sklearn.datasets").load_digits
    theirs = load_digits()
    x, y = digits_file()
    assert x.dtype == np.uint8 and y.dtype == np.uint8
    assert x.shape == (1797, 64) and y.shape == (1797,)
    np.testing.assert_array_equal(x, theirs.data)
    np.testing.assert_array_equal(y, theirs.target)


def test_digits_provenance_is_stated():
    readme = (resources.files("teachvae") / "datasets" / "digits.md").read_text(encoding="utf-8")
    for fact in ("E. Alpaydin", "C. Kaynak", "1998", "CC BY 4.0", "10.24432/C50P49", "1797", "32 × 32"):
        assert fact in readme, fact
    for fact in ("Alpaydin", "Kaynak", "CC BY 4.0", "10.24432/C50P49"):
        assert fact in datasets.digits().source, fact


def test_digits_dequantised():
    X, y = digits_file()
    data = datasets.digits()
    assert data.x.dtype == np.float64 and data.x.shape == (1797, 64)
    assert data.levels == 17 and data.range == (0.0, 1.0) and data.image_shape == (8, 8)
    assert data.x.min() >= 0 and data.x.max() < 1
    np.testing.assert_array_equal(np.floor(17 * data.x), X)
    np.testing.assert_array_equal(data.labels, y)
    u = 17 * data.x - X
    assert abs(u.mean() - 0.5) < 5 * math.sqrt(1 / 12 / u.size)
    # The mean stays where it was, half a level up, for every grey level: u does not depend on X.
    for level in range(17):
        part = u[X == level]
        assert stats.kstest(part, "uniform").pvalue > RARE, level
    assert (data.x.std(axis=0) > 0).all()  # also pixels 0, 32 and 39, which are 0 in every image


def test_digits_undequantised_and_binary():
    X, _ = digits_file()
    grey = datasets.digits(dequantise=False)
    np.testing.assert_array_equal(grey.x, X / 16)
    assert grey.levels is None and grey.range == (0.0, 1.0)
    binary = datasets.digits(threshold=8)
    np.testing.assert_array_equal(binary.x, np.where(X >= 8, 1.0, 0.0))
    assert (X == 8).any() and binary.levels is None and "8" in binary.note


@pytest.mark.parametrize("threshold", [0, 17, 8.5, True, "8"])
def test_digits_refuse_a_threshold_that_leaves_one_class(threshold):
    with pytest.raises(ValueError, match=r"threshold must be an integer in 1\.\.16, got .*x = 1 where"):
        datasets.digits(threshold=threshold)


def test_digits_labels_cannot_wrap_around():
    # uint8 labels would: 0 − 1 = 255.
    assert (datasets.digits().labels - 1).min() == -1


def test_bits_per_dimension_by_hand():
    # The uniform density on [0, 1)^D: 0 nats, and 17 equally likely levels cost log2(17) bits each.
    assert datasets.bits_per_dimension(0.0, 64, 17) == pytest.approx(math.log2(17), rel=1e-15)
    # 256 levels, D = 2, density 4 on a quarter of the square: −log 4 nats save 2 bits over 2 pixels.
    assert datasets.bits_per_dimension(-math.log(4), 2, 256) == pytest.approx(8 - 1, rel=1e-15)
    # D fair coins: D log 2 nats, 1 bit each.
    assert datasets.bits_per_dimension(5 * math.log(2), 5, 1) == pytest.approx(1, rel=1e-15)
    several = datasets.bits_per_dimension(np.array([0.0, 64 * math.log(2)]), 64, 16)
    np.testing.assert_allclose(several, [4, 5], rtol=1e-15)


def test_bits_per_dimension_bounds_the_code_length():
    # One pixel, 4 levels, density p(x) = 2x on [0, 1): P(X) is an area, known without the formula.
    X = np.arange(4)
    P = ((X + 1) ** 2 - X**2) / 16
    assert P.sum() == 1
    u = (np.arange(10_000) + 0.5) / 10_000
    nats = -np.log(2 * (X[:, None] + u) / 4).mean(axis=1)
    bits = datasets.bits_per_dimension(nats, 1, 4)
    assert (bits > -np.log2(P)).all()
    assert bits[3] + np.log2(P[3]) < 0.02  # nearly flat within the last level: nearly no loss


@pytest.mark.parametrize("n_visible, levels", [(0, 17), (64, 0)])
def test_bits_per_dimension_refuses(n_visible, levels):
    with pytest.raises(ValueError, match=rf"must be >= 1, got {n_visible} and {levels}"):
        datasets.bits_per_dimension(0.0, n_visible, levels)


# ---- data whose truth is known ---------------------------------------------------------------


@pytest.mark.parametrize("name", GENERATED)
def test_truth_made_the_data(name):
    make, D, K = GENERATED[name]
    data = make(n_cases=4000, seed=3)
    truth = data.truth
    assert data.x.shape == (4000, D) and truth.z.shape == (4000, K) and truth.psi.shape == (D,)
    assert truth.n_latent == K == truth.decoder.n_in and truth.decoder.n_out == D
    assert_noise_is(truth.z, np.ones(K))
    f, _ = truth.decoder.forward(truth.params, truth.z)
    assert_noise_is(data.x - f, truth.psi)
    np.testing.assert_allclose(np.exp(truth.theta["likelihood"]["log_psi"]), truth.psi, rtol=1e-14)
    assert truth.theta["decoder"] is truth.params


@pytest.mark.parametrize("name", ["spiral", "bent_sheet"])
def test_noise_is_a_variance(name):
    data = GENERATED[name][0](n_cases=4000, noise=0.09)
    np.testing.assert_array_equal(data.truth.psi, 0.09)
    f, _ = data.truth.decoder.forward({}, data.truth.z)
    assert_noise_is(data.x - f, data.truth.psi)


@pytest.mark.parametrize("name", GENERATED)
def test_labels_are_quartiles(name):
    data = GENERATED[name][0](n_cases=1000)
    np.testing.assert_array_equal(np.bincount(data.labels), [250] * 4)
    z = data.truth.z[:, 0]
    for low in range(3):
        assert z[data.labels == low].max() < z[data.labels == low + 1].min()


def test_linear_covariance():
    data = datasets.linear_gaussian(n_cases=20_000, seed=1)
    W, b, psi = data.truth.params["W"], data.truth.params["b"], data.truth.psi
    N, K = data.truth.z.shape
    C = W.T @ W + np.diag(psi)
    sample = np.cov(data.x.T, bias=True)
    standard_error = np.sqrt((C**2 + np.outer(np.diag(C), np.diag(C))) / N)
    assert (np.abs(sample - C) < 5 * standard_error).all()
    assert (np.abs(data.x.mean(axis=0) - b) < 5 * np.sqrt(np.diag(C) / N)).all()
    # What keeps Heywood cases and exchangeable factors away.
    assert (psi >= 0.2).all() and (psi <= 1).all() and np.ptp(psi) > 0.1
    assert 0.3 < np.sqrt((W**2).mean(axis=1)).min() and np.abs(W).max() < 4
    np.testing.assert_allclose((W / psi) @ W.T, 10 * np.diag([4, 2, 1]), atol=1e-12)


def test_linear_truth_does_not_depend_on_the_number_of_cases():
    few, many = [datasets.linear_gaussian(n_cases=n, seed=7).truth for n in (10, 500)]
    np.testing.assert_array_equal(few.params["W"], many.params["W"])
    np.testing.assert_array_equal(few.params["b"], many.params["b"])
    np.testing.assert_array_equal(few.psi, many.psi)


def test_spiral_by_hand():
    z = np.array([[0.0], [math.pi / 4], [-math.pi / 2]])
    f, _ = datasets.Spiral(alpha=0.5, omega=2.0).forward({}, z)
    expected = [[1, 0], [0, math.exp(math.pi / 8)], [-math.exp(-math.pi / 4), 0]]
    np.testing.assert_allclose(f, expected, atol=1e-15)


def test_bent_sheet_by_hand():
    z = np.array([[0.0, 5.0], [math.pi, -1.0], [-2 * math.pi, 0.5]])
    f, _ = datasets.BentSheet(radius=2.0).forward({}, z)
    np.testing.assert_allclose(f, [[0, 5, 0], [2, -1, 2], [0, 0.5, 4]], atol=1e-15)
    # Every point lies on the cylinder of radius 2 about the axis (0, ·, 2).
    z = np.random.default_rng(0).standard_normal((50, 2))
    f, _ = datasets.BentSheet(radius=2.0).forward({}, z)
    np.testing.assert_allclose(np.hypot(f[:, 0], f[:, 2] - 2), 2, rtol=1e-14)


@pytest.mark.parametrize("layer", [datasets.Spiral(0.4, 2.0), datasets.Spiral(-0.3, 1.1),
                                   datasets.BentSheet(1.5), datasets.BentSheet(0.7)])
def test_backward_at_every_index(layer):
    rng = np.random.default_rng(0)
    z = rng.standard_normal((7, layer.n_in))
    dy = rng.standard_normal((7, layer.n_out))
    y, cache = layer.forward({}, z)
    assert y.shape == (7, layer.n_out)
    dz, dparams = layer.backward({}, cache, dy)
    assert dz.shape == z.shape and dparams == {}

    numeric = np.empty_like(z)
    for index in np.ndindex(z.shape):
        h = 1e-5 * max(1, abs(z[index]))
        up, down = z.copy(), z.copy()
        up[index] += h
        down[index] -= h
        y_up, y_down = layer.forward({}, up)[0], layer.forward({}, down)[0]
        numeric[index] = (dy * (y_up - y_down)).sum() / (up[index] - down[index])
    scale = np.maximum(np.abs(dz), np.abs(numeric))
    scale = np.maximum(scale, 1e-2 * scale.max())
    assert scale.max() > 0
    assert (np.abs(dz - numeric) / scale).max() < 1e-7


@pytest.mark.parametrize("layer", [datasets.Spiral(), datasets.BentSheet()])
def test_layers_on_another_library_and_dtype(layer):
    strict = pytest.importorskip("array_api_strict")
    assert layer.init(np.random.default_rng(0), get_backend()) == {}
    device = strict.Device("device1")
    rng = np.random.default_rng(0)
    z, dy = rng.standard_normal((5, layer.n_in)), rng.standard_normal((5, layer.n_out))
    for dtype, rtol in ((strict.float64, 1e-14), (strict.float32, 1e-5)):
        y, cache = layer.forward({}, strict.asarray(z, dtype=dtype, device=device))
        dz, _ = layer.backward({}, cache, strict.asarray(dy, dtype=dtype, device=device))
        expected, cache = layer.forward({}, z)
        for given, wanted in ((y, expected), (dz, layer.backward({}, cache, dy)[0])):
            assert given.dtype == dtype and given.device == device
            host = np.asarray(given.to_device(strict.Device("CPU_DEVICE")))
            np.testing.assert_allclose(host, wanted, rtol=rtol, atol=rtol)


@pytest.mark.parametrize(
    "make, arguments, message",
    [
        (datasets.linear_gaussian, {"n_cases": 0}, "n_cases must be an integer >= 1, got 0"),
        (datasets.linear_gaussian, {"n_visible": 2.5}, "n_visible must be an integer >= 1, got 2.5"),
        (datasets.linear_gaussian, {"n_latent": True}, "n_latent must be an integer >= 1, got True"),
        (datasets.linear_gaussian, {"n_visible": 3, "n_latent": 4}, "<= n_visible, got 4 and 3"),
        (datasets.spiral, {"n_cases": -1}, "n_cases must be an integer >= 1, got -1"),
        (datasets.spiral, {"noise": 0.0}, "noise must be a finite number > 0, got 0.0"),
        (datasets.bent_sheet, {"noise": math.nan}, "noise must be a finite number > 0, got nan"),
        (datasets.bent_sheet, {"radius": -1}, "radius must be a finite number > 0, got -1"),
    ],
)
def test_generators_refuse(make, arguments, message):
    with pytest.raises(ValueError) as caught:
        make(**arguments)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ALONE)
def test_a_seed_is_a_data_set(name):
    first, again, other = [datasets.load(name, seed=seed) for seed in (4, 4, 5)]
    np.testing.assert_array_equal(first.x, again.x)
    assert (first.x != other.x).mean() > 0.99
    generator = datasets.load(name, seed=np.random.default_rng(4))
    np.testing.assert_array_equal(first.x, generator.x)


# ---- Dataset, split, to_unit_interval --------------------------------------------------------


def small(x, **fields):
    return datasets.Dataset(np.asarray(x), name="small", note="Made up.", source="a test", **fields)


@pytest.mark.parametrize(
    "x, fields, fragments",
    [
        ([1.0, 2.0], {}, ["float64 array (N, D)", "float64 (2,)"]),
        ([[1, 2]], {}, ["float64 array (N, D)", "int64 (1, 2)"]),
        (np.zeros((0, 2)), {}, ["N, D >= 1", "(0, 2)"]),
        ([[1.0, 2.0], [3.0, math.nan]], {}, ["nan in row 1, column 1", "expected finite", "drop such rows"]),
        ([[math.inf, 2.0]], {}, ["inf in row 0, column 0"]),
        ([[1.0, 2.0]], {"labels": np.arange(2)}, ["1 × 2", "labels must have 1 entries, got 2"]),
        ([[1.0, 2.0]], {"columns": ("a",)}, ["1 × 2", "columns must have 2 entries, got 1"]),
        ([[1.0, 2.0]], {"image_shape": (2, 2)}, ["image_shape (2, 2) does not give 2 pixels"]),
        (
            [[1.0, 2.0]],
            {"truth": datasets.Truth(None, {}, np.ones(2), np.zeros((3, 1)))},
            ["truth.z must have 1 entries, got 3"],
        ),
        (
            [[1.0, 2.0]],
            {"truth": datasets.Truth(None, {}, np.ones(3), np.zeros((1, 1)))},
            ["truth.psi must have 2 entries, got 3"],
        ),
    ],
)
def test_dataset_refuses(x, fields, fragments):
    with pytest.raises(ValueError) as caught:
        small(x, **fields)
    for fragment in ["a test: ", *fragments]:
        assert fragment in str(caught.value)


def test_nan_stands_in_a_data_set_that_says_so():
    x = [[1.0, math.nan], [2.0, 3.0]]
    data = small(x, missing=True)
    np.testing.assert_array_equal(datasets.to_unit_interval(data).x, [[0, math.nan], [0.5, 1]])
    with pytest.raises(ValueError, match="inf in row 0, column 1"):
        small([[1.0, math.inf], [2.0, 3.0]], missing=True)


def test_rows_keep_their_names():
    x = np.arange(20.0)[:, None]
    lines = np.arange(20) * 2 + 5
    for rows in (None, lines):
        data = small(x, rows=rows)
        for part in datasets.split(data, 0.3, seed=1):
            expected = (np.arange(20) if rows is None else lines)[part.x[:, 0].astype(int)]
            np.testing.assert_array_equal(part.rows, expected)
        part = datasets.first(datasets.split(data, 0.3, seed=1)[1], 2)
        np.testing.assert_array_equal(part.row_names, data.row_names[part.x[:, 0].astype(int)])
    with pytest.raises(ValueError, match="rows must have 20 entries, got 3"):
        small(x, rows=np.arange(3))


def test_split_is_disjoint_and_complete():
    data = datasets.bent_sheet(n_cases=101)
    train, test = datasets.split(data, held_out=0.25, seed=2)
    assert train.x.shape == (76, 3) and test.x.shape == (25, 3)
    where = {row.tobytes(): n for n, row in enumerate(data.x)}
    assert len(where) == 101
    order = [where[row.tobytes()] for row in np.concatenate([train.x, test.x])]
    assert sorted(order) == list(range(101)) and order != sorted(order)
    for part, rows in ((train, order[:76]), (test, order[76:])):
        np.testing.assert_array_equal(part.labels, data.labels[rows])
        np.testing.assert_array_equal(part.truth.z, data.truth.z[rows])
        np.testing.assert_array_equal(part.truth.psi, data.truth.psi)
    assert "76 of 101" in train.note and "25 of 101" in test.note


def test_split_follows_its_seed():
    data = datasets.spiral(n_cases=50)
    a, b, c = [datasets.split(data, seed=seed)[1].x for seed in (0, 0, 1)]
    np.testing.assert_array_equal(a, b)
    assert a.shape == (10, 2) and not np.array_equal(a, c)


def test_split_of_bare_data_keeps_the_rest():
    data = replace(datasets.digits(dequantise=False), labels=None)
    train, test = datasets.split(data)
    assert train.labels is None and test.truth is None
    assert train.image_shape == (8, 8) and test.range == (0.0, 1.0)
    assert len(test.x) == 359 and len(train.x) == 1438


@pytest.mark.parametrize(
    "n_cases, held_out",
    [(10, 0), (10, 1), (10, -0.2), (10, 3), (10, 0.04), (10, 0.9), (2, 0.5), (10, math.nan)],
)
def test_split_refuses(n_cases, held_out):
    data = datasets.spiral(n_cases=n_cases)
    with pytest.raises(ValueError) as caught:
        datasets.split(data, held_out)
    for fragment in ("fraction between 0 and 1", f"of the {n_cases} data cases", f"got {held_out!r}"):
        assert fragment in str(caught.value)


def test_split_at_its_limits():
    train, test = datasets.split(datasets.spiral(n_cases=3), 0.3)
    assert len(train.x) == 2 and len(test.x) == 1


@pytest.mark.parametrize("name", GENERATED)
def test_to_unit_interval_scales_the_truth_along(name):
    data = GENERATED[name][0](n_cases=4000)
    scaled = datasets.to_unit_interval(data)
    assert scaled.x.min() == 0 and scaled.x.max() == 1 and scaled.range == (0.0, 1.0)
    low, high = data.x.min(), data.x.max()
    np.testing.assert_allclose(low + (high - low) * scaled.x, data.x, rtol=1e-12, atol=1e-12)
    assert scaled.note.startswith(data.note) and f"{low:g}" in scaled.note
    truth = scaled.truth
    f, _ = truth.decoder.forward(truth.params, truth.z)
    assert_noise_is(scaled.x - f, truth.psi)
    np.testing.assert_allclose(
        (scaled.x - f) / np.sqrt(truth.psi),
        (data.x - data.truth.decoder.forward(data.truth.params, data.truth.z)[0]) / np.sqrt(data.truth.psi),
        rtol=1e-8,
        atol=1e-8,
    )
    assert truth.n_latent == truth.decoder.n_in and truth.decoder.n_out == data.x.shape[1]


def test_to_unit_interval_by_hand():
    scaled = datasets.to_unit_interval(small([[1.0, 3.0], [5.0, 2.0]], levels=4))
    np.testing.assert_array_equal(scaled.x, [[0, 0.5], [1, 0.25]])
    assert scaled.levels is None and scaled.truth is None
    scaled = datasets.to_unit_interval(small([[1.0, 3.0]]), limits=(2, 4))
    np.testing.assert_array_equal(scaled.x, [[-0.5, 0.5]])


def test_to_unit_interval_leaves_the_digits():
    for options in ({}, {"dequantise": False}, {"threshold": 8}):
        data = datasets.digits(**options)
        assert datasets.to_unit_interval(data) is data


def test_to_unit_interval_refuses():
    with pytest.raises(ValueError, match="a test: every entry of x is 3; expected at least two .*hand over"):
        datasets.to_unit_interval(small([[3.0, 3.0]]))
    for limits in ((2, 2), (3, 1), (0, math.inf), (math.nan, 1)):
        with pytest.raises(ValueError, match="limits must be .low, high. with low < high, both finite, got"):
            datasets.to_unit_interval(small([[3.0, 4.0]]), limits=limits)


# ---- by name ---------------------------------------------------------------------------------


def test_names_and_options():
    assert sorted(datasets.DATASETS) == ["bent_sheet", "digits", "linear", "mnist", "spiral"]
    for name in ALONE:
        assert datasets.load(name).name == name
    assert datasets.load("spiral", n_cases=12).x.shape == (12, 2)
    np.testing.assert_array_equal(datasets.load("digits", dequantise=False).x * 16, digits_file()[0])


def test_load_refuses(tmp_path):
    with pytest.raises(ValueError) as caught:
        datasets.load("digitz")
    for fragment in ("unknown data set 'digitz'", "'bent_sheet', 'digits', 'linear', 'mnist'",
                     ".csv, .tsv, .txt, .npy or .npz", "folder of IDX files"):
        assert fragment in str(caught.value)
    with pytest.raises(ValueError, match=r"ends in '\.xlsx'; expected \.csv, .* or \.npz, or a .*: save"):
        datasets.load(tmp_path / "a.xlsx")
    with pytest.raises(ValueError, match=r"ends in '\.gz'; expected \.csv.*of IDX files, give their folder"):
        datasets.load(tmp_path / "train-images-idx3-ubyte.gz")
    with pytest.raises(FileNotFoundError, match="holds no train-images-idx3-ubyte .*but nothing; give"):
        datasets.load(tmp_path)
    with pytest.raises(FileNotFoundError) as caught:
        datasets.load(tmp_path / "a.csv")
    for fragment in (str(tmp_path / "a.csv"), "no such file", "check the path", "'spiral'"):
        assert fragment in str(caught.value)
    (tmp_path / "a.csv").write_text("1,2\n")
    with pytest.raises(ValueError, match=r"options \['seed'\] were given, but a .csv file takes only.*leave"):
        datasets.load(tmp_path / "a.csv", seed=1)
    with pytest.raises(ValueError, match=r"options \['header'\] .*'digits'; expected them with a file"):
        datasets.load("digits", header=False)
    np.save(tmp_path / "a.npy", np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"\['header'\].* a .npy file takes only \['missing_values'\]"):
        datasets.load(tmp_path / "a.npy", header=False)


def test_decoders_of_truths_are_layers():
    assert isinstance(datasets.linear_gaussian().truth.decoder, Linear)
    assert datasets.spiral(alpha=0.1, omega=3.0).truth.decoder == datasets.Spiral(0.1, 3.0)
    assert datasets.bent_sheet(radius=2.0).truth.decoder == datasets.BentSheet(2.0)


# ---- images of bytes, and binary ones --------------------------------------------------------


def test_images_of_a_folder(tmp_path):
    X, y = write_folder(tmp_path)
    rows = X["train"].reshape(30, 12)
    data = datasets.load(tmp_path)
    assert data.image_shape == (4, 3) and data.levels == 256 and data.range == (0.0, 1.0)
    assert data.name == tmp_path.name and data.source == str(tmp_path) and data.x.max() < 1
    assert "(value + u)/256" in data.note and "Training images." in data.note
    np.testing.assert_array_equal(np.floor(256 * data.x), rows)
    np.testing.assert_array_equal(data.labels, y["train"])
    u = 256 * data.x - rows
    assert stats.kstest(u.ravel(), "uniform").pvalue > RARE
    np.testing.assert_array_equal(datasets.load(tmp_path, seed=0).x, data.x)
    assert (datasets.load(tmp_path, seed=1).x != data.x).all()

    test = datasets.load(str(tmp_path), part="test", dequantise=False)
    np.testing.assert_array_equal(test.x, X["test"].reshape(20, 12) / 255)
    np.testing.assert_array_equal(test.labels, y["test"])
    assert test.levels is None and "divided by 255" in test.note and "Test images." in test.note

    both = datasets.load(tmp_path, part="both", n_cases=33)
    np.testing.assert_array_equal(np.floor(256 * both.x[:30]), rows)
    np.testing.assert_array_equal(np.floor(256 * both.x[30:]), X["test"][:3].reshape(3, 12))
    np.testing.assert_array_equal(both.labels, np.concatenate([y["train"], y["test"][:3]]))


def test_the_first_images_do_not_depend_on_how_many_are_read(tmp_path):
    write_folder(tmp_path)
    few, all_of_them = datasets.images(tmp_path, n_cases=7), datasets.images(tmp_path)
    assert few.x.shape == (7, 12) and len(few.labels) == 7
    np.testing.assert_array_equal(few.x, all_of_them.x[:7])
    np.testing.assert_array_equal(few.labels, all_of_them.labels[:7])


@pytest.mark.parametrize("options, message", [
    ({"n_cases": 31}, "n_cases = 31, but part='train' has 30 images; ask for no more"),
    ({"n_cases": 0}, "n_cases must be an integer >= 1, got 0"),
    ({"n_cases": 2.0}, "n_cases must be an integer >= 1, got 2.0"),
    ({"part": "t10k"}, "part must be one of ['train', 'test', 'both'], got 't10k'"),
])
def test_images_refuse(tmp_path, options, message):
    write_folder(tmp_path)
    with pytest.raises(ValueError) as caught:
        datasets.images(tmp_path, **options)
    assert message in str(caught.value)


def test_mnist_finds_its_folder(tmp_path, monkeypatch):
    def no_download(*arguments):
        raise AssertionError("went to the network")

    monkeypatch.setattr(datasets.readers, "download", no_download)
    monkeypatch.delenv("TEACHVAE_DATA", raising=False)
    X, _ = write_folder(tmp_path)
    by_argument = datasets.mnist(tmp_path, "test", 5)
    np.testing.assert_array_equal(np.floor(256 * by_argument.x), X["test"][:5].reshape(5, 12))
    assert by_argument.name == "mnist" and "LeCun" in by_argument.source
    with pytest.raises(AssertionError, match="went to the network"):
        datasets.mnist()
    monkeypatch.setenv("TEACHVAE_DATA", str(tmp_path))
    np.testing.assert_array_equal(datasets.load("mnist", part="test", n_cases=5).x, by_argument.x)
    monkeypatch.setenv("TEACHVAE_DATA", str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError, match="TEACHVAE_DATA names .*none, which is no folder.*unset it"):
        datasets.mnist()
    np.testing.assert_array_equal(datasets.mnist(tmp_path, "test", 5).x, by_argument.x)


def test_mnist_is_the_published_one():
    folder = os.environ.get("TEACHVAE_DATA")
    if not folder or not (Path(folder) / "t10k-images-idx3-ubyte.gz").exists():
        pytest.skip("TEACHVAE_DATA names no folder with the MNIST files")
    for name, checksum in images.MNIST_SHA256.items():
        assert hashlib.sha256((Path(folder) / name).read_bytes()).hexdigest() == checksum
    data = datasets.load("mnist", part="both", dequantise=False)
    assert data.x.shape == (70_000, 784) and data.image_shape == (28, 28)
    assert list(data.labels[:5]) == [5, 0, 4, 1, 9] and list(data.labels[60_000:60_005]) == [7, 2, 1, 0, 4]
    # The mean and the standard deviation that are in everybody's code, and 67 pixels that are always 0.
    train = data.x[:60_000]
    assert abs(train.mean() - 0.1307) < 5e-5 and abs(train.std() - 0.3081) < 5e-5
    assert (train.max(axis=0) == 0).sum() == 67


class EveryByte(np.random.Generator):
    """A generator whose bounded integers are all of them, once per column: row r holds r."""

    def integers(self, low, high=None, size=None, dtype=np.int64, endpoint=False):
        low, high = (0, low) if high is None else (low, high)
        values = np.arange(low, high + endpoint).astype(dtype)
        assert dtype == np.uint8 and size[0] % len(values) == 0, "as many rows as there are integers"
        return np.broadcast_to(np.resize(values, size[0])[:, None], size)


def test_fresh_binarisation_has_exactly_the_grey_value_as_probability():
    """Each of the 255 integers once for each of the 256 bytes: of byte g, g are ones."""
    grey = np.broadcast_to(np.arange(256, dtype=np.uint8), (255, 256))
    x = datasets.binarise(grey, "fresh", EveryByte(np.random.PCG64(0)))
    assert x.dtype == np.float64 and set(np.unique(x)) == {0.0, 1.0}
    np.testing.assert_array_equal(x.sum(axis=0), np.arange(256))


@pytest.mark.parametrize("how", ["fixed", "fresh"])
@pytest.mark.parametrize("values", [np.arange(256, dtype=np.uint8), np.arange(256) / 255])
def test_drawn_binarisation(how, values):
    """Of N draws, the ones are Binomial(N, g/255); black stays black and white white."""
    if how == "fresh":
        values = np.rint(255 * values).astype(np.uint8) if values.dtype != np.uint8 else values
    N = 20_000
    rng = np.random.default_rng(5)
    x = datasets.binarise(np.tile(values, (N, 1)), how, rng)
    ones, p = x.sum(axis=0), np.arange(256) / 255
    assert ones[0] == 0 and ones[255] == N
    z = (ones - N * p)[1:-1] / np.sqrt(N * p * (1 - p))[1:-1]
    assert np.abs(z).max() < 5 and stats.chi2.ppf(RARE, 254) < (z**2).sum() < stats.chi2.isf(RARE, 254)
    again = datasets.binarise(np.tile(values, (N, 1)), how, rng)
    assert (again != x).mean() > 0.2                               # 2 E p(1 − p) = 1/3
    assert abs(np.corrcoef(x[:, 128], x[:, 129])[0, 1]) < 5 / math.sqrt(N)


def test_fixed_binarisation_follows_its_seed():
    grey = np.random.default_rng(0).random((50, 8))
    a, b, c = [datasets.binarise(grey, "fixed", seed) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()


def test_threshold_binarisation():
    x = np.array([[0, 127, 128, 255]], np.uint8)
    np.testing.assert_array_equal(datasets.binarise(x, "threshold"), [[0, 0, 1, 1]])
    np.testing.assert_array_equal(datasets.binarise(x / 255, "threshold"), [[0, 0, 1, 1]])
    np.testing.assert_array_equal(datasets.binarise([[0.5, 0.5 + 1e-12]], "threshold"), [[0, 1]])
    assert datasets.binarise(x, "threshold").dtype == np.float64


def test_grey_values_give_their_bytes_back():
    X = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(np.rint(255 * (X / 255)).astype(np.uint8), X)


GREY = np.array([[0.0, 1.0]])


@pytest.mark.parametrize("x, how, rng, fragments", [
    (GREY, "random", 0, ["how must be 'fixed', 'threshold' or 'fresh', got 'random'"]),
    (255 * GREY, "threshold", None, ["float64, from 0 to 255", "floats from 0 to 1", "scale it"]),
    (GREY - 0.1, "fixed", 0, ["float64, from -0.1 to 0.9"]),
    (GREY * math.nan, "fixed", 0, ["expected grey values", "finite"]),
    (np.array([[0, 255]]), "fixed", 0, ["int64, from 0 to 255", "uint8, 0 to 255"]),
    (GREY, "fixed", None, ["got no rng", "expected a seed"]),
    (GREY, "fresh", np.random.default_rng(0), ["x of float64 and rng Generator", "hand over the bytes"]),
    (np.uint8([[3]]), "fresh", 0, ["x of uint8 and rng int", "the same pixels in every epoch"]),
])
def test_binarise_refuses(x, how, rng, fragments):
    with pytest.raises(ValueError) as caught:
        datasets.binarise(x, how, rng)
    for fragment in fragments:
        assert fragment in str(caught.value)
