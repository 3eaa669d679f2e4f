"""One training step of a Bernoulli VAE, forward, backward and Adam, beside the frameworks.

Every contestant has the same network, data, Adam and precision (float32), takes a shuffled minibatch and
draws its own noise. First all of them compute value and gradient of one minibatch from the same parameters
and noise, which must agree to 1e-4. "bare products" are the matrix products of the step and nothing else.
"""

import numpy as np

from teachvae import tree
from teachvae.arrays.backend import get_backend, to_numpy
from teachvae.arrays.rows import take_rows
from .measure import check_equal, in_turn, ratios
from teachvae.likelihoods import Bernoulli
from teachvae.model import Model
from teachvae.networks.layers import mlp
from teachvae.networks.optimizers import Adam
from teachvae.networks.training import Run, minibatches
from teachvae.posteriors import DiagonalGaussian
from teachvae.routes.vae import amortised, recognition_network

SIZES = {                                                          # D, hidden units of the encoder, K, batch
    "784-500-20, batch 100": (784, (500,), 20, 100),
    "784-200-200-50, batch 20": (784, (200, 200), 50, 20),
    "784-200-200-50, batch 100": (784, (200, 200), 50, 100),
    "digits 64-64-2, batch 128": (64, (64,), 2, 128),
}
BATCHES = 20                                                       # per round of a contestant
RATE = 1e-3


class Setting:
    """A network with its parameters, data, and the names in which everybody finds the weights."""

    def __init__(self, n_visible, hidden, n_latent, batch, backend="numpy"):
        self.backend, rng = get_backend(backend, "float32"), np.random.default_rng(0)
        self.n_latent, self.batch = n_latent, batch
        q = DiagonalGaussian(n_latent)
        self.recognition = recognition_network(n_visible, hidden, q, "tanh", False)
        self.model = Model(mlp(n_latent, hidden[::-1], n_visible), Bernoulli(n_visible), n_latent, q)
        self.params = {
            "theta": self.model.init(rng, self.backend),
            "recognition": self.recognition.init(rng, self.backend),
        }
        self.x = self.backend.asarray(rng.random((BATCHES * batch, n_visible)) < 0.3)
        self.eta = self.backend.normal(rng, (1, batch, n_latent))

    def weights(self):
        """[(W, b) of the encoder], [(W, b) of the decoder]."""
        stacks = self.params["recognition"], self.params["theta"]["decoder"]
        return [[(layer["W"], layer["b"]) for layer in stack if layer] for stack in stacks]

    def value_and_gradient(self):
        """The mean Q of the first minibatch and its gradient, in the order of `weights`."""
        value, grads = amortised(self.model, self.recognition, self.params, self.x[: self.batch], self.eta)
        stacks = grads["recognition"], grads["theta"]["decoder"]
        layers = [layer for stack in stacks for layer in stack if layer]
        return float(value), [to_numpy(layer[name]) for layer in layers for name in ("W", "b")]


def teachvae(setting):
    """An epoch of the one training loop."""
    rng = np.random.default_rng(1)
    shape = (1, setting.batch, setting.n_latent)

    def objective(params, rows):
        eta = setting.backend.normal(rng, shape)
        return amortised(setting.model, setting.recognition, params, take_rows(setting.x, rows), eta)

    run = Run(setting.params, {"shuffle": rng})

    def epoch():
        minibatches(
            objective, run, len(setting.x), optimizer=Adam(RATE), epochs=len(run.path) + 1,
            batch_size=setting.batch,
        )

    return epoch


def bare_products(setting):
    """The matrix products of an epoch's steps: forward, weights' gradients, inputs' except the first's."""
    rng, B = np.random.default_rng(1), setting.batch
    pairs = []
    for stack, first in zip(setting.weights(), (True, False)):
        for i, (W, _) in enumerate(stack):
            x, dy = (setting.backend.normal(rng, (B, n)) for n in W.shape)
            pairs += [(x, W), (x.T, dy)] + ([] if first and i == 0 else [(dy, W.T)])

    def epoch():
        for _ in range(BATCHES):
            for a, b in pairs:
                product = a @ b
        float(product[0, 0])                                       # a GPU is waited for

    return epoch


