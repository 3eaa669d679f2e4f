"""From a table to the model's columns and back: kinds by column, one-hot codes, constant columns, NaN.

First `columns.py` for itself, then through the doors of the estimators.
"""

import warnings

from hypothesis import given, strategies as st
import numpy as np
import pandas as pd
import pytest

from teachvae import FactorAnalysis, VAE, VariationalEM, likelihoods
from teachvae.doors.columns import Columns, MOST_LEVELS, MovedWarning, columns_for
from teachvae.likelihoods import (
    Bernoulli, Categorical, Gaussian, LIKELIHOODS, Mixed, Poisson, PredictedGaussian, StudentT,
    relaxed_bernoulli
)
from teachvae.routes.questions import NotALikelihoodWarning, QuadratureWarning

pytestmark = pytest.mark.short                                   # most fits here end early on purpose

ABC = list("abc")


def table(rng, n_cases=60):
    """Columns size, count, kind, flag, weight from one latent variable; kind is one of 10, 20, 35."""
    z = rng.standard_normal(n_cases)
    noise = rng.standard_normal((3, n_cases))
    return np.column_stack([
        100 + 20 * z + 5 * noise[0],
        rng.poisson(np.exp(1 + 0.5 * z)),
        np.array([10.0, 20, 35])[np.digitize(z + 0.5 * noise[1], [-0.6, 0.6])],
        (z + noise[2] > 0).astype(float),
        3 - z + rng.standard_normal(n_cases),
    ])


NAMES = ["size", "count", "kind", "flag", "weight"]
KINDS = [("gaussian", ["size", "weight"]), ("poisson", ["count"]), ("categorical", ["kind"]),
         ("bernoulli", ["flag"])]


# ---- a name, an object, a list --------------------------------------------------------------------


@pytest.mark.parametrize("name, expected", [
    ("gaussian", Gaussian(3)), ("bernoulli", Bernoulli(3)), ("poisson", Poisson(3)),
    ("student-t", StudentT(3)), ("gaussian-predicted", PredictedGaussian(3)),
    ("bernoulli-relaxed", relaxed_bernoulli(3)), ("categorical", Categorical((2, 3, 1))),
])
def test_a_name_becomes_a_likelihood_of_all_columns(name, expected):
    x = np.array([[0.0, 0, 1], [1, 0.5, 1], [0, 1, 1]])
    columns, p = columns_for(name, x, ABC)
    assert p == expected and set(columns.levels) == ({0, 1, 2} if name == "categorical" else set())
    assert len(columns.names) == p.n_visible and columns.dropped == {}


def test_every_name_of_the_table_has_been_tried():
    tried = test_a_name_becomes_a_likelihood_of_all_columns.pytestmark[0].args[1]
    assert {name for name, _ in tried} == set(LIKELIHOODS)


def test_noise_goes_to_the_gaussians():
    x = np.zeros((4, 3))
    assert columns_for("gaussian", x, ABC, "isotropic")[1] == Gaussian(3, "isotropic")
    assert columns_for("gaussian", x, ABC, 0.5)[1] == Gaussian(3, 0.5)
    assert columns_for("gaussian-predicted", x, ABC, 0.01)[1] == PredictedGaussian(3, 0.01)
    spec = [("gaussian", ["a", "b"]), ("poisson", ["c"])]
    assert columns_for(spec, x, ABC, 0.5)[1] == Mixed(((Gaussian(2, 0.5), [0, 1]), (Poisson(1), [2])))
    for spec in ("poisson", "student-t", Gaussian(3), [("poisson", [0, 1]), (Gaussian(1), [2])]):
        with pytest.raises(ValueError, match="noise=0.5 belongs to likelihood='gaussian'"):
            columns_for(spec, x, ABC, 0.5)
    with pytest.raises(ValueError, match="floor of predicted variances.*> 0"):
        columns_for("gaussian-predicted", x, ABC, "isotropic")


def test_an_object_is_taken_as_it_is_and_must_fit():
    x = np.zeros((4, 3))
    p = StudentT(3, 7.0)
    columns, found = columns_for(p, x, ABC)
    assert found is p and columns.names == ABC
    assert columns.encode(x) is x and columns.decode(x) is x
    one_hot = Categorical((1, 2))
    assert columns_for(one_hot, x, ABC)[1] is one_hot
    with pytest.raises(ValueError, match="StudentT has 3 columns, it was given 4"):
        columns_for(p, np.zeros((4, 4)), list("abcd"))
    with pytest.raises(ValueError, match="StudentT has 3 columns, it was given 2"):
        columns_for([(p, [0, 1]), ("poisson", [2])], x, ABC)


