"""A formula of numbers, written once: plain array code, one compiled loop, or one kernel of a GPU.

    @elementwise
    def tanh_backward(xp, y, dy):
        return dy * (1 - y * y)

    dx = tanh_backward(y, dy)

A formula is a function of numbers, at the top of a file, without branches, loops or sums: assignments of
new names, and what it returns, shaped like its first argument. It may call ``xp.exp``, expm1, log, log1p,
sqrt, tanh, abs, maximum, minimum, where, ones_like and zeros_like; a number of its module is read once.

NumPy goes through memory once for every operator in it. On host arrays of `LARGE` numbers and more the
whole of it becomes one loop, compiled by Numba where that is installed (`pip install 'teachvae[fast]'`); on
CuPy's it becomes one kernel; on all others, and where there is no Numba, it is the array code that it looks
like. So is a formula that cannot be compiled, and `compiler().failures` says why. Which of them runs hangs
on the arrays' shapes, kind and dtype, and not on what ran before: on one machine the same call gives the
same bits. A loop gives no warning of an overflow.
"""

from functools import cache, update_wrapper
import os

import numpy as np

from . import cuda
from .backend import namespace

LARGE = 10_000                         # numbers: for fewer, a short fit would wait longer for Numba
CACHED = 2**15                         # numbers; six blocks of them fit into a processor's second cache
NUMBERS = (float, int, bool)           # Python's own, which take the dtype of the arrays that they meet
FORMULAS = {}                          # every formula of the package that has been imported, by its name


def elementwise(formula):
    """The `Formula` of a function (xp, x, …) of numbers; what comes out is shaped like x."""
    made = Formula(formula)
    FORMULAS[made.__name__] = made
    return made


class Formula:
    """A function of arrays, number by number.

    Called with x (…), and after it arrays of the same dtype that are broadcast to its shape, and Python
    numbers. Returns an array shaped like x, or a tuple of such.
    """

    def __init__(self, formula):
        update_wrapper(self, formula)
        self.formula, self.faster = formula, None
        self._loops, self._kernels = {}, {}

    def __call__(self, x, *others):
        done = None
        if type(x) is not np.ndarray:
            done = self.on_gpu(x, *others)
        elif x.size >= LARGE:
            done = self.compiled(x, *others)
        return self.formula(namespace(x), x, *others) if done is None else done

    def plain(self, x, *others):
        """What the formula gives as the array code that it is."""
        return self.formula(namespace(x), x, *others)

    def compiled(self, x, *others, places=None):
        """What the formula gives in one loop, or None where there is no compiler or not for such arguments.

        places  those of the arguments, arrays, into which it is put; then an empty tuple comes back
        """
        kinds = tuple(_kind(x, a) for a in (x, *others))
        if None in kinds or compiler() is None:
            return None
        if places is not None and not all((x, *others)[place].flags.c_contiguous for place in places):
            return None
        key = x.dtype.name, kinds, places
        if key not in self._loops:
            self._loops[key] = compiler().loop(self.formula, *key)
        loop = self._loops[key]
        return None if loop is None else loop(x, *others)

    def on_gpu(self, x, *others, out=()):
        """What the formula gives by one kernel of CuPy, or None where x is not CuPy's, or it refuses.

        out  the arrays into which it is put, or none
        """
        xp = namespace(x)
        if not hasattr(xp, "ElementwiseKernel"):
            return None
        kinds = tuple("number" if type(a) in NUMBERS else "array" for a in (x, *others))
        key = x.dtype.name, kinds
        if key not in self._kernels:
            try:                                                   # the first call compiles
                kernel = cuda.kernel(xp, self.formula, *key)
                done = kernel(x, *others, out=out)
            except Exception:                                      # whatever a compiler may raise
                kernel = done = None
            self._kernels[key] = kernel
            return done
        kernel = self._kernels[key]
        return None if kernel is None else kernel(x, *others, out=out)

    def in_place(self, faster):
        """A decorator: `faster` (xp, x, …) changes its arrays in place to what `into` would put there, with
        fewer passes over memory. It runs where there is no compiler; a test holds the two equal.
        """
        self.faster = faster
        return faster

    def into(self, places, *args):
        """The formula of vectors (P,) and numbers, put into those of the vectors whose places are given.

        No two of the vectors may share memory.
        """
        x = args[0]
        host = isinstance(x, np.ndarray)
        if host and x.size >= LARGE and self.compiled(*args, places=places) is not None:
            return
        if not host and self.on_gpu(*args, out=[args[place] for place in places]) is not None:
            return
        xp = namespace(x)
        # Block by block, so that only the first pass over a block waits for memory; a GPU takes all at once.
        size = CACHED if host else max(x.shape[0], 1)
        for start in range(0, x.shape[0], size):
            part = [a[start : start + size] if hasattr(a, "shape") else a for a in args]
            if self.faster is not None:
                self.faster(xp, *part)
                continue
            values = self.formula(xp, *part)
            for place, value in zip(places, values if isinstance(values, tuple) else (values,)):
                part[place][...] = value


def _kind(x, a):
    """How an argument goes along with x (…, C): "number"; "same", of its shape; "rows", of its last axes,
    which are gone through over and over again; "column", one number for each row (…, 1); None, not at all.
    """
    if type(a) in NUMBERS:                                         # NumPy's own are not weak
        return "number"
    if type(a) is not np.ndarray or a.dtype != x.dtype or not a.dtype.isnative or a.ndim > x.ndim:
        return None
    if a.shape == x.shape:
        return "same"
    if a.ndim and a.shape == x.shape[x.ndim - a.ndim :]:
        return "rows"
    if a.shape == (*x.shape[:-1], 1):
        return "column"
    return None


def compiler():
    """The module that compiles loops, or None where Numba is missing, broken, or told not to compile."""
    return _compiler()[0]


def form():
    """In words, in which form large formulas run here."""
    return _compiler()[1]


@cache
def _compiler():
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        return None, "plain NumPy: NUMBA_DISABLE_JIT is set"
    try:
        from . import compiled
    except ModuleNotFoundError as error:
        if error.name != "numba":
            return None, f"plain NumPy: Numba cannot be imported ({error})"
        return None, "plain NumPy: Numba is not installed; pip install 'teachvae[fast]' brings it"
    except Exception as error:                                     # whatever a broken installation may raise
        return None, f"plain NumPy: Numba cannot be imported ({type(error).__name__}: {error})"
    return compiled, f"one compiled loop, by Numba {compiled.VERSION}"
