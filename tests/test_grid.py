"""Tests of the exact referee `grid`: its values by closed forms and by sums over other lattices, its
certificate against the true error, its refusals, and what it says of Q for small neural models."""

from dataclasses import dataclass
import itertools
import warnings

from conftest import BACKENDS
import numpy as np
import pytest
from scipy import optimize, special, stats

from teachvae import (
    FactorAnalysis, Model, VAE, VariationalEM, bound, grid, infer, linear_gaussian, nlml, noise, tree
)
from teachvae.arrays.backend import get_backend, namespace, to_numpy
from teachvae.evaluation.grid import GridWarning
from teachvae.likelihoods import Bernoulli, Gaussian, Poisson
from teachvae.networks.layers import Linear, Sequential, mlp

pytestmark = pytest.mark.short                                   # most fits here end early on purpose

# ---- models, data, and the truth by a second road -------------------------------------------------


@dataclass(frozen=True)
class Bowl:
    """f(z) = (z₁² + z₁/4, z₂, …): two values of z₁ for one of f₁, so the posterior has two modes."""

    n_in: int

    @property
    def n_out(self):
        return self.n_in

    def forward(self, params, z):
        xp = namespace(z)
        return xp.concat([z[:, :1] * (z[:, :1] + 0.25), z[:, 1:]], axis=1), None


def linear(K, psi, seed=0, n_cases=6, size=1.0, spread=1.0):
    """A linear model with D = 4, noise about psi, and data from z of size `spread`."""
    rng = np.random.default_rng(seed)
    W, b = size * rng.standard_normal((K, 4)), rng.standard_normal(4)
    psi = psi * rng.uniform(0.6, 1.4, 4)
    model = Model(Sequential((Linear(K, 4),)), Gaussian(4), K)
    theta = {"decoder": [{"W": W, "b": b}], "likelihood": {"log_psi": np.log(psi)}}
    z = spread * rng.standard_normal((n_cases, K))
    return model, theta, z @ W + b + np.sqrt(psi) * rng.standard_normal((n_cases, 4))


def network(K, likelihood, seed=0, n_cases=5, size=1.5):
    """A tanh network with random weights of about `size`, and data from it."""
    rng = np.random.default_rng(seed)
    model = Model(mlp(K, (5,), likelihood.n_f), likelihood, K)
    theta = tree.map(lambda p: size * rng.uniform(-1, 1, p.shape), model.init(rng, get_backend()))
    f, _ = model.decoder.forward(theta["decoder"], rng.standard_normal((n_cases, K)))
    return model, theta, likelihood.sample(theta["likelihood"], f, likelihood.draw_noise(rng, f.shape))


def bowl(K, psi, z):
    """The two-mode model with noise psi, and x = f(z) itself for z (N, K)."""
    model = Model(Bowl(K), Gaussian(K), K)
    theta = {"decoder": [], "likelihood": {"log_psi": np.full(K, np.log(psi))}}
    return model, theta, Bowl(K).forward([], np.asarray(z, dtype=float))[0]


def closed_form(model, theta, x):
    W, b = theta["decoder"][0]["W"], theta["decoder"][0]["b"]
    psi = np.exp(theta["likelihood"]["log_psi"])
    return -stats.multivariate_normal(b, W.T @ W + np.diag(psi)).logpdf(x)


def bowl_by_parts(model, theta, x, side=None):
    """z₁ on a fine line of its own (or on its left or right side only), the rest in closed form."""
    psi = np.exp(theta["likelihood"]["log_psi"][0])
    z, h = np.linspace(-9, 9, 1_500_001, retstep=True)
    if side is not None:
        z = z[z < -0.125] if side == "left" else z[z > -0.125]
    log_prior, f = stats.norm.logpdf(z), z * (z + 0.25)
    log_p = np.array([special.logsumexp(log_prior - (r - f) ** 2 / (2 * psi)) for r in x[:, 0]])
    log_p += np.log(h) - 0.5 * np.log(2 * np.pi * psi)
    return -log_p - stats.norm.logpdf(x[:, 1:], 0, np.sqrt(1 + psi)).sum(axis=1)