def test_columns_by_name_and_by_number_are_the_same(rng):
    x = table(rng)
    by_number = [("gaussian", [0, 4]), ("poisson", [1]), ("categorical", [2]), ("bernoulli", [3])]
    expected = Mixed((
        (Gaussian(2), [0, 6]), (Poisson(1), [1]), (Categorical((3,)), [2, 3, 4]), (Bernoulli(1), [5]),
    ))
    for spec in (KINDS, by_number, [("gaussian", ["size", 4]), *KINDS[1:]]):
        columns, p = columns_for(spec, x, NAMES)
        assert p == expected
        assert columns.names == ["size", "count", "kind = 10", "kind = 20", "kind = 35", "flag", "weight"]
        assert columns.widths() == [1, 1, 3, 1, 1] and columns.places()[2] == range(2, 5)
    assert columns_for([("gaussian", [0, 1, 2, 3, 4])], x, NAMES)[1] == Gaussian(5)
    turned = columns_for([("gaussian", [4, 3, 2, 1, 0])], x, NAMES)[1]
    assert turned == Mixed(((Gaussian(5), [4, 3, 2, 1, 0]),))


@pytest.mark.parametrize("spec, message", [
    ([("gaussian", [*"ab"])], "every column once; missing: c"),
    ([("gaussian", [*"abc"]), ("poisson", ["b"])], "every column once; twice: b"),
    ([("gaussian", [*"aa"])], "every column once; twice: a; missing: b, c"),
    ([("gaussian", [*"ab"]), ("poisson", ["b"])], "every column once; twice: b; missing: c"),
    ([], "missing: a, b, c"),
    ([("gaussian", [0, 1, 3])], "there is no column 3; the columns are a, b, c"),
    ([("gaussian", [0, 1, -1])], "there is no column -1"),
    ([("gaussian", ["a", "b", "d"])], "there is no column 'd'; the columns are a, b, c"),
    ([("gaussian", ["a", "b", True])], "there is no column True"),
    ([("gaussian", ["a", "b", 2.0])], "there is no column 2.0"),
    ([("gaussian", "abc")], "the columns of a part must be a list, got 'abc': give .'abc'."),
    ([("gaussian", ["a"], 3)], "likelihood must be one of .* got .*3"),
    ([("gaussian",)], "likelihood must be one of .* got .*gaussian"),
    (["gaussian"], "likelihood must be one of .* got .*gaussian"),
    ([(None, [*"abc"])], "likelihood must be one of .* got None"),
    (Gaussian, "likelihood must be an object, got the class Gaussian: give Gaussian"),
    ([(Gaussian, [*"abc"])], "likelihood must be an object, got the class"),
    ([("cauchy", [*"abc"])], "likelihood must be one of .*'student-t'.* got 'cauchy'"),
    ("cauchy", "likelihood must be one of .*list of .likelihood, list of columns.*got 'cauchy'"),
    (None, "likelihood must be one of .* got None"),
    (3, "likelihood must be one of .* got 3"),
    ([("gaussian", 0)], "likelihood must be one of"),
])
def test_a_likelihood_that_does_not_fit_the_columns_is_refused(spec, message):
    with pytest.raises(ValueError, match=message):
        columns_for(spec, np.zeros((4, 3)), ABC)


def test_columns_may_be_numpy_integers():
    x = np.arange(12.0).reshape(4, 3) % 5
    spec = [("gaussian", np.array([0, 2])), ("poisson", [np.int64(1)])]
    plain = [("gaussian", ["a", "c"]), ("poisson", ["b"])]
    assert columns_for(spec, x, ABC)[1] == columns_for(plain, x, ABC)[1]


# ---- one-hot ---------------------------------------------------------------------------------------


@st.composite
def tables(draw):
    """A table of few values, NaN among them, which columns are categories, and which are constant."""
    n, kinds = draw(st.integers(1, 6)), draw(st.lists(st.sampled_from("cnk"), min_size=1, max_size=5))
    size = {"min_size": n * len(kinds), "max_size": n * len(kinds)}
    x = np.array(draw(st.lists(st.sampled_from([-3.0, 0.0, 0.1, 2.0, 1e6]), **size))).reshape(n, -1)
    for d, kind in enumerate(kinds):
        if kind == "k":
            x[:, d] = x[0, d]
    holes = np.array(draw(st.lists(st.booleans(), **size))).reshape(n, -1)
    return x, kinds, holes, draw(st.sampled_from(["float64", "float32"]))


