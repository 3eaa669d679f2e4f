"""What is printed of a factor analysis: R's figures, χ² from F by definition, SciPy's distributions."""

import math

import numpy as np
import pytest
from scipy import optimize, stats
from test_published import ABILITY, HARMAN_2_3, M1, PROBLEMS, chi_square, correlations, discrepancy

from teachvae import FactorAnalysis, VariationalEM, datasets
from teachvae.doors.units import HeywoodWarning
from teachvae.evaluation import goodness
from teachvae.networks.convergence import ConvergenceWarning

NAMES = ["general", "picture", "blocks", "maze", "reading", "vocab"]
X = datasets.linear_gaussian(n_cases=150, n_visible=8, n_latent=2).x


class Frame:
    """As much of a data frame as the doors ask for."""

    def __init__(self, table, columns):
        self.table, self.columns = np.asarray(table), list(columns)

    def __getitem__(self, name):
        return self.table[:, self.columns.index(name)]

    def __array__(self, dtype=None, copy=None):
        return np.array(self.table, dtype=dtype)


@pytest.fixture(scope="module")
def ability():
    return FactorAnalysis(2, tol=1e-13).fit_covariance(Frame(ABILITY, NAMES), 112)


@pytest.fixture(scope="module")
def fitted():
    return FactorAnalysis(2, tol=1e-10).fit(X)


# ---- figures that others have published ----------------------------------------------------------------


@pytest.mark.parametrize("problem, p", [
    ("ability, K = 1", "1.46e-12"), ("ability, K = 2", "0.191"),
    ("Harman 2.3, K = 1", "1.12e-116"), ("Harman 2.3, K = 2", "6.94e-11"),
])
def test_the_problems_that_r_prints(problem, p):
    """Of covariances, where factanal takes correlations: nothing that is printed depends on the units."""
    S, K, N, F, chi2, dof, _, uniquenesses = PROBLEMS[problem]
    summary = FactorAnalysis(K, tol=1e-13).fit_covariance(S, N).summary()
    assert summary.test.F == pytest.approx(F, abs=1e-9)
    assert summary.test.chi2 == pytest.approx(chi2, abs=1e-6) and summary.test.dof == dof
    assert f"{summary.test.p:.3g}" == p
    np.testing.assert_allclose(summary.uniquenesses, uniquenesses, atol=1e-5)
    np.testing.assert_allclose(summary.communalities, 1 - np.array(uniquenesses), atol=1e-5)
    np.testing.assert_allclose(np.sum(summary.loadings**2, axis=1), summary.communalities, atol=1e-12)


def test_shares_of_variance_as_r_prints_them(ability):
    """datasets::ability.cov, K = 2, by R's factanal: where its varimax stops early the third digit moves."""
    varimax = ability.summary("varimax")
    assert np.abs(varimax.ss_loadings - [1.858, 1.724]).max() < 0.007
    assert np.abs(varimax.proportion - [0.310, 0.287]).max() < 0.0015
    assert np.abs(varimax.cumulative - [0.310, 0.597]).max() < 0.0015
    assert varimax.ss_loadings.sum() == pytest.approx(1.858 + 1.724, abs=1e-3)
    promax = ability.summary("promax")
    assert np.abs(promax.ss_loadings - [1.853, 1.807]).max() < 0.001
    assert promax.proportion is None and promax.cumulative is None


def test_the_text(ability):
    """Variables in the order of their factors, small loadings left out; of 6 variables and 112 cases."""
    lines = str(ability.summary("promax")).splitlines()
    table = {line.split()[0]: line.split()[1:] for line in lines[4:10]}
    assert list(table) == ["reading", "vocab", "picture", "blocks", "maze", "general"]
    assert table["reading"] == ["1.024", "0.948", "0.052"]
    assert table["blocks"] == ["0.932", "0.782", "0.218"]
    assert table["general"] == ["0.365", "0.470", "0.545", "0.455"]
    assert lines[5].index("0.812") < lines[6].index("0.671"), "a blank keeps its column"
    assert "K = 2, 6 variables in 112 data cases; loadings: promax" in lines[0]
    assert "factor 1         1.000     0.557" in lines
    assert "test that 2 factors are enough: χ² = 6.11 on 4 degrees of freedom, p = 0.191; F = 0.0572" in lines
    assert "RMSEA = 0.070, 90 % interval 0.000 to 0.174" in lines
    assert "proportion" not in str(ability.summary("promax")) and "cumulative" in str(ability.summary())


