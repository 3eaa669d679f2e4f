"""Answers to the exercises of notebook 04, Jensen and the bound."""

import math

import numpy as np
from scipy import integrate, special, stats

# ---- 04-1 -------------------------------------------------------------------------------------


def zeros_logged(g, pmf):
    return {"lhs": -np.log((pmf * g).sum(1)), "rhs": -(pmf * np.log(g)).sum(1)}


def exchanged(g, pmf):
    right = by_xlogy(g, pmf)
    return {"lhs": right["rhs"], "rhs": right["lhs"]}


def concave(g, pmf):
    return {"lhs": np.log((pmf * g).sum(1)), "rhs": special.xlogy(pmf, g).sum(1)}


def plain_mean(g, pmf):
    return {"lhs": -np.log(g.mean(1)), "rhs": -special.xlogy(pmf, g).sum(1)}


def plain_sum(g, pmf):
    return {"lhs": -np.log(g.sum(1)), "rhs": -special.xlogy(pmf, g).sum(1)}


def weight_in_the_log(g, pmf):
    inside = np.where(pmf > 0, pmf * g, 1.0)
    return {"lhs": -np.log((pmf * g).sum(1)), "rhs": -np.log(inside).sum(1)}


def in_bits(g, pmf):
    right = by_xlogy(g, pmf)
    return {"lhs": right["lhs"] / np.log(2), "rhs": right["rhs"] / np.log(2)}


def mean_over_rows(g, pmf):
    right = by_xlogy(g, pmf)
    return {"lhs": right["lhs"].mean(), "rhs": right["rhs"].mean()}


def by_xlogy(g, pmf):
    return {"lhs": -np.log(np.sum(g * pmf, axis=1)), "rhs": -special.xlogy(pmf, g).sum(axis=1)}


def by_loops(g, pmf):
    lhs, rhs = [], []
    for g_n, q_n in zip(g, pmf):
        on = [k for k in range(len(q_n)) if q_n[k] > 0]
        lhs.append(-math.log(math.fsum(q_n[k] * g_n[k] for k in on)))
        rhs.append(-math.fsum(q_n[k] * math.log(g_n[k]) for k in on))
    return {"lhs": np.array(lhs), "rhs": np.array(rhs)}


def by_products(g, pmf):
    """The weighted geometric mean: 0 to the power 0 is 1."""
    return {"lhs": -np.log(np.einsum("nk,nk->n", g, pmf)), "rhs": -np.log(np.prod(g**pmf, axis=1))}


def by_masks(g, pmf):
    log_g = np.zeros_like(g)
    log_g[pmf > 0] = np.log(g[pmf > 0])
    return {"rhs": -(pmf * log_g).sum(axis=1), "lhs": -np.log((pmf * g) @ np.ones(g.shape[1]))}


def by_relative_entropy(g, pmf):
    """−Σ Q log g = Σ rel_entr(Q, Q g) where Q is not 0."""
    return {"lhs": -np.log((pmf * g).sum(axis=1)), "rhs": special.rel_entr(pmf, pmf * g).sum(axis=1)}


def by_averages(g, pmf):
    log_g = np.log(np.where(pmf > 0, g, 1.0))
    return {
        "lhs": -np.log(np.average(g, axis=1, weights=pmf)), "rhs": -np.average(log_g, axis=1, weights=pmf),
    }


# ---- 04-2 -------------------------------------------------------------------------------------


def log_normals(x, means, variances):
    """log N(x_n; μ_k, σ²_k), (N, K)."""
    return stats.norm.logpdf(x[:, None], means, np.sqrt(variances)).sum(axis=2)


def answer_of(log_p, q):
    return {
        "posterior": special.softmax(log_p, axis=1), "nlml": -special.logsumexp(log_p, axis=1),
        "Q": np.sum(special.xlogy(q, q) - q * log_p, axis=1),
    }


