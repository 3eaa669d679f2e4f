"""The command line: `teachvae compare`, `explore`, `gradcheck`, `doctor`; for a course `course` and `grade`.

stdout holds the result, stderr everything else. Exit status: 0 ok, 1 a check failed, 2 bad input,
130 interrupted, 141 nobody reads the result any more.
"""

import argparse
import json
import os
from pathlib import Path
import sys
import time
import warnings


def main(argv=None):
    """Run the command line `argv` (None: that of the process) and return the exit status."""
    # The matrices are small: one BLAS thread is as fast as two, and does not wait for the second where
    # another program has that core. It has to be said before NumPy is imported; `doctor` tells how it is, and
    # what `course` starts finds it as it is.
    if not {"doctor", "course"} & set(sys.argv[1:] if argv is None else argv):
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from .arrays.backend import BackendError
    from .arrays.ranks import RanksError
    from .networks.training import TrainingError

    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="replace")
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        status = arguments.run(arguments)
        sys.stdout.flush()
        return status
    except BrokenPipeError:                                        # as in: teachvae gradcheck | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        kept = getattr(arguments, "save", None)
        how = "" if kept is None else f"; the same command with --resume goes on from {kept}"
        print(f"teachvae: interrupted{how}", file=sys.stderr)
        return 130
    except (ValueError, OSError, ImportError, BackendError, RanksError, TrainingError) as error:
        if arguments.debug:
            raise
        print(f"teachvae: error: {error}", file=sys.stderr)
        return 2


