"""Draws from the posterior, and multiple imputation: held against dense normal distributions, sums over a
grid of z, and the share of hidden entries that intervals of draws hold."""

import functools

import numpy as np
import pytest
from scipy import stats

from teachvae import FactorAnalysis, VAE, VariationalEM, datasets, draws, linear_gaussian
from teachvae.arrays.rows import resample
from teachvae.evaluation.nlml import FewDrawsWarning
from teachvae.posteriors.nodes import sigma_points

pytestmark = pytest.mark.short                                   # most fits here end early on purpose

D, K = 6, 2
X = datasets.linear_gaussian(n_cases=120, n_visible=D, n_latent=K).x
HOLES = np.where(np.random.default_rng(1).random(X.shape) < 0.25, np.nan, X)
HOLES[0] = np.nan                                                  # nothing of it was observed


def holes_in(x, rng, share=0.25):
    return np.where(rng.random(x.shape) < share, np.nan, x)


@functools.cache
def linear(missing="error"):
    return FactorAnalysis(K, missing=missing, tol=1e-6).fit(X if missing == "error" else HOLES)


@functools.cache
def curved(route="VAE", missing="error"):
    """K = 1 and a decoder that bends, on few and noisy columns, so that posteriors are not normal."""
    rng = np.random.default_rng(2)
    z = rng.normal(size=(200, 1))
    x = np.hstack([np.tanh(2 * z), z**2, np.sin(2 * z)]) + 0.4 * rng.normal(size=(200, 3))
    x = x if missing == "error" else holes_in(x, np.random.default_rng(4))
    if route == "VAE":
        return VAE(1, hidden=(8,), epochs=60, batch_size=50, missing=missing).fit(x), x
    return VariationalEM(1, hidden=(8,), epochs=10, missing=missing).fit(x), x


def dense(model, row):
    """Mean and covariance of z, and of the missing entries, given what row (D,) has: blocks of one normal."""
    W, b, psi = linear_gaussian.parameters(model.model_, model.theta_)
    o = ~np.isnan(row)
    whole = np.block([[W.T @ W + np.diag(psi), W.T], [W, np.eye(len(W))]])
    seen = np.concatenate([o, np.zeros(len(W), bool)])
    gain = np.linalg.solve(whole[np.ix_(seen, seen)], whole[np.ix_(seen, ~seen)]).T
    mean = np.concatenate([b, np.zeros(len(W))])[~seen] + gain @ (row[o] - b[o])
    covariance = whole[np.ix_(~seen, ~seen)] - gain @ whole[np.ix_(seen, ~seen)]
    n = int((~o).sum())
    return mean[n:], covariance[n:, n:], mean[:n], covariance[:n, :n]


def grid_posterior(model, x, z):
    """p(z|x_n) on the lattice z (G,), (N, G), weights that sum to 1."""
    z = z[:, None, None] * np.ones((1, len(x), 1))
    log_p = model.model_.log_joint(model.theta_, model.model_input(x), z)
    p = np.exp(log_p - log_p.max(axis=0))
    return (p / p.sum(axis=0)).T


# ---- z ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["error", "marginalise"])
def test_7_19_exact_draws_have_the_posteriors_mean_and_covariance(missing):
    """On sigma points in place of random η both moments are exact."""
    model, x = linear(missing), (X if missing == "error" else HOLES)[:8]
    eta, _ = sigma_points(K)
    eta = eta * np.ones((1, len(x), 1))
    z = draws.exact(model.model_, model.theta_, model.model_input(x), eta)
    for n, row in enumerate(x):
        mean, covariance, _, _ = dense(model, row)
        np.testing.assert_allclose(z[:, n].mean(axis=0), mean, atol=1e-10)
        np.testing.assert_allclose(np.cov(z[:, n].T, bias=True), covariance, atol=1e-10)


