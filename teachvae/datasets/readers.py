"""How data comes in: from a file, from a folder of IDX files, from a server.

    READERS[".csv"](path, …)    numbers separated by commas, semicolons or tabs; .tsv and .txt are the same
    READERS[".npy"](path, …)    an array
    READERS[".npz"](path, …)    an array, or an array and its labels
    idx(path)                   one IDX file, packed with gzip or not: an array of any shape
    idx_folder(folder, part)    images and labels of a folder laid out like MNIST's
    download(...)               files with known checksums, kept in a cache

A reader of READERS returns a dict of the fields of a `datasets.Dataset`, whose note says what was taken
for what. Nothing is scaled here; `datasets.load` has the options.
"""

import codecs
from contextlib import contextmanager
import csv
from decimal import Decimal
import gzip
import io
from itertools import islice
import math
from pathlib import Path
import re
import shlex
import zipfile
import zlib

import numpy as np

from ..doors.validate import EXACT
from ..messages import column_names, shorten, warn

LARGEST_FILE = 2**30  # bytes, uncompressed
MERGED = (
    ", above 2^53, where float64 takes different whole numbers for one; expected numbers that it can tell "
    "apart: leave a column of ids out, or number them 0, 1, … instead"
)

# ---- .npy and .npz ---------------------------------------------------------------------------


def _npy(path, missing_values=None):
    _check_bytes(path, path.stat().st_size)
    return _from_arrays(path, _array(path, path.read_bytes()), missing_values)


def _npz(path, missing_values=None):
    """An npz file is a zip file of npy files."""
    _check_bytes(path, path.stat().st_size)
    with path.open("rb") as file:
        with _decoding(path):
            members = zipfile.ZipFile(file).infolist()
        _check_bytes(path, sum(member.file_size for member in members))
        names = [member.filename.removesuffix(".npy") for member in members]
        if len(names) != 1 and sorted(names) != ["x", "y"]:
            raise ValueError(
                f"{path}: holds arrays named {sorted(names)}; expected one array, or x (the data) and y (the "
                "labels): save them with numpy.savez(path, x=data, y=labels)"
            )
        arrays = dict(zip(names, (_array(path, _unpacked(path, file, member)) for member in members)))
    labels = arrays.pop("y") if len(arrays) == 2 else None
    return _from_arrays(path, *arrays.values(), missing_values, labels)


def _unpacked(path, file, member):
    """The bytes of one member of a zip file, no more than it says that it has."""
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # Of bzip2 and LZMA, zipfile unpacks as much as there is before it counts.
        raise ValueError(_unreadable(path, "it is packed in another way than numpy.savez_compressed packs"))
    with _decoding(path), zipfile.ZipFile(file) as archive, archive.open(member) as packed:
        return packed.read(member.file_size)


def _array(path, data):
    """The array of an npy file's bytes, whose header is held against what follows before it is believed."""
    file = io.BytesIO(data)
    with _decoding(path):
        version = np.lib.format.read_magic(file)
        shape, by_columns, dtype = NPY_HEADERS[version](file)
        if dtype.hasobject:
            raise ValueError("its dtype is object")
    n_bytes, following = math.prod(shape) * dtype.itemsize, len(data) - file.tell()
    if not all(type(size) is int and size >= 0 for size in shape) or n_bytes != following:
        sizes = " × ".join(map(str, shape))
        raise ValueError(
            _unreadable(path, f"its header says {sizes} × {dtype.itemsize} bytes, {following} follow")
        )
    with _decoding(path):                                          # 65 axes are too many for NumPy
        array = np.frombuffer(data, dtype, offset=file.tell())
        return array.reshape(shape[::-1]).T if by_columns else array.reshape(shape)


# Version 3 differs in fields with names, which are no numbers.
NPY_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0
}


@contextmanager
def _decoding(path):
    """Whatever a decoder raises on a damaged file, as a ValueError: zipfile, zlib and NumPy, which hands the
    header of an npy file to Python's own parser, know a dozen classes between them.
    """
    try:
        yield
    except Exception as error:
        said = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise ValueError(_unreadable(path, said)) from error


