"""Every component: its value against another road's, and the same numbers on every array library.

A gradient check cannot see a wrong constant, or an s that is a variance here and a standard
deviation there, as long as the backward agrees with the forward. The oracles here can.
"""

import warnings

from cases import CASES, D, GAUSSIANS, K, LIKELIHOODS, TOTALS, WIDE, full_moments, kl_to_prior, perturbed
from hypothesis import given, strategies as st
import numpy as np
import pytest
from scipy import special, stats

from teachvae import bound, layers, likelihoods, noise, posteriors, tree
from teachvae.arrays.backend import constant, double, get_backend, namespace, to_numpy
from teachvae.arrays.observed import Observed, network_input, seen
from teachvae.arrays.rows import affine, put_rows, sum_first, sum_last, take_draws, take_rows
from teachvae.arrays.special import log_softmax, log_sum_exp, sigmoid, softplus
from teachvae.messages import shorten
from teachvae.model import Model

HOST = get_backend()
PARTS = {row["name"]: row["component"] for row in LIKELIHOODS} | {"wide": WIDE}
every_likelihood = pytest.mark.parametrize("p", PARTS.values(), ids=PARTS)


def by_name(rows):
    return pytest.mark.parametrize("case", rows, ids=[row.name for row in rows])


def arrays(backend, host):
    """The host tree on a backend, as copies."""
    return tree.map(lambda leaf: backend.asarray(np.array(leaf)), host)


def assert_same(given_tree, expected_tree, backend):
    """Equal within the precision of the backend, and arrays of its library, dtype, device and shape."""
    pairs = zip(tree.leaves(given_tree), tree.leaves(expected_tree), strict=True)
    for (path, got), (expected_path, expected) in pairs:
        assert path == expected_path
        assert namespace(got) is backend.xp
        assert got.dtype == getattr(backend.xp, backend.dtype)
        assert backend.device is None or got.device == backend.device
        assert got.shape == expected.shape
        tolerance = 100 * np.finfo(backend.dtype).eps * max(1, np.max(np.abs(expected), initial=0))
        np.testing.assert_allclose(to_numpy(got), expected, rtol=0, atol=tolerance, err_msg=path)


def test_every_class_of_the_tables_has_a_row():
    tables = (layers.ACTIVATIONS, likelihoods.LIKELIHOODS, posteriors.POSTERIORS)
    wanted = {cls for table in tables for cls in table.values() if isinstance(cls, type)}
    assert wanted | {likelihoods.Mixed} <= {type(case.component) for case in CASES}
    families = {family(K) for family in posteriors.POSTERIORS.values()}
    assert families <= {case.component for case in CASES if case.name.endswith("log q")}
    assert likelihoods.relaxed_bernoulli(D) in [case.component for case in CASES]
    densities = wanted & set(likelihoods.LIKELIHOODS.values())
    assert densities | {likelihoods.Mixed} <= {type(total.likelihood) for total in TOTALS}


@by_name(CASES)
def test_value_equals_the_oracle(case, rng):
    inputs = case.inputs(rng)
    value, _ = case.forward(inputs)
    np.testing.assert_allclose(value, case.oracle(inputs), rtol=1e-12, atol=1e-12)


@by_name(CASES)
def test_same_numbers_on_every_backend(case, backend, rng):
    host = case.inputs(rng)
    expected, cache = case.forward(host)
    dvalue = rng.standard_normal(expected.shape)
    expected_grads = case.backward(host, cache, dvalue)

    inputs = arrays(backend, host)
    value, cache = case.forward(inputs)
    assert_same(value, expected, backend)
    assert_same(case.backward(inputs, cache, backend.asarray(dvalue)), expected_grads, backend)
    assert_same(inputs, arrays(HOST, host), backend)               # nobody wrote into the inputs


