"""The figures of derivations/05-the-bound.md."""

import numpy as np
from scipy import optimize, stats
from worked import example

from teachvae import bound
from teachvae.course import jensen
from teachvae.evaluation import divergence, nlml
from teachvae.inference import linear_gaussian
from teachvae.inference.expectations import log_weight

MODEL, THETA = example.linear()
EXACT = nlml.exact(MODEL, THETA, example.x).values                 # (N,)


def minus_log(u):
    return -np.log(u)


def q(m, s):
    """φ (2, 2) with this mean and standard deviation in both rows."""
    return np.tile([m, np.log(s)], (2, 1))


def Q(phi, theta=THETA, kl="analytic"):
    """Q_n (N,) of the linear model on sigma points."""
    return bound.forward(MODEL, theta, phi, example.x, example.eta, kl=kl)[0]


# ---- Jensen's inequality --------------------------------------------------------------------------


def eq_1_21():
    pmf, g = (0.25, 0.75), (1, 4)
    square, log = jensen.jensen_discrete(np.square, g, pmf), jensen.jensen_discrete(minus_log, g, pmf)
    yield from (*pmf, *pmf, 3.25, 3.25, square.lhs, *pmf, square.rhs, square.gap, *pmf, square.gap)
    yield from (3.25, log.lhs, 0.75, log.rhs, log.gap)


def eq_1_20():
    density = stats.norm(0.5, 1).pdf
    found = jensen.jensen_continuous(np.square, lambda z: 2 * z + 1, density, (-12, 0.5, 12))
    yield from (0.5, 0.5, 2.0, found.lhs, found.rhs, found.gap)
    found = jensen.jensen_continuous(np.exp, lambda z: z, density, (-30, 0.5, 30))
    yield from (0.5, found.lhs, 0.5, 0.5, found.rhs)


def eq_1_4():
    omega = np.exp(log_weight(MODEL, THETA, example.phi, example.x, example.eta)[:, 0])
    found = jensen.jensen_discrete(minus_log, omega, (0.5, 0.5))
    yield from (1.5, -0.5, *omega, omega.mean(), found.lhs, *-np.log(omega), found.rhs)


# ---- the bound --------------------------------------------------------------------------------------


JOINT, PMF = np.array([0.3, 0.1, 0.1]), np.array([0.5, 0.5, 0.0])


def eq_1_22():
    found = jensen.nlml_as_jensen_discrete(np.log(JOINT), PMF)
    middle = jensen.jensen_discrete(minus_log, JOINT[:2] / PMF[:2], PMF[:2])
    yield from (*JOINT, 0.5, 0.5, JOINT.sum(), found.lhs, 0.3, 0.1, JOINT[:2].sum(), middle.lhs)
    yield from (0.5, 0.5, 0.3, 0.5, 0.5, 0.1, 0.5, np.log(0.5 / 0.3), 0.5, np.log(0.5 / 0.1), found.rhs)
    assert middle.rhs == found.rhs


def eq_1_5():
    log_p = MODEL.log_joint(THETA, example.x, example.z)[:, 0]
    log_q = MODEL.posterior.log_prob(example.phi, example.z)[0][:, 0]
    bounds = Q(example.phi, kl="sampled")
    yield from (1.5, -0.5, *log_p, -log_p[0], -log_q[0], -log_p[1], -log_q[1], bounds[0], log_q[0])
    yield from (EXACT[0], bounds[1], EXACT[1], bounds.sum())


def eq_1_34():
    energy = -MODEL.log_joint(THETA, example.x, example.z)
    entropy = stats.norm(0, example.s[:, 0]).entropy()
    yield from (*energy[:, 0], energy[:, 0].mean(), entropy[0])
    yield from (energy[:, 0].mean(), entropy[0], Q(example.phi)[0])
    yield from (0.5, entropy[0], 0.5, entropy[1], energy[:, 1].mean(), entropy[1], Q(example.phi)[1])


def eq_1_7():
    error = -MODEL.log_likelihood(THETA, example.x, example.z)[0]
    kl, _ = MODEL.posterior.kl(example.phi)
    yield from (0.5, kl[0], *error[:, 0], error[:, 0].mean(), error[:, 0].mean(), kl[0], Q(example.phi)[0])
    yield from (0.5, 0.25, 0.5, kl[1], error[:, 1].mean(), kl[1], Q(example.phi)[1])


def eq_1_6():
    kl = divergence.kl_to_posterior(MODEL, THETA, example.phi, example.x)
    yield from (0.5, 0.5, 0.5, np.log(0.5), 1.25 / 0.5, 0.5, kl[0], EXACT[0], kl[0], Q(example.phi)[0])
    yield from (0.5, 0.5, kl[1], EXACT[1], kl[1], Q(example.phi)[1])


def eq_1_23():
    found = jensen.nlml_as_jensen_discrete(np.log(JOINT), PMF)
    posterior = JOINT / JOINT.sum()
    yield from (*posterior, found.rhs, found.lhs, found.gap)
    yield from (0.5, 0.5, 0.6, 0.5, 0.5, 0.2, found.gap)
    yield from (found.rhs, JOINT.sum(), np.exp(found.rhs), JOINT.sum(), found.gap)
    continuous = jensen.nlml_as_jensen_continuous(
        lambda z: MODEL.log_joint(THETA, example.x[:1], np.full((1, 1, 1), z))[0, 0],
        stats.norm(0.5, 1).logpdf, (-12, 0.5, 12),
    )
    yield continuous.gap


# ---- what minimising does --------------------------------------------------------------------------


def eq_1_35():
    at = [Q(q(m, s))[0] for m, s in ((0.5, 1), (1, 1), (1, 0.5))]
    yield from (0.5, at[0], at[1], 0.5, at[2], EXACT[0])


def gradient_of_b(phi):
    """∂Q_1/∂b (D,)."""
    _, cache = bound.forward(MODEL, THETA, phi, example.x, example.eta)
    return bound.backward(MODEL, THETA, cache, np.array([1.0, 0.0]))[1]["decoder"]["b"]


def eq_1_36():
    mean, M = linear_gaussian.posterior(example.W, example.b, example.psi, example.x)
    yield from gradient_of_b(MODEL.posterior.closest(mean, M))       # at the posterior

    def exact(b):
        return linear_gaussian.nlml(example.W, b, example.psi, example.x)[0]

    yield from optimize.approx_fprime(example.b, exact, 1e-6)
    yield from (0.5, 0.5, 1.5, *gradient_of_b(example.phi))


def of_scale(w, s=None):
    """The mean over both cases of nlml, or of the least Q among the q with this standard deviation, where the
    loadings are w (1, 2).
    """
    theta = {"decoder": {"W": w * example.W, "b": example.b}, "likelihood": THETA["likelihood"]}
    if s is None:
        return nlml.exact(MODEL, theta, example.x).values.mean()
    mean, _ = linear_gaussian.posterior(w * example.W, example.b, example.psi, example.x)
    return Q(np.concatenate([mean, np.full((2, 1), np.log(s))], axis=1), theta).mean()


def least(function):
    """The place between 0 and 3 where a function of one number is least."""
    return optimize.minimize_scalar(function, bounds=(0, 3), method="bounded", options={"xatol": 1e-9}).x


def eq_1_37():
    best = least(of_scale)
    pulled = least(lambda w: of_scale(w, 1.0))
    yield from (best, 1 + 3 * pulled**2, pulled)
    yield from (best, of_scale(best), pulled, of_scale(pulled), of_scale(pulled, 1.0))
