"""What a model is used for: denoise, interpolate, generate; and the denoising autoencoder.

Linear models are held against dense normal distributions, neural ones against sums over a fine grid
of z, the linear denoising autoencoder against the ridge regression that it converges to.
"""

import functools
import warnings

import numpy as np
import pytest
from scipy import special, stats
import test_missing
from test_missing import OF_DIGITS, TRAIN, of_digits

from teachvae import (
    Autoencoder, FactorAnalysis, GaussianMixture, PrincipalComponents, VAE, VariationalEM, datasets,
    gradcheck, tree
)
from teachvae.arrays.backend import get_backend
from teachvae.networks.convergence import ConvergenceWarning
from teachvae.networks.layers import mlp
from teachvae.routes import autoencoder
from teachvae.routes.autoencoder import squared_error
from teachvae.routes.conventions import NotFittedError

pytestmark = pytest.mark.short                                   # most fits here end early on purpose

N, D, K = 80, 6, 2


def close(a, b, atol):
    np.testing.assert_allclose(a, b, rtol=0, atol=atol)


def linear_data():
    """Two factors that each column has its share of, so that EM has no Heywood case to creep to."""
    rng = np.random.default_rng(0)
    W = np.array([[1.2, 1.0, 1.1, 1.0, 0.9, 1.3], [1.1, -1.0, 1.2, -1.0, -0.9, 1.4]])
    noise = rng.uniform(0.6, 0.9, D) * rng.standard_normal((N, D))
    return rng.standard_normal((N, K)) @ W + noise + rng.uniform(-2, 2, D)


X = linear_data()
NOISY = X + 0.8 * np.random.default_rng(9).standard_normal(X.shape)
GAPS = np.where(np.random.default_rng(1).random(X.shape) < 0.2, np.nan, NOISY)
GAPS[0], GAPS[1, 1:], GAPS[2] = np.nan, np.nan, NOISY[2]
NOISES = ["diagonal", "isotropic", 0.6]
LINEAR = {
    "FactorAnalysis": lambda **o: FactorAnalysis(K, **o),
    "VariationalEM": lambda **o: VariationalEM(K, hidden=(), tol=1e-5, **o),
    "VariationalEM, full": lambda **o: VariationalEM(K, hidden=(), posterior="full", tol=1e-5, **o),
}


@functools.cache
def linear(name, noise="diagonal", missing="error"):
    return LINEAR[name](noise=noise, missing=missing).fit(X)


def dense_denoised(model, x, variance):
    """E[x|x̃] (N, D) by the dense normal distribution of (x, x̃), of what was observed of x̃."""
    layer = model.theta_["decoder"][0]
    W, b = layer["W"], layer["b"]
    S, means = W.T @ W + np.diag(model.noise_variance_), []
    for row in x:
        o = ~np.isnan(row)
        noisy = S[np.ix_(o, o)] + variance * np.eye(o.sum())
        means.append(b + S[:, o] @ np.linalg.solve(noisy, row[o] - b[o]))
    return np.array(means)


# ---- denoise: linear models -----------------------------------------------------------------------


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("name", LINEAR)
def test_denoised_is_the_conditional_mean(name, noise):
    for missing in ("error", "marginalise"):
        model = linear(name, noise, missing)
        for variance in (0.01, 0.64, 5):
            close(model.denoise(NOISY, variance), dense_denoised(model, NOISY, variance), 1e-8)
        if missing == "marginalise":
            found = model.denoise(GAPS, 0.64)
            assert np.isfinite(found).all()
            close(found, dense_denoised(model, GAPS, 0.64), 1e-8)
            close(found[0], model.decode(np.zeros((1, K)))[0], 1e-12)


@pytest.mark.parametrize("name", LINEAR)
def test_no_noise_and_nothing_but_noise(name):
    model = linear(name)
    close(model.denoise(NOISY, 1e-12), NOISY, 1e-9)
    mean = model.decode(np.zeros((1, K)))[0]
    close(model.denoise(NOISY, 1e12), np.tile(mean, (N, 1)), 1e-9)
    close(mean, X.mean(axis=0), 1e-3)


