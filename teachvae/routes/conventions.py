"""What all estimators share: parameters by name, checked data, and what can be asked of any code z.

`Estimator` follows scikit-learn's conventions by duck typing.
"""

from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import wraps
import inspect
import textwrap
import warnings

import numpy as np

from ..arrays import workers
from ..arrays.backend import get_backend
from ..arrays.rows import float_type
from ..doors.columns import Cases, Columns, Table
from ..doors.validate import check_data, check_jobs, check_size
from ..messages import column_names, shorten
from ..networks.training import TrainingError
from . import persistence


class NotFittedError(ValueError, AttributeError):
    """A fitted estimator was needed; call fit first."""


def option(default, doc):
    """A hyper-parameter of a class under `estimator`: its default, and what it is, for the class's docstring.
    """
    return field(default=default, metadata={"doc": doc})


# What several estimators say of a hyper-parameter, in the same words.
ACTIVATION = '"tanh", "relu", "sigmoid" or "softplus", or a layer of your own that keeps the width'
LIKELIHOOD = (
    '"gaussian", "student-t" (outliers), "bernoulli" (0 and 1), "categorical" (columns of categories, '
    'any numbers), "poisson" (counts), "gaussian-predicted" (variances from the decoder, above a '
    'floor: noise, 1e-4 where "diagonal"), "bernoulli-relaxed" (grey values; not a likelihood), an '
    "object of `likelihoods` (`Categories` names all categories, seen in training or not), or, for "
    "columns that differ in kind, a list of (likelihood, columns), columns by name or number"
)
NOISE = 'Ψ of a Gaussian likelihood: "diagonal", "isotropic", or a fixed variance'
CONSTANT = '"error", or "drop": what becomes of constant columns under a learnt diagonal Ψ'
POSTERIOR = 'the family of q: "diagonal" (mean field) or "full", or an object for this K'
BACKEND = 'where arrays live: "numpy", "cupy", or "auto"'
DTYPE = '"float64" or "float32"; None: that of the data, or float64'
SEED = (
    "seed of all that is drawn: an integer, None, a numpy.random.Generator, RandomState or "
    "SeedSequence"
)
N_JOBS = (
    "threads that share the blocks of data cases in E-steps and in what is asked of the fitted model, BLAS "
    "using one in each: any number gives the same bits; -1: as many as there are cores. None: no threads, "
    "BLAS as it is. On a GPU, leave it at None"
)
COMM = (
    'None, or `ranks.comm("mpi")`: the data cases lie on several machines, every rank calls fit with those '
    "of its own, and all end with the parameters of one fit to all. A question afterwards is about the data "
    "cases that are given with it, on that rank alone"
)
EM_BACKEND = 'where EM runs, always in float64: "numpy", "cupy", or "auto"'
EM_DTYPE = 'of what comes out: "float64" or "float32"; None: that of the data, or float64'


def estimator(cls):
    """Class decorator: every `option` becomes a keyword argument of __init__, an attribute, stored as given,
    and a line where the docstring says {options}.
    """
    cls = dataclass(eq=False, repr=False)(cls)
    options = [one for one in fields(cls) if "doc" in one.metadata]
    width = max(len(one.name) for one in options) + 2
    lines = [
        textwrap.fill(
            f"{one.name:{width}}{one.metadata['doc']}", 110, initial_indent=4 * " ",
            subsequent_indent=(4 + width) * " ",
        )
        for one in options
    ]
    if cls.__doc__ is not None:                                    # python -OO leaves none
        cls.__doc__ = cls.__doc__.replace("    {options}", "\n".join(lines))
    return cls


def in_threads(method):
    """Method decorator: `workers.threads` as many as the estimator's n_jobs share what the method does."""
    @wraps(method)
    def shared(self, *args, **kwargs):
        check_jobs("n_jobs", self.n_jobs)
        with workers.threads(self.n_jobs):
            return method(self, *args, **kwargs)

    return shared


def tell(progress, step, steps, value, now):
    """Call progress(step, steps, value), where one is given; whether it returned True, so that training ends.

    One with a parameter called now is handed now, a function that returns the estimator as it stands.
    """
    if progress is None:
        return False
    try:
        now_ = inspect.signature(progress).parameters.get("now")
        asks = now_ is not None and now_.kind not in (now_.VAR_POSITIONAL, now_.VAR_KEYWORD)
    except ValueError:                                             # some builtins do not say what they take
        asks = False
    told = progress(step, steps, value, now=now) if asks else progress(step, steps, value)
    return isinstance(told, (bool, np.bool_)) and bool(told)


