"""From a table to what the model sees, and back: categories as one-hot columns, constant columns set aside.

Here a likelihood's name, or a list that gives every column its kind, meets the data and becomes a
likelihood with sizes.
"""

from dataclasses import dataclass, field, replace
from numbers import Real

import numpy as np

from ..arrays import ranks
from ..arrays.observed import Observed
from ..arrays.rows import as_floats
from ..likelihoods import Categorical, Categories, Gaussian, LIKELIHOODS, Mixed, PredictedGaussian, StudentT
from ..likelihoods.checks import negligible, still
from ..messages import about_rows, shorten, warn
from .parts import require

MOST_LEVELS = 256                      # of a column of categories; more is taken for a mistake


class MovedWarning(UserWarning):
    """A column that was constant, and so was set aside, is not constant any more."""


@dataclass
class Columns:
    """How the D columns of X become the V columns of the model.

    given    names (D,) of X's columns, for messages
    dropped  {place: value} of constant columns that the model does not see
    levels   {place: (C,) sorted values} of columns of categories, which become C one-hot columns
    fill     (V,) what stands for a missing entry of the model's columns (the mask says that it is none)
    masked   whether entries may be missing, so that the model's data cases are an `Observed`
    """

    given: list
    dropped: dict = field(default_factory=dict)
    levels: dict = field(default_factory=dict)
    fill: object = None
    masked: bool = False

    def widths(self):
        """How many of the model's columns each of X's becomes, D numbers."""
        return [
            0 if d in self.dropped else len(self.levels[d]) if d in self.levels else 1
            for d in range(len(self.given))
        ]

    def places(self):
        """The model's columns that each of X's becomes, D ranges."""
        ends = np.cumsum(self.widths())
        return [range(end - width, end) for end, width in zip(ends, self.widths())]

    @property
    def names(self):
        """Names (V,) of the model's columns, for messages."""
        names = []
        for d, name in enumerate(self.given):
            if d in self.levels:
                names += [f"{name} = {_text(level)}" for level in self.levels[d]]
            elif d not in self.dropped:
                names.append(name)
        return names

    def encode(self, x, first=0):
        """Host data X (N, D) as the model's columns (N, V); NaN stays NaN, in all columns of a category.

        Raises ValueError for a category that the training data did not have; there `first` is the number of
        the first row.
        """
        if not self.levels and not self.dropped:
            return x
        parts = []
        for d in range(len(self.given)):
            column = x[:, d : d + 1]
            if d in self.levels:
                (column, levels), unseen = _of_one_precision(column, self.levels[d]), np.isnan(column)
                hot = column == levels                             # (N, C)
                new = ~hot.any(axis=1) & ~unseen[:, 0]
                if new.any():
                    n = int(new.nonzero()[0][0])
                    raise about_rows(
                        ValueError,
                        f"column {self.given[d]} has the category {_text(column[n, 0])} in row {{rows}}, "
                        f"which is none of those that are known: {shorten([_text(v) for v in levels])}; drop "
                        "such rows, give training data that have it, or name all that there are with "
                        "likelihood=likelihoods.Categories(…)",
                        [first + n],
                    )
                column = np.where(unseen, np.nan, hot)
            elif d in self.dropped:
                continue
            parts.append(column.astype(x.dtype))
        return np.concatenate(parts, axis=1)

    def warn_of_moved(self, x):
        """Warn where columns of X (N, D) that were set aside have other values than their constant."""
        def differs(column, value):
            column, value = _of_one_precision(column, np.array([value]))
            return ~negligible(np.abs(column - value), np.abs(column) + np.abs(value)) & ~np.isnan(column)

        moved = [
            self.given[d] for d, value in self.dropped.items() if differs(as_floats(x[:, d]), value).any()
        ]
        if moved:
            warn(
                f"columns {shorten(moved)} were constant in the training data and set aside; here they have "
                "other values, which are not looked at",
                MovedWarning,
            )

    def decode(self, v):
        """The model's columns (…, V) as X's (…, D): the most probable category, the constants put back."""
        if not self.levels and not self.dropped:
            return v
        parts = []
        for d, place in enumerate(self.places()):
            column = v[..., place.start : place.stop]
            if d in self.levels:
                column = self.levels[d][np.argmax(column, axis=-1)][..., None]
            elif d in self.dropped:
                column = np.full((*v.shape[:-1], 1), self.dropped[d])
            parts.append(column.astype(v.dtype))
        return np.concatenate(parts, axis=-1)

    def complete(self, v):
        """The model's columns (N, V) with `fill` in place of NaN, and the mask (N, V)."""
        mask = ~np.isnan(v)
        fill = 0.0 if self.fill is None else self.fill
        return np.where(mask, v, fill).astype(v.dtype), mask.astype(v.dtype)


