"""Answers to the exercises of notebook 01."""

import numpy as np
from scipy import linalg
from scipy.special import log_softmax, softmax


# ---- 01-1 -------------------------------------------------------------------------------------


def least_variance(x, K):
    r = x - np.mean(x, 0)
    values, vectors = np.linalg.eigh(r.T @ r)
    V = vectors[:, :K]
    return r @ V @ V.T + np.mean(x, 0)


def rows_of_vectors(x, K):
    r = x - x.mean(0)
    _, vectors = np.linalg.eigh(r.T @ r / len(x))
    V = vectors[::-1][:K]
    return r @ V.T @ V + x.mean(0)


def never_centred(x, K):
    values, vectors = np.linalg.eigh(x.T @ x)
    V = vectors[:, np.argsort(values)[::-1][:K]]
    return x @ V @ V.T


def mean_lost(x, K):
    r = x - x.mean(0)
    V = np.linalg.eigh(np.cov(r, rowvar=False))[1][:, -K:].T
    return r @ V.T @ V


def x_itself_projected(x, K):
    V = np.linalg.eigh(np.cov(x, rowvar=False))[1][:, -K:].T
    return x @ V.T @ V


def one_mean(x, K):
    r = x - np.mean(x)
    V = np.linalg.eigh(r.T @ r)[1][:, -K:]
    return r @ V @ V.T + np.mean(x)


def spreads_forgotten(x, K):
    mean = x.mean(0)
    U, s, Vt = np.linalg.svd(x - mean)
    return mean + U[:, :K] @ Vt[:K]


def only_codes(x, K):
    r = x - x.mean(0)
    return r @ np.linalg.eigh(r.T @ r)[1][:, -K:]


def along_standardised(x, K):
    V = np.linalg.eigh(np.corrcoef(x, rowvar=False))[1][:, -K:]
    return x.mean(0) + (x - x.mean(0)) @ V @ V.T


def along_uncentred(x, K):
    V = np.linalg.eigh(x.T @ x / len(x))[1][:, -K:]
    return x.mean(0) + (x - x.mean(0)) @ V @ V.T


def about_one_mean(x, K):
    V = np.linalg.eigh(np.cov(x.T))[1][:, -K:]
    return (x - x.mean()) @ V @ V.T + x.mean()


def mean_only_added(x, K):
    V = np.linalg.eigh(np.cov(x.T))[1][:, -K:]
    return x @ V @ V.T + x.mean(0)


def one_axis(x, K):
    v = np.linalg.eigh(np.cov(x.T))[1][:, -1]
    return x.mean(0) + np.outer((x - x.mean(0)) @ v, v)


def standardised(x, K):
    u = (x - x.mean(0)) / x.std(0)
    V = np.linalg.eigh(np.corrcoef(x.T))[1][:, -K:]
    return x.mean(0) + x.std(0) * (u @ V @ V.T)


def standardised_and_left_there(x, K):
    u = (x - x.mean(0)) / x.std(0)
    V = np.linalg.eigh(u.T @ u)[1][:, -K:]
    return u @ (V @ V.T)


def all_axes(x, K):
    r = x - x.mean(0)
    V = np.linalg.eigh(r.T @ r)[1]
    return x.mean(0) + r @ V @ V.T


def left_vectors(x, K):
    r = x - x.mean(0)
    U = np.linalg.svd(r)[0][:K]
    return x.mean(0) + r @ U.T @ U


def plane_by_svd(x, K):
    mean = x.mean(axis=0)
    U, s, Vt = np.linalg.svd(x - mean, full_matrices=False)
    s = np.where(np.arange(len(s)) < K, s, 0.0)
    return U @ np.diag(s) @ Vt + mean


def plane_by_scipy(x, K):
    D = x.shape[1]
    V = linalg.eigh(np.cov(x.T), subset_by_index=(D - K, D - 1))[1]
    return x.mean(0) + (x - x.mean(0)) @ (V @ V.T)


def plane_by_what_is_left(x, K):
    D = x.shape[1]
    U = np.linalg.eigh(np.cov(x.T))[1][:, : D - K]
    return x - (x - x.mean(0)) @ U @ U.T


def plane_case_by_case(x, K):
    mean = sum(x) / len(x)
    vectors = np.linalg.eigh(sum(np.outer(row - mean, row - mean) for row in x))[1].T[::-1]
    points = np.empty_like(x)
    for n, row in enumerate(x):
        points[n] = mean + sum(((row - mean) @ v) * v for v in vectors[:K])
    return points


