"""Tests of the notebooks: what is committed is what their sources make, cell by cell; hints and solutions are
folded, and an unsolved notebook runs to its end; words and formulas keep to the rules of the book; each
notebook survives other settings."""

import importlib
from pathlib import Path
import re

import nbformat
import pytest
import test_book

from derivations import book
from notebooks import build, lecture
import teachvae

FOLDER = Path(build.__file__).parent
NAMES = build.names()
SOURCES = build.sources()
COMMITTED = {name: nbformat.read(FOLDER / f"{name}.ipynb", 4) for name in NAMES}
WORDS = [
    pytest.param(cell.source, id=f"{name}-{place}")
    for name in NAMES for place, cell in enumerate(build.generate(SOURCES[name]).cells)
    if cell.cell_type == "markdown"
]

SAMPLE = '''\
# %% [markdown]
# # A sample
#
# The KL is in (1.4), and $q_n$ of it.

# %%
K = 3            # latent variables
hidden = (4, 2)

# %%
import numpy as np

# %% [markdown]
# **Exercise 1.** The KL of N(m, s²) to N(0, 1).

# %% tags=["exercise"]
def kl(m, log_s):
    ...

# %% tags=["check"]
found = kl(np.ones(K), np.zeros(K))
print("not attempted" if found is None else "right" if np.allclose(found, 0.5) else "not yet")

# %% [markdown] tags=["hint"]
# Begin with (1.4).

# %% [markdown] tags=["hint"]
# There are three terms.

# %% [markdown] tags=["solution"]
# The logarithm of $s$ is given.

# %% tags=["solution"]
def kl(m, log_s):
    return 0.5 * (m**2 + np.exp(2 * log_s) - 1) - log_s

# %% [markdown]
# ## To try
#
# What is it at $m = 0$?

# %% summary="It is zero" tags=["solution"]
print("at zero:", kl(0.0, 0.0))

# %% [markdown]
# The end.
'''


# ---- committed equals generated ---------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_committed_notebook_is_what_its_source_makes(name):
    made, committed = build.generate(SOURCES[name]), COMMITTED[name]
    differ = [
        place for place, (ours, theirs) in enumerate(zip(made.cells, committed.cells))
        if any(ours[part] != theirs[part] for part in ("cell_type", "id", "source", "metadata"))
    ]
    assert differ == [] and len(made.cells) == len(committed.cells), f"run python notebooks/build.py {name}"
    assert (committed.metadata, committed.nbformat_minor) == (made.metadata, made.nbformat_minor)


