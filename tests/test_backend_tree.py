"""The two files under everything: arrays know their library, and leaves are views of one vector."""

import os
from pathlib import Path
import platform
import re
import subprocess
import sys
import types

import array_api_strict as strict
from hypothesis import given, strategies as st
import numpy as np
import pytest

from teachvae import fit, tree
from teachvae.arrays.backend import Backend, BackendError, constant, get_backend, index, namespace, to_numpy

DEVICE = strict.Device("device1")


# ---- backend.py


def test_namespace_is_that_of_the_arrays(backend):
    assert namespace(backend.zeros((2,)), backend.zeros((3, 1))) is backend.xp


def test_a_number_of_numpy_is_an_array_of_numpy_in_every_numpy():
    class Before21(np.float64):                                    # NumPy 2.0's are without the method
        @property
        def __array_namespace__(self):
            raise AttributeError

    assert namespace(Before21(1.0)) is np and namespace(np.ones(2), Before21(1.0)) is np
    assert namespace(np.float32(1.0)) is np


@pytest.mark.parametrize("thing", [[1.0, 2.0], 3.0, None, "array"])
def test_what_is_no_array_is_refused_by_its_type(thing):
    with pytest.raises(TypeError, match=f"got {type(thing).__name__}; make arrays with Backend.asarray"):
        namespace(np.ones(2), thing)


def test_mixed_libraries_are_refused_by_their_names():
    with pytest.raises(TypeError, match=r"mixed: \['array_api_strict', 'numpy'\].*Backend.asarray"):
        namespace(np.ones(2), strict.ones(2))


def test_constant_stands_beside_its_like(backend):
    like = backend.zeros((2, 3))
    array = constant([[1.0, 2.0]], like)
    assert namespace(array) is backend.xp and array.dtype == like.dtype
    assert backend.device is None or array.device == backend.device
    np.testing.assert_array_equal(to_numpy(array), [[1, 2]])
    places = constant([2, 0], like, backend.xp.int64)
    assert places.dtype == backend.xp.int64
    assert backend.device is None or places.device == backend.device
    taken = backend.xp.take(backend.asarray([5.0, 6.0, 7.0]), places, axis=0)
    np.testing.assert_array_equal(to_numpy(taken), [7, 5])


def test_arrays_come_back_to_the_host(backend):
    array = backend.asarray([[1.5, 2.5]])
    host = to_numpy(array)
    assert type(host) is np.ndarray and host.dtype == backend.dtype
    np.testing.assert_array_equal(host, [[1.5, 2.5]])
    for number in (2.5, np.float64(2.5), np.float32(2.5)):
        assert to_numpy(number) == 2.5 and isinstance(to_numpy(number), np.ndarray)


def test_asarray_takes_lists_host_arrays_numbers_and_its_own(backend):
    for values in ([1.0, 2.0], np.array([1.0, 2.0]), np.array([1, 2]), np.array([1, 2], dtype="float32"),
                   backend.asarray([1.0, 2.0])):
        array = backend.asarray(values)
        assert namespace(array) is backend.xp and array.dtype == getattr(backend.xp, backend.dtype)
        assert backend.device is None or array.device == backend.device
        np.testing.assert_array_equal(to_numpy(array), [1, 2])
    assert to_numpy(backend.asarray(np.float64(3.0))) == 3 and to_numpy(backend.asarray(3.0)) == 3
    assert backend.asarray([1, 2], dtype="int64").dtype == backend.xp.int64


def test_a_device_array_can_move_to_another_backend():
    array = get_backend().asarray(strict.asarray([1.0, 2.0], device=DEVICE))
    assert type(array) is np.ndarray
    np.testing.assert_array_equal(array, [1, 2])


def test_every_backend_sees_the_same_noise(backend):
    noise = backend.normal(np.random.default_rng(5), (3, 2))
    expected = np.random.default_rng(5).standard_normal((3, 2)).astype(backend.dtype)
    np.testing.assert_array_equal(to_numpy(noise), expected)
    assert namespace(noise) is backend.xp and noise.dtype == getattr(backend.xp, backend.dtype)
    assert not to_numpy(backend.zeros((2, 3))).any() and backend.zeros((2, 3)).shape == (2, 3)


