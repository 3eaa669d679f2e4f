"""The floors of the package: a file imports from lower floors, or from a file to its left on its own."""

import ast
from pathlib import Path

import pytest
import teachvae

FLOORS = [
    ["backend", "tree", "names", "blocks"],
    ["layers", "posteriors", "likelihoods", "noise", "optimizers", "gradcheck", "validate", "readers",
     "datasets", "jensen", "columns", "moments"],
    ["model", "units", "linear_gaussian"],
    ["bound"],
    ["infer", "nlml", "ais", "grid", "gaps", "fit", "gradient_estimators", "trace"],
    ["estimator", "factor_analysis", "variational_em", "vae", "autoencoder", "mixture", "probe", "plots"],
    ["tasks", "compare", "tables", "report", "checks"],
    ["cli", "__main__"],
]
PLACE = {name: (floor, i) for floor, names in enumerate(FLOORS) for i, name in enumerate(names)}
ESTIMATORS = {"factor_analysis", "variational_em", "vae", "autoencoder", "mixture"}
NO_ARRAY_LIBRARY = {
    "bound", "infer", "linear_gaussian", "layers", "posteriors", "likelihoods", "optimizers",
    "gradient_estimators", "trace",
}
ARRAY_LIBRARIES = {"numpy", "cupy", "cupyx", "array_api_strict", "scipy", "torch", "jax"}
ONLY = {"gradcheck": {"backend", "tree"}}                          # a student can lift it out with these two

PACKAGE = Path(teachvae.__file__).parent
FILES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path != PACKAGE / "__init__.py" and path.parent.name != "data"
}                                                                  # likelihoods, likelihoods.gaussian, …


def imports(name, source):
    """(module, line, whether inside a function) of every import; the package's own with `teachvae.`."""
    inner = f"teachvae.{name.partition('.')[0]}." if "." in name or name == "likelihoods" else "teachvae."
    tree = ast.parse(source)
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = ["", inner, "teachvae."][node.level]
            start = package + (node.module or "")
            bare = start in ("teachvae", "teachvae.", inner)       # from . import layers, tree
            modules = [f"{start.rstrip('.')}.{alias.name}" for alias in node.names] if bare else [start]
        else:
            continue
        for module in modules:
            yield module, node.lineno, id(node) in inside


def violations(name, source):
    """What the file `name` does that its floor forbids, as sentences. A folder of files is one place."""
    own, name = name, name.partition(".")[0]
    if name not in PLACE:
        return [f"{name}.py stands on no floor: give it a place in FLOORS"]
    found = []
    for module, line, inside in imports(own, source):
        top, _, rest = module.partition(".")
        where = f"{name}.py line {line}"
        if top == "teachvae":
            target = rest.partition(".")[0]
            if target in ("data", "__version__", name):            # files, a name, and its own folder
                continue
            if target not in PLACE:
                found.append(f"{where} imports {module}, which stands on no floor")
                continue
            floor, i = PLACE[name]
            target_floor, target_i = PLACE[target]
            if target_floor > floor or (target_floor == floor and target_i >= i):
                found.append(f"{where} imports {target}, which stands above it or to its right")
            if {name, target} <= ESTIMATORS:
                found.append(f"{where}: the estimators {name} and {target} must not know each other")
            if name in ONLY and target not in ONLY[name]:
                found.append(f"{where} imports {target}, but may import only {sorted(ONLY[name])}")
        elif name in NO_ARRAY_LIBRARY and top in ARRAY_LIBRARIES:
            if (name, module, inside) != ("optimizers", "scipy.optimize", True):
                found.append(f"{where} names the array library {module}")
    return found


@pytest.mark.parametrize("name", FILES)
def test_a_file_keeps_to_its_floor(name):
    assert violations(name, FILES[name].read_text(encoding="utf-8")) == []


def test_the_core_is_there():
    assert set(FLOORS[0] + FLOORS[1][:6] + ["model", "bound", "checks"]) <= set(FILES)


@pytest.mark.parametrize("name, source, complaint", [
    ("layers", "from .bound import forward", "imports bound"),
    ("layers", "from . import tree, bound", "imports bound"),
    ("layers", "from teachvae.bound import forward", "imports bound"),
    ("layers", "import teachvae.bound", "imports bound"),
    ("layers", "from teachvae import bound", "imports bound"),
    ("layers", "def f():\n    from .bound import forward", "line 2 imports bound"),
    ("layers", "from .likelihoods import Gaussian", "imports likelihoods"),
    ("backend", "from . import tree", "imports tree"),
    ("bound", "from .mystery import x", "stands on no floor"),
    ("mystery", "", "stands on no floor"),
    ("vae", "from .variational_em import VariationalEM", "must not know each other"),
    ("autoencoder", "from .vae import VAE", "must not know each other"),
    ("gradcheck", "from .layers import Linear", "may import only ['backend', 'tree']"),
    ("likelihoods", "from ..noise import sigma_points", "imports noise"),
    ("likelihoods.gaussian", "from ..model import Model", "imports model"),
    ("likelihoods.gaussian", "from .. import model", "imports model"),
    ("likelihoods.gaussian", "import numpy", "names the array library"),
    ("fit", "from .estimator import Estimator", "imports estimator"),
    ("grid", "from .gradient_estimators import exact", "imports gradient_estimators"),
    ("jensen", "from .model import Model", "imports model"),
    ("trace", "from .vae import VAE", "imports vae"),
    ("mixture", "from .vae import VAE", "must not know each other"),
    *((name, source, "names the array library") for name in sorted(NO_ARRAY_LIBRARY)
      for source in ("import numpy as np", "from numpy.linalg import solve", "def f():\n    import cupy",
                     "import array_api_strict")),
    ("optimizers", "from scipy.optimize import minimize", "names the array library scipy.optimize"),
    ("infer", "def f():\n    from scipy.optimize import minimize", "names the array library scipy.optimize"),
    ("optimizers", "def f():\n    from scipy import linalg", "names the array library scipy"),
])
def test_a_planted_import_is_found(name, source, complaint):
    assert any(complaint in sentence for sentence in violations(name, source))


@pytest.mark.parametrize("name, source", [
    ("likelihoods", "from ..layers import sigmoid\nfrom ..posteriors import LOG_2PI"),
    ("likelihoods.mixed", "from .gaussian import Gaussian\nfrom ..backend import namespace"),
    ("vae", "from . import bound, likelihoods\nfrom .estimator import Estimator"),
    ("optimizers", "def f():\n    from scipy.optimize import minimize"),
    ("noise", "import numpy as np"),
    ("datasets", "from teachvae import data"),
    ("cli", "from . import checks, compare, report"),
    ("checks", "from .vae import VAE\nfrom .gradcheck import check"),
])
def test_a_lawful_import_is_let_pass(name, source):
    assert violations(name, source) == []
