"""Hostile input: whatever is handed over ends in an error that the documentation knows, or in finite numbers
that another road has too. The strategies are in hostile.py; what they found has plain tests elsewhere.
"""

from contextlib import redirect_stderr, redirect_stdout
import gzip
import io
import math
from pathlib import Path
import struct
import tempfile
import warnings

from hypothesis import assume, strategies as st
import numpy as np
import pytest

from hostile import FORMS, cases, command_lines, files, mapped, tables, texts
from teachvae import (
    Autoencoder, FactorAnalysis, GaussianMixture, PrincipalComponents, VAE, VariationalEM, cli, datasets
)
from teachvae.comparison import compare
from teachvae.datasets import readers

EPS = np.finfo("float64").eps
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")     # Heywood cases, unfinished fits, codes

# ---- the second road: dense normal distributions, in units of their columns ---------------------------


class Dense:
    """N(b, WᵀW + Ψ) by its D × D matrix, column d in units u_d of about its standard deviation, where entries
    may be missing: what factor analysis says by K × K matrices in the data's own units.
    """

    def __init__(self, model):
        theta, rest = model.theta_, model.theta_rest_
        layer, lost = theta["decoder"][0], rest["decoder"][0]["b"]
        self.b, self.lost, W, psi = layer["b"], lost, layer["W"], model.noise_variance_
        self.u = np.maximum(np.abs(W).max(axis=0), np.sqrt(psi))
        self.W = W / self.u
        self.psi = (np.sqrt(psi) / self.u) ** 2
        self.S = self.W.T @ self.W + np.diag(self.psi)

    def standard(self, x):
        """x in units u, and what rounding leaves unknown of it."""
        z = (x - self.b - self.lost) / self.u
        return z, 4 * EPS * (np.abs(x) + np.abs(self.b)) / self.u

    def nlml(self, x):
        """−log p(x_n) of what was observed, (N,), and its rounding, (N,)."""
        found = []
        for z, unsure in zip(*self.standard(x)):
            o = ~np.isnan(z)
            inverse = np.linalg.inv(self.S[np.ix_(o, o)])
            slope, curved = np.abs(inverse @ z[o]), np.abs(inverse) @ unsure[o]
            value = 0.5 * (o.sum() * math.log(2 * math.pi) + np.linalg.slogdet(self.S[np.ix_(o, o)])[1])
            value += 0.5 * z[o] @ inverse @ z[o] + np.log(self.u[o]).sum()
            found.append((value, slope @ unsure[o] + unsure[o] @ curved))
        value, rounding = np.array(found).T
        return value, rounding + 1e-8 * (1 + np.abs(value))

    def given(self, x, targets, noise=0.0):
        """E[targets|x] of rows x with holes: `targets` (n, D) are rows of their covariance with x in units,
        noise (D,) is added to x's variances. (N, n) each: the mean, and its rounding.
        """
        found = []
        for z, unsure in zip(*self.standard(x)):
            o = ~np.isnan(z)
            t = np.sqrt(1 + np.broadcast_to(noise, z.shape)[o])    # units of the noisy columns
            S = (self.S[np.ix_(o, o)] + np.diag(t**2 - 1)) / np.outer(t, t)
            weights = np.linalg.solve(S, (targets[:, o] / t).T).T / t
            found.append((weights @ z[o], np.abs(weights) @ unsure[o]))
        mean, rounding = (np.array(part) for part in zip(*found))
        return mean, rounding + 1e-7 * (1 + np.abs(mean))


def agree(got, expected, rounding):
    assert np.isfinite(got).all(), got
    error = np.abs(got - expected)
    assert (error <= rounding).all(), f"off by {error.max()}, where {rounding.max()} was stated"


# ---- which tables are refused, said in plain NumPy ----------------------------------------------------