def test_one_factor_is_printed():
    text = str(FactorAnalysis(1).fit_covariance(correlations(ABILITY), 112).summary("varimax"))
    assert "that 1 factor is enough: χ² = 75.18 on 9 degrees of freedom, p = 1.46e-12; F = 0.6993\n" in text


def test_the_order_is_that_of_r():
    """factanal's: a variable with a loading of 0.5 in size stands with the factor of its largest one."""
    rng = np.random.default_rng(0)
    fa = FactorAnalysis(3, tol=1e-3).fit(rng.standard_normal((40, 3)) @ rng.standard_normal((3, 12))
                                         + rng.standard_normal((40, 12)))
    summary = fa.summary("varimax")
    key = [int(np.argmax(np.abs(row))) if np.max(np.abs(row)) >= 0.5 else 3 for row in summary.loadings]
    assert len(set(key)) == 4, "some variables must belong nowhere"
    assert summary.order().tolist() == [d for k in range(4) for d in range(12) if key[d] == k]
    assert (summary.loadings < -0.1).any() and (np.abs(summary.loadings) < 0.1).any()
    for d, line in zip(summary.order(), str(summary).splitlines()[4:16], strict=True):
        shown = [f"{v:.3f}" for v in summary.loadings[d] if abs(v) >= 0.1]
        assert line.split()[:-2] == [str(d), *shown]


# ---- second roads ----------------------------------------------------------------------------------------


def test_chi_square_from_f_by_its_definition(fitted):
    S = np.cov(X.T, bias=True)
    test, F = fitted.summary().test, discrepancy(fitted.get_covariance(), S)
    chi2, dof = chi_square(F, 150, 8, 2)
    assert (test.F, test.chi2, test.dof) == pytest.approx((F, chi2, dof), abs=1e-8)
    assert test.p == pytest.approx(stats.chi2(dof).sf(chi2), rel=1e-9)
    parts = FactorAnalysis(2, tol=1e-10).partial_fit(X[:70]).partial_fit(X[70:])
    assert parts.summary().test.F == pytest.approx(F, abs=1e-8)
    by_S = FactorAnalysis(2, tol=1e-10).fit_covariance(S, 150)
    assert by_S.summary().test.F == pytest.approx(F, abs=1e-8)
    twice = FactorAnalysis(2, tol=1e-10).fit(X, sample_weight=np.full(150, 2.0))
    assert twice.summary().test.chi2 == pytest.approx(chi_square(F, 300, 8, 2)[0], abs=1e-6)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_rmsea_by_hand_and_its_interval_by_search(problem):
    S, K, N, F, chi2, dof, *_ = PROBLEMS[problem]
    test = FactorAnalysis(K, tol=1e-13).fit_covariance(S, N).summary().test
    c = chi2 / F
    assert test.rmsea == pytest.approx(math.sqrt(max(chi2 - dof, 0) / (dof * c)), abs=1e-7)
    for end, level in zip(test.interval, (0.95, 0.05)):
        def beyond(value):
            lam = value**2 * dof * c
            return (stats.ncx2(dof, lam).cdf(chi2) if lam > 0 else stats.chi2(dof).cdf(chi2)) - level
        expected = optimize.brentq(beyond, 0, 2, xtol=1e-10) if beyond(0) > 0 else 0.0
        assert end == pytest.approx(expected, abs=1e-6)
    assert test.interval[0] <= test.rmsea < test.interval[1]


def test_p_and_the_interval_hold_in_repeated_samples():
    """300 samples of 100 cases from two factors: p is uniform, and 5 % of the intervals lie above 0."""
    rng = np.random.default_rng(0)
    W = rng.standard_normal((2, 6))
    tests = []
    for _ in range(300):
        x = rng.standard_normal((100, 2)) @ W + rng.standard_normal((100, 6))
        S = np.cov(x.T, bias=True)
        nlml = 0.5 * (6 * math.log(2 * math.pi) + best(S, 2))
        tests.append(goodness.fit_test(nlml, S, 100, 2))
    assert stats.kstest([test.p for test in tests], "uniform").pvalue > 0.01
    assert 0.02 < np.mean([test.interval[0] > 0 for test in tests]) < 0.09
    assert np.mean([test.chi2 for test in tests]) == pytest.approx(4, abs=0.5)


