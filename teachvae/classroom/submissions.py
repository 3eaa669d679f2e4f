"""A folder of submitted notebooks, each executed and judged in a process of its own: `teachvae grade FOLDER`.

Time and memory of that process are limited, it is offline, and its folder is empty and temporary; `execution`
is what happens in it. What comes back is text, in lines of JSON: nothing that a notebook made is unpickled.
"""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
import csv
from dataclasses import dataclass, field
import json
import os
from pathlib import Path
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
from time import monotonic, sleep

from ..course.exercises.table import EXERCISES
from ..course.grade import OUTCOMES
from ..messages import align, counted
from .notebook import code_cells

NOT_JUDGED = "not judged"
COLUMNS = "student", "file", "exercise", "asks", "outcome", "why", "errors", "seconds", "seed"
START = "import sys; sys.path.insert(0, sys.argv[1]); from teachvae.classroom.execution import main; main()"
HANDED_ON = re.compile(
    r"PATH|HOME|LANG|LC_.*|TZ|SYSTEMROOT|WINDIR|USERPROFILE|APPDATA|LOCALAPPDATA|LD_LIBRARY_PATH|DYLD_.*|"
    r"PYTHONPATH|PYTHONHOME|PYTHONUSERBASE|VIRTUAL_ENV|CONDA_PREFIX|TEACHVAE_.*"
)
MOST = 2**22                                                       # bytes that are read back of a notebook
RUNNING = set()                                                    # processes that have not been ended
STARTING = 30                                                      # seconds that its start may take


@dataclass
class Submission:
    """What was found of one notebook.

    verdicts  {exercise: (outcome, lines on it)}: one of `OUTCOMES`, or "not judged"
    errors    a sentence for each cell that raised
    notes     what else there is to say
    stopped   why it could not be executed and judged to its end, or ""
    """

    student: str
    file: str
    verdicts: dict = field(default_factory=dict)
    errors: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    stopped: str = ""
    seconds: float = 0.0


def found_in(folder):
    """The notebooks of a folder and of those within it, sorted; not what Jupyter keeps as checkpoints."""
    return sorted(
        path for path in folder.rglob("*.ipynb")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def judged(path, folder, *, seed, seconds=120, memory=4.0, cache=None):
    """The `Submission` of a notebook file below a folder: that of a student, where it is in one of its own.

    seed     of the data of every exercise
    seconds  after which its process is ended
    memory   gibibytes that it may have
    cache    a folder that processes share, in which Matplotlib keeps what it knows of fonts; None: its own
    """
    inner = path.relative_to(folder)
    student = inner.parts[0] if len(inner.parts) > 1 else inner.stem
    found = Submission(plain(student), plain(inner.as_posix()))
    start = monotonic()
    try:
        cells = code_cells(path)
    except (ValueError, OSError) as error:
        found.stopped = str(error)
        return found
    asked = asked_by(cells, path.name)
    if not asked:
        found.stopped = "it holds no exercise of the course: no check cell, and no number NN- in its name"
        return found
    job = {
        "cells": [{"source": cell.source, "check": cell.is_check, "exercise": cell.exercise,
                   "answer": cell.answer} for cell in cells],
        "asked": asked, "seed": seed, "seconds": seconds, "memory": memory,
    }
    with tempfile.TemporaryDirectory(prefix="teachvae-grade-", ignore_cleanup_errors=True) as own:
        found.stopped = _execute(job, own, cache or own, found)
    for name in asked:
        found.verdicts.setdefault(name, (NOT_JUDGED, [found.stopped]))
    found.seconds = monotonic() - start
    return found


def each_judged(paths, folder, jobs=1, **options):
    """The `Submission` of each path in turn, `jobs` of them executed at a time; options as of `judged`."""
    with ThreadPoolExecutor(jobs if jobs > 0 else os.cpu_count() or 1) as executor:
        futures = [executor.submit(judged, path, folder, **options) for path in paths]
        try:
            for future in futures:
                yield future.result()
        finally:                                                   # also where it is interrupted
            for future in futures:
                future.cancel()
            while any(future.running() for future in futures):
                for process in list(RUNNING):
                    _end(process)
                sleep(0.05)


def asked_by(cells, file):
    """The exercises of a notebook: all of the number that its check cells name, or else its file's name."""
    numbers = {cell.exercise.partition("-")[0] for cell in cells if cell.exercise in EXERCISES}
    if not numbers:
        numbers = set(re.findall(r"(?<!\d)(\d\d)-", file)[:1])
    return [name for name, exercise in EXERCISES.items() if exercise.notebook in numbers]


# ---- the process ------------------------------------------------------------------------------


def _execute(job, folder, cache, found):
    """Start a process for the job, put what it says into `found`, end it; why it went wrong, or ""."""
    package = Path(__file__).resolve().parents[2]
    environment = {name: value for name, value in os.environ.items() if HANDED_ON.fullmatch(name.upper())}
    environment |= {
        "MPLBACKEND": "Agg", "MPLCONFIGDIR": cache, "NUMBA_CACHE_DIR": cache, "TMPDIR": folder,
        "TEMP": folder, "TMP": folder, "OPENBLAS_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8",
    }
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", START, str(package)], cwd=folder, env=environment, bufsize=0,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
    )
    RUNNING.add(process)
    end = monotonic() + job["seconds"] + STARTING
    lines = queue.SimpleQueue()
    reader = threading.Thread(target=_read, args=(process.stdout, lines), daemon=True)
    reader.start()
    try:
        _hand_over(process.stdin, json.dumps(job | {"cache": cache}).encode("ascii"))
        while True:
            try:
                line = lines.get(timeout=max(end - monotonic(), 0.01))
            except queue.Empty:
                return f"it was stopped after {job['seconds']:g} s"
            if line is None:
                return f"its process ended by itself, {_ending(process)}"
            said = _read_back(line)
            if said.get("started") is True:
                end = min(end, monotonic() + job["seconds"] + 1)   # it ends by itself before, if it can
            if said.get("done") is True:
                return ""
            _take(said, job["asked"], found)
    finally:
        _end(process)
        RUNNING.discard(process)
        reader.join(1)