def log_joint_by_hand(model, theta, x, z):
    """log p(x_n, z_g) (G, N), of tanh networks, by SciPy's densities."""
    f = z
    for p in theta["decoder"]:
        f = f @ p["W"] + p["b"] if p else np.tanh(f)
    log_p = np.empty((len(z), len(x)))
    for n, row in enumerate(x):
        if isinstance(model.likelihood, Bernoulli):
            terms = stats.bernoulli.logpmf(row.astype(int), special.expit(f))
        else:
            terms = stats.norm.logpdf(row, f, np.exp(0.5 * theta["likelihood"]["log_psi"]))
        log_p[:, n] = terms.sum(axis=1)
    return log_p + stats.norm.logpdf(z).sum(axis=1)[:, None]


def dense_lattice(K):
    """Points ±9 with a mesh and an offset that no lattice of the package has, and the log of a cell."""
    h = {1: 0.0031, 2: 0.057}[K]
    line = np.arange(-9, 9, h) + 0.4217 * h
    return np.stack([a.ravel() for a in np.meshgrid(*[line] * K)], axis=1), K * np.log(h)


def dense(model, theta, x):
    z, log_cell = dense_lattice(model.n_latent)
    return -special.logsumexp(log_joint_by_hand(model, theta, x, z) + log_cell, axis=0)


FAR = np.array([[7.3], [-8.1], [0.4]])


def far_out(K):
    """A linear model and noiseless data of z about 8 from the middle; the posterior is there too."""
    model, theta, _ = linear(K, 0.02, seed=3, size=2.0)
    z = np.concatenate([FAR, np.tile([[0.5, -0.3]], (3, 1))[:, : K - 1]], axis=1)
    return model, theta, z @ theta["decoder"][0]["W"] + theta["decoder"][0]["b"]


TWO_SIDES = [[1.3, 0.4, -0.2], [0.62, -1.1, 0.9], [0.1, 0.3, 0.0], [-2.2, 0.6, 0.1]]

# name: (what makes model, theta and x; the truth; how near to it the values must be)
CASES = {
    "linear, K = 1": (lambda: linear(1, 0.4), closed_form, 1e-9),
    "linear, K = 2": (lambda: linear(2, 0.4), closed_form, 1e-9),
    "linear, K = 3": (lambda: linear(3, 0.4), closed_form, 1e-9),
    "linear, K = 1, little noise": (lambda: linear(1, 0.02), closed_form, 1e-9),
    "linear, K = 2, little noise": (lambda: linear(2, 0.02), closed_form, 1e-9),
    "linear, K = 3, little noise": (lambda: linear(3, 0.05, n_cases=2), closed_form, 1e-9),
    "tanh, K = 1": (lambda: network(1, Gaussian(3)), dense, 1e-9),
    "tanh, K = 2": (lambda: network(2, Gaussian(3), n_cases=3), dense, 1e-8),
    "tanh, Bernoulli, K = 1": (lambda: network(1, Bernoulli(4)), dense, 1e-9),
    "tanh, Bernoulli, K = 2": (lambda: network(2, Bernoulli(4), n_cases=3), dense, 1e-9),
    "far out, K = 1": (lambda: far_out(1), closed_form, 1e-9),
    "far out, K = 2": (lambda: far_out(2), closed_form, 1e-8),
    "two modes, K = 1": (lambda: bowl(1, 0.01, [r[:1] for r in TWO_SIDES]), bowl_by_parts, 1e-8),
    "two modes, K = 2": (lambda: bowl(2, 0.01, [r[:2] for r in TWO_SIDES]), bowl_by_parts, 1e-8),
    "two modes, K = 3": (lambda: bowl(3, 1.0, TWO_SIDES[:2]), bowl_by_parts, 1e-8),
    "very narrow, K = 1": (lambda: linear(1, 1e-5), closed_form, 1e-8),
    "very narrow, K = 2": (lambda: linear(2, 1e-4), closed_form, 1e-7),
    "very narrow, K = 3": (lambda: linear(3, 0.01, n_cases=2), closed_form, 1e-7),
}