def _unreadable(path, error):
    call = "numpy.savez(path, x=x)" if path.suffix.lower() == ".npz" else "numpy.save(path, x)"
    return (
        f"{path}: not a {path.suffix} file of plain numbers ({error}); expected an array whose dtype is a "
        f"number type, not object: save it with {call}. Pickled objects are refused, since loading them "
        "can run code"
    )


def _from_arrays(path, x, missing_values, labels=None):
    """The fields of an array (N, D) or (N, h, w), and of labels (N,)."""
    words, codes = _codes(missing_values)
    if len(words) > len(MISSING) + len(codes):
        raise ValueError(f"{path}: the codes of an array must be numbers, got {missing_values!r}")
    if x.dtype.kind not in "buif":
        raise ValueError(
            f"{path}: the array is of dtype {x.dtype}; expected real numbers: convert it with "
            "x.astype(float) and save it again"
        )
    if x.ndim not in (2, 3) or x.size == 0:
        raise ValueError(
            f"{path}: the array has shape {x.shape}; expected (N, D), a data case per row, or images "
            "(N, h, w), none of them 0: bring it to that shape with x.reshape and save it again"
        )
    if labels is not None and labels.shape != x.shape[:1]:
        raise ValueError(
            f"{path}: the labels y have shape {labels.shape}; expected {x.shape[:1]}, one for each data "
            f"case of x {x.shape}: save the y that belongs to this x"
        )
    note = f"As in the file, {x.dtype.name}, unscaled."
    if x.ndim == 3:
        note += f" Images of {x.shape[1]} × {x.shape[2]} pixels flattened to rows."
    table = x.reshape(len(x), -1).astype(np.float64, order="C")
    if x.dtype.kind in "iu" and x.dtype.itemsize == 8:
        for n, d in np.argwhere(np.abs(table) >= EXACT):
            whole = int(x.reshape(table.shape)[n, d])
            if int(table[n, d]) != whole and table[n, d] not in codes:
                raise ValueError(f"{path}: row {n}, column {d} (counted from 0) holds {whole}{MERGED}")
    for code in codes:
        with np.errstate(over="ignore"):
            own = float(x.dtype.type(code)) if x.dtype.kind == "f" else code  # as the array holds it
        if math.isfinite(own) or not math.isfinite(code):
            table[table == own] = np.nan
    shape = None if x.ndim == 2 else x.shape[1:]
    return _fields(path, table, note, missing_values, labels=labels, image_shape=shape)


# ---- .csv ------------------------------------------------------------------------------------


def _csv(path, header=None, separator=None, decimal=None, encoding=None, labels=None, leave_out=(),
         missing_values=None):
    _check_bytes(path, path.stat().st_size)
    words, codes = _codes(missing_values)
    text = _text(path, encoding)
    try:
        lines, decimal, how = _cells(path, text, header, separator, decimal)
    except csv.Error as error:
        raise ValueError(f"{path}: not comma separated text ({error}); save it as CSV (UTF-8)") from error
    columns, numbered, said = _names(path, lines, header, decimal)
    body = lines if columns is None else lines[1:]
    if not body:
        raise ValueError(
            f"{path}: holds no row of numbers; expected numbers separated by commas, a data case per line: "
            "check that this is the right file"
        )
    width = len(lines[0][1])
    for row, cells in body:
        if len(cells) != width:
            raise ValueError(
                f"{path}: row {row} has {len(cells)} columns ({','.join(cells)[:40]!r}); expected {width}, "
                "as in the first row: add or take out cells (counted from 1, as lines of the file, which "
                f"was read with {how})"
            )
    names = list(columns) if columns else [str(d + 1) for d in range(width)]
    label, aside = _roles(path, names, numbered, labels, leave_out)
    data = [d for d in range(width) if d != label and d not in aside]
    if not data:
        raise ValueError(f"{path}: all {width} columns are set aside, none is left to be modelled")
    x = np.empty((len(body), len(data)))
    for n, (row, cells) in enumerate(body):
        for place, d in enumerate(data):
            cell = cells[d]
            number = _number(cell, decimal)
            name = f" ({columns[d]})" if columns else ""
            where = f"{path}: row {row}, column {d + 1}{name} holds"
            if missing_values is not None and (cell.lower() in words or number in codes):
                number = math.nan
            elif number is None or not math.isfinite(number):
                column = [cells[d] for _, cells in body]
                raise ValueError(f"{where} {_no_number(cell, names[d], column, decimal, how)}")
            elif abs(number) >= EXACT and INTEGER.fullmatch(cell) and not _is_exact(number, cell):
                raise ValueError(f"{where} {cell[:40]}{MERGED}")
            x[n, place] = number
    note = f"As in the file, unscaled. Read with {how}. {said}"
    if leave_out:
        note += f" Columns {shorten([names[d] for d in aside if d or not numbered])} are left out."
    if label is not None:
        note += f" Column {names[label]} holds the labels."
        labels = _labels(path, names[label], [(row, cells[label]) for row, cells in body], decimal)
    return _fields(
        path, x, note, missing_values, labels=None if label is None else labels,
        columns=tuple(columns[d] for d in data) if columns else None, rows=np.array([row for row, _ in body]),
    )


