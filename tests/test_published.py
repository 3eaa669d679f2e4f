"""Figures that others have published, or that another library gives, and that this package must reach.

Correlation matrices are typed in here with their source; maximum-likelihood solutions are figures to
1e-13 in the objective, checked against what R's factanal prints. Loadings are never compared: only Ψ and
WᵀW are determined by data; what R prints of rotated ones is in test_rotation.py. MNIST is read where
TEACHVAE_DATA names a folder with its four IDX files.
"""

import gzip
import math
import os
from pathlib import Path

from cases import GAUSSIANS
import numpy as np
import pytest
from scipy import optimize
from sklearn import datasets as sklearn_datasets
from sklearn.decomposition import FactorAnalysis as TheirFactorAnalysis, PCA

from teachvae import FactorAnalysis, VAE, VariationalEM, datasets, linear_gaussian
from teachvae.doors.units import HeywoodWarning
from teachvae.inference import em

pytestmark = pytest.mark.short                                   # most fits here end early on purpose

# Ability and intelligence tests, n = 112: general, picture, blocks, maze, reading, vocab. Smith & Stanley
# (1983); R's datasets::ability.cov.
ABILITY = np.array([
    [24.641, 5.991, 33.520, 6.023, 20.755, 29.701],
    [5.991, 6.700, 18.137, 1.782, 4.936, 7.204],
    [33.520, 18.137, 149.831, 19.424, 31.430, 50.753],
    [6.023, 1.782, 19.424, 12.711, 4.757, 9.075],
    [20.755, 4.936, 31.430, 4.757, 52.604, 66.762],
    [29.701, 7.204, 50.753, 9.075, 66.762, 135.292],
])
# Eight physical measurements of 305 girls. Harman (1976), Modern Factor Analysis, table 2.3; R's
# datasets::Harman23.cor.
HARMAN_2_3 = np.array([
    [1.000, 0.846, 0.805, 0.859, 0.473, 0.398, 0.301, 0.382],
    [0.846, 1.000, 0.881, 0.826, 0.376, 0.326, 0.277, 0.415],
    [0.805, 0.881, 1.000, 0.801, 0.380, 0.319, 0.237, 0.345],
    [0.859, 0.826, 0.801, 1.000, 0.436, 0.329, 0.327, 0.365],
    [0.473, 0.376, 0.380, 0.436, 1.000, 0.762, 0.730, 0.629],
    [0.398, 0.326, 0.319, 0.329, 0.762, 1.000, 0.583, 0.577],
    [0.301, 0.277, 0.237, 0.327, 0.730, 0.583, 1.000, 0.539],
    [0.382, 0.415, 0.345, 0.365, 0.629, 0.577, 0.539, 1.000],
])
AR1 = 0.4 ** np.abs(np.subtract.outer(np.arange(4), np.arange(4)))  # statsmodels' test of its factor model
AR1_MINIMUM, AR1_SADDLE = 0.1266816340, 0.1266836917


def correlations(covariance):
    sd = np.sqrt(np.diag(covariance))
    return covariance / np.outer(sd, sd)


def discrepancy(Sigma, R):
    """F = log|Σ| + tr Σ⁻¹R − log|R| − p, what factor analysis minimises; 0 where Σ = R."""
    log_det_ratio = np.linalg.slogdet(Sigma)[1] - np.linalg.slogdet(R)[1]
    return log_det_ratio + np.trace(np.linalg.solve(Sigma, R)) - len(R)


def mean_log_p(Sigma, S):
    """Mean log N(x; 0, Σ) over data of covariance S (divisor N)."""
    quadratic = np.trace(np.linalg.solve(Sigma, S))
    return -0.5 * (len(S) * math.log(2 * math.pi) + np.linalg.slogdet(Sigma)[1] + quadratic)


def chi_square(F, n_samples, p, K):
    """Bartlett's statistic and its degrees of freedom."""
    factor = n_samples - 1 - (2 * p + 5) / 6 - 2 * K / 3
    return factor * F, ((p - K) ** 2 - p - K) // 2


