"""Answers to the exercises of notebook 10, backpropagation by hand."""

import math

import numpy as np
from scipy import special, stats

# ---- 10-1 a dense layer ----------------------------------------------------------------------


def dense(x, W, b, dy):
    return dy @ W.T, x.T @ dy, dy.sum(0)


def plain_sum(x, W, b, dy):
    dy = np.ones((len(x), W.shape[1]))
    return dy @ W.T, x.T @ dy, dy.sum(0)


def means(x, W, b, dy):
    return dy @ W.T, (x.T @ dy) / x.shape[0], dy.sum(0) / x.shape[0]


def bias_by_mean(x, W, b, dy):
    return dy @ W.T, x.T @ dy, np.mean(dy, axis=0)


def bias_not_summed(x, W, b, dy):
    return dy @ W.T, x.T @ dy, dy


def weights_transposed(x, W, b, dy):
    return dy @ W.T, dy.T @ x, dy.sum(0)


def minus_bias(x, W, b, dy):
    return dy @ W.T, x.T @ dy, -dy.sum(0)


def input_reshaped(x, W, b, dy):
    return dy @ W.reshape(W.shape[::-1]), x.T @ dy, dy.sum(0)


def but(right, place, change):
    """The right answer, a tuple or a dict, with one leaf another, made of the right one and the arguments."""
    def answer(*arguments):
        found = right(*arguments)
        leaf = change(found, *arguments)
        if isinstance(found, dict):
            return found | {place: leaf}
        return tuple(leaf if i == place else own for i, own in enumerate(found))

    return answer


def dense_as_dict(x, W, b, dy):
    return {"dx": dy @ W.T, "dW": x.T @ dy, "db": dy.sum(0)}


def dense_by_einsum(x, W, b, dy):
    return np.einsum("no,io->ni", dy, W), np.einsum("ni,no->io", x, dy), np.einsum("no->o", dy)


def dense_by_rows(x, W, b, dy):
    dx, dW, db = np.zeros_like(x), np.zeros_like(W), np.zeros_like(b)
    for n in range(len(x)):
        dx[n] = W @ dy[n]
        dW += np.outer(x[n], dy[n])
        db += dy[n]
    return dx, dW, db


def dense_by_columns_of_y(x, W, b, dy):
    dx = sum(np.outer(dy[:, j], W[:, j]) for j in range(W.shape[1]))
    return dx, np.stack([x.T @ d for d in dy.T], axis=1), np.array([sum(d) for d in dy.T])


def dense_with_a_one(x, W, b, dy):
    both = np.column_stack([x, np.ones(len(x))]).T @ dy
    return (W @ dy.T).T, both[:-1], both[-1]


def dense_by_broadcasting(x, W, b, dy):
    return (dy[:, None, :] * W).sum(2), (x[:, :, None] * dy[:, None, :]).sum(0), np.ones(len(x)) @ dy


# ---- 10-2 tanh -------------------------------------------------------------------------------


def tanh_by_loops(y, dy):
    dx = np.empty_like(y)
    for i in np.ndindex(y.shape):
        dx[i] = dy[i] * (1 - y[i] ** 2)
    return dx


def tanh_by_exponentials(y, dy):
    x = 0.5 * np.log((1 + y) / (1 - y))
    return dy * 4 / (np.exp(x) + np.exp(-x)) ** 2


# ---- 10-3 softplus ---------------------------------------------------------------------------


def softplus(x, dy):
    small = np.exp(-np.abs(x))
    return {"y": np.maximum(x, 0) + np.log1p(small), "dx": dy * np.where(x > 0, 1, small) / (1 + small)}


def softplus_as_written(x, dy):
    return {"y": np.log(1 + np.exp(x)), "dx": dy / (1 + np.exp(-x))}


def slope_as_written(x, dy):
    return {"y": np.logaddexp(0, x), "dx": dy * np.exp(x) / (1 + np.exp(x))}


def softplus_cut_off(x, dy):
    return {"y": np.log1p(np.exp(np.minimum(x, 30))), "dx": dy * special.expit(x)}


def rectified(x, dy):
    return {"y": np.where(x > 0, x, 0.0), "dx": np.where(x > 0, dy, 0.0)}


def softplus_of_scipy(x, dy):
    return {"dx": dy * special.expit(x), "y": -special.log_expit(-x)}


def softplus_by_branches(x, dy):
    y, dx = np.zeros_like(x), np.zeros_like(x)
    for i, v in np.ndenumerate(x):
        if v > 0:
            y[i], slope = v + math.log1p(math.exp(-v)), 1 / (1 + math.exp(-v))
        else:
            y[i], slope = math.log1p(math.exp(v)), math.exp(v) / (1 + math.exp(v))
        dx[i] = dy[i] * slope
    return {"y": y, "dx": dx}


def softplus_slope_from_y(x, dy):
    y = np.logaddexp(0, x)
    return {"y": y, "dx": dy * -np.expm1(-y)}


def softplus_slope_by_difference(x, dy):
    y = np.logaddexp(x, 0)
    return {"y": y, "dx": dy * np.exp(x - y)}


# ---- 10-4 two layers -------------------------------------------------------------------------


def network(x, W1, b1, W2, b2, dy):
    h = np.tanh(x @ W1 + b1)
    da = dy @ W2.T * (1 - h * h)
    return da @ W1.T, x.T @ da, da.sum(0), h.T @ dy, dy.sum(0)


def straight_through(x, W1, b1, W2, b2, dy):
    h = np.tanh(x @ W1 + b1)
    dh = dy @ W2.T
    return dh @ W1.T, x.T @ dh, dh.sum(0), h.T @ dy, dy.sum(0)


def tanh_of_tanh(x, W1, b1, W2, b2, dy):
    h = np.tanh(x @ W1 + b1)
    da = dy @ W2.T * (1 - np.tanh(h) ** 2)
    return da @ W1.T, x.T @ da, da.sum(0), h.T @ dy, dy.sum(0)


