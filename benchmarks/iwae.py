"""Table 1 of Burda, Grosse & Salakhutdinov (2016) run anew: VAE and IWAE of one stochastic layer on MNIST.

    python -m benchmarks iwae --objective iwae --k 5                  # all eight stages, 3280 epochs
    python -m benchmarks iwae --objective iwae --k 5 --stages 5 --minutes 30

The network is 784-200-200-50 with tanh, the pixels are binarised anew in every minibatch of 20, and Adam has
the paper's numbers (β 0.9 and 0.999, ε 1e-4, on the mean over a minibatch) and its eight stages. What is
trained lies in a file in the folder --output, from which the next call goes on, for more minutes or stages,
to the bits of a run that never stopped. At the end of every call stand the NLL of the test images by 5000
importance samples, and the active units, beside the paper's.

--torch trains nothing to its end: it takes the steps of a short schedule on a few images here and in PyTorch,
from the same start with the same draws, and says how far the losses are apart.
"""

import argparse
import json
import math
import os
from pathlib import Path
from time import monotonic
import warnings

import numpy as np

from teachvae import VAE, datasets, load, schedules, tree
from teachvae.arrays.backend import get_backend
from teachvae.datasets import binarise
from teachvae.evaluation.nlml import FewDrawsWarning
from teachvae.likelihoods import Bernoulli
from teachvae.messages import align
from teachvae.model import Model
from teachvae.networks.layers import mlp
from teachvae.networks.optimizers import Adam
from teachvae.posteriors import DiagonalGaussian
from teachvae.routes.vae import amortised, recognition_network

HIDDEN, K, BATCH, EPSILON = (200, 200), 50, 20, 1e-4
# (objective, k): NLL of MNIST's test images by 5000 samples, active units. Burda et al. 2016, Table 1.
PUBLISHED = {
    ("bound", 1): (86.76, 19), ("bound", 5): (86.47, 20), ("bound", 50): (86.35, 20),
    ("iwae", 1): (86.76, 19), ("iwae", 5): (85.54, 22), ("iwae", 50): (84.78, 25),
}


def grey_images(data, part, n_cases=None):
    """Grey values (N, D) in [0, 1], float32, in 255ths: of MNIST, or of the digits that come along."""
    if data == "mnist":
        return datasets.mnist(part=part, n_cases=n_cases, dequantise=False).x.astype("float32")
    x = datasets.digits().x
    x = x[: len(x) * 4 // 5] if part == "train" else x[len(x) * 4 // 5 :]
    return (np.rint(255 * np.clip(x, 0, 1)) / 255)[:n_cases].astype("float32")


def network(objective, k, epochs, **options):
    """The estimator of one row of the table. The VAE's KL is sampled, so that with k = 1 both are one."""
    return VAE(
        **{
            "n_components": K, "hidden": HIDDEN, "likelihood": "bernoulli", "binarise": "fresh",
            "objective": objective, "kl": "sampled", "n_samples": k, "optimizer": Adam(epsilon=EPSILON),
            "learning_rate": schedules.Stages(), "epochs": epochs, "batch_size": BATCH, "dtype": "float32",
            **options,
        }
    )


def train(model, x, file, minutes=math.inf, tell=print):
    """Lead the training in `file` on until the model's epochs, or the minutes, are over."""
    end = monotonic() + 60 * minutes

    def progress(epoch, epochs, value):
        tell(f"epoch {epoch} of {epochs}: {value:.3f}")
        return monotonic() > end

    return model.fit(x, checkpoint=file, progress=progress)


def measured(model, grey, n_samples=5000):
    """{nll, few, active, epochs} on test images, binarised once, with seed 0: of `few` of them the estimate
    hangs on a few draws, and is too high.
    """
    x = binarise(np.rint(255 * grey).astype("uint8"), "fresh", np.random.default_rng(0)).astype("float32")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewDrawsWarning)           # they are counted
        found = model.nlml(x, method="importance", n_samples=n_samples)
    return {
        "nll": float(found.values.mean()),
        "few": int(np.isinf(found.standard_error).sum()),
        "active": int(model.active_units(x).sum()),
        "epochs": model.n_iter_,
    }


