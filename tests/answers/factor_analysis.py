"""Answers to the exercises of notebook 02."""

import numpy as np
from scipy import linalg
from scipy.stats import multivariate_normal


# ---- 02-1 -------------------------------------------------------------------------------------


def flat_prior(x, W, b, psi):
    precision = W @ np.diag(1 / psi) @ W.T
    cov = np.linalg.inv(precision)
    return {"mean": (x - b) @ np.diag(1 / psi) @ W.T @ cov, "cov": cov}


def not_inverted(x, W, b, psi):
    M = np.eye(len(W)) + W @ np.diag(1 / psi) @ W.T
    return {"mean": (x - b) / psi @ W.T @ np.linalg.inv(M), "cov": M}


def not_centred(x, W, b, psi):
    cov = np.linalg.inv(np.eye(len(W)) + W @ np.diag(1 / psi) @ W.T)
    return {"mean": x / psi @ W.T @ cov, "cov": cov}


def not_divided(x, W, b, psi):
    cov = np.linalg.inv(np.eye(len(W)) + W @ np.diag(1 / psi) @ W.T)
    return {"mean": (x - b) / psi @ W.T, "cov": cov}


def psi_as_deviations(x, W, b, psi):
    cov = np.linalg.inv(np.eye(len(W)) + W @ np.diag(psi**-2) @ W.T)
    return {"mean": (x - b) / psi**2 @ W.T @ cov, "cov": cov}


def psi_forgotten(x, W, b, psi):
    cov = np.linalg.inv(np.eye(len(W)) + W @ W.T)
    return {"mean": (x - b) @ W.T @ cov, "cov": cov}


def one_plus(x, W, b, psi):
    cov = np.linalg.inv(1 + W / psi @ W.T)
    return {"mean": (x - b) / psi @ W.T @ cov, "cov": cov}


def unweighed_mean(x, W, b, psi):
    cov = np.linalg.inv(np.eye(len(W)) + W / psi @ W.T)
    return {"mean": (x - b) @ W.T @ cov, "cov": cov}


def times_M(x, W, b, psi):
    M = np.eye(len(W)) + W / psi @ W.T
    return {"mean": (x - b) / psi @ W.T @ M, "cov": np.linalg.inv(M)}


def psi_forgotten_in_M(x, W, b, psi):
    cov = np.linalg.inv(np.eye(len(W)) + W @ W.T)
    return {"mean": (x - b) / psi @ W.T @ cov, "cov": cov}


def times_psi(x, W, b, psi):
    cov = np.linalg.inv(np.eye(len(W)) + W * psi @ W.T)
    return {"mean": (x - b) * psi @ W.T @ cov, "cov": cov}


def roots_of_psi_inside(x, W, b, psi):
    sd = np.sqrt(psi)
    cov = np.linalg.inv(np.eye(len(W)) + W / sd @ W.T)
    return {"mean": (x - b) / sd @ W.T @ cov, "cov": cov}


def mean_field(x, W, b, psi):
    found = by_einsum(x, W, b, psi)
    return {"mean": found["mean"], "cov": found["cov"] * np.eye(len(W))}


def a_tuple(x, W, b, psi):
    return tuple(by_the_joint(x, W, b, psi).values())


def by_the_joint(x, W, b, psi):
    C = W.T @ W + np.diag(psi)
    return {"mean": (x - b) @ np.linalg.solve(C, W.T), "cov": np.eye(len(W)) - W @ np.linalg.solve(C, W.T)}


def by_einsum(x, W, b, psi):
    cov = np.linalg.inv(np.eye(len(W)) + np.einsum("kd,jd->kj", W / psi, W))
    return {"cov": cov, "mean": np.einsum("nd,kd,kj->nj", x - b, W / psi, cov)}


def column_by_column(x, W, b, psi):
    K, (N, D) = len(W), x.shape
    mean, cov = np.zeros((N, K)), np.eye(K)
    for d in range(D):                                             # one observed number after another
        gain = cov @ W[:, d] / (W[:, d] @ cov @ W[:, d] + psi[d])
        mean = mean + np.outer(x[:, d] - b[d] - mean @ W[:, d], gain)
        cov = cov - np.outer(gain, W[:, d]) @ cov
    return {"mean": mean, "cov": cov}


def by_least_squares(x, W, b, psi):
    K = len(W)
    A = np.vstack([(W / np.sqrt(psi)).T, np.eye(K)])
    y = np.vstack([((x - b) / np.sqrt(psi)).T, np.zeros((K, len(x)))])
    return {"mean": np.linalg.lstsq(A, y, rcond=None)[0].T, "cov": np.linalg.inv(A.T @ A)}


def by_cholesky(x, W, b, psi):
    factor = linalg.cho_factor(np.eye(len(W)) + (W / psi) @ W.T)
    mean = linalg.cho_solve(factor, W @ ((x - b) / psi).T).T
    return {"mean": mean, "cov": linalg.cho_solve(factor, np.eye(len(W)))}


