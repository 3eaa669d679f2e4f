"""Pictures of results: what is drawn are the numbers, axes say their units, and no pyplot is touched."""

import subprocess
import sys

import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp
from test_prints import gaps, ladder

from teachvae import Autoencoder, FactorAnalysis, VAE, VariationalEM, datasets, plots
from teachvae.evaluation.calibration import calibration
from teachvae.routes.conventions import NotFittedError

pytestmark = pytest.mark.short                                     # most fits here end early on purpose

X = datasets.linear_gaussian(n_cases=60, n_visible=5, n_latent=2).x
BENT = datasets.spiral(n_cases=80, noise=0.2**2).x


@pytest.fixture(scope="module")
def bent():
    """A VAE with K = 2 on a spiral, hardly trained."""
    return VAE(2, hidden=(6,), epochs=30).fit(BENT)


def labels(figure):
    return [label for ax in figure.axes for label in (ax.get_xlabel(), ax.get_ylabel())]


# ---- the ledger and the ladder, case by case


def test_stacked_shares_reach_from_nlml_to_q():
    ledger = gaps()
    stack, alone = ledger.figure().axes
    total = np.sort(ledger.q_used - ledger.nlml)[::-1]             # 3.75, 1.25, 0.5
    tops = max(c.get_paths()[0].vertices[:, 1].max() for c in stack.collections)
    assert tops == pytest.approx(total[0], abs=1e-6)
    for place, height in enumerate(total, 1):                      # the highest edge in the middle of a place
        highest = 0.0
        for area in stack.collections[:-1]:
            (polygon,) = area.get_paths()
            inside = [polygon.contains_point((place, y)) for y in np.linspace(0.005, 4, 800)]
            highest = max([highest, *np.linspace(0.005, 4, 800)[inside]])
        assert highest == pytest.approx(height, abs=0.006)
    lines = alone.get_lines()
    for line, values in zip(lines, ledger.shares.values()):
        np.testing.assert_array_equal(line.get_ydata(), np.sort(values)[::-1])
    error = ledger.approximation_error + ledger.amortisation_error
    np.testing.assert_array_equal(lines[3].get_ydata(), np.sort(error)[::-1])
    assert "certificate" in lines[3].get_label() and alone.get_yscale() == "log"
    texts = [text.get_text() for text in ledger.figure().legends[0].get_texts()]
    assert texts == ["not Gaussian", "diagonal", "amortisation"]


def test_a_share_below_zero_hangs_below_the_axis():
    ledger = gaps(q_full=[1.25, 2.25, 7.0])                        # a flow may be better than all Gaussians
    stack = ledger.figure().axes[0]
    assert stack.get_ylim()[0] < -0.2
    assert min(c.get_paths()[0].vertices[:, 1].min() for c in stack.collections) == pytest.approx(-0.25)


@pytest.mark.parametrize("result", [
    gaps(), gaps(method="importance"), gaps(method="exact"), gaps(nlml=[1.0, np.nan, 6.0]),
    gaps(nlml=[np.nan, 2.0, np.nan]), ladder(), ladder("exact"),
], ids=["grid", "importance", "exact", "one refused", "one left", "ladder", "exact ladder"])
def test_every_ledger_and_ladder_has_a_picture(result):
    figure = result.figure()
    assert plots.png(figure).startswith(b"\x89PNG")
    assert labels(figure) == [
        "data case, sorted by the sum", "nats above NLML", "data case, each share sorted by itself", "nats"
    ]
    assert figure.axes[0].get_xlim() == (0.5, result.settled.sum() + 0.5)
    stated = {"grid": "certificate", "importance": "std. error", "exact": None}[result.method]
    legend = figure.axes[1].get_legend()
    assert (legend is None) is (stated is None)
    assert stated is None or stated in legend.get_texts()[0].get_text()