def _text(path, encoding):
    """The file's text: UTF-8, UTF-16 where a byte-order mark says so, or as was said."""
    data = path.read_bytes()
    found = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return data.decode(found if encoding is None else encoding).replace("\r\n", "\n").replace("\r", "\n")
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(
            f"{path}: not text in {encoding or 'UTF-8'} ({error}); save it as CSV (UTF-8), or say in which "
            "encoding it is, encoding='latin-1' for most files of Western Europe (to teachvae, --encoding "
            "latin-1)"
        ) from error


def _roles(path, names, numbered, labels, leave_out):
    """The place of the column of labels or None, and the places that are set aside, of columns by name."""
    if isinstance(leave_out, str) or not hasattr(leave_out, "__iter__"):
        raise ValueError(f"leave_out must be a list of columns such as ['id'], got {leave_out!r}")

    def place(name):
        if names.count(str(name)) != 1:
            raise ValueError(
                f"{path}: there is no column {str(name)!r}; the columns are {shorten(names)}: name one of "
                "them, those of a file without a line of names by their numbers, counted from 1"
            )
        return names.index(str(name))

    aside = {place(name): name for name in leave_out}
    label = None if labels is None else place(labels)
    if label in aside:
        raise ValueError(f"{path}: column {labels!r} cannot hold the labels and be left out: say one of them")
    return label, sorted(aside | ({0: ""} if numbered else {}))


def _labels(path, name, cells, decimal):
    """The labels (N,) in a column, [(place in the file, cell)]: numbers where all of them are, else text."""
    for row, cell in cells:
        if cell.lower() in MISSING:
            raise ValueError(
                f"{path}: row {row} has no label, column {name} holds {cell!r} there; expected one for every "
                "data case: take the row out, or give the class of those without one a name"
            )
    numbers = [_number(cell, decimal) for _, cell in cells]
    if None in numbers or not all(_is_exact(v, c) for v, (_, c) in zip(numbers, cells)):
        return np.array([cell for _, cell in cells])
    labels = np.array(numbers)
    return labels.astype(np.int64) if all(map(float.is_integer, numbers)) else labels


def _is_exact(number, cell):
    """Whether a number that was read off a cell is that number, where the cell holds a whole one."""
    return not INTEGER.fullmatch(cell) or abs(number) < EXACT or Decimal(number) == Decimal(cell)


