"""The estimators from outside: what fit leaves behind, what a fitted model answers, and what may not
depend on units, precision, order of rows, or a fit that was broken off.

What can be computed twice is: a fitted model's own decoder and noise, read from the outside, give
log p(x) by a sum over a grid, and a linear one a dense normal distribution.
"""

import copy
import math
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats
from sklearn.base import clone
from sklearn.decomposition import PCA

from teachvae import (
    Autoencoder, FactorAnalysis, GaussianMixture, MixtureOfFactorAnalysers, PrincipalComponents, VAE,
    VariationalEM, bound, datasets, infer, nlml, noise, tree,
)
from teachvae.doors.units import HeywoodWarning
from teachvae.inference import em, expectations
from teachvae.messages import shorten
from teachvae.networks.convergence import ConvergenceWarning
from teachvae.networks.layers import mlp
from teachvae.networks.training import TrainingError
from teachvae.routes import vae as vae_route, variational_em
from teachvae.routes.conventions import NotFittedError
from teachvae.routes.questions import QuadratureWarning

pytestmark = pytest.mark.short                                   # most fits here end early on purpose

K, D, N = 2, 6, 60
LINEAR = datasets.linear_gaussian(n_cases=N, n_visible=D, n_latent=K, seed=7).x
CURVE = datasets.spiral(n_cases=N, noise=0.1**2, seed=0).x
BITS = (datasets.digits(threshold=8).x[:N, 18:24]).copy()

MAKERS = {
    "FactorAnalysis": lambda **o: FactorAnalysis(**{"n_components": K, **o}),
    "VariationalEM, linear": lambda **o: VariationalEM(**{"n_components": K, "hidden": (), **o}),
    "VariationalEM": lambda **o: VariationalEM(**{"n_components": K, "hidden": (4,), "epochs": 3, **o}),
    "VAE": lambda **o: VAE(**{"n_components": K, "hidden": (4,), "epochs": 5, **o}),
    "Autoencoder": lambda **o: Autoencoder(**{"n_components": K, "hidden": (4,), "epochs": 5, **o}),
}
MODELS = [name for name in MAKERS if name != "Autoencoder"]
every = pytest.mark.parametrize("name", MAKERS)
every_model = pytest.mark.parametrize("name", MODELS)


def learnt(estimator):
    """The attributes that fit has set."""
    return sorted(name for name in vars(estimator) if name.endswith("_"))


def phi_of(estimator, X):
    """φ of new data, by the name that the route gives it."""
    return estimator.encode(X) if isinstance(estimator, VAE) else estimator.infer(X)


