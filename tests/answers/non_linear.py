"""Answers to the exercises of notebook 03, non-linear factor analysis."""

import math

import numpy as np
from scipy import integrate, special, stats


def network(z, W1, b1, W2, b2):
    return np.tanh(z @ W1 + b1) @ W2 + b2


def normal(x, mean, variance):
    """log N(x; mean, variance), entry by entry."""
    return -((x - mean) ** 2) / (2 * variance) - 0.5 * np.log(2 * np.pi * variance)


# ---- 03-1 -------------------------------------------------------------------------------------


def joint_without_constants(x, z, W1, b1, W2, b2, log_psi):
    r = x - network(z, W1, b1, W2, b2)
    return -0.5 * (r**2 / np.exp(log_psi) + log_psi).sum(-1) - 0.5 * (z**2).sum(-1)


def joint_without_likelihood_constant(x, z, W1, b1, W2, b2, log_psi):
    K = z.shape[-1]
    return joint_without_constants(x, z, W1, b1, W2, b2, log_psi) - K / 2 * math.log(2 * math.pi)


def joint_with_standard_deviations(x, z, W1, b1, W2, b2, log_psi):
    sd = np.exp(log_psi)
    return stats.norm.logpdf(x, network(z, W1, b1, W2, b2), sd).sum(-1) + stats.norm.logpdf(z).sum(-1)


def joint_without_determinant(x, z, W1, b1, W2, b2, log_psi):
    r, D, K = x - network(z, W1, b1, W2, b2), x.shape[1], z.shape[2]
    return -0.5 * ((r**2 / np.exp(log_psi)).sum(-1) + (z**2).sum(-1) + (D + K) * np.log(2 * np.pi))


def joint_by_means(x, z, W1, b1, W2, b2, log_psi):
    log_lik = normal(x, network(z, W1, b1, W2, b2), np.exp(log_psi)).mean(-1)
    return log_lik + stats.norm.logpdf(z).sum(-1)


def joint_by_means_alone(x, z, W1, b1, W2, b2, log_psi):
    log_lik = normal(x, network(z, W1, b1, W2, b2), np.exp(log_psi))
    return np.mean(log_lik, axis=-1) + np.mean(normal(z, 0.0, 1.0), axis=-1)


def joint_with_mean_of_prior(x, z, W1, b1, W2, b2, log_psi):
    log_lik = normal(x, network(z, W1, b1, W2, b2), np.exp(log_psi)).sum(2)
    return log_lik + normal(z, 0.0, 1.0).mean(2)


def joint_of_squares(x, z, W1, b1, W2, b2, log_psi):
    return -((x - network(z, W1, b1, W2, b2)) ** 2).sum(-1) / 2 - (z * z).sum(-1) / 2


def joint_without_b2(x, z, W1, b1, W2, b2, log_psi):
    return normal(x, np.tanh(z @ W1 + b1) @ W2, np.exp(log_psi)).sum(-1) + normal(z, 0.0, 1.0).sum(-1)


def joint_without_b1(x, z, W1, b1, W2, b2, log_psi):
    return normal(x, np.tanh(z @ W1) @ W2 + b2, np.exp(log_psi)).sum(-1) + normal(z, 0.0, 1.0).sum(-1)


def likelihood_alone(x, z, W1, b1, W2, b2, log_psi):
    return normal(x, network(z, W1, b1, W2, b2), np.exp(log_psi)).sum(-1)


def joint_of_a_straight_decoder(x, z, W1, b1, W2, b2, log_psi):
    f = (z @ W1 + b1) @ W2 + b2
    return normal(x, f, np.exp(log_psi)).sum(-1) + normal(z, 0.0, 1.0).sum(-1)


def negative_joint(x, z, W1, b1, W2, b2, log_psi):
    return -joint_by_scipy(x, z, W1, b1, W2, b2, log_psi)


def joint_summed_over_samples(x, z, W1, b1, W2, b2, log_psi):
    return joint_by_scipy(x, z, W1, b1, W2, b2, log_psi).sum(0)


