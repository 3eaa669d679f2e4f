"""Every formula in its compiled form against the array code that it is written as, and without a compiler."""

import shutil
import subprocess
import sys
import threading

import fake_gpu
import numpy as np
import pytest

from teachvae import VAE, VariationalEM, datasets, likelihoods
from teachvae.arrays import cuda, elementwise, vectorised
from teachvae.networks import layers, optimizers

assert layers and likelihoods and optimizers                       # all formulas of the package are known
compiled = pytest.mark.skipif(elementwise.compiler() is None, reason=elementwise.form())
CLOSE = {"float64": 1e-14, "float32": 1e-6}
EXTREME = [
    0.0, -0.0, 1e-300, -1e-300, 1e-30, 1e3, -1e3, 1e18, -1e18, np.inf, -np.inf, np.nan, 0.5, -0.5, 20.0,
    -20.0, 88.0, -88.0, -104.0, 700.0, -700.0, -745.0, 710.0,
]
NUMBERS = {"adam": (3, 1e-3, 0.9, 0.999, 1e-8)}                    # Python's numbers, the last arguments


def arguments(name, dtype, rng, size=3000):
    """Random arrays for the formula of this name, extreme numbers in each, and its numbers."""
    formula, numbers = elementwise.FORMULAS[name], NUMBERS.get(name, ())
    count = formula.formula.__code__.co_argcount - 1 - len(numbers)
    spread = rng.normal(size=(count, size)) * 10.0 ** rng.uniform(-6, 2, size=(count, size))
    for row, array in enumerate(spread):
        array[: len(EXTREME)] = np.roll(EXTREME, row)
    if name == "adam":
        spread[3] = np.abs(spread[3])                              # v is a mean of squares
    with np.errstate(over="ignore"):
        return [*spread.astype(dtype), *numbers]


@compiled
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", sorted(elementwise.FORMULAS))
def test_the_compiled_form_is_the_plain_one(name, dtype):
    formula, given = elementwise.FORMULAS[name], arguments(name, dtype, np.random.default_rng(0))
    with np.errstate(all="ignore"):
        plain, fast = formula.plain(*given), formula.compiled(*given)
    assert fast is not None, f"{name} could not be compiled"
    for p, c in zip(*(a if isinstance(a, tuple) else (a,) for a in (plain, fast)), strict=True):
        assert c.dtype == p.dtype == dtype and c.shape == p.shape
        np.testing.assert_array_equal(np.isnan(c), np.isnan(p))
        least = np.finfo(dtype).tiny                               # below it numbers have fewer digits
        np.testing.assert_allclose(c, p, rtol=CLOSE[dtype], atol=least)
        zero = p == 0
        np.testing.assert_array_equal(np.signbit(c[zero]), np.signbit(p[zero]))


def exp(xp, x):
    return xp.exp(x)


def expm1(xp, x):
    return xp.expm1(x)


def log(xp, x):
    return xp.log(x)


def log1p(xp, x):
    return xp.log1p(x)


def tanh(xp, x):
    return xp.tanh(x)


def bounds(xp, x):
    return xp.maximum(x, 1.0), xp.minimum(x, 1.0), xp.where(x > 2, x, 2.0 * x), xp.sqrt(xp.abs(x))


@compiled
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("function", [exp, expm1, log, log1p, tanh, bounds])
def test_the_functions_that_formulas_may_use_are_exact_to_the_last_digits(function, dtype):
    """To three units of the last digit of what NumPy says in more digits, over all of the dtype's range."""
    rng, info = np.random.default_rng(1), np.finfo(dtype)
    sizes = np.exp2(rng.uniform(np.log2(info.tiny), np.log2(info.max), 4000))
    near = rng.normal(size=4000), -rng.random(1000), np.linspace(0.05, 0.4, 4000), 710 * rng.normal(size=2000)
    x = np.concatenate([EXTREME, sizes, -sizes, *near])
    with np.errstate(all="ignore"):
        x = x.astype(dtype)
        exact = function(np, x.astype("longdouble" if dtype == "float64" else "float64"))
        fast = elementwise.Formula(function).compiled(x)
    several = isinstance(exact, tuple)
    for e, c in zip(exact if several else (exact,), fast if several else (fast,), strict=True):
        with np.errstate(all="ignore"):
            e = e.astype(dtype)
        finite = np.isfinite(e)
        np.testing.assert_array_equal(c[~finite], e[~finite])
        units = np.abs(c[finite] - e[finite]) / np.spacing(np.abs(e[finite]))
        assert units.max() <= 3


