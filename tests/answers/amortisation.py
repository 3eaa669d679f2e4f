"""Answers to the exercises of notebook 07, amortisation and the VAE."""

import numpy as np
from scipy.linalg import eigh
from scipy.special import kl_div
from scipy.stats import multivariate_normal, norm

# ---- 07-1 recognise ----------------------------------------------------------------------------


def _phi(x, A, a, B, c):
    return np.tanh(x.dot(A) + a).dot(B) + c


def _halves(x, A, a, B, c):
    phi = _phi(x, A, a, B, c)
    return phi[:, : phi.shape[1] // 2], phi[:, phi.shape[1] // 2 :]


def _halves_exchanged(x, A, a, B, c):
    log_s, m = _halves(x, A, a, B, c)
    return m, np.exp(log_s)


def _log_s_as_it_is(x, A, a, B, c):
    m, s = _halves(x, A, a, B, c)
    return m, s


def _half_of_log_variance(x, A, a, B, c):
    m, log_var = _halves(x, A, a, B, c)
    return m, np.sqrt(np.exp(log_var))


def _variance(x, A, a, B, c):
    m, log_s = _halves(x, A, a, B, c)
    return m, np.exp(log_s) ** 2


def _tanh_at_the_end(x, A, a, B, c):
    m, log_s = np.hsplit(np.tanh(_phi(x, A, a, B, c)), 2)
    return m, np.exp(log_s)


def _in_turn(x, A, a, B, c):
    phi = _phi(x, A, a, B, c)
    return phi[:, 0::2], np.exp(phi[:, 1::2])


def _linear_only(x, A, a, B, c):
    m, log_s = np.hsplit((x @ A + a) @ B + c, 2)
    return m, np.exp(log_s)


def _all_in_one(x, A, a, B, c):
    return _phi(x, A, a, B, c)


def _by_einsum(x, A, a, B, c):
    h = np.tanh(np.einsum("nd,dh->nh", x, A) + a)
    m, log_s = np.hsplit(np.einsum("nh,hj->nj", h, B) + c, 2)
    return m, np.e**log_s


def _case_by_case(x, A, a, B, c):
    rows = [np.tanh(row @ A + a) @ B + c for row in x]
    K = len(c) // 2
    return np.array([row[:K] for row in rows]), np.array([[np.exp(v) for v in row[K:]] for row in rows])


def _two_heads(x, A, a, B, c):
    K, h = B.shape[1] // 2, np.tanh(x @ A + a)
    return h @ B[:, :K] + c[:K], np.exp(h @ B[:, K:] + c[K:])


def _bias_as_a_weight(x, A, a, B, c):
    one = np.ones((len(x), 1))
    h = np.tanh(np.hstack([x, one]) @ np.vstack([A, a]))
    m, log_s = np.split(np.hstack([h, one]) @ np.vstack([B, c]), 2, axis=1)
    return m, 1 / np.exp(-log_s)


def _tanh_by_exp(x, A, a, B, c):
    u = np.exp(2 * (x @ A + a))
    phi = (u - 1) / (u + 1) @ B + c
    return [phi[:, : phi.shape[1] // 2], np.exp(phi[:, phi.shape[1] // 2 :])]


# ---- 07-2 encoder_gradient ---------------------------------------------------------------------


def _no_slope_of_tanh(x, A, a, B, c, dphi):
    h = np.tanh(x @ A + a)
    dh = dphi @ B.T
    return x.T @ dh, np.sum(dh, axis=0), h.T @ dphi, np.sum(dphi, axis=0)


def _slope_of_what_is_inside(x, A, a, B, c, dphi):
    u = x @ A + a
    dh = dphi @ B.T * (1 - u * u)
    return x.T @ dh, dh.sum(0), np.tanh(u).T @ dphi, dphi.sum(0)


def _means(x, A, a, B, c, dphi):
    h = np.tanh(x @ A + a)
    dh = dphi @ B.T * (1 - h**2)
    return x.T @ dh / len(x), dh.mean(0), h.T @ dphi / len(x), dphi.mean(0)


def _transposed(x, A, a, B, c, dphi):
    h = np.tanh(x @ A + a)
    dh = dphi @ B.T * (1 - h**2)
    return dh.T @ x, dh.sum(0), dphi.T @ h, dphi.sum(0)


def _biases_not_summed(x, A, a, B, c, dphi):
    h = np.tanh(x @ A + a)
    dh = dphi @ B.T * (1 - h**2)
    return x.T @ dh, dh, h.T @ dphi, dphi


def _last_layer_sees_no_tanh(x, A, a, B, c, dphi):
    u = x @ A + a
    dh = dphi @ B.T * (1 - np.tanh(u) ** 2)
    return x.T @ dh, dh.sum(0), u.T @ dphi, dphi.sum(0)


def _forgot_the_bias(x, A, a, B, c, dphi):
    h = np.tanh(x @ A)
    dh = dphi @ B.T * (1 - h**2)
    return x.T @ dh, dh.sum(0), h.T @ dphi, dphi.sum(0)


def _grad_einsum(x, A, a, B, c, dphi):
    h = np.tanh(x @ A + a)
    d = np.einsum("nj,hj,nh->nh", dphi, B, 1 - h * h)
    return np.einsum("nd,nh->dh", x, d), np.einsum("nh->h", d), np.einsum("nh,nj->hj", h, dphi), dphi.sum(0)


def _grad_by_cases(x, A, a, B, c, dphi):
    dA, da, dB, dc = (np.zeros_like(p) for p in (A, a, B, c))
    for row, dp in zip(x, dphi):
        h = np.tanh(row @ A + a)
        d = B @ dp / np.cosh(row @ A + a) ** 2
        dA += np.outer(row, d)
        da += d
        dB += np.outer(h, dp)
        dc += dp
    return dA, da, dB, dc


def _grad_by_bias_column(x, A, a, B, c, dphi):
    x1 = np.column_stack([x, np.ones(len(x))])
    h = np.tanh(x1 @ np.vstack([A, a]))
    d = (B @ dphi.T).T * (1 + h) * (1 - h)
    dA1 = x1.T @ d
    dB1 = np.column_stack([h, np.ones(len(x))]).T @ dphi
    return dA1[:-1], dA1[-1], dB1[:-1], dB1[-1]


def _grad_by_jacobian(x, A, a, B, c, dphi):
    u = x @ A + a
    slope = np.stack([np.diag(1 / np.cosh(row) ** 2) for row in u])           # (N, H, H)
    d = np.einsum("nj,hj,nhg->ng", dphi, B, slope)
    return [(d.T @ x).T, np.ones(len(x)) @ d, (dphi.T @ np.tanh(u)).T, np.ones(len(x)) @ dphi]


def _grad_complex_step(x, A, a, B, c, dphi):
    def value(*p):
        return np.sum(dphi * (np.tanh(x @ p[0] + p[1]) @ p[2] + p[3]))

    given, found = (A, a, B, c), []
    for i, p in enumerate(given):
        g = np.zeros_like(p)
        for index in np.ndindex(p.shape):
            moved = [q.astype(complex) for q in given]
            moved[i][index] += 1e-30j
            g[index] = value(*moved).imag / 1e-30
        found.append(g)
    return tuple(found)


# ---- 07-3 vae_gradient -------------------------------------------------------------------------


def _step(x, eta, A, a, B, c, W, b, log_psi, *, of=lambda name, value, known: value):
    """The whole step; `of` may change what is called name, knowing all that was computed before."""
    known = {}

    def note(name, value):
        known[name] = of(name, value, known)
        return known[name]

    S, N, K = eta.shape
    known |= {"N": N, "S": S, "eta": eta, "x": x, "W": W, "psi": np.exp(log_psi)}
    h = note("h", np.tanh(x @ A + a))
    phi = h @ B + c
    m, s = note("m", phi[:, :K]), note("s", np.exp(phi[:, K:]))
    z = note("z", m + s * eta)
    t = note("t", np.tanh(z))
    e = note("e", (x - t @ W - b) / known["psi"])
    df = note("df", -e / (N * S))
    dW = note("dW", sum(t[i].T @ df[i] for i in range(S)))
    db = note("db", df.sum(0).sum(0))
    dlog_psi = note("dlog_psi", 0.5 * np.mean(1 - e**2 * known["psi"], axis=(0, 1)))
    dz = note("dz", (df @ W.T) * (1 - t * t))
    dm = note("dm", dz.sum(0)) + note("KL m", m / N)
    dl = note("dl", np.sum(dz * eta, axis=0) * s) + note("KL l", (s * s - 1) / N)
    dphi = np.hstack([dm, dl])
    d = (dphi @ B.T) * (1 - h * h)
    return x.T @ d, d.sum(0), h.T @ dphi, dphi.sum(0), dW, db, dlog_psi


def _but(**changes):
    """A step of which some things are computed otherwise: name=function(value, known)."""
    spelt = {name.replace("_of_", " "): change for name, change in changes.items()}

    def answer(x, eta, A, a, B, c, W, b, log_psi):
        return _step(x, eta, A, a, B, c, W, b, log_psi, of=lambda name, value, known: (
            spelt[name](value, known) if name in spelt else value
        ))

    return answer


def _step_by_einsum(x, eta, A, a, B, c, W, b, log_psi):
    S, N, K = eta.shape
    h = np.tanh(x @ A + a)
    phi = np.einsum("nh,hj->nj", h, B) + c
    m, log_s = phi[:, :K], phi[:, K:]
    t = np.tanh(np.einsum("snk,nk->snk", eta, np.exp(log_s)) + m[None])
    df = np.einsum("snd,d->snd", np.einsum("snk,kd->snd", t, W) + b - x, np.exp(-log_psi)) / S / N
    dz = np.einsum("snd,kd,snk->snk", df, W, 1 - t**2)
    dphi = np.concatenate([
        np.einsum("snk->nk", dz) + m / N,
        np.einsum("snk,snk,nk->nk", dz, eta, np.exp(log_s)) + np.expm1(2 * log_s) / N,
    ], axis=1)
    d = np.einsum("nj,hj,nh->nh", dphi, B, 1 - h**2)
    dlog_psi = 0.5 - 0.5 * S * N * np.einsum("snd,snd,d->d", df, df, np.exp(log_psi))
    return (
        np.einsum("nd,nh->dh", x, d), np.einsum("nh->h", d), np.einsum("nh,nj->hj", h, dphi), dphi.sum(0),
        np.einsum("snk,snd->kd", t, df), np.einsum("snd->d", df), dlog_psi,
    )


def _step_by_loops(x, eta, A, a, B, c, W, b, log_psi):
    """Case by case and sample by sample."""
    S, N, K = eta.shape
    dA, da, dB, dc, dW, db, dl = (np.zeros_like(p) for p in (A, a, B, c, W, b, log_psi))
    for n in range(N):
        h = np.tanh(x[n] @ A + a)
        phi = h @ B + c
        m, s = phi[:K], np.exp(phi[K:])
        dphi = np.concatenate([m, s**2 - 1]) / N
        for i in range(S):
            t = np.tanh(m + s * eta[i, n])
            f = t @ W + b
            df = (f - x[n]) / np.exp(log_psi) / S / N
            dW += np.outer(t, df)
            db += df
            dl += 0.5 * (1 - (x[n] - f) ** 2 / np.exp(log_psi)) / S / N
            dz = (W @ df) * (1 - t**2)
            dphi += np.concatenate([dz, dz * eta[i, n] * s])
        dB += np.outer(h, dphi)
        dc += dphi
        d = (B @ dphi) * (1 - h**2)
        dA += np.outer(x[n], d)
        da += d
    return dA, da, dB, dc, dW, db, dl


def _step_of_the_sum(x, eta, A, a, B, c, W, b, log_psi):
    """The gradient of the sum, divided by N at the very end."""
    S, N, K = eta.shape
    rows = eta.reshape(S * N, K)
    h = np.tanh(x @ A + a)
    m, s = np.split(h @ B + c, 2, axis=1)
    s = np.exp(s)
    t = np.tanh(np.tile(m, (S, 1)) + np.tile(s, (S, 1)) * rows)
    r = np.tile(x, (S, 1)) - (t @ W + b)
    df = -r / np.exp(log_psi) / S
    dz = (df @ W.T / np.cosh(np.arctanh(t)) ** 2).reshape(S, N, K)
    dphi = np.hstack([dz.sum(0) + m, (dz * eta * s).sum(0) + s**2 - 1])
    d = dphi @ B.T * (1 - h**2)
    dl = 0.5 * (len(r) - np.sum(r**2 / np.exp(log_psi), axis=0)) / S
    return tuple(g / N for g in (x.T @ d, d.sum(0), h.T @ dphi, dphi.sum(0), t.T @ df, df.sum(0), dl))


def _step_complex(x, eta, A, a, B, c, W, b, log_psi):
    """By complex steps through the forward alone."""
    def mean_Q(A, a, B, c, W, b, log_psi):
        m, log_s = np.split(np.tanh(x @ A + a) @ B + c, 2, axis=1)
        f = np.tanh(m + np.exp(log_s) * eta) @ W + b
        cost = 0.5 * np.sum((x - f) ** 2 * np.exp(-log_psi) + log_psi, axis=-1).mean()
        return cost + 0.5 * np.sum(m**2 + np.exp(2 * log_s) - 2 * log_s) / len(x)

    given, found = (A, a, B, c, W, b, log_psi), []
    for i, p in enumerate(given):
        g = np.zeros_like(p)
        for index in np.ndindex(p.shape):
            moved = [q.astype(complex) for q in given]
            moved[i][index] += 1e-30j
            g[index] = mean_Q(*moved).imag / 1e-30
        found.append(g)
    return found


# ---- 07-4 new_data -----------------------------------------------------------------------------


def _by_scipy(m, s, eta, epsilon, W, b, psi):
    return norm(np.tanh(eta) @ W + b, psi**0.5).ppf(norm.cdf(epsilon))


def _row_by_row(m, s, eta, epsilon, W, b, psi):
    return np.stack([np.tanh(z) @ W + b + np.diag(np.sqrt(psi)) @ e for z, e in zip(eta, epsilon)])


def _through_cholesky(m, s, eta, epsilon, W, b, psi):
    return epsilon @ np.linalg.cholesky(np.diag(psi)).T + b + np.tanh(eta) @ W


# ---- 07-5 amortisation_gap ---------------------------------------------------------------------


def _kl_of(m, s, mean, M):
    """KL of a diagonal normal distribution to the posterior, (N,)."""
    r = m - mean
    return 0.5 * (
        np.sum(np.diag(M) * s**2, axis=1) - M.shape[0] + np.einsum("ni,ij,nj->n", r, M, r)
        - 2 * np.log(s).sum(axis=1) - np.linalg.slogdet(M)[1]
    )


def _best(mean, M):
    return np.broadcast_to(1 / np.sqrt(np.diag(M)), mean.shape)


def _gap_by_kls(m, s, mean, M):
    return _kl_of(m, s, mean, M) - _kl_of(mean, _best(mean, M), mean, M)


def _gap_by_scipy(m, s, mean, M):
    """Entropies and mean squares of SciPy's own normal distributions."""
    C = np.linalg.inv(M)
    best = np.diag(1 / np.diag(M))

    def cross(mu, S, at):
        return -multivariate_normal(at, C).logpdf(mu) + 0.5 * np.trace(M @ S)

    found = []
    for m_n, s_n, at in zip(m, s, mean):
        used = cross(m_n, np.diag(s_n**2), at) - multivariate_normal(m_n, np.diag(s_n**2)).entropy()
        found.append(used - (cross(at, best, at) - multivariate_normal(at, best).entropy()))
    return np.array(found)


def _gap_by_cholesky(m, s, mean, M):
    u = (m - mean) @ np.linalg.cholesky(M)
    t = s**2 * np.diagonal(M)
    return np.sum(t - np.log(t), axis=1) / 2 - M.shape[0] / 2 + np.sum(u * u, axis=1) / 2


def _gap_by_loops(m, s, mean, M):
    gap = np.zeros(len(m))
    for n in range(len(m)):
        for k in range(len(M)):
            t = M[k, k] * s[n, k] ** 2
            gap[n] += 0.5 * (t - 1 - np.log(t))
            for j in range(len(M)):
                gap[n] += 0.5 * (m[n, k] - mean[n, k]) * M[k, j] * (m[n, j] - mean[n, j])
    return gap


def _gap_by_kl_div(m, s, mean, M):
    widths = 0.5 * kl_div(1.0, np.diag(M) * s**2).sum(axis=1)       # −log t − 1 + t
    return widths + 0.5 * np.diag((m - mean) @ M @ (m - mean).T)


def _variance_for_s(m, s, mean, M):
    t = np.diag(M) * s
    return 0.5 * np.sum(t - 1 - np.log(t), axis=1) + 0.5 * np.einsum("nk,kj,nj->n", m - mean, M, m - mean)


def _of_a_covariance(m, s, mean, M):
    P = np.linalg.inv(M)
    t = np.diag(P) * s**2
    return 0.5 * np.sum(t - 1 - np.log(t), axis=1) + 0.5 * np.einsum("nk,kj,nj->n", m - mean, P, m - mean)


def _no_half(m, s, mean, M):
    return 2 * _gap_by_loops(m, s, mean, M)


# ---- 07-6 stop_early ---------------------------------------------------------------------------


def _by_a_counter(path, patience):
    best, waited = 0, 0
    for i in range(1, len(path)):
        if path[i] < path[best]:
            best, waited = i, 0
        else:
            waited += 1
        if waited == patience:
            return i + 1, best + 1
    return len(path), best + 1


def _by_while(path, patience):
    n, best = 1, 1
    while n < len(path) and n - best < patience:
        n += 1
        if path[n - 1] < path[best - 1]:
            best = n
    return n, best


def _by_recursion(path, patience, n=1, best=1):
    if n == len(path) or n - best >= patience:
        return n, best
    return _by_recursion(path, patience, n + 1, n + 1 if path[n] < path[best - 1] else best)


def _by_windows(path, patience):
    """The first window of `patience` epochs that holds nothing lower than what was before it."""
    for start in range(1, len(path) - patience + 1):
        if min(path[start : start + patience]) >= min(path[:start]):
            n = start + patience
            return n, int(np.argmin(path[:n])) + 1
    return len(path), int(np.argmin(path)) + 1


def _by_accumulate(path, patience):
    lowest = np.minimum.accumulate(path)
    best = np.array([np.argmin(path[: i + 1]) + 1 for i in range(len(lowest))])
    n = next((i for i in range(1, len(path) + 1) if i - best[i - 1] >= patience), len(path))
    return n, best[n - 1]


def _whole_path(path, patience):
    return len(path), int(np.argmin(path)) + 1


def _first_rise(path, patience):
    for i in range(1, len(path)):
        if path[i] >= path[i - 1]:
            return i + 1, int(np.argmin(path[: i + 1])) + 1
    return len(path), int(np.argmin(path)) + 1


def _from_zero(path, patience):
    n, best = _by_a_counter(path, patience)
    return n - 1, best - 1


def _one_more(path, patience):
    best, waited = 0, 0
    for i in range(1, len(path)):
        best, waited = (i, 0) if path[i] < path[best] else (best, waited + 1)
        if waited > patience:
            return i + 1, best + 1
    return len(path), best + 1


def _against_the_one_before(path, patience):
    waited = 0
    for i in range(1, len(path)):
        waited = 0 if path[i] < path[i - 1] else waited + 1
        if waited >= patience:
            return i + 1, int(np.argmin(path[: i + 1])) + 1
    return len(path), int(np.argmin(path)) + 1


def _never_reset(path, patience):
    lowest, best, waited = path[0], 1, 0
    for i in range(1, len(path)):
        if path[i] < lowest:
            lowest, best = path[i], i + 1
        else:
            waited += 1
        if waited >= patience:
            return i + 1, best
    return len(path), best


def _keeps_the_last(path, patience):
    n, _ = _by_a_counter(path, patience)
    return n, n


# ---- 07-7 active_units, 07-8 variance_of_means -------------------------------------------------


def _moments(m, threshold):
    v = (m**2).mean(axis=0) - m.mean(axis=0) ** 2
    return v, v > threshold


def _by_pairs(m, threshold):
    v = np.array([np.mean((u[:, None] - u[None, :]) ** 2) / 2 for u in m.T])
    return v, v > threshold


def _by_cov(m, threshold):
    v = np.diag(np.cov(m, rowvar=False, bias=True)).copy()
    return v, np.greater(v, threshold)


def _by_norms(m, threshold):
    v = np.linalg.norm(m - m.mean(axis=0), axis=0) ** 2 / len(m)
    return v, np.array([bool(value > threshold) for value in v])


def _ppca(S, sigma2, K):
    values, vectors = np.linalg.eigh(S)
    W = (vectors[:, ::-1][:, :K] * np.sqrt(np.maximum(values[::-1][:K] - sigma2, 0))).T
    M = np.eye(K) + W @ W.T / sigma2
    G = np.linalg.inv(M) @ W / sigma2
    return np.array([G[k] @ S @ G[k] for k in range(K)])


def _by_loop(S, sigma2, K):
    values = sorted(np.linalg.eigvalsh(S), reverse=True)[:K]
    return np.array([1 - sigma2 / v if v > sigma2 else 0.0 for v in values])


def _by_eigh_subset(S, sigma2, K):
    D = len(S)
    values = eigh(S, eigvals_only=True, subset_by_index=[D - K, D - 1])[::-1]
    return np.clip(1 - sigma2 / values, 0, None)


def _by_svd(S, sigma2, K):
    values = np.linalg.svd(S, compute_uv=False)[:K]
    return np.where(values > sigma2, (values - sigma2) / values, 0.0)


def _by_law_of_total_variance(S, sigma2, K):
    values = np.sort(np.linalg.eigvals(S).real)[::-1][:K]
    return 1 - np.minimum(1, sigma2 / values)


def _largest(S, K):
    return np.linalg.eigvalsh(S)[::-1][:K]


def _rule(path, patience, new=np.less):
    lowest, best = np.inf, 0
    for epoch, Q in enumerate(path, 1):
        if new(Q, lowest):
            lowest, best = Q, epoch
        elif epoch - best >= patience:
            break
    return epoch, best


def _ties_are_new(path, patience):
    return _rule(path, patience, np.less_equal)


WRONG = {
    "07-1": {
        "a rectifier bends the hidden layer": lambda x, A, a, B, c: (
            lambda m, log_s: (m, np.exp(log_s))
        )(*np.split(np.fmax(x @ A + a, 0) @ B + c, 2, axis=1)),
        "the bias c of the output": lambda x, A, a, B, c: (
            lambda m, log_s: (m, np.exp(log_s))
        )(*np.split(np.tanh(x @ A + a) @ B, 2, axis=1)),
        "softplus makes positive numbers": lambda x, A, a, B, c: (
            lambda m, log_s: (m, np.log1p(np.exp(log_s)))
        )(*np.split(_phi(x, A, a, B, c), 2, axis=1)),
        "the halves of φ are exchanged": _halves_exchanged,
        "s came back as its logarithm": _log_s_as_it_is,
        "exp(½ ·) is for a log-variance": _half_of_log_variance,
        "s came back as the variance": _variance,
        "the output layer is linear": _tanh_at_the_end,
        "columns of φ are taken in turn": _in_turn,
        "2 arrays in their order": _all_in_one,
        "both layers are one linear map": _linear_only,
    },
    "07-2": {
        "slope of tanh, 1 − h², is left out": _no_slope_of_tanh,
        "not with what stands inside of tanh": _slope_of_what_is_inside,
        "the mean over the data cases is taken": _means,
        "it is transposed": _transposed,
        "forgotten sum or mean": _biases_not_summed,
        "what enters the last layer is h": _last_layer_sees_no_tanh,
        "forgets the bias a": _forgot_the_bias,
    },
    "07-3": {
        "lacks the KL, which pulls m to 0": _but(**{
            "KL_of_m": lambda v, k: 0 * v, "KL_of_l": lambda v, k: 0 * v,
        }),
        "it is a sum over the data cases": _but(**{
            "KL_of_m": lambda v, k: v * k["N"], "KL_of_l": lambda v, k: v * k["N"],
        }),
        "and the −1, of −log s, is missing": _but(KL_of_l=lambda v, k: k["s"] ** 2 / k["N"]),
        "is s² − 1 without a ½": _but(KL_of_l=lambda v, k: v / 2),
        "and in log s it is s times that": _but(KL_of_l=lambda v, k: (k["s"] - 1 / k["s"]) / k["N"]),
        "the factor s is left out": _but(dl=lambda v, k: (k["dz"] * k["eta"]).sum(axis=0)),
        "the noise is left out": _but(dl=lambda v, k: k["dz"].sum(axis=0) * k["s"]),
        "the slope 1 − tanh²z is left out": _but(dz=lambda v, k: k["df"] @ k["W"].T),
        "the slope is 1 − z²": _but(dz=lambda v, k: k["df"] @ k["W"].T * (1 - k["z"] ** 2)),
        "dW was taken with z": _but(dW=lambda v, k: np.einsum("snk,snd->kd", k["z"], k["df"])),
        "its df lacks 1/S": _but(df=lambda v, k: v * k["S"]),
        "the ½ log ψ of the density": _but(dlog_psi=lambda v, k: v - 0.5),
        "it is one mistake, where the backward starts": lambda *given: tuple(
            len(given[0]) * g for g in _step(*given)
        ),
    },
    "07-4": {
        "without the m of any data case":
            lambda m, s, eta, epsilon, W, b, psi: np.tanh(eta + m) @ W + b + psi**0.5 * epsilon,
        "the codes' means are decoded, and noise":
            lambda m, s, eta, epsilon, W, b, psi: b + np.tanh(m) @ W + psi**0.5 * epsilon,
        "it was taken for their logarithms":
            lambda m, s, eta, epsilon, W, b, psi: b + np.tanh(eta) @ W + np.exp(0.5 * psi) * epsilon,
        "they encode data that there were": lambda m, s, eta, epsilon, W, b, psi: (
            np.tanh(m + eta * s) @ W + b + psi**0.5 * epsilon
        ),
        "neither z nor x was drawn": lambda m, s, eta, epsilon, W, b, psi: np.tanh(m) @ W + b,
        "and x has no noise": lambda m, s, eta, epsilon, W, b, psi: np.tanh(m + s * eta) @ W + b,
        "z is drawn, x is not": lambda m, s, eta, epsilon, W, b, psi: np.tanh(eta) @ W + b,
        "ψ is a variance": lambda m, s, eta, epsilon, W, b, psi: np.tanh(eta) @ W + b + psi * epsilon,
        "without the s of any data case": lambda m, s, eta, epsilon, W, b, psi: (
            np.tanh(s * eta) @ W + b + np.sqrt(psi) * epsilon
        ),
        "the decoder's tanh is left out": lambda m, s, eta, epsilon, W, b, psi: (
            eta @ W + b + np.sqrt(psi) * epsilon
        ),
    },
    "07-5": {
        "the marginals' from M⁻¹ are wider": lambda m, s, mean, M: (
            np.einsum("nk,kj,nj->n", m - mean, M, m - mean)
            + (s**2 / np.diag(np.linalg.inv(M)) - 1 - np.log(s**2 / np.diag(np.linalg.inv(M)))).sum(1)
        ) / 2,
        "as in KL(p ‖ q)": lambda m, s, mean, M: 0.5 * (
            np.einsum("nk,kj,nj->n", m - mean, M, m - mean)
            + (1 / (np.diag(M) * s**2) - 1 + np.log(np.diag(M) * s**2)).sum(1)
        ),
        "so the gap is Q of the network less the least Q": lambda m, s, mean, M: -_gap_by_kls(m, s, mean, M),
        "this is all of Q − nlml": _kl_of,
        "of the means only their own precision": lambda m, s, mean, M: 0.5 * np.sum(
            np.diag(M) * s**2 - 1 - np.log(np.diag(M) * s**2) + np.diag(M) * (m - mean) ** 2, axis=1
        ),
        "which cost something too": lambda m, s, mean, M: 0.5 * np.diag((m - mean) @ M @ (m - mean).T),
        "the means are left out": lambda m, s, mean, M: _gap_by_kls(m, s, m, M),
        "which is forgotten": lambda m, s, mean, M: 0.5 * np.sum(
            np.diag(M) * s**2 - 1 - np.log(np.diag(M) * s**2), axis=1
        ) + np.sum((m - mean) @ M * (m - mean), axis=1),
        "right except for a constant": lambda m, s, mean, M: 0.5 * np.sum(
            np.diag(M) * s**2 - 1 - np.log(s**2), axis=1
        ) + 0.5 * np.sum((m - mean) @ M * (m - mean), axis=1),
        "s is a standard deviation": _variance_for_s,
        "it was taken for a covariance": _of_a_covariance,
        "a ½ is forgotten": _no_half,
    },
    "07-6": {
        "is no new lowest: < and not ≤": _ties_are_new,
        "later epochs have not happened": lambda path, patience: (
            _rule(path, patience)[0], int(np.argmin(path)) + 1
        ),
        "the two are exchanged": lambda path, patience: _rule(path, patience)[::-1],
        "the whole path was looked at": _whole_path,
        "the patience was not had": _first_rise,
        "here they are counted from 0": _from_zero,
        "one epoch too many": _one_more,
        "each epoch is compared with the one before it": _against_the_one_before,
        "here it goes on counting": _never_reset,
        "the last parameters are kept": _keeps_the_last,
    },
    "07-7": {
        "and not a standard deviation": lambda m, threshold: (m.var(0), m.std(0) > threshold),
        "the mean square is taken": lambda m, threshold: (np.mean(m**2, 0), np.mean(m**2, 0) > threshold),
        "the standard deviation is taken": lambda m, threshold: (m.std(0), m.std(0) > threshold),
        "how a unit moves with the data is over axis 0": lambda m, tau: (m.var(1), m.var(1) > tau),
        "the divisor is N − 1": lambda m, threshold: (m.var(0, ddof=1), m.var(0, ddof=1) > threshold),
        "these are the units at rest": lambda m, threshold: (m.var(0), m.var(0) <= threshold),
        "and not how many": lambda m, threshold: (m.var(0), int((m.var(0) > threshold).sum())),
    },
    "07-8": {
        "here it is below 0": lambda S, sigma2, K: 1 - sigma2 / _largest(S, K),
        "no unit is active here": lambda S, sigma2, K: np.maximum(
            1 - sigma2 / np.linalg.eigvalsh(S)[:K], 0
        ),
        "the largest comes first": lambda S, sigma2, K: np.fmax(1 - sigma2 / np.linalg.eigvalsh(S)[-K:], 0),
        "is the squared length of a row of W": lambda S, sigma2, K: np.maximum(_largest(S, K) - sigma2, 0),
        "its root was taken": lambda S, sigma2, K: np.maximum(1 - np.sqrt(sigma2) / _largest(S, K), 0),
        "that is left to the posterior": lambda S, sigma2, K: np.minimum(sigma2 / _largest(S, K), 1),
        "1 for an active unit and 0": lambda S, sigma2, K: 1.0 * (_largest(S, K) > sigma2),
    },
}

RIGHT = {
    "07-1": [_by_einsum, _case_by_case, _two_heads, _bias_as_a_weight, _tanh_by_exp],
    "07-2": [_grad_einsum, _grad_by_cases, _grad_by_bias_column, _grad_by_jacobian, _grad_complex_step],
    "07-3": [_step, _step_by_einsum, _step_by_loops, _step_of_the_sum, _step_complex],
    "07-4": [
        _by_scipy, _row_by_row, _through_cholesky,
        lambda m, s, eta, epsilon, W, b, psi: sum(
            np.outer(np.tanh(eta)[:, k], W[k]) for k in range(len(W))
        ) + b + psi**0.5 * epsilon,
        lambda m, s, eta, epsilon, W, b, psi: np.einsum("k...,kd->...d", np.tanh(eta).T, W)
        + (b + epsilon * psi**0.5),
    ],
    "07-5": [_gap_by_kls, _gap_by_scipy, _gap_by_cholesky, _gap_by_loops, _gap_by_kl_div],
    "07-6": [_by_a_counter, _by_while, _by_recursion, _by_windows, _by_accumulate],
    "07-7": [_moments, _by_pairs, _by_cov, _by_norms, lambda m, threshold: [m.var(0), m.var(0) > threshold]],
    "07-8": [_ppca, _by_loop, _by_eigh_subset, _by_svd, _by_law_of_total_variance],
}
