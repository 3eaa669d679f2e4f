"""The floors of the house: a folder imports from floors below alone, and has no circle inside; and its
files can be read: no line is too wide, nothing public is without a docstring."""

import ast
from pathlib import Path

import pytest

import teachvae

FLOORS = [
    ["messages"],
    ["arrays"],
    ["networks", "likelihoods", "posteriors", "plots"],
    ["model", "doors"],
    ["bound", "datasets"],
    ["importance_weighted"],
    ["inference", "gradcheck"],
    ["evaluation"],
    ["course"],
    ["routes"],
    ["comparison", "classroom"],
    ["cli"],
    ["__main__"],
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
ESTIMATORS = {f"routes.{name}" for name in (
    "factor_analysis", "variational_em", "vae", "autoencoder", "mixture", "mixture_of_factor_analysers",
    "principal_components",
)}
# No array library is named here, but where arrays are made or read on the host.
LIBRARY_FREE = {
    "bound", "importance_weighted", "model", "networks", "likelihoods", "posteriors", "inference",
}
ON_THE_HOST = {
    "posteriors.nodes", "inference.moments", "inference.mixture", "inference.mixture_of_factor_analysers",
}
LIBRARY_FREE_FILES = {"course.gradient_estimators", "course.trace"}
ARRAY_LIBRARIES = {"numpy", "cupy", "cupyx", "array_api_strict", "scipy", "torch", "jax"}
# What can be lifted out, and all that it takes along.
LIFTED = {
    f"gradcheck.{name}": {"gradcheck", "arrays.backend", "arrays.tree", "messages"}
    for name in (
        "answers", "check", "differences", "diagnoses", "evidence", "minima", "report", "terms", "values",
        "variants",
    )
}

PACKAGE = Path(teachvae.__file__).parent
FILES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path != PACKAGE / "__init__.py"
}                                                                  # bound, likelihoods, likelihoods.mixed, …


def imports(name, source):
    """(module, line, whether inside a function) of every import; the package's own as model, arrays.tree, …

    `from ..arrays import tree` is the module arrays.tree, `from .mixed import Mixed` likelihoods.mixed.
    """
    folder = name if name in FILES and FILES[name].name == "__init__.py" else name.rpartition(".")[0]
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
            above = ["teachvae", *filter(None, folder.split("."))]
            above = above[: len(above) - node.level + 1] if node.level else []
            start = ".".join([*above, *filter(None, [node.module])])
            wholes = [f"{start}.{alias.name}" for alias in node.names]
            modules = [whole if whole.removeprefix("teachvae.") in FILES else start for whole in wholes]
        else:
            continue
        for module in dict.fromkeys(modules):
            yield module, node.lineno, id(node) in inside


def violations(name, source):
    """What the file `name` does that its floor forbids, as sentences."""
    room = name.partition(".")[0]
    if room not in FLOOR:
        return [f"{name} stands on no floor: give {room} a place in FLOORS"]
    found = []
    for module, line, inside in imports(name, source):
        where = f"{name} line {line}"
        if module.partition(".")[0] == "teachvae":
            target = module.removeprefix("teachvae").removeprefix(".")
            other = target.partition(".")[0]
            if target in ("", "__version__"):
                continue
            if other not in FLOOR:
                found.append(f"{where} imports {target}, which stands on no floor")
                continue
            if other != room and FLOOR[other] >= FLOOR[room]:
                found.append(f"{where} imports {target}, from floor {FLOOR[other]} into floor {FLOOR[room]}")
            if {name, target} <= ESTIMATORS:
                found.append(f"{where}: the estimators {name} and {target} must not know each other")
            if name in LIFTED and target not in LIFTED[name] and other not in LIFTED[name]:
                found.append(f"{where} imports {target}, but may import only {sorted(LIFTED[name])}")
        elif (room in LIBRARY_FREE and name not in ON_THE_HOST) or name in LIBRARY_FREE_FILES:
            allowed = (name, module, inside) == ("networks.optimizers", "scipy.optimize", True)
            if module.partition(".")[0] in ARRAY_LIBRARIES and not allowed:
                found.append(f"{where} names the array library {module}")
    return found


def circles(sources):
    """The files {name: source} that, by way of others of their folder, import themselves."""
    inner = {
        name: {
            module.removeprefix("teachvae.") for module, _, inside in imports(name, source)
            if module.startswith(f"teachvae.{name.partition('.')[0]}.") and not inside
        }
        for name, source in sources.items()
    }

    def reached(name, seen):
        for other in inner.get(name, set()) - seen:
            seen.add(other)
            reached(other, seen)
        return seen

    return sorted(name for name in inner if name in reached(name, set()))


@pytest.mark.parametrize("name", FILES)
def test_a_file_keeps_to_its_floor(name):
    assert violations(name, FILES[name].read_text(encoding="utf-8")) == []


def test_no_folder_has_a_circle():
    assert circles({name: path.read_text(encoding="utf-8") for name, path in FILES.items()}) == []


def test_the_house_stands():
    assert {name.partition(".")[0] for name in FILES} == set(FLOOR)
    assert ESTIMATORS | ON_THE_HOST | LIBRARY_FREE_FILES | set(LIFTED) <= set(FILES)


@pytest.mark.parametrize("name", [name for name, path in FILES.items() if path.name == "__init__.py"])
def test_the_door_of_a_folder_hands_names_on_and_defines_nothing(name):
    tree = ast.parse(FILES[name].read_text(encoding="utf-8"))
    tables = {"LIKELIHOODS", "POSTERIORS", "__all__"}
    for node in tree.body[1:]:
        table = isinstance(node, ast.Assign) and {target.id for target in node.targets} <= tables
        assert isinstance(node, ast.ImportFrom) or table, ast.unparse(node)


