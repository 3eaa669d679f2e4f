"""One variational E-step, 20 steps on the table φ of all digits, beside the frameworks.

Digits made binary, a decoder 2-64-64 that was trained before, S = 5 draws per data case, float32. Everybody
starts from q = N(0, I). Ours are the quasi-Newton steps of `infer.e_step`, the frameworks take Adam steps,
which are cheaper each and lead less far: once both take 20, once we stop where Adam arrives with its 20. The
last column says how far above the lowest Q each one ends, by quadrature and not on the S draws that were
minimised. "Adam on our gradients" is the like-for-like contestant. NumPyro draws its own noise; its Q is
compared on average.
"""

import numpy as np

from teachvae import VAE, bound, datasets, expectations, infer
from teachvae.arrays.backend import get_backend
from teachvae.arrays.rows import blocks
from .measure import check_equal, in_turn, ratios
from teachvae.networks.optimizers import Adam

STEPS, DRAWS = 20, 5
RATE = 0.1                                                         # of 0.05 … 0.5 the lowest Q after 20 steps
ADAM = "Adam on our gradients"


class Setting:
    """A trained decoder, data, a start for φ, nodes η (S, 1, K) and their weights."""

    def __init__(self, epochs=30):
        backend, rng = get_backend("numpy", "float32"), np.random.default_rng(0)
        x = (datasets.digits().x > 0.5).astype("float32")
        vae = VAE(2, hidden=(64,), likelihood="bernoulli", epochs=epochs, dtype="float32").fit(x)
        self.model, self.theta, self.x = vae.model_, vae.theta_, backend.asarray(x)
        self.phi = infer.prior_phi(self.model, self.x)
        self.eta = backend.normal(rng, (DRAWS, 1, 2))
        self.weights = backend.asarray(np.full(DRAWS, 1 / DRAWS))

    def value_and_gradient(self, phi):
        """Q (N,) and ∂(Σ Q)/∂φ."""
        Q, cache = bound.forward(self.model, self.theta, phi, self.x, self.eta, weights=self.weights)
        return Q, bound.backward(self.model, self.theta, cache, np.ones_like(Q), need_dtheta=False)[0]

    def layers(self):
        """[(W, b)] of the decoder."""
        return [(layer["W"], layer["b"]) for layer in self.theta["decoder"] if layer]


def teachvae(setting, steps=STEPS):
    """A function that returns φ after that many steps of `infer.e_step`."""
    s = setting
    return lambda: infer.e_step(
        s.model, s.theta, s.phi, s.x, s.eta, s.weights, max_steps=steps, tol=0.0
    ).phi


def adam_on_ours(setting):
    """A function that returns φ after Adam steps along our gradients, block by block."""
    s, adam = setting, Adam(RATE)

    def run():
        parts = []
        for rows in blocks(len(s.x), DRAWS):
            phi, x = s.phi[rows, :].copy(), s.x[rows, :]
            flat = phi.reshape(-1)
            state = adam.init(flat)
            for _ in range(STEPS):
                Q, cache = bound.forward(s.model, s.theta, phi, x, s.eta, weights=s.weights)
                g, _ = bound.backward(s.model, s.theta, cache, np.ones_like(Q), need_dtheta=False)
                adam.step(flat, g.reshape(-1), state)
            parts.append(phi)
        return np.concatenate(parts)

    return run


def torch_eager(setting):
    """PyTorch: value and gradient at the start, and a function that returns φ after the steps."""
    import torch

    layers = [[torch.tensor(a) for a in pair] for pair in setting.layers()]
    x, eta = torch.tensor(setting.x), torch.tensor(setting.eta)

    def total(phi):
        m, log_s = phi[:, :2], phi[:, 2:]
        h = m + eta * torch.exp(log_s)
        h = torch.tanh(h @ layers[0][0] + layers[0][1])
        f = h @ layers[1][0] + layers[1][1]
        cost = torch.nn.functional.binary_cross_entropy_with_logits(f, x.expand(f.shape), reduction="sum")
        return cost / len(eta) + 0.5 * (m * m + torch.exp(2 * log_s) - 1 - 2 * log_s).sum()

    start = torch.tensor(setting.phi, requires_grad=True)
    value = total(start)
    value.backward()

    def run():
        phi = torch.tensor(setting.phi, requires_grad=True)
        adam = torch.optim.Adam([phi], lr=RATE)
        for _ in range(STEPS):
            adam.zero_grad(set_to_none=True)
            total(phi).backward()
            adam.step()
        return phi.detach().numpy()

    return (value.item(), start.grad.numpy()), run


