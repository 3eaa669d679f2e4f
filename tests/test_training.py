"""Nothing in training is silent: a run that ended too early says so, one that diverges says where and leaves
the last whole epoch, and held-out data say what to keep and when to end."""

from copy import deepcopy
from dataclasses import dataclass
import re

import numpy as np
import pytest

from teachvae import (
    VAE, Autoencoder, FactorAnalysis, GaussianMixture, VariationalEM, datasets, gradcheck, tree
)
from teachvae.inference import em, linear_gaussian, mixture
from teachvae.inference.latent_axes import LatentAxes
from teachvae.likelihoods import Gaussian
from teachvae.networks import convergence
from teachvae.networks.convergence import ConvergenceWarning, falling, trend
from teachvae.networks.optimizers import Adam
from teachvae.networks.training import HeldOut, Run, TrainingError, full_batch, minibatches
from teachvae.posteriors.nodes import sigma_points
from teachvae.routes.autoencoder import in_nats
from teachvae.routes.vae import amortised

X = datasets.linear_gaussian(n_cases=100, n_visible=5, n_latent=2, seed=3).x
TRAIN, ASIDE = X[:70], X[70:]
SMALL = {"hidden": (4,), "batch_size": 20}


# ---- a run that ended too early says so ------------------------------------------------------------


def noise(n, seed, size=1.0):
    return size * np.random.default_rng(seed).standard_normal(n)


