"""The figures of derivations/04-non-linear-factor-analysis.md."""

from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
from worked import example

from teachvae.arrays.special import log_sum_exp
from teachvae.datasets import BentSheet, Spiral
from teachvae.evaluation import ais, grid, laplace, nlml
from teachvae.inference import e_step, expectations, linear_gaussian
from teachvae.likelihoods import Gaussian
from teachvae.model import Model
from teachvae.networks.layers import Linear
from teachvae.posteriors.nodes import gauss_hermite

x1 = example.x[:1]                                                 # the first data case
LINE, BENT = example.linear(), example.bent()


def given(*draws):
    """A generator whose normal numbers are these, all at once."""
    return SimpleNamespace(standard_normal=lambda shape: np.array(draws).reshape(shape))


def at(z):
    """z as latent points (1, 1, 1)."""
    return np.full((1, 1, 1), float(z))


def log_lattice_sum(z):
    """log Σ_g p(x_1, z_g) of the linear model."""
    return grid._log_mass(*LINE, x1, z)[0]


# ---- the model ----------------------------------------------------------------------------------


def eq_1_2():
    model, theta = BENT
    f, _ = model.f(theta, at(0.5))
    residual = (x1 - f)[0, 0]
    log_p = model.log_likelihood(theta, x1, at(0.5))[0][0, 0]
    log_prior = model.log_prior(at(0.5))[0, 0]
    yield from (0.5, 0.5, np.tanh(0.5), *f[0, 0], *residual)
    yield from (*residual**2 / example.psi, np.log(2), 2 * np.log(2 * np.pi), log_p)
    yield from (0.5, 0.5 * np.log(2 * np.pi), log_prior)
    yield model.log_joint(theta, x1, at(0.5))[0, 0]


def eq_7_24():
    model, theta = BENT
    f, _ = model.f(theta, at(0.5)[0])
    noise = np.array([[0.5, -1.0]])
    x = model.likelihood.sample(theta["likelihood"], f, noise)[0]
    yield from (0.5, *noise[0], *f[0], np.sqrt(2.0))
    yield from (f[0, 0], 0.5, x[0], f[0, 1], np.sqrt(2.0), x[1])


def prior_mean(theta, model, function):
    """E[function(f(z))] under the prior."""
    phi, (eta, weights) = np.zeros((1, 2)), gauss_hermite(1, 60)
    return expectations.expected(model, theta, phi, eta, weights, lambda f, rows: function(f))[0]


def eq_7_25():
    model, theta = BENT
    squares = prior_mean(theta, model, lambda f: (f - example.b) ** 2)
    product = prior_mean(theta, model, lambda f: np.prod(f - example.b, axis=2, keepdims=True))
    yield from (squares[0], squares[0], 1 + squares[0], squares[0], 2 + squares[1])
    yield from (squares[0], product[0], squares[0], np.sqrt(squares[0]))


def eq_1_3():
    M = linear_gaussian.precision(example.W, example.psi)[0, 0]
    yield from (0.5 * np.log(M), 0.5 * np.log(2), np.log(2 * np.pi))
    yield from nlml.exact(*LINE, example.x).values


# ---- no closed form -----------------------------------------------------------------------------


def eq_7_26():
    for model, theta in (LINE, BENT):
        values = [model.log_joint(theta, x1, at(z))[0, 0] for z in (-1, 0, 1, 2)]
        yield from values
        yield values[3] - 3 * values[2] + 3 * values[1] - values[0]


def eq_7_27():
    model, theta = BENT
    at_0 = model.log_joint(theta, x1, at(0))[0, 0]
    terms = [np.exp(model.log_joint(theta, x1, at(z))[0, 0] - at_0) for z in range(-2, 6)]
    yield from (3 + 0.5 * np.log(2), 1.5 * np.log(2 * np.pi), -at_0)
    yield from (np.tanh(1), 4 * np.tanh(1), 1.5 * np.tanh(1) ** 2, 0.5, np.log(terms[3]), terms[3])
    yield from (terms[1], terms[4], terms[5], terms[6], sum(terms), sum(terms))
    yield from (np.log(sum(terms)), -at_0, np.log(sum(terms)))
    yield -at_0 - np.log(sum(terms))
    yield from grid.grid(model, theta, example.x).values


