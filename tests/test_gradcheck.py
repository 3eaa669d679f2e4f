"""The checker itself: faults planted in real components, each caught, and each called by its name."""

from dataclasses import dataclass
import math
from typing import NamedTuple

from hypothesis import assume, example, given, strategies as st
import numpy as np
import pytest

from teachvae import bound, layers, likelihoods, noise, posteriors, tree
from teachvae.gradcheck import check, draw_until_smooth, package
from teachvae.gradcheck.differences import Probe
from teachvae.gradcheck.part import of_kl, of_sample
from teachvae.likelihoods import Bernoulli, Gaussian
from teachvae.model import Model
from teachvae.networks.layers import Linear, Parallel, ReLU, Sequential, mlp
from teachvae.posteriors import DiagonalGaussian, FullGaussian

K, D = package.K, package.D


def in_bound(rng, q=None, p=None, kl="analytic"):
    p = p or Gaussian(D)
    return package.of_bound(rng, mlp(K, (3,), p.n_f), p, q or DiagonalGaussian(K), kl, nodes=False)


# ---- The faults. Each class is a component of the package with one mistake in its backward.


class SignFlippedWeights(Linear):
    def backward(self, params, cache, dy, **need):
        dx, d = Linear.backward(self, params, cache, dy)
        return dx, d | {"W": -d["W"]}


class ResidualTheWrongWayRound(Gaussian):
    """∂log p/∂f from f − x."""
    def backward(self, params, cache, dlog_p, **need):
        df, d = Gaussian.backward(self, params, cache, dlog_p)
        return -df, d


class HalfForgotten(Gaussian):
    def backward(self, params, cache, dlog_p, **need):
        df, d = Gaussian.backward(self, params, cache, dlog_p)
        return df, {"log_psi": 2 * d["log_psi"]}


class MeanOverRows(Linear):
    def backward(self, params, cache, dy, **need):
        dx, d = Linear.backward(self, params, cache, dy)
        return dx, d | {"b": np.mean(dy, axis=0)}


class MeanOverSamplesAndCases(Gaussian):
    def backward(self, params, cache, dlog_p, **need):
        df, d = Gaussian.backward(self, params, cache, dlog_p)
        S, N = dlog_p.shape
        return df, {"log_psi": d["log_psi"] / (S * N)}


class Transposed(Linear):
    def backward(self, params, cache, dy, **need):
        dx, d = Linear.backward(self, params, cache, dy)
        return dx, d | {"W": dy.T @ cache}


class ReshapedNotTransposed(Linear):
    def backward(self, params, cache, dy, **need):
        dx, d = Linear.backward(self, params, cache, dy)
        return dx, d | {"W": np.reshape(dy.T @ cache, params["W"].shape)}


class BiasForgotten(Linear):
    def backward(self, params, cache, dy, **need):
        dx, d = Linear.backward(self, params, cache, dy)
        return dx, d | {"b": np.zeros_like(d["b"])}


class BiasDoesNothing(Linear):
    def forward(self, params, x):
        return x @ params["W"], x


class CotangentOfOnes(Linear):
    def backward(self, params, cache, dy, **need):
        dx, d = Linear.backward(self, params, cache, dy)
        return Linear.backward(self, params, cache, np.ones_like(dy))[0], d


class WrongInOneColumn(Linear):
    def backward(self, params, cache, dy, **need):
        dx, d = Linear.backward(self, params, cache, dy)
        return dx, d | {"W": d["W"] + np.array([0.0, 1.0, 0.0]) * np.square(d["W"])}


class DividesByZero(Linear):
    def backward(self, params, cache, dy, **need):
        dx, d = Linear.backward(self, params, cache, dy)
        return dx, d | {"b": d["b"] / np.array([1.0, 1.0, np.nan])}


class ChainRuleOfTheLogForgotten(DiagonalGaussian):
    """∂z/∂s returned as ∂z/∂log s."""
    def sample_backward(self, cache, dz):
        s, eta = cache
        return np.concatenate([np.sum(dz, axis=0), np.sum(dz * eta, axis=0)], axis=1)


class VarianceLearned(Gaussian):
    """∂/∂ψ returned as ∂/∂log ψ."""
    def backward(self, params, cache, dlog_p, **need):
        df, d = Gaussian.backward(self, params, cache, dlog_p)
        return df, {"log_psi": d["log_psi"] / np.exp(params["log_psi"])}