def refusal(x, K, missing, noise):
    """A word of the message with which factor analysis must refuse x, or None."""
    seen = ~np.isnan(x)
    if len(x) < 2:
        return "minimum of 2"
    if not seen.all() and missing == "error":
        return "NaN"
    if np.nanmax(np.abs(x), initial=0, where=seen) > (np.finfo(float).max / x.size) ** 0.5:
        return "overflow"
    if not seen.any(axis=0).all():
        return "nothing was observed"
    low, high = np.nanmin(x, axis=0), np.nanmax(x, axis=0)
    flat = high - low <= 4 * EPS * np.maximum(np.abs(low), np.abs(high))
    small = ~flat & (high - low <= 1e-150)
    every = noise == "isotropic"
    if small.any() and (not every or (small | flat).all()):
        return "underflow"
    if flat.all() if every else flat.any():
        return "constant"
    return None


@cases(60, 500, table=tables(), missing=st.sampled_from(["error", "marginalise"]),
       noise=st.sampled_from(["diagonal", "diagonal", "isotropic"]))
def test_factor_analysis(table, missing, noise):
    """Fit, and every question with a closed form, against a dense normal distribution."""
    x, K = table.x, table.n_components
    model = FactorAnalysis(K, missing=missing, noise=noise, max_iter=60, tol=1e-5, n_starts=1)
    word = refusal(x, K, missing, noise)
    if word is not None:
        with pytest.raises(ValueError, match=word):
            model.fit(x)
        assert not hasattr(model, "theta_")
        return
    before = x.copy()
    model.fit(x)
    dense = Dense(model)
    value, rounding = dense.nlml(x)
    agree(model.nlml(x).values, value, rounding)
    agree(model.nlml_path_[-1], value.mean(), rounding.mean())
    agree(model.bound(x), value, rounding)
    agree(model.transform(x), *dense.given(x, dense.W))
    holed = np.where(np.random.default_rng(table.seed).random(x.shape) < 0.3, np.nan, x)
    mean, unsure = dense.given(holed, dense.S)
    agree(
        model.impute(holed)[np.isnan(holed)], (mean * dense.u + dense.b)[np.isnan(holed)],
        (unsure * dense.u + 8 * EPS * np.abs(dense.b))[np.isnan(holed)],
    )
    np.testing.assert_array_equal(model.impute(holed)[~np.isnan(holed)], holed[~np.isnan(holed)])
    spread = dense.u[0]
    mean, unsure = dense.given(x, dense.S, (spread / dense.u) ** 2)
    agree(model.denoise(x, spread**2), mean * dense.u + dense.b, unsure * dense.u + 8 * EPS * np.abs(dense.b))
    assert np.isfinite(model.sample(3, random_state=0)).all()
    np.testing.assert_array_equal(x, before)


@cases(25, 200, table=tables(holes=["none"], rows=(3, 25)), data=st.data())
def test_partial_fit_is_fit(table, data):
    """Any split: the moments of all rows, and the fit of all."""
    x, K = table.x, table.n_components
    options = dict(max_iter=60, tol=1e-5, n_starts=1)
    cut = data.draw(st.integers(2, len(x)))
    if refusal(x, K, "error", "diagonal") or refusal(x[:cut], K, "error", "diagonal"):
        with pytest.raises(ValueError):
            FactorAnalysis(K, **options).partial_fit(x[:cut]).partial_fit(x[cut:])
            FactorAnalysis(K, **options).fit(x)
        return
    parts = FactorAnalysis(K, **options)
    try:
        parts.partial_fit(x[:cut])
    except ValueError as error:                                    # sums tell a little less than the rows
        assert "constant so far" in str(error)
        spread = np.ptp(x[:cut], axis=0)
        assert (spread <= 1e-7 * np.abs(x[:cut]).max(axis=0)).any()
        return
    if cut < len(x):
        parts.partial_fit(x[cut:])
    whole = FactorAnalysis(K, **options).fit(x)
    u, unsure = x.std(axis=0), 16 * EPS * np.abs(x).max(axis=0)
    agree(parts.mean_, whole.mean_, unsure + 1e-12 * u)
    u2 = np.outer(u, u)
    slack = len(x) * (np.outer(unsure, u) + np.outer(u, unsure) + np.outer(unsure, unsure))
    agree(parts.moments_.covariance / u2, np.cov(x.T, bias=True).reshape(u2.shape) / u2, slack / u2 + 1e-11)


# ---- the order, the scale and the offset of columns -----------------------------------------------------


