"""The exercises of notebook 03, non-linear factor analysis: its densities, its data, its integral."""

import math

import numpy as np

from ...arrays.special import LOG_2PI
from ...likelihoods import Gaussian
from ...model import Model
from ...networks.layers import mlp
from ..exercise import Exercise, by_choice, by_gradient, by_value

HIDDEN = 8                                                         # none of N, D, K, S


def draw_network(rng, n):
    """A decoder with a hidden layer of tanh units, W1 (K, H), b1 (H,), W2 (H, D), b2 (D,), and log ψ (D,)."""
    return {
        "W1": rng.standard_normal((n.K, HIDDEN)), "b1": 0.5 * rng.standard_normal(HIDDEN),
        "W2": rng.standard_normal((HIDDEN, n.D)), "b2": rng.standard_normal(n.D),
        "log_psi": rng.uniform(-1.0, 1.0, n.D),
    }


def as_model(W1, b1, W2, b2, log_psi):
    """The same network as the package has it: a `Model` and its theta."""
    K, D = len(W1), len(b2)
    model = Model(mlp(K, (len(b1),), D), Gaussian(D), K)
    return model, {
        "decoder": [{"W": W1, "b": b1}, {}, {"W": W2, "b": b2}], "likelihood": {"log_psi": log_psi},
    }


def decoded(z, W1, b1, W2, b2):
    """f(z) (…, D)."""
    return np.tanh(z @ W1 + b1) @ W2 + b2


# ---- the joint density ------------------------------------------------------------------------


def draw_points(rng, n):
    """Data x (N, D), points z (S, N, K) and a network."""
    return {
        "x": 2 * rng.standard_normal((n.N, n.D)), "z": rng.standard_normal((n.S, n.N, n.K)),
        **draw_network(rng, n),
    }


def log_joint(x, z, **network):
    """log p(x, z) (S, N), by the package's model."""
    model, theta = as_model(**network)
    return model.log_joint(theta, x, z)


def log_joint_with(decoder=decoded, *, psi=np.exp, squares=1.0, log_det=1.0, taken=np.sum, of_z=np.sum,
                   prior=1.0, constants=1.0):
    """A mistake in the joint density: one of its parts as it is often written instead."""
    def mistake(x, z, W1, b1, W2, b2, log_psi):
        u = squares * (x - decoder(z, W1, b1, W2, b2)) ** 2 / psi(log_psi)
        log_lik = -0.5 * taken(u + log_det * log_psi + constants * LOG_2PI, axis=-1)
        return log_lik - 0.5 * prior * of_z(z**2 + constants * LOG_2PI, axis=-1)

    return mistake


def square(log_psi):
    """ψ² of log ψ."""
    return np.exp(2 * log_psi)


def straight(z, W1, b1, W2, b2):
    """f without its tanh."""
    return (z @ W1 + b1) @ W2 + b2


def bent_twice(z, W1, b1, W2, b2):
    """f with a tanh on its output too."""
    return np.tanh(decoded(z, W1, b1, W2, b2))


# ---- drawing data -----------------------------------------------------------------------------


def draw_noise(rng, n):
    """Draws z (N, K) and ε (N, D), standard normal, and a network."""
    return {
        "z": rng.standard_normal((n.N, n.K)), "epsilon": rng.standard_normal((n.N, n.D)),
        **draw_network(rng, n),
    }


def data(z, epsilon, **network):
    """x (N, D), by the package's model."""
    model, theta = as_model(**network)
    f, _ = model.f(theta, z)
    return model.likelihood.sample(theta["likelihood"], f, epsilon)


def drawn(scale=lambda log_psi: np.exp(0.5 * log_psi), decoder=decoded):
    """A mistake in drawing: another scale of the noise, or another decoder."""
    def mistake(z, epsilon, W1, b1, W2, b2, log_psi):
        return decoder(z, W1, b1, W2, b2) + scale(log_psi) * epsilon

    return mistake


def unmoved(z, epsilon, W1, b1, W2, b2, log_psi):
    """f and a standard deviation."""
    return decoded(z, W1, b1, W2, b2) + np.exp(0.5 * log_psi)


