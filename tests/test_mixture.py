"""The Gaussian mixture: its bound, its three families of PMFs and its EM, each by a second road.

The second roads are SciPy's densities, logsumexp and rel_entr, every PMF that a family has (or a fine
net of them), small changes of θ in all directions, SciPy's minimisers, and scikit-learn's mixture.
"""

import itertools
import math
import warnings

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest
from scipy import optimize, special, stats
from sklearn.base import clone
from sklearn.mixture import GaussianMixture as Theirs

from teachvae.arrays.backend import to_numpy
from teachvae.evaluation.nlml import NLML
from teachvae.inference import mixture
from teachvae.inference.mixture import Mixture
from teachvae.networks.convergence import ConvergenceWarning, remaining
from teachvae.routes.conventions import NotFittedError
from teachvae.routes.mixture import CollapseWarning, GaussianMixture

K, D, N = 3, 2, 90
PMFS = ("free", "hard", "tied")
COVARIANCES = ("diagonal", "full")
every_pmf = pytest.mark.parametrize("pmf", PMFS)
every_covariance = pytest.mark.parametrize("covariance", COVARIANCES)
seeds = st.integers(0, 2**32 - 1)


def blobs(seed=3, n_cases=N, n_visible=D):
    """Three overlapping clouds of unequal size and shape."""
    rng = np.random.default_rng(seed)
    z = rng.choice(3, size=n_cases, p=[0.5, 0.3, 0.2])
    centres = 2.2 * rng.standard_normal((3, n_visible))
    shapes = rng.standard_normal((3, n_visible, n_visible)) * 0.6 + np.eye(n_visible)
    return centres[z] + np.einsum("nd,nde->ne", rng.standard_normal((n_cases, n_visible)), shapes[z])


X = blobs()


def random_theta(rng, covariance, n_components=K, n_visible=D):
    A = rng.standard_normal((n_components, n_visible, n_visible))
    Sigma = A @ np.swapaxes(A, 1, 2) + 0.2 * np.eye(n_visible)
    if covariance == "diagonal":
        Sigma = np.diagonal(Sigma, axis1=1, axis2=2).copy()
    weights = rng.dirichlet(np.ones(n_components))
    return Mixture(weights, 2 * rng.standard_normal((n_components, n_visible)), Sigma)


def joint_by_scipy(theta, x):
    """log p(x_n, z=k), (N, K)."""
    with np.errstate(divide="ignore"):
        log_weights = np.log(theta.weights)
    columns = [
        stats.multivariate_normal(m, np.diag(C) if C.ndim == 1 else C, allow_singular=False).logpdf(x)
        for m, C in zip(theta.means, theta.covariances)
    ]
    return log_weights + np.reshape(columns, (len(theta.weights), len(x))).T


def Q_by_hand(q, log_p):
    """Σ_k q_k log q_k − Σ_k q_k log p_k, one data case and one component at a time."""
    total = np.zeros(len(q))
    for n, k in itertools.product(*map(range, q.shape)):
        if q[n, k] > 0:
            total[n] += q[n, k] * (math.log(q[n, k]) - log_p[n, k])
    return total


def fitted(theta, pmf="free", covariance="diagonal", x=X):
    """An estimator whose θ is `theta`, whatever EM would make of it."""
    model = quiet(GaussianMixture(len(theta.weights), covariance=covariance, pmf=pmf, max_iter=1), x)
    model.theta_ = theta
    return model


def quiet(model, x):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", CollapseWarning)
        return model.fit(x)


def learnt(model):
    return sorted(name for name in vars(model) if name.endswith("_"))


def theta_of(model):
    return Mixture(model.weights_, model.means_, model.covariances_)


def close(a, b, atol, **options):
    np.testing.assert_allclose(a, b, rtol=0, atol=atol, **options)


# ---- nlml, Q and the gap between them --------------------------------------------------------------


@every_covariance
@given(seeds)
@settings(max_examples=20)
def test_nlml_Q_and_the_kl_between_them(covariance, seed):
    rng = np.random.default_rng(seed)
    theta = random_theta(rng, covariance)
    model = fitted(theta, covariance=covariance)
    log_p = joint_by_scipy(theta, X)
    nlml = model.nlml(X)
    assert isinstance(nlml, NLML) and nlml.method == "exact" and nlml[1:3] == (None, None)
    close(nlml.values, -special.logsumexp(log_p, axis=1), 1e-9)
    np.testing.assert_array_equal(model.score_samples(X), -nlml.values)
    close(model.score(X), -nlml.values.mean(), 1e-13)

    phi = rng.dirichlet(np.full(K, 0.5), size=N) * rng.integers(0, 2, (N, K))
    phi[phi.sum(axis=1) == 0] = [0, 1, 0]
    phi /= phi.sum(axis=1, keepdims=True)                          # some entries are 0
    Q, kl = model.bound(X, phi=phi), model.kl_to_posterior(X, phi=phi)
    close(Q, Q_by_hand(phi, log_p), 1e-9)
    close(kl, special.rel_entr(phi, special.softmax(log_p, axis=1)).sum(axis=1), 1e-9)
    close(Q - nlml.values, kl, 1e-11)
    assert (kl > -1e-12).all() and kl.max() > 0.1


