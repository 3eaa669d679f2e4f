"""Tests of derivations/: what the equations say is so, by a second road: dense linear algebra, SciPy,
quadrature, direct minimisation."""

from itertools import product
import math

from cases import GAUSSIANS
from derivations.book import all_cards
import numpy as np
import pytest
from scipy import integrate, optimize, special, stats

from teachvae import (
    FactorAnalysis, VariationalEM, bound, datasets, expectations, gradcheck, gradient_estimators, grid, infer,
    linear_gaussian, moments, nlml, noise, tree
)
from teachvae.arrays.backend import get_backend
from teachvae.arrays.special import log_sum_exp
from teachvae.course.jensen import (
    jensen_continuous, jensen_discrete, nlml_as_jensen_continuous, nlml_as_jensen_discrete
)
from teachvae.doors.units import HeywoodWarning, PrincipalAxes, StandardUnits, fold_theta
from teachvae.gradcheck import differences
from teachvae.arrays import rows as rows_of_arrays
from teachvae.arrays.observed import Observed, network_input
from teachvae.inference import bfgs, em, mixture, mixture_of_factor_analysers as analysers
from teachvae.inference.missing import (
    latent_moments, observed_e_step, observed_m_step, observed_statistics, pattern_precisions
)
from teachvae.likelihoods import (
    Bernoulli, Categorical, Gaussian, Mixed, Poisson, PredictedGaussian, StudentT
)
from teachvae.model import Model
from teachvae.networks.convergence import ConvergenceWarning, remaining, settled
from teachvae.networks.layers import Linear, Parallel, Sequential, Sigmoid, Softplus, mlp
from teachvae.networks.optimizers import Adam, SGD
from teachvae.posteriors import DiagonalGaussian, FullGaussian
from teachvae.routes.autoencoder import squared_error

pytestmark = pytest.mark.short                                   # most fits here end early on purpose

# ---- chapter 1 -------------------------------------------------------------------------------


def numeric_gradient(f, p, h=1e-5):
    """∂f/∂p by central differences, shaped like p; f(p) is one number."""
    gradient = np.zeros_like(p)
    for i in np.ndindex(p.shape):
        up, down = p.copy(), p.copy()
        up[i] += h
        down[i] -= h
        gradient[i] = (f(up) - f(down)) / (2 * h)
    return gradient


def monomial_moment(powers):
    """E[Π η_k^a_k] under N(0, I): Π (a_k − 1)!!, 0 where an a_k is odd."""
    return float(np.prod([0 if a % 2 else special.factorial2(a - 1) if a else 1 for a in powers]))


def polynomial(rng, K, degree):
    """A random polynomial of total degree `degree` in K variables, and its exact expectation."""
    powers = [a for a in product(range(degree + 1), repeat=K) if sum(a) <= degree]
    c = rng.standard_normal(len(powers))
    exact = c @ [monomial_moment(a) for a in powers]
    return lambda eta: sum(c_a * np.prod(eta**np.array(a), axis=-1) for c_a, a in zip(c, powers)), exact


def tanh_model(rng, likelihood):
    """K = 1, a decoder that bends, and parameters of which none is 0."""
    model = Model(mlp(1, (4,), likelihood.n_f), likelihood, 1)
    theta = model.init(rng, get_backend())
    theta["decoder"][-1]["b"] += rng.standard_normal(likelihood.n_f)
    return model, theta


@pytest.mark.parametrize("likelihood", [Gaussian(3), Bernoulli(3)], ids=["gaussian", "bernoulli"])
def test_1_3_to_1_9_the_bound_in_its_four_forms_on_a_grid(likelihood):
    rng = np.random.default_rng(1)
    model, theta = tanh_model(rng, likelihood)
    x = (rng.random((5, 3)) < 0.5).astype(float)
    phi = np.stack([rng.normal(0, 0.7, 5), rng.uniform(-1, 0.2, 5)], axis=1)
    z, dz = np.linspace(-12, 12, 6001, retstep=True)
    f, _ = model.decoder.forward(theta["decoder"], z[:, None])
    log_px_z, _ = likelihood.forward(theta["likelihood"], f[:, None, :], x)                # (grid, N)
    log_pz = stats.norm.logpdf(z)[:, None]                                                  # (1.1)
    log_joint = log_px_z + log_pz                                                           # (1.2)
    log_px = special.logsumexp(log_joint, axis=0) + np.log(dz)
    log_q = stats.norm.logpdf(z[:, None], phi[:, 0], np.exp(phi[:, 1]))

    def E(g):
        return np.sum(np.exp(log_q) * g, axis=0) * dz

    Q = -E(log_joint - log_q)                                                               # (1.5)
    assert (Q > -log_px + 1e-3).all()                                                       # (1.4), strictly
    np.testing.assert_allclose(Q, -log_px + E(log_q - (log_joint - log_px)), rtol=1e-10)    # (1.6)
    np.testing.assert_allclose(Q, -E(log_px_z) + E(log_q - log_pz), rtol=1e-10)             # (1.7)
    eta, weights = noise.gauss_hermite(1, 64)
    for kl in ("analytic", "sampled"):                                                      # (1.8), (1.9)
        np.testing.assert_allclose(
            bound.forward(model, theta, phi, x, eta, weights=weights, kl=kl)[0], Q, rtol=1e-7
        )


def test_1_9_has_no_variance_at_the_exact_posterior():
    rng = np.random.default_rng(2)
    W, b, psi, x = linear_case(rng, K=2, D=4)
    model, theta = linear_model(W, b, psi, FullGaussian(2))
    phi = infer.closed_form(model, theta, x)
    exact = stats.multivariate_normal(b, W.T @ W + np.diag(psi)).logpdf(x)
    for eta in rng.standard_normal((5, 1, len(x), 2)):
        Q, _ = bound.forward(model, theta, phi, x, eta, kl="sampled")
        np.testing.assert_allclose(Q, -exact, rtol=1e-10)
        assert np.abs(bound.forward(model, theta, phi, x, eta)[0] + exact).max() > 0.1      # (1.8) has some


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
def test_1_10_to_1_13_gradients_as_written(kl):
    rng = np.random.default_rng(3)
    N, S, D, K = 4, 3, 5, 2
    x = (rng.random((N, D)) < 0.5).astype(float)
    W, b = rng.standard_normal((K, D)), rng.standard_normal(D)
    phi, eta = rng.normal(0, 0.5, (N, 2 * K)), rng.standard_normal((S, N, K))
    w, dQ = rng.uniform(0.1, 1, (S, N)), rng.standard_normal(N)
    m, s = phi[:, :K], np.exp(phi[:, K:])

    def Q(phi):
        m, s = phi[:, :K], np.exp(phi[:, K:])
        z = m + eta * s                                                                     # (1.10)
        f = z @ W + b
        log_p = np.sum(x * f - np.logaddexp(0, f), axis=2)
        log_q, log_pz = stats.norm.logpdf(z, m, s).sum(axis=2), stats.norm.logpdf(z).sum(axis=2)
        if kl == "sampled":
            return np.sum(w * (log_q - log_pz - log_p), axis=0)                             # (1.9)
        return 0.5 * np.sum(m**2 + s**2 - 1 - 2 * np.log(s), axis=1) - np.sum(w * log_p, axis=0)

    z = m + eta * s
    dlog_p = -w * dQ                                                                        # (1.11)
    dz = (dlog_p[:, :, None] * (x - special.expit(z @ W + b))) @ W.T
    if kl == "analytic":                                                                    # (1.12)
        dphi = dQ[:, None] * np.concatenate([m, s**2 - 1], axis=1)
    else:                                                                                   # (1.13)
        u, wdQ = (z - m) / s, (w * dQ)[:, :, None]
        dz = dz + wdQ * (z - u / s)
        dphi = np.concatenate([np.sum(wdQ * u / s, axis=0), np.sum(wdQ * (u**2 - 1), axis=0)], axis=1)
    dphi = dphi + np.concatenate([dz.sum(axis=0), np.sum(dz * eta, axis=0) * s], axis=1)
    np.testing.assert_allclose(dphi, numeric_gradient(lambda p: dQ @ Q(p), phi), rtol=1e-7, atol=1e-8)

    model = Model(Linear(K, D), Bernoulli(D), K)
    theta = {"decoder": {"W": W, "b": b}, "likelihood": {}}
    value, cache = bound.forward(model, theta, phi, x, eta, weights=w, kl=kl)
    np.testing.assert_allclose(value, Q(phi), rtol=1e-12)
    np.testing.assert_allclose(bound.backward(model, theta, cache, dQ)[0], dphi, rtol=1e-12)


@pytest.mark.parametrize("K", [1, 2, 4, 5])
def test_1_14_sigma_points_are_exact_to_degree_three(K):
    rng = np.random.default_rng(K)
    eta, w = noise.sigma_points(K)
    assert eta.shape == (2 * K, 1, K)
    for _ in range(5):
        g, exact = polynomial(rng, K, 3)
        np.testing.assert_allclose(w @ g(eta[:, 0]), exact, atol=1e-12 * 4**K)
    assert w @ eta[:, 0, 0]**4 == pytest.approx(K)                 # and E[η⁴] = 3: degree 4 is not exact


def test_1_15_gauss_hermite_is_exact_to_degree_2r_minus_1_in_each_variable():
    for R in (1, 2, 4):
        eta, w = noise.gauss_hermite(2, R)
        assert eta.shape == (R**2, 1, 2)
        for a in product(range(2 * R), repeat=2):
            moment = w @ np.prod(eta[:, 0] ** np.array(a), axis=1)
            np.testing.assert_allclose(moment, monomial_moment(a), rtol=1e-11, atol=1e-11)
        assert abs(w @ eta[:, 0, 0] ** (2 * R) - monomial_moment([2 * R])) > 0.5


