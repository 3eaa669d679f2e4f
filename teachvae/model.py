"""The one generative model of the lecture: p(z) = N(0, I) and p(x|z) = likelihood(x; f_w(z)).

A `Model` holds the decoder f_w, the likelihood, K and the family of q, and no arrays. Its
parameters θ = {"decoder": w, "likelihood": …} are a tree that every function is handed. Here are its
densities, each with its gradient, of data cases x that are an array, or an `Observed` where entries are
missing; equations (1.x) are in derivations/equations.md.
"""

from dataclasses import dataclass

from .arrays.backend import get_backend, namespace
from .arrays.observed import seen
from .arrays.special import LOG_2PI
from .posteriors import DiagonalGaussian


@dataclass(frozen=True)
class Model:
    """Sizes and parts of the model; the arrays live in theta.

    decoder     a layer from K to likelihood.n_f numbers (usually a `layers.Sequential`)
    likelihood  from `likelihoods`
    n_latent    K
    posterior   the family of q(z|φ_n), from `posteriors`; DiagonalGaussian(K) where None

    Raises ValueError where the parts do not fit together.
    """

    decoder: object
    likelihood: object
    n_latent: int
    posterior: object = None

    def __post_init__(self):
        if self.posterior is None:
            object.__setattr__(self, "posterior", DiagonalGaussian(self.n_latent))
        if self.decoder.n_in != self.n_latent:
            raise ValueError(
                f"the decoder takes {self.decoder.n_in} latent variables, n_latent is {self.n_latent}"
            )
        if self.decoder.n_out != self.likelihood.n_f:
            raise ValueError(
                f"the decoder gives {self.decoder.n_out} outputs, the likelihood needs "
                f"{self.likelihood.n_f}"
            )
        if self.posterior.n_latent != self.n_latent:
            raise ValueError(
                f"the posterior has {self.posterior.n_latent} latent variables, n_latent is "
                f"{self.n_latent}"
            )

    def init(self, rng, backend=None):
        """New parameters theta = {"decoder": …, "likelihood": …}, random from the host generator `rng`, on a
        `Backend`; NumPy arrays of float64 where None.
        """
        backend = get_backend() if backend is None else backend
        return {
            "decoder": self.decoder.init(rng, backend),
            "likelihood": self.likelihood.init(rng, backend),
        }

    def f(self, theta, z):
        """The decoder's output f_w(z) (…, n_f) at latent points z (…, K), and a cache."""
        xp = namespace(z)
        f, cache = self.decoder.forward(theta["decoder"], xp.reshape(z, (-1, self.n_latent)))
        return xp.reshape(f, (*z.shape[:-1], self.likelihood.n_f)), cache

    def f_backward(self, theta, cache, df, *, need_dz=True, need_dw=True):
        """dz (…, K) and dw, shaped like theta["decoder"], from df (…, n_f)                       (1.32)."""
        xp = namespace(df)
        rows = xp.reshape(df, (-1, self.likelihood.n_f))
        dz, dw = self.decoder.backward(
            theta["decoder"], cache, rows, need_dx=need_dz, need_dparams=need_dw
        )
        return (xp.reshape(dz, (*df.shape[:-1], self.n_latent)) if need_dz else None), dw

    def log_prior(self, z):
        """log p(z) = log N(z; 0, I) (…) at latent points z (…, K), in nats."""
        return -0.5 * namespace(z).sum(z * z, axis=-1) - 0.5 * self.n_latent * LOG_2PI  #  (1.1)

    def log_prior_backward(self, z, dlog_prior):
        """dz (…, K) from dlog_prior (…)                                                          (1.31)."""
        return -dlog_prior[..., None] * z

    def log_likelihood(self, theta, x, z):
        """log p(x_n|z_ns) (S, N), in nats, of data cases x at latent points z (S, N, K), and a cache.

        Of an `Observed` that is log p of what was observed                                     (5.40).
        """
        f, f_cache = self.f(theta, z)                              # (S, N, n_f)
        log_p, cache = self.likelihood.forward(theta["likelihood"], f, *seen(x))
        return log_p, (f_cache, cache)

    def log_likelihood_backward(self, theta, cache, dlog_p, *, need_dz=True, need_dtheta=True):
        """dz (S, N, K) and dtheta, shaped like theta, from dlog_p (S, N); None where not needed  (1.33)."""
        f_cache, cache = cache
        df, dlikelihood = self.likelihood.backward(
            theta["likelihood"], cache, dlog_p, need_dparams=need_dtheta
        )
        dz, dw = self.f_backward(theta, f_cache, df, need_dz=need_dz, need_dw=need_dtheta)
        return dz, {"decoder": dw, "likelihood": dlikelihood} if need_dtheta else None

    def log_likelihood_gradient(self, theta, x, z):
        """log p(x_n|z_ns) (S, N) and its gradient in z (S, N, K)."""
        log_p, cache = self.log_likelihood(theta, x, z)
        ones = namespace(log_p).ones_like(log_p)
        dz, _ = self.log_likelihood_backward(theta, cache, ones, need_dtheta=False)  #     (7.10)
        return log_p, dz

    def log_joint(self, theta, x, z):
        """log p(x_n, z_ns) (S, N), in nats, at latent points z (S, N, K)."""
        return self.log_likelihood(theta, x, z)[0] + self.log_prior(z)  #                  (1.2)

    def log_joint_of_pairs(self, theta, x, z):
        """log p(x_n, z_g) (G, N), in nats, of every data case x_n with every latent point z (G, K)."""
        f, _ = self.f(theta, z)
        log_p = self.likelihood.cross(theta["likelihood"], f, *seen(x))  # (G, N)
        return log_p + self.log_prior(z)[:, None]                  # (G, N)                (1.2)
