"""Wrong input to every estimator: refused at the door, in words that say what was given, what was
expected and what to do, and with nothing kept of it.

Each row of a table holds the input and the parts of the message that inform. The estimator must come
out unfitted, or, where it had been fitted before, as it was.
"""

import numpy as np
import pytest
from scipy import sparse

from teachvae import Autoencoder, FactorAnalysis, VAE, VariationalEM
from teachvae.arrays.backend import BackendError
from teachvae.routes.conventions import NotFittedError

pytestmark = pytest.mark.short                                   # most fits here end early on purpose

K, D, N = 2, 4, 20
X = np.random.default_rng(0).standard_normal((N, D))
MAKERS = {
    "FactorAnalysis": lambda **o: FactorAnalysis(**{"n_components": K, "tol": 1e-2, **o}),
    "VariationalEM": lambda **o: VariationalEM(**{"n_components": K, "hidden": (3,), "epochs": 1, **o}),
    "VAE": lambda **o: VAE(**{"n_components": K, "hidden": (3,), "epochs": 1, **o}),
    "Autoencoder": lambda **o: Autoencoder(**{"n_components": K, "hidden": (3,), "epochs": 1, **o}),
}
NEURAL = ["VariationalEM", "VAE", "Autoencoder"]
PROBABILISTIC = ["FactorAnalysis", "VariationalEM", "VAE"]
every = pytest.mark.parametrize("name", MAKERS)


def learnt(estimator):
    return sorted(name for name in vars(estimator) if name.endswith("_"))


def assert_refused(estimator, action, parts, error=ValueError):
    """`action` raises `error` itself, with all `parts` in its message, and leaves no trace."""
    before = {name: getattr(estimator, name) for name in learnt(estimator)}
    with pytest.raises(error) as caught:
        action(estimator)
    assert caught.type is error
    message = str(caught.value)
    for part in parts:
        assert part in message, f"{part!r} is missing from: {message}"
    assert learnt(estimator) == list(before)
    assert all(getattr(estimator, name) is value for name, value in before.items())


def changed(**entries):
    """X with entries changed: r3c1=value."""
    x = X.copy()
    for place, value in entries.items():
        row, column = place[1:].split("c")
        x[int(row), int(column)] = value
    return x


# ---- data ------------------------------------------------------------------------------------------

DATA = {
    "NaN": (
        changed(r3c1=np.nan, r7c2=np.nan),
        ["X has 2 NaN and 0 infinity entries", "the first in row 3, column 1", "drop those rows or fill"],
    ),
    "infinity": (
        changed(r5c0=-np.inf, r4c3=np.inf, r9c0=np.nan),
        ["X has 1 NaN and 2 infinity entries", "the first in row 4, column 3", "drop those rows or fill"],
    ),
    "a number": (3.0, ["Expected 2D array, got 0D array of shape ()", "X.reshape(-1, 1)"]),
    "one dimension": (X[0], ["Expected 2D array, got 1D array of shape (4,)", "X.reshape(1, -1) for one"]),
    "images": (
        X.reshape(N, 2, 2),
        ["Expected 2D array, got 3D array of shape (20, 2, 2)", "X.reshape(len(X), -1) for images"],
    ),
    "no rows": (X[:0], ["0 sample(s) (shape=(0, 4))", "a minimum of 2 is required", "give more data cases"]),
    "one row": (X[:1], ["1 sample(s) (shape=(1, 4))", "a minimum of 2 is required", "give more data cases"]),
    "no columns": (X[:, :0], ["0 feature(s) (shape=(20, 0))", "a minimum of 1", "give at least one column"]),
    "text": (
        [["a", "b"], ["c", "d"]],
        ["X of dtype <U1 was given", "numbers are expected", "'a'", "encode text"],
    ),
    "objects": (
        np.array([[1, object()], [2, 3]], dtype=object),
        ["X of dtype object was given", "numbers are expected", "encode"],
    ),
    "a dictionary": ({"a": [1, 2]}, ["X of dtype object was given", "'dict'"]),
    "times": (
        np.array([["2020-01-01"], ["2020-01-02"]], dtype="datetime64[D]"),
        ["X of dtype datetime64[D] was given", "numbers are expected", "encode text, times"],
    ),
    "complex": (X + 1j, ["Complex data not supported", "complex128", "real numbers are expected", "X.real"]),
    "ragged": ([[1.0, 2.0], [3.0]], ["X cannot be made an array", "every row the same number of entries"]),
    "too large": (X * 1e300, ["X has entries of size 2.3e+300", "overflow in float64", "in larger units"]),
    "too large for float32": (
        (X * 1e30).astype("float32"),
        ["X has entries of size 2.3e+30", "overflow in float32", "in larger units"],
    ),
}