class LogVarianceBackward(DiagonalGaussian):
    """The backward of a φ that holds log s², the forward of one that holds log s."""
    def kl_backward(self, cache, dkl):
        m, s2 = cache
        return np.concatenate([dkl[:, None] * m, 0.5 * dkl[:, None] * (s2 - 1)], axis=1)


class StandardDeviationForVariance(DiagonalGaussian):
    def kl_backward(self, cache, dkl):
        m, s2 = cache
        return np.concatenate([dkl[:, None] * m, dkl[:, None] * (np.sqrt(s2) - 1)], axis=1)


class EntropyForgotten(DiagonalGaussian):
    """The −1 of s² − 1 is the derivative of −log s, the negative entropy."""
    def kl_backward(self, cache, dkl):
        m, s2 = cache
        return np.concatenate([dkl[:, None] * m, dkl[:, None] * s2], axis=1)


class MeanForgottenInKL(DiagonalGaussian):
    def kl_backward(self, cache, dkl):
        m, s2 = cache
        return np.concatenate([0 * m, dkl[:, None] * (s2 - 1)], axis=1)


class NoKL(DiagonalGaussian):
    def kl_backward(self, cache, dkl):
        return np.concatenate([0 * cache[0], 0 * cache[1]], axis=1)


class HalvesExchanged(DiagonalGaussian):
    def kl_backward(self, cache, dkl):
        return np.roll(DiagonalGaussian.kl_backward(self, cache, dkl), self.n_latent, axis=1)


class EntriesOutOfOrder(FullGaussian):
    """The diagonal of L first, then what is below it: another order than that of the forward."""
    def kl_backward(self, cache, dkl):
        return FullGaussian.kl_backward(self, cache, dkl)[:, [0, 1, 2, 4, 3]]


@dataclass(frozen=True)
class DrawsInside(DiagonalGaussian):
    """The published mistake: the noise of the backward is not the noise of z."""
    rng: object = None

    def sample(self, phi, eta):
        return DiagonalGaussian.sample(self, phi, self.rng.standard_normal(eta.shape))


def layer(component):
    return lambda rng: package.of_layer(rng, component)


def likelihood(component):
    return lambda rng: package.of_likelihood(rng, component, masked=False)


FAULTS = [  # where the fault is, its leaf, what the diagnosis must say
    (layer(SignFlippedWeights(4, 3)), "params.W", ["analytic = −numeric at every index", "sign"]),
    (likelihood(ResidualTheWrongWayRound(D)), "f", ["analytic = −numeric", "sign", "∂(x − f)/∂f"]),
    (likelihood(HalfForgotten(D)), "params.log_psi", ["= 2 ·", "a ½ is forgotten"]),
    (likelihood(HalfForgotten(D, "isotropic")), "params.log_psi", ["= 2 ·", "a ½ is forgotten"]),
    (layer(MeanOverRows(4, 3)), "params.b", ["= 0.25 ·", "1/(N = 4)", "a mean stands where a sum belongs"]),
    (likelihood(MeanOverSamplesAndCases(D)), "params.log_psi", ["1/(N·S = 12)", "a mean stands where a sum"]),
    (layer(Transposed(4, 4)), "params.W", ["axes 0 and 1 exchanged; it is transposed", "dW = xᵀ dy"]),
    (layer(ReshapedNotTransposed(4, 3)), "params.W", ["reshape stands where a transpose belongs"]),
    (layer(BiasForgotten(4, 3)), "params.b", ["analytic is exactly zero", "never reached"]),
    (layer(BiasDoesNothing(4, 3)), "params.b", ["numeric is zero", "does not use the params"]),
    (layer(CotangentOfOnes(4, 3)), "x", ["no pattern known"]),
    (layer(CotangentOfOnes(4, 1)), "x", ["another c for every index of axis 0", "not all ones"]),
    (layer(WrongInOneColumn(4, 3)), "params.W", ["wrong in columns 1 of 0–2", "right elsewhere"]),
    (layer(DividesByZero(4, 3)), "params.b", ["not finite in entries 2"]),
    (lambda rng: of_sample(rng, ChainRuleOfTheLogForgotten(K)), "params",
     ["exp(−p) · numeric in columns 2–3", "mixed up", "∂s/∂log s = s"]),
    (likelihood(VarianceLearned(D)), "params.log_psi", ["exp(−p) · numeric at every index", "mixed up"]),
    (lambda rng: of_kl(rng, LogVarianceBackward(K)), "params",
     ["= 0.5 · numeric in columns 2–3", "a 2 is forgotten", "s² = exp(2 log s)"]),
    (lambda rng: of_kl(rng, StandardDeviationForVariance(K)), "params",
     ["c · (exp(2p) − exp(p)) in columns 2–3", "s stands where s² belongs", "mixed up"]),
    (lambda rng: of_kl(rng, EntropyForgotten(K)), "params",
     ["analytic − numeric = c in columns 2–3", "an additive constant is missing", "−1 of s² − 1"]),
    (lambda rng: of_kl(rng, MeanForgottenInKL(K)), "params", ["exactly zero in columns 0–1"]),
    (lambda rng: in_bound(rng, MeanForgottenInKL(K)), "phi",
     ["analytic − numeric = c · p in columns 0–1", "a quadratic term is missing", "½ m² of the KL"]),
    (lambda rng: in_bound(rng, NoKL(K)), "phi",
     ["two mistakes: analytic − numeric = c · p in columns 0–1",
      "and analytic − numeric = c · (exp(2p) − 1) in columns 2–3", "of the KL is missing"]),
    (lambda rng: of_kl(rng, HalvesExchanged(K)), "params", ["shifted by 2 along axis 1"]),
    (lambda rng: of_kl(rng, EntriesOutOfOrder(K)), "params", ["permuted"]),
]


