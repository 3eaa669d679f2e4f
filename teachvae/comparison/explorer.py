"""The latent explorer: one HTML page to play with fitted models of K = 2 on, data case by data case.

The page holds the models' parameters, some data cases and plain JavaScript, and asks for nothing from
elsewhere. What it computes, the decoder, Q, the E-step, NLML and the ledger, stands in `explorer_model.js`,
function by function as in this package; `explorer.js` draws it, `explorer.html` and `explorer.css` are its
skeleton.
"""

import base64
from dataclasses import replace
from html import escape
from importlib.resources import files
import json
import os
from pathlib import Path
import re

import numpy as np

from .. import datasets
from ..arrays import store, tree
from ..arrays.backend import double, to_numpy
from ..inference.expectations import ORDERS
from ..likelihoods import Bernoulli, Gaussian
from ..model import Model
from ..networks.layers import ACTIVATIONS, Linear, Parallel, Sequential
from ..plots import COLOURS
from ..posteriors import DiagonalGaussian, FullGaussian
from ..posteriors.nodes import gauss_hermite
from ..routes import persistence
from ..routes.questions import LatentVariableModel
from .models import ENTRIES

CASES = 200                            # data cases that a page holds, at the most
FAMILIES = {DiagonalGaussian: "diagonal", FullGaussian: "full"}
LIKELIHOODS = {Gaussian: "gaussian", Bernoulli: "bernoulli"}
ROUTES = ("fa", "vem", "vae")       # of a comparison, by their keys
COARSE = 5                             # nodes per dimension on which an E-step looks around


def opened(paths, data=None):
    """The models {title: estimator} of saved files, or of a folder of `compare --save`, and the data to show.

    paths  of .npz files, or of such a folder: factor analysis, variational EM and the VAE of its first seed
    data   what `datasets.load` takes; None: what was held out of the folder, else the digits. Where a model
           takes 0 and 1 alone, images are cut at one half

    Raises ValueError and OSError as `teachvae.load` and `datasets.load` do, and where a folder has no split.
    """
    models, split = {}, None
    for path in map(Path, paths):
        entries = {None: path}
        if path.is_dir():
            names = sorted(path.glob("seed*/split.npz"), key=lambda file: file.parent.name)
            seeds = sorted(names, key=lambda file: len(file.parent.name))  # seed2 before seed10
            if not seeds:
                raise ValueError(
                    f"{path} is no folder of `teachvae compare --save FOLDER`: give that, or .npz files"
                )
            split = seeds[0]
            entries = {
                entry: split.with_name(f"{entry.key}.npz") for entry in ENTRIES if entry.key in ROUTES
            }
        for entry, file in entries.items():
            if entry is not None and not file.exists():
                continue                                           # the data refused this model
            estimator = persistence.load(file, backend="numpy")
            title = type(estimator).__name__ if entry is None else entry.label
            models[title if title not in models else f"{title}, {file.stem}"] = estimator
    binary = any(
        isinstance(getattr(one, "model_", None), Model) and type(one.model_.likelihood) is Bernoulli
        for one in models.values()
    )
    dataset = _loaded("digits" if data is None else data, binary)
    if split is not None:
        return models, _held_out(split, dataset, binary, data is not None)
    return models, datasets.binarised(dataset, "threshold") if binary and dataset.image_shape else dataset


def _loaded(name, binary):
    """The data set of a name or path; images with their grey values where they are to be made 0 and 1."""
    images = name in ("digits", "mnist") or Path(name).is_dir()
    return datasets.load(name, **({"dequantise": False} if binary and images else {}))


