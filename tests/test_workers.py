"""Threads over blocks of data cases: the same bits from any number of them, and nothing left behind."""

from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
import functools
import os
from pathlib import Path
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from teachvae import VAE, FactorAnalysis, VariationalEM, ais, cli, datasets, infer, iwae
from teachvae.arrays import rows, workers
from teachvae.arrays.rows import slices
from teachvae.comparison import compare
from teachvae.evaluation import gaps as gaps_module, grid as grid_module, nlml as nlml_module

pytestmark = pytest.mark.short                                   # most fits here end early on purpose

N, D = 70, 4
COUNTS = (1, 2, 3)
BLOCKS = slices(40, 3)


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    before = threading.active_count(), blas_threads()
    yield
    assert (threading.active_count(), blas_threads()) == before


@pytest.fixture
def blas_at_two(monkeypatch):
    """BLAS with two threads, whatever the environment says, so that one is a change."""
    controller = workers.blas_controller()
    with controller.limit(limits=2, user_api="blas"):
        if blas_threads() != {2}:
            pytest.skip("this BLAS has no second thread")
        yield


def blas_threads():
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def thread(_):
    return threading.get_ident()


# ---- each ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_jobs", [None, *COUNTS, -1])
def test_results_come_in_the_order_of_the_blocks(n_jobs):
    def late(block):
        time.sleep(0.002 * (block.start % 4))                      # not in the order in which they began
        return block.start

    with workers.threads(n_jobs):
        assert list(workers.each(late, BLOCKS)) == [block.start for block in BLOCKS]
        assert list(workers.each(late, [])) == []


def test_blocks_are_shared():
    both = threading.Barrier(2, timeout=10)                        # passed by two at once, or not at all
    with workers.threads(2):
        assert len(set(workers.each(lambda _: (both.wait(), thread(_))[1], [0, 1]))) == 2


def test_a_single_block_stays_where_it_is_asked_for():
    with workers.threads(2):
        assert list(workers.each(thread, [0])) == [threading.get_ident()]


def test_blocks_within_blocks_stay_in_their_thread():
    def inner(_):
        return thread(_), set(workers.each(thread, range(5)))

    with workers.threads(2):
        for own, below in workers.each(inner, range(4)):
            assert below == {own} != {threading.get_ident()}


def test_the_outermost_context_decides():
    with workers.threads(1), workers.threads(3):
        assert set(workers.each(thread, range(6))) == {threading.get_ident()}


def test_threads_run_no_further_ahead_than_a_few_blocks():
    begun = []
    with workers.threads(2):
        results = workers.each(begun.append, range(100))
        next(results)
        time.sleep(0.05)
        assert 2 <= len(begun) <= 2 * workers.AHEAD + 1
        results.close()
        assert len(begun) <= 2 * workers.AHEAD + 1


