"""Facts that must hold whatever the code looks like, each held against a second road to the same number.

A gradient check proves that a backward belongs to its forward, never that the forward is right. Here
the forward is held to what the mathematics says of it: Q is an upper bound, the distance is a KL
divergence, three routes end on one number, EM goes downhill. The second roads share no line with the
package: dense matrices, SciPy's densities, sums over a fine grid. Every check is a function, and is run
on a published or a likely fault as well, which it must catch.
"""

from dataclasses import dataclass
import math
import warnings

import cases
from cases import GAUSSIANS
from hypothesis import given, settings, strategies as st
import numpy as np
import pytest
from scipy import special, stats
from worked.chapter_14 import VarianceForDeviation

from teachvae import (
    FactorAnalysis, Model, VAE, VariationalEM, bound, datasets, gradcheck, infer, layers, likelihoods,
    linear_gaussian, nlml, noise, posteriors, tree
)
from teachvae.arrays.backend import get_backend
from teachvae.arrays.observed import Observed
from teachvae.doors.units import HeywoodWarning
from teachvae.networks.convergence import ConvergenceWarning

pytestmark = pytest.mark.short                                   # most fits here end early on purpose

FAMILIES = GAUSSIANS
LIKELIHOODS = {row["name"]: row["component"] for row in cases.LIKELIHOODS}
DENSITIES = {row["component"]: row["oracle"] for row in cases.LIKELIHOODS}
GAUSSIANS = [name for name, p in LIKELIHOODS.items() if isinstance(p, likelihoods.Gaussian)]
GAUSSIAN = "gaussian diagonal"
D = cases.D

# ---- models, data and φ at random -----------------------------------------------------------------


@dataclass
class Case:
    """A model with random θ, data x (N, D) drawn from it, and a random φ (N, n_phi)."""

    model: Model
    theta: dict
    x: np.ndarray
    phi: np.ndarray


def make_case(seed, likelihood, family, *, n_latent=1, hidden=(), size=1.0, n_cases=5):
    """`size` is about the size of the decoder's slopes; m lies in ±1.5 and s in [¼, 1.4]."""
    rng = np.random.default_rng(seed)
    likelihood = LIKELIHOODS[likelihood] if isinstance(likelihood, str) else likelihood
    decoder = layers.mlp(n_latent, hidden, likelihood.n_f)
    q = family(n_latent)
    model = Model(decoder, likelihood, n_latent, q)
    theta = tree.map(
        lambda leaf: rng.uniform(-1, 1, leaf.shape) * size, model.init(rng, get_backend())
    )
    z = rng.standard_normal((n_cases, n_latent))
    f = decoder_by_hand(model, theta, z)
    x = likelihood.sample(theta["likelihood"], f, likelihood.draw_noise(rng, f.shape))
    return Case(model, theta, x, random_phi(rng, q, n_cases))


def random_phi(rng, q, n_cases):
    """φ with m in ±1.5, standard deviations in [¼, 1.4]; the full family's L leans to one side."""
    K = q.n_latent
    m = rng.uniform(-1.5, 1.5, (n_cases, K))
    log_s = np.log(rng.uniform(0.25, 1.4, (n_cases, K)))
    if isinstance(q, posteriors.DiagonalGaussian):
        return np.concatenate([m, log_s], axis=1)
    rows, columns = np.tril_indices(K)
    entries = rng.uniform(-0.4, 0.4, (n_cases, len(rows)))
    entries[:, rows == columns] = log_s
    return np.concatenate([m, entries], axis=1)


seeds = st.integers(0, 2**32 - 1)
sizes = st.floats(0.1, 1.5)


# ---- the second roads -----------------------------------------------------------------------------


def decoder_by_hand(model, theta, z):
    """f(z) (R, D) of a network of Linear and Tanh layers."""
    for p in theta["decoder"]:
        z = z @ p["W"] + p["b"] if p else np.tanh(z)
    return z


def noise_by_hand(likelihood, theta):
    if isinstance(likelihood.noise, float):
        return np.full(D, likelihood.noise)
    return np.exp(theta["likelihood"]["log_psi"]) * np.ones(D)


def moments_by_hand(q, phi_row):
    """Mean (K,) and covariance (K, K) of q(z|φ_n)."""
    K = q.n_latent
    m, rest = phi_row[:K], phi_row[K:]
    if isinstance(q, posteriors.DiagonalGaussian):
        return m, np.diag(np.exp(rest) ** 2)
    L = np.zeros((K, K))
    L[np.tril_indices(K)] = rest
    L[np.diag_indices(K)] = np.exp(np.diag(L))
    return m, L @ L.T