def _no_number(cell, name, column, decimal, how):
    """What to say of a cell that is no finite number, in a column of this name and of such cells."""
    text = len(column) > 1 and all(_number(c, decimal) is None for c in column)
    parts = cell.split()
    cure = "correct the cell or take out the row"
    if len(parts) > 1 and all(_number(part, decimal) is not None for part in parts):
        cure = (
            "numbers with spaces between them: save them with commas, as numpy.savetxt(path, x, "
            "delimiter=',') does"
        )
    elif text and any(c.lower() not in MISSING for c in column):
        cure = (
            f"the whole column is text: say labels={name!r} where it holds classes, leave_out=[{name!r}] "
            f"where it is not to be modelled (to teachvae, --labels {shlex.quote(name)} or --leave-out "
            f"{shlex.quote(name)}), or encode it as numbers, as df[column].astype('category').cat.codes of "
            "pandas does"
        )
    hint = (
        "; if it stands for a missing entry, say missing_values=[], or --missing to teachvae"
        if cell.lower() in MISSING else ""
    )
    return (
        f"{cell[:40]!r}; expected a finite number such as -1.5 (no unit, not empty; the file was read with "
        f"{how}): {cure} (counted from 1, as lines of the file; only row 1 may hold names, none of them "
        f"empty, no two alike, and none a number){hint}"
    )


def _cells(path, text, header, separator, decimal):
    """All lines that are not empty, [(place in the file, cells)], the decimal mark, and both in words.

    The separator is the one by which most lines become several numbers, and then, where columns hold text,
    most cells. What stays open is refused.
    """
    if separator not in (None, *SEPARATORS) or decimal not in (None, *DECIMALS):
        raise ValueError(
            f"separator must be one of {list(SEPARATORS)} and decimal one of {list(DECIMALS)}, got "
            f"{separator!r} and {decimal!r}: or leave them out where the file leaves no doubt"
        )

    def cut(by):
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=by)
        return ((reader.line_num, cells) for cells in reader if cells)

    def share(by):
        lines = [cells for _, cells in islice(cut(by), 100)]
        rows = [cells for cells in lines[1:] or lines if len(cells) > 1]
        marks = DECIMALS if decimal is None else decimal
        numbers = [[any(_may_be(cell, mark) for mark in marks) for cell in cells] for cells in rows]
        return sum(map(all, numbers)), sum(map(sum, numbers)), len(rows), bool(rows) and by != ","

    by = separator or max((s for s in SEPARATORS if s != decimal), key=share)  # commas may be decimal marks
    lines = list(cut(by))
    if separator is None and decimal is None and by == "," and _are_decimals(path, lines, header):
        by, decimal = ";", ","                                     # of which there are none
        lines = list(cut(by))
    lines = [(row, [cell.strip() for cell in cells]) for row, cells in lines]
    decimal = decimal or _decimal(path, lines, SEPARATORS[by])
    apart = "one cell a line" if all(len(cells) == 1 for _, cells in lines) else SEPARATORS[by]
    return lines, decimal, f"{apart} and {DECIMALS[decimal]}"


def _are_decimals(path, lines, header):
    """Whether lines such as 0,13 are one column with decimal commas, not two of numbers without a mark."""
    first = [cell for _, cells in lines[:1] for cell in cells]
    named = header or (header is None and _are_names(first))
    pairs = [cells for _, cells in lines[1 if named else 0 :]]
    if not pairs or not all(
        len(pair) == 2 and INTEGER.fullmatch(pair[0]) and DECIMALS_ALONE.fullmatch(pair[1]) for pair in pairs
    ):
        return False
    if named:
        return len(first) == 1
    if any(pair[0] in ("-0", "+0") or NOUGHT_FIRST.match(pair[1]) for pair in pairs):
        return True                                                # nobody writes a whole number 05
    raise ValueError(
        f"{path}: every line is two numbers without a point, with a comma between them, the first "
        f"{','.join(pairs[0])!r}; that is two columns, or one with decimal commas: say which, separator=',' "
        "or decimal=',' (to teachvae, --separator , or --decimal ,)"
    )


def _decimal(path, lines, separator):
    """The decimal mark of cells that have been cut apart at `separator`, in words."""
    found = [(row, cell) for row, cells in lines for cell in cells if "," in cell and _may_be(cell, ",")]
    if not found:
        _refuse_points_for_thousands(path, lines, separator)
        return "."
    row, cell = found[0]
    points = ((r, c) for r, cells in lines for c in cells if "." in c and _number(c, ".") is not None)
    other = next(points, None)
    if other is not None:
        raise ValueError(
            f"{path}: read with {separator}, row {row} holds {cell!r} and row {other[0]} {other[1]!r}; "
            "expected one decimal mark in the whole file, and no mark for thousands: write all numbers alike"
        )
    if all(THOUSANDS.fullmatch(cell) for _, cell in found):
        raise ValueError(
            f"{path}: read with {separator}, row {row} holds {cell!r}, a decimal comma or a mark for "
            "thousands: say decimal=',' (to teachvae, --decimal ,), or take the marks for thousands out"
        )
    return ","


