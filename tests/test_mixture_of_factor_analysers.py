"""The mixture of factor analysers: its bound, its EM and what is read off it, each by a second road.

The second roads are dense normal densities from SciPy, conditional means by dense linear algebra, factor
analysis (one component), the Gaussian mixture (no z), small changes of θ, and data whose truth is known.
"""

import math
import warnings

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest
from scipy import linalg, special, stats
from sklearn.base import clone

import teachvae
from teachvae import FactorAnalysis, GaussianMixture, MixtureOfFactorAnalysers
from teachvae.arrays import rows
from teachvae.arrays.backend import to_numpy
from teachvae.doors.columns import Columns, MovedWarning, Table
from teachvae.doors.units import HeywoodWarning
from teachvae.inference import em, linear_gaussian, mixture, mixture_of_factor_analysers as analysers
from teachvae.inference.mixture_of_factor_analysers import Analysers
from teachvae.likelihoods import Gaussian
from teachvae.networks.convergence import ConvergenceWarning
from teachvae.posteriors import FullGaussian
from teachvae.routes.conventions import NotFittedError
from teachvae.routes.discrete import CollapseWarning

J, K, D, N = 3, 2, 5, 240
NOISES = ("shared", "own")
every_noise = pytest.mark.parametrize("noise", NOISES)
seeds = st.integers(0, 2**32 - 1)


def random_theta(rng, noise, J=J, K=K, D=D):
    psi = rng.uniform(0.2, 1.5, (D,) if noise == "shared" else (J, D))
    return Analysers(
        rng.dirichlet(np.full(J, 4.0)), rng.standard_normal((J, K, D)), 3 * rng.standard_normal((J, D)), psi
    )


def drawn(theta, rng, n_cases):
    """x (n, D) and its components (n,), by the definition."""
    j = rng.choice(len(theta.weights), size=n_cases, p=theta.weights)
    z = rng.standard_normal((n_cases, theta.W.shape[1]))
    psi = np.broadcast_to(theta.psi, theta.b.shape)[j]
    x = np.einsum("nk,nkd->nd", z, theta.W[j]) + theta.b[j]
    return x + np.sqrt(psi) * rng.standard_normal(psi.shape), j


TRUTH = random_theta(np.random.default_rng(7), "own")             # of which no fit here ends at a floor
TRUTH = TRUTH._replace(psi=0.8 + 0.5 * TRUTH.psi)
X, _ = drawn(TRUTH, np.random.default_rng(9), N)


def dense(theta):
    """The covariances (J, D, D)."""
    psi = np.broadcast_to(theta.psi, theta.b.shape)
    return np.array([W.T @ W + np.diag(v) for W, v in zip(theta.W, psi)])


def joint_by_scipy(theta, x):
    """log p(x_n, j), (N, J)."""
    with np.errstate(divide="ignore"):
        log_weights = np.log(theta.weights)
    densities = [stats.multivariate_normal(b, S).logpdf(x) for b, S in zip(theta.b, dense(theta))]
    return log_weights + np.reshape(densities, (len(theta.b), len(x))).T


def quiet(model, x, **how):
    with warnings.catch_warnings():
        for kind in (ConvergenceWarning, CollapseWarning, HeywoodWarning):
            warnings.simplefilter("ignore", kind)
        return model.fit(x, **how)


def fitted(theta, noise, x=X):
    """An estimator whose θ is `theta`, whatever EM would make of it."""
    J, K, _ = theta.W.shape
    model = quiet(MixtureOfFactorAnalysers(J, n_latent=K, noise=noise, init=theta, max_iter=1), x)
    model.theta_ = theta
    return model


def theta_of(model):
    return Analysers(model.weights_, model.components_, model.means_, model.noise_variance_)


def learnt(model):
    return sorted(name for name in vars(model) if name.endswith("_"))


def close(a, b, atol, **options):
    np.testing.assert_allclose(a, b, rtol=0, atol=atol, **options)


# ---- nlml, Q and the gap between them --------------------------------------------------------------


@every_noise
@pytest.mark.parametrize("n_latent", [0, 1, 2, 5])
@given(seeds)
@settings(max_examples=8)
def test_nlml_Q_and_the_kl_between_them(noise, n_latent, seed):
    rng = np.random.default_rng(seed)
    theta = random_theta(rng, noise, K=n_latent)
    model, log_p = fitted(theta, noise), joint_by_scipy(theta, X)
    nlml = model.nlml(X)
    assert nlml.method == "exact" and nlml[1:3] == (None, None)
    close(nlml.values, -special.logsumexp(log_p, axis=1), 1e-9)
    np.testing.assert_array_equal(model.score_samples(X), -nlml.values)
    close(model.score(X), -nlml.values.mean(), 1e-13)
    close(model.infer(X), special.softmax(log_p, axis=1), 1e-10)
    close(model.bound(X), nlml.values, 1e-11)                      # q is exact: no gap
    close(model.kl_to_posterior(X), 0, 1e-11)

    phi = rng.dirichlet(np.full(J, 0.5), size=N) * rng.integers(0, 2, (N, J))
    phi[phi.sum(axis=1) == 0] = [0, 1, 0]
    phi /= phi.sum(axis=1, keepdims=True)                          # some entries are 0
    Q, kl = model.bound(X, phi=phi), model.kl_to_posterior(X, phi=phi)
    close(Q, (special.xlogy(phi, phi) - phi * log_p).sum(axis=1), 1e-9)
    close(kl, special.rel_entr(phi, special.softmax(log_p, axis=1)).sum(axis=1), 1e-9)
    close(Q - nlml.values, kl, 1e-11)
    assert (kl > -1e-12).all() and kl.max() > 0.1


