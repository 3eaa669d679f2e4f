"""The exercises of notebook 02, factor analysis by EM: posterior and density, the two steps and their path,
what a rotation changes, and the floor of a noise variance.
"""

from dataclasses import replace

import numpy as np

from ...arrays.special import LOG_2PI
from ...inference import linear_gaussian
from ..exercise import Exercise, by_choice, by_minimum, by_value


# ---- the posterior, and the density ------------------------------------------------------------


def draw_model(rng, n):
    """Data (N, D) and a model W (K, D), b (D,), ψ (D,)."""
    return {
        "x": rng.standard_normal((n.N, n.D)), "W": rng.standard_normal((n.K, n.D)),
        "b": rng.standard_normal(n.D), "psi": rng.uniform(0.3, 2.0, n.D),
    }


def posterior(x, W, b, psi):
    """Mean (N, K) and covariance (K, K) of p(z|x), as the conditional of all numbers' joint Gaussian."""
    weights = np.linalg.solve(W.T @ W + np.diag(psi), W.T)         # (D, K)
    return {"mean": (x - b) @ weights, "cov": np.eye(len(W)) - W @ weights}


def by_precision(x, W, b, psi, *, prior=1.0, noise=None, invert=np.linalg.inv):
    """The same by way of M, with these in place of what belongs there."""
    noise = psi if noise is None else noise
    cov = invert(prior * np.eye(len(W)) + (W / noise) @ W.T)
    return {"mean": (x - b) @ (W / noise).T @ cov, "cov": cov}


def precision_for_covariance(x, W, b, psi):
    """M handed over as the covariance."""
    return posterior(x, W, b, psi) | {"cov": np.eye(len(W)) + (W / psi) @ W.T}


def without_b(x, W, b, psi):
    """x in place of x − b."""
    return posterior(x + b, W, b, psi)


def mean_times_precision(x, W, b, psi):
    """A mean that was not multiplied by the covariance."""
    return posterior(x, W, b, psi) | {"mean": (x - b) @ (W / psi).T}


def mean_by_precision(x, W, b, psi):
    """M in the place of its inverse, in the mean."""
    found = mean_times_precision(x, W, b, psi)
    return found | {"mean": found["mean"] @ np.linalg.inv(found["cov"])}


def precision_without_psi(x, W, b, psi):
    """M = I + W Wᵀ, and the mean with Ψ⁻¹."""
    cov = np.linalg.inv(np.eye(len(W)) + W @ W.T)
    return {"mean": (x - b) @ (W / psi).T @ cov, "cov": cov}


def mean_without_psi(x, W, b, psi):
    """W in the place of W Ψ⁻¹, in the mean alone."""
    found = posterior(x, W, b, psi)
    return found | {"mean": (x - b) @ W.T @ found["cov"]}


def only_variances(x, W, b, psi):
    """A diagonal covariance."""
    found = posterior(x, W, b, psi)
    return found | {"cov": np.diag(np.diag(found["cov"]))}


def ones_for_identity(x, W, b, psi):
    """1 + W Ψ⁻¹ Wᵀ as NumPy reads it."""
    cov = np.linalg.inv(1 + (W / psi) @ W.T)
    return {"mean": (x - b) @ (W / psi).T @ cov, "cov": cov}


def nlml(x, W, b, psi):
    """−log N(x_n; b, WᵀW + Ψ), by the (D, D) matrix."""
    return normal_nlml(x - b, W.T @ W + np.diag(psi))


def normal_nlml(r, C):
    """−log N(r_n; 0, C) of every row."""
    constant = len(C) * LOG_2PI + np.linalg.slogdet(C)[1]
    return 0.5 * (constant + np.sum(r * np.linalg.solve(C, r.T).T, axis=1))


def given_the_mean(x, W, b, psi):
    """−log p(x|z) at the posterior's mean."""
    return normal_nlml(x - b - posterior(x, W, b, psi)["mean"] @ W, np.diag(psi))


def joint_at_the_mean(x, W, b, psi):
    """−log p(x, z) at the posterior's mean."""
    return given_the_mean(x, W, b, psi) + normal_nlml(posterior(x, W, b, psi)["mean"], np.eye(len(W)))


def without_log_det(x, W, b, psi):
    """½ log|M| left out."""
    return nlml(x, W, b, psi) - 0.5 * np.linalg.slogdet(np.eye(len(W)) + (W / psi) @ W.T)[1]