def test_an_exact_ledger_shows_no_rounding():
    """What is left of a closed form are some 1e-15 nats: the axes are not drawn to that."""
    stack, alone = FactorAnalysis(2).fit(X).gaps(X).figure().axes
    assert stack.get_ylim()[1] >= 1e-9 and alone.get_ylim()[0] >= 1e-9 < alone.get_ylim()[1]


def test_of_nothing_there_is_no_picture():
    with pytest.raises(ValueError, match="of none of 3 data cases NLML is known"):
        gaps(nlml=[np.nan] * 3).figure()


def test_calibration_as_histograms_in_their_band(rng):
    found = calibration(rng.integers(0, 20, (200, 2)), 19)
    figure = found.figure()
    assert len(figure.axes) == 2 and figure.legends[0].get_texts()[0].get_text() == "holds 99 % of counts"
    assert figure.axes[0].get_ylabel().strip() == "data cases"
    for k, ax in enumerate(figure.axes):
        (bars,) = [p for p in ax.patches if hasattr(p, "get_data")]
        np.testing.assert_array_equal(bars.get_data().values, found.counts[:, k])
    assert plots.png(found._replace(counts=found.counts[:, :1]).figure()).startswith(b"\x89PNG")


# ---- one posterior


def closed_form(model, x):
    """Mean and covariance of p(z|x), by conditioning the joint normal distribution of x and z."""
    W, psi = model.components_, model.noise_variance_              # (K, D), (D,)
    S = W.T @ W + np.diag(psi)
    gain = W @ np.linalg.inv(S)
    return gain @ (x - model.mean_), np.eye(len(W)) - gain @ W.T


def test_one_latent_variable_by_the_closed_form():
    model = FactorAnalysis(1, noise="isotropic").fit(X)
    figure = model.plot_posterior(X[3])
    (ax,) = figure.axes
    mean, variance = closed_form(model, X[3])
    normal = stats.norm(mean[0], np.sqrt(variance[0, 0]))
    for line in ax.get_lines():
        z, density = line.get_data()
        np.testing.assert_allclose(density, normal.pdf(z), rtol=1e-8)
        assert z[0] < normal.ppf(0.002) and z[-1] > normal.ppf(0.998)
    area = ax.collections[0].get_paths()[0].vertices
    np.testing.assert_allclose(area[:, 1].max(), normal.pdf(mean[0]), rtol=1e-3)
    assert labels(figure) == ["z", "density, per unit of z"]


def test_two_latent_variables_by_the_closed_form():
    """The regions, and the line of an exact q, hold what they say: by the Mahalanobis distance."""
    model = FactorAnalysis(2).fit(X)
    figure = model.plot_posterior(X[:1])
    mean, covariance = closed_form(model, X[0])
    regions, *lines = figure.axes[0].collections
    assert len(lines) == 2

    def squares(path):
        r = path.vertices - mean
        return np.sum(r @ np.linalg.inv(covariance) * r, axis=1)

    for line in lines:
        np.testing.assert_allclose(squares(line.get_paths()[0]), stats.chi2(2).ppf(0.9), rtol=0.03)
    outer = squares(regions.get_paths()[0]).max()
    np.testing.assert_allclose(outer, stats.chi2(2).ppf(0.99), rtol=0.03)
    assert labels(figure) == ["$z_1$", "$z_2$"]
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == ["p(z|x): 99 %", "90 %", "50 %", "q in use", "best q of the family"]


def test_the_title_has_nlml_and_the_gaps(bent):
    title = bent.plot_posterior(BENT[5]).get_suptitle()
    found = bent.gaps(BENT[5:6])
    numbers = [float(word) for word in title.split() if word.strip("-").replace(".", "").isdigit()]
    shares = [values[0] for values in found.shares.values()]
    np.testing.assert_allclose(numbers, [found.nlml[0], *shares, found.q_used[0]], atol=6e-4)
    assert title.endswith("nats") and abs(sum(numbers[:4]) - numbers[4]) < 0.003


