"""Learning rates and KL weights by the epoch: their values, and what training makes of them."""

import itertools

import numpy as np
from own_parts import Signs
import pytest

import teachvae
from teachvae import VAE, bound, gradcheck, layers, likelihoods, schedules, tree
from teachvae.arrays.backend import get_backend
from teachvae.model import Model
from teachvae.networks.optimizers import SGD, Adam
from teachvae.networks.training import Run, minibatches
from teachvae.routes.vae import amortised, recognition_network

pytestmark = pytest.mark.short                                   # most fits here end early on purpose

X = np.random.default_rng(0).standard_normal((60, 2)) @ np.ones((2, 4)) + np.eye(60, 4)
SMALL = {"hidden": (4,), "batch_size": 16}


def halving(epoch):
    """A learning rate of one's own."""
    return 0.01 * 0.5**epoch


# ---- values --------------------------------------------------------------------------------------------


def test_the_stages_are_those_of_the_paper():
    """3280 epochs: 3^i at 1e-3·10^(−i/7), i = 0 … 7, here by writing all of them down."""
    written = list(itertools.chain.from_iterable([1e-3 * 10 ** (-i / 7)] * 3**i for i in range(8)))
    stages = schedules.Stages()
    assert len(written) == 3280 == stages.begin(8) - 1
    np.testing.assert_allclose([stages(epoch) for epoch in range(1, 3281)], written, rtol=1e-15)
    np.testing.assert_allclose([stages(1), stages(3280), stages(9999)], [1e-3, 1e-4, 1e-4], rtol=1e-12)
    assert [stages.begin(i) for i in range(4)] == [1, 2, 5, 14]
    assert schedules.Stages(1.0, 2)(5) == 10 ** (-1 / 7)


def test_half_a_cosine():
    cosine = schedules.Cosine(0.3, 10, 0.1)
    found = [cosine(epoch) for epoch in (1, 6, 11, 12, 500)]
    np.testing.assert_allclose(found, [0.3, 0.2, 0.1, 0.1, 0.1], rtol=1e-14)
    assert (np.diff([cosine(epoch) for epoch in range(1, 12)]) < 0).all()


def test_a_warm_up():
    assert [schedules.WarmUp(4)(epoch) for epoch in (1, 2, 4, 5, 50)] == [0.25, 0.5, 1.0, 1.0, 1.0]
    assert schedules.WarmUp(2, 0.01)(1) == 0.005


# ---- training ------------------------------------------------------------------------------------------


def test_an_epoch_is_trained_with_its_own_rate():
    """Gradient descent without momentum on a gradient of 1: a step is the rate."""
    def objective(params, rows):
        return params["p"] @ np.ones(1), {"p": np.ones(1)}

    run, seen = Run({"p": np.zeros(1)}, {"shuffle": np.random.default_rng(0)}), []
    minibatches(
        objective, run, 6, optimizer=SGD(7.0, momentum=0.0), epochs=3, batch_size=2, rate=halving,
        after=lambda run: seen.append(float(run.params["p"][0])),
    )
    np.testing.assert_allclose(np.diff([0.0, *seen]), [-3 * halving(epoch) for epoch in (1, 2, 3)])


def test_a_number_and_a_function_that_returns_it_are_one_fit():
    one = VAE(1, learning_rate=2e-3, kl_weight=0.5, epochs=3, **SMALL).fit(X)
    two = VAE(1, learning_rate=lambda epoch: 2e-3, kl_weight=lambda epoch: 0.5, epochs=3, **SMALL).fit(X)
    np.testing.assert_array_equal(one.q_path_, two.q_path_)
    np.testing.assert_array_equal(one.encode(X), two.encode(X))


def test_an_optimiser_of_the_package_keeps_its_other_numbers():
    paper = Adam(epsilon=1e-4)
    one = VAE(1, optimizer=paper, learning_rate=lambda epoch: 2e-3, epochs=3, **SMALL).fit(X)
    two = VAE(1, optimizer=Adam(2e-3, epsilon=1e-4), epochs=3, **SMALL).fit(X)
    np.testing.assert_array_equal(one.q_path_, two.q_path_)
    assert paper == Adam(epsilon=1e-4)


FITS = {
    "stages": {"learning_rate": schedules.Stages(1e-2)},
    "cosine and warm-up": {"learning_rate": schedules.Cosine(1e-2, 8), "kl_weight": schedules.WarmUp(4)},
    "of one's own": {"learning_rate": halving, "kl_weight": 2.0},
}


@pytest.mark.parametrize("name", FITS)
def test_a_fit_that_goes_on_from_a_file_has_the_bits_of_one_that_never_stopped(name, tmp_path):
    file = tmp_path / "fit.npz"
    whole = VAE(1, epochs=7, **SMALL, **FITS[name]).fit(X)
    VAE(1, epochs=3, **SMALL, **FITS[name]).fit(X, checkpoint=file)
    rest = VAE(1, epochs=7, **SMALL, **FITS[name]).fit(X, checkpoint=file)
    np.testing.assert_array_equal(rest.q_path_, whole.q_path_)
    np.testing.assert_array_equal(rest.encode(X), whole.encode(X))
    if name == "of one's own":
        with pytest.raises(ValueError, match="parts that are not of this package: halving"):
            teachvae.load(file)
    there = teachvae.load(file, parts={"halving": halving})
    assert there.get_params() == rest.get_params()
    np.testing.assert_array_equal(there.encode(X), whole.encode(X))
    other = VAE(1, epochs=7, **SMALL, **{**FITS[name], "learning_rate": schedules.Stages(2e-2)})
    with pytest.raises(ValueError, match=r"learning_rate is Stages\(rate=0.02, n=8\) here, and"):
        other.fit(X, checkpoint=file)


