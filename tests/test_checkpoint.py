"""Checkpoints: a fit that was ended in whatever way, and begun anew, ends on the bits of one that was not."""

import json
import math
import os
import subprocess
import sys
import warnings
import zipfile

import fake_gpu
import numpy as np
from own_parts import Laplace, Signs, Sine
import pytest

import teachvae
from teachvae import VAE, Autoencoder, FactorAnalysis, GaussianMixture, VariationalEM
from teachvae.arrays import store
from teachvae.inference import em
from teachvae.networks import optimizers
from teachvae.networks.training import Run, TrainingError
from teachvae.routes import checkpoint
from teachvae.routes.checkpoint import CheckpointError

pytestmark = pytest.mark.filterwarnings("ignore::teachvae.networks.convergence.ConvergenceWarning")


def some_data(n=60, seed=1):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, 2)) @ rng.standard_normal((2, 5)) + rng.standard_normal((n, 5))


X, VALIDATION = some_data(), some_data(20, 2)
HOLES = np.where(np.random.default_rng(0).random(X.shape) < 0.1, np.nan, X)
BITS = (X > 0).astype(float)
SHORT = {"hidden": (4,), "batch_size": 16}
OWN = {"likelihood": Laplace(5), "optimizer": Signs()}
# name: (an estimator for so many epochs, what fit is given)
FITS = {
    "VAE": (lambda e: VAE(2, epochs=e, **SHORT), {"X": X}),
    "VAE, momentum": (lambda e: VAE(1, epochs=e, optimizer="sgd", dtype="float32", **SHORT), {"X": X}),
    "VAE, validation": (
        lambda e: VAE(2, epochs=e, **SHORT), {"X": X, "validation": VALIDATION, "patience": 50}),
    "VAE, holes": (lambda e: VAE(1, epochs=e, missing="marginalise", **SHORT), {"X": HOLES}),
    "VAE, fresh bits": (
        lambda e: VAE(1, epochs=e, likelihood="bernoulli", binarise="fresh", **SHORT), {"X": 0.7 * BITS}),
    "VAE of one's own parts": (lambda e: VAE(1, epochs=e, **OWN, **SHORT), {"X": X}),
    "VAE from a seed of none": (lambda e: VAE(1, epochs=e, random_state=None, **SHORT), {"X": X}),
    "autoencoder": (
        lambda e: Autoencoder(1, epochs=e, noise_variance=0.1, **SHORT), {"X": X, "validation": VALIDATION}),
    "variational EM": (lambda e: VariationalEM(1, epochs=e, m_steps=2, **SHORT), {"X": X}),
    "variational EM, validation": (
        lambda e: VariationalEM(1, epochs=e, m_steps=2, dtype="float32", **SHORT),
        {"X": X, "validation": VALIDATION}),
    "variational EM, linear": (lambda e: VariationalEM(2, hidden=(), epochs=30 * e, tol=1e-15), {"X": X}),
    "variational EM, linear, holes": (
        lambda e: VariationalEM(1, hidden=(), missing="marginalise", epochs=30 * e), {"X": HOLES}),
    "factor analysis": (lambda e: FactorAnalysis(2, max_iter=30 * e, tol=1e-15), {"X": X}),
    "factor analysis, holes": (
        lambda e: FactorAnalysis(1, max_iter=30 * e, missing="marginalise"),
        {"X": HOLES, "sample_weight": np.arange(1.0, 61)}),
    "mixture": (lambda e: GaussianMixture(2, max_iter=e), {"X": X}),
    "mixture, full": (lambda e: GaussianMixture(2, max_iter=e, covariance="full"), {"X": X}),
}


def without_seeds(value):
    """What a generator was seeded with does not matter any more: it goes on from its state."""
    if isinstance(value, dict):
        return {key: without_seeds(one) for key, one in value.items() if key != "seeds"}
    return [without_seeds(one) for one in value] if isinstance(value, list) else value


def contents(model, folder):
    """What a file of the model would say of all that was learnt: two that agree agree bit for bit."""
    model.save(folder / "contents.npz")
    with zipfile.ZipFile(folder / "contents.npz") as zipped:
        said = json.loads(zipped.read(store.METADATA))
    sums = {name: sum for name, sum in said["sha256"].items() if name.startswith("fitted")}
    return without_seeds(said["values"]["fitted"]), sums


class Interrupt:
    """A progress that presses Ctrl-C in the third step that it is told of."""

    steps = 0

    def __call__(self, step, steps, value):
        self.steps += 1
        if self.steps == 3:
            raise KeyboardInterrupt