@pytest.mark.parametrize("data", DATA)
@every
def test_data_that_no_estimator_can_fit(name, data):
    x, parts = DATA[data]
    error = TypeError if data in ("objects", "a dictionary") else ValueError  # as float() has it
    assert_refused(MAKERS[name](), lambda estimator: estimator.fit(x), parts, error)
    fitted = MAKERS[name]().fit(X)
    assert_refused(fitted, lambda estimator: estimator.fit(x), parts, error)


@pytest.mark.parametrize("make", [sparse.csr_matrix, sparse.coo_array], ids=lambda make: make.__name__)
@every
def test_sparse_data(name, make):
    parts = ["sparse data", make.__name__, "dense data is expected", "use X.toarray()"]
    assert_refused(MAKERS[name](), lambda estimator: estimator.fit(make(X)), parts, TypeError)


@every
def test_masked_arrays(name):
    """NumPy would hand over what is under the mask as if it had been observed."""
    x = np.ma.masked_greater(X, 1)
    parts = ["a masked array was given as X", "without a mask is expected", "drop those rows or fill them in"]
    assert_refused(MAKERS[name](), lambda estimator: estimator.fit(x), parts, TypeError)


@every
def test_numbers_of_other_kinds_are_welcome(name):
    """What NumPy holds exactly in float64 is data: the fit is that of the same numbers as float64."""
    expected = MAKERS[name]().fit(np.round(X * 4)).reconstruct(np.round(X * 4))
    for kind in ("int8", "int64", "float16", "float32", "object", "longdouble"):
        x = np.round(X * 4).astype(kind)
        tolerance = 1e-2 if kind == "float32" else 0
        got = MAKERS[name]().fit(x).reconstruct(x)
        np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance, err_msg=kind)
    MAKERS[name]().fit(X > 0)


# ---- columns ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROBABILISTIC)
def test_constant_columns_under_a_learnt_diagonal_noise(name):
    x = X.copy()
    x[:, 1], x[:, 3] = 5, 0
    parts = ["2 of 4 columns are constant: 1, 3;", "to infinity", "drop these columns", "noise='isotropic'"]
    assert_refused(MAKERS[name](), lambda estimator: estimator.fit(x), parts)
    for noise in ("isotropic", 0.5):
        model = MAKERS[name](noise=noise).fit(x)
        assert np.isfinite(model.bound(x)).all() and np.isfinite(model.score(x))
    parts = ["all 4 columns are constant", "a learnt Ψ", "give data that vary, or use a fixed variance"]
    assert_refused(MAKERS[name](noise="isotropic"), lambda estimator: estimator.fit(x * 0 + 3), parts)
    assert np.isfinite(MAKERS[name](noise=0.5).fit(x * 0 + 3).bound(x)).all()


def test_an_autoencoder_takes_constant_columns():
    x = X.copy()
    x[:, 1], x[:, 3] = 5, 0
    assert np.isfinite(Autoencoder(1, hidden=(), epochs=2).fit(x).reconstruct(x)).all()


@pytest.mark.parametrize("name", PROBABILISTIC)
def test_many_constant_columns_are_named_in_part(name):
    x = np.column_stack([X[:, :1], np.ones((N, 12))])
    parts = ["12 of 13 columns are constant: 1, 2, 3, 4, 5, 6, 7, 8, … (12 in all)"]
    assert_refused(MAKERS[name](), lambda estimator: estimator.fit(x), parts)


@pytest.mark.parametrize("name", ["VariationalEM", "VAE"])
def test_bernoulli_needs_binary_data(name):
    x = (X > 0).astype(float)
    x[6, 2], x[8, 0] = 0.25, 2
    parts = ["got 2 other values", "the first 0.25 in row 6, column 2", "needs 0 and 1", "x > threshold"]
    assert_refused(MAKERS[name](likelihood="bernoulli"), lambda estimator: estimator.fit(x), parts)
    MAKERS[name](likelihood="bernoulli").fit(X > 0)


