"""The exercises of notebook 05, variational EM: Q of a linear decoder, its two steps, its gap."""

import numpy as np

from ... import bound
from ...inference import linear_gaussian
from ...likelihoods import Gaussian
from ...model import Model
from ...networks.layers import mlp
from ...posteriors import DiagonalGaussian
from ...posteriors.nodes import sigma_points
from ..exercise import Exercise, by_minimum, by_value
from ..terms import OFFSET, VARIANCE, of_argument, of_terms

LOG_2PI = np.log(2 * np.pi)


def draw_model(rng, n):
    """Data (N, D) and a model W (K, D), b (D,), ψ (D,)."""
    return {
        "x": rng.standard_normal((n.N, n.D)), "W": rng.standard_normal((n.K, n.D)),
        "b": rng.standard_normal(n.D), "psi": rng.uniform(0.3, 2.0, n.D),
    }


def draw_q(rng, n):
    """Means and standard deviations (N, K) of a q for each data case."""
    return {"m": rng.standard_normal((n.N, n.K)), "s": rng.uniform(0.3, 1.5, (n.N, n.K))}


def draw_model_and_q(rng, n):
    """Data, a model, and a table of q."""
    return draw_model(rng, n) | draw_q(rng, n)


def precision(W, psi):
    """M (K, K) of the posterior."""
    return np.eye(len(W)) + (W / psi) @ W.T


# ---- 05-1, the bound of a linear decoder -----------------------------------------------------


def on_nodes(x, W, b, psi, m, s):
    """Q (N,) as the heart of the package has it, with the expectation over sigma points."""
    (K, D), (eta, weights) = W.shape, sigma_points(len(W))
    model = Model(mlp(K, (), D), Gaussian(D), K)
    theta = {"decoder": [{"W": W, "b": b}], "likelihood": {"log_psi": np.log(psi)}}
    return bound.forward(model, theta, np.concatenate([m, np.log(s)], axis=1), x, eta, weights=weights)[0]


def parts(x, W, b, psi, m, s):
    """KL, squares, the rest of the log density, and spread, whose sum is Q: (N,) each."""
    r = x - b - m @ W
    return (
        0.5 * np.sum(m**2 + s**2 - 1 - 2 * np.log(s), axis=1),
        0.5 * np.sum(r**2 / psi, axis=1),
        0.5 * np.sum(np.log(psi) + LOG_2PI) + 0.0 * r[:, 0],
        0.5 * np.sum(s**2 * np.sum(W**2 / psi, axis=1), axis=1),
    )


def without(place):
    """Q without one of its parts."""
    return lambda **given: sum(part for i, part in enumerate(parts(**given)) if i != place)


def mean_over_pixels(**given):
    """Q with a mean over the visible variables."""
    kl, squares, rest, spread = parts(**given)
    return kl + (squares + rest + spread) / given["x"].shape[1]


def variance_for_s(**given):
    """Q with s taken for a variance."""
    return sum(parts(**given | {"s": np.sqrt(given["s"])}))


def log_s_turned(**given):
    """Q with + log s in the KL."""
    return sum(parts(**given)) + 2 * np.sum(np.log(given["s"]), axis=1)


def part(place):
    """One of the parts of Q, as a function of its own."""
    return lambda **given: parts(**given)[place]


def log_s_part(**given):
    """What log s brings to the KL."""
    return -np.sum(np.log(given["s"]), axis=1)


def s_in_spread(x, W, b, psi, m, s):
    """s for s² in the spread."""
    return without(3)(x=x, W=W, b=b, psi=psi, m=m, s=s) + 0.5 * np.sum(s @ (W**2 / psi), axis=1)


def s_in_kl(x, W, b, psi, m, s):
    """s for s² in the KL."""
    return on_nodes(x, W, b, psi, m, s) + 0.5 * np.sum(s - s**2, axis=1)


def whole_matrix(x, W, b, psi, m, s):
    """All entries of W Ψ⁻¹ Wᵀ in the spread."""
    return without(3)(x=x, W=W, b=b, psi=psi, m=m, s=s) + 0.5 * np.sum(s**2 @ ((W / psi) @ W.T), axis=1)


def spread_without_noise(x, W, b, psi, m, s):
    """The spread not divided by ψ."""
    return without(3)(x=x, W=W, b=b, psi=psi, m=m, s=s) + 0.5 * np.sum(s**2 @ W**2, axis=1)


