"""Tests of the readers: files are read as they are or refused in words, IDX files byte for byte, and a
download keeps nothing but whole files with the right checksum."""

import ast
import gc
import gzip
import hashlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
import io
import math
from pathlib import Path
import re
import shlex
import sys
import threading
import tracemalloc
import warnings
import zipfile

import numpy as np
import pandas as pd
import pytest

from teachvae import datasets
from teachvae.datasets import readers

images = import_module("teachvae.datasets.images")                 # whose name in datasets is a function's

# ---- .csv, .npy and .npz ---------------------------------------------------------------------


@pytest.mark.parametrize("header", [None, "height, width (cm),x_1"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_csv(tmp_path, header, ending, bom):
    lines = [] if header is None else [header]
    lines += ["1,2.5, -3e2", '"4",5,6', "", "-0.1,0,7"]
    path = tmp_path / "plants.csv"
    path.write_bytes((bom + ending.join(lines) + ending).encode())
    data = datasets.load(path)
    np.testing.assert_array_equal(data.x, [[1, 2.5, -300], [4, 5, 6], [-0.1, 0, 7]])
    assert data.columns == (None if header is None else ("height", "width (cm)", "x_1"))
    assert data.name == "plants" and data.source == str(path) and data.labels is None
    assert datasets.load(str(path)).x.dtype == np.float64


def test_csv_of_one_column_and_capital_suffix(tmp_path):
    path = tmp_path / "A.CSV"
    path.write_text("v\n1\n2\n")
    data = datasets.load(path)
    np.testing.assert_array_equal(data.x, [[1], [2]])
    assert data.columns == ("v",)


IDS = [720575940600000001, 720575940600000002]


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_whole_numbers_that_float64_merges_are_refused(tmp_path, dtype):
    x = np.array([[1, 2**60], IDS], dtype=dtype)
    np.save(tmp_path / "a.npy", x)
    np.savez(tmp_path / "a.npz", x=x, y=np.array(IDS))
    np.savetxt(tmp_path / "a.csv", x, "%d", delimiter=",", header="a,b", comments="")
    for name, place in (("a.npy", "row 1, column 0"), ("a.npz", "row 1, column 0"),
                        ("a.csv", r"row 3, column 1 \(a\)")):
        with pytest.raises(ValueError, match=f"{name}: {place}.* holds {IDS[0]}, above 2.53.* leave"):
            datasets.load(tmp_path / name)


def test_large_whole_numbers_that_float64_has_are_read(tmp_path):
    largest = np.iinfo("int64").max
    x = np.array([[2**53, 2**60], [3, 4], [-(2**62), largest]])
    path = tmp_path / "a.npy"
    np.save(path, x)
    data = datasets.load(path, missing_values=[largest]).x
    np.testing.assert_array_equal(data, [[2**53, 2**60], [3, 4], [-(2**62), np.nan]])
    with pytest.raises(ValueError, match=f"row 2, column 1 .*holds {largest}"):
        datasets.load(path)
    np.savez(tmp_path / "a.npz", x=x[:2], y=np.array(IDS))
    assert datasets.load(tmp_path / "a.npz").labels.tolist() == IDS
    path = tmp_path / "a.csv"
    path.write_text(f",a,b\n{IDS[0]},{2**60},0.5\n{IDS[1]},1e23,2\n")
    np.testing.assert_array_equal(datasets.load(path).x, [[2**60, 0.5], [1e23, 2]])


@pytest.mark.parametrize("text, place", [
    ("who is it,b\nanna,2\nbob,3\n", r"row 2, column 1 \(who is it\) holds 'anna'"),
    ("1,anna\n2,\n3,bob\n", "row 1, column 2 holds 'anna'"),
])
def test_a_column_of_text_is_said_to_be_one(tmp_path, text, place):
    path = tmp_path / "a.csv"
    path.write_text(text)
    name = "who is it" if "who" in text else "2"
    cure = f"the whole column is text: say labels='{name}' .* leave_out=\\['{name}'\\] .*cat.codes"
    with pytest.raises(ValueError, match=f"{place}.*{cure}") as caught:
        datasets.load(path)
    words = shlex.split(str(caught.value))
    assert words[words.index("--labels") + 1] == words[words.index("--leave-out") + 1].rstrip("),") == name
    assert "correct the cell" not in str(caught.value)
    path.write_text("a,b\n,2\n,3\n")
    with pytest.raises(ValueError, match="correct the cell .*missing_values"):
        datasets.load(path)


@pytest.mark.parametrize(
    "text, fragments",
    [
        ("a,b\n1,2\n3,four\n", ["row 3, column 2 (b) holds 'four'", "expected a finite number", "correct"]),
        ("1,2\n3,four\n", ["row 2, column 2 holds 'four'", "expected a finite number", "correct the cell"]),
        ("1,2\n\n3,\n", ["row 3, column 2 holds ''", "not empty"]),
        ("1,2\nnan,3\n", ["row 2, column 1 holds 'nan'", "finite"]),
        ("1,2\n3,-inf\n", ["row 2, column 2 holds '-inf'", "finite"]),
        ("1,1_000\n", ["row 1, column 2 holds '1_000'"]),
        ("a,2\n1,2\n", ["row 1, column 1 holds 'a'", "only row 1 may hold names"]),
        ("NA,NA\n1,2\n", ["row 1, column 1 holds 'NA'", "no two alike"]),
        (",\n1,2\n", ["row 1, column 1 holds ''"]),
        (",a\n0.5,1.5\n", ["row 1, column 1 holds ''", "none of them empty"]),
        ("1;2\n3;four\n", ["row 2, column 2 holds 'four'", "read with semicolons between cells"]),
        ("1\t2,5\n3\tx\n", ["row 2, column 2 holds 'x'", "tabs between cells and a decimal comma"]),
        ("1 2\n3 4\n", ["row 2, column 1 (1 2) holds '3 4'", "one cell a line", "delimiter=','"]),
        ("a;b\n1;2\n3\n", ["row 3 has 1 columns ('3')", "read with semicolons between cells"]),
        ("1,2\n3\n", ["row 2 has 1 columns ('3')", "expected 2, as in the first row", "add or take out"]),
        ("a,b\n1,2,3\n", ["row 2 has 3 columns ('1,2,3')", "expected 2"]),
        ("", ["holds no row of numbers", "expected numbers separated by commas", "check that"]),
        ("a,b\n", ["holds no row of numbers"]),
        (b"1,2\n\xff\xfe,3\n", ["not text in UTF-8", "save it as CSV", "encoding='latin-1'"]),
    ],
)
def test_csv_refuses(tmp_path, text, fragments):
    path = tmp_path / "data.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError) as caught:
        datasets.load(path)
    for fragment in [f"{path}: ", *fragments]:
        assert fragment in str(caught.value)


FLOATS = "0.5,-1.25,3.0\n1.5,2.0,0.25\n"


@pytest.mark.parametrize("text, columns, x, said", [
    # as pandas writes a frame without names, alone and with its index
    ("0,1,2\n" + FLOATS, "012", [[0.5, -1.25, 3], [1.5, 2, 0.25]], "Line 1 holds the columns' names: 0"),
    (",0,1\n0,0.5,2.0\n1,1.5,3.0\n", "01", [[0.5, 2], [1.5, 3]], "tells the rows apart and is set aside"),
    (",0,1\n0,5,2\n1,6,3\n", "01", [[5, 2], [6, 3]], "names: 0, 1. The first column"),
    (",a,b\n17,5,2\n4,6,3\n", "ab", [[5, 2], [6, 3]], "names: a, b. The first column"),
    ('"","a","b"\n"1",0.5,2\n"2",6,3\n', "ab", [[0.5, 2], [6, 3]], "tells the rows apart"),
    ("0,1,2\n0.5,7,3.5\n1.5,8,4.5\n", "012", [[0.5, 7, 3.5], [1.5, 8, 4.5]], "names: 0, 1, 2."),
    # data cases
    (FLOATS, None, [[0.5, -1.25, 3], [1.5, 2, 0.25]], "No line of names."),
    ("3,1,2\n1,2,3\n", None, [[3, 1, 2], [1, 2, 3]], "No line of names."),
    ("1,2.5,4\n0,3,2\n", None, [[1, 2.5, 4], [0, 3, 2]], "No line of names."),
])
def test_what_the_first_line_is_taken_for(tmp_path, text, columns, x, said):
    path = tmp_path / "a.csv"
    path.write_text(text)
    data = datasets.load(path)
    np.testing.assert_array_equal(data.x, x)
    assert data.columns == (None if columns is None else tuple(columns))
    assert said in data.note
    first = 1 if columns is None else 2
    np.testing.assert_array_equal(data.rows, np.arange(first, first + len(x)))


@pytest.mark.parametrize("names", [None, ["a", "b", "c"]])
@pytest.mark.parametrize("index", [False, True])
def test_a_frame_that_pandas_wrote(tmp_path, names, index):
    x = np.random.default_rng(0).standard_normal((20, 3)).round(3)
    pd.DataFrame(x, columns=names).to_csv(tmp_path / "a.csv", index=index)
    data = datasets.load(tmp_path / "a.csv")
    np.testing.assert_array_equal(data.x, x)
    assert data.columns == (("0", "1", "2") if names is None else tuple(names))
    pd.DataFrame(x, columns=names).to_csv(tmp_path / "b.csv", index=index, sep=";", decimal=",")
    np.testing.assert_array_equal(datasets.load(tmp_path / "b.csv").x, x)
    pd.DataFrame(np.where(x > 0, x, np.nan), columns=names).to_csv(tmp_path / "c.csv", index=index)
    holes = datasets.load(tmp_path / "c.csv", missing_values=())
    np.testing.assert_array_equal(holes.x, np.where(x > 0, x, np.nan))
    if names is None:
        counts = np.random.default_rng(0).integers(0, 17, (20, 3))
        pd.DataFrame(counts).to_csv(tmp_path / "d.csv", index=index)
        data = datasets.load(tmp_path / "d.csv", **({} if index else {"header": True}))
        np.testing.assert_array_equal(data.x, counts)


@pytest.mark.parametrize("text, why", [
    ("0,1,2\n5,6,7\n8,9,1\n", "count from 0, as the names of a frame without names do"),
    ("0\n3\n2\n", "count from 0"),
    ("0\n0.5\n1.5\n", "count from 0"),                             # also what %g makes of 0.0, 0.5, 1.5
    ("0,1\n0.5,0.61\n1.5,0.22\n", "count from 0"),
    ("2019,2020,2021\n0.5,1.5,2.5\n3.5,4.5,1.25\n", "are whole numbers, and none below is"),
    ("400.0,402.5,405.0\n0.5,1.5,2.5\n3.5,4.5,1.25\n", "rise, and lie outside of all numbers below"),
])
def test_a_first_line_that_may_be_either_is_refused(tmp_path, text, why):
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(ValueError) as caught:
        datasets.load(path)
    for fragment in (str(path), why, "header=True or header=False", "--header or --no-header"):
        assert fragment in str(caught.value)
    named, plain = (datasets.load(path, header=header) for header in (True, False))
    assert named.columns == tuple(text.splitlines()[0].split(",")) and plain.columns is None
    np.testing.assert_array_equal(plain.x[0], [float(name) for name in named.columns])
    np.testing.assert_array_equal(plain.x[1:], named.x)


def test_the_header_is_as_was_said(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1.5,2\n")
    assert datasets.load(path, header=True).columns == ("a", "b")
    with pytest.raises(ValueError, match="row 1, column 1 holds 'a'"):
        datasets.load(path, header=False)
    path.write_text("a,a\n1.5,2\n")
    with pytest.raises(ValueError, match="header=True, but line 1 holds 'a,a'.*no two alike.*--no-header"):
        datasets.load(path, header=True)
    with pytest.raises(ValueError, match="header must be True, False or None, got 'yes'"):
        datasets.load(path, header="yes")


X_MARKS = [[0.13, -2.5], [1, 4]]


@pytest.mark.parametrize("text, x, read_with", [
    ("0.13;-2.5\n1;4\n", X_MARKS, "semicolons between cells and a decimal point"),
    ("0.13\t-2.5\n1\t4\n", X_MARKS, "tabs between cells and a decimal point"),
    ("0,13;-2,5\n1;4\n", X_MARKS, "semicolons between cells and a decimal comma"),
    ("a, in m;b\n0,13;-2,5\n1;4\n", X_MARKS, "semicolons between cells and a decimal comma"),
    ("0,13\t-2,5\n1\t4,0\n", X_MARKS, "tabs between cells and a decimal comma"),
    ('"0,13","-2,5"\n1,4\n', X_MARKS, "commas between cells and a decimal comma"),
    ("1,3e-1;-2,5\n1;4\n", X_MARKS, "a decimal comma"),
    ("0,000e+00\n3,14\n", [[0], [3.14]], "one cell a line and a decimal comma"),
    ("0,05\n3,14\n", [[0.05], [3.14]], "one cell a line and a decimal comma"),
    ("-0,5\n3,14\n", [[-0.5], [3.14]], "one cell a line and a decimal comma"),
    ("length\n3,14\n2,71\n", [[3.14], [2.71]], "one cell a line and a decimal comma"),
    ('"3,14"\n"2,7"\n', [[3.14], [2.7]], "one cell a line and a decimal comma"),
    ("a,b\n3,14\n2,71\n", [[3, 14], [2, 71]], "commas between cells and a decimal point"),
    ("3, 14\n2, 71\n", [[3, 14], [2, 71]], "commas between cells and a decimal point"),
    ("3,14\n2,-71\n", [[3, 14], [2, -71]], "commas between cells and a decimal point"),
])
def test_separators_and_decimal_marks(tmp_path, text, x, read_with):
    path = tmp_path / "a.csv"
    path.write_text(text)
    data = datasets.load(path)
    np.testing.assert_array_equal(data.x, x)
    assert read_with in data.note


@pytest.mark.parametrize("text, fragments, options, x", [
    ("3,14\n0,13\n", ["without a point, with a comma between them, the first '3,14'", "separator=','",
                      "--decimal ,"], {"decimal": ","}, [[3.14], [0.13]]),
    ("0,22e-16\n3,14\n", ["two numbers without a point"], {"decimal": ","}, [[0.22e-16], [3.14]]),
    ("3,14\n0,13\n", ["two columns, or one"], {"separator": ","}, [[3, 14], [0, 13]]),
    ("1,234;2\n3;5,678\n", ["semicolons between cells, row 1 holds '1,234'", "thousands", "--decimal ,"],
     {"decimal": ","}, [[1.234, 2], [3, 5.678]]),
    ("umsatz;kosten\n1.234;2\n12.500;3.000\n",
     ["semicolons between cells, row 2 holds '1.234', a decimal point or", "thousands", "--decimal ."],
     {"decimal": "."}, [[1.234, 2], [12.5, 3]]),
    ("-1.234\t2\n3\t5.678\n", ["tabs between cells, row 1 holds '-1.234'"], {"decimal": "."},
     [[-1.234, 2], [3, 5.678]]),
    ('"1,234",2\n3,"5,678"\n', ["commas between cells, row 1 holds '1,234'"], {"decimal": ","},
     [[1.234, 2], [3, 5.678]]),
])
def test_marks_that_may_mean_two_things_are_refused(tmp_path, text, fragments, options, x):
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(ValueError) as caught:
        datasets.load(path)
    for fragment in (f"{path}: ", *fragments):
        assert fragment in str(caught.value)
    if "decimal" in options and '"' in text:
        options = {**options, "separator": ","}
    np.testing.assert_array_equal(datasets.load(path, **options).x, x)


@pytest.mark.parametrize("text", [
    "1.234;0.500\n", "1.234;2.5\n", "1.2345\t1.234\n", "1.234,2.345\n", "1.234\n",
])
def test_points_of_which_one_marks_no_thousands_are_decimal(tmp_path, text):
    path = tmp_path / "a.csv"
    path.write_text(text)
    np.testing.assert_array_equal(datasets.load(path).x, [[float(c) for c in re.split("[;,\t]", text)]])


def test_points_for_thousands_twice_in_a_number(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("1.234.567;2\n3;4\n")
    with pytest.raises(ValueError, match="row 1 holds '1.234.567'.*take the marks for thousands out"):
        datasets.load(path)


def test_marks_that_differ_are_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("1,5;2\n3;4.5\n")
    with pytest.raises(ValueError, match="semicolons .*, row 1 holds '1,5' and row 2 '4.5'; .* one"):
        datasets.load(path)
    with pytest.raises(ValueError, match="row 1, column 1 holds '1,5'.*semicolons.*a decimal point"):
        datasets.load(path, decimal=".")
    for options in ({"separator": "|"}, {"decimal": "'"}):
        with pytest.raises(ValueError, match=r"separator must be one of \[',', ';', .* and decimal one of"):
            datasets.load(path, **options)


# ---- missing entries -------------------------------------------------------------------------

HOLES = "a,b\n1.5,-999\n?,2\n NA ,3\n,4\n2.5,-999.0\n"


def test_codes_for_missing_entries(tmp_path):
    path, nan = tmp_path / "a.csv", math.nan
    path.write_text(HOLES)
    with pytest.raises(ValueError, match=r"row 3, column 1 \(a\) holds '\?'.*missing_values=.*--missing"):
        datasets.load(path)
    data = datasets.load(path, missing_values=[-999])
    np.testing.assert_array_equal(data.x, [[1.5, nan], [nan, 2], [nan, 3], [nan, 4], [2.5, nan]])
    assert data.missing and "5 of 10 entries are missing." in data.note
    np.testing.assert_array_equal(datasets.load(path, missing_values=["-999", "x"]).x, data.x)
    with pytest.warns(readers.ReadingWarning, match="-999 in 2 rows of column b .all else from 2 to 4.*-999"):
        taken = datasets.load(path, missing_values=())
    assert np.isnan(taken.x).sum() == 3 and taken.x[0, 1] == -999, "said, not replaced"
    path.write_text("1;x\n2,5;n.d.\n")
    np.testing.assert_array_equal(
        datasets.load(path, header=False, missing_values=["x", "N.D."]).x, [[1, nan], [2.5, nan]]
    )
    for wrong in (-999, "NA"):
        with pytest.raises(ValueError, match="missing_values must be a list of codes"):
            datasets.load(path, missing_values=wrong)
    with pytest.raises(ValueError, match="holds 'inf'"):
        path.write_text("1.5\ninf\n")
        datasets.load(path, missing_values=())


@pytest.mark.parametrize("dtype", ["float64", "float32", "int32", "int16"])
def test_codes_in_an_array(tmp_path, dtype):
    x = np.array([[1, 5], [-999, 6], [3, 7]]).astype(dtype)
    np.save(tmp_path / "a.npy", x)
    with pytest.warns(readers.ReadingWarning, match="-999 in 1 rows of column 0 .all else from 1 to 3"):
        assert datasets.load(tmp_path / "a.npy").x[1, 0] == -999
    data = datasets.load(tmp_path / "a.npy", missing_values=[-999])
    np.testing.assert_array_equal(data.x, [[1, 5], [math.nan, 6], [3, 7]])
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(3))
    np.testing.assert_array_equal(datasets.load(tmp_path / "a.npz", missing_values=[-999]).x, data.x)
    with pytest.raises(ValueError, match="codes of an array must be numbers, got .'x'"):
        datasets.load(tmp_path / "a.npy", missing_values=["x"])


def test_nan_in_an_array_is_missing_where_that_is_said(tmp_path):
    np.save(tmp_path / "a.npy", [[1.0, math.nan], [2.0, 3.0]])
    with pytest.raises(ValueError, match=r"nan in row 0, column 1.*load\(…, missing_values=\[\]\)"):
        datasets.load(tmp_path / "a.npy")
    assert np.isnan(datasets.load(tmp_path / "a.npy", missing_values=[]).x[0, 1])


@pytest.mark.parametrize("code", [-999, 9999, 99, -99.9, 999.25, -32768, 1e20, float(np.float32(1e20))])
def test_numbers_far_from_all_others_that_look_like_codes_are_warned_of(code):
    column = np.append(np.linspace(0, 8, 9), code)[:, None]
    (found,) = readers._look_like_codes(column)
    assert found == (0, code, 1, 0, 8)
    both = np.append(column, [[-9999]], axis=0)
    assert {f[1] for f in readers._look_like_codes(both)} == {code, -9999}


def test_numbers_among_others_are_no_codes():
    for column in (np.arange(100), [0, 9, 1], [5, 99, 98, 40], [-999, -500, 0, 300], [7, 7], [99, 99]):
        assert not list(readers._look_like_codes(np.array(column, float)[:, None]))


@pytest.mark.parametrize("dtype", ["float64", "float32", "int16", "uint8", "bool", ">f8"])
def test_npy(tmp_path, dtype):
    x = np.array([[1, 0, 1], [0, 0, 1]]).astype(dtype)
    np.save(tmp_path / "a.npy", np.asfortranarray(x))
    data = datasets.load(tmp_path / "a.npy")
    assert data.x.dtype == np.float64 and data.x.dtype.isnative and data.x.flags.c_contiguous
    np.testing.assert_array_equal(data.x, [[1, 0, 1], [0, 0, 1]])
    assert data.image_shape is None and np.dtype(dtype).name in data.note


def test_npy_images(tmp_path):
    images = np.arange(24).reshape(4, 2, 3)
    np.save(tmp_path / "a.npy", images)
    data = datasets.load(tmp_path / "a.npy")
    assert data.x.shape == (4, 6) and data.image_shape == (2, 3) and "2 × 3" in data.note
    np.testing.assert_array_equal(data.x.reshape(-1, *data.image_shape), images)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path, save):
    x = np.random.default_rng(0).standard_normal((3, 4))
    path = tmp_path / "a.npz"
    save(path, anything=x)
    np.testing.assert_array_equal(datasets.load(path).x, x)
    save(path, x=x, y=np.array(["a", "b", "a"]))
    data = datasets.load(path)
    np.testing.assert_array_equal(data.x, x)
    assert list(data.labels) == ["a", "b", "a"]


class Trap:
    """Unpickling this would raise, so a test sees whether it was unpickled."""

    def __reduce__(self):
        return (_sprung, ())


def _sprung():
    raise AssertionError("a pickle was loaded")


def npy_that_claims(shape):
    """The bytes of an npy file whose header promises more numbers than follow."""
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}"
    text = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + bytes(16)


@pytest.mark.parametrize(
    "array, fragments",
    [
        (np.arange(3.0), ["shape (3,)", "expected (N, D)", "reshape"]),
        (np.float64(3), ["shape ()", "expected (N, D)"]),
        (np.zeros((2, 2, 2, 3)), ["shape (2, 2, 2, 3)", "images (N, h, w)"]),
        (np.zeros((0, 3)), ["shape (0, 3)", "none of them 0"]),
        (np.array([["1", "2"]]), ["dtype <U1", "expected real numbers", "astype(float)"]),
        (np.array([[1j]]), ["dtype complex128", "expected real numbers"]),
        (np.array([[1.0, math.nan]]), ["nan in row 0, column 1", "expected finite", "drop such rows"]),
        (np.array([[Trap(), 1]], dtype=object), ["dtype is a number type, not object", "Pickled", "save"]),
        (b"", ["not a .npy file of plain numbers", "expected an array", "numpy.save(path, x)"]),
        (b"1,2\n3,4\n", ["not a .npy file of plain numbers", "numpy.save(path, x)"]),
        (npy_that_claims((3, 4)), ["not a .npy file of plain numbers"]),
        (npy_that_claims((10**9, 10**6)), ["not a .npy file of plain numbers"]),
    ],
)
def test_npy_refuses(tmp_path, array, fragments):
    path = tmp_path / "a.npy"
    if isinstance(array, bytes):
        path.write_bytes(array)
    else:
        np.save(path, array, allow_pickle=True)
    with pytest.raises(ValueError) as caught:
        datasets.load(path)
    for fragment in [f"{path}: ", *fragments]:
        assert fragment in str(caught.value)


X_OK = np.ones((3, 2))


@pytest.mark.parametrize(
    "arrays, fragments",
    [
        ({"a": X_OK, "b": X_OK}, ["arrays named ['a', 'b']", "expected one array, or x", "numpy.savez"]),
        ({"x": X_OK, "z": X_OK}, ["arrays named ['x', 'z']"]),
        ({"x": X_OK, "y": np.ones(2)}, ["labels y have shape (2,)", "expected (3,)", "save the y"]),
        ({"x": X_OK, "y": X_OK}, ["labels y have shape (3, 2)"]),
        ({"x": np.ones(3), "y": np.ones(3)}, ["shape (3,)", "expected (N, D)"]),
        ({"x": np.array([[Trap()]], dtype=object)}, ["not a .npz file of plain numbers", "not object"]),
        ({"x": X_OK, "y": np.array([Trap()] * 3, dtype=object)}, ["not object", "numpy.savez(path, x=x)"]),
        ({}, ["arrays named []"]),
    ],
)
def test_npz_refuses(tmp_path, arrays, fragments):
    path = tmp_path / "a.npz"
    np.savez(path, **arrays)
    with pytest.raises(ValueError) as caught:
        datasets.load(path)
    for fragment in [f"{path}: ", *fragments]:
        assert fragment in str(caught.value)


def test_npz_that_is_none(tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="not a .npz file of plain numbers"):
        datasets.load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ValueError, match="not a .npz file of plain numbers"):
        datasets.load(path)
    # One byte of the compressed numbers changed.
    np.savez_compressed(path, x=np.random.default_rng(0).standard_normal((50, 2)))
    damaged = bytearray(path.read_bytes())
    damaged[400] ^= 255
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match="not a .npz file of plain numbers"):
        datasets.load(path)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv"])
