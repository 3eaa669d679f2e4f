"""Values in one .npz file: written whole or not at all, and read back without executing anything.

A file is a zip of arrays in NumPy's .npy format, stored as they are, and of metadata.json, a text that says
what the arrays are; `numpy.load` opens it, and any program that reads zips. The metadata hold the sha256 of
every array, and the zip's comment that of the metadata, so a byte that changed is found. Nothing is pickled.

Values are None, truth values, numbers, text, lists, tuples, dicts, ranges, arrays, dtypes, NumPy's random
generators, and parts: objects that are their attributes, such as a `layers.Linear`, and named functions. A
part comes back as one of a class that the reader knows by that name.
"""

from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass
import errno
import glob
import hashlib
import io
import json
import math
import os
from pathlib import Path
import platform
import re
import secrets
import tokenize
import zipfile

import numpy as np

from .. import __version__
from .backend import to_numpy

FORMAT = 1                             # of the files written here; a later one is refused
METADATA = "metadata.json"
LARGEST_POOL = 1024                    # of the words of a SeedSequence, which has 4 unless asked for more
KINDS = "biufcUSMm"                    # of arrays that are numbers, text or times: none is read by a pickle
BIT_GENERATORS = {cls.__name__: cls for cls in (
    np.random.MT19937, np.random.PCG64, np.random.PCG64DXSM, np.random.Philox, np.random.SFC64
)}


class FileError(ValueError):
    """A file is not what was expected, or is damaged; the message says what was found."""


def write(file, values, known=()):
    """Write the dict `values` to `file`, a path; what was there is replaced, once all is on the disk.

    known  classes whose objects `read` makes by itself; those of others are marked, their classes handed in

    Raises TypeError for a value that has no place in a file, naming it, and OSError where the file cannot be
    written; what was there before is then untouched.
    """
    arrays = {}
    try:
        text = {name: _Encoder(arrays, known).encode(value, name) for name, value in values.items()}
    except RecursionError as error:
        raise TypeError("a value that holds itself, or too many of one in another, has no end") from error
    with _part_of(file) as (part, target):
        with open(part, "xb") as raw:
            _write_zip(raw, text, arrays)
            raw.flush()
            os.fsync(raw.fileno())
        if target.exists():
            os.chmod(part, target.stat().st_mode)
        os.replace(part, target)
    _sync_folder(target.parent)


def make_ready(file):
    """Raise OSError, as `write` does, where a file could not be written; and remove what processes that were
    killed as they wrote it have left beside it.
    """
    with _part_of(file) as (part, target):
        part.touch()
        for left in target.parent.glob(f".{glob.escape(_short(target))}.*.part"):
            left.unlink(missing_ok=True)


@contextmanager
def _part_of(file):
    """(a path beside the file, for what is to become it, and the file itself). Nothing is left there."""
    target = Path(os.path.realpath(file))
    part = target.with_name(f".{_short(target)}.{secrets.token_hex(4)}.part")
    try:
        if target.exists() and not target.is_file():
            raise OSError(errno.EEXIST, "it is no file that could be replaced")
        yield part, target
    except OSError as error:
        raise OSError(
            error.errno,
            f"{file} cannot be written ({error.strerror}): give a file in a folder that can be written to, "
            "with room on its disk; what was there before is untouched",
        ) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _short(target):
    return target.name[:100]           # the name of a part is longer, and has its limit too


def _write_zip(raw, text, arrays):
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_STORED) as zipped:
        sums = {}
        written = {"teachvae": __version__, "python": platform.python_version(), "numpy": np.__version__}
        for name, array in arrays.items():
            with zipped.open(f"{name}.npy", "w", force_zip64=True) as member:
                summing = _Summing(member)
                np.lib.format.write_array(summing, array, allow_pickle=False)
            sums[name] = summing.sha256.hexdigest()
        metadata = {"format": FORMAT, "written by": written, "values": text, "sha256": sums}
        metadata = json.dumps(metadata, ensure_ascii=False, indent=1).encode("utf-8", "surrogatepass")
        zipped.writestr(METADATA, metadata)
        zipped.comment = hashlib.sha256(metadata).hexdigest().encode()


