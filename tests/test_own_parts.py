"""Parts of one's own: they are checked, fitted, asked everything and drawn without the package being touched.
"""

from dataclasses import dataclass
from pathlib import Path
import pickle
import re
import subprocess
import sys
import types

import cases
import numpy as np
import pytest
from own_parts import Laplace, LogCosh, Round, Scale, Signs, Sine, forgets_the_mask, widens
from scipy import special, stats
import test_components
from sklearn.base import clone

from teachvae import VAE, Autoencoder, Trace, VariationalEM, cli, datasets, gradcheck
from teachvae.arrays.backend import namespace
from teachvae.doors import parts
from teachvae.gradcheck import package
from teachvae.likelihoods import LIKELIHOODS
from teachvae.networks.layers import ACTIVATIONS, Linear, Sequential, Tanh, mlp
from teachvae.posteriors import POSTERIORS, DiagonalGaussian

pytestmark = pytest.mark.short                                   # most fits here end early on purpose

D = 4
X = datasets.linear_gaussian(n_cases=60, n_visible=D, n_latent=1, seed=3).x
FEW = X[:12]
HOLES = np.where(np.random.default_rng(0).random(X.shape) < 0.15, np.nan, X)
quiet = pytest.mark.filterwarnings("ignore:the E-step of", "ignore:the sampled")   # Laplace has kinks


def vae(**options):
    return VAE(1, **{"hidden": (4,), "epochs": 5, **options})


def vem(**options):
    return VariationalEM(1, **{"hidden": (4,), "epochs": 2, **options})


# ---- In one call


@pytest.mark.parametrize("own", [Laplace(3), Sine(), Scale(3), Round(2), Sequential((Linear(3, 2), Sine()))])
def test_a_right_part_is_ok(own):
    report = gradcheck.part(own)
    assert report.ok, report


def test_a_likelihood_that_cannot_draw_is_given_data():
    assert gradcheck.part(LogCosh(D), X).ok
    with pytest.raises(ValueError, match="LogCosh cannot draw data, it has no sample and draw_noise"):
        gradcheck.part(LogCosh(D))


def test_a_wrong_part_is_explained():
    report = gradcheck.part(forgets_the_mask(Laplace(3)))
    wrong = [row.path for row in report.rows if row.verdict == "WRONG"]
    assert wrong == ["masked: f", "masked: params.log_b"]
    report = gradcheck.part(widens(Laplace(3)))
    assert not report.ok and "forward of float32 gives float64" in str(report)


@pytest.mark.parametrize(
    "own, name", [(Sine(), "backward"), (Laplace(3), "backward"), (Round(2), "sample_backward")]
)
def test_a_part_that_writes_into_what_it_was_given_is_told_so(own, name):
    """The next in the chain would be handed other numbers, and the gradients still come out right."""

    class Writes(type(own)):
        pass

    def backward(self, *given, **options):
        given[-1][...] *= 1.0
        return getattr(super(Writes, self), name)(*given, **options)

    setattr(Writes, name, backward)
    writes = Writes(*[getattr(own, field) for field in own.__dataclass_fields__])
    report = gradcheck.part(writes)
    assert not report.ok and f"{name} changes in place what it was given" in str(report)
    assert all(row.verdict == "ok" for row in report.rows), report


def test_what_is_no_part_is_refused():
    with pytest.raises(TypeError, match="int has no forward and backward.*no n_phi"):
        gradcheck.part(3)

    class Flat(Laplace):
        def forward(self, params, f, x, mask=None):
            log_p, cache = super().forward(params, f, x, mask)
            return np.sum(log_p, axis=0), cache

    with pytest.raises(ValueError, match=r"forward must give shape \(3, 4\) here, got \(4,\)"):
        gradcheck.part(Flat(3))


