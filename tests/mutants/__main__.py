"""Plants faults in a copy of the package, one at a time, and shows that the suite fails for each.

    python -m tests.mutants --jobs 2                   all of them, about half an hour on two cores
    python -m tests.mutants --only "posteriors"        those whose name, file, function or equation has this
    python -m tests.mutants --minutes 5 --jobs 2       as many as are tried in that time, the order by --seed

A mutant is killed by the first test that fails with it and passes without. It is tried on the tests that its
row names and then, unless time is short, on the whole suite; where all of that passes it has survived: a test
is missing. What was found is kept in a file, a line a mutant, and found again as long as the sources, and the
tests that it hangs on, are the same: a run that was broken off goes on. Exit code 0: all were killed; 1: not.
"""

import argparse
import ast
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from functools import cache
import hashlib
import json
import os
from pathlib import Path
import queue
import random
import shutil
import sys
import tempfile
import threading
import time

from tqdm import tqdm

from . import MUTANTS, child
from .planting import equations, planted

ROOT = Path(__file__).parents[2]
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv*", "__pycache__", ".hypothesis", ".pytest_cache", "*.egg-info", ".mutants.jsonl"
)
NOT_ASKED = ["test_floors.py", "test_mutants.py"]                  # they look at the sources' text alone
LIMITS = {"the tests named": 300, "the suite": 1800}               # seconds


def read(file):
    """The source of a file below teachvae/."""
    return (ROOT / "teachvae" / file).read_text(encoding="utf-8")


# ---- one mutant in one copy ------------------------------------------------------------------------


class Copy:
    """A copy of the working tree, in which a fault can be planted and tests be run."""

    def __init__(self, folder):
        self.root = Path(folder).resolve() / "tree"
        shutil.copytree(ROOT, self.root, ignore=LEFT_OUT)

    @contextmanager
    def with_fault(self, mutant):
        """The copy with the fault of a mutant in it, and then without."""
        sources = planted(mutant, read)
        try:
            for file, source in sources.items():
                (self.root / "teachvae" / file).write_text(source, encoding="utf-8")
            yield
        finally:
            for file in sources:
                (self.root / "teachvae" / file).write_text(read(file), encoding="utf-8")

    def first_failure(self, tests, what):
        """(test, said) of the first of the tests that fails, (None, "") where none does; TimeoutError."""
        return child.first_failure(self.root, ROOT, tests, LIMITS[what])


def tried(copy, mutant, whole_suite):
    """What became of a mutant: a dict with "test", the first that failed or None, "said", and "seconds"."""
    began = time.monotonic()
    asked = [("the tests named", [f"tests/{test}" for test in mutant.tests])]
    if whole_suite:
        asked.append(("the suite", ["tests", *(f"--ignore=tests/{name}" for name in NOT_ASKED)]))
    with copy.with_fault(mutant):
        for what, tests in asked:
            try:
                test, said = copy.first_failure(tests, what)
            except TimeoutError as error:
                test, said = None, f"{what}: {error}"
            if test or said:
                break
    return {"test": test, "said": said, "seconds": round(time.monotonic() - began, 1)}


# ---- what is known already -------------------------------------------------------------------------


def digest(paths):
    """A number for what stands in these files."""
    total = hashlib.sha256()
    for path in sorted(paths):
        total.update(f"{path.relative_to(ROOT)}\n".encode() + path.read_bytes())
    return total.hexdigest()[:16]


@cache
def alone(test):
    """A number for a test, as pytest calls it, and all of its file but the other tests; None without it."""
    file, _, name = test.partition("::")
    if not (ROOT / file).exists():
        return None
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    name = name.partition("[")[0]
    tree.body = [
        node for node in tree.body
        if not (isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and node.name != name)
    ]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:16]


class Results:
    """What was found, in a file of JSON lines, of which a mutant's last one holds.

    A line holds as long as the mutant, the sources and the tests that it hangs on are what they were: of one
    that was killed the test that did it and all of its file but the other tests, of a survivor all tests.
    whole_suite: whether a mutant that only the tests named have let pass is to be tried again.
    """

    def __init__(self, path, whole_suite):
        self.path, self.whole_suite, self.lock = Path(path), whole_suite, threading.Lock()
        self.sources = digest((ROOT / "teachvae").rglob("*.py"))
        self.lines = {}
        if self.path.exists():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                found = json.loads(line)
                self.lines[found["name"]] = found

    def key(self, mutant, test):
        """What a result hangs on, where that test killed the mutant, or none did."""
        tests = ROOT / "tests"
        helpers = [path for path in tests.glob("*.py") if not path.name.startswith("test_")]
        if test is None:
            return [repr(mutant.changes), self.sources, digest([*helpers, *tests.glob("test_*.py")])]
        return [repr(mutant.changes), self.sources, digest(helpers), alone(test)]

    def known(self, mutant):
        """What was found of a mutant, or None where that is not known, or not any more."""
        found = self.lines.get(mutant.name)
        if found is None or (found["test"] is None and self.whole_suite and not found["whole_suite"]):
            return None
        return found if found["key"] == self.key(mutant, found["test"]) else None

    def keep(self, mutant, found):
        """Add what was found to the file."""
        line = {"name": mutant.name, **found, "whole_suite": self.whole_suite,
                "key": self.key(mutant, found["test"])}
        with self.lock, open(self.path, "a", encoding="utf-8") as file:
            self.lines[mutant.name] = line
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


