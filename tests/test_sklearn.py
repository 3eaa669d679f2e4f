"""The estimators inside scikit-learn's tools, where it is installed; data frames; and float32 throughout."""

from collections import Counter
import warnings

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("sklearn")
from sklearn.base import clone  # noqa: E402
from sklearn.decomposition import FactorAnalysis as TheirFactorAnalysis  # noqa: E402
from sklearn.model_selection import GridSearchCV, cross_val_score  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.utils.estimator_checks import check_estimator  # noqa: E402

from teachvae import (  # noqa: E402
    Autoencoder, FactorAnalysis, GaussianMixture, LinearProbe, MixtureOfFactorAnalysers, PrincipalComponents,
    VAE, VariationalEM, datasets,
)

pytestmark = pytest.mark.short                                   # most fits here end early on purpose

DATA = datasets.linear_gaussian(n_cases=400, n_visible=8, n_latent=2)
X = DATA.x
SMALL = [
    FactorAnalysis(2, tol=1e-4),
    VariationalEM(2, hidden=(), tol=1e-4),
    VariationalEM(1, hidden=(4,), epochs=2),
    VAE(2, hidden=(4,), epochs=3),
    Autoencoder(2, hidden=(4,), epochs=3),
    GaussianMixture(2, tol=1e-3),
    MixtureOfFactorAnalysers(2, n_latent=1, tol=1e-3),
    PrincipalComponents(2),
]
every = pytest.mark.parametrize(
    "estimator", SMALL, ids=lambda e: f"{type(e).__name__}{getattr(e, 'hidden', '')}"
)

CHECKED = [
    FactorAnalysis(1, tol=1e-2),
    VariationalEM(1, hidden=(), tol=1e-2),
    VariationalEM(1, hidden=(4,), epochs=1),
    VAE(1, hidden=(4,), epochs=3),
    Autoencoder(1, hidden=(4,), epochs=3),
    GaussianMixture(1),
    MixtureOfFactorAnalysers(1, n_latent=1, tol=1e-2),
    PrincipalComponents(1),
]


