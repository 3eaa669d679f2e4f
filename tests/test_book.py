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
import sys
import tokenize
from types import FunctionType, ModuleType
import unicodedata
from urllib.parse import unquote

from markdown_it import MarkdownIt
from matplotlib.figure import Figure
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
CITED_AS = rf"\(({book.NUMBER})\)"


# ---- numbers: cited, defined once, and both know of each other --------------------------------


@functools.cache
def prose(source):
    """[(line, text)] of the comments and strings of a Python source: of docstrings, messages, options."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = [(t.start[0], t.string) for t in tokens if t.type == tokenize.COMMENT]
    constants = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
    return comments + [(node.lineno, node.value) for node in constants if isinstance(node.value, str)]


@functools.cache
def cited_in(source):
    """[(number, line)] of the equations that a Python source cites."""
    return [(number, line) for line, text in prose(source) for number in re.findall(CITED_AS, text)]


def citations(sources):
    """{number: names of the files that cite it}."""
    cited = {}
    for name, source in sources.items():
        for number, _ in cited_in(source):
            cited.setdefault(number, set()).add(name)
    return cited


@functools.cache
def definitions(source):
    """The functions and classes of a Python source."""
    return [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef | ast.ClassDef)]


def around(source, line):
    """The names of the functions and classes that a line stands in."""
    return {node.name for node in definitions(source) if node.lineno <= line <= node.end_lineno}


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


HIDDEN = re.compile(
    rf"\({book.NUMBER}\s*(?:[–—,;-]|to|and|or)\s*{book.NUMBER}[^()]*\)"
    rf"|\b[Ee]q(?:uation)?s?\.?\s+{book.NUMBER}"
)


def test_no_citation_hides_in_a_range_or_without_parentheses():
    found = [(name, text) for name, s in SOURCES.items() for _, text in prose(s) if HIDDEN.search(text)]
    assert found == []
    assert all(map(HIDDEN.search, ["(1.5–1.7)", "(1.5, 1.6)", "(1.5 and\n1.6)", "equation 1.5", "eq. 1.5"]))


def test_who_cites_a_number_outside_of_the_package_cites_one_that_there_is():
    assert [(number, files) for number, files in USES.items() if number not in BOOK] == []
    tests = {p.name: p.read_text(encoding="utf-8") for p in (ROOT / "tests").rglob("*.py")}
    assert {n: files for n, files in citations(tests).items() if n not in BOOK} == {}


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
    elsewhere = [
        (name, line) for name in cited if (named := set(files.get(name, ())))
        for number, line in cited_in(SOURCES[name])
        if number == card.number and (places := around(SOURCES[name], line)) and not places & named
    ]
    assert elsewhere == [], "the card names what in these files cites it"


@functools.cache
def defined_in(file):
    """The names of the tests, and of what else is defined, in a file of tests/."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}


BY_TABLES = {"tests/test_gradients.py", "tests/test_components.py"}  # they run all that a table lists


@pytest.mark.parametrize("card", CARDS)
def test_a_card_names_tests_that_exist_and_know_of_its_code(card):
    checked = card.cited("Checked by")
    assert checked and all(checked.values()), "expected - Checked by: [`file`](../tests/file) (`test_name`)"
    assert [(f, name) for f, names in checked.items() for name in names if name not in defined_in(f)] == []
    code = card.cited("In code")
    known = {Path(f).stem for f in code} | {name for names in code.values() for name in names}
    for file in checked.keys() - BY_TABLES if known else ():
        text = (ROOT / file).read_text(encoding="utf-8")
        assert known & words(text) or f"_{card.number.replace('.', '_')}_" in text, f"{file}: none of {known}"


GRADIENT = r"(^|_)backward$|^(?!by_).+_gradient$"


