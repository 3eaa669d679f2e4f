"""Rotations and scores of factor analysis: what R prints, brute force over angles, least squares."""

from itertools import permutations, product

import fake_gpu
import numpy as np
import pytest
from scipy import optimize, stats
from test_published import ABILITY, HARMAN_2_3, M1_DATA, correlations

from teachvae import FactorAnalysis, datasets, linear_gaussian, posteriors
from teachvae.doors.units import HeywoodWarning
from teachvae.inference import simple_structure
from teachvae.networks.convergence import ConvergenceWarning

N, D, K = 100, 9, 3
X = 5 + datasets.linear_gaussian(n_cases=N, n_visible=D, n_latent=K).x * [1, 1, 1, 2, 2, 2, 3, 3, 3]
# What R's factanal prints of datasets::ability.cov, K = 2; blanks are 0 (r-source, tests/Examples/
# stats-Ex.Rout.save, before the release that prints promax's correlations) …
R_VARIMAX = np.array([[.499, .543], [.156, .622], [.206, .860], [.109, .468], [.956, .182], [.785, .225]])
R_PROMAX = np.array([[.364, .470], [0, .671], [0, .932], [0, .508], [1.023, 0], [.811, 0]])
# … and of its example m1, K = 3: by varimax and by promax, and Bartlett's scores of the last three cases.
R_M1_VARIMAX = np.array([
    [.944, .182, .267], [.905, .235, .159], [.236, .210, .946], [.180, .242, .828], [.242, .881, .286],
    [.193, .959, .196],
])
R_M1_PROMAX = np.array([
    [0, .985, 0], [0, .951, 0], [0, 0, 1.003], [0, 0, .867], [.910, 0, 0], [1.033, 0, 0],
])
R_M1_SCORES = np.array([
    [0.4224366, 2.0453079, 1.2864761], [1.4713902, 1.2947716, 0.5451562], [1.8822320, 0.3086244, 1.9547752],
])


@pytest.fixture(scope="module")
def ability():
    return FactorAnalysis(2, tol=1e-13).fit_covariance(correlations(ABILITY), 112)


@pytest.fixture(scope="module")
def fitted():
    return FactorAnalysis(K, tol=1e-6).fit(X)


@pytest.fixture(scope="module")
def m1():
    """The floor is factanal's: 0.005 of each variance."""
    with pytest.warns(HeywoodWarning):
        return FactorAnalysis(3, min_noise=0.005, tol=1e-12).fit(M1_DATA)


def standard(fa, loadings):
    return loadings / np.sqrt(np.diag(fa.get_covariance()))[:, None]


def V(L):
    """The criterion of varimax, by definition: rows to length 1, then the variances of the squares."""
    L = L / np.linalg.norm(L, axis=1, keepdims=True)
    return np.var(L**2, axis=0).sum()


def off(A, B):
    """How far the columns of A are from those of B, whatever their order and signs: the largest entry."""
    K = A.shape[1]
    turns = product(permutations(range(K)), product((1, -1), repeat=K))
    return min(np.abs(A[:, list(order)] * signs - B).max() for order, signs in turns)


# ---- varimax ---------------------------------------------------------------------------------------


def on_angles(L, angles):
    c, s = np.cos(angles), np.sin(angles)
    return np.array([V(L @ np.array([[a, -b], [b, a]])) for a, b in zip(c, s)])


AR1 = 0.4 ** np.abs(np.subtract.outer(np.arange(6), np.arange(6)))


@pytest.mark.parametrize(
    "R", [correlations(ABILITY), HARMAN_2_3, AR1], ids=["ability", "Harman 2.3", "AR(1)"]
)
def test_varimax_of_two_factors_against_all_angles(R):
    fa = FactorAnalysis(2, tol=1e-8).fit_covariance(R)
    found, L = fa.rotate("varimax"), fa.loadings_
    side = np.linspace(0, np.pi / 2, 200)
    middle, width = side[np.argmax(on_angles(L, side))], side[1]
    best = optimize.minimize_scalar(
        lambda angle: -on_angles(L, [angle])[0], bounds=(middle - width, middle + width), method="bounded",
        options={"xatol": 1e-10},
    )
    assert V(found.loadings) == pytest.approx(found.criterion, abs=1e-14)
    assert found.criterion == pytest.approx(-best.fun, abs=1e-13)
    c, s = np.cos(best.x), np.sin(best.x)
    assert off(L @ np.array([[c, -s], [s, c]]), found.loadings) < 1e-6