@pytest.mark.parametrize("missing", ["error", "marginalise"])
@pytest.mark.parametrize("method", ["exact", "q", "importance"])
def test_draws_of_a_linear_model_are_the_posteriors_by_every_method(method, missing):
    """Each latent variable's draws against its normal distribution; q of these loadings is the posterior."""
    model, x = linear(missing), (X if missing == "error" else HOLES)[:4]
    found = model.draw(x, 800, method, n_candidates=8000, random_state=0)
    assert found.method == method and found.z.shape == (800, 4, K) and type(found.z) is np.ndarray
    size = found.effective_sample_size
    if method == "importance":
        np.testing.assert_allclose(size, 8000, rtol=1e-6)          # all weights are p(x_n)
    else:
        assert size is None
    for n, row in enumerate(x):
        mean, covariance, _, _ = dense(model, row)
        for k in range(K):
            normal = stats.norm(mean[k], np.sqrt(covariance[k, k]))
            assert stats.kstest(found.z[:, n, k], normal.cdf).pvalue > 1e-3
        # Fisher's z of their correlation
        r, rho = np.corrcoef(found.z[:, n].T)[0, 1], covariance[0, 1] / np.sqrt(np.prod(np.diag(covariance)))
        assert abs(np.arctanh(r) - np.arctanh(rho)) < 4 / np.sqrt(797)


def test_without_a_method_draws_are_exact_where_they_can_be():
    assert linear().draw(X[:2], random_state=0).method == "exact"
    assert curved()[0].draw(curved()[1][:2], random_state=0).method == "importance"


def test_a_wrong_q_is_put_right_by_its_weights():
    """A q three times as wide and beside it: importance sampling gives the posterior, q does not."""
    model, x = linear(), X[:3]
    phi = model.infer(x)
    phi = phi + np.where(np.arange(2 * K) < K, 0.5 * np.exp(phi[:, K:]).repeat(2, axis=1), np.log(3))
    how = {"phi": phi, "n_candidates": 20000, "random_state": 0}
    found = {method: model.draw(x, 600, method, **how) for method in ("importance", "q")}
    for n, row in enumerate(x):
        mean, covariance, _, _ = dense(model, row)
        for k in range(K):
            cdf = stats.norm(mean[k], np.sqrt(covariance[k, k])).cdf
            assert stats.kstest(found["importance"].z[:, n, k], cdf).pvalue > 1e-3
            assert stats.kstest(found["q"].z[:, n, k], cdf).pvalue < 1e-9
    # The weights' second moment in closed form: E[w²]/E[w]² of two normals, (7.7), in each of K dimensions.
    variance = 1 / (2 - 1 / 9)                                     # of p²/q, in units of the posterior's
    second = 3 * np.sqrt(variance) * np.exp(0.5 * 0.5**2 / 9 + 0.5 * variance * (0.5 / 9) ** 2)
    np.testing.assert_allclose(found["importance"].effective_sample_size / 20000, second**-K, rtol=0.05)


@pytest.mark.parametrize("route, missing", [
    ("VAE", "error"), ("VAE", "marginalise"), ("VariationalEM", "error"), ("VariationalEM", "marginalise"),
])
def test_7_20_draws_of_a_model_that_bends_are_the_posteriors(route, missing):
    """Against the posterior on a grid, all cases' probability integral transforms at once; q itself fails.
    Few draws of many candidates, for those of one data case share them.
    """
    model, x = curved(route, missing)
    x, z = x[:60], np.linspace(-7, 7, 2801)
    up_to = np.cumsum(grid_posterior(model, x, z), axis=1)

    def transforms(method, n_draws):
        found = model.draw(x, n_draws, method, n_candidates=4000, random_state=0).z
        return np.concatenate([np.interp(found[:, n, 0], z, up_to[n]) for n in range(len(x))])

    assert stats.kstest(transforms("importance", 10), "uniform").pvalue > 0.01
    if route == "VAE":
        assert stats.kstest(transforms("q", 40), "uniform").pvalue < 1e-4