PROBLEMS = {
    "ability, K = 1": (
        ABILITY, 1, 112, 0.6993450353537844, 75.17959130053183, 9, -7.622839470495769,
        [0.53459892, 0.85257900, 0.74818565, 0.91012781, 0.23171611, 0.27974112],
    ),
    "ability, K = 2": (
        ABILITY, 2, 112, 0.05716021683697625, 6.106616498750297, 4, -7.301747061237365,
        [0.45522417, 0.58933217, 0.21817956, 0.76942145, 0.05245176, 0.33358833],
    ),
    "Harman 2.3, K = 1": (
        HARMAN_2_3, 1, 305, 2.039270272388944, 611.4412033379517, 20, -8.900693355450416,
        [0.15783460, 0.13470205, 0.18996553, 0.18663112, 0.75999920, 0.82927621, 0.87669660, 0.80072609],
    ),
    "Harman 2.3, K = 2": (
        HARMAN_2_3, 2, 305, 0.25316169357702956, 75.73753999512802, 13, -8.00763906604446,
        [0.16976749, 0.10706769, 0.16616792, 0.19941762, 0.08911825, 0.36370543, 0.41634658, 0.53673400],
    ),
}


def assert_is_the_maximum(estimator, R, F, log_p, uniquenesses):
    """All that data determine: the objective, the likelihood, Ψ, and with Ψ the diagonal of WᵀW."""
    Sigma = estimator.components_.T @ estimator.components_ + np.diag(estimator.noise_variance_)
    np.testing.assert_allclose(estimator.get_covariance(), Sigma, rtol=0, atol=1e-14)
    np.testing.assert_allclose(discrepancy(Sigma, R), F, rtol=0, atol=1e-9)
    np.testing.assert_allclose(mean_log_p(Sigma, R), log_p, rtol=0, atol=1e-9)
    np.testing.assert_allclose(-estimator.nlml_path_[-1], log_p, rtol=0, atol=1e-9)
    np.testing.assert_allclose(estimator.noise_variance_, uniquenesses, rtol=0, atol=1e-5)
    np.testing.assert_allclose(np.diag(Sigma), 1, rtol=0, atol=1e-5)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_factor_analysis_problems(problem):
    covariance, K, n_samples, F, chi2, dof, log_p, uniquenesses = PROBLEMS[problem]
    R = correlations(covariance)
    estimator = FactorAnalysis(K, tol=1e-13).fit_covariance(R, n_samples)
    assert_is_the_maximum(estimator, R, F, log_p, uniquenesses)
    statistic, degrees = chi_square(discrepancy(estimator.get_covariance(), R), n_samples, len(R), K)
    np.testing.assert_allclose(statistic, chi2, rtol=0, atol=1e-6)
    assert degrees == dof


def test_the_covariance_scale_is_the_correlation_scale_times_the_units():
    """Σ_cov = D Σ_cor D, D the standard deviations: the maximum does not depend on the units."""
    sd = np.sqrt(np.diag(ABILITY))
    estimator = FactorAnalysis(1, tol=1e-13).fit_covariance(ABILITY)
    uniquenesses = PROBLEMS["ability, K = 1"][-1]
    np.testing.assert_allclose(estimator.noise_variance_ / sd**2, uniquenesses, rtol=0, atol=1e-5)
    expected = PROBLEMS["ability, K = 1"][-2] - np.sum(np.log(sd))
    np.testing.assert_allclose(-estimator.nlml_path_[-1], expected, rtol=0, atol=1e-9)


# ---- several maxima --------------------------------------------------------------------------------