def clear(seed, N=40, D=5):
    """One factor, noise as large: one maximum, and no Ψ near its floor."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(N, 1)) * rng.uniform(0.7, 1.2, D) + rng.normal(size=(N, D))


ROUTES = {
    "factor analysis": lambda **o: FactorAnalysis(1, **o),
    "factor analysis, float32": lambda **o: FactorAnalysis(1, dtype="float32", **o),
    "variational EM": lambda **o: VariationalEM(1, hidden=(), **o),
    "VAE": lambda **o: VAE(1, hidden=(), optimizer="lbfgs", nodes="sigma", **o),
}


@cases(24, 250, route=st.sampled_from(sorted(ROUTES)), seed=st.integers(0, 2**32 - 1), data=st.data())
def test_neither_order_nor_scale_nor_offset_of_columns_matters(route, seed, data):
    """NLML of another order is the same, of another scale more by its logarithm, of another offset the same
    but for the digits that the offset takes from the data.

    The mean is held to 1e-7, ten times EM's tol. Two fits that each end 1e-8 above the one maximum are
    at most 2·√(2e-8) standard errors of one case apart. So far, by the information equality, is the root mean
    square of what NLML per case differs by; twice that is allowed for N = 40, where the equality holds about.
    """
    x, small = clear(seed), "float32" in route
    D, make = x.shape[1], ROUTES[route]
    order = data.draw(st.permutations(range(D)))
    reach = 8 if small else 140
    scale = 10.0 ** np.array(data.draw(st.tuples(*[st.integers(-reach, reach)] * D)))
    offset = np.array(data.draw(st.tuples(*[st.sampled_from([0, 1, -1e3, 1e6, 1e9])] * D)))
    if refusal(x, 1, "error", "diagonal") is None:
        base = make().fit(x)
        far = (x + offset)[:, order] * scale
        moved = make().fit(far)
        back = (far / scale)[:, np.argsort(order)] - offset        # what rounding left of x
        rounding = 50 * (EPS + (2.0**-24 if small else 0)) * np.abs(x).max() + 20 * np.abs(back - x).max()
        expected = base.nlml(x).values + np.log(scale).sum()
        rounding += 2e-7 * np.abs(expected).max() if small else 0
        change = moved.nlml(far).values - expected
        agree(change.mean(), 0, 1e-7 + rounding)
        agree(np.sqrt(np.mean(change**2)), 0, 4 * math.sqrt(2e-8) + rounding)
        agree(np.abs(moved.transform(far)), np.abs(base.transform(x)), 3e-3 + rounding)


@cases(12, 60, table=tables(holes=["none"], kinds=["plain"], rows=(5, 20), reach=0, offset=3),
       exponents=st.tuples(*[st.integers(-400, 400)] * 5))
def test_a_scale_by_powers_of_two_changes_no_digit_of_a_code(table, exponents):
    """In units of its columns a network sees the same numbers to the last bit, and so learns the same."""
    x, two = table.x, 2.0 ** np.array(exponents[: table.x.shape[1]])
    for make in (
        lambda: VAE(1, hidden=(3,), epochs=2), lambda: VAE(1, hidden=(3,), likelihood="student-t", epochs=2),
        lambda: VariationalEM(1, hidden=(3,), epochs=1),
    ):
        base, scaled = make().fit(x), make().fit(x * two)
        np.testing.assert_allclose(scaled.transform(x * two), base.transform(x), rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(
            scaled.reconstruct(x * two) / two, base.reconstruct(x), rtol=0, atol=1e-8 * np.abs(x).max()
        )


# ---- the other estimators -------------------------------------------------------------------------------


def through(network, params, x):
    """Linear and Tanh layers by hand, from their parameters alone."""
    for layer, p in zip(network.layers, params):
        x = x @ p["W"] + p["b"] if "W" in (p or {}) else np.tanh(x)
    return x


NEURAL = {
    "VAE": lambda K, missing: VAE(K, hidden=(3,), epochs=2, missing=missing),
    "linear VAE": lambda K, missing: VAE(K, hidden=(), epochs=2, missing=missing),
    "Student's t": lambda K, missing: VAE(K, hidden=(3,), epochs=2, likelihood="student-t", missing=missing),
    "variational EM": lambda K, missing: VariationalEM(K, hidden=(3,), epochs=1, missing=missing),
    "linear variational EM": lambda K, missing: VariationalEM(K, hidden=(), epochs=3, missing=missing),
}


@cases(40, 320, route=st.sampled_from(sorted(NEURAL)), table=tables(rows=(1, 12)),
       missing=st.sampled_from(["error", "marginalise"]))
def test_routes_with_networks(route, table, missing):
    """Every answer is finite; a linear model's NLML is that of a dense normal distribution; Q is above it."""
    x = table.x
    model = NEURAL[route](min(table.n_components, 2), missing)
    word = refusal(x, table.n_components, missing, "diagonal")
    if word is not None:
        with pytest.raises(ValueError, match=word):
            model.fit(x)
        return
    model.fit(x)
    Q = model.bound(x)
    if "linear" in route:
        value, rounding = Dense(model).nlml(x)
        agree(model.nlml(x).values, value, rounding)
        assert (Q >= value - rounding).all()
    holed = np.where(np.random.default_rng(table.seed).random(x.shape) < 0.3, np.nan, x)
    z, layers = model.transform(x), model.theta_["decoder"]
    for answer in (Q, z, model.impute(holed), model.sample(3, random_state=0)):
        assert np.isfinite(answer).all()
    W, b = np.abs(layers[-1]["W"]), np.abs(layers[-1]["b"])
    rounding = 64 * EPS * (b + W.sum(axis=0) * (1 + np.abs(z).max()))
    agree(model.reconstruct(x), through(model.model_.decoder, layers, z), rounding)