def slope_before_tanh(x, W1, b1, W2, b2, dy):
    a = x @ W1 + b1
    da = dy @ W2.T * (1 - a * a)
    return da @ W1.T, x.T @ da, da.sum(0), np.tanh(a).T @ dy, dy.sum(0)


def second_of_a(x, W1, b1, W2, b2, dy):
    a = x @ W1 + b1
    da = dy @ W2.T * (1 - np.tanh(a) ** 2)
    return da @ W1.T, x.T @ da, da.sum(0), a.T @ dy, dy.sum(0)


def with_slope(slope):
    """All five, with another slope, a function of h."""
    def answer(x, W1, b1, W2, b2, dy):
        h = np.tanh(x @ W1 + b1)
        da = dy @ W2.T * slope(h)
        return da @ W1.T, x.T @ da, da.sum(0), h.T @ dy, dy.sum(0)

    return answer


def no_first_bias(x, W1, b1, W2, b2, dy):
    return network(x, W1, 0 * b1, W2, b2, dy)


def network_means(x, W1, b1, W2, b2, dy):
    dx, *rest = network(x, W1, b1, W2, b2, dy)
    return dx, *(r / len(x) for r in rest)


def last_layer_first(x, W1, b1, W2, b2, dy):
    dx, dW1, db1, dW2, db2 = network(x, W1, b1, W2, b2, dy)
    return dx, dW2, db2, dW1, db1


def network_by_layers(x, W1, b1, W2, b2, dy):
    h = np.tanh(x @ W1 + b1)
    dh, dW2, db2 = dense(h, W2, b2, dy)
    return *dense(x, W1, b1, dh - dh * h**2), dW2, db2


def network_row_by_row(x, W1, b1, W2, b2, dy):
    dx, dW1, db1, dW2, db2 = (np.zeros_like(p) for p in (x, W1, b1, W2, b2))
    for n, (row, d) in enumerate(zip(x, dy)):
        h = np.tanh(row @ W1 + b1)
        da = (W2 @ d) / np.cosh(row @ W1 + b1) ** 2
        dx[n] = W1 @ da
        dW1 += np.outer(row, da)
        db1 += da
        dW2 += np.outer(h, d)
        db2 += d
    return dx, dW1, db1, dW2, db2


def network_by_einsum(x, W1, b1, W2, b2, dy):
    h = np.tanh(np.einsum("ni,ih->nh", x, W1) + b1)
    da = np.einsum("no,ho,nh->nh", dy, W2, 1 - h**2)
    return (np.einsum("nh,ih->ni", da, W1), np.einsum("ni,nh->ih", x, da), np.einsum("nh->h", da),
            np.einsum("nh,no->ho", h, dy), np.einsum("no->o", dy))


def network_by_jacobians(x, W1, b1, W2, b2, dy):
    h = np.tanh(x @ W1 + b1)
    J = np.einsum("nh,ho->nho", 1 - h**2, W2)
    da = np.einsum("nho,no->nh", J, dy)
    ones = np.ones(len(x))
    return (W1 @ da.T).T, (da.T @ x).T, ones @ da, (dy.T @ h).T, ones @ dy


# ---- 10-5 central differences ----------------------------------------------------------------


def central(F, p, h):
    numeric = np.zeros_like(p)
    for i in np.ndindex(p.shape):
        step = h * max(1.0, abs(p[i]))
        up, down = p.copy(), p.copy()
        up[i] += step
        down[i] -= step
        numeric[i] = (F(up) - F(down)) / (2 * step)
    return numeric


def forwards(F, p, h):
    numeric, here = np.zeros_like(p), F(p)
    for i in np.ndindex(p.shape):
        up = p.copy()
        up[i] += h * max(1, abs(p[i]))
        numeric[i] = (F(up) - here) / (h * max(1, abs(p[i])))
    return numeric


def backwards(F, p, h):
    numeric, here = np.zeros_like(p), F(p)
    for i in np.ndindex(p.shape):
        down = p.copy()
        down[i] -= h * max(1, abs(p[i]))
        numeric[i] = (here - F(down)) / (h * max(1, abs(p[i])))
    return numeric


def same_step(F, p, h):
    numeric = np.zeros_like(p)
    for i in np.ndindex(p.shape):
        e = np.zeros_like(p)
        e[i] = h
        numeric[i] = (F(p + e) - F(p - e)) / (2 * h)
    return numeric


def half_forgotten(F, p, h):
    numeric = np.zeros_like(p)
    for i in np.ndindex(p.shape):
        e = np.zeros_like(p)
        e[i] = h * max(1, abs(p[i]))
        numeric[i] = (F(p + e) - F(p - e)) / e[i]
    return numeric


def step_not_divided_by(F, p, h):
    numeric = np.zeros_like(p)
    for i in np.ndindex(p.shape):
        e = np.zeros_like(p)
        e[i] = h * max(1, abs(p[i]))
        numeric[i] = (F(p + e) - F(p - e)) / (2 * h)
    return numeric


def whole_array(F, p, h):
    step = h * np.maximum(1, np.abs(p))
    return (F(p + step) - F(p - step)) / (2 * step)


def left_where_it_was_moved(F, p, h):
    up, down, numeric = p.copy(), p.copy(), np.zeros_like(p)
    for i in np.ndindex(p.shape):
        step = h * max(1, abs(p[i]))
        up[i] += step
        down[i] -= step
        numeric[i] = (F(up) - F(down)) / (2 * step)
    return numeric


def into_the_argument(F, p, h):
    numeric = np.zeros_like(p)
    for i in np.ndindex(p.shape):
        step = h * max(1, abs(p[i]))
        p[i] += step
        up = F(p)
        p[i] -= 2 * step
        numeric[i] = (up - F(p)) / (2 * step)
    return numeric


def turned_round(F, p, h):
    return -central(F, p, h)


def central_flat(F, p, h):
    flat, numeric = p.ravel(), []
    for i, value in enumerate(flat):
        e = np.zeros(len(flat))
        e[i] = h * (abs(value) if abs(value) > 1 else 1)
        numeric.append((F((flat + e).reshape(p.shape)) - F((flat - e).reshape(p.shape))) / e[i] / 2)
    return np.array(numeric).reshape(p.shape)


