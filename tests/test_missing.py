"""Missing entries: integrated out in fit and afterwards, and imputed.

What is exact is held against a dense normal distribution of the observed entries alone, row by row;
what is neural against sums over a fine grid of z, with densities written out here or SciPy's.
"""

import functools
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, special, stats

from teachvae import (
    Autoencoder, FactorAnalysis, GaussianMixture, VAE, VariationalEM, datasets, infer, linear_gaussian
)
from teachvae.arrays import rows
from teachvae.arrays.observed import Observed
from teachvae.inference import em
from teachvae.networks.convergence import ConvergenceWarning

pytestmark = pytest.mark.short                                   # most fits here end early on purpose

N, D, K = 80, 6, 2


def linear_data():
    """Two factors that each column has its share of, so that EM has no Heywood case to creep to."""
    rng = np.random.default_rng(0)
    W = np.array([[1.2, 1.0, 1.1, 1.0, 0.9, 1.3], [1.1, -1.0, 1.2, -1.0, -0.9, 1.4]])
    noise = rng.uniform(0.6, 0.9, D) * rng.standard_normal((N, D))
    return rng.standard_normal((N, K)) @ W + noise + rng.uniform(-2, 2, D)


WHOLE = linear_data()
NOISES = ["diagonal", "isotropic", 0.7]


def close(a, b, atol):
    np.testing.assert_allclose(a, b, rtol=0, atol=atol)


def with_gaps(x, share=0.25, seed=0):
    """x with about that share of entries missing at random."""
    x = np.array(x, dtype=float if x.dtype != np.float32 else x.dtype)
    x[np.random.default_rng(seed).random(x.shape) < share] = np.nan
    return x


GAPS = with_gaps(WHOLE)
GAPS[3], GAPS[4, 1:], GAPS[5] = np.nan, np.nan, WHOLE[5]           # nothing, one entry, everything


def dense(W, b, psi, x):
    """−log p of what was observed (N,), and E[x | what was observed] (N, D), by dense normals."""
    S, values, means = W.T @ W + np.diag(psi), [], []
    for row in x:
        o = ~np.isnan(row)
        mean = b.copy()
        if o.any():
            values.append(-stats.multivariate_normal(b[o], S[np.ix_(o, o)]).logpdf(row[o]))
            mean += S[:, o] @ np.linalg.solve(S[np.ix_(o, o)], row[o] - b[o])
        else:
            values.append(0.0)
        means.append(np.where(o, row, mean))
    return np.array(values), np.array(means)


def linear_parameters(model):
    layer = model.theta_["decoder"][0]
    return layer["W"], layer["b"], model.noise_variance_


@functools.cache
def fitted(noise="diagonal", tol=1e-13):
    return FactorAnalysis(K, noise=noise, missing="marginalise", tol=tol).fit(GAPS)


# ---- factor analysis: the density of what was observed --------------------------------------------


def test_the_data_of_these_tests_hold_every_kind_of_row():
    seen = (~np.isnan(GAPS)).sum(axis=1)
    assert {0, 1, 3, 4, 5, D} <= set(seen) and len({row.tobytes() for row in np.isnan(GAPS)}) > 12


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("x", [GAPS, np.tile(GAPS[10:11], (6, 1)), WHOLE], ids=["many", "one", "none"])
def test_nlml_is_that_of_the_observed_entries(noise, x):
    fa = fitted(noise)
    W, b, psi = linear_parameters(fa)
    values, _ = dense(W, b, psi, x)
    close(fa.nlml(x).values, values, 1e-10)
    assert fa.nlml(x).method == "exact"
    close(fa.bound(x), values, 1e-10)                              # the posterior is exact
    close(fa.score_samples(x), -values, 1e-10)
    for row, value in zip(x, values):                              # the model without those columns
        o = ~np.isnan(row)
        if o.any():
            close(linear_gaussian.nlml(W[:, o], b[o], psi[o], row[None, o])[0], value, 1e-10)
    ledger = fa.gaps(x)
    close(ledger.nlml, values, 1e-10)
    close(ledger.q_used, values, 1e-10)
    close(fa.kl_to_posterior(x), 0, 1e-10)