def best(S, K):
    """min log|Σ| + tr Σ⁻¹S over all W and Ψ, by L-BFGS in log ψ with the best W for each (Lawley 1940)."""
    def profile(log_psi):
        root = np.exp(0.5 * log_psi)
        values, V = np.linalg.eigh(S / np.outer(root, root))
        top = np.maximum(values[-K:], 1)
        W = V[:, -K:] * np.sqrt(top - 1) * root[:, None]
        total = log_psi.sum() + np.sum(np.log(top) + values[-K:] / top) + values[:-K].sum()
        return total, (np.sum(W**2, axis=1) - np.diag(S)) / root**2 + 1

    start = np.log(np.diag(S) / 2)
    return optimize.minimize(profile, start, jac=True, method="L-BFGS-B", bounds=[(-8, None)] * len(S)).fun


def test_aic_and_bic_from_nlml(fitted):
    """Against the sum of nlml over the data, and the parameters counted as the rank of Σ's derivatives."""
    total, summary = fitted.nlml(X).values.sum(), fitted.summary()
    W, D, K = fitted.components_, 8, 2
    columns = []
    for k in range(K):
        for d in range(D):
            step = np.zeros((K, D))
            step[k, d] = 1
            columns.append((step.T @ W + W.T @ step)[np.triu_indices(D)])
    columns += [np.diag(np.eye(D)[d])[np.triu_indices(D)] for d in range(D)]
    k = np.linalg.matrix_rank(np.array(columns)) + D               # and the means
    assert summary.n_parameters == k == 31
    assert summary.aic == pytest.approx(2 * total + 2 * k, abs=1e-8)
    assert summary.bic == pytest.approx(2 * total + k * math.log(150), abs=1e-8)
    isotropic = FactorAnalysis(2, noise="isotropic").fit(X)
    assert isotropic.summary().n_parameters == 31 - 7
    assert FactorAnalysis(2, noise=0.5).fit(X).summary().n_parameters == 31 - 8
    assert isotropic.summary().aic == pytest.approx(2 * isotropic.nlml(X).values.sum() + 48, abs=1e-8)


def test_a_rotation_changes_loadings_alone(ability):
    plain = ability.summary()
    for method in ("varimax", "promax"):
        turned = ability.summary(method)
        np.testing.assert_array_equal(turned.uniquenesses, plain.uniquenesses)
        assert (turned.test, turned.aic, turned.bic) == (plain.test, plain.aic, plain.bic)
        shared = np.sum(turned.loadings @ turned.correlations * turned.loadings, axis=1)
        np.testing.assert_allclose(shared, plain.communalities, atol=1e-12)
        spread = np.sqrt(np.diag(ability.get_covariance()))
        loadings = turned.loadings * spread[:, None]
        np.testing.assert_allclose(loadings, ability.rotate(method).loadings, atol=1e-12)


def test_a_covariance_that_k_factors_explain_leaves_nothing():
    W = np.array([[1.0, 1, 1, 1, 1, 0.5], [1, -1, 1, -1, 0.3, 0.2]])
    S = W.T @ W + np.eye(6)
    summary = FactorAnalysis(2, tol=1e-12).fit_covariance(S, 500).summary()
    assert 0 <= summary.test.F < 1e-9 and summary.test.p > 0.999 and summary.test.rmsea == 0
    assert summary.test.interval == (0.0, 0.0)
    rounded = goodness.fit_test(np.nextafter(goodness.saturated_nlml(S), 0), S, 500, 2)
    assert rounded.F == 0 and rounded.p == 1 and rounded.rmsea == 0


# ---- what cannot be had ------------------------------------------------------------------------------------


def only(summary, *parts):
    """Nothing but the table of loadings, and remarks that hold all parts."""
    assert summary.test is None and "χ² =" not in str(summary) and "RMSEA =" not in str(summary)
    said = "\n".join(summary.remarks)
    assert all(part in said for part in parts), said
    assert said in str(summary)
    np.testing.assert_allclose(np.sum(summary.loadings**2, axis=1) + summary.uniquenesses, 1, atol=1e-12)
    return summary


def test_without_the_number_of_cases():
    summary = only(
        FactorAnalysis(1).fit_covariance(HARMAN_2_3).summary(),
        "No χ², and no RMSEA: how many data cases there were is not known: give fit_covariance(S, n_cases).",
        "No AIC, no BIC",
    )
    assert summary.aic is None and summary.bic is None and "AIC =" not in str(summary)
    assert "data cases; " not in str(summary).splitlines()[0]