def by_singular_values(L, T):
    """The other way to varimax: T from the SVD of the criterion's gradient, again and again."""
    A, last, now = L / np.linalg.norm(L, axis=1, keepdims=True), -1, 0
    while now - last > 1e-15:
        Z = A @ T
        U, _, Vh = np.linalg.svd(A.T @ (Z**3 - Z * np.mean(Z**2, axis=0)))
        T, last, now = U @ Vh, now, V(A @ U @ Vh)
    return T


def test_the_usual_iteration_stays_at_a_least_v_and_ours_does_not():
    """AR(1) looks the same from both ends, and so do its canonical loadings (2.31)."""
    L = FactorAnalysis(2, tol=1e-13).fit_covariance(AR1).loadings_
    L[3:] = L[2::-1] * [1, -1]                                     # to the last digit
    every = on_angles(L, np.linspace(0, np.pi / 2, 721))
    assert V(L @ by_singular_values(L, np.eye(2))) == pytest.approx(every.min(), abs=1e-6)
    assert V(L @ simple_structure.varimax(L)) == pytest.approx(every.max(), abs=1e-6)
    assert (every.min(), every.max()) == pytest.approx((0.064, 0.399), abs=5e-4)


@pytest.mark.parametrize("D_, K_", [(6, 3), (12, 4), (30, 4)])
def test_varimax_against_the_svd_iteration_from_many_starts(D_, K_):
    rng = np.random.default_rng(D_)
    L = rng.standard_normal((D_, K_)) * (rng.random((D_, K_)) < 0.5) + 0.05 * rng.standard_normal((D_, K_))
    L = L @ np.linalg.qr(rng.standard_normal((K_, K_)))[0]
    T = simple_structure.varimax(L)
    np.testing.assert_allclose(T.T @ T, np.eye(K_), atol=1e-13)
    starts = [np.linalg.qr(rng.standard_normal((K_, K_)))[0] for _ in range(6)]
    best = max((L @ by_singular_values(L, start) for start in starts), key=V)
    assert V(L @ T) == pytest.approx(V(best), abs=1e-13)
    assert off(L @ T, best) < 1e-5


def test_the_gradient_of_v_along_every_plane_is_0_at_the_end():
    L = np.random.default_rng(3).standard_normal((20, 5))
    L = L @ simple_structure.varimax(L)
    h = 1e-5
    for j in range(5):
        for k in range(j):
            both = []
            for angle in (h, -h):
                G = np.eye(5)
                G[[j, k], [j, k]], G[j, k], G[k, j] = np.cos(angle), np.sin(angle), -np.sin(angle)
                both.append(V(L @ G))
            assert abs(both[0] - both[1]) / (2 * h) < 1e-8 and max(both) < V(L)


def test_too_few_sweeps_warn(monkeypatch):
    monkeypatch.setattr(simple_structure, "SWEEPS", 2)
    with pytest.warns(ConvergenceWarning, match="varimax stopped after 2 sweeps, .* by"):
        simple_structure.varimax(np.random.default_rng(0).standard_normal((20, 5)))


def test_a_variable_without_a_factor_and_a_factor_without_variables():
    L = np.random.default_rng(1).standard_normal((6, 3))
    with_zero = np.vstack([L, np.zeros(3)])
    T = simple_structure.varimax(with_zero)
    assert np.isfinite(T).all()
    np.testing.assert_allclose(T.T @ T, np.eye(3), atol=1e-13)
    np.testing.assert_allclose(simple_structure.varimax(L * [1, 1, 0]) ** 2 @ np.ones(3), 1, atol=1e-13)


# ---- what R prints -----------------------------------------------------------------------------------


def test_ability_as_r_prints_it(ability):
    """R's varimax stops early: it is off by up to 0.003, and its criterion is below ours."""
    found = ability.rotate("varimax")
    assert np.abs(found.loadings - R_VARIMAX).max() < 0.0035
    assert V(R_VARIMAX) < found.criterion < V(R_VARIMAX) + 2e-4
    promax = ability.rotate("promax").loadings
    cut = np.where(np.abs(promax) < 0.1, 0, promax)
    assert np.abs(cut - R_PROMAX).max() < 0.0016


def test_m1_as_r_prints_it(m1):
    varimax = standard(m1, m1.rotate("varimax").loadings)
    assert off(varimax, R_M1_VARIMAX) < 0.002
    assert V(R_M1_VARIMAX) < m1.rotate("varimax").criterion < V(R_M1_VARIMAX) + 2e-4
    promax = standard(m1, m1.rotate("promax").loadings)
    cut = np.where(np.abs(promax) < 0.1, 0, promax)
    assert off(cut, R_M1_PROMAX) < 0.002


