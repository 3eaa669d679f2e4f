"""Answers to the exercises of notebook 06."""

import numpy as np
from scipy.stats import multivariate_normal, norm

# ---- 06-1 ------------------------------------------------------------------------------------


def q_sampled(x, W, b, psi, m, s, eta):
    z = m + s * eta
    log_q = norm.logpdf(z, m, s).sum(axis=2)
    log_joint = norm.logpdf(z).sum(axis=2) + norm.logpdf(x, z @ W + b, np.sqrt(psi)).sum(axis=2)
    return (log_q - log_joint).mean(axis=0)


def q_of_the_slide(x, W, b, psi, m, s, eta):
    z = m + s * eta
    log_q = norm.logpdf(z, m, s).sum(axis=2)
    log_joint = norm.logpdf(z).sum(axis=2) + norm.logpdf(x, z @ W + b, np.sqrt(psi)).sum(axis=2)
    return np.sum(log_joint - log_q, axis=0) / len(eta)


def q_summed(x, W, b, psi, m, s, eta):
    z = m + s * eta
    log_q = norm.logpdf(z, m, s).sum(axis=2)
    log_joint = norm.logpdf(z).sum(axis=2) + norm.logpdf(x, z @ W + b, np.sqrt(psi)).sum(axis=2)
    return (log_q - log_joint).sum(axis=0)


def q_with_analytic_kl(x, W, b, psi, m, s, eta):
    z = m + s * eta
    log_p = norm.logpdf(x, z @ W + b, np.sqrt(psi)).sum(axis=2)
    return 0.5 * np.sum(m**2 + s**2 - 1 - 2 * np.log(s), axis=1) - log_p.mean(axis=0)


def q_with_pixel_mean(x, W, b, psi, m, s, eta):
    z = m + s * eta
    log_q = norm.logpdf(z, m, s).sum(axis=2)
    log_joint = norm.logpdf(z).sum(axis=2) + norm.logpdf(x, z @ W + b, np.sqrt(psi)).mean(axis=2)
    return (log_q - log_joint).mean(axis=0)


def q_of_likelihood(x, W, b, psi, m, s, eta):
    z = m + s * eta
    log_q = norm.logpdf(z, m, s).sum(axis=2)
    return (log_q - norm.logpdf(x, z @ W + b, np.sqrt(psi)).sum(axis=2)).mean(axis=0)


def q_of_joint(x, W, b, psi, m, s, eta):
    z = m + s * eta
    log_joint = norm.logpdf(z).sum(axis=2) + norm.logpdf(x, z @ W + b, np.sqrt(psi)).sum(axis=2)
    return -log_joint.mean(axis=0)


def q_of_noise(x, W, b, psi, m, s, eta):
    z = m + s * eta
    log_joint = norm.logpdf(z).sum(axis=2) + norm.logpdf(x, z @ W + b, np.sqrt(psi)).sum(axis=2)
    return (norm.logpdf(eta).sum(axis=2) - log_joint).mean(axis=0)


def q_of_variances(x, W, b, psi, m, s, eta):
    z = m + s**2 * eta
    log_q = norm.logpdf(z, m, s).sum(axis=2)
    log_joint = norm.logpdf(z).sum(axis=2) + norm.logpdf(x, z @ W + b, np.sqrt(psi)).sum(axis=2)
    return (log_q - log_joint).mean(axis=0)


def q_one_number(*given):
    return q_sampled(*given).sum()


def q_by_loops(x, W, b, psi, m, s, eta):
    Q = np.zeros(len(x))
    for draw in eta:
        for n, noise in enumerate(draw):
            z = m[n] + s[n] * noise
            r = x[n] - z @ W - b
            Q[n] += np.sum(-0.5 * noise**2 - np.log(s[n])) + 0.5 * z @ z
            Q[n] += 0.5 * np.sum(r**2 / psi) + 0.5 * np.sum(np.log(2 * np.pi * psi))
    return Q / len(eta)


def q_by_einsum(x, W, b, psi, m, s, eta):
    z = m[None] + np.einsum("nk,snk->snk", s, eta)
    r = x - b - np.einsum("snk,kd->snd", z, W)
    square = np.einsum("snd,d,snd->sn", r, 1 / psi, r) + np.einsum("snk,snk->sn", z - eta, z + eta)
    return 0.5 * square.mean(0) + 0.5 * np.log(2 * np.pi * psi).sum() - np.log(s).sum(1)


