"""One array abstraction under all of the mathematics: NumPy on the CPU, CuPy on a GPU.

Compute code never names a library; it asks its arrays, ``xp = namespace(x)``, and then writes
``xp.exp(x)``. Only code that makes arrays from nothing (initial parameters, noise, data) is given
a `Backend`. What is used of ``xp`` is what NumPy >= 2, CuPy >= 14 and the array-API standard share.
"""

from dataclasses import dataclass
import math
import sys
import warnings

import numpy as np

DTYPES = ("float64", "float32")

# glibc hands the free end of the heap back to the system as soon as it is twice the largest block that was
# ever freed, and every temporary array then pays for its pages again: 1.4 times the cost of an E-step. One
# large block freed at the start, of which no page is ever touched, keeps the memory here.
np.empty(31 * 2**20, "uint8")


class BackendError(RuntimeError):
    """A backend was asked for that this machine cannot run; the message names cause and cure."""


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
        if hasattr(array, "__array_namespace__"):
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
    """`x` in float64."""
    return namespace(x).astype(x, namespace(x).float64)


def log_factorial(x):
    """log x! for whole numbers x ≥ 0, in x's dtype (5.16); finite for any other finite number."""
    xp = namespace(x)
    small = xp.zeros_like(x)
    for k in range(2, 9):
        small = small + xp.astype(x >= k, x.dtype) * math.log(k)   # exact: log x! = Σ_{k ≤ x} log k
    z = xp.where(x > 8, x, xp.zeros_like(x) + 9)
    return xp.where(x > 8, z * (xp.log(z) - 1) + 0.5 * xp.log(2 * math.pi * z) + _stirling(z), small)


def log_poisson_peak(x):
    """log p(x) of a Poisson distribution whose rate is x itself, x log x − x − log x!, in x's dtype.

    For large x two numbers of the size of x log x would cancel: what is left comes from (5.16).
    """
    xp = namespace(x)
    few, many = xp.where(x > 8, xp.zeros_like(x), x), xp.where(x > 8, x, xp.zeros_like(x) + 9)
    log_few = xp.log(xp.where(few > 0, few, xp.ones_like(few)))
    large = -0.5 * xp.log(2 * math.pi * many) - _stirling(many)
    return xp.where(x > 8, large, few * (log_few - 1) - log_factorial(few))


def _stirling(z):
    """log z! − z (log z − 1) − ½ log(2πz) for z > 8, by the series of (5.16)."""
    w, series = 1 / (z * z), namespace(z).zeros_like(z)
    for c in (1 / 156, -691 / 360360, 1 / 1188, -1 / 1680, 1 / 1260, -1 / 360, 1 / 12):
        series = series * w + c
    return series / z


def poisson_quantile(u, rate):
    """The smallest whole k with P(X ≤ k) ≥ u for X ~ Poisson(rate), beside `rate`. Found on the host.

    Above a rate of 1e9, where SciPy's inverse begins to fail, a normal distribution stands for it.
    """
    from scipy import special  # not at import teachvae

    top = 1 - float(namespace(rate).finfo(rate.dtype).eps)  # float32 rounds the last u up to 1
    u = np.minimum(to_numpy(u).astype("float64"), top)
    host = np.maximum(to_numpy(rate).astype("float64"), 1e-300)
    few = np.minimum(host, 1e9)
    k = np.ceil(special.pdtrik(u, few))
    below = np.maximum(k - 1, 0)
    k = np.where(special.pdtr(below, few) >= u, below, k)  # the inverse may round up past its k
    many = np.maximum(np.rint(host + np.sqrt(host) * special.ndtri(u)), 0)
    return constant(np.where(host > 1e9, many, k), like=rate)


def sum_first(x):
    """The sum of the rows of x (R, D), (D,): a product with ones, faster than `sum`."""
    return namespace(x).ones_like(x[:, 0]) @ x


def sum_last(x):
    """x (…, D) summed over its last axis: a product with ones, faster than `sum`, most so for short rows."""
    row = x[(0,) * (x.ndim - 1) + (...,)]
    return x @ namespace(x).ones_like(row)


CACHED = 2**15                         # numbers; six such blocks fit into a processor's second cache


def cache_blocks(flat):
    """Slices that cut a vector (P,) into blocks that stay in a processor's cache; a GPU takes it whole."""
    size = CACHED if isinstance(flat, np.ndarray) else max(flat.shape[0], 1)
    return [slice(start, start + size) for start in range(0, flat.shape[0], size)]


def take_rows(x, rows):
    """The data cases `rows` (a slice or a host array of places) of x (N, …)."""
    if isinstance(rows, slice):
        return x[rows, ...]
    return namespace(x).take(x, index(rows, x), axis=0)


def to_numpy(x):
    """`x` as a NumPy array on the host (the array itself where it is one already)."""
    if hasattr(x, "get") and hasattr(x, "device"):  # CuPy; data frames and dicts have a get of their own
        return x.get()
    if hasattr(x, "to_device") and not isinstance(x, (np.ndarray, np.generic)):  # another array-API library
        x = x.to_device(x.__array_namespace__().Device("CPU_DEVICE"))
    return np.asarray(x)


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
