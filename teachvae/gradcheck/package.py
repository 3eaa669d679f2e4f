"""Every hand-derived gradient of the package against central differences: `teachvae gradcheck`.

Whatever stands in the tables ACTIVATIONS, LIKELIHOODS and POSTERIORS is checked: on its own, inside
the bound, and in the whole of a VAE, from the data through the recognition network to Q. Each check
is a function rng → Report that draws a random point (parameters away from zero) and a random
cotangent, the weights c of L = Σ c·y: nothing is hidden by a zero, nor by a sum that is constant.
"""

from functools import partial
from itertools import product

import numpy as np

from .. import bound
from ..arrays import tree
from ..arrays.backend import get_backend
from ..likelihoods import Categorical, Gaussian, LIKELIHOODS, Mixed, Poisson
from ..messages import align
from ..model import Model
from ..networks.layers import ACTIVATIONS, Linear, Parallel, Sequential, mlp
from ..posteriors import POSTERIORS
from ..posteriors.nodes import gauss_hermite, monte_carlo
from . import check, draw_until_smooth

N, S, D, K = 4, 3, 3, 2
ATTEMPTS = 20                                                      # points tried until none is at a kink


def run(seed=0):
    """A list of (name, Report), one for every component, the bound and the whole."""
    return [
        (name, draw_until_smooth(partial(_at_random, make_check, seed, i), range(ATTEMPTS)))
        for i, (name, make_check) in enumerate(all_checks())
    ]


def _at_random(make_check, *seeds):
    return make_check(np.random.default_rng(seeds))


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
        for part, of_part in (("sample", of_sample), ("kl", of_kl), ("log q", of_log_prob)):
            checks.append((f"{name} {part}", partial(of_part, q=family(K))))

    kls = "analytic", "sampled"
    for (q_name, family), (p_name, p), kl in product(POSTERIORS.items(), likelihoods(), kls):
        name = f"bound, {q_name}, {p_name}, {kl} KL"
        parts = {"decoder": mlp(K, (3,), p.n_f), "likelihood": p, "q": family(K), "kl": kl}
        checks.append((name, partial(of_bound, **parts, nodes=False)))
        checks.append((f"{name}, quadrature", partial(of_bound, **parts, nodes=True)))
        checks.append((f"{name}, amortised", partial(of_amortised, **parts)))
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


def of_layer(rng, layer):
    params = {"x": rng.standard_normal((N, 4)), "params": away_from_zero(rng, layer)}

    def forward(p):
        return layer.forward(p["params"], p["x"])

    y, cache = forward(params)
    c = cotangent(rng, y.shape)
    dx, dparams = layer.backward(params["params"], cache, c)
    return check(weighted(c, forward, y), params, {"x": dx, "params": dparams}, counts={"N": N})


def of_likelihood(rng, likelihood, masked):
    theta = away_from_zero(rng, likelihood)
    params = {"f": rng.standard_normal((S, N, likelihood.n_f)), "params": theta}
    x = data(rng, likelihood, theta, params["f"][0])
    mask = (rng.random(x.shape) < 0.6).astype(float) if masked else None
    c = cotangent(rng, (S, N))

    def forward(p):
        return likelihood.forward(p["params"], p["f"], x, mask)

    log_p, cache = forward(params)
    df, dparams = likelihood.backward(theta, cache, c)
    grads = {"f": df, "params": dparams}
    return check(weighted(c, forward, log_p), params, grads, counts={"N": N, "S": S})


def of_sample(rng, q):
    phi, eta, c = table(rng, q), rng.standard_normal((S, N, K)), cotangent(rng, (S, N, K))
    z, cache = q.sample(phi, eta)
    return check(weighted(c, lambda p: q.sample(p, eta), z), phi, q.sample_backward(cache, c))


def of_kl(rng, q):
    phi, c = table(rng, q), cotangent(rng, N)
    kl, cache = q.kl(phi)
    return check(weighted(c, q.kl, kl), phi, q.kl_backward(cache, c))


def of_log_prob(rng, q):
    params, c = [table(rng, q), rng.standard_normal((S, N, K))], cotangent(rng, (S, N))
    log_q, cache = q.log_prob(*params)
    dphi, dz = q.log_prob_backward(cache, c)
    return check(weighted(c, lambda p: q.log_prob(*p), log_q), params, [dphi, dz], names=["phi", "z"])


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


def weighted(c, forward, y):
    """L: params → Σ c·(forward(params) − y). Taking off y, the value here, spares the sum its rounding."""
    return lambda params: np.sum(c * (forward(params)[0] - y))


def away_from_zero(rng, part):
    """Parameters of a layer, likelihood or model whose entries are 0.2 to 0.6 in size: none is zero."""
    return tree.map(lambda leaf: signed(rng, leaf.shape, 0.2, 0.6), part.init(rng, get_backend()))


def cotangent(rng, shape):
    """The weights c of L = Σ c·y: random, and none is small."""
    return signed(rng, shape, 0.5, 1.5)


def signed(rng, shape, low, high):
    return rng.choice([-1.0, 1.0], shape) * rng.uniform(low, high, shape)


def table(rng, q):
    """φ (N, n_phi) with standard deviations between about ½ and 2."""
    return rng.uniform(-0.7, 0.7, (N, q.n_phi))


def data(rng, likelihood, params, f):
    """x ~ p(x|f), f (N, n_f)."""
    return likelihood.sample(params, f, likelihood.draw_noise(rng, f.shape))


def model_data(rng, model, theta):
    """x (N, D) from the model itself: z ~ N(0, I), f = decoder(z), x ~ p(x|f)."""
    f, _ = model.f(theta, rng.standard_normal((N, K)))
    return data(rng, model.likelihood, theta["likelihood"], f)
