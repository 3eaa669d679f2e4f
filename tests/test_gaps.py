"""The ledger of the bound against second roads: dense matrices, sums over a fine lattice, SciPy's searches.

Every share is measured, none is clipped, so each check is also run on a fault that it must catch.
"""

import functools
import warnings

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest
from scipy import optimize, special, stats
from test_facts import (
    FAMILIES, NarrowNoise, Referee, VarianceForDeviation, decoder_by_hand, dense_kls, dense_nlml,
    dense_parameters, dense_posterior, exact_Q, make_case, moments_by_hand, noise_by_hand, random_phi
)

from teachvae import (
    Autoencoder, FactorAnalysis, GaussianMixture, Model, VAE, VariationalEM, bound, datasets, divergence,
    expectations, fit, gaps, infer, layers, likelihoods, linear_gaussian, noise, posteriors, tree
)
from teachvae.arrays.backend import get_backend, to_numpy
from teachvae.networks.convergence import ConvergenceWarning
from teachvae.routes import conventions

pytestmark = pytest.mark.short                                   # most fits here end early on purpose

GAUSSIAN, BERNOULLI = "gaussian diagonal", "bernoulli"
DIAGONAL, FULL = posteriors.DiagonalGaussian, posteriors.FullGaussian
seeds = st.integers(0, 2**32 - 1)


def ledger(case, phi=None, **options):
    phi = case.phi if phi is None else phi
    return gaps.gaps(case.model, case.theta, phi, case.x, np.random.default_rng(0), **options)


def assert_ledger(g, slack=1e-9):
    """Three shares that add up, none below zero by more than its error, all of shape (N,)."""
    shares = {"not_gaussian": g.not_gaussian, "diagonal": g.diagonal, "amortisation": g.amortisation}
    np.testing.assert_allclose(sum(shares.values()), g.q_used - g.nlml, rtol=0, atol=1e-10)
    np.testing.assert_allclose(g.not_gaussian + g.diagonal, g.approximation, rtol=0, atol=1e-10)
    for name, share in shares.items():
        assert share.shape == g.nlml.shape == g.amortisation_error.shape
        error = g.amortisation_error if name == "amortisation" else g.approximation_error
        assert (share >= -error - slack).all(), f"{name} is {share.min()}, with error {error.max()}"
    assert (g.gradient_norm < 1e-4).all()


def rotated(case, seed):
    """The same p(x) with W turned by a random rotation."""
    W, b, _ = dense_parameters(case)
    R, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(W), len(W))))
    case.theta["decoder"][0] = {"W": R @ W, "b": b}
    return case


# ---- the linear-Gaussian model: every number twice in closed form -----------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=20)
@given(seed=seeds, n_latent=st.integers(1, 4), size=st.floats(0.1, 1.5))
def test_linear_ledger_against_dense_matrices(family, seed, n_latent, size):
    case = make_case(seed, GAUSSIAN, FAMILIES[family], n_latent=n_latent, size=size)
    g, parameters = ledger(case), dense_parameters(case)
    np.testing.assert_allclose(g.nlml, dense_nlml(*parameters, case.x), rtol=0, atol=1e-9)
    np.testing.assert_allclose(g.q_full, g.nlml, rtol=0, atol=1e-9)
    _, covariance = dense_posterior(*parameters, case.x)
    M = np.linalg.inv(covariance)
    miss = 0.5 * (np.log(np.diag(M)).sum() - np.linalg.slogdet(M)[1]) if family == "diagonal" else 0
    np.testing.assert_allclose(g.approximation, miss, rtol=0, atol=1e-9)
    if family == "diagonal":
        assert linear_gaussian.mean_field_gap(parameters[0], parameters[2]) == pytest.approx(miss, abs=1e-9)
    kl, least = dense_kls(case, case.phi), dense_kls(case, g.phi_optimal)
    np.testing.assert_allclose(g.amortisation, kl - least, rtol=0, atol=1e-8)
    np.testing.assert_allclose(g.q_used - g.nlml, kl, rtol=0, atol=1e-8)
    np.testing.assert_allclose(
        divergence.kl_to_posterior(case.model, case.theta, case.phi, case.x), kl, rtol=0, atol=1e-8
    )
    assert_ledger(g)
    assert g.method == "exact" and (g.gradient_norm < 1e-8).all()
    for error in (g.nlml_error, g.approximation_error, g.amortisation_error):
        np.testing.assert_array_equal(error, np.zeros(len(case.x)))


@pytest.mark.parametrize("n_latent", [2, 3])
def test_canonical_loadings_have_no_approximation_gap_and_rotated_ones_do(n_latent):
    case = make_case(7, GAUSSIAN, DIAGONAL, n_latent=n_latent)
    W, b, psi = dense_parameters(case)
    case.theta["decoder"][0] = {"W": linear_gaussian.canonical(W, psi), "b": b}
    before = ledger(case)
    assert np.abs(before.approximation).max() < 1e-9
    after = ledger(rotated(case, 8))
    np.testing.assert_allclose(after.nlml, before.nlml, rtol=0, atol=1e-9)
    assert after.approximation.min() > 0.01


@pytest.mark.parametrize("family", FAMILIES)
def test_a_shift_of_the_best_means_costs_what_it_should(family):
    case = make_case(9, GAUSSIAN, FAMILIES[family], n_latent=3)
    _, covariance = dense_posterior(*dense_parameters(case), case.x)
    delta = np.random.default_rng(0).standard_normal((len(case.x), 3))
    phi = ledger(case).phi_optimal.copy()
    phi[:, :3] += delta
    cost = 0.5 * np.sum(delta @ np.linalg.inv(covariance) * delta, axis=1)
    np.testing.assert_allclose(ledger(case, phi).amortisation, cost, rtol=1e-9)
    phi[:, :3] -= delta
    assert np.abs(ledger(case, phi).amortisation).max() < 1e-12


# ---- non-linear models with K ≤ 2: lattices and searches that share no line with the package ---------


def assert_agrees_with_lattice(case, g, tol=1e-6):
    """nlml, Q − nlml and kl_to_posterior against sums over a dense lattice of z."""
    referees = [Referee.of(case.model, case.theta, row) for row in case.x]
    np.testing.assert_allclose(g.nlml, [r.nlml() for r in referees], rtol=0, atol=tol)
    kl = [r.kl_to_posterior(case.model.posterior, row) for r, row in zip(referees, case.phi)]
    np.testing.assert_allclose(g.q_used - g.nlml, kl, rtol=0, atol=1e-4)
    ours = divergence.kl_to_posterior(case.model, case.theta, case.phi, case.x)
    np.testing.assert_allclose(ours, kl, rtol=0, atol=tol)


