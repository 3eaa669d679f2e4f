"""Data cases on several ranks: the fit is that of one process, to rounding, and its bits are the same on all
ranks; what goes wrong on one of them ends the job with its message; messages are counted.

`ranks_program` is what runs on the ranks; here it is started, and held against a fit to all rows.
"""

import copy
import functools
import importlib.util
import json
import os
from pathlib import Path
import pickle
import subprocess
import sys
import time

import array_api_strict
import numpy as np
import pytest
import ranks_program as program

from teachvae import FactorAnalysis, VAE, VariationalEM, datasets, ranks, tree
from teachvae.arrays.observed import Observed
from teachvae.comparison import compare, tables
from teachvae.doors.columns import Columns, Table
from teachvae.inference import moments
from teachvae.networks.convergence import ROUNDING

N, D, K = program.N, program.D, program.K
MPIEXEC = Path(sys.executable).with_name("mpiexec")
needs_mpi = pytest.mark.skipif(
    importlib.util.find_spec("mpi4py") is None or not MPIEXEC.exists(),
    reason="mpi4py and mpich are not installed: pip install -e '.[mpi]'",
)
PROGRAM = str(Path(program.__file__))
SECONDS = 10                           # in which a job with a failure must have ended


def start(n_ranks, *command, seconds=100):
    """The process that has run `command` of this Python on so many ranks, one thread each."""
    root = str(Path(__file__).parent.parent)
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": root}
    return subprocess.run(
        [MPIEXEC, "-n", str(n_ranks), sys.executable, *command],
        env=environment, capture_output=True, text=True, timeout=seconds,
    )


@functools.cache
def job(n_ranks, *what):
    """The process of `ranks_program`, or the error of one that did not end: it is not waited for twice."""
    try:
        return start(n_ranks, "-m", "mpi4py", PROGRAM, *what)
    except subprocess.TimeoutExpired as error:
        return error


@functools.cache
def results(n_ranks, *what):
    done = job(n_ranks, *what)
    assert getattr(done, "returncode", None) == 0, done.stderr
    return json.loads(done.stdout)


def work(what):
    """What two ranks say of `what`; all of it comes from one job."""
    return results(2, "sums", "parts", "told_to_end", "copies", "fits")[what]


@functools.cache
def alone(name):
    """The fit to all rows in this process, and those rows."""
    return program.fit(name)


# Beside the values of a path; else `ROUNDING`. Longer steps make rounding on the way longer, not at the end.
PATH = {"VAE, float32": 1e-6, "VariationalEM, missing": 1e-13}
# Of φ, and of Q in nats; else 1e-12.
ROWS = {"far off": 1e-10, "VAE, float32": 1e-4, "VariationalEM, missing": 1e-10}


def assert_the_fit_of_one_process(found, name):
    """To rounding: the path, and φ and Q of every row."""
    model, x = alone(name)
    path = program.path_of(model)
    assert len(found["path"]) == len(path)
    np.testing.assert_allclose(found["path"], path, rtol=PATH.get(name, ROUNDING), atol=0)
    rows = np.column_stack([program.phi_of(model, x), model.bound(x, n_samples=10)])
    np.testing.assert_allclose(found["rows"], rows, rtol=0, atol=ROWS.get(name, 1e-12))
    assert found["dropped"] == list(model.columns_.dropped)
    assert found["n_cases"] == getattr(model, "n_cases_", None)
    assert len(set(found["bits"])) == 1, "the ranks have other parameters"


@needs_mpi
@pytest.mark.parametrize("name", program.FITS)
def test_two_ranks_fit_what_one_process_does(name):
    assert_the_fit_of_one_process(work("fits")[name], name)


IN_PARTS = """
import warnings
import numpy as np
from teachvae import VAE, VariationalEM, ranks, tree

warnings.simplefilter("ignore")
rng, comm = np.random.default_rng(0), ranks.comm("mpi")
x = rng.standard_normal((120, 2)) @ rng.standard_normal((2, 5)) + 0.3 * rng.standard_normal((120, 5))
for kind, options in (
    (VAE, {}), (VAE, {"objective": "iwae", "n_samples": 3}), (VariationalEM, {"m_steps": 1})
):
    alone, shared = (kind(1, hidden=(4,), batch_size=20, comm=c, **options) for c in (None, comm))
    for part in (x[:70], x[70:]):
        alone.partial_fit(part, epochs=2)
        shared.partial_fit(part[ranks.share(comm, len(part))], epochs=2)
    one, two = ([tree.flatten(model.theta_), model.q_path_] for model in (alone, shared))
    np.testing.assert_allclose(np.concatenate(two), np.concatenate(one), rtol=0, atol=1e-7)
"""


