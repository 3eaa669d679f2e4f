"""Answers to the exercises of notebook 12, beyond the lecture."""

import numpy as np
from scipy import special, stats


# ---- 12-1: the KL of a full Gaussian ------------------------------------------------------------


def diagonals(L):
    return np.array([np.diag(one) for one in L])


def squares_of(m, L):
    return np.sum(L**2, axis=(1, 2)) + np.sum(m**2, axis=1)


def log_det_halved(m, L):
    return 0.5 * (squares_of(m, L) - m.shape[1] - np.sum(np.log(diagonals(L)), axis=1))


def log_det_of_the_covariance(m, L):
    return 0.5 * (squares_of(m, L) - m.shape[1]) - np.sum(np.log(diagonals(L) ** 2), axis=1)


def no_correlations(m, L):
    s = diagonals(L)
    return 0.5 * np.sum(s**2 + m**2 - 1 - 2 * np.log(s), axis=1)


def without_K(m, L):
    return 0.5 * squares_of(m, L) - np.log(diagonals(L)).sum(axis=1)


def trace_of_L(m, L):
    s = diagonals(L)
    return 0.5 * (s.sum(axis=1) + (m**2).sum(axis=1) - m.shape[1]) - np.log(s).sum(axis=1)


def from_p_to_q(m, L):
    kl = []
    for mean, root in zip(m, L):
        P = np.linalg.inv(root @ root.T)
        kl.append(0.5 * (np.trace(P) + mean @ P @ mean - len(mean) - np.log(np.linalg.det(P))))
    return np.array(kl)


def centred(m, L):
    return 0.5 * (np.sum(L**2, axis=(1, 2)) - m.shape[1]) - np.sum(np.log(diagonals(L)), axis=1)


def log_det_added(m, L):
    return 0.5 * (squares_of(m, L) - m.shape[1]) + np.log(np.linalg.det(L))


def mean_over_latents(m, L):
    return (0.5 * (squares_of(m, L) - m.shape[1]) - np.sum(np.log(diagonals(L)), axis=1)) / m.shape[1]


def kl_by_einsum(m, L):
    s = np.einsum("nkk->nk", L)
    return 0.5 * (np.einsum("nij,nij->n", L, L) + np.einsum("nk,nk->n", m, m) - m.shape[1]) - np.log(s).sum(1)


def kl_by_loops(m, L):
    kl = np.zeros(len(m))
    for n in range(len(m)):
        for i in range(m.shape[1]):
            kl[n] += 0.5 * m[n, i] ** 2 - 0.5 - np.log(L[n, i, i])
            for j in range(i + 1):
                kl[n] += 0.5 * L[n, i, j] ** 2
    return kl


def kl_by_eigenvalues(m, L):
    lam = np.linalg.eigvalsh(L @ L.transpose(0, 2, 1))
    return 0.5 * (lam - 1 - np.log(lam)).sum(axis=1) + 0.5 * (m * m).sum(axis=1)


def kl_by_the_entropy(m, L):
    kl = []
    for mean, root in zip(m, L):
        entropy = stats.multivariate_normal(mean, root @ root.T).entropy()
        K = len(mean)
        cross = 0.5 * (K * np.log(2 * np.pi) + np.trace(root @ root.T) + mean @ mean)
        kl.append(cross - entropy)
    return np.array(kl)


def kl_by_determinants(m, L):
    return 0.5 * (squares_of(m, L) - m.shape[1]) - np.log(np.linalg.det(L))


# ---- 12-2: the determinant of a planar layer ----------------------------------------------------


def no_slope(u, r, w, b):
    return np.full(len(u), np.log(1 + r @ w))


def tanh_itself(u, r, w, b):
    with np.errstate(invalid="ignore"):
        return np.log(1 + np.tanh(u @ w + b) * (r @ w))


def tanh_not_squared(u, r, w, b):
    with np.errstate(invalid="ignore"):
        return np.log(1 + (1 - np.tanh(u @ w + b)) * (r @ w))


def determinant(u, r, w, b):
    return 1 + (1 - np.tanh(u @ w + b) ** 2) * (r @ w)


def by_coordinates(u, r, w, b):
    slope = 1 - np.tanh(u @ w + b) ** 2
    with np.errstate(invalid="ignore"):
        return np.sum(np.log(1 + np.outer(slope, r * w)), axis=1)