@cases(20, 160, table=tables(holes=["none", "one"], rows=(1, 15)))
def test_estimators_without_a_factor(table):
    """Principal components against a singular value decomposition, a mixture of one against its normal
    distribution, an autoencoder against its layers by hand: in units of the spread.
    """
    x, D = table.x, table.x.shape[1]
    word = refusal(x, 1, "error", "isotropic") or ("constant" if np.ptp(x, axis=0).max() == 0 else None)
    if word in ("minimum of 2", "NaN", "overflow"):
        for model in (PrincipalComponents(1), GaussianMixture(1), Autoencoder(1, hidden=(3,), epochs=2)):
            with pytest.raises(ValueError, match=word):
                model.fit(x)
        return
    coder = Autoencoder(1, hidden=(3,), epochs=2)
    if word != "underflow":
        coder.fit(x)
        z = coder.transform(x)
        assert np.isfinite(z).all() and np.isfinite(coder.reconstruct(x)).all()
        far = np.abs(x).max()
        agree(coder.reconstruct(x), through(coder.decoder_, coder.decoder_params_, z), 1e-8 * far)
    if refusal(x, 1, "error", "diagonal") is None:
        mixture = GaussianMixture(1).fit(x)
        u = x.std(axis=0)
        z = (x - x.mean(axis=0)) / u
        expected = 0.5 * (z**2).sum(axis=1) + 0.5 * D * math.log(2 * math.pi) + np.log(u).sum()
        unsure = (16 * EPS * np.abs(x).max(axis=0) / u) @ np.ones(D)
        rounding = (1 + np.abs(z).max()) * unsure + unsure**2 + 1e-5 * (1 + np.abs(expected))
        agree(mixture.nlml(x).values, expected, rounding)


# ---- forms ------------------------------------------------------------------------------------------------


@cases(4, 30, table=tables(kinds=["plain", "whole"], rows=(6, 20), reach=20, offset=4), holes=st.booleans())
def test_the_same_numbers_in_every_form(table, holes):
    """The fit is that of the plain array to the last bit, and what was handed over is left as it was."""
    x = table.x if holes else np.where(np.isnan(table.x), 0.5, table.x)
    options = dict(max_iter=20, tol=1e-3, n_starts=1, missing="marginalise" if holes else "error")
    assume(refusal(x, 1, options["missing"], "diagonal") is None)
    plain = FactorAnalysis(1, **options).fit(x)
    with tempfile.TemporaryDirectory() as folder:
        given = {form: make(x) for form, make in FORMS.items()}
        given["mapped from a file"] = mapped(x, Path(folder))
        for form, own in given.items():
            before = own.copy() if isinstance(own, np.ndarray) else None
            fitted = FactorAnalysis(1, **options).fit(own)
            for theirs, ours in (
                (fitted.components_, plain.components_), (fitted.nlml(own).values, plain.nlml(x).values),
                (fitted.transform(own), plain.transform(x)), (fitted.impute(own), plain.impute(x)),
            ):
                np.testing.assert_array_equal(theirs, ours, err_msg=form)
            if before is not None:
                np.testing.assert_array_equal(own.astype(float), before.astype(float), err_msg=form)
        del given, own                                             # Windows keeps a mapped file


