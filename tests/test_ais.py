"""Tests of annealed importance sampling: its weights average to p(x) forwards and to 1/p(x) backwards, the
truth lies between, and the moves leave p_β as it is. The truth is a dense normal density where the decoder
is linear, the grid elsewhere. Every check is a function, and is run on likely faults too, which it must
catch."""

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest
from scipy import stats
from test_nlml import linear, network, truth_of

from teachvae import ais, grid, tree
from teachvae.arrays.backend import get_backend, namespace, to_numpy
from teachvae.likelihoods import Bernoulli, Categorical, Gaussian, Mixed, Poisson

HOST = get_backend()

# ---- models, data, and the truth by a second road -------------------------------------------------


MODELS = {
    "linear, K = 1": lambda: linear(1, psi=0.1),
    "linear, K = 3": lambda: linear(3),
    "tanh, K = 1, Gaussian": lambda: network(1, Gaussian(3), 3, size=2.0),
    "tanh, K = 2, Bernoulli": lambda: network(2, Bernoulli(5), 6, size=2.0),
}
# the weights of the way back have a long tail, so few of them tell only where the data say little
GENTLE = {
    "linear, K = 1": lambda: linear(1),
    "linear, K = 3": lambda: linear(3, psi=3.0),
    "tanh, K = 1, Gaussian": lambda: network(1, Gaussian(3), 3, size=1.0),
    "tanh, K = 1, Bernoulli": lambda: network(1, Bernoulli(5), 6, size=1.5),
}
EACH_MODEL = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS.keys())


def tempered(model, theta, x_row, beta):
    """Mean (K,) and covariance (K, K) of p_β(z) ∝ p(z) p(x|z)^β where the model is linear."""
    W, b = theta["decoder"][0]["W"], theta["decoder"][0]["b"]
    A = W / np.exp(theta["likelihood"]["log_psi"])
    C = np.linalg.inv(np.eye(len(W)) + beta * A @ W.T)
    return C @ (beta * A @ (x_row - b)), C


def log_w(make, n_chains, n_temperatures, seed=0):
    """log weights over log p(x_n), (S, N), of independent forward chains."""
    model, theta, x = make()
    chains, _ = ais._both(model, theta, x, None, np.random.default_rng(seed), n_chains, n_temperatures)
    return chains.log_weights + truth_of(model, theta, x)


# ---- the checks, as functions ---------------------------------------------------------------------


def assert_mean_one(ratio):
    """Independent positive numbers (R, …) average to 1, by their own spread."""
    error = ratio.std(axis=0, ddof=1) / np.sqrt(len(ratio))
    assert np.all(error < 0.25), "the spread is too large to tell"
    off = np.abs(ratio.mean(axis=0) - 1) / error
    assert np.all(off < 4), f"the mean is {np.max(off):.1f} standard errors off"


def assert_forward_unbiased(make):
    assert_mean_one(np.exp(log_w(make, 2000, 8)))


def sandwiches(make, n_runs, n_cases, n_chains):
    """The upper and the lower value less the truth, (R, N), of independent runs."""
    model, theta, _ = make()
    options = {"n_chains": n_chains, "n_temperatures": 8}
    runs = [
        ais.sandwich(model, theta, n_cases, np.random.default_rng(r), HOST, **options) for r in range(n_runs)
    ]
    truth = truth_of(model, theta, np.concatenate([run.x for run in runs])).reshape(n_runs, n_cases)
    return [np.array([getattr(run, side).values for run in runs]) - truth for side in ("upper", "lower")]


def assert_unbiased_both_ways(make):
    """p̂ over p, and p over the p̂ of the way back. The cases of a run share noise: runs are the units."""
    upper, lower = sandwiches(make, n_runs=36, n_cases=8, n_chains=12)
    assert_mean_one(np.exp(-upper).mean(axis=1))
    assert_mean_one(np.exp(lower).mean(axis=1))


