"""Jensen's inequality: each side by a second road, and the faults that the functions must refuse.

The second roads are fractions, closed forms (the moment generating function of the normal, Euler's
constant, the KL of two normals), SciPy's logsumexp and rel_entr, and the package's own bound.
"""

from fractions import Fraction
import math

from hypothesis import assume, given, settings, strategies as st
import numpy as np
import pytest
from scipy import special, stats

from teachvae import linear_gaussian
from teachvae.course.jensen import (
    Jensen, jensen_continuous, jensen_discrete, nlml_as_jensen_continuous, nlml_as_jensen_discrete
)
from teachvae.posteriors import DiagonalGaussian

INFINITE = (-math.inf, math.inf)


def minus_log(u):
    return -np.log(u)


def normal(mean, sd):
    """The density of N(mean, sd²) and its logarithm, functions of a number."""
    def log_density(x):
        return -0.5 * ((x - mean) / sd) ** 2 - math.log(sd) - 0.5 * math.log(2 * math.pi)

    return lambda x: math.exp(log_density(x)), log_density


def close(a, b, tolerance):
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


# ---- the discrete case -----------------------------------------------------------------------------

CONVEX = {
    "-log": (minus_log, 1e-3),
    "u log u": (lambda u: u * np.log(u), 1e-3),
    "1/u": (lambda u: 1 / u, 1e-3),
    "exp": (np.exp, -20.0),
    "square": (np.square, -20.0),
    "size": (lambda u: abs(u - 1), -20.0),
    "hinge": (lambda u: max(u - 1, 0.0), -20.0),
    "line": (lambda u: 3 * u - 2, -20.0),
}
counts = st.lists(st.integers(0, 6), min_size=1, max_size=8).filter(any)


@st.composite
def discrete(draw, low):
    """g (K,) with no entry below `low`, and a pmf (K,) of which some entries are 0."""
    n = np.array(draw(counts))
    g = [draw(st.floats(low, 20)) for _ in n]
    return np.array(g), n / n.sum()


@pytest.mark.parametrize("name", CONVEX)
@given(data=st.data())
@settings(max_examples=40)
def test_discrete_both_sides_and_their_order(name, data):
    f, low = CONVEX[name]
    g, pmf = data.draw(discrete(low))
    j = jensen_discrete(f, g, pmf)
    on = pmf > 0
    rhs = np.dot(pmf[on], [float(f(u)) for u in g[on]])
    close(j.lhs, f(np.float64(pmf @ g)), 1e-9 * (1 + abs(j.lhs)))
    close(j.rhs, rhs, 1e-9 * (1 + abs(rhs)))
    assert j.gap == j.rhs - j.lhs >= -j.error
    assert 0 <= j.error < 1e-9 * (1 + max(abs(f(u)) for u in g[on]))


@given(st.lists(st.tuples(st.integers(-50, 50), st.integers(0, 8)), min_size=1, max_size=7))
def test_discrete_square_in_fractions(pairs):
    """f(u) = u²: both sides are fractions, and the gap is the variance of g."""
    total = sum(n for _, n in pairs)
    assume(total > 0)
    mean = sum(Fraction(g * n, total) for g, n in pairs)
    square = sum(Fraction(g * g * n, total) for g, n in pairs)
    g, n = np.array(pairs, dtype=float).T
    j = jensen_discrete(np.square, g, n / total)
    for got, exact in zip(j[:3], (mean**2, square, square - mean**2)):
        close(got, float(exact), 1e-11)
    assert abs(Fraction(j.gap) - (square - mean**2)) <= Fraction(j.error)


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=8))
def test_discrete_minus_log_is_the_inequality_of_the_means(g):
    j = jensen_discrete(minus_log, g, np.full(len(g), 1 / len(g)))
    close(j.gap, math.log(np.mean(g)) - math.log(stats.gmean(g)), 1e-12)


@given(st.data(), st.floats(-5, 5), st.floats(-5, 5))
def test_discrete_equality_for_lines_and_for_constants(data, a, b):
    g, pmf = data.draw(discrete(-20.0))
    line = jensen_discrete(lambda u: a * u + b, g, pmf)
    assert abs(line.gap) <= line.error <= 1e-10
    constant = jensen_discrete(minus_log, np.full(len(g), abs(a) + 0.1), pmf)
    assert abs(constant.gap) <= constant.error <= 1e-11
    assert constant.lhs == minus_log(abs(a) + 0.1), "the mean of equal values is that value, to the last bit"
    one_place = jensen_discrete(np.exp, [a, b], [0, 1])
    assert one_place.gap == 0 and one_place.lhs == np.exp(b)


