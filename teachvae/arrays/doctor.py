"""What this machine computes with: every part is tried; what is missing or broken is named with its cure."""

from importlib import import_module
import math
import os
import platform
import subprocess
import sys
from typing import NamedTuple

import numpy as np

from . import cuda
from .backend import to_numpy
from .elementwise import compiler, form
from .special import exp, softplus

OK, MISSING, BROKEN = "ok", "missing", "BROKEN"


class Finding(NamedTuple):
    """What is said of one part: its name, `OK`, `MISSING` or `BROKEN`, what was found, and what to do."""

    part: str
    state: str
    found: str
    cure: str = ""


def examine():
    """The `Finding` of every part, a list. What is missing is no failure: nothing but NumPy is needed."""
    return [
        Finding("Python", OK, f"{platform.python_version()}, {platform.system()} {platform.machine()}"),
        numpy_(),
        Finding("BLAS", OK, f"{blas()}, {threads()}"),
        Finding("SIMD", OK, simd()),
        numba(),
        threadpoolctl(),
        mpi(),
        cupy(),
    ]


def numpy_():
    """The `Finding` of NumPy, which is tried."""
    failures = failed_trials(np, TRIALS)
    cure = "install NumPy anew: pip install --force-reinstall numpy" if failures else ""
    return Finding("NumPy", BROKEN if failures else OK, f"{np.__version__}: {tried(failures, TRIALS)}", cure)


def blas():
    """The library of NumPy's products, with its version where NumPy knows it."""
    built = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return " ".join(built[what] for what in ("name", "version") if what in built)


def threads():
    """How many threads that library takes, as far as can be known."""
    try:
        pools = import_module("threadpoolctl").threadpool_info()
        counts = sorted({pool["num_threads"] for pool in pools if pool["user_api"] == "blas"})
    except Exception:                                              # threadpoolctl has a finding of its own
        counts = []
    told = [f"{name}={os.environ[name]}" for name in THREAD_VARIABLES if name in os.environ]
    taken = f"{' and '.join(map(str, counts))} thread(s)" if counts else "threads unknown"
    return ", ".join([taken, *told, f"{os.cpu_count()} cores"])


THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")


def simd():
    """The processor's extensions that NumPy found, and by which it computes tanh of float64."""
    found = np.show_config(mode="dicts").get("SIMD Extensions", {}).get("found", [])
    tanh = np.lib.introspect.opt_func_info(func_name="^tanh$", signature="float64").get("tanh", {})
    way = next((way["current"] for way in tanh.values()), "one number at a time")
    return f"{', '.join(found) or 'none beside the baseline'}; tanh of float64 by {way}"


def numba():
    """The `Finding` of Numba, and in which form large formulas run."""
    there = optional("Numba", "numba", "pip install 'teachvae[fast]'")
    if there.state != OK or compiler() is None:
        return there if there.state != OK else there._replace(found=f"{there.found}; formulas: {form()}")
    runs = exp.compiled(np.ones(4)) is not None                    # one of them, tried
    wrong = compiler().failures.get("exp")
    if wrong is None:
        return there._replace(found=f"{there.found}; formulas: {form()}")
    how = "compiled anew in every process" if runs else "plain NumPy"
    cure = "set NUMBA_CACHE_DIR to a folder that can be written, or empty the one that it names"
    return Finding("Numba", BROKEN, f"{there.found}; formulas: {how} ({wrong})", cure)


def threadpoolctl():
    """The `Finding` of threadpoolctl."""
    return optional("threadpoolctl", "threadpoolctl", "pip install 'teachvae[fast]'")


def optional(part, module, install):
    """The `Finding` of a package that is used where it is installed: its version, if it can be imported."""
    try:
        found = import_module(module)
    except ModuleNotFoundError as error:
        if error.name == module:
            return Finding(part, MISSING, "is not installed", install)
        return Finding(part, BROKEN, said(error), f"install what it needs, or it anew: {install}")
    except Exception as error:
        return Finding(part, BROKEN, said(error), f"install versions that go together: {install}")
    return Finding(part, OK, str(found.__version__))