@dataclass
class Referee:
    """Everything about one data case from a fine grid of z: the trapezoidal rule on ±10 (K = 1: mesh
    0.01; K = 2: 0.08), whose error for a smooth function that has died out at the ends is nil."""

    log_joint: np.ndarray
    z: np.ndarray
    log_cell: float

    @classmethod
    def of(cls, model, theta, x_row):
        h = {1: 0.01, 2: 0.08}[model.n_latent]
        axis = np.arange(-10, 10 + h / 2, h)
        z = np.stack([g.ravel() for g in np.meshgrid(*[axis] * model.n_latent)], axis=1)
        f = decoder_by_hand(model, theta, z)
        log_joint = stats.norm.logpdf(z).sum(axis=1)
        log_joint += DENSITIES[model.likelihood](theta["likelihood"], f, x_row).sum(axis=1)
        return cls(log_joint, z, model.n_latent * math.log(h))

    def nlml(self):
        return -special.logsumexp(self.log_joint + self.log_cell)

    def kl_to_posterior(self, q, phi_row):
        log_q = stats.multivariate_normal(*moments_by_hand(q, phi_row)).logpdf(self.z)
        log_posterior = self.log_joint + self.nlml()
        return np.sum(np.exp(log_q + self.log_cell) * (log_q - log_posterior))


def grid_nlml(case):
    return np.array([Referee.of(case.model, case.theta, row).nlml() for row in case.x])


def dense_parameters(case):
    layer = case.theta["decoder"][0]
    return layer["W"], layer["b"], noise_by_hand(case.model.likelihood, case.theta)


def dense_nlml(W, b, psi, x):
    """−log N(x; b, WᵀW + Ψ) through the D × D matrix."""
    return -stats.multivariate_normal(b, W.T @ W + np.diag(psi)).logpdf(x)


def dense_posterior(W, b, psi, x):
    """Mean (N, K) and covariance (K, K) of z given x, by conditioning the joint normal of (z, x)."""
    Sigma = W.T @ W + np.diag(psi)
    gain = np.linalg.solve(Sigma, W.T).T                           # W Σ⁻¹
    return (x - b) @ gain.T, np.eye(len(W)) - gain @ W.T


def dense_kl(m, C, mean, covariance):
    """KL(N(m, C) ‖ N(mean, covariance)) as the textbook has it."""
    P = np.linalg.inv(covariance)
    r = mean - m
    log_dets = np.linalg.slogdet(covariance)[1] - np.linalg.slogdet(C)[1]
    return 0.5 * (np.trace(P @ C) + r @ P @ r - len(m) + log_dets)


def dense_kls(case, phi):
    """KL(q(z|φ_n) ‖ p(z|x_n)) of a linear-Gaussian model, (N,)."""
    means, covariance = dense_posterior(*dense_parameters(case), case.x)
    q = case.model.posterior
    return np.array(
        [dense_kl(*moments_by_hand(q, row), mean, covariance) for row, mean in zip(phi, means, strict=True)]
    )


# ---- Q without chance, and its minimiser over φ ---------------------------------------------------


def exact_nodes(model):
    """Nodes on which Q is exact: sigma points where the decoder is linear and the likelihood Gaussian,
    else the trapezoidal rule in η, which for a tanh network errs by less than 1e-9."""
    if linear_gaussian.applies(model):
        return noise.sigma_points(model.n_latent)
    h = {1: 0.1, 2: 0.3}[model.n_latent]
    axis = np.arange(-8.4, 8.4 + h / 2, h)
    eta = np.stack([g.ravel() for g in np.meshgrid(*[axis] * model.n_latent)], axis=1)
    weights = stats.norm.pdf(eta).prod(axis=1)
    return eta[:, None, :], weights / weights.sum()


def exact_Q(case, phi, **options):
    eta, weights = exact_nodes(case.model)
    Q, _ = bound.forward(case.model, case.theta, phi, case.x, eta, weights=weights, **options)
    return Q


def minimiser(case, **options):
    """φ at the minimum of Q, by E-steps that know nothing of any closed form."""
    eta, weights = exact_nodes(case.model)
    start = infer.prior_phi(case.model, case.x)
    e = infer.e_step(case.model, case.theta, start, case.x, eta, weights, tol=1e-8, **options)
    assert (e.gradient_norm < 1e-6).all(), "the E-step did not reach a minimum"
    return e.phi


# ---- the faults that others published -------------------------------------------------------------


class NarrowNoise(posteriors.DiagonalGaussian):
    """ε drawn with standard deviation 0.01."""

    def sample(self, phi, eta):
        return posteriors.DiagonalGaussian.sample(self, phi, 0.01 * eta)

    def sample_backward(self, cache, dz):
        return posteriors.DiagonalGaussian.sample_backward(self, cache, dz)