SLOW = ("linear, K = 3, little noise", "very narrow, K = 3")


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=pytest.mark.thorough if name in SLOW else ()) for name in CASES
])
def test_values_are_right_and_certificates_honest(name):
    make, truth, tolerance = CASES[name]
    model, theta, x = make()
    result = grid.grid(model, theta, x)
    assert result.method == "grid" and result.standard_error is None
    assert result.values.shape == result.certificate.shape == (len(x),)
    error = np.abs(result.values - truth(model, theta, x))
    assert (error < tolerance).all(), error
    assert (error <= np.maximum(result.certificate, 1e-9)).all(), (error, result.certificate)
    assert (result.certificate <= 1e-6).all()


def test_7_4_the_certificate_as_written(monkeypatch):
    """On lattices so coarse, and a box so small, that either change decides for some of the cases."""
    model, theta, x = linear(1, 0.4, n_cases=12)
    W, b, psi = linear_gaussian.parameters(model, theta)
    box, h = 1.6, 0.8
    monkeypatch.setattr(grid, "BOX", box)
    monkeypatch.setattr(grid, "MESH", {1: h})

    def log_mass(z, cell):
        log_p = stats.norm.logpdf(x, z[:, None, None] * W + b, np.sqrt(psi)).sum(axis=2)
        return special.logsumexp(log_p + stats.norm.logpdf(z)[:, None], axis=0) + np.log(cell)

    coarse, finer = (log_mass(cell * np.arange(-n, n + 1), cell) for n, cell in ((2, h), (4, h / 2)))
    wider = np.logaddexp(finer, log_mass(np.array([-2.4, 2.4]), h))
    meshes, boxes = np.abs(finer - coarse), wider - finer
    values, certificate = grid._shared(model, theta, x, np.inf)
    np.testing.assert_allclose(values, -wider, rtol=1e-12)
    np.testing.assert_allclose(certificate, np.maximum(meshes, boxes), rtol=1e-9)
    assert (meshes > boxes).any() and (meshes < boxes).any()


# ---- which cases get a lattice of their own --------------------------------------------------------


@pytest.fixture
def own_rows(monkeypatch):
    """The data that have been sent to `_own`, one entry for each call."""
    rows, original = [], grid._own
    monkeypatch.setattr(grid, "_own", lambda m, t, x, tol: rows.append(x) or original(m, t, x, tol))
    return rows


@pytest.mark.parametrize("K", [1, 2])
def test_far_out_the_own_lattice_takes_over(K, own_rows):
    model, theta, x = far_out(K)
    mean, _ = linear_gaussian.posterior(*linear_gaussian.parameters(model, theta), x)
    assert (np.abs(mean[:2, 0]) > 6).all() and abs(mean[2, 0]) < 1
    grid.grid(model, theta, x)
    np.testing.assert_array_equal(own_rows[0][:2], x[:2])
    values, certificate = grid._shared(model, theta, x, 1e-6)
    off = np.abs(values - closed_form(model, theta, x))
    assert (certificate[:2] > 1e-3).all(), "the shared box alone would have been refused"
    assert (off <= np.maximum(certificate, 1e-9)).all()


def test_what_is_outside_every_box_is_followed():
    model, theta, _ = linear(1, 0.02, seed=3, size=2.0)
    z = np.array([[9.1], [10.5], [0.2], [25.0], [-60.0]])
    x = z @ theta["decoder"][0]["W"] + theta["decoder"][0]["b"]
    result = grid.grid(model, theta, x)
    error = np.abs(result.values - closed_form(model, theta, x))
    assert (error < 1e-12 * np.abs(result.values) + 1e-9).all(), error
    assert (result.certificate < 1e-6).all()


COUNTS = Model(Sequential((Linear(1, 1),)), Poisson(1), 1), {
    "decoder": [{"W": np.ones((1, 1)), "b": np.zeros(1)}], "likelihood": {}
}