# The six variables of the example m1 in R's ?factanal, 18 cases.
M1_DATA = np.array([
    [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 3, 3, 3, 3, 3, 4, 5, 6],
    [1, 2, 1, 1, 1, 1, 2, 1, 2, 1, 3, 4, 3, 3, 3, 4, 6, 5],
    [3, 3, 3, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 5, 4, 6],
    [3, 3, 4, 3, 3, 1, 1, 2, 1, 1, 1, 1, 2, 1, 1, 5, 6, 4],
    [1, 1, 1, 1, 1, 3, 3, 3, 3, 3, 1, 1, 1, 1, 1, 6, 4, 5],
    [1, 1, 1, 2, 1, 3, 3, 3, 4, 3, 1, 1, 1, 2, 1, 6, 5, 4],
], dtype=float).T
M1 = np.corrcoef(M1_DATA.T)
CORRELATED = {
    "m1": lambda: M1,
    "ability": lambda: correlations(ABILITY),
    "Harman 2.3": lambda: HARMAN_2_3,
    "iris": lambda: np.corrcoef(sklearn_datasets.load_iris().data.T),
    "wine": lambda: np.corrcoef(sklearn_datasets.load_wine().data.T),
    "breast cancer": lambda: np.corrcoef(sklearn_datasets.load_breast_cancer().data[:, 10:20].T),
}


def profile(log_psi, R, K):
    """The mean nlml at the best W for Ψ, which is known (Lawley 1940), and its gradient in log ψ."""
    root = np.exp(0.5 * log_psi)
    values, vectors = np.linalg.eigh(R / np.outer(root, root))
    values, leading = values[::-1], vectors[:, ::-1][:, :K]
    top = np.maximum(values[:K], 1)
    total = log_psi.sum() + np.sum(np.log(top) + values[:K] / top) + values[K:].sum()
    W = leading * np.sqrt(top - 1) * root[:, None]
    gradient = 0.5 * (np.sum(W**2, axis=1) - np.diag(R)) / root**2 + 0.5
    return 0.5 * (len(R) * math.log(2 * math.pi) + total), gradient


def searched(R, K, psi):
    """The nlml at the end of L-BFGS-B from Ψ, no ψ below the floor of `FactorAnalysis`: another road."""
    found = np.log(psi)
    for _ in range(2):                                             # its line search gives up early at times
        result = optimize.minimize(
            profile, found, args=(R, K), jac=True, method="L-BFGS-B", bounds=[(math.log(1e-6), 1)] * len(R),
            options={"maxiter": 20000, "maxfun": 40000, "ftol": 1e-15, "gtol": 1e-9},
        )
        found = result.x
    return result.fun


def factanals_start(R, K):
    return (1 - 0.5 * K / len(R)) / np.diag(np.linalg.inv(R))


@pytest.mark.parametrize("seed", range(10))
def test_m1_ends_where_r_and_scikit_learn_do(seed):
    """0.8997 nats above the saturated model; the next minimum, 1.2288, is as near to many starts."""
    with pytest.warns(HeywoodWarning):
        estimator = FactorAnalysis(2, tol=1e-6, random_state=seed).fit_covariance(M1, 18)
    above = 0.5 * discrepancy(estimator.get_covariance(), M1)
    saturated = 0.5 * (6 * math.log(2 * math.pi) + np.linalg.slogdet(M1)[1] + 6)
    assert abs(searched(M1, 2, factanals_start(M1, 2)) - saturated - 0.8997) < 1e-4
    assert abs(above - 0.8997) < 1e-4


STARTED = [("m1", 1), ("Harman 2.3", 3), ("iris", 2), ("wine", 5), ("breast cancer", 4)]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name, K", STARTED)
def test_as_low_as_the_best_of_many_starts(name, K):
    R = CORRELATED[name]()
    rng = np.random.default_rng(0)
    many = [factanals_start(R, K), np.ones(len(R)), *rng.uniform(0.01, 1, (10, len(R)))]
    ends = np.array([searched(R, K, psi) for psi in many])
    assert ends.max() > ends.min() + 1e-3, "with one minimum there is nothing to find"
    fits = [FactorAnalysis(K, tol=1e-6, random_state=seed).fit_covariance(R) for seed in range(3)]
    assert max(fit.nlml_path_[-1] for fit in fits) < ends.min() + 1e-5


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_more_starts_find_more():
    """One factor for 20 cases of noise alone in 8 columns: the default ends 0.08 nats too high."""
    R = np.corrcoef(np.random.default_rng(33).standard_normal((20, 8)).T)
    few, default, many = (
        FactorAnalysis(1, tol=1e-6, n_starts=n).fit_covariance(R).nlml_path_[-1] for n in (1, None, 12)
    )
    lowest = min(searched(R, 1, psi) for psi in np.random.default_rng(0).uniform(0.01, 1, (30, 8)))
    assert few > lowest + 0.05 and abs(many - lowest) < 1e-5 and many - 1e-5 < default <= few