class MeanKL(posteriors.DiagonalGaussian):
    """The KL averaged over K where it is to be summed."""

    def kl(self, phi):
        kl, cache = posteriors.DiagonalGaussian.kl(self, phi)
        return kl / self.n_latent, cache

    def kl_backward(self, cache, dkl):
        return posteriors.DiagonalGaussian.kl_backward(self, cache, dkl / self.n_latent)


class NoLog2Pi(likelihoods.Gaussian):
    """½ D log 2π dropped."""

    def forward(self, params, f, x, mask=None):
        log_p, cache = likelihoods.Gaussian.forward(self, params, f, x, mask)
        return log_p + 0.5 * self.n_visible * math.log(2 * math.pi), cache


# ---- fact 1: Q is never below nlml ----------------------------------------------------------------


def assert_upper_bound(Q, nlml_, tol=1e-9):
    assert Q.shape == nlml_.shape
    worst = int(np.argmin(Q - nlml_))
    assert np.all(Q - nlml_ >= -tol), f"row {worst}: Q = {Q[worst]} lies below nlml = {nlml_[worst]}"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", GAUSSIANS)
@settings(max_examples=20)
@given(seed=seeds, size=sizes, n_latent=st.integers(1, 3))
def test_fact_1_linear(name, family, seed, size, n_latent):
    case = make_case(seed, name, FAMILIES[family], n_latent=n_latent, size=size)
    values = dense_nlml(*dense_parameters(case), case.x)
    phi = minimiser(case)
    at_random, at_minimum = exact_Q(case, case.phi), exact_Q(case, phi)
    assert_upper_bound(at_random, values)
    assert_upper_bound(at_minimum, values)
    assert np.all(at_minimum <= at_random)
    closed_form = exact_Q(case, infer.closed_form(case.model, case.theta, case.x))
    np.testing.assert_allclose(at_minimum, closed_form, rtol=0, atol=1e-9)
    if family == "full":
        np.testing.assert_allclose(at_minimum, values, rtol=0, atol=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("hidden", [(), (3,)], ids=["one layer", "tanh"])
@pytest.mark.parametrize("name", LIKELIHOODS)
@settings(max_examples=8)
@given(seed=seeds, size=sizes)
def test_fact_1_by_grid(name, hidden, family, seed, size):
    case = make_case(seed, name, FAMILIES[family], hidden=hidden, size=size)
    values = grid_nlml(case)
    phi = minimiser(case)
    at_random, at_minimum = exact_Q(case, case.phi), exact_Q(case, phi)
    assert_upper_bound(at_random, values)
    assert_upper_bound(at_minimum, values)
    assert np.mean(at_minimum) <= np.mean(at_random)


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=10)
@given(seed=seeds)
def test_fact_1_for_the_observed_part_of_a_case(family, seed):
    """With a mask Q bounds −log p of what was observed; the full family reaches it."""
    case = make_case(seed, GAUSSIAN, FAMILIES[family], n_latent=2)
    mask = (np.random.default_rng(seed).random(case.x.shape) < 0.6).astype(float)
    mask[0] = 0                                                    # nothing observed: p = 1
    W, b, psi = dense_parameters(case)
    values = np.zeros(len(case.x))
    for n, seen in enumerate(mask == 1):
        if seen.any():
            values[n] = dense_nlml(W[:, seen], b[seen], psi[seen], case.x[n, seen])
    case = Case(case.model, case.theta, Observed(case.x, mask), case.phi)
    assert_upper_bound(exact_Q(case, case.phi), values)
    phi = minimiser(case)
    at_minimum = exact_Q(case, phi)
    assert_upper_bound(at_minimum, values)
    assert abs(at_minimum[0]) < 1e-9
    if family == "full":
        np.testing.assert_allclose(at_minimum, values, rtol=0, atol=1e-9)


FAULTS_IN_THE_BOUND = {
    "variance for standard deviation": (GAUSSIAN, VarianceForDeviation),
    "variance for standard deviation, binary": ("bernoulli", VarianceForDeviation),
    "noise of 0.01": (GAUSSIAN, NarrowNoise),
    "KL averaged over K": (GAUSSIAN, MeanKL),
    "no log 2 pi": (NoLog2Pi(D), posteriors.DiagonalGaussian),
}


@pytest.mark.parametrize("fault", FAULTS_IN_THE_BOUND)
def test_fact_1_catches(fault):
    likelihood, family = FAULTS_IN_THE_BOUND[fault]
    binary = likelihood == "bernoulli"
    case = make_case(1, likelihood, family, n_latent=1 if binary else 2, n_cases=50)
    values = grid_nlml(case) if binary else dense_nlml(*dense_parameters(case), case.x)
    Q = exact_Q(case, minimiser(case))
    with pytest.raises(AssertionError, match="lies below nlml"):
        assert_upper_bound(Q, values)
    assert np.all(Q < values), "the fault should show in every data case at its own optimum"


