"""The comparison, its table, its report and the command line: what a person runs and looks at."""

import base64
from dataclasses import replace
import json
import re
import subprocess
import sys

import numpy as np
import pytest

from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from teachvae import cli, compare, datasets, report, tables
from teachvae.compare import Fitted, Options

SMALL = Options(hidden=(6,), epochs=10)


@pytest.fixture(scope="module")
def digits():
    whole = datasets.digits()
    return replace(whole, x=whole.x[:300], labels=whole.labels[:300])


@pytest.fixture(scope="module")
def result(digits):
    return compare.run(digits, SMALL)


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


def test_no_number_is_made_up(result, digits):
    r = row(result, "ae")
    assert r.q_train is r.q_held_out is r.nlml_held_out is None
    cells = {line[0]: line[1:] for line in tables.cells(result)}
    assert cells["autoencoder"][:6] == ["–"] * 6
    few = compare.run(digits, replace(SMALL, ledger=7, epochs=1))
    for key in ("vem", "vae"):
        r = row(few, key)
        assert r.nlml_train is None and r.gap_train is None and r.q_train is not None, "7 of 240 cases only"
    cells = {line[0]: line[1:] for line in tables.cells(few)}
    assert cells["VAE"][0] == cells["VAE"][2] == "–" != cells["VAE"][1]
    counts = {(line[0], line[1]): line[-1] for line in tables.ledger_cells(few)}
    assert counts["VAE", "training"] == "7" and counts["factor analysis, EM", "training"] == "240"
    none = compare.run(digits, replace(SMALL, ledger=0, epochs=1))
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


def test_threads_change_nothing(digits):
    small = replace(SMALL, epochs=2, ledger=12)
    alone, together = (compare.run(digits, small, workers=n) for n in (1, 3))
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
    (doubt,) = compare._doubts("training", refused)
    Q = gaps.q_used[[3, 5]].mean()
    words = f"the grid refused 2 training cases (rows 3, 5 of the part, mean Q {Q:.3f}): they are left"
    assert words in doubt
    assert list(compare._doubts("training", gaps)) == []
    late = gaps._replace(gradient_norm=np.where(np.arange(len(nlml)) < 3, 0.5, gaps.gradient_norm))
    assert "3 training cases ended at a gradient of up to 5.0e-01" in next(compare._doubts("training", late))
    wide = gaps.nlml + np.where(np.arange(len(nlml)) == 4, -50.0, 0)
    lesser = gaps._replace(nlml=wide, approximation_error=np.where(wide < gaps.nlml, np.inf, 0.0))
    assert "1 training cases (rows 4 of the part) may have been left" in next(compare._doubts("training", lesser))
    few = gaps._replace(method="importance", nlml_error=np.where(np.arange(len(nlml)) == 7, np.inf, 0.0))
    assert "a few draws carry the NLML of 1 training cases (rows 7" in next(compare._doubts("training", few))
    assert compare.settled(few).sum() == len(nlml) - 1
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
    stopped = [f for f in fitted if f.key == "vae-linear"][0].estimator
    was = stopped.converged_
    stopped.converged_ = False
    try:
        early = replace(run, fitted=tuple(fitted))
        assert compare.check(early) == [], "one that was stopped early may differ"
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


def test_binary_data():
    whole = datasets.digits(threshold=8)
    dataset = replace(whole, x=whole.x[:120], labels=whole.labels[:120])
    result = compare.run(dataset, replace(SMALL, likelihood="bernoulli", epochs=5, ledger=12))
    assert row(result, "fa").q_train is None and result.runs[0].fitted[0].remarks
    assert all(f.row.denoising is None for f in result.runs[0].fitted)
    assert row(result, "vae").q_train > 0, "a negative log probability"
    page = report.html(result)
    assert "this data has none" in page and "factor analysis has a Gaussian likelihood" in page
    keys = {f.key for f in result.runs[0].fitted}
    assert keys == {"fa", "vem-linear", "vem", "vae-linear", "vae", "ae", "pca"}


def grey(n_cases=120):
    whole = datasets.digits(dequantise=False)
    return replace(whole, x=whole.x[:n_cases], labels=whole.labels[:n_cases])