def bound_of_both(theta, q, phi, x):
    """Q of q(j) (N, J) and Gaussians over z, φ (J, N, n) of `FullGaussian`: (9.11), by (2.13) for each j."""
    psi = np.broadcast_to(theta.psi, theta.b.shape)
    Q = np.transpose([
        linear_gaussian.bound(W, b, v, own, FullGaussian(W.shape[0]), x)
        for W, b, v, own in zip(theta.W, theta.b, psi, phi)
    ])
    return (special.xlogy(q, q) + q * (Q - np.log(theta.weights))).sum(axis=1)


def posteriors(theta, x):
    """φ (J, N, n) of p(z|x, j)."""
    psi, K = np.broadcast_to(theta.psi, theta.b.shape), theta.W.shape[1]
    pairs = (linear_gaussian.posterior(W, b, v, x) for W, b, v in zip(theta.W, theta.b, psi))
    return np.array([FullGaussian(K).closest(mean, M) for mean, M in pairs])


@every_noise
def test_the_bound_of_both_latent_variables_is_least_at_their_posterior(noise):
    rng = np.random.default_rng(5)
    theta = random_theta(rng, noise)
    model, q, phi = fitted(theta, noise), rng.dirichlet(np.ones(J), size=N), posteriors(theta, X)
    close(bound_of_both(theta, q, phi, X), model.bound(X, phi=q), 1e-10)
    close(bound_of_both(theta, model.infer(X), phi, X), model.nlml(X).values, 1e-10)
    for size in (1e-3, 0.1, 1):
        other = bound_of_both(theta, q, phi + size * rng.standard_normal(phi.shape), X)
        assert (other > model.bound(X, phi=q)).all()


# ---- one component, and no z -----------------------------------------------------------------------


def start_of_factor_analysis(x, n_latent):
    """(W, b, psi) for EM to start from, of one factor analysis, and its problem on x about its mean."""
    S, gaussian = np.cov(x.T, bias=True), Gaussian(x.shape[1])
    lower = gaussian.lower_bounds(np.diag(S), 1e-6)
    draw = np.random.default_rng(2).standard_normal((x.shape[1], n_latent))
    W, psi = em.start(S, n_latent, gaussian, draw, lower)
    return (W, x.mean(axis=0), psi), em.Complete(S, gaussian, lower)


@every_noise
def test_with_one_component_EM_takes_the_steps_of_factor_analysis(noise):
    """The parameters after each of the first 50 E-steps, of which some steps are taken back."""
    (W, b, psi), problem = start_of_factor_analysis(X, K)
    theirs = em.em(problem, em.Parameters(W, np.zeros(D), psi), tol=1e-12)
    own = psi if noise == "shared" else psi[None]
    ours = em.em(
        analysers.Problem(X, np.ones(N), 1e-6 * X.var(axis=0)),
        Analysers(np.ones(1), W[None], b[None], own), tol=1e-12,
    )
    for step, one, other in zip(range(50), ours, theirs):
        close(one.path[-1], other.path[-1], 1e-10, err_msg=step)
        close(one.p.W[0], other.p.W, 1e-10, err_msg=step)
        close(one.p.b[0], X.mean(axis=0) + other.p.b, 1e-10, err_msg=step)
        close(np.ravel(one.p.psi), other.p.psi, 1e-10, err_msg=step)
    assert step == 49 and one.path[0] > one.path[-1] + 0.01


@every_noise
def test_with_one_component_it_is_factor_analysis(noise):
    fa = FactorAnalysis(K, tol=1e-12).fit(X)
    psi = fa.noise_variance_ if noise == "shared" else fa.noise_variance_[None]
    theta = Analysers(np.ones(1), fa.components_[None], fa.mean_[None], psi)
    model = fitted(theta, noise)
    close(model.nlml(X).values, fa.nlml(X).values, 1e-10)
    close(model.q_path_[:2], fa.nlml_path_[-1], 1e-10)             # and EM stays there
    np.testing.assert_array_equal(model.transform(X)[:, 0], 1)
    close(model.transform(X)[:, 1:], fa.transform(X), 1e-10)
    close(model.reconstruct(X), fa.reconstruct(X), 1e-10)
    close(model.denoise(X, 0.3), fa.denoise(X, 0.3), 1e-10)
    holes = np.where(np.random.default_rng(0).random(X.shape) < 0.3, np.nan, X)
    close(model.impute(holes), fa.impute(holes), 1e-10)
    assert model.n_parameters_ == fa.n_parameters_
    alone = quiet(MixtureOfFactorAnalysers(1, n_latent=1, noise=noise, tol=1e-12), X)
    close(alone.q_path_[-1], FactorAnalysis(1, tol=1e-12).fit(X).nlml_path_[-1], 1e-10)


def test_without_z_EM_takes_the_steps_of_the_gaussian_mixture():
    theta = mixture.start(X, X.var(axis=0), J, "diagonal", 0)
    lowest, none = 1e-6 * X.var(axis=0), np.zeros((J, 0, D))
    problem = analysers.Problem(X, np.ones(N), lowest)
    p = Analysers(theta.weights, none, theta.means, theta.covariances)
    for _ in range(30):
        moments, Q = problem.e_step(p)
        log_p = mixture.log_joint(theta, X)
        close(Q, mixture.divergence(mixture.free(log_p), log_p).mean(), 1e-10)
        theta = mixture.m_step(theta, mixture.free(log_p), X, lowest)
        p = problem.widened(problem.m_step(moments), moments)
        close(p.weights, theta.weights, 1e-10)
        close(p.b, theta.means, 1e-10)
        close(p.psi, theta.covariances, 1e-10)


