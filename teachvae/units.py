"""Standard units: what networks are trained in, and how the result is folded back, exactly.

Equations (6.x) are in derivations/equations.md.
"""

import warnings

import numpy as np

from .backend import namespace, to_numpy
from .layers import Linear, Parallel, Sequential
from .likelihoods import Gaussian, shorten


class HeywoodWarning(UserWarning):
    """A noise variance ran down to its floor: the data cannot tell it from 0."""


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
        self.f_shift, self.f_scale = likelihood.units_of_f(self.shift, self.scale)  # (n_f,)
        self.column_variance = variance                            # in the data's own units
        self.variance = variance / (self.scale * self.scale)
        self.mean = (mean - self.shift) / self.scale
        self.log_volume = float(xp.sum(xp.log(self.scale)))        # Q(x) = Q(standard) + log_volume

    def to_standard(self, x):
        return (x - self.shift) / self.scale

    def fold_decoder(self, decoder, params):
        """Make the last Linear speak of x: W ← W·scale, b ← b·scale + shift, both those of f."""
        if isinstance(decoder, Sequential):
            return [*params[:-1], self.fold_decoder(decoder.layers[-1], params[-1])]
        return {"W": params["W"] * self.f_scale, "b": params["b"] * self.f_scale + self.f_shift}

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
    last = theta["decoder"][-1]
    theta["decoder"][-1] = {"W": model.likelihood.start_W(last["W"]), "b": f}
    theta["likelihood"] = likelihood
    return theta


def fold_theta(model, theta, units):
    """theta of `model`, trained in standard units, for the data's own units."""
    return {
        "decoder": units.fold_decoder(model.decoder, theta["decoder"]),
        "likelihood": model.likelihood.rescale_params(theta["likelihood"], units.scale),
    }


def heywood(likelihood, params, variance, min_noise, names):
    """Places of the entries of a learnt diagonal Ψ that ended at their floor; warns of them by column.

    params the likelihood's, variance (D,) of the columns, names (D,). Empty for any other likelihood.
    """
    if not isinstance(likelihood, Gaussian) or likelihood.noise != "diagonal":
        return np.array([], dtype=int)
    psi, floor = np.exp(to_numpy(params["log_psi"])), min_noise * to_numpy(variance)
    places = np.flatnonzero(psi <= floor * (1 + 1e-5))
    if len(places):
        warnings.warn(
            f"{len(places)} noise variance(s) ended at the floor, columns "
            f"{shorten([names[d] for d in places])}: a Heywood case, the factors explain these columns "
            "completely; fewer components, or min_noise larger than now, may be meant",
            HeywoodWarning,
            stacklevel=3,
        )
    return places