def _parser():
    from . import __version__
    from .likelihoods import LIKELIHOODS

    parser = argparse.ArgumentParser(
        prog="teachvae",
        description="Factor analysis, variational EM and the VAE, from scratch, on one bound.",
    )
    parser.add_argument("--version", action="version", version=f"teachvae {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")

    compare = commands.add_parser(
        "compare",
        help="train every route on one data set: a table, and a report with pictures",
        description="Train factor analysis, variational EM (linear and neural), the linear VAE, the VAE "
        "and an autoencoder on the same split of the same data; print one table and write report.html.",
    )
    compare.add_argument(
        "--data",
        default="digits",
        metavar="NAME|FILE",
        help="digits, mnist, linear, spiral, bent_sheet, a .csv, .tsv, .txt, .npy or .npz file, or a folder "
        "of IDX files (default: digits)",
    )
    compare.add_argument(
        "--header",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="whether the first line of a .csv file holds the columns' names (default: where it is plain)",
    )
    compare.add_argument(
        "--separator",
        choices=[",", ";", "tab"],
        help="what stands between the cells of a .csv file (default: what the file leaves no doubt of)",
    )
    compare.add_argument("--decimal", choices=[".", ","], help="the decimal mark of a .csv file, likewise")
    compare.add_argument(
        "--encoding",
        metavar="NAME",
        help="that of a .csv file's text, such as latin-1 (default: UTF-8, or UTF-16 where it says so)",
    )
    compare.add_argument(
        "--labels",
        metavar="COLUMN",
        help="the column of a .csv file that holds a class for each data case, for the probe and the colours "
        "of pictures; by name, or by number, counted from 1, where columns have no names",
    )
    compare.add_argument(
        "--leave-out",
        nargs="+",
        action="extend",
        metavar="COLUMN",
        help="columns of a .csv file that are not to be modelled, likewise",
    )
    compare.add_argument(
        "--missing",
        nargs="*",
        action="extend",
        metavar="CODE",
        help="data with missing entries: an empty cell, NA, N/A, NaN, null, None, ?, . and -, and these "
        "codes, e.g. --missing -999. They are integrated out; a model that cannot is said to have no numbers",
    )
    compare.add_argument("--latent", type=_size, default=2, metavar="K", help="latent size (default: 2)")
    compare.add_argument(
        "--hidden",
        type=_sizes,
        default=(64, 64),
        metavar="SIZES",
        help="hidden sizes of the neural decoders, from z to x, e.g. 64,64 (the default)",
    )
    compare.add_argument(
        "--likelihood",
        choices=list(LIKELIHOODS),
        help="what p(x|z) is (default: gaussian, and bernoulli with --binarise). bernoulli needs 0 and 1, "
        "poisson counts, categorical few different values per column",
    )
    compare.add_argument(
        "--binarise",
        choices=["fixed", "fresh", "threshold"],
        help="make grey values 0 and 1 for the Bernoulli likelihood: one draw, a new draw for every "
        "minibatch of the VAEs, or a cut at one half (the default for images with --likelihood bernoulli)",
    )
    compare.add_argument("--cases", type=_size, metavar="N", help="use the first N data cases (default: all)")
    compare.add_argument("--seed", type=_natural, default=0, help="split, starts and noise (default: 0)")
    compare.add_argument(
        "--seeds", type=_size, default=1, metavar="R", help="repeat R times, give the spread"
    )
    compare.add_argument(
        "--epochs",
        type=_size,
        default=300,
        metavar="E",
        help="passes over the data for the networks (default: 300); variational EM takes E/5 rounds of five",
    )
    compare.add_argument(
        "--ledger",
        type=_natural,
        metavar="CASES",
        help="how many cases of each part the ledger measures, at the most (default: 1500, and 100 where "
        "K > 2; 0: none)",
    )
    compare.add_argument(
        "--early-stopping",
        action="store_true",
        help="set a tenth of the training data aside for the neural models, keep the parameters of its least "
        "Q, and end where a tenth of the epochs brought no new least",
    )
    compare.add_argument("--dtype", choices=["float64", "float32"], default="float64")
    compare.add_argument("--backend", choices=["numpy", "cupy", "auto"], default="numpy")
    compare.add_argument(
        "--jobs",
        type=_jobs,
        default=-1,
        metavar="THREADS",
        help="threads that share the E-steps and the ledger; the numbers do not depend on them (default: -1, "
        "as many as there are cores)",
    )
    compare.add_argument(
        "--comm",
        choices=["serial", "mpi"],
        default="serial",
        help="mpi: share the data cases and the ledger out over the ranks, mpiexec -n 2 python -m mpi4py -m "
        "teachvae compare --comm mpi; data that any model refuses end the job (default: serial)",
    )
    compare.add_argument(
        "--output",
        type=Path,
        default=Path("teachvae-report"),
        metavar="FOLDER",
        help="where report.html goes (default: teachvae-report)",
    )
    compare.add_argument(
        "--save",
        type=Path,
        metavar="FOLDER",
        help="keep the split, every model and its ledger there as they are done; teachvae.load reads a model",
    )
    compare.add_argument(
        "--resume",
        action="store_true",
        help="go on with an interrupted comparison in the folder of --save, a model in training from its "
        "last epoch (its seconds are then those since)",
    )
    compare.add_argument("--json", action="store_true", help="print JSON instead of the table")
    compare.set_defaults(run=_compare)

    gradcheck = commands.add_parser(
        "gradcheck",
        help="check every gradient against finite differences",
        description="Check every layer, likelihood, posterior and bound against central differences.",
    )
    gradcheck.add_argument(
        "part", nargs="?", metavar="FILE.py:NAME",
        help="instead, a part of your own: a layer, network, likelihood or family of q by its name in a file",
    )
    gradcheck.add_argument("--seed", type=_natural, default=0)
    gradcheck.set_defaults(run=_gradcheck)

    doctor = commands.add_parser(
        "doctor",
        help="say what this machine computes with, what is missing and what is broken",
        description="Try NumPy, and what is used where it is installed: Numba, threadpoolctl, MPI, CuPy. "
        "Exit status 1 where something that is installed does not work.",
    )
    doctor.set_defaults(run=_doctor)

    explore, course, grade = _explore_parser(commands), _course_parser(commands), _grade_parser(commands)

    for command in (compare, gradcheck, doctor, explore, course, grade):
        command.add_argument("--quiet", action="store_true", help="nothing on stderr but errors")
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def _course_parser(commands):
    course = commands.add_parser(
        "course",
        help="start the course in JupyterLab, say what is done of it, or plant a fault for a class to find",
        description="Start JupyterLab on the notebooks of the course. With an option: say how far they are "
        "done, plant a published fault in a copy of the package, or check the package. Exit status 1 where "
        "Jupyter ends badly or a check fails.",
    )
    course.add_argument(
        "folder", nargs="?", type=Path, metavar="FOLDER",
        help="the folder of the notebooks (default: notebooks, here or beside the package)",
    )
    instead = course.add_mutually_exclusive_group()
    instead.add_argument(
        "--progress", action="store_true",
        help="instead, a table of what is done, read from the saved notebooks; nothing is sent anywhere",
    )
    instead.add_argument(
        "--break", dest="fault", metavar="NAME",
        help="instead, a copy of the package with a published fault in it, such as B3; list names them all",
    )
    instead.add_argument(
        "--check", choices=["gradients", "bound", "moments", "values", "checker", "all"],
        help="instead, check the package that this is, as for a fault planted by --break",
    )
    course.add_argument(
        "--output", type=Path, metavar="FOLDER", help="where --break copies to (default: teachvae-NAME)"
    )
    course.add_argument(
        "--tell", action="store_true", help="with --break: plant nothing, say what the fault is and where"
    )
    course.set_defaults(run=_course)
    return course