def nothing(z, W1, b1, W2, b2):
    """No mean at all."""
    return 0.0 * decoded(z, W1, b1, W2, b2)


def without_last_bias(z, W1, b1, W2, b2):
    """f − b2."""
    return decoded(z, W1, b1, W2, 0.0 * b2)


def without_first_bias(z, W1, b1, W2, b2):
    """f of a hidden layer without b1."""
    return decoded(z, W1, 0.0 * b1, W2, b2)


# ---- the slope in z ---------------------------------------------------------------------------


def draw_one_point(rng, n):
    """Data x (N, D), one point z (N, K) for each, and a network."""
    return {
        "x": 2 * rng.standard_normal((n.N, n.D)), "z": rng.standard_normal((n.N, n.K)),
        **draw_network(rng, n),
    }


def total_log_lik(x, z, W1, b1, W2, b2, log_psi):
    """Σ_n log p(x_n|z_n)."""
    u = (x - decoded(z, W1, b1, W2, b2)) ** 2 / np.exp(log_psi)
    return -0.5 * np.sum(u + log_psi + LOG_2PI)


def total_log_prior(x, z, W1, b1, W2, b2, log_psi):
    """Σ_n log p(z_n)."""
    return -0.5 * np.sum(z**2 + LOG_2PI)


def total_log_joint(**arguments):
    """Σ_n log p(x_n, z_n)."""
    return total_log_lik(**arguments) + total_log_prior(**arguments)


def slope_with(bend=lambda h: 1 - h**2, psi=np.exp, prior=1.0, sign=1.0, bias=1.0):
    """A mistake in the slope: another derivative of tanh, variance, or share of the prior."""
    def mistake(x, z, W1, b1, W2, b2, log_psi):
        h = np.tanh(z @ W1 + b1)
        df = sign * (x - h @ W2 - bias * b2) / psi(log_psi)
        return (df @ W2.T * bend(h)) @ W1.T - prior * z

    return mistake


def bent_at_z(bend):
    """A mistake: the derivative of tanh taken at z, after the way back through both layers."""
    def mistake(x, z, W1, b1, W2, b2, log_psi):
        df = (x - decoded(z, W1, b1, W2, b2)) / np.exp(log_psi)
        return df @ W2.T @ W1.T * bend(z) - z

    return mistake


# ---- the integral over a grid -----------------------------------------------------------------


def draw_grid(rng, n):
    """Points z (G,) in rising order, not equally far apart, and log p(x_n, z_g) (G, N): two humps a case."""
    G = n.N + n.D + n.S
    z = np.cumsum(rng.uniform(0.15, 0.7, G))
    z = z - z.mean()
    centre, width = rng.uniform(-2.0, 2.0, (2, n.N)), rng.uniform(0.5, 1.0, (2, n.N))
    humps = [-0.5 * ((z[:, None] - c) / w) ** 2 for c, w in zip(centre, width)]
    height = rng.uniform(-12.0, -6.0, n.N)
    height[1::2] -= 800.0                                          # exp of it is 0
    return {"z": z, "log_p": np.logaddexp(*humps) + height}


def by_trapezoids(z, log_p):
    """nlml (N,) and the posterior's density (G, N), from the areas of the trapezoids between the points."""
    top = log_p.max(axis=0)
    p = np.exp(log_p - top)
    area = np.sum(0.5 * (p[1:] + p[:-1]) * (z[1:] - z[:-1])[:, None], axis=0)
    return {"nlml": -np.log(area) - top, "posterior": p / area}


def on_grid(weights, over=None):
    """A mistake in the integral: other weights w(z) (G,) of the points."""
    def mistake(z, log_p):
        top = log_p.max(axis=0)
        p = np.exp(log_p - top)
        area = weights(z) @ p
        return {"nlml": -np.log(area) - top, "posterior": p / (area if over is None else over(z) @ p)}

    return mistake


def trapezoid(z):
    """The weights of the trapezoidal rule."""
    gaps = np.diff(z)
    return 0.5 * (np.append(gaps, 0.0) + np.append(0.0, gaps))


def mass_at_points(z, log_p):
    """The right nlml, and for a density the probability of each point's cell."""
    right = by_trapezoids(z, log_p)
    return right | {"posterior": right["posterior"] * trapezoid(z)[:, None]}


