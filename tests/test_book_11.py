"""Chapter 11 of derivations/ by a second road: what no other test has of the families of q."""

import numpy as np
import pytest

from teachvae.posteriors import DiagonalGaussian, FullGaussian, Planar
from teachvae.posteriors.planar import SHIFT


def test_3_42_the_log_determinant_against_numpys_and_differences(rng):
    q, h = FullGaussian(4), 1e-6
    phi, d = rng.normal(0, 0.6, (3, q.n_phi)), rng.standard_normal(3)
    _, L = q.unpack(phi)
    np.testing.assert_allclose(q.log_det(phi), np.linalg.slogdet(L)[1], rtol=1e-12)
    differences = [
        d * (q.log_det(phi + h * one) - q.log_det(phi - h * one)) / (2 * h) for one in np.eye(q.n_phi)
    ]
    np.testing.assert_allclose(q.log_det_backward(d), np.transpose(differences), atol=1e-8)


def test_3_43_a_small_move_costs_half_its_square_in_the_fisher_information(rng):
    """KL(q_φ ‖ q_{φ+δ}) by its closed form in units of the second; the error is of the third order in δ."""
    q = DiagonalGaussian(3)
    phi, direction = rng.normal(0, 0.6, (1, 6)), rng.standard_normal((1, 6))
    errors = []
    for size in (1e-2, 5e-3):
        delta = size * direction
        (m, log_s), (m_2, log_s_2) = q.unpack(phi), q.unpack(phi + delta)
        moved = np.concatenate([(m - m_2) / np.exp(log_s_2), log_s - log_s_2], axis=1)
        quadratic = 0.5 * np.sum(delta**2 / q.natural_scale(phi))
        assert q.kl(moved)[0][0] == pytest.approx(quadratic, rel=10 * size)
        errors.append(abs(q.kl(moved)[0][0] - quadratic))
    assert errors[0] / errors[1] == pytest.approx(8, rel=0.1)


def test_3_36_3_40_3_44_a_planar_layers_jacobian_by_dense_algebra(rng):
    K, layer = 3, Planar(3, 1)
    params, u = rng.standard_normal((1, layer.n_params)), rng.standard_normal((1, 1, K))
    new, (_, r, w, h, _) = layer.forward(params, u)
    _, log_det, cache = layer.inverse(params, new)
    J = np.eye(K) + (1 - h[0, 0] ** 2) * np.outer(w[0], r[0])      # δu J, rows
    numeric = [(layer.forward(params, u + e)[0] - layer.forward(params, u - e)[0])[0, 0] / 2e-6
               for e in 1e-6 * np.eye(K)]
    np.testing.assert_allclose(J, numeric, atol=1e-8)
    assert log_det[0, 0] == pytest.approx(np.linalg.slogdet(J)[1], rel=1e-10)
    du = rng.standard_normal((1, 1, K))
    _, back = layer.inverse_backward(cache, du, np.zeros((1, 1)))
    np.testing.assert_allclose(back[0, 0], du[0, 0] @ np.linalg.inv(J).T, rtol=1e-9)
    p, q = rng.standard_normal((2, K))                             # and of any rows, as (3.44) is written
    dense = np.eye(K) + np.outer(p, q)
    assert np.linalg.det(dense) == pytest.approx(1 + p @ q)
    np.testing.assert_allclose(np.linalg.inv(dense), np.eye(K) - np.outer(p, q) / (1 + p @ q), rtol=1e-9)


def test_3_35_a_layer_of_zeros_is_the_identity():
    layer = Planar(2, 0)
    u = np.array([[[0.3, -1.2]]])
    np.testing.assert_allclose(layer.forward(np.zeros((1, 4)), u)[0], u, atol=1e-15)
    assert np.log(1 + np.exp(SHIFT)) == pytest.approx(1)