def test_candidates_come_from_the_models_q_after_twenty_e_steps():
    model, x = curved()
    own = model.draw(x[:30], 5, "importance", random_state=0)
    refined = model.draw(x[:30], 5, "importance", phi=model.refine(x[:30], 20), random_state=0)
    np.testing.assert_array_equal(own.z, refined.z)
    encoded = model.draw(x[:30], 5, "importance", phi=model.encode(x[:30]), random_state=0)
    assert own.effective_sample_size.mean() > encoded.effective_sample_size.mean() + 50


def test_resampling_takes_each_candidate_as_often_as_its_weight_says():
    w = np.array([[1.0, 0.0], [0.0, 3.0], [5.0, 0.0], [2.0, 1.0]])  # (S, N)
    candidates = np.arange(8.0).reshape(4, 2, 1)
    u = (np.arange(800)[:, None] + 0.5) / 800 * np.ones((1, 2))
    found = resample(candidates, w, u)
    for n in range(2):
        values, counts = np.unique(found[:, n, 0], return_counts=True)
        taken = w[:, n] > 0
        np.testing.assert_array_equal(values, candidates[taken, n, 0])
        np.testing.assert_array_equal(counts, 800 * w[taken, n] / w[:, n].sum())
    for total in np.random.default_rng(0).uniform(0.5, 2, 200):    # neither the first nor the last has weight
        w = total * np.array([[0.0], [0.3], [0.7], [0.0]])
        ends = resample(candidates[:, :1], w, np.array([[0.0], [1 - 2.0**-53]]))
        np.testing.assert_array_equal(ends[:, 0, 0], [2, 4])


def test_what_a_data_case_draws_is_its_own():
    """It does not depend on the others, and those of two cases alike are independent."""
    model, (vae, x) = linear(), curved()
    for m, data, method in ((model, X, "exact"), (vae, x, "q"), (vae, x, "importance")):
        all_, few = (m.draw(data[:n], 3, method, random_state=5).z for n in (40, 7))
        np.testing.assert_allclose(all_[:, :7], few, rtol=0, atol=1e-9)
    same = np.repeat(X[:1], 400, axis=0)
    z = model.draw(same, 2, random_state=0).z[:, :, 0]
    assert len(np.unique(z)) == 800
    for a, b in ((z[0], z[1]), (z[0, ::2], z[0, 1::2])):
        assert stats.pearsonr(a, b).pvalue > 1e-3


def test_random_states():
    model = linear()
    one, again, other = (model.draw(X[:3], random_state=s).z for s in (3, 3, 4))
    np.testing.assert_array_equal(one, again)
    assert (one != other).all()
    rng = np.random.default_rng(3)
    first, second = model.draw(X[:3], random_state=rng).z, model.draw(X[:3], random_state=rng).z
    np.testing.assert_array_equal(first, one)
    assert (first != second).all()
    assert (model.draw(X[:3]).z != model.draw(X[:3]).z).all()


def test_a_few_candidates_that_carry_it_all_are_named():
    model = linear()
    phi = model.infer(X[:5])
    phi[3, :K] += 12 * np.exp(phi[3, K:])                          # a q beside the posterior
    said = r"1 of 5 data cases .* of 200 candidates.*\(rows 3\).*n_candidates"
    with pytest.warns(FewDrawsWarning, match=said):
        found = model.draw(X[:5], 20, "importance", phi=phi, n_candidates=200, random_state=0)
    assert found.effective_sample_size[3] < 10 < np.delete(found.effective_sample_size, 3).min()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_draws_have_the_models_precision(dtype):
    model = FactorAnalysis(K, dtype=dtype, tol=1e-4).fit(X)
    for method in ("exact", "importance", "q"):
        assert model.draw(X[:2], 2, method, random_state=0).z.dtype == dtype


