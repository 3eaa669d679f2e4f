"""What all estimators share: parameters by name, checked data, and the questions a model answers.

`Estimator` follows scikit-learn's conventions by duck typing. `LatentVariableModel` adds everything
that can be asked of a fitted p(x, z): bound, nlml, transform, decode, reconstruct, sample, score. A
route (factor analysis, variational EM, VAE) adds only how it is fitted and who fills φ in.
"""

import inspect
import numbers
import warnings

import numpy as np

from . import bound, infer, linear_gaussian, nlml, noise, tree
from .backend import get_backend, namespace, to_numpy
from .layers import Linear, Parallel, Sequential
from .likelihoods import LIKELIHOODS, Gaussian, shorten


class NotFittedError(ValueError, AttributeError):
    """A fitted estimator was needed; call fit first."""


class ConvergenceWarning(UserWarning):
    """A search stopped before it reached its tolerance."""


class HeywoodWarning(UserWarning):
    """A noise variance ran down to its floor: the data cannot tell it from 0."""


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

    def __repr__(self):
        signature = inspect.signature(type(self).__init__).parameters
        changed = [
            f"{name}={value!r}"
            for name, value in self.get_params().items()
            if not (signature[name].default is value or repr(signature[name].default) == repr(value))
        ]
        return f"{type(self).__name__}({', '.join(changed)})"

    def fit_transform(self, X, y=None):
        """fit(X), then transform(X): (N, K)."""
        return self.fit(X).transform(X)

    def _require_fit(self):
        if not hasattr(self, "n_features_in_"):
            raise NotFittedError(
                f"this {type(self).__name__} is not fitted yet: call fit(X) before asking it anything"
            )

    def _backend_for(self, dtype):
        """The backend asked for, in the dtype asked for (dtype=None: that of the data)."""
        return get_backend(self.backend, self.dtype if self.dtype is not None else dtype)

    def _input(self, X):
        """New data X (N, D), checked against what was fitted, as an array of the fitted backend."""
        self._require_fit()
        x, names = check_data(X)
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
        return self.backend_.asarray(x)

    def _latent_input(self, Z):
        """Latent points Z (N, K), checked, as an array of the fitted backend."""
        self._require_fit()
        z, _ = check_data(Z, name="Z")
        if z.shape[1] != self._n_latent:
            raise ValueError(
                f"Z has {z.shape[1]} columns, but this {type(self).__name__} was fitted with K = "
                f"{self._n_latent}: give one column per latent variable"
            )
        return self.backend_.asarray(z)

    def _keep(self, backend, names, n_visible):
        """The last lines of every fit: from here on the estimator counts as fitted."""
        self.backend_ = backend
        if names is not None:
            self.feature_names_in_ = np.asarray(names, dtype=object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        self.n_features_in_ = n_visible


class LatentVariableModel(Estimator):
    """The questions that every fitted p(x, z) answers, whichever route filled φ in.

    A subclass sets model_, theta_ and backend_ in fit, and gives `_phi(x)`: the parameters of
    q(z|φ_n) for data on the backend, (N, n_phi). Everything comes back as NumPy arrays.
    """

    @property
    def _n_latent(self):
        """The K that was fitted, whatever n_components has been set to since."""
        return self.model_.n_latent

    def bound(self, X, *, phi=None, n_samples=None, random_state=None):
        """Q_n ≥ −log p(x_n), the bound at the model's own φ, per data case: (N,), in nats.

        phi           (N, n_phi) to be used instead of the model's own
        n_samples     None: quadrature where it is exact or as good as exact (the closed form for a
                      linear-Gaussian model, Gauss–Hermite nodes for K ≤ 2), else 256 draws;
                      a number: that many random draws, the same for all data cases
        random_state  seed of the draws
        """
        if n_samples is not None:
            check_size("n_samples", n_samples)
        x = self._input(X)
        phi = self._phi(x) if phi is None else self.backend_.asarray(phi)
        if phi.shape != (x.shape[0], self.model_.posterior.n_phi):
            raise ValueError(
                f"phi must have shape {(x.shape[0], self.model_.posterior.n_phi)}, got {phi.shape}"
            )
        return to_numpy(self._bound(x, phi, n_samples, random_state))

    def _bound(self, x, phi, n_samples, random_state):
        model, theta, xp = self.model_, self.theta_, namespace(x)
        if n_samples is None and linear_gaussian.applies(model):
            W, b, psi = linear_gaussian.parameters(model, theta)
            return linear_gaussian.bound(W, b, psi, phi, model.posterior, x)
        eta, weights = evaluation_nodes(model.n_latent, n_samples, np.random.default_rng(random_state))
        eta, weights = self.backend_.asarray(eta), self.backend_.asarray(weights)
        return xp.concat(
            [
                bound.forward(model, theta, phi[rows, :], x[rows, :], eta, weights=weights)[0]
                for rows in infer.blocks(x.shape[0], eta.shape[0])
            ],
            axis=0,
        )

    def nlml(self, X, method=None, n_samples=1000, random_state=None):
        """−log p(x_n) per data case, an `nlml.NLML` with values (N,) in nats.

        method  "exact" (linear decoder and Gaussian likelihood) or "importance" (n_samples draws
                from q(z|φ_n)); None takes the exact one where there is one
        """
        x = self._input(X)
        if method is None:
            method = "exact" if linear_gaussian.applies(self.model_) else "importance"
        if method == "exact":
            result = nlml.exact(self.model_, self.theta_, x)
        elif method == "importance":
            rng = np.random.default_rng(random_state)
            result = nlml.importance(
                self.model_, self.theta_, self._phi(x), x, rng, n_samples=n_samples
            )
        else:
            raise ValueError(f"method must be 'exact', 'importance' or None, got {method!r}")
        return nlml.NLML(*(f if f is None or isinstance(f, str) else to_numpy(f) for f in result))

    def transform(self, X):
        """The means of q(z|φ_n), (N, K): the representation of X."""
        x = self._input(X)
        return to_numpy(self.model_.posterior.mean(self._phi(x)))

    def decode(self, Z):
        """E[x|z] for latent points Z (N, K): (N, D)."""
        z = self._latent_input(Z)
        f, _ = self.model_.decoder.forward(self.theta_["decoder"], z)
        return to_numpy(self.model_.likelihood.mean(self.theta_["likelihood"], f))

    def reconstruct(self, X):
        """E[x|z] at the mean of q(z|φ_n): (N, D)."""
        return self.decode(self.transform(X))

    def sample(self, n_samples=1, random_state=None):
        """New data: z ~ N(0, I), then x ~ p(x|z). Returns (n_samples, D)."""
        self._require_fit()
        check_size("n_samples", n_samples)
        rng = np.random.default_rng(random_state)
        z = self.backend_.normal(rng, (n_samples, self.model_.n_latent))
        f, _ = self.model_.decoder.forward(self.theta_["decoder"], z)
        noise_ = self.backend_.asarray(self.model_.likelihood.draw_noise(rng, f.shape))
        return to_numpy(self.model_.likelihood.sample(self.theta_["likelihood"], f, noise_))

    def score_samples(self, X):
        """log p(x_n) per data case, (N,): scikit-learn's sign, −nlml.

        Exact where the model is linear-Gaussian; otherwise an importance-sampling estimate with a
        fixed seed, which in expectation lies below the truth.
        """
        return -self.nlml(X, random_state=0).values

    def score(self, X, y=None):
        """The mean of `score_samples`: mean log p(x), higher is better."""
        return float(np.mean(self.score_samples(X)))

    @property
    def noise_variance_(self):
        """The diagonal of Ψ, (D,), of a Gaussian likelihood."""
        self._require_fit()
        if not isinstance(self.model_.likelihood, Gaussian):
            raise AttributeError(f"{type(self.model_.likelihood).__name__} has no noise variance")
        _, like = tree.leaves(self.theta_["decoder"])[0]
        return to_numpy(self.model_.likelihood.psi(self.theta_["likelihood"], like=like)).copy()

    @property
    def n_parameters_(self):
        """How many numbers were learned that are used for new data (φ tables are not)."""
        self._require_fit()
        return tree.size(self.theta_)


def evaluation_nodes(n_latent, n_samples, rng):
    """Nodes and weights to evaluate Q on: fine Gauss–Hermite for K ≤ 2, else random draws."""
    if n_samples is None and n_latent <= 2:
        return noise.gauss_hermite(n_latent, {1: 64, 2: 20}[n_latent])
    n_samples = 256 if n_samples is None else n_samples
    return noise.monte_carlo(rng, n_samples, 1, n_latent), np.full(n_samples, 1 / n_samples)


def check_data(X, minimum_rows=1, name="X"):
    """X as a host array (N, D) of float64 or float32, and its column names (or None).

    Raises TypeError or ValueError saying what was given, what is expected and what to do; `name` is
    what the messages call X.
    """
    if hasattr(X, "toarray") and hasattr(X, "nnz"):
        raise TypeError(
            f"sparse data ({type(X).__name__}) was given, dense data is expected: use {name}.toarray()"
        )
    if isinstance(X, np.ma.MaskedArray):
        raise TypeError(
            f"a masked array was given as {name}, an array without a mask is expected, for the values "
            "under the mask would be taken for data: drop those rows or fill them in"
        )
    names = [str(c) for c in X.columns] if hasattr(X, "columns") else None
    try:
        x = to_numpy(X)
    except ValueError as error:
        raise ValueError(
            f"{name} is not a table of numbers ({error}): give every row the same number of entries"
        ) from error
    if x.dtype.kind == "c":
        raise ValueError(
            f"Complex data not supported: {name} of dtype {x.dtype} was given, real numbers are "
            f"expected, take {name}.real"
        )
    if x.dtype.kind not in "fiub":
        try:
            if x.dtype.kind in "mM":
                raise TypeError("times have no unit or origin of their own")
            x = x.astype("float64")
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{name} of dtype {x.dtype} was given, numbers are expected ({error}): encode text, "
                "times and categories as numbers first"
            ) from error
    if x.dtype != np.float32:
        x = x.astype("float64")
    if x.ndim != 2:
        raise ValueError(
            f"Expected 2D array, got {x.ndim}D array of shape {x.shape} instead. Reshape your data: "
            f"{name}.reshape(-1, 1) for one column, {name}.reshape(1, -1) for one data case, "
            f"{name}.reshape(len({name}), -1) for images"
        )
    if x.shape[0] < minimum_rows:
        raise ValueError(
            f"Found array with {x.shape[0]} sample(s) (shape={x.shape}) while a minimum of "
            f"{minimum_rows} is required: give more data cases"
        )
    if x.shape[1] == 0:
        raise ValueError(
            f"Found array with 0 feature(s) (shape={x.shape}) while a minimum of 1 is required: "
            "give at least one column"
        )
    bad = ~np.isfinite(x)
    if bad.any():
        n, d = np.argwhere(bad)[0]
        kinds = f"{int(np.isnan(x).sum())} NaN and {int(np.isinf(x).sum())} infinity"
        raise ValueError(
            f"{name} has {kinds} entries, the first in row {n}, column {names[d] if names else d}; "
            "finite numbers are expected: drop those rows or fill them in"
        )
    largest, most = float(np.abs(x).max()), float(np.finfo(x.dtype).max / x.size) ** 0.5
    if largest > most:
        raise ValueError(
            f"{name} has entries of size {largest:.1e}; above {most:.1e} sums of their squares overflow "
            f"in {x.dtype}: give the data in larger units"
        )
    return np.ascontiguousarray(x), names


