"""From the start of a process: to `import`, and to a digits VAE trained for 100 epochs.

Everybody's modules are compiled to bytecode before, as after an installation.
"""

import os
import subprocess
import sys
from time import perf_counter

import numpy as np

OURS = """
from teachvae import VAE, datasets
VAE(2, hidden=(64,), epochs=100, dtype="float32").fit(datasets.digits().x)
"""
PYTORCH = """
import numpy as np, torch
from teachvae import datasets
x = datasets.digits().x
x = torch.tensor((x - x.mean(0)) / (x.std(0) + 1e-6), dtype=torch.float32)
K = 2
encoder = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Tanh(), torch.nn.Linear(64, 2 * K))
decoder = torch.nn.Sequential(torch.nn.Linear(K, 64), torch.nn.Tanh(), torch.nn.Linear(64, 64))
log_psi = torch.zeros(64, requires_grad=True)
adam = torch.optim.Adam([*encoder.parameters(), *decoder.parameters(), log_psi], lr=3e-3)
for epoch in range(100):
    for rows in torch.randperm(len(x)).split(128):
        phi = encoder(x[rows])
        m, log_s = phi[:, :K], phi[:, K:]
        r = x[rows] - decoder(m + torch.exp(log_s) * torch.randn_like(m))
        cost = 0.5 * (r * r * torch.exp(-log_psi) + log_psi).sum(1)
        loss = (cost + 0.5 * (m * m + torch.exp(2 * log_s) - 1 - 2 * log_s).sum(1)).mean()
        adam.zero_grad(); loss.backward(); adam.step()
"""
JAX = """
import numpy as np, jax, jax.numpy as jnp
from teachvae import datasets
x = datasets.digits().x
x = jnp.asarray((x - x.mean(0)) / (x.std(0) + 1e-6), dtype="float32")
K, rng = 2, np.random.default_rng(0)
def layer(a, b): return jnp.asarray(rng.standard_normal((a, b)) / a**0.5, "float32"), jnp.zeros(b)
params = {"e": [layer(64, 64), layer(64, 2 * K)], "d": [layer(K, 64), layer(64, 64)], "psi": jnp.zeros(64)}
def network(s, h): return jnp.tanh(h @ s[0][0] + s[0][1]) @ s[1][0] + s[1][1]
def loss(p, x, eta):
    phi = network(p["e"], x)
    m, log_s = phi[:, :K], phi[:, K:]
    r = x - network(p["d"], m + jnp.exp(log_s) * eta)
    cost = 0.5 * (r * r * jnp.exp(-p["psi"]) + p["psi"]).sum(1)
    return (cost + 0.5 * (m * m + jnp.exp(2 * log_s) - 1 - 2 * log_s).sum(1)).mean()
@jax.jit
def step(p, m, v, t, key, rows):
    g = jax.grad(loss)(p, x[rows], jax.random.normal(key, (len(rows), K)))
    m = jax.tree.map(lambda a, b: 0.9 * a + 0.1 * b, m, g)
    v = jax.tree.map(lambda a, b: 0.999 * a + 0.001 * b * b, v, g)
    move = lambda p, a, b: p - 3e-3 * (a / (1 - 0.9**t)) / (jnp.sqrt(b / (1 - 0.999**t)) + 1e-8)
    return jax.tree.map(move, p, m, v), m, v
m = v = jax.tree.map(jnp.zeros_like, params)
key, t = jax.random.key(0), 0
for epoch in range(100):
    order = rng.permutation(len(x))
    for i in range(0, len(x) - 127, 128):
        t += 1
        key, now = jax.random.split(key)
        params, m, v = step(params, m, v, float(t), now, order[i : i + 128])
jax.block_until_ready(params)
"""


def seconds(code):
    """Wall-clock seconds of a fresh interpreter that runs `code`; CalledProcessError where it fails."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    start = perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=environment)
    return perf_counter() - start


def run(rounds=5):
    """[{size, peer, ratio, …}], and what could not be run, in words."""
    rows, remarks = [], []
    for size, ours, peers in (
        ("process start to a trained digits VAE", OURS, {"PyTorch": PYTORCH, "JAX": JAX}),
        (
            "import of the estimators over import numpy",
            "from teachvae import VAE, FactorAnalysis",             # `import teachvae` imports nothing yet
            {"import numpy": "import numpy"},
        ),
    ):
        contestants = {"teachvae": ours, **peers}
        for name in list(contestants):
            try:
                seconds(contestants[name])
            except subprocess.CalledProcessError as error:
                remarks.append(f"{size}, {name}: {error.stderr.decode().strip().splitlines()[-1][:100]}")
                del contestants[name]
        times = {name: [] for name in contestants}
        for _ in range(rounds):
            for name, code in contestants.items():
                times[name].append(seconds(code))
        for name in contestants:
            if name != "teachvae":
                share = np.array(times[name]) / np.array(times["teachvae"])
                share = 1 / share if name == "import numpy" else share
                low, middle, high = np.quantile(share, [0.25, 0.5, 0.75]).tolist()
                rows.append({"size": size, "peer": name, "low": low, "ratio": middle, "high": high})
    return rows, remarks