def test_what_numpy_is_to_do_about_an_overflow_holds_in_every_thread():
    def overflow(_):
        return np.exp(np.array([1e4]))[0]

    with workers.threads(2):
        with np.errstate(over="raise"), pytest.raises(FloatingPointError):
            list(workers.each(overflow, range(4)))
        with np.errstate(over="ignore"):
            assert list(workers.each(overflow, range(4))) == [np.inf] * 4


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_one_thread_makes_no_pool(n_jobs, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("a pool")

    monkeypatch.setattr(futures, "ThreadPoolExecutor", refuse)
    if n_jobs > 1:
        with pytest.raises(RuntimeError, match="a pool"), workers.threads(n_jobs):
            pass
        return
    before = threading.active_count()
    with workers.threads(n_jobs):
        counts = list(workers.each(lambda _: (threading.active_count(), thread(_)), range(5)))
    assert counts == [(before, threading.get_ident())] * 5


def test_a_platform_without_threads_has_one(monkeypatch):
    monkeypatch.setattr(sys, "platform", "emscripten")
    with pytest.warns(workers.ThreadsWarning, match="emscripten has no more"), workers.threads(2):
        assert set(workers.each(thread, range(5))) == {threading.get_ident()}


# ---- exceptions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_the_exception_is_that_of_the_first_block_that_has_one(error):
    begun = []

    def fail(block):
        begun.append(block)
        time.sleep(0.02 if block == 1 else 0.001)
        if block in (1, 2, 5):
            raise error(f"block {block}")

    with workers.threads(3):
        with pytest.raises(error, match="block 1"):
            list(workers.each(fail, range(50)))
        assert len(begun) < 15
        assert list(workers.each(abs, [-1, -2])) == [1, 2]


def test_nothing_goes_on_behind_an_exception():
    other, ended = threading.Event(), []

    def fail(block):
        if block == 0:
            other.wait(10)
            raise ValueError("block 0")
        other.set()
        time.sleep(0.05)
        ended.append(block)

    with workers.threads(2):
        with pytest.raises(ValueError, match="block 0"):
            list(workers.each(fail, range(2)))
        assert ended == [1]


def test_an_interrupt_between_blocks_ends_all(blas_at_two):
    with pytest.raises(KeyboardInterrupt), workers.threads(2):
        for _ in workers.each(thread, range(50)):
            raise KeyboardInterrupt


# ---- BLAS ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_jobs", COUNTS)
def test_blas_has_one_thread_inside_and_its_own_number_after(n_jobs, blas_at_two):
    with workers.threads(n_jobs):
        assert blas_threads() == {1}
        assert all(seen == {1} for seen in workers.each(lambda _: blas_threads(), range(4)))
    assert blas_threads() == {2}
    with pytest.raises(ValueError, match="away"), workers.threads(n_jobs):
        list(workers.each(lambda _: int("away"), range(4)))
    assert blas_threads() == {2}


def test_none_touches_nothing(blas_at_two):
    with workers.threads(None):
        assert blas_threads() == {2}
        assert set(workers.each(thread, range(4))) == {threading.get_ident()}


def test_contexts_of_several_threads_keep_blas_at_one_until_the_last_has_gone(blas_at_two):
    inside, left = threading.Event(), threading.Event()
    seen = []

    def other():
        with workers.threads(2):
            inside.set()
            left.wait(10)
            seen.append(blas_threads())

    with workers.threads(2):
        second = threading.Thread(target=other)
        second.start()
        inside.wait(10)
    assert blas_threads() == {1}, "the other context is still open"
    left.set()
    second.join()
    assert seen == [{1}] and blas_threads() == {2}


def test_where_another_thread_holds_blas_at_two_there_is_no_pool(monkeypatch):
    monkeypatch.setattr(futures, "ThreadPoolExecutor", None)
    ready, done = threading.Event(), threading.Event()

    def holder():
        with workers.blas_controller().limit(limits=2, user_api="blas"):
            ready.set()
            done.wait(10)

    other = threading.Thread(target=holder)
    other.start()
    ready.wait(10)
    try:
        with pytest.warns(workers.ThreadsWarning, match="another thread of this program"), workers.threads(2):
            assert set(workers.each(thread, range(4))) == {threading.get_ident()}
    finally:
        done.set()
        other.join()


@pytest.fixture
def no_threadpoolctl(monkeypatch):
    """No threadpoolctl, and an environment that says nothing of BLAS."""
    import scipy.linalg  # noqa: F401                              # has its own, and asks when it is loaded

    monkeypatch.setitem(sys.modules, "threadpoolctl", None)        # an import of it fails
    for name in workers.ONE_THREAD:
        monkeypatch.delenv(name, raising=False)
    workers.blas_controller.cache_clear()
    yield monkeypatch
    workers.blas_controller.cache_clear()


@pytest.mark.parametrize("name", workers.ONE_THREAD)
def test_without_threadpoolctl_there_are_threads_where_the_environment_says_one(name, no_threadpoolctl):
    no_threadpoolctl.setenv(name, "1")
    with workers.threads(2):
        assert threading.get_ident() not in set(workers.each(thread, range(4)))


@pytest.mark.parametrize("n_jobs", [2, -1])
@pytest.mark.parametrize("said", [{}, {"OMP_NUM_THREADS": "4"}])
def test_threads_that_cannot_be_had_are_one_and_a_warning(said, n_jobs, no_threadpoolctl):
    no_threadpoolctl.setattr(workers, "_cores", lambda: 2)
    for name, value in said.items():
        no_threadpoolctl.setenv(name, value)
    with pytest.warns(workers.ThreadsWarning) as caught:
        line = sys._getframe().f_lineno + 1
        with workers.threads(n_jobs), workers.threads(2):
            assert set(workers.each(thread, range(4))) == {threading.get_ident()}
    assert [(warning.filename, warning.lineno) for warning in caught] == [(__file__, line)]
    text = str(caught[0].message)
    assert text.startswith(f"n_jobs={n_jobs} asks for 2 threads, and there is one: threadpoolctl is not")
    assert "pip install 'teachvae[fast]'" in text and all(name in text for name in workers.ONE_THREAD)


def test_where_threadpoolctl_knows_no_blas_its_installation_is_no_cure(monkeypatch):
    for name in workers.ONE_THREAD:
        monkeypatch.delenv(name, raising=False)
    controller = workers.blas_controller()
    monkeypatch.setattr(controller, "lib_controllers", [])
    with pytest.warns(workers.ThreadsWarning, match="threadpoolctl finds no BLAS here") as caught:
        with workers.threads(2):
            assert set(workers.each(thread, range(4))) == {threading.get_ident()}
    assert "pip" not in str(caught[0].message)


def test_who_asks_for_one_thread_or_for_none_is_told_nothing(no_threadpoolctl):
    no_threadpoolctl.setattr(workers, "_cores", lambda: 1)
    for n_jobs in (None, 1, -1):
        with workers.threads(n_jobs):
            assert set(workers.each(thread, range(4))) == {threading.get_ident()}


def test_an_estimator_warns_once_per_call_at_the_line_that_asked(no_threadpoolctl):
    vae = VAE(2, hidden=(4,), epochs=1, n_jobs=2).fit(DATA[0])     # has no blocks, and is told nothing
    with pytest.warns(workers.ThreadsWarning) as caught:
        line = sys._getframe().f_lineno + 1
        vae.gaps(DATA[0][:5])
    found = [(w.filename, w.lineno) for w in caught if w.category is workers.ThreadsWarning]
    assert found == [(__file__, line)]


def test_a_warning_that_is_an_error_leaves_no_thread_and_no_context(no_threadpoolctl):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(workers.ThreadsWarning), workers.threads(2):
            pass
    assert workers._open.get() is None and workers._BLAS.contexts == 0


# ---- the same bits ---------------------------------------------------------------------------------


def made():
    """Data x (N, D), and x with holes."""
    rng = np.random.default_rng(3)
    z = rng.normal(size=(N, 2))
    x = np.tanh(z @ rng.normal(size=(2, D))) + 0.1 * rng.normal(size=(N, D))
    return x, np.where(rng.random(x.shape) < 0.1, np.nan, x)


DATA = made()


@pytest.fixture
def many_blocks(monkeypatch):
    """Blocks, of cases, of rows and of pairs, that are small beside small data."""
    for room, name, size in ((rows, "CASES", 40), (rows, "ROWS", 24), (infer, "SEARCH_POINTS", 64),
                             (grid_module, "PAIRS", 2**11), (gaps_module, "DRAWS", 16),
                             (nlml_module, "CHUNK", 64), (gaps_module, "FRESH", 64), (iwae, "PAIRS", 512)):
        monkeypatch.setattr(room, name, size)


MODELS = {
    "variational EM": lambda n: VariationalEM(1, hidden=(4,), epochs=3, m_steps=1, n_jobs=n),
    "VAE": lambda n: VAE(2, hidden=(4,), epochs=3, n_jobs=n),
    "VAE, K = 4": lambda n: VAE(4, hidden=(3,), epochs=2, n_jobs=n),
    "VAE, linear, L-BFGS": lambda n: VAE(1, hidden=(), optimizer="lbfgs", nodes="sigma", epochs=5, n_jobs=n),
}
QUESTIONS = {
    "fit": lambda m, x, _: [getattr(m, "phi_", m.q_path_), m.q_path_, *m.theta_["decoder"][0].values()],
    "bound": lambda m, x, _: m.bound(x),
    "transform": lambda m, x, _: m.transform(x),
    "decode": lambda m, x, _: m.reconstruct(x),
    "impute": lambda m, x, holes: m.impute(holes[:20]),
    "imputations": lambda m, x, holes: m.impute(holes[:20], 3, n_candidates=30, random_state=0),
    "draw": lambda m, x, _: m.draw(x, 3, "importance", n_candidates=30, random_state=0),
    "denoise": lambda m, x, _: m.denoise(x[:20], 0.01),
    "infer": lambda m, x, _: m.infer(x[:30]) if hasattr(m, "infer") else m.refine(x[:30], 2),
    "importance": lambda m, x, _: m.nlml(x, "importance", n_samples=70),
    "prior": lambda m, x, _: m.nlml(x, "prior", n_samples=150),
    "laplace": lambda m, x, _: m.nlml(x, "laplace"),
    "gaps": lambda m, x, _: m.gaps(x[:12]),
    "grid": lambda m, x, _: m.nlml(x[:15], "grid"),
    "kl_to_posterior": lambda m, x, _: m.kl_to_posterior(x[:3]),
}
LEFT_OUT = {
    "VAE, K = 4": {"grid", "kl_to_posterior", "denoise", "impute", "imputations"},
    "VAE, linear, L-BFGS": {"grid", "gaps"},
}


def arrays(answer):
    """All arrays of an answer."""
    if isinstance(answer, (list, tuple)):
        return [array for part in answer for array in arrays(part)]
    return [answer] if isinstance(answer, np.ndarray) else []


@functools.cache
def fitted(name, n_jobs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return MODELS[name](n_jobs).fit(DATA[0])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name, question", [
    (name, question) for name in MODELS for question in QUESTIONS if question not in LEFT_OUT.get(name, ())
])
def test_every_number_of_threads_gives_the_same_bits(name, question, many_blocks, monkeypatch):
    shares, submit = [], ThreadPoolExecutor.submit
    monkeypatch.setattr(ThreadPoolExecutor, "submit", lambda *a, **k: (shares.append(a), submit(*a, **k))[1])
    one, *others = (arrays(QUESTIONS[question](fitted(name, n), *DATA)) for n in COUNTS)
    assert one
    for other in others:
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
    if question != "fit" and "linear" not in name:                 # a closed form has no blocks
        assert shares, "no thread was asked"