def test_get_backend():
    assert get_backend() == Backend("numpy", np, "float64")
    assert get_backend("numpy", np.float32).dtype == "float32"
    strict_backend = Backend("array_api_strict", strict, "float64", DEVICE)
    assert get_backend(strict_backend, "float32") == Backend("array_api_strict", strict, "float32", DEVICE)
    with pytest.raises(ValueError, match="'numpy', 'cupy' or 'auto', got 'torch'"):
        get_backend("torch")
    for dtype in ("float16", "int64", "no such type"):
        with pytest.raises(ValueError, match=f"dtype must be one of .*got '{dtype}'"):
            get_backend("numpy", dtype)


def broken_cupy(error):
    """A module cupy that imports, and whose first kernel fails."""
    def fails(*args):
        raise error

    cupy = types.ModuleType("cupy")
    cupy.__version__, cupy.eye, cupy.exp = "14.2.0", fails, fails
    return cupy


def test_cupy_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(BackendError, match="cannot be imported") as error:
        get_backend("cupy")
    assert "pip install 'teachvae[gpu]'" in str(error.value) and "backend='numpy'" in str(error.value)


@pytest.mark.parametrize("cause", [
    RuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected\nsecond line"),
    OSError("libnvrtc.so.12: cannot open shared object file"), RuntimeError(),
])
def test_cupy_that_imports_and_does_not_run(monkeypatch, cause):
    monkeypatch.setitem(sys.modules, "cupy", broken_cupy(cause))
    with pytest.raises(BackendError, match="CuPy 14.2.0 is installed but a test kernel failed") as error:
        get_backend("cupy")
    message = str(error.value)
    assert type(cause).__name__ in message and str(cause).partition("\n")[0] in message
    assert "nvidia-smi" in message and "backend='numpy'" in message and "second line" not in message


