"""The gradients of one part, of yours or of the package, in one call: `part(layer)`, `part(likelihood)`, ….

Random inputs, parameters away from zero, and a random cotangent, the weights c of L = Σ c·y: nothing is
hidden by a zero, nor by a sum that is constant.
"""

from dataclasses import replace
from functools import partial

import numpy as np

from ..arrays import tree
from ..arrays.backend import get_backend
from ..posteriors import has_kl
from .check import check, draw_until_smooth
from .report import Report

N, S, WIDTH = 4, 3, 4
ATTEMPTS = 20                                                      # points tried until none is at a kink


def part(candidate, x=None, seed=0):
    """Check a layer, network, likelihood or family of q against central differences: a `Report`, .ok or not.

    candidate  what has forward and backward is a layer or a network; with n_f too a likelihood, which is
               checked with and without a mask; what has n_phi is a family of q: its sample, its log q and,
               where that is a closed form, its KL
    x          (N, D) data, 4 cases at the least, for a likelihood that cannot draw any

    Notes say where a forward in float32 comes out wider or far off, where a backward cannot be asked for
    less or writes into what it was given, where a masked entry still counts, and where a change of units is
    none. Raises TypeError for anything
    else, ValueError where a shape is not what it should be, in words.
    """
    if isinstance(candidate, type):
        own = candidate.__name__
        raise TypeError(f"a part is an object, got the class {own}: give {own}(…)")
    rows, notes, tolerance = [], [], 0.0
    for name, of_one in _checks(candidate, x).items():
        report = draw_until_smooth(lambda a: of_one(np.random.default_rng([seed, a])), range(ATTEMPTS))
        rows += [replace(row, path=f"{name}: {row.path}" if name else row.path) for row in report.rows]
        notes, tolerance = notes + report.notes, report.tolerance
    for look in (_in_float32, _asked_for_less, _written_into, _under_the_mask, _in_other_units):
        notes = notes + look(candidate, x, np.random.default_rng(seed))
    return Report(rows, tolerance, notes)


def _checks(part, x):
    """{what: rng → Report} of a part."""
    if hasattr(part, "n_phi"):
        return of_family(part)
    if not (hasattr(part, "forward") and hasattr(part, "backward")):
        raise TypeError(
            f"{type(part).__name__} has no forward and backward, so it is no layer and no likelihood, and no "
            "n_phi, so it is no family of q: give an object that has them"
        )
    if hasattr(part, "n_f"):
        return {
            "": lambda rng: of_likelihood(rng, part, False, x),
            "masked": lambda rng: of_likelihood(rng, part, True, x),
        }
    return {"": lambda rng: of_layer(rng, part)}


def _in_float32(part, x, rng):
    """Sentences where a forward in float32 gives something wider, or far from what it gives in float64."""
    if hasattr(part, "n_phi"):
        inputs = {"phi": table(rng, part), "eta": rng.standard_normal((S, N, part.n_latent))}
        forward = {"sample": lambda i: part.sample(i["phi"], i["eta"])[0]}
        if has_kl(part):
            forward["kl"] = lambda i: part.kl(i["phi"])[0]
    elif hasattr(part, "n_f"):
        inputs = dict(zip(("params", "f", "x"), _likelihood_inputs(part, x, rng)))
        forward = {"forward": lambda i: part.forward(i["params"], i["f"], i["x"], None)[0]}
    else:
        inputs = {"params": away_from_zero(rng, part), "x": rng.standard_normal((N, _width(part)))}
        forward = {"forward": lambda i: part.forward(i["params"], i["x"])[0]}
    single = tree.map(lambda leaf: np.asarray(leaf, dtype="float32"), inputs)
    notes = []
    for name, function in forward.items():
        wide, narrow = np.asarray(function(inputs)), np.asarray(function(single))
        if narrow.dtype != np.float32:
            notes.append(
                f"{name} of float32 gives {narrow.dtype}; a number of NumPy's own float64 widens it; use "
                "Python's numbers, or constants made with backend.constant"
            )
        elif not np.allclose(wide, narrow, rtol=1e-3, atol=1e-3 * max(1.0, float(np.abs(wide).max()))):
            notes.append(
                f"{name} in float32 is off by {np.abs(wide - narrow).max():.1e}; large numbers cancel in it, "
                "or something overflows"
            )
    return notes