@pytest.mark.parametrize("noise", NOISES)
def test_posterior_of_each_row_is_that_of_its_columns(noise):
    fa = fitted(noise)
    W, b, psi = linear_parameters(fa)
    phi = fa.infer(GAPS)
    assert phi.shape == (N, K + K * (K + 1) // 2)
    for n, row in enumerate(GAPS):
        o = ~np.isnan(row)
        joint = W[:, o].T @ W[:, o] + np.diag(psi[o])
        gain = W[:, o] @ np.linalg.inv(joint) if o.any() else np.zeros((K, 0))
        close(fa.transform(GAPS)[n], gain @ (row[o] - b[o]), 1e-10)
        close(fa.model_.posterior.covariance(phi)[n], np.eye(K) - gain @ W[:, o].T, 1e-10)


def test_a_row_of_nothing_has_the_prior_for_a_posterior():
    nothing = np.full((2, D), np.nan)
    fa = fitted()
    assert (fa.nlml(nothing).values == 0).all() and (fa.bound(nothing) == 0).all()
    assert (fa.transform(nothing) == 0).all()
    close(fa.model_.posterior.covariance(fa.infer(nothing)), np.array([np.eye(K)] * 2), 1e-15)
    close(fa.impute(nothing), np.array([fa.mean_] * 2), 1e-15)


def test_what_stands_under_a_gap_says_nothing():
    fa = FactorAnalysis(K, missing="marginalise", tol=1e-6).fit(GAPS)
    em = VariationalEM(1, hidden=(3,), epochs=2, missing="marginalise").fit(GAPS)
    asked = [lambda m: m.nlml(GAPS, "importance", n_samples=20).values, lambda m: m.bound(GAPS[:20]),
             lambda m: m.transform(GAPS), lambda m: m.impute(GAPS), lambda m: m.denoise(GAPS, 0.1)]
    before = [ask(m) for m in (fa, em) for ask in asked]
    fa.columns_.fill = em.columns_.fill = np.arange(1.0, D + 1) * 37
    after = [ask(m) for m in (fa, em) for ask in asked]
    for a, b in zip(before, after):
        close(a, b, 1e-6)
    close(before[0], after[0], 1e-12)                              # closed forms: rounding alone


@pytest.mark.parametrize("noise", NOISES)
def test_rows_are_told_apart_by_their_pattern_alone(noise):
    fa = fitted(noise)
    order = np.random.default_rng(1).permutation(N)
    close(fa.nlml(GAPS[order]).values, fa.nlml(GAPS).values[order], 1e-12)
    close(fa.transform(GAPS[order]), fa.transform(GAPS)[order], 1e-12)
    close([fa.nlml(row[None]).values[0] for row in GAPS], fa.nlml(GAPS).values, 1e-12)
    again = FactorAnalysis(K, noise=noise, missing="marginalise", tol=1e-13).fit(GAPS[order])
    close(again.nlml(GAPS).values, fa.nlml(GAPS).values, 1e-5)


# ---- factor analysis: the maximum of the observed-data likelihood ---------------------------------


def objective(flat, x, noise):
    """Mean nlml of the observed entries and its gradient in (W, b, log ψ), by dense D × D matrices."""
    W, b = flat[: K * D].reshape(K, D), flat[K * D : K * D + D]
    psi = np.full(D, noise) if isinstance(noise, float) else np.exp(flat[K * D + D :]) * np.ones(D)
    S, value, dS, db = W.T @ W + np.diag(psi), 0.0, np.zeros((D, D)), np.zeros(D)
    for row in x:
        o = np.flatnonzero(~np.isnan(row))
        if len(o):
            P, r = np.linalg.inv(S[np.ix_(o, o)]), row[o] - b[o]
            value += 0.5 * (len(o) * np.log(2 * np.pi) - np.linalg.slogdet(P)[1] + r @ P @ r)
            dS[np.ix_(o, o)] += 0.5 * (P - np.outer(P @ r, P @ r))
            db[o] -= P @ r
    dpsi = psi * np.diag(dS)
    dpsi = {"diagonal": dpsi, "isotropic": [dpsi.sum()]}.get(noise, [])
    return value / len(x), np.concatenate([2 * (W @ dS).ravel(), db, dpsi]) / len(x)


def flat_parameters(fa, noise):
    W, b, psi = linear_parameters(fa)
    own = {"diagonal": np.log(psi), "isotropic": np.log(psi[:1])}.get(noise, [])
    return np.concatenate([W.ravel(), b, own])


@pytest.mark.parametrize("noise", NOISES)
def test_em_ends_at_a_maximum_of_the_observed_data_likelihood(noise):
    fa = fitted(noise)
    start = flat_parameters(fa, noise)
    rng = np.random.default_rng(0)
    there = start + 0.1 * rng.standard_normal(len(start))
    wrong = optimize.check_grad(
        lambda p: objective(p, GAPS, noise)[0], lambda p: objective(p, GAPS, noise)[1], there
    )
    assert wrong < 1e-5, "the gradient of this file"
    value, gradient = objective(start, GAPS, noise)
    close(value, -fa.score(GAPS), 1e-10)
    assert np.abs(gradient).max() < 3e-5
    found = optimize.minimize(objective, start, (GAPS, noise), jac=True, method="BFGS")
    assert value - found.fun < 1e-8
    others = [0.5 * rng.standard_normal(len(start)) for _ in range(4)]
    best = min(optimize.minimize(objective, other, (GAPS, noise), jac=True).fun for other in others)
    assert value < best + 1e-6                                     # nor from elsewhere


@pytest.mark.parametrize("noise", NOISES)
def test_em_never_rises_and_its_path_is_the_mean_nlml(noise):
    fa = fitted(noise)
    assert fa.converged_ and fa.n_iter_ == len(fa.nlml_path_) - 1 > 3
    assert np.diff(fa.nlml_path_).max() <= 1e-13
    close(fa.nlml_path_[-1], fa.nlml(GAPS).values.mean(), 1e-10)
    assert fa.moments_ is None and fa.n_cases_ == N


@pytest.mark.parametrize("noise", NOISES)
def test_complete_data_make_the_complete_fit(noise):
    plain = FactorAnalysis(K, noise=noise, tol=1e-12).fit(WHOLE)
    fa = FactorAnalysis(K, noise=noise, missing="marginalise", tol=1e-12).fit(WHOLE)
    np.testing.assert_array_equal(fa.components_, plain.components_)
    np.testing.assert_array_equal(fa.noise_variance_, plain.noise_variance_)
    close(fa.nlml(WHOLE).values, plain.nlml(WHOLE).values, 1e-10)
    close(fa.transform(WHOLE), plain.transform(WHOLE), 1e-10)
    close(fa.nlml(GAPS).values, dense(*linear_parameters(plain), GAPS)[0], 1e-10)
    # and EM for incomplete data, run on complete ones, comes to the same end
    x = WHOLE - WHOLE.mean(axis=0)
    gaussian, data = fa.model_.likelihood, Observed(x, np.ones_like(x))
    problem = em.Incomplete(data, gaussian, gaussian.lower_bounds(x.var(axis=0), 1e-6))
    noises = [np.random.default_rng(0).standard_normal((D, K))]
    found = em.fit(problem, K, noises, tol=1e-12, every=False, max_iter=20000)
    W, b, psi = found.p
    assert found.converged
    close(b, 0, 1e-7)
    close(found.path[-1], -plain.score(WHOLE), 1e-9)
    close(W.T @ W + np.diag(psi), plain.get_covariance(), 2e-4)


def test_rows_without_entries_change_nothing():
    fa = fitted()
    more = np.vstack([GAPS, np.full((40, D), np.nan)])
    more = FactorAnalysis(K, missing="marginalise", tol=1e-13).fit(more)
    close(more.nlml(GAPS).values, fa.nlml(GAPS).values, 1e-5)


def test_blocks_of_rows_add_up(monkeypatch):
    whole = FactorAnalysis(K, missing="marginalise", tol=1e-6).fit(GAPS)
    monkeypatch.setattr(rows, "CASES", 7)
    parts = FactorAnalysis(K, missing="marginalise", tol=1e-6).fit(GAPS)
    close(parts.nlml_path_, whole.nlml_path_, 1e-12)
    close(parts.components_, whole.components_, 1e-10)


def test_the_floor_of_the_noise_is_a_share_of_what_was_observed():
    x = with_gaps(WHOLE, 0.4, seed=3)
    with pytest.warns(UserWarning, match="Heywood"):
        fa = FactorAnalysis(K, missing="marginalise", min_noise=0.9, tol=1e-6).fit(x)
    floor = 0.9 * np.nanvar(x, axis=0)
    assert len(fa.heywood_) and (fa.noise_variance_ >= floor * (1 - 1e-12)).all()
    np.testing.assert_allclose(fa.noise_variance_[fa.heywood_], floor[fa.heywood_], rtol=1e-10)


@pytest.mark.parametrize("make", [
    lambda: FactorAnalysis(K, missing="marginalise", tol=1e-10),
    lambda: VariationalEM(K, hidden=(), posterior="full", missing="marginalise", tol=1e-10),
], ids=["EM", "variational EM"])
def test_far_from_the_origin(make):
    near, far = make().fit(GAPS), make().fit(GAPS + 1e6)
    close(far.nlml(GAPS + 1e6).values, near.nlml(GAPS).values, 1e-5)
    close(far.transform(GAPS + 1e6), near.transform(GAPS), 1e-5)
    close(far.impute(GAPS + 1e6) - 1e6, near.impute(GAPS), 1e-5)
    close(far.denoise(GAPS + 1e6, 0.3) - 1e6, near.denoise(GAPS, 0.3), 1e-5)


@pytest.mark.parametrize("make", [
    lambda **o: FactorAnalysis(K, missing="marginalise", tol=1e-10, **o),
    lambda **o: VariationalEM(K, hidden=(), posterior="full", missing="marginalise", tol=1e-10, **o),
], ids=["EM", "variational EM"])
def test_float32(make):
    x = GAPS.astype("float32")
    narrow, wide = make().fit(x), make().fit(x.astype("float64"))
    for ask in (lambda m, x: m.nlml(x).values, lambda m, x: m.bound(x), lambda m, x: m.transform(x),
                lambda m, x: m.impute(x), lambda m, x: m.denoise(x, 0.3)):
        found = ask(narrow, x)
        assert found.dtype == np.float32
        close(found, ask(wide, x.astype("float64")), 1e-3)
    assert make(dtype="float32").fit(GAPS).noise_variance_.dtype == np.float32


# ---- variational EM with closed forms -------------------------------------------------------------


@functools.cache
def linear_em(posterior="full", noise="diagonal"):
    return VariationalEM(
        K, hidden=(), posterior=posterior, noise=noise, missing="marginalise", tol=1e-12
    ).fit(GAPS)


@pytest.mark.parametrize("noise", NOISES)
def test_full_posteriors_reach_the_optimum_of_factor_analysis(noise):
    em = linear_em("full", noise)
    assert em.converged_ and np.diff(em.q_path_).max() <= 1e-12
    close(em.q_path_[-1], fitted(noise).nlml_path_[-1], 1e-6)
    close(em.bound(GAPS).mean(), em.q_path_[-1], 1e-9)
    close(em.bound(GAPS, phi=em.phi_), em.nlml(GAPS).values, 1e-9)
    close(em.nlml(GAPS).values, dense(*linear_parameters(em), GAPS)[0], 1e-10)
    close(em.transform(GAPS[:9]), em.infer(GAPS)[:9, :K], 1e-12)


def test_diagonal_posteriors_cost_something():
    em = linear_em("diagonal")
    assert np.diff(em.q_path_).max() <= 1e-12
    Q, nlml = em.bound(GAPS), em.nlml(GAPS).values
    assert Q.mean() > fitted().nlml_path_[-1] + 1e-4 and (Q >= nlml - 1e-10).all()
    close(em.kl_to_posterior(GAPS), Q - nlml, 1e-9)
    close(Q.mean(), em.q_path_[-1], 1e-9)
    close(em.gaps(GAPS).q_full, nlml, 1e-9)
    # no other diagonal q of a row is better
    for n in (0, 1, 4, 7):
        one, phi = GAPS[n : n + 1], em.infer(GAPS)[n]
        found = optimize.minimize(lambda p: em.bound(one, phi=p[None])[0], phi + 0.1, tol=1e-10)
        close(found.fun, Q[n], 1e-7)


@pytest.mark.parametrize("posterior", ["diagonal", "full"])
def test_bound_of_any_q_in_closed_form_is_its_expectation(posterior):
    """Against Q on many draws of (1.1) with the densities of SciPy."""
    em = linear_em(posterior)
    rng = np.random.default_rng(0)
    phi = em.infer(GAPS) + 0.3 * rng.standard_normal(em.phi_.shape)
    W, b, psi = linear_parameters(em)
    mean, covariance = em.model_.posterior.mean(phi), em.model_.posterior.covariance(phi)
    for n in (0, 3, 4, 9):
        o = ~np.isnan(GAPS[n])
        m, C = mean[n], covariance[n]
        residual = GAPS[n, o] - b[o] - m @ W[:, o]
        fit = stats.norm.logpdf(residual, 0, np.sqrt(psi[o])).sum()
        fit -= 0.5 * np.trace(C @ (W[:, o] / psi[o]) @ W[:, o].T)
        kl = 0.5 * (np.trace(C) + m @ m - K - np.linalg.slogdet(C)[1])
        close(em.bound(GAPS, phi=phi)[n], kl - fit, 1e-10)


# ---- neural models: a grid over z -----------------------------------------------------------------

Z = np.linspace(-9, 9, 6001)[:, None]
LOG_PRIOR = stats.norm.logpdf(Z[:, 0]) + np.log(Z[1, 0] - Z[0, 0])


def mixed_table():
    """Columns: two of one curve, 0 or 1, counts, three categories."""
    rng = np.random.default_rng(3)
    z = rng.standard_normal(N)
    curve = np.column_stack([np.sin(2 * z), z]) + 0.2 * rng.standard_normal((N, 2))
    bits, counts = rng.random(N) < special.expit(2 * z), rng.poisson(np.exp(0.7 * z + 1))
    kinds = np.array([4.0, 7.0, 11.0])[np.digitize(z + 0.3 * rng.standard_normal(N), [-0.5, 0.5])]
    return np.column_stack([curve, bits, counts, kinds])


TABLE = mixed_table()
KINDS = {"gaussian": [0, 1], "bernoulli": [2], "poisson": [3], "categorical": [4]}
DATA = {
    "gaussian": TABLE[:, :2],
    "student-t": TABLE[:, :2],
    "gaussian-predicted": TABLE[:, :2],
    "bernoulli": (datasets.digits(threshold=8).x[:N, 18:24]).copy(),
    "poisson": TABLE[:, [3, 3]] + np.array([0, 1]),
    "categorical": TABLE[:, [4, 4, 2]],
    "mixed": TABLE,
}


def column_densities(name, model, f, x):
    """log p(x_d|z_g) (G, D) of one row x (D,) of the model's own columns, NaN where not observed."""
    params = model.theta_["likelihood"]
    if name == "gaussian":
        return stats.norm.logpdf(x, f, np.exp(0.5 * params["log_psi"]))
    if name == "student-t":
        return stats.t.logpdf(x, 4, f, np.exp(0.5 * params["log_psi"]))
    if name == "gaussian-predicted":
        return stats.norm.logpdf(x, f[:, :2], np.sqrt(1e-4 + np.exp(f[:, 2:])))
    if name == "bernoulli":
        return x * special.log_expit(f) + (1 - x) * special.log_expit(-f)
    if name == "poisson":
        return np.column_stack(
            [stats.poisson.logpmf(v, np.exp(c)) if v == v else c * np.nan for v, c in zip(x, f.T)]
        )
    if name == "categorical":
        sizes = [len(levels) for levels in model.columns_.levels.values()]
        logs = [special.log_softmax(part, axis=1) for part in np.split(f, np.cumsum(sizes)[:-1], axis=1)]
        picked = [
            np.full(len(f), np.nan) if v != v else logs[d][:, model.columns_.levels[d].tolist().index(v)]
            for d, v in enumerate(x)
        ]
        return np.column_stack(picked)
    normal = stats.norm.logpdf(x[:2], f[:, :2], np.exp(0.5 * params[0]["log_psi"]))
    bits = x[2] * special.log_expit(f[:, 2]) + (1 - x[2]) * special.log_expit(-f[:, 2])
    counts = stats.poisson.logpmf(x[3], np.exp(f[:, 3])) if x[3] == x[3] else bits * np.nan
    logs, levels = special.log_softmax(f[:, 4:], axis=1), model.columns_.levels[4].tolist()
    kinds = logs[:, levels.index(x[4])] if x[4] == x[4] else bits * np.nan
    return np.column_stack([normal, bits, counts, kinds])


def log_joint(name, model, x):
    """log p(x_n, z_g) + log of the grid's step, (N, G), by hand."""
    f, _ = model.model_.decoder.forward(model.theta_["decoder"], Z)
    return np.array([np.nansum(column_densities(name, model, f, row), axis=1) + LOG_PRIOR for row in x])


def spec(name):
    return [(kind, columns) for kind, columns in KINDS.items()] if name == "mixed" else name


@functools.cache
def neural(route, name, missing="marginalise", share=0.3, shift=0.0, posterior="diagonal"):
    options = {"epochs": 4} if route is VariationalEM else {"epochs": 40, "batch_size": 20}
    model = route(1, hidden=(4,), likelihood=spec(name), missing=missing, posterior=posterior, **options)
    x = DATA[name] if missing == "error" else with_gaps(DATA[name], share, seed=1)
    return model.fit(x + shift)


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("route", [VariationalEM, VAE])
def test_bound_lies_above_nlml_by_the_divergence(route, name):
    model, x = neural(route, name), with_gaps(DATA[name], 0.3, seed=2)[:25]
    x[0], x[1] = np.nan, DATA[name][1]
    truth = -special.logsumexp(log_joint(name, model, x), axis=1)
    found = model.nlml(x, "grid")
    assert found.certificate.max() < 1e-5
    close(found.values, truth, 1e-5)
    close(truth[0], 0, 1e-12)
    Q = model.bound(x)
    assert (Q >= truth - 1e-6).all() and Q.mean() > truth.mean()
    close(model.kl_to_posterior(x), Q - truth, 2e-5)
    if route is VariationalEM:
        close(Q[0], 0, 1e-9)


@pytest.mark.parametrize("name", ["gaussian", pytest.param("mixed", marks=pytest.mark.thorough)])
def test_other_roads_to_nlml_with_gaps(name):
    model, x = neural(VariationalEM, name), with_gaps(DATA[name], 0.3, seed=2)[:6]
    truth = -special.logsumexp(log_joint(name, model, x), axis=1)
    for method, options in (("importance", {}), ("prior", {"n_samples": 20000}), ("ais", {})):
        found = model.nlml(x, method, **options)
        assert (np.abs(found.values - truth) < 5 * found.standard_error + 1e-4).all(), method
    assert np.abs(model.nlml(x, "laplace").values - truth).max() < 0.5
    found = model.nlml(x)
    assert (np.abs(found.values - truth) < 5 * found.standard_error + 1e-8).all(), "as far as it says itself"
    assert found.standard_error.max() < 0.02
    ledger = model.gaps(x)
    close(ledger.nlml, truth, 1e-5)
    assert (ledger.q_used >= ledger.q_optimal - 1e-6).all() and (ledger.approximation > -1e-6).all()


def test_neural_route_with_full_covariances():
    x = with_gaps(TABLE[:, :2], 0.3, seed=1)
    model = VariationalEM(2, hidden=(4,), epochs=3, posterior="full", missing="marginalise").fit(x)
    found = model.nlml(x[:8], "grid")
    close(model.kl_to_posterior(x[:8]), model.bound(x[:8]) - found.values, 1e-4)


def test_the_table_belongs_to_the_training_data():
    model = neural(VariationalEM, "gaussian")
    x = with_gaps(DATA["gaussian"], 0.3, seed=1)
    assert model.phi_.shape == (N, 2) and np.isfinite(model.phi_).all()
    close(model.bound(x, phi=model.phi_).mean(), model.q_path_[-1], 1e-3)


def test_noise_is_learnt_from_observed_entries():
    """Ψ ends as the expected squared residual of what was observed, under the table and the decoder."""
    model = VariationalEM(K, hidden=(6,), epochs=25, missing="marginalise").fit(GAPS)
    eta, weights = infer.coarse_and_fine(model.model_.posterior, 64, GAPS)[1]
    z = model.phi_[:, :K] + np.exp(model.phi_[:, K:]) * eta        # (S, N, K)
    f, _ = model.model_.decoder.forward(model.theta_["decoder"], z.reshape(-1, K))
    squares = (GAPS - f.reshape(len(weights), N, D)) ** 2
    psi = np.nanmean(np.einsum("s,snd->nd", weights, squares), axis=0)
    np.testing.assert_allclose(model.noise_variance_, psi, rtol=0.1)


# ---- the recognition network ----------------------------------------------------------------------


@pytest.mark.parametrize("separate", [False, True])
def test_the_encoder_sees_the_mask(separate):
    vae = VAE(1, hidden=(4,), epochs=20, missing="marginalise", separate=separate).fit(GAPS)
    phi = [vae.encode(np.where(mask, GAPS[5:6], np.nan))[0] for mask in (np.arange(D) != d for d in range(D))]
    assert all(np.abs(a - b).min() > 1e-6 for i, a in enumerate(phi) for b in phi[:i])
    first = vae.recognition_params_[0] if not separate else vae.recognition_params_[0][0]
    assert first["W"].shape[0] == 2 * D and np.isfinite(vae.encode(GAPS)).all()
    # a gap is not a value that happens to equal its filling
    filled = np.where(np.isnan(GAPS), vae.columns_.fill, GAPS)
    rows = np.isnan(GAPS).any(axis=1)
    assert (np.abs(vae.encode(GAPS) - vae.encode(filled))[rows].max(axis=1) > 1e-6).all()


def test_a_change_of_units_changes_nothing():
    """Data moved and scaled make the same codes, so nothing that depends on the origin stands under a gap."""
    one = VAE(1, hidden=(4,), epochs=20, missing="marginalise").fit(GAPS)
    scale, shift = np.array([1, 10, 0.1, 3, 1, 1]), np.array([0, 50, -7, 1e3, 5, 0])
    other = VAE(1, hidden=(4,), epochs=20, missing="marginalise").fit(GAPS * scale + shift)
    moved = GAPS * scale + shift
    close(other.encode(moved), one.encode(GAPS), 1e-6)
    seen = (~np.isnan(GAPS)).astype(float)
    close(other.bound(moved), one.bound(GAPS) + seen @ np.log(scale), 1e-5)
    close(other.q_path_, one.q_path_ + seen.mean(axis=0) @ np.log(scale), 1e-6)
    close((other.impute(moved) - shift) / scale, one.impute(GAPS), 1e-5)


@pytest.mark.parametrize("x", [WHOLE, GAPS], ids=["complete", "with gaps"])
def test_a_vae_is_trained(x):
    vae = VAE(K, hidden=(8,), epochs=150, batch_size=20, missing="marginalise").fit(x)
    alone = sum(
        -stats.norm(np.nanmean(c), np.nanstd(c)).logpdf(c[~np.isnan(c)]).sum() for c in x.T
    ) / len(x)                                                     # columns that know nothing of each other
    best = fitted().nlml_path_[-1] if x is GAPS else -FactorAnalysis(K).fit(x).score(x)
    Q = vae.bound(x).mean()
    assert np.isfinite(vae.q_path_).all() and vae.q_path_[-1] < vae.q_path_[0]
    assert Q < alone - 0.4 * (alone - best)
    close(vae.q_path_[-1], Q, 0.5)


@pytest.mark.parametrize("options", [
    {"nodes": "sigma", "hidden": (), "optimizer": "lbfgs", "epochs": 300},
    {"nodes": "quadrature", "optimizer": "lbfgs", "epochs": 5},
    {"kl": "sampled", "epochs": 2}, {"posterior": "full", "epochs": 2},
], ids=str)
@pytest.mark.filterwarnings("ignore:L-BFGS stopped")
def test_options_of_the_vae(options):
    vae = VAE(**{"n_components": K, "hidden": (3,), "missing": "marginalise", **options}).fit(GAPS)
    nlml = vae.nlml(GAPS, None if vae.hidden == () else "grid").values
    assert (vae.bound(GAPS) >= nlml - 1e-5).all()
    if vae.hidden == ():
        close(nlml, dense(*linear_parameters(vae), GAPS)[0], 1e-9)
        assert -0.05 < nlml.mean() - fitted().nlml_path_[-1] < 0.5


def test_refined_codes_are_better():
    vae, x = neural(VAE, "gaussian"), with_gaps(DATA["gaussian"], 0.3, seed=2)
    before, after = vae.bound(x), vae.bound(x, phi=vae.refine(x, 20))
    assert (after <= before + 1e-6).all() and after.mean() < before.mean() - 1e-3


# ---- impute ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("missing", ["marginalise", "error"])
def test_imputed_is_the_conditional_mean(noise, missing):
    fa = fitted(noise) if missing == "marginalise" else FactorAnalysis(K, noise=noise).fit(WHOLE)
    _, mean = dense(*linear_parameters(fa), GAPS)
    close(fa.impute(GAPS), mean, 1e-8)


def test_imputed_by_linear_variational_em():
    for model in (linear_em("full"), linear_em("diagonal"), VariationalEM(K, hidden=(), tol=1e-6).fit(WHOLE)):
        # a diagonal q has the mean of the posterior too
        close(model.impute(GAPS), dense(*linear_parameters(model), GAPS)[1], 1e-8)


IMPUTERS = {
    "FactorAnalysis": lambda **o: FactorAnalysis(K, tol=1e-6, **o),
    "VariationalEM, linear": lambda **o: VariationalEM(K, hidden=(), tol=1e-4, **o),
    "VariationalEM": lambda **o: VariationalEM(1, hidden=(3,), epochs=2, **o),
    "VAE": lambda **o: VAE(1, hidden=(3,), epochs=2, **o),
}


@functools.cache
def imputer(name, missing):
    return IMPUTERS[name](missing=missing).fit(WHOLE if missing == "error" else GAPS)


@pytest.fixture(params=[(n, m) for n in IMPUTERS for m in ("marginalise", "error")], ids=" ".join)
def model(request):
    return imputer(*request.param)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_what_was_observed_comes_back_bit_for_bit(model, dtype):
    x = (with_gaps(WHOLE[:20], 0.4, seed=6) / 3).astype(dtype)
    x[2], x[3] = np.nan, 0.1
    before = x.copy()
    found = model.impute(x)
    np.testing.assert_array_equal(x, before)                       # and the caller keeps his
    assert found.shape == x.shape and found.dtype == x.dtype and found is not x
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[~np.isnan(x)], x[~np.isnan(x)])
    complete = (WHOLE[:5] / 3).astype(dtype)
    np.testing.assert_array_equal(model.impute(complete), complete)