@every_pmf
@every_covariance
def test_each_family_has_its_gap(covariance, pmf):
    """Free: none, to 1e-12. Hard: −log of the posterior's largest entry. Tied: what one PMF for all costs."""
    theta = random_theta(np.random.default_rng(1), covariance)
    model = fitted(theta, pmf, covariance)
    q = model.infer(X)
    close(q.sum(axis=1), 1, 1e-14)
    gap = model.bound(X) - model.nlml(X).values
    close(gap, model.kl_to_posterior(X), 1e-12)
    posterior = special.softmax(joint_by_scipy(theta, X), axis=1)
    if pmf == "free":
        close(q, posterior, 1e-12)
        assert np.abs(gap).max() < 1e-12
    elif pmf == "hard":
        assert set(np.unique(q)) == {0.0, 1.0}
        close(gap, -np.log(posterior.max(axis=1)), 1e-10)
        assert gap.max() > 0.3
    else:
        assert (q == q[0]).all() and gap.min() > -1e-12 and gap.mean() > 0.1


# ---- E-steps: the least Q of each family -----------------------------------------------------------

log_joints = st.tuples(seeds, st.integers(1, 6), st.integers(1, 4)).map(
    lambda t: 4 * np.random.default_rng(t[0]).standard_normal(t[1:])
)


@given(log_joints, seeds)
@settings(max_examples=30)
def test_the_free_pmf_has_the_least_Q_of_all(log_p, seed):
    rng = np.random.default_rng(seed)
    q = mixture.free(log_p)
    least = Q_by_hand(q, log_p)
    close(least, -special.logsumexp(log_p, axis=1), 1e-12)
    for size in (1e-3, 0.1, 1.0):                                  # near and far, and any PMF at all
        other = q * np.exp(size * rng.standard_normal(q.shape))
        assert (Q_by_hand(other / other.sum(axis=1, keepdims=True), log_p) >= least - 1e-12).all()


@given(log_joints)
@settings(max_examples=30)
def test_the_hard_pmf_has_the_least_Q_of_all_points(log_p):
    least = Q_by_hand(mixture.hard(log_p), log_p)
    points = [Q_by_hand(np.tile(row, (len(log_p), 1)), log_p) for row in np.eye(log_p.shape[1])]
    np.testing.assert_array_equal(least, np.min(points, axis=0))


def test_the_hard_pmf_takes_the_first_of_equals():
    q = mixture.hard(np.array([[0.0, 1.0, 1.0], [-math.inf, -2.0, -2.0]]))
    np.testing.assert_array_equal(q, [[0, 1, 0], [0, 1, 0]])


@given(log_joints)
@settings(max_examples=20)
def test_the_tied_pmf_has_the_least_sum_of_Q(log_p):
    N, K = log_p.shape
    q = mixture.tied(log_p)
    assert (q == q[0]).all()
    least = Q_by_hand(q, log_p).sum()

    def total(u):
        row = special.softmax(np.append(u, 0.0))
        return N * (special.xlogy(row, row).sum()) - log_p.sum(axis=0) @ row

    for cut in itertools.product(range(9), repeat=K - 1):          # a net over all PMFs, its edge included
        if sum(cut) <= 8:
            row = np.array([*cut, 8 - sum(cut)]) / 8
            assert N * special.xlogy(row, row).sum() - log_p.sum(axis=0) @ row >= least - 1e-10
    if K > 1:
        found = optimize.minimize(total, np.zeros(K - 1), tol=1e-12)
        assert least <= found.fun + 1e-10 and found.fun < least + 1e-4


@pytest.mark.parametrize("step", [mixture.free, mixture.hard, mixture.tied])
def test_e_steps_in_log_space(step):
    """Densities far below what a float holds, and components that cannot be."""
    log_p = np.array([[-3000.0, -3001.0, -math.inf], [-9000.0, -8999.0, -math.inf]])
    q = step(log_p)
    close(q.sum(axis=1), 1, 1e-15)
    assert (q[:, 2] == 0).all() and np.isfinite(mixture.divergence(q, log_p)).all()
    if step is mixture.free:
        close(q[0, :2], special.softmax([1.0, 0.0]), 1e-12)
    if step is mixture.tied:
        close(q[:, :2], 0.5, 1e-12)


def test_probability_where_the_joint_is_0_costs_infinitely_much():
    Q = mixture.divergence(np.array([[0.5, 0.5], [1.0, 0.0]]), np.array([[0.0, -math.inf]] * 2))
    np.testing.assert_array_equal(Q, [math.inf, 0])


# ---- M-step: the least Q over θ --------------------------------------------------------------------


def mean_Q(theta, q, x):
    return np.mean(Q_by_hand(q, joint_by_scipy(theta, x)))


