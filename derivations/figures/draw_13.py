"""The pictures of chapter 13."""

from matplotlib.figure import Figure
import numpy as np

from teachvae import bound
from teachvae.inference.bfgs import _bfgs_update, _direction
from teachvae.likelihoods import Gaussian
from teachvae.model import Model
from teachvae.networks.convergence import remaining, settled
from teachvae.networks.layers import Linear
from teachvae.networks.optimizers import SGD, Adam

BLUE, ORANGE, GREEN, BLACK = "#0072B2", "#D55E00", "#009E73", "#000000"
MODEL = Model(Linear(1, 2), Gaussian(2), 1)
THETA = {
    "decoder": {"W": np.array([[1.0, 2.0]]), "b": np.array([0.0, 1.0])},
    "likelihood": {"log_psi": np.log([1.0, 2.0])},
}


def q_of_case_1(phi):
    """Q_1 (R,) and its gradient (R, 2) at rows φ = (m, log s) (R, 2), exactly, by the two sigma points."""
    x, eta = np.array([[2.0, 3.0]]) + np.zeros((len(phi), 2)), np.array([1.0, -1.0])[:, None, None]
    Q, cache = bound.forward(MODEL, THETA, phi, x, eta)
    return Q, bound.backward(MODEL, THETA, cache, np.ones(len(phi)))[0]


def first_order(optimizer, start, n):
    """The places (n + 1, 2) of a search."""
    p, path = start.copy(), [start.copy()]
    state = optimizer.init(p)
    for _ in range(n):
        optimizer.step(p, q_of_case_1(p[None])[1][0], state)
        path.append(p.copy())
    return np.array(path)


def quasi_newton(start, n):
    """The places that BFGS with halved steps moves to, from the inverse Fisher information."""
    phi, path = start[None], [start]
    H = MODEL.posterior.natural_scale(phi)[:, :, None] * np.eye(2)
    Q, g = q_of_case_1(phi)
    for _ in range(n):
        s, slope = _direction(H, g)
        while q_of_case_1(phi + s)[0] > Q + 1e-4 * slope:
            s, slope = 0.5 * s, 0.5 * slope
        Q, g_new = q_of_case_1(phi + s)
        H, phi, g = _bfgs_update(H, s, g_new - g), phi + s, g_new
        path.append(phi[0])
    return np.array(path)


def draw_paths():
    """Four searches for φ of case 1 from one start."""
    start = np.array([0.5, 0.0])
    fig = Figure(figsize=(6.5, 3.2), layout="constrained")
    axes = fig.subplots()
    m, log_s = np.meshgrid(np.linspace(0.3, 1.65, 81), np.linspace(-1.3, 0.25, 81))
    Q, _ = q_of_case_1(np.stack([m.ravel(), log_s.ravel()], axis=1))
    above = Q.reshape(m.shape) - q_of_case_1(np.array([[1.0, -np.log(2)]]))[0]
    axes.contour(m, log_s, above, levels=[0.01, 0.05, 0.15, 0.4, 0.8, 1.3], colors="0.75", linewidths=0.8)
    searches = [
        ("gradient descent, α = 0.05", first_order(SGD(0.05, 0.0), start, 30), "o-", BLACK),
        ("momentum, α = 0.05, μ = 0.7", first_order(SGD(0.05, 0.7), start, 30), "s--", ORANGE),
        ("Adam, α = 0.1", first_order(Adam(0.1), start, 30), "^:", GREEN),
        ("BFGS", quasi_newton(start, 6), "D-", BLUE),
    ]
    for name, path, style, color in searches:
        axes.plot(*path.T, style, color=color, markersize=3.5, linewidth=1, label=name)
    axes.plot(1.0, -np.log(2), "k*", markersize=11)
    axes.set_xlabel("m")
    axes.set_ylabel("log s")
    axes.set_xlim(0.3, 1.65)
    axes.set_ylim(-1.3, 0.25)
    axes.legend(frameon=False, fontsize=8, loc="upper right")
    return fig


def draw_stopping():
    """Both numbers that `settled` looks at, of a path with a fast and a slow part."""
    t = np.arange(400)
    path = list(10 * 0.6**t + 0.3 * 0.99**t)
    ends = np.arange(5, 400)
    said = [remaining(path[:n]) for n in ends]
    quarter = [path[n - 1 - max(1, n // 4)] - path[n - 1] for n in ends]
    fig = Figure(figsize=(6.5, 2.9), layout="constrained")
    axes = fig.subplots()
    axes.semilogy(ends, [path[n - 1] for n in ends], "-", color=BLACK, label="still to fall")
    axes.semilogy(ends, said, "--", color=BLUE, label="extrapolated, (6.6)")
    axes.semilogy(ends, quarter, ":", color=ORANGE, linewidth=2, label="fell in the last quarter")
    alone = next(n for n in ends if remaining(path[:n]) < 0.02)
    both = next(n for n in ends if settled(path[:n], 0.02))
    axes.axhline(0.02, color="0.6", linewidth=0.8)
    axes.text(4.5, 0.022, "tolerance", fontsize=8, color="0.4")
    axes.plot(alone, path[alone - 1], "o", color=BLUE, label="end by the extrapolation alone")
    axes.plot(both, path[both - 1], "s", color=BLACK, label="end by both")
    axes.set_xscale("log")
    axes.set_xlabel("iterations")
    axes.set_ylabel("nats per data case")
    axes.set_ylim(2e-3, 5)
    axes.legend(frameon=False, fontsize=8)
    return fig
