"""Tests of derivations/ as a book: every number of the code has one card, and card, code, tests and notebooks
know of each other; every figure of a worked example is what the package computes; formulas come through
Markdown as they were written, and every link leads somewhere. The notation has a file of its own."""

import ast
from collections import Counter
import functools
import importlib
import io
from pathlib import Path
import re
import tokenize

from markdown_it import MarkdownIt
from matplotlib.figure import Figure
from matplotlib.mathtext import MathTextParser
import pytest

from derivations import book
from teachvae.course import equations

ROOT = Path(__file__).resolve().parents[1]
SOURCES = {
    path.relative_to(ROOT / "teachvae").as_posix(): path.read_text(encoding="utf-8")
    for path in sorted((ROOT / "teachvae").rglob("*.py"))
}                                                                  # bound.py, likelihoods/gaussian.py, …
PAGES = {p.name: p.read_text(encoding="utf-8") for p in sorted((ROOT / "derivations").glob("*.md"))}
CHAPTERS = [p.name for p in book.chapters() if p.name != "00-notation.md"]
BOOK = book.all_cards()
CARDS = [pytest.param(card, id=card.number) for card in BOOK.values()]
USES = book.uses()


# ---- numbers: cited, defined once, and both know of each other --------------------------------


@functools.cache
def prose(source):
    """The comments and docstrings of a Python source, one string."""
    lines = io.StringIO(source).readline
    texts = [t.string for t in tokenize.generate_tokens(lines) if t.type == tokenize.COMMENT]
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, documented):
            texts.append(ast.get_docstring(node) or "")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "option":
            texts += [part.value for part in node.args if isinstance(part, ast.Constant)]
    return "\n".join(str(text) for text in texts)


def citations(sources):
    """{number: names of the files that cite it}."""
    cited = {}
    for name, source in sources.items():
        for number in re.findall(rf"\(({book.NUMBER})\)", prose(source)):
            cited.setdefault(number, set()).add(name)
    return cited


@functools.cache
def words(source):
    """The identifiers of a Python source, and its strings of one word, such as the keys of dicts."""
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    names = {t.string for t in tokens if t.type == tokenize.NAME}
    return names | {t.string.strip("\"'") for t in tokens if t.type == tokenize.STRING}


CITED = citations(SOURCES)


def test_every_cited_number_has_exactly_one_card():
    assert len(CITED) > 200                                        # so many there are; none would be a fault
    assert [number for number in CITED if number not in BOOK] == []
    headings = Counter(number for page in PAGES.values() for _, number, _ in book.HEADING.findall(page))
    assert [number for number, times in headings.items() if times != 1] == []


def test_every_heading_with_a_number_is_a_card_with_its_own_anchor():
    for name, page in PAGES.items():
        numbers = re.findall(rf"^#+ \(({book.NUMBER})\)", page, flags=re.MULTILINE)
        assert numbers == [number for _, number, _ in book.HEADING.findall(page)], name
        assert [a for a, n, _ in book.HEADING.findall(page) if book.anchor(n) != f"eq-{a}"] == []


def test_numbers_run_without_gaps():
    groups = {}
    for number in BOOK:
        group, place = number.split(".")
        groups.setdefault(int(group), []).append(int(place.rstrip("abc")))
    for group, places in groups.items():
        assert sorted(places) == list(range(1, len(places) + 1)), f"group {group}: {sorted(places)}"


def test_no_citation_hides_in_a_range():
    hidden = {name: re.findall(r"\(\d+\.\d+ ?[–-] ?\d+\.\d+\)", prose(s)) for name, s in SOURCES.items()}
    assert {name: found for name, found in hidden.items() if found} == {}


@pytest.mark.parametrize("card", CARDS)
def test_a_card_names_the_files_that_cite_it_and_what_is_in_them(card):
    files = {name.removeprefix("teachvae/"): names for name, names in card.cited("In code").items()}
    cited = CITED.get(card.number, set())
    if card.number.startswith("0."):                               # an identity that others are derived with
        assert cited <= set(files)
    else:
        assert files and set(files) <= set(SOURCES) and cited <= set(files)
    missing = [(f, name) for f, names in files.items() for name in names if name not in words(SOURCES[f])]
    assert missing == []
    assert "$$\n" in card.text