def counted(x):
    """log p(x) of a count whose rate is eᶻ: a line of its own for every x, around the posterior's mode."""
    log_p = lambda z: stats.poisson.logpmf(x, np.exp(z)) + stats.norm.logpdf(z)  # noqa: E731
    mode = optimize.minimize_scalar(lambda z: -log_p(z), bounds=(-5, 30), method="bounded").x
    z, h = np.linspace(*(mode + np.array([-14, 14]) / np.sqrt(1 + np.exp(mode))), 20_001, retstep=True)
    return special.logsumexp(log_p(z)) + np.log(h)


@pytest.mark.parametrize("x", [3.0, 5000.0, 8103.0, 9000.0, 1e5, 1e6])
def test_counts_far_from_the_prior_on_both_sides_of_the_box(x):
    """Posteriors around z = log x, from 1 to 13.8, with standard deviations of about x^(−1/2)."""
    result = grid.grid(*COUNTS, np.array([[x]]))
    assert result.values[0] == pytest.approx(-counted(x), abs=1e-8) and result.certificate[0] < 1e-7


@pytest.mark.parametrize("ratio", [1e2, 1e4])
def test_posteriors_that_are_narrow_one_way_only(ratio):
    """Standard deviations of 1 and 1/ratio, along no axis of z."""
    turn, mix = (np.linalg.qr(np.random.default_rng(s).standard_normal((2, 2)))[0] for s in (0, 1))
    W, psi = turn * [1, 1 / ratio] @ mix, np.full(2, 0.3 / ratio**2)
    model = Model(Sequential((Linear(2, 2),)), Gaussian(2), 2)
    theta = {"decoder": [{"W": W, "b": np.zeros(2)}], "likelihood": {"log_psi": np.log(psi)}}
    x = np.random.default_rng(2).standard_normal((2, 2)) @ W
    np.testing.assert_allclose(grid.grid(model, theta, x).values, closed_form(model, theta, x), atol=1e-7)


@dataclass(frozen=True)
class Circle:
    """f(z) = |z|²: all z at one distance from the middle explain x alike."""

    n_in: int = 2
    n_out: int = 1

    def forward(self, params, z):
        return namespace(z).sum(z * z, axis=1)[:, None], None


def test_a_circle_is_integrated_and_one_that_is_too_thin_is_refused(monkeypatch):
    model, x = Model(Circle(), Gaussian(1), 2), np.array([[4.0]])
    u, h = np.linspace(1e-9, 40, 2_000_001, retstep=True)          # |z|² is exponential, with mean 2
    for psi, known in ((1e-2, True), (1e-12, False)):
        theta = {"decoder": [], "likelihood": {"log_psi": np.array([np.log(psi)])}}
        if known:
            log_p = stats.norm.logpdf(4.0, u, np.sqrt(psi)) + stats.expon.logpdf(u, scale=2)
            truth = -special.logsumexp(log_p) - np.log(h)
            assert grid.grid(model, theta, x).values[0] == pytest.approx(truth, abs=1e-7)
        else:
            monkeypatch.setattr(grid, "MOST_NODES", 20_000)
            with pytest.warns(GridWarning, match=r"1 of 1 data cases .* \(rows \[0\]\): they are refused"):
                assert np.isnan(grid.grid(model, theta, x).values).all()


@dataclass(frozen=True)
class Tilted:
    """f(z) = z² + 3z/2: two modes, of which one is further out."""

    n_in: int = 1
    n_out: int = 1

    def forward(self, params, z):
        return z * (z + 1.5), None


def test_a_small_mode_in_the_ring_is_noticed(monkeypatch):
    """With boxes of ±3 and ±4.5 the larger mode, at 2.3, settles at once; at −3.8 is one hundredth more."""
    model = Model(Tilted(), Gaussian(1), 1)
    theta = {"decoder": [], "likelihood": {"log_psi": np.array([np.log(0.01)])}}
    x = np.array([[2.3 * 3.8]])
    z, h = np.linspace(-9, 9, 200_001, retstep=True)
    log_p = stats.norm.logpdf(z) + stats.norm.logpdf(x[0, 0], z * (z + 1.5), 0.1)
    truth = -special.logsumexp(log_p) - np.log(h)
    assert grid.grid(model, theta, x).values[0] == pytest.approx(truth, abs=1e-9)
    monkeypatch.setattr(grid, "BOX", 3.0)
    _, certificate = grid._shared(model, theta, x, 1e-6)
    missed = special.logsumexp(log_p) - special.logsumexp(log_p[z > -3])
    assert missed > 5e-3 and certificate[0] > missed / 2, "so it goes on to a lattice of its own"
    assert grid.grid(model, theta, x).values[0] == pytest.approx(truth, abs=1e-9)


