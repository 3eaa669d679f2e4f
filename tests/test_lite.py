"""Tests of the course in a browser tab: the site is built with a distribution of Pyodide, opened in Chromium,
a notebook is run to its end, links lead to their cards, and nothing is asked for from elsewhere; and the
package gives in Pyodide, without threads and with places of 32 bits, the numbers that it gives here.

They need the extra lite, Chromium and Node, and a distribution of Pyodide 0.27.7, whose folder is
TEACHVAE_PYODIDE.
"""

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
import json
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys
from threading import Thread

import chromium
import pytest

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).resolve().parents[1]
PYODIDE = os.environ.get("TEACHVAE_PYODIDE")
NODE = shutil.which("node") or shutil.which("nodejs")
PANEL = "[...jupyterapp.shell.widgets('main')].find(one => one.content && one.content.widgets)"
CELLS = f"{PANEL}.content.widgets.filter(cell => cell.model.type == 'code')"


def build(*arguments):
    return subprocess.run(
        [sys.executable, ROOT / "docs/lite/build.py", *map(str, arguments)],
        capture_output=True, text=True, timeout=600,
        env={name: value for name, value in os.environ.items() if name != "TEACHVAE_PYODIDE"},
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of a site that holds Pyodide."""
    pytest.importorskip("jupyterlite_core", reason="needs the extra lite")
    if not PYODIDE:
        pytest.skip("needs a distribution of Pyodide: TEACHVAE_PYODIDE=FOLDER")
    folder = tmp_path_factory.mktemp("lite") / "site"
    built = build("--pyodide", PYODIDE, "--to", folder)
    assert built.returncode == 0, built.stdout[-3000:] + built.stderr[-3000:]
    return folder


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def address(site):
    """Where the site is served; JupyterLab is within reach of the pages' scripts."""
    settings = site / "jupyter-lite.json"
    said = json.loads(settings.read_text(encoding="utf-8"))
    said["jupyter-config-data"]["exposeAppInBrowser"] = True
    settings.write_text(json.dumps(said), encoding="utf-8")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=site)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def browse(tmp_path):
    """A browser, and a function that ends it and says what its pages and workers have asked for."""
    if chromium.CHROMIUM is None:
        pytest.skip("needs Chromium: apt install chromium")
    log = tmp_path / "net.json"
    browser = chromium.Browser(tmp_path / "user", flags=[f"--log-net-log={log}"])
    browser.send("Emulation.setFocusEmulationEnabled", enabled=True)

    def asked():
        browser.close()
        text = log.read_text(encoding="utf-8", errors="replace")
        events = json.loads(text if text.rstrip().endswith("]}") else text.rstrip().rstrip(",") + "]}")["events"]
        said = [event.get("params", {}) for event in events]
        # what Chromium asks for by itself has no origin
        return {what["url"] for what in said if what.get("initiator", "not an origin") != "not an origin"}

    yield browser, asked
    if browser.process.poll() is None:
        browser.close()


def open_notebook(browser, address, name):
    browser.open(f"{address}/lab/index.html?path=notebooks/{name}.ipynb")
    browser.until(f"!!(window.jupyterapp && {PANEL} && {CELLS}.length > 2)", 120)
    browser.until("document.querySelector('.jp-Cell') !== null", 60)
    browser.run(f"void jupyterapp.shell.activateById({PANEL}.id)")
    browser.drag((600, 130))                                       # a click: commands are for what has the focus
    browser.until("jupyterapp.shell.currentWidget !== null", 30)