@given(st.floats(-1e3, 1e3), st.lists(st.floats(0, 1e-5), min_size=1, max_size=6))
def test_rounding_is_not_taken_for_a_fault_of_f(corner, steps):
    """On one side of its corner |u − c| is a line: both sides agree, and only rounding tells them apart."""
    g = corner + np.array(steps)
    for f in (lambda u: abs(u - corner), lambda u: 1e6 * abs(u - corner)):
        j = jensen_discrete(f, g, np.full(len(g), 1 / len(g)))
        assert abs(j.gap) <= j.error


def test_where_the_probability_is_0_f_is_not_asked():
    def f(u):
        assert u != 7, "q = 0 there"
        return -np.log(u)

    with_zeros = jensen_discrete(f, [1.0, 7.0, 2.0, math.inf, math.nan], [0.25, 0, 0.75, 0, 0])
    assert with_zeros == jensen_discrete(f, [1.0, 2.0], [0.25, 0.75])
    close(with_zeros.lhs, -math.log(1.75), 1e-15)
    close(with_zeros.rhs, -0.75 * math.log(2), 1e-15)


def test_infinite_values_where_the_probability_is_not_0():
    assert jensen_discrete(minus_log, [0.0, 2.0], [0.5, 0.5])[:3] == (0.0, math.inf, math.inf)
    assert jensen_discrete(minus_log, [0.0, 0.0], [0.5, 0.5])[:3] == (math.inf, math.inf, 0.0)


NO_PMF = [
    ([0.5, 0.4], r"must sum to 1, got a sum of 0\.9: give pmf / pmf\.sum\(\)"),
    ([0.5, 0.5 + 2e-6], r"must sum to 1, got a sum of 1\.000002"),
    ([1.5, -0.5], r"finite entries >= 0, got -0\.5 at place 1"),
    ([0.5, math.nan], r"finite entries >= 0, got nan at place 1"),
    ([math.inf, 0.5], r"finite entries >= 0, got inf at place 0"),
    ([[0.5, 0.5]], r"shape \(K,\), got shape \(1, 2\)"),
    (1.0, r"shape \(K,\), got shape \(\)"),
    ([], r"shape \(K,\), got shape \(0,\)"),
]


@pytest.mark.parametrize("pmf, message", NO_PMF)
def test_no_pmf(pmf, message):
    with pytest.raises(ValueError, match=message):
        jensen_discrete(np.exp, [1.0, 2.0], pmf)
    with pytest.raises(ValueError, match=message):
        nlml_as_jensen_discrete([-1.0, -2.0], pmf)


def test_a_pmf_in_single_precision_is_one():
    pmf = np.full(3, 1 / 3, dtype="float32")
    assert abs(float(pmf.sum(dtype="float64")) - 1) > 1e-9
    j = jensen_discrete(lambda u: 2 * u + 1e3, [1.0, 2.0, 3.0], pmf)
    assert abs(j.gap) <= j.error, "it is scaled to the sum 1"


def test_a_density_with_an_integral_near_1_is_scaled():
    almost = 1 + 5e-9
    j = jensen_continuous(lambda u: 2 * u + 1e3, lambda x: x, lambda x: almost, (0, 1))
    assert abs(j.gap) <= j.error < 1e-8
    j = nlml_as_jensen_continuous(lambda z: -1e3, lambda z: math.log(almost), (0, 1))
    close(j[:3], (1e3, 1e3, 0), 1e-11)


def test_wrong_g_and_f():
    with pytest.raises(ValueError, match=r"g must have shape \(2,\), that of pmf, got shape \(3,\)"):
        jensen_discrete(np.exp, [1, 2, 3], [0.5, 0.5])
    with pytest.raises(ValueError, match=r"g must be finite numbers where pmf is not 0, got \[ 1\. inf\]"):
        jensen_discrete(np.exp, [1, math.inf], [0.5, 0.5])
    with pytest.raises(ValueError, match=r"got f\(-1\) = nan"):
        jensen_discrete(lambda u: math.nan if u < 0 else u, [-1, 1], [0.5, 0.5])


