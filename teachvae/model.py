"""The one generative model of the lecture: p(z) = N(0, I) and p(x|z) = likelihood(x; f_w(z)).

A `Model` holds the decoder f_w, the likelihood, K and the family of q, and no arrays. Its
parameters θ = {"decoder": w, "likelihood": Ψ, …} are a tree that every function is handed.
"""

from dataclasses import dataclass

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

    def init(self, rng, backend):
        """New parameters theta = {"decoder": …, "likelihood": …}, random from `rng`."""
        return {
            "decoder": self.decoder.init(rng, backend),
            "likelihood": self.likelihood.init(rng, backend),
        }
