"""The estimators inside scikit-learn's tools, where it is installed."""

import numpy as np
import pytest

from teachvae import VAE, Autoencoder, FactorAnalysis, VariationalEM, datasets

pytest.importorskip("sklearn")
from sklearn.base import clone  # noqa: E402
from sklearn.decomposition import FactorAnalysis as TheirFactorAnalysis  # noqa: E402
from sklearn.model_selection import GridSearchCV, cross_val_score  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402

X = datasets.linear_gaussian(n_cases=400, n_visible=8, n_latent=2).x
SMALL = [
    FactorAnalysis(2),
    VariationalEM(2, hidden=(), tol=1e-4),
    VAE(2, hidden=(4,), epochs=3),
    Autoencoder(2, hidden=(4,), epochs=3),
]


@pytest.mark.parametrize("estimator", SMALL, ids=lambda e: type(e).__name__)
def test_pipeline_and_clone(estimator):
    pipeline = make_pipeline(StandardScaler(), clone(estimator)).fit(X)
    scaled = StandardScaler().fit_transform(X)
    np.testing.assert_array_equal(pipeline.transform(X), clone(estimator).fit(scaled).transform(scaled))
    assert clone(estimator).get_params() == estimator.get_params()


def test_cross_validation_scores_are_those_of_scikit_learn():
    ours = cross_val_score(FactorAnalysis(2), X, cv=3)
    theirs = cross_val_score(TheirFactorAnalysis(2, tol=1e-10, max_iter=20000, svd_method="lapack"), X, cv=3)
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_grid_search_finds_the_number_of_factors():
    search = GridSearchCV(FactorAnalysis(), {"n_components": [1, 2]}, cv=3).fit(X)
    assert search.best_params_ == {"n_components": 2}