@given(tables())
def test_decode_undoes_encode(case):
    x, kinds, holes, dtype = case
    x = x.astype(dtype)
    levels = {d: np.unique(x[:, d]) for d, kind in enumerate(kinds) if kind == "c"}
    dropped = {d: x[0, d] for d, kind in enumerate(kinds) if kind == "k"}
    columns = Columns(list(range(x.shape[1])), dropped, levels)
    if len(dropped) == len(kinds):
        return
    v = columns.encode(x)
    assert v.dtype == dtype and v.shape == (len(x), sum(columns.widths())) == (len(x), len(columns.names))
    assert columns.decode(v).dtype == dtype
    np.testing.assert_array_equal(columns.decode(v), x)
    np.testing.assert_array_equal(columns.decode(np.stack([v, v]))[1], x)        # any leading axes
    for d, place in enumerate(columns.places()):
        block = v[:, place.start : place.stop]
        if d in levels:
            np.testing.assert_array_equal(block, x[:, [d]] == levels[d])
        elif d not in dropped:
            np.testing.assert_array_equal(block[:, 0], x[:, d])

    missing = np.where(holes, np.nan, x).astype(dtype)
    v = columns.encode(missing)
    filled, mask = columns.complete(v)
    assert filled.dtype == mask.dtype == v.dtype == dtype and np.isfinite(filled).all()
    for d, place in enumerate(columns.places()):                   # a category's whole block is masked
        block = mask[:, place.start : place.stop]
        np.testing.assert_array_equal(block, ~holes[:, [d]] + np.zeros(len(place)))
    np.testing.assert_array_equal(np.where(mask == 1, filled, np.nan), v)
    np.testing.assert_array_equal(filled[mask == 0], 0)
    columns.fill = np.arange(float(v.shape[1])) + 5
    np.testing.assert_array_equal(columns.complete(v)[0], np.where(mask == 1, v, columns.fill.astype(dtype)))


def test_the_most_probable_category_is_decoded():
    columns = Columns(["kind", "x"], {}, {0: np.array([10.0, 20, 35])})
    v = np.array([[0.2, 0.5, 0.3, 7.5], [0.1, 0.2, 0.7, -1], [0.6, 0, 0.4, 0]])
    np.testing.assert_array_equal(columns.decode(v), [[20, 7.5], [35, -1], [10, 0]])
    assert columns.decode(v.astype("float32")).dtype == np.float32


def test_an_unknown_category_is_refused_with_its_cell():
    columns = Columns(["x", "kind"], {}, {1: np.array([1.0, 2.5])})
    x = np.array([[9.0, 1], [9, 2.5], [9, np.nan], [9, 3], [9, 4]])
    columns.encode(x[:3])
    message = r"column kind has the category 3 in row 3, which is none of those that are known: 1, 2.5;"
    with pytest.raises(ValueError, match=message):
        columns.encode(x)


@pytest.mark.parametrize("fitted, asked", [("float32", "float64"), ("float64", "float32")])
def test_a_category_is_known_in_the_other_precision(fitted, asked):
    x = np.array([[0.1, 5], [0.2, 5], [np.nan, 5]])
    columns = columns_for([("categorical", [0]), ("gaussian", [1])], x.astype(fitted), ["a", "b"])[0]
    np.testing.assert_array_equal(columns.encode(x.astype(asked)), columns.encode(x.astype(fitted)))
    with pytest.raises(ValueError, match="category 0.3 in row 1, .* known: 0.1, 0.2;"):
        columns.encode(np.array([[0.1, 5], [0.3, 5]]).astype(asked))
    with pytest.raises(ValueError, match="category inf|category 1e"):
        columns.encode(np.array([[1e100, 5]]))
    named = columns_for(likelihoods.Categories([[0.1, 0.2], [5]]), x.astype(asked), ["a", "b"])[0]
    assert np.nansum(named.encode(x.astype(asked))[:2], axis=1).tolist() == [2, 2]


def test_categories_that_the_coarser_precision_merges_are_told_by_their_digits():
    x = np.array([[0.1], [0.1 + 1e-12], [0.2]])
    columns = columns_for("categorical", x, ["a"])[0]
    assert (columns.encode(x) == np.eye(3)).all()
    message = r"category 0.10000000149011612 in row 0, .* known: 0.1, 0.10000000000100001, 0.2;"
    with pytest.raises(ValueError, match=message):
        columns.encode(x.astype("float32"))