def test_every_notebook_has_a_source():
    assert sorted(file.stem for file in FOLDER.glob("*.ipynb")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_committed_notebook_was_executed_from_its_top_to_its_end(name):
    code = [cell for cell in COMMITTED[name].cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert {output.get("name", "stdout") for output in outputs} == {"stdout"}, "a warning was shown"
    assert any("image/png" in output.get("data", {}) for output in outputs)
    shown = [output.data for output in outputs if "data" in output]
    figures = [data for data in shown if "Figure" in data.get("text/plain", "")]
    assert all("image/png" in data for data in figures)
    nbformat.validate(COMMITTED[name])


# ---- what the build makes of a source ---------------------------------------------------------


def texts(notebook, kind):
    """The sources of the cells of one kind."""
    return [cell.source for cell in notebook.cells if cell.cell_type == kind]


def test_hints_and_solutions_are_folded_into_one_cell():
    notebook = build.generate(SAMPLE)
    tags = [cell.metadata.get("tags") for cell in notebook.cells if cell.metadata]
    assert tags == [["exercise"], ["check"]]
    *_, folded, to_try, other, _ = texts(notebook, "markdown")
    summaries = re.findall(r"<details><summary>(.*?)</summary>\n\n", folded)
    assert summaries == ["Hint 1", "Hint 2", "A solution"] and folded.count("\n\n</details>") == 3
    assert "given.\n\n```python\ndef kl(m, log_s):\n    return" in folded
    assert "## To try" in to_try and other.startswith("<details><summary>It is zero</summary>\n\n```python\n")
    assert not any("return" in text for text in texts(notebook, "code"))


def test_a_solution_takes_the_place_of_its_stub():
    code = texts(build.generate(SAMPLE, put_in=True), "code")
    assert [text.split("\n")[0] for text in code] == [
        "K = 3            # latent variables", "import numpy as np", "def kl(m, log_s):",
        "found = kl(np.ones(K), np.zeros(K))", 'print("at zero:", kl(0.0, 0.0))',
    ]
    assert "return" in code[2] and "..." not in code[2]


def test_numbers_of_equations_become_links_outside_of_code():
    first = texts(build.generate(SAMPLE), "markdown")[0]
    assert f"[(1.4)](../derivations/{book.all_cards()['1.4'].anchor})" in first


def test_ids_follow_the_text_and_not_the_place():
    before = {cell.source: cell.id for cell in build.generate(SAMPLE).cells}
    more = SAMPLE.replace("# %%\nK = 3", "# %% [markdown]\n# New.\n\n# %%\nK = 3")
    more = more.replace("The end.", "No end.")
    after = {cell.source: cell.id for cell in build.generate(more).cells}
    assert {text for text in before if after.get(text) != before[text]} == {"The end."}
    twins = build.generate("# %%\nx = 1\n\n# %%\nx = 1\n")
    assert len({cell.id for cell in twins.cells}) == 2


def test_settings_are_written_into_the_first_code_cell():
    notebook = build.generate(SAMPLE, given={"K": "5", "hidden": "(16,)"})
    assert texts(notebook, "code")[0] == "K = 5            # latent variables\nhidden = (16,)"
    with pytest.raises(ValueError, match="no setting k: choose from K, hidden"):
        build.generate(SAMPLE, given={"k": "5"})
    with pytest.raises(ValueError, match="K must be a number, text or tuple, got open"):
        build.generate(SAMPLE, given={"K": "open('x')"})


@pytest.mark.parametrize("marks", [
    'tags=["exercice"]', '[markdown] tags=["exercise"]', 'tags=["hint"]', 'tags=["check", "solution"]',
])
def test_a_tag_that_means_nothing_is_refused(marks):
    with pytest.raises(ValueError, match=r"cell 0, \w+, has the tags \[.*expected one, of exercise \(code\)"):
        build.generate(f"# %% {marks}\n# x\n")


def test_outputs_are_kept_where_the_code_is_the_same():
    executed, words = build.generate(SAMPLE), build.generate(SAMPLE.replace("The end.", "No end."))
    executed.cells[1].outputs = [nbformat.v4.new_output("stream", text="kept")]
    build.keep_outputs(words, executed)
    assert words.cells[1].outputs[0].text == "kept"
    with pytest.raises(ValueError, match="build it without --text"):
        build.keep_outputs(build.generate(SAMPLE, given={"K": "4"}), executed)


def test_pieces_of_a_stream_are_put_together():
    pieces = [nbformat.v4.new_output("stream", name=name, text=text) for name, text in
              [("stdout", "a"), ("stdout", "b"), ("stderr", "c"), ("stdout", "d")]]
    assert [(piece.name, piece.text) for piece in build.joined(pieces)] == [
        ("stdout", "ab"), ("stderr", "c"), ("stdout", "d")
    ]


def test_the_folder_of_the_notebooks_is_kept_from_other_settings(capsys):
    for wrong in (["--solved"], ["--settings", "K=3"], ["--settings", "K"], ["nowhere"]):
        with pytest.raises(SystemExit):
            build.main(wrong)
    assert "no source of nowhere: choose from" in capsys.readouterr().err


@pytest.mark.thorough
@pytest.mark.parametrize(("put_in", "said"), [(False, "not attempted"), (True, "right")])
def test_a_notebook_runs_to_its_end_solved_or_not(put_in, said):
    pytest.importorskip("nbclient", reason="needs the extra notebooks")
    notebook = build.generate(SAMPLE, put_in=put_in)
    build.execute(notebook)
    check = next(cell for cell in notebook.cells if cell.metadata.get("tags") == ["check"])
    assert [output.text for output in check.outputs] == [f"{said}\n"]


@pytest.mark.thorough
@pytest.mark.parametrize("name", NAMES)
def test_a_solved_notebook_runs_to_its_end_and_every_check_says_right(name):
    pytest.importorskip("nbclient", reason="needs the extra notebooks")
    notebook = build.generate(SOURCES[name], put_in=True)
    build.execute(notebook)
    checks = [cell for cell in notebook.cells if cell.metadata.get("tags") == ["check"]]
    said = [output["data"]["text/plain"].split("\n")[0] for cell in checks for output in cell.outputs]
    assert len(said) == len(checks) and all(line.endswith(": right") for line in said), said


@pytest.mark.thorough
def test_a_warning_ends_a_build_and_no_trial_of_other_settings():
    client = pytest.importorskip("nbclient", reason="needs the extra notebooks")
    source = "# %%\nimport warnings\nwarnings.warn('late')\n"
    with pytest.raises(client.exceptions.CellExecutionError, match="UserWarning"):
        build.execute(build.generate(source))
    build.execute(build.generate(source), strict=False)


# ---- words and formulas, for GitHub, JupyterLab and the site ----------------------------------


@pytest.mark.parametrize("words", WORDS)
def test_words_are_read_alike_by_every_reader(words, monkeypatch):
    monkeypatch.setitem(test_book.PAGES, "a cell", words)          # the rules are those of the book's pages
    test_book.test_markdown_hands_every_formula_on_as_it_was_written("a cell")
    test_book.test_dollars_stand_where_every_reader_sees_a_formula("a cell")


@pytest.mark.parametrize("words", WORDS)
def test_no_broken_line_begins_a_list_by_accident(words):
    lines = words.split("\n")
    begun = [
        after for before, after in zip(lines, lines[1:])
        if re.match(r"(\d+\.|[-+*]) ", after) and before and not re.match(r" |(\d+\.|[-+*]) ", before)
    ]
    assert begun == []


@pytest.mark.parametrize("words", WORDS)
def test_formulas_are_well_formed(words):
    assert {f: found for f in test_book.formulas(words) if (found := test_book.faults(f))} == {}


@pytest.mark.parametrize("words", WORDS)
def test_every_number_of_an_equation_is_a_link_and_every_link_leads_somewhere(words):
    outside = re.sub(r"```.*?^```|`[^`\n]*`|\$[^$]+\$|\[[^\]]*\]\([^)]*\)|^#.*$", "", words,
                     flags=re.DOTALL | re.MULTILINE)
    assert re.findall(rf"\({book.NUMBER}\)", outside) == []         # no card has it
    for target in re.findall(r"\]\(([^)\s]+)\)", words):
        file, _, place = target.partition("#")
        assert (FOLDER / file).resolve().is_file(), target
        if place:
            page = (FOLDER / file).read_text(encoding="utf-8").replace('\\"', '"')
            assert f'<a id="{place}"></a>' in page


# ---- the map of the lecture -------------------------------------------------------------------


def test_every_step_of_the_lecture_is_stepped_through_exactly_once():
    found = lecture.places(SOURCES)
    assert {name: where for name, where in found.items() if len(where) > 1} == {}
    assert set(found) == set(lecture.STEPS)
    assert sum(text.count('<a id="lecture-') for text in SOURCES.values()) == len(lecture.STEPS)


def test_every_step_has_an_equation_and_a_function():
    cards = book.all_cards()
    for step in lecture.STEPS.values():
        assert step.equation in cards, step
        found = teachvae
        for part in step.function.split("."):
            inside = not hasattr(found, part)
            found = importlib.import_module(f"{found.__name__}.{part}") if inside else getattr(found, part)


def test_the_map_stands_in_the_first_notebook():
    page = "\n".join(texts(COMMITTED[NAMES[0]], "markdown"))
    for step in lecture.STEPS.values():
        assert page.count(f"#lecture-{step.name})") == 1 and f"`{step.function}`" in page


# ---- other settings ---------------------------------------------------------------------------

OTHERS = {
    "00-start-here": [{"K": "1", "hidden": "(16,)"}, {"K": "3", "cases": "60", "S": "1", "seed": "1"}],
    "01-autoencoders-and-factor-analysis": [
        {"few": "1", "many": "3", "hidden": "(16,)"}, {"cases": "60", "hidden": "()", "seed": "1"},
    ],
    "02-factor-analysis-by-em": [{"K": "1", "cases": "60"}, {"K": "3", "n_latent": "1", "seed": "1"}],
    "03-non-linear-factor-analysis": [
        {"K": "1", "hidden": "()", "cases": "60"},
        {"K": "3", "hidden": "(8, 8)", "seed": "1", "dimensions": "(1, 3)"},
    ],
    "04-jensen-and-the-bound": [
        {"K": "1", "hidden": "(16,)", "cases": "60"},
        {"K": "4", "hidden": "(8, 8)", "seed": "1", "components": "2", "S": "1"},
    ],
    "05-variational-em": [{"K": "1", "hidden": "()", "seed": "1"}, {"K": "3", "cases": "60", "angle": "30"}],
    "06-through-the-sampling": [
        {"K": "1", "hidden": "()", "seed": "1"}, {"K": "3", "hidden": "(32,)", "cases": "60"},
    ],
    "07-amortisation-and-the-vae": [
        {"K": "3", "hidden": "(16,)"}, {"K": "1", "hidden": "()", "cases": "60", "few": "10", "seed": "1"},
    ],
    "08-the-ledger": [
        {"K": "3", "cases": "60", "few": "6"}, {"K": "1", "hidden": "()", "cases": "60", "seed": "1"},
    ],
    "09-other-variables-and-missing-data": [
        {"K": "3", "hidden": "()", "cases": "60", "n_holes": "300", "K_holes": "1"},
        {"K": "1", "hidden": "(16,)", "seed": "1"},
    ],
    "10-backpropagation-by-hand": [
        {"K": "1", "hidden": "()", "cases": "60"}, {"K": "3", "S": "1", "epochs": "60", "seed": "1"},
    ],
    "11-one-core-two-machines": [
        {"K": "3", "hidden": "()", "cases": "60"}, {"K": "1", "S": "4", "n_jobs": "1", "seed": "1"},
    ],
    "12-beyond-the-lecture": [
        {"K": "3", "n_new": "3", "cases": "60", "S": "1"},
        {"K": "1", "hidden": "()", "J": "1", "n_points": "60", "seed": "1"},
    ],
}


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("name", "given"), [(name, given) for name in NAMES for given in OTHERS[name]],
    ids=lambda value: " ".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else value,
)
def test_a_notebook_survives_other_settings(name, given):
    pytest.importorskip("nbclient", reason="needs the extra notebooks")
    build.execute(build.generate(SOURCES[name], given=given), strict=False)