def central_by_unit_steps(F, p, h):
    steps = h * np.maximum(1, np.abs(p))
    units = np.eye(p.size).reshape(-1, *p.shape)
    differences = [F(p + steps * unit) - F(p - steps * unit) for unit in units]
    return np.reshape(differences, p.shape) / (2 * steps)


def central_restored(F, p, h):
    q, numeric = p.copy(), np.empty_like(p)
    for i in np.ndindex(p.shape):
        old, step = q[i], h * max(1, abs(q[i]))
        q[i] = old + step
        above = F(q)
        q[i] = old - step
        numeric[i] = 0.5 * (above - F(q)) / step
        q[i] = old
    return numeric


def central_as_mean_of_sides(F, p, h):
    return 0.5 * (forwards(F, p, h) + backwards(F, p, h))


def central_by_rows(F, p, h):
    rows = []
    for i in range(p.shape[0]):
        row = []
        for j in range(p.shape[1]):
            step = h * np.max([1, np.abs(p[i, j])])
            e = np.zeros(p.shape)
            e[i, j] = 1
            row.append((F(p + step * e) - F(p - step * e)) / (step + step))
        rows.append(row)
    return np.array(rows)


# ---- 10-6 softmax ----------------------------------------------------------------------------


def softmax(y, dy):
    return y * (dy - np.sum(y * dy, axis=1, keepdims=True))


def softmax_by_rows(y, dy):
    return np.array([(np.diag(row) - np.outer(row, row)) @ d for row, d in zip(y, dy)])


def softmax_by_einsum(y, dy):
    return y * dy - np.einsum("ni,nj,nj->ni", y, y, dy)


def softmax_by_pairs(y, dy):
    return np.sum(y[:, :, None] * y[:, None, :] * (dy[:, :, None] - dy[:, None, :]), axis=2)


def softmax_by_loops(y, dy):
    dx = np.zeros_like(y)
    for n in range(len(y)):
        for i in range(y.shape[1]):
            for j in range(y.shape[1]):
                dx[n, i] += dy[n, j] * y[n, j] * ((i == j) - y[n, i])
    return dx


def softmax_through_log(y, dy):
    dlog = y * dy                                                  # y = exp(log y)
    return dlog - y * dlog.sum(axis=1)[:, None]


# ---- 10-7 the Gaussian -----------------------------------------------------------------------


def gaussian(f, log_psi, x, dlog_p):
    r, d = x - f, dlog_p[..., None]
    return d * r / np.exp(log_psi), (0.5 * d * (r**2 / np.exp(log_psi) - 1)).sum((0, 1))


def deviation(f, log_psi, x, dlog_p):
    s, r, d = np.exp(log_psi), x - f, dlog_p[..., None]
    return d * r / s**2, (d * (r**2 / s**2 - 1)).sum((0, 1))


def f_minus_x(f, log_psi, x, dlog_p):
    df, dlog_psi = gaussian(f, log_psi, x, dlog_p)
    return -df, dlog_psi


def root_of_psi(f, log_psi, x, dlog_p):
    _, dlog_psi = gaussian(f, log_psi, x, dlog_p)
    return dlog_p[..., None] * (x - f) / np.sqrt(np.exp(log_psi)), dlog_psi


def no_minus_one(f, log_psi, x, dlog_p):
    r, d = x - f, dlog_p[..., None]
    return d * r / np.exp(log_psi), (0.5 * d * r**2 / np.exp(log_psi)).sum((0, 1))


def half_missing(f, log_psi, x, dlog_p):
    df, dlog_psi = gaussian(f, log_psi, x, dlog_p)
    return df, 2 * dlog_psi


def in_psi(f, log_psi, x, dlog_p):
    df, dlog_psi = gaussian(f, log_psi, x, dlog_p)
    return df, dlog_psi / np.exp(log_psi)


def from_above_left_out(f, log_psi, x, dlog_p):
    return gaussian(f, log_psi, x, 1 + 0 * dlog_p)


def samples_not_summed(f, log_psi, x, dlog_p):
    r, d = x - f, dlog_p[..., None]
    return d * r / np.exp(log_psi), (0.5 * d * (r**2 / np.exp(log_psi) - 1)).sum(1)


def mean_over_samples(f, log_psi, x, dlog_p):
    df, dlog_psi = gaussian(f, log_psi, x, dlog_p)
    return df, dlog_psi / len(f)


def gaussian_by_einsum(f, log_psi, x, dlog_p):
    precision = 1 / np.exp(log_psi)
    df = np.einsum("sn,snd,d->snd", dlog_p, x - f, precision)
    squares = np.einsum("sn,snd,snd->d", dlog_p, x - f, x - f)
    return df, 0.5 * squares * precision - 0.5 * dlog_p.sum()


def gaussian_by_samples(f, log_psi, x, dlog_p):
    df, dlog_psi = np.zeros_like(f), np.zeros_like(log_psi)
    for s in range(len(f)):
        for n in range(len(x)):
            u = (x[n] - f[s, n]) * np.exp(-0.5 * log_psi)
            df[s, n] = dlog_p[s, n] * u * np.exp(-0.5 * log_psi)
            dlog_psi += 0.5 * dlog_p[s, n] * (u * u - 1)
    return df, dlog_psi


def gaussian_from_df(f, log_psi, x, dlog_p):
    df = dlog_p[:, :, None] * (x - f) / np.exp(log_psi)
    return df, 0.5 * (np.sum(df * (x - f), axis=(0, 1)) - np.sum(dlog_p))


def gaussian_through_u(f, log_psi, x, dlog_p):
    root = np.exp(0.5 * log_psi)
    u = (x - f) / root
    du = -dlog_p[:, :, None] * u                                   # log p = −½ u² − ½ log ψ
    return -du / root, -0.5 * (du * u + dlog_p[:, :, None]).sum(axis=1).sum(axis=0)


