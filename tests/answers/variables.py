"""Answers to the exercises of notebook 09, other variables and missing data."""

import numpy as np
from scipy import special, stats


# ---- 09-1: the log likelihood of bits -----------------------------------------------------------


def naive(f, x):
    p = 1 / (1 + np.exp(-f))
    return np.sum(x * np.log(p) + (1 - x) * np.log(1 - p), axis=2)


def mean_over_pixels(f, x):
    return np.mean(x * f - np.maximum(f, 0) - np.log1p(np.exp(-np.abs(f))), axis=-1)


def loss(f, x):
    return np.sum(np.logaddexp(0, f) - x * f, axis=-1)


def minus_f(f, x):
    return np.sum(x * f - np.log1p(np.exp(-np.abs(f))) - np.maximum(-f, 0), axis=2)


def ones_only(f, x):
    return -np.sum(np.where(x == 1, np.logaddexp(0, -f), 0), axis=2)


def plus(f, x):
    return np.sum(x * f + np.logaddexp(0, f), axis=-1)


def log_of_zero(f, x):
    with np.errstate(divide="ignore"):
        return np.sum(np.log(np.where(x == 1, special.expit(f), 1 - special.expit(f))), axis=-1)


def in_bits(f, x):
    return np.sum(x * f - np.logaddexp(0, f), axis=-1) / np.log(2)


def swapped(f, x):
    return ((1 - x) * f - np.logaddexp(0, f)).sum(-1)


def over_the_samples(f, x):
    return np.sum(x * f - np.logaddexp(0, f), axis=0)


def by_where(f, x):
    return np.where(x == 1, -np.logaddexp(0, -f), -np.logaddexp(0, f)).sum(axis=2)


def by_the_margin(f, x):
    margin = (2 * x - 1) * f
    return -np.sum(np.maximum(-margin, 0) + np.log1p(np.exp(-np.abs(margin))), axis=-1)


def bit_by_bit(f, x):
    total = np.zeros(f.shape[:2])
    for s in range(f.shape[0]):
        for n in range(f.shape[1]):
            for d in range(f.shape[2]):
                total[s, n] += x[n, d] * f[s, n, d] - special.softplus(f[s, n, d])
    return total


def by_log_sigmoids(f, x):
    return np.sum(x * special.log_expit(f) + (1 - x) * special.log_expit(-f), axis=-1)


def by_einsum(f, x):
    return np.einsum("snd,nd->sn", f, x) - np.einsum("snd->sn", np.logaddexp(f, 0))


# ---- 09-2: its gradient -------------------------------------------------------------------------


def sigma(f):
    return 1 / (1 + np.exp(-f))


def all_ones(f, x, dlog_p):
    return x[None] - sigma(f)


def squared_error(f, x, dlog_p):
    p = sigma(f)
    return dlog_p[..., None] * (x - p) * p * (1 - p)


def gaussian_residual(f, x, dlog_p):
    return (x - f) * dlog_p[..., None]


def of_the_loss(f, x, dlog_p):
    return (sigma(f) - x) * dlog_p[..., None]


def first_term_only(f, x, dlog_p):
    return np.broadcast_to(x, f.shape) * dlog_p[..., None]


def over_samples(f, x, dlog_p):
    return np.sum(dlog_p[..., None] * (x - sigma(f)), axis=0)


def divided_by_pixels(f, x, dlog_p):
    return dlog_p[..., None] * (x - sigma(f)) / x.shape[-1]


def divided_by_samples(f, x, dlog_p):
    return dlog_p[..., None] * (x - sigma(f)) / len(f)


def df_by_tanh(f, x, dlog_p):
    return dlog_p[:, :, None] * (x - 0.5 - 0.5 * np.tanh(f / 2))


def df_by_cases(f, x, dlog_p):
    df = np.empty(f.shape)
    for s in range(len(f)):
        for n in range(len(x)):
            df[s, n] = dlog_p[s, n] * (x[n] - special.expit(f[s, n]))
    return df


def df_by_einsum(f, x, dlog_p):
    return np.einsum("sn,snd->snd", dlog_p, x - special.expit(f))


def df_by_where(f, x, dlog_p):
    return dlog_p[..., np.newaxis] * np.where(x > 0.5, special.expit(-f), -special.expit(f))


