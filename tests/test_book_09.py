"""Tests of chapter 9: every layer's formula entry by entry, and its derivatives by complex steps."""

from itertools import product

import numpy as np
import pytest

from teachvae.arrays.backend import get_backend
from teachvae.networks.layers import Linear, Parallel, ReLU, Sequential, Sigmoid, Softplus, Tanh


def derivatives(function, x, h=1e-30):
    """∂y_j/∂x_i (n_out, n_in) of a row x (n_in,) by complex steps, exact to rounding."""
    return np.stack([function(x + 1j * h * one).imag / h for one in np.eye(len(x))], axis=1)


SLOPES = {
    Tanh: lambda x: np.sinh(x) / np.cosh(x),
    Sigmoid: lambda x: 1 / (1 + np.exp(-x)),
    Softplus: lambda x: np.log(1 + np.exp(x)),
}


def linear(rng, n_in, n_out):
    return {"W": rng.standard_normal((n_in, n_out)), "b": rng.standard_normal(n_out)}


def test_4_1_to_4_4_the_linear_layer_entry_by_entry():
    rng = np.random.default_rng(90)
    R, n_in, n_out = 4, 3, 2
    params, x, dy = linear(rng, n_in, n_out), rng.standard_normal((R, n_in)), rng.standard_normal((R, n_out))
    y, dx = np.zeros((R, n_out)), np.zeros((R, n_in))
    dW, db = np.zeros((n_in, n_out)), np.zeros(n_out)
    for r, j in product(range(R), range(n_out)):
        y[r, j] += params["b"][j]
        db[j] += dy[r, j]
        for i in range(n_in):
            y[r, j] += x[r, i] * params["W"][i, j]
            dx[r, i] += dy[r, j] * params["W"][i, j]
            dW[i, j] += x[r, i] * dy[r, j]
    layer = Linear(n_in, n_out)
    found, cache = layer.forward(params, x)
    found_dx, found_dparams = layer.backward(params, cache, dy)
    np.testing.assert_allclose(found, y, rtol=1e-13)
    np.testing.assert_allclose(found_dx, dx, rtol=1e-13)
    np.testing.assert_allclose(found_dparams["W"], dW, rtol=1e-13)
    np.testing.assert_allclose(found_dparams["b"], db, rtol=1e-13)


@pytest.mark.parametrize("layer", SLOPES)
def test_4_23_slopes_by_complex_steps(layer):
    rng = np.random.default_rng(91)
    x, dy = rng.standard_normal((5, 4)), rng.standard_normal((5, 4))
    _, cache = layer().forward({}, x)
    dx, dparams = layer().backward({}, cache, dy)
    slope = SLOPES[layer](x + 1e-30j).imag / 1e-30
    np.testing.assert_allclose(dx, dy * slope, rtol=1e-12)
    assert dparams == {}


def test_4_21_a_backward_is_dy_times_the_derivatives():
    """Row by row, for a function whose derivatives fill a matrix."""
    rng = np.random.default_rng(92)
    params, x, dy = linear(rng, 3, 2), rng.standard_normal((4, 3)), rng.standard_normal((4, 2))
    net = Sequential((Linear(3, 2), Tanh()))
    _, cache = net.forward([params, {}], x)
    dx, _ = net.backward([params, {}], cache, dy)
    for r in range(4):
        J = derivatives(lambda row: SLOPES[Tanh](row @ params["W"] + params["b"]), x[r])
        np.testing.assert_allclose(dx[r], dy[r] @ J, rtol=1e-12)


def test_4_14_a_stack_is_the_product_of_its_derivatives():
    rng = np.random.default_rng(93)
    net = Sequential((Linear(3, 4), Tanh(), Linear(4, 4), Softplus(), Linear(4, 2), Sigmoid()))
    params = [linear(rng, 3, 4), {}, linear(rng, 4, 4), {}, linear(rng, 4, 2), {}]
    x, dy = rng.standard_normal(3), rng.standard_normal(2)
    _, cache = net.forward(params, x[None])
    dx, _ = net.backward(params, cache, dy[None])
    row, J = x, np.eye(3)
    for layer, p in zip(net.layers, params):
        step = (lambda row: row @ p["W"] + p["b"]) if p else SLOPES[type(layer)]
        J, row = derivatives(step, row) @ J, step(row)
    np.testing.assert_allclose(dx[0], dy @ J, rtol=1e-12)


def test_4_16_4_22_a_shared_input_adds():
    rng = np.random.default_rng(94)
    net, params = Parallel((Linear(3, 2), Linear(3, 1))), [linear(rng, 3, 2), linear(rng, 3, 1)]
    x, dy = rng.standard_normal((4, 3)), rng.standard_normal((4, 3))
    y, cache = net.forward(params, x)
    dx, dparams = net.backward(params, cache, dy)
    alone, start = 0.0, 0
    for branch, p, found in zip(net.branches, params, dparams):
        stop = start + branch.n_out
        own_dx, own = branch.backward(p, branch.forward(p, x)[1], dy[:, start:stop])
        np.testing.assert_allclose(y[:, start:stop], x @ p["W"] + p["b"], rtol=1e-13)
        np.testing.assert_array_equal(found["W"], own["W"])
        alone, start = alone + own_dx, stop
    wide = np.concatenate([p["W"] for p in params], axis=1)        # as one layer of three outputs
    np.testing.assert_allclose(dx, alone, rtol=1e-13)
    np.testing.assert_allclose(dx, dy @ wide.T, rtol=1e-13)


def test_4_24_a_row_keeps_its_mean_square_on_average():
    """Over all signs of weights of one size, and over a rectifier behind weights of gain √2."""
    x, n = np.array([[2.0, 3.0, -1.0, 0.5]]), 4
    for gain, bend in ((1.0, None), (1.7, None), (2**0.5, ReLU())):
        layer, squares = Linear(n, 1, gain), []
        for signs in product((-1.0, 1.0), repeat=n):
            params = {"W": gain / n**0.5 * np.array(signs)[:, None], "b": np.zeros(1)}
            y, _ = layer.forward(params, x)
            squares.append((y if bend is None else bend.forward({}, y)[0]) ** 2)
        expected = np.mean(x**2) * (1.0 if bend else gain**2)
        assert np.mean(squares) == pytest.approx(expected, rel=1e-13)
    drawn = Linear(n, 100_000, 1.7).init(np.random.default_rng(0), get_backend())["W"]
    assert np.var(drawn) == pytest.approx(1.7**2 / n, rel=0.01)