BOUND = of_terms({
    "the KL to the prior": part(0), "the reconstruction": lambda **given: sum(parts(**given)[1:]),
}) | of_terms({
    "the squares of the residuals": part(1), "log|Ψ|": lambda **given: (
        0.5 * np.sum(np.log(given["psi"])) + 0.0 * given["m"][:, 0]
    ),
    "the spread of z": part(3), "log s in the KL": log_s_part,
    "m² in the KL": lambda **given: 0.5 * np.sum(given["m"] ** 2, axis=1),
    "s² in the KL": lambda **given: 0.5 * np.sum(given["s"] ** 2, axis=1),
    "the −1 of the KL": lambda **given: -0.5 * given["s"].shape[1] + 0.0 * given["m"][:, 0],
    "the constant ½ D log 2π": lambda **given: 0.5 * len(given["psi"]) * LOG_2PI + 0.0 * given["m"][:, 0],
})


# ---- 05-2, the E-step --------------------------------------------------------------------------


def q_of_table(answer, x, W, b, psi):
    """Σ_n Q_n at the table {"m", "s"} that came back."""
    phi = np.concatenate([answer["m"], np.log(answer["s"])], axis=1)
    return linear_gaussian.bound(W, b, psi, phi, DiagonalGaussian(len(W)), x).sum()


def table_like(x, W, b, psi):
    """A table of the right shapes."""
    return {name: np.ones((len(x), len(W))) for name in ("m", "s")}


def table(x, W, b, psi, width=None, mean=None, M=None):
    """The best table, but for a width (K,) of another kind, another mean or another precision."""
    M = precision(W, psi) if M is None else M
    mean = (x - b) @ (W / psi).T @ np.linalg.inv(M) if mean is None else mean
    width = 1 / np.sqrt(np.diag(M)) if width is None else width
    return {"m": mean, "s": np.broadcast_to(width, mean.shape) + 0.0}


def one_over_precision(x, W, b, psi):
    """s² in the place of s."""
    return table(x, W, b, psi, width=1 / np.diag(precision(W, psi)))


def marginal_width(x, W, b, psi):
    """The posterior's own standard deviations."""
    return table(x, W, b, psi, width=np.sqrt(np.diag(np.linalg.inv(precision(W, psi)))))


def root_of_precision(x, W, b, psi):
    """√M_kk in the place of 1/√M_kk."""
    return table(x, W, b, psi, width=np.sqrt(np.diag(precision(W, psi))))


def flat_prior(x, W, b, psi):
    """Without the 1 of the prior."""
    return table(x, W, b, psi, M=(W / psi) @ W.T)


def one_step_from_zero(x, W, b, psi):
    """Every mean divided by its own M_kk."""
    return table(x, W, b, psi, mean=(x - b) @ (W / psi).T / np.diag(precision(W, psi)))


def without_b(x, W, b, psi):
    """b left out."""
    return table(x, W, 0.0 * b, psi)


def changed_table(name, change):
    """The table with m or s changed."""
    def made(**given):
        best = table(**given)
        return best | {name: change(best[name], **given)}

    return made


def pull(x, W, b, psi):
    """(x − b) Ψ⁻¹ Wᵀ, (N, K)."""
    return (x - b) @ (W / psi).T


