"""Equations of derivations/14-gradient-checks.md that no other test had: each by a second road."""

import numpy as np
import pytest

from teachvae.gradcheck import check
from teachvae.gradcheck.differences import Probe
from teachvae.gradcheck.part import cotangent, weighted

FUNCTIONS = {                                                      # f, f′, and |f‴| on the real line, at p
    "sine": (np.sin, np.cos, lambda p: 1.0),
    "exp": (np.exp, np.exp, lambda p: np.exp(p + 1)),              # steps are shorter than 1
    "cube": (lambda p: p**3, lambda p: 3 * p**2, lambda p: 6.0),
}


def central(f, p, h, dtype="float64"):
    """(8.1) as the checker computes it, all of it in this dtype; |p| ≤ 1, so that h is the step."""
    flat = np.array([p], dtype=dtype)

    def number(v):
        return float(f(v)[0])

    return 0.5 * sum(Probe(number, flat, flat, number(flat), h, 0.0).slopes(0))


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_11_1_the_error_is_below_truncation_and_rounding(name, dtype):
    """At hundreds of points and steps, the rounding of a value taken for its last digit."""
    f, slope, third = FUNCTIONS[name]
    rng, eps = np.random.default_rng(111), np.finfo(dtype).eps
    reached = 0.0
    for _ in range(300):
        p = float(np.array(rng.uniform(-1, 1), dtype=dtype))
        h = 10 ** rng.uniform(-6 if dtype == "float64" else -3, -0.01)
        error = abs(central(f, p, h, dtype) - slope(p))
        rho = eps * max(abs(f(p + h)), abs(f(p - h)), abs(f(p)))
        bound = h**2 / 6 * third(p) + rho / h
        assert error <= bound * 1.01 + 10 * eps * abs(slope(p))    # the sum of two slopes is rounded, too
        reached = max(reached, error / bound)
    assert reached > 0.3, "a bound that nothing comes near says little"


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_11_2_the_best_step_in_both_precisions(dtype):
    """The worst error over many points is lowest near h*, and 30 times the step is worse, as is a 30th."""
    eps = float(np.finfo(dtype).eps)
    points = np.array(np.linspace(0.6, 1.0, 200), dtype=dtype)

    def worst(h):
        return max(abs(central(np.sin, p, h, dtype) - np.cos(float(p))) for p in points)

    rho, third = eps, 1.0                                          # of sin and its third derivative, about
    h = (3 * rho / third) ** (1 / 3)
    assert worst(h) <= 1.5 * rho / h
    assert 1.5 * rho / h == pytest.approx(0.5 * (9 * rho**2 * third) ** (1 / 3), rel=1e-12)
    assert worst(30 * h) > 30 * worst(h) and worst(h / 30) > 3 * worst(h)
    searched = min(10.0 ** np.arange(-8, 0, 0.25), key=worst)
    assert h / 10 < searched < 10 * h


def softmax(p):
    y = np.exp(p - p.max())
    return y / y.sum(), None


def test_11_3_ones_pass_what_a_random_cotangent_finds():
    """Exercise 14.3's backward, and one that forgets the y of softmax's own."""
    p = np.array([0.3, -0.4, 0.9])
    y, _ = softmax(p)

    def right(c):
        return y * (c - y @ c)

    def wrong(c):
        return y * (c - c.mean())

    ones = np.ones(3)
    np.testing.assert_allclose(wrong(ones), right(ones), atol=1e-15)
    assert check(weighted(ones, softmax, y), p, wrong(ones)).verdict == "?", "0 against 0"
    for seed in range(20):
        c = cotangent(np.random.default_rng(seed), 3)
        assert (np.abs(c) >= 0.5).all() and (np.abs(c) <= 1.5).all()
        assert check(weighted(c, softmax, y), p, right(c)).ok
        assert check(weighted(c, softmax, y), p, wrong(c)).verdict == "WRONG"
    assert weighted(ones, softmax, y)(p) == 0.0                    # y is taken off


@pytest.mark.parametrize("jump, distance", [(1.0, 0.003), (-2.0, 0.0005), (0.3, 0.0)])
def test_11_4_the_gap_of_a_bend_and_of_a_kink(jump, distance):
    p = np.array([0.4])
    for h in (0.1, 0.01, 0.001):
        left, right = Probe(lambda v: float(np.exp(v[0])), p, p, float(np.exp(0.4)), h, 0.0).slopes(0)
        assert right - left == pytest.approx(h * np.exp(0.4), abs=0.2 * h**3 + 1e-12)

        def bent(v):
            return float(v[0] + jump * max(v[0] - 0.4 + distance, 0.0))

        left, right = Probe(bent, p, p, bent(p), h, 0.0).slopes(0)
        assert right - left == pytest.approx(jump * max(0.0, 1 - distance / h), abs=1e-10)