@needs_mpi
def test_parts_on_two_ranks_lead_where_those_of_one_process_do(tmp_path):
    (tmp_path / "parts.py").write_text(IN_PARTS, encoding="utf-8")
    run = start(2, "-m", "mpi4py", str(tmp_path / "parts.py"))
    assert run.returncode == 0, run.stderr


@needs_mpi
def test_factor_analysis_ends_within_1e_14_nats():
    end = alone("FactorAnalysis")[0].nlml_path_[-1]
    assert abs(work("fits")["FactorAnalysis"]["path"][-1] - end) <= 1e-14


@pytest.mark.thorough
@needs_mpi
@pytest.mark.parametrize("name", program.FITS)
def test_three_ranks_fit_what_one_process_does(name):
    assert_the_fit_of_one_process(results(3, "fits")["fits"][name], name)


@needs_mpi
def test_a_sum_has_the_bits_of_the_ranks_order_on_all_of_them():
    for name, (total, dtype, bits) in work("sums").items():
        kind, _, shape = name.partition(" ")
        parts = [program.vector(rank, eval(shape), kind) for rank in range(2)]
        np.testing.assert_array_equal(np.array(total, kind), parts[0] + parts[1])
        assert dtype == kind and len(set(bits)) == 1


@needs_mpi
def test_parts_add_up_over_ranks_and_calls():
    found, whole = work("parts"), FactorAnalysis(2).fit(program.X)
    np.testing.assert_allclose(found["path"], whole.nlml_path_, rtol=ROUNDING, atol=0)
    assert found["n_cases"] == len(program.X)


@needs_mpi
def test_the_program_of_the_page_prints_what_stands_there(tmp_path):
    page = (Path(__file__).parent.parent / "docs" / "ranks.md").read_text(encoding="utf-8")
    blocks = [block.partition("\n") for block in page.split("```")[1::2]]
    (code,), (printed,) = ([text for kind, _, text in blocks if kind == wanted] for wanted in ("python", ""))
    (tmp_path / "page.py").write_text(code, encoding="utf-8")
    done = start(2, "-m", "mpi4py", str(tmp_path / "page.py"))
    assert done.stdout == printed, done.stderr


# ---- messages -------------------------------------------------------------------------------------

STANDARD_UNITS = 2                     # counts and sums, then squares


@needs_mpi
def test_factor_analysis_sends_one_sum_whatever_the_iterations():
    found = work("fits")["FactorAnalysis"]
    sums, numbers, gathers = found["sent"]
    assert (sums, numbers) == (1, D * D) and gathers < 12 < len(found["path"])


@needs_mpi
def test_missing_entries_send_one_sum_a_round():
    found = work("fits")["VariationalEM, missing"]
    sums, numbers, gathers = found["sent"]
    rounds, e_steps = len(found["path"]), sums - STANDARD_UNITS - 1
    assert rounds <= e_steps < 1.1 * rounds and gathers < 14 < rounds  # a few longer steps are taken back
    statistics = D * (K + 1) ** 2 + D * (K + 1) + 2 * D + (K + 1) ** 2
    assert numbers == 3 * D + D * D + D + e_steps * (statistics + 1)


@needs_mpi
def test_a_step_of_the_vae_sends_one_sum():
    found = work("fits")["VAE"]
    sums, numbers, gathers = found["sent"]
    epochs, batches = 8, 5
    assert sums == STANDARD_UNITS + epochs * batches and gathers < epochs + 12
    assert numbers == 3 * D + epochs * batches * (found["size"] + 1)


@needs_mpi
def test_an_e_step_sends_nothing_but_its_mean_and_an_m_step_one_sum_a_step():
    sums, _, _ = work("fits")["VariationalEM"]["sent"]
    rounds, batches, squares, mean = 10, 5, 1, 1
    assert sums == STANDARD_UNITS + rounds * (mean + batches + squares) + mean


# ---- one rank of them -----------------------------------------------------------------------------