E_STEP = {
    "m is right, and you handed back log s, where s itself is asked for":
        changed_table("s", lambda s, **given: np.log(s)),
    "m is right, and s is (K,): it is one for all data cases, and asked is a row for each, (N, K)":
        changed_table("s", lambda s, **given: s[0]),
    "m is right, and s has the sign of a wrong root: a standard deviation is positive":
        changed_table("s", lambda s, **given: -s),
    "m is right, and your s is M_kk: s² is 1/M_kk": changed_table("s", lambda s, **given: 1 / s**2),
    "m is right, and your s is (M⁻¹)_kk, a variance, and the posterior's own: s is 1/√M_kk":
        changed_table("s", lambda s, W, psi, **given: np.diag(np.linalg.inv(precision(W, psi))) + 0 * s),
    "s is right, and the means are not divided by M: they solve m M = (x − b) Ψ⁻¹ Wᵀ":
        changed_table("m", lambda m, **given: pull(**given)),
    "s is right, and the means are multiplied by M where they solve m M = (x − b) Ψ⁻¹ Wᵀ":
        changed_table("m", lambda m, W, psi, **given: pull(W=W, psi=psi, **given) @ precision(W, psi)),
    "s is right, and the means lack Ψ⁻¹ in (x − b) Ψ⁻¹ Wᵀ M⁻¹": changed_table(
        "m", lambda m, x, W, b, psi: (x - b) @ W.T @ np.linalg.inv(precision(W, psi))
    ),
    "s is right, and the mean of x stands where the model's own b belongs": changed_table(
        "m", lambda m, x, W, b, psi: table(x, W, x.mean(axis=0), psi)["m"]
    ),
    "s is right, and b is added to x where it is taken off": changed_table(
        "m", lambda m, x, W, b, psi: table(x, W, -b, psi)["m"]
    ),
    "s is right, and the means are a least squares fit: it knows neither of the noise nor of the prior":
        changed_table("m", lambda m, x, W, b, psi: (x - b) @ np.linalg.pinv(W)),
}


# ---- 05-3, one coordinate ----------------------------------------------------------------------


def draw_coordinate(rng, n):
    """Data, a model, means, and which column is to be moved: another for another K, so that none can be
    written in."""
    return draw_model(rng, n) | {"m": rng.standard_normal((n.N, n.K)), "k": n.K % 2}


def vertex(x, W, b, psi, m, k):
    """Q_n is a parabola in m_nk: the place of its vertex, from three of its values."""
    at = []
    for value in (-1.0, 0.0, 1.0):
        moved = m.copy()
        moved[:, k] = value
        at.append(on_nodes(x, W, b, psi, moved, np.ones_like(m)))
    moved[:, k] = 0.5 * (at[0] - at[2]) / (at[0] - 2 * at[1] + at[2])
    return moved


def moved(x, W, b, psi, m, k, sign=-1.0, own=0.0, prior=1.0):
    """m with its column k moved, sign and share of its own term and of the prior as given."""
    M = precision(W, psi)
    pull = (x - b) @ (W / psi).T
    others = m @ M - (1 - own) * m * np.diag(M)
    made = m.copy()
    made[:, k] = (pull + sign * others)[:, k] / (M[k, k] - 1 + prior)
    return made


def alone(**given):
    """As if no other latent variable were there."""
    return moved(**given, sign=0.0)


def pushed(**given):
    """The others' part added."""
    return moved(**given, sign=1.0)


def with_its_own(**given):
    """The sum runs over k, too."""
    return moved(**given, own=1.0)


def by_data_alone(**given):
    """Without the prior's 1."""
    return moved(**given, prior=0.0)


def all_at_once(x, W, b, psi, m, k):
    """Column k of the joint minimum."""
    made = m.copy()
    made[:, k] = table(x, W, b, psi)["m"][:, k]
    return made


def change_of_one(x, W, b, psi, m, k, kept=0.0):
    """What is left of x with all of m W taken off, read by column k, beside a share of the old m_k."""
    made = m.copy()
    made[:, k] = kept * m[:, k] + (x - b - m @ W) @ (W[k] / psi) / precision(W, psi)[k, k]
    return made


def swept(x, W, b, psi, m, k):
    """Every column in turn."""
    for j in range(len(W)):
        m = vertex(x, W, b, psi, m, j)
    return m


def scaled_column(power):
    """Column k times a power of M_kk."""
    def made(**given):
        best, k = vertex(**given), given["k"]
        best[:, k] *= precision(given["W"], given["psi"])[k, k] ** power
        return best

    return made


def noise_only_below(x, W, b, psi, m, k):
    """ψ in the divisor, and not above it."""
    r = x - b - m @ W + np.outer(m[:, k], W[k])
    made = m.copy()
    made[:, k] = r @ W[k] / precision(W, psi)[k, k]
    return made


