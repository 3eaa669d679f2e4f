"""The doors: data and hyper-parameters are checked here, before anything is computed with them.

Every refusal says what was given, what is expected and what to do.
"""

import numbers

import numpy as np

from .backend import to_numpy
from .blocks import as_floats, float_type, slices


def check_data(X, minimum_rows=1, name="X", missing=False):
    """X as a host array (N, D) of real numbers, X itself where it is one, and its column names (or None).

    missing  whether NaN may stand for an entry that was not observed
    name     what the messages call X

    Raises TypeError or ValueError saying what was given, what is expected and what to do.
    """
    if hasattr(X, "toarray") and hasattr(X, "nnz"):
        raise TypeError(
            f"sparse data ({type(X).__name__}) was given, dense data is expected: use {name}.toarray()"
        )
    if isinstance(X, np.ma.MaskedArray):
        raise TypeError(
            f"a masked array was given as {name}, an array without a mask is expected, for the values "
            "under the mask would be taken for data: drop those rows or fill them in, with np.nan for a "
            "model with missing='marginalise'"
        )
    names = [str(c) for c in X.columns] if hasattr(X, "columns") else None
    try:
        x = to_numpy(X)
    except ValueError as error:
        raise ValueError(
            f"{name} is not a table of numbers ({error}): give every row the same number of entries"
        ) from error
    if x.dtype.kind == "c":
        raise ValueError(
            f"Complex data not supported: {name} of dtype {x.dtype} was given, real numbers are "
            f"expected, take {name}.real"
        )
    if x.dtype.kind == "O" and hasattr(X, "columns"):
        try:
            x = X.to_numpy(dtype="float64", na_value=np.nan)       # a data frame's own missing entries
        except (AttributeError, TypeError, ValueError):
            pass                                                   # text or times, which are named below
    if x.dtype.kind not in "fiub":
        try:
            if x.dtype.kind in "mM":
                raise ValueError("times have no unit or origin of their own")
            text = [value for value in x.ravel()[:1000] if isinstance(value, (str, bytes))]
            if text:
                raise ValueError(f"it holds text, first {str(text[0])!r}")
            x = x.astype("float64")
        except (TypeError, ValueError) as error:
            raise type(error)(
                f"{name} of dtype {x.dtype} was given, numbers are expected ({error}): encode text, "
                "times and categories as numbers first, text in a data frame by "
                "df[column].astype('category').cat.codes, whose -1 stands for a missing entry: "
                ".replace(-1, np.nan)"
            ) from error
    if x.ndim != 2:
        raise ValueError(
            f"Expected 2D array, got {x.ndim}D array of shape {x.shape} instead. Reshape your data: "
            f"{name}.reshape(-1, 1) for one column, {name}.reshape(1, -1) for one data case, "
            f"{name}.reshape(len({name}), -1) for images"
        )
    if x.shape[0] < minimum_rows:
        raise ValueError(
            f"Found array with {x.shape[0]} sample(s) (shape={x.shape}) while a minimum of "
            f"{minimum_rows} is required: give more data cases"
        )
    if x.shape[1] == 0:
        raise ValueError(
            f"Found array with 0 feature(s) (shape={x.shape}) while a minimum of 1 is required: "
            "give at least one column"
        )
    n_nan, n_inf, first, largest = 0, 0, None, 0.0
    for rows in slices(len(x)):
        block = as_floats(x[rows])
        nan, inf = np.isnan(block), np.isinf(block)
        n_nan, n_inf = n_nan + int(nan.sum()), n_inf + int(inf.sum())
        bad = inf if missing else nan | inf
        if first is None and bad.any():
            first = rows.start + int(bad.nonzero()[0][0]), int(bad.nonzero()[1][0])
        largest = max(largest, float(np.max(np.abs(block), initial=0.0, where=~nan)))
    if first is not None:
        n, d = first
        kinds = f"{n_nan} NaN and {n_inf} infinity"
        raise ValueError(
            f"{name} has {kinds} entries, the first in row {n}, column {names[d] if names else d}; "
            "finite numbers are expected: drop those rows or fill them in"
            + ("; a model with missing='marginalise' takes NaN" if not missing and name == "X" else "")
        )
    most = float(np.finfo(float_type(x.dtype)).max / x.size) ** 0.5
    if largest > most:
        raise ValueError(
            f"{name} has entries of size {largest:.1e}; above {most:.1e} sums of their squares overflow "
            f"in {float_type(x.dtype)}: give the data in larger units"
        )
    return x, names


def check_size(name, value, least=1, most=None, why=""):
    """Raise ValueError unless `value` is an integer in [least, most]."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):
        upper = "" if most is None else f" and <= {most}"
        raise ValueError(f"{name} must be an integer >= {least}{upper}{why}, got {value!r}")


def check_positive(name, value):
    """Raise ValueError unless `value` is a finite number above 0."""
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not (number and 0 < value < np.inf):
        raise ValueError(f"{name} must be a number > 0, got {value!r}")


def check_hidden(hidden):
    """`hidden` as a tuple; ValueError unless it is a sequence of layer sizes, integers >= 1."""
    try:
        sizes = tuple(hidden)
        if isinstance(hidden, str) or not all(isinstance(n, numbers.Integral) and n >= 1 for n in sizes):
            raise TypeError
    except TypeError:
        raise ValueError(
            "hidden must be a tuple of layer sizes, integers >= 1, such as (64, 64), or () for a linear "
            f"decoder, got {hidden!r}"
        ) from None
    return sizes