# ---- imputation ------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["error", "marginalise"])
def test_7_21_imputations_are_the_conditional_normal_of_the_dense_model(missing):
    """Mean, covariance and kind of all missing entries of a row at once, by Mahalanobis distances."""
    model, x = linear(missing), HOLES[:5]
    found = model.impute(x, 1000, random_state=0)
    assert found.shape == (1000, 5, D)
    for n, row in enumerate(x):
        gap = np.isnan(row)
        np.testing.assert_array_equal(found[:, n, ~gap], np.tile(row[~gap], (1000, 1)))
        if gap.any():
            _, _, mean, covariance = dense(model, row)
            u = np.linalg.solve(np.linalg.cholesky(covariance), (found[:, n, gap] - mean).T)
            assert all(stats.kstest(one, "norm").pvalue > 1e-3 for one in u)
            assert stats.kstest((u**2).sum(axis=0), stats.chi2(gap.sum()).cdf).pvalue > 1e-3


def test_the_noise_of_an_entry_is_not_that_of_its_z():
    """One draw each for many rows alike: their spread is that of the conditional. K columns are missing, the
    first, whose noise would be η if both came from one generator.
    """
    model, row = linear(), np.where(np.arange(D) < K, np.nan, X[1])
    found = model.impute(np.tile(row, (1500, 1)), 1, random_state=0)[0][:, np.isnan(row)]
    _, _, mean, covariance = dense(model, row)
    u = np.linalg.solve(np.linalg.cholesky(covariance), (found - mean).T)
    assert all(stats.kstest(one, "norm").pvalue > 1e-3 for one in u)
    assert (np.abs((u**2).mean(axis=1) - 1) < 4 * np.sqrt(2 / 1500)).all()


COVERED = 36 / 40  # of 39 draws and the truth, exchangeable, the truth is none of the 2 first or last


def coverage(model, rng, n_cases):
    """The share of single hidden entries of data that the model made that lie inside of their interval."""
    x = model.sample(n_cases, random_state=rng)
    hidden = np.arange(n_cases), rng.integers(x.shape[1], size=n_cases)
    holes = x.copy()
    holes[hidden] = np.nan
    ordered = np.sort(model.impute(holes, 39, random_state=rng)[:, *hidden], axis=0)
    truth = x[hidden]
    return np.mean((truth > ordered[1]) & (truth < ordered[-2]))


@pytest.mark.parametrize("name, n_cases", [
    ("factor analysis", 2000), ("VAE", 400), pytest.param("VAE", 3000, marks=pytest.mark.thorough),
    pytest.param("VariationalEM", 2000, marks=pytest.mark.thorough),
])
def test_intervals_of_imputations_hold_as_many_entries_as_they_say(name, n_cases):
    model = linear() if name == "factor analysis" else curved(name)[0]
    covered = coverage(model, np.random.default_rng(7), n_cases)
    assert abs(covered - COVERED) < 3 * np.sqrt(COVERED * (1 - COVERED) / n_cases)


MIXED = [("gaussian", [0]), ("poisson", [1]), ("bernoulli", [2]), ("categorical", [3])]


@functools.cache
def table(missing):
    rng = np.random.default_rng(8)
    z = rng.normal(size=300)
    x = np.column_stack([
        z + 0.5 * rng.normal(size=300),
        rng.poisson(np.exp(0.8 * z)),
        rng.random(300) < 1 / (1 + np.exp(-2 * z)),
        np.array([1.0, 2.5, 7.0])[np.clip(np.rint(z + rng.normal(size=300)), -1, 1).astype(int) + 1],
        np.full(300, 3.0),
    ])
    kinds = [*MIXED, ("student-t", [4])]
    holed = x if missing == "error" else holes_in(x, rng, 0.2)
    with pytest.warns(UserWarning, match="constant columns are set aside"):
        model = VAE(1, hidden=(6,), likelihood=kinds, epochs=40, constant="drop", missing=missing).fit(holed)
    return model, x