def plane_by_the_gram_matrix(x, K):
    r = x - x.mean(0)
    U = np.linalg.eigh(r @ r.T)[1][:, -K:]
    return x.mean(0) + U @ (U.T @ r)


# ---- 01-2 -------------------------------------------------------------------------------------


def linear_encoder(x, V, a, W, b):
    z = np.tanh(x @ V + a)
    e = (z @ W + b - x) / len(x)
    dz = e @ W.T
    return x.T @ dz, dz.sum(0), z.T @ e, e.sum(0)


def tanh_twice(x, V, a, W, b):
    z = np.tanh(x @ V + a)
    e = (z @ W + b - x) / len(x)
    du = (e @ W.T) / np.cosh(z) ** 2
    return x.T @ du, du.sum(0), z.T @ e, e.sum(0)


def slope_of_logistic(x, V, a, W, b):
    z = np.tanh(x @ V + a)
    e = (z @ W + b - x) / len(x)
    du = (e @ W.T) * z * (1 - z)
    return x.T @ du, du.sum(0), z.T @ e, e.sum(0)


def _scaled(scale):
    def gradients(x, V, a, W, b):
        N, D = x.shape
        z = np.tanh(x @ V + a)
        e = scale(N, D) * (z @ W + b - x)
        du = (e @ W.T) * (1 - z * z)
        return x.T @ du, du.sum(0), z.T @ e, e.sum(0)

    return gradients


def u_for_z(x, V, a, W, b):
    u = x @ V + a
    z = np.tanh(u)
    e = (z @ W + b - x) / len(x)
    du = (e @ W.T) * (1 - z * z)
    return x.T @ du, du.sum(0), u.T @ e, e.sum(0)


def mean_of_biases(x, V, a, W, b):
    z = np.tanh(x @ V + a)
    e = (z @ W + b - x) / len(x)
    du = (e @ W.T) * (1 - z * z)
    return x.T @ du, du.mean(0), z.T @ e, e.mean(0)


def in_another_order(x, V, a, W, b):
    dV, da, dW, db = by_hand(x, V, a, W, b)
    return dW, db, dV, da


def decoder_before_encoder(x, V, a, W, b):
    dV, da, dW, db = by_hand(x, V, a, W, b)
    return dW, dV, db, da


def backwards(x, V, a, W, b):
    return by_hand(x, V, a, W, b)[::-1]


def weights_first(x, V, a, W, b):
    dV, da, dW, db = by_hand(x, V, a, W, b)
    return [dV, dW, da, db]


def bias_forgotten(x, V, a, W, b):
    z = np.tanh(x @ V + a)
    e = (z @ W - x) / len(x)
    du = (e @ W.T) * (1 - z * z)
    return x.T @ du, du.sum(0), z.T @ e, e.sum(0)


def by_hand(x, V, a, W, b):
    z = np.tanh(x @ V + a)
    e = (z @ W + b - x) / x.shape[0]
    du = (e @ W.T) * (1 - z**2)
    return x.T @ du, du.sum(0), z.T @ e, e.sum(0)


def by_einsum(x, V, a, W, b):
    u = np.einsum("nd,dk->nk", x, V) + a
    z = np.tanh(u)
    e = np.einsum("nk,kd->nd", z, W) + b - x
    du = np.einsum("nd,kd,nk->nk", e, W, 1 / np.cosh(u) ** 2) / len(x)
    return np.einsum("nd,nk->dk", x, du), du.sum(0), np.einsum("nk,nd->kd", z, e) / len(x), e.mean(0)


def case_by_case(x, V, a, W, b):
    dV, da, dW, db = (np.zeros_like(p) for p in (V, a, W, b))
    for row in x:
        z = np.tanh(row @ V + a)
        e = z @ W + b - row
        du = (W @ e) * (1 - z**2)
        dV, da, dW, db = dV + np.outer(row, du), da + du, dW + np.outer(z, e), db + e
    return dV / len(x), da / len(x), dW / len(x), db / len(x)


def with_a_one_beside(x, V, a, W, b):
    ones = np.ones((len(x), 1))
    one_x = np.hstack([x, ones])
    z = np.tanh(one_x @ np.vstack([V, a]))
    one_z = np.hstack([z, ones])
    e = (one_z @ np.vstack([W, b]) - x) / len(x)
    decoder, encoder = one_z.T @ e, one_x.T @ ((e @ W.T) * (1 - z * z))
    return [encoder[:-1], encoder[-1], decoder[:-1], decoder[-1]]


