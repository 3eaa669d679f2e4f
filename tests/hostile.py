"""Hostile input as hypothesis draws it: tables of numbers, the forms in which they are handed over, tables as
text, files that lie, command lines. The numbers themselves come from a seed: what matters is their shape.
"""

from dataclasses import dataclass, field
import gzip
import io
import struct
import zipfile

from hypothesis import HealthCheck, given, settings, strategies as st
import numpy as np
import pandas as pd
import pytest

try:
    import polars
except ImportError:
    polars = None

# ---- how many cases ------------------------------------------------------------------------------


def cases(default, thorough, **drawn):
    """Decorator: a check of drawn cases as a test of `default` of them, and one of `thorough` many."""
    def decorate(check):
        @pytest.mark.parametrize(
            "n", [pytest.param(default, id="default"),
                  pytest.param(thorough, id="thorough", marks=pytest.mark.thorough)]
        )
        def test(n):
            settings(max_examples=n, suppress_health_check=list(HealthCheck))(given(**drawn)(check))()

        test.__name__, test.__doc__ = check.__name__, check.__doc__
        return test

    return decorate


# ---- tables of numbers ---------------------------------------------------------------------------

COLUMNS = ("plain", "plain", "plain", "plain", "duplicate", "collinear", "constant", "whole", "spike")
HOLES = ("none", "scattered", "a row", "a column", "one", "most")


@dataclass(frozen=True)
class Table:
    """x (N, D) with NaN for what is missing, how many factors to fit, and, for a failure, how x was made."""

    x: np.ndarray = field(repr=False)
    n_components: int
    kinds: tuple
    scales: tuple
    offsets: tuple
    holes: str
    seed: int


@st.composite
def tables(draw, holes=HOLES, kinds=COLUMNS, rows=(1, 25), columns=(1, 5), reach=150, offset=12):
    """Tables of N × D numbers, two factors and noise: columns of `kinds`, scales to 10^±reach, one or one
    each, offsets to 10^offset spreads, and a pattern of holes.
    """
    N, D = draw(st.integers(*rows)), draw(st.integers(*columns))
    kinds = tuple(draw(st.sampled_from(kinds)) for _ in range(D))
    exponents = st.one_of(st.just(0), st.integers(-reach, reach))
    scales = draw(st.one_of(exponents.map(lambda e: (e,) * D), st.tuples(*[exponents] * D)))
    offsets = draw(st.tuples(*[st.one_of(st.just(None), st.integers(0, offset))] * D))
    pattern, seed = draw(st.sampled_from(holes)), draw(st.integers(0, 2**32 - 1))
    x = numbers(seed, N, D, kinds)
    far = np.array([0 if o is None else 10.0**o for o in offsets])
    x = (x + far) * 10.0 ** np.array(scales)
    x[hidden(pattern, np.random.default_rng([seed, 1]), x.shape)] = np.nan
    return Table(x, draw(st.integers(1, D)), kinds, scales, offsets, pattern, seed)


def numbers(seed, N, D, kinds):
    """N × D numbers of two factors and noise, with columns of these kinds."""
    rng = np.random.default_rng([seed, 0])
    x = rng.normal(size=(N, 2)) @ rng.normal(size=(2, D)) + 0.5 * rng.normal(size=(N, D))
    for d, kind in enumerate(kinds):
        if kind == "duplicate":
            x[:, d] = x[:, 0]
        elif kind == "collinear":
            x[:, d] = x[:, :d].sum(axis=1) - 2 * x[:, 0]
        elif kind == "constant":
            x[:, d] = 3
        elif kind == "whole":
            x[:, d] = np.round(x[:, d])
        elif kind == "spike":
            x[:, d] = np.arange(N) == rng.integers(N)
    return x


