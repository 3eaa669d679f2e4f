"""The site: the derivations, the notebooks as they are committed, and the reference of the public names, from
the same Markdown that GitHub and JupyterLab show. `python docs/build.py` builds it.
"""

import os
from pathlib import Path
import re
import sys

import pygments
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from derivations import book  # noqa: E402

BOOK = book.all_cards()

project, author, html_title = "teachvae", "the authors of teachvae", "teachvae"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.mathjax"]
root_doc = "docs/index"
include_patterns = [
    "docs/**.md", "derivations/*.md", "notebooks/*.ipynb", "README.md", "CONTRIBUTING.md",
    "teachvae/datasets/*.md",
]
html_theme, html_css_files = "furo", ["site.css"]
html_static_path = ["_static", os.environ["TEACHVAE_SITE_STATIC"]]
mathjax_path = "mathjax/tex-chtml.js"
html_show_copyright = html_copy_source = html_show_sourcelink = False
myst_enable_extensions, myst_heading_anchors = ["dollarmath"], 4
myst_url_schemes = {"http": None, "https": None, "page": "{{path}}"}
nb_execution_mode, nb_merge_streams = "off", True
autodoc_member_order, autodoc_typehints = "bysource", "none"
highlight_language = "text"


def for_sphinx(app, name, source):
    """GitHub's Markdown, its anchors as Sphinx' targets and its links to sources as links to their pages."""
    up = "../" * name.count("/")
    text = re.sub(r'<a id=\\?"((?:eq|lecture)-[\w-]+)\\?"></a>', r"(\1)=", source[0])
    text = re.sub(r"\]\([^)\s]*#((?:eq|lecture)-[\w-]+)\)", r"](#\1)", text)
    text = re.sub(r'(href=\\?"\.\./derivations/[\w-]+)\.md', r"\1.html", text)  # of a notebook's output
    text = re.sub(r"\]\((?:\.\./)*((?:teachvae|tests)/[\w/]+)\.py\)", rf"](page:{up}source/\1.html)", text)
    source[0] = re.sub(r"\]\((teachvae/\w+)\)", rf"](page:{up}source/\1/__init__.html)", text)


def as_written(app, what, name, obj, options, lines):
    """A docstring stays as it is written: its shapes line up."""
    lines[:] = ["::", "", *("    " + line for line in lines), ""]


def with_links(html, link):
    """Every number of an equation in a page's code leads to its card."""
    def to_card(found):
        card = BOOK.get(found[1])
        return f'<a href="{link(card)}">({found[1]})</a>' if card else found[0]

    return re.sub(
        r"<pre>.*?</pre>", lambda pre: re.sub(rf"\(({book.NUMBER})\)", to_card, pre[0]), html, flags=re.DOTALL
    )


def card_from(app, page):
    """A function from a card to the address that leads to it from a page."""
    def link(card):
        chapter = f"derivations/{card.chapter.removesuffix('.md')}"
        return f"{app.builder.get_relative_uri(page, chapter)}#{book.anchor(card.number)}"

    return link


def link_code(app, page, template, context, doctree):
    """Link the equations that the docstrings of the reference cite."""
    if "body" in context and page.startswith("docs/reference"):
        context["body"] = with_links(context["body"], card_from(app, page))


def write_sources(app, exception):
    """A page for each file of the package, and of the tests that a card names: its lines, with links to the
    equations; and the page that stands at the site's root and leads on to its start.
    """
    if exception or app.builder.format != "html":
        return
    (Path(app.outdir) / "index.html").write_text(START, encoding="utf-8")
    named = {ROOT / file for card in BOOK.values() for file in card.cited("Checked by")}
    for file in [*(ROOT / "teachvae").rglob("*.py"), *named]:
        path = file.relative_to(ROOT)
        page = f"source/{path.with_suffix('').as_posix()}"
        up, out = "../" * page.count("/"), Path(app.outdir) / f"{page}.html"
        code = pygments.highlight(
            file.read_text(encoding="utf-8"), PythonLexer(), HtmlFormatter(lineanchors="line")
        )
        html = SOURCE.format(title=path.as_posix(), up=up, code=with_links(code, card_from(app, page)))
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(html, encoding="utf-8")


START = """<!doctype html><title>teachvae</title>
<meta http-equiv="refresh" content="0; url=docs/index.html">
"""
SOURCE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><link rel="stylesheet" href="{up}_static/pygments.css">
<link rel="stylesheet" href="{up}_static/site.css">
</head><body class="source"><p><a href="{up}docs/index.html">teachvae</a> · {title}</p>
{code}</body></html>
"""


def setup(app):
    """What Sphinx calls."""
    app.connect("source-read", for_sphinx)
    app.connect("autodoc-process-docstring", as_written)
    app.connect("html-page-context", link_code)
    app.connect("build-finished", write_sources)
