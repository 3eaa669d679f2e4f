"""Chapter 15, errors and certificates: the worked examples, computed by the package."""

from unittest.mock import patch

import numpy as np
from scipy import stats

from teachvae import bound, importance_weighted
from teachvae.course import gradient_estimators as ge
from teachvae.evaluation import ais, divergence, gaps, grid, nlml
from teachvae.inference import e_step, expectations
from teachvae.model import Model
from teachvae.posteriors import Flow, FullGaussian
from teachvae.posteriors.nodes import gauss_hermite

from . import example
from .chapter_07 import ETA, MODEL, PHI, POSTERIOR, THETA, X, mean_and_variance

NLML = nlml.exact(MODEL, THETA, X).values[0]


def log_weights(phi=PHI, x=X, eta=ETA):
    """Of the linear example, (S,)."""
    return expectations.log_weight(MODEL, THETA, phi, x, eta)[:, 0]


def weighted(log_w):
    """−log of the mean weight, its standard error even where it may not be stated, the effective size."""
    total = nlml.StreamingLogMeanExp(np)
    total.add(np.reshape(log_w, (-1, 1)))
    with patch.object(nlml, "LARGE", np.inf):
        log_mean, error, size = total.result()
    return -log_mean[0], error[0], size[0]


def is_stated(log_w):
    total = nlml.StreamingLogMeanExp(np)
    total.add(np.reshape(log_w, (-1, 1)))
    return np.isfinite(total.result()[1][0])


def rho(n=0, phi=None):
    """E_q[ω²] / p² of a case of the linear example, by quadrature."""
    one = slice(n, n + 1)
    eta, w = gauss_hermite(1, 64)
    log_w = log_weights(example.phi[one] if phi is None else phi, example.x[one], eta)
    return w @ np.exp(2 * (log_w + nlml.exact(MODEL, THETA, example.x[one]).values[0]))


def eq_10_17():
    g = ge.reparameterised(MODEL, THETA, PHI, X, ETA, kl="sampled")[:, 0, 0]
    mean, error, variance = ge.summary(g)
    yield from (*g, mean, variance, error)
    right = mean_and_variance(ge.reparameterised, PHI, X, kl="sampled")[1][0]
    yield from (right, np.sqrt(right / 100), np.sqrt(right / 10_000))
    wrong, variance = (v[0] for v in mean_and_variance(ge.naive, PHI, X))
    bias = abs(wrong - ge.exact(MODEL, THETA, PHI, X)[0, 0])
    yield from (variance, bias, bias / np.sqrt(variance / 100), bias / np.sqrt(variance / 400))


def eq_7_2():
    omega = np.exp(log_weights())
    value, error, _ = weighted(log_weights())
    off = omega[0] - omega.mean()
    yield from (1.5, -0.5, *omega, omega.mean(), value, NLML, off, off, off, off, omega.mean(), error)


def eq_7_6():
    omega = np.exp(log_weights())
    _, error, size = weighted(log_weights())
    yield from (*omega, omega.sum(), *omega, size, size, error**2, error)
    _, error, size = weighted(log_weights(POSTERIOR))
    yield from (size, error)


def eq_10_18():
    yield from (-0.5, rho(), 1 / rho(), 0.5, 0.5, rho(1), 1 / rho(1))
    yield from (rho(phi=np.zeros((1, 2))), np.sqrt(1 / 8))


def eq_10_19():
    excess = rho() - 1
    yield from (excess, excess / 2000, np.sqrt(excess / 1000), excess / 4)
    eta, w = gauss_hermite(1, 96)
    pairs = np.stack([np.repeat(eta[:, 0], 96, axis=0), np.tile(eta[:, 0], (96, 1))])
    rows = np.zeros(96 * 96, dtype=int)
    two = np.outer(w, w).ravel() @ importance_weighted.forward(MODEL, THETA, PHI[rows], X[rows], pairs)[0]
    one = bound.forward(MODEL, THETA, PHI, X, ETA)[0][0]
    yield from (two, NLML, two - NLML, one, NLML, one - NLML, excess / 2)


def eq_10_20():
    eta = np.linspace(-8, 8, 160_001)
    cost = -log_weights(eta=eta[:, None, None])
    c0, lowest = cost[80_000], cost.min()                          # at η = 0
    low = eta[cost <= NLML - 0.5]
    yield from (1.5, c0, NLML, 0.5, low[0], low[-1])
    yield from (stats.norm.cdf(low[-1]) - stats.norm.cdf(low[0]), -0.5, np.exp(-0.5), lowest, np.exp(-1))


