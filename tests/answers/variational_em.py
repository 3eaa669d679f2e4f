"""Answers to the exercises of notebook 05."""

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.stats import multivariate_normal, norm


def posterior(x, W, b, psi):
    cov = np.linalg.inv(np.eye(len(W)) + W @ np.diag(1 / psi) @ W.T)
    return (x - b) @ np.diag(1 / psi) @ W.T @ cov, cov


# ---- 05-1 ------------------------------------------------------------------------------------


def q_by_hand(x, W, b, psi, m, s):
    f = m @ W + b
    recon = 0.5 * (np.log(2 * np.pi * psi) + (x - f) ** 2 / psi + s**2 @ W**2 / psi).sum(axis=1)
    return recon + 0.5 * (m**2 + s**2 - 2 * np.log(s) - 1).sum(axis=1)


def q_at_the_mean(x, W, b, psi, m, s):
    log_p = norm.logpdf(x, m @ W + b, np.sqrt(psi)).sum(axis=1)
    return -log_p + 0.5 * (m**2 + s**2 - 2 * np.log(s) - 1).sum(axis=1)


def q_without_kl(x, W, b, psi, m, s):
    return q_by_hand(x, W, b, psi, m, s) - 0.5 * (m**2 + s**2 - 2 * np.log(s) - 1).sum(axis=1)


def q_with_mean(x, W, b, psi, m, s):
    f = m @ W + b
    recon = 0.5 * (np.log(2 * np.pi * psi) + (x - f) ** 2 / psi + s**2 @ W**2 / psi).mean(axis=1)
    return recon + 0.5 * (m**2 + s**2 - 2 * np.log(s) - 1).sum(axis=1)


def q_of_variances(x, W, b, psi, m, s):
    f = m @ W + b
    recon = 0.5 * (np.log(2 * np.pi * psi) + (x - f) ** 2 / psi + s @ W**2 / psi).sum(axis=1)
    return recon + 0.5 * (m**2 + s - np.log(s) - 1).sum(axis=1)


def q_with_plus(x, W, b, psi, m, s):
    f = m @ W + b
    recon = 0.5 * (np.log(2 * np.pi * psi) + (x - f) ** 2 / psi + s**2 @ W**2 / psi).sum(axis=1)
    return recon + 0.5 * (m**2 + s**2 + 2 * np.log(s) - 1).sum(axis=1)


def q_without_constant(x, W, b, psi, m, s):
    return q_by_hand(x, W, b, psi, m, s) - 0.5 * x.shape[1] * np.log(2 * np.pi)


def q_by_loops(x, W, b, psi, m, s):
    Q = np.zeros(len(x))
    for n in range(len(x)):
        for d in range(x.shape[1]):
            r = x[n, d] - b[d] - sum(m[n, k] * W[k, d] for k in range(len(W)))
            spread = sum(s[n, k] ** 2 * W[k, d] ** 2 for k in range(len(W)))
            Q[n] += 0.5 * (np.log(2 * np.pi) + np.log(psi[d]) + (r**2 + spread) / psi[d])
        for k in range(len(W)):
            Q[n] += 0.5 * (m[n, k] ** 2 + s[n, k] ** 2 - 1) - np.log(s[n, k])
    return Q


def q_by_trace(x, W, b, psi, m, s):
    P = np.diag(1 / psi)
    r, A = x - b - m @ W, W @ P @ W.T
    C = [np.diag(row**2) for row in s]
    traces = np.array([np.trace(c @ A) for c in C])
    logs = len(psi) * np.log(2 * np.pi) + np.log(np.prod(psi))
    kl = 0.5 * (traces * 0 + np.sum(m**2, 1) + np.sum(s**2, 1) - s.shape[1]) - np.log(s).sum(1)
    return kl + 0.5 * (logs + np.einsum("nd,de,ne->n", r, P, r) + traces)


