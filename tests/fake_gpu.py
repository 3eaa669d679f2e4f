"""A GPU that is none: a module with CuPy's name, functions and manners, over NumPy's numbers.

It refuses what CuPy refuses: to become a NumPy array unasked, NumPy arrays beside its own, `device=`, and the
names of the array-API standard that CuPy 14 lacks; what CuPy has beside the standard it does not offer. As in
CuPy a failed factorisation does not raise, a single number is an array still, places beyond the end wrap, and
rounding is not NumPy's. It counts what the host would wait for, and what it sends, by the line that asked.
`install` puts it where `import cupy` finds it. It takes no kernels; `Cards` compiles them, for the host.
"""

from collections import Counter
import ctypes
import operator
from pathlib import Path
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import numpy as np

from teachvae.arrays import cuda

FUNCTIONS = """
abs acos acosh add all any arange argmax argmin argsort asin asinh astype atan atan2 atanh broadcast_arrays
broadcast_to ceil clip concat copysign cos cosh count_nonzero cumulative_sum diff divide empty empty_like
equal exp expand_dims expm1 eye flip floor full full_like greater greater_equal hypot isfinite isinf isnan
less less_equal linspace log log10 log1p log2 logaddexp logical_and logical_not logical_or matmul
matrix_transpose max maximum mean min minimum moveaxis multiply negative not_equal ones ones_like permute_dims
pow prod reshape roll round sign sin sinh sort sqrt square squeeze stack std subtract sum tan tanh tensordot
tril triu trunc var where zeros zeros_like
""".split()
LINALG = "cholesky det eigh eigvalsh inv matmul matrix_rank matrix_transpose qr slogdet svd".split()
ROUNDED = "exp expm1 log log1p tanh sin cos sum mean matmul tensordot".split()
CONSTANTS = "bool e finfo float32 float64 iinfo inf int32 int64 nan newaxis pi result_type".split()


class Counts:
    """How often the host waited for the device, and sent numbers to it: Counters of file:line."""

    def __init__(self):
        self.syncs, self.uploads = Counter(), Counter()


counts = Counts()
last_place = np.random.default_rng(0)