CONCAVE = {
    "log": (np.log, [1.0, 2.0]),
    "root": (np.sqrt, [0.0, 1.0]),
    "minus square": (lambda u: -u * u, [-1.0, 1.0]),
    "cube, left of 0": (lambda u: u**3, [-2.0, -1.0]),
    "sine": (np.sin, [0.1, 3.0]),
    "minus size": (lambda u: -abs(u), [-1e-6, 1e-6]),
}


@pytest.mark.parametrize("name", CONCAVE)
def test_f_that_is_not_convex_there(name):
    f, g = CONCAVE[name]
    with pytest.raises(ValueError, match=rf"not convex on the values of g, which reach from {g[0]:g} to"):
        jensen_discrete(f, g, [0.5, 0.5])
    with pytest.raises(ValueError, match=r"f\(E\[g\]\) = .* is more than E\[f\(g\)\] = .* give −f"):
        jensen_continuous(f, lambda x: g[0] + x * (g[1] - g[0]), lambda x: 1.0, (0, 0.5, 1))


# ---- the continuous case ---------------------------------------------------------------------------


@given(st.floats(-3, 3), st.floats(0.2, 1.5))
@settings(max_examples=15)
def test_continuous_moment_generating_function(mean, sd):
    j = jensen_continuous(np.exp, lambda x: x, normal(mean, sd)[0], (-math.inf, mean, math.inf))
    lhs, rhs = math.exp(mean), math.exp(mean + sd**2 / 2)
    close(j[:3], (lhs, rhs, rhs - lhs), 1e-9 * rhs)
    assert abs(j.gap - (rhs - lhs)) <= j.error + 1e-13 * rhs and j.error < 1e-7 * rhs


CLOSED_FORMS = {
    "minus log of an exponential variable": (
        minus_log, lambda x: x, lambda x: math.exp(-x), (0, 1, math.inf), 0.0, np.euler_gamma
    ),
    "square of a uniform one": (np.square, lambda x: x, lambda x: 0.5, (1, 3), 4.0, 4 + 1 / 3),
    "size of a normal one": (
        abs, lambda x: x, normal(0, 2)[0], (-math.inf, 0, math.inf), 0.0, 2 * math.sqrt(2 / math.pi)
    ),
    "a line": (lambda u: 2 * u - 1, lambda x: x**3, normal(1, 1)[0], INFINITE, 7.0, 7.0),
    "g a constant": (np.exp, lambda x: 2.0, normal(0, 1)[0], INFINITE, math.exp(2), math.exp(2)),
    "a density with two parts": (
        np.square, lambda x: x, lambda x: 0.5 * (0 <= x <= 1 or 3 <= x <= 4), (0, 1, 3, 4), 4.0, 19 / 3
    ),
}


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_continuous_closed_forms(name):
    f, g, density, interval, lhs, rhs = CLOSED_FORMS[name]
    j = jensen_continuous(f, g, density, interval)
    close(j[:3], (lhs, rhs, rhs - lhs), 1e-9)
    assert abs(j.gap - (rhs - lhs)) <= j.error + 1e-13 and j.error < 1e-7


def test_where_the_density_is_0_nobody_is_asked():
    def g(x):
        assert 0 < x < 1
        return x

    j = jensen_continuous(minus_log, g, lambda x: float(0 < x < 1), (-1, 0, 1, 2))
    close(j[:2], (math.log(2), 1.0), 1e-9)


def test_no_density():
    half = lambda x: 0.5 * normal(0, 1)[0](x)  # noqa: E731
    with pytest.raises(ValueError, match=r"must integrate to 1, got 0\.5 over \(-inf, inf\)"):
        jensen_continuous(np.exp, lambda x: x, half)
    with pytest.raises(ValueError, match=r"must integrate to 1, got 1\.00000002 over \(0, 1\)"):
        jensen_continuous(np.exp, lambda x: x, lambda x: 1 + 2e-8, (0, 1))
    with pytest.raises(ValueError, match=r"a density must be >= 0, got -"):
        jensen_continuous(np.exp, lambda x: x, lambda x: 1.5 - x, (0, 2))
    with pytest.raises(ValueError, match=r"a density must be >= 0, got nan at x ="):
        jensen_continuous(np.exp, lambda x: x, lambda x: math.nan, (0, 2))
    with pytest.raises(ValueError, match=r"the integral ∫ q did not converge"):
        jensen_continuous(np.exp, lambda x: x, lambda x: 1 / x, (0, 1))


