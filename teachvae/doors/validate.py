"""The doors: data and hyper-parameters are checked here, before anything is computed with them.

Every refusal says what was given, what is expected and what to do.
"""

from decimal import Decimal
import numbers

import numpy as np

from ..arrays.backend import to_numpy
from ..arrays.rows import as_floats, float_type, slices
from ..messages import OR_DOUBLE, shorten


def check_data(X, minimum_rows=1, name="X", missing=False, dtype=None):
    """X as a host array (N, D) of real numbers, X itself where it is one, and its column names (or None).

    missing  whether NaN may stand for an entry that was not observed
    name     what the messages call X
    dtype    that in which a model holds it; None: its own

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
    if hasattr(type(X), "collect"):
        raise TypeError(
            f"{type(X).__name__} holds no numbers yet, a table is expected: use {name}.collect()"
        )
    names = [str(c) for c in X.columns] if hasattr(X, "columns") else None
    if names is not None:
        columns = [_host(_column(X, d), f"column {label} of {name}") for d, label in enumerate(names)]
        _refuse_what_is_no_number(columns, names, name)
    x = _host(X, name)
    if x.dtype.kind == "c":
        raise ValueError(
            f"Complex data not supported: {name} of dtype {x.dtype} was given, real numbers are "
            f"expected, take {name}.real"
        )
    if names is None and x.dtype.kind not in "fb":
        _refuse_what_is_no_number(x.T if x.ndim == 2 else [x.ravel()], None, f"{name} of dtype {x.dtype}")
    if x.dtype.kind == "O":
        # A data frame's own missing entries are pandas' alone.
        x = X.to_numpy(dtype="float64", na_value=np.nan) if hasattr(X, "iloc") else x.astype("float64")
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
    held = float_type(x.dtype if dtype is None else np.dtype(dtype))
    most = float(np.finfo(held).max / x.size) ** 0.5
    if largest > most:
        raise ValueError(
            f"{name} has entries of size {largest:.1e}; above {most:.1e} sums of their squares overflow "
            f"in {held}: give the data in larger units{OR_DOUBLE if held == 'float32' else ''}"
        )
    return x, names


def _refuse_what_is_no_number(columns, names, name):
    """Raise ValueError or TypeError naming the host columns, each (N,), that hold anything but numbers which
    float64 can tell apart.
    """
    found = [(d, _no_numbers(column)) for d, column in enumerate(columns)]
    wrong = [f"{names[d] if names else d} ({what})" for d, what in found if what]
    if wrong:
        raise (TypeError if NO_FLOAT in wrong[0] else ValueError)(
            f"{name} was given, numbers are expected that float64 can tell apart: columns {shorten(wrong)}; "
            "leave such columns out, or encode text, times and categories as numbers first: categories and "
            "ids in a data frame by df[column].astype('category').cat.codes, whose -1 stands for a missing "
            "entry (.replace(-1, np.nan)), times by the days or seconds since one of them"
        )


def _host(values, name):
    """`values` as a host array. What an array library, a data frame or an object of the user's own raises on
    the way becomes a ValueError.
    """
    try:
        return to_numpy(values)
    except MemoryError:
        raise
    except Exception as error:
        raise ValueError(
            f"{name} cannot be made an array of numbers ({error}): give every row the same number of "
            "entries, all of them numbers that float64 has"
        ) from error


def _column(frame, d):
    """Column d of a data frame: of pandas, of Polars (what is not missing), or of one asked by name."""
    if hasattr(frame, "iloc"):
        return frame.iloc[:, d]
    if hasattr(frame, "to_series"):                                # with a gap integers would become floats
        return frame.to_series(d).drop_nulls()
    return frame[frame.columns[d]]


def _no_numbers(column):
    """What a host column (N,) holds that is no number, or none that float64 can tell from others; else ""."""
    kind = column.dtype.kind
    if column.ndim > 1:
        return f"arrays of shape {column.shape[1:]}"
    if kind in "fb":
        return ""
    if kind in "iu":
        large = column[(column > EXACT) | (column < -EXACT)] if column.dtype.itemsize == 8 else column[:0]
        return _beyond(large.tolist())
    if kind == "O":
        for value in column:
            none = value is None or type(value).__name__ == "NAType"   # pandas' missing entry
            if not none and not isinstance(value, (numbers.Real, Decimal, np.bool_)):
                text = isinstance(value, (str, bytes))
                return f"text, first {str(value)!r}" if text else f"{NO_FLOAT}, not {type(value).__name__!r}"
            try:
                float(0 if none else value)
            except (OverflowError, ValueError):                    # as of 10**400, and of Decimal('sNaN')
                return f"a number of type {type(value).__name__!r} that float64 does not have"
        return _beyond(v for v in column if isinstance(v, numbers.Integral))
    names = {"M": "times", "m": "durations", "c": "complex numbers", "U": "text", "S": "text", "T": "text"}
    first = f", first {str(column[0])!r}" if len(column) else ""
    return f"{names.get(kind, str(column.dtype))}{first}"


def _beyond(integers):
    """A sentence on the first integer that float64 would take for another one, or ""."""
    return next((f"{v}, above 2^53" for v in integers if int(float(v)) != v), "")


NO_FLOAT = "float()'s argument must be a string or a real number"
EXACT = 2**53                                                      # float64 has all whole numbers up to it


def generator(random_state, name="random_state"):
    """A numpy Generator, which can spawn others, from what users call a random state.

    An integer (or a sequence of them) or a SeedSequence gives the same numbers every time; None new ones;
    a Generator itself, or a RandomState, from which a seed is drawn, goes on, so that a second fit differs
    from the first. Raises TypeError or ValueError for anything else.
    """
    try:
        if isinstance(random_state, (bool, np.bool_)):
            raise TypeError("a truth value is no seed")
        if isinstance(random_state, np.random.RandomState):
            return np.random.default_rng(random_state.randint(2**32, size=4, dtype="uint32"))
        if isinstance(random_state, np.random.SeedSequence):       # a copy, for spawning counts up the seed
            seed = random_state
            random_state = np.random.SeedSequence(
                seed.entropy, spawn_key=seed.spawn_key, pool_size=seed.pool_size
            )
        rng = np.random.default_rng(random_state)
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"{name} must be an integer >= 0, None, or one of numpy.random's Generator, RandomState and "
            f"SeedSequence, got {random_state!r} ({error})"
        ) from error
    if not hasattr(rng.bit_generator.seed_seq, "spawn"):           # seeded as a RandomState is
        return np.random.default_rng(rng.integers(2**32, size=4, dtype="uint32"))
    return rng


def weighted_rows(X, sample_weight):
    """X without the rows of weight 0, and the weights (N,) > 0 of the others; X itself and None where None.

    Raises ValueError unless there is one finite weight >= 0 for each row of X, and one above 0.
    """
    if sample_weight is None:
        return X, None
    X = X if hasattr(X, "shape") else to_numpy(X)
    n_cases = X.shape[0] if X.shape else 0
    try:
        weights = np.asarray(to_numpy(sample_weight), dtype="float64")
    except (TypeError, ValueError) as error:
        raise ValueError(f"sample_weight must be numbers, one for each data case ({error})") from error
    if weights.shape != (n_cases,):
        raise ValueError(
            f"sample_weight must have shape ({n_cases},), one weight for each data case, got {weights.shape}"
        )
    bad = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if len(bad):
        raise ValueError(f"sample_weight must be finite numbers >= 0, got {weights[bad[0]]} in row {bad[0]}")
    rows = np.flatnonzero(weights)
    if not len(rows):
        raise ValueError(
            "Sample weights must contain at least one non-zero number: sample_weight is 0 for every data case"
        )
    if len(rows) < n_cases:
        X = X.iloc[rows] if hasattr(X, "iloc") else X[rows]
    return X, weights[rows]


def check_size(name, value, least=1, most=None, why=""):
    """Raise ValueError unless `value` is an integer in [least, most]."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):
        upper = "" if most is None else f" and <= {most}"
        raise ValueError(f"{name} must be an integer >= {least}{upper}{why}, got {value!r}")


