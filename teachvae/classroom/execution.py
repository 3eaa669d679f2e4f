"""One submitted notebook, executed and judged in a process of its own, which `submissions` starts and ends.

The cells run in their order; one that raises is noted, and the next one runs. In the place of a check cell
stands a check of the lecturer's: what the notebook has done to NumPy, to built-in functions or to its own
copy of this package does not reach it. What was found goes back through a pipe, a line of JSON each:

    {"exercise": "02-1", "outcome": "right", "lines": […]}   {"cell": 3, "error": "raises …"}
    {"note": "…"}   {"started": true}   {"done": true}

That keeps accidents and simple tricks out. It is no sandbox: docs/course.md says what gets around it.
"""

from contextlib import contextmanager
from dataclasses import replace
import json
import linecache
import os
from pathlib import Path
import re
import signal
import sys
from time import monotonic
import types

from ..course import grade
from ..course.exercises.table import EXERCISES

LONGEST = 400                                                      # characters of a sentence that goes back
LARGEST_FILE = 256 * 2**20                                         # bytes
NETWORK = {
    "socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo",
    "socket.getnameinfo", "socket.gethostbyname", "socket.gethostbyaddr",
}
PROGRAMS = {
    "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty",
    "os.startfile", "os.startfile/2", "pty.spawn", "os.kill", "os.killpg",
}
CHANGES = {                                                        # {event: places of paths, and of dir_fd}
    "os.remove": ((0,), 1), "os.rmdir": ((0,), 1), "os.mkdir": ((0,), 2), "os.rename": ((0, 1), 2),
    "os.link": ((0, 1), 2), "os.symlink": ((1,), 2), "os.truncate": ((0,), None), "os.chmod": ((0,), 2),
    "os.chown": ((0,), 3), "os.utime": ((0,), 3), "os.setxattr": ((0,), None), "shutil.rmtree": ((0,), 1),
}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
MAGIC = re.compile(r"\s*[%!]|.*\?\s*$")
KEPT = "builtins", "numpy", "scipy", "math", "inspect", "dis", "linecache", "traceback", "dataclasses", "copy"


class Overtime(KeyboardInterrupt):
    """A cell, or an answer, has taken its share of the time; no `except Exception` keeps it."""


def main():
    """Do the job that stands in stdin, and end."""
    job = json.loads(sys.stdin.buffer.read())
    results, null = os.dup(1), os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):                                   # what is printed goes nowhere
        os.dup2(null, descriptor)
    sys.dont_write_bytecode = True
    run = Run(job, results)
    if not limit_memory(job["memory"]):
        run.say(note="the memory of a notebook cannot be limited on this system")
    forbid([os.getcwd(), job["cache"]])
    run.say(started=True)
    run.all()
    os._exit(0)                                                    # threads of the notebook may still run


class Run:
    """A job: cells, their names and what is asked; `all` executes it."""

    def __init__(self, job, results):
        self.job, self.results, self.process = job, results, os.getpid()
        self.end = monotonic() + job["seconds"]
        self.kept = {module: dict(vars(module)) for name, module in list(sys.modules.items())
                     if name.partition(".")[0] in KEPT}
        self.own = _take_out()                                     # the notebook will import another copy
        self.page = types.ModuleType("__main__")
        sys.modules["__main__"] = self.page
        vars(self.page)["display"] = lambda *shown, **options: None  # as a kernel has

    def all(self):
        """Execute every cell, judge every exercise, and say so."""
        judged = set()
        for place, cell in enumerate(self.job["cells"], 1):
            if cell["check"]:
                if cell["exercise"] in self.job["asked"]:
                    self.judge(cell["exercise"], cell["answer"])
                    judged.add(cell["exercise"])
                continue
            self.cell(place, cell["source"])
        for name in self.job["asked"]:                             # its check cell was deleted
            if name not in judged:
                self.judge(name)
        self.say(done=True)

    def cell(self, place, source):
        """Execute a cell, and say what it raised."""
        name = f"<cell {place}>"
        try:
            code, plain = _compiled(source, name)
            if plain != source:
                self.say(note=f"cell {place}: a line for IPython alone (% or !) was left out")
            linecache.cache[name] = len(plain), None, plain.splitlines(keepends=True), name
            with at_most(self.left() / 2), self.restored():
                exec(code, vars(self.page))
        except Overtime as error:
            self.say(cell=place, error=f"{error}: does it end?")
        except BaseException as error:                             # sys.exit and what else there is
            self.say(cell=place, error=f"raises {_short(error)}")
        if os.getpid() != self.process:                            # forked, by roads that nobody sees
            os._exit(0)
        if "matplotlib.pyplot" in sys.modules:
            try:
                sys.modules["matplotlib.pyplot"].close("all")
            except BaseException as error:
                self.say(cell=place, error=f"raises {_short(error)}")

    def judge(self, name, answer=""):
        """Check what the page has under the name that is asked for, or under that of its check cell."""
        exercise, page = EXERCISES[name], vars(self.page)
        given = page.get(exercise.asks, page.get(answer))
        EXERCISES[name] = replace(
            exercise, draw=exercise.draw and self.ours(exercise.draw), judge=self.ours(exercise.judge),
            mistakes={says: self.ours(made) if callable(made) else made
                      for says, made in exercise.mistakes.items()},
        )
        try:
            with at_most(self.left() / 2), self.restored():
                verdict = grade.check(name, given, seed=self.job["seed"])
            self.say(exercise=name, outcome=verdict.outcome, lines=[line[:LONGEST] for line in verdict.lines])
        except Overtime as error:
            self.say(exercise=name, outcome="not yet", lines=[f"it {error}: does it end?"])
        except BaseException as error:
            self.say(exercise=name, outcome="not yet", lines=[f"it cannot be judged: {_short(error)}"])
        finally:
            EXERCISES[name] = exercise

    def ours(self, function):
        """The function, called among our modules, whatever the answer before it has changed."""
        def called(*given, **named):
            theirs = _take_out()
            sys.modules.update(self.own)
            try:
                self.restore()
                return function(*given, **named)
            finally:
                self.own = _take_out()
                sys.modules.update(theirs)

        return called

    def restore(self):
        """Put back what was replaced in NumPy, in SciPy and among the built-in functions."""
        for module, names in self.kept.items():
            now = module.__dict__
            for name, value in names.items():
                if now.get(name, now) is not value:
                    now[name] = value

    @contextmanager
    def restored(self):
        """Restore at the end, however it is reached: what comes next needs its built-in functions."""
        try:
            yield
        finally:
            self.restore()

    def left(self):
        """Seconds that are left: of them a cell may take half, so that there is always some for the next."""
        return max(self.end - monotonic(), 0.2)

    def say(self, **fields):
        """Send a line back."""
        if os.getpid() == self.process:
            line = json.dumps(fields).encode("ascii") + b"\n"
            while line:
                line = line[os.write(self.results, line):]