COORDINATE = {
    "m_k's own part is taken off, too: add the outer product of m_k and W_k to the residual x − b − m W":
        change_of_one,
    "this adds a step to the old m_k, and the step lacks the prior's pull, − m_k": lambda **given: (
        change_of_one(**given, kept=1.0)
    ),
    "all columns have been moved, one after the other: asked is a move of column k alone": swept,
    "nothing has moved: column k is what it was": lambda **given: given["m"],
    "the division by M_kk is missing": scaled_column(1),
    "you multiply by M_kk where you should divide: 1/M_kk is the variance": scaled_column(2),
    "you divide by √M_kk: the mean is the pull over M_kk": scaled_column(0.5),
    "ψ is in the divisor, and the pull (x − b − …) Ψ⁻¹ W_kᵀ lacks it": noise_only_below,
}


# ---- 05-4, the M-step --------------------------------------------------------------------------


def draw_data_and_q(rng, n):
    """Data (N, D) and a table of q."""
    return {"x": rng.standard_normal((n.N, n.D))} | draw_q(rng, n)


def q_of_theta(answer, x, m, s):
    """Σ_n Q_n at the {"W", "b", "psi"} that came back."""
    phi = np.concatenate([m, np.log(s)], axis=1)
    q = DiagonalGaussian(m.shape[1])
    return linear_gaussian.bound(answer["W"], answer["b"], answer["psi"], phi, q, x).sum()


def theta_like(x, m, s):
    """θ of the right shapes."""
    D = x.shape[1]
    return {"W": np.ones((m.shape[1], D)), "b": np.ones(D), "psi": np.ones(D)}


def regression(x, m, s, in_W=True, in_psi=True, power=2, intercept=True):
    """The M-step, with the spread s^power where it is asked for."""
    N, spread = len(x), np.diag(np.sum(s**power, axis=0))
    a = m.mean(axis=0) if intercept else 0.0
    W = np.linalg.solve((m - a).T @ (m - a) + in_W * spread, (m - a).T @ x)
    b = x.mean(axis=0) - a @ W if intercept else x.mean(axis=0)
    if not intercept:
        W = np.linalg.solve(m.T @ m + spread, m.T @ (x - b))
    left = np.sum((x - b - m @ W) ** 2, axis=0) + in_psi * np.sum(W * (spread @ W), axis=0)
    return {"W": W, "b": b, "psi": left / N}


def without_spread(x, m, s):
    """s² nowhere."""
    return regression(x, m, s, in_W=False, in_psi=False)


def psi_without_spread(x, m, s):
    """s² in W, and not in ψ."""
    return regression(x, m, s, in_psi=False)


def spread_only_in_psi(x, m, s):
    """s² in ψ, and not in W."""
    return regression(x, m, s, in_W=False)


def s_for_variance(x, m, s):
    """s for s²."""
    return regression(x, m, s, power=1)


def b_at_the_mean(x, m, s):
    """b the mean of x, whatever the means of m are."""
    return regression(x, m, s, intercept=False)


def with_psi(change):
    """The M-step with its ψ changed."""
    def made(x, m, s):
        theta = regression(x, m, s)
        return theta | {"psi": change(theta["psi"], len(x))}

    return made


def with_spread(extra):
    """The M-step with another matrix, (K + 1, K + 1), on top of the products of the means."""
    def made(x, m, s):
        Z = np.column_stack([m, np.ones(len(m))])
        G = np.linalg.solve(Z.T @ Z + np.diag(extra(s)), Z.T @ x)
        return {"W": G[:-1], "b": G[-1], "psi": np.mean((x - Z @ G) ** 2 + s**2 @ G[:-1] ** 2, axis=0)}

    return made


def with_noise(squares):
    """The M-step with another ψ."""
    def made(x, m, s):
        theta = regression(x, m, s)
        return theta | {"psi": squares(x - theta["b"] - m @ theta["W"], s, theta["W"], x, theta["b"])}

    return made


def half_centred(x, m, s):
    """x less its mean, and the means of z as they are."""
    W = np.linalg.solve(m.T @ m + np.diag(np.sum(s**2, axis=0)), m.T @ (x - x.mean(axis=0)))
    b = x.mean(axis=0) - m.mean(axis=0) @ W
    return {"W": W, "b": b, "psi": np.mean((x - b - m @ W) ** 2 + s**2 @ W**2, axis=0)}