def q_by_scipy(x, W, b, psi, m, s, eta):
    joint_mean = np.concatenate([np.zeros(len(W)), b])
    joint = np.block([[np.eye(len(W)), W], [W.T, W.T @ W + np.diag(psi)]])
    total = []
    for draw in eta:
        z = m + s * draw
        log_p = multivariate_normal(joint_mean, joint).logpdf(np.hstack([z, x]))
        log_q = [multivariate_normal(a, np.diag(w**2)).logpdf(row) for a, w, row in zip(m, s, z)]
        total.append(np.array(log_q) - log_p)
    return np.mean(total, axis=0)


def q_by_posterior(x, W, b, psi, m, s, eta):
    cov = np.linalg.inv(np.eye(len(W)) + W / psi @ W.T)
    mean = (x - b) / psi @ W.T @ cov
    nlml = -multivariate_normal(b, W.T @ W + np.diag(psi)).logpdf(x)
    z = m + s * eta
    log_posterior = multivariate_normal(np.zeros(len(W)), cov).logpdf(z - mean)
    return nlml + np.mean(norm.logpdf(z, m, s).sum(2) - log_posterior, axis=0)


def q_over_flat_rows(x, W, b, psi, m, s, eta):
    S, N, K = eta.shape
    M, T, X = np.tile(m, (S, 1)), np.tile(s, (S, 1)), np.tile(x, (S, 1))
    z = M + T * eta.reshape(S * N, K)
    c = norm.logpdf(z, M, T).sum(1) - norm.logpdf(z).sum(1) - norm.logpdf(X, z @ W + b, psi**0.5).sum(1)
    return c.reshape(S, N).mean(axis=0)


# ---- 06-2 ------------------------------------------------------------------------------------


def naive(z, m, log_s):
    s = np.exp(log_s)
    return ((z - m) / s**2).mean(axis=0), (((z - m) / s) ** 2 - 1).mean(axis=0)


def naive_one_s(z, m, log_s):
    return ((z - m) / np.exp(log_s)).mean(axis=0), naive(z, m, log_s)[1]


def naive_in_s(z, m, log_s):
    s = np.exp(log_s)
    return naive(z, m, log_s)[0], ((z - m) ** 2 / s**3 - 1 / s).mean(axis=0)


def naive_no_norm(z, m, log_s):
    return naive(z, m, log_s)[0], (((z - m) / np.exp(log_s)) ** 2).mean(axis=0)


def naive_moving(z, m, log_s):
    return 0 * m, 0 * log_s - 1


def naive_sum(z, m, log_s):
    s = np.exp(log_s)
    return ((z - m) / s**2).sum(axis=0), (((z - m) / s) ** 2 - 1).sum(axis=0)


def naive_other_sign(z, m, log_s):
    return tuple(-part for part in naive(z, m, log_s))


def naive_zero(z, m, log_s):
    return np.zeros(m.shape), np.zeros(m.shape)


def naive_by_loop(z, m, log_s):
    dm, dlog_s = np.zeros_like(m), np.zeros_like(m)
    for draw in z:
        for n in range(len(m)):
            for k in range(m.shape[1]):
                u = (draw[n, k] - m[n, k]) / np.exp(log_s[n, k])
                dm[n, k] += u / np.exp(log_s[n, k]) / len(z)
                dlog_s[n, k] += (u * u - 1) / len(z)
    return dm, dlog_s


def naive_by_moments(z, m, log_s):
    variance = np.exp(2 * log_s)
    first, second = z.mean(axis=0), (z**2).mean(axis=0)
    return (first - m) / variance, (second - 2 * m * first + m**2) / variance - 1


def naive_by_einsum(z, m, log_s):
    eta = (z - m) * np.exp(-log_s)
    S = eta.shape[0]
    return np.einsum("snk,nk->nk", eta, np.exp(-log_s)) / S, np.einsum("snk,snk->nk", eta, eta) / S - 1


def naive_as_list(z, m, log_s):
    return [part for part in naive(z, m, log_s)]


def naive_by_deviation(z, m, log_s):
    precision, off = 1 / np.exp(log_s) ** 2, z.mean(axis=0) - m
    return precision * off, precision * (z.var(axis=0) + off**2) - 1


# ---- 06-3 ------------------------------------------------------------------------------------


def score(z, m, log_s, c):
    s = np.exp(log_s)
    c = c[:, :, None]
    return (c * (z - m) / s**2).mean(axis=0), (c * (((z - m) / s) ** 2 - 1)).mean(axis=0)


def score_alone(z, m, log_s, c):
    return naive(z, m, log_s)


def score_of_means(z, m, log_s, c):
    dm, dlog_s = naive(z, m, log_s)
    return dm * c.mean(0)[:, None], dlog_s * c.mean(0)[:, None]


