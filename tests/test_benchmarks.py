"""The benchmarks measure what they say: equal results first, then ratios, and every contestant runs."""

from functools import partial
import sys
from time import sleep

from benchmarks import (
    __main__ as program, e_step, factor_analysis, gpu, growth, iwae, measure, sampling, vae_step
)
import fake_gpu
import numpy as np
import pytest

from teachvae import bound, grid, tree


@pytest.fixture(autouse=True)
def jax_in_its_own_precision():
    """All of a process's JAX has one precision; every benchmark has its own process, the tests have not."""
    yield
    if "jax" in sys.modules:
        sys.modules["jax"].config.update("jax_enable_x64", False)


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
    words = "peer computes something else: relative difference 5.0e-03 > 1e-04"
    with pytest.raises(AssertionError, match=words):
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
    worse = {
        "peer": lambda X, K: (np.zeros((K, 6)), X.mean(axis=0), X.var(axis=0)),
        "none": lambda X, K: 1 / 0,
    }
    monkeypatch.setattr(factor_analysis, "problems", lambda largest: data)
    monkeypatch.setattr(factor_analysis, "PEERS", worse)
    rows, remarks = factor_analysis.run(rounds=1)
    assert [row["peer"] for row in rows] == ["peer"]
    assert rows[0]["our_excess"] == 0 and rows[0]["excess"] > 0.1
    assert remarks == ["small, K = 2, none: ZeroDivisionError: division by zero"]


def test_the_table_turns_the_yardsticks_round():
    row = {"size": "s", "low": 0.25, "ratio": 0.5, "high": 1.0}
    rows = [{**row, "peer": "bare products"}, {**row, "peer": "PyTorch eager"}]
    other = [{"size": "s", "peer": "PyTorch eager", "ratio": 2.0, "excess": 0.25, "our_excess": 0.0}]
    where = measure.machine()
    text = program.table([
        {"name": "a", "threads": 1, "machine": where, "remarks": ["s, JAX: missing"], "rows": rows},
        {"name": "a", "threads": 2, "machine": where, "remarks": [], "rows": other},
    ])
    assert "| s | bare products | 2.00× [1.00, 4.00] |  |  |" in text
    assert "| s | PyTorch eager | 0.50× [0.25, 1.00] | 2.00× | 2.5e-01 / 0.0e+00 |" in text
    assert "- not run: s, JAX: missing" in text


def test_the_exponent_of_a_power_law_and_the_peak_of_what_is_allocated():
    sizes = np.array([1, 2, 4, 8])
    assert growth.exponent(sizes, 5 * sizes**1.5) == pytest.approx(1.5)
    assert growth.exponent(sizes, [3.0] * 4) == pytest.approx(0)

    def allocate():
        first = np.ones(2**17)                                     # 1 MB, and twice as much at a time
        second = first + 1
        del first, second

    assert 2 * 2**20 <= growth.peak_memory(allocate) < 2 * 2**20 + 2**16


def test_growth_draws_what_it_measured(tmp_path):
    times = {"samples S": {"importance sampling": (lambda s: growth.sampling(4, s), (2, 4))},
             "batch size": {"step of a VAE": (lambda b: growth.epoch(64, 8, b), (16, 32))}}
    memory = {"E-step, against N": (growth.e_step, (300, 600))}
    rows, remarks = growth.run(1, times, memory, tmp_path)
    assert [row["peer"] for row in rows] == ["exponent", "exponent", "MB at most"]
    assert [len(row["values"]) for row in rows] == [2, 2, 2]
    assert remarks == [] and (tmp_path / "growth.png").stat().st_size > 10_000
    step = growth.measured(times, {}, 1)["batch size"]["step of a VAE"]
    assert step[0] == (16, 32) and len(step[1]) == 2


def test_the_memory_of_estimators_that_sample_is_bounded():
    """Four times the data cases or ten times the samples: hardly more memory, for blocks are what is held."""
    for make, small, large in ((growth.e_step, 1024, 4096), (lambda n: growth.sampling(n, 200), 256, 1024),
                               (lambda k: growth.sampling(64, k), 500, 5000)):
        least, most = (growth.peak_memory(make(size)) for size in (small, large))
        assert 0.5 * 2**20 < most < least + 0.5 * 2**20


def test_our_e_step_contestants_start_and_end_where_they_say():
    setting = e_step.Setting(epochs=1)
    Q, _ = setting.value_and_gradient(setting.phi)
    f = tree.map(np.float64, setting.theta["decoder"])
    z = np.broadcast_to(setting.eta.astype("float64"), (5, len(Q), 2))   # q = N(0, I): no KL
    logits = np.tanh(z @ f[0]["W"] + f[0]["b"]) @ f[2]["W"] + f[2]["b"]
    plain = -(setting.x * logits - np.logaddexp(0, logits)).sum(axis=2).mean(axis=0)
    np.testing.assert_allclose(Q, plain, rtol=1e-5)
    for make in (e_step.teachvae, e_step.adam_on_ours):
        better, _ = setting.value_and_gradient(make(setting)())
        assert better.mean() < Q.mean() - 0.1