def questions(estimator):
    """Everything that takes data of the fitted kind."""
    names = ["transform", "reconstruct", "bound", "nlml", "score", "score_samples", "infer", "encode", "draw"]
    return [name for name in names if hasattr(estimator, name)]


WRONG_LATER = {
    "columns": (X[:, :3], ["X has 3 features", "is expecting 4 features", "columns that it was fitted on"]),
    "NaN": (changed(r2c2=np.nan), ["X has 1 NaN and 0 infinity entries", "row 2, column 2"]),
    "one dimension": (X[0], ["Expected 2D array, got 1D array"]),
    "no rows": (X[:0], ["0 sample(s)", "a minimum of 1 is required"]),
    "text": ([["a"] * D], ["dtype <U1", "numbers are expected"]),
}


@pytest.mark.parametrize("wrong", WRONG_LATER)
@every
def test_wrong_data_for_a_fitted_estimator(name, wrong):
    estimator = MAKERS[name]().fit(X)
    x, parts = WRONG_LATER[wrong]
    asked = questions(estimator)
    assert len(asked) >= 2
    for question in asked:
        assert_refused(estimator, lambda e, question=question: getattr(e, question)(x), parts)
        getattr(estimator, question)(X[:1])                        # one row is enough here


@every
def test_wrong_latent_points(name):
    estimator = MAKERS[name]().fit(X)
    message = ["Z has 3 columns", f"this {name} was fitted with K = 2", "one column per latent variable"]
    assert_refused(estimator, lambda e: e.decode(np.zeros((5, 3))), message)
    assert_refused(estimator, lambda e: e.decode(np.zeros(2)), ["got 1D array", "Z.reshape(1, -1)"])
    assert_refused(estimator, lambda e: e.decode([[0.0, np.nan]]), ["Z has 1 NaN", "row 0, column 1"])


@pytest.mark.parametrize("name", PROBABILISTIC)
def test_wrong_questions(name):
    model = MAKERS[name]().fit(X)
    assert_refused(model, lambda m: m.bound(X, phi=np.zeros((N, 3))), ["have shape (20, 4), got (20, 3)"])
    assert_refused(model, lambda m: m.bound(X, n_samples=0), ["n_samples must be an integer >= 1, got 0"])
    assert_refused(model, lambda m: m.sample(2.5), ["n_samples must be an integer >= 1, got 2.5"])
    assert_refused(model, lambda m: m.nlml(X, method="magic"), ["'exact'", "'importance'", "got 'magic'"])
    parts = ["n_samples must be an integer >= 2, got 1"]
    assert_refused(model, lambda m: m.nlml(X, method="importance", n_samples=1), parts)
    for wrong, parts in {
        "draw(X, 0)": ["n_draws must be an integer >= 1, got 0"],
        "draw(X, n_candidates=1)": ["n_candidates must be an integer >= 2, got 1"],
        "draw(X, method='magic')": ["method must be 'exact', 'importance', 'q' or None, got 'magic'"],
        "draw(X, method='q', phi=X[:, :3])": ["phi must have shape (20, 4), got (20, 3)"],
        "draw(X, random_state=-1)": ["random_state must be an integer >= 0", "got -1"],
        "draw(X[:, :3])": ["X has 3 features", "is expecting 4 features"],
        "impute(X, 2.5)": ["n_draws must be an integer >= 1, got 2.5"],
        "impute(X, 2, n_candidates=1)": ["n_candidates must be an integer >= 2, got 1"],
        "impute(X, 2, random_state=-2)": ["random_state must be an integer >= 0", "got -2"],
        "calibration(1)": ["n_cases must be an integer >= 2, got 1"],
        "calibration(9, 0)": ["n_draws must be an integer >= 1, got 0"],
        "calibration(9, method='magic')": ["method must be 'exact', 'importance', 'q' or None, got 'magic'"],
    }.items():
        assert_refused(model, lambda m, wrong=wrong: eval("m." + wrong, {"m": m, "X": X}), parts)


