"""The comparison in one call: its tables, models and report are those of the command line."""

from dataclasses import replace
import json

import numpy as np
import pandas as pd
import pytest

import teachvae
from teachvae import cli, datasets, plots
from teachvae.comparison import compare as comparing, result as results, tables
from teachvae.evaluation.gaps import Gaps

DATA = datasets.linear_gaussian(n_cases=30, n_visible=4, n_latent=1)
SHORT = {"hidden": (3,), "epochs": 2, "ledger": 2}


@pytest.fixture(scope="module")
def found():
    return teachvae.compare(DATA.x, 1, **SHORT)


def timeless(comparison):
    """The comparison without the seconds that its models took."""
    def run(one):
        return replace(one, fitted=tuple(replace(f, row=replace(f.row, seconds=0.0)) for f in one.fitted))

    return replace(comparison, runs=tuple(run(one) for one in comparison.runs))


def test_it_is_what_the_command_line_runs(found):
    options = comparing.Options(1, **SHORT)
    other = comparing.run(replace(DATA, name="data", labels=None), options)
    assert tables.text(timeless(found.comparison)) == tables.text(timeless(other))
    assert found.comparison.options == options and found.seconds > 0


def test_what_it_hands_back(found):
    assert str(found) == tables.text(found.comparison)
    assert {"factor analysis, EM", "VAE", "autoencoder"} <= set(found.models) == set(found.rows)
    np.testing.assert_allclose(
        found.models["VAE"].bound(found.held_out.x).mean(), found.rows["VAE"].q_held_out
    )
    assert len(found.train.x) == 24 and len(found.held_out.x) == 6
    assert isinstance(found.ledgers["VAE"]["held out"], Gaps) and "autoencoder" not in found.ledgers
    assert found.failures == ()
    fitted = found.comparison.runs[0].fitted
    assert found.remarks == [(f.row.model, remark) for f in fitted for remark in f.remarks]
    assert json.loads(json.dumps(found.as_json()))["data"]["n_train"] == 24
    assert repr(found) == "<comparison of 9 models on data: 24 training and 6 held-out data cases>"
    assert found._repr_html_().startswith("<pre>") and "the ledger" in found._repr_html_()
    with_a_bound = {name: model for name, model in found.models.items() if name in found.ledgers}
    assert len(plots.learning_curves(with_a_bound).axes[0].get_lines()) == len(found.ledgers)


