"""`teachvae doctor` says what is there, what is missing and what is broken, and how that is mended."""

import shutil
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import fake_gpu
import numpy as np
import pytest

from teachvae import cli
from teachvae.arrays import cuda, doctor

OPTIONAL = {"Numba": "numba", "threadpoolctl": "threadpoolctl", "MPI": "mpi4py", "CuPy": "cupy"}
CURES = {
    "Numba": "pip install 'teachvae[fast]'",
    "threadpoolctl": "pip install 'teachvae[fast]'",
    "MPI": "pip install 'teachvae[mpi]'",
    "CuPy": "pip install 'teachvae[gpu]'",
}


@pytest.fixture
def nothing(monkeypatch):
    """A machine on which nothing but NumPy is installed."""
    for module in OPTIONAL.values():
        monkeypatch.setitem(sys.modules, module, None)
    return monkeypatch


def findings():
    return {finding.part: finding for finding in doctor.examine()}


def test_what_is_missing_is_named_with_its_cure_and_is_no_failure(nothing, capsys):
    found = findings()
    assert list(found) == ["Python", "NumPy", "BLAS", "SIMD", *OPTIONAL]
    for part, finding in found.items():
        assert finding.state == (doctor.MISSING if part in OPTIONAL else doctor.OK)
        assert CURES.get(part, "") in finding.cure and bool(finding.cure) == (part in OPTIONAL)
    assert cli.main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["part", "state", "found", "cure"] and set(lines[1]) == {"-"}
    assert [line.split()[0] for line in lines[2:]] == list(found)
    column = lines[0].index("found")
    assert all(line[column - 1] == " " != line[column] for line in [lines[0], *lines[2:]])


def test_what_numpy_is_made_of_is_told(nothing):
    found = findings()
    assert found["Python"].found.startswith(sys.version.split()[0])
    assert found["NumPy"].found == f"{np.__version__}: elementwise, product, Cholesky, draw tried"
    nothing.setenv("OMP_NUM_THREADS", "7")
    assert "threads unknown" in doctor.threads() and "OMP_NUM_THREADS=7" in doctor.threads()
    pools = [{"user_api": "blas", "num_threads": n} for n in (3, 3, 2)]
    pools.append({"user_api": "openmp", "num_threads": 9})
    nothing.setitem(sys.modules, "threadpoolctl", SimpleNamespace(threadpool_info=lambda: pools))
    assert doctor.threads().startswith("2 and 3 thread(s), ")
    built = np.show_config(mode="dicts")
    for extension in built["SIMD Extensions"].get("found", []):
        assert extension in doctor.simd()
    for blas, said in ({"name": "blas", "version": "0.3.26"}, "blas 0.3.26"), ({"name": "blas"}, "blas"):
        nothing.setattr(np, "show_config", lambda mode, blas=blas: {"Build Dependencies": {"blas": blas}})
        assert doctor.blas() == said                               # Pyodide's NumPy knows no version


def module(name, **contents):
    made = ModuleType(name)
    vars(made).update(contents)
    return made


@pytest.mark.parametrize("part", ["Numba", "threadpoolctl"])
def test_what_is_installed_is_told_with_its_version(part, nothing):
    nothing.setitem(sys.modules, OPTIONAL[part], module(OPTIONAL[part], __version__="7.8.9"))
    nothing.setattr(doctor, "form", lambda: "as written")
    nothing.setattr(doctor, "compiler", lambda: None)
    found = "7.8.9; formulas: as written" if part == "Numba" else "7.8.9"
    assert findings()[part] == (part, doctor.OK, found, "")


@pytest.mark.parametrize("error", [
    ImportError("Numba needs NumPy 1.26 or less\nsecond line"), OSError("libcudart.so.12: no such file"),
    ModuleNotFoundError("No module named 'llvmlite'", name="llvmlite"), RuntimeError(),
])
@pytest.mark.parametrize("part", OPTIONAL)
def test_what_cannot_be_imported_is_broken(part, error, nothing, capsys):
    """Installed, and of no use: that is a failure, with the cause."""
    plain = doctor.import_module

    def import_module(name):
        if name == OPTIONAL[part]:
            raise error
        return plain(name)

    nothing.setattr(doctor, "import_module", import_module)
    finding = findings()[part]
    assert finding.state == doctor.BROKEN and CURES[part] in finding.cure
    assert type(error).__name__ in finding.found and str(error).partition("\n")[0] in finding.found
    assert "second line" not in finding.found
    assert cli.main(["doctor"]) == 1 and "BROKEN" in capsys.readouterr().out


@pytest.fixture
def card(nothing):
    """A machine with a card, on which the kernel of softplus does what softplus does."""
    def softplus(x):
        return fake_gpu.ndarray(np.logaddexp(0, x.get()))

    fake_gpu.install(nothing)
    nothing.setattr(sys.modules["cupy"], "ElementwiseKernel", lambda *_: softplus, raising=False)
    return nothing