def assert_invariant(beta, step, hmc=None):
    """Exact samples of p_β, moved three times, still have its mean and covariance."""
    model, theta, x = linear(2, psi=0.3)
    mean, C = tempered(model, theta, x[0], beta)
    rng, S = np.random.default_rng(0), 40_000
    z = mean + rng.standard_normal((S, 1, 2)) @ np.linalg.cholesky(C).T
    at, rates = model.log_likelihood_gradient(theta, x[:1], z), []
    for _ in range(3):
        noise = rng.standard_normal((S, 1, 2)), np.log(rng.random((S, 1)))
        z, at, rate = (hmc or ais._hmc)(model, theta, x[:1], z, at, beta, np.array([step]), *noise)
        rates.append(rate[0])
    u = np.linalg.solve(np.linalg.cholesky(C), (z[:, 0] - mean).T)  # (2, S), standard normal
    moments = np.concatenate([u, u**2 - 1, u[:1] * u[1:]])
    off = np.abs(moments.mean(axis=1)) / (moments.std(axis=1) / np.sqrt(S))
    assert np.all(off < 4.5), f"a moment of p_β is {off.max():.1f} standard errors off"
    return np.mean(rates)


# ---- unbiased, both ways, and so on both sides ----------------------------------------------------


@EACH_MODEL
def test_weights_average_to_p(make):
    assert_forward_unbiased(make)


@pytest.mark.parametrize("make", GENTLE.values(), ids=GENTLE.keys())
def test_weights_average_to_p_and_on_the_way_back_to_its_reciprocal(make):
    assert_unbiased_both_ways(make)


@EACH_MODEL
def test_the_truth_lies_between(make):
    """In the mean over runs of few chains, which are far from each other."""
    for sign, side in zip((1, -1), sandwiches(make, n_runs=45, n_cases=8, n_chains=2)):
        means = sign * side.mean(axis=1)
        assert means.mean() > 2 * means.std(ddof=1) / np.sqrt(len(means))


def test_the_interval_holds_the_truth_and_is_as_it_says():
    model, theta, _ = network(1, Gaussian(3), 3, size=2.0)
    s = ais.sandwich(model, theta, 40, np.random.default_rng(0), HOST, n_chains=96, n_temperatures=120)
    low, high = s.interval()
    np.testing.assert_array_equal(low, s.lower.values - 2 * s.lower.standard_error)
    np.testing.assert_array_equal(high, s.upper.values + 2 * s.upper.standard_error)
    truth = truth_of(model, theta, s.x)
    low, high = s.interval(width=3.0)
    assert np.mean((low <= truth) & (truth <= high)) >= 0.9
    assert np.mean(high - low) < 1


def test_what_is_simulated_is_from_the_model():
    model, theta, _ = linear(2)
    s = ais.sandwich(model, theta, 4000, np.random.default_rng(0), HOST, n_chains=2, n_temperatures=2)
    W, b = theta["decoder"][0]["W"], theta["decoder"][0]["b"]
    psi = np.exp(theta["likelihood"]["log_psi"])
    for u in (s.z, (s.x - s.z @ W - b) / np.sqrt(psi)):
        assert np.abs(u.mean(axis=0)).max() < 4.5 / np.sqrt(4000)
        assert np.abs(u.var(axis=0) - 1).max() < 4.5 * np.sqrt(2 / 4000)
    assert (s.upper.method, s.lower.method) == ("ais", "reverse ais")


@pytest.mark.parametrize("likelihood", [
    Gaussian(3), Poisson(3), Categorical((2, 3)), Mixed(((Gaussian(2), [0, 2]), (Bernoulli(1), [1]))),
], ids=lambda p: type(p).__name__)
def test_a_sandwich_simulates_from_every_likelihood(likelihood):
    """Whatever its noise is, one array or one for each part."""
    model, theta, _ = network(1, likelihood, size=1.0)
    s = ais.sandwich(model, theta, 4, np.random.default_rng(0), HOST, n_chains=20, n_temperatures=50)
    assert s.x.shape == (4, likelihood.n_visible)
    truth = grid.grid(model, theta, s.x).values
    for side in (s.upper, s.lower):
        assert np.abs(side.values - truth).max() < 4.5 * side.standard_error.max() + 0.02


