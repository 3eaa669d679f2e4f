"""The exercises of notebook 12: richer families, a tighter bound, draws, a mixture of factor analysers."""

import numpy as np
from scipy.special import log_softmax, logsumexp, softmax

from ...inference.linear_gaussian import nlml
from ..exercise import Exercise, by_gradient, by_value
from ..terms import VARIANCE, of_argument, of_terms

LOG_2PI = np.log(2 * np.pi)


# ---- the ladder of families ---------------------------------------------------------------------


def draw_full_gaussian(rng, n):
    """m (N, K) and lower triangular L (N, K, K) with a positive diagonal."""
    L = np.tril(rng.standard_normal((n.N, n.K, n.K)))
    places = np.arange(n.K)
    L[:, places, places] = rng.uniform(0.3, 2.0, (n.N, n.K))
    return {"m": rng.standard_normal((n.N, n.K)), "L": L}


def kl_full(m, L):
    """(N,), from the dense covariance, its trace and its determinant."""
    C = L @ np.swapaxes(L, 1, 2)
    trace = np.trace(C, axis1=1, axis2=2)
    return 0.5 * (trace + (m * m).sum(axis=1) - m.shape[1] - np.linalg.slogdet(C)[1])


def other_way_round(m, L):
    """KL(N(0, I) ‖ q)."""
    C = L @ np.swapaxes(L, 1, 2)
    P = np.linalg.inv(C)
    squares = np.trace(P, axis1=1, axis2=2) + np.einsum("nk,nkj,nj->n", m, P, m)
    return 0.5 * (squares - m.shape[1] + np.linalg.slogdet(C)[1])


def log_det(L):
    """log |L| (N,)."""
    return np.log(np.diagonal(L, axis1=1, axis2=2)).sum(axis=1)


def diagonal_alone(m, L):
    """The KL of the q that has the same diagonal of L and nothing below it."""
    return kl_full(m, L * np.eye(m.shape[1]))


def draw_planar(rng, n):
    """Points u (S, K), and r (K,), w (K,), b of a layer that folds nowhere: r wᵀ > −1."""
    r, w = rng.standard_normal(n.K), rng.standard_normal(n.K)
    r = r + (rng.uniform(-0.8, 2.0) - r @ w) * w / (w @ w)
    return {"u": rng.standard_normal((n.S, n.K)), "r": r, "w": w, "b": rng.uniform(0.3, 1.0)}


def planar_log_det(u, r, w, b):
    """(S,), from the dense Jacobian of the layer, each column by a complex step."""
    h, K = 1e-30, len(w)

    def layer(u):
        return u + r * np.tanh(u @ w + b)[:, None]

    columns = [np.imag(layer(u + 1j * h * step)) / h for step in np.eye(K)]
    return np.linalg.slogdet(np.stack(columns, axis=2))[1]


def planar_with(slope=lambda a: 1 - np.tanh(a) ** 2, along=None, given=np.log):
    """A function of the arguments with another slope, another direction, or no logarithm."""
    def answer(u, r, w, b):
        return given(1 + (r @ w) * slope((along or (lambda u, r, w, b: u @ w + b))(u, r, w, b)))

    return answer