def test_a_card_that_works(card):
    state, found = findings()["CuPy"][1:3]
    assert state == doctor.OK
    assert found.endswith("elementwise, product, Cholesky, draw, compiled formula tried")


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler, cc, to read a kernel's source with")
@pytest.mark.parametrize("log1p, said", [
    ("log1p({})", "compiled formula tried"),
    ("log({})", "compiled formula failed (wrong numbers)"),
    ("no_such_function({})", "compiled formula failed (CalledProcessError"),
])
def test_the_formula_that_is_tried_is_the_package_s_own(log1p, said, card, tmp_path):
    """Its source is read by the machine's own compiler; another source gives other numbers, or none."""
    def kernel(*texts):
        run = fake_gpu.Cards(tmp_path).ElementwiseKernel(*texts)
        return lambda *arrays: fake_gpu.ndarray(run(*(a.get() for a in arrays)))

    card.setattr(sys.modules["cupy"], "ElementwiseKernel", kernel)
    card.setitem(cuda.FUNCTIONS, "log1p", log1p)
    assert said in findings()["CuPy"].found


def fails(*arguments, **options):
    raise RuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected\nsecond line")


@pytest.mark.parametrize("trial, name, broken, cause", [
    ("elementwise", "exp", fails, "cudaErrorNoDevice"),
    ("elementwise", "exp", lambda a: a, "wrong numbers"),
    ("product", "asarray", lambda a: fake_gpu.ndarray(np.eye(2)), "wrong numbers"),
    ("Cholesky", "linalg", SimpleNamespace(cholesky=lambda a: a * float("nan")), "wrong numbers"),
    ("Cholesky", "linalg", SimpleNamespace(), "AttributeError"),
    ("draw", "random", SimpleNamespace(default_rng=fails), "cudaErrorNoDevice"),
    ("draw", "random", SimpleNamespace(default_rng=lambda s: SimpleNamespace(random=np.ones)), "wrong"),
    ("compiled formula", "ElementwiseKernel", fails, "cudaErrorNoDevice"),
    ("compiled formula", "ElementwiseKernel", lambda *_: lambda x: x, "wrong numbers"),
])
def test_a_card_that_fails_a_trial(trial, name, broken, cause, card, capsys):
    card.setattr(sys.modules["cupy"], name, broken)
    finding = findings()["CuPy"]
    assert finding.state == doctor.BROKEN and "nvidia-smi" in finding.cure
    assert "second line" not in finding.found
    failed = [part.partition(" failed (")[0] for part in finding.found.split("; ") if " failed (" in part]
    told = {name for name in doctor.ON_A_GPU if name in ", ".join(failed).split(": ")[-1].split(", ")}
    assert trial in told and cause in finding.found
    if name != "asarray":                                          # which all of them need
        assert told == {trial}
    assert cli.main(["doctor"]) == 1


def test_a_numpy_that_computes_wrong_numbers(nothing):
    nothing.setattr(np.linalg, "cholesky", lambda a: a)
    finding = doctor.numpy_()
    assert finding.state == doctor.BROKEN and "Cholesky failed (wrong numbers)" in finding.found


@pytest.mark.parametrize("code, state, found", [
    ("print('4.1.2, MPICH 5')", "ok", "mpi4py 4.1.2, MPICH 5"),
    ("raise RuntimeError('cannot load MPI library')", "BROKEN", "RuntimeError: cannot load MPI library"),
    ("import os; os.abort()", "BROKEN", "status"),
])
def test_mpi_is_tried_in_a_process_of_its_own(code, state, found, nothing):
    nothing.setitem(sys.modules, "mpi4py", module("mpi4py", __version__="4.1.2"))
    nothing.setattr(doctor, "MPI_TRIAL", code)
    finding = doctor.mpi()
    assert finding.state == state and found in finding.found
    assert bool(finding.cure) == (state == doctor.BROKEN)


def test_an_mpi_that_hangs_is_broken(nothing):
    nothing.setitem(sys.modules, "mpi4py", module("mpi4py", __version__="4.1.2"))

    def run(command, timeout, **options):
        raise subprocess.TimeoutExpired(command, timeout)

    nothing.setattr(doctor.subprocess, "run", run)
    assert doctor.mpi().state == doctor.BROKEN


def test_the_mpi_that_is_here_adds_ranks():
    pytest.importorskip("mpi4py", reason="mpi4py is not installed (pip install 'teachvae[mpi]')")
    assert doctor.mpi().state == doctor.OK, doctor.mpi()


def test_under_mpiexec_no_job_is_started_within_the_job(nothing):
    nothing.setitem(sys.modules, "mpi4py", module("mpi4py", __version__="4.1"))
    nothing.setenv("PMI_RANK", "0")
    nothing.setattr(doctor.subprocess, "run", None)
    state, found = findings()["MPI"][1:3]
    assert state == doctor.OK and found.startswith("mpi4py 4.1; this is a rank")


@pytest.mark.parametrize("runs, how", [(True, "compiled anew in every process"), (False, "plain NumPy")])
def test_formulas_that_are_not_kept_are_told(runs, how, nothing):
    nothing.setitem(sys.modules, "numba", module("numba", __version__="7.8.9"))
    nothing.setattr(doctor, "compiler", lambda: SimpleNamespace(failures={"exp": "RuntimeError: no locator"}))
    nothing.setattr(doctor.exp, "compiled", lambda x: x if runs else None, raising=False)
    finding = findings()["Numba"]
    assert finding.state == doctor.BROKEN and "NUMBA_CACHE_DIR" in finding.cure
    assert finding.found == f"7.8.9; formulas: {how} (RuntimeError: no locator)"
