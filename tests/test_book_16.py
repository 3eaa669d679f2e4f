"""Second roads to equations of derivations/16-beyond-the-lecture.md that no other test takes."""

import numpy as np
import pytest

from teachvae.evaluation.iwae import iwae
from teachvae.inference.expectations import log_weight
from teachvae.likelihoods import Gaussian
from teachvae.model import Model
from teachvae.networks.layers import Linear


def test_12_4_the_distance_from_nlml_for_many_samples():
    """v of two normal distributions in closed form, and L_k of many draws, y − 1, of mean 0, taken off."""
    theta = {
        "decoder": {"W": np.array([[1.0, 2.0]]), "b": np.array([0.0, 1.0])},
        "likelihood": {"log_psi": np.log([1.0, 2.0])},
    }
    model, x, phi = Model(Linear(1, 2), Gaussian(2), 1), np.array([[2.0, 3.0]]), np.array([[0.5, 0.0]])
    nlml = 0.5 * (2 * np.log(2 * np.pi) + np.log(8) + 2)           # (2.6), by hand
    t2, d = 0.25, 0.5                                              # the posterior's variance; how far off
    v = np.exp(d**2 / (2 - t2)) / np.sqrt(t2 * (2 - t2)) - 1
    eta = np.random.default_rng(0).standard_normal((800_000, 1, 1))
    shares = np.exp(log_weight(model, theta, phi, x, eta) + nlml)  # ω / p(x)
    assert shares.var() == pytest.approx(v, rel=0.02)
    off = []
    for k in (20, 80):
        y = shares.reshape(-1, k).mean(axis=1)
        distance = y - 1 - np.log(y)
        off.append(distance.mean() / (v / (2 * k)) - 1)
        assert distance.std() / len(y) ** 0.5 < 0.02 * v / (2 * k)
    assert abs(off[0]) < 0.15 and abs(off[1]) < 0.05
    found = iwae(model, theta, phi, x, np.random.default_rng(1), sizes=(20,), n_samples=100_000)
    assert found.values[0, 0] - nlml == pytest.approx(v / 40, abs=4 * found.standard_error[0, 0])
    assert found.standard_error[0, 0] < v / 160
