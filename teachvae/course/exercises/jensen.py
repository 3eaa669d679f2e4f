"""The exercises of notebook 04, Jensen and the bound: both sides, a mixture, the KL, Q, a proof."""

import numpy as np

from ... import bound
from ...arrays.special import LOG_2PI
from ...inference import mixture
from ...likelihoods import Gaussian
from ...model import Model
from ...networks.layers import Linear, Sequential, Tanh
from ..exercise import Exercise, by_choice, by_value
from ..jensen import jensen_discrete

# ---- Jensen's inequality ----------------------------------------------------------------------


def draw_pmf(rng, n):
    """Numbers g (N, K) above 0 and a PMF (N, K) for each row; where a probability is 0, g is 0 as well."""
    g, pmf = rng.uniform(0.2, 6.0, (n.N, n.K + 2)), rng.dirichlet(np.ones(n.K + 2), n.N)
    pmf[::2, 0] = 0.0
    pmf = pmf / pmf.sum(axis=1)[:, None]
    return {"g": np.where(pmf > 0, g, 0.0), "pmf": pmf}


def both_sides(g, pmf):
    """f(E[g]) and E[f(g)] of f = −log, by the package, row by row."""
    found = [jensen_discrete(lambda u: -np.log(u), *row) for row in zip(g, pmf)]
    return {"lhs": np.array([row.lhs for row in found]), "rhs": np.array([row.rhs for row in found])}


def sides(lhs, rhs):
    """A mistake: other sides, functions of log g, g and the PMF, log g being 0 where the PMF is."""
    def mistake(g, pmf):
        log_g = np.log(np.where(pmf > 0, g, 1.0))
        return {"lhs": lhs(log_g, g, pmf), "rhs": rhs(log_g, g, pmf)}

    return mistake


def of_mean(log_g, g, pmf):
    """−log E[g]."""
    return -np.log(np.sum(pmf * g, axis=1))


def mean_of(log_g, g, pmf):
    """−E[log g]."""
    return -np.sum(pmf * log_g, axis=1)


def unweighted(log_g, g, pmf):
    """−log of the plain mean."""
    return -np.log(np.mean(g, axis=1))


def log_of_weighted(log_g, g, pmf):
    """−Σ log (Q g), the weight inside of the log."""
    return -np.sum(np.log(np.where(pmf > 0, pmf * g, 1.0)), axis=1)


# ---- the mixture ------------------------------------------------------------------------------


def draw_mixture(rng, n):
    """Data x (N, D), a mixture of normal densities with independent variables, and a PMF q (N, K) a case.

    The last case lies far from all components; the first one's q is certain.
    """
    x = rng.standard_normal((n.N, n.D))
    x[-1, 0] += 60.0
    q = rng.dirichlet(np.ones(n.K), n.N)
    q[0] = np.eye(n.K)[1]
    weights = rng.dirichlet(4 * np.ones(n.K))
    return {
        "x": x, "weights": weights, "means": rng.standard_normal((n.K, n.D)),
        "variances": rng.uniform(0.5, 2.0, (n.K, n.D)), "q": q,
    }


def mixture_answer(x, weights, means, variances, q):
    """Posterior, nlml and Q, by the package."""
    log_p = mixture.log_joint(mixture.Mixture(weights, means, variances), x)
    return {
        "posterior": mixture.free(log_p), "nlml": mixture.divergence(mixture.free(log_p), log_p),
        "Q": mixture.divergence(q, log_p),
    }


def mixture_with(change):
    """A mistake: the right answer with `change(right, q, log_p)` in it."""
    def mistake(x, weights, means, variances, q):
        log_p = mixture.log_joint(mixture.Mixture(weights, means, variances), x)
        right = mixture_answer(x, weights, means, variances, q)
        return right | change(right, q, log_p)

    return mistake