FULL = {
    "log of the determinant is missing: log |L|, and not |L|": lambda m, L: (
        kl_full(m, L) + log_det(L) - np.linalg.det(L)
    ),
    "the logarithm is of the sum of the diagonal: of each of its entries, and then the sum": lambda m, L: (
        kl_full(m, L) + log_det(L) - np.log(np.trace(L, axis1=1, axis2=2))
    ),
    "the entries of L are added up, where it is their squares": lambda m, L: (
        kl_full(m, L) + 0.5 * (L - L * L).sum(axis=(1, 2))
    ),
    "the entries of m are added up, where it is their squares": lambda m, L: (
        kl_full(m, L) + 0.5 * (m - m * m).sum(axis=1)
    ),
    "only the squares on the diagonal of L are added up: the trace of L Lᵀ has those of all entries":
        lambda m, L: kl_full(m, L) + 0.5 * (np.trace(L * L, axis1=1, axis2=2) - (L * L).sum(axis=(1, 2))),
} | of_terms({
    "the trace": lambda m, L: 0.5 * (L * L).sum(axis=(1, 2)), "m mᵀ": lambda m, L: 0.5 * (m * m).sum(axis=1),
    "the constant −K/2": lambda m, L: -0.5 * m.shape[1] + 0 * m[:, 0], "log |L|": lambda m, L: -log_det(L),
})
PLANAR = {
    "right but for the sign before the slope: T adds to u": lambda u, r, w, b: (
        np.log(1 - (r @ w) * (1 - np.tanh(u @ w + b) ** 2))
    ),
    "the 1 is missing, which comes of the u in u + r tanh(…)": lambda u, r, w, b: (
        np.log((r @ w) * (1 - np.tanh(u @ w + b) ** 2))
    ),
    "log(1 + t) is no t: only where t is small it is near it": lambda u, r, w, b: (
        (r @ w) * (1 - np.tanh(u @ w + b) ** 2)
    ),
    "tanh² stands where 1 − tanh² belongs": planar_with(slope=lambda a: np.tanh(a) ** 2),
    "1 + tanh² stands where 1 − tanh² belongs": planar_with(slope=lambda a: 1 + np.tanh(a) ** 2),
    "w wᵀ stands where r wᵀ belongs: r says which way a point is moved": lambda u, r, w, b: (
        planar_log_det(u, w, w, b)
    ),
    "the sums of r and of w are multiplied: r wᵀ is the sum of the products": lambda u, r, w, b: (
        np.log(1 + r.sum() * w.sum() * (1 - np.tanh(u @ w + b) ** 2))
    ),
    "the slope of tanh is 1/cosh², and yours 1/cosh": planar_with(slope=lambda a: 1 / np.cosh(a)),
    "b is taken off where it is added": planar_with(along=lambda u, r, w, b: u @ w - b),
    "the slope is that at T(u): it is asked at u": planar_with(
        along=lambda u, r, w, b: (u + r * np.tanh(u @ w + b)[:, None]) @ w + b
    ),
    "all K directions have the factor: |I + pᵀq| changes one of them, and leaves the others":
        lambda u, r, w, b: len(w) * planar_log_det(u, r, w, b),
    "this is the logarithm to the base 10: nats are asked": planar_with(given=np.log10),
}