def without_log_psi(x, W, b, psi):
    """½ Σ log ψ left out."""
    return nlml(x, W, b, psi) - 0.5 * np.sum(np.log(psi))


def determinant_without_half(x, W, b, psi):
    """log|Σ| in full."""
    return nlml(x, W, b, psi) + 0.5 * np.linalg.slogdet(W.T @ W + np.diag(psi))[1]


def log_det_turned(x, W, b, psi):
    """Minus ½ log|Σ|."""
    return nlml(x, W, b, psi) - np.linalg.slogdet(W.T @ W + np.diag(psi))[1]


def log_det_of_cov(x, W, b, psi):
    """½ log|M⁻¹| in the place of ½ log|M|."""
    return nlml(x, W, b, psi) - np.linalg.slogdet(np.eye(len(W)) + (W / psi) @ W.T)[1]


def quadratic(x, W, b, psi):
    """r Σ⁻¹ rᵀ."""
    return np.sum((x - b) * np.linalg.solve(W.T @ W + np.diag(psi), (x - b).T).T, axis=1)


def square_without_half(x, W, b, psi):
    """The quadratic form in full."""
    return nlml(x, W, b, psi) + 0.5 * quadratic(x, W, b, psi)


def covariance_in_the_square(x, W, b, psi):
    """r Σ rᵀ."""
    square = np.sum((x - b) @ (W.T @ W + np.diag(psi)) * (x - b), axis=1)
    return nlml(x, W, b, psi) + 0.5 * (square - quadratic(x, W, b, psi))


def square_without_prior(x, W, b, psi):
    """m mᵀ left out of it."""
    return nlml(x, W, b, psi) - 0.5 * np.sum(posterior(x, W, b, psi)["mean"] ** 2, axis=1)


def square_of_noise(x, W, b, psi):
    """r Ψ⁻¹ rᵀ, as if W explained nothing."""
    return nlml(x, W, b, psi) + 0.5 * (np.sum((x - b) ** 2 / psi, axis=1) - quadratic(x, W, b, psi))


def independent_columns(x, W, b, psi):
    """Every column by its own variance, as if they were independent."""
    return normal_nlml(x - b, np.diag(np.sum(W**2, axis=0) + psi))


def square_of_log_determinant(x, W, b, psi):
    """|Σ| in the place of log |Σ|."""
    log_det = np.linalg.slogdet(W.T @ W + np.diag(psi))[1]
    return nlml(x, W, b, psi) + 0.5 * (np.exp(log_det) - log_det)


def determinant_of_precision(x, W, b, psi):
    """|M| in the place of log |M|."""
    log_det = np.linalg.slogdet(np.eye(len(W)) + (W / psi) @ W.T)[1]
    return nlml(x, W, b, psi) + 0.5 * (np.exp(log_det) - log_det)


# ---- the two steps of EM -----------------------------------------------------------------------


def draw_moments(rng, n):
    """A covariance S (D, D), and a model W (K, D), ψ (D,) of centred data."""
    x = rng.standard_normal((4 * n.D, n.D)) @ rng.standard_normal((n.D, n.D))
    return {
        "S": np.cov(x.T, bias=True), "W": rng.standard_normal((n.K, n.D)), "psi": rng.uniform(0.3, 2.0, n.D),
    }


def moments(S, W, psi):
    """E[xᵀz] (D, K) and E[zᵀz] (K, K), by the (D, D) matrix."""
    beta = np.linalg.solve(W.T @ W + np.diag(psi), W.T).T          # (K, D)
    return {"xz": S @ beta.T, "zz": np.eye(len(W)) - beta @ W.T + beta @ S @ beta.T}


def moments_of_means(S, W, psi):
    """The posterior's mean taken for z."""
    found = moments(S, W, psi)
    beta = np.linalg.solve(W.T @ W + np.diag(psi), W.T).T
    return found | {"zz": beta @ found["xz"]}


def moments_by_flat_prior(S, W, psi):
    """β and covariance without the 1 of the prior."""
    cov = np.linalg.inv((W / psi) @ W.T)
    beta = cov @ (W / psi)
    return {"xz": S @ beta.T, "zz": cov + beta @ S @ beta.T}


def moments_with_precision(S, W, psi):
    """M in the place of its inverse."""
    M = np.eye(len(W)) + (W / psi) @ W.T
    return moments(S, W, psi) | {"zz": moments_of_means(S, W, psi)["zz"] + M}