def mixture_of(log_weights=np.log, variance=lambda variances: variances):
    """A mistake: another mixture in the place of the right one."""
    def mistake(x, weights, means, variances, q):
        log_p = np.stack([mixture.log_normal(x, *pair) for pair in zip(means, variance(variances))], axis=1)
        log_p = log_p + log_weights(weights)
        posterior = mixture.free(log_p)
        return {
            "posterior": posterior, "nlml": mixture.divergence(posterior, log_p),
            "Q": mixture.divergence(q, log_p),
        }

    return mistake


def log_times_weight(x, weights, means, variances, q):
    """π_k log N instead of log π_k + log N."""
    log_p = np.stack([mixture.log_normal(x, *pair) for pair in zip(means, variances)], axis=1) * weights
    posterior = mixture.free(log_p)
    return {
        "posterior": posterior, "nlml": mixture.divergence(posterior, log_p),
        "Q": mixture.divergence(q, log_p),
    }


def naive_mixture(x, weights, means, variances, q):
    """What comes of exp where it underflows."""
    log_p = mixture.log_joint(mixture.Mixture(weights, means, variances), x)
    p = np.exp(log_p)
    right = mixture_answer(x, weights, means, variances, q)
    return right | {"posterior": p / p.sum(axis=1, keepdims=True), "nlml": -np.log(p.sum(axis=1))}


def energy(right, q, log_p):
    """−E_q[log p(x, z)] for Q."""
    return {"Q": -np.sum(q * log_p, axis=1)}


def not_a_number(right, q, log_p):
    """q log q where q is 0."""
    return {"Q": np.sum(q * (np.log(q) - log_p), axis=1)}


def entropy_turned(right, q, log_p):
    """The entropy with its sign turned."""
    minus_entropy = mixture.divergence(q, np.zeros_like(q))
    return {"Q": -np.sum(q * log_p, axis=1) - minus_entropy}


# ---- the divergence from the prior ------------------------------------------------------------


def draw_q(rng, n):
    """Rows φ_n = [m | log s], (N, 2K)."""
    m, log_s = rng.standard_normal((n.N, n.K)), rng.uniform(-1.2, 0.6, (n.N, n.K))
    return {"phi": np.concatenate([m, log_s], axis=1)}


def kl_by_quadrature(phi):
    """E_q[log q − log p(z)] (N,), by Gauss–Hermite quadrature, which is exact for a quadratic."""
    m, log_s = np.split(phi, 2, axis=1)
    u, w = np.polynomial.hermite_e.hermegauss(4)
    z = m[..., None] + np.exp(log_s)[..., None] * u
    log_ratio = -0.5 * u**2 - log_s[..., None] + 0.5 * z**2        # their constants cancel
    return np.sum(log_ratio @ (w / np.sqrt(2 * np.pi)), axis=1)


def kl_with(each, taken=np.sum):
    """A mistake: another summand of m and log s."""
    def mistake(phi):
        return taken(each(*np.split(phi, 2, axis=1)), axis=1)

    return mistake


# ---- Q by samples -----------------------------------------------------------------------------


def draw_walk(rng, n):
    """Data, a q for each, noise, and the bent decoder tanh(z) W + b with log ψ.

    With 2 K latent variables, so that a mean over them is not the half.
    """
    K = 2 * n.K
    return {
        "x": rng.standard_normal((n.N, n.D)), "m": rng.standard_normal((n.N, K)),
        "log_s": rng.uniform(-1.0, 0.3, (n.N, K)), "eta": rng.standard_normal((n.S, n.N, K)),
        "W": rng.standard_normal((K, n.D)), "b": rng.standard_normal(n.D),
        "log_psi": rng.uniform(-1.0, 1.0, n.D),
    }


def sampled_q(x, m, log_s, eta, W, b, log_psi):
    """Q (N,), by the package's bound."""
    K, D = W.shape
    model = Model(Sequential((Tanh(), Linear(K, D))), Gaussian(D), K)
    theta = {"decoder": [{}, {"W": W, "b": b}], "likelihood": {"log_psi": log_psi}}
    return bound.forward(model, theta, np.concatenate([m, log_s], axis=1), x, eta, kl="analytic")[0]


