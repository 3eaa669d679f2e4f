"""Tests of the site in a real browser: it is built without a warning, its pages open from disk and ask for
nothing from elsewhere, every formula is typeset, every link leads somewhere; and JupyterLab shows the same
Markdown as well.

They need the extras docs and notebooks, Chromium, and, once, the network for MathJax.
"""

from html.parser import HTMLParser
import json
import os
from pathlib import Path
import re
import shutil
import socket
import subprocess
import sys
from time import monotonic, sleep
from urllib.parse import unquote
from urllib.request import urlopen

import pytest
import test_book

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CHAPTERS = [name.removesuffix(".md") for name in test_book.PAGES if name != "equations.md"]
NOTEBOOKS = [file.stem for file in sorted((ROOT / "notebooks").glob("*.ipynb"))]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of a site that was built with warnings as errors."""
    pytest.importorskip("myst_nb", reason="needs the extra docs")
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, ROOT / "docs/build.py", folder], capture_output=True, text=True, timeout=600
    )
    assert built.returncode == 0, built.stdout[-3000:] + built.stderr[-3000:]
    return folder


def browse(address, tmp_path):
    """The page's document after its scripts have run, and the addresses that it asked for beyond itself."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt install chromium")
    log = tmp_path / "net.json"
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--no-first-run",
         f"--user-data-dir={tmp_path / 'user'}",
         f"--log-net-log={log}", "--virtual-time-budget=60000", "--dump-dom", address],
        capture_output=True, text=True, timeout=180,
    )
    text = log.read_text(encoding="utf-8", errors="replace")
    try:
        events = json.loads(text)["events"]
    except json.JSONDecodeError:                                   # Chromium ended before its log did
        events = json.loads(text.rstrip().rstrip(",") + "]}")["events"]
    asked = [event.get("params", {}) for event in events]
    # what Chromium asks for by itself, and the page as such, has no origin
    return done.stdout, {
        what["url"] for what in asked if what.get("initiator", "not an origin") != "not an origin"
    }


class Page(HTMLParser):
    """The links, the ids, and the words of a page outside of code."""

    def __init__(self, html):
        super().__init__()
        self.links, self.ids = [], set()
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids.add(attributes.get("id"))
        target = attributes.get("href") or attributes.get("src")
        if target and tag in ("a", "img", "script", "link"):
            self.links.append((tag, target))


def test_every_link_of_the_site_leads_to_something(site):
    pages = {file: Page(file.read_text(encoding="utf-8")) for file in site.rglob("*.html")}
    dead, outside = [], set()
    for file, page in pages.items():
        for tag, target in page.links:
            if re.match(r"https?:", target):
                outside.add((tag, target))
                continue
            if re.match(r"data:|mailto:|javascript:", target):
                continue
            path, _, place = unquote(target).partition("#")
            goal = (file.parent / path.split("?")[0]).resolve() if path else file
            if not goal.exists() or (place and goal.suffix == ".html" and place not in pages[goal].ids):
                dead.append((file.relative_to(site).as_posix(), target))
    assert dead == []
    assert [(tag, target) for tag, target in outside if tag != "a"] == []  # nothing comes from elsewhere


def test_every_card_is_on_the_site_and_in_its_search(site):
    for number, card in test_book.BOOK.items():
        page = (site / "derivations" / card.chapter).with_suffix(".html").read_text(encoding="utf-8")
        assert f'id="{test_book.book.anchor(number)}"' in page
    terms = (site / "searchindex.js").read_text(encoding="utf-8")
    assert "reparameteris" in terms and "sigma" in terms


def test_every_public_name_is_in_the_reference(site):
    import teachvae

    found = "".join(file.read_text(encoding="utf-8") for file in (site / "docs/reference").glob("*.html"))
    addresses = {name: f'id="teachvae.{module}.{name}"' for name, module in teachvae.NAMES.items()}
    assert [name for name, address in addresses.items() if address not in found] == []


@pytest.mark.parametrize(
    "page", [*(f"derivations/{name}" for name in CHAPTERS), *(f"notebooks/{name}" for name in NOTEBOOKS)]
)
def test_formulas_are_typeset_from_disk_without_a_request(site, tmp_path, page):
    html, asked = browse(f"file://{site / page}.html", tmp_path)
    formulas = len(re.findall(r'class="math notranslate', html))
    assert formulas > 0 and html.count("<mjx-container") == formulas
    assert "<mjx-merror" not in html and "data-mjx-error" not in html
    assert {address for address in asked if not address.startswith("file://")} == set()


def test_a_page_that_asks_elsewhere_is_found(tmp_path):
    (tmp_path / "a.html").write_text('<img src="https://example.invalid/a.png">')
    assert browse(f"file://{tmp_path}/a.html", tmp_path)[1] == {"https://example.invalid/a.png"}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of a JupyterLab at the top level, which shows Markdown as it is rendered."""
    pytest.importorskip("jupyterlab", reason="needs the extra notebooks")
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt install chromium")
    folder = tmp_path_factory.mktemp("lab")
    settings = folder / "settings/@jupyterlab/docmanager-extension/plugin.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps({"defaultViewers": {"markdown": "Markdown Preview"}}), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"), "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_DATA_DIR": str(folder / "data"), "JUPYTER_RUNTIME_DIR": str(folder / "run"),
    }
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}",
             "--IdentityProvider.token=", "--ServerApp.password="],
            cwd=ROOT, env=environment, stdout=log, stderr=log,
        )
        try:
            end = monotonic() + 60
            while True:
                try:
                    urlopen(f"http://127.0.0.1:{port}/api/status", timeout=5).close()
                    break
                except OSError:
                    assert monotonic() < end and server.poll() is None, (folder / "log").read_text()
                    sleep(0.2)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(30)


@pytest.mark.parametrize("name", ["00-notation.md", "02-factor-analysis.md", "11-posteriors.md"])
def test_jupyterlab_typesets_the_same_markdown(lab, tmp_path, name):
    html, asked = browse(f"{lab}/doc/tree/derivations/{name}", tmp_path)
    assert html.count("<mjx-container") == len(test_book.formulas(test_book.PAGES[name]))
    assert "<mjx-merror" not in html
    assert {address for address in asked if not re.match(r"(http|ws)://127\.0\.0\.1", address)} == set()
