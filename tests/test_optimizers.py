"""The optimisers against recursions written out number by number, L-BFGS against known minima, and what the
training loop hands to them."""

import numpy as np
import pytest

from teachvae import tree
from teachvae.arrays.backend import get_backend, namespace, to_numpy
from teachvae.arrays.elementwise import CACHED
from teachvae.networks import optimizers
from teachvae.networks.optimizers import Adam, OPTIMIZERS, SGD, lbfgs
from teachvae.networks.training import Run, full_batch, minibatches

GRADIENTS = [[1.0, -2.0, 0.5], [0.5, 3.0, 0.0], [-4.0, 1.0, 1e-3], [0.1, 0.1, -7.0], [2.0, -2.0, 2.0]]


def steps(optimizer, backend):
    """flat after each of the five GRADIENTS, from (1, 2, 3)."""
    flat = backend.asarray([1.0, 2.0, 3.0]) + 0                    # a copy that may be written
    state = optimizer.init(flat)
    path = []
    for grad in GRADIENTS:
        optimizer.step(flat, backend.asarray(grad), state)
        assert namespace(flat) is backend.xp and flat.dtype == getattr(backend.xp, backend.dtype)
        path.append(to_numpy(flat).copy())
    return np.array(path)


def sgd_by_hand(p, gradients, alpha, mu):
    v, path = 0.0, []
    for g in gradients:
        v = mu * v - alpha * g
        p = p + v
        path.append(p)
    return path