def _refuse_points_for_thousands(path, lines, separator):
    """Raise ValueError where all points in numbers may be marks for thousands, as in countries that put
    semicolons between cells.
    """
    if separator == SEPARATORS[","]:
        return
    found = [
        (row, cell) for row, cells in lines for cell in cells
        if "." in cell and (POINTS.fullmatch(cell) or _number(cell, ".") is not None)
    ]
    if found and all(POINTS.fullmatch(cell) for _, cell in found):
        raise ValueError(
            f"{path}: read with {separator}, row {found[0][0]} holds {found[0][1]!r}, a decimal point or a "
            "mark for thousands: say decimal='.' (to teachvae, --decimal .), or take the marks for thousands "
            "out"
        )


def _names(path, lines, header, decimal):
    """The columns' names or None, whether the first column names the rows, and what was taken for what."""
    if header not in (None, True, False):
        raise ValueError(f"header must be True, False or None, got {header!r}")
    if not lines or header is False:
        return None, False, "No line of names, as was said."
    (place, first), body = lines[0], [cells for _, cells in lines[1:]]
    counted = [str(d) for d in range(len(first) - 1)]
    index = [cells[0] for cells in body]
    numbered = (
        len(first) > 1 and first[0] == "" and (bool(header) or _are_names(first[1:]) or first[1:] == counted)
        and (all(map(INTEGER.fullmatch, index)) or not any(_may_be(cell, decimal) for cell in index))
        and len(set(index)) == len(index) > 0
    )
    names = first[1:] if numbered else first
    if header and (not all(names) or len(set(names)) < len(names)):
        raise ValueError(
            f"{path}: header=True, but line {place} holds {','.join(first)[:60]!r}; expected a name for "
            "every column, no two alike: name them, or say header=False (to teachvae, --no-header)"
        )
    if not (header or numbered or _are_names(names) or _are_numbers_for_names(path, names, body, decimal)):
        return None, False, "No line of names."
    said = f"Line {place} holds the columns' names: {shorten(names)}."
    if numbered:
        said += " The first column, which has no name, tells the rows apart and is set aside."
    return tuple(first), numbered, said


def _are_numbers_for_names(path, first, body, decimal):
    """Whether a first line of numbers is a header, such as the 0, 1, 2, … of a frame without names.

    It is where three columns or more count from 0 and one is written otherwise below: 0 and 1 may be a time
    and what was measured then. Refused where it may be.
    """
    numbers = [_number(cell, decimal) for cell in first]
    D = len(first)
    if not body or None in numbers or any(len(cells) != D for cells in body):
        return False
    counts, why = first == [str(d) for d in range(D)], None
    if all(INTEGER.fullmatch(cell) for cell in first):
        below = [[c for c in column if c.lower() not in MISSING] for column in zip(*body)]
        other = [bool(column) and not any(map(INTEGER.fullmatch, column)) for column in below]
        if counts and any(other) and D > 2:
            return True
        if counts:
            why = "count from 0, as the names of a frame without names do"
        elif D > 1 and len(set(numbers)) == D and all(other):
            why = "are whole numbers, and none below is"
    if why is None and D > 2 and all(a < b for a, b in zip(numbers, numbers[1:])):
        below = [v for cells in body for v in (_number(c, decimal) for c in cells) if v is not None]
        if below and (min(below) > numbers[-1] or max(below) < numbers[0]):
            why = "rise, and lie outside of all numbers below"
    if why is None:
        return False
    raise ValueError(
        f"{path}: the numbers of the first line, {shorten(first, 4)}, {why}; they are names of columns or a "
        "data case: say which, header=True or header=False (to teachvae, --header or --no-header)"
    )