@pytest.mark.parametrize("n_latent", [1, 2])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", [GAUSSIAN, BERNOULLI])
@settings(max_examples=5)
@given(seed=seeds, size=st.floats(0.2, 1.2))
def test_nonlinear_ledger_against_a_lattice(name, family, n_latent, seed, size):
    case = make_case(seed, name, FAMILIES[family], n_latent=n_latent, hidden=(3,), size=size, n_cases=3)
    g = ledger(case)
    assert_ledger(g)
    assert_agrees_with_lattice(case, g)
    assert g.method == "grid"
    if family == "full":
        np.testing.assert_array_equal(g.diagonal, np.zeros(3))


def Q_by_hand(case, q, row):
    """φ → Q of one data case, by the trapezoidal rule in η, with a hand-written decoder and density."""
    K, psi = q.n_latent, None
    h = {1: 0.1, 2: 0.35}[K]
    axis = np.arange(-8.4, 8.4 + h / 2, h)
    eta = np.stack([a.ravel() for a in np.meshgrid(*[axis] * K)], axis=1)
    weights = np.exp(-0.5 * np.sum(eta**2, axis=1))
    weights /= weights.sum()
    if isinstance(case.model.likelihood, likelihoods.Gaussian):
        psi = noise_by_hand(case.model.likelihood, case.theta)

    def Q(phi):
        m, C = moments_by_hand(q, phi)
        f = decoder_by_hand(case.model, case.theta, m + eta @ np.linalg.cholesky(C).T)
        if psi is None:
            log_p = -np.logaddexp(0, np.where(row == 1, -f, f))
        else:
            log_p = -0.5 * ((row - f) ** 2 / psi + np.log(2 * np.pi * psi))
        kl = 0.5 * (np.trace(C) + m @ m - K - np.linalg.slogdet(C)[1])
        return kl - weights @ log_p.sum(axis=1)

    return Q


@pytest.mark.parametrize("n_latent", [1, 2])
@pytest.mark.parametrize("name", [GAUSSIAN, BERNOULLI])
def test_no_search_gets_below_q_optimal_or_q_full(name, n_latent):
    case = make_case(31, name, DIAGONAL, n_latent=n_latent, hidden=(3,), size=1.2, n_cases=2)
    g, rng = ledger(case), np.random.default_rng(1)
    for n, row in enumerate(case.x):
        for q, value, phi in ((DIAGONAL, g.q_optimal, g.phi_optimal), (FULL, g.q_full, g.phi_full)):
            Q, starts = Q_by_hand(case, q(n_latent), row), random_phi(rng, q(n_latent), 4)
            assert Q(phi[n]) == pytest.approx(value[n], abs=1e-6)
            searched = min(optimize.minimize(Q, start, options={"gtol": 1e-6}).fun for start in starts)
            assert searched > value[n] - 1e-6
            assert searched == pytest.approx(value[n], abs=1e-5)     # the search is a good one


def test_q_used_is_q_at_phi_and_not_at_another_phi_or_on_other_nodes():
    for n_latent in (1, 2):
        case = make_case(5, GAUSSIAN, DIAGONAL, n_latent=n_latent, hidden=(3,))
        g = ledger(case)
        np.testing.assert_allclose(g.q_used, exact_Q(case, case.phi), rtol=0, atol=1e-6)
        np.testing.assert_allclose(g.q_optimal, exact_Q(case, g.phi_optimal), rtol=0, atol=1e-6)


@pytest.mark.parametrize("n_latent", [1, 2, 3])
def test_no_row_depends_on_the_others(n_latent):
    case = make_case(11, BERNOULLI, DIAGONAL, n_latent=n_latent, hidden=(3,), size=1.2, n_cases=6)
    whole, rows = ledger(case), [4, 0, 3]
    part = gaps.gaps(case.model, case.theta, case.phi[rows], case.x[rows], np.random.default_rng(0))
    for name in set(whole._fields) - {"method"}:
        np.testing.assert_allclose(
            getattr(part, name), getattr(whole, name)[rows], rtol=0, atol=1e-9, err_msg=name
        )


@pytest.mark.parametrize("n_latent", [1, 2, 3])
def test_the_best_phi_has_no_amortisation_gap(n_latent):
    case = make_case(12, GAUSSIAN, DIAGONAL, n_latent=n_latent, hidden=(3,))
    phi = ledger(case, tol=1e-7).phi_optimal
    g = ledger(case, phi)
    assert (np.abs(g.amortisation) <= g.amortisation_error + 1e-9).all()
    assert np.abs(g.amortisation).max() < 1e-6
    assert ledger(case).amortisation.min() > 1e-3


# ---- posteriors with two modes ----------------------------------------------------------------------


def two_modes():
    """x = 1 is told by a z below −1, not quite, and by one above 1.8, better but further from the prior."""
    model = Model(layers.mlp(1, (2,), 1), likelihoods.Gaussian(1, 0.02), 1)
    decoder = [
        {"W": np.array([[4.0, 4.0]]), "b": np.array([-7.2, 4.0])}, {},
        {"W": np.array([[0.5], [-0.35]]), "b": np.array([0.85])},
    ]
    return model, {"decoder": decoder, "likelihood": {}}, np.array([[1.0]])


def settle(model, theta, m, x):
    """The local minimum of Q that an E-step from mean m leads to, and its Q."""
    nodes = noise.gauss_hermite(1, 32)
    e = infer.e_step(model, theta, np.array([[m, -2.0]]), x, *nodes, tol=1e-8)
    return e.phi, float(e.Q[0])


def test_the_better_mode_is_found_from_the_worse_one(monkeypatch):
    model, theta, x = two_modes()
    (worse, Q_worse), (better, Q_better) = (settle(model, theta, m, x) for m in (-1.5, 2.3))
    assert worse[0, 0] < -1.5 and better[0, 0] > 2 and Q_worse > Q_better + 0.5

    def optimum(phi):
        return gaps.gaps(model, theta, phi, x, np.random.default_rng(0))

    g = optimum(worse)
    np.testing.assert_allclose(g.phi_optimal, better, atol=1e-3)
    assert g.amortisation[0] == pytest.approx(Q_worse - Q_better, abs=1e-4)
    np.testing.assert_allclose(optimum(better).phi_optimal, better, atol=1e-3)

    # It was the search: the prior leads to the worse mode.
    monkeypatch.setattr(infer, "search", lambda model, theta, x, z: infer.prior_phi(model, x))
    np.testing.assert_allclose(optimum(worse).phi_optimal, better, atol=1e-3)   # the grid's peaks lead there
    monkeypatch.setattr(gaps.grid, "places", lambda *_: [])
    np.testing.assert_allclose(optimum(worse).phi_optimal, worse, atol=1e-3)
    np.testing.assert_allclose(optimum(better).phi_optimal, better, atol=1e-3)