# ---- 02-2 -------------------------------------------------------------------------------------


def _parts(x, W, b, psi):
    r = x - b
    M = np.eye(len(W)) + (W / psi) @ W.T
    m = r / psi @ W.T @ np.linalg.inv(M)
    e = r - m @ W
    squares, prior = (e**2 / psi).sum(1), (m**2).sum(1)
    return x.shape[1] * np.log(2 * np.pi), np.log(psi).sum(), np.linalg.slogdet(M)[1], squares, prior


def likelihood_at_m(x, W, b, psi):
    constant, log_psi, log_M, squares, prior = _parts(x, W, b, psi)
    return 0.5 * (constant + log_psi + squares)


def joint_at_m(x, W, b, psi):
    constant, log_psi, log_M, squares, prior = _parts(x, W, b, psi)
    return 0.5 * (constant + len(W) * np.log(2 * np.pi) + log_psi + squares + prior)


def no_log_M(x, W, b, psi):
    constant, log_psi, log_M, squares, prior = _parts(x, W, b, psi)
    return 0.5 * (constant + log_psi + squares + prior)


def no_log_psi(x, W, b, psi):
    constant, log_psi, log_M, squares, prior = _parts(x, W, b, psi)
    return 0.5 * (constant + log_M + squares + prior)


def no_constant(x, W, b, psi):
    constant, log_psi, log_M, squares, prior = _parts(x, W, b, psi)
    return 0.5 * (log_psi + log_M + squares + prior)


def no_half(x, W, b, psi):
    return 2 * by_m(x, W, b, psi)


def the_elbo(x, W, b, psi):
    return multivariate_normal(b, W.T @ W + np.diag(psi)).logpdf(x)


def whole_determinant(x, W, b, psi):
    C = W.T @ W + np.diag(psi)
    r = x - b
    constant = 0.5 * len(b) * np.log(2 * np.pi) + np.log(np.linalg.det(C))
    return constant + 0.5 * np.sum(r @ np.linalg.inv(C) * r, axis=1)


def no_covariances(x, W, b, psi):
    C = np.diag(np.diag(W.T @ W + np.diag(psi)))
    return -multivariate_normal(b, C).logpdf(x)


def log_det_minus(x, W, b, psi):
    constant, log_psi, log_M, squares, prior = _parts(x, W, b, psi)
    return 0.5 * (constant - log_psi - log_M + squares + prior)


def log_det_of_the_covariance(x, W, b, psi):
    constant, log_psi, log_M, squares, prior = _parts(x, W, b, psi)
    return 0.5 * (constant + log_psi - log_M + squares + prior)


def whole_square(x, W, b, psi):
    constant, log_psi, log_M, squares, prior = _parts(x, W, b, psi)
    return 0.5 * (constant + log_psi + log_M) + squares + prior


def not_inverted_in_the_square(x, W, b, psi):
    constant, log_psi, log_M, squares, prior = _parts(x, W, b, psi)
    return 0.5 * (constant + log_psi + log_M + np.einsum("nd,de,ne->n", x - b, W.T @ W + np.diag(psi), x - b))


def determinant_itself(x, W, b, psi):
    C, r = W.T @ W + np.diag(psi), x - b
    constant = len(b) * np.log(2 * np.pi) + np.linalg.det(C)
    return 0.5 * (constant + np.einsum("nd,de,ne->n", r, np.linalg.inv(C), r))


def determinant_of_M(x, W, b, psi):
    constant, log_psi, log_M, squares, prior = _parts(x, W, b, psi)
    return 0.5 * (constant + log_psi + np.linalg.det(np.eye(len(W)) + W / psi @ W.T) + squares + prior)


def identity_for_psi(x, W, b, psi):
    return -multivariate_normal(b, W.T @ W + np.eye(len(b))).logpdf(x)


def no_W(x, W, b, psi):
    return -multivariate_normal(b, np.diag(psi)).logpdf(x)


def psi_as_standard_deviations(x, W, b, psi):
    return -multivariate_normal(b, W.T @ W + np.diag(psi) ** 2).logpdf(x)


def roots_of_psi(x, W, b, psi):
    return -multivariate_normal(b, W.T @ W + np.diag(psi**0.5)).logpdf(x)


def b_left_out(x, W, b, psi):
    return -multivariate_normal(np.zeros(len(b)), W.T @ W + np.diag(psi)).logpdf(x)


def no_prior_square(x, W, b, psi):
    constant, log_psi, log_M, squares, prior = _parts(x, W, b, psi)
    return 0.5 * (constant + log_psi + log_M + squares)


def residuals_of_b(x, W, b, psi):
    constant, log_psi, log_M, *_ = _parts(x, W, b, psi)
    return 0.5 * (constant + log_psi + log_M + ((x - b) ** 2 / psi).sum(1))


