"""VAE.partial_fit and VariationalEM.partial_fit: parts in turn lead where one fit to the whole does, a file
between two of them changes nothing, and what is refused changes nothing either.
"""

import copy

import numpy as np
import pytest

import teachvae
from teachvae import VAE, VariationalEM, datasets, schedules, tree
from teachvae.networks import optimizers
from teachvae.networks.training import TrainingError

pytestmark = pytest.mark.short                                   # most fits here end early on purpose

RNG = np.random.default_rng(0)
CURVE = RNG.uniform(-1, 1, (160, 1))
X = np.hstack([np.sin(3 * CURVE), np.cos(2 * CURVE), CURVE, CURVE**2]) * 3 + 10
X = X + 0.5 * RNG.standard_normal(X.shape)
HALVES = [X[::2], X[1::2]]
BITS, HOLES = (X > 10) * 1.0, np.where(RNG.random(X.shape) < 0.1, np.nan, X)
TABLE = np.column_stack([X[:, 0], BITS[:, 1:3]])
SHORT = {"hidden": (8,), "batch_size": 20}
MAKERS = {
    "VAE": lambda **options: VAE(1, **SHORT, **options),
    "VariationalEM": lambda **options: VariationalEM(1, m_steps=2, **SHORT, **options),
}
each = pytest.mark.parametrize("route", MAKERS)


def learnt(model):
    """All that a model has learnt, and its path, as one vector."""
    recognition = getattr(model, "recognition_params_", {})
    return np.concatenate([tree.flatten([model.theta_, recognition]), model.q_path_])


# ---- where parts lead ----------------------------------------------------------------------------------


def test_one_part_that_is_the_whole_is_the_fit():
    whole = VAE(1, epochs=5, **SHORT).fit(X)
    parts = VAE(1, **SHORT).partial_fit(X, epochs=2).partial_fit(X).partial_fit(X, epochs=2)
    np.testing.assert_array_equal(learnt(parts), learnt(whole))
    assert (parts.n_iter_, parts.converged_, parts.still_falling_) == (5, None, None)


@pytest.mark.parametrize("route, turns, margin, options", [
    ("VAE", 150, 0.1, {"learning_rate": 1e-2}), ("VariationalEM", 12, 0.02, {}),
])
def test_parts_in_turn_reach_what_one_fit_reaches(route, turns, margin, options):
    """To a margin in nats of Q, far below what was still to be gained after both parts had come once."""
    whole = MAKERS[route](epochs=turns, **options).fit(X)
    parts, early = MAKERS[route](**options), []
    for _ in range(turns):
        for half in HALVES:
            parts.partial_fit(half)
        early = early or [parts.bound(X).mean()]
    assert parts.bound(X).mean() < whole.bound(X).mean() + margin
    assert early[0] > whole.bound(X).mean() + 0.5
    assert len(parts.q_path_) == 2 * turns + (route == "VariationalEM")


KINDS = {
    "holes": ({"missing": "marginalise"}, HOLES),
    "bits": ({"likelihood": "bernoulli"}, BITS),
    "a table": ({"likelihood": [("gaussian", [0]), ("categorical", [1, 2])]}, TABLE),
    "float32": ({}, X.astype("float32")),
    "a constant": ({"constant": "drop"}, np.column_stack([X, np.full(160, 7.0)])),
}


@each
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:constant columns are set aside")
def test_parts_of_every_kind(route, kind):
    options, x = KINDS[kind]
    model = MAKERS[route](**options).partial_fit(x[:80])
    early = model.bound(x[80:]).mean()
    for _ in range(3):
        model.partial_fit(x[80:], epochs=2).partial_fit(x[:80])
    assert model.bound(x[80:]).mean() < early - 0.02
    assert model.transform(x).dtype == ("float32" if kind == "float32" else "float64")
    if route == "VariationalEM":
        assert len(model.phi_) == 80