def test_without_z_it_is_the_gaussian_mixture():
    theirs = GaussianMixture(J, tol=1e-12).fit(X)
    init = theirs.weights_, np.zeros((J, 0, D)), theirs.means_, theirs.covariances_
    model = MixtureOfFactorAnalysers(J, n_latent=0, noise="own", init=init, tol=1e-12).fit(X)
    close(model.q_path_[0], theirs.q_path_[-1], 1e-10)
    close(model.nlml(X).values, theirs.nlml(X).values, 1e-6)
    close(model.q_path_[-1], theirs.q_path_[-1], 1e-10)
    close(model.transform(X), theirs.transform(X), 1e-6)
    close(model.transform(X), model.infer(X), 0)
    assert model.components_.shape == (J, 0, D) and model.n_parameters_ == theirs.n_parameters_
    assert MixtureOfFactorAnalysers(2, n_latent=0).fit(X).sample(3, random_state=0).shape == (3, D)


# ---- M-step and optimum ----------------------------------------------------------------------------


@every_noise
@given(seeds)
@settings(max_examples=5)
def test_the_m_step_has_the_least_Q_in_every_direction(noise, seed):
    """Given the q of an E-step, whatever the weights of the data cases."""
    rng = np.random.default_rng(seed)
    before, x, w = random_theta(rng, noise), X[:40], rng.uniform(0.2, 2, 40)
    w = w / w.mean()
    problem = analysers.Problem(x, w, 0.1 * x.var(axis=0))
    moments, Q = problem.e_step(before)
    q, phi = special.softmax(joint_by_scipy(before, x), axis=1), posteriors(before, x)
    close(Q, w @ bound_of_both(before, q, phi, x) / 40, 1e-10)
    best = problem.m_step(moments)
    close(best.weights.sum(), 1, 1e-13)
    assert (best.psi >= problem.lowest).all()
    least = w @ bound_of_both(best, q, phi, x)
    for size in (1e-4, 1e-2, 0.3):
        for _ in range(6):
            weights = best.weights * np.exp(size * rng.standard_normal(J))
            other = Analysers(
                weights / weights.sum(),
                best.W + size * rng.standard_normal(best.W.shape),
                best.b + size * rng.standard_normal(best.b.shape),
                np.maximum(best.psi * np.exp(size * rng.standard_normal(best.psi.shape)), problem.lowest),
            )
            assert w @ bound_of_both(other, q, phi, x) >= least - 1e-10
    wide = problem.widened(best, moments)
    assert problem.e_step(wide)[1] <= problem.e_step(best)[1] + 1e-12 <= Q + 2e-12


@every_noise
def test_the_gradient_is_zero_at_the_optimum(noise):
    """That of the mean nlml by dense densities, by central differences in every parameter."""
    model = MixtureOfFactorAnalysers(J, n_latent=1, noise=noise, tol=1e-13).fit(X)
    assert model.converged_ and model.heywood_.size == model.collapsed_.size == 0
    theta = theta_of(model)

    def nlml(logits, W, b, log_psi):
        moved = Analysers(special.softmax(logits), W, b, np.exp(log_psi))
        return -special.logsumexp(joint_by_scipy(moved, X), axis=1).mean()

    at = [np.log(theta.weights), theta.W, theta.b, np.log(theta.psi)]
    close(nlml(*at), model.q_path_[-1], 1e-11)
    for i, part in enumerate(at):
        for place in np.ndindex(part.shape):
            up, down = [a.copy() for a in at], [a.copy() for a in at]
            up[i][place] += 1e-5
            down[i][place] -= 1e-5
            assert abs(nlml(*up) - nlml(*down)) / 2e-5 < 1e-5, (i, place)


def assert_never_rises(path):
    assert len(path) > 1 and np.diff(path).max() <= 1e-11 * (1 + np.abs(path).max()), path