@pytest.mark.parametrize("name", ["VariationalEM", "VAE"])
def test_no_closed_form_for_a_neural_decoder(name):
    model = MAKERS[name]().fit(X)
    parts = ["method='exact' needs a linear decoder and a Gaussian likelihood",
             "use method='grid' for K <= 3, else 'importance'"]
    assert_refused(model, lambda m: m.nlml(X, method="exact"), parts)
    parts = [*parts[:1], "whose posterior is a normal distribution", "use method='importance'"]
    assert_refused(model, lambda m: m.draw(X, method="exact"), parts)


@pytest.mark.parametrize("name", PROBABILISTIC)
def test_what_draws_needs_a_fit(name):
    for question in (lambda m: m.draw(X), lambda m: m.impute(X, 2), lambda m: m.calibration()):
        assert_refused(MAKERS[name](), question, ["not fitted"], NotFittedError)


# ---- column names ----------------------------------------------------------------------------------


@every
def test_column_names(name):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=["length", "width", "height", "weight"])
    estimator = MAKERS[name]().fit(frame)
    np.testing.assert_array_equal(estimator.feature_names_in_, frame.columns)
    np.testing.assert_array_equal(estimator.transform(frame), MAKERS[name]().fit(X).transform(X))
    np.testing.assert_array_equal(estimator.transform(X), estimator.transform(frame))
    parts = ["feature names should match", "expected length, width, height, weight", "got width, length,"]
    swapped = frame[["width", "length", "height", "weight"]]
    assert_refused(estimator, lambda e: e.transform(swapped), parts)
    assert_refused(estimator, lambda e: e.transform(frame[["length"]]), ["X has 1 features", "expecting 4"])
    broken = frame.copy()
    broken.loc[3, "height"] = np.nan
    assert_refused(MAKERS[name](), lambda e: e.fit(broken), ["row 3, column height"])
    text = frame.assign(height="tall")
    assert_refused(MAKERS[name](), lambda e: e.fit(text), ["numbers are expected", "'tall'", "encode text"])
    if name != "Autoencoder":
        flat = frame.assign(width=1.0)
        assert_refused(MAKERS[name](), lambda e: e.fit(flat), ["1 of 4 columns are constant: width;"])
    estimator.fit(X)
    assert not hasattr(estimator, "feature_names_in_"), "a fit without names forgets the old ones"


# ---- hyper-parameters ------------------------------------------------------------------------------