@pytest.mark.parametrize("estimator", CHECKED, ids=repr)
def test_scikit_learns_own_checks(estimator):
    """All but one pass: the array API, which is checked only where SCIPY_ARRAY_API is set."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")                            # their data cannot all be fitted well
        results = check_estimator(clone(estimator), on_fail=None, on_skip=None)
    failed = [(r["check_name"], r["exception"]) for r in results if r["status"] not in ("passed", "skipped")]
    assert failed == []
    assert Counter(r["status"] for r in results)["passed"] >= 40
    assert {r["check_name"] for r in results if r["status"] == "skipped"} <= {"check_array_api_input"}


@every
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


def squared_error(estimator, X, y=None):
    """Minus the squared error of reconstruction, for routes without a density."""
    return -np.mean((estimator[-1].reconstruct(estimator[0].transform(X)) - estimator[0].transform(X)) ** 2)


@every
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_grid_search_through_a_pipeline(estimator):
    pipeline = make_pipeline(StandardScaler(), clone(estimator))
    name = pipeline.steps[-1][0]
    scoring = None if hasattr(estimator, "score") else squared_error
    values = [1, 2]
    grid = {f"{name}__n_components": values}
    search = GridSearchCV(pipeline, grid, cv=2, scoring=scoring, error_score="raise")
    search.fit(X[:80])
    best = search.best_estimator_[-1]
    assert best.n_components in values and np.isfinite(search.cv_results_["mean_test_score"]).all()
    # the scores are those of a fit by hand
    scaler = StandardScaler().fit(X[40:80])
    own = clone(estimator).set_params(n_components=2).fit(scaler.transform(X[40:80]))
    by_hand = own.score(scaler.transform(X[:40])) if scoring is None else squared_error((scaler, own), X[:40])
    np.testing.assert_allclose(search.cv_results_["split0_test_score"][1], by_hand, rtol=1e-12)
    np.testing.assert_allclose(
        search.score(X[:80]),
        best.score(StandardScaler().fit_transform(X[:80])) if scoring is None else
        squared_error(search.best_estimator_, X[:80]),
    )


def test_grid_search_with_gaps():
    x = np.where(np.random.default_rng(0).random(X.shape) < 0.1, np.nan, X)
    fa = FactorAnalysis(missing="marginalise", tol=1e-4)
    search = GridSearchCV(fa, {"n_components": [1, 2]}, cv=3).fit(x)
    assert search.best_params_ == {"n_components": 2} and np.isfinite(search.best_score_)


# ---- data frames ----------------------------------------------------------------------------------

NAMES = [f"column {d}" for d in range(8)]
FRAME = pd.DataFrame(X[:150], columns=NAMES)


@every
def test_data_frames(estimator):
    model, plain = clone(estimator).fit(FRAME), clone(estimator).fit(X[:150])
    assert list(model.feature_names_in_) == NAMES and not hasattr(plain, "feature_names_in_")
    codes = model.transform(FRAME)
    assert type(codes) is np.ndarray
    np.testing.assert_array_equal(codes, plain.transform(X[:150]))
    np.testing.assert_array_equal(model.transform(X[:150]), codes)
    np.testing.assert_array_equal(plain.transform(FRAME), codes)
    swapped = FRAME[[*NAMES[:6], NAMES[7], NAMES[6]]]
    asked = ["transform", "reconstruct", "bound", "nlml", "infer", "encode", "score", "impute"]
    asked += ["draw", "gaps"]
    for name in asked:
        if hasattr(model, name):
            for wrong in (swapped, FRAME.rename(columns={NAMES[0]: "another"})):
                with pytest.raises(ValueError, match="feature names should match"):
                    getattr(model, name)(wrong)
    if hasattr(model, "denoise"):
        with pytest.raises(ValueError, match="feature names should match"):
            model.denoise(swapped, 0.1)
    assert not hasattr(model.fit(X), "feature_names_in_"), "names of an earlier fit"


@pytest.mark.parametrize("estimator", SMALL[:4], ids=lambda e: type(e).__name__)
def test_data_frames_with_gaps(estimator):
    frame = FRAME.mask(np.random.default_rng(0).random(FRAME.shape) < 0.1)
    assert frame.isna().to_numpy().any()
    with pytest.raises(ValueError, match=r"NaN.*column column \d.*missing='marginalise'"):
        clone(estimator).fit(frame)
    model = clone(estimator).set_params(missing="marginalise")
    if not getattr(estimator, "hidden", ()):
        model.set_params(tol=1e-2)
    model.fit(frame)
    assert list(model.feature_names_in_) == NAMES
    np.testing.assert_array_equal(model.transform(frame), model.transform(frame.to_numpy()))
    whole = model.impute(frame)
    assert np.isfinite(whole).all() and model.score(frame) > model.score(frame * 3)
    np.testing.assert_array_equal(whole[frame.notna()], frame.to_numpy()[frame.notna()])
    with pytest.raises(ValueError, match="feature names should match"):
        model.impute(frame[NAMES[::-1]])
    text = frame.astype(object).fillna("missing")
    with pytest.raises(ValueError, match=r"column 0 \(text, first 'missing'\)"):
        model.transform(text)


def test_columns_of_categories_by_name():
    frame = FRAME[NAMES[:2]].assign(kind=np.digitize(X[:150, 2], [-1, 1]))
    model = VAE(1, hidden=(3,), epochs=3, likelihood=[("gaussian", NAMES[:2]), ("categorical", ["kind"])],
                missing="marginalise").fit(frame.mask(np.random.default_rng(0).random((150, 3)) < 0.2))
    assert list(model.feature_names_in_) == [*NAMES[:2], "kind"]
    assert set(model.decode(np.linspace(-2, 2, 9)[:, None])[:, 2]) <= {0, 1, 2}


# ---- float32 in, float32 out ----------------------------------------------------------------------

NARROW = X[:60].astype("float32")


def spoken(model, x):
    """Everything that a fitted model answers with arrays, by name."""
    answers = {"transform": model.transform(x)}
    if hasattr(model, "decode"):
        z = answers["transform"]
        answers |= {"decode": model.decode(z), "reconstruct": model.reconstruct(x),
                    "interpolate": model.interpolate(x[0], x[1])}
    if hasattr(model, "nlml"):
        values = model.nlml(x)
        answers |= {"bound": model.bound(x), "score_samples": model.score_samples(x)}
        answers["nlml"] = values.values if hasattr(values, "values") else values
    if hasattr(model, "gaps"):
        answers |= {f"gaps.{f}": v for f, v in model.gaps(x)._asdict().items() if f != "method"}
        for method, options in (("importance", {"n_samples": 20}), ("prior", {"n_samples": 20}), ("grid", {}),
                                ("laplace", {})):
            if method != "grid" or getattr(model, "hidden", ()):
                answers[f"nlml {method}"] = model.nlml(x, method, **options).values
    if hasattr(model, "kl_to_posterior"):
        answers["kl_to_posterior"] = model.kl_to_posterior(x)
    if hasattr(model, "impute"):
        gaps = np.where(np.random.default_rng(0).random(x.shape) < 0.1, np.float32("nan"), x)
        answers["impute"] = model.impute(gaps)
    if hasattr(model, "denoise"):
        answers["denoise"] = model.denoise(x, 0.1)
    if hasattr(model, "sample"):
        answers["sample"] = model.sample(3, random_state=0)
    for name in ("infer", "encode", "refine"):
        if hasattr(model, name):
            answers[name] = getattr(model, name)(x)
    for name in ("noise_variance_", "components_", "mean_", "phi_", "loadings_"):
        if hasattr(model, name):
            answers[name] = getattr(model, name)
    return answers


IN_DOUBLE = {
    "gaps.nlml", "gaps.q_full", "gaps.q_optimal", "gaps.q_used", "gaps.nlml_error",
    "gaps.approximation_error", "gaps.amortisation_error", "gaps.gradient_norm", "gaps.phi_optimal",
    "gaps.phi_full", "kl_to_posterior", "nlml grid", "nlml laplace",
}                                                                  # certified, so computed in float64


FLOAT32 = [
    FactorAnalysis(2, tol=1e-4),
    FactorAnalysis(2, tol=1e-4, missing="marginalise"),
    VariationalEM(2, hidden=(), tol=1e-3),
    VariationalEM(1, hidden=(4,), epochs=2, missing="marginalise"),
    VariationalEM(1, hidden=(4,), epochs=2),
    VAE(1, hidden=(4,), epochs=3),
    VAE(1, hidden=(4,), epochs=3, likelihood="gaussian-predicted", missing="marginalise"),
    Autoencoder(1, hidden=(4,), epochs=3),
    Autoencoder(1, hidden=(4,), epochs=3, noise_variance=0.1),
    GaussianMixture(2, tol=1e-3),
    MixtureOfFactorAnalysers(2, n_latent=1, tol=1e-3),
    MixtureOfFactorAnalysers(2, n_latent=1, tol=1e-3, noise="own"),
]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("estimator", FLOAT32, ids=repr)
def test_float32_stays_float32(estimator):
    found = spoken(clone(estimator).fit(NARROW), NARROW)
    assert [name for name, v in found.items() if v.dtype != np.float32 and name not in IN_DOUBLE] == []
    wide = spoken(clone(estimator).fit(NARROW.astype("float64")), NARROW.astype("float64"))
    assert wide.keys() == found.keys()
    assert [name for name, v in wide.items() if v.dtype != np.float64] == []


@pytest.mark.parametrize("estimator", [PrincipalComponents(2), LinearProbe()], ids=repr)
def test_what_computes_in_float64_says_so(estimator):
    if isinstance(estimator, LinearProbe):
        labels = (X[:60, 0] > X[:, 0].mean()).astype(int)
        assert estimator.fit(NARROW, labels).predict_log_proba(NARROW).dtype == np.float64
    else:
        assert {v.dtype for v in spoken(estimator.fit(NARROW), NARROW).values()} == {np.dtype("float64")}
