"""What the doors let in and what they refuse: dates and ids beside numbers, columns that are constant but for
rounding, and random states of every kind.
"""

import datetime
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("sklearn")
from sklearn.decomposition import FactorAnalysis as TheirFactorAnalysis  # noqa: E402

from teachvae import (  # noqa: E402
    Autoencoder, FactorAnalysis, GaussianMixture, MixtureOfFactorAnalysers, PrincipalComponents, VAE,
    VariationalEM, datasets,
)
from teachvae.doors.validate import check_data, generator  # noqa: E402

pytestmark = pytest.mark.short                                   # most fits here end early on purpose

GOOD = np.random.default_rng(0).standard_normal((20, 4))
MAKERS = {
    "FactorAnalysis": lambda **o: FactorAnalysis(2, tol=1e-2, **o),
    "VariationalEM": lambda **o: VariationalEM(2, hidden=(3,), epochs=1, **o),
    "VAE": lambda **o: VAE(2, hidden=(3,), epochs=1, **o),
    "Autoencoder": lambda **o: Autoencoder(2, hidden=(3,), epochs=1, **o),
    "GaussianMixture": lambda **o: GaussianMixture(2, **o),
    "MixtureOfFactorAnalysers": lambda **o: MixtureOfFactorAnalysers(2, n_latent=1, tol=1e-2, **o),
}


# ---- Tables whose columns are not all numbers, or not numbers that float64 can tell apart ----------


IDS = [720575940600000001, 720575940600000002, 720575940600000003]


class Polars:
    """What is asked of a Polars data frame; its to_numpy() makes numbers of dates, as Polars does."""

    def __init__(self, **columns):
        self.columns, self.series = list(columns), [np.asarray(c) for c in columns.values()]

    def to_series(self, d):
        return self.series[d].view(PolarsSeries)

    def __array__(self, dtype=None, copy=None):
        return np.stack([c.astype("float64") for c in self.series], axis=1)


    @property
    def shape(self):
        return len(self.series[0]), len(self.columns)

    def __getitem__(self, rows):
        return Polars(**{name: series[rows] for name, series in zip(self.columns, self.series)})


class PolarsSeries(np.ndarray):
    def drop_nulls(self):
        return np.asarray(self)


def frames(**columns):
    return pd.DataFrame(columns), Polars(**columns)


@pytest.mark.parametrize("column, words", [
    (np.arange(6).astype("datetime64[D]"), "times"),
    (np.arange(6).astype("timedelta64[s]"), "durations"),
    (np.array(list("abcabc")), "text, first 'a'"),
    (np.array(IDS * 2), r"720575940600000001, above 2\^53"),
    (np.array(IDS * 2, dtype="uint64"), r"720575940600000001, above 2\^53"),
    (np.array([1, 2.5, "x", 4, 5, 6], dtype=object), "text, first 'x'"),
    (np.array([1, 2.5, datetime.date(2020, 1, 1), 4, 5, 6], dtype=object), "not 'date'"),
    (np.array([*IDS, 1, 2, 3], dtype=object), r"720575940600000001, above 2\^53"),
    (np.array([10**5000, 2, 3, 4, 5, 6], dtype=object), "'int' that float64 does not have"),
    (np.array([1, Fraction(10**400, 3), 3, 4, 5, 6], dtype=object), "'Fraction' that float64 does not have"),
    (np.array([1, Decimal("sNaN"), 3, 4, 5, 6], dtype=object), "'Decimal' that float64 does not have"),
])
def test_a_column_that_holds_no_numbers_is_refused_by_name(column, words):
    height = np.array([1.0, 3.0, 2.0, 5.0, 4.0, 7.0])
    for frame in frames(height=height, when=column):
        for make in (FactorAnalysis(1), GaussianMixture(1), PrincipalComponents(1), Autoencoder(1),
                     MixtureOfFactorAnalysers(1)):
            with pytest.raises((TypeError, ValueError), match=words):
                make.fit(frame)
    fitted = FactorAnalysis(1).fit(pd.DataFrame({"height": height, "when": height[::-1] ** 2}))
    for ask in (fitted.transform, fitted.impute, fitted.nlml):
        with pytest.raises((TypeError, ValueError), match="columns when"):
            ask(pd.DataFrame({"height": height, "when": column}))


def test_a_column_of_arrays_is_refused_by_name():
    frame = Polars(height=GOOD[:, 0], pair=GOOD[:, :2])
    with pytest.raises(ValueError, match=r"columns pair \(arrays of shape \(2,\)\)"):
        FactorAnalysis(1).fit(frame)


