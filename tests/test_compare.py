"""The comparison, its table, its report and the command line: what a person runs and looks at."""

import base64
from dataclasses import replace
from html.parser import HTMLParser
import inspect
import io
import json
import re
import subprocess
import sys
from types import SimpleNamespace

from matplotlib import image, rc_context
from matplotlib.markers import MarkerStyle
import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from teachvae import cli, datasets, plots
from teachvae.comparison import compare, report, tables
from teachvae.comparison.compare import Fitted, Options
from teachvae.comparison.models import ENTRIES, Setting, entries
from teachvae.networks.convergence import ConvergenceWarning
from teachvae.networks.training import TrainingError
from teachvae.routes import questions, vae
from teachvae.routes.principal_components import PrincipalComponents

SMALL = Options(hidden=(6,), epochs=10)
BRIEF = Options(1, hidden=(4,), likelihood="student-t", epochs=1, ledger=0)  # nothing runs to its end


@pytest.fixture(scope="module")
def digits():
    whole = datasets.digits()
    return replace(whole, x=whole.x[:300], labels=whole.labels[:300])


@pytest.fixture(scope="module")
def result(digits):
    return compare.run(digits, SMALL)


@pytest.fixture
def sketched(monkeypatch):
    """Pictures with few images and without ticks and their numbers, which take most of the drawing's time."""
    monkeypatch.setattr(report, "SHOWN", 4)
    axes = ("xtick.bottom", "xtick.labelbottom", "ytick.left", "ytick.labelleft")
    with rc_context(dict.fromkeys(axes, False)):
        yield


@pytest.fixture
def words(monkeypatch):
    """Reports of words alone: no figure is made."""
    names = ("learning_curves", "latent_scatter", "image_rows", "point_clouds", "ledger_bars",
             "gap_histograms", "posterior_panel", "posterior_panels", "png")
    for name in names:
        monkeypatch.setattr(plots, name, lambda *arguments, **options: b"")


def row(comparison, key):
    return next(f.row for f in comparison.runs[0].fitted if f.key == key)


def test_the_linear_models_end_on_one_number(result):
    values = [row(result, key).q_train for key in ("fa", "vem-linear", "vae-linear")]
    assert max(values) - min(values) < 1e-4
    assert compare.linear_spread(result.runs[0])[0] == pytest.approx(max(values) - min(values))
    assert result.failures == ()


def test_rows_hold_what_the_estimators_say(result):
    run = result.runs[0]
    for f in run.fitted:
        expected = np.sqrt(np.mean((f.estimator.reconstruct(run.held_out.x) - run.held_out.x) ** 2))
        assert f.row.reconstruction == pytest.approx(expected)
        clean = f.estimator.denoise(run.tasks.noisy, 0.2**2)
        assert f.row.denoising == pytest.approx(np.sqrt(np.mean((clean - run.held_out.x) ** 2)))
        if hasattr(f.estimator, "impute"):
            wrong = (f.estimator.impute(run.tasks.incomplete) - run.held_out.x)[run.tasks.hidden]
            assert f.row.imputation == pytest.approx(np.sqrt(np.mean(wrong**2)))
        else:
            assert f.row.imputation is None and f.key in ("ae", "dae", "pca")
        probe = LogisticRegression(C=1e3 / len(run.train.x), tol=1e-8, max_iter=2000)
        codes = StandardScaler().fit(f.estimator.transform(run.train.x))
        probe.fit(codes.transform(f.estimator.transform(run.train.x)), run.train.labels)
        theirs = probe.score(codes.transform(f.latent), run.held_out.labels)
        assert f.row.probe == pytest.approx(theirs, abs=0.04), "φ of training data may come from a table"
        np.testing.assert_allclose(f.latent, f.estimator.transform(run.held_out.x))
        if hasattr(f.estimator, "bound"):
            Q = f.estimator.bound(run.held_out.x).mean()
            assert f.row.q_held_out == pytest.approx(Q, abs=1e-9)
        assert f.row.seconds > 0 and f.row.parameters == f.estimator.n_parameters_


def test_the_mixture_of_factor_analysers_has_a_row_without_a_gap(result):
    run, f = result.runs[0], of(result, "mfa")
    for part, data in (("train", run.train), ("held_out", run.held_out)):
        assert getattr(f.row, f"nlml_{part}") == pytest.approx(-f.estimator.score(data.x), abs=1e-9)
        assert getattr(f.row, f"gap_{part}") == pytest.approx(0, abs=1e-9)
    assert f.ledger == {} and f.latent.shape == (60, 5 * (1 + 2))
    assert f.row.nlml_train < row(result, "fa").nlml_train - 1, "five planes lie closer to the data than one"
    made = f.entry.make(setting())
    assert made.n_components == 5 and made.n_latent == 2 and made.constant == "drop"


def test_no_number_is_made_up(result):
    r = row(result, "ae")
    assert r.q_train is r.q_held_out is r.nlml_held_out is None
    cells = {line[0]: line[1:] for line in tables.cells(result)}
    assert cells["autoencoder"][:6] == ["–"] * 6
    dataset = datasets.linear_gaussian(n_cases=60, n_visible=5, n_latent=2)
    few = compare.run(dataset, replace(SMALL, ledger=7, epochs=1))
    for key in ("vem", "vae"):
        r = row(few, key)
        assert r.nlml_train is None and r.gap_train is None and r.q_train is not None, "7 of 48 cases only"
    cells = {line[0]: line[1:] for line in tables.cells(few)}
    assert cells["VAE"][0] == cells["VAE"][2] == "–" != cells["VAE"][1]
    counts = {(line[0], line[1]): line[-1] for line in tables.ledger_cells(few)}
    assert counts["VAE", "training"] == "7" and counts["factor analysis, EM", "training"] == "48"
    none = compare.run(dataset, replace(SMALL, ledger=0, epochs=1))
    assert {f.key for f in none.runs[0].fitted if f.ledger} == {"fa", "vem-linear", "vae-linear"}
    assert "grid" not in tables.text(none)


def of(comparison, key):
    return next(f for f in comparison.runs[0].fitted if f.key == key)


