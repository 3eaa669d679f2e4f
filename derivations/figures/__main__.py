"""Draw the pictures of the book anew, all of them or those of some chapters:

    python -m derivations.figures [02 07 …]

draw_NN.py has the pictures of chapter NN: draw_some_name() is the Matplotlib figure of NN-some-name.svg.
"""

from importlib import import_module
from pathlib import Path
import sys

import matplotlib

FOLDER = Path(__file__).resolve().parent
STYLE = {"svg.hashsalt": "teachvae", "svg.fonttype": "path", "savefig.facecolor": "white", "font.size": 9}


def main(chapters):
    """Write every picture of the chapters, ["02", …], beside its script."""
    sys.path.insert(0, str(FOLDER.parents[1] / "tests"))           # the running example, worked.example
    matplotlib.rcParams.update(STYLE)
    for chapter in chapters or [file.stem.removeprefix("draw_") for file in sorted(FOLDER.glob("draw_*.py"))]:
        script = import_module(f"derivations.figures.draw_{chapter}")
        for name, draw in vars(script).items():
            if name.startswith("draw_"):
                file = FOLDER / f"{chapter}-{name.removeprefix('draw_').replace('_', '-')}.svg"
                draw().savefig(file, metadata={"Date": None})


if __name__ == "__main__":
    main(sys.argv[1:])
