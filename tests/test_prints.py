"""Results as a person reads them: tables of means with their errors, counted cases, what is left out, and a
short repr."""

from fractions import Fraction
import math

import numpy as np
import pytest

from teachvae import FactorAnalysis, VAE, datasets
from teachvae.evaluation.calibration import Calibration, calibration
from teachvae.evaluation.gaps import Gaps, Ladder
from teachvae.evaluation.nlml import NLML
from teachvae.inference.draws import Draws
from teachvae.messages import counted, fixed, on_a_page, over_cases
from teachvae.routes.factor_analysis import Scores

X = datasets.linear_gaussian(n_cases=40, n_visible=5, n_latent=2).x


def gaps(backend=None, **changed):
    """The ledger of three cases whose means have few digits."""
    fields = {
        "nlml": [1.0, 2.0, 6.0],
        "q_full": [1.25, 2.25, 6.25],
        "q_optimal": [1.25, 2.5, 6.75],
        "q_used": [2.25, 2.5, 9.75],
        "nlml_error": [1e-9, 1e-9, 5e-9],
        "approximation_error": [1e-8, 1e-8, 4e-8],
        "amortisation_error": [1e-7, 1e-7, 4e-7],
        "gradient_norm": [0.0, 0.0, 0.0],
        "phi_optimal": [[0.0, 0.0]] * 3,
        "phi_full": [[0.0, 0.0]] * 3,
    }
    asarray = np.array if backend is None else backend.asarray
    method = changed.pop("method", "grid")
    return Gaps(**{name: asarray(values) for name, values in (fields | changed).items()}, method=method)


def ladder(method="grid"):
    def column(*numbers):
        return np.array(numbers)

    return Ladder(column(1.0, 3.0), column(1.5, 3.0), column(1.75, 3.5), column(2.0, 4.0), column(1e-9, 3e-9),
                  column(1e-8, 3e-8), np.zeros((2, 4)), method)