def test_large_files_are_refused_unread(tmp_path, monkeypatch, suffix):
    path = tmp_path / f"a{suffix}"
    x = np.zeros((300, 4))
    if suffix == ".csv":
        np.savetxt(path, x, delimiter=",")
    else:
        np.save(path, x) if suffix == ".npy" else np.savez_compressed(path, x=x)
    assert datasets.load(path).x.shape == (300, 4)
    assert readers.LARGEST_FILE == 2**30
    monkeypatch.setattr(readers, "LARGEST_FILE", 5000)
    if suffix == ".npz":  # small on disk: what counts is what it unpacks to
        assert path.stat().st_size < 5000
    with pytest.raises(ValueError, match=r"holds \d{4,} bytes; expected at most 5000: save fewer"):
        datasets.load(path)


# ---- tables as people have them ----------------------------------------------------------------


@pytest.mark.parametrize("write, options", [
    (lambda text: text.encode(), {}),
    (lambda text: text.encode("utf-8-sig"), {}),
    (lambda text: text.encode("utf-16"), {}),                      # with a byte-order mark, as Excel writes
    (lambda text: text.encode("latin-1"), {"encoding": "latin-1"}),
    (lambda text: text.encode("utf-16-le"), {"encoding": "utf-16-le"}),
    (lambda text: text.replace(",", "\t").encode(), {}),
    (lambda text: text.replace(",", ";").replace(".", ",").encode(), {}),
    (lambda text: text.replace("\n", "\r\n").encode(), {}),
    (lambda text: text.replace("\n", "\r").encode(), {}),           # old Macs
])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".txt"])
def test_a_table_with_names_an_index_and_labels(tmp_path, write, options, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(write(",Größe,Art,Länge\nr1,0.5,Möwe,-2\nr2,1.5,Ente,4.25\nr3,2.5,Möwe,3\n"))
    data = datasets.load(path, labels="Art", **options)
    np.testing.assert_array_equal(data.x, [[0.5, -2], [1.5, 4.25], [2.5, 3]])
    assert data.columns == ("Größe", "Länge") and data.labels.tolist() == ["Möwe", "Ente", "Möwe"]
    for words in ("tells the rows apart and is set aside", "Column Art holds the labels", "between cells"):
        assert words in data.note
    assert data.rows.tolist() == [2, 3, 4]
    with pytest.raises(ValueError, match=r"row 2, column 3 \(Art\) holds 'Möwe'.*--labels Art"):
        datasets.load(path, **options)
    left = datasets.load(path, leave_out=["Art", "Größe"], **options)
    assert left.columns == ("Länge",) and "Columns Größe, Art are left out." in left.note
    assert left.labels is None


@pytest.mark.parametrize("cells, labels", [
    (["1", "0", "7"], [1, 0, 7]),
    (["1.0", "0", "7"], [1, 0, 7]),
    (["1.5", "0", "7"], [1.5, 0, 7]),
    (["1.5", "0", "x"], ["1.5", "0", "x"]),
    (["007", "7", "x"], ["007", "7", "x"]),
    ([str(2**53 + 1), str(2**53), "1"], [str(2**53 + 1), str(2**53), "1"]),  # float64 has one of them
])
def test_labels_are_numbers_or_text(tmp_path, cells, labels):
    path = tmp_path / "a.csv"
    path.write_text("".join(f"0.5,{cell}\n" for cell in cells))
    data = datasets.load(path, labels=2)                           # without names: counted from 1
    assert data.labels.tolist() == labels and data.x.tolist() == [[0.5]] * 3 and data.columns is None
    assert isinstance(data.labels.tolist()[0], type(labels[0]))


@pytest.mark.parametrize("options, words", [
    ({"labels": "c"}, "there is no column 'c'; the columns are a, b, k: name one"),
    ({"labels": "0"}, "there is no column '0'"),
    ({"labels": "k", "leave_out": ["k"]}, "'k' cannot hold the labels and be left out"),
    ({"leave_out": ["a", "b", "k"]}, "all 3 columns are set aside"),
    ({"leave_out": "a"}, "leave_out must be a list of columns such as"),
    ({"labels": "b", "leave_out": ["k"]}, "row 3 has no label, column b holds '' there; expected one"),
    ({"encoding": "klingon"}, "not text in klingon .*--encoding latin-1"),
    ({"encoding": "a\0"}, "not text in a"),
    ({"encoding": "utf-16"}, "not text in utf-16"),
    ({"encoding": 3}, "not text in 3"),
    ({"encoding": "hex"}, "not text in hex"),
])
def test_what_does_not_fit_the_table_is_refused(tmp_path, options, words):
    path = tmp_path / "a.csv"
    path.write_text("a,b,k\n1,2,x\n3,,y\n")
    with pytest.raises(ValueError, match=f"(?s){words}") as caught:
        datasets.load(path, **options)
    assert str(path) in str(caught.value) or "leave_out must" in words


def test_a_label_may_hold_a_separator(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("1.5,2.5,a;b\n3.5,4.5,c;d\n")
    assert datasets.load(path, labels="3").labels.tolist() == ["a;b", "c;d"]


def test_options_of_tables_are_not_for_arrays(tmp_path):
    np.save(tmp_path / "a.npy", X_OK)
    with pytest.raises(ValueError, match="'labels'.* but a .npy file takes only"):
        datasets.load(tmp_path / "a.npy", labels="a")
    with pytest.raises(ValueError, match="'leave_out'.*expected them with a file"):
        datasets.load("digits", leave_out=["a"])


def test_a_number_that_is_whole_after_thousands_of_noughts(tmp_path):
    """int() of more than 4300 digits raises; this one is float64's own."""
    path = tmp_path / "a.csv"
    path.write_text("0" * 5000 + f"{2**60},1,0\n2,3,4\n")
    assert datasets.load(path).x.tolist() == [[2**60, 1, 0], [2, 3, 4]]


def test_a_code_that_the_array_s_type_lacks_is_no_infinity(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[1, np.inf], [3, 4]], "float16"))
    with pytest.raises(ValueError, match="holds inf in row 0"):
        datasets.load(tmp_path / "a.npy", missing_values=[1e300])