def without_shift(z, log_p):
    """exp and log as the formula has them."""
    p = np.exp(log_p)
    return {"nlml": -np.log(trapezoid(z) @ p), "posterior": p / (trapezoid(z) @ p)}


def shifted_alike(z, log_p):
    """exp and log after a shift that is the same for all data cases."""
    with np.errstate(divide="ignore", invalid="ignore"):
        top = log_p.max()
        log_p_x = np.log(trapezoid(z) @ np.exp(log_p - top)) + top
        return {"nlml": -log_p_x, "posterior": np.exp(log_p - log_p_x)}


def not_put_back(z, log_p):
    """The integral of what was shifted."""
    right = by_trapezoids(z, log_p)
    return right | {"nlml": right["nlml"] + log_p.max(axis=0)}


def over_the_cases(z, log_p):
    """The right nlml, and a posterior that sums to 1 over the data cases."""
    posterior = np.exp(log_p - np.logaddexp.reduce(log_p, axis=1, keepdims=True))
    return by_trapezoids(z, log_p) | {"posterior": posterior}


def shifted_over_the_cases(z, log_p):
    """The same of p, after each case's largest value was taken out."""
    p = np.exp(log_p - log_p.max(axis=0))
    return by_trapezoids(z, log_p) | {"posterior": p / p.sum(axis=1, keepdims=True)}


def ratio_of_exps(z, log_p):
    """The right nlml, and a posterior that underflows."""
    right = by_trapezoids(z, log_p)
    return right | {"posterior": np.exp(log_p) / np.exp(-right["nlml"])}


def peak_of_one(z, log_p):
    """The right nlml, and for a posterior the joint density over its largest value."""
    return by_trapezoids(z, log_p) | {"posterior": np.exp(log_p - log_p.max(axis=0))}


# ---- draws of the prior -----------------------------------------------------------------------


def draw_prior(rng, n):
    """Data x (N, D), draws z (S, K) of the prior, what a decoder makes of them, f (S, D), and log ψ (D,).

    Some data cases have an entry that no draw can explain, 39 standard deviations off: exp of their log
    likelihood is 0 in floating point.
    """
    z, log_psi = rng.standard_normal((n.S, n.K)), rng.uniform(-1.0, 1.0, n.D)
    f = np.tanh(z @ rng.standard_normal((n.K, n.D)))
    f[:, 0] = 0.5                                                  # one variable does not depend on z
    x = f[rng.integers(n.S, size=n.N)] + np.exp(0.5 * log_psi) * rng.standard_normal((n.N, n.D))
    x[1::2, 0] = 0.5 + 39.0 * np.exp(0.5 * log_psi[0])
    return {"x": x, "z": z, "f": f, "log_psi": log_psi}


def log_lik_of_pairs(x, f, log_psi):
    """log p(x_n|f_s) (S, N), by one product."""
    return Gaussian(x.shape[1]).cross({"log_psi": log_psi}, f, x)


def by_draws(x, z, f, log_psi):
    """−log of the mean likelihood (N,)."""
    return -(np.logaddexp.reduce(log_lik_of_pairs(x, f, log_psi), axis=0) - math.log(len(z)))


def averaged(average, prior=False, psi=None):
    """A mistake in the average over the draws: `average` of log p (S, N)."""
    def mistake(x, z, f, log_psi):
        log_p = log_lik_of_pairs(x, f, log_psi if psi is None else psi(log_psi))
        if prior:
            log_p = log_p - 0.5 * np.sum(z**2 + LOG_2PI, axis=1)[:, None]
        return average(log_p)

    return mistake


def log_mean(log_p):
    """−log of the mean of exp log_p, (N,)."""
    return math.log(len(log_p)) - np.logaddexp.reduce(log_p, axis=0)


