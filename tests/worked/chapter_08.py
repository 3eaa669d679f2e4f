"""The worked examples of derivations/08-amortisation.md."""

from functools import cache

import numpy as np
from worked import example as ex

from teachvae import bound
from teachvae.evaluation import calibration, gaps
from teachvae.inference import em, linear_gaussian
from teachvae.likelihoods import Gaussian
from teachvae.model import Model
from teachvae.networks.layers import Linear
from teachvae.posteriors import DiagonalGaussian
from teachvae.routes.conventions import Transformer
from teachvae.routes.vae import amortised

ENCODER = Linear(2, 2)                                             # gives the running example's φ
V = {"W": np.array([[0, 0], [1 / 6, np.log(2) / 3]]), "b": np.array([0, -np.log(2)])}
BEST = {"W": np.array([[0.25, 0], [0.25, 0]]), "b": np.array([-0.25, -np.log(2)])}


def split():
    """(model, theta) with K = 2: the running example's factor told as two, at 45° to it."""
    model = Model(Linear(2, 2), Gaussian(2), 2, DiagonalGaussian(2))
    W = np.array([[1.0, 2.0], [1.0, 2.0]]) / np.sqrt(2)
    return model, {"decoder": {"W": W, "b": ex.b}, "likelihood": {"log_psi": np.log(ex.psi)}}


def ledger(model, theta, phi, x=ex.x):
    """The `Gaps` of data cases x."""
    return gaps.gaps(model, theta, phi, x, np.random.default_rng(0))


@cache
def bent_ledger():
    return ledger(*ex.bent(), ex.phi)


def split_ledger():
    return ledger(*split(), np.zeros((2, 4)))


def eq_1_17():
    phi, _ = ENCODER.forward(V, ex.x)
    yield from V["W"][1]
    yield V["b"][1]
    yield from phi[0]
    yield from phi[1]
    best, _ = ENCODER.forward(BEST, ex.x)
    yield from (BEST["W"][0, 0], BEST["b"][0], *best[:, 0])


def eq_1_18():
    model, theta = ex.linear()
    phi, _ = ENCODER.forward(V, ex.x)
    _, cache_ = bound.forward(model, theta, phi, ex.x, ex.eta)
    dphi, _ = bound.backward(model, theta, cache_, np.ones(2))
    yield from dphi[:, 0]
    yield from dphi[:, 1]
    _, grads = amortised(model, ENCODER, {"theta": theta, "recognition": V}, ex.x, ex.eta)
    dv = grads["recognition"]
    yield from dv["W"][0]
    yield from dv["W"][1]
    yield from dv["b"]


def eq_12_1():
    model, theta = ex.bent()
    f = np.tanh(ex.z)
    yield from f[:, 0, 0]
    yield from ((ex.x - model.f(theta, ex.z)[0]) ** 2 / ex.psi).sum(axis=2)[:, 0]
    kl = model.posterior.kl(ex.phi)[0]
    reconstruction = -model.log_likelihood(theta, ex.x, ex.z)[0].mean(axis=0)
    yield from (reconstruction[0], kl[0], reconstruction[0] + kl[0])
    yield from (reconstruction[1], kl[1], reconstruction[1] + kl[1])
    yield amortised(model, ENCODER, {"theta": theta, "recognition": V}, ex.x, ex.eta)[0]


def eq_10_1():
    g = ledger(*ex.linear(), ex.phi)
    yield from (g.nlml[0], g.not_gaussian[0], g.diagonal[0], g.amortisation[0], g.q_used[0])
    yield from (g.nlml[1], g.amortisation[1], g.q_used[1])
    g = bent_ledger()
    yield from (g.nlml[0], g.not_gaussian[0], g.diagonal[0], g.amortisation[0], g.q_used[0])


def eq_10_2():
    g = split_ledger()
    yield from (2.5, 1.5, g.approximation[0])
    g = bent_ledger()
    m, log_s = g.phi_optimal[0]
    yield from (m, np.exp(log_s), g.q_optimal[0], g.nlml[0], g.approximation[0])


def eq_10_3():
    yield from ex.m[:, 0]
    yield from (1.0, -0.5)
    g = ledger(*ex.linear(), ex.phi)
    yield g.amortisation[0]
    yield 0.5
    yield g.amortisation[1]


def eq_10_4():
    g = split_ledger()
    yield from (g.diagonal[0], g.not_gaussian[0])
    g = bent_ledger()
    yield from (g.diagonal[0], g.not_gaussian[0])


def eq_10_12():
    found = gaps.ladder(*split(), ex.x, np.random.default_rng(0))
    yield from (found.q_diagonal[0], found.turned[0], found.bent[0], found.left[0], found.nlml[0])
    found = gaps.ladder(*ex.bent(), ex.x, np.random.default_rng(0))
    yield from (found.q_full[0], found.bent[0], found.left[0], found.nlml[0])