def note(counter):
    """Count the nearest line that is neither here nor in backend.py, through which all numbers pass."""
    frame = sys._getframe(1)
    while Path(frame.f_code.co_filename).name in ("fake_gpu.py", "backend.py"):
        frame = frame.f_back
    counter[f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"] += 1


class ndarray:
    """An array on the device. `get` brings its numbers to the host, and so does whoever wants one of them."""

    __module__ = "cupy"
    __array_ufunc__ = None                                         # NumPy's functions and arrays refuse it
    __hash__ = None

    def __init__(self, numbers):
        self._numbers = np.asarray(numbers)

    shape = property(lambda self: self._numbers.shape)
    ndim = property(lambda self: self._numbers.ndim)
    size = property(lambda self: self._numbers.size)
    dtype = property(lambda self: self._numbers.dtype)
    device = property(lambda self: "<a GPU that is none>")
    T = property(lambda self: ndarray(self._numbers.T))

    def get(self):
        note(counts.syncs)
        return self._numbers.copy()

    def __array__(self, dtype=None, copy=None):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def __len__(self):
        if not self.ndim:
            raise TypeError("len() of unsized object")
        return len(self._numbers)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __getitem__(self, place):
        return ndarray(self._numbers[_view(place)])

    def __setitem__(self, place, values):
        self._numbers[_view(place)] = _numbers_of(values)

    def __repr__(self):
        return f"ndarray({self.get()!r})"


def _give_operators():
    """`ndarray` its operators, and the conversions that wait."""
    def to_host(function):
        return lambda self: function(self.get()[()])

    def unary(function):
        return lambda self: ndarray(function(self._numbers))

    def binary(function):
        return lambda self, other: ndarray(function(self._numbers, _numbers_of(other)))

    def reflected(function):
        return lambda self, other: ndarray(function(_numbers_of(other), self._numbers))

    def in_place(function):
        def change(self, other):
            function(self._numbers, _numbers_of(other))
            return self

        return change

    for name, function in (("bool", bool), ("int", int), ("float", float), ("index", operator.index)):
        setattr(ndarray, f"__{name}__", to_host(function))
    ndarray.item = to_host(lambda number: number.item())
    ndarray.tolist = to_host(lambda numbers: numbers.tolist())
    for name in ("neg", "pos", "abs", "invert"):
        setattr(ndarray, f"__{name}__", unary(getattr(operator, name)))
    for name in ("lt", "le", "gt", "ge", "eq", "ne"):
        setattr(ndarray, f"__{name}__", binary(getattr(operator, name)))
    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor"):
        function = getattr(operator, f"__{name}__")
        function = _rounded(function) if name == "matmul" else function
        setattr(ndarray, f"__{name}__", binary(function))
        setattr(ndarray, f"__r{name}__", reflected(function))
        setattr(ndarray, f"__i{name}__", in_place(getattr(operator, f"__i{name}__")))


def _rounded(function):
    """A function of another rounding: what it is given first is off by a last place, but for whole ones."""
    def call(a, *others, **options):
        a = np.asarray(a)
        if a.dtype.kind == "f":
            eps = last_place.integers(-1, 2, a.shape) * np.finfo(a.dtype).eps
            a = np.where(a == np.rint(a), a, a * (1 + eps.astype(a.dtype)))
        return function(a, *others, **options)

    return call


_give_operators()


def _view(place):
    """A place such that what stands there is a view, of a single number too."""
    parts = tuple(place) if isinstance(place, tuple) else (place,)
    for part in parts:
        if isinstance(part, ndarray) and part.dtype == bool:
            note(counts.syncs)                                     # how many are True is not known
    parts = tuple(_numbers_of(part) for part in parts)
    return parts if any(part is ... for part in parts) else (*parts, ...)


def _numbers_of(thing):
    """What NumPy is given for an operand or an argument; NumPy's own arrays are refused."""
    if isinstance(thing, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    if isinstance(thing, (list, tuple)):
        return type(thing)(_numbers_of(part) for part in thing)
    return thing._numbers if isinstance(thing, ndarray) else thing


def _on_device(result):
    """What NumPy answered, as CuPy hands it out."""
    if isinstance(result, tuple):
        return tuple(_on_device(part) for part in result)          # CuPy's have no names
    return ndarray(result) if isinstance(result, (np.ndarray, np.generic)) else result


def _as_cupy(function):
    def call(*arguments, **options):
        if "device" in options:
            raise TypeError("got an unexpected keyword argument 'device'")
        options = {name: _numbers_of(value) for name, value in options.items()}
        return _on_device(function(*(_numbers_of(argument) for argument in arguments), **options))

    return call


def _without_raising(function):
    """A function of linalg: where it fails, numbers that mean nothing; cuSOLVER takes no empty matrix."""
    def call(a, *others, **options):
        if 0 in a.shape[-2:]:
            raise ValueError("CUSOLVER_STATUS_INVALID_VALUE")
        try:
            return _rounded(function)(a, *others, **options)
        except np.linalg.LinAlgError:
            nothing = np.full_like(a, np.nan)
            return (nothing[..., 0], nothing) if function is np.linalg.eigh else nothing

    return _as_cupy(call)


def _solve(a, b):
    if b.ndim > 1 and a.shape[:-1] != b.shape[:-1]:                # NumPy would broadcast
        raise ValueError("a must have (..., M, M) shape and b must have (..., M, K)")
    return np.linalg.solve(a, b)


def _asarray(values, dtype=None, **options):
    if options:
        raise TypeError(f"asarray() got an unexpected keyword argument {next(iter(options))!r}")
    if isinstance(values, ndarray):
        return ndarray(np.asarray(values._numbers, dtype=dtype))
    note(counts.uploads)
    return ndarray(np.array(values, dtype=dtype))


def _take(a, indices, axis=None):
    if not isinstance(indices, ndarray):                           # CuPy sends them
        note(counts.uploads)
        indices = ndarray(indices)
    return ndarray(np.take(a._numbers, indices._numbers, axis=axis, mode="wrap"))


def module():
    """The module, as `import cupy` would give it."""
    cupy, linalg = ModuleType("cupy"), ModuleType("cupy.linalg")
    for name in FUNCTIONS:
        function = getattr(np, name)
        vars(cupy)[name] = _as_cupy(_rounded(function) if name in ROUNDED else function)
    vars(cupy).update({name: getattr(np, name) for name in CONSTANTS})
    vars(linalg).update({name: _without_raising(getattr(np.linalg, name)) for name in LINALG})
    linalg.solve = _without_raising(_solve)
    draws = SimpleNamespace(random=lambda size: ndarray(np.random.default_rng(1).random(size)))
    vars(cupy).update(
        __version__="14 (a stand-in)", ndarray=ndarray, asarray=_asarray, take=_take, linalg=linalg,
        random=SimpleNamespace(default_rng=lambda seed: draws),    # another stream than NumPy's
    )
    return cupy


def install(monkeypatch):
    """Let `import cupy` find this module for the time of a test; the `Counts`, from nothing."""
    counts.__init__()
    last_place.bit_generator.state = np.random.default_rng(0).bit_generator.state
    monkeypatch.setitem(sys.modules, "cupy", module())
    return counts


class Cards:
    """CuPy's `ElementwiseKernel` on the host, by the machine's own C compiler."""

    def __init__(self, folder):
        self.folder = folder

    def ElementwiseKernel(self, inputs, outputs, body, name):
        (dtype, *_), names = zip(*(one.split() for one in inputs.split(", ")), strict=True)
        made = [one.split()[1] for one in outputs.split(", ")]
        kind = cuda.TYPES[dtype]
        given = ", ".join([f"const {kind} *{a}_all" for a in names] + [f"{kind} *{y}_all" for y in made])
        read = "".join(f"const {kind} {a} = {a}_all[i]; " for a in names)
        write = "".join(f"{y}_all[i] = {y}; " for y in made)
        source = (
            f"#include <tgmath.h>\nvoid run(long n, {given}) {{ for (long i = 0; i < n; i++) {{ "
            f"{read} {kind} {', '.join(made)};\n{body}\n{write} }} }}"
        )
        path = self.folder / f"{name}_{dtype}"
        path.with_suffix(".c").write_text(source, encoding="utf-8")
        options = ["-O0", "-ffp-contract=off", "-shared", "-fPIC", "-Wall", "-Werror"]
        command = ["cc", *options, "-o", f"{path}.so", f"{path}.c", "-lm"]
        subprocess.run(command, check=True, capture_output=True, text=True)
        function = ctypes.CDLL(f"{path}.so").run

        def run(*arrays):
            whole = [np.broadcast_to(np.asarray(a, dtype), arrays[0].shape).copy() for a in arrays]
            out = [np.empty_like(whole[0]) for _ in made]
            pointers = [ctypes.c_void_p(a.ctypes.data) for a in (*whole, *out)]
            function(ctypes.c_long(whole[0].size), *pointers)
            return out[0] if len(out) == 1 else tuple(out)

        return run