@pytest.mark.parametrize("n_samples, K", [(1, 1), (10, 3), (11, 3), (4, 5)])
def test_1_16_matched_draws_have_the_moments_of_the_normal(n_samples, K):
    rng = np.random.default_rng(0)
    eta, w = noise.matched_draws(rng, n_samples, K)
    H = max(-(-n_samples // 2), K)
    assert eta.shape == (2 * H, 1, K) and np.all(w == 1 / (2 * H))
    np.testing.assert_allclose(eta[:, 0].T @ eta[:, 0] / (2 * H), np.eye(K), atol=1e-10)
    g, exact = polynomial(rng, K, 3)
    np.testing.assert_allclose(w @ g(eta[:, 0]), exact, rtol=1e-9, atol=1e-9)


def test_1_19_the_autoencoders_loss_and_gradient():
    rng = np.random.default_rng(4)
    encoder, decoder, x = mlp(3, (4,), 2), mlp(2, (4,), 3), rng.standard_normal((6, 3))
    params = {"encoder": encoder.init(rng, get_backend()), "decoder": decoder.init(rng, get_backend())}
    f = decoder.forward(params["decoder"], encoder.forward(params["encoder"], x)[0])[0]
    loss, grads = squared_error(encoder, decoder, params, x)
    assert loss == pytest.approx(np.sum((x - f) ** 2) / (2 * len(x)), rel=1e-13)
    report = gradcheck.check(lambda p: squared_error(encoder, decoder, p, x)[0], params, grads)
    assert report.ok, str(report)
    df = numeric_gradient(lambda f: np.sum((x - f) ** 2) / (2 * len(x)), f)
    np.testing.assert_allclose(df, (f - x) / len(x), rtol=1e-8, atol=1e-9)


def test_1_20_1_21_the_gap_of_a_square_is_a_variance():
    """f(u) = u²: E[f(g)] − f(E[g]) is the variance of g."""
    Q, g = np.array([0.2, 0.5, 0.0, 0.3]), np.array([1.0, -2.0, 9.0, 4.0])
    drawn = np.repeat(g, (10 * Q).astype(int))
    assert jensen_discrete(np.square, g, Q).gap == pytest.approx(drawn.var(), rel=1e-13)
    j = jensen_continuous(np.square, np.exp, stats.norm.pdf, (-20, 0, 20))
    assert j.gap == pytest.approx(stats.lognorm(1).var(), rel=1e-9)


def test_1_22_1_23_both_steps_where_q_leaves_out_a_part_of_p():
    """x = 0.3, p(z) = N(0, 1), p(x|z) = N(z, 1/4), q uniform on 0 … 1."""
    def log_joint(z):
        return stats.norm.logpdf(z) + stats.norm.logpdf(0.3, z, 0.5)

    posterior = stats.norm(0.24, np.sqrt(0.2))
    nlml_ = -stats.norm(0, np.sqrt(1.25)).logpdf(0.3)
    z = (np.arange(20000) + 0.5) / 20000                           # midpoints: q is 1 there
    first = -np.log(np.mean(np.exp(log_joint(z))))
    assert first == pytest.approx(nlml_ - np.log(posterior.cdf(1) - posterior.cdf(0)), abs=1e-8)
    Q, kl = -np.mean(log_joint(z)), -np.mean(posterior.logpdf(z))
    assert nlml_ + 0.3 < first < Q - 0.01                          # two steps, both strict
    assert Q - nlml_ == pytest.approx(kl, abs=1e-12)
    assert kl == pytest.approx(np.log(np.exp(Q) * np.exp(-nlml_)), abs=1e-12)
    ours = nlml_as_jensen_continuous(
        log_joint, lambda z: 0.0 if 0 <= z <= 1 else -np.inf, (-12, 0, 1, 12)
    )
    np.testing.assert_allclose(ours[:3], (nlml_, Q, kl), atol=1e-8)

    p, q = np.array([0.1, 0.05, 0.2]), np.array([0.7, 0.3, 0.0])
    ours = nlml_as_jensen_discrete(np.log(p), q)
    expected = -np.log(0.35), stats.entropy(q[:2], p[:2] / 0.15) - np.log(0.15), stats.entropy(q, p / 0.35)
    np.testing.assert_allclose(ours[:3], expected, rtol=1e-13)
    assert -np.log(0.15) > ours.lhs                                # over q > 0 alone there is less p


def test_1_24_to_1_28_estimators_as_written_for_one_latent_variable():
    """x = (0, 1, 1) under logits z W + b, q = N(m, s²): c, its derivatives and their expectations."""
    W, b, x = np.array([1.5, -2.0, 0.7]), np.array([0.2, 0.4, -1.0]), np.array([0.0, 1.0, 1.0])
    m, s = 0.6, 0.7
    eta, w = noise.gauss_hermite(1, 60)
    eta = eta[:, 0, 0]

    def c(z, m, s):
        log_p = stats.bernoulli.logpmf(x, special.expit(np.multiply.outer(z, W) + b)).sum(axis=-1)
        return stats.norm.logpdf(z, m, s) - stats.norm.logpdf(z) - log_p

    def Q(v):                                                      # on a grid, v = (m, log s)
        z, dz = np.linspace(-12, 12, 4001, retstep=True)
        return np.sum(stats.norm.pdf(z, v[0], np.exp(v[1])) * c(z, v[0], np.exp(v[1]))) * dz

    truth = numeric_gradient(Q, np.array([m, np.log(s)]))
    z, h = m + s * eta, 1e-5
    u = np.stack([                                                 # ∂c/∂φ at fixed z: ∂log q/∂φ
        c(z, m + h, s) - c(z, m - h, s), c(z, m, s * np.exp(h)) - c(z, m, s * np.exp(-h))
    ], axis=1) / (2 * h)
    dz = (c(z + h, m, s) - c(z - h, m, s)) / (2 * h)               # ∂c/∂z
    dT = np.stack([np.ones_like(eta), s * eta], axis=1)
    value = c(z, m, s)[:, None]
    path = dz[:, None] * dT
    np.testing.assert_allclose(w @ u, 0, atol=1e-9)                                         # (1.24)
    np.testing.assert_allclose(w @ (value * u), truth, atol=1e-7)                           # (1.25)
    np.testing.assert_allclose(w @ (u + path), truth, atol=1e-7)                            # (1.27)
    np.testing.assert_allclose(w @ path, truth, atol=1e-7)                                  # (1.28)

    # (1.26) with S = 3: every triple of nodes, with the product of their weights
    eta, w = noise.gauss_hermite(1, 24)
    eta = eta[:, 0, 0]
    z = m + s * eta
    value, u = c(z, m, s), np.stack([eta / s, eta**2 - 1], axis=1)
    np.testing.assert_allclose(u[:, 1] / u[:, 0], s * eta - s / eta, rtol=1e-12)
    i, j, k = (a.ravel() for a in np.meshgrid(*[np.arange(24)] * 3, indexing="ij"))
    www = w[i] * w[j] * w[k]
    g1 = (value[i] - (value[j] + value[k]) / 2)[:, None] * u[i]
    g2 = (value[j] - (value[i] + value[k]) / 2)[:, None] * u[j]
    np.testing.assert_allclose(www @ g1, truth, atol=1e-6)
    covariance = www @ np.sum(g1 * g2, axis=1) - truth @ truth
    assert covariance == pytest.approx(truth @ truth / (3 - 1) ** 2, rel=1e-5)

    model = Model(Linear(1, 3), Bernoulli(3), 1)
    theta = {"decoder": {"W": W[None], "b": b}, "likelihood": {}}
    given = model, theta, np.array([[m, np.log(s)]]), x[None]
    three = eta[[3, 11, 17]]
    z = m + s * three
    value, u = c(z, m, s), np.stack([three / s, three**2 - 1], axis=1)
    path = ((c(z + h, m, s) - c(z - h, m, s)) / (2 * h))[:, None] * np.stack([np.ones(3), s * three], axis=1)
    three = three[:, None, None]
    for ours, written in (
        (gradient_estimators.naive(*given, three), u),
        (gradient_estimators.naive(*given, three, kl="analytic"), np.tile([m, s * s - 1], (3, 1))),
        (gradient_estimators.score_function(*given, three), value[:, None] * u),
        (gradient_estimators.score_function(*given, three, baseline="leave-one-out"),
         ((3 * value - value.sum()) / 2)[:, None] * u),
        (gradient_estimators.reparameterised(*given, three, kl="sampled"), u + path),
        (gradient_estimators.without_score_term(*given, three), path),
    ):
        np.testing.assert_allclose(ours[:, 0], written, rtol=1e-6, atol=1e-7)


def test_1_29_minibatches_average_to_the_whole_gradient():
    rng = np.random.default_rng(29)
    model, theta = tanh_model(rng, Gaussian(3))
    x, phi, eta = rng.standard_normal((4, 3)), rng.normal(0, 0.5, (4, 2)), rng.standard_normal((2, 4, 1))
    Q, cache = bound.forward(model, theta, phi, x, eta)
    dphi, dtheta = bound.backward(model, theta, cache, np.ones(4))
    every = [gradient_estimators.minibatch(model, theta, phi, x, eta, rows)
             for rows in ([0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3])]
    np.testing.assert_allclose(np.mean([g for g, _ in every], axis=0), dphi, rtol=1e-12)
    whole = np.mean([tree.flatten(g) for _, g in every], axis=0)
    np.testing.assert_allclose(whole, tree.flatten(dtheta), rtol=1e-11, atol=1e-12)
    one = theta["likelihood"]["log_psi"].copy()                    # and that whole is the gradient of Σ_n Q_n

    def total(log_psi):
        return bound.forward(model, theta | {"likelihood": {"log_psi": log_psi}}, phi, x, eta)[0].sum()

    np.testing.assert_allclose(dtheta["likelihood"]["log_psi"], numeric_gradient(total, one), rtol=1e-6)


# ---- chapter 2 -------------------------------------------------------------------------------


def linear_case(rng, K=3, D=6, N=40):
    """W (K, D), b (D,), psi (D,) and data x (N, D) that this model did not make."""
    W, b, psi = rng.standard_normal((K, D)), rng.standard_normal(D), rng.uniform(0.3, 2, D)
    return W, b, psi, 2 * rng.standard_normal((N, D))


def linear_model(W, b, psi, family):
    K, D = W.shape
    model = Model(Sequential((Linear(K, D),)), Gaussian(D), K, family)
    return model, {"decoder": [{"W": W, "b": b}], "likelihood": {"log_psi": np.log(psi)}}


@pytest.fixture
def linear():
    """A linear model, its dense covariance Sigma, its posterior precision M, and data."""
    W, b, psi, x = linear_case(np.random.default_rng(20))
    return W, b, psi, x, W.T @ W + np.diag(psi), np.eye(3) + W @ np.diag(1 / psi) @ W.T


def test_2_1_the_marginal_is_the_integral():
    W, b, psi, x = linear_case(np.random.default_rng(21), K=2, D=3, N=5)
    W = 0.5 * W
    z, w = noise.gauss_hermite(2, 80)
    p = [[w_s * stats.multivariate_normal(z_s @ W + b, np.diag(psi)).pdf(x_n) for x_n in x[:2]]
         for z_s, w_s in zip(z[:, 0], w) if w_s > 1e-20]
    exact = stats.multivariate_normal(b, W.T @ W + np.diag(psi)).pdf(x[:2])
    np.testing.assert_allclose(np.sum(p, axis=0), exact, rtol=1e-9)


def test_2_2_2_3_the_posterior_is_the_conditional_of_the_joint_gaussian(linear):
    W, b, psi, x, Sigma, M = linear
    gain = W @ np.linalg.inv(Sigma)                                # Cov(z, x) Cov(x)⁻¹
    mean, precision = linear_gaussian.posterior(W, b, psi, x)
    as_written = (x - b) @ np.diag(1 / psi) @ W.T @ np.linalg.inv(M)
    np.testing.assert_allclose(as_written, (x - b) @ gain.T, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(mean, as_written, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(np.linalg.inv(M), np.eye(3) - gain @ W.T, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(precision, M, rtol=1e-13)


def test_2_4_2_5_2_6_determinant_quadratic_form_and_density_against_dense_algebra(linear):
    W, b, psi, x, Sigma, M = linear
    log_det = np.sum(np.log(psi)) + np.linalg.slogdet(M)[1]
    assert log_det == pytest.approx(np.linalg.slogdet(Sigma)[1], rel=1e-12)
    r = x - b
    mean, _ = linear_gaussian.posterior(W, b, psi, x)
    dense = np.sum(r @ np.linalg.inv(Sigma) * r, axis=1)
    quadratic = np.sum(r**2 / psi, axis=1) - np.sum(mean @ M * mean, axis=1)
    np.testing.assert_allclose(quadratic, dense, rtol=1e-11)
    exact = -stats.multivariate_normal(b, Sigma).logpdf(x)
    np.testing.assert_allclose(0.5 * (6 * np.log(2 * np.pi) + log_det + quadratic), exact, rtol=1e-12)
    np.testing.assert_allclose(linear_gaussian.nlml(W, b, psi, x), exact, rtol=1e-12)


def test_2_7_2_8_moments_of_the_data_against_every_data_case(linear):
    W, _, psi, x, Sigma, M = linear
    b = x.mean(axis=0)
    S = (x - b).T @ (x - b) / len(x)
    stats_, mean_nlml = linear_gaussian.e_step_moments(W, psi, S)
    each = -stats.multivariate_normal(b, Sigma).logpdf(x)
    assert mean_nlml == pytest.approx(each.mean(), rel=1e-12)
    beta = np.linalg.inv(M) @ W @ np.diag(1 / psi)
    trace = np.sum(np.diag(S) / psi) - np.trace(W @ np.diag(1 / psi) @ S @ beta.T)
    assert trace == pytest.approx(np.trace(np.linalg.inv(Sigma) @ S), rel=1e-12)
    z = (x - b) @ np.linalg.inv(Sigma) @ W.T
    cov = np.eye(3) - W @ np.linalg.inv(Sigma) @ W.T
    xz = sum(np.outer(x_n - b, z_n) for x_n, z_n in zip(x, z)) / len(x)
    zz = sum(cov + np.outer(z_n, z_n) for z_n in z) / len(x)
    for ours, written, brute in ((stats_.xz, S @ beta.T, xz),
                                 (stats_.zz, np.linalg.inv(M) + beta @ S @ beta.T, zz)):
        np.testing.assert_allclose(written, brute, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(ours, brute, rtol=1e-10, atol=1e-12)


def pseudo_data(family, phi, x):
    """Rows (z, x) whose plain averages are the expectations over data and q: sigma points of every q_n."""
    eta, _ = noise.sigma_points(family.n_latent)
    z, _ = family.sample(phi, eta)                                 # (2K, N, K)
    return z.reshape(-1, family.n_latent), np.tile(x, (len(eta), 1))


@pytest.mark.parametrize("name", GAUSSIANS)
def test_2_9_2_11_2_12_the_m_step_against_a_regression_on_pseudo_data(name, linear):
    x, rng = linear[3] + 1.0, np.random.default_rng(22)
    family = GAUSSIANS[name](3)
    phi = np.concatenate([x[:, :3] / 2, rng.normal(0, 0.4, (len(x), family.n_phi - 3))], axis=1)
    z, x_rows = pseudo_data(family, phi, x)
    s = linear_gaussian.statistics(family, phi, x)
    for ours, brute in ((s.z, z.mean(axis=0)), (s.zz, z.T @ z / len(z)), (s.xz, x_rows.T @ z / len(z)),
                        (s.x, x_rows.mean(axis=0)), (s.xx, np.mean(x_rows**2, axis=0))):
        np.testing.assert_allclose(ours, brute, rtol=1e-11, atol=1e-12)
    design = np.concatenate([z, np.ones((len(z), 1))], axis=1)
    G, _, _, _ = np.linalg.lstsq(design, x_rows, rcond=None)
    residual = np.mean((x_rows - design @ G) ** 2, axis=0)
    W, b, mean_square = linear_gaussian.m_step(s)
    np.testing.assert_allclose(np.concatenate([W, b[None]]), G, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(mean_square, residual, rtol=1e-9)
    A, B = design.T @ design / len(z), x_rows.T @ design / len(z)
    np.testing.assert_allclose(np.linalg.inv(A) @ B.T, G, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(np.mean(x_rows**2, axis=0) - np.sum(G * B.T, axis=0), residual, rtol=1e-9)


def kl_between(q, p, order=6):
    """KL(q ‖ p) of two frozen scipy Gaussians, by quadrature."""
    eta, w = noise.gauss_hermite(len(q.mean), order)
    z = q.mean + eta[:, 0] @ np.linalg.cholesky(q.cov).T
    return w @ (q.logpdf(z) - p.logpdf(z))


def test_2_10_the_closest_diagonal_gaussian_and_its_gap(linear):
    W, b, psi, x, _, M = linear
    rng = np.random.default_rng(23)
    mean = rng.standard_normal(3)
    p = stats.multivariate_normal(mean, np.linalg.inv(M))
    A, m = rng.standard_normal((3, 3)), rng.standard_normal(3)
    C = A @ A.T + np.eye(3)
    written = np.trace(M @ C) - 3 - np.log(np.linalg.det(M) * np.linalg.det(C)) + (m - mean) @ M @ (m - mean)
    assert written / 2 == pytest.approx(kl_between(stats.multivariate_normal(m, C), p), rel=1e-10)

    def kl(v):
        return kl_between(stats.multivariate_normal(v[:3], np.diag(np.exp(2 * v[3:]))), p, order=2)

    best = optimize.minimize(kl, np.zeros(6), method="BFGS", options={"gtol": 1e-6})
    np.testing.assert_allclose(best.x[:3], mean, atol=1e-5)
    np.testing.assert_allclose(np.exp(2 * best.x[3:]), 1 / np.diag(M), rtol=1e-5)
    gap = 0.5 * (np.sum(np.log(np.diag(M))) - np.linalg.slogdet(M)[1])
    assert gap > 0.1 and best.fun == pytest.approx(gap, rel=1e-8)
    assert linear_gaussian.mean_field_gap(W, psi) == pytest.approx(gap, rel=1e-12)

    exact = -stats.multivariate_normal(b, W.T @ W + np.diag(psi)).logpdf(x)
    for family, missed in ((DiagonalGaussian(3), gap), (FullGaussian(3), 0)):
        model, theta = linear_model(W, b, psi, family)
        phi = infer.closed_form(model, theta, x)
        Q = linear_gaussian.bound(W, b, psi, phi, family, x)
        np.testing.assert_allclose(Q - exact, missed, atol=1e-10)  # the same for every x


@pytest.mark.parametrize("name", GAUSSIANS)
def test_2_25_the_moments_of_the_best_table_without_the_table(name, linear):
    W, _, psi, x, _, _ = linear
    family = GAUSSIANS[name](3)
    b = x.mean(axis=0)
    model, theta = linear_model(W, b, psi, family)
    phi = infer.closed_form(model, theta, x)
    table = linear_gaussian.statistics(family, phi, x - b)
    S = (x - b).T @ (x - b) / len(x)
    without, Q = linear_gaussian.e_step_moments(W, psi, S, family)
    for field, expected in table._asdict().items():
        np.testing.assert_allclose(getattr(without, field), expected, rtol=1e-10, atol=1e-12)
    assert Q == pytest.approx(linear_gaussian.bound(W, b, psi, phi, family, x).mean(), rel=1e-12)


def test_2_26_a_step_that_is_too_long_is_taken_back(monkeypatch):
    """A quadratic with slow and fast directions: every step that is kept lowers f, to one end."""
    curvature, taken = np.array([1.0, 0.01]), []

    class Problem:
        def e_step(self, p):
            taken.append(p.W[0].copy())
            return p, float(0.5 * np.sum(curvature * p.W[0] ** 2) + np.sum(p.psi - np.log(p.psi)))

        def m_step(self, p):
            return em.Parameters(p.W - 0.5 * curvature * p.W, np.zeros(2), 1 + 0.9 * (p.psi - 1))

        def widened(self, p, stats):
            return p

        def turned(self, p):
            return p

        def floored(self, psi):
            return psi

    start = em.Parameters(np.array([[1.0, 1.0]]), np.zeros(2), np.array([3.0, 0.3]))
    ends = {}
    for lengthening in (1.0, 1.1):
        taken.clear()
        monkeypatch.setattr(em, "LENGTHENING", lengthening)
        *_, ((W, _, psi), path, converged, _) = em.em(Problem(), start, tol=1e-12)
        assert converged and (np.diff(path) <= 1e-14 * path[-1]).all()
        assert path[-1] == pytest.approx(2, abs=1e-10)
        ends[lengthening] = len(path), len(taken)
        np.testing.assert_allclose(psi, 1, atol=1e-4)
    (plain, _), (longer, tries) = ends[1.0], ends[1.1]
    assert tries > longer, "some steps were too long"
    assert tries < plain / 3
    # a length is the factor by which the slow direction moves further
    first, second = taken[0], taken[1]
    np.testing.assert_allclose(first - second, 1.1 * 0.5 * curvature * first, rtol=1e-12)


@pytest.mark.parametrize("noise", ["isotropic", 0.5])
def test_2_26_takes_nothing_back_for_a_rise_by_rounding(noise, monkeypatch):
    """With one ψ the start is the maximum already: what rises there is rounding."""
    steps, e_step = [], linear_gaussian.e_step_moments
    monkeypatch.setattr(linear_gaussian, "e_step_moments", lambda *given: steps.append(0) or e_step(*given))
    for K in (2, 3, 5):
        x = datasets.linear_gaussian(n_cases=500, n_visible=10, n_latent=3).x
        steps.clear()
        fitted = FactorAnalysis(K, noise=noise).fit(x)
        assert len(steps) == fitted.n_iter_ + 1 <= 5


def test_2_26_arrives_at_a_heywood_case_where_plain_em_crawls(monkeypatch):
    """Five factors for three: two noise variances belong at the floor, which EM alone does not reach."""
    x = datasets.linear_gaussian(n_cases=300, n_visible=10, n_latent=3).x
    with pytest.warns(HeywoodWarning):
        fitted = FactorAnalysis(5).fit(x)
    assert fitted.converged_ and fitted.n_iter_ < 5000
    monkeypatch.setattr(em, "LENGTHENING", 1.0)
    with pytest.warns(ConvergenceWarning):
        plain = FactorAnalysis(5, max_iter=5000).fit(x)
    ratio = fitted.noise_variance_ / plain.noise_variance_
    assert (ratio[fitted.heywood_] < 0.01).all(), "on its way there"

    S = np.cov(x.T, bias=True)                                     # the second road: L-BFGS on W and log ψ

    def nlml_(v):
        W, psi = v[:50].reshape(5, 10), np.exp(v[50:])
        Sigma = W.T @ W + np.diag(psi)
        inverse = np.linalg.inv(Sigma)
        G = inverse - inverse @ S @ inverse                        # 2 ∂/∂Σ
        value = 0.5 * (10 * np.log(2 * np.pi) + np.linalg.slogdet(Sigma)[1] + np.trace(inverse @ S))
        return value, np.concatenate([(W @ G).ravel(), 0.5 * np.diag(G) * psi])

    start = np.concatenate([plain.theta_["decoder"][0]["W"].ravel(), np.log(plain.noise_variance_)])
    lower = np.concatenate([np.full(50, -np.inf), np.log(1e-6 * np.diag(S))])
    found = optimize.minimize(
        nlml_, start, jac=True, method="L-BFGS-B", bounds=optimize.Bounds(lower, np.inf),
        options={"maxiter": 20000, "maxfun": 40000, "ftol": 1e-16, "gtol": 1e-9},
    )
    assert -1e-9 < fitted.nlml_path_[-1] - found.fun < 1e-5
    assert plain.nlml_path_[-1] - found.fun > 1e-4


def test_2_24_the_wider_model_is_the_same_model(linear):
    W, b, psi, x, _, _ = linear
    rng = np.random.default_rng(29)
    a, A = rng.standard_normal(3), rng.standard_normal((3, 3))
    R = A @ A.T
    W_narrow, b_narrow = linear_gaussian.expanded(W, b, a, R + np.outer(a, a))
    np.testing.assert_allclose(W_narrow.T @ W_narrow, W.T @ R @ W, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(b_narrow, b + a @ W, rtol=1e-12)
    # a and R are the mean and the covariance that give E[log N(z; a, R)] its maximum, over data and q
    mean = rng.multivariate_normal(a, R, 50)
    C = np.array([0.3 * np.eye(3), 0.1 * R])[rng.integers(2, size=50)]
    seen = rng.random((50, 6)) < 0.5
    moments_ = observed_statistics(mean, C, rng.standard_normal((50, 6)), seen.astype(float))
    best, second = latent_moments(moments_)
    spread = second - np.outer(best, best)

    def mean_log(a, R):
        inside = stats.multivariate_normal(a, R).logpdf(mean).mean()
        return inside - 0.5 * np.trace(np.linalg.inv(R) @ C.mean(axis=0))

    for sign in (1, -1) * 10:
        da, dR = 0.1 * rng.standard_normal(3), 0.1 * rng.standard_normal((3, 3))
        assert mean_log(best, spread) > mean_log(best + da, spread)
        assert mean_log(best, spread) > mean_log(best, spread + sign * dR @ dR.T)


def test_2_24_leads_where_plain_em_leads_in_a_tenth_of_its_iterations():
    rng = np.random.default_rng(30)
    W = rng.standard_normal((10, 100))
    psi = np.exp(rng.uniform(-2, 2, 100))
    x = rng.standard_normal((1000, 10)) @ W + np.sqrt(psi) * rng.standard_normal((1000, 100))
    x -= x.mean(axis=0)
    S = x.T @ x / len(x)
    fitted = FactorAnalysis(10, tol=1e-10).fit(x)

    W, psi = np.linalg.svd(x, full_matrices=False)[2][:10], np.diag(S) / 2
    for iteration in range(5000):                                  # EM as Rubin & Thayer (1982) write it
        beta = W @ np.linalg.inv(W.T @ W + np.diag(psi))
        W = np.linalg.solve(np.eye(10) - beta @ W.T + beta @ S @ beta.T, beta @ S)
        psi = np.diag(S - W.T @ beta @ S)
        if iteration % 100 == 0:
            nlml = -stats.multivariate_normal(np.zeros(100), W.T @ W + np.diag(psi)).logpdf(x).mean()
            if nlml < fitted.nlml_path_[-1] + 1e-6:
                break
    assert iteration >= 10 * fitted.n_iter_                        # with (2.26) on top
    assert nlml == pytest.approx(fitted.nlml_path_[-1], abs=2e-6)
    np.testing.assert_allclose(psi, fitted.noise_variance_, rtol=1e-2)


@pytest.mark.parametrize("name", GAUSSIANS)
def test_2_13_the_bound_against_quadrature(name, linear):
    W, b, psi, x, _, _ = linear
    family = GAUSSIANS[name](3)
    phi = np.random.default_rng(24).normal(0, 0.6, (len(x), family.n_phi))
    eta, w = noise.gauss_hermite(3, 4)
    m, C = family.mean(phi), family.covariance(phi)
    Q = []
    for m_n, C_n, x_n in zip(m, C, x):
        z = m_n + eta[:, 0] @ np.linalg.cholesky(C_n).T
        log_p = [stats.norm.logpdf(x_n, z_s @ W + b, np.sqrt(psi)).sum() for z_s in z]
        prior = stats.multivariate_normal(np.zeros(3), np.eye(3))
        Q.append(kl_between(stats.multivariate_normal(m_n, C_n), prior, order=4) - w @ log_p)
    np.testing.assert_allclose(linear_gaussian.bound(W, b, psi, phi, family, x), Q, rtol=1e-10)
    r = x - b - m @ W
    written = [np.trace(C_n @ W @ np.diag(1 / psi) @ W.T) for C_n in C] + np.sum(r**2 / psi, axis=1)
    written = family.kl(phi)[0] + 0.5 * (6 * np.log(2 * np.pi) + np.sum(np.log(psi)) + written)
    np.testing.assert_allclose(written, Q, rtol=1e-10)


def test_2_14_the_canonical_rotation_changes_nothing_that_data_can_see(linear):
    W, _, psi, _, _, _ = linear
    canonical = linear_gaussian.canonical(W, psi)
    np.testing.assert_allclose(canonical.T @ canonical, W.T @ W, rtol=1e-10, atol=1e-12)
    L = canonical @ np.diag(1 / psi) @ canonical.T
    np.testing.assert_allclose(L, np.diag(np.diag(L)), atol=1e-10)
    eigenvalues = np.linalg.eigvalsh(W @ np.diag(1 / psi) @ W.T)[::-1]
    np.testing.assert_allclose(np.diag(L), eigenvalues, rtol=1e-10)
    largest = np.argmax(np.abs(canonical), axis=1)
    assert (canonical[np.arange(3), largest] > 0).all()
    assert linear_gaussian.mean_field_gap(canonical, psi) == pytest.approx(0, abs=1e-12)
    assert linear_gaussian.mean_field_gap(W, psi) > 0.1


def start(S, K, likelihood, noise_):
    return em.start(S, K, likelihood, noise_, likelihood.lower_bounds(np.diag(S), 1e-6))


def test_2_15_the_start_of_em():
    rng = np.random.default_rng(25)
    D, K = 8, 2
    loadings = rng.uniform(0.6, 0.85, (K, D)) * (np.arange(D) % K == np.arange(K)[:, None])
    scale = rng.uniform(0.1, 10, D)
    R = loadings.T @ loadings
    R += np.diag(1 - np.diag(R))
    S, noise_ = R * np.outer(scale, scale), rng.standard_normal((D, K))
    W, psi = start(S, K, Gaussian(D), noise_)

    assert f"T = {em.POWER_ITERATIONS} power iterations" in all_cards()["2.15"].text
    directions = W / scale                                         # rows, still at right angles
    gram = directions @ directions.T
    np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-12)
    V, _ = np.linalg.qr(np.linalg.matrix_power(R, em.POWER_ITERATIONS) @ noise_)
    unit = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    np.testing.assert_allclose(unit.T @ unit, V @ V.T, atol=1e-9)  # the same subspace
    explained = np.sum(unit @ R * unit, axis=1)
    excess = explained - (D - explained.sum()) / (D - K)
    assert (excess > 0.1).all() and (psi / np.diag(S) > 0.1).all()  # nothing is cut off here, so:
    np.testing.assert_allclose(np.diag(gram), excess, rtol=1e-10)
    np.testing.assert_allclose(np.diag(W.T @ W) + psi, np.diag(S), rtol=1e-12)

    W, psi = start(np.eye(D), K, Gaussian(D), noise_)  # no factor at all: all is cut off
    np.testing.assert_allclose(np.sum(W**2, axis=1), 0.1, rtol=1e-10)
    one = start(np.ones((3, 3)) + 1e-9 * np.eye(3), 1, Gaussian(3), noise_[:3, :1])
    np.testing.assert_allclose(one[1], 0.1, rtol=1e-6)             # one factor that explains all


@pytest.mark.parametrize("mode", ["isotropic", 0.6])
def test_2_16_the_maximum_in_closed_form(mode):
    rng = np.random.default_rng(26)
    D, K = 5, 3
    vectors, _ = np.linalg.qr(rng.standard_normal((D, D)))
    S = vectors @ np.diag([4, 1.5, 0.5, 0.3, 0.1]) @ vectors.T
    values, vectors = np.linalg.eigh(S)
    values, vectors = values[::-1], vectors[:, ::-1]
    sigma2 = values[K:].mean() if mode == "isotropic" else mode
    assert mode == "isotropic" or values[K - 1] < mode             # the fixed variance cuts one factor off
    W, psi = start(S, K, Gaussian(D, mode), None)
    written = np.sqrt(np.maximum(values[:K] - sigma2, 0))[:, None] * vectors[:, :K].T
    np.testing.assert_allclose(psi, sigma2, rtol=1e-12)
    np.testing.assert_allclose(W.T @ W, written.T @ written, rtol=1e-9, atol=1e-10)

    def dense(W, sigma2):
        Sigma = W.T @ W + sigma2 * np.eye(D)
        trace = np.trace(np.linalg.solve(Sigma, S))
        return 0.5 * (D * np.log(2 * np.pi) + np.linalg.slogdet(Sigma)[1] + trace)

    gamma = np.where(np.arange(D) < K, np.maximum(values, sigma2), sigma2)
    at_maximum = 0.5 * (D * np.log(2 * np.pi) + np.sum(np.log(gamma) + values / gamma))
    assert dense(W, psi[0]) == pytest.approx(at_maximum, rel=1e-11)
    assert linear_gaussian.e_step_moments(W, psi, S)[1] == pytest.approx(at_maximum, rel=1e-11)

    def objective(v):
        return dense(v[1:].reshape(K, D), np.exp(v[0]) if mode == "isotropic" else mode)

    singular = S - values[4] * np.outer(vectors[:, 4], vectors[:, 4])  # four factors explain all of it
    floor = 1e-6 * np.diag(singular).mean() if mode == "isotropic" else mode
    np.testing.assert_allclose(start(singular, 4, Gaussian(D, mode), None)[1], floor, rtol=1e-12)

    searched = optimize.minimize(objective, rng.standard_normal(1 + K * D), options={"gtol": 1e-5})
    assert searched.fun == pytest.approx(at_maximum, abs=1e-8)


def test_2_17_the_moments_of_blocks_far_from_the_origin(monkeypatch):
    """Against the moments of the same numbers near the origin, for 37 rows in blocks of 5."""
    near = np.random.default_rng(27).integers(-8, 9, (37, 3)) / 8  # exact, and so is what is added
    far = near + np.array([2.0**24, -(2.0**20), 0.0])
    a = far[:5].mean(axis=0)
    delta = (far - a).mean(axis=0)
    written = (far - a).T @ (far - a) - 37 * np.outer(delta, delta)
    exact = 37 * np.cov(near.T, bias=True)
    np.testing.assert_allclose(written, exact, rtol=1e-12, atol=1e-12)
    monkeypatch.setattr(rows_of_arrays, "CASES", 5)
    ours = moments.moments(far)
    assert ours.n_cases == 37
    np.testing.assert_allclose(ours.mean, a + delta, rtol=1e-14)
    np.testing.assert_allclose(ours.mean, near.mean(axis=0) + [2.0**24, -(2.0**20), 0.0], rtol=1e-14)
    np.testing.assert_allclose(ours.scatter, exact, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(ours.covariance, exact / 37, rtol=1e-12, atol=1e-12)
    naive = far.T @ far - 37 * np.outer(far.mean(axis=0), far.mean(axis=0))  # a = 0
    assert np.abs(naive - exact).max() > 0.01


def test_2_18_moments_merge_in_any_order():
    x = np.random.default_rng(28).standard_normal((30, 4)) + [0, 3, -5, 1e6]
    parts = [moments.moments(part) for part in (x[:2] + 4, x[2:11], x[11:])]
    x = np.concatenate([x[:2] + 4, x[2:]])
    one, two = parts[0], parts[2]
    N, delta = one.n_cases + two.n_cases, two.mean - one.mean
    both = np.concatenate([x[:2], x[11:]])
    written = one.scatter + two.scatter + one.n_cases * two.n_cases / N * np.outer(delta, delta)
    np.testing.assert_allclose(written, len(both) * np.cov(both.T, bias=True), rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose((one + two).scatter, written, rtol=1e-13)
    np.testing.assert_allclose((one + two).mean, both.mean(axis=0), rtol=1e-13)
    for a, b, c in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
        for whole in ((parts[a] + parts[b]) + parts[c], parts[a] + (parts[b] + parts[c])):
            assert whole.n_cases == 30
            np.testing.assert_allclose(whole.mean, x.mean(axis=0), rtol=1e-13)
            np.testing.assert_allclose(whole.covariance, np.cov(x.T, bias=True), rtol=1e-7, atol=1e-7)


@pytest.fixture
def gaps_in_linear():
    """A linear model, data with wrong numbers in place of the missing ones, and which were observed."""
    W, b, psi, x = linear_case(np.random.default_rng(29), N=24)
    seen = np.random.default_rng(30).random(x.shape) < 0.6
    seen[:3], seen[3:5] = seen[5:8], [[False] * 6, [True] * 6]     # patterns that recur; nothing, everything
    return W, b, psi, np.where(seen, x, 77.0), seen


def test_2_19_2_20_2_21_missing_entries_against_the_dense_sub_vector(gaps_in_linear):
    W, b, psi, x, seen = gaps_in_linear
    Sigma, mask = W.T @ W + np.diag(psi), 1.0 * seen
    mean, M = linear_gaussian.posterior(W, b, psi, x, mask)
    e_mean, covariance, e_nlml = observed_e_step(W, b, psi, x, mask)
    nlml_ = linear_gaussian.nlml(W, b, psi, x, mask)
    full = FullGaussian(3)
    Q = linear_gaussian.bound(W, b, psi, full.closest(mean, M), full, x, mask)
    for n, o in enumerate(seen):
        O, r = np.diag(1.0 * o), np.where(o, x[n] - b, 0)
        M_n = np.eye(3) + W @ np.diag(1 / psi) @ O @ W.T                                    # (2.19)
        m_n = r @ np.diag(1 / psi) @ W.T @ np.linalg.inv(M_n)                               # (2.20)
        own = np.sum(((x[n] - b) ** 2 / psi + np.log(psi) + np.log(2 * np.pi))[o])
        nlml_n = 0.5 * (own + np.linalg.slogdet(M_n)[1] - r / psi @ W.T @ m_n)              # (2.21)
        gain = W[:, o] @ np.linalg.inv(Sigma[np.ix_(o, o)]) if o.any() else np.zeros((3, 0))
        np.testing.assert_allclose(np.linalg.inv(M_n), np.eye(3) - gain @ W[:, o].T, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(m_n, gain @ (x[n] - b)[o], rtol=1e-9, atol=1e-12)
        exact = -stats.multivariate_normal(b[o], Sigma[np.ix_(o, o)]).logpdf(x[n, o]) if o.any() else 0
        assert nlml_n == pytest.approx(exact, rel=1e-11, abs=1e-12)
        np.testing.assert_allclose(M[n], M_n, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(covariance[n], np.linalg.inv(M_n), rtol=1e-10, atol=1e-13)
        for ours in (mean[n], e_mean[n]):
            np.testing.assert_allclose(ours, m_n, rtol=1e-10, atol=1e-12)
        for ours in (nlml_[n], e_nlml[n], Q[n]):                   # (2.13), at the posterior
            assert ours == pytest.approx(exact, rel=1e-10, abs=1e-11)
    M, place = pattern_precisions(W, psi, mask)
    assert len(M) == len(np.unique(seen, axis=0)) < len(x) and place[:3] == place[5:8]
    diagonal = DiagonalGaussian(3)                                 # the gap of (2.10), for every pattern
    Q = linear_gaussian.bound(W, b, psi, diagonal.closest(mean, M[place]), diagonal, x, mask)
    gap = [0.5 * (np.sum(np.log(np.diag(m))) - np.linalg.slogdet(m)[1]) for m in M[place]]
    np.testing.assert_allclose(Q - nlml_, gap, atol=1e-10)
    assert np.ptp(gap) > 0.1


@pytest.mark.parametrize("name", GAUSSIANS)
def test_2_22_2_23_the_m_step_with_missing_entries_against_a_search(name, gaps_in_linear):
    """The expected complete-data log likelihood, on sigma points of every q_n, over W, b and psi at once."""
    x, seen = gaps_in_linear[3:]
    x, seen = x[:, :3], seen[:, :3]
    rng, family = np.random.default_rng(31), GAUSSIANS[name](2)
    phi = np.concatenate([x[:, :2] / 40, rng.normal(0, 0.4, (len(x), family.n_phi - 2))], axis=1)
    z, rows = pseudo_data(family, phi, x)
    weight = np.tile(seen, (len(z) // len(x), 1)) / (len(z) // len(x))

    def cost(v):
        W, b, log_psi = v[:6].reshape(2, 3), v[6:9], v[9:]
        terms = -stats.norm.logpdf(rows, z @ W + b, np.exp(0.5 * log_psi))
        slope = weight * (z @ W + b - rows) * np.exp(-log_psi)
        dlog_psi = 0.5 * np.sum(weight - slope * (z @ W + b - rows), axis=0)
        return np.sum(weight * terms), np.concatenate([(z.T @ slope).ravel(), slope.sum(axis=0), dlog_psi])

    start = np.concatenate([np.zeros(6), x.mean(axis=0), np.log(x.var(axis=0))])
    best = optimize.minimize(cost, start, jac=True, options={"gtol": 1e-7, "maxiter": 2000})
    moments_ = family.mean(phi), family.covariance(phi)
    s = observed_statistics(*moments_, x, 1.0 * seen)
    W, b, v = observed_m_step(s)
    np.testing.assert_allclose(np.concatenate([W.ravel(), b]), best.x[:9], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(np.log(v), best.x[9:], atol=1e-5)
    assert cost(np.concatenate([W.ravel(), b, np.log(v)]))[0] <= best.fun + 1e-9
    design = np.concatenate([z, np.ones((len(z), 1))], axis=1)
    for d in range(3):
        o = weight[:, d] > 0
        zz, xz = (design * weight[:, [d]]).T @ design, (weight[:, d] * rows[:, d]) @ design
        np.testing.assert_allclose(s.zz[d], zz, rtol=1e-10, atol=1e-11)                     # (2.22)
        np.testing.assert_allclose(s.xz[d], xz, rtol=1e-10, atol=1e-11)
        assert s.xx[d] == pytest.approx(np.sum(x[seen[:, d], d] ** 2), rel=1e-12)
        assert s.count[d] == seen[:, d].sum()
        G = np.linalg.lstsq(design[o], rows[o, d], rcond=None)[0]                           # (2.23)
        np.testing.assert_allclose(np.append(W[:, d], b[d]), G, rtol=1e-9, atol=1e-10)
        assert v[d] == pytest.approx(np.mean((rows[o, d] - design[o] @ G) ** 2), rel=1e-9)
    blocks = [observed_statistics(*(m[i] for m in moments_), x[i], 1.0 * seen[i])
              for i in (slice(0, 9), slice(9, None))]
    for whole, *part in zip(s, *blocks):
        np.testing.assert_allclose(np.sum(part, axis=0), whole, rtol=1e-12)
    whole = observed_statistics(*moments_, x, np.ones_like(x))              # all observed:
    for ours, before in zip(observed_m_step(whole),                         # (2.11), (2.12)
                            linear_gaussian.m_step(linear_gaussian.statistics(family, phi, x))):
        np.testing.assert_allclose(ours, before, rtol=1e-9)


# ---- chapter 3 -------------------------------------------------------------------------------


def family_case(name, K=3, N=4, S=5):
    """A family, φ (N, n_phi), and per data case the mean, the Cholesky factor and a scipy Gaussian."""
    rng = np.random.default_rng(30)
    q = GAUSSIANS[name](K)
    phi = rng.normal(0, 0.6, (N, q.n_phi))
    m, L = phi[:, :K], np.zeros((N, K, K))
    if name == "diagonal":
        L[:, range(K), range(K)] = np.exp(phi[:, K:])
    else:
        rows, columns = np.tril_indices(K)                         # row by row, as stored
        L[:, rows, columns] = phi[:, K:]
        L[:, range(K), range(K)] = np.exp(L[:, range(K), range(K)])
    gaussians = [stats.multivariate_normal(m_n, L_n @ L_n.T) for m_n, L_n in zip(m, L)]
    return q, phi, m, L, gaussians, rng.standard_normal((S, N, K)), rng.standard_normal((S, N))


@pytest.mark.parametrize("name", GAUSSIANS)
def test_3_sample_kl_and_density_against_scipy(name):
    q, phi, m, L, gaussians, eta, _ = family_case(name)
    K = 3
    z, _ = q.sample(phi, eta)                                      # (3.1), (3.13)
    np.testing.assert_allclose(z, m + np.einsum("snl,nkl->snk", eta, L), rtol=1e-12)
    log_q, _ = q.log_prob(phi, z)                                  # (3.7), (3.19)
    exact = np.stack([g.logpdf(z[:, n]) for n, g in enumerate(gaussians)], axis=1)
    np.testing.assert_allclose(log_q, exact, rtol=1e-11)
    prior = stats.multivariate_normal(np.zeros(K), np.eye(K))
    kl = [kl_between(g, prior) for g in gaussians]
    diagonal = np.einsum("nkk->nk", L)
    written = 0.5 * (np.sum(L**2, axis=(1, 2)) + np.sum(m**2, axis=1) - K) - np.log(diagonal).sum(axis=1)
    np.testing.assert_allclose(written, kl, rtol=1e-10)            # (3.16), and (3.4) where L is diagonal
    np.testing.assert_allclose(q.kl(phi)[0], kl, rtol=1e-10)


def pack(name, dm, dL, L):
    """∂/∂φ from ∂/∂m and ∂/∂L, (3.12); for the diagonal family likewise ∂/∂log s_k = s_k ∂/∂L_kk."""
    K = dm.shape[1]
    diagonal = np.arange(K), np.arange(K)
    dL = dL.copy()
    dL[:, *diagonal] *= L[:, *diagonal]
    rows, columns = diagonal if name == "diagonal" else np.tril_indices(K)
    return np.concatenate([dm, dL[:, rows, columns]], axis=1)


@pytest.mark.parametrize("name", GAUSSIANS)
def test_3_gradients_as_written(name):
    q, phi, m, L, gaussians, eta, c = family_case(name)
    z, cache = q.sample(phi, eta)
    inverse = np.stack([np.diag(1 / np.diag(L_n)) for L_n in L])

    dz = np.random.default_rng(31).standard_normal(z.shape)        # (3.2), (3.3), (3.14), (3.15)
    written = pack(name, dz.sum(axis=0), np.einsum("snk,snl->nkl", dz, eta), L)
    numeric = numeric_gradient(lambda p: np.sum(dz * q.sample(p, eta)[0]), phi)
    np.testing.assert_allclose(written, numeric, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(q.sample_backward(cache, dz), written, rtol=1e-11)

    dkl = c[0]                                                     # (3.5), (3.6), (3.17), (3.18)
    written = pack(name, dkl[:, None] * m, dkl[:, None, None] * (L - inverse), L)
    numeric = numeric_gradient(lambda p: dkl @ q.kl(p)[0], phi)
    np.testing.assert_allclose(written, numeric, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(q.kl_backward(q.kl(phi)[1], dkl), written, rtol=1e-11, atol=1e-14)

    u = np.stack([(z[:, n] - m[n]) @ np.linalg.inv(L[n]).T for n in range(len(m))], axis=1)
    dz = -c[:, :, None] * np.stack([u[:, n] @ np.linalg.inv(L[n]) for n in range(len(m))], axis=1)
    by_z = numeric_gradient(
        lambda v: sum(c[:, n] @ g.logpdf(v[:, n]) for n, g in enumerate(gaussians)), z
    )
    np.testing.assert_allclose(dz, by_z, rtol=1e-7, atol=1e-8)     # (3.8), (3.20)
    dL = -np.einsum("snk,snl->nkl", dz, u) - c.sum(axis=0)[:, None, None] * inverse
    written = pack(name, -dz.sum(axis=0), dL, L)                   # (3.9), (3.10), (3.21), (3.22)
    numeric = numeric_gradient(lambda p: np.sum(c * q.log_prob(p, z)[0]), phi)
    np.testing.assert_allclose(written, numeric, rtol=1e-6, atol=1e-7)
    dphi, dz_code = q.log_prob_backward(q.log_prob(phi, z)[1], c)
    np.testing.assert_allclose(dphi, written, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(dz_code, dz, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", GAUSSIANS)
def test_3_11_3_23_the_fisher_information_by_quadrature_of_score_outer_products(name):
    q, phi, _, L, _, _, _ = family_case(name)
    eta, w = noise.gauss_hermite(3, 4)
    F_inverse = []
    for phi_n in phi:
        z, _ = q.sample(phi_n[None], eta)
        h = 1e-5 * np.eye(q.n_phi)
        score = np.stack([
            (q.log_prob((phi_n + step)[None], z)[0] - q.log_prob((phi_n - step)[None], z)[0])[:, 0] / 2e-5
            for step in h
        ], axis=1)                                                 # (nodes, n_phi), by differences
        F_inverse.append(np.linalg.inv(score.T @ (w[:, None] * score)))
    exact = np.einsum("npp->np", np.stack(F_inverse))
    ours = q.natural_scale(phi)
    if name == "diagonal":
        s = np.exp(phi[:, 3:])
        np.testing.assert_allclose(ours, np.concatenate([s**2, np.full_like(s, 0.5)], axis=1), rtol=1e-12)
        np.testing.assert_allclose(F_inverse, [np.diag(scale) for scale in ours], atol=1e-7)
        return
    rows, columns = np.tril_indices(3)
    C = L @ np.swapaxes(L, 1, 2)
    for n in range(len(phi)):
        np.testing.assert_allclose(ours[n, :3], np.diag(C[n]), rtol=1e-12)
        np.testing.assert_allclose(exact[n, :3], np.diag(C[n]), rtol=1e-6)
        for place, (i, j) in enumerate(zip(rows, columns), start=3):
            if i == j:
                assert ours[n, place] == 0.5 and exact[n, place] == pytest.approx(0.5, rel=1e-6)
            else:
                smaller = 0.5 * L[n, i, j] ** 2 + np.sum(L[n, i, j + 1 : i + 1] ** 2)
                assert exact[n, place] == pytest.approx(smaller, rel=1e-6)
                assert ours[n, place] == pytest.approx(C[n, i, i], rel=1e-12) and ours[n, place] >= smaller


# ---- chapters 4 and 5 ------------------------------------------------------------------------


def test_4_9_4_11_the_safe_forms_are_the_functions():
    x = np.concatenate([np.linspace(-40, 40, 81), [-800.0, 800.0]])[:, None]
    np.testing.assert_allclose(Sigmoid().forward({}, x)[0], special.expit(x), rtol=1e-12, atol=1e-16)
    np.testing.assert_allclose(Softplus().forward({}, x)[0], np.logaddexp(0, x), rtol=1e-14)


def test_4_17_to_4_20_the_decoders_that_made_data():
    rng = np.random.default_rng(40)
    z, df = rng.standard_normal((6, 1)), rng.standard_normal((6, 2))
    spiral = datasets.Spiral(0.4, 2.0)
    f, cache = spiral.forward({}, z)
    np.testing.assert_allclose(f[:, 0] + 1j * f[:, 1], np.exp((0.4 + 2j) * z[:, 0]), rtol=1e-13)
    written = (0.4 * f[:, 0] - 2 * f[:, 1]) * df[:, 0] + (0.4 * f[:, 1] + 2 * f[:, 0]) * df[:, 1]
    numeric = numeric_gradient(lambda v: np.sum(df * spiral.forward({}, v)[0]), z)
    np.testing.assert_allclose(written[:, None], numeric, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(spiral.backward({}, cache, df)[0], written[:, None], rtol=1e-13)

    sheet, r = datasets.BentSheet(1.3), 1.3
    z, df = rng.standard_normal((6, 2)), rng.standard_normal((6, 3))
    f, cache = sheet.forward({}, z)
    np.testing.assert_allclose(f[:, 0] ** 2 + (f[:, 2] - r) ** 2, r**2, rtol=1e-13)       # on the cylinder
    written = np.stack([np.cos(z[:, 0] / r) * df[:, 0] + np.sin(z[:, 0] / r) * df[:, 2], df[:, 1]], axis=1)
    numeric = numeric_gradient(lambda v: np.sum(df * sheet.forward({}, v)[0]), z)
    np.testing.assert_allclose(written, numeric, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(sheet.backward({}, cache, df)[0], written, rtol=1e-13)


def test_5_1_5_7_log_likelihoods_are_scipys():
    rng = np.random.default_rng(50)
    f, psi = rng.standard_normal((3, 4, 5)), rng.uniform(0.3, 2, 5)
    x = rng.standard_normal((4, 5))
    ours, _ = Gaussian(5).forward({"log_psi": np.log(psi)}, f, x)
    np.testing.assert_allclose(ours, stats.norm.logpdf(x, f, np.sqrt(psi)).sum(axis=2), rtol=1e-12)
    x = (rng.random((4, 5)) < 0.5).astype(float)
    ours, _ = Bernoulli(5).forward({}, f, x)
    np.testing.assert_allclose(ours, stats.bernoulli.logpmf(x, special.expit(f)).sum(axis=2), rtol=1e-12)


def test_5_12_is_exact_in_float32_where_the_model_is_sure():
    """Dark pixels that are sure to be dark: a log likelihood near 0, no difference of two large sums."""
    f = (-20 * (1 + np.random.default_rng(0).random((20, 784)))).astype("float32")
    found = Bernoulli(784).cross({}, f, np.zeros((3, 784), "float32"))
    exact = -np.logaddexp(0, f.astype("float64")).sum(axis=1)
    assert found.dtype == "float32" and np.abs(found - exact[:, None]).max() < 1e-5


MIXED = Mixed((
    (StudentT(1, 3.0), [3]), (Categorical((2,)), [0, 4]), (Bernoulli(2), [1, 2]), (PredictedGaussian(1), [5]),
))                                                                 # columns out of order, one in two f


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize(
    "likelihood",
    [Gaussian(5), Gaussian(5, "isotropic"), Gaussian(5, 0.3), Bernoulli(5), Poisson(5),
     PredictedGaussian(5, 0.3), Categorical((2, 3)), StudentT(5, 3.5), MIXED],
    ids=lambda p: type(p).__name__ + str(getattr(p, "noise", "")),
)
def test_5_11_5_12_5_18_5_25_5_32_all_pairs_are_the_log_likelihood_pair_by_pair(likelihood, masked):
    rng = np.random.default_rng(52)
    f = rng.standard_normal((7, likelihood.n_f))
    params = tree.map(lambda leaf: leaf - 0.7, likelihood.init(rng, get_backend()))
    x = likelihood.sample(params, f[:4], likelihood.draw_noise(rng, f[:4].shape))
    if isinstance(likelihood, Gaussian):
        x, f = x + 30, f + 30
    mask = (rng.random(x.shape) < 0.6).astype(float) if masked else None
    if masked and isinstance(likelihood, (Categorical, Mixed)):    # all of a variable, or nothing
        for block in ([0, 1], [2, 3, 4]) if isinstance(likelihood, Categorical) else ([0, 4],):
            mask[:, block] = mask[:, block[:1]]
    pairs, _ = likelihood.forward(params, f[:, None, :], x, mask)
    found = [likelihood.cross(params, f, x, mask)]
    if masked:                                                     # and what stands in a gap is not read
        found.append(likelihood.cross(params, f, np.where(mask == 1, x, 5.0), mask))
    for ours in found:
        np.testing.assert_allclose(ours, pairs, rtol=1e-10, atol=1e-12)


def test_5_6_the_m_step_of_psi_is_the_constrained_minimum():
    v, floor = np.array([0.5, 2.0, 0.1]), np.array([0.2, 0.3, 0.4])

    def least(v, floor):
        return optimize.minimize_scalar(
            lambda t: np.sum(v / np.exp(t) + t), bounds=(np.log(floor), 5), options={"xatol": 1e-10}
        ).x

    for mode, cost, low in (("diagonal", v, floor), ("isotropic", v[:, None].T, floor.mean(keepdims=True))):
        expected = [least(c, b) for c, b in zip(cost.T if mode == "diagonal" else cost, low)]
        ours = Gaussian(3, mode).m_step(v, {"log_psi": np.log(low)})["log_psi"]
        np.testing.assert_allclose(ours, expected, atol=1e-6)
    rng = np.random.default_rng(51)
    W, b, psi, x = linear_case(rng)
    model, theta = linear_model(W, b, psi, FullGaussian(3))
    phi = rng.normal(0, 0.5, (len(x), model.posterior.n_phi))
    z, rows = pseudo_data(model.posterior, phi, x)
    nodes = noise.gauss_hermite(3, 3)
    ours, share = expectations.expected_squares(model, theta, phi, x, *nodes)
    np.testing.assert_allclose(ours, np.mean((rows - z @ W - b) ** 2, axis=0), rtol=1e-11)
    np.testing.assert_array_equal(share, 1)

    seen = rng.random(x.shape) < [0.2, 0.5, 0.9, 0.7, 0.7, 1.0]    # over the entries that were observed
    x = Observed(np.where(seen, x, 1e3), 1.0 * seen)
    ours, share = expectations.expected_squares(model, theta, phi, x, *nodes)
    every = np.tile(seen, (len(z) // len(seen), 1))
    squares = (rows - z @ W - b) ** 2
    np.testing.assert_allclose(ours, [np.mean(squares[o, d]) for d, o in enumerate(every.T)], rtol=1e-11)
    np.testing.assert_allclose(share, seen.mean(axis=0), rtol=1e-13)
    one = Gaussian(6, "isotropic").m_step(ours, None, share)["log_psi"]
    np.testing.assert_allclose(np.exp(one), squares[every].mean(), rtol=1e-11)
    assert abs(ours.mean() / squares[every].mean() - 1) > 0.01     # not the plain mean over columns


@pytest.mark.parametrize("noise_", ["diagonal", "isotropic", 0.4, "predicted"])
def test_5_27_5_28_noise_on_top_against_integrals(noise_):
    """p(x̃|f) and E[x|x̃, f] by sums over the clean x."""
    rng, tau2 = np.random.default_rng(55), 0.6
    if noise_ == "predicted":
        likelihood, params, f = PredictedGaussian(2, 0.3), {}, rng.standard_normal((4, 4))
        mean, variance = f[:, :2], 0.3 + np.exp(f[:, 2:])
    else:
        likelihood, f = Gaussian(2, noise_), rng.standard_normal((4, 2))
        params = tree.map(lambda leaf: leaf + np.arange(len(leaf)) - 0.5, likelihood.init(rng, get_backend()))
        mean, variance = f, np.tile(likelihood.psi(params, like=f), (4, 1))
    noisy = mean + 2 * rng.standard_normal((4, 2))
    x, dx = np.linspace(-30, 30, 40001, retstep=True)
    joint = (stats.norm.pdf(x[:, None, None], mean, np.sqrt(variance))
             * stats.norm.pdf(noisy, x[:, None, None], np.sqrt(tau2)))                      # p(x) p(x̃|x)
    p = joint.sum(axis=0) * dx
    clean = np.sum(x[:, None, None] * joint, axis=0) * dx / p
    np.testing.assert_allclose(stats.norm.pdf(noisy, mean, np.sqrt(variance + tau2)), p, rtol=1e-9)
    np.testing.assert_allclose(mean + variance / (variance + tau2) * (noisy - mean), clean, rtol=1e-9)
    ours, ours_params = likelihood.noisier(params, np.asarray(tau2))
    log_p, _ = ours.forward(ours_params, f[None], noisy)
    np.testing.assert_allclose(log_p[0], np.log(p).sum(axis=1), rtol=1e-9)
    np.testing.assert_allclose(likelihood.denoised(params, f, noisy, np.asarray(tau2)), clean, rtol=1e-9)


@pytest.mark.parametrize("missing", ["error", "marginalise"])
def test_5_28_of_a_linear_model_is_the_conditional_of_the_joint_gaussian(missing):
    """E[x|x̃] = b + (x̃ − b)(Σ + τ²I)⁻¹Σ, of observed entries; and a diagonal q has the posterior's mean."""
    rng, tau2 = np.random.default_rng(56), 0.5
    x = rng.standard_normal((60, 2)) @ rng.standard_normal((2, 4)) + rng.normal(3, 0.7, (60, 4))
    seen = np.ones(x.shape, dtype=bool)
    if missing == "marginalise":
        seen = rng.random(x.shape) < 0.7
        seen[0] = False
    noisy = np.where(seen, x + np.sqrt(tau2) * rng.standard_normal(x.shape), np.nan)
    fit = VariationalEM(2, hidden=(), missing=missing, tol=1e-4).fit(noisy)
    assert np.diff(fit.q_path_).max() < 1e-12                      # M-steps by (2.23) where entries miss
    layer, psi = fit.theta_["decoder"][0], fit.noise_variance_
    Sigma = layer["W"].T @ layer["W"] + np.diag(psi)
    expected = [
        layer["b"] + np.linalg.solve(
            Sigma[np.ix_(o, o)] + tau2 * np.eye(o.sum()), (x_n - layer["b"])[o]) @ Sigma[o]
        for x_n, o in zip(noisy, seen)
    ]
    np.testing.assert_allclose(fit.denoise(noisy, tau2), expected, rtol=1e-8)


def test_5_29_5_30_5_33_categories_against_scipy_and_counted_samples():
    rng = np.random.default_rng(57)
    p = Categorical((2, 1, 4))
    f, blocks = 3 * rng.standard_normal((3, 5, 7)), ([0, 1], [2], [3, 4, 5, 6])
    pi = np.concatenate([special.softmax(f[..., b], axis=-1) for b in blocks], axis=-1)
    np.testing.assert_allclose(p.log_pi(f), np.log(pi), rtol=1e-11, atol=1e-14)        # (5.29)
    np.testing.assert_allclose(p.mean({}, f), pi, rtol=1e-12)
    sizes = np.array([1e4, -1e4, 3.0, -1e4, 1e4, 1e4, 0.0])        # nothing overflows, no log of 0
    far = [0, -2e4, 0, -2e4 - np.log(2), -np.log(2), -np.log(2), -1e4 - np.log(2)]
    np.testing.assert_allclose(p.log_pi(sizes), far, rtol=1e-12)
    places = np.stack([rng.integers(0, C, 5) for C in p.sizes], axis=1)
    x = np.concatenate([np.eye(C)[places[:, i]] for i, C in enumerate(p.sizes)], axis=1)
    each = [stats.multinomial(1, pi[..., b]).logpmf(x[:, b]) for b in blocks]
    np.testing.assert_allclose(p.forward({}, f, x)[0], sum(each), rtol=1e-11)               # (5.30)
    mask = np.repeat(rng.random((5, 3)) < 0.5, p.sizes, axis=1)
    some = sum(mask[:, b[0]] * log_p for b, log_p in zip(blocks, each))
    np.testing.assert_allclose(p.forward({}, f, x, 1.0 * mask)[0], some, rtol=1e-11, atol=1e-14)

    u = (np.arange(1000) + 0.5) / 1000                             # (5.33): as many u as the probability says
    drawn = p.sample({}, np.tile(f[0, 0], (1000, 1)), np.tile(u[:, None], (1, 3)))
    np.testing.assert_allclose(drawn.mean(axis=0), pi[0, 0], atol=1.001e-3)
    for i, b in enumerate(blocks):
        upto = np.cumsum(pi[0, 0, b])
        first = [next((c for c, total in enumerate(upto) if total > v), len(b) - 1) for v in u]
        np.testing.assert_array_equal(drawn[:, b], np.eye(len(b))[first])
    assert p.draw_noise(rng, (1000, 7)).shape == (1000, 3)
    edge = p.sample({}, np.zeros((1, 7)), np.array([[0.5, 0.5, 0.75]]))  # at a sum: the next category
    np.testing.assert_array_equal(edge[0], [0, 1, 1, 0, 0, 0, 1])
    last = p.sample({}, f[0], np.ones((5, 3)))                     # float32 rounds the largest u up to 1
    np.testing.assert_array_equal(last, np.tile([0, 1, 1, 0, 0, 0, 1], (5, 1)))


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
def test_5_31_the_categories_gradient_as_written(masked):
    rng = np.random.default_rng(58)
    p, blocks = Categorical((2, 3)), ([0, 1], [2, 3, 4])
    f, c = rng.standard_normal((3, 4, 5)), rng.standard_normal((3, 4))
    x = np.concatenate([np.eye(2)[rng.integers(0, 2, 4)], np.eye(3)[rng.integers(0, 3, 4)]], axis=1)
    mask = np.repeat([[1.0, 0], [0, 1], [0, 0], [1, 1]], p.sizes, axis=1) if masked else np.ones((4, 5))
    pi = np.concatenate([special.softmax(f[..., b], axis=-1) for b in blocks], axis=-1)
    total = np.concatenate([np.tile((mask * x)[:, b].sum(axis=1)[:, None], len(b)) for b in blocks], axis=1)
    written = c[:, :, None] * (mask * x - pi * total)
    value, cache = p.forward({}, f, x, mask if masked else None)
    numeric = numeric_gradient(lambda f: np.sum(c * p.forward({}, f, x, mask)[0]), f)
    np.testing.assert_allclose(written, numeric, atol=1e-8)
    df, dparams = p.backward({}, cache, c)
    assert dparams == {}
    np.testing.assert_allclose(df, written, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("nu", [2.3, 4.0, 30.0])
def test_5_34_5_35_5_36_students_t_against_scipy_and_its_mixture_of_gaussians(nu):
    rng = np.random.default_rng(59)
    p, f, x = StudentT(3, nu), rng.standard_normal((2, 4, 3)), 3 * rng.standard_normal((4, 3))
    psi, c = np.array([0.3, 1.0, 5.0]), rng.standard_normal((2, 4))
    params = {"log_psi": np.log(psi)}
    log_p, cache = p.forward(params, f, x)                                                  # (5.34)
    np.testing.assert_allclose(log_p, stats.t.logpdf(x, nu, f, np.sqrt(psi)).sum(axis=2), rtol=1e-11)
    assert p.log_constant() == pytest.approx(stats.t.logpdf(0, nu), rel=1e-12)
    u2 = (x - f) ** 2 / psi
    omega = (nu + 1) / (nu + u2)
    for i in range(3):                                             # E[g|x] of the Gaussians' precisions
        def joint(g, power):
            normal = stats.norm.pdf(x[i, i], f[0, i, i], np.sqrt(psi[i] / g))
            return g**power * stats.gamma.pdf(g, nu / 2, scale=2 / nu) * normal

        p_x, p_x_g = (integrate.quad(joint, 0, np.inf, args=(power,), epsabs=0)[0] for power in (0, 1))
        assert p_x == pytest.approx(stats.t.pdf(x[i, i], nu, f[0, i, i], np.sqrt(psi[i])), rel=1e-7)
        assert p_x_g / p_x == pytest.approx(omega[0, i, i], rel=1e-7)
    written = c[:, :, None] * omega * (x - f) / psi                                         # (5.35)
    numeric = numeric_gradient(lambda f: np.sum(c * p.forward(params, f, x)[0]), f)
    np.testing.assert_allclose(written, numeric, rtol=1e-6, atol=1e-8)
    dlog_psi = 0.5 * np.sum(c[:, :, None] * (omega * u2 - 1), axis=(0, 1))                  # (5.36)
    numeric = numeric_gradient(lambda v: np.sum(c * p.forward({"log_psi": v}, f, x)[0]), np.log(psi))
    np.testing.assert_allclose(dlog_psi, numeric, rtol=1e-6, atol=1e-8)
    df, dparams = p.backward(params, cache, c)
    np.testing.assert_allclose(df, written, rtol=1e-12)
    np.testing.assert_allclose(dparams["log_psi"], dlog_psi, rtol=1e-11, atol=1e-13)
    draws = p.sample(params, np.zeros((1, 3)), stats.t.ppf((np.arange(2000)[:, None] + 0.5) / 2000, nu))
    for d in range(3):
        assert stats.kstest(draws[:, d], stats.t(nu, 0, np.sqrt(psi[d])).cdf).statistic < 1e-3


def test_5_41_the_constant_of_students_t_is_that_of_factorials_and_ends_at_the_gaussians():
    for n in (2, 3, 49, 51, 200, 5000):                            # Γ(n + ½) = √π (2n)!/(4ⁿ n!)
        exact = math.log(math.factorial(2 * n))
        exact -= math.log(math.factorial(n)) + math.log(math.factorial(n - 1))
        exact -= 2 * n * math.log(2) + 0.5 * math.log(2 * n)
        assert StudentT(1, 2.0 * n).log_constant() == pytest.approx(exact, abs=1e-10)
    below, above = (StudentT(1, 100 + step).log_constant() for step in (-1e-9, 1e-9))
    assert above == pytest.approx(below, abs=1e-12)                # where the two forms meet
    for nu in (1e6, 1e10, 1e16, 1e300):
        gaussian = -0.5 * math.log(2 * math.pi)
        assert StudentT(1, nu).log_constant() - gaussian == pytest.approx(-1 / (4 * nu), abs=3e-16)


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
def test_5_37_the_m_step_of_students_t_never_raises_q_and_ends_where_a_search_does(masked):
    rng = np.random.default_rng(60)
    p = StudentT(3, 3.0)
    model, theta = tanh_model(rng, p)
    N, nodes = 25, noise.gauss_hermite(1, 9)
    x = stats.t.rvs(2, size=(N, 3), random_state=1)
    seen = rng.random(x.shape) < 0.6 if masked else np.ones(x.shape, dtype=bool)
    phi = np.stack([rng.normal(0, 0.7, N), rng.uniform(-1, 0.2, N)], axis=1)
    whole, x = x, Observed(np.where(seen, x, 50.0), 1.0 * seen) if masked else x

    def Q(log_psi):
        th = theta | {"likelihood": {"log_psi": log_psi}}
        return bound.forward(model, th, phi, x, nodes[0], weights=nodes[1])[0].sum()

    def gradient(log_psi):
        th = theta | {"likelihood": {"log_psi": log_psi}}
        _, cache = bound.forward(model, th, phi, x, nodes[0], weights=nodes[1])
        return bound.backward(model, th, cache, np.ones(N))[1]["likelihood"]["log_psi"]

    z = phi[:, 0] + nodes[0][:, :, 0] * np.exp(phi[:, 1])          # (S, N)
    r2 = (whole - model.decoder.forward(theta["decoder"], z.reshape(-1, 1))[0].reshape(-1, N, 3)) ** 2
    for at in (np.array([-3.0, 0.0, 4.0]), np.array([5.0, -5.0, 1.0])):
        theta["likelihood"], path = {"log_psi": at}, [Q(at)]
        for step in range(200):
            before = np.exp(theta["likelihood"]["log_psi"])
            squares, share = expectations.expected_squares(model, theta, phi, x, *nodes)
            np.testing.assert_allclose(share, seen.mean(axis=0), rtol=1e-13)
            theta["likelihood"] = model.likelihood.closed_form({}, squares, None, share)
            written = np.einsum("s,snd->nd", nodes[1], 4 / (3 + r2 / before) * r2)
            written = np.sum(seen * written, axis=0) / seen.sum(axis=0)
            np.testing.assert_allclose(np.exp(theta["likelihood"]["log_psi"]), written, rtol=1e-10)
            path.append(Q(np.log(written)))
        assert max(np.diff(path)) < 1e-10 * abs(path[-1]) and path[0] - path[-1] > 5
        end = theta["likelihood"]["log_psi"]
        np.testing.assert_allclose(gradient(end), 0, atol=1e-8)
        best = optimize.minimize(Q, np.zeros(3), jac=gradient, tol=1e-9)
        np.testing.assert_allclose(end, best.x, atol=1e-6)
    floor = {"log_psi": end + [0.5, -0.5, 1.0]}                    # holds two of three up; Q still falls
    theta["likelihood"], path = {"log_psi": end + 2}, [Q(end + 2)]
    for step in range(50):
        squares, share = expectations.expected_squares(model, theta, phi, x, *nodes)
        theta["likelihood"] = model.likelihood.closed_form({}, squares, floor, share)
        path.append(Q(theta["likelihood"]["log_psi"]))
    assert max(np.diff(path)) < 1e-10 * abs(path[-1])
    np.testing.assert_allclose(theta["likelihood"]["log_psi"], end + [0.5, 0, 1.0], atol=1e-6)


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
def test_5_38_5_39_columns_that_differ_in_kind_column_by_column(masked):
    rng = np.random.default_rng(61)
    f, c = rng.standard_normal((3, 4, 7)), rng.standard_normal((3, 4))
    params = [{"log_psi": np.array([0.4])}, {}, {}, {}]
    x = MIXED.sample(params, f[0], MIXED.draw_noise(rng, f[0].shape))
    mask = (rng.random(x.shape) < 0.6).astype(float) if masked else np.ones(x.shape)
    mask[:, 4] = mask[:, 0]                                        # one variable in two columns

    def written(f, log_psi):
        return (
            mask[:, 3] * stats.t.logpdf(x[:, 3], 3, f[..., 0], np.exp(0.5 * log_psi))
            + mask[:, 0] * np.sum(x[:, [0, 4]] * special.log_softmax(f[..., 1:3], axis=-1), axis=-1)
            + np.sum(mask[:, 1:3] * stats.bernoulli.logpmf(x[:, 1:3], special.expit(f[..., 3:5])), axis=-1)
            + mask[:, 5] * stats.norm.logpdf(x[:, 5], f[..., 5], np.sqrt(1e-4 + np.exp(f[..., 6])))
        )

    log_p, cache = MIXED.forward(params, f, x, mask if masked else None)
    np.testing.assert_allclose(log_p, written(f, 0.4), rtol=1e-10, atol=1e-12)              # (5.38)
    df, dparams = MIXED.backward(params, cache, c)
    numeric = numeric_gradient(lambda f: np.sum(c * written(f, 0.4)), f)
    np.testing.assert_allclose(df, numeric, rtol=1e-6, atol=1e-7)                           # (5.39)
    numeric = numeric_gradient(lambda v: np.sum(c * written(f, v[0])), np.array([0.4]))
    np.testing.assert_allclose(dparams[0]["log_psi"], numeric, rtol=1e-6, atol=1e-8)
    assert dparams[1:] == [{}, {}, {}]
    mean = np.concatenate([                                        # and what comes back is in x's order
        special.softmax(f[..., 1:3], axis=-1)[..., :1], special.expit(f[..., 3:5]), f[..., :1],
        special.softmax(f[..., 1:3], axis=-1)[..., 1:], f[..., 5:6],
    ], axis=-1)
    np.testing.assert_allclose(MIXED.mean(params, f), mean, rtol=1e-12)


def test_5_40_missing_entries_are_integrated_out():
    """By sums over every value that the missing ones could have had; and nlml and Q follow."""
    rng = np.random.default_rng(62)
    f, o = rng.standard_normal((3, 1, 5)), np.array([[1.0, 0, 0, 1, 0]])
    x = np.array([[1.0, 0, 0, 1, 0]])
    binary = [np.array([[1.0, a, b, 1, c]]) for a, b, c in product([0, 1], repeat=3)]
    one_hot = [np.array([[1.0, 0, *e]]) for e in np.eye(3)]
    first = np.array([[1.0, 1, 0, 0, 0]])
    for p, mask, whole in ((Bernoulli(5), o, binary), (Categorical((2, 3)), first, one_hot)):
        log_p, _ = p.forward({}, f, x, mask)
        total = sum(np.exp(p.forward({}, f, v)[0]) for v in whole)
        np.testing.assert_allclose(np.exp(log_p), total, rtol=1e-11)
    line, step = np.linspace(-40, 40, 40001, retstep=True)
    counts = np.arange(200.0)
    for p, values, cell in ((Gaussian(2, 0.7), line, step), (StudentT(2, 9.0), 20 * line, 20 * step),
                            (PredictedGaussian(2, 0.3), line, step), (Poisson(2), counts, 1)):
        params = p.init(rng, get_backend())
        v = np.stack([np.full_like(values, 2.0), values], axis=1)
        f = rng.standard_normal((1, 1, p.n_f))
        total = np.exp(p.forward(params, f, v)[0]).sum() * cell
        log_p, _ = p.forward(params, f, np.array([[2.0, 3.0]]), np.array([[1.0, 0.0]]))
        assert np.exp(log_p[0, 0]) == pytest.approx(total, rel=1e-8)

    model, theta = tanh_model(rng, Bernoulli(3))                   # and so nlml is that of the marginal
    both = [-grid.grid(model, theta, np.array([[1.0, v, 0.0]])).values[0] for v in (0, 1)]
    x = Observed(np.array([[1.0, 9.0, 0.0]]), np.array([[1.0, 0.0, 1.0]]))
    assert grid.grid(model, theta, x).values[0] == pytest.approx(-np.logaddexp(*both), abs=1e-8)


def test_5_10_bits_of_a_density_that_is_flat_over_each_count_are_exact():
    probability = np.array([0.5, 0.25, 0.125, 0.125])              # P(X) of 4 grey levels, D = 1
    nats = -np.log(4 * probability)                                # x = (X + u)/4 has density 4 P(X)
    np.testing.assert_allclose(datasets.bits_per_dimension(nats, 1, 4), [1, 2, 3, 3], rtol=1e-13)
    x = np.linspace(0, 1, 4001)[:-1] + 1 / 8000                    # and where it is not flat, a bound
    bits = datasets.bits_per_dimension(-stats.beta(2, 3).logpdf(x), 1, 4).reshape(4, 1000).mean(axis=1)
    exact = -np.log2(np.diff(stats.beta(2, 3).cdf(np.linspace(0, 1, 5))))
    assert (bits > exact + 1e-3).all()


# ---- chapter 6 -------------------------------------------------------------------------------


def test_6_1_6_2_steps_of_the_optimisers():
    g = np.random.default_rng(60).standard_normal((7, 3))
    flat, sgd = np.zeros(3), SGD(0.1, 0.8)
    state = sgd.init(flat)
    for g_t in g:
        sgd.step(flat, g_t, state)
    # unrolled: the gradient of step i has been added with weights 1, μ, μ², … ever since
    unrolled = sum(-0.1 * g[i] * (1 - 0.8 ** (7 - i)) / (1 - 0.8) for i in range(7))
    np.testing.assert_allclose(flat, unrolled, rtol=1e-12)

    flat, adam = np.zeros(3), Adam(0.1, epsilon=0.5)
    state = adam.init(flat)
    for t in range(1, 8):
        adam.step(flat, g[0], state)                               # a constant gradient has no bias left
        np.testing.assert_allclose(flat, -0.1 * t * g[0] / (np.abs(g[0]) + 0.5), rtol=1e-12)
    weights = 0.9 ** np.arange(6, -1, -1)
    flat, state = np.zeros(3), adam.init(np.zeros(3))
    for g_t in g:
        before = flat.copy()
        adam.step(flat, g_t, state)
    squares = 0.999 ** np.arange(6, -1, -1)
    m_hat, v_hat = weights @ g / weights.sum(), squares @ g**2 / squares.sum()  # weighted means
    np.testing.assert_allclose(flat - before, -0.1 * m_hat / (np.sqrt(v_hat) + 0.5), rtol=1e-10)


@pytest.mark.parametrize("name", GAUSSIANS)
def test_6_3_an_e_step_ends_at_the_closed_form(name):
    W, b, psi, x = linear_case(np.random.default_rng(61), K=2, D=4, N=15)
    model, theta = linear_model(W, b, psi, GAUSSIANS[name](2))
    eta, weights = noise.sigma_points(2)
    e = infer.e_step(model, theta, infer.prior_phi(model, x), x, eta, weights, tol=1e-8)
    assert e.gradient_norm.max() < 1e-8
    np.testing.assert_allclose(e.phi, infer.closed_form(model, theta, x), atol=1e-7)


def test_6_3_no_entry_moves_by_more_than_2_in_a_step():
    """To minima that lie 100 and 1 away; the second row goes there at once."""
    target, tried = np.array([[100.0, -50.0], [1.0, 0.5]]), []

    def objective(phi, x):
        tried.append(phi)
        return 0.5 * np.sum((phi - x) ** 2, axis=1), phi - x

    start = np.zeros((2, 2))
    phi, _, _ = bfgs.minimise(objective, start, 1 + start, target, max_steps=200, tol=1e-8)
    np.testing.assert_allclose(phi, target, rtol=1e-9)
    assert np.abs(tried[1] - tried[0]).max() == 2
    np.testing.assert_array_equal(tried[1][1], target[1])
    np.testing.assert_allclose(tried[1][0], [2, -1])


def test_6_3_a_step_that_raises_q_is_not_taken_and_the_next_is_half_as_long():
    tried = []

    def objective(phi, x):
        tried.append(phi.item())
        return 5 * np.sum(phi**2, axis=1), 10 * phi

    start, scale, x = np.array([[0.5]]), np.array([[0.3]]), np.zeros((1, 1))
    phi, Q, _ = bfgs.minimise(objective, start, scale, x, max_steps=1, tol=1e-8)
    assert tried == [0.5, -1.0] and phi.item() == 0.5 and Q.item() == 1.25
    tried.clear()
    phi, _, _ = bfgs.minimise(objective, start, scale, x, max_steps=2, tol=1e-8)
    assert tried == [0.5, -1.0, -0.25] and phi.item() == -0.25


def test_6_4_the_bfgs_update_maps_the_change_of_gradient_to_the_step():
    rng = np.random.default_rng(62)
    A = rng.standard_normal((5, 4, 4))
    H, s, y = A @ np.swapaxes(A, 1, 2) + np.eye(4), rng.standard_normal((5, 4)), rng.standard_normal((5, 4))
    y[1:] *= np.sign(np.sum(s * y, axis=1))[1:, None]
    y[0] *= -np.sign(s[0] @ y[0])                                  # the first row has sᵀy < 0
    new = bfgs._bfgs_update(H, s, y)
    np.testing.assert_array_equal(new[0], H[0])
    for H_n, s_n, y_n, new_n in list(zip(H, s, y, new))[1:]:
        left = np.eye(4) - np.outer(s_n, y_n) / (s_n @ y_n)
        written = left @ H_n @ left.T + np.outer(s_n, s_n) / (s_n @ y_n)
        np.testing.assert_allclose(new_n, written, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(y_n @ new_n, s_n, rtol=1e-8, atol=1e-9)
        assert np.linalg.eigvalsh(new_n)[0] > 0


@pytest.mark.parametrize("mode", ["diagonal", "isotropic", 0.7])
def test_6_5_folding_units_changes_q_by_the_log_volume(mode):
    rng = np.random.default_rng(63)
    x = rng.standard_normal((20, 3)) * [0.01, 1, 50] + [5, -2, 100]
    likelihood = Gaussian(3, mode)
    units = StandardUnits(likelihood, x)
    assert mode != "diagonal" or np.allclose(units.to_standard(x).std(axis=0), 1)
    decoder, encoder = mlp(2, (4,), 3), mlp(3, (4,), 4)
    model = Model(decoder, likelihood, 2)
    standard = Model(decoder, likelihood.rescaled(units.scale), 2)
    theta, v = (                                                   # no parameter is 0
        tree.map(lambda leaf: leaf + rng.normal(0, 0.3, leaf.shape), part.init(rng, get_backend()))
        for part in (standard, encoder)
    )
    eta = rng.standard_normal((3, 20, 2))
    phi, _ = encoder.forward(v, units.to_standard(x))
    phi_x, _ = encoder.forward(units.fold_encoder(encoder, v), x)
    np.testing.assert_allclose(phi_x, phi, rtol=1e-9, atol=1e-10)
    Q, _ = bound.forward(standard, theta, phi, units.to_standard(x), eta)
    Q_x, _ = bound.forward(model, fold_theta(model, theta, units), phi_x, x, eta)
    np.testing.assert_allclose(Q_x, Q + np.sum(np.log(units.scale)), rtol=1e-9)


def test_6_5_with_missing_entries_only_what_was_observed_has_a_volume():
    rng = np.random.default_rng(64)
    seen = (rng.random((20, 3)) < 0.6).astype(float)
    data = rng.standard_normal((20, 3)) * [0.01, 1, 50] + [5, -2, 100]
    units = StandardUnits(Gaussian(3), Observed(data, seen))
    x = Observed(np.where(seen == 1, data, units.shift), seen)
    standard = units.to_standard(x)
    np.testing.assert_array_equal(units.to_standard(Observed(data, seen)).x, standard.x)
    encoder, model = mlp(6, (4,), 4), Model(mlp(2, (4,), 3), Gaussian(3), 2)
    theta, v = (
        tree.map(lambda leaf: leaf + rng.normal(0, 0.3, leaf.shape), part.init(rng, get_backend()))
        for part in (model, encoder)
    )
    eta = rng.standard_normal((3, 20, 2))
    phi, _ = encoder.forward(v, network_input(standard))
    phi_x, _ = encoder.forward(units.fold_encoder(encoder, v), network_input(x))
    np.testing.assert_allclose(phi_x, phi, rtol=1e-9, atol=1e-10)
    Q, _ = bound.forward(model, theta, phi, standard, eta)
    Q_x, _ = bound.forward(model, fold_theta(model, theta, units), phi, x, eta)
    np.testing.assert_allclose(Q_x, Q + seen @ np.log(units.scale), rtol=1e-9)
    assert units.log_volume == pytest.approx(np.mean(seen @ np.log(units.scale)), rel=1e-12)


@pytest.mark.parametrize("encoder", [
    mlp(6, (), 4), Parallel((mlp(6, (), 2), mlp(6, (), 2))),
], ids=["one network", "two networks"])
def test_6_7_principal_axes_change_the_weights_and_not_phi(encoder):
    rng = np.random.default_rng(67)
    x = rng.standard_normal((20, 4)) @ (rng.standard_normal((4, 6)) * [1e-3, 1, 1, 50, 1, 1]) + 3  # of rank 4
    axes = PrincipalAxes(x.mean(axis=0), np.cov(x.T, bias=True), like=x)
    y = (x - axes.mean) @ axes.A
    largest = np.linalg.eigvalsh(np.cov(x.T, bias=True))[-1]
    np.testing.assert_allclose(np.cov(y.T, bias=True), np.eye(4) / largest, rtol=0, atol=1e-9 / largest)
    v = tree.map(lambda leaf: leaf + rng.normal(0, 0.3, leaf.shape), encoder.init(rng, get_backend()))
    v_y = axes.unfold_encoder(encoder, v)
    phi, _ = encoder.forward(v, x)
    np.testing.assert_allclose(encoder.forward(v_y, y)[0], phi, rtol=0, atol=1e-8)
    back = axes.fold_encoder(encoder, v_y)
    np.testing.assert_allclose(encoder.forward(back, x)[0], phi, rtol=0, atol=1e-8)

    def objective(params, rows):                                   # any function of φ; its gradient in v
        phi, cache = encoder.forward(params["recognition"], x[rows])
        return np.sum(phi**3), {"recognition": encoder.backward(params["recognition"], cache, 3 * phi**2)[1]}

    turned = axes.turned(objective, encoder)
    _, grads = turned({"recognition": v_y}, slice(None))
    assert gradcheck.check(lambda p: turned(p, slice(None))[0], {"recognition": v_y}, grads).ok
    null = np.linalg.svd(x - x.mean(axis=0))[2][4:]                # no case has anything along these
    for branch in back if isinstance(encoder, Parallel) else [back]:
        np.testing.assert_allclose(null @ branch[0]["W"], 0, atol=1e-8)


def test_6_7_data_without_any_spread_have_no_axes():
    axes = PrincipalAxes(np.ones(3), np.zeros((3, 3)), like=np.ones(3))
    assert axes.A.shape == (3, 0)
    encoder = mlp(3, (), 2)
    start = encoder.init(np.random.default_rng(0), get_backend())
    v = axes.fold_encoder(encoder, axes.unfold_encoder(encoder, start))
    np.testing.assert_array_equal(v[0]["W"], 0)


@pytest.mark.parametrize("r", [0.1, 0.9, 0.999])
def test_6_6_the_rest_of_a_geometric_path_is_exact(r):
    path = list(7 + 2 * r ** np.arange(6))
    assert remaining(path) == pytest.approx(path[-1] - 7, rel=1e-8)
    assert remaining(path[:2]) == np.inf and remaining([3.0, 2.5, 1.0]) == np.inf
    assert remaining([3.0, 2.0, 2.0]) == 0
    eps = np.finfo(float).eps
    assert remaining([1 + 2 * eps, 1 + eps, 1.0]) == 0              # equal steps, but lost in rounding


def test_6_6_a_path_that_rises_is_not_at_rest():
    assert remaining([5.0, 4.0, 3.0, 3.5]) == np.inf
    assert not settled([5.0, 4.0, 3.0, 3.5], 1.0)


# ---- chapters 7 and 8 ------------------------------------------------------------------------


def test_7_1_7_2_importance_sampling_against_the_exact_value_and_repeated_runs():
    W, b, psi, x = linear_case(np.random.default_rng(70), K=2, D=4, N=6)
    model, theta = linear_model(0.7 * W, b, psi, DiagonalGaussian(2))
    phi, exact = infer.closed_form(model, theta, x), nlml.exact(model, theta, x).values
    runs = [
        nlml.importance(model, theta, phi, x, np.random.default_rng(seed), n_samples=200)
        for seed in range(300)
    ]
    p_hat = np.exp(-np.stack([run.values for run in runs]) + exact)                       # relative
    assert np.all(np.abs(p_hat.mean(axis=0) - 1) < 4.5 * p_hat.std(axis=0) / np.sqrt(300))  # unbiased
    spread = np.std([run.values for run in runs], axis=0, ddof=1)
    errors = np.array([run.standard_error for run in runs])
    sizes = np.array([run.effective_sample_size for run in runs])
    formula, shown = np.sqrt((200 / sizes - 1) / 199), np.isfinite(errors)           # (7.2) as (7.6) has it
    np.testing.assert_allclose(errors[shown], formula[shown], rtol=1e-6)
    assert shown.mean() > 0.98 and (formula[~shown] > 0.2).all()                          # (7.15)
    stated = np.sqrt(np.mean(formula**2, axis=0))
    assert (spread > 0.02).all()
    np.testing.assert_allclose(stated, spread, rtol=0.25)          # 300 runs know it to 4 % (one sd)

    eta = np.random.default_rng(5).standard_normal((300, 1, 2))    # as written; the code works in chunks
    omega = np.exp(expectations.log_weight(model, theta, phi, x, eta))
    assert (np.argmax(omega, axis=0) > 100).any()                  # of which a late one has the largest
    run = nlml.importance(model, theta, phi, x, np.random.default_rng(5), n_samples=300)
    np.testing.assert_allclose(run.values, -np.log(omega.mean(axis=0)), rtol=1e-11)
    se = np.sqrt(np.sum((omega - omega.mean(axis=0)) ** 2, axis=0) / (300 * 299)) / omega.mean(axis=0)
    np.testing.assert_allclose(run.standard_error, se, rtol=1e-9)


def test_7_3_7_4_a_lattice_against_the_exact_value():
    W, b, psi, x = linear_case(np.random.default_rng(71), K=2, D=4, N=3)
    model, theta = linear_model(0.5 * W, b, psi, FullGaussian(2))
    exact = nlml.exact(model, theta, x).values

    def a(h, B):
        side = h * np.arange(-round(B / h), round(B / h) + 1)
        z = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 1, 2)
        log_p = stats.norm.logpdf(x, z @ (0.5 * W) + b, np.sqrt(psi)).sum(axis=2)
        log_p += stats.norm.logpdf(z).sum(axis=2)
        return special.logsumexp(log_p, axis=0) + 2 * np.log(h)

    np.testing.assert_allclose(-a(0.2, 8), exact, rtol=1e-10)                               # (7.3)
    ours = grid.grid(model, theta, x)
    assert (np.abs(ours.values - exact) <= np.maximum(ours.certificate, 1e-9)).all()
    for h, B in ((1.2, 8), (0.2, 1.5)):                            # too wide a mesh, too small a box
        certificate = np.maximum(np.abs(a(h / 2, B) - a(h, B)), a(h / 2, 1.5 * B) - a(h / 2, B))  # (7.4)
        assert (np.abs(-a(h / 2, 1.5 * B) - exact) < certificate).all() and (certificate > 1e-4).any()


def test_7_5_a_lattice_of_its_own_against_the_exact_value():
    """As written, with sets of places, for a posterior of which the first mesh sees next to nothing."""
    W, b = np.array([[1.0, -0.5, 0.3], [0.2, 1.0, -1.0]]), np.array([0.5, 0.0, -1.0])
    psi = np.full(3, 1e-3)
    model, theta = linear_model(W, b, psi, DiagonalGaussian(2))
    x = np.array([[0.713, -0.377]]) @ W + b + np.array([[0.03, 0.01, -0.02]])
    exact = nlml.exact(model, theta, x).values[0]

    def log_p(places, h):
        z = h * np.array(sorted(places))
        return stats.norm.logpdf(x, z @ W + b, np.sqrt(psi)).sum(axis=1) + stats.norm.logpdf(z).sum(axis=1)

    h, margin, path, sizes = 0.5, 60, [], []                       # coarser than the code starts
    places = set(product(range(-18, 19), repeat=2))
    for _ in range(7):
        values = log_p(places, h)
        path.append(special.logsumexp(values) + 2 * np.log(h))
        sizes.append(len(places))
        kept = [g for g, v in zip(sorted(places), values) if v > values.max() - margin]
        places = {(2 * g + d, 2 * j + e) for g, j in kept for d, e in product((-1, 0, 1), repeat=2)}
        h, margin = h / 2, 30
    assert abs(path[0] + exact) > 1                                # the start is far off,
    np.testing.assert_allclose(path[-2:], -exact, atol=1e-9)       # the end is not,
    assert max(sizes[1:]) < 10 * sizes[0] < (2 * 9 / h) ** 2 / 100  # and few points are asked
    values, certificate = grid._own(model, theta, x, 1e-6)
    np.testing.assert_allclose(values, exact, atol=1e-9)
    assert certificate[0] < 1e-6


def test_8_1_the_numeric_gradient_of_a_cube_is_off_by_the_square_of_the_step():
    for p, h_i in ((0.5, 1e-2), (3.0, 3e-2)):                      # h max(1, |p|)
        numeric = 3 * p**2 + h_i**2
        report = gradcheck.check(
            lambda v: float(v["p"][0] ** 3), {"p": np.array([p])}, {"p": np.array([numeric])}, h=1e-2
        )
        assert report.ok and report.rows[0].numeric == pytest.approx(numeric, rel=1e-11)


def test_8_2_the_relative_error_as_written():
    a, n = np.array([1.0, -2.0, 1e-5, 0.0]), np.array([1.1, -2.0, 0.0, 1e-3])
    written = [
        abs(a_i - n_i) / max(abs(a_i), abs(n_i), 0.01 * max(np.abs(a).max(), np.abs(n).max()))
        for a_i, n_i in zip(a, n)
    ]
    np.testing.assert_allclose(differences.relative_error(a, n), written, rtol=1e-14)


def test_8_5_rounding_is_found_whether_the_value_shows_it_or_not():
    """Noise of a known size on f, and a large number that is added and taken off again."""
    rng, p = np.random.default_rng(0), np.array([0.3, -0.7])

    def noisy(v):
        return np.sin(v).sum() + 1e-9 * rng.standard_normal()

    found = np.median([differences.rounding_of(noisy, p, p, noisy(p)) for _ in range(99)])
    assert found == pytest.approx(1e-9, rel=0.2)
    hidden = differences.rounding_of(lambda v: (np.sin(v).sum() + 1e6) - 1e6, p, p, -0.3)
    assert 1e-11 < hidden < 1e-9                                   # half of 1e6's last digit, 6e-11, at most
    assert differences.rounding_of(lambda v: 1e9, p, p, 1e9) == 1e9 * 2.0**-52
    np.testing.assert_array_equal(p, [0.3, -0.7])


def test_8_6_two_steps_joined_leave_an_error_of_the_fourth_order():
    """Of p⁵ at 1, n(h) = 5 + 10 h² + h⁴: joined, 5 − 10 h⁴."""
    def n(h):
        return ((1 + h) ** 5 - (1 - h) ** 5) / (2 * h)

    for h in (0.1, 0.3):
        assert (10 * n(h) - n(10**0.5 * h)) / 9 == pytest.approx(5 - 10 * h**4, rel=1e-12)
    wrong = gradcheck.check(lambda v: float(v[0] ** 5), np.array([1.0]), np.array([5 + 1e-5]))
    assert wrong.rows[0].numeric == pytest.approx(5, abs=1e-11), "better than the 5 + 1e-9 of (8.1)"


# ---- chapter 9 -------------------------------------------------------------------------------


@pytest.fixture
def components():
    """Weights, means, full covariances and data; log p(x_n, z=k) (N, K) by SciPy."""
    rng = np.random.default_rng(90)
    A = rng.standard_normal((3, 2, 2))
    weights, means = np.array([0.5, 0.3, 0.2]), 1.5 * rng.standard_normal((3, 2))
    covariances = A @ np.swapaxes(A, 1, 2) + 0.3 * np.eye(2)
    x = 2 * rng.standard_normal((30, 2))
    log_p = np.stack([
        np.log(pi) + stats.multivariate_normal(mu, C).logpdf(x)
        for pi, mu, C in zip(weights, means, covariances)
    ], axis=1)
    return mixture.Mixture(weights, means, covariances), x, log_p


def test_9_1_9_2_9_3_9_9_joint_nlml_bound_and_gap(components):
    theta, x, log_p = components
    np.testing.assert_allclose(mixture.log_joint(theta, x), log_p, rtol=1e-11)              # (9.1)
    exact = -np.log(np.exp(log_p).sum(axis=1))
    top = log_p.max(axis=1)
    np.testing.assert_allclose(-top - np.log(np.exp(log_p - top[:, None]).sum(axis=1)), exact, rtol=1e-12)
    np.testing.assert_allclose(-log_sum_exp(log_p), exact, rtol=1e-12)              # (9.2)
    q = np.random.default_rng(91).dirichlet(np.ones(3), 30)
    q[:3] = np.eye(3)
    Q = -special.entr(q).sum(axis=1) - np.sum(q * log_p, axis=1)
    np.testing.assert_allclose(mixture.divergence(q, log_p), Q, rtol=1e-12)                 # (9.3)
    kl = special.rel_entr(q, np.exp(log_p + exact[:, None])).sum(axis=1)
    np.testing.assert_allclose(Q - exact, kl, atol=1e-12)                                   # (9.9)
    assert (kl > 0).all()
    np.testing.assert_allclose(mixture.divergence(q, log_p + exact[:, None]), kl, atol=1e-12)


def test_9_4_9_5_9_6_the_least_q_of_each_family_by_search(components):
    log_p = components[2][:8] / 4                                  # less sure, for the search's sake
    N = len(log_p)

    def Q(q):
        return np.sum(special.xlogy(q, q) - q * log_p, axis=1)

    def softmax(v):
        return special.softmax(v.reshape(-1, 3), axis=1)

    exact = -special.logsumexp(log_p, axis=1)
    free = optimize.minimize(lambda v: Q(softmax(v)).sum(), np.zeros(3 * N), options={"gtol": 1e-7})
    np.testing.assert_allclose(mixture.free(log_p), softmax(free.x), atol=1e-5)             # (9.4)
    np.testing.assert_allclose(mixture.free(log_p), np.exp(log_p + exact[:, None]), rtol=1e-12)
    np.testing.assert_allclose(Q(mixture.free(log_p)), exact, rtol=1e-12)
    points = np.stack([Q(np.tile(e, (N, 1))) for e in np.eye(3)])
    np.testing.assert_allclose(Q(mixture.hard(log_p)), points.min(axis=0), rtol=1e-13)      # (9.5)
    np.testing.assert_allclose(points.min(axis=0), -log_p.max(axis=1), rtol=1e-13)
    assert (points.min(axis=0) - exact <= np.log(3)).all()
    tied = optimize.minimize(lambda v: Q(np.tile(softmax(v), (N, 1))).mean(), np.zeros(3), tol=1e-12)
    geometric = np.exp(log_p).prod(axis=0) ** (1 / N)
    np.testing.assert_allclose(geometric / geometric.sum(), softmax(tied.x)[0], atol=1e-6)  # (9.6)
    written = np.tile(geometric / geometric.sum(), (N, 1))
    np.testing.assert_allclose(mixture.tied(log_p), written, rtol=1e-11)


def test_9_7_the_m_step_against_weighted_data(components):
    """PMFs in tenths: the minimiser is the plain maximum likelihood of data repeated that many times."""
    theta, x, _ = components
    counts = np.random.default_rng(92).multinomial(10, [0.3, 0.3, 0.4], 30)
    full = mixture.m_step(theta, counts / 10, x, np.full(2, 1e-9))
    diagonal = mixture.m_step(theta._replace(covariances=np.ones((3, 2))), counts / 10, x, np.full(2, 1e-9))
    for k in range(3):
        repeated = np.repeat(x, counts[:, k], axis=0)
        assert full.weights[k] == pytest.approx(len(repeated) / 300, rel=1e-13)
        np.testing.assert_allclose(full.means[k], repeated.mean(axis=0), rtol=1e-11)
        np.testing.assert_allclose(full.covariances[k], np.cov(repeated.T, bias=True), rtol=1e-11)
        np.testing.assert_allclose(diagonal.covariances[k], repeated.var(axis=0), rtol=1e-11)
    empty = mixture.m_step(theta, np.tile([0.5, 0.5, 0.0], (30, 1)), x, np.full(2, 1e-9))
    np.testing.assert_array_equal(empty.means[2], theta.means[2])
    np.testing.assert_array_equal(empty.covariances[2], theta.covariances[2])


def test_9_8_the_floor_against_a_search_above_it():
    """Σ = U (I + B Bᵀ) U runs through all covariances above the floor U²."""
    rng = np.random.default_rng(93)
    A, F = rng.standard_normal((3, 3)), np.array([0.5, 2.0, 1.0])
    estimate, U = A @ np.diag([3.0, 0.1, 0.02]) @ A.T, np.diag(np.sqrt(F))

    def cost(Sigma):
        return np.linalg.slogdet(Sigma)[1] + np.trace(np.linalg.solve(Sigma, estimate))

    def above(v):
        B = v.reshape(3, 3)
        return U @ (np.eye(3) + B @ B.T) @ U

    searched = optimize.minimize(lambda v: cost(above(v)), rng.standard_normal(9), options={"gtol": 1e-7})
    values, V = np.linalg.eigh(np.linalg.inv(U) @ estimate @ np.linalg.inv(U))
    assert values[0] < 1 < values[-1]                              # some are raised, not all
    written = U @ V @ np.diag(np.maximum(values, 1)) @ V.T @ U
    assert cost(written) == pytest.approx(searched.fun, abs=1e-8)
    np.testing.assert_allclose(written, above(searched.x), atol=1e-4)
    np.testing.assert_allclose(mixture.raise_to_floor(estimate, F), written, rtol=1e-10)
    diagonal = mixture.raise_to_floor(np.diag(estimate), F)
    np.testing.assert_array_equal(diagonal, np.maximum(np.diag(estimate), F))


@pytest.fixture
def two_analysers():
    """Two factor analysers with K = 1, data near them, a grid of z, log p(x_n, z, j) on it, (J, grid, N)."""
    rng = np.random.default_rng(94)
    p = analysers.Analysers(
        np.array([0.6, 0.4]), rng.standard_normal((2, 1, 3)), 2 * rng.standard_normal((2, 3)),
        rng.uniform(0.3, 1, (2, 3)),
    )
    x = p.b[rng.integers(2, size=12)] + 1.2 * rng.standard_normal((12, 3))
    z = np.linspace(-9, 9, 3001)

    def log_joint(x, psi):
        return np.array([
            math.log(pi) + stats.norm.logpdf(z)[:, None]
            + stats.norm.logpdf(x, (z[:, None] * W + b)[:, None, :], np.sqrt(v)).sum(axis=2)
            for pi, W, b, v in zip(p.weights, p.W, p.b, psi)
        ])

    return p, x, z, log_joint


def test_9_10_9_11_9_14_9_15_on_a_grid_of_z(two_analysers):
    p, x, z, log_joint = two_analysers
    dz, log_p = z[1] - z[0], log_joint(x, p.psi)
    by_grid = special.logsumexp(log_p, axis=1).T + math.log(dz)                             # (N, J)
    np.testing.assert_allclose(analysers.log_joint(p, x), by_grid, rtol=1e-10)              # (9.10)

    rng = np.random.default_rng(95)
    q = rng.dirichlet(np.ones(2), len(x))
    own = stats.norm.logpdf(z[None, :, None], rng.standard_normal((2, 1, 12)), 0.7)         # log q_j(z)
    posterior = log_p - special.logsumexp(log_p, axis=1, keepdims=True) - math.log(dz)
    least = np.sum(special.xlogy(q, q) - q * by_grid, axis=1)
    for log_q in (own, posterior):
        terms = np.exp(log_q) * (log_q - log_p) * dz
        Q = np.sum(special.xlogy(q, q), axis=1) + np.sum(q * terms.sum(axis=1).T, axis=1)   # (9.11)
        assert (Q > least - 1e-9).all() and (log_q is posterior or (Q > least + 0.01).all())
    np.testing.assert_allclose(Q, least, rtol=1e-10)
    np.testing.assert_allclose(mixture.divergence(q, analysers.log_joint(p, x)), least, rtol=1e-10)

    weight = np.exp(log_p - special.logsumexp(log_p, axis=(0, 1)))                          # p(j, z|x)
    y = np.concatenate([weight.sum(axis=1), (weight * z[:, None]).sum(axis=1)]).T
    np.testing.assert_allclose(analysers.code(p, x), y, atol=1e-10)                         # (9.14)
    f = z[:, None] * p.W + p.b[:, None, :]                                                  # (J, grid, D)
    mean = np.einsum("jgn,jgd->nd", weight, f)
    np.testing.assert_allclose(analysers.decode(p, y), mean, atol=1e-10)

    tau2 = 0.5
    noisy = log_joint(x, p.psi + tau2)
    weight = np.exp(noisy - special.logsumexp(noisy, axis=(0, 1)))
    share = (p.psi / (p.psi + tau2))[:, None, None, :]                                      # (5.28)
    clean = f[:, :, None, :] + share * (x - f[:, :, None, :])
    expected = np.einsum("jgn,jgnd->nd", weight, clean)
    np.testing.assert_allclose(analysers.denoised(p, x, np.float64(tau2)), expected, atol=1e-10)  # (9.15)


@pytest.mark.parametrize("shared", [False, True])
def test_9_12_9_13_the_m_step_by_search(two_analysers, shared):
    """The expectation over z by nine Gauss–Hermite nodes, which have every square exactly."""
    p, x, *_ = two_analysers
    p = p._replace(psi=p.psi[0]) if shared else p
    w = np.random.default_rng(96).uniform(0.5, 1.5, len(x))
    w, lowest = w / w.mean(), np.array([1e-9, 1.5, 1e-9])
    log_p, means, covariances = analysers.e_step(p, x)
    q, (nodes, weights) = special.softmax(log_p, axis=1), np.polynomial.hermite_e.hermegauss(9)
    z = np.array([m + math.sqrt(C[0, 0]) * nodes for m, C in zip(means, covariances)])      # (J, N, 9)

    def Q(v):
        W, b = v[:6].reshape(2, 1, 3), v[6:12].reshape(2, 1, 3)
        psi = lowest + np.exp(v[12:].reshape(1 if shared else 2, 1, 3))
        f = z[:, :, :, None] * W[:, None] + b[:, None]
        squares = np.einsum("jngd,g->jnd", (x[:, None, :] - f) ** 2, weights / weights.sum())
        return np.sum(w * q.T * 0.5 * np.sum(squares / psi + np.log(psi), axis=2))

    found = optimize.minimize(Q, np.zeros(12 + 3 * (1 if shared else 2)), tol=1e-10)
    problem = analysers.Problem(x, w, lowest)
    best = problem.m_step(problem.e_step(p)[0])
    np.testing.assert_allclose(best.weights, (w[:, None] * q).sum(axis=0) / len(x), rtol=1e-12)
    np.testing.assert_allclose(best.W.ravel(), found.x[:6], atol=1e-4)
    np.testing.assert_allclose(best.b.ravel(), found.x[6:12], atol=1e-4)
    psi = np.reshape(best.psi, (-1, 3))
    np.testing.assert_allclose(psi, lowest + np.exp(found.x[12:].reshape(-1, 3)), rtol=1e-3)
    at_best = np.concatenate([best.W.ravel(), best.b.ravel(), np.log(psi - lowest + 1e-12).ravel()])
    assert (psi[:, 1] >= 1.5).all() and Q(at_best) <= found.fun + 1e-6