def test_nan_where_it_is_not_taken(model):
    asked = [model.transform, model.bound, model.nlml, model.reconstruct, lambda x: model.denoise(x, 0.1),
             model.score, model.gaps, getattr(model, "encode", getattr(model, "infer", None))]
    x = GAPS[10:14]
    assert np.isnan(x).any()
    for ask in asked:
        if model.missing == "error":
            with pytest.raises(ValueError, match=r"NaN.*missing='marginalise'"):
                ask(x)
        else:
            ask(x)
    with pytest.raises(ValueError, match="infinity"):
        model.impute(np.where(np.isnan(x), np.inf, x))
    with pytest.raises(ValueError, match="X has 3 features"):
        model.impute(x[:, :3])


@pytest.mark.parametrize("route", [FactorAnalysis, VariationalEM, VAE])
def test_fit_refuses_nan_unless_told(route):
    with pytest.raises(ValueError, match=r"NaN.*missing='marginalise'"):
        route(1).fit(GAPS)
    with pytest.raises(ValueError, match="missing must be 'error' or 'marginalise', got 'drop'"):
        route(1, missing="drop").fit(GAPS)
    with pytest.raises(ValueError, match="infinity"):
        route(1, missing="marginalise").fit(np.where(np.isnan(GAPS), np.inf, GAPS))
    empty = GAPS.copy()
    empty[:, 1] = np.nan
    for x, name in ((empty, "1"), (pd.DataFrame(empty, columns=list("abcdef")), "b")):
        with pytest.raises(ValueError, match=f"nothing was observed of columns {name}: drop"):
            route(1, missing="marginalise").fit(x)
    once = GAPS.copy()
    once[1:, 1] = np.nan                                           # one value is a constant column
    once[0, 1] = 2
    with pytest.raises(ValueError, match="1 of 6 columns are constant: 1"):
        route(1, missing="marginalise").fit(once)