def eq_7_15():
    omega = np.exp(log_weights())
    squares = omega**2
    assert not is_stated(log_weights())
    effective = squares.sum() ** 2 / (squares**2).sum()
    yield from (weighted(log_weights())[1], nlml.LARGE, *omega, *omega, effective)
    for n in (10, 4):
        log_w = np.log(np.repeat([1e-12, 1.0], [1000 - n, n]))
        squares = np.exp(2 * log_w)
        assert is_stated(log_w) == (n == 10)
        yield from (weighted(log_w)[1], squares.sum() ** 2 / (squares**2).sum())


def eq_10_21():
    forth, back = np.array([0.018, 0.022]), np.array([44.0, 52.0])
    upper, lower = (ais._nlml(ais.Chains(np.log(w)[:, None], None, None), np, sign)
                    for w, sign in ((forth, -1), (back, 1)))
    low, high = ais.Sandwich(upper, lower, None, None, None, None).interval()
    yield from (*forth, forth.mean(), upper.values[0], 0.002, forth.mean(), upper.standard_error[0])
    yield from (lower.values[0], lower.standard_error[0], low[0], high[0], NLML)


def eq_7_4():
    peak = -MODEL.log_joint(THETA, X, np.ones((1, 1, 1)))[0, 0]
    sums = {h: np.exp(grid._log_mass(MODEL, THETA, X, grid.lattice(2, h, 1))[0] + peak) for h in (1, 0.5)}
    coarse, fine = (peak - np.log(h * total) for h, total in sums.items())
    with patch.multiple(grid, BOX=2.0, MESH={1: 1.0}):
        (value,), (certificate,) = grid._shared(MODEL, THETA, X, np.inf)
    yield from (-peak, sums[1], peak, sums[1], coarse, sums[0.5], fine, value)
    yield from (fine - coarse, fine - value, certificate, value - NLML)
    bent = grid.grid(*example.bent(), X)
    yield from (bent.values[0], bent.certificate[0])


def eq_10_5():
    model, theta = example.bent()
    values = []
    for order in expectations.ORDERS[1]:
        eta, w = gauss_hermite(1, order)
        values.append(bound.forward(model, theta, PHI, X, eta, weights=w)[0][0])
    _, certificate = expectations.quadrature(model, theta, example.phi, example.x)
    yield from (*values[:3], values[2] - values[0], *certificate)


def eq_10_7():
    mean, _, _ = divergence._mean_log_weight(MODEL, THETA, PHI, X, 1e-6)
    kl = divergence.kl_to_posterior(MODEL, THETA, PHI, X)[0]
    yield from (-mean, -NLML, -mean - NLML, 0.25, kl)
    model, theta = example.bent()
    given = model, theta, example.phi, example.x
    Q, worth = expectations.quadrature(*given)[0], grid.grid(model, theta, example.x).values
    yield from divergence.kl_to_posterior(*given)
    for n in range(2):
        yield from (Q[n], worth[n], Q[n] - worth[n])


def eq_10_11():
    saved = gaps._what_another_mode_may_save(np.array([1.0, 2.0, 0.5]))
    yield from (np.exp(-1), *saved[:2], 0.5, np.log(np.expm1(0.5)), saved[2])
    ledger = gaps.gaps(*example.bent(), example.phi, example.x, np.random.default_rng(0))
    yield from ledger.approximation


def eq_6_11():
    yield from (FullGaussian(3).n_phi / 400, 1 / e_step.DRAWS_PER_NUMBER, 0.5, 1.5)
    model = Model(MODEL.decoder, MODEL.likelihood, 1, Flow(1, ()))  # a Gaussian that samples its KL
    phi, w = e_step.prior_phi(model, X), np.array([0.5, 0.5])

    def ends(eta):
        """Q where the search on these nodes ends: on them, and itself."""
        found = e_step.e_step(model, THETA, phi, X, np.reshape(eta, (2, 1, 1)), w)
        return found.Q[0], bound.forward(model, THETA, found.phi, X, ETA, weights=w)[0][0]

    on_them, itself = ends([0.5, 1.5])
    yield from (on_them, NLML, NLML - on_them, itself, itself - NLML)
    whitened = ends([1.0, -1.0])
    np.testing.assert_allclose(whitened, NLML, atol=1e-9)
    yield whitened[0]
