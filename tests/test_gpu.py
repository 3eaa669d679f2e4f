"""On a GPU every route gives what it gives on the CPU, and the host hardly ever waits for it.

Where there is no GPU two stand-ins say so: `fake_gpu`, with CuPy's manners and a rounding of its own, and the
second device of array-api-strict, which knows nothing but the standard. On a card: pytest -m gpu. That
every name is in the real CuPy, test_cupy_names.py reads from the source.
"""

from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
import math
import re
import sys

import fake_gpu
import numpy as np
import pytest

from conftest import BACKENDS
from teachvae import (
    Autoencoder, FactorAnalysis, GaussianMixture, MixtureOfFactorAnalysers, VAE, VariationalEM, ais, datasets,
    tree,
)
from teachvae.arrays import rows
from teachvae.arrays.backend import BackendError, constant, get_backend, namespace, to_numpy
from teachvae.inference import em
from teachvae.networks.layers import Tanh
from teachvae.networks.training import TrainingError

X = datasets.linear_gaussian(n_cases=60, n_visible=6, n_latent=2).x
HOLES = np.where(np.random.default_rng(1).random(X.shape) < 0.1, np.nan, X)
COUNTS, LEVELS = np.rint(np.exp(0.3 * X[:, 2])), np.clip(np.rint(X[:, 4]), -1, 1)
KINDS = np.column_stack([X[:, :2], COUNTS, X[:, 3] > 0, LEVELS])
MIXED = [("gaussian", [0]), ("student-t", [1]), ("poisson", [2]), ("bernoulli", [3]), ("categorical", [4])]

pytestmark = [
    pytest.mark.filterwarnings("ignore::teachvae.networks.convergence.ConvergenceWarning"),  # fits are short
    pytest.mark.filterwarnings("ignore::teachvae.evaluation.nlml.FewDrawsWarning"),          # so are roads
]


@dataclass(frozen=True)
class Route:
    """A way to fit, short enough for a test, and what it may ask of a GPU.

    make      options, a backend among them → an unfitted estimator
    x         the data, (N, D)
    syncs     how often the host may wait in an epoch (of EM an iteration, of L-BFGS an evaluation of Q)
    uploads   how many arrays it may send then; None where that depends on the data
    """

    make: object
    x: np.ndarray
    syncs: int
    uploads: object = None


BATCHES = 4                                                        # of 15 data cases, in an epoch
NETWORK = {"hidden": (4,), "batch_size": 15}
HOLED = {"x": HOLES, "missing": "marginalise"}
ALONE = {"n_starts": 1, "tol": 1e-15}
SEARCH = {"hidden": (), "optimizer": "lbfgs", "nodes": "sigma"}


def route(estimator, syncs, uploads=None, x=X, **options):
    return Route(lambda **more: estimator(2, **(options | more)), x, syncs, uploads)


ROUTES = {
    # Q, which decides about the next step; the identity of M = I + WΨ⁻¹Wᵀ is sent, and constants of q
    "factor analysis": route(FactorAnalysis, 1, 1, max_iter=8, **ALONE),
    "linear variational EM": route(VariationalEM, 1, 3, hidden=(), epochs=8, **ALONE),
    # … and, once or three times for every block of data cases, which of them have the same gaps
    "factor analysis, holes": route(FactorAnalysis, 1 + 1, max_iter=8, **HOLED, **ALONE),
    "linear variational EM, holes": route(VariationalEM, 1 + 3, hidden=(), epochs=8, **HOLED, **ALONE),
    # which rows of the table are under way, before each of the steps of an E-step and after the last, for
    # every block; the mean Q; and one for each of the passes of the M-step
    "variational EM": route(VariationalEM, 3 + 1 + 1 + 2, e_steps=3, m_steps=2, epochs=4, **NETWORK),
    # the mean Q; a minibatch, its mask and its noise are sent
    "VAE": route(VAE, 1, 2 * BATCHES, epochs=4, **NETWORK),
    "VAE, holes": route(VAE, 1, 3 * BATCHES, epochs=4, **HOLED, **NETWORK),
    "VAE, mixed columns": route(VAE, 1, x=KINDS, likelihood=MIXED, epochs=4, **NETWORK),
    "VAE, full q": route(VAE, 1, posterior="full", kl="sampled", epochs=4, **NETWORK),
    "VAE, two networks": route(VAE, 1, 2 * BATCHES, separate=True, n_samples=3, epochs=4, **NETWORK),
    # Q and its gradient, which SciPy wants on the host
    "linear VAE": route(VAE, 2, 2, epochs=10, **SEARCH),
    "VAE on nodes": route(VAE, 2, hidden=(4,), optimizer="lbfgs", nodes="quadrature", epochs=4),
    "autoencoder": route(Autoencoder, 1, BATCHES, epochs=4, **NETWORK),
    "denoising autoencoder": route(Autoencoder, 1, 2 * BATCHES, noise_variance=0.1, epochs=4, **NETWORK),
    # Q, and which components have data cases left
    "mixture": route(GaussianMixture, 2, max_iter=10),
    "mixture, full covariances": route(GaussianMixture, 2, covariance="full", max_iter=10),
    # the same; the data are sent, and an identity for each of the two components
    "factor analysers": route(MixtureOfFactorAnalysers, 2, 3, max_iter=8, **ALONE),
    "factor analysers, own noise": route(MixtureOfFactorAnalysers, 2, 3, noise="own", max_iter=8, **ALONE),
    "factor analysers without z": route(MixtureOfFactorAnalysers, 2, 1, n_latent=0, max_iter=8, **ALONE),
}