def answers(estimator, X):
    """Everything that a fitted estimator says of data, row by row, and of itself; networks that were hardly
    trained warn of importance weights that a few draws carry."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", nlml.FewDrawsWarning)
        return answers_with_warnings(estimator, X)


def answers_with_warnings(estimator, X):
    said = {"transform": estimator.transform(X), "reconstruct": estimator.reconstruct(X)}
    if not isinstance(estimator, Autoencoder):
        said["phi"] = phi_of(estimator, X)
        said["bound"] = estimator.bound(X, random_state=1)
        said["nlml"] = estimator.nlml(X, random_state=1).values
        said["score_samples"] = estimator.score_samples(X)
    return said


def assert_same(a, b, atol=0.0):
    assert a.keys() == b.keys()
    for what in a:
        assert a[what].shape == b[what].shape and a[what].dtype == b[what].dtype, what
        np.testing.assert_allclose(a[what], b[what], rtol=0, atol=atol, err_msg=what)


# ---- what fit leaves behind -----------------------------------------------------------------------


@every
def test_fit_returns_self_and_sets_only_learnt_attributes(name):
    estimator = MAKERS[name]()
    before = estimator.get_params()
    assert learnt(estimator) == []
    assert estimator.fit(LINEAR) is estimator
    assert estimator.get_params() == before
    assert set(vars(estimator)) == set(before) | set(learnt(estimator))
    assert estimator.n_features_in_ == D
    assert estimator.backend_.name == "numpy"


def test_factor_analysis_attributes():
    fa = FactorAnalysis(K).fit(LINEAR)
    assert fa.components_.shape == (K, D)
    np.testing.assert_array_equal(fa.loadings_, fa.components_.T)
    np.testing.assert_allclose(fa.mean_, LINEAR.mean(axis=0), rtol=0, atol=1e-12)
    assert fa.noise_variance_.shape == (D,) and (fa.noise_variance_ > 0).all()
    assert fa.nlml_path_.shape == (fa.n_iter_ + 1,)
    assert fa.converged_ is True
    assert fa.heywood_.shape == (0,) and fa.heywood_.dtype.kind == "i"
    np.testing.assert_allclose(fa.nlml_path_[-1], -fa.score(LINEAR), rtol=0, atol=1e-10)


@pytest.mark.parametrize("posterior, n_phi", [("diagonal", 2 * K), ("full", K + K * (K + 1) // 2)])
def test_variational_em_attributes(posterior, n_phi):
    for name in ("VariationalEM, linear", "VariationalEM"):
        em = MAKERS[name](posterior=posterior).fit(LINEAR)
        assert em.phi_.shape == (N, n_phi) and em.infer(LINEAR[:7]).shape == (7, n_phi)
        assert em.q_path_.shape == (em.n_iter_ + 1,) and em.noise_variance_.shape == (D,)
        assert em.heywood_.shape == (0,)
        assert em.converged_ is (True if name == "VariationalEM, linear" else None)
        # the table belongs to the θ that was kept, and its Q is the last of the path
        np.testing.assert_allclose(em.bound(LINEAR, phi=em.phi_), em.bound(LINEAR), rtol=0, atol=1e-3)
        np.testing.assert_allclose(np.mean(em.bound(LINEAR, phi=em.phi_)), em.q_path_[-1], atol=1e-3)
    assert len(em.q_path_) == 3 + 1, "one Q per round, and one after the last E-step"


@pytest.mark.parametrize("options", [{}, {"posterior": "full"}, {"missing": "marginalise"}])
@pytest.mark.parametrize("epochs", [1, 3])
def test_variational_em_stopped_by_epochs_speaks_of_the_theta_that_it_returns(epochs, options):
    with pytest.warns(ConvergenceWarning, match=rf"after {epochs} rounds .* raise epochs or tol"):
        em = VariationalEM(K, hidden=(), epochs=epochs, **options).fit(LINEAR)
    assert em.converged_ is False and em.n_iter_ == epochs and len(em.q_path_) == epochs + 1
    np.testing.assert_allclose(em.phi_, em.infer(LINEAR), rtol=0, atol=1e-9)
    assert em.q_path_[-1] == pytest.approx(em.bound(LINEAR, phi=em.phi_).mean(), abs=1e-9)


def test_vae_attributes():
    vae = MAKERS["VAE"]().fit(LINEAR)
    assert vae.encode(LINEAR[:7]).shape == (7, 2 * K)
    assert vae.q_path_.shape == (5,) and vae.n_iter_ == 5 and vae.converged_ is None
    assert vae.noise_variance_.shape == (D,) and vae.heywood_.shape == (0,)
    assert vae.recognition_.n_in == D and vae.recognition_.n_out == 2 * K
    layers = [list(p) for p in vae.recognition_params_]
    assert layers == [["W", "b"], [], ["W", "b"]]


def test_autoencoder_attributes():
    ae = MAKERS["Autoencoder"]().fit(LINEAR)
    assert ae.loss_path_.shape == (5,)
    assert (ae.encoder_.n_in, ae.encoder_.n_out) == (D, K) == (ae.decoder_.n_out, ae.decoder_.n_in)
    assert ae.transform(LINEAR).shape == (N, K)


def test_fit_transform_and_refit():
    fa = FactorAnalysis(K)
    np.testing.assert_array_equal(fa.fit_transform(LINEAR), FactorAnalysis(K).fit(LINEAR).transform(LINEAR))
    fa.set_params(n_components=1).fit(CURVE)
    assert fa.n_features_in_ == 2 and fa.components_.shape == (1, 2)


NUMBERS = [
    (FactorAnalysis(K), K * D + D + D),
    (FactorAnalysis(K, noise="isotropic"), K * D + D + 1),
    (FactorAnalysis(K, noise=0.5), K * D + D),
    (VariationalEM(K, hidden=()), K * D + D + D),
    (VariationalEM(K, hidden=(3,), epochs=1), (K * 3 + 3) + (3 * D + D) + D),
    (VAE(K, hidden=(3, 4), epochs=1),
     (K * 3 + 3) + (3 * 4 + 4) + (4 * D + D) + D + (D * 4 + 4) + (4 * 3 + 3) + (3 * 2 * K + 2 * K)),
    (VAE(K, hidden=(3,), separate=True, noise=1.0, epochs=1),
     (K * 3 + 3) + (3 * D + D) + 2 * ((D * 3 + 3) + (3 * K + K))),
    (VAE(K, hidden=(), posterior="full", epochs=1), K * D + D + D + (D + 1) * (K + K * (K + 1) // 2)),
    (Autoencoder(K, hidden=(3,), epochs=1), (D * 3 + 3) + (3 * K + K) + (K * 3 + 3) + (3 * D + D)),
]


@pytest.mark.parametrize("estimator, count", NUMBERS, ids=lambda value: str(value))
def test_number_of_parameters_counted_by_hand(estimator, count):
    assert copy.copy(estimator).fit(LINEAR).n_parameters_ == count


# ---- hyper-parameters and the unfitted ------------------------------------------------------------


@every
def test_parameters_by_name(name):
    estimator = MAKERS[name]()
    params = estimator.get_params()
    assert type(estimator)(**params).get_params() == params
    assert estimator.set_params(n_components=3, random_state=7) is estimator
    assert estimator.get_params() == params | {"n_components": 3, "random_state": 7}
    with pytest.raises(ValueError, match=r"has no parameter 'n_component'; it has n_components, "):
        estimator.set_params(n_component=1, random_state=8)
    assert estimator.random_state == 7, "an unknown name changes nothing"
    theirs = clone(estimator)
    assert theirs is not estimator and theirs.get_params() == estimator.get_params()


def test_parameters_are_keyword_only_but_for_the_first():
    for make in (FactorAnalysis, VariationalEM, VAE, Autoencoder):
        assert make(3).n_components == 3
        with pytest.raises(TypeError):
            make(3, (4,))


HEEDED = {
    "VAE": [
        {"n_components": 1}, {"hidden": (5,)}, {"activation": "relu"}, {"noise": "isotropic"}, {"noise": 0.5},
        {"decoder": mlp(K, (5,), D)}, {"recognition": mlp(D, (5,), 2 * K)}, {"posterior": "full"},
        {"separate": True}, {"kl": "sampled"}, {"nodes": "quadrature"}, {"objective": "iwae"},
        {"objective": "iwae-dreg"}, {"kl_weight": 0.5},
        {"optimizer": "sgd"}, {"optimizer": "lbfgs", "nodes": "quadrature"}, {"n_samples": 3}, {"epochs": 6},
        {"batch_size": 7}, {"learning_rate": 0.1}, {"min_noise": 0.3}, {"random_state": 1},
        {"dtype": "float32"},
    ],
    "VariationalEM": [
        {"n_components": 1}, {"hidden": (5,)}, {"activation": "relu"}, {"noise": "isotropic"}, {"noise": 0.5},
        {"decoder": mlp(K, (5,), D)}, {"posterior": "full"}, {"e_steps": 1}, {"m_steps": 1},
        {"n_samples": 8}, {"epochs": 4},
        {"batch_size": 7}, {"learning_rate": 0.1}, {"min_noise": 0.9}, {"random_state": 1},
        {"dtype": "float32"},
    ],
    "VariationalEM, linear": [
        {"n_components": 1}, {"noise": "isotropic"}, {"noise": 0.5}, {"posterior": "full"}, {"tol": 1e-4},
        {"min_noise": 0.3}, {"dtype": "float32"},
    ],
    "FactorAnalysis": [
        {"n_components": 1}, {"noise": "isotropic"}, {"noise": 0.5}, {"tol": 1e-4}, {"min_noise": 0.3},
        {"random_state": 1}, {"dtype": "float32"},
    ],
    "Autoencoder": [
        {"n_components": 1}, {"hidden": (5,)}, {"activation": "relu"}, {"optimizer": "sgd"}, {"epochs": 6},
        {"batch_size": 7}, {"learning_rate": 0.1}, {"random_state": 1}, {"dtype": "float32"},
        {"noise_variance": 0.5}, {"encoder": mlp(D, (5,), K)}, {"decoder": mlp(K, (5,), D)},
    ],
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@every
def test_no_parameter_falls_on_deaf_ears(name):
    """Each option changes the fit; but for those tried in HEEDED there are only these few."""
    few = LINEAR[:30]
    plain = MAKERS[name]().fit(few).reconstruct(few)
    for options in HEEDED[name]:
        other = MAKERS[name](**options).fit(few).reconstruct(few)
        assert not np.array_equal(other, plain), options
    tried = {option for options in HEEDED[name] for option in options}
    elsewhere = {"backend", "likelihood", "max_iter", "start_noise", "missing", "constant", "binarise",
                 "n_starts", "comm", "n_jobs"}
    closed_form = {"hidden", "activation", "decoder", "epochs", "e_steps", "m_steps", "n_samples",
                   "batch_size",
                   "learning_rate", "random_state"} if name == "VariationalEM, linear" else set()
    full_batch = {"tol"} if name in ("VAE", "VariationalEM") else set()
    assert set(MAKERS[name]().get_params()) - tried <= elsewhere | closed_form | full_batch


def test_parameters_are_stored_as_given():
    hidden = [3]
    assert VAE(hidden=hidden).hidden is hidden
    vae = VAE(hidden=hidden, epochs=1).fit(LINEAR)
    assert vae.hidden is hidden and vae.epochs == 1


def test_repr_names_what_was_changed():
    assert repr(FactorAnalysis()) == "FactorAnalysis()"
    assert repr(FactorAnalysis(3, tol=1e-4)) == "FactorAnalysis(n_components=3, tol=0.0001)"
    text = repr(VAE(2, hidden=(), optimizer="lbfgs", nodes="sigma"))
    assert text == "VAE(hidden=(), nodes='sigma', optimizer='lbfgs')"
    assert eval(text).get_params() == VAE(hidden=(), nodes="sigma", optimizer="lbfgs").get_params()


QUESTIONS = {
    "transform": lambda e: e.transform(LINEAR),
    "decode": lambda e: e.decode(np.zeros((1, K))),
    "reconstruct": lambda e: e.reconstruct(LINEAR),
    "n_parameters_": lambda e: e.n_parameters_,
}
MODEL_QUESTIONS = QUESTIONS | {
    "bound": lambda e: e.bound(LINEAR),
    "nlml": lambda e: e.nlml(LINEAR),
    "phi": lambda e: phi_of(e, LINEAR),
    "sample": lambda e: e.sample(3),
    "score": lambda e: e.score(LINEAR),
    "score_samples": lambda e: e.score_samples(LINEAR),
    "noise_variance_": lambda e: e.noise_variance_,
}
FA_QUESTIONS = MODEL_QUESTIONS | {
    "components_": lambda e: e.components_,
    "loadings_": lambda e: e.loadings_,
    "mean_": lambda e: e.mean_,
    "get_covariance": lambda e: e.get_covariance(),
}


@every
def test_an_unfitted_estimator_says_so(name):
    estimator = MAKERS[name]()
    questions = {"FactorAnalysis": FA_QUESTIONS, "Autoencoder": QUESTIONS}.get(name, MODEL_QUESTIONS)
    for ask in questions.values():
        with pytest.raises(NotFittedError, match=f"{type(estimator).__name__} is not fitted yet: call fit"):
            ask(estimator)
        ask(copy.copy(estimator).fit(LINEAR))                      # and a fitted one answers


def test_an_autoencoder_has_no_density():
    ae = MAKERS["Autoencoder"]().fit(LINEAR)
    for name in ("bound", "nlml", "sample"):
        assert not hasattr(ae, name)
        with pytest.raises(AttributeError, match=f"an Autoencoder has no {name}.*use VAE"):
            getattr(ae, name)
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        getattr(ae, "nonsense")  # noqa: B009


# ---- chance ---------------------------------------------------------------------------------------


@every
def test_the_same_random_state_gives_the_same_bits(name):
    first, second = (MAKERS[name](random_state=4).fit(LINEAR) for _ in range(2))
    assert_same(answers(first, LINEAR), answers(second, LINEAR))
    again = first.fit(LINEAR)
    assert_same(answers(again, LINEAR), answers(second, LINEAR))


@pytest.mark.parametrize("name", ["VariationalEM", "VAE", "Autoencoder"])
def test_another_random_state_gives_another_fit(name):
    first, second = (MAKERS[name](random_state=seed).fit(LINEAR) for seed in (0, 1))
    assert not np.allclose(first.reconstruct(LINEAR), second.reconstruct(LINEAR))


@every
def test_fit_leaves_its_data_alone_and_takes_any_layout(name):
    x = LINEAR.copy()
    x.flags.writeable = False
    estimator = MAKERS[name]().fit(x)
    expected = answers(estimator, x)
    assert_same(answers(MAKERS[name]().fit(np.asfortranarray(x)), x), expected, atol=1e-9)
    assert_same(answers(MAKERS[name]().fit(x.tolist()), x.tolist()), expected)
    np.testing.assert_array_equal(x, LINEAR)


def test_fit_ignores_global_random_state():
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    MAKERS["VAE"]().fit(LINEAR).sample(3)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


@every_model
def test_samples_are_determined_by_their_seed(name):
    model = MAKERS[name]().fit(LINEAR)
    a, b, c = (model.sample(10, random_state=seed) for seed in (0, 0, 1))
    assert a.shape == (10, D) and model.sample().shape == (1, D)
    np.testing.assert_array_equal(a, b)
    assert not np.allclose(a, c)


# ---- units and precision --------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:the sampled:teachvae.evaluation.nlml.FewDrawsWarning")
@pytest.mark.parametrize("noise_", ["diagonal", "isotropic", 0.3])
@every_model
def test_units_shift_Q_by_their_volume(name, noise_):
    """X·1000 + 7 has density p(x)/1000^D: Q moves by D log 1000, and nothing else changes."""
    thousand = noise_ if isinstance(noise_, str) else noise_ * 1000**2
    a = MAKERS[name](noise=noise_).fit(LINEAR)
    b = MAKERS[name](noise=thousand).fit(LINEAR * 1000 + 7)
    volume = D * math.log(1000)
    for X in (LINEAR, LINEAR[::-1] + 0.5):
        np.testing.assert_allclose(b.bound(X * 1000 + 7) - a.bound(X), volume, rtol=0, atol=1e-6)
        np.testing.assert_allclose(b.score(X * 1000 + 7) - a.score(X), -volume, rtol=0, atol=1e-6)
        np.testing.assert_allclose(b.transform(X * 1000 + 7), a.transform(X), rtol=0, atol=1e-6)
        shifted = (b.reconstruct(X * 1000 + 7) - 7) / 1000
        np.testing.assert_allclose(shifted, a.reconstruct(X), rtol=0, atol=1e-6)
    path = "nlml_path_" if name == "FactorAnalysis" else "q_path_"
    np.testing.assert_allclose(getattr(b, path) - getattr(a, path), volume, rtol=0, atol=1e-6)
    np.testing.assert_allclose(b.noise_variance_, a.noise_variance_ * 1000**2, rtol=1e-6)


@every_model
def test_a_diagonal_noise_takes_every_column_in_its_own_units(name):
    scale, shift = 10.0 ** np.arange(-2, D - 2), np.arange(D) - 2.0
    a, b = MAKERS[name]().fit(LINEAR), MAKERS[name]().fit(LINEAR * scale + shift)
    difference = b.bound(LINEAR * scale + shift) - a.bound(LINEAR)
    np.testing.assert_allclose(difference, np.sum(np.log(scale)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("options", [{"separate": True}, {"posterior": "full"}, {"kl": "sampled"}], ids=str)
def test_units_of_the_other_recognition_networks(options):
    a, b = MAKERS["VAE"](**options).fit(LINEAR), MAKERS["VAE"](**options).fit(LINEAR * 1000 + 7)
    difference = b.bound(LINEAR * 1000 + 7) - a.bound(LINEAR)
    np.testing.assert_allclose(difference, D * math.log(1000), rtol=0, atol=1e-6)


def test_units_of_the_autoencoder():
    a = MAKERS["Autoencoder"]().fit(LINEAR)
    b = MAKERS["Autoencoder"]().fit(LINEAR * 1000 + 7)
    back = (b.reconstruct(LINEAR * 1000 + 7) - 7) / 1000
    np.testing.assert_allclose(back, a.reconstruct(LINEAR), rtol=0, atol=1e-8)
    np.testing.assert_allclose(b.loss_path_, a.loss_path_ * 1e6, rtol=1e-8)
    once = MAKERS["Autoencoder"](epochs=1).fit(LINEAR)
    errors = 0.5 * np.sum((LINEAR - once.reconstruct(LINEAR)) ** 2, axis=1)
    assert abs(a.loss_path_[0] / np.mean(errors) - 1) < 0.2, "the loss is ½ squared error in the data's units"


@every
def test_float32_stays_float32_and_says_nearly_the_same(name):
    double, single = MAKERS[name]().fit(LINEAR), MAKERS[name]().fit(LINEAR.astype("float32"))
    a, b = answers(double, LINEAR), answers(single, LINEAR)
    assert {v.dtype for v in a.values()} == {np.dtype("float64")}
    assert {v.dtype for v in b.values()} == {np.dtype("float32")}
    for what in a:
        np.testing.assert_allclose(b[what], a[what], rtol=0, atol=5e-2, err_msg=what)
    trees = ["theta_"] if hasattr(single, "theta_") else ["encoder_params_", "decoder_params_"]
    trees += ["recognition_params_"] if hasattr(single, "recognition_params_") else []
    for attribute in trees:
        assert {leaf.dtype for _, leaf in tree.leaves(getattr(single, attribute))} == {np.dtype("float32")}
    assert single.decode(np.zeros((3, K))).dtype == np.float32
    if name != "Autoencoder":
        assert single.sample(3).dtype == np.float32
        # the noise is drawn in float64 and cast, so both see the same numbers
        a, b = (model.sample(3, random_state=0) for model in (double, single))
        np.testing.assert_allclose(b, a, rtol=0, atol=5e-2)


@every
def test_dtype_overrides_the_data(name):
    asked = MAKERS[name](dtype="float32").fit(LINEAR)
    assert asked.transform(LINEAR).dtype == np.float32
    asked = MAKERS[name](dtype="float64").fit(LINEAR.astype("float32"))
    assert asked.transform(LINEAR.astype("float32")).dtype == np.float64


# ---- a row's answer is its own --------------------------------------------------------------------


ROWS = {
    "FactorAnalysis": (lambda: FactorAnalysis(3), lambda: datasets.linear_gaussian(n_cases=300).x),
    "VariationalEM, spiral": (
        lambda: VariationalEM(1, hidden=(6,), epochs=4), lambda: datasets.spiral(n_cases=120, noise=0.01).x,
    ),
    "VariationalEM, three factors": (
        lambda: VariationalEM(3, hidden=(4,), epochs=2, posterior="full"),
        lambda: datasets.linear_gaussian(n_cases=30, n_visible=5).x,
    ),
    "VariationalEM, binary": (
        lambda: VariationalEM(2, hidden=(4,), epochs=3, likelihood="bernoulli"), lambda: BITS,
    ),
    "VAE": (lambda: VAE(2, hidden=(4,), epochs=2), lambda: datasets.linear_gaussian(n_cases=60).x),
    "VAE, binary": (lambda: VAE(3, hidden=(4,), epochs=2, likelihood="bernoulli"), lambda: BITS),
    "Autoencoder": (lambda: Autoencoder(2, hidden=(4,), epochs=2), lambda: LINEAR),
}


@pytest.mark.parametrize("case", ROWS)
def test_no_row_depends_on_other_rows(case):
    make, data = ROWS[case]
    x = data()
    estimator = make().fit(x)
    whole = answers(estimator, x)
    order = np.random.default_rng(0).permutation(len(x))
    for rows in (order, order[: len(x) // 3], order[:1]):
        part = answers(estimator, x[rows])
        assert_same(part, {what: values[rows] for what, values in whole.items()}, atol=1e-9)


# ---- E-steps that end where they say --------------------------------------------------------------


def Q_and_gradient(em, X, phi):
    """Q_n and ‖∂Q_n/∂φ_n‖∞, both (N,), on the nodes that `infer` is said to use: 32 for K = 1, 14 × 14 for
    K = 2, else whitened draws from seed 0."""
    n_latent = em.n_components
    if n_latent <= 2:
        eta, weights = noise.gauss_hermite(n_latent, {1: 32, 2: 14}[n_latent])
    else:
        eta, weights = noise.matched_draws(np.random.default_rng(0), 64 + 4 * n_latent, n_latent)
    Q, cache = bound.forward(em.model_, em.theta_, phi, X, eta, weights=weights)
    dphi, _ = bound.backward(em.model_, em.theta_, cache, np.ones_like(Q))
    return Q, np.abs(dphi).max(axis=1)


INFER = {
    "spiral": (VariationalEM(1, hidden=(6,), epochs=4), CURVE),
    "full": (VariationalEM(2, hidden=(4,), epochs=3, posterior="full"), LINEAR),
    "three factors": (VariationalEM(3, hidden=(4,), epochs=2), LINEAR),
    "binary": (VariationalEM(2, hidden=(4,), epochs=3, likelihood="bernoulli"), BITS),
}


@pytest.mark.parametrize("case", INFER)
def test_infer_reaches_the_minimum(case):
    em, x = copy.copy(INFER[case][0]), INFER[case][1]
    em.fit(x)
    rng = np.random.default_rng(0)
    new = x + (0.1 * rng.standard_normal(x.shape) if "binary" not in case else 0)
    phi = em.infer(new)
    Q, gradient = Q_and_gradient(em, new, phi)
    assert (gradient < 1e-6).all()
    assert (Q_and_gradient(em, x, em.phi_)[1] < 1e-6).all(), "the table is as good"
    for other in (phi + 0.05 * rng.standard_normal(phi.shape), phi - 0.02):
        Q_other, gradient_other = Q_and_gradient(em, new, other)
        assert np.all(Q_other > Q) and np.all(gradient_other > 1e-4)


def test_infer_names_the_rows_that_did_not_get_there(monkeypatch):
    em = VariationalEM(1, hidden=(6,), epochs=4).fit(CURVE)
    right = infer.optimal

    def hurried(*arguments, **options):
        return right(*arguments, max_steps=2, **options)

    monkeypatch.setattr(infer, "optimal", hurried)
    with pytest.warns(ConvergenceWarning) as caught:
        phi = em.infer(CURVE)
    late = np.flatnonzero(Q_and_gradient(em, CURVE, phi)[1] >= 1e-6)
    assert len(late) > 8
    message = str(caught[0].message)
    rows = ", ".join(str(row) for row in late[:8])
    assert f"the E-step of {len(late)} of {N} data cases" in message
    assert f"(rows {rows}, … ({len(late)} in all);" in message
    assert caught[0].filename == __file__, "the warning points at the caller's line"


# ---- what a fitted model answers ------------------------------------------------------------------


def dense_bound(model, X):
    """Q (N,) on a lattice in η finer than any rule that the package has."""
    m, (h, K) = model.model_, {1: (0.002, 1), 2: (0.02, 2)}[model.model_.n_latent]
    axis = np.arange(-8, 8 + h / 2, h)
    eta = np.stack([a.ravel() for a in np.meshgrid(*[axis] * K)], axis=1)
    weights = np.exp(-0.5 * np.sum(eta**2, axis=1))
    nodes = eta[:, None, :], weights / weights.sum()
    return expectations.bound_on_nodes(m, model.theta_, model.encode(X), X, *nodes)


@pytest.mark.parametrize("K", [1, 2])
def test_the_bound_says_where_quadrature_does_not_settle(K):
    x = 1.5 * np.random.default_rng(0).standard_normal((12, 4))
    kinked = VAE(K, hidden=(6,), activation="relu", epochs=3).fit(x)
    with pytest.warns(QuadratureWarning, match=r"of 12 data cases may be off by up to .* \(rows ") as said:
        Q = kinked.bound(x)
    off = np.abs(Q - dense_bound(kinked, x))
    _, certificate = expectations.quadrature(kinked.model_, kinked.theta_, kinked.encode(x), x)
    rows = np.flatnonzero(certificate > 1e-4)
    assert f"(rows {shorten(rows.tolist())})" in str(said[0].message)
    assert off.max() > 1e-4 and set(np.flatnonzero(off > 1e-3)) <= set(rows)
    x = x / 10 + np.arange(12)[:, None]
    smooth = VAE(K, hidden=(6,), epochs=200).fit(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(smooth.bound(x), dense_bound(smooth, x), rtol=0, atol=1e-6)
        kinked.bound(x, n_samples=50)


def test_cases_of_every_block_are_named_that_quadrature_does_not_settle():
    x = np.random.default_rng(0).standard_normal((1030, 3))
    model = VAE(1, hidden=(6,), activation="relu", epochs=1).fit(x)
    phi = np.tile([50.0, -8.0], (1030, 1))                         # no kink is so far out
    phi[1026:] = 0.0
    with pytest.warns(QuadratureWarning, match=r"Q of 4 of 1030 .* \(rows 1026, 1027, 1028, 1029\)"):
        model.bound(x, phi=phi)


def grid_nlml(model, X):
    """−log p(x_n) of a model with one latent variable from its decoder and its noise alone."""
    z = np.linspace(-9, 9, 6001)
    f = model.decode(z[:, None])
    if model.likelihood == "bernoulli":
        log_p = stats.bernoulli(f).logpmf(X[:, None, :].astype(int)).sum(axis=2)
    else:
        log_p = stats.norm(f, np.sqrt(model.noise_variance_)).logpdf(X[:, None, :]).sum(axis=2)
    return -special.logsumexp(log_p + stats.norm.logpdf(z) + np.log(z[1] - z[0]), axis=1)


VARIANTS = {
    "plain": {},
    "kl sampled": {"kl": "sampled"},
    "two networks": {"separate": True},
    "full": {"posterior": "full"},
    "isotropic": {"noise": "isotropic"},
    "fixed noise": {"noise": 0.05},
    "sgd": {"optimizer": "sgd", "learning_rate": 0.01},
    "sigma points": {"nodes": "sigma", "hidden": (), "learning_rate": 0.02},
    "quadrature": {"nodes": "quadrature"},
    "quadrature, full batch": {"nodes": "quadrature", "optimizer": "lbfgs"},
    "five samples": {"n_samples": 5},
    "full batch": {"optimizer": "lbfgs", "nodes": "sigma", "hidden": ()},
    "relu": {"activation": "relu"},
    "sigmoid": {"activation": "sigmoid"},
    "softplus": {"activation": "softplus"},
    "two layers": {"hidden": (5, 4)},
    "bernoulli": {"likelihood": "bernoulli"},
    "bernoulli, full, sampled": {"likelihood": "bernoulli", "posterior": "full", "kl": "sampled"},
}


@pytest.mark.filterwarnings("ignore:L-BFGS stopped")                                    # the start
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_kind_of_vae_goes_downhill_and_stays_above(variant):
    options = {"hidden": (6,), "epochs": 60, "batch_size": 20, "random_state": 1, **VARIANTS[variant]}
    X = BITS if options.get("likelihood") == "bernoulli" else CURVE
    vae, start = VAE(1, **options).fit(X), VAE(1, **options | {"epochs": 1}).fit(X)
    assert np.mean(vae.bound(X)) < np.mean(start.bound(X)) - 0.05
    assert vae.q_path_[-1] < vae.q_path_[0]
    truth = grid_nlml(vae, X)
    assert np.all(vae.bound(X) >= truth - 1e-6)
    assert np.mean(vae.bound(X) - truth) > 0
    importance = vae.nlml(X, method="importance", n_samples=4000, random_state=0)
    assert importance.method == "importance"
    assert importance.values.shape == importance.standard_error.shape == truth.shape
    assert -0.03 < np.mean(importance.values - truth) < 0.2, "from above: an upper bound on average"


def test_noise_and_grey_values_are_drawn_anew_in_every_step(monkeypatch):
    """All are of one grey, so that the order of the cases tells nothing."""
    seen, amortised = [], vae_route.amortised

    def look(model, recognition, params, x, eta, **options):
        seen.append((x, eta))
        return amortised(model, recognition, params, x, eta, **options)

    monkeypatch.setattr(vae_route, "amortised", look)
    options = {"hidden": (3,), "likelihood": "bernoulli", "binarise": "fresh", "n_samples": 5}
    VAE(1, epochs=3, batch_size=40, **options).fit(np.full((40, 3), 0.5))
    assert [eta.shape for _, eta in seen] == 3 * [(5, 40, 1)]
    for (x, eta), (x_next, eta_next) in zip(seen, seen[1:]):
        assert not np.array_equal(x, x_next) and not np.any(eta == eta_next)
        assert 0.3 < x.mean() < 0.7


EM_VARIANTS = {
    "plain": {},
    "full": {"posterior": "full"},
    "isotropic": {"noise": "isotropic"},
    "fixed noise": {"noise": 0.05},
    "relu": {"activation": "relu"},
    "more nodes": {"n_samples": 12},
    "bernoulli": {"likelihood": "bernoulli"},
    "bernoulli, one layer": {"likelihood": "bernoulli", "hidden": ()},
}


@pytest.mark.filterwarnings("ignore:the E-step of")                                     # kinks of ReLU
@pytest.mark.parametrize("variant", EM_VARIANTS)
def test_every_kind_of_variational_em_goes_downhill_and_stays_above(variant):
    options = {"hidden": (6,), "epochs": 20, "batch_size": 20, "random_state": 1, **EM_VARIANTS[variant]}
    X = BITS if options.get("likelihood") == "bernoulli" else CURVE
    short = {"epochs": 1, "m_steps": 1}
    em, start = VariationalEM(1, **options).fit(X), VariationalEM(1, **options | short).fit(X)
    assert np.mean(em.bound(X)) < np.mean(start.bound(X)) - 0.01
    assert em.q_path_[-2] < em.q_path_[0], "the last one is taken on finer nodes"
    truth = grid_nlml(em, X)
    assert np.all(em.bound(X) >= truth - 1e-6)


def test_the_neural_m_step_leaves_what_has_a_closed_form_to_it(monkeypatch):
    seen = []

    def look(objective, run, n_cases, **options):
        seen.append(objective(run.params, np.arange(n_cases))[1])
        return run

    monkeypatch.setattr(variational_em, "minibatches", look)
    VariationalEM(1, hidden=(3,), epochs=2).fit(CURVE)
    assert len(seen) == 2
    for gradient in seen:
        assert gradient["decoder"][0]["W"].any() and not gradient["likelihood"]["log_psi"].any()


def test_score_is_the_mean_of_log_p():
    for name in MODELS:
        model = MAKERS[name]().fit(LINEAR)
        per_case = model.score_samples(LINEAR)
        assert per_case.shape == (N,) and isinstance(model.score(LINEAR), float)
        np.testing.assert_allclose(model.score(LINEAR), np.mean(per_case), rtol=0, atol=1e-12)
        np.testing.assert_array_equal(per_case, -model.nlml(LINEAR, random_state=0).values)
        assert model.score(LINEAR) > model.score(LINEAR + 10), "higher is better"


def test_linear_answers_are_those_of_a_dense_normal():
    new = LINEAR[::2] + 0.3
    for name in ("FactorAnalysis", "VariationalEM, linear"):
        model = MAKERS[name]().fit(LINEAR)
        W, b = model.decode(np.eye(K)) - model.decode(np.zeros((1, K))), model.decode(np.zeros((1, K)))[0]
        Sigma = W.T @ W + np.diag(model.noise_variance_)
        log_p = stats.multivariate_normal(b, Sigma).logpdf(new)
        np.testing.assert_allclose(model.score_samples(new), log_p, rtol=0, atol=1e-9)
        means = (new - b) @ np.linalg.solve(Sigma, W.T)
        np.testing.assert_allclose(model.transform(new), means, rtol=0, atol=1e-9)
        np.testing.assert_allclose(model.reconstruct(new), b + means @ W, rtol=0, atol=1e-9)
        exact, default = model.nlml(new, method="exact"), model.nlml(new)
        assert exact.method == default.method == "exact" and exact.standard_error is None
        np.testing.assert_array_equal(exact.values, default.values)


def test_bound_by_draws_is_the_bound_by_quadrature_on_average():
    vae = MAKERS["VAE"]().fit(LINEAR)
    few, again, other = (vae.bound(LINEAR, n_samples=20, random_state=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(few, again)
    assert not np.allclose(few, other)
    runs = np.array([vae.bound(LINEAR, n_samples=100, random_state=seed) for seed in range(60)])
    error = runs.std(axis=0) / np.sqrt(len(runs))
    assert np.all(np.abs(runs.mean(axis=0) - vae.bound(LINEAR)) < 5 * error)


def test_bound_at_another_phi():
    fa = FactorAnalysis(K).fit(LINEAR)
    phi = fa.infer(LINEAR)
    np.testing.assert_array_equal(fa.bound(LINEAR, phi=phi), fa.bound(LINEAR))
    prior = np.zeros((N, 2 * K))
    assert np.all(fa.bound(LINEAR, phi=prior) > fa.bound(LINEAR))


def test_factor_analysis_samples_have_the_models_moments():
    """n samples whitened by the model's covariance: squared lengths are χ², correlations are 0."""
    fa, n = FactorAnalysis(K).fit(LINEAR), 20000
    Sigma = fa.components_.T @ fa.components_ + np.diag(fa.noise_variance_)
    np.testing.assert_allclose(fa.get_covariance(), Sigma, rtol=0, atol=1e-14)

    def assert_moments(x, covariance):
        u = np.linalg.solve(np.linalg.cholesky(covariance), (x - fa.mean_).T)
        for total in np.sum(u * u, axis=1):
            assert stats.chi2.ppf(1e-5, n) < total < stats.chi2.isf(1e-5, n)
        assert np.abs(u.mean(axis=1)).max() < 5 / np.sqrt(n)
        assert np.abs(np.corrcoef(u) - np.eye(D)).max() < 5 / np.sqrt(n)

    x = fa.sample(n, random_state=0)
    assert_moments(x, Sigma)
    for wrong in (Sigma + 0.05 * np.diag(fa.noise_variance_), np.diag(np.diag(Sigma))):
        with pytest.raises(AssertionError):
            assert_moments(x, wrong)