def cells(text, name):
    """The numbers to the right of a row's name, as strings."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"{name}  ")]
    return line[len(name):].split()


# ---- the ledger


def test_the_ledger_is_a_table_of_means(backend):
    text = str(gaps(backend))
    assert text.splitlines()[0].split("  ")[0] == "nats per data case"
    assert text.splitlines()[0].split()[-4:] == ["mean", "certificate", "least", "largest"]
    assert cells(text, "NLML") == ["3.0000", "2e-09", "1.0000", "6.0000"]
    assert cells(text, "+ not Gaussian") == ["0.2500", "2e-08", "0.2500", "0.2500"]
    assert cells(text, "+ diagonal") == ["0.2500", "2e-08", "0.0000", "0.5000"]
    assert cells(text, "+ amortisation") == ["1.3333", "2e-07", "0.0000", "3.0000"]
    assert cells(text, "= Q") == ["4.8333", "–", "2.2500", "9.7500"]
    assert "over 3 data cases; NLML by the grid; certificate: the mean of the cases'" in text
    assert "left out" not in text and "lesser" not in text


def test_its_rows_add_up():
    text = str(gaps())
    names = ("NLML", "+ not Gaussian", "+ diagonal", "+ amortisation")
    total = sum(Fraction(cells(text, name)[0]) for name in names)
    assert abs(total - Fraction(cells(text, "= Q")[0])) < Fraction("0.0003")


def test_what_the_grid_refused_is_left_out_and_said():
    text = str(gaps(nlml=[1.0, np.nan, 6.0]))
    assert cells(text, "NLML") == ["3.5000", "3e-09", "1.0000", "6.0000"]
    assert cells(text, "= Q")[0] == "6.0000"
    assert "over 2 data cases" in text and "left out: 1 data case more, whose NLML the grid refused" in text
    nothing = gaps(nlml=[np.nan] * 3)
    assert cells(str(nothing), "= Q") == ["–"] * 4 and "over 0 data cases" in str(nothing)
    assert repr(nothing) == "<Gaps of 3 data cases, grid>"


def test_a_sampled_ledger_has_standard_errors():
    text = str(gaps(nlml_error=[0.1, np.inf, 0.3], method="importance"))
    assert "std. error" in text and "certificate" not in text
    assert cells(text, "NLML")[:2] == ["3.5000", "0.2"]
    assert "1 data case more, whose NLML a few draws carry" in text


def test_an_exact_ledger_has_no_error():
    text = str(gaps(method="exact"))
    assert text.splitlines()[0].split()[-3:] == ["mean", "least", "largest"] and "error" not in text
    assert cells(text, "NLML") == ["3.0000", "1.0000", "6.0000"] and "NLML in closed form" in text


def test_lesser_modes_are_counted():
    text = str(gaps(q_optimal=[1.25, 2.5, 9.0], approximation_error=[0.0, 0.0, 99.0]))
    assert "1 data case may have been left in a lesser mode" in text


def test_the_ledger_of_a_model_says_what_the_model_says():
    model = FactorAnalysis(2).fit(X)
    text = str(model.gaps(X))
    assert cells(text, "= Q")[0] == f"{model.bound(X).mean():.4f}"
    assert cells(text, "NLML")[1] == f"{model.nlml(X).values.min():.4f}"
    assert "-0.0000" not in text, "rounding has no sign"


# ---- the ladder, NLML


def test_the_ladder_goes_down_rung_by_rung():
    text = str(ladder())
    assert cells(text, "Q, diagonal q") == ["3.0000", "–", "2.0000", "4.0000"]
    assert cells(text, "− turned") == ["0.3750", "2e-08", "0.2500", "0.5000"]
    assert cells(text, "= Q, any Gaussian q")[0] == "2.6250"
    assert cells(text, "− bent")[0] == "0.3750" and cells(text, "= Q, flow")[0] == "2.2500"
    assert cells(text, "− left") == ["0.2500", "2e-08", "0.0000", "0.5000"]
    assert cells(text, "= NLML") == ["2.0000", "2e-09", "1.0000", "3.0000"]
    assert "over 2 data cases" in text and len(text.splitlines()) <= 13


def test_nlml_with_what_is_stated_of_it():
    values = np.array([1.0, 2.0, 6.0])
    text = str(NLML(values, None, np.array([1e-9, 1e-9, 4e-9]), "grid"))
    assert cells(text, "NLML") == ["3.0000", "2e-09", "1.0000", "6.0000"]
    assert "over 3 data cases; method: grid" in text and "3 of 3, at most 4e-09" in text
    sampled = NLML(values, np.array([0.1, np.inf, 0.3]), None, "importance", np.array([10.0, 1.0, 30.0]))
    assert cells(str(sampled), "NLML") == ["3.0000", "0.2", "1.0000", "6.0000"]
    assert "std. error: the mean of those that are known, 2 of 3, at most 0.3" in str(sampled)
    assert "effective sample size: mean 13.7, least 1.0" in str(sampled)
    refused = NLML(np.array([1.0, np.nan]), None, np.array([1e-9, 1.0]), "grid")
    assert cells(str(refused), "NLML")[0] == "1.0000" and "left out: 1 data case more" in str(refused)
    exact = str(NLML(values, None, None, "exact"))
    assert cells(exact, "NLML") == ["3.0000", "1.0000", "6.0000"] and "certificate" not in exact
    nothing = str(NLML(np.array([np.nan]), np.array([np.inf]), None, "importance"))
    assert "std. error: the mean of those that are known, none" in nothing


# ---- calibration, draws, scores


def test_calibration_counts_the_bins_outside_their_band():
    rng = np.random.default_rng(3)
    ranks = np.stack([rng.integers(0, 10, 400), np.minimum(rng.integers(0, 14, 400), 9)], axis=1)
    found = calibration(ranks, 9)
    outside = [
        sum(not low <= count <= high for count, low, high in zip(found.counts[:, k], *found.band))
        for k in range(2)
    ]
    assert sum(outside) > 0
    assert found.outside.tolist() == outside
    text = str(found)
    for k in range(2):
        row = cells(text, f"z_{k + 1}")
        assert row[:2] == [f"{found.statistic[k]:.2f}", f"{found.p_value[k]:.2g}"]
        assert row[2:] == [f"{found.bias[k]:+.4f}", f"{found.spread[k]:.3f}", str(outside[k]), "of", "10"]
    assert "of 400 data cases of the model's own" in text and "9 degrees of freedom" in text


def test_draws_within_and_between_cases(rng):
    z = rng.normal(size=(7, 4, 2)) * np.array([1.0, 3.0])
    text = str(Draws(z, np.array([5.0, 9.0, 9.0, 9.0]), "importance"))
    for k in range(2):
        within = np.mean([np.std([z[s, n, k] for s in range(7)]) for n in range(4)])
        between = np.std([np.mean([z[s, n, k] for s in range(7)]) for n in range(4)])
        mean = math.fsum(z[:, :, k].ravel()) / 28
        assert cells(text, f"z_{k + 1}") == [f"{v:.4f}" for v in (mean, within, between)]
    assert "7 draws for each of 4 data cases" in text and "mean 8.0, least 5.0" in text
    assert "effective" not in str(Draws(z, None, "exact"))
    assert "1 draw for each of 4" in str(Draws(z[:1], None, "exact"))


def test_scores_with_their_errors():
    scores = FactorAnalysis(2).fit(X).scores(X, "bartlett")
    text = str(scores)
    for k in range(2):
        values, errors = scores.values[:, k], scores.standard_errors[:, k]
        numbers = math.fsum(values) / 40, np.sqrt(np.mean((values - values.mean()) ** 2)), *[errors[0]] * 2
        assert cells(text, f"factor {k + 1}") == [fixed(number) for number in numbers]
    assert "over 40 data cases" in text


# ---- all of them


@pytest.mark.short
def test_every_result_of_a_model_has_a_short_repr_and_a_page():
    model = VAE(2, hidden=(4,), epochs=3).fit(X)
    results = [
        model.gaps(X[:3]), model.ladder(X[:2]), model.nlml(X[:3], n_samples=50), model.calibration(60, 9),
        model.draw(X[:3], 4), FactorAnalysis(2).fit(X).scores(X),
    ]
    assert [type(result) for result in results] == [Gaps, Ladder, NLML, Calibration, Draws, Scores]
    for result in results:
        assert repr(result).startswith(f"<{type(result).__name__}") and repr(result).endswith(">")
        assert len(repr(result)) < 110 and "\n" not in repr(result)
        lines = str(result).splitlines()
        assert 3 < len(lines) < 14 and max(map(len, lines)) <= 110
        assert len(lines[1]) == lines[1].count("-"), "a rule below the heading"
        page = result._repr_html_()
        assert page.startswith("<pre>") and page.endswith("</pre>") and page.count("<") == 2
    assert repr(gaps()) == "<Gaps of 3 data cases, grid: mean NLML 3.0000, Q 4.8333 nats>"


def test_words():
    assert [counted(n) for n in (0, 1, 2)] == ["0 data cases", "1 data case", "2 data cases"]
    assert [fixed(v) for v in (-1e-9, 0.0, -0.00006, 1.5)] == ["0.0000", "0.0000", "-0.0001", "1.5000"]
    assert on_a_page("a < b & c") == "<pre>a &lt; b &amp; c</pre>"
    none = np.array([])
    table = over_cases("nats", [("a", np.array([1.0, 2.0]), None), ("b", none, none)], "error")
    assert table.splitlines()[2].split() == ["a", "1.5000", "–", "1.0000", "2.0000"]
    assert table.splitlines()[3].split() == ["b", "–", "–", "–", "–"]