@EACH_MODEL
def test_ais_meets_the_truth_within_its_stated_error(make):
    model, theta, x = make()
    truth = truth_of(model, theta, x)
    runs = [
        ais.ais(model, theta, x, np.random.default_rng(seed), n_chains=64, n_temperatures=40)
        for seed in range(6)
    ]
    u = np.array([(run.values - truth) / run.standard_error for run in runs])
    assert np.abs(u).max() < 4.5
    assert 0.6 < np.sqrt(np.mean(u * u)) < 1.45                    # 30 numbers, of which 5 share draws
    assert all(run.method == "ais" and run.certificate is None for run in runs)
    chains, _ = ais._both(model, theta, x, None, np.random.default_rng(0), 64, 40)
    w = np.exp(chains.log_weights)
    np.testing.assert_allclose(runs[0].values, -np.log(w.mean(axis=0)), rtol=1e-10)
    np.testing.assert_allclose(
        runs[0].effective_sample_size, w.sum(axis=0) ** 2 / (w**2).sum(axis=0), rtol=1e-10
    )


# ---- temperatures ---------------------------------------------------------------------------------


@given(st.integers(2, 1000))
def test_temperatures_run_from_0_to_1(T):
    beta = ais.temperatures(T)
    assert beta.shape == (T + 1,) and beta[0] == 0 and beta[T] == 1 and np.all(np.diff(beta) > 0)
    np.testing.assert_allclose(beta, [(t / T) ** 4 for t in range(T + 1)], rtol=1e-14)


def test_the_fourth_power_suits_a_precision_of_e_to_the_8():
    """Of the spread Σ (β_t − β_{t−1})² Var[log p(x|z)], with the variance of a quadratic under p_β."""
    def spread(a, lam, T=2000):
        beta = (np.arange(T + 1) / T) ** a
        variance = 0.5 * lam**2 / (1 + lam * beta[1:]) ** 2        # of −λ z²/2 under N(0, 1/(1 + βλ))
        return np.sum(np.diff(beta) ** 2 * variance)

    powers = np.arange(1.0, 9, 0.5)
    for lam, best in ((np.exp(6), 3), (np.exp(8), 4), (np.exp(10), 5)):
        assert abs(powers[np.argmin([spread(a, lam) for a in powers])] - best) <= 1
        assert spread(4, lam) < 1.3 * min(spread(a, lam) for a in powers)
    assert spread(1, np.exp(8)) > 15 * spread(4, np.exp(8))


def test_more_temperatures_make_the_error_smaller():
    """The variance of log w falls as 1/T once the chains keep up. It is above that of chains that forget
    at once: a path turns z by some angle, and of a quadratic the square of its cosine is kept, ½ on average.
    Sums with such a memory have (1 + ½) / (1 − ½) = 3 times the variance, and refusals add to it.
    """
    def make():
        return linear(2, psi=0.3)

    model, theta, x = make()
    W, psi = theta["decoder"][0]["W"], np.exp(theta["likelihood"]["log_psi"])
    M, spread, expected = W / psi @ W.T, [], []
    for T in (100, 400):
        spread.append(log_w(make, 80, T).var(axis=0))
        beta, total = ais.temperatures(T), np.zeros(len(x))
        for t in range(1, T + 1):
            for n, row in enumerate(x):
                mean, C = tempered(model, theta, row, beta[t])
                g = W / psi @ (row - theta["decoder"][0]["b"]) - M @ mean  # ∂ log p(x|z) / ∂z at the mean
                total[n] += (beta[t] - beta[t - 1]) ** 2 * (0.5 * np.trace(M @ C @ M @ C) + g @ C @ g)
        expected.append(total)
    ratio = np.mean(spread[0]) / np.mean(spread[1])
    assert 2.5 < ratio < 6
    excess = np.mean(spread, axis=1) / np.mean(expected, axis=1)
    assert np.all((1.5 < excess) & (excess < 5))


