"""Tests of `moments`: mean and scatter against NumPy and exact fractions, parts that add up to the whole,
precision far from the origin and for float32, and no second copy of the data."""

from fractions import Fraction
from functools import reduce
from operator import add
import tracemalloc
from types import SimpleNamespace

from conftest import BACKENDS
from hypothesis import given, strategies as st
import numpy as np
import pytest

from teachvae.arrays import rows
from teachvae.arrays.backend import Backend
from teachvae.inference.moments import Moments, moments


@pytest.fixture
def seven_rows(monkeypatch):
    """Blocks of 7 rows for data of 3 columns, so that a few data cases make several blocks."""
    monkeypatch.setattr(rows, "CASES", 7)


def data(N, D=3, offset=0.0, seed=0):
    """N correlated data cases about `offset`, columns of spread near 1."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((N, D)) @ (np.eye(D) + 0.5 * rng.standard_normal((D, D)) / D**0.5) + offset


def exact(x):
    """Mean (D,) and scatter (D, D) of x (N, D) in fractions, rounded once at the end."""
    columns = [[Fraction(float(v)) for v in column] for column in x.T]
    means = [sum(column) / len(column) for column in columns]
    centred = [[v - m for v in column] for column, m in zip(columns, means, strict=True)]
    scatter = [[float(sum(a * b for a, b in zip(u, v, strict=True))) for v in centred] for u in centred]
    return np.array([float(m) for m in means]), np.array(scatter)


def assert_moments(found, n_cases, mean, scatter, rtol, offset=0.0):
    """`found` is (n_cases, mean, scatter) to rtol of the columns' spreads, its mean to that and rounding."""
    assert found.n_cases == n_cases
    np.testing.assert_allclose(found.mean, mean, rtol=0, atol=rtol + 5e-16 * abs(offset))
    sd = np.sqrt(np.diag(scatter))
    assert (np.abs(found.scatter - scatter) <= rtol * np.outer(sd, sd)).all()


# ---- against NumPy and exact fractions ----------------------------------------------------------


# a block has 1024 rows: less than one, one, one more, several
@pytest.mark.parametrize("N, D", [(2, 1), (50, 3), *((N, 64) for N in (1023, 1024, 1025, 9000)), (500, 784)])
@pytest.mark.parametrize("offset", [0.0, -3.0])
def test_mean_and_covariance_are_numpys(N, D, offset):
    x = data(N, D, offset)
    found = moments(x)
    assert type(found) is Moments and type(found.n_cases) is int
    assert [(type(a), a.dtype, a.shape) for a in (found.mean, found.scatter)] == [
        (np.ndarray, np.float64, (D,)), (np.ndarray, np.float64, (D, D))
    ]
    covariance = np.cov(x.T, bias=True).reshape(D, D)
    assert_moments(found, N, x.mean(axis=0), N * covariance, 1e-13)
    np.testing.assert_allclose(found.covariance, covariance, rtol=0, atol=1e-13 * np.diag(covariance).max())
    assert (found.scatter == found.scatter.T).all()


@pytest.mark.parametrize("N", [2, 7, 8, 60])
@pytest.mark.parametrize("offset", [0.0, 1e3, 1e8, -1e12])
def test_against_fractions_far_from_the_origin(N, offset, seven_rows):
    x = data(N, offset=offset)
    assert_moments(moments(x), N, *exact(x), rtol=1e-13, offset=offset)


def test_where_the_first_block_lies_apart_from_the_rest(seven_rows):
    x = data(70, offset=1e8)
    x[:7] += 1e4
    assert_moments(moments(x), 70, *exact(x), rtol=1e-13, offset=1e8)


def test_where_the_data_drift(seven_rows):
    x = data(70) + np.linspace(-1e3, 1e3, 70)[:, None]
    assert_moments(moments(x), 70, *exact(x), rtol=1e-13, offset=1e3)


def test_one_data_case():
    x = data(1, offset=1e8)
    found = moments(x)
    assert found.n_cases == 1 and (found.mean == x[0]).all() and (found.scatter == 0).all()


def test_columns_of_very_different_sizes(seven_rows):
    units = np.array([1e-9, 1.0, 1e9])
    mean, scatter = exact(data(60) * units)
    found = moments(data(60) * units)
    np.testing.assert_allclose(found.mean / units, mean / units, rtol=0, atol=1e-14)
    assert_moments(found, 60, found.mean, scatter, 1e-13)


# ---- parts add up -------------------------------------------------------------------------------


@given(
    sizes=st.lists(st.integers(1, 12), min_size=2, max_size=6), order=st.randoms(), seed=st.integers(0, 99),
)
def test_parts_in_any_order_are_the_whole(sizes, order, seed):
    x = data(sum(sizes), offset=5.0, seed=seed)
    parts = [moments(part) for part in np.split(x, np.cumsum(sizes)[:-1])]
    order.shuffle(parts)
    assert_moments(reduce(add, parts), len(x), *exact(x), rtol=1e-12)