SEPARATORS = {",": "commas between cells", ";": "semicolons between cells", "\t": "tabs between cells"}
DECIMALS = {".": "a decimal point", ",": "a decimal comma"}
MISSING = ("", "na", "n/a", "nan", "null", "none", "?", ".", "-")  # and in capitals
INTEGER = re.compile(r"[+-]?\d+")
DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?|[^,.]*")
DECIMALS_ALONE = re.compile(r"\d+([eE][+-]?\d+)?")                # of 0,13, and of 2,22e-16
NOUGHT_FIRST = re.compile(r"0\d")
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
POINTS = re.compile(r"[+-]?[1-9]\d{0,2}(\.\d{3})+")


def _are_names(cells):
    """Whether a first line is a header. A line of nothing but NA, or of empty cells, is bad data."""
    names = [cell.strip() for cell in cells]
    numbers = (_may_be(name, mark) for name in names for mark in DECIMALS)
    return len(set(names)) == len(names) and not any(numbers)


def _may_be(cell, decimal):
    """Whether the cell is a number, or one of the words for a missing one."""
    return cell.strip().lower() in MISSING or _number(cell, decimal) is not None


def _number(cell, decimal):
    """The cell as a float, or None. Python reads 1_000 as a number; a data file means none by it."""
    if decimal == ",":
        if not DECIMAL_COMMA.fullmatch(cell.strip()):
            return None
        cell = cell.replace(",", ".")
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


# ---- missing entries -------------------------------------------------------------------------


class ReadingWarning(UserWarning):
    """A number in a file looks like a code for a missing entry, and was taken as it is."""


def _codes(missing_values):
    """The words, in small letters, and the numbers that stand for missing entries."""
    if missing_values is None:
        return (), ()
    if isinstance(missing_values, str) or not hasattr(missing_values, "__iter__"):
        raise ValueError(
            f"missing_values must be a list of codes such as [-999, 'unknown'], got {missing_values!r}"
        )
    words = {*MISSING, *(str(code).strip().lower() for code in missing_values)}
    return words, {number for code in missing_values if (number := _number(str(code), ".")) is not None}


def _fields(path, x, note, missing_values, **more):
    """The fields of a `Dataset`; numbers that look like codes for missing entries are warned of."""
    if missing_values is not None:
        note += f" {int(np.isnan(x).sum())} of {x.size} entries are missing."
    names = column_names(more.get("columns"), x.shape[1])
    found, codes = [], []
    for d, code, count, low, high in _look_like_codes(x):
        codes.append(code)
        found.append(f"{code:g} in {count} rows of column {names[d]} (all else from {low:g} to {high:g})")
    if found:
        text = (
            f"numbers that look like codes for missing entries were taken as they are: {shorten(found, 4)}. "
            f"If they are codes, say missing_values=[…], or to teachvae --missing {codes[0]:g}"
        )
        note += f" Beware: {text}."
        warn(f"{path}: {text}", ReadingWarning)
    known = missing_values is not None
    return dict(x=x, name=path.stem, note=note, source=str(path), missing=known, **more)


def _look_like_codes(x):
    """(column, value, how often, least and greatest other value) of ends of columns far from all the rest."""
    for d, column in enumerate(x.T):
        values = np.unique(column[np.isfinite(column)])
        low, high = 0, len(values)
        while low < high and _is_nines(values[low]):
            low += 1
        while low < high and _is_nines(values[high - 1]):
            high -= 1
        rest = values[low:high]
        for end in (*values[:low], *values[high:]):
            if rest.size and np.abs(rest - end).min() > np.ptp(rest):
                yield d, end, int((column == end).sum()), rest[0], rest[-1]


def _is_nines(value):
    """-999, 9999, 99.9, …, or the end of an integer or floating-point type."""
    digits = f"{abs(value):.10g}".replace(".", "")
    return (len(digits) > 1 and set(digits) == {"9"}) or abs(value) in FILLS


FILLS = (999.25, 32767, 32768, 2147483647, 2147483648, 1e20, float(np.float32(1e20)), 1e30)


