"""Flows: their density against sums of mass, their search against the nodes it is led on, and the ladder."""

from cases import GAUSSIANS
import numpy as np
import pytest
from scipy import stats

from teachvae import (
    VAE, VariationalEM, bound, datasets, expectations, gaps, gradient_estimators, infer, layers, likelihoods,
    noise, plots, posteriors
)
from teachvae.arrays.backend import get_backend
from teachvae.evaluation import divergence, grid
from teachvae.model import Model
from teachvae.networks.convergence import ConvergenceWarning
from teachvae.posteriors import Coupling, Flow, FullGaussian, Planar, coupling_flow, planar_flow
from teachvae.posteriors.flow import KNOTS
from teachvae.routes.persistence import load

FLOWS = [planar_flow(1), coupling_flow(2), planar_flow(2), coupling_flow(3), planar_flow(3)]
every_flow = pytest.mark.parametrize("q", FLOWS, ids=["planar 1", "flow 2", "planar 2", "flow 3", "planar 3"])


def bent_model(n_cases=4, K=2, n_visible=2, seed=0):
    """A network with wide posteriors that are no Gaussians, and data of its own: model, θ, x (N, D)."""
    decoder, p = layers.mlp(K, (6,), n_visible), likelihoods.Gaussian(n_visible, 0.3)
    rng, model = np.random.default_rng(seed), Model(decoder, p, K)
    theta = model.init(rng, get_backend())
    theta["decoder"][0]["W"] *= 2.0
    theta["decoder"][0]["b"] += rng.standard_normal(6)
    f, _ = model.f(theta, rng.standard_normal((n_cases, K)))
    return model, theta, f + np.sqrt(0.3) * rng.standard_normal(f.shape)


def with_q(model, q):
    return Model(model.decoder, model.likelihood, model.n_latent, q)


# ---- what a flow is