def test_every_backward_cites_its_derivation():
    bare = []
    for name, source in SOURCES.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef) and re.search(GRADIENT, node.name):
                computes = any(not isinstance(part, ast.Expr | ast.Raise) for part in node.body)
                lines = range(node.lineno, node.end_lineno + 1)
                if computes and not any(n in BOOK and line in lines for n, line in cited_in(source)):
                    bare.append((name, node.lineno, node.name))
    assert bare == []


def test_what_is_written_from_the_chapters_is_up_to_date():
    written = book.written(BOOK, USES)
    stale = [file.name for file, text in written.items() if file.read_bytes().decode() != text]
    assert stale == [], "run python -m derivations.book"


def test_the_package_leads_to_the_cards():
    assert set(equations.table()) == set(BOOK)
    assert equations.address("1.5") == f"../derivations/{BOOK['1.5'].anchor}"
    html = equations.linked("1.10, 3.1 & 99.9")
    assert html.count("<a href=") == 2 and html.endswith("&amp; 99.9")
    with pytest.raises(KeyError):
        equations.address("99.9")


def test_the_checks_above_can_fail():
    source = '"""See (9.9)."""\ndef f():\n    y = f(1.5)  # (2.3), (2.10)\n    return f"{y} by (3.1)"\n'
    assert citations({"a.py": source}) == {n: {"a.py"} for n in ("9.9", "2.3", "2.10", "3.1")}
    assert [around(source, line) for _, line in cited_in(source) if line != 1] == 3 * [{"f"}]
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


def watched(call):
    """(what a call gives, the files of the package whose functions ran meanwhile)."""
    files, before = set(), sys.getprofile()

    def note(frame, event, _):
        if frame.f_code.co_name != "<module>":                     # an import computes nothing
            files.add(frame.f_code.co_filename)

    sys.setprofile(note)
    try:
        result = call()
    finally:
        sys.setprofile(before)
    package = ROOT / "teachvae"
    return result, {Path(f).relative_to(package).as_posix() for f in files if Path(f).is_relative_to(package)}


@functools.cache
def examples(chapter):
    """(the module of tests/worked that recomputes a chapter's examples, the files its globals ran)."""
    name = f"worked.chapter_{chapter[:2]}"
    for file in {file for card in BOOK.values() for file in card.cited("In code")}:
        importlib.import_module(file.removesuffix(".py").replace("/", "."))  # what an import runs is not it
    sys.modules.pop(name, None)
    return watched(lambda: importlib.import_module(name))


@pytest.mark.parametrize("card", CARDS)
def test_the_figures_of_a_worked_example_are_the_codes(card):
    text, reason = card.paragraph(r"In numbers\."), card.paragraph(r"No number\.")
    assert bool(text) != bool(reason), "expected *In numbers.* and an example, or *No number.* and a reason"
    name = f"eq_{card.number.replace('.', '_')}"
    module, files_of_globals = examples(card.chapter)
    if reason:
        assert not hasattr(module, name) and len(reason.split()) >= 5
        return
    for kept in vars(module).values():                             # by an example before this one
        getattr(kept, "cache_clear", lambda: None)()
    function = getattr(module, name)
    computed, files = watched(lambda: [float(v) for v in function()])
    used = [vars(module).get(n) for n in function.__code__.co_names]
    if any(not isinstance(value, FunctionType | ModuleType | type | None) for value in used):
        files |= files_of_globals                                  # of a global that was computed before
    named = {file.removeprefix("teachvae/") for file in card.cited("In code")}
    assert files & named, f"the example computes by {sorted(files)}, the card names {sorted(named)}"
    said = book.figures(text)
    assert said, "a worked example has figures; they are written with a decimal point"
    wrong = [
        f"figure {i}: the text says {value:g}, the code {ours:.10g}"
        for i, ((value, half), ours) in enumerate(zip(said, computed), start=1)
        if abs(value - ours) > half * (1 + 1e-6) + 1e-12
    ]
    assert wrong == [] and len(said) == len(computed)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_worked_example_has_its_card_and_types_no_result(chapter):
    tree = ast.parse((ROOT / f"tests/worked/chapter_{chapter[:2]}.py").read_text(encoding="utf-8"))
    functions = [f for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) and f.name.startswith("eq_")]
    expected = {f"eq_{n.replace('.', '_')}" for n, card in BOOK.items() if card.chapter == chapter}
    assert Counter(f.name for f in functions) == Counter({f.name for f in functions} & expected)
    typed = [
        (f.name, node.value) for f in functions for node in ast.walk(f)
        if isinstance(node, ast.Constant) and isinstance(node.value, float) and digits(node.value) > 3
        and not node.value.is_integer()
    ]
    assert typed == [], "an input has few digits; a result is computed"


