"""Files of estimators: all that was learnt comes back, nothing in a file is executed, damage is told."""

import copy
import hashlib
import io
import json
import os
from pathlib import Path
import pickle
import re
import subprocess
import sys
import warnings
import zipfile

import fake_gpu
from hypothesis import given, settings, strategies as st
import joblib
import numpy as np
from own_parts import Laplace, Round, Scale, Signs, Sine
import pandas as pd
import pytest
from sklearn.base import clone

import teachvae
from teachvae import (
    VAE, Autoencoder, FactorAnalysis, GaussianMixture, LinearProbe, MixtureOfFactorAnalysers,
    PrincipalComponents, VariationalEM, layers, likelihoods, optimizers,
)
from teachvae.arrays import store
from teachvae.arrays.backend import Backend, BackendError

pytestmark = pytest.mark.filterwarnings("ignore::teachvae.networks.convergence.ConvergenceWarning")

OWN = {cls.__name__: cls for cls in (Laplace, Round, Scale, Signs, Sine)}
SHORT = {"hidden": (4,), "epochs": 3, "batch_size": 16}


class Renamed(VAE):
    """An estimator that inherits from one."""


def some_data(kind="real", n=40):
    """X (n, 4): real numbers, bits, counts, or two real columns, categories, bits, and holes."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((n, 2)) @ rng.standard_normal((2, 4)) + 0.3 * rng.standard_normal((n, 4))
    if kind == "bits":
        return (x > 0).astype(float)
    if kind == "counts":
        return np.floor(np.abs(3 * x))
    if kind == "constant":
        x[:, 1] = 7.5
    if kind == "mixed":
        x[:, 2], x[:, 3] = np.arange(n) % 3 + 0.5, x[:, 3] > 0
    if kind in ("mixed", "holes"):
        x[rng.random(x.shape) < 0.1] = np.nan
    return x


MIXED = [("gaussian", [0, 1]), ("categorical", [2]), ("bernoulli", [3])]
ROUTES = {
    "factor analysis": (FactorAnalysis(2), "real"),
    "factor analysis, holes, float32": (FactorAnalysis(2, missing="marginalise", dtype="float32"), "holes"),
    "probabilistic PCA": (FactorAnalysis(1, noise="isotropic", random_state=3), "real"),
    "constant column": (FactorAnalysis(1, constant="drop"), "constant"),
    "variational EM, linear": (VariationalEM(2, hidden=()), "real"),
    "variational EM": (VariationalEM(1, m_steps=2, random_state=np.random.SeedSequence(5), **SHORT), "real"),
    "variational EM, mixed": (
        VariationalEM(1, likelihood=MIXED, missing="marginalise", m_steps=2, **SHORT), "mixed"),
    "VAE": (VAE(2, **SHORT), "real"),
    "VAE, float32": (VAE(2, dtype=np.float32, posterior="full", **SHORT), "real"),
    "VAE, L-BFGS": (VAE(1, hidden=(), optimizer="lbfgs", nodes="sigma", epochs=20, tol=1e-2), "real"),
    "VAE, bits": (VAE(1, likelihood="bernoulli", optimizer=optimizers.SGD(1e-3), **SHORT), "bits"),
    "VAE, counts": (VAE(1, likelihood="poisson", n_jobs=1, **SHORT), "counts"),
    "VAE, mixed": (VAE(1, likelihood=MIXED, missing="marginalise", separate=True, **SHORT), "mixed"),
    "VAE, Student-t": (VAE(1, likelihood=likelihoods.StudentT(4, dof=5.0), **SHORT), "real"),
    "VAE, predicted variances": (VAE(1, likelihood="gaussian-predicted", **SHORT), "real"),
    "VAE of one's own parts": (
        VAE(2, likelihood=Laplace(4), posterior=Round(2), optimizer=Signs(), activation=Sine(),
            decoder=layers.Sequential((layers.Linear(2, 4), Scale(4))), **SHORT), "real"),
    "VAE, inherited": (Renamed(1, **SHORT), "real"),
    "autoencoder": (Autoencoder(2, **SHORT), "real"),
    "denoising autoencoder, float32": (Autoencoder(1, noise_variance=0.1, dtype="float32", **SHORT), "real"),
    "mixture": (GaussianMixture(2), "real"),
    "mixture, tied": (GaussianMixture(2, pmf="tied", covariance="full", dtype="float32"), "real"),
    "mixture from a start": (
        GaussianMixture(2, init=(np.array([0.5, 0.5]), np.eye(2, 4), np.ones((2, 4)))), "real"),
    "factor analysers": (MixtureOfFactorAnalysers(2, n_latent=1), "real"),
    "factor analysers, own noise": (
        MixtureOfFactorAnalysers(2, n_latent=1, noise="own", constant="drop", dtype="float32"), "constant"),
    "principal components": (PrincipalComponents(2), "real"),
}
QUESTIONS = {
    "transform": lambda model, x: model.transform(x),
    "decode": lambda model, x: model.decode(np.ones((3, model.transform(x).shape[1]))),
    "bound": lambda model, x: model.bound(x),
    "nlml": lambda model, x: model.nlml(x).values,
    "gaps": lambda model, x: list(model.gaps(x[:1])) if model.n_components == 1 else None,
    "infer": lambda model, x: model.infer(x),
    "encode": lambda model, x: model.encode(x),
    "refine": lambda model, x: model.refine(x[:5], 2),
    "impute": lambda model, x: model.impute(x),
    "draw": lambda model, x: model.draw(x[:5], 2, random_state=1).z,
    "denoise": lambda model, x: model.denoise(x, 0.1),
    "sample": lambda model, x: model.sample(3, random_state=1),
    "score": lambda model, x: model.score(x),
    "active_units": lambda model, x: model.active_units(x),
    "n_parameters": lambda model, x: model.n_parameters_,
    "names": lambda model, x: list(getattr(model, "feature_names_in_", [])),
}


QUICK = ["transform", "decode", "infer", "encode", "sample", "n_parameters", "names"]


def answers(model, x, questions=QUESTIONS):
    """What the model says to every question that it answers, {question: bytes}: compared, bit for bit."""
    said = {}
    for name in questions:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")                        # hardly trained
            try:
                said[name] = pickle.dumps(QUESTIONS[name](model, x))
            except (AttributeError, NotImplementedError, ValueError) as error:
                said[name] = str(error)
    return said


def fitted(name):
    model, kind = ROUTES[name]
    model, x = copy.deepcopy(model), some_data(kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(pd.DataFrame(x, columns=list("wxyz"))), x


def without_addresses(model):
    return re.sub("0x[0-9a-f]+", "", repr(model))


@pytest.mark.parametrize("name", ROUTES)
def test_what_comes_back_answers_every_question_bit_for_bit(name, tmp_path):
    model, x = fitted(name)
    x = pd.DataFrame(x[:8], columns=list("wxyz"))
    before = answers(model, x)
    model.save(tmp_path / "model.npz")
    again = teachvae.load(tmp_path / "model.npz", parts=OWN | {"Renamed": Renamed})
    assert type(again) is type(model) and set(vars(again)) == set(vars(model))
    assert without_addresses(again) == without_addresses(model)
    assert sum(isinstance(value, bytes) for value in before.values()) >= 5
    assert answers(again, x) == before


@pytest.mark.parametrize("name", ["factor analysis", "variational EM", "VAE", "VAE, mixed", "autoencoder"])
def test_what_comes_back_is_fitted_anew_as_it_would_have_been(name, tmp_path):
    model, x = fitted(name)
    model.save(tmp_path / "model.npz")
    again = teachvae.load(tmp_path / "model.npz")
    assert answers(again.fit(x), x, QUICK) == answers(model.fit(x), x, QUICK)


def test_partial_fit_goes_on_from_a_file(tmp_path):
    x = some_data()
    whole, part = FactorAnalysis(2).partial_fit(x[:20]), FactorAnalysis(2).partial_fit(x[:20])
    whole.partial_fit(x[20:])
    part.save(tmp_path / "part.npz")
    assert answers(teachvae.load(tmp_path / "part.npz").partial_fit(x[20:]), x) == answers(whole, x)


@pytest.mark.parametrize("labels", [[1, 2, 3], ["a", "é", "b"], [True, False, True],
                                    np.array(["2020-01-01", "2021-01-01", "2022-01-01"], "datetime64[D]")])
def test_a_probe_keeps_its_classes(labels, tmp_path):
    z, y = some_data(), np.resize(np.array(labels), 40)
    probe = LinearProbe().fit(z, y)
    probe.save(tmp_path / "probe.npz")
    again = teachvae.load(tmp_path / "probe.npz")
    assert again.classes_.dtype == probe.classes_.dtype
    np.testing.assert_array_equal(again.predict(z), probe.predict(z))
    assert again.predict_log_proba(z).tobytes() == probe.predict_log_proba(z).tobytes()


def test_another_process_reads_the_same(tmp_path):
    model, x = fitted("VAE, mixed")
    model.save(tmp_path / "model.npz")
    np.save(tmp_path / "x.npy", x)
    program = (
        "import sys, warnings, numpy as np, teachvae; warnings.simplefilter('ignore');"
        "m = teachvae.load(sys.argv[1] + '/model.npz'); x = np.load(sys.argv[1] + '/x.npy');"
        "print(np.concatenate([m.bound(x), m.transform(x).ravel(), m.sample(2, random_state=0).ravel()])"
        ".tobytes().hex())"
    )
    command = [sys.executable, "-c", program, tmp_path]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        said = [model.bound(x), model.transform(x).ravel(), model.sample(2, random_state=0).ravel()]
    assert run.stdout.strip() == np.concatenate(said).tobytes().hex()


@pytest.mark.parametrize("estimator", [
    VAE(3, hidden=(7, 5), likelihood=likelihoods.Categories(((1, 2.5), (0, 1))), random_state=None),
    VariationalEM(dtype=float, tol=np.float64(1e-7), epochs=np.int64(3), backend=Backend("numpy", np)),
    VAE(comm=teachvae.ranks.comm("serial")), LinearProbe(penalty=float("inf")),
    PrincipalComponents(np.int32(2)), Autoencoder(activation="relu"),
])
def test_an_estimator_that_is_not_fitted_is_saved_as_well(estimator, tmp_path):
    estimator.save(tmp_path / "new.npz")
    again = teachvae.load(tmp_path / "new.npz")
    machine = {"backend": 0, "comm": 0}                            # not the model's
    assert {**again.get_params(), **machine} == {**estimator.get_params(), **machine}
    assert getattr(again, "comm", None) is None
    with pytest.raises((ValueError, AttributeError), match="not fitted|is not fitted yet"):
        again._require_fit()


@pytest.mark.parametrize("rng", [
    np.random.default_rng(3), np.random.Generator(np.random.MT19937(3)),
    np.random.Generator(np.random.Philox(3)), np.random.Generator(np.random.SFC64(3)),
    np.random.RandomState(3),
], ids=str)
def test_a_random_generator_goes_on_where_it_was(rng, tmp_path):
    rng.standard_normal(3) if isinstance(rng, np.random.Generator) else rng.randn(3)
    if isinstance(rng, np.random.Generator):
        rng.spawn(2)
    FactorAnalysis(random_state=rng).save(tmp_path / "new.npz")
    again = teachvae.load(tmp_path / "new.npz").random_state
    if isinstance(rng, np.random.Generator):
        child, twin = again.spawn(1)[0], rng.spawn(1)[0]
        np.testing.assert_array_equal(child.standard_normal(9), twin.standard_normal(9))
    np.testing.assert_array_equal(again.uniform(size=99), rng.uniform(size=99))


# ---- other homes -------------------------------------------------------------------------------------


MOVABLE = [
    "factor analysis", "variational EM", "VAE", "VAE, mixed", "autoencoder", "mixture", "factor analysers",
    "VAE, bits",
]


@pytest.mark.parametrize("name", MOVABLE)
def test_a_model_moves_to_the_gpu_and_back(name, tmp_path, monkeypatch):
    model, x = fitted(name)
    fake_gpu.install(monkeypatch)
    near, far = tmp_path / "near.npz", tmp_path / "far.npz"
    model.save(near)
    there = teachvae.load(near, backend="cupy")
    assert there.backend == there.backend_.name == "cupy"
    np.testing.assert_allclose(there.transform(x), model.transform(x), rtol=1e-9, atol=1e-9)
    there.save(far)
    assert teachvae.load(far).backend_.name == "cupy"
    back = teachvae.load(far, backend="numpy")
    assert answers(back, x, QUICK) == answers(model, x, QUICK)


def test_without_the_gpu_of_a_file_the_message_says_what_to_do(tmp_path, monkeypatch):
    model, x = fitted("VAE")
    with monkeypatch.context() as here:
        fake_gpu.install(here)
        model.save(tmp_path / "near.npz")
        teachvae.load(tmp_path / "near.npz", backend="cupy").save(tmp_path / "far.npz")
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(BackendError, match=r"far.npz was saved on 'cupy'.*load\(file, backend='numpy'\)"):
        teachvae.load(tmp_path / "far.npz")
    here = teachvae.load(tmp_path / "far.npz", backend="numpy")
    assert answers(here, x, QUICK) == answers(model, x, QUICK)


@pytest.mark.parametrize("name", MOVABLE)
def test_a_model_changes_its_precision(name, tmp_path):
    model, x = fitted(name)
    model.save(tmp_path / "double.npz")
    single = teachvae.load(tmp_path / "double.npz", dtype="float32")
    assert single.dtype == "float32" and single.transform(x).dtype == "float32"
    # In float32 an E-step ends at a gradient of 1e-3, in float64 of 1e-6.
    atol = 1e-3 if name == "variational EM" else 1e-5
    np.testing.assert_allclose(single.transform(x), model.transform(x), rtol=1e-4, atol=atol)
    single.save(tmp_path / "single.npz")
    again = teachvae.load(tmp_path / "single.npz", dtype="float64")  # what float32 rounded off was kept
    np.testing.assert_allclose(again.transform(x), model.transform(x), rtol=1e-6, atol=1e-6)
    if hasattr(model, "theta_rest_"):
        np.testing.assert_array_equal(again.transform(x), model.transform(x))


def test_what_lives_on_numpy_alone_says_so(tmp_path):
    PrincipalComponents(2).fit(some_data()).save(tmp_path / "pca.npz")
    with pytest.raises(ValueError, match="a PrincipalComponents lives on NumPy in float64"):
        teachvae.load(tmp_path / "pca.npz", dtype="float32")


# ---- parts of one's own ------------------------------------------------------------------------------


def test_parts_of_ones_own_are_refused_until_they_are_handed_in(tmp_path):
    model, x = fitted("VAE of one's own parts")
    model.save(tmp_path / "own.npz")
    with pytest.raises(store.FileError, match="Laplace, Round, Scale, Signs, Sine.*={'Laplace': Laplace, "):
        teachvae.load(tmp_path / "own.npz")
    with pytest.raises(store.FileError, match="not of this package: Round, Scale"):
        teachvae.load(tmp_path / "own.npz", parts={"Laplace": Laplace, "Signs": Signs, "Sine": Sine})
    with pytest.raises(store.FileError, match="is an object of a class"):
        teachvae.load(tmp_path / "own.npz", parts=OWN | {"Laplace": Laplace(4)})
    fitted("VAE, inherited")[0].save(tmp_path / "inherited.npz")
    with pytest.raises(store.FileError, match="class 'Renamed'.*hand it in"):
        teachvae.load(tmp_path / "inherited.npz")


class Bend:
    """An activation that holds a function."""

    def __init__(self, function, slope):
        self.function, self.slope = function, slope

    def forward(self, params, x):
        return self.function(x), x

    def backward(self, params, cache, dy, *, need_dx=True, need_dparams=True):
        return dy * self.slope(cache), {}


class Slotted:
    """What it holds is no attribute that `vars` shows."""

    __slots__ = ("a",)


def slope(x):
    """That of tanh."""
    return 1 - np.tanh(x) ** 2


def test_what_is_handed_in_is_never_called(whole, tmp_path):
    called = []

    def forge(m, _):
        m["values"]["own class"] = "go"
        del m["values"]["class"]
        m["values"]["parameters"] = {"dict": {"path": "/etc/passwd"}}

    (tmp_path / "forged.npz").write_bytes(rewritten(whole[0], forge))
    for own in (lambda path: called.append(path), Laplace):
        with pytest.raises(store.FileError, match="a class 'go', and .* is no such class"):
            teachvae.load(tmp_path / "forged.npz", parts={"go": own})
    assert called == []


def test_labels_that_are_dates_are_saved_as_text(tmp_path):
    x = pd.DataFrame(some_data(), columns=pd.date_range("2024-01-01", periods=4))
    model = FactorAnalysis(1, noise="isotropic").fit(x)
    model.save(tmp_path / "dates.npz")
    again = teachvae.load(tmp_path / "dates.npz")
    assert again.columns_.given[0] == "2024-01-01 00:00:00"
    np.testing.assert_array_equal(again.transform(x), model.transform(x))


def test_what_cannot_come_back_is_not_written(tmp_path):
    endless = []
    endless.append(endless)
    with pytest.raises(TypeError, match="a generator by .* that NumPy's own seeds did not seed"):
        FactorAnalysis(random_state=np.random.RandomState(np.random.PCG64(3))).save(tmp_path / "new.npz")
    with pytest.raises(TypeError, match="a value that holds itself"):
        FactorAnalysis(random_state=endless).save(tmp_path / "new.npz")
    assert os.listdir(tmp_path) == []


def test_functions_are_handed_in_and_lambdas_cannot_be(tmp_path):
    x = some_data()
    model = VAE(1, activation=Bend(np.tanh, slope), **SHORT).fit(x)
    model.save(tmp_path / "bend.npz")
    own = {"Bend": Bend, "tanh": np.tanh, "slope": slope}
    assert answers(teachvae.load(tmp_path / "bend.npz", parts=own), x) == answers(model, x)
    with pytest.raises(store.FileError, match="Bend, slope, tanh"):
        teachvae.load(tmp_path / "bend.npz")
    with pytest.raises(TypeError, match=r"parameters.activation.function holds <function .*<lambda>.*has no"):
        VAE(1, activation=Bend(lambda x: x, slope)).save(tmp_path / "lambda.npz")
    for thing in (io.StringIO(), {1, 2}, 1j, Slotted(), os.environ):
        with pytest.raises(TypeError, match="activation.function.* holds .* which has no place in a file"):
            VAE(1, activation=Bend(thing, slope)).save(tmp_path / "thing.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["bend.npz"]


def test_a_class_of_ones_own_is_not_taken_for_one_of_the_package(tmp_path):
    Gaussian = type("Gaussian", (likelihoods.Gaussian,), {})
    VAE(likelihood=Gaussian(4)).save(tmp_path / "own.npz")
    with pytest.raises(store.FileError, match="not of this package: Gaussian"):
        teachvae.load(tmp_path / "own.npz")
    assert type(teachvae.load(tmp_path / "own.npz", parts={"Gaussian": Gaussian}).likelihood) is Gaussian


# ---- damage, and worse -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(bytes of a small file, its data, what its model answers)."""
    model, x = fitted("factor analysis")
    file = tmp_path_factory.mktemp("whole") / "model.npz"
    model.save(file)
    return file.read_bytes(), x, answers(model, x, QUICK)