LADDER = [
    Exercise(
        "12-1", "kl_full", "3.16", "KL(N(m, L Lᵀ) ‖ N(0, I)) of every case, (N,), in nats",
        draw_full_gaussian, by_value(kl_full),
        {
            "log |L| is halved: ½ log |L Lᵀ| is log |L| itself":
                lambda m, L: kl_full(m, L) + 0.5 * log_det(L),
            "log |L Lᵀ| is not halved: the ½ is before all terms, and ½ log |L Lᵀ| = log |L|":
                lambda m, L: kl_full(m, L) - log_det(L),
            "log |L| has its sign turned: a narrow q is far from the prior, and −log |L| says so":
                lambda m, L: kl_full(m, L) + 2 * log_det(L),
            "what is below the diagonal of L is left out: those entries make the correlations":
                diagonal_alone,
            "the −K is missing: a q that is the prior itself has to have 0 nats":
                lambda m, L: kl_full(m, L) + 0.5 * m.shape[1],
            "the trace is that of L, and should be of L Lᵀ: the squares of all entries, added up":
                lambda m, L: kl_full(m, L) + 0.5 * (np.trace(L, axis1=1, axis2=2) - (L * L).sum(axis=(1, 2))),
            "this is KL(p ‖ q), the other way round: the mean is under q":
                other_way_round,
            "m mᵀ is left out: a q that lies beside the prior pays for the way":
                lambda m, L: kl_full(0 * m, L),
        } | FULL,
    ),
    Exercise(
        "12-2", "planar_log_det", "3.36", "log |∂T/∂u| of u + r tanh(u wᵀ + b) at every point, (S,)",
        draw_planar, by_value(planar_log_det),
        {
            "the slope of tanh is left out: it is 1 − tanh², and 1 at the plane alone":
                planar_with(slope=lambda a: 1 + 0 * a),
            "tanh stands where its slope belongs, 1 − tanh²":
                planar_with(slope=np.tanh),
            "1 − tanh stands where the slope belongs, 1 − tanh²":
                planar_with(slope=lambda a: 1 - np.tanh(a)),
            "r wᵀ is one number, the sum of the products: here each coordinate has a factor of its own":
                lambda u, r, w, b: np.log(1 + (1 - np.tanh(u @ w + b) ** 2)[:, None] * (r * w)).sum(axis=1),
            "this is the determinant, and its logarithm is asked":
                planar_with(given=lambda det: det),
            "this is the logarithm for the way back: the layer itself has it with a plus":
                planar_with(given=lambda det: -np.log(det)),
            "b is left out: the plane where the layer bends goes through −b, not through 0":
                planar_with(along=lambda u, r, w, b: u @ w),
            "r and w are exchanged: w says where a point lies, r which way it is moved":
                planar_with(along=lambda u, r, w, b: u @ r + b),
        } | PLANAR,
    ),
]


# ---- a tighter bound ----------------------------------------------------------------------------


def draw_log_weights(rng, n):
    """Log weights (S k, N), of the first two cases beyond what exp can take, and k."""
    offset = np.full(n.N, -3.0)
    offset[:2] = -900.0, 800.0
    return {"log_w": offset + 3 * rng.standard_normal((n.S * n.K, n.N)), "k": n.K}


def iwae_bound(log_w, k):
    """(N,), group by group, by adding one weight to another in log space."""
    groups = [np.logaddexp.reduce(log_w[i : i + k], axis=0) for i in range(0, len(log_w), k)]
    return np.log(k) - sum(groups) / len(groups)


def grouped(log_w, k):
    """(groups, k, N)."""
    return log_w.reshape(-1, k, log_w.shape[1])


def draw_weights_to_differentiate(rng, n):
    """Log weights (S, N), and what each L counts for, dL (N,)."""
    return {
        "log_w": 1.5 * rng.standard_normal((n.S, n.N)) - 1.0,
        "dL": rng.uniform(0.5, 2.0, n.N) * rng.choice([-1.0, 1.0], n.N),
    }


def weighted_bound(log_w, dL):
    """Σ dL L, one number, all draws of a case being one group."""
    return np.sum(dL * (np.log(len(log_w)) - logsumexp(log_w, axis=0)))


def off_by(number):
    """L_k off by a number of the weights' shape and k."""
    return lambda log_w, k: iwae_bound(log_w, k) + number(len(log_w), k)


def top_forgotten(log_w, k):
    """The largest weight taken off, and not put back."""
    groups = grouped(log_w, k)
    return -np.log(np.exp(groups - groups.max(axis=1, keepdims=True)).mean(axis=1)).mean(axis=0)