# ---- files that lie ----------------------------------------------------------------------------


def zipped(data, kind=zipfile.ZIP_STORED, name="x.npy", lie=None):
    """A zip file of one member, whose directory claims `lie` bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", kind) as archive:
        archive.writestr(name, data)
    data = file.getvalue()
    if lie is not None:                                            # the size stands in two places
        for start, offset in ((b"PK\1\2", 24), (b"PK\3\4", 22)):
            at = data.rindex(start) + offset
            data = data[:at] + lie.to_bytes(4, "little") + data[at + 4 :]
    return data


def packed(data):
    """gzip without the time of day in its header: such bytes stand in the names of tests."""
    return gzip.compress(data, mtime=0)


def npy_header(text):
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode("latin-1")


def saved(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


HEAD = "{'descr': '<f8', 'fortran_order': False, 'shape': %s}"
LIES = {
    "more rows than there are": ("a.npy", npy_that_claims((3, 4)), "says 3 × 4 × 8 bytes, 16 follow"),
    "fewer rows": ("a.npy", npy_that_claims((1, 1)), "says 1 × 1 × 8 bytes, 16 follow"),
    "two arrays, one after the other": ("a.npy", saved(X_OK) + saved(X_OK), "says 3 × 2 × 8 bytes"),
    "negative sizes": ("a.npy", npy_header(HEAD % "(-1, -2)") + bytes(16), "says -1 × -2"),
    "sizes beyond int64": ("a.npy", npy_header(HEAD % f"({10**20}, 3)"), "says 100000000000000000000 × 3"),
    "no size, and one beyond int64": ("a.npy", npy_header(HEAD % f"(0, {10**20})"), "not a .npy file"),
    "a truth value for a size": ("a.npy", npy_header(HEAD % "(True, 2)") + bytes(16), "says True × 2"),
    "65 axes": ("a.npy", npy_header(HEAD % f"({'1,' * 65})") + bytes(8), "not a .npy file"),
    "an open bracket": ("a.npy", npy_header(HEAD % "(1, 2") + bytes(16), "not a .npy file"),
    "5000 brackets": ("a.npy", npy_header("(" * 5000), "not a .npy file"),
    "crooked indentation": ("a.npy", npy_header("\t\t x\n  y"), "not a .npy file"),
    "a name without a magic": ("a.npz", zipped(b"hello"), "not a .npz file"),
    "bzip2": ("a.npz", zipped(saved(X_OK), zipfile.ZIP_BZIP2), "packed in another way"),
    "LZMA": ("a.npz", zipped(saved(X_OK), zipfile.ZIP_LZMA), "packed in another way"),
    "a directory of too few bytes": ("a.npz", zipped(saved(X_OK), lie=150), "not a .npz file"),
    "the same name twice": ("a.npz", None, r"arrays named \['x', 'x'\]"),
    "another version of zip": (
        "a.npz", zipped(saved(X_OK)).replace(b"PK\1\2\x14\3\x14", b"PK\1\2\x14\3\xff"), "not a .npz file"
    ),
    "65 axes of an IDX file": ("i", b"\0\0\x08\x41" + (1).to_bytes(4, "big") * 65 + b"\1", "axes, 1 to 64"),
    "an IDX file of no rows": ("i", b"\0\0\x08\3" + bytes(4) + b"\xff" * 8, "expected at most"),
}


@pytest.mark.parametrize("lie", LIES)
def test_files_that_lie(tmp_path, lie):
    name, data, words = LIES[lie]
    path = tmp_path / name
    if data is None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", saved(X_OK))
            archive.writestr("x", saved(X_OK))
    else:
        path.write_bytes(data)
    with pytest.raises(ValueError, match=f"(?s){re.escape(str(path))}: .*{words}") as caught:
        readers.idx(path) if name == "i" else datasets.load(path)
    assert caught.type is ValueError


def test_an_encrypted_npz_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    data = bytearray(zipped(saved(X_OK)))
    for start, offset in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        data[data.rindex(start) + offset] |= 1                     # the flag of encryption
    path.write_bytes(data)
    with pytest.raises(ValueError, match="(?s)not a .npz file of plain numbers .*encrypted"):
        datasets.load(path)


GIB = 2**30
HUGE = {
    "npy": npy_header(HEAD % f"({GIB // 16}, 2)") + bytes(64),
    "npz": zipped(npy_header(HEAD % f"({GIB // 16}, 2)") + bytes(64), zipfile.ZIP_DEFLATED, lie=GIB),
    "idx": b"\0\0\x08\1" + GIB.to_bytes(4, "big") + bytes(64),
    "idx, packed": packed(b"\0\0\x08\1" + GIB.to_bytes(4, "big") + bytes(64)),
    "a bomb, npz": zipped(bytes(10**8), zipfile.ZIP_DEFLATED, lie=1000),
    "a bomb, gzip": packed(b"\0\0\x08\1" + (1000).to_bytes(4, "big") + bytes(10**8)),
}


@pytest.mark.parametrize("kind", HUGE)
def test_memory_is_taken_for_what_is_there_not_for_what_is_promised(tmp_path, kind):
    path = tmp_path / f"a.{kind[-3:]}"
    path.write_bytes(HUGE[kind])
    tracemalloc.start()
    with pytest.raises(ValueError):
        datasets.load(path) if kind[-3:] in ("npy", "npz") else readers.idx(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * 2**20


# ---- IDX -------------------------------------------------------------------------------------

CODES = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}


def idx_bytes(array, code=None):
    """An IDX file written number by number, without the reader's tables."""
    data = bytes([0, 0, CODES[array.dtype.name] if code is None else code, array.ndim])
    data += b"".join(size.to_bytes(4, "big") for size in array.shape)
    step = -1 if sys.byteorder == "little" else 1
    return data + b"".join(number.tobytes()[::step] for number in array.flat)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("shape", [(7,), (2, 3), (2, 3, 4), (300, 1, 2, 1)])