def agreed(comm, progress):
    """`tell` for the same training on every rank of comm: it ends on all where it was told to on any of them.

    Returns tell, or None where no rank has a progress to be called.
    """
    if not any(comm.gather(progress is not None)):
        return None
    return lambda *what: any(comm.gather(tell(progress, *what)))


@contextmanager
def leaving(finish, done, unit):
    """A training that leaves an estimator as it stands after the last whole epoch, should it diverge or be
    interrupted by Ctrl-C.

    finish  () → makes the estimator;  done  () → how many steps are whole;  unit  their name, as in "epoch"
    A TrainingError says that the estimator was finished so, or that there was no whole epoch.
    """
    try:
        yield
    except (KeyboardInterrupt, OSError):                           # the latter: a checkpoint's disk is full
        if done():
            quietly(finish)
        raise
    except TrainingError as error:
        if not done():
            raise TrainingError(f"{error}. No {unit} was finished, the estimator is as it was") from error
        quietly(finish)
        raise TrainingError(
            f"{error}. The estimator holds the model as it stood after {unit} {done()}"
        ) from error


@contextmanager
def leaving_last(estimator, stood, saved):
    """EM that leaves an estimator as it stood after the last iteration whose Q was finite, should it diverge;
    and should it be interrupted, as it stood after the last one that its `Checkpoint` saved knows.

    stood  what the TrainingError has as its last, or the checkpoint → a fitted copy of the estimator
    """
    try:
        yield
    except (KeyboardInterrupt, OSError):
        if saved.state is not None:
            vars(estimator).update(vars(stood(saved.state)))
        raise
    except TrainingError as error:
        if error.last is None:
            raise TrainingError(f"{error}. No iteration was finished, the estimator is as it was") from error
        vars(estimator).update(vars(stood(error.last)))
        raise TrainingError(f"{error}. The estimator holds the model of the iteration before") from error


