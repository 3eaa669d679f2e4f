"""The suite, or a part of it, in a copy of the sources, up to the first test that fails.

`first_failure` runs it in a process that is forked from one which has loaded what the tests need, but not the
package: a third of the time of a new one. Where there is no fork, a new one it is.
"""

import multiprocessing
import os
from pathlib import Path
import signal
import sys

OPTIONS = ["-x", "-q", "--tb=short", "-p", "no:cacheprovider"]
NEEDED = ["pytest", "scipy.stats", "scipy.optimize", "scipy.integrate", "array_api_strict", "sklearn.base"]

FORKS = "forkserver" in multiprocessing.get_all_start_methods()
PROCESSES = multiprocessing.get_context("forkserver" if FORKS else "spawn")
if FORKS:
    PROCESSES.set_forkserver_preload(NEEDED)


class FirstFailure:
    """A plugin of pytest that keeps of the first report of a failure, of a test or of a file that cannot be
    read, the test, None where there was none, and what it said.
    """

    def __init__(self):
        self.test, self.said = None, ""

    def pytest_runtest_logreport(self, report):
        self._keep(report)

    def pytest_collectreport(self, report):
        self._keep(report)

    def _keep(self, report):
        if report.failed and self.test is None:
            crash = getattr(report.longrepr, "reprcrash", None)
            self.test, self.said = report.nodeid, str(crash.message if crash else report.longrepr)


def first_failure(copy, original, tests, seconds):
    """(test, said) of the first of the tests that fails in the folder `copy` of the tree `original`, (None,
    "") where none does. Raises TimeoutError after so many seconds, RuntimeError where they could not be run.
    """
    ours, theirs = PROCESSES.Pipe(duplex=False)
    log = Path(copy).parent / "log"
    process = PROCESSES.Process(target=_run, args=(str(copy), str(original), str(log), tests, theirs))
    process.start()
    theirs.close()
    try:
        if not ours.poll(seconds):
            raise TimeoutError(f"no end in {seconds} s")
        return ours.recv()
    except EOFError:
        printed = log.read_text(encoding="utf-8", errors="replace")
        raise RuntimeError(f"the tests did not run: {' '.join(tests)}\n{printed[-3000:]}") from None
    finally:
        _end(process)


def _end(process):
    """End a process, with all that it has started."""
    process.join(5)
    if process.is_alive():
        if FORKS:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.join()


def _run(copy, original, log, tests, answers):
    """What the process does: (test, said) goes into the pipe `answers`, what is printed into the file log."""
    if FORKS:
        os.setsid()
    with open(log, "wb") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    os.chdir(copy)
    sys.path[:] = [copy, *(path for path in sys.path if Path(path or ".").resolve() != Path(original))]
    # What was compiled from other sources, or another copy of the package, would mask the fault.
    sys.dont_write_bytecode = True
    os.environ |= {"PYTHONPATH": copy, "PYTHONDONTWRITEBYTECODE": "1",
                   "NUMBA_CACHE_DIR": str(Path(copy).parent / "numba")}
    import pytest

    import teachvae

    if Path(teachvae.__file__).parents[1] != Path(copy):
        raise SystemExit(f"the package that was imported is {teachvae.__file__}, not the copy in {copy}")
    first = FirstFailure()
    code = pytest.main([*OPTIONS, *tests], plugins=[first])
    if code != 0 and first.test is None:
        raise SystemExit(f"pytest ended with {code!r} and no test failed")
    answers.send((first.test, first.said))