# ---- the chain: which weights, which moves, in which order ----------------------------------------


def recorded(monkeypatch, hmc):
    """`_hmc` replaced; the (β, step) of every call."""
    calls = []

    def wrapper(model, theta, x, z, at, beta, step, p, log_u):
        calls.append((beta, step, p, log_u))
        return hmc(model, theta, x, z, at, beta, step, p, log_u)

    monkeypatch.setattr(ais, "_hmc", wrapper)
    return calls


def test_chains_that_stand_still_have_the_whole_weight_of_their_start(monkeypatch):
    """Without moves the differences of β add up to 1: plain Monte Carlo, and its reciprocal."""
    model, theta, x = linear(2)
    z = np.random.default_rng(1).standard_normal((5, 2))
    calls = recorded(monkeypatch, lambda model, theta, x, z, at, *_: (z, at, np.ones(len(x))))
    forward, backward = ais._both(model, theta, x, z, np.random.default_rng(0), 3, 6)
    rng = np.random.default_rng(0)
    rng.standard_normal((3, 1, 2)), rng.standard_normal((5, 3, 1, 2)), rng.random((5, 3, 1))  # of the tuning
    start = rng.standard_normal((3, 1, 2)) + np.zeros((1, 5, 1))
    here = model.log_likelihood(theta, x, start)[0]
    np.testing.assert_allclose(forward.log_weights, here, rtol=1e-12)
    there = model.log_likelihood(theta, x, z[None])[0]
    np.testing.assert_allclose(backward.log_weights, -np.tile(there, (3, 1)), rtol=1e-12)
    betas = [beta for beta, *_ in calls]
    inner = list(ais.temperatures(6)[1:-1])                        # no move where nothing comes after it
    assert betas == inner + inner + inner[::-1]


def test_weights_by_hand_along_a_recorded_path(monkeypatch):
    model, theta, x = linear(1)
    rng, T, path = np.random.default_rng(0), 5, []

    def jump(model, theta, x, z, at, *_):
        z = rng.standard_normal(z.shape)
        path.append(z)
        return z, model.log_likelihood_gradient(theta, x, z), np.ones(len(x))

    monkeypatch.setattr(ais, "_hmc", jump)
    start, beta = rng.standard_normal((3, 1, 1)) + np.zeros((3, 5, 1)), ais.temperatures(T)
    for backward in (False, True):
        path[:] = [start]
        chains = ais._run(
            model, theta, x, start, beta, None, np.zeros((T - 1, 3, 1, 1)), np.zeros((T - 1, 3, 1)), backward
        )
        log_p = [model.log_likelihood(theta, x, z)[0] for z in path]
        if backward:                                               # z'_T first: minus log p at z'_t
            expected = -sum((beta[t] - beta[t - 1]) * log_p[T - t] for t in range(T, 0, -1))
        else:
            expected = sum((beta[t] - beta[t - 1]) * log_p[t - 1] for t in range(1, T + 1))
        np.testing.assert_allclose(chains.log_weights, expected, rtol=1e-12)


def test_step_sizes_are_tuned_first_then_frozen_for_both_directions(monkeypatch):
    model, theta, x = network(1, Gaussian(3), 3, size=2.0)
    calls = recorded(monkeypatch, ais._hmc)
    z = np.random.default_rng(1).standard_normal((5, 1))
    forward, backward = ais._both(model, theta, x, z, np.random.default_rng(0), 4, 30)
    np.testing.assert_array_equal(forward.step_sizes, backward.step_sizes)
    used = np.array([step for _, step, *_ in calls]).reshape(3, 29, 5)
    for run, steps in zip(used, (forward.step_sizes, forward.step_sizes, backward.step_sizes[::-1])):
        np.testing.assert_array_equal(run, steps)
    assert np.all(used[0, 0] == 0.5) and np.all(used.std(axis=1) > 0.05)
    assert np.all(used[0].std(axis=1)[5:] > 0)                     # of its own for every case
    for noise in (2, 3):                                           # new noise in each run and at each move
        drawn = np.array([call[noise].ravel()[0] for call in calls])
        assert len(set(drawn)) == 3 * 29
    assert forward.acceptance.shape == backward.acceptance.shape == forward.step_sizes.shape == (29, 5)


