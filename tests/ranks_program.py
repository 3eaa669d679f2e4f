"""What test_ranks starts on several ranks: every rank runs this program, and rank 0 prints JSON.

    mpiexec -n 2 python -m mpi4py ranks_program.py WHAT …
"""

import copy
import hashlib
import json
import pickle
import sys
import tracemalloc
import warnings

import numpy as np

from teachvae import FactorAnalysis, VAE, VariationalEM, datasets, ranks, tree
from teachvae.arrays.backend import keep_freed_memory
from teachvae.networks.optimizers import Adam

N, D, K = 300, 8, 2
X = datasets.linear_gaussian(n_cases=N, n_visible=D, n_latent=K, seed=1).x
RNG = np.random.default_rng(0)
GAPS = np.where(RNG.random(X.shape) < 0.1, np.nan, X)
LATE = np.vstack([X[:250], np.where(RNG.random((50, D)) < 0.2, np.nan, X[250:])])  # gaps on the last rank
WEIGHTS = RNG.integers(0, 4, N)
FLAT = np.column_stack([np.full(N, 2.5), X, np.arange(N) < 100])   # the last one: constant on either rank
BITS = datasets.digits(threshold=8).x[:90, 18:24]
LEVELS = np.column_stack([RNG.integers(0, 2, 90), np.repeat([0, 1, 2], 30)])    # the first rank has one

FITS = {
    "FactorAnalysis": (FactorAnalysis, {}, X),
    "far off": (FactorAnalysis, {"noise": "isotropic"}, X + 1e4),
    "weights": (FactorAnalysis, {}, X),
    "missing": (FactorAnalysis, {"missing": "marginalise"}, GAPS),
    "missing on one rank": (FactorAnalysis, {"missing": "marginalise"}, LATE),
    "missing, weights": (FactorAnalysis, {"missing": "marginalise"}, GAPS),
    "constant": (FactorAnalysis, {"constant": "drop"}, FLAT),
    "VariationalEM, linear": (VariationalEM, {"hidden": (), "n_starts": 1}, X),
    "VariationalEM, missing": (
        VariationalEM, {"hidden": (), "missing": "marginalise", "n_starts": 1, "tol": 1e-6}, GAPS
    ),
    "VariationalEM": (VariationalEM, {"hidden": (5,), "epochs": 10, "m_steps": 1, "batch_size": 64}, X),
    "VariationalEM, bits": (VariationalEM, {"hidden": (5,), "epochs": 2, "likelihood": "bernoulli"}, BITS),
    "VAE": (VAE, {"hidden": (5,), "epochs": 8, "batch_size": 64}, X),
    "VAE, batches of one": (VAE, {"hidden": (5,), "epochs": 1, "batch_size": 1}, X[:50]),
    "VAE, missing": (VAE, {"hidden": (5,), "epochs": 4, "missing": "marginalise", "n_samples": 2}, GAPS),
    "VAE, categories": (VAE, {"hidden": (5,), "epochs": 4, "likelihood": "categorical"}, LEVELS),
    "VAE, L-BFGS": (
        VAE, {"hidden": (5,), "epochs": 6, "optimizer": "lbfgs", "nodes": "quadrature"}, X
    ),
    "VAE, importance-weighted": (
        VAE, {"hidden": (5,), "epochs": 4, "objective": "iwae-dreg", "n_samples": 3}, X
    ),
    "VAE, float32": (VAE, {"hidden": (5,), "epochs": 3, "dtype": "float32"}, X),
}


def fit(name, comm=None, share=lambda x: x):
    """The estimator FITS[name] fitted to what `share` takes of its data, and these."""
    kind, options, data = FITS[name]
    weights = {"sample_weight": share(WEIGHTS)} if "weights" in name else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return kind(2, comm=comm, **options).fit(share(data), **weights), share(data)


def path_of(model):
    return model.nlml_path_ if isinstance(model, FactorAnalysis) else model.q_path_


def phi_of(model, x):
    """φ (N, n_phi): the table that fit left, where there is one, else that of data x."""
    if isinstance(model, VariationalEM):
        return model.phi_
    return model.encode(x) if isinstance(model, VAE) else model.infer(x)


def learnt(model):
    return tree.flatten([model.theta_, getattr(model, "recognition_params_", model.theta_)])


def split(comm):
    """share(x): this rank's rows of x, of which the first ranks have fewer than the last."""
    def share(x):
        fewer = 2 * len(x) // (3 * comm.size)
        last = comm.rank == comm.size - 1
        return x[comm.rank * fewer : None if last else (comm.rank + 1) * fewer]

    return share


def fits(comm):
    """Of every fit: its path, whether all ranks have the same, the rows' φ and nlml, what was sent."""
    found = {}
    for name in FITS:
        sums, numbers, gathers = comm.sums, comm.numbers, comm.gathers
        model, x = fit(name, comm, split(comm))
        sent = comm.sums - sums, comm.numbers - numbers, comm.gathers - gathers
        rows = np.column_stack([phi_of(model, x), model.bound(x, n_samples=10)])
        bits = hashlib.sha256(learnt(model).tobytes() + path_of(model).tobytes()).hexdigest()
        found[name] = {
            "path": path_of(model).tolist(),
            "bits": comm.gather(bits),
            "rows": np.vstack(comm.gather(rows)).tolist(),
            "size": len(learnt(model)),
            "dropped": list(model.columns_.dropped),
            "n_cases": getattr(model, "n_cases_", None),
            "sent": sent,
        }
    return found


