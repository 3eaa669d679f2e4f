"""teachvae: factor analysis, variational EM and the variational autoencoder, from scratch.

One generative model, one bound Q ≥ nlml, and three ways to fill in φ: a closed form
(`FactorAnalysis`), a table (`VariationalEM`), a recognition network (`VAE`).
"""

from . import (
    bound,
    datasets,
    gradcheck,
    gradient_estimators,
    jensen,
    layers,
    likelihoods,
    nlml,
    posteriors,
)
from .autoencoder import Autoencoder
from .factor_analysis import FactorAnalysis
from .mixture import GaussianMixture
from .model import Model
from .trace import Trace
from .vae import VAE
from .variational_em import VariationalEM

__version__ = "0.1.0"

__all__ = [
    "VAE",
    "Autoencoder",
    "FactorAnalysis",
    "GaussianMixture",
    "Model",
    "Trace",
    "VariationalEM",
    "bound",
    "datasets",
    "gradcheck",
    "gradient_estimators",
    "jensen",
    "layers",
    "likelihoods",
    "nlml",
    "posteriors",
]