def digits(number):
    """How many digits of a number count: 2 of 0.25 and of 1200.0."""
    return len(repr(number).split("e")[0].replace(".", "").strip("0"))


def test_figures_are_read_as_they_are_written():
    text = r"From $x = -0.5$, 2: $1.50 - 0.25 = 1.25$; [(1.5)](a.md#eq-1-5), `0.1` give $3.2 \cdot 10^{-3}$."
    assert [value for value, _ in book.figures(text)] == pytest.approx([-0.5, 1.5, 0.25, 1.25, 0.0032])
    assert [half for _, half in book.figures("1.50 and 2.0")] == pytest.approx([0.005, 0.05])


# ---- a chapter's parts ------------------------------------------------------------------------


def test_every_page_is_a_chapter_the_notation_or_the_index():
    assert sorted(PAGES) == sorted(["00-notation.md", *CHAPTERS, "equations.md"])
    assert [int(chapter[:2]) for chapter in CHAPTERS] == [n + 1 for n in range(len(CHAPTERS))]


PARTS = [r"\$\$", r"\*Why\.\*", r"\*(?:In numbers|No number)\.\*", "- In code:", "- Checked by:"]


@pytest.mark.parametrize("card", CARDS)
def test_a_card_has_its_parts_each_once_and_in_order(card):
    starts = [[m.start() for m in re.finditer(rf"^{part}", card.text, re.MULTILINE)] for part in PARTS]
    if card.number.startswith("0.") and not starts[3]:             # an identity that no line computes
        del starts[3]
    assert all(starts) and [len(part) for part in starts[1:]] == [1] * (len(starts) - 1)
    assert [part[0] for part in starts] == sorted(part[0] for part in starts)
    begun = re.findall(r"^\*[A-Z][\w ]+\.\*", card.text, re.MULTILINE)
    assert len(begun) == 2, "a paragraph that begins so would end the one that has the figures"
    assert len(card.paragraph(r"Why\.").split()) >= 8
    assert not re.search(r"`[^`\n]*(?<![\w.])\d+\.\d+(?![\w.])[^`\n]*`", card.paragraph(r"In numbers\."))
    assert "|" not in card.title


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_plain_text(name):
    page = (ROOT / "derivations" / name).read_bytes().decode()
    odd = {c for c in set(page) - set(" \n") if unicodedata.category(c)[0] in "CZ"}
    assert odd == set(), "no carriage returns, tabs, hard or invisible spaces"
    assert page.endswith("\n")


@functools.cache
def blocks(page):
    """The blocks of a page, as Markdown reads it."""
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(page)


def headings(page):
    """The headings of a page that a reader sees: those in a fence or a comment are none."""
    tokens = blocks(page)
    return [after.content for token, after in zip(tokens, tokens[1:]) if token.type == "heading_open"]


