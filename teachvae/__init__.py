"""teachvae: factor analysis, variational EM and the variational autoencoder, from scratch.

One generative model, one bound Q ≥ nlml, and three ways to fill in φ: a closed form
(`FactorAnalysis`), a table (`VariationalEM`), a recognition network (`VAE`). Names are imported when
they are first asked for.
"""

from importlib import import_module

__version__ = "0.1.0"

CLASSES = {
    "Autoencoder": "autoencoder",
    "FactorAnalysis": "factor_analysis",
    "GaussianMixture": "mixture",
    "LinearProbe": "probe",
    "Model": "model",
    "PrincipalComponents": "probe",
    "Trace": "trace",
    "VAE": "vae",
    "VariationalEM": "variational_em",
}
MODULES = (
    "ais",
    "bound",
    "datasets",
    "gaps",
    "gradcheck",
    "gradient_estimators",
    "jensen",
    "layers",
    "likelihoods",
    "moments",
    "nlml",
    "posteriors",
)

__all__ = [*CLASSES, *MODULES]


def __getattr__(name):
    if name in CLASSES:
        value = getattr(import_module(f".{CLASSES[name]}", __name__), name)
    elif name in MODULES:
        value = import_module(f".{name}", __name__)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *__all__})
