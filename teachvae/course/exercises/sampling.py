"""The exercises of notebook 06, through the sampling: a sampled bound, gradients, an optimiser, a fault."""

import numpy as np

from ... import bound
from ...likelihoods import Gaussian
from ...model import Model
from ...networks.layers import mlp
from ...networks.optimizers import Adam
from ..exercise import Exercise, by_choice, by_gradient, by_value

LOG_2PI = np.log(2 * np.pi)


def draw_model(rng, n):
    """Data (N, D) and a linear model W (K, D), b (D,), ψ (D,)."""
    return {
        "x": rng.standard_normal((n.N, n.D)), "W": rng.standard_normal((n.K, n.D)),
        "b": rng.standard_normal(n.D), "psi": rng.uniform(0.3, 2.0, n.D),
    }


def package(x, W, b, psi):
    """The model and θ as the package has them."""
    K, D = W.shape
    model = Model(mlp(K, (), D), Gaussian(D), K)
    return model, {"decoder": [{"W": W, "b": b}], "likelihood": {"log_psi": np.log(psi)}}


def log_normal(z, m, log_s):
    """log N(z; m, s²) summed over the last axis."""
    return -0.5 * np.sum(((z - m) / np.exp(log_s)) ** 2 + 2 * log_s + LOG_2PI, axis=-1)


# ---- 06-1, the sampled bound -------------------------------------------------------------------


def draw_sampled(rng, n):
    """A model, a table of q, and noise (S, N, K)."""
    return draw_model(rng, n) | {
        "m": rng.standard_normal((n.N, n.K)), "s": rng.uniform(0.3, 1.5, (n.N, n.K)),
        "eta": rng.standard_normal((n.S, n.N, n.K)),
    }


def of_the_heart(x, W, b, psi, m, s, eta, kl="sampled"):
    """Q (N,) by `bound.forward`."""
    model, theta = package(x, W, b, psi)
    return bound.forward(model, theta, np.concatenate([m, np.log(s)], axis=1), x, eta, kl=kl)[0]


def costs(x, W, b, psi, m, s, eta, z=None):
    """log q, log p(z) and log p(x|z), (S, N) each."""
    z = m + s * eta if z is None else z
    log_p = log_normal(x, z @ W + b, 0.5 * np.log(psi))
    return log_normal(z, m, np.log(s)), log_normal(z, 0.0, np.zeros_like(z)), log_p


def sum_over_s(**given):
    """1/S forgotten."""
    return len(given["eta"]) * of_the_heart(**given)


def mean_over_d(**given):
    """A mean over the visible variables."""
    log_q, log_prior, log_p = costs(**given)
    return np.mean(log_q - log_prior - log_p / given["x"].shape[1], axis=0)


def without_prior(**given):
    """log p(z) left out."""
    log_q, _, log_p = costs(**given)
    return np.mean(log_q - log_p, axis=0)


def without_q(**given):
    """log q left out."""
    _, log_prior, log_p = costs(**given)
    return np.mean(-log_prior - log_p, axis=0)


def density_of_noise(**given):
    """The density of η in the place of that of z."""
    return of_the_heart(**given) + np.sum(np.log(given["s"]), axis=1)


def with_variance(**given):
    """z = m + s² η."""
    log_q, log_prior, log_p = costs(**given, z=given["m"] + given["s"] ** 2 * given["eta"])
    return np.mean(log_q - log_prior - log_p, axis=0)


# ---- 06-2 and 06-3, the score and what it is multiplied by --------------------------------------


def draw_samples(rng, n):
    """Samples (S, N, K), that have been drawn, and the q they came from."""
    m, log_s = rng.standard_normal((n.N, n.K)), rng.uniform(-1.0, 0.4, (n.N, n.K))
    return {"z": m + np.exp(log_s) * rng.standard_normal((n.S, n.N, n.K)), "m": m, "log_s": log_s}