def q_by_nodes(x, W, b, psi, m, s):
    nodes, weights = np.polynomial.hermite_e.hermegauss(2)
    weights = weights / weights.sum()
    total, K = 0.0, len(W)
    for place in np.ndindex(*[2] * K):
        eta, w = nodes[list(place)], np.prod(weights[list(place)])
        z = m + s * eta
        log_q = norm.logpdf(z, m, s).sum(axis=1)
        log_p = norm.logpdf(z).sum(axis=1) + norm.logpdf(x, z @ W + b, np.sqrt(psi)).sum(axis=1)
        total = total + w * (log_q - log_p)
    return total


def q_by_nlml_and_kl(x, W, b, psi, m, s):
    nlml = -multivariate_normal(b, W.T @ W + np.diag(psi)).logpdf(x)
    mean, cov = posterior(x, W, b, psi)
    return nlml + kl_by_columns(m, s, mean, np.linalg.inv(cov))


def q_by_entropy(x, W, b, psi, m, s):
    squares = ((x - b - m @ W) ** 2 + np.einsum("nk,kd->nd", s**2, W**2)) / psi
    energy = 0.5 * squares.sum(1) + 0.5 * np.log(2 * np.pi * psi).sum()
    energy = energy + 0.5 * (m**2 + s**2 + np.log(2 * np.pi)).sum(1)
    return energy - (0.5 * np.log(2 * np.pi * np.e) + np.log(s)).sum(1)


# ---- 05-2 ------------------------------------------------------------------------------------


def e_step(x, W, b, psi):
    m, cov = posterior(x, W, b, psi)
    return {"m": m, "s": np.tile(1 / np.sqrt(np.diag(np.linalg.inv(cov))), (len(x), 1))}


def e_step_variance(x, W, b, psi):
    m, cov = posterior(x, W, b, psi)
    return {"m": m, "s": np.tile(1 / np.diag(np.linalg.inv(cov)), (len(x), 1))}


def e_step_marginal(x, W, b, psi):
    m, cov = posterior(x, W, b, psi)
    return {"m": m, "s": np.tile(np.sqrt(np.diag(cov)), (len(x), 1))}


def e_step_precision(x, W, b, psi):
    m, cov = posterior(x, W, b, psi)
    return {"m": m, "s": np.tile(np.sqrt(np.diag(np.linalg.inv(cov))), (len(x), 1))}


def e_step_flat(x, W, b, psi):
    P = W @ np.diag(1 / psi) @ W.T
    return {"m": (x - b) / psi @ W.T @ np.linalg.inv(P), "s": np.tile(np.diag(P) ** -0.5, (len(x), 1))}


def e_step_own(x, W, b, psi):
    own = 1 + (W**2 / psi).sum(axis=1)
    return {"m": (x - b) / psi @ W.T / own, "s": np.tile(own**-0.5, (len(x), 1))}


def e_step_no_b(x, W, b, psi):
    return e_step(x, W, np.zeros_like(b), psi)


def e_step_log(x, W, b, psi):
    found = e_step(x, W, b, psi)
    return {"m": found["m"], "s": np.log(found["s"])}


def e_step_swept(x, W, b, psi):
    m = np.zeros((len(x), len(W)))
    A, pull = W / psi @ W.T, (x - b) / psi @ W.T
    for _ in range(5000):
        for k in range(len(W)):
            rest = pull[:, k] - m @ A[:, k] + m[:, k] * A[k, k]
            m[:, k] = rest / (1 + A[k, k])
    return {"m": m, "s": np.ones_like(m) / np.sqrt(1 + np.diag(A))}


def e_step_covariance(x, W, b, psi):
    C = W.T @ W + np.diag(psi)
    width = [1 / np.sqrt(1 + sum(w**2 / p for w, p in zip(row, psi))) for row in W]
    return {"s": np.array([width] * len(x)), "m": np.linalg.solve(C, (x - b).T).T @ W.T}