def far_network():
    """One case at |z| = 5, where few draws of the prior are: 200 pixels, noise of 0.1."""
    rng = np.random.default_rng(22)
    net = layers.mlp(2, (16, 16), 200, "tanh")
    decoder = tree.map(lambda w: 2 * w, net.init(rng, get_backend()))
    angle = rng.uniform(0, 2 * np.pi)
    z = 5 * np.array([[np.cos(angle), np.sin(angle)]])
    f, _ = net.forward(decoder, z)
    theta = {"decoder": decoder, "likelihood": {"log_psi": np.full(200, np.log(0.01))}}
    return Model(net, likelihoods.Gaussian(200), 2), theta, f + 0.1 * rng.standard_normal(f.shape), z


def test_a_mode_that_no_draw_of_the_prior_meets_is_found():
    """The best of draws leads to a Q 53 nats above nlml; started at z itself, a search to one 1.285 above."""
    model, theta, x, z = far_network()
    g = gaps.gaps(model, theta, infer.prior_phi(model, x), x, np.random.default_rng(0))
    nodes = infer.coarse_and_fine(model.posterior, 0, x)
    told = infer.optimal(model, theta, [np.hstack([z, [[-3.0, -3.0]]])], x, *nodes)
    best, _ = expectations.quadrature(model, theta, told.phi, x)
    assert g.q_optimal[0] == pytest.approx(best[0], abs=1e-6)
    assert 1 < g.approximation[0] < 1.286 and g.approximation_error[0] < 1e-5
    kl = divergence.kl_to_posterior(model, theta, g.phi_optimal, x)
    assert kl[0] == pytest.approx(g.approximation[0], abs=1e-6)


@pytest.mark.parametrize("how", ["infer", "impute", "denoise"])
def test_estimators_find_the_mode_that_no_draw_meets(how):
    """Their E-steps go where the ledger's go; the entry that is filled in, and the clean one, tell it too."""
    model, theta, x, z = far_network()
    nodes = infer.coarse_and_fine(model.posterior, 0, x)
    told = infer.optimal(model, theta, [np.hstack([z, [[-3.0, -3.0]]])], x, *nodes)
    rng = np.random.default_rng(0)
    vem = VariationalEM(2, hidden=(16, 16), epochs=1, e_steps=1, m_steps=1).fit(rng.normal(size=(20, 200)))
    vem.model_, vem.theta_ = model, theta
    f, _ = model.decoder.forward(theta["decoder"], z)
    if how == "infer":
        np.testing.assert_allclose(vem.infer(x), told.phi, atol=1e-3)
        return
    if how == "impute":
        seen = np.where(np.arange(200) % 10 == 0, np.nan, x)
        found = vem.impute(seen)[:, ::10]
        f = f[:, ::10]
    else:
        found = vem.denoise(x, 0.01)
    assert np.sqrt(np.mean((found - f) ** 2)) < 0.1                # else about 0.75


def test_below_log_2_no_mode_elsewhere_is_better():
    """Two modes with shares u and 1 − u of the posterior: the best q of each costs −log of its share."""
    u = np.linspace(0.01, 0.99, 99)
    costs, elsewhere = -np.log(u), -np.log1p(-u)
    saved = gaps._what_another_mode_may_save(costs)
    np.testing.assert_allclose(saved, np.maximum(costs - elsewhere, 0), atol=1e-12)
    assert (saved[costs < np.log(2)] < 1e-12).all()


def test_for_more_latent_variables_the_errors_hold_what_nobody_looked_for(monkeypatch):
    case = make_case(3, GAUSSIAN, DIAGONAL, n_latent=3)
    case.theta["decoder"][0]["W"] = 3 * np.array([[1.0, 1.0, 1.0], [1.0, 1.0, 1.2], [1.0, 1.1, 1.0]])
    assert ledger(case).approximation.min() > np.log(2), "what the diagonal costs"
    monkeypatch.setattr(linear_gaussian, "applies", lambda model: False)
    g = ledger(case)
    far = g.approximation > np.log(2)
    assert far.all()
    for error in (g.approximation_error, g.amortisation_error):
        assert (error[far] >= np.log(np.expm1(g.approximation[far])) - 1e-12).all()


def test_phi_is_kept_where_the_coarse_nodes_were_taken_in(monkeypatch):
    model, theta, x = two_modes()
    (worse, _), (phi, _), e_step = settle(model, theta, -1.5, x), settle(model, theta, 2.3, x), infer.e_step

    def taken_in(model, theta, phi, x, eta, weights, **options):
        if len(weights) == infer.COARSE:
            return infer.EStep(worse, np.array([-1e9]), np.zeros(1))  # said to be low, but is not
        return e_step(model, theta, phi, x, eta, weights, **options)

    monkeypatch.setattr(infer, "e_step", taken_in)
    g = gaps.gaps(model, theta, phi, x, np.random.default_rng(0))
    np.testing.assert_allclose(g.phi_optimal, phi, atol=1e-5)
    assert abs(g.amortisation[0]) < 1e-6


# ---- quadrature and its certificate -----------------------------------------------------------------


def assert_honest(values, certificate, truth, tol=1e-6):
    """A settled value errs by less than tol; one that is not settled, by no more than it says (times 3:
    a change is an estimate of the error, not a bound)."""
    error, rounding = np.abs(values - truth), 1e-9 * (1 + np.abs(truth))
    assert (error <= np.where(certificate <= tol, tol, 3 * certificate) + rounding).all()


def quadratures(n_latent, sizes, n_seeds):
    for size in sizes:
        for seed in range(n_seeds):
            for name in (GAUSSIAN, BERNOULLI):
                yield make_case(
                    seed, name, DIAGONAL, n_latent=n_latent, hidden=(3,), size=size, n_cases=6
                )


