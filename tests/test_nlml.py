"""Tests of the roads to −log p(x_n): each meets the truth within the error that it states itself. The truth
is a dense normal density where the decoder is linear, the grid elsewhere; weights, effective sample sizes
and curvatures are computed again with SciPy's densities."""

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest
from scipy import optimize, special, stats

from teachvae import (
    FactorAnalysis, Model, VariationalEM, ais, bound, grid, infer, iwae, laplace, nlml, noise, tree
)
from teachvae.arrays.backend import get_backend, namespace, to_numpy
from teachvae.likelihoods import Bernoulli, Gaussian
from teachvae.networks.layers import Linear, Sequential, mlp
from teachvae.posteriors import DiagonalGaussian, FullGaussian

pytestmark = pytest.mark.short                                   # most fits here end early on purpose

# ---- models, data, and the truth by a second road -------------------------------------------------


def linear(K, psi=0.5, seed=0, n_cases=5, q=FullGaussian):
    """A linear-Gaussian model with D = 4 and noise about psi, and data from it."""
    rng = np.random.default_rng(seed)
    W, b = rng.standard_normal((K, 4)), rng.standard_normal(4)
    psi = psi * rng.uniform(0.6, 1.4, 4)
    model = Model(Sequential((Linear(K, 4),)), Gaussian(4), K, q(K))
    theta = {"decoder": [{"W": W, "b": b}], "likelihood": {"log_psi": np.log(psi)}}
    z = rng.standard_normal((n_cases, K))
    return model, theta, z @ W + b + np.sqrt(psi) * rng.standard_normal((n_cases, 4))


def network(K, likelihood, seed=0, n_cases=5, size=1.0):
    """A tanh network with random weights of about `size`, and data from it."""
    rng = np.random.default_rng(seed)
    model = Model(mlp(K, (5,), likelihood.n_f), likelihood, K)
    theta = tree.map(lambda p: size * rng.uniform(-1, 1, p.shape), model.init(rng, get_backend()))
    f = f_by_hand(theta, rng.standard_normal((n_cases, K)))
    return model, theta, likelihood.sample(theta["likelihood"], f, likelihood.draw_noise(rng, f.shape))


MODELS = {
    "linear, K = 1": lambda: linear(1),
    "linear, K = 2": lambda: linear(2),
    "linear, K = 3": lambda: linear(3),
    "tanh, K = 1, Gaussian": lambda: network(1, Gaussian(3), 3, size=2.0),
    "tanh, K = 2, Gaussian": lambda: network(2, Gaussian(3), 4, size=2.0),
    "tanh, K = 1, Bernoulli": lambda: network(1, Bernoulli(5), 5, size=2.0),
    "tanh, K = 2, Bernoulli": lambda: network(2, Bernoulli(5), 6, size=2.0),
}
EACH_MODEL = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS.keys())


def f_by_hand(theta, z):
    """f(z) (…, D) of a network of Linear and Tanh layers."""
    for p in theta["decoder"]:
        z = z @ p["W"] + p["b"] if p else np.tanh(z)
    return z


def log_likelihood_by_hand(model, theta, x, z):
    """log p(x_n|z_sn) (S, N) by SciPy's densities, for z (S, N or 1, K)."""
    f = f_by_hand(theta, z)
    if isinstance(model.likelihood, Bernoulli):
        return stats.bernoulli.logpmf(x.astype(int), special.expit(f)).sum(axis=2)
    psi = model.likelihood.noise
    sd = np.exp(0.5 * theta["likelihood"]["log_psi"]) if theta["likelihood"] else np.sqrt(psi)
    return stats.norm.logpdf(x, f, sd).sum(axis=2)


def log_joint_by_hand(model, theta, x, z):
    return log_likelihood_by_hand(model, theta, x, z) + stats.norm.logpdf(z).sum(axis=2)


def truth_of(model, theta, x):
    """−log p(x_n): through the D × D matrix where the model is linear, else by the grid."""
    if len(theta["decoder"]) > 1:
        result = grid.grid(model, theta, x)
        assert (result.certificate < 1e-5).all()
        return result.values
    W, b = theta["decoder"][0]["W"], theta["decoder"][0]["b"]
    psi = np.exp(theta["likelihood"]["log_psi"])
    return -stats.multivariate_normal(b, W.T @ W + np.diag(psi)).logpdf(x)