BOUND = {
    "the largest log weight is taken off inside, and has to be added again outside": top_forgotten,
    "only the first group is used: asked is the mean over all of them": lambda log_w, k: (
        iwae_bound(log_w[:k], k)
    ),
    "only the first k weights are used, and their mean is a sum: log k is missing": lambda log_w, k: (
        iwae_bound(log_w[:k], k) - np.log(k)
    ),
    "the logarithm goes over the groups, axis 0, and has to go over the k draws of a group, axis 1":
        lambda log_w, k: -(logsumexp(grouped(log_w, k), axis=0) - np.log(len(log_w) // k)).mean(axis=0),
    "log k is taken off twice, or with the wrong sign: it is a mean of k weights": off_by(
        lambda S, k: 2 * np.log(k)
    ),
    "the sum in a group is divided by the number of groups: it has k draws": off_by(
        lambda S, k: np.log(S // k) - np.log(k)
    ),
    "the sum in a group is divided by all draws: it has k of them": off_by(
        lambda S, k: np.log(S) - np.log(k)
    ),
    "the groups are summed: asked is their mean": lambda log_w, k: iwae_bound(log_w, k) * (len(log_w) // k),
    "L_k is divided by k: the mean over k stands inside of the logarithm": lambda log_w, k: (
        iwae_bound(log_w, k) / k
    ),
}
SHARES = {
    "the shares go over draws and data cases together: each case has its own, axis 0":
        lambda log_w, dL: -dL * softmax(log_w),
    "these are the shares of the others, 1 − share": lambda log_w, dL: -dL * (1 - softmax(log_w, axis=0)),
    "this is the slope of a share itself: asked is that of the logarithm of the mean": lambda log_w, dL: (
        -dL * softmax(log_w, axis=0) * (1 - softmax(log_w, axis=0))
    ),
    "the share is multiplied by its log weight: that of ∂ log ω/∂ log ω is 1": lambda log_w, dL: (
        -dL * softmax(log_w, axis=0) * log_w
    ),
    "the log weights themselves are shared out: their exp is": lambda log_w, dL: (
        -dL * log_w / log_w.sum(axis=0)
    ),
    "the weights are divided by their mean: by their sum, so that the shares add up to 1": lambda log_w, dL: (
        -dL * softmax(log_w, axis=0) * len(log_w)
    ),
    "the mean of dL is used: each case counts by its own": lambda log_w, dL: (
        -dL.mean() * softmax(log_w, axis=0)
    ),
    "1/S is taken off the shares: that is the difference to the gradient of Q": lambda log_w, dL: (
        -dL * (softmax(log_w, axis=0) - 1 / len(log_w))
    ),
    "all of it goes to the largest weight: each draw has its share": lambda log_w, dL: (
        -dL * (log_w == log_w.max(axis=0))
    ),
}


TIGHTER = [
    Exercise(
        "12-3", "iwae_bound", "7.8", "L_k (N,), the mean over groups of k rows of log_w, one after the other",
        draw_log_weights, by_value(iwae_bound),
        {
            "the mean is of the log weights: that is L_1 = Q, whatever k is; average k weights first":
                lambda log_w, k: -log_w.mean(axis=0),
            "under the log stands a sum of k weights, and not their mean: it is off by log k":
                lambda log_w, k: iwae_bound(log_w, k) - np.log(k),
            "all draws are under one log: that is the bound for as many; here a group has k":
                lambda log_w, k: iwae_bound(log_w, len(log_w)),
            "the sign is that of a lower bound on log p(x): Q and L_k are upper bounds on −log p(x)":
                lambda log_w, k: -iwae_bound(log_w, k),
            "exp of a log weight of −900 is 0, and of 800 infinite: take the largest of a group off first":
                lambda log_w, k: -np.log(grouped(np.exp(log_w), k).mean(axis=1)).mean(axis=0),
            "the groups are taken across: the first k rows belong together, then the next":
                lambda log_w, k: iwae_bound(
                    np.swapaxes(log_w.reshape(k, -1, log_w.shape[1]), 0, 1).reshape(log_w.shape), k
                ),
            "the largest weight alone is taken of every group, and the others are not there":
                lambda log_w, k: -grouped(log_w, k).max(axis=1).mean(axis=0),
        } | BOUND,
    ),
    Exercise(
        "12-4", "iwae_backward", "7.22", "dlog_w (S, N) of Σ dL L, all S draws of a case being one group",
        draw_weights_to_differentiate, by_gradient(weighted_bound, "log_w"),
        {
            "every draw counts 1/S: that is the gradient of Q; here it counts by its share of the weights":
                lambda log_w, dL: -dL / len(log_w) + 0 * log_w,
            "the weights are not divided by their sum: their shares of it add up to 1 in every case":
                lambda log_w, dL: -dL * np.exp(log_w),
            "the shares go over the data cases, axis 1: a case's own draws share, axis 0":
                lambda log_w, dL: -dL * softmax(log_w, axis=1),
            "the sign is turned: a larger weight makes L, which is −log of their mean, smaller":
                lambda log_w, dL: dL * softmax(log_w, axis=0),
            "right but for dL, which is left out: each case counts by its own":
                lambda log_w, dL: -softmax(log_w, axis=0),
            "the shares are squared: this is the doubly reparameterised way, and belongs to another term":
                lambda log_w, dL: -dL * softmax(log_w, axis=0) ** 2,
            "these are the logarithms of the shares; their exp is asked":
                lambda log_w, dL: -dL * log_softmax(log_w, axis=0),
        } | SHARES,
    ),
]


# ---- draws instead of means ---------------------------------------------------------------------


def draw_estimates(rng, n):
    """Estimates t (m, D) from m imputed tables, and their squared standard errors v (m, D)."""
    return {"t": rng.standard_normal((n.S, n.D)), "v": rng.uniform(0.2, 1.5, (n.S, n.D))}


def pooled(t, v):
    """Mean and standard error; the variance between tables by the squared differences of all pairs."""
    m = len(t)
    between = np.sum((t[:, None] - t[None]) ** 2, axis=(0, 1)) / (2 * m * (m - 1))
    return {"mean": np.ones(m) @ t / m, "se": np.sqrt(np.ones(m) @ v / m + between + between / m)}


def pooled_with(total):
    """A function of t and v with another total variance, made of m, U, B and v."""
    return lambda t, v: {
        "mean": t.mean(axis=0), "se": np.sqrt(total(len(t), v.mean(axis=0), t.var(axis=0, ddof=1), v)),
    }


SE = {
    "U is divided by m, as if more tables made more data": lambda m, U, B, v: U / m + (1 + 1 / m) * B,
    "all of it is divided by m, as if more tables made more data": lambda m, U, B, v: (
        (U + (1 + 1 / m) * B) / m
    ),
    "1 − 1/m stands where 1 + 1/m belongs: few tables leave more open": lambda m, U, B, v: (
        U + (1 - 1 / m) * B
    ),
    "1 + m stands where 1 + 1/m belongs": lambda m, U, B, v: U + (1 + m) * B,
    "1/(m − 1) stands where 1/m belongs, beside the 1": lambda m, U, B, v: U + (1 + 1 / (m - 1)) * B,
    "the v are summed, and U is their mean": lambda m, U, B, v: m * U + (1 + 1 / m) * B,
    "the roots of the two parts are added: variances add up, then comes the root": lambda m, U, B, v: (
        (np.sqrt(U) + np.sqrt((1 + 1 / m) * B)) ** 2
    ),
    "B is the variance of the v, and should be that of the estimates t": lambda m, U, B, v: (
        U + (1 + 1 / m) * v.var(axis=0, ddof=1)
    ),
}


def other_mean(mean):
    """The right standard error beside another mean."""
    return lambda t, v: pooled(t, v) | {"mean": mean(t, v)}


POOLED = {f"right except for se: {sentence}": pooled_with(total) for sentence, total in SE.items()} | {
    "right except for mean: it is weighted by 1/v, and Rubin's rules take the plain mean": other_mean(
        lambda t, v: (t / v).sum(axis=0) / (1 / v).sum(axis=0)
    ),
    "right except for mean: this is the median": other_mean(lambda t, v: np.median(t, axis=0)),
}


DRAWS = [
    Exercise(
        "12-5", "pooled", "7.21", "mean (D,) and se (D,) from t and v (m, D) of m tables, in a dict",
        draw_estimates, by_value(pooled, names=["mean", "se"]),
        {
            "right except for se: what differs between the tables is left out, and it is what the holes cost":
                pooled_with(lambda m, U, B, v: U),
            "right except for se: B counts 1 + 1/m times; m tables are not endlessly many":
                pooled_with(lambda m, U, B, v: U + B),
            "right except for se: B is divided by m, as if each table were new data":
                pooled_with(lambda m, U, B, v: U + B / m),
            "right except for se: standard deviations and variances are added: B is a variance":
                pooled_with(lambda m, U, B, v: U + (1 + 1 / m) * np.sqrt(B)),
            "right except for se: the variance between m tables has the divisor m − 1":
                pooled_with(lambda m, U, B, v: U + (1 + 1 / m) * B * (m - 1) / m),
            "right except for se: v holds squared standard errors already":
                pooled_with(lambda m, U, B, v: (v**2).mean(axis=0) + (1 + 1 / m) * B),
            "right except for se: standard errors are averaged, and their squares should be":
                pooled_with(lambda m, U, B, v: np.sqrt(v).mean(axis=0) ** 2 + (1 + 1 / m) * B),
            "right except for se, which is the variance: its root is asked":
                pooled_with(lambda m, U, B, v: (U + (1 + 1 / m) * B) ** 2),
            "right except for se: the spread between the tables is left without what each table is unsure of":
                pooled_with(lambda m, U, B, v: (1 + 1 / m) * B),
        } | POOLED,
    ),
]


# ---- discrete and continuous --------------------------------------------------------------------


def draw_analysers(rng, n):
    """Data x (N, D), one case far out, and pi (J,), b (J, D), W (J, K, D), psi (D,), with J = S."""
    x = 2 * rng.standard_normal((n.N, n.D))
    x[0] = 200.0
    return {
        "x": x, "pi": rng.dirichlet(np.full(n.S, 2.0)), "b": 2 * rng.standard_normal((n.S, n.D)),
        "W": rng.standard_normal((n.S, n.K, n.D)), "psi": rng.uniform(0.5, 2.0, n.D),
    }


def log_joint(x, pi, b, W, psi):
    """log p(x_n, j) (N, J), by the package, which inverts no matrix larger than (K, K)."""
    return np.stack([np.log(pi[j]) - nlml(W[j], b[j], psi, x) for j in range(len(pi))], axis=1)


def responsibilities(x, pi, b, W, psi):
    """p(j|x_n) (N, J)."""
    return softmax(log_joint(x, pi, b, W, psi), axis=1)


def covariances(W, psi):
    """W_jᵀ W_j + Ψ, (J, D, D)."""
    return np.swapaxes(W, 1, 2) @ W + np.diag(psi)


def by_distance(x, pi, b, W, psi):
    """Without the determinants."""
    return softmax(log_joint(x, pi, b, W, psi) + 0.5 * np.linalg.slogdet(covariances(W, psi))[1], axis=1)


def as_on_paper(x, pi, b, W, psi):
    """Densities first, then their shares."""
    density = np.exp(log_joint(x, pi, b, W, psi))
    return density / density.sum(axis=1, keepdims=True)


def with_log_joint(change):
    """Shares of other log joints, made of squares, log |C_j| (J,) and the arguments."""
    def made(x, pi, b, W, psi):
        C = covariances(W, psi)
        r = x[:, None] - b
        squares = np.einsum("njd,jde,nje->nj", r, np.linalg.inv(C), r)
        return softmax(change(squares, np.linalg.slogdet(C)[1], np.log(pi), r, C), axis=1)

    return made


SHARED = {
    "b is left out: each component has its own middle": lambda x, pi, b, W, psi: (
        responsibilities(x, pi, 0 * b, W, psi)
    ),
    "the ½ before the squares is missing": with_log_joint(
        lambda squares, logs, log_pi, r, C: log_pi - squares - 0.5 * logs
    ),
    "the ½ is missing, before the squares and before log |C_j|": with_log_joint(
        lambda squares, logs, log_pi, r, C: log_pi - squares - logs
    ),
    "log |C_j| has its sign turned: a wide component has the lower density": with_log_joint(
        lambda squares, logs, log_pi, r, C: log_pi - 0.5 * squares + 0.5 * logs
    ),
    "the squares have the sign of a plus: what is far is improbable": with_log_joint(
        lambda squares, logs, log_pi, r, C: log_pi + 0.5 * squares - 0.5 * logs
    ),
    "C_j stands in the squares where its inverse belongs": with_log_joint(
        lambda squares, logs, log_pi, r, C: log_pi - 0.5 * np.einsum("njd,jde,nje->nj", r, C, r) - 0.5 * logs
    ),
    "these are shares by the plain distance to b: the covariance says what is far": with_log_joint(
        lambda squares, logs, log_pi, r, C: log_pi - 0.5 * np.sum(r * r, axis=2)
    ),
    "only the diagonal of C_j is used: W_jᵀ W_j ties the variables together": with_log_joint(
        lambda squares, logs, log_pi, r, C: log_pi - 0.5 * np.sum(
            r * r / np.diagonal(C, axis1=1, axis2=2) + np.log(np.diagonal(C, axis1=1, axis2=2)), axis=2
        )
    ),
    "π itself is added in log space: its logarithm is": with_log_joint(
        lambda squares, logs, log_pi, r, C: np.exp(log_pi) - 0.5 * squares - 0.5 * logs
    ),
    "π multiplies after the rows were normalised, so that they do not add up to 1 any more":
        lambda x, pi, b, W, psi: pi * responsibilities(x, 1 + 0 * pi, b, W, psi),
    "these are log p(x_n, j): exp and normalise the rows": log_joint,
    "these are the densities p(x_n|j), which are not normalised": lambda x, pi, b, W, psi: (
        np.exp(log_joint(x, 1 + 0 * pi, b, W, psi))
    ),
    "this is the number of the most probable component, and its shares are asked": lambda x, pi, b, W, psi: (
        log_joint(x, pi, b, W, psi).argmax(axis=1)
    ),
} | of_argument(responsibilities, "psi", VARIANCE)


MIXTURE = [
    Exercise(
        "12-6", "responsibilities", "9.12", "p(j|x_n) (N, J), each row adds up to 1", draw_analysers,
        by_value(responsibilities),
        {
            "π is left out: how frequent a component is says something before x is seen":
                lambda x, pi, b, W, psi: responsibilities(x, 1 + 0 * pi, b, W, psi),
            "it is normalised over the data cases: for each case the components share, axis 1":
                lambda x, pi, b, W, psi: softmax(log_joint(x, pi, b, W, psi), axis=0),
            "log |C_j| is left out: a wide component is near to everything, and has to pay for it":
                by_distance,
            "½ is forgotten before log |C_j|":
                lambda x, pi, b, W, psi: softmax(
                    log_joint(x, pi, b, W, psi) - 0.5 * np.linalg.slogdet(covariances(W, psi))[1], axis=1
                ),
            "ψ is a variance already, and the covariance has its square":
                lambda x, pi, b, W, psi: responsibilities(x, pi, b, W, psi**2),
            "W is left out of the covariance: a component is a plane with noise, not noise alone":
                lambda x, pi, b, W, psi: responsibilities(x, pi, b, 0 * W, psi),
            "exp of a large distance is 0, and the shares 0/0: stay in log space until rows are normalised":
                as_on_paper,
            "these are the logarithms of the shares; their exp is asked":
                lambda x, pi, b, W, psi: log_softmax(log_joint(x, pi, b, W, psi), axis=1),
            "each case is given to one component: the shares are asked, not the largest of them":
                lambda x, pi, b, W, psi: np.eye(len(pi))[log_joint(x, pi, b, W, psi).argmax(axis=1)],
        } | SHARED,
    ),
]

EXERCISES = [*LADDER, *TIGHTER, *DRAWS, *MIXTURE]
