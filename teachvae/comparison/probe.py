"""How much of a label a representation holds, read off by a linear map.

`LinearProbe` is multinomial logistic regression on codes of any origin. It has no hidden layer, so what
it reads lies open in the codes: what would need a bend to be seen counts for nothing. It computes in float64.

Equations (8.x) are in derivations/equations.md.
"""

from dataclasses import KW_ONLY
from numbers import Number

import numpy as np

from ..arrays.backend import get_backend, namespace, to_numpy
from ..arrays.rows import as_floats, collect, extremes, mean_and_variance
from ..arrays.special import log_softmax
from ..doors.validate import check_data, check_positive, check_size
from ..messages import shorten, warn
from ..networks.convergence import ConvergenceWarning
from ..networks.layers import Linear
from ..networks.training import Run, full_batch
from ..routes.conventions import Estimator, estimator, option


def cross_entropy(layer, params, z, onehot, penalty):
    """Mean −log p(y_n|z_n) + λ/2 ‖W‖² in nats per data case, and its gradient, shaped like params.

    layer, params  Linear(K, C) and its {"W": (K, C), "b": (C,)}; b is not penalised
    z, onehot      (N, K) codes; (N, C), 1 in the column of the data case's label, else 0
    penalty        λ
    """
    xp = namespace(z)
    N, W = z.shape[0], params["W"]
    logits, cache = layer.forward(params, z)                       # (N, C)
    log_p = log_softmax(logits)                                    # (N, C)
    loss = -xp.sum(onehot * log_p) / N + 0.5 * penalty * xp.sum(W * W)                       # (8.3)
    dlogits = (xp.exp(log_p) - onehot) / N                         # (N, C)                    (8.4)
    _, grads = layer.backward(params, cache, dlogits, need_dx=False)
    return loss, {"W": grads["W"] + penalty * W, "b": grads["b"]}  #                           (8.4)


def check_labels(y, n_cases):
    """Labels y as a host array (N,). Raises TypeError or ValueError where they cannot be N labels."""
    if isinstance(y, np.ma.MaskedArray):
        raise TypeError(
            "a masked array was given as y, an array without a mask is expected: drop the data cases "
            "that have no label"
        )
    labels = to_numpy(y)
    if labels.ndim != 1:
        raise ValueError(
            f"y has shape {labels.shape}, one label per data case is expected, (N,): give y.ravel() for "
            "one column, y.argmax(axis=1) for one column per class"
        )
    if len(labels) != n_cases:
        raise ValueError(f"Z has {n_cases} data cases, but y has {len(labels)} labels: give one for each")
    try:
        missing = np.flatnonzero(labels != labels)                 # NaN alone differs from itself
        np.unique(labels)
    except TypeError as error:
        raise TypeError(
            f"the labels y cannot be sorted ({error}): give labels of one kind, all text or all numbers, "
            "and drop the data cases that have none"
        ) from error
    if len(missing):
        raise ValueError(
            f"y has {len(missing)} NaN entries, the first in place {missing[0]}; a label for every data "
            "case is expected: drop those data cases"
        )
    return labels


def check_classes(labels):
    """Raise ValueError where labels (N,) are measurements, most of them different, and not classes."""
    classes = np.unique(labels)
    if classes.dtype.kind == "f" and (classes != np.rint(classes)).any() and 2 * len(classes) > len(labels):
        between = classes[classes != np.rint(classes)][0].item()
        raise ValueError(
            f"Unknown label type: continuous. y holds numbers such as {between:g}, the label of a class "
            "is expected: cut y into classes, e.g. y > np.median(y)"
        )


def kind_of(labels):
    """What labels (N,) are, in a word: numbers, fractions with their precision, text, times, …"""
    kind, first = labels.dtype.kind, labels.tolist()[0]
    if kind == "f" and (labels != np.rint(labels)).any():
        return f"fractions in {labels.dtype}"
    if kind in "biuf" or (kind == "O" and isinstance(first, Number)):
        return "numbers"
    words = {"M": "times", "m": "durations"}
    return words.get(kind, "text" if isinstance(first, str) else type(first).__name__)


