"""The worked examples of chapter 9."""

import numpy as np
from worked import example

from teachvae.networks.layers import Linear, Parallel, ReLU, Sigmoid, Softplus, Tanh

THREE = np.log(3.0)                                                # σ(log 3) = 3/4


def decoder():
    """The running example's decoder, its z as rows (s, n) = (1, 1), (1, 2), (2, 1), (2, 2), and dy."""
    model, theta = example.linear()
    z = example.z.reshape(4, 1)
    dy = (example.x - model.f(theta, example.z)[0]) / example.psi
    return model.decoder, theta["decoder"], z, dy.reshape(4, 2)


def bent():
    """tanh, then the running example's decoder, at z = 1.5, and dy of data case 1."""
    model, theta = example.bent()
    y, cache = model.decoder.forward(theta["decoder"], np.array([[1.5]]))
    return model.decoder, theta["decoder"], y, cache, (example.x[:1] - y) / example.psi


def two_networks():
    """Two linear networks on x: one that gives the posterior means, and x₁ − x₂."""
    one = {"W": np.array([[0.25], [0.25]]), "b": np.array([-0.25])}
    two = {"W": np.array([[1.0], [-1.0]]), "b": np.array([0.0])}
    return Parallel((Linear(2, 1), Linear(2, 1))), [one, two]


def at(layer, *x):
    """A layer's y at these x, and its cache."""
    y, cache = layer.forward({}, np.array([x]))
    return y[0], cache


def back(layer, *x):
    """A layer's dx where dy is 1."""
    _, cache = at(layer, *x)
    return layer.backward({}, cache, np.ones((1, len(x))))[0][0]


def eq_4_21():
    net, params, z, dy = decoder()
    dz, _ = net.backward(params, net.forward(params, z)[1], dy)
    yield from (z[0, 0], *dy[0])
    yield from (dy[0, 0], -dy[0, 1], dz[0, 0])
    for near in (z[0, 0] + 0.01, z[0, 0] - 0.01):
        yield near
        yield from net.forward(params, np.array([[near]]))[0][0]
    yield dz[0, 0]


def eq_4_1():
    net, params, z, _ = decoder()
    y, _ = net.forward(params, z)
    yield from (z[0, 0], z[0, 0], z[0, 0], *y[0])
    for a, b in zip(z[1:], y[1:]):
        yield from (*a, *b)


def eq_4_2():
    net, params, z, dy = decoder()
    dz, _ = net.backward(params, net.forward(params, z)[1], dy)
    yield from dy.ravel()
    yield from (dy[0, 0], -dy[0, 1], dz[0, 0])
    yield from (dy[1, 0], -dy[1, 1], dz[1, 0])
    yield from (*dy[2], dz[2, 0])
    yield from (*dy[3], dz[3, 0])


def eq_4_3():
    net, params, z, dy = decoder()
    _, dparams = net.backward(params, net.forward(params, z)[1], dy)
    for j in range(2):
        for a, d in zip(z[:, 0], dy[:, j]):
            yield from (a, d)
        yield dparams["W"][0, j]


def eq_4_4():
    net, params, z, dy = decoder()
    _, dparams = net.backward(params, net.forward(params, z)[1], dy)
    for column, db in zip(dy.T, dparams["b"]):
        yield from (column[0], *np.abs(column[1:]), db)


def eq_4_22():
    net, params = two_networks()
    x = example.x[:1]
    _, cache = net.forward(params, x)
    (dx1, _), (dx2, _) = (b.backward(p, c, np.ones((1, 1))) for b, p, c in zip(net.branches, params, cache))
    dx, _ = net.backward(params, cache, np.ones((1, 2)))
    yield from (*dx1[0], *dx2[0], *dx[0])
    yield from (dx1[0, 0], dx2[0, 0], dx[0, 0])


def eq_4_24():
    x = example.x[:1]
    variance = 1 / Linear(2, 1).n_in
    yield from (np.mean(x**2), variance, variance, variance, variance * np.sum(x**2))
    total = 0.0
    for signs in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        params = {"W": variance**0.5 * np.array(signs)[:, None], "b": np.zeros(1)}
        total += Linear(2, 1).forward(params, x)[0][0, 0] ** 2 / 4
    yield total


def eq_4_5():
    y, _ = at(Tanh(), 1.5, -0.5)
    yield from (1.5, y[0], -0.5, y[1])


def eq_4_6():
    y, _ = at(Tanh(), 1.5, -0.5)
    dx = back(Tanh(), 1.5, -0.5)
    yield from (1.5, y[0], dx[0], y[1], dx[1])


def eq_4_7():
    y, _ = at(ReLU(), 1.5, -0.5)
    yield from (1.5, -0.5, y[0], y[1])


def eq_4_8():
    yield from (1.5, -0.5)
    yield from back(ReLU(), 1.5, -0.5)


def eq_4_9():
    y, _ = at(Sigmoid(), THREE, -THREE)
    yield from (THREE, y[0], y[1])
    yield np.exp(-80.0)
    yield at(Sigmoid(), -80.0)[0][0]


def eq_4_10():
    y, _ = at(Sigmoid(), THREE)
    yield from (y[0], y[0], 1 - y[0], back(Sigmoid(), THREE)[0])


def eq_4_11():
    y, _ = at(Softplus(), THREE, -THREE)
    yield from (THREE, y[0], y[1])
    yield from at(Softplus(), 1000.0)[0]


def eq_4_12():
    yield from (THREE, *back(Softplus(), THREE))
    y, _ = at(Softplus(), THREE + 0.01, THREE - 0.01)
    yield from (0.01, *y)
    yield 0.02
    yield (y[0] - y[1]) / 0.02


def eq_4_23():
    dx = back(Tanh(), 1.5, -0.5)
    yield from (1.5, -0.5)
    yield from dx
    _, cache = at(Tanh(), 1.5, -0.5)
    yield from Tanh().backward({}, cache, np.array([[1.0, 2.0]]))[0][0]


def eq_4_13():
    _, _, y, (h, _), _ = bent()
    yield from (1.5, 1.5, h[0, 0], h[0, 0], h[0, 0], *y[0])


def eq_4_14():
    net, params, y, cache, dy = bent()
    yield from y[0]
    yield from dy[0]
    dh, _ = net.layers[1].backward(params[1], cache[1], dy)
    yield from (*dy[0], *dh[0])
    dz, _ = net.backward(params, cache, dy)
    yield from (*dh[0], 1 - cache[0][0, 0] ** 2, *dz[0])


def eq_4_15():
    net, params = two_networks()
    yield from params[0]["W"][:, 0]
    yield -params[0]["b"][0]
    y, _ = net.forward(params, example.x)
    yield from (*y[0], *y[1])


def eq_4_16():
    net, params = two_networks()
    _, cache = net.forward(params, example.x)
    dx, _ = net.backward(params, cache, np.array([[1.0, 2.0], [0.0, 1.0]]))
    yield from params[0]["W"][:, 0]
    yield from (*dx[0], *dx[1])