def test_bartletts_scores_as_r_prints_them(m1):
    """R divides the data by the standard deviation with N − 1; its factors are turned a little."""
    theirs = R_M1_SCORES * np.sqrt(18 / 17)
    ours = m1.scores(M1_DATA, "bartlett", "varimax").values[-3:]
    assert off(ours, theirs) < 0.01
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), np.linalg.norm(theirs, axis=1), atol=2e-4)


# ---- promax --------------------------------------------------------------------------------------------


def test_promax_by_its_definition(fitted):
    """The regression of the fourth powers on the loadings, column by column, and unit variances."""
    L = standard(fitted, fitted.loadings_)
    found = fitted.rotate("promax")
    X0 = standard(fitted, fitted.rotate("varimax").loadings)
    target = np.sign(X0) * X0**4
    G = np.linalg.lstsq(X0, target, rcond=None)[0]
    P, rotated = X0 @ G, standard(fitted, found.loadings)          # alike but for the factors' scales
    assert off(P / np.linalg.norm(P, axis=0), rotated / np.linalg.norm(rotated, axis=0)) < 1e-12
    np.testing.assert_allclose(np.diag(found.correlations), 1, atol=1e-12)
    np.testing.assert_allclose(L @ found.T, rotated, atol=1e-12)
    assert np.abs(found.correlations - np.eye(K)).max() > 0.05


def test_promax_needs_k_factors():
    W = np.vstack([np.ones(4), np.zeros(4)])
    with pytest.raises(ValueError, match="rank K = 2, those of this fit have rank 1: fit fewer.*'varimax'"):
        simple_structure.rotate(W, np.ones(4), "promax")
    assert simple_structure.rotate(W, np.ones(4), "varimax").W.shape == (2, 4)


@pytest.mark.parametrize("method", ["varimax", "promax"])
def test_one_factor_has_nothing_to_turn(method):
    fa = FactorAnalysis(1).fit_covariance(correlations(ABILITY))
    found = fa.rotate(method)
    np.testing.assert_array_equal(found.T, [[1]])
    np.testing.assert_array_equal(found.loadings, fa.loadings_)


# ---- one model in other axes ---------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["varimax", "promax"])
def test_rotation_leaves_p_of_x_as_it_was(fitted, method):
    found, psi = fitted.rotate(method), fitted.noise_variance_
    Sigma = found.loadings @ found.correlations @ found.loadings.T + np.diag(psi)
    by_scipy = -stats.multivariate_normal(fitted.mean_, Sigma).logpdf(X)
    np.testing.assert_allclose(by_scipy, fitted.nlml(X).values, rtol=0, atol=1e-10)
    np.testing.assert_allclose(found.W, found.T.T @ fitted.components_, atol=1e-13)
    z, turned = fitted.transform(X), fitted.scores(X, rotation=method).values
    np.testing.assert_allclose(turned @ found.W, z @ fitted.components_, atol=1e-11)


def test_varimax_is_the_same_model_with_other_loadings(fitted):
    found, psi, b = fitted.rotate("varimax"), fitted.noise_variance_, fitted.mean_
    np.testing.assert_allclose(found.correlations, np.eye(K), atol=1e-13)
    np.testing.assert_allclose(linear_gaussian.nlml(found.W, b, psi, X), fitted.nlml(X).values, atol=1e-10)
    mean, M = linear_gaussian.posterior(found.W, b, psi, X)
    np.testing.assert_allclose(mean, fitted.transform(X) @ found.T, atol=1e-11)
    exact = linear_gaussian.precision(fitted.components_, psi)
    np.testing.assert_allclose(M, found.T.T @ exact @ found.T, rtol=1e-10, atol=1e-10)
    scores = fitted.scores(X, rotation="varimax")
    np.testing.assert_allclose(scores.values, mean, atol=1e-11)
    spread = np.sqrt(np.diag(np.linalg.inv(M)))
    np.testing.assert_allclose(scores.standard_errors, np.tile(spread, (N, 1)), rtol=1e-10)


def test_what_a_diagonal_q_costs_in_rotated_axes(fitted):
    """By the bound itself: Q of the best diagonal q of the rotated W, minus nlml; the same in every case."""
    found, psi, b = fitted.rotate("varimax"), fitted.noise_variance_, fitted.mean_
    family = posteriors.DiagonalGaussian(K)
    mean, M = linear_gaussian.posterior(found.W, b, psi, X)
    Q = linear_gaussian.bound(found.W, b, psi, family.closest(mean, M), family, X)
    np.testing.assert_allclose(Q - fitted.nlml(X).values, found.diagonal_gap, rtol=0, atol=1e-10)
    assert found.diagonal_gap > 0.01
    np.testing.assert_allclose(fitted.bound(X), fitted.nlml(X).values, atol=1e-10)