def check_patience(validation, patience):
    """Raise ValueError unless `patience` is None or, where there are validation data, an integer >= 1."""
    if patience is not None:
        if validation is None:
            raise ValueError(
                f"patience={patience!r} waits for a lower Q of held-out data, and there are none: give "
                "validation=…, or leave patience out"
            )
        check_size("patience", patience)


def check_like_training(n_columns, names, expected, trained):
    """Raise ValueError unless validation data have the `expected` columns, under the same names."""
    if n_columns != expected:
        raise ValueError(
            f"validation has {n_columns} columns, X has {expected}: give held-out rows of the same table"
        )
    if names is not None and trained is not None and list(names) != list(trained):
        raise ValueError(
            f"the columns of validation are {shorten(list(names))}, those of X {shorten(list(trained))}: "
            "give held-out rows of the same table"
        )


def check_jobs(name, value):
    """Raise ValueError unless `value` is None, -1 for every core, or an integer >= 1."""
    if value is None or (isinstance(value, numbers.Integral) and value == -1):
        return
    try:
        check_size(name, value)
    except ValueError:
        raise ValueError(
            f"{name} must be a number of threads, an integer >= 1, -1 for as many as there are cores, or "
            f"None for no threads, got {value!r}"
        ) from None


def check_positive(name, value):
    """Raise ValueError unless `value` is a finite number above 0."""
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not (number and 0 < value < np.inf):
        raise ValueError(f"{name} must be a finite number > 0, got {value!r}")


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


def check_choice(name, value, choices):
    """Raise ValueError unless `value` is one of `choices`, which are strings."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {sorted(choices)}, got {value!r}")
