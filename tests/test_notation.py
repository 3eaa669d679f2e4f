"""Tests of derivations/00-notation.md: its tables name what is in the code, and every letter and operator of
every formula of the chapters stands in one of its formulas."""

import re

import pytest
from test_book import CHAPTERS, PAGES, SOURCES, formulas, words

NOTATION = PAGES["00-notation.md"]

# ---- the tables: names that are in the code ---------------------------------------------------


def table_rows(page):
    """The cells of every row of the tables `on paper | in code | shape | file`."""
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in page.splitlines() if line.startswith("|")
    ]
    return [row for row in cells if len(row) == 4 and row[0] != "on paper" and not set(row[0]) <= set("-")]


TABLES = NOTATION.split("## The table")[1].split("\n## ")[0]
ROWS = table_rows(TABLES)


def test_every_line_of_the_notation_table_has_four_cells():
    assert all(line.count("|") == 5 for line in TABLES.splitlines() if line.startswith("|"))
    assert len(ROWS) > 50


@pytest.mark.parametrize("row", ROWS, ids=[row[1] for row in ROWS])
def test_every_name_of_the_notation_table_exists(row):
    _, names, shape, files = row
    names, files = re.findall(r"`(\w+)`", names), re.findall(r"`([\w/]+\.py)`", files)
    assert names and files and shape
    assert [f for f in files if f not in SOURCES] == []
    assert [(f, name) for f in files for name in names if name not in words(SOURCES[f])] == []


# ---- the letters: every symbol of a formula is explained --------------------------------------

KNOWN = set(
    "frac sqrt binom left right lbrace rbrace vert Vert quad qquad thinspace enspace cr begin end text "
    "mid dots ldots cdots vdots cdot times leq geq lt gt neq approx equiv sim propto in ni notin subset "
    "cup cap to mapsto leftarrow rightarrow Rightarrow Longleftrightarrow iff pm mp infty circ forall "
    "exists top not langle rangle lfloor rfloor sum prod int max min sup inf lim exp log sin cos tan "
    "arcsin arccos arctan sinh cosh tanh coth".split()
)                                                                  # what every reader of formulas knows
ACCENTS = ("tilde", "hat", "bar", "overline", "check", "dot", "vec")
STYLED = re.compile(r"\\(mathrm|mathcal|mathbb|mathbf|text)\{([^{}]*)\}")


def symbols(formula):
    """What must be explained of a formula: letters, Greek and other commands, script letters, upright words
    of less than five letters (longer ones are English), and letters with an accent as one symbol.
    """
    styled = ((style, word) for style, word in STYLED.findall(formula) if style != "text" and len(word) < 5)
    found = {f"\\{style}{{{word}}}" for style, word in styled}
    rest = re.sub(r"\\(begin|end)\{\w+\}", " ", STYLED.sub(" ", formula))
    accented = rf"\\({'|'.join(ACCENTS)})(?![a-zA-Z])\s*\{{?\s*(\\[a-zA-Z]+|[a-zA-Z])"
    found |= {f"\\{accent}{{{letter}}}" for accent, letter in re.findall(accented, rest)}
    rest = re.sub(accented, " ", rest)
    found |= {f"\\{command}" for command in re.findall(r"\\([a-zA-Z]+)", rest) if command not in KNOWN}
    return found | set(re.findall(r"[a-zA-Z]", re.sub(r"\\[a-zA-Z]+", " ", rest)))


def unexplained(page, notation):
    """{symbol: a formula of the page that has it} of symbols that no formula of the notation has."""
    known = set().union(*map(symbols, formulas(notation)))
    return {symbol: formula for formula in formulas(page) for symbol in sorted(symbols(formula) - known)}


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_symbol_of_a_chapter_is_in_the_notation(chapter):
    assert unexplained(PAGES[chapter], NOTATION) == {}


def letters_of_chapters(notation):
    """{number: text} of the table that says what single chapters name for their own proofs."""
    table = notation.split("## Letters of single chapters")[1]
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", table, flags=re.MULTILINE)
    return {int(number): text for number, text in rows}


@pytest.mark.parametrize("number, text", letters_of_chapters(NOTATION).items())
def test_what_the_notation_says_of_a_chapter_is_of_this_chapter(number, text):
    (chapter,) = [name for name in CHAPTERS if int(name[:2]) == number]
    there = set().union(*map(symbols, formulas(PAGES[chapter])))
    assert set().union(*map(symbols, formulas(text))) <= there


def test_a_symbol_that_is_not_explained_is_found():
    formula = r"\tilde{z}_ n^\top W \leq \frac{1}{2} \mathrm{tr}(\Sigma) + \mathbb{E}_ q[\log x']"
    assert symbols(formula) == {
        r"\tilde{z}", "n", "W", r"\mathrm{tr}", r"\Sigma", r"\mathbb{E}", "q", "x"
    }
    notation = r"The code is $z$, $n$ an index, $\tilde{x}$ a noisy $x$ and $\mathrm{tr}$ the trace."
    page = "Let\n\n$$\n\\tilde{x}_ n = z W\n$$\n\nand $\\mathrm{tr}(\\tilde{z}) = \\omega$, `code_Y`."
    assert set(unexplained(page, notation)) == {"W", r"\tilde{z}", r"\omega"}
    assert unexplained(page, notation + r" $W$, $\tilde{z}$, $\omega$") == {}