def _asked_for_less(part, x, rng):
    """Sentences where a backward does not take need_dx, need_dparams, or a sample noise that all cases share.
    """
    if hasattr(part, "n_phi"):
        phi, eta = table(rng, part), rng.standard_normal((S, 1, part.n_latent))
        calls = {"sample with eta (S, 1, K)": lambda: part.sample(phi, eta)}
    elif hasattr(part, "n_f"):
        params, f, x = _likelihood_inputs(part, x, rng)
        _, cache = part.forward(params, f, x, None)
        d = cotangent(rng, (S, N))
        what = "backward with need_dparams=False"
        calls = {what: lambda: part.backward(params, cache, d, need_dparams=False)}
    else:
        params, inputs = away_from_zero(rng, part), rng.standard_normal((N, _width(part)))
        y, cache = part.forward(params, inputs)
        dy = cotangent(rng, y.shape)
        calls = {
            f"backward with {name}=False": lambda name=name: part.backward(params, cache, dy, **{name: False})
            for name in ("need_dx", "need_dparams")
        }
    notes = []
    for what, call in calls.items():
        try:
            call()
        except Exception as error:                                 # whatever a part of one's own may raise
            notes.append(f"{what} fails, {type(error).__name__}: {error}; training and E-steps ask for it")
    return notes


def _written_into(part, x, rng):
    """Sentences where a forward or a backward changes in place what belongs to its caller."""
    if hasattr(part, "n_phi"):
        phi, eta = table(rng, part), rng.standard_normal((S, N, part.n_latent))
        calls = {
            "sample": (part.sample, part.sample_backward, (phi, eta)),
            "log_prob": (part.log_prob, part.log_prob_backward, (phi, eta)),
        }
        if has_kl(part):
            calls["kl"] = part.kl, part.kl_backward, (phi,)
    else:
        if hasattr(part, "n_f"):
            given = _likelihood_inputs(part, x, rng)
        else:
            given = away_from_zero(rng, part), rng.standard_normal((N, _width(part)))
        calls = {
            "forward": (part.forward, lambda cache, d: part.backward(given[0], cache, d), given)
        }
    notes = []
    for name, (forward, backward, given) in calls.items():
        given = tree.map(_locked, list(given))
        try:
            y, cache = forward(*given)
            name = "backward" if name == "forward" else f"{name}_backward"
            backward(cache, _locked(cotangent(rng, y.shape)))
        except ValueError as error:
            if "read-only" not in str(error):
                raise
            notes.append(
                f"{name} changes in place what it was given; the caller needs it as it was; write y = 2 * x, "
                "not x *= 2"
            )
    return notes


def _locked(array):
    """A copy of a host array into which nothing can be written."""
    copy = np.array(array)
    copy.flags.writeable = False
    return copy


def _under_the_mask(part, x, rng):
    """A sentence where log p depends on what stands in the place of an entry that was not observed."""
    if not hasattr(part, "n_f"):
        return []
    params, f, x = _likelihood_inputs(part, x, rng)
    mask = np.ones_like(x)
    mask[:, 0] = 0.0
    other = x.copy()
    other[:, 0] = np.roll(x[:, 0], 1) if np.ptp(x[:, 0]) else x[:, 0] + 1
    seen, same = (part.forward(params, f, values, mask)[0] for values in (x, other))
    if np.array_equal(seen, same):
        return []
    return [
        "log p depends on an entry whose mask is 0; missing entries would count; leave its term out"
    ]


def _in_other_units(part, x, rng):
    """A sentence where standard_units and what goes with it are no change of units of one model."""
    if not hasattr(part, "standard_units"):
        return []
    params, f, x = _likelihood_inputs(part, x, rng)
    shift, scale = part.standard_units(x.mean(axis=0), x.var(axis=0) + 1.0)
    f_shift, f_scale = part.units_of_f(shift, scale)
    small = part.rescaled(scale)
    log_p, _ = part.forward(part.rescale_params(params, scale), f * f_scale + f_shift, x, None)
    there, _ = small.forward(params, f, (x - shift) / scale, None)
    if np.allclose(log_p, there - np.sum(np.log(scale)), rtol=1e-8, atol=1e-8):
        return []
    return [
        "log p of x in standard units, less Σ log scale, is not log p of x; what is trained is another model "
        "than what is kept; standard_units, units_of_f, rescaled and rescale_params go together"
    ]


def _likelihood_inputs(part, x, rng):
    """Parameters, f (S, N, n_f), and x (N, D), drawn from the likelihood unless given."""
    params, f = away_from_zero(rng, part), rng.standard_normal((S, N, part.n_f))
    return params, f, data(rng, part, params, f[0]) if x is None else np.asarray(x, dtype=float)[:N]


def _width(layer):
    return getattr(layer, "n_in", WIDTH)