@by_name(CASES)
def test_a_cache_is_a_value(case, rng):
    """A forward in between changes nothing, and a backward can be run twice."""
    one, two = case.inputs(rng), case.inputs(rng)
    value, cache = case.forward(one)
    dvalue = rng.standard_normal(value.shape)
    first = case.backward(one, cache, dvalue)
    kept = tree.map(np.copy, first)
    case.backward(two, case.forward(two)[1], dvalue)
    second = case.backward(one, cache, dvalue)
    for (_, a), (_, b), (_, c) in zip(*map(tree.leaves, (first, kept, second)), strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(b, c)
    np.testing.assert_array_equal(value, case.forward(one)[0])


@by_name([case for case in CASES if hasattr(case.component, "n_in") or hasattr(case.component, "n_f")])
def test_what_is_not_needed_is_left_out_and_the_rest_is_the_same(case, rng):
    part, i = case.component, case.inputs(rng)
    value, cache = case.forward(i)
    dvalue = rng.standard_normal(value.shape)
    grads = case.backward(i, cache, dvalue)
    if hasattr(part, "n_in"):
        dx, dparams = part.backward(i["params"], cache, dvalue, need_dx=False)
        assert dx is None
        _same(dparams, grads["params"])
        dx, dparams = part.backward(i["params"], cache, dvalue, need_dparams=False)
        assert dparams is None
        _same(dx, grads["x"])
    else:
        df, dparams = part.backward(i["params"], cache, dvalue, need_dparams=False)
        assert dparams is None
        _same(df, grads["f"])


@by_name([case for case in CASES if case.name.startswith("bound")])
def test_the_bound_leaves_out_what_is_not_needed(case, rng):
    i = case.inputs(rng)
    Q, cache = case.forward(i)
    grads = case.backward(i, cache, Q)
    dphi, dtheta = bound.backward(case.component, i["theta"], cache, Q, need_dphi=False)
    assert dphi is None
    _same(dtheta, grads["theta"])
    dphi, dtheta = bound.backward(case.component, i["theta"], cache, Q, need_dtheta=False)
    assert dtheta is None
    _same(dphi, grads["phi"])


def _same(one, two):
    for (_, a), (_, b) in zip(tree.leaves(one), tree.leaves(two), strict=True):
        np.testing.assert_array_equal(a, b)


# ---- Likelihoods


@by_name(TOTALS)
def test_densities_sum_to_one_and_have_their_mean(case, rng):
    p = case.likelihood
    params, f = perturbed(rng, p), 2 * rng.standard_normal((6, 1, p.n_f))
    log_p, _ = p.forward(params, f + np.zeros((len(case.x), p.n_f)), case.x)
    density = np.exp(log_p) * case.weights                         # (6, M)
    np.testing.assert_allclose(density.sum(axis=1), 1, rtol=case.rtol)
    np.testing.assert_allclose(density @ case.x, p.mean(params, f)[:, 0], atol=10 * case.rtol)


@pytest.mark.parametrize("mode", ["diagonal", "isotropic", 0.7])
def test_gaussian_samples_have_mean_f_and_covariance_psi(mode, rng):
    """Sigma points for noise: the sample moments are exact, no tolerance for randomness."""
    p = likelihoods.Gaussian(D, mode)
    params, f = perturbed(rng, p), rng.standard_normal(D)
    points, weights = noise.sigma_points(D)
    x = p.sample(params, f, points[:, 0])
    psi = np.exp(params["log_psi"]) * np.ones(D) if params else np.full(D, 0.7)
    np.testing.assert_allclose(weights @ x, f, rtol=1e-13)
    np.testing.assert_allclose((weights[:, None] * (x - f)).T @ (x - f), np.diag(psi), atol=1e-13)
    np.testing.assert_allclose(p.psi(params, like=f), psi, rtol=1e-14)


def test_bernoulli_samples_are_one_with_probability_sigma_f():
    p, f = likelihoods.Bernoulli(3), np.array([-2.0, 0.1, 3.0])
    u = (np.arange(10000) + 0.5)[:, None] / 10000                  # every quantile once
    x = p.sample({}, f, u + np.zeros(3))
    assert set(np.unique(x)) == {0.0, 1.0}
    np.testing.assert_allclose(x.mean(axis=0), special.expit(f), atol=1e-4)


def test_bernoulli_is_stable_for_large_logits():
    """At |f| = 1000 exp overflows, and 1 − σ(f) is 0: log p must be 0 or −1000, to every digit."""
    p = likelihoods.Bernoulli(4)
    f, x = np.array([[[1e3, 1e3, -1e3, -1e3]]]), np.array([[1.0, 0.0, 1.0, 0.0]])
    log_p, cache = p.forward({}, f, x)
    assert log_p.item() == -2000
    df, _ = p.backward({}, cache, np.ones((1, 1)))
    np.testing.assert_array_equal(df[0], [[0, -1, 1, 0]])
    assert softplus(np.array(-800.0)) == 0 and sigmoid(np.array(-800.0)) == 0


def test_affine_is_a_product_and_a_sum(backend):
    rng = np.random.default_rng(0)
    x, W, b = (backend.normal(rng, shape) for shape in ((7, 3), (3, 5), (5,)))
    y, plain = affine(x, W, b), x @ W + b
    assert namespace(y) is backend.xp and y.dtype == plain.dtype
    np.testing.assert_array_equal(to_numpy(y), to_numpy(plain))


def test_rows_and_draws_of_some_cases_are_theirs(backend):
    host = np.random.default_rng(0).standard_normal((4, 5, 2))
    eta = backend.asarray(host)
    for some in (slice(1, 4), np.array([3, 0, 4])):
        np.testing.assert_array_equal(to_numpy(take_draws(eta, some)), to_numpy(eta)[:, some])
        np.testing.assert_array_equal(to_numpy(take_rows(eta[0, ...], some)), to_numpy(eta)[0, some])
    put = put_rows(eta[0, ...], [3, 0], eta[1, :2, :])
    np.testing.assert_array_equal(to_numpy(put)[[3, 0, 1, 2, 4]],
                                  np.concatenate([to_numpy(eta)[1, :2], to_numpy(eta)[0, [1, 2, 4]]]))


@pytest.mark.parametrize("shape", [(5,), (7, 5), (3, 7, 5), (2, 3, 1)])
def test_sums_by_products_are_sums(shape, backend):
    x, xp = backend.normal(np.random.default_rng(0), shape), backend.xp
    close = 20 * np.finfo(backend.dtype).eps
    pairs = [(sum_last(x), xp.sum(x, axis=-1))]
    if x.ndim == 2:
        pairs.append((sum_first(x), xp.sum(x, axis=0)))
    for fast, plain in pairs:
        assert namespace(fast) is xp and fast.dtype == plain.dtype
        np.testing.assert_allclose(to_numpy(fast), to_numpy(plain), rtol=close, atol=close)


def test_nan_goes_through_every_activation_and_rate(backend):
    """A NaN that a layer turned into 0 would hide where it came from."""
    x = backend.asarray([[np.nan, 1.0, -1.0]])
    for activation in layers.ACTIVATIONS.values():
        y, _ = activation().forward({}, x)
        assert to_numpy(namespace(y).isnan(y)).tolist() == [[True, False, False]], activation.__name__
    assert [np.isnan(to_numpy(part)).tolist() for part in likelihoods.Poisson(3).rate(x)] == 4 * [
        [[True, False, False]]
    ]


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_log_sum_exp_along_every_axis_and_of_nothing(axis, backend):
    log_p = 300 * np.random.default_rng(3).standard_normal((3, 4, 5))
    log_p[0, :, :3] = log_p[:, 2, 1] = log_p[1, 0] = -np.inf
    with warnings.catch_warnings():
        warnings.simplefilter("error")                             # no logarithm of 0, no ∞ − ∞
        value = log_sum_exp(backend.asarray(log_p), axis=axis)
    expected = special.logsumexp(log_p, axis=axis)
    assert np.isneginf(expected).any() and namespace(value) is backend.xp
    np.testing.assert_allclose(to_numpy(value), expected, rtol=10 * np.finfo(backend.dtype).eps)


def test_log_sum_exp_of_one_row_of_infinity_and_of_nan():
    assert log_sum_exp(np.array([-np.inf, -np.inf])) == -np.inf and log_sum_exp(np.array([2.0])) == 2.0
    assert log_sum_exp(np.array([1.0, np.inf])) == np.inf and np.isnan(log_sum_exp(np.array([1.0, np.nan])))


def test_log_softmax_is_scipy_s(backend):
    logits = 200 * np.random.default_rng(3).standard_normal((3, 4, 5))
    value = log_softmax(backend.asarray(logits))
    assert namespace(value) is backend.xp
    np.testing.assert_allclose(
        to_numpy(value), special.log_softmax(logits, axis=-1), atol=100 * np.finfo(backend.dtype).eps,
        rtol=10 * np.finfo(backend.dtype).eps,
    )


@pytest.mark.parametrize("kind", ["whole", "masked"])
@every_likelihood
def test_cross_is_log_p_of_every_pair(p, kind, backend, rng):
    """log p(x_n|f_g) (G, N), which a product makes faster, is what `forward` says of each pair."""
    host = {"params": perturbed(rng, p), "f": 2 * rng.standard_normal((6, p.n_f))}
    host["x"] = p.sample(host["params"], host["f"], p.draw_noise(rng, host["f"].shape))[:4]
    mask = None if kind == "whole" else (rng.random(host["x"].shape) < 0.5).astype(float)
    expected, _ = p.forward(host["params"], host["f"][:, None, :] + np.zeros((4, p.n_f)), host["x"], mask)
    i = arrays(backend, host)
    got = p.cross(i["params"], i["f"], i["x"], *([] if mask is None else [backend.asarray(mask)]))
    assert_same(got, expected, backend)


@every_likelihood
def test_unobserved_entries_do_not_matter(p, rng):
    """Neither in the value nor in a gradient nor for all pairs, whatever finite number stands there."""
    V = p.n_visible
    params, f, dlog_p = perturbed(rng, p), rng.standard_normal((2, 4, p.n_f)), rng.standard_normal((2, 4))
    x = p.sample(params, f[0], p.draw_noise(rng, f[0].shape))
    mask = (rng.random((4, V)) < 0.6).astype(float)
    mask[0], mask[3] = 1, 0                                        # all is known of one case, nothing of one
    found = []
    for fill in (x, 0.0, -2.5, 1e9, -1e30):
        filled = np.where(mask == 1, x, fill)
        log_p, cache = p.forward(params, f, filled, mask)
        df, dparams = p.backward(params, cache, dlog_p)
        found.append([log_p, df, dparams, p.cross(params, f[0], filled, mask)])
        _same(found[-1], found[0])
    log_p, df, _, cross = found[0]
    assert (log_p[:, 3] == 0).all() and (df[:, 3] == 0).all()
    np.testing.assert_allclose(cross[:, 3], 0, atol=1e-12)
    np.testing.assert_array_equal(log_p[:, 0], p.forward(params, f, x)[0][:, 0])


def test_observed_data_cases_are_taken_row_by_row_as_an_array_is(backend, rng):
    x, mask = backend.asarray(rng.standard_normal((4, D))), backend.asarray(np.eye(4, D))
    both = Observed(x, mask)
    assert (both.shape, both.dtype, namespace(both, x)) == (x.shape, x.dtype, backend.xp)
    assert namespace(constant([1.0], like=both)) is backend.xp and constant([1.0], like=both).dtype == x.dtype
    assert seen(both) == (x, mask) and seen(x) == (x, None) and network_input(x) is x
    rows = [2, 0, 2]
    blocks = [(both[1:3, ...], slice(1, 3)), (both[1:3, :], slice(1, 3)), (take_rows(both, rows), rows)]
    for found, at in blocks:
        assert_same(list(seen(found)), [to_numpy(a)[at] for a in (x, mask)], backend)
    assert_same(network_input(both), np.concatenate([to_numpy(x), to_numpy(mask)], axis=1), backend)
    assert all(str(a.dtype).endswith("float64") for a in seen(double(both)))


@every_likelihood
def test_of_observed_data_cases_a_model_takes_what_was_observed(p, rng):
    model = Model(layers.mlp(2, (3,), p.n_f), p, 2)
    theta, z = perturbed(rng, model), rng.standard_normal((3, 4, 2))
    f, _ = model.f(theta, z)
    x = p.sample(theta["likelihood"], f[0], p.draw_noise(rng, f[0].shape))
    mask = (rng.random(x.shape) < 0.6).astype(float)
    log_p, _ = model.log_likelihood(theta, Observed(x, mask), z)
    np.testing.assert_array_equal(log_p, p.forward(theta["likelihood"], f, x, mask)[0])
    pairs = model.log_joint_of_pairs(theta, Observed(x, mask), z[0]) - model.log_prior(z[0])[:, None]
    np.testing.assert_allclose(pairs, p.cross(theta["likelihood"], f[0], x, mask), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mode", ["diagonal", "isotropic"])
def test_m_step_is_the_minimiser_and_keeps_the_floor(mode, rng):
    p, square = likelihoods.Gaussian(D, mode), rng.uniform(0.5, 2.0, D)

    def expected_nll(log_psi):                                     # of residuals with E[r²] = square
        return np.sum(0.5 * (np.log(2 * np.pi) + log_psi + square / np.exp(log_psi)))

    best = p.m_step(square, None)["log_psi"]
    for step in 1e-3 * np.concatenate([np.eye(len(best)), -np.eye(len(best))]):
        assert expected_nll(best) < expected_nll(best + step)
    lower = {"log_psi": np.log(np.full(len(best), 1.3))}
    np.testing.assert_allclose(np.exp(p.m_step(square, lower)["log_psi"]), np.maximum(np.exp(best), 1.3))
    floor = p.lower_bounds(square, 1e-6)["log_psi"]
    np.testing.assert_allclose(np.exp(floor), 1e-6 * np.exp(best))
    assert likelihoods.Gaussian(D, 0.7).m_step(square, None) == {}


@pytest.mark.parametrize("p", [likelihoods.Gaussian(D), likelihoods.Gaussian(D, "isotropic"),
                               likelihoods.Bernoulli(D)])
def test_start_is_the_best_fit_that_ignores_z(p, rng):
    x = (rng.random((40, D)) < 0.4).astype(float)
    f, params = p.start(x.mean(axis=0), x.var(axis=0))
    log_p, cache = p.forward(params, f + np.zeros((1, 40, D)), x)
    df, dparams = p.backward(params, cache, np.ones_like(log_p))
    np.testing.assert_allclose(df.sum(axis=(0, 1)), 0, atol=1e-10)
    for _, gradient in tree.leaves(dparams):
        np.testing.assert_allclose(gradient, 0, atol=1e-10)


def test_bernoulli_start_stays_finite_for_constant_columns():
    f, _ = likelihoods.Bernoulli(2).start(np.array([0.0, 1.0]), np.zeros(2))
    np.testing.assert_allclose(special.expit(f), [0.01, 0.99])


@pytest.mark.parametrize("masked", [False, True])
@every_likelihood
def test_standard_units_are_the_same_model(p, masked, rng):
    """log p(x) = log p(x in standard units) − Σ log scale over what was observed, with its gradients; and
    draws from the same noise are the same, and so are their means.
    """
    V = p.n_visible
    shift, scale = p.standard_units(rng.uniform(1, 9, V), rng.uniform(0.5, 40, V))
    f_shift, f_scale = p.units_of_f(shift, scale)
    small = p.rescaled(scale)
    params_small = perturbed(rng, small)
    params = p.rescale_params(params_small, scale)
    f_small = rng.standard_normal((2, 6, p.n_f))
    f, noise_ = f_small * f_scale + f_shift, p.draw_noise(rng, f_small[0].shape)
    x = p.sample(params, f[0], noise_)
    x_small = (x - shift) / scale
    np.testing.assert_allclose(small.sample(params_small, f_small[0], noise_), x_small, atol=1e-12)
    mean = small.mean(params_small, f_small)
    np.testing.assert_allclose(p.mean(params, f), mean * scale + shift, rtol=1e-12)

    mask = (rng.random((6, V)) < 0.6).astype(float) if masked else np.ones((6, V))
    dlog_p, volume = rng.standard_normal((2, 6)), mask @ np.log(scale)
    tolerance = {"rtol": 1e-11, "atol": 1e-11}
    log_p, cache = p.forward(params, f, x, mask)
    log_p_small, cache_small = small.forward(params_small, f_small, x_small, mask)
    np.testing.assert_allclose(log_p, log_p_small - volume, **tolerance)
    cross = small.cross(params_small, f_small[0], x_small, mask)
    np.testing.assert_allclose(p.cross(params, f[0], x, mask), cross - volume, **tolerance)
    df, dparams = p.backward(params, cache, dlog_p)
    df_small, dparams_small = small.backward(params_small, cache_small, dlog_p)
    np.testing.assert_allclose(df * f_scale, df_small, **tolerance)
    for (_, one), (_, two) in zip(tree.leaves(dparams), tree.leaves(dparams_small), strict=True):
        np.testing.assert_allclose(one, two, **tolerance)


@pytest.mark.parametrize("p", [likelihoods.Gaussian(D), likelihoods.StudentT(D),
                               likelihoods.Gaussian(D, "isotropic"), likelihoods.Gaussian(D, 0.7),
                               likelihoods.PredictedGaussian(D)])
def test_standard_units_of_what_is_continuous(p):
    """Variances of 1; one common scale where one variance, or one floor, is for all columns."""
    own = isinstance(p, likelihoods.StudentT) or getattr(p, "noise", None) == "diagonal"
    shift, scale = p.standard_units(np.arange(3.0), np.array([0.5, 4.0, 0.0]))
    np.testing.assert_array_equal(shift, np.arange(3.0))
    np.testing.assert_allclose(scale**2, [0.5, 4, 1] if own else [1.5] * 3)


@pytest.mark.parametrize("p", [likelihoods.Bernoulli(2), likelihoods.Categorical((2,))])
def test_zeros_and_ones_have_no_other_units(p):
    shift, scale = p.standard_units(np.array([0.3, 0.4]), np.ones(2))
    assert (shift == 0).all() and (scale == 1).all() and p.rescaled(np.ones(2)) is p


@every_likelihood
def test_every_parameter_of_the_package_has_an_m_step(p):
    """So a closed form replaces all of them, and gradients none; a likelihood of one's own may do otherwise.
    """
    params = p.init(np.random.default_rng(0), HOST)
    leaves = [path for path, _ in tree.leaves(params)]
    assert p.has_m_step is bool(leaves)
    moved = p.by_gradient(tree.map(lambda leaf: leaf + 1, params))
    assert [path for path, _ in tree.leaves(moved)] == leaves
    assert all((leaf == 0).all() for _, leaf in tree.leaves(moved))
    assert p.normalised is (p != likelihoods.relaxed_bernoulli(D))
    one_grey = ((likelihoods.relaxed_bernoulli(1), [0]), (p, range(1, p.n_visible + 1)))
    assert not likelihoods.Mixed(one_grey).normalised


def test_unfit_data_is_refused_with_the_column_named():
    x = np.array([[1.0, 0.0], [1.0, 0.5], [1.0, 1.0]])
    with pytest.raises(ValueError, match="1 of 2 columns are constant: height;.*isotropic"):
        likelihoods.Gaussian(2).check(x, ["height", "weight"])
    likelihoods.Gaussian(2, "isotropic").check(x, ["height", "weight"])
    with pytest.raises(ValueError, match="got 1 other values.*0.5.* in row 1, column weight"):
        likelihoods.Bernoulli(2).check(x, ["height", "weight"])
    likelihoods.Bernoulli(2).check(np.round(x), ["height", "weight"])
    assert shorten("abcdefghij", most=3) == "a, b, c, … (10 in all)"


@pytest.mark.parametrize("mode", ["full", 0, -1.0, float("inf"), float("nan"), True, None])
def test_gaussian_refuses_other_noise(mode):
    with pytest.raises(ValueError, match="noise must be"):
        likelihoods.Gaussian(3, mode)


@every_likelihood
def test_the_rest_of_a_likelihood_on_every_backend(p, backend, rng):
    V = p.n_visible
    host = {
        "params": perturbed(rng, p), "f": rng.standard_normal((4, p.n_f)),
        "W": rng.standard_normal((2, p.n_f)), "noise": p.draw_noise(rng, (4, p.n_f)),
        "mean": rng.random(V), "variance": rng.uniform(0.5, 2, V),
        "share": rng.uniform(0.5, 1, V),
    }
    host["x"] = p.sample(host["params"], host["f"], host["noise"])

    def rest(i):
        shift, scale = p.standard_units(i["mean"], i["variance"])
        said = [
            p.mean(i["params"], i["f"]), p.sample(i["params"], i["f"], i["noise"]), p.start_W(i["W"]),
            list(p.start(i["mean"], i["variance"])), shift, scale, list(p.units_of_f(shift, scale)),
        ]
        said.append(p.rescale_params(i["params"], i["variance"]))
        if p.has_m_step:
            lower = p.lower_bounds(i["variance"], 0.9)
            said += [
                p.squares(i["params"], i["f"][None, ...], i["x"]), tree.filled(lower, i["params"]),
                p.closed_form(i["params"], i["mean"], lower),
                p.closed_form(i["params"], i["mean"], None, i["share"]),
            ]
        return said

    assert_same(rest(arrays(backend, host)), rest(host), backend)


# ---- Posteriors


def test_kl_of_one_dimension_equals_the_known_numbers():
    """KL(N(2, 1) ‖ N(0, 1)) = 2; with log s = 1 and m = 0 it is 2.194528049465."""
    for family in (posteriors.DiagonalGaussian(1), posteriors.FullGaussian(1)):
        kl, _ = family.kl(np.array([[2.0, 0.0], [0.0, 1.0], [0.0, 0.0]]))
        np.testing.assert_allclose(kl, [2, 2.194528049465, 0], atol=5e-13)


@pytest.mark.parametrize("family", GAUSSIANS.values())
def test_sample_density_and_kl_speak_of_one_gaussian(family, rng):
    """Sigma points make E_q exact: moments of the samples, and KL = E_q[log q − log p(z)]."""
    q = family(K)
    phi = 0.5 * rng.standard_normal((5, q.n_phi))
    eta, w = noise.sigma_points(K)
    z, _ = q.sample(phi, eta)                                      # (S, N, K)
    mean = np.einsum("s,snk->nk", w, z)
    covariance = np.einsum("s,snk,snl->nkl", w, z - mean, z - mean)
    np.testing.assert_allclose(mean, q.mean(phi), atol=1e-13)
    np.testing.assert_allclose(covariance, q.covariance(phi), atol=1e-13)
    log_q, _ = q.log_prob(phi, z)
    log_prior = stats.norm.logpdf(z).sum(axis=2)
    np.testing.assert_allclose(w @ (log_q - log_prior), q.kl(phi)[0], rtol=1e-12)


def test_s_is_the_standard_deviation_everywhere():
    """φ = [0 | log 3]: samples at ± 3 √K, a covariance of 9, a density of N(0, 9)."""
    q, phi = posteriors.DiagonalGaussian(1), np.array([[0.0, np.log(3.0)]])
    np.testing.assert_allclose(q.sample(phi, noise.sigma_points(1)[0])[0].ravel(), [3, -3])
    np.testing.assert_allclose(q.covariance(phi), [[[9.0]]])
    np.testing.assert_allclose(q.log_prob(phi, np.array([[[1.0]]]))[0], stats.norm.logpdf(1, 0, 3))
    np.testing.assert_allclose(q.kl(phi)[0], kl_to_prior(np.zeros(1), np.array([[9.0]])))


@given(st.integers(1, 4), st.integers(0, 10**6), st.floats(0.1, 2.0))
def test_kl_is_never_negative_and_zero_at_the_prior(n_latent, seed, scale):
    rng = np.random.default_rng(seed)
    for family in GAUSSIANS.values():
        q = family(n_latent)
        phi = scale * rng.standard_normal((3, q.n_phi))
        assert (q.kl(phi)[0] > 0).all()
        np.testing.assert_allclose(q.kl(0 * phi)[0], 0, atol=1e-14)


@pytest.mark.parametrize("family", posteriors.POSTERIORS.values())
def test_shared_nodes_equal_the_same_nodes_per_case(family, rng):
    """eta (S, 1, K) is eta (S, N, K) with equal columns, in the sample and in its backward."""
    q = family(K)
    phi, dz = 0.5 * rng.standard_normal((5, q.n_phi)), rng.standard_normal((2 * K, 5, K))
    shared, _ = noise.sigma_points(K)
    tiled = np.tile(shared, (1, 5, 1))
    (z1, cache1), (z2, cache2) = q.sample(phi, shared), q.sample(phi, tiled)
    np.testing.assert_allclose(z1, z2, rtol=1e-14)
    np.testing.assert_allclose(q.sample_backward(cache1, dz), q.sample_backward(cache2, dz), rtol=1e-13)


def test_full_covers_diagonal(rng):
    """With a diagonal L the full family is the diagonal one: the same KL, log q, samples."""
    diagonal, full = posteriors.DiagonalGaussian(2), posteriors.FullGaussian(2)
    m, log_s = rng.standard_normal((2, 4, 2))
    phi = np.concatenate([m, log_s], axis=1)
    phi_full = np.column_stack([m, log_s[:, 0], np.zeros(4), log_s[:, 1]])
    eta, z = rng.standard_normal((2, 3, 4, 2))
    np.testing.assert_allclose(diagonal.kl(phi)[0], full.kl(phi_full)[0], rtol=1e-12)
    np.testing.assert_allclose(diagonal.sample(phi, eta)[0], full.sample(phi_full, eta)[0], rtol=1e-12)
    np.testing.assert_allclose(diagonal.log_prob(phi, z)[0], full.log_prob(phi_full, z)[0], rtol=1e-12)
    scale, scale_full = diagonal.natural_scale(phi), full.natural_scale(phi_full)
    np.testing.assert_allclose(scale, scale_full[:, [0, 1, 2, 4]], rtol=1e-12)


def test_closest_has_the_least_kl(rng):
    """KL(q ‖ N(mean, P⁻¹)) by its closed form; the full family reaches 0, the diagonal one its least."""
    A = rng.standard_normal((K, K))
    P, mean = A @ A.T + np.eye(K), rng.standard_normal((2, K))

    def kl(q, phi):
        r, cov = q.mean(phi)[0] - mean[0], q.covariance(phi)[0]
        log_det = np.linalg.slogdet(P)[1] + np.linalg.slogdet(cov)[1]
        return 0.5 * (np.trace(P @ cov) + r @ P @ r - K - log_det)

    full, diagonal = posteriors.FullGaussian(K), posteriors.DiagonalGaussian(K)
    assert abs(kl(full, full.closest(mean, P))) < 1e-12
    np.testing.assert_allclose(full.covariance(full.closest(mean, P))[1], np.linalg.inv(P), rtol=1e-10)
    best = diagonal.closest(mean, P)
    for step in 1e-3 * np.concatenate([np.eye(2 * K), -np.eye(2 * K)]):
        assert kl(diagonal, best) < kl(diagonal, best + step)


def test_natural_scale_is_the_inverse_fisher_information(rng):
    """Fisher = E_q[score scoreᵀ], exact by Gauss–Hermite nodes of order 3."""
    q, phi = posteriors.DiagonalGaussian(2), 0.5 * rng.standard_normal((1, 4))
    eta, w = noise.gauss_hermite(2, 3)
    fisher = np.zeros((4, 4))
    for node, weight in zip(eta, w, strict=True):
        _, cache = q.log_prob(phi, q.sample(phi, node[None])[0])
        score, _ = q.log_prob_backward(cache, np.ones((1, 1)))
        fisher += weight * score.T @ score
    np.testing.assert_allclose(np.linalg.inv(fisher), np.diag(q.natural_scale(phi)[0]), atol=1e-12)


def test_natural_scale_of_the_full_family(rng):
    """Its first K entries are the variances, which is exact for m; below the diagonal the row's variance."""
    q = posteriors.FullGaussian(K)
    phi = 0.5 * rng.standard_normal((1, q.n_phi))
    variance = np.diag(np.square(full_moments(phi[0])[1]).sum(axis=1))
    v0, v1, v2 = np.diag(variance)
    np.testing.assert_allclose(q.natural_scale(phi)[0], [v0, v1, v2, 0.5, v1, 0.5, v2, v2, 0.5], rtol=1e-12)


@pytest.mark.parametrize("family", posteriors.POSTERIORS.values())
def test_the_rest_of_a_posterior_on_every_backend(family, backend, rng):
    q, A = family(K), rng.standard_normal((K, K))
    host = {"phi": 0.5 * rng.standard_normal((4, q.n_phi)), "mean": rng.standard_normal((4, K)),
            "precision": A @ A.T + np.eye(K)}

    def rest(i):
        closest = q.closest(i["mean"], i["precision"])
        covariance = [q.covariance(i["phi"])] if hasattr(q, "covariance") else []
        return [q.mean(i["phi"]), *covariance, q.natural_scale(i["phi"]), closest]

    assert_same(rest(arrays(backend, host)), rest(host), backend)


# ---- Layers, model, bound


def test_initial_weights_keep_the_variance_of_a_row():
    rng = np.random.default_rng(0)
    params = layers.Linear(400, 300, gain=2.0).init(rng, HOST)
    assert abs(params["W"].var() * 400 / 4 - 1) < 0.02 and not params["b"].any()
    stack = layers.mlp(400, (300,), 2, "relu")
    assert abs(stack.init(rng, HOST)[0]["W"].var() * 400 / 2 - 1) < 0.02
    assert layers.mlp(4, (), 2).layers == (layers.Linear(4, 2),)


def test_at_its_kink_relu_has_the_slope_0():
    relu, x = layers.ReLU(), np.array([[-1.0, 0.0, 1.0]])
    _, cache = relu.forward({}, x)
    assert relu.backward({}, cache, 2 + 0 * x)[0].tolist() == [[0.0, 0.0, 2.0]]


def test_a_layer_behind_the_first_is_asked_for_its_dx(rng):
    """Whatever the layers are: a bend computes its dx unasked, a Linear does not."""
    stack = layers.Sequential((layers.Linear(4, 3), layers.Linear(3, 2)))
    params, x, dy = stack.init(rng, HOST), rng.standard_normal((5, 4)), rng.standard_normal((5, 2))
    _, cache = stack.forward(params, x)
    dx, dparams = stack.backward(params, cache, dy, need_dx=False)
    assert dx is None
    np.testing.assert_allclose(dparams[0]["W"], x.T @ dy @ params[1]["W"].T, rtol=1e-12)


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="4 outputs feeds a layer with 3 inputs"):
        layers.Sequential((layers.Linear(2, 4), layers.Tanh(), layers.Linear(3, 1)))
    with pytest.raises(ValueError, match="at least one layer"):
        layers.Sequential(())
    with pytest.raises(ValueError, match=r"\[2, 3\]"):
        layers.Parallel((layers.Linear(2, 4), layers.Linear(3, 4)))
    with pytest.raises(ValueError, match="'gelu'"):
        layers.mlp(2, (3,), 1, "gelu")
    for hidden in ((0,), (2.5,), (True,)):
        with pytest.raises(ValueError, match="integers >= 1"):
            layers.mlp(2, hidden, 1)
    p, f = likelihoods.Gaussian(3), layers.mlp(2, (), 3)
    with pytest.raises(ValueError, match="takes 2 latent variables, n_latent is 4"):
        Model(f, p, 4)
    with pytest.raises(ValueError, match="gives 3 outputs, the likelihood needs 5"):
        Model(f, likelihoods.Gaussian(5), 2)
    with pytest.raises(ValueError, match="posterior has 3"):
        Model(f, p, 2, posteriors.FullGaussian(3))
    assert Model(f, p, 2).posterior == posteriors.DiagonalGaussian(2)


def test_weights_of_the_bound(rng):
    """None is 1/S; (S,) is (S, N) with equal columns."""
    model = Model(layers.mlp(2, (3,), D), likelihoods.Gaussian(D), 2)
    theta, phi, x = perturbed(rng, model), rng.standard_normal((4, 4)), rng.standard_normal((4, D))
    eta, w = rng.standard_normal((3, 4, 2)), np.array([0.2, 0.3, 0.5])
    Q = [bound.forward(model, theta, phi, x, eta, weights=weights)[0]
         for weights in (None, np.full(3, 1 / 3), w, np.tile(w[:, None], (1, 4)))]
    np.testing.assert_allclose(Q[0], Q[1], rtol=1e-14)
    np.testing.assert_allclose(Q[2], Q[3], rtol=1e-14)
    assert np.abs(Q[0] - Q[2]).min() > 1e-3
    with pytest.raises(ValueError, match="'analytic' or 'sampled', got 'exact'"):
        bound.forward(model, theta, phi, x, eta, kl="exact")


def test_bound_with_a_mask_ignores_what_was_not_observed(rng):
    model = Model(layers.mlp(2, (3,), D), likelihoods.Bernoulli(D), 2)
    theta, phi, eta = perturbed(rng, model), rng.standard_normal((4, 4)), rng.standard_normal((3, 4, 2))
    x, mask = (rng.random((4, D)) < 0.5).astype(float), np.zeros((4, D))
    Q, _ = bound.forward(model, theta, phi, Observed(x, mask), eta)
    np.testing.assert_allclose(Q, model.posterior.kl(phi)[0], rtol=1e-12)   # nothing observed: only the KL
    some = np.array([[1.0, 0.0, 1.0]] * 4)
    one, two = (bound.forward(model, theta, phi, Observed(y, some), eta)[0] for y in (x, x + (1 - some)))
    np.testing.assert_array_equal(one, two)


# ---- Noise


@pytest.mark.parametrize("n_latent", [1, 2, 5])
def test_nodes_have_the_moments_of_a_standard_normal(n_latent, rng):
    rules = [noise.sigma_points(n_latent), noise.matched_draws(rng, 7, n_latent),
             noise.gauss_hermite(n_latent, 3)]
    for eta, w in rules:
        assert eta.shape == (len(w), 1, n_latent) and abs(w.sum() - 1) < 1e-14
        eta = eta[:, 0]
        np.testing.assert_allclose(w @ eta, 0, atol=1e-13)
        np.testing.assert_allclose((w[:, None] * eta).T @ eta, np.eye(n_latent), atol=1e-12)
        third = np.einsum("s,si,sj,sk->ijk", w, eta, eta, eta)
        np.testing.assert_allclose(third, 0, atol=1e-12)
    assert len(rules[0][1]) == 2 * n_latent
    assert len(rules[1][1]) == max(8, 2 * n_latent) and len(rules[2][1]) == 3**n_latent


@pytest.mark.parametrize("order", [1, 2, 5, 20])
def test_gauss_hermite_is_exact_to_degree_two_order_minus_one(order):
    """And no further: E η^(2·order) = (2·order − 1)!!, and the rule falls short of it by order!."""
    eta, w = noise.gauss_hermite(1, order)

    def moment(degree):
        return w @ eta.ravel() ** degree

    for degree in range(1, 2 * order, 2):
        assert abs(moment(degree)) < 1e-12 * special.factorial2(degree)
    for degree in range(2, 2 * order, 2):
        np.testing.assert_allclose(moment(degree), special.factorial2(degree - 1), rtol=1e-12)
    short = special.factorial2(2 * order - 1) - moment(2 * order)
    np.testing.assert_allclose(short, special.factorial(order), rtol=1e-6)


def test_monte_carlo_is_the_generator_s_own_stream():
    eta = noise.monte_carlo(np.random.default_rng(3), 2, 3, 4)
    np.testing.assert_array_equal(eta, np.random.default_rng(3).standard_normal((2, 3, 4)))