@pytest.mark.parametrize("missing", ["error", "marginalise"])
def test_imputations_of_a_mixed_table_have_the_probabilities_of_the_model(missing):
    """Counts are counts, categories categories, constants constant; frequencies are those of a sum over z."""
    model, x = table(missing)
    few = x[:4].copy()
    few[0, 1] = few[1, 2] = few[2, 3] = few[3, 0] = few[3, 4] = np.nan
    found = model.impute(few, 2000, n_candidates=20000, random_state=0)
    assert (found[:, :, 4] == 3).all()
    np.testing.assert_array_equal(found[:, 0, [0, 2, 3]], np.tile(x[0, [0, 2, 3]], (2000, 1)))
    z = np.linspace(-7, 7, 1401)
    f, _ = model.model_.f(model.theta_, z[:, None])
    likelihood, params = model.model_.likelihood, model.theta_["likelihood"]
    means = likelihood.mean(params, f)                             # (1401, 6); of categories probabilities
    v = model.columns_.encode(few)
    f = f[:, None, :] * np.ones((1, 4, 1))
    log_p, _ = likelihood.forward(params, f, np.nan_to_num(v), (~np.isnan(v)).astype(float))
    p = np.exp(log_p - 0.5 * z[:, None] ** 2)
    p /= p.sum(axis=0)                                             # (G, 4)
    n = 2000
    count = found[:, 0, 1]
    assert (count == np.floor(count)).all() and (count >= 0).all()
    for value in (0, 1, 2):
        share = p[:, 0] @ stats.poisson(means[:, 1]).pmf(value)
        assert abs(np.mean(count == value) - share) < 4 * np.sqrt(share * (1 - share) / n)
    share = p[:, 1] @ means[:, 2]
    assert set(found[:, 1, 2]) <= {0.0, 1.0}
    assert abs(found[:, 1, 2].mean() - share) < 4 * np.sqrt(share * (1 - share) / n)
    for i, level in enumerate((1.0, 2.5, 7.0)):
        share = p[:, 2] @ means[:, 3 + i]
        assert abs(np.mean(found[:, 2, 3] == level) - share) < 4 * np.sqrt(share * (1 - share) / n)


def test_imputed_by_default_is_still_the_mean():
    model = linear("marginalise")
    mean, tables = model.impute(HOLES[:20]), model.impute(HOLES[:20], 400, random_state=0)
    assert mean.shape == (20, D)
    off = (tables.mean(axis=0) - mean) / (tables.std(axis=0) / 20 + 1e-300)
    assert np.abs(off[np.isnan(HOLES[:20])]).max() < 4.5


def test_what_is_imputed_in_a_row_is_its_own():
    """Neither other rows nor where blocks end change it, whatever kinds of noise its columns take."""
    model, x = table("marginalise")
    holes = holes_in(x[:30], np.random.default_rng(9), 0.3)
    all_, few = (model.impute(holes[:n], 3, random_state=2) for n in (30, 7))
    np.testing.assert_allclose(all_[:, :7], few, rtol=0, atol=1e-9)
    again, other = (model.impute(holes[:7], 3, random_state=seed) for seed in (2, 3))
    np.testing.assert_array_equal(few, again)
    assert (few != other).any() and (few[0] != few[1]).any()
    rows = model.impute(np.repeat(holes[:1], 50, axis=0), 2, random_state=0)
    assert len(np.unique(rows[..., np.isnan(holes[0])])) > 2


def test_imputations_far_from_the_origin_are_where_the_data_are():
    model, far = linear("marginalise"), FactorAnalysis(K, missing="marginalise", tol=1e-6).fit(HOLES + 1e6)
    near = model.impute(HOLES[:9], 3, random_state=0)
    np.testing.assert_allclose(far.impute(HOLES[:9] + 1e6, 3, random_state=0) - 1e6, near, atol=1e-3)
