"""Tables in which columns stand below one another, and warnings that point at the caller's line."""

from contextlib import contextmanager
import sys
import warnings

import numpy as np
import pytest

from teachvae import datasets
from teachvae.comparison.probe import LinearProbe
from teachvae.messages import about_rows, align, named, warn
from teachvae.networks.convergence import ConvergenceWarning


def test_columns_stand_below_one_another():
    assert align([("a", "bbb"), ("cc", "d")]) == "a   bbb\ncc  d"
    lines = align([("", "n"), ("model", "12"), ("ae", "3")], left=1, heads=1).splitlines()
    assert lines == ["        n", "---------", "model  12", "ae      3"]


def test_rows_of_different_lengths_are_no_table():
    with pytest.raises(ValueError, match="shorter"):
        align([("a", "b"), ("c",)])


def through(module, layers):
    """A function that calls `warn` by way of so many functions of a module of that name."""
    lines = ["def f0(said, kind): warn(said, kind)"]
    lines += [f"def f{n + 1}(said, kind): f{n}(said, kind)" for n in range(layers)]
    names = {"__name__": module, "warn": warn}
    exec("\n".join(lines), names)
    return names[f"f{layers}"]


@pytest.mark.parametrize("layers", [0, 1, 7])
def test_a_warning_points_at_the_callers_line(layers):
    call = through("teachvae.somewhere", layers)
    with pytest.warns(ConvergenceWarning, match="planted") as caught:
        line = sys._getframe().f_lineno + 1
        call("planted", ConvergenceWarning)
    assert (caught[0].filename, caught[0].lineno) == (__file__, line)
    with pytest.warns(ConvergenceWarning) as caught:
        call(about_rows(ConvergenceWarning, "late: {rows}", [1, 2]), UserWarning)
    assert named(caught[0].message, [10, 11, 12]) == "late: 11, 12"


def test_a_context_manager_of_the_package_is_not_its_caller():
    names = {"__name__": "teachvae.somewhere", "warn": warn, "contextmanager": contextmanager}
    exec("@contextmanager\ndef room():\n    warn('planted')\n    yield", names)
    with pytest.warns(UserWarning, match="planted") as caught:
        line = sys._getframe().f_lineno + 1
        with names["room"]():
            pass
    assert (caught[0].filename, caught[0].lineno) == (__file__, line)


def test_another_package_of_a_like_name_is_a_caller():
    with pytest.warns(UserWarning, match="planted") as caught:
        through("teachvae_course.lesson", 3)("planted", UserWarning)
    assert caught[0].filename == "<string>"


def test_a_line_warns_once_and_filters_know_its_module():
    names = {"__name__": "a_lesson", "call": through("teachvae.somewhere", 2)}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        exec("for _ in range(3): call('planted', UserWarning)", names)
    assert len(caught) == 1
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", module="a_lesson")
        exec("call('planted', UserWarning)", names)
    assert caught == []


def test_files_and_probes_point_at_the_caller(tmp_path):
    x = np.random.default_rng(0).standard_normal((40, 3))
    with pytest.warns(ConvergenceWarning) as caught:
        LinearProbe(max_iter=1).fit(x, x[:, 0] + x[:, 1] > 0)
    assert caught[0].filename == __file__
    x[[3, 8], 1] = -999
    np.savetxt(tmp_path / "data.csv", x, delimiter=",")
    np.save(tmp_path / "data.npy", x)
    for name in ("data.csv", "data.npy"):
        with pytest.warns(UserWarning, match="look like codes") as caught:
            datasets.load(tmp_path / name)
        assert caught[0].filename == __file__, name