def test_idx(tmp_path, dtype, shape, pack):
    # No number reads the same from both ends, and small and negative ones are among them.
    array = (np.arange(math.prod(shape)) * 37 - 11).astype(dtype).reshape(shape)
    path = tmp_path / "a"  # gzip is known by the content, not by the name
    path.write_bytes(pack(idx_bytes(array)))
    read = readers.idx(str(path))
    assert read.dtype == np.dtype(dtype) and read.dtype.isnative and read.flags.writeable
    np.testing.assert_array_equal(read, array)


def test_idx_by_hand(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(bytes.fromhex("00000b02 00000001 00000002 0102 ff00"))
    read = readers.idx(path)
    assert read.tolist() == [[258, -256]] and read.dtype == np.int16


IMAGES = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
WHOLE = idx_bytes(IMAGES)
BITS = np.random.default_rng(0).integers(0, 256, (40, 5, 5)).astype(np.uint8)


def test_the_names_of_tests_do_not_change_with_the_time():
    """Where they do, two processes collect different tests, and none of them can share the work."""
    for path in Path(__file__).parent.glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            for part in node.decorator_list if isinstance(node, ast.FunctionDef) else [node]:
                assert "gzip.compress(" not in ast.unparse(part), f"{path.name}, line {part.lineno}"
    assert PACKED[4:8] == bytes(4), "the header's place for the time"


PACKED = packed(idx_bytes(BITS))


def flipped(data, at):
    return data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :]