def test_fresh_bits_and_l_k_in_parts():
    model = VAE(1, likelihood="bernoulli", binarise="fresh", objective="iwae", n_samples=4, **SHORT)
    grey = 0.1 + 0.8 * BITS
    model.partial_fit(grey[:80], epochs=10).partial_fit(grey[80:], epochs=10)
    assert model.q_path_[-3:].mean() < model.q_path_[:3].mean() - 0.1


def test_the_path_is_told_in_the_datas_own_units():
    """Of a part with fewer entries in a column of another scale: Q of the part itself."""
    x = HOLES * np.array([1.0, 1.0, 1.0, 1000.0])
    gone = x.copy()
    gone[:, 3] = np.nan
    model = VAE(1, missing="marginalise", n_samples=200, learning_rate=1e-12, **SHORT).partial_fit(x)
    model.partial_fit(gone)
    assert model.q_path_[-1] == pytest.approx(model.bound(gone).mean(), abs=0.2)
    assert model.bound(x).mean() > model.bound(gone).mean() + 3      # its log volume, log 1000 and more


def test_a_schedule_goes_on_from_part_to_part():
    told = []

    def rate(epoch):
        told.append(epoch)
        return 1e-3

    model = VAE(1, learning_rate=rate, **SHORT).partial_fit(HALVES[0], epochs=2)
    told.clear()
    model.partial_fit(HALVES[1], epochs=3)
    assert told[-3:] == [3, 4, 5]
    ends = schedules.Cosine(1e-3, 6)                               # 0 from the seventh epoch on
    model = VAE(1, learning_rate=ends, epochs=6, **SHORT).partial_fit(X, epochs=6)
    with pytest.raises(ValueError, match="this one returns 0.0 of epoch 7"):
        model.partial_fit(X)


# ---- files ---------------------------------------------------------------------------------------------


@each
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_file_between_two_parts_changes_nothing(route, optimizer, tmp_path):
    options = {"optimizer": optimizer, "learning_rate": 1e-3} if route == "VAE" else {}
    model = MAKERS[route](**options).partial_fit(HALVES[0], epochs=2)
    model.save(tmp_path / "parts.npz")
    there = teachvae.load(tmp_path / "parts.npz")
    for one in (model, there):
        one.partial_fit(HALVES[1], epochs=2)
    np.testing.assert_array_equal(learnt(there), learnt(model))
    single = teachvae.load(tmp_path / "parts.npz", dtype="float32").partial_fit(HALVES[1], epochs=2)
    assert tree.flatten(single.theta_).dtype == np.float32
    np.testing.assert_allclose(single.q_path_, model.q_path_, atol=1e-3)


# ---- what is refused -----------------------------------------------------------------------------------

WRONG = {
    "NaN": (HOLES[:40], "X has .* NaN"),
    "other columns": (X[:40, :3], "X has 3 features, but .* is expecting 4"),
    "a vector": (X[0], "Expected 2D array"),
    "no rows": (X[:0], "0 sample"),
}


@each
@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_added_changes_nothing(route, case):
    x, match = WRONG[case]
    model = MAKERS[route]().partial_fit(HALVES[0])
    twin = copy.deepcopy(model)
    with pytest.raises(ValueError, match=match):
        model.partial_fit(x)
    np.testing.assert_array_equal(
        learnt(model.partial_fit(HALVES[1])), learnt(twin.partial_fit(HALVES[1]))
    )


@each
def test_a_category_that_the_first_part_did_not_have(route):
    model = MAKERS[route](likelihood="categorical").partial_fit(BITS)
    with pytest.raises(ValueError, match="has the category 3 in row 0, which is none of those that are"):
        model.partial_fit(BITS + 2)


