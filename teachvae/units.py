"""Standard units: what networks are trained in, and how the result is folded back, exactly.

Equations (6.x) are in derivations/equations.md.
"""

import warnings

import numpy as np

from .backend import constant, namespace, to_numpy
from .layers import Linear, Parallel, Sequential
from .likelihoods import Mixed, bare, join, split
from .moments import moments
from .names import shorten


class HeywoodWarning(UserWarning):
    """A noise variance ran down to its floor: the data cannot tell it from 0."""


class StandardUnits:
    """Data in units of its columns' spread, and trained parameters folded back exactly.

    Networks are trained on (x − shift)/scale, so that learning rates and starts mean the same for
    every data set. Both ends of the model are Linear layers, so the change of units can be folded
    into their weights afterwards (6.5): what is kept speaks of the data's own units alone.
    """

    def __init__(self, likelihood, x):
        x, mask = split(likelihood, x)
        xp = namespace(x)
        mask = xp.ones_like(x) if mask is None else mask
        count = xp.sum(mask, axis=0)
        mean = xp.sum(mask * x, axis=0) / count
        variance = xp.sum(mask * (x - mean) * (x - mean), axis=0) / count
        self.likelihood = likelihood
        self.share = count / x.shape[0]                            # of each column that was observed
        self.shift, self.scale = likelihood.standard_units(mean, variance)
        self.f_shift, self.f_scale = likelihood.units_of_f(self.shift, self.scale)  # (n_f,)
        self.column_variance = variance                            # in the data's own units
        self.variance = variance / (self.scale * self.scale)
        self.mean = (mean - self.shift) / self.scale
        # Q(x) = Q(standard) + log_volume, in the mean over the data cases
        self.log_volume = float(xp.sum(self.share * xp.log(self.scale)))

    def to_standard(self, x):
        """x in standard units; of [x | mask], missing entries become 0."""
        x, mask = split(self.likelihood, x)
        standard = (x - self.shift) / self.scale
        return standard if mask is None else join(standard * mask, mask)

    def fold_decoder(self, decoder, params):
        """Make the last Linear speak of x: W ← W·scale, b ← b·scale + shift, both those of f."""
        if isinstance(decoder, Sequential):
            return [*params[:-1], self.fold_decoder(decoder.layers[-1], params[-1])]
        return {"W": params["W"] * self.f_scale, "b": params["b"] * self.f_scale + self.f_shift}

    def fold_encoder(self, network, params):
        """Make the first Linear take x: W ← W/scale, b ← b − (shift/scale) W.

        A network that takes [x | mask] finds `shift` in the place of a missing entry, which is 0 in
        standard units.
        """
        D = self.scale.shape[0]

        def fold(p):
            W = p["W"][:D, :] / self.scale[:, None]
            return {
                "W": namespace(W).concat([W, p["W"][D:, :]], axis=0), "b": p["b"] - self.shift @ W
            }

        return _with_first_layer(network, params, fold)


class PrincipalAxes:
    """The input of an encoder along the axes of its covariance, and the encoder folded back    (6.7).

    Columns that go together make the search for a linear encoder badly conditioned. The search is for
    weights of y = (x − mean) A, (N, r), whose entries are uncorrelated and of one variance, 1/λ₁ with λ₁
    the largest eigenvalue of x's covariance: then Q is as curved in the encoder's weights as it is in the
    decoder's. Directions in which the data do not vary, beyond rounding, are left out, so that weights
    along them are 0.
    """

    def __init__(self, x):
        stats = moments(to_numpy(x))
        values, U = np.linalg.eigh(stats.covariance)               # ascending
        seen = values > len(values) * np.finfo("float64").eps * values[-1]
        spread = np.sqrt(values[seen] * values[-1])
        self.mean = constant(stats.mean, like=x)                   # (n,)
        self.A = constant(U[:, seen] / spread, like=x)             # (n, r)
        self.A_inverse = constant((U[:, seen] * spread).T, like=x)  # (r, n)

    def along(self, x):
        """y (N, r) of x (N, n)."""
        return (x - self.mean) @ self.A

    def unfold_encoder(self, network, params):
        """Make the first Linear take y: W ← A⁺ W, b ← b + mean W."""
        return _with_first_layer(
            network, params, lambda p: {"W": self.A_inverse @ p["W"], "b": p["b"] + self.mean @ p["W"]}
        )

    def fold_encoder(self, network, params):
        """Make the first Linear take x again: W ← A W, b ← b − mean A W."""

        def fold(p):
            W = self.A @ p["W"]
            return {"W": W, "b": p["b"] - self.mean @ W}

        return _with_first_layer(network, params, fold)


def _with_first_layer(network, params, change):
    """params with those of the first Linear, of every branch, put through `change`."""
    if isinstance(network, Parallel):
        return [_with_first_layer(n, p, change) for n, p in zip(network.branches, params)]
    if isinstance(network, Sequential):
        return [_with_first_layer(network.layers[0], params[0], change), *params[1:]]
    if not isinstance(network, Linear):
        raise TypeError(f"the first layer must be Linear, got {type(network).__name__}")
    return change(params)


def start_theta(model, rng, backend, units, start_noise=1.0):
    """theta to start training from, in standard units: random, but right about the columns' means.

    A learnt Ψ starts at `start_noise` times the columns' variances.
    """
    theta = model.init(rng, backend)
    f, likelihood = model.likelihood.start(units.mean, start_noise * units.variance)
    last = theta["decoder"][-1]
    theta["decoder"][-1] = {"W": model.likelihood.start_W(last["W"]), "b": f}
    theta["likelihood"] = likelihood
    return theta


def fold_theta(model, theta, units):
    """theta of `model`, trained in standard units, for the data's own units."""
    likelihood = theta["likelihood"]
    if model.likelihood.learns_noise:
        likelihood = model.likelihood.rescale_params(likelihood, units.scale)
    return {"decoder": units.fold_decoder(model.decoder, theta["decoder"]), "likelihood": likelihood}


def heywood(likelihood, params, variance, min_noise, names):
    """Places of the entries of a learnt diagonal Ψ that ended at their floor; warns of them by column.

    params the likelihood's, variance (D,) of the columns, names (D,). Empty where no Ψ is learnt.
    """
    places = np.array(_at_the_floor(bare(likelihood), params, to_numpy(variance), min_noise), dtype=int)
    if len(places):
        warnings.warn(
            f"{len(places)} noise variance(s) ended at the floor, columns "
            f"{shorten([names[d] for d in places])}: a Heywood case, the factors explain these columns "
            "completely; fewer components, or min_noise larger than now, may be meant",
            HeywoodWarning,
            stacklevel=3,
        )
    return places


def _at_the_floor(likelihood, params, variance, min_noise):
    """Places (of `variance`) whose entry of a learnt diagonal Ψ is at its floor, a list."""
    if isinstance(likelihood, Mixed):
        return sorted(
            columns[i]
            for (p, columns), own in zip(likelihood.parts, params)
            for i in _at_the_floor(p, own, variance[list(columns)], min_noise)
        )
    if not likelihood.learns_noise or params["log_psi"].shape != variance.shape:
        return []
    psi = np.exp(to_numpy(params["log_psi"]))
    return np.flatnonzero(psi <= min_noise * variance * (1 + 1e-5)).tolist()