def one_number(x, W, b, psi):
    return by_m(x, W, b, psi).mean()


def by_m(x, W, b, psi):
    return 0.5 * sum(_parts(x, W, b, psi))


def by_scipy(x, W, b, psi):
    return -multivariate_normal(b, W.T @ W + np.diag(psi)).logpdf(x)


def by_the_cholesky_factor(x, W, b, psi):
    L = np.linalg.cholesky(W.T @ W + np.diag(psi))
    u = linalg.solve_triangular(L, (x - b).T, lower=True)
    return 0.5 * len(b) * np.log(2 * np.pi) + np.log(np.diag(L)).sum() + 0.5 * (u**2).sum(0)


def by_columns_given_those_before(x, W, b, psi):
    C, total = W.T @ W + np.diag(psi), np.zeros(len(x))
    for d in range(len(b)):
        weights = np.linalg.solve(C[:d, :d], C[:d, d])
        mean, variance = b[d] + (x[:, :d] - b[:d]) @ weights, C[d, d] - C[d, :d] @ weights
        total += 0.5 * (np.log(2 * np.pi * variance) + (x[:, d] - mean) ** 2 / variance)
    return total


def by_bayes_at_zero(x, W, b, psi):
    found = by_einsum(x, W, b, psi)
    constant = (len(b) + len(W)) * np.log(2 * np.pi) + np.log(psi).sum()
    log_joint = -0.5 * (constant + ((x - b) ** 2 / psi).sum(1))
    return multivariate_normal(np.zeros(len(W)), found["cov"]).logpdf(found["mean"]).reshape(-1) - log_joint


def case_by_case(x, W, b, psi):
    C = W.T @ W + np.diag(psi)
    log_det = np.linalg.slogdet(2 * np.pi * C)[1]
    return np.array([0.5 * ((row - b) @ np.linalg.inv(C) @ (row - b) + log_det) for row in x])


# ---- 02-3 -------------------------------------------------------------------------------------


def _beta(W, psi):
    cov = np.linalg.inv(np.eye(len(W)) + (W / psi) @ W.T)
    return cov, cov @ (W / psi)


def only_means(S, W, psi):
    cov, beta = _beta(W, psi)
    return {"xz": S @ beta.T, "zz": beta @ S @ beta.T}


def without_the_prior(S, W, psi):
    cov = np.linalg.inv((W / psi) @ W.T)
    beta = cov @ W @ np.diag(1 / psi)
    return {"xz": S @ beta.T, "zz": beta @ S @ beta.T + cov}


def covariance_alone(S, W, psi):
    cov, beta = _beta(W, psi)
    return {"xz": S @ beta.T, "zz": cov}


def means_taken_off(S, W, psi):
    cov, beta = _beta(W, psi)
    return {"xz": S @ beta.T, "zz": cov - beta @ S @ beta.T}


def loadings_for_xz(S, W, psi):
    cov, beta = _beta(W, psi)
    return {"xz": W.T.copy(), "zz": cov + beta @ S @ beta.T}


def beta_without_cov(S, W, psi):
    cov, _ = _beta(W, psi)
    beta = W @ np.diag(1 / psi)
    return {"xz": S @ beta.T, "zz": cov + beta @ S @ beta.T}


def psi_in_beta_alone(S, W, psi):
    cov = np.linalg.inv(np.eye(len(W)) + W @ W.T)
    beta = cov @ W / psi
    return {"xz": S @ beta.T, "zz": cov + beta @ S @ beta.T}


def noise_one(S, W, psi):
    cov = np.linalg.inv(np.eye(len(W)) + W @ W.T)
    return {"xz": S @ W.T @ cov, "zz": cov + cov @ W @ S @ W.T @ cov}


def noise_squared(S, W, psi):
    cov, beta = _beta(W, psi * psi)
    return {"xz": S @ beta.T, "zz": cov + beta @ S @ beta.T}


def beta_for_xz(S, W, psi):
    cov, beta = _beta(W, psi)
    return {"xz": beta.T, "zz": cov + beta @ S @ beta.T}


def precision_added(S, W, psi):
    cov, beta = _beta(W, psi)
    return {"xz": S @ beta.T, "zz": np.linalg.inv(cov) + beta @ S @ beta.T}


def psi_left_out(S, W, psi):
    cov, _ = _beta(W, psi)
    beta = cov @ W
    return {"xz": S @ beta.T, "zz": cov + beta @ S @ beta.T}


def without_S(S, W, psi):
    cov, beta = _beta(W, psi)
    return {"xz": S @ beta.T, "zz": cov + beta @ beta.T}


def identity(S, W, psi):
    cov, beta = _beta(W, psi)
    return {"xz": S @ beta.T, "zz": np.eye(len(W))}