@pytest.mark.parametrize("name", ["exp", "expm1", "log", "log1p", "tanh"])
def test_they_are_plain_python_too(name):
    for x in (-3.0, -0.25, -0.0, 1e-9, 0.7, 2.0, 30.0):
        with np.errstate(all="ignore"):
            exact = getattr(np, name)(np.float64(x))
            np.testing.assert_allclose(getattr(vectorised, name)(np.float64(x)), exact, rtol=5e-16)


def every_kind(xp, x, same, row, rows, column, half):
    spread = 1 - half
    y = x * same + row
    y = y - spread * rows / (1 + half**2)
    return y * column, xp.where(y > column, y, half * column)


@compiled
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_arrays_are_broadcast_and_numbers_are_weak(dtype):
    rng = np.random.default_rng(2)
    x, same, row, rows, column = (
        rng.normal(size=shape).astype(dtype) for shape in [(3, 4, 5), (3, 4, 5), (5,), (4, 5), (3, 4, 1)]
    )
    formula = elementwise.Formula(every_kind)
    for given in [(x, same, row, rows, column), (x[:, ::2], same[:, ::2], row, rows[::2], column[:, ::2])]:
        plain, fast = formula.plain(*given, 0.1), formula.compiled(*given, 0.1)
        for p, c in zip(plain, fast, strict=True):
            np.testing.assert_array_equal(p, c)


@compiled
def test_only_large_host_arrays_of_one_dtype_are_compiled(monkeypatch):
    formula = elementwise.Formula(every_kind)
    few, many = np.ones(4), np.ones(elementwise.LARGE)
    asked = []
    monkeypatch.setattr(formula, "compiled", lambda *given, **_: asked.append(given[0].size))
    formula(few, few, few, few, few, 0.5)
    assert asked == []
    formula(many, many, many, many, many, 0.5)
    assert asked == [elementwise.LARGE]
    monkeypatch.undo()
    single = many.astype("float32")
    assert formula.compiled(many, single, many, many, many, 0.5) is None
    assert formula.compiled(many, many, np.ones(3), many, many, 0.5) is None
    for dtype in (int, ">f8" if np.little_endian else "<f8"):
        other = np.ones(elementwise.LARGE, dtype=dtype)
        assert formula.compiled(other, other, other, other, other, 0.5) is None
    weak, strong = (elementwise.Formula(tenth)(single, a).dtype for a in (0.1, np.float64(0.1)))
    assert weak == elementwise.Formula(tenth)(single[:3], 0.1).dtype == "float32"
    assert strong == elementwise.Formula(tenth)(single[:3], np.float64(0.1)).dtype == "float64"


def tenth(xp, x, share):
    return share * x


@pytest.mark.parametrize("size", [7, 2 * elementwise.LARGE])
@pytest.mark.parametrize("shape", ["whole", "every second", "Fortran"])
def test_what_is_put_in_place_is_there_whatever_the_memory_is_like(size, shape):
    rng = np.random.default_rng(6)
    p, g = (rng.normal(size=2 * size) for _ in range(2))
    if shape == "Fortran":
        p, g = (np.asfortranarray(a.reshape(2, -1)) for a in (p, g))
    elif shape == "every second":
        p, g = p[::2], g[::2]
    plain = elementwise.Formula(half).plain(p, g)
    elementwise.Formula(half).into((0,), p, g)
    np.testing.assert_array_equal(p, plain)


def half(xp, x, y):
    return 0.5 * (x + y)


def unknown(xp, x):
    return xp.cbrt(x)