def check_size(name, value, least=1, most=None, why=""):
    """Raise ValueError unless `value` is an integer in [least, most]."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):
        upper = "" if most is None else f" and <= {most}"
        raise ValueError(f"{name} must be an integer >= {least}{upper}{why}, got {value!r}")


def check_positive(name, value):
    """Raise ValueError unless `value` is a finite number above 0."""
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not (number and 0 < value < np.inf):
        raise ValueError(f"{name} must be a number > 0, got {value!r}")


def check_hidden(hidden):
    """`hidden` as a tuple; ValueError unless it is a sequence of layer sizes, integers >= 1."""
    try:
        sizes = tuple(hidden)
        if isinstance(hidden, str) or not all(isinstance(n, numbers.Integral) and n >= 1 for n in sizes):
            raise TypeError
    except TypeError:
        raise ValueError(
            "hidden must be a tuple of layer sizes, integers >= 1, such as (64, 64), or () for a linear "
            f"decoder, got {hidden!r}"
        ) from None
    return sizes


def make_likelihood(name, n_visible, noise_structure):
    """The likelihood called `name` for D visible variables; noise_structure is the Gaussian's Ψ."""
    if name not in LIKELIHOODS:
        raise ValueError(f"likelihood must be one of {sorted(LIKELIHOODS)}, got {name!r}")
    if name == "gaussian":
        return Gaussian(n_visible, noise_structure)
    if noise_structure != "diagonal":
        raise ValueError(f"noise={noise_structure!r} belongs to likelihood='gaussian', not {name!r}")
    return LIKELIHOODS[name](n_visible)


