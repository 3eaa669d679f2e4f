"""The families of q(z|φ_n): each with sample, density, KL where that is closed, and the backwards."""

from .diagonal import DiagonalGaussian
from .flow import Coupling, Flow, coupling_flow
from .full import FullGaussian
from .planar import Planar, planar_flow
from .posterior import Posterior, has_kl

POSTERIORS = {
    "diagonal": DiagonalGaussian, "full": FullGaussian, "flow": coupling_flow, "planar": planar_flow
}

__all__ = [
    "POSTERIORS", "Coupling", "DiagonalGaussian", "Flow", "FullGaussian", "Planar", "Posterior",
    "coupling_flow", "has_kl", "planar_flow",
]