def test_the_ledger_is_what_the_estimators_say(result):
    run = result.runs[0]
    for key in ("fa", "vem", "vae"):
        f = of(result, key)
        gaps = f.estimator.gaps(run.held_out.x, phi=f.phi)
        for name in ("nlml", "q_full", "q_optimal", "q_used"):
            np.testing.assert_allclose(getattr(f.ledger["held out"], name), getattr(gaps, name), atol=1e-8)
        assert f.row.nlml_held_out == pytest.approx(gaps.nlml.mean(), abs=1e-9)
        worth = f.estimator.nlml(run.held_out.x, method="grid").values
        np.testing.assert_allclose(f.ledger["held out"].nlml, worth, atol=1e-6)
    table = f.estimator.phi_ if key == "vem" else of(result, "vem").estimator.phi_
    Q = of(result, "vem").estimator.bound(run.train.x, phi=table)
    np.testing.assert_allclose(of(result, "vem").ledger["training"].q_used, Q, atol=1e-9)


def test_the_ledger_adds_up_and_reads_across(result):
    for line in tables.ledger_cells(result):
        nlml, *shares, Q = (float(cell) for cell in line[2:7])
        assert nlml + sum(shares) == pytest.approx(Q, abs=2e-3), line
    text = tables.text(result)
    for words in ("= Q.", "The recognition network's φ costs", "computed separately, differ by at most"):
        assert words in text


def test_threads_change_nothing():
    small = replace(SMALL, epochs=2, ledger=12)
    dataset = datasets.linear_gaussian(n_cases=60, n_visible=5, n_latent=2)
    alone, together = (compare.run(dataset, small, n_jobs=n) for n in (1, 3))
    for f, g in zip(alone.runs[0].fitted, together.runs[0].fitted):
        assert f.ledger.keys() == g.ledger.keys()
        for part in f.ledger:
            np.testing.assert_array_equal(f.ledger[part].q_optimal, g.ledger[part].q_optimal)


def test_refused_cases_are_left_out_and_said(result):
    f = of(result, "vae")
    gaps = f.ledger["training"]
    nlml = gaps.nlml.copy()
    nlml[[3, 5]] = np.nan
    refused = gaps._replace(nlml=nlml)
    rows = result.runs[0].train.row_names
    assert rows[3] != 3, "the split has shuffled them"
    (doubt,) = compare._doubts("training", refused, rows)
    Q = gaps.q_used[[3, 5]].mean()
    words = f"the grid refused 2 training cases (rows {rows[3]}, {rows[5]}, mean Q {Q:.3f}): they are left"
    assert words in doubt
    assert list(compare._doubts("training", gaps, rows)) == []
    late = gaps._replace(gradient_norm=np.where(np.arange(len(nlml)) < 3, 0.5, gaps.gradient_norm))
    doubt = next(compare._doubts("training", late, rows))
    assert "3 training cases ended at a gradient of up to 5.0e-01" in doubt
    wide = gaps.nlml + np.where(np.arange(len(nlml)) == 4, -50.0, 0)
    lesser = gaps._replace(nlml=wide, approximation_error=np.where(wide < gaps.nlml, np.inf, 0.0))
    (doubt,) = compare._doubts("training", lesser, rows)
    assert f"1 training cases (rows {rows[4]}) may have been left" in doubt
    few = gaps._replace(method="importance", nlml_error=np.where(np.arange(len(nlml)) == 7, np.inf, 0.0))
    (doubt, *_) = compare._doubts("training", few, rows)
    assert f"a few draws carry the NLML of 1 training cases (rows {rows[7]}" in doubt
    assert few.settled.sum() == len(nlml) - 1
    fitted = replace(f, ledger={**f.ledger, "training": refused})
    run = replace(result.runs[0], fitted=(fitted,))
    line = tables.ledger_cells(replace(result, runs=(run,)))[0]
    assert line[-1] == "238"
    assert float(line[2]) == pytest.approx(np.nanmean(nlml), abs=5e-4)
    assert compare.check(run) == []
    data = json.loads(json.dumps(tables.as_json(replace(result, runs=(run,)))))
    assert data["runs"][0]["models"][0]["ledger"]["training"]["nlml"][3] is None


def test_the_noise_is_the_same_for_all_and_of_the_stated_size(result):
    run = result.runs[0]
    assert np.std(run.tasks.noisy - run.held_out.x) == pytest.approx(0.2, rel=0.05)
    assert np.mean(run.tasks.hidden) == pytest.approx(0.2, rel=0.05)
    assert run.no_model.denoising == pytest.approx(0.2, rel=0.05), "the noise itself"
    means = np.sqrt(np.mean((run.train.x.mean(axis=0) - run.held_out.x) ** 2))
    assert run.no_model.reconstruction == pytest.approx(means)
    assert run.no_model.imputation == pytest.approx(means, rel=0.05)


def test_same_seed_same_table_also_for_three_latent_variables():
    dataset = datasets.linear_gaussian(n_cases=60, n_visible=5, n_latent=2)
    options = replace(SMALL, n_components=3, epochs=5, ledger=6)
    first, second = (compare.run(dataset, options) for _ in range(2))
    strip = [(r.q_train, r.q_held_out, r.reconstruction) for r in (f.row for f in first.runs[0].fitted)]
    again = (f.row for f in second.runs[0].fitted)
    assert strip == [(r.q_train, r.q_held_out, r.reconstruction) for r in again]


def test_a_bound_below_the_truth_is_a_failure(result):
    run = result.runs[0]
    assert compare.check(run) == []
    for key, name, field in (("fa", "approximation", "q_optimal"), ("vae", "amortisation", "q_used")):
        f = of(result, key)
        gaps = f.ledger["training"]
        low = (gaps.nlml if key == "fa" else gaps.q_optimal) - 0.5
        ledger = {**f.ledger, "training": gaps._replace(**{field: low})}
        failure, *_ = compare.check(replace(run, fitted=(replace(f, ledger=ledger),)))
        assert f"the share '{name}' of 240 training cases lies below zero" in failure
        assert "5.00e-01 nats" in failure
    f = of(result, "vae")
    (failure,) = compare.check(replace(run, fitted=(replace(f, divergence=f.divergence + 0.1),)))
    assert "KL(q ‖ posterior) of 20 held-out cases differ by up to 1.00e-01 nats" in failure
    assert re.search(r"nats, where \de-\d+ was stated", failure)