def column_names(names, n_visible):
    """The names of the columns for messages: their own, or their numbers."""
    return names if names is not None else list(range(n_visible))


def warn_at_floor(psi, floor, names):
    """Warn of Ψ entries at their floor, by column; returns their places."""
    places = np.flatnonzero(psi <= floor * (1 + 1e-6))
    if len(places):
        warnings.warn(
            f"{len(places)} noise variance(s) ended at the floor, columns "
            f"{shorten([names[d] for d in places])}: a Heywood case, the factors explain these columns "
            "completely; fewer components, or min_noise larger than now, may be meant",
            HeywoodWarning,
            stacklevel=3,
        )
    return places


class StandardUnits:
    """Data in units of its columns' spread, and trained parameters folded back exactly.

    Networks are trained on (x − shift)/scale, so that learning rates and starts mean the same for
    every data set. Both ends of the model are Linear layers, so the change of units can be folded
    into their weights afterwards (6.5): what is kept speaks of the data's own units alone.
    """

    def __init__(self, likelihood, x):
        xp = namespace(x)
        mean = xp.mean(x, axis=0)
        variance = xp.mean((x - mean) * (x - mean), axis=0)
        self.shift, self.scale = likelihood.standard_units(mean, variance)
        self.variance = variance / (self.scale * self.scale)
        self.mean = (mean - self.shift) / self.scale
        self.log_volume = float(xp.sum(xp.log(self.scale)))        # Q(x) = Q(standard) + log_volume

    def to_standard(self, x):
        return (x - self.shift) / self.scale

    def fold_decoder(self, decoder, params):
        """Make the last Linear speak of x: W ← W·scale, b ← b·scale + shift."""
        if isinstance(decoder, Sequential):
            return [*params[:-1], self.fold_decoder(decoder.layers[-1], params[-1])]
        return {"W": params["W"] * self.scale, "b": params["b"] * self.scale + self.shift}

    def fold_encoder(self, network, params):
        """Make the first Linear take x: W ← W/scale, b ← b − (shift/scale) W."""
        if isinstance(network, Parallel):
            return [self.fold_encoder(n, p) for n, p in zip(network.branches, params)]
        if isinstance(network, Sequential):
            return [self.fold_encoder(network.layers[0], params[0]), *params[1:]]
        if not isinstance(network, Linear):
            raise TypeError(f"the first layer must be Linear, got {type(network).__name__}")
        W = params["W"] / self.scale[:, None]
        return {"W": W, "b": params["b"] - self.shift @ W}


def start_theta(model, rng, backend, units, start_noise=1.0):
    """theta to start training from, in standard units: random, but right about the columns' means.

    A learnt Ψ starts at `start_noise` times the columns' variances.
    """
    theta = model.init(rng, backend)
    f, likelihood = model.likelihood.start(units.mean, start_noise * units.variance)
    theta["decoder"][-1]["b"] = f
    theta["likelihood"] = likelihood
    return theta


def fold_theta(model, theta, units):
    """theta of `model`, trained in standard units, for the data's own units."""
    return {
        "decoder": units.fold_decoder(model.decoder, theta["decoder"]),
        "likelihood": model.likelihood.rescale_params(theta["likelihood"], units.scale),
    }
