"""Five checks of the package, each of which sees faults that the others cannot: `teachvae course --check`.

    gradients   every backward belongs to its forward, by differences: what `teachvae gradcheck` does
    bound       Q is nowhere below nlml, and touches it where q is the posterior
    moments     what is sampled has the mean and the variance that φ and Ψ say
    values      densities sum to one, two roads to a number meet
    checker     the gradient checker refuses gradients that are wrong

A class that looks for a fault planted by `teachvae course --break` runs them in the broken copy. The second
roads are written out here in plain NumPy: what they share with the package, a fault there would hide.
"""

from dataclasses import dataclass
from itertools import product
import math

import numpy as np

from .. import bound
from ..evaluation import nlml
from ..gradcheck import check, package, part
from ..likelihoods import Bernoulli, Gaussian, Poisson
from ..model import Model
from ..networks.layers import Linear
from ..networks.optimizers import SGD, Adam
from ..posteriors import DiagonalGaussian, FullGaussian
from ..posteriors.nodes import gauss_hermite, sigma_points

EXACT = 1e-9                                                       # how far two roads to a number may part


@dataclass(frozen=True)
class Finding:
    """One line of a check: what was looked at, the number that was found, and whether it may be so."""

    what: str
    number: float
    ok: bool


def gradients(seed):
    """Every gradient of the package against finite differences: the worst relative error."""
    results = package.run(seed)
    wrong = [name for name, report in results if not report.ok]
    error = max(report.worst.error for _, report in results)
    what = f"{len(results)} parts against finite differences: the largest relative error"
    if wrong:
        what = f"{len(wrong)} of {what}; teachvae gradcheck says which"
    return [Finding(what, error, not wrong)]


def bounds(seed):
    """Q − nlml of a linear-Gaussian model whose posterior is a diagonal Gaussian, nlml from Σ = WᵀW + Ψ."""
    rng = np.random.default_rng(seed)
    model, theta, x, best, known = _linear_model(rng)
    eta, weights = sigma_points(model.n_latent)
    found = []
    for kl in ("analytic", "sampled"):
        above = [
            bound.forward(model, theta, phi, x, eta, weights=weights, kl=kl)[0] - known
            for phi in (best, *(best + 0.5 * rng.standard_normal(best.shape) for _ in range(20)))
        ]
        low, touches = float(np.min(above)), float(np.abs(above[0]).max())
        found += [
            Finding(f"Q − nlml, {kl} KL: the least over many q, in nats", low, low > -EXACT),
            Finding(f"Q − nlml, {kl} KL: where q is the posterior, in nats", touches, touches < EXACT),
        ]
    return found


def moments(seed):
    """Mean and variance of what is sampled, over nodes that make both exact."""
    rng = np.random.default_rng(seed)
    K, N, D = 2, 3, 4
    eta, weights = gauss_hermite(K, 3)
    m, log_s = rng.standard_normal((N, K)), rng.uniform(-1, 1, (N, K))
    full = np.concatenate([m, rng.uniform(-1, 1, (N, FullGaussian(K).n_phi - K))], axis=1)
    found = []
    for name, q, phi in [
        ("a diagonal Gaussian q", DiagonalGaussian(K), np.concatenate([m, log_s], axis=1)),
        ("a full Gaussian q", FullGaussian(K), full),
    ]:
        z, _ = q.sample(phi, eta)                                  # (R, N, K)
        mean = np.einsum("r,rnk->nk", weights, z)
        covariance = np.einsum("r,rnk,rnl->nkl", weights, z - mean, z - mean)
        asked = np.exp(2 * log_s)[:, :, None] * np.eye(K) if "diagonal" in name else q.covariance(phi)
        found += [
            _near(f"{name}: the mean of its samples less m", mean - m),
            _near(f"{name}: the covariance of its samples less what φ says", covariance - asked),
        ]
    f, log_psi = rng.standard_normal((1, D)), rng.uniform(-1, 1, D)
    low, high = (Gaussian(D).sample({"log_psi": log_psi}, f, sign * np.ones((1, D))) for sign in (-1, 1))
    return [
        *found,
        _near("the Gaussian likelihood: the mean of its draws less f", (low + high) / 2 - f),
        _near("the Gaussian likelihood: their variance less Ψ", ((high - low) / 2)**2 - np.exp(log_psi)),
    ]