def wide_phi(model, theta, x):
    """φ about the posterior's mode, a little wider than the prior, so that no weight is unbounded."""
    eta, weights = np.zeros((1, 1, model.n_latent)), np.ones(1)
    mode = infer.e_step(model, theta, infer.prior_phi(model, x), x, eta, weights).phi[:, : model.n_latent]
    return model.posterior.closest(mode + 0.1, 0.9 * np.eye(model.n_latent))


def weights_by_hand(model, theta, phi, x, eta):
    """log p(x_n, z_sn) − log q(z_sn|φ_n) (S, N) for a diagonal q, by SciPy's densities."""
    K = model.n_latent
    m, s = phi[:, :K], np.exp(phi[:, K:])
    z = m + s * eta
    return log_joint_by_hand(model, theta, x, z) - stats.norm.logpdf(z, m, s).sum(axis=2)


def by_hand(log_w):
    """−log of the mean weight, its relative standard error, the effective sample size, of (S, N). The error
    is inf where it is above 0.2 and the squares of the weights are worth fewer than 5 draws."""
    w = np.exp(log_w - log_w.max(axis=0))
    value = -special.logsumexp(log_w, axis=0) + np.log(len(w))
    error = w.std(axis=0, ddof=1) / np.sqrt(len(w)) / w.mean(axis=0)
    error[(error > 0.2) & ((w**2).sum(axis=0) ** 2 / (w**4).sum(axis=0) < 5)] = np.inf
    return value, error, w.sum(axis=0) ** 2 / (w**2).sum(axis=0)


def assert_within_stated_error(runs, truth):
    """Independent runs: the errors are as large as stated, neither larger nor smaller."""
    values, errors = np.array([r.values for r in runs]), np.array([r.standard_error for r in runs])
    u = (values - truth) / errors
    assert np.abs(u).max() < 5, f"one lies {np.abs(u).max():.1f} standard errors off"
    size = np.sqrt(np.mean(u * u))
    assert 0.75 < size < 1.3, f"typical error {size:.2f} of the one that is stated"


# ---- plain Monte Carlo ----------------------------------------------------------------------------


@EACH_MODEL
def test_prior_meets_the_truth_within_its_error(make):
    model, theta, x = make()
    runs = [nlml.prior(model, theta, x, np.random.default_rng(s), n_samples=20_000) for s in range(20)]
    assert_within_stated_error(runs, truth_of(model, theta, x))
    assert {run.method for run in runs} == {"prior"} and runs[0].certificate is None


def test_prior_is_unbiased_with_few_samples_too():
    """In p(x), not in its logarithm, which is too low on average: Jensen."""
    model, theta, x = linear(1, psi=0.3)
    truth = truth_of(model, theta, x)
    values = np.array([
        nlml.prior(model, theta, x, np.random.default_rng(seed), n_samples=4).values for seed in range(4000)
    ])
    ratio = np.exp(truth - values)
    assert np.all(np.abs(ratio.mean(axis=0) - 1) < 4.5 * ratio.std(axis=0) / np.sqrt(4000))
    assert np.all(values.mean(axis=0) - truth > 4.5 * values.std(axis=0) / np.sqrt(4000))


def test_prior_against_sums_over_its_draws():
    """One draw serves all cases; more draws and more cases than a chunk and a block hold."""
    model, theta, x = network(2, Gaussian(3), n_cases=20)
    result = nlml.prior(model, theta, x, np.random.default_rng(1), n_samples=nlml.CHUNK + 200)
    z = np.random.default_rng(1).standard_normal((nlml.CHUNK + 200, 1, 2))
    expected = by_hand(log_likelihood_by_hand(model, theta, x, z))
    for got, want in zip((result.values, result.standard_error, result.effective_sample_size), expected):
        np.testing.assert_allclose(got, want, rtol=1e-9)


def test_effective_sample_size_of_the_prior_against_its_integral():
    """S / ESS tends to ∫ p(z|x)² / p(z) dz."""
    model, theta, x = linear(1, psi=0.05)
    z, h = np.linspace(-9, 9, 4001, retstep=True)
    log_p = log_joint_by_hand(model, theta, x, z[:, None, None]) + truth_of(model, theta, x)
    integral = h * np.exp(2 * log_p - stats.norm.logpdf(z)[:, None]).sum(axis=0)
    result = nlml.prior(model, theta, x, np.random.default_rng(0), n_samples=200_000)
    assert integral.max() > 3
    np.testing.assert_allclose(200_000 / result.effective_sample_size, integral, rtol=0.05)