def gaussian_by_columns(f, log_psi, x, dlog_p):
    r = [x[:, d] - f[:, :, d] for d in range(x.shape[1])]
    psi = [math.exp(v) for v in log_psi]
    df = np.stack([dlog_p * a / p for a, p in zip(r, psi)], axis=-1)
    return df, np.array([np.vdot(dlog_p, a * a / p - 1) / 2 for a, p in zip(r, psi)])


# ---- 10-8 Laplace ----------------------------------------------------------------------------


def laplace(f, log_b, x, dlog_p):
    u, d = (x - f) / np.exp(log_b), dlog_p[:, :, None]
    return {
        "log_p": -np.sum(np.abs(u) + log_b + np.log(2), axis=2), "df": d * np.sign(u) / np.exp(log_b),
        "dlog_b": np.sum(d * (np.abs(u) - 1), axis=(0, 1)),
    }


def only(name, change):
    """A function of the arguments that gives the right answer, but for one entry."""
    def answer(f, log_b, x, dlog_p):
        u, b, d = (x - f) / np.exp(log_b), np.exp(log_b), dlog_p[:, :, None]
        return laplace(f, log_b, x, dlog_p) | {name: change(u, b, d)}

    return answer


def laplace_by_scipy(f, log_b, x, dlog_p):
    density = stats.laplace(loc=f, scale=np.exp(log_b))
    upper = density.cdf(x) > 0.5
    df = np.einsum("sn,snd->snd", dlog_p, np.where(upper, 1, -1) * np.exp(-log_b))
    return {
        "log_p": density.logpdf(x).sum(axis=-1), "df": df,
        "dlog_b": np.sum(df * (x - f), axis=(0, 1)) - dlog_p.sum(),
    }


def laplace_by_where(f, log_b, x, dlog_p):
    b = np.exp(log_b)
    slope = np.where(x > f, 1 / b, -1 / b)
    size = (x - f) * slope
    return {
        "log_p": np.log(np.prod(np.exp(-size) / (2 * b), axis=2)), "df": dlog_p[..., None] * slope,
        "dlog_b": np.tensordot(dlog_p, size - 1, axes=2),
    }


def laplace_by_loops(f, log_b, x, dlog_p):
    log_p, df, dlog_b = np.zeros(dlog_p.shape), np.zeros_like(f), np.zeros_like(log_b)
    for s, n, d in np.ndindex(f.shape):
        r, b = x[n, d] - f[s, n, d], math.exp(log_b[d])
        log_p[s, n] -= abs(r) / b + math.log(2 * b)
        df[s, n, d] = dlog_p[s, n] * math.copysign(1 / b, r)
        dlog_b[d] += dlog_p[s, n] * (abs(r) / b - 1)
    return {"log_p": log_p, "df": df, "dlog_b": dlog_b}


def laplace_by_norms(f, log_b, x, dlog_p):
    u = (x - f) * np.exp(-log_b)
    log_p = -np.linalg.norm(u, 1, axis=2) - np.sum(np.log(2 * np.exp(log_b)))
    df = dlog_p[:, :, None] * u / np.abs(u) * np.exp(-log_b)
    return {"log_p": log_p, "df": df, "dlog_b": np.einsum("sn,snd->d", dlog_p, np.abs(u) - 1)}


# ---- 10-9 the bound --------------------------------------------------------------------------


def bound(x, W, b, log_psi, phi, eta, *, samples=None, slope=True, eta_in=True, s_in=True, kl=(1, 1, 1)):
    """The right answer, or one in which something is left out."""
    S, K = (len(eta) if samples is None else samples), W.shape[0]
    m, log_s = phi[:, :K], phi[:, K:]
    s = np.exp(log_s)
    h = np.tanh(m + s * eta)
    df = -(x - h @ W - b) / np.exp(log_psi) / S
    dz = df @ W.T * (1 - h * h if slope else 1)
    dW = np.einsum("snk,snd->kd", h, df)
    dm = dz.sum(0) + kl[0] * m
    dlog_s = (dz * (eta if eta_in else 1)).sum(0) * (s if s_in else 1) + kl[1] * s**2 - kl[2]
    return dW, np.hstack([dm, dlog_s])


def with_(**options):
    """`bound` with something left out."""
    return lambda x, W, b, log_psi, phi, eta: bound(x, W, b, log_psi, phi, eta, **options)


def no_offset(x, W, b, log_psi, phi, eta):
    return bound(x, W, 0 * b, log_psi, phi, eta)


def with_kl(times):
    """The gradient of φ with so many times the KL."""
    def answer(x, W, b, log_psi, phi, eta):
        m, s = phi[:, : len(W)], np.exp(phi[:, len(W) :])
        dW, dphi = bound(x, W, b, log_psi, phi, eta)
        return dW, dphi + (times(*eta.shape[:2]) - 1) * np.hstack([m, s * s - 1])

    return answer


def halves_exchanged(x, W, b, log_psi, phi, eta):
    dW, dphi = bound(x, W, b, log_psi, phi, eta)
    return dW, np.hstack([dphi[:, len(W) :], dphi[:, : len(W)]])


def sums_apart(x, W, b, log_psi, phi, eta):
    K = len(W)
    m, s = phi[:, :K], np.exp(phi[:, K:])
    h = np.tanh(m + s * eta)
    df = (h @ W + b - x) / np.exp(log_psi) / len(eta)
    dz = df @ W.T * (1 - h * h)
    dlog_s = dz.sum(0) * eta.sum(0) * s + s * s - 1
    return np.einsum("snk,snd->kd", h, df), np.hstack([dz.sum(0) + m, dlog_s])


def without_noise(x, W, b, log_psi, phi, eta):
    K = len(W)
    m, s = phi[:, :K], np.exp(phi[:, K:])
    df = (np.tanh(m + s * eta) @ W + b - x) / np.exp(log_psi) / len(eta)
    return np.einsum("nk,snd->kd", np.tanh(m), df), bound(x, W, b, log_psi, phi, eta)[1]


def with_power_of_psi(by):
    """The residual over another power of ψ."""
    return lambda x, W, b, log_psi, phi, eta: bound(x, W, b, by * log_psi, phi, eta)


