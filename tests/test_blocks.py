"""What is held beside the data: blocks, whatever is asked, of every estimator and every kind of table."""

import functools
import tracemalloc

import numpy as np
import pytest

from teachvae import (
    Autoencoder, FactorAnalysis, GaussianMixture, LinearProbe, MixtureOfFactorAnalysers, VAE, VariationalEM,
    infer,
)
from teachvae.arrays import rows
from teachvae.likelihoods import Bernoulli, Gaussian, Poisson
from teachvae.routes import questions as estimator_module
from teachvae.routes.principal_components import PrincipalComponents

pytestmark = pytest.mark.short                                   # most fits here end early on purpose

N, D = 320, 128
NEURAL = {"n_components": 1, "hidden": (3,), "epochs": 1}
MAKERS = {
    "factor analysis": lambda: FactorAnalysis(1, max_iter=3),
    "factor analysis, gaps": lambda: FactorAnalysis(1, max_iter=2, missing="marginalise"),
    "factor analysis, dropped": lambda: FactorAnalysis(1, max_iter=3, constant="drop"),
    "variational EM, linear": lambda: VariationalEM(1, hidden=(), epochs=2),
    "variational EM, linear, gaps": lambda: VariationalEM(1, hidden=(), epochs=1, missing="marginalise"),
    "variational EM": lambda: VariationalEM(**NEURAL, e_steps=1, m_steps=1),
    "VAE": lambda: VAE(**NEURAL),
    "VAE, gaps": lambda: VAE(**NEURAL, missing="marginalise"),
    "VAE, L-BFGS": lambda: VAE(1, hidden=(), nodes="sigma", optimizer="lbfgs", epochs=1),
    "VAE, predicted": lambda: VAE(**NEURAL, likelihood="gaussian-predicted"),
    "VAE, bits": lambda: VAE(**NEURAL, likelihood="bernoulli"),
    "VAE, grey": lambda: VAE(**NEURAL, likelihood="bernoulli", binarise="fresh"),
    "VAE, counts": lambda: VAE(**NEURAL, likelihood="poisson"),
    "VAE, categories": lambda: VAE(**NEURAL, likelihood="categorical"),
    "VAE, mixed": lambda: VAE(**NEURAL, likelihood=[
        ("gaussian", range(20)), ("bernoulli", range(20, 40)), ("poisson", range(40, D))
    ]),
    "autoencoder": lambda: Autoencoder(**NEURAL),
    "mixture": lambda: GaussianMixture(2, max_iter=2),
    "factor analysers": lambda: MixtureOfFactorAnalysers(2, n_latent=1, max_iter=2, n_starts=1),
    "principal components": lambda: PrincipalComponents(1),
}
QUESTIONS = {
    "factor analysis": (
        "fit", "partial_fit", "bound", "nlml", "gaps", "kl_to_posterior", "infer", "transform", "reconstruct",
        "impute", "denoise", "score_samples", "sample", "decode", "draw", "calibration",
    ),
    "factor analysis, gaps": ("fit", "bound", "nlml", "transform", "impute", "imputations"),
    "factor analysis, dropped": ("fit", "bound", "reconstruct"),
    "variational EM, linear": ("fit", "bound", "nlml", "infer", "transform", "impute"),
    "variational EM, linear, gaps": ("fit", "bound", "nlml", "infer"),
    "variational EM": ("fit", "bound", "infer", "transform", "impute", "denoise"),
    "VAE": (
        "fit", "bound", "nlml", "encode", "refine", "transform", "reconstruct", "denoise", "sample", "draw",
    ),
    "VAE, gaps": ("fit", "encode", "bound"),
    "VAE, L-BFGS": ("fit",),
    "VAE, predicted": ("fit",),
    "VAE, bits": ("fit", "encode", "bound"),
    "VAE, grey": ("fit",),
    "VAE, counts": ("fit", "encode"),
    "VAE, categories": ("fit", "reconstruct"),
    "VAE, mixed": ("fit", "encode", "bound"),
    "autoencoder": ("fit", "transform", "reconstruct", "denoise"),
    "mixture": ("fit", "bound", "nlml", "infer", "kl_to_posterior", "score_samples", "sample"),
    "factor analysers": ("fit", "bound", "transform", "reconstruct", "impute", "denoise", "sample"),
    "principal components": ("fit", "transform", "reconstruct", "denoise"),
}
EVERY = [(name, question) for name, questions in QUESTIONS.items() for question in questions]