def test_what_an_own_lattice_does_not_look_at_is_in_its_error(monkeypatch):
    """Of a normal density that is left where it is three nats below its peak: one per cent."""
    monkeypatch.setattr(grid, "MARGIN", 3.0)
    look = grid.lattice(8.0, 0.05, 1)

    def log_joint(z):
        return stats.norm.logpdf(z[:, 0])

    value, error = grid.integral(log_joint, look, log_joint(look), 0.05, 1e-6)
    left = 2 * stats.norm.sf(np.sqrt(6))
    assert abs(value) <= error and 0.8 * left < error < 1.2 * left


def test_an_own_lattice_is_that_of_the_highest_peak(monkeypatch):
    model = Model(Tilted(), Gaussian(1), 1)
    theta = {"decoder": [], "likelihood": {"log_psi": np.array([np.log(0.01)])}}
    origins, followed = [], grid._followed
    monkeypatch.setattr(grid, "_followed", lambda log_joint, origin, *rest: (
        origins.append(origin) or followed(log_joint, origin, *rest)
    ))
    grid._own(model, theta, np.array([[2.3 * 3.8]]), 1e-6)
    assert abs(origins[0][0] - 2.3) < 0.01                         # the other is at −3.8


@pytest.mark.parametrize("K", [1, 2])
def test_both_modes_are_integrated(K):
    """Each side alone would be off: by log 2 where both weigh the same, and here they do not."""
    model, theta, x = bowl(K, 0.01, [row[:K] for row in TWO_SIDES])
    values = grid.grid(model, theta, x).values
    left, right = (bowl_by_parts(model, theta, x, side) for side in ("left", "right"))
    np.testing.assert_allclose(np.exp(-values), np.exp(-left) + np.exp(-right), rtol=1e-8)
    assert (np.minimum(left, right) > values + 0.05).all()


def test_narrow_ones_need_the_own_lattice(own_rows):
    model, theta, x = linear(2, 1e-4)
    grid.grid(model, theta, x)
    assert len(own_rows[0]) > 0
    model, theta, x = linear(2, 0.4)
    grid.grid(model, theta, x)
    assert len(own_rows) == 1


NARROW = {
    # z₁ = 1.3 lies on every lattice, the other mode, at −1.55, halfway between the points of the first
    "two modes, K = 2": (lambda: bowl(2, 1e-4, [[1.3, 0.2], [0.1, 0.3]]), bowl_by_parts),
    "two modes, K = 3": (lambda: bowl(3, 1e-4, [[1.0, 0.5, 0.5]]), bowl_by_parts),
    # correlated, so that a mesh that is too coarse sees the middle and cuts off the ends
    "one mode, K = 2": (lambda: linear(2, 1e-4, seed=20, n_cases=6), closed_form),
}


@pytest.mark.parametrize("make, truth", NARROW.values(), ids=NARROW)
def test_nothing_is_dropped_before_the_mesh_resolves_it(make, truth):
    model, theta, x = make()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GridWarning)               # refused is not wrong
        result = grid.grid(model, theta, x)
    error = np.abs(result.values - truth(model, theta, x))
    assert not (error > np.maximum(result.certificate, 1e-8)).any(), (error, result.certificate)


@dataclass(frozen=True)
class Uneven:
    """f₁ = (z₁ − 1.3)(z₁ + 1.55)(1 − 0.9 tanh 3z₁): near −1.55 it is nineteen times as steep as near 1.3."""

    n_in: int = 2
    n_out: int = 2

    def forward(self, params, z):
        u = z[:, :1]
        f = (u - 1.3) * (u + 1.55) * (1 - 0.9 * np.tanh(3 * u))
        return np.concatenate([f, z[:, 1:]], axis=1), None