def _grade_parser(commands):
    grade = commands.add_parser(
        "grade",
        help="judge the exercises of a folder of submitted notebooks",
        description="Execute every notebook of a folder, and of folders in it, one per student, each in a "
        "process of its own, and judge its exercises. What this does not protect against: docs/course.md. "
        "Exit status 1 where a notebook could not be judged to its end.",
    )
    grade.add_argument("folder", type=Path, metavar="FOLDER")
    grade.add_argument(
        "--csv", nargs="?", const="-", metavar="FILE",
        help="a line for every exercise of every notebook, to a file, or in the place of the table",
    )
    grade.add_argument(
        "--seconds", type=_size, default=120, metavar="S",
        help="after which a notebook is stopped (default: 120)",
    )
    grade.add_argument(
        "--memory", type=_positive, default=4.0, metavar="GIB", help="memory that it may have (default: 4)"
    )
    grade.add_argument(
        "--seed", type=_natural, help="of the data of all exercises (default: drawn once, and told)"
    )
    grade.add_argument(
        "--jobs", type=_jobs, default=1, metavar="N",
        help="notebooks that are executed at a time (default: 1; -1: as many as there are cores)",
    )
    grade.set_defaults(run=_grade)
    return grade


def _explore_parser(commands):
    explore = commands.add_parser(
        "explore",
        help="a page on which saved models with K = 2 are played with: z, q, the posterior, the ledger",
        description="Write one HTML file, which needs neither a network nor anything installed, on which "
        "saved models with two latent variables are explored, data case by data case.",
    )
    explore.add_argument(
        "models", nargs="+", type=Path, metavar="FILE.npz|FOLDER",
        help="models that were saved, one tab each; or the FOLDER of teachvae compare --save: its factor "
        "analysis, variational EM and VAE, with the data that were held out",
    )
    explore.add_argument(
        "--data", metavar="NAME|FILE",
        help="the data cases to be shown, as for compare (default: those held out of a FOLDER, else digits)",
    )
    explore.add_argument(
        "--cases", type=_size, default=200, metavar="N", help="how many, at the most (default: 200)"
    )
    explore.add_argument(
        "--output", type=Path, default=Path("explorer.html"), metavar="FILE.html",
        help="where the page goes (default: explorer.html)",
    )
    explore.set_defaults(run=_explore)
    return explore