def df_by_two_terms(f, x, dlog_p):
    p, d = sigma(f), dlog_p[..., None]
    return d * x * (1 - p) - d * (1 - x) * p


# ---- 09-3: counts -------------------------------------------------------------------------------


def no_factorial(f, x):
    return {"log_p": np.sum(x * f - np.exp(f), axis=1), "df": x - np.exp(f)}


def gamma_of_x(f, x):
    own = special.gammaln(np.where(x > 0, x, 0.5))
    return {"log_p": np.sum(x * f - np.exp(f) - own, axis=1), "df": x - np.exp(f)}


def by_the_rate(f, x):
    return {"log_p": stats.poisson.logpmf(x, np.exp(f)).sum(1), "df": x / np.exp(f) - 1}


def rate_minus_count(f, x):
    return {"log_p": stats.poisson.logpmf(x, np.exp(f)).sum(1), "df": np.exp(f) - x}


def like_a_gaussian(f, x):
    return {"log_p": stats.poisson.logpmf(x, np.exp(f)).sum(1), "df": x - f}


def counts_meaned(f, x):
    return {"log_p": stats.poisson.logpmf(x, np.exp(f)).mean(1), "df": x - np.exp(f)}


def counts_summed(f, x):
    return {"log_p": stats.poisson.logpmf(x, np.exp(f)).sum(), "df": x - np.exp(f)}


def counts_by_scipy(f, x):
    return {"log_p": stats.poisson.logpmf(x, np.exp(f)).sum(axis=1), "df": x - np.exp(f)}


def counts_by_loops(f, x):
    log_p, df = np.zeros(len(x)), np.zeros(x.shape)
    for n, d in np.ndindex(x.shape):
        log_x = sum(np.log(k) for k in range(1, int(x[n, d]) + 1))
        log_p[n] += x[n, d] * f[n, d] - np.exp(f[n, d]) - log_x
        df[n, d] = x[n, d] - np.exp(f[n, d])
    return {"log_p": log_p, "df": df}


def counts_by_peaks(f, x):
    rate = np.exp(f)
    terms = special.xlogy(x, rate) - rate - special.loggamma(x + 1)
    return {"log_p": terms.sum(-1), "df": rate * (x / rate - 1)}


def counts_by_einsum(f, x):
    own = special.gammaln(x + 1).sum(axis=1)
    return {"df": -(np.exp(f) - x), "log_p": np.einsum("nd,nd->n", x, f) - np.exp(f).sum(axis=1) - own}


def counts_by_beta(f, x):
    terms = np.log(np.exp(-np.exp(f) / 2)) * 2 + x * f - special.gammaln(x + 1.0)
    return {"log_p": terms @ np.ones(x.shape[1]), "df": np.subtract(x, np.exp(f))}


# ---- 09-4: categories ---------------------------------------------------------------------------


def log_pi(f):
    shifted = f - f.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def overflowing(f, x):
    pi = np.exp(f) / np.exp(f).sum(axis=1, keepdims=True)
    return {"log_p": np.sum(x * np.log(pi), axis=1), "df": x - pi}


def diagonal_alone(f, x):
    pi = np.exp(log_pi(f))
    return {"log_p": np.sum(x * log_pi(f), axis=1), "df": x * (1 - pi)}


def seeded_with_ones(f, x):
    pi = np.exp(log_pi(f))
    return {"log_p": np.sum(x * log_pi(f), axis=1), "df": pi * (1 - pi.sum(axis=1, keepdims=True).round(9))}


def wrong_axis(f, x):
    shifted = f - f.max(axis=0)
    logs = shifted - np.log(np.exp(shifted).sum(axis=0))
    return {"log_p": np.sum(x * logs, axis=1), "df": x - np.exp(logs)}


def no_axis(f, x):
    return {"log_p": np.sum(x * special.log_softmax(f), axis=1), "df": x - special.softmax(f)}


def all_categories(f, x):
    return {"log_p": np.sum(log_pi(f), axis=1), "df": x - np.exp(log_pi(f))}


def as_bits(f, x):
    return {"log_p": np.sum(x * f - np.logaddexp(0, f), axis=1), "df": x - special.expit(f)}


def minus_logits(f, x):
    return {"log_p": np.sum(x * log_pi(f), axis=1), "df": x - f}