@every_noise
@given(
    seeds, st.integers(1, 4), st.integers(0, 3), st.sampled_from(["clouds", "few places", "outlier", "line"])
)
@settings(max_examples=12)
def test_Q_never_rises(noise, seed, n_components, n_latent, kind):
    """Also where the floor is needed: repeated data cases, one far from all others, columns on a line."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((24, 3)) * [1, 10, 0.1]
    if kind == "few places":
        x = x[rng.integers(0, 6, 24)]
    elif kind == "outlier":
        x[0] += 1e3
    elif kind == "line":
        x[:, 2] = 2 * x[:, 0] - 1
    how = {"max_iter": 60, "random_state": seed, "min_noise": 1e-4, "n_starts": 1}
    model = quiet(MixtureOfFactorAnalysers(n_components, n_latent=n_latent, noise=noise, **how), x)
    assert_never_rises(model.q_path_)
    close(model.q_path_[-1], model.bound(x).mean(), 1e-9 * (1 + abs(model.q_path_[-1])))
    close(model.bound(x), model.nlml(x).values, 1e-9)
    assert (model.noise_variance_ >= 1e-4 * x.var(axis=0) * (1 - 1e-12)).all()


@every_noise
def test_planted_components_are_found(noise):
    """1500 data cases: means, loadings up to a rotation, noise and weights; and who belongs where."""
    rng = np.random.default_rng(4)
    truth = random_theta(rng, noise, J=2, K=1)
    truth = truth._replace(weights=np.array([0.65, 0.35]), b=truth.b * 2)
    x, j = drawn(truth, rng, 1500)
    model = MixtureOfFactorAnalysers(2, n_latent=1, noise=noise).fit(x)
    order = np.argsort(-model.weights_)
    close(model.weights_[order], truth.weights, 0.04)
    close(model.means_[order], truth.b, 0.25)
    psi = model.noise_variance_ if noise == "shared" else model.noise_variance_[order]
    close(psi, truth.psi, 0.25)
    for S, own, n in zip(model.covariances_[order], dense(truth), np.bincount(j)):
        spread = np.sqrt((np.outer(np.diag(own), np.diag(own)) + own**2) / n)
        assert (np.abs(S - own) < 4.5 * spread).all()
    for W, own in zip(model.components_[order], truth.W):
        assert linalg.subspace_angles(W.T, own.T)[0] < 0.15
    assert np.mean(order[j] == model.infer(x).argmax(axis=1)) > 0.98
    best = -special.logsumexp(joint_by_scipy(truth, x), axis=1).mean()
    assert best - 0.05 < model.q_path_[-1] < best                  # it fits as many numbers as there are


# ---- what fit leaves behind ------------------------------------------------------------------------


@every_noise
def test_what_fit_leaves_behind(noise):
    model = MixtureOfFactorAnalysers(J, n_latent=1, noise=noise)
    before = model.get_params()
    assert learnt(model) == [] and model.fit(X) is model
    assert model.get_params() == before and set(vars(model)) == set(before) | set(learnt(model))
    assert model.converged_ is True and model.q_path_.shape == (model.n_iter_ + 1,)
    assert_never_rises(model.q_path_)
    own = (D,) if noise == "shared" else (J, D)
    assert model.weights_.shape == (J,) and model.means_.shape == (J, D)
    assert model.components_.shape == (J, 1, D) and model.noise_variance_.shape == own
    assert model.n_parameters_ == J - 1 + 2 * J * D + math.prod(own)
    close(model.covariances_, dense(theta_of(model)), 1e-12)
    close(model.q_path_[-1], model.nlml(X).values.mean(), 1e-12)
    for W, psi in zip(model.components_, np.broadcast_to(model.noise_variance_, (J, D))):
        assert W[np.arange(1), np.abs(W).argmax(axis=1)].min() > 0
    assert model.empty_.size == model.collapsed_.size == len(model.heywood_) == 0
    names = model.get_feature_names_out()
    assert len(names) == model.transform(X).shape[1] == 2 * J and len(set(names)) == 2 * J


def test_loadings_are_canonical():
    model = MixtureOfFactorAnalysers(2, n_latent=2, noise="own").fit(X)
    for W, psi in zip(model.components_, model.noise_variance_):
        M = (W / psi) @ W.T
        assert abs(M[0, 1]) < 1e-10 and M[0, 0] > M[1, 1]


def test_several_starts_end_lower_than_a_bad_one():
    """Though EM arrives from the bad one within the hundred steps of the race."""
    def fitted_from(seed, n_starts):
        how = {"n_latent": 1, "tol": 1e-4, "n_starts": n_starts, "random_state": seed}
        return MixtureOfFactorAnalysers(4, **how).fit(X)

    bad, alone = max(((s, fitted_from(s, 1)) for s in range(4)), key=lambda pair: pair[1].q_path_[-1])
    assert alone.n_iter_ < 100
    assert fitted_from(bad, 5).q_path_[-1] < alone.q_path_[-1] - 0.01


@pytest.mark.parametrize("weighted", [False, True])
def test_where_it_starts(weighted):
    """(9.16) by hand, from the data cases nearest to each of those that were drawn."""
    variance, lowest = X.var(axis=0), np.full(D, 1e-9)
    w = np.random.default_rng(1).uniform(0.5, 2, N) if weighted else None
    theta = analysers.start(X, variance, J, K, False, lowest, np.random.default_rng(3), w)
    places, draws = np.random.default_rng(3).spawn(2)
    centres = X[mixture.far_apart(X, variance, J, places, w)]
    label = (((X[:, None] - centres) ** 2 / variance).sum(axis=2)).argmin(axis=1)
    assert len(np.unique(label)) == J
    for j in range(J):
        own = label == j
        a = np.ones(own.sum()) if w is None else w[own]
        close(theta.b[j], np.average(X[own], axis=0, weights=a), 1e-12)
        S = np.atleast_2d(np.cov(X[own].T, aweights=a, bias=True))
        more = 0.1 * (N if w is None else w.sum()) / J
        S = (a.sum() * S + more * J ** (-2 / D) * np.diag(variance)) / (a.sum() + more)
        W, psi = em.start(S, K, Gaussian(D), draws.standard_normal((D, K)))
        close(theta.W[j], W, 1e-10)
        close(theta.psi[j], psi, 1e-10)
    close(theta.weights, 1 / J, 1e-15)
    shared = analysers.start(X, variance, J, K, True, lowest, np.random.default_rng(3), w)
    close(shared.psi, theta.psi.mean(axis=0), 1e-12)


# ---- codes, reconstruction, imputation, denoising, samples -----------------------------------------


@every_noise
def test_codes_and_their_decoding(noise):
    theta = random_theta(np.random.default_rng(6), noise)
    model, q = fitted(theta, noise), special.softmax(joint_by_scipy(theta, X), axis=1)
    y = model.transform(X)
    close(y[:, :J], q, 1e-10)
    whole = 0
    for j, (W, b, S) in enumerate(zip(theta.W, theta.b, dense(theta))):
        z = (X - b) @ np.linalg.solve(S, W.T)                      # E[z|x, j] by regression
        close(y[:, J + j * K : J + (j + 1) * K], q[:, [j]] * z, 1e-9)
        whole = whole + q[:, [j]] * (z @ W + b)
    close(model.reconstruct(X), whole, 1e-9)
    one = np.zeros((1, J + J * K))
    one[0, [1, J + K, J + K + 1]] = 1, 0.5, -2                     # component 1, z = (0.5, −2)
    close(model.decode(one)[0], theta.b[1] + [0.5, -2] @ theta.W[1], 1e-12)
    close(model.interpolate(X[0], X[1], 3)[[0, 2]], whole[:2], 1e-9)


@every_noise
@pytest.mark.parametrize("n_latent", [0, 2])
def test_imputation_is_the_conditional_mean(noise, n_latent):
    """By dense conditioning, for every pattern of gaps, with nothing observed as well."""
    theta = random_theta(np.random.default_rng(7), noise, K=n_latent)
    model, rng = fitted(theta, noise), np.random.default_rng(0)
    gone = rng.random((25, D)) < 0.5
    gone[0], gone[1] = True, False
    x = np.where(gone, np.nan, X[:25])
    found = model.impute(x)
    for n in range(25):
        g, o = np.flatnonzero(gone[n]), np.flatnonzero(~gone[n])
        log_p, means = np.log(theta.weights), []
        for j, (b, S) in enumerate(zip(theta.b, dense(theta))):
            if len(o):
                log_p[j] += stats.multivariate_normal(b[o], S[np.ix_(o, o)]).logpdf(X[n, o])
            gain = S[np.ix_(g, o)] @ np.linalg.inv(S[np.ix_(o, o)])
            means.append(b[g] + gain @ (X[n, o] - b[o]))
        close(found[n, g], special.softmax(log_p) @ means, 1e-9)
        np.testing.assert_array_equal(found[n, o], X[n, o])


@every_noise
@pytest.mark.parametrize("n_latent", [0, 2])
def test_denoising_is_the_conditional_mean(noise, n_latent):
    theta, tau2 = random_theta(np.random.default_rng(3), noise, K=n_latent), 0.7
    model, x = fitted(theta, noise), X[:30]
    noisy = theta._replace(psi=theta.psi + tau2)
    q = special.softmax(joint_by_scipy(noisy, x), axis=1)
    expected = sum(
        q[:, [j]] * (b + (x - b) @ np.linalg.solve(S + tau2 * np.eye(D), S))
        for j, (b, S) in enumerate(zip(theta.b, dense(theta)))
    )
    close(model.denoise(x, tau2), expected, 1e-9)
    close(model.denoise(x, 1e-12), x, 1e-9)


@every_noise
def test_samples_have_the_moments_of_each_component(noise):
    theta = random_theta(np.random.default_rng(1), noise, J=2)
    theta = theta._replace(b=np.array([np.zeros(D), np.full(D, 100.0)]), weights=np.array([0.7, 0.3]))
    theta = theta if noise == "shared" else theta._replace(psi=theta.psi * [[1], [9]])
    model, n = fitted(theta, noise), 20000
    x = model.sample(n, random_state=3)
    assert x.shape == (n, D)
    far = x[:, 0] > 50
    close(far.mean(), 0.3, 0.02)
    for part, b, S in zip((x[~far], x[far]), theta.b, dense(theta)):
        spread = np.sqrt(np.diag(S).max() / len(part))
        close(part.mean(axis=0), b, 5 * spread)
        close(np.cov(part.T), S, 8 * np.diag(S).max() / math.sqrt(len(part)))
    np.testing.assert_array_equal(x[:5], model.sample(n, random_state=3)[:5])
    y = model.prior_codes(n, random_state=5)
    assert ((y[:, :2] == 0) | (y[:, :2] == 1)).all() and (y[:, :2].sum(axis=1) == 1).all()
    z = y[y[:, 1] == 1][:, 4:]
    assert (y[y[:, 1] == 1][:, 2:4] == 0).all(), "the z of another component is none"
    close(np.cov(z.T), np.eye(2), 0.08)
    close(model.decode(y).mean(axis=0), theta.weights @ theta.b, 2)


# ---- what must not matter --------------------------------------------------------------------------


@every_noise
def test_units(noise):
    """Columns in other units, far from 0: the same PMFs, and Q moved by the logarithm of the volume."""
    a, c = np.array([5.0, -3e6, 0, 1, 7]), np.array([1e3, 1e-2, 1, 7, 0.3])
    plain, other = (
        MixtureOfFactorAnalysers(J, n_latent=1, noise=noise, tol=1e-11).fit(x) for x in (X, X * c + a)
    )
    close(other.infer(X * c + a), plain.infer(X), 1e-5)
    close(other.q_path_[-1], plain.q_path_[-1] + np.log(c).sum(), 1e-7)
    close((other.means_ - a) / c, plain.means_, 1e-5)


@every_noise
def test_no_row_depends_on_the_others(noise):
    model, order = fitted(TRUTH, "own"), np.random.default_rng(0).permutation(N)
    for ask in (model.infer, model.bound, model.score_samples, model.transform, model.reconstruct):
        whole = ask(X)
        close(ask(X[order]), whole[order], 1e-12)
        close(ask(X[4:5]), whole[4:5], 1e-12)


def test_components_in_another_order():
    theta = random_theta(np.random.default_rng(2), "own")
    a, b = (
        quiet(MixtureOfFactorAnalysers(J, n_latent=K, noise="own", init=init, max_iter=40), X)
        for init in (theta, [part[::-1] for part in theta])
    )
    close(a.weights_, b.weights_[::-1], 1e-8)
    close(a.nlml(X).values, b.nlml(X).values, 1e-8)


@every_noise
def test_blocks_change_nothing(noise, monkeypatch):
    theta = random_theta(np.random.default_rng(2), noise)
    problem = analysers.Problem(X, np.ones(N), np.full(D, 1e-9))
    whole, Q = problem.e_step(theta)
    monkeypatch.setattr(rows, "CASES", 7)
    blocks, Q_too = problem.e_step(theta)
    close(Q, Q_too, 1e-12)
    for one, other in zip(problem.m_step(whole), problem.m_step(blocks)):
        close(one, other, 1e-11)


@every_noise
def test_weights_are_repeated_rows(noise):
    w = np.random.default_rng(5).integers(0, 4, N)
    theta, repeated = random_theta(np.random.default_rng(2), noise), np.repeat(X, w, axis=0)
    a, b = (
        quiet(MixtureOfFactorAnalysers(J, n_latent=K, noise=noise, init=theta, max_iter=30), x, **how)
        for x, how in ((X, {"sample_weight": w}), (repeated, {}))
    )
    close(a.q_path_, b.q_path_, 1e-9)
    close(a.means_, b.means_, 1e-7)
    close(np.average(a.nlml(X).values, weights=w), a.q_path_[-1], 1e-10)


@every_noise
def test_every_backend(backend, noise):
    """The same numbers on every array library, and of its kind."""
    tolerance = 1e-4 if backend.dtype == "float32" else 1e-11
    theta, x = random_theta(np.random.default_rng(4), noise), X[:30]
    there, lowest = Analysers(*(backend.asarray(part) for part in theta)), 0.05 * X.var(axis=0)
    here = analysers.Problem(x, np.ones(30), lowest)
    problem = analysers.Problem(backend.asarray(x), backend.asarray(np.ones(30)), backend.asarray(lowest))
    moments, Q = problem.e_step(there)
    expected, Q_here = here.e_step(theta)
    assert abs(Q - Q_here) < 100 * tolerance
    for got, one in zip(
        problem.widened(problem.m_step(moments), moments), here.widened(here.m_step(expected), expected)
    ):
        assert type(got) is type(there.b) and got.dtype == there.b.dtype
        close(to_numpy(got), one, 10 * tolerance * (1 + np.abs(one).max()))
    how = {"n_latent": 1, "noise": noise, "max_iter": 20, "tol": 1e-14}
    model = quiet(MixtureOfFactorAnalysers(J, **how, backend=backend, dtype=backend.dtype), X)
    plain = quiet(MixtureOfFactorAnalysers(J, **how), X)

    def answers(m):
        return (
            m.means_, m.components_, m.noise_variance_, m.infer(X), m.bound(X), m.nlml(X).values,
            m.transform(X), m.reconstruct(X), m.denoise(X, 0.1), m.sample(3, random_state=0),
        )

    for got, one in zip(answers(model), answers(plain)):
        assert isinstance(got, np.ndarray) and got.dtype == backend.dtype
        close(got, one, 1000 * tolerance)


def test_a_fit_goes_on_from_its_checkpoint(tmp_path):
    whole, file, steps = MixtureOfFactorAnalysers(J, n_latent=1, noise="own").fit(X), tmp_path / "f", []

    def stop(*now):
        steps.append(now)
        return len(steps) > 115

    part = clone(whole).fit(X, checkpoint=file, progress=stop)
    assert part.n_iter_ == 115 < whole.n_iter_ and part.converged_ is None
    again = clone(whole).fit(X, checkpoint=file)
    np.testing.assert_array_equal(again.q_path_, whole.q_path_)
    np.testing.assert_array_equal(again.components_, whole.components_)
    assert teachvae.load(file).score(X) == whole.score(X)


# ---- components that collapse, columns at the floor ------------------------------------------------


def test_a_component_on_a_single_data_case_collapses():
    """With a Ψ of its own; a shared Ψ does not let it."""
    x = np.vstack([X, X[:1] + 1e3])
    with pytest.warns(CollapseWarning, match=r"components \d shrank to the floor of their Ψ, without"):
        model = quiet_but(MixtureOfFactorAnalysers(2, n_latent=1, noise="own"), x, CollapseWarning)
    (j,) = model.collapsed_
    close(model.noise_variance_[j], 1e-6 * x.var(axis=0), 1e-15)
    close(model.weights_[j], 1 / (N + 1), 1e-8)
    assert model.heywood_.shape == (0, 2) and model.empty_.size == 0
    assert quiet(MixtureOfFactorAnalysers(2, n_latent=1), x).collapsed_.size == 0


def quiet_but(model, x, kind):
    with warnings.catch_warnings():
        for other in {ConvergenceWarning, CollapseWarning, HeywoodWarning} - {kind}:
            warnings.simplefilter("ignore", other)
        return model.fit(x)


@every_noise
def test_columns_at_the_floor_are_named(noise):
    """Column 4 is column 0 again: a factor explains both completely."""
    x = np.column_stack([X[:, :4], X[:, 0]])
    whose = " of components 0, 1" if noise == "own" else ""
    match = rf"noise variance\(s\){whose} ended at the floor, columns 0, 4: a Heywood case"
    with pytest.warns(HeywoodWarning, match=match):
        model = quiet_but(MixtureOfFactorAnalysers(2, n_latent=1, noise=noise, tol=1e-6), x, HeywoodWarning)
    assert model.heywood_.tolist() == ([0, 4] if noise == "shared" else [[0, 0], [0, 4], [1, 0], [1, 4]])


@every_noise
def test_a_component_without_data_cases(noise):
    """Its weight is 0 from the first M-step on; the others are fitted as if it were not there."""
    two = random_theta(np.random.default_rng(3), noise, J=2)
    far = Analysers(
        np.append(two.weights / 2, 0.5), np.append(two.W, two.W[:1], axis=0),
        np.append(two.b, np.full((1, D), 1e6), axis=0),
        two.psi if noise == "shared" else np.append(two.psi, [[1e-9] * D], axis=0),
    )
    how = {"n_latent": K, "noise": noise, "max_iter": 25}
    with pytest.warns(CollapseWarning, match="components 2 ended without data cases: give fewer components"):
        model = quiet_but(MixtureOfFactorAnalysers(3, init=far, **how), X, CollapseWarning)
    plain = quiet(MixtureOfFactorAnalysers(2, init=two, **how), X)
    assert model.empty_.tolist() == [2] and model.weights_[2] == 0
    assert model.collapsed_.size == len(model.heywood_) == 0, "its Ψ is at the floor, and nobody's"
    close(model.weights_[:2], plain.weights_, 1e-9)
    close(model.nlml(X).values, plain.nlml(X).values, 1e-8)
    close(model.means_[2], 1e6, 0)
    assert (model.sample(200, random_state=0)[:, 0] < 1e3).all()
    assert_never_rises(model.q_path_)


def test_a_start_is_raised_to_the_floor():
    """Else Q would be lower at the start, on data cases all alike, than the floor allows after it."""
    x = np.vstack([np.tile(X[:1], (200, 1)), X[:20]])
    init = HALVES, 0 * W2, np.array([X[0], X[:20].mean(axis=0)]), np.array([1e-9 * PSI, X[:20].var(axis=0)])
    how = {"n_latent": 1, "noise": "own", "init": init, "min_noise": 0.3}
    model = quiet(MixtureOfFactorAnalysers(2, **how), x)
    assert_never_rises(model.q_path_)
    assert (model.noise_variance_ >= 0.3 * x.var(axis=0) * (1 - 1e-12)).all()


# ---- what is given ---------------------------------------------------------------------------------


def test_constant_columns_are_refused_or_set_aside():
    x = np.insert(X, 2, 7.5, axis=1)
    assert_refused(
        lambda: MixtureOfFactorAnalysers(2).fit(x), "1 of 6 columns are constant: 2;", "(constant='drop')"
    )
    with pytest.warns(UserWarning, match="constant columns are set aside: 2"):
        model = MixtureOfFactorAnalysers(2, n_latent=1, constant="drop").fit(x)
    plain = MixtureOfFactorAnalysers(2, n_latent=1).fit(X)
    close(model.nlml(x).values, plain.nlml(X).values, 1e-12)
    close(model.reconstruct(x), np.insert(plain.reconstruct(X), 2, 7.5, axis=1), 1e-12)
    close(model.sample(4, random_state=1), np.insert(plain.sample(4, random_state=1), 2, 7.5, axis=1), 1e-12)
    close(model.denoise(x, 0.1), np.insert(plain.denoise(X, 0.1), 2, 7.5, axis=1), 1e-12)
    holes = x.copy()
    holes[:9, 1:3] = np.nan
    close(model.impute(holes)[:, 2], 7.5, 0)
    with pytest.warns(MovedWarning, match="columns 2 were constant"):
        model.nlml(x + [[0, 0, 1, 0, 0, 0]])
    table = Table(x, Columns(list(range(6)), dropped={2: 7.5}))
    places = mixture.far_apart(table, X.var(axis=0), 3, np.random.default_rng(0))
    assert places == mixture.far_apart(X, X.var(axis=0), 3, np.random.default_rng(0))


def assert_refused(action, *parts, error=ValueError):
    with pytest.raises(error) as caught:
        action()
    for part in parts:
        assert part in str(caught.value), f"{part!r} is missing from: {caught.value}"


BAD_DATA = {
    "NaN": ([[0.0, 1.0], [math.nan, 2.0], [1.0, 1.0]], "X has 1 NaN and 0 infinity entries"),
    "one dimension": (X[:, 0], "Expected 2D array, got 1D array"),
    "one row": (X[:1], "a minimum of 2 is required"),
    "text": ([["a", "b"], ["c", "d"]], "numbers are expected"),
    "fewer rows than components": (X[:2], "an integer >= 1 and <= 2 (X has 2 data cases), got 3"),
    "a constant column": (X * [1, 0, 1, 1, 1] + 0.1, "1 of 5 columns are constant: 1; a learnt variance"),
    "too few places": (np.repeat(X[:2], 5, axis=0), "only 2 different data cases, n_components=3"),
}


@pytest.mark.parametrize("kind", BAD_DATA)
def test_data_that_cannot_be_fitted(kind):
    x, message = BAD_DATA[kind]
    model = MixtureOfFactorAnalysers(J, n_latent=1)
    assert_refused(lambda: model.fit(x), message)
    assert learnt(model) == []


BAD_OPTIONS = {
    "n_components=0": "n_components must be an integer >= 1",
    "n_components=241": "n_components must be an integer >= 1 and <= 240 (X has 240 data cases), got 241",
    "n_latent=-1": "n_latent must be an integer >= 0",
    "n_latent=6": "n_latent must be an integer >= 0 and <= 5 (X has 5 columns), got 6",
    "n_latent=1.5": "n_latent must be an integer >= 0",
    "noise='isotropic'": "noise must be one of ['own', 'shared'], got 'isotropic'",
    "constant='skip'": "constant must be 'error' or 'drop', got 'skip'",
    "max_iter=0": "max_iter must be an integer >= 1",
    "n_starts=0": "n_starts must be an integer >= 1",
    "tol=0": "tol must be a finite number > 0, got 0",
    "min_noise=0": "min_noise must be a finite number > 0, got 0",
    "backend='torch'": "backend must be 'numpy', 'cupy' or 'auto', got 'torch'",
    "dtype='float16'": "dtype must be one of",
}


@pytest.mark.parametrize("option", BAD_OPTIONS)
def test_options_that_are_none(option):
    model = eval(f"MixtureOfFactorAnalysers({option})")
    assert_refused(lambda: model.fit(X), BAD_OPTIONS[option])
    assert learnt(model) == []


HALVES, W2, PSI = [0.5, 0.5], np.ones((2, 1, D)), np.ones(D)
BAD_INITS = {
    "a name": ("random", "init must be (weights, W, b, psi) or None"),
    "three parts": ((HALVES, W2, X[:2]), "init must be (weights, W, b, psi) or None"),
    "two latent variables": (
        (HALVES, np.ones((2, 2, D)), X[:2], PSI), "the W of init", "shape (2, 1, 5)", "got shape (2, 2, 5)"),
    "own for shared": ((HALVES, W2, X[:2], np.ones((2, D))), "the psi of init", "noise='shared'"),
    "NaN": ((HALVES, W2, X[:2] * math.nan, PSI), "the b of init must be finite numbers"),
    "weights that do not sum to 1": (([0.5, 0.4], W2, X[:2], PSI), "with sum 0.9: divide them by their sum"),
    "a negative weight": (([1.5, -0.5], W2, X[:2], PSI), "the weights of init must be >= 0"),
    "no variance": ((HALVES, W2, X[:2], PSI * 0), "the psi of init must be variances > 0, the least is 0"),
}


@pytest.mark.parametrize("kind", BAD_INITS)
def test_starts_that_are_none(kind):
    init, *parts = BAD_INITS[kind]
    assert_refused(lambda: MixtureOfFactorAnalysers(2, n_latent=1, init=init).fit(X), *parts)


def test_questions_that_cannot_be_answered():
    model = fitted(TRUTH, "own")
    for ask in (model.bound, model.nlml, model.infer, model.transform, model.score, model.impute,
                model.kl_to_posterior, lambda x: model.denoise(x, 0.1)):
        assert_refused(lambda ask=ask: ask(X[:, :1]), "X has 1 features", "is expecting 5 features")
        assert_refused(lambda ask=ask: ask(X[0]), "Expected 2D array, got 1D array")
    holes = np.where(np.arange(D) == 1, np.nan, X)
    assert_refused(lambda: model.nlml(holes), "X has 240 NaN", "drop those rows or fill them in")
    assert_refused(lambda: model.bound(X, phi=np.ones((N, 2))), "must have shape (240, 3), got (240, 2)")
    assert_refused(lambda: model.bound(X, phi=np.ones((N, 3))), "with sum 3 in row 0 (240 such rows)")
    assert_refused(lambda: model.decode(np.ones((4, 3))), "Z has 3 columns", "fitted with J (1 + K) = 9")
    assert_refused(lambda: model.denoise(X, 0), "noise_variance must be a finite number > 0, got 0")
    for draw in (model.sample, model.prior_codes):
        assert_refused(lambda draw=draw: draw(0), "n_samples must be an integer >= 1, got 0")


def test_the_unfitted():
    model = MixtureOfFactorAnalysers(J)
    for name in ("bound", "nlml", "infer", "transform", "score", "reconstruct", "impute", "decode"):
        assert_refused(lambda name=name: getattr(model, name)(X), "not fitted yet", error=NotFittedError)
    for ask in (model.sample, model.prior_codes, lambda: model.denoise(X, 1)):
        assert_refused(ask, "not fitted yet", error=NotFittedError)
    for name in ("weights_", "means_", "components_", "noise_variance_", "covariances_", "n_parameters_"):
        assert not hasattr(model, name)


def test_parameters_by_name():
    one = MixtureOfFactorAnalysers(3, n_latent=1)
    assert repr(one) == "MixtureOfFactorAnalysers(n_components=3, n_latent=1)"
    with pytest.raises(TypeError):
        MixtureOfFactorAnalysers(3, 1)
    model = MixtureOfFactorAnalysers(2, n_latent=1).fit(X)
    twin = clone(model)
    np.testing.assert_array_equal(twin.fit(X).means_, model.means_)
    quiet(model.set_params(noise="own", n_latent=2, max_iter=5), X)  # a refit forgets the fit before
    assert model.components_.shape == (2, 2, D) and model.noise_variance_.shape == (2, D)


def test_progress_and_an_early_end():
    seen = []
    with pytest.warns(ConvergenceWarning, match=r"max_iter=3 iterations .* raise max_iter or tol"):
        model = MixtureOfFactorAnalysers(J, n_latent=1, max_iter=3)
        model.fit(X, progress=lambda *now: seen.append(now))
    assert model.converged_ is False and model.n_iter_ == 3
    assert seen == [(i, 3, Q) for i, Q in enumerate(model.q_path_)]
