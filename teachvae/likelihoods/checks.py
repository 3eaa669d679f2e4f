"""Which columns of host data are constant, but for rounding: a learnt diagonal Ψ has no maximum there."""

from ..arrays.backend import namespace
from ..arrays.rows import extremes
from ..messages import shorten


def still(x):
    """Which columns of host data x (N, D), NaN where missing, are constant but for rounding: (D,) bool."""
    low, high = extremes(x)
    return negligible(high - low, namespace(low).maximum(abs(high), abs(low)))


def negligible(spread, size, units=4):
    """Whether a spread of numbers of this size is rounding: a few units of their last digit, as between 0.3
    and 0.1 + 0.2, or so little that its square underflows to 0.
    """
    eps = float(namespace(spread).finfo(spread.dtype).eps)
    return (spread <= units * eps * size) | (spread**2 <= 1e-300)


def refuse_constant(x, names):
    """Raise ValueError naming the constant columns of host data x (N, D): a learnt diagonal Ψ has none."""
    constant_columns = [name for name, flat in zip(names, still(x)) if flat]
    if constant_columns:
        raise ValueError(
            f"{len(constant_columns)} of {x.shape[1]} columns are constant: "
            f"{shorten(constant_columns)}; a learnt diagonal Ψ would send their density to "
            "infinity: drop these columns (constant='drop'), or use noise='isotropic' or a fixed variance"
        )