def test_what_a_diagonal_q_costs_where_factors_correlate(fitted):
    """By a search for the diagonal Gaussian nearest to the posterior of the oblique factors."""
    found = fitted.rotate("promax")
    P = found.T.T @ linear_gaussian.precision(fitted.components_, fitted.noise_variance_) @ found.T

    def kl(log_s):
        return 0.5 * (np.sum(np.diag(P) * np.exp(2 * log_s)) - K - 2 * log_s.sum() - np.linalg.slogdet(P)[1])

    assert optimize.minimize(kl, np.zeros(K), tol=1e-10).fun == pytest.approx(found.diagonal_gap, abs=1e-8)


def test_units_of_x_do_not_change_a_rotation(fitted):
    units = np.array([1, 10, 0.1, 1, 1, 100, 1, 2, 3])
    for method in simple_structure.METHODS:
        found = fitted.rotate(method)
        other = simple_structure.rotate(fitted.components_ * units, fitted.noise_variance_ * units**2, method)
        np.testing.assert_allclose(other.T, found.T, atol=1e-6)
        np.testing.assert_allclose(other.W, found.W * units, rtol=1e-5, atol=1e-5)


def test_factors_come_largest_first_and_positive(fitted):
    for method in simple_structure.METHODS:
        L = standard(fitted, fitted.rotate(method).loadings)
        assert np.all(np.diff(np.sum(L**2, axis=0)) < 0)
        assert np.all(np.take_along_axis(L, np.abs(L).argmax(axis=0)[None, :], axis=0) > 0)


def test_the_fit_is_left_as_it_was(fitted):
    before = {name: value for name, value in vars(fitted).items()}
    fitted.rotate("promax"), fitted.scores(X, "bartlett", "varimax"), fitted.summary("promax")
    assert all(getattr(fitted, name) is value for name, value in before.items())
    assert vars(fitted).keys() == before.keys()


# ---- scores ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [None, "varimax", "promax"])
def test_regression_scores_are_the_conditional_gaussian(fitted, method):
    """z given x, from the joint covariance of both."""
    L = fitted.loadings_ if method is None else fitted.rotate(method).loadings
    C = np.eye(K) if method is None else fitted.rotate(method).correlations
    Sigma = L @ C @ L.T + np.diag(fitted.noise_variance_)
    gain = C @ L.T @ np.linalg.inv(Sigma)
    scores = fitted.scores(X, rotation=method)
    np.testing.assert_allclose(scores.values, (X - fitted.mean_) @ gain.T, atol=1e-10)
    spread = np.sqrt(np.diag(C - gain @ L @ C))
    np.testing.assert_allclose(scores.standard_errors, np.tile(spread, (N, 1)), rtol=1e-9)


@pytest.mark.parametrize("method", [None, "varimax", "promax"])
def test_bartletts_scores_are_weighted_least_squares(fitted, method):
    L = fitted.loadings_ if method is None else fitted.rotate(method).loadings
    root = np.sqrt(fitted.noise_variance_)
    scores = fitted.scores(X, "bartlett", method)
    for n in range(5):
        r = X[n] - fitted.mean_
        by_scipy = optimize.least_squares(lambda z: (r - L @ z) / root, np.zeros(K), xtol=1e-14)
        np.testing.assert_allclose(scores.values[n], by_scipy.x, atol=1e-7)
        spread = np.sqrt(np.diag(np.linalg.inv(by_scipy.jac.T @ by_scipy.jac)))
        np.testing.assert_allclose(scores.standard_errors[n], spread, rtol=1e-6)


def test_standard_errors_are_those_of_many_draws():
    """Of data drawn from the model: both kinds miss z by what they say; Bartlett's alone have its size."""
    data = datasets.linear_gaussian(n_cases=400, n_visible=6, n_latent=2)
    fa = FactorAnalysis(2, tol=1e-6).fit(data.x)
    rng = np.random.default_rng(1)
    z = rng.standard_normal((20_000, 2))
    x = z @ fa.components_ + fa.mean_ + rng.standard_normal((20_000, 6)) * np.sqrt(fa.noise_variance_)
    for method in ("regression", "bartlett"):
        values, errors = fa.scores(x, method)
        miss = values - z
        np.testing.assert_allclose(np.sqrt(np.mean(miss**2, axis=0)), errors[0], rtol=0.03)
        slope = np.sum(values * z, axis=0) / np.sum(z * z, axis=0)
        assert np.all(np.abs(slope - 1) < 0.02) == (method == "bartlett")


