"""Chapter 12: the assembled gradient of the running example by central differences of the whole bound."""

import numpy as np
import pytest
from scipy import stats
from worked import example

from teachvae import bound
from teachvae.arrays import tree


def numeric(function, at, h=1e-5):
    """The gradient of function at a vector, by central differences."""
    steps = h * np.eye(len(at))
    return np.array([function(at + step) - function(at - step) for step in steps]) / (2 * h)


def Q_on_paper(m, log_s, W, b, log_psi, eta, kl):
    """(1.8) or (1.9) of both data cases with f(z) = tanh(z) W + b, from SciPy's densities: (N,)."""
    z = m + eta * np.exp(log_s)                                    # (S, N)
    f = np.tanh(z)[:, :, None] * W + b
    log_p = stats.norm.logpdf(example.x, f, np.exp(0.5 * log_psi)).sum(axis=2)
    log_q, log_prior = stats.norm.logpdf(z, m, np.exp(log_s)), stats.norm.logpdf(z)
    if kl == "sampled":
        return np.mean(log_q - log_prior - log_p, axis=0)
    return 0.5 * (m**2 + np.exp(2 * log_s) - 1 - 2 * log_s) - np.mean(log_p, axis=0)


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
@pytest.mark.parametrize("eta", [[1.0, -1.0], [1.0], [0.3, -1.7, 0.9]])
def test_the_whole_gradient_on_paper_by_central_differences(kl, eta):
    eta, dQ = np.array(eta)[:, None], np.array([1.0, 0.25])
    model, theta = example.bent()

    def total(v):
        return dQ @ Q_on_paper(v[:2], v[2:4], v[4:6], v[6:8], v[8:], eta, kl)

    at = [example.m[:, 0], np.log(example.s[:, 0]), example.W[0], example.b, np.log(example.psi)]
    Q, cache = bound.forward(model, theta, example.phi, example.x, eta[:, :, None], kl=kl)
    assert dQ @ Q == pytest.approx(total(np.concatenate(at)), rel=1e-12)
    dphi, dtheta = bound.backward(model, theta, cache, dQ)
    last = dtheta["decoder"][1]
    ours = [dphi[:, 0], dphi[:, 1], last["W"][0], last["b"], dtheta["likelihood"]["log_psi"]]
    np.testing.assert_allclose(np.concatenate(ours), numeric(total, np.concatenate(at)), rtol=1e-8, atol=1e-9)


def test_rows_of_the_decoder_are_each_their_own():
    """f_backward of all (S, N) points is that of each point on its own: dz laid out alike, dw their sum."""
    model, theta = example.bent()
    df = np.arange(1.0, 9.0).reshape(2, 2, 2)                      # (S, N, n_f)
    _, cache = model.f(theta, example.z)
    dz, dw = model.f_backward(theta, cache, df)
    total = 0.0
    for s, n in np.ndindex(2, 2):
        _, one = model.f(theta, example.z[s, n][None])
        dz_one, dw_one = model.f_backward(theta, one, df[s, n][None])
        np.testing.assert_allclose(dz[s, n], dz_one[0], rtol=1e-13)
        total = total + tree.flatten(dw_one)
        slope = 1 - np.tanh(example.z[s, n]) ** 2                  # of f, times W
        np.testing.assert_allclose(dz_one[0], slope * (df[s, n] @ example.W[0]), rtol=1e-12)
    np.testing.assert_allclose(tree.flatten(dw), total, rtol=1e-13)


def test_1_31_the_prior_draws_to_the_origin():
    model, _ = example.linear()
    d = np.array([[0.7, -1.3], [2.0, 0.1]])                        # (S, N)

    def total(z):
        return np.sum(d.ravel() * stats.norm.logpdf(z))

    ours = model.log_prior_backward(example.z, d)
    assert ours.shape == example.z.shape
    np.testing.assert_allclose(ours.ravel(), numeric(total, example.z.ravel()), rtol=1e-8, atol=1e-9)