def backend_called(kind, monkeypatch):
    """What an estimator is given as its backend; a test of the card is skipped without one, and says why."""
    if kind == "strict":
        return BACKENDS["strict-device1"]
    if kind == "stand-in":
        fake_gpu.install(monkeypatch)
    try:
        get_backend("cupy")
    except BackendError as error:
        pytest.skip(str(error))
    return "cupy"


CARD = pytest.param("card", marks=pytest.mark.gpu)


@pytest.fixture(params=["strict", "stand-in", CARD])
def backend(request, monkeypatch):
    """Each library but NumPy in turn."""
    return backend_called(request.param, monkeypatch)


@pytest.fixture(params=["stand-in", CARD])
def gpu(request, monkeypatch):
    """CuPy on a card, or what stands in for it."""
    return backend_called(request.param, monkeypatch)


# ---- the same numbers ------------------------------------------------------------------------------


LEDGERS = {"factor analysis", "factor analysis, holes", "VAE"}


def answers(model, x, ledger):
    """What can be asked of a fitted model about x, {name: arrays}; with the ledger all roads to nlml too."""
    found = {}
    for name in ("bound", "transform", "reconstruct"):
        if hasattr(model, name):
            found[name] = getattr(model, name)(x)
    if hasattr(model, "sample"):
        found["sample"] = model.sample(4, random_state=0)
    if hasattr(model, "draw"):
        how = {"n_candidates": 40, "random_state": 0}
        found["draw"] = [model.draw(x, 3, method, **how).z for method in ("q", "importance", None)]
        found["tables"] = model.impute(np.where(np.arange(x.shape[1]) == 0, np.nan, x), 2, **how)
    if ledger:
        g = model.gaps(x)
        found["gaps"] = [g.nlml, g.q_full, g.q_optimal, g.q_used]
        found["ranks"] = model.calibration(12, 5).ranks
        found["impute"] = model.impute(np.where(np.arange(x.shape[1]) == 0, np.nan, x))
        for method, n_samples in {None: 40, "importance": 40, "prior": 40, "laplace": None}.items():
            found[str(method)] = model.nlml(x, method=method, n_samples=n_samples).values
    return found


@pytest.mark.parametrize("name", ROUTES)
def test_a_route_gives_what_it_gives_on_numpy(name, backend):
    """The bound, the ledger, every road to nlml, the codes; at the doors they are NumPy arrays."""
    made, x = ROUTES[name].make, ROUTES[name].x
    other, ours = (made(backend=b).fit(x) for b in (backend, "numpy"))
    found, expected = (answers(model, x[:2], name in LEDGERS) for model in (other, ours))
    for (path, theirs), (_, one) in zip(tree.leaves(found), tree.leaves(expected), strict=True):
        assert type(theirs) is np.ndarray and theirs.dtype == one.dtype, path
        np.testing.assert_allclose(theirs, one, rtol=1e-7, atol=1e-7, err_msg=path)


def test_annealing_gives_what_it_gives_on_numpy(backend):
    model = ROUTES["VAE"].make(backend="numpy").fit(X)
    found = []
    for b in (backend, "numpy"):
        theta, x = (tree.map(get_backend(b).asarray, part) for part in (model.theta_, X[:3]))
        road = ais.ais(model.model_, theta, x, np.random.default_rng(0), n_chains=2, n_temperatures=4)
        found.append([to_numpy(road.values), to_numpy(road.standard_error)])
    np.testing.assert_allclose(*found, rtol=1e-9)


# ---- waiting ---------------------------------------------------------------------------------------


