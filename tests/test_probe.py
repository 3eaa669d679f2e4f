"""The linear probe and PCA, each by second roads.

For the probe: SciPy's log_softmax and its derivative-free slopes, central differences, scikit-learn's
LogisticRegression, the conditions that hold at the minimum, and data whose minimum is known in closed
form. For PCA: scikit-learn's, eigh of the covariance, and the best plane's squared error.
"""

from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, special
from sklearn import decomposition
from sklearn.base import clone, is_classifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from teachvae import datasets, tree
from teachvae.arrays.backend import to_numpy
from teachvae.comparison.probe import LinearProbe, cross_entropy, log_softmax
from teachvae.gradcheck import check
from teachvae.networks.convergence import ConvergenceWarning
from teachvae.networks.layers import Linear
from teachvae.routes.conventions import NotFittedError
from teachvae.routes.principal_components import PrincipalComponents

N, K, C = 300, 4, 3                                                # two blocks of rows, of unequal length


def clouds(n_classes=C, seed=5):
    """Overlapping classes of unequal size; the columns of Z differ in place and size by far."""
    rng = np.random.default_rng(seed)
    shares = np.arange(1, n_classes + 1) / np.arange(1, n_classes + 1).sum()
    y = rng.choice(n_classes, size=N, p=shares)
    Z = rng.standard_normal((n_classes, K))[y] + rng.standard_normal((N, K))
    return Z * np.array([1.0, 100.0, 0.01, 3.0]) + np.array([0.0, -50.0, 7.0, 1.0]), y


Z, Y = clouds()
PCA_X = Z @ np.random.default_rng(6).standard_normal((K, 7))
PCA_X += 0.3 * np.random.default_rng(7).standard_normal((N, 7))


@cache
def fitted():
    """The probe with its defaults on Z and Y."""
    return LinearProbe().fit(Z, Y)


def close(a, b, atol):
    np.testing.assert_allclose(a, b, rtol=0, atol=atol)


def theirs(penalty, n_classes):
    """scikit-learn's model with the same minimum. Of two classes it keeps only w = W₁ − W₀, so
    ‖W‖² = ½ ‖w‖², and its penalty on w counts twice as much."""
    C_ = (2 if n_classes == 2 else 1) / (N * penalty)
    return make_pipeline(StandardScaler(), LogisticRegression(C=C_, tol=1e-10, max_iter=10000))


# ---- the loss and its gradient ---------------------------------------------------------------------


@pytest.fixture
def problem(rng):
    """(layer, params, z, onehot, λ) away from the minimum, and the labels."""
    y = rng.integers(0, C, 20)
    params = {"W": rng.standard_normal((K, C)), "b": rng.standard_normal(C)}
    return Linear(K, C), params, rng.standard_normal((20, K)), np.eye(C)[y], 0.7, y


def loss_by_scipy(params, z, y, penalty):
    log_p = special.log_softmax(z @ params["W"] + params["b"], axis=1)
    return -np.mean(log_p[np.arange(len(y)), y]) + penalty / 2 * np.linalg.norm(params["W"]) ** 2


def test_the_loss_against_scipy_on_every_backend(backend, problem):
    layer, params, z, onehot, penalty, y = problem
    there = tree.map(backend.asarray, params)
    z_there, onehot_there = backend.asarray(z), backend.asarray(onehot)
    loss, grads = cross_entropy(layer, there, z_there, onehot_there, penalty)
    rtol = 1e-5 if backend.dtype == "float32" else 1e-13
    np.testing.assert_allclose(float(loss), loss_by_scipy(params, z, y, penalty), rtol=rtol)
    _, here = cross_entropy(layer, params, z, onehot, penalty)
    for name in ("W", "b"):
        assert str(grads[name].dtype).endswith(backend.dtype)
        np.testing.assert_allclose(to_numpy(grads[name]), here[name], rtol=0, atol=100 * rtol)


def test_the_gradient_against_central_differences(problem):
    layer, params, z, onehot, penalty, _ = problem
    report = check(
        lambda p: float(cross_entropy(layer, p, z, onehot, penalty)[0]),
        params,
        lambda p: cross_entropy(layer, p, z, onehot, penalty)[1],
        counts={"N": 20, "C": C},
    )
    assert report.ok, report