def test_samples_of_neural_models_have_the_mean_and_variance_of_the_decoder():
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    weights, n = weights / weights.sum(), 20000
    for options, X in (({}, CURVE), ({"likelihood": "bernoulli"}, BITS)):
        vae = VAE(1, hidden=(6,), epochs=40, **options).fit(X)
        f = vae.decode(nodes[:, None])
        mean = weights @ f
        if options:
            assert set(np.unique(vae.sample(50))) == {0.0, 1.0}
            variance = mean * (1 - mean)
        else:
            variance = weights @ (f - mean) ** 2 + vae.noise_variance_
        x = vae.sample(n, random_state=0)
        assert np.all(np.abs(x.mean(axis=0) - mean) < 5 * np.sqrt(variance / n))
        np.testing.assert_allclose(x.var(axis=0), variance, rtol=0.08)


def test_bernoulli_has_no_noise_variance():
    vae = VAE(1, hidden=(3,), epochs=1, likelihood="bernoulli").fit(BITS)
    with pytest.raises(AttributeError, match="Bernoulli has no noise variance"):
        getattr(vae, "noise_variance_")  # noqa: B009
    decoded = vae.decode(np.linspace(-3, 3, 9)[:, None])
    assert decoded.shape == (9, BITS.shape[1]) and np.all((decoded > 0) & (decoded < 1))