@pytest.mark.parametrize("make_check, leaf, words", FAULTS)
@pytest.mark.parametrize("seed", range(3))
def test_a_planted_fault_is_caught_and_named(make_check, leaf, words, seed):
    report = make_check(np.random.default_rng(seed))
    assert not report.ok
    row = {row.path: row for row in report.rows}[leaf]
    assert not row.ok and row.error > 1e-3
    for word in words:
        assert word in row.diagnosis
    assert [other.path for other in report.rows if not other.ok] == [leaf]   # and only there
    assert report.worst is row


@pytest.mark.parametrize("make_check", [
    layer(Linear(4, 3)), layer(Linear(4, 4)), layer(Linear(4, 1)), likelihood(Gaussian(D)),
    likelihood(Gaussian(D, "isotropic")), lambda rng: of_sample(rng, DiagonalGaussian(K)),
    lambda rng: of_kl(rng, DiagonalGaussian(K)), lambda rng: of_kl(rng, FullGaussian(K)),
    in_bound,
])
@pytest.mark.parametrize("seed", range(3))
def test_the_untouched_component_passes(make_check, seed):
    report = make_check(np.random.default_rng(seed))
    assert report.ok and not report.kinks and not report.notes
    assert all(row.diagnosis == "" and row.error < 1e-7 for row in report.rows)


# ---- What a whole check can be refused for, or cannot be trusted for


def sum_of_linear(c, x):
    """f: params of a Linear → Σ c·y, and the params' gradient."""
    linear = Linear(*x.shape[1:], c.shape[1])

    def grads(params):
        return linear.backward(params, linear.forward(params, x)[1], c)[1]

    return linear, lambda params: np.sum(c * linear.forward(params, x)[0]), grads


def test_noise_redrawn_in_the_forward(rng):
    report = in_bound(rng, DrawsInside(K, np.random.default_rng(1)))
    assert not report.ok and not report.kinks
    for words in ("f gives two answers at one point", "noise is redrawn between forward and backward",
                  "draw eta once, outside"):
        assert words in report.notes[0]
    assert report.notes[0] in str(report)


def test_noise_redrawn_in_the_backward_only(rng):
    q, phi, c = DiagonalGaussian(K), rng.standard_normal((4, 2 * K)), rng.standard_normal((3, 4, K))
    eta = rng.standard_normal((3, 4, K))

    def f(p):
        return np.sum(c * q.sample(p, eta)[0])

    def redraws(p):
        return q.sample_backward(q.sample(p, rng.standard_normal(eta.shape))[1], c)

    report = check(f, phi, redraws)
    assert not report.ok and ["the backward gives two answers" in note for note in report.notes] == [True]
    assert check(f, phi, lambda p: q.sample_backward(q.sample(p, eta)[1], c)).ok