def judge_walk(arguments, given, sizes):
    """A judge, by `sampled_q`, of the sizes that `draw_walk` has."""
    return by_value(sampled_q)(arguments, given, sizes._replace(K=2 * sizes.K))


def price_of(m, log_s):
    """KL(q ‖ N(0, I)) (N,)."""
    return 0.5 * np.sum(m**2 + np.exp(2 * log_s) - 1 - 2 * log_s, axis=1)


def walk_with(*, sign=1.0, kl=1.0, price=price_of, bias=1.0, over=np.sum, samples=np.mean, width=np.exp,
              psi=np.exp, log_det=1.0, constant=1.0, bend=np.tanh, noise=1.0, sampled_kl=False):
    """A mistake: one part of Q as it is often written instead."""
    def mistake(x, m, log_s, eta, W, b, log_psi):
        z = m + noise * width(log_s) * eta
        r = x - bend(z) @ W - bias * b
        log_lik = -0.5 * over(r**2 / psi(log_psi) + log_det * log_psi + constant * LOG_2PI, axis=2)
        cost = price(m, log_s)
        if sampled_kl:
            cost = 0.5 * np.mean(np.sum(z**2 - eta**2 - 2 * log_s, axis=2), axis=0)
        return sign * (kl * cost - samples(log_lik, axis=0))

    return mistake


def bent_output(x, m, log_s, eta, W, b, log_psi):
    """tanh(z W + b) in the place of tanh(z) W + b."""
    r = x - np.tanh((m + np.exp(log_s) * eta) @ W + b)
    cost = 0.5 * np.sum(r**2 / np.exp(log_psi) + log_psi + LOG_2PI, axis=2)
    return price_of(m, log_s) + np.mean(cost, axis=0)


def decoded_mean(x, m, log_s, eta, W, b, log_psi):
    """The mean of the samples decoded, one z for each data case."""
    return walk_with()(x, m, log_s, np.mean(eta, axis=0, keepdims=True), W, b, log_psi)


def mean_decoded(x, m, log_s, eta, W, b, log_psi):
    """The likelihood of the mean of what the samples decode to."""
    f = np.mean(np.tanh(m + np.exp(log_s) * eta) @ W + b, axis=0)
    log_lik = -0.5 * np.sum((x - f) ** 2 / np.exp(log_psi) + log_psi + LOG_2PI, axis=1)
    return price_of(m, log_s) - log_lik


def importance_weighted(x, m, log_s, eta, W, b, log_psi):
    """−log of the mean of the weights p(x, z)/q(z)."""
    z = m + np.exp(log_s) * eta
    log_w = -0.5 * np.sum(z**2 - eta**2 - 2 * log_s, axis=2)
    log_w = log_w - 0.5 * np.sum((x - np.tanh(z) @ W - b) ** 2 / np.exp(log_psi) + log_psi + LOG_2PI, axis=2)
    return -log_mean(log_w, axis=0)


def log_mean(log_lik, axis):
    """log of the mean of exp."""
    return np.logaddexp.reduce(log_lik, axis=axis) - np.log(log_lik.shape[axis])


# ---- which line is wrong ----------------------------------------------------------------------

