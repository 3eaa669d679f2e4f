"""Every hand-derived gradient of the package against central differences: `teachvae gradcheck`.

Whatever stands in the tables ACTIVATIONS, LIKELIHOODS and POSTERIORS is checked: on its own, inside
the bound, and in the whole of a VAE, from the data through the recognition network to Q. Each check
is a function rng → Report that draws a random point and a random cotangent, as in `part`.
"""

from functools import partial
from itertools import product

import numpy as np

from .. import bound, importance_weighted
from ..likelihoods import Categorical, Gaussian, LIKELIHOODS, Mixed, Poisson
from ..messages import align
from ..model import Model
from ..networks.layers import ACTIVATIONS, Linear, Parallel, Sequential, mlp
from ..posteriors import POSTERIORS, has_kl
from ..posteriors.nodes import gauss_hermite, monte_carlo
from .check import check, draw_until_smooth
from .part import (
    ATTEMPTS, away_from_zero, cotangent, data, of_family, of_layer, of_likelihood, table, weighted
)

N, S, D, K = 4, 3, 3, 2


def run(seed=0):
    """A list of (name, Report), one for every component, the bound and the whole."""
    return [(name, of(make_check, i, seed)) for i, (name, make_check) in enumerate(all_checks())]


def of(make_check, place, seed=0):
    """The Report of a check of `all_checks`, whose place there is a part of its seed."""
    def at_random(attempt):
        return make_check(np.random.default_rng((seed, place, attempt)))

    return draw_until_smooth(at_random, range(ATTEMPTS))


def format(results):  # noqa: A001 - checks.format(...) is how it is read
    """What was checked, how many leaves and numbers, the worst relative error; then what is wrong."""
    cells = [("what", "leaves", "numbers", "worst relative error", "")]
    for name, report in results:
        numbers = sum(int(np.prod(row.shape)) for row in report.rows)
        cells.append((name, str(len(report.rows)), str(numbers), f"{report.worst.error:.1e}", report.verdict))
    wrong = [f"\n{name}\n{report}" for name, report in results if not report.ok]
    return "\n".join([align(cells), *wrong])


def all_checks():
    """(name, rng → Report) of everything that has a gradient."""
    stack = Sequential((Linear(4, 5), ACTIVATIONS["tanh"](), Linear(5, 3)))
    layers = {"linear": Linear(4, 3)}
    layers |= {name: activation() for name, activation in ACTIVATIONS.items()}
    layers |= {"sequential": stack, "parallel": Parallel((stack, Linear(4, 2)))}
    layers |= {f"mlp {activation}": mlp(4, (6, 6), 3, activation) for activation in ACTIVATIONS}
    checks = [(name, partial(of_layer, layer=layer)) for name, layer in layers.items()]

    for name, p in likelihoods():
        checks.append((name, partial(of_likelihood, likelihood=p, masked=False)))
        checks.append((f"{name}, masked", partial(of_likelihood, likelihood=p, masked=True)))
    for name, family in POSTERIORS.items():
        for part, of_part in of_family(family(K)).items():
            checks.append((f"{name} {part}", of_part))

    kls = "analytic", "sampled"
    for (q_name, family), (p_name, p), kl in product(POSTERIORS.items(), likelihoods(), kls):
        if kl == "analytic" and not has_kl(family(K)):
            continue
        name = f"bound, {q_name}, {p_name}, {kl} KL"
        parts = {"decoder": mlp(K, (3,), p.n_f), "likelihood": p, "q": family(K), "kl": kl}
        checks.append((name, partial(of_bound, **parts, nodes=False)))
        checks.append((f"{name}, quadrature", partial(of_bound, **parts, nodes=True)))
        checks.append((f"{name}, amortised", partial(of_amortised, **parts)))
    for (q_name, family), (p_name, p) in product(POSTERIORS.items(), likelihoods()):
        parts = {"decoder": mlp(K, (3,), p.n_f), "likelihood": p, "q": family(K)}
        checks.append((f"importance-weighted, {q_name}, {p_name}", partial(of_importance_weighted, **parts)))
    return checks


