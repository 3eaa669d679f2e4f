"""The families of q(z|φ_n): each with its sample, KL and density, and their backwards."""

from .diagonal import DiagonalGaussian
from .full import FullGaussian
from .posterior import Posterior

POSTERIORS = {"diagonal": DiagonalGaussian, "full": FullGaussian}

__all__ = ["POSTERIORS", "DiagonalGaussian", "FullGaussian", "Posterior"]
