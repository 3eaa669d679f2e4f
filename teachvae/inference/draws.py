"""Draws of z from the posterior p(z|x_n): of a normal distribution where it is one, else weighted draws of q.

Noise is an argument, as everywhere. Equations (7.x) are in derivations/equations.md.
"""

from typing import NamedTuple

from ..arrays import tree
from ..arrays.backend import double, namespace, to_numpy
from ..arrays.observed import seen
from ..arrays.rows import resample
from ..messages import align, counted, fixed, on_a_page
from ..posteriors import FullGaussian
from . import linear_gaussian
from .expectations import log_weight


class Draws(NamedTuple):
    """Draws of z for every data case.

    z                      (n, N, K): n draws for each of N data cases
    effective_sample_size  (N,) how many draws of the posterior itself the weighted candidates of a data case
                           are worth (7.6); None where every draw is one of its own
    method                 the name of the method

    print(draws) is a table of means and spreads.
    """

    z: object
    effective_sample_size: object
    method: str

    def __str__(self):
        z = to_numpy(self.z)
        n, N, K = z.shape
        within, between = z.std(axis=0).mean(axis=0), z.mean(axis=0).std(axis=0)  # (K,) each
        table = [["", "mean", "within cases", "between cases"]]
        for k, row in enumerate(zip(z.mean(axis=(0, 1)), within, between), 1):
            table.append([f"z_{k}", *(fixed(number) for number in row)])
        lines = [
            align(table, left=1, heads=1),
            f"{counted(n, 'draw')} for each of {counted(N)}; method: {self.method}; in units of p(z), whose",
            "standard deviation is 1. Within: the standard deviation of a case's draws, averaged over cases;",
            "between: the standard deviation over the cases of the means of their draws",
        ]
        if self.effective_sample_size is not None:
            size = to_numpy(self.effective_sample_size)
            lines.append(f"effective sample size: mean {size.mean():.1f}, least {size.min():.1f}")
        return "\n".join(lines)

    def __repr__(self):
        n, N, K = self.z.shape
        return f"<Draws: {n} of z, K = {K}, for each of {counted(N)}, {self.method}>"

    _repr_html_ = on_a_page


def exact(model, theta, x, eta):
    """z (M, N, K) from the posterior of a linear-Gaussian model, given standard normal eta (M, N, K).

    x (N, D), an array or an `Observed`. Computed in float64. Raises ValueError where the model is not
    linear-Gaussian.
    """
    if not linear_gaussian.applies(model):
        raise ValueError(
            "method='exact' needs a linear decoder and a Gaussian likelihood, whose posterior is a normal "
            "distribution; use method='importance'"
        )
    parameters = linear_gaussian.parameters(model, tree.map(double, theta))
    mean, M = linear_gaussian.posterior(*parameters, *seen(double(x)))
    family = FullGaussian(model.n_latent)
    z, _ = family.sample(family.closest(mean, M), double(eta))     # (M, N, K)            (7.19)
    return namespace(x).astype(z, x.dtype)


def importance(model, theta, phi, x, eta, u):
    """z (M, N, K), drawn with replacement from S candidates z_s ~ q(z|φ_n) with probabilities that are their
    weights, and the effective sample size of these, (N,).

    phi (N, n_phi), x (N, D), an array or an `Observed`, eta (S, N, K) standard normal, u (M, N) uniform on
    [0, 1). Sampling importance resampling (Rubin 1987): as S grows the draws become those of the posterior,
    in steps that are the longer the less q looks like it.
    """
    xp = namespace(phi, eta)
    candidates, _ = model.posterior.sample(phi, eta)               # (S, N, K)
    log_w = log_weight(model, theta, phi, x, eta)                  # (S, N)                (7.1)
    w = xp.exp(log_w - xp.max(log_w, axis=0))
    z = resample(candidates, w, u)                                 # (M, N, K)            (7.20)
    size = xp.sum(w, axis=0) ** 2 / xp.sum(w * w, axis=0)          # (N,)                  (7.6)
    return z, size