def of_layer(rng, layer):
    """The `Report` on a layer or network: dx and dparams from forward(params, x)."""
    params = {"x": rng.standard_normal((N, _width(layer))), "params": away_from_zero(rng, layer)}

    def forward(p):
        return layer.forward(p["params"], p["x"])

    y, cache = forward(params)
    _expect("forward", y, (N, getattr(layer, "n_out", _width(layer))))
    c = cotangent(rng, y.shape)
    dx, dparams = layer.backward(params["params"], cache, c)
    return check(weighted(c, forward, y), params, {"x": dx, "params": dparams}, counts={"N": N})


def of_likelihood(rng, likelihood, masked, x=None):
    """The `Report` on a likelihood: df and dparams of log p(x|f), of its own draws where x is None."""
    theta = away_from_zero(rng, likelihood)
    params = {"f": rng.standard_normal((S, N, likelihood.n_f)), "params": theta}
    x = data(rng, likelihood, theta, params["f"][0]) if x is None else np.asarray(x, dtype=float)[:N]
    _expect("x", x, (N, likelihood.n_visible))
    mask = (rng.random(x.shape) < 0.6).astype(float) if masked else None
    c = cotangent(rng, (S, N))

    def forward(p):
        return likelihood.forward(p["params"], p["f"], x, mask)

    log_p, cache = forward(params)
    _expect("forward", log_p, (S, N))
    df, dparams = likelihood.backward(theta, cache, c)
    grads = {"f": df, "params": dparams}
    return check(weighted(c, forward, log_p), params, grads, counts={"N": N, "S": S})


def of_family(q):
    """{what: rng → Report} of a family of q; without the KL where that is no closed form."""
    checks = {"sample": of_sample, "kl": of_kl, "log q": of_log_prob}
    return {what: partial(check, q=q) for what, check in checks.items() if what != "kl" or has_kl(q)}


def of_sample(rng, q):
    """The `Report` on dphi of z = sample(φ, η)."""
    phi, eta, c = table(rng, q), rng.standard_normal((S, N, q.n_latent)), cotangent(rng, (S, N, q.n_latent))
    z, cache = q.sample(phi, eta)
    _expect("sample", z, (S, N, q.n_latent))
    return check(weighted(c, lambda p: q.sample(p, eta), z), phi, q.sample_backward(cache, c))


def of_kl(rng, q):
    """The `Report` on dphi of KL(q(z|φ_n) ‖ N(0, I))."""
    phi, c = table(rng, q), cotangent(rng, N)
    kl, cache = q.kl(phi)
    _expect("kl", kl, (N,))
    return check(weighted(c, q.kl, kl), phi, q.kl_backward(cache, c))


def of_log_prob(rng, q):
    """The `Report` on dphi and dz of log q(z|φ_n)."""
    params, c = [table(rng, q), rng.standard_normal((S, N, q.n_latent))], cotangent(rng, (S, N))
    log_q, cache = q.log_prob(*params)
    _expect("log_prob", log_q, (S, N))
    dphi, dz = q.log_prob_backward(cache, c)
    return check(weighted(c, lambda p: q.log_prob(*p), log_q), params, [dphi, dz], names=["phi", "z"])


def _expect(what, array, shape):
    """Raise ValueError unless `array` has this shape."""
    got = getattr(array, "shape", None)
    if got != shape:
        raise ValueError(f"{what} must give shape {shape} here, got {got}")


def weighted(c, forward, y):
    """L: params → Σ c·(forward(params) − y). Taking off y, the value here, spares the sum its rounding."""
    return lambda params: np.sum(c * (forward(params)[0] - y))


def away_from_zero(rng, part):
    """Parameters of a layer, likelihood or model whose entries are 0.2 to 0.6 in size: none is zero."""
    params = part.init(rng, get_backend()) if hasattr(part, "init") else {}
    return tree.map(lambda leaf: signed(rng, leaf.shape, 0.2, 0.6), params)


def cotangent(rng, shape):
    """The weights c of L = Σ c·y: random, and none is small."""
    return signed(rng, shape, 0.5, 1.5)


def signed(rng, shape, low, high):
    """Uniform between low and high in size, of either sign; of this shape."""
    return rng.choice([-1.0, 1.0], shape) * rng.uniform(low, high, shape)


def table(rng, q):
    """φ (N, n_phi) with standard deviations between about ½ and 2."""
    return rng.uniform(-0.7, 0.7, (N, q.n_phi))


def data(rng, likelihood, params, f):
    """x ~ p(x|f), f (N, n_f)."""
    if not (hasattr(likelihood, "sample") and hasattr(likelihood, "draw_noise")):
        raise ValueError(
            f"{type(likelihood).__name__} cannot draw data, it has no sample and draw_noise: give some, x=…"
        )
    return likelihood.sample(params, f, likelihood.draw_noise(rng, f.shape))