def test_what_an_object_raises_on_its_way_to_an_array_is_told():
    class Broken:
        def __array__(self, dtype=None, copy=None):
            raise RuntimeError("out of order")

    with pytest.raises(ValueError, match=r"X cannot be made an array of numbers \(out of order\)"):
        FactorAnalysis(1).fit(Broken())


def test_a_lazy_frame_is_to_be_collected():
    class LazyFrame(Polars):
        def collect(self):
            return self

    with pytest.raises(TypeError, match=r"LazyFrame holds no numbers yet.*use X.collect\(\)"):
        FactorAnalysis(1).fit(LazyFrame(height=GOOD[:, 0]))


def test_weights_of_the_rows_of_a_frame():
    weights = np.arange(20) % 3
    expected = FactorAnalysis(1, noise="isotropic").fit(GOOD, sample_weight=weights).nlml(GOOD).values
    for frame in frames(**{name: GOOD[:, d] for d, name in enumerate("abcd")}):
        fitted = FactorAnalysis(1, noise="isotropic").fit(frame, sample_weight=weights)
        np.testing.assert_array_equal(fitted.nlml(frame).values, expected)
        assert list(fitted.feature_names_in_) == list("abcd")


def test_large_whole_numbers_that_float64_has_are_let_in():
    exact = np.array([2**53, 2**60, -(2**62), 3, 4, 5])
    x, _ = check_data(pd.DataFrame({"a": exact, "b": np.arange(6.0)}))
    assert x[:, 0].tolist() == exact.tolist()
    assert check_data(np.array([[True, 2], [3.5, None]], dtype=object), missing=True)[0][0].tolist() == [1, 2]


@pytest.mark.parametrize("x", [
    np.array(IDS * 4, dtype="float64")[:, None],                   # merged before they came here
    np.array([2**24, 2**24 + 1, 2**24 + 2] * 4, dtype="float32")[:, None],
])
def test_categories_beyond_the_dtype_s_whole_numbers_are_refused(x):
    with pytest.raises(ValueError, match="has categories such as .*takes different whole numbers for one"):
        VAE(1, likelihood="categorical", epochs=1).fit(x)
    with pytest.raises(ValueError, match="above 2.53"):
        VAE(1, likelihood="categorical", epochs=1).fit(np.array(IDS * 4)[:, None])


# ---- Columns that are constant but for rounding ---------------------------------------------------


def nearly_constant(dtype="float64"):
    """Six columns, one 0.3 in two roundings; the NLML of the other five is 3.99 where that one is aside."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 2)) @ rng.normal(size=(2, 5)) + 0.4 * rng.normal(size=(200, 5))
    third = np.where(np.arange(200) % 2, 0.3, 0.1 + 0.2)
    if dtype == "float32":
        third = np.where(np.arange(200) % 2, np.float32(0.3), np.nextafter(np.float32(0.3), np.float32(1)))
    return np.column_stack([x[:, :3], third, x[:, 3:]]).astype(dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_column_constant_but_for_rounding_is_constant(dtype):
    x = nearly_constant(dtype)
    assert x[0, 3] != x[1, 3]
    for make in (FactorAnalysis(2), VariationalEM(2, hidden=()), VAE(2, epochs=1), GaussianMixture(2),
                 MixtureOfFactorAnalysers(2),
                 VAE(2, likelihood="student-t", epochs=1), FactorAnalysis(2, missing="marginalise")):
        with pytest.raises(ValueError, match="columns are constant: 3"):
            make.fit(x)
    with pytest.raises(ValueError, match="columns 3 are constant so far"):
        FactorAnalysis(2).partial_fit(x)
    S = np.cov(nearly_constant().T, bias=True)
    with pytest.raises(ValueError, match=r"columns \[3\] have variance 0"):
        FactorAnalysis(2).fit_covariance(S, mean=nearly_constant().mean(axis=0))
    with pytest.warns(UserWarning, match="constant columns are set aside: 3"):
        dropped = FactorAnalysis(2, constant="drop").fit(x)
    alone = FactorAnalysis(2).fit(np.delete(x, 3, axis=1))
    np.testing.assert_allclose(dropped.nlml(x).values, alone.nlml(np.delete(x, 3, axis=1)).values, rtol=1e-6)
    assert dropped.nlml(x).values.mean() == pytest.approx(nlml_of_five(np.delete(x, 3, axis=1)), abs=1e-3)


def nlml_of_five(x):
    """What scikit-learn's factor analysis reaches on the other five columns."""
    return -TheirFactorAnalysis(2, tol=1e-10, max_iter=20_000, svd_method="lapack").fit(x).score(x)