def score_up(z, m, log_s, c):
    return tuple(-part for part in score(z, m, log_s, c))


def score_in_s(z, m, log_s, c):
    return score(z, m, log_s, c)[0], score(z, m, log_s, c)[1] / np.exp(log_s)


def score_one_s(z, m, log_s, c):
    return (c[:, :, None] * (z - m) / np.exp(log_s)).mean(0), score(z, m, log_s, c)[1]


def score_no_one(z, m, log_s, c):
    return score(z, m, log_s, c)[0], (c[:, :, None] * ((z - m) / np.exp(log_s)) ** 2).mean(0)


def score_sum(z, m, log_s, c):
    return tuple(len(z) * part for part in score(z, m, log_s, c))


def score_by_loop(z, m, log_s, c):
    dm, dlog_s = np.zeros_like(m), np.zeros_like(m)
    for draw, cost in zip(z, c):
        u = (draw - m) / np.exp(log_s)
        for n in range(len(m)):
            dm[n] += cost[n] * u[n] / np.exp(log_s[n])
            dlog_s[n] += cost[n] * (u[n] ** 2 - 1)
    return dm / len(z), dlog_s / len(z)


def score_by_einsum(z, m, log_s, c):
    eta = (z - m) / np.exp(log_s)
    dm = np.einsum("sn,snk->nk", c, eta) / len(c) / np.exp(log_s)
    return dm, np.einsum("sn,snk->nk", c, eta**2 - 1) / len(c)


def score_by_covariance(z, m, log_s, c):
    eta, total = (z - m) * np.exp(-log_s), c.mean(axis=0)[:, None]
    return np.mean(c[..., None] * eta, 0) * np.exp(-log_s), np.mean(c[..., None] * eta * eta, 0) - total


def score_transposed(z, m, log_s, c):
    eta = ((z - m) / np.exp(log_s)).transpose(2, 1, 0)
    weight = c.T / len(c)
    dm = (eta * weight).sum(axis=2).T / np.exp(log_s)
    return dm, ((eta**2 - 1) * weight).sum(axis=2).T


def score_by_weights(z, m, log_s, c):
    """c log q with z as data: as in a weighted maximum likelihood."""
    w = c / len(c)
    total, first = w.sum(0)[:, None], np.einsum("sn,snk->nk", w, z)
    second, v = np.einsum("sn,snk->nk", w, z**2), np.exp(2 * log_s)
    return (first - total * m) / v, (second - 2 * m * first + total * m**2) / v - total


# ---- 06-4 ------------------------------------------------------------------------------------


def baseline(c):
    return c - (c.sum(axis=0) - c) / (len(c) - 1)


def baseline_of_all(c):
    return c - np.mean(c, axis=0)


def baseline_over_cases(c):
    return c - c.mean(axis=1)[:, None]


def baseline_alone(c):
    return (c.sum(axis=0) - c) / (len(c) - 1)


def baseline_sum(c):
    return c - (c.sum(axis=0) - c)


def baseline_by_s(c):
    return c - (c.sum(axis=0) - c) / len(c)


def baseline_added(c):
    return c + (c.sum(axis=0) - c) / (len(c) - 1)


def baseline_other_sign(c):
    return -baseline(c)


def baseline_scaled(c):
    return (c - c.mean(axis=0)) * len(c) / (len(c) - 1)


def baseline_by_loop(c):
    made = np.empty_like(c)
    for s in range(len(c)):
        for n in range(c.shape[1]):
            made[s, n] = c[s, n] - np.mean([c[r, n] for r in range(len(c)) if r != s])
    return made


def baseline_by_matrix(c):
    S = len(c)
    return (np.eye(S) * S - np.ones((S, S))) @ c / (S - 1)


def baseline_by_masks(c):
    rows = np.arange(len(c))
    return np.array([c[s] - c[rows != s].mean(axis=0) for s in rows])


def baseline_by_rolls(c):
    return c - sum(np.roll(c, shift, axis=0) for shift in range(1, len(c))) / (len(c) - 1)


# ---- 06-5 ------------------------------------------------------------------------------------


def through(m, log_s, eta, dz):
    return dz.sum(axis=0), (dz * eta).sum(axis=0) * np.exp(log_s)


def through_no_s(m, log_s, eta, dz):
    return dz.sum(axis=0), (dz * eta).sum(axis=0)


def through_s2(m, log_s, eta, dz):
    return dz.sum(axis=0), (dz * eta).sum(axis=0) * np.exp(2 * log_s)


def through_no_eta(m, log_s, eta, dz):
    return dz.sum(axis=0), dz.sum(axis=0) * np.exp(log_s)


