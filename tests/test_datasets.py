"""Tests of the data sets: the digits are the published ones, generated sets obey their own truth,
files are read as they are or refused in words, and splits and scales lose nothing."""

from dataclasses import replace
import math
import zipfile

import numpy as np
import pytest
from scipy import stats

from teachvae import datasets
from teachvae.backend import get_backend
from teachvae.layers import Linear

GENERATED = {
    "linear": (datasets.linear_gaussian, 10, 3),
    "spiral": (datasets.spiral, 2, 1),
    "bent_sheet": (datasets.bent_sheet, 3, 2),
}
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
    with (datasets.resources.files("teachvae") / "data" / "digits.npz").open("rb") as file:
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
    readme = (datasets.resources.files("teachvae") / "data" / "README.md").read_text(encoding="utf-8")
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


@pytest.mark.parametrize("name", datasets.DATASETS)
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


# ---- files -----------------------------------------------------------------------------------


def test_names_and_options():
    assert sorted(datasets.DATASETS) == ["bent_sheet", "digits", "linear", "spiral"]
    for name in datasets.DATASETS:
        assert datasets.load(name).name == name
    assert datasets.load("spiral", n_cases=12).x.shape == (12, 2)
    np.testing.assert_array_equal(datasets.load("digits", dequantise=False).x * 16, digits_file()[0])


@pytest.mark.parametrize("header", [None, "height, width (cm),x_1"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_csv(tmp_path, header, ending, bom):
    lines = [] if header is None else [header]
    lines += ["1,2.5, -3e2", '"4",5,6', "", "-0.1,0,7"]
    path = tmp_path / "plants.csv"
    path.write_bytes((bom + ending.join(lines) + ending).encode())
    data = datasets.load(path)
    np.testing.assert_array_equal(data.x, [[1, 2.5, -300], [4, 5, 6], [-0.1, 0, 7]])
    assert data.columns == (None if header is None else ("height", "width (cm)", "x_1"))
    assert data.name == "plants" and data.source == str(path) and data.labels is None
    assert datasets.load(str(path)).x.dtype == np.float64


def test_csv_of_one_column_and_capital_suffix(tmp_path):
    path = tmp_path / "A.CSV"
    path.write_text("v\n1\n2\n")
    data = datasets.load(path)
    np.testing.assert_array_equal(data.x, [[1], [2]])
    assert data.columns == ("v",)


@pytest.mark.parametrize(
    "text, fragments",
    [
        ("a,b\n1,2\n3,four\n", ["row 3, column 2 (b) holds 'four'", "expected a finite number", "correct"]),
        ("1,2\n3,four\n", ["row 2, column 2 holds 'four'", "expected a finite number", "correct the cell"]),
        ("1,2\n\n3,\n", ["row 3, column 2 holds ''", "not empty"]),
        ("1,2\nnan,3\n", ["row 2, column 1 holds 'nan'", "finite"]),
        ("1,2\n3,-inf\n", ["row 2, column 2 holds '-inf'", "finite"]),
        ("1,1_000\n", ["row 1, column 2 holds '1_000'"]),
        ("a,2\n1,2\n", ["row 1, column 1 holds 'a'", "only row 1 may hold names"]),
        ("NA,NA\n1,2\n", ["row 1, column 1 holds 'NA'", "no two alike"]),
        (",\n1,2\n", ["row 1, column 1 holds ''"]),
        (",a\n0,1.5\n", ["row 1, column 1 holds ''", "none of them empty"]),  # row numbers written along
        # The first line is one word that is no number: a name.
        ("1;2\n3;4\n", ["row 2, column 1 (1;2) holds '3;4'"]),
        ("1,2\n3\n", ["row 2 has 1 columns ('3')", "expected 2, as in the first row", "add or take out"]),
        ("a,b\n1,2,3\n", ["row 2 has 3 columns ('1,2,3')", "expected 2"]),
        ("", ["holds no row of numbers", "expected numbers separated by commas", "check that"]),
        ("a,b\n", ["holds no row of numbers"]),
        (b"1,2\n\xff\xfe,3\n", ["not comma separated text in UTF-8", "save it as CSV"]),
    ],
)
def test_csv_refuses(tmp_path, text, fragments):
    path = tmp_path / "data.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError) as caught:
        datasets.load(path)
    for fragment in [f"{path}: ", *fragments]:
        assert fragment in str(caught.value)


@pytest.mark.parametrize("dtype", ["float64", "float32", "int16", "uint8", "bool", ">f8"])
def test_npy(tmp_path, dtype):
    x = np.array([[1, 0, 1], [0, 0, 1]]).astype(dtype)
    np.save(tmp_path / "a.npy", np.asfortranarray(x))
    data = datasets.load(tmp_path / "a.npy")
    assert data.x.dtype == np.float64 and data.x.dtype.isnative and data.x.flags.c_contiguous
    np.testing.assert_array_equal(data.x, [[1, 0, 1], [0, 0, 1]])
    assert data.image_shape is None and np.dtype(dtype).name in data.note


def test_npy_images(tmp_path):
    images = np.arange(24).reshape(4, 2, 3)
    np.save(tmp_path / "a.npy", images)
    data = datasets.load(tmp_path / "a.npy")
    assert data.x.shape == (4, 6) and data.image_shape == (2, 3) and "2 × 3" in data.note
    np.testing.assert_array_equal(data.x.reshape(-1, *data.image_shape), images)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path, save):
    x = np.random.default_rng(0).standard_normal((3, 4))
    path = tmp_path / "a.npz"
    save(path, anything=x)
    np.testing.assert_array_equal(datasets.load(path).x, x)
    save(path, x=x, y=np.array(["a", "b", "a"]))
    data = datasets.load(path)
    np.testing.assert_array_equal(data.x, x)
    assert list(data.labels) == ["a", "b", "a"]


class Trap:
    """Unpickling this would raise, so a test sees whether it was unpickled."""

    def __reduce__(self):
        return (_sprung, ())


def _sprung():
    raise AssertionError("a pickle was loaded")


def npy_that_claims(shape):
    """The bytes of an npy file whose header promises more numbers than follow."""
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}"
    text = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + bytes(16)


