"""The laws of growth: what an E-step, an epoch, an EM iteration and a sample cost as the problem grows.

Every line is measured at several sizes in turn, and gets the exponent of the power law through its points by
least squares. Memory is the peak of what NumPy has allocated beyond what was there before. The figure goes to
the output folder as growth.png.
"""

from functools import partial
import tracemalloc

import numpy as np

from teachvae import FactorAnalysis, VAE, infer, linear_gaussian, nlml
from teachvae.arrays.backend import get_backend
from .factor_analysis import heteroscedastic
from .measure import in_turn
from teachvae.inference.moments import moments
from teachvae.likelihoods import Bernoulli
from teachvae.model import Model
from teachvae.networks.layers import mlp

D, K, HIDDEN = 64, 2, 64


def exponent(sizes, values):
    """The p of values ≈ c · sizes^p, by least squares of the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def neural(n_cases, n_latent=K, n_visible=D):
    """A Bernoulli model with random weights, θ, data (N, D) and φ of q = N(0, I), in float32."""
    backend, rng = get_backend("numpy", "float32"), np.random.default_rng(0)
    decoder = mlp(n_latent, (HIDDEN,), n_visible)
    model = Model(decoder, Bernoulli(n_visible), n_latent)
    x = backend.asarray(rng.random((n_cases, n_visible)) < 0.3)
    return model, model.init(rng, backend), x, infer.prior_phi(model, x)


def e_step(n_cases=1000, n_samples=5):
    """A function that does 5 tries of an E-step."""
    model, theta, x, phi = neural(n_cases)
    eta = np.random.default_rng(1).standard_normal((n_samples, 1, K)).astype("float32")
    weights = np.full(n_samples, 1 / n_samples, "float32")
    return partial(infer.e_step, model, theta, phi, x, eta, weights, max_steps=5, tol=0.0)


def sampling(n_cases=100, n_samples=1000, n_latent=K):
    """A function that estimates NLML by importance sampling."""
    model, theta, x, phi = neural(n_cases, n_latent)
    return lambda: nlml.importance(model, theta, phi, x, np.random.default_rng(0), n_samples=n_samples)


def epoch(n_cases=2000, n_visible=D, batch=100):
    """A function that fits a VAE for one epoch."""
    x = (np.random.default_rng(0).random((n_cases, n_visible)) < 0.3).astype("float32")
    return lambda: VAE(
        K, hidden=(HIDDEN,), likelihood="bernoulli", epochs=1, batch_size=batch, dtype="float32"
    ).fit(x)


def em_iterations(n_cases=2000, n_visible=100, n_latent=10):
    """A function that does 20 E- and M-steps on the moments of that many data cases."""
    S = moments(heteroscedastic(n_cases, n_visible, n_latent)).covariance
    start = np.random.default_rng(0).standard_normal((n_latent, n_visible)), np.diag(S).copy()

    def run():
        W, psi = start
        for _ in range(20):
            stats, _ = linear_gaussian.e_step_moments(W, psi, S)
            W, b, psi = linear_gaussian.m_step(stats)
            W, _ = linear_gaussian.expanded(W, b, stats.z, stats.zz)

    return run


def factor_analysis(n_cases, n_visible=100, n_latent=10):
    """A function that fits factor analysis, moments and all."""
    X = heteroscedastic(n_cases, n_visible, n_latent)
    return lambda: FactorAnalysis(n_latent).fit(X)


TIMES = {                                                          # panel: {line: (function, sizes)}
    "data cases N": {
        "E-step": (e_step, (512, 1024, 2048, 4096, 8192)),
        "epoch of a VAE": (epoch, (1000, 2000, 4000, 8000, 16_000)),
        "factor analysis, whole fit": (factor_analysis, (2000, 6000, 20_000, 60_000, 240_000)),
        "EM iteration": (em_iterations, (2000, 6000, 20_000, 60_000, 240_000)),
    },
    "variables D": {
        "epoch of a VAE": (lambda d: epoch(n_visible=d), (64, 128, 256, 512, 1024)),
        "EM iteration": (lambda d: em_iterations(n_visible=d), (64, 128, 256, 512, 1024)),
    },
    "latent variables K": {
        "importance sampling": (lambda k: sampling(n_latent=k), (2, 4, 8, 16, 32)),
        "EM iteration": (lambda k: em_iterations(n_visible=256, n_latent=k), (4, 8, 16, 32, 64)),
    },
    "samples S": {
        "E-step": (lambda s: e_step(n_samples=s), (4, 8, 16, 32, 64)),
        "importance sampling": (lambda s: sampling(n_samples=s), (250, 500, 1000, 2000, 4000)),
    },
    "batch size": {
        "step of a VAE": (lambda b: epoch(n_cases=2048, batch=b), (32, 64, 128, 256, 512)),
    },
}
MEMORY = {
    "E-step, against N": (e_step, (512, 1024, 2048, 4096, 8192)),
    "importance sampling, against N": (lambda n: sampling(n, 200), (128, 512, 2048, 8192)),
    "importance sampling, against k": (lambda s: sampling(100, s), (50, 500, 5000)),
    "moments, against N": (lambda n: partial(moments, heteroscedastic(n, 100, 10)), (2000, 20_000, 200_000)),
}


def peak_memory(function):
    """The most bytes that were allocated at a time while `function` ran, beyond those before."""
    function()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    function()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak - before


def measured(times, memory, rounds):
    """{panel: {line: (sizes, values)}}: seconds, and in the last panel megabytes."""
    panels = {}
    for panel, lines in times.items():
        panels[panel] = {}
        for line, (make, sizes) in lines.items():
            seconds = in_turn({size: make(size) for size in sizes}, rounds)
            values = [float(np.median(seconds[size])) for size in sizes]
            if panel == "batch size":                              # an epoch has N / batch steps
                values = [value * size for value, size in zip(values, sizes)]
            panels[panel][line] = sizes, values
    panels["peak memory"] = {
        line: (sizes, [peak_memory(make(size)) / 2**20 for size in sizes])
        for line, (make, sizes) in memory.items()
    }
    return panels


def draw(panels, path):
    """The panels as one figure, times relative to each line's first point."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib import ticker

    figure, axes = plt.subplots(2, 3, figsize=(12, 7), layout="constrained")
    for axis, (panel, lines) in zip(axes.flat, panels.items()):
        memory = panel == "peak memory"
        for line, (sizes, values) in lines.items():
            values = np.array(values) if memory else np.array(values) / values[0]
            label = line if memory else f"{line}: {exponent(sizes, values):z.2f}"
            axis.loglog(sizes, values, marker="o", label=label)
        bottom, top = axis.get_ylim()
        if memory:                                                 # from 0, so that flat looks flat
            axis.set_yscale("linear")
            axis.set_ylim(0, 1.8 * top)
        else:
            axis.set_ylim(bottom, top * (top / bottom) ** 0.6)     # room for the legend
        for scale, (low, high) in ((axis.xaxis, axis.get_xlim()), (axis.yaxis, axis.get_ylim())):
            if scale.get_scale() == "log":
                scale.set_major_locator(ticker.LogLocator(subs=(1, 2, 5) if high / low < 200 else (1,)))
                scale.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
                scale.set_minor_locator(ticker.NullLocator())
        axis.set_xlabel("N, k" if memory else panel)
        axis.set_title("peak memory, MB" if memory else f"cost against {panel}", fontsize=11)
        axis.legend(fontsize=9, loc="upper left", title=None if memory else "relative cost: exponent")
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def run(rounds=7, times=TIMES, memory=MEMORY, output=None):
    """[{size, peer, ratio}] whose ratio is an exponent, or the most memory at any size, in 2^20 bytes."""
    panels = measured(times, memory, rounds)
    if output is not None:
        draw(panels, output / "growth.png")
    rows = []
    for panel, lines in panels.items():
        for line, (sizes, values) in lines.items():
            row = {"size": f"{line}, {panel}, {sizes[0]} … {sizes[-1]}", "values": values}
            if panel == "peak memory":
                row |= {"peer": "MB at most", "ratio": max(values)}
            else:
                row |= {"peer": "exponent", "ratio": exponent(sizes, values)}
            rows.append(row)
    return rows, []