BECAUSE = {
    ("straight 20-d", "grid"): "a grid of 20 dimensions has more points than can be counted, and this model "
    "needs none: with a straight decoder x is normal",
    ("straight 20-d", "prior draws"): "an estimate is not needed where the number is known: with a straight "
    "decoder the square can be completed",
    ("straight 20-d", "none"): "there is one: a linear map of a normal z, with normal noise, is normal, in "
    "any dimension",
    ("bent 2-d", "closed form"): "the square can be completed for straight decoders only: a bent one has no "
    "normal posterior",
    ("bent 2-d", "prior draws"): "draws would do with patience, but in a plane there is a road to every "
    "digit: a few thousand points",
    ("bent 2-d", "none"): "the lost formula alone does not make the integral hard: over a plane one can add "
    "up",
    ("bent 20-d vague", "closed form"): "the decoder is bent, and how much x says of z does not change that",
    ("bent 20-d vague", "grid"): "20 dimensions are too many for any grid, whatever the posterior looks like",
    ("bent 20-d vague", "none"): "if x says little of z the posterior is nearly the prior: most draws then "
    "fall where they are needed",
    ("bent 20-d sharp", "closed form"): "a sharp posterior is not yet a normal one; with a bent decoder "
    "nothing can be completed to a square",
    ("bent 20-d sharp", "grid"): "however sharp it is, a grid must be laid over 20 dimensions to find it",
    ("bent 20-d sharp", "prior draws"): "a posterior a tenth as wide in each direction is hit by one draw in "
    "about 10²⁰: the few best draws carry all",
}