def prior_added_again(S, W, psi):
    cov, beta = _beta(W, psi)
    return {"xz": S @ beta.T, "zz": np.eye(len(W)) + cov + beta @ S @ beta.T}


def turned_around(S, W, psi):
    cov, beta = _beta(W, psi)
    return {"xz": beta @ S, "zz": cov + beta @ S @ beta.T}


def moments_by_m(S, W, psi):
    cov, beta = _beta(W, psi)
    return {"xz": S @ beta.T, "zz": cov + beta @ S @ beta.T}


def moments_by_sigma(S, W, psi):
    beta = W @ np.linalg.inv(W.T @ W + np.diag(psi))
    return {"zz": np.eye(len(W)) - beta @ W.T + beta @ S @ beta.T, "xz": S @ beta.T}


def moments_by_data(S, W, psi):
    x = np.sqrt(len(S)) * np.linalg.cholesky(S).T                  # D data cases with this covariance
    found = by_einsum(x, W, np.zeros(len(S)), psi)
    m = found["mean"]
    return {"xz": x.T @ m / len(x), "zz": sum(found["cov"] + np.outer(row, row) for row in m) / len(x)}


def moments_by_einsum(S, W, psi):
    cov = np.linalg.inv(np.eye(len(W)) + np.einsum("kd,jd,d->kj", W, W, 1 / psi))
    beta = np.einsum("kj,jd,d->kd", cov, W, 1 / psi)
    return {"xz": np.einsum("de,ke->dk", S, beta), "zz": cov + np.einsum("kd,de,je->kj", beta, S, beta)}


def moments_by_eigenvectors(S, W, psi):
    values, V = np.linalg.eigh((W / psi) @ W.T)
    cov = V / (1 + values) @ V.T
    beta = cov @ (W / psi)
    xz = S @ beta.T
    return {"xz": xz, "zz": beta @ xz + cov}


# ---- 02-4 -------------------------------------------------------------------------------------


def plain_regression(x, m, C):
    G, *_ = np.linalg.lstsq(np.column_stack([m, np.ones(len(m))]), x, rcond=None)
    return {"W": G[:-1], "b": G[-1], "psi": np.mean((x - m @ G[:-1] - G[-1]) ** 2, axis=0)}


def C_over_N(x, m, C):
    return from_moments(x, m, C / len(x))


def no_spread_in_psi(x, m, C):
    found = from_moments(x, m, C)
    return found | {"psi": ((x - found["b"] - m @ found["W"]) ** 2).mean(0)}


def psi_rooted(x, m, C):
    found = from_moments(x, m, C)
    return found | {"psi": found["psi"] ** 0.5}


def psi_summed(x, m, C):
    found = from_moments(x, m, C)
    return found | {"psi": found["psi"] * len(x)}


def variance_less_loadings(x, m, C):
    found = from_moments(x, m, C)
    return found | {"psi": np.diag(np.cov(x.T, bias=True) - found["W"].T @ found["W"])}


def no_constant_in_it(x, m, C):
    W = np.linalg.inv(m.T @ m / len(x) + C) @ (m.T @ x / len(x))
    b = x.mean(0)
    return {"W": W, "b": b, "psi": ((x - b - m @ W) ** 2).mean(0) + np.diag(W.T @ C @ W)}


def spread_taken_off(x, m, C):
    W, b, _ = from_moments(x, m, C).values()
    return {"W": W, "b": b, "psi": ((x - b - m @ W) ** 2).mean(0) - np.diag(W.T @ C @ W)}


def spread_of_the_prior(x, m, C):
    W, b, _ = from_moments(x, m, C).values()
    return {"W": W, "b": b, "psi": ((x - b - m @ W) ** 2).mean(0) + np.diag(W.T @ W)}


def unbiased(x, m, C):
    W, b, psi = from_moments(x, m, C).values()
    return {"W": W, "b": b, "psi": psi * len(x) / (len(x) - 1)}


def one_psi(x, m, C):
    W, b, psi = from_moments(x, m, C).values()
    return {"W": W, "b": b, "psi": np.ones_like(psi) * psi.mean()}


def C_once_beside_sums(x, m, C):
    dx, dm = x - x.mean(0), m - m.mean(0)
    W = np.linalg.inv(dm.T @ dm + C) @ dm.T @ dx
    b = x.mean(0) - m.mean(0) @ W
    return {"W": W, "b": b, "psi": ((x - b - m @ W) ** 2).mean(0) + np.diag(W.T @ C @ W)}


def _with_loadings(W, x, m, C, b=None):
    """W, b, and by the formula the psi that belongs to them."""
    b = x.mean(0) - m.mean(0) @ W if b is None else b
    return {"W": W, "b": b, "psi": ((x - b - m @ W) ** 2).mean(0) + np.einsum("kd,kj,jd->d", W, C, W)}


