"""What a check has found: a row a leaf, with its verdict and a diagnosis in words; printed, a table."""

from dataclasses import dataclass, field
import math

from ..messages import align


@dataclass(frozen=True)
class Row:
    """One leaf's result: its worst index, both numbers there, and a diagnosis ("" where all is right).

    verdict    "ok", "WRONG", or "?": at a kink, of zeros, or under f's rounding nothing is proved
    attempted  False where nothing was handed in for this leaf: None, or the … of an exercise

    Where nothing could be compared, both numbers are NaN and the index is ().
    """

    path: str
    shape: tuple
    error: float
    index: tuple
    analytic: float
    numeric: float
    diagnosis: str
    verdict: str
    kinks: tuple = ()
    attempted: bool = True

    @property
    def ok(self):
        """Whether this leaf is right."""
        return self.verdict == "ok"


@dataclass(frozen=True)
class Report:
    """One `Row` per leaf, and notes on what the leaves have in common; str(report) is a table.

    columns  what the two numbers of a row are: analytic and numeric, yours and asked, …
    """

    rows: list
    tolerance: float
    notes: list = field(default_factory=list)
    columns: tuple = ("analytic", "numeric")

    @property
    def ok(self):
        """Whether every leaf is right."""
        return self.verdict == "ok"

    @property
    def verdict(self):
        """"WRONG" where a leaf is, or a note says so; else "?" where a leaf is undecided; else "ok"."""
        verdicts = {row.verdict for row in self.rows} | ({"WRONG"} if self.notes else set())
        return next((verdict for verdict in ("WRONG", "?") if verdict in verdicts), "ok")

    @property
    def outcome(self):
        """The verdict as a course says it: "not attempted" where no leaf was, "right", or "not yet"."""
        if not any(row.attempted for row in self.rows):
            return "not attempted"
        return "right" if self.ok else "not yet"

    @property
    def worst(self):
        """The row of the leaf with the largest error."""
        return max(self.rows, key=lambda row: row.error)

    @property
    def kinks(self):
        """(path, index) of every index that sits on a kink of f: draw another point."""
        return [(row.path, index) for row in self.rows for index in row.kinks]

    def __str__(self):
        cells = [("leaf", "shape", "worst error", "at", *self.columns, "")]
        for row in self.rows:
            if math.isnan(row.analytic) and math.isnan(row.numeric):
                numbers = "–", "–", "–", "–"
            else:
                numbers = (f"{row.error:.1e}", str(row.index), f"{row.analytic:.8g}", f"{row.numeric:.8g}")
            cells.append((row.path, str(row.shape), *numbers, row.verdict))
        diagnoses = [f"{row.path}: {row.diagnosis}." for row in self.rows if row.diagnosis]
        return "\n".join([align(cells)] + [f"{note}." for note in self.notes] + diagnoses)


def unusable(path, shape, sentence, attempted=True):
    """The `Row` of a leaf for which no numbers could be compared, and why."""
    nan = math.nan
    return Row(path, shape, math.inf, (), nan, nan, sentence, "WRONG", attempted=attempted)