def _explore(arguments):
    from .comparison import explorer

    models, dataset = explorer.opened(arguments.models, arguments.data)
    path = explorer.write(models, dataset, arguments.output, cases=arguments.cases)
    if not arguments.quiet:
        size = path.stat().st_size / 1000
        print(f"{', '.join(models)}; {dataset.name}: {size:.0f} kB, open it in a browser", file=sys.stderr)
    print(path)
    return 0


def _compare(arguments):
    from .arrays import ranks
    from .comparison.result import compare
    from .datasets.readers import ReadingWarning

    comm = ranks.comm(arguments.comm)
    arguments.quiet = arguments.quiet or comm.rank > 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ReadingWarning)  # its words stand in the note
        dataset, likelihood, binarise = _data(arguments)
    if not arguments.quiet and Path(arguments.data).is_file():
        print(f"note: {dataset.source}: {dataset.note}", file=sys.stderr)
    if arguments.resume and arguments.save is not None and not (arguments.save / "comparison.npz").exists():
        print(f"note: {arguments.save} holds no comparison to go on with: it is begun anew", file=sys.stderr)
    arguments.output.mkdir(parents=True, exist_ok=True)  # a bad folder is found before the training

    progress = None if arguments.quiet else _Progress()
    start = time.perf_counter()
    n_jobs = arguments.jobs if arguments.backend == "numpy" else None
    if comm.size > 1 and n_jobs == -1:
        n_jobs = 1                                                 # the ranks are as many as there are cores
    result = compare(
        dataset,
        arguments.latent,
        hidden=arguments.hidden,
        likelihood=likelihood,
        binarise=binarise,
        seed=arguments.seed,
        seeds=arguments.seeds,
        epochs=arguments.epochs,
        dtype=arguments.dtype,
        backend=arguments.backend,
        ledger=arguments.ledger,
        early_stopping=arguments.early_stopping,
        progress=progress,
        n_jobs=n_jobs,
        save=arguments.save,
        resume=arguments.resume,
        comm=comm,
    )
    if progress is not None:
        progress.close()
    if comm.rank > 0:                                              # rank 0 says it
        return 1 if result.failures else 0
    path = result.report(arguments.output)
    written = time.perf_counter() - start

    print(json.dumps(result.as_json(), indent=2) if arguments.json else result)
    if not arguments.quiet:
        for model, remark in result.remarks:
            print(f"note: {model}: {remark}", file=sys.stderr)
        for_the_report = written - result.seconds
        print(f"{written:.1f} s, of them {for_the_report:.1f} s for the report: {path}", file=sys.stderr)
    for failure in result.failures:
        print(f"check failed: {failure}", file=sys.stderr)
    return 1 if result.failures else 0


def _data(arguments):
    """The data set, the likelihood and the way to binarise that the arguments ask for."""
    from . import datasets

    likelihood, binarise = arguments.likelihood, arguments.binarise
    images = arguments.data in ("digits", "mnist") or Path(arguments.data).is_dir()
    if binarise is not None and likelihood not in (None, "bernoulli"):
        raise ValueError(
            f"--binarise makes data for --likelihood bernoulli, not for {likelihood}: leave one out"
        )
    if binarise is None and images and likelihood == "bernoulli":
        binarise = "threshold"
    likelihood = likelihood or ("gaussian" if binarise is None else "bernoulli")
    choices = {}
    if images and (binarise is not None or likelihood == "bernoulli-relaxed"):
        choices["dequantise"] = False                              # grey values themselves
    if arguments.cases is not None and images and arguments.data != "digits":
        choices["n_cases"] = arguments.cases
    separator = "\t" if arguments.separator == "tab" else arguments.separator
    of_file = {"header": arguments.header, "separator": separator, "decimal": arguments.decimal,
               "encoding": arguments.encoding, "labels": arguments.labels, "leave_out": arguments.leave_out,
               "missing_values": arguments.missing}
    choices |= {name: value for name, value in of_file.items() if value is not None}
    dataset = datasets.load(arguments.data, **choices)
    if arguments.cases is not None:
        dataset = datasets.first(dataset, arguments.cases)
    return dataset, likelihood, binarise


