"""The cards of the chapters, read as values; and what is written from them: the index, links, and where the
course uses an equation.

    python -m derivations.book          # after a change to a chapter or a notebook

A card is a heading ### (d.d), with an anchor above it, its formula, its reasons, a worked example, and a list
that says where the equation stands in the code, which tests check it, and which notebooks use it.
"""

import json
from pathlib import Path
import re
from typing import NamedTuple

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent
NUMBER = r"\d{1,2}\.(?!0\b)\d{1,2}[a-z]?"                        # (2.0) is a figure
HEADING = re.compile(rf'^<a id="eq-([\w-]+)"></a>\n\n### \(({NUMBER})\) (.+)\n', re.MULTILINE)
FORMULA = re.compile(r"\$\$\n(.*?)\$\$|\$([^$\n]+(?:\n[^$\n]+)*)\$", re.DOTALL)
KEPT = re.compile(
    r"```.*?^```|\$\$\n.*?\$\$|\$[^$]+\$|`[^`\n]*`|\[[^\[\]]*\]\([^)]*\)|^#.*?$", re.DOTALL | re.MULTILINE
)


class Card(NamedTuple):
    """One numbered equation: its heading's words, the file of its chapter, and all that stands under it."""

    number: str
    title: str
    chapter: str
    text: str

    @property
    def anchor(self):
        """Where a link to this card leads, from the folder of the chapters."""
        return f"{self.chapter}#{anchor(self.number)}"

    def cited(self, line):
        """{file: [names]} of the list's line that begins with these words, a path from the top level."""
        lines = re.findall(rf"^- {line}: ((?:.+\n?)(?:^  .+\n?)*)", self.text, flags=re.MULTILINE)
        found = re.findall(r"\[[^\]]*\]\(\.\./([^)]+)\)(?:\s+\(([^)]*)\))?", " ".join(lines))
        return {file: re.findall(r"`(\w+)`", names) for file, names in found}

    def paragraph(self, start):
        """What stands from *start* to the next such word, the list, or the end; "" without one."""
        end = r"(?=^\*[A-Z][\w ]+\.\*|^- In code:|\Z)"
        found = re.search(rf"^\*{start}\*(.*?){end}", self.text, re.DOTALL | re.MULTILINE)
        return found[1].strip() if found else ""


def anchor(number):
    """The name of the anchor of an equation, (1.5) → eq-1-5."""
    return "eq-" + number.replace(".", "-")


def chapters():
    """The files of the chapters, in order."""
    return sorted(FOLDER.glob("[0-9][0-9]-*.md"))


def cards(page, chapter):
    """The cards of one chapter's text, in their order."""
    found = list(HEADING.finditer(page))
    ends = [later.start() for later in found[1:]] + [len(page)]
    texts = (re.split(r"^## ", page[card.end():end], flags=re.MULTILINE)[0] for card, end in zip(found, ends))
    return [Card(card[2], card[3].strip(), chapter, text) for card, text in zip(found, texts, strict=True)]


def all_cards():
    """{number: card} of the whole book, in the order of the chapters."""
    book = [card for file in chapters() for card in cards(file.read_text(encoding="utf-8"), file.name)]
    return {card.number: card for card in book}


def linked(page, book):
    """The page with a link at every number of an equation, outside of formulas, code and headings."""
    def link(bare):
        card = book.get(bare[1])
        return f"[({bare[1]})]({card.anchor})" if card else bare[0]

    parts, start = [], 0
    for kept in KEPT.finditer(page):
        parts += [re.sub(rf"\(({NUMBER})\)", link, page[start:kept.start()]), relinked(kept[0], book)]
        start = kept.end()
    return "".join([*parts, re.sub(rf"\(({NUMBER})\)", link, page[start:])])


def relinked(link, book):
    """A link whose words are an equation's number leads to where that equation stands now."""
    number = re.fullmatch(rf"\[\(({NUMBER})\)\]\([^)]*\)", link)
    return f"[({number[1]})]({book[number[1]].anchor})" if number and number[1] in book else link


def uses():
    """{number: [notebooks that cite it]}."""
    found = {}
    for file in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
        text = "\n".join("".join(cell["source"]) for cell in cells)
        for number in sorted(set(re.findall(rf"\(({NUMBER})\)", text))):
            found.setdefault(number, []).append(file.name)
    return found


def with_uses(page, used):
    """The page with a line "In the course" in the list of every card that a notebook cites, and no other."""
    page = re.sub(r"^- In the course: .*\n", "", page, flags=re.MULTILINE)
    for card in cards(page, ""):
        if card.number in used:
            names = ", ".join(f"[{Path(name).stem}](../notebooks/{name})" for name in used[card.number])
            line = re.search(r"^- Checked by: .*\n(?:^  .+\n)*", card.text, flags=re.MULTILINE)
            if line:
                end = page.index(card.text) + line.end()
                page = f"{page[:end]}- In the course: {names}\n{page[end:]}"
    return page


def index(book, used):
    """The page equations.md: every equation by number."""
    def place(card):
        return [int(part) for part in re.findall(r"\d+", card.number)]

    def files(cited):
        return ", ".join(f"[{Path(file).name}](../{file})" for file in cited)

    lines = [
        "# Equations, by number",
        "",
        "Every number that a comment in the code ends on has its card in a chapter: what it says, why it",
        "holds, an example in numbers, the code, the tests. This page is written from the chapters by",
        "`python -m derivations.book`. The letters are explained in [00-notation.md](00-notation.md).",
        "",
        "| | says | code | tests | course |",
        "|---|---|---|---|---|",
    ]
    for card in sorted(book.values(), key=place):
        course = ", ".join(f"[{name[:2]}](../notebooks/{name})" for name in used.get(card.number, []))
        row = (f"[({card.number})]({card.anchor})", card.title, files(card.cited("In code")),
               files(card.cited("Checked by")), course)
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def figures(text):
    """The numbers with a decimal point of a text, in order, each with half a unit of its last place: those of
    formulas and of prose, without links and code. `1.5 · 10^{-3}` is one number; a minus sign belongs to a
    number where nothing stands between them.
    """
    text = re.sub(r"```.*?^```|`[^`\n]*`|\[[^\[\]]*\]\([^)]*\)", "", text, flags=re.DOTALL | re.MULTILINE)
    power = r"(?:\s*(?:\\cdot|\\times|·|×)\s*10\^\{?([-−]?\d+)\}?)?"
    found = []
    for sign, digits, exponent in re.findall(rf"([-−]?)(?<![\d.])(\d+\.\d+){power}", text):
        factor = 10.0 ** int(exponent.replace("−", "-") or 0)
        value = float(digits) * factor * (-1 if sign else 1)
        found.append((value, 0.5 * factor * 10.0 ** -len(digits.split(".")[1])))
    return found


def written(book, used):
    """{file: text} of all that this program writes: pages, and the table that the package links by."""
    rows = {card.number: {"title": card.title, "chapter": card.chapter} for card in book.values()}
    pages = {
        FOLDER / "equations.md": index(book, used),
        ROOT / "teachvae/course/equations.json": json.dumps(rows, indent=0, ensure_ascii=False) + "\n",
    }
    for file in [*chapters(), FOLDER / "00-notation.md"]:
        pages[file] = with_uses(linked(file.read_text(encoding="utf-8"), book), used)
    return pages


def main():
    """Write the index, the links and the lines of the course."""
    for file, text in written(all_cards(), uses()).items():
        file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