def finest(case):
    """Q on a lattice in η, finer than any rule that the package has."""
    K = case.model.n_latent
    h = {1: 0.01, 2: 0.1}[K]
    axis = np.arange(-8.4, 8.4 + h / 2, h)
    eta = np.stack([a.ravel() for a in np.meshgrid(*[axis] * K)], axis=1)
    weights = np.exp(-0.5 * np.sum(eta**2, axis=1))
    nodes = eta[:, None, :], weights / weights.sum()
    return expectations.bound_on_nodes(case.model, case.theta, case.phi, case.x, *nodes)


@pytest.mark.parametrize("n_latent, sizes, n_seeds", [(1, (0.5, 1, 2, 4), 30), (2, (0.5, 1, 2), 5)])
def test_the_certificate_is_honest(n_latent, sizes, n_seeds):
    settled = unsettled = 0
    for case in quadratures(n_latent, sizes, n_seeds):
        values, certificate = expectations.quadrature(case.model, case.theta, case.phi, case.x)
        truth = finest(case)
        assert_honest(values, certificate, truth)
        assert (np.abs(values - truth)[certificate == 0] < 1e-9).all()
        settled += np.sum(certificate <= 1e-6)
        unsettled += np.sum(certificate > 1e-6)
        if np.any(certificate > 1e-6):
            with pytest.raises(AssertionError):                    # a certificate of 0 is found out
                error = np.abs(values - truth)
                assert_honest(values + (error < 1e-6), 0 * certificate, truth)
    assert settled > 50 and unsettled > 5


def test_hard_cases_go_on_to_finer_rules_and_easy_ones_do_not(monkeypatch):
    case = make_case(0, GAUSSIAN, DIAGONAL, n_latent=1, hidden=(3,), size=3.0, n_cases=2)
    case.phi = np.array([[0.1, np.log(0.01)], [0.1, np.log(1.4)]])  # a narrow q sees a straight line
    case.x[:] = case.x[0]
    asked, the_q = [], expectations.bound_on_nodes

    def spy(model, theta, phi, x, eta, weights):
        asked.append((len(weights), len(x)))
        return the_q(model, theta, phi, x, eta, weights)

    monkeypatch.setattr(expectations, "bound_on_nodes", spy)
    values, certificate = expectations.quadrature(case.model, case.theta, case.phi, case.x)
    first, second, third, *others = expectations.ORDERS[1]
    assert asked == [(first, 2), (second, 2), (third, 2), *((order, 1) for order in others)]
    assert certificate[0] < 1e-9 < 1e-6 < certificate[1]
    alone, _ = expectations.quadrature(case.model, case.theta, case.phi[:1], case.x[:1])
    np.testing.assert_allclose(values[:1], alone, rtol=1e-13)


def test_10_5_the_certificate_as_written():
    """Each case alone, rule after rule: the larger change from the two before; thrice it if none settles."""
    settled = set()
    for case in quadratures(1, (0.5, 2, 4), 3):
        _, certificate = expectations.quadrature(case.model, case.theta, case.phi, case.x)
        for n in range(len(case.x)):
            one, Q = slice(n, n + 1), []
            for order in expectations.ORDERS[1]:
                eta, weights = noise.gauss_hermite(1, order)
                value, _ = bound.forward(
                    case.model, case.theta, case.phi[one], case.x[one], eta, weights=weights
                )
                Q.append(value[0])
                changes = np.abs(np.subtract(Q[-3:-1], Q[-1]))
                if len(Q) > 2 and max(changes) <= 1e-6:
                    break
            else:
                changes = 3 * changes
            settled.add(len(Q))
            assert abs(certificate[n] - max(changes)) <= 1e-12 * (1 + abs(Q[-1]))
    assert settled == {3, 4}


def test_the_errors_of_the_shares_are_those_of_their_parts(monkeypatch):
    """Whatever they are: that of Q in use is 1 here, of the best 2, of the best full Gaussian 4."""
    errors = iter((1.0, 2.0, 4.0))
    monkeypatch.setattr(gaps, "quadrature", lambda model, theta, phi, x: (
        expectations.quadrature(model, theta, phi, x)[0], np.full(len(x), next(errors))
    ))
    monkeypatch.setattr(gaps, "_what_another_mode_may_save", lambda gap: 0 * gap)
    g = ledger(make_case(0, BERNOULLI, DIAGONAL, n_latent=1, hidden=(3,)))
    np.testing.assert_allclose(g.amortisation_error, 3)
    np.testing.assert_allclose(g.approximation_error, 6 + g.nlml_error, rtol=0, atol=1e-15)
    assert (g.nlml_error > 0).any()


# ---- K > 2: draws, with standard errors that mean something -----------------------------------------


@pytest.mark.thorough
def test_sampled_errors_are_calibrated_on_the_linear_model(monkeypatch):
    """The linear model sent down the sampled road; its closed form says how far off each share is."""
    z_approximation, z_amortisation, z_nlml = [], [], []
    for seed in range(80):
        case = make_case(seed, GAUSSIAN, DIAGONAL, n_latent=3, size=0.8, n_cases=2)
        exact = ledger(case)
        with monkeypatch.context() as patch:
            patch.setattr(linear_gaussian, "applies", lambda model: False)
            sampled = gaps.gaps(
                case.model, case.theta, case.phi, case.x, np.random.default_rng(1000 + seed)
            )
        assert sampled.method == "importance"
        np.testing.assert_allclose(sampled.phi_optimal, exact.phi_optimal, atol=1e-3)
        np.testing.assert_allclose(sampled.phi_full, exact.phi_full, atol=1e-3)
        np.testing.assert_allclose(sampled.nlml, exact.nlml, atol=1e-4)  # from the exact posterior
        z_nlml.append((sampled.nlml - exact.nlml) / sampled.nlml_error)
        z_approximation.append((sampled.approximation - exact.approximation) / sampled.approximation_error)
        z_amortisation.append((sampled.amortisation - exact.amortisation) / sampled.amortisation_error)
    for z in (z_approximation, z_amortisation):
        assert 0.8 < np.sqrt(np.mean(np.square(z))) < 1.25
        assert abs(np.mean(z)) < 0.3


def test_a_share_of_zero_comes_out_on_both_sides_of_zero(monkeypatch):
    """Canonical loadings: the approximation gap is 0, and its estimate may not be clipped there."""
    estimates = []
    for seed in range(12):
        case = make_case(seed, GAUSSIAN, DIAGONAL, n_latent=3, size=0.8, n_cases=2)
        W, b, psi = dense_parameters(case)
        case.theta["decoder"][0] = {"W": linear_gaussian.canonical(W, psi), "b": b}
        with monkeypatch.context() as patch:
            patch.setattr(linear_gaussian, "applies", lambda model: False)
            g = gaps.gaps(case.model, case.theta, case.phi, case.x, np.random.default_rng(seed))
        assert (np.abs(g.approximation) < 5 * g.approximation_error).all()
        estimates.append([g.approximation, g.not_gaussian])
    below = np.mean(np.array(estimates) < 0, axis=(0, 2))
    assert ((below > 0.15) & (below < 0.85)).all()