@functools.cache
def defined_in(file):
    """The names of the tests, and of what else is defined, in a file of tests/."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}


@pytest.mark.parametrize("card", CARDS)
def test_a_card_names_tests_that_exist(card):
    checked = card.cited("Checked by")
    assert checked and all(checked.values()), "expected - Checked by: [`file`](../tests/file) (`test_name`)"
    assert [(f, name) for f, names in checked.items() for name in names if name not in defined_in(f)] == []


def test_every_backward_cites_its_derivation():
    bare = []
    for name, source in SOURCES.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef) and re.search(r"(^|_)backward$", node.name):
                text = ast.get_source_segment(source, node)
                computes = any(not isinstance(part, ast.Expr | ast.Raise) for part in node.body)
                if computes and not re.search(rf"\({book.NUMBER}\)", text):
                    bare.append((name, node.lineno, node.name))
    assert bare == []


def test_what_is_written_from_the_chapters_is_up_to_date():
    written = book.written(BOOK, USES)
    stale = [file.name for file, text in written.items() if file.read_text(encoding="utf-8") != text]
    assert stale == [], "run python -m derivations.book"


def test_the_package_leads_to_the_cards():
    assert set(equations.table()) == set(BOOK)
    assert equations.address("1.5") == f"../derivations/{BOOK['1.5'].anchor}"
    html = equations.linked("1.10, 3.1 & 99.9")
    assert html.count("<a href=") == 2 and html.endswith("&amp; 99.9")
    with pytest.raises(KeyError):
        equations.address("99.9")


def test_the_checks_above_can_fail():
    assert citations({"a.py": '"""See (9.9)."""\ny = f(1.5)  # (2.3), (2.10)\n'}) == {
        "9.9": {"a.py"}, "2.3": {"a.py"}, "2.10": {"a.py"}
    }
    page = (
        '# 1. A\n\n<a id="eq-1-1"></a>\n\n### (1.1) One\n\nBy (2.1), $x (2.1)$.\n\n*Why.* So.\n\n'
        '*In numbers.* 1.5.\n\n'
        "- In code: [`a.py`](../teachvae/a.py) (`f`, `g`), [`c.py`](../teachvae/b/c.py)\n"
        "- Checked by: [`t.py`](../tests/t.py) (`test_a`)\n\n"
        '## B\n\n<a id="eq-2-1"></a>\n\n### (2.1) Two\n\nText.\n'
    )
    first, second = book.cards(page, "01-a.md")
    assert (first.number, first.title, second.anchor) == ("1.1", "One", "01-a.md#eq-2-1")
    assert first.cited("In code") == {"teachvae/a.py": ["f", "g"], "teachvae/b/c.py": []}
    assert first.cited("Checked by") == {"tests/t.py": ["test_a"]}
    assert (first.paragraph(r"Why\."), first.paragraph(r"In numbers\.")) == ("So.", "1.5.")
    linked = book.linked(page, {"2.1": second})
    assert linked.count("[(2.1)](01-a.md#eq-2-1)") == 1 and "$x (2.1)$" in linked and "### (2.1)" in linked
    assert book.linked(linked, {"2.1": second}) == linked
    used = book.with_uses(page, {"1.1": ["n.ipynb"]})
    assert used.count("- In the course: [n](../notebooks/n.ipynb)\n") == 1
    assert book.with_uses(used, {}) == page
    assert "comment" not in words("x = 1  # comment") and "key" in words('x["key"]')


# ---- worked examples: every figure of the text is the code's ----------------------------------


def examples(chapter):
    """The module of tests/worked that recomputes a chapter's examples."""
    return importlib.import_module(f"worked.chapter_{chapter[:2]}")