def test_routes_without_a_place_for_nan():
    for estimator in (Autoencoder(1), GaussianMixture(1)):
        with pytest.raises(ValueError, match="NaN"):
            estimator.fit(GAPS)
        assert not hasattr(estimator, "impute")


def q_mean(model, phi):
    """E_q E[x|z] (N, n_f) of the network's outputs by a grid over q, K = 1."""
    m, s = phi[:, :1], np.exp(phi[:, 1:])
    u = np.linspace(-9, 9, 2001)
    weights = stats.norm.pdf(u) * (u[1] - u[0])
    f, _ = model.model_.decoder.forward(model.theta_["decoder"], np.reshape(m + s * u, (-1, 1)))
    return weights, f.reshape(len(phi), len(u), -1)


MEANS = {
    "gaussian": lambda f, levels: f,
    "student-t": lambda f, levels: f,
    "gaussian-predicted": lambda f, levels: f[..., :2],
    "bernoulli": lambda f, levels: special.expit(f),
    "poisson": lambda f, levels: np.exp(f),
}


@pytest.mark.parametrize("name", MEANS)
@pytest.mark.parametrize("route", [VariationalEM, VAE])
def test_imputed_by_a_network_is_the_mean_under_its_q(route, name):
    model, x = neural(route, name), with_gaps(DATA[name], 0.3, seed=2)[:30]
    weights, f = q_mean(model, model.encode(x) if route is VAE else model.infer(x))
    mean = np.einsum("g,ngd->nd", weights, MEANS[name](f, None))
    np.testing.assert_allclose(model.impute(x), np.where(np.isnan(x), mean, x), rtol=1e-4, atol=3e-5)