def test_prior_collapses_where_the_data_say_much_and_its_size_shows_it():
    """The value is far too high, by more than could be stated. Importance sampling is right."""
    model, theta, x = linear(3, psi=1e-4, n_cases=10, q=DiagonalGaussian)
    truth = truth_of(model, theta, x)
    blind = nlml.prior(model, theta, x, np.random.default_rng(0), n_samples=5000)
    assert np.median(blind.effective_sample_size) < 2
    assert np.mean(blind.values - truth > 5) > 0.8 and np.mean(np.isinf(blind.standard_error)) > 0.8
    model = Model(model.decoder, model.likelihood, 3, FullGaussian(3))
    phi = infer.closed_form(model, theta, x)
    phi[:, :3] += 0.003                                            # not quite on the posterior
    phi[:, [3, 5, 8]] += 0.2                                       # and wider
    draws = [np.random.default_rng(seed) for seed in range(20)]
    runs = [nlml.importance(model, theta, phi, x, rng, n_samples=2000) for rng in draws]
    assert_within_stated_error(runs, truth)
    assert min(run.effective_sample_size.min() for run in runs) > 200


# ---- importance sampling and the effective sample size --------------------------------------------


@EACH_MODEL
def test_importance_meets_the_truth_within_its_error(make):
    model, theta, x = make()
    phi = wide_phi(model, theta, x)
    draws = [np.random.default_rng(seed) for seed in range(25)]
    runs = [nlml.importance(model, theta, phi, x, rng, n_samples=2000) for rng in draws]
    assert_within_stated_error(runs, truth_of(model, theta, x))


@pytest.mark.parametrize("far", [0, 1000])
def test_value_error_and_effective_sample_size_by_hand(far):
    """Also where p(x, z) itself is far below the smallest float, and with an incomplete last chunk."""
    model, theta, x = network(2, Gaussian(3), n_cases=70)
    x = x + far
    phi = wide_phi(*network(2, Gaussian(3), n_cases=70))
    result = nlml.importance(model, theta, phi, x, np.random.default_rng(2), n_samples=150)
    eta = np.random.default_rng(2).standard_normal((150, 1, 2))
    value, error, size = by_hand(weights_by_hand(model, theta, phi, x, eta))
    np.testing.assert_allclose(result.values, value, rtol=1e-10)
    np.testing.assert_allclose(result.standard_error, error, rtol=1e-6)
    np.testing.assert_allclose(result.effective_sample_size, size, rtol=1e-7)
    known = np.isfinite(error)
    np.testing.assert_allclose(error[known] ** 2, (150 / size[known] - 1) / 149, rtol=1e-7)  # as (7.6) has it
    assert (size >= 1 - 1e-12).all() and (size <= 150 + 1e-9).all()
    assert far == 0 or np.median(size) < 2