def test_n_starts_is_checked():
    for wrong in (0, -1, 1.5, "two", True):
        with pytest.raises(ValueError, match="n_starts must be an integer >= 1"):
            FactorAnalysis(1, n_starts=wrong).fit_covariance(AR1)


STOPPED = [("m1", 1), ("m1", 2), ("ability", 2), ("ability", 3), ("Harman 2.3", 2), ("wine", 2), ("wine", 3),
           ("breast cancer", 2)]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name, K", STOPPED)
def test_tol_is_how_far_from_its_minimum_a_fit_ends(name, K):
    R = CORRELATED[name]()
    for seed in range(3):
        estimator = FactorAnalysis(K, tol=1e-6, random_state=seed).fit_covariance(R)
        assert estimator.converged_
        end = searched(R, K, estimator.noise_variance_)
        assert -1e-8 < estimator.nlml_path_[-1] - end < 1e-6


@pytest.mark.parametrize("name, K", [("ability", 2), ("Harman 2.3", 2), ("wine", 2)])
def test_tol_is_how_far_linear_variational_em_ends(name, K):
    R = CORRELATED[name]()
    L = np.linalg.cholesky(R).T * math.sqrt(len(R))
    estimator = VariationalEM(K, hidden=(), posterior="full", tol=1e-6).fit(np.vstack([L, -L]))
    assert -1e-8 < estimator.q_path_[-1] - searched(R, K, estimator.noise_variance_) < 0.9e-6


def assert_reaches(estimator, R, F):
    assert abs(discrepancy(estimator.get_covariance(), R) - F) < 5e-10


@pytest.mark.parametrize("seed", range(5))
def test_ar1_reaches_the_minimum_from_every_start(seed):
    assert_reaches(FactorAnalysis(1, tol=1e-12, random_state=seed).fit_covariance(AR1), AR1, AR1_MINIMUM)


def test_ar1_symmetric_start_stops_at_the_saddle(monkeypatch):
    """AR(1) looks the same from both ends, and EM keeps a symmetry that it is given."""
    def symmetric(S, n_latent, likelihood, noises, lower):
        yield 0.5 * np.ones((1, 4)), 0.75 * np.ones(4)

    monkeypatch.setattr(em, "starts", symmetric)
    estimator = FactorAnalysis(1, tol=1e-12).fit_covariance(AR1)
    assert_reaches(estimator, AR1, AR1_SADDLE)
    with pytest.raises(AssertionError):
        assert_reaches(estimator, AR1, AR1_MINIMUM)


# ---- probabilistic PCA ----------------------------------------------------------------------------

DIGITS = {1: -3.748464, 2: 0.005707, 5: 8.907637, 10: 17.451947, 20: 27.2773}
MNIST = {1: -7.502723, 2: 25.099982, 5: 108.540435, 10: 206.777045, 20: 331.620179, 50: 558.090084}


def ppca(x, K):
    """σ² and the mean log p of probabilistic PCA, from scikit-learn's eigenvalues (divisor N − 1)."""
    N, D = x.shape
    values = PCA(svd_solver="full").fit(x).explained_variance_ * (N - 1) / N
    values = np.concatenate([values, np.zeros(D - len(values))])
    sigma2 = values[K:].mean()
    log_det = np.log(values[:K]).sum() + (D - K) * math.log(sigma2)
    return sigma2, -0.5 * (D * math.log(2 * math.pi) + log_det + D)