def test_the_amortisation_error_is_that_of_a_paired_difference():
    case = make_case(3, GAUSSIAN, DIAGONAL, n_latent=3, hidden=(3,), size=1.0)
    best = ledger(case).phi_optimal
    g = ledger(case, best + 1e-3 * np.random.default_rng(0).standard_normal(best.shape))
    assert (g.amortisation_error > 0).all()
    assert (g.amortisation_error < 0.05 * g.approximation_error).all()
    assert (np.abs(g.amortisation) < 5 * g.amortisation_error).all()
    assert g.amortisation.min() < 0 < g.amortisation.max()         # next to 0, and not clipped there


def test_a_sampled_Q_and_its_error_are_a_mean_and_that_of_a_mean():
    case = make_case(5, BERNOULLI, DIAGONAL, n_latent=3, hidden=(3,), size=0.5)
    S, other = 50, case.phi + 0.01
    eta = np.random.default_rng(2).standard_normal((S, 1, 3))

    def costs(phi):
        return np.stack([
            bound.forward(case.model, case.theta, phi, case.x, eta[s : s + 1])[0] for s in range(S)
        ])

    for less in (None, other):
        own = costs(case.phi) - (0 if less is None else costs(less))
        Q, error = gaps._sampled(case.model, case.theta, case.phi, case.x, eta, less=less)
        np.testing.assert_allclose(Q, own.mean(axis=0), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(error, own.std(axis=0, ddof=1) / np.sqrt(S), rtol=1e-8)


# ---- the estimator's door ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data():
    return datasets.linear_gaussian(n_cases=60, n_visible=5, n_latent=2).x


def small_vae(x, **options):
    options = {"hidden": (4,), "epochs": 20, "random_state": 1} | options
    return VAE(options.pop("n_components", 2), **options).fit(x)


def test_a_float32_model_is_audited_in_float64(data):
    vae = small_vae(data, dtype="float32")
    g = vae.gaps(data[:8])
    theta, cases = vae._centred(data[:8])                          # of x − origin, as float32 has it
    theta, phi, x = tree.map(lambda leaf: leaf.astype(float), theta), vae.encode(data[:8]), cases[:, ...]
    assert phi.dtype == x.dtype == np.float32
    x = x.astype(float)
    written = gaps.gaps(vae.model_, theta, phi.astype(float), x, np.random.default_rng(0))
    for name in set(g._fields) - {"method"}:
        assert getattr(g, name).dtype == np.float64
        np.testing.assert_allclose(getattr(g, name), getattr(written, name), rtol=1e-12)
    assert_ledger(g)


def test_the_door_refuses_what_makes_no_sense(data):
    vae = small_vae(data, epochs=1)
    with pytest.raises(ValueError, match="phi must have shape"):
        vae.gaps(data, phi=np.zeros((len(data), 3)))
    with pytest.raises(ValueError, match="phi must have shape"):
        vae.gaps(data, phi=np.zeros((1, 4)))
    for tol in (0, -1e-4):
        with pytest.raises(ValueError, match="tol"):
            vae.gaps(data, tol=tol)
    np.testing.assert_array_equal(vae.refine(data, n_steps=0), vae.encode(data))
    for n_steps in (-1, 1.5):
        with pytest.raises(ValueError, match="n_steps"):
            vae.refine(data, n_steps=n_steps)


def test_a_given_phi_is_the_one_that_is_audited(data):
    vem = VariationalEM(2, hidden=(4,), epochs=3).fit(data)
    g = vem.gaps(data, phi=vem.phi_)
    np.testing.assert_allclose(g.q_used, vem.bound(data, phi=vem.phi_), rtol=0, atol=1e-9)
    assert_ledger(g, slack=1e-6)
    assert vem.gaps(data, phi=vem.phi_ + 0.3).amortisation.min() > 1e-3


# ---- semi-amortised inference -----------------------------------------------------------------------


def assert_never_rises(path):
    """path (steps, N): no Q_n rises, by more than rounding."""
    path = np.array(path)
    assert (np.diff(path, axis=0) <= 1e-12 * (1 + np.abs(path[:-1]))).all()


@pytest.mark.parametrize("n_components, posterior", [(1, "diagonal"), (2, "full"), (3, "diagonal")])
def test_refining_never_raises_a_bound(data, n_components, posterior):
    vae = small_vae(data, n_components=n_components, posterior=posterior)
    per_axis = {1: 32, 2: 14, 3: None}[n_components]
    eta, weights = noise.e_step_nodes(n_components, per_axis, 64 + 4 * n_components)
    phis = [vae.encode(data), *(vae.refine(data, k) for k in (1, 2, 5, 20, 300))]
    path = [expectations.bound_on_nodes(vae.model_, vae.theta_, phi, data, eta, weights) for phi in phis]
    assert_never_rises(path)
    assert (np.diff(np.mean(path[:-1], axis=1)) < 0).all()
    if n_components <= 2:                                          # the end is the ledger's optimum
        g = vae.gaps(data)
        refined = vae.bound(data, phi=phis[-1])
        assert (refined > g.q_optimal - 1e-5).all()
        assert np.mean(refined < g.q_optimal + 1e-4) > 0.9         # a few may have two modes
        assert g.amortisation.mean() > 1e-2


def test_refining_a_linear_model_ends_at_the_closed_form(data):
    vae = small_vae(data, hidden=(), epochs=2)
    g = vae.gaps(data)
    assert g.amortisation.mean() > 1e-2
    np.testing.assert_allclose(vae.bound(data, phi=vae.refine(data, 50)), g.q_optimal, rtol=0, atol=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=15)
@given(
    seed=seeds, n_latent=st.integers(1, 2), size=st.floats(0.1, 4),
    name=st.sampled_from([GAUSSIAN, BERNOULLI]),
)
def test_no_e_step_raises_a_bound(family, seed, n_latent, size, name):
    case = make_case(seed, name, FAMILIES[family], n_latent=n_latent, hidden=(3,), size=size)
    nodes = noise.e_step_nodes(n_latent, 7, 68)
    steps = [
        infer.e_step(case.model, case.theta, case.phi, case.x, *nodes, max_steps=k).phi
        for k in (0, 1, 2, 3, 5, 8)
    ]
    np.testing.assert_array_equal(steps[0], case.phi)
    bound_on_nodes = expectations.bound_on_nodes
    assert_never_rises([bound_on_nodes(case.model, case.theta, phi, case.x, *nodes) for phi in steps])


def test_steps_without_backtracking_are_caught():
    caught = 0
    for seed in range(10):
        case = make_case(seed, GAUSSIAN, DIAGONAL, n_latent=2, hidden=(3,), size=3.0)
        eta, weights = noise.gauss_hermite(2, 7)
        phi, path = case.phi, []
        for _ in range(4):
            Q, cache = bound.forward(case.model, case.theta, phi, case.x, eta, weights=weights)
            dphi, _ = bound.backward(case.model, case.theta, cache, np.ones_like(Q), need_dtheta=False)
            path.append(Q)
            phi = phi - np.clip(case.model.posterior.natural_scale(phi) * dphi, -2, 2)
        try:
            assert_never_rises(path)
        except AssertionError:
            caught += 1
    assert caught >= 5


def test_the_best_point_of_many_is_where_the_joint_is_largest():
    case = make_case(4, BERNOULLI, DIAGONAL, n_latent=2, hidden=(3,), n_cases=7)
    z = np.random.default_rng(1).standard_normal((40, 2))
    log_joint = np.stack([
        stats.bernoulli.logpmf(case.x, special.expit(f)).sum(axis=1) + stats.norm.logpdf(point).sum()
        for point, f in zip(z, decoder_by_hand(case.model, case.theta, z))
    ])
    expected = z[np.argmax(log_joint, axis=0)]
    np.testing.assert_array_equal(infer.best_point(case.model, case.theta, case.x, z), expected)
    phi = infer.search(case.model, case.theta, case.x, z)
    np.testing.assert_array_equal(phi[:, :2], expected)
    np.testing.assert_allclose(np.exp(phi[:, 2:]), 1 / 20)


@pytest.mark.parametrize("family", [DIAGONAL, FULL])
def test_a_family_without_a_closed_form_finds_its_closest_member(family):
    """By steps, to a gradient of 1e-2."""
    q = family(2)

    class Plain:
        def __getattr__(self, name):
            if name == "closest":
                raise AttributeError(name)
            return getattr(q, name)

    rng = np.random.default_rng(3)
    mean, A = rng.standard_normal((5, 2)), rng.standard_normal((2, 2))
    precision = A @ A.T + np.eye(2)
    found = infer.closest(Plain(), mean, precision)
    np.testing.assert_allclose(found, q.closest(mean, precision), atol=0.02)


# ---- what an encoder can and cannot do --------------------------------------------------------------


def test_a_linear_encoder_closes_the_gap_of_the_linear_model():
    x = datasets.linear_gaussian(n_cases=200, n_visible=6, n_latent=2).x
    vae = VAE(2, hidden=(), optimizer="lbfgs", nodes="sigma").fit(x)
    g = vae.gaps(x)
    assert -1e-9 < g.amortisation.min() and g.amortisation.max() < 1e-6
    assert np.abs(g.approximation).max() < 1e-6                    # it also finds canonical loadings


@pytest.mark.parametrize("r", [1, 2, 3])
def test_an_encoder_of_low_rank_leaves_the_discarded_eigenvalues(r):
    """½ Σ_{j>r} λ_j of M^½ Cov(E[z|x]) M^½; θ is fixed, its loadings turned so that M is not diagonal."""
    K, x = 3, datasets.linear_gaussian(n_cases=150, n_visible=6, n_latent=3).x
    fa = FactorAnalysis(K).fit(x)
    R, _ = np.linalg.qr(np.random.default_rng(4).standard_normal((K, K)))
    W, b, psi = R @ fa.components_, fa.mean_, fa.noise_variance_
    likelihood = likelihoods.Gaussian(6)
    model = Model(layers.mlp(K, (), 6), likelihood, K)
    theta = {"decoder": [{"W": W, "b": b}], "likelihood": {"log_psi": np.log(psi)}}
    encoder = layers.Sequential((layers.Linear(6, r), layers.Linear(r, 2 * K)))
    eta, weights = noise.sigma_points(K)

    def objective(v, rows):
        phi, cache = encoder.forward(v, x[rows])
        Q, bound_cache = bound.forward(model, theta, phi, x[rows], eta, weights=weights)
        dphi, _ = bound.backward(model, theta, bound_cache, np.ones_like(Q) / len(Q), need_dtheta=False)
        return Q.mean(), encoder.backward(v, cache, dphi, need_dx=False)[1]

    v = encoder.init(np.random.default_rng(0), get_backend())
    run = fit.Run(v)
    fit.full_batch(objective, run, len(x), max_iter=5000, tol=1e-13)
    v = run.params
    phi, _ = encoder.forward(v, x)
    g = gaps.gaps(model, theta, phi, x, np.random.default_rng(0))

    means, covariance = dense_posterior(W, b, psi, x)
    M = np.linalg.inv(covariance)
    assert np.abs(M - np.diag(np.diag(M))).max() > 0.1
    values, V = np.linalg.eigh(M)
    root = V * np.sqrt(values) @ V.T
    discarded = np.linalg.eigvalsh(root @ np.cov(means.T, bias=True) @ root)[::-1][r:]
    assert g.amortisation.mean() == pytest.approx(0.5 * discarded.sum(), abs=1e-5)
    if r < K:
        assert discarded.sum() > 0.1
    else:
        assert g.amortisation.max() < 1e-6
    np.testing.assert_allclose(phi[:, K:], np.tile(-0.5 * np.log(np.diag(M)), (len(x), 1)), atol=1e-3)


# ---- collapse, where the truth is known -------------------------------------------------------------

def test_a_unit_is_active_by_the_variance_of_its_codes():
    """Of standard deviations 0.05 and 0.2 the variances are 0.0025 and 0.04; the line is drawn at 0.01."""
    class Codes(conventions.Transformer):
        def transform(self, X):
            return X

    codes = np.array([[-0.05, -0.2], [0.05, 0.2]])
    assert Codes().active_units(codes).tolist() == [False, True]
    assert Codes().active_units(codes, threshold=0.002).tolist() == [True, True]


EIGENVALUES = np.array([5.0, 3.0, 1.5, 0.6, 0.2])


@pytest.fixture(scope="module")
def known():
    """Data whose sample covariance has exactly these eigenvalues, and no axis of its own."""
    rng = np.random.default_rng(6)
    x = rng.standard_normal((120, 5))
    x -= x.mean(axis=0)
    x = x @ np.linalg.inv(np.linalg.cholesky(x.T @ x / len(x))).T
    V, _ = np.linalg.qr(rng.standard_normal((5, 5)))
    return x * np.sqrt(EIGENVALUES) @ V.T + rng.standard_normal(5)


@pytest.mark.parametrize("route", ["VAE", "variational EM"])
@pytest.mark.parametrize("sigma2, n_components", [(0.4, 2), (0.4, 5), (1.0, 4), (2.0, 3), (4.0, 3), (6.0, 2)])
def test_as_many_units_stay_as_there_are_eigenvalues_above_the_noise(known, route, sigma2, n_components):
    """The optimum is that of probabilistic PCA: W Wᵀ has eigenvalues λ − σ², and 0 where that is below 0."""
    if route == "VAE":
        model = VAE(n_components, hidden=(), noise=sigma2, optimizer="lbfgs", nodes="sigma")
    else:
        model = VariationalEM(n_components, hidden=(), noise=sigma2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)    # where the optimum is flat
        model.fit(known)
    expected = min(n_components, int(np.sum(EIGENVALUES > sigma2)))
    active = model.active_units(known)
    assert active.shape == (n_components,) and active.dtype == bool
    assert active.sum() == expected
    W = model.theta_["decoder"][0]["W"]
    squares = np.sort(np.linalg.eigvalsh(W @ W.T))[::-1]
    np.testing.assert_allclose(
        squares, np.maximum(EIGENVALUES[:n_components] - sigma2, 0), rtol=0, atol=1e-3
    )
    # Of an active unit the means vary by 1 − σ²/λ.
    variances = np.sort(model.transform(known).var(axis=0))[::-1][:expected]
    np.testing.assert_allclose(variances, 1 - sigma2 / EIGENVALUES[:expected], rtol=0, atol=1e-3)


def test_active_units_of_every_estimator(data):
    routes = [
        FactorAnalysis(2), VariationalEM(2, hidden=(3,), epochs=2), VAE(2, hidden=(3,), epochs=2),
        Autoencoder(2, hidden=(3,), epochs=2), GaussianMixture(2),
    ]
    for estimator in routes:
        active = estimator.fit(data).active_units(data)
        assert active.shape == (2,) and active.dtype == bool
        assert not estimator.active_units(data, threshold=1e9).any()
        np.testing.assert_array_equal(active, estimator.transform(data).var(axis=0) > 0.01)


# ---- every backend ----------------------------------------------------------------------------------


class Written:
    """What NumPy says in float64 of a model whose numbers are those of a dtype, all of it once."""

    def __init__(self, family, name, n_latent, hidden, dtype):
        case = make_case(2, name, FAMILIES[family], n_latent=n_latent, hidden=hidden, n_cases=3)
        theta = tree.map(lambda a: a.astype(dtype).astype(float), case.theta)
        given = (case.model, theta, *(a.astype(dtype).astype(float) for a in (case.phi, case.x)))
        self.gaps = gaps.gaps(*given, np.random.default_rng(0))
        self.quadrature = expectations.quadrature(*given) if n_latent <= 2 else ()
        self.kl = divergence.kl_to_posterior(*given)


written_by_numpy = functools.cache(Written)


@pytest.mark.parametrize("name, n_latent, hidden", [
    (GAUSSIAN, 2, ()), (GAUSSIAN, 1, (3,)), (BERNOULLI, 2, (3,)),
    pytest.param(GAUSSIAN, 3, (3,), marks=pytest.mark.thorough),
])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_backend(backend, family, name, n_latent, hidden):
    case = make_case(2, name, FAMILIES[family], n_latent=n_latent, hidden=hidden, n_cases=3)
    theta, phi, x = tree.map(backend.asarray, case.theta), backend.asarray(case.phi), backend.asarray(case.x)
    written = written_by_numpy(family, name, n_latent, hidden, backend.dtype)
    ours = gaps.gaps(case.model, theta, phi, x, np.random.default_rng(0))
    for field in set(ours._fields) - {"method"}:
        value = getattr(ours, field)
        assert isinstance(value, type(phi)) and "float64" in str(value.dtype)
        np.testing.assert_allclose(to_numpy(value), getattr(written.gaps, field), rtol=0, atol=1e-8)
    loose = 1e-3 if backend.dtype == "float32" else 1e-9
    if n_latent <= 2:
        for mine, theirs in zip(expectations.quadrature(case.model, theta, phi, x), written.quadrature):
            assert isinstance(mine, type(phi)) and mine.dtype == phi.dtype
            np.testing.assert_allclose(to_numpy(mine), theirs, rtol=0, atol=loose)
    kl = divergence.kl_to_posterior(case.model, theta, phi, x)
    assert isinstance(kl, type(phi))
    np.testing.assert_allclose(to_numpy(kl), written.kl, rtol=0, atol=loose)


@pytest.mark.parametrize("n_latent", [1, 2, 3, 4])
def test_from_diagonal_is_the_same_q(backend, n_latent):
    rng = np.random.default_rng(n_latent)
    host = random_phi(rng, DIAGONAL(n_latent), 4)
    phi = FULL(n_latent).from_diagonal(backend.asarray(host))
    assert isinstance(phi, type(backend.asarray(host))) and phi.dtype == backend.asarray(host).dtype
    assert phi.shape == (4, FULL(n_latent).n_phi)
    for row, diagonal in zip(to_numpy(phi), host):
        m, C = moments_by_hand(FULL(n_latent), row.astype(float))
        np.testing.assert_allclose(m, diagonal[:n_latent], rtol=1e-6)
        np.testing.assert_allclose(C, np.diag(np.exp(2 * diagonal[n_latent:])), rtol=1e-5, atol=1e-12)


# ---- published and likely faults --------------------------------------------------------------------


@pytest.mark.parametrize("family", [VarianceForDeviation, NarrowNoise])
@pytest.mark.parametrize("name", [GAUSSIAN, BERNOULLI])
def test_a_wrong_sample_shows_as_a_negative_share(name, family):
    case = make_case(17, name, DIAGONAL, n_latent=2, hidden=(3,), size=1.2)
    assert_ledger(ledger(case))
    case.model = Model(case.model.decoder, case.model.likelihood, 2, family(2))
    with pytest.raises(AssertionError, match="not_gaussian|diagonal"):
        assert_ledger(ledger(case))


def test_wrong_signs_clipping_and_wrong_nodes_are_caught(monkeypatch):
    case = make_case(18, GAUSSIAN, DIAGONAL, n_latent=1, hidden=(3,), size=1.5)
    g = ledger(case)
    with monkeypatch.context() as patch:
        patch.setattr(gaps.Gaps, "amortisation", property(lambda g: g.q_optimal - g.q_used))
        with pytest.raises(AssertionError):
            assert_ledger(g)
    below = g._replace(q_full=g.nlml - 1e-3)                       # a fault in q_full …
    with pytest.raises(AssertionError, match="not_gaussian"):
        assert_ledger(below)
    with monkeypatch.context() as patch:                           # … that clipping would hide
        patch.setattr(gaps.Gaps, "not_gaussian", property(lambda g: np.maximum(g.q_full - g.nlml, 0)))
        with pytest.raises(AssertionError):
            assert_ledger(below)
    few = noise.gauss_hermite(1, 2)
    with monkeypatch.context() as patch:
        patch.setattr(
            gaps, "quadrature",
            lambda *given: (expectations.bound_on_nodes(*given, *few), 0 * given[-1][:, 0]),
        )
        with pytest.raises(AssertionError):
            assert_agrees_with_lattice(case, ledger(case))
    assert_agrees_with_lattice(case, g)


def test_the_kl_road_finds_posteriors_that_are_narrow_beside_its_first_look():
    """Counts in the ten thousands: standard deviations near 0.002, the first lattice's mesh is 0.08."""
    rng = np.random.default_rng(0)
    model = Model(layers.mlp(2, (), 6), likelihoods.Poisson(6), 2)
    theta = {"decoder": [{"W": 2 * rng.standard_normal((2, 6)), "b": np.full(6, 10.0)}], "likelihood": {}}
    z = np.array([[0.313, -0.227]])
    f, _ = model.decoder.forward(theta["decoder"], z)
    x = rng.poisson(np.exp(f)).astype(float)

    def log_joint(z):                                              # (G,)
        f, _ = model.decoder.forward(theta["decoder"], z)
        return stats.poisson.logpmf(x, np.exp(f)).sum(axis=1) + stats.norm.logpdf(z).sum(axis=1)

    h = 1e-4                                                       # a fortieth of a standard deviation
    side = h * np.arange(-300, 301)
    square = np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2)
    near = z + square
    L = log_joint(near)
    log_px = special.logsumexp(L) + 2 * np.log(h)
    p = np.exp(L - log_px) * h * h
    mean = p @ near
    s = np.sqrt(p @ (near - mean) ** 2)
    assert (s < 0.005).all() and p.sum() == pytest.approx(1)
    phi = np.concatenate([mean, np.log(s)])[None, :]
    log_q = stats.norm.logpdf(near, mean, s).sum(axis=1)
    kl = np.sum(np.exp(log_q) * (log_q - L + log_px)) * h * h
    assert divergence.kl_to_posterior(model, theta, phi, x)[0] == pytest.approx(kl, abs=1e-8)