def test_a_steep_mode_beside_a_gentle_one():
    """The steep one has a twentieth of the mass, and lies halfway between the points of the first mesh."""
    model, psi, x = Model(Uneven(), Gaussian(2), 2), np.array([1e-4, 1e-2]), np.array([[0.0, 0.2]])
    theta = {"decoder": [], "likelihood": {"log_psi": np.log(psi)}}
    z, h = np.linspace(-9, 9, 2_000_001, retstep=True)
    f = Uneven().forward([], z[:, None])[0][:, 0]
    log_p = stats.norm.logpdf(z) + stats.norm.logpdf(0, f, 0.01)
    truth = -special.logsumexp(log_p) - np.log(h) - stats.norm.logpdf(0.2, 0, np.sqrt(1 + psi[1]))
    assert grid.grid(model, theta, x).values[0] == pytest.approx(truth, abs=1e-8)


# ---- what is refused --------------------------------------------------------------------------------


def test_too_few_halvings_refuse_only_the_late(monkeypatch):
    model, theta, x = linear(2, 0.4, n_cases=12)
    theta_narrow = theta | {"likelihood": {"log_psi": np.log(np.full(4, 1e-5))}}
    whole = grid.grid(model, theta, x)
    monkeypatch.setattr(grid, "HALVINGS", 0)
    np.testing.assert_array_equal(grid.grid(model, theta, x).values, whole.values)
    message = r"12 of 12 data cases moved by more than 1e-06 nats .* \(rows \[0, 1, 2, 3, 4, 5, 6, 7\] …\)"
    with pytest.warns(GridWarning, match=message) as caught:
        result = grid.grid(model, theta_narrow, x)
    assert caught[0].filename == __file__
    assert np.isnan(result.values).all() and (result.certificate > 1e-6).all()


def test_refused_are_those_that_would_have_been_late(monkeypatch):
    """One posterior in the middle and one far out: without room for own lattices only one is left."""
    model, theta, x = far_out(1)
    monkeypatch.setattr(grid, "HALVINGS", 0)
    with pytest.warns(GridWarning, match=r"2 of 3 data cases .* \(rows \[0, 1\]\)"):
        result = grid.grid(model, theta, x)
    assert np.isnan(result.values).tolist() == [True, True, False]
    assert result.values[2] == pytest.approx(closed_form(model, theta, x)[2], abs=1e-9)


def test_too_few_nodes_refuse_all(monkeypatch):
    model, theta, x = linear(1, 0.4)
    monkeypatch.setattr(grid, "MOST_NODES", 10)
    with pytest.warns(GridWarning, match=r"6 of 6 data cases .* \(rows \[0, 1, 2, 3, 4, 5\]\)"):
        assert np.isnan(grid.grid(model, theta, x).values).all()


def test_the_tolerance_is_what_decides():
    model, theta, x = linear(1, 1e-4)
    loose, tight = (grid.grid(model, theta, x, tol=tol) for tol in (1e-2, 1e-9))
    assert (loose.certificate <= 1e-2).all() and (tight.certificate <= 1e-9).all()
    assert (loose.certificate > 1e-9).any(), "the first lattice that is good enough is taken"
    with pytest.warns(GridWarning, match="6 of 6 data cases moved by more than -1 nats"):
        grid.grid(model, theta, x, tol=-1)


def test_more_than_three_latent_variables():
    model, theta, x = linear(4, 0.4)
    with pytest.raises(ValueError, match="needs K <= 3 latent variables, the model has 4; .*'importance'"):
        grid.grid(model, theta, x)
    with pytest.raises(ValueError, match="needs K <= 3"):
        VAE(4, hidden=(3,), epochs=1).fit(CURVE).nlml(CURVE, method="grid")


# ---- what must not matter ---------------------------------------------------------------------------


