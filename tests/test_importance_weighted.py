"""L_k as an objective: between Q and nlml, falling in k; its two gradients, of one expectation; and training
by it, whatever the data, the precision and the machine.
"""

import numpy as np
import pytest

import teachvae
from teachvae import (
    VAE, bound, datasets, gradcheck, gradient_estimators, grid, importance_weighted, iwae, layers,
    likelihoods, posteriors, tree
)
from teachvae.arrays.backend import get_backend
from teachvae.arrays.observed import Observed
from teachvae.model import Model
from teachvae.posteriors.nodes import gauss_hermite
from teachvae.routes.vae import amortised, recognition_network

pytestmark = pytest.mark.short                                   # most fits here end early on purpose

MIXED = likelihoods.Mixed(((likelihoods.Gaussian(2), [0, 3]), (likelihoods.Categorical((2,)), [1, 2])))
FAMILIES = [posteriors.DiagonalGaussian, posteriors.FullGaussian, posteriors.coupling_flow]


def a_case(K=1, likelihood=None, family=posteriors.DiagonalGaussian, N=4, seed=0):
    """A model, θ, φ (N, n_phi) with a q about as wide as the prior, and x (N, D) of the model."""
    rng = np.random.default_rng(seed)
    likelihood = likelihoods.Bernoulli(5) if likelihood is None else likelihood
    model = Model(layers.mlp(K, (4,), likelihood.n_f), likelihood, K, family(K))
    theta = tree.map(lambda leaf: leaf + 0.3 * rng.standard_normal(leaf.shape), model.init(rng))
    f, _ = model.f(theta, rng.standard_normal((N, K)))
    x = likelihood.sample(theta["likelihood"], f, likelihood.draw_noise(rng, f.shape))
    return model, theta, 0.2 * rng.standard_normal((N, model.posterior.n_phi)), x


# ---- the value -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("likelihood", [None, MIXED])
def test_with_one_sample_it_is_the_sampled_bound_to_the_bit(family, likelihood, rng):
    model, theta, phi, x = a_case(2, likelihood, family)
    eta, c = rng.standard_normal((1, 4, 2)), rng.standard_normal(4)
    L, L_cache = importance_weighted.forward(model, theta, phi, x, eta)
    Q, Q_cache = bound.forward(model, theta, phi, x, eta, kl="sampled")
    np.testing.assert_array_equal(L, Q)
    ours = importance_weighted.backward(model, theta, L_cache, c)
    theirs = bound.backward(model, theta, Q_cache, c)
    np.testing.assert_array_equal(tree.flatten(list(ours)), tree.flatten(list(theirs)))


@pytest.mark.parametrize("K", [1, 2])
def test_it_falls_with_k_and_stays_above_nlml(K):
    """L_1 is Q by quadrature; the differences from one k to the next, of the same draws, lie above 0 by more
    than their error; and so does that of the last to nlml by the grid.
    """
    model, theta, phi, x = a_case(K)
    R, sizes = 4000, (1, 2, 8, 32)
    eta = np.random.default_rng(1).standard_normal((sizes[-1], R, K))
    for n in range(len(x)):
        q, cases = (np.repeat(a[n : n + 1], R, axis=0) for a in (phi, x))
        L = [
            np.mean([                                              # of all groups of k among the draws
                importance_weighted.forward(model, theta, q, cases, eta[s : s + k])[0]
                for s in range(0, sizes[-1], k)
            ], axis=0)
            for k in sizes
        ]                                                          # (R,) each
        rule = dict(zip(("eta", "weights"), gauss_hermite(K, 40)))
        Q, _ = bound.forward(model, theta, phi[n : n + 1], x[n : n + 1], **rule)
        nlml = grid.grid(model, theta, x[n : n + 1]).values[0]
        error = L[0].std() / R**0.5
        assert abs(L[0].mean() - Q[0]) < 4 * error, "L_1 is not Q"
        for before, after in zip(L, L[1:]):
            gain = before - after
            assert gain.mean() > 4 * gain.std() / R**0.5, "L_k does not fall"
        assert L[-1].mean() > nlml, "L_k is below nlml"
        assert L[-1].mean() - nlml < 0.1 * (Q[0] - nlml), "L_k does not come near nlml"