def sums(comm):
    """Sums of vectors that test_ranks draws again, and whether all ranks have the same bits."""
    found = {}
    for dtype in ("float64", "float32"):
        for shape in ((), (1,), (7,), (3, 5)):
            total = comm.sum(vector(comm.rank, shape, dtype))
            found[f"{dtype} {shape}"] = [total.tolist(), str(total.dtype), comm.gather(total.tobytes().hex())]
    return found


def vector(rank, shape, dtype):
    """What `sums` has on a rank: numbers of very different sizes, whose sum depends on its order."""
    rng = np.random.default_rng(rank)
    return (rng.standard_normal(shape) * 10.0 ** rng.integers(-8, 8, shape)).astype(dtype)


def parts(comm):
    """partial_fit on every rank, twice."""
    fa, mine = FactorAnalysis(2, comm=comm), split(comm)(X)
    fa.partial_fit(mine[:20]).partial_fit(mine[20:])
    return {"path": path_of(fa).tolist(), "n_cases": fa.n_cases_}


def told_to_end(comm):
    """Only the last rank follows the training, and ends it."""
    seen = []

    def progress(step, steps, value, now):
        seen.append(now().n_features_in_)
        return step == 3

    last = comm.rank == comm.size - 1
    models = [FITS[name] for name in ("FactorAnalysis", "VariationalEM", "VAE", "VAE, L-BFGS")]
    ends = []
    for kind, options, data in models:
        model = kind(2, comm=comm, **options).fit(split(comm)(data), progress=progress if last else None)
        ends.append(len(path_of(model)))
    return {"ends": comm.gather(ends), "seen": comm.gather(len(seen))}


def bad_data(comm):
    """The last rank has an entry that no model takes."""
    x = split(comm)(X).copy()
    if comm.rank == comm.size - 1:
        x[3, 2] = np.inf
    FactorAnalysis(2, comm=comm).fit(x)


def bad_step(comm):
    """The last rank fails in the middle of a training."""
    def progress(step, steps, value):
        if comm.rank == comm.size - 1 and step == 3:
            raise OSError("the disk of this rank is full")

    VAE(2, hidden=(5,), comm=comm).fit(split(comm)(X), progress=progress)


def other_parameters(comm):
    """The ranks do not ask for the same."""
    VAE(2 + comm.rank, hidden=(5,), comm=comm).fit(split(comm)(X))


def other_class(comm):
    """The ranks do not even fit the same kind of model."""
    kind = FactorAnalysis if comm.rank else VAE
    kind(2, comm=comm).fit(split(comm)(X))


def copies(comm):
    """How many data cases a fit has seen whose comm was copied, or came out of a pickle. And the ranks need
    not have as many threads each.
    """
    found = [FactorAnalysis(2, comm=other).fit(split(comm)(X)).n_cases_ for other in (
        copy.copy(comm), copy.deepcopy(comm), pickle.loads(pickle.dumps(comm)))]
    VAE(2, hidden=(5,), epochs=1, comm=comm, n_jobs=1 + comm.rank).fit(split(comm)(X))
    return found


def other_columns(comm):
    """The ranks do not have the same columns."""
    FactorAnalysis(2, comm=comm).fit(X[:, comm.rank :])


def drift(comm):
    """An optimiser that goes by another step on every rank."""
    class Own:
        def init(self, flat):
            return Adam().init(flat)

        def step(self, flat, grad, state):
            Adam(1e-3 + 1e-15 * comm.rank).step(flat, grad, state)

    VAE(2, hidden=(5,), optimizer=Own(), comm=comm).fit(split(comm)(X))


def memory(comm):
    """The most bytes that arrays took on any rank, data among them, {estimator: bytes}."""
    found, n = {}, 120_000 // comm.size
    keep_freed_memory()                                            # it holds a large block for a moment
    warnings.simplefilter("ignore")                                # three iterations are few
    fa = FactorAnalysis(2, max_iter=3, comm=comm)
    for model in (fa, VAE(2, hidden=(5,), epochs=1, batch_size=4000, comm=comm)):
        model.fit(np.random.default_rng(comm.rank).standard_normal((4000, 20)))  # what is loaded at first use
        tracemalloc.start()
        x = np.random.default_rng(comm.rank).standard_normal((n, 20))
        model.fit(x)
        found[type(model).__name__] = max(comm.gather(tracemalloc.get_traced_memory()[1]))
        tracemalloc.stop()
        del x
    return found


if __name__ == "__main__":
    comm = ranks.comm("mpi")
    results = {what: globals()[what](comm) for what in sys.argv[1:]}
    if comm.rank == 0:
        print(json.dumps(results))