def draw_costs(rng, n):
    """Samples, their q, and a cost (S, N) for each of them."""
    return draw_samples(rng, n) | {"c": rng.uniform(2.0, 9.0, (n.S, n.N))}


def mean_log_q(z, m, log_s, c=1.0):
    """Σ_n of the mean over s of c log q(z|φ_n)."""
    return float(np.sum(np.mean(c * log_normal(z, m, log_s), axis=0)))


def score(z, m, log_s, c=None):
    """∂/∂m and ∂/∂log s of mean_log_q."""
    u, c = (z - m) / np.exp(log_s), 1.0 if c is None else c[:, :, None]
    return np.mean(c * u / np.exp(log_s), axis=0), np.mean(c * (u**2 - 1), axis=0)


def one_s_short(**given):
    """(z − m)/s for (z − m)/s²."""
    dm, dlog_s = score(**given)
    return dm * np.exp(given["log_s"]), dlog_s


def in_s(**given):
    """∂/∂s for ∂/∂log s."""
    dm, dlog_s = score(**given)
    return dm, dlog_s / np.exp(given["log_s"])


def without_one(z, m, log_s, c=None):
    """Without the −1 of u² − 1."""
    u, c = (z - m) / np.exp(log_s), 1.0 if c is None else c[:, :, None]
    return np.mean(c * u / np.exp(log_s), axis=0), np.mean(c * u**2, axis=0)


def through_the_sample(z, m, log_s):
    """As if z moved with φ: then log q has no m left, and −1 in log s."""
    return np.zeros_like(m), -np.ones_like(log_s)


def costless(z, m, log_s, c):
    """The score alone."""
    return score(z, m, log_s)


def apart(z, m, log_s, c):
    """The mean of c times the mean of the score."""
    dm, dlog_s = score(z, m, log_s)
    return c.mean(axis=0)[:, None] * dm, c.mean(axis=0)[:, None] * dlog_s


def climbing(z, m, log_s, c):
    """The other sign."""
    dm, dlog_s = score(z, m, log_s, c)
    return -dm, -dlog_s


def summed(z, m, log_s, c=None):
    """1/S forgotten."""
    dm, dlog_s = score(z, m, log_s, c)
    return len(z) * dm, len(z) * dlog_s


# ---- 06-4, a baseline --------------------------------------------------------------------------


def others(c, take=np.mean):
    """What the other samples of the same data case say, (S, N)."""
    return np.stack([take(np.delete(c, s, axis=0), axis=0) for s in range(len(c))])


def leave_one_out(c):
    """c less the mean of the others."""
    return c - others(c)


# ---- 06-5 and 06-6, through the sample -----------------------------------------------------------


def draw_gradients(rng, n):
    """q, noise, and what comes back from above, dz (S, N, K)."""
    return {
        "m": rng.standard_normal((n.N, n.K)), "log_s": rng.uniform(-1.0, 0.6, (n.N, n.K)),
        "eta": rng.standard_normal((n.S, n.N, n.K)), "dz": rng.standard_normal((n.S, n.N, n.K)),
    }


def along_dz(m, log_s, eta, dz):
    """Σ dz · z, whose gradient in z is dz."""
    return float(np.sum(dz * (m + np.exp(log_s) * eta)))


def back(m, log_s, eta, dz, power=1, taken=np.sum):
    """dm and dlog_s, with another power of s or a mean."""
    return taken(dz, axis=0), taken(dz * eta, axis=0) * np.exp(power * log_s)


def without_noise(m, log_s, eta, dz):
    """η left out."""
    return dz.sum(axis=0), dz.sum(axis=0) * np.exp(log_s)


def draw_bound(rng, n):
    """A model, a table (m, log s) and noise."""
    return draw_model(rng, n) | {
        "m": rng.standard_normal((n.N, n.K)), "log_s": rng.uniform(-1.0, 0.4, (n.N, n.K)),
        "eta": rng.standard_normal((n.S, n.N, n.K)),
    }