def C_forgotten_in_W(x, m, C):
    dx, dm = x - x.mean(0), m - m.mean(0)
    return _with_loadings(np.linalg.inv(dm.T @ dm) @ dm.T @ dx, x, m, C)


def N_C_beside_means(x, m, C):
    dx, dm, N = x - x.mean(0), m - m.mean(0), len(x)
    return _with_loadings(np.linalg.inv(dm.T @ dm / N + N * C) @ (dm.T @ dx / N), x, m, C)


def identity_for_C(x, m, C):
    dx, dm, N = x - x.mean(0), m - m.mean(0), len(x)
    return _with_loadings(np.linalg.inv(dm.T @ dm / N + np.eye(len(C))) @ (dm.T @ dx / N), x, m, C)


def C_alone(x, m, C):
    dx, dm, N = x - x.mean(0), m - m.mean(0), len(x)
    return _with_loadings(np.linalg.inv(C) @ (dm.T @ dx / N), x, m, C)


def sum_over_mean(x, m, C):
    dx, dm, N = x - x.mean(0), m - m.mean(0), len(x)
    return _with_loadings(np.linalg.inv(dm.T @ dm / N + C) @ (dm.T @ dx), x, m, C)


def moments_not_inverted(x, m, C):
    return _with_loadings((m - m.mean(0)).T @ (x - x.mean(0)) / len(x), x, m, C)


def neither_centred(x, m, C):
    return _with_loadings(np.linalg.inv(m.T @ m + len(x) * C) @ (m.T @ x), x, m, C)


def nothing_but_m(x, m, C):
    W = np.linalg.lstsq(m, x, rcond=None)[0]
    return {"W": W, "b": x.mean(0), "psi": np.mean((x - m @ W - x.mean(0)) ** 2, axis=0)}


def m_not_centred(x, m, C):
    dx, N = x - x.mean(0), len(x)
    return _with_loadings(np.linalg.inv(m.T @ m + N * C) @ m.T @ dx, x, m, C, b=x.mean(0))


def mean_for_b_and_in_psi(x, m, C):
    return _with_loadings(from_moments(x, m, C)["W"], x, m, C, b=x.mean(0))


def by_np_cov(x, m, C):
    dx, dm = x - x.mean(0), m - m.mean(0)
    W = np.linalg.inv(np.cov(m, rowvar=False) + C) @ (dm.T @ dx / (len(x) - 1))
    return _with_loadings(W, x, m, C)


def unbiased_variance_of_the_rest(x, m, C):
    W, b, _ = from_moments(x, m, C).values()
    return {"W": W, "b": b, "psi": ((x - b - m @ W) ** 2).sum(0) / (len(x) - 1)}


def unbiased_squares(x, m, C):
    W, b, _ = from_moments(x, m, C).values()
    return {"W": W, "b": b, "psi": ((x - b - m @ W) ** 2).sum(0) / (len(x) - 1) + np.diag(W.T @ C @ W)}


def loadings_transposed(x, m, C):
    found = from_moments(x, m, C)
    return found | {"W": found["W"].T}


def mean_for_b(x, m, C):
    found = from_moments(x, m, C)
    return found | {"b": x.mean(0)}


def from_moments(x, m, C):
    N, K = m.shape
    A = np.block([[m.T @ m / N + C, m.mean(0)[:, None]], [m.mean(0)[None], np.ones((1, 1))]])
    B = np.hstack([x.T @ m / N, x.mean(0)[:, None]])
    G = np.linalg.solve(A, B.T)
    return {"W": G[:K], "b": G[K], "psi": (x * x).mean(0) - np.sum(G * B.T, axis=0)}


def centred_first(x, m, C):
    dx, dm = x - x.mean(0), m - m.mean(0)
    W = np.linalg.solve(dm.T @ dm + len(x) * C, dm.T @ dx)
    return {"W": W, "b": x.mean(0) - m.mean(0) @ W, "psi": (dx**2).mean(0) - np.mean(dx * (dm @ W), axis=0)}


def on_pseudo_data(x, m, C):
    K, L = m.shape[1], np.linalg.cholesky(C)
    points = np.vstack([m + sign * np.sqrt(K) * L[:, k] for k in range(K) for sign in (1, -1)])
    design, y = np.column_stack([points, np.ones(len(points))]), np.tile(x, (2 * K, 1))
    G, *_ = np.linalg.lstsq(design, y, rcond=None)
    return {"W": G[:K], "b": G[K], "psi": np.mean((y - design @ G) ** 2, axis=0)}


def as_ridge(x, m, C):
    N, L = len(x), np.linalg.cholesky(C)
    more = np.column_stack([np.sqrt(N) * L.T, np.zeros(len(L))])
    design = np.vstack([np.column_stack([m, np.ones(N)]), more])
    y = np.vstack([x, np.zeros((len(L), x.shape[1]))])
    G, *_ = np.linalg.lstsq(design, y, rcond=None)
    return {"psi": np.sum((y - design @ G) ** 2, axis=0) / N, "b": G[-1], "W": G[:-1]}