def test_the_gradient_against_the_slopes_of_scipys_loss(problem):
    layer, params, z, onehot, penalty, y = problem
    flat, views = tree.pack(params)

    def loss(vector):
        flat[...] = vector
        return loss_by_scipy(views, z, y, penalty)

    slopes = optimize.approx_fprime(flat.copy(), loss, 1e-7)
    close(tree.flatten(cross_entropy(layer, params, z, onehot, penalty)[1]), slopes, 1e-5)


def test_log_softmax_of_numbers_whose_exp_overflows():
    logits = np.array([[1e5, 0.0, -1e5], [-1e5, -1e5, -1e5], [800.0, 800.0, 1.0]])
    np.testing.assert_allclose(log_softmax(logits), special.log_softmax(logits, axis=1), rtol=1e-14)


# ---- the minimum -----------------------------------------------------------------------------------


@pytest.mark.parametrize("penalty", [1e-3, 0.1])
@pytest.mark.parametrize("n_classes", [2, 3, 6])
def test_the_minimum_is_that_of_scikit_learns_logistic_regression(n_classes, penalty):
    codes, y = clouds(n_classes)
    ours = LinearProbe(penalty=penalty, tol=1e-13).fit(codes, y)
    other = theirs(penalty, n_classes).fit(codes, y)
    W, b = other[-1].coef_.T, other[-1].intercept_
    if n_classes == 2:
        W, b = np.hstack([-W / 2, W / 2]), np.hstack([-b / 2, b / 2])
    free = b - b.mean() - (ours.params_["b"] - ours.params_["b"].mean())   # the softmax's free shift
    close(ours.params_["W"], W, 1e-5)
    close(free, 0, 1e-5)
    close(ours.predict_log_proba(codes), other.predict_log_proba(codes), 1e-5)
    np.testing.assert_array_equal(ours.predict(codes), other.predict(codes))
    assert ours.score(codes, y) == pytest.approx(other.score(codes, y), abs=1e-15)


def test_the_default_tolerance_is_enough():
    close(fitted().predict_log_proba(Z), theirs(1e-3, C).fit(Z, Y).predict_log_proba(Z), 1e-3)
    tight = LinearProbe(tol=1e-14).fit(Z, Y)
    assert fitted().loss_path_[-1] == pytest.approx(tight.loss_path_[-1], abs=1e-8)


def test_at_the_minimum_the_slopes_are_zero():
    """∂/∂b: the mean probabilities are the shares of the classes. ∂/∂W: λW is what the residuals leave."""
    probe = LinearProbe(penalty=0.02, tol=1e-14).fit(Z, Y)
    p, onehot = np.exp(probe.predict_log_proba(Z)), np.eye(C)[Y]
    close(p.sum(axis=1), 1, 1e-14)
    close(p.mean(axis=0), onehot.mean(axis=0), 1e-6)
    standard = (Z - Z.mean(axis=0)) / Z.std(axis=0)
    close(probe.params_["W"], standard.T @ (onehot - p) / N / 0.02, 1e-4)
    close(probe.params_["b"].sum(), 0, 1e-12)


def test_the_path_falls_from_log_C_to_the_loss_of_what_is_kept():
    path = fitted().loss_path_
    assert fitted().converged_ and path[0] < np.log(C) and (np.diff(path) <= 1e-12).all()
    standard = (Z - fitted().mean_) / fitted().scale_
    assert path[-1] == pytest.approx(loss_by_scipy(fitted().params_, standard, Y, 1e-3), abs=1e-12)
    log_p = fitted().predict_log_proba(Z)
    fit, weights = -log_p[np.arange(N), Y].mean(), fitted().params_["W"]
    assert path[-1] == pytest.approx(fit + 0.5e-3 * np.sum(weights**2), abs=1e-12)
    assert 0.4 < fitted().score(Z, Y) < 1                          # neither idle nor perfect


def test_a_heavy_penalty_leaves_the_shares_of_the_classes():
    shares = np.bincount(Y) / N
    log_p = LinearProbe(penalty=1e8).fit(Z, Y).predict_log_proba(Z[:3])
    close(log_p, np.tile(np.log(shares), (3, 1)), 1e-5)