def moments_without_psi(S, W, psi):
    """β with W in the place of W Ψ⁻¹."""
    cov = np.linalg.inv(np.eye(len(W)) + (W / psi) @ W.T)
    beta = cov @ W
    return {"xz": S @ beta.T, "zz": cov + beta @ S @ beta.T}


def moments_of_noise_one(S, W, psi):
    """β and M⁻¹ as if every ψ were 1."""
    return moments(S, W, np.ones_like(psi))


def moments_without_cov(S, W, psi):
    """β = W Ψ⁻¹."""
    beta = W / psi
    return {"xz": S @ beta.T, "zz": np.linalg.inv(np.eye(len(W)) + beta @ W.T) + beta @ S @ beta.T}


def moments_with_psi_in_beta(S, W, psi):
    """M = I + W Wᵀ, and β with Ψ⁻¹."""
    cov = np.linalg.inv(np.eye(len(W)) + W @ W.T)
    beta = cov @ (W / psi)
    return {"xz": S @ beta.T, "zz": cov + beta @ S @ beta.T}


def other_zz(zz):
    """A mistake: the moments with this in place of E[zᵀz], made of β, S and M⁻¹."""
    def mistake(S, W, psi):
        beta = np.linalg.solve(W.T @ W + np.diag(psi), W.T).T
        return moments(S, W, psi) | {"zz": zz(beta, S, np.eye(len(W)) - beta @ W.T)}

    return mistake


def draw_table(rng, n):
    """Data (N, D) and a table of q: means (N, K), and one covariance (K, K) for all."""
    root = rng.standard_normal((n.K, n.K))
    return {
        "x": rng.standard_normal((n.N, n.D)) + rng.uniform(1, 2, n.D),
        "m": rng.standard_normal((n.N, n.K)) + 0.5, "C": 0.3 * root @ root.T + 0.3 * np.eye(n.K),
    }


def expected_cost(answer, x, m, C):
    """The mean of E_q[−log p(x_n|z)]: all of Q that W, b and Ψ have a say in."""
    W, b, psi = answer["W"], answer["b"], answer["psi"]
    squares = (x - b - m @ W) ** 2 + np.sum(W * (C @ W), axis=0)   # (N, D)
    return 0.5 * np.sum(np.mean(squares, axis=0) / psi + np.log(psi) + LOG_2PI)


def regression(x, m, C, *, spread=1.0, centred=True):
    """W, b and what is left, with so many times C in the second moment of z."""
    mean_x, mean_m = (x.mean(axis=0), m.mean(axis=0)) if centred else (0.0, np.zeros(m.shape[1]))
    zz = (m - mean_m).T @ (m - mean_m) / len(x) + spread * C
    W = np.linalg.solve(zz, (m - mean_m).T @ (x - mean_x) / len(x))
    b = mean_x - mean_m @ W if centred else x.mean(axis=0)
    psi = np.mean((x - b - m @ W) ** 2, axis=0) + spread * np.sum(W * (C @ W), axis=0)
    return {"W": W, "b": b, "psi": psi}


def parameters_like(x, m, C):
    """The shapes of W, b and ψ."""
    K, D = m.shape[1], x.shape[1]
    return {"W": np.zeros((K, D)), "b": np.zeros(D), "psi": np.ones(D)}


def mean_as_constant(x, m, C):
    """The data's mean for b."""
    return regression(x, m, C) | {"b": x.mean(axis=0)}


def mean_as_constant_throughout(x, m, C):
    """The data's mean for b, and ψ of what that leaves."""
    found = mean_as_constant(x, m, C)
    return found | {"psi": at_the_mean(found, x, m) + np.sum(found["W"] * (C @ found["W"]), axis=0)}


def loadings(x, m, C, *, zz=None, centred_m=True, centred_x=True):
    """W with this, of mᵀm, C and N, for E[zᵀz], and of x and m as they are where they are not centred."""
    m = m - m.mean(axis=0) if centred_m else m
    x = x - x.mean(axis=0) if centred_x else x
    N, mm = len(x), m.T @ m
    return np.linalg.solve(mm / N + C if zz is None else zz(mm, C, N), m.T @ x / N)


def judge_m_step(arguments, given, sizes):
    """A judge: of the minimum, and where W is a known wrong one a note says so, whatever stands beside it."""
    report = by_minimum(expected_cost, like=parameters_like)(arguments, given, sizes)
    W = given.get("W") if isinstance(given, dict) else None
    if report.ok or np.shape(W) != (arguments["m"].shape[1], arguments["x"].shape[1]):
        return report
    notes = [words for words, made in LOADINGS.items() if np.allclose(made(**arguments), W, 1e-7, 0.0)]
    return replace(report, notes=notes + report.notes)