@pytest.mark.parametrize("name", ["gaussian", "bernoulli", "poisson"])
@pytest.mark.parametrize("missing", ["error", "marginalise"])
def test_imputed_by_a_network_is_near_the_mean_under_the_posterior(name, missing):
    """q is Gaussian, the posterior is not: near, and nearer than what is imputed without a look at x."""
    x = with_gaps(DATA[name], 0.3, seed=2)[:40]
    for route in (VariationalEM, VAE):
        model = neural(route, name, missing)
        joint = log_joint(name, model, x)
        weights = special.softmax(joint, axis=1)
        f, _ = model.model_.decoder.forward(model.theta_["decoder"], Z)
        mean = weights @ MEANS[name](f, None)
        blind = np.exp(LOG_PRIOR) @ MEANS[name](f, None)
        gap = np.isnan(x)
        off = np.sqrt(np.mean((model.impute(x) - mean)[gap] ** 2))
        without = np.sqrt(np.mean((blind - mean)[gap] ** 2))
        # the network of the VAE says q where it was trained with gaps; else E-steps do
        most = 0.6 if route is VAE and missing == "marginalise" else 0.25
        assert off < most * without, (route, off, without)


@pytest.mark.parametrize("name", ["categorical", "mixed"])
@pytest.mark.parametrize("missing", ["error", "marginalise"])
def test_imputed_categories_are_the_most_probable_ones(name, missing):
    model, x = neural(VAE, name, missing), with_gaps(DATA[name], 0.4, seed=2)[:40]
    found, gap = model.impute(x), np.isnan(x)
    assert np.isfinite(found).all()
    for d, levels in model.columns_.levels.items():
        assert set(found[:, d]) <= set(levels)
    if missing == "marginalise":                                  # the q is that of the recognition network
        weights, f = q_mean(model, model.encode(x))
        f = f[..., -3:] if name == "mixed" else f[..., :3]
        d = 4 if name == "mixed" else 0
        probable = np.einsum("g,ngc->nc", weights, special.softmax(f, axis=2)).argmax(axis=1)
        np.testing.assert_array_equal(found[gap[:, d], d], np.array([4.0, 7, 11])[probable][gap[:, d]])
    if name == "mixed":
        assert ((0 <= found[:, 2]) & (found[:, 2] <= 1)).all() and (found[:, 3] >= 0).all()
        # and of the posterior itself, by the grid, but for a few near ties
        f, _ = model.model_.decoder.forward(model.theta_["decoder"], Z)
        weights = special.softmax(log_joint(name, model, x), axis=1)
        probable = (weights @ special.softmax(f[:, -3:], axis=1)).argmax(axis=1)
        right = found[gap[:, 4], 4] == np.array([4.0, 7, 11])[probable][gap[:, 4]]
        assert len(right) > 10 and np.mean(right) > 0.85 and len(set(probable)) > 1


