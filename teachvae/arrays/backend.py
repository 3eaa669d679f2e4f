"""One array abstraction under all of the mathematics: NumPy on the CPU, CuPy on a GPU.

Compute code never names a library; it asks its arrays, ``xp = namespace(x)``, and then writes
``xp.exp(x)``. Only code that makes arrays from nothing (initial parameters, noise, data) is given
a `Backend`. What is used of ``xp`` is what NumPy >= 2, CuPy >= 14 and the array-API standard share.
"""

from dataclasses import dataclass
from functools import cache
import sys
import warnings

import numpy as np

DTYPES = ("float64", "float32")


class BackendError(RuntimeError):
    """A backend was asked for that this machine cannot run; the message names cause and cure."""


@cache
def keep_freed_memory():
    """Have glibc keep what arrays leave free for the next array; called where work begins, it acts once.

    glibc hands the free end of the heap back to the system as soon as it is twice the largest block that was
    ever freed, and every temporary array then pays for its pages again: 1.4 times the cost of an E-step. One
    large block, freed here, raises that mark for the rest of the process. None of its pages is ever touched.
    The process may then hold some tens of megabytes more than it uses. Without glibc nothing comes of it.
    """
    np.empty(31 * 2**20, "uint8")


def namespace(*arrays):
    """The array library that owns `arrays`, e.g. the module ``numpy`` or ``cupy``.

    Raises TypeError where something is not an array or where two libraries are mixed.
    """
    for array in arrays:
        if type(array) is not np.ndarray:
            break
    else:
        return np                                                  # the usual case, without a detour
    found = {}
    for array in arrays:
        if isinstance(array, np.generic):  # one number; before NumPy 2.1 it does not offer the method
            xp = np
        elif hasattr(array, "__array_namespace__"):
            xp = array.__array_namespace__()
        elif type(array).__module__.partition(".")[0] == "cupy":  # CuPy 14 does not offer the method
            xp = sys.modules["cupy"]
        else:
            raise TypeError(
                f"expected arrays of one array library, got {type(array).__name__}; "
                "make arrays with Backend.asarray"
            )
        found[xp.__name__] = xp
    if len(found) > 1:
        raise TypeError(
            f"arrays of different libraries were mixed: {sorted(found)}; "
            "bring all of them to one backend with Backend.asarray"
        )
    return next(iter(found.values()))


def constant(values, like, dtype=None):
    """Host numbers `values` as an array beside `like`: its library, its device, its dtype.

    `dtype` is one of that library where the dtype of `like` is not wanted.
    """
    xp = namespace(like)
    dtype = like.dtype if dtype is None else dtype
    if xp.__name__.startswith("cupy"):  # CuPy has no device= keyword: the current device is meant
        return xp.asarray(np.asarray(values), dtype=dtype)
    return xp.asarray(np.asarray(values), dtype=dtype, device=like.device)


def index(places, like):
    """Places, whole numbers, as an array beside `like`, of the type in which its library counts places.

    That is int64 on most machines and int32 on some, where int64 is refused.
    """
    xp = namespace(like)
    return constant(places, like, xp.argmax(xp.zeros(1)).dtype)   # a place that the library itself gives


def identity(n, like):
    """The n × n identity beside `like`."""
    return constant(np.eye(n), like)


def double(x):
    """`x`, an array or an `Observed`, in float64."""
    if hasattr(x, "each"):
        return x.each(double)
    return namespace(x).astype(x, namespace(x).float64)


def to_numpy(x):
    """`x` as a NumPy array on the host (the array itself where it is one already)."""
    if hasattr(x, "get") and hasattr(x, "device"):  # CuPy; data frames and dicts have a get of their own
        return x.get()
    if hasattr(x, "to_device") and not isinstance(x, (np.ndarray, np.generic)):  # another array-API library
        x = x.to_device(x.__array_namespace__().Device("CPU_DEVICE"))
    return np.asarray(x)


def is_on_host(x):
    """Whether a number of `x` can be read without waiting for a device."""
    return namespace(x) is np


@dataclass(frozen=True)
class Backend:
    """Where new arrays are made: a library `xp`, a dtype by name, and a device (None: the default).

    name    "numpy", "cupy", …
    xp      the library's module
    dtype   "float64" or "float32"
    device  the library's device object, handed to ``xp.asarray``, or None
    """

    name: str
    xp: object
    dtype: str = "float64"
    device: object = None

    def __reduce__(self):
        return get_backend, (self.name, self.dtype)  # modules cannot be pickled; names can

    def asarray(self, values, dtype=None):
        """Numbers `values`, from the host or a device, as an array of this backend and its dtype."""
        name = self.dtype if dtype is None else dtype
        values = np.asarray(to_numpy(values), dtype=name)
        if self.device is None:
            return self.xp.asarray(values)
        return self.xp.asarray(values, device=self.device)

    def zeros(self, shape):
        """An array of zeros."""
        return self.asarray(np.zeros(shape))

    def normal(self, rng, shape):
        """Standard normal noise, drawn on the host in float64 and then cast.

        Every backend and every precision so sees the same numbers for the same `rng`.
        """
        return self.asarray(rng.standard_normal(shape))


def get_backend(name="numpy", dtype="float64"):
    """The backend called `name`: "numpy", "cupy", or "auto" (CuPy where it works, else NumPy).

    Raises ValueError for an unknown name or dtype, and BackendError where "cupy" is asked for and
    no GPU can be used. "auto" warns when it falls back to NumPy.
    """
    dtype = dtype if isinstance(dtype, str) else np.dtype(dtype).name
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {DTYPES}, got {dtype!r}")
    if isinstance(name, Backend):
        return Backend(name.name, name.xp, dtype, name.device)
    if name == "numpy":
        return Backend("numpy", np, dtype)
    if name == "cupy":
        return Backend("cupy", _working_cupy(), dtype)
    if name == "auto":
        try:
            return Backend("cupy", _working_cupy(), dtype)
        except BackendError as error:
            warnings.warn(f"backend='auto' falls back to NumPy: {error}", stacklevel=2)
            return Backend("numpy", np, dtype)
    raise ValueError(f"backend must be 'numpy', 'cupy' or 'auto', got {name!r}")


def _working_cupy():
    """The module cupy, after a small elementwise kernel, a product and a Cholesky have run."""
    try:
        import cupy
    except ImportError as error:
        raise BackendError(
            f"backend='cupy' needs CuPy, which cannot be imported ({error}); "
            "install it with: pip install 'teachvae[gpu]', or use backend='numpy'"
        ) from error
    try:
        # CuPy imports, and can call itself available, where kernels do not compile: only a run tells.
        a = cupy.exp(cupy.eye(3)) @ cupy.eye(3)
        float(cupy.linalg.cholesky(a @ a.T)[0, 0])
    except Exception as error:
        cause = f"{type(error).__name__}: {error}".splitlines()[0]
        raise BackendError(
            f"backend='cupy' needs a working CUDA GPU; CuPy {cupy.__version__} is installed but a "
            f"test kernel failed ({cause}); check the "
            "driver with nvidia-smi and that CuPy matches the CUDA version, or use backend='numpy'"
        ) from error
    return cupy