COUNTS = Model(layers.mlp(1, (), 1), likelihoods.Poisson(1), 1), {
    "decoder": [{"W": np.ones((1, 1)), "b": np.zeros(1)}], "likelihood": {}
}


@pytest.mark.parametrize("x", [2.0, 4000.0, 5000.0, 9000.0, 1e5])
def test_the_kl_road_follows_counts_beyond_its_look(x):
    """The posterior of the rate's logarithm, around log x, and q a little beside it and wider."""
    m, log_s = np.log(x) + 0.2 / np.sqrt(x), np.log(1.2 / np.sqrt(x))
    z, h = np.linspace(m - 16 * np.exp(log_s), m + 16 * np.exp(log_s), 40_001, retstep=True)
    L = stats.poisson.logpmf(x, np.exp(z)) + stats.norm.logpdf(z)
    log_q = stats.norm.logpdf(z, m, np.exp(log_s))
    kl = h * np.sum(np.exp(log_q) * (log_q - L + special.logsumexp(L) + np.log(h)))
    ours = divergence.kl_to_posterior(*COUNTS, np.array([[m, log_s]]), np.array([[x]]))
    assert ours[0] == pytest.approx(kl, abs=1e-7)


def test_both_roads_agree_at_the_edge_of_the_first_box():
    """q at 8.5154, half a standard deviation from the edge ±8 of a lattice that once ended there."""
    phi, x = np.array([[8.5154, np.log(0.0142)]]), np.array([[5000.0]])
    g = gaps.gaps(*COUNTS, phi, x, np.random.default_rng(0))
    assert g.q_used[0] - g.nlml[0] == pytest.approx(2.8e-5, abs=1e-6)
    assert divergence.kl_to_posterior(*COUNTS, phi, x)[0] == pytest.approx(g.q_used[0] - g.nlml[0], abs=1e-7)


