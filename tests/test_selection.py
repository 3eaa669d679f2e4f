"""The choice of K: data whose K is known, BIC from nlml, parts left out by hand."""

import io
import math

from matplotlib import image
import numpy as np
import pytest

from teachvae import FactorAnalysis, datasets, plots, select_n_components
from teachvae.routes.conventions import quietly

X = datasets.linear_gaussian(n_cases=200, n_visible=8, n_latent=2).x


@pytest.fixture(scope="module")
def by_bic():
    return select_n_components(X, range(1, 5))


@pytest.fixture(scope="module")
def by_held_out():
    return select_n_components(X, (3, 1, 2), by="held out", n_folds=4, random_state=1, tol=1e-3)


@pytest.mark.parametrize("n_latent", [1, 3])
def test_the_k_that_made_the_data_is_found(n_latent):
    x = datasets.linear_gaussian(n_cases=600, n_visible=8, n_latent=n_latent).x
    assert select_n_components(x, range(1, 5)).n_components == n_latent
    assert select_n_components(x, [1, 2, 3], by="held out", n_folds=2, tol=1e-3).n_components >= n_latent


def test_bic_from_the_sum_of_nlml(by_bic):
    assert by_bic.n_components == 2 and [row.n_components for row in by_bic.rows] == [1, 2, 3, 4]
    for row in by_bic.rows:
        K = row.n_components
        total = quietly(FactorAnalysis(K, tol=1e-5, random_state=0).fit, X).nlml(X).values.sum()
        k = 8 * K - K * (K - 1) // 2 + 16
        assert row.n_parameters == k and row.nlml == pytest.approx(total / 200, abs=1e-9)
        assert row.value == pytest.approx(2 * total + k * math.log(200), abs=1e-6)
        assert row.above == pytest.approx(row.value - by_bic.rows[1].value, abs=1e-9) and row.error is None


def test_held_out_nlml_by_hand(by_held_out):
    """Every case once, under the fit to the parts that it is not in; errors of differences, case by case."""
    part = np.random.default_rng(1).permutation(200) % 4
    nlml = np.empty((3, 200))
    for fold in range(4):
        for K in (1, 2, 3):
            fa = quietly(FactorAnalysis(K, tol=1e-3, random_state=1).fit, X[part != fold])
            nlml[K - 1, part == fold] = fa.nlml(X[part == fold]).values
    assert by_held_out.n_components == 1 + nlml.mean(axis=1).argmin()
    best = nlml[by_held_out.n_components - 1]
    for row, own in zip(by_held_out.rows, nlml, strict=True):
        assert row.value == pytest.approx(own.mean(), abs=1e-12)
        assert row.above == pytest.approx((own - best).mean(), abs=1e-12)
        assert row.error == pytest.approx((own - best).std(ddof=1) / math.sqrt(200), abs=1e-12)
        assert row.value > row.nlml - 0.2


def test_the_table(by_bic, by_held_out):
    head, rule, *lines, chosen = str(by_bic).splitlines()
    assert head.split() == "K parameters nlml bic above the least".split() and set(rule) == {"-"}
    assert [line.split()[:2] for line in lines] == [["1", "24"], ["2", "31"], ["3", "37"], ["4", "42"]]
    assert lines[1].split()[4] == "0.00" and chosen == "chosen: K = 2, by BIC"
    assert str(by_held_out).splitlines()[-1].endswith("by nlml held out, nats per data case")
    assert all("±" in line for line in str(by_held_out).splitlines()[2:-1])


def test_the_figure_shows_values_and_choice(by_bic, by_held_out):
    for selection in (by_bic, by_held_out):
        figure = selection.figure()
        (ax,) = figure.axes
        values, mark = ax.lines[0], ax.lines[-1]
        assert values.get_xdata().tolist() == [row.n_components for row in selection.rows]
        assert [float(v) for v in values.get_ydata()] == [row.value for row in selection.rows]
        assert [float(v) for v in mark.get_xdata()] == [selection.n_components]
        assert float(mark.get_ydata()[0]) == min(row.value for row in selection.rows)
        assert len(ax.collections) == (selection is by_held_out), "bars of the errors"
        drawn = image.imread(io.BytesIO(plots.png(figure)))[..., :3]
        assert drawn.min() < 0.5 < drawn.max()


def test_a_heywood_case_is_marked_and_not_warned_of():
    x = np.column_stack([X[:, 0], X[:, 0] + 1e-4 * X[:, 1], X[:, 2:6]])
    selection = select_n_components(x, [1, 2], tol=1e-8)
    assert any("Heywood case" in row.remark for row in selection.rows)
    assert "Heywood case" in str(selection)
    assert {row.remark for row in select_n_components(X, [1, 2], max_iter=1).rows} == {"not converged"}


def test_options_reach_the_fits():
    isotropic = select_n_components(X, [1, 2], noise="isotropic")
    assert [row.n_parameters for row in isotropic.rows] == [8 + 1 + 8, 16 - 1 + 1 + 8]
    x = X.copy()
    x[3, 2] = np.nan
    for by in ("bic", "held out"):
        found = select_n_components(x, [1, 2], by=by, missing="marginalise", tol=1e-2, n_folds=2)
        assert found.n_components == 2
    with pytest.raises(ValueError, match="NaN"):
        select_n_components(x, [1, 2])


@pytest.mark.parametrize("arguments, message", [
    ({"candidates": 3}, r"candidates must be several numbers of factors, such as range\(1, 6\), got 3"),
    ({"candidates": []}, r"candidates must be several numbers of factors, such as range\(1, 6\), got \[\]"),
    ({"candidates": "12"}, r"candidates must be several numbers of factors.*got '12'"),
    ({"candidates": [0, 1]}, r"a candidate must be an integer >= 1 and <= 8 \(X has 8 columns\), got 0"),
    ({"candidates": [1, 9]}, r"a candidate must be an integer >= 1 and <= 8 \(X has 8 columns\), got 9"),
    ({"candidates": [1.5]}, r"a candidate must be an integer.*got 1.5"),
    ({"candidates": [1, 5]}, r"5 factors of 8 columns have more .* entries: give candidates up to 4, or by="),
    ({"candidates": [1], "by": "aic"}, r"by must be one of \['bic', 'held out'\], got 'aic'"),
    ({"candidates": [1], "by": "held out", "n_folds": 1}, r"n_folds must be .* >= 2 and <= 200.*got 1"),
    ({"candidates": [1], "by": "held out", "n_folds": 201}, r"n_folds must be .* >= 2 and <= 200.*got 201"),
])
def test_wrong_questions(arguments, message):
    with pytest.raises(ValueError, match=message):
        select_n_components(X, **arguments)


def test_bic_goes_up_to_as_many_parameters_as_a_covariance_has_entries():
    """Of 6 columns 3 factors have 21, all; of 7 columns 3 have 25 of 28, 4 one too many."""
    assert select_n_components(X[:, :6], [3], tol=1e-2).n_components == 3
    with pytest.raises(ValueError, match="4 factors of 7 columns have more.*give candidates up to 3"):
        select_n_components(X[:, :7], [3, 4])


def test_an_option_that_is_none_is_told():
    with pytest.raises(TypeError, match="hidden"):
        select_n_components(X, [1], hidden=(3,))