def test_another_phi_is_drawn(bent):
    far = bent.encode(BENT[:1]) + np.array([[9.0, 0.0, -1.0, -1.0]])
    ax = bent.plot_posterior(BENT[0], phi=far).axes[0]
    middle = ax.collections[1].get_paths()[0].vertices.mean(axis=0)  # the line of the q in use
    np.testing.assert_allclose(middle, far[0, :2], atol=0.02)
    assert ax.get_xlim()[1] > far[0, 0]


def test_a_narrow_posterior_fills_the_picture():
    """Between the points of the widest lattice, 0.05 apart, nothing of a width of 0.001 would be seen."""
    model = FactorAnalysis(1, noise=1e-6).fit(X)
    (ax,) = model.plot_posterior(X[7]).axes
    mean, variance = closed_form(model, X[7])
    assert np.sqrt(variance[0, 0]) < 2e-3
    z, density = ax.get_lines()[0].get_data()
    assert np.ptp(z) < 12 * np.sqrt(variance[0, 0])
    np.testing.assert_allclose(np.trapezoid(density, z), 1, atol=2e-3)


def test_a_flow_and_missing_entries_are_drawn():
    model = VAE(2, hidden=(4,), posterior="flow", epochs=2, missing="marginalise").fit(BENT)
    x = np.array([BENT[0, 0], np.nan])
    figure = model.plot_posterior(x)
    assert len(figure.axes[0].collections) == 3 and plots.png(figure).startswith(b"\x89PNG")


def test_what_cannot_be_drawn_is_said(bent, monkeypatch):
    with pytest.raises(NotFittedError):
        VAE().plot_posterior(X[0])
    with pytest.raises(ValueError, match="draws one data case, got 2: give a row"):
        bent.plot_posterior(BENT[:2])
    three = FactorAnalysis(3).fit(datasets.linear_gaussian(n_cases=60).x)
    with pytest.raises(ValueError, match="draws K = 1 or 2 latent variables, the model has 3"):
        three.plot_posterior(X[0])
    refused = bent.gaps(BENT[:1])._replace(nlml=np.array([np.nan]))
    monkeypatch.setattr(VAE, "gaps", lambda self, X, phi: refused)
    with pytest.raises(ValueError, match="the grid refused this data case"):
        bent.plot_posterior(BENT[0])


# ---- learning curves, Q against S


def test_learning_curves_of_models():
    validation = datasets.spiral(n_cases=30, noise=0.2**2, seed=4).x
    vae = VAE(2, hidden=(4,), epochs=5).fit(BENT, validation=validation)
    vem = VariationalEM(2, hidden=(4,), epochs=3).fit(BENT)
    fa = FactorAnalysis(1).fit(BENT)
    figure = plots.learning_curves({"VAE": vae, "VEM": vem, "FA": fa})
    (ax,) = figure.axes
    expected = {
        "VAE, held out": vae.q_validation_path_, "VAE": vae.q_path_, "VEM": vem.q_path_, "FA": fa.nlml_path_,
    }
    assert [line.get_label() for line in ax.get_lines()] == list(expected)
    for line, path in zip(ax.get_lines(), expected.values()):
        np.testing.assert_array_equal(line.get_ydata(), path)
        np.testing.assert_array_equal(line.get_xdata(), np.arange(len(path)) + 1)
    assert labels(figure) == ["iteration, round or epoch", "mean Q, nats per data case"]
    with pytest.raises(ValueError, match="'AE' is Autoencoder.*has noted no path of Q or nlml"):
        plots.learning_curves({"VAE": vae, "AE": Autoencoder(1, hidden=(3,), epochs=2).fit(BENT)})