def test_linear_models_that_disagree_are_a_failure(result):
    run = result.runs[0]
    fitted = [
        replace(f, row=replace(f.row, q_train=f.row.q_train + 5)) if f.key == "vae-linear" else f
        for f in run.fitted
    ]
    failures = compare.check(replace(run, fitted=tuple(fitted)))
    assert len(failures) == 1 and "differ by 5.0000 nats" in failures[0]
    assert "not checked" not in " ".join(tables.remarks(result))
    stopped = [f for f in fitted if f.key == "vae-linear"][0].estimator
    was = stopped.converged_
    stopped.converged_ = False
    try:
        early = replace(run, fitted=tuple(fitted))
        assert compare.check(early) == [], "one that was stopped early may differ"
        said = tables.remarks(replace(result, runs=(early,)))
        assert "That they agree was not checked: not converged are VAE, linear." in said
    finally:
        stopped.converged_ = was


def test_table_is_aligned_and_says_its_units(result):
    lines = tables.text(result).splitlines()
    assert len({len(line) for line in lines[1:2] + lines[3:9]}) == 1
    text = " ".join(lines)
    for part in ("nats per data case", "K = 2", "240 training and 60 held-out cases", "bits per pixel"):
        assert part in text
    assert "-0.000" not in tables.text(result)


def test_seeds_give_mean_and_spread():
    dataset = datasets.linear_gaussian(n_cases=60, n_visible=4, n_latent=1)
    both = compare.run(dataset, replace(SMALL, n_components=1, epochs=2, seeds=2, seed=3))
    assert [r.seed for r in both.runs] == [3, 4]
    values = [r.fitted[0].row.q_train for r in both.runs]
    cell = tables.cells(both)[0][2]
    assert cell == f"{np.mean(values):.3f} ±{np.std(values, ddof=1):.3f}"
    alone = compare.run(dataset, replace(SMALL, n_components=1, epochs=2, seed=4))
    assert alone.runs[0].fitted[0].row.q_train == values[1]


def test_binary_data(sketched):
    whole = datasets.digits(threshold=8)
    dataset = replace(whole, x=whole.x[:120], labels=whole.labels[:120])
    result = compare.run(dataset, replace(SMALL, n_components=1, likelihood="bernoulli", epochs=5, ledger=12))
    assert row(result, "fa").q_train is None and result.runs[0].fitted[0].remarks
    assert all(f.row.denoising is None for f in result.runs[0].fitted)
    assert row(result, "vae").q_train > 0, "a negative log probability"
    page = report.html(result)
    assert "this data has none" in page and "factor analysis has a Gaussian likelihood" in page
    keys = {f.key for f in result.runs[0].fitted}
    assert keys == {"fa", "vem-linear", "vem", "vae-linear", "vae", "mfa", "ae", "pca"}


def grey(n_cases=120):
    whole = datasets.digits(dequantise=False)
    return replace(whole, x=whole.x[:n_cases], labels=whole.labels[:n_cases])


@pytest.mark.parametrize("how", ["threshold", "fixed", "fresh"])
def test_binarised_data(how):
    options = replace(SMALL, n_components=1, likelihood="bernoulli", binarise=how, epochs=2, ledger=0)
    result = compare.run(grey(), options)
    run, train = result.runs[0], datasets.split(grey(), 0.2, seed=0)[0]
    assert set(np.unique(run.train.x)) == set(np.unique(run.held_out.x)) == {0.0, 1.0}
    if how == "threshold":
        np.testing.assert_array_equal(run.train.x, train.x > 0.5)
    else:
        certain = (train.x == 0) | (train.x == 1)
        np.testing.assert_array_equal(run.train.x[certain], train.x[certain])
        assert not np.array_equal(run.train.x, train.x > 0.5)
        assert run.train.x.mean() == pytest.approx(train.x.mean(), rel=0.03)
    assert of(result, "vae").estimator.binarise == ("fresh" if how == "fresh" else None)
    text = tables.text(result)
    assert f"Binarised, {how}: " in text and "Made binary" in run.train.note
    other = compare.run(grey(), replace(options, seed=1, epochs=1)).runs[0]
    assert not np.array_equal(other.held_out.x, run.held_out.x)


def test_grey_values_are_called_no_likelihood(words):
    options = replace(SMALL, n_components=1, likelihood="bernoulli-relaxed", epochs=2, ledger=4)
    result = compare.run(grey(60), options)
    titles = [f.row.model for f in result.runs[0].fitted if hasattr(f.estimator, "bound")]
    assert len(titles) == 4 and all(title.endswith("(not a likelihood)") for title in titles)
    text = tables.text(result)
    assert "Not a likelihood: the Bernoulli formula" in text and text in tables.text(result)
    assert "Not a likelihood" in report.html(result)


@pytest.mark.parametrize("likelihood", ["student-t", "gaussian-predicted", "poisson", "categorical"])
def test_other_likelihoods(likelihood):
    rng = np.random.default_rng(0)
    x = rng.poisson(2.0, (80, 4)).clip(0, 5) * 1.0
    x[0], x[1] = 0, 5
    dataset = datasets.linear_gaussian(n_cases=80, n_visible=4, n_latent=2)
    dataset = replace(dataset, x=x, labels=None, truth=None)
    result = compare.run(dataset, replace(SMALL, n_components=1, likelihood=likelihood, epochs=3, ledger=6))
    fitted = {f.key: f for f in result.runs[0].fitted}
    density = likelihood in ("student-t", "gaussian-predicted")
    assert (fitted["fa"].row.q_train is not None) == density == ("dae" in fitted)
    assert (fitted["vae"].row.denoising is not None) == (likelihood == "gaussian-predicted")
    assert np.isfinite(fitted["vem"].row.q_held_out) and fitted["vem"].row.imputation > 0
    assert fitted["vem"].row.probe is None, "no labels"
    assert compare.linear_spread(result.runs[0]) is None, "three different models"


def table_of(x, **fields):
    return datasets.Dataset(np.asarray(x, float), "a table", "Made up.", "a test", **fields)