def _sync_folder(folder):
    """The new name too is on the disk, where the system has a way to say so, and can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    with suppress(OSError):                                        # the file itself has been replaced
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class _Summing:
    """What is written to a file, or to none, goes into a sha256 as well."""

    def __init__(self, file=None, sha256=None):
        self.file, self.sha256 = file, hashlib.sha256() if sha256 is None else sha256

    def write(self, data):
        self.sha256.update(data)
        return len(data) if self.file is None else self.file.write(data)


class _Encoder:
    """Values as JSON; arrays are put aside, under names that say where they stood."""

    def __init__(self, arrays, known):
        self.arrays, self.known = arrays, set(known)

    def encode(self, value, path):
        if value is None or type(value) in (bool, int, str):
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {"float": repr(value)}
        if type(value) is list:
            return self._all(value, path)
        if type(value) is tuple:
            return {"tuple": self._all(value, path)}
        if type(value) is dict and all(type(key) is str for key in value):
            return {"dict": self._named(value, path)}
        if type(value) is dict:
            return {"pairs": self._all([list(pair) for pair in value.items()], path)}
        if type(value) is range:
            return {"range": [value.start, value.stop, value.step]}
        if isinstance(value, np.generic):
            return {"scalar": self._array(np.asarray(value), path)}
        if isinstance(value, np.dtype):
            return {"dtype": value.str}
        if isinstance(value, type) and (value is float or issubclass(value, np.generic)):
            return {"type": "float" if value is float else np.dtype(value).str}
        if isinstance(value, (np.random.Generator, np.random.RandomState, np.random.SeedSequence)):
            return self._random(value, path)
        if hasattr(value, "dtype") and hasattr(value, "shape") and not isinstance(value, type):
            array = to_numpy(value)
            if array.dtype == object and array.ndim == 1:
                return {"objects": self._all(array.tolist(), path)}
            return {"array": self._array(array, path)}
        return self._part(value, path)

    def _all(self, values, path):
        return [self.encode(value, f"{path}[{i}]") for i, value in enumerate(values)]

    def _named(self, values, path):
        return {name: self.encode(value, f"{path}.{name}") for name, value in values.items()}

    def _array(self, array, path):
        if array.dtype.kind not in KINDS:
            raise _no_place(path, f"an array of {array.dtype}")
        plain = re.fullmatch(r"[A-Za-z0-9_.\[\]]+", path) and path not in self.arrays
        name = path if plain else f"array {len(self.arrays)}"      # no path has a space
        self.arrays[name] = array
        return name

    def _random(self, value, path):
        if isinstance(value, np.random.SeedSequence):
            names = ("entropy", "spawn_key", "pool_size", "n_children_spawned")
            return {"seeds": self.encode({name: getattr(value, name) for name in names}, path)}
        old = value.get_state(legacy=False) if isinstance(value, np.random.RandomState) else {}
        if old.get("bit_generator") == "MT19937":
            return {"old generator": self.encode(old, path)}
        bits = getattr(value, "bit_generator", None)               # none of an unusual RandomState's
        if type(bits).__name__ not in BIT_GENERATORS or type(bits.seed_seq) is not np.random.SeedSequence:
            raise _no_place(path, f"a generator by {type(bits).__name__} that NumPy's own seeds did not seed")
        return {"generator": self.encode({"state": bits.state, "seeds": bits.seed_seq}, path)}

    def _part(self, value, path):
        if callable(value) and hasattr(value, "__name__"):
            if not value.__name__.isidentifier():                  # a lambda
                raise _no_place(path, f"{value!r}, a function without a name")
            return {"own name": value.__name__}
        cls = type(value)
        if hasattr(value, "_asdict"):
            state = value._asdict()
        elif cls in self.known and is_dataclass(cls):              # what follows from fields follows again
            state = {name: getattr(value, name) for name in _arguments(cls)}
        elif cls.__new__ is object.__new__ and not any(vars(base).get("__slots__") for base in cls.__mro__):
            state = vars(value)
        else:                                                      # there is more to it than attributes
            raise _no_place(path, f"a {cls.__name__}")
        return {"part" if cls in self.known else "own part": cls.__name__, "of": self._named(state, path)}


def _arguments(cls):
    """What a dataclass is made from."""
    return [field.name for field in fields(cls) if field.init]


def _no_place(path, what):
    return TypeError(
        f"{path} holds {what}, which has no place in a file: numbers, text, lists, tuples, dicts, arrays, "
        "NumPy's random generators, and objects and functions that have a name and are made of these have"
    )


def fingerprint(value, name="value"):
    """A sha256, as text, of what `write` would write of a value of this name. Raises TypeError as it does."""
    arrays = {}
    text = json.dumps(_Encoder(arrays, ()).encode(value, name))
    sha256 = hashlib.sha256(text.encode("utf-8", "surrogatepass"))
    for array in arrays.values():
        np.lib.format.write_array(_Summing(sha256=sha256), array, allow_pickle=False)
    return sha256.hexdigest()


def parts_of_ones_own(values, known=()):
    """Names of the classes of the objects in a dict of values that are not among the `known` ones."""
    text = {name: _Encoder({}, known).encode(value, name) for name, value in values.items()}
    return sorted(set(_own_names(text)))


def read(file, known=(), own=None, only=None):
    """The dict that `write` wrote to `file`.

    known  classes whose objects may be made, as many of them as there may be in a file
    own    {name: class or function} of parts that are not among them; needed only where a file has some
    only   names of the values to be made, where not all are asked for; others than these are left out

    Raises FileError where the file is damaged, none of ours, or has a part of its own that was not given,
    and OSError where it cannot be read. Memory is taken for what is in the file, never for what it declares.
    """
    with open(file, "rb") as raw:
        try:
            text, arrays = _read_zip(raw, file)
        except (EOFError, KeyError, NotImplementedError, OSError, RuntimeError, UnicodeError,
                zipfile.BadZipFile) as error:
            raise FileError(f"{file} is damaged, or no zip file ({error}): it cannot be read") from error
    own, text = dict(own or {}), {name: text[name] for name in text if only is None or name in only}
    missing = sorted({name for name in _own_names(text) if name not in own})
    if missing:
        given = ", ".join(f"{name!r}: {name}" for name in missing)
        raise FileError(
            f"{file} has parts that are not of this package: {', '.join(missing)}. Nothing in a file is ever "
            f"executed, so they are to be handed in: parts={{{given}}}"
        )
    decoder = _Decoder(arrays, {cls.__name__: cls for cls in known}, own)
    try:
        return {name: decoder.decode(value) for name, value in text.items()}
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise FileError(f"{file} does not hold what it should ({error!r}): it cannot be read") from error


def _read_zip(raw, file):
    """(metadata, arrays by name), each compared with its sha256."""
    start, size = raw.read(4), os.fstat(raw.fileno()).st_size
    if start[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        raise FileError(f"{file} is a pickle, which can execute anything as it is opened: it is not opened")
    if start != b"PK\x03\x04":
        raise FileError(f"{file} is no .npz file: it begins with {start!r}, not with b'PK\\x03\\x04'")
    with zipfile.ZipFile(raw) as zipped:
        members = {member.filename: member for member in zipped.infolist()}
        if METADATA not in members:
            raise FileError(
                f"{file} is a zip file without {METADATA}, so none that was saved here; it holds "
                f"{', '.join(sorted(members)[:5]) or 'nothing'}"
            )
        declared = sum(member.file_size for member in zipped.infolist())
        if declared > size or any(member.compress_type for member in zipped.infolist()):
            raise FileError(f"{file} has {size} bytes and declares {declared} of contents, or packed ones")
        raw.seek(max(0, size - len(zipped.comment)))
        if raw.read() != zipped.comment:
            raise FileError(f"{file} is damaged: something follows on its end")
        metadata = zipped.read(METADATA)
        if hashlib.sha256(metadata).hexdigest().encode() != zipped.comment:
            raise FileError(f"{file} is damaged: {METADATA} is not as it was written, by its sha256")
        try:
            said = json.loads(metadata.decode("utf-8", "surrogatepass"))
            if said["format"] > FORMAT:
                raise FileError(
                    f"{file} has format {said['format']}, written by {said.get('written by')}; teachvae "
                    f"{__version__} reads formats up to {FORMAT}: install a later one"
                )
            text, sums = dict(said["values"]), dict(said["sha256"])
            members = {name: members[f"{name}.npy"] for name in sums}
        except FileError:
            raise
        except (TypeError, KeyError, AttributeError, RecursionError, ValueError) as error:
            raise FileError(f"{file} does not hold what it should ({error!r}): it cannot be read") from error
        arrays = {}
        for name, member in members.items():
            content = zipped.read(member)
            if hashlib.sha256(content).hexdigest() != sums[name]:
                raise FileError(f"{file} is damaged: array {name} is not as it was written, by its sha256")
            arrays[name] = _array(content, f"the array {name} in {file}")
    return text, arrays


def _array(content, what):
    """The array of a .npy file's content, bytes that have all of it."""
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, fortran, dtype = header[version](stream)
    except (ArithmeticError, KeyError, SyntaxError, ValueError, tokenize.TokenError) as error:
        raise FileError(f"{what} has no header that can be read ({error})") from error
    data = memoryview(content)[stream.tell() :]
    # A text of no letters has 0 bytes, and NumPy would give it one letter all the same.
    declared = math.prod(shape) * max(dtype.itemsize, 1)
    if dtype.kind not in KINDS or min(shape, default=0) < 0 or declared != len(data):
        raise FileError(f"{what} declares {shape} numbers of {dtype}, and has {len(data)} bytes")
    flat = np.frombuffer(data, dtype) if len(data) else np.empty(0, dtype)
    return flat.reshape(shape, order="F" if fortran else "C").copy(order="K")