@dataclass(frozen=True)
class Table:
    """Host data X (N, D) as the model's columns (N, V), made where they are read: table[rows] is a block of
    them in floats, with NaN where nothing was observed.

    x        of any real dtype and order of memory, mapped from a file too: it is never copied whole
    columns  the `Columns`
    comm     of the ranks that have data cases, from `ranks`: x has those of this one
    held     the dtype in which the model holds it; None: its own
    """

    x: object
    columns: Columns
    comm: object = ranks.SERIAL
    held: object = None

    @property
    def dtype(self):
        """That in which the model holds it."""
        return self.x.dtype if self.held is None else np.dtype(self.held)

    @property
    def shape(self):
        """(N, V) of what the model sees."""
        return len(self.x), sum(self.columns.widths())

    def __getitem__(self, rows):
        first = rows.start or 0 if isinstance(rows, slice) else 0
        return self.columns.encode(as_floats(self.x[rows]), first)


@dataclass(frozen=True)
class Cases:
    """The data cases of a `Table` as a model takes them: cases[rows, …] is a block of (x − origin)/scale on
    the backend, (n, V), an array, or an `Observed` where the columns are masked.

    Functions that ask of an array x (N, V) its shape and its blocks x[rows, :] take these cases as well.

    origin, scale  (V,) or a number, in float64: the difference is formed before it is rounded to the
                   backend's dtype, so that data far from 0 keep the digits in which they differ
    """

    table: Table
    backend: object
    origin: object = 0.0
    scale: object = 1.0

    @property
    def shape(self):
        """(N, V) of what the model sees."""
        return self.table.shape

    @property
    def comm(self):
        """That of the table."""
        return self.table.comm

    def __getitem__(self, place):
        rows, _ = place
        v, columns = self.table[rows], self.table.columns
        if not columns.masked:
            return self._in_units(v)
        v, mask = columns.complete(v.astype("float64"))
        return Observed(self._in_units(v), self.backend.asarray(mask))

    def _in_units(self, v):
        return self.backend.asarray((v - self.origin) / self.scale)


def columns_for(spec, x, names, noise="diagonal", constant="error", comm=ranks.SERIAL):
    """(Columns, likelihood) for training data x (N, D), NaN where nothing was observed; names (D,), a data
    frame's own labels or the numbers 0 … D − 1.

    spec      a name of `LIKELIHOODS`, a likelihood with D columns, `Categories` of D columns, or a list of
              (one of these, columns), columns by name or number, which makes a Mixed. In a data frame whose
              labels are numbers a number is a label, and nowhere a place
    noise     Ψ of Gaussians called by name; of "gaussian-predicted" the floor, where it is a number
    constant  "error", or "drop": constant columns under a learnt diagonal Ψ are set aside
    comm      of the ranks that have data cases, from `ranks`

    Raises ValueError where spec does not fit the data.
    """
    columns, D = Columns(list(names)), x.shape[1]
    if constant not in ("error", "drop"):
        raise ValueError(f"constant must be 'error' or 'drop', got {constant!r}")
    one = isinstance(spec, (str, type, Categories)) or hasattr(spec, "n_f")
    shares = [(spec, list(range(D)))] if one else _shares(spec, names)
    kinds = [name for name, _ in shares]
    for name in kinds:
        known = name in LIKELIHOODS if isinstance(name, str) else (
            hasattr(name, "n_f") or isinstance(name, Categories)
        )
        if isinstance(name, type):
            own = name.__name__
            raise ValueError(f"likelihood must be an object, got the class {own}: give {own}(…)")
        if not known:
            raise ValueError(_expected(name))
        if not isinstance(name, (str, Categories)):
            require("likelihood", name)
    named = {kind for kind in kinds if isinstance(kind, str)}
    if noise != "diagonal" and not {"gaussian", "gaussian-predicted"} & named:
        raise ValueError(f"noise={noise!r} belongs to likelihood='gaussian', not {spec!r}")
    for name, places in shares:
        if name == "categorical":
            columns.levels |= {d: _levels(x[:, d], names[d], comm) for d in places}
        elif isinstance(name, Categories):
            if len(name.levels) != len(places):
                raise ValueError(
                    f"Categories has the levels of {len(name.levels)} columns, it was given {len(places)}"
                )
            columns.levels |= {d: np.array(levels) for d, levels in zip(places, name.levels)}
        elif constant == "drop" and _learns_diagonal(name, noise):
            flat = still(Table(x, Columns(columns.given), comm))
            columns.dropped |= {d: _first(x[:, d], comm) for d in places if flat[d]}
    if len(columns.dropped) == D:
        raise ValueError(f"all {D} columns are constant: nothing is left to be modelled")

    where, parts = columns.places(), []
    for name, places in shares:
        own = [v for d in places for v in where[d]]
        if own:
            sizes = [len(columns.levels[d]) for d in places if d in columns.levels]
            parts.append((_make(name, len(own), sizes, noise, len(places)), own))
    if len(parts) == 1 and parts[0][1] == list(range(len(columns.names))):
        return columns, parts[0][0]
    return columns, Mixed(tuple(parts))