def cross_entropy(f, x):
    return {"log_p": np.sum(x * log_pi(f), axis=1), "df": np.exp(log_pi(f)) - x}


def mean_of_categories(f, x):
    return {"log_p": np.mean(x * log_pi(f), axis=1), "df": x - np.exp(log_pi(f))}


def by_logsumexp(f, x):
    log_p = (x * f).sum(axis=1) - special.logsumexp(f, axis=1)
    return {"log_p": log_p, "df": x - special.softmax(f, axis=1)}


def by_place(f, x):
    seen = np.argmax(x, axis=1)
    logs = special.log_softmax(f, axis=1)
    df = -np.exp(logs)
    df[np.arange(len(x)), seen] += 1
    return {"log_p": logs[np.arange(len(x)), seen], "df": df}


def by_the_jacobian(f, x):
    logs = log_pi(f)
    df = np.stack([row @ (np.eye(len(row)) - np.exp(log)[None, :]) for row, log in zip(x, logs)])
    return {"log_p": np.einsum("nd,nd->n", x, logs), "df": df}


def by_differences(f, x):
    # log p = −log Σ_j exp(f_j − f_seen)
    own = np.sum(x * f, axis=1, keepdims=True)
    pi = np.exp(f - special.logsumexp(f, axis=1)[:, None])
    return {"log_p": -special.logsumexp(f - own, axis=1), "df": x - pi}


def by_rows(f, x):
    log_p, df = [], []
    for row, seen in zip(f, x):
        top = row.max()
        total = sum(np.exp(value - top) for value in row)
        log_p.append(float(row @ seen) - top - np.log(total))
        df.append(seen - np.exp(row - top) / total)
    return {"log_p": np.array(log_p), "df": np.array(df)}


# ---- 09-5: gross errors -------------------------------------------------------------------------


def psi_squared(x, f, psi, dof):
    w = (dof + 1) / (dof + ((x - f) / psi) ** 2)
    return {"weight": w, "psi": np.mean(w * (x - f) ** 2, axis=0)}


def unscaled(x, f, psi, dof):
    w = (dof + 1) / (dof + (x - f) ** 2)
    return {"weight": w, "psi": np.mean(w * (x - f) ** 2, axis=0)}


def not_squared(x, f, psi, dof):
    w = (dof + 1) / (dof + (x - f) / psi)
    return {"weight": w, "psi": np.mean(w * (x - f) ** 2, axis=0)}


def in_units_of_psi(x, f, psi, dof):
    u2 = (x - f) ** 2 / psi
    w = (dof + 1) / (dof + u2)
    return {"weight": w, "psi": np.mean(w * u2, axis=0)}


def dof_alone(x, f, psi, dof):
    w = 1 / (1 + (x - f) ** 2 / (psi * dof))
    return {"weight": w, "psi": np.mean(w * (x - f) ** 2, axis=0)}


def weighted_average(x, f, psi, dof):
    w = (dof + 1) / (dof + (x - f) ** 2 / psi)
    return {"weight": w, "psi": np.average((x - f) ** 2, axis=0, weights=w)}


def plain_square(x, f, psi, dof):
    w = (dof + 1) / (dof + (x - f) ** 2 / psi)
    return {"weight": w, "psi": np.mean((x - f) ** 2, axis=0)}


def psi_summed(x, f, psi, dof):
    w = (dof + 1) / (dof + (x - f) ** 2 / psi)
    return {"weight": w, "psi": np.sum(w * (x - f) ** 2, axis=0)}


def psi_as_sd(x, f, psi, dof):
    w = (dof + 1) / (dof + (x - f) ** 2 / psi)
    return {"weight": w, "psi": np.sqrt(np.mean(w * (x - f) ** 2, axis=0))}


def student_by_loops(x, f, psi, dof):
    weight, new = np.zeros(x.shape), np.zeros(len(psi))
    for n, d in np.ndindex(x.shape):
        r2 = (x[n, d] - f[n, d]) ** 2
        weight[n, d] = (dof + 1) * psi[d] / (dof * psi[d] + r2)
        new[d] += weight[n, d] * r2 / len(x)
    return {"weight": weight, "psi": new}


