"""What `teachvae course` and `teachvae grade` do: the result on stdout, all else on stderr, a status."""

from contextlib import ExitStack, closing
from pathlib import Path
import sys
import tempfile

import numpy as np

from ..messages import align
from . import checks, faults, start as jupyter, submissions
from .progress import notebooks_of, read, table


def start(folder=None, quiet=False):
    """Start JupyterLab on the course."""
    folder = jupyter.folder_of(folder)
    words = jupyter.command(folder)
    if not quiet:
        print(f"the course in {folder.resolve()}: {' '.join(words)}", file=sys.stderr, flush=True)
    return 0 if jupyter.start(words) else 1


def progress(folder=None, quiet=False):
    """Print what is done, as the saved notebooks say."""
    folder = jupyter.folder_of(folder)
    outcomes, sentences = read(folder)
    names = {path.name[:2]: path.name for path in notebooks_of(folder)}
    print(table(outcomes, names) if outcomes else "the course has no exercise")
    if not quiet:
        for sentence in sentences:
            print(f"note: {sentence}", file=sys.stderr)
    return 0


def plant(name, folder=None, tell=False):
    """Plant a fault in a copy of the package, list them all, or tell what one is."""
    if name == "list":
        print(faults.listed())
    elif tell:
        print(faults.told(name))
    else:
        print(faults.plant(name, folder))
    return 0


def check(name, seed=0):
    """Run a check of the package, or all of them."""
    rows = [("check", "what", "found", "")]
    names = list(checks.CHECKS) if name == "all" else [name]
    for each in names:
        rows += [
            (each, finding.what, f"{finding.number:.2g}", "ok" if finding.ok else "WRONG")
            for finding in checks.run(each, seed)
        ]
    print(f"the package in {faults.PACKAGE}\n\n{align(rows, heads=1)}")
    return 0 if all(row[-1] == "ok" for row in rows[1:]) else 1


def grade(folder, csv=None, *, seed=None, seconds=120, memory=4.0, jobs=1, quiet=False):
    """Judge all notebooks of a folder.

    csv   where their lines go: a file, "-" for stdout in the place of the table, or None
    jobs  how many notebooks are executed at a time; -1: as many as there are cores
    """
    from tqdm import tqdm

    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder")
    paths = submissions.found_in(folder)
    if not paths:
        raise ValueError(f"{folder} holds no notebook, *.ipynb")
    seed = int(np.random.SeedSequence().entropy % 10**6) if seed is None else seed
    say = print if quiet else tqdm.write
    if not quiet:
        say(f"note: all are judged on data of the seed {seed}: --seed {seed} draws the same", file=sys.stderr)
    done = []
    with ExitStack() as stack:
        cache = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        file = None if csv is None else sys.stdout
        if csv not in (None, "-"):
            file = stack.enter_context(Path(csv).open("w", encoding="utf-8", newline=""))
        lines = None if file is None else submissions.writer(file)
        each = stack.enter_context(closing(submissions.each_judged(
            paths, folder, jobs, seed=seed, seconds=seconds, memory=memory, cache=cache
        )))
        for found in tqdm(each, total=len(paths), unit="notebook", disable=quiet, file=sys.stderr):
            done.append(found)
            if lines is not None:
                lines.writerows(submissions.rows(found, seed))
                file.flush()
            if not quiet:
                for note in dict.fromkeys([*found.errors, *found.notes]):
                    say(f"note: {found.file}: {note}", file=sys.stderr)
    if csv != "-":
        print(submissions.table(done))
    for found in done if csv == "-" else ():
        if found.stopped:
            print(f"not judged to its end: {found.file}: {found.stopped}", file=sys.stderr)
    return 1 if any(found.stopped for found in done) else 0