@each
def test_ctrl_c_leaves_the_model_of_the_last_part(route, monkeypatch):
    model = MAKERS[route]().partial_fit(HALVES[0])
    before, steps, step = learnt(model), [], optimizers.Adam.step

    def interrupted(self, flat, grad, state):
        step(self, flat, grad, state)
        steps.append(1)
        if len(steps) == 3:
            raise KeyboardInterrupt

    twin = copy.deepcopy(model).partial_fit(HALVES[1])
    with monkeypatch.context() as patch:
        patch.setattr(optimizers.Adam, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            model.partial_fit(HALVES[1])
    np.testing.assert_array_equal(learnt(model), before)
    np.testing.assert_array_equal(learnt(model.partial_fit(HALVES[1])), learnt(twin))


def test_a_part_that_diverges_leaves_the_model_of_the_last():
    model = VAE(1, optimizer="sgd", learning_rate=1e-3, **SHORT).partial_fit(HALVES[0])
    before = learnt(model)
    with np.errstate(all="ignore"), pytest.raises(TrainingError, match="is as it was before this part"):
        model.set_params(learning_rate=1e9).partial_fit(HALVES[1], epochs=5)
    np.testing.assert_array_equal(learnt(model), before)


@each
def test_a_fit_forgets_the_parts_before_it_and_parts_go_on_from_it(route):
    fit, parts = MAKERS[route](epochs=3).fit(X), MAKERS[route](epochs=3).partial_fit(BITS).fit(X)
    np.testing.assert_array_equal(learnt(parts), learnt(fit))
    before, rounds = fit.bound(X).mean(), len(fit.q_path_)
    for _ in range(5):
        fit.partial_fit(HALVES[0]).partial_fit(HALVES[1])
    assert len(fit.q_path_) == rounds + 10 and fit.bound(X).mean() < before - 0.1
    assert fit.n_iter_ == 13


def test_a_vae_that_goes_on_from_its_fit_is_the_longer_fit():
    whole, fit = VAE(1, epochs=5, **SHORT).fit(X), VAE(1, epochs=3, **SHORT).fit(X)
    np.testing.assert_array_equal(learnt(fit.partial_fit(X, epochs=2)), learnt(whole))


def test_parts_go_on_from_the_epoch_that_was_kept():
    model = VAE(1, epochs=40, learning_rate=0.1, **SHORT).fit(X[:40], validation=X[40:])
    assert model.best_iter_ < 40
    best = model.decode(np.ones((1, 1)))
    model.set_params(learning_rate=1e-12).partial_fit(X[:40])
    np.testing.assert_allclose(model.decode(np.ones((1, 1))), best, rtol=1e-9)


def test_a_linear_variational_em_stays_in_its_minimum():
    """Where closed forms have led, steps change nothing; from the start they lead there as well."""
    x = datasets.linear_gaussian(n_cases=150, n_visible=5, n_latent=1).x
    model = VariationalEM(1, hidden=()).fit(x)
    least = model.bound(x).mean()
    model.set_params(learning_rate=1e-5).partial_fit(x)
    assert model.bound(x).mean() == pytest.approx(least, abs=1e-6)
    anew = VariationalEM(1, hidden=(), learning_rate=0.01, batch_size=75)
    for _ in range(30):
        anew.partial_fit(x)
    assert anew.bound(x).mean() == pytest.approx(least, abs=0.01)


@each
@pytest.mark.parametrize("epochs", [0, 1.5, True])
def test_passes_that_are_none(route, epochs):
    with pytest.raises(ValueError, match="epochs must be an integer >= 1"):
        MAKERS[route]().partial_fit(X, epochs=epochs)


@pytest.mark.filterwarnings("ignore:L-BFGS stopped")
def test_what_wants_all_of_the_data():
    model = VAE(1, optimizer="lbfgs", nodes="quadrature", epochs=2)
    with pytest.raises(ValueError, match="takes minibatches of each part: use optimizer='adam'"):
        model.partial_fit(X)
    assert not hasattr(model, "theta_")
    with pytest.raises(ValueError, match="cannot go on from this fit, which left no training, as one by 'l"):
        model.fit(X).set_params(optimizer="adam").partial_fit(X)