def torch_eager(setting, fused=False, compiled=False, device="cpu"):
    """PyTorch; the value, gradient and epoch."""
    import torch

    def put(array, **options):
        return torch.tensor(array, device=device, **options)

    stacks = [[[put(a, requires_grad=True) for a in pair] for pair in s] for s in setting.weights()]
    leaves = [leaf for stack in stacks for pair in stack for leaf in pair]
    K = setting.n_latent

    def network(stack, h):
        for i, (W, b) in enumerate(stack):
            h = torch.addmm(b, h, W)
            h = torch.tanh(h) if i < len(stack) - 1 else h
        return h

    def loss(x, eta):
        phi = network(stacks[0], x)
        m, log_s = phi[:, :K], phi[:, K:]
        f = network(stacks[1], m + eta * torch.exp(log_s))
        cost = torch.nn.functional.binary_cross_entropy_with_logits(f, x, reduction="sum")
        kl = 0.5 * (m * m + torch.exp(2 * log_s) - 1 - 2 * log_s).sum()
        return (cost + kl) / x.shape[0]

    value = loss(put(setting.x[: setting.batch]), put(setting.eta[0]))
    value.backward()
    check = value.item(), [leaf.grad.cpu().numpy().copy() for leaf in leaves]
    objective = torch.compile(loss) if compiled else loss
    optimizer, x = torch.optim.Adam(leaves, lr=RATE, fused=fused), put(setting.x)

    def epoch():
        for rows in torch.randperm(len(x), device=device).split(setting.batch):
            optimizer.zero_grad(set_to_none=True)
            objective(x[rows], torch.randn(setting.batch, K, device=device)).backward()
            optimizer.step()
        leaves[0][0, 0].item()                                     # a GPU is waited for

    return check, epoch


def jax_jit(setting, scan=False):
    """JAX, one compiled step per minibatch, or a compiled scan over the whole epoch."""
    import jax
    import jax.numpy as jnp

    K, B = setting.n_latent, setting.batch
    start = jax.tree.map(jnp.asarray, setting.weights())

    def network(stack, h):
        for i, (W, b) in enumerate(stack):
            h = h @ W + b
            h = jnp.tanh(h) if i < len(stack) - 1 else h
        return h

    def loss(stacks, x, eta):
        phi = network(stacks[0], x)
        m, log_s = phi[:, :K], phi[:, K:]
        f = network(stacks[1], m + eta * jnp.exp(log_s))
        kl = 0.5 * (m * m + jnp.exp(2 * log_s) - 1 - 2 * log_s).sum()
        return ((jax.nn.softplus(f) - x * f).sum() + kl) / x.shape[0]

    value, grads = jax.value_and_grad(loss)(start, setting.x[:B], setting.eta[0])
    check = float(value), [np.asarray(a) for stack in grads for pair in stack for a in pair]

    def step(carry, rows):
        stacks, m, v, t, key, data = carry
        key, now = jax.random.split(key)
        g = jax.grad(loss)(stacks, data[rows], jax.random.normal(now, (B, K)))
        t = t + 1
        m = jax.tree.map(lambda a, b: 0.9 * a + 0.1 * b, m, g)
        v = jax.tree.map(lambda a, b: 0.999 * a + 0.001 * b * b, v, g)

        def move(p, a, b):
            return p - RATE * (a / (1 - 0.9**t)) / (jnp.sqrt(b / (1 - 0.999**t)) + 1e-8)

        return (jax.tree.map(move, stacks, m, v), m, v, t, key, data), None

    zeros = jax.tree.map(jnp.zeros_like, start)
    kept = [(start, zeros, zeros, jnp.float32(0), jax.random.key(0), jnp.asarray(setting.x))]
    rng = np.random.default_rng(1)
    compiled = jax.jit(lambda carry, order: jax.lax.scan(step, carry, order)) if scan else jax.jit(step)

    def epoch():
        order = rng.permutation(len(setting.x)).reshape(BATCHES, B)
        if scan:
            kept[0], _ = compiled(kept[0], order)
        else:
            for rows in order:
                kept[0], _ = compiled(kept[0], rows)
        jax.block_until_ready(kept[0][0])

    return check, epoch