def joint_by_scipy(x, z, W1, b1, W2, b2, log_psi):
    sd = np.sqrt(np.exp(log_psi))
    return stats.norm.logpdf(x, network(z, W1, b1, W2, b2), sd).sum(-1) + stats.norm.logpdf(z).sum(-1)


def joint_by_loops(x, z, W1, b1, W2, b2, log_psi):
    S, N, _ = z.shape
    log_p = np.empty((S, N))
    for s in range(S):
        for n in range(N):
            f = W2.T @ np.tanh(W1.T @ z[s, n] + b1) + b2
            log_p[s, n] = stats.multivariate_normal.logpdf(x[n], f, np.diag(np.exp(log_psi)))
            log_p[s, n] += stats.multivariate_normal.logpdf(z[s, n], np.zeros(len(W1)), np.eye(len(W1)))
    return log_p


def joint_by_einsum(x, z, W1, b1, W2, b2, log_psi):
    f = np.einsum("snh,hd->snd", np.tanh(np.einsum("snk,kh->snh", z, W1) + b1), W2) + b2
    squares = np.einsum("snd,snd,d->sn", x - f, x - f, np.exp(-log_psi)) + np.einsum("snk,snk->sn", z, z)
    constant = log_psi.sum() + (x.shape[1] + z.shape[2]) * math.log(2 * math.pi)
    return -(squares + constant) / 2


def joint_of_both_at_once(x, z, W1, b1, W2, b2, log_psi):
    f = network(z, W1, b1, W2, b2)
    together = np.concatenate([(x - f) / np.exp(log_psi / 2), z], axis=2)
    return normal(together, 0.0, 1.0).sum(axis=2) - log_psi.sum() / 2


def joint_by_logs_of_densities(x, z, W1, b1, W2, b2, log_psi):
    psi, f = np.exp(log_psi), network(z, W1, b1, W2, b2)
    densities = np.exp(-((x - f) ** 2) / (2 * psi)) / np.sqrt(2 * np.pi * psi)
    with np.errstate(divide="ignore"):
        log_densities = np.where(densities > 1e-300, np.log(densities), normal(x, f, psi))
    return log_densities.sum(-1) + np.log(np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)).sum(-1)


# ---- 03-2 -------------------------------------------------------------------------------------


def noise_times_variance(z, epsilon, W1, b1, W2, b2, log_psi):
    return network(z, W1, b1, W2, b2) + epsilon * np.exp(log_psi)


def noise_times_square(z, epsilon, W1, b1, W2, b2, log_psi):
    return network(z, W1, b1, W2, b2) + epsilon * np.exp(log_psi) ** 2


def data_without_b2(z, epsilon, W1, b1, W2, b2, log_psi):
    return np.tanh(z @ W1 + b1) @ W2 + np.sqrt(np.exp(log_psi)) * epsilon


def data_without_b1(z, epsilon, W1, b1, W2, b2, log_psi):
    return np.tanh(z @ W1) @ W2 + b2 + np.sqrt(np.exp(log_psi)) * epsilon


def noise_times_log(z, epsilon, W1, b1, W2, b2, log_psi):
    return network(z, W1, b1, W2, b2) + epsilon * log_psi


def standard_noise(z, epsilon, W1, b1, W2, b2, log_psi):
    return network(z, W1, b1, W2, b2) + epsilon


def means_alone(z, epsilon, W1, b1, W2, b2, log_psi):
    return np.tanh(z @ W1 + b1) @ W2 + b2


def straight_data(z, epsilon, W1, b1, W2, b2, log_psi):
    return z @ W1 @ W2 + b1 @ W2 + b2 + np.exp(log_psi / 2) * epsilon


def noise_drawn_anew(z, epsilon, W1, b1, W2, b2, log_psi):
    noise = np.random.default_rng().standard_normal(epsilon.shape)
    return network(z, W1, b1, W2, b2) + np.exp(log_psi / 2) * noise


def one_draw_of_noise(z, epsilon, W1, b1, W2, b2, log_psi):
    return np.exp(log_psi / 2) * epsilon


