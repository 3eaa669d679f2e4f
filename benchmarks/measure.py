"""Timing contestants fairly: in turn, in short rounds, after their results have been found equal.

A contestant is a function without arguments that does one unit of work. What is reported is a ratio of
medians over rounds, with quartiles: seconds depend on the machine, ratios much less.
"""

from importlib.metadata import PackageNotFoundError, version
import os
import platform
from time import perf_counter

import numpy as np

from teachvae.arrays.backend import keep_freed_memory


def in_turn(contestants, rounds=15, least=0.02):
    """Seconds per call {name: (rounds,)} of {name: function}, all of them once per round.

    A contestant is called as often per round as `least` seconds need; its first calls do not count.
    """
    keep_freed_memory()                                            # as whoever has trained a network has it
    calls = {}
    for name, function in contestants.items():
        function()
        start = perf_counter()
        function()
        calls[name] = max(1, round(least / max(perf_counter() - start, 1e-9)))
    seconds = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, function in contestants.items():
            start = perf_counter()
            for _ in range(calls[name]):
                function()
            seconds[name].append((perf_counter() - start) / calls[name])
    return {name: np.array(values) for name, values in seconds.items()}


def ratios(seconds, ours="teachvae"):
    """[(peer, lower quartile, median, upper quartile)] of the peers' seconds over ours, round by round."""
    return [
        (name, *np.quantile(values / seconds[ours], [0.25, 0.5, 0.75]).tolist())
        for name, values in seconds.items()
        if name != ours
    ]


def check_equal(name, ours, theirs, tolerance):
    """Raise AssertionError where numbers that ought to be equal differ relatively by more than tolerance."""
    ours, theirs = (np.asarray(a, dtype="float64").ravel() for a in (ours, theirs))
    error = np.abs(ours - theirs).max() / max(np.abs(ours).max(), 1e-300)
    if not error <= tolerance:
        raise AssertionError(
            f"{name} computes something else: relative difference {error:.1e} > {tolerance:.0e}"
        )


def machine():
    """What was measured on: processor, cores, threads, versions."""
    packages = ("numpy", "scipy", "torch", "jax", "numpyro", "autograd", "scikit-learn", "statsmodels",
                "cupy-cuda12x")
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "python": platform.python_version(),
        "system": platform.system(),
        "versions": found,
    }


def _processor():
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
