"""Which columns of host data are constant, but for rounding: a learnt diagonal Ψ has no maximum there."""

from ..arrays.backend import namespace
from ..arrays.rows import extremes, float_type
from ..messages import OR_DOUBLE, shorten


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


SHARE = 4.5e7                          # of a variance, in least normal numbers: 1e-300 in float64


def refuse_small(low, high, names, dtype, every=False):
    """Raise ValueError naming the columns, from low to high (D,) on the host, that vary, but so little that
    `dtype` cannot hold shares of their variances, such as the floor of Ψ. every: where none varies by more.
    """
    xp, held = namespace(low), float_type(dtype)
    rounding = 4 * float(xp.finfo(low.dtype).eps) * xp.maximum(abs(high), abs(low))
    spread, least = high - low, (SHARE * float(xp.finfo(held).smallest_normal)) ** 0.5
    varies = spread > rounding
    small = varies & (spread <= least)
    if small.any() and not (every and (varies & ~small).any()):
        raise ValueError(
            f"columns {shorten([name for name, so in zip(names, small) if so])} vary by "
            f"{float(spread[small].max()):.1e} at the most; below {least:.1e} shares of their variances "
            f"underflow in {held}: give the data in smaller units{OR_DOUBLE if held == 'float32' else ''}"
        )


def refuse_constant(x, names, every=False):
    """Raise ValueError naming the constant columns of host data x (N, D), and those that vary too little, for
    a learnt diagonal Ψ has no maximum there. every: where all of them are so, as for an isotropic Ψ.
    """
    refuse_small(*extremes(x), names, x.dtype, every)
    constant_columns = [name for name, flat in zip(names, still(x)) if flat]
    if constant_columns and not every:
        raise ValueError(
            f"{len(constant_columns)} of {x.shape[1]} columns are constant: "
            f"{shorten(constant_columns)}; a learnt diagonal Ψ would send their density to "
            "infinity: drop these columns (constant='drop'), or use noise='isotropic' or a fixed variance"
        )
    if len(constant_columns) == x.shape[1]:
        raise ValueError(
            f"all {x.shape[1]} columns are constant, so a learnt Ψ would send the density to "
            "infinity: give data that vary, or use a fixed variance"
        )