def test_a_file_that_was_cut_off_is_refused_at_every_length(whole, tmp_path):
    content, file = whole[0], tmp_path / "cut.npz"
    for length in [*range(40), *range(40, len(content), 97), len(content) - 1]:
        file.write_bytes(content[:length])
        with pytest.raises(store.FileError, match="cut.npz (is damaged|is no .npz|does not hold|has)"):
            teachvae.load(file)


def test_a_flipped_bit_is_found_or_changes_nothing(whole, tmp_path):
    content, x, said = whole
    rng, file, found, places = np.random.default_rng(0), tmp_path / "flipped.npz", 0, 300
    for place in rng.integers(len(content), size=places):
        flipped = bytearray(content)
        flipped[place] ^= 1 << rng.integers(8)
        file.write_bytes(flipped)
        try:
            model = teachvae.load(file)
        except store.FileError:
            found += 1
        else:                                                      # a date in the zip, or the like
            assert answers(model, x, QUICK) == said
    assert found > 0.8 * places


def test_an_array_that_was_written_anew_is_found(whole, tmp_path):
    """The zip's own sums are right: what is wrong is the sha256 in the metadata."""
    file = tmp_path / "other.npz"
    with zipfile.ZipFile(io.BytesIO(whole[0])) as old, zipfile.ZipFile(file, "w") as new:
        name = next(name for name in old.namelist() if name.endswith(".npy"))
        for member in old.namelist():
            content = bytearray(old.read(member))
            content[-1] ^= 1 if member == name else 0
            new.writestr(member, bytes(content))
        new.comment = old.comment
    with pytest.raises(store.FileError, match="is not as it was written, by its sha256"):
        teachvae.load(file)