@pytest.mark.parametrize("road", [
    lambda *given: ais.ais(*given[:2], *given[3:], n_chains=8, n_temperatures=6),
    lambda *given: iwae.iwae(*given, sizes=(1, 5), n_samples=100),
], ids=["ais", "iwae"])
def test_what_is_asked_of_no_estimator_has_the_same_bits(road, many_blocks):
    vae = fitted("VAE", None)
    x, phi = vae.model_input(DATA[0]), vae.encode(DATA[0])

    def answer(n_jobs):
        with workers.threads(n_jobs):
            return arrays(road(vae.model_, vae.theta_, phi, x, np.random.default_rng(0)))

    for one, *others in zip(*map(answer, COUNTS), strict=True):
        for other in others:
            np.testing.assert_array_equal(one, other)


@pytest.mark.filterwarnings("ignore")
def test_none_and_one_differ_by_rounding_at_the_most(many_blocks):
    for question in ("bound", "transform", "grid"):
        none, one = (arrays(QUESTIONS[question](fitted("VAE", n), *DATA)) for n in (None, 1))
        for a, b in zip(none, one, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


# ---- at the doors ----------------------------------------------------------------------------------


@pytest.mark.parametrize("n_jobs", [0, -2, 1.5, True, "2"])
def test_a_number_of_threads_that_is_none_is_refused_in_words(n_jobs):
    words = f"n_jobs must be a number of threads, an integer >= 1, -1 .* got {n_jobs!r}"
    for estimator in (VAE(1, n_jobs=n_jobs), VariationalEM(1, n_jobs=n_jobs)):
        with pytest.raises(ValueError, match=words):
            estimator.fit(DATA[0])
    with pytest.raises(ValueError, match=words):
        compare.run(datasets.linear_gaussian(n_cases=20, n_visible=3, n_latent=1), n_jobs=n_jobs)
    with pytest.raises(ValueError, match=words):
        fitted("VAE", 1).set_params(n_jobs=n_jobs).bound(DATA[0])
    fitted.cache_clear()


@pytest.mark.parametrize("jobs", ["0", "-2", "1.5", "two"])
def test_so_it_is_on_the_command_line(jobs, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["compare", "--jobs", jobs])
    assert stopped.value.code == 2
    assert f"expected an integer >= 1, or -1 for every core, got {jobs!r}" in capsys.readouterr().err


def test_all_cores_are_those_that_the_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 9}, raising=False)
    with workers.threads(-1):
        both = threading.Barrier(3, timeout=10)
        assert len(set(workers.each(lambda _: (both.wait(), thread(_))[1], range(3)))) == 3