def through_mean(m, log_s, eta, dz):
    return dz.mean(axis=0), (dz * eta).mean(axis=0) * np.exp(log_s)


def through_half(m, log_s, eta, dz):
    return dz.sum(axis=0), 0.5 * (dz * eta * np.exp(log_s)).sum(axis=0)


def through_eta_in_m(m, log_s, eta, dz):
    return (dz * np.exp(log_s)).sum(axis=0), (dz * eta).sum(axis=0) * np.exp(log_s)


def through_keepdims(m, log_s, eta, dz):
    return dz, dz * eta * np.exp(log_s)


def through_fresh_noise(m, log_s, eta, dz):
    noise = np.random.standard_normal(eta.shape)
    return dz.sum(axis=0), (dz * noise).sum(axis=0) * np.exp(log_s)


def through_z(m, log_s, eta, dz):
    z = m + np.exp(log_s) * eta
    return np.einsum("snk->nk", dz), np.sum(dz * (z - m), axis=0)


def through_einsum(m, log_s, eta, dz):
    return np.einsum("snk->nk", dz), np.einsum("snk,snk,nk->nk", dz, eta, np.exp(log_s))


def through_loop(m, log_s, eta, dz):
    dm, dlog_s = np.zeros_like(m), np.zeros_like(m)
    for above, noise in zip(dz, eta):
        dm = dm + above
        dlog_s = dlog_s + above * noise * np.exp(log_s)
    return dm, dlog_s


def through_ds(m, log_s, eta, dz):
    ds = np.add.reduce(dz * eta, axis=0)
    s = np.exp(log_s)
    return np.add.reduce(dz, axis=0), ds * s


def through_jacobian(m, log_s, eta, dz):
    S = len(eta)
    ones = np.ones((1, S))
    flat = (dz * eta).reshape(S, -1)
    return (ones @ dz.reshape(S, -1)).reshape(m.shape), (ones @ flat).reshape(m.shape) * np.exp(log_s)


# ---- 06-6 ------------------------------------------------------------------------------------


def whole(x, W, b, psi, m, log_s, eta):
    s = np.exp(log_s)
    z = m + s * eta
    dz = -((x - z @ W - b) / psi) @ W.T / len(eta)
    return dz.sum(0) + m, (dz * eta).sum(0) * s + s**2 - 1


def whole_frozen(x, W, b, psi, m, log_s, eta):
    return m, np.exp(2 * log_s) - 1


def whole_no_kl(x, W, b, psi, m, log_s, eta):
    s = np.exp(log_s)
    dz = -((x - (m + s * eta) @ W - b) / psi) @ W.T / len(eta)
    return dz.sum(0), (dz * eta).sum(0) * s


def whole_kl_turned(x, W, b, psi, m, log_s, eta):
    s = np.exp(log_s)
    dz = -((x - (m + s * eta) @ W - b) / psi) @ W.T / len(eta)
    return dz.sum(0) - m, (dz * eta).sum(0) * s - s**2 + 1


def whole_sum(x, W, b, psi, m, log_s, eta):
    s = np.exp(log_s)
    dz = -((x - (m + s * eta) @ W - b) / psi) @ W.T
    return dz.sum(0) + m, (dz * eta).sum(0) * s + s**2 - 1


def whole_in_s(x, W, b, psi, m, log_s, eta):
    s = np.exp(log_s)
    dz = -((x - (m + s * eta) @ W - b) / psi) @ W.T / len(eta)
    return dz.sum(0) + m, (dz * eta).sum(0) + s - 1 / s


def whole_mean(x, W, b, psi, m, log_s, eta):
    return tuple(part / len(x) for part in whole(x, W, b, psi, m, log_s, eta))


def whole_lost_s(x, W, b, psi, m, log_s, eta):
    s = np.exp(log_s)
    dz = -((x - (m + s * eta) @ W - b) / psi) @ W.T / len(eta)
    return dz.sum(0) + m, (dz * eta).sum(0) + s**2 - 1


def whole_likelihood_turned(x, W, b, psi, m, log_s, eta):
    s = np.exp(log_s)
    dz = ((x - (m + s * eta) @ W - b) / psi) @ W.T / len(eta)
    return dz.sum(0) + m, (dz * eta).sum(0) * s + s**2 - 1


def whole_no_one(x, W, b, psi, m, log_s, eta):
    dm, dlog_s = whole(x, W, b, psi, m, log_s, eta)
    return dm, dlog_s + 1


