"""The exercises of notebook 06, through the sampling: a sampled bound, gradients, an optimiser, a fault."""

import numpy as np

from ... import bound
from ...likelihoods import Gaussian
from ...model import Model
from ...networks.layers import mlp
from ...networks.optimizers import Adam
from ..exercise import Exercise, by_choice, by_gradient, by_value
from ..terms import OFFSET, VARIANCE, of_argument, of_terms

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


def power_of_s(power):
    """z = m + s^power η, with the right log q: in it the noise stands, and not z."""
    def made(**given):
        _, log_prior, log_p = costs(**given, z=given["m"] + given["s"] ** power * given["eta"])
        return np.mean(costs(**given)[0] - log_prior - log_p, axis=0)

    return made


def variance_in_q(**given):
    """s taken for a variance in log q."""
    z = given["m"] + given["s"] * given["eta"]
    return of_the_heart(**given) + np.mean(
        log_normal(z, given["m"], 0.5 * np.log(given["s"])) - costs(**given)[0], axis=0
    )


def half_log_in_q(**given):
    """−½ log s for −log s in log q."""
    return of_the_heart(**given) + 0.5 * np.sum(np.log(given["s"]), axis=1)


def importance_weighted(**given):
    """The logarithm of the mean in the place of the mean of the logarithm."""
    log_q, log_prior, log_p = costs(**given)
    return -np.log(np.mean(np.exp(log_prior + log_p - log_q), axis=0))


def noiseless(**given):
    """z = m."""
    _, log_prior, log_p = costs(**given, z=given["m"] + 0 * given["eta"])
    return np.mean(costs(**given)[0] - log_prior - log_p, axis=0)


SAMPLED = {
    "the noise is multiplied by √s, and s is a standard deviation: z = m + s η": power_of_s(0.5),
    "right but for z: the noise is multiplied by a variance, s², and z = m + s η": power_of_s(2),
    "right but for log q, in which you took s for a variance": variance_in_q,
    "right but for log q: its constant is − log s, or −½ log s², and yours −½ log s": half_log_in_q,
    "the mean over the samples is taken before the logarithm: that is the bound L_S of notebook 12":
        importance_weighted,
    "z stands at the mean m in all samples: the noise is not used": noiseless,
} | of_terms({
    "log q": lambda **given: np.mean(costs(**given)[0], axis=0),
    "log p(z)": lambda **given: -np.mean(costs(**given)[1], axis=0),
    "log p(x|z)": lambda **given: -np.mean(costs(**given)[2], axis=0),
}) | of_argument(of_the_heart, "psi", VARIANCE) | of_argument(of_the_heart, "b", OFFSET)


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


def log_variance(**given):
    """log s taken for a log variance."""
    dm, dlog_s = score(**given | {"log_s": 0.5 * given["log_s"]})
    return dm, 0.5 * dlog_s


def without_exp(**given):
    """log s used as s."""
    with np.errstate(all="ignore"):
        return score(**given | {"log_s": np.log(given["log_s"] + 0j)})


def another_square(change):
    """dlog_s with another function of the square u²."""
    def made(z, m, log_s, c=None):
        u, c = (z - m) / np.exp(log_s), 1.0 if c is None else c[:, :, None]
        return score(z, m, log_s)[0] if np.isscalar(c) else np.mean(c * u / np.exp(log_s), axis=0), np.mean(
            c * change(u**2), axis=0
        )

    return made


def real(function):
    """The real parts of what a function gives."""
    return lambda **given: tuple(np.real(part) for part in function(**given))


SCORE = {
    "log s is taken for a log variance: here s = exp(log s) is the standard deviation": log_variance,
    "log_s is used as if it were s: first s = exp(log_s)": real(without_exp),
    "dm is right, and dlog_s has ½ u² where u² belongs": another_square(lambda u2: 0.5 * u2 - 1),
    "dm is right, and dlog_s has 2 u² where u² belongs": another_square(lambda u2: 2 * u2 - 1),
    "dm is right, and the sign of the −1 of u² − 1 is turned": another_square(lambda u2: u2 + 1),
    "dm is right, and dlog_s is the −1 alone: the square ((z − m)/s)² moves with s, too":
        another_square(lambda u2: 0 * u2 - 1),
}


def with_costs(change):
    """The score function's estimate with other costs."""
    return lambda z, m, log_s, c: score(z, m, log_s, change(c))


def only_dm(z, m, log_s, c):
    """c in dm alone."""
    return score(z, m, log_s, c)[0], score(z, m, log_s)[1]


