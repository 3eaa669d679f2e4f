"""What a mutant is, and how it is planted: a fault told by what it changes in a formula, found by its syntax.

    faults = faults_in("posteriors/diagonal.py", "test_components.py")
    faults("the KL has +1 for −1",
           ("DiagonalGaussian.kl", "m * m + s2 - 1 - 2 * log_s", "m * m + s2 + 1 - 2 * log_s"))

is the file below teachvae/, the tests to be tried first; the fault in words, the function, what stands there,
and what stands there instead. Blanks, line breaks, comments and where in the function the formula stands do
not matter; one that is gone, or stands there twice, is refused aloud: no fault is lost in silence.
"""

import ast
from dataclasses import dataclass
from functools import lru_cache
import re

DEFINITIONS = ast.FunctionDef, ast.ClassDef


@dataclass(frozen=True)
class Change:
    """One place of a mutant: `stands`, an expression or a statement, of the function `where` of a `file` of
    the package becomes `instead`. where is Class.method, function.inner, or "" for what stands outside.
    """

    file: str
    where: str
    stands: str
    instead: str


@dataclass(frozen=True)
class Mutant:
    """A fault: its name in words, the changes that make it, and the tests that are tried first, paths below
    tests/, or tests within them as pytest has them.
    """

    name: str
    changes: tuple
    tests: tuple

    @property
    def places(self):
        """Where it is, for a table: file and function of its first change."""
        first = self.changes[0]
        return f"{first.file} {first.where}".rstrip()


def faults_in(file, *tests):
    """A maker of the mutants of a file of the package, which are tried on `tests` first.

    It takes the fault in words, then its changes (where, stands, instead), or with the file before these
    where that is another one; `first` are tests that are tried before the others.
    """
    def fault(name, *changes, first=()):
        wholes = (change if len(change) == 4 else (file, *change) for change in changes)
        return Mutant(name, tuple(Change(*whole) for whole in wholes), (*first, *tests))

    return fault


class Moved(LookupError):
    """A formula is not where a mutant says that it is."""


def planted(mutant, read):
    """{file: source} of the files that a mutant changes; read(file) is the source as it is.

    Raises Moved where a formula does not stand in its function exactly once.
    """
    sources = {}
    for change in mutant.changes:
        source = sources.get(change.file) or read(change.file)
        try:
            sources[change.file] = _changed(source, change)
        except Moved as moved:
            raise Moved(f"mutant “{mutant.name}”: {moved}") from None
    return sources


def equations(mutant, read):
    """The numbers of the equations on the lines that a mutant changes, as "(3.4)"."""
    found = []
    for change in mutant.changes:
        source = read(change.file)
        place = _place(source, change)
        lines = source.splitlines()[place.lineno - 1 : place.end_lineno]
        found += re.findall(r"\(\d+\.\d+\)", "\n".join(line.partition("#")[2] for line in lines))
    return " ".join(dict.fromkeys(found))


def _changed(source, change):
    """The source with a change made, and all its other lines as they were."""
    place = _place(source, change)
    instead = f"({change.instead})" if isinstance(place, ast.expr) else change.instead
    lines = [line.encode() for line in source.splitlines(keepends=True)]  # columns are counted in bytes
    start = sum(map(len, lines[: place.lineno - 1])) + place.col_offset
    stop = sum(map(len, lines[: place.end_lineno - 1])) + place.end_col_offset
    whole = b"".join(lines)
    changed = (whole[:start] + instead.encode() + whole[stop:]).decode()
    ast.parse(changed)                                             # a fault is one of the formula
    return changed


def _place(source, change):
    """The one node of a source that a change is about."""
    scope = _scope(_tree(source), change)
    (wanted,), (instead,) = ast.parse(change.stands).body, ast.parse(change.instead).body
    if ast.dump(wanted) == ast.dump(instead):
        raise ValueError(f"{change.stands!r} and {change.instead!r} are the same")
    if isinstance(wanted, ast.Expr) and isinstance(instead, ast.Expr):
        wanted = wanted.value                                      # wherever it stands within a statement
    shape = ast.dump(wanted)
    kind = ast.expr if isinstance(wanted, ast.expr) else ast.stmt
    found = [node for part in scope for node in ast.walk(part) if isinstance(node, kind)]
    found = [node for node in found if ast.dump(node) == shape]
    if len(found) != 1:
        times = f"stands {len(found)} times" if found else "does not stand"
        raise Moved(
            f"the formula has moved: {change.stands!r} {times} in {change.where or 'the top level'} of "
            f"teachvae/{change.file}; say where it stands now, or what took its place"
        )
    return found[0]


@lru_cache(maxsize=8)
def _tree(source):
    return ast.parse(source)


def _scope(tree, change):
    """The nodes among which a change is looked for: a function or class, or what stands outside of them."""
    if not change.where:
        return [node for node in tree.body if not isinstance(node, DEFINITIONS)]
    scope = tree
    for name in change.where.split("."):
        inner = [node for node in _definitions(scope) if node.name == name]
        if len(inner) != 1:
            raise Moved(
                f"the function has moved: teachvae/{change.file} has {len(inner)} of {change.where}; say "
                "where its formula stands now"
            )
        scope = inner[0]
    return [scope]


def _definitions(scope):
    """The functions and classes that stand in a scope, and not in one of those."""
    for node in ast.iter_child_nodes(scope):
        if isinstance(node, DEFINITIONS):
            yield node
        else:
            yield from _definitions(node)
