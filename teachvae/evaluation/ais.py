"""Annealed importance sampling: from the prior to the posterior in many small steps, and back.

Importance sampling from one q fails where q misses. Here a chain starts at z ~ p(z) and follows

    p_β(z) ∝ p(z) p(x|z)^β,    β = 0 … 1,

moved at each temperature by Hamiltonian Monte Carlo, whose gradient in z is the hand-derived backward
of the decoder. Its weights average to p(x) (Neal 2001). Run backwards from a true posterior sample,
which a simulated case has, they average to 1/p(x): in expectation the forward value lies above
−log p(x) and the backward value below, so the truth is caught between the two (Grosse et al. 2015).
Equations (7.x) are in derivations/equations.md.
"""

from typing import NamedTuple

import numpy as np

from ..arrays import tree
from ..arrays.backend import constant, namespace
from ..arrays.rows import blocks
from ..arrays.workers import each
from .nlml import NLML, StreamingLogMeanExp

ACCEPTANCE = 0.65      # what the step sizes are tuned to (Beskos et al. 2013)
TUNING_RATE = 0.2      # of the log step size, per unit of acceptance
LEAPFROG = 10          # steps of one trajectory


class Chains(NamedTuple):
    """What a run leaves: log_weights (S, N), acceptance and step_sizes (T − 1, N)."""

    log_weights: object
    acceptance: object
    step_sizes: object


class Sandwich(NamedTuple):
    """−log p(x_n) of simulated cases from above and from below, and the cases themselves.

    upper, lower  `NLML`s of the forward and the backward chains: above and below in expectation
    z, x          the latent points (N, K) and data (N, D) that were simulated
    forward, backward   the `Chains`
    """

    upper: NLML
    lower: NLML
    z: object
    x: object
    forward: Chains
    backward: Chains

    def interval(self, width=2.0):
        """From `width` standard errors below `lower` to as many above `upper`: (N,) and (N,)."""
        return (
            self.lower.values - width * self.lower.standard_error,
            self.upper.values + width * self.upper.standard_error,
        )


def temperatures(n_temperatures):
    """β_0 = 0 … β_T = 1 as (t/T)⁴: log p(x|z) varies by about 1/β under p_β, so small β step small."""
    return (np.arange(n_temperatures + 1) / n_temperatures) ** 4   # (T + 1,)              (7.13)


def ais(model, theta, x, rng, *, n_chains=16, n_temperatures=500):
    """−log p(x_n) by annealed importance sampling with n_chains chains: an `NLML`     (7.11), (7.12).

    Step sizes are tuned for every case and temperature in a preliminary run of its own noise, then
    frozen. All cases share the noise. Rounding is enough to send a chain another way, so a case's value
    is the same again only in the same batch of cases, and within its standard error in another. That error
    is inf where a few chains have all the weight                                               (7.15).
    Raises ValueError for fewer than 2 chains or 2 temperatures.
    """
    forward, _ = _both(model, theta, x, None, rng, n_chains, n_temperatures)
    return _nlml(forward, namespace(x), sign=-1)


def sandwich(model, theta, n_cases, rng, backend, *, n_chains=16, n_temperatures=500):
    """Simulate n_cases data cases, complete ones, and catch their −log p(x_n) between two runs      (7.14).

    Returns a `Sandwich`. backend makes the arrays (`backend.get_backend()`, or an estimator's backend_); rng
    is a NumPy Generator. The backward chains start from the z that each case was made from, which is an
    exact sample of its posterior. "Above" and "below" hold in expectation, and not for every case of one
    run; and what another z would have given, the standard error of `lower` does not show. Raises ValueError
    as `ais` does.
    """
    if n_cases < 1:
        raise ValueError(f"there must be cases to simulate: n_cases >= 1, got {n_cases}")
    z = backend.asarray(rng.standard_normal((n_cases, model.n_latent)))
    f, _ = model.f(theta, z)
    noise = tree.map(backend.asarray, model.likelihood.draw_noise(rng, f.shape))
    x = model.likelihood.sample(theta["likelihood"], f, noise)
    xp = namespace(x)
    forward, backward = _both(model, theta, x, z, rng, n_chains, n_temperatures)
    return Sandwich(_nlml(forward, xp, sign=-1), _nlml(backward, xp, sign=1), z, x, forward, backward)


def _nlml(chains, xp, sign):
    """The `NLML` of log weights of p(x) (sign −1) or of 1/p(x) (sign 1), with its error over the chains."""
    total = StreamingLogMeanExp(xp)
    total.add(chains.log_weights)
    log_mean, error, size = total.result()
    return NLML(sign * log_mean, error, None, "ais" if sign < 0 else "reverse ais", size)