def _held_out(split, whole, binary, named):
    """What was held out of a comparison, from its split.npz: as a part of the data set `whole` where it is
    one, so that images have their shape. named: the user says that it is.
    """
    values = store.read(split)
    x, labels, rows = (values[f"held_out_{what}"] for what in ("x", "labels", "rows"))
    known = {str(name): place for place, name in enumerate(whole.row_names)}
    places = [known.get(str(row)) for row in rows]
    if None not in places and x.shape[1] == whole.x.shape[1]:
        own = whole.x[places]
        may_be = ((x == 0) | (own > 0)).all() and ((x == 1) | (own < 1)).all()  # 0 and 1 drawn of grey values
        if may_be if binary else np.array_equal(own, x, equal_nan=True):
            levels = None if binary else whole.levels
            return replace(whole, x=x, labels=labels, rows=rows, truth=None, levels=levels)
    if named:
        raise ValueError(
            f"{split} holds other data than {whole.name}: give the data of the comparison, or none"
        )
    return datasets.Dataset(x, "held-out data", "", str(split), labels=labels, rows=rows, missing=True)


def write(models, dataset, path, *, cases=CASES):
    """Write the page to `path`, and return that. It is written beside and moved there: no half page is found.

    The rest as for `page`. Raises OSError where it cannot be written.
    """
    path = Path(path)
    text = page(models, dataset, cases=cases)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def page(models, dataset, *, cases=CASES):
    """The explorer as the text of an HTML page of its own; models and dataset as for `section`."""
    title = escape(f"teachvae explorer: {dataset.name}")
    headed = section(models, dataset, cases=cases).replace("<h3>", "<h2>").replace("</h3>", "</h2>")
    return (
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<title>{title}</title></head>\n<body class=explorer-page>\n"
        f"<h1>{escape(dataset.name)}: a model, its q and its posterior</h1>\n"
        f"{headed}\n</body></html>\n"
    )


def section(models, dataset, *, cases=CASES, phi=None):
    """The explorer as a piece of HTML, with its style, its data and its script.

    models   {what to call it: fitted estimator}, each of which `refusal` lets through
    dataset  a `datasets.Dataset`; its first complete data cases are shown
    cases    how many of them, at the most
    phi      {title: (N, n_phi)} of all data cases, where it is known; None: what each model says

    Raises ValueError where a model is refused, where no data case is complete, and where the data do not have
    the model's columns.
    """
    data = json.dumps(exported(models, dataset, cases, phi), separators=(",", ":")).replace("<", "\\u003c")
    parts = {
        "style": packaged("explorer.css"), "data": data, "model": packaged("explorer_model.js"),
        "script": packaged("explorer.js"),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], packaged("explorer.html"))


def refusal(estimator):
    """Why the explorer cannot show an estimator, a sentence, or None where it can."""
    name = type(estimator).__name__
    if not isinstance(estimator, LatentVariableModel) or not hasattr(estimator, "model_"):
        return f"{name} has no q(z|φ_n) over two latent variables to be shown, or is not fitted"
    model = estimator.model_
    if model.n_latent != 2:
        return f"the latent plane has two axes, and this {name} has K = {model.n_latent}"
    likelihood = model.likelihood
    if type(likelihood) not in LIKELIHOODS or not likelihood.normalised:
        return (
            f"the page computes the Gaussian and the Bernoulli likelihood, and this {name} has "
            f"{type(likelihood).__name__}{'' if likelihood.normalised else ', relaxed: not a likelihood'}"
        )
    if type(model.posterior) not in FAMILIES:
        return f"the page draws Gaussian q, and this {name} has a {type(model.posterior).__name__}"
    try:
        layers = _layers(model.decoder, estimator.theta_["decoder"])
        if hasattr(estimator, "recognition_"):
            _branches(estimator.recognition_, estimator.recognition_params_)
    except TypeError as error:
        return str(error)
    return None if "W" in layers[-1] else "the page needs a decoder whose last layer is Linear"