@pytest.mark.parametrize("array", [
    np.arange(6.0).reshape(2, 3), np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.zeros((0, 2))
])
def test_an_array_comes_back_in_its_order_of_memory(array, tmp_path):
    store.write(tmp_path / "a.npz", {"array": array})
    again = store.read(tmp_path / "a.npz")["array"]
    np.testing.assert_array_equal(again, array)
    assert again.dtype == array.dtype and again.flags.f_contiguous == array.flags.f_contiguous


def rewritten(content, change, names=None):
    """The bytes of a file whose metadata `change` has changed in place, and whose sums fit them."""
    with zipfile.ZipFile(io.BytesIO(content)) as zipped:
        members = {name: zipped.read(name) for name in zipped.namelist()}
    metadata = json.loads(members.pop(store.METADATA))
    change(metadata, members)
    text = json.dumps(metadata).encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as zipped:
        for name, member in {**members, store.METADATA: text}.items():
            zipped.writestr(name, member)
        zipped.comment = hashlib.sha256(text).hexdigest().encode()
    return out.getvalue()


def learnt(metadata):
    return metadata["values"]["fitted"]["dict"]


def put(name, array_bytes):
    """A change that puts other bytes in the place of an array, with their right sum."""
    def change(metadata, members):
        members[f"{name}.npy"] = array_bytes
        metadata["sha256"][name] = hashlib.sha256(array_bytes).hexdigest()

    return change


