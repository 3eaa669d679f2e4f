"""What test_lite runs in Pyodide and here, and compares; the last line printed is JSON."""

import json
import warnings

import numpy as np

warnings.simplefilter("error")

from teachvae import VAE, FactorAnalysis, VariationalEM, cli, datasets, grade  # noqa: E402
from teachvae.arrays import doctor  # noqa: E402

numbers, told = {}, {}
told["bits of a place"] = 8 * np.dtype(np.intp).itemsize

# The three routes, which end on one number.
x = datasets.linear_gaussian(n_cases=60, n_visible=10, n_latent=3).x
vae = VAE(3, hidden=(), optimizer="lbfgs", nodes="sigma")
for route in (FactorAnalysis(3), VariationalEM(3, hidden=()), vae):
    route.fit(x)
    name = type(route).__name__
    numbers[f"{name}, Q"], numbers[f"{name}, nlml"] = route.bound(x).mean(), route.nlml(x).values.mean()

# A network by minibatches, its ledger and what it makes; integers as places, and a missing value.
digits = datasets.to_unit_interval(datasets.digits()).x[:60]
counts = np.round(4 * digits[:, 20:30])
gaps = digits[:, 20:30].copy()
gaps[::7, 3] = np.nan
for likelihood, data in {"gaussian": gaps, "categorical": counts, "poisson": counts}.items():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")                            # it is hardly trained
        vae = VAE(2, hidden=(8,), likelihood=likelihood, epochs=4, random_state=0, missing="marginalise")
        vae.fit(data)
        numbers[f"{likelihood}, Q"] = vae.bound(data).mean()
        numbers[f"{likelihood}, nlml"] = vae.nlml(data[:5]).values.mean()
        numbers[f"{likelihood}, image"] = vae.reconstruct(np.nan_to_num(data)).mean()

# Threads that are asked for and are not there.
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    numbers["with threads"] = VariationalEM(3, hidden=(), n_jobs=2).fit(x).bound(x).mean()
told["warned"] = sorted({type(warning.message).__name__ for warning in said})


def minus_log_normal(x, mu, sigma2):
    """The answer to exercise 00-1, or what it is without its constant."""
    return 0.5 * np.sum((x - mu) ** 2 / sigma2 + np.log(2 * np.pi * sigma2), axis=1)


told["right"] = grade.check("00-1", minus_log_normal, seed=0).outcome
told["wrong"] = grade.check("00-1", lambda x, mu, sigma2: minus_log_normal(x, mu, sigma2) - 1, seed=0).outcome
told["gradients"] = cli.main(["gradcheck"])                        # every part, and the bound
told["doctor"] = [row.state for row in doctor.examine() if row.part in ("Python", "NumPy", "BLAS")]
print(json.dumps({"numbers": {name: float(number) for name, number in numbers.items()}, "told": told}))