def test_a_notebook_runs_to_its_end_and_asks_for_nothing_from_elsewhere(address, browse):
    browser, asked = browse
    open_notebook(browser, address, "00-start-here")
    browser.run("void jupyterapp.commands.execute('notebook:clear-all-cell-outputs')")
    browser.run(
        "window.ended = null; void jupyterapp.commands.execute('notebook:run-all-cells')"
        ".then(well => { window.ended = String(well); }, error => { window.ended = String(error); })"
    )
    browser.until("window.ended !== null", 500)
    ran = browser.run(f"{CELLS}.map(cell => [cell.model.executionCount, cell.model.outputs.toJSON()])")
    errors = [out for _, outputs in ran for out in outputs if out["output_type"] == "error"]
    assert errors == [] and browser.run("window.ended") == "true"
    assert [count for count, _ in ran] == list(range(1, len(ran) + 1))
    shown = json.dumps([outputs for _, outputs in ran])
    assert "image/png" in shown and "not attempted" in shown and "nats per image" in shown
    urls = asked()
    for needed in ("static/pyodide/pyodide.asm.wasm", "static/pyodide/numpy", "pypi/comm", "pypi/teachvae"):
        assert any(url.startswith(f"{address}/{needed}") for url in urls)  # workers' requests are seen as well
    assert [url for url in urls if not url.startswith((address, "blob:", "data:"))] == []


def test_a_number_leads_to_its_card(address, browse):
    browser, _ = browse
    open_notebook(browser, address, "00-start-here")
    link = "[...document.querySelectorAll('.jp-Notebook a')].find(one => one.textContent == '1.7')"
    browser.until(f"{link} !== undefined", 60)
    browser.run(f"{link}.click()")
    browser.until("document.querySelector('.jp-MarkdownViewer mjx-container') !== null", 60)
    assert browser.run("document.querySelectorAll('.jp-MarkdownViewer .jp-mod-error').length") == 0


def test_the_first_page_is_the_first_notebook(address, browse):
    browser, _ = browse
    browser.open(address)
    titles = "[...document.querySelectorAll('.jp-Notebook h1')].map(one => one.textContent)"
    browser.until(f"{titles}.some(title => title.startsWith('00'))", 120)


def test_every_link_between_files_of_the_site_leads_to_one(site):
    dead, count = [], 0
    for file in [*site.glob("files/notebooks/*.ipynb"), *site.glob("files/derivations/*.md")]:
        for path in re.findall(r"\]\(([\w./-]+\.\w+)", file.read_text(encoding="utf-8")):
            count += 1
            if not (file.parent / path).is_file() and (ROOT / file.parent.name / path).is_file():
                dead.append((file.name, path))
    assert dead == [] and count > 1000


def test_what_is_no_distribution_and_a_folder_of_something_else_are_refused(site, tmp_path):
    refused = build("--pyodide", tmp_path)
    assert refused.returncode == 2 and "is no distribution of Pyodide" in refused.stderr
    (tmp_path / "thesis.tex").write_text("years of work")
    refused = build("--to", tmp_path)
    assert refused.returncode == 2 and "name another folder" in refused.stderr
    assert (tmp_path / "thesis.tex").exists()


def test_in_pyodide_the_numbers_are_those_that_are_had_here(site):
    if NODE is None:
        pytest.skip("needs Node")
    smoke = ROOT / "tests/pyodide_smoke.py"
    wheels = [file for name in ("teachvae", "tqdm") for file in site.glob(f"pypi/{name}-*.whl")]
    in_pyodide = [NODE, ROOT / "tests/pyodide_run.mjs", PYODIDE, smoke, *wheels]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    there, here = (
        subprocess.run(command, capture_output=True, text=True, timeout=900, cwd=ROOT, env=environment)
        for command in (in_pyodide, [sys.executable, smoke])
    )
    assert there.returncode == 0, there.stdout[-2000:] + there.stderr[-3000:]
    there, here = (json.loads(ran.stdout.splitlines()[-1]) for ran in (there, here))
    assert there["told"] == {
        "bits of a place": 32, "warned": ["ThreadsWarning"], "right": "right", "wrong": "not yet",
        "gradients": 0, "doctor": ["ok", "ok", "ok"],
    }
    assert there["numbers"] == pytest.approx(here["numbers"], rel=1e-8)
    Q = [there["numbers"][f"{route}, Q"] for route in ("FactorAnalysis", "VariationalEM", "VAE")]
    assert max(Q) - min(Q) < 1e-7