def test_sum_for_mean_shows_in_every_leaf(rng):
    """f is the mean of Q_n; the backward starts from ones, as for the sum."""
    model = Model(mlp(K, (3,), D), Gaussian(D), K)
    params = {"phi": package.table(rng, model.posterior), "theta": package.away_from_zero(rng, model)}
    eta, x = noise.monte_carlo(rng, 3, 6, K), rng.standard_normal((6, D))
    params["phi"] = rng.uniform(-0.7, 0.7, (6, 2 * K))

    def forward(p):
        return bound.forward(model, p["theta"], p["phi"], x, eta)

    def grads(p, start):
        dphi, dtheta = bound.backward(model, p["theta"], forward(p)[1], np.full(6, start))
        return {"phi": dphi, "theta": dtheta}

    wrong = check(lambda p: np.mean(forward(p)[0]), params, grads(params, 1.0), counts={"N": 6, "S": 3})
    assert "analytic = 6 · numeric in every leaf" in wrong.notes[0]
    assert all("N = 6: a sum stands where a mean belongs" in row.diagnosis for row in wrong.rows)
    assert check(lambda p: np.mean(forward(p)[0]), params, grads(params, 1 / 6)).ok


def test_sign_of_the_whole_loss(rng):
    linear, f, grads = sum_of_linear(rng.standard_normal((5, 3)), rng.standard_normal((5, 4)))
    params = package.away_from_zero(rng, linear)
    report = check(lambda p: -f(p), params, grads)
    assert "analytic = -1 · numeric in every leaf" in report.notes[0]


def test_different_mistakes_have_nothing_in_common(rng):
    linear, f, grads = sum_of_linear(rng.standard_normal((5, 3)), rng.standard_normal((5, 4)))
    params = package.away_from_zero(rng, linear)
    good = grads(params)
    assert check(f, params, {"W": -good["W"], "b": 2 * good["b"]}).notes == []
    assert check(f, params, {"W": -good["W"], "b": good["b"]}).notes == []


def test_a_leaf_of_zero_gradient_fails(rng):
    """A dead ReLU: analytic and numeric agree that all is zero, and nothing has been tested."""
    net = Sequential((Linear(4, 3), ReLU()))
    params, x = package.away_from_zero(rng, net), rng.standard_normal((5, 4))
    params[0]["b"] -= 100
    c = rng.standard_normal((5, 3))
    _, grads = net.backward(params, net.forward(params, x)[1], c)
    report = check(lambda p: np.sum(c * net.forward(p, x)[0]), params, grads)
    assert not report.ok and report.worst.error == 0
    assert all("zero at every index, which proves nothing" in row.diagnosis for row in report.rows)


def test_two_layers_whose_gradients_are_exchanged(rng):
    class Exchanged(Sequential):
        def backward(self, params, cache, dy, **need):
            dx, dparams = Sequential.backward(self, params, cache, dy)
            return dx, dparams[::-1]

    report = package.of_layer(rng, Exchanged((Linear(4, 4), Linear(4, 4))))
    rows = {row.path: row for row in report.rows}
    assert "is the gradient of params[1].W; two gradients are exchanged" in rows["params[0].W"].diagnosis
    assert "the gradient of params[0].b" in rows["params[1].b"].diagnosis and rows["x"].ok


def test_a_parallel_branch_left_out(rng):
    class OneBranch(Parallel):
        def backward(self, params, cache, dy, **need):
            dx, dparams = Parallel.backward(self, params, cache, dy)
            return self.branches[0].backward(params[0], cache[0], dy[:, :3])[0], dparams

    report = package.of_layer(rng, OneBranch((Linear(4, 3), Linear(4, 2))))
    assert [row.path for row in report.rows if not row.ok] == ["x"]


def test_a_small_error_is_called_small(rng):
    class Rounded(layers.Tanh):
        def backward(self, params, cache, dy, **need):
            return layers.Tanh.backward(self, params, cache, dy)[0] * (1 + 5e-7), {}

    report = package.of_layer(rng, Rounded())
    assert not report.ok and 1e-7 < report.worst.error < 1e-6
    assert "small for a wrong formula" in report.worst.diagnosis


def test_float32_is_refused(rng):
    linear, f, grads = sum_of_linear(rng.standard_normal((5, 3)), rng.standard_normal((5, 4)))
    params = package.away_from_zero(rng, linear)
    single = tree.map(lambda leaf: leaf.astype("float32"), params)
    with pytest.raises(TypeError, match="needs NumPy arrays of float64; leaf 'W' of params is float32"):
        check(f, single, grads)
    report = check(f, params, tree.map(lambda leaf: leaf.astype("float32"), grads(params)))
    assert report.verdict == "WRONG" and all("it is float32" in row.diagnosis for row in report.rows)
    with pytest.raises(TypeError, match="f returned float32"):
        check(lambda p: np.float32(f(p)), params, grads)
    with pytest.raises(TypeError, match="is int"):
        check(lambda p: 2.0 * p, 3, 2)