def test_what_needs_a_bend_counts_for_nothing():
    """Exclusive or: the four corners of a square, neighbours of unlike labels."""
    corners = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    probe = LinearProbe(penalty=1e-6).fit(np.tile(corners, (5, 1)), np.tile([0, 1, 1, 0], 5))
    close(probe.predict_log_proba(corners), np.log(0.5), 1e-12)
    bent = np.column_stack([corners, corners.prod(axis=1)])
    assert LinearProbe().fit(np.tile(bent, (5, 1)), np.tile([0, 1, 1, 0], 5)).score(bent, [0, 1, 1, 0]) == 1


# ---- units of the codes ----------------------------------------------------------------------------


def test_a_shift_and_a_scale_of_each_column_change_nothing():
    shift, scale = np.array([3.0, -1e3, 0.5, 0.0]), np.array([1e3, -2.0, 1e-6, 1.0])
    other = LinearProbe().fit(Z * scale + shift, Y)
    close(other.predict_log_proba(Z * scale + shift), fitted().predict_log_proba(Z), 1e-4)
    np.testing.assert_array_equal(other.predict(Z * scale + shift), fitted().predict(Z))
    powers = np.array([4.0, 0.5, 1024.0, -2.0])                    # exact in floating point
    exact = LinearProbe().fit(Z * powers, Y)
    close(exact.predict_log_proba(Z * powers), fitted().predict_log_proba(Z), 1e-11)


def test_without_a_penalty_to_speak_of_no_invertible_map_changes_anything():
    codes = (Z - Z.mean(axis=0)) / Z.std(axis=0)
    mixed = codes @ np.random.default_rng(8).standard_normal((K, K))

    def largest_difference(**options):
        here, there = (LinearProbe(**options).fit(z, Y).predict_log_proba(z) for z in (codes, mixed))
        return np.abs(here - there).max()

    assert largest_difference(penalty=1e-9, tol=1e-14) < 1e-3
    assert largest_difference(penalty=1.0) > 0.01                  # by way of λ it does


def test_the_units_are_those_of_the_training_codes():
    close(fitted().mean_, Z.mean(axis=0), 1e-12)
    close(fitted().scale_, Z.std(axis=0), 1e-10)
    one = fitted().predict_log_proba(Z[:1])                        # not in units of the one row
    close(one, fitted().predict_log_proba(Z)[:1], 1e-13)


@pytest.mark.parametrize("value", [0.0, 5.0, 1e6 + 0.1])
def test_a_constant_column_tells_nothing_and_does_no_harm(value):
    constant = np.full((N, 1), value)
    assert value < 1e6 or constant.std() > 0                       # rounding alone
    probe = LinearProbe().fit(np.hstack([Z, constant]), Y)
    assert probe.scale_[-1] == 1
    for new in (constant, constant + 1):
        close(probe.predict_log_proba(np.hstack([Z, new])), fitted().predict_log_proba(Z), 1e-5)


def test_a_column_of_little_spread_is_not_taken_for_a_constant_one():
    codes = Z.copy()
    codes[:, 0] *= 1e-9
    close(LinearProbe().fit(codes, Y).predict_log_proba(codes), fitted().predict_log_proba(Z), 1e-5)


def test_it_computes_in_float64():
    narrow = Z.astype("float32")
    probe = LinearProbe().fit(narrow, Y)
    log_p = probe.predict_log_proba(narrow)
    assert log_p.dtype == probe.params_["W"].dtype == np.float64
    same = LinearProbe().fit(narrow.astype("float64"), Y)
    np.testing.assert_array_equal(log_p, same.predict_log_proba(narrow.astype("float64")))


# ---- labels ----------------------------------------------------------------------------------------