# ---- decoders that made data --------------------------------------------------------------------


def eq_4_17():
    f, _ = Spiral(0.4, 2.0).forward({}, np.array([[0.5]]))
    yield from (0.4, 0.5, np.exp(0.2), np.cos(1), np.sin(1), *f[0])


def eq_4_18():
    f, cache = Spiral(0.4, 2.0).forward({}, np.array([[0.5]]))
    f1, f2 = f[0]
    slope1, slope2, dz = (
        Spiral(0.4, 2.0).backward({}, cache, np.array([df]))[0][0, 0] for df in ((1, 0), (0, 1), (1, 0.5))
    )
    yield from (0.5, 0.4, f1, f2, slope1, 0.4, f2, f1, slope2)
    yield from (0.5, slope1, 0.5, slope2, dz)


def eq_4_19():
    f, _ = BentSheet(1.5).forward({}, np.array([[1.5, -1.0]]))
    yield from (1.5, 1.5, 1.5, np.sin(1), f[0, 0], 1.5, np.cos(1), f[0, 2])


def eq_4_20():
    _, cache = BentSheet(1.5).forward({}, np.array([[1.5, -1.0]]))
    dz, _ = BentSheet(1.5).backward({}, cache, np.array([[1.0, 0.5, 2.0]]))
    yield from (0.5, cache[0][0, 0], cache[1][0, 0], dz[0, 0], dz[0, 1])


# ---- quadrature ---------------------------------------------------------------------------------


def eq_7_3():
    coarse = log_lattice_sum(grid.lattice(6, 1.0, 1))
    fine = log_lattice_sum(grid.lattice(6, 0.5, 1)) + np.log(0.5)
    top = log_lattice_sum(np.array([[1.0]]))
    yield from (top, np.exp(-2), np.exp(-8), np.exp(coarse - top), -coarse)
    yield from (0.5, 0.5, np.exp(fine - top), -fine)
    yield nlml.exact(*LINE, x1).values[0]
    yield from (np.expm1(coarse + nlml.exact(*LINE, x1).values[0]), 2 * np.exp(-np.pi**2 / 2))


def eq_7_5():
    log_joint = grid.log_joint_of(*LINE, x1)
    peak, axes = grid.climb(log_joint, np.array([0.9]), 0.05)
    top = log_joint(peak[None, :])[0]
    floor = top - grid.MARGIN + np.log(axes[0, 0])
    places, log_p = grid._grown(lambda i: log_joint(peak + i @ axes.T), np.array([[0]]), floor)
    yield from (axes[0, 0], top, 0.5, floor)
    assert places.min() == -7 and places.max() == 7
    yield from (np.exp(-0.5), -log_sum_exp(log_p) - np.log(axes[0, 0]))
    look = grid.lattice(13.5, 0.05, 1)
    value, change = grid.integral(log_joint, look, log_joint(look), 0.05, 1e-6)
    yield -value
    assert change < 1e-6


# ---- draws of the prior -------------------------------------------------------------------------


def eq_7_7():
    model, theta = LINE
    log_p = model.log_likelihood(theta, x1, np.array([1.0, -1.0]).reshape(2, 1, 1))[0][:, 0]
    result = nlml.prior(model, theta, x1, given(1.0, -1.0), n_samples=2)
    yield from (*log_p, *np.exp(log_p), np.exp(-result.values[0]), result.values[0])
    yield nlml.exact(*LINE, x1).values[0]


def copies(K, n_cases=300):
    """The linear model K times side by side, and data from it."""
    model = Model(Linear(K, 2 * K), Gaussian(2 * K), K)
    layer = {"W": np.kron(np.eye(K), example.W), "b": np.tile(example.b, K)}
    theta = {"decoder": layer, "likelihood": {"log_psi": np.log(np.tile(example.psi, K))}}
    rng = np.random.default_rng(4)
    f, _ = model.f(theta, rng.standard_normal((n_cases, K)))
    return model, theta, model.likelihood.sample(theta["likelihood"], f, rng.standard_normal(f.shape))


