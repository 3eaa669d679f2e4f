"""The examples of chapter 13: most are searches for φ of case 1, from (0.5, 0)."""

import numpy as np

from teachvae import bound
from teachvae.arrays.backend import get_backend
from teachvae.doors.units import StandardUnits, fold_theta
from teachvae.inference import linear_gaussian
from teachvae.inference.bfgs import _bfgs_update, _direction
from teachvae.inference.latent_axes import LatentAxes
from teachvae.likelihoods import Gaussian
from teachvae.model import Model
from teachvae.networks.convergence import SHORTEST, TOLERANCE, WIDTHS, falling, remaining, settled, trend
from teachvae.networks.layers import Linear
from teachvae.networks.optimizers import PATIENCE, SGD, Adam, lbfgs
from teachvae.networks.schedules import Cosine, Stages, WarmUp
from worked import example

model, theta = example.linear()
START = example.phi[0]                                             # (0.5, 0)


def q_of_case_1(phi):
    """Q_1 and its gradient (2,) at φ = (m, log s)."""
    Q, cache = bound.forward(model, theta, phi[None, :], example.x[:1], example.eta[:, :1])
    return Q[0], bound.backward(model, theta, cache, np.ones(1))[0][0]


def steps(optimizer, n):
    """φ before and after each of n steps, (n + 1, 2), and the gradients, (n, 2)."""
    flat, path, gradients = START.copy(), [START.copy()], []
    state = optimizer.init(flat)
    for _ in range(n):
        gradients.append(q_of_case_1(flat)[1])
        optimizer.step(flat, gradients[-1], state)
        path.append(flat.copy())
    return np.array(path), np.array(gradients), state


def eq_6_1():
    path, g, _ = steps(SGD(0.1, 0.9), 2)
    v = np.diff(path, axis=0)
    yield from (0.1, 0.9, 0.5, 0.0, *g[0], *v[0], *path[1], *g[1], 0.9, 0.2, 0.1, 1.2, v[1, 0])
    yield from (0.9, -0.3, 0.1, g[1, 1], v[1, 1], *path[2])


def eq_6_15():
    path, _, _ = steps(SGD(1 / 3, 0.0), 2)
    def slow(kappa):
        return (kappa - 1) / (kappa + 1)
    yield from (*(path[:, 0] - 1), slow(2**0.5), 1e4, slow(1e4), slow(100))


def eq_6_2():
    path, g, state = steps(Adam(0.1), 2)
    _, _, one = steps(Adam(0.1), 1)
    m_hat, v_hat = state["m"] / (1 - 0.9**2), state["v"] / (1 - 0.999**2)
    yield from (0.1, 0.9, 0.999, *one["m"], *one["v"], *g[0], 0.1, *path[1], g[1, 0], state["m"][0])
    yield from (1 - 0.9**2, m_hat[0], state["v"][0], v_hat[0])
    yield from (0.1, -m_hat[0], v_hat[0], path[2, 0] - path[1, 0])


def eq_6_12():
    stages = Stages(1e-3)
    assert [stages.begin(i) for i in (1, 2, 7, 8)] == [2, 5, 1094, 3281]
    yield from (1e-3, stages(1), stages(2), stages(1094))


def eq_6_13():
    cosine = Cosine(0.01, 4)
    yield from (0.01, *(cosine(t) for t in (1, 2, 3, 4, 5)))


def eq_6_14():
    warm_up = WarmUp(4)
    yield from (warm_up(t) for t in (1, 2, 3, 4, 5))


def bfgs():
    """The first step of case 1's E-step that is taken, half of −g F⁻¹, and the update after it."""
    H = model.posterior.natural_scale(START[None])[:, :, None] * np.eye(2)
    Q, g = q_of_case_1(START)
    p, _ = _direction(H, g[None])
    s = 0.5 * p
    _, g_new = q_of_case_1(START + s[0])
    y = (g_new - g)[None]
    return Q, g, p[0], s[0], y[0], H[0], _bfgs_update(H, s, y)[0]


def eq_6_4():
    Q, g, p, s, y, H, new = bfgs()
    Hy, rho = y @ H, 1 / (s @ y)
    c = 0.5 * (1 + rho * y @ Hy) * s - Hy
    yield from (1.0, 0.5, *p, Q, q_of_case_1(START + p)[0], *s, q_of_case_1(START + s)[0], *y)
    yield from (s @ y, rho, *Hy, y @ Hy, *c, new[0, 0], new[0, 1], new[1, 1])
    yield from (y[0], new[0, 0], -y[1], new[0, 1], (y @ new)[0])


