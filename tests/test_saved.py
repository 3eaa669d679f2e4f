"""A comparison that is kept in a folder: what is in it, and that an interrupted one ends on the same."""

from dataclasses import replace
import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import teachvae
from teachvae import datasets
from teachvae.arrays import store
from teachvae.cli import main
from teachvae.comparison import compare, tables
from teachvae.comparison.saved import Folder, FolderError
from teachvae.routes import checkpoint

pytestmark = pytest.mark.filterwarnings("ignore::teachvae.networks.convergence.ConvergenceWarning")

OPTIONS = compare.Options(n_components=1, hidden=(4,), epochs=5, ledger=3)


@pytest.fixture(scope="module")
def data():
    return datasets.linear_gaussian(n_cases=50, n_visible=4, n_latent=1, seed=3)


def table(comparison):
    """The tables of a comparison, but for the seconds."""
    timeless = [
        replace(run, fitted=tuple(replace(f, row=replace(f.row, seconds=0.0)) for f in run.fitted))
        for run in comparison.runs
    ]
    return tables.text(replace(comparison, runs=tuple(timeless)))


@pytest.fixture(scope="module")
def whole(data):
    return table(compare.run(data, OPTIONS))


def interrupt_at(place):
    """A progress that presses Ctrl-C at its call number `place`."""
    calls = []

    def progress(*step):
        calls.append(step)
        if len(calls) == place:
            raise KeyboardInterrupt

    return progress


def test_a_comparison_that_is_kept_is_the_same_and_so_is_what_comes_back(data, whole, tmp_path):
    folder = tmp_path / "kept"
    assert table(compare.run(data, OPTIONS, folder=Folder(folder))) == whole
    again = compare.run(data, OPTIONS, folder=Folder(folder, resume=True))
    assert table(again) == whole
    with np.load(folder / "seed0" / "split.npz") as split:
        train, rows = split["train_x"], split["train_rows"]
        np.testing.assert_array_equal(train, data.x[rows.astype(int)])
    model = teachvae.load(folder / "seed0" / "vae.npz")
    mine = {f.key: f.estimator for f in again.runs[0].fitted}["vae"]
    np.testing.assert_array_equal(model.bound(train), mine.bound(train))
    seconds = [f.row.seconds for f in again.runs[0].fitted]
    assert all(s is not None for s in seconds)


@pytest.mark.parametrize("place", [
    40, "the ledger", *(pytest.param(place, marks=pytest.mark.thorough) for place in (1, 8, 170)),
])
def test_an_interrupted_comparison_goes_on(place, data, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "PAUSE", 0.0)
    monkeypatch.setattr(checkpoint, "SHARE", math.inf)
    if place == "the ledger":
        def progress(title, *step):
            if title == "the ledger":
                raise KeyboardInterrupt
    else:
        progress = interrupt_at(place)
    with pytest.raises(KeyboardInterrupt):
        compare.run(data, OPTIONS, progress, folder=Folder(tmp_path))
    trained, fit = [], teachvae.VAE.fit

    def counted(self, *given, **options):
        trained.append(self)
        return fit(self, *given, **options)

    monkeypatch.setattr(teachvae.VAE, "fit", counted)
    assert table(compare.run(data, OPTIONS, folder=Folder(tmp_path, resume=True))) == whole
    assert len(trained) == (0 if place == "the ledger" else 2)     # what was done is not done again


@pytest.mark.parametrize("other, complaint", [
    ({"epochs": 6}, "epochs is 6 here, and 5 there"), ({"seed": 1}, "seed is 1 here, and 0 there"),
    ({"hidden": (5,)}, r"hidden is \(5,\) here, and \(4,\) there"),
])
def test_another_comparison_is_refused(other, complaint, data, tmp_path):
    Folder(tmp_path).begin(data, OPTIONS)
    with pytest.raises(FolderError, match=f"holds another comparison: {complaint}"):
        Folder(tmp_path, resume=True).begin(data, replace(OPTIONS, **other))
    with pytest.raises(FolderError, match="the data is '50 × 4 numbers, sha256"):
        Folder(tmp_path, resume=True).begin(replace(data, x=data.x + 1), OPTIONS)


def test_a_folder_that_a_kill_left_half_begun_is_begun_anew(data, tmp_path):
    (tmp_path / ".comparison.npz.0011aabb.part").write_bytes(b"half")
    Folder(tmp_path, resume=True).begin(data, OPTIONS)
    assert (tmp_path / "comparison.npz").exists()


def test_a_damaged_checkpoint_ends_a_comparison(data, tmp_path):
    folder = Folder(tmp_path)
    folder.begin(data, OPTIONS)
    (tmp_path / "seed0").mkdir()
    (tmp_path / "seed0" / "vae.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(store.FileError, match="vae.npz is damaged"):
        compare.run(data, OPTIONS, folder=Folder(tmp_path, resume=True))


def test_a_folder_that_is_in_use_is_refused(data, tmp_path):
    Folder(tmp_path).begin(data, OPTIONS)
    with pytest.raises(FolderError, match="is not empty, and --resume goes on with it"):
        Folder(tmp_path).begin(data, OPTIONS)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("")
    with pytest.raises(FolderError, match="is not empty, and it is none of a comparison"):
        Folder(tmp_path / "other", resume=True).begin(data, OPTIONS)
    (tmp_path / "comparison.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(store.FileError, match="comparison.npz is damaged"):
        Folder(tmp_path, resume=True).begin(data, OPTIONS)


def test_the_command_line_asks_for_a_folder(capsys, tmp_path):
    assert main(["compare", "--resume", "--output", str(tmp_path)]) == 2
    assert "--resume goes on in the folder of --save FOLDER" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is a signal of POSIX")
def test_ctrl_c_ends_the_command_with_130_and_resume_goes_on(tmp_path):
    program = (                                                    # a shell's background job ignores Ctrl-C
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from teachvae.cli import main; sys.exit(main())"
    )
    command = [
        sys.executable, "-c", program, "compare", "--data", "linear", "--cases", "60", "--latent", "1",
        "--ledger", "0", "--epochs", "100000", "--output", tmp_path / "report", "--save", tmp_path / "kept",
    ]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    file = tmp_path / "kept" / "seed0" / "vem.npz"
    while run.poll() is None and not file.exists():
        time.sleep(0.05)
    run.send_signal(signal.SIGINT)
    _, said = run.communicate()
    assert run.returncode == 130, said
    assert f"teachvae: interrupted; the same command with --resume goes on from {tmp_path / 'kept'}" in said
    assert len(teachvae.load(file).q_path_) >= 1 and not list(file.parent.glob(".*.part"))
    assert sorted(os.listdir(file.parent)) == ["fa.npz", "split.npz", "vem-linear.npz", "vem.npz"]