def misses(K, n_samples=1000):
    """By how much plain Monte Carlo is above nlml in the median data case, and its effective sample size."""
    model, theta, x = copies(K)
    found = nlml.prior(model, theta, x, np.random.default_rng(0), n_samples=n_samples)
    miss = found.values - nlml.exact(model, theta, x).values
    return np.median(miss), np.median(found.effective_sample_size)


def worth_of_a_weight(phi):
    """∫ p(z|x_n)² / q(z) dz of the linear model, (N,), by a lattice of nodes."""
    eta = np.linspace(-12, 12, 2401)[:, None, None]
    log_w = expectations.log_weight(*LINE, phi, example.x, eta) + nlml.exact(*LINE, example.x).values
    return np.sum(np.exp(2 * log_w - 0.5 * eta[:, :, 0] ** 2), axis=0) * 0.01 / np.sqrt(2 * np.pi)


def eq_7_28():
    first, second = worth_of_a_weight(np.zeros((2, 2)))
    yield from (0.5, 0.5, 1 / (0.5 * np.sqrt(1.75)), np.exp(1 / 1.75), first, np.exp(0.25 / 1.75), second)
    typical = np.log(2) - 0.5 * np.log(1.75) + 0.75 / 1.75
    yield from (np.log(2), 0.5 * np.log(1.75), typical, np.exp(typical))
    sizes = {K: misses(K) for K in (1, 2, 4, 8, 16)}
    for K, (miss, size) in sizes.items():
        yield from (np.exp(K * typical), size, miss)


# ---- importance sampling ------------------------------------------------------------------------


def eq_7_1():
    model, theta = LINE
    phi, z, eta = example.phi[:1], example.z[:, :1], example.eta[:, :1]
    log_w = expectations.log_weight(model, theta, phi, x1, eta)[:, 0]
    found = nlml.importance(model, theta, phi, x1, given(1.0, -1.0), n_samples=2).values[0]
    yield from (0.5, *z[:, 0, 0], *model.log_joint(theta, x1, z)[:, 0])
    yield model.posterior.log_prob(phi, z)[0][0, 0]
    yield from (*log_w, *np.exp(log_w), np.exp(-found), found)
    yield from (nlml.exact(*LINE, x1).values[0], -log_w.mean())


def eq_7_29():
    first, second = worth_of_a_weight(example.phi)
    yield from (0.5, 0.5, 1 / (0.5 * np.sqrt(1.75)), 0.25, 0.25 / 1.75, first)
    yield from (0.5, 0.25, 0.5, 0.5, 0.25 / (0.5 * np.sqrt(0.25)), 0.25, 0.25, 0.25 / 0.25, second)


# ---- Laplace's approximation --------------------------------------------------------------------


def curvature(model, theta, z, h=1e-4):
    """H of x_1 at z."""
    up, down = (model.log_likelihood_gradient(theta, x1, at(z + step))[1][0, 0, 0] for step in (h, -h))
    return 1 - (up - down) / (2 * h)


def eq_7_9():
    model, theta = LINE
    yield from (-model.log_joint(theta, x1, at(1))[0, 0], 0.5 * np.log(2 * np.pi), 0.5 * np.log(4))
    yield laplace.laplace(model, theta, x1, np.random.default_rng(0)).values[0]
    model, theta = BENT
    point, node, weight = e_step.at_a_point(model, x1[:, :1])
    mode = e_step.from_starts(point, theta, [e_step.prior_phi(point, x1)], x1, node, weight).phi[0, 0]
    H = curvature(model, theta, mode)
    yield from (mode, H, -model.log_joint(theta, x1, at(mode))[0, 0])
    yield from (0.5 * np.log(2 * np.pi), 0.5 * np.log(H))
    yield laplace.laplace(model, theta, x1, np.random.default_rng(0)).values[0]
    yield grid.grid(model, theta, x1).values[0]