def adam_by_hand(p, gradients, alpha, beta1, beta2, epsilon):
    """Algorithm 1 of Kingma and Ba: the bias-corrected moments are named, and ε is outside the root."""
    m = v = 0.0
    path = []
    for t, g in enumerate(gradients, start=1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        m_hat = m / (1 - beta1**t)
        v_hat = v / (1 - beta2**t)
        p = p - alpha * m_hat / (v_hat**0.5 + epsilon)
        path.append(p)
    return path


@pytest.mark.parametrize("optimizer, by_hand", [
    (SGD(0.1, 0.7), lambda p, g: sgd_by_hand(p, g, 0.1, 0.7)),
    (SGD(0.1, 0.0), lambda p, g: sgd_by_hand(p, g, 0.1, 0.0)),
    (Adam(0.1, 0.8, 0.95, 1e-3), lambda p, g: adam_by_hand(p, g, 0.1, 0.8, 0.95, 1e-3)),
    (Adam(), lambda p, g: adam_by_hand(p, g, 1e-3, 0.9, 0.999, 1e-8)),
])
def test_steps_equal_the_scalar_recursion(optimizer, by_hand, backend):
    expected = np.transpose([
        by_hand(p, [grad[i] for grad in GRADIENTS]) for i, p in enumerate((1.0, 2.0, 3.0))
    ])
    np.testing.assert_allclose(steps(optimizer, backend), expected, rtol=20 * np.finfo(backend.dtype).eps)


@pytest.mark.parametrize("P", [3, 2 * CACHED + 7])
@pytest.mark.parametrize("adam", [Adam(0.1, 0.8, 0.95, 1e-3), Adam()])
def test_adam_s_step_is_the_plain_formula(adam, P, backend):
    """In place, in blocks, or compiled, whichever runs: what is left is what the seven lines say."""
    rng, close = np.random.default_rng(0), 20 * np.finfo(backend.dtype).eps
    flat = backend.normal(rng, (P,)) + 0                           # a copy that may be written
    p, state = flat + 0, adam.init(flat)
    m, v = state["m"] + 0, state["v"] + 0
    for t in range(1, 6):
        grad = backend.normal(rng, (P,))
        numbers = t, adam.learning_rate, adam.beta1, adam.beta2, adam.epsilon
        p, m, v = optimizers.adam.plain(p, grad, m, v, *numbers)
        adam.step(flat, grad, state)
        for fast, plain in ((flat, p), (state["m"], m), (state["v"], v)):
            assert namespace(plain) is backend.xp and plain.dtype == fast.dtype == flat.dtype
            np.testing.assert_allclose(to_numpy(fast), to_numpy(plain), rtol=close, atol=close)
    assert state["t"] == 5


def test_the_state_of_adam_holds_the_moments_themselves():
    """From 0, m = (1 − β₁ᵗ) g and v = (1 − β₂ᵗ) g² while the gradient stays the same."""
    flat, adam, grad = np.zeros(3), Adam(0.1, 0.8, 0.95), np.array([1.0, -2.0, 0.5])
    state = adam.init(flat)
    for t in range(1, 5):
        adam.step(flat, grad, state)
        np.testing.assert_allclose(state["m"], (1 - 0.8**t) * grad, rtol=1e-14)
        np.testing.assert_allclose(state["v"], (1 - 0.95**t) * grad**2, rtol=1e-14)


def test_the_first_step_of_adam_is_the_learning_rate():
    """|m̂| / √v̂ = 1 at t = 1, whatever the size of the gradient."""
    flat, adam = np.zeros(3), Adam(0.01, epsilon=0.0)
    adam.step(flat, np.array([1e-5, -3.0, 1e5]), adam.init(flat))
    np.testing.assert_allclose(flat, [-0.01, 0.01, -0.01], rtol=1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_is_seen_by_the_layers_and_two_runs_share_nothing(name):
    optimizer = OPTIMIZERS[name](0.1)
    flat, params = tree.pack({"W": np.ones((2, 2)), "b": np.zeros(2)})
    grad = np.arange(6.0)
    one, two = optimizer.init(flat), optimizer.init(flat)
    optimizer.step(flat, grad, one)
    assert not np.array_equal(params["W"], np.ones((2, 2))) and params["b"][1] < 0
    np.testing.assert_array_equal(grad, np.arange(6.0))
    for key, value in optimizer.init(flat).items():
        np.testing.assert_array_equal(two[key], value)


@pytest.mark.parametrize("optimizer", [SGD(0.02, 0.9), Adam(0.1)])
def test_a_quadratic_is_minimised(optimizer):
    flat, minimum = np.array([3.0, -1.0]), np.array([0.5, 1.5])
    state = optimizer.init(flat)
    for _ in range(500):
        optimizer.step(flat, np.array([1.0, 10.0]) * (flat - minimum), state)
    np.testing.assert_allclose(flat, minimum, atol=1e-4)


# ---- L-BFGS


def rosenbrock(flat):
    """(1 − x)² + 100 (y − x²)², on any backend."""
    xp = namespace(flat)
    x, y = flat[:1], flat[1:]
    value = xp.sum((1 - x) ** 2 + 100 * (y - x * x) ** 2)
    return value, xp.concat([-2 * (1 - x) - 400 * x * (y - x * x), 200 * (y - x * x)], axis=0)


def test_lbfgs_reaches_rosenbrock_s_minimum(backend):
    flat = backend.asarray([-1.2, 1.0]) + 0
    path, converged, message = lbfgs(rosenbrock, flat, tol=1e-14 if backend.dtype == "float64" else 1e-9)
    assert converged and isinstance(message, str)
    single = backend.dtype == "float32"
    np.testing.assert_allclose(to_numpy(flat), [1, 1], atol=1e-2 if single else 1e-6)
    assert namespace(flat) is backend.xp and flat.dtype == getattr(backend.xp, backend.dtype)
    assert len(path) > 5 and all(isinstance(value, float) for value in path)
    assert np.all(np.diff(path) <= 0)
    np.testing.assert_allclose(path[-1], float(rosenbrock(flat)[0]), atol=1e-4 if single else 1e-12)


@pytest.mark.parametrize("lower, expected", [
    ([1.5, -np.inf], [1.5, 2.25]), ([-np.inf, 3.0], [1.731441, 3.0]), ([-np.inf, -np.inf], [1.0, 1.0]),
])
def test_lbfgs_keeps_its_bounds_and_finds_the_minimum_within(lower, expected):
    """From many starts: SciPy's own run stops in one of five of them far from the minimum x = 1.5."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        flat, seen = np.maximum(np.array([2.0, 4.0]) + 0.5 * rng.standard_normal(2), lower), []

        def objective(point, seen=seen):
            seen.append(point.copy())
            return rosenbrock(point)

        path, converged, _ = lbfgs(objective, flat, lower=np.array(lower), tol=1e-12)
        assert converged and np.all(np.array(seen) >= lower) and np.all(np.diff(path) <= 0)
        np.testing.assert_allclose(flat, expected, atol=1e-4)
        assert np.any(flat == lower) == np.any(np.isfinite(lower))


def test_lbfgs_says_when_it_did_not_converge():
    flat = np.array([-1.2, 1.0])
    path, converged, message = lbfgs(rosenbrock, flat, max_iter=3, tol=1e-14)
    assert not converged and len(path) == 3 and "ITERATIONS" in message.upper()
    assert path[-1] == rosenbrock(flat)[0]                         # flat is where it stopped


def test_lbfgs_at_the_minimum_stays():
    flat = np.ones(2)
    path, converged, _ = lbfgs(rosenbrock, flat)
    assert converged and path == [] and np.array_equal(flat, [1, 1])


def test_lbfgs_moves_the_leaves_of_a_tree():
    flat, params = tree.pack({"W": np.zeros((2, 2)), "b": np.ones(1)})
    lbfgs(lambda p: (np.sum((p - 3) ** 2), 2 * (p - 3)), flat)
    np.testing.assert_allclose(params["W"], 3)
    np.testing.assert_allclose(params["b"], 3)
    assert get_backend().zeros((2,)).dtype == np.float64


# ---- the training loop

CASES = np.random.default_rng(5).standard_normal(10)


def distance(params, rows):
    """The mean of ½ (p − c_n)² over the cases `rows`, and its gradient; its minimiser is the mean of c."""
    apart = params["p"] - CASES[rows]
    return np.mean(0.5 * apart**2), {"p": apart.mean(keepdims=True)}


class Still:
    """An optimiser that moves nothing."""

    def init(self, flat):
        return None

    def step(self, flat, grad, state):
        pass


def begun(params, seed=0):
    return Run(params, {"shuffle": np.random.default_rng(seed)})


def test_every_epoch_sees_every_case_once_in_an_order_of_its_own():
    seen = []

    def objective(params, rows):
        seen.append(rows.tolist())
        return distance(params, rows)

    run = minibatches(objective, begun({"p": np.zeros(1)}), 10, optimizer=Still(), epochs=3, batch_size=4)
    assert [len(rows) for rows in seen] == 3 * [4, 4, 2]
    epochs = [sum(seen[i : i + 3], []) for i in (0, 3, 6)]
    assert all(sorted(order) == list(range(10)) for order in epochs)
    assert len({tuple(order) for order in [*epochs, range(10)]}) == 4
    np.testing.assert_allclose(run.path, 3 * [0.5 * np.mean(CASES**2)], rtol=1e-14)


def test_training_goes_on_from_the_state_in_which_it_was_left():
    def trained(*epochs):
        run = begun({"p": np.ones(1)})
        for until in epochs:
            minibatches(distance, run, 10, optimizer=Adam(0.1), epochs=until, batch_size=4)
        return run.params["p"]

    assert trained(2) == trained(1, 2) != trained(1)


def test_training_stays_above_its_bounds():
    low = {"p": np.array([CASES.mean() + 0.5])}
    start = begun({"p": np.array([3.0])})
    kept = minibatches(distance, start, 10, optimizer=SGD(0.1), epochs=50, batch_size=4, lower=low).params
    assert low["p"] <= kept["p"] < 1.0 + low["p"]


def test_a_full_batch_is_one_mean_over_blocks_of_any_size():
    """Of 600 cases the last block is a small one."""
    c = np.arange(600.0) ** 2 / 600

    def objective(params, rows):
        apart = params["p"] - c[rows]
        return np.mean(0.5 * apart**2), {"p": apart.mean(keepdims=True)}

    run = Run({"p": np.zeros(1)})
    assert full_batch(objective, run, 600, max_iter=50, tol=1e-12)
    np.testing.assert_allclose(run.params["p"], c.mean(), rtol=1e-9)
    np.testing.assert_allclose(run.path[-1], 0.5 * c.var(), rtol=1e-12)