EXERCISES = [
    Exercise(
        "03-1", "tanh_log_joint", "1.2", "log p(x_n, z_ns) of every point, (S, N), all constants kept",
        draw_points, by_value(log_joint),
        {
            "the squares alone are no log density: ψ, log ψ and the constants belong to it":
                log_joint_with(psi=np.ones_like, log_det=0.0, constants=0.0),
            "both constants are missing, ½ log 2π for each of the D variables of x and the K of z: without "
            "them it is no log density": log_joint_with(constants=0.0),
            "right except for the noise: log ψ is the log of a variance, and was taken for that of a "
            "standard deviation": log_joint_with(psi=square, log_det=2.0),
            "right except for the squares: they are divided by ψ², but ψ is the variance already":
                log_joint_with(psi=square),
            "right except for log ψ under the sum, that of the density's normalising constant: a wide "
            "density is a low one": log_joint_with(log_det=0.0),
            "right except for log ψ under the sum, which lacks the ½ of the normalising constant":
                log_joint_with(log_det=2.0),
            "right except for the squares of x − f, which lack the ½ of the exponent":
                log_joint_with(squares=2.0),
            "right except for the prior's sign: log p(z) is −½ z zᵀ − ½ K log 2π, and is added":
                log_joint_with(prior=-1.0),
            "mean over the variables of x where the joint density has a sum": log_joint_with(taken=np.mean),
            "means stand where both log densities have sums: over the D variables of x, and over the K of z":
                log_joint_with(taken=np.mean, of_z=np.mean),
            "mean over the latent variables where the prior has a sum": log_joint_with(of_z=np.mean),
            "right except for the decoder: b2, the bias of its last layer, is missing":
                log_joint_with(without_last_bias),
            "right except for the decoder: b1, the bias of its hidden layer, is missing":
                log_joint_with(without_first_bias),
            "this is log p(x|z) alone: the joint density has log p(z) too": log_joint_with(prior=0.0),
            "right except for the decoder: its hidden layer lacks the tanh, so the model is linear":
                log_joint_with(straight),
            "right except for the decoder: a tanh stands on its output too, and no mean could leave (−1, 1)":
                log_joint_with(bent_twice),
        },
    ),
    Exercise(
        "03-2", "draw_data", "7.24", "one draw x (N, D) for each z, from the noise that is given",
        draw_noise, by_value(data),
        {
            "right except for the noise: it is multiplied by ψ, a variance; a draw needs the standard "
            "deviation": drawn(scale=np.exp),
            "right except for the noise: it is multiplied by ψ², the square of a variance; a draw needs the "
            "root of ψ": drawn(scale=square),
            "right except for the noise: it is multiplied by log ψ itself":
                drawn(scale=lambda log_psi: log_psi),
            "right except for the noise: it is divided by the standard deviation":
                drawn(scale=lambda log_psi: np.exp(-0.5 * log_psi)),
            "right except for the noise: it has variance 1 in every variable, and ψ plays no part":
                drawn(scale=np.ones_like),
            "this is f(z), the mean of x given z: a draw has the noise of the variables as well":
                drawn(scale=np.zeros_like),
            "this is the noise alone, and the mean is missing: the noise is added to f(z)":
                drawn(decoder=nothing),
            "right except for ε, which is not used: every data case is moved by the same standard deviation":
                unmoved,
            "right except for the last bias: b2 is missing from the mean": drawn(decoder=without_last_bias),
            "right except for the first bias: b1 is missing from what goes into tanh":
                drawn(decoder=without_first_bias),
            "right except for the decoder: the hidden layer lacks its tanh": drawn(decoder=straight),
            "right except for the decoder: a tanh stands on its output too": drawn(decoder=bent_twice),
        },
    ),
    Exercise(
        "03-3", "slope_in_z", "7.10", "the gradient of log p(x_n, z_n) in z, (N, K)", draw_one_point,
        by_gradient(total_log_joint, "z", terms={"log p(x|z)": total_log_lik, "log p(z)": total_log_prior}),
        {
            "right except for the prior: log p(z) = −½ z zᵀ + const has a slope too, which pulls z to 0":
                slope_with(prior=0.0),
            "right except for the prior's sign: log p(z) falls away from 0, so its slope is −z":
                slope_with(prior=-1.0),
            "right except for the bend: the derivative of tanh is missing, 1 − tanh² of what goes into it":
                slope_with(bend=np.ones_like),
            "right except for the bend: the derivative of tanh a is 1 − tanh² a, and not 1 − tanh a":
                slope_with(bend=lambda h: 1 - h),
            "right except for the bend: tanh is taken twice; h is tanh a already, with the derivative 1 − h²":
                slope_with(bend=lambda h: 1 - np.tanh(h) ** 2),
            "right except for the bend: h (1 − h) is the derivative of the logistic function; that of tanh "
            "is 1 − h²": slope_with(bend=lambda h: h * (1 - h)),
            "right except for the bend: the derivative of tanh belongs to the hidden layer, (N, H), and was "
            "taken at z": bent_at_z(lambda z: 1 - np.tanh(z) ** 2),
            "right except for the bend: 1 − h² belongs to the hidden layer h, (N, H), and here stands "
            "1 − z²": bent_at_z(lambda z: 1 - z**2),
            "right except for the variances: log ψ is the log of a variance, and was taken for that of a "
            "standard deviation": slope_with(psi=square),
            "right except for the variances: residuals are divided by ψ, and here by its root":
                slope_with(psi=lambda log_psi: np.exp(0.5 * log_psi)),
            "right except for the variances: the residuals are not divided by ψ":
                slope_with(psi=np.ones_like),
            "right except for the bend: the derivative of tanh a is 1 − tanh² a, and here stands 1 − a²":
                slope_with(bend=lambda h: 1 - np.arctanh(h) ** 2),
            "right except for the residual x − f, in which f lacks its b2": slope_with(bias=0.0),
            "right except for the likelihood's sign: ∂/∂f of −(x − f)²/2ψ is +(x − f)/ψ":
                slope_with(sign=-1.0),
        },
    ),
    Exercise(
        "03-4", "integrate_over_grid", "1.3", "nlml (N,) and the density posterior (G, N), in a dict",
        draw_grid, by_value(by_trapezoids),
        {
            "a sum over the points is no integral: each stands for the width of its cell, and the widths are "
            "missing": on_grid(np.ones_like),
            "the ½ of the trapezoidal rule is missing: a point has half of the gap on either side, and here "
            "both gaps in full": on_grid(lambda z: 2 * trapezoid(z)),
            "the posterior is right; in nlml the ½ of the trapezoidal rule is missing, so p(x) is twice as "
            "large": on_grid(lambda z: 2 * trapezoid(z), trapezoid),
            "the points are not equally far apart: one mean width was taken for all of them":
                on_grid(lambda z: np.full_like(z, np.diff(z).mean())),
            "the first and the last point stand for half a cell each, and count as if they had another half":
                on_grid(lambda z: trapezoid(z) + 0.5 * np.diff(z)[[0, -1]] @ np.eye(len(z))[[0, -1]]),
            "each point was given the width to its right alone, and the last one none: a trapezoid averages "
            "both of its ends": on_grid(lambda z: np.append(np.diff(z), 0.0)),
            "each point was given the width to its left alone, and the first one none: a trapezoid averages "
            "both of its ends": on_grid(lambda z: np.append(0.0, np.diff(z))),
            "the posterior adds up to 1 as numbers, and a density integrates to 1: divide by p(x), no more":
                mass_at_points,
            "exp of a log density far below 0 is 0 in floating point: take the largest log of each data case "
            "out first": without_shift,
            "one largest log was taken out of all data cases; each needs its own, or exp of the others is 0":
                shifted_alike,
            "right except for the largest log: it was taken out of the sum, and not put back into nlml":
                not_put_back,
            "right except for the posterior: it is exp(log p) / exp(log p(x)), 0/0 far out; subtract the "
            "logs first": ratio_of_exps,
            "the posterior adds up to 1 over the data cases, axis 1: each case has its own, a density in z "
            "along axis 0": over_the_cases,
            "the posterior was divided by its sum over the data cases, axis 1: it is divided by the integral "
            "over z, along axis 0": shifted_over_the_cases,
            "np.trapezoid was not told z: it takes all points to be 1 apart":
                on_grid(lambda z: trapezoid(np.arange(len(z)))),
            "right except for the largest log: log p(x) is that of the sum plus it, so nlml has it with a "
            "minus": lambda z, log_p: not_put_back(z, log_p) | {
                "nlml": not_put_back(z, log_p)["nlml"] + log_p.max(axis=0)},
            "the posterior is not divided by p(x): its peak is 1, and its integral is not": peak_of_one,
            "the posterior is divided by a plain sum, and p(x) is the integral":
                on_grid(trapezoid, np.ones_like),
        },
    ),
    Exercise(
        "03-5", "nlml_by_prior_draws", "7.7", "−log of the Monte Carlo estimate of p(x_n), (N,)", draw_prior,
        by_value(by_draws),
        {
            "mean of the logs where the log of the mean is asked for: by Jensen's inequality it is higher, "
            "mostly by far": averaged(lambda log_p: -log_p.mean(axis=0)),
            "the prior counts twice: z was drawn from p(z) already, so the average is of p(x|z) alone":
                averaged(log_mean, prior=True),
            "right except for 1/S: this is the sum of the likelihoods and not their mean":
                averaged(lambda log_p: -np.logaddexp.reduce(log_p, axis=0)),
            "right except for 1/S: nlml is −log of the sum plus log S, and log S was taken off":
                averaged(lambda log_p: log_mean(log_p) - 2 * math.log(len(log_p))),
            "mean over the variables of x where log p(x|z) has a sum":
                lambda x, z, f, log_psi: log_mean(log_lik_of_pairs(x, f, log_psi) / x.shape[1]),
            "right except for 1/S: the sum is divided by N, the number of data cases":
                lambda x, z, f, log_psi: by_draws(x, z, f, log_psi) + math.log(len(x) / len(z)),
            "right except for the largest exponent: it was taken out under the sum, and not put back":
                averaged(lambda log_p: log_mean(log_p - log_p.max(axis=0))),
            "exp of a log likelihood far below 0 is 0 in floating point: take the largest log of each data "
            "case out first, and add it again outside":
                averaged(lambda log_p: -np.log(np.exp(log_p).mean(axis=0))),
            "this is the best draw alone: the largest log p(x|z) is not yet a mean over the draws":
                averaged(lambda log_p: -log_p.max(axis=0)),
            "right except for the noise: log ψ is the log of a variance, and was taken for that of a "
            "standard deviation": averaged(log_mean, psi=lambda log_psi: 2 * log_psi),
        },
    ),
    Exercise(
        "03-6", "road", "7.28", "for each model the road to its nlml that works there", None,
        by_choice(
            {"straight 20-d": "closed form", "bent 2-d": "grid", "bent 20-d vague": "prior draws",
             "bent 20-d sharp": "none"},
            BECAUSE,
        ),
    ),
]