def elbo(x, W, b, log_psi, phi, eta):
    return tuple(-d for d in bound(x, W, b, log_psi, phi, eta))


def weights_before_tanh(x, W, b, log_psi, phi, eta):
    K = W.shape[0]
    z = phi[:, :K] + np.exp(phi[:, K:]) * eta
    df = -(x - np.tanh(z) @ W - b) / np.exp(log_psi) / len(eta)
    return np.einsum("snk,snd->kd", z, df), bound(x, W, b, log_psi, phi, eta)[1]


def variance_in_phi(x, W, b, log_psi, phi, eta):
    K = len(W)
    m, log_var = phi[:, :K], phi[:, K:]
    z = m + np.exp(0.5 * log_var) * eta
    df = (np.tanh(z) @ W + b - x) / np.exp(log_psi) / len(eta)
    dz = df @ W.T * (1 - np.tanh(z) ** 2)
    dlog_var = 0.5 * (dz * eta * np.exp(0.5 * log_var)).sum(0) + 0.5 * (np.exp(log_var) - 1)
    return np.einsum("snk,snd->kd", np.tanh(z), df), np.hstack([dz.sum(0) + m, dlog_var])


def deviations_in_psi(x, W, b, log_psi, phi, eta):
    return bound(x, W, b, 2 * log_psi, phi, eta)


def other_noise(x, W, b, log_psi, phi, eta):
    return bound(x, W, b, log_psi, phi, np.random.standard_normal(eta.shape))


def bound_by_loops(x, W, b, log_psi, phi, eta):
    K, S, psi = len(W), len(eta), np.exp(log_psi)
    dW, dphi = np.zeros_like(W), np.zeros_like(phi)
    for n in range(len(x)):
        m, s = phi[n, :K], np.exp(phi[n, K:])
        dphi[n] = np.concatenate([m, s**2 - 1])
        for e in eta[:, n]:
            h = np.tanh(m + s * e)
            df = (h @ W + b - x[n]) / psi / S
            dW += np.outer(h, df)
            dz = (W @ df) * (1 - h**2)
            dphi[n] += np.concatenate([dz, dz * s * e])
    return dW, dphi


def bound_by_rows(x, W, b, log_psi, phi, eta):
    (S, N, K), D = eta.shape, x.shape[1]
    z = (phi[:, :K] + np.exp(phi[:, K:]) * eta).reshape(S * N, K)
    h = np.tanh(z)
    df = ((h @ W + b).reshape(S, N, D) - x) / (S * np.exp(log_psi))
    rows = df.reshape(S * N, D)
    dz = (rows @ W.T / np.cosh(z) ** 2).reshape(S, N, K)
    dlog_s = (dz * eta).sum(axis=0) * np.exp(phi[:, K:])
    kl = np.concatenate([phi[:, :K], np.expm1(2 * phi[:, K:])], axis=1)
    return h.T @ rows, np.concatenate([dz.sum(axis=0), dlog_s], axis=1) + kl


def bound_by_einsum(x, W, b, log_psi, phi, eta):
    m, log_s = np.split(phi, 2, axis=1)
    sh = np.exp(log_s) * eta
    h = np.tanh(m + sh)
    df = np.einsum("snd,d->snd", np.einsum("snk,kd->snd", h, W) + b - x, np.exp(-log_psi)) / len(eta)
    dz = np.einsum("snd,kd,snk->snk", df, W, 1 - h**2)
    dlog_s = np.einsum("snk,snk->nk", dz, sh) + np.exp(2 * log_s) - 1
    return np.einsum("snk,snd->kd", h, df), np.hstack([np.einsum("snk->nk", dz) + m, dlog_s])


def bound_sample_by_sample(x, W, b, log_psi, phi, eta):
    parts = [bound(x, W, b, log_psi, phi, eta[s : s + 1]) for s in range(len(eta))]
    return np.mean([dW for dW, _ in parts], axis=0), np.mean([dphi for _, dphi in parts], axis=0)


def bound_of_the_package(x, W, b, log_psi, phi, eta):
    from teachvae import Model, bound, layers, likelihoods

    decoder = layers.Sequential((layers.Tanh(), layers.Linear(*W.shape)))
    model = Model(decoder, likelihoods.Gaussian(x.shape[1]), W.shape[0])
    theta = {"decoder": [{}, {"W": W, "b": b}], "likelihood": {"log_psi": log_psi}}
    _, cache = bound.forward(model, theta, phi, x, eta)
    dphi, dtheta = bound.backward(model, theta, cache, np.ones(len(x)))
    return dtheta["decoder"][1]["W"], dphi


# ---- 10-10 faults ----------------------------------------------------------------------------

SEEN = {
    "B1": "gradient", "B3": "bound and moments", "B17": "gradient, bound and moments", "constant": "bound",
    "plus one": "none of them",
}

def backward_of(x, W1, b1, W2, b2, dy):
    h = np.tanh(x @ W1 + b1)
    da = dy @ W2.T * (1 - h) * (1 + h)
    return da @ W1.T, x.T @ da, da.sum(0), h.T @ dy, dy.sum(0)


def differences(F, p, step):
    numeric = np.zeros_like(p)
    for i in np.ndindex(p.shape):
        up, down = p.copy(), p.copy()
        up[i] += step[i]
        down[i] -= step[i]
        numeric[i] = (F(up) - F(down)) / (2 * step[i])
    return numeric


def but_laplace(f, log_b, x, dlog_p, **changed):
    b, d = np.exp(log_b), dlog_p[..., None]
    return {
        "log_p": stats.laplace.logpdf(x, f, b).sum(2), "df": d * np.sign(x - f) / b,
        "dlog_b": (d * (abs(x - f) / b - 1)).sum((0, 1)),
    } | changed