def student_by_standard_units(x, f, psi, dof):
    u2 = (x - f) ** 2 / psi
    w = (1 + dof) / (u2 + dof)
    return {"weight": w, "psi": psi * np.mean(w * u2, axis=0)}


def student_by_einsum(x, f, psi, dof):
    r = x - f
    w = (1 + 1 / dof) / (1 + np.square(r / np.sqrt(psi)) / dof)
    return {"psi": np.einsum("nd,nd,nd->d", w, r, r) / len(r), "weight": w}


def student_by_gamma(x, f, psi, dof):
    # the mean of the gamma posterior of a precision
    shape, rate = (dof + 1) / 2, (dof + (f - x) ** 2 / psi) / 2
    w = shape / rate
    return {"weight": w, "psi": np.diag((w * (x - f)).T @ (x - f)) / x.shape[0]}


def student_by_average(x, f, psi, dof):
    w = (dof + 1) / (dof + (x - f) ** 2 / psi)
    return {"weight": w, "psi": np.average(w * (x - f) ** 2, axis=0)}


# ---- 09-6: the observed part of a density -------------------------------------------------------


def mean_of_seen(x, f, psi):
    log_p = [np.mean(stats.norm.logpdf(row[~np.isnan(row)], mean[~np.isnan(row)], psi[~np.isnan(row)] ** 0.5))
             if not np.isnan(row).all() else 0.0 for row, mean in zip(x, f)]
    return np.array(log_p)


def residual_alone(x, f, psi):
    r = np.nan_to_num(x - f)
    return -0.5 * np.sum(r**2 / psi + np.log(2 * np.pi * psi), axis=1)


def zero_for_nan(x, f, psi):
    return np.sum(stats.norm.logpdf(np.nan_to_num(x), f, np.sqrt(psi)), axis=1)


def complete_cases(x, f, psi):
    total = np.zeros(len(x))
    for n in range(len(x)):
        if not np.isnan(x[n]).any():
            total[n] = stats.norm.logpdf(x[n], f[n], np.sqrt(psi)).sum()
    return total


def no_constant(x, f, psi):
    return -0.5 * np.nansum((x - f) ** 2 / psi + np.log(psi), axis=1) * 1.0


def psi_as_scale(x, f, psi):
    return np.nansum(stats.norm.logpdf(x, f, psi), axis=1)


def all_scales(x, f, psi):
    seen = (~np.isnan(x)).sum(axis=1)
    squares = np.nansum((x - f) ** 2 / psi, axis=1)
    return -0.5 * (squares + seen * np.log(2 * np.pi) + np.sum(np.log(psi)))


def whole_constant(x, f, psi):
    return np.nansum(-0.5 * (x - f) ** 2 / psi - 0.5 * np.log(psi) - np.log(2 * np.pi), axis=1)


def nan_all_over(x, f, psi):
    return np.sum(stats.norm.logpdf(x, f, np.sqrt(psi)), axis=1)


def as_a_loss(x, f, psi):
    return -np.nansum(stats.norm.logpdf(x, f, np.sqrt(psi)), axis=1)


def rescaled_to_all(x, f, psi):
    terms = stats.norm.logpdf(x, f, np.sqrt(psi))
    seen = np.maximum((~np.isnan(x)).sum(axis=1), 1)
    return np.nansum(terms, axis=1) * x.shape[1] / seen


def by_nansum(x, f, psi):
    return np.nansum(stats.norm.logpdf(x, loc=f, scale=np.sqrt(psi)), axis=1)


def by_mask(x, f, psi):
    o = ~np.isnan(x)
    r = np.where(o, x, f) - f
    return -0.5 * ((r**2 / psi).sum(axis=1) + o @ np.log(2 * np.pi * psi))


def by_shorter_vectors(x, f, psi):
    log_p = np.zeros(len(x))
    for n, row in enumerate(x):
        o = np.isfinite(row)
        if o.any():
            log_p[n] = stats.multivariate_normal.logpdf(row[o], f[n, o], np.diag(psi[o]))
    return log_p


def by_where_after(x, f, psi):
    terms = -((x - f) ** 2) / (2 * psi) - np.log(psi) / 2 - np.log(2 * np.pi) / 2
    return np.where(np.isnan(terms), 0, terms).sum(axis=-1)


