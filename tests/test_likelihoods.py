"""Each kind of likelihood for itself: what the rows in `cases.py` do not ask.

Values, totals, gradients, masks, units, backends and Q ≥ nlml at random θ come with those rows.
"""

import re

from cases import D, WIDE, perturbed
import numpy as np
import pytest
from scipy import special, stats
from test_components import PARTS as EVERY

from teachvae import FactorAnalysis, VAE, VariationalEM, bound, divergence, expectations, grid, noise, tree
from teachvae.arrays.backend import get_backend, to_numpy
from teachvae.arrays.observed import Observed, seen
from teachvae.arrays.special import log_factorial, poisson_quantile
from teachvae.doors.units import StandardUnits, fold_theta, start_theta
from teachvae.gradcheck import draw_until_smooth, package
from teachvae.likelihoods import (
    Bernoulli, Categorical, Gaussian, Mixed, Poisson, PredictedGaussian, StudentT, poisson,
    relaxed_bernoulli
)
from teachvae.model import Model
from teachvae.networks.layers import mlp

pytestmark = pytest.mark.short                                   # most fits here end early on purpose

PARTS = [Poisson(D), PredictedGaussian(D, 0.3)]
both = pytest.mark.parametrize("p", PARTS, ids=["poisson", "gaussian-predicted"])


def data(rng, p, f):
    return p.sample({}, f, p.draw_noise(rng, f.shape))


# ---- both


@both
def test_start_is_the_best_fit_that_ignores_z(p, rng):
    x = rng.poisson([0.5, 2, 9], (40, D)).astype(float)
    f, params = p.start(x.mean(axis=0), x.var(axis=0))
    assert f.shape == (p.n_f,) and params == {}
    log_p, cache = p.forward(params, f + np.zeros((1, 40, p.n_f)), x)
    df, _ = p.backward(params, cache, np.ones_like(log_p))
    np.testing.assert_allclose(df.sum(axis=(0, 1)), 0, atol=1e-10)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@both
