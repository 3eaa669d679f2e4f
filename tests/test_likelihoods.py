"""Counts, and variances that the decoder predicts: what the rows in `cases.py` do not ask.

Values, totals, gradients, backends and Q ≥ nlml at random θ come with those rows.
"""

import re

from cases import D
import numpy as np
import pytest
from scipy import special, stats
from test_components import arrays, assert_same

from teachvae import VAE, VariationalEM, bound, checks, likelihoods, noise, tree
from teachvae.backend import get_backend, log_factorial, poisson_quantile, to_numpy
from teachvae.layers import mlp
from teachvae.likelihoods import Poisson, PredictedGaussian
from teachvae.model import Model
from teachvae.units import StandardUnits, fold_theta, start_theta
from teachvae.validate import make_likelihood

PARTS = [Poisson(D), PredictedGaussian(D, 0.3)]
both = pytest.mark.parametrize("p", PARTS, ids=["poisson", "gaussian-predicted"])


def data(rng, p, f):
    return p.sample({}, f, p.draw_noise(rng, f.shape))


# ---- both


@both
def test_unobserved_entries_do_not_matter(p, rng):
    """Neither in the value nor in the gradient, and no count need stand there."""
    f, dlog_p = rng.standard_normal((2, 4, p.n_f)), rng.standard_normal((2, 4))
    x = data(rng, p, f[0])
    mask = np.array([[1, 0, 1], [0, 1, 1], [1, 1, 0], [0, 0, 0]], dtype=float)
    found = []
    for fill in (x, 0.0, -2.5, 1e9):
        log_p, cache = p.forward({}, f, np.where(mask == 1, x, fill), mask)
        found.append((log_p, p.backward({}, cache, dlog_p)[0]))
        np.testing.assert_array_equal(log_p, found[0][0])
        np.testing.assert_array_equal(found[-1][1], found[0][1])
    log_p, df = found[0]
    np.testing.assert_array_equal(log_p[:, 3], 0)
    places = np.concatenate([mask] * (p.n_f // D), axis=1)
    np.testing.assert_array_equal(df != 0, np.broadcast_to(places == 1, df.shape))


@both
def test_start_is_the_best_fit_that_ignores_z(p, rng):
    x = rng.poisson([0.5, 2, 9], (40, D)).astype(float)
    f, params = p.start(x.mean(axis=0), x.var(axis=0))
    assert f.shape == (p.n_f,) and params == {}
    log_p, cache = p.forward(params, f + np.zeros((1, 40, p.n_f)), x)
    df, _ = p.backward(params, cache, np.ones_like(log_p))
    np.testing.assert_allclose(df.sum(axis=(0, 1)), 0, atol=1e-10)


@both
def test_the_rest_of_a_likelihood_on_every_backend(p, backend, rng):
    host = {"f": rng.standard_normal((4, p.n_f)), "mean": rng.random(D), "variance": rng.uniform(0.5, 2, D)}
    host["noise"] = p.draw_noise(rng, host["f"].shape)

    def rest(i):
        shift, scale = p.standard_units(i["mean"], i["variance"])
        return [
            p.mean({}, i["f"]), p.sample({}, i["f"], i["noise"]), p.start(i["mean"], i["variance"])[0],
            shift, scale, list(p.units_of_f(shift, scale)), p.m_step(i["mean"], None),
            p.lower_bounds(i["variance"], 0.9), p.rescale_params({}, i["variance"]), p.start_W(i["f"]),
        ]

    assert_same(rest(arrays(backend, host)), rest(host), backend)


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
    p, most = Poisson(1), likelihoods.MOST_LOG_RATE
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
    monkeypatch.setattr(likelihoods, "MOST_LOG_RATE", 0.0)
    report = checks.draw_until_smooth(
        lambda seed: checks.of_likelihood(np.random.default_rng(seed), Poisson(D), masked), range(5)
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
    small, other = p.rescaled(float(scale[0])), x / scale
    np.testing.assert_array_equal(small.counts(other), x)
    f, mask = rng.standard_normal((1, 200, D)).astype(dtype), (rng.random((200, D)) < 0.5).astype(dtype)
    tolerance = {"rtol": 1e-12 if dtype == "float64" else 1e-5}
    for seen in (np.ones((200, D), dtype), mask):
        volume = np.log(scale[0]) * seen.sum(axis=1)
        one, two = p.forward({}, f, x, seen)[0], small.forward({}, f, other, seen)[0]
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
    model, standard = Model(decoder, p, 2), Model(decoder, p.rescaled(float(units.scale[0])), 2)
    assert standard.likelihood.floor < 0.002
    theta = tree.map(lambda leaf: leaf + rng.normal(0, 0.3, leaf.shape), model.init(rng, get_backend()))
    theta["decoder"][-1]["b"][3:] = np.log(standard.likelihood.floor)   # half of v is the floor
    phi, eta = rng.standard_normal((20, 4)), rng.standard_normal((3, 20, 2))
    Q, _ = bound.forward(standard, theta, phi, units.to_standard(x), eta)
    Q_x, _ = bound.forward(model, fold_theta(model, theta, units), phi, x, eta)
    np.testing.assert_allclose(Q_x, Q + units.log_volume, rtol=1e-9)


def test_columns_below_the_floor_are_refused_by_name(rng):
    x = rng.standard_normal((30, 3)) * [1, 1e-3, 0] + 5
    with pytest.raises(ValueError, match=r"2 of 3 columns .* floor of 0.0001 .*: b, c; .* lower floor"):
        PredictedGaussian(3).check(x, list("abc"))
    PredictedGaussian(2, 1e-8).check(x[:, :2], list("ab"))
    PredictedGaussian(3).check_values(x, list("abc"))              # they have a density, though


@pytest.mark.parametrize("floor", ["isotropic", 0, -1.0, np.inf, np.nan, True, None])
def test_other_floors_are_refused(floor):
    with pytest.raises(ValueError, match="floor of predicted variances.*must be a number > 0"):
        make_likelihood("gaussian-predicted", 3, floor)


def test_likelihoods_by_name():
    assert make_likelihood("poisson", 3, "diagonal") == Poisson(3)
    assert make_likelihood("gaussian-predicted", 3, "diagonal") == PredictedGaussian(3)
    assert make_likelihood("gaussian-predicted", 3, 0.01) == PredictedGaussian(3, 0.01)
    with pytest.raises(ValueError, match="noise=0.5 belongs to likelihood='gaussian', not 'poisson'"):
        make_likelihood("poisson", 3, 0.5)
    with pytest.raises(ValueError, match="must be one of .*'poisson'.* got 'cauchy'"):
        make_likelihood("cauchy", 3, "diagonal")


@both
def test_training_starts_near_the_best_model_without_z(p, rng):
    """Rates and variances are exp of the decoder's output: at random slopes a few draws of z cost thousands."""
    x = data(rng, p, np.full((50, p.n_f), 2.0))
    model, units = Model(mlp(1, (), p.n_f), p, 1), StandardUnits(p, x)
    theta = start_theta(Model(model.decoder, p.rescaled(float(units.scale[0])), 1), rng, get_backend(), units)
    assert theta["decoder"][0]["W"].any()
    f, _ = model.decoder.forward(fold_theta(model, theta, units)["decoder"], np.array([[-3.0], [0.0], [3.0]]))
    if isinstance(p, Poisson):
        assert np.ptp(f, axis=0).max() < 2
        np.testing.assert_allclose(np.exp(f[1]), x.mean(axis=0), rtol=1e-12)
    else:
        np.testing.assert_allclose(0.3 + np.exp(f[:, D:]), np.tile(x.var(axis=0), (3, 1)), rtol=1e-12)
        np.testing.assert_allclose(f[1, :D], x.mean(axis=0), rtol=1e-12)


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
