"""A notebook as it was saved: its cells, read by hand, so that nothing but Python is needed.

What comes from another's hands may be anything: a file that is no notebook is told in a sentence.
"""

from dataclasses import dataclass
import json
import re

LARGEST = 64 * 2**20                                               # bytes of a notebook that is looked at
CHECK = re.compile(r"""\s*grade\.check\(\s*["'](\d\d-\d+)["']\s*,\s*([^\W\d]\w*)?""")


@dataclass(frozen=True)
class Cell:
    """A code cell: its text, and what it had shown as plain text when the notebook was saved.

    is_check          whether it is a check, by its tag, or by its text where a tool has lost the tag
    exercise, answer  of a check cell: the name of its exercise, and of what it hands in; else ""
    """

    source: str
    shown: str
    is_check: bool
    exercise: str
    answer: str


def code_cells(path):
    """The code cells of a notebook file, a list. Raises ValueError where it is none, OSError where the file
    cannot be read.
    """
    if path.stat().st_size > LARGEST:
        raise ValueError(f"it has more than {LARGEST >> 20} MiB: clear its outputs, and save it again")
    try:
        whole = json.loads(path.read_bytes().decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:                  # a UnicodeDecodeError is a ValueError
        raise ValueError(f"it is damaged, or no notebook: {type(error).__name__}") from None
    if not isinstance(whole, dict) or not isinstance(cells := whole.get("cells"), list):
        if isinstance(whole, dict) and "worksheets" in whole:
            raise ValueError("it is of a format before 4: open and save it in Jupyter")
        raise ValueError("it is no notebook")
    return [_cell(cell) for cell in cells if isinstance(cell, dict) and cell.get("cell_type") == "code"]


def _cell(cell):
    metadata = cell.get("metadata")
    tags = metadata.get("tags") if isinstance(metadata, dict) else None
    source = _text(cell.get("source"))
    found = CHECK.match(source)
    is_check = bool(found) or isinstance(tags, list) and "check" in tags
    outputs = cell.get("outputs")
    shown = "\n".join(_shown(output) for output in (outputs if isinstance(outputs, list) else ()))
    return Cell(source, shown, is_check, *((found[1], found[2] or "") if found else ("", "")))


def _shown(output):
    """The plain text of one output."""
    data = output.get("data") if isinstance(output, dict) else None
    return _text(data.get("text/plain")) if isinstance(data, dict) else ""


def _text(value):
    """A text that stands there whole, or line by line; "" for anything else."""
    if isinstance(value, list):
        return "".join(line for line in value if isinstance(line, str))
    return value if isinstance(value, str) else ""