@pytest.mark.parametrize("name", FITS)
def test_ten_epochs_are_five_and_five_more(name, tmp_path):
    make, given = FITS[name]
    file = tmp_path / "fit.npz"
    if "seed of none" in name:                                     # another start every time
        make(4).fit(**given, checkpoint=file)
        (tmp_path / "copy.npz").write_bytes(file.read_bytes())
        whole = contents(make(10).fit(**given, checkpoint=tmp_path / "copy.npz"), tmp_path)
    else:
        whole = contents(make(10).fit(**given), tmp_path)
    make(5).fit(**given, checkpoint=file)
    assert contents(make(10).fit(**given, checkpoint=file), tmp_path) == whole
    before = file.stat().st_mtime_ns
    assert contents(make(10).fit(**given, checkpoint=file), tmp_path) == whole  # nothing is left to be done
    assert file.stat().st_mtime_ns > before
    again = teachvae.load(file, parts={"Laplace": Laplace, "Signs": Signs})
    assert contents(again, tmp_path) == whole


@pytest.mark.parametrize("name", [name for name in FITS if "seed of none" not in name])
def test_ctrl_c_leaves_the_last_whole_epoch(name, tmp_path, monkeypatch):
    make, given = FITS[name]
    monkeypatch.setattr(checkpoint, "PAUSE", 1e9)                # only the first epoch is written at once
    whole = contents(make(10).fit(**given), tmp_path)
    with pytest.raises(KeyboardInterrupt):
        make(10).fit(**given, checkpoint=tmp_path / "fit.npz", progress=Interrupt())
    teachvae.load(tmp_path / "fit.npz", parts={"Laplace": Laplace, "Signs": Signs})
    assert contents(make(10).fit(**given, checkpoint=tmp_path / "fit.npz"), tmp_path) == whole


STEPS = {"VAE": 4, "VAE, holes": 4, "autoencoder": 4, "variational EM": 2 * 4}  # of Adam in an epoch


@pytest.mark.parametrize("name", STEPS)
def test_ctrl_c_in_the_midst_of_an_epoch_leaves_a_model_that_answers(name, tmp_path, monkeypatch):
    make, given = FITS[name]
    model, three, taken, step = make(10), make(3).fit(**given), [], optimizers.Adam.step

    def interrupted(self, flat, grad, state):
        step(self, flat, grad, state)
        taken.append(1)
        if len(taken) == 3 * STEPS[name] + 2:                      # two steps into the fourth epoch
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "PAUSE", 1e9)                # the third epoch is written as fit is left
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(optimizers.Adam, "step", interrupted)
        model.fit(**given, checkpoint=tmp_path / "fit.npz")
    path = "loss_path_" if name == "autoencoder" else "q_path_"
    np.testing.assert_array_equal(getattr(model, path), getattr(three, path)[:3])
    np.testing.assert_array_equal(model.decode(np.ones((1, model.n_components))),
                                  three.decode(np.ones((1, model.n_components))))
    rest = make(10).fit(**given, checkpoint=tmp_path / "fit.npz")
    assert contents(rest, tmp_path) == contents(make(10).fit(**given), tmp_path)


def test_a_search_by_lbfgs_goes_on_to_the_same_minimum(tmp_path):
    options = {"hidden": (), "optimizer": "lbfgs", "nodes": "sigma"}
    whole = VAE(1, **options).fit(X)
    VAE(1, epochs=5, **options).fit(X, checkpoint=tmp_path / "fit.npz")
    again = VAE(1, **options).fit(X, checkpoint=tmp_path / "fit.npz")
    assert again.converged_
    third = VAE(1, **options).fit(X, checkpoint=tmp_path / "fit.npz")
    assert contents(third, tmp_path) == contents(again, tmp_path)  # at its end it stays
    np.testing.assert_allclose(again.q_path_[-1], whole.q_path_[-1], rtol=0, atol=1e-9)
    np.testing.assert_array_equal(again.q_path_[:5], whole.q_path_[:5])


def test_patience_that_has_ended_a_fit_has_ended_it(tmp_path):
    give = {"X": X, "validation": VALIDATION, "patience": 2, "checkpoint": tmp_path / "fit.npz"}
    first = VAE(2, epochs=300, hidden=(16,), learning_rate=0.05, batch_size=16).fit(**give)
    assert len(first.q_path_) < 300
    again = VAE(2, epochs=300, hidden=(16,), learning_rate=0.05, batch_size=16).fit(**give)
    assert contents(again, tmp_path) == contents(first, tmp_path)


