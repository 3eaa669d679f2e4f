"""Values that are no gradients, as students return them: each wrong one is called by its name."""

import math

import numpy as np
import pytest

from teachvae.gradcheck import check_value

RNG = np.random.default_rng(5)
R = RNG.standard_normal((5, 3))                                    # of both signs
V = RNG.uniform(0.2, 3.0, (5, 3))                                  # positive, as a variance
Q = RNG.standard_normal((3, 3))
C = 0.5 * math.log(2 * math.pi)

WRONG = {  # what is given, what is asked, what the diagnosis says
    "the constant of a density": (R - 4 * C, R, "4 · ½ log 2π, D = 4: the constant of a Gaussian density"),
    "the constant, sign turned": (R + 4 * C, R, "it is off by +3.67575"),
    "the constant of one number": (R[0, 0] - C, R[0, 0], "a Gaussian density of 1 variable is missing"),
    "the −1 of s² − 1": (R + 1, R, "such as the −1 of s² − 1"),
    "log S": (R + math.log(7), R, "it is log S = log 7: under the log, sum and mean"),
    "any constant": (R + 0.123, R, "it is off by +0.123 at every index; look for an additive constant"),
    "twice": (2 * R, R, "it is 2 times what is asked at every index; a ½ is forgotten"),
    "half": (R / 2, R, "a 2 is forgotten"),
    "a mean over N": (R / 5, R, "1/(N = 5): a mean stands where a sum belongs"),
    "a sum over S": (7 * R, R, "the factor is S = 7: a sum stands where a mean belongs"),
    "bits": (R / math.log(2), R, "bits stand where nats belong"),
    "nats": (R * math.log(2), R, "nats stand where bits belong"),
    "any factor": (0.37 * R, R, "it is 0.37 times what is asked at every index; look at"),
    "the sign": (-R, R, "it has its sign turned at every index"),
    "the sign of one column": (R * [1, -1, 1], R, "it has its sign turned in columns 1 of 0–2"),
    "transposed": (Q.T, Q, "it is transposed, axes 0 and 1 exchanged"),
    "transposed, not square": (R.T, R, "it has shape (3, 5) where (5, 3) is asked for; it is transposed"),
    "backwards": (R[:, ::-1], R, "it runs backwards along axis 1"),
    "shifted": (np.roll(R, 1, 0), R, "it is shifted by 1 along axis 0"),
    "sorted": (np.sort(R, axis=None).reshape(5, 3), R, "the right numbers stand at the wrong places"),
    "the mean at every index": (R.mean(0) + 0 * R, R, "it has its mean over axis 0 at every index of it"),
    "its log": (np.log(V), V, "it is its log at every index"),
    "minus its log": (-np.log(V), V, "it is minus its log at every index"),
    "its exp": (np.exp(R), R, "it is its exp at every index"),
    "log₂": (np.log2(V), V, "it is its log in base 2"),
    "a variance": (V**2, V, "it is its square, as a variance for a standard deviation,"),
    "a standard deviation": (np.sqrt(V), V, "it is its root, as a standard deviation for a variance,"),
    "a precision": (1 / V, V, "it is 1 over it"),
    "the size": (np.abs(R), R, "its sign is lost at 7 of 15 indices"),
    "normalised": (V / V.sum(), V, "they are divided by their sum"),
    "cut off": (np.trunc(V), V, "cut off to whole numbers"),
    "zeros": (0 * R, R, "it is zero at every index"),
    "NaN": (np.where(R > 1, np.nan, R), R, "it is NaN at"),
    "overflow": (np.where(R > 1, np.inf, R), R, "it is not finite at"),
    "one column": (R + [0, 1, 0] * R**2, R, "it is wrong in columns 1 of 0–2, and right elsewhere"),
    "something else": (R**3 + 1, R, "in no pattern known here"),
    "summed over an axis": (
        R.sum(1), R,
        "axis 1 of length 3 is gone; look for a sum or a mean over it; its numbers are the sum over axis 1",
    ),
    "(5, 1) for (5, 3)": (
        R.mean(1, keepdims=True), R,
        "it has one number along axis 1, where each index has its own; it was summed over there, or would be "
        "broadcast; look at axis= and keepdims=; its numbers are the mean over axis 1",
    ),
    "one number": (
        R.sum(), R,
        "look for a sum or a mean over all that is there; its numbers are the sum over axes (0, 1)",
    ),
    "not summed": (
        R, R.sum(0),
        "axis 0 of length N = 5 is still there; look for a forgotten sum or mean; what is asked is its sum",
    ),
    "reshaped": (R.reshape(15), R, "the numbers of its entries agree; look for a reshape"),
    "None": (None, R, "None came back"),
    "…": (..., R, "it is still the … of the exercise"),
    "a list": (R.tolist(), R, "a list came back, where an array of shape (5, 3) is asked for"),
    "float32": (R.astype("float32"), R, "it is float32; single precision came in on the way"),
    "whole numbers": (np.round(R).astype(int), R, "whole numbers have lost what stood behind the point"),
    "float for whole": (np.array([1.0, 2.0]), np.array([1, 2]), "an array of whole numbers is asked for"),
    "objects": (np.array([1.0, None]), np.ones(2), "it is an array of Python objects"),
    "a function": (np.sum, R, "a function came back"),
    "text": ("0.5", R, "a text came back, where a NumPy array"),
    "bool for a number": (True, 1.0, "it is bool, where float64 is asked for"),
}