def exp_and_divide(x, weights, means, variances, q):
    p = weights * np.exp(log_normals(x, means, variances))
    right = mixture_by_scipy(x, weights, means, variances, q)
    return {"posterior": p / p.sum(1)[:, None], "nlml": -np.log(p.sum(1)), "Q": right["Q"]}


def without_weights(x, weights, means, variances, q):
    return answer_of(log_normals(x, means, variances), q)


def variances_as_deviations(x, weights, means, variances, q):
    return answer_of(stats.norm.logpdf(x[:, None], means, variances).sum(2) + np.log(weights), q)


def constants_forgotten(x, weights, means, variances, q):
    squares = ((x[:, None] - means) ** 2 / variances + np.log(variances)).sum(2)
    return answer_of(np.log(weights) - squares / 2, q)


def without_entropy(x, weights, means, variances, q):
    log_p = log_normals(x, means, variances) + np.log(weights)
    return answer_of(log_p, q) | {"Q": -(q * log_p).sum(1)}


def entropy_added(x, weights, means, variances, q):
    log_p = log_normals(x, means, variances) + np.log(weights)
    return answer_of(log_p, q) | {"Q": -(q * log_p).sum(1) + special.entr(q).sum(1)}


def best_q(x, weights, means, variances, q):
    right = mixture_by_scipy(x, weights, means, variances, q)
    return answer_of(log_normals(x, means, variances) + np.log(weights), right["posterior"])


def lower_bound(x, weights, means, variances, q):
    right = mixture_by_scipy(x, weights, means, variances, q)
    return right | {"Q": -right["Q"]}


def gap_alone(x, weights, means, variances, q):
    right = mixture_by_scipy(x, weights, means, variances, q)
    return right | {"Q": right["Q"] - right["nlml"]}


def over_cases(x, weights, means, variances, q):
    log_p = log_normals(x, means, variances) + np.log(weights)
    return answer_of(log_p, q) | {"posterior": special.softmax(log_p, axis=0)}


def zero_log_zero(x, weights, means, variances, q):
    log_p = log_normals(x, means, variances) + np.log(weights)
    return answer_of(log_p, q) | {"Q": (q * (np.log(q) - log_p)).sum(1)}


def mixture_by_scipy(x, weights, means, variances, q):
    return answer_of(log_normals(x, means, variances) + np.log(weights), q)


def mixture_by_loops(x, weights, means, variances, q):
    posterior, nlml, Q = np.zeros_like(q), [], []
    for n, x_n in enumerate(x):
        log_p = np.array([
            math.log(pi) + stats.multivariate_normal.logpdf(x_n, mean, np.diag(variance))
            for pi, mean, variance in zip(weights, means, variances)
        ])
        nlml.append(-np.logaddexp.reduce(log_p))
        posterior[n] = np.exp(log_p + nlml[-1])
        Q.append(sum(q_k * (math.log(q_k) - log_p[k]) for k, q_k in enumerate(q[n]) if q_k > 0))
    return {"posterior": posterior, "nlml": np.array(nlml), "Q": np.array(Q)}


def mixture_by_the_gap(x, weights, means, variances, q):
    """Q as nlml and the divergence from the posterior, from the logarithms of both."""
    log_p = log_normals(x, means, variances) + np.log(weights)
    log_posterior = special.log_softmax(log_p, axis=1)
    nlml = log_posterior[:, 0] - log_p[:, 0]
    gap = (q * (np.log(np.where(q > 0, q, 1.0)) - log_posterior)).sum(1)
    return {"posterior": np.exp(log_posterior), "nlml": nlml, "Q": nlml + gap}


def mixture_by_einsum(x, weights, means, variances, q):
    r = x[:, None, :] - means[None]
    log_p = -0.5 * np.einsum("nkd,nkd,kd->nk", r, r, 1 / variances)
    log_p += np.log(weights) - 0.5 * np.log(2 * np.pi * variances).sum(1)
    top = log_p.max(1, keepdims=True)
    p = np.exp(log_p - top)
    return {
        "Q": -np.einsum("nk,nk->n", q, log_p) - stats.entropy(q, axis=1),
        "nlml": -(np.log(p.sum(1)) + top[:, 0]), "posterior": p / p.sum(1, keepdims=True),
    }