def test_imputed_values_of_bits_are_probabilities():
    for missing in ("error", "marginalise"):
        for route in (VariationalEM, VAE):
            x = with_gaps(DATA["bernoulli"], 0.5, seed=2)
            found = neural(route, "bernoulli", missing).impute(x)
            assert ((found >= 0) & (found <= 1)).all()
            assert ((found > 0) & (found < 1))[np.isnan(x)].all()


def test_values_that_have_no_density_are_refused():
    for name, wrong in (("bernoulli", 0.5), ("poisson", -1), ("categorical", 5)):
        for missing in ("error", "marginalise"):
            model, x = neural(VAE, name, missing), with_gaps(DATA[name], 0.3, seed=2)[:5]
            x[0, 0] = wrong
            with pytest.raises(ValueError, match="needs 0 and 1|needs counts|has the category 5 in row 0"):
                model.impute(x)
    x = with_gaps(DATA["poisson"], 0.3)
    x[0, 0] = 0.5
    with pytest.raises(ValueError, match="first 0.5 in row 0, column 0"):
        VAE(1, likelihood="poisson", missing="marginalise").fit(x)


def test_constant_columns_are_put_back():
    x = np.insert(GAPS, 2, np.where(np.arange(N) % 3 == 0, np.nan, 4.5), axis=1)
    with pytest.warns(UserWarning, match="constant columns are set aside: 2"):
        fa = FactorAnalysis(K, missing="marginalise", constant="drop", tol=1e-13).fit(x)
    found = fa.impute(x)
    assert (found[:, 2] == 4.5).all()
    close(np.delete(found, 2, axis=1), fitted().impute(GAPS), 1e-4)
    close(fa.nlml(x).values, fitted().nlml(GAPS).values, 1e-5)
    assert (fa.denoise(x, 0.1)[:, 2] == 4.5).all() and (fa.sample(3)[:, 2] == 4.5).all()