def by_hand_bound(x, W, b, log_psi, phi, eta, slope=lambda z: 1 - np.tanh(z) ** 2, kl=lambda s: s * s - 1):
    m, log_s = np.split(phi, 2, axis=1)
    s = np.exp(log_s)
    z = m + s * eta
    df = (np.tanh(z) @ W + b - x) / np.exp(log_psi) / len(eta)
    dz = df @ W.T * slope(z)
    dphi = np.hstack([dz.sum(0) + m, (dz * eta).sum(0) * s + kl(s)])
    return np.tensordot(np.tanh(z), df, ((0, 1), (0, 1))), dphi


WRONG = {
    "10-1": {
        "each row's x meets its own dy":
            but(dense, 1, lambda right, x, W, b, dy: np.outer(x.sum(0), dy.sum(0))),
        "right except for dx: it takes y": but(dense, 0, lambda right, x, W, b, dy: (x @ W + b) @ W.T),
        "the gradient of the plain sum of y": plain_sum,
        "mean where they sum over the rows": means,
        "right except for db: mean": bias_by_mean,
        "(6, 2) where (2,) is asked for": bias_not_summed,
        "(2, 5) where (5, 2) is asked for; it is transposed": weights_transposed,
        "a forgotten minus": minus_bias,
        "W's numbers are read in another order": input_reshaped,
        "a dict came back, where 3 arrays": dense_as_dict,
        "it is multiplied by b": but(dense, 2, lambda right, x, W, b, dy: dy.sum(0) * b),
        "count no rows": but(dense, 2, lambda right, x, W, b, dy: np.full(len(b), float(len(x)))),
        "right except for dx: dy is taken":
            but(dense, 0, lambda right, x, W, b, dy: np.ones(dy.shape) @ W.T),
        "right except for dW: dy is taken":
            but(dense, 1, lambda right, x, W, b, dy: x.T @ np.ones(dy.shape)),
        "right except for dW: it takes y": but(dense, 1, lambda right, x, W, b, dy: x.T @ (b + x @ W)),
        "right except for dW: mean": but(dense, 1, lambda right, x, W, b, dy: right[1] / len(dy)),
    },
    "10-2": {
        "1 − y² is the slope already": lambda y, dy: dy * -2 * y,
        "y is taken for x": lambda y, dy: dy * (1 - np.tanh(y) ** 2),
        "this is the slope alone": lambda y, dy: 1 - y * y,
        "1 − y, where the slope": lambda y, dy: dy - dy * y,
        "the slope of the logistic function": lambda y, dy: y * (1 - y) * dy,
        "it has its sign turned": lambda y, dy: dy * (y**2 - 1),
        "was added to it": lambda y, dy: (1 - y**2) + dy,
        "divided by the slope": lambda y, dy: dy / (1 - y) / (1 + y),
        "dy is multiplied by y,": lambda y, dy: y * dy,
        "1 − tanh y": lambda y, dy: dy - dy * np.tanh(y),
        "it falls towards both ends": lambda y, dy: dy + dy * y**2,
        "the root of the slope": lambda y, dy: dy * (1 - y**2) ** 0.5,
    },
    "10-3": {
        "a negative x is not folded up":
            lambda x, dy: {"y": abs(x) + np.log1p(np.exp(-abs(x))), "dx": dy * special.expit(x)},
        "the 1 is exp(0)": lambda x, dy: {"y": np.logaddexp(1.0, x), "dx": dy * special.expit(x)},
        "not finite": softplus_as_written,
        "it is NaN": slope_as_written,
        "dy is left out": lambda x, dy: softplus(x, np.ones(x.shape)),
        "the slope of softplus at −x": lambda x, dy: softplus(x, dy) | {"dx": softplus(-x, dy)["dx"]},
        "this is the rectifier": rectified,
        "the rectifier's slope, a step": lambda x, dy: softplus(x, dy) | {"dx": np.where(x > 0, dy, 0.0)},
        "is the slope of σ":
            lambda x, dy: softplus(x, dy) | {"dx": dy * special.expit(x) * special.expit(-x)},
        "and right elsewhere": softplus_cut_off,
        "log(1 + exp(−|x|)) is missing": but(softplus, "y", lambda right, x, dy: np.where(x > 0, x, 0.0)),
        "so it is softplus of −|x|": but(softplus, "y", lambda right, x, dy: np.logaddexp(0, -np.abs(x))),
        "tanh stands where": but(softplus, "dx", lambda right, x, dy: np.tanh(x) * dy),
        "σ is taken at y": but(softplus, "dx", lambda right, x, dy: dy * special.expit(right["y"])),
        "right for positive x alone": but(softplus, "dx", lambda right, x, dy: dy * special.expit(np.abs(x))),
        "right for negative x alone":
            but(softplus, "dx", lambda right, x, dy: dy * special.expit(-np.abs(x))),
        "this is y itself times dy": but(softplus, "dx", lambda right, x, dy: dy * right["y"]),
    },
    "10-4": {
        "y, the output, stands where dy comes back":
            lambda x, W1, b1, W2, b2, dy: backward_of(x, W1, b1, W2, b2, np.tanh(x @ W1 + b1) @ W2 + b2),
        "the slope of tanh is forgotten": straight_through,
        "the slope of tanh is taken at h": tanh_of_tanh,
        "with a from before the tanh": slope_before_tanh,
        "it takes a, what goes into tanh": second_of_a,
        "b1 is left out": no_first_bias,
        "mean where it sums over them": network_means,
        "dh is multiplied by h": with_slope(lambda h: h),
        "1 − h, where": with_slope(lambda h: 1 - h),
        "right except for dx: the slope of tanh":
            but(network, 0, lambda right, x, W1, b1, W2, b2, dy: dy @ (W1 @ W2).T),
        "right except for db1: the slope of tanh":
            but(network, 2, lambda right, x, W1, b1, W2, b2, dy: W2 @ dy.sum(0)),
        "it takes the slope 1 − h²":
            but(network, 3, lambda right, x, W1, b1, W2, b2, dy: np.cosh(x @ W1 + b1).T ** -2 @ dy),
        "it has shape (7, 2) where (5, 7) is asked for": last_layer_first,
    },
    "10-5": {
        "a large negative entry is large, too": lambda F, p, h: differences(F, p, h * np.fmax(1.0, p)),
        "the step never falls below h": lambda F, p, h: differences(F, p, h * np.fmin(1.0, abs(p))),
        "max(1, |p|) is asked for": lambda F, p, h: differences(F, p, h + h * abs(p)),
        "each has its own": lambda F, p, h: differences(F, p, 0 * p + h * abs(p).max()),
        "this is F(p + h) − F(p)": forwards,
        "this is F(p) − F(p − h)": backwards,
        "h is the same for all entries": same_step,
        "where p + h and p − h are 2h apart": half_forgotten,
        "what you divide by does not": step_not_divided_by,
        "all entries are moved at once": whole_array,
        "is not put back before": left_where_it_was_moved,
        "changes its argument p in place": into_the_argument,
        "it has its sign turned": turned_round,
    },
    "10-6": {
        "mean where the sum over the row": lambda y, dy: y * (dy - (y * dy).mean(1)[:, None]),
        "the sum is added, and": lambda y, dy: y * dy + y * (y * dy).sum(1)[:, None],
        "y is the softmax already": lambda y, dy: (lambda p: p * (dy - (p * dy).sum(1)[:, None]))(
            special.softmax(y, axis=1)
        ),
        "is counted twice": lambda y, dy: y * dy - y * y * dy - y * (y * dy).sum(1)[:, None],
        "the sum that every probability is divided by": lambda y, dy: dy * y,
        "the diagonal of the matrix of derivatives alone": lambda y, dy: dy * (y - y**2),
        "goes over the data cases": lambda y, dy: y * (dy - (y * dy).sum(0, keepdims=True)),
        "goes over all data cases together": lambda y, dy: y * (dy - np.vdot(y, dy)),
        "a plain mean of dy": lambda y, dy: y * (dy - np.mean(dy, axis=1)[:, None]),
        "a plain sum of dy": lambda y, dy: y * (dy - np.sum(dy, axis=1)[:, None]),
        "in front of the bracket": lambda y, dy: dy - np.einsum("ni,ni->n", y, dy)[:, None],
        "of derivatives, without dy": lambda y, dy: y - y * y,
        "softmax and log likelihood together": lambda y, dy: y - dy,
        "the sum is taken off y": lambda y, dy: (y - np.sum(dy * y, axis=1)[:, None]) * dy,
        "multiply the whole bracket": lambda y, dy: y * dy - np.einsum("ni,ni->n", y, dy)[:, None],
        "the backward of log softmax": lambda y, dy: dy - y * np.sum(dy, axis=1)[:, None],
        "its sign turned": lambda y, dy: -softmax(y, dy),
    },
    "10-7": {
        "takes what comes back, whatever it is": lambda f, log_psi, x, dlog_p: (
            -(x - f) / np.exp(log_psi) / len(f),
            0.5 * (1 - (x - f) ** 2 / np.exp(log_psi)).mean(0).sum(0),
        ),
        "the exp is missing": lambda f, log_psi, x, dlog_p: (
            dlog_p[..., None] * (x - f) / log_psi,
            np.einsum("sn,snd->d", dlog_p, (x - f) ** 2 / log_psi - 1) / 2,
        ),
        "log_psi is taken for the logarithm of a standard deviation": deviation,
        "the sign is flipped": f_minus_x,
        "divided by √ψ": root_of_psi,
        "it lacks the −1 that −½ log ψ leaves": no_minus_one,
        "the factor 2 everywhere": half_missing,
        "that is the slope in ψ": in_psi,
        "dlog_p is taken for all ones": from_above_left_out,
        "axis 0 of length S = 7 is still there": samples_not_summed,
        "this is its square":
            but(gaussian, 0, lambda right, f, p, x, d: d[..., None] * (x - f) ** 2 / np.exp(p)),
        "for df: it lacks dlog_p": but(gaussian, 0, lambda right, f, p, x, d: (x - f) / np.exp(p)),
        "for dlog_psi: it lacks dlog_p":
            but(gaussian, 1, lambda right, f, p, x, d: 0.5 * ((x - f) ** 2 / np.exp(p) - 1).sum((0, 1))),
        "is not multiplied by dlog_p":
            but(gaussian, 1, lambda right, f, p, x, d: right[1] + 0.5 * d.sum() - 0.5 * len(f) * len(x)),
        "the −½ is taken off once":
            but(gaussian, 1, lambda right, f, p, x, d: right[1] + 0.5 * d.sum() - 0.5),
        "where its square belongs":
            but(gaussian, 1, lambda right, f, p, x, d:
                (d[..., None] * ((x - f) / np.exp(p) - 1)).sum((0, 1)) / 2),
        "a mean stands where a sum belongs": mean_over_samples,
    },
    "10-8": {
        "right except for log_p: log b is missing": lambda f, log_b, x, dlog_p: but_laplace(
            f, log_b, x, dlog_p, log_p=stats.laplace.logpdf(x, f, np.exp(log_b)).sum(2) + log_b.sum()
        ),
        "tanh ½u is the logistic density's pull": lambda f, log_b, x, dlog_p: but_laplace(
            f, log_b, x, dlog_p, df=dlog_p[..., None] * np.tanh((x - f) / np.exp(log_b) / 2) / np.exp(log_b)
        ),
        "the 1 is taken off once": lambda f, log_b, x, dlog_p: but_laplace(
            f, log_b, x, dlog_p, dlog_b=np.einsum("sn,snd->d", dlog_p, abs(x - f) / np.exp(log_b)) - 1
        ),
        "+1 where −1 belongs, of −log b": lambda f, log_b, x, dlog_p: but_laplace(
            f, log_b, x, dlog_p, dlog_b=np.einsum("sn,snd->d", dlog_p, abs(x - f) / np.exp(log_b) + 1)
        ),
        "log 2b is missing": only("log_p", lambda u, b, d: -np.abs(u).sum(2)),
        "the 2 of 2b is missing": only("log_p", lambda u, b, d: -(np.abs(u) + np.log(b)).sum(2)),
        "mean where it sums over variables":
            only("log_p", lambda u, b, d: -(np.abs(u) + np.log(2 * b)).mean(2)),
        "the square of a residual": only("log_p", lambda u, b, d: -(u**2 + np.log(2 * b)).sum(2)),
        "log b has its sign turned": only("log_p", lambda u, b, d: (np.log(b / 2) - np.abs(u)).sum(2)),
        "and this is −log p": only("log_p", lambda u, b, d: (np.log(2 * b) + np.abs(u)).sum(2)),
        "log_p: u stands where": only("log_p", lambda u, b, d: -(np.log(2 * b) + u).sum(2)),
        "|u| stands where": only("df", lambda u, b, d: d * np.abs(u) / b),
        "f nearer to x": only("df", lambda u, b, d: -d * np.sign(u) / b),
        "it lacks 1/b": only("df", lambda u, b, d: d * np.sign(u)),
        "it has the residual itself": only("df", lambda u, b, d: d * u / b),
        "df: it lacks dlog_p": only("df", lambda u, b, d: np.sign(u) / b),
        "it lacks the −1 that log 2b leaves": only("dlog_b", lambda u, b, d: (d * np.abs(u)).sum((0, 1))),
        "dlog_b: u stands where": only("dlog_b", lambda u, b, d: (d * (u - 1)).sum((0, 1))),
        "it is the slope in b": only("dlog_b", lambda u, b, d: (d * (np.abs(u) - 1) / b).sum((0, 1))),
        "dlog_b: it lacks dlog_p": only("dlog_b", lambda u, b, d: (np.abs(u) - 1).sum((0, 1))),
    },
    "10-9": {
        "of the cache, and this is 1 − z²":
            lambda x, W, b, log_psi, phi, eta: by_hand_bound(x, W, b, log_psi, phi, eta, lambda z: 1 - z * z),
        "dh is multiplied by h, and":
            lambda x, W, b, log_psi, phi, eta: by_hand_bound(x, W, b, log_psi, phi, eta, np.tanh),
        "the KL's part of log s is halved":
            lambda x, W, b, log_psi, phi, eta:
                by_hand_bound(x, W, b, log_psi, phi, eta, kl=lambda s: s * s / 2 - 0.5),
        "s − 1/s is the KL's slope in s":
            lambda x, W, b, log_psi, phi, eta:
                by_hand_bound(x, W, b, log_psi, phi, eta, kl=lambda s: s - 1 / s),
        "S = 7: a sum stands where a mean belongs": with_(samples=1),
        "the slope 1 − h² is missing": with_(slope=False),
        "lacks the factor eta": with_(eta_in=False),
        "lacks the factor s ": with_(s_in=False),
        "½ m² (KL) term, which is missing": with_(kl=(0, 1, 1)),
        "½ s² (KL) term, which has the factor 2": with_(kl=(1, 2, 1)),
        "−log s (KL) term, which is missing": with_(kl=(1, 1, 0)),
        "the sign, the mean and the weights of L itself": elbo,
        "b is left out of f(z)": no_offset,
        "and what meets W is h": weights_before_tanh,
        "phi is taken for [m | log s²]": variance_in_phi,
        "taken for the logarithm of a standard deviation; ψ": deviations_in_psi,
        "you redrew the noise": other_noise,
        "without the noise": without_noise,
        "the KL is missing, m and s² − 1": with_kl(lambda S, N: 0),
        "the KL has its sign turned": with_kl(lambda S, N: -1),
        "the KL is there S times": with_kl(lambda S, N: S),
        "the KL is divided by S": with_kl(lambda S, N: 1 / S),
        "the KL is divided by N": with_kl(lambda S, N: 1 / N),
        "its halves are exchanged": halves_exchanged,
        "where each sample's dz meets its own η": sums_apart,
        "the residual is divided by √ψ": with_power_of_psi(0.5),
        "the residual is not divided by ψ": with_power_of_psi(0.0),
    },
    "10-10": {
        "no entry agrees": SEEN | {"B1": "moments"},
        "compares the two, and passes": SEEN | {"B3": "gradient"},
        "the draws have the variance s⁴": SEEN | {"B3": "bound"},
        "the lowest Q lies below NLML by that": SEEN | {"B17": "gradient and moments"},
        "is less than NLML, which has all its constants": SEEN | {"constant": "none of them"},
        "what is too high stays above NLML": SEEN | {"plus one": "bound"},
        "nothing is chosen for plus one": SEEN | {"plus one": ...},
        "is none of the words": SEEN | {"constant": "value"},
        "a dict is asked for": "gradient",
    },
}