def mixture_by_pairs(x, weights, means, variances, q):
    """The posterior by the differences of log p: 1 / Σ_j exp(log p_j − log p_k)."""
    log_p = log_normals(x, means, variances) + np.log(weights)
    with np.errstate(over="ignore"):
        posterior = 1 / np.exp(log_p[:, None, :] - log_p[:, :, None]).sum(2)
    nlml = -np.logaddexp.reduce(log_p, axis=1)
    return {"posterior": posterior, "nlml": nlml, "Q": special.xlogy(q, q).sum(1) - (q * log_p).sum(1)}


# ---- 04-3 -------------------------------------------------------------------------------------


def log_variance(m, log_s):
    return 0.5 * (m**2 + np.exp(log_s) - log_s - 1).sum(1)


def s_for_its_square(m, log_s):
    return (0.5 * m**2 + 0.5 * np.exp(log_s) - 0.5 - log_s).sum(1)


def without_one(m, log_s):
    return (0.5 * m**2 + 0.5 * np.exp(log_s) ** 2 - log_s).sum(1)


def half_a_log(m, log_s):
    s = np.exp(log_s)
    return 0.5 * (m**2 + s**2 - 1 - np.log(s)).sum(1)


def log_added(m, log_s):
    s = np.exp(log_s)
    return 0.5 * (m**2 + s**2 - 1 + np.log(s**2)).sum(1)


def mean_over_latent(m, log_s):
    return right_kl(m, log_s) / m.shape[1]


def other_way_round(m, log_s):
    s = np.exp(log_s)
    return (np.log(s) + (1 + m**2) / (2 * s**2) - 0.5).sum(1)


def negative_kl(m, log_s):
    return -right_kl(m, log_s)


def over_the_cases(m, log_s):
    return (0.5 * (m**2 + np.exp(2 * log_s) - 1) - log_s).sum(0)


def entropy_alone(m, log_s):
    return -(0.5 * np.log(2 * np.pi * np.e) + log_s).sum(1)


def right_kl(m, log_s):
    return (0.5 * (m**2 + np.exp(2 * log_s) - 1) - log_s).sum(axis=1)


def kl_by_entropies(m, log_s):
    s = np.exp(log_s)
    cross = 0.5 * np.log(2 * np.pi) + 0.5 * (m**2 + s**2)
    return (cross - stats.norm.entropy(m, s)).sum(axis=1)


def kl_by_loops(m, log_s):
    kl = np.zeros(len(m))
    for n in range(len(m)):
        for k in range(m.shape[1]):
            kl[n] += (m[n, k] ** 2 + math.exp(log_s[n, k]) ** 2 - 1) / 2 - log_s[n, k]
    return kl


def kl_by_matrices(m, log_s):
    kl = []
    for m_n, l_n in zip(m, log_s):
        C = np.diag(np.exp(2 * l_n))
        kl.append(0.5 * (np.trace(C) + m_n @ m_n - len(m_n) - np.linalg.slogdet(C)[1]))
    return np.array(kl)


def kl_by_expm1(m, log_s):
    return 0.5 * np.einsum("nk->n", m * m + np.expm1(2 * log_s) - 2 * log_s)


def kl_by_integrals(m, log_s):
    kl = np.zeros(len(m))
    for n, k in np.ndindex(m.shape):
        q = stats.norm(m[n, k], math.exp(log_s[n, k]))
        z = np.linspace(q.mean() - 12 * q.std(), q.mean() + 12 * q.std(), 4001)
        kl[n] += integrate.trapezoid(q.pdf(z) * (q.logpdf(z) - stats.norm.logpdf(z)), z)
    return kl


def halves_exchanged(phi):
    K = phi.shape[1] // 2
    return right_kl(phi[:, K:], phi[:, :K])