def unbiased_residuals(x, m, C):
    """N − 1 under the squared residuals alone."""
    found = regression(x, m, C)
    return found | {"psi": found["psi"] + at_the_mean(found, x, m) / (len(x) - 1)}


def at_the_mean(found, x, m):
    """The squared residuals at the mean of q alone, (D,)."""
    return np.mean((x - found["b"] - m @ found["W"]) ** 2, axis=0)


def psi_at_the_mean(x, m, C):
    """The same for ψ."""
    found = regression(x, m, C)
    return found | {"psi": at_the_mean(found, x, m)}


def psi_as_deviation(x, m, C):
    """Roots of the variances."""
    found = regression(x, m, C)
    return found | {"psi": np.sqrt(found["psi"])}


def psi_as_sum(x, m, C):
    """Sums over the data cases."""
    found = regression(x, m, C)
    return found | {"psi": len(x) * found["psi"]}


def psi_of_the_rest(x, m, C):
    """What the data's variance leaves beside WᵀW, as if z had the covariance I."""
    found = regression(x, m, C)
    return found | {"psi": x.var(axis=0) - np.sum(found["W"] ** 2, axis=0)}


def other_psi(psi):
    """A mistake: W and b are right, and ψ is this, of their results, x, m and C."""
    def mistake(x, m, C):
        found = regression(x, m, C)
        return found | {"psi": psi(found, x, m, C)}

    return mistake


def sums_beside_one_C(x, m, C):
    """mᵀm summed over the data cases, and C once."""
    dm = m - m.mean(axis=0)
    W = np.linalg.solve(dm.T @ dm + C, dm.T @ (x - x.mean(axis=0)))
    found = {"W": W, "b": x.mean(axis=0) - m.mean(axis=0) @ W}
    return found | {"psi": at_the_mean(found, x, m) + np.sum(W * (C @ W), axis=0)}


def draw_em(rng, n):
    """A covariance, a start, and a number of iterations."""
    return draw_moments(rng, n) | {"n_steps": n.K + 1}


def path(S, W, psi, n_steps):
    """The mean nlml before every iteration of EM and at the end, by the package's two steps."""
    found = []
    for _ in range(n_steps + 1):
        statistics, mean_nlml = linear_gaussian.e_step_moments(W, psi, S)
        found.append(float(mean_nlml))
        W, _, psi = linear_gaussian.m_step(statistics)
    return np.array(found)


def path_of(steps, S, W, psi, n_steps):
    """The path of other steps: (S, W, ψ) → (W, ψ)."""
    found = []
    for _ in range(n_steps + 1):
        C = W.T @ W + np.diag(psi)
        found.append(0.5 * (len(S) * LOG_2PI + np.linalg.slogdet(C)[1] + np.trace(np.linalg.solve(C, S))))
        W, psi = steps(S, W, psi)
    return np.array(found)


def one_step(S, W, psi, *, moments=moments, of_psi=None):
    """An iteration with these moments, and this for ψ (S, old W, new W, moments)."""
    found = moments(S, W, psi)
    new = np.linalg.solve(found["zz"], found["xz"].T)
    rest = np.diag(S) - np.sum(new * found["xz"].T, axis=0)
    return new, rest if of_psi is None else of_psi(S, W, new, rest, found)


def a_path(**changed):
    """The path of `one_step` with something changed."""
    return lambda S, W, psi, n_steps: path_of(lambda *now: one_step(*now, **changed), S, W, psi, n_steps)


def psi_stays(S, W, psi, n_steps):
    """Ψ as at the start, all the way."""
    return path_of(lambda S, W, psi: (one_step(S, W, psi)[0], psi), S, W, psi, n_steps)


def w_stays(S, W, psi, n_steps):
    """W as at the start, all the way."""
    return path_of(lambda S, W, psi: (W, one_step(S, W, psi)[1]), S, W, psi, n_steps)


def nothing_moves(S, W, psi, n_steps):
    """The first value, again and again."""
    return np.full(n_steps + 1, path(S, W, psi, 0)[0])


def without_zz(S, W, psi, n_steps):
    """W = E[zᵀx]."""
    def steps(S, W, psi):
        xz = moments(S, W, psi)["xz"]
        return xz.T, np.diag(S) - np.sum(xz**2, axis=1)

    return path_of(steps, S, W, psi, n_steps)