def test_what_does_not_fit_together_is_refused_with_both(rng):
    linear, f, grads = sum_of_linear(rng.standard_normal((5, 3)), rng.standard_normal((5, 4)))
    params = package.away_from_zero(rng, linear)
    good = grads(params)
    transposed = check(f, params, good | {"W": good["W"].T})
    assert [row.verdict for row in transposed.rows] == ["WRONG", "ok"], "the rest is compared all the same"
    assert "it has shape (3, 4) where (4, 3) is asked for; it is transposed" in transposed.rows[0].diagnosis
    absent = check(f, params, {"W": good["W"]})
    assert "it is not there; what came back has W" in absent.rows[1].diagnosis and absent.rows[0].ok
    beyond = check(f, params, good | {"c": good["b"]})
    assert beyond.verdict == "WRONG" and all(row.ok for row in beyond.rows)
    assert "c came back, and nobody asked for it; the names are W, b" in beyond.notes[0]
    assert "what came back has nothing in it" in check(f, params, {}).rows[0].diagnosis
    with pytest.raises(ValueError, match=r"one number, got shape \(5, 3\)"):
        check(lambda p: linear.forward(p, np.ones((5, 4)))[0], params, grads)
    with pytest.raises(ValueError, match="nothing to check"):
        check(lambda p: 0.0, np.zeros((0, 3)), np.zeros((0, 3)))
    with pytest.raises(ValueError):
        check(f, params, grads, names=["only one"])


def test_a_function_that_changes_its_params_is_refused():
    def f(p):
        p += 1
        return np.sum(p * p)

    with pytest.raises(ValueError, match="changed its params in place"):
        check(f, np.ones(3), lambda p: 2 * p)