def whole_by_loop(x, W, b, psi, m, log_s, eta):
    dm, dlog_s = m.copy(), np.exp(2 * log_s) - 1
    for n in range(len(x)):
        for draw in eta[:, n]:
            s = np.exp(log_s[n])
            slope = W @ ((m[n] + s * draw) @ W / psi + (b - x[n]) / psi) / len(eta)
            dm[n] += slope
            dlog_s[n] += slope * draw * s
    return dm, dlog_s


def whole_by_moments(x, W, b, psi, m, log_s, eta):
    s, A, pull = np.exp(log_s), W / psi @ W.T, (x - b) / psi @ W.T
    first, second = eta.mean(0), np.einsum("snk,snj->nkj", eta, eta) / len(eta)
    mean_z = m + s * first
    slope_eta = first * (m @ A - pull) + np.einsum("nkj,nj,jk->nk", second, s, A)
    return m + mean_z @ A - pull, slope_eta * s + s * s - 1


def whole_by_einsum(x, W, b, psi, m, log_s, eta):
    s = np.exp(log_s)
    r = np.einsum("snk,kd->snd", m + s * eta, W) + b - x
    dz = np.einsum("snd,d,kd->snk", r, 1 / psi, W) / len(eta)
    return np.einsum("snk->nk", dz) + m, np.einsum("snk,snk,nk->nk", dz, eta, s) + np.expm1(2 * log_s)


def whole_by_sampled_parts(x, W, b, psi, m, log_s, eta):
    """The prior's pull from the samples, and what that differs from the KL's put right."""
    s = np.exp(log_s)
    z = m + s * eta
    dz = z - ((x - z @ W - b) / psi) @ W.T
    dm, dlog_s = dz.mean(0), (dz * eta).mean(0) * s
    return dm + m - z.mean(0), dlog_s - (z * eta).mean(0) * s + s**2 - 1


def whole_in_rows(x, W, b, psi, m, log_s, eta):
    S, N, K = eta.shape
    z = (m + np.exp(log_s) * eta).reshape(-1, K)
    dz = ((z @ W + b - np.tile(x, (S, 1))) @ np.diag(1 / psi) @ W.T).reshape(S, N, K)
    return dz.mean(0) + m, (dz * (z.reshape(S, N, K) - m)).mean(0) + np.exp(log_s) ** 2 - 1


# ---- 06-7 ------------------------------------------------------------------------------------


def batch(x, W, b, psi, z, rows):
    r = x[rows] - z[rows] @ W - b
    return -len(x) / len(rows) * z[rows].T @ (r / psi)


def batch_sum(x, W, b, psi, z, rows):
    r = x[rows] - z[rows] @ W - b
    return -z[rows].T @ (r / psi)


def batch_mean(x, W, b, psi, z, rows):
    return batch_sum(x, W, b, psi, z, rows) / len(rows)


def batch_inverse(x, W, b, psi, z, rows):
    return batch_sum(x, W, b, psi, z, rows) * len(rows) / len(x)


def batch_all(x, W, b, psi, z, rows):
    return -z.T @ ((x - z @ W - b) / psi)


def batch_up(x, W, b, psi, z, rows):
    return -batch(x, W, b, psi, z, rows)


def batch_no_psi(x, W, b, psi, z, rows):
    return -len(x) / len(rows) * z[rows].T @ (x[rows] - z[rows] @ W - b)


def batch_transposed(x, W, b, psi, z, rows):
    return batch(x, W, b, psi, z, rows).T


def batch_by_loop(x, W, b, psi, z, rows):
    dW = np.zeros_like(W)
    for n in rows:
        dW -= np.outer(z[n], (x[n] - b - z[n] @ W) / psi) * (len(x) / len(rows))
    return dW


def batch_by_weights(x, W, b, psi, z, rows):
    weight = np.isin(np.arange(len(x)), rows) / (len(rows) / len(x))
    return (z * weight[:, None]).T @ ((z @ W + b - x) / psi)


def batch_by_einsum(x, W, b, psi, z, rows):
    part, code = x.take(rows, axis=0), z.take(rows, axis=0)
    r = part - b - np.einsum("nk,kd->nd", code, W)
    return -(len(x) / len(rows)) * np.einsum("nk,nd,d->kd", code, r, psi**-1)


def batch_by_mean(x, W, b, psi, z, rows):
    each = [np.outer(z[n], z[n] @ W + b - x[n]) / psi for n in rows]
    return len(x) * np.mean(each, axis=0)


def batch_by_selection(x, W, b, psi, z, rows):
    P = np.eye(len(x))[rows]
    code = P @ z
    return x.shape[0] / P.shape[0] * code.T @ ((code @ W + b - P @ x) @ np.diag(1 / psi))


