"""What is done of the course, read from the saved notebooks: `teachvae course --progress`.

Nothing is run, written or sent: a check has left its outcome in the notebook when it was saved.
"""

import re

from ..course.exercises.table import EXERCISES
from ..course.grade import OUTCOMES
from ..messages import align
from .notebook import code_cells

NAME = re.compile(r"(\d\d)-.*\.ipynb")
OUTCOME = re.compile(rf"^(\d\d-\d+) .*: ({'|'.join(OUTCOMES)})$", re.MULTILINE)


def read(folder):
    """({exercise: one of `OUTCOMES`}, sentences on files that cannot be read) of the notebooks of a folder.

    An exercise whose check was never run, or whose notebook is not there, is not attempted.
    """
    outcomes, sentences = dict.fromkeys(EXERCISES, "not attempted"), []
    for path in notebooks_of(folder):
        try:
            cells = code_cells(path)
        except (ValueError, OSError) as error:
            sentences.append(f"{path.name} is left out: {error}")
            continue
        for cell in cells:
            if cell.is_check and (found := OUTCOME.search(cell.shown)) and found[1] in outcomes:
                outcomes[found[1]] = found[2]
    return outcomes, sentences


def notebooks_of(folder):
    """The notebooks of the course in a folder, NN-….ipynb, in their order."""
    return sorted(path for path in folder.glob("*.ipynb") if NAME.fullmatch(path.name))


def table(outcomes, names):
    """A row a notebook, and their sum, as lines; names  {number of a notebook: its file's name}."""
    rows = [("notebook", "right", "not yet", "not attempted", "of", "not yet right")]
    for number in dict.fromkeys(EXERCISES[name].notebook for name in outcomes):
        own = {name: outcome for name, outcome in outcomes.items() if EXERCISES[name].notebook == number}
        open_ = [name for name, outcome in own.items() if outcome != "right"]
        rows.append((names.get(number, f"{number} (not in this folder)"), *_counted(own), ", ".join(open_)))
    rows.append(("in all", *_counted(outcomes), ""))
    left = align([row[:-1] for row in rows], left=1).splitlines()
    width = max(map(len, left))
    lines = [f"{line.ljust(width)}  {row[-1]}".rstrip() for line, row in zip(left, rows)]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _counted(outcomes):
    given = list(outcomes.values())
    return (*(str(given.count(outcome)) for outcome in reversed(OUTCOMES)), str(len(given)))