def _own_names(text):
    """Names of the parts and functions in encoded values that the reader must have been given."""
    waiting = list(text.values())
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            named = [value[tag] for tag in ("dict", "of") if isinstance(value.get(tag), dict)]
            waiting += [one for names in named for one in names.values()] or value.values()
            yield from (value[tag] for tag in ("own part", "own name") if isinstance(value.get(tag), str))


class _Decoder:
    """Values from JSON: the inverse of `_Encoder`. A tag that it does not know is refused."""

    def __init__(self, arrays, known, own):
        self.arrays, self.known, self.own = arrays, known, own

    def decode(self, value):
        if isinstance(value, list):
            return [self.decode(one) for one in value]
        if not isinstance(value, dict):
            return value
        if set(value) in ({"part", "of"}, {"own part", "of"}):
            return self._part(value)
        (tag, content), = value.items()
        if tag not in TAGS:
            raise ValueError(f"it has a value of an unknown kind, {tag!r}")
        return TAGS[tag](self, content)

    def decode_list(self, items):
        """The values of a list as it stands in the file, and of nothing that would become longer there."""
        if not isinstance(items, list):
            raise TypeError(f"a list is expected, {type(items).__name__} stands there")
        return self.decode(items)

    def random(self, kind, content):
        """A random generator of a kind, from its state."""
        state = self.decode(content)
        if kind == "seeds":
            if state["pool_size"] > LARGEST_POOL:
                raise ValueError(f"a seed's pool of {state['pool_size']} words")
            return np.random.SeedSequence(**state)
        if kind == "old generator":
            generator = np.random.RandomState()
            generator.set_state(state)
            return generator
        bits = BIT_GENERATORS[state["state"]["bit_generator"]](state["seeds"])
        bits.state = state["state"]
        return np.random.Generator(bits)

    def _part(self, value):
        own = "own part" in value
        name = value["own part" if own else "part"]
        if not own and name not in self.known:
            raise ValueError(f"it has a part of an unknown kind, {name!r}")
        cls = self.own[name] if own else self.known[name]
        if not isinstance(cls, type):
            raise TypeError(f"the part {name} is an object of a class, and {cls!r} is none")
        state = {field: self.decode(part) for field, part in value["of"].items()}
        if hasattr(cls, "_fields") or not own and is_dataclass(cls):
            return cls(**state)                                    # what it checks is checked
        part = cls.__new__(cls)
        vars(part).update(state)
        return part


TAGS = {                               # of values that JSON does not have: (decoder, content) → value
    "array": lambda decoder, name: decoder.arrays[name],
    "scalar": lambda decoder, name: decoder.arrays[name][()],
    "objects": lambda decoder, items: np.array([*decoder.decode_list(items), None], dtype=object)[:-1],
    "float": lambda decoder, text: float(text),
    "tuple": lambda decoder, items: tuple(decoder.decode_list(items)),
    "dict": lambda decoder, named: {name: decoder.decode(value) for name, value in named.items()},
    "pairs": lambda decoder, pairs: {key: value for key, value in decoder.decode_list(pairs)},
    "range": lambda decoder, ends: range(*ends),
    "dtype": lambda decoder, text: _dtype(text),
    "type": lambda decoder, text: float if text == "float" else _dtype(text).type,
    "own name": lambda decoder, name: decoder.own[name],
    "seeds": lambda decoder, content: decoder.random("seeds", content),
    "generator": lambda decoder, content: decoder.random("generator", content),
    "old generator": lambda decoder, content: decoder.random("old generator", content),
}


def _dtype(text):
    dtype = np.dtype(text)
    if dtype.kind not in KINDS:
        raise ValueError(f"it has a dtype {text!r}")
    return dtype