def test_our_samplers_estimate_the_nlml_of_the_same_model():
    setting = sampling.Setting(n_cases=5, epochs=1)
    exact = grid.grid(setting.model, tree.map(np.float64, setting.theta), setting.x.astype("float64"))
    for found in (setting.importance(), setting.annealed()):
        assert (np.abs(found.values - exact.values) < 5 * found.standard_error + 1e-3).all()


MODULES = {"PyTorch": "torch", "JAX": "jax", "NumPyro": "numpyro", "autograd": "autograd"}


def needs(peer):
    """Skip the test where the library of a peer is not installed."""
    module = MODULES[peer.split()[0]]
    pytest.importorskip(module, reason=f"{module} is not installed (pip install -e '.[bench]')")


@pytest.mark.parametrize("peer", [name for name in vae_step.PEERS if "compile" not in name])  # a minute
def test_a_peer_takes_the_same_step(peer, monkeypatch):
    needs(peer)
    monkeypatch.setattr(vae_step, "PEERS", {peer: vae_step.PEERS[peer]})
    monkeypatch.setattr(vae_step, "SIZES", {"small": (12, (8,), 2, 10)})
    rows, remarks = vae_step.run(rounds=1)
    assert remarks == [] and [row["peer"] for row in rows] == ["bare products", peer] * 2
    assert [row["size"] for row in rows[::2]] == ["small, float32", "small, float64"]
    # what is compared can differ: with other parameters it does
    (value, gradient), _ = vae_step.PEERS[peer](setting := vae_step.Setting(12, (8,), 2, 10))
    setting.weights()[1][0][1][:] += 0.5                           # a bias of the decoder
    ours, our_gradient = setting.value_and_gradient()
    assert abs(ours - value) > 1e-2 * abs(value)
    assert max(np.abs(a - b).max() for a, b in zip(our_gradient, gradient)) > 1e-3


@pytest.mark.parametrize("dtype", vae_step.AGREE)
@pytest.mark.parametrize("peer", [name for name in vae_step.PEERS if "compile" not in name])
def test_a_peer_computes_in_the_precision_that_is_asked_for(peer, dtype):
    """float32 would be within 1e-6 of float64, and in half the time."""
    needs(peer)
    (value, gradient), _ = vae_step.PEERS[peer](vae_step.Setting(12, (8,), 2, 10, dtype=dtype))
    exact, _ = vae_step.Setting(12, (8,), 2, 10, dtype="float64").value_and_gradient()
    assert {g.dtype.name for g in gradient} == {dtype}
    assert (abs(value - exact) < 1e-13 * exact) == (dtype == "float64")


def test_a_gpu_takes_the_same_step_as_the_host(monkeypatch):
    """On a stand-in, for no card has been seen yet; what PyTorch would do on one it does on the host."""
    needs("PyTorch")
    fake_gpu.install(monkeypatch)
    monkeypatch.setattr(gpu, "SIZES", {"small": (12, (8,), 2, 10)})
    on_host = partial(vae_step.torch_eager, device="cpu")
    monkeypatch.setattr(gpu, "PEERS", {"PyTorch eager": on_host, "JAX jit": gpu.jax_on_gpu})
    rows, remarks = gpu.run(rounds=1)
    names = ["bare products", "bare traffic", "bare launch", "PyTorch eager"]
    assert [row["peer"] for row in rows] == names and all(row["ratio"] > 0 for row in rows)
    (remark,) = remarks                                            # no GPU, or no JAX
    assert remark.startswith("small, JAX jit: ")
    plain = gpu.Setting.value_and_gradient                         # and a result that differs is no contest
    monkeypatch.setattr(gpu.Setting, "value_and_gradient", lambda s: (1.001 * plain(s)[0], plain(s)[1]))
    with pytest.raises(AssertionError, match="PyTorch eager: the value computes something else"):
        gpu.run(rounds=1)


def test_an_epoch_on_a_gpu_waits_once(monkeypatch):
    counts = fake_gpu.install(monkeypatch)
    setting = vae_step.Setting(12, (8,), 2, 10, backend="cupy")
    for make in (vae_step.teachvae, vae_step.bare_products, gpu.bare_traffic, gpu.bare_launch):
        epoch = make(setting)
        before = counts.syncs.total()
        epoch()
        assert counts.syncs.total() == before + 1


