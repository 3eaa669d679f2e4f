"""Standard units: what networks are trained in, and how the result is folded back, exactly.

Equations (6.x) are in derivations/equations.md.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..arrays import ranks, tree
from ..arrays.backend import constant, double, get_backend, namespace, to_numpy
from ..arrays.observed import Observed, seen
from ..arrays.rows import slices
from ..messages import shorten, warn
from ..networks.layers import Linear, Parallel, Sequential
from ..networks.training import no_lower_bound


class HeywoodWarning(UserWarning):
    """A noise variance ran down to its floor: the data cannot tell it from 0."""


class Spread(NamedTuple):
    """Of each column, (D,): the share of the data cases that have it, their mean and their variance."""

    share: object
    mean: object
    variance: object


def spread(x):
    """The `Spread` of data cases x (N, D), here and on other ranks."""
    count, total, squares = 0.0, 0.0, 0.0
    for b, mask in _parts(x):
        count = count + namespace(b).sum(mask, axis=0)
        total = total + namespace(b).sum(mask * b, axis=0)
    comm, n_cases = ranks.of(x), ranks.places(x).n_cases
    count, total = ranks.total(comm, (count, total))
    mean = total / count
    for b, mask in _parts(x):
        squares = squares + namespace(b).sum(mask * (b - mean) * (b - mean), axis=0)
    (squares,) = ranks.total(comm, (squares,))
    return Spread(count / n_cases, mean, squares / count)


class StandardUnits:
    """Data in units of its columns' spread, and trained parameters folded back exactly.

    Networks are trained on (x − shift)/scale, so that learning rates and starts mean the same for
    every data set. Both ends of the model are Linear layers, so the change of units can be folded
    into their weights afterwards (6.5): what is kept speaks of the data's own units alone.

    likelihood, x   that of the data, and the data cases, here and on other ranks, or their `Spread`
    foldable        whether both ends can be folded; where they cannot, the units are the data's own
    """

    def __init__(self, likelihood, x, foldable=True):
        self.spread = share, mean, variance = x if isinstance(x, Spread) else spread(x)
        xp = namespace(mean)
        self.likelihood = likelihood
        self.share = share                                         # of each column that was observed
        self.shift, self.scale = xp.zeros_like(mean), xp.ones_like(mean)
        if foldable:
            self.shift, self.scale = likelihood.standard_units(mean, variance)
        flat = np.flatnonzero(~(to_numpy(self.scale) > 0)).tolist()
        if flat:
            raise ValueError(
                f"columns {shorten(flat)} (counted from 0) have a spread of 0 and so no standard units under "
                "this likelihood: they are constant, drop them, or let its standard_units give them a 1"
            )
        self.f_shift, self.f_scale = likelihood.units_of_f(self.shift, self.scale)  # (n_f,)
        self.column_variance = variance                            # in the data's own units
        self.variance = variance / (self.scale * self.scale)
        self.mean = (mean - self.shift) / self.scale
        self.log_volume = self.log_volume_of(self.share)

    def log_volume_of(self, share):
        """What to add to the mean Q in standard units of data cases for their own mean Q; share (D,) of them
        have each column.
        """
        xp = namespace(share)
        return float(xp.sum(share * xp.log(self.scale)))

    def to_standard(self, x):
        """x in standard units; what stands for missing entries becomes 0."""
        x, mask = seen(x)
        standard = (x - self.shift) / self.scale
        return standard if mask is None else Observed(standard * mask, mask)

    def fold_decoder(self, decoder, params):
        """Make the last Linear speak of x: W ← W·scale, b ← b·scale + shift, both those of f."""
        return with_last_layer(
            decoder, params, lambda p: {"W": p["W"] * self.f_scale, "b": p["b"] * self.f_scale + self.f_shift}
        )

    def fold_encoder(self, network, params):
        """Make the first Linear take x in place of x in standard units.

        A network that takes [x | mask] finds `shift` in the place of a missing entry, which is 0 in
        standard units.
        """
        return fold_encoder(network, params, self.shift, self.scale)


class Standardised:
    """A model in standard units: its data cases there, where training starts, the floor of its noise, and the
    way back.

    model     of the data's own units;  cases  the `columns.Cases`, or their `Spread`
    foldable  as for `StandardUnits`
    """

    def __init__(self, model, cases, foldable=True):
        self.own, self.units = model, StandardUnits(model.likelihood, cases, foldable)
        self.model = replace(model, likelihood=model.likelihood.rescaled(self.units.scale))
        self.shift, self.scale = to_numpy(self.units.shift), to_numpy(self.units.scale)

    def cases(self, cases, backend):
        """The same data cases in standard units, on a backend."""
        return replace(cases, backend=backend, origin=self.shift, scale=self.scale)

    def start(self, rng, backend, start_noise=1.0):
        """theta to start training from; a learnt Ψ at `start_noise` times the columns' variances."""
        return start_theta(self.model, rng, backend, self.units, start_noise)

    def lower(self, theta, min_noise):
        """Bounds from below for theta: Ψ's floor is `min_noise` times the columns' variances."""
        none = no_lower_bound(theta)
        floor = self.model.likelihood.lower_bounds(self.units.variance, min_noise)
        floor = tree.filled(floor, none["likelihood"])
        like = none["likelihood"]
        return {**none, "likelihood": tree.map(lambda b, leaf: constant(to_numpy(b), leaf), floor, like)}

    def path(self, values):
        """Mean Q of the data from mean Q in standard units, an array."""
        return np.array(values) + self.units.log_volume

    def log_volume(self, cases):
        """What to add to the mean Q in standard units of other `columns.Cases`, over all ranks."""
        count = sum(namespace(b).sum(mask, axis=0) for b, mask in _parts(cases))
        (count,) = ranks.total(ranks.of(cases), (count,))
        return self.units.log_volume_of(count / ranks.places(cases).n_cases)

    def fold(self, theta):
        """theta of the model for the data's own units, as exact as the dtype that it was trained in."""
        return fold_theta(self.own, theta, self.units)

    def fold_encoder(self, network, params):
        """A recognition network for the data's own units; one whose first layer is not Linear as it is."""
        return self.units.fold_encoder(network, params) if starts_linear(network) else params

    def heywood(self, params, min_noise, names):
        """`heywood` of the likelihood's params in the data's own units; names (D,) of the columns."""
        return heywood(self.own.likelihood, params, self.units.column_variance, min_noise, names)