# ---- factor analysis ------------------------------------------------------------------------------


def assert_canonical(W, psi):
    M = W @ np.diag(1 / psi) @ W.T
    diagonal = np.diag(M)
    assert np.abs(M - np.diag(diagonal)).max() < 1e-9 * diagonal.max()
    assert np.all(np.diff(diagonal) <= 1e-9 * diagonal.max()), "largest first"
    assert np.all(W[np.arange(len(W)), np.abs(W).argmax(axis=1)] > 0)


@pytest.mark.parametrize("n_latent", [1, 2, 3])
def test_components_are_canonical(n_latent):
    x = datasets.linear_gaussian(n_cases=200, n_latent=n_latent).x
    for noise_ in ("diagonal", "isotropic", 0.4):
        fa = FactorAnalysis(n_latent, noise=noise_).fit(x)
        assert_canonical(fa.components_, fa.noise_variance_)
    if n_latent > 1:
        with pytest.raises(AssertionError):
            turned = stats.ortho_group(n_latent, seed=0).rvs() @ fa.components_
            assert_canonical(turned, fa.noise_variance_)


def test_a_rotation_changes_the_components_and_nothing_that_data_can_tell():
    fa = FactorAnalysis(2).fit(LINEAR)
    turned, R = FactorAnalysis(2).fit(LINEAR), stats.ortho_group(2, seed=1).rvs()
    turned.theta_["decoder"][0]["W"] = R @ fa.components_
    assert not np.allclose(turned.components_, fa.components_)
    np.testing.assert_allclose(turned.score_samples(LINEAR), fa.score_samples(LINEAR), rtol=0, atol=1e-10)
    np.testing.assert_allclose(turned.get_covariance(), fa.get_covariance(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(turned.reconstruct(LINEAR), fa.reconstruct(LINEAR), rtol=0, atol=1e-10)
    # but mean field no longer holds the posterior
    assert np.all(turned.bound(LINEAR) > fa.bound(LINEAR) + 1e-6)


def test_fit_covariance_equals_fit():
    S, mean = np.cov(LINEAR.T, bias=True), LINEAR.mean(axis=0)
    a, b = FactorAnalysis(K).fit(LINEAR), FactorAnalysis(K).fit_covariance(S, N, mean=mean)
    assert b.n_cases_ == N and FactorAnalysis(K).fit_covariance(S) is not None
    np.testing.assert_allclose(b.nlml_path_, a.nlml_path_, rtol=0, atol=1e-10)
    np.testing.assert_allclose(b.components_, a.components_, rtol=0, atol=1e-8)
    assert_same(answers(b, LINEAR), answers(a, LINEAR), atol=1e-8)
    without = FactorAnalysis(K).fit_covariance(S)
    assert without.n_cases_ is None
    np.testing.assert_array_equal(without.mean_, np.zeros(D))


def test_more_columns_than_rows():
    x = datasets.linear_gaussian(n_cases=12, n_visible=30, n_latent=1, seed=0).x
    fa = FactorAnalysis(1).fit(x)
    dense = stats.multivariate_normal(fa.mean_, fa.get_covariance()).logpdf(x)
    np.testing.assert_allclose(fa.score_samples(x), dense, rtol=0, atol=1e-8)
    assert fa.score(x) > stats.norm(x.mean(axis=0), x.std(axis=0)).logpdf(x).sum(axis=1).mean()


@pytest.mark.parametrize("noise_", ["isotropic", 0.2])
def test_as_many_components_as_columns(noise_):
    x = LINEAR[:, :3]
    fa = FactorAnalysis(3, noise=noise_).fit(x)
    values = np.linalg.eigvalsh(np.cov(x.T, bias=True))
    lowest = values[0] if noise_ == "isotropic" else noise_
    np.testing.assert_allclose(fa.noise_variance_, lowest, rtol=1e-9)
    model = np.linalg.eigvalsh(fa.get_covariance())
    np.testing.assert_allclose(model, np.maximum(values, lowest), rtol=1e-7)


@pytest.mark.parametrize("name", ["FactorAnalysis", "VariationalEM, linear"])
def test_data_of_the_rank_of_the_factors_under_an_isotropic_noise(name):
    """K factors explain data of rank K completely: σ² ends at its floor, not at 0."""
    x = LINEAR[: K + 1]
    model = MAKERS[name](noise="isotropic").fit(x)
    np.testing.assert_allclose(model.noise_variance_, 1e-6 * np.mean(x.var(axis=0)), rtol=1e-6)
    assert np.isfinite(model.bound(x)).all()
    np.testing.assert_allclose(model.reconstruct(x), x, rtol=0, atol=1e-4)


def test_as_many_components_as_columns_reaches_the_covariance_itself():
    """K = D with a diagonal Ψ can hold any covariance: nlml is that of the sample covariance."""
    x = LINEAR[:, :3]
    fa = FactorAnalysis(3, tol=1e-7).fit(x)
    best = -np.mean(stats.multivariate_normal(x.mean(axis=0), np.cov(x.T, bias=True)).logpdf(x))
    assert -1e-9 < -fa.score(x) - best < 1e-5


def test_em_that_runs_out_of_iterations_says_so():
    message = r"max_iter=3 .* tol=1e-08 .*: raise max_iter or tol"
    with pytest.warns(ConvergenceWarning, match=message) as caught:
        fa = FactorAnalysis(K, max_iter=3).fit(LINEAR)
    assert caught[0].filename == __file__
    assert fa.converged_ is False and fa.n_iter_ == 3 and len(fa.nlml_path_) == 4
    np.testing.assert_allclose(-fa.score(LINEAR), fa.nlml_path_[-1], rtol=0, atol=1e-9)


DUPLICATED = np.column_stack([LINEAR, LINEAR[:, 0]])
HASTY_VAE = VAE(K, hidden=(), nodes="sigma", batch_size=N, learning_rate=0.1, epochs=500, min_noise=0.01)


@pytest.mark.parametrize(
    "make",
    [
        lambda: FactorAnalysis(K, tol=1e-3),
        lambda: VariationalEM(K, hidden=(), tol=1e-4),
        lambda: copy.copy(HASTY_VAE),
    ],
    ids=["FactorAnalysis", "VariationalEM", "VAE"],
)
def test_a_duplicated_column_is_a_heywood_case_with_a_name(make):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        estimator = make().fit(DUPLICATED)
    heywood = [str(w.message) for w in caught if issubclass(w.category, HeywoodWarning)]
    assert len(heywood) == 1 and "2 noise variance(s) ended at the floor, columns 0, 6:" in heywood[0]
    assert "fewer components" in heywood[0]
    np.testing.assert_array_equal(estimator.heywood_, [0, D])
    floor = estimator.min_noise * DUPLICATED.var(axis=0)
    np.testing.assert_allclose(estimator.noise_variance_[[0, D]], floor[[0, D]], rtol=1e-5)
    assert np.all(estimator.noise_variance_[1:D] > 1.1 * floor[1:D])


def test_one_huge_step_is_not_taken_for_the_end(monkeypatch):
    """From (2.15) the steps shrink from 0.3 to 1e-6 nats at once and then hardly at all, with 1e-4 to go."""
    def plain(S, n_latent, likelihood, noises, lower):
        yield em.start(S, n_latent, likelihood, next(noises), lower)

    monkeypatch.setattr(em, "starts", plain)
    monkeypatch.setattr(em, "LENGTHENING", 1.0)
    monkeypatch.setattr(em.Complete, "widened", lambda self, p, stats: p)
    with pytest.warns(HeywoodWarning), pytest.warns(ConvergenceWarning):
        vem = VariationalEM(K, hidden=(), posterior="full", tol=1e-8, epochs=200).fit(DUPLICATED)
    falls = -np.diff(vem.q_path_)
    assert np.min(falls[1:] / falls[:-1]) < 1e-4, "the step that deceives"
    assert vem.converged_ is False and vem.n_iter_ == 200


def test_the_floor_is_relative_and_adjustable():
    for scale in (1.0, 1e-3):
        with pytest.warns(HeywoodWarning):
            fa = FactorAnalysis(K, min_noise=0.01, tol=1e-4).fit(DUPLICATED * scale)
        floor = 0.01 * (DUPLICATED * scale).var(axis=0)
        assert np.all(fa.noise_variance_ >= floor * (1 - 1e-9))
        np.testing.assert_allclose(fa.noise_variance_[[0, D]], floor[[0, D]], rtol=1e-9)


# ---- the autoencoder beside principal components --------------------------------------------------


def test_a_linear_autoencoder_spans_the_principal_subspace():
    x = datasets.linear_gaussian(n_cases=150, n_visible=6, n_latent=2, seed=1).x
    ae = Autoencoder(2, hidden=(), epochs=400, learning_rate=1e-2, batch_size=50).fit(x)
    pca = PCA(2).fit(x)
    best = np.sum((x - pca.inverse_transform(pca.transform(x))) ** 2)
    reached = np.sum((x - ae.reconstruct(x)) ** 2)
    assert best * (1 - 1e-9) <= reached < 1.01 * best
    axes = np.linalg.qr((ae.decode(np.eye(2)) - ae.decode(np.zeros((1, 2)))).T).Q
    cosines = np.linalg.svd(pca.components_ @ axes, compute_uv=False)
    assert cosines.min() > 0.99
    # PCA with other axes is told apart by the same numbers
    assert np.linalg.svd(PCA(4).fit(x).components_[2:] @ axes, compute_uv=False).max() < 0.2


@pytest.mark.parametrize("options", [{"optimizer": "sgd", "learning_rate": 0.01}, {"activation": "relu"}])
def test_autoencoder_goes_downhill(options):
    ae = Autoencoder(2, hidden=(6,), epochs=40, **options).fit(LINEAR)
    assert ae.loss_path_[-1] < 0.8 * ae.loss_path_[0]
    errors = 0.5 * np.sum((LINEAR - ae.reconstruct(LINEAR)) ** 2, axis=1)
    np.testing.assert_allclose(np.mean(errors), ae.loss_path_[-1], rtol=0.1)


# ---- the course of training: progress, failure, interruption --------------------------------------


@every
def test_progress_is_reported_in_order_and_in_the_data_s_units(name):
    calls = []
    estimator = MAKERS[name]().fit(LINEAR * 100, progress=lambda *call: calls.append(call))
    attribute = {"Autoencoder": "loss_path_", "FactorAnalysis": "nlml_path_"}.get(name, "q_path_")
    path, closed = getattr(estimator, attribute), name in ("FactorAnalysis", "VariationalEM, linear")
    first = 0 if closed else 1                                     # closed forms tell of their start too
    assert [call[0] for call in calls] == list(range(first, first + len(calls)))
    assert len({call[1] for call in calls}) == 1
    assert all(type(call[2]) is float for call in calls)
    np.testing.assert_allclose([call[2] for call in calls], path[: len(calls)], rtol=0, atol=1e-9)
    assert len(calls) >= len(path) - 1


def test_progress_of_the_full_batch():
    calls = []
    vae = VAE(1, hidden=(), optimizer="lbfgs", nodes="sigma", epochs=7)
    with pytest.warns(ConvergenceWarning, match="after 7 iterations .* raise epochs or tol") as caught:
        vae.fit(LINEAR * 100, progress=lambda *call: calls.append(call))
    assert caught[0].filename == __file__
    assert len(calls) >= 7 and {call[1] for call in calls} == {7}
    assert [call[0] for call in calls] == [min(i + 1, 7) for i in range(len(calls))]
    assert abs(min(call[2] for call in calls) - vae.q_path_[-1]) < 1e-9
    assert vae.converged_ is False and vae.n_iter_ == 7


def test_full_batch_path():
    vae = VAE(K, hidden=(), optimizer="lbfgs", nodes="sigma").fit(LINEAR)
    assert vae.converged_ is True
    assert len(vae.q_path_) == vae.n_iter_ > 10
    assert np.all(np.diff(vae.q_path_) <= 1e-10)
    np.testing.assert_allclose(vae.q_path_[-1], np.mean(vae.bound(LINEAR)), rtol=0, atol=1e-9)


DIVERGING = {
    "VAE": {"optimizer": "sgd", "learning_rate": 1e9, "epochs": 30},
    "VariationalEM": {"learning_rate": 1e160},
    "Autoencoder": {"optimizer": "sgd", "learning_rate": 1e9, "epochs": 30},
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", DIVERGING)
def test_a_fit_that_diverges_leaves_the_last_whole_epoch_or_nothing(name):
    estimator = MAKERS[name](**DIVERGING[name])
    message = r"the objective became (nan|inf) in batch \d+ of epoch \d+ of \d+: .* a smaller learning_rate"
    with pytest.raises(TrainingError, match=message) as error:
        estimator.fit(LINEAR)
    if "No round was finished" in str(error.value):
        assert name == "VariationalEM" and learnt(estimator) == []
        with pytest.raises(NotFittedError):
            estimator.transform(LINEAR)
    else:
        whole = len(getattr(estimator, "q_path_", getattr(estimator, "loss_path_", ())))
        assert f"after epoch {whole}" in str(error.value) and f"epoch {whole + 1} of" in str(error.value)
        assert np.isfinite(estimator.transform(LINEAR)).all()


def interrupt(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize("name", DIVERGING)
def test_a_fit_that_is_interrupted_leaves_the_last_whole_epoch(name):
    estimator, ended = MAKERS[name](), MAKERS[name]()
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(LINEAR, progress=interrupt)
    ended.fit(LINEAR, progress=lambda *_: True)
    path = "loss_path_" if name == "Autoencoder" else "q_path_"
    assert getattr(estimator, path)[0] == getattr(ended, path)[0] and len(getattr(estimator, path)) == 1
    assert np.isfinite(estimator.transform(LINEAR)).all()


@pytest.mark.parametrize("name", sorted(set(MAKERS) - set(DIVERGING)))
def test_an_interrupted_fit_leaves_the_estimator_as_it_was(name):
    estimator = MAKERS[name]()
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(LINEAR, progress=interrupt)
    assert learnt(estimator) == []
    estimator.fit(LINEAR)
    before, attributes = answers(estimator, LINEAR), learnt(estimator)
    estimator.set_params(n_components=1)
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(CURVE, progress=interrupt)
    assert learnt(estimator) == attributes
    assert_same(answers(estimator, LINEAR), before)


def test_a_warning_turned_error_leaves_nothing():
    """With warnings as errors a Heywood case ends the fit, before anything is kept."""
    linear = VariationalEM(K, hidden=(), posterior="full", tol=1e-4)
    hasty = FactorAnalysis(K, tol=1e-3), linear, copy.copy(HASTY_VAE)
    for estimator in hasty:
        with warnings.catch_warnings():
            warnings.simplefilter("error", HeywoodWarning)
            with pytest.raises(HeywoodWarning):
                estimator.fit(DUPLICATED)
        assert learnt(estimator) == []


def test_a_noise_variance_on_its_way_to_the_floor_is_named():
    X = datasets.linear_gaussian(n_cases=90, n_visible=6, n_latent=2).x[:60]
    with pytest.warns(ConvergenceWarning, match="the noise of 1 is below a hundredth .* Heywood case"):
        fa = FactorAnalysis(2, max_iter=150).fit(X)
    assert not fa.converged_ and list(fa.heywood_) == []
    assert np.argmin(fa.noise_variance_ / X.var(axis=0)) == 1
    with pytest.warns(ConvergenceWarning, match="raise max_iter or tol$"):
        FactorAnalysis(2, max_iter=3).fit(X)


# ---- data far from the origin, and in other units --------------------------------------------------

FAR = {
    "FactorAnalysis": lambda **o: FactorAnalysis(1, **o),
    "FactorAnalysis, gaps": lambda **o: FactorAnalysis(1, missing="marginalise", **o),
    "VariationalEM, linear": lambda **o: VariationalEM(1, hidden=(), tol=1e-4, **o),
    "VariationalEM": lambda **o: VariationalEM(1, hidden=(4,), epochs=10, **o),
    "VariationalEM, full": lambda **o: VariationalEM(2, hidden=(4,), epochs=5, posterior="full", **o),
    "VariationalEM, gaps": lambda **o: VariationalEM(1, hidden=(4,), epochs=10, missing="marginalise", **o),
    "VariationalEM, Student-t": lambda **o: VariationalEM(
        1, hidden=(4,), epochs=10, likelihood="student-t", **o
    ),
    "VariationalEM, predicted": lambda **o: VariationalEM(
        1, hidden=(4,), epochs=10, likelihood="gaussian-predicted", noise=1e-2, **o
    ),
    "VariationalEM, mixed": lambda **o: VariationalEM(
        1, hidden=(4,), epochs=10, **o,
        likelihood=[("gaussian", [0, 1]), ("bernoulli", [2]), ("poisson", [3])],
    ),
    "VAE": lambda **o: VAE(1, hidden=(4,), epochs=20, **o),
    "VAE, K = 3": lambda **o: VAE(3, hidden=(4,), epochs=20, separate=True, **o),
    "VAE, gaps": lambda **o: VAE(1, hidden=(4,), epochs=20, missing="marginalise", **o),
}


def near_data(name):
    """(12, 4) data about 0, and which of their columns can be far away."""
    rng = np.random.default_rng(5)
    t = rng.uniform(-1, 1, (12, 1))
    x = np.sin(2 * t * np.arange(1, 5) + np.arange(4)) + 0.2 * rng.standard_normal((12, 4))
    moves = np.ones(4)
    if name.endswith("mixed"):
        x[:, 2], x[:, 3], moves[2:] = x[:, 2] > 0, rng.poisson(np.exp(1 + t[:, 0])), 0
    if name.endswith("gaps"):
        x[::5, 1] = np.nan
    return x, moves


def moved(estimator, offset):
    """The same fitted model, told of x + offset (V,), but for what its biases are rounded to there."""
    estimator = copy.deepcopy(estimator)
    estimator.theta_rest_ = tree.map(np.zeros_like, estimator.theta_rest_)
    last, dtype = estimator.theta_["decoder"][-1], estimator.theta_["decoder"][-1]["b"].dtype
    last["b"] = (last["b"] + estimator.model_.likelihood.units_of_f(offset, np.ones(4))[0]).astype(dtype)
    if estimator.columns_.fill is not None:
        estimator.columns_.fill = estimator.columns_.fill + offset
    if isinstance(estimator, VAE):
        pairs = zip(estimator.recognition_params_, estimator.encoder_rest_)
        first_layers = [(v[0], rest[0]) for v, rest in pairs] if estimator.separate else [next(pairs)]
        for first, rest in first_layers:
            exact = first["b"] + rest["b"] - offset @ (first["W"] + rest["W"])[:4]
            first["b"] = exact.astype(dtype)
            rest["b"] = exact - first["b"]
    return estimator


def all_answers(estimator, x, offset, work, slow):
    """{question: (answer, how often the bound was evaluated)}; where it lies in x's space, minus offset."""
    holes = np.where(np.eye(*x.shape) == 1, np.nan, x)
    ask = {
        "phi": lambda: phi_of(estimator, x),
        "bound": lambda: estimator.bound(x),
        "nlml": lambda: estimator.nlml(x).values,
        "reconstruct": lambda: estimator.reconstruct(x) - offset,
        "impute": lambda: estimator.impute(holes) - offset,
    }
    if slow and estimator.model_.n_latent == 1:
        ask |= {
            "gaps": lambda: np.stack(estimator.gaps(x)[:8]),
            "kl": lambda: estimator.kl_to_posterior(x),
            "grid": lambda: estimator.nlml(x, method="grid").values,
        }
    if hasattr(estimator.model_.likelihood, "noisier"):
        ask["denoise"] = lambda: estimator.denoise(x, 0.1) - offset
    if isinstance(estimator, VAE):
        ask["refine"] = lambda: estimator.refine(x)
    said = {}
    for question, answer in ask.items():
        work.clear()
        said[question] = answer(), len(work)
    return said


@pytest.fixture
def work(monkeypatch):
    """A list that grows by one with every evaluation of the bound."""
    calls, forward = [], bound.forward
    monkeypatch.setattr(bound, "forward", lambda *a, **k: calls.append(1) or forward(*a, **k))
    return calls


@pytest.mark.parametrize("dtype, offsets", [("float64", (1e3, 1e9)), ("float32", (1e3, 1e5))])
@pytest.mark.parametrize("name", FAR)
def test_nothing_depends_on_where_the_origin_is(name, dtype, offsets, work):
    """The same model of the same data far away: the same φ and Q, as much work, and no warning."""
    x, moves = near_data(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HeywoodWarning)            # of the data, wherever they are
        near = FAR[name](dtype=dtype).fit(x)
    for offset in np.outer(offsets, moves):
        slow = offset.max() == max(offsets)
        far = moved(near, offset)
        back = moved(far, -offset)                                 # with parameters as far's are rounded
        here, there = (x + offset) - offset, x + offset            # and the data
        expected = all_answers(back, here, 0 * offset, work, slow)
        for question, (answer, calls) in all_answers(far, there, offset, work, slow).items():
            wanted, wanted_calls = expected[question]
            # What lies in x's space is rounded there, and so is the bias of a recognition network.
            in_x = question in ("reconstruct", "impute", "denoise")
            eps = np.finfo(dtype).eps if in_x else np.finfo("float64").eps if isinstance(near, VAE) else 0
            assert abs(calls - wanted_calls) <= (2 if isinstance(near, VAE) else 0), (question, offset)
            atol = 1e-9 + 8 * eps * np.abs(offset).max()
            np.testing.assert_allclose(answer, wanted, rtol=1e-9, atol=atol, err_msg=question)


@pytest.mark.parametrize("dtype, offset, atol", [
    ("float64", 1e6, 1e-6), ("float64", 1e9, 1e-4), ("float32", 1e3, 2e-4), ("float32", 1e6, 2e-4),
])
@pytest.mark.parametrize("name", ["VariationalEM", "VAE", "VAE, gaps"])
def test_a_fit_far_from_the_origin_is_the_fit_there(name, dtype, offset, atol):
    """Of float64 data, in float32 too: no bias, rounded far from 0, may cost the model what it was taught."""
    x, _ = near_data(name)
    there = x + offset
    here = there - offset
    near, far = (FAR[name](dtype=dtype).fit(data) for data in (here, there))
    for question in (phi_of, lambda e, data: e.bound(data), lambda e, data: e.nlml(data).values):
        np.testing.assert_allclose(question(far, there), question(near, here), rtol=0, atol=atol)


@pytest.mark.parametrize("dtype, offset, atol", [
    ("float64", 1e9, 1e-5), ("float32", 1e3, 1e-5), ("float32", 1e6, 1e-5),
])
def test_the_codes_of_an_autoencoder_far_from_the_origin(dtype, offset, atol):
    there = near_data("")[0] + offset
    here = there - offset
    near, far = (Autoencoder(1, hidden=(4,), epochs=20, dtype=dtype).fit(data) for data in (here, there))
    np.testing.assert_allclose(far.transform(there), near.transform(here), rtol=0, atol=atol)


@pytest.mark.parametrize("unit", [2.0**-20, 2.0**20])
@pytest.mark.parametrize("name", ["VariationalEM", "VariationalEM, Student-t", "VAE"])
def test_e_steps_do_not_see_the_unit_of_the_data(name, unit, work):
    x, _ = near_data(name)
    near = FAR[name]().fit(x)
    far = copy.deepcopy(near)
    last = far.theta_["decoder"][-1]
    last["W"], last["b"] = last["W"] * unit, last["b"] * unit
    far.theta_["likelihood"]["log_psi"] = far.theta_["likelihood"]["log_psi"] + 2 * np.log(unit)
    if isinstance(far, VAE):
        far.recognition_params_[0]["W"] = far.recognition_params_[0]["W"] / unit
    said = []
    for estimator, data in ((near, x), (far, x * unit)):
        work.clear()
        g = estimator.gaps(data)
        said.append((g.phi_optimal, g.approximation, estimator.bound(data), len(work)))
    (phi, approximation, Q, calls), (phi_u, approximation_u, Q_u, calls_u) = said
    np.testing.assert_allclose(phi_u, phi, rtol=0, atol=1e-6)
    np.testing.assert_allclose(approximation_u, approximation, rtol=0, atol=1e-9)
    np.testing.assert_allclose(Q_u, Q + 4 * np.log(unit), rtol=0, atol=1e-9)
    assert calls_u <= 1.2 * calls


# ---- sample weights -------------------------------------------------------------------------------

SAMPLE_WEIGHTS = np.random.default_rng(5).integers(0, 4, N)
INCOMPLETE = np.where(np.random.default_rng(6).random(LINEAR.shape) < 0.1, np.nan, LINEAR)
WEIGHTED = {
    "FactorAnalysis": (lambda: FactorAnalysis(K, tol=1e-12), LINEAR),
    "FactorAnalysis, isotropic": (lambda: FactorAnalysis(K, noise="isotropic"), LINEAR),
    "FactorAnalysis, gaps": (lambda: FactorAnalysis(K, missing="marginalise", tol=1e-12), INCOMPLETE),
    "GaussianMixture": (lambda: GaussianMixture(1), LINEAR),
    "MixtureOfFactorAnalysers": (lambda: MixtureOfFactorAnalysers(1, n_latent=K, tol=1e-12), LINEAR),
    "PrincipalComponents": (lambda: PrincipalComponents(K), LINEAR),
}
weighted = pytest.mark.parametrize("name", WEIGHTED)


def assert_same_fit(a, b, x, atol=1e-7):
    for question in ("transform", "score_samples"):
        if hasattr(a, question):
            theirs = getattr(b, question)(x)
            np.testing.assert_allclose(getattr(a, question)(x), theirs, rtol=0, atol=atol)
    for attribute in ("noise_variance_", "mean_", "explained_variance_", "covariances_", "weights_"):
        if hasattr(a, attribute):
            np.testing.assert_allclose(getattr(a, attribute), getattr(b, attribute), rtol=0, atol=atol)


@weighted
def test_integer_weights_are_repeated_rows(name):
    make, x = WEIGHTED[name]
    model = make().fit(x, sample_weight=SAMPLE_WEIGHTS)
    assert_same_fit(model, make().fit(np.repeat(x, SAMPLE_WEIGHTS, axis=0)), x)
    if hasattr(model, "n_cases_"):
        assert model.n_cases_ == SAMPLE_WEIGHTS.sum()
    with pytest.raises(AssertionError):
        assert_same_fit(model, make().fit(x), x)


@pytest.mark.filterwarnings("ignore::teachvae.doors.units.HeywoodWarning")
@weighted
def test_weights_of_nothing_and_of_another_scale(name):
    make, x = WEIGHTED[name]
    weights = np.random.default_rng(7).exponential(size=N) * (np.arange(N) % 5 > 0)
    model, kept = make().fit(x, sample_weight=weights), weights > 0
    assert_same_fit(model, make().fit(x[kept], sample_weight=weights[kept]), x, 1e-12)
    assert_same_fit(model, make().fit(x, sample_weight=1e6 * weights), x)
    assert_same_fit(make().fit(x, sample_weight=np.full(N, 0.3)), make().fit(x), x)
    frame = pd.DataFrame(x, columns=list("abcdef"))
    named = make().fit(frame, sample_weight=pd.Series(weights))
    assert list(named.feature_names_in_) == list("abcdef")
    assert_same_fit(named, model, x, 1e-12)
    assert_same_fit(make().fit(x.tolist(), sample_weight=weights.tolist()), model, x, 1e-12)
    spoilt = np.where(kept[:, None], x, 1e9)                       # rows without weight are no rows
    assert_same_fit(make().fit(spoilt, sample_weight=weights), model, x, 1e-12)


@pytest.mark.filterwarnings("ignore::teachvae.doors.units.HeywoodWarning")
def test_a_weighted_fit_is_that_to_the_weighted_covariance():
    weights = np.random.default_rng(8).exponential(size=N)
    mean = np.average(LINEAR, axis=0, weights=weights)
    S = np.cov(LINEAR.T, aweights=weights, bias=True)
    model = FactorAnalysis(K, tol=1e-12).fit(LINEAR, sample_weight=weights)
    np.testing.assert_allclose(model.moments_.covariance, S, rtol=0, atol=1e-12)
    by_covariance = FactorAnalysis(K, tol=1e-12).fit_covariance(S, mean=mean)
    assert_same_fit(model, by_covariance, LINEAR)
    assert abs(np.average(model.nlml(LINEAR).values, weights=weights) - model.nlml_path_[-1]) < 1e-10
    far = FactorAnalysis(K, tol=1e-12).fit(LINEAR + 1e6, sample_weight=weights)
    np.testing.assert_allclose(far.moments_.covariance, S, rtol=0, atol=1e-8)
    parts = FactorAnalysis(K, tol=1e-12).partial_fit(LINEAR[:35], sample_weight=weights[:35])
    assert_same_fit(parts.partial_fit(LINEAR[35:], sample_weight=weights[35:]), model, LINEAR)
    assert parts.n_cases_ == pytest.approx(weights.sum(), rel=1e-14)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("covariance", ["diagonal", "full"])
@pytest.mark.parametrize("pmf", ["free", "hard", "tied"])
def test_a_weighted_mixture(pmf, covariance):
    """Three components from one start: repeated rows, to the last digits; and Q is the weighted mean."""
    first = GaussianMixture(3, covariance=covariance, tol=1e-2).fit(LINEAR)
    init = first.weights_, first.means_, first.covariances_
    model, repeated = (
        GaussianMixture(3, covariance=covariance, pmf=pmf, init=init, tol=1e-4).fit(x, sample_weight=weights)
        for x, weights in ((LINEAR, SAMPLE_WEIGHTS), (np.repeat(LINEAR, SAMPLE_WEIGHTS, axis=0), None))
    )
    np.testing.assert_allclose(model.q_path_, repeated.q_path_, rtol=0, atol=1e-9)
    assert_same_fit(model, repeated, LINEAR)
    kept = SAMPLE_WEIGHTS > 0
    Q = model.bound(LINEAR[kept], phi=model.phi_)
    assert np.average(Q, weights=SAMPLE_WEIGHTS[kept]) == pytest.approx(model.q_path_[-1], abs=1e-9)


@pytest.mark.parametrize(
    "make", [FactorAnalysis, GaussianMixture, MixtureOfFactorAnalysers, PrincipalComponents]
)
def test_wrong_weights_are_refused(make):
    wrong = {
        r"shape \(60,\).*got \(59,\)": np.ones(N - 1),
        r"shape \(60,\).*got \(60, 1\)": np.ones((N, 1)),
        r"finite numbers >= 0, got -1.0 in row 3": np.where(np.arange(N) == 3, -1, 1),
        r"finite numbers >= 0, got nan in row 0": np.full(N, np.nan),
        "0 for every data case": np.zeros(N),
        "must be numbers": ["one"] * N,
    }
    for message, weights in wrong.items():
        with pytest.raises(ValueError, match=message):
            make(2).fit(LINEAR, sample_weight=weights)
    with pytest.raises(ValueError, match="minimum of 2"):
        make(1).fit(LINEAR, sample_weight=np.eye(N)[4])
