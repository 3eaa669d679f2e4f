"""The exercises of notebook 02, factor analysis by EM: the posterior."""

import numpy as np

from ..exercise import Exercise, by_value


def draw_model(rng, n):
    """Data (N, D) and a model W (K, D), b (D,), ψ (D,)."""
    return {
        "x": rng.standard_normal((n.N, n.D)), "W": rng.standard_normal((n.K, n.D)),
        "b": rng.standard_normal(n.D), "psi": rng.uniform(0.3, 2.0, n.D),
    }


def posterior(x, W, b, psi):
    """Mean (N, K) and covariance (K, K) of p(z|x)."""
    cov = np.linalg.inv(np.eye(len(W)) + (W / psi) @ W.T)                                        # (2.2)
    return {"mean": (x - b) @ (W / psi).T @ cov, "cov": cov}                                     # (2.3)


def without_prior(x, W, b, psi):
    """What comes of M without the 1 of the prior's precision."""
    cov = np.linalg.inv((W / psi) @ W.T)
    return {"mean": (x - b) @ (W / psi).T @ cov, "cov": cov}


EXERCISES = [
    Exercise(
        "02-1", "posterior", "2.3", "mean (N, K) and cov (K, K) of p(z|x), in a dict", draw_model,
        by_value(posterior),
        {
            "M lacks the 1 of the prior's precision: this is the least squares answer, as if p(z) were flat":
                without_prior,
        },
    ),
]