def test_auto_falls_back_to_numpy_and_says_why(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.warns(UserWarning, match="backend='auto' falls back to NumPy: .*pip install"):
        assert get_backend("auto", "float32") == Backend("numpy", np, "float32")
    monkeypatch.setitem(sys.modules, "cupy", broken_cupy(RuntimeError("no device")))
    with pytest.warns(UserWarning, match="RuntimeError: no device.*nvidia-smi"):
        assert get_backend("auto").name == "numpy"


# ---- tree.py


TREE = {"decoder": [{"W": np.arange(6.0).reshape(2, 3), "b": np.arange(3.0)}, {}],
        "likelihood": {"log_psi": np.array([7.0])}}


def test_leaves_have_paths():
    assert [path for path, _ in tree.leaves(TREE)] == ["decoder[0].W", "decoder[0].b", "likelihood.log_psi"]
    assert [path for path, _ in tree.leaves(([np.ones(1)], np.ones(1)))] == ["[0][0]", "[1]"]
    (path, leaf), = tree.leaves(np.ones(2))
    assert path == "" and leaf.shape == (2,)
    assert tree.size(TREE) == 10 and tree.size({}) == 0 and tree.size(np.array(1.0)) == 1


def test_map_keeps_the_structure():
    doubled = tree.map(lambda a, b: a + b, TREE, TREE)
    assert [path for path, _ in tree.leaves(doubled)] == [path for path, _ in tree.leaves(TREE)]
    assert doubled["decoder"][1] == {}
    np.testing.assert_array_equal(doubled["decoder"][0]["W"], 2 * TREE["decoder"][0]["W"])
    with pytest.raises(ValueError):
        tree.map(lambda a, b: a, [np.ones(1)], [np.ones(1), np.ones(1)])
    with pytest.raises(KeyError):
        tree.map(lambda a, b: a, {"W": np.ones(1)}, {"b": np.ones(1)})


def test_packed_leaves_are_views_both_ways(backend):
    params = tree.map(backend.asarray, TREE)
    flat, views = tree.pack(params)
    assert flat.shape == (10,) and flat.dtype == getattr(backend.xp, backend.dtype)
    np.testing.assert_array_equal(to_numpy(flat), [0, 1, 2, 3, 4, 5, 0, 1, 2, 7])
    flat += 10                                                     # what an optimiser does
    np.testing.assert_array_equal(to_numpy(views["decoder"][0]["W"]), [[10, 11, 12], [13, 14, 15]])
    np.testing.assert_array_equal(to_numpy(views["likelihood"]["log_psi"]), [17])
    views["decoder"][0]["b"][...] = backend.asarray([-1.0, -2.0, -3.0])
    np.testing.assert_array_equal(to_numpy(flat)[6:9], [-1, -2, -3])
    np.testing.assert_array_equal(to_numpy(params["decoder"][0]["b"]), [0, 1, 2])   # the source is untouched


def test_write_fills_the_views_of_a_vector():
    source = {"a": [np.arange(3.0), {"W": np.ones((2, 2))}], "b": np.array(7.0)}
    flat, views = tree.pack(tree.map(np.zeros_like, source))
    tree.write(source, views)
    np.testing.assert_array_equal(flat, tree.flatten(source))
    with pytest.raises(ValueError):
        tree.write({"a": source["a"][:1], "b": source["b"]}, views)


def test_flatten_copies_even_a_single_leaf():
    leaf = np.zeros(3)
    tree.flatten(leaf)[...] = 1
    assert not leaf.any()


@given(st.lists(st.lists(st.integers(0, 3), max_size=3), min_size=1, max_size=5))
def test_views_undo_flatten(shapes):
    rng = np.random.default_rng(0)
    params = [rng.standard_normal(shape) for shape in shapes]
    back = tree.views(tree.flatten(params), params)
    for one, two in zip(params, back, strict=True):
        np.testing.assert_array_equal(one, two)


def test_trees_that_have_no_flat_vector():
    with pytest.raises(TypeError, match=r"share one dtype, got \['float32', 'float64'\]"):
        tree.flatten({"W": np.ones(2), "b": np.ones(2, dtype="float32")})
    with pytest.raises(TypeError, match="different libraries were mixed"):
        tree.flatten({"W": np.ones(2), "b": strict.ones(2)})
    with pytest.raises(ValueError, match="without leaves"):
        tree.flatten([{}, {}])
    with pytest.raises(ValueError, match=r"a vector of 10 numbers, got shape \(9,\)"):
        tree.views(np.zeros(9), TREE)


PAGES = """
import resource
import numpy as np
{}
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(100):
        kept = [np.ones(40_000) for _ in range(8)]
        del kept
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="what is undone here is glibc's habit")
def test_temporaries_keep_their_pages():
    tuned = ("MALLOC_", "GLIBC_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(tuned)}

    def faults(code):
        found = subprocess.run([sys.executable, "-c", PAGES.format(code)], capture_output=True, text=True,
                               check=True, env=environment)
        return int(found.stdout)

    kept = "from teachvae.arrays.backend import keep_freed_memory; keep_freed_memory()"
    trained = """
from teachvae.networks import training
training.full_batch(lambda p, rows: (p @ p / 2, p), training.Run(np.ones(2)), 1, max_iter=1, tol=1.0)
"""
    assert faults(kept) < 100 and faults(trained) < 100
    assert faults("") > 10_000, "else it is not needed any more"
    assert faults("import teachvae.arrays.backend") > 10_000, "an import changes nothing in the process"


def test_a_gradient_in_another_order_of_keys_is_the_same_gradient():
    """A backward may return {"b": …, "W": …} for parameters {"W": …, "b": …}, to every way of training."""
    params = {"W": np.array([[1.0, 2.0]]), "b": np.array([3.0])}
    target = {"W": np.array([[5.0, -1.0]]), "b": np.array([0.5])}

    def objective(p, rows):
        r = tree.map(np.subtract, p, target)
        return 0.5 * sum(np.sum(leaf**2) for _, leaf in tree.leaves(r)), {"b": r["b"], "W": r["W"]}

    assert tree.flatten({"b": params["b"], "W": params["W"]}, params).tolist() == [1, 2, 3]
    run = fit.Run(params)
    assert fit.full_batch(objective, run, 1, max_iter=50, tol=1e-12)
    for key in target:
        np.testing.assert_allclose(run.params[key], target[key], atol=1e-6)


def test_places_are_counted_as_the_library_counts():
    """int32 on a 32-bit platform, where an index array of int64 is refused."""
    assert index([2, 0], np.zeros(3)).dtype == np.intp
    assert index([2, 0], strict.zeros(3)).dtype == strict.int64

    class Small(types.ModuleType):
        """NumPy as on a platform of 32 bits: it counts places in int32."""

        def argmax(self, x):
            return np.int32(np.argmax(x))

        def __getattr__(self, name):
            return getattr(np, name)

    small = Small("numpy_of_32_bits")

    class Array(np.ndarray):
        def __array_namespace__(self, api_version=None):
            return small

    phi = np.arange(10.0).reshape(2, 5).view(Array)
    assert index([1, 0], phi).dtype == np.int32
    package = Path(fit.__file__).parent
    source = "".join(path.read_text(encoding="utf-8") for path in package.rglob("*.py"))
    assert not re.search(r"""constant\(.*["']int64["']""", source), "index() is the one way to places"
