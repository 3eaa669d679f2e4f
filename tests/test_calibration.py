"""Simulation-based calibration: flat where q is the posterior, and told by its shape where it is not."""

import functools
from unittest import mock

import numpy as np
import pytest
from scipy import special, stats

from teachvae import FactorAnalysis, VAE, calibration, datasets, linear_gaussian, plots
from teachvae.posteriors import DiagonalGaussian

pytestmark = pytest.mark.short                                   # most fits here end early on purpose

K = 2
X = datasets.linear_gaussian(n_cases=300, n_visible=6, n_latent=K).x


@functools.cache
def analysis():
    return FactorAnalysis(K).fit(X)


def changed_q(shift=0.0, ratio=1.0):
    """Factor analysis whose q lies shift·s too high and is `ratio` times as wide as the posterior."""
    model, honest = analysis(), FactorAnalysis._phi

    def phi(self, theta, cases):
        m, log_s = np.split(honest(self, theta, cases), 2, axis=1)
        log_s = log_s + np.log(ratio)
        return np.hstack([m + shift * np.exp(log_s), log_s])

    return model, mock.patch.object(FactorAnalysis, "_phi", phi)


def rank_probabilities(L, shift=0.0, ratio=1.0):
    """P(r) of (10.15), r = 0 … L: z̃ in units of the posterior is v ~ N(0, 1), over which a sum is exact."""
    v, r = np.linspace(-9, 9, 3601)[:, None], np.arange(L + 1)
    return (stats.binom.pmf(r, L, special.ndtr(v / ratio - shift)) * stats.norm.pdf(v)).sum(axis=0) * 0.005


def closed_forms(L, shift=0.0, ratio=1.0):
    """Bias, and for shift 0 the spread, as (10.15) has them."""
    a = np.arcsin(1 / (1 + ratio**2)) / (2 * np.pi)
    return stats.norm.cdf(-shift / np.sqrt(1 + ratio**-2)) - 0.5, 12 * (0.25 - a + L * a) / (L + 2)


# ---- ranks and their histogram ----------------------------------------------------------------------


def test_10_13_ranks_one_by_one(rng):
    z, draws = rng.normal(size=(7, 3)), rng.normal(size=(9, 7, 3))
    found = calibration.ranks(z, draws)
    for n in range(7):
        for k in range(3):
            assert found[n, k] == sorted([*draws[:, n, k], z[n, k]]).index(z[n, k])


