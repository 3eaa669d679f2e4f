"""Build the course as a site that runs in a browser tab, without anything installed: JupyterLite, whose Python
is Pyodide.

    pip install -e '.[lite]' && python docs/lite/build.py [--pyodide DIR] [--to FOLDER]
    python -m http.server --directory build/lite             # then open http://localhost:8000

Pyodide's NumPy, SciPy and Matplotlib come from its distribution, not from PyPI. DIR, or else the environment
variable TEACHVAE_PYODIDE, is the folder of one, 0.27.7, which becomes a part of the site; the site then asks for
nothing from elsewhere. Without it, Pyodide comes from the address in jupyter-lite.json. The settings are those
of this folder; all else is laid out anew in a temporary one, for JupyterLite's notes of an earlier build,
.jupyterlite.doit.db, would drop the settings in silence.
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
INSTALL = "# In a browser tab, the course's package comes from the site that this notebook came from.\n%pip install -q teachvae"
ENTRY = """<!doctype html><title>teachvae, the course</title>
<meta http-equiv="refresh" content="0; url=lab/index.html?path=notebooks/00-start-here.ipynb">
<script id="jupyter-config-data" type="application/json" data-jupyter-lite-root=".">{}</script>
"""                                                              # the last line is asked for by all pages below
PARTS = "index.html", "jupyter-lite.json", "lab", "pypi", "static"     # by which a site is known


def lay_out(folder, pyodide=None):
    """Fill a folder with what JupyterLite makes a site of: settings, notebooks, derivations and the sources
    that they link to, and the wheels that are in no distribution of Pyodide.
    """
    for name in ("jupyter-lite.json", "overrides.json"):
        shutil.copy(HERE / name, folder)
    for file in [*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("derivations/*.md")]:
        text = file.read_text(encoding="utf-8")
        linked = [(file.parent / path).resolve() for path in re.findall(r"\]\(([\w./-]+)", text)]
        for source in [file, *linked]:
            if source.is_file() and source.is_relative_to(ROOT):
                goal = folder / "files" / source.relative_to(ROOT)
                goal.parent.mkdir(parents=True, exist_ok=True)
                if source.suffix == ".ipynb":
                    goal.write_text(with_install(source), encoding="utf-8")
                else:
                    shutil.copy(source, goal)
    package = folder / "package"                             # built where no earlier build has left anything
    for name in ("setup.cfg", "setup.py", "README.md", "LICENSE"):
        package.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, package)
    shutil.copytree(ROOT / "teachvae", package / "teachvae", ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder / "pypi"]
    subprocess.run([*pip, package, "comm", "tqdm"], check=True)  # without comm the kernel hangs and says nothing
    if pyodide is not None:
        shutil.copytree(pyodide, folder / "static/pyodide")


def with_install(file):
    """A notebook's text with a first cell that installs the package."""
    notebook = json.loads(file.read_text(encoding="utf-8"))
    cell = {"cell_type": "code", "execution_count": None, "id": "install", "metadata": {}, "outputs": []}
    notebook["cells"].insert(0, cell | {"source": INSTALL})
    return json.dumps(notebook, ensure_ascii=False)


def build(to, pyodide=None):
    """Build the site in a folder; one of an earlier build is replaced. Raises ValueError for what is no folder
    of a distribution, or for a folder that holds something else.
    """
    to = Path(to).resolve()
    if pyodide is not None and not all((Path(pyodide) / name).is_file() for name in ("pyodide.js", "pyodide-lock.json")):
        raise ValueError(f"{pyodide} holds no pyodide.js and pyodide-lock.json: it is no distribution of Pyodide")
    if to.exists() and any(to.iterdir()):
        if not all((to / name).exists() for name in PARTS):
            raise ValueError(f"{to} holds something else than a site of an earlier build: name another folder")
        shutil.rmtree(to)
    with tempfile.TemporaryDirectory() as folder:
        lay_out(Path(folder), pyodide)
        kernel = Path(sys.prefix) / "share/jupyter/labextensions/@jupyterlite/pyodide-kernel-extension"
        subprocess.run(
            [sys.executable, "-m", "jupyterlite_core", "build", "--apps=lab", "--no-sourcemaps",
             "--no-unused-shared-packages", f"--output-dir={to}", "--contents=files",
             "--ignore-sys-prefix", f"--LiteBuildConfig.federated_extensions={kernel}"],   # not what else is installed here
            cwd=folder, check=True,
        )
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