def quietly(function, *arguments):
    """function(*arguments), whose warnings are for another time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*arguments)


class Estimator:
    """Hyper-parameters as keyword arguments, stored as given; get_params, set_params, repr."""

    @classmethod
    def _parameter_names(cls):
        return list(inspect.signature(cls.__init__).parameters)[1:]

    def get_params(self, deep=True):
        """The hyper-parameters, {name: value}."""
        return {name: getattr(self, name) for name in self._parameter_names()}

    def set_params(self, **params):
        """Change hyper-parameters by name; returns self. Raises ValueError for an unknown name."""
        known = self._parameter_names()
        for name in params:
            if name not in known:
                raise ValueError(
                    f"{type(self).__name__} has no parameter {name!r}; it has {', '.join(known)}"
                )
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def save(self, file):
        """Write the estimator to `file`, an .npz without a pickle; `teachvae.load` has it back.

        It is written beside `file` under another name and then renamed: whatever happens, there is the old
        file or the new one. The data are not in it, only what was learnt of them, and no `comm`. Raises
        TypeError for a part that has no place in a file, such as a lambda, and OSError where `file` cannot be
        written.
        """
        persistence.save(self, file)

    def _move(self, backend):
        """Take what was fitted to another `Backend`; a subclass that can live on several says how."""
        raise ValueError(f"a {type(self).__name__} lives on NumPy in float64: give neither backend nor dtype")

    def __repr__(self):
        signature = inspect.signature(type(self).__init__).parameters
        changed = [
            f"{name}={value!r}"
            for name, value in self.get_params().items()
            if not (signature[name].default is value or repr(signature[name].default) == repr(value))
        ]
        return f"{type(self).__name__}({', '.join(changed)})"

    def __sklearn_tags__(self):
        """What scikit-learn's tools ask of an estimator; it is imported only if they do."""
        from sklearn.utils import InputTags, Tags, TargetTags

        return Tags(
            estimator_type=None, target_tags=TargetTags(required=False), input_tags=InputTags()
        )

    def _require_fit(self):
        if not hasattr(self, "n_features_in_"):
            raise NotFittedError(
                f"this {type(self).__name__} is not fitted yet: call fit(X) before asking it anything"
            )

    @property
    def _held(self):
        """The dtype asked for; None: that of the data, or float64."""
        return None if self.dtype is None else get_backend("numpy", self.dtype).dtype

    def _backend_for(self, dtype):
        """The backend asked for, in the dtype asked for (dtype=None: that of the data, or float64)."""
        return get_backend(self.backend, self.dtype if self.dtype is not None else float_type(dtype))

    def _table(self, X, missing=False):
        """New data X (N, D) on the host, checked against what was fitted; with `missing`, NaN is let in."""
        self._require_fit()
        x, names = check_data(X, missing=missing, dtype=self.backend_.dtype)
        expected = self.n_features_in_
        if x.shape[1] != expected:
            raise ValueError(
                f"X has {x.shape[1]} features, but {type(self).__name__} is expecting {expected} "
                "features as input: give the columns that it was fitted on"
            )
        fitted = getattr(self, "feature_names_in_", None)
        if fitted is not None and names is not None and list(names) != list(fitted):
            raise ValueError(
                "the feature names should match those that were passed during fit: expected "
                f"{shorten(list(fitted))}, got {shorten(list(names))}"
            )
        return x

    def _cases(self, X, backend=None, **units):
        """New data X (N, D), checked, as `Cases` on the fitted backend, or on another one."""
        x = self._table(X)
        plain = Table(x, Columns(column_names(None, x.shape[1])))
        return Cases(plain, self.backend_ if backend is None else backend, **units)

    _width = "K"                                                   # of a code z

    def _latent_input(self, Z):
        """Latent points Z (N, K), checked, on the host."""
        self._require_fit()
        z, _ = check_data(Z, name="Z")
        if z.shape[1] != self._n_latent:
            raise ValueError(
                f"Z has {z.shape[1]} columns, but this {type(self).__name__} was fitted with "
                f"{self._width} = {self._n_latent}: give one column per latent variable"
            )
        return z

    def _keep(self, backend, names, n_visible):
        """The last lines of every fit: from here on the estimator counts as fitted."""
        self.backend_ = backend
        if names is not None:
            self.feature_names_in_ = np.asarray(names, dtype=object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        self.n_features_in_ = n_visible


class Transformer(Estimator):
    """An estimator that turns data into something else: a subclass has transform(X)."""

    def fit_transform(self, X, y=None):
        """fit(X), then transform(X): (N, K)."""
        return self.fit(X).transform(X)

    def active_units(self, X, threshold=0.01):
        """Which latent variables the data move: Var_n of `transform`'s columns above threshold, (K,) bool.

        The statistic of Burda et al. (2016). A collapsed unit's mean stays at 0, whatever x is
        (10.10). It looks at one axis at a time: a rotation of z, to which p(x) may be blind, changes it
        (10.8).
        """
        return self.transform(X).var(axis=0, dtype="float64") > threshold

    def __sklearn_tags__(self):
        """Those of a transformer."""
        from sklearn.utils import TransformerTags

        tags = super().__sklearn_tags__()
        tags.transformer_tags = TransformerTags()
        return tags


class LatentCode(Transformer):
    """What every model with a code z for x can be asked: a subclass has transform(X) and decode(Z)."""

    def get_feature_names_out(self, input_features=None):
        """Names (K,) of `transform`'s columns, the class's name and a number, as scikit-learn gives them."""
        self._require_fit()
        return np.array([f"{type(self).__name__.lower()}{k}" for k in range(self._n_latent)], dtype=object)

    def reconstruct(self, X):
        """decode(transform(X)), (N, D)."""
        return self.decode(self.transform(X))

    def interpolate(self, a, b, n_steps=8):
        """decode on the straight line between the codes of data cases a and b, each (D,): (n_steps, D)."""
        check_size("n_steps", n_steps, 2)
        a, b = np.asarray(a), np.asarray(b)
        if a.ndim != 1 or a.shape != b.shape:
            raise ValueError(
                f"interpolate takes two data cases, each (D,), got shapes {a.shape} and {b.shape}: give rows "
                "such as X[0] and X[1]"
            )
        a, b = self.transform(np.stack([a, b]))
        t = np.linspace(0, 1, n_steps, dtype=a.dtype)[:, None]
        return self.decode((1 - t) * a + t * b)