@EACH_MODEL
def test_about_two_thirds_are_accepted_at_most_temperatures(make):
    """The steps are tuned as β rises, so they follow a chain of 32 with a lag; a third of the way from the
    prior, where any step is taken, is left out. One tuning step moves log ε by 0.2 of the rate's miss,
    which is known to 0.35 / √32 = 0.06; acceptance falls by about 1 per unit of log ε."""
    model, theta, _ = make()
    s = ais.sandwich(model, theta, 8, np.random.default_rng(0), HOST, n_chains=32, n_temperatures=120)
    for chains in (s.forward, s.backward):
        rate = chains.acceptance[40:].mean(axis=1)                 # (T', ), over the cases
        assert abs(np.mean(rate) - ais.ACCEPTANCE) < 0.1
        assert np.mean(np.abs(rate - ais.ACCEPTANCE) < 0.2) > 0.85
    assert np.all((s.forward.acceptance >= 0) & (s.forward.acceptance <= 1))


# ---- the move -------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta, step", [(0.0, 1.2), (0.1, 0.8), (1.0, 0.5)])
def test_the_move_leaves_a_tempered_normal_as_it_is(beta, step):
    rate = assert_invariant(beta, step)
    assert 0.3 < rate < 0.97                                       # so that refusals play their part


@pytest.mark.parametrize("beta", [0.3, 1.0])
def test_the_move_leaves_a_non_linear_density_as_it_is(beta):
    model, theta, x = network(1, Bernoulli(6), 1, size=3.0)
    grid_z = np.linspace(-8, 8, 20_001)
    log_p = beta * model.log_likelihood(theta, x[:1], grid_z[:, None, None])[0][:, 0]
    density = np.exp(log_p + stats.norm.logpdf(grid_z))
    cdf = np.cumsum(density) / density.sum()
    rng, S = np.random.default_rng(0), 20_000
    z = np.interp(rng.random((S, 1, 1)), cdf, grid_z)
    before, at = z, model.log_likelihood_gradient(theta, x[:1], z)
    for _ in range(3):
        noise = rng.standard_normal((S, 1, 1)), np.log(rng.random((S, 1)))
        z, at, rate = ais._hmc(model, theta, x[:1], z, at, beta, np.array([0.5]), *noise)
    assert 0.3 < rate[0] < 0.97
    assert np.mean(z != before) > 0.8
    assert stats.kstest(np.interp(z.ravel(), grid_z, cdf), "uniform").pvalue > 1e-3


def path_case():
    model, theta, x = network(2, Gaussian(3), 4, size=2.0)
    rng = np.random.default_rng(0)
    z, p = rng.standard_normal((6, 5, 2)), rng.standard_normal((6, 5, 2))
    return model, theta, x, z, p, model.log_likelihood_gradient(theta, x, z)


def energy(z, p, at, beta):
    return 0.5 * np.sum(z * z + p * p, axis=2) - beta * at[0]


def test_a_path_leads_back_when_its_momenta_are_turned():
    model, theta, x, z, p, at = path_case()
    steps = np.array([0.05, 0.1, 0.15, 0.2, 0.25])
    z_end, p_end, at_end = ais._leapfrog(model, theta, x, z, p, at, 0.7, steps)
    assert np.abs(z_end - z).min(axis=(0, 2)).min() > 1e-3
    again = model.log_likelihood_gradient(theta, x, z_end)
    for got, want in zip(at_end, again):
        np.testing.assert_array_equal(got, want)
    z_back, p_back, at_back = ais._leapfrog(model, theta, x, z_end, -p_end, at_end, 0.7, steps)
    np.testing.assert_allclose(z_back, z, rtol=0, atol=1e-10)
    np.testing.assert_allclose(-p_back, p, rtol=0, atol=1e-10)
    np.testing.assert_allclose(at_back[0], at[0], rtol=0, atol=1e-9)


