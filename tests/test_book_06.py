"""Equations of derivations/06-variational-em.md that no other test had: each by a second road."""

import numpy as np
import pytest
from scipy import stats
from sklearn.cluster import KMeans

from teachvae.inference import linear_gaussian, mixture
from teachvae.posteriors import DiagonalGaussian


def random_precision(seed, K):
    rng = np.random.default_rng(seed)
    return linear_gaussian.precision(rng.standard_normal((K, 6)), rng.uniform(0.3, 2, 6))


def test_9_17_with_a_smaller_family_nlml_may_rise():
    """From the maximum of the likelihood on axes turned by 45 degrees, without (2.28)."""
    rng = np.random.default_rng(17)
    W, psi = rng.standard_normal((2, 6)), rng.uniform(0.3, 1, 6)
    S, q = W.T @ W + np.diag(psi), DiagonalGaussian(2)             # so W and psi are the maximum
    W = np.array([[1.0, 1.0], [-1.0, 1.0]]) / np.sqrt(2) @ linear_gaussian.canonical(W, psi)
    Q, nlml = [], []
    for _ in range(6):
        nlml.append(linear_gaussian.e_step_moments(W, psi, S)[1])
        stats_, value = linear_gaussian.e_step_moments(W, psi, S, q)
        Q.append(value)
        W, _, psi = linear_gaussian.m_step(stats_)
    assert (np.diff(Q) < 0).all() and (np.array(Q) > nlml).all()
    assert min(nlml[1:]) > nlml[0] + 1e-4


@pytest.mark.parametrize("K", [2, 3, 5])
def test_9_18_mean_field_takes_the_conditional_variance(K):
    """The conditional variance by the regression of z_k on the others, from the covariance alone."""
    M = random_precision(180 + K, K)
    C = np.linalg.inv(M)
    s2 = np.exp(2 * DiagonalGaussian(K).closest(np.zeros((1, K)), M)[0, K:])
    for k in range(K):
        others = np.delete(np.arange(K), k)
        explained = C[k, others] @ np.linalg.solve(C[np.ix_(others, others)], C[others, k])
        assert s2[k] == pytest.approx(C[k, k] - explained, rel=1e-11)
        assert s2[k] < C[k, k]
    alone = np.diag(np.diag(M))                                    # nothing coupled: nothing is lost
    s2 = np.exp(2 * DiagonalGaussian(K).closest(np.zeros((1, K)), alone)[0, K:])
    np.testing.assert_allclose(s2, np.diag(np.linalg.inv(alone)), rtol=1e-13)


@pytest.mark.parametrize("seed", range(3))
def test_9_19_two_latent_variables_and_their_correlation(seed):
    M = random_precision(seed, 2)
    C = np.linalg.inv(M)
    rho = C[0, 1] / np.sqrt(C[0, 0] * C[1, 1])
    q = DiagonalGaussian(2)
    phi = q.closest(np.zeros((1, 2)), M)
    np.testing.assert_allclose(np.exp(2 * phi[0, 2:]), (1 - rho**2) * np.diag(C), rtol=1e-11)
    nodes, w = np.polynomial.hermite_e.hermegauss(4)               # log q − log p is quadratic: exact
    z = np.stack(np.meshgrid(nodes, nodes), axis=-1).reshape(-1, 2) * np.exp(phi[0, 2:])
    log_q = stats.norm.logpdf(z, 0, np.exp(phi[0, 2:])).sum(axis=1)
    kl = np.outer(w, w).ravel() @ (log_q - stats.multivariate_normal(cov=C).logpdf(z)) / w.sum() ** 2
    assert kl == pytest.approx(-0.5 * np.log(1 - rho**2), rel=1e-10)
    assert linear_gaussian.diagonal_gap(M) == pytest.approx(kl, rel=1e-10)


def test_9_20_hard_em_of_equal_spheres_is_k_means():
    """Round by round scikit-learn's Lloyd, and the mean of Q its inertia with the two constants."""
    rng = np.random.default_rng(20)
    x, means, sigma2, K = rng.standard_normal((60, 2)), rng.standard_normal((3, 2)), 0.4, 3
    for _ in range(5):
        log_p = mixture.log_joint(mixture.Mixture(np.full(K, 1 / K), means, np.full((K, 2), sigma2)), x)
        q = mixture.hard(log_p)
        nearest = np.argmin(((x[:, None] - means) ** 2).sum(axis=2), axis=1)
        np.testing.assert_array_equal(np.argmax(q, axis=1), nearest)
        inertia = ((x - means[nearest]) ** 2).sum()
        written = np.log(K) + np.log(2 * np.pi * sigma2) + inertia / (2 * sigma2 * len(x))
        assert mixture.divergence(q, log_p).mean() == pytest.approx(written, rel=1e-12)
        lloyd = KMeans(K, init=means, n_init=1, max_iter=1, algorithm="lloyd", tol=0).fit(x)
        means = mixture.m_step(mixture.Mixture(None, means, np.ones((K, 2))), q, x, np.full(2, 1e-9)).means
        np.testing.assert_allclose(lloyd.cluster_centers_, means, atol=1e-12)
        assert lloyd.inertia_ <= inertia + 1e-12


@pytest.mark.parametrize("full", [False, True])
def test_9_21_one_m_step_makes_tied_components_equal(full):
    rng = np.random.default_rng(21)
    x = rng.standard_normal((40, 3)) @ rng.standard_normal((3, 3))
    covariances = np.stack([np.eye(3)] * 4) if full else np.ones((4, 3))
    theta = mixture.Mixture(np.full(4, 0.25), rng.standard_normal((4, 3)), covariances)
    q = mixture.tied(mixture.log_joint(theta, x))
    after = mixture.m_step(theta, q, x, np.full(3, 1e-9))
    S = np.cov(x.T, bias=True) if full else np.diag(x.var(axis=0))
    one = stats.multivariate_normal(x.mean(axis=0), S)
    log_p = mixture.log_joint(after, x)
    np.testing.assert_allclose(mixture.divergence(mixture.tied(log_p), log_p), -one.logpdf(x), rtol=1e-10)
    np.testing.assert_allclose(mixture.tied(log_p), q, rtol=1e-10)
    np.testing.assert_allclose(mixture.free(log_p), q, rtol=1e-10)