def total_q(x, W, b, psi, m, log_s, eta):
    """Σ_n Q_n with the analytic KL."""
    return reconstruction(x, W, b, psi, m, log_s, eta) + kl(x, W, b, psi, m, log_s, eta)


def reconstruction(x, W, b, psi, m, log_s, eta):
    """−Σ_n of the mean over s of log p(x|z)."""
    z = m + np.exp(log_s) * eta
    return float(-np.sum(np.mean(log_normal(x, z @ W + b, 0.5 * np.log(psi)), axis=0)))


def kl(x, W, b, psi, m, log_s, eta):
    """Σ_n KL(q_n ‖ p(z))."""
    return float(np.sum(0.5 * (m**2 + np.exp(2 * log_s) - 1) - log_s))


def slopes(x, W, b, psi, m, log_s, eta, eta_back=None, samples=True, pull=1.0):
    """dm and dlog_s of Σ_n Q_n, with other noise on the way back, a frozen z, or another weight of the KL."""
    s, z = np.exp(log_s), m + np.exp(log_s) * eta
    dz = samples * ((z @ W + b - x) / psi) @ W.T / len(eta)
    eta = eta if eta_back is None else eta_back
    return dz.sum(axis=0) + pull * m, (dz * eta).sum(axis=0) * s + pull * (s**2 - 1)


def frozen(**given):
    """z held fixed: only the KL moves."""
    return slopes(**given, samples=False)


def summed_samples(**given):
    """1/S forgotten in the reconstruction."""
    S, full, prior = len(given["eta"]), slopes(**given), slopes(**given, samples=False)
    return tuple(p + S * (f - p) for f, p in zip(full, prior))


def other_noise(**given):
    """Another sample's noise on the way back."""
    return slopes(**given, eta_back=np.roll(given["eta"], 1, axis=0))


def in_s_of_q(**given):
    """∂/∂s for ∂/∂log s."""
    dm, dlog_s = slopes(**given)
    return dm, dlog_s / np.exp(given["log_s"])


def mean_over_cases(**given):
    """The gradient of the mean over n."""
    return tuple(part / len(given["x"]) for part in slopes(**given))


# ---- 06-7, a minibatch ---------------------------------------------------------------------------


def draw_batch(rng, n):
    """A linear model, codes z (N, K), and the places of a minibatch."""
    M = n.N - 2
    return draw_model(rng, n) | {
        "z": rng.standard_normal((n.N, n.K)), "rows": rng.permutation(n.N)[:M],
    }


def weighted(x, W, b, psi, z, rows, scale=None):
    """dW by the package's backward, with weights N/M in the batch and 0 elsewhere."""
    model, theta = package(x, W, b, psi)
    _, cache = model.log_likelihood(theta, x, z[None])
    weights = np.zeros(len(x))
    weights[rows] = len(x) / len(rows) if scale is None else scale
    _, dtheta = model.log_likelihood_backward(theta, cache, -weights[None])
    return dtheta["decoder"][0]["W"]


def scaled(scale):
    """The weights of the batch's cases another number."""
    return lambda **given: weighted(**given, scale=scale(len(given["x"]), len(given["rows"])))


def all_of_them(x, W, b, psi, z, rows):
    """The gradient over all data cases."""
    return weighted(x, W, b, psi, z, np.arange(len(x)))


def without_psi(x, W, b, psi, z, rows):
    """ψ left out."""
    return weighted(x, W, b, np.ones_like(psi), z, rows)


# ---- 06-8, Adam ----------------------------------------------------------------------------------


def draw_adam(rng, n):
    """Parameters, a gradient, the state of an optimiser, and its four numbers."""
    return {
        "p": rng.standard_normal(n.D), "g": rng.standard_normal(n.D), "m": 0.5 * rng.standard_normal(n.D),
        "v": rng.uniform(0.1, 1.0, n.D), "t": int(rng.integers(2, 6)), "alpha": float(rng.uniform(0.05, 0.2)),
        "beta1": float(rng.uniform(0.7, 0.9)), "beta2": float(rng.uniform(0.9, 0.99)), "epsilon": 0.05,
    }


