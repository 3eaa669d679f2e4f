"""FactorAnalysis.partial_fit: parts in any split and order make the fit of the whole."""

import functools
import warnings

import numpy as np
import pandas as pd
import pytest

from teachvae import FactorAnalysis
from teachvae.inference.moments import Moments

N, D, K = 80, 6, 2
NOISES = ["diagonal", "isotropic", 0.6]


def close(a, b, atol):
    np.testing.assert_allclose(a, b, rtol=0, atol=atol)


def linear_data():
    """Two factors that each column has its share of, so that EM has no Heywood case to creep to."""
    rng = np.random.default_rng(0)
    W = np.array([[1.2, 1.0, 1.1, 1.0, 0.9, 1.3], [1.1, -1.0, 1.2, -1.0, -0.9, 1.4]])
    noise = rng.uniform(0.6, 0.9, D) * rng.standard_normal((N, D))
    return rng.standard_normal((N, K)) @ W + noise + rng.uniform(-2, 2, D)


X = linear_data()


def in_parts(parts, **options):
    """partial_fit part by part; only the last fit needs to be a good one."""
    fa = FactorAnalysis(K, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fa.set_params(max_iter=20)
        for part in parts[:-1]:
            fa.partial_fit(part)
    assert fa.set_params(max_iter=20000).partial_fit(parts[-1]) is fa
    return fa


@functools.cache
def whole(noise="diagonal", offset=0.0):
    return FactorAnalysis(K, noise=noise).fit(X + offset)


def assert_same(a, b, atol=1e-10, offset=0.0):
    """The same model, to atol, and what it says of the data."""
    close(a.get_covariance(), b.get_covariance(), 1e3 * atol)
    close(a.mean_ - offset, b.mean_ - offset, atol + 3e-16 * offset)
    close(a.nlml_path_[-1], b.nlml_path_[-1], atol)
    close(a.nlml(X + offset).values, b.nlml(X + offset).values, 1e3 * atol)
    assert a.n_cases_ == b.n_cases_ == a.moments_.n_cases and a.n_features_in_ == b.n_features_in_


SPLITS = {"at once": [], "in halves": [40], "uneven": [3, 4, 50], "row by row": range(2, N)}


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("places", SPLITS.values(), ids=SPLITS.keys())
def test_any_split_makes_the_fit_of_the_whole(places, noise):
    assert_same(in_parts(np.split(X, list(places)), noise=noise), whole(noise))


@pytest.mark.parametrize("seed", range(4))
def test_any_order_of_rows_and_parts(seed):
    rng = np.random.default_rng(seed)
    order = rng.permutation(N)
    parts = np.split(X[order], np.sort(rng.choice(np.arange(10, N - 10), 3, replace=False)))
    assert_same(in_parts(parts), whole())
    assert_same(in_parts(parts[::-1]), whole())


@pytest.mark.parametrize("offset", [1e4, 1e8])
def test_far_from_the_origin(offset):
    """A mean near 1e8 is held to 1e-8, so no sum about it is better than that."""
    atol = 1e-10 if offset == 1e4 else 3e-8
    fa = in_parts(np.split(X + offset, [20, 45]))
    assert_same(fa, whole("diagonal", offset), atol, offset)
    centred = X + offset - offset                                  # what rounding left of X
    S = np.cov(centred.T, bias=True)
    close(fa.moments_.covariance, S, 1e-7)
    close(fa.moments_.mean - offset, centred.mean(axis=0), 5e-8)


def test_moments_are_kept_of_complete_data():
    fa = in_parts(np.split(X, [30]))
    assert isinstance(fa.moments_, Moments) and fa.moments_.n_cases == fa.n_cases_ == N
    close(fa.moments_.covariance, np.cov(X.T, bias=True), 1e-12)
    close(fa.moments_.mean, X.mean(axis=0), 1e-13)
    close(whole().moments_.covariance, fa.moments_.covariance, 1e-12)
    assert FactorAnalysis(K).fit_covariance(np.cov(X.T)).moments_ is None


def test_it_goes_on_from_fit_and_fit_starts_anew():
    fa = FactorAnalysis(K).fit(X[:30]).partial_fit(X[30:])
    assert_same(fa, whole())
    again = fa.fit(X[:50])
    alone = FactorAnalysis(K).fit(X[:50])
    np.testing.assert_array_equal(again.components_, alone.components_)
    np.testing.assert_array_equal(again.moments_.scatter, alone.moments_.scatter)
    assert again.n_cases_ == 50
    other = fa.fit(X[:, :4])                                       # of other columns, too
    assert other.n_features_in_ == 4 and other.moments_.mean.shape == (4,)


def test_each_part_counts_by_its_cases():
    twice = in_parts([X[:40], X[:40], X[40:]], tol=1e-2)
    close(twice.moments_.mean, np.vstack([X[:40], X]).mean(axis=0), 1e-13)
    close(twice.moments_.covariance, np.cov(np.vstack([X[:40], X]).T, bias=True), 1e-12)


def test_float32():
    x = X.astype("float32")
    fa = in_parts(np.split(x, [25, 60]))
    assert fa.components_.dtype == np.float32 and fa.moments_.scatter.dtype == np.float64
    one = FactorAnalysis(K).fit(x)
    close(fa.nlml(x).values, one.nlml(x).values, 1e-4)
    close(fa.moments_.covariance, np.cov(x.T.astype("float64"), bias=True), 1e-12)


def test_names_of_columns_stay():
    frame = pd.DataFrame(X, columns=list("abcdef"))
    fa = in_parts([frame[:30], frame[30:50], X[50:]])
    assert list(fa.feature_names_in_) == list("abcdef")
    assert_same(fa, whole())
    with pytest.raises(ValueError, match="feature names"):
        fa.partial_fit(frame[list("abcdfe")])


# ---- refusals leave the estimator as it was -------------------------------------------------------


def learnt(estimator):
    return {name: value for name, value in vars(estimator).items() if name.endswith("_")}


def assert_refused(estimator, x, match):
    before, params = learnt(estimator), estimator.get_params()
    with pytest.raises(ValueError, match=match):
        estimator.partial_fit(x)
    after = learnt(estimator)
    assert after.keys() == before.keys() and all(after[name] is before[name] for name in before)
    assert estimator.get_params() == params


HOLE, CONSTANT = X[:20].copy(), X[:20].copy()
HOLE[3, 1] = np.nan
CONSTANT[:, 2] = 4.0
REFUSED = {
    "NaN": (HOLE, "X has 1 NaN.* row 3, column 1"),
    "infinity": (np.where(np.isnan(HOLE), np.inf, HOLE), "1 infinity"),
    "other columns": (X[:20, :4], "X has 4 features, but FactorAnalysis is expecting 6"),
    "a vector": (X[0], "Expected 2D array"),
    "no rows": (X[:0], "0 sample"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_added_changes_nothing(case):
    x, match = REFUSED[case]
    fa = in_parts([X[:40]])
    covariance = fa.moments_.scatter.copy()
    assert_refused(fa, x, match)
    np.testing.assert_array_equal(fa.moments_.scatter, covariance)
    assert_same(fa.partial_fit(X[40:]), whole())                   # and it goes on as if nothing had been
    if case != "other columns":
        assert_refused(FactorAnalysis(K), x, match)


def test_constant_so_far():
    assert_refused(FactorAnalysis(K), CONSTANT, "columns 2 are constant so far: begin with data cases")
    frame = pd.DataFrame(CONSTANT, columns=list("abcdef"))
    assert_refused(FactorAnalysis(K), frame, "columns c are constant")
    fa = in_parts([X[20:], CONSTANT], tol=1e-2)                    # it varies in the whole
    close(fa.moments_.covariance, np.cov(np.vstack([X[20:], CONSTANT]).T, bias=True), 1e-12)
    for noise in ("isotropic", 0.6):
        fa = in_parts([CONSTANT], noise=noise)
        close(fa.noise_variance_, FactorAnalysis(K, noise=noise).fit(CONSTANT).noise_variance_, 1e-12)


def test_nothing_but_constants_under_isotropic_noise():
    constants = np.tile(X[:1], (10, 1))
    with pytest.raises(ValueError, match="constant"):
        FactorAnalysis(K, noise="isotropic").fit(constants)
    assert_refused(FactorAnalysis(K, noise="isotropic"), constants, "constant")


def test_too_few_and_too_many():
    assert_refused(FactorAnalysis(K), X[:1], "the first partial_fit needs 2 data cases or more, got 1")
    assert_refused(FactorAnalysis(7), X, "n_components must be an integer >= 1 and <= 6")
    assert_refused(FactorAnalysis(0), X, "n_components")
    assert_refused(FactorAnalysis(K, tol=0), X, "tol must be a finite number > 0")
    assert_refused(FactorAnalysis(K, noise="full"), X, "noise must be")
    fa = in_parts([X[:40]])
    for name, value in (("n_components", 9), ("max_iter", 0), ("min_noise", -1.0), ("noise", "full")):
        old = fa.get_params()[name]
        assert_refused(fa.set_params(**{name: value}), X[40:], name)
        fa.set_params(**{name: old})


def test_where_there_are_no_moments_to_go_on_from():
    for options in ({"missing": "marginalise"}, {"constant": "drop"}):
        assert_refused(FactorAnalysis(K, **options), X, "partial_fit needs complete data")
    fa = FactorAnalysis(K).fit_covariance(np.cov(X.T), mean=X.mean(axis=0))
    assert_refused(fa, X, "cannot go on from this fit, which left no moments: start anew")
    gaps = np.where(np.random.default_rng(0).random(X.shape) < 0.1, np.nan, X)
    fa = FactorAnalysis(K, missing="marginalise").fit(gaps).set_params(missing="error")
    assert_refused(fa, X, "left no moments")
