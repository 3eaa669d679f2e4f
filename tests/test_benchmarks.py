"""The benchmarks measure what they say: equal results first, then ratios, and every contestant runs."""

from time import sleep

import numpy as np
import pytest

from benchmarks import __main__ as program
from benchmarks import factor_analysis, measure, vae_step
from teachvae import bound


def test_ratios_are_the_peers_time_over_ours_round_by_round():
    seconds = {"teachvae": np.array([1.0, 2.0, 4.0]), "peer": np.array([3.0, 4.0, 4.0])}
    assert measure.ratios(seconds) == [("peer", 1.5, 2.0, 2.5)]


def test_contestants_take_turns():
    calls = []
    seconds = measure.in_turn({
        "teachvae": lambda: calls.append("a") or sleep(1e-3),
        "peer": lambda: calls.append("b") or sleep(2e-3),
    }, rounds=3, least=1e-6)
    assert calls == list("aabb" + "ab" * 3)
    assert all(values.shape == (3,) and (values > 9e-4).all() for values in seconds.values())


def test_results_that_differ_are_no_contest():
    measure.check_equal("peer", [1.0, 2.0], [1.0, 2.0001], 1e-4)
    with pytest.raises(AssertionError, match="peer computes something else: relative difference 5.0e-03 > 1e-04"):
        measure.check_equal("peer", [1.0, 2.0], [1.0, 2.01], 1e-4)
    with pytest.raises(AssertionError):
        measure.check_equal("peer", [1.0, 2.0], [1.0, np.nan], 1e-4)


def test_our_contestant_trains_the_network_that_all_are_given():
    setting = vae_step.Setting(12, (8,), 2, 10)
    value, gradient = setting.value_and_gradient()
    x, eta, params = setting.x[:10], setting.eta, setting.params
    phi, _ = setting.recognition.forward(params["recognition"], x)
    Q, _ = bound.forward(setting.model, params["theta"], phi, x, eta)
    assert value == pytest.approx(float(Q.mean()), rel=1e-6)
    weights = [a for stack in setting.weights() for pair in stack for a in pair]
    assert [a.shape for a in gradient] == [a.shape for a in weights] and len(weights) == 8
    before = weights[0].copy()
    vae_step.teachvae(setting)()
    vae_step.bare_products(setting)()
    assert (weights[0] == before).all()                            # every contestant starts from the same


def test_the_best_factor_analysis_is_0_nats_above_itself(monkeypatch):
    data = {"small, K = 2": (factor_analysis.heteroscedastic(200, 6, 2), 2)}
    worse = {"peer": lambda X, K: (np.zeros((K, 6)), X.mean(axis=0), X.var(axis=0)), "none": lambda X, K: 1 / 0}
    monkeypatch.setattr(factor_analysis, "problems", lambda largest: data)
    monkeypatch.setattr(factor_analysis, "PEERS", worse)
    rows, remarks = factor_analysis.run(rounds=1)
    assert [row["peer"] for row in rows] == ["peer"] and rows[0]["our_excess"] == 0 and rows[0]["excess"] > 0.1
    assert remarks == ["small, K = 2, none: ZeroDivisionError: division by zero"]


def test_the_table_turns_the_yardsticks_round():
    row = {"size": "s", "low": 0.25, "ratio": 0.5, "high": 1.0}
    text = program.table([{
        "name": "vae_step", "threads": 1, "machine": measure.machine(), "remarks": ["s, JAX: missing"],
        "rows": [{**row, "peer": "bare products"}, {**row, "peer": "PyTorch eager"}],
    }])
    assert "| s | 1 | bare products | 2.00× [1.00, 4.00] |" in text
    assert "| s | 1 | PyTorch eager | 0.50× [0.25, 1.00] |" in text
    assert "- not run: s, JAX: missing" in text