def test_a_constant_is_the_same_in_the_other_precision():
    columns = Columns(["a", "b"], {0: np.float32(0.1)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        columns.warn_of_moved(np.full((3, 2), 0.1))
        Columns(["a", "b"], {0: 0.1}).warn_of_moved(np.full((3, 2), 0.1, "float32"))
    with pytest.warns(MovedWarning, match="columns a were constant"):
        columns.warn_of_moved(np.full((3, 2), 0.1001))


def test_a_column_of_numbers_is_no_column_of_categories(rng):
    x = np.column_stack([np.arange(MOST_LEVELS + 1.0), np.zeros(MOST_LEVELS + 1)])
    columns, p = columns_for("categorical", x[1:], ["id", "zero"])
    assert p == Categorical((MOST_LEVELS, 1))
    with pytest.raises(ValueError, match="column id has 257 different values, .* has 1 to 256"):
        columns_for("categorical", x, ["id", "zero"])
    x[1:, 1] = np.nan
    assert columns_for("categorical", x[:5], ["id", "zero"])[1] == Categorical((5, 1))
    with pytest.raises(ValueError, match="column zero has 0 different values"):
        columns_for("categorical", x[1:5], ["id", "zero"])


# ---- constant columns ------------------------------------------------------------------------------


def still_columns(rng):
    """(30, 4) whose columns b and d do not vary, b with a hole in its first row."""
    x = rng.standard_normal((30, 4))
    x[:, 1], x[:, 3] = 7.0, -2.0
    x[0, 1] = np.nan
    return x


@pytest.mark.parametrize("name, expected", [("gaussian", Gaussian(2)), ("student-t", StudentT(2))])
def test_constant_columns_are_set_aside_where_asked_for(name, expected, rng):
    x = still_columns(rng)
    columns, p = columns_for(name, x, list("abcd"), constant="drop")
    assert p == expected and columns.dropped == {1: 7.0, 3: -2.0} and columns.names == ["a", "c"]
    np.testing.assert_array_equal(columns.encode(x), x[:, [0, 2]])
    np.testing.assert_array_equal(columns.decode(x[:, [0, 2]])[1:], x[1:])
    assert columns_for(name, x, list("abcd"))[0].dropped == {}
    with pytest.raises(ValueError, match="all 2 columns are constant"):
        columns_for(name, x[:, [1, 3]], list("bd"), constant="drop")


@pytest.mark.parametrize("make", [Gaussian, StudentT])
def test_constant_columns_are_set_aside_of_a_likelihood_given_as_an_object(make, rng):
    x = rng.normal(size=(20, 3))
    x[:, 1] = 4.0
    for spec in (make(3), make(2)):
        columns, likelihood = columns_for(spec, x, ABC, constant="drop")
        assert likelihood == make(2) and columns.dropped == {1: 4.0}
    with pytest.raises(ValueError, match="has 4 columns, it was given 3"):
        columns_for(make(4), x, ABC, constant="drop")


def test_another_value_in_a_column_set_aside_warns(rng):
    x = rng.normal(size=(20, 3))
    x[:, 1] = 4.0
    with pytest.warns(UserWarning, match="constant columns are set aside: 1"):
        model = FactorAnalysis(1, constant="drop").fit(x)
    same = model.transform(x)
    x[3, 1] = 5.0
    with pytest.warns(UserWarning, match="columns 1 were constant in the training data.*not looked at"):
        assert (model.transform(x) == same).all()
    x[3, 1] = np.nan
    with pytest.warns(UserWarning, match="were constant"):
        x[4, 1] = 5.0
        model.impute(x)


def test_partial_fit_names_the_columns_set_aside(rng):
    x = rng.normal(size=(20, 3))
    x[:, 1] = 4.0
    with pytest.warns(UserWarning, match="set aside"):
        model = FactorAnalysis(1, constant="drop").fit(x)
    with pytest.raises(ValueError, match="constant='drop', which set columns 1 aside"):
        model.set_params(constant="error").partial_fit(x)


def test_levels_that_are_near_each_other_keep_their_own_names():
    x = np.array([[1.0000001], [1.0000002], [3.0]])
    names = columns_for("categorical", x, ["a"])[0].names
    assert names == ["a = 1.0000001", "a = 1.0000002", "a = 3"]


def test_a_missing_entry_of_a_data_frame_is_nan():
    x = pd.DataFrame({"a": [1.0, None, 3.0, 0.5], "b": [2.0, 1.0, 0.0, 1.5]}).astype("Float64")
    model = FactorAnalysis(1, missing="marginalise").fit(x)
    as_array = FactorAnalysis(1, missing="marginalise").fit(x.to_numpy("float64", na_value=np.nan))
    assert (model.mean_ == as_array.mean_).all()
    with pytest.raises(ValueError, match="1 NaN and 0 infinity entries, the first in row 1, column a"):
        FactorAnalysis(1).fit(x)


def test_only_columns_under_a_learnt_diagonal_psi_are_set_aside(rng):
    x = still_columns(rng)
    spec = [("gaussian", [0, 1]), ("poisson", [3]), ("student-t", [2])]
    columns, p = columns_for(spec, x, list("abcd"), constant="drop")
    assert columns.dropped == {1: 7.0}
    assert p == Mixed(((Gaussian(1), [0]), (Poisson(1), [2]), (StudentT(1), [1])))
    columns, p = columns_for([("gaussian", [1, 3]), ("poisson", [0, 2])], x, list("abcd"), constant="drop")
    assert p == Poisson(2) and columns.dropped == {1: 7.0, 3: -2.0}
    for noise in ("isotropic", 0.5):
        assert columns_for("gaussian", x, list("abcd"), noise, "drop")[1] == Gaussian(4, noise)
    assert columns_for("gaussian-predicted", x, list("abcd"), constant="drop")[1] == PredictedGaussian(4)
    for constant in ("keep", None, True):
        with pytest.raises(ValueError, match="constant must be 'error' or 'drop', got"):
            columns_for("gaussian", x, list("abcd"), constant=constant)


ROUTES = {
    "FactorAnalysis": lambda **o: FactorAnalysis(1, **o),
    "VariationalEM, linear": lambda **o: VariationalEM(1, hidden=(), **o),
    "VariationalEM": lambda **o: VariationalEM(1, hidden=(4,), epochs=2, **o),
    "VAE": lambda **o: VAE(1, hidden=(4,), epochs=5, **o),
}


@pytest.mark.parametrize("missing", ["error", "marginalise"])
@pytest.mark.parametrize("route", ROUTES)
def test_a_fit_without_the_constant_columns_is_the_same_fit(route, missing, rng):
    make, x = ROUTES[route], rng.standard_normal((40, 1)) * [1, 0, 2, -1, 0] + rng.standard_normal((40, 5))
    x[:, 1], x[:, 4] = 7.0, -2.0
    if missing == "marginalise":
        x[rng.random(x.shape) < 0.1] = np.nan
        x[:5] = np.where(np.isnan(x[:5]), 7.0, x[:5])
        x[:5, 4] = -2.0
    few = x[:, [0, 2, 3]]
    with pytest.raises(ValueError, match="2 of 5 columns are constant: 1, 4;.*constant='drop'"):
        make(missing=missing).fit(x)
    with pytest.warns(UserWarning, match="constant columns are set aside: 1, 4") as caught:
        fitted = make(missing=missing, constant="drop").fit(x)
    aside = [one for one in caught if "training ended" not in str(one.message)]  # its five epochs are few
    assert len(aside) == 1 and aside[0].filename == __file__
    plain = make(missing=missing).fit(few)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "training ended")
        same = make(missing=missing, constant="drop").fit(few)
    np.testing.assert_array_equal(same.bound(few), plain.bound(few))
    assert fitted.n_features_in_ == 5
    np.testing.assert_array_equal(fitted.bound(x), plain.bound(few))
    np.testing.assert_array_equal(fitted.transform(x), plain.transform(few))
    np.testing.assert_array_equal(fitted.nlml(x).values, plain.nlml(few).values)
    pairs = [(fitted.sample(9, random_state=3), plain.sample(9, random_state=3)),
             (fitted.decode(np.ones((3, 1))), plain.decode(np.ones((3, 1)))),
             (fitted.reconstruct(x), plain.reconstruct(few)), (fitted.impute(x), plain.impute(few))]
    for whole, part in pairs:
        np.testing.assert_array_equal(whole[:, [0, 2, 3]], part)
        np.testing.assert_array_equal(whole[:, [1, 4]], np.tile([7.0, -2.0], (len(whole), 1)))
    with pytest.raises(ValueError, match="X has 3 features, but .* is expecting 5"):
        fitted.transform(few)


@pytest.mark.parametrize("make", [
    lambda **o: VAE(1, hidden=(3,), epochs=2, **o), lambda **o: VariationalEM(1, hidden=(), epochs=2, **o),
], ids=["VAE", "VariationalEM"])
@pytest.mark.parametrize("spec", [
    "bernoulli", "poisson", "gaussian-predicted", "categorical", "bernoulli-relaxed",
    ("gaussian", "isotropic"), ("gaussian", 0.5),
])
def test_every_other_likelihood_takes_constant_columns(make, spec, rng):
    x = (rng.random((30, 4)) < 0.4).astype(float)
    x[:, 1], x[:, 3] = 0, 1
    name, noise = spec if isinstance(spec, tuple) else (spec, "diagonal")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="variational EM stopped|not a likelihood")
        fitted = make(likelihood=name, noise=noise).fit(x)
        assert np.isfinite(fitted.bound(x)).all()
        draws = fitted.sample(20, random_state=0)
    assert fitted.reconstruct(x).shape == x.shape
    if name in ("categorical", "bernoulli"):
        assert set(np.unique(draws)) <= {0, 1}
    if name == "categorical":
        np.testing.assert_array_equal(draws[:, [1, 3]], np.tile([0.0, 1], (20, 1)))


