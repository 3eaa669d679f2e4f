"""Tests of `teachvae course` and `teachvae grade`: where the course is and how it is started, what is done of
it, published faults in a copy and the checks that see them, and a folder of notebooks, honest and hostile."""

import csv
import io
import json
import subprocess
import sys
from time import monotonic

import pytest

from teachvae import cli
from teachvae.classroom import checks, faults, notebook, start, submissions
from teachvae.course import grade
from teachvae.course.exercises.table import EXERCISES

NAME = next(name for name, exercise in EXERCISES.items() if exercise.asks == "posterior")
SETUP = "import numpy as np\nfrom teachvae import grade"
RIGHT = """\
def posterior(x, W, b, psi):
    cov = np.linalg.inv(np.eye(len(W)) + (W / psi) @ W.T)
    return {"mean": (x - b) @ (W / psi).T @ cov, "cov": cov}"""
WRONG = RIGHT.replace("np.eye(len(W)) + ", "")
STUB = 'def posterior(x, W, b, psi):\n    """To be written."""\n    ...'
CHECK = f'grade.check("{NAME}", posterior)'


def write(path, *sources, tagged=True, shown=()):
    """A notebook file of these code cells; `shown` are outputs of check cells, in their order."""
    shown, cells = list(shown), [{"cell_type": "markdown", "source": ["# A title"], "metadata": {}}]
    for source in sources:
        check = source.startswith("grade.check")
        data = [{"text/plain": shown.pop(0)}] if check and shown else []
        cells.append({
            "cell_type": "code", "source": source.splitlines(keepends=True),
            "outputs": [{"output_type": "execute_result", "data": each} for each in data],
            "metadata": {"tags": ["check"]} if check and tagged else {},
        })
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"cells": cells, "nbformat": 4}), encoding="utf-8")
    return path


# ---- starting it ------------------------------------------------------------------------------


def test_the_course_is_found_where_one_stands(tmp_path, monkeypatch):
    inner = write(tmp_path / "notebooks/00-start-here.ipynb", SETUP).parent
    monkeypatch.chdir(tmp_path)
    assert start.folder_of().resolve() == start.folder_of(tmp_path).resolve() == inner
    monkeypatch.chdir(inner)
    assert start.folder_of().resolve() == start.folder_of(inner).resolve() == inner
    (empty := tmp_path / "empty").mkdir()
    monkeypatch.chdir(empty)
    monkeypatch.setattr(start, "__file__", str(tmp_path / "teachvae/classroom/start.py"))
    assert start.folder_of() == inner
    monkeypatch.setattr(start, "__file__", str(empty / "teachvae/classroom/start.py"))
    nowhere = empty / "no"
    for given, words in [(None, "in the checkout"), (empty, "holds no notebook"), (nowhere, "is no folder")]:
        with pytest.raises(ValueError, match=words):
            start.folder_of(given)
    assert cli.main(["course", "--quiet"]) == cli.main(["course", "--progress", "no"]) == 2


def test_jupyter_is_started_where_the_links_to_the_derivations_lead_somewhere(tmp_path, monkeypatch, capsys):
    folder = write(tmp_path / "notebooks/03-a b.ipynb", SETUP).parent
    monkeypatch.setattr(start, "find_spec", lambda name: True)
    *_, root, page = start.command(folder)
    assert root.endswith(f"root_dir={folder}") and page.endswith("/lab/tree/03-a%20b.ipynb")
    (tmp_path / "derivations").mkdir()
    write(folder / "00-start-here.ipynb", SETUP)
    *_, root, page = start.command(folder)
    assert root.endswith(f"root_dir={tmp_path}") and page.endswith("/lab/tree/notebooks/00-start-here.ipynb")

    ran = []
    monkeypatch.setattr(start, "start", lambda words: ran.append(words) or len(ran) == 1)
    assert [cli.main(["course", str(folder)]) for _ in range(2)] == [0, 1]
    assert ran[0][1:3] == ["-m", "jupyterlab"]
    assert "jupyterlab" in capsys.readouterr().err
    monkeypatch.setattr(start, "find_spec", lambda name: None if name == "ipykernel" else True)
    assert cli.main(["course", str(folder)]) == 2
    assert "pip install -e '.[notebooks]'" in capsys.readouterr().err


