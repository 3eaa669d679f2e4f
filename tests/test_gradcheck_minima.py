"""Minima, saddles and maxima: what E- and M-steps return, rightly and wrongly, where a gradient is zero."""

from hypothesis import given, strategies as st
import numpy as np
import pytest

from teachvae import FactorAnalysis
from teachvae.gradcheck import check, check_minimum

RNG = np.random.default_rng(8)
X = RNG.standard_normal((40, 3)) * [1.0, 0.1, 10.0] + [0.0, 5.0, -2.0]
MEAN, LOG_VAR = X.mean(axis=0), np.log(X.var(axis=0))
MIN = {"mean": MEAN, "log_psi": LOG_VAR}


def nlml(p):
    """Σ_n −log N(x_n; mean, ψ), without its constant."""
    return 0.5 * np.sum(p["log_psi"] + np.square(X - p["mean"]) / np.exp(p["log_psi"]))


def test_the_closed_form_is_a_minimum_and_its_gradient_proves_nothing():
    report = check_minimum(nlml, MIN)
    assert report.ok and report.outcome == "right" and report.notes == []
    assert check(nlml, MIN, {"mean": np.zeros(3), "log_psi": np.zeros(3)}).verdict != "ok"


@pytest.mark.parametrize("change, leaf, at", [
    ({"log_psi": np.log(X.var(axis=0, ddof=1))}, "log_psi", "at every index"),      # divisor N − 1
    ({"log_psi": np.log(X.std(axis=0))}, "log_psi", "at every index"),
    ({"mean": np.median(X, axis=0)}, "mean", "at every index"),
    ({"mean": MEAN + [0, 1e-3, 0]}, "mean", "in entries 1 of 0–2"),
])
def test_a_step_that_is_left_is_told_with_its_place_and_size(change, leaf, at):
    report = check_minimum(nlml, MIN | change)
    row = {row.path: row for row in report.rows}[leaf]
    assert row.verdict == "WRONG" and f"f still goes down {at}" in row.diagnosis
    i = int(row.index[0])
    assert row.error > 1e-4 and f"at ({i},)" in row.diagnosis
    mean, psi = (MIN | change)["mean"], np.exp((MIN | change)["log_psi"])
    slopes = {
        "mean": np.sum((mean - X) / psi, axis=0), "log_psi": 0.5 * np.sum(1 - (X - mean) ** 2 / psi, axis=0)
    }
    np.testing.assert_allclose(row.analytic, slopes[leaf][i], rtol=1e-5)


def test_the_step_and_the_fall_are_those_of_a_parabola():
    report = check_minimum(lambda p: 3 * (p[0] - 2) ** 2 + (p[1] + 1) ** 2 + 7, np.array([2.5, -1.0]))
    assert "the largest step left is about -0.5 at (0,), where f would fall by about 0.75" in str(report)
    row, = report.rows
    np.testing.assert_allclose([row.error, row.analytic, row.numeric], [0.5 / 2.5, 3.0, 6.0], rtol=1e-6)


def test_an_e_step_in_closed_form_is_the_minimum_of_Q_over_phi(rng):
    """An E-step of a linear-Gaussian model by its closed form, against Q written out."""
    W, psi, x = rng.standard_normal((2, 4)), rng.uniform(0.3, 1.0, 4), rng.standard_normal((3, 4))
    precision = np.eye(2) + (W / psi) @ W.T
    m = np.linalg.solve(precision, (W / psi) @ x.T).T
    log_s = np.tile(-0.5 * np.log(np.diag(precision)), (3, 1))

    def q(p):
        s2 = np.exp(2 * p["log_s"])
        squares = np.sum((x - p["m"] @ W) ** 2 / psi) + np.sum(s2 * np.sum(W**2 / psi, axis=1))
        return 0.5 * squares + 0.5 * np.sum(p["m"] ** 2 + s2 - 2 * p["log_s"])

    assert check_minimum(q, {"m": m, "log_s": log_s}).ok
    wrong = check_minimum(q, {"m": m, "log_s": 0.5 * np.log(np.linalg.inv(precision).diagonal()) + 0 * log_s})
    assert [row.verdict for row in wrong.rows] == ["ok", "WRONG"], "the marginal variance is not mean field's"


def test_saddles_and_maxima_are_told():
    saddle = check_minimum(lambda p: p[0] ** 2 - p[1] ** 2 + 3 * p[2] ** 2, np.zeros(3))
    assert not saddle.ok and "it is a saddle" in saddle.notes[0] and "+1.00 in params[1]" in saddle.notes[0]
    assert "f bends down in entries 1 of 0–2" in saddle.rows[0].diagnosis
    across = check_minimum(lambda p: p["a"] ** 2 + p["b"] ** 2 - 3 * p["a"] * p["b"],
                           {"a": np.array(0.0), "b": np.array(0.0)})
    assert all(row.ok for row in across.rows), "along its axes alone it looks like a minimum"
    assert across.verdict == "WRONG" and "it is a saddle" in across.notes[0]
    maximum = check_minimum(lambda p: -nlml(p), MIN)
    assert not maximum.ok and "it is a maximum: f bends down in every direction" in maximum.notes[0]
    assert "f still goes down" in str(check_minimum(lambda p: np.sum(p), np.ones(2)))


def test_a_flat_place_that_goes_down_is_no_minimum():
    assert not check_minimum(lambda p: np.sum(p**3), np.zeros(3)).ok
    fifth = check_minimum(lambda p: np.sum(p**5) + 0 * p[0], np.zeros(2))
    assert not fifth.ok
    assert check_minimum(lambda p: np.sum(p**4), np.zeros(3)).ok