@pytest.mark.parametrize("given, asked, words", WRONG.values(), ids=WRONG)
def test_a_wrong_value_is_called_by_its_name(given, asked, words):
    report = check_value(given, asked, counts={"S": 7, "N": 5, "D": 4})
    row, = report.rows
    assert report.verdict == "WRONG" and words in row.diagnosis, row.diagnosis
    assert report.outcome == ("not attempted" if given is None or given is ... else "not yet")
    assert row.error > 1e-3 and row.path == "value"


@pytest.mark.parametrize("given, asked", [
    (R.copy(), R), (np.asfortranarray(R), R), (R + 1e-13, R), (float(R[0, 0]), R[0, 0]), (3, 3.0),
    (np.float64(2.5), 2.5), (np.array(2.5), 2.5), (np.array([1, 2], "int32"), np.array([1, 2])),
    (np.array([1, 2], "uint8"), np.array([1, 2])), (np.array([True]), np.array([True])),
    (np.zeros(3), np.zeros(3)), (np.array([np.nan, 1.0]), np.array([np.nan, 1.0])),
    (np.array([-np.inf, 1.0]), np.array([-np.inf, 1.0])), (R[::-1][::-1], R),
    ((R, {"b": V}), [R, {"b": V}]), ({"b": V, "a": R}, {"a": R, "b": V}),
    (np.einsum("nk->k", R), R.sum(0)), (sum(R), R.sum(0)), (math.fsum(V.ravel()), V.sum()),
    (np.log(V).sum(), np.log(np.prod(V))), (np.exp(np.log(V)), V),
])
def test_a_right_value_is_right(given, asked):
    report = check_value(given, asked)
    assert report.ok and report.outcome == "right", str(report)
    assert all(row.diagnosis == "" for row in report.rows) and report.notes == []


def test_the_report_is_a_table_of_both_numbers():
    report = check_value((R, 2 * V), (R, V), names=["m", "s"])
    lines = str(report).splitlines()
    assert lines[0].split() == ["leaf", "shape", "worst", "error", "at", "yours", "asked"]
    assert [line.split()[0] for line in lines[1:3]] == ["m", "s"]
    assert lines[3].startswith("s: it is 2 times what is asked at every index")
    assert "–" in str(check_value(None, R)), "no numbers were compared"
    np.testing.assert_allclose(report.rows[1].analytic, 2 * report.rows[1].numeric)


def test_another_structure_is_told_leaf_by_leaf():
    report = check_value((R,), (R, V))
    assert [row.verdict for row in report.rows] == ["WRONG", "WRONG"]
    assert "a tuple of length 1 came back, where 2 arrays in their order" in report.rows[0].diagnosis
    report = check_value({"a": R}, {"a": R, "b": V})
    assert report.rows[0].ok and "it is not there; what came back has a" in report.rows[1].diagnosis
    report = check_value({"a": R, "c": V}, {"a": R})
    assert report.rows[0].ok and not report.ok and "c came back, and nobody asked for it" in report.notes[0]
    report = check_value([R, V], {"a": R, "b": V})
    assert "a list came back, where a dict with the names a, b is asked for" in report.rows[0].diagnosis
    assert check_value({"a": R, "b": None}, {"a": R, "b": V}).outcome == "not yet"
    assert check_value({"a": None, "b": ...}, {"a": R, "b": V}).outcome == "not attempted"


def test_the_error_is_relative_to_what_is_asked():
    asked = np.array([1.0, 100.0, 1e-9])
    report = check_value(asked + [0, 0, 0.5], asked)
    np.testing.assert_allclose(report.worst.error, 0.5 / 1.0)      # a hundredth of the largest is the floor
    assert check_value(asked * (1 + 9e-10), asked).ok and not check_value(asked * (1 + 2e-9), asked).ok
    assert check_value(asked * (1 + 2e-9), asked, tolerance=1e-6).ok
    assert check_value(1e-10 * np.ones(2), np.zeros(2)).ok and not check_value(1e-3, 0.0).ok


def test_a_reference_that_tells_nothing():
    report = check_value(np.full(3, np.nan), np.full(3, np.nan))
    assert report.verdict == "?" and report.outcome == "not yet"
    assert "proves nothing" in report.rows[0].diagnosis
    with pytest.raises(TypeError, match="the reference must be numbers; leaf 'value' is <U4"):
        check_value("text", "text")
    with pytest.raises(ValueError, match=r"has shape \(0, 3\)"):
        check_value(R, np.zeros((0, 3)))
    with pytest.raises(ValueError, match="holds no number"):
        check_value(R, {})