def test_it_is_what_the_evaluation_calls_l_k():
    model, theta, phi, x = a_case(2, MIXED)
    found = iwae.iwae(model, theta, phi, x, np.random.default_rng(3), sizes=(7,), n_samples=7)
    eta = np.random.default_rng(3).standard_normal((7, 1, 2))
    np.testing.assert_allclose(
        importance_weighted.forward(model, theta, phi, x, eta)[0], found.values[0], rtol=1e-13
    )


def test_weights_of_a_thousand_nats_overflow_nowhere():
    model, theta, phi, x = a_case(1, likelihoods.Gaussian(3, 1e-4))
    eta = np.random.default_rng(0).standard_normal((5, 4, 1))
    L, cache = importance_weighted.forward(model, theta, phi, x + 3, eta)
    dphi, dtheta = importance_weighted.backward(model, theta, cache, np.ones(4))
    assert (L > 1000).all() and np.isfinite(L).all()
    assert np.isfinite(dphi).all() and np.isfinite(tree.flatten(dtheta)).all()


def test_what_is_refused():
    model, theta, phi, x = a_case()
    with pytest.raises(ValueError, match=r"eta must have shape \(S, N, K\) or \(S, 1, K\)"):
        importance_weighted.forward(model, theta, phi, x, np.zeros((3, 4, 2)))
    _, cache = importance_weighted.forward(model, theta, phi, x, np.zeros((3, 4, 1)))
    with pytest.raises(ValueError, match="estimator must be one of .*'plain', 'dreg'.*, got 'score'"):
        importance_weighted.backward(model, theta, cache, np.ones(4), estimator="score")


# ---- its gradients -------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", [False, True])
def test_all_parameters_of_a_vae_have_the_gradient_of_finite_differences(missing, rng):
    """Both networks and the likelihood, at every index; gradcheck has φ and θ of every part."""
    model, theta, _, x = a_case(2, MIXED)
    x = Observed(x, np.array([[1.0, 1, 1, 0], [1, 0, 0, 1], [1, 1, 1, 1], [0, 1, 1, 0]])) if missing else x
    network = recognition_network(8 if missing else 4, (3,), model.posterior)
    params = {"theta": theta, "recognition": network.init(rng, get_backend())}
    params = tree.map(lambda leaf: leaf + 0.1 * rng.standard_normal(leaf.shape), params)
    eta = rng.standard_normal((6, 4, 2))

    def objective(p):
        return amortised(model, network, p, x, eta, objective="iwae")

    report = gradcheck.check(lambda p: objective(p)[0], params, objective(params)[1])
    assert report.ok, report


def repeated(K=1, seed=0):
    """gradients(k, R, estimator) → R draws of dphi (R, 2K) of one data case, whose q is wide enough for the
    weights to have a variance.
    """
    model, theta, phi, x = a_case(K, N=1, seed=seed)

    def gradients(k, R, estimator):
        q, cases = np.repeat(phi, R, axis=0), np.repeat(x, R, axis=0)
        eta = np.random.default_rng(k).standard_normal((k, R, K))
        _, cache = importance_weighted.forward(model, theta, q, cases, eta)
        dphi, _ = importance_weighted.backward(model, theta, cache, np.ones(R), estimator=estimator)
        return dphi

    return gradients, (model, theta, phi, x)


@pytest.mark.parametrize("k", [1, 3, 10])
def test_both_gradients_have_one_expectation(k):
    gradients, _ = repeated()
    R = 60_000
    plain, dreg = (gradients(k, R, estimator) for estimator in importance_weighted.ESTIMATORS)
    difference = plain - dreg                                      # of the same draws
    assert (abs(difference.mean(axis=0)) < 4 * difference.std(axis=0) / R**0.5).all()
    error = (difference.std(axis=0) / R**0.5) / abs(dreg.mean(axis=0))
    assert (error < 0.15).any(), "the errors hide all that there is to see"


