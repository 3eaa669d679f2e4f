"""The comparison, its table, its report and the command line: what a person runs and looks at."""

import base64
from dataclasses import replace
import json
import re
import subprocess
import sys

import numpy as np
import pytest

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
        noisy = np.sqrt(np.mean((f.estimator.reconstruct(run.noisy) - run.held_out.x) ** 2))
        assert f.row.denoising == pytest.approx(noisy)
        np.testing.assert_allclose(f.latent, f.estimator.transform(run.held_out.x))
        if f.key != "ae":
            Q = f.estimator.bound(run.held_out.x).mean()
            assert f.row.q_held_out == pytest.approx(Q, abs=1e-9)
        assert f.row.seconds > 0 and f.row.parameters == f.estimator.n_parameters_


def test_no_number_is_made_up(result):
    for key in ("vem", "vae"):
        r = row(result, key)
        assert r.nlml_train is None and r.gap_train is None and r.q_train is not None
    r = row(result, "ae")
    assert r.q_train is r.q_held_out is r.nlml_held_out is None
    cells = {line[0]: line[1:] for line in tables.cells(result)}
    assert cells["autoencoder"][:6] == ["–"] * 6
    assert cells["VAE"][0] == cells["VAE"][2] == "–" != cells["VAE"][1]


def test_the_noise_is_the_same_for_all_and_of_the_stated_size(result):
    run = result.runs[0]
    assert np.std(run.noisy - run.held_out.x) == pytest.approx(0.2, rel=0.05)


def test_same_seed_same_table_also_for_three_latent_variables():
    dataset = datasets.linear_gaussian(n_cases=60, n_visible=5, n_latent=2)
    first, second = (compare.run(dataset, replace(SMALL, n_components=3, epochs=5)) for _ in range(2))
    strip = [(r.q_train, r.q_held_out, r.reconstruction) for r in (f.row for f in first.runs[0].fitted)]
    assert strip == [(r.q_train, r.q_held_out, r.reconstruction) for r in (f.row for f in second.runs[0].fitted)]


def test_a_bound_below_the_truth_is_a_failure(result, monkeypatch):
    run = result.runs[0]
    assert compare.check(run) == []
    fa = run.fitted[0].estimator
    monkeypatch.setattr(type(fa), "bound", lambda self, X, **_: self.nlml(X).values - 0.5)
    failures = compare.check(run)
    assert any("Q lies below nlml" in text and "5.00e-01 nats" in text for text in failures)


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
        assert compare.check(replace(run, fitted=tuple(fitted))) == [], "one that was stopped early may differ"
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
    result = compare.run(dataset, replace(SMALL, likelihood="bernoulli", epochs=5))
    assert row(result, "fa").q_train is None and result.runs[0].fitted[0].remarks
    assert all(f.row.denoising is None for f in result.runs[0].fitted)
    assert row(result, "vae").q_train > 0, "a negative log probability"
    page = report.html(result)
    assert "this data is binary" in page and "Gaussian likelihood: not fitted" in page


def test_json_is_the_table(result):
    data = json.loads(json.dumps(tables.as_json(result)))
    models = {m["key"]: m for m in data["runs"][0]["models"]}
    assert set(models) == {"fa", "vem-linear", "vem", "vae-linear", "vae", "ae"}
    assert models["ae"]["q_train"] is None
    assert models["fa"]["q_held_out"] == row(result, "fa").q_held_out
    bits = (models["fa"]["q_held_out"] / 64 + np.log(17)) / np.log(2)
    assert models["fa"]["bits_per_pixel_held_out"] == pytest.approx(bits)


def test_report_is_one_whole_page(result, tmp_path):
    path = report.write(result, tmp_path / "report.html")
    page = path.read_text(encoding="utf-8")
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"], "no half page is left beside it"
    images = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert len(images) == 5
    assert all(base64.b64decode(i).startswith(b"\x89PNG") for i in images)
    assert not re.search(r'(?:src|href)="(?!data:)', page), "nothing is loaded from elsewhere"
    for heading in ("Learning curves", "The latent space", "Reconstructions", "Samples", "Denoising", "Ψ ended"):
        assert heading in page
    for line in tables.cells(result):
        for cell in line:
            assert cell in page
    assert "1/(12·17²)" in page


@pytest.mark.parametrize("name, K", [("spiral", 1), ("bent_sheet", 2), ("linear", 3)])
def test_report_of_data_without_images(name, K):
    dataset = datasets.load(name, n_cases=60)
    result = compare.run(dataset, replace(SMALL, n_components=K, epochs=5))
    assert report.html(result).count("data:image/png") == 5


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
        (["compare", "--data", "spiral", "--likelihood", "bernoulli"], ["data of 0 and 1", "binarise"]),
    ],
)
def test_bad_input_is_exit_2(arguments, parts, tmp_path, capsys):
    assert cli.main([*arguments, "--output", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and all(part in err for part in parts) and "Traceback" not in err


@pytest.mark.parametrize("option", ["--latent=0", "--epochs=x", "--hidden=4,-1", "--seed=-1", "--dtype=float16"])
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
    code = "import sys, teachvae.cli; assert 'numpy' not in sys.modules; teachvae.VAE; assert 'numpy' in sys.modules"
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
