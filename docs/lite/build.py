"""Build the course as a site that runs in a browser tab, without anything installed: JupyterLite, whose
Python is Pyodide.

    pip install -e '.[lite]' && python docs/lite/build.py [--pyodide DIR] [--to FOLDER]
    python -m http.server --directory build/lite             # then open http://localhost:8000

Pyodide's NumPy, SciPy and Matplotlib come from its distribution, not from PyPI. DIR, or else the environment
variable TEACHVAE_PYODIDE, is the folder of one, 0.27.7, which becomes a part of the site; the site then asks
for nothing from elsewhere. Without it, Pyodide comes from the address in jupyter-lite.json. All is laid out
anew in a temporary folder: JupyterLite's notes of an earlier build, .jupyterlite.doit.db, would drop the
settings in silence.
"""

import argparse
import json
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys
import tempfile

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
KERNEL = Path(sys.prefix) / "share/jupyter/labextensions/@jupyterlite/pyodide-kernel-extension"
INSTALL = """\
# In a browser tab, the course's package comes from the site that this notebook came from.
%pip install -q teachvae"""
# The site's own page; all pages below it read its last line.
ENTRY = """<!doctype html><title>teachvae, the course</title>
<meta http-equiv="refresh" content="0; url=lab/index.html?path=notebooks/00-start-here.ipynb">
<script id="jupyter-config-data" type="application/json" data-jupyter-lite-root=".">{}</script>
"""


def lay_out(folder, pyodide=None):
    """Fill a folder with what JupyterLite makes a site of: settings, notebooks, derivations and the sources
    that they link to, and the wheels that are in no distribution of Pyodide.
    """
    for name in ("jupyter-lite.json", "overrides.json"):
        shutil.copy(HERE / name, folder)
    for file in [*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("derivations/*.md")]:
        links = re.findall(r"\]\(([\w./-]+)", file.read_text(encoding="utf-8"))
        for source in [file, *((file.parent / link).resolve() for link in links)]:
            if source.is_file() and source.is_relative_to(ROOT):
                goal = folder / "files" / source.relative_to(ROOT)
                goal.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, goal)
    for file in folder.glob("files/notebooks/*.ipynb"):
        notebook = json.loads(file.read_text(encoding="utf-8"))
        cell = {"cell_type": "code", "id": "install", "metadata": {}, "source": INSTALL}
        notebook["cells"].insert(0, cell | {"execution_count": None, "outputs": []})
        file.write_text(json.dumps(notebook, ensure_ascii=False), encoding="utf-8")
    package = folder / "package"                                   # where no earlier build has left anything
    shutil.copytree(ROOT / "teachvae", package / "teachvae", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, package)
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder / "pypi"]
    subprocess.run([*wheel, package, "comm", "tqdm"], check=True)  # without comm the kernel hangs in silence
    if pyodide is not None:
        shutil.copytree(pyodide, folder / "static/pyodide")


def build(to, pyodide=None):
    """Build the site in a folder; one of an earlier build is replaced. Raises ValueError for what is no
    distribution of Pyodide, and for a folder that holds something else.
    """
    to = Path(to).resolve()
    needed = [] if pyodide is None else [Path(pyodide) / name for name in ("pyodide.js", "pyodide-lock.json")]
    if lacking := [file.name for file in needed if not file.is_file()]:
        raise ValueError(f"{pyodide} is no distribution of Pyodide: it holds no {' and no '.join(lacking)}")
    if to.exists() and any(to.iterdir()):
        if not (to / "jupyter-lite.json").is_file():
            raise ValueError(f"{to} holds something else than a site of JupyterLite: name another folder")
        shutil.rmtree(to)
    with tempfile.TemporaryDirectory() as folder:
        lay_out(Path(folder), pyodide)
        command = [sys.executable, "-m", "jupyterlite_core", "build", "--apps=lab", "--contents=files"]
        sparing = ["--no-sourcemaps", "--no-unused-shared-packages"]
        alone = ["--ignore-sys-prefix", f"--LiteBuildConfig.federated_extensions={KERNEL}"]
        subprocess.run([*command, *sparing, *alone, f"--output-dir={to}"], cwd=folder, check=True)
    (to / "index.html").write_text(ENTRY, encoding="utf-8")


def main(arguments=None):
    """Build; the exit status is 0, or 2 where the arguments are wrong."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--pyodide", metavar="DIR", default=os.environ.get("TEACHVAE_PYODIDE") or None)
    parser.add_argument("--to", metavar="FOLDER", default=ROOT / "build/lite")
    given = parser.parse_args(arguments)
    try:
        build(given.to, given.pyodide)
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