def test_the_caller_s_arrays_are_never_written(rng):
    linear, f, grads = sum_of_linear(rng.standard_normal((5, 3)), rng.standard_normal((5, 4)))
    params = package.away_from_zero(rng, linear)
    before = tree.map(np.copy, params)
    for _, leaf in tree.leaves(params):
        leaf.flags.writeable = False
    assert check(f, params, grads).ok
    for (_, a), (_, b) in zip(tree.leaves(before), tree.leaves(params), strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_is_not_finite_is_said(rng):
    p, x = Gaussian(D), rng.standard_normal((4, D))

    def f(log_psi):
        with np.errstate(all="ignore"):
            return np.sum(p.forward({"log_psi": log_psi}, np.zeros((1, 4, D)), x)[0])

    report = check(f, np.array([0.1, -800.0, 0.3]), np.ones(3))
    assert not report.ok and report.worst.error == np.inf
    assert "f, here or a step beside, is not finite" in report.worst.diagnosis
    report = check(lambda p: np.sum(p * p), np.ones(3), np.array([2.0, np.inf, 2.0]))
    assert "the analytic gradient is not finite in entries 1 of 0–2" in report.worst.diagnosis


# ---- What is no mistake of the gradient: constants, scales, steps too wide, the order of keys


POINT = {"a": np.array([0.3, -0.7, 1.2]), "b": np.array([[0.5, 0.2]])}
SLOPES = {"b": np.exp(POINT["b"]), "a": np.cos(POINT["a"]) * POINT["a"] + np.sin(POINT["a"])}


def wavy(p):
    return np.sum(np.sin(p["a"]) * p["a"]) + np.sum(np.exp(p["b"]))


def scaled(constant, factor, mistake=1.0):
    slopes = {key: factor * mistake * slope for key, slope in SLOPES.items()}
    return check(lambda p: constant + factor * wavy(p), POINT, slopes)


@pytest.mark.parametrize("factor", [1e-300, 1e-12, 1.0, 1e12])
def test_no_size_of_f_makes_a_right_gradient_wrong(factor):
    assert scaled(0.0, factor).ok
    assert scaled(0.0, factor, 1 + 1e-5).verdict == "WRONG"


def test_a_constant_in_f_hides_what_its_rounding_hides_and_no_more():
    assert scaled(1e6, 1.0).ok and scaled(1e6, 1.0, 1 + 1e-5).verdict == "WRONG"
    for constant, mistake in ((1e9, 1e-3), (1e12, 1.0)):
        report = scaled(constant, 1.0)
        assert report.verdict == "?" and not report.ok, "what cannot be seen has not passed"
        assert all("rounding of f decides" in row.diagnosis for row in report.rows) and not report.notes
        assert [line.split()[-1] for line in str(report).splitlines()[1:3]] == ["?", "?"]
        assert scaled(constant, 1.0, 1 + mistake).verdict == "WRONG"
    drowned = scaled(1e15, 1.0)
    assert drowned.verdict == "?" and "f is 1e+15 here" in drowned.rows[0].diagnosis
    assert "zero" not in drowned.rows[0].diagnosis, "the table shows that they are not"


@pytest.mark.parametrize("v", [1e-3, 3e-5, 1.1e-5, 1e-8, 1e-12])
def test_a_step_too_wide_for_the_parameter_is_no_mistake(v):
    """Σ log v: within v of 0 the step of (8.1) bends the logarithm, or leaves where it is defined."""
    point = np.array([v, 2 * v])
    report = check(lambda p: np.sum(np.log(p)), point, 1 / point)
    assert report.ok and not report.kinks
    assert check(lambda p: np.sum(np.log(p)), point, (1 + 1e-5) / point).verdict == "WRONG"
    assert check(lambda p: sum(math.log(q) for q in p), point, 1 / point).ok, "one that raises instead"


@given(
    st.integers(0, 2**32 - 1), st.floats(-8, 8), st.floats(-3, 6), st.floats(-2, 12),
    st.sampled_from([0.0, -2.0, 1e-3, 1e-1]),
)
def test_right_is_never_wrong_and_wrong_never_right(seed, f_size, bend, constant, mistake):
    """Sines of all heights and lengths on a constant: one entry of the gradient is off by `mistake`."""
    rng = np.random.default_rng(seed)
    amplitude, rate = 10**f_size * rng.uniform(0.5, 2, 4), 10**bend * rng.uniform(0.5, 2, 4)
    point, base = rng.uniform(-1, 1, 4) / 10**bend, amplitude.min() * rng.choice([0.0, 10**constant])
    slopes = amplitude * rate * np.cos(rate * point)
    assume(np.abs(slopes).min() > 0.1 * np.abs(slopes).max())
    given_ = slopes.copy()
    given_[rng.integers(4)] *= 1 + mistake
    verdict = check(lambda p: base + np.sum(amplitude * np.sin(rate * p)), point, given_).verdict
    assert verdict in (("WRONG", "?") if mistake else ("ok", "?"))
    if base <= 1e3 * amplitude.min():                              # three digits of sixteen are no excuse
        assert verdict != "?"


def test_keys_are_matched_by_name_and_may_be_numbers():
    right = check(lambda p: p[7] ** 2 + p[0] ** 3, {7: np.array(1.0), 0: np.array(2.0)},
                  {0: np.array(12.0), 7: np.array(2.0)})
    assert right.ok and [row.path for row in right.rows] == ["7", "0"] and "7" in str(right)
    other = check(lambda p: p["a"], {"a": np.array(1.0)}, {"c": np.array(1.0)})
    assert "it is not there; what came back has c" in other.rows[0].diagnosis
    assert "c came back" in other.notes[0]


def test_a_named_tuple_stays_one():
    class Normal(NamedTuple):
        mean: object
        spread: object

    def f(p):
        return np.sum(p.mean**2) + np.sum(p.spread**3)

    point = Normal(np.array([1.0, 2.0]), np.array([0.5]))
    report = check(f, point, Normal(2 * point.mean, 3 * point.spread**2))
    assert report.ok and [row.path for row in report.rows] == ["mean", "spread"]


def test_a_gradient_of_zeros_and_a_kink_prove_nothing_and_are_not_called_wrong():
    x = np.array([0.3, 0.4, 0.5])
    report = check(lambda q: np.sum(np.exp(q) / np.exp(q).sum()), x, np.array([1e-17, -2e-17, 0.0]))
    assert report.verdict == "?" and "zero at every index, which proves nothing" in report.rows[0].diagnosis
    assert relu_check(np.array([[1.0, 0.0, 2.0]])).verdict == "?"


# ---- Kinks


def relu_check(x, factor=1.0):
    c = np.linspace(0.5, 1.5, x.size).reshape(x.shape)
    dx, _ = ReLU().backward({}, x, factor * c)
    return check(lambda p: np.sum(c * ReLU().forward({}, p)[0]), x, dx, names=["x"])


@example(1e-5 / 11)                                                # a tenth of the step, a tenth of the gap
@given(st.floats(-0.95e-5, 0.95e-5))
def test_a_kink_within_the_step_is_flagged(distance):
    report = relu_check(np.array([[1.0, distance, -1.0]]))
    assert not report.ok
    assert report.kinks == [("x", (0, 1))]
    assert "f has a kink in columns 1 of 0–2" in report.worst.diagnosis
    assert "draw another point" in report.worst.diagnosis


@pytest.mark.parametrize("distance", [1.1e-5, -1.1e-5, 1e-3])
def test_a_kink_beyond_the_step_does_no_harm(distance):
    report = relu_check(np.array([[1.0, distance, -1.0]]))
    assert report.ok and not report.kinks


def test_a_kink_does_not_hide_a_wrong_gradient():
    report = relu_check(np.array([[1.0, 0.0, 2.0]]), factor=2.0)
    assert report.kinks == [("x", (0, 1))]
    assert "it is also wrong in columns 0, 2 of 0–2" in report.worst.diagnosis


def test_a_kink_too_small_to_explain_the_error_is_no_excuse():
    report = check(lambda p: np.sum(3 * p + 0.01 * np.abs(p)), np.zeros(2), np.array([3.0, 6.0]), names=["p"])
    assert not report.ok and not report.kinks and report.worst.index == (1,)


@given(st.floats(-3, 3), st.floats(-2, 2).filter(lambda e: abs(e) > 1e-6))
def test_a_smooth_function_has_no_kinks_however_wrong_its_gradient(p, mistake):
    """exp(4p) bends strongly: its one-sided slopes differ by 16 h f, and still evenly."""
    point = np.array([p, 0.3])
    report = check(lambda q: np.sum(np.exp(4 * q)), point, 4 * np.exp(4 * point) * (1 + mistake))
    assert not report.kinks and not report.ok


def test_rounding_is_not_taken_for_a_kink():
    """f is large beside its slopes, which rounding makes uneven at every step; f itself is smooth."""
    point = np.linspace(-1, 1, 50)
    report = check(lambda p: 1e5 + np.sum(np.sin(3 * p)), point, (1 + 2e-7) * 3 * np.cos(3 * point))
    assert not report.kinks and not report.ok


def test_another_point_is_drawn_until_there_is_no_kink():
    seen = []

    def make_check(seed):
        seen.append(seed)
        return relu_check(np.array([[1.0, [0.0, 3e-6, 0.5, 0.7][seed], -1.0]]))

    report = draw_until_smooth(make_check, range(4))
    assert report.ok and seen == [0, 1, 2]
    report = draw_until_smooth(make_check, range(2))
    assert report.kinks and not report.ok


def test_a_wrong_gradient_of_a_relu_network_is_not_drawn_away():
    class ReLUWithoutItsMask(ReLU):
        def backward(self, params, cache, dy, **need):
            return dy, {}

    net = Sequential((Linear(4, 5), ReLUWithoutItsMask(), Linear(5, 3)))
    seen = []

    def make_check(seed):
        seen.append(seed)
        return package.of_layer(np.random.default_rng(seed), net)

    report = draw_until_smooth(make_check, range(20))
    assert not report.ok and not report.kinks and len(seen) == 1


# ---- The numbers and the table


def test_steps_and_errors_are_those_of_the_equations():
    points = []

    def f(p):
        points.append(p.copy())
        return np.sum(np.square(p))

    report = check(f, np.array([100.0, 0.5]), lambda p: np.array([200.0, 1.0 + 1e-3]))
    steps = {(round(p[0] - 100, 9), round(p[1] - 0.5, 9)) for p in points}
    assert {(1e-3, 0), (-1e-3, 0), (0, 1e-5), (0, -1e-5)} <= steps                               # (8.1)
    np.testing.assert_allclose(report.worst.error, 1e-3 / 2, rtol=1e-4)    # 200/100 is the floor  (8.2)
    assert report.worst.index == (1,) and report.worst.analytic == 1.001


@pytest.mark.parametrize("shrink", [1, 10, 1e3, 1e6])
def test_a_slope_is_over_the_step_that_rounding_left(shrink):
    """The slope of f(p) = p is 1 to the last digit, wherever p + h is rounded to."""
    flat = np.array([1234.567, -0.1])
    for i in range(2):
        probe = Probe(lambda p: p[i], flat, flat, flat[i], 1e-5, 0.0)
        assert probe.slopes(i, shrink) == (1.0, 1.0)


@given(st.integers(0, 11), st.floats(-8, -0.5), st.sampled_from([-1, 1]))
def test_every_index_is_looked_at(where, exponent, sign):
    """One entry off by more than the tolerance is found, wherever it is; by less, and it passes."""
    rng = np.random.default_rng(where)
    linear, f, grads = sum_of_linear(rng.standard_normal((5, 3)), rng.standard_normal((5, 4)))
    params = package.away_from_zero(rng, linear)
    spoilt = grads(params)
    size = np.maximum(np.abs(spoilt["W"]), 1e-2 * np.abs(spoilt["W"]).max()).flat[where]
    assume(abs(exponent + 7) > 0.1)
    spoilt["W"].flat[where] += sign * 10**exponent * size
    report = check(f, params, spoilt)
    assert report.ok == (exponent < -7)
    if exponent > -7:
        assert report.worst.path == "W" and report.worst.index == (where // 3, where % 3)
        assert report.worst.diagnosis


@given(st.floats(-5, 5).filter(lambda c: abs(c) > 1e-2 and abs(c - 1) > 1e-3 and abs(c + 1) > 1e-3))
def test_any_constant_factor_is_named(c):
    rng = np.random.default_rng(0)
    linear, f, grads = sum_of_linear(rng.standard_normal((5, 3)), rng.standard_normal((5, 4)))
    params = package.away_from_zero(rng, linear)
    report = check(f, params, grads(params) | {"W": c * grads(params)["W"]})
    assert f"analytic = {c:.6g} · numeric at every index" in report.worst.diagnosis


def test_one_array_or_one_number_is_a_tree():
    assert check(lambda p: np.sum(p**3), np.array([[1.0, 2.0]]), lambda p: 3 * p**2).ok
    report = check(lambda p: p["a"] ** 2, {"a": np.array(1.5)}, {"a": np.array(6.0)})
    assert not report.ok and "= 2 · numeric at every index; a ½ is forgotten" in report.worst.diagnosis
    assert check(lambda p: p["a"] ** 2, {"a": np.array(1.5)}, {"a": np.array(3.0)}).ok


def test_the_report_is_a_table_and_then_words(rng):
    report = package.of_layer(rng, SignFlippedWeights(4, 3))
    lines = str(report).splitlines()
    assert lines[0].split() == ["leaf", "shape", "worst", "error", "at", "analytic", "numeric"]
    assert [line.split()[0] for line in lines[1:4]] == ["x", "params.W", "params.b"]
    assert [line.split()[-1] for line in lines[1:4]] == ["ok", "WRONG", "ok"]
    assert len({line.index(word) for line, word in zip(lines[1:4], ["ok", "WRONG", "ok"], strict=True)}) == 1
    assert lines[4].startswith("params.W: analytic = −numeric") and len(lines) == 5
    named = check(lambda p: np.sum(p), np.ones(2), np.ones(2), names=["phi"])
    assert named.rows[0].path == "phi" and "phi" in str(named)


def test_a_check_proves_only_that_a_backward_belongs_to_its_forward(rng):
    """exp(log variance) taken for s in the sample, for s² in the KL: both gradients pass, Q is no bound.

    What catches it are the values, in test_components.py.
    """
    class LogVarianceInTheKL(DiagonalGaussian):
        def kl(self, phi):
            m, log_s = self.unpack(phi)
            return DiagonalGaussian.kl(self, np.concatenate([m, 0.5 * log_s], axis=1))

        def kl_backward(self, cache, dkl):
            d = DiagonalGaussian.kl_backward(self, cache, dkl)
            return d * np.repeat([1.0, 0.5], self.n_latent)

    assert in_bound(rng, LogVarianceInTheKL(K)).ok
    phi = np.array([[0.0, 1.0]])
    assert LogVarianceInTheKL(1).kl(phi)[0] < posteriors.DiagonalGaussian(1).kl(phi)[0] - 1


def test_new_members_of_the_tables_are_checked_too(rng):
    """checks draws data with a likelihood's own sample, so that it knows no likelihood by name."""
    assert package.of_likelihood(rng, Bernoulli(D), masked=True).ok
    names = {name for name, _ in package.likelihoods()}
    assert names >= set(likelihoods.LIKELIHOODS) - {"gaussian"}
