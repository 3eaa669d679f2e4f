"""teachvae: factor analysis, variational EM and the variational autoencoder, from scratch.

One generative model, one bound Q ≥ nlml, and three ways to fill in φ: a closed form
(`FactorAnalysis`), a table (`VariationalEM`), a recognition network (`VAE`). Names are imported when
they are first asked for.
"""

from importlib import import_module

__version__ = "0.1.0"

NAMES = {
    "Autoencoder": "routes.autoencoder",
    "FactorAnalysis": "routes.factor_analysis",
    "GaussianMixture": "routes.mixture",
    "LinearProbe": "comparison.probe",
    "MixtureOfFactorAnalysers": "routes.mixture_of_factor_analysers",
    "Model": "model",
    "Observed": "arrays.observed",
    "PrincipalComponents": "routes.principal_components",
    "Trace": "course.trace",
    "VAE": "routes.vae",
    "VariationalEM": "routes.variational_em",
    "compare": "comparison.result",
    "load": "routes.persistence",
    "select_n_components": "comparison.selection",
}
MODULES = {
    "ais": "evaluation.ais",
    "bound": "bound",
    "calibration": "evaluation.calibration",
    "datasets": "datasets",
    "divergence": "evaluation.divergence",
    "draws": "inference.draws",
    "expectations": "inference.expectations",
    "fit": "networks.training",
    "gaps": "evaluation.gaps",
    "gradcheck": "gradcheck",
    "grade": "course.grade",
    "gradient_estimators": "course.gradient_estimators",
    "grid": "evaluation.grid",
    "importance_weighted": "importance_weighted",
    "infer": "inference.e_step",
    "iwae": "evaluation.iwae",
    "jensen": "course.jensen",
    "laplace": "evaluation.laplace",
    "layers": "networks.layers",
    "likelihoods": "likelihoods",
    "linear_gaussian": "inference.linear_gaussian",
    "moments": "inference.moments",
    "nlml": "evaluation.nlml",
    "noise": "posteriors.nodes",
    "optimizers": "networks.optimizers",
    "plots": "plots",
    "posteriors": "posteriors",
    "ranks": "arrays.ranks",
    "schedules": "networks.schedules",
    "tree": "arrays.tree",
}

__all__ = [*NAMES, *MODULES]


def __getattr__(name):
    if name in NAMES:
        value = getattr(import_module(f".{NAMES[name]}", __name__), name)
    elif name in MODULES:
        value = import_module(f".{MODULES[name]}", __name__)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *__all__})