class PrincipalAxes:
    """The input of a linear encoder along the axes of its covariance, and the encoder folded back  (6.7).

    Columns that go together make the search for a linear encoder badly conditioned. The search is for
    weights of y = (x − mean) A, (N, r), whose entries are uncorrelated and of one variance, 1/λ₁ with λ₁
    the largest eigenvalue of x's covariance: then Q is as curved in the encoder's weights as it is in the
    decoder's. Directions in which the data do not vary, beyond rounding, are left out, so that weights
    along them are 0.

    mean (n,), covariance (n, n)   of the input, on the host
    like                           an array of the encoder's library, device and dtype
    """

    def __init__(self, mean, covariance, like):
        values, U = np.linalg.eigh(covariance)                     # ascending
        seen = values > len(values) * np.finfo("float64").eps * values[-1]
        spread = np.sqrt(values[seen] * values[-1])
        self.mean = constant(mean, like)                           # (n,)
        self.A = constant(U[:, seen] / spread, like)               # (n, r)
        self.A_inverse = constant((U[:, seen] * spread).T, like)   # (r, n)

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

    def turned(self, objective, network):
        """The objective of params = {"theta": …, "recognition": …} as one of an encoder that takes y."""
        def of_y(params, rows):
            v = self.fold_encoder(network, params["recognition"])
            value, grads = objective({**params, "recognition": v}, rows)
            return value, {**grads, "recognition": _with_first_layer(network, grads["recognition"], turn)}

        def turn(d):
            return {"W": self.A.T @ (d["W"] - self.mean[:, None] * d["b"]), "b": d["b"]}  # (6.7)

        return of_y


def _parts(x):
    """x and its mask, 1 where there is none, of each block of data x (N, V), in float64."""
    for rows in slices(x.shape[0]):
        b, mask = seen(x[rows, ...])
        b = double(b)
        yield b, namespace(b).ones_like(b) if mask is None else mask


def fold_encoder(network, params, shift, scale):
    """A network of (x − shift)/scale as one of x: its first Linear has W/scale and b − (shift/scale) W."""
    D = scale.shape[0]

    def fold(p):
        W = p["W"][:D, :] / scale[:, None]
        return {"W": namespace(W).concat([W, p["W"][D:, :]], axis=0), "b": p["b"] - shift @ W}

    return _with_first_layer(network, params, fold)


def starts_linear(network):
    """Whether the network's first layer, that of every branch, is Linear, so that a shift can be folded in.

    What inherits from Linear or Sequential may be anything.
    """
    if type(network) is Parallel:
        return all(starts_linear(branch) for branch in network.branches)
    if type(network) is Sequential:
        return starts_linear(network.layers[0])
    return type(network) is Linear


def ends_linear(network):
    """Whether the network's last layer is Linear, so that a change of units can be folded into it."""
    while type(network) is Sequential:
        network = network.layers[-1]
    return type(network) is Linear