def test_nothing_overflows(p, dtype):
    """f, x of every size: value, gradient, mean and all pairs are finite, and no warning is given."""
    line = np.array([-1e6, -1e3, -90, 0, 29.9, 30.1, 90, 1e3, 1e6], dtype=dtype)
    f = np.stack(np.meshgrid(*[line] * (p.n_f // D)), axis=-1).reshape(-1, p.n_f // D)
    f = np.repeat(f, D, axis=1)[None]                              # (1, R, n_f)
    for x in (0, 1, 1000):
        x = np.full((f.shape[1], D), x, dtype=dtype)
        log_p, cache = p.forward({}, f, x)
        df, _ = p.backward({}, cache, np.ones_like(log_p))
        for value in (log_p, df, p.mean({}, f), p.cross({}, f[0], x[:3])):
            assert value.dtype == dtype and np.isfinite(value).all()


# ---- Poisson


def test_log_factorial_on_every_backend(backend):
    x = np.concatenate([np.arange(3000.0), 10.0 ** np.arange(4, 13)])
    expected = special.gammaln(x + 1)
    got = log_factorial(backend.asarray(x))
    assert got.dtype == getattr(backend.xp, backend.dtype)
    assert backend.device is None or got.device == backend.device
    np.testing.assert_allclose(to_numpy(got), expected, rtol=8 * np.finfo(backend.dtype).eps)
    assert (to_numpy(got)[:2] == 0).all()
    assert np.isfinite(to_numpy(log_factorial(backend.asarray([-1e9, -1.0, -0.5, 0.5, 8.5])))).all()


def test_quantiles_are_those_of_scipy():
    u = np.array([0, 1e-9, 1e-3, 0.2, 0.5, 0.9, 0.999999])[:, None]
    rates = np.array([1e-320, 1e-8, 0.1, 1, 7.5, 300, 1e5, 9e8])
    got = poisson_quantile(u, rates)
    np.testing.assert_array_equal(got, np.maximum(stats.poisson.ppf(u, rates), 0))
    edge = stats.poisson.cdf(np.arange(12), 4.0)                   # u where the quantile steps up
    np.testing.assert_array_equal(poisson_quantile(edge, np.full(12, 4.0)), stats.poisson.ppf(edge, 4.0))
    large = poisson_quantile(u, np.array([1.1e9, 1e13]))
    z = (large - [1.1e9, 1e13]) / np.sqrt([1.1e9, 1e13])
    np.testing.assert_allclose(stats.norm.cdf(z[2:]), np.broadcast_to(u, z.shape)[2:], atol=1e-4)
    last = poisson_quantile(np.ones(3, dtype="float32"), np.ones(3, dtype="float32"))
    assert last.dtype == np.float32 and (last < 20).all()


def test_poisson_samples_have_their_frequencies():
    f = np.log([0.3, 2.0, 11.0])
    u = (np.arange(100000) + 0.5)[:, None] / 100000                # every quantile once
    x = Poisson(3).sample({}, f, u + np.zeros(3))
    for d, rate in enumerate([0.3, 2.0, 11.0]):
        counts = np.bincount(x[:, d].astype(int)) / 100000
        np.testing.assert_allclose(counts, stats.poisson.pmf(np.arange(len(counts)), rate), atol=2e-5)
    np.testing.assert_allclose(Poisson(3).mean({}, f), [0.3, 2, 11])


def test_the_rate_leaves_exp_smoothly():
    p, most = Poisson(1), poisson.MOST_LOG_RATE
    f = most + np.array([-2.0, -1e-6, 0.0, 1e-6, 3.0])
    rate, log_rate, drate, dlog_rate = p.rate(f)
    expected = np.exp(most) * np.array([np.exp(-2), 1 - 1e-6, 1, 1 + 1e-6, 4])
    np.testing.assert_allclose(rate, expected, rtol=1e-11)
    np.testing.assert_allclose(log_rate, np.log(rate), rtol=1e-14)
    np.testing.assert_allclose(drate, np.exp(np.minimum(f, most)), rtol=1e-14)
    np.testing.assert_allclose(dlog_rate, drate / rate, rtol=1e-12)


@pytest.mark.parametrize("masked", [False, True])
def test_beyond_the_bend_it_is_still_a_poisson_with_its_gradient(masked, monkeypatch):
    """With the bend at 0, where sums and central differences can see it."""
    monkeypatch.setattr(poisson, "MOST_LOG_RATE", 0.0)
    report = draw_until_smooth(
        lambda seed: package.of_likelihood(np.random.default_rng(seed), Poisson(D), masked), range(5)
    )
    assert report.ok, report
    f, x = np.array([[[-2.0]], [[0.5]], [[4.0]]]), np.arange(100.0)[:, None]
    log_p, _ = Poisson(1).forward({}, f + np.zeros((100, 1)), x)
    np.testing.assert_allclose(np.exp(log_p).sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(np.exp(log_p) @ x[:, 0], [np.exp(-2), 1.5, 5], rtol=1e-12)


def test_poisson_starts_above_zero():
    f, _ = Poisson(2).start(np.array([0.0, 5.0]), np.ones(2))
    np.testing.assert_allclose(np.exp(f), [0.01, 5])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_counts_in_other_units_are_the_same_counts(dtype, rng):
    """log p(x) = log p(x/c) − D log c, to the last count, masked or for all pairs; so are its answers."""
    p, x = Poisson(D), rng.poisson([0.3, 40, 900], (200, D)).astype(dtype)
    shift, scale = p.standard_units(x.mean(axis=0), x.var(axis=0))
    assert (shift == 0).all()
    np.testing.assert_allclose(scale, np.sqrt(np.mean(x.astype(float) ** 2)), rtol=1e-5)
    small, other = p.rescaled(scale), x / scale
    np.testing.assert_array_equal(small.counts(other), x)
    assert p.rescaled(2 * np.ones(D)).rescaled(3 * np.ones(D)) == Poisson(D, 6.0)
    f, mask = rng.standard_normal((1, 200, D)).astype(dtype), (rng.random((200, D)) < 0.5).astype(dtype)
    tolerance = {"rtol": 1e-12 if dtype == "float64" else 1e-5}
    for some in (np.ones((200, D), dtype), mask):
        volume = np.log(scale[0]) * some.sum(axis=1)
        one, two = p.forward({}, f, x, some)[0], small.forward({}, f, other, some)[0]
        np.testing.assert_allclose(one, two - volume, **tolerance)
    all_pairs = small.cross({}, f[0], other[:5]) - 3 * np.log(scale[0])
    np.testing.assert_allclose(p.cross({}, f[0], x[:5]), all_pairs, **tolerance)
    u = rng.random((200, D)).astype(dtype)
    np.testing.assert_allclose(small.sample({}, f[0], u) * scale, p.sample({}, f[0], u), **tolerance)
    np.testing.assert_allclose(small.mean({}, f[0]) * scale, p.mean({}, f[0]), **tolerance)
    starts = [q.start(y.mean(axis=0), y.var(axis=0))[0] for q, y in ((p, x), (small, other))]
    np.testing.assert_allclose(*starts, **tolerance, atol=1e-5 if dtype == "float32" else 0)
    assert (p.standard_units(np.zeros(2), np.zeros(2))[1] == 1).all()


@pytest.mark.parametrize("value", [-1.0, 0.5, 2e12])
@pytest.mark.parametrize("method", ["check", "check_values"])
def test_what_is_no_count_is_refused_with_its_cell(value, method):
    x = np.array([[0.0, 3.0], [1.0, 1e12], [2.0, 0.0], [5.0, 0.0]])
    getattr(Poisson(2), method)(x, ["eggs", "nests"])
    x[2:, 1] = value
    cell = re.escape(f"got 2 other values, the first {value:g} in row 2, column nests")
    with pytest.raises(ValueError, match=cell):
        getattr(Poisson(2), method)(x, ["eggs", "nests"])


# ---- a Gaussian with predicted variances


def test_no_variance_is_below_the_floor():
    """At l = −1000, and where l is about log floor, log p is that of a normal with v = floor + exp l."""
    p, x = PredictedGaussian(1, 0.3), np.array([[2.0]])
    for l in (-1e3, np.log(0.3) - 2, np.log(0.3), 1.0, 40.0):
        f = np.array([[[0.5, l]]])
        log_p, cache = p.forward({}, f, x)
        v = 0.3 + np.exp(l)
        assert log_p.item() == pytest.approx(stats.norm.logpdf(2.0, 0.5, np.sqrt(v)), rel=1e-13)
        df, _ = p.backward({}, cache, np.ones((1, 1)))
        expected = [1.5 / v, 0.5 * (1.5**2 / v - 1) * np.exp(l) / v]
        np.testing.assert_allclose(df[0, 0], expected, rtol=1e-12, atol=1e-16)


def test_predicted_variances_are_those_of_the_samples(rng):
    """Sigma points for noise: the sample moments are exact."""
    p, f = PredictedGaussian(D, 0.3), rng.standard_normal(2 * D)
    points, weights = noise.sigma_points(D)
    x = p.sample({}, f, points[:, 0])
    np.testing.assert_allclose(weights @ x, f[:D], rtol=1e-13)
    covariance = (weights[:, None] * (x - f[:D])).T @ (x - f[:D])
    np.testing.assert_allclose(covariance, np.diag(0.3 + np.exp(f[D:])), atol=1e-13)
    assert p.draw_noise(rng, (5, 4, 2 * D)).shape == (5, 4, D)


def test_predicted_start_stays_above_the_floor():
    f, _ = PredictedGaussian(2, 0.3).start(np.zeros(2), np.array([0.0, 0.8]))
    np.testing.assert_allclose(f, [0, 0, np.log(0.03), np.log(0.5)])


def test_folding_units_with_predicted_variances_changes_q_by_the_log_volume():
    rng = np.random.default_rng(63)
    x = rng.standard_normal((20, 3)) * [0.5, 1, 50] + [5, -2, 100]
    p, decoder = PredictedGaussian(3, 0.2), mlp(2, (4,), 6)
    units = StandardUnits(p, x)
    assert len(set(units.scale)) == 1 and units.scale[0] > 10
    model, standard = Model(decoder, p, 2), Model(decoder, p.rescaled(units.scale), 2)
    assert standard.likelihood.floor < 0.002
    theta = tree.map(lambda leaf: leaf + rng.normal(0, 0.3, leaf.shape), model.init(rng, get_backend()))
    theta["decoder"][-1]["b"][3:] = np.log(standard.likelihood.floor)   # half of v is the floor
    phi, eta = rng.standard_normal((20, 4)), rng.standard_normal((3, 20, 2))
    Q, _ = bound.forward(standard, theta, phi, units.to_standard(x), eta)
    Q_x, _ = bound.forward(model, fold_theta(model, theta, units), phi, x, eta)
    np.testing.assert_allclose(Q_x, Q + units.log_volume, rtol=1e-9)


def test_data_below_the_floor_are_refused_by_name(rng):
    """Where any column is above it, a quiet or constant one does no harm."""
    x = rng.standard_normal((30, 3)) * [1, 1e-3, 0] + 5
    with pytest.raises(ValueError, match=r"no column .* floor of 0.0001 .*\(b, c\): .* lower floor"):
        PredictedGaussian(2).check(x[:, 1:], list("bc"))
    PredictedGaussian(3).check(x, list("abc"))
    PredictedGaussian(3).check(np.where(np.eye(30, 3) == 1, np.nan, x), list("abc"))
    PredictedGaussian(2, 1e-8).check(x[:, 1:], list("bc"))
    PredictedGaussian(2).check_values(x[:, 1:], list("bc"))        # they have a density, though


@pytest.mark.parametrize("floor", ["isotropic", 0, -1.0, np.inf, np.nan, True, None])
def test_other_floors_are_refused(floor):
    with pytest.raises(ValueError, match="floor of predicted variances.*must be a finite number > 0"):
        PredictedGaussian(3, floor)


@both
def test_training_starts_near_the_best_model_without_z(p, rng):
    """Rates and variances are exp of the decoder's output: at random slopes a few draws of z cost much."""
    x = data(rng, p, np.full((50, p.n_f), 2.0))
    model, units = Model(mlp(1, (), p.n_f), p, 1), StandardUnits(p, x)
    theta = start_theta(Model(model.decoder, p.rescaled(units.scale), 1), rng, get_backend(), units)
    assert theta["decoder"][0]["W"].any()
    f, _ = model.decoder.forward(fold_theta(model, theta, units)["decoder"], np.array([[-3.0], [0.0], [3.0]]))
    if isinstance(p, Poisson):
        assert np.ptp(f, axis=0).max() < 2
        np.testing.assert_allclose(np.exp(f[1]), x.mean(axis=0), rtol=1e-12)
    else:
        np.testing.assert_allclose(0.3 + np.exp(f[:, D:]), np.tile(x.var(axis=0), (3, 1)), rtol=1e-12)
        np.testing.assert_allclose(f[1, :D], x.mean(axis=0), rtol=1e-12)


# ---- Student-t


def student(dof, rng, n_cases=400):
    """Residuals (N, 1) with scale 3, and what a model of them alone has: f = 0 and log_psi."""
    return 3 * rng.standard_t(dof, (n_cases, 1)), np.zeros((1, n_cases, 1)), {"log_psi": np.zeros(1)}


@pytest.mark.parametrize("masked", [False, True])
def test_student_t_with_many_degrees_of_freedom_is_the_gaussian(masked, rng):
    t, normal = StudentT(D, 1e9), Gaussian(D)
    params, f, x = perturbed(rng, t), rng.standard_normal((2, 5, D)), rng.standard_normal((5, D))
    mask = (rng.random((5, D)) < 0.5).astype(float) if masked else None
    found = []
    for p in (t, normal):
        log_p, cache = p.forward(params, f, x, mask)
        df, dparams = p.backward(params, cache, np.ones_like(log_p))
        start = p.start(x.mean(axis=0), x.var(axis=0))[1]["log_psi"]
        squares, cross = p.squares(params, f, x), p.cross(params, f[0], x, mask)
        found.append([log_p, df, dparams["log_psi"], squares, cross, start])
    for one, two in zip(*found, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-6, atol=1e-6)


def test_student_t_starts_with_the_columns_variances():
    p = StudentT(2, 5.0)
    f, params = p.start(np.array([1.0, 2.0]), np.array([4.0, 9.0]))
    np.testing.assert_array_equal(f, [1, 2])
    np.testing.assert_allclose(stats.t(5, scale=np.exp(0.5 * params["log_psi"])).var(), [4, 9])


@pytest.mark.parametrize("dof", [2.1, 4.0, 30.0])
def test_m_steps_of_student_t_never_raise_q_and_end_at_the_best_scale(dof, rng):
    """E_q over three values of f per case, and SciPy's maximum where f is known."""
    p, (x, f, params) = StudentT(1, dof), student(dof, rng)
    several = f + np.array([-2.0, 0.5, 4.0])[:, None, None]
    for f_s in (f, several):
        for start in (-6.0, 0.0, 8.0):
            params, path = {"log_psi": np.array([start])}, []
            for _ in range(1000):
                path.append(-p.forward(params, f_s, x)[0].mean())
                params = p.m_step(p.squares(params, f_s, x).mean(axis=(0, 1)), None)
            assert (np.diff(path) <= 1e-12).all() and path[-1] < path[0]
            log_p, cache = p.forward(params, f_s, x)
            gradient = p.backward(params, cache, np.ones_like(log_p) / log_p.size)[1]["log_psi"]
            np.testing.assert_allclose(gradient, 0, atol=1e-8)
            if f_s is f:
                _, _, scale = stats.t.fit(x[:, 0], fdf=dof, floc=0)
                np.testing.assert_allclose(np.exp(0.5 * params["log_psi"]), scale, rtol=1e-3)


def test_the_scale_of_student_t_keeps_its_floor():
    p = StudentT(2)
    lower = p.lower_bounds(np.array([1.0, 4.0]), 1e-2)
    np.testing.assert_allclose(np.exp(p.m_step(np.array([0.001, 3.0]), lower)["log_psi"]), [0.01, 3])


def test_student_t_samples_have_their_quantiles():
    p, u = StudentT(1, 4.0), (np.arange(1, 100) / 100)[:, None]
    x = p.sample({"log_psi": np.log([9.0])}, 1 + 0 * u, stats.t.ppf(u, 4))
    np.testing.assert_allclose(x, stats.t.ppf(u, 4, 1, 3), rtol=1e-12)
    draws = p.draw_noise(np.random.default_rng(0), (20000, 1))
    assert stats.kstest(draws[:, 0], stats.t(4).cdf).pvalue > 1e-3


@pytest.mark.parametrize("dof", [2, 1.0, -3, np.inf, np.nan, "4", None, True])
def test_degrees_of_freedom_without_a_variance_are_refused(dof):
    with pytest.raises(ValueError, match="dof must be a number > 2"):
        StudentT(3, dof)


def loadings(fitted):
    return fitted.theta_["decoder"][0]["W"][0]


def test_one_outlier_moves_the_loadings_of_factor_analysis_but_not_of_student_t():
    rng = np.random.default_rng(4)
    true = np.array([1.0, 0.8, -0.6, 0.5])
    clean = rng.standard_normal((150, 1)) * true + 0.5 * rng.standard_normal((150, 4))
    spoilt = clean.copy()
    spoilt[0] = [0, 20, 20, 0]                                     # against the sign of true[1] true[2]

    def angle(make, x):
        w = loadings(make().fit(x))
        return np.degrees(np.arccos(abs(w @ true) / np.linalg.norm(w) / np.linalg.norm(true)))

    def fa():
        return FactorAnalysis(1, noise="isotropic")

    def t():
        options = {"epochs": 25, "batch_size": 150, "learning_rate": 2e-2}
        return VariationalEM(1, hidden=(), likelihood="student-t", **options)

    assert angle(fa, clean) < 8 and angle(t, clean) < 8
    assert angle(fa, spoilt) > 40 and angle(t, spoilt) < 10


# ---- categories


C = Categorical((2, 1, 3))


def test_a_category_is_where_its_cumulated_probability_passes_the_noise(rng):
    """By brute force, category by category; and at every edge, the next one."""
    f = 3 * rng.standard_normal((7, C.n_f))
    pi = np.concatenate([special.softmax(f[:, b], axis=1) for b in C.blocks()], axis=1)
    np.testing.assert_allclose(C.mean({}, f), pi, rtol=1e-13)
    u = rng.random((500, 7, 3))
    x = C.sample({}, np.broadcast_to(f, (500, 7, C.n_f)), u)
    for d, block in enumerate(C.blocks()):
        for n in range(7):
            expected = [next(c for c, edge in enumerate([*np.cumsum(pi[n, block])[:-1], 2]) if v < edge)
                        for v in u[:, n, d]]
            np.testing.assert_array_equal(np.argmax(x[:, n, block], axis=1), expected)
    assert set(np.unique(x)) == {0, 1}
    C.check_values(x.reshape(-1, C.n_f), list("abcdef"))
    assert C.draw_noise(rng, (500, 7, C.n_f)).shape == (500, 7, 3)


def test_categories_at_the_edges():
    p, f = Categorical((4,)), np.log([[0.25, 0.25, 0.25, 0.25]])
    below = np.nextafter([0.25, 1], 0)
    for u, place in ((0, 0), (below[0], 0), (0.25, 1), (0.5, 2), (0.75, 3), (below[1], 3)):
        assert np.argmax(p.sample({}, f, np.array([[u]]))) == place, u
    impossible = np.array([[-1e4, 0, -1e4, -1e4]])                 # pi = (0, 1, 0, 0)
    for u in (0.0, 0.3, np.nextafter(1, 0)):
        np.testing.assert_array_equal(p.sample({}, impossible, np.array([[u]])), [[0, 1, 0, 0]])
    np.testing.assert_array_equal(Categorical((1,)).sample({}, f[:, :1], np.array([[0.9]])), [[1]])


def test_category_samples_have_their_frequencies():
    f, u = np.array([0.3, -1, 0.7, 2, 0.1, -0.4]), (np.arange(10000) + 0.5)[:, None] / 10000
    x = C.sample({}, f + np.zeros((10000, 1)), u + np.zeros(3))
    np.testing.assert_allclose(x.mean(axis=0), C.mean({}, f), atol=1e-4)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_logits_of_any_size_are_finite(dtype):
    line = np.array([-1e4, -100, 0, 100, 1e4], dtype=dtype)
    f = np.stack([a.ravel() for a in np.meshgrid(line, line, line)], axis=1)    # (R, 3)
    p = Categorical((3,))
    for x in np.eye(3, dtype=dtype):
        x = np.tile(x, (len(f), 1))
        log_p, cache = p.forward({}, f[None], x)
        df, _ = p.backward({}, cache, np.ones_like(log_p))
        cross = p.cross({}, f, x[:2])
        for value in (log_p, df, p.mean({}, f), cross):
            assert value.dtype == dtype and np.isfinite(value).all()
        assert (log_p <= 0).all() and abs(log_p.min() + 2e4) < 1
        np.testing.assert_allclose(p.mean({}, f).sum(axis=1), 1, rtol=1e-6)
        np.testing.assert_allclose(df.sum(axis=2), 0, atol=1e-6)
        np.testing.assert_array_equal(cross[:, 0], log_p[0])


def test_only_differences_of_logits_count(rng):
    """And two categories are a Bernoulli of the difference."""
    f, x = rng.standard_normal((1, 5, 2)), np.eye(2)[[0, 1, 1, 0, 1]]
    p = Categorical((2,))
    np.testing.assert_allclose(p.forward({}, f, x)[0], p.forward({}, f + 7, x)[0], rtol=1e-13)
    binary, _ = Bernoulli(1).forward({}, f[..., 1:] - f[..., :1], x[:, 1:])
    np.testing.assert_allclose(p.forward({}, f, x)[0], binary, rtol=1e-13)


@pytest.mark.parametrize("row", [[1, 1], [0, 0], [0.5, 0.5], [2, -1], [np.nan, 1], [1, np.nan]])
@pytest.mark.parametrize("method", ["check", "check_values"])
def test_what_is_not_one_hot_is_refused_with_its_row(row, method):
    x = np.array([[1.0, 0, 1], [0, 1, 1], [0, 1, 1]])
    p, names = Categorical((2, 1)), ["yes", "no", "always"]
    getattr(p, method)(x, names)
    x[1, :2] = np.nan                                              # not observed
    getattr(p, method)(x, names)
    x[2, :2] = row
    with pytest.raises(ValueError, match=r"one-hot columns, exactly one 1 .* yes, no; row 2 has \["):
        getattr(p, method)(x, names)


@pytest.mark.parametrize("sizes", [(), (0,), (2, -1)])
def test_numbers_of_categories_must_be_positive(sizes):
    words = "sizes must be a tuple with every variable's number of categories, >= 1"
    with pytest.raises(ValueError, match=words):
        Categorical(sizes)


def test_categories_start_from_their_shares(rng):
    x = np.eye(3)[rng.integers(0, 3, 40)]
    f, params = Categorical((3,)).start(x.mean(axis=0), x.var(axis=0))
    assert params == {}
    np.testing.assert_allclose(Categorical((3,)).mean({}, f), x.mean(axis=0))
    f, _ = Categorical((2,)).start(np.array([0.0, 1.0]), np.zeros(2))
    np.testing.assert_allclose(np.exp(f), [1e-3, 1])


# ---- mixed, observed


def test_mixed_is_the_sum_of_its_parts(rng):
    """Value, gradients, all pairs, squares: each part on its own columns, by index, and f in parts' order."""
    params, f = perturbed(rng, WIDE), rng.standard_normal((2, 5, WIDE.n_f))
    noise_ = WIDE.draw_noise(rng, f[0].shape)
    x, mean = WIDE.sample(params, f[0], noise_), WIDE.mean(params, f)
    mask = (rng.random(x.shape) < 0.6).astype(float)
    log_p, cache = WIDE.forward(params, f, x, mask)
    df, dparams = WIDE.backward(params, cache, np.ones_like(log_p))
    cross, squares = WIDE.cross(params, f[0], x, mask), WIDE.squares(params, f, x)
    total, pairs, start = 0, 0, 0
    for i, (p, columns) in enumerate(WIDE.parts):
        c, own = list(columns), slice(start, start + p.n_f)
        start = own.stop
        part, part_cache = p.forward(params[i], f[..., own], x[:, c], mask[:, c])
        part_df, part_dparams = p.backward(params[i], part_cache, np.ones_like(part))
        total, pairs = total + part, pairs + p.cross(params[i], f[0][:, own], x[:, c], mask[:, c])
        np.testing.assert_array_equal(df[..., own], part_df)
        assert dparams[i].keys() == part_dparams.keys()
        for key, value in part_dparams.items():
            np.testing.assert_array_equal(dparams[i][key], value)
        np.testing.assert_array_equal(x[:, c], p.sample(params[i], f[0][:, own], noise_[i]))
        np.testing.assert_array_equal(mean[..., c], p.mean(params[i], f[..., own]))
        expected = p.squares(params[i], f[..., own], x[:, c]) if p.has_m_step else 0
        np.testing.assert_array_equal(squares[..., c], expected + np.zeros((2, 5, len(c))))
    np.testing.assert_allclose(log_p, total, rtol=1e-13)
    np.testing.assert_allclose(cross, pairs, rtol=1e-13)
    WIDE.check_values(x, list("abcdefghi"))


def test_mixed_parts_start_and_are_maximised_each_for_itself(rng):
    mean, variance, share = rng.random(9), rng.uniform(0.5, 2, 9), rng.uniform(0.5, 1, 9)
    f, params = WIDE.start(mean, variance)
    lower = WIDE.lower_bounds(variance, 0.9)
    best = WIDE.closed_form(WIDE.init(rng, get_backend()), mean, lower, share)
    W, start = rng.standard_normal((2, WIDE.n_f)), 0
    for i, (p, columns) in enumerate(WIDE.parts):
        c, own = list(columns), slice(start, start + p.n_f)
        start = own.stop
        part_f, part_params = p.start(mean[c], variance[c])
        np.testing.assert_array_equal(f[own], part_f)
        np.testing.assert_array_equal(WIDE.start_W(W)[:, own], p.start_W(W[:, own]))
        expected = p.m_step(mean[c], p.lower_bounds(variance[c], 0.9), share[c]) if p.has_m_step else {}
        for got, wanted in ((params[i], part_params), (best[i], expected)):
            assert got.keys() == wanted.keys()
            for key in got:
                np.testing.assert_array_equal(got[key], wanted[key])


def test_an_isotropic_part_weighs_its_columns_by_what_was_seen():
    p, square, share = Gaussian(2, "isotropic"), np.array([1.0, 4.0]), np.array([0.9, 0.3])
    np.testing.assert_allclose(np.exp(p.m_step(square, None, share)["log_psi"]), (0.9 + 1.2) / 1.2)
    mixed = Mixed(((Poisson(1), [1]), (p, [2, 0])))
    best = mixed.closed_form([{}, {}], np.array([4.0, 9, 1]), None, np.array([0.3, 1, 0.9]))
    np.testing.assert_allclose(np.exp(best[1]["log_psi"]), (0.9 + 1.2) / 1.2)
    np.testing.assert_allclose(np.exp(p.closed_form({}, square, None, share)["log_psi"]), 2.1 / 1.2)


@pytest.mark.parametrize("name", EVERY)
def test_float32_stays_float32(name, rng):
    p = EVERY[name]

    def cast(host):
        return tree.map(lambda leaf: np.asarray(leaf, dtype="float32"), host)

    params, f = cast(perturbed(rng, p)), cast(rng.standard_normal((1, 4, p.n_f)))
    x = p.sample(params, f[0], cast(p.draw_noise(rng, f[0].shape)))
    mask, V = np.ones_like(x), p.n_visible
    log_p, cache = p.forward(params, f, x, mask)
    shift, scale = p.standard_units(*cast([rng.random(V), rng.uniform(0.5, 2, V)]))
    said = [x, log_p, p.mean(params, f), shift, scale, *p.units_of_f(shift, scale), *p.start(shift, scale),
            *p.backward(params, cache, log_p), p.cross(params, f[0], x, mask)]
    if p.has_m_step:
        lower = p.lower_bounds(scale, 1e-6)
        said += [p.squares(params, f, x), tree.filled(lower, params)]
        said += [p.closed_form(params, scale, lower, scale)]
        said += [p.rescale_params(params, scale)]
    assert {leaf.dtype for _, leaf in tree.leaves(said)} == {np.dtype("float32")}


@pytest.mark.parametrize("parts, message", [
    (((Gaussian(2), [0, 2]), (Poisson(1), [2])), r"0 … D − 1, each once, got \[0, 2, 2\]"),
    (((Gaussian(2), [0, 1]), (Poisson(1), [3])), r"each once, got \[0, 1, 3\]"),
    (((Gaussian(2), [0, 1, 2]),), "Gaussian has 2 columns, its place in Mixed has 3"),
    ((), "each once"),
])
def test_parts_that_do_not_share_the_columns_are_refused(parts, message):
    with pytest.raises(ValueError, match=message):
        Mixed(parts)


def test_mixed_checks_each_part_by_its_names():
    p = Mixed(((Gaussian(1), [2]), (Bernoulli(2), [3, 0]), (Poisson(1), [1])))
    x, names = np.array([[0.0, 3, 0.5, 1], [1, 0, 0.1, 1]]), ["bit", "count", "size", "flag"]
    p.check(x, names)
    for d, value in ((3, 0.4), (0, 2), (1, -1)):
        wrong = x.copy()
        wrong[1, d] = value
        for method in (p.check, p.check_values):
            with pytest.raises(ValueError, match=f"row 1, column {names[d]}"):
                method(wrong, names)
    wrong = x * [1, 1, 0, 1]
    p.check_values(wrong, names)
    with pytest.raises(ValueError, match="1 of 1 columns are constant: size"):
        p.check(wrong, names)


@pytest.mark.parametrize("name", EVERY)
def test_nan_is_no_value_to_be_refused(name, rng):
    p = EVERY[name]
    f = np.zeros((4, p.n_f))
    x = p.sample(perturbed(rng, p), f, p.draw_noise(rng, f.shape))
    x[1] = np.nan
    p.check_values(x, list("abcdefghi"))


@pytest.mark.parametrize("p", [Poisson(2), Bernoulli(2), relaxed_bernoulli(2), Categorical((1, 1)),
                               Gaussian(2, 0.5)])
def test_constant_columns_suit_all_but_a_learnt_diagonal_psi(p):
    p.check(np.ones((4, 2)), list("ab"))


@pytest.mark.parametrize("p", [Gaussian(2), StudentT(2)])
def test_constant_columns_have_no_psi(p):
    x = np.array([[1.0, 5.0], [np.nan, 6.0], [1.0, 7.0]])
    with pytest.raises(ValueError, match="1 of 2 columns are constant: a;.*constant='drop'"):
        p.check(x, list("ab"))
    p.check_values(x, list("ab"))
    Gaussian(2, "isotropic").check(x, list("ab"))
    with pytest.raises(ValueError, match="all 1 columns are constant"):
        Gaussian(1, "isotropic").check(x[:, :1], ["a"])


@pytest.mark.parametrize("p", [Gaussian(2), Gaussian(2, 0.7), PredictedGaussian(2, 0.3)])
def test_noise_is_added_and_taken_off(p, rng):
    """x̃ = x + N(0, v): its likelihood's variances are v more; E[x|x̃] is the regression of x on x̃."""
    params, f, x, v = perturbed(rng, p), rng.standard_normal(p.n_f), rng.standard_normal(2), np.asarray(0.9)
    variance = [q.sample(o, f, np.ones(2)) - q.mean(o, f) for q, o in ((p, params), p.noisier(params, v))]
    psi, noisy = np.square(variance)
    np.testing.assert_allclose(noisy, psi + 0.9, rtol=1e-6 if isinstance(p, PredictedGaussian) else 1e-12)
    m = p.mean(params, f)
    np.testing.assert_allclose(p.denoised(params, f, x, v), (x * psi + m * 0.9) / (psi + 0.9), rtol=1e-12)


# ---- the relaxed Bernoulli


def test_the_relaxed_bernoulli_does_not_integrate_to_one():
    """∫₀¹ e^(xf)/(1 + e^f) dx = (e^f − 1)/(f (1 + e^f)) = tanh(f/2)/f: ½ at f = 0, and less elsewhere."""
    p, f = relaxed_bernoulli(1), np.array([-6.0, -1.0, -1e-3, 0.5, 3.0])
    nodes, weights = np.polynomial.legendre.leggauss(40)
    x = 0.5 * (nodes + 1)[:, None]
    p.check(x, ["grey"])
    log_p, _ = p.forward({}, f[:, None, None] + np.zeros((40, 1)), x)
    total = np.exp(log_p) @ weights / 2
    np.testing.assert_allclose(total, np.expm1(f) / f / (1 + np.exp(f)), rtol=1e-12)
    np.testing.assert_allclose(total, np.tanh(f / 2) / f, rtol=1e-12)
    assert (total <= 0.5).all() and not p.normalised and Bernoulli(1).normalised


def test_the_relaxed_bernoulli_takes_grey_and_nothing_beyond():
    x = np.array([[0.0, 0.5], [1.0, np.nan]])
    relaxed_bernoulli(2).check(x, list("ab"))
    for value in (-1e-3, 1.001):
        x[1, 1] = value
        with pytest.raises(ValueError, match="got 1 other .* row 1, column b; .*grey values from 0 to 1"):
            relaxed_bernoulli(2).check_values(x, list("ab"))
    with pytest.raises(ValueError, match="0 and 1: binarise"):
        Bernoulli(2).check_values(x, list("ab"))


# ---- Q and nlml


@pytest.mark.parametrize("hidden", [(), (5,)], ids=["linear", "tanh"])
@pytest.mark.parametrize("p, masked", [
    *((p, False) for p in (StudentT(D), StudentT(D, 2.2), WIDE, C)), (StudentT(D), True), (WIDE, True),
])
def test_q_is_above_nlml_by_the_kl_to_the_posterior(p, masked, hidden, rng):
    """On a grid for K = 1: Q ≥ nlml, nlml by a plain sum of SciPy's, and gaps' two roads to the KL agree."""
    model = Model(mlp(1, hidden, p.n_f), p, 1)
    theta, n = perturbed(rng, model), 12
    f, _ = model.decoder.forward(theta["decoder"], rng.standard_normal((n, 1)))
    x = p.sample(theta["likelihood"], f, p.draw_noise(rng, f.shape))
    mask = (rng.random(x.shape) < 0.6).astype(float) if masked else None
    x = Observed(x, mask) if masked else x
    phi = np.column_stack([rng.uniform(-1.5, 1.5, n), np.log(rng.uniform(0.25, 1.4, n))])
    Q, _ = expectations.quadrature(model, theta, phi, x)
    values = grid.grid(model, theta, x).values
    z = np.linspace(-12, 12, 4001)
    f, _ = model.decoder.forward(theta["decoder"], z[:, None])
    log_p, _ = p.forward(theta["likelihood"], f[:, None, :] + np.zeros((n, 1)), *seen(x))
    log_p = special.logsumexp(log_p + stats.norm.logpdf(z)[:, None], axis=0) + np.log(z[1] - z[0])
    np.testing.assert_allclose(values, -log_p, atol=1e-6)
    kl = divergence.kl_to_posterior(model, theta, phi, x)
    np.testing.assert_allclose(Q - values, kl, atol=1e-4)
    assert (Q > values).all()


# ---- from data to Q


def simulated(name, n_cases=150):
    """Data (N, 4) from one latent variable, whose rates (or whose means and variances) it moves."""
    rng = np.random.default_rng(8)
    z = rng.standard_normal((n_cases, 1))
    if name == "poisson":
        return rng.poisson(np.exp(z @ [[0.9, -0.7, 0.5, 0.0]] + [1.0, 0.5, 2.0, -1.0])).astype(float)
    deviation = np.exp(0.3 * z @ [[1.0, -1.0, 0.5, 0.0]] - 1)
    return z @ [[20.0, 10.0, -5.0, 0.0]] + 10 * deviation * rng.standard_normal((n_cases, 4)) + 100


ROUTES = {
    "VAE": (VAE, {"epochs": 150, "batch_size": 32, "learning_rate": 1e-2}),
    "VariationalEM": (VariationalEM, {"epochs": 12, "batch_size": 32, "learning_rate": 1e-2}),
}
NAMES = ["poisson", "gaussian-predicted"]


@pytest.mark.parametrize("hidden", [(), (6,)], ids=["linear", "tanh"])
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("name", NAMES)
def test_training_lowers_a_bound_that_stays_above_nlml(name, route, hidden):
    make, options = ROUTES[route]
    x = simulated(name)
    path = []
    fitted = make(1, hidden=hidden, likelihood=name, **options)
    fitted.fit(x, progress=lambda epoch, epochs, mean_Q: path.append(mean_Q))
    Q, values = fitted.bound(x), fitted.nlml(x, "grid").values
    assert (Q >= values - 1e-6).all()
    assert path[-1] < path[0] - 0.05
    # and below the best that a model without z can do
    p = fitted.model_.likelihood
    f, _ = p.start(x.mean(axis=0), x.var(axis=0))
    alone, _ = p.forward({}, f + np.zeros((1, *x.shape[:1], p.n_f)), x)
    assert Q.mean() < -alone.mean() - 0.3
    assert fitted.reconstruct(x).shape == x.shape
    draws = fitted.sample(4000, random_state=0)
    assert draws.shape == (4000, 4)
    np.testing.assert_allclose(draws.mean(axis=0), x.mean(axis=0), atol=0.5 * x.std(axis=0).max())
    p.check_values(draws, list("abcd"))


def test_data_that_are_no_counts_are_refused_at_every_door():
    x = simulated("poisson")
    fitted = VAE(1, hidden=(), likelihood="poisson", epochs=1).fit(x)
    for refused in (fitted.bound, fitted.nlml, VAE(1, likelihood="poisson").fit):
        with pytest.raises(ValueError, match="needs counts.*the first -1 in row 0, column 0"):
            refused(x - 1 - x[:1])


def test_counts_in_float32():
    x = simulated("poisson")
    fitted = VAE(1, hidden=(6,), likelihood="poisson", epochs=5, dtype="float32").fit(x)
    assert fitted.theta_["decoder"][0]["W"].dtype == np.float32
    assert fitted.bound(x).dtype == np.float32 and np.isfinite(fitted.bound(x)).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_category_of_probability_zero_is_drawn(dtype):
    rng = np.random.default_rng(3)
    f = rng.normal(size=(2000, 7)).astype(dtype)
    f[:, 5:] = -1e4
    f[:, 0] = -1e4
    last = np.nextafter(np.array(1, dtype), np.array(0, dtype))
    for u in (0.0, 0.5, last, 1.0):                                # float32 turns the last u < 1 into 1
        x = Categorical((7,)).sample({}, f, np.full((2000, 1), u, dtype))
        assert (x.sum(axis=1) == 1).all() and not x[:, [0, 5, 6]].any()
    with pytest.raises(ValueError, match="such as .3,. for one variable of 3, got 3"):
        Categorical(3)


def test_bernoulli_noise_stays_below_one_in_float32():
    class Last:
        def random(self, shape):
            return np.full(shape, 1 - 2.0**-53)

    noise = Bernoulli(2).draw_noise(Last(), (1, 2)).astype("float32")
    assert (noise < 1).all()
    assert (Bernoulli(2).sample({}, np.full((1, 2), 50.0, "float32"), noise) == 1).all()