def e_step_rows(x, W, b, psi):
    M = np.eye(len(W)) + np.einsum("kd,jd,d->kj", W, W, 1 / psi)
    m = np.stack([np.linalg.solve(M, W @ (row / psi)) for row in x - b])
    return {"m": m, "s": np.outer(np.ones(len(x)), np.exp(-0.5 * np.log(np.diagonal(M))))}


def e_step_least_squares(x, W, b, psi):
    root = np.sqrt(psi)
    A = np.vstack([(W / root).T, np.eye(len(W))])
    y = np.vstack([((x - b) / root).T, np.zeros((len(W), len(x)))])
    s = np.full((len(x), len(W)), (A**2).sum(0) ** -0.5)
    return {"m": np.linalg.lstsq(A, y, rcond=None)[0].T, "s": s}


def e_step_cholesky(x, W, b, psi):
    M = np.eye(len(W)) + W / psi @ W.T
    m = cho_solve(cho_factor(M), W / psi @ (x - b).T).T
    return {"m": m, "s": np.zeros_like(m) + np.sqrt(1 / np.diag(M))}


# ---- 05-3 ------------------------------------------------------------------------------------


def coordinate(x, W, b, psi, m, k):
    new = np.array(m)
    r = x - b - m @ W + np.outer(m[:, k], W[k])
    new[:, k] = r @ (W[k] / psi) / (1 + np.sum(W[k] ** 2 / psi))
    return new


def coordinate_alone(x, W, b, psi, m, k):
    new = np.array(m)
    new[:, k] = (x - b) @ (W[k] / psi) / (1 + np.sum(W[k] ** 2 / psi))
    return new


def coordinate_added(x, W, b, psi, m, k):
    new = np.array(m)
    others = np.delete(np.arange(len(W)), k)
    r = x - b + m[:, others] @ W[others]
    new[:, k] = r @ (W[k] / psi) / (1 + np.sum(W[k] ** 2 / psi))
    return new


def coordinate_own(x, W, b, psi, m, k):
    new = np.array(m)
    M = np.eye(len(W)) + W / psi @ W.T
    new[:, k] = ((x - b) / psi @ W[k] - m @ M[k]) / M[k, k]
    return new


def coordinate_flat(x, W, b, psi, m, k):
    new = np.array(m)
    r = x - b - m @ W + np.outer(m[:, k], W[k])
    new[:, k] = r @ (W[k] / psi) / np.sum(W[k] ** 2 / psi)
    return new


def coordinate_joint(x, W, b, psi, m, k):
    new = np.array(m)
    new[:, k] = posterior(x, W, b, psi)[0][:, k]
    return new


def coordinate_in_place(x, W, b, psi, m, k):
    m[:, k] = coordinate(x, W, b, psi, m, k)[:, k]
    return m


def coordinate_column(x, W, b, psi, m, k):
    return coordinate(x, W, b, psi, m, k)[:, k]


def coordinate_step(x, W, b, psi, m, k):
    r, e = x - b - m @ W, np.eye(len(W))[k]
    slope = r / psi @ W[k] - m[:, k]
    return m + np.outer(slope / (1 + W[k] / psi @ W[k]), e)


def coordinate_sum(x, W, b, psi, m, k):
    M = np.eye(len(W)) + np.einsum("kd,jd->kj", W / psi, W)
    column = (x - b) @ (W[k] / psi)
    for j in range(len(W)):
        if j != k:
            column = column - m[:, j] * M[j, k]
    return np.stack([column / M[k, k] if j == k else m[:, j] for j in range(len(W))], axis=1)


def coordinate_regression(x, W, b, psi, m, k):
    new, root = m.copy(), np.sqrt(psi)
    design = np.append(W[k] / root, 1.0)[:, None]
    for n in range(len(x)):
        rest = x[n] - b - sum(m[n, j] * W[j] for j in range(len(W)) if j != k)
        new[n, k] = np.linalg.lstsq(design, np.append(rest / root, 0.0), rcond=None)[0][0]
    return new