def test_the_report_is_written_where_it_is_asked_for(found, tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(results.report, "html", lambda *arguments: given.append(arguments) or "a page")
    path = found.report(tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "report.html" and path.read_text() == "a page"
    assert given == [(found.comparison, found.seconds)]
    monkeypatch.chdir(tmp_path)
    assert str(found.report()) == "teachvae-report/report.html"
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        found.report(tmp_path / "file")


def canned(monkeypatch):
    """Whatever is compared, what was given is handed back in a list, and nothing is trained."""
    given = []

    def run(*arguments):
        given.append(arguments)
        raise ValueError("enough")

    monkeypatch.setattr(comparing, "run", run)
    return given


def asked(monkeypatch, *arguments, **options):
    given = canned(monkeypatch)
    with pytest.raises(ValueError, match="enough"):
        teachvae.compare(*arguments, **options)
    return given[0]


def test_tables_become_data_sets(monkeypatch):
    frame = pd.DataFrame(DATA.x, columns=list("abcd")).astype("float32")
    dataset, options, *_ = asked(monkeypatch, frame, hidden=[5, 4], labels=["u", "v"] * 15)
    np.testing.assert_array_equal(dataset.x, DATA.x.astype("float32"))
    assert dataset.columns == tuple("abcd") and dataset.labels.tolist() == ["u", "v"] * 15
    assert options.hidden == (5, 4) and options.likelihood == "gaussian" and not dataset.missing
    holed = np.where(DATA.x > 2, np.nan, DATA.x)
    dataset, *_ = asked(monkeypatch, holed, missing="marginalise")
    assert dataset.missing and np.isnan(dataset.x).any()
    assert asked(monkeypatch, DATA)[0] is DATA
    assert asked(monkeypatch, DATA, binarise="threshold")[1].likelihood == "bernoulli"


def test_an_interrupted_one_goes_on(tmp_path, found):
    def broken(title, step, steps, value):
        raise KeyboardInterrupt

    save = tmp_path / "kept"
    with pytest.raises(KeyboardInterrupt):
        teachvae.compare(DATA.x, 1, progress=broken, save=save, **SHORT)
    again = teachvae.compare(DATA.x, 1, save=save, resume=True, **SHORT)
    assert tables.text(timeless(again.comparison)) == tables.text(timeless(found.comparison))
    assert isinstance(teachvae.load(save / "seed0" / "vae.npz"), teachvae.VAE)


@pytest.mark.parametrize("data, options, error, words", [
    ("digits", {}, TypeError, "data must be X .N, D. or a Dataset, got 'digits': give datasets.load"),
    (DATA.x[0], {}, ValueError, "Expected 2D array"),
    (np.where(DATA.x > 2, np.nan, DATA.x), {}, ValueError, "NaN"),
    (DATA, {"labels": [1] * 30}, ValueError, "a Dataset has labels of its own"),
    (DATA.x, {"labels": [1]}, ValueError, "labels must have 30 entries, got 1"),
    (DATA.x, {"missing": "drop"}, ValueError, "missing must be one of .'error', 'marginalise'., got 'drop'"),
    (DATA.x, {"epoch": 3}, TypeError, "compare has no option epoch; it has n_components, hidden, likelihood"),
    (DATA.x, {"epochs": 0}, ValueError, "epochs must be an integer >= 1, got 0"),
    (DATA.x, {"n_components": 5}, ValueError, "n_components must be an integer >= 1 and <= 4"),
    (DATA.x, {"hidden": 3}, ValueError, "hidden must be a tuple of layer sizes"),
    (DATA.x, {"ledger": -1}, ValueError, "ledger must be an integer >= 0, got -1"),
    (DATA.x, {"likelihood": "normal"}, ValueError, "likelihood must be one of .*'gaussian'"),
    (DATA.x, {"dtype": "float16"}, ValueError, "dtype must be one of"),
    (DATA.x, {"backend": "torch"}, ValueError, "backend must be one of"),
    (DATA.x, {"held_out": 1.5}, ValueError, "held_out"),
    (DATA.x, {"binarise": "half"}, ValueError, "binarise must be one of"),
    (DATA.x, {"binarise": "fixed", "likelihood": "poisson"}, ValueError, "not for 'poisson': leave one out"),
    (DATA.x, {"resume": True}, ValueError, "resume=True in that of save: give it"),
])
def test_what_does_not_fit_is_refused_at_the_door(data, options, error, words):
    with pytest.raises(error, match=words):
        teachvae.compare(data, **{"n_components": 1, "hidden": (3,), "epochs": 1, **options})


def test_the_command_line_stands_on_it(found, tmp_path, monkeypatch, capsys):
    given = []

    def compare(*arguments, **options):
        given.append((arguments, options))
        return found

    monkeypatch.setattr(results, "compare", compare)
    monkeypatch.setattr(results.report, "html", lambda comparison, seconds: "a page")
    arguments = ["compare", "--data", "linear", "--latent", "3", "--hidden", "7,5", "--seeds", "2"]
    assert cli.main([*arguments, "--output", str(tmp_path)]) == 0
    ((dataset, latent), options), = given
    assert dataset.name == "linear" and latent == 3
    assert options["hidden"] == (7, 5) and options["seeds"] == 2
    out, err = capsys.readouterr()
    assert out == f"{found}\n" and (tmp_path / "report.html").read_text() == "a page"
    assert all(f"note: {model}: {remark}" in err for model, remark in found.remarks)
    assert teachvae.compare.__module__ == "teachvae.comparison.result"
