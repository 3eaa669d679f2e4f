"""Threads that share the blocks of data cases among them: whoever walks through blocks says `each`, and only
who asks for a whole sweep says how many threads there are.

    with workers.threads(2):
        parts = list(workers.each(function, blocks(n_cases, n_samples)))

Neither the borders of the blocks nor the order of what comes back depends on the number of threads, and BLAS,
whose sums may, uses one in all of them: every number of threads gives the same bits. Where none is open
`each` is Python's `map`.
"""

from collections import deque
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from functools import cache
import os
import sys
from threading import Lock

from ..messages import warn

ALONE = "alone"                        # no pool: blocks are worked on where they are asked for
AHEAD = 2                              # blocks per thread that may be under way or wait to be fetched
ONE_THREAD = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


class ThreadsWarning(UserWarning):
    """Several threads were asked for, and there is one: the message names cause and cure."""


_open = ContextVar("open", default=None)  # None, ALONE, or the pool and how many blocks may be under way


@contextmanager
def threads(n_jobs):
    """For as long as the context lasts, what goes through `each` is shared by n_jobs threads, -1: as many as
    there are cores for the process. BLAS is held at one thread, and set back at the end.

    None changes nothing, nor does a context within another: the outermost decides. One thread is the one that
    is there already; so it is, with a `ThreadsWarning`, where BLAS cannot be held, without threadpoolctl and
    where the environment does not say one thread, and where the platform has no threads. What `each` gives is
    fetched within the context, and a generator that yields within it leaves it open for whoever asks.
    """
    if n_jobs is None or _open.get() is not None:
        yield
        return
    with _BLAS.at_one_thread() as held:
        asked, n_jobs = n_jobs, _cores() if n_jobs == -1 else n_jobs
        pool, obstacle = None, _obstacle(held)
        if n_jobs > 1 and obstacle is None:
            from concurrent.futures import ThreadPoolExecutor  # not at import teachvae

            pool = ThreadPoolExecutor(n_jobs, "teachvae", _BLAS.limit)
        elif n_jobs > 1:
            warn(f"n_jobs={asked} asks for {n_jobs} threads, and there is one: {obstacle}", ThreadsWarning)
        token = _open.set(ALONE if pool is None else (pool, AHEAD * n_jobs))
        try:
            yield
        finally:
            _open.reset(token)
            if pool is not None:
                pool.shutdown(cancel_futures=True)


def each(function, blocks):
    """function(block) of every block, in the order of the blocks, as they are fetched: an iterator.

    The threads run no further ahead of what is fetched than a few blocks. An exception is that of the first
    block that has one. Inside a thread all is done in that thread. `function` must leave alone what another
    block may see: noise is drawn before, sums are taken of what comes back, warnings are given there.
    """
    if _open.get() in (None, ALONE) or len(blocks) < 2:
        return map(function, blocks)
    return _shared(*_open.get(), function, blocks)


def _shared(pool, ahead, function, blocks):
    under_way = deque()
    try:
        for block in blocks:
            if len(under_way) == ahead:
                yield under_way.popleft().result()
            # What NumPy is to do about an overflow belongs to the caller's context.
            under_way.append(pool.submit(copy_context().run, _alone, function, block))
        while under_way:
            yield under_way.popleft().result()
    finally:
        for future in under_way:                                   # after an exception nothing may go on
            if not future.cancel():
                future.exception()


def _alone(function, block):
    _open.set(ALONE)
    return function(block)


def _cores():
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Blas:
    """BLAS's number of threads. OpenBLAS' belongs to the process, and threadpoolctl lets only one thread
    change it: of several contexts at once the first to come sets it, the last to go sets it back.
    """

    def __init__(self):
        self.lock, self.contexts, self.before = Lock(), 0, None

    @contextmanager
    def at_one_thread(self):
        """A context in which BLAS uses one thread; whether it is known to."""
        with self.lock:
            if not self.contexts:
                self.before = self.limit()
            self.contexts += 1
            held = _one_thread()
        try:
            yield held
        finally:
            with self.lock:
                self.contexts -= 1
                if not self.contexts and self.before is not None:
                    _hand_over()
                    self.before.restore_original_limits()
                    _hand_over()

    @staticmethod
    def limit():
        """Set BLAS to one thread, of this thread's calls where the library counts by thread."""
        controller = blas_controller()
        return None if controller is None else controller.limit(limits=1, user_api="blas")


_BLAS = _Blas()


@cache
def blas_controller():
    """threadpoolctl's controller of the BLAS libraries, or None where it is not installed. To find them takes
    50 times as long as to set them.
    """
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    return ThreadpoolController().select(user_api="blas")


def _one_thread():
    """Whether BLAS is known to use one thread."""
    controller = blas_controller()
    libraries = [] if controller is None else controller.lib_controllers
    if libraries:
        return all(library.num_threads == 1 for library in libraries)
    return any(os.environ.get(name) == "1" for name in ONE_THREAD)


def _obstacle(held):
    """Why there can be no threads, and what helps, in words, or None; held: whether BLAS is held at one."""
    if sys.platform in ("emscripten", "wasi"):
        return f"the platform {sys.platform} has no more; n_jobs=1 is as fast"
    if held:
        return None
    controller = blas_controller()
    if controller is not None and controller.lib_controllers:
        return "another thread of this program holds BLAS at several; call again when it does not"
    missing = "threadpoolctl is not installed" if controller is None else "threadpoolctl finds no BLAS here"
    cure = "pip install 'teachvae[fast]', or " if controller is None else ""
    return (
        f"{missing}, so that BLAS is not known to use one in each; {cure}set OPENBLAS_NUM_THREADS=1 (another "
        f"BLAS: {', '.join(ONE_THREAD[1:])}) before Python starts"
    )


def _hand_over():
    """Let another thread change OpenBLAS' number of threads."""
    for library in blas_controller().lib_controllers:
        if hasattr(library, "clear_controlling_thread"):
            library.clear_controlling_thread(force=True)