@pytest.mark.parametrize("how", ["threshold", "fixed", "fresh"])
def test_binarised_data(how):
    options = replace(SMALL, likelihood="bernoulli", binarise=how, epochs=5, ledger=0)
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
    other = compare.run(grey(), replace(options, seed=1)).runs[0]
    assert not np.array_equal(other.held_out.x, run.held_out.x)


def test_grey_values_are_called_no_likelihood():
    result = compare.run(grey(), replace(SMALL, likelihood="bernoulli-relaxed", epochs=2, ledger=4))
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


def test_json_is_the_table(result):
    data = json.loads(json.dumps(tables.as_json(result)))
    models = {m["key"]: m for m in data["runs"][0]["models"]}
    assert set(models) == {"fa", "vem-linear", "vem", "vae-linear", "vae", "ae", "dae", "pca"}
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


def test_report_is_one_whole_page(result, tmp_path):
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


@pytest.mark.parametrize("name, K", [("spiral", 1), ("bent_sheet", 2), ("linear", 3)])
def test_report_of_data_without_images(name, K):
    dataset = datasets.load(name, n_cases=60)
    result = compare.run(dataset, replace(SMALL, n_components=K, epochs=5, ledger=8))
    assert report.html(result).count("data:image/png") == {1: 8, 2: 9, 3: 8}[K]


def test_a_constant_column_is_set_aside_in_the_whole_report(rng):
    x = rng.normal(size=(40, 4))
    x[:, 2] = 3.0
    rows = np.arange(40.0)[:, None]
    kept_out = int(datasets.split(datasets.Dataset(rows, "rows", "", ""))[1].x[0, 0])
    x[kept_out, 2] = 4.0                                           # the first held-out case differs there
    result = compare.run(datasets.Dataset(x, "a table", "", ""), replace(SMALL, epochs=2))
    assert "posteriors and the q" in report.html(result)
    for f in result.runs[0].fitted:
        if hasattr(f.estimator, "bound"):
            assert {r.split()[0] for r in f.remarks} >= {"constant", "columns"}, f.remarks


def test_names_are_escaped():
    dataset = replace(datasets.linear_gaussian(n_cases=40, n_visible=3, n_latent=1), name="<b>&", labels=None)
    page = report.html(compare.run(dataset, replace(SMALL, n_components=1, epochs=2)))
    assert "&lt;b&gt;&amp;" in page and "<b>&" not in page and "coloured by class" not in page


# ---- the command line ------------------------------------------------------------------------

QUICK = ["compare", "--epochs", "2", "--hidden", "4", "--latent", "1", "--data"]


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "data.csv"
    x = datasets.linear_gaussian(n_cases=40, n_visible=3, n_latent=1).x
    np.savetxt(path, x, delimiter=",", header="a,b,c", comments="")
    return str(path)


def test_stdout_is_the_result_and_stderr_all_else(table, tmp_path, capsys):
    assert cli.main([*QUICK, table, "--output", str(tmp_path / "out")]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[1].split()[:3] == ["model", "NLML", "Q"]
    assert "report.html" in err and "report.html" not in out and "VAE:" in err
    assert (tmp_path / "out" / "report.html").stat().st_size > 10_000


def test_quiet_json(table, tmp_path, capsys):
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


def test_a_failed_check_is_exit_1(table, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(compare, "check", lambda run: ["planted"])
    assert cli.main([*QUICK, table, "--output", str(tmp_path)]) == 1
    assert "check failed: seed 0: planted" in capsys.readouterr().err


def test_gradcheck_command(monkeypatch, capsys):
    assert cli.main(["gradcheck"]) == 0
    assert "worst relative error" in capsys.readouterr().out
    from teachvae import layers

    monkeypatch.setattr(layers.Tanh, "backward", lambda self, p, cache, dy, **_: (dy * (1 - cache), {}))
    assert cli.main(["gradcheck"]) == 1


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
        assert getattr(teachvae, name).__name__.endswith(name) and name in dir(teachvae)
    with pytest.raises(AttributeError, match="no attribute 'Vae'"):
        teachvae.Vae
    with pytest.raises(ImportError):
        exec("from teachvae import Vae")


def test_a_model_that_was_not_fitted_has_dashes():
    assert tables._cell([None], 3) == "–" and tables._cell([-0.00001], 3) == "0.000"
    assert Fitted("fa", None, compare.Row("factor analysis")).row.gap_train is None