# ---- each likelihood through the doors -------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("hidden", [(), (5,)], ids=["linear", "tanh"])
@pytest.mark.parametrize("route", [VAE, VariationalEM])
@pytest.mark.parametrize("name", [*LIKELIHOODS, "mixed"])
@pytest.mark.filterwarnings("ignore:not a likelihood:teachvae.routes.questions.NotALikelihoodWarning")
@pytest.mark.filterwarnings("ignore:variational EM stopped")
@pytest.mark.filterwarnings("ignore:the sampled:teachvae.evaluation.nlml.FewDrawsWarning")
def test_each_likelihood_is_fitted_and_draws_in_its_range(name, route, hidden, dtype, rng):
    mixed = table(rng)
    counts, bits, kinds = mixed[:, [1, 1, 1]], mixed[:, [3, 3, 3]], mixed[:, [2, 3, 2]]
    grey = 1 / (1 + np.exp(mixed[:, [4, 4, 0]] / [1, 2, 100]))
    x = {"bernoulli": bits, "bernoulli-relaxed": grey, "poisson": counts, "categorical": kinds,
         "mixed": mixed}.get(name, mixed[:, [0, 4]] + [0.0, 1])
    if name in ("bernoulli", "poisson", "categorical"):
        x = x + 0.0
        x[:, 1] = x[::-1, 1]
    x = x.astype(dtype)
    spec = [(kind, [NAMES.index(c) for c in columns]) for kind, columns in KINDS] if name == "mixed" else name
    fitted = route(1, hidden=hidden, likelihood=spec, epochs=1).fit(x)
    D = x.shape[1]
    Q, draws, mean = fitted.bound(x), fitted.sample(300, random_state=0), fitted.reconstruct(x)
    assert Q.shape == (60,) and draws.shape == (300, D) and mean.shape == (60, D)
    whole = fitted.impute(np.where(np.eye(60, D) == 1, np.nan, x))
    for array in (Q, draws, mean, whole, fitted.transform(x)):
        assert array.dtype == dtype and np.isfinite(array).all()
    assert fitted.theta_["decoder"][-1]["b"].dtype == dtype
    refused = {"bernoulli": lambda a: ~np.isin(a, [0, 1]), "poisson": lambda a: (a < 0) | (a != np.floor(a)),
               "bernoulli-relaxed": lambda a: ~np.isin(a, [0, 1])}
    if name in refused:
        assert not refused[name](draws).any()
    for d in {"categorical": (0, 1, 2), "mixed": (2,)}.get(name, ()):
        for array in (draws, mean, whole):
            assert set(array[:, d]) <= set(x[:, d])
    if name == "mixed":
        assert set(draws[:, 3]) == {0, 1} and (draws[:, 1] == np.floor(draws[:, 1])).all()
    assert np.isfinite(fitted.score(x))
    with pytest.raises(ValueError, match=f"X has {D + 1} features"):
        fitted.bound(np.column_stack([x, x[:, 0]]))