def test_a_direction_that_costs_nothing_is_no_fault(rng):
    """The free rotation of factor analysis: W may be turned."""
    W = np.linalg.qr(rng.standard_normal((5, 2)))[0].T * [[2.0], [1.5]]
    C = W.T @ W + 0.5 * np.eye(5)

    def f(p):
        model = p.T @ p + 0.5 * np.eye(5)
        return 0.5 * (np.linalg.slogdet(model)[1] + np.trace(np.linalg.solve(model, C)))

    turn = np.array([[np.cos(0.7), -np.sin(0.7)], [np.sin(0.7), np.cos(0.7)]])
    assert check_minimum(f, W).ok and check_minimum(f, turn @ W).ok
    assert not check_minimum(f, 1.01 * W).ok


@given(st.integers(0, 2**32 - 1), st.floats(-3, 3), st.floats(-3, 3), st.sampled_from([0.0, 1e-3, 1e-1, 1.0]))
def test_right_is_right_and_wrong_wrong_at_every_scale(seed, f_size, p_size, off):
    """Convex parabolas of all heights and widths: a minimum is one, what is off by a thousandth is not."""
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((4, 4))
    A = 10**f_size * (A @ A.T + np.eye(4))
    lowest = 10**p_size * rng.uniform(0.5, 2, 4) * rng.choice([-1, 1], 4)
    given_ = lowest * (1 + off * np.eye(4)[rng.integers(4)])
    report = check_minimum(lambda p: 0.5 * (p - lowest) @ A @ (p - lowest) + 1, given_)
    assert report.verdict in (("WRONG",) if off else ("ok", "?"))


@pytest.mark.parametrize("given, outcome, words", [
    (None, "not attempted", "None came back"),
    (..., "not attempted", "it is still the … of the exercise"),
    ({"mean": None, "log_psi": None}, "not attempted", "None came back"),
    ({"mean": None, "log_psi": LOG_VAR}, "not yet", "None came back"),
    ({"mean": MEAN.astype("float32"), "log_psi": LOG_VAR}, "not yet", "it is float32"),
    ({"mean": MEAN.tolist(), "log_psi": LOG_VAR}, "not yet", "a list came back"),
    ({"mean": MEAN[:1], "log_psi": LOG_VAR}, "not yet", "it has shape (1,) where (3,) is asked for"),
    ({"mean": MEAN[:, None], "log_psi": LOG_VAR}, "not yet", "axis 1 of length 1 is too many"),
    ({"mean": MEAN * [1, np.nan, 1], "log_psi": LOG_VAR}, "not yet", "it is not finite in entries 1 of 0–2"),
    ({"mean": MEAN}, "not yet", "it is not there; what came back has mean"),
    ((MEAN, LOG_VAR), "not yet", "a tuple came back, where a dict with the names mean, log_psi is asked"),
])
def test_what_is_no_array_is_told(given, outcome, words):
    report = check_minimum(nlml, given, like=MIN)
    assert report.verdict == "WRONG" and report.outcome == outcome and words in str(report)


def test_without_a_structure_to_compare_with():
    assert "a list of numbers came back" in str(check_minimum(lambda p: 0.0, [0.0, 1.0]))
    assert "None came back" in str(check_minimum(lambda p: 0.0, {"a": None}))
    assert check_minimum(lambda p: (p - 1) ** 2, 1.0).ok
    beyond = check_minimum(nlml, MIN | {"W": np.ones(2)}, like=MIN)
    assert not beyond.ok and "W came back, and nobody asked for it" in beyond.notes[0]


def test_what_proves_nothing_is_not_called_a_minimum():
    assert check_minimum(lambda p: 1.0, np.ones(2)).verdict == "?"
    hidden = check_minimum(lambda p: 1e9 + np.sum(np.square(p - 1)), np.ones(2))
    assert hidden.verdict == "?" and "rounding" in hidden.rows[0].diagnosis
    edge = check_minimum(lambda p: np.sqrt(p[0]), np.zeros(1))
    assert not edge.ok and "f is not finite a small step beside" in edge.rows[0].diagnosis


def test_the_callers_arrays_are_never_written_and_f_is_asked_for_one_number():
    mine = {name: leaf.copy() for name, leaf in MIN.items()}
    for leaf in mine.values():
        leaf.flags.writeable = False
    assert check_minimum(nlml, mine).ok
    with pytest.raises(ValueError, match="f must return one number"):
        check_minimum(lambda p: p, np.ones(2))
    with pytest.raises(TypeError, match="f returned float32"):
        check_minimum(lambda p: np.float32(np.sum(p)), np.ones(2))


def test_em_of_factor_analysis_ends_where_no_step_is_left(rng):
    x = rng.standard_normal((200, 1)) @ rng.uniform(0.5, 1.5, (1, 4)) + rng.standard_normal((200, 4))
    x = x - x.mean(axis=0)
    fitted = FactorAnalysis(1, tol=1e-10, max_iter=2000).fit(x)
    point = {"W": fitted.components_.copy(), "log_psi": np.log(fitted.noise_variance_)}
    covariance = x.T @ x / len(x)

    def f(p):
        model = p["W"].T @ p["W"] + np.diag(np.exp(p["log_psi"]))
        return 0.5 * (np.linalg.slogdet(model)[1] + np.trace(np.linalg.solve(model, covariance)))

    assert check_minimum(f, point, tolerance=1e-4).ok
    assert not check_minimum(f, point | {"log_psi": point["log_psi"] + 0.001}, tolerance=1e-4).ok
