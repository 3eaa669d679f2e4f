"""Make the notebooks of this folder from their sources, which are all that one edits: source/NAME.py, cells
in percent format.

    python notebooks/build.py [NAME …]           # the named ones, or all
    python notebooks/build.py --text [NAME …]    # words have changed, no code has: the outputs are kept
    python notebooks/build.py NAME --to FOLDER --settings K=3 --settings "hidden=(16,)"
    python notebooks/build.py NAME --to FOLDER --solved

A notebook is executed in a fresh kernel in which a warning is an error, unless the notebook itself says
otherwise; with other settings it is shown. Needs the extra notebooks.

The first code cell holds the settings, a line each. A number of an equation in Markdown becomes a link to its
card. Cells can be tagged:

    # %% tags=["exercise"]             a stub, to be filled in by the student; it must run as it stands
    # %% tags=["check"]                says whether it is right, or not attempted
    # %% [markdown] tags=["hint"]      folded, as "Hint 1", …
    # %% tags=["solution"]             folded, code and words; `summary="…"` is what one sees of it

A Markdown cell that is `[the lecture]` alone becomes the map of the lecture, see lecture.py.

With --solved the code of a solution stands in the place of its stub, or where it is if there is no stub.
"""

import argparse
import ast
from collections import Counter
from hashlib import sha256
from itertools import groupby
import os
from pathlib import Path
import re
import sys
from time import monotonic

import jupytext
import nbformat

FOLDER = Path(__file__).resolve().parent
SOURCES = FOLDER / "source"
sys.path.insert(0, str(FOLDER.parent))

from derivations import book  # noqa: E402
from notebooks import lecture  # noqa: E402

KINDS = {"exercise": ["code"], "check": ["code"], "hint": ["markdown"], "solution": ["code", "markdown"]}
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
STRICT = (
    "import warnings; warnings.simplefilter('error'); "
    "warnings.filterwarnings('ignore', module='ipykernel')"        # the kernel's own
)
SILENCE = 10                                                       # seconds after which one wonders


def names():
    """The names of all sources, in order."""
    return sorted(file.stem for file in SOURCES.glob("*.py"))


def sources():
    """{name: text} of all sources, in order."""
    return {name: (SOURCES / f"{name}.py").read_text(encoding="utf-8") for name in names()}


def read(text):
    """The cells of a source, each with its tag, or "". Raises ValueError where a tag is unknown or on a
    cell of the wrong kind.
    """
    cells = jupytext.reads(text, fmt="py:percent").cells
    for place, cell in enumerate(cells):
        tags = cell.metadata.get("tags", [])
        cell.tag = tags[0] if tags else ""
        if len(tags) > 1 or (tags and cell.cell_type not in KINDS.get(cell.tag, [])):
            raise ValueError(
                f"cell {place}, {cell.cell_type}, has the tags {tags}; expected one, of "
                + ", ".join(f"{tag} ({' or '.join(kinds)})" for tag, kinds in KINDS.items())
            )
    return cells


def settings(cells):
    """{name: value} of the first code cell, the values as they are written."""
    first = next(cell for cell in cells if cell.cell_type == "code")
    return dict(re.findall(r"^(\w+) = (.*?)(?:\s+#.*)?$", first.source, flags=re.MULTILINE))


def put_settings(cells, given):
    """Write other values, {name: value as it is written}, into the first code cell. Raises ValueError for an
    unknown name, or a value that is no literal.
    """
    first = next(cell for cell in cells if cell.cell_type == "code")
    known = settings(cells)
    for name, value in given.items():
        if name not in known:
            raise ValueError(f"there is no setting {name}: choose from {', '.join(known)}")
        try:
            ast.literal_eval(value)
        except (ValueError, SyntaxError):
            raise ValueError(f"{name} must be a number, text or tuple, got {value}") from None
        old, new = rf"^{name} = {re.escape(known[name])}", f"{name} = {value}"
        first.source = re.sub(old, lambda _: new, first.source, flags=re.MULTILINE)


def fold(cells):
    """One Markdown cell of hints and solutions that follow one another, each behind its summary."""
    folds, hints = [], 0                                           # [summary, text]
    for cell in cells:
        text = cell.source if cell.cell_type == "markdown" else f"```python\n{cell.source}\n```"
        summary = cell.metadata.get("summary")
        if cell.tag == "hint":
            hints += 1
            folds.append([f"Hint {hints}", text])
        elif summary or not folds or folds[-1][0].startswith("Hint"):
            folds.append([summary or "A solution", text])
        else:
            folds[-1][1] += f"\n\n{text}"
    parts = (f"<details><summary>{summary}</summary>\n\n{text}\n\n</details>" for summary, text in folds)
    return nbformat.v4.new_markdown_cell("\n\n".join(parts))


def for_students(cells):
    """The cells as a student gets them: hints and solutions folded."""
    made = []
    for folded, run in groupby(cells, lambda cell: cell.tag in ("hint", "solution")):
        made += [fold(run)] if folded else run
    return made