@pytest.mark.parametrize("card", CARDS)
def test_the_figures_of_a_worked_example_are_the_codes(card):
    text, reason = card.paragraph(r"In numbers\."), card.paragraph(r"No number\.")
    assert bool(text) != bool(reason), "expected *In numbers.* and an example, or *No number.* and a reason"
    name = f"eq_{card.number.replace('.', '_')}"
    if reason:
        assert not hasattr(examples(card.chapter), name)
        return
    said, computed = book.figures(text), [float(v) for v in getattr(examples(card.chapter), name)()]
    assert said, "a worked example has figures; they are written with a decimal point"
    wrong = [
        f"figure {i}: the text says {value:g}, the code {ours:.10g}"
        for i, ((value, half), ours) in enumerate(zip(said, computed), start=1)
        if abs(value - ours) > half * (1 + 1e-6) + 1e-12
    ]
    assert wrong == [] and len(said) == len(computed)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_no_worked_example_is_left_without_its_card(chapter):
    defined = {name for name in vars(examples(chapter)) if name.startswith("eq_")}
    expected = {f"eq_{n.replace('.', '_')}" for n, card in BOOK.items() if card.chapter == chapter}
    assert defined <= expected


def test_figures_are_read_as_they_are_written():
    text = r"From $x = -0.5$, 2: $1.50 - 0.25 = 1.25$; [(1.5)](a.md#eq-1-5), `0.1` give $3.2 \cdot 10^{-3}$."
    assert [value for value, _ in book.figures(text)] == pytest.approx([-0.5, 1.5, 0.25, 1.25, 0.0032])
    assert [half for _, half in book.figures("1.50 and 2.0")] == pytest.approx([0.005, 0.05])


# ---- a chapter's parts ------------------------------------------------------------------------


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_has_an_opening_exercises_with_folded_solutions_and_sources(chapter):
    page = PAGES[chapter]
    assert page.startswith(f"# {int(chapter[:2])}. ")
    opening = page.split("\n## ")[0]
    assert len(opening.split()) > 60, "what the chapter proves, and why one would care"
    exercises = page.split("\n## Exercises\n")[1].split("\n## ")[0]
    posed = re.findall(r"^\*\*Exercise \d+\.\d+\*\*", exercises, flags=re.MULTILINE)
    assert 3 <= len(posed) <= 5
    assert exercises.count("<details>") == exercises.count("</details>") == len(posed)
    assert "\n## Sources\n" in page


@pytest.mark.parametrize("name", PAGES)
def test_every_picture_is_there_and_is_told_to_those_who_cannot_see_it(name):
    for alt, file in re.findall(r"!\[([^\]]*)\]\(([^)]*)\)", PAGES[name]):
        assert len(alt.split()) >= 5, f"{file}: expected what the picture shows, in words"
        assert (ROOT / "derivations" / file).is_file()


def test_every_picture_is_shown():
    shown = {file for page in PAGES.values() for file in re.findall(r"!\[[^\]]*\]\(figures/([^)]*)\)", page)}
    assert shown == {file.name for file in (ROOT / "derivations/figures").glob("*.svg")}


@pytest.mark.thorough
@pytest.mark.parametrize("chapter", [chapter[:2] for chapter in CHAPTERS])
def test_every_picture_is_drawn_by_its_script(chapter):
    script = importlib.import_module(f"derivations.figures.draw_{chapter}")
    drawn = {name: draw for name, draw in vars(script).items() if name.startswith("draw_")}
    files = {f"{chapter}-{name.removeprefix('draw_').replace('_', '-')}.svg" for name in drawn}
    assert files == {file.name for file in (ROOT / "derivations/figures").glob(f"{chapter}-*.svg")}
    for draw in drawn.values():
        assert isinstance(draw(), Figure)


@pytest.mark.parametrize("name", PAGES)
def test_every_link_leads_somewhere(name):
    for target in re.findall(r"\]\(([^)\s]+)\)", PAGES[name]):
        if target.startswith("https://"):
            continue
        file, _, place = target.partition("#")
        path = (ROOT / "derivations" / file).resolve() if file else ROOT / "derivations" / name
        assert path.exists(), target
        if place:
            text = path.read_text(encoding="utf-8")
            headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert f'<a id="{place}"></a>' in text or place in slugs, target


# ---- well-formed mathematics, in a dialect that every reader renders --------------------------