def test_a_path_keeps_volume():
    model, theta, x, z, p, _ = path_case()

    def end(v):
        z, p = v[None, None, :2], v[None, None, 2:]
        at = model.log_likelihood_gradient(theta, x[:1], z)
        z, p, _ = ais._leapfrog(model, theta, x[:1], z, p, at, 0.7, np.array([0.2]))
        return np.concatenate([z, p], axis=2)[0, 0]

    for v in np.concatenate([z[:, 0], p[:, 0]], axis=1)[:3]:
        J = np.array([(end(v + 1e-6 * e) - end(v - 1e-6 * e)) / 2e-6 for e in np.eye(4)])
        assert np.abs(J - np.eye(4)).max() > 0.5
        assert np.linalg.det(J) == pytest.approx(1, abs=1e-6)


def test_the_energy_errs_by_the_square_of_the_step(monkeypatch):
    model, theta, x, z, p, at = path_case()
    errors = []
    for length in (20, 40):
        monkeypatch.setattr(ais, "LEAPFROG", length)
        end = ais._leapfrog(model, theta, x, z, p, at, 0.7, np.full(5, 1 / length))
        errors.append(np.abs(energy(*end, 0.7) - energy(z, p, at, 0.7)))
    assert 3.4 < np.sqrt(np.mean(errors[0] ** 2) / np.mean(errors[1] ** 2)) < 4.6
    assert errors[1].max() > 1e-6


def test_acceptance_is_that_of_the_energy():
    """Taken where log u < E − E', where the path flew off never; the rate is the mean probability."""
    model, theta, x, z, p, at = path_case()
    steps, p = np.full(5, 0.6), p[:, :1]
    end = ais._leapfrog(model, theta, x, z, p + np.zeros_like(z), at, 0.7, steps)
    fall = energy(z, p, at, 0.7) - energy(*end, 0.7)               # (S, N)
    log_u = np.log(np.random.default_rng(5).random((6, 1)))
    moved, at_moved, rate = ais._hmc(model, theta, x, z, at, 0.7, steps, p, log_u)
    taken = log_u < fall
    assert 3 < taken.sum() < 27
    np.testing.assert_array_equal(moved, np.where(taken[:, :, None], end[0], z))
    np.testing.assert_array_equal(at_moved[0], np.where(taken, end[2][0], at[0]))
    np.testing.assert_array_equal(at_moved[1], np.where(taken[:, :, None], end[2][1], at[1]))
    np.testing.assert_allclose(rate, np.minimum(1, np.exp(fall)).mean(axis=0), rtol=1e-12)

    def lost(model, theta, x, z, p, at, beta, step):
        return z, p, (np.where(z[:, :, 0] > 0, np.nan, np.where(p[:, :, 0] > 0, np.inf, -np.inf)), at[1])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ais, "_leapfrog", lost)
        moved, at_moved, rate = ais._hmc(model, theta, x, z, at, 0.7, steps, p, log_u)
    np.testing.assert_array_equal(moved, z)
    np.testing.assert_array_equal(at_moved[0], at[0])
    assert not rate.any()


# ---- faults, which the checks must catch ----------------------------------------------------------