def of_the_package(p, g, m, v, t, alpha, beta1, beta2, epsilon):
    """(p, m, v) after the package's own step."""
    state, flat = {"m": m.copy(), "v": v.copy(), "t": t - 1}, p.copy()
    Adam(alpha, beta1, beta2, epsilon).step(flat, g, state)
    return flat, state["m"], state["v"]


def outside(v, epsilon):
    """ε outside the root."""
    return np.sqrt(v) + epsilon


def adam(p, g, m, v, t, alpha, beta1, beta2, epsilon, corrected=(True, True), root=outside, sign=-1.0):
    """The step, with parts of it done otherwise."""
    m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
    m_hat = m / (1 - beta1**t) if corrected[0] else m
    v_hat = v / (1 - beta2**t) if corrected[1] else v
    return p + sign * alpha * m_hat / root(v_hat, epsilon), m, v


def done(**change):
    """A mistake: the step done otherwise."""
    return lambda **given: adam(**given, **change)


def a_step_late(**given):
    """The correction of the step before."""
    _, m, v = of_the_package(**given)
    p, _, _ = adam(**given | {"t": given["t"] - 1})
    return p, m, v


def correction_kept(**given):
    """The corrected moments are stored."""
    p, m, v = of_the_package(**given)
    return p, m / (1 - given["beta1"] ** given["t"]), v / (1 - given["beta2"] ** given["t"])


def by_old_moments(**given):
    """The step is taken before the moments have seen g."""
    _, m, v = of_the_package(**given)
    hats = given["m"] / (1 - given["beta1"] ** given["t"]), given["v"] / (1 - given["beta2"] ** given["t"])
    return given["p"] - given["alpha"] * hats[0] / (np.sqrt(hats[1]) + given["epsilon"]), m, v


# ---- 06-9, a fault ------------------------------------------------------------------------------


FOUND = {
    "gradient check": "passes", "falling Q": "passes", "Q against nlml": "fails", "moments of z": "fails",
}
BECAUSE = {
    ("gradient check", "fails"):
        "the backward was written for this very forward, so the differences agree: a gradient check says "
        "that they belong together, and not that the forward is right",
    ("falling Q", "fails"):
        "what is minimised is a smooth function with the right gradient: of course it falls, and that proves "
        "nothing",
    ("Q against nlml", "passes"):
        "look at Q after the best φ is found: its KL pays for s, its reconstruction sees half of s, and Q "
        "ends below nlml, which no bound can",
    ("moments of z", "passes"):
        "compare the standard deviation of many z with s: they should be one number",
}