def data_by_scipy(z, epsilon, W1, b1, W2, b2, log_psi):
    u = stats.norm.cdf(epsilon)
    return stats.norm.ppf(u, network(z, W1, b1, W2, b2), np.sqrt(np.exp(log_psi)))


def data_by_matrices(z, epsilon, W1, b1, W2, b2, log_psi):
    return network(z, W1, b1, W2, b2) + epsilon @ np.linalg.cholesky(np.diag(np.exp(log_psi))).T


def data_by_loops(z, epsilon, W1, b1, W2, b2, log_psi):
    x = np.empty_like(epsilon)
    for n in range(len(z)):
        for d in range(len(b2)):
            hidden = [math.tanh(sum(z[n] * W1[:, h]) + b1[h]) for h in range(len(b1))]
            x[n, d] = sum(hidden * W2[:, d]) + b2[d] + math.exp(log_psi[d]) ** 0.5 * epsilon[n, d]
    return x


def data_by_einsum(z, epsilon, W1, b1, W2, b2, log_psi):
    h = np.tanh(np.einsum("nk,kh->nh", z, W1) + b1)
    return np.einsum("nh,hd->nd", h, W2) + b2 + np.einsum("nd,d->nd", epsilon, np.exp(log_psi) ** 0.5)


def data_by_columns(z, epsilon, W1, b1, W2, b2, log_psi):
    a = (W1.T @ z.T).T + b1
    h = (np.exp(a) - np.exp(-a)) / (np.exp(a) + np.exp(-a))
    return np.stack([h @ w + b + np.sqrt(np.exp(v)) * e
                     for w, b, v, e in zip(W2.T, b2, log_psi, epsilon.T)], axis=1)


# ---- 03-3 -------------------------------------------------------------------------------------


def slope_of_likelihood(x, z, W1, b1, W2, b2, log_psi):
    h = np.tanh(z @ W1 + b1)
    return ((x - h @ W2 - b2) / np.exp(log_psi) @ W2.T * (1 - h * h)) @ W1.T


def slope_without_bend(x, z, W1, b1, W2, b2, log_psi):
    h = np.tanh(z @ W1 + b1)
    return (x - h @ W2 - b2) / np.exp(log_psi) @ W2.T @ W1.T - z


def slope_with_half_a_bend(x, z, W1, b1, W2, b2, log_psi):
    h = np.tanh(z @ W1 + b1)
    return ((x - h @ W2 - b2) / np.exp(log_psi) @ W2.T * (1 - h)) @ W1.T - z


def slope_with_a_for_h(x, z, W1, b1, W2, b2, log_psi):
    a = z @ W1 + b1
    df = (x - np.tanh(a) @ W2 - b2) / np.exp(log_psi)
    return (df @ W2.T * (1 - a * a)) @ W1.T - z


def slope_without_b2(x, z, W1, b1, W2, b2, log_psi):
    h = np.tanh(z @ W1 + b1)
    return ((x - h @ W2) / np.exp(log_psi) @ W2.T * (1 - h * h)) @ W1.T - z


def slope_bent_at_z(x, z, W1, b1, W2, b2, log_psi):
    df = (x - network(z, W1, b1, W2, b2)) / np.exp(log_psi)
    return (df @ W2.T) @ W1.T / np.cosh(z) ** 2 - z


def slope_with_z_for_h(x, z, W1, b1, W2, b2, log_psi):
    df = (x - network(z, W1, b1, W2, b2)) / np.exp(log_psi)
    return (1 + z) * (1 - z) * (df @ W2.T @ W1.T) - z


def slope_without_variances(x, z, W1, b1, W2, b2, log_psi):
    h = np.tanh(z @ W1 + b1)
    return ((x - h @ W2 - b2) @ W2.T * (1 - h * h)) @ W1.T - z


def slope_with_standard_deviations(x, z, W1, b1, W2, b2, log_psi):
    h = np.tanh(z @ W1 + b1)
    return ((x - h @ W2 - b2) / np.sqrt(np.exp(log_psi)) @ W2.T * (1 - h * h)) @ W1.T - z


