"""`python -m benchmarks` runs all benchmarks, or those named, each in a process of its own per thread count.

The table goes to the screen and, as Markdown and JSON, to the folder given by --output, the figure of growth
beside it. `python -m benchmarks iwae` is another thing, with options of its own: it trains for hours.
"""

import argparse
import importlib
import json
import os
from pathlib import Path
import subprocess
import sys

from . import iwae
from .measure import machine

NAMES = ("vae_step", "e_step", "sampling", "factor_analysis", "startup", "growth", "gpu")
PLAIN = ("exponent", "MB at most")                                 # no ratios
ONCE = ("growth", "gpu")                                           # for one number of threads alone


def main():
    if sys.argv[1:2] == ["iwae"]:
        return iwae.main(sys.argv[2:])
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all by default")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="of the matrix products")
    parser.add_argument("--output", type=Path, default=Path("benchmark-results"), help="folder for the table")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    for name in options.names:
        if name not in NAMES:
            parser.error(f"no benchmark is called {name!r}; there are {', '.join(NAMES)}")
    if options.worker:
        if hasattr(os, "sched_setaffinity") and options.names[0] != "gpu":
            # JAX asks the machine, not the environment.
            cores = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(0, cores[: options.threads[0]])
        more = {"output": options.output} if options.names[0] == "growth" else {}
        rows, remarks = importlib.import_module(f"benchmarks.{options.names[0]}").run(**more)
        print(json.dumps({"rows": rows, "remarks": remarks, "machine": machine()}))
        return
    options.output.mkdir(parents=True, exist_ok=True)
    results = []
    for name in options.names or NAMES:
        for threads in options.threads[:1] if name in ONCE else options.threads:
            print(f"{name}, {threads} thread(s) …", flush=True)
            results.append({"name": name, "threads": threads, **measured(name, threads, options.output)})
    text = table(results)
    (options.output / "results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    (options.output / "results.md").write_text(text, encoding="utf-8")
    print(text)


def measured(name, threads, output):
    """One benchmark in a process of its own, its libraries held to `threads`."""
    variables = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(variables, str(threads))}
    if name != "gpu":
        environment["JAX_PLATFORMS"] = "cpu"
    command = [sys.executable, "-m", "benchmarks", name, "--worker"]
    command += ["--threads", str(threads), "--output", str(output)]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def table(results):
    """The results as Markdown, one line per benchmark and peer, one column per number of threads."""
    where = results[0]["machine"]
    versions = ", ".join(f"{name} {v}" for name, v in where["versions"].items() if v)
    threads = sorted({result["threads"] for result in results})
    titles = "benchmark", "against", *(f"threads: {n}" for n in threads), "nats above the best, theirs / ours"
    lines = [
        f"{where['processor']}, {where['cores']} cores, {where['system']}, Python {where['python']}, "
        f"{versions}.",
        "The peer's time over ours (what is bare, import numpy: ours over theirs): median [quartiles], or "
        "of whole fits the median alone. Lines of growth: the exponent, or megabytes at most. Nats above the "
        "best: NLML of factor analysis, Q of an E-step.",
        "",
        f"| {' | '.join(titles)} |",
        "|---" * (3 + len(threads)) + "|",
    ]
    cells, excess = {}, {}
    for result in results:
        for row in result["rows"]:
            key = row["size"], row["peer"]
            cells.setdefault(key, {})[result["threads"]] = cell(row)
            excess[key] = f"{row['excess']:.1e} / {row['our_excess']:.1e}" if "excess" in row else ""
    for (size, peer), found in cells.items():
        columns = " | ".join(found.get(n, "") for n in threads)
        lines.append(f"| {size} | {peer} | {columns} | {excess[size, peer]} |")
    remarks = [f"- not run: {remark}" for result in results for remark in result["remarks"]]
    return "\n".join([*lines, "", *remarks]) + "\n"


def cell(row):
    """A ratio with its quartiles, an exponent, or megabytes, as text."""
    low, middle, high = (row.get(key) for key in ("low", "ratio", "high"))
    if row["peer"].startswith("bare "):
        low, middle, high = 1 / high, 1 / middle, 1 / low
    spread = "" if low is None else f" [{low:.2f}, {high:.2f}]"
    return f"{middle:z.2f}{'' if row['peer'] in PLAIN else '×'}{spread}"


if __name__ == "__main__":
    main()