@settings(max_examples=40)
@given(st.data())
def test_chunks_of_any_size_make_the_same_mean(data):
    seed = data.draw(st.integers(0, 2**32 - 1))
    scale = data.draw(st.sampled_from([0.01, 1.0, 30.0, 1000.0]))
    S = data.draw(st.integers(2, 40))
    cuts = sorted(data.draw(st.sets(st.integers(1, S - 1), max_size=5)))
    log_w = scale * np.random.default_rng(seed).standard_normal((S, 3)) - 5000
    total = nlml.StreamingLogMeanExp(np)
    for part in np.split(log_w, cuts):
        total.add(part)
    log_mean, error, size = total.result()
    value, error_by_hand, size_by_hand = by_hand(log_w)
    np.testing.assert_allclose(-log_mean, value, rtol=1e-12)
    np.testing.assert_allclose(error, error_by_hand, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(size, size_by_hand, rtol=1e-10)


@pytest.mark.parametrize("K", [1, 2, 3])
def test_at_the_exact_posterior_every_sample_is_worth_one(K):
    model, theta, x = linear(K)
    phi = infer.closed_form(model, theta, x)
    result = nlml.importance(model, theta, phi, x, np.random.default_rng(0), n_samples=100)
    np.testing.assert_allclose(result.values, truth_of(model, theta, x), rtol=1e-12)
    np.testing.assert_allclose(result.effective_sample_size, 100, rtol=1e-10)
    assert (result.standard_error < 1e-6).all()
    L = iwae.iwae(model, theta, phi, x, np.random.default_rng(0), sizes=(1, 7), n_samples=50)
    np.testing.assert_allclose(L.values, np.tile(truth_of(model, theta, x), (2, 1)), rtol=1e-12)


# ---- what may be stated ----------------------------------------------------------------------------


def stated_and_wrong(psi, road):
    """Of all runs the shares that are stated; that are more than 3 of their standard errors off; and that are
    so by the formula (7.2) alone."""
    stated, wrong, wrong_by_formula = [], [], []
    for seed in range(3 if road == "ais" else 12):
        model, theta, x = linear(2, psi=psi, seed=seed, n_cases=5, q=DiagonalGaussian)
        truth, rng = truth_of(model, theta, x), np.random.default_rng(seed)
        if road == "prior":
            run = nlml.prior(model, theta, x, rng, n_samples=2000)
        elif road == "importance":                                 # from a q ten times as wide, and beside
            phi = infer.closed_form(model, theta, x) + 0.02
            phi[:, 2:] += np.log(10)
            run = nlml.importance(model, theta, phi, x, rng, n_samples=2000)
        else:
            run = ais.ais(model, theta, x, rng, n_chains=64, n_temperatures=100)
        S, off = 64 if road == "ais" else 2000, np.abs(run.values - truth)
        formula = np.sqrt((S / run.effective_sample_size - 1) / (S - 1))
        stated.append(np.isfinite(run.standard_error))
        wrong.append(off > 3 * run.standard_error)
        wrong_by_formula.append(off > 3 * formula)
    return np.mean(stated), np.mean(wrong), np.mean(wrong_by_formula)


@pytest.mark.parametrize("road", ["prior", "importance", "ais"])
def test_what_is_stated_holds_at_any_noise(road):
    """From ψ = 0.1 down to 1e-8, where one draw has all the weight and the formula says a standard error of 1
    at the most. At 0.1 the error is stated and holds; at 1e-8, where the formula is wrong nearly always,
    nothing is stated; and between them little that is stated is wrong."""
    found = {
        psi: stated_and_wrong(psi, road)
        for psi in ((1e-1, 1e-8) if road == "ais" else (1e-1, 1e-2, 1e-4, 1e-6, 1e-8))
    }
    assert found[1e-1][0] > 0.85 and found[1e-8][0] == 0 and found[1e-8][2] > 0.6, found
    assert all(wrong <= 0.08 for _, wrong, _ in found.values()), found


def test_a_large_error_is_stated_where_many_draws_carry_it():
    log_w = np.log(np.repeat([[1e-12], [1.0]], [990, 10], axis=0))  # ten of a thousand: 0.32, by ten draws
    total = nlml.StreamingLogMeanExp(np)
    total.add(log_w)
    np.testing.assert_allclose(total.result()[1], np.sqrt((1000 / 10 - 1) / 999), rtol=1e-6)
    total = nlml.StreamingLogMeanExp(np)
    total.add(log_w[:994])                                         # by four
    assert np.isinf(total.result()[1]).all()


def test_an_estimator_names_the_rows_of_which_nothing_can_be_stated():
    _, _, x = linear(2, n_cases=60, psi=1e-4)
    estimator = FactorAnalysis(2, min_noise=1e-9).fit(x)
    with pytest.warns(nlml.FewDrawsWarning, match=r"6 of 6 data cases .*\(rows 0, 1, 2, 3, 4, 5\).* \(inf\)"):
        result = estimator.nlml(x[:6], method="prior")
    assert np.isinf(result.standard_error).all()
    assert np.isfinite(estimator.nlml(x[:6]).values).all() and estimator.nlml(x[:6]).standard_error is None


# ---- the bounds L_k -------------------------------------------------------------------------------


@EACH_MODEL
def test_the_bounds_fall_from_q_to_the_truth(make):
    model, theta, x = make()
    truth, phi = truth_of(model, theta, x), wide_phi(model, theta, x)
    eta, weights = noise.gauss_hermite(model.n_latent, {1: 60, 2: 30, 3: 12}[model.n_latent])
    Q, _ = bound.forward(model, theta, phi, x, eta, weights=weights)
    L = iwae.iwae(model, theta, phi, x, np.random.default_rng(0), n_samples=10_000)
    assert L.sizes == (1, 5, 50, 500, 5000) and L.values.shape == L.standard_error.shape == (5, len(x))
    assert np.all(np.abs(L.values[0] - Q) < 4 * L.standard_error[0])  # L_1 is Q
    noise_ = np.hypot(L.standard_error[1:4], L.standard_error[:3])
    assert np.all(L.values[1:4] - L.values[:3] < 4 * noise_)
    assert np.all(L.values[:3].mean(axis=1) > L.values[1:4].mean(axis=1))  # it falls
    assert np.all(L.values[:4] - truth > -4 * L.standard_error[:4])
    assert Q.mean() - truth.mean() > 0.1                           # there was something to fall
    alone = nlml.importance(model, theta, phi, x, np.random.default_rng(0), n_samples=10_000)
    assert np.all(np.abs(L.values[4] - truth) < 4 * np.sqrt(2) * alone.standard_error)
    assert np.all(L.values[3:].mean(axis=1) - truth.mean() < 0.1 * (Q.mean() - truth.mean()))


def test_one_group_of_all_samples_is_importance_sampling():
    model, theta, x = network(2, Gaussian(3), n_cases=3)
    phi = wide_phi(model, theta, x)
    L = iwae.iwae(model, theta, phi, x, np.random.default_rng(4), sizes=(300,), n_samples=300)
    alone = nlml.importance(model, theta, phi, x, np.random.default_rng(4), n_samples=300)
    np.testing.assert_allclose(L.values[0], alone.values, rtol=1e-12)
    assert np.isnan(L.standard_error).all()


def test_groups_and_their_spread_by_hand():
    """103 draws make 51 groups of 2; the draw left over is not used."""
    model, theta, x = network(2, Bernoulli(4), n_cases=4)
    phi, sizes = wide_phi(model, theta, x), (50, 1, 2, 10, 103)
    L = iwae.iwae(model, theta, phi, x, np.random.default_rng(5), sizes=sizes, n_samples=103)
    log_w = weights_by_hand(model, theta, phi, x, np.random.default_rng(5).standard_normal((103, 1, 2)))
    assert L.sizes == sizes
    for row, k in enumerate(sizes):
        groups = np.array([log_w[g * k : (g + 1) * k] for g in range(103 // k)])
        values = np.log(k) - special.logsumexp(groups, axis=1)
        np.testing.assert_allclose(L.values[row], values.mean(axis=0), rtol=1e-10)
        if len(values) > 1:
            error = values.std(axis=0, ddof=1) / np.sqrt(len(values))
            np.testing.assert_allclose(L.standard_error[row], error, rtol=1e-8)
    assert np.isnan(L.standard_error[4]).all() and np.isfinite(L.standard_error[:4]).all()


def test_memory_of_the_bounds_is_bounded_and_blocks_do_not_matter(monkeypatch):
    model, theta, x = network(1, Gaussian(3), n_cases=9)
    phi = wide_phi(model, theta, x)
    whole = iwae.iwae(model, theta, phi, x, np.random.default_rng(6), sizes=(1, 20), n_samples=200)
    held, grouped = [], iwae._group_means
    monkeypatch.setattr(iwae, "_group_means", lambda w, k: held.append(w.shape) or grouped(w, k))
    for pairs, rows in ((1, 1), (700, 3), (10**6, 9)):
        held.clear()
        monkeypatch.setattr(iwae, "PAIRS", pairs)
        parts = iwae.iwae(model, theta, phi, x, np.random.default_rng(6), sizes=(1, 20), n_samples=200)
        assert set(held) == {(200, rows)}
        np.testing.assert_allclose(parts.values, whole.values, rtol=1e-12)
        np.testing.assert_allclose(parts.standard_error, whole.standard_error, rtol=1e-9)


# ---- Laplace --------------------------------------------------------------------------------------


@pytest.mark.parametrize("psi", [2.0, 0.5, 1e-3])
@pytest.mark.parametrize("K", [1, 2, 3])
def test_laplace_is_exact_where_the_joint_is_normal(K, psi):
    model, theta, x = linear(K, psi, q=DiagonalGaussian)
    result = laplace.laplace(model, theta, x, np.random.default_rng(0))
    np.testing.assert_allclose(result.values, truth_of(model, theta, x), rtol=0, atol=1e-8)
    assert result.method == "laplace"
    assert result.standard_error is result.certificate is result.effective_sample_size is None


def hessian(function, z, h=1e-3):
    """∂²f/∂z∂zᵀ by fourth-order central differences of the values alone."""
    K = len(z)

    def second(u, v):
        def mixed(step):
            signs = ((1, 1), (-1, -1), (1, -1), (-1, 1))
            return sum(a * b * function(z + step * (a * u + b * v)) for a, b in signs) / (4 * step**2)
        return (4 * mixed(h) - mixed(2 * h)) / 3

    return np.array([[second(u, v) for v in np.eye(K)] for u in np.eye(K)])


@pytest.mark.parametrize(
    "K, likelihood", [(1, Gaussian(3)), (2, Gaussian(3, "isotropic")), (3, Gaussian(3, 0.3)),
                      (1, Bernoulli(5)), (2, Bernoulli(5)), (3, Bernoulli(5))]
)
def test_laplace_by_search_and_by_the_curvature_of_the_values(K, likelihood):
    model, theta, x = network(K, likelihood, seed=K, size=1.5)
    result = laplace.laplace(model, theta, x, np.random.default_rng(0))
    starts = np.random.default_rng(1).standard_normal((12, K))
    for row, value in zip(x, result.values):
        def energy(z):
            return -log_joint_by_hand(model, theta, row[None], z[None, None])[0, 0]

        best = min((optimize.minimize(energy, z) for z in starts), key=lambda r: r.fun)
        H = hessian(energy, best.x)
        written = best.fun - 0.5 * K * np.log(2 * np.pi) + 0.5 * np.linalg.slogdet(H)[1]
        assert value == pytest.approx(written, abs=2e-6)


def test_laplace_nears_the_truth_as_the_data_say_more():
    """Its error is of the order of ψ: a hundredth of the noise, about a hundredth of the error."""
    errors = []
    for psi in (1e-2, 1e-4):
        model, theta, _ = network(1, Gaussian(6, psi), seed=2)
        x = f_by_hand(theta, np.linspace(-1, 1, 5)[:, None])
        result = laplace.laplace(model, theta, x, np.random.default_rng(0))
        errors.append(np.abs(result.values - grid.grid(model, theta, x).values))
    assert np.all(errors[0] > 1e-5)
    assert np.mean(errors[1]) < 0.03 * np.mean(errors[0])


class Square:
    """f(z) = z²: the posterior of a large x has two modes, and between them, at 0, a least density."""

    n_in = n_out = 1

    def forward(self, params, z):
        return z * z, z

    def backward(self, params, cache, dy, *, need_dx=True, need_dparams=True):
        return 2 * cache * dy, []


def test_laplace_says_nan_where_the_point_is_no_mode(monkeypatch):
    """At z = 0 the gradient is 0. The 512 draws lead away from there; here both starts are held at it."""
    model, theta = Model(Square(), Gaussian(1, 0.1), 1), {"decoder": [], "likelihood": {}}
    x = np.array([[4.0], [-1.0], [1.0]])                           # of x = −1 it is the mode
    found = laplace.laplace(model, theta, x, np.random.default_rng(0)).values
    z, h = np.linspace(-6, 6, 20001, retstep=True)
    log_p = stats.norm.logpdf(x[:, 0], z[:, None] ** 2, np.sqrt(0.1)) + stats.norm.logpdf(z)[:, None]
    truth = -special.logsumexp(log_p, axis=0) - np.log(h)
    # of two equal modes Laplace has one
    np.testing.assert_allclose(found - truth, [np.log(2), 0, np.log(2)], atol=0.15)
    monkeypatch.setattr(infer, "search", lambda model, theta, x, z: infer.prior_phi(model, x))
    stuck = laplace.laplace(model, theta, x, np.random.default_rng(0)).values
    np.testing.assert_array_equal(np.isnan(stuck), [True, False, True])
    assert stuck[1] == pytest.approx(found[1], abs=1e-9)


class Saddle:
    """f(z) = z_1²: of a large x the point 0 is a least density along z_1, and along z_2 the largest."""

    n_in, n_out = 2, 1

    def forward(self, params, z):
        return z[:, :1] ** 2, z

    def backward(self, params, cache, dy, *, need_dx=True, need_dparams=True):
        return 2 * np.concatenate([cache[:, :1] * dy, 0 * dy], axis=1), []


def test_laplace_says_nan_at_a_saddle(monkeypatch):
    model, theta = Model(Saddle(), Gaussian(1, 0.1), 2), {"decoder": [], "likelihood": {}}
    monkeypatch.setattr(infer, "search", lambda model, theta, x, z: infer.prior_phi(model, x))
    found = laplace.laplace(model, theta, np.array([[4.0], [-1.0]]), np.random.default_rng(0)).values
    np.testing.assert_array_equal(np.isnan(found), [True, False])


def test_laplace_says_nan_where_no_mode_was_reached(monkeypatch):
    model, theta, x = network(1, Bernoulli(4))
    whole = laplace.laplace(model, theta, x, np.random.default_rng(0)).values
    search = infer.from_starts

    def early(*given, **options):
        e = search(*given, **options)
        return e._replace(gradient_norm=np.where(np.arange(len(x)) == 2, 0.01, e.gradient_norm))

    monkeypatch.setattr(infer, "from_starts", early)
    found = laplace.laplace(model, theta, x, np.random.default_rng(0)).values
    np.testing.assert_array_equal(found, np.where(np.arange(len(x)) == 2, np.nan, whole))


# ---- the density and its gradient in z ------------------------------------------------------------


@EACH_MODEL
def test_gradient_in_z_against_central_differences_at_every_index(make):
    model, theta, x = make()
    z, h = np.random.default_rng(0).standard_normal((3, len(x), model.n_latent)), 1e-5
    log_px, dz = model.log_likelihood_gradient(theta, x, z)
    assert log_px.shape == (3, len(x)) and dz.shape == z.shape
    np.testing.assert_allclose(log_px, log_likelihood_by_hand(model, theta, x, z), rtol=1e-10)
    np.testing.assert_array_equal(model.log_likelihood(theta, x, z)[0], log_px)
    np.testing.assert_allclose(
        model.log_joint(theta, x, z), log_joint_by_hand(model, theta, x, z), rtol=1e-10
    )
    for s, n, k in np.ndindex(z.shape):
        up, down = z.copy(), z.copy()
        up[s, n, k] += h
        down[s, n, k] -= h
        moved = log_likelihood_by_hand(model, theta, x, up) - log_likelihood_by_hand(model, theta, x, down)
        assert dz[s, n, k] == pytest.approx(moved[s, n] / (2 * h), rel=1e-6, abs=1e-6 * np.abs(dz).max())
        moved[s, n] = 0
        assert not moved.any()                                     # and no other pair moves


# ---- rows, backends, estimators, bad input --------------------------------------------------------


ROADS = {
    "prior": lambda m, t, phi, x: nlml.prior(m, t, x, np.random.default_rng(0), n_samples=600),
    "importance": lambda m, t, phi, x: nlml.importance(m, t, phi, x, np.random.default_rng(0), n_samples=130),
    "iwae": lambda m, t, phi, x: iwae.iwae(
        m, t, phi, x, np.random.default_rng(0), sizes=(1, 10), n_samples=130
    ),
    "laplace": lambda m, t, phi, x: laplace.laplace(m, t, x, np.random.default_rng(0)),
}


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("likelihood", [Gaussian(3), Bernoulli(4)], ids=["gaussian", "bernoulli"])
def test_no_row_depends_on_the_others(likelihood, road, monkeypatch):
    """Subsets, another order, other blocks."""
    model, theta, x = network(2, likelihood, n_cases=40)
    phi = wide_phi(model, theta, x)
    together = ROADS[road](model, theta, phi, x)
    for rows in ([7], [39, 3, 20], list(range(39, -1, -1))):
        some = ROADS[road](model, theta, phi[rows], x[rows])
        np.testing.assert_allclose(some.values, together.values[..., rows], rtol=0, atol=1e-9)
        if some.standard_error is not None:
            np.testing.assert_allclose(
                some.standard_error, together.standard_error[..., rows], rtol=1e-7, atol=1e-9
            )
    monkeypatch.setattr(nlml, "blocks", lambda n, s: [slice(i, min(i + 7, n)) for i in range(0, n, 7)])
    parts = ROADS[road](model, theta, phi, x)
    np.testing.assert_allclose(parts.values, together.values, rtol=0, atol=1e-9)


EXACT = {"exact": lambda m, t, phi, x: nlml.exact(m, t, x)}


@pytest.mark.parametrize(
    "kind, road", [("linear", road) for road in ROADS | EXACT] + [("tanh", road) for road in ROADS]
)
def test_on_every_backend(backend, kind, road):
    model, theta, x = linear(2, q=DiagonalGaussian) if kind == "linear" else network(2, Bernoulli(4))
    run = (ROADS | EXACT)[road]
    phi = wide_phi(model, theta, x)
    host = run(model, theta, phi, x)
    there = run(model, tree.map(backend.asarray, theta), backend.asarray(phi), backend.asarray(x))
    tolerance = 1e-9 if backend.dtype == "float64" else 5e-4
    for name in set(there._fields) - {"method", "sizes"}:
        got, want = getattr(there, name), getattr(host, name)
        if want is None:
            assert got is None
            continue
        dtype = "float64" if road == "laplace" else backend.dtype
        assert namespace(got) is backend.xp and str(got.dtype).endswith(dtype)
        assert backend.device is None or got.device == backend.device
        np.testing.assert_allclose(to_numpy(got), want, rtol=tolerance, atol=tolerance)


def test_every_method_of_a_linear_estimator_meets_the_exact_one():
    _, _, x = linear(2, n_cases=60, psi=1.0)
    estimator = FactorAnalysis(2).fit(x)
    exact = estimator.nlml(x[:6], method="exact")
    assert estimator.nlml(x[:6]).method == "exact"
    for method in ("grid", "importance", "prior", "laplace", "ais"):
        chains = 200 if method == "ais" else 16                    # 16 say too little of their own spread
        result = estimator.nlml(x[:6], method=method, n_chains=chains)
        error = {"grid": result.certificate, "laplace": 1e-8}.get(method, result.standard_error)
        assert result.method == method and isinstance(result.values, np.ndarray)
        assert np.all(np.abs(result.values - exact.values) <= 4.5 * error + 1e-8)
        sampled = method in ("importance", "prior", "ais")
        assert (result.effective_sample_size is not None) is sampled


def test_every_method_of_a_binary_estimator_meets_the_grid():
    _, _, x = network(1, Bernoulli(5), n_cases=60, size=2.0)
    estimator = VariationalEM(1, hidden=(3,), likelihood="bernoulli", epochs=20, random_state=0).fit(x)
    truth = estimator.nlml(x[:6], method="grid").values
    for method in ("importance", "prior", "ais"):
        more = {"n_chains": 100} if method == "ais" else {"n_samples": 2000}
        result = estimator.nlml(x[:6], method=method, **more)
        assert np.all(np.abs(result.values - truth) < 4.5 * result.standard_error)
    assert np.all(np.abs(estimator.nlml(x[:6], method="laplace").values - truth) < 0.5)
    with pytest.raises(ValueError, match="needs a linear decoder and a Gaussian likelihood"):
        estimator.nlml(x, method="exact")
    with pytest.raises(ValueError, match="method='ais' runs chains, got n_samples=9: give n_chains"):
        estimator.nlml(x, method="ais", n_samples=9)


def test_bad_input_is_refused_in_words():
    model, theta, x = network(1, Gaussian(3))
    phi, rng = infer.prior_phi(model, x), np.random.default_rng(0)
    with pytest.raises(ValueError, match="needs a linear decoder and a Gaussian likelihood"):
        nlml.exact(model, theta, x)
    with pytest.raises(ValueError, match="plain Monte Carlo needs n_samples >= 2, got 1"):
        nlml.prior(model, theta, x, rng, n_samples=1)
    with pytest.raises(ValueError, match="importance sampling needs n_samples >= 2, got 0"):
        nlml.importance(model, theta, phi, x, rng, n_samples=0)
    for sizes in ((1, 101), (0, 1), (-5,), ()):
        with pytest.raises(ValueError, match=r"every k must lie in 1 … n_samples = 100.*got sizes=\("):
            iwae.iwae(model, theta, phi, x, rng, sizes=sizes, n_samples=100)