def autograd(setting):
    """HIPS autograd: the derivation by a tape, over NumPy."""
    from autograd import numpy as anp
    from autograd import value_and_grad

    K, B = setting.n_latent, setting.batch

    def network(stack, h):
        for i, (W, b) in enumerate(stack):
            h = anp.dot(h, W) + b
            h = anp.tanh(h) if i < len(stack) - 1 else h
        return h

    def loss(stacks, x, eta):
        phi = network(stacks[0], x)
        m, log_s = phi[:, :K], phi[:, K:]
        f = network(stacks[1], m + eta * anp.exp(log_s))
        kl = 0.5 * anp.sum(m * m + anp.exp(2 * log_s) - 1 - 2 * log_s)
        return (anp.sum(anp.logaddexp(0, f) - x * f) + kl) / x.shape[0]

    both = value_and_grad(loss)
    stacks = tree.map(np.array, setting.weights())
    value, grads = both(stacks, setting.x[:B], setting.eta[0])
    check = float(value), [a for stack in grads for pair in stack for a in pair]
    adam, flat = Adam(RATE), tree.flatten(stacks)
    stacks, state, rng = tree.views(flat, stacks), adam.init(flat), np.random.default_rng(1)

    def epoch():
        for rows in rng.permutation(len(setting.x)).reshape(BATCHES, B):
            eta = rng.standard_normal((B, K)).astype("float32")
            _, g = both(stacks, setting.x[rows], eta)
            adam.step(flat, tree.flatten(g).astype("float32"), state)

    return check, epoch


PEERS = {
    "PyTorch eager": torch_eager,
    "PyTorch eager, fused Adam": lambda setting: torch_eager(setting, fused=True),
    "torch.compile, fused Adam": lambda setting: torch_eager(setting, fused=True, compiled=True),
    "JAX jit": jax_jit,
    "JAX scan": lambda setting: jax_jit(setting, scan=True),
    "autograd": autograd,
}


def run(rounds=15):
    """[{size, peer, ratio, …}], and what could not be run, in words."""
    import os

    if os.environ.get("OMP_NUM_THREADS"):
        try:
            import torch

            torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        except ImportError:
            pass
    rows, remarks = [], []
    for size, numbers in SIZES.items():
        setting = Setting(*numbers)
        contestants = {"teachvae": teachvae(setting), "bare products": bare_products(setting)}
        more_rows, more_remarks = contest(size, setting, setting, contestants, PEERS, rounds)
        rows, remarks = rows + more_rows, remarks + more_remarks
    return rows, remarks


def contest(size, ours, theirs, contestants, peers, rounds):
    """Rows and remarks of one size: of the contestants {name: epoch} and the peers {name: make}, who compute
    from the setting `theirs`, on the host, what we compute from `ours`.
    """
    (value, gradient), remarks = ours.value_and_gradient(), []
    for name, make in peers.items():
        try:
            (their_value, their_gradient), epoch = make(theirs)
            epoch()
        except Exception as error:                                 # missing, or no compiler for torch.compile
            said = (str(error).splitlines() or [""])[0][:100]
            remarks.append(f"{size}, {name}: {type(error).__name__}: {said}")
            continue
        check_equal(f"{name}: the value", value, their_value, 1e-4)
        for mine, other in zip(gradient, their_gradient, strict=True):
            check_equal(f"{name}: the gradient", mine, other, 1e-4)
        contestants = {**contestants, name: epoch}
    rows = [
        {"size": size, "peer": peer, "low": low, "ratio": middle, "high": high}
        for peer, low, middle, high in ratios(in_turn(contestants, rounds))
    ]
    return rows, remarks