@every_covariance
@given(seeds)
@settings(max_examples=8)
def test_the_m_step_has_the_least_Q_in_every_direction(covariance, seed):
    rng = np.random.default_rng(seed)
    x = X[:25]
    q = rng.dirichlet(np.full(K, 0.7), size=len(x))
    lowest = np.full(D, 1e-9)
    best = mixture.m_step(random_theta(rng, covariance), q, x, lowest)
    close(best.weights.sum(), 1, 1e-14)
    least = mean_Q(best, q, x)
    for size in (1e-4, 1e-2, 0.5):
        for _ in range(3):
            weights = best.weights * np.exp(size * rng.standard_normal(K))
            means = best.means + size * rng.standard_normal((K, D))
            if covariance == "diagonal":
                covariances = best.covariances * np.exp(size * rng.standard_normal((K, D)))
            else:
                M = np.eye(D) + size * rng.standard_normal((K, D, D))
                covariances = M @ best.covariances @ np.swapaxes(M, 1, 2)
            other = Mixture(weights / weights.sum(), means, covariances)
            assert mean_Q(other, q, x) >= least - 1e-12
            if size == 1e-4:                                       # flat: all changes are of second order
                assert mean_Q(other, q, x) < least + 1e-5


@given(seeds, st.floats(-2, 2))
@settings(max_examples=15)
def test_the_floor_leaves_the_least_Q_of_what_it_allows(seed, log_size):
    """log|Σ| + tr Σ⁻¹S over Σ = diag(lowest) + A Aᵀ: SciPy's search from S and random A find nothing less."""
    rng = np.random.default_rng(seed)
    B = rng.standard_normal((D, D))
    S, lowest = B @ B.T * 10**log_size, rng.uniform(0.3, 3, D)

    def objective(Sigma, S=S):
        return np.linalg.slogdet(Sigma)[1] + np.trace(np.linalg.solve(Sigma, S))

    full = mixture.raise_to_floor(S, lowest)
    close(full, full.T, 1e-12 * np.abs(full).max())
    assert np.linalg.eigvalsh(full - np.diag(lowest)).min() > -1e-9 * np.abs(full).max()
    least = objective(full)

    def of_A(a):
        A = np.sqrt(lowest)[:, None] * a.reshape(D, D)
        return objective(np.diag(lowest) + A @ A.T)

    searches = [optimize.minimize(of_A, rng.standard_normal(D * D) * 10 ** (log_size / 2)) for _ in range(2)]
    found = min(search.fun for search in searches)
    assert least - 1e-9 <= found < least + 1e-5 * max(1, abs(least))

    diagonal = mixture.raise_to_floor(np.diag(S), lowest)
    for d in range(D):
        def one(v, d=d):
            return math.log(v) + S[d, d] / v
        found = optimize.minimize_scalar(one, bounds=(lowest[d], lowest[d] + 2 * S[d, d]), method="bounded")
        assert one(diagonal[d]) <= found.fun + 1e-9 and diagonal[d] >= lowest[d]


def test_a_covariance_above_the_floor_is_left_alone():
    S = np.array([[2.0, 0.5], [0.5, 1.0]])
    np.testing.assert_array_equal(mixture.raise_to_floor(S, np.array([0.1, 0.1])), S)


# ---- EM as a whole ---------------------------------------------------------------------------------


def assert_never_rises(path):
    assert len(path) > 1 and np.diff(path).max() <= 1e-11 * (1 + np.abs(path).max()), path