def formulas(page):
    """All formulas of a page, displayed and inline."""
    page = re.sub(r"```.*?^```|`[^`\n]*`", "", page, flags=re.DOTALL | re.MULTILINE)
    return [block or inline for block, inline in book.FORMULA.findall(page)]


FOR_MATHTEXT = {
    r"\thinspace": r"\,", r"\enspace": r"\;", r"\lbrace": r"\{", r"\rbrace": r"\}", r"\lt": "<", r"\gt": ">"
}


def faults(formula):
    """What is wrong with a formula, in words; an empty list where nothing is."""
    found = [command for command in (r"\operatorname", r"\tag", r"\label", r"\Big") if command in formula]
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", formula):
        depth += 1 if brace == "{" else -1
        if depth < 0:
            break
    if depth:
        found.append("braces")
    if Counter(re.findall(r"\\begin\{(\w+)\}", formula)) != Counter(re.findall(r"\\end\{(\w+)\}", formula)):
        found.append("environments")
    plain = re.sub(r"\\(begin|end)\{aligned\}", "", formula)
    for command, known in FOR_MATHTEXT.items():
        plain = re.sub(re.escape(command) + r"(?![a-zA-Z])", lambda _: known, plain)
    for line in re.split(r"\\cr(?![a-zA-Z])", plain):
        try:
            MathTextParser("path").parse(f"${' '.join(line.replace('&', ' ').split())}$")
        except ValueError as error:
            found.append(f"{line.strip()}: {str(error).splitlines()[-1]}")
    return found


@pytest.mark.thorough
@pytest.mark.parametrize("name", PAGES)
def test_mathematics_is_well_formed(name):
    assert {f: found for f in set(formulas(PAGES[name])) if (found := faults(f))} == {}


@pytest.mark.parametrize(
    "formula", [r"\frac{1}{2", r"a}{b", r"\operatorname{tr} A", r"a \tag{1}", r"\fraq{1}{2}", r"\left( a",
                r"\begin{aligned} a"],
)
def test_malformed_mathematics_is_found(formula):
    assert faults(formula)


def text_of(page):
    """What Markdown makes of a page before anything reads its mathematics: the text of all paragraphs, cells
    and headings, with \x00 where emphasis, a link or a tag stood.
    """
    parts = []
    for block in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(page):
        for token in block.children or []:
            literal = {"text": token.content, "softbreak": "\n", "code_inline": f"\x00{token.content}\x00"}
            parts.append(literal.get(token.type, "\x00"))
        parts.append("\x00\n")
    return "".join(parts)


def eaten(page):
    """The formulas of a page that Markdown does not hand on as they were written: with an underscore or
    asterisk that begins emphasis, an escaped character (\\, and \\\\ lose a backslash), a line that reads as
    a list.
    """
    text = " ".join(text_of(page).split())
    return [f for f in formulas(page) if " ".join(f.split()) not in text]


@pytest.mark.parametrize("name", PAGES)
def test_markdown_hands_every_formula_on_as_it_was_written(name):
    assert eaten(PAGES[name]) == []


@pytest.mark.parametrize("name", PAGES)
def test_dollars_stand_where_every_reader_sees_a_formula(name):
    page = re.sub(r"```.*?^```|`[^`\n]*`", "", PAGES[name], flags=re.DOTALL | re.MULTILINE)
    page = re.sub(r"^\$\$\n.*?^\$\$$", "", page, flags=re.DOTALL | re.MULTILINE)
    for inline in re.finditer(r"\$([^$]+)\$", page):
        before, after = page[inline.start() - 1], page[inline.end():inline.end() + 1]
        around = page[inline.start() - 30:inline.end() + 10]
        assert before in " \n([|—–" and not (after.isalnum() or after in ("-", "_")), around
        assert inline[1] == inline[1].strip(), inline[0]
    assert "$" not in re.sub(r"\$[^$]+\$", "", page)


@pytest.mark.parametrize(
    "page", [r"$\mathbb{E}_q[f] + x_{n}$", r"$a \, b$", "$$\na \\\\\nb\n$$", "$$\na\n- b\n$$", "$a*b*c$"]
)
def test_formulas_that_markdown_would_eat_are_found(page):
    assert eaten(page)
