"""Chapter 7, through the sampling: the worked examples, computed by the package."""

from types import SimpleNamespace

import numpy as np

from teachvae import bound
from teachvae.course import gradient_estimators as ge
from teachvae.inference import linear_gaussian
from teachvae.posteriors.nodes import gauss_hermite, matched_draws, sigma_points

from . import example

MODEL, THETA = example.linear()
PHI, X, ETA = example.phi[:1], example.x[:1], example.eta[:, :1]   # case 1
POSTERIOR = np.array([[1.0, np.log(0.5)]])                         # its q at the best


def costs(phi, kl):
    """What each of the two samples of case 1 says of Q, (S,)."""
    return [bound.forward(MODEL, THETA, phi, X, eta[None], kl=kl)[0][0] for eta in ETA]


def mean_and_variance(estimator, phi, x, **options):
    """Of one draw's gradient, each (n_phi,), over Gauss–Hermite nodes that are exact here."""
    eta, w = gauss_hermite(1, 8)
    g = estimator(MODEL, THETA, phi, x, eta, **options)[:, 0]
    return w @ g, w @ (g - w @ g) ** 2


def of_baseline(phi, S):
    """The variance of one draw's gradient with the leave-one-out baseline of S samples, (n_phi,): over every
    pair of nodes for S = 2; for more, c's variance counts 1/(S − 1) of what it does there.
    """
    eta, w = gauss_hermite(1, 8)
    R, eta = len(w), eta[:, 0, 0]
    first, second = np.repeat(eta, R), np.tile(eta, R)
    rows = np.zeros(R * R, dtype=int)
    pairs = np.stack([first, second])[:, :, None]                  # (2, R², 1): a data case for each pair
    g = ge.score_function(MODEL, THETA, phi[rows], X[rows], pairs, baseline="leave-one-out")[0]
    ww = np.outer(w, w).ravel()
    two = ww @ (g - ww @ g) ** 2
    one = [bound.forward(MODEL, THETA, phi, X, e[None, None, None], kl="sampled")[0][0] for e in eta]
    spread = w @ (one - w @ one) ** 2                              # Var[c]
    score = mean_and_variance(ge.naive, phi, X)[1]                 # E[u²]
    return two - spread * score * (1 - 1 / (S - 1))


def eq_1_8():
    kl = MODEL.posterior.kl(PHI)[0][0]
    z = example.z[:, 0, 0]
    log_p = MODEL.log_likelihood(THETA, X, ETA + 0.5)[0][:, 0]
    first, second = example.r[0] - z[:, None] * example.W[0]
    yield from (0.5, kl, *z, *first, first[0] ** 2, log_p[0], *second, log_p[1])
    yield from (kl, -log_p[0], -log_p[1], bound.forward(MODEL, THETA, PHI, X, ETA)[0][0])
    yield from costs(PHI, "analytic")


def eq_1_9():
    z = MODEL.posterior.sample(PHI, ETA)[0]
    log_q, log_prior = MODEL.posterior.log_prob(PHI, z)[0][:, 0], MODEL.log_prior(z)[:, 0]
    log_p = MODEL.log_likelihood(THETA, X, z)[0][:, 0]
    yield from (log_q[0], *log_prior)
    for s, c in enumerate(costs(PHI, "sampled")):
        yield from (log_q[s], -log_prior[s], -log_p[s], c)
    yield from (bound.forward(MODEL, THETA, PHI, X, ETA, kl="sampled")[0][0], 0.5)
    yield from MODEL.posterior.sample(POSTERIOR, ETA)[0][:, 0, 0]
    nlml = linear_gaussian.nlml(example.W, example.b, example.psi, X)[0]
    assert np.allclose(costs(POSTERIOR, "sampled"), nlml)
    yield from (nlml, *costs(POSTERIOR, "analytic"))


def eq_1_24():
    g = ge.naive(MODEL, THETA, PHI, X, ETA)[:, 0]
    yield from (*g[:, 0], *g[:, 1], *g.mean(axis=0), *ge.exact(MODEL, THETA, PHI, X)[0])
    yield from (PHI[0, 0], ge.naive(MODEL, THETA, PHI, X, ETA, kl="analytic")[0, 0, 1])


def eq_1_25():
    g = ge.score_function(MODEL, THETA, PHI, X, ETA)[:, 0]
    u = ge.naive(MODEL, THETA, PHI, X, ETA)[:, 0]
    exact = ge.exact(MODEL, THETA, PHI, X)[0]
    yield from (*costs(PHI, "sampled"), *u[:, 0], *g[:, 0], g[:, 0].mean(), g[0, 1], exact[1])
    mean, variance = mean_and_variance(ge.score_function, PHI, X)
    yield from (mean[1], *variance)


def eq_1_26():
    signs = np.array([[1.0, 1.0, -1.0, -1.0], [1.0, -1.0, 1.0, -1.0]])[:, :, None]  # a case for each pair
    rows = np.zeros(4, dtype=int)
    g = ge.score_function(MODEL, THETA, PHI[rows], X[rows], signs, baseline="leave-one-out")[:, :, 0]
    c = costs(PHI, "sampled")
    assert g[0, 0] == g[1, 0] == g[0, 3] == g[1, 3]
    yield from (g[0, 0], c[0], c[1], 1.0, g[0, 1], c[1], c[0], -1.0, g[1, 1], g.mean(), g[:, 1].mean())