@compiled
def test_what_cannot_be_compiled_or_kept_runs_as_it_is_written(monkeypatch):
    x = np.linspace(-1, 1, elementwise.LARGE)
    assert elementwise.Formula(unknown).compiled(x) is None
    np.testing.assert_array_equal(elementwise.Formula(unknown)(x), np.cbrt(x))

    loop = elementwise.compiler()._loop

    def nowhere(formula, dtype, kinds, places, keep):
        if keep:
            raise RuntimeError("cannot cache function: no locator available")
        return loop(formula, dtype, kinds, places, keep)

    monkeypatch.setattr(elementwise.compiler(), "failures", {})
    monkeypatch.setattr(elementwise.compiler(), "_loop", nowhere)
    np.testing.assert_allclose(elementwise.Formula(tanh).compiled(x), np.tanh(x), rtol=1e-14)
    assert "no locator" in elementwise.compiler().failures["tanh"]
    monkeypatch.setattr(elementwise.compiler(), "_loop", lambda *_: 1 / 0)
    assert elementwise.Formula(tanh).compiled(x) is None


CHANGED = """
from pathlib import Path
import linecache, sys
import numpy as np
from teachvae.arrays import elementwise
sys.path.insert(0, {folder!r})
import mine
path = Path({folder!r}) / "mine.py"
path.write_text(path.read_text().replace("2 * x", "3 * x"))
linecache.checkcache()
x = np.ones(elementwise.LARGE)
assert elementwise.Formula(mine.f).compiled(x) is None
assert (elementwise.Formula(mine.f)(x) == 2).all()
"""