def values(seed):
    """Sums of densities over all x, and numbers to which there are two roads."""
    rng = np.random.default_rng(seed)
    psi, points = 0.6, np.linspace(-12, 12, 4001)[:, None]
    density = Gaussian(1, psi).forward({}, np.full((1, len(points), 1), 0.4), points)[0]
    found = [_sums_to_one("the Gaussian density", np.exp(density) * (points[1] - points[0]))]
    f = rng.standard_normal((1, 1, 3))
    bits = np.array(list(product((0.0, 1.0), repeat=3)))
    of_bits = Bernoulli(3).forward({}, f, bits)[0]
    found.append(_sums_to_one("Bernoulli, over all of {0, 1}³", np.exp(of_bits)))
    of_counts = Poisson(1).forward({}, np.full((1, 200, 1), 1.3), np.arange(200.0)[:, None])[0]
    found.append(_sums_to_one("Poisson, over the counts below 200", np.exp(of_counts)))

    model, theta, x, best, known = _linear_model(rng)
    sampled = nlml.importance(model, theta, best, x, rng, n_samples=100).values
    exact = nlml.exact(model, theta, x).values
    found += [                                                     # of the posterior all weights are alike
        _near("nlml by importance sampling less −log N(x; b, WᵀW + Ψ), nats", sampled - known),
        _near("nlml by the closed form less the same, nats", exact - known),
    ]

    m, s = 0.8, 0.5
    z = np.linspace(m - 12 * s, m + 12 * s, 4001)
    q, p = _normal(z, m, s), _normal(z, 0.0, 1.0)
    kl = float(np.sum(q * np.log(q / p)) * (z[1] - z[0]))
    closed_form, _ = DiagonalGaussian(1).kl(np.array([[m, math.log(s)]]))
    found.append(_near("KL(q ‖ p(z)) less its integral, nats", closed_form - kl))

    g = np.array([3.0, -0.02, 500.0])
    for name, optimizer, moved in [("Adam", Adam(0.1), -0.1 * np.sign(g)), ("SGD", SGD(0.1), -0.1 * g)]:
        flat = np.zeros(3)
        optimizer.step(flat, g, optimizer.init(flat))
        found.append(_near(f"{name}'s first step over what it should be, less 1", flat / moved - 1, 1e-5))
    return found


def checker(seed):
    """Gradients that are wrong, which must not pass."""
    rng = np.random.default_rng(seed)
    p = {"W": rng.standard_normal((4, 3)), "b": rng.standard_normal(3)}
    x, c = rng.standard_normal((6, 4)), rng.standard_normal((6, 3))

    def loss(p):
        return float(np.sum(c * np.tanh(x @ p["W"] + p["b"])))

    dy = c * (1 - np.tanh(x @ p["W"] + p["b"])**2)
    right = {"W": x.T @ dy, "b": dy.sum(axis=0)}
    missed = 0
    for index in np.ndindex(4, 3):
        wrong = {name: leaf.copy() for name, leaf in right.items()}
        wrong["W"][index] *= 1 + 1e-4
        missed += check(loss, p, wrong).ok
    passed = check(loss, p, right).ok
    softmax = part(_HalfASoftmax(), seed=seed).ok
    return [
        Finding("right gradients that are refused, of 1", 1 - passed, passed),
        Finding("gradients that pass with one entry off by a ten-thousandth, of 12", missed, missed == 0),
        Finding("softmax layers that pass with half their gradient, of 1", softmax, not softmax),
    ]


CHECKS = {"gradients": gradients, "bound": bounds, "moments": moments, "values": values, "checker": checker}


def run(name, seed=0):
    """The `Finding`s of one of `CHECKS`."""
    with np.errstate(all="ignore"):
        return CHECKS[name](seed)


class _HalfASoftmax:
    """y = softmax(x), with half its gradient."""

    def forward(self, params, x):
        e = np.exp(x - x.max(axis=1, keepdims=True))
        y = e / e.sum(axis=1, keepdims=True)
        return y, y

    def _half(self, params, y, dy, *, need_dx=True, need_dparams=True):
        return 0.5 * y * (dy - np.sum(dy * y, axis=1, keepdims=True)), {}

    backward = _half                                               # the other half is what the check is about


def _linear_model(rng):
    """A linear-Gaussian model with K = 2, D = 4, θ, data (5, 4), the φ of their posteriors, their nlml (5,).

    The posterior is a diagonal Gaussian, because W Ψ⁻¹ Wᵀ is diagonal.
    """
    model = Model(Linear(2, 4), Gaussian(4), 2)
    psi, b, x = rng.uniform(0.4, 1.5, 4), rng.standard_normal(4), rng.standard_normal((5, 4))
    rows, _ = np.linalg.qr(rng.standard_normal((4, 2)))
    W = np.array([[1.5], [0.7]]) * rows.T * np.sqrt(psi)
    theta = {"decoder": {"W": W, "b": b}, "likelihood": {"log_psi": np.log(psi)}}
    s2 = 1 / (1 + np.sum(W * W / psi, axis=1))                     # (K,)
    m = (x - b) @ (W / psi).T * s2
    Sigma = W.T @ W + np.diag(psi)
    quadratic = np.sum((x - b) * np.linalg.solve(Sigma, (x - b).T).T, axis=1)
    nlml_n = 0.5 * (4 * math.log(2 * math.pi) + np.linalg.slogdet(Sigma)[1] + quadratic)
    return model, theta, x, np.concatenate([m, np.tile(0.5 * np.log(s2), (5, 1))], axis=1), nlml_n


def _normal(z, mean, sd):
    return np.exp(-0.5 * ((z - mean) / sd)**2) / (sd * math.sqrt(2 * math.pi))


def _near(what, difference, tolerance=EXACT):
    off = float(np.abs(difference).max())
    return Finding(what, off, off < tolerance)


def _sums_to_one(what, terms):
    total = float(np.sum(terms))
    return Finding(f"{what}: the sum of p(x)", total, abs(total - 1) < EXACT)