def test_scores_of_incomplete_data_are_those_of_what_was_observed():
    x = X.copy()
    x[0, [1, 3]] = x[1, 5] = np.nan
    fa = FactorAnalysis(K, missing="marginalise", tol=1e-4).fit(x)
    for method in ("regression", "bartlett"):
        scores = fa.scores(x, method, "varimax")
        W, T = fa.components_, fa.rotate("varimax").T
        for n in range(3):
            has = ~np.isnan(x[n])
            A = W[:, has] / fa.noise_variance_[has]
            J = A @ W[:, has].T + (np.eye(K) if method == "regression" else 0)
            z, C = np.linalg.solve(J, A @ (x[n, has] - fa.mean_[has])), np.linalg.inv(J)
            np.testing.assert_allclose(scores.values[n], z @ T, atol=1e-9)
            np.testing.assert_allclose(scores.standard_errors[n], np.sqrt(np.diag(T.T @ C @ T)), rtol=1e-9)


def test_scores_in_blocks_and_in_float32():
    x = np.tile(X, (20, 1))
    fa = FactorAnalysis(K, tol=1e-6).fit(X)
    np.testing.assert_array_equal(fa.scores(x, "bartlett").values[-N:], fa.scores(x[-N:], "bartlett").values)
    small = FactorAnalysis(K, tol=1e-6, dtype="float32").fit(X.astype("float32"))
    np.testing.assert_allclose(small.scores(X, "bartlett").values, fa.scores(X, "bartlett").values, atol=1e-3)
    np.testing.assert_allclose(small.rotate().loadings, fa.rotate().loadings, atol=1e-3)


def test_a_fit_that_lives_on_a_gpu_says_the_same(monkeypatch, fitted):
    fake_gpu.install(monkeypatch)
    there = FactorAnalysis(K, tol=1e-6, backend="cupy").fit(X)
    for method in ("regression", "bartlett"):
        ours, theirs = there.scores(X, method, "promax"), fitted.scores(X, method, "promax")
        np.testing.assert_allclose(ours.values, theirs.values, atol=1e-4)
        np.testing.assert_allclose(ours.standard_errors, theirs.standard_errors, atol=1e-4)
    np.testing.assert_allclose(there.summary().test[:5], fitted.summary().test[:5], atol=1e-3)


# ---- doors ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("question, parts", [
    (lambda fa: fa.rotate("oblimin"), ["method must be one of ['promax', 'varimax'], got 'oblimin'"]),
    (lambda fa: fa.rotate(None), ["method must be one of ['promax', 'varimax'], got None"]),
    (lambda fa: fa.scores(X, "thomson"), ["method must be one of ['bartlett', 'regression'], got 'thomson'"]),
    (lambda fa: fa.scores(X, rotation="none"), ["must be one of ['promax', 'varimax'], got 'none'"]),
    (lambda fa: fa.summary("quartimax"), ["must be one of ['promax', 'varimax'], got 'quartimax'"]),
    (lambda fa: fa.scores(X[:, :-1]), ["X has 8 features", "is expecting 9"]),
    (lambda fa: fa.scores(np.where(X > 20, np.nan, X)), ["NaN"]),
])
def test_wrong_questions(fitted, question, parts):
    with pytest.raises(ValueError) as caught:
        question(fitted)
    assert all(part in str(caught.value) for part in parts), caught.value


@pytest.mark.parametrize("question", ["rotate", "summary"])
def test_nothing_is_said_before_a_fit(question):
    with pytest.raises(ValueError, match="not fitted yet: call fit"):
        getattr(FactorAnalysis(2), question)()
    with pytest.raises(ValueError, match="not fitted yet: call fit"):
        FactorAnalysis(2).scores(X)


def test_bartletts_scores_need_enough_columns():
    x = X.copy()
    x[4, 2:] = np.nan                                              # 2 entries, 3 factors
    fa = FactorAnalysis(K, missing="marginalise", tol=1e-4).fit(x)
    assert np.isfinite(fa.scores(x).values).all()
    with pytest.raises(ValueError, match="tell 3 factors .* entries observed in rows 4 do not.*regression"):
        fa.scores(x, "bartlett")
    many = np.vstack([np.tile(X, (11, 1)), x[4:5]])                # in the second block
    with pytest.raises(ValueError, match="in rows 1100 do not"):
        fa.scores(many, "bartlett")
    flat = FactorAnalysis(2, noise=1e3).fit(X / 100)               # noise enough for all of the variance
    with pytest.raises(ValueError, match="tell 2 factors apart, and these columns do not"):
        flat.scores(X / 100, "bartlett")