def of_phi(answer):
    """The answer as a function of φ = [m | log s]."""
    def of_rows(phi):
        return answer(phi[:, : phi.shape[1] // 2], phi[:, phi.shape[1] // 2 :])

    return of_rows


# ---- 04-4 -------------------------------------------------------------------------------------


def log_lik(x, z, W, b, log_psi):
    """log p(x_n|z_ns), (S, N)."""
    return stats.norm.logpdf(x, np.tanh(z) @ W + b, np.exp(log_psi / 2)).sum(axis=2)


def elbo(x, m, log_s, eta, W, b, log_psi):
    return log_lik(x, m + np.exp(log_s) * eta, W, b, log_psi).mean(0) - right_kl(m, log_s)


def kl_subtracted(x, m, log_s, eta, W, b, log_psi):
    return -log_lik(x, m + np.exp(log_s) * eta, W, b, log_psi).mean(0) - right_kl(m, log_s)


def kl_forgotten(x, m, log_s, eta, W, b, log_psi):
    return -log_lik(x, m + np.exp(log_s) * eta, W, b, log_psi).mean(0)


def mean_over_variables(x, m, log_s, eta, W, b, log_psi):
    z = m + np.exp(log_s) * eta
    log_p = stats.norm.logpdf(x, np.tanh(z) @ W + b, np.exp(log_psi / 2)).mean(axis=2)
    return right_kl(m, log_s) - log_p.mean(axis=0)


def sum_over_samples(x, m, log_s, eta, W, b, log_psi):
    return right_kl(m, log_s) - log_lik(x, m + np.exp(log_s) * eta, W, b, log_psi).sum(0)


def log_variance_in_samples(x, m, log_s, eta, W, b, log_psi):
    return right_kl(m, log_s) - log_lik(x, m + np.sqrt(np.exp(log_s)) * eta, W, b, log_psi).mean(0)


def variance_times_noise(x, m, log_s, eta, W, b, log_psi):
    return right_kl(m, log_s) - log_lik(x, m + np.exp(log_s) ** 2 * eta, W, b, log_psi).mean(0)


def decoded_means(x, m, log_s, eta, W, b, log_psi):
    return right_kl(m, log_s) - log_lik(x, m[None], W, b, log_psi)[0]


def constant_forgotten(x, m, log_s, eta, W, b, log_psi):
    r = x - np.tanh(m + np.exp(log_s) * eta) @ W - b
    return right_kl(m, log_s) + 0.5 * (r**2 / np.exp(log_psi) + log_psi).sum(2).mean(0)


def noise_redrawn(x, m, log_s, eta, W, b, log_psi):
    eta = np.random.default_rng().standard_normal(eta.shape)
    return q_by_scipy(x, m, log_s, eta, W, b, log_psi)


def sampled_price(x, m, log_s, eta, W, b, log_psi):
    s = np.exp(log_s)
    z = m + s * eta
    log_ratio = (stats.norm.logpdf(z, m, s) - stats.norm.logpdf(z)).sum(2)
    return (log_ratio - log_lik(x, z, W, b, log_psi)).mean(0)


def mean_over_cases(x, m, log_s, eta, W, b, log_psi):
    return q_by_scipy(x, m, log_s, eta, W, b, log_psi).mean()


def kl_by_half(x, m, log_s, eta, W, b, log_psi):
    return q_by_scipy(x, m, log_s, eta, W, b, log_psi) - 0.5 * right_kl(m, log_s)


def kl_doubled(x, m, log_s, eta, W, b, log_psi):
    kl = np.sum(m**2 + np.exp(log_s) ** 2 - 1 - 2 * log_s, axis=1)
    return kl - log_lik(x, m + np.exp(log_s) * eta, W, b, log_psi).mean(0)


def kl_over_N(x, m, log_s, eta, W, b, log_psi):
    return right_kl(m, log_s) / len(x) - log_lik(x, m + np.exp(log_s) * eta, W, b, log_psi).mean(0)


def tanh_of_the_output(x, m, log_s, eta, W, b, log_psi):
    f = np.tanh(np.einsum("snk,kd->snd", m + np.exp(log_s) * eta, W) + b)
    return right_kl(m, log_s) - stats.norm.logpdf(x, f, np.exp(log_psi / 2)).sum(2).mean(0)


def kl_by_mean(x, m, log_s, eta, W, b, log_psi):
    kl = np.mean(0.5 * (m**2 + np.exp(2 * log_s) - 1) - log_s, axis=1)
    return kl - log_lik(x, m + np.exp(log_s) * eta, W, b, log_psi).mean(0)


def one_mean_sample(x, m, log_s, eta, W, b, log_psi):
    z = (m + np.exp(log_s) * eta).mean(0, keepdims=True)
    return right_kl(m, log_s) - log_lik(x, z, W, b, log_psi)[0]


def one_mean_output(x, m, log_s, eta, W, b, log_psi):
    f = sum(np.tanh(m + np.exp(log_s) * e) @ W + b for e in eta) / len(eta)
    return right_kl(m, log_s) - stats.norm.logpdf(x, f, np.exp(log_psi / 2)).sum(1)


def iwae(x, m, log_s, eta, W, b, log_psi):
    s = np.exp(log_s)
    z = m + s * eta
    log_w = log_lik(x, z, W, b, log_psi) + (stats.norm.logpdf(z) - stats.norm.logpdf(z, m, s)).sum(2)
    return np.log(len(eta)) - special.logsumexp(log_w, axis=0)


def log_of_mean_likelihood(x, m, log_s, eta, W, b, log_psi):
    p = np.exp(log_lik(x, m + np.exp(log_s) * eta, W, b, log_psi))
    return right_kl(m, log_s) - np.log(p.mean(0))


def straight_decoder(x, m, log_s, eta, W, b, log_psi):
    z = m + np.exp(log_s) * eta
    log_p = stats.norm.logpdf(x, z @ W + b, np.sqrt(np.exp(log_psi))).sum(2)
    return right_kl(m, log_s) - log_p.mean(0)


def q_by_scipy(x, m, log_s, eta, W, b, log_psi):
    return right_kl(m, log_s) - log_lik(x, m + np.exp(log_s) * eta, W, b, log_psi).mean(0)


def q_by_loops(x, m, log_s, eta, W, b, log_psi):
    Q = right_kl(m, log_s)
    for s in range(len(eta)):
        for n in range(len(x)):
            f = np.tanh(m[n] + np.exp(log_s[n]) * eta[s, n]) @ W + b
            Q[n] -= stats.multivariate_normal.logpdf(x[n], f, np.diag(np.exp(log_psi))) / len(eta)
    return Q


def q_by_einsum(x, m, log_s, eta, W, b, log_psi):
    z = m + np.einsum("nk,snk->snk", np.exp(log_s), eta)
    r = x - np.einsum("snk,kd->snd", np.tanh(z), W) - b
    squares = np.einsum("snd,snd,d->n", r, r, np.exp(-log_psi)) / len(eta)
    constant = x.shape[1] * math.log(2 * math.pi) + log_psi.sum()
    return 0.5 * (squares + constant) + kl_by_expm1(m, log_s)


def q_sample_by_sample(x, m, log_s, eta, W, b, log_psi):
    costs = []
    for eta_s in eta:
        f = np.tanh(m + eta_s * np.exp(log_s)) @ W + b
        cost = (x - f) ** 2 / (2 * np.exp(log_psi)) + np.log(np.sqrt(2 * np.pi * np.exp(log_psi)))
        costs.append(cost.sum(axis=1) + kl_by_entropies(m, log_s))
    return np.mean(costs, axis=0)


def q_by_whitening(x, m, log_s, eta, W, b, log_psi):
    scale = np.exp(-0.5 * log_psi)
    W, r = W * scale, (x - b) * scale
    z = np.transpose(m + np.exp(log_s) * eta, (1, 0, 2))           # (N, S, K)
    u = r[:, None, :] - np.tanh(z) @ W
    return kl_by_matrices(m, log_s) - stats.norm.logpdf(u).sum(2).mean(1) - np.log(scale).sum()


# ---- 04-5 -------------------------------------------------------------------------------------

LINES = {"A": "5", "B": "3", "C": "3", "D": "none", "E": "4"}


WRONG = {
    "04-1": {
        "plays no part": zeros_logged,
        "the two sides are exchanged": exchanged,
        "both sides lack the minus": concave,
        "the plain mean of g was taken": plain_mean,
        "right except for the left side": plain_sum,
        "the probability went into the log": weight_in_the_log,
        "between nats and bits": in_bits,
        "look for a sum or a mean over it": mean_over_rows,
    },
    "04-2": {
        "take each row's largest log out": exp_and_divide,
        "log π_k is missing": without_weights,
        "taken for standard deviations": variances_as_deviations,
        "the constant of a Gaussian density of 5": constants_forgotten,
        "and the second is missing": without_entropy,
        "the entropy's sign": entropy_added,
        "Q is that of the best q": best_q,
        "this is minus it, the ELBO": lower_bound,
        "the gap alone": gap_alone,
        "normalised over the data cases": over_cases,
        "where q is 0": zero_log_zero,
    },
    "04-3": {
        "for the log of a variance": of_phi(log_variance),
        "and the variance is its square": of_phi(s_for_its_square),
        "the −1 of each latent variable": of_phi(without_one),
        "which lacks a 2": of_phi(half_a_log),
        "the log term's sign": of_phi(log_added),
        "mean over the latent variables": of_phi(mean_over_latent),
        "the other way round": of_phi(other_way_round),
        "its sign turned": of_phi(negative_kl),
        "it has shape (2,)": of_phi(over_the_cases),
        "the prior is missing": of_phi(entropy_alone),
        "the halves of φ are exchanged": halves_exchanged,
    },
    "04-4": {
        "this is the ELBO": elbo,
        "the KL's sign": kl_subtracted,
        "nothing keeps q near the prior": kl_forgotten,
        "it has the weight ½": kl_by_half,
        "it counts twice": kl_doubled,
        "each data case pays its own": kl_over_N,
        "tanh stands around all of it": tanh_of_the_output,
        "mean over the latent variables where": kl_by_mean,
        "the mean of the samples was decoded": one_mean_sample,
        "the mean of what the samples decode to": one_mean_output,
        "the importance-weighted bound": iwae,
        "the log of the mean likelihood stands here": log_of_mean_likelihood,
        "mean where the bound sums": mean_over_variables,
        "sum where the bound has a mean": sum_over_samples,
        "for the log of a variance in z": log_variance_in_samples,
        "multiplies η": variance_times_noise,
        "as in a plain autoencoder": decoded_means,
        "5 · ½ log 2π": constant_forgotten,
        "redrew the noise": noise_redrawn,
        "that of these samples": sampled_price,
        "look for a sum or a mean over it": mean_over_cases,
        "tanh is missing": straight_decoder,
    },
    "04-5": {
        "keep track of the signs": LINES | {"A": "none"},
        "log without the minus is concave": LINES | {"B": "none"},
        "follows: the log of a quotient, under": LINES | {"C": "5"},
        "a KL divergence is never negative": LINES | {"D": "5"},
        "not from line 4 as it stands": LINES | {"E": "5"},
    },
}

RIGHT = {
    "04-1": [by_xlogy, by_loops, by_products, by_masks, by_relative_entropy, by_averages],
    "04-2": [mixture_by_scipy, mixture_by_loops, mixture_by_the_gap, mixture_by_einsum, mixture_by_pairs],
    "04-3": [of_phi(answer) for answer in (
        right_kl, kl_by_entropies, kl_by_loops, kl_by_matrices, kl_by_expm1, kl_by_integrals
    )],
    "04-4": [q_by_scipy, q_by_loops, q_by_einsum, q_sample_by_sample, q_by_whitening],
    "04-5": [LINES],
}
