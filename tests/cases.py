"""The table of components: one row each buys the dtype, read-only, backend, cache and value checks.

A row names a component, how to draw inputs for it, and an oracle: its value by another road, a
SciPy distribution or a closed form written out here. A new layer, likelihood or posterior family
needs one row in CASES; `test_components.py` fails where one of the package's tables has a class
that no row names. (Its gradients are checked by `teachvae.checks`, from the same tables.)
"""

from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np
from scipy import special, stats

from teachvae import (
    bound as the_bound, importance_weighted as the_objective, layers, likelihoods, posteriors, tree
)
from teachvae.arrays.backend import get_backend
from teachvae.model import Model

N, S, D, K = 5, 4, 3, 3


@dataclass(frozen=True)
class Case:
    """One function of one component, and its backward.

    inputs    rng → a dict of trees of float64 host arrays
    forward   inputs → (value, cache)
    backward  inputs, cache, dvalue → gradients with respect to some of the inputs, a tree
    oracle    inputs → the value by another road, NumPy float64
    """

    name: str
    component: object
    inputs: object
    forward: object
    backward: object
    oracle: object


@dataclass(frozen=True)
class Total:
    """Points x (M, D) and weights (M,) on which the densities of `likelihood` sum to one, to within rtol: a
    lattice is as exact as float64 for what is smooth, and no better than its mesh for what has a kink.
    """

    name: str
    likelihood: object
    x: np.ndarray
    weights: np.ndarray
    rtol: float = 1e-12


def perturbed(rng, part):
    """The initial parameters of a layer, likelihood or model, moved so that none is zero."""
    return tree.map(
        lambda leaf: leaf + rng.uniform(0.1, 0.5, leaf.shape), part.init(rng, get_backend())
    )


def layer(name, component, oracle, n_in=4):
    def inputs(rng):
        return {"params": perturbed(rng, component), "x": rng.standard_normal((N, n_in))}

    def backward(i, cache, dy):
        dx, dparams = component.backward(i["params"], cache, dy)
        return {"params": dparams, "x": dx}

    return Case(
        name, component, inputs, lambda i: component.forward(i["params"], i["x"]), backward,
        lambda i: oracle(i["params"], i["x"]),
    )


def likelihood(name, component, oracle):
    """Two cases: whole data, and data with a mask. oracle: params, f, x → terms (S, N, D) of log p(x|f)"""
    def inputs(rng, kind):
        params, f = perturbed(rng, component), rng.standard_normal((S, N, component.n_f))
        x = component.sample(params, f[0], component.draw_noise(rng, f[0].shape))
        mask = (rng.random(x.shape) < 0.6).astype(float)
        return {"params": params, "f": f, "x": x} | ({"mask": mask} if kind == "masked" else {})

    def value(i):
        return np.sum(oracle(i["params"], i["f"], i["x"]) * i.get("mask", 1), axis=2)

    def backward(i, cache, dlog_p):
        df, dparams = component.backward(i["params"], cache, dlog_p)
        return {"params": dparams, "f": df}

    def case(kind):
        return Case(
            f"{name}, {kind}" if kind else name, component, lambda rng: inputs(rng, kind),
            lambda i: component.forward(i["params"], i["f"], i["x"], i.get("mask")), backward, value,
        )

    return [case(kind) for kind in ("", "masked")]


def gaussian_q(name, component, moments):
    """A row of POSTERIORS. moments: one row of φ → mean (K,), a root R of R Rᵀ = covariance."""
    def place(row, eta):
        m, R = moments(row)
        return m + eta @ R.T

    def log_q(row, eta):
        m, R = moments(row)
        return stats.multivariate_normal(m, R @ R.T).logpdf(place(row, eta))

    def kl(row):
        m, R = moments(row)
        return kl_to_prior(m, R @ R.T)

    parts = {"place": place, "log_q": log_q, "kl": kl, "moments": moments}
    return {"name": name, "component": component, **parts}


