"""What is handed in for the exercises of the course, wrong and right, a file a notebook.

    python -m tests.answers             # prints the matrix: every wrong answer, and which mistake it is told

WRONG = {exercise: {words that the verdict has to say: answer}}, three at the least, each by words of its own.
RIGHT = {exercise: [answers]}, other roads to the right numbers, four at the least.
BANDS = {exercise: [r, w]}: errors of right answers are below 10^r, those of wrong ones above 10^w.
"""

from importlib import import_module
import json
from pathlib import Path

from teachvae.course.exercises.table import ROOMS

BANKS = [import_module(f".{room.__name__.rsplit('.', 1)[1]}", __name__) for room in ROOMS]
WRONG = {name: bank for room in BANKS for name, bank in room.WRONG.items()}
RIGHT = {name: bank for room in BANKS for name, bank in room.RIGHT.items()}
BANDS = json.loads(Path(__file__).with_name("bands.json").read_text(encoding="utf-8"))
