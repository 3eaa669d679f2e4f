"""Importance sampling and annealed importance sampling beside JAX: the time for the same samples.

A VAE on binary digits, K = 2, float32. Importance sampling is compared on the same draws of q, annealed
importance sampling, which nobody's random numbers repeat, by the median over the cases within its error.
JAX's annealing tunes step sizes of its own in as many trajectories, and draws its noise for every case; ours
shares it.
"""

import numpy as np

from teachvae import VAE, ais, datasets, nlml
from teachvae.arrays.backend import get_backend
from .measure import check_equal, in_turn, ratios

DRAWS, CHAINS, TEMPERATURES = 1000, 16, 100


class Setting:
    """A trained model, data (N, D), and φ (N, n_phi) of its recognition network."""

    def __init__(self, n_cases=200, epochs=30):
        backend = get_backend("numpy", "float32")
        x = (datasets.digits().x > 0.5).astype("float32")
        vae = VAE(2, hidden=(64,), likelihood="bernoulli", epochs=epochs, dtype="float32").fit(x)
        self.model, self.theta = vae.model_, vae.theta_
        self.x = backend.asarray(x[:n_cases])
        self.phi = backend.asarray(vae.encode(x[:n_cases]))

    def importance(self):
        """NLML (N,) of the model by importance sampling."""
        rng = np.random.default_rng(0)
        return nlml.importance(self.model, self.theta, self.phi, self.x, rng, n_samples=DRAWS)

    def annealed(self):
        """NLML (N,) of the model by annealing."""
        rng = np.random.default_rng(0)
        return ais.ais(
            self.model, self.theta, self.x, rng, n_chains=CHAINS, n_temperatures=TEMPERATURES
        )


def jax_log_likelihood(setting):
    """log p(x_n|z_ns) (S, N) as a function of z (S, N, K)."""
    import jax
    import jax.numpy as jnp

    layers = [(jnp.asarray(a["W"]), jnp.asarray(a["b"])) for a in setting.theta["decoder"] if a]
    x = jnp.asarray(setting.x)

    def log_likelihood(z):
        f = jnp.tanh(z @ layers[0][0] + layers[0][1]) @ layers[1][0] + layers[1][1]
        return (x * f - jax.nn.softplus(f)).sum(axis=2)

    return log_likelihood


def jax_importance(setting):
    """A function that returns NLML (N,), the draws in chunks of 64 as ours."""
    import jax
    import jax.numpy as jnp

    log_likelihood = jax_log_likelihood(setting)
    phi = jnp.asarray(setting.phi)

    @jax.jit
    def log_weights(eta):
        m, log_s = phi[:, :2], phi[:, 2:]
        z = m + eta * jnp.exp(log_s)
        return log_likelihood(z) - 0.5 * (z * z).sum(2) + (0.5 * eta * eta + log_s).sum(2)

    def run():
        rng, parts = np.random.default_rng(0), []
        for start in range(0, DRAWS, 64):
            eta = rng.standard_normal((min(64, DRAWS - start), 1, 2)).astype("float32")
            parts.append(log_weights(eta))
        return np.asarray(np.log(DRAWS) - jax.scipy.special.logsumexp(jnp.concatenate(parts), axis=0))

    return run


def jax_annealed(setting):
    """A function that returns the mean NLML: two runs, as ours makes, of compiled trajectories."""
    import jax
    import jax.numpy as jnp

    log_likelihood = jax_log_likelihood(setting)
    both = jax.value_and_grad(lambda z: log_likelihood(z).sum())
    betas = jnp.asarray(ais.temperatures(TEMPERATURES), "float32")
    N = len(setting.x)

    def gradient(z):
        return log_likelihood(z), both(z)[1]

    def trajectory(carry, t):
        z, at, log_w, log_step, key, tuning = carry
        log_w = log_w + (betas[t] - betas[t - 1]) * at[0]
        key, one, two = jax.random.split(key, 3)
        p = jax.random.normal(one, z.shape)
        step = jnp.exp(log_step[t])[None, :, None]

        def leap(state, _):
            z, p, at = state
            p = p + 0.5 * step * (betas[t] * at[1] - z)
            z = z + step * p
            at = gradient(z)
            return (z, p + 0.5 * step * (betas[t] * at[1] - z), at), None

        (z_end, p_end, at_end), _ = jax.lax.scan(leap, (z, p, at), None, length=ais.LEAPFROG)

        def log_density(z, p, at):
            return betas[t] * at[0] - 0.5 * (z * z).sum(2) - 0.5 * (p * p).sum(2)

        rise = log_density(z_end, p_end, at_end) - log_density(z, p, at)
        accept = jnp.log(jax.random.uniform(two, rise.shape)) < rise
        rate = jnp.exp(jnp.minimum(rise, 0)).mean(axis=0)
        tuned = log_step[t] + ais.TUNING_RATE * (rate - ais.ACCEPTANCE)
        log_step = jnp.where(tuning, log_step.at[jnp.minimum(t + 1, TEMPERATURES)].set(tuned), log_step)
        z = jnp.where(accept[:, :, None], z_end, z)
        at = jnp.where(accept, at_end[0], at[0]), jnp.where(accept[:, :, None], at_end[1], at[1])
        return (z, at, log_w, log_step, key, tuning), None

    @jax.jit
    def chains(key, log_step, tuning):
        key, first = jax.random.split(key)
        z = jax.random.normal(first, (CHAINS, N, 2))
        carry = z, gradient(z), jnp.zeros((CHAINS, N)), log_step, key, tuning
        carry, _ = jax.lax.scan(trajectory, carry, jnp.arange(1, TEMPERATURES))
        _, at, log_w, log_step, _, _ = carry
        return log_w + (betas[-1] - betas[-2]) * at[0], log_step

    def run():
        start = jnp.full((TEMPERATURES + 1, N), np.log(0.5), "float32")
        _, tuned = chains(jax.random.key(0), start, True)
        log_w, _ = chains(jax.random.key(1), tuned, False)
        return np.asarray(np.log(CHAINS) - jax.scipy.special.logsumexp(log_w, axis=0))

    return run


def run(rounds=9, n_cases=200, epochs=30):
    """[{size, peer, ratio, …}], and what could not be run, in words."""
    setting = Setting(n_cases, epochs)
    rows, remarks = [], []
    for size, ours, peer in (
        (f"importance sampling, k = {DRAWS}, {n_cases} digits", setting.importance, jax_importance),
        (
            f"AIS, {CHAINS} chains, {TEMPERATURES} temperatures, {n_cases} digits",
            setting.annealed,
            jax_annealed,
        ),
    ):
        try:
            go = peer(setting)
            theirs = go()
        except ImportError as error:
            remarks.append(f"{size}, JAX jit: {error}")
            continue
        found = ours()
        if peer is jax_importance:
            check_equal("JAX: importance sampling", found.values, theirs, 1e-4)
        else:
            # No case that is lost moves the median. Our cases share their noise, and so their error: many of
            # them make it no smaller.
            off = np.abs(np.median(found.values) - np.median(theirs))
            if not off <= 4 * np.median(found.standard_error) + 0.02:
                raise AssertionError(
                    f"JAX: annealing computes something else: medians are {off:.3f} nats apart"
                )
        rows += [
            {"size": size, "peer": "JAX jit", "low": low, "ratio": middle, "high": high}
            for _, low, middle, high in ratios(in_turn({"teachvae": ours, "JAX jit": go}, rounds))
        ]
    return rows, remarks