def solved(cells):
    """The cells with the code of every solution put in, and without hints."""
    made, stub = [], None
    for cell in cells:
        if cell.tag == "exercise":
            stub = cell
            made.append(cell)
        elif cell.tag == "solution" and cell.cell_type == "code":
            if stub is None:
                made.append(cell)
            else:
                stub.source = cell.source if stub.tag else f"{stub.source}\n\n{cell.source}"
                stub.tag = ""                                      # filled
        elif cell.tag in ("", "check"):
            stub = stub if cell.cell_type == "code" else None      # words begin something new
            made.append(cell)
    return made


def generate(text, *, given=None, put_in=False):
    """The notebook of a source, without outputs: cells, ids, tags, links.

    given   {name: value} of other settings; put_in  whether the solutions stand in the stubs' places
    """
    cells = read(text)
    if given:
        put_settings(cells, given)
    cards = {
        number: card._replace(chapter=f"../derivations/{card.chapter}")
        for number, card in book.all_cards().items()
    }
    notebook, met = nbformat.v4.new_notebook(metadata=METADATA), Counter()
    for cell in solved(cells) if put_in else for_students(cells):
        if cell.source == "[the lecture]":
            cell.source = lecture.table(sources())
        met[cell.cell_type, cell.source] += 1
        words = f"{cell.cell_type}\n{cell.source}\n{met[cell.cell_type, cell.source]}"
        code = cell.cell_type == "code"
        made = (nbformat.v4.new_code_cell if code else nbformat.v4.new_markdown_cell)(
            cell.source if code else book.linked(cell.source, cards),
            id=sha256(words.encode()).hexdigest()[:8],
        )
        if cell.get("tag"):
            made.metadata["tags"] = [cell.tag]
        notebook.cells.append(made)
    return notebook


def keep_outputs(notebook, committed):
    """Take the outputs of a notebook whose code is the same. Raises ValueError where it is another."""
    ours, theirs = ([c for c in n.cells if c.cell_type == "code"] for n in (notebook, committed))
    if [cell.source for cell in ours] != [cell.source for cell in theirs]:
        raise ValueError("its code has changed: build it without --text")
    for cell, old in zip(ours, theirs):
        cell.outputs, cell.execution_count = old.outputs, old.execution_count


def execute(notebook, *, strict=True, say=print):
    """Run every cell in a fresh kernel; strict makes an error of a warning. Raises CellExecutionError."""
    from nbclient import NotebookClient

    times = []

    class Client(NotebookClient):
        """Notes when something was printed or shown."""

        def output(self, *message):
            """Take what the kernel has put out."""
            times.append(monotonic())
            return super().output(*message)

    client = Client(notebook, timeout=600, kernel_name="python3", record_timing=False)
    client.resources = {"metadata": {"path": FOLDER}}
    if strict:
        client.extra_arguments = [f"--InteractiveShellApp.exec_lines={STRICT}"]
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")             # its second thread waits for busy cores
    start = monotonic()
    with client.setup_kernel():
        for place, cell in enumerate(notebook.cells):
            times[:] = [monotonic()]
            client.execute_cell(cell, place)
            times.append(monotonic())
            silent = max(later - earlier for earlier, later in zip(times, times[1:]))
            if silent > SILENCE:
                say(f"  cell {place} was silent for {silent:.0f} seconds")
    say(f"  {monotonic() - start:.0f} seconds")
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = joined(cell.outputs)
    notebook.metadata = nbformat.from_dict(METADATA)


def joined(outputs):
    """The outputs with pieces of one stream, as they happened to arrive, put together."""
    made = []
    for out in outputs:
        if made and out.output_type == "stream" and made[-1].get("name") == out.name:
            made[-1].text += out.text
        else:
            made.append(out)
    return made


def main(arguments=None):
    """Build what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names())}; default: all")
    parser.add_argument("--text", action="store_true", help="execute nothing, keep the outputs")
    parser.add_argument("--settings", action="append", default=[], metavar="NAME=VALUE",
                        help="another value for a setting of the first code cell; needs --to")
    parser.add_argument("--solved", action="store_true", help="put the solutions in; needs --to")
    parser.add_argument("--to", type=Path, default=FOLDER, metavar="FOLDER", help="where to write")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in names()]
    if unknown:
        parser.error(f"no source of {', '.join(unknown)}: choose from {', '.join(names())}")
    if any("=" not in text for text in options.settings):
        parser.error(f"expected --settings NAME=VALUE, got {options.settings}")
    if (options.settings or options.solved) and options.to.resolve() == FOLDER:
        parser.error("notebooks/ is for the notebooks as they are handed out: name another folder by --to")
    given = dict(text.split("=", 1) for text in options.settings)
    for name in options.names or names():
        print(f"{name}.ipynb", flush=True)
        text = sources()[name]
        try:
            notebook = generate(text, given=given, put_in=options.solved)
            if options.text:
                keep_outputs(notebook, nbformat.read(options.to / f"{name}.ipynb", 4))
            else:
                execute(notebook, strict=not given)
        except ValueError as error:
            parser.error(f"{name}: {error}")
        options.to.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, options.to / f"{name}.ipynb")


if __name__ == "__main__":
    main()