def eq_10_9():
    W, b, psi = ex.W, ex.b, ex.psi
    mean, M = linear_gaussian.posterior(W, b, psi, ex.x)
    yield from (*mean[:, 0], mean.var(), M[0, 0] * mean.var())
    constant = np.tile([mean.mean(), -np.log(2)], (2, 1))
    yield constant[0, 0]
    g = ledger(*ex.linear(), constant)
    yield from (g.amortisation[0], g.amortisation.mean())
    best, _ = ENCODER.forward(BEST, ex.x)
    yield ledger(*ex.linear(), best).amortisation.mean()


def eq_12_2():
    constant = np.tile([1.0, -np.log(2)], (2, 1))                  # the best φ of case 1 for all
    g = ledger(*ex.linear(), constant)
    yield from (1.0, 0.5, g.amortisation[0], g.amortisation[1])
    yield from (g.q_used[0], g.q_used[1])
    yield from (g.q_used[1] - g.q_used[0], g.nlml[1] - g.nlml[0], g.amortisation[1] - g.amortisation[0])


class Codes(Transformer):
    """Codes that are given."""

    def transform(self, X):
        return X


def eq_10_8():
    codes, threshold = np.array([[0.5, 0.1], [0.0, -0.05]]), 0.01
    assert Codes().active_units(codes, threshold).tolist() == [True, False]
    yield from (*codes[:, 0], *codes[:, 1], *codes.var(axis=0), threshold)


def eq_10_10():
    S = np.cov(ex.x.T, bias=True)
    W, psi = em.start(S, 2, Gaussian(2, 1.0), None)
    values = np.linalg.eigvalsh(S)[::-1]
    mean, M = linear_gaussian.posterior(W, ex.x.mean(axis=0), psi, ex.x)
    yield from (S[0, 0], values[0], values[1])
    yield from (psi[0], np.linalg.norm(W[0]), W[1, 0])
    yield from (M[0, 0], mean[0, 0], mean[:, 0].var())
    W, _ = em.start(S, 2, Gaussian(2, 5.0), None)
    yield from (5.0, W[0, 0])


def eq_1_30():
    model, theta = ex.linear()
    W, b, psi = ex.W, ex.b, ex.psi
    phi = np.tile([1.0, -np.log(2)], (1, 1))                       # the posterior of case 1
    params = {"theta": theta, "recognition": BEST}
    Q = linear_gaussian.bound(W, b, psi, phi, model.posterior, ex.x[:1])[0]
    weighted, _ = amortised(model, ENCODER, params, ex.x[:1], ex.eta[:, :1], kl_weight=0.5)
    yield from (1.0, 0.5, Q, model.posterior.kl(phi)[0][0], 0.5, weighted)
    above, _ = amortised(model, ENCODER, params, ex.x[:1], ex.eta[:, :1], kl_weight=2.0)
    yield above
    _, grads = amortised(model, ENCODER, params, ex.x[:1], ex.eta[:, :1], kl_weight=0.5)
    yield from grads["recognition"]["b"]                           # dφ, for Q itself has none here


def eq_12_3():
    model, theta = ex.linear()
    params = {"theta": theta, "recognition": V}
    kl = model.posterior.kl(ex.phi)[0][0]
    one, _ = amortised(model, ENCODER, params, ex.x[:1], ex.eta[:, :1])
    two, _ = amortised(model, ENCODER, params, ex.x[:1], ex.eta[:, :1], kl_weight=2.0)
    yield from (one, kl, two)
    noisier = {**theta, "likelihood": {"log_psi": np.log(2 * ex.psi)}}
    other, _ = amortised(model, ENCODER, {**params, "theta": noisier}, ex.x[:1], ex.eta[:, :1])
    yield from (other, two - 2 * other, 2 * other, two)


def eq_10_13():
    m, s = ex.m[0, 0], ex.s[0, 0]
    draws = m + s * np.array([-1.2, -0.3, 0.4, 1.1])
    yield from draws
    yield 0.7
    rank = calibration.ranks(np.array([[0.7]]), draws[:, None, None])
    yield rank[0, 0]


def eq_10_14():
    ranks = np.repeat([0, 3], [70, 30])[:, None]
    found = calibration.calibration(ranks, 4, 2)
    yield from found.expected / 100
    yield from (found.statistic[0], found.p_value[0])


def eq_10_15():
    _, theta = split()
    M = linear_gaussian.precision(theta["decoder"]["W"], ex.psi)
    rho = 1 / np.sqrt(M[0, 0] * np.linalg.inv(M)[0, 0])
    yield from (M[0, 0], np.linalg.inv(M)[0, 0], rho)
    a = np.arcsin(1 / (1 + rho**2)) / (2 * np.pi)
    yield a
    N = 100_000                                                    # of two draws, as often as is probable
    ends = round(N * (0.25 + a))
    yield from (ends / N, 1 - 2 * ends / N)
    ranks = np.repeat([0, 1, 2], [ends, N - 2 * ends, ends])[:, None]
    yield calibration.calibration(ranks, 2).spread[0]