def column_after_column(x, m, C):
    N, one_m = len(x), np.column_stack([m, np.ones(len(m))])
    A = one_m.T @ one_m / N
    A[:-1, :-1] += C
    columns = [np.linalg.inv(A) @ one_m.T @ x[:, d] / N for d in range(x.shape[1])]
    psi = [np.mean((x[:, d] - one_m @ g) ** 2) + g[:-1] @ C @ g[:-1] for d, g in enumerate(columns)]
    G = np.array(columns).T
    return {"W": G[:-1], "b": G[-1], "psi": np.array(psi)}


# ---- 02-5 -------------------------------------------------------------------------------------


def _mean_nlml(S, W, psi):
    C = W.T @ W + np.diag(psi)
    return 0.5 * (len(S) * np.log(2 * np.pi) + np.linalg.slogdet(C)[1] + np.trace(np.linalg.inv(C) @ S))


def _iterated(step, value=_mean_nlml):
    def path(S, W, psi, n_steps):
        values = [value(S, W, psi)]
        for _ in range(n_steps):
            W, psi = step(S, W, psi)
            values.append(value(S, W, psi))
        return np.array(values)

    return path


def _step(S, W, psi):
    cov, beta = _beta(W, psi)
    zz = cov + beta @ S @ beta.T
    W = np.linalg.solve(zz, beta @ S)
    return W, np.diag(S - S @ beta.T @ W)


def _step_of_means(S, W, psi):
    _, beta = _beta(W, psi)
    W = np.linalg.solve(beta @ S @ beta.T, beta @ S)
    return W, np.diag(S - S @ beta.T @ W)


def _step_with_old_loadings(S, W, psi):
    cov, beta = _beta(W, psi)
    new = np.linalg.solve(cov + beta @ S @ beta.T, beta @ S)
    return new, np.diag(S - S @ beta.T @ W)


def _step_isotropic(S, W, psi):
    W, psi = _step(S, W, psi)
    return W, np.mean(psi) * np.ones(len(psi))


def _step_without_zz(S, W, psi):
    _, beta = _beta(W, psi)
    W = beta @ S
    return W, np.diag(S) - np.sum(W * W, axis=0)


def _step_of_diagonals(S, W, psi):
    W, _ = _step(S, W, psi)
    return W, np.diag(S - W.T @ W)


def from_the_first_step(S, W, psi, n_steps):
    W, psi = _step(S, W, psi)
    return by_steps(S, W, psi, n_steps)


def log_likelihoods(S, W, psi, n_steps):
    return -by_steps(S, W, psi, n_steps)


def one_too_few(S, W, psi, n_steps):
    return by_steps(S, W, psi, n_steps)[:-1]


by_steps = _iterated(_step)


def by_sums_over_data(S, W, psi, n_steps):
    D = len(S)
    x = np.sqrt(D) * linalg.sqrtm(S).real
    values = []
    for _ in range(n_steps + 1):
        found = by_least_squares(x, W, np.zeros(D), psi)
        values.append(by_m(x, W, np.zeros(D), psi).mean())
        m, C = found["mean"], found["cov"]
        W = np.linalg.inv(m.T @ m / D + C) @ m.T @ x / D
        psi = np.mean((x - m @ W) ** 2, axis=0) + np.diag(W.T @ C @ W)
    return np.array(values)


def by_eigenvalues(S, W, psi, n_steps):
    def value(S, W, psi):
        mu = linalg.eigvalsh(S, W.T @ W + np.diag(psi))
        return 0.5 * (np.linalg.slogdet(2 * np.pi * S)[1] + np.sum(mu - np.log(mu)))

    return _iterated(_step, value)(S, W, psi, n_steps)


def by_one_loop(S, W, psi, n_steps):
    path = np.zeros(n_steps + 1)
    for t in range(n_steps + 1):
        found = moments_by_einsum(S, W, psi)
        M = np.eye(len(W)) + (W / psi) @ W.T
        trace = np.sum(np.diag(S) / psi) - np.sum((W / psi).T * found["xz"])
        path[t] = 0.5 * (len(S) * np.log(2 * np.pi) + np.log(psi).sum() + np.linalg.slogdet(M)[1] + trace)
        W = np.linalg.inv(found["zz"]) @ found["xz"].T
        psi = np.diag(S) - 2 * np.sum(W.T * found["xz"], 1) + np.diag(W.T @ found["zz"] @ W)
    return path


def by_recursion(S, W, psi, n_steps):
    here = np.array([_mean_nlml(S, W, psi)])
    return here if n_steps == 0 else np.append(here, by_recursion(S, *_step(S, W, psi), n_steps - 1))


# ---- 02-6 -------------------------------------------------------------------------------------