# ---- all of them -----------------------------------------------------------------------------------


def run(mutants, results, jobs, deadline):
    """Try the mutants of which nothing is known, until the deadline; then try on the sources as they are
    every test that killed one. Returns the names of those tests that fail there too.
    """
    open_ = [mutant for mutant in mutants if results.known(mutant) is None]
    with tempfile.TemporaryDirectory() as folder:
        copies = queue.SimpleQueue()
        for job in range(jobs):
            copies.put(Copy(Path(folder) / str(job)))

        def one(mutant):
            if time.monotonic() > deadline:
                return
            copy = copies.get()
            try:
                results.keep(mutant, tried(copy, mutant, results.whole_suite))
            finally:
                copies.put(copy)

        with ThreadPoolExecutor(jobs) as pool, tqdm(total=len(open_), desc="mutants", file=sys.stderr) as bar:
            try:
                for done in as_completed([pool.submit(one, mutant) for mutant in open_]):
                    done.result()
                    bar.update()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

        found = [results.known(mutant) for mutant in mutants]
        return failing(copies.get(), sorted({line["test"] for line in found if line and line["test"]}))


def failing(copy, tests):
    """Those of the tests that fail on the sources as they are, where they would show nothing."""
    found, left = [], list(tests)
    while left:
        failed, _ = copy.first_failure(left, "the suite")
        if failed is None:
            break
        found.append(failed)
        left = [test for test in left if test != failed and not failed.startswith(f"{test}::")]
    return found


def table(mutants, results):
    """A line a mutant: whether it was killed, by which test, and in what time; as text."""
    lines = []
    for mutant in mutants:
        found = results.known(mutant)
        if found is None:
            continue
        test = (found["test"] or f"SURVIVED {found['said']}".strip()).removeprefix("tests/")
        where = f"{mutant.places} {equations(mutant, read)}".strip()
        lines.append(f"{mutant.name}\n    {where}\n    {test}, {found['seconds']:.0f} s")
    return "\n".join(lines)


def selected(only):
    """The mutants whose name, file, function or equation has this text."""
    return [m for m in MUTANTS if only in f"{m.name} {m.places} {equations(m, read)}"]


def main():
    """The program; returns its exit code."""
    parser = argparse.ArgumentParser("python -m tests.mutants", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", help="a part of the name, file, function or equation")
    parser.add_argument("--sample", type=int, help="so many of them, drawn by --seed")
    parser.add_argument("--seed", type=int, default=0, help="of the order in which they are tried")
    parser.add_argument("--minutes", type=float, help="begin none after that time, nor try the whole suite")
    parser.add_argument("--jobs", type=int, default=1, help="how many are tried at a time")
    parser.add_argument("--results", default=ROOT / ".mutants.jsonl", help="the file of what was found")
    asked = parser.parse_args()
    os.environ["OPENBLAS_NUM_THREADS"] = "1"                       # of the processes that are started

    mutants = selected(asked.only)
    if asked.sample or asked.minutes:
        mutants = random.Random(asked.seed).sample(mutants, min(asked.sample or len(mutants), len(mutants)))
    results, began = Results(asked.results, asked.minutes is None), time.monotonic()
    deadline = began + 60 * asked.minutes if asked.minutes else float("inf")
    wrong = run(mutants, results, asked.jobs, deadline)
    print(table(mutants, results))

    found = [results.known(mutant) for mutant in mutants]
    shown = [line for line in found if line]
    killed = sum(bool(line["test"]) for line in shown)
    print(
        f"\n{killed} of {len(shown)} mutants were killed, {len(shown) - killed} survived; "
        f"{len(mutants) - len(shown)} of {len(MUTANTS)} were not tried; seed {asked.seed}, "
        f"{sum(line['seconds'] for line in shown):.0f} s of tests"
    )
    for test in wrong:
        print(f"{test} fails on the sources as they are, and so shows nothing")
    return int(killed < len(shown) or bool(wrong) or not shown)


if __name__ == "__main__":
    sys.exit(main())