def test_a_narrow_density_is_missed_and_found_by_points():
    narrow = normal(7.3, 1e-4)[0]
    with pytest.raises(ValueError, match=r"got 0 over .* give an interval with points around where it lives"):
        jensen_continuous(np.exp, lambda x: x, narrow)
    j = jensen_continuous(np.exp, lambda x: x, narrow, (-math.inf, 7.299, 7.3, 7.301, math.inf))
    close(j.rhs, math.exp(7.3 + 0.5e-8), 1e-6)
    assert abs(j.gap - math.exp(7.3) * math.expm1(0.5e-8)) <= j.error < 1e-6


@pytest.mark.parametrize("interval", [(1,), (1, 1), (1, 0), (0, math.nan)])
def test_wrong_interval(interval):
    with pytest.raises(ValueError, match="interval must be two or more numbers in rising order, got"):
        jensen_continuous(np.exp, lambda x: x, lambda x: 1.0, interval)


def test_an_expectation_that_is_infinite():
    with pytest.raises(ValueError, match=r"∫ q\(x\) f\(g\(x\)\) dx did not converge"):
        jensen_continuous(np.square, lambda x: x**-0.6, lambda x: 1.0, (0, 1))
    with pytest.raises(ValueError, match=r"∫ q\(x\) g\(x\) dx did not converge"):
        jensen_continuous(np.square, lambda x: x, stats.cauchy.pdf, (-math.inf, 0, math.inf))


# ---- nlml ≤ Q --------------------------------------------------------------------------------------

log_joints = st.lists(st.floats(-30, 3), min_size=1, max_size=8)


@given(log_joints, st.data())
def test_discrete_nlml_Q_and_their_gap_the_kl(log_joint, data):
    K = len(log_joint)
    log_joint = np.array(log_joint)
    n = np.array(data.draw(st.lists(st.integers(0, 9), min_size=K, max_size=K).filter(any)))
    pmf = n / n.sum()
    j = nlml_as_jensen_discrete(log_joint, pmf)
    close(j.lhs, -special.logsumexp(log_joint), 1e-12)
    close(j.rhs, special.xlogy(pmf, pmf).sum() - pmf @ log_joint, 1e-12)
    close(j.gap, special.rel_entr(pmf, special.softmax(log_joint)).sum(), 1e-12)
    assert j.gap >= -j.error
    best = nlml_as_jensen_discrete(log_joint, special.softmax(log_joint))
    assert abs(best.gap) <= 1e-13 and best.lhs == j.lhs
    if pmf.all():
        plain = jensen_discrete(minus_log, np.exp(log_joint) / pmf, pmf)
        close(plain[:3], j[:3], 1e-11)


def test_a_pmf_with_all_in_one_place():
    """Jensen's inequality has nothing to lose on one point: the gap is all in the places left out."""
    log_joint = np.log([0.1, 0.3, 0.2])
    j = nlml_as_jensen_discrete(log_joint, [0, 1, 0])
    close(j[:3], (-math.log(0.6), -math.log(0.3), math.log(2)), 1e-15)
    assert jensen_discrete(minus_log, np.exp(log_joint), [0, 1, 0]).gap == 0


def test_discrete_nlml_in_log_space():
    j = nlml_as_jensen_discrete([-1000.0, -1001.0, -math.inf], [0.5, 0.5, 0.0])
    close(j.lhs, 1000 - math.log1p(math.exp(-1)), 1e-12)
    close(j.rhs, 1000.5 + math.log(0.5), 1e-12)
    j = nlml_as_jensen_discrete([-1.0, -math.inf], [0.5, 0.5])
    assert j[:3] == (1.0, math.inf, math.inf)


def test_wrong_log_joint():
    for wrong in ([0.0, math.nan], [0.0, math.inf], [-math.inf, -math.inf]):
        with pytest.raises(ValueError, match="log_joint must be numbers or −inf, and not all −inf, got"):
            nlml_as_jensen_discrete(wrong, [0.5, 0.5])
    with pytest.raises(ValueError, match=r"log_joint must have shape \(2,\), that of pmf, got shape \(1,\)"):
        nlml_as_jensen_discrete([0.0], [0.5, 0.5])


reals = st.floats(-2, 2)