def exported(models, dataset, cases=CASES, phi=None):
    """What the page is handed: a dict of plain numbers, strings and lists, arrays as `_packed`."""
    refused = {title: refusal(estimator) for title, estimator in models.items()}
    words = [f"{title}: {why}" for title, why in refused.items() if why]
    if words or not models:
        raise ValueError("; ".join(words) or "there is no model to explore: give one at least")
    rows = np.flatnonzero(~np.isnan(dataset.x).any(axis=1))[:cases]
    if not len(rows):
        raise ValueError(f"{dataset.name} has no complete data case: the explorer shows complete ones")
    x = np.ascontiguousarray(dataset.x[rows], dtype="float64")
    low, high = dataset.range or (float(x.min()), float(x.max()))
    labels = None if dataset.labels is None else [str(label) for label in dataset.labels[rows]]
    rules = {COARSE, *ORDERS[2]}
    return {
        "name": dataset.name,
        "x": _packed(x),
        "rows": [str(name) for name in dataset.row_names[rows]],
        "labels": labels,
        "columns": None if dataset.columns is None else [str(name) for name in dataset.columns],
        "shape": None if dataset.image_shape is None else [int(n) for n in dataset.image_shape],
        "limits": [low, high],
        "levels": dataset.levels,
        "ink": bool(dataset.ink),
        "colours": list(COLOURS),
        "rules": {order: [_packed(part) for part in _rule(order)] for order in sorted(rules)},
        "models": [
            {"title": title, **_model(estimator, x, None if phi is None else phi[title][rows])}
            for title, estimator in models.items()
        ],
    }


def _model(estimator, x, phi):
    """The parameters of an estimator, and its φ of the data cases x (N, D), phi where that is not None."""
    model, theta = estimator.model_, _exact(estimator.theta_, estimator.theta_rest_)
    likelihood, psi = {"name": LIKELIHOODS[type(model.likelihood)]}, None
    decoder = _layers(model.decoder, theta["decoder"])
    if isinstance(model.likelihood, Gaussian):
        psi = model.likelihood.psi(theta["likelihood"], like=decoder[-1]["b"])
        likelihood["psi"] = _packed(psi)
    network = None
    if hasattr(estimator, "recognition_"):
        params = _exact(estimator.recognition_params_, estimator.encoder_rest_)
        network = _branches(estimator.recognition_, params)
    columns = estimator.columns_
    if phi is None:
        phi = (getattr(estimator, "encode", None) or estimator.infer)(x)
    return {
        "route": "network" if network else "table" if hasattr(estimator, "hidden") else "closed form",
        "decoder": _packed_layers(decoder),
        "recognition": network and [_packed_layers(branch) for branch in network],
        "masked": bool(columns.masked),
        "likelihood": likelihood,
        "posterior": FAMILIES[type(model.posterior)],
        "phi": _packed(phi),
        "dropped": {int(place): float(value) for place, value in columns.dropped.items()},
    }


def _exact(kept, rest):
    """Parameters in float64 on the host, with what rounding took off them when they were kept."""
    return tree.map(lambda k, r: to_numpy(double(k)) + to_numpy(r), kept, rest)


def _layers(network, params):
    """The layers of a network one after the other, each {"W", "b"} or {"name"}; TypeError for others."""
    if type(network) is Sequential:
        return [layer for part, p in zip(network.layers, params) for layer in _layers(part, p)]
    if type(network) is Linear:
        return [{"W": params["W"], "b": params["b"]}]
    for name, kind in ACTIVATIONS.items():
        if type(network) is kind:
            return [{"name": name}]
    raise TypeError(f"the page knows Linear, {', '.join(ACTIVATIONS)}, and not {type(network).__name__}")


def _branches(network, params):
    """The networks that a recognition network holds side by side, each a list of layers."""
    if type(network) is Parallel:
        return [_layers(branch, p) for branch, p in zip(network.branches, params)]
    return [_layers(network, params)]


def _packed_layers(layers):
    return [
        layer if "name" in layer else {name: _packed(part) for name, part in layer.items()}
        for layer in layers
    ]


def _rule(order):
    """Nodes and weights (order,) of the one-dimensional Gauss–Hermite rule."""
    eta, weights = gauss_hermite(1, order)
    return eta[:, 0, 0], weights


def _packed(array):
    """The numbers of an array, row after row, as base64 of float64, least byte first: nothing is rounded."""
    return base64.b64encode(np.ascontiguousarray(to_numpy(array), dtype="<f8").tobytes()).decode("ascii")


def packaged(name):
    """The text of a file that lies beside this one."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