def table(name, n):
    """(n, D) numbers from 0 to 255 that suit the estimator: the same rows for every n, so far as they go."""
    rng = np.random.default_rng(0)
    x = (40 * rng.normal(size=(2 * N, 1)) * rng.normal(size=D) + 20 * rng.normal(size=(2 * N, D)) + 128)[:n]
    x = np.clip(np.rint(x), 0, 255)
    if name in ("VAE, bits", "VAE, categories", "VAE, grey"):
        x = np.where(x > 128, 1.0, 0.0)
    if name == "VAE, mixed":
        x[:, 20:40] = x[:, 20:40] > 128
    if name.endswith("gaps"):
        x[np.arange(n) % 7 == 0, 3] = np.nan
    if name.endswith("dropped"):
        x[:, [1, 5]] = 7
    return x


def laid_out(x, how, path):
    """x in a kind of memory; a mapped file is no part of what is allocated."""
    if how == "columns first":
        return np.asfortranarray(x)
    if how == "float32":
        return x.astype("float32")
    if how.startswith("file"):
        x.astype(how.split()[1]).tofile(path)
        return np.memmap(path, how.split()[1], "r", shape=x.shape)
    return x


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks that are small beside the small data of a fast test."""
    monkeypatch.setattr(rows, "CASES", 32)
    monkeypatch.setattr(rows, "ROWS", 512)
    monkeypatch.setattr(infer, "SEARCH_POINTS", 16)


@pytest.fixture
def short_e_steps(monkeypatch):
    """E-steps that end where they start: what they hold is the same, and most of the time is spared."""
    monkeypatch.setattr(infer, "COARSE_TOL", 1e9)
    monkeypatch.setattr(estimator_module, "E_STEP_TOLERANCE", {"float64": 1e9, "float32": 1e9})


def ask(estimator, question, x):
    if question == "denoise":
        return estimator.denoise(x, 100.0)
    if question == "decode":
        return estimator.decode(np.zeros((len(x), 1)))
    if question == "sample":
        return estimator.sample(len(x), random_state=0)
    if question == "draw":
        return estimator.draw(x, n_candidates=8, random_state=0)
    if question == "imputations":
        return estimator.impute(x, 1, random_state=0)
    if question == "calibration":
        return estimator.calibration(len(x), 1)
    if question == "refine":
        return estimator.refine(x, n_steps=1)
    if question in ("bound", "nlml") and "hidden" in estimator.get_params() and estimator.hidden:
        more = {} if question == "bound" else {"method": "importance"}
        return getattr(estimator, question)(x, n_samples=4, **more)
    return getattr(estimator, question)(x)


def results(answer):
    """The bytes of what is given back: that must be held."""
    if isinstance(answer, tuple):
        return sum(map(results, answer))
    if hasattr(answer, "fit"):
        return results(getattr(answer, "phi_", None))
    return getattr(answer, "nbytes", 0)


def held_beside(make, question, x, rows):
    """The most bytes allocated while `question` is answered, without the answer's own."""
    fits = question in ("fit", "partial_fit")
    estimator = make() if fits else make().fit(x[:20])
    ask(make() if fits else estimator, question, x[:20])           # what is imported does not count
    tracemalloc.start()
    try:
        answer = ask(estimator, question, x[:rows])
        return tracemalloc.get_traced_memory()[1] - results(answer)
    finally:
        tracemalloc.stop()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name, question", EVERY, ids=[f"{n}: {q}" for n, q in EVERY])
def test_more_data_need_no_more_memory(name, question, tmp_path, short_e_steps):
    """Twice the data: what is held beside them and the answer grows by less than a quarter of what was added,
    a table of φ and numbers of single data cases among it.
    """
    whole = table(name, 2 * N)
    kind = "file float32" if name.endswith("gaps") else "file uint8"
    for how in ("rows first", kind) if question in ("fit", "bound") else (kind,):
        x = laid_out(whole, how, tmp_path / "x")
        once, twice = (held_beside(MAKERS[name], question, x, rows) for rows in (N, 2 * N))
        grown = (twice - once) / (N * D * (4 if how == "file float32" else 8))
        assert grown < 0.25, (how, grown)


