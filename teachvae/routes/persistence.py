"""Estimators in files: what is saved of one, and how it comes back.

A file holds the class by its name, the hyper-parameters and all that was learnt, in the way of
`arrays/store.py`. Two parameters are the machine's and not the model's: comm is saved as None, and a
backend by its name.
"""

from dataclasses import is_dataclass, replace
from importlib import import_module
from numbers import Real

from .. import likelihoods, posteriors
from ..arrays import store
from ..arrays.backend import Backend, BackendError, get_backend
from ..datasets import generated
from ..doors.columns import Columns
from ..doors.units import Spread
from ..inference.em import Fit, LongerSteps, Parameters
from ..inference.mixture import Mixture
from ..inference.mixture_of_factor_analysers import Analysers
from ..inference.moments import Moments
from ..model import Model
from ..networks import layers, optimizers, schedules
from ..networks.training import Best, Run

ESTIMATORS = (
    "Autoencoder", "FactorAnalysis", "GaussianMixture", "LinearProbe", "MixtureOfFactorAnalysers",
    "PrincipalComponents", "VAE", "VariationalEM",
)
TRAINING = {Best, Fit, LongerSteps, Parameters, Run, Spread}       # what a checkpoint, or partial_fit, keeps
PARTS = TRAINING | {Analysers, Columns, Mixture, Model, Moments} | {
    part
    for module in (layers, optimizers, schedules, likelihoods, posteriors, generated)
    for part in vars(module).values()
    if isinstance(part, type) and is_dataclass(part)
}


def save(estimator, file, **beside):
    """Write an estimator to `file`, and named values beside it. `Estimator.save` says the rest."""
    cls, parameters = type(estimator), plain_parameters(estimator)
    fitted = {name: value for name, value in vars(estimator).items() if name not in parameters}
    if "backend_" in fitted:
        fitted["backend_"] = [fitted["backend_"].name, fitted["backend_"].dtype]
    if "columns_" in fitted:                                       # labels may be dates, and serve messages
        columns = fitted["columns_"]
        plain = [label if isinstance(label, (str, Real)) else str(label) for label in columns.given]
        fitted["columns_"] = replace(columns, given=plain)
    own = cls is not _estimator(cls.__name__)
    values = {"own class" if own else "class": cls.__name__, "parameters": parameters, "fitted": fitted}
    store.write(file, {**values, **beside}, PARTS)


def plain_parameters(estimator):
    """The hyper-parameters as they are saved."""
    parameters = estimator.get_params(deep=False)
    if "comm" in parameters:
        parameters["comm"] = None
    if isinstance(parameters.get("backend"), Backend):
        parameters["backend"] = parameters["backend"].name
    return parameters


def load(file, *, backend=None, dtype=None, parts=None):
    """The estimator that was saved to `file`, which answers every question as it did.

    backend  "numpy", "cupy" or "auto", where its arrays are to live; None: where they lived
    dtype    "float64" or "float32"; None: as it was
    parts    {name: class or function} of what is not of this package: classes of your own likelihoods,
             layers, posteriors, optimisers, of an estimator that inherits from one, and functions, such as a
             learning rate of your own.
             Nothing in a file is ever executed, so they are handed in: parts={"Laplace": Laplace}

    Raises `store.FileError`, a ValueError, where the file is damaged, cut off, of a later version or none of
    ours, or has parts of its own that were not given; OSError where it cannot be read; BackendError where its
    backend cannot be had, and ValueError where the estimator has no other.
    """
    values = store.read(file, PARTS, parts, only=("class", "own class", "parameters", "fitted"))
    if not values:
        raise store.FileError(f"{file} was kept beside an estimator and holds none: load another file")
    return restored(file, values, parts, backend, dtype)


def restored(file, values, parts=None, backend=None, dtype=None):
    """The estimator of the values that `store.read` found in a file. The rest as for `load`."""
    own = "own class" in values
    name = values["own class"] if own else values.get("class")
    cls = dict(parts or {}).get(name) if own else _estimator(name)
    if cls is None:
        raise store.FileError(
            f"{file} has an estimator of a class {name!r}, which is not of this package"
            + (f": hand it in, parts={{{name!r}: {name}}}" if own else "")
        )
    if not (isinstance(cls, type) and hasattr(cls, "_parameter_names")):  # calling it might do anything
        raise store.FileError(f"{file} has an estimator of a class {name!r}, and {cls!r} is no such class")
    try:
        estimator = cls(**values["parameters"])
        fitted = dict(values["fitted"])
    except (KeyError, TypeError, ValueError) as error:
        raise store.FileError(f"{file} has no {name} that this version knows ({error})") from error
    forbidden = [known for known in fitted if not known.isidentifier() or hasattr(cls, known)]
    if forbidden:
        raise store.FileError(f"{file} has {forbidden} among what was learnt, which no {name} learns")
    vars(estimator).update(fitted)
    if "backend_" not in fitted:                                   # not fitted: nothing is anywhere
        return estimator
    try:
        was, precision = fitted["backend_"]
        estimator.backend_ = get_backend("numpy", precision)
    except (TypeError, ValueError) as error:
        raise store.FileError(f"{file} does not say where its arrays lived ({error})") from error
    if backend is None and was not in ("numpy", "cupy"):
        raise store.FileError(f"{file} was saved on {was!r}, which cannot be had by name: give backend=")
    try:
        wanted = get_backend(was if backend is None else backend, precision if dtype is None else dtype)
    except BackendError as error:
        raise BackendError(f"{file} was saved on {was!r}. {error}: load(file, backend='numpy')") from error
    if wanted != estimator.backend_:
        estimator._move(wanted)
        estimator.backend_ = wanted
    for parameter, value in (("backend", backend), ("dtype", dtype)):
        if value is not None and parameter in values["parameters"]:
            setattr(estimator, parameter, value)
    return estimator


def _estimator(name):
    """The class of this package by its name, or None."""
    return getattr(import_module(__package__.partition(".")[0]), name) if name in ESTIMATORS else None