def hidden(pattern, rng, shape):
    """Which entries of an array of this shape are missing."""
    N, D = shape
    mask = np.zeros(shape, bool)
    if pattern == "scattered":
        mask = rng.random(shape) < 0.25
    elif pattern == "most":
        mask = rng.random(shape) < 0.8
    elif pattern == "a row":
        mask[rng.integers(N)] = True
    elif pattern == "a column":
        mask[:, rng.integers(D)] = True
    elif pattern == "one":
        mask[rng.integers(N), rng.integers(D)] = True
    return mask


# ---- forms in which the same numbers are handed over ---------------------------------------------


class Handed:
    """An object that is no array, but has one to give."""

    def __init__(self, x):
        self.x = x

    def __array__(self, dtype=None, copy=None):
        return self.x


def _read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def _unaligned(x):
    return np.frombuffer(b"\0" + x.tobytes(), offset=1).reshape(x.shape)


def _strided(x):
    wide = np.zeros((2 * len(x), 3 * x.shape[1]))
    wide[::2, ::3] = x
    return wide[::2, ::3]


def _frame(x):
    return pd.DataFrame(x, columns=[f"column {d}, Größe" for d in range(x.shape[1])])


def mapped(x, folder):
    """x as a read-only array that is mapped from a file in `folder`."""
    np.save(folder / "mapped.npy", x)
    return np.load(folder / "mapped.npy", mmap_mode="r")


FORMS = {
    "lists": lambda x: x.tolist(),
    "tuples": lambda x: tuple(map(tuple, x)),
    "rows": list,
    "Fortran order": np.asfortranarray,
    "strided": _strided,
    "backwards": lambda x: np.ascontiguousarray(x[::-1, ::-1])[::-1, ::-1],
    "read-only": _read_only,
    "unaligned": _unaligned,
    "big-endian": lambda x: x.astype(">f8"),
    "longdouble": lambda x: x.astype(np.longdouble),
    "objects": lambda x: x.astype(object),
    "a matrix": lambda x: x.view(np.matrix),
    "an object with an array": Handed,
    "a frame": _frame,
    "a nullable frame": lambda x: _frame(x).astype("Float64"),
    "a frame of objects": lambda x: _frame(x).astype(object),
    "a sparse frame": lambda x: _frame(x).astype(pd.SparseDtype(float, np.nan)),
    "a frame with an index": lambda x: _frame(x).set_index(np.arange(len(x))[::-1] * 7),
}

if polars is not None:
    FORMS["Polars"] = lambda x: polars.DataFrame(
        {f"c{d}": x[:, d] for d in range(x.shape[1])}
    ).fill_nan(None)

# ---- tables as text ------------------------------------------------------------------------------

NAMES = ("Größe", "x", "a b", "价格", "$β$", "<b>", '"q"', "naïve", "x_1", "Δ%", "'", "1st", "é", "#", "a;b",
         "c,d", "-")
MARKS = ("", "NA", "?", "nan", "n/a", "-", "NULL", ".")
LABELS = ("yes", "no", "Möwe", "<i>", "a b", "x;y", "u,v", '"')


@dataclass(frozen=True)
class Text:
    """A table as somebody wrote it: the bytes, what was meant, and the options that say it all."""

    data: bytes
    x: np.ndarray = field(repr=False)
    columns: tuple
    labels: list
    options: dict
    needed: dict