def faulty_hmc(*, kinetic=True, prior=1.0, always=False, fresh=True):
    """The move written again, with a fault."""
    first = []

    def hmc(model, theta, x, z, at, beta, step, p, log_u):
        p = p + np.zeros_like(z)
        if not fresh:
            first.append(p)
            p = first[0]

        def log_density(z, p, at):
            return model.log_prior(z) + beta * at[0] - 0.5 * kinetic * np.sum(p * p, axis=2)

        z_end, p_end, at_end, e = z, p, at, step[None, :, None]
        for _ in range(ais.LEAPFROG):
            p_end = p_end + 0.5 * e * (beta * at_end[1] - prior * z_end)
            z_end = z_end + e * p_end
            at_end = model.log_likelihood_gradient(theta, x, z_end)
            p_end = p_end + 0.5 * e * (beta * at_end[1] - prior * z_end)
        rise = log_density(z_end, p_end, at_end) - log_density(z, p, at)
        accept = (log_u < rise) | always
        rate = np.exp(np.minimum(rise, 0)).mean(axis=0)
        at = np.where(accept, at_end[0], at[0]), np.where(accept[..., None], at_end[1], at[1])
        return np.where(accept[..., None], z_end, z), at, rate

    return hmc


def test_the_move_written_again_is_the_same_without_a_fault():
    model, theta, x, z, p, at = path_case()
    arguments = model, theta, x, z, at, 0.7, np.full(5, 0.3), p[:, :1], np.full((6, 1), -0.05)
    for got, want in zip(tree_of(faulty_hmc()(*arguments)), tree_of(ais._hmc(*arguments))):
        np.testing.assert_allclose(got, want, rtol=1e-12)
    assert_invariant(0.1, 0.8, faulty_hmc())


def tree_of(result):
    z, at, rate = result
    return z, *at, rate


@pytest.mark.parametrize("fault", [{"kinetic": False}, {"always": True}, {"fresh": False}], ids=str)
def test_the_checks_catch_a_move_that_changes_p_beta(fault):
    with pytest.raises(AssertionError, match="standard errors off"):
        assert_invariant(0.1, 0.8, faulty_hmc(**fault))


def test_a_gradient_without_the_prior_is_still_right_but_hardly_accepted():
    """Any path that leads back is allowed: only the acceptance tells."""
    right = assert_invariant(0.02, 0.6)
    wrong = assert_invariant(0.02, 0.6, faulty_hmc(prior=0.0))
    assert right > 0.85 and wrong < 0.6


def wrong_weights(change):
    """`_run` with its log weights changed."""
    run = ais._run

    def faulty(model, theta, x, z, betas, *rest):
        chains = run(model, theta, x, z, betas, *rest)
        return chains._replace(log_weights=change(model, theta, x, z, betas, chains))

    return faulty