def eq_7_10():
    yield from (1.5, 0.5, 0.5, LINE[0].log_likelihood_gradient(LINE[1], x1, at(1.5))[1][0, 0, 0])
    yield from (0.5, np.tanh(0.5), 4 - 3 * np.tanh(0.5), 1 - np.tanh(0.5) ** 2)
    yield BENT[0].log_likelihood_gradient(BENT[1], x1, at(0.5))[1][0, 0, 0]


# ---- annealed importance sampling ---------------------------------------------------------------


def log_p1(z):
    """log p(x_1 | z) of the linear model."""
    return LINE[0].log_likelihood(LINE[1], x1, at(z))[0][0, 0]


def tempered(beta):
    """Mean and variance of p_β, and log Z_β, by Gauss–Hermite quadrature under the prior."""
    eta, weights = gauss_hermite(1, 80)
    p = weights * np.exp(beta * LINE[0].log_likelihood(LINE[1], x1, eta)[0][:, 0])
    mean = np.sum(p * eta[:, 0, 0]) / p.sum()
    return mean, np.sum(p * (eta[:, 0, 0] - mean) ** 2) / p.sum(), np.log(p.sum())


def eq_7_30():
    mean, variance, log_z = tempered(1 / 16)
    yield from (log_p1(0), 1 / variance, 1 / variance, mean, np.sqrt(variance))
    yield from (log_p1(0) / 16, 0.5 * np.log(1 / variance), 0.5 * mean**2 / variance, log_z)
    yield from (log_p1(0), log_p1(0), 0.5 * np.log(4), 2, tempered(1)[2])


def path(z, p, backward):
    """Where one leapfrog step of size 0.5 at β = 1/16 leads from z with momentum p, and the run's log weight:
    T = 2.
    """
    model, theta = LINE
    gradient = model.log_likelihood_gradient(theta, x1, at(z))
    with patch.object(ais, "LEAPFROG", 1):
        z1, p1, _ = ais._leapfrog(model, theta, x1, at(z), at(p), gradient, 1 / 16, np.array([0.5]))
        accepted = np.full((1, 1, 1), -100.0)
        noise = np.full((1, 1, 1, 1), float(p)), accepted
        chains = ais._run(
            model, theta, x1, at(z), ais.temperatures(2), np.array([[0.5]]), *noise, backward
        )
    return z1.item(), p1.item(), chains.log_weights[0, 0]


def eq_7_12():
    def g(z):
        return -z + LINE[0].log_likelihood_gradient(LINE[1], x1, at(z))[1].item() / 16

    def energy(z, p):
        return -LINE[0].log_prior(at(z)).item() - log_p1(z) / 16 + 0.5 * p * p

    z1, p1, _ = path(-0.5, 1, backward=False)
    half = 1 + 0.25 * g(-0.5)
    yield from (0.5, -0.5, 0.5, 5.5, g(-0.5), 5.5, 0.25, g(-0.5), half)
    yield from (-0.5, 0.5, half, z1, g(z1), half, 0.25, g(z1), p1)
    yield from (0.125, 0.5 * np.log(2 * np.pi), -log_p1(-0.5), 0.5, energy(-0.5, 1), energy(z1, p1))
    yield np.exp(min(0, energy(-0.5, 1) - energy(z1, p1)))


def eq_7_11():
    z1, _, log_w = path(-0.5, 1, backward=False)
    yield from (-0.5, z1, log_p1(-0.5), log_p1(z1), log_w, np.exp(log_w))
    yield from (-nlml.exact(*LINE, x1).values[0], np.exp(-nlml.exact(*LINE, x1).values[0]))


def eq_7_13():
    beta = ais.temperatures(4)
    yield from beta
    total = 0.0
    for t in range(1, 5):
        mean, variance, _ = tempered(beta[t])
        spread = (4 - 3 * mean) ** 2 * variance + 4.5 * variance**2
        total += (beta[t] - beta[t - 1]) ** 2 * spread
        yield spread
    yield from (total, np.sqrt(total))


def eq_7_14():
    z1, _, log_w = path(1.5, -1, backward=True)
    yield from (1.5, log_p1(1.5), 0.5, z1, log_p1(z1), -log_w)
    forward = path(-0.5, 1, backward=False)[2]
    yield from (log_w, nlml.exact(*LINE, x1).values[0], -forward)