def test_fact_1_is_what_catches_a_variance_for_a_standard_deviation():
    """Its gradient check passes, and at random φ it hardly ever shows: only the optimum tells."""
    case = make_case(2, GAUSSIAN, VarianceForDeviation, n_latent=2, n_cases=500)
    c = np.random.default_rng(3).uniform(0.5, 1.5, 4)
    phi, x = case.phi[:4], case.x[:4]
    eta, weights = exact_nodes(case.model)

    def forward(phi):
        return bound.forward(case.model, case.theta, phi, x, eta, weights=weights)

    dphi, _ = bound.backward(case.model, case.theta, forward(phi)[1], c)
    assert gradcheck.check(lambda phi: np.sum(c * forward(phi)[0]), phi, dphi).ok

    values = dense_nlml(*dense_parameters(case), case.x)
    assert np.mean(exact_Q(case, case.phi) < values) < 0.05
    assert np.mean(exact_Q(case, minimiser(case)) < values) == 1


# ---- fact 2: the distance is KL(q ‖ posterior) ----------------------------------------------------


def assert_gap_is(Q, nlml_, kl, tol):
    assert Q.shape == nlml_.shape == kl.shape
    np.testing.assert_allclose(Q - nlml_, kl, rtol=0, atol=tol)


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=20)
@given(seed=seeds, size=sizes, n_latent=st.integers(1, 3))
def test_fact_2_linear(family, kl, seed, size, n_latent):
    case = make_case(seed, GAUSSIAN, FAMILIES[family], n_latent=n_latent, size=size)
    values = dense_nlml(*dense_parameters(case), case.x)
    for phi in (case.phi, minimiser(case)):
        assert_gap_is(exact_Q(case, phi, kl=kl), values, dense_kls(case, phi), 1e-8)
    package_values = nlml.exact(case.model, case.theta, case.x).values
    np.testing.assert_allclose(package_values, values, rtol=0, atol=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("n_latent", [1, 2])
@pytest.mark.parametrize("name", [GAUSSIAN, "bernoulli"])
@settings(max_examples=4)
@given(seed=seeds, size=sizes)
def test_fact_2_by_grid(name, n_latent, family, seed, size):
    case = make_case(seed, name, FAMILIES[family], n_latent=n_latent, hidden=(3,), size=size, n_cases=2)
    referees = [Referee.of(case.model, case.theta, row) for row in case.x]
    values = np.array([referee.nlml() for referee in referees])
    for phi in (case.phi, minimiser(case)):
        pairs = zip(referees, phi, strict=True)
        kls = np.array([referee.kl_to_posterior(case.model.posterior, row) for referee, row in pairs])
        assert_gap_is(exact_Q(case, phi), values, kls, 1e-6)
        assert np.all(kls > -1e-6)


def test_fact_2_catches():
    """The other direction of the KL; a KL short of its ½; a variance for a standard deviation."""
    case = make_case(0, GAUSSIAN, posteriors.DiagonalGaussian, n_latent=2)
    values, Q = dense_nlml(*dense_parameters(case), case.x), exact_Q(case, case.phi)
    kls = dense_kls(case, case.phi)
    means, covariance = dense_posterior(*dense_parameters(case), case.x)
    q, rows = case.model.posterior, zip(case.phi, means, strict=True)
    backwards = np.array(
        [dense_kl(mean, covariance, *moments_by_hand(q, row)) for row, mean in rows]
    )
    faulty = make_case(0, GAUSSIAN, VarianceForDeviation, n_latent=2)
    assert_gap_is(Q, values, kls, 1e-8)
    for wrong in (
        (Q, values, backwards),
        (Q, values, 2 * kls),
        (Q, values, -kls),
        (exact_Q(faulty, case.phi), values, kls),
    ):
        with pytest.raises(AssertionError):
            assert_gap_is(*wrong, 1e-8)


@settings(max_examples=10)
@given(seed=seeds, size=sizes)
def test_the_sampled_objective_has_no_variance_at_the_exact_posterior(seed, size):
    case = make_case(seed, GAUSSIAN, posteriors.FullGaussian, n_latent=2, size=size)
    phi = infer.closed_form(case.model, case.theta, case.x)
    eta = np.random.default_rng(seed).standard_normal((6, len(case.x), 2))
    values = dense_nlml(*dense_parameters(case), case.x)
    for one in eta:
        Q, _ = bound.forward(case.model, case.theta, phi, case.x, one[None], kl="sampled")
        np.testing.assert_allclose(Q, values, rtol=0, atol=1e-8)
    spread = [
        bound.forward(case.model, case.theta, case.phi, case.x, one[None], kl="sampled")[0] for one in eta
    ]
    assert np.all(np.std(spread, axis=0) > 1e-3), "at any other φ there is variance"


# ---- fact 3: one optimum for all routes -----------------------------------------------------------

ROUTES = {
    "EM": FactorAnalysis(2, tol=1e-11),
    "variational EM, mean field": VariationalEM(2, hidden=(), tol=1e-10),
    "variational EM, full": VariationalEM(2, hidden=(), posterior="full", tol=1e-10),
    "VAE": VAE(2, hidden=(), optimizer="lbfgs", nodes="sigma"),
    "VAE, full": VAE(2, hidden=(), posterior="full", optimizer="lbfgs", nodes="sigma"),
    "VAE, two networks": VAE(2, hidden=(), separate=True, optimizer="lbfgs", nodes="sigma"),
    "VAE, sampled KL": VAE(2, hidden=(), kl="sampled", optimizer="lbfgs", nodes="sigma"),
}


def linear_parameters(estimator):
    return linear_gaussian.parameters(estimator.model_, estimator.theta_)


def assert_same_optimum(values, tol=1e-6):
    """values {route: mean nlml or mean Q in nats per case}."""
    spread = max(values.values()) - min(values.values())
    assert spread < tol, f"the routes end {spread} nats apart: {values}"


def test_fact_3_all_routes_reach_one_optimum():
    x = datasets.linear_gaussian(n_cases=150, n_visible=6, n_latent=2, seed=1).x
    values, noises, shared = {}, {}, {}
    for name, route in ROUTES.items():
        route = type(route)(**route.get_params()).fit(x)
        assert len(route.heywood_) == 0 and route.converged_, name
        W, b, psi = linear_parameters(route)
        dense = dense_nlml(W, b, psi, x)
        np.testing.assert_allclose(route.nlml(x, method="exact").values, dense, rtol=0, atol=1e-8)
        np.testing.assert_allclose(-route.score(x), np.mean(dense), rtol=0, atol=1e-8)
        values[name] = float(np.mean(dense))
        # at the optimum q is the exact posterior, so Q ends there too; no Q lies below
        assert_upper_bound(route.bound(x), dense, tol=1e-8)
        values[f"{name}, Q"] = float(np.mean(route.bound(x)))
        noises[name], shared[name] = psi / x.var(axis=0), W.T @ W
    assert_same_optimum(values)
    for name in ROUTES:
        np.testing.assert_allclose(noises[name], noises["EM"], rtol=0, atol=5e-4, err_msg=name)
        np.testing.assert_allclose(shared[name], shared["EM"], rtol=0, atol=2e-3, err_msg=name)


def test_fact_3_catches_a_variance_for_a_standard_deviation(monkeypatch):
    x = datasets.linear_gaussian(n_cases=150, n_visible=6, n_latent=2, seed=1).x
    values = {"EM": float(np.mean(FactorAnalysis(2).fit(x).nlml(x).values))}
    monkeypatch.setitem(posteriors.POSTERIORS, "diagonal", VarianceForDeviation)
    faulty = fitted(VAE(2, hidden=(), optimizer="lbfgs", nodes="sigma", epochs=100), x)
    values["VAE, as trained"] = faulty.q_path_[-1]
    with pytest.raises(AssertionError, match="nats apart"):
        assert_same_optimum(values)
    assert faulty.q_path_[-1] < values["EM"], "it reports a bound better than the best there is"


# ---- fact 4: what mean field misses ---------------------------------------------------------------


def assert_gap(Q, nlml_, expected, tol=1e-8):
    """The same gap for every x, to the last digit that matters."""
    np.testing.assert_allclose(Q - nlml_, expected, rtol=0, atol=tol)


def rotated_case(seed, angle_of, family, n_latent=3):
    """A linear model whose loadings are canonical, turned by `angle_of`: "none" or "random"."""
    case = make_case(seed, GAUSSIAN, family, n_latent=n_latent)
    W, _, psi = dense_parameters(case)
    _, vectors = np.linalg.eigh(W / psi @ W.T)
    turn = np.eye(n_latent)
    if angle_of == "random":
        turn = stats.ortho_group(n_latent, seed=seed % 2**31).rvs()
    case.theta["decoder"][0]["W"] = turn @ vectors.T @ W
    return case


def mean_field_gap_by_hand(W, psi):
    M = np.eye(len(W)) + W @ np.diag(1 / psi) @ W.T
    return 0.5 * (np.sum(np.log(np.diag(M))) - np.log(np.linalg.det(M)))


@settings(max_examples=15)
@given(seed=seeds, n_latent=st.integers(2, 3))
def test_fact_4_mean_field_on_rotated_loadings(seed, n_latent):
    case = rotated_case(seed, "random", posteriors.DiagonalGaussian, n_latent)
    W, b, psi = dense_parameters(case)
    values, expected = dense_nlml(W, b, psi, case.x), mean_field_gap_by_hand(W, psi)
    assert expected > 1e-4
    assert_gap(exact_Q(case, infer.closed_form(case.model, case.theta, case.x)), values, expected)
    assert_gap(exact_Q(case, minimiser(case)), values, expected)
    np.testing.assert_allclose(linear_gaussian.mean_field_gap(W, psi), expected, rtol=0, atol=1e-10)


@settings(max_examples=15)
@given(seed=seeds, n_latent=st.integers(2, 3))
def test_fact_4_nothing_is_missed_on_canonical_loadings_or_by_the_full_family(seed, n_latent):
    for angle, family in (("none", posteriors.DiagonalGaussian), ("random", posteriors.FullGaussian)):
        case = rotated_case(seed, angle, family, n_latent)
        values = dense_nlml(*dense_parameters(case), case.x)
        assert_gap(exact_Q(case, infer.closed_form(case.model, case.theta, case.x)), values, 0)
        assert_gap(exact_Q(case, minimiser(case)), values, 0)
    W, _, psi = dense_parameters(rotated_case(seed, "none", posteriors.DiagonalGaussian, n_latent))
    assert abs(linear_gaussian.mean_field_gap(W, psi)) < 1e-10


def test_fact_4_catches():
    """"The linear VAE has the exact posterior"; and s² = (M⁻¹)_kk where 1/M_kk is the minimiser."""
    case = rotated_case(5, "random", posteriors.DiagonalGaussian)
    W, b, psi = dense_parameters(case)
    values, expected = dense_nlml(W, b, psi, case.x), mean_field_gap_by_hand(W, psi)
    Q = exact_Q(case, infer.closed_form(case.model, case.theta, case.x))
    assert_gap(Q, values, expected)
    mean, covariance = dense_posterior(W, b, psi, case.x)
    marginals = np.broadcast_to(0.5 * np.log(np.diag(covariance)), mean.shape)
    for wrong in (
        (Q, values, 0),
        (Q, values, -expected),
        (exact_Q(case, np.concatenate([mean, marginals], axis=1)), values, expected),
    ):
        with pytest.raises(AssertionError):
            assert_gap(*wrong)


# ---- fact 5: downhill -----------------------------------------------------------------------------


def assert_never_rises(path, tol=1e-9):
    path = np.asarray(path)
    assert len(path) > 2 and np.all(np.isfinite(path))
    rises = np.diff(path)
    assert np.all(rises <= tol), f"{np.sum(rises > tol)} rises, the largest {rises.max():.3g}"


def fitted(estimator, x):
    """Fitted without the two warnings that short runs on hard data rightly give."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", HeywoodWarning)
        return estimator.fit(x)


def heywood_data():
    """The first column twice: one factor explains both completely, and their noise runs to 0."""
    x = datasets.linear_gaussian(n_cases=200, n_visible=6, n_latent=2, seed=1).x
    return np.column_stack([x, x[:, 0]])


DOWNHILL = {
    "EM": (FactorAnalysis, "nlml_path_", {"max_iter": 150}),
    "variational EM, mean field": (VariationalEM, "q_path_", {"hidden": (), "epochs": 150}),
    "variational EM, full": (VariationalEM, "q_path_", {"hidden": (), "posterior": "full", "epochs": 150}),
}


@pytest.mark.parametrize("route", DOWNHILL)
@settings(max_examples=15)
@given(seed=seeds, n_latent=st.integers(1, 3), noise_=st.sampled_from(["diagonal", "isotropic", 0.5]))
def test_fact_5_never_uphill(route, seed, n_latent, noise_):
    rng = np.random.default_rng(seed)
    x = rng.standard_t(3, (40, 4)) @ rng.standard_normal((4, 6)) + rng.standard_normal((40, 6))
    make, path, options = DOWNHILL[route]
    estimator = fitted(make(n_latent, noise=noise_, tol=1e-13, random_state=seed, **options), x)
    assert_never_rises(getattr(estimator, path))
    end = np.mean(estimator.nlml(x).values if path == "nlml_path_" else estimator.bound(x))
    assert end == pytest.approx(getattr(estimator, path)[-1], abs=1e-9), "the path is of another θ"


@pytest.mark.parametrize("route", DOWNHILL)
def test_fact_5_under_heywood(route):
    make, path, options = DOWNHILL[route]
    options = {k: v for k, v in options.items() if k not in ("max_iter", "epochs")}
    most = {"max_iter" if make is FactorAnalysis else "epochs": 2000}
    estimator = fitted(make(2, min_noise=1e-6, tol=1e-13, **most, **options), heywood_data())
    assert list(estimator.heywood_) == [0, 6]
    assert len(getattr(estimator, path)) > 20, "it has some way to go"
    assert_never_rises(getattr(estimator, path))


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=5)
@given(seed=seeds, name=st.sampled_from([GAUSSIAN, "bernoulli"]))
def test_an_e_step_never_raises_Q_of_any_case(family, seed, name):
    """Steep decoders, started far out: whole quasi-Newton steps would overshoot."""
    case = make_case(seed, name, FAMILIES[family], n_latent=2, hidden=(4,), size=4.0)
    start, (eta, weights) = case.phi + 1.5, noise.gauss_hermite(2, 7)
    paths = np.array([
        infer.e_step(case.model, case.theta, start, case.x, eta, weights, max_steps=steps).Q
        for steps in range(25)
    ])
    assert np.all(paths[-1] < paths[0] - 0.1)
    for path in paths.T:
        assert_never_rises(path)


def test_of_several_starts_every_case_keeps_its_best():
    data = datasets.spiral(n_cases=40, noise=0.1**2)
    model, theta, x = Model(data.truth.decoder, likelihoods.Gaussian(2), 1), data.truth.theta, data.x
    eta, weights = noise.gauss_hermite(1, 7)
    starts = [np.tile([[m, -1.0]], (len(x), 1)) for m in (-1.5, 0.0, 1.5)]
    ends = [infer.e_step(model, theta, phi, x, eta, weights) for phi in starts]
    best = infer.from_starts(model, theta, starts, x, eta, weights)
    Q = np.array([e.Q for e in ends])
    assert len(set(Q.argmin(axis=0))) == 3, "each start is the best of some case"
    assert np.mean(Q.max(axis=0) - Q.min(axis=0)) > 0.1, "there are several minima"
    np.testing.assert_array_equal(best.Q, Q.min(axis=0))
    kept = np.array([e.phi for e in ends])[Q.argmin(axis=0), np.arange(len(x))]
    np.testing.assert_array_equal(best.phi, kept)


def test_fact_5_catches_what_scikit_learns_stored_test_let_pass():
    rising = np.array([3.0, 1.0, 2.0])
    assert np.all(np.diff(-rising)) > 0, "np.all(differences) > 0 is true of anything without a zero"
    with pytest.raises(AssertionError, match="1 rises"):
        assert_never_rises(rising)
    with pytest.raises(AssertionError):
        assert_never_rises([3.0, 2.0, math.nan])


def test_fact_5_catches_a_noise_without_the_expected_spread(monkeypatch):
    """Ψ from the residuals of the means alone; what q leaves uncertain is forgotten."""
    x = datasets.linear_gaussian(n_cases=200, n_visible=6, n_latent=2, seed=1).x
    right = linear_gaussian.m_step
    spread = {}

    def m_step(stats_):
        W, b, mean_square = right(stats_)
        return W, b, mean_square - np.sum(W * (spread["C"] @ W), axis=0)

    right_moments = linear_gaussian.e_step_moments

    def e_step_moments(W, psi, S, family=None):
        M = linear_gaussian.precision(W, psi)
        spread["C"] = np.linalg.inv(M) if family is None else np.diag(1 / np.diag(M))
        return right_moments(W, psi, S, family)

    monkeypatch.setattr(linear_gaussian, "m_step", m_step)
    monkeypatch.setattr(linear_gaussian, "e_step_moments", e_step_moments)
    for make, path, options in DOWNHILL.values():
        estimator = fitted(make(2, tol=1e-13, **options), x)
        with pytest.raises(AssertionError, match="rises"):
            assert_never_rises(getattr(estimator, path))


def test_fact_5_catches_a_floor_lost_in_rounding():
    """A floor of 1e-12 of each variance, where the nlml itself is lost in cancellation."""
    estimator = fitted(FactorAnalysis(2, min_noise=1e-12, tol=1e-13, max_iter=2000), heywood_data())
    with pytest.raises(AssertionError, match="rises"):
        assert_never_rises(estimator.nlml_path_)


# ---- fact 7: two roads to nlml agree within their stated error ------------------------------------


def assert_within_stated_error(values, errors, truth):
    """values, errors (runs, N): the errors are as large as stated, neither larger nor smaller, and
    nothing lies far out. Runs are independent; the rows of one run share their draws."""
    assert np.all(errors > 0)
    u = (values - truth) / errors
    assert np.mean(np.abs(u) < 4) > 0.99, f"{np.mean(np.abs(u) >= 4):.1%} beyond 4 standard errors"
    assert np.abs(u).max() < 5, f"one lies {np.abs(u).max():.1f} standard errors off"
    size = np.sqrt(np.mean(u * u))
    assert 0.8 < size < 1.25, f"typical error {size:.2f} of the one that is stated"


def importance_runs(case, phi, n_runs=60, n_samples=1000):
    runs = [
        nlml.importance(
            case.model, case.theta, phi, case.x, np.random.default_rng(seed), n_samples=n_samples
        )
        for seed in range(n_runs)
    ]
    assert all(run.method == "importance" and run.certificate is None for run in runs)
    return np.array([r.values for r in runs]), np.array([r.standard_error for r in runs])


def near_posterior(case):
    """φ close to the posterior but not on it, so that the weights vary; wider, as they should be."""
    rng = np.random.default_rng(0)
    phi, K = minimiser(case), case.model.n_latent
    phi[:, :K] += rng.uniform(-0.2, 0.2, (len(phi), K))            # another shift for every row
    diagonal = [K + i * (i + 3) // 2 for i in range(K)]
    if isinstance(case.model.posterior, posteriors.DiagonalGaussian):
        diagonal = list(range(K, 2 * K))
    phi[:, diagonal] += rng.uniform(0.1, 0.2, (len(phi), K))
    return phi


@pytest.mark.parametrize("family", FAMILIES)
def test_fact_7_linear(family):
    case = make_case(3, GAUSSIAN, FAMILIES[family], n_latent=2, n_cases=10)
    truth = dense_nlml(*dense_parameters(case), case.x)
    exact = nlml.exact(case.model, case.theta, case.x)
    assert exact.standard_error is None and exact.method == "exact"
    np.testing.assert_allclose(exact.values, truth, rtol=0, atol=1e-9)
    assert_within_stated_error(*importance_runs(case, near_posterior(case)), truth)


@pytest.mark.parametrize("name", [GAUSSIAN, "bernoulli"])
def test_fact_7_by_grid(name):
    case = make_case(7, name, posteriors.DiagonalGaussian, hidden=(3,), n_cases=10)
    assert_within_stated_error(*importance_runs(case, near_posterior(case)), grid_nlml(case))


def test_fact_7_the_error_falls_with_the_root_of_the_samples():
    case = make_case(3, GAUSSIAN, posteriors.DiagonalGaussian, n_latent=2, n_cases=10)
    phi = near_posterior(case)
    few, many = (
        nlml.importance(case.model, case.theta, phi, case.x, np.random.default_rng(0), n_samples=n)
        for n in (500, 8000)
    )
    ratio = np.mean(few.standard_error) / np.mean(many.standard_error)
    assert 3.5 < ratio < 4.6


def test_fact_7_catches():
    """An error that is a standard deviation; one too small; a wrong sign; draws from another q."""
    case = make_case(3, GAUSSIAN, posteriors.DiagonalGaussian, n_latent=2, n_cases=10)
    truth, phi = dense_nlml(*dense_parameters(case), case.x), near_posterior(case)
    values, errors = importance_runs(case, phi)
    assert_within_stated_error(values, errors, truth)
    case.model = Model(case.model.decoder, case.model.likelihood, 2, VarianceForDeviation(2))
    for wrong in (
        (values, errors * 20, truth),
        (values, errors / 2, truth),
        (-values, errors, truth),
        (*importance_runs(case, phi), truth),
    ):
        with pytest.raises(AssertionError):
            assert_within_stated_error(*wrong)


@pytest.mark.parametrize("phi, eta, message", [
    ((4, 4), (4, 2), r"eta must have shape \(S, N, K\) or \(S, 1, K\).*K = 2.*got \(4, 2\)"),
    ((1, 4), (3, 4, 2), r"phi must have shape \(N, n_phi\).*N = 4 data cases.*n_phi = 4 of .*got \(1, 4\)"),
    ((4, 5), (3, 4, 2), r"got \(4, 5\)"),
    ((4, 4), (3, 3, 2), r"eta must have shape .*got \(3, 3, 2\)"),
    ((4, 4), (3, 4, 2), r"weights must have shape \(S,\) or \(S, N\).*S = 3 samples.*got \(7,\)"),
    ((4, 4), (3, 4, 2), r"x must have shape \(N, D\).*D = 3.*got \(4, 1\)"),
])
def test_the_bound_says_which_shape_is_wrong(phi, eta, message):
    weights = np.ones(7) if "weights" in message else None
    x = np.zeros((4, 1 if message.startswith("x") else 3))
    model = Model(layers.mlp(2, (), 3), likelihoods.Gaussian(3), 2)
    theta = model.init(np.random.default_rng(0))
    with pytest.raises(ValueError, match=message):
        bound.forward(model, theta, np.zeros(phi), x, np.zeros(eta), weights=weights)