@pytest.mark.parametrize("K", DIGITS)
def test_ppca_of_digits(K):
    x = datasets.digits(dequantise=False).x
    np.testing.assert_array_equal(x, sklearn_datasets.load_digits().data / 16)
    estimator = FactorAnalysis(K, noise="isotropic").fit(x)
    sigma2, log_p = ppca(x, K)
    assert abs(log_p - DIGITS[K]) < 1e-6
    assert abs(estimator.score(x) - log_p) < 1e-8
    np.testing.assert_allclose(estimator.noise_variance_, sigma2, rtol=1e-9)


@pytest.mark.parametrize("K", MNIST)
def test_ppca_of_mnist(K):
    folder = os.environ.get("TEACHVAE_DATA")
    if not folder:
        pytest.skip("TEACHVAE_DATA names no folder with the MNIST files")
    file = Path(folder) / "train-images-idx3-ubyte.gz"
    if not file.exists():
        pytest.skip(f"the folder {folder} of TEACHVAE_DATA holds no {file.name}")
    with gzip.open(file) as f:
        magic, _, height, width = np.frombuffer(f.read(16), ">i4")
        assert (magic, height, width) == (2051, 28, 28)
        x = np.frombuffer(f.read(1000 * 784), np.uint8).reshape(1000, 784) / 255
    estimator = FactorAnalysis(K, noise="isotropic").fit(x)
    assert abs(estimator.score(x) - MNIST[K]) < 1e-6
    assert abs(ppca(x, K)[1] - MNIST[K]) < 1e-6


def linear_vae(K):
    return VAE(K, hidden=(), noise="isotropic", optimizer="lbfgs", nodes="sigma")


def test_linear_vae_reaches_ppca_of_digits():
    """Only gradients of the bound lead here: a second road to the published figure."""
    x = datasets.digits(dequantise=False).x
    vae, (sigma2, log_p) = linear_vae(1).set_params(tol=1e-10).fit(x), ppca(x, 1)
    assert vae.converged_ and abs(log_p - DIGITS[1]) < 1e-6
    assert abs(vae.score(x) - log_p) < 1e-9
    assert abs(-np.mean(vae.bound(x)) - log_p) < 1e-9
    np.testing.assert_allclose(vae.noise_variance_, sigma2, rtol=1e-6)


def wide(n_cases, n_visible):
    """Fewer cases than columns, and a covariance whose eigenvalues span three decades before they are 0."""
    rng = np.random.default_rng(0)
    sources = rng.standard_normal((n_cases, n_cases)) / np.arange(1, n_cases + 1)
    return sources @ rng.standard_normal((n_cases, n_visible))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_linear_vae_reaches_ppca_of_wide_data(dtype):
    x = wide(40, 90)
    vae, (sigma2, log_p) = linear_vae(2).set_params(dtype=dtype).fit(x), ppca(x, 2)
    assert vae.converged_
    np.testing.assert_allclose(-vae.q_path_[-1], log_p, rtol=0, atol=1e-8)
    np.testing.assert_allclose(vae.noise_variance_, sigma2, rtol=1e-6)
    assert vae.noise_variance_.dtype == dtype
    # what the training data cannot speak of is not listened to
    unseen = np.linalg.svd(x - x.mean(axis=0))[2][39:]
    codes = vae.encode(x.mean(axis=0) + unseen)
    np.testing.assert_allclose(codes, np.broadcast_to(codes[0], codes.shape), rtol=0, atol=1e-4)


@pytest.mark.parametrize("K", [1, 2])
def test_linear_vae_reaches_ppca(K):
    x = datasets.digits(dequantise=False).x[:300, 18:30]
    vae, (sigma2, log_p) = linear_vae(K).fit(x), ppca(x, K)
    assert abs(vae.score(x) - log_p) < 1e-6
    assert abs(-np.mean(vae.bound(x)) - log_p) < 1e-6
    np.testing.assert_allclose(vae.noise_variance_, sigma2, rtol=1e-4)