def test_denoising_takes_off_more_error_than_it_makes():
    model = linear("FactorAnalysis")
    all_found = model.denoise(NOISY, 0.64), model.reconstruct(NOISY), NOISY
    errors = [np.mean((found - X) ** 2) for found in all_found]
    assert errors[0] < 0.9 * errors[1] and errors[0] < 0.9 * errors[2]
    # told of another noise it does worse
    assert all(errors[0] < np.mean((model.denoise(NOISY, v) - X) ** 2) for v in (0.64 / 8, 0.64 * 8))


def test_denoise_writes_into_nothing_and_leaves_the_model_as_it_was():
    for name in LINEAR:
        model = linear(name)
        x, before = NOISY.copy(), tree.map(np.copy, model.theta_)
        model.denoise(x, 0.5)
        np.testing.assert_array_equal(x, NOISY)
        assert all((a == b).all() for (_, a), (_, b) in zip(tree.leaves(before), tree.leaves(model.theta_)))


TEST = test_missing.TEST[:120]
SIGMA2 = 0.2**2
NOISY_TEST = TEST + SIGMA2**0.5 * np.random.default_rng(0).standard_normal(TEST.shape)


def error(found):
    return np.mean((found - TEST) ** 2)


SLOW = ("VariationalEM", "predicted")


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=pytest.mark.thorough if name in SLOW else ())
    for name in (*OF_DIGITS, "predicted")
])
def test_denoised_digits(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        if name == "predicted":
            model = VAE(4, hidden=(32,), epochs=40, likelihood="gaussian-predicted").fit(TRAIN)
        else:
            model = of_digits(name)
        found = model.denoise(NOISY_TEST, SIGMA2)
        assert error(found) < 0.95 * error(model.reconstruct(NOISY_TEST))
    assert error(found) < 0.85 * error(NOISY_TEST)


# ---- denoise: neural models -----------------------------------------------------------------------

Z = np.linspace(-9, 9, 8001)[:, None]


def curve(n_cases=100, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.standard_normal(n_cases)
    x = np.column_stack([z, 0.5 * np.sin(z), 0.3 * z**2, np.tanh(z)])
    return x + 0.3 * rng.standard_normal(x.shape)


CURVE = curve()
NOISY_CURVE = CURVE + 0.2 * np.random.default_rng(5).standard_normal(CURVE.shape)


@functools.cache
def neural(route, likelihood="gaussian", missing="error"):
    options = {"epochs": 15} if route is VariationalEM else {"epochs": 100, "batch_size": 25}
    return route(1, hidden=(6,), likelihood=likelihood, missing=missing, **options).fit(CURVE)


def by_grid(model, likelihood, x, variance):
    """E[x|x̃] (N, D) by brute force over z: log p(x̃, z), and E[x|x̃, z] of every column."""
    f, _ = model.model_.decoder.forward(model.theta_["decoder"], Z)
    D = x.shape[1]
    m = f[:, :D]
    v = 1e-4 + np.exp(f[:, D:]) if likelihood == "gaussian-predicted" else model.noise_variance_ + 0 * m
    means = []
    for row in x:
        log_p = np.nansum(stats.norm.logpdf(row, m, np.sqrt(v + variance)), axis=1)
        log_p += stats.norm.logpdf(Z[:, 0])
        given_z = np.where(np.isnan(row), m, (v * row + variance * m) / (v + variance))
        means.append(special.softmax(log_p) @ given_z)
    return np.array(means)


@pytest.mark.parametrize("likelihood", ["gaussian", "gaussian-predicted"])
@pytest.mark.parametrize("route", [VariationalEM, VAE])
def test_denoised_by_a_network_is_the_mean_by_brute_force(route, likelihood):
    model = neural(route, likelihood)
    for variance in (0.04, 0.3):
        mean = by_grid(model, likelihood, NOISY_CURVE, variance)
        off = np.abs(model.denoise(NOISY_CURVE, variance) - mean)
        # q is Gaussian: near the posterior in most places, not in all
        assert np.median(off) < 2e-3 and off.mean() < 1e-2
        assert np.mean(np.abs(mean - NOISY_CURVE)) > 0.03


@pytest.mark.parametrize("likelihood", ["gaussian", "gaussian-predicted"])
@pytest.mark.parametrize("route", [VariationalEM, VAE])
def test_denoise_with_gaps(route, likelihood):
    model = neural(route, likelihood, "marginalise")
    x = np.where(np.random.default_rng(1).random(CURVE.shape) < 0.2, np.nan, NOISY_CURVE)
    x[0] = np.nan
    found = model.denoise(x, 0.04)
    assert found.shape == x.shape and np.isfinite(found).all()
    off = np.abs(found - by_grid(model, likelihood, x, 0.04))
    assert np.median(off) < 3e-3 and off[np.isnan(x)].mean() < 0.06
    # where nothing is missing it is what a model of complete data says
    plain = neural(route, likelihood, "marginalise").denoise(NOISY_CURVE, 0.04)
    assert np.median(np.abs(plain - by_grid(model, likelihood, NOISY_CURVE, 0.04))) < 2e-3


@pytest.mark.parametrize("likelihood", ["gaussian", "gaussian-predicted"])
@pytest.mark.parametrize("route", [VariationalEM, VAE])
def test_limits_of_the_noise_under_a_network(route, likelihood):
    model = neural(route, likelihood)
    close(model.denoise(NOISY_CURVE, 1e-10), NOISY_CURVE, 1e-4)
    f, _ = model.model_.decoder.forward(model.theta_["decoder"], Z)
    mean = stats.norm.pdf(Z[:, 0]) * (Z[1, 0] - Z[0, 0]) @ f[:, :4]
    close(model.denoise(NOISY_CURVE, 1e10), np.tile(mean, (len(CURVE), 1)), 1e-3)


BITS = datasets.digits(threshold=8).x[:60, 18:24].copy()


def test_noise_that_the_data_cannot_have_is_refused():
    mixed = [("gaussian", [0, 1, 2]), ("bernoulli", [3, 4, 5])]
    for name, likelihood, x in (("Bernoulli", "bernoulli", BITS), ("Poisson", "poisson", BITS),
                                ("Categorical", "categorical", BITS), ("StudentT", "student-t", X),
                                ("Mixed", mixed, np.hstack([X[:60, :3], BITS[:, :3]]))):
        model = VAE(1, hidden=(3,), epochs=1, likelihood=likelihood).fit(x)
        refusal = rf"denoise takes off Gaussian noise .*{name} has none: use likelihood='gaussian'"
        with pytest.raises(ValueError, match=refusal):
            model.denoise(x, 0.1)


@pytest.mark.parametrize("variance", [0, -1, np.nan, np.inf, "0.1", None, True])
def test_a_variance_is_a_number_above_0(variance):
    for model in (linear("FactorAnalysis"), neural(VAE)):
        x = NOISY if model is linear("FactorAnalysis") else NOISY_CURVE
        with pytest.raises(ValueError, match="noise_variance must be a finite number > 0"):
            model.denoise(x, variance)


# ---- interpolate ----------------------------------------------------------------------------------

ROUTES = {
    "FactorAnalysis": lambda: FactorAnalysis(K),
    "VariationalEM": lambda: VariationalEM(K, hidden=(4,), epochs=3),
    "VAE": lambda: VAE(K, hidden=(4,), epochs=5),
    "Autoencoder": lambda: Autoencoder(K, hidden=(4,), epochs=5),
    "PrincipalComponents": lambda: PrincipalComponents(K),
}


@pytest.mark.parametrize("name", ROUTES)
def test_interpolation_goes_from_one_reconstruction_to_the_other(name):
    model = ROUTES[name]().fit(X)
    a, b = X[3], X[40]
    path = model.interpolate(a, b)
    assert path.shape == (8, D)
    close(path[[0, -1]], model.reconstruct(X[[3, 40]]), 1e-12)
    codes = model.transform(X[[3, 40]])
    for n_steps in (2, 5):
        line = np.linspace(codes[0], codes[1], n_steps)
        close(model.interpolate(list(a), list(b), n_steps), model.decode(line), 1e-12)
    close(model.interpolate(b, a)[::-1], path, 1e-12)
    straight = np.abs(np.diff(path, 2, axis=0)).max() < 1e-10
    assert straight == (name in ("FactorAnalysis", "PrincipalComponents"))
    for n_steps in (1, 2.0, True):
        with pytest.raises(ValueError, match="n_steps must be an integer >= 2"):
            model.interpolate(a, b, n_steps)
    with pytest.raises(ValueError, match="X has 4 features"):
        model.interpolate(a[:4], b[:4])
    for wrong in ((a[None], b), (a[None], b[None]), (a, b[:4])):
        with pytest.raises(ValueError, match="two data cases, each .D,., got shapes .*give rows"):
            model.interpolate(*wrong)
    with pytest.raises(NotFittedError):
        ROUTES[name]().interpolate(a, b)


def test_interpolation_between_data_cases_with_gaps():
    model = linear("FactorAnalysis", "diagonal", "marginalise")
    path = model.interpolate(GAPS[1], GAPS[3], 5)
    assert np.isfinite(path).all()
    close(path, np.linspace(*model.decode(model.transform(GAPS[[1, 3]])), 5), 1e-12)


# ---- generation -----------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["error", "marginalise"])
def test_samples_of_factor_analysis_have_its_covariance(missing):
    model = linear("FactorAnalysis", "diagonal", missing)
    x = model.sample(200_000, random_state=0)
    S = model.get_covariance()
    close(x.mean(axis=0), model.mean_, 5 * (np.diag(S).max() / 2e5) ** 0.5)
    close(np.cov(x.T), S, 6 * np.diag(S).max() * (2 / 2e5) ** 0.5)


@pytest.mark.parametrize("likelihood", ["gaussian", "gaussian-predicted"])
def test_samples_of_a_network_have_the_moments_of_a_grid(likelihood):
    model = neural(VAE, likelihood)
    x = model.sample(100_000, random_state=0)
    f, _ = model.model_.decoder.forward(model.theta_["decoder"], Z)
    weights, m = stats.norm.pdf(Z[:, 0]) * (Z[1, 0] - Z[0, 0]), f[:, :4]
    v = 1e-4 + np.exp(f[:, 4:]) if likelihood == "gaussian-predicted" else model.noise_variance_ + 0 * m
    mean = weights @ m
    variance = weights @ (v + m**2) - mean**2
    close(x.mean(axis=0), mean, 5 * (variance.max() / 1e5) ** 0.5)
    np.testing.assert_allclose(x.var(axis=0), variance, rtol=0.05)


def test_samples_hang_on_their_seed():
    for model in (linear("FactorAnalysis"), neural(VAE), neural(VariationalEM)):
        np.testing.assert_array_equal(model.sample(4, random_state=1), model.sample(4, random_state=1))
        assert not np.array_equal(model.sample(4, random_state=1), model.sample(4, random_state=2))
        assert not np.array_equal(model.sample(4), model.sample(4))


def test_routes_that_generate_nothing_say_so():
    ae = ROUTES["Autoencoder"]().fit(X)
    for name in ("sample", "bound", "nlml"):
        assert not hasattr(ae, name)
        with pytest.raises(AttributeError, match=f"an Autoencoder has no {name}: it defines no p"):
            getattr(ae, name)
    assert not hasattr(PrincipalComponents(), "sample") and hasattr(GaussianMixture(), "sample")


# ---- the denoising autoencoder --------------------------------------------------------------------


def test_gradient_of_the_squared_error_with_noise():
    rng = np.random.default_rng(0)
    encoder, decoder = mlp(4, (5,), 2), mlp(2, (5,), 4)
    x, noise = rng.standard_normal((6, 4)), rng.standard_normal((6, 4))
    params = tree.map(lambda p: p + rng.uniform(0.1, 0.5, p.shape), {
        "encoder": encoder.init(rng, get_backend()), "decoder": decoder.init(rng, get_backend()),
    })

    def by_hand(params):
        z = np.tanh((x + noise) @ params["encoder"][0]["W"] + params["encoder"][0]["b"])
        z = z @ params["encoder"][2]["W"] + params["encoder"][2]["b"]
        f = np.tanh(z @ params["decoder"][0]["W"] + params["decoder"][0]["b"])
        f = f @ params["decoder"][2]["W"] + params["decoder"][2]["b"]
        return 0.5 * np.mean(np.sum((f - x) ** 2, axis=1))

    loss, grads = squared_error(encoder, decoder, params, x, noise)
    assert loss == pytest.approx(by_hand(params), rel=1e-13)
    report = gradcheck.check(by_hand, params, grads)
    assert report.ok, report
    without = squared_error(encoder, decoder, params, x)
    assert without[0] == squared_error(encoder, decoder, params, x, 0 * x)[0] != loss


def folded(ae):
    """All learnt numbers in one vector."""
    return tree.pack({"e": ae.encoder_params_, "d": ae.decoder_params_})[0]


def test_without_noise_it_is_the_plain_one_bit_for_bit(monkeypatch):
    options = {"n_components": K, "hidden": (4,), "epochs": 5, "batch_size": 32}
    plain = Autoencoder(**options).fit(X)
    # noise far below rounding: the same draws of starts and minibatches
    np.testing.assert_array_equal(folded(Autoencoder(noise_variance=1e-60, **options).fit(X)), folded(plain))
    noisy = Autoencoder(noise_variance=0.5, **options).fit(X)
    assert np.abs(folded(noisy) - folded(plain)).max() > 1e-3 and noisy.loss_path_[-1] > plain.loss_path_[-1]
    given = []

    def watched(encoder, decoder, params, x, noise=None):
        given.append(noise)
        return squared_error(encoder, decoder, params, x, noise)

    monkeypatch.setattr(autoencoder, "squared_error", watched)
    for zero in (0, 0.0):
        other = Autoencoder(noise_variance=zero, **options).fit(X)
        np.testing.assert_array_equal(folded(other), folded(plain))
    assert len(given) > 10 and all(noise is None for noise in given)


def test_its_noise_is_fresh_and_of_the_variance_asked_for(monkeypatch):
    given = []

    def watched(encoder, decoder, params, x, noise=None):
        given.append((x, noise))
        return squared_error(encoder, decoder, params, x, noise)

    monkeypatch.setattr(autoencoder, "squared_error", watched)
    x = 7 * X + 100
    Autoencoder(1, hidden=(2,), noise_variance=3.0, epochs=40, batch_size=60).fit(x)
    draws = np.concatenate([noise for _, noise in given])
    scale2 = np.mean(x.var(axis=0)) / np.mean(np.concatenate([rows for rows, _ in given]).var(axis=0))
    assert draws.var() * scale2 == pytest.approx(3.0, rel=0.05) and abs(draws.mean()) < 0.05 * draws.std()
    close(np.corrcoef(draws.T), np.eye(D), 0.06)
    assert len(np.unique(draws)) == draws.size                     # none twice


def test_a_linear_one_is_a_ridge_regression():
    """With K = D the best map from x̃ to x is S (S + σ²I)⁻¹: directions of little variance are held back."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2000, 2)) @ np.array([[2.0, 1.0], [0.0, 0.5]]) + 5
    ae = Autoencoder(2, hidden=(), noise_variance=1.0, epochs=60, learning_rate=5e-3, batch_size=200).fit(x)
    S = np.cov(x.T, bias=True)
    best = np.linalg.solve(S + np.eye(2), S)
    origin = ae.reconstruct(x.mean(axis=0)[None])
    close(origin, x.mean(axis=0)[None], 0.1)
    close(ae.reconstruct(np.eye(2) + x.mean(axis=0)) - origin, best, 0.06)


@pytest.mark.parametrize("sigma2", [0.4**2])
def test_it_denoises_digits_better_than_the_plain_one(sigma2):
    noisy = TEST + sigma2**0.5 * np.random.default_rng(0).standard_normal(TEST.shape)
    plain, trained = (
        Autoencoder(12, hidden=(64,), noise_variance=v, epochs=60).fit(TRAIN) for v in (0.0, sigma2)
    )
    errors = [error(found) for found in (trained.denoise(noisy), plain.denoise(noisy), noisy)]
    assert errors[0] < 0.9 * errors[1] and errors[0] < 0.5 * errors[2]
    assert error(trained.reconstruct(TEST)) > error(plain.reconstruct(TEST))   # and pays for it without noise
    np.testing.assert_array_equal(trained.denoise(noisy), trained.reconstruct(noisy))
    np.testing.assert_array_equal(trained.denoise(noisy, sigma2), trained.reconstruct(noisy))


@pytest.mark.parametrize("variance", [-0.1, np.nan, np.inf, "0.1", None])
def test_its_variance_is_a_number(variance):
    with pytest.raises(ValueError, match="noise_variance, where it is not 0, must be a finite number > 0"):
        Autoencoder(1, noise_variance=variance).fit(X)