def hessian(phi):
    """Of Q_1, by central differences of its gradient, (2, 2)."""
    return np.array([(q_of_case_1(phi + h)[1] - q_of_case_1(phi - h)[1]) / 2e-5 for h in 1e-5 * np.eye(2)])


def eq_6_16():
    H, F_inverse = hessian(START), model.posterior.natural_scale(START[None])[0]
    A = np.sqrt(F_inverse)
    turned = A[:, None] * H * A
    yield from (H[0, 0], H[1, 1], F_inverse[0], F_inverse[1], turned[0, 0], turned[1, 1])


units = StandardUnits(Gaussian(2), example.x)


def eq_6_5():
    a, c = units.shift, units.scale
    W, b = example.W / c, (example.b - a) / c
    standard = {"decoder": {"W": W, "b": b}, "likelihood": {"log_psi": np.log(example.psi / c**2)}}
    folded = fold_theta(model, standard, units)
    Q, _ = bound.forward(model, folded, example.phi, example.x, example.eta)
    Q_standard, _ = bound.forward(model, standard, example.phi, units.to_standard(example.x), example.eta)
    v = units.fold_encoder(Linear(2, 1), {"W": np.full((2, 1), 0.375), "b": np.array([0.25])})
    psi = np.exp(folded["likelihood"]["log_psi"])
    yield from (*a, *c, *W[0], *b, *(example.psi / c**2), c[0], W[0, 0], folded["decoder"]["W"][0, 0])
    yield from (c[0], b[1], a[1], folded["decoder"]["b"][1], c[0], example.psi[1] / c[1] ** 2, psi[1])
    yield from (Q_standard[0], c[0], units.log_volume, Q[0], 0.375, 0.25, *v["W"][:, 0], v["b"][0])


def eq_6_10():
    W_hat, psi = np.array([[1.0, 2.0], [1.0, 0.0]]), example.psi
    axes = LatentAxes(Model(Linear(2, 2), Gaussian(2), 2))
    params = {
        "theta": {"decoder": {"W": W_hat, "b": np.zeros(2)}, "likelihood": {"log_psi": np.log(psi)}},
        "recognition": Linear(2, 4).init(np.random.default_rng(0), get_backend()),
    }
    W = axes.fold(params)["theta"]["decoder"]["W"]
    R = axes._rotation(params)
    W, R = W * np.sign(W[:, :1]), R * np.sign(W[:, :1])            # eigenvectors have a sign of their own
    M = linear_gaussian.precision(W, psi)
    np.testing.assert_allclose(M, np.diag(np.diag(M)), atol=1e-12)
    yield from (*R[0], *W[0], *W[1], M[0, 0], M[1, 1])
    yield from (linear_gaussian.mean_field_gap(W_hat, psi), linear_gaussian.mean_field_gap(W, psi))


def eq_6_6():
    path = [10.0, 9.0, 8.5]
    rest = remaining(path)
    yield from (*path, 9 - 8.5, 10 - 9.0, 0.5, (9 - 8.5) ** 2, 0.5, rest, path[-1] - rest)


def eq_6_17():
    path = [1.0 * 0.5**t + 1.0 * 0.9**t for t in range(4)]
    d1, d2 = path[1] - path[2], path[2] - path[3]
    yield from (0.5, 0.9, *path[1:], d1, d2, remaining(path), path[-1])
    assert not settled(path, 0.1)


def eq_6_18():
    flat = START.copy()
    path, converged, _ = lbfgs(q_of_case_1, flat, tol=1e-9)
    assert converged and PATIENCE == 10
    yield from (q_of_case_1(START)[0], path[0], path[1], path[-1], *flat, 0.5 ** (1 / PATIENCE))


def eq_6_8():
    path = [5.0, 4.0, 3.5, 2.5]
    found = trend(path)
    assert (SHORTEST, WIDTHS, found.length) == (8, 3, 4)
    sigma = found.error / np.sqrt(12 * 3 / (4 * 5))
    yield from (*path, -1.5, -0.5, 0.5, 1.5, -4.0, -0.8, found.fall, 0.5, -0.5)
    noise = TOLERANCE + WIDTHS * found.error
    yield from (sigma, sigma, found.error, TOLERANCE, found.error, noise, falling(path))
