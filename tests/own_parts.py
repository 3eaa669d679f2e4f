"""Parts such as a user writes them, without a line of the package being touched: one of each kind.

`Laplace` is the example of CONTRIBUTING.md; the others have no more than their protocol asks for.
"""

from dataclasses import dataclass
import math

from teachvae.arrays.backend import constant, namespace
from teachvae.likelihoods import Likelihood
from teachvae.posteriors import Posterior


@dataclass(frozen=True)
class Laplace(Likelihood):
    """p(x|f) = Π_d exp(−|x_d − f_d|/b_d) / 2b_d. Parameters: log_b (D,)."""

    n_visible: int

    @property
    def n_f(self):
        return self.n_visible

    def init(self, rng, backend):
        return {"log_b": backend.zeros((self.n_visible,))}

    def forward(self, params, f, x, mask=None):
        xp = namespace(f, x)
        mask = xp.ones_like(x) if mask is None else mask
        u = (x - f) * xp.exp(-params["log_b"])                     # (S, N, D)
        log_p = -xp.sum(mask * (xp.abs(u) + params["log_b"] + math.log(2)), axis=2)
        return log_p, (u, mask)

    def backward(self, params, cache, dlog_p, *, need_dparams=True):
        (u, mask), xp = cache, namespace(dlog_p)
        d = dlog_p[:, :, None] * mask
        df = d * xp.sign(u) * xp.exp(-params["log_b"])
        return df, {"log_b": xp.sum(d * (xp.abs(u) - 1), axis=(0, 1))} if need_dparams else None

    def mean(self, params, f):
        return f

    def draw_noise(self, rng, shape):
        return rng.laplace(size=shape)

    def sample(self, params, f, noise):
        return f + noise * namespace(f).exp(params["log_b"])


@dataclass(frozen=True)
class LogCosh(Likelihood):
    """p(x|f) = Π_d sech(x_d − f_d) / π, smooth, without parameters, and unable to draw."""

    n_visible: int

    @property
    def n_f(self):
        return self.n_visible

    def forward(self, params, f, x, mask=None):
        xp = namespace(f, x)
        mask = xp.ones_like(x) if mask is None else mask
        u = xp.abs(x - f)
        log_cosh = u + xp.log1p(xp.exp(-2 * u)) - math.log(2)
        return -xp.sum(mask * (log_cosh + math.log(math.pi)), axis=2), (x - f, mask)

    def backward(self, params, cache, dlog_p, *, need_dparams=True):
        r, mask = cache
        return dlog_p[:, :, None] * mask * namespace(r).tanh(r), {} if need_dparams else None

    def mean(self, params, f):
        return f


@dataclass(frozen=True)
class Sine:
    """y = x + sin(x)/2, an activation with nothing but a forward and a backward."""

    def forward(self, params, x):
        return x + 0.5 * namespace(x).sin(x), x

    def backward(self, params, cache, dy, *, need_dx=True, need_dparams=True):
        return dy * (1 + 0.5 * namespace(dy).cos(cache)), {}


@dataclass(frozen=True)
class Scale:
    """y = a x + c, entry by entry, as the last layer of a network: not Linear, so nothing folds into it."""

    n_in: int

    @property
    def n_out(self):
        return self.n_in

    def init(self, rng, backend):
        return {"a": backend.asarray([1.0] * self.n_in), "c": backend.zeros((self.n_in,))}

    def forward(self, params, x):
        return params["a"] * x + params["c"], x

    def backward(self, params, cache, dy, *, need_dx=True, need_dparams=True):
        xp = namespace(dy)
        grads = {"a": xp.sum(dy * cache, axis=0), "c": xp.sum(dy, axis=0)}
        return (dy * params["a"] if need_dx else None), grads if need_dparams else None


@dataclass(frozen=True)
class Round(Posterior):
    """q(z|φ_n) = N(m, s² I), φ = [m | log s], (N, K + 1): one s for all latent variables."""

    n_latent: int

    @property
    def n_phi(self):
        return self.n_latent + 1

    def sample(self, phi, eta):
        s = namespace(phi).exp(phi[:, self.n_latent :])            # (N, 1)
        return phi[:, : self.n_latent] + s * eta, (s, eta)

    def sample_backward(self, cache, dz):
        (s, eta), xp = cache, namespace(dz)
        dlog_s = xp.sum(dz * s * eta, axis=(0, 2))[:, None]
        return xp.concat([xp.sum(dz, axis=0), dlog_s], axis=1)

    def kl(self, phi):
        xp, K = namespace(phi), self.n_latent
        m, log_s = phi[:, :K], phi[:, K]
        s2 = xp.exp(2 * log_s)
        return 0.5 * (xp.sum(m * m, axis=1) + K * (s2 - 1 - 2 * log_s)), (m, s2)

    def kl_backward(self, cache, dkl):
        m, s2 = cache
        dlog_s = self.n_latent * dkl * (s2 - 1)
        return namespace(dkl).concat([dkl[:, None] * m, dlog_s[:, None]], axis=1)

    def log_prob(self, phi, z):
        xp, K = namespace(phi, z), self.n_latent
        s = xp.exp(phi[:, K:])
        u = (z - phi[:, :K]) / s
        log_q = -0.5 * xp.sum(u * u, axis=2) - K * phi[:, K] - 0.5 * K * math.log(2 * math.pi)
        return log_q, (s, u)

    def log_prob_backward(self, cache, dlog_q):
        (s, u), xp, K = cache, namespace(dlog_q), self.n_latent
        dz = -dlog_q[:, :, None] * u / s
        dlog_s = xp.sum(dlog_q * (xp.sum(u * u, axis=2) - K), axis=0)
        return xp.concat([-xp.sum(dz, axis=0), dlog_s[:, None]], axis=1), dz

    def mean(self, phi):
        return phi[:, : self.n_latent]


class Signs:
    """An optimiser that goes by the signs of the gradient."""

    def init(self, flat):
        return {"t": 0}

    def step(self, flat, grad, state):
        state["t"] += 1
        flat -= 0.02 / state["t"] ** 0.3 * namespace(grad).sign(grad)


def forgets_the_mask(likelihood):
    """The same likelihood with the mask left out of its backward."""

    class Forgets(type(likelihood)):
        def backward(self, params, cache, dlog_p, *, need_dparams=True):
            u, mask = cache
            ones = namespace(u).ones_like(mask)
            return super().backward(params, (u, ones), dlog_p, need_dparams=need_dparams)

    return Forgets(likelihood.n_visible)


def widens(likelihood):
    """The same likelihood with a constant that is NumPy's own float64."""

    class Widens(type(likelihood)):
        def forward(self, params, f, x, mask=None):
            log_p, cache = super().forward(params, f, x, mask)
            return log_p + constant([0.0], like=log_p, dtype="float64"), cache

    return Widens(likelihood.n_visible)
