"""Tests of gradient_estimators.py: what each estimator is in expectation, by quadrature and by samples,
how it spreads, and what becomes of it at the exact posterior and on minibatches."""

from itertools import combinations

from cases import GAUSSIANS
import numpy as np
import pytest
from scipy import stats

from teachvae import (
    bound, gradient_estimators as ge, infer, layers, likelihoods, linear_gaussian, noise, tree
)
from teachvae.arrays.backend import get_backend, namespace, to_numpy
from teachvae.arrays.rows import take_rows
from teachvae.model import Model
from teachvae.posteriors import DiagonalGaussian, FullGaussian
from teachvae.routes.vae import amortised, recognition_network

N, D, K, S = 6, 3, 2, 4000
NUMPY = get_backend()
CASES = [(family, likelihood) for family in GAUSSIANS for likelihood in ("gaussian", "bernoulli")]


def problem(family="diagonal", likelihood="gaussian", *, hidden=(5,), n_latent=K, seed=0):
    """model, theta, phi, x: a random point, away from any optimum."""
    rng = np.random.default_rng(seed)
    p = {"gaussian": likelihoods.Gaussian, "bernoulli": likelihoods.Bernoulli}[likelihood](D)
    model = Model(layers.mlp(n_latent, hidden, D), p, n_latent, GAUSSIANS[family](n_latent))
    theta = tree.map(lambda leaf: leaf + rng.uniform(-0.4, 0.1, leaf.shape), model.init(rng, NUMPY))
    x = rng.standard_normal((N, D))
    x = (x > 0).astype(float) if likelihood == "bernoulli" else x
    phi = model.posterior.closest(0.7 * rng.standard_normal((N, n_latent)), 4 * np.eye(n_latent))
    return model, theta, phi + 0.2 * rng.standard_normal(phi.shape), x


def at_exact_posterior(family, seed=0):
    """A linear-Gaussian model whose posterior is in the family, at its closed form."""
    rng = np.random.default_rng(seed)
    psi = rng.uniform(0.3, 1.0, D)
    W = linear_gaussian.canonical(rng.standard_normal((K, D)), psi)  # W Ψ⁻¹ Wᵀ diagonal
    model = Model(layers.Linear(K, D), likelihoods.Gaussian(D), K, family)
    theta = {"decoder": {"W": W, "b": rng.standard_normal(D)}, "likelihood": {"log_psi": np.log(psi)}}
    x = rng.standard_normal((N, D))
    return model, theta, infer.closed_form(model, theta, x), x


def draws(n_samples, n_latent=K, seed=1):
    return noise.monte_carlo(np.random.default_rng(seed), n_samples, N, n_latent)


def in_standard_errors(g, truth):
    """The largest distance of an entry's mean over axis 0 from the truth, in its standard errors."""
    return np.max(np.abs(g.mean(axis=0) - truth) / (g.std(axis=0, ddof=1) / np.sqrt(len(g))))


# ---- the exact gradient


