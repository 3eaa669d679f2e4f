"""Every hand-derived gradient at every index: float64, random cotangents, 1e-7."""

from functools import cache

from cases import GAUSSIANS
import pytest

from teachvae import gradcheck, layers, likelihoods, posteriors
from teachvae.gradcheck import package

CHECKS = package.all_checks()
NAMES = [name for name, _ in CHECKS]


@cache
def result(place):
    """The report of a check, which is made where it is first asked for: a wrong layer is told by its own."""
    return package.of(CHECKS[place][1], place)


@pytest.mark.parametrize("name", NAMES)
def test_gradient(name):
    report = result(NAMES.index(name))
    assert report.tolerance == 1e-7
    assert report.ok, f"{name}\n{report}"
    assert not report.kinks
    assert report.worst.error < 1e-7


def test_every_class_of_the_tables_is_checked():
    names = set(NAMES)
    assert len(names) == len(NAMES)
    for activation in layers.ACTIVATIONS:
        assert {activation, f"mlp {activation}"} <= names
    for q in posteriors.POSTERIORS:
        kls = ("analytic", "sampled") if q in GAUSSIANS else ("sampled",)
        assert {f"{q} sample", f"{q} log q"} <= names
        assert (f"{q} kl" in names) == (q in GAUSSIANS)
        for p in likelihoods.LIKELIHOODS:
            for kl in kls:
                start = f"bound, {q}, {p}"
                for end in (f"{kl} KL", f"{kl} KL, quadrature", f"{kl} KL, amortised"):
                    assert any(name.startswith(start) and name.endswith(end) for name in names)
            assert any(name.startswith(f"importance-weighted, {q}, {p}") for name in names)
    for p in likelihoods.LIKELIHOODS:
        assert any(name.startswith(p) and name.endswith("masked") for name in names)


def test_the_same_seed_draws_the_same_points(monkeypatch):
    *others, last = package.all_checks()
    quick = [(name, lambda rng: result(0)) for name, _ in others]  # the last keeps its place, its seed
    monkeypatch.setattr(package, "all_checks", lambda: [*quick, last])
    again, other = package.run(0)[-1][1], package.run(1)[-1][1]
    assert str(again) == str(result(len(CHECKS) - 1))
    assert str(other) != str(again)
    assert other.ok


def test_results_are_a_table():
    lines = package.format([(name, result(i)) for i, name in enumerate(NAMES[:3])]).splitlines()
    assert lines[0].split() == ["what", "leaves", "numbers", "worst", "relative", "error"]
    assert lines[1].split()[:3] == ["linear", "3", "31"] and lines[1].endswith("ok")
    assert len(lines) == 4 and lines[1].index("3") == lines[2].index("1")


def test_a_wrong_gradient_stands_below_the_table():
    """A fault planted in a real layer: the tanh whose backward has 1 − y for 1 − y²."""
    class Tanh(layers.Tanh):
        def backward(self, params, cache, dy, **need):
            return dy * (1 - cache), {}

    def make_check(seed):
        return package.of_layer(package.np.random.default_rng(seed), Tanh())

    report = gradcheck.draw_until_smooth(make_check, range(3))
    assert not report.ok
    text = package.format([("tanh", report)])
    assert "WRONG" in text.splitlines()[1] and "x: wrong at every index" in text