TURNED = {
    "the loadings W": "changes",
    "W.T @ W + Psi": "stays",
    "nlml of x": "stays",
    "the posterior mean of z": "changes",
    "the reconstruction m W + b": "stays",
    "Q of the best diagonal q": "changes",
}


# ---- 02-7 -------------------------------------------------------------------------------------


def clipped_alike(v, variance, share):
    return {"psi": np.clip(v, share, None), "at_floor": v <= share}


def share_of_the_mean(v, variance, share):
    floor = share * np.mean(variance)
    return {"psi": np.where(v < floor, floor, v), "at_floor": v <= floor}


def share_of_the_largest(v, variance, share):
    floor = share * max(variance)
    return {"psi": np.where(v < floor, floor, v), "at_floor": v <= floor}


def floor_added(v, variance, share):
    return {"psi": v + share * variance, "at_floor": v <= share * variance}


def share_of_the_deviation(v, variance, share):
    return {"psi": np.maximum(v, share * variance**0.5), "at_floor": v <= share * variance}


def never_put_there(v, variance, share):
    return {"psi": v, "at_floor": v <= share * variance}


def names_the_others(v, variance, share):
    psi = np.maximum(v, share * variance)
    return {"psi": psi, "at_floor": psi == v}


def the_smaller(v, variance, share):
    return {"psi": np.minimum(v, share * variance), "at_floor": v <= share * variance}


def all_of_the_variance(v, variance, share):
    low = v <= share * variance
    psi = v.copy()
    psi[low] = variance[low]
    return {"psi": psi, "at_floor": low}


def places(v, variance, share):
    return {"psi": np.maximum(v, share * variance), "at_floor": np.flatnonzero(v <= share * variance)}


def by_maximum(v, variance, share):
    psi = np.maximum(v, share * variance)
    return {"psi": psi, "at_floor": psi > v}


def by_where(v, variance, share):
    low = v < share * variance
    return {"at_floor": low, "psi": np.where(low, share * variance, v)}


def by_ratio(v, variance, share):
    ratio = v / variance
    return {"psi": variance * np.clip(ratio, share, None), "at_floor": ratio <= share}


def by_assignment(v, variance, share):
    psi, floor = np.array(v), share * np.array(variance)
    low = psi - floor <= 0
    psi[low] = floor[low]
    return {"psi": psi, "at_floor": low}


def by_loop(v, variance, share):
    pairs = [(max(a, share * s), bool(a <= share * s)) for a, s in zip(v, variance)]
    return {"psi": np.array([p for p, _ in pairs]), "at_floor": np.array([low for _, low in pairs])}