def test_polars_is_among_the_forms():
    pytest.importorskip("polars", reason="Polars is no dependency, and is not installed")
    assert "Polars" in FORMS


# ---- files ------------------------------------------------------------------------------------------------


def loaded(path, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", readers.ReadingWarning)
        return datasets.load(path, **options)


@cases(150, 1200, file=files())
def test_files_that_are_damaged_or_lie(file):
    """A ValueError that names the file, or what NumPy, Python's csv or a reading byte by byte finds in it."""
    name, data = file
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        try:
            found = readers.idx(path) if "ubyte" in name else loaded(path)
        except ValueError as error:
            assert type(error) is ValueError and str(path) in str(error), error
            return
        if "ubyte" in name:
            data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
            axes, width = data[3], {8: 1, 9: 1, 11: 2, 12: 4, 13: 4, 14: 8}[data[2]]
            assert found.shape == struct.unpack(f">{axes}I", data[4 : 4 + 4 * axes])
            assert found.astype(found.dtype.newbyteorder(">")).tobytes() == data[4 + 4 * axes :]
            assert found.itemsize == width
            return
        assert np.isfinite(found.x).all()
        if path.suffix in (".npy", ".npz"):
            theirs = np.load(path)
            x = theirs if path.suffix == ".npy" else theirs["x" if "x" in theirs else theirs.files[0]]
            np.testing.assert_array_equal(found.x, x.reshape(len(x), -1).astype(float))
            if path.suffix == ".npz":
                theirs.close()


@cases(120, 1000, text=texts())
def test_tables_as_people_have_them(text):
    """With all said, what was meant is read; with what cannot be seen alone, it is that or refused."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        path.write_bytes(text.data)
        as_meant(loaded(path, **text.options), text)
        try:
            found = loaded(path, **text.needed)
        except ValueError as error:
            assert type(error) is ValueError and str(path) in str(error), error
        else:
            as_meant(found, text)


def as_meant(found, text):
    np.testing.assert_array_equal(found.x, text.x)
    assert found.columns == text.columns
    assert (None if found.labels is None else found.labels.tolist()) == text.labels


# ---- command lines ----------------------------------------------------------------------------------------


@cases(100, 800, words=command_lines(), text=texts())
def test_command_lines(words, text):
    """Status 0 and what the options say of the file, or status 2 and words: never a traceback."""
    seen = []

    def run(dataset, options, *rest):
        seen.append((dataset, options))
        raise ValueError("the end of this test's interest")

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(compare, "run", run)
        path = Path(folder) / "table.csv"
        path.write_bytes(text.data)
        stdout, stderr = io.StringIO(), io.StringIO()
        with redirect_stdout(stdout), redirect_stderr(stderr):
            try:
                status = cli.main(["compare", "--data", str(path), "--output", folder, *words])
            except SystemExit as left:                             # argparse has its own words
                status = left.code
                assert "usage: teachvae compare" in stderr.getvalue()
        assert status == 2 and "Traceback" not in stderr.getvalue()
        assert "error: " in stderr.getvalue() and stdout.getvalue() == ""
        if seen:
            dataset, options = seen[0]
            assert np.isfinite(dataset.x[~np.isnan(dataset.x)]).all()
            said = {w for w in words if w.startswith("--")}
            if not said & {"--header", "--no-header", "--separator", "--decimal", "--encoding", "--labels",
                           "--leave-out", "--missing", "--cases"}:
                as_meant(dataset, text)