def for_the_density(u, r, w, b):
    return -np.log(1 + (1 - np.tanh(u @ w + b) ** 2) * (r @ w))


def through_the_origin(u, r, w, b):
    return np.log(1 + (r @ w) / np.cosh(u @ w) ** 2)


def exchanged(u, r, w, b):
    return np.log(1 + (r @ w) / np.cosh(u @ r + b) ** 2)


def one_number(u, r, w, b):
    return np.log(1 + (r @ w) / np.cosh(u @ w + b) ** 2).sum()


def planar_by_cosh(u, r, w, b):
    return np.log1p(np.dot(w, r) / np.cosh(np.sum(u * w, axis=1) + b) ** 2)


def planar_by_jacobians(u, r, w, b):
    found = []
    for point in u:
        slope = 1 - np.tanh(point @ w + b) ** 2
        found.append(np.log(np.linalg.det(np.eye(len(w)) + slope * np.outer(w, r))))
    return np.array(found)


def planar_by_sigmoids(u, r, w, b):
    p = special.expit(2 * (u @ w + b))
    return np.log(1 + 4 * p * (1 - p) * (r @ w))


def planar_by_loops(u, r, w, b):
    found = np.empty(len(u))
    for s, point in enumerate(u):
        a = sum(x * y for x, y in zip(point, w)) + b
        t = np.tanh(a)
        found[s] = np.log(1 + (1 - t) * (1 + t) * sum(x * y for x, y in zip(r, w)))
    return found


def planar_by_einsum(u, r, w, b):
    a = np.einsum("sk,k->s", u, w) + b
    return np.log(1 + np.einsum("k,k,s->s", r, w, 1 - np.tanh(a) ** 2))


# ---- 12-3: the importance-weighted bound --------------------------------------------------------