def table(rows):
    """The rows [{data, objective, k, epochs, nll, few, active}] as text; those of all of MNIST have the
    paper's beside them.
    """
    cells = [("data", "objective", "k", "seed", "epochs", "NLL", "few draws", "active", "the paper's")]
    for row in rows:
        published = PUBLISHED.get((row["objective"].removesuffix("-dreg"), row["k"]))
        beside = "–"
        if published is not None and row["data"].startswith("mnist, all"):
            beside = f"{published[0]:.2f} ({published[1]})"
        cells.append((
            row["data"], row["objective"], str(row["k"]), str(row["seed"]), str(row["epochs"]),
            f"{row['nll']:.2f}", str(row["few"]), str(row["active"]), beside,
        ))
    return align(cells)


# ---- beside PyTorch ------------------------------------------------------------------------------------


class Setting:
    """The network, its start, and what both sides take in each step: x (B, D), eta (k, B, K), the rate."""

    def __init__(self, objective, k, grey, hidden, n_latent, stages, batch):
        rng, q = np.random.default_rng(0), DiagonalGaussian(n_latent)
        D = grey.shape[1]
        self.objective, self.n_latent = objective, n_latent
        self.recognition = recognition_network(D, hidden, q)
        self.model = Model(mlp(n_latent, hidden[::-1], D), Bernoulli(D), n_latent, q)
        self.params = {
            "theta": self.model.init(rng), "recognition": self.recognition.init(rng, get_backend())
        }
        schedule, self.x, self.rates = schedules.Stages(n=stages), [], []
        for epoch in range(1, schedule.begin(stages)):
            for rows in np.split(rng.permutation(len(grey)), range(batch, len(grey), batch)):
                self.x.append(binarise(np.rint(255 * grey[rows]).astype("uint8"), "fresh", rng))
                self.rates.append(schedule(epoch))
        self.eta = [rng.standard_normal((k, len(x), n_latent)) for x in self.x]

    def weights(self, params):
        """[(W, b) of the encoder], [(W, b) of the decoder]."""
        stacks = params["recognition"], params["theta"]["decoder"]
        return [[(layer["W"], layer["b"]) for layer in stack if layer] for stack in stacks]


def our_losses(setting):
    """The loss of every step."""
    flat, params = tree.pack(setting.params)
    state, losses = Adam().init(flat), []
    for x, eta, rate in zip(setting.x, setting.eta, setting.rates):
        value, grads = amortised(
            setting.model, setting.recognition, params, x, eta, kl="sampled", objective=setting.objective
        )
        losses.append(float(value))
        Adam(rate, epsilon=EPSILON).step(flat, tree.flatten(grads, params), state)
    return np.array(losses)


def torch_losses(setting):
    """The same by PyTorch, its derivatives, densities and Adam. Raises ImportError without it."""
    import torch
    from torch.distributions import Bernoulli as TorchBernoulli, Normal

    stacks = [
        [[torch.tensor(a, requires_grad=True) for a in pair] for pair in stack]
        for stack in setting.weights(setting.params)
    ]
    encoder, decoder = ([leaf for pair in stack for leaf in pair] for stack in stacks)
    optimizer, losses = torch.optim.Adam(encoder + decoder, eps=EPSILON), []

    def run(stack, h):
        for i, (W, b) in enumerate(stack):
            h = h @ W + b
            h = torch.tanh(h) if i < len(stack) - 1 else h
        return h

    for x, eta, rate in zip(setting.x, setting.eta, setting.rates):
        x, eta = torch.tensor(x), torch.tensor(eta)
        m, log_s = run(stacks[0], x).split(setting.n_latent, dim=1)
        z = m + eta * log_s.exp()
        log_joint = Normal(0.0, 1.0).log_prob(z).sum(2) + TorchBernoulli(logits=run(stacks[1], z)).log_prob(
            x.expand(len(eta), *x.shape)
        ).sum(2)
        log_w = log_joint - Normal(m, log_s.exp()).log_prob(z).sum(2)  # (k, B)
        if setting.objective == "bound":
            loss = -log_w.mean(0).mean()
        else:
            loss = -(torch.logsumexp(log_w, 0) - math.log(len(eta))).mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        if setting.objective == "iwae-dreg":                       # Tucker et al. 2019, as a surrogate loss
            held = log_joint - Normal(m.detach(), log_s.detach().exp()).log_prob(z).sum(2)
            w = torch.softmax(log_w.detach(), 0)
            into = [(encoder, -(w**2 * held).sum(0).mean()), (decoder, -(w * held).sum(0).mean())]
        else:
            into = [(encoder + decoder, loss)]
        for leaves, of in into:
            for leaf, grad in zip(leaves, torch.autograd.grad(of, leaves, retain_graph=True)):
                leaf.grad = grad
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
    return np.array(losses)


