"""The pictures of chapter 10."""

import matplotlib.pyplot as plt
import numpy as np

from teachvae.arrays.special import log_factorial
from teachvae.likelihoods import Gaussian, Poisson, StudentT


def draw_pull_of_a_residual():
    """log p(x|f) against x − f, and its gradient for f: a Gaussian and Student's t with ν = 4, ψ = 1."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.5, 2.8), layout="constrained")
    x = np.linspace(-6, 6, 601)[:, None]
    for p, name, colour, style in (
        (Gaussian(1), "Gaussian", "#0072b2", "--"), (StudentT(1, 4.0), "Student's t, ν = 4", "#d55e00", "-")
    ):
        params = {"log_psi": np.zeros(1)}
        log_p, cache = p.forward(params, np.zeros((1, len(x), 1)), x)
        df, _ = p.backward(params, cache, np.ones_like(log_p))
        left.plot(x[:, 0], log_p[0], style, color=colour, label=name)
        right.plot(x[:, 0], df[0, :, 0], style, color=colour)
    left.set(xlabel="residual x − f", ylabel="log p in nats", ylim=(-12, 1))
    right.set(xlabel="residual x − f", ylabel="pull: df where dlog p = 1", ylim=(-4, 4))
    left.legend(frameon=False, fontsize=8, loc="lower center")
    return figure


def draw_two_forms_of_the_poisson():
    """The error of both lines of (5.13) in float32, at counts one standard deviation above their rate."""
    figure, axes = plt.subplots(figsize=(6.5, 2.8), layout="constrained")
    size = np.logspace(1, 7, 61)
    x = np.rint(size + np.sqrt(size)).astype("float32")[:, None]
    f = np.log(size).astype("float32")[None, :, None]
    exact, _ = Poisson(1).forward({}, f.astype("float64"), x.astype("float64"))
    second, _ = Poisson(1).forward({}, f, x)
    first = x * f - np.exp(f) - log_factorial(x)
    for values, name, colour, marker in (
        (first[0, :, 0], "first line", "#d55e00", "o"),
        (second[0], "second line, as computed", "#0072b2", "s"),
    ):
        error = np.maximum(np.abs(values - exact[0]), 1e-8)
        axes.loglog(x[:, 0], error, marker, color=colour, markersize=3, label=name)
    axes.set(xlabel="count", ylabel="error of log p in nats", ylim=(1e-8, 10))
    axes.legend(frameon=False, fontsize=8)
    return figure