# ---- 06-8 ------------------------------------------------------------------------------------


def adam(p, g, m, v, t, alpha, beta1, beta2, epsilon):
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    return p - alpha * m / (1 - beta1**t) / (np.sqrt(v / (1 - beta2**t)) + epsilon), m, v


def adam_biased(p, g, m, v, t, alpha, beta1, beta2, epsilon):
    _, m, v = adam(p, g, m, v, t, alpha, beta1, beta2, epsilon)
    return p - alpha * m / (v**0.5 + epsilon), m, v


def adam_v_biased(p, g, m, v, t, alpha, beta1, beta2, epsilon):
    _, m, v = adam(p, g, m, v, t, alpha, beta1, beta2, epsilon)
    return p - alpha * m / (1 - beta1**t) / (v**0.5 + epsilon), m, v


def adam_m_biased(p, g, m, v, t, alpha, beta1, beta2, epsilon):
    _, m, v = adam(p, g, m, v, t, alpha, beta1, beta2, epsilon)
    return p - alpha * m / ((v / (1 - beta2**t)) ** 0.5 + epsilon), m, v


def adam_inside(p, g, m, v, t, alpha, beta1, beta2, epsilon):
    _, m, v = adam(p, g, m, v, t, alpha, beta1, beta2, epsilon)
    return p - alpha * m / (1 - beta1**t) / np.sqrt(v / (1 - beta2**t) + epsilon), m, v


def adam_no_root(p, g, m, v, t, alpha, beta1, beta2, epsilon):
    _, m, v = adam(p, g, m, v, t, alpha, beta1, beta2, epsilon)
    return p - alpha * m / (1 - beta1**t) / (v / (1 - beta2**t) + epsilon), m, v


def adam_uphill(p, g, m, v, t, *numbers):
    new, m, v = adam(p, g, m, v, t, *numbers)
    return 2 * p - new, m, v


def adam_late(p, g, m, v, t, alpha, beta1, beta2, epsilon):
    _, m, v = adam(p, g, m, v, t, alpha, beta1, beta2, epsilon)
    t = t - 1
    return p - alpha * m / (1 - beta1**t) / (np.sqrt(v / (1 - beta2**t)) + epsilon), m, v


def adam_kept(p, g, m, v, t, alpha, beta1, beta2, epsilon):
    p, m, v = adam(p, g, m, v, t, alpha, beta1, beta2, epsilon)
    return p, m / (1 - beta1**t), v / (1 - beta2**t)


def adam_step_first(p, g, m, v, t, alpha, beta1, beta2, epsilon):
    new = p - alpha * m / (1 - beta1**t) / (np.sqrt(v / (1 - beta2**t)) + epsilon)
    return new, *adam(p, g, m, v, t, alpha, beta1, beta2, epsilon)[1:]


def adam_v_of_g(p, g, m, v, t, alpha, beta1, beta2, epsilon):
    new, m, _ = adam(p, g, m, v, t, alpha, beta1, beta2, epsilon)
    return new, m, beta2 * v + (1 - beta2) * g


def adam_in_place(p, g, m, v, t, alpha, beta1, beta2, epsilon):
    m *= beta1
    m += (1 - beta1) * g
    v *= beta2
    v += (1 - beta2) * g**2
    p -= alpha * m / (1 - beta1**t) / (np.sqrt(v / (1 - beta2**t)) + epsilon)
    return p, m, v


def adam_p_alone(*given):
    return adam(*given)[0]


def adam_by_loop(p, g, m, v, t, alpha, beta1, beta2, epsilon):
    rows = []
    for p_i, g_i, m_i, v_i in zip(p, g, m, v):
        m_i = beta1 * m_i + (1 - beta1) * g_i
        v_i = beta2 * v_i + (1 - beta2) * g_i**2
        m_hat, v_hat = m_i / (1 - beta1**t), v_i / (1 - beta2**t)
        rows.append((p_i - alpha * m_hat / (v_hat**0.5 + epsilon), m_i, v_i))
    return tuple(np.array(rows).T)


def adam_joined_rate(p, g, m, v, t, alpha, beta1, beta2, epsilon):
    correction = np.sqrt(1 - beta2**t)
    m, v = m + (1 - beta1) * (g - m), v + (1 - beta2) * (g**2 - v)
    return p - alpha * correction / (1 - beta1**t) * m / (np.sqrt(v) + epsilon * correction), m, v