def test_estimates_of_both_bounds_one_by_one(bent):
    """By SciPy's densities, from the noise that the seed gives: each estimate, each case in turn."""
    x, S, R = BENT[:2], 3, 4
    found = bent.sampled_bounds(x, sizes=(S,), n_repeats=R, random_state=5)
    rng, phi = np.random.default_rng(5), bent.encode(x)
    Q, L = np.zeros(R), np.zeros(R)
    for n in range(2):
        eta = rng.standard_normal((S, R, 2))
        m, s = phi[n, :2], np.exp(phi[n, 2:])
        for r in range(R):
            z = m + s * eta[:, r]
            psi = bent.noise_variance_
            log_p = stats.norm(bent.decode(z), np.sqrt(psi)).logpdf(x[n]).sum(axis=1)
            kl = 0.5 * np.sum(m**2 + s**2 - 1 - 2 * np.log(s))
            log_w = log_p + stats.norm.logpdf(z).sum(axis=1) - stats.norm(m, s).logpdf(z).sum(axis=1)
            Q[r] += (kl - log_p.mean()) / 2
            L[r] -= (logsumexp(log_w) - np.log(S)) / 2
    np.testing.assert_allclose(found.Q, [Q], rtol=1e-9)
    np.testing.assert_allclose(found.L, [L], rtol=1e-9)
    assert found.sizes == (S,)


def test_levels_of_both_bounds(bent):
    x = BENT[:3]
    found = bent.sampled_bounds(x, sizes=(1, 30), n_repeats=400)
    assert found.Q_level == bent.bound(x).mean()
    assert found.nlml_level == bent.nlml(x, method="grid").values.mean()
    error = found.Q.std(axis=1) / 20
    assert (np.abs(found.Q.mean(axis=1) - found.Q_level) < 5 * error).all()
    assert np.abs(found.L[0].mean() - found.Q_level) < 5 * found.L[0].std() / 20, "L_1 is Q"
    assert found.nlml_level < found.L[1].mean() < found.L[0].mean(), "L falls with S, and stays above nlml"
    assert found.Q[1].std() < 0.3 * found.Q[0].std(), "a spread falls by the root of S"
    exact = FactorAnalysis(3).fit(datasets.linear_gaussian(n_cases=60).x)
    few = datasets.linear_gaussian(n_cases=3).x
    level = exact.sampled_bounds(few, sizes=(1,), n_repeats=2)
    np.testing.assert_allclose([level.Q_level, level.nlml_level], exact.nlml(few).values.mean(), rtol=1e-9)


def test_the_picture_of_q_against_s(bent):
    options = {"sizes": (1, 4, 16), "n_repeats": 40, "random_state": 1}
    figure = plots.q_against_s(bent, BENT[:2], **options)
    found = bent.sampled_bounds(BENT[:2], **options)
    (ax,) = figure.axes
    q, L, level, nlml = ax.get_lines()
    for line, values in ((q, found.Q), (L, found.L)):
        np.testing.assert_array_equal(line.get_xdata(), [1, 4, 16])
        np.testing.assert_allclose(line.get_ydata(), values.mean(axis=1))
    for band, values in zip(ax.collections, (found.Q, found.L)):
        ends = np.quantile(values[0], [0.05, 0.95])
        vertices = band.get_paths()[0].vertices
        np.testing.assert_allclose(np.unique(vertices[vertices[:, 0] == 1, 1])[[0, -1]], ends)
    assert level.get_ydata()[0] == found.Q_level and nlml.get_ydata()[0] == found.nlml_level
    assert ax.get_xscale() == "log" and labels(figure)[1] == "nats per data case"
    assert plots.png(figure).startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="every S in sizes must be an integer >= 1, got 0"):
        bent.sampled_bounds(BENT[:2], sizes=(1, 0))


def test_no_picture_touches_pyplot_and_matplotlib_waits_until_one_is_asked_for():
    program = """if True:
        import sys
        from teachvae import FactorAnalysis, datasets
        x = datasets.linear_gaussian(n_cases=50, n_visible=5, n_latent=1).x
        fa = FactorAnalysis(1).fit(x)
        results = fa.gaps(x), fa.ladder(x[:3]), fa.calibration(60, 9)
        assert "matplotlib" not in sys.modules and all(map(str, results))
        for result in results:
            result.figure()
        fa.plot_posterior(x[0])
        assert "matplotlib" in sys.modules and "matplotlib.pyplot" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", program], check=True)