@pytest.mark.filterwarnings("ignore:.*Heywood")
def test_a_small_spread_far_from_the_origin_is_no_constant(rng):
    x = rng.normal(size=(100, 3))
    x[:, 1] = 101_325 + 20 * x[:, 1]
    x[:, 2] = 1e6 + 1e-3 * x[:, 2]
    assert FactorAnalysis(1).fit(x).noise_variance_.shape == (3,)


def test_columns_that_float32_cannot_square_are_refused_in_words():
    """A model's own dtype counts, not that of the data: parameters in float32 would be 0, inf and NaN."""
    for make in (MAKERS["FactorAnalysis"], MAKERS["VAE"], MAKERS["VariationalEM"]):
        for x, words in (
            (GOOD * [1, 1e-17, 1, 1], "columns 1 vary by .*e-17 .*underflow in float32: .*dtype='float64'"),
            (GOOD * [1, 1, 1e30, 1], "size .*e.30; above .* overflow in float32: .*dtype='float64'"),
        ):
            with pytest.raises(ValueError, match=words):
                make(dtype="float32").fit(x)
            with pytest.raises(ValueError, match=words):
                make().fit(x.astype("float32"))
            assert np.isfinite(make().fit(x).bound(x)).all()
        assert np.isfinite(make(dtype="float32", noise=0.5).fit(GOOD * [1, 1e-17, 1, 1]).bound(GOOD)).all()
        fitted = make(dtype="float32").fit(GOOD)
        with pytest.raises(ValueError, match="overflow in float32"):
            fitted.transform(GOOD * 1e30)
    with pytest.raises(ValueError, match="columns 0, 1, 2, 3 vary by"):
        MAKERS["Autoencoder"](dtype="float32").fit(GOOD * 1e-40)
    with pytest.raises(ValueError, match="columns 0, 1, 2, 3 vary by"):
        FactorAnalysis(2, noise="isotropic", dtype="float32").fit(GOOD * 1e-40)
    with pytest.raises(ValueError, match="columns 2 vary by"):
        FactorAnalysis(2, dtype="float32").partial_fit(GOOD * [1, 1, 1e-40, 1])
    with pytest.raises(ValueError, match="columns 0 vary by .* 1.0e-150 shares .* underflow in float64"):
        FactorAnalysis(2).fit(GOOD * [1e-155, 1, 1, 1])


def test_predicted_variances_of_huge_data_need_a_higher_floor():
    with pytest.raises(ValueError, match="near the floor of 0.0001 overflow: give the data in larger units"):
        VAE(1, likelihood="gaussian-predicted", epochs=1).fit(GOOD * 1e150)


# ---- Random states ----------------------------------------------------------------------------------


STATES = [3, None, np.int64(3), np.random.SeedSequence(3), np.random.default_rng(3), np.random.RandomState(3)]


@pytest.mark.filterwarnings("ignore::teachvae.routes.mixture.CollapseWarning")  # None may draw such a start
@pytest.mark.parametrize("state", STATES, ids=lambda state: type(state).__name__)
@pytest.mark.parametrize("name", MAKERS)
def test_every_kind_of_random_state_is_taken(name, state):
    fitted = MAKERS[name](random_state=state).fit(GOOD)
    if name != "Autoencoder":
        assert fitted.sample(3, random_state=state).shape == (3, 4)
    if name in ("VariationalEM", "VAE"):
        fitted.bound(GOOD, n_samples=3, random_state=state)


def test_random_states_give_the_numbers_that_they_promise():
    def draw(state):
        return generator(state).spawn(2)[1].standard_normal(3).tolist()

    assert draw(3) == draw(np.int64(3)) == np.random.default_rng(3).spawn(2)[1].standard_normal(3).tolist()
    assert draw(np.random.RandomState(3)) == draw(np.random.RandomState(3)) != draw(3)
    seed = np.random.SeedSequence(3)
    assert draw(seed) == draw(seed) == draw(3) and seed.n_children_spawned == 0
    state, other = np.random.RandomState(3), np.random.default_rng(3)
    assert draw(state) != draw(state) and draw(other) != draw(other), "a second fit goes on"
    legacy = np.random.Generator(np.random.RandomState(3)._bit_generator)
    assert len(draw(legacy)) == 3, "its seed cannot be spawned"


@pytest.mark.parametrize("state", [-1, 2.5, "3", True, np.random, object()])
def test_other_random_states_are_refused(state):
    with pytest.raises((TypeError, ValueError), match="random_state must be an integer >= 0, None, or one"):
        VAE(1, epochs=1, random_state=state).fit(GOOD)
    with pytest.raises((TypeError, ValueError), match="seed must be an integer >= 0, None, or one of"):
        datasets.linear_gaussian(n_cases=5, seed=state)