def adam_by_powers(p, g, m, v, t, alpha, beta1, beta2, epsilon):
    m, v = np.array([beta1, 1 - beta1]) @ [m, g], np.array([beta2, 1 - beta2]) @ [v, g**2]
    share1 = (1 - beta1) * sum(beta1**i for i in range(t))
    share2 = (1 - beta2) * sum(beta2**i for i in range(t))
    return p - alpha * (m / share1) / ((v / share2) ** 0.5 + epsilon), m, v


def adam_as_list(*given):
    return list(adam(*given))


def adam_by_expm1(p, g, m, v, t, alpha, beta1, beta2, epsilon):
    m, v = (1 - beta1) * g + beta1 * m, (1 - beta2) * np.square(g) + beta2 * v
    m_hat, v_hat = -m / np.expm1(t * np.log(beta1)), -v / np.expm1(t * np.log(beta2))
    move = np.divide(m_hat, np.add(np.sqrt(v_hat), epsilon))
    return np.subtract(p, alpha * move), m, v


# ---- 06-9 ------------------------------------------------------------------------------------

SEEN = {
    "gradient check": "passes", "falling Q": "passes", "Q against nlml": "fails", "moments of z": "fails",
}


# ---- what a student hands in ------------------------------------------------------------------


def q_changed(p=1.0, prior=1.0, q=1.0, power=1.0, join=lambda c: c.mean(0)):
    def answer(x, W, b, psi, m, s, eta):
        z = m + s**power * eta
        log_p = -0.5 * (np.log(2 * np.pi * psi) + (x - z @ W - b) ** 2 / psi).sum(2)
        log_prior = -0.5 * (np.log(2 * np.pi) + z**2).sum(2)
        log_q = -0.5 * (np.log(2 * np.pi * s**2) + eta**2).sum(2)
        return join(q * log_q - prior * log_prior - p * log_p)

    return answer


def score_changed(s=lambda log_s: np.exp(log_s), dlog_s=lambda u: u**2 - 1, factor=1.0):
    def answer(z, m, log_s):
        width = s(log_s)
        u = (z - m) / width
        return (u / width).mean(0), factor * dlog_s(u).mean(0)

    return answer