FOLLOWS = "follows from the line before it"
BECAUSE = {
    ("A", "2"): f"line 2 {FOLLOWS}: it multiplies and divides by q(z)",
    ("A", "3"): f"line 3 {FOLLOWS}: it is Jensen's inequality, and −log is convex",
    ("A", "4"): f"line 4 {FOLLOWS}: the log of a quotient",
    ("A", "none"): "one line of A is wrong: put p(x, z) = p(x|z) p(z) into line 4; keep track of the signs",
    ("B", "2"): f"line 2 of B {FOLLOWS}: it multiplies and divides by q(z)",
    ("B", "4"): f"line 4 of B {FOLLOWS}; look for the step where two numbers are compared",
    ("B", "5"): f"line 5 of B {FOLLOWS}; look for the step where two numbers are compared",
    ("B", "none"): "one line of B is wrong: log without the minus is concave",
    ("C", "2"): "line 2 of C is right: q(k) cancels where it is not 0",
    ("C", "4"): "line 4 of C is the right end, but look at how one gets there",
    ("C", "5"): "line 5 of C follows: the log of a quotient, under an average",
    ("C", "none"): "one line of C is wrong: of what is the average taken, and with which weights?",
    ("D", "2"): "line 2 of D is right: p(x, z) = p(x) p(z|x)",
    ("D", "3"): "line 3 of D is right: log p(x) has no z, so it comes out of the expectation",
    ("D", "4"): "line 4 of D is right: KL(q‖p) is the expectation of log q − log p under q",
    ("D", "5"): "line 5 of D is right: a KL divergence is never negative",
    ("E", "2"): "line 2 of E is right: the log of a product is a sum of logs",
    ("E", "3"): "line 3 of E is right: Jensen's inequality for each data case, with a q of its own",
    ("E", "5"): "line 5 of E is what should come out, but not from line 4 as it stands there",
    ("E", "none"): "one line of E is wrong: count the factors under each of the integrals",
}