def by_steps(x, f, psi):
    total = np.zeros(len(x))
    for n in range(x.shape[0]):
        for d in range(x.shape[1]):
            if x[n, d] == x[n, d]:
                u = (x[n, d] - f[n, d]) / psi[d] ** 0.5
                total[n] -= 0.5 * u * u + 0.5 * np.log(2 * np.pi * psi[d])
    return total


# ---- 09-7: filling the holes --------------------------------------------------------------------


def all_precisions_alike(x, W, b, psi):
    M = np.eye(len(W)) + (W / psi) @ W.T
    m = np.nan_to_num(x - b) / psi @ W.T @ np.linalg.inv(M)
    return {"mean": m, "x": np.where(np.isnan(x), m @ W + b, x)}


def holes_are_zero(x, W, b, psi):
    M = np.eye(len(W)) + np.einsum("kd,nd,jd->nkj", W / psi, ~np.isnan(x), W)
    m = np.linalg.solve(M, ((np.nan_to_num(x) - b) / psi @ W.T)[..., None])[..., 0]
    return {"mean": m, "x": np.where(np.isnan(x), m @ W + b, x)}


def case_by_case(x, W, b, psi, ridge, shift):
    m = np.zeros((len(x), len(W)))
    for n, row in enumerate(x):
        o = ~np.isnan(row)
        V = W[:, o] / psi[o]
        m[n] = np.linalg.pinv(ridge * np.eye(len(W)) + V @ W[:, o].T) @ V @ (row - shift)[o]
    return m


def zeros_everywhere(x, W, b, psi):
    y = np.nan_to_num(x)
    m = (y - b) / psi @ W.T @ np.linalg.inv(np.eye(len(W)) + (W / psi) @ W.T)
    return {"mean": m, "x": np.where(np.isnan(x), m @ W + b, x)}


def not_centred(x, W, b, psi):
    m = case_by_case(x, W, b, psi, 1, 0 * b)
    return {"mean": m, "x": np.where(np.isnan(x), m @ W + b, x)}


def least_squares(x, W, b, psi):
    m = case_by_case(x, W, b, psi, 0, b)
    return {"mean": m, "x": np.where(np.isnan(x), m @ W + b, x)}


def unweighted(x, W, b, psi):
    m = case_by_case(x, W, b, np.ones(len(psi)), 1, b)
    return {"mean": m, "x": np.where(np.isnan(x), m @ W + b, x)}


def reconstructed(x, W, b, psi):
    m = case_by_case(x, W, b, psi, 1, b)
    return {"mean": m, "x": m @ W + b}


def no_bias(x, W, b, psi):
    m = case_by_case(x, W, b, psi, 1, b)
    return {"mean": m, "x": np.where(np.isnan(x), m @ W, x)}


def filled_with_means(x, W, b, psi):
    m = case_by_case(x, W, b, psi, 1, b)
    return {"mean": m, "x": np.where(np.isnan(x), b, x)}


def still_nan(x, W, b, psi):
    M = np.eye(len(W)) + (W / psi) @ W.T
    m = (x - b) / psi @ W.T @ np.linalg.inv(M)
    return {"mean": m, "x": np.where(np.isnan(x), m @ W + b, x)}


def by_loops(x, W, b, psi):
    m = case_by_case(x, W, b, psi, 1, b)
    return {"mean": m, "x": np.where(np.isnan(x), b + m @ W, x)}


def by_masked_einsum(x, W, b, psi):
    o = (~np.isnan(x)) * 1.0
    r = np.nan_to_num(x - b)
    M = np.eye(len(W)) + np.einsum("kd,jd,nd->nkj", W, W, o / psi)
    m = np.einsum("nkj,nj->nk", np.linalg.inv(M), (r / psi) @ W.T)
    filled = x.copy()
    holes = np.isnan(x)
    filled[holes] = (m @ W + b)[holes]
    return {"mean": m, "x": filled}


def by_endless_noise(x, W, b, psi):
    # a column that was not seen is one with endless noise
    m = np.zeros((len(x), len(W)))
    for n in range(len(x)):
        noise = np.where(np.isnan(x[n]), np.inf, psi)
        A = W / noise
        m[n] = np.linalg.solve(A @ W.T + np.identity(len(W)), A @ np.nan_to_num(x[n] - b))
    return {"x": np.where(np.isnan(x), m @ W + b, x), "mean": m}