def coordinate_conditional(x, W, b, psi, m, k):
    mean, cov = posterior(x, W, b, psi)
    others = [j for j in range(len(W)) if j != k]
    gain = np.linalg.solve(cov[np.ix_(others, others)], cov[others, k])
    new = m.copy()
    new[:, k] = mean[:, k] + (m - mean)[:, others] @ gain
    return new


def coordinate_where(x, W, b, psi, m, k):
    A = W / psi @ W.T
    best = ((x - b) / psi @ W.T - m @ (A - np.diag(np.diag(A)))) / (1 + np.diag(A))
    return np.where(np.arange(len(W)) == k, best, m)


# ---- 05-4 ------------------------------------------------------------------------------------


def regress(x, m, s):
    N = len(x)
    Z = np.hstack([m, np.ones((N, 1))])
    A = Z.T @ Z
    A[:-1, :-1] += np.diag((s**2).sum(axis=0))
    G = np.linalg.solve(A, Z.T @ x)
    psi = (x**2).mean(axis=0) - np.sum(G * (Z.T @ x), axis=0) / N
    return {"W": G[:-1], "b": G[-1], "psi": psi}


def regress_means(x, m, s):
    Z = np.hstack([m, np.ones((len(x), 1))])
    G = np.linalg.lstsq(Z, x, rcond=None)[0]
    return {"W": G[:-1], "b": G[-1], "psi": ((x - Z @ G) ** 2).mean(axis=0)}


def regress_lost_psi(x, m, s):
    found = regress(x, m, s)
    return found | {"psi": ((x - m @ found["W"] - found["b"]) ** 2).mean(axis=0)}


def regress_late_spread(x, m, s):
    found = regress_means(x, m, s)
    return found | {"psi": found["psi"] + (s**2).mean(axis=0) @ found["W"] ** 2}


def regress_s(x, m, s):
    return regress(x, m, np.sqrt(s))


def regress_centred(x, m, s):
    b = x.mean(axis=0)
    W = np.linalg.inv(m.T @ m + np.diag((s**2).sum(axis=0))) @ m.T @ (x - b)
    psi = ((x - b - m @ W) ** 2 + s**2 @ W**2).mean(axis=0)
    return {"W": W, "b": b, "psi": psi}


def regress_root(x, m, s):
    found = regress(x, m, s)
    return found | {"psi": found["psi"] ** 0.5}


def regress_unbiased(x, m, s):
    found = regress(x, m, s)
    return found | {"psi": found["psi"] * len(x) / (len(x) - 1)}


def regress_sum(x, m, s):
    found = regress(x, m, s)
    return found | {"psi": found["psi"] * len(x)}


def regress_columns(x, m, s):
    N, K = m.shape
    Z = np.column_stack([m, np.ones(N)])
    C = np.zeros((K + 1, K + 1))
    for row, width in zip(Z, s):
        C += np.outer(row, row) + np.diag(np.append(width**2, 0.0))
    columns = [np.linalg.solve(C, Z.T @ x[:, d]) for d in range(x.shape[1])]
    G = np.array(columns).T
    psi = [np.mean((x[:, d] - Z @ g) ** 2) + g @ np.diag(np.append((s**2).mean(0), 0.0)) @ g
           for d, g in enumerate(columns)]
    return {"W": G[:K], "b": G[K], "psi": np.array(psi)}


def regress_by_covariance(x, m, s):
    C = np.cov(m.T, bias=True).reshape(m.shape[1], m.shape[1]) + np.diag(np.mean(s**2, axis=0))
    S = (m - m.mean(0)).T @ (x - x.mean(0)) / len(x)
    W = np.linalg.inv(C) @ S
    return {"b": x.mean(0) - m.mean(0) @ W, "W": W, "psi": x.var(axis=0) - np.einsum("kd,kd->d", W, S)}