@pytest.mark.parametrize("K, psi", [(1, 0.4), (2, 0.4), (2, 1e-4)])
def test_memory_is_bounded_and_blocks_do_not_matter(K, psi, monkeypatch):
    model, theta, x = linear(K, psi)
    whole, sizes, original = grid.grid(model, theta, x), [], Gaussian.cross

    def watched(self, params, f, x, mask):
        log_p = original(self, params, f, x, mask)
        sizes.append((f.shape[0] * max(x.shape), log_p.size))
        return log_p

    monkeypatch.setattr(Gaussian, "cross", watched)
    monkeypatch.setattr(grid, "PAIRS", 1000)
    blocks = grid.grid(model, theta, x)
    assert len(sizes) > 2 and max(map(max, sizes)) <= 1000
    np.testing.assert_allclose(blocks.values, whole.values, rtol=0, atol=1e-9)
    monkeypatch.setattr(grid, "PAIRS", 2**20)
    sizes.clear()
    grid.grid(model, theta, x)
    assert 1000 < max(map(max, sizes)) <= 2**20


@pytest.mark.parametrize("K, psi", [(1, 0.4), (1, 1e-3), (2, 1e-3), (3, 0.1)])
def test_no_row_depends_on_the_others(K, psi):
    model, theta, x = linear(K, psi, n_cases=4)
    together = grid.grid(model, theta, x)
    apart = [grid.grid(model, theta, x[n : n + 1]) for n in (3, 1)]
    for one, n in zip(apart, (3, 1)):
        np.testing.assert_allclose(one.values, together.values[n : n + 1], rtol=0, atol=1e-10)


def test_single_precision_is_computed_in_double():
    model, theta, x = linear(2, 0.05)
    single = tree.map(lambda p: p.astype("float32"), theta), x.astype("float32")
    again = tree.map(lambda p: p.astype("float64"), single[0]), single[1].astype("float64")
    result = grid.grid(model, *single)
    assert result.values.dtype == result.certificate.dtype == np.float64
    np.testing.assert_array_equal(result.values, grid.grid(model, *again).values)
    np.testing.assert_allclose(result.values, closed_form(model, *again), rtol=0, atol=1e-9)
    assert tree.flatten(single[0]).dtype == np.float32, "what was given is left alone"


@pytest.mark.parametrize("make", [lambda: linear(2, 0.1), lambda: network(1, Bernoulli(3))])
def test_on_every_backend(backend, make):
    model, theta, x = make()
    theta, x = tree.map(backend.asarray, theta), backend.asarray(x)
    result = grid.grid(model, theta, x)
    host = grid.grid(model, tree.map(to_numpy, theta), to_numpy(x))
    for array in (result.values, result.certificate):
        assert namespace(array) is backend.xp and str(array.dtype).endswith("float64")
    np.testing.assert_allclose(to_numpy(result.values), host.values, rtol=0, atol=1e-10)


def test_the_own_lattice_on_the_strictest_backend():
    strict, (model, theta, x) = BACKENDS["strict-device1"], far_out(1)
    result = grid.grid(model, tree.map(strict.asarray, theta), strict.asarray(x))
    np.testing.assert_allclose(to_numpy(result.values), grid.grid(model, theta, x).values, rtol=0, atol=1e-10)


# ---- against importance sampling, and from estimators -----------------------------------------------


@pytest.mark.parametrize(
    "K, likelihood", [(1, Gaussian(3)), (2, Gaussian(3)), (2, Bernoulli(4)), (3, Bernoulli(3))]
)
def test_importance_sampling_agrees_within_its_standard_error(K, likelihood):
    """From the prior made a little wider, of which no posterior can be wider."""
    model, theta, x = network(K, likelihood, seed=K, n_cases=6, size=1.0)
    phi = infer.prior_phi(model, x)
    phi[:, K:] += np.log(1.1)
    runs = nlml.importance(model, theta, phi, x, np.random.default_rng(1), n_samples=20000)
    assert (runs.standard_error < 0.05).all()
    z = (runs.values - grid.grid(model, theta, x).values) / runs.standard_error
    assert (np.abs(z) < 4).all() and np.abs(z).max() > 0.1, z