@pytest.mark.parametrize(
    "array, fragments",
    [
        (np.arange(3.0), ["shape (3,)", "expected (N, D)", "reshape"]),
        (np.float64(3), ["shape ()", "expected (N, D)"]),
        (np.zeros((2, 2, 2, 3)), ["shape (2, 2, 2, 3)", "images (N, h, w)"]),
        (np.zeros((0, 3)), ["shape (0, 3)", "none of them 0"]),
        (np.array([["1", "2"]]), ["dtype <U1", "expected real numbers", "astype(float)"]),
        (np.array([[1j]]), ["dtype complex128", "expected real numbers"]),
        (np.array([[1.0, math.nan]]), ["nan in row 0, column 1", "expected finite", "drop such rows"]),
        (np.array([[Trap(), 1]], dtype=object), ["dtype is a number type, not object", "Pickled", "save"]),
        (b"", ["not a .npy file of plain numbers", "expected an array", "numpy.save(path, x)"]),
        (b"1,2\n3,4\n", ["not a .npy file of plain numbers", "numpy.save(path, x)"]),
        (npy_that_claims((3, 4)), ["not a .npy file of plain numbers"]),
        (npy_that_claims((10**9, 10**6)), ["not a .npy file of plain numbers"]),
    ],
)
def test_npy_refuses(tmp_path, array, fragments):
    path = tmp_path / "a.npy"
    if isinstance(array, bytes):
        path.write_bytes(array)
    else:
        np.save(path, array, allow_pickle=True)
    with pytest.raises(ValueError) as caught:
        datasets.load(path)
    for fragment in [f"{path}: ", *fragments]:
        assert fragment in str(caught.value)


X_OK = np.ones((3, 2))