def by_the_logistic(x, V, a, W, b):
    sigma = 1 / (1 + np.exp(-2 * (x @ V + a)))
    z = 2 * sigma - 1
    e = (z @ W + b - x) / len(x)
    du = 4 * (e @ W.T) * sigma * (1 - sigma)
    return x.T @ du, du.sum(0), z.T @ e, e.sum(0)


# ---- 01-3 -------------------------------------------------------------------------------------


def _mean_of_z(r, W, noise):
    M = np.eye(W.shape[0]) + W @ np.diag(1 / noise) @ W.T
    return r / noise @ W.T @ np.linalg.inv(M)


def only_decoded(noisy, W, b, psi, tau2):
    return _mean_of_z(noisy - b, W, psi + tau2) @ W + b


def clean_reconstruction(noisy, W, b, psi, tau2):
    return _mean_of_z(noisy - b, W, psi) @ W + b


def clean_posterior(noisy, W, b, psi, tau2):
    f = _mean_of_z(noisy - b, W, psi) @ W + b
    return (psi * noisy + tau2 * f) / (psi + tau2)


def wrong_way_round(noisy, W, b, psi, tau2):
    f = _mean_of_z(noisy - b, W, psi + tau2) @ W + b
    return (tau2 * noisy + psi * f) / (psi + tau2)


def about_zero(noisy, W, b, psi, tau2):
    C = W.T @ W + np.diag(psi)
    return (noisy - b) @ np.linalg.inv(C + tau2 * np.eye(len(b))) @ C


def without_b(noisy, W, b, psi, tau2):
    f = _mean_of_z(noisy, W, psi + tau2) @ W
    return f + psi / (psi + tau2) * (noisy - f)


def _weighed(f, noisy, psi, tau2):
    share = psi / (psi + tau2)
    return (1 - share) * f + share * noisy


def f_without_b(noisy, W, b, psi, tau2):
    m = _mean_of_z(noisy - b, W, psi + tau2)
    return _weighed(m @ W, noisy, psi, tau2)


def m_of_noisy(noisy, W, b, psi, tau2):
    m = _mean_of_z(noisy, W, psi + tau2)
    return _weighed(m @ W + b, noisy, psi, tau2)


def clean_M(noisy, W, b, psi, tau2):
    m = (noisy - b) / (psi + tau2) @ W.T @ np.linalg.inv(np.eye(len(W)) + W / psi @ W.T)
    return _weighed(m @ W + b, noisy, psi, tau2)


def clean_mean(noisy, W, b, psi, tau2):
    m = (noisy - b) / psi @ W.T @ np.linalg.inv(np.eye(len(W)) + W / (psi + tau2) @ W.T)
    return _weighed(m @ W + b, noisy, psi, tau2)


def b_only_added(noisy, W, b, psi, tau2):
    C = W.T @ W + np.diag(psi)
    return b + noisy @ np.linalg.inv(C + tau2 * np.eye(len(b))) @ C


def what_the_noise_was(noisy, W, b, psi, tau2):
    C = W.T @ W + np.diag(psi)
    return tau2 * (noisy - b) @ np.linalg.inv(C + tau2 * np.eye(len(b)))


def a_square_too_many(noisy, W, b, psi, tau2):
    C = W.T @ W + np.diag(psi)
    return b + (noisy - b) @ np.linalg.inv(C + tau2**2 * np.eye(len(b))) @ C


def a_root_too_many(noisy, W, b, psi, tau2):
    C = W.T @ W + np.diag(psi)
    return b + (noisy - b) @ np.linalg.inv(C + tau2**0.5 * np.eye(len(b))) @ C


def column_by_column(noisy, W, b, psi, tau2):
    variance = np.diag(W.T @ W) + psi
    return b + variance / (variance + tau2) * (noisy - b)


def without_z(noisy, W, b, psi, tau2):
    return (tau2 * b + psi * noisy) / (psi + tau2)


def counted_twice(noisy, W, b, psi, tau2):
    r = noisy - b
    return b + _mean_of_z(r, W, psi + tau2) @ W + r * psi / (psi + tau2)


def one_for_all(noisy, W, b, psi, tau2):
    return wiener(noisy, W, b, psi, tau2).mean(0)


def wiener(noisy, W, b, psi, tau2):
    C = W.T @ W + np.diag(psi)
    return b + (noisy - b) @ np.linalg.inv(C + tau2 * np.eye(len(b))) @ C