def test_the_kl_road_looks_beyond_the_box_of_a_wide_q():
    """E_q[exp z] = exp(m + s²/2) has its mass s standard deviations of q out, and tails around there."""
    m, s, x = 0.3, 2.8, 2.0
    z, h = np.linspace(-10, 10, 20_001, retstep=True)
    log_joint = stats.poisson.logpmf(x, np.exp(z)) + stats.norm.logpdf(z)
    nlml = -special.logsumexp(log_joint) - np.log(h)
    cost = np.exp(m + s**2 / 2) - x * m + special.gammaln(x + 1)
    kl = 0.5 * (m**2 + s**2 - 1) - np.log(s) + cost - nlml
    ours = divergence.kl_to_posterior(*COUNTS, np.array([[m, np.log(s)]]), np.array([[x]]))
    assert ours[0] == pytest.approx(kl, abs=1e-6)


def test_the_kl_road_says_where_it_cannot(monkeypatch):
    """All z on a circle explain x alike, and it is a ten-millionth thin."""
    class Circle:
        n_in, n_out = 2, 1

        def forward(self, params, z):
            return np.sum(z * z, axis=1)[:, None], None

    model = Model(Circle(), likelihoods.Gaussian(1, 1e-12), 2)
    monkeypatch.setattr(gaps.grid, "MOST_NODES", 50_000)
    with pytest.warns(gaps.grid.GridWarning, match="1 of 1 data cases"):
        kl = divergence.kl_to_posterior(
            model, {"decoder": [], "likelihood": {}}, np.array([[2.0, 0.0, -3.0, -3.0]]), np.array([[4.0]])
        )
    assert np.isnan(kl).all()