def traffic(make, x):
    """Syncs and uploads, Counters of lines each, of every epoch but the first; make(backend=…)."""
    counts, marks = fake_gpu.counts, []

    def mark(*progress):
        marks.append((counts.syncs.copy(), counts.uploads.copy()))

    make(backend="cupy").fit(x, progress=mark)
    told = [tuple(b - a for a, b in zip(before, after)) for before, after in zip(marks, marks[1:])]
    epochs = [epoch for epoch in told if any(epoch)]               # the steps of a race are told afterwards
    assert len(epochs) >= 3
    return epochs


def over_budget(route, make=None):
    """A sentence on the first epoch that asks more of the GPU than the route may; None where none does."""
    for syncs, uploads in traffic(make or route.make, route.x):
        for what, count, most in (("waits", syncs, route.syncs), ("uploads", uploads, route.uploads)):
            if most is not None and count.total() > most:
                return f"{count.total()} {what} in an epoch, {most} are allowed: {dict(count)}"
    return None


@pytest.mark.parametrize("name", ROUTES)
def test_an_epoch_keeps_to_its_budget(name, monkeypatch):
    fake_gpu.install(monkeypatch)
    monkeypatch.setattr(em, "RACE", 2)                             # after which it is told step by step
    assert over_budget(ROUTES[name]) is None


@pytest.mark.parametrize("name, syncs", [
    ("mixture", 2), ("factor analysers", 2), ("factor analysis", 1), ("factor analysis, holes", 1 + 3),
])
def test_data_of_several_blocks_are_waited_for_as_often(name, syncs, monkeypatch):
    """But for the gaps of each block; the blocks' Q are added on the GPU."""
    fake_gpu.install(monkeypatch)
    monkeypatch.setattr(em, "RACE", 2)
    monkeypatch.setattr(rows, "CASES", 20)
    assert over_budget(replace(ROUTES[name], syncs=syncs, uploads=None)) is None


# ---- a hundred steps -------------------------------------------------------------------------------

HUNDRED = {
    "factor analysis": lambda **how: FactorAnalysis(2, max_iter=100, **ALONE, **how),
    "linear variational EM": lambda **how: VariationalEM(2, hidden=(), epochs=100, **ALONE, **how),
    "variational EM": lambda **how: VariationalEM(2, epochs=5, m_steps=5, **NETWORK, **how),
    "VAE": lambda **how: VAE(2, epochs=25, **NETWORK, **how),
    "VAE, full q": lambda **how: VAE(2, epochs=25, posterior="full", kl="sampled", **NETWORK, **how),
    "autoencoder": lambda **how: Autoencoder(2, epochs=25, **NETWORK, **how),
    "mixture": lambda **how: GaussianMixture(2, max_iter=100, tol=1e-9, **how),
    "factor analysers": lambda **how: MixtureOfFactorAnalysers(
        2, n_latent=1, max_iter=100, n_starts=1, tol=1e-9, **how
    ),
}
PARAMETERS = ["theta_", "recognition_params_", "encoder_params_", "decoder_params_"]
PATHS = ["nlml_path_", "q_path_", "loss_path_"]


def learnt(model):
    """What a fit leaves, {path: array}, on the host."""
    parts = {name: getattr(model, name) for name in PARAMETERS + PATHS if hasattr(model, name)}
    return {path: to_numpy(leaf) for path, leaf in tree.leaves(parts)}


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-10), ("float32", 1e-5)])
@pytest.mark.parametrize("name", HUNDRED)
def test_a_hundred_steps_lead_to_the_same_numbers(name, dtype, tolerance, gpu):
    theirs, ours = (learnt(HUNDRED[name](backend=b, dtype=dtype).fit(X)) for b in (gpu, "numpy"))
    assert theirs.keys() == ours.keys()
    for path, one in ours.items():
        assert theirs[path].dtype == one.dtype
        size = np.abs(one).max()
        np.testing.assert_allclose(theirs[path], one, rtol=0, atol=tolerance * size, err_msg=path)


def test_a_search_ends_in_the_same_minimum(gpu):
    """Rounding sends L-BFGS another way after some twenty steps, so what is compared is where it ends."""
    theirs, ours = (VAE(2, backend=b, **SEARCH).fit(X) for b in (gpu, "numpy"))
    assert theirs.converged_ and ours.converged_
    np.testing.assert_allclose(theirs.q_path_[-1], ours.q_path_[-1], rtol=1e-10)


# ---- each stand-in finds what it is for ------------------------------------------------------------


def activation(change):
    """Tanh whose forward first hands x to `change`, which gives it back by way of some mistake."""

    class Leaking(Tanh):
        def forward(self, params, x):
            return Tanh.forward(self, params, change(namespace(x), x))

    return Leaking()


def remembered(xp, x, seen={}):
    seen[xp.max(x)] = True
    return x