@st.composite
def texts(draw):
    """Tables as people have them: separators, decimal marks, names, an index, labels, missing cells,
    encodings, byte-order marks, ends of lines, quotes.
    """
    N, D = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "latin-1", "cp1252"]))
    separator = draw(st.sampled_from(",;\t"))
    decimal = draw(st.sampled_from(".," if separator != "," else "."))
    number = st.one_of(
        st.floats(-1e6, 1e6, allow_subnormal=False), st.integers(-2000, 2000).map(float),
        st.floats(allow_nan=False, allow_infinity=False), st.integers(-999, 999).map(lambda n: n / 1000),
    )
    style = draw(st.sampled_from(["%r", "%.3f", "%g", "%e"]))
    cells = [[style % draw(number) for _ in range(D)] for _ in range(N)]
    if draw(st.booleans()):                                        # whole numbers without a mark
        cells = [[cell.removesuffix(".0") for cell in row] for row in cells]
    x = np.array([[float(cell) for cell in row] for row in cells])
    cells = [[cell.replace(".", decimal) for cell in row] for row in cells]
    needed = {} if encoding in ("utf-8", "utf-8-sig", "utf-16") else {"encoding": encoding}
    if draw(st.booleans()):
        needed["missing_values"], mark = [], draw(st.sampled_from(MARKS[D == 1 :]))  # no line is empty
        for n, d in np.argwhere(np.random.default_rng(draw(st.integers(0, 99))).random((N, D)) < 0.2):
            cells[n][d], x[n, d] = mark, np.nan
    columns, labels = None, None
    if draw(st.booleans()):
        columns = draw(st.permutations([name for name in NAMES if _fits(name, encoding)]))[: D + 1]
    lines = cells if columns is None else [columns[:D], *cells]
    if draw(st.booleans()):
        labels, place = [draw(st.sampled_from(LABELS)) for _ in range(N)], draw(st.integers(0, D))
        column = labels if columns is None else [columns[D], *labels]
        lines = [[*line[:place], cell, *line[place:]] for line, cell in zip(lines, column)]
        needed["labels"] = str(place + 1) if columns is None else columns[D]
    if columns is not None and draw(st.booleans()):
        index = draw(st.sampled_from(["%d", "row %d"]))
        lines = [[index % (3 * n) if n else "", *line] for n, line in enumerate(lines)]
    if columns is not None and "missing_values" in needed and set(lines[0]) <= set(MARKS):
        needed["header"] = True                                    # "-" alone may be a name or a missing cell
    quotes, end = draw(st.booleans()), draw(st.sampled_from(["\n", "\r\n", "\r"]))
    text = end.join(separator.join(_quoted(cell, separator, quotes) for cell in line) for line in lines)
    text += end * draw(st.integers(0, 2))
    options = {"header": columns is not None, "separator": separator, "decimal": decimal, **needed}
    return Text(text.encode(encoding), x, columns and tuple(columns[:D]), labels, options, needed)


def _fits(name, encoding):
    return name.encode(encoding, "replace").decode(encoding) == name


def _quoted(cell, separator, always):
    if always or any(mark in cell for mark in (separator, '"', "\n")):
        return '"' + cell.replace('"', '""') + '"'
    return cell


# ---- files that lie ------------------------------------------------------------------------------


def npy(x):
    """The bytes of x as an npy file."""
    file = io.BytesIO()
    np.save(file, x)
    return file.getvalue()