def test_factor_analysis_has_no_blocks_of_its_own_but_takes_part_in_an_open_pool():
    fa = FactorAnalysis(2).fit(DATA[0])
    assert "n_jobs" not in fa.get_params()
    alone = fa.nlml(DATA[0], "importance", n_samples=100).values
    with workers.threads(2):
        np.testing.assert_allclose(fa.nlml(DATA[0], "importance", n_samples=100).values, alone, rtol=1e-9)


def test_progress_is_told_where_fit_was_called():
    told = []

    def progress(*_):
        told.append((threading.get_ident(), list(workers.each(thread, [0]))))

    VariationalEM(1, hidden=(3,), epochs=2, n_jobs=2).fit(DATA[0], progress=progress)
    assert told == [(threading.get_ident(), [threading.get_ident()])] * 2


def test_minibatches_keep_the_threads_that_blas_has(blas_at_two):
    seen = []
    vae = VAE(1, hidden=(3,), epochs=2, n_jobs=2)
    vae.fit(DATA[0], progress=lambda *_: seen.append(blas_threads()))
    assert seen == [{2}] * 2


def test_warnings_come_from_the_line_that_asked():
    vae = VAE(1, hidden=(3,), epochs=1, n_jobs=2).fit(DATA[0])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        vae.nlml(30 * DATA[0], "prior", n_samples=20)
    assert caught and {Path(one.filename).name for one in caught} == {Path(__file__).name}


def test_a_fresh_process_sets_blas_back():
    """Where nothing has set OpenBLAS before, in a process of its own with two threads."""
    code = """
import numpy as np
from threadpoolctl import threadpool_info
from teachvae import VAE
count = lambda: {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}
before = count()
VAE(1, hidden=(3,), epochs=1, n_jobs=2).fit(np.random.default_rng(0).normal(size=(50, 3)))
assert count() == before, (count(), before)
"""
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