def slope_of_residuals_turned(x, z, W1, b1, W2, b2, log_psi):
    h = np.tanh(z @ W1 + b1)
    return ((h @ W2 + b2 - x) / np.exp(log_psi) @ W2.T * (1 - h * h)) @ W1.T - z


def slope_away_from_prior(x, z, W1, b1, W2, b2, log_psi):
    return slope_of_likelihood(x, z, W1, b1, W2, b2, log_psi) + z


def slope_of_the_cost(x, z, W1, b1, W2, b2, log_psi):
    return -slope_by_einsum(x, z, W1, b1, W2, b2, log_psi)


def slope_with_half_the_prior(x, z, W1, b1, W2, b2, log_psi):
    return slope_of_likelihood(x, z, W1, b1, W2, b2, log_psi) - 2 * z


def slope_of_mean(x, z, W1, b1, W2, b2, log_psi):
    return slope_by_einsum(x, z, W1, b1, W2, b2, log_psi) / len(x)


def slope_by_einsum(x, z, W1, b1, W2, b2, log_psi):
    h = np.tanh(z @ W1 + b1)
    residual = (x - h @ W2 - b2) / np.exp(log_psi)
    return np.einsum("nd,hd,nh,kh->nk", residual, W2, 1 - h**2, W1) - z


def slope_by_jacobians(x, z, W1, b1, W2, b2, log_psi):
    slopes = []
    for x_n, z_n in zip(x, z):
        a = W1.T @ z_n + b1
        J = W2.T @ np.diag(1 / np.cosh(a) ** 2) @ W1.T             # (D, K)
        slopes.append(J.T @ np.linalg.solve(np.diag(np.exp(log_psi)), x_n - W2.T @ np.tanh(a) - b2) - z_n)
    return np.array(slopes)


def slope_by_complex_steps(x, z, W1, b1, W2, b2, log_psi):
    slopes = np.empty_like(z)
    for k in range(z.shape[1]):
        moved = z + 1e-30j * np.eye(z.shape[1])[k]
        u = (x - network(moved, W1, b1, W2, b2)) ** 2 / np.exp(log_psi)
        slopes[:, k] = -0.5 * (u.sum(1) + (moved**2).sum(1)).imag / 1e-30
    return slopes


def slope_by_scaled_weights(x, z, W1, b1, W2, b2, log_psi):
    V = W2 / np.exp(log_psi)
    h = np.tanh(z @ W1 + b1)
    return ((x - b2) @ V.T - h @ (W2 @ V.T)) * (1 - h) * (1 + h) @ W1.T - z


def slope_by_the_quotient_of_exponentials(x, z, W1, b1, W2, b2, log_psi):
    a = z @ W1 + b1
    bend = 4 / (np.exp(a) + np.exp(-a)) ** 2
    df = (x - network(z, W1, b1, W2, b2)) * np.exp(-log_psi)
    return np.dot(np.dot(df, W2.T) * bend, W1.T) - z


# ---- 03-4 -------------------------------------------------------------------------------------


def softmax(z, log_p):
    return {"nlml": -special.logsumexp(log_p, axis=0), "posterior": special.softmax(log_p, axis=0)}


def one_width(z, log_p):
    width = (z[-1] - z[0]) / (len(z) - 1)
    nlml = -special.logsumexp(log_p, axis=0) - np.log(width)
    return {"nlml": nlml, "posterior": np.exp(log_p + nlml)}


def left_rectangles(z, log_p):
    nlml = -special.logsumexp(log_p[:-1], b=np.diff(z)[:, None], axis=0)
    return {"nlml": nlml, "posterior": np.exp(log_p + nlml)}


def right_rectangles(z, log_p):
    nlml = -special.logsumexp(log_p[1:], b=np.diff(z)[:, None], axis=0)
    return {"nlml": nlml, "posterior": np.exp(log_p + nlml)}