WRONG = {
    "02-1": {
        "lacks the 1 of the prior's precision": flat_prior,
        "which is M, the precision": not_inverted,
        "b was not taken off": not_centred,
        "still to be multiplied by cov": not_divided,
        "as if they were standard deviations": psi_as_deviations,
        "as if every column had the noise 1": psi_forgotten,
        "and not its inverse": times_M,
        "Ψ⁻¹ is left out of M, and": psi_forgotten_in_M,
        "W was multiplied by Ψ": times_psi,
        "you divided by their roots": roots_of_psi_inside,
        "np.eye(K)": one_plus,
        "in which Ψ⁻¹ is missing": unweighed_mean,
        "which is 0 beside its diagonal": mean_field,
        "a dict with the names mean, cov": a_tuple,
    },
    "02-2": {
        "this is −log p(x|z)": likelihood_at_m,
        "z has still to be integrated out": joint_at_m,
        "right except for ½ log |M|": no_log_M,
        "right except for ½ Σ log ψ": no_log_psi,
        "the constant of a Gaussian density": no_constant,
        "it is 2 times what is asked": no_half,
        "it has its sign turned": the_elbo,
        "log |Σ| came in in full": whole_determinant,
        "the wider a density is": log_det_minus,
        "that of M⁻¹ was taken": log_det_of_the_covariance,
        "which came in in full": whole_square,
        "and this is r Σ rᵀ": not_inverted_in_the_square,
        "½ m mᵀ, the prior's part": no_prior_square,
        "still to be taken off": residuals_of_b,
        "they were taken as independent": no_covariances,
        "|Σ| stands where": determinant_itself,
        "|M| stands where": determinant_of_M,
        "the identity stands where Ψ belongs": identity_for_psi,
        "as if z were always 0": no_W,
        "you squared them": psi_as_standard_deviations,
        "their roots were taken": roots_of_psi,
        "b is left out": b_left_out,
        "is gone; look for a sum or a mean": one_number,
    },
    "02-3": {
        "this is that of the posterior's means": only_means,
        "those of a flat p(z)": without_the_prior,
        "and not M": precision_added,
        "you left out its Ψ⁻¹": psi_left_out,
        "of β and of M, as if every column": noise_one,
        "M⁻¹ alone is what is not known": covariance_alone,
        "has its sign turned: it is added to M⁻¹": means_taken_off,
        "Wᵀ is what p(z) says": loadings_for_xz,
        "and you left out its M⁻¹": beta_without_cov,
        "Ψ⁻¹ is left out of M, and": psi_in_beta_alone,
        "by their squares in β and in M": noise_squared,
        "β takes x to z, and S is missing": beta_for_xz,
        "S is missing between": without_S,
        "what p(z) says of z": identity,
        "stands in it already": prior_added_again,
        "it is transposed": turned_around,
    },
    "02-4": {
        "as if z were known": plain_regression,
        "divided by N it is all but lost": C_over_N,
        "C is forgotten in E[zᵀz], which": C_forgotten_in_W,
        "and not N · C": N_C_beside_means,
        "x was centred and m was not": m_not_centred,
        "where C belongs, that of q": identity_for_C,
        "E[zᵀz] is C alone": C_alone,
        "and the other is a sum": sum_over_mean,
        "and the inverse is missing": moments_not_inverted,
        "W is off: x and m were not centred; a": neither_centred,
        "were not centred, and C is forgotten": nothing_but_m,
        "psi has to pay for it": mean_for_b_and_in_psi,
        "those of np.cov": by_np_cov,
        "squared residuals are divided by N − 1": unbiased_squares,
        "with N − 1 below": unbiased_variance_of_the_rest,
        "psi is taken at the means of q": no_spread_in_psi,
        "these are their roots": psi_rooted,
        "this is a sum": psi_summed,
        "z has not the covariance I": variance_less_loadings,
        "the regression goes through 0": no_constant_in_it,
        "and you took it off": spread_taken_off,
        "where diag(Wᵀ C W) belongs": spread_of_the_prior,
        "the divisor N − 1": unbiased,
        "psi is one number for all columns": one_psi,
        "C counts N times": C_once_beside_sums,
        "it is transposed": loadings_transposed,
        "b is the constant of the regression": mean_for_b,
    },
    "02-5": {
        "the first entry is that of the start": from_the_first_step,
        "½ D log 2π is missing": _iterated(
            _step, lambda S, W, psi: _mean_nlml(S, W, psi) - 0.5 * len(S) * np.log(2 * np.pi)),
        "Ψ stays what it was": _iterated(lambda S, W, psi: (_step(S, W, psi)[0], psi)),
        "nothing moves": _iterated(lambda S, W, psi: (W, psi)),
        "W stays what it was": _iterated(lambda S, W, psi: (W, _step(S, W, psi)[1])),
        "the inverse is missing": _iterated(_step_without_zz),
        "that makes the diagonals agree": _iterated(_step_of_diagonals),
        "E[zᵀz] lacks M⁻¹": _iterated(_step_of_means),
        "Ψ came from the old W": _iterated(_step_with_old_loadings),
        "that is probabilistic PCA": _iterated(_step_isotropic),
        "it has its sign turned": log_likelihoods,
        "it has shape": one_too_few,
    },
    "02-6": {
        "compare loadings of two fits only": TURNED | {"the loadings W": "stays"},
        "this is what data determine": TURNED | {"W.T @ W + Psi": "changes"},
        "no data can tell": TURNED | {"nlml of x": "changes"},
        "z are coordinates": TURNED | {"the posterior mean of z": "stays"},
        "x does not notice": TURNED | {"the reconstruction m W + b": "changes"},
        "the bound notices": TURNED | {"Q of the best diagonal q": "stays"},
        "is none of the words": TURNED | {"nlml of x": "falls"},
        "nothing is chosen "
        "for": {question: word for question, word in TURNED.items() if question != "nlml of x"},
    },
    "02-7": {
        "one floor for all columns": clipped_alike,
        "a share of the mean variance": share_of_the_mean,
        "a share of the largest variance": share_of_the_largest,
        "a variance is compared with a variance": share_of_the_deviation,
        "psi is v itself": never_put_there,
        "the floor was added": floor_added,
        "True where the column is above its floor": names_the_others,
        "not the smaller": the_smaller,
        "got all of their variance": all_of_the_variance,
        "where an array of bool is asked for": places,
    },
}
RIGHT = {
    "02-1": [by_the_joint, by_einsum, column_by_column, by_least_squares, by_cholesky],
    "02-2": [
        by_m, by_scipy, by_the_cholesky_factor, by_columns_given_those_before, by_bayes_at_zero, case_by_case,
    ],
    "02-3": [moments_by_m, moments_by_sigma, moments_by_data, moments_by_einsum, moments_by_eigenvectors],
    "02-4": [from_moments, centred_first, on_pseudo_data, as_ridge, column_after_column],
    "02-5": [by_steps, by_sums_over_data, by_eigenvalues, by_one_loop, by_recursion],
    "02-6": [TURNED],
    "02-7": [by_maximum, by_where, by_ratio, by_assignment, by_loop],
}