def test_training_on_mixed_columns_finds_what_they_share(rng):
    """Q ≥ nlml on a grid; far below a model without z; the latent variable follows the one that was drawn."""
    x = table(rng, 150)
    fitted = VariationalEM(1, hidden=(), likelihood=KINDS, epochs=12, learning_rate=1e-2)
    fitted.fit(pd.DataFrame(x, columns=NAMES))
    values = fitted.nlml(x, "grid").values
    assert (fitted.bound(x) >= values - 1e-6).all()
    p, v = fitted.model_.likelihood, fitted.columns_.encode(x)
    f, params = p.start(v.mean(axis=0), v.var(axis=0))
    alone = -p.forward(params, f + np.zeros((1, 150, p.n_f)), v)[0].mean()
    assert fitted.bound(x).mean() < alone - 0.5
    code = fitted.transform(x)[:, 0]
    assert abs(np.corrcoef(code, x[:, 0])[0, 1]) > 0.8 and abs(np.corrcoef(code, x[:, 2])[0, 1]) > 0.6


@pytest.mark.parametrize("route", [VAE, VariationalEM])
def test_frames_and_arrays_by_name_and_number_are_the_same_fit(route, rng):
    x = table(rng)
    frame = pd.DataFrame(x, columns=NAMES).astype({"count": "int64", "flag": bool})
    numbered = [(kind, [NAMES.index(c) for c in columns]) for kind, columns in KINDS]
    options = {"hidden": (3,), "epochs": 2}
    one = route(1, likelihood=KINDS, **options).fit(frame)
    two = route(1, likelihood=numbered, **options).fit(x)
    three = route(1, likelihood=numbered, **options).fit(frame)
    for other in (two, three):
        np.testing.assert_array_equal(one.bound(frame), other.bound(frame if other is three else x))
    np.testing.assert_array_equal(one.sample(5, random_state=0), two.sample(5, random_state=0))
    assert list(one.feature_names_in_) == NAMES
    with pytest.raises(ValueError, match="there is no column 'size'; the columns are 0, 1, 2, 3, 4"):
        route(1, likelihood=KINDS, **options).fit(x)
    x[4, 2] = 36
    for ask in (one.bound, one.transform, one.reconstruct, one.nlml, one.impute):
        with pytest.raises(ValueError, match="column kind has the category 36 in row 4, .*: 10, 20, 35;"):
            ask(pd.DataFrame(x, columns=NAMES))
    x[4, 2], x[7, 3] = 35, 2
    with pytest.raises(ValueError, match="row 7, column flag"):
        one.bound(pd.DataFrame(x, columns=NAMES))