WRONG = {
    "06-1": {
        "log p(z), whose sign": q_changed(prior=-1.0),
        "log p(x|z), which is missing": q_changed(p=0.0),
        "multiplied by √s": q_changed(power=0.5),
        "before the logarithm": q_changed(join=lambda c: -np.log(np.exp(-c).mean(0))),
        "without its minus sign": q_of_the_slide,
        "1/S is missing": q_summed,
        "KL in closed form": q_with_analytic_kl,
        "mean over the D variables": q_with_pixel_mean,
        "log p(z) is missing": q_of_likelihood,
        "log q is missing": q_of_joint,
        "yours that of η": q_of_noise,
        "s², a variance": q_of_variances,
        "N = 6 is gone": q_one_number,
    },
    "06-2": {
        "log s is taken for a log variance": score_changed(lambda log_s: np.exp(log_s / 2), factor=0.5),
        "as if it were s": score_changed(lambda log_s: log_s),
        "½ u² where u²": score_changed(dlog_s=lambda u: u**2 / 2 - 1),
        "the −1 alone": score_changed(dlog_s=lambda u: 0 * u - 1),
        "dm lacks one of its two s": naive_one_s,
        "the derivative in s": naive_in_s,
        "lacks the −1 that comes": naive_no_norm,
        "if z moved with φ": naive_moving,
        "1/S is missing": naive_sum,
        "gradient of −log q": naive_other_sign,
        "zero is its expectation": naive_zero,
    },
    "06-3": {
        "the other samples' costs": lambda z, m, log_s, c: score(
            z, m, log_s, c - (c.sum(0) - c) / (len(c) - 1)
        ),
        "without the sample's own": lambda z, m, log_s, c: score(z, m, log_s, c - c.mean(0)),
        "the score alone": score_alone,
        "not the product of the means": score_of_means,
        "the gradient of −Q": score_up,
        "the derivative in s": score_in_s,
        "dm lacks one of its two s": score_one_s,
        "has lost its cost": score_no_one,
        "1/S is missing": score_sum,
    },
    "06-4": {
        "the mean of the other data cases": lambda c: c - (c.sum(1, keepdims=True) - c) / (c.shape[1] - 1),
        "one mean over everything": lambda c: c - c.mean(),
        "a bracket is missing": lambda c: c - c.sum(0) - c / (len(c) - 1),
        "has c itself in it": baseline_of_all,
        "runs over the data cases": baseline_over_cases,
        "this is the baseline": baseline_alone,
        "the others are summed": baseline_sum,
        "divided by S": baseline_by_s,
        "the baseline is added": baseline_added,
        "the sign is turned": baseline_other_sign,
    },
    "06-5": {
        "log_s stands in dlog_s": lambda m, log_s, eta, dz: (dz.sum(0), (dz * eta).sum(0) * log_s),
        "summed apart": lambda m, log_s, eta, dz: (dz.sum(0), dz.sum(0) * eta.sum(0) * np.exp(log_s)),
        "z in the place of s η": lambda m, log_s, eta, dz: (
            dz.sum(0), (dz * (m + np.exp(log_s) * eta)).sum(0)
        ),
        "lacks the factor s": through_no_s,
        "s² where s belongs": through_s2,
        "η is missing": through_no_eta,
        "a mean over the samples": through_mean,
        "½ of a log variance": through_half,
        "the derivative in η": through_eta_in_m,
        "is still there": through_keepdims,
        "redrew the noise": through_fresh_noise,
    },
    "06-6": {
        "ψ is left out": lambda x, W, b, psi, *rest: whole(x, W, b, np.ones(len(psi)), *rest),
        "b is left out": lambda x, W, b, *rest: whole(x, W, 0 * b, *rest),
        "z stands still": whole_frozen,
        "the KL, which is missing": whole_no_kl,
        "the sign of the KL": whole_kl_turned,
        "but for 1/S": whole_sum,
        "the derivative in s": whole_in_s,
        "gradient of the mean over the data cases": whole_mean,
        "factor s": whole_lost_s,
        "reconstruction term, which has its sign turned": whole_likelihood_turned,
        "lacks the −1 of s² − 1": whole_no_one,
    },
    "06-7": {
        "the first M data cases are used": lambda x, W, b, psi, z, rows: batch(
            x, W, b, psi, z, np.arange(len(rows))
        ),
        "N/M is in it twice": lambda x, W, b, psi, z, rows: batch(x, W, b, psi, z, rows) * len(x) / len(rows),
        "gradient of M data cases": batch_sum,
        "the mean over the batch": batch_mean,
        "M/N stands where": batch_inverse,
        "all N data cases are in it": batch_all,
        "gradient of +log p": batch_up,
        "not divided by ψ": batch_no_psi,
        "it is transposed": batch_transposed,
    },
    "06-8": {
        "β₁ and β₂ are exchanged": lambda p, g, m, v, t, a, b1, b2, e: adam(p, g, m, v, t, a, b2, b1, e),
        "is left out beside the root": lambda *given: adam(*given[:-1], 0.0),
        "the order p, m, v": lambda *given: adam(*given)[::2] + adam(*given)[1:2],
        "their bias towards 0": adam_biased,
        "only m is corrected": adam_v_biased,
        "only v is corrected": adam_m_biased,
        "inside the root": adam_inside,
        "the root of v̂ is missing": adam_no_root,
        "uphill": adam_uphill,
        "step t − 1": adam_late,
        "corrected m and v are handed back": adam_kept,
        "the m and v before them": adam_step_first,
        "one of g²": adam_v_of_g,
        "in place": adam_in_place,
    },
    "06-9": {
        "not that the forward is right": SEEN | {"gradient check": "fails"},
        "of course it falls": SEEN | {"falling Q": "fails"},
        "which no bound can": SEEN | {"Q against nlml": "passes"},
        "should be one number": SEEN | {"moments of z": "passes"},
        "nothing is chosen for moments of z": {name: word for name, word in SEEN.items() if name[0] != "m"},
        "is none of the words": SEEN | {"falling Q": "yes"},
    },
}
RIGHT = {
    "06-1": [q_sampled, q_by_loops, q_by_einsum, q_by_scipy, q_by_posterior, q_over_flat_rows],
    "06-2": [naive, naive_by_loop, naive_by_moments, naive_by_einsum, naive_as_list, naive_by_deviation],
    "06-3": [score, score_by_loop, score_by_einsum, score_by_covariance, score_transposed, score_by_weights],
    "06-4": [baseline, baseline_scaled, baseline_by_loop, baseline_by_matrix, baseline_by_masks,
             baseline_by_rolls],
    "06-5": [through, through_z, through_einsum, through_loop, through_ds, through_jacobian],
    "06-6": [whole, whole_by_loop, whole_by_moments, whole_by_einsum, whole_by_sampled_parts, whole_in_rows],
    "06-7": [batch, batch_by_loop, batch_by_weights, batch_by_einsum, batch_by_mean, batch_by_selection],
    "06-8": [adam, adam_by_loop, adam_joined_rate, adam_by_powers, adam_as_list, adam_by_expm1],
    "06-9": [SEEN, dict(reversed(SEEN.items()))],
}