def test_with_one_sample_the_other_gradient_is_the_one_without_the_score_term(rng):
    model, theta, phi, x = a_case(2)
    eta = rng.standard_normal((1, 4, 2))
    _, cache = importance_weighted.forward(model, theta, phi, x, eta)
    dphi, dtheta = importance_weighted.backward(model, theta, cache, np.ones(4), estimator="dreg")
    np.testing.assert_allclose(
        dphi, gradient_estimators.without_score_term(model, theta, phi, x, eta)[0], rtol=1e-10, atol=1e-13
    )
    _, plain = importance_weighted.backward(model, theta, cache, np.ones(4))
    np.testing.assert_array_equal(tree.flatten(dtheta), tree.flatten(plain))


def test_the_signal_of_the_encoder_drowns_in_noise_as_k_grows_and_the_other_does_not():
    """Signal over noise falls as k^−½ (Rainforth et al. 2018, theorem 1), that of the doubly reparameterised
    gradient grows as k^½ (Tucker et al. 2019). The signal is the mean of the quieter of the two.
    """
    gradients, _ = repeated()
    sizes, R, ratio = np.array([8, 32, 128, 512]), 1000, {"plain": [], "dreg": []}
    for k in sizes:
        signal = abs(gradients(k, R, "dreg").mean(axis=0))
        for estimator, found in ratio.items():
            found.append(signal / gradients(k, R, estimator).std(axis=0))
    slopes = {name: np.polyfit(np.log(sizes), np.log(found), 1)[0] for name, found in ratio.items()}
    np.testing.assert_allclose(slopes["plain"], -0.5, atol=0.1)
    np.testing.assert_allclose(slopes["dreg"], 0.5, atol=0.1)


# ---- training by it ------------------------------------------------------------------------------------

RNG = np.random.default_rng(0)
X = ((RNG.random((60, 1)) < 0.5) ^ (RNG.random((60, 6)) < 0.1)).astype(float)  # two prototypes, with flips
HOLES = np.where(np.random.default_rng(1).random(X.shape) < 0.1, np.nan, X)
TABLE = np.column_stack([np.random.default_rng(2).standard_normal((60, 2)), X[:, :2]])
SMALL = {"hidden": (5,), "batch_size": 16, "epochs": 4, "n_samples": 3}
BERNOULLI = {"likelihood": "bernoulli"}
KINDS = {
    "bits": (X, BERNOULLI),
    "holes": (HOLES, {**BERNOULLI, "missing": "marginalise"}),
    "a mixed table": (TABLE, {"likelihood": [("gaussian", [0, 1]), ("categorical", [2, 3])]}),
    "float32": (TABLE.astype("float32"), {}),
    "fresh bits": (0.1 + 0.8 * X, {**BERNOULLI, "binarise": "fresh"}),
    "full q": (TABLE, {"posterior": "full"}),
    "a flow": (TABLE, {"posterior": "flow"}),
}


@pytest.mark.parametrize("objective", ["iwae", "iwae-dreg"])
@pytest.mark.parametrize("kind", KINDS)
def test_it_trains_on_every_kind_of_data(kind, objective):
    x, options = KINDS[kind]
    model = VAE(2, objective=objective, learning_rate=0.02, **{**SMALL, "epochs": 25}, **options)
    model.fit(x, validation=x[:20])
    assert model.q_path_[-5:].mean() < model.q_path_[:5].mean() - 0.1
    assert model.q_validation_path_.shape == (25,)
    asked = np.round(x) if kind == "fresh bits" else x
    assert model.bound(asked).shape == (60,) and model.theta_ is not None
    if kind == "float32":
        assert tree.flatten(model.theta_).dtype == np.float32


def test_by_one_sample_it_is_the_fit_to_the_sampled_bound_to_the_bit():
    one = VAE(2, objective="iwae", **{**SMALL, "n_samples": 1}, **BERNOULLI).fit(X)
    other = VAE(2, kl="sampled", **{**SMALL, "n_samples": 1}, **BERNOULLI).fit(X)
    np.testing.assert_array_equal(one.q_path_, other.q_path_)
    np.testing.assert_array_equal(one.encode(X), other.encode(X))