@needs_mpi
def test_where_one_rank_is_told_to_end_all_do():
    found = work("told_to_end")
    ends, seen = found["ends"], found["seen"]
    assert ends[0] == ends[1] and ends[0][1:] == [3 + 1, 3, 3] and seen[0] == 0 < seen[1]


@needs_mpi
def test_a_comm_that_was_copied_is_of_the_same_ranks():
    assert work("copies") == [N] * 3


FAILURES = {
    "bad_data": "ValueError: X has 0 NaN and 1 infinity entries, the first in row 3, column 2",
    "bad_step": "OSError: the disk of this rank is full",
    "other_parameters": "the ranks differ before training: n_components is 3 on rank 1 and 2 on rank 0",
    "other_class": "differ before training: class is 'FactorAnalysis' on rank 1 and 'VAE' on rank 0",
    "other_columns": "how many columns X has is 7 on rank 1 and 8 on rank 0",
    "drift": "the ranks differ after epoch 1 of training: the parameters is float64",
}


@needs_mpi
@pytest.mark.parametrize("what", FAILURES)
def test_a_rank_that_fails_ends_the_job_with_its_message(what):
    begun = time.monotonic()
    done = start(2, "-m", "mpi4py", PROGRAM, what, seconds=60)
    assert done.returncode != 0 and FAILURES[what] in done.stderr, done.stderr
    assert time.monotonic() - begun < SECONDS


@needs_mpi
def test_ranks_under_plain_python_are_refused():
    done = start(2, PROGRAM, "sums", seconds=60)
    assert done.returncode != 0 and "start them by mpiexec -n 2 python -m mpi4py program.py" in done.stderr


@pytest.mark.thorough
@needs_mpi
def test_memory_falls_with_the_ranks():
    one, two = (results(n, "memory")["memory"] for n in (1, 2))
    for name in one:
        assert two[name] < 0.6 * one[name], (name, one, two)


# ---- the comparison -------------------------------------------------------------------------------


def numbers_of(found):
    """What compare has as JSON, but for the seconds that models took, {place: value}."""
    return {place: value for place, value in tree.leaves(found) if not place.endswith("seconds")}


@pytest.mark.thorough
@needs_mpi
def test_two_ranks_compare_as_one_process_does(tmp_path):
    command = ["-m", "mpi4py", "-m", "teachvae", "compare", "--comm", "mpi", "--json"]
    options = ["--data", "bent_sheet", "--cases", "60", "--epochs", "10", "--ledger", "2"]
    done = start(2, *command, *options, "--output", str(tmp_path))
    assert done.returncode == 0 and (tmp_path / "report.html").exists(), done.stderr
    assert done.stderr.count("VAE, linear: ") == 1, "one rank speaks for both"
    data = datasets.first(datasets.load("bent_sheet"), 60)
    one = numbers_of(tables.as_json(compare.run(data, compare.Options(epochs=10, ledger=2))))
    two = numbers_of(json.loads(done.stdout))
    assert one.keys() == two.keys() and len(one) > 100
    for place, value in one.items():
        # The linear VAE ends where L-BFGS gains no more than 1e-9 of Q: all else is known to its root.
        known = 1e-4 if "models[3]" in place and not place.endswith("q_train") else 1e-6
        close = pytest.approx(value, abs=known) if isinstance(value, float) else value
        assert two[place] == close, place


# ---- without MPI ----------------------------------------------------------------------------------


class Twice(ranks.Serial):
    """Two ranks, of which the other has what this one has."""

    size = 2

    def sum(self, vector):
        return vector + vector

    def gather(self, value):
        return [value, value]

    def same(self, values, when):
        pass


def test_a_serial_comm_leaves_things_as_they_are():
    comm = ranks.comm("serial")
    vector = np.arange(3.0)
    assert (comm.rank, comm.size, comm.gather(7)) == (0, 1, [7]) and comm.sum(vector) is vector
    summed = {"a": vector}
    assert ranks.total(comm, summed) is summed and ranks.of(vector) is comm
    fits = [FactorAnalysis(2, comm=c).fit(program.X) for c in (None, comm)]
    np.testing.assert_array_equal(fits[0].theta_["decoder"][0]["W"], fits[1].theta_["decoder"][0]["W"])