def test_exact_gradient_by_a_second_road():
    """K = 1: Q_n by the trapezoidal rule on a grid of z, differentiated numerically."""
    model, theta, phi, x = problem(n_latent=1)
    first, _, last = theta["decoder"]
    z = np.linspace(-12, 12, 20001)
    f = np.tanh(z[:, None] @ first["W"] + first["b"]) @ last["W"] + last["b"]
    sd = np.exp(0.5 * theta["likelihood"]["log_psi"])

    def Q(row, n):
        log_q = stats.norm.logpdf(z, row[0], np.exp(row[1]))
        log_p = stats.norm.logpdf(x[n], f, sd).sum(axis=1) + stats.norm.logpdf(z)
        return np.sum(np.exp(log_q) * (log_q - log_p)) * (z[1] - z[0])

    h = 1e-5 * np.eye(2)
    numeric = [[(Q(row + e, n) - Q(row - e, n)) / 2e-5 for e in h] for n, row in enumerate(phi)]
    np.testing.assert_allclose(ge.exact(model, theta, phi, x), numeric, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("family", GAUSSIANS)
def test_exact_gradient_of_a_linear_model_needs_2K_nodes(family):
    model, theta, phi, x = problem(family, hidden=(), n_latent=3)
    eta, _ = ge.nodes(model)
    assert eta.shape == (6, 1, 3)
    given = linear_gaussian.parameters(model, theta)

    def Q(phi):
        return linear_gaussian.bound(*given, phi, model.posterior, x)

    numeric = np.stack([(Q(phi + e) - Q(phi - e)) / 2e-5 for e in 1e-5 * np.eye(phi.shape[1])], axis=1)
    np.testing.assert_allclose(ge.exact(model, theta, phi, x), numeric, rtol=1e-7, atol=1e-8)


# ---- in expectation, by quadrature: no luck involved


@pytest.mark.parametrize("family, likelihood", CASES)
def test_naive_is_zero_in_expectation_and_the_others_are_right(family, likelihood):
    given = problem(family, likelihood)
    truth = ge.exact(*given, order=40)
    assert np.abs(truth).max() > 0.5
    eta, weights = ge.nodes(given[0], 40)

    def expectation(estimator, **options):
        return np.tensordot(weights, estimator(*given, eta, **options), axes=1)

    np.testing.assert_allclose(expectation(ge.naive), 0, atol=1e-11)
    for right in (
        expectation(ge.score_function),
        expectation(ge.reparameterised),
        expectation(ge.reparameterised, kl="sampled"),
        expectation(ge.without_score_term),
    ):
        np.testing.assert_allclose(right, truth, atol=1e-7)

    # The naive gradient with the analytic KL lacks all that log p(x|z) has to say.
    model, theta, phi, x = given
    _, cache = model.posterior.kl(phi)
    prior_pull = model.posterior.kl_backward(cache, np.ones(N))
    np.testing.assert_allclose(expectation(ge.naive, kl="analytic"), prior_pull, rtol=1e-12)
    assert np.linalg.norm(prior_pull - truth) > 0.25 * np.linalg.norm(truth)


@pytest.mark.parametrize("kl", ["sampled", "analytic"])
def test_naive_does_not_ask_for_the_data(kl):
    model, theta, phi, x = problem()
    eta = draws(3)
    other = tree.map(lambda leaf: 3 * leaf - 1, theta)
    np.testing.assert_array_equal(
        ge.naive(model, theta, phi, x, eta, kl=kl), ge.naive(model, other, phi, 100 - 7 * x, eta, kl=kl)
    )


# ---- one sample at a time


@pytest.mark.parametrize("family, likelihood", CASES)
@pytest.mark.parametrize("kl", ["sampled", "analytic"])
@pytest.mark.parametrize("shared", [False, True])
def test_reparameterised_is_what_the_bound_gives(family, likelihood, kl, shared):
    model, theta, phi, x = problem(family, likelihood)
    eta = draws(7)[:, :1] if shared else draws(7)
    Q, cache = bound.forward(model, theta, phi, x, eta, kl=kl)
    dphi, _ = bound.backward(model, theta, cache, np.ones(N))
    g = ge.reparameterised(model, theta, phi, x, eta, kl=kl)
    assert g.shape == (7, N, phi.shape[1])
    np.testing.assert_allclose(g.mean(axis=0), dphi, rtol=1e-12, atol=1e-12)


def test_each_sample_by_hand():
    """All of them for a diagonal q and a linear decoder, written out sample by sample."""
    model, theta, phi, x = problem(hidden=())
    W, b, psi = linear_gaussian.parameters(model, theta)
    eta = draws(5)
    named = {
        "naive": ge.naive(model, theta, phi, x, eta),
        "score": ge.score_function(model, theta, phi, x, eta),
        "baseline": ge.score_function(model, theta, phi, x, eta, baseline="leave-one-out"),
        "full": ge.reparameterised(model, theta, phi, x, eta, kl="sampled"),
        "dropped": ge.without_score_term(model, theta, phi, x, eta),
    }
    for n in range(N):
        m, s = phi[n, :K], np.exp(phi[n, K:])
        z = m + s * eta[:, n]
        r = (x[n] - b - z @ W) / psi
        c = (
            stats.norm.logpdf(z, m, s).sum(axis=1) - stats.norm.logpdf(z).sum(axis=1)
            - stats.norm.logpdf(x[n], z @ W + b, np.sqrt(psi)).sum(axis=1)
        )
        for i in range(5):
            score = np.concatenate([eta[i, n] / s, eta[i, n] ** 2 - 1])
            dz = -eta[i, n] / s + z[i] - r[i] @ W.T                # ∂c/∂z
            path = np.concatenate([dz, dz * s * eta[i, n]])
            others = np.mean([c[j] for j in range(5) if j != i])
            expected = {"naive": score, "score": c[i] * score, "baseline": (c[i] - others) * score,
                        "full": score + path, "dropped": path}
            for name, value in expected.items():
                np.testing.assert_allclose(named[name][i, n], value, rtol=1e-10, atol=1e-10, err_msg=name)


# ---- from samples


@pytest.mark.parametrize("family, likelihood", CASES)
def test_bias_and_variance_from_samples(family, likelihood):
    table = ge.compare(*problem(family, likelihood), draws(S), order=40)
    assert table.exact_error < 1e-6
    assert table["naive"].worst > 10 and 0.9 < table["naive"].error < 1.1
    assert table["naive, analytic KL"].worst == np.inf and table["naive, analytic KL"].variance == 0
    right = [row for row in table.rows if not row.estimator.startswith("naive")]
    assert len(right) == 5
    for row in right:
        assert 0.5 < row.worst < 4 and row.error < 0.3, row
    variance = {row.estimator: row.variance for row in table.rows}
    assert variance["score function"] > 10 * variance["reparameterised"]
    assert variance["score function, baseline"] < 0.5 * variance["score function"]
    assert variance["score function, baseline"] > 2 * variance["reparameterised"]
    assert variance["reparameterised, analytic KL"] < variance["reparameterised"]


def test_the_table_says_what_the_samples_say():
    model, theta, phi, x = problem()
    eta = draws(50)
    table = ge.compare(model, theta, phi, x, eta)
    g = ge.score_function(model, theta, phi, x, eta)
    row = table["score function"]
    np.testing.assert_allclose(row.mean, g.mean(axis=0))
    np.testing.assert_allclose(row.standard_error, g.std(axis=0, ddof=1) / np.sqrt(50))
    np.testing.assert_allclose(row.worst, in_standard_errors(g, table.exact))
    np.testing.assert_allclose(row.variance, g.var(axis=0, ddof=1).sum(axis=1).mean())
    np.testing.assert_allclose(
        row.error, np.linalg.norm(g.mean(axis=0) - table.exact) / np.linalg.norm(table.exact)
    )
    text = str(table).splitlines()
    assert "N = 6 data cases, 4 numbers each, from S = 50 samples" in text[0]
    assert [line.split("  ")[0] for line in text[2:-2]] == [row.estimator for row in table.rows]
    assert len({len(line) for line in text[1:-1]}) == 1            # right-aligned columns end together
    assert f"{row.variance:.3g}" in text[4] and "1 × 50" in text[4] and "2 × 6400" in text[-2]
    assert text[-1].startswith("exact to ")
    with pytest.raises(KeyError, match="no estimator 'reinforce'; there are .*'score function'"):
        table["reinforce"]


def test_the_baseline_ties_the_samples_of_a_case_together():
    """With S = 2 the mean's variance is the spread/S and ‖∂Q/∂φ‖²/(S − 1)² on top."""
    given, R = problem(), 20000
    model, theta, phi, x = (*given[:2], given[2][:1], given[3][:1])
    rows = np.zeros(R, dtype=int)                                  # one data case, R times
    eta = np.random.default_rng(6).standard_normal((2, R, K))
    g = ge.score_function(model, theta, phi[rows], x[rows], eta, baseline="leave-one-out")
    extra = np.sum(ge.exact(model, theta, phi, x) ** 2)
    spread = g.var(axis=0, ddof=1).mean(axis=0).sum()
    whole = g.mean(axis=0).var(axis=0).sum()
    assert abs(whole / (spread / 2 + extra) - 1) < 0.05 < abs(whole / (spread / 2) - 1)


def test_the_naive_error_does_not_average_out():
    """A bias in standard errors grows as √S; noise does not."""
    given, eta = problem(), draws(16 * 250)
    few, many = ge.compare(*given, eta[:250], order=30), ge.compare(*given, eta, order=30)
    assert 3 < many["naive"].worst / few["naive"].worst < 5
    assert many["reparameterised"].worst < 2 * few["reparameterised"].worst


@pytest.mark.parametrize("kl", ["sampled", "analytic"])
def test_variance_of_Q_falls_as_one_over_S(kl):
    model, theta, phi, x = problem()
    R, sizes = 2000, 2 ** np.arange(7)
    rng = np.random.default_rng(2)
    rows = np.tile(np.arange(2), R)                                # two data cases, R times each
    variance = []
    for size in sizes:
        eta = rng.standard_normal((size, len(rows), K))
        Q, _ = bound.forward(model, theta, phi[rows], x[rows], eta, kl=kl)
        variance.append(Q.reshape(R, 2).var(axis=0).mean())
    slope = np.polyfit(np.log(sizes), np.log(variance), 1)[0]
    assert abs(slope + 1) < 0.1, slope


# ---- at the exact posterior


@pytest.mark.parametrize("family", [DiagonalGaussian(K), FullGaussian(K)])
def test_at_the_exact_posterior_only_the_score_term_is_left(family):
    model, theta, phi, x = at_exact_posterior(family)
    eta = draws(500)
    one = [bound.forward(model, theta, phi, x, eta[i : i + 1], kl="sampled")[0] for i in range(500)]
    assert np.var(one, axis=0).max() < 1e-12                       # the value: no variance,
    np.testing.assert_allclose(one[0], linear_gaussian.nlml(*linear_gaussian.parameters(model, theta), x))
    analytic = [bound.forward(model, theta, phi, x, eta[i : i + 1])[0] for i in range(500)]
    assert np.var(analytic, axis=0).min() > 0.1                    # which (1.8) does not offer;

    full = ge.reparameterised(model, theta, phi, x, eta, kl="sampled")
    assert full.var(axis=0).min() > 0.1                            # the gradient: variance,
    np.testing.assert_allclose(full, ge.naive(model, theta, phi, x, eta), atol=1e-10)
    assert np.abs(ge.without_score_term(model, theta, phi, x, eta)).max() < 1e-10  # gone with the term
    baseline = ge.score_function(model, theta, phi, x, eta, baseline="leave-one-out")
    assert np.abs(baseline).max() < 1e-10

    table = ge.compare(model, theta, phi, x, eta)
    assert table["without score term"].variance < 1e-20 and table["without score term"].worst == 0
    assert table["reparameterised"].variance > 1 and table["reparameterised"].error is None
    assert " – " in str(table)


def test_elsewhere_the_score_term_can_only_be_dropped_because_it_averages_out():
    """Away from the posterior the variance stays, and is no longer zero."""
    model, theta, phi, x = at_exact_posterior(FullGaussian(K))
    table = ge.compare(model, theta, phi + 0.3, x, draws(S))
    assert table["without score term"].variance > 0.01
    assert table["without score term"].worst < 4 < 10 < table["naive"].worst


# ---- minibatches


def full_gradient(model, theta, phi, x, order=40):
    """∂(Σ_n Q_n)/∂(φ, θ) of the full batch by quadrature, one vector."""
    eta, weights = noise.gauss_hermite(model.n_latent, order)
    Q, cache = bound.forward(model, theta, phi, x, eta, weights=weights)
    return together(*bound.backward(model, theta, cache, np.ones(N)))


def together(dphi, dtheta):
    return np.concatenate([dphi.ravel(), tree.flatten(dtheta)])


@pytest.mark.parametrize("M", [1, 2, 5, 6])
def test_the_average_over_all_minibatches_is_the_full_gradient(M):
    given = problem()
    eta, weights = noise.gauss_hermite(K, 40)
    every = list(combinations(range(N), M))
    truth = full_gradient(*given)
    g = [together(*ge.minibatch(*given, eta, rows, weights=weights)) for rows in every]
    np.testing.assert_allclose(np.mean(g, axis=0), truth, rtol=1e-10, atol=1e-10)
    short = [together(*ge.minibatch(*given, eta, rows, weights=weights, scale=1)) for rows in every]
    np.testing.assert_allclose(np.mean(short, axis=0), truth * M / N, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kl", ["sampled", "analytic"])
@pytest.mark.parametrize("n_samples", [1, 3])
def test_random_minibatches_of_random_samples_are_unbiased(kl, n_samples):
    given, rng = problem(), np.random.default_rng(3)
    truth = full_gradient(*given)
    right, forgotten = [], []
    for _ in range(600):
        rows, eta = rng.permutation(N)[:2], rng.standard_normal((n_samples, N, K))
        right.append(together(*ge.minibatch(*given, eta, rows, kl=kl)))
        forgotten.append(together(*ge.minibatch(*given, eta, rows, kl=kl, scale=1)))
    assert in_standard_errors(np.array(right), truth) < 4
    assert in_standard_errors(np.array(forgotten), truth) > 10     # without N/M


def test_a_minibatch_holds_its_own_cases_only():
    model, theta, phi, x = problem()
    eta, rows = draws(3), [4, 0]
    dphi, dtheta = ge.minibatch(model, theta, phi, x, eta, rows)
    assert np.all(dphi[[1, 2, 3, 5]] == 0) and np.all(dphi[rows] != 0)
    Q, cache = bound.forward(model, theta, phi[rows], x[rows], eta[:, rows])
    dphi_rows, dtheta_rows = bound.backward(model, theta, cache, np.full(2, N / 2))
    np.testing.assert_allclose(dphi[rows], dphi_rows, rtol=1e-12)
    np.testing.assert_allclose(tree.flatten(dtheta), tree.flatten(dtheta_rows), rtol=1e-11, atol=1e-12)


def test_the_training_objective_has_its_scale_right():
    """`amortised` takes the mean over a minibatch: N times it, averaged over all minibatches, is the sum."""
    model, theta, _, x = problem()
    network = recognition_network(D, (4,), model.posterior)
    params = {"theta": theta, "recognition": network.init(np.random.default_rng(5), NUMPY)}
    eta, weights = noise.gauss_hermite(K, 20)
    g = []
    for rows in combinations(range(N), 2):
        _, grads = amortised(model, network, params, take_rows(x, np.array(rows)), eta, weights=weights)
        g.append(N * tree.flatten(grads))
    phi, cache = network.forward(params["recognition"], x)
    Q, bound_cache = bound.forward(model, theta, phi, x, eta, weights=weights)
    dphi, dtheta = bound.backward(model, theta, bound_cache, np.ones(N))
    dv = network.backward(params["recognition"], cache, dphi)[1]
    truth = tree.flatten({"theta": dtheta, "recognition": dv})
    np.testing.assert_allclose(np.mean(g, axis=0), truth, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
def test_parts_of_a_minibatch_add_up_to_its_mean(kl):
    model, theta, _, x = problem()
    network = recognition_network(D, (4,), model.posterior)
    params = {"theta": theta, "recognition": network.init(np.random.default_rng(5), NUMPY)}
    eta = np.random.default_rng(6).standard_normal((3, N, K))

    def of(rows):
        Q, grads = amortised(model, network, params, x[rows], eta[:, rows], kl=kl, n_cases=N)
        return np.concatenate([[Q], tree.flatten(grads)])

    parts, whole = of(slice(0, 1)) + of(slice(1, N)), of(slice(0, N))
    np.testing.assert_allclose(parts, whole, rtol=1e-12, atol=1e-12)
    Q, _ = amortised(model, network, params, x, eta, kl=kl)
    assert Q == pytest.approx(whole[0], rel=1e-14)


# ---- at the door, and on every backend


def test_what_is_refused():
    model, theta, phi, x = problem()
    given = model, theta, phi, x
    with pytest.raises(ValueError, match="needs S >= 2 samples, got 1"):
        ge.score_function(*given, draws(1), baseline="leave-one-out")
    with pytest.raises(ValueError, match="a comparison needs S >= 2 samples, got 1"):
        ge.compare(*given, draws(1))
    with pytest.raises(ValueError, match="baseline must be None or 'leave-one-out', got 'mean'"):
        ge.score_function(*given, draws(2), baseline="mean")
    with pytest.raises(ValueError, match="kl must be 'analytic' or 'sampled', got 'exact'"):
        ge.naive(*given, draws(2), kl="exact")
    with pytest.raises(ValueError, match=r"needs order\^K nodes, 80\^3 here; .* got K = 3"):
        ge.exact(*problem(n_latent=3))
    for rows in ([], [1, 1], [0, 6], [-1]):
        with pytest.raises(ValueError, match=r"rows must be different places in 0 … 5, at least one; got"):
            ge.minibatch(*given, draws(2), rows)


@pytest.mark.parametrize("family", GAUSSIANS)
def test_on_every_backend(backend, family):
    model, theta, phi, x = problem(family)
    given = model, tree.map(backend.asarray, theta), backend.asarray(phi), backend.asarray(x)
    eta = backend.asarray(draws(20))
    table, host = ge.compare(*given, eta, order=20), ge.compare(model, theta, phi, x, draws(20), order=20)
    dphi, dtheta = ge.minibatch(*given, eta, [0, 3])
    arrays = [table.exact, dphi, *(leaf for _, leaf in tree.leaves(dtheta))]
    arrays += [a for row in table.rows for a in (row.mean, row.standard_error)]
    assert all(namespace(a) is backend.xp and str(a.dtype).endswith(backend.dtype) for a in arrays)
    tolerance = 1e-9 if backend.dtype == "float64" else 2e-3
    for row, on_host in zip(table.rows, host.rows, strict=True):
        np.testing.assert_allclose(to_numpy(row.mean), on_host.mean, rtol=tolerance, atol=20 * tolerance)
        np.testing.assert_allclose(row.variance, on_host.variance, rtol=tolerance)