@estimator
class LinearProbe(Estimator):
    """p(y|z) = softmax(z̃ W + b): what a linear map can read of a label y off codes z.

    {options}

    z̃ are the codes in units of the training codes: each column minus its mean, over its spread. So
    neither a shift nor a scale of a column changes what is read. A rotation does, by way of λ alone.

    After fit: classes_ (C,), sorted; params_ {"W": (K, C), "b": (C,)}, for z̃; mean_ and scale_ (K,) of
    the codes, where scale_ is 1 for a constant column; loss_path_, (8.3) after each iteration;
    converged_.
    """

    _: KW_ONLY
    penalty: float = option(
        1e-3,
        "λ > 0, weight decay in nats per data case (8.3). Where classes can be separated there is no "
        "minimum without it",
    )
    tol: float = option(
        1e-10,
        "L-BFGS ends where a step gains less than tol · max(loss, 1) nats per data case or no slope is "
        "above tol",
    )
    max_iter: int = option(1000, "… at the latest after so many iterations; ending there warns")

    def fit(self, Z, y):
        """Fit to codes Z (N, K) and labels y (N,) of any kind that can be sorted. Returns self.

        Raises ValueError or TypeError for codes or labels that cannot be fitted.
        """
        z, names = check_data(Z, minimum_rows=2, name="Z")
        N, K = z.shape
        labels = check_labels(y, N)
        check_positive("penalty", self.penalty)
        check_positive("tol", self.tol)
        check_size("max_iter", self.max_iter)
        classes, places = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(
                f"all {N} labels are {classes.tolist()[0]!r}; at least two classes are expected: there is "
                "nothing to tell apart"
            )
        check_classes(labels)
        backend = get_backend("numpy", "float64")
        mean, variance = mean_and_variance(z)
        largest = np.max(np.abs(extremes(z)), axis=0)
        # What rounding leaves of a constant column must not be blown up to a spread of 1.
        scale = np.where(np.sqrt(variance) > 1e-13 * largest, np.sqrt(variance), 1.0)
        layer, onehot = Linear(K, len(classes)), np.eye(len(classes))

        def objective(params, rows):
            standard = (as_floats(z[rows]) - mean) / scale
            return cross_entropy(layer, params, standard, onehot[places[rows]], self.penalty)

        # The loss is convex, so any start ends in the one minimum; from 0, Σ_c b_c stays 0.
        start = {"W": backend.zeros((K, len(classes))), "b": backend.zeros((len(classes),))}
        training = Run(start)
        converged = full_batch(objective, training, N, max_iter=self.max_iter, tol=self.tol)
        if not converged:
            warn(
                f"L-BFGS stopped after {len(training.path)} iterations, before it reached tol={self.tol}: "
                f"raise max_iter={self.max_iter}, tol or penalty",
                ConvergenceWarning,
            )
        self.classes_, self.mean_, self.scale_ = classes, mean, scale
        self.layer_, self.params_ = layer, training.params
        self.loss_path_, self.converged_ = np.array(training.path), converged
        self._keep(backend, names, K)
        return self

    def predict_log_proba(self, Z):
        """log p(y=c|z_n) for the classes of classes_: (N, C), in nats."""
        z = self._latent_input(Z)
        self._table(Z)                                             # the columns' names, where Z has any

        def log_p(rows):
            logits, _ = self.layer_.forward(self.params_, (as_floats(z[rows]) - self.mean_) / self.scale_)
            return log_softmax(logits)

        return collect(len(z), log_p)

    def predict(self, Z):
        """The most probable label of each data case, (N,)."""
        log_p = self.predict_log_proba(Z)
        return self.classes_[log_p.argmax(axis=1)]

    def score(self, Z, y):
        """Accuracy: the share of data cases whose label y (N,) is predicted. An unseen label never is.

        Raises ValueError where no label of y is one of classes_ and y is of another kind, text for numbers.
        """
        predicted = self.predict(Z)
        labels = check_labels(y, len(predicted))
        kind, known = kind_of(labels), kind_of(self.classes_)
        if kind != known and not set(labels.tolist()) & set(self.classes_.tolist()):
            raise ValueError(
                f"y holds {kind}, first {labels.tolist()[0]!r}, and none of the classes that were fitted, "
                f"which are {known}: {shorten(self.classes_.tolist())}; give y of the kind that fit was given"
            )
        return float(np.mean(predicted == labels))

    @property
    def _n_latent(self):
        return self.layer_.n_in

    def __sklearn_tags__(self):
        """A classifier's, so that scikit-learn's cross-validation keeps the classes' shares."""
        from sklearn.utils import ClassifierTags

        tags = super().__sklearn_tags__()
        tags.estimator_type, tags.classifier_tags = "classifier", ClassifierTags()
        tags.target_tags.required = True
        return tags
