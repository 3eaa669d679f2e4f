"""The pictures of chapter 9."""

import matplotlib.pyplot as plt
import numpy as np

from teachvae.arrays.backend import get_backend
from teachvae.likelihoods import Gaussian
from teachvae.model import Model
from teachvae.networks.layers import Linear, ReLU, Sequential, Sigmoid, Softplus, Tanh

LINES = [
    (Tanh(), "tanh", "#0072b2", "-"), (Sigmoid(), "logistic", "#d55e00", "--"),
    (ReLU(), "rectifier", "black", ":"), (Softplus(), "softplus", "#009e73", "-."),
]


def draw_activations():
    """The four activations, and their slopes: a backward of ones."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.5, 2.8), layout="constrained")
    x = np.linspace(-4, 4, 401)[:, None]
    for layer, name, colour, style in LINES:
        y, cache = layer.forward({}, x)
        dx, _ = layer.backward({}, cache, np.ones_like(x))
        left.plot(x, y, style, color=colour, label=name)
        right.plot(x, dx, style, color=colour)
    left.set(xlabel="x", ylabel="y", ylim=(-1.2, 2.6))
    right.set(xlabel="x", ylabel="slope: dx where dy = 1", ylim=(-0.05, 1.1))
    left.legend(frameon=False, fontsize=8)
    return figure


def draw_stack():
    """Values forward and gradients backward through the bent decoder of the running example."""
    model = Model(Sequential((Tanh(), Linear(1, 2))), Gaussian(2), 1)
    theta = model.init(np.random.default_rng(0), get_backend())
    theta["decoder"][1] = {"W": np.array([[1.0, 2.0]]), "b": np.array([0.0, 1.0])}
    y, cache = model.decoder.forward(theta["decoder"], np.array([[1.5]]))
    dy = (np.array([[2.0, 3.0]]) - y) / np.array([1.0, 2.0])
    linear = model.decoder.layers[1]
    dh, _ = linear.backward(theta["decoder"][1], cache[1], dy)
    dz, _ = model.decoder.backward(theta["decoder"], cache, dy)
    h = cache[0]

    figure, axes = plt.subplots(figsize=(6.5, 2.2), layout="constrained")
    axes.set(xlim=(0, 13), ylim=(0, 4))
    axes.axis("off")
    for x, name in ((3, "tanh"), (8, "linear\nW = (1, 2)")):
        axes.add_patch(plt.Rectangle((x, 1), 2, 2, fill=False, linewidth=1.5))
        axes.text(x + 1, 2, name, ha="center", va="center")
    values = [f"z = {1.5}", f"{h[0, 0]:.4f}", f"({y[0, 0]:.4f}, {y[0, 1]:.4f})"]
    gradients = [f"dz = {dz[0, 0]:.4f}", f"{dh[0, 0]:.4f}", f"({dy[0, 0]:.4f}, {dy[0, 1]:.4f})"]
    for start, end, value, gradient in zip((0.6, 5, 10), (3, 8, 12.4), values, gradients):
        forward, backward = {"color": "#0072b2"}, {"color": "#d55e00", "linestyle": "--"}
        axes.annotate("", (end, 2.5), (start, 2.5), arrowprops={"arrowstyle": "->", **forward})
        axes.annotate("", (start, 1.5), (end, 1.5), arrowprops={"arrowstyle": "->", **backward})
        axes.text((start + end) / 2, 2.7, value, ha="center", fontsize=8, color="#0072b2")
        axes.text((start + end) / 2, 1.0, gradient, ha="center", fontsize=8, color="#a34700")
    axes.text(6.5, 3.5, "forward: values", ha="center", color="#0072b2", fontsize=9)
    axes.text(6.5, 0.2, "backward: gradients", ha="center", color="#a34700", fontsize=9)
    return figure