@pytest.mark.parametrize("name", ["FactorAnalysis", "far off", "missing", "VariationalEM, linear"])
def test_data_on_two_ranks_are_those_data_twice(name):
    """Without MPI: a comm that doubles every sum is a second rank with the same rows."""
    kind, options, data = program.FITS[name]
    two, whole = kind(2, comm=Twice(), **options).fit(data), kind(2, **options).fit(np.vstack([data, data]))
    np.testing.assert_allclose(program.path_of(two), program.path_of(whole), rtol=0, atol=1e-10)
    assert getattr(two, "n_cases_", 2 * N) == 2 * N


def test_a_total_comes_back_on_the_device_that_it_came_from():
    device = array_api_strict.Device("device1")
    a, b = (array_api_strict.asarray(values, device=device) for values in ([[1.0, 2.0]], [1.0, 1.0, 1.0]))
    first, second = ranks.total(Twice(), [{"a": a}, b])
    assert first["a"].device == second.device == device and first["a"].shape == (1, 2)
    assert [float(first["a"][0, 1]), float(second[0])] == [4.0, 2.0]


def test_who_has_which_of_the_shuffled_cases():
    places = ranks.Places(3, 4, 9)
    own, where = places.own(np.array([8, 3, 0, 6, 4]))
    assert own.tolist() == [0, 3, 1] and where.tolist() == [1, 3, 4]
    assert places.own(slice(0, 2)) == (slice(0, 2), slice(None))
    assert ranks.places(Table(program.X, Columns(list("abcdefgh")), Twice())) == ranks.Places(0, N, 2 * N)
    assert ranks.places(Observed(program.X, program.X)) == ranks.Places(0, N, N)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_shares_are_all_of_it_and_dealt_jobs_come_back_in_order(size):
    class Rank(ranks.Serial):
        def __init__(self, rank):
            self.rank, self.size = rank, size

        def gather(self, value):
            return [list(range(20))[rank::size] for rank in range(size)]

    shares = [ranks.share(Rank(rank), 20) for rank in range(size)]
    assert [n for share in shares for n in range(20)[share]] == list(range(20))
    assert max(s.stop - s.start for s in shares) - min(s.stop - s.start for s in shares) <= 1
    assert list(ranks.dealt(Rank(0), iter(range(20)[::size]))) == list(range(20))


def test_moments_of_two_ranks():
    found = moments.moments(Table(program.X, Columns(list("abcdefgh")), Twice()))
    own = moments.moments(program.X)
    assert found.n_cases == 2 * N
    np.testing.assert_allclose(found.scatter, (own + own).scatter, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(found.mean, own.mean)


@pytest.mark.parametrize("model, match", [
    (FactorAnalysis(comm="mpi"), r"comm must be None or ranks.comm\('mpi'\), got 'mpi'"),
    (FactorAnalysis(comm=Twice(), random_state=None), "random_state must be an integer on 2 ranks"),
    (VAE(comm=Twice(), random_state=np.random.default_rng(0)), "random_state must be an integer on 2 ranks"),
    (VariationalEM(comm=Twice(), random_state=None), "random_state must be an integer on 2 ranks"),
    (VAE(comm=Twice(), binarise="fresh", likelihood="bernoulli"), "binarise='fresh' would draw the data of"),
])
def test_what_ranks_cannot_do_is_refused_at_the_door(model, match):
    with pytest.raises((TypeError, ValueError), match=match):
        model.fit(program.BITS)


def test_where_mpi4py_is_missing_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(ImportError, match=r"comm\('mpi'\) needs mpi4py .* pip install 'teachvae\[mpi\]'"):
        ranks.comm("mpi")
    with pytest.raises(ValueError, match="comm must be 'serial' or 'mpi', got 'MPI'"):
        ranks.comm("MPI")


@needs_mpi
def test_a_copy_is_of_the_same_ranks_and_a_pickle_of_none():
    code = (
        "import copy, pickle; from teachvae import ranks, FactorAnalysis as F; c = ranks.comm('mpi');"
        "f = F(comm=c); assert copy.deepcopy(f).comm is c;"
        "assert repr(f) == \"FactorAnalysis(comm=comm('mpi'))\";"
        "assert pickle.loads(pickle.dumps(f)).comm.size == 1; print(c.rank, c.size, c.gather(5))"
    )
    done = start(1, "-c", code, seconds=60)
    assert (done.returncode, done.stdout.strip()) == (0, "0 1 [5]"), done.stderr
    assert copy.deepcopy(ranks.SERIAL).size == pickle.loads(pickle.dumps(ranks.SERIAL)).size == 1