@pytest.mark.parametrize("data, fragments", [
    (b"", ["starts with the bytes (none)", "00 00, one of 08 09 0b 0c 0d 0e", "right file"]),
    (b"\0\0\x08", ["starts with the bytes 00 00 08;"]),
    (b"1,2\n3,4\n", ["starts with the bytes 31 2c 32 0a", "expected the magic number"]),
    (WHOLE[3::-1] + WHOLE[4:], ["starts with the bytes 03 08 00 00"]),
    (flipped(WHOLE, 2), ["starts with the bytes 00 00 f7 03"]),
    (b"\0\0\x08\0" + bytes(20), ["starts with the bytes 00 00 08 00", "axes, 1 to 64"]),
    (WHOLE[:15], ["ends within its header, after 15 bytes", "expected 16 for 3 axes", "again"]),
    (WHOLE[:-1], ["truncated, 23 bytes follow the header", "expected 24", "2 × 3 × 4 numbers of 1 bytes"]),
    (WHOLE[:16], ["truncated, 0 bytes follow the header", "expected 24"]),
    (WHOLE + b"\0", ["more than 24 bytes follow the header", "expected 24", "joined"]),
    (idx_bytes(np.zeros(3, np.int16))[:-1], ["5 bytes follow", "expected 6", "3 numbers of 2 bytes"]),
    (packed(WHOLE[:-1]), ["truncated, 23 bytes follow the header", "expected 24"]),
    (packed(WHOLE + b"\0"), ["more than 24 bytes follow"]),
    (PACKED[: len(PACKED) // 2], ["a damaged gzip file", f"{len(PACKED) // 2} bytes", "download it again"]),
    (PACKED[:-1], ["a damaged gzip file"]),
    (flipped(PACKED, -6), ["a damaged gzip file", "CRC"]),
    (flipped(PACKED, 300), ["a damaged gzip file"]),
    (PACKED + b"x", ["a damaged gzip file"]),
    (bytes.fromhex("00000803 ffffffff ffffffff ffffffff"), ["expected at most 1073741824"]),
    (packed(bytes.fromhex("0000080240000000 00000002")), ["holds 2147483648 bytes; expected at most"]),
])
def test_idx_refuses(tmp_path, data, fragments):
    path = tmp_path / "a-idx3-ubyte"
    path.write_bytes(data)
    with pytest.raises(ValueError) as caught:
        readers.idx(path)
    for fragment in [f"{path}: ", *fragments]:
        assert fragment in str(caught.value)


def test_idx_needs_a_file(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(FileNotFoundError, match="no such file .looked from .*check the path"):
            readers.idx(path)


LABELS = np.array([0, 255], np.uint8)
TEST_IMAGES = 255 - IMAGES[:1]


@pytest.mark.parametrize("mark", "-.")
@pytest.mark.parametrize("gz", ["", ".gz"])
def test_idx_folder(tmp_path, mark, gz):
    pack = packed if gz else bytes
    for name, array in (("train-images{}idx3", IMAGES), ("train-labels{}idx1", LABELS),
                        ("t10k-images{}idx3", TEST_IMAGES)):
        (tmp_path / f"{name.format(mark)}-ubyte{gz}").write_bytes(pack(idx_bytes(array)))
    images, labels = readers.idx_folder(tmp_path)
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(labels, LABELS)
    assert (labels - 1).min() == -1                                # uint8 would wrap around
    images, labels = readers.idx_folder(tmp_path, "test")
    np.testing.assert_array_equal(images, TEST_IMAGES)
    assert labels is None
    images, labels = readers.idx_folder(tmp_path, "both")
    np.testing.assert_array_equal(images, np.concatenate([IMAGES, TEST_IMAGES]))
    assert labels is None


@pytest.mark.parametrize("files, part, error, fragments", [
    ({}, "train", FileNotFoundError, ["holds no train-images-idx3-ubyte", "but nothing"]),
    ({"train-images-idx3": IMAGES}, "both", FileNotFoundError,
     ["holds no t10k-images-idx3-ubyte", "but train-images-idx3-ubyte;", "or another part"]),
    ({"train-images-idx3": IMAGES, "t10k-images-idx3": IMAGES[:, 1:]}, "both", ValueError,
     ["training images have shape (3, 4), the test images (2, 4)", "one by one"]),
    ({"train-images-idx3": IMAGES[0]}, "train", ValueError, ["uint8 of shape (3, 4)", "uint8 (N, h, w)"]),
    ({"train-images-idx3": IMAGES.astype(np.float32)}, "train", ValueError, ["float32 of shape (2, 3, 4)"]),
    ({"train-images-idx3": IMAGES[:0]}, "train", ValueError, ["shape (0, 3, 4)", "none of them 0"]),
    ({"train-images-idx3": IMAGES, "train-labels-idx1": LABELS[:1]}, "train", ValueError,
     ["uint8 of shape (1,)", "expected integers (2,)", "take the file away"]),
    ({"train-images-idx3": IMAGES, "train-labels-idx1": LABELS / 2.0}, "train", ValueError,
     ["float64 of shape (2,)", "expected integers"]),
])
def test_idx_folder_refuses(tmp_path, files, part, error, fragments):
    for name, array in files.items():
        (tmp_path / f"{name}-ubyte").write_bytes(idx_bytes(array))
    with pytest.raises(error) as caught:
        readers.idx_folder(tmp_path, part)
    for fragment in [str(tmp_path), *fragments]:
        assert fragment in str(caught.value)


def test_idx_folder_needs_a_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="none: no such folder .*expected one with the four"):
        readers.idx_folder(tmp_path / "none")


# ---- downloads, from a server on this machine ------------------------------------------------

SERVED = {
    f"{start}-{kind}-idx{array.ndim}-ubyte.gz": packed(idx_bytes(array))
    for start, kind, array in (("train", "images", IMAGES), ("train", "labels", LABELS),
                               ("t10k", "images", TEST_IMAGES), ("t10k", "labels", LABELS[:1]))
}
SHA256 = {name: hashlib.sha256(data).hexdigest() for name, data in SERVED.items()}


class Handler(BaseHTTPRequestHandler):
    """Serves server.files; of the names in server.cut it promises all and sends half."""

    def do_GET(self):
        self.server.asked.append(self.path)
        name = self.path.rpartition("/")[2]
        data = self.server.files.get(name)
        if data is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if name in self.server.cut else data)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch, request):
    """A server of the four files, the only mirror; the cache is tmp_path/cache."""
    pooch = pytest.importorskip("pooch")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.cut, server.asked = dict(SERVED), set(), []
    server.url = f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    monkeypatch.delenv("TEACHVAE_DATA", raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    monkeypatch.setattr(images, "MNIST_MIRRORS", (server.url,))
    monkeypatch.setattr(images, "MNIST_SHA256", SHA256)
    server.stop = lambda: (server.shutdown(), thread.join(), server.server_close())
    # After a failure pooch leaves the connection to the garbage collector: let that be in here.
    request.node.add_marker(pytest.mark.filterwarnings("ignore::ResourceWarning"))
    thread.start()                                                 # last: a fixture that fails leaves none
    yield server
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    if thread.is_alive():
        server.stop()


def cached(tmp_path):
    """What lies in the cache, temporary files and all."""
    return {path.name: path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file()}


def test_a_good_download(server, tmp_path, capfd):
    data = datasets.mnist(part="both", dequantise=False)
    np.testing.assert_array_equal(data.x * 255, np.concatenate([IMAGES, TEST_IMAGES]).reshape(3, 12))
    assert data.labels.tolist() == [0, 255, 0] and data.image_shape == (3, 4)
    assert cached(tmp_path) == SERVED and len(server.asked) == 4
    server.stop()
    np.testing.assert_array_equal(datasets.load("mnist", part="test", dequantise=False).x, data.x[2:])
    assert capfd.readouterr() == ("", "")


FIRST, SECOND = list(SERVED)[:2]


def test_a_wrong_checksum(server, tmp_path):
    server.files[SECOND] = gzip.compress(idx_bytes(LABELS + 1))    # whole, and not the right one
    with pytest.raises(ValueError) as caught:
        datasets.mnist()
    for fragment in (f"{SECOND}: downloaded, but not the file", SHA256[SECOND], server.url,
                     "Nothing was kept", hashlib.sha256(server.files[SECOND]).hexdigest()):
        assert fragment in str(caught.value)
    assert cached(tmp_path) == {FIRST: SERVED[FIRST]}
    server.files = dict(SERVED)                                    # the server is put right: so is the cache
    assert datasets.mnist().x.shape == (2, 12) and cached(tmp_path) == SERVED


@pytest.mark.parametrize("promised", [True, False])
def test_a_truncated_download(server, tmp_path, promised):
    """Half a file, where the server promised a whole one, and where it promised no more."""
    half = SERVED[FIRST][: len(SERVED[FIRST]) // 2]
    if promised:
        server.cut.add(FIRST)
    else:
        server.files[FIRST] = half
    error, message = ConnectionError, "could not be downloaded whole"
    if not promised:
        error, message = ValueError, "downloaded, but not the file"
    with pytest.raises(error, match=f"{FIRST}: .*{message}"):
        datasets.mnist()
    assert cached(tmp_path) == {}


def test_the_server_is_gone(server, tmp_path):
    server.stop()
    with pytest.raises(ConnectionError) as caught:
        datasets.mnist()
    for fragment in (f"{FIRST}: could not be downloaded", server.url + FIRST, "check the network",
                     "TEACHVAE_DATA"):
        assert fragment in str(caught.value)
    assert cached(tmp_path) == {}


def test_a_file_that_the_server_lacks(server, tmp_path):
    del server.files[SECOND]
    with pytest.raises(ConnectionError, match=f"{SECOND}: could not be downloaded whole .*404"):
        datasets.mnist()
    assert cached(tmp_path) == {FIRST: SERVED[FIRST]}


def test_the_second_mirror_helps_out(server, tmp_path, monkeypatch):
    monkeypatch.setattr(images, "MNIST_MIRRORS", (server.url + "first/", server.url + "second/"))
    asked = []

    class Lists(dict):
        def get(self, name):
            asked.append(name)
            return b"an error page" if asked.count(name) == 1 else SERVED[name]

    server.files = Lists()
    assert datasets.mnist().x.shape == (2, 12)
    assert cached(tmp_path) == SERVED
    assert server.asked == [f"/{mirror}/{name}" for name in SERVED for mirror in ("first", "second")]


def test_a_broken_file_in_the_cache_is_replaced(server, tmp_path):
    datasets.mnist()
    path = next((tmp_path / "cache").rglob(FIRST))
    path.write_bytes(SERVED[FIRST][:-3])
    np.testing.assert_array_equal(np.floor(datasets.mnist().x * 256), IMAGES.reshape(2, 12))
    assert cached(tmp_path) == SERVED and len(server.asked) == 5


def test_pooch_is_not_installed(monkeypatch):
    monkeypatch.delenv("TEACHVAE_DATA", raising=False)
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ImportError, match=r"pip install 'teachvae\[data\]'; or .*TEACHVAE_DATA"):
        datasets.mnist()


def test_the_published_addresses_and_checksums():
    assert sorted(images.MNIST_SHA256) == sorted(SERVED)
    assert all(len(bytes.fromhex(checksum)) == 32 for checksum in images.MNIST_SHA256.values())
    assert all(url.startswith("https://") and url.endswith("/") for url in images.MNIST_MIRRORS)
