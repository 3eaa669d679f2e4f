"""Standard units: what networks are trained in, and how the result is folded back, exactly.

Equations (6.x) are in derivations/equations.md.
"""

import warnings

import numpy as np

from . import tree
from .backend import double, namespace, sum_first, to_numpy
from .layers import Linear, Parallel, Sequential
from .likelihoods import Mixed, bare, join, split
from .names import shorten


class HeywoodWarning(UserWarning):
    """A noise variance ran down to its floor: the data cannot tell it from 0."""


class StandardUnits:
    """Data in units of its columns' spread, and trained parameters folded back exactly.

    Networks are trained on (x − shift)/scale, so that learning rates and starts mean the same for
    every data set. Both ends of the model are Linear layers, so the change of units can be folded
    into their weights afterwards (6.5): what is kept speaks of the data's own units alone.

    Sums over the data cases and the change of units are float64, whatever x is; what is told in standard
    units (variance, mean, share, and the data themselves) is of x's dtype.
    """

    def __init__(self, likelihood, x):
        self.likelihood = likelihood
        count, mean, variance = column_moments(likelihood, x)
        xp, dtype, share = namespace(x), x.dtype, count / x.shape[0]
        self.shift, self.scale = likelihood.standard_units(mean, variance)
        self.f_shift, self.f_scale = likelihood.units_of_f(self.shift, self.scale)  # (n_f,)
        self.column_variance = variance                            # in the data's own units
        self.share = xp.astype(share, dtype)                       # of each column that was observed
        self.variance = xp.astype(variance / (self.scale * self.scale), dtype)
        self.mean = xp.astype((mean - self.shift) / self.scale, dtype)
        # Q(x) = Q(standard) + log_volume, in the mean over the data cases
        self.log_volume = float(xp.sum(share * xp.log(self.scale)))

    def to_standard(self, x):
        """x in standard units; of [x | mask], missing entries become 0."""
        seen, mask = split(self.likelihood, x)
        standard = namespace(x).astype((double(seen) - self.shift) / self.scale, x.dtype)
        return standard if mask is None else join(standard * mask, mask)

    def fold_decoder(self, decoder, params):
        """Make the last Linear speak of x: W ← W·scale, b ← b·scale + shift, both those of f."""
        if isinstance(decoder, Sequential):
            return [*params[:-1], self.fold_decoder(decoder.layers[-1], params[-1])]
        W, b = double(params["W"]) * self.f_scale, double(params["b"]) * self.f_scale + self.f_shift
        return _like(params, {"W": W, "b": b})

    def fold_encoder(self, network, params):
        """Make the first Linear take x: W ← W/scale, b ← b − (shift/scale) W.

        A network that takes [x | mask] finds `shift` in the place of a missing entry, which is 0 in
        standard units.
        """
        if isinstance(network, Parallel):
            return [self.fold_encoder(n, p) for n, p in zip(network.branches, params)]
        if isinstance(network, Sequential):
            return [self.fold_encoder(network.layers[0], params[0]), *params[1:]]
        if not isinstance(network, Linear):
            raise TypeError(f"the first layer must be Linear, got {type(network).__name__}")
        D, xp = self.scale.shape[0], namespace(params["W"])
        W, of_mask = double(params["W"])[:D, :] / self.scale[:, None], double(params["W"])[D:, :]
        folded = {"W": xp.concat([W, of_mask], axis=0), "b": double(params["b"]) - self.shift @ W}
        return _like(params, folded)


def column_moments(likelihood, x):
    """Of every column of x, over the cases that have it: how many, the mean and the variance, each (D,).

    float64 sums over blocks of rows; the second pass takes off what the first one's mean was rounded by.
    """
    count = total = shift = squares = 0.0
    for seen, mask in _seen(likelihood, x):
        count, total = count + sum_first(mask), total + sum_first(seen * mask)
    mean = total / count
    for seen, mask in _seen(likelihood, x):
        r = (seen - mean) * mask
        shift, squares = shift + sum_first(r), squares + sum_first(r * r)
    return count, mean + shift / count, squares / count - (shift / count) ** 2


def _seen(likelihood, x):
    """Blocks of the data cases in float64, and of their mask, which is ones where all was observed."""
    for start in range(0, x.shape[0], ROWS):
        seen, mask = split(likelihood, double(x[start : min(start + ROWS, x.shape[0]), :]))
        yield seen, namespace(x).ones_like(seen) if mask is None else mask


ROWS = 1024                            # of a block


def _like(params, values):
    """`values`, a tree, in the dtype of the tree `params`."""
    return tree.map(lambda old, new: namespace(old).astype(new, old.dtype), params, values)


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
        rescaled = model.likelihood.rescale_params(tree.map(double, likelihood), units.scale)
        likelihood = _like(likelihood, rescaled)
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