M_STEP = {
    "the constant of z̃ = (z, 1) has been given a spread: only the K entries of z have one":
        with_spread(lambda s: np.append(np.sum(s**2, axis=0), len(s))),
    "the spread of q is Σ_n s_nk² on the first K places of the diagonal, and the constant has a 0 there":
        with_spread(lambda s: np.append(np.sum(s**2, axis=0), 1.0)),
    "mᵀm is a sum over the data cases, and the s² on top of it a mean: sum both":
        with_spread(lambda s: np.append(np.mean(s**2, axis=0), 0.0)),
    "the identity stands where Σ_n diag(s_n²) belongs": with_spread(lambda s: np.append(0 * s[0] + 1.0, 0.0)),
    "N times the identity stands where Σ_n diag(s_n²) belongs: that is the prior's spread, and not q's":
        with_spread(lambda s: np.append(0 * s[0] + len(s), 0.0)),
    "W and b are right, and in ψ s stands where s² belongs":
        with_noise(lambda r, s, W, x, b: np.mean(r**2 + s @ W**2, axis=0)),
    "W and b are right, and in ψ the spread is (Σ_k s W)², where the variances add up, Σ_k s² W²":
        with_noise(lambda r, s, W, x, b: np.mean(r**2 + (s @ W) ** 2, axis=0)),
    "W and b are right, and in ψ the spread is taken off where it is added":
        with_noise(lambda r, s, W, x, b: np.mean(r**2 - s**2 @ W**2, axis=0)),
    "W and b are right, and ψ is of x − m W: b is not taken off":
        with_noise(lambda r, s, W, x, b: np.mean((r + b) ** 2 + s**2 @ W**2, axis=0)),
    "W and b are right, and ψ is half of what it should be":
        with_noise(lambda r, s, W, x, b: 0.5 * np.mean(r**2 + s**2 @ W**2, axis=0)),
    "W and b are right, and ψ is one mean for all variables: each d has its own":
        with_noise(lambda r, s, W, x, b: 0 * b + np.mean(r**2 + s**2 @ W**2)),
    "W and b are right, and ψ is the variance of x itself: what z explains has to be taken off":
        with_noise(lambda r, s, W, x, b: x.var(axis=0)),
    "W and b are right, and you handed back log ψ, where ψ is asked for":
        with_noise(lambda r, s, W, x, b: np.log(np.mean(r**2 + s**2 @ W**2, axis=0))),
    "x is centred and m is not: centre both, or give the regression a constant": half_centred,
}


# ---- 05-5, the gap of one data case ------------------------------------------------------------


def draw_gaussians(rng, n):
    """q of every data case, and a posterior of mean (N, K) and precision M (K, K)."""
    A = rng.standard_normal((n.K, n.D))
    return draw_q(rng, n) | {"mean": rng.standard_normal((n.N, n.K)), "M": np.eye(n.K) + A @ A.T}


def expected_log_ratio(m, s, mean, M):
    """E_q[log q − log p] over sigma points, (N,)."""
    K, (eta, weights) = m.shape[1], sigma_points(m.shape[1])
    q, phi = DiagonalGaussian(K), np.concatenate([m, np.log(s)], axis=1)
    z, _ = q.sample(phi, eta)
    white = (z - mean) @ np.linalg.cholesky(M)
    log_p = 0.5 * (np.linalg.slogdet(M)[1] - K * LOG_2PI - np.sum(white**2, axis=2))
    return weights @ (q.log_prob(phi, z)[0] - log_p)


def kl_of_covariances(m, C, mean, V):
    """KL(N(m, C) ‖ N(mean, V)), with C (N, K, K) or (K, K) and V likewise."""
    P, d = np.linalg.inv(V), mean - m
    square = np.einsum("nj,...jk,nk->n", d, P, d) if P.ndim == 2 else np.einsum("nj,njk,nk->n", d, P, d)
    trace = np.sum(P * C, axis=(-2, -1))
    return 0.5 * (trace - m.shape[1] + square + np.linalg.slogdet(V)[1] - np.linalg.slogdet(C)[1])


def spread_of(s):
    """(N, K, K) covariances."""
    return s[:, :, None] ** 2 * np.eye(s.shape[1])


def other_way_round(m, s, mean, M):
    """KL(p ‖ q)."""
    return kl_of_covariances(mean, np.linalg.inv(M), m, spread_of(s))


def precision_for_covariance(m, s, mean, M):
    """M taken for the posterior's covariance."""
    return kl_of_covariances(m, spread_of(s), mean, M)