@pytest.mark.parametrize("name, source, complaint", [
    ("networks.layers", "from ..bound import forward", "from floor 4 into floor 2"),
    ("networks.layers", "from .. import bound", "imports bound"),
    ("networks.layers", "from teachvae.bound import forward", "imports bound"),
    ("networks.layers", "import teachvae.bound", "imports bound"),
    ("networks.layers", "from teachvae import bound", "imports bound"),
    ("networks.layers", "def f():\n    from ..bound import forward", "line 2 imports bound"),
    ("networks.layers", "from ..likelihoods import Gaussian", "imports likelihoods"),
    ("messages", "from .arrays import rows", "from floor 1 into floor 0"),
    ("arrays.backend", "from ..networks import layers", "imports networks.layers"),
    ("bound", "from .inference import e_step", "imports inference.e_step"),
    ("bound", "from .mystery import x", "stands on no floor"),
    ("mystery", "", "stands on no floor"),
    ("routes.vae", "from .variational_em import VariationalEM", "must not know each other"),
    ("routes.mixture", "from . import vae", "must not know each other"),
    ("gradcheck.check", "from ..networks.layers import Linear", "may import only ['arrays.backend'"),
    ("gradcheck.check", "from ..arrays import rows", "may import only ['arrays.backend'"),
    ("likelihoods.gaussian", "from ..posteriors.nodes import sigma_points", "imports posteriors.nodes"),
    ("likelihoods.gaussian", "from ..model import Model", "imports model"),
    ("likelihoods.gaussian", "from .. import model", "imports model"),
    ("networks.training", "from ..routes.conventions import Estimator", "imports routes.conventions"),
    ("evaluation.grid", "from ..course.gradient_estimators import exact", "imports course"),
    ("evaluation.nlml", "from ..course import jensen", "imports course.jensen"),
    ("course.trace", "from ..routes.vae import VAE", "imports routes.vae"),
    *((name, source, "names the array library")
      for name in ("bound", "model", "networks.layers", "likelihoods.gaussian", "posteriors.full",
                   "inference.linear_gaussian", "inference.e_step", "course.trace")
      for source in ("import numpy as np", "from numpy.linalg import solve", "def f():\n    import cupy",
                     "import array_api_strict")),
    ("networks.optimizers", "from scipy.optimize import minimize", "names the array library scipy.optimize"),
    ("inference.bfgs", "def f():\n    from scipy.optimize import minimize", "names the array library"),
    ("networks.optimizers", "def f():\n    from scipy import linalg", "names the array library scipy"),
])
def test_a_planted_import_is_found(name, source, complaint):
    assert any(complaint in sentence for sentence in violations(name, source))


@pytest.mark.parametrize("name, source", [
    ("likelihoods", "from .gaussian import Gaussian\nfrom ..arrays.special import sigmoid"),
    ("likelihoods.mixed", "from .gaussian import Gaussian\nfrom ..arrays.backend import namespace"),
    ("routes.vae", "from .. import bound, likelihoods\nfrom .questions import LatentVariableModel"),
    ("networks.optimizers", "def f():\n    from scipy.optimize import minimize"),
    ("posteriors.nodes", "import numpy as np"),
    ("evaluation.grid", "import numpy as np"),
    ("cli", "from .comparison import compare, report"),
    ("cli", "def f():\n    from . import __version__"),
    ("gradcheck.package", "from ..bound import forward\nfrom .check import check"),
])
def test_a_lawful_import_is_let_pass(name, source):
    assert violations(name, source) == []


def test_a_planted_circle_is_found():
    a, b = "from .em import fit", "from . import linear_gaussian"
    sources = {"inference.linear_gaussian": a, "inference.em": b, "inference.bfgs": "from .em import fit"}
    assert circles(sources) == ["inference.em", "inference.linear_gaussian"]


def test_no_line_is_longer_than_a_page_is_wide():
    folders = [PACKAGE, Path(__file__).parent]
    long = [
        f"{path.name}:{number}" for folder in folders for path in sorted(folder.rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1) if len(line) > 110
    ]
    assert long == []


def private_doors(tree):
    """Names with a leading underscore that a syntax tree imports from another file."""
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return [alias.name for node in nodes for alias in node.names if _private(alias.name)]


def _private(name):
    return name.startswith("_") and not name.endswith("__")


@pytest.mark.parametrize("name", FILES)
def test_no_file_goes_through_anothers_private_door(name):
    assert private_doors(ast.parse(FILES[name].read_text(encoding="utf-8"))) == []


def test_a_private_door_is_found():
    source = "from . import __version__\ndef f():\n    from .validate import _check, check"
    assert private_doors(ast.parse(source)) == ["_check"]


def undocumented(tree, before=""):
    """Names of the public functions, classes and methods of a syntax tree that have no docstring."""
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            if not ast.get_docstring(node):
                yield before + node.name
            if isinstance(node, ast.ClassDef):
                yield from undocumented(node, f"{before}{node.name}.")


@pytest.mark.parametrize("name", FILES)
def test_everything_public_says_what_it_is(name):
    assert list(undocumented(ast.parse(FILES[name].read_text(encoding="utf-8")))) == []


def test_a_missing_docstring_is_found():
    source = 'class A:\n    """It."""\n    def b(self):\n        pass\n    def _c(self):\n        pass'
    assert list(undocumented(ast.parse(source))) == ["A.b"]