# ---- the command ---------------------------------------------------------------------------------------


def main(arguments):
    """`python -m benchmarks iwae …`."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks iwae", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--objective", choices=["bound", "iwae", "iwae-dreg"], default="iwae")
    parser.add_argument("--k", type=int, default=1, help="draws for every case and step")
    parser.add_argument("--stages", type=int, choices=range(9), default=8, help="train to the end of so many")
    parser.add_argument("--minutes", type=float, default=math.inf, help="of training, at most, in this call")
    parser.add_argument("--samples", type=int, default=5000, help="of importance sampling; 0: not measured")
    parser.add_argument("--data", choices=["mnist", "digits"], default="mnist")
    parser.add_argument("--cases", type=int, help="the first so many images; all by default")
    parser.add_argument("--test-cases", type=int, help="the first so many test images; as --cases by default")
    parser.add_argument("--seed", type=int, default=0, help="of start, order, binarisation and draws")
    parser.add_argument("--backend", default="numpy", help="where arrays live, as in VAE")
    parser.add_argument("--torch", action="store_true", help="compare the losses of the steps with PyTorch's")
    parser.add_argument("--output", type=Path, default=Path("benchmark-results"), help="folder for the files")
    options = parser.parse_args(arguments)
    if options.torch:
        grey = grey_images(options.data, "train", options.cases or 200)
        setting = Setting(options.objective, options.k, grey, HIDDEN, K, min(options.stages, 3), BATCH)
        ours, theirs = our_losses(setting), torch_losses(setting)
        print(f"{len(ours)} steps, losses {ours[0]:.3f} … {ours[-1]:.3f}: they differ by at most "
              f"{np.abs(ours / theirs - 1).max():.1e} of their size")
        return
    options.output.mkdir(parents=True, exist_ok=True)
    name = f"iwae-{options.data}-{options.cases or 'all'}-{options.objective}-{options.k}-{options.seed}"
    file, results = options.output / f"{name}.npz", options.output / "iwae.json"
    epochs = schedules.Stages().begin(options.stages) - 1
    if epochs:
        x = grey_images(options.data, "train", options.cases)
        model = network(
            options.objective, options.k, epochs, backend=options.backend, random_state=options.seed
        )
        train(model, x, file, options.minutes, tell=lambda line: print(line, flush=True))
    else:
        model = load(file)
    if not options.samples:
        return
    n_test = options.test_cases or options.cases
    row = measured(model, grey_images(options.data, "test", n_test), options.samples)
    rows = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
    data = f"{options.data}, {options.cases or 'all'}" + (f", {n_test} test" if options.test_cases else "")
    asked = {"k": options.k, "samples": options.samples, "seed": options.seed}
    rows[name] = {"data": data, "objective": options.objective, **asked, **row}
    part = results.with_suffix(".part")
    part.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    os.replace(part, results)
    print(table(sorted(rows.values(), key=lambda r: (r["data"], r["objective"], r["k"], r["seed"]))))