@pytest.mark.parametrize("n", [3, 5, 8, 40, 301])
def test_the_trend_is_that_of_a_line_fitted_by_least_squares(n):
    path = list(7 - 0.3 * np.arange(n) + noise(n, n))
    found = trend(path)
    last = path[-found.length:]
    assert found.length == max(n // 4, min(n, 8))
    slope, _ = np.polyfit(np.arange(found.length), last, 1)
    assert found.fall == pytest.approx(-slope * (found.length - 1), abs=1e-12)


def test_its_error_is_how_noise_moves_it():
    """Noise about a line, which adds nothing to the error: the spread of the falls, by brute force."""
    falls, errors = np.array([
        trend(list(-2.0 * np.arange(160) + noise(160, seed, 0.3)))[:2] for seed in range(2000)
    ]).T
    assert falls.mean() == pytest.approx(2 * 39, abs=5 * falls.std() / 2000**0.5)
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(falls.std(), rel=0.05)


@pytest.mark.parametrize("length, most", [(300, 0.004), (12, 0.05), (5, 0.08)])
def test_noise_that_is_at_rest_is_hardly_ever_told_of(length, most):
    """However loud it is, beside the tolerance."""
    told = [falling(list(5 + noise(length, seed, 50.0))) > 0 for seed in range(2000)]
    assert np.mean(told) < most


def test_a_run_at_rest_a_falling_one_and_few_epochs():
    epochs = np.arange(300)
    assert falling(list(5 + 100 * np.exp(-epochs / 20))) == 0
    assert falling(list(5 - 0.001 * epochs + noise(300, 0, 0.01))) == 0, "0.07 nats in the last quarter"
    slow = falling(list(5 - 0.01 * epochs + noise(300, 0, 0.1)))
    assert slow == pytest.approx(0.74, abs=0.15)
    assert falling(list(5 + 0.01 * epochs)) == 0, "it rises"
    assert falling([411.6, 380.1, 352.0]) == pytest.approx(59.6, abs=0.1)
    assert falling([411.6, 250.0, 170.0, 130.0, 110.0]) > 100
    assert falling([411.6, 380.1]) is None and falling([411.6]) is None and falling([]) is None


def test_6_9_a_loss_in_nats_is_the_least_q_of_an_isotropic_gaussian():
    x = np.random.default_rng(0).standard_normal((40, 3))
    for scale in (0.1, 7.0):
        loss = 0.5 * np.mean(np.sum((scale * x) ** 2, axis=1))
        sigma2 = np.linspace(0.5, 2, 30001) * 2 * loss / 3
        Q = np.min(loss / sigma2 + 1.5 * np.log(2 * np.pi * sigma2))
        (found,) = in_nats([loss], 3)
        assert found + 1.5 * (1 + np.log(4 * np.pi / 3)) == pytest.approx(Q, abs=1e-7)
    assert np.isfinite(in_nats([0.0], 3)).all()


SHORT = {
    "VAE": lambda **more: VAE(2, epochs=5, **SMALL, **more),
    "VariationalEM": lambda **more: VariationalEM(2, hidden=(4,), epochs=5, **more),
    "Autoencoder": lambda **more: Autoencoder(2, epochs=5, **SMALL, **more),
}
every = pytest.mark.parametrize("name", SHORT)


@every
def test_a_short_fit_says_that_it_was_falling_and_what_to_do(name):
    model = SHORT[name]()
    message = r"ended after \d (epochs|rounds) while .* raise epochs"
    with pytest.warns(ConvergenceWarning, match=message) as told:
        model.fit(TRAIN)
    assert told[0].filename == __file__ and len(told) == 1
    assert model.still_falling_ > 0.1 and f"{model.still_falling_:.2g} nats" in str(told[0].message)


def test_the_linear_vae_by_adam_does_not_end_far_above_its_optimum_in_silence():
    x = datasets.linear_gaussian(n_cases=500, n_visible=10, n_latent=3).x
    least = FactorAnalysis(3).fit(x).nlml(x).values.mean()
    with pytest.warns(ConvergenceWarning, match="optimizer='lbfgs' with nodes='sigma' go to the end"):
        early = VAE(3, hidden=()).fit(x)
    assert 0.1 < early.bound(x).mean() - least < 1
    assert early.bound(x).mean() < VAE_AT_3E_3 - 2
    rested = VAE(3, hidden=(), epochs=600, learning_rate=2e-2).fit(x)        # without a warning
    assert rested.still_falling_ == 0 and rested.bound(x).mean() - least < 0.2


VAE_AT_3E_3 = 18.953511                # where 300 epochs with the learning rate of deep networks end


@every
@pytest.mark.parametrize("epochs", [1, 2])
def test_one_or_two_epochs_say_nothing_and_know_nothing(name, epochs):
    model = SHORT[name]().set_params(epochs=epochs).fit(TRAIN)
    assert model.still_falling_ is None


@every
def test_a_training_that_was_ended_from_outside_says_nothing(name):
    SHORT[name]().set_params(epochs=9).fit(TRAIN, progress=lambda step, *_: step == 4)


def test_l_bfgs_says_whether_it_arrived():
    x = datasets.linear_gaussian(n_cases=60, n_visible=6, n_latent=2, seed=1).x
    vae = VAE(2, hidden=(), optimizer="lbfgs", nodes="sigma", tol=1e-6).fit(x)
    assert vae.converged_ and vae.still_falling_ == 0
    with pytest.warns(ConvergenceWarning, match="without reaching tol"):
        vae.set_params(epochs=8).fit(x)
    assert vae.converged_ is False and vae.still_falling_ > 0


# ---- one that diverges says where, and leaves the last whole epoch ---------------------------------


@dataclass(frozen=True)
class Failing(Gaussian):
    """A likelihood of one's own whose log p is NaN from some call on."""

    calls: object = None
    last: int = 10**9

    def rescaled(self, scale):
        return self

    def forward(self, params, f, x, mask=None):
        log_p, cache = super().forward(params, f, x, mask)
        self.calls.append(0)
        return (log_p if len(self.calls) <= self.last else np.nan * log_p), cache


def with_failing(make, last):
    return make(likelihood=Failing(5, calls=[], last=last))


FAILING = {
    "VAE": (lambda **kw: VAE(2, epochs=9, **SMALL, **kw), 4 * 3 + 2, r"nan in batch 3 of epoch 4 of 9", 3),
    "VAE, full batch": (
        lambda **kw: VAE(2, hidden=(4,), nodes="quadrature", optimizer="lbfgs", **kw),
        30, "nan in iteration", None
    ),
    "VariationalEM": (
        lambda **kw: VariationalEM(2, hidden=(4,), epochs=9, batch_size=70, m_steps=1, e_steps=1, **kw),
        None, "nan in the E-step of round 3 of 9, here in rows 0, 1, 2", 2
    ),
}


@pytest.mark.short
@pytest.mark.parametrize("name", FAILING)
def test_a_likelihood_that_fails_ends_training_there_with_the_last_whole_epoch(name):
    make, last, where, whole = FAILING[name]
    seen = []
    if last is None:                                               # how many calls two rounds are
        calls = []
        make(likelihood=Failing(5, calls=calls)).fit(
            TRAIN, progress=lambda step, *_: seen.append(len(calls)) or step == 2
        )
        last = seen[-1]
        seen.clear()
    with pytest.raises(TrainingError, match=where) as error:
        model = with_failing(make, last)
        model.fit(TRAIN, progress=lambda step, steps, Q, now: seen.append((step, tree.flatten(now().theta_))))
    step, theta = seen[-1]
    assert whole is None or step == whole
    unit = "iteration" if "full" in name else "round" if "EM" in name else "epoch"
    assert f"as it stood after {unit} {step}" in str(error.value)
    np.testing.assert_array_equal(tree.flatten(model.theta_), theta)
    assert np.isfinite(model.transform(TRAIN[:0 + 5]) if name != "VariationalEM" else model.phi_).all()
    assert len(model.q_path_) == step and model.n_iter_ == step


DIVERGING = {
    "VAE": lambda rate: VAE(2, optimizer="sgd", learning_rate=rate, epochs=30, **SMALL),
    "Autoencoder": lambda rate: Autoencoder(2, optimizer="sgd", learning_rate=rate, epochs=30, **SMALL),
    "VariationalEM": lambda rate: VariationalEM(2, hidden=(4,), learning_rate=rate, epochs=30),
}


@pytest.mark.short
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name, rate", [("VAE", 3.0), ("Autoencoder", 1e9), ("VariationalEM", 1e160)])
def test_a_learning_rate_that_is_too_large_is_named_with_the_parameter(name, rate):
    before = DIVERGING[name](1e-3).set_params(epochs=2).fit(TRAIN)
    kept = deepcopy(before.__dict__)
    model = before.set_params(epochs=30, learning_rate=rate)
    with pytest.raises(TrainingError) as error:
        model.fit(TRAIN)
    text = str(error.value)
    assert re.search(r"epoch \d+ of \d+: the first that is not finite is \w+(\.\w+)*\[\d\]\.[Wb]", text)
    assert "smaller learning_rate" in text and "gradcheck.part" in text
    if "No epoch" in text or "No round" in text:                   # then the earlier fit stands
        for attribute in {"theta_", "decoder_params_"} & set(kept):
            now = getattr(model, attribute)
            np.testing.assert_array_equal(tree.flatten(kept[attribute]), tree.flatten(now))
    assert np.isfinite(model.transform(TRAIN)).all()


def quadratic(fails_at, parameter="W", what="value"):
    calls = []

    def objective(params, rows):
        calls.append(rows)
        value = sum(np.sum(leaf**2) for _, leaf in tree.leaves(params))
        grads = tree.map(lambda leaf: 2 * leaf, params)
        if len(calls) == fails_at:
            grads[parameter] = grads[parameter] * np.nan
            if what == "value":
                value = value * np.nan
        return value, grads

    return objective


def begun():
    return Run({"b": np.ones(2), "W": np.full((2, 2), 3.0)}, {"shuffle": np.random.default_rng(0)})


def test_the_loop_stops_at_the_batch_and_gives_back_the_epoch_before():
    run, ends = begun(), []
    with pytest.raises(TrainingError, match=r"nan in batch 2 of epoch 3 of 9: .* is W's gradient, all"):
        minibatches(quadratic(2 * 3 + 2), run, 9, optimizer=Adam(0.1), epochs=9, batch_size=3,
                    after=lambda run: ends.append(tree.flatten(run.params)))
    np.testing.assert_array_equal(tree.flatten(run.params), ends[-1])
    assert len(run.path) == len(ends) == 2
    run = begun()
    with pytest.raises(TrainingError, match=r"the parameters left the finite numbers in epoch 1 .* is b;"):
        minibatches(quadratic(3, "b", "gradient"), run, 9, optimizer=Adam(0.1), epochs=9, batch_size=3)
    np.testing.assert_array_equal(run.params["b"], [1, 1])


def test_l_bfgs_gives_back_the_iteration_before():
    run, ends = begun(), []
    with pytest.raises(TrainingError, match=r"nan in iteration \d: the first .* is W's gradient"):
        full_batch(rosenbrock_like(6), run, 1, max_iter=50, tol=1e-12,
                   after=lambda run: ends.append(tree.flatten(run.params)))
    assert len(run.path) == len(ends)
    np.testing.assert_array_equal(tree.flatten(run.params), ends[-1])


def rosenbrock_like(fails_at):
    plain, calls = quadratic(10**9), []

    def objective(params, rows):
        calls.append(0)
        value, grads = plain(params, rows)
        x, y = params["b"]
        value = value + (1 - x) ** 2 + 100 * (y - x * x) ** 2
        grads["b"] = grads["b"] + [-2 * (1 - x) - 400 * x * (y - x * x), 200 * (y - x * x)]
        if len(calls) == fails_at:
            value, grads["W"] = value * np.nan, grads["W"] * np.nan
        return value, grads

    return objective


def test_em_that_stops_being_finite_says_in_which_iteration(monkeypatch):
    seen, e_step = [], linear_gaussian.e_step_moments

    def failing(*given):
        seen.append(0)
        stats, Q = e_step(*given)
        return stats, (Q if len(seen) < 5 else np.nan)

    monkeypatch.setattr(linear_gaussian, "e_step_moments", failing)
    alone = {"n_starts": 1, "tol": 1e-14}
    for model in (FactorAnalysis(2, **alone), VariationalEM(2, hidden=(), **alone)):
        seen.clear()
        with pytest.raises(TrainingError, match=r"nan in .* of EM: .* Q itself.* holds the model"):
            model.fit(X)
        path = getattr(model, "nlml_path_", getattr(model, "q_path_", None))
        assert 1 < len(path) <= 4 and np.isfinite(path).all()
        np.testing.assert_allclose(model.bound(X).mean(), path[-1], rtol=1e-9)


def test_em_of_a_mixture_likewise(monkeypatch):
    seen, divergence = [], mixture.divergence
    whole = GaussianMixture(2, tol=1e-14).fit(X)

    def failing(q, log_p):
        seen.append(0)
        return divergence(q, log_p) * (1 if len(seen) < 4 else np.nan)

    model = GaussianMixture(2, tol=1e-14)
    with monkeypatch.context() as patch:
        patch.setattr(mixture, "divergence", failing)
        with pytest.raises(TrainingError, match="nan .* of iteration 3 of EM.* the iteration before"):
            model.fit(X)
    np.testing.assert_array_equal(model.q_path_, whole.q_path_[:3])
    assert model.bound(X).mean() == pytest.approx(whole.q_path_[2], rel=1e-9)
    seen.clear()
    with monkeypatch.context() as patch:
        patch.setattr(mixture, "divergence", lambda q, log_p: np.nan * log_p[:, 0])
        with pytest.raises(TrainingError, match="No iteration was finished, the estimator is as it was"):
            GaussianMixture(2).fit(X)


# ---- held-out data say what to keep, and when to end -----------------------------------------------


def fitted(make, patience=None, x=TRAIN, validation=ASIDE):
    """A fit to x with validation data, and Q of those by the model as it stood after each epoch."""
    asked = []

    def progress(step, steps, value, now):
        model = now()
        asked.append(model.bound(validation).mean() if hasattr(model, "bound") else
                     0.5 * np.mean(np.sum((validation - model.reconstruct(validation)) ** 2, axis=1)))

    return make().fit(x, validation=validation, patience=patience, progress=progress), np.array(asked)


HOLES = np.where(np.random.default_rng(1).random(X.shape) < 0.15, np.nan, X)
VALIDATED = {                                                      # make, data, how near
    "VAE, linear": (lambda: VAE(2, hidden=(), epochs=12), X, 1e-9),
    "VAE, linear, float32": (lambda: VAE(2, hidden=(), epochs=6, dtype="float32"), X, 1e-4),
    "VAE, full batch": (lambda: VAE(2, hidden=(), optimizer="lbfgs", nodes="sigma", epochs=12), X, 1e-9),
    "VAE, full batch, holes": (
        lambda: VAE(2, hidden=(), optimizer="lbfgs", nodes="sigma", epochs=9, missing="marginalise"),
        HOLES, 1e-9
    ),
    "VAE, units": (lambda: VAE(2, hidden=(), epochs=6), 1e3 * X + 1e4, 1e-7),
    "VAE, holes": (lambda: VAE(1, hidden=(), epochs=6, missing="marginalise"), HOLES, 1e-9),
    "VAE, K = 1": (lambda: VAE(1, epochs=15, **SMALL), X, 0.05),
    "VariationalEM": (lambda: VariationalEM(1, hidden=(4,), epochs=5, learning_rate=2e-2), X, 0.003),
    "VariationalEM, holes": (
        lambda: VariationalEM(1, hidden=(4,), epochs=4, learning_rate=2e-2, missing="marginalise"),
        HOLES, 0.003
    ),
    "Autoencoder": (lambda: Autoencoder(2, epochs=12, **SMALL), X, 1e-9),
}


@pytest.mark.short
@pytest.mark.filterwarnings("ignore:L-BFGS stopped")
@pytest.mark.parametrize("name", VALIDATED)
def test_the_held_out_path_is_what_the_model_of_each_epoch_says(name):
    make, x, near = VALIDATED[name]
    model, asked = fitted(make, x=x[:70], validation=x[70:])
    path = getattr(model, "q_validation_path_", getattr(model, "loss_validation_path_", None))
    assert len(path) == len(asked) and np.ptp(path) > 10 * near
    np.testing.assert_allclose(path, asked, rtol=0, atol=near)
    assert model.best_iter_ == 1 + np.argmin(path)


@pytest.mark.short
@every
def test_watching_changes_nothing_in_the_path_of_training(name):
    plain, watched = SHORT[name]().fit(TRAIN), SHORT[name]().fit(TRAIN, validation=ASIDE)
    path = "loss_path_" if name == "Autoencoder" else "q_path_"
    kept = slice(0, -1) if name == "VariationalEM" else slice(None)
    np.testing.assert_array_equal(getattr(plain, path)[kept], getattr(watched, path)[kept])
    assert getattr(plain, path.replace("_path", "_validation_path")) is None


OVERFIT = {
    "VAE": lambda: VAE(2, hidden=(30,), epochs=400, batch_size=10, learning_rate=2e-2),
    "VariationalEM": lambda: VariationalEM(2, hidden=(30,), epochs=40, batch_size=10, learning_rate=3e-2),
    "Autoencoder": lambda: Autoencoder(2, hidden=(30,), epochs=400, batch_size=10, learning_rate=2e-2),
}


@pytest.mark.parametrize("name", OVERFIT)
def test_patience_ends_training_and_the_best_is_kept(name):
    few, rest = X[:30], X[30:]
    model = OVERFIT[name]().fit(few, validation=rest, patience=4)
    path = getattr(model, "q_validation_path_", getattr(model, "loss_validation_path_", None))
    best = int(np.argmin(path))
    assert len(path) == best + 5 < model.epochs, "four epochs after the best"
    assert model.best_iter_ == best + 1
    whole = OVERFIT[name]().fit(few, progress=lambda step, *_: step == best + 1)
    learnt = "decoder_params_" if name == "Autoencoder" else "theta_"
    np.testing.assert_array_equal(*(tree.flatten(getattr(m, learnt)) for m in (model, whole)))
    patient = OVERFIT[name]().set_params(epochs=best + 9).fit(few, validation=rest)
    assert len(getattr(patient, "loss_path_", getattr(patient, "q_path_", None))) >= best + 9


def test_a_run_given_back_goes_on_as_if_it_had_never_stopped():
    """What a checkpoint needs: the run after an epoch holds all that the rest depends on."""
    def led_on(run, epochs):
        def objective(params, rows):
            r = params["b"][0] - run.generators["noise"].standard_normal(len(rows))
            return np.mean(r * r), {"b": np.array([2 * np.mean(r)])}

        held_out = HeldOut(lambda run: float(run.params["b"][0] ** 2), patience=4)
        return minibatches(
            objective, run, 10, optimizer=Adam(0.1), epochs=epochs, batch_size=4, held_out=held_out
        )

    def new():
        generators = {"shuffle": np.random.default_rng(1), "noise": np.random.default_rng(2)}
        return Run({"b": np.ones(1)}, generators)

    straight, run = led_on(new(), 20), led_on(deepcopy(led_on(new(), 3)), 20)
    assert run.path == straight.path and run.held_out_path == straight.held_out_path
    np.testing.assert_array_equal(run.params["b"], straight.params["b"])
    assert run.best.value == straight.best.value == min(run.held_out_path)
    assert run.kept["b"][0] ** 2 == run.best.value


@pytest.mark.parametrize("make, given, message", [
    (lambda: VAE(2), {"patience": 3}, "patience=3 waits for a lower Q of held-out data, and there are none"),
    (lambda: VAE(2), {"validation": ASIDE, "patience": 0}, "patience must be an integer >= 1"),
    (lambda: VAE(2), {"validation": ASIDE[:, :3]}, "validation has 3 columns, X has 5"),
    (lambda: VAE(2), {"validation": np.full((3, 5), np.nan)}, "validation"),
    (lambda: VariationalEM(2, hidden=()), {"validation": ASIDE}, "validation is for neural decoders"),
    (lambda: Autoencoder(2), {"validation": ASIDE[:, :3]}, "validation has 3 columns, X has 5"),
    (lambda: Autoencoder(2), {"patience": 3}, "patience=3 waits"),
    (lambda: VAE(2, likelihood="bernoulli"), {"validation": ASIDE}, "0 and 1"),
])
def test_held_out_data_that_make_no_sense_are_refused_at_the_door(make, given, message):
    x = (TRAIN > 0).astype(float) if getattr(make(), "likelihood", "") == "bernoulli" else TRAIN
    model = make()
    with pytest.raises(ValueError, match=message):
        model.fit(x, **given)
    assert not hasattr(model, "n_features_in_")


def test_a_data_frame_s_columns_must_be_those_of_training():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abcde"))
    with pytest.raises(ValueError, match="the columns of validation are"):
        VAE(2, epochs=1).fit(frame[:70], validation=frame[70:].rename(columns={"a": "z"}))


@pytest.mark.short
def test_held_out_grey_values_are_drawn_once():
    grey = np.random.default_rng(0).random((60, 4))
    vae = VAE(1, hidden=(), likelihood="bernoulli", binarise="fresh", epochs=4, learning_rate=1e-9)
    vae.fit(grey[:40], validation=grey[40:])
    assert np.ptp(vae.q_validation_path_) < 1e-6 < np.ptp(vae.q_path_)


# ---- the axes of z (2.28), (6.10) ------------------------------------------------------------------


def test_2_28_variational_em_takes_the_steps_of_factor_analysis():
    """Eigenvalues near one another made it turn for thousands of rounds."""
    x = datasets.linear_gaussian(n_cases=500, n_visible=10, n_latent=3).x
    fa, vem = FactorAnalysis(3).fit(x), VariationalEM(3, hidden=()).fit(x)
    assert vem.converged_ and vem.n_iter_ == fa.n_iter_ < 100
    assert (np.diff(vem.q_path_) < 1e-12).all()
    np.testing.assert_allclose(vem.q_path_, fa.nlml_path_, rtol=0, atol=1e-7)


def test_2_28_the_canonical_rotation_has_the_least_q():
    rng = np.random.default_rng(0)
    W, psi, S = rng.standard_normal((3, 6)), rng.uniform(0.3, 2, 6), np.cov(rng.standard_normal((6, 90)))
    family = VariationalEM(3, hidden=()).fit(X).model_.posterior.__class__(3)
    problem = em.Complete(S, Gaussian(6), None, family)
    p = problem.turned(em.Parameters(W, np.zeros(6), psi))
    _, least = problem.e_step(p)
    assert least == pytest.approx(em.Complete(S, Gaussian(6)).e_step(p)[1], abs=1e-12), "no gap is left"
    for _ in range(50):
        R, _ = np.linalg.qr(rng.standard_normal((3, 3)))
        assert problem.e_step(p._replace(W=R @ W))[1] >= least - 1e-12


def test_6_10_the_axes_of_z_change_no_gradient_s_truth_and_no_optimum():
    rng, K = np.random.default_rng(0), 2
    x = datasets.linear_gaussian(n_cases=60, n_visible=6, n_latent=2, seed=1).x
    model = VAE(K, hidden=(), epochs=1).fit(x)
    axes, network = LatentAxes(model.model_), model.recognition_
    params = {"theta": model.theta_, "recognition": model.recognition_params_}
    params = tree.map(lambda leaf: leaf + 0.3 * rng.standard_normal(leaf.shape), params)
    eta, weights = sigma_points(K)

    def objective(params, rows):
        return amortised(model.model_, network, params, x[rows], eta, weights=weights)

    searched, rows = axes.turned(objective), slice(0, 40)
    report = gradcheck.check(lambda p: float(searched(p, rows)[0]), params, searched(params, rows)[1])
    assert report.ok, report
    value, _ = searched(params, rows)
    assert value == pytest.approx(objective(axes.fold(params), rows)[0], rel=1e-13)
    folded = axes.fold(params)
    W, _, psi = linear_gaussian.parameters(model.model_, folded["theta"])
    M = (W / psi) @ W.T
    np.testing.assert_allclose(M, np.diag(np.diag(M)), atol=1e-12)
    R, _ = np.linalg.qr(rng.standard_normal((K, K)))
    assert searched(axes._turned(params, R), rows)[0] == pytest.approx(value, rel=1e-12), "it sees none"
    assert abs(objective(axes._turned(params, R), rows)[0] / objective(params, rows)[0] - 1) > 1e-6


def test_6_10_l_bfgs_needs_few_iterations_where_eigenvalues_are_near_one_another():
    """Three factors of next to the same strength: without the axes twice as many."""
    rng = np.random.default_rng(5)
    W, _ = np.linalg.qr(rng.standard_normal((12, 3)))
    x = 3 * rng.standard_normal((300, 3)) @ W.T + rng.standard_normal((300, 12))
    vae = VAE(3, hidden=(), optimizer="lbfgs", nodes="sigma").fit(x)
    assert vae.converged_ and vae.n_iter_ < 120
    assert vae.q_path_[-1] == pytest.approx(FactorAnalysis(3).fit(x).nlml_path_[-1], abs=1e-7)


def test_warnings_come_when_the_estimator_is_fitted():
    model = SHORT["VAE"]()
    with pytest.raises(ConvergenceWarning):                        # as under python -W error
        model.fit(TRAIN)
    assert np.isfinite(model.transform(TRAIN)).all()


def test_a_mixture_and_its_limit_are_told_as_before():
    with pytest.warns(ConvergenceWarning, match="EM stopped after max_iter=3"):
        GaussianMixture(3, max_iter=3).fit(X)
    assert convergence.TOLERANCE == 0.1