def without_constant(S, W, psi, n_steps):
    """½ D log 2π left out."""
    return path(S, W, psi, n_steps) - 0.5 * len(S) * LOG_2PI


def a_step_late(S, W, psi, n_steps):
    """From after the first iteration on."""
    return path(S, W, psi, n_steps + 1)[1:]


# ---- what a rotation of the factors changes ----------------------------------------------------

ROTATED = {
    "the loadings W": "changes", "W.T @ W + Psi": "stays", "nlml of x": "stays",
    "the posterior mean of z": "changes", "the reconstruction m W + b": "stays",
    "Q of the best diagonal q": "changes",
}

WHY = {
    ("the loadings W", "stays"):
        "T W has other entries than W: compare loadings of two fits only after both were turned alike",
    ("W.T @ W + Psi", "changes"):
        "(T W)ᵀ (T W) = Wᵀ Tᵀ T W, and Tᵀ T = I: this is what data determine, what two fits have in common",
    ("nlml of x", "changes"):
        "the marginal has W in its covariance alone, and there T cancels: no data can tell the two models "
        "apart",
    ("the posterior mean of z", "stays"): "m becomes m Tᵀ: z are coordinates, and the axes were turned",
    ("the reconstruction m W + b", "changes"):
        "(m Tᵀ) (T W) = m W: the turn of z and that of W cancel, and x does not notice",
    ("Q of the best diagonal q", "stays"):
        "a product over k fits a posterior whose axes are those of z, no other: the bound notices what x "
        "does not",
}


# ---- the floor of a noise variance -------------------------------------------------------------


def draw_variances(rng, n):
    """What an M-step leaves of each column, two of them next to nothing; their variances; the share."""
    variance, share = 10 ** rng.uniform(-1, 1, n.D), rng.uniform(0.002, 0.01)
    left = rng.uniform(0.2, 0.9, n.D)
    left[rng.permutation(n.D)[:2]] = share * rng.uniform(0.1, 0.5, 2)
    return {"v": left * variance, "variance": variance, "share": share}


def floored(v, variance, share):
    """ψ at or above its floor, and which columns are there: column by column."""
    psi, there = [], []
    for left, whole in zip(v, variance):
        there.append(left <= share * whole)
        psi.append(share * whole if there[-1] else left)
    return {"psi": np.array(psi), "at_floor": np.array(there)}


def floored_alike(v, floor):
    """The same floor for all columns."""
    return {"psi": np.maximum(v, floor), "at_floor": v <= floor}