def eq_1_10():
    m, s = example.m[:, 0], example.s[:, 0]
    z = MODEL.posterior.sample(example.phi, example.eta)[0][:, :, 0]
    yield from (m[0], s[0], z[0, 0], m[0], s[0], z[1, 0], s[1], *z[:, 1])
    moved = MODEL.posterior.sample(PHI + [[0.1, 0.0]], ETA)[0][:, 0, 0]
    yield from (0.6, *moved)


def eq_1_27():
    g = ge.reparameterised(MODEL, THETA, PHI, X, ETA, kl="sampled")[:, 0]
    yield from (*g[:, 0], *example.z[:, 0, 0], g[:, 0].mean(), *g[:, 1], g[:, 1].mean())
    g = ge.reparameterised(MODEL, THETA, PHI, X, ETA)[:, 0]
    price = ge.naive(MODEL, THETA, PHI, X, ETA, kl="analytic")[0, 0]
    yield from (*(g[:, 0] - price[0]), price[0], *g[:, 0], *g[:, 1])


def eq_1_28():
    given = MODEL, THETA, example.phi, example.x, example.eta
    u, full = ge.naive(*given), ge.reparameterised(*given, kl="sampled")
    g = ge.without_score_term(*given)
    yield from (*u[:, 0, 0], *full[:, 0, 0], *g[:, 0, 0], g[:, 0, 0].mean(), *g[:, 0, 1])
    assert g[0, 1, 0] == g[1, 1, 0]
    yield from (g[0, 1, 0], *full[:, 1, 0])


def eq_10_16():
    M, mean, s = 4.0, 1.0, 1.0
    Q = bound.forward(MODEL, THETA, PHI, X, ETA)[0][0]
    yield from (0.5 * (M * s**2 - 1), M * s * (PHI[0, 0] - mean), Q)
    analytic, sampled = {"kl": "analytic"}, {"kl": "sampled"}
    yield from mean_and_variance(ge.naive, PHI, X)[1]
    yield from mean_and_variance(ge.score_function, PHI, X)[1]
    yield from (*of_baseline(PHI, 2), *of_baseline(PHI, 1e9))
    yield from mean_and_variance(ge.reparameterised, PHI, X, **sampled)[1]
    yield from mean_and_variance(ge.reparameterised, PHI, X, **analytic)[1]
    yield from mean_and_variance(ge.without_score_term, PHI, X)[1]
    yield 0.5
    yield from mean_and_variance(ge.naive, POSTERIOR, X)[1]
    yield from mean_and_variance(ge.score_function, POSTERIOR, X)[1]
    yield from mean_and_variance(ge.reparameterised, POSTERIOR, X, **sampled)[1]
    yield from mean_and_variance(ge.reparameterised, POSTERIOR, X, **analytic)[1]
    assert np.allclose(of_baseline(POSTERIOR, 2), 0)
    yield from mean_and_variance(ge.without_score_term, POSTERIOR, X)[1]


def bent_Q(order):
    model, theta = example.bent()
    eta, w = gauss_hermite(1, order)
    return bound.forward(model, theta, PHI, X, eta, weights=w)[0][0]


def eq_1_14():
    eta, w = sigma_points(1)
    yield bound.forward(MODEL, THETA, PHI, X, eta, weights=w)[0][0]
    eta, w = sigma_points(2)
    yield from (eta[0, 0, 0], eta[1, 0, 1], w[0], bent_Q(2), bent_Q(64))


def eq_1_15():
    eta, w = gauss_hermite(1, 3)
    yield from (eta[2, 0, 0], w[1], w[0], w[0], w @ eta[:, 0, 0] ** 4)
    two, half = gauss_hermite(1, 2)
    yield half @ two[:, 0, 0] ** 4
    yield from (bent_Q(order) for order in (2, 3, 4, 8, 16, 32))


def eq_1_16():
    U = np.array([[0.5], [1.5]])
    rng = SimpleNamespace(standard_normal=lambda shape: U)
    eta, w = matched_draws(rng, 4, 1)
    squares = U[:, 0] ** 2
    yield from (*U[:, 0], *squares, squares.mean(), np.sqrt(squares.mean()))
    yield from (*eta[:2, 0, 0], *eta[:2, 0, 0] ** 2)
    yield from (w @ eta[:, 0, 0] ** 2, bound.forward(MODEL, THETA, PHI, X, eta, weights=w)[0][0])


def eq_1_29():
    given = MODEL, THETA, example.phi, example.x, example.eta
    (dphi1, first), (dphi2, second) = (ge.minibatch(*given, [n]) for n in range(2))
    whole_phi, whole = ge.minibatch(*given, [0, 1])
    dW = [tree["decoder"]["W"][0] for tree in (first, second, whole)]
    yield from (*dW[0] / 2, *dW[1] / 2, *dW[2], *dW[0], *dW[1], *(dW[0] + dW[1]) / 2)
    yield from (dphi1[0, 0], dphi2[0, 0], whole_phi[0, 0])