def _gradcheck(arguments):
    if arguments.part is not None:
        return _gradcheck_of(arguments.part, arguments.seed)
    from .gradcheck import package

    results = package.run(arguments.seed)
    print(package.format(results))
    return 0 if all(report.ok for _, report in results) else 1


def _gradcheck_of(name, seed):
    """Check the object that FILE.py:NAME names; exit status 0 where nothing is wrong or open."""
    import runpy

    from .gradcheck import part

    path, colon, name = name.rpartition(":")
    if not colon or not path.endswith(".py"):
        raise ValueError(f"expected FILE.py:NAME, such as laplace.py:part, got {path + colon + name!r}")
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))     # as where python FILE.py runs it
    found = runpy.run_path(path)
    if name not in found:
        own = [key for key, value in found.items() if getattr(value, "__module__", None) == "<run_path>"]
        raise ValueError(f"{path} has no {name}; it has {', '.join(own) or 'nothing of its own'}")
    candidate = found[name]
    if isinstance(candidate, type):
        raise ValueError(
            f"{name} is a class: make an object of it in {path}, part = {name}(…), and give its name, part"
        )
    try:
        report = part(candidate, seed=seed)
    except TypeError as error:
        raise ValueError(str(error)) from error
    print(report)
    return 0 if report.ok else 1


def _doctor(arguments):
    from .arrays import doctor
    from .messages import align

    findings = doctor.examine()
    print(align([doctor.Finding._fields, *findings], heads=1))
    return 1 if any(finding.state == doctor.BROKEN for finding in findings) else 0


def _course(arguments):
    from .classroom import command

    if arguments.fault is None and (arguments.output is not None or arguments.tell):
        raise ValueError("--output and --tell belong to --break NAME")
    if arguments.fault is not None:
        return command.plant(arguments.fault, arguments.output, arguments.tell)
    if arguments.check is not None:
        return command.check(arguments.check)
    if arguments.progress:
        return command.progress(arguments.folder, arguments.quiet)
    return command.start(arguments.folder, arguments.quiet)


def _grade(arguments):
    from .classroom import command

    return command.grade(
        arguments.folder, arguments.csv, seed=arguments.seed, seconds=arguments.seconds,
        memory=arguments.memory, jobs=arguments.jobs, quiet=arguments.quiet,
    )


class _Progress:
    """One bar per model on a terminal; elsewhere one line when a model is done."""

    def __init__(self):
        self.bar, self.title = None, None

    def __call__(self, title, step, steps, value):
        terminal = sys.stderr.isatty()
        if title != self.title or step < self.step:
            self.close()
            self.title, self.start = title, time.perf_counter()
            if terminal:
                from tqdm import tqdm

                self.bar = tqdm(total=steps, desc=title, leave=True, file=sys.stderr)
        self.step = step
        seconds = time.perf_counter() - self.start
        self.last = f"{title}: {step} steps, {value:.3f}, {seconds:.1f} s"
        if self.bar is not None:
            self.bar.update(step - self.bar.n)
            self.bar.set_postfix_str(f"{value:.3f}", refresh=False)

    def close(self):
        """End the bar or the line of the model in hand."""
        if self.bar is not None:
            self.bar.close()
        elif self.title is not None:
            print(self.last, file=sys.stderr)
        self.bar, self.title = None, None


def _size(text):
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected an integer >= 1, got {text!r}")
    return int(text)


def _jobs(text):
    if text != "-1" and not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"expected an integer >= 1, or -1 for every core, got {text!r}")
    return int(text)


def _natural(text):
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"expected an integer >= 0, got {text!r}")
    return int(text)


def _positive(text):
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number > 0, got {text!r}")
    return number


def _sizes(text):
    return tuple(_size(part.strip()) for part in text.split(",")) if text.strip() else ()


if __name__ == "__main__":
    sys.exit(main())