def by_regression(x, W, b, psi):
    # ridge regression of the seen deviations on the columns of W
    m = []
    for row in x:
        o = ~np.isnan(row)
        A = np.vstack([(W[:, o] / np.sqrt(psi[o])).T, np.eye(len(W))])
        y = np.concatenate([(row[o] - b[o]) / np.sqrt(psi[o]), np.zeros(len(W))])
        m.append(np.linalg.lstsq(A, y, rcond=None)[0])
    m = np.array(m)
    return {"mean": m, "x": np.where(np.isnan(x), m @ W + b, x)}


def by_one_column_after_another(x, W, b, psi):
    # z ~ N(0, I), and each seen entry corrects it, as a Kalman filter does
    means = []
    for row in x:
        m, C = np.zeros(len(W)), np.eye(len(W))
        for d in np.flatnonzero(~np.isnan(row)):
            gain = C @ W[:, d] / (W[:, d] @ C @ W[:, d] + psi[d])
            m = m + gain * (row[d] - b[d] - m @ W[:, d])
            C = C - np.outer(gain, W[:, d] @ C)
        means.append(m)
    means = np.array(means)
    return {"mean": means, "x": np.where(np.isnan(x), b + means @ W, x)}


# ---- what a student hands in ------------------------------------------------------------------


def poisson_changed(log_p=None, df=None):
    def answer(f, x):
        rate = np.exp(f)
        value = x * f - rate - special.gammaln(x + 1) if log_p is None else log_p(f, x)
        return {"log_p": value.sum(1), "df": x - rate if df is None else df(f, x)}

    return answer


def student_whole_case(x, f, psi, dof):
    u2 = ((x - f) ** 2 / psi).sum(1, keepdims=True)
    weight = (dof + x.shape[1]) / (dof + u2) * np.ones(x.shape)
    return {"weight": weight, "psi": (weight * (x - f) ** 2).mean(0)}


def seen_terms(terms):
    return lambda x, f, psi: np.where(np.isnan(x), 0.0, terms(x, f, psi)).sum(1)


