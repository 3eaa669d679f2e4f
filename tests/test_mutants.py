"""The faults that `python -m tests.mutants` plants: each stands where its row says, and can be planted.

Where one is not found any more the formula has moved, and its row goes along. What the suite says to each of
them is the program's question, not asked here.
"""

import ast
from pathlib import Path
import subprocess
import sys

from mutants import MUTANTS, PUBLISHED, __main__ as program, planting
import pytest

TESTS = Path(__file__).parent
FILE = '''def kl(m, s2):
    """½ Σ (m² + s² − 1 − log s²)."""
    kl = 0.5 * (m * m  # é, of two bytes
                + s2 - 1)              # (3.4)
    return kl


class Bound:
    def kl(self, m):
        def kl(m):
            return m * m

        return kl(m) + m

    def log(self, m):
        print(m)
'''


@pytest.fixture(scope="module")
def sources():
    """{(mutant's name, file): source} of every mutant's files with its fault in them."""
    planted = {mutant: planting.planted(mutant, program.read) for mutant in MUTANTS}
    return {(m.name, file): source for m, files in planted.items() for file, source in files.items()}


def test_every_fault_can_be_planted(sources):
    """A formula that has moved is named here; what is planted can be read by Python, and is another file."""
    assert len(MUTANTS) >= 100
    for (_, file), source in sources.items():
        assert source != program.read(file)
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


def test_every_published_mistake_is_among_them():
    text = " ".join(mutant.name for mutant in MUTANTS)
    assert [number for number in PUBLISHED if not any(f"{number}{end}" in text for end in ",)")] == []


def test_the_tests_that_are_named_exist():
    def names(file):
        tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
        return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}

    known = {}
    for mutant in MUTANTS:
        for test in mutant.tests:
            file, _, name = test.partition("::")
            if file not in known:
                known[file] = names(file)
            assert not name or name in known[file], f"{mutant.name}: there is no {test}"


def change(where, stands, instead):
    mutant = planting.faults_in("a.py")("a fault", (where, stands, instead))
    return planting.planted(mutant, lambda file: FILE)["a.py"]


def test_a_formula_is_found_however_it_is_laid_out():
    expected = FILE.replace("(m * m  # é, of two bytes\n                + s2 - 1)", "((m * m + s2 + 1))")
    assert change("kl", "m*m + s2 - 1", "m * m + s2 + 1") == expected
    assert change("Bound.log", "print(m)", "pass") == FILE.replace("print(m)", "pass")
    assert change("Bound.log", "print(m)", "print()") == FILE.replace("print(m)", "(print())")
    assert change("kl", "kl = 0.5 * (m * m + s2 - 1)", "kl = 0.0") == FILE.replace(
        "kl = 0.5 * (m * m  # é, of two bytes\n                + s2 - 1) ", "kl = 0.0 "
    )


def test_a_function_is_told_from_others_of_its_name():
    assert change("Bound.kl.kl", "m * m", "m") == FILE.replace("return m * m", "return (m)")
    assert change("Bound.kl", "kl(m) + m", "kl(m)") == FILE.replace("kl(m) + m", "(kl(m))")


def test_several_changes_are_one_fault():
    mutant = planting.faults_in("a.py")("a fault", ("kl", "0.5", "1.0"), ("kl", "s2 - 1", "s2"))
    with pytest.raises(planting.Moved, match="“a fault”.*'s2 - 1' does not stand in kl of teachvae/a.py"):
        planting.planted(mutant, lambda file: FILE)
    mutant = planting.faults_in("a.py")("a fault", ("kl", "0.5", "1.0"), ("Bound.kl", "kl(m) + m", "m"))
    (source,) = planting.planted(mutant, lambda file: FILE).values()
    assert "(1.0) * (m" in source and "return (m)" in source


@pytest.mark.parametrize("where, stands, words", [
    ("kl", "m * m * m", "does not stand"),
    ("Bound", "m", "stands 5 times"),
    ("", "0.5", "does not stand in the top level"),
    ("Bound.bound", "m", "the function has moved"),
])
def test_what_has_moved_is_refused_aloud(where, stands, words):
    with pytest.raises(planting.Moved, match=words):
        change(where, stands, "0")


def test_a_fault_that_changes_nothing_is_refused():
    with pytest.raises(ValueError, match="are the same"):
        change("Bound.kl.kl", "m*m", "m * m")


def test_the_equation_of_a_fault_is_told():
    faults = planting.faults_in("a.py")
    fault = faults("a fault", ("kl", "m * m + s2 - 1", "0"), ("Bound.kl", "kl(m) + m", "0"))
    assert planting.equations(fault, lambda file: FILE) == "(3.4)"
    assert fault.places == "a.py kl"


def test_a_result_hangs_on_its_own_test_alone(tmp_path, monkeypatch):
    """Another test in the file may come or go; what the test asks of its file may not change unseen."""
    def number(text):
        (tmp_path / "test_a.py").write_text(text, encoding="utf-8")
        program.alone.cache_clear()
        return program.alone("test_a.py::test_one[x]")

    monkeypatch.setattr(program, "ROOT", tmp_path)
    text = "LIMIT = 1\n\ndef test_one(x):\n    assert x < LIMIT\n"
    assert number(text) == number(text + "\ndef test_two(x):\n    pass\n")
    assert number(text) != number(text.replace("LIMIT = 1", "LIMIT = 2"))
    assert number(text) != number(text.replace("<", ">"))
    program.alone.cache_clear()
    assert program.alone("test_b.py::test_one") is None


@pytest.mark.thorough
def test_the_program_tells_who_caught_a_fault_and_goes_on_where_it_was(tmp_path):
    command = [sys.executable, "-m", "tests.mutants", "--only", "the KL has +1 for −1",
               "--results", str(tmp_path / "found")]
    for _ in range(2):                                             # the second time it is known
        done = subprocess.run(
            command, cwd=TESTS.parent, capture_output=True, text=True, check=False, encoding="utf-8"
        )
        assert done.returncode == 0, done.stderr
        assert "test_components.py::test_value_equals_the_oracle[diagonal kl]" in done.stdout
        assert "1 of 1 mutants were killed, 0 survived" in done.stdout
    assert len((tmp_path / "found").read_text(encoding="utf-8").splitlines()) == 1


@pytest.mark.thorough
def test_what_changes_nothing_survives_and_a_test_that_always_fails_shows_nothing(tmp_path):
    """On the tests named alone: the whole suite would pass too, minutes later."""
    copy = program.Copy(tmp_path)
    nothing = planting.faults_in("posteriors/diagonal.py", "test_floors.py::test_the_house_stands")(
        "½ is 0.5", ("DiagonalGaussian.kl", "0.5", "1 / 2")
    )
    assert program.tried(copy, nothing, whole_suite=False)["test"] is None
    before = (copy.root / "teachvae/posteriors/diagonal.py").read_text(encoding="utf-8")
    assert before == program.read("posteriors/diagonal.py")
    (copy.root / "tests/test_new.py").write_text("def test_no():\n    assert False\n", encoding="utf-8")
    tests = ["tests/test_new.py::test_no", "tests/test_floors.py::test_the_house_stands"]
    assert program.failing(copy, tests) == tests[:1]
