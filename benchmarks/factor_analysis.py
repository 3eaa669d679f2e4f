"""Factor analysis by EM beside scikit-learn and statsmodels: time, and how far above the best NLML it ends.

The NLML of everybody's parameters is computed by our closed form on the training data; each contestant runs
with its own default stopping rule, one after the other, and, where that ends early, with a tolerance that
gets it there. Above 2000 data cases a peer runs once.
"""

import os
from time import perf_counter
import warnings

import numpy as np

from teachvae import FactorAnalysis, datasets, linear_gaussian
from teachvae.doors.units import HeywoodWarning


def heteroscedastic(n_cases, n_visible, n_latent, seed=0):
    """Data of which factor analysis is true, noise variances from 0.1 to 10."""
    rng = np.random.default_rng(seed)
    W = rng.standard_normal((n_latent, n_visible)) / np.sqrt(n_latent) * 3
    psi = np.exp(rng.uniform(np.log(0.1), np.log(10), n_visible))
    z = rng.standard_normal((n_cases, n_latent))
    return z @ W + np.sqrt(psi) * rng.standard_normal((n_cases, n_visible))


def problems(largest):
    """{title: (X, K)}; MNIST where the environment's TEACHVAE_DATA names the folder of its IDX files."""
    sizes = [n for n in (2000, 20_000, 60_000, 240_000) if n <= largest]
    found = {f"synthetic, N = {n}, D = 784, K = 50": (heteroscedastic(n, 784, 50), 50) for n in sizes}
    found["digits, K = 10"] = datasets.digits().x, 10
    if os.environ.get("TEACHVAE_DATA"):
        x = datasets.mnist().x
        found[f"MNIST, N = {len(x)}, K = 10"] = x, 10
    return found


def scikit_learn(X, K, **options):
    """(W, b, psi) of scikit-learn's FactorAnalysis."""
    from sklearn.decomposition import FactorAnalysis as Peer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = Peer(K, random_state=0, **options).fit(X)
    return fitted.components_, fitted.mean_, fitted.noise_variance_


def statsmodels(X, K):
    """(W, b, psi) of statsmodels' Factor by maximum likelihood."""
    from statsmodels.multivariate.factor import Factor

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = Factor(X, n_factor=K, method="ml").fit(maxiter=200)
    sd = X.std(axis=0)                                             # it works on correlations
    return np.asarray(fitted.loadings).T * sd, X.mean(axis=0), np.asarray(fitted.uniqueness) * sd**2


def ours(X, K):
    """(W, b, psi) of our own, by its public fit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HeywoodWarning)
        fitted = FactorAnalysis(K).fit(X)
    return fitted.components_, fitted.mean_, fitted.noise_variance_


PEERS = {
    "scikit-learn, default": lambda X, K: scikit_learn(X, K),
    "scikit-learn, lapack": lambda X, K: scikit_learn(X, K, svd_method="lapack"),
    "scikit-learn, lapack, tol 1e-8": lambda X, K: scikit_learn(
        X, K, svd_method="lapack", tol=1e-8, max_iter=10_000
    ),
    "statsmodels": statsmodels,
}


def run(rounds=3, largest=60_000):
    """[{size, peer, ratio, excess nats, ours' excess, …}], and what could not be run, in words."""
    rows, remarks = [], []
    for title, (X, K) in problems(largest).items():
        def nlml(parameters, X=X):
            parts = np.array_split(X, 20)
            return float(np.mean([linear_gaussian.nlml(*parameters, x).mean() for x in parts]))

        found, seconds = {}, {}
        for name, fit in {"teachvae": ours, **PEERS}.items():
            if name == "statsmodels" and X.shape[1] > 100:
                continue                                           # minutes: its cost grows with D³ per step
            if "tol" in name and X.shape[0] > 2000 and X.shape[1] > 100:
                continue                                           # many minutes
            times = []
            try:
                fit(X[:500, :60], min(K, 5))                           # imports and first calls do not count
                for _ in range(rounds if name == "teachvae" or len(X) <= 2000 else 1):
                    start = perf_counter()
                    parameters = fit(X, K)
                    times.append(perf_counter() - start)
                found[name], seconds[name] = nlml(parameters), np.median(times)
            except Exception as error:
                remarks.append(f"{title}, {name}: {type(error).__name__}: {str(error).splitlines()[0][:100]}")
        best = min(found.values())
        rows += [
            {
                "size": title,
                "peer": name,
                "ratio": seconds[name] / seconds["teachvae"],
                "excess": found[name] - best,
                "our_excess": found["teachvae"] - best,
            }
            for name in found
            if name != "teachvae"
        ]
    return rows, remarks