def square_without_tilt(m, s, mean, M):
    """Only the diagonal of M in the square of the means."""
    d = m - mean
    return expected_log_ratio(m, s, mean, M) + 0.5 * np.sum(d**2 * np.diag(M) - d * (d @ M), axis=1)


def diagonal_only(m, s, mean, M):
    """The off-diagonal entries of M nowhere."""
    return expected_log_ratio(m, s, mean, np.diag(np.diag(M)))


def s_as_variance(m, s, mean, M):
    """s taken for a variance."""
    return expected_log_ratio(m, np.sqrt(s), mean, M)


def trace_term(m, s, mean, M):
    """½ tr(M C)."""
    return 0.5 * s**2 @ np.diag(M)


def square_term(m, s, mean, M):
    """½ (m − mean) M (m − mean)ᵀ."""
    return 0.5 * np.sum((m - mean) @ M * (m - mean), axis=1)


def with_inverse(m, s, mean, M):
    """M⁻¹ in the square of the means."""
    others = expected_log_ratio(m, s, mean, M) - square_term(m, s, mean, M)
    return others + square_term(m, s, mean, np.linalg.inv(M))


def another_trace(trace):
    """½ tr(M C) replaced."""
    def made(m, s, mean, M):
        return expected_log_ratio(m, s, mean, M) - trace_term(m, s, mean, M) + 0.5 * trace(s, M)

    return made


KL = {
    "right but for the square of the means, where M⁻¹ stands in the place of M": with_inverse,
    "right but for the square of the means, which lacks M": lambda m, s, mean, M: (
        expected_log_ratio(m, s, mean, M) - square_term(m, s, mean, M) + 0.5 * np.sum((m - mean) ** 2, axis=1)
    ),
    "right but for the trace, where s stands and s² belongs": another_trace(lambda s, M: s @ np.diag(M)),
    "right but for the trace: C is diagonal, so only the diagonal of M counts":
        another_trace(lambda s, M: np.sum(s**2 @ M, axis=1)),
    "right but for the trace: tr(M C) is no product of two traces":
        another_trace(lambda s, M: np.trace(M) * np.sum(s**2, axis=1)),
    "right but for the logarithm of the determinant of M, which is missing: log|M|, and not |M|":
        lambda m, s, mean, M: (
            expected_log_ratio(m, s, mean, M) + 0.5 * np.linalg.slogdet(M)[1] - 0.5 * np.linalg.det(M)
        ),
    "right but for log|M|, which is no sum of the log M_kk where M is not diagonal": lambda m, s, mean, M: (
        expected_log_ratio(m, s, mean, M) + 0.5 * np.linalg.slogdet(M)[1] - 0.5 * np.sum(np.log(np.diag(M)))
    ),
    "this is the KL to the prior N(0, I): neither mean nor M is in it": lambda m, s, mean, M: (
        0.5 * np.sum(m**2 + s**2 - 1 - 2 * np.log(s), axis=1)
    ),
} | of_terms({
    "the trace tr(M C)": trace_term, "the square of the means": square_term,
    "log|M|": lambda m, s, mean, M: -0.5 * np.linalg.slogdet(M)[1] + 0.0 * m[:, 0],
    "log s": lambda m, s, mean, M: -np.sum(np.log(s), axis=1),
    "the constant −K/2": lambda m, s, mean, M: -0.5 * len(M) + 0.0 * m[:, 0],
})


# ---- 05-6, what the turn costs -----------------------------------------------------------------


def draw_turn(rng, n):
    """Loadings, noise variances, and a rotation R (K, K)."""
    Q, T = np.linalg.qr(rng.standard_normal((n.K, n.K)))
    R = Q * np.sign(np.diag(T))
    return {"W": rng.standard_normal((n.K, n.D)), "psi": rng.uniform(0.3, 2.0, n.D), "R": R}


def gap_of_precision(M):
    """−½ log of the determinant of M with its diagonal scaled to 1."""
    size = np.sqrt(np.diag(M))
    return float(-0.5 * np.sum(np.log(np.linalg.eigvalsh(M / size / size[:, None]))))


def gap(W, psi, R):
    """Q − nlml of the best diagonal q for the loadings R W."""
    return gap_of_precision(precision(R @ W, psi))


def gap_before(W, psi, R):
    """R left out."""
    return gap_of_precision(precision(W, psi))