def test_categories_are_those_of_the_whole_table(rng):
    """Whichever part the only case of a category falls into."""
    x = rng.integers(0, 3, size=(30, 2))
    x[11, 1] = 7
    options = replace(SMALL, n_components=1, likelihood="categorical", epochs=2, ledger=0)
    parts = set()
    for seed in range(20):
        train, held_out = datasets.split(table_of(x), seed=seed)
        part = "held out" if 7 in held_out.x else "train"
        if part not in parts:
            parts.add(part)
            result = compare.run(table_of(x), replace(options, seed=seed))
            for f in result.runs[0].fitted:
                if hasattr(f.estimator, "bound"):
                    assert list(f.estimator.columns_.levels[1]) == [0, 1, 2, 7]
                    assert np.isfinite(f.row.q_held_out) and np.isfinite(f.row.q_train)
    assert parts == {"train", "held out"}


@pytest.mark.parametrize("likelihood, needs", [("poisson", "needs counts"), ("bernoulli", "needs 0 and 1")])
def test_a_refused_row_is_named_as_in_the_table(likelihood, needs, rng):
    x = rng.integers(0, 2, size=(30, 2)) * 1.0
    x[11, 1] = 0.5
    for rows, name in ((None, "row 11"), (np.arange(30) + 2, "row 13")):
        for seed in (0, 1):
            with pytest.raises(ValueError, match=f"{needs}.*{name}, column b|{name}, column b.*{needs}"):
                data = table_of(x, rows=rows, columns=("a", "b"))
                compare.run(data, replace(SMALL, n_components=1, likelihood=likelihood, seed=seed, epochs=1))


def test_warnings_name_rows_as_in_the_table(digits, monkeypatch):
    monkeypatch.setattr(questions, "E_STEP_TOLERANCE", {"float64": 1e-300, "float32": 1e-300})
    small = replace(digits, x=digits.x[:20, 18:21].copy(), labels=digits.labels[:20], image_shape=None,
                    rows=1000 + np.arange(20))
    result = compare.run(small, replace(BRIEF, seed=1))
    f, held_out = of(result, "vem"), result.runs[0].held_out
    with pytest.warns(ConvergenceWarning, match="the E-step of . of 4 data cases") as caught:
        f.estimator.infer(held_out.x)                              # names the places in what it is given
    places = [int(n) for n in re.search(r"rows ([\d, ]+)", str(caught[0].message))[1].split(",")]
    rows = ", ".join(str(held_out.rows[n]) for n in places)
    assert any(f"of 4 data cases did not reach a gradient below 1e-300 (rows {rows};" in r for r in f.remarks)
    data = tables.as_json(result)["runs"][0]["rows"]
    assert sorted(data["training"] + data["held out"]) == list(range(1000, 1020))


def test_a_model_that_cannot_be_had_is_a_row_with_its_reason(rng, tmp_path, sketched, capsys):
    x = rng.normal(size=(60, 1)) @ rng.normal(size=(1, 4))         # of rank 1
    np.save(tmp_path / "a.npy", x)
    with pytest.raises(ValueError, match="X varies in 1 only") as refusal:
        PrincipalComponents(2).fit(x)
    arguments = ["compare", "--epochs", "2", "--hidden", "4", "--ledger", "0", "--likelihood", "student-t",
                 "--output", str(tmp_path)]
    assert cli.main([*arguments, "--data", str(tmp_path / "a.npy")]) == 0
    out, err = capsys.readouterr()
    assert f"principal components: no numbers, for {refusal.value}" in out
    lines = {line[:24].strip(): line[24:].split() for line in out.splitlines()}
    assert set(lines["principal components"]) == {"–"} and lines["VAE"].count("–") < 5
    assert str(refusal.value) in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("error", [ValueError, TrainingError])
@pytest.mark.parametrize("method", ["fit", "denoise", "gaps"])
def test_one_model_that_fails_does_not_end_the_others(method, error, monkeypatch):
    def refuse(*arguments, **options):
        raise error("planted")

    monkeypatch.setattr(vae.VAE, method, refuse)
    dataset = datasets.linear_gaussian(n_cases=40, n_visible=4, n_latent=1)
    result = compare.run(dataset, replace(BRIEF, likelihood="gaussian-predicted", ledger=2))
    for key in ("vae-linear", "vae"):
        assert any("planted" in remark for remark in of(result, key).remarks)
        assert (of(result, key).estimator is None) == (method != "gaps")
    assert row(result, "fa").q_held_out is not None and row(result, "vem").imputation is not None
    assert "planted" in tables.text(result) or method == "gaps"


def test_where_all_are_refused_the_data_are_bad_input(tmp_path, capsys):
    np.save(tmp_path / "a.npy", np.arange(2.0)[:, None] * np.ones((1, 3)) + [[0], [1]])
    assert cli.main(["compare", "--data", str(tmp_path / "a.npy"), "--output", str(tmp_path)]) == 2
    assert "held_out must be a fraction" in capsys.readouterr().err
    x = np.ones((40, 3))
    with pytest.raises(ValueError, match="all 3 columns are constant"):
        compare.run(table_of(x), replace(SMALL, n_components=1, epochs=1))


def test_labels_that_are_no_classes_are_left_out(rng):
    x = rng.normal(size=(40, 3))
    for labels, why in ((x[:, 0], "continuous"), (np.where(x[:, 0] > 0, 1.0, np.nan), "NaN entries")):
        result = compare.run(table_of(x, labels=labels), BRIEF)
        assert row(result, "fa").probe is None and result.runs[0].no_model.probe is None
        assert "The labels are left out: " in result.dataset.note and why in result.dataset.note
        assert result.runs[0].held_out.labels is None


@pytest.fixture(scope="module")
def holes():
    """A table with entries missing at random, and what they were."""
    data = datasets.linear_gaussian(n_cases=100, n_visible=5, n_latent=1, seed=1)
    hole = np.random.default_rng(2).random(data.x.shape) < 0.03
    return table_of(np.where(hole, np.nan, data.x), missing=True, labels=data.labels)