def test_without_a_gpu_its_benchmark_says_why(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    rows, remarks = gpu.run()
    assert rows == [] and len(remarks) == 1 and "cannot be imported" in remarks[0]
    where = {"name": "gpu", "threads": 1, "machine": measure.machine(), "rows": rows, "remarks": remarks}
    assert "- not run: GPU: backend='cupy' needs CuPy" in program.table([where])


@pytest.mark.parametrize("peer", e_step.PEERS)
def test_a_peer_minimises_the_same_bound(peer, monkeypatch):
    needs(peer)
    monkeypatch.setattr(e_step, "PEERS", {peer: e_step.PEERS[peer]})
    rows, remarks = e_step.run(rounds=1, epochs=1)
    assert remarks == [] and [row["peer"] for row in rows] == ["Adam on our gradients", peer] * 2
    # from a start 1.7 nats above, everybody ends within 0.2 of the lowest Q
    assert max(row["excess"] for row in rows) < 0.2
    both, fewer = rows[0], rows[2]
    assert fewer["size"].startswith(both["size"] + ", of ours the ")
    assert both["our_excess"] == 0 < fewer["our_excess"] <= rows[2]["excess"]


def test_jax_estimates_the_same_nlml():
    needs("JAX")
    rows, remarks = sampling.run(rounds=1, n_cases=5, epochs=1)
    assert remarks == [] and [row["peer"] for row in rows] == ["JAX jit", "JAX jit"]


@pytest.mark.thorough
def test_peers_that_are_missing_are_named(monkeypatch):
    def missing(setting):
        raise ImportError("No module named 'peer'")

    monkeypatch.setattr(e_step, "PEERS", {"peer": missing})
    rows, remarks = e_step.run(rounds=1, epochs=1)
    assert [row["peer"] for row in rows] == ["Adam on our gradients"] * 2
    assert remarks == ["E-step, digits, 2-64-64, S = 5, 20 steps, peer: ImportError: No module named 'peer'"]
    monkeypatch.setattr(sampling, "jax_importance", missing)
    monkeypatch.setattr(sampling, "jax_annealed", missing)
    rows, remarks = sampling.run(rounds=1, n_cases=2, epochs=1)
    assert rows == [] and len(remarks) == 2
    assert remarks[0] == "importance sampling, k = 1000, 2 digits, JAX jit: No module named 'peer'"


# ---- the table of importance-weighted autoencoders ---------------------------------------------------------


@pytest.mark.parametrize("objective", ["bound", "iwae", "iwae-dreg"])
def test_the_losses_of_a_training_are_those_of_pytorch_step_by_step(objective):
    pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[bench]'")
    grey = iwae.grey_images("digits", "train", 30)
    setting = iwae.Setting(objective, 4, grey, (6,), 2, 3, 16)     # 13 epochs of 2 steps
    ours, theirs = iwae.our_losses(setting), iwae.torch_losses(setting)
    assert len(ours) == 26 and [len(x) for x in setting.x[:4]] == [16, 14, 16, 14]
    assert ours[-6:].mean() < ours[:6].mean() - 0.2
    np.testing.assert_allclose(ours, theirs, rtol=1e-10)


def test_the_table_of_iwae_is_trained_over_several_calls(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(iwae, "HIDDEN", (5,))
    monkeypatch.setattr(iwae, "K", 3)

    def call(folder, *more):
        iwae.main(["--data", "digits", "--cases", "40", "--k", "2", "--output", str(folder), *more])
        return capsys.readouterr().out

    first = call(tmp_path / "a", "--stages", "3", "--minutes", "0", "--samples", "20")
    assert "epoch 1 of 13" in first and "epoch 2" not in first and "digits, 40  iwae" in first
    second = call(tmp_path / "a", "--stages", "2", "--samples", "0")
    assert "epoch 2 of 4" in second and "epoch 4 of 4" in second and "NLL" not in second
    whole, rest = (call(tmp_path / folder, "--stages", "3", "--samples", "20") for folder in "ba")
    assert whole.splitlines()[-2:] == rest.splitlines()[-2:] and whole.count("epoch ") == 13
    again = call(tmp_path / "a", "--stages", "0", "--samples", "20")  # measures what is there
    assert again.splitlines() == rest.splitlines()[-2:]
    assert (tmp_path / "a/iwae.json").read_text() == (tmp_path / "b/iwae.json").read_text()


def test_the_papers_table_stands_beside_what_was_done_as_it_was():
    row = {"data": "mnist, all", "objective": "iwae-dreg", "k": 50, "seed": 0, "epochs": 3280, "nll": 84.5,
           "few": 0, "active": 25}
    assert "84.78 (25)" in iwae.table([row])
    assert "84.78" not in iwae.table([{**row, "data": "mnist, 1000"}])
    assert "–" in iwae.table([{**row, "k": 7}])