def grouped(log_w, k):
    return log_w.reshape(len(log_w) // k, k, log_w.shape[1])


def q_again(log_w, k):
    return -grouped(log_w, k).mean(axis=1).mean(axis=0)


def sum_of_weights(log_w, k):
    return -special.logsumexp(grouped(log_w, k), axis=1).mean(axis=0)


def one_group(log_w, k):
    return np.log(len(log_w)) - special.logsumexp(log_w, axis=0)


def elbo(log_w, k):
    return (special.logsumexp(grouped(log_w, k), axis=1) - np.log(k)).mean(axis=0)


def underflow(log_w, k):
    with np.errstate(divide="ignore", over="ignore"):
        return np.mean([-np.log(np.mean(np.exp(group), axis=0)) for group in grouped(log_w, k)], axis=0)


def across(log_w, k):
    other = log_w.reshape(k, len(log_w) // k, log_w.shape[1])
    return np.mean(np.log(k) - special.logsumexp(other, axis=0), axis=0)


def largest_alone(log_w, k):
    return np.mean([-np.max(group, axis=0) for group in grouped(log_w, k)], axis=0)


def every_group(log_w, k):
    return np.log(k) - special.logsumexp(grouped(log_w, k), axis=1)


def bound_by_scipy(log_w, k):
    return -np.mean(special.logsumexp(grouped(log_w, k), axis=1, b=1 / k), axis=0)


def bound_by_loops(log_w, k):
    L = np.zeros(log_w.shape[1])
    starts = range(0, log_w.shape[0], k)
    for n in range(log_w.shape[1]):
        for start in starts:
            few = log_w[start : start + k, n]
            L[n] -= (few.max() + np.log(np.mean(np.exp(few - few.max())))) / len(starts)
    return L


def bound_by_pairs(log_w, k):
    total = log_w[0::k]
    for i in range(1, k):
        total = np.logaddexp(total, log_w[i::k])
    return -(total - np.log(k)).mean(axis=0)


def one_shift_for_all(log_w, k):
    top = log_w.max()
    with np.errstate(divide="ignore"):
        return -top - np.log(np.exp(grouped(log_w - top, k)).mean(axis=1)).mean(axis=0)


def bound_by_one_shift(log_w, k):
    top = log_w.max(axis=0)
    return -top - np.log(np.exp(grouped(log_w - top, k)).mean(axis=1)).mean(axis=0)


def bound_by_split(log_w, k):
    parts = np.split(log_w, len(log_w) // k)
    return sum(np.log(k) - np.logaddexp.reduce(part) for part in parts) / len(parts)


# ---- 12-4: its gradient -------------------------------------------------------------------------


def equal_shares(log_w, dL):
    return np.repeat(-dL[None] / len(log_w), len(log_w), axis=0)


def weights_themselves(log_w, dL):
    return -np.exp(log_w) * dL


def shared_by_cases(log_w, dL):
    w = np.exp(log_w)
    return -dL * w / w.sum(axis=1, keepdims=True)


def sign_turned(log_w, dL):
    w = np.exp(log_w)
    return dL * w / w.sum(axis=0)


def dL_forgotten(log_w, dL):
    w = np.exp(log_w)
    return -w / w.sum(axis=0)


def squared_shares(log_w, dL):
    w = np.exp(log_w)
    return -dL * (w / w.sum(axis=0)) ** 2


def log_shares(log_w, dL):
    return -dL * (log_w - special.logsumexp(log_w, axis=0))


def by_the_mean(log_w, dL):
    w = np.exp(log_w)
    return -dL * w / w.mean(axis=0)


def shares_by_scipy(log_w, dL):
    return -special.softmax(log_w, axis=0) * dL


def shares_by_loops(log_w, dL):
    d = np.zeros(log_w.shape)
    for n in range(len(dL)):
        total = sum(np.exp(value - log_w[0, n]) for value in log_w[:, n])
        for s in range(len(log_w)):
            d[s, n] = -dL[n] * np.exp(log_w[s, n] - log_w[0, n]) / total
    return d


def shares_in_log_space(log_w, dL):
    return -dL[None, :] * np.exp(log_w - np.logaddexp.reduce(log_w, axis=0))


def shares_by_ratios(log_w, dL):
    # 1 / Σ_r exp(log w_r − log w_s)
    return -dL / np.exp(log_w[None] - log_w[:, None]).sum(axis=1)


def shares_by_einsum(log_w, dL):
    w = np.exp(log_w)
    return np.einsum("sn,n,n->sn", w, 1 / np.einsum("sn->n", w), -dL)


# ---- 12-5: Rubin's rules ------------------------------------------------------------------------


def within_alone(t, v):
    return {"mean": np.mean(t, axis=0), "se": np.sqrt(np.mean(v, axis=0))}


def endless_tables(t, v):
    return {"mean": np.mean(t, axis=0), "se": np.sqrt(np.mean(v, axis=0) + np.var(t, axis=0, ddof=1))}


def new_data(t, v):
    return {"mean": t.mean(0), "se": np.sqrt(v.mean(0) + t.var(0, ddof=1) / len(t))}


def divisor_m(t, v):
    return {"mean": t.mean(0), "se": np.sqrt(v.mean(0) + (1 + 1 / len(t)) * t.var(0))}


def v_squared(t, v):
    return {"mean": t.mean(0), "se": np.sqrt((v * v).mean(0) + (1 + 1 / len(t)) * t.var(0, ddof=1))}


def averaged_errors(t, v):
    within = np.mean(v**0.5, axis=0) ** 2
    return {"mean": t.mean(0), "se": np.sqrt(within + (1 + 1 / len(t)) * t.var(0, ddof=1))}


def deviation_for_variance(t, v):
    return {"mean": t.mean(0), "se": np.sqrt(v.mean(0) + (1 + 1 / len(t)) * t.std(0, ddof=1))}


def total_variance(t, v):
    return {"mean": t.mean(0), "se": v.mean(0) + (len(t) + 1) / len(t) * t.var(0, ddof=1)}


def between_alone(t, v):
    return {"mean": t.mean(0), "se": np.sqrt((1 + 1 / len(t)) * t.var(0, ddof=1))}


def summed(t, v):
    return {"mean": t.sum(0), "se": np.sqrt(v.mean(0) + (1 + 1 / len(t)) * t.var(0, ddof=1))}


def rubin_by_std(t, v):
    m = len(t)
    between = np.sqrt(1 + 1 / m) * t.std(axis=0, ddof=1)
    return {"mean": t.mean(axis=0), "se": np.hypot(np.sqrt(v.mean(axis=0)), between)}


def rubin_by_loops(t, v):
    m, D = t.shape
    mean, se = np.zeros(D), np.zeros(D)
    for d in range(D):
        mean[d] = sum(t[:, d]) / m
        between = sum((value - mean[d]) ** 2 for value in t[:, d]) / (m - 1)
        se[d] = (sum(v[:, d]) / m + between + between / m) ** 0.5
    return {"mean": mean, "se": se}


def rubin_by_covariance(t, v):
    m = t.shape[0]
    B = np.diag(np.cov(t, rowvar=False))
    return {"se": np.sqrt(np.average(v, axis=0) + B * (m + 1) / m), "mean": np.average(t, axis=0)}


def rubin_by_einsum(t, v):
    m = len(t)
    r = t - t.mean(0)
    between = (1 / (m - 1) + 1 / (m * (m - 1))) * np.einsum("md,md->d", r, r)
    return {"mean": np.einsum("md->d", t) / m, "se": np.sqrt(np.einsum("md->d", v) / m + between)}


def rubin_by_squares(t, v):
    m = len(t)
    mean = t.mean(axis=0)
    B = (np.sum(t**2, axis=0) - m * mean**2) / (m - 1)
    return {"mean": mean, "se": (v.mean(axis=0) + (1 + 1 / m) * B) ** 0.5}


# ---- 12-6: responsibilities ---------------------------------------------------------------------


def log_densities(x, b, W, psi):
    return np.stack([
        stats.multivariate_normal.logpdf(x, b[j], W[j].T @ W[j] + np.diag(psi)) for j in range(len(b))
    ], axis=1)


def unweighted(x, pi, b, W, psi):
    return special.softmax(log_densities(x, b, W, psi), axis=1)


def over_the_cases(x, pi, b, W, psi):
    return special.softmax(np.log(pi) + log_densities(x, b, W, psi), axis=0)


def distances(x, b, C):
    residuals = [x - mean for mean in b]
    return np.stack([np.sum(r @ np.linalg.inv(c) * r, axis=1) for r, c in zip(residuals, C)], axis=1)


def no_determinant(x, pi, b, W, psi):
    C = np.einsum("jkd,jke->jde", W, W) + np.diag(psi)
    return special.softmax(np.log(pi) - 0.5 * distances(x, b, C), axis=1)


def whole_determinant(x, pi, b, W, psi):
    C = np.einsum("jkd,jke->jde", W, W) + np.diag(psi)
    return special.softmax(np.log(pi) - 0.5 * distances(x, b, C) - np.linalg.slogdet(C)[1], axis=1)


def psi_squared(x, pi, b, W, psi):
    return special.softmax(np.log(pi) + log_densities(x, b, W, psi**2), axis=1)


def noise_alone(x, pi, b, W, psi):
    log_p = np.stack([stats.norm.logpdf(x, mean, np.sqrt(psi)).sum(axis=1) for mean in b], axis=1)
    return special.softmax(np.log(pi) + log_p, axis=1)


def zero_over_zero(x, pi, b, W, psi):
    p = pi * np.exp(log_densities(x, b, W, psi))
    with np.errstate(invalid="ignore"):
        return p / p.sum(axis=1, keepdims=True)


def in_log_space(x, pi, b, W, psi):
    log_p = np.log(pi) + log_densities(x, b, W, psi)
    return log_p - special.logsumexp(log_p, axis=1, keepdims=True)


def hard(x, pi, b, W, psi):
    log_p = np.log(pi) + log_densities(x, b, W, psi)
    return (log_p == log_p.max(axis=1, keepdims=True)) * 1.0


def by_component(x, pi, b, W, psi):
    return special.softmax(np.log(pi) + log_densities(x, b, W, psi), axis=1).T


def shares_from_scipy(x, pi, b, W, psi):
    return special.softmax(np.log(pi) + log_densities(x, b, W, psi), axis=1)


def shares_by_cholesky(x, pi, b, W, psi):
    log_p = np.zeros((len(x), len(pi)))
    for j in range(len(pi)):
        L = np.linalg.cholesky(W[j].T @ W[j] + np.diag(psi))
        y = np.linalg.solve(L, (x - b[j]).T)
        log_p[:, j] = np.log(pi[j]) - 0.5 * np.sum(y**2, axis=0) - np.sum(np.log(np.diag(L)))
    p = np.exp(log_p - log_p.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def shares_by_woodbury(x, pi, b, W, psi):
    log_p = []
    for weight, mean, loadings in zip(pi, b, W):
        A = loadings / psi
        M = np.eye(len(loadings)) + A @ loadings.T
        r = x - mean
        y = r @ A.T
        quadratic = np.sum(r**2 / psi, axis=1) - np.sum(y * np.linalg.solve(M, y.T).T, axis=1)
        log_p.append(np.log(weight) - 0.5 * quadratic - 0.5 * np.linalg.slogdet(M)[1])
    log_p = np.array(log_p).T
    return np.exp(log_p - special.logsumexp(log_p, axis=1)[:, None])


def shares_by_batches(x, pi, b, W, psi):
    C = np.einsum("jkd,jke->jde", W, W) + np.diag(psi)
    r = x[:, None] - b[None]
    squares = np.einsum("njd,jde,nje->nj", r, np.linalg.inv(C), r)
    log_p = np.log(pi) - 0.5 * (np.linalg.slogdet(C)[1] + squares)
    return np.exp(log_p - np.logaddexp.reduce(log_p, axis=1, keepdims=True))


def shares_by_ratios_of_densities(x, pi, b, W, psi):
    log_p = np.log(pi) + log_densities(x, b, W, psi)
    with np.errstate(over="ignore"):
        return 1 / np.exp(log_p[:, None, :] - log_p[:, :, None]).sum(axis=2)


WRONG = {
    "12-1": {
        "log |L| is halved": log_det_halved,
        "log |L Lᵀ| is not halved": log_det_of_the_covariance,
        "below the diagonal of L is left out": no_correlations,
        "the −K is missing": without_K,
        "the trace is that of L": trace_of_L,
        "the other way round": from_p_to_q,
        "m mᵀ is left out": centred,
        "log |L| has its sign turned": log_det_added,
        "1/(K = ": mean_over_latents,
    },
    "12-2": {
        "the slope of tanh is left out": no_slope,
        "tanh stands where its slope": tanh_itself,
        "1 − tanh stands where": tanh_not_squared,
        "this is the determinant": determinant,
        "for the way back": for_the_density,
        "r wᵀ is one number": by_coordinates,
        "b is left out": through_the_origin,
        "r and w are exchanged": exchanged,
        "it has shape": one_number,
    },
    "12-3": {
        "that is L_1 = Q": q_again,
        "a sum of k weights": sum_of_weights,
        "all draws are under one log": one_group,
        "that of a lower bound": elbo,
        "exp of a log weight of −900": underflow,
        "look for a log of 0": one_shift_for_all,
        "the groups are taken across": across,
        "the largest weight alone": largest_alone,
        "it has shape": every_group,
    },
    "12-4": {
        "that is the gradient of Q": equal_shares,
        "not divided by their sum": weights_themselves,
        "the shares go over the data cases": shared_by_cases,
        "the sign is turned": sign_turned,
        "dL, which is left out": dL_forgotten,
        "the shares are squared": squared_shares,
        "the logarithms of the shares": log_shares,
        "divided by their mean": by_the_mean,
    },
    "12-5": {
        "what differs between the tables is left out": within_alone,
        "B counts 1 + 1/m times": endless_tables,
        "as if each table were new data": new_data,
        "has the divisor m − 1": divisor_m,
        "v holds squared standard errors": v_squared,
        "standard errors are averaged": averaged_errors,
        "which is the variance": total_variance,
        "standard deviations and variances are added": deviation_for_variance,
        "without what each table is unsure of": between_alone,
        "S = ": summed,
    },
    "12-6": {
        "π is left out": unweighted,
        "normalised over the data cases": over_the_cases,
        "log |C_j| is left out": no_determinant,
        "W is left out of the covariance": noise_alone,
        "½ is forgotten before": whole_determinant,
        "the covariance has its square": psi_squared,
        "the shares 0/0": zero_over_zero,
        "the logarithms of the shares": in_log_space,
        "given to one component": hard,
        "it has shape": by_component,
    },
}

RIGHT = {
    "12-1": [kl_by_einsum, kl_by_loops, kl_by_eigenvalues, kl_by_the_entropy, kl_by_determinants],
    "12-2": [planar_by_cosh, planar_by_jacobians, planar_by_sigmoids, planar_by_loops, planar_by_einsum],
    "12-3": [bound_by_scipy, bound_by_loops, bound_by_pairs, bound_by_one_shift, bound_by_split],
    "12-4": [shares_by_scipy, shares_by_loops, shares_in_log_space, shares_by_ratios, shares_by_einsum],
    "12-5": [rubin_by_std, rubin_by_loops, rubin_by_covariance, rubin_by_einsum, rubin_by_squares],
    "12-6": [shares_from_scipy, shares_by_cholesky, shares_by_woodbury, shares_by_batches,
             shares_by_ratios_of_densities],
}