@given(
    sizes=st.tuples(*3 * [st.integers(1, 30)]), offsets=st.tuples(*3 * [st.floats(-1e3, 1e3)]),
    seed=st.integers(0, 99),
)
def test_merging_is_commutative_and_associative(sizes, offsets, seed):
    x = [data(N, offset=o, seed=seed + i) for i, (N, o) in enumerate(zip(sizes, offsets, strict=True))]
    a, b, c = map(moments, x)
    mean, scatter = exact(np.concatenate(x))
    scatter += np.eye(3)                                           # all sizes 1, all offsets 0: near 0
    for merged in ((a + b) + c, a + (b + c), (b + a) + c, c + (a + b), (c + b) + a):
        np.testing.assert_allclose(merged.mean, mean, rtol=0, atol=1e-12)
        np.testing.assert_allclose(merged.scatter, scatter - np.eye(3), rtol=0, atol=1e-12 * scatter.max())
        assert merged.n_cases == sum(sizes)


def test_merging_case_by_case():
    x = data(300, offset=2.0)
    assert_moments(reduce(add, [moments(row[None]) for row in x]), 300, *exact(x), rtol=1e-12)


def test_merging_two_data_cases_by_hand():
    a, b = Moments(1, np.array([1.0, 2.0]), np.zeros((2, 2))), Moments(3, np.array([5.0, 0.0]), np.eye(2))
    merged = a + b                                                 # δ = (4, −2), 1·3/4 = 0.75
    assert merged.n_cases == 4 and merged.mean.tolist() == [4.0, 0.5]
    np.testing.assert_allclose(merged.scatter, [[13.0, -6.0], [-6.0, 4.0]], rtol=1e-15)
    np.testing.assert_allclose(merged.covariance, [[3.25, -1.5], [-1.5, 1.0]], rtol=1e-15)


def test_merging_far_from_the_origin_loses_only_what_rounded_means_lose():
    x = data(400, offset=1e8)
    mean, scatter = exact(x)
    merged = moments(x[:100]) + moments(x[100:])
    # means near 1e8 are rounded by 1e-8, and δ is about 0.1: a share of 2 · 0.1 · 1e-8 · 3/16 or so
    assert_moments(merged, 400, mean, scatter, rtol=2e-9, offset=1e8)


def test_merging_writes_into_neither():
    a, b = moments(data(5)), moments(data(6, seed=1))
    before = [array.copy() for m in (a, b) for array in (m.mean, m.scatter)]
    for array in (a.mean, a.scatter, b.mean, b.scatter):
        array.flags.writeable = False
    a + b
    assert all((u == v).all() for u, v in zip(before, (a.mean, a.scatter, b.mean, b.scatter), strict=True))


def test_different_columns_are_refused_and_both_are_named():
    with pytest.raises(ValueError, match=r"\b3\b.*\b14\b"):
        moments(data(20)) + moments(data(20, 14))
    with pytest.raises(ValueError, match=r"\b3\b.*\b1\b"):         # would broadcast
        moments(data(20)) + moments(data(20, 1))


@pytest.mark.parametrize("other", [1, 2.0, "moments", None, (5, np.zeros(3), np.eye(3))])
def test_only_moments_are_added(other):
    with pytest.raises(TypeError):
        moments(data(5)) + other


# ---- precision, backends, input, memory ---------------------------------------------------------


@pytest.mark.parametrize("N", [100, 5000])
@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_float32_is_summed_in_float64(N, offset):
    x = data(N, 64, offset).astype("float32")
    found, double = moments(x), moments(x.astype("float64"))
    assert found.mean.dtype == found.scatter.dtype == np.float64
    assert_moments(found, N, double.mean, double.scatter, 1e-12)
    y = x.astype("float64") - x.mean(axis=0, dtype="float64")
    assert_moments(found, N, x.mean(axis=0, dtype="float64"), y.T @ y, 1e-12)


def test_each_backend_gives_the_same_on_the_host(backend, seven_rows):
    x = data(60, offset=1e8)
    found = moments(x, backend)
    assert type(found.mean) is type(found.scatter) is np.ndarray
    assert found.mean.dtype == found.scatter.dtype == np.float64
    assert_moments(found, 60, *exact(x), rtol=1e-13, offset=1e8)


def test_products_are_the_backends(seven_rows):
    sent = []

    def asarray(values):
        sent.append(np.array(values))
        return np.asarray(values)

    moments(data(60).astype("float32"), Backend("spy", SimpleNamespace(asarray=asarray), "float32"))
    assert {a.dtype for a in sent} == {np.dtype("float64")}
    blocks = [a for a in sent if a.any()]                          # zeros may be sent to add to
    assert len(blocks) == 9 and sum(len(b) for b in blocks) >= 60


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", BACKENDS)
def test_the_input_is_only_read(dtype, name, seven_rows):
    x = data(60).astype(dtype)
    before = x.copy()
    moments(x, BACKENDS[name])
    assert (x == before).all()
    x.flags.writeable = False
    moments(x, BACKENDS[name])


@pytest.mark.parametrize("x", [data(60).T.copy().T, data(120)[::2], data(60, 6)[:, ::2], data(60)[::-1]],
                         ids=["columns first", "every other row", "every other column", "backwards"])
def test_any_memory_layout(x, seven_rows):
    assert_moments(moments(x), 60, *exact(x), rtol=1e-13)


def peak(x):
    """The most bytes allocated during moments(x)."""
    tracemalloc.start()
    try:
        moments(x)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_memory_is_that_of_blocks(dtype):
    x = data(40000, 64).astype(dtype)
    half = peak(x[:20000])
    assert half < 0.3 * 20000 * 64 * 8
    assert peak(x) < 1.05 * half                                   # whatever N is