MPI_TRIAL = """
from mpi4py import MPI
total = MPI.COMM_WORLD.allreduce(1)
assert total == MPI.COMM_WORLD.Get_size()
import mpi4py
print(mpi4py.__version__, " ".join(MPI.Get_library_version().splitlines()[0].strip("\\0").split()), sep=", ")
"""


def mpi():
    """The `Finding` of MPI. It is tried in a process of its own, for a broken one ends the process."""
    install = "pip install 'teachvae[mpi]'"
    there = optional("MPI", "mpi4py", install)
    if there.state != OK:
        return there
    if any(name in os.environ for name in ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK")):
        return there._replace(found=f"mpi4py {there.found}; this is a rank, and no trial is started in a job")
    try:
        done = subprocess.run([sys.executable, "-c", MPI_TRIAL], capture_output=True, text=True, timeout=60)
        lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
        if done.returncode == 0:
            return Finding("MPI", OK, f"mpi4py {lines[-1]}")
        cause = lines[-1] if lines else f"ended with status {done.returncode}"
    except (OSError, subprocess.TimeoutExpired) as error:
        cause = said(error)
    return Finding("MPI", BROKEN, f"mpi4py {there.found}: {cause}", f"install an MPI that fits: {install}")


def cupy():
    """The `Finding` of CuPy, which is tried: that it can be imported says nothing of the GPU."""
    there = optional("CuPy", "cupy", "pip install 'teachvae[gpu]', on a machine with an NVIDIA GPU")
    if there.state != OK:
        return there
    failures = failed_trials(sys.modules["cupy"], ON_A_GPU)
    cure = "see whether nvidia-smi finds the GPU, and CuPy fits the CUDA version; until then backend='numpy'"
    found = f"{there.found}: {tried(failures, ON_A_GPU)}"
    return Finding("CuPy", BROKEN if failures else OK, found, cure if failures else "")


def failed_trials(xp, trials):
    """{name: what went wrong} of the trials {name: function} that the array library `xp` does not stand."""
    failures = {}
    for name, trial in trials.items():
        try:
            if not trial(xp):
                failures[name] = "wrong numbers"
        except Exception as error:
            failures[name] = said(error)
    return failures


def tried(failures, trials):
    """`failed_trials` in words."""
    right = [name for name in trials if name not in failures]
    parts = [f"{', '.join(right)} tried"] if right else []
    for cause in dict.fromkeys(failures.values()):
        names = ", ".join(name for name, other in failures.items() if other == cause)
        parts.append(f"{names} failed ({cause})")
    return "; ".join(parts)


def near(found, expected):
    """Whether an array of any library holds the numbers expected, to 1e-12."""
    return np.allclose(to_numpy(found), expected, rtol=1e-12, atol=1e-12)


def draw(xp):
    """Whether numbers drawn evenly from [0, 1) are that."""
    u = to_numpy(xp.random.default_rng(0).random(1000))
    return bool((u >= 0).all() and (u < 1).all() and abs(u.mean() - 0.5) < 0.1)


def kernel(xp):
    """Whether a formula of the package, compiled to a kernel here and now, gives softplus' numbers."""
    x = [-700.0, -1.0, 0.0, 2.0, 700.0]
    run = cuda.kernel(xp, softplus.formula, "float64", ("array",))
    return near(run(xp.asarray(x)), [max(a, 0) + math.log1p(math.exp(-abs(a))) for a in x])


A = [[4.0, 2.0], [2.0, 3.0]]
TRIALS = {
    "elementwise": lambda xp: near(xp.exp(xp.asarray(A)), [[math.exp(a) for a in row] for row in A]),
    "product": lambda xp: near(xp.asarray(A) @ xp.asarray(A), [[20, 14], [14, 13]]),
    "Cholesky": lambda xp: near(xp.linalg.cholesky(xp.asarray(A)), [[2, 0], [1, math.sqrt(2)]]),
    "draw": draw,
}
ON_A_GPU = {**TRIALS, "compiled formula": kernel}


def said(error):
    """The first line of an error, with its kind."""
    return f"{type(error).__name__}: {error}".splitlines()[0].strip()
