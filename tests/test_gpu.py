"""On a GPU: every route gives what it gives on the CPU. Run with pytest -m gpu where there is one."""

import numpy as np
import pytest

from teachvae import Autoencoder, FactorAnalysis, VAE, VariationalEM, datasets
from teachvae.arrays.backend import BackendError, get_backend

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def x():
    try:
        get_backend("cupy")
    except BackendError as error:
        pytest.skip(str(error))
    return datasets.digits().x[:300]


@pytest.mark.parametrize(
    "make",
    [
        lambda backend: FactorAnalysis(2, backend=backend),
        lambda backend: VariationalEM(2, hidden=(), backend=backend),
        lambda backend: VariationalEM(2, hidden=(16,), epochs=3, backend=backend),
        lambda backend: VAE(2, hidden=(), optimizer="lbfgs", nodes="sigma", epochs=50, backend=backend),
        lambda backend: VAE(2, hidden=(16,), epochs=3, backend=backend),
        lambda backend: VAE(2, hidden=(16,), posterior="full", kl="sampled", epochs=3, backend=backend),
    ],
    ids=["factor analysis", "linear variational EM", "variational EM", "linear VAE", "VAE", "full VAE"],
)
def test_bound_is_that_of_the_cpu(make, x):
    gpu, cpu = make("cupy").fit(x), make("numpy").fit(x)
    Q = gpu.bound(x)
    assert isinstance(Q, np.ndarray)
    np.testing.assert_allclose(Q, cpu.bound(x), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(gpu.transform(x), cpu.transform(x), atol=1e-5)
    ours, theirs = (model.nlml(x, random_state=0).values for model in (gpu, cpu))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_autoencoder_is_that_of_the_cpu(x):
    gpu, cpu = (Autoencoder(2, epochs=3, backend=b).fit(x) for b in ("cupy", "numpy"))
    np.testing.assert_allclose(gpu.reconstruct(x), cpu.reconstruct(x), atol=1e-6)