@contextmanager
def at_most(seconds):
    """Raise Overtime in what runs for longer; where the system has no such clock, nothing is raised."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def stop(*_):
        raise Overtime(f"was stopped after {seconds:.0f} s")

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def limit_memory(gibibytes):
    """Limit memory and the size of files; returns whether memory is limited.

    Not the computing time: under such a limit the kernel measures it by its ticks, and notebooks measure too.
    """
    try:
        import resource
    except ImportError:                                            # Windows
        return False
    limited = sys.platform != "darwin"                             # macOS takes the limit, and ignores it
    allowed = int(gibibytes * 2**30)
    for kind, most in ("RLIMIT_CORE", 0), ("RLIMIT_FSIZE", LARGEST_FILE), ("RLIMIT_AS", allowed):
        try:
            resource.setrlimit(getattr(resource, kind), (most, most))
        except (AttributeError, ValueError, OSError):
            limited = limited and kind != "RLIMIT_AS"
    return limited


def forbid(folders):
    """Refuse from now on the network, other programs, and changes of files outside `folders`.

    A hook of the interpreter's cannot be taken off again; ctypes, and what it can call, it does not hear of.
    """
    roots = [os.path.realpath(folder) for folder in folders]

    def inside(path, folder=None):
        if isinstance(path, int):                                  # open already
            return True
        path = os.fsdecode(path)
        if isinstance(folder, int) and folder >= 0:
            try:
                path = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), path)
            except OSError:                                        # no /proc; its folder was looked at
                return True
        path = os.path.realpath(path)
        return path == os.devnull or any(Path(path).is_relative_to(root) for root in roots)

    def hook(event, arguments):
        if event in NETWORK:
            raise PermissionError("a submitted notebook is executed offline")
        if event in PROGRAMS:
            raise PermissionError("a submitted notebook may not start another program, nor end one")
        if event == "open":
            path, mode, flags = arguments
            if path is None or not (flags & WRITES or isinstance(mode, str) and set(mode) & set("wax+")):
                return
            changed, folder = [path], None
        elif event in CHANGES:
            places, at = CHANGES[event]
            changed = [arguments[place] for place in places]
            folder = arguments[at] if at is not None and len(arguments) > at else None
        else:
            return
        if not all(inside(path, folder) for path in changed):
            raise PermissionError("a submitted notebook may change files in its own folder alone")

    sys.addaudithook(hook)


def _compiled(source, name):
    """The code of a cell, and its text; where it is no Python, without the lines that are for IPython."""
    try:
        return compile(source, name, "exec", dont_inherit=True), source
    except SyntaxError:
        lines = source.splitlines()
        if source.lstrip().startswith("%%"):                       # all of the cell
            lines = ["pass"]
        plain = "\n".join(
            line[: len(line) - len(line.lstrip())] + "pass" if MAGIC.match(line) else line for line in lines
        )
        if plain == source:
            raise
        return compile(plain, name, "exec", dont_inherit=True), plain


def _take_out():
    """Take all modules of this package out of those that are imported; {name: module}."""
    package = __package__.partition(".")[0]
    ours = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == package}
    for name in ours:
        del sys.modules[name]
    return ours


def _short(error):
    """An error in a line, whatever it makes of itself."""
    try:
        says = " ".join(str(error).split())[:LONGEST]
        return f"{type(error).__name__}: {says}" if says else type(error).__name__
    except BaseException:
        return "an error that cannot be read"


