"""Progress: it is told of every step, may end a training, and can look at the model as it stands."""

import numpy as np
import pytest

from teachvae import (
    VAE, Autoencoder, FactorAnalysis, GaussianMixture, MixtureOfFactorAnalysers, VariationalEM, datasets
)

pytestmark = pytest.mark.short                                   # most fits here end early on purpose

X = datasets.linear_gaussian(n_cases=80, n_visible=5, n_latent=2, seed=1).x
LOOSE = {"hidden": (4,), "batch_size": 20}
MAKERS = {
    "factor analysis": lambda: FactorAnalysis(2, n_starts=1, tol=1e-12),
    "variational EM, linear": lambda: VariationalEM(2, hidden=(), n_starts=1, tol=1e-12),
    "variational EM": lambda: VariationalEM(2, hidden=(4,), epochs=6, m_steps=1),
    "VAE": lambda: VAE(2, epochs=6, **LOOSE),
    "VAE, full batch": lambda: VAE(2, hidden=(4,), optimizer="lbfgs", nodes="quadrature", epochs=12),
    "autoencoder": lambda: Autoencoder(2, epochs=6, **LOOSE),
    "mixture": lambda: GaussianMixture(3, tol=1e-12),
    "mixture of factor analysers": lambda: MixtureOfFactorAnalysers(2, n_latent=1, n_starts=1, tol=1e-12),
}
# told after the first hundred steps
RACED = "factor analysis", "variational EM, linear", "mixture of factor analysers"
each = pytest.mark.parametrize("name", MAKERS)


def path_of(model):
    return next(getattr(model, a) for a in ("nlml_path_", "q_path_", "loss_path_") if hasattr(model, a))


@each
@pytest.mark.filterwarnings("ignore:L-BFGS stopped", "ignore:EM stopped", "ignore:variational EM stopped")
def test_it_may_end_a_training(name):
    told = []

    def progress(step, steps, value):
        told.append(value)
        return np.bool_(len(told) == 3)                            # as a comparison of NumPy numbers is

    model = MAKERS[name]().fit(X, progress=progress)
    whole = MAKERS[name]().fit(X)
    assert len(told) == 3 or (name == "VAE, full batch" and len(told) < 20)    # it ends an iteration
    shorter = len(path_of(whole)) - len(path_of(model))
    assert shorter > 0 or (shorter == 0 and name in RACED)
    assert not getattr(model, "converged_", None)
    assert model.transform(X).shape[0] == 80
    if name not in (*RACED, "VAE, full batch"):
        np.testing.assert_array_equal(path_of(model)[:3], told)


@each
@pytest.mark.filterwarnings("ignore:L-BFGS stopped", "ignore:EM stopped")
def test_it_can_look_at_the_model_as_it_stands(name):
    seen = []

    def progress(step, steps, value, now):
        if not seen:
            model = now()
            seen.append(model.transform(X) if name != "mixture" else model.infer(X))

    model = MAKERS[name]().fit(X, progress=progress)
    plain = MAKERS[name]().fit(X)
    np.testing.assert_array_equal(path_of(model), path_of(plain))   # looking changes nothing
    end = model.transform(X) if name != "mixture" else model.infer(X)
    assert seen[0].shape == end.shape and np.isfinite(seen[0]).all()
    np.testing.assert_array_equal(end, plain.transform(X) if name != "mixture" else plain.infer(X))


def test_what_training_says_is_what_the_model_says():
    """Mean Q as it is told, in the data's own units, beside the bound of the model at that moment."""
    pairs = []

    def progress(step, steps, value, now):
        pairs.append((value, now().bound(1e3 * X + 1e4).mean()))

    VAE(2, epochs=40, hidden=(4,)).fit(1e3 * X + 1e4, progress=progress)
    told, said = np.array(pairs[-10:]).T
    assert told.mean() == pytest.approx(said.mean(), abs=0.8), "one draw of η for each case and epoch"