def regress_with_pseudo_data(x, m, s):
    """Two cases at m ± s·√K e_k for every k: their second moments are those of q."""
    N, K = m.shape
    z = np.concatenate([m + sign * np.sqrt(K) * s * e for e in np.eye(K) for sign in (1, -1)])
    Z, X = np.column_stack([z, np.ones(len(z))]), np.tile(x, (2 * K, 1))
    G, *_ = np.linalg.lstsq(Z, X, rcond=None)
    return {"W": G[:K], "b": G[K], "psi": ((X - Z @ G) ** 2).mean(axis=0)}


def regress_ridge(x, m, s):
    root = np.diag(np.sqrt((s**2).sum(axis=0)))
    Z = np.block([[m, np.ones((len(x), 1))], [root, np.zeros((len(root), 1))]])
    X = np.concatenate([x, np.zeros((len(root), x.shape[1]))])
    G = np.linalg.pinv(Z) @ X
    return {"W": G[:-1], "b": G[-1], "psi": ((X - Z @ G) ** 2).sum(axis=0) / len(x)}


def regress_einsum(x, m, s):
    a, c = m.mean(0), x.mean(0)
    zz = np.einsum("nk,nj->kj", m - a, m - a) + np.diag(np.einsum("nk,nk->k", s, s))
    W = np.linalg.solve(zz, np.einsum("nk,nd->kd", m - a, x - c))
    left = np.einsum("nd->d", (x - c - (m - a) @ W) ** 2) + np.einsum("nk,kd->d", s**2, W**2)
    return {"W": W, "b": c - a @ W, "psi": left / len(x)}


# ---- 05-5 ------------------------------------------------------------------------------------


def kl_by_columns(m, s, mean, M):
    d = m - mean
    square = np.sum(d @ M * d, axis=1)
    return 0.5 * (s**2 @ np.diag(M) + square - m.shape[1] - np.linalg.slogdet(M)[1]) - np.log(s).sum(axis=1)


def kl_turned_round(m, s, mean, M):
    V, d = np.linalg.inv(M), m - mean
    logs = np.log(s**2).sum(axis=1) - np.log(np.linalg.det(V))
    return 0.5 * (np.sum((np.diag(V) + d**2) / s**2 - 1, axis=1) + logs)


def kl_of_wrong_matrix(m, s, mean, M):
    return kl_by_columns(m, s, mean, np.linalg.inv(M))


def kl_square_diagonal(m, s, mean, M):
    square = (m - mean) ** 2 @ np.diag(M)
    return 0.5 * (s**2 @ np.diag(M) + square - m.shape[1] - np.linalg.slogdet(M)[1]) - np.log(s).sum(axis=1)


def kl_diagonal(m, s, mean, M):
    p = np.diag(M)
    return 0.5 * np.sum(p * s**2 + p * (m - mean) ** 2 - 1 - np.log(p * s**2), axis=1)


def kl_variance(m, s, mean, M):
    return kl_by_columns(m, s**0.5, mean, M)


def kl_without_k(m, s, mean, M):
    return kl_by_columns(m, s, mean, M) + m.shape[1] / 2


def kl_twice(m, s, mean, M):
    return 2 * kl_by_columns(m, s, mean, M)


def kl_by_loop(m, s, mean, M):
    found = []
    for mu, width, target in zip(m, s, mean):
        C, d = np.diag(width**2), mu - target
        found.append(0.5 * (np.trace(M @ C) + d @ M @ d - len(mu) - np.log(np.linalg.det(M @ C))))
    return np.array(found)


def kl_by_solve(m, s, mean, M):
    V, out = np.linalg.inv(M), np.empty(len(m))
    for n in range(len(m)):
        d = mean[n] - m[n]
        out[n] = 0.5 * (np.trace(np.linalg.solve(V, np.diag(s[n] ** 2))) + d @ np.linalg.solve(V, d)
                        - len(d) + np.log(np.linalg.det(V)) - np.sum(np.log(s[n] ** 2)))
    return out