def npz(kind, **arrays):
    """The bytes of arrays as an npz file, packed or not."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", kind) as archive:
        for name, x in arrays.items():
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), npy(x), kind)
    return file.getvalue()


def idx(x):
    """The bytes of an array of bytes as an IDX file."""
    return bytes([0, 0, 8, x.ndim]) + struct.pack(f">{x.ndim}I", *x.shape) + x.tobytes()


def packed(data):
    """gzip without the time of day in its header."""
    return gzip.compress(data, mtime=0)


PIXELS = np.arange(24, dtype="uint8").reshape(4, 2, 3)
TABLE = np.arange(12.0).reshape(4, 3)
WHOLE = {
    "a.npy": npy(TABLE),
    "fortran.npy": npy(np.asfortranarray(TABLE)),
    "small.npy": npy(PIXELS),
    "half.npy": npy(TABLE.astype("float16")),
    "a.npz": npz(zipfile.ZIP_STORED, x=TABLE),
    "packed.npz": npz(zipfile.ZIP_DEFLATED, x=TABLE, y=np.arange(4)),
    "images-idx3-ubyte": idx(PIXELS),
    "images-idx3-ubyte.gz": packed(idx(PIXELS)),
    "a.csv": b"a,b,k\n1.5,2,x\n3,-4e5,y\n",
    "b.csv": "é;ü\n1,5;2\n3;-4,25\n".encode("latin-1"),
}
HEADER = "{'descr': %s, 'fortran_order': %s, 'shape': %s, }"
SIZES = ("(4, 3)", "(-1, 3)", "(0, 3)", "(3, 4)", "(4,)", "()", "4", "(4.0, 3)", "(True, 12)",
         f"({2**62}, 4)", f"({10**20}, 3)", f"(0, {10**20})", "(1000000000, 3)", "(4, 3", "[4, 3]",
         f"({'1,' * 65})", "None")
TYPES = ("'<f8'", "'>f8'", "'<f2'", "'|b1'", "'|O'", "'<U6'", "'<M8[D]'", "'V8'", "[('a', '<f8')]", "'<c16'",
         "'<i8'", "'x'", "8", "('<f4', (2,))", "'<f8'*99", "'|S0'", "'<f16'")


@st.composite
def files(draw):
    """(name, bytes) of whole files, of damaged ones, and of npy files whose headers claim anything."""
    name = draw(st.sampled_from(sorted(WHOLE)))
    if draw(st.integers(0, 3)) == 0:
        text = HEADER % tuple(draw(st.sampled_from(t)) for t in (TYPES, ("False", "True", "1"), SIZES))
        start = draw(st.sampled_from([b"\1\0", b"\2\0", b"\3\0", b"\4\0"]))
        size = len(text).to_bytes(2 if start == b"\1\0" else 4, "little")
        data = b"\x93NUMPY" + start + size + text.encode() + TABLE.tobytes()
        if draw(st.booleans()):
            return "header.npy", data
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr(zipfile.ZipInfo("x.npy"), data)
        return "header.npz", file.getvalue()
    data = bytearray(WHOLE[name])
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        how = draw(st.sampled_from(["change", "cut", "insert", "drop"]))
        if how == "change" and data:
            data[at] = draw(st.integers(0, 255))
        elif how == "cut":
            del data[at:]
        elif how == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=4))
        else:
            del data[at : at + 2]
    return name, bytes(data)


# ---- command lines -------------------------------------------------------------------------------

OPTIONS = {
    "--header": [[], None], "--no-header": [[], None],
    "--separator": [[","], [";"], ["tab"], ["|"], [""], None],
    "--decimal": [["."], [","], None],
    "--encoding": [["latin-1"], ["utf-8"], ["klingon"], [""], None],
    "--labels": [["k"], ["3"], ["Größe"], [""], ["-1"], None],
    "--leave-out": [["a"], ["k", "b"], ["1"], [], None],
    "--missing": [[], ["-999"], ["unknown", "nan"], None],
    "--latent": [["1"], ["0"], ["99"], ["²"], ["x"]],
    "--hidden": [["4"], [""], ["4,,4"], ["٣"], ["-1"]],
    "--likelihood": [["gaussian"], ["bernoulli"], ["poisson"], ["categorical"], ["none"]],
    "--binarise": [["threshold"], ["fixed"]],
    "--cases": [["2"], ["0"], ["10000000000000000000000"]],
    "--seed": [["0"], ["-1"], ["1" * 30]],
    "--epochs": [["1"], ["1e3"]],
    "--ledger": [["0"], ["-0"]],
    "--dtype": [["float32"], ["float16"]],
    "--json": [[]], "--quiet": [[]],
}


@st.composite
def command_lines(draw):
    """Arguments of `teachvae compare` after --data FILE: options with values that fit, and that do not."""
    chosen = draw(st.lists(st.sampled_from(sorted(OPTIONS)), max_size=4, unique=True))
    return [word for option in chosen for word in _words(option, draw(st.sampled_from(OPTIONS[option])))]


def _words(option, values):
    return [] if values is None else [option, *values]
