"""Every hand-derived gradient at every index: float64, random cotangents, 1e-7."""

from cases import GAUSSIANS
import pytest

from teachvae import gradcheck, layers, likelihoods, posteriors
from teachvae.gradcheck import package

RESULTS = package.run()


@pytest.mark.parametrize("name, report", RESULTS, ids=[name for name, _ in RESULTS])
def test_gradient(name, report):
    assert report.tolerance == 1e-7
    assert report.ok, f"{name}\n{report}"
    assert not report.kinks
    assert report.worst.error < 1e-7


def test_every_class_of_the_tables_is_checked():
    names = [name for name, _ in RESULTS]
    for activation in layers.ACTIVATIONS:
        assert {activation, f"mlp {activation}"} <= set(names)
    for q in posteriors.POSTERIORS:
        kls = ("analytic", "sampled") if q in GAUSSIANS else ("sampled",)
        assert {f"{q} sample", f"{q} log q"} <= set(names)
        assert (f"{q} kl" in names) == (q in GAUSSIANS)
        for p in likelihoods.LIKELIHOODS:
            for kl in kls:
                start = f"bound, {q}, {p}"
                for end in (f"{kl} KL", f"{kl} KL, quadrature", f"{kl} KL, amortised"):
                    assert any(name.startswith(start) and name.endswith(end) for name in names)
    for p in likelihoods.LIKELIHOODS:
        assert any(name.startswith(p) and name.endswith("masked") for name in names)


def test_the_same_seed_draws_the_same_points(monkeypatch):
    *others, last = package.all_checks()
    quick = [(name, lambda rng: RESULTS[0][1]) for name, _ in others]   # the last keeps its place, its seed
    monkeypatch.setattr(package, "all_checks", lambda: [*quick, last])
    again, other = package.run(0)[-1][1], package.run(1)[-1][1]
    assert str(again) == str(RESULTS[-1][1])
    assert str(other) != str(again)
    assert other.ok


def test_results_are_a_table():
    lines = package.format(RESULTS[:3]).splitlines()
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