COSTS = {
    "the mean of the other samples' costs is taken off: right on average, with less noise, and asked in the "
    "next exercise only": with_costs(lambda c: leave_one_out(c)),
    "the mean of the costs is taken off: that is for the next exercise, and there without the sample's own":
        with_costs(lambda c: c - c.mean(axis=0)),
    "the mean of all costs is taken off, over all data cases: asked are the costs as they are":
        with_costs(lambda c: c - c.mean()),
    "the logarithm of c stands where c belongs: c is a sum of logarithms already": with_costs(np.log),
    "dm is right, and dlog_s lacks the factor c": only_dm,
}


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


def back_in_log_s(change):
    """dm as it is, and another dlog_s."""
    return lambda m, log_s, eta, dz: (dz.sum(axis=0), change(m, log_s, eta, dz))


THROUGH = {
    "dm is right, and log_s stands in dlog_s where s = exp(log_s) belongs": back_in_log_s(
        lambda m, log_s, eta, dz: np.sum(dz * eta, axis=0) * log_s
    ),
    "dm is right, and dlog_s is of a log variance: ½ exp(½ log_s) for exp(log_s)": back_in_log_s(
        lambda m, log_s, eta, dz: 0.5 * np.sum(dz * eta, axis=0) * np.exp(0.5 * log_s)
    ),
    "dm is right, and in dlog_s dz and η are summed apart: first multiply, sample by sample": back_in_log_s(
        lambda m, log_s, eta, dz: dz.sum(axis=0) * eta.sum(axis=0) * np.exp(log_s)
    ),
    "dm is right, and in dlog_s stands the mean of η: multiply sample by sample, then sum": back_in_log_s(
        lambda m, log_s, eta, dz: dz.sum(axis=0) * eta.mean(axis=0) * np.exp(log_s)
    ),
    "dm is right, and dlog_s has z in the place of s η: m does not move with log s": back_in_log_s(
        lambda m, log_s, eta, dz: np.sum(dz * (m + np.exp(log_s) * eta), axis=0)
    ),
    "dm is right, and dlog_s is divided by s where it is multiplied: ∂s/∂log s = s": back_in_log_s(
        lambda m, log_s, eta, dz: np.sum(dz * eta, axis=0) / np.exp(log_s)
    ),
    "dm is right, and dlog_s has η²: z is linear in η": back_in_log_s(
        lambda m, log_s, eta, dz: np.sum(dz * eta**2, axis=0) * np.exp(log_s)
    ),
    "the gradient of the KL is in it, too: asked is what comes through the samples alone": (
        lambda m, log_s, eta, dz: (
            dz.sum(axis=0) + m, np.sum(dz * eta, axis=0) * np.exp(log_s) + np.exp(2 * log_s) - 1
        )
    ),
}


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


def sampled_kl(**given):
    """The KL's slopes through the samples, too."""
    s, m, eta = np.exp(given["log_s"]), given["m"], given["eta"]
    dm, dlog_s = slopes(**given, pull=0.0)
    z = m + s * eta
    return dm + z.mean(axis=0), dlog_s + np.mean(z * eta, axis=0) * s - 1


def residual_at_the_mean(**given):
    """The residual of the mean code for all samples."""
    return slopes(**given | {"eta": 0 * given["eta"]}, eta_back=given["eta"])


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


def other_rows(change_x=False, change_z=False):
    """x or z of the first M data cases, whatever rows says."""
    def made(x, W, b, psi, z, rows):
        first = np.arange(len(rows))
        r = z[rows] @ W + b - x[first if change_x else rows]
        if change_x and change_z:
            r = z[first] @ W + b - x[first]
        return len(x) / len(rows) * z[first if change_z else rows].T @ (r / psi)

    return made


BATCH = {
    "the first M data cases are used: rows says which": other_rows(True, True),
    "the codes of the first M data cases stand beside the residuals of rows: z[rows], too": other_rows(
        change_z=True
    ),
    "the decoder is left out of the residual: it is z W + b − x": lambda x, W, b, psi, z, rows: (
        -len(x) / len(rows) * z[rows].T @ (x[rows] / psi)
    ),
    "M stands as a factor: to scale a sum over M data cases up to N it is N/M": scaled(lambda N, M: N),
    "N/M is in it twice": scaled(lambda N, M: (N / M) ** 2),
}


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


def other_means(in_m=None, in_v=None):
    """Adam with other running means."""
    def made(p, g, m, v, t, alpha, beta1, beta2, epsilon):
        m = (in_m or (lambda m, g, beta: beta * m + (1 - beta) * g))(m, g, beta1)
        v = (in_v or (lambda v, g, beta: beta * v + (1 - beta) * g**2))(v, g, beta2)
        m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
        return p - alpha * m_hat / (np.sqrt(v_hat) + epsilon), m, v

    return made