def test_missing_entries_are_integrated_out(holes, sketched):
    result = compare.run(holes, replace(SMALL, n_components=1, epochs=5, ledger=6))
    run = result.runs[0]
    for f in run.fitted:
        if f.key in ("mfa", "ae", "dae", "pca"):
            assert f.estimator is None and f"{np.isnan(holes.x).sum()} of 500 entries" in f.remarks[-1]
            continue
        assert f.estimator.missing == "marginalise" and np.isfinite(f.row.imputation)
        off = f.estimator.decode(f.latent) - run.held_out.x
        assert f.row.reconstruction == pytest.approx(np.sqrt(np.nanmean(off**2)) / run.tasks.span)
        wrong = (f.estimator.impute(run.tasks.incomplete) - run.held_out.x)[run.tasks.hidden]
        assert f.row.imputation == pytest.approx(np.sqrt(np.mean(wrong**2)) / run.tasks.span)
    # NLML of observed entries by a dense Gaussian per case
    fa = of(result, "fa").estimator
    S = fa.get_covariance()
    for part, name in ((run.train, "nlml_train"), (run.held_out, "nlml_held_out")):
        seen = [(x[~np.isnan(x)], ~np.isnan(x)) for x in part.x]
        normal = stats.multivariate_normal
        dense = [-normal.logpdf(x, fa.mean_[o], S[np.ix_(o, o)]) for x, o in seen if len(x)]
        assert getattr(row(result, "fa"), name) == pytest.approx(np.sum(dense) / len(part.x), abs=1e-8)
    assert compare.linear_spread(run) is None and result.failures == ()
    text, page = tables.text(result), report.html(result)
    assert f"{np.isnan(holes.x).sum()} of 500 entries are missing: integrated out." in text
    assert "trained on complete data" not in page and "Ψ of" in page
    json.dumps(tables.as_json(result), allow_nan=False)


def test_json_is_the_table(result):
    data = json.loads(json.dumps(tables.as_json(result)))
    models = {m["key"]: m for m in data["runs"][0]["models"]}
    assert set(models) == {"fa", "vem-linear", "vem", "vae-linear", "vae", "mfa", "ae", "dae", "pca"}
    assert data["runs"][0]["tasks_without_a_model"]["imputation"] == result.runs[0].no_model.imputation
    assert models["vae"]["imputation"] == row(result, "vae").imputation and models["ae"]["imputation"] is None
    assert models["ae"]["q_train"] is None
    assert models["fa"]["q_held_out"] == row(result, "fa").q_held_out
    ledger = models["vae"]["ledger"]["held out"]
    assert ledger["nlml_method"] == "grid" and len(ledger["nlml"]) == 60
    np.testing.assert_array_equal(ledger["q_used"], of(result, "vae").ledger["held out"].q_used)
    assert len(models["vae"]["kl_to_posterior_held_out"]) == 20 and models["ae"]["ledger"] == {}
    bits = (models["fa"]["q_held_out"] / 64 + np.log(17)) / np.log(2)
    assert models["fa"]["bits_per_pixel_held_out"] == pytest.approx(bits)


def test_report_is_one_whole_page(result, tmp_path, sketched):
    path = report.write(result, tmp_path / "report.html")
    page = path.read_text(encoding="utf-8")
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"], "no half page is left beside it"
    images = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert len(images) == 9
    assert all(base64.b64decode(i).startswith(b"\x89PNG") for i in images)
    assert not re.search(r'(?:src|href)="(?!data:)', page), "nothing is loaded from elsewhere"
    for heading in ("Learning curves", "The latent space", "Reconstructions", "Samples", "Denoising",
                    "Ψ ended",
                    "Missing entries"):
        assert heading in page
    for line in (*tables.cells(result), *tables.task_cells(result)):
        for cell in line:
            assert cell in page
    assert "1/(12·17²)" in page


@pytest.mark.parametrize("name, K", [
    pytest.param("spiral", 1, marks=pytest.mark.thorough), ("bent_sheet", 2),
    pytest.param("linear", 3, marks=pytest.mark.thorough),
])
def test_report_of_data_without_images(name, K, request):
    if K > 1:                                                      # one whole drawing is enough
        request.getfixturevalue("sketched")
    dataset = datasets.load(name, n_cases=60)
    result = compare.run(dataset, replace(SMALL, n_components=K, epochs=5, ledger=8))
    assert report.html(result).count("data:image/png") == {1: 8, 2: 9, 3: 8}[K]


def test_a_constant_column_is_set_aside_in_the_whole_report(rng, sketched):
    x = rng.normal(size=(40, 4))
    x[:, 2] = 3.0
    rows = np.arange(40.0)[:, None]
    kept_out = int(datasets.split(datasets.Dataset(rows, "rows", "", ""))[1].x[0, 0])
    x[kept_out, 2] = 4.0                                           # the first held-out case differs there
    result = compare.run(datasets.Dataset(x, "a table", "", ""), replace(SMALL, epochs=2, ledger=6))
    assert "posteriors and the q" in report.html(result)
    for f in result.runs[0].fitted:
        if hasattr(f.estimator, "bound"):
            assert {r.split()[0] for r in f.remarks} >= {"constant", "columns"}, f.remarks


def folder_of_images(path, n_cases=30):
    """Bright squares on dark ground, as IDX files without labels."""
    rng = np.random.default_rng(0)
    x = rng.integers(10, 50, size=(n_cases, 5, 5)).astype(np.uint8)
    x[np.arange(n_cases), 1 + np.arange(n_cases) % 3] += 180
    sizes = b"".join(size.to_bytes(4, "big") for size in x.shape)
    (path / "train-images-idx3-ubyte").write_bytes(bytes([0, 0, 8, 3]) + sizes + x.tobytes())
    return x


def test_images_of_a_folder_are_images_and_no_digits(tmp_path, sketched):
    folder_of_images(tmp_path)
    page = report.html(compare.run(datasets.load(tmp_path), BRIEF))
    assert "digits" not in page and "as much about it as about the images" in page
    assert "Blue: not seen." in page


def drawn(figure):
    """The picture as (h, w, 3) numbers from 0, black, to 1."""
    return image.imread(io.BytesIO(plots.png(figure)))[..., :3]