def kl_by_cross_entropy(m, s, mean, M):
    entropy = np.sum(0.5 * np.log(2 * np.pi * np.e * s**2), axis=1)
    cross = [0.5 * np.trace(M @ np.diag(width**2)) - multivariate_normal(target, np.linalg.inv(M)).logpdf(mu)
             for mu, width, target in zip(m, s, mean)]
    return np.array(cross) - entropy


def kl_by_eigenvectors(m, s, mean, M):
    values, vectors = np.linalg.eigh(M)
    d = (m - mean) @ vectors
    spread = s**2 @ (vectors**2)
    return 0.5 * np.sum((spread + d**2) * values - 1 - np.log(values), axis=1) - np.log(s).sum(axis=1)


def kl_by_cholesky(m, s, mean, M):
    L = np.linalg.cholesky(M)
    white = (m - mean) @ L
    spread = np.sum((s[:, :, None] * L) ** 2, axis=(1, 2))
    return 0.5 * ((white**2).sum(1) + spread - len(M)) - np.log(np.diag(L)).sum() - np.log(s).sum(1)


# ---- 05-6 ------------------------------------------------------------------------------------


def gap_plain(W, psi, R):
    V = R @ W
    M = np.eye(len(V)) + V @ np.diag(1 / psi) @ V.T
    return 0.5 * (np.log(np.diag(M)).sum() - np.linalg.slogdet(M)[1])


def gap_not_turned(W, psi, R):
    return gap_plain(W, psi, np.eye(len(W)))


def gap_transposed(W, psi, R):
    return gap_plain(W, psi, R.T)


def gap_no_prior(W, psi, R):
    V = R @ W
    M = V / psi @ V.T
    return 0.5 * (np.log(np.diag(M)).sum() - np.linalg.slogdet(M)[1])


def gap_marginal(W, psi, R):
    V = R @ W
    cov = np.linalg.inv(np.eye(len(V)) + V / psi @ V.T)
    return 0.5 * (np.log(np.diag(cov)).sum() - np.log(np.linalg.det(cov)))


def gap_no_psi(W, psi, R):
    return gap_plain(W, np.ones(len(psi)), R)


def gap_doubled(W, psi, R):
    return 2 * gap_plain(W, psi, R)


def gap_negative(W, psi, R):
    return -gap_plain(W, psi, R)


def gap_of_all_cases(W, psi, R):
    return np.full(6, gap_plain(W, psi, R))


def gap_by_kl(W, psi, R):
    K = len(W)
    M = np.eye(K) + R @ (W / psi @ W.T) @ R.T
    return float(kl_by_columns(np.zeros((1, K)), 1 / np.sqrt(np.diag(M))[None], np.zeros((1, K)), M)[0])


def gap_by_q(W, psi, R):
    V, x = R @ W, np.ones((1, W.shape[1]))
    found = e_step(x, V, np.zeros(W.shape[1]), psi)
    nlml = -multivariate_normal(np.zeros(W.shape[1]), V.T @ V + np.diag(psi)).logpdf(x)
    return q_by_hand(x, V, np.zeros(W.shape[1]), psi, **found)[0] - nlml


def gap_by_chain(W, psi, R):
    """The variances of z_1, z_2 given z_1, … against the variances given all others."""
    M = np.eye(len(W)) + (R @ W) / psi @ (R @ W).T
    L = np.linalg.cholesky(np.linalg.inv(M))
    return np.sum(np.log(np.diag(L))) + 0.5 * np.sum(np.log(np.diagonal(M)))


def gap_by_loop(W, psi, R):
    V, K = R @ W, len(W)
    M = np.array([[sum(V[i] * V[j] / psi) + (i == j) for j in range(K)] for i in range(K)])
    return 0.5 * np.log(np.prod([M[k, k] for k in range(K)]) / np.linalg.det(M))