READERS = {".csv": _csv, ".tsv": _csv, ".txt": _csv, ".npy": _npy, ".npz": _npz}


# ---- IDX, the format of MNIST's files --------------------------------------------------------

IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
MOST_AXES = 64                                                     # of an array of NumPy
PARTS = {"train": ("train",), "test": ("t10k",), "both": ("train", "t10k")}


def idx(path):
    """The array of one IDX file, of its shape and number type, packed with gzip or not.

    The format: two bytes 0, a byte for the number type, a byte for the number of axes; a size per axis,
    4 bytes each; then the numbers, the last axis fastest. All of it is big-endian; the array is native.
    gzip is known by its first two bytes, not by the file's name.

    Raises FileNotFoundError where there is no such file, and ValueError for anything else than this
    format, for more or fewer bytes than the header promises, a damaged gzip file, and one above 1 GiB.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file (looked from {Path.cwd()}); check the path")
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            return _read_idx(path, file)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(
            f"{path}: a damaged gzip file ({error}), {path.stat().st_size} bytes; expected a whole one: copy "
            "or download it again"
        ) from error


def _read_idx(path, file):
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in IDX_TYPES or not 1 <= magic[3] <= MOST_AXES:
        types = " ".join(f"{code:02x}" for code in IDX_TYPES)
        raise ValueError(
            f"{path}: starts with the bytes {magic.hex(' ') or '(none)'}; expected the magic number of an "
            f"IDX file, 00 00, one of {types} for the number type, and the number of axes, 1 to {MOST_AXES}: "
            "check that this is the right file"
        )
    dtype, n_axes = np.dtype(IDX_TYPES[magic[2]]), magic[3]
    header = file.read(4 * n_axes)
    if len(header) < 4 * n_axes:
        raise ValueError(
            f"{path}: ends within its header, after {4 + len(header)} bytes; expected {4 + 4 * n_axes} for "
            f"{n_axes} axes: copy or download it again"
        )
    shape = tuple(int(size) for size in np.frombuffer(header, ">u4"))
    _check_bytes(path, math.prod(max(size, 1) for size in shape) * dtype.itemsize)
    n_bytes = math.prod(shape) * dtype.itemsize
    data = bytearray()
    while len(data) < n_bytes and (part := file.read(min(n_bytes - len(data), 2**20))):
        data += part                                               # what is there, whatever was promised
    sizes = " × ".join(map(str, shape))
    promised = f"expected {n_bytes}, for its header says {sizes} numbers of {dtype.itemsize} bytes"
    if len(data) < n_bytes:
        raise ValueError(
            f"{path}: truncated, {len(data)} bytes follow the header; {promised}: copy or download it again"
        )
    if file.read(1):
        raise ValueError(
            f"{path}: more than {n_bytes} bytes follow the header; {promised}: two files may have been "
            "joined, or the header may be wrong: copy or download it again"
        )
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def idx_folder(folder, part="train"):
    """(images (N, h, w), labels (N,) or None) of a folder laid out like MNIST's.

    The files are train-images-idx3-ubyte and train-labels-idx1-ubyte, and t10k-… for the test part; .gz
    may follow, and a dot may stand for the hyphen before idx. Where both are there, the unpacked file is
    read. Labels may be missing; they are returned where every part asked for has them.

    part  "train", "test", or "both": the training images first

    Raises FileNotFoundError where there is no such folder, or no images of that part in it, and ValueError
    for another part, and where a file is not what `idx` reads, images are not bytes (N, h, w), the two
    parts differ in size, or labels are not one integer for each image.
    """
    if part not in PARTS:
        raise ValueError(f"part must be one of {list(PARTS)}, got {part!r}")
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder}: no such folder (looked from {Path.cwd()}); expected one with the four IDX files: "
            "check the path"
        )
    images, labels = zip(*(_idx_part(folder, start) for start in PARTS[part]))
    sizes = [array.shape[1:] for array in images]
    if len(set(sizes)) > 1:
        raise ValueError(
            f"{folder}: the training images have shape {sizes[0]}, the test images {sizes[1]}; expected one "
            "shape: read the parts one by one, part='train' and part='test'"
        )
    labelled = all(array is not None for array in labels)
    return np.concatenate(images), np.concatenate(labels) if labelled else None


def _idx_part(folder, start):
    path = _find(folder, f"{start}-images", 3)
    if path is None:
        there = sorted(file.name for file in folder.iterdir())
        raise FileNotFoundError(
            f"{folder}: holds no {start}-images-idx3-ubyte or {start}-images-idx3-ubyte.gz, but "
            f"{', '.join(there[:8]) or 'nothing'}{', …' if len(there) > 8 else ''}; give the folder that "
            "holds the IDX files, or another part"
        )
    images = idx(path)
    if images.ndim != 3 or images.dtype != np.uint8 or images.size == 0:
        raise ValueError(
            f"{path}: holds {images.dtype} of shape {images.shape}; expected images of bytes, uint8 (N, h, "
            "w), none of them 0: read the file with readers.idx and make a Dataset yourself"
        )
    path = _find(folder, f"{start}-labels", 1)
    if path is None:
        return images, None
    labels = idx(path)
    if labels.dtype.kind not in "ui" or labels.shape != images.shape[:1]:
        raise ValueError(
            f"{path}: holds {labels.dtype} of shape {labels.shape}; expected integers {images.shape[:1]}, "
            "one for each image: take the labels that belong to these images, or take the file away"
        )
    return images, labels.astype(np.int64)                         # of bytes, 0 − 1 would be 255


def _find(folder, name, n_axes):
    paths = [folder / f"{name}{mark}idx{n_axes}-ubyte{gz}" for gz in ("", ".gz") for mark in "-."]
    return next((path for path in paths if path.is_file()), None)


# ---- from a server ---------------------------------------------------------------------------


def download(sha256, mirrors, folder=None):
    """The folder that holds the files of `sha256`, after downloading those that it lacks.

    sha256   {file name: checksum}. A file in the folder with another checksum is downloaded again
    mirrors  addresses that end in "/", tried in this order for each file
    folder   None: "mnist" in teachvae's folder of pooch's cache

    A file gets its name only once its checksum is right; until then it is a temporary one, removed
    whatever happens. Raises ImportError without pooch, ConnectionError where no mirror hands a file over
    whole, and ValueError where one does and its checksum is wrong.
    """
    try:
        import pooch
        from requests.exceptions import RequestException
    except ImportError as error:
        raise ImportError(
            "to download data, pooch must be installed: pip install 'teachvae[data]'; or have the files in a "
            "folder and name it, by the argument folder or by the environment variable TEACHVAE_DATA"
        ) from error
    folder = Path(pooch.os_cache("teachvae")) / "mnist" if folder is None else Path(folder)
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("WARNING")                                     # the library never prints
    try:
        for name, checksum in sha256.items():
            failures = []
            for mirror in mirrors:
                try:
                    pooch.retrieve(mirror + name, f"sha256:{checksum}", fname=name, path=folder)
                    break
                except (ValueError, RequestException) as error:
                    failures.append((mirror + name, error))
            else:
                raise _no_download(name, checksum, failures)
    finally:
        logger.setLevel(level)
    return folder


def _no_download(name, checksum, failures):
    reasons = "; ".join(f"{url}: {error}" for url, error in failures)
    if any(isinstance(error, ValueError) for _, error in failures):
        return ValueError(
            f"{name}: downloaded, but not the file that was expected, with the sha256 {checksum} ({reasons}"
            "). Nothing was kept: try again later, or get the file elsewhere and name its folder"
        )
    return ConnectionError(
        f"{name}: could not be downloaded whole ({reasons}); expected an answer from one server at least: "
        "check the network, or have the files in a folder and name it, by the argument folder or by the "
        "environment variable TEACHVAE_DATA"
    )


def _check_bytes(path, n_bytes):
    if n_bytes > LARGEST_FILE:
        raise ValueError(
            f"{path}: holds {n_bytes} bytes; expected at most {LARGEST_FILE}: save fewer data cases, or load "
            "it yourself and make a Dataset"
        )