POSTERIORS = {
    "M lacks the 1 of the prior's precision: this is the least squares answer, as if p(z) were flat":
        lambda **given: by_precision(**given, prior=0.0),
    "right except for cov, which is M, the precision: the covariance is its "
    "inverse": precision_for_covariance,
    "right except for the mean: x − b is what W explains, and b was not taken off": without_b,
    "right except for the mean, which is still to be multiplied by cov: it is r Ψ⁻¹ Wᵀ "
    "M⁻¹": mean_times_precision,
    "a 1 was added to every entry of W Ψ⁻¹ Wᵀ: the prior's precision is the identity, "
    "np.eye(K)": ones_for_identity,
    "right except for the mean, in which Ψ⁻¹ is missing: a noisy column says less of z": mean_without_psi,
    "right except for cov, which is 0 beside its diagonal: given x, the entries of z are "
    "correlated": only_variances,
    "psi holds variances: you divided by their squares, as if they were standard deviations":
        lambda psi, **given: by_precision(psi=psi, noise=psi**2, **given),
    "the mean is r Ψ⁻¹ Wᵀ M⁻¹: M was multiplied by, and not its inverse":
        mean_by_precision,
    "Ψ⁻¹ is left out of M, and stands in the mean rightly: M is I + W Ψ⁻¹ Wᵀ":
        precision_without_psi,
    "W was multiplied by Ψ, and Ψ divides it: the noisier a column is, the less it says of z":
        lambda psi, **given: by_precision(psi=psi, noise=1 / psi, **given),
    "psi holds variances: you divided by their roots, as if the density had them":
        lambda psi, **given: by_precision(psi=psi, noise=np.sqrt(psi), **given),
    "Ψ is left out, as if every column had the noise 1: the noisier a column, the less it says of z":
        lambda psi, **given: by_precision(psi=psi, noise=np.ones_like(psi), **given),
}
DENSITIES = {
    "this is −log p(x|z) at the posterior's mean of z: one z, where p(x) is an average over "
    "all": given_the_mean,
    "this is −log p(x, z) at the posterior's mean of z: z has still to be integrated out, which adds ½ log "
    "|M| "
    "and takes off ½ K log 2π": joint_at_the_mean,
    "right except for ½ log |M|, by which ½ log |Σ| is larger than ½ log |Ψ|": without_log_det,
    "right except for ½ Σ log ψ, the determinant of Ψ": without_log_psi,
    "the ½ stands before the determinant, too: log |Σ| came in in full": determinant_without_half,
    "log |Σ| has its sign turned: the wider a density is, the lower": log_det_turned,
    "½ log |M| has its sign turned: that of M⁻¹ was taken": log_det_of_cov,
    "the ½ stands before the quadratic form, too, which came in in full": square_without_half,
    "the quadratic form is r Σ⁻¹ rᵀ, and this is r Σ rᵀ": covariance_in_the_square,
    "right except for ½ m mᵀ, the prior's part of the quadratic form": square_without_prior,
    "right except for the quadratic form: this is r Ψ⁻¹ rᵀ, and what W explains is still to be taken off":
        square_of_noise,
    "Σ is WᵀW + Ψ, and psi holds variances: you squared them": lambda psi, **given: nlml(psi=psi**2, **given),
    "|Σ| stands where log |Σ| belongs: np.linalg.slogdet(Sigma)[1] is the logarithm, and cannot overflow":
        square_of_log_determinant,
    "|M| stands where log |M| belongs: np.linalg.slogdet(M)[1] is the logarithm": determinant_of_precision,
    "the identity stands where Ψ belongs in Σ: every column has a variance of its own, psi":
        lambda psi, **given: nlml(psi=np.ones_like(psi), **given),
    "W is left out: this is −log N(x; b, Ψ), as if z were always 0; Σ is WᵀW + Ψ":
        lambda W, **given: nlml(W=0 * W, **given),
    "psi holds variances, and their roots were taken: Σ is WᵀW + Ψ, with psi as it is on the diagonal":
        lambda psi, **given: nlml(psi=np.sqrt(psi), **given),
    "b is left out: what is squared are the deviations x − b":
        lambda b, **given: nlml(b=0 * b, **given),
    "each column has the right variance, and they were taken as independent: W couples "
    "them": independent_columns,
}
MOMENTS = {
    "right except for zz: this is that of the posterior's means; z is not known, and its covariance M⁻¹ is "
    "added":
        moments_of_means,
    "M lacks the 1 of the prior's precision: β and M⁻¹ are those of a flat p(z)": moments_by_flat_prior,
    "right except for zz: what is added to β S βᵀ is the covariance M⁻¹, and not M": moments_with_precision,
    "right except for zz: S is missing between β and βᵀ": other_zz(lambda beta, S, cov: cov + beta @ beta.T),
    "right except for zz: the identity is what p(z) says of z; what the data say of it is asked":
        other_zz(lambda beta, S, cov: np.eye(len(cov))),
    "right except for zz: M⁻¹ is all that is added, the prior's identity stands in it already":
        other_zz(lambda beta, S, cov: cov + beta @ S @ beta.T + np.eye(len(cov))),
    "β is M⁻¹ W Ψ⁻¹, and you left out its Ψ⁻¹": moments_without_psi,
    "Ψ⁻¹ is left out of β and of M, as if every column had the noise 1": moments_of_noise_one,
    "psi holds variances: you divided by their squares in β and in M, as if they were standard deviations":
        lambda psi, **given: moments(psi=psi**2, **given),
    "right except for zz: M⁻¹ alone is what is not known of z; what is known, β S βᵀ, is added":
        other_zz(lambda beta, S, cov: cov),
    "right except for zz: β S βᵀ, what the means spread, has its sign turned: it is added to M⁻¹":
        other_zz(lambda beta, S, cov: cov - beta @ S @ beta.T),
    "right except for xz: Wᵀ is what p(z) says of it; what the data say is S βᵀ":
        lambda S, W, psi: moments(S, W, psi) | {"xz": W.T},
    "β is M⁻¹ W Ψ⁻¹, and you left out its M⁻¹": moments_without_cov,
    "Ψ⁻¹ is left out of M, and stands in β rightly: M is I + W Ψ⁻¹ Wᵀ": moments_with_psi_in_beta,
    "right except for xz: β takes x to z, and S is missing: E[xᵀz] is S βᵀ":
        lambda S, W, psi: moments(S, W, psi) | {"xz": np.linalg.solve(W.T @ W + np.diag(psi), W.T)},
}
LOADINGS = {
    "W is off: C is forgotten in E[zᵀz], which is the mean of mᵀm, and C beside it":
        lambda **table: loadings(**table, zz=lambda mm, C, N: mm / N),
    "W is off: beside a mean over the data cases stands C, and not N · C":
        lambda **table: loadings(**table, zz=lambda mm, C, N: mm / N + N * C),
    "W is off: beside a sum over the data cases stands N · C, and not C":
        lambda **table: loadings(**table, zz=lambda mm, C, N: (mm + C) / N),
    "W is off: the moments beside C are those of np.cov, which divides by N − 1; they are means, bias=True":
        lambda **table: loadings(**table, zz=lambda mm, C, N: mm / N + (N - 1) / N * C),
    "W is off: in E[zᵀz] stands the identity, the prior's covariance, where C belongs, that of q":
        lambda **table: loadings(**table, zz=lambda mm, C, N: mm / N + np.eye(len(C))),
    "W is off: E[zᵀz] is C alone, and the mean of mᵀm is forgotten in it":
        lambda **table: loadings(**table, zz=lambda mm, C, N: C),
    "W is off: one of its two moments is a mean over the data cases, and the other is a sum":
        lambda **table: len(table["x"]) * loadings(**table),
    "W is E[zᵀz]⁻¹ E[zᵀx], and the inverse is missing":
        lambda **table: loadings(**table, zz=lambda mm, C, N: np.eye(len(C))),
    "x was centred and m was not: a regression with a constant takes deviations of both from their means":
        lambda **table: loadings(**table, centred_m=False),
    "W is off: x and m were not centred; a regression with a constant takes deviations from the means":
        lambda **table: loadings(**table, centred_m=False, centred_x=False),
    "W is off: x and m were not centred, and C is forgotten in E[zᵀz]":
        lambda **table: loadings(
            **table, zz=lambda mm, C, N: mm / N, centred_m=False, centred_x=False),
}
REGRESSIONS = {
    "this regresses on the means as if z were known: the second moment of z has the covariance C of q as "
    "well":
        lambda **given: regression(**given, spread=0.0),
    "b is mean(x) − mean(m) W: mean(x) alone is too much by mean(m) W, and psi has to pay for it":
        mean_as_constant_throughout,
    "psi is the variance of x − m W with N − 1 below: below stands N, and the spread diag(Wᵀ C W) is added":
        other_psi(lambda f, x, m, C: np.var(x - m @ f["W"], axis=0, ddof=1)),
    "in psi the squared residuals are divided by N − 1, which is for unbiased variances; Q is least with N":
        unbiased_residuals,
    "C stands in the mean of zᵀz, once, as it is: divided by N it is all but lost":
        lambda x, m, C: regression(x, m, C, spread=1 / len(x)),
    "psi is taken at the means of q: W carries the spread of z over to x, diag(Wᵀ C W)": psi_at_the_mean,
    "the spread of z adds to psi, by diag(Wᵀ C W), and you took it off": other_psi(
        lambda f, x, m, C: 2 * at_the_mean(f, x, m) - f["psi"]),
    "in psi stands diag(WᵀW) where diag(Wᵀ C W) belongs: q has the covariance C, and not that of the prior":
        other_psi(lambda f, x, m, C: at_the_mean(f, x, m) + np.sum(f["W"] ** 2, axis=0)),
    "psi has the divisor N − 1, which is for unbiased variances: Q is least with N": other_psi(
        lambda f, x, m, C: f["psi"] * len(x) / (len(x) - 1)),
    "psi is one number for all columns: that is probabilistic PCA; here each has its own": other_psi(
        lambda f, x, m, C: np.full_like(f["psi"], f["psi"].mean())),
    "psi is all of the variance of x: what z explains is to be taken off": other_psi(
        lambda f, x, m, C: x.var(axis=0)),
    "W is off: beside sums over the data cases C counts N times, beside means once": sums_beside_one_C,
    "psi are variances, and these are their roots": psi_as_deviation,
    "psi is a mean over the data cases, and this is a sum": psi_as_sum,
    "psi is what the regression leaves, and not the variance of x less WᵀW: under q, z has not the "
    "covariance I":
        psi_of_the_rest,
    "W belongs to deviations from the means: without the 1 beside z, the regression goes through 0":
        lambda **given: regression(**given, centred=False),
    "b is the constant of the regression, mean(x) − mean(m) W, and mean(x) alone only where mean(m) is 0":
        mean_as_constant,
}
PATHS = {
    "these are the nlml after each step and one more: the first entry is that of the start, before any step":
        a_step_late,
    "½ D log 2π is missing: without it there is no comparing with other models": without_constant,
    "nothing moves: W and psi of the M-step have to be those of the next E-step": nothing_moves,
    "W stays what it was at the start: it is learned too": w_stays,
    "W is E[zᵀz]⁻¹ E[zᵀx], a regression, and the inverse is missing": without_zz,
    "ψ is S less WᵀW: that makes the diagonals agree; the M-step takes what the regression leaves": a_path(
        of_psi=lambda S, old, new, rest, found: np.diag(S) - np.sum(new**2, axis=0)),
    "Ψ stays what it was at the start: it is learned too, by what the regression leaves": psi_stays,
    "E[zᵀz] lacks M⁻¹: EM fills in a distribution for z, and not its mean": a_path(moments=moments_of_means),
    "Ψ came from the old W: the residuals are those of the new one": a_path(
        of_psi=lambda S, old, new, rest, found: np.diag(S) - np.sum(old * found["xz"].T, axis=0)),
    "every ψ is the mean of all: that is probabilistic PCA, where factor analysis gives each column its own "
    "noise":
        a_path(of_psi=lambda S, old, new, rest, found: np.full_like(rest, rest.mean())),
}
FLOORS = {
    "one floor for all columns: it has to be a share of each column's own variance, or it depends on the "
    "unit":
        lambda v, variance, share: floored_alike(v, share),
    "the floor is a share of the mean variance: a column in small units would be all floor":
        lambda v, variance, share: floored_alike(v, share * variance.mean()),
    "the floor is a share of the largest variance: a column in small units would be all floor":
        lambda v, variance, share: floored_alike(v, share * variance.max()),
    "the floor is a share of the root of the variance: a variance is compared with a variance":
        lambda v, variance, share: floored(v, variance, share) | {
            "psi": np.maximum(v, share * np.sqrt(variance))},
    "psi is v itself: where it lies below the floor, the floor takes its place":
        lambda v, variance, share: floored(v, variance, share) | {"psi": v},
    "psi is right; at_floor compares v with the share itself, and not with that of the variance":
        lambda v, variance, share: floored(v, variance, share) | {"at_floor": v <= share},
    "the floor was added to every variance: it holds where v lies below it, and nowhere else":
        lambda v, variance, share: floored(v, variance, share) | {"psi": v + share * variance},
    "psi is right; at_floor says True where the column is above its floor":
        lambda v, variance, share: floored(v, variance, share) | {"at_floor": v > share * variance},
    "psi is at the most the floor: of v and the floor it is the larger one, not the smaller":
        lambda v, variance, share: floored(v, variance, share) | {"psi": np.minimum(v, share * variance)},
    "the columns at the floor got all of their variance: the floor is a share of it":
        lambda v, variance, share: floored(v, variance, share) | {
            "psi": np.where(v <= share * variance, variance, v)},
}