def test_grey_images_are_positives_and_ink_is_black(tmp_path, digits):
    bright = np.array([[0.0, 0.0, 1.0, 1.0]])
    for ink in (False, True):
        page = drawn(plots.image_rows([("", bright)], (2, 2), (0, 1), ink))
        dark = (page < 0.05).all(axis=2)
        middle = [rows.mean() for rows in np.array_split(np.flatnonzero(dark.any(axis=1)), 1)][0] / len(page)
        assert (middle > 0.5) == ink, "the lower half is 1"
    hole = drawn(plots.image_rows([("", np.array([[np.nan, 0.0, 0.0, 1.0]]))], (2, 2), (0, 1)))
    assert ((hole[..., 2] - hole[..., 0]) > 0.2).any(), "a pixel that was not seen has a colour"
    folder_of_images(tmp_path)
    assert not datasets.load(tmp_path).ink and digits.ink
    assert all(part.ink for part in datasets.split(digits))


def test_every_learning_curve_ends_in_its_window():
    rng = np.random.default_rng(0)
    curves = [
        ("long", 5 + np.exp(-np.arange(5000) / 50)),
        ("short and poor", np.linspace(90, 30, 20)),
        ("one point", [12.0]),
        ("rises at the end", np.append(np.linspace(8, 2, 60), np.linspace(2, 7, 40))),
        ("noisy", 6 + 0.1 * rng.random(200)),
    ]
    (ax,) = plots.learning_curves({title: SimpleNamespace(q_path_=values) for title, values in curves}).axes
    low, high = ax.get_ylim()
    for line, (title, values) in zip(ax.lines, curves):
        assert low < min(values) and max(values[-max(1, len(values) // 20):]) < high, title
        assert len(values) > 1 or line.get_marker() == "o", "a line through one point cannot be seen"
    vae = SimpleNamespace(q_path_=[3.0, 2.0, 1.0], q_validation_path_=[4.0, 3.5, 120.0])
    (ax,) = plots.learning_curves({"VAE": vae}).axes
    dashed, line = ax.lines
    assert dashed.get_linestyle() == "--" and list(dashed.get_ydata()) == [4.0, 3.5, 120.0]
    assert dashed.get_color() == line.get_color() and ax.get_ylim()[1] > 120


class Page(HTMLParser):
    """The tags of a page with their attributes' names, and its text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text = set(), ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.add((tag, *(name for name, _ in attributes)))

    def handle_data(self, data):
        self.text += data


@pytest.mark.filterwarnings("ignore:Glyph")
def test_names_that_come_from_data_are_text_in_the_report(words):
    """No name becomes a tag, an attribute or a formula, wherever it stands: of the data, columns, classes."""
    tag, formula = "</p><img src=x onerror='alert(1)'>", r"$\frac$"
    plain = datasets.linear_gaussian(n_cases=40, n_visible=3, n_latent=1)
    hostile = replace(
        plain, name=tag, note=f"read {tag} & {formula}", source=f"/tmp/{tag}",
        columns=(tag, formula, "_" * 2000), labels=np.array([tag, formula, "_under", "价格"])[plain.labels],
    )
    options = replace(BRIEF, likelihood="gaussian")
    page, usual = (
        Page(report.html(compare.run(data, options)))
        for data in (hostile, replace(plain, columns=("a", "b", "c")))
    )
    assert page.tags == usual.tags
    for name in (f"read {tag} & {formula}", f"/tmp/{tag}", f"teachvae: {tag}"):
        assert name in page.text
    assert "coloured by class" in page.text


def test_names_are_drawn_as_they_are():
    figure = plots.latent_scatter([("a", np.zeros((3, 1)))], np.array(["_x", r"$\bad$", "y" * 99]))
    assert [t.get_text() for t in figure.legends[0].texts] == [r"\$\bad\$", " _x", "y" * 29 + "…"]
    plots.png(figure)


def test_classes_of_one_letter_are_written_at_their_places():
    figure = plots.latent_scatter([("a", np.zeros((3, 2)))], np.array([7, 0, 7]))
    shapes = [points.get_paths()[0].vertices for points in figure.axes[0].collections]
    written = [MarkerStyle(f"${c}$") for c in (0, 7)]
    expected = [style.get_transform().transform(style.get_path().vertices) for style in written]
    assert all(np.allclose(*pair) for pair in zip(shapes, expected, strict=True)) and figure.legends == []


def test_no_two_classes_have_the_same_look_and_neighbours_differ_in_their_marker():
    names = [f"class {i:02}" for i in range(32)]
    axes = plots.latent_scatter([("a", np.zeros((32, 2)))], np.array(names)).axes[0]
    shapes = [points.get_paths()[0].vertices.tobytes() for points in axes.collections]
    colours = [points.get_facecolor().tobytes() for points in axes.collections]
    assert len(set(zip(shapes, colours))) == 32
    assert all(one != other for one, other in zip(shapes, shapes[1:]))


def setting(likelihood="gaussian", noise_variance=0.04, n_missing=0):
    options = Options(hidden=(6,), likelihood=likelihood)
    return Setting(options, 3, likelihood, noise_variance, n_missing, n_entries=100)


def test_every_model_says_what_it_takes():
    known = {entry.key: entry for entry in ENTRIES}
    assert all(entry.refusal(setting()) is None for entry in ENTRIES)
    refused = {key for key, entry in known.items() if entry.refusal(setting("poisson", None))}
    assert refused == {"fa", "mfa"} and known["fa"].refusal(setting("student-t")) is None
    assert "mixture of 5 analysers has a Gaussian" in known["mfa"].refusal(setting("poisson"))
    assert "factor analysis has a Gaussian likelihood" in known["fa"].refusal(setting("poisson"))
    holes = setting(n_missing=7)
    assert {key for key, entry in known.items() if entry.refusal(holes)} == {"ae", "dae", "pca", "mfa"}
    assert "here 7 of 100 entries are missing" in known["pca"].refusal(holes)
    assert {e.key for e in ENTRIES} - {e.key for e in entries(setting("poisson", None))} == {"dae"}
    titles = [entry.title(setting("bernoulli-relaxed")) for entry in ENTRIES]
    assert sum(title.endswith("(not a likelihood)") for title in titles) == 4


@pytest.mark.parametrize("likelihood", ["gaussian", "student-t"])
def test_every_entry_is_true_of_what_it_makes(likelihood):
    for entry in ENTRIES:
        made = entry.make(setting(likelihood))
        assert entry.ledger == (not entry.complete) == hasattr(made, "missing") == hasattr(made, "gaps")
        assert hasattr(made, "bound") == (entry.ledger or entry.discrete)
        assert ("progress" in inspect.signature(made.fit).parameters) == entry.iterated
        assert getattr(made, "random_state", 3) == 3
        if entry.ledger and not entry.gaussian:
            assert made.likelihood == likelihood and (made.hidden == ()) == entry.linear
        assert (made.get_params().get("noise_variance") == 0.04) == entry.adds_noise


def test_the_roads_are_said_of_as_many_cases_as_were_measured():
    dataset = datasets.linear_gaussian(n_cases=60, n_visible=4, n_latent=1)
    few = compare.run(dataset, replace(SMALL, n_components=1, epochs=1, ledger=3))
    assert "in the first 3 or 12 held-out cases of every model" in tables.text(few)


# ---- the command line ------------------------------------------------------------------------

QUICK = ["compare", "--epochs", "2", "--hidden", "4", "--latent", "1", "--data"]


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "data.csv"
    x = datasets.linear_gaussian(n_cases=40, n_visible=3, n_latent=1).x
    np.savetxt(path, x, delimiter=",", header="a,b,c", comments="")
    return str(path)


def test_stdout_is_the_result_and_stderr_all_else(table, tmp_path, sketched, capsys):
    assert cli.main([*QUICK, table, "--output", str(tmp_path / "out")]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[1].split()[:3] == ["model", "NLML", "Q"]
    assert "report.html" in err and "report.html" not in out and "VAE:" in err
    assert (tmp_path / "out" / "report.html").stat().st_size > 10_000


@pytest.fixture
def canned(monkeypatch):
    """A comparison that is there already, and a report without pictures; returns the data that were given."""
    small = datasets.linear_gaussian(n_cases=20, n_visible=3, n_latent=1)
    comparison, given = compare.run(small, BRIEF), []

    def run(dataset, *options):
        given.append(dataset)
        return replace(comparison, dataset=dataset)

    monkeypatch.setattr(compare, "run", run)
    monkeypatch.setattr(report, "write", lambda comparison, path, seconds: path)
    return given


def test_the_time_that_is_printed_has_the_report_in_it(table, tmp_path, monkeypatch, canned, capsys):
    now, told, run = [0.0], [], compare.run
    monkeypatch.setattr(cli.time, "perf_counter", lambda: now[0])

    def slow_run(*arguments):
        now[0] += 100
        return run(*arguments)

    def slow_write(comparison, path, seconds):
        now[0] += 7
        told.append(report._setting(comparison, seconds))
        return path

    monkeypatch.setattr(compare, "run", slow_run)
    monkeypatch.setattr(report, "write", slow_write)
    assert cli.main([*QUICK, table, "--output", str(tmp_path)]) == 0
    assert "107.0 s, of them 7.0 s for the report: " in capsys.readouterr().err
    assert told[0].endswith("Trained and measured in 100 seconds.")


def test_a_table_as_people_have_it(tmp_path, canned, capsys):
    """Semicolons, decimal commas, a code page, ids, missing cells, classes: by options, and said."""
    path = tmp_path / "Vögel.csv"
    path.write_bytes(
        "Nr;Art;Länge;Gewicht\nA7;Möwe;1,5;NA\nA8;Ente;2,25;3\nA9;Möwe;4;?\n".encode("cp1252")
    )
    arguments, helps = [*QUICK, str(path), "--output", str(tmp_path), "--json"], []
    for option in (["--encoding", "cp1252"], ["--leave-out", "Nr"], ["--labels", "Art"], ["--missing"], []):
        status = cli.main([*arguments, *helps])
        out, err = capsys.readouterr()
        if option:                                                 # each refusal names the option that helps
            assert status == 2 and option[0] in err and out == "" and canned == []
        helps += option
    assert status == 0
    (data,) = canned
    np.testing.assert_array_equal(data.x, [[1.5, np.nan], [2.25, 3], [4, np.nan]])
    assert data.columns == ("Länge", "Gewicht") and data.labels.tolist() == ["Möwe", "Ente", "Möwe"]
    for words in ("semicolons between cells and a decimal comma", "Columns Nr are left out",
                  "Column Art holds the labels", "2 of 6 entries are missing"):
        assert words in err and words in json.loads(out)["data"]["note"]


def test_what_a_file_was_taken_for_is_said(tmp_path, canned, capsys):
    path = tmp_path / "data.csv"
    x = datasets.linear_gaussian(n_cases=40, n_visible=3, n_latent=1).x
    np.savetxt(path, x, delimiter=",", header="0,1,2", comments="")
    arguments = [*QUICK, str(path), "--output", str(tmp_path), "--json"]
    for option, n_cases, said in (([], 40, "Line 1 holds the columns' names: 0, 1, 2."),
                                  (["--no-header"], 41, "No line of names"),
                                  (["--header"], 40, "Line 1 holds the columns' names")):
        assert cli.main([*arguments, *option]) == 0
        out, err = capsys.readouterr()
        assert len(canned.pop().x) == n_cases
        assert said in err and said in json.loads(out)["data"]["note"]
    assert cli.main([*arguments, "--quiet"]) == 0 and capsys.readouterr().err == ""
    for separator, given in ((";", ";"), ("\t", "tab")):
        text = "\n".join(separator.join(f"{v:.3f}".replace(".", ",") for v in line) for line in x)
        path.write_text(text + "\n")
        assert cli.main([*arguments, "--separator", given, "--decimal", ","]) == 0
        assert "between cells and a decimal comma" in capsys.readouterr().err
        np.testing.assert_allclose(canned.pop().x, x, atol=1e-3)
    assert cli.main(["compare", "--header", "--data", "spiral", "--output", str(tmp_path)]) == 2
    assert "['header'] were given with 'spiral'; expected them with a file" in capsys.readouterr().err


def test_codes_are_said_and_named(tmp_path, canned, capsys):
    path = tmp_path / "data.csv"
    x = datasets.linear_gaussian(n_cases=40, n_visible=3, n_latent=1).x
    x[[3, 8], 1] = -999
    np.savetxt(path, x, delimiter=",", header="a,b,c", comments="")
    arguments = [*QUICK, str(path), "--json", "--output", str(tmp_path)]
    assert cli.main(arguments) == 0
    said = "-999 in 2 rows of column b"
    out, err = capsys.readouterr()
    assert err.count(said) == 1 and "--missing -999" in err and said in json.loads(out)["data"]["note"]
    assert canned.pop().x[3, 1] == -999, "said, and not replaced"
    for given in (["--missing", "-999"], ["--missing", "x", "-999", "--seed", "0"], ["--missing=-999"]):
        assert cli.main([*arguments, *given]) == 0
        assert "2 of 120 entries are missing." in capsys.readouterr().err
        np.testing.assert_array_equal(canned.pop().x, np.where(x == -999, np.nan, x))


def test_quiet_json(table, tmp_path, words, capsys):
    assert cli.main([*QUICK, table, "--json", "--quiet", "--output", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["data"]["n_visible"] == 3 and err == ""


@pytest.mark.parametrize(
    "arguments, parts",
    [
        (["compare", "--data", "nothing"], ["unknown data set 'nothing'", "digits"]),
        (["compare", "--data", "no.csv"], ["no.csv", "no such file"]),
        (["compare", "--latent", "100"], ["n_components must be an integer >= 1 and <= 64", "got 100"]),
        (["compare", "--data", "spiral", "--likelihood", "bernoulli"], ["needs 0 and 1", "binarise"]),
        (["compare", "--binarise", "fixed", "--likelihood", "poisson"], ["--binarise", "not for poisson"]),
        (["compare", "--data", "spiral", "--binarise", "fixed"], ["expected grey values"]),
        (["compare", "--cases", "1798"], ["digits has 1797 data cases", "ask for no more"]),
    ],
)
def test_bad_input_is_exit_2(arguments, parts, tmp_path, capsys):
    assert cli.main([*arguments, "--output", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and all(part in err for part in parts) and "Traceback" not in err


@pytest.mark.parametrize(
    "option", ["--latent=0", "--epochs=x", "--hidden=4,-1", "--seed=-1", "--dtype=float16"]
)
def test_bad_options_are_exit_2(option):
    with pytest.raises(SystemExit) as caught:
        cli.main(["compare", option])
    assert caught.value.code == 2


def test_interrupted_is_130(table, tmp_path, monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(compare, "run", interrupt)
    assert cli.main([*QUICK, table, "--output", str(tmp_path)]) == 130
    assert capsys.readouterr().out == ""


def test_a_failed_check_is_exit_1(table, tmp_path, words, monkeypatch, capsys):
    monkeypatch.setattr(compare, "check", lambda run: ["planted"])
    assert cli.main([*QUICK, table, "--output", str(tmp_path)]) == 1
    assert "check failed: seed 0: planted" in capsys.readouterr().err


def test_gradcheck_command(monkeypatch, capsys):
    from teachvae.gradcheck import package

    few = package.all_checks()[:6]                                 # test_gradients runs them all
    assert "tanh" in dict(few)
    monkeypatch.setattr(package, "all_checks", lambda: few)
    assert cli.main(["gradcheck"]) == 0
    assert "worst relative error" in capsys.readouterr().out
    from teachvae import layers

    monkeypatch.setattr(layers.Tanh, "backward", lambda self, p, cache, dy, **_: (dy * (1 - cache), {}))
    assert cli.main(["gradcheck"]) == 1


def test_the_name_of_a_category_changes_nothing():
    """A rare class called 99 or 3: errors of categories are the share of those that are wrong."""
    rng = np.random.default_rng(0)
    z = rng.standard_normal(90)
    x = np.column_stack([np.clip(np.round(z + 0.5 * rng.standard_normal(90)), -2, 2), np.round(2 * z), z > 0])
    said = []
    for code in (99, 3):
        x[7, 0] = code
        data = datasets.Dataset(x.copy(), "classes", "", "made here", labels=x[:, 2])
        options = Options(1, hidden=(4,), likelihood="categorical", epochs=2, ledger=0)
        comparison = compare.run(data, options)
        said.append((tables.task_cells(comparison), tables.task_remarks(comparison)))
        assert row(comparison, "pca").reconstruction is row(comparison, "ae").reconstruction is None
        held_out = comparison.runs[0].held_out.x
        vae = of(comparison, "vae").estimator
        wrong = np.mean(vae.decode(vae.transform(held_out)) != held_out)
        assert row(comparison, "vae").reconstruction == pytest.approx(wrong)
    assert said[0] == said[1] and "The share of wrong categories" in said[0][1][0]
    assert "wrong" in tables.text(comparison) and "RMSE" not in tables.text(comparison)


def test_a_search_that_did_not_end_is_said_where_no_agreement_is_checked():
    x = datasets.linear_gaussian(n_cases=40, n_visible=4, n_latent=1).x
    x[3, 1] = np.nan
    data = datasets.Dataset(x, "holes", "", "made here", missing=True)
    comparison = compare.run(data, Options(1, hidden=(3,), epochs=1, ledger=0))
    linear = of(comparison, "vem-linear").estimator
    assert "Stopped before" not in tables.text(comparison)
    linear.converged_ = False
    assert "Stopped before they converged: variational EM, linear." in tables.text(comparison)


@pytest.mark.thorough
def test_a_pipe_that_nobody_reads_ends_quietly():
    command = [sys.executable, "-m", "teachvae", "gradcheck"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait() == 141


def test_the_module_runs():
    done = subprocess.run([sys.executable, "-m", "teachvae", "--version"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("teachvae ")


def test_the_command_is_in_time_to_choose_the_threads():
    code = (
        "import sys, teachvae.cli; assert 'numpy' not in sys.modules; teachvae.VAE; "
        "assert 'numpy' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_there():
    import teachvae

    for name in teachvae.__all__:
        assert name in dir(teachvae)
    for name in teachvae.NAMES:
        assert getattr(teachvae, name).__name__ == name
    for name, place in teachvae.MODULES.items():
        assert getattr(teachvae, name).__name__ == f"teachvae.{place}"
    with pytest.raises(AttributeError, match="no attribute 'Vae'"):
        teachvae.Vae
    with pytest.raises(ImportError):
        exec("from teachvae import Vae")


def test_a_model_that_was_not_fitted_has_dashes():
    assert tables._cell([None], 3) == "–" and tables._cell([-0.00001], 3) == "0.000"
    assert Fitted(ENTRIES[0], None, compare.Numbers("factor analysis")).row.gap_train is None