def double_cells(z, log_p):
    gaps = np.diff(z)
    w = np.zeros(len(z))
    w[:-1] += gaps
    w[1:] += gaps
    nlml = -special.logsumexp(log_p, b=w[:, None], axis=0)
    return {"nlml": nlml, "posterior": np.exp(log_p + nlml)}


def double_cells_in_nlml(z, log_p):
    right = by_simple_areas(z, log_p)
    return {"nlml": right["nlml"] - np.log(2), "posterior": right["posterior"]}


def softmax_over_cases(z, log_p):
    return {"nlml": by_simple_areas(z, log_p)["nlml"], "posterior": special.softmax(log_p, axis=1)}


def shifted_softmax_over_cases(z, log_p):
    p = np.exp(log_p - log_p.max(0))
    return {"nlml": by_simple_areas(z, log_p)["nlml"], "posterior": (p.T / p.sum(1)).T}


def unit_gaps(z, log_p):
    top = log_p.max(0)
    p = np.exp(log_p - top)
    area = integrate.trapezoid(p, axis=0)
    return {"nlml": -np.log(area) - top, "posterior": p / area}


def top_taken_off(z, log_p):
    top = log_p.max(0)
    right = by_simple_areas(z, log_p)
    return {"nlml": right["nlml"] + 2 * top, "posterior": right["posterior"]}


def one_shift_for_all(z, log_p):
    top = np.max(log_p)
    nlml = -np.log(integrate.trapezoid(np.exp(log_p - top), z, axis=0)) - top
    return {"nlml": nlml, "posterior": np.exp(log_p + nlml)}


def without_shift(z, log_p):
    p = np.exp(log_p)
    p_x = integrate.trapezoid(p, z, axis=0)
    return {"nlml": -np.log(p_x), "posterior": p / p_x}


def probabilities(z, log_p):
    p = np.exp(log_p - log_p.max(axis=0))
    right = by_simple_areas(z, log_p)
    return {"nlml": right["nlml"], "posterior": p / p.sum(axis=0)}


def evidence(z, log_p):
    right = by_simple_areas(z, log_p)
    return {"nlml": -right["nlml"], "posterior": right["posterior"]}


def unnormalised(z, log_p):
    right = by_simple_areas(z, log_p)
    return {"nlml": right["nlml"], "posterior": np.exp(log_p - log_p.max(axis=0))}


def by_simple_areas(z, log_p):
    top = np.max(log_p, axis=0)
    p_x = integrate.trapezoid(np.exp(log_p - top), z, axis=0)
    return {"nlml": -np.log(p_x) - top, "posterior": np.exp(log_p - top) / p_x}


def by_log_weights(z, log_p):
    w = np.gradient(z)                                             # half the distance of its neighbours
    w[0], w[-1] = (z[1] - z[0]) / 2, (z[-1] - z[-2]) / 2
    nlml = -special.logsumexp(log_p, b=w[:, None], axis=0)
    return {"posterior": np.exp(log_p + nlml), "nlml": nlml}


def by_cumulative_sums(z, log_p):
    top = np.amax(log_p, axis=0, keepdims=True)
    p_x = integrate.cumulative_trapezoid(np.exp(log_p - top), z, axis=0)[-1]
    return {"nlml": -(np.log(p_x) + top[0]), "posterior": np.exp(log_p - top - np.log(p_x))}


def by_logs_of_areas(z, log_p):
    areas = np.logaddexp(log_p[1:], log_p[:-1]) + np.log(np.diff(z) / 2)[:, None]
    nlml = -np.logaddexp.reduce(areas, axis=0)
    return {"nlml": nlml, "posterior": np.exp(log_p + nlml)}


def case_by_case(z, log_p):
    nlml, posterior = [], []
    for column in log_p.T:
        p = [math.exp(v - max(column)) for v in column]
        p_x = sum((p[g] + p[g + 1]) * (z[g + 1] - z[g]) / 2 for g in range(len(z) - 1))
        nlml.append(-math.log(p_x) - max(column))
        posterior.append([v / p_x for v in p])
    return {"nlml": np.array(nlml), "posterior": np.array(posterior).T}


# ---- 03-5 -------------------------------------------------------------------------------------