EXERCISES = [
    Exercise(
        "02-1", "posterior", "2.3", "mean (N, K) and cov (K, K) of p(z|x), in a dict", draw_model,
        by_value(posterior), POSTERIORS,
    ),
    Exercise(
        "02-2", "marginal_nlml", "2.6", "−log p(x_n) (N,), in nats, every constant kept", draw_model,
        by_value(nlml, names=("nlml",)), DENSITIES,
    ),
    Exercise(
        "02-3", "expected_moments", "2.8", "xz (D, K) and zz (K, K), in a dict, from S alone", draw_moments,
        by_value(moments), MOMENTS,
    ),
    Exercise(
        "02-4", "m_step", "2.11", "W (K, D), b (D,), psi (D,), in a dict, of least Q for the table m, C",
        draw_table, judge_m_step, REGRESSIONS,
    ),
    Exercise(
        "02-5", "em_path", "2.36", "the mean nlml, (n_steps + 1,), at the start and after each step",
        draw_em, by_value(path, names=("path",)), PATHS,
    ),
    Exercise(
        "02-6", "what_a_rotation_changes", "2.35", "of each of six: changes or stays, where T W stands for W",
        None, by_choice(ROTATED, WHY),
    ),
    Exercise(
        "02-7", "floored_noise", "5.6", "psi (D,), at or above its floor, and at_floor (D,), bool, in a dict",
        draw_variances, by_value(floored), FLOORS,
    ),
]