RIGHT = {
    "10-1": [dense, dense_by_einsum, dense_by_rows, dense_by_columns_of_y, dense_with_a_one,
             dense_by_broadcasting],
    "10-2": [
        tanh_by_loops, tanh_by_exponentials, lambda y, dy: dy * (1 - y) * (1 + y),
        lambda y, dy: dy - dy * y * y, lambda y, dy: np.einsum("nd,nd->nd", dy, 1 - y**2),
        lambda y, dy: dy * (1 - np.tanh(np.arctanh(y)) ** 2),
    ],
    "10-3": [softplus, softplus_of_scipy, softplus_by_branches, softplus_slope_from_y,
             softplus_slope_by_difference],
    "10-4": [network, network_by_layers, network_row_by_row, network_by_einsum, network_by_jacobians],
    "10-5": [central, central_flat, central_by_unit_steps, central_restored, central_as_mean_of_sides,
             central_by_rows],
    "10-6": [softmax, softmax_by_rows, softmax_by_einsum, softmax_by_pairs, softmax_by_loops,
             softmax_through_log],
    "10-7": [gaussian, gaussian_by_einsum, gaussian_by_samples, gaussian_from_df, gaussian_through_u,
             gaussian_by_columns],
    "10-8": [laplace, laplace_by_scipy, laplace_by_where, laplace_by_loops, laplace_by_norms],
    "10-9": [with_(), bound_by_loops, bound_by_rows, bound_by_einsum, bound_sample_by_sample,
             bound_of_the_package],
    "10-10": [SEEN],
}
