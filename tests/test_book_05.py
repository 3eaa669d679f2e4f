"""Second roads for the equations of derivations/05-the-bound.md that no other test checks."""

import numpy as np
import pytest
from scipy import optimize, stats
from worked import example

from teachvae import bound
from teachvae.evaluation import grid, nlml
from teachvae.inference import linear_gaussian
from teachvae.posteriors.nodes import gauss_hermite

ETA, WEIGHTS = gauss_hermite(1, 60)


def Q_of(model, theta, phi):
    """Q_n (N,) by quadrature."""
    return bound.forward(model, theta, phi, example.x, ETA, weights=WEIGHTS)[0]


def with_b(theta, model, b):
    """theta with another bias."""
    layer = {"W": example.W, "b": b}
    return theta | {"decoder": [{}, layer] if isinstance(theta["decoder"], list) else layer}


@pytest.mark.parametrize("make", [example.linear, example.bent])
def test_1_34_the_expected_joint_less_the_entropy(make):
    model, theta = make()
    z, dz = np.linspace(-12, 12, 6001, retstep=True)
    q = stats.norm.pdf(z[:, None], example.m[:, 0], example.s[:, 0])
    expected = dz * np.sum(q * model.log_joint(theta, example.x, z[:, None, None]), axis=0)
    entropy = stats.norm(example.m[:, 0], example.s[:, 0]).entropy()
    np.testing.assert_allclose(Q_of(model, theta, example.phi), -expected - entropy, rtol=1e-7)


def test_1_35_a_search_over_all_densities_ends_at_the_posterior():
    """q is any 25 probabilities of cells on a line, a softmax; the least Q is nlml, and q the posterior."""
    model, theta = example.bent()
    z, dz = np.linspace(-3, 3, 25, retstep=True)
    log_joint = model.log_joint(theta, example.x[:1], z[:, None, None])[:, 0] + np.log(dz)

    def Q_and_gradient(a):
        q = np.exp(a - a.max())
        q /= q.sum()
        c = np.log(q) - log_joint
        return q @ c, q * (c - q @ c)

    found = optimize.minimize(Q_and_gradient, np.zeros(25), jac=True, options={"gtol": 1e-10})
    p = np.exp(log_joint)
    q = np.exp(found.x - found.x.max())
    assert found.fun == pytest.approx(-np.log(p.sum()), abs=1e-9)
    np.testing.assert_allclose(q / q.sum(), p / p.sum(), atol=1e-5)


def test_1_36_at_the_posterior_the_bound_has_the_slope_of_nlml():
    model, theta = example.linear()
    mean, M = linear_gaussian.posterior(example.W, example.b, example.psi, example.x)
    phi = model.posterior.closest(mean, M)

    def slope(phi):
        _, cache = bound.forward(model, theta, phi, example.x, ETA, weights=WEIGHTS)
        return bound.backward(model, theta, cache, np.array([1.0, 0.0]))[1]["decoder"]["b"]

    def exact(b):
        return grid.grid(model, with_b(theta, model, b), example.x[:1]).values[0]

    h = 1e-3
    numeric = [(exact(example.b + e) - exact(example.b - e)) / (2 * h) for e in h * np.eye(2)]
    np.testing.assert_allclose(slope(phi), numeric, atol=1e-6)
    assert np.abs(slope(example.phi) - numeric).max() > 0.3        # but not at another q


@pytest.mark.parametrize("make", [example.linear, example.bent])
def test_1_36_the_slope_of_the_bound_is_an_average_over_q(make):
    model, theta = make()
    _, cache = bound.forward(model, theta, example.phi, example.x, ETA, weights=WEIGHTS)
    dtheta = bound.backward(model, theta, cache, np.array([1.0, 0.0]))[1]["decoder"]
    db = dtheta[1]["b"] if isinstance(dtheta, list) else dtheta["b"]
    z, dz = np.linspace(-12, 12, 6001, retstep=True)
    q = stats.norm.pdf(z, 0.5, 1.0)
    f = (np.tanh(z) if make is example.bent else z)[:, None] * example.W + example.b
    written = -dz * np.sum(q[:, None] * (example.x[0] - f) / example.psi, axis=0)
    np.testing.assert_allclose(db, written, rtol=1e-7)


def test_1_37_a_q_that_is_too_wide_pulls_the_loadings_towards_zero():
    """The least Q by a search over w and both means at once; on paper 1 + 3w² = √(10/3), against 10/3."""
    model, theta = example.linear()

    def mean_Q(v):
        w, m = v[0], v[1:]
        phi = np.stack([m, np.zeros(2)], axis=1)
        scaled = theta | {"decoder": {"W": w * example.W, "b": example.b}}
        return Q_of(model, scaled, phi).mean()

    found = optimize.minimize(mean_Q, [1.0, 0.0, 0.0], options={"gtol": 1e-8})
    assert 1 + 3 * found.x[0] ** 2 == pytest.approx(np.sqrt(10 / 3), rel=1e-5)

    def mean_nlml(v):
        scaled = theta | {"decoder": {"W": v[0] * example.W, "b": example.b}}
        return nlml.exact(model, scaled, example.x).values.mean()

    assert 1 + 3 * optimize.minimize(mean_nlml, [1.0]).x[0] ** 2 == pytest.approx(10 / 3, rel=1e-5)
