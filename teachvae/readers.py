"""How data comes in: from a file, from a folder of IDX files, from a server.

    READERS[".csv"](path)       numbers separated by commas
    READERS[".npy"](path)       an array
    READERS[".npz"](path)       an array, or an array and its labels
    idx(path)                   one IDX file, packed with gzip or not: an array of any shape
    idx_folder(folder, part)    images and labels of a folder laid out like MNIST's
    download(...)               files with known checksums, kept in a cache

A reader of READERS returns a dict of the fields of a `datasets.Dataset`. Nothing is scaled here.
"""

import csv
import gzip
import math
from pathlib import Path
import zipfile
import zlib

import numpy as np

LARGEST_FILE = 2**30  # bytes, uncompressed

# ---- .npy, .npz and .csv ---------------------------------------------------------------------


def _npy(path):
    _check_bytes(path, path.stat().st_size)
    with path.open("rb") as file:
        return _from_arrays(path, _read_array(path, file))


def _npz(path):
    """An npz file is a zip file of npy files."""
    _check_bytes(path, path.stat().st_size)
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ValueError(_unreadable(path, error)) from error
    arrays = {}
    with archive:
        _check_bytes(path, sum(member.file_size for member in archive.infolist()))
        for member in archive.namelist():
            with archive.open(member) as file:
                arrays[member.removesuffix(".npy")] = _read_array(path, file)
    names = sorted(arrays)
    if len(names) == 1:
        return _from_arrays(path, arrays[names[0]])
    if names != ["x", "y"]:
        raise ValueError(
            f"{path}: holds arrays named {names}; expected one array, or x (the data) and y (the labels): "
            "save them with numpy.savez(path, x=data, y=labels)"
        )
    return _from_arrays(path, arrays["x"], arrays["y"])


def _read_array(path, file):
    try:
        return np.lib.format.read_array(file, allow_pickle=False)
    except (ValueError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(_unreadable(path, error)) from error


def _unreadable(path, error):
    call = "numpy.savez(path, x=x)" if path.suffix.lower() == ".npz" else "numpy.save(path, x)"
    return (
        f"{path}: not a {path.suffix} file of plain numbers ({error}); expected an array whose dtype is a "
        f"number type, not object: save it with {call}. Pickled objects are refused, since loading them "
        "can run code"
    )


def _from_arrays(path, x, labels=None):
    """The fields of an array (N, D) or (N, h, w), and of labels (N,)."""
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
    return dict(
        x=x.reshape(len(x), -1).astype(np.float64, order="C"),
        name=path.stem,
        note=note,
        source=str(path),
        labels=labels,
        image_shape=None if x.ndim == 2 else x.shape[1:],
    )


def _csv(path):
    _check_bytes(path, path.stat().st_size)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            lines = [(reader.line_num, cells) for cells in reader if cells]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(
            f"{path}: not comma separated text in UTF-8 ({error}); save it as CSV (UTF-8)"
        ) from error
    columns = None
    if lines and _are_names(lines[0][1]):
        columns = tuple(cell.strip() for cell in lines.pop(0)[1])
    if not lines:
        raise ValueError(
            f"{path}: holds no row of numbers; expected numbers separated by commas, a data case per line: "
            "check that this is the right file"
        )
    width = len(columns or lines[0][1])
    x = np.empty((len(lines), width))
    for n, (row, cells) in enumerate(lines):
        if len(cells) != width:
            raise ValueError(
                f"{path}: row {row} has {len(cells)} columns ({','.join(cells)[:40]!r}); expected {width}, "
                "as in the first row: add or take out cells (counted from 1, as lines of the file)"
            )
        for d, cell in enumerate(cells):
            number = _number(cell)
            if number is None or not math.isfinite(number):
                name = f" ({columns[d]})" if columns else ""
                raise ValueError(
                    f"{path}: row {row}, column {d + 1}{name} holds {cell[:40]!r}; expected a finite "
                    "number such as -1.5 (decimal point, no unit, not empty): correct the cell or take out "
                    "the row (counted from 1, as lines of the file; only row 1 may hold names, none of them "
                    "empty, no two alike, and none a number)"
                )
            x[n, d] = number
    return dict(x=x, name=path.stem, note="As in the file, unscaled.", source=str(path), columns=columns)


READERS = {".csv": _csv, ".npy": _npy, ".npz": _npz}


def _are_names(cells):
    """Whether a first line is a header. A line of nothing but NA, or of empty cells, is bad data."""
    names = [cell.strip() for cell in cells]
    return all(names) and len(set(names)) == len(names) and all(_number(name) is None for name in names)


def _number(cell):
    """The cell as a float, or None. Python reads 1_000 as a number; a data file means none by it."""
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


# ---- IDX, the format of MNIST's files --------------------------------------------------------

IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
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
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in IDX_TYPES or magic[3] == 0:
        types = " ".join(f"{code:02x}" for code in IDX_TYPES)
        raise ValueError(
            f"{path}: starts with the bytes {magic.hex(' ') or '(none)'}; expected the magic number of an "
            f"IDX file, 00 00, one of {types} for the number type, and the number of axes, at least 1: check "
            "that this is the right file"
        )
    dtype, n_axes = np.dtype(IDX_TYPES[magic[2]]), magic[3]
    header = file.read(4 * n_axes)
    if len(header) < 4 * n_axes:
        raise ValueError(
            f"{path}: ends within its header, after {4 + len(header)} bytes; expected {4 + 4 * n_axes} for "
            f"{n_axes} axes: copy or download it again"
        )
    shape = tuple(int(size) for size in np.frombuffer(header, ">u4"))
    n_bytes = math.prod(shape) * dtype.itemsize
    _check_bytes(path, n_bytes)
    data = file.read(n_bytes)
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