def turned_back(W, psi, R):
    """The other way."""
    return gap_of_precision(precision(R.T @ W, psi))


def gap_of_flat_prior(W, psi, R):
    """Without the prior's 1."""
    return gap_of_precision((R @ W / psi) @ (R @ W).T)


def gap_of_marginals(W, psi, R):
    """With the posterior's own variances for those of mean field."""
    M = precision(R @ W, psi)
    return float(0.5 * (np.sum(np.log(np.diag(np.linalg.inv(M)))) + np.linalg.slogdet(M)[1]))


def gap_without_noise(W, psi, R):
    """ψ left out."""
    return gap_of_precision(precision(R @ W, np.ones_like(psi)))


def of_diagonal(W, psi, R):
    """½ Σ log M_kk."""
    return 0.5 * float(np.sum(np.log(np.diag(precision(R @ W, psi)))))


def of_determinant(W, psi, R):
    """½ log|M|."""
    return 0.5 * float(np.linalg.slogdet(precision(W, psi))[1])


GAP = {
    "the logarithm of the determinant is missing: log|M|, and not |M|": lambda W, psi, R: (
        of_diagonal(W, psi, R) - 0.5 * float(np.linalg.det(precision(W, psi)))
    ),
    "log M_kk is summed over k, and yours is the logarithm of the trace": lambda W, psi, R: (
        0.5 * float(np.log(np.trace(precision(W, psi)))) - of_determinant(W, psi, R)
    ),
    "(M⁻¹)_kk stands where M_kk belongs": lambda W, psi, R: (
        0.5 * float(np.sum(np.log(np.diag(np.linalg.inv(precision(R @ W, psi)))))) - of_determinant(W, psi, R)
    ),
    "the diagonal lacks the 1 of the prior, which the determinant has": lambda W, psi, R: (
        0.5 * float(np.sum(np.log(np.diag(precision(R @ W, psi)) - 1))) - of_determinant(W, psi, R)
    ),
    "M is turned from one side only: the turned M is R M Rᵀ": lambda W, psi, R: (
        0.5 * float(np.sum(np.log(np.diag(R @ precision(W, psi))))) - of_determinant(W, psi, R)
    ),
} | of_terms({
    "Σ_k log M_kk": of_diagonal, "log|M|": lambda W, psi, R: -of_determinant(W, psi, R),
}) | of_argument(gap, "psi", VARIANCE)