@every_flow
def test_without_bends_it_is_the_full_gaussian(q, rng):
    K, full = q.n_latent, FullGaussian(q.n_latent)
    phi, eta = 0.5 * rng.standard_normal((4, full.n_phi)), rng.standard_normal((6, 4, K))
    z, _ = full.sample(phi, eta)
    same = q.from_full(phi)
    np.testing.assert_allclose(q.sample(same, eta)[0], z, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(q.log_prob(same, z)[0], full.log_prob(phi, z)[0], rtol=1e-12)
    np.testing.assert_allclose(q.mean(same), phi[:, :K], rtol=0, atol=1e-12)
    A = rng.standard_normal((K, K))
    close = q.closest(phi[:, :K], A @ A.T + np.eye(K))
    np.testing.assert_array_equal(close, q.from_full(full.closest(phi[:, :K], A @ A.T + np.eye(K))))


@pytest.mark.parametrize("q", FLOWS[:3], ids=["planar 1", "flow 2", "planar 2"])
def test_the_mass_is_one_and_the_mean_is_the_density_s(q, rng):
    """Sums over a lattice of z, which ask for nothing but log_prob."""
    phi = 0.4 * rng.standard_normal((3, q.n_phi))
    h = 0.0625
    side = np.arange(-20, 20, h)
    z = np.stack([axis.ravel() for axis in np.meshgrid(*[side] * q.n_latent, indexing="ij")], axis=1)
    for n, row in enumerate(phi):
        density = np.exp(q.log_prob(row[None], z[:, None])[0][:, 0]) * h**q.n_latent
        np.testing.assert_allclose(density.sum(), 1, rtol=1e-9)
        np.testing.assert_allclose(density @ z, q.mean(row[None])[0], rtol=0, atol=5e-3)
    assert abs(q.mean(phi) - phi[:, : q.n_latent]).max() > 0.02    # and m is not the mean: it is bent


@every_flow
def test_samples_come_back_whatever_the_numbers_are(q, rng):
    """T⁻¹(T(u)) = u for numbers so large that all their bounds are reached; every determinant is positive."""
    for layer in q.layers:
        params = 8 * rng.standard_normal((50, layer.n_params))
        u = 2 * rng.standard_normal((50, 30, q.n_latent))
        new, _ = layer.forward(params, u)
        old, log_det, _ = layer.inverse(params, new)
        np.testing.assert_allclose(old, u, rtol=0, atol=1e-11)
        assert np.isfinite(log_det).all()


@pytest.mark.parametrize("K", [1, 2, 5, 10])
def test_a_planar_layer_is_pushed_off_its_constraint(K):
    """v wᵀ = −K, at which 1 + v wᵀ tanh' would be 0 or less for some u, and two points would meet."""
    layer = Planar(K, 0)
    params = np.array([[-20.0] * K + [0.3] + [20.0] * (K - 1)])
    u = np.linspace(-3, 3, 4001)[None, :, None] * np.ones(K)
    new, _ = layer.forward(params, u)
    along = new.sum(axis=2)[0]                                     # w = 1 in every entry
    assert (np.diff(along) > 0).all()
    met = (u - np.tanh(u.sum(axis=2, keepdims=True) + np.tanh(0.3))).sum(axis=2)[0]  # what r = v would do
    assert K == 1 or (np.diff(met) < 0).any()
    old, _, _ = layer.inverse(params, new)
    np.testing.assert_allclose(old, u, atol=1e-9)


def test_a_coupling_moves_one_half_by_the_other(rng):
    layer, u = Coupling(3, moves_first=False), rng.standard_normal((2, 5, 3))
    new, _ = layer.forward(rng.standard_normal((2, layer.n_params)), u)
    np.testing.assert_array_equal(new[:, :, 0], u[:, :, 0])
    assert (new[:, :, 1:] != u[:, :, 1:]).all()
    assert layer.n_params == 2 * len(KNOTS) * 1 * 2 and coupling_flow(2).n_phi == 17
    assert planar_flow(1).n_phi == 4 and planar_flow(2).n_phi == 13


@every_flow
def test_a_kl_over_nodes_is_the_closed_one_where_there_is_one(q, rng):
    """Without bends; and with them, −E_q[log q] by nodes is the entropy of η with the determinants."""
    full, K = FullGaussian(q.n_latent), q.n_latent
    phi = 0.5 * rng.standard_normal((4, full.n_phi))
    eta, w = noise.gauss_hermite(K, 6)
    z, _ = q.sample(q.from_full(phi), eta)
    kl = w @ (q.log_prob(q.from_full(phi), z)[0] - stats.norm.logpdf(z).sum(axis=2))
    np.testing.assert_allclose(kl, full.kl(phi)[0], rtol=1e-11)


# ---- the bound and its nodes


def test_the_bound_samples_a_kl_that_is_not_closed(rng):
    model, theta, x = bent_model()
    flow, eta = with_q(model, coupling_flow(2)), rng.standard_normal((3, 4, 2))
    phi = 0.5 * rng.standard_normal((4, 17))
    Q = bound.forward(flow, theta, phi, x, eta)[0]
    np.testing.assert_array_equal(Q, bound.forward(flow, theta, phi, x, eta, kl="sampled")[0])
    with pytest.raises(ValueError, match="kl='analytic' needs the KL in closed form, which Flow has not"):
        bound.forward(flow, theta, phi, x, eta, kl="analytic")
    phi = 0.5 * rng.standard_normal((4, 4))                        # a diagonal q: as before
    Q = bound.forward(model, theta, phi, x, eta)[0]
    np.testing.assert_array_equal(Q, bound.forward(model, theta, phi, x, eta, kl="analytic")[0])


def found_on(model, theta, x, q, nodes):
    """Q on the nodes at the end of a search on them, and Q by quadrature there, each (N,)."""
    flow = with_q(model, q)
    e = infer.e_step(flow, theta, infer.prior_phi(flow, x), x, *nodes, max_steps=150, tol=1e-4)
    return e.Q, expectations.quadrature(flow, theta, e.phi, x)[0]


@pytest.mark.parametrize("family", [coupling_flow, planar_flow])
def test_few_nodes_are_fitted_and_those_of_the_package_are_not(family):
    """Three nodes per dimension, on which Gaussians are sought: Q there falls below nlml, which no bound
    does, while Q itself is far above. On the nodes of `coarse_and_fine` both are one.
    """
    model, theta, x = bent_model()
    worth = grid.grid(model, theta, x).values
    few, true = found_on(model, theta, x, family(2), noise.gauss_hermite(2, 3))
    assert (few < worth - 0.05).any() and (true - worth).max() > 0.1
    _, fine = infer.coarse_and_fine(family(2), 0, x)
    on_nodes, true = found_on(model, theta, x, family(2), fine)
    assert abs(on_nodes - true).max() < 2e-3
    assert (true - worth).max() < 0.1 and (true > worth - 1e-6).all()


def test_families_that_sample_their_kl_are_sought_on_more_nodes():
    def counts(q, *given):
        return [len(weights) for _, weights in infer.coarse_and_fine(q, *given, np.zeros(1))]

    assert counts(FullGaussian(2), 0) == [25, 196] and counts(coupling_flow(2), 0) == [100, 400]
    assert counts(FullGaussian(1), 0) == [5, 32] and counts(planar_flow(1), 0) == [20, 64]
    assert counts(FullGaussian(3), 76) == [76, 76] and counts(coupling_flow(3), 76) == [64 * 33] * 2


def test_6_11_draws_flatter_by_the_numbers_that_are_sought_over_their_count():
    """A flow without layers is a Gaussian that samples its KL. In a linear-Gaussian model its best is the
    posterior, Q there nlml: searches on sets of S draws end n/2S below it, and Q there n/2S above.
    """
    rng, q, S = np.random.default_rng(1), Flow(3, ()), 400
    model = Model(layers.mlp(3, (), 4), likelihoods.Gaussian(4, 0.5), 3, q)
    theta, x = model.init(rng, get_backend()), rng.standard_normal((1, 4))
    phi = infer.closed_form(with_q(model, FullGaussian(3)), theta, x)
    exact, w = noise.sigma_points(3)
    worth, below, above = expectations.bound_on_nodes(model, theta, phi, x, exact, w), [], []
    for _ in range(60):
        e = infer.e_step(model, theta, phi, x, rng.standard_normal((S, 1, 3)), np.full(S, 1 / S), tol=1e-4)
        below.append(worth - e.Q)
        above.append(expectations.bound_on_nodes(model, theta, e.phi, x, exact, w) - worth)
    assert q.n_phi == 9
    np.testing.assert_allclose([np.mean(below), np.mean(above)], 9 / (2 * S), rtol=0.2)


# ---- the ladder


@pytest.fixture(scope="module")
def rungs():
    model, theta, x = bent_model(n_cases=6)
    return model, theta, x, gaps.ladder(model, theta, x, np.random.default_rng(0))


def test_the_rungs_rise_and_the_flow_saves_most_of_what_is_not_gaussian(rungs):
    model, theta, x, g = rungs
    slack = g.error + 1e-5
    for share in (g.left, g.bent, g.turned):
        assert (share > -slack).all()
    np.testing.assert_allclose(g.left + g.bent + g.turned, g.q_diagonal - g.nlml, atol=1e-12)
    assert g.bent.mean() > 0.02 and g.left.mean() < 0.5 * (g.q_full - g.nlml).mean()
    flow = with_q(model, coupling_flow(2))
    kl = divergence.kl_to_posterior(flow, theta, g.phi_flow, x)    # by a road of its own
    np.testing.assert_allclose(g.left, kl, atol=1e-5)


def test_its_gaussian_rungs_are_the_ledger_s(rungs):
    model, theta, x, g = rungs
    ledger = gaps.gaps(model, theta, infer.prior_phi(model, x), x, np.random.default_rng(0))
    np.testing.assert_array_equal(g.q_diagonal, ledger.q_optimal)
    np.testing.assert_array_equal(g.q_full, ledger.q_full)


def test_a_flow_s_ledger_is_no_worse_than_the_best_gaussian_s(rungs):
    model, theta, x, g = rungs
    flow, x = with_q(model, coupling_flow(2)), x[:3]
    ledger = gaps.gaps(flow, theta, infer.prior_phi(flow, x), x, np.random.default_rng(0))
    assert (ledger.diagonal < ledger.approximation_error + 1e-5).all()
    assert (ledger.q_optimal < g.q_flow[:3] + 0.02).all()


def test_where_nodes_flatter_the_gaussian_stays():
    """A steep decoder, whose posteriors fool the search's nodes: no rung rises above the Gaussian's."""
    model, theta, x = bent_model(n_cases=6, seed=4)
    x = x[3:]
    g = gaps.ladder(model, theta, x, np.random.default_rng(0))
    assert (g.bent > -1e-9).all() and g.bent.max() > 0.02
    flow = with_q(model, coupling_flow(2))
    nodes = infer.coarse_and_fine(flow.posterior, 0, x)
    start = flow.posterior.from_full(
        gaps.gaps(model, theta, infer.prior_phi(model, x), x, np.random.default_rng(0)).phi_full)
    found = infer.optimal(flow, theta, [start], x, *nodes, tol=1e-4)
    assert (expectations.quadrature(flow, theta, found.phi, x)[0] > found.Q + 0.05).any()   # they did flatter


def test_in_a_linear_model_the_flow_has_nothing_to_bend(rng):
    model = Model(layers.mlp(2, (), 4), likelihoods.Gaussian(4), 2)
    theta, x = model.init(rng, get_backend()), rng.standard_normal((3, 4))
    g = gaps.ladder(model, theta, x, rng)
    assert g.method == "exact"
    np.testing.assert_allclose(g.q_flow, g.nlml, rtol=1e-12)
    flow = with_q(model, coupling_flow(2))
    Q = expectations.quadrature(flow, theta, g.phi_flow, x)[0]
    np.testing.assert_allclose(Q, g.nlml, rtol=1e-9)


def test_one_latent_variable_has_a_planar_rung():
    model, theta, x = bent_model(K=1)
    g = gaps.ladder(model, theta, x, np.random.default_rng(0))
    assert g.phi_flow.shape == (4, 4) and (g.bent > -1e-5).all() and g.bent.max() > 1e-3
    np.testing.assert_allclose(g.turned, 0, atol=1e-5)             # one variable has nothing to turn


@pytest.mark.thorough
def test_the_ladder_beyond_two_latent_variables():
    model, theta, x = bent_model(K=3, n_visible=3)
    g = gaps.ladder(model, theta, x, np.random.default_rng(0))
    assert g.method == "importance" and (g.left > -4 * g.error).all()
    assert (g.bent > -4 * g.error).all() and g.bent.mean() > 0


def test_a_picture_of_the_rungs_shows_their_densities(rungs):
    """A line holds 90 % of its q: of the Gaussian's, where the Mahalanobis distance says."""
    model, theta, x, g = rungs
    full, one = FullGaussian(2), slice(0, 1)
    gaussian = full.closest(np.zeros((1, 2)), np.diag([1.0, 4.0]))
    shown = {"full": (full, gaussian), "flow": (coupling_flow(2), g.phi_flow[one])}
    panel = plots.ladder_panel("case 0", model, theta, x[one], shown)
    title, z1, z2, log_p, found = panel
    assert title == "case 0" and log_p.shape == (241, 241) and list(found) == ["full", "flow"]
    assert z1[0] < -3 and z1[-1] > 3 and z2[0] < -1.5 and z2[-1] > 1.5
    figure = plots.ladder_panels([panel, panel])
    ax = figure.axes[0]
    paths = [c.get_paths()[0].vertices for c in ax.collections[1:]]  # after the shading: full, then flow
    assert len(paths) == 2 and [text.get_text() for text in figure.legends[0].get_texts()] == ["full", "flow"]
    squares = paths[0] ** 2 @ np.array([1.0, 4.0])
    np.testing.assert_allclose(squares, stats.chi2(2).ppf(0.9), rtol=0.03)


# ---- the routes


DATA = datasets.spiral(n_cases=60, noise=0.2**2).x
SHORT = {"hidden": (5,), "epochs": 3}


@pytest.mark.short
@pytest.mark.parametrize("route", [VAE, VariationalEM])
@pytest.mark.parametrize("family, K", [("flow", 2), ("planar", 1)])
def test_a_route_with_a_flow_answers_every_question(route, family, K, tmp_path):
    model = route(K, posterior=family, hidden=(5,), epochs=40 if route is VAE else 2)
    model, x = model.fit(DATA if route is VAE else DATA[:8]), DATA[:3]
    Q, worth = model.bound(x), model.nlml(x, method="grid").values
    np.testing.assert_allclose(Q - worth, model.kl_to_posterior(x), atol=1e-4)
    assert model.transform(x).shape == (3, K) and np.isfinite(model.reconstruct(x)).all()
    holes = np.where([[False, True]] * 3, np.nan, x)
    assert np.isfinite(model.impute(holes)).all()
    ledger = model.gaps(x)
    assert (ledger.diagonal < 1e-3).all() and (ledger.amortisation > -ledger.amortisation_error - 1e-6).all()
    model.save(tmp_path / "flow.npz")
    np.testing.assert_array_equal(load(tmp_path / "flow.npz").bound(x), Q)


@pytest.mark.short
def test_refine_goes_down_in_both_precisions():
    for dtype in ("float32", "float64"):
        model = VAE(2, posterior="flow", dtype=dtype, **SHORT).fit(DATA)
        before = model.encode(DATA[:5])
        after = model.refine(DATA[:5], n_steps=5)
        assert before.dtype == after.dtype == dtype
        assert (model.bound(DATA[:5], phi=after) < model.bound(DATA[:5], phi=before)).all()


def test_quadrature_and_lbfgs_train_a_flow():
    how = {"nodes": "quadrature", "optimizer": "lbfgs", "hidden": (4,), "epochs": 8}
    with pytest.warns(ConvergenceWarning, match="L-BFGS stopped after 8"):
        model = VAE(2, posterior="flow", **how).fit(DATA[:30])
    assert model.q_path_[-1] < model.q_path_[0] and np.isfinite(model.q_path_).all()


def test_gradient_estimators_know_of_the_sampled_kl(rng):
    model, theta, x = bent_model()
    flow, phi = with_q(model, coupling_flow(2)), rng.uniform(-0.5, 0.5, (4, 17))
    eta = rng.standard_normal((3, 4, 2))
    default = gradient_estimators.reparameterised(flow, theta, phi, x, eta)
    sampled = gradient_estimators.reparameterised(flow, theta, phi, x, eta, kl="sampled")
    np.testing.assert_array_equal(default, sampled)
    one, w = noise.gauss_hermite(2, 30)                            # E[score] = 0 for a density
    score = gradient_estimators.naive(flow, theta, phi, x, one, kl="sampled")
    np.testing.assert_allclose(np.einsum("s,snp->np", w, score), 0, atol=1e-3)


def test_a_trace_shows_a_flow(rng):
    from teachvae.course.trace import Trace

    model, theta, x = bent_model()
    flow, phi = with_q(model, coupling_flow(2)), rng.uniform(-0.5, 0.5, (4, 17))
    eta = rng.standard_normal((3, 4, 2))
    t = Trace(flow, theta, phi, x, eta)
    np.testing.assert_array_equal(t["m"], phi[:, :2])
    np.testing.assert_array_equal(t["dm"], t["dphi"][:, :2])
    Q, cache = bound.forward(flow, theta, phi, x, eta)
    np.testing.assert_array_equal(t["Q"], Q)


# ---- at the door


def without(name):
    """A family of q that has all but what is called `name`."""
    class Lacks(FullGaussian):
        def __getattribute__(self, asked):
            if asked in name:
                raise AttributeError(asked)
            return super().__getattribute__(asked)

    return Lacks(2)


@pytest.mark.parametrize("ask, error, words", [
    (lambda: VAE(1, posterior="flow").fit(DATA), ValueError, "needs K >= 2, got 1; posterior='planar'"),
    (lambda: VAE(2, posterior="flow", kl="analytic").fit(DATA), ValueError, "which Flow has not"),
    (lambda: VAE(2, posterior="flow", nodes="sigma", hidden=()).fit(DATA), ValueError,
     "posterior='diagonal' or 'full'"),
    (lambda: VariationalEM(2, posterior="flow", n_samples=99).fit(DATA), ValueError, "272 or more, or None"),
    (lambda: VAE(2, posterior=without(["kl_backward"])).fit(DATA), TypeError, "has kl and no kl_backward"),
    (lambda: VAE(2, posterior=coupling_flow(3)).fit(DATA), ValueError, "posterior has 3 latent variables"),
    (lambda: infer.prior_phi(with_q(bent_model()[0], without(["kl", "closest"])), DATA), TypeError,
     "has neither kl nor closest"),
])
def test_what_cannot_be_is_said(ask, error, words):
    with pytest.raises(error, match=words):
        ask()


@pytest.mark.short
def test_the_ladder_asks_for_a_flow():
    model = VAE(2, **SHORT).fit(DATA)
    with pytest.raises(TypeError, match="family must be 'flow', 'planar' or a posteriors.Flow"):
        model.ladder(DATA[:2], family="full")
    with pytest.raises(ValueError, match="tol"):
        model.ladder(DATA[:2], tol=0)
    g = model.ladder(DATA[:2], family="planar")
    assert g.phi_flow.shape == (2, 13) and str(g).startswith("nats per data case")
    assert isinstance(posteriors.POSTERIORS["flow"](2), Flow) and set(GAUSSIANS) == {"diagonal", "full"}