# ---- a weight on the KL --------------------------------------------------------------------------------


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
@pytest.mark.parametrize("weight", [0.0, 0.3, 4.0])
def test_the_weighted_objective_and_its_gradient(weight, kl, rng):
    """The value by hand: reconstruction and KL apart; the gradient by finite differences."""
    model = Model(layers.mlp(2, (3,), 5), likelihoods.Bernoulli(5), 2)
    network = recognition_network(5, (3,), model.posterior)
    params = {"theta": model.init(rng), "recognition": network.init(rng, get_backend())}
    params = tree.map(lambda leaf: leaf + 0.2 * rng.standard_normal(leaf.shape), params)
    x, eta = (rng.random((4, 5)) < 0.4) * 1.0, rng.standard_normal((3, 4, 2))

    def objective(p):
        return amortised(model, network, p, x, eta, kl=kl, kl_weight=weight)

    phi, _ = network.forward(params["recognition"], x)
    Q, _ = bound.forward(model, params["theta"], phi, x, eta, kl=kl)
    m, s = phi[:, :2], np.exp(phi[:, 2:])
    price = 0.5 * (m**2 + s**2 - 1 - 2 * np.log(s)).sum(axis=1)
    value, grads = objective(params)
    assert value == pytest.approx((Q + (weight - 1) * price).mean(), rel=1e-12)
    report = gradcheck.check(lambda p: objective(p)[0], params, grads)
    assert report.ok, report


def test_without_the_kl_q_leaves_the_prior_and_with_much_of_it_it_collapses():
    x = X / X.std(axis=0)
    options = {"hidden": (8,), "epochs": 120, "batch_size": 20, "noise": 0.5, "learning_rate": 1e-2}
    kl = [
        (lambda m: m.model_.posterior.kl(m.encode(x))[0].mean())(VAE(1, kl_weight=w, **options).fit(x))
        for w in (0.0, 1.0, 20.0)
    ]
    assert kl[0] > 2 * kl[1] > 1 and kl[2] < 0.01


def test_the_path_holds_the_weighted_objective_and_held_out_data_q():
    options = {"hidden": (), "nodes": "sigma", "batch_size": 60, "learning_rate": 1e-12}
    model = VAE(1, kl_weight=schedules.WarmUp(5), epochs=3, **options).fit(X, validation=X)
    Q, price = model.bound(X).mean(), model.model_.posterior.kl(model.encode(X))[0].mean()
    np.testing.assert_allclose(model.q_path_, Q - np.array([0.8, 0.6, 0.4]) * price, rtol=1e-6)
    np.testing.assert_allclose(model.q_validation_path_, Q, rtol=1e-6)
    assert price > 0.01


def test_lbfgs_goes_to_the_minimum_of_the_weighted_objective():
    options = {"hidden": (), "optimizer": "lbfgs", "nodes": "sigma"}
    model = VAE(1, kl_weight=3.0, **options).fit(X)
    assert model.converged_
    price = model.model_.posterior.kl(model.encode(X))[0].mean()
    assert model.q_path_[-1] == pytest.approx(model.bound(X).mean() + 2 * price, abs=1e-9)
    assert VAE(1, **options).fit(X).bound(X).mean() < model.bound(X).mean()


# ---- what is refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize("options, complaint", [
    ({"learning_rate": lambda epoch: 1e-3 * (epoch < 3)},
     "learning_rate must be a finite number > 0, or a function of the epoch that returns one, counted from "
     "1: this one returns 0.0 of epoch 3"),
    ({"learning_rate": lambda epoch: None}, "this one returns None of epoch 1"),
    ({"kl_weight": lambda epoch: -1.0}, "kl_weight must be a finite number >= 0, .* returns -1.0 of epoch 1"),
    ({"learning_rate": schedules.Stages}, r"returns Stages\(rate=1, n=8\) of epoch 1"),
    ({"learning_rate": halving, "optimizer": Signs()},
     "optimizer Signs takes none: make it a dataclass with a field learning_rate"),
    ({"kl_weight": 0.5, "posterior": "planar"},
     "kl_weight=0.5 needs the KL in closed form, which Flow has not"),
    ({"kl_weight": schedules.WarmUp(3), "optimizer": "lbfgs", "nodes": "quadrature"},
     "optimizer='lbfgs' needs an objective that stays the same"),
])
def test_no_training_begins_with_what_could_not_end_it(options, complaint):
    model = VAE(1, epochs=4, **SMALL, **options)
    with pytest.raises(ValueError, match=complaint):
        model.fit(X)
    assert not hasattr(model, "theta_")


@pytest.mark.parametrize("make", [
    lambda: schedules.Stages(n=0), lambda: schedules.Cosine(1.0, 0), lambda: schedules.WarmUp(2.5),
    lambda: schedules.WarmUp(True),
])
def test_schedules_of_no_epochs(make):
    with pytest.raises(ValueError, match="must be a whole number of 1 or more, got"):
        make()


def test_a_rate_without_a_name_has_no_place_in_a_file(tmp_path):
    with pytest.raises(TypeError, match="<lambda> at .*, a function without a name, which has no place"):
        VAE(1, epochs=2, learning_rate=lambda epoch: 1e-3, **SMALL).fit(X, checkpoint=tmp_path / "fit.npz")
    assert list(tmp_path.iterdir()) == []