def by_z(noisy, W, b, psi, tau2):
    f = _mean_of_z(noisy - b, W, psi + tau2) @ W + b
    return f + psi / (psi + tau2) * (noisy - f)


def by_what_the_noise_was(noisy, W, b, psi, tau2):
    G = W.T @ W + np.diag(psi + tau2)
    return noisy - tau2 * np.linalg.solve(G, (noisy - b).T).T


def by_the_precision_of_x(noisy, W, b, psi, tau2):
    P = np.linalg.inv(W.T @ W + np.diag(psi))
    return np.linalg.solve(P + np.eye(len(b)) / tau2, (b @ P + noisy / tau2).T).T


def by_eigenvectors(noisy, W, b, psi, tau2):
    values, U = np.linalg.eigh(W.T @ W + np.diag(psi))
    return b + ((noisy - b) @ U * (values / (values + tau2))) @ U.T


def by_the_joint(noisy, W, b, psi, tau2):
    C, D = W.T @ W + np.diag(psi), len(b)
    joint = np.block([[C, C], [C, C + tau2 * np.eye(D)]])
    return np.array([b + joint[:D, D:] @ np.linalg.inv(joint[D:, D:]) @ (row - b) for row in noisy])


# ---- 01-4 -------------------------------------------------------------------------------------


def _probe(d, z, W, penalty):
    return z.T @ d + penalty * W, d.sum(0)


def no_decay(z, y, W, b, penalty):
    d = (softmax(z @ W + b, axis=1) - np.eye(len(b))[y]) / len(z)
    return z.T @ d, d.sum(0)


def decay_doubled(z, y, W, b, penalty):
    d = (softmax(z @ W + b, axis=1) - np.eye(len(b))[y]) / len(z)
    return z.T @ d + 2 * penalty * W, d.sum(0)


def label_forgotten(z, y, W, b, penalty):
    return _probe(softmax(z @ W + b, axis=1) / len(z), z, W, penalty)


def wrong_axis(z, y, W, b, penalty):
    return _probe((softmax(z @ W + b, axis=0) - np.eye(len(b))[y]) / len(z), z, W, penalty)


def sigmoids(z, y, W, b, penalty):
    p = np.exp(-np.logaddexp(0, -(z @ W + b)))
    return _probe((p - np.eye(len(b))[y]) / len(z), z, W, penalty)


def bias_penalised(z, y, W, b, penalty):
    dW, db = by_onehot(z, y, W, b, penalty)
    return dW, db + penalty * b


def sum_for_mean(z, y, W, b, penalty):
    return _probe(softmax(z @ W + b, axis=1) - np.eye(len(b))[y], z, W, penalty)


def labels_as_numbers(z, y, W, b, penalty):
    return _probe((softmax(z @ W + b, axis=1) - y.reshape(-1, 1)) / len(z), z, W, penalty)


def everything_turned(z, y, W, b, penalty):
    dW, db = by_onehot(z, y, W, b, penalty)
    return -dW, -db


def by_onehot(z, y, W, b, penalty):
    return _probe((softmax(z @ W + b, axis=1) - np.eye(len(b))[y]) / len(z), z, W, penalty)


def by_indices(z, y, W, b, penalty):
    d = np.exp(log_softmax(z @ W + b, axis=1))
    d[np.arange(len(y)), y] -= 1
    d /= len(y)
    return _probe(d, z, W, penalty)


def probe_case_by_case(z, y, W, b, penalty):
    dW, db = penalty * W, np.zeros_like(b)
    for code, label in zip(z, y):
        e = np.exp(code @ W + b)
        d = e / e.sum()
        d[label] -= 1
        dW, db = dW + np.outer(code, d) / len(z), db + d / len(z)
    return dW, db


def probe_with_a_one(z, y, W, b, penalty):
    one_z = np.column_stack([z, np.ones(len(z))])
    logits = one_z @ np.vstack([W, b])
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    d = e / e.sum(axis=1, keepdims=True) - (np.arange(len(b)) == y[:, None])
    both = one_z.T @ d / len(z)
    return both[:-1] + penalty * W, both[-1]


def class_by_class(z, y, W, b, penalty):
    logits = z @ W + b
    total = np.logaddexp.reduce(logits, axis=1)
    d = np.array([np.exp(logits[:, c] - total) - (y == c) for c in range(len(b))])
    return [np.einsum("cn,nk->kc", d, z) / len(z) + penalty * W, d.mean(axis=1)]