ALONG = np.random.default_rng(8).standard_normal(60)
CURVE = np.stack([np.sin(1.5 * ALONG), ALONG, np.cos(ALONG)], axis=1)
CURVE = CURVE + 0.2 * np.random.default_rng(9).standard_normal(CURVE.shape)
BITS = (CURVE > np.median(CURVE, axis=0)).astype(float)
FITTED = {
    "VAE, K = 1": (VAE(1, hidden=(6,), epochs=60, batch_size=20, learning_rate=0.02), CURVE),
    "VAE, K = 2, full": (
        VAE(2, hidden=(6,), epochs=40, batch_size=20, learning_rate=0.02, posterior="full"), CURVE
    ),
    "VAE, Bernoulli, K = 2": (
        VAE(2, hidden=(6,), epochs=40, batch_size=20, learning_rate=0.02, likelihood="bernoulli"), BITS
    ),
    "variational EM, K = 1": (VariationalEM(1, hidden=(6,), epochs=15, batch_size=20), CURVE),
    "variational EM, K = 1, full": (VariationalEM(1, hidden=(5,), epochs=15, posterior="full"), CURVE),
}


def kl_to_posterior(model, theta, x, phi):
    """KL(q_n ‖ p(z|x_n)) (N,) as a sum over a lattice of q_n's own, ±9 standard deviations around m_n.

    Its one number from elsewhere, log p(x_n), is the sum over the dense lattice, not the grid's.
    """
    log_px, m, C = -dense(model, theta, x), model.posterior.mean(phi), model.posterior.covariance(phi)
    h = {1: 0.02, 2: 0.12}[model.n_latent]
    u = np.array(list(itertools.product(np.arange(-9, 9 + h / 2, h), repeat=model.n_latent)))
    kl = []
    for n, row in enumerate(x):
        L = np.linalg.cholesky(C[n])
        z = m[n] + u @ L.T
        log_q = stats.norm.logpdf(u).sum(axis=1) - np.log(np.diag(L)).sum()
        log_posterior = log_joint_by_hand(model, theta, row[None], z)[:, 0] - log_px[n]
        weights = stats.norm.pdf(u).prod(axis=1) * h**model.n_latent
        kl.append(weights @ (log_q - log_posterior))
    return np.array(kl)


@pytest.mark.parametrize("name", FITTED)
def test_Q_of_a_small_neural_model_is_nlml_and_the_kl(name):
    """For every data case, at the model's own φ and at the φ of least Q: Q ≥ nlml, Q − nlml = KL."""
    estimator, X = FITTED[name]
    estimator.fit(X)
    model, theta, X = estimator.model_, estimator.theta_, X[:12]
    result = estimator.nlml(X, method="grid")
    assert result.method == "grid" and (result.certificate < 1e-6).all()
    np.testing.assert_allclose(result.values, dense(model, theta, X), rtol=0, atol=1e-8)

    K, phi = model.n_latent, estimator._phi(*estimator._centred(X))
    eta, weights = noise.gauss_hermite(K, {1: 80, 2: 30}[K])
    best = infer.e_step(model, theta, phi, X, eta, weights, tol=1e-7)
    assert (best.gradient_norm < 1e-5).all()
    own, _ = bound.forward(model, theta, phi, X, eta, weights=weights)
    np.testing.assert_allclose(estimator.bound(X), own, rtol=0, atol=1e-3)
    for at, Q in ((phi, own), (best.phi, best.Q)):
        gap = Q - result.values
        assert (gap > -1e-6).all(), gap
        np.testing.assert_allclose(gap, kl_to_posterior(model, theta, X, at), rtol=0, atol=1e-4)
        assert gap.max() > 1e-3, "there is something to compare"


def test_linear_estimators_agree_with_their_closed_form():
    for estimator in (FactorAnalysis(2), VAE(1, hidden=(), epochs=20), VariationalEM(1, hidden=(), tol=1e-5)):
        estimator.fit(CURVE)
        result = estimator.nlml(CURVE[:5], method="grid")
        assert isinstance(result.values, np.ndarray)
        np.testing.assert_allclose(result.values, estimator.nlml(CURVE[:5]).values, rtol=0, atol=1e-8)