@pytest.mark.parametrize("labels", [[1, 0], [1.0, 0.0], [3, 0], pd.to_datetime(["2020-01-01", "2021-01-01"])])
def test_a_label_of_a_frame_is_its_column_wherever_it_stands(labels, rng):
    kinds, counts = rng.integers(0, 3, 40), rng.poisson(5, 40)
    frame = pd.DataFrame(np.column_stack([counts, kinds]), columns=labels)
    first, second = frame.columns
    for spec in ([("poisson", [first]), ("categorical", [second])],
                 [("categorical", [str(second)]), ("poisson", [str(first)])]):
        columns = VAE(1, likelihood=spec, epochs=1, hidden=(3,)).fit(frame).columns_
        assert list(columns.levels) == [1] and columns.levels[1].tolist() == [0, 1, 2]


def test_a_number_is_no_place_where_labels_are_numbers(rng):
    frame = pd.DataFrame(rng.poisson(5, (40, 3)), columns=[2, 7, 0])
    with pytest.raises(ValueError, match="there is no column 1; the columns are 2, 7, 0"):
        VAE(1, likelihood=[("gaussian", [0, 1]), ("poisson", [2])], epochs=1).fit(frame)
    frame.columns = ["1", "0", "a"]                                # of text: numbers are places
    fitted = VAE(1, likelihood=[("gaussian", [0, 2]), ("categorical", [1])], epochs=1).fit(frame)
    assert list(fitted.columns_.levels) == [1]


@pytest.mark.parametrize("name", ["a", 7])
def test_two_columns_of_one_name_are_said_to_be_two(name, rng):
    frame = pd.DataFrame(rng.poisson(5, (40, 3)), columns=[name, name, "b"])
    with pytest.raises(ValueError, match=f"2 columns bear the name {name!r}; .*: rename them"):
        VAE(1, likelihood=[("gaussian", [name, "b"])], epochs=1).fit(frame)
    assert VAE(1, likelihood="poisson", epochs=1, hidden=(3,)).fit(frame).n_features_in_ == 3


def test_a_mask_is_no_list_of_columns():
    for mask in (np.array([True, False, False]), [True, False, False]):
        for names in (ABC, [0, 1, 2]):
            with pytest.raises(ValueError, match="there is no column (np.)?True"):
                columns_for([("gaussian", mask), ("poisson", [1, 2])], np.zeros((4, 3)), names)


@pytest.mark.parametrize("route", [VAE, VariationalEM])
def test_a_category_coded_by_hand_is_the_same_model(route, rng):
    x = table(rng)[:, [2, 4]]
    one_hot = np.column_stack([x[:, [0]] == np.array([10.0, 20, 35]), x[:, 1]])
    options = {"hidden": (3,), "epochs": 2}
    one = route(1, likelihood=[("categorical", [0]), ("gaussian", [1])], **options).fit(x)
    two = route(1, likelihood=[(Categorical((3,)), [0, 1, 2]), (Gaussian(1), [3])], **options).fit(one_hot)
    np.testing.assert_array_equal(one.bound(x), two.bound(one_hot))
    draws = one.columns_.encode(one.sample(9, random_state=0))
    np.testing.assert_array_equal(draws, two.sample(9, random_state=0))
    assert two.reconstruct(one_hot)[:, :3].sum(axis=1) == pytest.approx(1)
    one_hot[3, 0] = 1 - one_hot[3, 0]
    with pytest.raises(ValueError, match="one-hot columns.* 0, 1, 2; row 3 has"):
        two.bound(one_hot)