def _both(model, theta, x, z, rng, n_chains, n_temperatures):
    """Tuning, then the forward chains, then from z (N, K) the backward ones (None without z)."""
    for name, value in (("n_chains", n_chains), ("n_temperatures", n_temperatures)):
        if value < 2:
            raise ValueError(f"annealed importance sampling needs {name} >= 2, got {value}")
    xp, K = namespace(x), model.n_latent
    betas = temperatures(n_temperatures)
    runs = ["tuning", "forward"] + ([] if z is None else ["backward"])
    noise = {
        run: (
            rng.standard_normal((n_chains, 1, K)),                 # the start
            rng.standard_normal((n_temperatures - 1, n_chains, 1, K)),  # momenta
            np.log(rng.random((n_temperatures - 1, n_chains, 1))),  # for accepting
        )
        for run in runs
    }

    def run_all(rows):
        steps, part = None, []
        for run in runs:
            start, momenta, log_u = noise[run]
            if run == "backward":
                z0 = z[None, rows, :] + constant(0 * start, like=x)
            else:
                z0 = constant(np.repeat(start, rows.stop - rows.start, axis=1), like=x)
            chains = _run(model, theta, x[rows, :], z0, betas, steps, momenta, log_u, run == "backward")
            steps = chains.step_sizes
            part.append(chains)
        return part[1:]

    parts = each(run_all, blocks(x.shape[0], n_chains))
    joined = [Chains(*(xp.concat(list(f), axis=1) for f in zip(*chains))) for chains in zip(*parts)]
    return joined[0], joined[1] if z is not None else None


def _run(model, theta, x, z, betas, steps, momenta, log_u, backward):
    """Chains from z (S, N, K) along betas (T + 1,), or back along them; steps None: tuned on the way.

    Forward: a weight by p(x|z)^(β_t − β_{t−1}), then a move that keeps p_{β_t}, t = 1 … T.
    Backward: the same weights and moves in the opposite order, so that the log weights are those of
    1/p(x).
    """
    xp, T = namespace(x), len(betas) - 1
    order = range(T, 0, -1) if backward else range(1, T + 1)
    log_step = xp.log(xp.zeros_like(z[0, :, 0]) + 0.5)             # where tuning starts, (N,)
    log_w, rates, used = 0.0, {}, {}
    at = model.log_likelihood_gradient(theta, x, z)
    for t in order:
        log_w = log_w + float(betas[t] - betas[t - 1]) * at[0]     # (S, N)                (7.11)
        move = t - 1 if backward else t                            # the temperature to move at
        if not 1 <= move < T:
            continue
        i = move - 1
        step = xp.exp(log_step) if steps is None else steps[i, :]
        p = constant(momenta[i], like=x)
        z, at, rate = _hmc(model, theta, x, z, at, float(betas[move]), step, p, constant(log_u[i], like=x))
        rates[i], used[i] = rate, step
        if steps is None:
            log_step = log_step + TUNING_RATE * (rate - ACCEPTANCE)
    in_order = [xp.stack([values[i] for i in range(T - 1)]) for values in (rates, used)]
    return Chains(-log_w if backward else log_w, *in_order)        #               (7.11), (7.14)


def _hmc(model, theta, x, z, at, beta, step, p, log_u):
    """One trajectory of Hamiltonian Monte Carlo from z (S, N, K) with momenta p (S, 1, K)       (7.12).

    at is the `log_likelihood_gradient` at z, step (N,). Returns z, what `at` is there, and the mean
    acceptance (N,).
    """
    xp = namespace(z)
    p = p + xp.zeros_like(z)

    def log_density(z, p, at):
        return model.log_prior(z) + beta * at[0] - 0.5 * xp.sum(p * p, axis=2)  # (S, N)

    z_end, p_end, at_end = _leapfrog(model, theta, x, z, p, at, beta, step)
    rise = log_density(z_end, p_end, at_end) - log_density(z, p, at)
    rise = xp.where(xp.isfinite(rise), rise, xp.zeros_like(rise) - 1e30)  # the path flew off
    accept = log_u < rise                                          # (S, N)
    rate = xp.mean(xp.exp(xp.minimum(rise, 0)), axis=0)
    z = xp.where(accept[:, :, None], z_end, z)
    at = xp.where(accept, at_end[0], at[0]), xp.where(accept[:, :, None], at_end[1], at[1])
    return z, at, rate


def _leapfrog(model, theta, x, z, p, at, beta, step):
    """The end of a path of `LEAPFROG` steps from z with momenta p (S, N, K): z, p, and what `at` is there."""
    step = step[None, :, None]
    for _ in range(LEAPFROG):
        p = p + 0.5 * step * (beta * at[1] - z)
        z = z + step * p
        at = model.log_likelihood_gradient(theta, x, z)
        p = p + 0.5 * step * (beta * at[1] - z)
    return z, p, at