@functools.cache
def rows_first(name):
    """Q of plain float64 data, in blocks."""
    x = table(name, N)
    return MAKERS[name]().set_params(dtype="float64").fit(x).bound(x)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("how", ["columns first", "float32", "file float32", "file float64", "file int16"])
@pytest.mark.parametrize("name", ["factor analysis", "variational EM", "VAE", "mixture", "factor analysers"])
def test_every_kind_of_memory_has_the_same_answer_in_blocks(name, how, tmp_path):
    x = table(name, N)
    other = laid_out(x, how, tmp_path / "x")
    second = MAKERS[name]().set_params(dtype="float64").fit(other).bound(other)
    np.testing.assert_allclose(second, rows_first(name), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name, question", [
    ("factor analysis", "bound"), ("factor analysis", "impute"), ("factor analysis, gaps", "nlml"),
    ("variational EM", "bound"), ("variational EM", "denoise"), ("VAE", "nlml"), ("VAE", "gaps"),
    ("VAE", "sample"), ("VAE, mixed", "bound"), ("VAE", "draw"), ("factor analysis, gaps", "imputations"),
    ("autoencoder", "reconstruct"), ("mixture", "infer"), ("factor analysers", "impute"),
    ("factor analysers", "sample"),
    ("principal components", "reconstruct"),
])
@pytest.mark.filterwarnings("ignore")
def test_an_answer_does_not_depend_on_the_blocks(name, question, monkeypatch):
    x = table(name, 130)
    estimator = MAKERS[name]().fit(x)
    in_blocks = ask(estimator, question, x)
    monkeypatch.setattr(rows, "CASES", 1000)
    at_once = ask(estimator, question, x)
    pairs = zip(in_blocks, at_once) if isinstance(at_once, tuple) else [(in_blocks, at_once)]
    for a, b in pairs:
        if isinstance(b, np.ndarray):
            np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-7)


@pytest.mark.filterwarnings("ignore")
def test_a_linear_probe_holds_blocks(monkeypatch):
    z = table("VAE", 2 * N)
    y = np.arange(2 * N) % 10

    def held(n, question):
        probe = LinearProbe(max_iter=2)
        if question != "fit":
            probe.fit(z[:100], y[:100])
        tracemalloc.start()
        try:
            answer = probe.fit(z[:n], y[:n]) if question == "fit" else getattr(probe, question)(z[:n])
            return tracemalloc.get_traced_memory()[1] - results(answer)
        finally:
            tracemalloc.stop()

    for question in ("fit", "predict_log_proba"):
        held(100, question)
        assert held(2 * N, question) - held(N, question) < 0.25 * N * D * 8


# ---- the doors, with their rows by number in the whole table ----------------------------------------


def test_a_refusal_counts_in_all_blocks():
    x = np.ones((300, 3))
    x[[70, 200], 1], x[250, 2] = np.nan, np.inf
    with pytest.raises(ValueError, match="2 NaN and 1 infinity entries, the first in row 70, column 1"):
        FactorAnalysis(1).fit(x)
    x = np.arange(900.0).reshape(300, 3)
    x[150, 2], x[299, 0] = 1e300, -1e301
    with pytest.raises(ValueError, match=r"entries of size 1.0e\+301"):
        FactorAnalysis(1).fit(x)


@pytest.mark.parametrize("likelihood", [Bernoulli(3), Poisson(3)])
def test_values_that_do_not_suit_are_named_by_row(likelihood):
    x = np.zeros((300, 3))
    x[[130, 299], [2, 0]] = 0.5
    with pytest.raises(ValueError, match="2 other values, the first 0.5 in row 130, column c"):
        likelihood.check_values(x, list("abc"))


def test_an_unknown_category_is_named_by_row():
    x = np.arange(300.0).reshape(-1, 1) % 3 * [1, 1]
    vae = VAE(**NEURAL, likelihood="categorical").fit(x)
    x[222, 1] = 9
    with pytest.raises(ValueError, match="column 1 has the category 9 in row 222"):
        vae.encode(x)


def test_constant_columns_are_found_over_all_blocks():
    x = np.repeat([[1.0, 2.0], [3.0, 2.0]], 150, axis=0)
    x[:, 0] = np.arange(300) // 64                                 # constant in every block, but not at all
    Gaussian(2, "isotropic").check(x, ["a", "b"])
    with pytest.raises(ValueError, match="1 of 2 columns are constant: b"):
        Gaussian(2).check(x, ["a", "b"])