KINDS = {
    "text": np.array(["ox", "bee", "cow and calf"]),
    "numbers with gaps": np.array([70, -3, 12]),
    "fractions": np.array([0.5, -0.25, 7.0]),
    "objects": np.array(["ox", "bee", "cow"], dtype=object),
    "days": np.array(["2024-02-29", "2020-01-01", "2022-06-01"], dtype="datetime64[D]"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_labels_of_any_kind(kind):
    names = KINDS[kind]
    y, order = names[Y], np.argsort(names)
    probe = LinearProbe().fit(Z, y)
    np.testing.assert_array_equal(probe.classes_, names[order])
    close(probe.predict_log_proba(Z), fitted().predict_log_proba(Z)[:, order], 1e-4)
    np.testing.assert_array_equal(probe.predict(Z), names[fitted().predict(Z)])
    assert probe.predict(Z).dtype == names.dtype
    for labels in (y, list(y), pd.Series(y)):
        assert probe.score(Z, labels) == fitted().score(Z, Y)
    np.testing.assert_array_equal(LinearProbe().fit(Z, pd.Series(y)).predict(Z), probe.predict(Z))


def test_truth_values_are_labels():
    probe = LinearProbe().fit(Z, Y == 2)
    assert probe.classes_.tolist() == [False, True] and probe.predict(Z).dtype == bool


def test_the_score_is_the_share_of_right_labels_and_unseen_ones_are_wrong():
    right = fitted().predict(Z)
    assert fitted().score(Z, right) == 1
    wrong = right.copy()
    wrong[:30] = 99
    assert fitted().score(Z, wrong) == pytest.approx(0.9, abs=1e-15)
    assert fitted().score(Z, np.full(N, 99)) == fitted().score(Z, np.full(N, 99.0)) == 0
    assert fitted().score(Z, (right + 1) % C) == 0


@pytest.mark.parametrize("taught, asked, said", [
    (Y, Y.astype(str), "y holds text, first '.', .* which are numbers: 0, 1, 2; give y of"),
    (Y.astype(str), Y, "y holds numbers, first ., .* which are text: 0, 1, 2; give"),
    (Y.astype(str), Y.astype(object), "y holds numbers, .* which are text"),
    (Y.astype(str), Y.astype(str).astype("S"), "y holds bytes, .* which are text"),
    (Y, KINDS["days"][Y], "y holds times, .* which are numbers"),
    (Y + 0.1, (Y + 0.1).astype("float32"), "fractions in float32, .* which are fractions in float64"),
])
def test_labels_of_another_kind_are_not_scored_as_wrong(taught, asked, said):
    probe = LinearProbe().fit(Z, taught)
    assert_refused(probe, lambda p: p.score(Z, asked), "and none of the classes that were fitted")
    with pytest.raises(ValueError, match=said):
        probe.score(Z, asked)
    assert probe.score(Z, taught) == LinearProbe().fit(Z, taught.astype(object)).score(Z, taught) > 0.5


# ---- digits ----------------------------------------------------------------------------------------


def test_how_much_of_the_digit_the_pixels_and_their_components_hold():
    train, test = datasets.split(datasets.digits())
    assert LinearProbe().fit(train.x, train.labels).score(test.x, test.labels) > 0.93
    shares = {}
    for n_components in (2, 10):
        pca = PrincipalComponents(n_components).fit(train.x)
        probe = LinearProbe().fit(pca.transform(train.x), train.labels)
        shares[n_components] = probe.score(pca.transform(test.x), test.labels)
    assert 0.55 < shares[2] < 0.68 and 0.9 < shares[10] < 0.97     # measured: 0.618 and 0.944
    shuffled = np.random.default_rng(0).permutation(train.labels)
    assert LinearProbe().fit(train.x, shuffled).score(test.x, test.labels) < 0.25


# ---- principal components --------------------------------------------------------------------------


@pytest.mark.parametrize("n_components", [1, 3, 7])
def test_pca_against_scikit_learn(n_components):
    ours = PrincipalComponents(n_components).fit(PCA_X)
    other = decomposition.PCA(n_components, svd_solver="full").fit(PCA_X)
    signs = np.sign(np.sum(ours.components_ * other.components_, axis=1))
    close(ours.components_, signs[:, None] * other.components_, 1e-10)
    np.testing.assert_allclose(ours.explained_variance_, other.explained_variance_ * (N - 1) / N, rtol=1e-10)
    new = PCA_X[:20] + 1
    np.testing.assert_allclose(ours.transform(new), other.transform(new) * signs, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(
        ours.reconstruct(new), other.inverse_transform(other.transform(new)), rtol=1e-8, atol=1e-8
    )
    codes = np.random.default_rng(1).standard_normal((5, n_components))
    close(ours.decode(codes), other.inverse_transform(codes * signs), 1e-9)


def test_pca_against_the_eigenvectors_of_the_covariance():
    pca = PrincipalComponents(4).fit(PCA_X)
    values, vectors = np.linalg.eigh(np.cov(PCA_X.T, bias=True))
    values, vectors = values[::-1][:4], vectors[:, ::-1][:, :4].T
    np.testing.assert_allclose(pca.explained_variance_, values, rtol=1e-7)
    close(np.abs(np.sum(pca.components_ * vectors, axis=1)), 1, 1e-9)
    close(pca.components_ @ pca.components_.T, np.eye(4), 1e-13)
    close(pca.mean_, PCA_X.mean(axis=0), 1e-12)
    codes = pca.transform(PCA_X)
    np.testing.assert_allclose(codes.var(axis=0), pca.explained_variance_, rtol=1e-9)
    close(np.corrcoef(codes.T), np.eye(4), 1e-7)                   # and uncorrelated


def test_no_plane_is_nearer_to_the_data():
    """The squared error per data case is the sum of the variances left out."""
    values = np.linalg.eigvalsh(np.cov(PCA_X.T, bias=True))[::-1]
    for n_components in (1, 2, 5):
        pca = PrincipalComponents(n_components).fit(PCA_X)
        error = np.mean(np.sum((PCA_X - pca.reconstruct(PCA_X)) ** 2, axis=1))
        assert error == pytest.approx(values[n_components:].sum(), rel=1e-6)
        codes = np.ones((3, n_components))
        close(pca.transform(pca.decode(codes)), codes, 1e-10)
    close(PrincipalComponents(7).fit(PCA_X).reconstruct(PCA_X), PCA_X, 1e-10)


@pytest.mark.parametrize("seed", range(5))
def test_the_largest_entry_of_each_component_is_positive(seed):
    x = np.random.default_rng(seed).standard_normal((30, 6))
    components = PrincipalComponents(6).fit(x).components_
    assert (components.max(axis=1) == np.abs(components).max(axis=1)).all()
    np.testing.assert_allclose(PrincipalComponents(6).fit(-x).components_, components, atol=1e-12)


def test_pca_of_float32_computes_in_float64():
    x = PCA_X.astype("float32")
    pca = PrincipalComponents(3).fit(x)
    assert pca.transform(x).dtype == pca.components_.dtype == np.float64
    np.testing.assert_array_equal(pca.components_, PrincipalComponents(3).fit(x.astype(float)).components_)


def test_pca_keeps_the_K_that_was_fitted():
    pca = PrincipalComponents(3).fit(PCA_X)
    pca.set_params(n_components=2)
    assert pca.transform(PCA_X).shape == (N, 3) and pca.decode(np.zeros((2, 3))).shape == (2, 7)
    close(PrincipalComponents(3).fit_transform(PCA_X), pca.transform(PCA_X), 0)


# ---- errors ----------------------------------------------------------------------------------------


def learnt(estimator):
    return {name: value for name, value in vars(estimator).items() if name.endswith("_")}


def assert_refused(estimator, action, *parts, error=ValueError):
    """`action` raises `error` itself, with all `parts` in its message, and leaves no trace."""
    before = learnt(estimator)
    with pytest.raises(error) as caught:
        action(estimator)
    assert caught.type is error
    assert [part for part in parts if part not in str(caught.value)] == [], str(caught.value)
    after = learnt(estimator)
    assert list(after) == list(before) and all(after[name] is before[name] for name in before)


BAD_LABELS = {
    "too few": (Y[:-1], ValueError, ["Z has 300 data cases", "299 labels", "one for each"]),
    "too many": (np.append(Y, 0), ValueError, ["Z has 300 data cases", "301 labels"]),
    "a column": (Y[:, None], ValueError, ["shape (300, 1)", "(N,)", "y.ravel()"]),
    "one-hot": (np.eye(C)[Y], ValueError, ["shape (300, 3)", "y.argmax(axis=1)"]),
    "none at all": (None, ValueError, ["shape ()", "one label per data case"]),
    "NaN": (np.where(np.arange(N) % 100 == 7, np.nan, Y), ValueError, ["y has 3 NaN", "place 7", "drop"]),
    "NaT": (KINDS["days"][Y].copy(), ValueError, ["y has 1 NaN", "place 4"]),
    "text and None": (np.array(["ox", None, "cow"], dtype=object)[Y], TypeError, ["be sorted", "drop"]),
    "text and numbers": (np.array(["ox", 1, 2.5], dtype=object)[Y], TypeError, ["be sorted", "one kind"]),
    "masked": (np.ma.masked_equal(Y, 1), TypeError, ["masked array was given as y", "drop the data cases"]),
}
BAD_LABELS["NaT"][0][4] = np.datetime64("NaT")


@pytest.mark.parametrize("case", BAD_LABELS)
def test_labels_that_cannot_be_labels(case):
    y, error, parts = BAD_LABELS[case]
    assert_refused(LinearProbe(), lambda probe: probe.fit(Z, y), *parts, error=error)
    assert_refused(fitted(), lambda probe: probe.fit(Z, y), *parts, error=error)
    assert_refused(fitted(), lambda probe: probe.score(Z, y), *parts, error=error)


def test_one_class_is_nothing_to_tell_apart():
    for name in ("ox", 3):
        parts = ["all 300 labels are", repr(name), "at least two classes"]
        assert_refused(LinearProbe(), lambda probe: probe.fit(Z, np.full(N, name, dtype=object)), *parts)


def test_codes_that_cannot_be_codes():
    bad = Z.copy()
    bad[3, 1] = np.nan
    for call in (lambda p: p.fit(bad, Y), lambda p: p.predict(bad), lambda p: p.score(bad, Y)):
        assert_refused(fitted(), call, "Z has 1 NaN", "row 3, column 1")
    assert_refused(LinearProbe(), lambda p: p.fit(Z[:, 0], Y), "Expected 2D array", "Z.reshape(-1, 1)")
    assert_refused(LinearProbe(), lambda probe: probe.fit(Z[:1], Y[:1]), "a minimum of 2")
    assert_refused(fitted(), lambda probe: probe.predict(Z[:, :3]), "Z has 3 columns", "K = 4")


def test_columns_in_another_order_are_refused():
    frame = pd.DataFrame(Z, columns=list("abcd"))
    probe = LinearProbe().fit(frame, Y)
    np.testing.assert_array_equal(probe.predict(frame), fitted().predict(Z))
    assert_refused(probe, lambda p: p.predict(frame[list("abdc")]), "feature names", "a, b, d, c")
    pca = PrincipalComponents().fit(frame)
    assert_refused(pca, lambda p: p.transform(frame[list("abdc")]), "feature names", "a, b, d, c")


@pytest.mark.parametrize("options, parts", [
    ({"penalty": 0}, ["penalty must be a finite number > 0, got 0"]),
    ({"penalty": -1e-3}, ["penalty must be a finite number > 0, got -0.001"]),
    ({"penalty": np.nan}, ["penalty must be a finite number > 0, got nan"]),
    ({"tol": 0}, ["tol must be a finite number > 0"]),
    ({"max_iter": 0}, ["max_iter must be an integer >= 1, got 0"]),
    ({"max_iter": 2.5}, ["max_iter must be an integer >= 1, got 2.5"]),
])
def test_options_of_the_probe(options, parts):
    assert_refused(LinearProbe(**options), lambda probe: probe.fit(Z, Y), *parts)


def test_before_fit():
    calls = [lambda p: p.predict(Z), lambda p: p.predict_log_proba(Z), lambda p: p.score(Z, Y)]
    for call in calls:
        assert_refused(LinearProbe(), call, "LinearProbe is not fitted yet", error=NotFittedError)
    for call in (lambda p: p.transform(PCA_X), lambda p: p.decode(Z), lambda p: p.reconstruct(PCA_X)):
        assert_refused(PrincipalComponents(), call, "not fitted yet", error=NotFittedError)


def test_a_search_that_ends_early_says_so():
    with pytest.warns(ConvergenceWarning, match="stopped after 2 iterations.*raise max_iter=2") as caught:
        probe = LinearProbe(max_iter=2).fit(Z, Y)
    assert not probe.converged_ and len(probe.loss_path_) == 2
    assert caught[0].filename == __file__


def test_a_probe_makes_no_codes():
    for name in ("transform", "fit_transform", "active_units"):
        assert not hasattr(fitted(), name)


REPEATED = np.column_stack([PCA_X[:, :2], PCA_X[:, :2] @ [[1.0, 2.0], [3.0, 1.0]] + 5])


@pytest.mark.parametrize("x, n_components, parts", [
    (PCA_X, 8, ["n_components must", ">= 1 and <= 7 (X has 300 data cases and 7 columns)", "got 8"]),
    (PCA_X[:5], 5, ["<= 4 (X has 5 data cases and 7 columns)", "got 5"]),
    (PCA_X, 0, ["n_components must be an integer >= 1", "got 0"]),
    (PCA_X, 2.0, ["n_components must be an integer >= 1", "got 2.0"]),
    (REPEATED, 3, ["n_components=3", "varies in 2 only", "no more than that"]),
    (np.full((50, 3), 0.1), 1, ["n_components=1", "varies in 0 only"]),
    (np.zeros((50, 3)), 1, ["n_components=1", "varies in 0 only"]),
    (PCA_X * np.inf, 1, ["infinity"]),
])
def test_principal_components_that_are_not_there(x, n_components, parts):
    assert_refused(PrincipalComponents(n_components), lambda pca: pca.fit(x), *parts)


def test_as_many_components_as_the_rank():
    pca = PrincipalComponents(2).fit(REPEATED)
    close(pca.reconstruct(REPEATED), REPEATED, 1e-9)
    assert PrincipalComponents(4).fit(PCA_X[:5]).components_.shape == (4, 7)
    far = 1e6 + 1e-3 * PCA_X                                       # little spread, far away: still full rank
    assert PrincipalComponents(7).fit(far).components_.shape == (7, 7)


def test_new_data_of_another_width():
    pca = PrincipalComponents(2).fit(PCA_X)
    assert_refused(pca, lambda p: p.transform(PCA_X[:, :5]), "X has 5 features", "expecting 7")
    assert_refused(pca, lambda p: p.decode(np.zeros((2, 3))), "Z has 3 columns", "K = 2")


# ---- inside scikit-learn's tools -------------------------------------------------------------------


def test_cross_validation_is_that_of_a_classifier():
    assert is_classifier(fitted()) and not is_classifier(PrincipalComponents())
    assert clone(LinearProbe(penalty=0.5)).get_params() == {"penalty": 0.5, "tol": 1e-10, "max_iter": 1000}
    C_ = 1 / (N * 2 / 3 * 1e-3)                                    # two thirds of the rows in each fold
    other = make_pipeline(StandardScaler(), LogisticRegression(C=C_, tol=1e-8, max_iter=10000))
    order = np.argsort(Y, kind="stable")                           # without stratifying, classes go missing
    ours = cross_val_score(LinearProbe(), Z[order], Y[order], cv=3)
    np.testing.assert_allclose(ours, cross_val_score(other, Z[order], Y[order], cv=3), atol=0.011)
    chain = make_pipeline(PrincipalComponents(2), LinearProbe()).fit(PCA_X, Y)
    assert chain.score(PCA_X, Y) > np.bincount(Y).max() / N


def test_a_probe_of_numbers_that_are_no_classes_is_refused():
    Z, y = clouds()
    words = r"Unknown label type: continuous. y holds numbers such as -?\d.*cut y into"
    with pytest.raises(ValueError, match=words):
        LinearProbe().fit(Z, np.random.default_rng(0).standard_normal(N))
    assert LinearProbe().fit(Z, y.astype(float)).classes_.tolist() == [0.0, 1.0, 2.0]
    with pytest.raises(ValueError, match=r"all 300 labels are 0.0; "):
        LinearProbe().fit(Z, np.zeros(N))
    Z[3, 1] = np.nan
    with pytest.raises(ValueError, match=r"drop those rows or fill them in$"):
        LinearProbe().fit(Z, y)


def test_the_codes_have_names_in_a_pipeline():
    Z, _ = clouds()
    pipeline = make_pipeline(StandardScaler(), PrincipalComponents(2)).fit(Z)
    ours = pipeline.get_feature_names_out().tolist()
    assert ours == ["principalcomponents0", "principalcomponents1"]
    assert decomposition.PCA(2).fit(Z).get_feature_names_out().tolist() == ["pca0", "pca1"]
    with pytest.raises(NotFittedError):
        PrincipalComponents(2).get_feature_names_out()
