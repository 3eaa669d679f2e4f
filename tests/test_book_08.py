"""Second roads to equations of derivations/08-amortisation.md that no other test takes."""

import warnings

import numpy as np
import pytest

from teachvae import VAE, datasets, gradcheck, layers, likelihoods, tree
from teachvae.arrays.backend import get_backend
from teachvae.model import Model
from teachvae.networks.convergence import ConvergenceWarning
from teachvae.routes.vae import amortised, recognition_network


def networks(rng, n_visible=3, n_latent=2):
    """A small VAE with its parameters: (model, encoder, params)."""
    model = Model(layers.mlp(n_latent, (4,), n_visible), likelihoods.Gaussian(n_visible), n_latent)
    encoder = recognition_network(n_visible, (5,), model.posterior)
    params = {"theta": model.init(rng, get_backend()), "recognition": encoder.init(rng, get_backend())}
    return model, encoder, tree.map(lambda leaf: leaf + 0.3 * rng.standard_normal(leaf.shape), params)


def test_12_1_the_loss_of_a_variational_autoencoder_written_out():
    """Data case by case, sample by sample and number by number; v's gradient by finite differences."""
    rng = np.random.default_rng(0)
    model, encoder, params = networks(rng)
    x, eta = rng.standard_normal((4, 3)), rng.standard_normal((5, 4, 2))
    (V1, c1), (V2, c2) = [(p["W"], p["b"]) for p in params["recognition"] if "W" in p]
    (W1, b1), (W2, b2) = [(p["W"], p["b"]) for p in params["theta"]["decoder"] if "W" in p]
    psi = np.exp(params["theta"]["likelihood"]["log_psi"])
    total = 0.0
    for n in range(4):
        phi = np.tanh(x[n] @ V1 + c1) @ V2 + c2                    # (1.17)
        m, s = phi[:2], np.exp(phi[2:])
        for z in m + eta[:, n] * s:
            f = np.tanh(z @ W1 + b1) @ W2 + b2
            total += 0.5 * sum((x[n] - f) ** 2 / psi + np.log(psi) + np.log(2 * np.pi)) / 5
        total += 0.5 * sum(m**2 + s**2 - 1 - 2 * np.log(s))
    value, grads = amortised(model, encoder, params, x, eta)
    assert value == pytest.approx(total / 4, rel=1e-12)
    report = gradcheck.check(lambda p: amortised(model, encoder, p, x, eta)[0], params, grads)
    assert report.ok, report


def test_12_2_what_an_encoder_learns_by_heart_is_in_its_share_alone():
    """A wide encoder and 20 data cases: on new ones its share of the ledger grows, and a search ends it."""
    data = datasets.linear_gaussian(n_cases=220, n_visible=6, n_latent=2).x
    train, new = data[:20], data[20:]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        vae = VAE(
            2, decoder=layers.Linear(2, 6), hidden=(50,), nodes="sigma", optimizer="lbfgs", epochs=2000
        ).fit(train)
    old, on_new = vae.gaps(train), vae.gaps(new)
    shares = [
        (getattr(on_new, name).mean() - getattr(old, name).mean())
        for name in ("nlml", "not_gaussian", "diagonal", "amortisation")
    ]
    assert on_new.q_used.mean() - old.q_used.mean() == pytest.approx(sum(shares), abs=1e-10)
    assert abs(shares[1]) < 1e-8 and abs(shares[2]) < 1e-8         # linear-Gaussian: the same for every x
    assert old.amortisation.mean() < 0.05 and shares[3] > 0.2
    searched = vae.gaps(new, phi=vae.refine(new, 30))
    assert searched.amortisation.max() < 1e-4
    least = on_new.q_used.mean() - on_new.amortisation.mean()
    assert searched.q_used.mean() == pytest.approx(least, abs=1e-4)


@pytest.mark.parametrize("beta", [0.25, 3.0])
def test_12_3_a_weight_on_the_kl_is_another_noise(beta):
    rng = np.random.default_rng(1)
    model, encoder, params = networks(rng)
    x, eta = rng.standard_normal((4, 3)), rng.standard_normal((5, 4, 2))
    log_psi = params["theta"]["likelihood"]["log_psi"]
    noisier = {**params, "theta": {**params["theta"], "likelihood": {"log_psi": log_psi + np.log(beta)}}}
    weighted, grads = amortised(model, encoder, params, x, eta, kl_weight=beta)
    Q, other = amortised(model, encoder, noisier, x, eta)
    added = 0.5 * np.sum((1 - beta) * (np.log(2 * np.pi) + log_psi) - beta * np.log(beta))
    assert weighted == pytest.approx(beta * Q + added, rel=1e-12)
    for ours, theirs in [(grads["recognition"], other["recognition"]),
                         (grads["theta"]["decoder"], other["theta"]["decoder"])]:
        np.testing.assert_allclose(tree.flatten(ours), beta * tree.flatten(theirs), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("beta, expected", [(0.25, 3), (1.0, 2), (3.0, 1)])
def test_12_3_units_stay_whose_eigenvalues_are_above_beta_times_the_noise(beta, expected):
    """Eigenvalues 4, 2 and 0.5 with σ² = 1; the means of an active unit vary by 1 − βσ²/λ (10.10)."""
    rng, values = np.random.default_rng(2), np.array([4.0, 2.0, 0.5, 0.1])
    x = rng.standard_normal((100, 4))
    x -= x.mean(axis=0)
    x = x @ np.linalg.inv(np.linalg.cholesky(x.T @ x / len(x))).T * np.sqrt(values)
    x = x @ np.linalg.qr(rng.standard_normal((4, 4)))[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        vae = VAE(3, hidden=(), noise=1.0, kl_weight=beta, optimizer="lbfgs", nodes="sigma").fit(x)
    assert vae.active_units(x).sum() == expected
    variances = np.sort(vae.transform(x).var(axis=0))[::-1][:expected]
    np.testing.assert_allclose(variances, 1 - beta / values[:expected], atol=2e-3)
