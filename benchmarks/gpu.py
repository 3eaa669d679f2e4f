"""One training step of a Bernoulli VAE on a GPU, beside the frameworks and beside what the card can do.

The contestants are those of vae_step.py, in full float32 (no TF32 anywhere) and with the data on the card;
value and gradient of a minibatch must agree to 1e-4 before anything is timed. Three yardsticks say what the
card can do: "bare products", the matrix products of the step and nothing else; "bare traffic", as many
numbers read and written as Adam reads and writes; and "bare launch", one kernel that has nothing to do: our
time over it is how many launches a step is worth. Everybody's epoch ends by bringing a number to the host.

    python -m benchmarks gpu

So far this has run on a stand-in alone, and on no card: there are no figures of it yet.
"""

from functools import partial
import os

from teachvae import tree
from teachvae.arrays.backend import BackendError, get_backend
from .vae_step import BATCHES, Setting, bare_products, contest, jax_jit, teachvae, torch_eager

SIZES = {                                                          # D, hidden units of the encoder, K, batch
    "GPU, 784-500-20, batch 100": (784, (500,), 20, 100),
    "GPU, 784-500-20, batch 1000": (784, (500,), 20, 1000),
    "GPU, 784-500-20, batch 10 000": (784, (500,), 20, 10_000),
    "GPU, 784-200-200-50, batch 20": (784, (200, 200), 50, 20),
    "GPU, 784-200-200-50, batch 100": (784, (200, 200), 50, 100),
}
ADAM = 7                                                           # reads p, g, m, v; writes p, m, v


def bare_traffic(setting):
    """For every step of an epoch as many numbers read and written as Adam reads and writes."""
    n_copied = ADAM * tree.size(setting.params) // 2
    numbers = setting.backend.zeros((n_copied,))

    def epoch():
        for _ in range(BATCHES):
            copy = numbers + 0.0
        float(copy[0])                                             # the GPU is waited for

    return epoch


def bare_launch(setting):
    """For every step of an epoch a kernel on one number."""
    number = setting.backend.zeros((1,))

    def epoch():
        for _ in range(BATCHES):
            more = number + 0.0
        float(more[0])                                             # the GPU is waited for

    return epoch


def jax_on_gpu(setting, scan=False):
    """JAX as in vae_step.py, its products in full float32 and its memory taken as it is needed."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax

    if jax.default_backend() != "gpu":
        raise RuntimeError(f"JAX runs on {jax.default_backend()}, not on a GPU")
    jax.config.update("jax_default_matmul_precision", "highest")   # asked for when a step is compiled
    return jax_jit(setting, scan)


PEERS = {
    "PyTorch eager": partial(torch_eager, device="cuda"),
    "PyTorch eager, fused Adam": partial(torch_eager, fused=True, device="cuda"),
    "torch.compile, fused Adam": partial(torch_eager, fused=True, compiled=True, device="cuda"),
    "JAX jit": jax_on_gpu,
    "JAX scan": partial(jax_on_gpu, scan=True),
}


def run(rounds=15):
    """[{size, peer, ratio, …}], and what could not be run, in words: all of it where there is no GPU."""
    try:
        get_backend("cupy")
    except BackendError as error:
        return [], [f"GPU: {error}"]
    rows, remarks = [], []
    for size, numbers in SIZES.items():
        ours, theirs = Setting(*numbers, backend="cupy"), Setting(*numbers)
        yardsticks = {"products": bare_products, "traffic": bare_traffic, "launch": bare_launch}
        contestants = {"teachvae": teachvae(ours)}
        contestants |= {f"bare {name}": make(ours) for name, make in yardsticks.items()}
        more_rows, more_remarks = contest(size, ours, theirs, contestants, PEERS, rounds)
        rows, remarks = rows + more_rows, remarks + more_remarks
    return rows, remarks