def _expected(got):
    return (
        f"likelihood must be one of {sorted(LIKELIHOODS)}, a likelihood such as Gaussian(3) for 3 columns, "
        f"or a list of (likelihood, list of columns), got {got!r}"
    )


def _learns_diagonal(name, noise):
    """Whether the likelihood learns a noise variance of each column, which a constant column cannot have."""
    if isinstance(name, Gaussian):
        return name.noise == "diagonal"
    return isinstance(name, StudentT) or name == "student-t" or (name == "gaussian" and noise == "diagonal")


def _make(name, n_visible, sizes, noise, given):
    """The likelihood called `name` for so many columns; a likelihood itself must have as many as are `given`,
    of which some may be set aside.
    """
    if name == "categorical" or isinstance(name, Categories):
        return Categorical(tuple(sizes))
    if not isinstance(name, str):
        if name.n_visible not in (n_visible, given):
            raise ValueError(
                f"the likelihood {type(name).__name__} has {name.n_visible} columns, it was given {given}"
            )
        return name if name.n_visible == n_visible else replace(name, n_visible=n_visible)
    if name == "gaussian":
        return Gaussian(n_visible, noise)
    if name == "gaussian-predicted":
        return PredictedGaussian(n_visible) if noise == "diagonal" else PredictedGaussian(n_visible, noise)
    return LIKELIHOODS[name](n_visible)


def _shares(spec, names):
    """[(name or likelihood, places)] from a list of (name or likelihood, columns by name or number)."""
    shares, called = [], _places(names)
    try:
        for share in spec:
            if len(share) != 2:
                raise TypeError(f"a part of {len(share)}")
            name, columns = share
            if isinstance(columns, str):
                raise ValueError(f"the columns of a part must be a list, got {columns!r}: give [{columns!r}]")
            shares.append((name, [_place(column, called, names) for column in columns]))
    except TypeError as error:
        raise ValueError(_expected(spec)) from error
    given = sorted(d for _, places in shares for d in places)
    if given != list(range(len(names))):
        twice = sorted({names[d] for d in given if given.count(d) > 1}, key=str)
        none = [names[d] for d in range(len(names)) if d not in given]
        raise ValueError(
            "a list of likelihoods must name every column once; "
            + "; ".join(f"{what}: {shorten(d)}" for what, d in (("twice", twice), ("missing", none)) if d)
        )
    return shares


def _places(names):
    """{name: its places} of all columns. Where no name is a number, the places' numbers are names too."""
    called = {}
    for d, name in enumerate(names):
        for text in {name, str(name)}:                             # as feature_names_in_ has it
            called.setdefault(text, []).append(d)
    numbers = any(isinstance(name, Real) for name in names)
    return called if numbers else {d: [d] for d in range(len(names))} | called


def _place(column, called, names):
    """The place of a column by its name, one of `_places`. Neither True nor 1.0 is the name 1."""
    kind = next((kind for kind in (float, bool, np.bool_) if isinstance(column, kind)), object)
    places = called.get(column, [])
    if not places or not any(isinstance(name, kind) for name in names):
        raise ValueError(f"there is no column {column!r}; the columns are {shorten(names)}")
    if len(places) > 1:
        raise ValueError(
            f"{len(places)} columns bear the name {column!r}; a list of likelihoods must know them apart: "
            "rename them"
        )
    return places[0]


def _of_one_precision(column, levels):
    """Host numbers, and levels (C,), in the coarser of their precisions, for float32's 0.1 is not float64's;
    in float64 where the coarser one does not tell the levels apart.
    """
    dtype = "float32" if "float32" in (column.dtype, levels.dtype) else "float64"
    with np.errstate(over="ignore"):                               # a number that float32 lacks is no level
        if len(np.unique(levels.astype(dtype))) < len(levels):
            dtype = "float64"
        return column.astype(dtype), levels.astype(dtype)


def _text(level):
    """A category's number, as short as tells it from all others."""
    return str(level).removesuffix(".0")


def _first(column, comm):
    """The first number that is not missing in a column (N,), in the order of the ranks."""
    return next(found[0] for found in comm.gather(column[np.isfinite(column)][:1]) if len(found))


def _levels(column, name, comm):
    """The sorted values of a column of categories (N,), NaN left out; ValueError where they are many."""
    column = as_floats(column)
    levels = np.unique(np.concatenate(comm.gather(np.unique(column[~np.isnan(column)]))))
    digits = np.finfo(levels.dtype).nmant + 1
    if np.abs(levels).max(initial=0) >= 2**digits:
        raise ValueError(
            f"column {name} has categories such as {np.abs(levels).max():.0f}; above 2^{digits} "
            f"{levels.dtype} takes different whole numbers for one: number the categories 0, 1, … instead"
        )
    if not 1 <= len(levels) <= MOST_LEVELS:
        raise ValueError(
            f"column {name} has {len(levels)} different values, a column of categories has 1 to "
            f"{MOST_LEVELS}: give it another likelihood, or join rare categories into one"
        )
    return levels