@pytest.mark.parametrize("name", ["VAE", "variational EM", "autoencoder", "factor analysis", "mixture"])
def test_a_fit_on_the_gpu_goes_on_there(name, tmp_path, monkeypatch):
    fake_gpu.install(monkeypatch)
    make, given = FITS[name]
    monkeypatch.setattr(checkpoint, "PAUSE", 0.0)
    monkeypatch.setattr(checkpoint, "SHARE", math.inf)
    monkeypatch.setattr(em, "RACE", 2)                             # after which EM is kept step by step

    def fit(epochs, **more):
        fake_gpu.last_place = np.random.default_rng(0)             # its rounding
        return make(epochs).set_params(backend="cupy").fit(**given, **more)

    def last(model):
        return getattr(model, "loss_path_" if name == "autoencoder" else "nlml_path_" if "factor" in name else
                       "q_path_")[-1]

    whole = fit(6)
    fit(3, checkpoint=tmp_path / "fit.npz")
    rest = fit(6, checkpoint=tmp_path / "fit.npz")
    assert rest.backend_.name == "cupy"
    np.testing.assert_allclose(last(rest), last(whole), rtol=1e-9)


# ---- what is refused -----------------------------------------------------------------------------------


REFUSALS = {
    "other data": (lambda: VAE(2, epochs=3, **SHORT), {"X": X + 1e-9}, "X is 60 × 5 numbers, sha256 .* here"),
    "fewer data": (lambda: VAE(2, epochs=3, **SHORT), {"X": X[1:]}, "X is 59 × 5 numbers.* here, and 60 × 5"),
    "validation": (
        lambda: VAE(2, epochs=3, **SHORT), {"X": X, "validation": VALIDATION},
        "validation is .* and not given there"),
    "a parameter": (
        lambda: VAE(2, epochs=3, hidden=(4,), batch_size=8), {"X": X}, "batch_size is 8 here, and 16 there"),
    "two parameters": (
        lambda: VAE(1, epochs=3, **SHORT, random_state=1), {"X": X},
        "n_components is 1 here, and 2 there; random_state is 1 here, and 0 there"),
    "another class": (lambda: Autoencoder(2, epochs=3, **SHORT), {"X": X}, "the class is 'Autoencoder' here"),
    "part of one's own": (
        lambda: VAE(2, epochs=3, likelihood=Laplace(5), **SHORT), {"X": X},
        r"likelihood is Laplace\(n_visible=5\) here, and 'gaussian' there"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_checkpoint_of_another_fit_is_refused_and_left_as_it_is(case, tmp_path):
    make, given, complaint = REFUSALS[case]
    file = tmp_path / "fit.npz"
    VAE(2, epochs=2, **SHORT).fit(X, checkpoint=file)
    before = file.read_bytes()
    with pytest.raises(CheckpointError, match=f"fit.npz belongs to another fit: .*{complaint}"):
        make().fit(**given, checkpoint=file)
    assert file.read_bytes() == before and os.listdir(tmp_path) == ["fit.npz"]


def test_what_is_no_checkpoint_is_left_as_it_is(tmp_path):
    file = tmp_path / "model.npz"
    VAE(2, epochs=2, **SHORT).fit(X).save(file)
    with pytest.raises(CheckpointError, match="model.npz holds no training that could be gone on with"):
        VAE(2, epochs=2, **SHORT).fit(X, checkpoint=file)
    file.write_bytes(file.read_bytes()[:-9])
    before = file.read_bytes()
    with pytest.raises(store.FileError, match="model.npz is damaged"):
        VAE(2, epochs=2, **SHORT).fit(X, checkpoint=file)
    assert file.read_bytes() == before
    with pytest.raises(OSError, match="cannot be written"):
        VAE(2, epochs=2, **SHORT).fit(X, checkpoint=tmp_path / "nowhere" / "fit.npz")


def test_threads_and_more_epochs_are_no_other_fit(tmp_path):
    VAE(2, epochs=2, **SHORT).fit(X, checkpoint=tmp_path / "fit.npz")
    more = VAE(2, epochs=3, n_jobs=1, **SHORT).fit(X, checkpoint=tmp_path / "fit.npz")
    assert len(more.q_path_) == 3


def test_on_several_ranks_a_checkpoint_is_refused(tmp_path):
    class Two(type(teachvae.ranks.SERIAL)):
        """One of two ranks, of which the other one was given a checkpoint."""

        size = 2

        def gather(self, value):
            return [value, True]

    for file in (tmp_path / "fit.npz", None):                      # both ranks are told
        with pytest.raises(ValueError, match="a checkpoint is of one process, this fit runs on 2 ranks"):
            checkpoint.Checkpoint(file, VAE(comm=Two()), {}, Two())


def test_a_disk_that_is_full_keeps_the_model_and_the_last_file(tmp_path, monkeypatch):
    file, model, write = tmp_path / "fit.npz", VAE(2, epochs=9, **SHORT), store.write
    monkeypatch.setattr(checkpoint, "PAUSE", 0.0)
    monkeypatch.setattr(checkpoint, "SHARE", math.inf)
    written = []

    def full(*given):
        if len(written) >= 3:
            raise OSError(28, "No space left on device")
        written.append(write(*given))

    monkeypatch.setattr(store, "write", full)
    with pytest.raises(OSError, match="No space left"):
        model.fit(X, checkpoint=file)
    assert len(model.q_path_) == 4 and len(teachvae.load(file).q_path_) == 3


@pytest.mark.parametrize("name", ["factor analysis", "mixture", "variational EM, linear"])
def test_a_disk_that_is_full_keeps_what_em_has(name, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "PAUSE", 0.0)
    monkeypatch.setattr(checkpoint, "SHARE", math.inf)
    make, given = FITS[name]
    model, write, written = make(10), store.write, []

    def full(*arguments):
        if len(written) >= 3:
            raise OSError(28, "No space left on device")
        written.append(write(*arguments))

    monkeypatch.setattr(store, "write", full)
    with pytest.raises(OSError, match="No space left"):
        model.fit(**given, checkpoint=tmp_path / "fit.npz")
    assert np.isfinite(model.bound(X)).all()


def test_a_disk_that_is_full_at_the_end_keeps_the_model(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "PAUSE", 1e9)
    model, write, written = VAE(2, epochs=5, **SHORT), store.write, []

    def full(*arguments):
        if written:
            raise OSError(28, "No space left on device")
        written.append(write(*arguments))

    monkeypatch.setattr(store, "write", full)
    with pytest.raises(OSError, match="No space left"):
        model.fit(X, checkpoint=tmp_path / "fit.npz")
    assert len(model.q_path_) == 5
    written.clear()
    with pytest.raises(KeyboardInterrupt):                         # and Ctrl-C remains Ctrl-C
        VAE(2, epochs=5, **SHORT).fit(X, checkpoint=tmp_path / "new.npz", progress=Interrupt())


def test_fewer_epochs_than_there_are_return_what_is_there(tmp_path):
    for name in ("VAE", "factor analysis", "mixture", "variational EM, linear"):
        make, given = FITS[name]
        file = tmp_path / f"{name}.npz"
        whole = make(6).fit(**given, checkpoint=file)
        assert contents(make(4).fit(**given, checkpoint=file), tmp_path)[1] == contents(whole, tmp_path)[1]


class State:
    """Of an optimiser of one's own: how many steps it has gone."""

    t = 0


class Counting(Signs):
    def init(self, flat):
        return State()

    def step(self, flat, grad, state):
        state.t += 1
        flat -= 0.01 * np.sign(grad)


def test_a_state_that_could_not_be_had_back_is_refused_after_the_first_epoch(tmp_path):
    with pytest.raises(TypeError, match="the training holds objects of State, which a checkpoint"):
        VAE(2, epochs=5, optimizer=Counting(), **SHORT).fit(X, checkpoint=tmp_path / "fit.npz")
    assert os.listdir(tmp_path) == []


def test_what_cannot_be_written_is_told_before_the_training(tmp_path):
    def never(*step):
        raise AssertionError("an epoch was trained")

    for file, complaint in ((tmp_path / "nowhere" / "fit.npz", "cannot be written"), (tmp_path, "directory")):
        with pytest.raises(OSError, match=complaint):
            VAE(2, epochs=5, **SHORT).fit(X, checkpoint=file, progress=never)
    with pytest.raises(TypeError, match="activation.function holds <function .*lambda"):
        VAE(2, epochs=5, activation=Bend(lambda x: x), **SHORT).fit(X, checkpoint=tmp_path / "fit.npz")


class Bend(Sine):
    """An activation that holds a function."""

    def __init__(self, function):
        object.__setattr__(self, "function", function)


def test_what_a_killed_process_left_is_removed(tmp_path):
    (tmp_path / ".fit.npz.0011aabb.part").write_bytes(b"half")
    VAE(2, epochs=2, **SHORT).fit(X, checkpoint=tmp_path / "fit.npz")
    assert os.listdir(tmp_path) == ["fit.npz"]


def test_a_generator_as_random_state_goes_on(tmp_path):
    rng = np.random.default_rng(3)
    whole = VAE(2, epochs=6, random_state=np.random.default_rng(3), **SHORT).fit(X)
    VAE(2, epochs=3, random_state=rng, **SHORT).fit(X, checkpoint=tmp_path / "fit.npz")
    rest = VAE(2, epochs=6, random_state=rng, **SHORT).fit(X, checkpoint=tmp_path / "fit.npz")
    np.testing.assert_array_equal(rest.q_path_, whole.q_path_)


def test_keeping_the_state_does_not_grow_with_the_epochs_before():
    run = Run({"w": np.zeros(3)}, path=[1.0] * 10**5, held_out_path=[1.0] * 10**5)
    kept = run.copied()
    assert kept.path is not run.path and kept.params["w"] is not run.params["w"]
    class Once(list):
        def __deepcopy__(self, memo):
            raise AssertionError("every number of the path was walked through")

    run.path = Once(run.path)
    run.copied()


def test_a_fit_that_diverges_leaves_the_last_whole_epoch_in_the_file(tmp_path):
    file = tmp_path / "fit.npz"
    # a step that is too long for the next epochs
    model = VAE(2, epochs=200, optimizer=optimizers.SGD(learning_rate=0.05, momentum=0.99), **SHORT)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(TrainingError, match="holds the model as it stood after epoch"):
            model.fit(X, checkpoint=file)
    there = teachvae.load(file)
    assert len(there.q_path_) == len(model.q_path_) and np.isfinite(there.q_path_).all()
    np.testing.assert_array_equal(there.transform(X), model.transform(X))


# ---- killed ----------------------------------------------------------------------------------------------


KILLER = """
import os, random, signal, sys, time, warnings
import numpy as np
import teachvae
from teachvae import VAE, FactorAnalysis, VariationalEM
from teachvae.routes import checkpoint

warnings.simplefilter("ignore")
checkpoint.PAUSE, checkpoint.SHARE = 0.0, float('inf')
folder, kills, route = sys.argv[1], int(sys.argv[2]), sys.argv[3]
X = np.load(folder + "/x.npy")
make = {
    "VAE": lambda e: VAE(2, hidden=(8,), epochs=e, batch_size=16),
    "variational EM": lambda e: VariationalEM(1, hidden=(4,), epochs=e, m_steps=1, batch_size=32),
}[route]
file, epochs, chance, killed, seen = folder + "/fit.npz", 10**6, random.Random(0), 0, 0
while killed < kills:
    ready, tell = os.pipe()
    child = os.fork()
    if child == 0:
        make(epochs).fit(X, checkpoint=file, progress=lambda *step: os.write(tell, b".") and None)
        os._exit(1)                                                # it was to be killed
    os.close(tell)
    if killed % 4:                                                 # else at the very start
        os.read(ready, 1)
    os.close(ready)
    time.sleep(chance.uniform(0.0, 0.03))
    os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    killed += 1
    if os.path.exists(file):
        done = len(teachvae.load(file).q_path_)                    # loadable, and never further back
        assert done >= seen, (done, seen)
        seen = done
assert seen > kills / 2, seen
rest = make(seen + 3).fit(X, checkpoint=file)
whole = make(seen + 3).fit(X)
same = np.array_equal(rest.q_path_, whole.q_path_) and np.array_equal(rest.transform(X), whole.transform(X))
print(killed, "killed", seen, "epochs", "same" if same else "DIFFERENT")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX's fork")
@pytest.mark.parametrize("kills, route", [
    (20, "VAE"), pytest.param(100, "VAE", marks=pytest.mark.thorough),
    pytest.param(40, "variational EM", marks=pytest.mark.thorough),
])
def test_a_process_that_is_killed_at_any_moment_leaves_a_file_that_goes_on(kills, route, tmp_path):
    np.save(tmp_path / "x.npy", X)
    (tmp_path / "killer.py").write_text(KILLER)
    run = subprocess.run(
        [sys.executable, tmp_path / "killer.py", tmp_path, str(kills), route], capture_output=True, text=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith(f"{kills} killed ") and run.stdout.endswith(" same\n"), run.stdout