@pytest.mark.parametrize("name", PAGES)
def test_every_card_is_seen_and_its_anchor_is_its_own(name):
    page = PAGES[name]
    found = book.HEADING.findall(page)
    assert [h for h in headings(page) if re.match(CITED_AS, h)] == [f"({n}) {title}" for _, n, title in found]
    anchors = re.findall(r"""\b(?:id|name) *= *["']?([\w-]+)""", page)
    assert [a for a, times in Counter(anchors).items() if times > 1] == []
    assert [a for a in anchors if a.startswith("eq-")] == [f"eq-{a}" for a, _, _ in found]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_has_an_opening_exercises_with_folded_solutions_and_sources(chapter):
    page = PAGES[chapter]
    assert page.startswith(f"# {int(chapter[:2])}. ")
    opening = page.split("\n## ")[0]
    assert len(opening.split()) > 60, "what the chapter proves, and why one would care"
    exercises = page.split("\n## Exercises\n")[1].split("\n## ")[0]
    posed = re.split(r"^\*\*Exercise (\d+\.\d+)\*\*", exercises, flags=re.MULTILINE)[1:]
    assert posed[::2] == [f"{int(chapter[:2])}.{i + 1}" for i in range(len(posed) // 2)]
    assert 3 <= len(posed[::2]) <= 5
    for exercise in posed[1::2]:
        task, solution = re.fullmatch(
            r"(.+?)<details>\n<summary>Solution</summary>\n\n((?:(?!<details>).)+)\n\n</details>\s*",
            exercise, flags=re.DOTALL,
        ).groups()
        assert len(task.split()) >= 10 and len(solution.split()) >= 15
    assert len(page.split("\n## Sources\n")[1].split("\n## ")[0].split()) >= 10


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


def targets(html):
    """Where the links and pictures of a piece of HTML lead."""
    return [("", target) for target in re.findall(r"""(?:href|src)=["']?([^"'\s>]+)""", html)]


def links(page):
    """[(words, target)] of all links and pictures of a page, however they are written."""
    found = []
    for block in blocks(page):
        if block.type == "html_block":
            found += targets(block.content)
        words = None
        for token in block.children or []:
            if token.type == "image":
                found.append((token.content, unquote(token.attrs["src"])))
            elif token.type == "link_open":
                words, target = "", unquote(token.attrs["href"])
            elif token.type == "link_close":
                found.append((words, target))
                words = None
            elif token.type == "html_inline":
                found += targets(token.content)
            elif words is not None:
                words += token.content
    return found


def dead(page, file):
    """The links of a page in this file that lead nowhere, or elsewhere than their words say."""
    found = []
    for words, target in links(page):
        if target.startswith("https://"):
            continue
        name, _, place = target.partition("#")
        path = (file.parent / name).resolve() if name else file
        if not path.is_relative_to(ROOT) or not path.exists():
            found.append((words, target))
            continue
        if place:
            text = path.read_text(encoding="utf-8")
            slugs = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings(text)}
            if f'<a id="{place}"></a>' not in text and place not in slugs:
                found.append((words, target))
        number = re.search(rf"(?<![\d.]){book.NUMBER}", words)
        chapter = re.fullmatch(r"[Cc]hapter\s(\d+)", words)
        if place.startswith("eq-") and number and place != book.anchor(number[0]):
            found.append((words, target))
        if chapter and not path.name.startswith(f"{int(chapter[1]):02d}-"):
            found.append((words, target))
        if re.fullmatch(r"[\w/]+\.py", words) and not target.endswith(words):
            found.append((words, target))
    return found + re.findall(r"\S*\](?:\(|\[)[^\n]*", text_of(page))  # what should have been a link


@pytest.mark.parametrize("name", PAGES)
def test_every_link_leads_to_what_its_words_say(name):
    assert dead(PAGES[name], ROOT / "derivations" / name) == []


@pytest.mark.parametrize(
    "page", ["[a](no.md)", '[a](no.md "Title")', "[a](<no.md>)", "[a][b]\n\n[b]: no.md", "[a][b]",
             "![a](figures/no.svg)", '<a href="no.md">a</a>', 'x <img src="figures/no.svg">',
             "[a](book.py#no)", "[a](../../other.md)", "[(1.5)](05-the-bound.md#eq-1-6)",
             "[chapter 4](05-the-bound.md)", "[`bound.py`](../teachvae/model.py)",
             "[a](05-the-bound.md #eq-1-5)", "[a](05-the-bound.md#eq-9-99)", "[a](http://example.invalid)"]
)
def test_dead_links_are_found(page):
    assert dead(page, ROOT / "derivations/05-the-bound.md")


TEXTS = [
    *ROOT.glob("*.md"), *(ROOT / "notebooks").glob("*.ipynb"),
    *(p for folder in ("docs", "teachvae", "tests", "benchmarks") for kind in ("py", "md")
      for p in (ROOT / folder).rglob(f"*.{kind}")),
]


def test_every_mention_of_a_page_or_a_card_elsewhere_leads_there():
    lost = []
    for file in TEXTS:
        text = file.read_text(encoding="utf-8")
        for name, place in re.findall(r"derivations/([\w-]+\.md)(?:#([\w-]+))?", text):
            if name not in PAGES or place and f'<a id="{place}"></a>' not in PAGES[name]:
                lost.append((file.name, name, place))
    assert lost == []


@pytest.mark.parametrize("name", PAGES)
def test_every_number_that_the_text_cites_is_a_card(name):
    text = book.KEPT.sub("", PAGES[name])
    assert [number for number in re.findall(CITED_AS, text) if number not in BOOK] == []


# ---- well-formed mathematics, in a dialect that every reader renders --------------------------


def formulas(page):
    """All formulas of a page, displayed and inline."""
    page = re.sub(r"```.*?^```|`[^`\n]*`", "", page, flags=re.DOTALL | re.MULTILINE)
    return [block or inline for block, inline in book.FORMULA.findall(page)]


# What formulas are written with: GitHub, JupyterLab and the site know all of it.
COMMANDS = set("""
    alpha beta gamma delta epsilon varepsilon eta theta vartheta kappa lambda mu nu xi pi rho sigma
    tau phi varphi chi psi omega Gamma Delta Lambda Sigma Phi Psi Omega ell partial nabla infty
    arccos arcsin arg cos coth exp log max min sin tan tanh binom frac sqrt int prod sum bar hat
    overline tilde underbrace widehat mathbb mathcal mathrm text approx geq gt in leq lt mid neq ni
    parallel propto sim subset ast cdot circ odot otimes pm times Longleftrightarrow Rightarrow
    leftarrow rightarrow to Vert lbrace lfloor rbrace rfloor vert cdots dots ldots top enspace qquad
    quad thinspace begin end cr left right
""".split())


def faults(formula):
    """What is wrong with a formula, in words; an empty list where nothing is. That MathJax typesets all of
    them is test_site's.
    """
    found = sorted(set(re.findall(r"\\([a-zA-Z]+)", formula)) - COMMANDS)
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", formula):
        depth += 1 if brace == "{" else -1
        if depth < 0:
            break
    if depth:
        found.append("braces")
    if len(re.findall(r"\\left(?![a-z])", formula)) != len(re.findall(r"\\right(?![a-z])", formula)):
        found.append("left and right")
    if Counter(re.findall(r"\\begin\{(\w+)\}", formula)) != Counter(re.findall(r"\\end\{(\w+)\}", formula)):
        found.append("environments")
    return found


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
    for block in blocks(page):
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
        assert not re.search(r"\n\s*\n|[<>~]", inline[1]), inline[0]  # ~ strikes through on GitHub
    bare = re.sub(r"\$[^$]+\$", "", page)
    assert "$" not in bare
    assert re.findall(r"\S*\\\S*", bare) == [], "a formula without its dollars"


@pytest.mark.parametrize(
    "page", [r"$\mathbb{E}_q[f] + x_{n}$", r"$a \, b$", "$$\na \\\\\nb\n$$", "$$\na\n- b\n$$", "$a*b*c$"]
)
def test_formulas_that_markdown_would_eat_are_found(page):
    assert eaten(page)