def likelihoods():
    """(name, likelihood) of all in LIKELIHOODS, the Gaussian in each of its noise modes, and a mixed one."""
    for name, likelihood in LIKELIHOODS.items():
        if name == "gaussian":
            for mode in ("diagonal", "isotropic", 0.7):
                yield f"{name} {mode}", likelihood(D, mode)
        elif name == "categorical":
            yield name, likelihood((2, 3))
        else:
            yield name, likelihood(D)
    yield "mixed", Mixed(((Gaussian(1), [2]), (Categorical((2,)), [0, 3]), (Poisson(1), [1])))


def of_bound(rng, decoder, likelihood, q, kl, nodes):
    """∂/∂φ and ∂/∂θ of Σ c_n Q_n, with random draws and weights 1/S, or with quadrature nodes."""
    model = Model(decoder, likelihood, K, q)
    params = {"phi": table(rng, q), "theta": away_from_zero(rng, model)}
    eta, weights = gauss_hermite(K, 2) if nodes else (monte_carlo(rng, S, N, K), None)
    x, c = model_data(rng, model, params["theta"]), cotangent(rng, N)

    def forward(p):
        return bound.forward(model, p["theta"], p["phi"], x, eta, weights=weights, kl=kl)

    Q, cache = forward(params)
    dphi, dtheta = bound.backward(model, params["theta"], cache, c)
    grads = {"phi": dphi, "theta": dtheta}
    return check(weighted(c, forward, Q), params, grads, counts={"N": N, "S": len(eta)})


def of_importance_weighted(rng, decoder, likelihood, q):
    """∂/∂φ and ∂/∂θ of Σ c_n L_n, the importance-weighted bound of S draws."""
    model = Model(decoder, likelihood, K, q)
    params = {"phi": table(rng, q), "theta": away_from_zero(rng, model)}
    eta, c = monte_carlo(rng, S, N, K), cotangent(rng, N)
    x = model_data(rng, model, params["theta"])

    def forward(p):
        return importance_weighted.forward(model, p["theta"], p["phi"], x, eta)

    L, cache = forward(params)
    dphi, dtheta = importance_weighted.backward(model, params["theta"], cache, c)
    grads = {"phi": dphi, "theta": dtheta}
    return check(weighted(c, forward, L), params, grads, counts={"N": N, "S": S})


def of_amortised(rng, decoder, likelihood, q, kl):
    """The whole VAE, x → recognition network → φ → Q: every parameter of both networks."""
    model, recognition = Model(decoder, likelihood, K, q), mlp(likelihood.n_visible, (3,), q.n_phi)
    params = {"recognition": away_from_zero(rng, recognition), "theta": away_from_zero(rng, model)}
    eta, c = monte_carlo(rng, S, N, K), cotangent(rng, N)
    x = model_data(rng, model, params["theta"])

    def forward(p):
        phi, recognition_cache = recognition.forward(p["recognition"], x)
        Q, bound_cache = bound.forward(model, p["theta"], phi, x, eta, kl=kl)
        return Q, (recognition_cache, bound_cache)

    Q, (recognition_cache, bound_cache) = forward(params)
    dphi, dtheta = bound.backward(model, params["theta"], bound_cache, c)
    _, drecognition = recognition.backward(params["recognition"], recognition_cache, dphi, need_dx=False)
    grads = {"recognition": drecognition, "theta": dtheta}
    return check(weighted(c, forward, Q), params, grads, counts={"N": N, "S": S})


def model_data(rng, model, theta):
    """x (N, D) from the model itself: z ~ N(0, I), f = decoder(z), x ~ p(x|f)."""
    f, _ = model.f(theta, rng.standard_normal((N, K)))
    return data(rng, model.likelihood, theta["likelihood"], f)