def _hand_over(pipe, text):
    try:
        with pipe:
            view = memoryview(text)
            while view:
                view = view[pipe.write(view):]
    except OSError:                                                # it is gone, which is found soon
        pass


def _read(pipe, lines):
    """Put the lines of a pipe into a queue, None at their end, or where they are too many."""
    with pipe:
        rest, size = b"", 0
        while size < MOST:
            try:
                piece = pipe.read(65536)
            except (OSError, ValueError):
                break
            if not piece:
                break
            size += len(piece)
            *whole, rest = (rest + piece).split(b"\n")
            for line in whole:
                lines.put(line)
    lines.put(None)


def _read_back(line):
    """What a line says, a dict; an empty one where it is not as it should be."""
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        said = {}
    return said if isinstance(said, dict) else {}


def _take(said, asked, found):
    """Put what a line says into `found`; what is not as it should be is left out."""
    name, outcome, lines = said.get("exercise"), said.get("outcome"), said.get("lines")
    if name in asked and outcome in OUTCOMES and isinstance(lines, list):
        found.verdicts[name] = outcome, [plain(text) for text in lines[:4]]
    elif isinstance(said.get("cell"), int):
        found.errors.append(plain(f"cell {said['cell']} {said.get('error')}"))
    elif isinstance(said.get("note"), str):
        found.notes.append(plain(said["note"]))


def plain(text):
    """A text in one line, without what would steer a terminal; blanks at its start are kept."""
    return "".join(mark if mark.isprintable() else "\N{REPLACEMENT CHARACTER}" for mark in str(text))


def _ending(process):
    """How a process ended that closed its pipe, in words."""
    try:
        status = process.wait(1)
    except subprocess.TimeoutExpired:
        return "or closed its pipe"
    if status < 0:
        names = {number.value: number.name for number in signal.Signals}
        return f"by {names.get(-status, -status)}"
    return f"with exit status {status}"


def _end(process):
    """End a process, and those of its group."""
    if hasattr(os, "killpg"):
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
    process.kill()
    process.wait()


# ---- what a lecturer reads ---------------------------------------------------------------------


def rows(found, seed):
    """The lines of the CSV file of a `Submission`, a list of texts for each exercise, as in `COLUMNS`."""
    verdicts = found.verdicts or {"": (NOT_JUDGED, [found.stopped])}
    return [
        [_harmless(str(value)) for value in (
            found.student, found.file, name, EXERCISES[name].asks if name else "", outcome, _joined(lines),
            len(found.errors), f"{found.seconds:.1f}", seed,
        )]
        for name, (outcome, lines) in verdicts.items()
    ]


def writer(file):
    """A CSV writer to a file, after the line of the columns."""
    made = csv.writer(file, lineterminator="\n")
    made.writerow(COLUMNS)
    return made


def table(submissions):
    """Two tables as text: a row a notebook, and a row an exercise with what was said of it most often."""
    kinds = "right", "not yet", "not attempted", NOT_JUDGED
    by_notebook, said, stands = [("notebook", *kinds, "cells that raised", "seconds")], {}, {}
    for found in submissions:
        outcomes = [outcome for outcome, _ in found.verdicts.values()]
        numbers = [str(outcomes.count(kind)) for kind in kinds]
        by_notebook.append((found.file, *numbers, str(len(found.errors)), f"{found.seconds:.0f}"))
        for name, (outcome, lines) in found.verdicts.items():
            stands.setdefault(name, Counter())[outcome] += 1
            if outcome == "not yet" and lines:
                said.setdefault(name, Counter())[_sentence(lines)] += 1
    by_exercise = [("exercise", *kinds, "said most often")]
    for name in (name for name in EXERCISES if name in stands):
        (words, times), = said[name].most_common(1) if name in said else [("", 0)]
        by_exercise.append((
            f"{name} {EXERCISES[name].asks}", *(str(stands[name][kind]) for kind in kinds),
            f"{times} × {words}" if words else "",
        ))
    tables = [align(by_notebook, left=1, heads=1)]
    if len(by_exercise) > 1:
        left = align([row[:-1] for row in by_exercise], left=1).splitlines()
        lines = [f"{line}  {row[-1]}".rstrip() for line, row in zip(left, by_exercise)]
        tables.append("\n".join([lines[0], "-" * len(left[0]), *lines[1:]]))
    stopped = [f"{found.file}: {found.stopped}" for found in submissions if found.stopped]
    tables.append("\n".join([f"{counted(len(submissions), 'notebook')}.", *stopped]))
    return "\n\n".join(tables)


def _sentence(lines):
    """The sentence on the mistake: the last one, which is not a line of the student's code."""
    return next((line for line in reversed(lines) if not line.startswith("    ")), lines[0])


def _joined(lines):
    return "; ".join(line.strip() for line in lines)


def _harmless(text):
    """A text that a spreadsheet does not take for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