EVERY = {
    "n_components=0": "n_components must be an integer >= 1",
    "n_components=-1": "n_components must be an integer >= 1",
    "n_components=2.5": "n_components must be an integer >= 1",
    "n_components=True": "n_components must be an integer >= 1",
    "n_components='2'": "n_components must be an integer >= 1",
    "n_components=None": "n_components must be an integer >= 1",
    "backend='jax'": "backend must be 'numpy', 'cupy' or 'auto'",
    "dtype='float16'": "dtype must be one of ('float64', 'float32')",
    "dtype='number'": "dtype must be one of ('float64', 'float32')",
}
OF_NEURAL = {
    "activation='gelu'": "activation must be one of ['relu', 'sigmoid', 'softplus', 'tanh']",
    "hidden=5": "hidden must be a tuple of layer sizes, integers >= 1, such as (64, 64), or ()",
    "hidden=None": "hidden must be a tuple of layer sizes",
    "hidden='64'": "hidden must be a tuple of layer sizes",
    "hidden=(3, 0)": "hidden must be a tuple of layer sizes",
    "hidden=(2.5,)": "hidden must be a tuple of layer sizes",
    "epochs=0": "epochs must be an integer >= 1",
    "epochs=1.5": "epochs must be an integer >= 1",
    "batch_size=0": "batch_size must be an integer >= 1",
    "learning_rate=-0.1": "learning_rate must be a finite number > 0",
    "learning_rate=0": "learning_rate must be a finite number > 0",
    "learning_rate=nan": "learning_rate must be a finite number > 0",
    "learning_rate=inf": "learning_rate must be a finite number > 0",
    "learning_rate='fast'": "learning_rate must be a finite number > 0",
    "learning_rate=True": "learning_rate must be a finite number > 0",
}
OF_PROBABILISTIC = {
    "noise='full'": "noise must be 'diagonal', 'isotropic' or a variance > 0",
    "noise=0": "noise must be 'diagonal', 'isotropic' or a variance > 0",
    "noise=-1.0": "noise must be 'diagonal', 'isotropic' or a variance > 0",
    "noise=True": "noise must be 'diagonal', 'isotropic' or a variance > 0",
    "noise=inf": "noise must be 'diagonal', 'isotropic' or a variance > 0",
    "min_noise=0": "min_noise must be a finite number > 0",
    "tol=-1e-06": "tol must be a finite number > 0",
}
OF_ONE = {
    "FactorAnalysis": {
        "max_iter=0": "max_iter must be an integer >= 1",
        "n_components=5": "n_components must be an integer >= 1 and <= 4 (X has 4 columns)",
    },
    "VariationalEM": {
        "likelihood='cauchy'": "likelihood must be one of ['bernoulli', 'bernoulli-relaxed', ",
        "posterior='spline'": "posterior must be one of ['diagonal', 'flow', 'full', 'planar']",
        "e_steps=0": "e_steps must be an integer >= 1",
        "m_steps=0": "m_steps must be an integer >= 1",
        "n_samples=0": "n_samples must be an integer >= 1",
    },
    "VAE": {
        "likelihood='cauchy'": "likelihood must be one of ['bernoulli', 'bernoulli-relaxed', ",
        "posterior='spline'": "posterior must be one of ['diagonal', 'flow', 'full', 'planar']",
        "optimizer='rmsprop'": "optimizer must be one of ['adam', 'sgd', 'lbfgs']",
        "kl='reverse'": "kl must be one of ['analytic', 'sampled', None]",
        "objective='elbo'": "objective must be one of ['bound', 'iwae', 'iwae-dreg']",
        "kl_weight=-1": "kl_weight must be a finite number >= 0, or a function of the epoch",
        "kl_weight=nan": "kl_weight must be a finite number >= 0",
        "kl_weight='none'": "kl_weight must be a finite number >= 0",
        "start_noise=0": "start_noise must be a finite number > 0",
        "nodes='all'": "nodes must be one of ['random', 'sigma', 'quadrature']",
        "n_samples=0": "n_samples must be an integer >= 1",
    },
    "Autoencoder": {
        "optimizer='lbfgs'": "optimizer must be one of ['adam', 'sgd']",
    },
}


def parameter_rows():
    for name in MAKERS:
        tables = [EVERY, OF_ONE[name]]
        tables += [OF_NEURAL] if name in NEURAL else []
        tables += [OF_PROBABILISTIC] if name in PROBABILISTIC else []
        for table in tables:
            for assignment, expected in table.items():
                yield pytest.param(name, assignment, expected, id=f"{name}, {assignment}")


@pytest.mark.parametrize("name, assignment, expected", list(parameter_rows()))
def test_wrong_hyper_parameters(name, assignment, expected):
    """The message ends on the value that was given; the constructor itself never complains."""
    option, _, value = assignment.partition("=")
    value = eval(value, {"nan": np.nan, "inf": np.inf})
    estimator = MAKERS[name](**{option: value})
    assert_refused(estimator, lambda e: e.fit(X), [expected, f"got {value!r}"])


def test_a_noise_of_any_number_type_is_a_number():
    for noise in (1, 0.5, np.float32(0.5), np.float64(0.5), np.int64(1)):
        np.testing.assert_allclose(FactorAnalysis(1, noise=noise).fit(X).noise_variance_, float(noise))


def test_lbfgs_needs_nodes_that_stay():
    parts = ["optimizer='lbfgs' needs a deterministic objective", "use it with nodes='sigma'"]
    assert_refused(MAKERS["VAE"](optimizer="lbfgs"), lambda e: e.fit(X), parts)


@pytest.mark.parametrize("options", [{}, {"hidden": (), "likelihood": "bernoulli"}], ids=["tanh", "bits"])
def test_sigma_points_are_for_linear_gaussian_models(options):
    """Elsewhere a decoder can please a few points and nobody else: such a Q is no bound."""
    parts = ["nodes='sigma' is exact for a linear-Gaussian model only", "hidden=()", "use nodes='random'"]
    assert_refused(MAKERS["VAE"](nodes="sigma", **options), lambda e: e.fit(X > 0), parts)