@every_pmf
@every_covariance
@given(seeds, st.integers(1, 5), st.sampled_from(["clouds", "few places", "outlier", "line"]))
@settings(max_examples=12)
def test_Q_never_rises(covariance, pmf, seed, n_components, kind):
    """Also where the floor is needed: repeated data cases, one far from all others, columns on a line."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((24, 3)) * [1, 10, 0.1]
    if kind == "few places":
        x = x[rng.integers(0, 6, 24)]
    elif kind == "outlier":
        x[0] += 1e3
    elif kind == "line":
        x[:, 2] = 2 * x[:, 0] - 1
    model = GaussianMixture(
        n_components, covariance=covariance, pmf=pmf, max_iter=60, random_state=seed, min_variance=1e-4
    )
    quiet(model, x)
    assert_never_rises(model.q_path_)
    close(model.q_path_[-1], model.bound(x).mean(), 1e-11 * (1 + abs(model.q_path_[-1])))
    assert (model.bound(x) >= model.nlml(x).values - 1e-9).all()


@every_pmf
@every_covariance
def test_what_fit_leaves_behind(covariance, pmf):
    model = GaussianMixture(K, covariance=covariance, pmf=pmf)
    before = model.get_params()
    assert learnt(model) == [] and model.fit(X) is model
    assert model.get_params() == before and set(vars(model)) == set(before) | set(learnt(model))
    assert model.converged_ is True and model.q_path_.shape == (model.n_iter_ + 1,)
    assert_never_rises(model.q_path_)
    assert model.q_path_[0] > model.q_path_[-1] + 0.1
    assert model.weights_.shape == (K,) and model.means_.shape == (K, D)
    assert model.covariances_.shape == ((K, D) if covariance == "diagonal" else (K, D, D))
    assert model.n_parameters_ == (K - 1) + K * D + K * (D if covariance == "diagonal" else 3)
    assert model.empty_.size == model.collapsed_.size == 0 and model.empty_.dtype.kind == "i"
    np.testing.assert_array_equal(model.phi_, model.infer(X))
    np.testing.assert_array_equal(model.transform(X), model.infer(X))
    close(model.q_path_[-1], model.bound(X).mean(), 1e-12)
    close(model.weights_, model.phi_.mean(axis=0), 1e-3)           # the M-step's, one step before phi_


@every_covariance
def test_the_free_pmf_ends_at_a_stationary_point_of_the_likelihood(covariance):
    model = GaussianMixture(K, covariance=covariance, tol=1e-12).fit(X)
    close(model.bound(X), model.nlml(X).values, 1e-12)

    def nlml_along(step, part, direction):
        theta = theta_of(model)
        moved = theta._replace(**{part: getattr(theta, part) + step * direction})
        moved = moved._replace(weights=moved.weights / moved.weights.sum())
        return -special.logsumexp(joint_by_scipy(moved, X), axis=1).mean()

    rng = np.random.default_rng(0)
    for part in Mixture._fields:
        direction = rng.standard_normal(getattr(model, part + "_").shape)
        if direction.ndim == 3:
            direction = direction + np.swapaxes(direction, 1, 2)
        slope = (nlml_along(1e-5, part, direction) - nlml_along(-1e-5, part, direction)) / 2e-5
        assert abs(slope) < 1e-4, part


def test_the_hard_pmf_ends_where_nothing_changes():
    model = GaussianMixture(K, pmf="hard", tol=1e-15).fit(X)
    assert model.q_path_[-1] == model.q_path_[-2]
    labels = model.phi_.argmax(axis=1)
    for k in range(K):
        own = X[labels == k]
        close(model.weights_[k], len(own) / N, 1e-15)
        close(model.means_[k], own.mean(axis=0), 1e-14)
        close(model.covariances_[k], own.var(axis=0), 1e-13)
    best = np.argmax(joint_by_scipy(theta_of(model), X), axis=1)
    np.testing.assert_array_equal(labels, best)


@every_covariance
def test_a_tied_pmf_cannot_tell_components_apart(covariance):
    """The bound is loose at the start, and tight at the end because θ has moved to where one PMF will do."""
    theta = random_theta(np.random.default_rng(5), covariance)
    with pytest.warns(ConvergenceWarning):
        start = GaussianMixture(K, covariance=covariance, pmf="tied", init=tuple(theta), max_iter=1).fit(X)
    first_gap = start.q_path_[0] + special.logsumexp(joint_by_scipy(theta, X), axis=1).mean()
    assert first_gap > 0.1
    model = GaussianMixture(K, covariance=covariance, pmf="tied", init=tuple(theta)).fit(X)
    Sigma = np.cov(X.T, bias=True)
    Sigma = np.diag(Sigma) if covariance == "diagonal" else Sigma
    for k in range(K):
        close(model.means_[k], X.mean(axis=0), 1e-12)
        close(model.covariances_[k], Sigma, 1e-12)
    close(model.weights_, model.phi_[0], 1e-12)
    assert np.ptp(model.weights_) > 1e-3, "but how the components share the data stays as it fell"
    one = stats.multivariate_normal(X.mean(axis=0), Sigma if Sigma.ndim == 2 else np.diag(Sigma))
    close(model.bound(X), -one.logpdf(X), 1e-11)
    close(model.kl_to_posterior(X), 0, 1e-12)
    assert GaussianMixture(K, covariance=covariance).fit(X).score(X) > model.score(X) + 0.1


@every_covariance
def test_a_smaller_family_ends_no_lower(covariance):
    """From one start; and at one θ the order holds for every data case against the free PMF."""
    theta = random_theta(np.random.default_rng(2), covariance)
    Q = {pmf: fitted(theta, pmf, covariance).bound(X) for pmf in ("free", "hard")}
    assert (Q["free"] <= Q["hard"] + 1e-12).all()
    log_p = joint_by_scipy(theta, X)
    assert (Q["free"] <= Q_by_hand(mixture.tied(log_p), log_p) + 1e-12).all()


def test_a_tied_pmf_of_new_data_is_the_fitted_one():
    model = GaussianMixture(K, pmf="tied").fit(X)
    np.testing.assert_array_equal(model.infer(X[:4] + 5), np.tile(model.phi_[0], (4, 1)))


def test_the_family_is_the_one_that_was_fitted():
    model = GaussianMixture(K, pmf="hard").fit(X)
    before = model.infer(X)
    np.testing.assert_array_equal(model.set_params(pmf="tied").infer(X), before)
    assert (model.fit(X).infer(X) == model.phi_[0]).all()


def test_one_component_is_one_normal_distribution():
    for pmf in PMFS:
        model = GaussianMixture(1, covariance="full", pmf=pmf).fit(X)
        normal = stats.multivariate_normal(X.mean(axis=0), np.cov(X.T, bias=True))
        close(model.nlml(X).values, -normal.logpdf(X), 1e-11)
        close(model.bound(X), -normal.logpdf(X), 1e-11)
        np.testing.assert_array_equal(model.weights_, [1.0])


@every_covariance
def test_agreement_with_scikit_learn(covariance):
    """The same start, the same number of iterations: the same parameters."""
    x = blobs(11, 150, 4)
    weights, means = np.array([0.2, 0.3, 0.5]), x[[0, 40, 90]]
    start = np.tile(x.var(axis=0), (K, 1)) * [[0.5], [1], [2]]
    start = start if covariance == "diagonal" else np.array([np.diag(v) + 0.1 for v in start])
    precisions = 1 / start if covariance == "diagonal" else np.linalg.inv(start)
    for n_iter in (1, 4, 10):
        ours = GaussianMixture(
            K, covariance=covariance, init=(weights, means, start), max_iter=n_iter, tol=1e-300
        )
        theirs = Theirs(
            K, covariance_type={"diagonal": "diag", "full": "full"}[covariance], reg_covar=0, tol=0,
            max_iter=n_iter, weights_init=weights, means_init=means, precisions_init=precisions,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")                        # both stop early, and say so
            ours.fit(x)
            theirs.fit(x)
        assert ours.n_iter_ == theirs.n_iter_ == n_iter
        close(ours.weights_, theirs.weights_, 1e-8)
        close(ours.means_, theirs.means_, 1e-8)
        close(ours.covariances_, theirs.covariances_, 1e-8)
        close(ours.score_samples(x), theirs.score_samples(x), 1e-8)
        close(ours.infer(x), theirs.predict_proba(x), 1e-8)


def test_clouds_far_apart_are_found():
    rng = np.random.default_rng(8)
    centres = np.array([[0.0, 0.0], [30.0, 0.0], [0.0, 30.0]])
    z = np.repeat([0, 1, 2], [100, 60, 40])
    x = centres[z] + rng.standard_normal((200, 2))
    for pmf in ("free", "hard"):
        model = GaussianMixture(K, covariance="full", pmf=pmf).fit(x)
        order = np.argsort(-model.weights_)
        close(model.weights_[order], [0.5, 0.3, 0.2], 1e-9)
        np.testing.assert_array_equal(model.infer(x)[:, order].argmax(axis=1), z)
        for k in range(K):
            close(model.means_[order[k]], x[z == k].mean(axis=0), 1e-9)
            close(model.covariances_[order[k]], np.cov(x[z == k].T, bias=True), 1e-9)


def test_stopping_is_not_fooled_by_a_first_step_that_gains_much():
    """Extrapolated from a first step of thousands of nats, any second step looks like the last."""
    start = (np.ones(2) / 2, X[[0, 1]], np.full((2, D), 1e-5))
    model = GaussianMixture(2, init=start, tol=1e-3).fit(X)
    path = model.q_path_
    assert remaining(path[:3]) < 1e-3 < path[2] - path[-1], "the extrapolation alone would have stopped here"
    assert path[-1] - GaussianMixture(2, init=start, tol=1e-10).fit(X).q_path_[-1] < 2e-3


# ---- components that collapse or empty -------------------------------------------------------------


@every_covariance
def test_a_component_on_one_data_case_ends_at_the_floor(covariance):
    x = np.concatenate([X, [[40.0, 40.0]]])
    with pytest.warns(CollapseWarning, match=r"components \d shrank to the floor .* larger min_variance"):
        model = GaussianMixture(2, covariance=covariance, min_variance=1e-3).fit(x)
    (k,) = model.collapsed_
    floor = 1e-3 * x.var(axis=0)
    close(model.covariances_[k], floor if covariance == "diagonal" else np.diag(floor), 1e-10)
    close(model.means_[k], [40, 40], 1e-10)
    close(model.weights_[k], 1 / len(x), 1e-12)
    assert model.empty_.size == 0
    assert_never_rises(model.q_path_)


@pytest.mark.parametrize("scale", [1e81, 1e-81])
def test_the_floor_is_told_from_covariances_of_every_size(scale):
    assert GaussianMixture(2, covariance="full").fit(scale * X).collapsed_.size == 0
    with pytest.warns(CollapseWarning, match="components 0, 1 shrank"):
        GaussianMixture(2, covariance="full").fit(scale * np.column_stack([X, X[:, 0] - X[:, 1]]))


def test_columns_that_follow_from_one_another_need_the_floor():
    x = np.column_stack([X, X[:, 0] - X[:, 1]])
    with pytest.warns(CollapseWarning, match=r"components 0, 1 shrank .* covariance='diagonal'"):
        model = GaussianMixture(2, covariance="full").fit(x)
    assert model.collapsed_.tolist() == [0, 1] and np.isfinite(model.score(x))
    assert GaussianMixture(2).fit(x).collapsed_.size == 0


@pytest.mark.parametrize("pmf", ["free", "hard"])
@every_covariance
def test_a_component_without_data_cases(covariance, pmf):
    """Its weight is 0 from the first M-step on; the others are fitted as if it were not there."""
    start = mixture.start(X, X.var(axis=0), 2, covariance, 0)
    far = Mixture(
        np.append(start.weights / 2, 0.5),
        np.append(start.means, [[1e6, 0.0]], axis=0),
        np.append(start.covariances, start.covariances[:1], axis=0),
    )
    with pytest.warns(CollapseWarning, match=r"components 2 ended without data cases: give fewer components"):
        model = GaussianMixture(3, covariance=covariance, pmf=pmf, init=tuple(far)).fit(X)
    two = GaussianMixture(2, covariance=covariance, pmf=pmf, init=tuple(start)).fit(X)
    assert model.empty_.tolist() == [2] and model.collapsed_.size == 0
    assert model.weights_[2] == 0 and (model.phi_[:, 2] == 0).all()
    np.testing.assert_array_equal(model.means_[2], [1e6, 0])
    close(model.weights_[:2], two.weights_, 1e-12)
    close(model.means_[:2], two.means_, 1e-10)
    close(model.nlml(X).values, two.nlml(X).values, 1e-10)
    close(model.bound(X), two.bound(X), 1e-10)
    assert (model.sample(200, random_state=0)[:, 0] < 1e3).all()
    assert model.bound(X, phi=np.tile([0.5, 0, 0.5], (N, 1))).min() == math.inf
    assert_never_rises(model.q_path_)


def test_a_weight_of_0_to_start_with_stays():
    with pytest.warns(CollapseWarning, match="components 1 ended without data cases"):
        model = GaussianMixture(2, init=([1.0, 0.0], X[:2], [[1, 1], [1e-30, 1]])).fit(X)
    assert model.weights_.tolist() == [1.0, 0.0] and model.collapsed_.size == 0
    close(model.means_[0], X.mean(axis=0), 1e-12)


def test_covariances_of_the_start_are_raised_to_the_floor():
    """Else the first M-step would have to raise Q."""
    tiny = ([0.5, 0.5], X[[0, 0]] + [[0, 0], [9, 9]], np.full((2, D), 1e-30))
    with pytest.warns(CollapseWarning):
        model = GaussianMixture(2, init=tiny, min_variance=0.9).fit(X)
    assert_never_rises(model.q_path_)
    assert (model.covariances_ >= 0.9 * X.var(axis=0)).all()


# ---- what must not matter --------------------------------------------------------------------------


@every_pmf
@every_covariance
def test_units(covariance, pmf):
    """Columns in other units: the same PMFs, and Q moved by the logarithm of the volume."""
    a, c = np.array([5.0, -300.0]), np.array([1e3, 1e-2])
    plain = GaussianMixture(K, covariance=covariance, pmf=pmf).fit(X)
    other = GaussianMixture(K, covariance=covariance, pmf=pmf).fit(X * c + a)
    close(other.phi_, plain.phi_, 1e-6)
    close(other.q_path_[-1], plain.q_path_[-1] + np.log(c).sum(), 1e-7)
    close((other.means_ - a) / c, plain.means_, 1e-6)


@every_pmf
def test_no_row_depends_on_the_others(pmf):
    model = GaussianMixture(K, covariance="full", pmf=pmf).fit(X)
    order = np.random.default_rng(0).permutation(N)
    for ask in (model.infer, model.bound, model.score_samples, model.kl_to_posterior):
        whole = ask(X)
        close(ask(X[order]), whole[order], 1e-13)
        close(ask(X[4:5]), whole[4:5], 1e-13)


def test_components_in_another_order():
    theta = mixture.start(X, X.var(axis=0), K, "full", 1)
    a = GaussianMixture(K, covariance="full", init=tuple(theta)).fit(X)
    b = GaussianMixture(K, covariance="full", init=tuple(part[::-1] for part in theta)).fit(X)
    close(a.weights_, b.weights_[::-1], 1e-9)
    close(a.nlml(X).values, b.nlml(X).values, 1e-9)


def test_seeds():
    x = blobs(21, 60, 2)
    a, b = (GaussianMixture(5, random_state=s, max_iter=1, tol=1e9) for s in (0, 0))
    c = GaussianMixture(5, random_state=1, max_iter=1, tol=1e9)
    for model in (a, b, c):
        quiet(model, x)
    np.testing.assert_array_equal(a.means_, b.means_)
    assert np.abs(a.means_ - c.means_).max() > 1e-3
    start = mixture.start(x, x.var(axis=0), 5, "full", 0)
    assert len(np.unique(start.means, axis=0)) == 5 and all((x == m).all(axis=1).any() for m in start.means)
    close(start.covariances[3], np.diag(x.var(axis=0)) / 5, 1e-12)  # K^(−2/D) with D = 2
    assert a.sample(3, random_state=4).tolist() == b.sample(3, random_state=4).tolist()


@every_pmf
@every_covariance
def test_every_backend(backend, covariance, pmf):
    """The same numbers on every array library; none is changed that was given; and of its kind."""
    tolerance = 1e-4 if backend.dtype == "float32" else 1e-11
    theta, reference = random_theta(np.random.default_rng(4), covariance), X[:30]
    lowest = 0.05 * X.var(axis=0)
    x = backend.asarray(reference)
    there = Mixture(*(backend.asarray(part) for part in theta))
    log_p = mixture.log_joint(there, x)
    q = mixture.E_STEPS[pmf](log_p)
    after = mixture.m_step(there, q, x, backend.asarray(lowest))
    q_here = mixture.E_STEPS[pmf](joint_by_scipy(theta, reference))
    here = mixture.m_step(theta, q_here, reference, lowest)
    for got, expected in [
        (log_p, joint_by_scipy(theta, reference)),
        (mixture.divergence(q, log_p), Q_by_hand(q_here, joint_by_scipy(theta, reference))),
        *zip(after, here),
    ]:
        assert type(got) is type(x) and got.dtype == x.dtype
        close(to_numpy(got), expected, tolerance * (1 + np.abs(expected).max()))
    model = GaussianMixture(K, covariance=covariance, pmf=pmf, backend=backend, dtype=backend.dtype).fit(X)
    plain = GaussianMixture(K, covariance=covariance, pmf=pmf).fit(X)
    def answers(m):
        return m.means_, m.covariances_, m.phi_, m.infer(X), m.bound(X), m.nlml(X).values

    for got, expected in zip(answers(model), answers(plain)):
        assert isinstance(got, np.ndarray) and got.dtype == backend.dtype
        close(got, expected, 100 * tolerance)


def test_single_precision_at_the_floor():
    """The arithmetic is in float64: a covariance at its floor is still one in float32."""
    x = np.column_stack([X, X[:, 0] + X[:, 1]]).astype("float32")
    model = quiet(GaussianMixture(2, covariance="full", min_variance=1e-9), x)
    assert model.means_.dtype == model.bound(x).dtype == np.float32 and np.isfinite(model.score(x))
    close(model.bound(x), model.nlml(x).values, 1e-4)


# ---- sampling --------------------------------------------------------------------------------------


@every_covariance
def test_samples_have_the_moments_of_the_mixture(covariance):
    model = GaussianMixture(K, covariance=covariance).fit(X)
    n = 40000
    x = model.sample(n, random_state=1)
    assert x.shape == (n, D)
    weights, means, Sigma = theta_of(model)
    Sigma = np.array([np.diag(v) for v in Sigma]) if covariance == "diagonal" else Sigma
    mean = weights @ means
    second = np.einsum("k,kde->de", weights, Sigma + means[:, :, None] * means[:, None, :])
    close(x.mean(axis=0), mean, 5 * x.std(axis=0).max() / math.sqrt(n))
    products = x[:, :, None] * x[:, None, :]
    assert (np.abs(products.mean(axis=0) - second) < 5 * products.std(axis=0) / math.sqrt(n)).all()
    # and not only the moments: each data case's distance from its component is χ² with D degrees
    k = model.infer(x).argmax(axis=1)
    assert stats.chisquare(np.bincount(mixture.hard(joint_by_scipy(theta_of(model), x)).argmax(axis=1)),
                           np.bincount(k)).pvalue > 0.99
    below = model.nlml(x).values.mean()                            # −E log p(x), the entropy, two ways
    again = model.nlml(model.sample(n, random_state=2)).values
    close(below, again.mean(), 7 * again.std() / math.sqrt(n))


def test_samples_component_by_component():
    """Far apart, the components can be told: their shares, means and covariances are those of θ."""
    theta = Mixture(
        np.array([0.7, 0.3]),
        np.array([[0.0, 0.0], [100.0, 50.0]]),
        np.array([[[2, 1.2], [1.2, 1]], [[1, -0.5], [-0.5, 3]]]),
    )
    x = fitted(theta, covariance="full").sample(20000, random_state=3)
    second = x[:, 0] > 50
    close(second.mean(), 0.3, 0.02)
    for part, mean, Sigma in zip((x[~second], x[second]), theta.means, theta.covariances):
        close(part.mean(axis=0), mean, 0.1)
        close(np.cov(part.T), Sigma, 0.15)


# ---- what is given ---------------------------------------------------------------------------------


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
    "a constant column": (X * [1, 0] + 0.1, "1 of 2 columns are constant: 1; a learnt variance"),
    "a column that underflows": (X * [1, 1e-170], "1 of 2 columns are constant: 1; a learnt variance"),
    "too few places": (np.repeat(X[:2], 5, axis=0), "only 2 different data cases, n_components=3"),
}


@pytest.mark.parametrize("kind", BAD_DATA)
def test_data_that_cannot_be_fitted(kind):
    x, message = BAD_DATA[kind]
    model = GaussianMixture(K)
    assert_refused(lambda: model.fit(x), message)
    assert learnt(model) == []


BAD_OPTIONS = {
    "n_components=0": "n_components must be an integer >= 1",
    "n_components=2.5": "n_components must be an integer >= 1",
    "max_iter=0": "max_iter must be an integer >= 1",
    "tol=0": "tol must be a finite number > 0, got 0",
    "min_variance=0": "min_variance must be a finite number > 0, got 0",
    "min_variance=float('inf')": "min_variance must be a finite number > 0, got inf",
    "covariance='spherical'": "covariance must be one of ['diagonal', 'full'], got 'spherical'",
    "covariance=[]": "covariance must be one of ['diagonal', 'full'], got []",
    "pmf='soft'": "pmf must be one of ['free', 'hard', 'tied'], got 'soft'",
    "pmf=None": "pmf must be one of ['free', 'hard', 'tied'], got None",
    "backend='torch'": "backend must be 'numpy', 'cupy' or 'auto', got 'torch'",
    "dtype='float16'": "dtype must be one of",
}


@pytest.mark.parametrize("option", BAD_OPTIONS)
def test_options_that_are_none(option):
    model = eval(f"GaussianMixture({option})")
    assert_refused(lambda: model.fit(X), BAD_OPTIONS[option])
    assert learnt(model) == []


HALVES, ONES = [0.5, 0.5], np.ones((2, D))
BAD_INITS = {
    "a name": ("random", "init must be (weights, means, covariances) or None"),
    "two parts": ((HALVES, X[:2]), "init must be (weights, means, covariances) or None"),
    "three components": (
        ([0.2, 0.3, 0.5], X[:2], ONES), "the weights of init", "numbers of shape (2,)", "got shape (3,)"
    ),
    "means of three columns": ((HALVES, np.ones((2, 3)), ONES), "the means of init", "got shape (2, 3)"),
    "full for diagonal": ((HALVES, X[:2], np.ones((2, 2, 2))), "the covariances of init", "'diagonal'"),
    "NaN": ((HALVES, X[:2] * math.nan, ONES), "the means of init must be finite numbers"),
    "weights that do not sum to 1": (([0.5, 0.4], X[:2], ONES), ">= 0 and sum to 1", "with sum 0.9: divide"),
    "a negative weight": (([1.5, -0.5], X[:2], ONES), "the weights of init must be >= 0"),
    "no variance": ((HALVES, X[:2], ONES * [[1], [0]]), "covariance 1 of init must have", "the least is 0"),
}


@pytest.mark.parametrize("kind", BAD_INITS)
def test_starts_that_are_none(kind):
    init, *parts = BAD_INITS[kind]
    assert_refused(lambda: GaussianMixture(2, init=init).fit(X), *parts)


def test_full_starts_that_are_none():
    def fit(S):
        return GaussianMixture(2, covariance="full", init=(HALVES, X[:2], np.array([np.eye(2), S]))).fit(X)

    assert_refused(lambda: fit([[1, 0.5], [0.2, 1]]), "covariance 1 of init is not symmetric: give (S + S.T)")
    assert_refused(lambda: fit([[1, 2], [2, 1]]), "covariance 1 of init must have", "the least is -1")


def test_questions_that_cannot_be_answered():
    model = GaussianMixture(K).fit(X)
    for ask in (model.bound, model.nlml, model.infer, model.transform, model.score, model.kl_to_posterior):
        assert_refused(lambda ask=ask: ask(X[:, :1]), "X has 1 features, but GaussianMixture is expecting 2")
        assert_refused(lambda ask=ask: ask(X[0]), "Expected 2D array, got 1D array")
    for ask in (model.bound, model.kl_to_posterior):
        assert_refused(lambda ask=ask: ask(X, phi=np.ones((N, 2))), "must have shape (90, 3), got (90, 2)")
        phi = np.full((N, K), 1 / K)
        phi[7], phi[9] = [0.5, 0.5, 0.5], [1.5, -0.5, 0]
        assert_refused(lambda ask=ask, phi=phi: ask(X, phi=phi), "with sum 1.5 in row 7 (2 such rows)")
        phi[7] = math.nan
        assert_refused(lambda ask=ask, phi=phi: ask(X, phi=phi), "in row 7 (2 such rows)")
    assert_refused(lambda: model.sample(0), "n_samples must be an integer >= 1, got 0")


def test_the_unfitted():
    model = GaussianMixture(K)
    for name in ("bound", "nlml", "infer", "transform", "score", "score_samples", "kl_to_posterior"):
        assert_refused(lambda name=name: getattr(model, name)(X), "not fitted yet", error=NotFittedError)
    assert_refused(model.sample, "not fitted yet", error=NotFittedError)
    for name in ("weights_", "means_", "covariances_", "n_parameters_", "phi_", "q_path_"):
        assert not hasattr(model, name)


def test_parameters_by_name():
    init = (np.ones(2) / 2, X[:2], ONES)
    model = GaussianMixture(2, pmf="hard", init=init)
    assert model.init is init
    twin = clone(model)
    assert twin.get_params().keys() == model.get_params().keys() and twin.pmf == "hard"
    np.testing.assert_array_equal(twin.fit(X).means_, model.fit(X).means_)
    assert repr(GaussianMixture(3, covariance="full")) == "GaussianMixture(n_components=3, covariance='full')"
    with pytest.raises(TypeError):
        GaussianMixture(3, "full")
    model.set_params(pmf="tied", init=None).fit(X)                 # a refit forgets the fit before
    assert (model.infer(X) == model.phi_[0]).all()


def test_progress_and_an_early_end():
    seen = []
    with pytest.warns(ConvergenceWarning, match=r"max_iter=3 iterations .* raise max_iter or tol"):
        model = GaussianMixture(K, max_iter=3).fit(X, progress=lambda *now: seen.append(now))
    assert model.converged_ is False and model.n_iter_ == 3
    assert seen == [(i, 3, Q) for i, Q in enumerate(model.q_path_)]