FAULTS = {
    "sign": lambda model, theta, x, z, betas, c: -c.log_weights,
    "a step too few": lambda model, theta, x, z, betas, c: (
        c.log_weights - betas[3] * model.log_likelihood(theta, x, z)[0]
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_checks_catch_wrong_weights(fault, monkeypatch):
    monkeypatch.setattr(ais, "_run", wrong_weights(FAULTS[fault]))
    with pytest.raises(AssertionError, match="standard errors off|too large to tell"):
        assert_forward_unbiased(MODELS["linear, K = 3"])


def test_the_checks_catch_a_way_back_that_does_not_start_at_the_posterior(monkeypatch):
    both = ais._both
    monkeypatch.setattr(ais, "_both", lambda model, theta, x, z, *rest: both(model, theta, x, z[::-1], *rest))
    with pytest.raises(AssertionError, match="standard errors off|too large to tell"):
        assert_unbiased_both_ways(GENTLE["linear, K = 1"])


def test_the_checks_catch_a_run_that_moves_at_the_wrong_temperature(monkeypatch):
    hmc = ais._hmc

    def hotter(model, theta, x, z, at, beta, *rest):
        return hmc(model, theta, x, z, at, beta**0.5, *rest)

    monkeypatch.setattr(ais, "_hmc", hotter)
    with pytest.raises(AssertionError, match="standard errors off"):
        assert_forward_unbiased(MODELS["linear, K = 1"])


# ---- rows, backends, bad input --------------------------------------------------------------------


@pytest.mark.parametrize(
    "make", [lambda: linear(2, n_cases=12), lambda: network(2, Bernoulli(5), 6, 12, size=2.0)]
)
def test_no_row_depends_on_the_others(make, monkeypatch):
    model, theta, x = make()
    together = ais.ais(model, theta, x, np.random.default_rng(0), n_chains=4, n_temperatures=20)
    for rows in ([7], [11, 3, 5], list(range(11, -1, -1))):
        some = ais.ais(model, theta, x[rows], np.random.default_rng(0), n_chains=4, n_temperatures=20)
        np.testing.assert_allclose(some.values, together.values[rows], rtol=0, atol=1e-9)
        np.testing.assert_allclose(some.standard_error, together.standard_error[rows], rtol=0, atol=1e-9)
    monkeypatch.setattr(ais, "blocks", lambda n, s: [slice(i, min(i + 5, n)) for i in range(0, n, 5)])
    parts = ais.ais(model, theta, x, np.random.default_rng(0), n_chains=4, n_temperatures=20)
    np.testing.assert_allclose(parts.values, together.values, rtol=0, atol=1e-9)


@settings(max_examples=5)
@given(st.integers(0, 2**32 - 1))
def test_the_same_seed_makes_the_same_numbers(seed):
    model, theta, x = network(1, Gaussian(3), 3, size=2.0)
    first, again, other = (
        ais.ais(model, theta, x, np.random.default_rng(s), n_chains=2, n_temperatures=5)
        for s in (seed, seed, seed + 1)
    )
    np.testing.assert_array_equal(first.values, again.values)
    assert np.all(first.values != other.values)


@pytest.mark.parametrize("make", [lambda: linear(2, psi=0.01), lambda: network(2, Bernoulli(5), 6, size=2.0)])
def test_on_every_backend(backend, make):
    model, theta, x = make()
    options = {"n_chains": 8, "n_temperatures": 12}
    host = ais.ais(model, theta, x, np.random.default_rng(0), **options)
    there = tree.map(backend.asarray, theta)
    result = ais.ais(model, there, backend.asarray(x), np.random.default_rng(0), **options)
    s = ais.sandwich(model, there, 3, np.random.default_rng(0), backend, **options)
    s_host = ais.sandwich(model, theta, 3, np.random.default_rng(0), HOST, **options)
    pairs = list(zip((result, s.upper, s.lower), (host, s_host.upper, s_host.lower)))
    pairs = [(getattr(a, name), getattr(b, name)) for a, b in pairs
             for name in ("values", "standard_error", "effective_sample_size")]
    pairs += zip((s.z, s.x, *s.interval(), *s.forward, *s.backward),
                 (s_host.z, s_host.x, *s_host.interval(), *s_host.forward, *s_host.backward))
    for got, want in pairs:
        assert namespace(got) is backend.xp and str(got.dtype).endswith(backend.dtype)
        assert backend.device is None or got.device == backend.device
        assert got.shape == want.shape and not np.isnan(to_numpy(got)).any()
        if backend.dtype == "float64":
            np.testing.assert_allclose(to_numpy(got), want, rtol=1e-7, atol=1e-7)
    # in single precision a step may be taken that was not: another draw, not another number
    assert np.all(np.abs(to_numpy(result.values) - host.values) < 4 * host.standard_error + 0.01)


def test_bad_input_is_refused_in_words():
    model, theta, x = linear(1)
    rng = np.random.default_rng(0)
    for name in ("n_chains", "n_temperatures"):
        with pytest.raises(ValueError, match=f"annealed importance sampling needs {name} >= 2, got 1"):
            ais.ais(model, theta, x, rng, **{name: 1})
        with pytest.raises(ValueError, match=f"annealed importance sampling needs {name} >= 2, got 0"):
            ais.sandwich(model, theta, 3, rng, HOST, **{name: 0})
    with pytest.raises(ValueError, match="n_cases >= 1, got 0"):
        ais.sandwich(model, theta, 0, rng, HOST)