@pytest.mark.parametrize(
    "arrays, fragments",
    [
        ({"a": X_OK, "b": X_OK}, ["arrays named ['a', 'b']", "expected one array, or x", "numpy.savez"]),
        ({"x": X_OK, "z": X_OK}, ["arrays named ['x', 'z']"]),
        ({"x": X_OK, "y": np.ones(2)}, ["labels y have shape (2,)", "expected (3,)", "save the y"]),
        ({"x": X_OK, "y": X_OK}, ["labels y have shape (3, 2)"]),
        ({"x": np.ones(3), "y": np.ones(3)}, ["shape (3,)", "expected (N, D)"]),
        ({"x": np.array([[Trap()]], dtype=object)}, ["not a .npz file of plain numbers", "not object"]),
        ({"x": X_OK, "y": np.array([Trap()] * 3, dtype=object)}, ["not object", "numpy.savez(path, x=x)"]),
        ({}, ["arrays named []"]),
    ],
)
def test_npz_refuses(tmp_path, arrays, fragments):
    path = tmp_path / "a.npz"
    np.savez(path, **arrays)
    with pytest.raises(ValueError) as caught:
        datasets.load(path)
    for fragment in [f"{path}: ", *fragments]:
        assert fragment in str(caught.value)


def test_npz_that_is_none(tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="not a .npz file of plain numbers"):
        datasets.load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ValueError, match="not a .npz file of plain numbers"):
        datasets.load(path)
    # One byte of the compressed numbers changed.
    np.savez_compressed(path, x=np.random.default_rng(0).standard_normal((50, 2)))
    damaged = bytearray(path.read_bytes())
    damaged[400] ^= 255
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match="not a .npz file of plain numbers"):
        datasets.load(path)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv"])
def test_large_files_are_refused_unread(tmp_path, monkeypatch, suffix):
    path = tmp_path / f"a{suffix}"
    x = np.zeros((300, 4))
    if suffix == ".csv":
        np.savetxt(path, x, delimiter=",")
    else:
        np.save(path, x) if suffix == ".npy" else np.savez_compressed(path, x=x)
    assert datasets.load(path).x.shape == (300, 4)
    assert datasets.LARGEST_FILE == 2**30
    monkeypatch.setattr(datasets, "LARGEST_FILE", 5000)
    if suffix == ".npz":  # small on disk: what counts is what it unpacks to
        assert path.stat().st_size < 5000
    with pytest.raises(ValueError, match=r"holds \d{4,} bytes; expected at most 5000: save fewer"):
        datasets.load(path)


def test_load_refuses(tmp_path):
    with pytest.raises(ValueError) as caught:
        datasets.load("digitz")
    for fragment in ("unknown data set 'digitz'", "'bent_sheet', 'digits', 'linear'", ".csv, .npy or .npz"):
        assert fragment in str(caught.value)
    with pytest.raises(ValueError, match=r"ends in '\.txt'; expected \.csv, \.npy or \.npz: save"):
        datasets.load(tmp_path / "a.txt")
    with pytest.raises(ValueError, match=r"ends in ''; expected \.csv"):
        datasets.load(tmp_path)
    with pytest.raises(FileNotFoundError) as caught:
        datasets.load(tmp_path / "a.csv")
    for fragment in (str(tmp_path / "a.csv"), "no such file", "check the path", "'spiral'"):
        assert fragment in str(caught.value)
    (tmp_path / "a.csv").write_text("1,2\n")
    with pytest.raises(ValueError, match=r"options \['seed'\] were given, but a file takes none.*leave"):
        datasets.load(tmp_path / "a.csv", seed=1)


def test_decoders_of_truths_are_layers():
    assert isinstance(datasets.linear_gaussian().truth.decoder, Linear)
    assert datasets.spiral(alpha=0.1, omega=3.0).truth.decoder == datasets.Spiral(0.1, 3.0)
    assert datasets.bent_sheet(radius=2.0).truth.decoder == datasets.BentSheet(2.0)