def swapped_betas(**given):
    """β₁ for β₂."""
    return of_the_package(**given | {"beta1": given["beta2"], "beta2": given["beta1"]})


def another_order(**given):
    """(p, v, m)."""
    p, m, v = of_the_package(**given)
    return p, v, m


def without_epsilon(**given):
    """ε left out."""
    return adam(**given, root=lambda v, epsilon: np.sqrt(v))


def epsilon_before_correction(**given):
    """ε beside the root of the uncorrected v."""
    correction = 1 - given["beta2"] ** given["t"]
    return adam(**given, root=lambda v, epsilon: np.sqrt(v) + epsilon / np.sqrt(correction))


def by_gradient_itself(**given):
    """g in the place of m̂."""
    _, m, v = of_the_package(**given)
    v_hat = v / (1 - given["beta2"] ** given["t"])
    return given["p"] - given["alpha"] * given["g"] / (np.sqrt(v_hat) + given["epsilon"]), m, v


def plain_step(**given):
    """p − α g."""
    _, m, v = of_the_package(**given)
    return given["p"] - given["alpha"] * given["g"], m, v


def a_step_early(**given):
    """The correction of the step after."""
    _, m, v = of_the_package(**given)
    return adam(**given | {"t": given["t"] + 1})[0], m, v


ADAM = {
    "β₁ and β₂ are exchanged: β₁ belongs to m, β₂ to v": swapped_betas,
    "v is right, and m lacks the 1 − β₁ before g": other_means(in_m=lambda m, g, beta: beta * m + g),
    "m is right, and v lacks the 1 − β₂ before g²": other_means(in_v=lambda v, g, beta: beta * v + g**2),
    "the weights are exchanged: β belongs to the old mean, 1 − β to the new gradient": other_means(
        lambda m, g, beta: (1 - beta) * m + beta * g, lambda v, g, beta: (1 - beta) * v + beta * g**2
    ),
    "v is of the length of the whole gradient: each parameter has its own g²": other_means(
        in_v=lambda v, g, beta: beta * v + (1 - beta) * np.sum(g**2)
    ),
    "p is right, and asked is the order p, m, v": another_order,
    "m and v are right, and ε is left out beside the root": without_epsilon,
    "m and v are right, and ε stands beside the root of the v that is not corrected: a known variant, in "
    "which ε has another size": epsilon_before_correction,
    "m and v are right, and the gradient itself stands where m̂ belongs": by_gradient_itself,
    "m and v are right, and p takes a plain gradient step: they are not used": plain_step,
    "m and v are right, and the correction is that of step t + 1: this is step t": a_step_early,
}


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
        } | SAMPLED,
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
        } | SCORE,
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
        } | COSTS | SCORE,
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
            "the mean of the other data cases is taken off: asked are the other samples of the same one":
                lambda c: leave_one_out(c.T).T,
            "one mean over everything is taken off: each data case has its own": lambda c: c - c.mean(),
            "the sum over all S is divided by S − 1, and has c itself in it": lambda c: (
                c - c.sum(axis=0) / (len(c) - 1)
            ),
            "one other sample is taken off, and asked is the mean of all others": lambda c: (
                c - np.roll(c, 1, axis=0)
            ),
            "a bracket is missing: the sum of the others is total − c, and all of it is divided": lambda c: (
                c - c.sum(axis=0) - c / (len(c) - 1)
            ),
            "this divides by the standard deviation, too: asked is the difference alone": lambda c: (
                (c - c.mean(axis=0)) / c.std(axis=0)
            ),
            "the median is taken off: asked is the mean of the others": lambda c: c - np.median(c, axis=0),
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
        } | THROUGH,
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
            "this has the slopes of a KL that is sampled: right on average, and asked is the analytic one":
                sampled_kl,
            "the residual is that of the mean code, z = m, and has to be each sample's own":
                residual_at_the_mean,
        } | of_argument(slopes, "psi", VARIANCE) | of_argument(slopes, "b", OFFSET),
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
        } | BATCH | of_argument(weighted, "psi", VARIANCE) | of_argument(weighted, "b", OFFSET),
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
        } | ADAM,
    ),
    Exercise(
        "06-9", "narrow_sampler", "3.1", "which check sees the narrow sampler: passes or fails", None,
        by_choice(FOUND, BECAUSE),
    ),
]