def gap_by_eigenvalues(W, psi, R):
    values, vectors = np.linalg.eigh(W / psi @ W.T)
    diagonal = ((R @ vectors) ** 2) @ (1 + values)
    return 0.5 * (np.log(diagonal) - np.log1p(values)).sum()


WRONG = {
    "05-1": {
        "spread of z around it": q_at_the_mean,
        "but for the KL to the prior": q_without_kl,
        "mean over the D variables": q_with_mean,
        "took it for a variance": q_of_variances,
        "sign of log s in the KL": q_with_plus,
        "½ D log 2π": q_without_constant,
        "look at whether it is log p or −log p, Q or the ELBO": lambda *given: -q_by_hand(*given),
        "axis 0 of length N = 6 is gone": lambda *given: q_by_hand(*given).mean(),
    },
    "05-2": {
        "your s is s²": e_step_variance,
        "narrower 1/√M_kk": e_step_marginal,
        "wide where s is narrow": e_step_precision,
        "lacks the 1 of the prior": e_step_flat,
        "divided by its own M_kk": e_step_own,
        "not taken off x": e_step_no_b,
        "handed back log s": e_step_log,
        "it is transposed": lambda *given: {name: leaf.T for name, leaf in e_step(*given).items()},
        "one number along axis 0": lambda *given: e_step(*given) | {"s": e_step(*given)["s"][:1]},
    },
    "05-3": {
        "others are left out": coordinate_alone,
        "has to be taken off": coordinate_added,
        "m_k's own old value": coordinate_own,
        "divisor lacks the 1": coordinate_flat,
        "posterior mean, with all columns": coordinate_joint,
        "changes its argument m in place": coordinate_in_place,
        "axis 1 of length K = 2 is gone": coordinate_column,
    },
    "05-4": {
        "as if z were known": regress_means,
        "what the mean code leaves": regress_lost_psi,
        "and W does not": regress_late_spread,
        "s stands where s² belongs": regress_s,
        "regression with a constant": regress_centred,
        "your psi is its root": regress_root,
        "divided by N − 1": regress_unbiased,
        "summed over the data cases": regress_sum,
    },
    "05-5": {
        "the other way round": kl_turned_round,
        "took it for its covariance": kl_of_wrong_matrix,
        "but for the square of the means": kl_square_diagonal,
        "used nowhere": kl_diagonal,
        "took it for a variance": kl_variance,
        "but for the constant": kl_without_k,
        "2 times what is asked": kl_twice,
    },
    "05-6": {
        "before the turn": gap_not_turned,
        "turned the other way": gap_transposed,
        "lacks the 1 of the prior": gap_no_prior,
        "differ beyond": gap_marginal,
        "ψ is left out": gap_no_psi,
        "2 times what is asked": gap_doubled,
        "its sign turned": gap_negative,
        "is still there": gap_of_all_cases,
    },
}
RIGHT = {
    "05-1": [q_by_hand, q_by_loops, q_by_trace, q_by_nodes, q_by_nlml_and_kl, q_by_entropy],
    "05-2": [e_step, e_step_swept, e_step_covariance, e_step_rows, e_step_least_squares, e_step_cholesky],
    "05-3": [coordinate, coordinate_step, coordinate_sum, coordinate_regression, coordinate_conditional,
             coordinate_where],
    "05-4": [regress, regress_columns, regress_by_covariance, regress_with_pseudo_data, regress_ridge,
             regress_einsum],
    "05-5": [kl_by_columns, kl_by_loop, kl_by_solve, kl_by_cross_entropy, kl_by_eigenvectors, kl_by_cholesky],
    "05-6": [gap_plain, gap_by_kl, gap_by_q, gap_by_chain, gap_by_loop, gap_by_eigenvalues],
}