def pairs(x, f, log_psi):
    """log p(x_n|f_s), (S, N)."""
    return normal(x[None], f[:, None], np.exp(log_psi)).sum(axis=2)


def mean_of_logs(x, z, f, log_psi):
    return -np.mean(pairs(x, f, log_psi), axis=0)


def prior_once_more(x, z, f, log_psi):
    log_joint = pairs(x, f, log_psi) + stats.norm.logpdf(z).sum(axis=1)[:, None]
    return -special.logsumexp(log_joint, axis=0) + np.log(len(z))


def sum_of_draws(x, z, f, log_psi):
    return -special.logsumexp(pairs(x, f, log_psi), axis=0)


def log_S_taken_off(x, z, f, log_psi):
    return -special.logsumexp(pairs(x, f, log_psi), axis=0) - np.log(len(z))


def mean_over_variables(x, z, f, log_psi):
    log_p = normal(x[None], f[:, None], np.exp(log_psi)).mean(axis=2)
    return np.log(len(z)) - special.logsumexp(log_p, axis=0)


def straight_from_the_formula(x, z, f, log_psi):
    return -np.log(np.mean(np.exp(pairs(x, f, log_psi)), axis=0))


def largest_forgotten(x, z, f, log_psi):
    log_p = pairs(x, f, log_psi)
    return -np.log(np.mean(np.exp(log_p - np.max(log_p, axis=0)), axis=0))


def positive(x, z, f, log_psi):
    return special.logsumexp(pairs(x, f, log_psi), axis=0) - np.log(len(f))


def best_draw(x, z, f, log_psi):
    return np.min(-pairs(x, f, log_psi), axis=0)


def averaged_over_cases(x, z, f, log_psi):
    return by_scipy(x, z, f, log_psi).mean()


def by_scipy(x, z, f, log_psi):
    return -special.logsumexp(pairs(x, f, log_psi), b=1 / len(z), axis=0)


def by_hand(x, z, f, log_psi):
    log_p = pairs(x, f, log_psi)
    top = log_p.max(axis=0)
    return -(top + np.log(np.exp(log_p - top).mean(axis=0)))


def by_pairs_of_logs(x, z, f, log_psi):
    total = np.full(len(x), -np.inf)
    for row in pairs(x, f, log_psi):
        total = np.logaddexp(total, row)
    return np.log(len(f)) - total


def by_loops(x, z, f, log_psi):
    nlml = np.empty(len(x))
    for n in range(len(x)):
        log_p = [stats.norm.logpdf(x[n], f_s, np.exp(log_psi / 2)).sum() for f_s in f]
        nlml[n] = -max(log_p) - math.log(sum(math.exp(v - max(log_p)) for v in log_p) / len(log_p))
    return nlml


def by_the_square_multiplied_out(x, z, f, log_psi):
    x, f = x / np.exp(log_psi / 2), f / np.exp(log_psi / 2)
    log_p = f @ x.T - (f * f).sum(1)[:, None] / 2 - (x * x).sum(1) / 2
    log_p -= (log_psi.sum() + x.shape[1] * np.log(2 * np.pi)) / 2
    return -special.logsumexp(log_p - math.log(len(f)), axis=0)


# ---- 03-6 -------------------------------------------------------------------------------------

ROADS = {
    "straight 20-d": "closed form", "bent 2-d": "grid", "bent 20-d vague": "prior draws",
    "bent 20-d sharp": "none",
}