# ---- 01-5 -------------------------------------------------------------------------------------

WHO = {
    "give a code z": "both",
    "follow a curved surface": "autoencoder",
    "say how likely x is": "factor analysis",
    "draw new data": "factor analysis",
    "be told the noise when asked to denoise": "factor analysis",
}

WRONG = {
    "01-1": {
        "the data vary least": least_variance,
        "hands its eigenvectors over as columns": rows_of_vectors,
        "the data were not centred": never_centred,
        "not put back": mean_lost,
        "x itself was projected": x_itself_projected,
        "one mean was taken over all numbers: each column has its own, x.mean": one_mean,
        "the singular values are missing": spreads_forgotten,
        "this is the code, not the point": only_codes,
        "x was standardised before": standardised,
        "the directions are those of standardised": along_standardised,
        "the directions are those of the uncentred": along_uncentred,
        "the directions are right, and one mean": about_one_mean,
        "the mean was put back, and not taken off": mean_only_added,
        "the plane's first axis alone": one_axis,
        "left in these units": standardised_and_left_there,
        "these are the data themselves": all_axes,
        "raises ValueError": left_vectors,
    },
    "01-2": {
        "lacks the slope of tanh": linear_encoder,
        "you took tanh a second time": tanh_twice,
        "is that of the logistic function": slope_of_logistic,
        "the factor N everywhere": _scaled(lambda N, D: 1.0),
        "too small by the factor D": _scaled(lambda N, D: 1 / (N * D)),
        "the factor 2 everywhere": _scaled(lambda N, D: 2 / N),
        "you began with x − f": _scaled(lambda N, D: -1 / N),
        "is z = tanh(u), not u": u_for_z,
        "right already: dV, dW": mean_of_biases,
        "the decoder's two came first": in_another_order,
        "stand before the encoder's": decoder_before_encoder,
        "from the last to the first": backwards,
        "the weights came before the biases": weights_first,
        "the residual lacks b": bias_forgotten,
    },
    "01-3": {
        "this is a reconstruction": only_decoded,
        "as if it were clean": clean_reconstruction,
        "the posterior of z is that of clean data": clean_posterior,
        "the wrong way round": wrong_way_round,
        "right but for b": about_zero,
        "this is what the noise was": what_the_noise_was,
        "the b of f = b + m W": f_without_b,
        "in m stands noisy": m_of_noisy,
        "right but for M": clean_M,
        "right but for the mean of z": clean_mean,
        "b is nowhere": without_b,
        "and not taken off before": b_only_added,
        "was squared": a_square_too_many,
        "a root of it": a_root_too_many,
        "by its own variance alone": column_by_column,
        "z is nowhere": without_z,
        "is counted twice": counted_twice,
        "it has shape": one_for_all,
    },
    "01-4": {
        "the weight decay term, which is missing": no_decay,
        "is λW, not 2λW": decay_doubled,
        "the label is missing": label_forgotten,
        "sum to 1 over the data cases": wrong_axis,
        "a logistic function by itself": sigmoids,
        "the bias is not penalised": bias_penalised,
        "its 1/N is missing": sum_for_mean,
        "labels are names": labels_as_numbers,
        "analytic = -1 · numeric": everything_turned,
    },
    "01-5": {
        "no probability": WHO | {"say how likely x is": "autoencoder"},
        "a plane, however many": WHO | {"follow a curved surface": "both"},
        "nothing says where its codes lie": WHO | {"draw new data": "autoencoder"},
        "encoding a data case is not sampling": WHO | {"draw new data": "both"},
        "nothing can be told it any more": WHO | {"be told the noise when asked to denoise": "both"},
        "factor analysis gives a code too": WHO | {"give a code z": "autoencoder"},
        "is none of the words": WHO | {"give a code z": "VAE"},
        "at the least can": WHO | {"draw new data": "neither"},
    },
}
RIGHT = {
    "01-1": [
        plane_by_svd, plane_by_scipy, plane_by_what_is_left, plane_case_by_case, plane_by_the_gram_matrix,
    ],
    "01-2": [by_hand, by_einsum, case_by_case, with_a_one_beside, by_the_logistic],
    "01-3": [wiener, by_z, by_what_the_noise_was, by_the_precision_of_x, by_eigenvectors, by_the_joint],
    "01-4": [by_onehot, by_indices, probe_case_by_case, probe_with_a_one, class_by_class],
    "01-5": [WHO],
}