def npy(header, data=b""):
    """The bytes of a .npy file with this header."""
    header = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


PLACE = "fitted.moments_.mean"
LIES = {
    "a later version": (lambda m, _: m.update(format=2), "has format 2, written by .*install a later one"),
    "no format": (lambda m, _: m.pop("format"), "does not hold what it should"),
    "a class of nobody": (
        lambda m, _: m["values"].update({"class": "Popen"}), "'Popen', which is not of this package"),
    "a part of nobody": (
        lambda m, _: learnt(m)["model_"].update(part="Popen"), "a part of an unknown kind, 'Popen'"),
    "a tag of nobody": (lambda m, _: learnt(m).update(theta_={"eval": "1"}), "an unknown kind, 'eval'"),
    "a method": (lambda m, _: learnt(m).update(fit=1), r"\['fit'\] among what was learnt"),
    "its class": (lambda m, _: learnt(m).update(__class__=1), r"\['__class__'\] among what was learnt"),
    "no parameter": (
        lambda m, _: m["values"]["parameters"]["dict"].update(a=3), "no FactorAnalysis that this version"),
    "no array": (lambda m, _: learnt(m)["heywood_"].update(array="none"), "does not hold what it should"),
    "a wrong size": (
        lambda m, _: learnt(m)["model_"]["of"].update(n_latent=5), "takes 2 latent variables, n_latent is 5"),
    "a list": (lambda m, _: m.update(values=[1]), "does not hold what it should"),
    "a tuple that grows": (
        lambda m, _: learnt(m).update(x={"tuple": {"range": [0, 3 * 10**8, 1]}}), "a list is expected"),
    "objects that grow": (
        lambda m, _: learnt(m).update(x={"objects": {"range": [0, 3 * 10**8, 1]}}), "a list is expected"),
    "texts of no letters": (
        put(PLACE, npy("{'descr': '<U0', 'fortran_order': False, 'shape': (1000000000,), }")),
        r"declares \(1000000000,\) numbers of <U0, and has 0 bytes"),
    "sizes below 0": (
        put(PLACE, npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, -1), }", b"12345678")),
        r"declares \(-1, -1\)"),
    "a header that breaks off": (put(PLACE, npy("(")), "no header that can be read"),
    "deep": (
        lambda m, _: learnt(m).update(x=json.loads("[" * 900 + "]" * 900)), "does not hold what it should"),
    "a huge array": (
        put(PLACE, npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }", b"1234")),
        r"declares \(1000000000000,\) numbers of float64, and has 4 bytes"),
    "an array of objects": (
        put(PLACE, npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", b"12345678")),
        "numbers of object"),
    "a header that is a program": (
        put(PLACE, npy("__import__('os').mkdir('executed')")), "no header that can be read"),
    "no array file": (put(PLACE, b"hello"), "no header that can be read"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_file_that_lies_with_the_right_sums_is_refused(lie, whole, tmp_path, monkeypatch):
    change, complaint = LIES[lie]
    monkeypatch.chdir(tmp_path)
    Path("lie.npz").write_bytes(rewritten(whole[0], change))
    with pytest.raises(store.FileError, match=complaint):
        teachvae.load("lie.npz")
    assert os.listdir() == ["lie.npz"]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 10**20) | st.floats() | st.text(max_size=5)
    | st.sampled_from(["fitted.heywood_", "Linear", "FactorAnalysis", "<f4", "|O", "PCG64"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from([*store.TAGS, "part", "of", "own part", "eval"]) | st.text(max_size=5), inner,
        max_size=2,
    ),
    max_leaves=6,
)


def nodes(tree):
    """(container, key) of everything in a tree of JSON."""
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, branch in pairs:
        yield tree, key
        yield from nodes(branch)


def forged(whole, folder, data):
    """A file whose metadata have something else in one place, or nothing, with sums that fit, is loaded."""
    def change(metadata, members):
        places = list(nodes(metadata))
        tree, key = places[data.draw(st.integers(0, len(places) - 1))]
        if data.draw(st.booleans()):
            tree[key] = data.draw(ANYTHING)
        else:
            del tree[key]

    (folder / "forged.npz").write_bytes(rewritten(whole[0], change))
    try:
        model = teachvae.load(folder / "forged.npz")
    except (store.FileError, BackendError):
        return
    assert type(model) is FactorAnalysis


@settings(max_examples=100)
@given(st.data())
def test_a_forged_file_is_refused_or_read_but_never_run(whole, tmp_path_factory, data):
    forged(whole, tmp_path_factory.getbasetemp(), data)


@pytest.mark.thorough
@settings(max_examples=2000)
@given(st.data())
def test_two_thousand_forged_files(whole, tmp_path_factory, data):
    forged(whole, tmp_path_factory.getbasetemp(), data)


def test_a_file_that_was_only_written_anew_is_read(whole, tmp_path):
    (tmp_path / "same.npz").write_bytes(rewritten(whole[0], lambda metadata, members: None))
    assert answers(teachvae.load(tmp_path / "same.npz"), whole[1], QUICK) == whole[2]


class Explosion:
    def __reduce__(self):
        return os.mkdir, ("executed",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_not_opened(protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("model.npz").write_bytes(pickle.dumps(Explosion(), protocol))
    with pytest.raises(store.FileError, match="is a pickle|is no .npz file"):
        teachvae.load("model.npz")
    np.savez("objects.npz", x=np.array([Explosion()], dtype=object))
    with pytest.raises(store.FileError, match="without metadata.json.*it holds x.npy"):
        teachvae.load("objects.npz")
    assert not Path("executed").exists()


def test_a_packed_file_takes_no_memory(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr(store.METADATA, b" " * 10**8)
    assert (tmp_path / "bomb.npz").stat().st_size < 10**6
    with pytest.raises(store.FileError, match="declares 100000000 of contents"):
        teachvae.load(tmp_path / "bomb.npz")


@pytest.mark.parametrize("content, complaint", [
    (b"", "begins with b''"), (b"hello", "begins with b'hell'"), (b"PK\x03\x04", "is damaged, or no zip"),
])
def test_a_foreign_file_is_named(content, complaint, tmp_path):
    (tmp_path / "foreign.npz").write_bytes(content)
    with pytest.raises(store.FileError, match=f"foreign.npz .*{complaint}"):
        teachvae.load(tmp_path / "foreign.npz")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.npz"):
        teachvae.load(tmp_path / "nowhere.npz")
    with pytest.raises(IsADirectoryError):
        teachvae.load(tmp_path)


# ---- the old file or the new one -----------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process are POSIX's")
def test_a_full_disk_leaves_the_old_file(tmp_path):
    import resource

    small, large = PrincipalComponents(1).fit(some_data()), PrincipalComponents(1).fit(np.eye(400))
    file, limits = tmp_path / "model.npz", resource.getrlimit(resource.RLIMIT_FSIZE)
    small.save(file)
    before = file.read_bytes()
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limits[1]))   # the kernel refuses what goes beyond
    try:
        with pytest.raises(OSError, match="model.npz cannot be written .*what was there before is untouched"):
            large.save(file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert file.read_bytes() == before and os.listdir(tmp_path) == ["model.npz"]
    large.save(file)
    assert teachvae.load(file).n_features_in_ == 400


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    model = PrincipalComponents(1).fit(some_data())
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(OSError, match="cannot be written .*give a file in a folder that can be written"):
            model.save(folder / "model.npz")
    with pytest.raises(OSError, match="cannot be written"):
        model.save(tmp_path)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    if not os.access(closed, os.W_OK):                             # root may write anywhere
        with pytest.raises(PermissionError, match="cannot be written .Permission denied"):
            model.save(closed / "model.npz")
    assert sorted(os.listdir(tmp_path)) == ["closed", "file"]


def test_a_link_is_followed_and_permissions_are_the_usual_ones(tmp_path):
    (tmp_path / "there").mkdir()
    model = PrincipalComponents(1).fit(some_data())
    target, link = tmp_path / "there" / "model.npz", tmp_path / "link.npz"
    model.save(target)
    link.symlink_to(target)
    PrincipalComponents(2).fit(some_data()).save(link)
    assert link.is_symlink() and teachvae.load(target).n_components == 2
    target.chmod(0o600)
    model.save(target)
    assert target.stat().st_mode & 0o777 == 0o600                  # those that it has are kept
    target.unlink()
    model.save(target)
    (tmp_path / "plain").write_text("")
    assert target.stat().st_mode == (tmp_path / "plain").stat().st_mode


# ---- other ways ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ROUTES)
def test_pickle_copies_and_joblib_keep_every_answer(name, tmp_path):
    model, x = fitted(name)
    before = answers(model, x, QUICK)
    joblib.dump(model, tmp_path / "model.joblib")
    for again in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model), copy.copy(model),
                  joblib.load(tmp_path / "model.joblib")):
        assert answers(again, x, QUICK) == before
    assert set(vars(clone(model))) == set(model.get_params())


# ---- for ever ------------------------------------------------------------------------------------------


SAVED = Path(__file__).parent / "saved"
KEPT = {
    "FactorAnalysis": "constant column", "VariationalEM": "variational EM, mixed", "VAE": "VAE, float32",
    "Autoencoder": "autoencoder", "GaussianMixture": "mixture", "PrincipalComponents": "principal components",
    "MixtureOfFactorAnalysers": "factor analysers, own noise",
}


def numbers(model, x):
    """Some answers, as numbers: another processor may round them otherwise."""
    said = model.transform(x[:4])
    return [*said.ravel().tolist(), model.n_parameters_]


@pytest.mark.parametrize("name", KEPT)
def test_the_first_files_that_were_written_are_read(name):
    model = teachvae.load(SAVED / f"{name}.npz")
    assert type(model).__name__ == name
    expected = json.loads((SAVED / "expected.json").read_text())[name]
    x = some_data(ROUTES[KEPT[name]][1])
    np.testing.assert_allclose(numbers(model, x), expected, rtol=1e-4, atol=1e-5)


def write_the_files():
    """Write tests/saved anew. What stands there was written by the first version, and stays."""
    SAVED.mkdir(exist_ok=True)
    expected = {}
    for name, route in KEPT.items():
        model, x = fitted(route)
        model.save(SAVED / f"{name}.npz")
        expected[name] = numbers(model, x)
    (SAVED / "expected.json").write_text(json.dumps(expected))


if __name__ == "__main__":
    write_the_files()