EXERCISES = [
    Exercise(
        "06-1", "sampled_bound", "1.9", "Q_n (N,) from S samples, all of it sampled", draw_sampled,
        by_value(of_the_heart, names=["Q"]),
        {
            "this is the sum as the slide prints it, without its minus sign: −Q, which is to be made large, "
            "and is no upper bound": lambda **given: -of_the_heart(**given),
            "the samples are summed, and an expectation is their mean: 1/S is missing": sum_over_s,
            "this has the KL in closed form: as right on average, and not what is asked, where every term is "
            "sampled": lambda **given: of_the_heart(**given, kl="analytic"),
            "a mean over the D variables stands where their log densities add up": mean_over_d,
            "log p(z) is missing: the joint density is p(x|z) p(z)": without_prior,
            "log q is missing: without it there is no reward for width": without_q,
            "log q is the density of z, and yours that of η: z is stretched by s, so − log s belongs to it":
                density_of_noise,
            "the noise is multiplied by s², a variance: z = m + s η": with_variance,
        },
    ),
    Exercise(
        "06-2", "naive_gradient", "1.24", "dm and dlog_s (N, K) of the mean of log q, z held fixed",
        draw_samples,
        by_gradient(mean_log_q, ("m", "log_s"), inputs={"s": lambda z, m, log_s: np.exp(log_s)}),
        {
            "dlog_s is right, and dm lacks one of its two s: the square is ((z − m)/s)², and its inner "
            "derivative brings another 1/s": one_s_short,
            "dm is right, and dlog_s is the derivative in s: ∂/∂log s is s times that": in_s,
            "dm is right, and dlog_s lacks the −1 that comes of − log s, the norm of the density":
                without_one,
            "this is the gradient if z moved with φ: here z has been drawn, and stands still":
                through_the_sample,
            "1/S is missing: the samples are summed": summed,
            "zero is its expectation: asked is what these S samples say": lambda z, m, log_s: (
                np.zeros_like(m), np.zeros_like(m)
            ),
            "it is the gradient of −log q": lambda **given: tuple(-part for part in score(**given)),
        },
    ),
    Exercise(
        "06-3", "score_gradient", "1.25", "dm and dlog_s (N, K) by the score function", draw_costs,
        by_gradient(mean_log_q, ("m", "log_s"), inputs={"c": lambda z, m, log_s, c: c}),
        {
            "this is the score alone, the naive estimator: each sample's score counts for its cost c":
                costless,
            "the mean of a product is not the product of the means: multiply c by the score sample by "
            "sample, then take the mean": apart,
            "it is the gradient of −Q: c is a cost, to be made small": climbing,
            "dm is right, and dlog_s is the derivative in s: ∂/∂log s is s times that": in_s,
            "dlog_s is right, and dm lacks one of its two s": one_s_short,
            "dm is right, and the −1 of u² − 1 has lost its cost, or is missing": without_one,
            "1/S is missing: the samples are summed": summed,
        },
    ),
    Exercise(
        "06-4", "leave_one_out", "1.26", "c (S, N) less the mean of the other samples of its data case",
        lambda rng, n: {"c": rng.uniform(2.0, 9.0, (n.S, n.N))}, by_value(leave_one_out, names=["c"]),
        {
            "the mean over all S has c itself in it: that ties it to its own score, and the gradient comes "
            "out (S − 1)/S times too short": lambda c: c - c.mean(axis=0),
            "the mean runs over the data cases, and has to run over the samples of one": lambda c: (
                c - c.mean(axis=1, keepdims=True)
            ),
            "this is the baseline, and asked is c less the baseline": others,
            "the others are summed, and their mean is what is taken off": lambda c: c - others(c, np.sum),
            "the sum of the others is divided by S, and there are S − 1 of them": lambda c: (
                c - others(c, np.sum) / len(c)
            ),
            "it is the baseline less c: the sign is turned": lambda c: others(c) - c,
            "the baseline is added: it has to be taken off": lambda c: c + others(c),
        },
    ),
    Exercise(
        "06-5", "sample_backward", "3.3", "dm and dlog_s (N, K) from dz, for z = m + s η", draw_gradients,
        by_gradient(along_dz, ("m", "log_s"), inputs={
            "eta": lambda m, log_s, eta, dz: eta, "s": lambda m, log_s, eta, dz: np.exp(log_s),
        }),
        {
            "dm is right, and dlog_s lacks the factor s: log s is what is learned, and ∂s/∂log s = s":
                lambda **given: back(**given, power=0),
            "dm is right, and dlog_s has s² where s belongs: log s is no log variance":
                lambda **given: back(**given, power=2),
            "dm is right, and η is missing in dlog_s: how far z moves with s is η": without_noise,
            "a mean over the samples, where all S of them add up: what each counts for is in dz already":
                lambda **given: back(**given, taken=np.mean),
            "dm is right, and dlog_s is off by the ½ of a log variance: s = exp(log s)": lambda **given: (
                back(**given)[0], 0.5 * back(**given)[1]
            ),
            "dlog_s is right, and dm is the derivative in η: m moves z one to one": lambda **given: (
                np.sum(given["dz"] * np.exp(given["log_s"]), axis=0), back(**given)[1]
            ),
        },
    ),
    Exercise(
        "06-6", "gradient_of_q", "1.12", "dm and dlog_s (N, K) of Σ_n Q_n, with the analytic KL", draw_bound,
        by_gradient(
            total_q, ("m", "log_s"), terms={"reconstruction": reconstruction, "KL": kl},
            inputs={"eta": lambda **given: given["eta"], "s": lambda **given: np.exp(given["log_s"])},
        ),
        {
            "z stands still, so the data have no part in it: this gradient is that of the KL alone, the "
            "naive one": frozen,
            "right but for the KL, which is missing": lambda **given: slopes(**given, pull=0.0),
            "right but for the sign of the KL: Q is reconstruction plus price": lambda **given: (
                slopes(**given, pull=-1.0)
            ),
            "right but for 1/S: the samples' slopes are summed, where Q has their mean": summed_samples,
            "dm is right, and dlog_s lacks the −1 of s² − 1: the KL has − log s in it": lambda **given: (
                slopes(**given)[0], slopes(**given)[1] + 1
            ),
            "dm is right, and η on the way back is not the η that made z: keep it": other_noise,
            "dm is right, and dlog_s is the derivative in s: ∂/∂log s is s times that": in_s_of_q,
            "it is the gradient of the mean over the data cases, 1/N of what is asked: Σ_n Q_n":
                mean_over_cases,
        },
    ),
    Exercise(
        "06-7", "minibatch_gradient", "1.29", "an estimate of dW (K, D) of all N data cases, from M of them",
        draw_batch, by_value(weighted, names=["dW"]),
        {
            "the sum over the batch is the gradient of M data cases: to stand for all N it has to be N/M "
            "times that": scaled(lambda N, M: 1.0),
            "this is the mean over the batch: it stands for the mean over the data, and asked is their sum":
                scaled(lambda N, M: 1 / M),
            "M/N stands where N/M belongs: a part is scaled up to the whole": scaled(lambda N, M: M / N),
            "all N data cases are in it: rows says which may be looked at": all_of_them,
            "it is the gradient of +log p: what is minimised is −log p":
                lambda **given: -weighted(**given),
            "the residuals are not divided by ψ": without_psi,
        },
    ),
    Exercise(
        "06-8", "adam_step", "6.2", "p, m and v (P,) after step t of Adam", draw_adam,
        by_value(of_the_package, names=["p", "m", "v"]),
        {
            "m and v are right, and their bias towards 0 is not corrected: divide by 1 − β₁ᵗ and 1 − β₂ᵗ":
                done(corrected=(False, False)),
            "m and v are right, and in the step only m is corrected for its bias":
                done(corrected=(True, False)),
            "m and v are right, and in the step only v is corrected for its bias":
                done(corrected=(False, True)),
            "m and v are right, and ε stands inside the root: √v̂ + ε":
                done(root=lambda v, e: np.sqrt(v + e)),
            "m and v are right, and the root of v̂ is missing: the move would have a unit":
                done(root=lambda v, e: v + e),
            "m and v are right, and the step goes uphill": done(sign=1.0),
            "m and v are right, and the correction is that of step t − 1: t counts from 1": a_step_late,
            "p is right, and the corrected m and v are handed back: the state keeps the running means as "
            "they are":
                correction_kept,
            "m and v are right, and the step is made of the m and v before them: first the means, then the "
            "step":
                by_old_moments,
            "v is a running mean of g, and has to be one of g²": lambda **given: (
                *adam(**given)[:2], given["beta2"] * given["v"] + (1 - given["beta2"]) * given["g"]
            ),
        },
    ),
    Exercise(
        "06-9", "narrow_sampler", "3.1", "which check sees the narrow sampler: passes or fails", None,
        by_choice(FOUND, BECAUSE),
    ),
]