def flow_q(name, component, bends):
    """A row of POSTERIORS, without a KL. bends: functions of a layer's numbers and one u (K,)."""
    def place(row, eta):
        m, L = full_moments(row[: K + K * (K + 1) // 2])
        parts = np.split(row[K + K * (K + 1) // 2 :], len(bends))
        z = []
        for u in eta:
            for bend, numbers in zip(bends, parts):
                u = bend(numbers, u)
            z.append(m + L @ u)
        return np.array(z)

    def log_q(row, eta):
        """By the change of variables, the Jacobian by complex steps: exact to rounding."""
        h = 1e-30
        columns = [place(row, eta + 1j * h * one).imag / h for one in np.eye(K)]
        log_det = np.linalg.slogdet(np.stack(columns, axis=2))[1]
        return stats.norm.logpdf(eta).sum(axis=1) - log_det

    return {"name": name, "component": component, "place": place, "log_q": log_q}


def flow(name, component, place, log_q):
    """Cases for sample and log q of a family without a KL, z being where eta goes."""
    def inputs(rng):
        phi, eta = 0.5 * rng.standard_normal((N, component.n_phi)), rng.standard_normal((S, N, K))
        return {"phi": phi, "eta": eta}

    def with_z(rng):
        i = inputs(rng)
        return i | {"z": np.stack([place(row, i["eta"][:, n]) for n, row in enumerate(i["phi"])], axis=1)}

    def log_prob_backward(i, cache, dlog_q):
        dphi, dz = component.log_prob_backward(cache, dlog_q)
        return {"phi": dphi, "z": dz}

    return [
        Case(
            f"{name} sample", component, inputs, lambda i: component.sample(i["phi"], i["eta"]),
            lambda i, cache, dz: {"phi": component.sample_backward(cache, dz)},
            lambda i: np.stack([place(row, i["eta"][:, n]) for n, row in enumerate(i["phi"])], axis=1),
        ),
        Case(
            f"{name} log q", component, with_z, lambda i: component.log_prob(i["phi"], i["z"]),
            log_prob_backward,
            lambda i: np.stack([log_q(row, i["eta"][:, n]) for n, row in enumerate(i["phi"])], axis=1),
        ),
    ]


def coupled(numbers, u, moves_first):
    """One coupling at one u (K,), number by number: the units' places are written out here."""
    places = list(range(K))
    given, moved = places[: K // 2], places[K // 2 :]
    if moves_first:
        given, moved = moved, given
    units = np.array([np.tanh(u[g] - knot) for g in given for knot in (-1, 0, 1)])
    V, new = np.tanh(numbers).reshape(len(units), -1), np.array(u)
    for j, d in enumerate(moved):
        new[d] = u[d] * np.exp(units @ V[:, len(moved) + j]) + units @ V[:, j]
    return new


def planar(numbers, u, axis):
    """One planar layer at one u (K,): v is pushed along w until 1 + v wᵀ is log(1 + (e − 1) e^{v wᵀ})."""
    t = np.tanh(numbers)
    v, w = t[:K], np.insert(t[K + 1 :], axis, 1)
    r = v + (np.log(1 + (np.e - 1) * np.exp(v @ w)) - 1 - v @ w) * w / (w @ w)
    return u + r * np.tanh(w @ u + t[K])


def posterior(name, component, moments, **_):
    """Cases for sample, KL and log q. moments: one row of φ → mean (K,), a root R of R Rᵀ = covariance."""
    def phi_eta_z(rng):
        phi = 0.5 * rng.standard_normal((N, component.n_phi))
        return {"phi": phi, "eta": rng.standard_normal((S, N, K)), "z": rng.standard_normal((S, N, K))}

    def some(*names):
        return lambda rng: {name: value for name, value in phi_eta_z(rng).items() if name in names}

    def each(function):
        return lambda i: np.stack([function(*moments(row), i, n) for n, row in enumerate(i["phi"])], axis=-1)

    def log_prob_backward(i, cache, dlog_q):
        dphi, dz = component.log_prob_backward(cache, dlog_q)
        return {"phi": dphi, "z": dz}

    return [
        Case(
            f"{name} sample", component, some("phi", "eta"), lambda i: component.sample(i["phi"], i["eta"]),
            lambda i, cache, dz: {"phi": component.sample_backward(cache, dz)},
            lambda i: np.swapaxes(each(lambda m, R, i, n: m + i["eta"][:, n] @ R.T)(i), 1, 2),
        ),
        Case(
            f"{name} kl", component, some("phi"), lambda i: component.kl(i["phi"]),
            lambda i, cache, dkl: {"phi": component.kl_backward(cache, dkl)},
            each(lambda m, R, i, n: kl_to_prior(m, R @ R.T)),
        ),
        Case(
            f"{name} log q", component, some("phi", "z"), lambda i: component.log_prob(i["phi"], i["z"]),
            log_prob_backward,
            each(lambda m, R, i, n: stats.multivariate_normal(m, R @ R.T).logpdf(i["z"][:, n])),
        ),
    ]


def bound(q_case, p_case, kl):
    """Q of a model with a tanh decoder. The oracle takes z, KL, log q and log p from the other oracles."""
    model, some = a_model(q_case, p_case)

    def inputs(rng):
        weights = rng.uniform(0.5, 1.5, (S, N))
        return {**some(rng), "weights": weights / weights.sum(axis=0)}

    def forward(i):
        return the_bound.forward(model, i["theta"], i["phi"], i["x"], i["eta"], weights=i["weights"], kl=kl)

    def backward(i, cache, dQ):
        dphi, dtheta = the_bound.backward(model, i["theta"], cache, dQ)
        return {"phi": dphi, "theta": dtheta}

    def oracle(i):
        found = zip(i["phi"], i["weights"].T, costs(q_case, p_case, i))
        if kl == "sampled":
            return np.array([w @ (log_q - log_p_z - log_p) for _, w, (log_q, log_p_z, log_p) in found])
        return np.array([q_case["kl"](row) - w @ log_p for row, w, (_, _, log_p) in found])

    name = f"bound, {q_case['name']}, {p_case['name']}, {kl} KL"
    return Case(name, model, inputs, forward, backward, oracle)


def importance_weighted(q_case, p_case):
    """L_k of the same model, and by the same oracles, with SciPy's log-sum-exp."""
    model, some = a_model(q_case, p_case)

    def forward(i):
        return the_objective.forward(model, i["theta"], i["phi"], i["x"], i["eta"])

    def backward(i, cache, dL):
        dphi, dtheta = the_objective.backward(model, i["theta"], cache, dL)
        return {"phi": dphi, "theta": dtheta}

    def oracle(i):
        log_w = [log_p + log_p_z - log_q for log_q, log_p_z, log_p in costs(q_case, p_case, i)]
        return np.log(S) - special.logsumexp(log_w, axis=1)

    name = f"importance-weighted, {q_case['name']}, {p_case['name']}"
    return Case(name, model, some, forward, backward, oracle)


def a_model(q_case, p_case):
    """A model with a tanh decoder, and a function that draws φ, θ, x and η for it."""
    p, q = p_case["component"], q_case["component"]
    model = Model(layers.mlp(K, (4,), p.n_f), p, K, q)

    def inputs(rng):
        theta = perturbed(rng, model)
        f, _ = model.decoder.forward(theta["decoder"], rng.standard_normal((N, K)))
        return {
            "phi": 0.5 * rng.standard_normal((N, q.n_phi)), "theta": theta,
            "x": p.sample(theta["likelihood"], f, p.draw_noise(rng, f.shape)),
            "eta": rng.standard_normal((S, N, K)),
        }

    return model, inputs


def costs(q_case, p_case, i):
    """log q(z), log p(z) and log p(x|z) of the samples of each data case, (S,) each."""
    first, _, last = i["theta"]["decoder"]
    for n, row in enumerate(i["phi"]):
        eta = i["eta"][:, n]
        z = q_case["place"](row, eta)
        f = np.tanh(z @ first["W"] + first["b"]) @ last["W"] + last["b"]
        terms = p_case["oracle"](i["theta"]["likelihood"], f[:, None], i["x"][n : n + 1])
        yield q_case["log_q"](row, eta), stats.norm.logpdf(z).sum(axis=1), terms.sum(axis=(1, 2))


def kl_to_prior(m, cov):
    """KL(N(m, cov) ‖ N(0, I)) in its general form, for any covariance."""
    return 0.5 * (np.trace(cov) + m @ m - len(m) - np.linalg.slogdet(cov)[1])


def diagonal_moments(row):
    return row[:K], np.diag(np.exp(row[K:]))


def full_moments(row):
    L, entries = np.zeros((K, K)), iter(row[K:])
    for i in range(K):
        for j in range(i + 1):
            L[i, j] = next(entries)
        L[i, i] = np.exp(L[i, i])
    return row[:K], L


def gaussian(psi):
    """log N(x_d; f_d, psi_d); psi: params → variances."""
    return lambda params, f, x: stats.norm.logpdf(x, f, np.sqrt(psi(params)))


def two_layers(params, x):
    first, _, last = params
    return np.tanh(x @ first["W"] + first["b"]) @ last["W"] + last["b"]


NETWORK = layers.mlp(4, (6,), 3)
LINE, CORNERS = np.linspace(-30, 30, 4001)[:, None], np.array(list(product([0.0, 1.0], repeat=3)))

COUNTS = np.arange(3000.0)[:, None]
ONE_HOT = np.array([[*a, *b] for a, b in product(np.eye(2), np.eye(3))])
MIXED = likelihoods.Mixed((
    (likelihoods.Gaussian(1, "isotropic"), [3]), (likelihoods.Categorical((2,)), [0, 4]),
    (likelihoods.Bernoulli(2), [1, 2]),
))
BITS = likelihoods.Mixed(((likelihoods.Categorical((2,)), [2, 0]), (likelihoods.Bernoulli(1), [1])))
WIDE = likelihoods.Mixed((             # every kind that has units, or columns of f, of its own
    (likelihoods.Poisson(1), [5]), (likelihoods.StudentT(2), [8, 0]), (likelihoods.Gaussian(1, 0.7), [1]),
    (likelihoods.PredictedGaussian(1, 0.3), [3]), (likelihoods.Categorical((2,)), [6, 2]),
    (likelihoods.Gaussian(2), [7, 4]),
))


def mixed_terms(params, f, x):
    """The terms of MIXED (S, N, 5), in the order of x's columns."""
    normal = stats.norm.logpdf(x[..., 3], f[..., 0], np.exp(0.5 * params[0]["log_psi"][0]))
    category = x[..., [0, 4]] * special.log_softmax(f[..., 1:3], axis=-1)
    binary = stats.bernoulli.logpmf(x[..., 1:3], special.expit(f[..., 3:]))
    return np.concatenate([category[..., :1], binary, normal[..., None], category[..., 1:]], axis=-1)


GAUSSIANS = {name: posteriors.POSTERIORS[name] for name in ("diagonal", "full")}
POSTERIORS = [
    gaussian_q("diagonal", posteriors.DiagonalGaussian(K), diagonal_moments),
    gaussian_q("full", posteriors.FullGaussian(K), full_moments),
]
FLOWS = [
    flow_q("flow", posteriors.coupling_flow(K), [partial(coupled, moves_first=m) for m in (False, True)]),
    flow_q("planar", posteriors.planar_flow(K), [partial(planar, axis=k) for k in range(K)]),
]
LIKELIHOODS = [
    {"name": "gaussian diagonal", "component": likelihoods.Gaussian(D),
     "oracle": gaussian(lambda params: np.exp(params["log_psi"]))},
    {"name": "gaussian isotropic", "component": likelihoods.Gaussian(D, "isotropic"),
     "oracle": gaussian(lambda params: np.exp(params["log_psi"]))},
    {"name": "gaussian fixed", "component": likelihoods.Gaussian(D, 0.7),
     "oracle": gaussian(lambda params: 0.7)},
    {"name": "bernoulli", "component": likelihoods.Bernoulli(D),
     "oracle": lambda params, f, x: stats.bernoulli.logpmf(x, special.expit(f))},
    {"name": "poisson", "component": likelihoods.Poisson(D),
     "oracle": lambda params, f, x: stats.poisson.logpmf(x, np.exp(f))},
    {"name": "student-t", "component": likelihoods.StudentT(D),
     "oracle": lambda params, f, x: stats.t.logpdf(x, 4, f, np.exp(0.5 * params["log_psi"]))},
    {"name": "student-t, heavy", "component": likelihoods.StudentT(D, 2.2),
     "oracle": lambda params, f, x: stats.t.logpdf(x, 2.2, f, np.exp(0.5 * params["log_psi"]))},
    {"name": "categorical", "component": likelihoods.Categorical((2, 1, 3)),
     "oracle": lambda params, f, x: x * np.concatenate(
         [special.log_softmax(b, axis=-1) for b in np.split(f, [2, 3], axis=-1)], axis=-1)},
    {"name": "bernoulli-relaxed", "component": likelihoods.Bernoulli(D, relaxed=True),
     "oracle": lambda params, f, x: x * special.log_expit(f) + (1 - x) * special.log_expit(-f)},
    {"name": "mixed", "component": MIXED, "oracle": mixed_terms},
    {"name": "gaussian-predicted", "component": likelihoods.PredictedGaussian(D, 0.3),
     "oracle": lambda params, f, x: stats.norm.logpdf(x, f[..., :D], np.sqrt(0.3 + np.exp(f[..., D:])))},
]
TOTALS = [
    Total("gaussian diagonal", likelihoods.Gaussian(1), LINE, np.full(len(LINE), LINE[1, 0] - LINE[0, 0])),
    Total("gaussian fixed", likelihoods.Gaussian(1, 0.7), LINE, np.full(len(LINE), LINE[1, 0] - LINE[0, 0])),
    Total("bernoulli", likelihoods.Bernoulli(3), CORNERS, np.ones(len(CORNERS))),
    Total("poisson", likelihoods.Poisson(1), COUNTS, np.ones(len(COUNTS))),
    Total("student-t", likelihoods.StudentT(1, 8.0), 10 * LINE, np.full(len(LINE), 0.15)),
    Total("categorical", likelihoods.Categorical((2, 3)), ONE_HOT, np.ones(len(ONE_HOT))),
    Total("mixed", BITS, CORNERS[CORNERS[:, 0] != CORNERS[:, 2]], np.ones(4)),
    Total("gaussian-predicted", likelihoods.PredictedGaussian(1, 0.3), 10 * LINE, np.full(len(LINE), 0.15)),
]
CASES = [
    layer("linear", layers.Linear(4, 3), lambda p, x: np.einsum("ri,io->ro", x, p["W"]) + p["b"]),
    layer("tanh", layers.Tanh(), lambda p, x: 2 * special.expit(2 * x) - 1),
    layer("relu", layers.ReLU(), lambda p, x: np.maximum(x, 0)),
    layer("sigmoid", layers.Sigmoid(), lambda p, x: special.expit(x)),
    layer("softplus", layers.Softplus(), lambda p, x: np.logaddexp(0, x)),
    layer("sequential", NETWORK, two_layers),
    layer(
        "parallel", layers.Parallel((NETWORK, layers.mlp(4, (), 2))),
        lambda p, x: np.concatenate([two_layers(p[0], x), x @ p[1][0]["W"] + p[1][0]["b"]], axis=1),
    ),
    *(case for row in LIKELIHOODS for case in likelihood(**row)),
    *(case for row in POSTERIORS for case in posterior(**row)),
    *(case for row in FLOWS for case in flow(**row)),
    *(bound(q, LIKELIHOODS[0], "sampled") for q in FLOWS),
    *(bound(q, p, kl) for q, p, kl in product(POSTERIORS, LIKELIHOODS, ("analytic", "sampled"))),
    *(importance_weighted(q, p) for q, p in product([*POSTERIORS, *FLOWS], LIKELIHOODS)
      if p["name"] in ("gaussian diagonal", "mixed")),
]