def test_missing_entries():
    x = X.copy()
    x[0, 0] = np.nan
    fa = FactorAnalysis(2, missing="marginalise", tol=1e-4).fit(x)
    summary = only(fa.summary(), "entries are missing, and the saturated model is not fitted to such data")
    assert summary.aic == pytest.approx(2 * fa.nlml(x).values.sum() + 62, abs=1e-6)
    complete = FactorAnalysis(2, missing="marginalise", tol=1e-10).fit(X).summary()
    assert complete.test.F == pytest.approx(FactorAnalysis(2, tol=1e-10).fit(X).summary().test.F, abs=1e-9)


@pytest.mark.parametrize("noise", ["isotropic", 0.5])
def test_other_noise(noise):
    summary = FactorAnalysis(2, noise=noise).fit(X).summary()
    only(summary, f"for noise='diagonal', this fit has noise={noise!r}")


def test_too_many_factors():
    with pytest.warns(HeywoodWarning):
        three = FactorAnalysis(3, min_noise=0.005).fit_covariance(M1, 18)
    only(three.summary(), "3 factors of 6 columns leave 0 degrees of freedom", "fewer factors can",
         "A Heywood case: the noise of 0, 2, 5 ended at its floor")
    assert 2 * (three.nlml_path_[-1] - goodness.saturated_nlml(M1)) == pytest.approx(0.4755156, abs=1e-4)
    four = FactorAnalysis(4, tol=1e-3).fit_covariance(correlations(ABILITY), 112)
    only(four.summary(), "4 factors of 6 columns leave -3 degrees of freedom")


@pytest.mark.filterwarnings("ignore::teachvae.doors.units.HeywoodWarning")
def test_too_few_cases():
    few = FactorAnalysis(1, tol=1e-3, min_noise=0.1).fit(X[:6])
    only(few.summary(), "the covariance is singular, as of fewer data cases than columns")
    only(FactorAnalysis(1).fit_covariance(correlations(ABILITY), 4).summary(),
         "4 data cases are too few for Bartlett's correction to 6 columns")


@pytest.mark.filterwarnings("ignore::teachvae.doors.units.HeywoodWarning")
def test_a_column_that_others_add_up_to():
    x = np.column_stack([X, X[:, 0] + X[:, 1]])
    only(FactorAnalysis(2, tol=1e-2).fit(x).summary(), "singular", "a column that others add up to")


def test_a_fit_that_did_not_converge_says_so():
    with pytest.warns(ConvergenceWarning):
        summary = FactorAnalysis(2, max_iter=2).fit(X).summary()
    assert "EM stopped before it converged: F and χ² are too large." in summary.remarks
    assert summary.test.F > FactorAnalysis(2).fit(X).summary().test.F


def test_a_model_as_it_stands_has_a_summary_of_the_same_data():
    seen = []
    fa = FactorAnalysis(1).fit(X[:40])

    def progress(iteration, most, nlml, now):
        seen.append((nlml, now().summary()))

    fa.set_params(n_components=2, tol=1e-2).fit(X, progress=progress)
    nlml, summary = seen[0]
    assert summary.n_cases == 150
    saturated = goodness.saturated_nlml(np.cov(X.T, bias=True))
    assert summary.test.F == pytest.approx(2 * (nlml - saturated), abs=1e-9)


def test_a_later_fit_leaves_nothing_of_an_earlier_one():
    x = X.copy()
    x[0, 0] = np.nan
    fa = FactorAnalysis(2, missing="marginalise", tol=1e-3).fit_covariance(np.cov(X.T, bias=True), 99)
    assert fa.summary().n_cases == 99 and fa.summary().test is not None
    assert fa.fit(x).summary().n_cases == 150 and fa.summary().test is None
    assert fa.fit_covariance(np.eye(8) + 0.5).summary().test is None


def test_a_summary_is_had_from_a_file(tmp_path, ability):
    from teachvae import load

    ability.save(tmp_path / "fa.npz")
    assert str(load(tmp_path / "fa.npz").summary("varimax")) == str(ability.summary("varimax"))


def test_other_estimators_have_no_summary():
    assert not hasattr(VariationalEM(2), "summary")