@pytest.mark.parametrize("L, B", [(99, None), (9, None), (10, 4), (1, None)])
def test_10_14_the_test_against_scipys(L, B, rng):
    ranks = rng.integers(L + 1, size=(500, 2))
    found = calibration.calibration(ranks, L, B)
    B = len(found.expected)
    bins = [[r for r in range(L + 1) if r * B // (L + 1) == b] for b in range(B)]
    assert min(map(len, bins)) >= 1
    counts = np.array([np.isin(ranks, own).sum(axis=0) for own in bins])
    np.testing.assert_array_equal(found.counts, counts)
    expected = 500 * np.array([len(own) for own in bins]) / (L + 1)
    np.testing.assert_allclose(found.expected, expected)
    oracle = stats.chisquare(counts, expected[:, None] * [1, 1])
    np.testing.assert_allclose(found.statistic, oracle.statistic)
    np.testing.assert_allclose(found.p_value, oracle.pvalue)
    np.testing.assert_array_equal(found.band, stats.binom.interval(0.99, 500, expected / 500))
    np.testing.assert_allclose(found.bias, ranks.mean(axis=0) / L - 0.5)


def test_bins_are_filled():
    assert len(calibration.calibration(np.zeros((10_000, 1), int), 99).expected) == 20
    assert len(calibration.calibration(np.zeros((100, 1), int), 99).expected) == 5
    assert len(calibration.calibration(np.zeros((10, 1), int), 99).expected) == 2
    assert len(calibration.calibration(np.zeros((1000, 1), int), 3).expected) == 4


@pytest.mark.parametrize("shift, ratio", [(0, 1), (0, 0.4), (0, 2), (0.5, 1), (-0.8, 0.7)])
def test_10_15_closed_forms_against_a_sum_over_z(shift, ratio):
    L = 12
    p, r = rank_probabilities(L, shift, ratio), np.arange(L + 1)
    bias, spread = closed_forms(L, shift, ratio)
    assert p.sum() == pytest.approx(1, abs=1e-9)
    assert p @ r / L - 0.5 == pytest.approx(bias, abs=1e-8)
    if shift == 0:
        assert (p @ r**2 - (p @ r) ** 2) / (L * (L + 2) / 12) == pytest.approx(spread, abs=1e-8)
    if (shift, ratio) == (0, 1):
        np.testing.assert_allclose(p, 1 / (L + 1), atol=1e-9)
    # The density for many draws, from the ratio of two normal densities.
    u = np.linspace(0.01, 0.99, 99)
    t = special.ndtri(u)
    density = ratio * stats.norm.pdf(ratio * (t + shift)) / stats.norm.pdf(t)
    below = stats.norm.cdf(ratio * (t + shift))                    # P(Φ(t̃) <= u)
    np.testing.assert_allclose(np.gradient(below, u)[5:-5], density[5:-5], rtol=0.02, atol=0.01)


# ---- of a model ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["q", "exact"])
def test_the_posteriors_own_draws_have_flat_ranks(method):
    found = analysis().calibration(3000, 19, method)
    assert found.ranks.shape == (3000, K) and found.counts.shape == (20, K)
    assert (found.p_value > 0.01).all()
    assert (np.abs(found.bias) < 3.5 / np.sqrt(12 * 3000)).all()
    assert (np.abs(found.spread - 1) < 3.5 * np.sqrt(0.8 / 3000)).all()


def test_a_linear_vae_at_its_optimum_has_flat_ranks():
    vae = VAE(K, hidden=(), optimizer="lbfgs", nodes="sigma").fit(X)
    assert (vae.calibration(2000, 19).p_value > 0.01).all()


@pytest.mark.parametrize("shift, ratio", [(0, 0.5), (0, 2), (0.3, 1)], ids=["narrow", "wide", "beside"])
def test_a_planted_q_is_found_and_looks_as_the_closed_form_says(shift, ratio):
    """∪, ∩ and a slope: the histogram is flat by no means, and is that of (10.15)."""
    model, patch = changed_q(shift, ratio)
    N, L = 3000, 19
    with patch:
        found = model.calibration(N, L)
        exact = model.calibration(N, L, "exact")
    assert (found.p_value < 1e-12).all() and (exact.p_value > 0.01).all()
    p = rank_probabilities(L, shift, ratio)
    for k in range(K):
        assert stats.chisquare(found.counts[:, k], N * p / p.sum()).pvalue > 0.01
    bias, spread = closed_forms(L, shift, ratio)
    np.testing.assert_allclose(found.bias, bias, atol=4 / np.sqrt(12 * N))
    if shift == 0:
        np.testing.assert_allclose(found.spread, spread, atol=0.09)
    ends, middle = found.counts[[0, -1]].mean(axis=0), found.counts[8:12].mean(axis=0)
    assert {0.5: (ends > 2 * middle), 2: (middle > 2 * ends), 1: (found.counts[0] > 2 * found.counts[-1])}[
        ratio
    ].all()


def test_mean_field_on_rotated_loadings_is_as_narrow_as_its_closed_form():
    """The best diagonal q of a linear model: ρ_k² = 1/(M_kk (M⁻¹)_kk), for every x (10.15)."""
    model = FactorAnalysis(K).fit(X)
    c, s = np.cos(0.7), np.sin(0.7)
    layer = model.theta_["decoder"][0]
    layer["W"] = np.array([[c, -s], [s, c]]) @ layer["W"]
    layer["W"][1] = 0.8 * layer["W"][0] + 0.3 * layer["W"][1]
    assert isinstance(model.model_.posterior, DiagonalGaussian)
    W, _, psi = linear_gaussian.parameters(model.model_, model.theta_)
    M = linear_gaussian.precision(W, psi)
    ratio = 1 / np.sqrt(np.diag(M) * np.diag(np.linalg.inv(M)))
    assert (ratio < 0.6).all()
    found = model.calibration(3000, 19)
    assert (found.p_value < 1e-12).all()
    for k in range(K):
        p = rank_probabilities(19, 0, ratio[k])
        assert stats.chisquare(found.counts[:, k], 3000 * p / p.sum()).pvalue > 0.01
    np.testing.assert_allclose(found.spread, closed_forms(19, 0, ratio)[1], atol=0.09)


def test_draws_by_importance_are_calibrated_where_q_is_not():
    model, patch = changed_q(0.5, 2.0)
    with patch, mock.patch.object(FactorAnalysis, "_refined", lambda self, t, c, n: self._phi(t, c)):
        q, weighted = (model.calibration(1000, 19, method) for method in ("q", "importance"))
    assert (q.p_value < 1e-9).all() and (weighted.p_value > 0.01).all()


def test_the_model_makes_every_kind_of_table():
    """Data go through the user's own columns: categories by their names, constants as constants."""
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.normal(size=60), rng.poisson(2, 60), rng.choice([3.0, 8.0], 60), np.ones(60)])
    kinds = [("gaussian", [0, 3]), ("poisson", [1]), ("categorical", [2])]
    x[5, 0] = np.nan
    model = VAE(1, hidden=(3,), likelihood=kinds, epochs=2, constant="drop", missing="marginalise")
    with pytest.warns(UserWarning, match="constant columns are set aside"):
        model.set_params(dtype="float32").fit(x)
    found = model.calibration(50, 9)
    assert found.ranks.shape == (50, 1) and 0 <= found.ranks.min() <= found.ranks.max() <= 9
    again, other = model.calibration(50, 9), model.calibration(50, 9, random_state=1)
    np.testing.assert_array_equal(found.ranks, again.ranks)
    assert (found.ranks != other.ranks).any()


# ---- the picture -----------------------------------------------------------------------------------


def test_histograms_show_counts_in_their_band():
    found = analysis().calibration(400, 19)
    figure = plots.rank_histograms([("a", found), ("b", calibration.calibration(found.ranks[:, :1], 19))])
    axes = figure.get_axes()
    assert len(axes) == 4 and not axes[3].axison
    for k, ax in enumerate(axes[:2]):
        (bars,) = [p for p in ax.patches if hasattr(p, "get_data")]
        np.testing.assert_array_equal(bars.get_data().values, found.counts[:, k])
        assert f"{found.p_value[k]:.2g}" in ax.get_title()
        heights = ax.collections[0].get_paths()[0].vertices[:, 1]
        assert {heights.min(), heights.max()} == {found.band[0].min(), found.band[1].max()}
    assert plots.png(figure).startswith(b"\x89PNG")