def test_from_the_command_line(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("import sys\nsys.path.insert(0, 'tests')\nfrom own_parts import *\npart = Laplace(3)\n"
                    "wrong = forgets_the_mask(part)\n", encoding="utf-8")

    def run(name):
        command = [sys.executable, "-m", "teachvae", "gradcheck", name]
        return subprocess.run(command, capture_output=True, text=True, check=False, encoding="utf-8")

    done = run(f"{path}:part")
    assert done.returncode == 0 and "masked: params.log_b" in done.stdout, done.stderr
    done = run(f"{path}:wrong")
    assert done.returncode == 1 and "WRONG" in done.stdout
    done = run(f"{path}:Laplace")
    assert done.returncode == 2 and "Laplace is a class: make an object of it" in done.stderr
    done = run(f"{path}:nothing")
    assert done.returncode == 2 and "has no nothing" in done.stderr


# ---- Through every route, and every question


@quiet
@pytest.mark.parametrize("make", [vae, vem])
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_the_parameters_of_a_likelihood_of_ones_own_are_trained_in_the_datas_units(make, scale):
    """What training says of Q is what is kept: neither is left in other units, whatever the data's are."""
    x = scale * X
    model = make(likelihood=Laplace(D), epochs=8 if make is vae else 3).fit(x)
    log_b = model.theta_["likelihood"]["log_b"]
    assert (np.abs(log_b) > 1e-3).all(), "they are where they started"
    Q = model.bound(x, phi=model.phi_) if make is vem else model.bound(x)
    assert model.q_path_[-1] == pytest.approx(Q.mean(), rel=0.05)
    z = np.linspace(-8, 8, 4001)
    f = model.decode(z[:, None])
    log_p = stats.laplace.logpdf(x[:5, None], f, np.exp(log_b)).sum(axis=2) + stats.norm.logpdf(z)
    dense = -special.logsumexp(log_p, axis=1) - np.log(z[1] - z[0])
    np.testing.assert_allclose(model.nlml(x[:5], "grid").values, dense, rtol=0, atol=1e-4)


OWN = [
    {"likelihood": Laplace(D)}, {"likelihood": LogCosh(D)}, {"activation": Sine()}, {"posterior": Round(1)},
    {"decoder": Sequential((Linear(1, D), Scale(D)))},
    {"likelihood": [("gaussian", [0, 1]), (Laplace(2), [2, 3])]},
    {"hidden": (), "posterior": Round(1)},
]


@quiet
@pytest.mark.parametrize("make, options", [
    *((vae, options) for options in OWN),
    *(pytest.param(vem, options, marks=pytest.mark.thorough) for options in OWN),
], ids=lambda given: "-".join(given) if isinstance(given, dict) else given.__name__)
def test_every_question_is_answered(make, options):
    model = make(**options).fit(X)
    again = pickle.loads(pickle.dumps(model))
    Q, ledger = model.bound(FEW), model.gaps(FEW)
    np.testing.assert_array_equal(again.bound(FEW), Q)
    worth = model.nlml(FEW, "grid").values
    assert (Q > worth - 1e-6).all()
    np.testing.assert_allclose(ledger.nlml, worth, rtol=0, atol=1e-5)
    np.testing.assert_allclose(ledger.q_used, Q, rtol=0, atol=1e-9)
    off = np.abs(model.kl_to_posterior(FEW) - (Q - worth))         # a kink costs quadrature its digits
    assert (off < 1e-5 + ledger.amortisation_error + ledger.nlml_error).all()
    for method in ("importance", "ais", "laplace"):
        assert model.nlml(FEW, method).values.shape == (12,)
    assert model.transform(FEW).shape == (12, 1) and model.reconstruct(FEW).shape == (12, D)
    assert np.isfinite(model.impute(HOLES[:12])).all()
    assert np.isfinite(model.draw(FEW, 3).z).all()
    if hasattr(model.model_.likelihood, "draw_noise"):             # LogCosh leaves it out
        assert np.isfinite(model.impute(HOLES[:12], 2)).all()
        assert model.calibration(9, 3).ranks.shape == (9, 1)
    theirs = clone(model)
    assert repr(theirs.get_params()) == repr(model.get_params())


@quiet
@pytest.mark.parametrize("make", [vae, vem])
def test_missing_entries_and_both_precisions(make):
    model = make(likelihood=Laplace(D), missing="marginalise").fit(HOLES)
    assert model.nlml(HOLES[:12], "grid").values.shape == (12,)
    narrow = make(likelihood=Laplace(D), dtype="float32").fit(X)
    assert narrow.bound(FEW).dtype == np.float32 and narrow.theta_["likelihood"]["log_b"].dtype == np.float32


def test_what_is_missing_is_named_by_the_question():
    model = vae(likelihood=LogCosh(D)).fit(X)
    with pytest.raises(TypeError, match="sample needs a likelihood that can draw.*LogCosh has no draw_noise"):
        model.sample(3)
    with pytest.raises(ValueError, match="denoise takes off.*noisier.*LogCosh"):
        model.denoise(FEW, 0.1)


def test_a_bare_linear_layer_is_a_decoder_too():
    decoders = Sequential((Linear(1, D),)), Linear(1, D)
    whole, bare = (vem(decoder=d, epochs=None, tol=1e-2).fit(X) for d in decoders)
    np.testing.assert_array_equal(bare.bound(X), whole.bound(X))
    assert bare.converged_ and vae(decoder=Linear(1, D)).fit(X).sample(2, random_state=0).shape == (2, D)


def test_optimisers_encoders_and_recognition_networks():
    slow = vae(optimizer=Signs(), epochs=20).fit(X)
    assert slow.q_path_[-1] < slow.q_path_[0]
    own = vae(recognition=Sequential((Scale(D), Linear(D, 2)))).fit(X)
    far = vae(recognition=Sequential((Scale(D), Linear(D, 2)))).fit(X + 3)
    for model, x in ((own, X), (far, X + 3)):
        assert model.q_path_[-1] == pytest.approx(model.bound(x).mean(), rel=0.2)
    code = Autoencoder(1, encoder=mlp(D, (3,), 1), decoder=Sequential((Linear(1, D), Scale(D))), epochs=5,
                       optimizer=Signs()).fit(X)
    assert code.reconstruct(X).shape == X.shape


def test_a_trace_shows_parts_of_ones_own(rng=np.random.default_rng(0)):
    model = vae(likelihood=Laplace(D), posterior=Round(1), activation=Sine()).fit(X)
    trace = Trace(model.model_, model.theta_, model.encode(FEW), FEW, rng.standard_normal((2, 12, 1)))
    assert trace["likelihood.dlog_b"].shape == (D,) and "log_b" in str(trace)
    trace.replay()


# ---- Doors


@pytest.mark.parametrize("options, message", [
    ({"likelihood": object()}, "likelihood must be one of"),
    ({"decoder": Tanh()}, "this network, Tanh, has no n_in, n_out; a network needs"),
    ({"decoder": mlp(2, (), D)}, "decoder must go from 1 to 4 numbers, this one goes from 2 to 4"),
    ({"posterior": DiagonalGaussian}, "posterior must be an object, got the class DiagonalGaussian"),
    ({"posterior": DiagonalGaussian(2)}, "the posterior has 2 latent variables, n_components is 1"),
    ({"posterior": object()}, "this posterior, object, has no n_latent, n_phi"),
    ({"optimizer": object()}, "this optimizer, object, has no init, step; .* networks/optimizers.py"),
    ({"activation": object()}, "this activation, object, has no forward, backward"),
])
def test_what_a_part_lacks_is_named_at_the_door(options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        vae(**options).fit(X)


def test_a_likelihood_without_all_its_members_is_named():
    class Half:
        n_visible = n_f = D

        def forward(self, params, f, x, mask=None):
            return 0

    with pytest.raises(TypeError, match="Half, has no init, backward, mean; .*inherit from teachvae"):
        vae(likelihood=Half()).fit(X)
    assert set(parts.PROTOCOLS) == {"likelihood", "network", "activation", "posterior", "optimizer"}


@pytest.mark.parametrize("n_latent", [2, 3])
def test_a_family_of_ones_own_beside_the_full_gaussian(n_latent):
    """One s for all of z costs at least what a full covariance does, and a ledger says how much."""
    model = VAE(n_latent, hidden=(4,), epochs=3, posterior=Round(n_latent)).fit(X)
    ledger = model.gaps(FEW[:4])
    assert ledger.phi_full.shape == (4, n_latent + n_latent * (n_latent + 1) // 2)
    slack = 1e-6 if n_latent == 2 else 4 * ledger.approximation_error
    assert (ledger.q_optimal - ledger.q_full > -slack).all()
    assert (ledger.q_used - ledger.q_optimal > -1e-6 - ledger.amortisation_error).all()


def test_the_example_of_contributing_runs_as_it_stands(capsys):
    page = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    room = {"__name__": "example"}
    sys.modules["example"] = types.ModuleType("example")           # a dataclass looks its module up
    exec(example, room)
    assert "masked: params.log_b" in capsys.readouterr().out
    assert room["model"].set_params(epochs=2, likelihood=room["Laplace"](D)).fit(X).bound(FEW).shape == (12,)


class Bent:
    """A layer, as a table holds it: made without arguments."""

    def forward(self, params, x):
        return x + 0.5 * namespace(x).sin(x), x

    def backward(self, params, cache, dy, *, need_dx=True, need_dparams=True):
        return dy * (1 + 0.5 * namespace(dy).cos(cache)), {}


@quiet
def test_a_new_line_in_a_table_is_found_everywhere(monkeypatch):
    """teachvae gradcheck, the command line, the estimators and the cases of the tests go through the tables.
    """
    monkeypatch.setitem(ACTIVATIONS, "bent", Bent)
    monkeypatch.setitem(LIKELIHOODS, "laplace", Laplace)
    monkeypatch.setitem(POSTERIORS, "round", Round)
    names = [name for name, _ in package.all_checks()]
    for name in ("bent", "mlp bent", "laplace", "laplace, masked", "round sample", "round kl", "round log q",
                 "bound, round, laplace, sampled KL, amortised"):
        assert name in names
    checks = dict(package.all_checks())
    for name in ("bent", "laplace, masked", "round log q"):
        assert gradcheck.draw_until_smooth(lambda a: checks[name](np.random.default_rng(a)), range(9)).ok
    assert cli._parser().parse_args(["compare", "--likelihood", "laplace"]).likelihood == "laplace"
    model = vem(likelihood="laplace", activation="bent", posterior="round").fit(X)
    assert model.model_.likelihood == Laplace(D) and model.model_.posterior == Round(1)
    with pytest.raises(ValueError, match="likelihood must be one of .*'laplace'"):
        vem(likelihood="laplas").fit(X)
    (whole, masked, *_) = cases.likelihood(
        "laplace", Laplace(3), lambda params, f, x: stats.laplace.logpdf(x, f, np.exp(params["log_b"]))
    )
    line = 2e-3 * np.arange(-20000, 20001.0)[:, None]
    total = cases.Total("laplace", Laplace(1), line, np.full(len(line), 2e-3), rtol=1e-5)
    test_components.test_densities_sum_to_one_and_have_their_mean(total, np.random.default_rng(0))
    for case in (whole, masked):
        inputs = case.inputs(np.random.default_rng(1))
        np.testing.assert_allclose(case.forward(inputs)[0], case.oracle(inputs), rtol=1e-12, atol=1e-12)


# ---- What a newcomer got wrong


@dataclass(frozen=True)
class Residual(Sequential):
    """y = x + net(x): a Sequential by inheritance, and no Sequential by what it does."""

    def forward(self, params, x):
        y, cache = super().forward(params, x)
        return x + y, cache

    def backward(self, params, cache, dy, *, need_dx=True, need_dparams=True):
        dx, dparams = super().backward(params, cache, dy, need_dparams=need_dparams)
        return dx + dy, dparams


@dataclass(frozen=True)
class TanhLinear(Linear):
    """y = tanh(x W + b): a Linear by inheritance alone."""

    def forward(self, params, x):
        y, cache = super().forward(params, x)
        return np.tanh(y), (cache, np.tanh(y))

    def backward(self, params, cache, dy, *, need_dx=True, need_dparams=True):
        x, y = cache
        return super().backward(params, x, dy * (1 - y * y), need_dx=need_dx, need_dparams=need_dparams)


@pytest.mark.parametrize("options", [
    {"decoder": Sequential((Linear(1, D), Residual((Linear(D, 3), Tanh(), Linear(3, D)))))},
    {"recognition": Sequential((Residual((Linear(D, 3), Tanh(), Linear(3, D))), Linear(D, 2)))},
    {"decoder": TanhLinear(1, D)},
], ids=lambda options: "-".join(options))
def test_what_inherits_from_a_layer_is_not_taken_for_it(options):
    """Nothing is folded into a layer whose forward is another: what was trained is what is kept."""
    model = vae(epochs=30, **options).fit(X)
    assert model.q_path_[-1] == pytest.approx(model.bound(X).mean(), rel=0.1)
    z = np.linspace(-8, 8, 8001)
    f, sd = model.decode(z[:, None]), np.sqrt(model.noise_variance_)
    log_p = stats.norm.logpdf(FEW[:, None], f, sd).sum(axis=2)
    dense = -special.logsumexp(log_p + stats.norm.logpdf(z), axis=1) - np.log(z[1] - z[0])
    np.testing.assert_allclose(model.nlml(FEW, "grid").values, dense, rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match="needs a linear decoder"):
        model.nlml(FEW, "exact")


class IgnoresMask(Laplace):
    def forward(self, params, f, x, mask=None):
        return super().forward(params, f, x)


class HalfUnits(Laplace):
    """Standard units without their parameters'."""

    def standard_units(self, mean, variance):
        return mean, np.sqrt(variance)

    def units_of_f(self, shift, scale):
        return shift, scale


class OneWay(Laplace):
    def backward(self, params, cache, dlog_p):
        return super().backward(params, cache, dlog_p)


@pytest.mark.parametrize("own, words", [
    (IgnoresMask(3), "log p depends on an entry whose mask is 0"),
    (HalfUnits(3), "units_of_f, rescaled and rescale_params go together"),
    (OneWay(3), "backward with need_dparams=False fails, TypeError"),
])
def test_gradcheck_part_finds_what_no_gradient_shows(own, words):
    report = gradcheck.part(own)
    assert not report.ok and words in str(report)


def test_a_class_is_not_an_object():
    with pytest.raises(TypeError, match=r"a part is an object, got the class Laplace: give Laplace\(…\)"):
        gradcheck.part(Laplace)
    with pytest.raises(ValueError, match=r"likelihood must be an object, got the class Laplace: give"):
        vae(likelihood=Laplace).fit(X)


def test_a_gradient_of_another_shape_is_not_broadcast():
    class Summed(Laplace):
        def backward(self, params, cache, dlog_p, *, need_dparams=True):
            df, dparams = super().backward(params, cache, dlog_p, need_dparams=True)
            return df, {"log_b": dparams["log_b"].sum()}

    with pytest.raises(ValueError, match=r"a gradient has shape \(\) where its parameter has \(4,\)"):
        vae(likelihood=Summed(D)).fit(X)


def test_a_column_without_a_spread_has_no_unit():
    class Units(Laplace):
        def standard_units(self, mean, variance):
            return mean, np.sqrt(variance)

    x = X.copy()
    x[:, 1] = 4.0
    with pytest.raises(ValueError, match=r"columns 1 \(counted from 0\) have a spread of 0.*drop them"):
        vae(likelihood=Units(D)).fit(x)