def test_a_grid_of_nodes_is_for_few_dimensions():
    parts = ["nodes='quadrature' is for K <= 2", "got n_components=3", "use"]
    assert_refused(MAKERS["VAE"](n_components=3, nodes="quadrature"), lambda e: e.fit(X), parts)


@pytest.mark.parametrize("name", ["VariationalEM", "VAE"])
def test_bernoulli_has_no_noise(name):
    estimator = MAKERS[name](likelihood="bernoulli", noise="isotropic")
    parts = ["noise='isotropic' belongs to likelihood='gaussian', not 'bernoulli'"]
    assert_refused(estimator, lambda e: e.fit(X > 0), parts)


def test_more_components_than_columns_under_a_closed_form():
    parts = ["n_components must be an integer >= 1 and <= 4", "hidden=()", "X has 4 columns", "got 5"]
    assert_refused(VariationalEM(5, hidden=()), lambda e: e.fit(X), parts)
    VariationalEM(5, hidden=(3,), epochs=1).fit(X)                 # a neural decoder may have them


@every
def test_cupy_fails_loudly_where_there_is_none(name):
    try:
        import cupy

        cupy.zeros(1)
    except Exception:
        parts = ["backend='cupy' needs", "use backend='numpy'"]
        assert_refused(MAKERS[name](backend="cupy"), lambda e: e.fit(X), parts, BackendError)
    else:
        pytest.skip("this machine has a GPU")


# ---- covariance matrices ---------------------------------------------------------------------------

S = np.cov(X.T, bias=True)
ASYMMETRIC = S.copy()
ASYMMETRIC[0, 2] += 0.5
INDEFINITE = np.array([[1.0, 0.9, 0.9], [0.9, 1.0, -0.9], [0.9, -0.9, 1.0]])
COVARIANCES = {
    "not square": (S[:3], {}, ["must be square", "got shape (3, 4)", "fit(X)"]),
    "data": (X, {}, ["must be square", "got shape (20, 4)", "np.cov(X.T, bias=True)"]),
    "not symmetric": (
        ASYMMETRIC, {},
        ["must be symmetric", f"S[0, 2] = {ASYMMETRIC[0, 2]:g}", f"S[2, 0] = {S[2, 0]:g}", "(S + S.T) / 2"],
    ),
    "negative eigenvalue": (INDEFINITE, {}, ["no negative eigenvalues", "is -0.8", "the same data cases"]),
    "no variance": (
        np.diag([1.0, 0.0, 1.0, 0.0]), {}, ["columns [1, 3] have variance 0", "drop these rows and columns"],
    ),
    "NaN": (np.where(np.eye(D) > 0, np.nan, S), {}, ["S has 4 NaN", "row 0, column 0"]),
    "one dimension": (np.ones(3), {}, ["Expected 2D array, got 1D array of shape (3,)"]),
    "K above D": (S[:1, :1], {}, ["n_components must be an integer >= 1 and <= 1", "got 2"]),
    "mean of another length": (S, {"mean": np.zeros(3)}, ["mean must be (4,) finite numbers", "shape (3,)"]),
    "mean with NaN": (S, {"mean": [0, 0, np.nan, 0]}, ["mean must be (4,) finite numbers", "nan"]),
    "n_cases": (S, {"n_cases": 1}, ["n_cases must be an integer >= 2, got 1"]),
}


@pytest.mark.parametrize("case", COVARIANCES)
def test_bad_covariance_matrices(case):
    matrix, options, parts = COVARIANCES[case]
    assert_refused(MAKERS["FactorAnalysis"](), lambda e: e.fit_covariance(matrix, **options), parts)


# ---- the check itself ------------------------------------------------------------------------------


def test_the_check_can_fail():
    """A missing part, another class of error, no error, and a trace left behind are all seen."""
    def leave_a_trace(estimator):
        estimator.n_features_in_ = 1
        raise ValueError("what was given, what was expected")

    def refuse(estimator):
        raise ValueError("what was given, what was expected")

    def not_fitted(estimator):
        raise NotFittedError("what was given, what was expected")

    assert_refused(FactorAnalysis(), refuse, ["given", "expected"])
    for action, parts in (
        (refuse, ["what to do"]), (not_fitted, []), (lambda estimator: None, []), (leave_a_trace, ["given"]),
    ):
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            assert_refused(FactorAnalysis(), action, parts)