def _with_first_layer(network, params, change):
    """params with those of the first Linear, of every branch, put through `change`."""
    if type(network) is Parallel:
        return [_with_first_layer(n, p, change) for n, p in zip(network.branches, params)]
    if type(network) is Sequential:
        return [_with_first_layer(network.layers[0], params[0], change), *params[1:]]
    if type(network) is not Linear:
        raise TypeError(f"the first layer must be Linear, got {type(network).__name__}")
    return change(params)


def with_last_layer(network, params, change):
    """params with those of the last layer put through `change`, where that is Linear; else as they are."""
    if type(network) is Sequential:
        return [*params[:-1], with_last_layer(network.layers[-1], params[-1], change)]
    return change(params) if type(network) is Linear else params


def start_theta(model, rng, backend, units, start_noise=1.0):
    """theta to start training from, in standard units: random, but right about the columns' means.

    A learnt Ψ starts at `start_noise` times the columns' variances.
    """
    theta = model.init(rng, backend)
    f, likelihood = model.likelihood.start(units.mean, start_noise * units.variance)
    decoder = with_last_layer(
        model.decoder, theta["decoder"], lambda p: {"W": model.likelihood.start_W(p["W"]), "b": f}
    )
    theta = {"decoder": decoder, "likelihood": tree.filled(likelihood, theta["likelihood"])}
    return tree.map(backend.asarray, theta)


def fold_theta(model, theta, units):
    """theta of `model`, trained in standard units, for the data's own units."""
    return {
        "decoder": units.fold_decoder(model.decoder, theta["decoder"]),
        "likelihood": model.likelihood.rescale_params(theta["likelihood"], units.scale),
    }


def rounded_off(exact, kept):
    """What rounding took off the parameters `exact` when they were `kept`, in float64: where x is about 1e6,
    float32 holds a bias that was folded for x to 1/16.
    """
    return tree.map(lambda e, k: double(e) - double(k), exact, kept)


def moved(kept, rest, backend):
    """Parameters and what was `rounded_off` them, on another `Backend`: as near to what was learnt as its
    dtype allows.
    """
    exact, there = tree.map(_whole, kept, rest), get_backend(backend, "float64")
    kept = tree.map(backend.asarray, exact)
    return kept, rounded_off(tree.map(there.asarray, exact), kept)


def centred(model, theta, rest):
    """theta of the same model for x − origin, and origin (V,), on the host in float64: (6.5) with c = 1.

    rest is what was `rounded_off`. The origin is where the decoder's last bias puts x, and 0 for columns that
    cannot be shifted, such as bits and counts. Far from 0 x and f(z) agree in most of their digits, which
    their difference loses; x − origin and its f(z) have none to lose. Q and its gradient in φ are the same.
    """
    likelihood, exact = model.likelihood, tree.map(_whole, theta, rest)
    if not ends_linear(model.decoder):
        return theta, np.zeros(likelihood.n_visible)
    origin = None

    def move(p):
        nonlocal origin
        at_b = double(likelihood.mean(exact["likelihood"], p["b"][None, :]))[0, :]  # E[x|f = b], (V,)
        one = namespace(at_b).ones_like(at_b)
        origin, _ = likelihood.standard_units(at_b, one)
        f_shift, _ = likelihood.units_of_f(origin, one)
        return {"W": p["W"], "b": p["b"] - f_shift}

    exact["decoder"] = with_last_layer(model.decoder, exact["decoder"], move)
    return tree.map(_as, exact, theta), to_numpy(origin)


def centred_encoder(network, params, rest, origin):
    """The parameters of the same recognition network for x − origin (V,)                     (6.5)."""
    exact = tree.map(_whole, params, rest)
    shift = constant(-origin, like=tree.leaves(exact)[0][1])
    return tree.map(_as, fold_encoder(network, exact, shift, namespace(shift).ones_like(shift)), params)


def _whole(kept, rest):
    return double(kept) + rest


def _as(exact, like):
    return namespace(exact).astype(exact, like.dtype)


def heywood(likelihood, params, variance, min_noise, names):
    """Places of the entries of a learnt diagonal Ψ that ended at their floor; warns of them by column.

    params the likelihood's, variance (D,) of the columns, names (D,). Empty where no Ψ is learnt.
    """
    places = np.array(likelihood.at_the_floor(params, to_numpy(variance), min_noise), dtype=int)
    if len(places):
        warn(
            f"{len(places)} noise variance(s) ended at the floor, columns "
            f"{shorten([names[d] for d in places])}: a Heywood case, the factors explain these columns "
            "completely; fewer components, or min_noise larger than now, may be meant",
            HeywoodWarning,
        )
    return places