WRONG = {
    "09-1": {
        "f is a logit and not": lambda f, x: np.sum(x * np.log(f) + (1 - x) * np.log(1 - f), axis=2),
        "log(1 + exp(f)), which is missing": lambda f, x: np.sum(x * f, axis=2),
        "exp(f) overflows": lambda f, x: np.sum(x * f - np.log(1 + np.exp(f)), axis=2),
        "is a log of 0": naive,
        "the mean over the D pixels": mean_over_pixels,
        "the minus belongs to Q": loss,
        "log(1 + exp(−f)) stands where": minus_f,
        "only pixels that are 1": ones_only,
        "zeros and ones are exchanged": swapped,
        "is added; it is the price": plus,
        "look for a log of 0": log_of_zero,
        "bits stand where nats belong": in_bits,
        "shape": over_the_samples,
    },
    "09-2": {
        "for f it is p (1 − p) times": lambda f, x, w: w[..., None] * (
            x * (1 + np.exp(-f)) - (1 - x) * (1 + np.exp(f))
        ),
        "−1/S is written in": lambda f, x, w: (1 / (1 + np.exp(-f)) - x) / len(f),
        "summed over the samples: each": lambda f, x, w: w.sum(0)[:, None] * (x - 1 / (1 + np.exp(-f))),
        "dlog_p, which is left out": all_ones,
        "belongs to a squared error": squared_error,
        "x − f is the residual of a Gaussian": gaussian_residual,
        "is the gradient of −log p": of_the_loss,
        "x alone is left": first_term_only,
        "it has shape": over_samples,
        "1/(D = ": divided_by_pixels,
        "1/(S = ": divided_by_samples,
    },
    "09-3": {
        "right except for log_p: the rate exp(f), whose sign": poisson_changed(
            lambda f, x: x * f + np.exp(f) - special.gammaln(x + 1)
        ),
        "f is taken off where its exp": poisson_changed(lambda f, x: x * f - f - special.gammaln(x + 1)),
        "a first guess of log x!": poisson_changed(lambda f, x: x * f - np.exp(f) - special.xlogy(x, x) + x),
        "has no λ in front": poisson_changed(df=lambda f, x: (x - np.exp(f)) * np.exp(f)),
        "log x! is left out": no_factorial,
        "log (x − 1)! stands": gamma_of_x,
        "x/λ − 1 is the derivative": by_the_rate,
        "df, which is that of −log p": rate_minus_count,
        "x − f is a Gaussian's": like_a_gaussian,
        "D = ": counts_meaned,
        "shape": counts_summed,
    },
    "09-4": {
        "exp of a large logit overflows": overflowing,
        "is for the logit of the category that was seen": diagonal_alone,
        "the slope of Σ_j π_j": seeded_with_ones,
        "the softmax goes over the data cases": wrong_axis,
        "over all of f at once": no_axis,
        "log π of all categories": all_categories,
        "D bits with a σ each": as_bits,
        "x less the logits": minus_logits,
        "df, which is that of −log p": cross_entropy,
        "D = ": mean_of_categories,
    },
    "09-5": {
        "ψ multiplies where": lambda x, f, psi, dof: student_by_einsum(x, f, 1 / psi, dof),
        "the weights are those under the new psi": lambda x, f, psi, dof: (
            student_by_einsum(x, f, psi, dof)
            | {"weight": student_by_einsum(x, f, student_by_einsum(x, f, psi, dof)["psi"], dof)["weight"]}
        ),
        "that of Student's t in D dimensions": student_whole_case,
        "you divide by ψ²": psi_squared,
        "the residual is not divided by ψ": unscaled,
        "the residual is not squared": not_squared,
        "in units of the old psi": in_units_of_psi,
        "dof stands where dof + 1 belongs": dof_alone,
        "divided by the sum of the weights": weighted_average,
        "the squares are not weighted": plain_square,
        "it sums over the cases": psi_summed,
        "this is its root": psi_as_sd,
    },
    "09-6": {
        "log ψ, which is missing": seen_terms(
            lambda x, f, psi: -0.5 * ((x - f) ** 2 / psi + np.log(2 * np.pi))
        ),
        "not divided by ψ": seen_terms(lambda x, f, psi: -0.5 * ((x - f) ** 2 + np.log(2 * np.pi * psi))),
        "filled with their columns' means first": lambda x, f, psi: stats.norm.logpdf(
            np.where(np.isnan(x), np.nanmean(x, 0), x), f, np.sqrt(psi)
        ).sum(1),
        "the mean over the observed entries": mean_of_seen,
        "still paid for entries that nobody saw": residual_alone,
        "a hole is taken for the value 0": zero_for_nan,
        "dropped altogether": complete_cases,
        "½ log 2π is left out": no_constant,
        "you divide by its square": psi_as_scale,
        "NaN and anything make NaN": nan_all_over,
        "its sign turned": as_a_loss,
        "½ log ψ is still paid": all_scales,
        "log 2π stands where ½": whole_constant,
    },
    "09-7": {
        "the precision is that of a complete case": all_precisions_alike,
        "a hole is taken for the value 0": zeros_everywhere,
        "not 0 − b": holes_are_zero,
        "b is not taken off x": not_centred,
        "M lacks the 1 of the prior": least_squares,
        "Ψ is left out": unweighted,
        "seen entries are replaced too": reconstructed,
        "b is missing in what is filled in": no_bias,
        "the holes have their columns' means": filled_with_means,
        "NaN and anything make NaN": still_nan,
    },
}

RIGHT = {
    "09-1": [by_where, by_the_margin, bit_by_bit, by_log_sigmoids, by_einsum],
    "09-2": [df_by_tanh, df_by_cases, df_by_einsum, df_by_where, df_by_two_terms],
    "09-3": [counts_by_scipy, counts_by_loops, counts_by_peaks, counts_by_einsum, counts_by_beta],
    "09-4": [by_logsumexp, by_place, by_the_jacobian, by_differences, by_rows],
    "09-5": [student_by_loops, student_by_standard_units, student_by_einsum, student_by_gamma,
              student_by_average],
    "09-6": [by_nansum, by_mask, by_shorter_vectors, by_where_after, by_steps],
    "09-7": [by_loops, by_masked_einsum, by_endless_noise, by_regression, by_one_column_after_another],
}