EXERCISES = [
    Exercise(
        "05-1", "linear_bound", "2.13", "Q_n (N,) of a linear decoder, without a sample", draw_model_and_q,
        by_value(on_nodes, names=["Q"]),
        {
            "the decoder is asked at the mean m alone: what is missing is the spread of z around it, "
            "½ Σ_k s_k² (W Ψ⁻¹ Wᵀ)_kk": without(3),
            "right but for the KL to the prior, which is missing: this is the reconstruction term alone":
                without(0),
            "a mean over the D variables stands where the bound sums over them: their log densities add up, "
            "and the KL is weighed against that sum": mean_over_pixels,
            "s is a standard deviation here, and you took it for a variance": variance_for_s,
            "right but for the sign of log s in the KL: a narrow q costs more, so the KL has − log s":
                log_s_turned,
            "s stands where s² belongs in the spread of z: it is the variance of q": s_in_spread,
            "s stands where s² belongs in the KL: ½ (m² + s² − 1) − log s": s_in_kl,
            "in the spread only the diagonal of W Ψ⁻¹ Wᵀ counts, since the e_k are independent": whole_matrix,
            "the spread of z is not divided by ψ: it is s² on the diagonal of W Ψ⁻¹ Wᵀ": spread_without_noise,
        } | BOUND | of_argument(on_nodes, "psi", VARIANCE) | of_argument(on_nodes, "b", OFFSET),
    ),
    Exercise(
        "05-2", "mean_field_e_step", "2.10", "m and s, (N, K) each in a dict, at the least Q", draw_model,
        by_minimum(q_of_table, like=table_like),
        {
            "m is right, and your s is s²: 1/M_kk is a variance, take its root": one_over_precision,
            "m is right, and s are the posterior's own standard deviations, √(M⁻¹)_kk: a product of "
            "marginals has its least Q at the narrower 1/√M_kk": marginal_width,
            "m is right, and s is √M_kk: M is a precision, wide where s is narrow": root_of_precision,
            "M lacks the 1 of the prior's precision: as if p(z) were flat": flat_prior,
            "s is right, and each mean is divided by its own M_kk: the means of one data case pull at each "
            "other, so all of M has to be solved": one_step_from_zero,
            "s is right, and b is not taken off x before the means are read": without_b,
        } | E_STEP | of_argument(table, "psi", VARIANCE),
    ),
    Exercise(
        "05-3", "coordinate_update", "9.18", "m (N, K) with its column k moved to the least Q",
        draw_coordinate, by_value(vertex, names=["m"]),
        {
            "the others are left out: that is the best m_k where all other means are 0": alone,
            "the others' part is added, and has to be taken off: what they explain, k need not": pushed,
            "the sum runs over j ≠ k, and yours has m_k's own old value in it": with_its_own,
            "the divisor lacks the 1 of the prior: it is M_kk, of M = I + W Ψ⁻¹ Wᵀ": by_data_alone,
            "this is column k of the posterior mean, with all columns at their best: asked is the best "
            "for the others as they stand": all_at_once,
        } | COORDINATE | of_argument(vertex, "psi", VARIANCE) | of_argument(vertex, "b", OFFSET),
    ),
    Exercise(
        "05-4", "m_step_of_q", "2.11", "W (K, D), b (D,) and psi (D,) in a dict, at the least Q",
        draw_data_and_q, by_minimum(q_of_theta, like=theta_like),
        {
            "this is the regression on the means m, as if z were known: E[zᵀz] is mᵀm + diag(s²), in W and "
            "in ψ": without_spread,
            "W and b are right, and ψ counts what the mean code leaves, x − b − mW, without the spread "
            "Σ_k s_k² W_kd²": psi_without_spread,
            "ψ knows of the spread of q, and W does not: E[zᵀz] in the regression is mᵀm + diag(s²), too":
                spread_only_in_psi,
            "s stands where s² belongs: a second moment has the variance in it": s_for_variance,
            "b is the mean of x only where the means of m are 0: it is a regression with a constant":
                b_at_the_mean,
            "W and b are right, and your psi is its root: ψ is a variance":
                with_psi(lambda psi, N: np.sqrt(psi)),
            "W and b are right, and psi is divided by N − 1: the least Q has N, it is a minimum and no "
            "unbiased estimate": with_psi(lambda psi, N: psi * N / (N - 1)),
            "W and b are right, and psi is summed over the data cases where it is a mean":
                with_psi(lambda psi, N: psi * N),
        } | M_STEP,
    ),
    Exercise(
        "05-5", "kl_q_to_posterior", "2.10", "KL(q_n ‖ p(z|x_n)), (N,)", draw_gaussians,
        by_value(expected_log_ratio, names=["KL"]),
        {
            "this is KL(p ‖ q), the other way round: the bound's gap averages under q": other_way_round,
            "M is the precision of the posterior, and you took it for its covariance":
                precision_for_covariance,
            "right but for the square of the means: it is (m − mean) M (m − mean)ᵀ, with what stands off "
            "the diagonal": square_without_tilt,
            "what stands off the diagonal of M is used nowhere: log|M| and the square of the means have it":
                diagonal_only,
            "s is a standard deviation here, and you took it for a variance": s_as_variance,
            "right but for the constant: each latent variable brings a −½": lambda **given: (
                expected_log_ratio(**given) + 0.5 * given["m"].shape[1]
            ),
        } | KL,
    ),
    Exercise(
        "05-6", "gap_of_turned", "2.10", "Q − nlml, one number, of the loadings R W", draw_turn,
        by_value(gap, names=["gap"]),
        {
            "this is the gap before the turn: R is not used": gap_before,
            "the loadings are turned the other way: R W, with z as a row, and not Rᵀ W": turned_back,
            "M lacks the 1 of the prior's precision": gap_of_flat_prior,
            "these are the posterior's own variances (M⁻¹)_kk, where mean field has 1/M_kk: the two give one "
            "number for K = 2, and differ beyond": gap_of_marginals,
            "ψ is left out: M = I + W Ψ⁻¹ Wᵀ": gap_without_noise,
        } | GAP,
    ),
]
