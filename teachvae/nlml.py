"""What a model is worth: −log p(x_n|θ) for every data case, with the error that each road has.

Every method returns an `NLML`: values (N,) in nats, a standard error (N,) where the method is
random, and its name. Equations (7.x) are in derivations/equations.md.
"""

from typing import NamedTuple

from . import linear_gaussian
from .backend import constant, namespace
from .infer import blocks
from .posteriors import LOG_2PI


class NLML(NamedTuple):
    """−log p(x_n) per data case.

    values          (N,) in nats
    standard_error  (N,), or None where the method is deterministic
    certificate     (N,) a bound on the error of the value, or None where it is exact or random
    method          the name of the method
    """

    values: object
    standard_error: object
    certificate: object
    method: str


def exact(model, theta, x):
    """The closed form of a linear-Gaussian model, through the K × K matrix                (2.6).

    Raises ValueError where the model is not linear-Gaussian.
    """
    if not linear_gaussian.applies(model):
        raise ValueError(
            "method='exact' needs a linear decoder and a Gaussian likelihood; "
            "use method='importance'"
        )
    values = linear_gaussian.nlml(*linear_gaussian.parameters(model, theta), x)
    return NLML(values, None, None, "exact")


def importance(model, theta, phi, x, rng, *, n_samples=1000):
    """Importance sampling from q(z|φ_n): −log (1/S) Σ_s p(x_n, z_s) / q(z_s|φ_n)           (7.1).

    In expectation the value is an upper bound on −log p(x_n) that falls with n_samples (Burda et
    al. 2016). The standard error is that of log p̂ by the delta method (7.2); where the weights are
    dominated by a few samples it is too small. All data cases share the draws η, which are made in
    chunks, so memory does not grow with n_samples.
    """
    if n_samples < 2:
        raise ValueError(f"importance sampling needs n_samples >= 2, got {n_samples}")
    xp = namespace(phi, x)
    chunk = 64
    noise = [
        rng.standard_normal((min(chunk, n_samples - start), 1, model.n_latent))
        for start in range(0, n_samples, chunk)
    ]
    values, errors = [], []
    for rows in blocks(x.shape[0], chunk):
        log_weights = _StreamingLogMeanExp(xp)
        for eta in noise:
            eta = constant(eta, like=phi)
            log_weights.add(log_weight(model, theta, phi[rows, :], x[rows, :], eta))
        log_p, error = log_weights.result()
        values.append(-log_p)
        errors.append(error)
    return NLML(xp.concat(values, axis=0), xp.concat(errors, axis=0), None, "importance")


def log_joint(model, theta, x, z):
    """log p(x_n, z_ns) (S, N) at latent points z (S, N, K)                                 (1.2)."""
    xp = namespace(x, z)
    S, N, K = z.shape
    f, _ = model.decoder.forward(theta["decoder"], xp.reshape(z, (S * N, K)))
    f = xp.reshape(f, (S, N, model.likelihood.n_f))
    log_px, _ = model.likelihood.forward(theta["likelihood"], f, x)
    return log_px - 0.5 * xp.sum(z * z, axis=2) - 0.5 * K * LOG_2PI


def log_weight(model, theta, phi, x, eta):
    """log p(x_n, z_ns) − log q(z_ns|φ_n) (S, N) at z = sample(φ, η)."""
    z, _ = model.posterior.sample(phi, eta)                        # (S, N, K)
    log_q, _ = model.posterior.log_prob(phi, z)
    return log_joint(model, theta, x, z) - log_q


class _StreamingLogMeanExp:
    """log mean exp and its standard error over samples that come in chunks (S, N)."""

    def __init__(self, xp):
        self.xp, self.count, self.top = xp, 0, None

    def add(self, log_w):
        xp = self.xp
        top = xp.max(log_w, axis=0)
        if self.top is None:
            self.top, self.sum, self.squares = top, xp.zeros_like(top), xp.zeros_like(top)
        new_top = xp.where(top > self.top, top, self.top)
        shrink = xp.exp(self.top - new_top)
        w = xp.exp(log_w - new_top)
        self.sum = self.sum * shrink + xp.sum(w, axis=0)
        self.squares = self.squares * shrink * shrink + xp.sum(w * w, axis=0)
        self.top = new_top
        self.count += log_w.shape[0]

    def result(self):
        """log mean exp (N,) and its standard error (N,)                              (7.1), (7.2)."""
        xp, S = self.xp, self.count
        mean = self.sum / S
        variance = (self.squares / S - mean * mean) * (S / (S - 1))
        variance = xp.where(variance > 0, variance, xp.zeros_like(variance))
        return xp.log(mean) + self.top, xp.sqrt(variance / S) / mean