@compiled
def test_a_formula_whose_file_was_changed_since_is_the_one_that_was_imported(tmp_path):
    """Who edits a file beside a running notebook would else have another formula in its place."""
    text = "def f(xp, x):\n    return 2 * x\n\n\ndef g(xp, x):\n    return 5 * x\n"
    (tmp_path / "mine.py").write_text(text, encoding="utf-8")
    command = [sys.executable, "-c", CHANGED.format(folder=str(tmp_path))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_without_numba_the_formula_runs_as_it_is_written(monkeypatch):
    monkeypatch.setattr(elementwise, "compiler", lambda: None)
    x = np.linspace(-1, 1, elementwise.LARGE)
    np.testing.assert_array_equal(elementwise.Formula(tanh)(x), np.tanh(x))


PROBE = """
import sys
import numpy as np
from teachvae.arrays import cuda, elementwise, vectorised
from teachvae.arrays.special import tanh
assert "numba" not in sys.modules
x = np.linspace(-1, 1, elementwise.LARGE)
np.testing.assert_array_equal(tanh(x[:-1]), np.tanh(x[:-1]))
assert "numba" not in sys.modules                                  # a short fit does not pay for a compiler
np.testing.assert_array_equal(tanh(x), np.tanh(x))
print(elementwise.form())
"""


@pytest.mark.parametrize("broken, said", [
    ("raise ImportError('no LLVM here')", "Numba cannot be imported (ImportError: no LLVM here)"),
    ("raise SystemError('another Python')", "Numba cannot be imported (SystemError: another Python)"),
])
def test_a_broken_numba_is_no_numba(tmp_path, broken, said):
    (tmp_path / "numba.py").write_text(broken, encoding="utf-8")
    run = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{PROBE}"
    command = [sys.executable, "-W", "error", "-c", run]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and said in done.stdout, done.stderr


@compiled
def test_numba_that_is_told_not_to_compile_does_not(monkeypatch):
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "NUMBA_DISABLE_JIT is set" in done.stdout, done.stderr


# ---- The kernels of a GPU, whose source any compiler of C can read


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler, cc, to read a kernel's source with")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", sorted(elementwise.FORMULAS))
def test_the_source_of_a_gpu_s_kernel_is_the_formula(name, dtype, tmp_path):
    formula, given = elementwise.FORMULAS[name], arguments(name, dtype, np.random.default_rng(3))
    kinds = tuple("number" if isinstance(a, (float, int)) else "array" for a in given)
    kernel = cuda.kernel(fake_gpu.Cards(tmp_path), formula.formula, dtype, kinds)
    with np.errstate(all="ignore"):
        plain, fast = formula.plain(*given), kernel(*given)
    for p, c in zip(*(a if isinstance(a, tuple) else (a,) for a in (plain, fast)), strict=True):
        np.testing.assert_allclose(c, p, rtol=CLOSE[dtype], atol=np.finfo(dtype).tiny)


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler, cc, to read a kernel's source with")
def test_a_kernel_broadcasts_and_knows_every_function(tmp_path):
    rng = np.random.default_rng(5)
    x, same, row, rows, column = (rng.normal(size=s) for s in [(3, 4, 5), (3, 4, 5), (5,), (4, 5), (3, 4, 1)])
    for function, given in [(every_kind, (x, same, row, rows, column, 0.1)), (bounds, (3 * x,))]:
        kinds = tuple("number" if isinstance(a, float) else "array" for a in given)
        kernel = cuda.kernel(fake_gpu.Cards(tmp_path), function, "float64", kinds)
        for p, c in zip(function(np, *given), kernel(*given), strict=True):
            np.testing.assert_allclose(c, p, rtol=1e-15)


KEPT = """
import numpy as np
from teachvae.arrays.special import tanh
assert tanh.compiled(np.linspace(-1, 1, 10)) is not None
"""


@compiled
def test_a_loop_is_compiled_once_and_then_read_from_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("NUMBA_DEBUG_CACHE", "1")
    first, second = (
        subprocess.run([sys.executable, "-c", KEPT], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    )
    assert "data saved to" in first and "data loaded from" not in first
    assert "data loaded from" in second and "data saved to" not in second


@compiled
def test_what_was_kept_and_cannot_be_read_is_compiled_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    subprocess.run([sys.executable, "-c", KEPT], check=True)
    for path in tmp_path.rglob("*.nbc"):
        path.write_bytes(path.read_bytes()[:100])
    subprocess.run([sys.executable, "-c", KEPT], check=True)
    doctor = [sys.executable, "-m", "teachvae", "doctor"]
    done = subprocess.run(doctor, capture_output=True, text=True, check=False)
    assert "one compiled loop" in done.stdout or "compiled anew in every process" in done.stdout


class Refuses:
    """CuPy with a compiler that cannot compile."""

    __name__ = "cupy"
    asked = 0

    def ElementwiseKernel(self, *_):
        self.asked += 1
        raise RuntimeError("nvrtc: error: invalid value for --gpu-architecture")


def test_a_kernel_that_cannot_be_compiled_is_asked_for_once(monkeypatch):
    refuses, formula = Refuses(), elementwise.Formula(tanh)
    monkeypatch.setattr(elementwise, "namespace", lambda x: refuses)
    for _ in range(3):
        assert formula.on_gpu(np.ones(3)) is None
    assert refuses.asked == 1


@compiled
def test_threads_that_meet_at_the_first_call_get_one_answer():
    formula, x, found = elementwise.Formula(tanh), np.linspace(-3, 3, elementwise.LARGE), []
    threads = [threading.Thread(target=lambda: found.append(formula(x))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and all(np.array_equal(found[0], other) for other in found)


@compiled
@pytest.mark.short                                                 # its fits end early on purpose
@pytest.mark.parametrize(
    "likelihood", ["gaussian", "bernoulli", "poisson", "student-t", "gaussian-predicted"]
)
@pytest.mark.parametrize("route", [VAE, VariationalEM])
def test_a_fit_ends_where_it_ends_without_the_compiler(route, likelihood, monkeypatch):
    """Within 1e-9 nats: every formula compiled, however small its arrays, against none."""
    data = datasets.linear_gaussian(n_cases=40, n_visible=5, n_latent=1, seed=4).x
    data = {"bernoulli": lambda: (data > 0).astype(float), "poisson": lambda: np.round(np.abs(3 * data))}.get(
        likelihood, lambda: data)()
    ends = []
    for large in (1, np.inf):
        monkeypatch.setattr(elementwise, "LARGE", large)
        epochs = 5 if route is VAE else 2
        model = route(1, hidden=(4,), epochs=epochs, likelihood=likelihood, random_state=0).fit(data)
        phi = {} if route is VAE else {"phi": model.phi_}
        ends.append(model.bound(data, **phi))
    assert not np.isnan(ends).any() and np.abs(ends[0] - ends[1]).max() < 1e-9