def test_how_jupyter_ends_is_how_the_command_ends():
    assert start.start([sys.executable, "-c", ""])
    assert not start.start([sys.executable, "-c", "raise SystemExit(3)"])


# ---- what is done -----------------------------------------------------------------------------


def test_progress_is_read_from_what_the_checks_have_left(tmp_path, capsys):
    names = {"right": RIGHT, "not yet": WRONG, "not attempted": STUB}
    for outcome, source in names.items():
        exec(f"{SETUP}\n{source}", space := {})
        shown = repr(grade.check(NAME, space["posterior"]))
        write(tmp_path / "02-factor-analysis.ipynb", SETUP, CHECK, shown=[shown.splitlines(keepends=True)])
        before = (tmp_path / "02-factor-analysis.ipynb").read_bytes()
        assert cli.main(["course", "--progress", str(tmp_path)]) == 0
        line, = [line for line in capsys.readouterr().out.splitlines() if "02-factor" in line]
        ours = [name for name in EXERCISES if name.startswith("02-")]
        counts = {"right": 0, "not yet": 0, "not attempted": len(ours) - 1}
        counts[outcome] += 1
        assert line.split()[1:5] == [str(n) for n in (*counts.values(), len(ours))]
        assert (NAME in line.replace(",", " ").split()) is (outcome != "right")
        assert (tmp_path / "02-factor-analysis.ipynb").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("text", [
    b"", b"{", b"[]", b"\xff\xfe", b'{"cells": 3}', b'{"worksheets": []}', b"[" * 100_000,
    b'{"cells": [3, {}]}',
    b'{"cells": [{"cell_type": "code", "source": 3, "metadata": 4, "outputs": [5, {"data": 6}]}]}',
])
def test_a_damaged_notebook_is_left_out(text, tmp_path, capsys):
    (tmp_path / "02-a.ipynb").write_bytes(text)
    assert cli.main(["course", "--progress", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert ("02-a.ipynb is left out" in printed.err) is (b"cells\": [" not in text)
    assert "in all" in printed.out and "Traceback" not in printed.err


def test_a_notebook_of_many_megabytes_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(notebook, "LARGEST", 10)
    with pytest.raises(ValueError, match="clear its outputs"):
        notebook.code_cells(write(tmp_path / "a.ipynb", SETUP))


# ---- published faults -------------------------------------------------------------------------


def test_the_package_as_it_is_passes_every_check(capsys):
    for name in ("bound", "moments", "values", "checker"):         # gradients are `teachvae gradcheck`
        assert cli.main(["course", "--check", name]) == 0
        assert str(faults.PACKAGE) in capsys.readouterr().out


def test_a_finding_that_is_wrong_is_an_exit_status(monkeypatch, capsys):
    monkeypatch.setitem(checks.CHECKS, "bound", lambda seed: [checks.Finding("it", 1.0, False)])
    assert cli.main(["course", "--check", "bound"]) == 1 and "WRONG" in capsys.readouterr().out


@pytest.mark.parametrize("name", faults.FAULTS)
def test_a_fault_is_planted_and_nothing_else_changes(name, tmp_path, capsys, monkeypatch):
    fault = faults.FAULTS[name]
    assert set(fault.seen_by) <= set(checks.CHECKS) and fault.seen_by
    monkeypatch.chdir(tmp_path)
    assert cli.main(["course", "--break", name]) == 0
    said = capsys.readouterr().out
    assert fault.what not in said and all(file not in said for file, *_ in fault.changes)
    copy = tmp_path / f"teachvae-{name}/teachvae"
    files = [path.relative_to(copy) for path in sorted(copy.rglob("*.py"))]
    assert len(files) > 50
    changed = [file for file in files if (copy / file).read_bytes() != (faults.PACKAGE / file).read_bytes()]
    assert {file.as_posix() for file in changed} == {file for file, *_ in fault.changes}
    for file in changed:
        compile((copy / file).read_text(encoding="utf-8"), str(file), "exec")
    assert cli.main(["course", "--break", name]) == 2              # the folder exists
    assert "--output" in capsys.readouterr().err

    assert cli.main(["course", "--break", name, "--tell"]) == 0
    told = capsys.readouterr().out
    assert fault.what in told and all(f"teachvae/{file}, line" in told for file, *_ in fault.changes)
    monkeypatch.setattr(faults, "PACKAGE", copy)
    with pytest.raises(ValueError, match="stands 0 times"):
        faults.plant(name, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_faults_are_listed_by_where_they_were_published(capsys):
    assert cli.main(["course", "--break", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(faults.FAULTS) and len(lines) >= 6
    assert cli.main(["course", "--break", "B99"]) == 2 and "choose from" in capsys.readouterr().err
    assert cli.main(["course", "--tell"]) == cli.main(["course", "--output", "x"]) == 2


SEEN = """
from pathlib import Path
import sys
from teachvae.classroom import checks
from teachvae.gradcheck import package

assert Path(package.__file__).parents[2] == Path.cwd()
if sys.argv[1]:
    every = package.all_checks
    package.all_checks = lambda: [check for check in every() if check[0].startswith(sys.argv[1])]
print(*[name for name in checks.CHECKS if not all(finding.ok for finding in checks.run(name))])
"""


def seen_in_a_copy(name, folder, parts=""):
    """The names of the checks that fail in a copy with this fault; of gradients these parts alone."""
    faults.plant(name, folder / name)
    done = subprocess.run(
        [sys.executable, "-c", SEEN, parts], cwd=folder / name, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("name", ["B1", "B3", "B14"])
def test_a_fault_is_seen_by_the_checks_that_are_said_to_see_it(name, tmp_path):
    assert seen_in_a_copy(name, tmp_path, "diagonal") == list(faults.FAULTS[name].seen_by)


@pytest.mark.thorough
@pytest.mark.parametrize("name", faults.FAULTS)
def test_a_fault_is_seen_by_no_other_check(name, tmp_path):
    assert seen_in_a_copy(name, tmp_path) == list(faults.FAULTS[name].seen_by)


# ---- a folder of submitted notebooks ----------------------------------------------------------


def graded(folder, *options):
    """(exit status, {file: rows of the CSV}) of `teachvae grade`."""
    lines = folder.parent / "graded.csv"
    status = cli.main(["grade", str(folder), "--csv", str(lines), "--quiet", "--jobs", "2", *options])
    with lines.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(submissions.COLUMNS)
    found = {}
    for row in rows:
        found.setdefault(row["file"], {})[row["exercise"]] = row
    return status, found


HONEST = {
    "right": (RIGHT, "right", ""),
    "wrong": (WRONG, "not yet", "prior"),
    "stub": (STUB, "not attempted", ""),
    "no_numpy": (RIGHT.replace("np.linalg", "scipy.linalg"), "not yet", "NameError"),
    "a_cell_that_raises": (f"{RIGHT}\n1 / 0", "right", ""),
    "no_answer": ("1 / 0", "not attempted", ""),
}
FOOLED = """
from teachvae.course import exercise, grade as inner
from teachvae.gradcheck import report
class Fine:
    outcome, lines, ok = "right", (), True
inner.check = grade.check = lambda *a, **k: Fine()
inner.check.__code__ = (lambda *a, **k: Fine()).__code__
report.Report.ok = report.Report.outcome = "right"
inner.EXERCISES.clear()
np.all = np.any = lambda *a, **k: True
np.abs = np.zeros_like
import builtins
builtins.max = builtins.all = lambda *a, **k: 0
del builtins.isinstance
def print(*a): raise KeyboardInterrupt
"""
HOSTILE = {                                                        # (cells before the check, outcome)
    "fooled": ([FOOLED, WRONG], "not yet"),
    "fooled_while_called": (
        [WRONG.replace("    return", "    np.all = np.any = lambda *a, **k: True\n"
                       "    np.abs = np.zeros_like\n    return")], "not yet"),
    "fooled_by_what_it_imports": ([WRONG.replace("    return", "    import sys\n"
        "    from teachvae.course import exercise, grade\n    from teachvae.gradcheck import report\n"
        "    report.Report.ok = True\n    report.Report.outcome = 'right'\n"
        "    sys.modules['teachvae.course.grade']._at = grade.check = None\n"
        "    exercise.check_value = lambda *a, **k: report.Report([], 0.0)\n    return")], "not yet"),
    "loud": (["for _ in range(100_000):\n    print('x' * 100)", RIGHT], "right"),
    "exits": (["import sys\nsys.exit(1)", "exit()", "raise KeyboardInterrupt", RIGHT], "right"),
    "ends_at_once": ([RIGHT, "import os\nos._exit(0)"], "not judged"),
    "ends_by_itself": ([RIGHT, "import ctypes\nctypes.string_at(0)"], "not judged"),
    "memory": (["held = np.ones((2**31, 8))", RIGHT], "right"),
    "forks": (["import os\nos.fork()", "import subprocess, sys\nsubprocess.run([sys.executable])",
               "import os\nos.system('echo')", "import os\nos.kill(os.getppid(), 9)", RIGHT], "right"),
    "network": (["import socket\nsocket.create_connection(('127.0.0.1', 9), 1)",
                 "import urllib.request\nurllib.request.urlopen('http://localhost:9')",
                 "import _socket\n_socket.socket().connect(('127.0.0.1', 9))", RIGHT], "right"),
    "recursion": (["def f(): f()\nf()", RIGHT], "right"),
    "asks": (["input()", "import sys\nassert sys.stdin.read() == ''", RIGHT], "right"),
    "an_error_that_cannot_be_read": (
        ["class E(Exception):\n    def __str__(self): raise E\nraise E", RIGHT], "right"),
    "magics": (["%matplotlib inline\n!ls\nif True:\n    %time 3\nkept = 1", "%%bash\nls", "np.sum?",
                "assert kept\n" + RIGHT], "right"),
    "no_python": (["def (", "\0", RIGHT], "right"),
    "threads": (["import threading, time\nthreading.Thread(target=time.sleep, args=(99,)).start()", RIGHT],
                "right"),
    "an_array_that_lies": (
        ["class A(np.ndarray):\n    def __eq__(self, other): return True\n"
         "    def __array_function__(self, *a): return True\n    def __sub__(self, other): return 0 * other\n"
         + WRONG.replace('"cov": cov', '"cov": cov.view(A)')], "not yet"),
}


def test_honest_notebooks_are_judged_one_by_one(tmp_path, capsys):
    folder = tmp_path / "class"
    for student, (source, *_) in HONEST.items():
        write(folder / student / "02-factor-analysis.ipynb", SETUP, source, CHECK)
    write(folder / "untagged-02-fa (1).ipynb", SETUP, RIGHT, CHECK, tagged=False)
    write(folder / "02-no-check.ipynb", SETUP, RIGHT)
    write(folder / "another.ipynb", SETUP, RIGHT, CHECK.replace("posterior", "mine"))
    write(folder / "03-named-otherwise.ipynb", SETUP, RIGHT.replace("posterior", "mine"),
          CHECK.replace("posterior", "mine"))
    write(folder / ".ipynb_checkpoints/02-factor-analysis.ipynb", SETUP)
    status, found = graded(folder, "--seed", "5")
    assert status == 0
    for student, (_, outcome, words) in HONEST.items():
        row = found[f"{student}/02-factor-analysis.ipynb"][NAME]
        assert (row["student"], row["asks"], row["outcome"]) == (student, "posterior", outcome), row
        assert words in row["why"] and row["seed"] == "5" and float(row["seconds"]) > 0
        assert row["errors"] == str("1 / 0" in HONEST[student][0] and 1 or 0)
    more = "untagged-02-fa (1).ipynb", "02-no-check.ipynb", "another.ipynb", "03-named-otherwise.ipynb"
    for file in more:
        assert found[file][NAME]["outcome"] == "right", found[file]
        assert set(found[file]) == {name for name in EXERCISES if name.startswith("02-")}
    assert len(found) == len(HONEST) + len(more)


def test_hostile_notebooks_neither_end_the_run_nor_fool_it(tmp_path):
    folder = tmp_path / "class"
    for student, (cells, _) in HOSTILE.items():
        write(folder / f"{student}/02-x.ipynb", SETUP, *cells, CHECK)
    theirs, ours = folder / "theirs", tmp_path / "ours"
    ours.mkdir()
    (ours / "marks.csv").write_text("kept")
    write(theirs / "02-x.ipynb", SETUP, *[
        f"import os, pathlib, shutil\n{line}" for line in (
            f"open(r'{ours}/marks.csv', 'w')", f"os.remove(r'{ours}/marks.csv')", f"shutil.rmtree(r'{ours}')",
            f"os.rename(r'{ours}/marks.csv', 'x')", f"pathlib.Path(r'{ours}/more').mkdir()",
            f"os.chdir(r'{ours}')\nopen('more', 'a')", f"os.symlink('.', r'{ours}/more')",
            f"os.open(r'{ours}/more', os.O_CREAT)",
        )
    ], """import os, shutil, tempfile
os.chdir(tempfile.gettempdir())
open('mine', 'w').write('x')
os.mkdir('a')
open('a/b', 'w').close()
shutil.rmtree('a')
assert os.listdir() == ['mine']
os.remove('mine')""", RIGHT, CHECK)
    status, found = graded(folder, "--seconds", "40", "--memory", "3")
    assert status == 1
    for student, (_, outcome) in HOSTILE.items():
        row = found[f"{student}/02-x.ipynb"][NAME]
        assert row["outcome"] == outcome, (student, row)
    assert "exit status 0" in found["ends_at_once/02-x.ipynb"][NAME]["why"]
    assert "SIG" in found["ends_by_itself/02-x.ipynb"][NAME]["why"] or sys.platform == "win32"
    errors = {file: int(rows[NAME]["errors"]) for file, rows in found.items()}
    assert (errors["exits/02-x.ipynb"], errors["forks/02-x.ipynb"], errors["network/02-x.ipynb"]) == (3, 4, 3)
    assert (errors["loud/02-x.ipynb"], errors["magics/02-x.ipynb"], errors["memory/02-x.ipynb"]) == (0, 0, 1)
    assert found["theirs/02-x.ipynb"][NAME]["outcome"] == "right" and errors["theirs/02-x.ipynb"] == 8
    assert {path.name: path.read_text() for path in ours.iterdir()} == {"marks.csv": "kept"}


def test_what_never_ends_is_stopped(tmp_path):
    folder = tmp_path / "class"
    forever = "while True:\n    pass"
    write(folder / "02-cell.ipynb", SETUP, f"try:\n    {forever.replace(chr(10), chr(10) + '    ')}\n"
          "except Exception:\n    pass", RIGHT, CHECK)
    write(folder / "02-answer.ipynb", SETUP, STUB.replace("...", "while True: pass"), CHECK)
    deaf = f"import signal\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)\n{forever}"
    write(folder / "02-deaf.ipynb", SETUP, deaf, RIGHT, CHECK)
    status, found = graded(folder, "--seconds", "3")
    assert status == 1
    cell, answer, deaf = (found[f"02-{name}.ipynb"][NAME] for name in ("cell", "answer", "deaf"))
    assert (cell["outcome"], cell["errors"]) == ("right", "1")
    assert answer["outcome"] == "not yet" and "does it end?" in answer["why"]
    assert deaf["outcome"] == "not judged" and "stopped after 3 s" in deaf["why"]


def test_an_interruption_ends_what_runs(tmp_path):
    """Closing the generator is what an interruption does to it."""
    for name in "abc":
        write(tmp_path / f"02-{name}.ipynb", SETUP, RIGHT if name == "a" else "while True: pass", CHECK)
    each = submissions.each_judged(submissions.found_in(tmp_path), tmp_path, 2, seed=0, seconds=60)
    start = monotonic()
    assert next(each).verdicts[NAME][0] == "right"
    each.close()
    assert monotonic() - start < 30 and not submissions.RUNNING


def test_the_tables_and_the_notes_of_a_folder(tmp_path, capsys):
    write(tmp_path / "02-a.ipynb", SETUP, "1 / 0", WRONG, CHECK)
    (tmp_path / "02-damaged.ipynb").write_text("{")
    write(tmp_path / "=notes\x1b[2J.ipynb", SETUP)
    assert cli.main(["grade", str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert "3 notebooks" in printed.out and f"{NAME} posterior" in printed.out and "1 × " in printed.out
    assert "02-damaged.ipynb: it is damaged" in printed.out and "it holds no exercise" in printed.out
    assert "ZeroDivisionError" in printed.err and "--seed " in printed.err and "\x1b[2J" not in printed.out
    assert cli.main(["grade", str(tmp_path), "--csv", "--quiet", "--seed", "1"]) == 1
    printed = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(printed.out)))
    assert {row["outcome"] for row in rows} >= {"not yet", "not judged"}
    assert [row["student"] for row in rows if "notes" in row["file"]][0].startswith("'=notes")
    assert "not judged to its end" in printed.err
    no_folder = str(tmp_path / "no/a.csv")
    for wrong in (["no"], [str(tmp_path / "02-a.ipynb")], [str(tmp_path), "--csv", no_folder]):
        assert cli.main(["grade", *wrong]) == 2
    (tmp_path / "empty").mkdir()
    assert cli.main(["grade", str(tmp_path / "empty")]) == 2
    for option in (["--seconds", "0"], ["--memory", "nan"], ["--memory", "x"], ["--seed", "-1"]):
        with pytest.raises(SystemExit):
            cli.main(["grade", str(tmp_path), *option])


def test_a_line_that_comes_back_is_believed_only_where_it_makes_sense():
    found = submissions.Submission("a", "a.ipynb")
    for line in (b"", b"{", b"[1]", b'{"exercise": "99-9", "outcome": "right", "lines": []}', b"[" * 99_999,
                 json.dumps({"exercise": NAME, "outcome": "best", "lines": []}), b'{"exercise": ["02-1"]}',
                 json.dumps({"exercise": NAME, "outcome": "right", "lines": 3}), b'{"cell": "1"}',
                 b'{"note": 4}'):
        submissions._take(submissions._read_back(line), [NAME], found)
    assert (found.verdicts, found.errors, found.notes) == ({}, [], [])
    submissions._take({"exercise": NAME, "outcome": "right", "lines": ["a\x1b\n", 3]}, [NAME], found)
    assert found.verdicts == {NAME: ("right", ["a\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}", "3"])}


@pytest.mark.thorough
@pytest.mark.parametrize("put_in, outcome", [(True, "right"), (False, "not attempted")])
def test_the_course_itself_is_judged_as_it_should_be(put_in, outcome, tmp_path):
    """Every notebook with its solutions, and as it is handed out."""
    build, nbformat = pytest.importorskip("notebooks.build"), pytest.importorskip("nbformat")
    for name in build.names():
        if name[:2].isdigit():
            source = (build.SOURCES / f"{name}.py").read_text(encoding="utf-8")
            nbformat.write(build.generate(source, put_in=put_in), tmp_path / f"{name}.ipynb")
    found = list(submissions.each_judged(
        submissions.found_in(tmp_path), tmp_path, 2, seed=0, seconds=300, cache=str(tmp_path)
    ))
    verdicts = {name: said for each in found for name, said in each.verdicts.items()}
    assert {name: said for name, said in verdicts.items() if said[0] != outcome} == {}
    assert [(each.file, each.errors, each.stopped) for each in found if each.errors or each.stopped] == []
    assert {name for name in EXERCISES if name[:2] in {each.file[:2] for each in found}} == set(verdicts)