def jax_jit(setting):
    """JAX, one compiled step."""
    import jax
    import jax.numpy as jnp

    layers = jax.tree.map(jnp.asarray, setting.layers())
    x, eta, start = (jnp.asarray(a) for a in (setting.x, setting.eta, setting.phi))

    def total(phi):
        m, log_s = phi[:, :2], phi[:, 2:]
        h = jnp.tanh((m + eta * jnp.exp(log_s)) @ layers[0][0] + layers[0][1])
        f = h @ layers[1][0] + layers[1][1]
        cost = (jax.nn.softplus(f) - x * f).sum() / len(eta)
        return cost + 0.5 * (m * m + jnp.exp(2 * log_s) - 1 - 2 * log_s).sum()

    @jax.jit
    def step(phi, m, v, t):
        g = jax.grad(total)(phi)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        return phi - RATE * (m / (1 - 0.9**t)) / (jnp.sqrt(v / (1 - 0.999**t)) + 1e-8), m, v

    def run():
        phi, m, v = start, jnp.zeros_like(start), jnp.zeros_like(start)
        for t in range(1, STEPS + 1):
            phi, m, v = step(phi, m, v, float(t))
        return np.asarray(phi)

    value, gradient = jax.value_and_grad(total)(start)
    return (float(value), np.asarray(gradient)), run


def numpyro_svi(setting):
    """NumPyro: stochastic variational inference with a table as its guide, compiled."""
    import jax
    import jax.numpy as jnp
    import numpyro
    from numpyro import distributions as dist
    from numpyro.infer import SVI, TraceMeanField_ELBO

    layers = jax.tree.map(jnp.asarray, setting.layers())
    x, N = jnp.asarray(setting.x), len(setting.x)

    def model():
        with numpyro.plate("cases", N):
            z = numpyro.sample("z", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
            h = jnp.tanh(z @ layers[0][0] + layers[0][1])
            numpyro.sample("x", dist.Bernoulli(logits=h @ layers[1][0] + layers[1][1]).to_event(1), obs=x)

    def guide():
        m = numpyro.param("m", jnp.zeros((N, 2)))
        log_s = numpyro.param("log_s", jnp.zeros((N, 2)))
        with numpyro.plate("cases", N):
            numpyro.sample("z", dist.Normal(m, jnp.exp(log_s)).to_event(1))

    svi = SVI(model, guide, numpyro.optim.Adam(RATE), TraceMeanField_ELBO(num_particles=DRAWS))
    start = svi.init(jax.random.key(0))
    update = jax.jit(svi.update)
    losses = [float(svi.evaluate(start._replace(rng_key=jax.random.key(seed)))) for seed in range(40)]

    def run():
        state = start
        for _ in range(STEPS):
            state, _ = update(state)
        found = svi.get_params(state)
        return np.concatenate([np.asarray(found["m"]), np.asarray(found["log_s"])], axis=1)

    return (np.mean(losses), None), run


PEERS = {"PyTorch eager": torch_eager, "JAX jit": jax_jit, "NumPyro": numpyro_svi}


def run(rounds=15, epochs=30):
    """[{size, peer, ratio, excess nats, …}], and what could not be run, in words."""
    setting, size = Setting(epochs), f"E-step, digits, 2-64-64, S = {DRAWS}, {STEPS} steps"
    Q, gradient = setting.value_and_gradient(setting.phi)
    nodes = infer.coarse_and_fine(setting.model.posterior, 0, setting.x)[1]
    contestants, rows, remarks = {ADAM: adam_on_ours(setting)}, [], []
    for name, make in PEERS.items():
        try:
            (their_value, their_gradient), go = make(setting)
        except Exception as error:                                 # a peer that is missing or does not run
            remarks.append(f"{size}, {name}: {type(error).__name__}: {str(error).splitlines()[0][:100]}")
            continue
        if their_gradient is None:                                 # noise of its own: the mean over draws
            given = setting.model, setting.theta, setting.phi, setting.x
            expected = float(expectations.bound_on_nodes(*given, *nodes).sum())
            check_equal(f"{name}: the value", expected, their_value, 5e-3)
        else:
            check_equal(f"{name}: the value", float(Q.sum()), their_value, 1e-4)
            check_equal(f"{name}: the gradient", gradient, their_gradient, 1e-4)
        contestants[name] = go

    def end(go):
        Q = expectations.bound_on_nodes(setting.model, setting.theta, go(), setting.x, *nodes)
        return float(Q.mean())

    ends = {name: end(go) for name, go in contestants.items()}
    ours = {size: STEPS}
    for steps in range(1, STEPS):
        if end(teachvae(setting, steps)) <= ends[ADAM]:
            ours[f"{size}, of ours the {steps} that lead as far as Adam's"] = steps
            break
    contestants |= {size: teachvae(setting, steps) for size, steps in ours.items()}
    ends |= {size: end(contestants[size]) for size in ours}
    seconds, lowest = in_turn(contestants, rounds), min(ends.values())
    for size in ours:
        for peer, low, middle, high in ratios(seconds, size):
            if peer not in ours:
                rows.append({
                    "size": size, "peer": peer, "low": low, "ratio": middle, "high": high,
                    "excess": ends[peer] - lowest, "our_excess": ends[size] - lowest,
                })
    return rows, remarks
