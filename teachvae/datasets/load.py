"""Data sets by name, or from a file or folder of yours."""

from pathlib import Path

from . import readers
from .dataset import Dataset
from .generated import bent_sheet, linear_gaussian, spiral
from .images import digits, images, mnist

# ---- by name, or from a file -----------------------------------------------------------------
DATASETS = {
    "digits": digits,
    "mnist": mnist,
    "linear": linear_gaussian,
    "spiral": spiral,
    "bent_sheet": bent_sheet,
}


def load(name_or_path, **options):
    """The `Dataset` of this name, made with `options`, or read from this file or folder.

    names   those of DATASETS: "digits", "mnist", "linear", "spiral", "bent_sheet"; options go to its function
    .csv    numbers separated by commas, semicolons or tabs, a data case per line, with decimal points or
            commas. A first line of different words, none a number, is taken for the columns' names; one of
            three or more that counts 0, 1, 2, … too, where a column below is written otherwise; and a first
            column of cells without a name, all whole numbers or all text, beside others that have one, for
            the names of the rows, which are set aside. UTF-8, and UTF-16 with a byte-order mark. A table
            takes some 17 times its bytes while it is read. Options:
              header     True or False: whether the first line holds names
              separator  "," or ";" or "\\t";  decimal  "." or ","
              encoding   that of the text, such as "latin-1"
              labels     the column that holds a class for each data case, text or numbers, and is no data
              leave_out  a list of columns that are not to be modelled
            Columns are called by name, those of a file without names by number, counted from 1.
            .tsv and .txt are read likewise
    .npy    an array of numbers (N, D), or images (N, h, w), which become rows of h·w pixels
    .npz    one such array of any name; or x, such an array, and y, labels (N,)
    folder  IDX files laid out like MNIST's; options go to `images`. "./mnist" is a folder, "mnist" a name

    Files have one option more, missing_values: codes, numbers or words, that stand for missing entries and
    become NaN, as do an empty cell, NA, N/A, NaN, null, None, ?, . and - where it is given, also as []. A
    number that looks like such a code and is not named is warned of.

    The numbers of a file are taken as they are, unscaled; those of a folder are dequantised, as `images`
    says. `note` says what in a file was taken for what; where it may mean two things, it is refused.
    Raises FileNotFoundError where there is no such file, and ValueError for an unknown name or suffix, a
    file above 1 GiB, and whatever in it is not a finite number (the message names row and column) or has
    another shape. Pickled objects are refused.
    """
    of_files = sorted(OF_TABLES & set(options))
    if of_files and (name_or_path in DATASETS or Path(name_or_path).is_dir()):
        raise ValueError(
            f"options {of_files} were given with {str(name_or_path)!r}; expected them with a file, ending in "
            f"{_either(readers.READERS)}: leave them out"
        )
    if name_or_path in DATASETS:
        return DATASETS[name_or_path](**options)
    path = Path(name_or_path)
    suffixes = _either(readers.READERS)
    if path.suffix == "" and not path.exists():
        raise ValueError(
            f"unknown data set {str(name_or_path)!r}; expected one of {sorted(DATASETS)}, or the path of a "
            f"file that ends in {suffixes}, or of a folder of IDX files"
        )
    if path.is_dir():
        return images(path, **options)
    if path.suffix.lower() not in readers.READERS:
        raise ValueError(
            f"{path}: cannot read a file that ends in {path.suffix!r}; expected {suffixes}, or a folder of "
            "IDX files: save the data with numpy.save(path, x), or as comma separated text; of IDX files, "
            "give their folder"
        )
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file (looked from {Path.cwd()}); check the path, or give one of the names "
            f"{sorted(DATASETS)}"
        )
    suffix = path.suffix.lower()
    unknown = sorted(set(options) - FILE_OPTIONS[suffix])
    if unknown:
        raise ValueError(
            f"{path}: options {unknown} were given, but a {suffix} file takes only "
            f"{sorted(FILE_OPTIONS[suffix])}: leave them out"
        )
    return Dataset(**readers.READERS[suffix](path, **options))


OF_TABLES = {"header", "separator", "decimal", "encoding", "labels", "leave_out", "missing_values"}
OF_ARRAYS = {"missing_values"}
FILE_OPTIONS = {
    ".csv": OF_TABLES, ".tsv": OF_TABLES, ".txt": OF_TABLES, ".npy": OF_ARRAYS, ".npz": OF_ARRAYS
}


def _either(words):
    *first, last = words
    return f"{', '.join(first)} or {last}"