@pytest.mark.parametrize("hidden", [(), (4,)], ids=["linear", "tanh"])
@pytest.mark.parametrize("route", [VAE, VariationalEM])
def test_a_missing_category_is_missing_in_all_of_its_columns(route, hidden, rng):
    """Its log p is that of the other columns alone, on a plain grid; and it is imputed by a category."""
    x = table(rng)
    x[rng.random(x.shape) < 0.15] = np.nan
    x[0], x[1, 2] = np.nan, np.nan                                 # of the first case nothing is known
    kinds = [(kind, [NAMES.index(c) for c in columns]) for kind, columns in KINDS]
    fitted = route(1, hidden=hidden, likelihood=kinds, missing="marginalise", epochs=4).fit(x)
    p, params = fitted.model_.likelihood, fitted.theta_["likelihood"]
    z = np.linspace(-9, 9, 2001)
    f, _ = fitted.model_.decoder.forward(fitted.theta_["decoder"], z[:, None])
    v = fitted.columns_.encode(x)
    np.testing.assert_array_equal(np.isnan(v[:, 2:5]), np.tile(np.isnan(x[:, [2]]), (1, 3)))
    mask = ~np.isnan(v)
    every_f, seen = f[:, None, :] + np.zeros((60, 1)), mask.astype(float)
    log_p, _ = p.forward(params, every_f, np.where(mask, v, 0.0), seen)
    weight = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi) * (z[1] - z[0])
    expected = -np.log(weight @ np.exp(log_p))
    np.testing.assert_allclose(fitted.nlml(x, "grid").values, expected, atol=1e-5)
    assert (fitted.bound(x) >= expected - 1e-6).all() and abs(expected[0]) < 1e-6
    whole = fitted.impute(x)
    np.testing.assert_array_equal(whole[~np.isnan(x)], x[~np.isnan(x)])
    assert np.isfinite(whole).all() and set(whole[:, 2]) <= {10, 20, 35}
    with pytest.raises(ValueError, match="missing='marginalise'"):
        route(1, likelihood=kinds).fit(x)
    x[:, 3] = np.nan
    with pytest.raises(ValueError, match="nothing was observed of columns 3: drop them"):
        route(1, likelihood=kinds, missing="marginalise").fit(x)


@pytest.mark.parametrize("missing", ["error", "marginalise"])
@pytest.mark.parametrize("spec", ["bernoulli-relaxed", [("gaussian", [2]), ("bernoulli-relaxed", [0, 1])]])
def test_what_is_no_likelihood_says_so_wherever_it_is_asked_for_one(spec, missing, rng):
    x = rng.random((20, 3))
    vae = VAE(1, hidden=(3,), epochs=2, likelihood=spec, missing=missing).fit(x)
    for ask in (vae.bound, vae.nlml, vae.score, vae.score_samples, vae.gaps, vae.kl_to_posterior):
        with pytest.warns(NotALikelihoodWarning, match="does not integrate to one"):
            ask(x[:3])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", QuadratureWarning)
        for ask in (vae.transform, vae.reconstruct, vae.encode):
            ask(x)
        vae.sample(3)
        VAE(1, hidden=(3,), epochs=1, likelihood="bernoulli").fit(x > 0.5).bound(x > 0.5)
    for value in (-0.1, 1.1):
        with pytest.raises(ValueError, match="grey values from 0 to 1"):
            vae.bound(np.where(np.arange(3) == 1, value, x))


# ---- categories that are named -------------------------------------------------------------------


def test_named_categories_need_not_be_seen_in_training():
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.integers(0, 3, 60), rng.integers(0, 2, 60)]) * 1.0
    levels = likelihoods.Categories([[2, 1, 0, 5], (1, 0)])
    assert levels.levels == ((0, 1, 2, 5), (0, 1))
    for model in (VAE(1, hidden=(4,), epochs=3, likelihood=levels),
                  VariationalEM(1, hidden=(4,), epochs=3, likelihood=levels),
                  VAE(1, hidden=(4,), epochs=3, likelihood=[(likelihoods.Categories([levels.levels[0]]), [0]),
                                                           ("categorical", [1])])):
        model.fit(x)
        assert model.theta_["decoder"][-1]["b"].shape == (6,)
        new = np.array([[5.0, 1.0], [2.0, 0.0]])
        nats = model.nlml(new, method="grid").values
        assert nats[0] > nats[1] and np.isfinite(nats).all()
        # p(x) of all 4 · 2 tables of one row sums to one
        all_rows = np.array([[a, b] for a in (0, 1, 2, 5) for b in (0, 1)], float)
        assert np.exp(-model.nlml(all_rows, method="grid").values).sum() == pytest.approx(1, abs=1e-6)
        with pytest.raises(ValueError, match="category 3 in row 1, which is none of those .*: 0, 1, 2, 5;"):
            model.bound(np.array([[0.0, 0.0], [3.0, 0.0]]))
    seen = VAE(1, hidden=(4,), epochs=3, likelihood="categorical").fit(x)
    named = VAE(1, hidden=(4,), epochs=3, likelihood=likelihoods.Categories([(0, 1, 2), (0, 1)])).fit(x)
    np.testing.assert_array_equal(seen.bound(x), named.bound(x))


@pytest.mark.parametrize("levels", [(), ((),), (1, 2), [["a"]], [[1, 1]], [[np.nan, 1]], None])
def test_categories_refuse(levels):
    with pytest.raises(ValueError, match="levels must hold every column's categories"):
        likelihoods.Categories(levels)


def test_categories_of_other_columns_are_refused():
    with pytest.raises(ValueError, match="Categories has the levels of 1 columns, it was given 2"):
        VAE(1, likelihood=likelihoods.Categories([(0, 1)])).fit(np.zeros((4, 2)))