def guarded(xp, x):
    try:
        xp.linalg.cholesky(-xp.ones_like(x).T @ x)
    except np.linalg.LinAlgError:
        return x
    return x * math.nan


# Mistakes that NumPy lets pass, and what the standard's second device and the stand-in for CuPy say to them.
LEAKS = {
    "a method": (lambda xp, x: x - x.mean() + xp.mean(x), AttributeError, AttributeError),
    "a name beside the standard": (lambda xp, x: xp.nan_to_num(x), AttributeError, AttributeError),
    "NumPy's function": (lambda xp, x: np.abs(x) * xp.sign(x), RuntimeError, TypeError),
    "an unasked conversion": (lambda xp, x: x + 0 * float(np.asarray(x).max()), RuntimeError, TypeError),
    "NumPy's array": (lambda xp, x: x * np.ones(4), TypeError, TypeError),
    "NumPy's array, first": (lambda xp, x: np.ones(4) * x, RuntimeError, TypeError),
    "a sum that is a number": (remembered, TypeError, TypeError),
    "an array on no device": (lambda xp, x: x + xp.zeros(4), ValueError, None),
    "a list for an index": (lambda xp, x: x[:, [0, 1, 2, 3]], IndexError, None),
    "the keyword device": (lambda xp, x: x + xp.zeros(4, device=x.device), None, TypeError),
    "a name that CuPy lacks": (lambda xp, x: x + 0 * xp.vecdot(x, x)[:, None], None, AttributeError),
    "a failure that is counted on": (guarded, None, TrainingError),
}


@pytest.mark.parametrize("leak", LEAKS)
def test_a_planted_leak_is_found(leak, monkeypatch):
    fake_gpu.install(monkeypatch)
    change, *errors = LEAKS[leak]
    model = VAE(2, epochs=1, activation=activation(change), **NETWORK)
    model.fit(X)
    for library, error in zip((BACKENDS["strict-device1"], "cupy"), errors):
        model.backend = library
        with pytest.raises(error) if error is not None else nullcontext():
            model.fit(X)


@pytest.mark.parametrize("name, change, complaint", [
    ("VAE", lambda xp, x: x if xp.max(x) > -1e300 else None, "9 waits in an epoch, 1 are allowed.*test_gpu"),
    ("VAE", lambda xp, x: x + 0 * float(x[0, 0]), "waits in an epoch"),
    ("autoencoder", lambda xp, x: x + 0 * x[0, 0].item(), "waits in an epoch"),
    ("VAE on nodes", lambda xp, x: x + 0 * int(xp.argmax(x[0, :])), "waits in an epoch"),
    ("VAE", lambda xp, x: constant(to_numpy(x), like=x), "waits in an epoch"),
    ("VAE", lambda xp, x: x + constant([0.0] * 4, like=x), "uploads in an epoch, 8 are allowed.*test_gpu"),
])
def test_a_planted_wait_is_found(name, change, complaint, monkeypatch):
    fake_gpu.install(monkeypatch)
    leaking = partial(ROUTES[name].make, activation=activation(change))
    assert re.search(complaint, over_budget(ROUTES[name], leaking))


def test_the_stand_in_keeps_its_promises(monkeypatch):
    """Views, a place beyond the end, one number of an array, counts; and that rounding is not NumPy's."""
    counts, a = fake_gpu.install(monkeypatch), np.random.default_rng(0).random((3, 4))
    xp = sys.modules["cupy"]
    assert get_backend("cupy").xp is xp                            # the probe lets it pass
    before = counts.syncs.total(), counts.uploads.total()
    b = xp.asarray(a)
    xp.reshape(b[1, :], (2, 2))[0, 1] = 7.0
    assert float(b[1, 1]) == 7 and a[1, 1] < 1
    b[2, 3] += 1
    assert b[2, 3].shape == () and isinstance(b[2, 3], xp.ndarray)
    assert xp.take(b[:, 0], xp.asarray([4]), axis=0).get()[0] == b[1, 0].item()
    assert (counts.syncs.total(), counts.uploads.total()) == (before[0] + 3, before[1] + 2)
    assert np.isnan(xp.linalg.cholesky(-xp.eye(2)).get()).all()
    with pytest.raises(ValueError, match="must have"):
        xp.linalg.solve(xp.ones((5, 2, 2)), xp.ones((2, 1)))
    theirs, ours = (xp.asarray(a) @ xp.asarray(a.T)).get(), a @ a.T
    assert 0 < np.abs(theirs - ours).max() < 1e-14
    with pytest.raises(TypeError, match="mixed: \\['cupy', 'numpy'\\]"):
        namespace(b, a)
