"""The course in JupyterLab: where its notebooks are, and how Jupyter is started on them."""

from importlib.util import find_spec
from pathlib import Path
import signal
import subprocess
import sys
from urllib.parse import quote

from .progress import notebooks_of

FIRST = "00-start-here.ipynb"
INSTALL = "pip install -e '.[notebooks]' in the checkout installs it"


def folder_of(given=None):
    """The folder of the course's notebooks: the given one, or one within it called notebooks.

    Where None: notebooks/ in the current folder, the current folder, or the one beside the package in an
    editable install. Raises ValueError where there is none, saying where it would be.
    """
    if given is not None:
        given = Path(given)
        if not given.is_dir():
            raise ValueError(f"{given} is no folder")
        places = [given, given / "notebooks"]
    else:
        places = [Path("notebooks"), Path(), Path(__file__).resolve().parents[2] / "notebooks"]
    for place in places:
        if place.is_dir() and notebooks_of(place):
            return place
    if given is not None:
        raise ValueError(f"{given} holds no notebook of the course, such as {FIRST}")
    raise ValueError(
        "there is no folder of the course's notebooks here: it is in the checkout of the repository, not in "
        "what pip installs; go there, or name it: teachvae course FOLDER"
    )


def command(folder):
    """The command that starts JupyterLab on the first notebook of a folder.

    Its root is the folder above where derivations/ stands beside the notebooks, for their links lead there.
    Raises ValueError where JupyterLab or its kernel is not installed.
    """
    missing = [name for name in ("jupyterlab", "ipykernel") if find_spec(name) is None]
    if missing:
        raise ValueError(f"{' and '.join(missing)} cannot be imported by {sys.executable}: {INSTALL}")
    folder = Path(folder).resolve()
    root = folder.parent if (folder.parent / "derivations").is_dir() else folder
    first = folder / FIRST if (folder / FIRST).is_file() else notebooks_of(folder)[0]
    page = quote(first.relative_to(root).as_posix())
    options = [f"--ServerApp.root_dir={root}", f"--LabApp.default_url=/lab/tree/{page}"]
    return [sys.executable, "-m", "jupyterlab", *options]


def start(words, environment=None):
    """Run such a command to its end, Ctrl-C being for Jupyter, which asks back; whether it ended well."""
    process = subprocess.Popen(words, env=environment)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return process.wait() == 0
    finally:
        signal.signal(signal.SIGINT, before)