@given(reals, reals, reals, st.floats(0.3, 2), reals, st.floats(0.2, 1.5))
@settings(max_examples=15)
def test_continuous_nlml_Q_and_kl_of_a_linear_gaussian_model(w, b, x, sd, m, s):
    """One latent and one visible variable: x = w z + b + noise; all three numbers are closed forms."""
    prior, likelihood = normal(0, 1)[1], lambda z: normal(w * z + b, sd)[1](x)
    interval = (-math.inf, m, math.inf)
    j = nlml_as_jensen_continuous(lambda z: prior(z) + likelihood(z), normal(m, s)[1], interval)
    close(j.lhs, -stats.norm(b, math.hypot(w, sd)).logpdf(x), 1e-8)
    precision = 1 + (w / sd) ** 2
    r = m - w * (x - b) / sd**2 / precision
    kl = 0.5 * (precision * (s * s + r * r) - 1 - math.log(precision * s * s))
    close(j.gap, kl, 1e-8)
    phi = np.array([[m, math.log(s)]])
    Q = linear_gaussian.bound(
        np.array([[w]]), np.array([b]), np.array([sd**2]), phi, DiagonalGaussian(1), np.array([[x]])
    )
    close(j.rhs, Q[0], 1e-8)
    assert j.gap >= -j.error and j.error < 1e-6


def test_continuous_gap_is_0_at_the_posterior_whatever_the_size_of_p():
    prior = normal(0, 1)[1]
    for shift in (0.0, -5000.0, 600.0):
        def log_joint(z, shift=shift):
            return prior(z) + normal(z, 0.5)[1](1.5) + shift

        j = nlml_as_jensen_continuous(log_joint, normal(1.2, math.sqrt(0.2))[1])
        close(j.gap, 0, 1e-10)
        close(j.lhs, -stats.norm(0, math.sqrt(1.25)).logpdf(1.5) - shift, 1e-8)


def test_continuous_agrees_with_jensen_on_a_model_that_is_not_gaussian():
    """x = 1 with probability σ(2z − 1): the two sides from g = p/q itself."""
    prior, (q, log_q) = normal(0, 1), normal(0.5, 0.8)
    chance = lambda z: float(special.expit(2 * z - 1))  # noqa: E731
    interval = (-25, 0, 25)                                        # p/q overflows far out, where q is 0
    a = jensen_continuous(minus_log, lambda z: prior[0](z) * chance(z) / q(z), q, interval)
    b = nlml_as_jensen_continuous(lambda z: prior[1](z) + math.log(chance(z)), log_q, interval)
    close(a[:3], b[:3], 1e-9)
    z = np.linspace(-12, 12, 4001)
    close(b.lhs, -math.log(np.sum(stats.norm.pdf(z) * special.expit(2 * z - 1)) * (z[1] - z[0])), 1e-10)


def test_a_narrow_q_far_below_what_p_reaches():
    """Where q is 0 in floating point p is not: an integral of q · p/q would lose that part."""
    sd = 0.04
    interval = (-math.inf, -1, -0.2, 0, 0.2, 1, math.inf)
    j = nlml_as_jensen_continuous(normal(0, 1)[1], normal(0, sd)[1], interval)
    close(j[:3], (0, 0.5 * (sd**2 - 1) - math.log(sd), 0.5 * (sd**2 - 1) - math.log(sd)), 1e-9)


def test_gaps_that_no_number_holds():
    narrow = normal(0, 1e-3)[1]
    with pytest.raises(ValueError, match="the gap is more than exp can hold: Q = .* nearer to the posterior"):
        nlml_as_jensen_continuous(narrow, normal(0, 1)[1], (-math.inf, -0.01, 0, 0.01, math.inf))
    with pytest.raises(ValueError, match="did not converge"):
        nlml_as_jensen_continuous(lambda z: 0.0 if 0 < z < 1 else -math.inf, normal(0, 1)[1])
    with pytest.raises(ValueError, match="must integrate to 1, got 2 over"):
        nlml_as_jensen_continuous(lambda z: 0.0, lambda z: math.log(2), (0, 1))


def test_what_comes_back():
    sums = jensen_discrete(np.exp, [0, 1], [0.5, 0.5])
    integrals = jensen_continuous(np.exp, lambda x: x, lambda x: 1.0, (0, 1))
    discrete = nlml_as_jensen_discrete([-1, -2], [0.5, 0.5])
    continuous = nlml_as_jensen_continuous(normal(0, 1)[1], normal(0, 2)[1])
    for j in (sums, integrals, discrete, continuous):
        assert isinstance(j, Jensen) and Jensen._fields == ("lhs", "rhs", "gap", "error")
        assert all(type(number) is float for number in j)