@pytest.mark.thorough
def test_more_samples_reach_a_model_that_explains_more():
    """The point of it (Burda et al. 2016): a wider class of q, so θ is held back less. And bound speaks of Q,
    for which the encoder is the worse one.
    """
    x = (datasets.digits().x[:200] > 0.5) * 1.0
    options = {"hidden": (16,), "epochs": 30, "batch_size": 20, "learning_rate": 1e-2, **BERNOULLI}
    by_q = VAE(2, kl="sampled", n_samples=1, **options).fit(x)
    by_l = VAE(2, objective="iwae", n_samples=10, **options).fit(x)
    nlml = [model.nlml(x, method="grid").values.mean() for model in (by_q, by_l)]
    assert nlml[1] < nlml[0] - 0.2
    assert by_l.bound(x).mean() - nlml[1] > by_q.bound(x).mean() - nlml[0]
    assert nlml[1] < by_l.q_path_[-1] < by_l.bound(x).mean()       # the path holds L_k, not Q


def test_held_out_data_are_judged_by_l_k():
    held_out = X[:25]
    model = VAE(2, objective="iwae", **SMALL, **BERNOULLI).fit(X[25:], validation=held_out)
    assert model.best_iter_ == 1 + np.argmin(model.q_validation_path_)
    eta = np.random.default_rng(0).standard_normal((3, 1024, 2))[:, :25]
    L, _ = importance_weighted.forward(model.model_, model.theta_, model.encode(held_out), held_out, eta)
    np.testing.assert_allclose(L.mean(), model.q_validation_path_.min(), rtol=1e-12)


def test_a_fit_that_goes_on_from_a_file_is_the_fit_that_never_stopped(tmp_path):
    def fit(epochs, file=None, objective="iwae-dreg"):
        model = VAE(2, objective=objective, **{**SMALL, "epochs": epochs}, **BERNOULLI)
        return model.fit(X, validation=X[:9], checkpoint=file)

    whole, file = fit(6), tmp_path / "fit.npz"
    fit(3, file)
    rest = fit(6, file)
    np.testing.assert_array_equal(rest.q_path_, whole.q_path_)
    np.testing.assert_array_equal(rest.q_validation_path_, whole.q_validation_path_)
    assert teachvae.load(file).objective == "iwae-dreg"
    with pytest.raises(ValueError, match="objective is 'iwae' here, and 'iwae-dreg' there"):
        fit(6, file, "iwae")


@pytest.mark.parametrize("objective", ["iwae", "iwae-dreg"])
def test_what_parts_of_a_batch_add_up_to_is_the_whole(objective, rng):
    """What several ranks compute; test_ranks has the fit."""
    model, theta, _, x = a_case(2, N=7)
    network = recognition_network(5, (3,), model.posterior)
    params = {"theta": theta, "recognition": network.init(rng, get_backend())}
    eta = rng.standard_normal((6, 7, 2))
    value, grads = amortised(model, network, params, x, eta, objective=objective)
    parts = [
        amortised(model, network, params, x[rows], eta[:, rows], objective=objective, n_cases=7)
        for rows in (slice(0, 3), slice(3, 7))
    ]
    np.testing.assert_allclose(sum(v for v, _ in parts), value, rtol=1e-13)
    summed = sum(tree.flatten(g) for _, g in parts)
    np.testing.assert_allclose(summed, tree.flatten(grads), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("options, complaint", [
    ({"nodes": "quadrature"}, "objective='iwae' is a bound for independent draws only, got nodes='quadra"),
    ({"nodes": "sigma", "hidden": ()}, "independent draws only, got nodes='sigma': use nodes='random'"),
    ({"kl_weight": 0.5}, "kl_weight belongs to objective='bound'"),
    ({"kl_weight": lambda epoch: 1.0}, "kl_weight belongs to objective='bound'"),
])
def test_what_does_not_go_with_it(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        VAE(2, objective="iwae", **options).fit(TABLE)