def held_out_error(model, complete, gaps):
    found = model.impute(gaps)
    return np.sqrt(np.mean((found - complete)[np.isnan(gaps)] ** 2))


DIGITS = datasets.digits().x
TRAIN, TEST = DIGITS[:500], DIGITS[500:650]
TRAIN_GAPS, TEST_GAPS = with_gaps(TRAIN, 0.2, seed=1), with_gaps(TEST, 0.2, seed=2)
OF_DIGITS = {
    "FactorAnalysis": FactorAnalysis(8, tol=1e-4),
    "VariationalEM, linear": VariationalEM(5, hidden=(), tol=1e-2),
    "VariationalEM": VariationalEM(2, hidden=(16,), epochs=6, m_steps=10),
    "VAE": VAE(4, hidden=(32,), epochs=100),
}


@functools.cache
def of_digits(name, missing="error"):
    """The model of OF_DIGITS, trained on digits with gaps or without; test_tasks asks the same ones."""
    model = OF_DIGITS[name]
    model = type(model)(**model.get_params() | {"missing": missing})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(TRAIN_GAPS if missing == "marginalise" else TRAIN)


@pytest.mark.parametrize("missing", ["marginalise", "error"])
@pytest.mark.parametrize("name, least", [
    ("FactorAnalysis", 0.85), ("VariationalEM, linear", 0.9), ("VAE", 0.92),
    pytest.param("VariationalEM", 0.98, marks=pytest.mark.thorough),
])
def test_imputed_digits_are_better_than_column_means(name, least, missing):
    x = TRAIN_GAPS if missing == "marginalise" else TRAIN
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        error = held_out_error(of_digits(name, missing), TEST, TEST_GAPS)
    means = np.sqrt(np.mean((np.nanmean(x, axis=0) - TEST)[np.isnan(TEST_GAPS)] ** 2))
    assert error < least * means


def test_data_frames_with_gaps():
    frame = pd.DataFrame(GAPS, columns=list("abcdef"))
    fa = FactorAnalysis(K, missing="marginalise", tol=1e-13).fit(frame)
    assert list(fa.feature_names_in_) == list("abcdef")
    np.testing.assert_array_equal(fa.impute(frame), fitted().impute(GAPS))
    with pytest.raises(ValueError, match="feature names"):
        fa.impute(frame[list("abcdfe")])