EXERCISES = [
    Exercise(
        "04-1", "jensen_sides", "1.21", "lhs −log E[g] and rhs −E[log g], (N,) each, in a dict", draw_pmf,
        by_value(both_sides),
        {
            "0 · log 0: a place with probability 0 plays no part; leave it out before you take the log":
                lambda g, pmf: {"lhs": of_mean(0.0, g, pmf), "rhs": -np.sum(pmf * np.log(g), axis=1)},
            "the two sides are exchanged: f of the mean stands on the left, the mean of f on the right":
                sides(mean_of, of_mean),
            "both sides lack the minus: log is concave, and for it the inequality runs the other way":
                sides(lambda *a: -of_mean(*a), lambda *a: -mean_of(*a)),
            "the plain mean of g was taken: each g counts with its probability": sides(unweighted, mean_of),
            "plain means were taken on both sides: each place counts with its probability":
                sides(unweighted, lambda log_g, g, pmf: -np.mean(log_g, axis=1)),
            "right except for the left side: the probabilities are the weights already, and no 1/C belongs "
            "to them": sides(lambda log_g, g, pmf: -np.log(np.mean(pmf * g, axis=1)), mean_of),
            "means of Q g were taken: the probabilities are the weights already, so both sides have sums":
                sides(lambda log_g, g, pmf: -np.log(np.mean(pmf * g, axis=1)),
                      lambda log_g, g, pmf: -np.mean(pmf * log_g, axis=1)),
            "right except for the left side, which is the right one again: the log stands outside of the sum":
                sides(mean_of, mean_of),
            "right except for the right side, which is the left one again: the log stands inside of the sum":
                sides(of_mean, of_mean),
            "right except for the left side: this is a sum of the g, without their probabilities":
                sides(lambda log_g, g, pmf: -np.log(np.sum(g, axis=1)), mean_of),
            "right except for the right side: this is a sum of the logs, without their probabilities":
                sides(of_mean, lambda log_g, g, pmf: -np.sum(log_g, axis=1)),
            "right except for the right side: the probability went into the log; it is the weight of the log":
                sides(of_mean, log_of_weighted),
        },
    ),
    Exercise(
        "04-2", "mixture_bound", "9.3", "posterior (N, C), nlml (N,) and Q (N,) of the given q, in a dict",
        draw_mixture, by_value(mixture_answer),
        {
            "exp of a log density far below 0 is 0 in floating point: take each row's largest log out first":
                naive_mixture,
            "0 · log 0: where q is 0 the term q log q is 0, too": mixture_with(not_a_number),
            "right except for the weights: log π_k is missing from log p(x, z = k)":
                mixture_of(log_weights=np.zeros_like),
            "right except for the variances: they were taken for standard deviations":
                mixture_of(variance=np.square),
            "right except for the entropy: Q is −E[log p(x, z)] + E[log q], and the second is missing":
                mixture_with(energy),
            "right except for the entropy's sign: Q is −E[log p(x, z)] + E[log q]":
                mixture_with(entropy_turned),
            "Q is that of the best q, where it touches nlml; the q that is given is asked for":
                mixture_with(lambda right, q, log_p: {"Q": right["nlml"]}),
            "Q is a bound on −log p(x), and this is minus it, the ELBO":
                mixture_with(lambda right, q, log_p: {"Q": -right["Q"]}),
            "this is KL(q ‖ posterior), the gap alone: Q is nlml and the gap":
                mixture_with(lambda right, q, log_p: {"Q": right["Q"] - right["nlml"]}),
            "right except for the posterior: this is p(x, z = k), and must be divided by p(x)":
                mixture_with(lambda right, q, log_p: {"posterior": np.exp(log_p)}),
            "right except for the weights: they multiply the log density; π_k multiplies the density, so "
            "log π_k is added": log_times_weight,
            "each row of the posterior must sum to 1: it was normalised over the data cases":
                mixture_with(lambda right, q, log_p: {"posterior": mixture.free(log_p.T).T}),
            "this is the most likely component and no posterior: a row has a probability for each":
                mixture_with(lambda right, q, log_p: {"posterior": mixture.hard(log_p)}),
        },
    ),
    Exercise(
        "04-3", "kl_to_prior", "3.4", "KL(q_n ‖ N(0, I)), (N,), in nats", draw_q, by_value(kl_by_quadrature),
        {
            "right except that log s was taken for the log of a variance: s² is exp(2 log s)":
                kl_with(lambda m, log_s: 0.5 * (m**2 + np.exp(log_s) - 1 - log_s)),
            "right except for s²: this is s, exp(log s), and the variance is its square":
                kl_with(lambda m, log_s: 0.5 * (m**2 + np.exp(log_s) - 1 - 2 * log_s)),
            "right except for the −1, which each latent variable has, and here only the sum":
                kl_with(lambda m, log_s: 0.5 * (m**2 + np.exp(2 * log_s) - 1 / m.shape[1] - 2 * log_s)),
            "the halves of φ are exchanged: the first K numbers of a row are m, the others log s":
                kl_with(lambda m, log_s: 0.5 * (log_s**2 + np.exp(2 * m) - 1 - 2 * m)),
            "right except for the mean, whose square is in the KL":
                kl_with(lambda m, log_s: 0.5 * (m + np.exp(2 * log_s) - 1 - 2 * log_s)),
            "right except for the −1 of each latent variable: with m = 0 and s = 1 the KL must be 0":
                kl_with(lambda m, log_s: 0.5 * (m**2 + np.exp(2 * log_s) - 2 * log_s)),
            "right except for the log term, which lacks a 2: ½ log s² is log s":
                kl_with(lambda m, log_s: 0.5 * (m**2 + np.exp(2 * log_s) - 1 - log_s)),
            "right except for the log term's sign: a narrow q is far from the prior, so −log s costs":
                kl_with(lambda m, log_s: 0.5 * (m**2 + np.exp(2 * log_s) - 1 + 2 * log_s)),
            "right except for the mean: a q away from 0 pays ½ m²":
                kl_with(lambda m, log_s: 0.5 * (np.exp(2 * log_s) - 1 - 2 * log_s)),
            "mean over the latent variables where the KL of a product of densities is a sum":
                kl_with(lambda m, log_s: 0.5 * (m**2 + np.exp(2 * log_s) - 1 - 2 * log_s), np.mean),
            "this is E[log q] alone, minus the entropy: −E[log p(z)] of the prior is missing":
                kl_with(lambda m, log_s: -0.5 * (LOG_2PI + 1) - log_s),
            "this is KL(N(0, I) ‖ q), the other way round: the average is taken over q":
                kl_with(lambda m, log_s: 0.5 * ((1 + m**2) * np.exp(-2 * log_s) - 1 + 2 * log_s)),
        },
    ),
    Exercise(
        "04-4", "bound_by_samples", "1.8", "Q_n by the given noise, with the KL in closed form, (N,)",
        draw_walk, judge_walk,
        {
            "this is the ELBO, −Q: the course minimises an upper bound on −log p(x)": walk_with(sign=-1.0),
            "right except for the KL: it is not there, so nothing keeps q near the prior": walk_with(kl=0.0),
            "right except for the KL's sign: it is a price, and is added": walk_with(kl=-1.0),
            "right except for the KL: it has the weight ½, and the bound has it in full": walk_with(kl=0.5),
            "right except for the KL: it counts twice, its ½ is missing": walk_with(kl=2.0),
            "the mean of the samples was decoded: decode every sample, and take the mean of its log "
            "likelihoods": decoded_mean,
            "the mean of what the samples decode to was held against x: the mean over S is of the log "
            "likelihoods": mean_decoded,
            "this is the importance-weighted bound, −log of the mean of p(x, z)/q(z): a tighter one, and "
            "here Q is asked for": importance_weighted,
            "mean where the bound sums over the variables of x: the KL then weighs D times too much":
                walk_with(over=np.mean),
            "sum where the bound has a mean over the samples": walk_with(samples=np.sum),
            "the log of the mean likelihood stands here, and the bound has the mean of the logs: by Jensen's "
            "inequality this one is lower": walk_with(samples=log_mean),
            "right except for the KL: log s was taken for the log of a variance in it":
                walk_with(price=lambda m, log_s: 0.5 * np.sum(m**2 + np.exp(log_s) - 1 - log_s, axis=1)),
            "right except for the KL: mean over the latent variables where it is a sum":
                walk_with(price=lambda m, log_s: price_of(m, log_s) / m.shape[1]),
            "right except for the KL: its log s has the factor ½ and stands beside s², whose log is 2 log s":
                walk_with(price=lambda m, log_s: price_of(m, log_s) + 0.5 * np.sum(log_s, axis=1)),
            "the squared error alone is no log likelihood: it lacks ψ, log ψ and the constant":
                walk_with(psi=np.ones_like, log_det=0.0, constant=0.0),
            "right except for the KL: it was divided by N, and each data case pays its own":
                lambda m, **given: walk_with(kl=1 / len(m))(m=m, **given),
            "right except for the decoder: f is tanh(z) W + b, and tanh stands around all of it": bent_output,
            "right except for the decoder: its bias b is missing": walk_with(bias=0.0),
            "right except for the samples: log s was taken for the log of a variance in z = m + s η":
                walk_with(width=lambda log_s: np.exp(0.5 * log_s)),
            "right except for the samples: s is exp(log s), and here the variance exp(2 log s) multiplies η":
                walk_with(width=lambda log_s: np.exp(2 * log_s)),
            "right except for the samples: the decoder is given m alone, as in a plain autoencoder":
                walk_with(noise=0.0),
            "right except for the noise of x: log ψ is the log of a variance, not of a standard deviation":
                walk_with(psi=lambda log_psi: np.exp(2 * log_psi), log_det=2.0),
            "right except for log ψ, which the density of x has under its sum": walk_with(log_det=0.0),
            "right except for the decoder: tanh is missing": walk_with(bend=lambda z: z),
            "right except for the KL, which is that of these samples: asked for is its closed form":
                walk_with(sampled_kl=True),
        },
    ),
    Exercise(
        "04-5", "wrong_line", "1.5", "of each derivation the first line that does not follow, or none", None,
        by_choice({"A": "5", "B": "3", "C": "3", "D": "none", "E": "4"}, BECAUSE),
    ),
]