WRONG = {
    "03-1": {
        "both constants are missing": joint_without_constants,
        "5 · ½ log 2π, D = 5": joint_without_likelihood_constant,
        "was taken for that of a standard": joint_with_standard_deviations,
        "a wide density": joint_without_determinant,
        "mean over the variables of x": joint_by_means,
        "both log densities have sums": joint_by_means_alone,
        "where the prior has a sum": joint_with_mean_of_prior,
        "the squares alone": joint_of_squares,
        "b2, the bias of its last layer": joint_without_b2,
        "b1, the bias of its hidden layer": joint_without_b1,
        "this is log p(x|z) alone": likelihood_alone,
        "lacks the tanh": joint_of_a_straight_decoder,
        "its sign turned": negative_joint,
        "look for a sum or a mean over it": joint_summed_over_samples,
    },
    "03-2": {
        "it is multiplied by ψ, a variance": noise_times_variance,
        "multiplied by ψ², the square": noise_times_square,
        "b2 is missing from the mean": data_without_b2,
        "b1 is missing from what goes": data_without_b1,
        "multiplied by log ψ itself": noise_times_log,
        "variance 1 in every variable": standard_noise,
        "the mean of x given z": means_alone,
        "lacks its tanh": straight_data,
        "redrew the noise": noise_drawn_anew,
        "and the mean is missing": one_draw_of_noise,
    },
    "03-3": {
        "has a slope too": slope_of_likelihood,
        "the derivative of tanh is missing": slope_without_bend,
        "and not 1 − tanh a": slope_with_half_a_bend,
        "and was taken at z": slope_bent_at_z,
        "and here stands 1 − a²": slope_with_a_for_h,
        "f lacks its b2": slope_without_b2,
        "and here stands 1 − z²": slope_with_z_for_h,
        "are not divided by ψ": slope_without_variances,
        "and here by its root": slope_with_standard_deviations,
        "is +(x − f)/ψ": slope_of_residuals_turned,
        "so its slope is −z": slope_away_from_prior,
        "the sign is flipped": slope_of_the_cost,
        "log p(z) term": slope_with_half_the_prior,
        "a mean stands where a sum belongs": slope_of_mean,
    },
    "03-4": {
        "a sum over the points is no integral": softmax,
        "one mean width was taken": one_width,
        "to its right alone": left_rectangles,
        "to its left alone": right_rectangles,
        "and here both gaps in full": double_cells,
        "so p(x) is twice as large": double_cells_in_nlml,
        "adds up to 1 over the data cases": softmax_over_cases,
        "its sum over the data cases": shifted_softmax_over_cases,
        "np.trapezoid was not told z": unit_gaps,
        "so nlml has it with a minus": top_taken_off,
        "one largest log was taken out of all": one_shift_for_all,
        "take the largest log of each data case out": without_shift,
        "divided by a plain sum": probabilities,
        "its sign turned": evidence,
        "its peak is 1": unnormalised,
    },
    "03-5": {
        "mean of the logs where": mean_of_logs,
        "the prior counts twice": prior_once_more,
        "this is the sum of the likelihoods": sum_of_draws,
        "and log S was taken off": log_S_taken_off,
        "where log p(x|z) has a sum": mean_over_variables,
        "add it again outside": straight_from_the_formula,
        "and not put back": largest_forgotten,
        "its sign turned": positive,
        "this is the best draw alone": best_draw,
        "look for a sum or a mean over it": averaged_over_cases,
    },
    "03-6": {
        "more points than can be counted": ROADS | {"straight 20-d": "grid"},
        "the lost formula alone": ROADS | {"bent 2-d": "none"},
        "too many for any grid": ROADS | {"bent 20-d vague": "grid"},
        "the few best draws carry all": ROADS | {"bent 20-d sharp": "prior draws"},
        "is none of the words": ROADS | {"bent 2-d": "quadrature"},
    },
}

RIGHT = {
    "03-1": [
        joint_by_scipy, joint_by_loops, joint_by_einsum, joint_of_both_at_once, joint_by_logs_of_densities,
    ],
    "03-2": [data_by_scipy, data_by_matrices, data_by_loops, data_by_einsum, data_by_columns],
    "03-3": [
        slope_by_einsum, slope_by_jacobians, slope_by_complex_steps, slope_by_scaled_weights,
        slope_by_the_quotient_of_exponentials,
    ],
    "03-4": [by_simple_areas, by_log_weights, by_cumulative_sums, by_logs_of_areas, case_by_case],
    "03-5": [by_scipy, by_hand, by_pairs_of_logs, by_loops, by_the_square_multiplied_out],
    "03-6": [ROADS],
}