def test_components_below_a_fixed_noise_collapse():
    """σ² between the second and the third eigenvalue: two of four components stay, two are 0."""
    x = datasets.digits(dequantise=False).x
    values = np.linalg.eigvalsh(np.cov(x.T, bias=True))[::-1]
    sigma2 = 0.5 * (values[1] + values[2])
    W = FactorAnalysis(4, noise=float(sigma2)).fit(x).components_
    lengths = np.linalg.norm(W, axis=1)
    np.testing.assert_allclose(lengths**2, [values[0] - sigma2, values[1] - sigma2, 0, 0], atol=1e-9)


# ---- factor analysis beside scikit-learn's --------------------------------------------------------

SETS = {
    "wine, K = 2": (lambda: sklearn_datasets.load_wine().data, 2),
    "wine, K = 3": (lambda: sklearn_datasets.load_wine().data, 3),
    "breast cancer, K = 2": (lambda: sklearn_datasets.load_breast_cancer().data[:, 10:20], 2),
    "linear, K = 3": (lambda: datasets.linear_gaussian(n_cases=400).x, 3),
}


def assert_as_good_as(ours, theirs, tol=1e-6):
    assert ours >= theirs - tol, f"{theirs - ours:.3g} nats per case below"


@pytest.mark.parametrize("name", SETS)
def test_not_below_scikit_learn(name):
    make, K = SETS[name]
    x = make()
    x = (x - x.mean(axis=0)) / x.std(axis=0)                       # their floor of 1e-12 is absolute
    theirs = TheirFactorAnalysis(K, svd_method="lapack", tol=1e-9, max_iter=20000).fit(x)
    ours = FactorAnalysis(K, tol=1e-11).fit(x)
    assert len(ours.heywood_) == 0
    assert_as_good_as(ours.score(x), theirs.score(x))
    assert abs(ours.score(x) - theirs.score(x)) < 1e-6, "another optimum: compare no more than the value"
    np.testing.assert_allclose(ours.noise_variance_, theirs.noise_variance_, rtol=0, atol=1e-3)
    np.testing.assert_allclose(ours.get_covariance(), theirs.get_covariance(), rtol=0, atol=1e-3)
    np.testing.assert_allclose(
        ours.score_samples(x), theirs.score_samples(x), rtol=0, atol=0.02, err_msg="per case"
    )


def test_the_comparison_catches_a_run_that_stopped_early():
    x = sklearn_datasets.load_wine().data
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    theirs = TheirFactorAnalysis(2, svd_method="lapack", tol=1e-9, max_iter=20000).fit(x)
    early = FactorAnalysis(2, tol=1e-2).fit(x)
    with pytest.raises(AssertionError, match="below"):
        assert_as_good_as(early.score(x), theirs.score(x))


# ---- exact small numbers --------------------------------------------------------------------------


@pytest.mark.parametrize("family", GAUSSIANS)
@pytest.mark.parametrize("phi, kl", [([2.0, 0.0], 2.0), ([0.0, 1.0], 2.194528049465)])
def test_kl_of_one_normal_to_the_prior(family, phi, kl):
    """KL(N(2, 1) ‖ N(0, 1)), and that of m = 0, log s = 1."""
    value, _ = GAUSSIANS[family](1).kl(np.array([phi]))
    np.testing.assert_allclose(value, [kl], rtol=0, atol=1e-12)


def test_mean_field_gap_of_two_equal_loadings():
    """W = (1, 1)ᵀ on one variable, Ψ = 1: M = [[2, 1], [1, 2]], and the gap is ½ log(4/3)."""
    gap = linear_gaussian.mean_field_gap(np.array([[1.0], [1.0]]), np.array([1.0]))
    assert abs(gap - 0.5 * math.log(4 / 3)) < 1e-15
