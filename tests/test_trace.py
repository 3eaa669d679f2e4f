"""Tests of trace.py: the trace is the bound, bit for bit; its rows fit together and are found by name; a
replay notices a single bit; the step is the training's; and the tables say all this readably."""

from html.parser import HTMLParser
import re

from cases import GAUSSIANS
from derivations.book import all_cards
import numpy as np
import pytest
from scipy import stats

from teachvae import bound, datasets, layers, likelihoods, tree
from teachvae.arrays.backend import get_backend, namespace, to_numpy
from teachvae.arrays.observed import Observed, network_input
from teachvae.course import trace
from teachvae.course.trace import ReplayError, Trace
from teachvae.model import Model
from teachvae.networks.optimizers import Adam, SGD
from teachvae.networks.training import Run, minibatches
from teachvae.routes.vae import VAE, amortised, recognition_network
from teachvae.routes.variational_em import VariationalEM

N, D, K, S = 3, 4, 2, 5
NUMPY = get_backend()


class Setting:
    """A model, parameters away from zero, and data, noise and weights for it."""

    def __init__(
        self, family="diagonal", likelihood="gaussian", hidden=(6,), activation="tanh", separate=False,
        masked=False,
    ):
        rng = np.random.default_rng(4)
        p = {"gaussian": likelihoods.Gaussian, "bernoulli": likelihoods.Bernoulli}[likelihood](D)
        self.model = Model(layers.mlp(K, hidden, D, activation), p, K, GAUSSIANS[family](K))
        n_in = 2 * D if masked else D
        self.network = recognition_network(n_in, hidden, self.model.posterior, activation, separate)

        def moved(part):
            return tree.map(lambda leaf: leaf + rng.uniform(0.1, 0.4, leaf.shape), part.init(rng, NUMPY))

        self.theta, self.v = moved(self.model), moved(self.network)
        self.phi = 0.5 * rng.standard_normal((N, self.model.posterior.n_phi))
        x = rng.standard_normal((N, D))
        self.x = (x > 0).astype(float) if likelihood == "bernoulli" else x
        self.eta = rng.standard_normal((S, N, K))
        self.weights = rng.uniform(0.1, 0.3, S)
        mask = (rng.random((N, D)) < 0.7).astype(float)
        self.x = Observed(self.x, mask) if masked else self.x
        self.dQ = rng.uniform(0.5, 1.5, N)

    @property
    def params(self):
        return {"theta": self.theta, "recognition": self.v}

    def trace(self, **options):
        return Trace(self.model, self.theta, self.phi, self.x, self.eta, **options)

    def vae(self, **options):
        return Trace(self.model, self.theta, None, self.x, self.eta, recognition=self.network,
                     recognition_params=self.v, **options)


def same_bits(a, b):
    a, b = to_numpy(a), to_numpy(b)
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def same_trees(a, b):
    a, b = tree.leaves(a), tree.leaves(b)
    return [path for path, _ in a] == [path for path, _ in b] and all(
        same_bits(x, y) for (_, x), (_, y) in zip(a, b, strict=True)
    )


# ---- the trace is the bound


@pytest.mark.parametrize("family", GAUSSIANS)
@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
@pytest.mark.parametrize("kl", ["analytic", "sampled"])
@pytest.mark.parametrize("masked, more", [(False, ()), (True, ("weights", "dQ"))])
def test_bit_for_bit_the_bound(family, likelihood, kl, masked, more):
    s = Setting(family, likelihood, masked=masked)
    options = {name: getattr(s, name) for name in more}
    t = s.trace(kl=kl, **options)
    dQ = options.pop("dQ", np.ones(N) / N)
    Q, cache = bound.forward(s.model, s.theta, s.phi, s.x, s.eta, kl=kl, **options)
    dphi, dtheta = bound.backward(s.model, s.theta, cache, dQ)
    assert same_bits(t["Q"], Q) and same_bits(t["dQ"], dQ)
    assert same_bits(t.gradient("phi"), dphi) and same_bits(t["dphi"], dphi)
    assert same_trees(t.gradients, {"theta": dtheta, "phi": dphi})
    for path, leaf in tree.leaves(dtheta):
        assert same_bits(t.gradient(path), leaf), path


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("hidden", [(), (6,), (5, 4)])
@pytest.mark.parametrize("kl", ["analytic", "sampled"])
@pytest.mark.parametrize("masked", [False, True])
def test_bit_for_bit_the_vae(separate, hidden, kl, masked):
    s = Setting(hidden=hidden, separate=separate, masked=masked)
    t = s.vae(kl=kl)
    mean_Q, grads = amortised(s.model, s.network, s.params, s.x, s.eta, kl=kl)
    assert t["Q"] @ t["dQ"] == mean_Q
    assert same_trees(t.gradients, grads)
    assert same_bits(t["phi"], s.network.forward(s.v, network_input(s.x))[0])
    assert list(t)[0] == "x" and ("mask" in t) is masked
    for path, leaf in tree.leaves(grads["recognition"], "recognition"):
        assert same_bits(t.gradient(path), leaf), path


def test_a_trained_vae_can_be_traced():
    s = Setting()
    X = np.random.default_rng(0).standard_normal((30, D))
    vae = VAE(K, hidden=(5,), epochs=2).fit(X)
    t = Trace(vae.model_, vae.theta_, None, X[:N], s.eta, recognition=vae.recognition_,
              recognition_params=vae.recognition_params_)
    phi, _ = vae.recognition_.forward(vae.recognition_params_, X[:N])
    np.testing.assert_array_equal(t["phi"], phi)
    np.testing.assert_allclose(vae.encode(X[:N]), phi, rtol=1e-12, atol=1e-13)  # in centred units


# ---- the rows fit together


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
def test_every_value_by_hand(kl):
    s = Setting()
    t = s.vae(kl=kl, weights=s.weights)
    first, _, last = s.v
    y = s.x @ first["W"] + first["b"]
    phi = np.tanh(y) @ last["W"] + last["b"]
    m, log_s = phi[:, :K], phi[:, K:]
    z = m + np.exp(log_s) * s.eta
    first, _, last = s.theta["decoder"]
    a = z.reshape(-1, K) @ first["W"] + first["b"]
    f = (np.tanh(a) @ last["W"] + last["b"]).reshape(S, N, D)
    log_psi = s.theta["likelihood"]["log_psi"]
    log_p = stats.norm.logpdf(s.x, f, np.exp(0.5 * log_psi)).sum(axis=2)
    log_prior = stats.norm.logpdf(z).sum(axis=2)
    log_q = stats.norm.logpdf(z, m, np.exp(log_s)).sum(axis=2)
    kl_n = 0.5 * (m**2 + np.exp(2 * log_s) - 1 - 2 * log_s).sum(axis=1)
    expected = {
        "x": s.x, "recognition[0].W": s.v[0]["W"], "recognition[0].b": s.v[0]["b"], "recognition[0].y": y,
        "recognition[1].y": np.tanh(y), "recognition[2].W": s.v[2]["W"], "recognition[2].b": s.v[2]["b"],
        "phi": phi, "m": m, "log_s": log_s, "s": np.exp(log_s), "eta": s.eta, "weights": s.weights, "z": z,
        "decoder[0].W": first["W"], "decoder[0].b": first["b"], "decoder[0].y": a,
        "decoder[1].y": np.tanh(a), "decoder[2].W": last["W"], "decoder[2].b": last["b"], "f": f,
        "likelihood.log_psi": log_psi, "log_p": log_p,
    }
    if kl == "analytic":
        expected |= {"kl": kl_n, "Q": kl_n - s.weights @ log_p}
    else:
        expected |= {"log_prior": log_prior, "log_q": log_q, "Q": s.weights @ (log_q - log_prior - log_p)}
    assert [row.name for row in t.forward] == list(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(t[name], value, rtol=1e-12, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
@pytest.mark.parametrize("family", GAUSSIANS)
def test_contributions_add_up(kl, family):
    t = Setting(family).trace(kl=kl)
    if kl == "analytic":
        assert same_bits(t["dphi"], t["dphi_kl"] + t["dphi_z"])
        assert t["dz"].shape == (S, N, K)
    else:
        assert same_bits(t["dphi"], t["dphi_q"] + t["dphi_z"])
        assert same_bits(t["dz"], t["dz_f"] + t["dz_q"] + t["dz_prior"])
    assert same_bits(t["dm"], t["dphi"][:, :K])
    if family == "diagonal":
        assert same_bits(t["dlog_s"], t["dphi"][:, K:])


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
def test_gradients_of_what_lies_between(kl):
    """Σ dQ Q as a function of one intermediate, what comes before it as it was, by central differences."""
    s = Setting()
    t = s.trace(kl=kl, dQ=s.dQ)
    _, _, last = s.theta["decoder"]
    m, log_s = t["m"], t["log_s"]

    def total(f=None, y0=None, y1=None, z=None, log_p=None):
        if z is not None:
            y0 = z.reshape(-1, K) @ s.theta["decoder"][0]["W"] + s.theta["decoder"][0]["b"]
        if y0 is not None:
            y1 = np.tanh(y0)
        if y1 is not None:
            f = (y1 @ last["W"] + last["b"]).reshape(S, N, D)
        if f is not None:
            log_p = stats.norm.logpdf(s.x, f, np.exp(0.5 * s.theta["likelihood"]["log_psi"])).sum(axis=2)
        z = t["z"] if z is None else z
        if kl == "analytic":
            return s.dQ @ (t["kl"] - log_p.mean(axis=0))
        log_q = stats.norm.logpdf(z, m, np.exp(log_s)).sum(axis=2)
        return s.dQ @ (log_q - stats.norm.logpdf(z).sum(axis=2) - log_p).mean(axis=0)

    for argument, name in (
        ("log_p", "log_p"), ("f", "f"), ("y1", "decoder[1].y"), ("y0", "decoder[0].y"), ("z", "z")
    ):
        value = np.array(t[name])
        numeric = np.zeros(value.shape)
        for i in np.ndindex(value.shape):
            up, down = value.copy(), value.copy()
            up[i] += 1e-5
            down[i] -= 1e-5
            numeric[i] = (total(**{argument: up}) - total(**{argument: down})) / 2e-5
        np.testing.assert_allclose(t.gradient(name), numeric, rtol=1e-6, atol=1e-8, err_msg=name)


def test_every_gradient_has_the_shape_of_its_quantity_and_its_own_row():
    for family in GAUSSIANS:
        for kl in ("analytic", "sampled"):
            t = Setting(family, separate=True).vae(kl=kl, optimizer=Adam())
            names = list(t)
            assert len(names) == len(set(names))
            for row in t.forward:
                if row.gradient is not None:
                    assert row.gradient.shape == row.value.shape
                    start, dot, last = row.name.rpartition(".")
                    assert row.gradient is t[f"{start}{dot}d{last}"] is t.gradient(row.name)
            without = {row.name for row in t.forward if row.gradient is None}
            assert without == {"x", "eta"} | ({"s"} if family == "diagonal" else {"L"})


# ---- by name


def test_unknown_names_are_answered_with_the_names_there_are():
    t = Setting().trace()
    assert "z" in t and "dz" in t and "encoder" not in t
    for ask in (t.__getitem__, t.gradient, t.row):
        with pytest.raises(KeyError, match="no quantity 'Z' in this trace; there are x, phi, m, log_s, s, "):
            ask("Z")
    with pytest.raises(KeyError, match="backward has no gradient of 'eta'; it has those of phi, m, log_s, z"):
        t.gradient("eta")


def test_what_a_trace_starts_from():
    s = Setting()
    with pytest.raises(ValueError, match="starts at phi, or with phi=None at a recognition .* got neither"):
        Trace(s.model, s.theta, None, s.x, s.eta)
    with pytest.raises(ValueError, match="got both"):
        s.trace(recognition=s.network, recognition_params=s.v)
    for one in ({"recognition": s.network}, {"recognition_params": s.v}):
        phi = None if "recognition" in one else s.phi
        with pytest.raises(ValueError, match="come together; got only one"):
            Trace(s.model, s.theta, phi, s.x, s.eta, **one)
    with pytest.raises(ValueError, match="kl must be 'analytic' or 'sampled', got 'exact'"):
        s.trace(kl="exact")


# ---- the step


class InOrder:
    """A Generator that does not shuffle."""

    def permutation(self, n):
        return np.arange(n)


@pytest.mark.parametrize("optimizer", [Adam(0.03), SGD(0.03)])
def test_two_steps_are_two_epochs_of_training(optimizer):
    s = Setting()
    lower = tree.map(lambda leaf: np.full_like(leaf, -np.inf), s.params)
    log_psi = s.theta["likelihood"]["log_psi"]
    lower["theta"]["likelihood"]["log_psi"] = log_psi + [0.7, -0.7, -0.7, -0.7]
    given = tree.map(np.copy, s.params)

    def objective(params, rows):
        return amortised(s.model, s.network, params, s.x[rows], s.eta)

    run = Run(s.params, {"shuffle": InOrder()})
    minibatches(objective, run, N, optimizer=optimizer, epochs=2, batch_size=N, lower=lower)
    one = s.vae(optimizer=optimizer, lower=lower)
    before = tree.map(np.copy, one.state)
    v = one.after["recognition"]
    two = Trace(s.model, one.after["theta"], None, s.x, s.eta, recognition=s.network, recognition_params=v,
                optimizer=optimizer, state=one.state, lower=lower)
    assert same_trees(two.after, run.params) and same_trees(two.state, run.optimizer)
    assert two.replay() and same_trees(one.state, before)          # no step changed what it was given
    assert same_trees(s.params, given) and same_trees(one.before, given)

    moved = {name: (old, gradient, new) for name, old, gradient, new in one.updates()}
    assert list(moved) == [path for path, _ in tree.leaves(s.theta) + tree.leaves(s.v, "recognition")]
    old, gradient, new = moved["decoder[0].W"]
    assert same_bits(old, one["decoder[0].W"]) and same_bits(gradient, one.gradient("decoder[0].W"))
    np.testing.assert_array_equal(np.sign(old - new), np.sign(gradient))
    new = moved["likelihood.log_psi"][2]
    assert new[0] == log_psi[0] + 0.7 and np.all(new[1:] < log_psi[1:] + 0.7)  # one met its bound


def test_without_a_network_the_step_moves_phi():
    s = Setting()
    t = s.trace(optimizer=SGD(0.5))
    np.testing.assert_allclose(t.after["phi"], s.phi - 0.5 * t["dphi"], rtol=1e-14)
    assert [name for name, *_ in t.updates()][-1] == "phi"
    assert s.trace().after is None and s.trace().updates() == [] and "Step" not in str(s.trace())


# ---- again


@pytest.mark.parametrize("start", ["trace", "vae"])
def test_a_replay_is_the_same_bit_for_bit(start):
    s = Setting(activation="softplus", masked=True)
    t = getattr(s, start)(optimizer=Adam(), kl="sampled", weights=s.weights)
    again = t.replay()
    assert again is not t and t.differences(again) == [] and same_trees(again.after, t.after)


def test_later_training_does_not_reach_into_a_trace():
    s = Setting()
    t = s.vae(optimizer=Adam())
    W, text = np.copy(s.theta["decoder"][0]["W"]), str(t)
    for leaf in (s.x, s.eta, *(leaf for _, leaf in tree.leaves(s.params))):
        leaf += 1.0
    assert same_bits(t["decoder[0].W"], W) and str(t) == text and t.replay()


def test_one_bit_is_noticed():
    s = Setting()
    t = s.trace(optimizer=Adam())
    s.phi[1, 0] = np.nextafter(s.phi[1, 0], 9)
    found = t.differences(s.trace(optimizer=Adam()))
    assert found[:2] == ["phi", "m"] and not {"x", "log_s", "eta", "decoder[0].W"} & set(found)
    assert t.differences(s.trace(optimizer=Adam(0.5)))[-1] == "phi after the step"
    assert "weights" in t.differences(s.trace(weights=s.weights))
    assert t.differences(s.trace(weights=None, dQ=np.full(N, 1 / N), optimizer=Adam())) == found
    shared = Setting()
    shared.eta = s.eta[:, :1]
    assert "eta" in shared.trace().differences(s.trace())
    assert trace._same(np.zeros((2, 3)), np.zeros((2, 3)))
    assert not trace._same(np.zeros((2, 3)), np.zeros((3, 2)))
    assert not trace._same(np.zeros(2), np.zeros(4, dtype="float32"))


class Dropout:
    """A layer that draws its own noise in the forward: what the package never does."""

    rng = np.random.default_rng(0)

    def forward(self, params, x):
        keep = self.rng.random(x.shape) < 0.5
        return x * keep, keep

    def backward(self, params, cache, dy, *, need_dx=True, need_dparams=True):
        return dy * cache, {}


def test_a_layer_that_draws_its_own_noise_is_caught():
    s = Setting()
    first, activation, last = s.model.decoder.layers
    s.model = Model(layers.Sequential((first, activation, Dropout(), last)), s.model.likelihood, K)
    s.theta["decoder"].insert(2, {})
    t = s.trace()
    assert t.row("decoder[2].y").symbol == "Dropout" and t.row("decoder[2].y").equation == ""
    with pytest.raises(ReplayError, match=r"differs from the trace in decoder\[2\].y, f, log_p, Q"):
        t.replay()


def test_a_layer_without_source_whose_forward_is_the_identity():
    space = {}
    exec("class Same:\n  def forward(self, params, x): return x, None\n"
         "  def backward(self, params, cache, dy, need_dx=True, need_dparams=True): return dy, {}", space)
    s = Setting()
    s.model = Model(layers.Sequential((*s.model.decoder.layers, space["Same"]())), s.model.likelihood, K)
    s.theta["decoder"].append({})
    t = s.trace()
    Q, _ = bound.forward(s.model, s.theta, s.phi, s.x, s.eta)
    assert same_bits(t["Q"], Q) and t.row("f").equation == "" and len(set(t)) == len(list(t))


# ---- equations


LAYERS = {                                                         # Linear, Tanh, Linear
    "[0].W": "", "[0].b": "", "[0].y": "4.1", "[1].y": "4.5", "[2].W": "", "[2].b": "",
}
LAYERS_BACK = {
    "[2].dW": "4.3", "[2].db": "4.4", "[1].dy": "4.2", "[0].dy": "4.6", "[0].dW": "4.3", "[0].db": "4.4",
}
OF_FAMILY = {
    ("diagonal", "analytic"): {
        "z": "1.10, 3.1", "kl": "3.4", "dphi_kl": "3.5, 3.6", "dphi_z": "3.2, 3.3",
        "dm": "3.5, 3.2", "dlog_s": "3.6, 3.3",
    },
    ("diagonal", "sampled"): {
        "z": "1.10, 3.1", "log_q": "3.7", "dz_q": "3.8", "dphi_q": "3.9, 3.10", "dphi_z": "3.2, 3.3",
        "dm": "3.9, 3.2", "dlog_s": "3.10, 3.3",
    },
    ("full", "analytic"): {
        "z": "1.10, 3.13", "kl": "3.16", "dphi_kl": "3.17, 3.18, 3.12", "dphi_z": "3.14, 3.15, 3.12",
        "dm": "3.17, 3.14",
    },
    ("full", "sampled"): {
        "z": "1.10, 3.13", "log_q": "3.19", "dz_q": "3.20", "dphi_q": "3.21, 3.22, 3.12",
        "dphi_z": "3.14, 3.15, 3.12", "dm": "3.21, 3.14",
    },
}
OF_KL = {
    "analytic": {"Q": "1.8", "dkl": "", "dz": "4.2", "dphi": "1.12"},
    "sampled": {
        "log_prior": "1.1", "Q": "1.9", "dlog_prior": "1.13", "dlog_q": "1.13", "dz_f": "4.2",
        "dz_prior": "1.31", "dz": "1.13", "dphi": "1.13",
    },
}
OF_LIKELIHOOD = {
    "gaussian": {
        "likelihood.log_psi": "", "log_p": "5.1", "df": "5.2", "likelihood.dlog_psi": "5.3, 5.4"
    },
    "bernoulli": {"log_p": "5.7", "df": "5.8"},
}


@pytest.mark.parametrize("likelihood", OF_LIKELIHOOD)
@pytest.mark.parametrize("kl", OF_KL)
@pytest.mark.parametrize("family", GAUSSIANS)
def test_every_row_has_its_own_equations(family, kl, likelihood):
    expected = {"x": "", "phi": "1.17, 4.1", "m": "", "eta": "", "f": "4.1", "dQ": "", "dlog_p": "1.11"}
    expected |= {"log_s": "", "s": ""} if family == "diagonal" else {"L": ""}
    expected |= OF_FAMILY[family, kl] | OF_KL[kl] | OF_LIKELIHOOD[likelihood]
    for root in ("decoder", "recognition"):
        expected |= {root + name: number for name, number in (LAYERS | LAYERS_BACK).items()}
    t = Setting(family, likelihood).vae(kl=kl)
    assert {row.name: row.equation for row in (*t.forward, *t.backward)} == expected


@pytest.mark.parametrize("activation, dy", [
    ("tanh", "4.6"), ("relu", "4.8"), ("sigmoid", "4.10"), ("softplus", "4.12"),
])
def test_equation_of_what_an_activation_hands_back(activation, dy):
    assert Setting(activation=activation).trace().row("decoder[0].dy").equation == dy


def test_equations_of_phi():
    assert Setting(separate=True).vae().row("phi").equation == "1.17"  # two networks' last layers made it
    assert Setting().trace().row("phi").equation == ""


def with_likelihood(likelihood, params, x=None):
    s = Setting()
    s.model = Model(layers.mlp(K, (6,), likelihood.n_f), likelihood, K)
    s.theta = {"decoder": s.model.init(np.random.default_rng(0), NUMPY)["decoder"], "likelihood": params}
    s.x = s.x if x is None else x
    return s.trace()


@pytest.mark.parametrize("likelihood, x, log_p, df", [
    (likelihoods.PredictedGaussian(D), None, "5.21", "5.22, 5.23"),
    (likelihoods.Poisson(D), np.ones((N, D)), "5.13", "5.14"),
    (likelihoods.Categorical((2, 2)), np.tile([1.0, 0.0, 0.0, 1.0], (N, 1)), "5.30", "5.31"),
])
def test_equations_of_likelihoods_without_parameters(likelihood, x, log_p, df):
    t = with_likelihood(likelihood, {}, x)
    assert (t.row("log_p").equation, t.row("df").equation) == (log_p, df)


def test_equations_of_a_student_t():
    t = with_likelihood(likelihoods.StudentT(D), {"log_psi": np.zeros(D)})
    names = ("log_p", "df", "likelihood.dlog_psi")
    assert [t.row(name).equation for name in names] == ["5.34", "5.35", "5.36"]


@pytest.mark.parametrize("decoder, f, dz", [
    (datasets.Spiral(), "4.17", "4.18"), (datasets.BentSheet(), "4.19", "4.20"),
])
def test_equations_of_the_decoders_that_made_data(decoder, f, dz):
    rng = np.random.default_rng(0)
    model = Model(decoder, likelihoods.Gaussian(decoder.n_out, 0.1), decoder.n_in)
    phi, x = rng.standard_normal((N, 2 * decoder.n_in)), rng.standard_normal((N, decoder.n_out))
    t = Trace(model, {"decoder": {}, "likelihood": {}}, phi, x, rng.standard_normal((S, N, decoder.n_in)))
    assert (t.row("f").equation, t.row("dz").equation) == (f, dz)


class Doubled:
    """y = 2 x. Its backward has no line that makes dx."""

    def forward(self, params, x):
        y = 2 * x                                                  # (4.1)
        return y, None

    def backward(self, params, cache, dy, *, need_dx=True, need_dparams=True):
        half = dy + 0                                              # (4.3)
        return 2 * half, {}                                        # (4.2)


def test_what_no_tagged_line_makes_has_no_number():
    s = Setting()
    first, _, last = s.model.decoder.layers
    s.model = Model(layers.Sequential((first, Doubled(), last)), s.model.likelihood, K)
    t = s.trace()
    assert (t.row("decoder[1].y").equation, t.row("decoder[0].dy").equation) == ("4.1", "")


@pytest.mark.parametrize("family", GAUSSIANS)
@pytest.mark.parametrize("activation", layers.ACTIVATIONS)
@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_every_number_is_defined_and_what_is_computed_has_one(family, activation, likelihood):
    defined = set(all_cards())
    given = {"x", "eta", "m", "log_s", "s", "L", "dQ", "dkl"}
    for kl in ("analytic", "sampled"):
        t = Setting(family, likelihood, activation=activation).vae(kl=kl)
        for row in (*t.forward, *t.backward):
            numbers = row.equation.split(", ") if row.equation else []
            assert set(numbers) <= defined, row.name
            parameter = re.search(r"\.(W|b|log_psi)$", row.name)
            assert numbers or row.name in given or parameter, row.name


# ---- on the page


def test_the_text_tables():
    s = Setting()
    t = s.vae(optimizer=Adam(0.01))
    text = str(t)
    heading, *blocks = text.split("\n\n")
    assert heading.startswith("N = 3 data cases, D = 4, K = 2, S = 5 samples; analytic KL; mean Q = ")
    assert f"mean Q = {t['Q'].mean():.6g} nats" in heading
    assert "Σ_n dQ_n Q_n = " in str(s.trace(dQ=s.dQ))
    titles, heads, names = zip(*(
        (lines[0], lines[1].split(), [line.split()[0] for line in lines[2:]])
        for lines in (block.split("\n") for block in blocks)
    ), strict=True)
    assert titles[0].startswith("Forward") and titles[1].startswith("Backward")
    assert titles[2] == "Step: Adam(learning_rate=0.01, beta1=0.9, beta2=0.999, epsilon=1e-08), equation 6.2"
    assert heads == (["name", "symbol", "shape", "value", "gradient", "equation"],
                     ["name", "symbol", "shape", "value", "equation"],
                     ["name", "shape", "before", "gradient", "after"])
    assert names == ([row.name for row in t.forward], [row.name for row in t.backward],
                     [name for name, *_ in t.updates()])
    for block in blocks:                                           # a column starts where its head does
        _, head, *lines = block.split("\n")
        for start in (head.index(word) for word in head.split()[1:]):
            assert all(line[start - 1 : start] in (" ", "") for line in lines)
    line = next(line for line in blocks[0].split("\n") if line.startswith("Q "))
    assert ", ".join(f"{q:.4g}" for q in t["Q"]) in line
    line = next(line for line in blocks[0].split("\n") if line.startswith("z "))
    assert f"{t['z'].min():.3g} … {t['z'].max():.3g}, mean {t['z'].mean():.3g}" in line
    assert "(5, 3, 2)" in line
    assert max(map(len, text.split("\n"))) < 150
    assert repr(t).startswith("<Trace of 24 quantities: N = 3 data cases")


class Page(HTMLParser):
    """Checks that tags are closed in order, and collects tags, attributes and text."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)
        self.tags.append(tag)
        self.attributes += attributes

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append((self.open[-1], data))


def test_the_html_tables():
    t = Setting().vae(optimizer=Adam())
    html = t._repr_html_()
    page = Page(html)
    assert page.tags.count("table") == 3
    assert page.tags.count("tr") == 3 + len(t.forward) + len(t.backward) + len(t.updates())
    assert dict(page.attributes).keys() == {"class", "href", "title"} and set(page.tags) == {
        "div", "style", "p", "h4", "table", "thead", "tbody", "tr", "th", "td", "details", "summary", "pre",
        "a",
    }
    links = [value for name, value in page.attributes if name == "href"]
    assert f"../derivations/{all_cards()['1.10'].anchor}" in links and len(links) > 10
    assert "http" not in html and "url(" not in html and "@import" not in html
    style = next(text for tag, text in page.text if tag == "style")
    rules = [rule.split("{")[0] for rule in style.split("}")[:-1]]
    assert all(part.strip().startswith(".teachvae-trace") for rule in rules for part in rule.split(","))
    grids = [text for tag, text in page.text if tag == "pre"]
    numbers = [[float(word) for word in grid.split()] for grid in grids]
    assert any(len(n) == t["z"].size and np.allclose(n, t["z"].ravel(), rtol=1e-3) for n in numbers)
    z = next(g for g, n in zip(grids, numbers, strict=True) if np.allclose(n[:2], t["z"][0, 0], rtol=1e-3))
    assert z.count("\n\n") == S - 1
    long = Setting()
    long.eta = np.zeros((1001, N, K))
    folded = [Page(each.trace()._repr_html_()).tags.count("details") for each in (Setting(), long)]
    assert folded[0] > folded[1] > 5                               # 6006 numbers of z stay a summary


class Hostile(layers.Tanh):
    """y = <script>alert("&")</script>. Nothing else."""


def test_html_is_escaped():
    s = Setting()
    first, _, last = s.model.decoder.layers
    s.model = Model(layers.Sequential((first, Hostile(), last)), s.model.likelihood, K)
    page = Page(s.trace()._repr_html_())
    assert "script" not in page.tags
    assert ("td", 'y = <script>alert("&")</script>') in page.text


@pytest.mark.parametrize("values, text", [
    ([1.0, -2.5, 0.0], "1, -2.5, 0"),
    ([[0.123456, 1e-9]], "0.1235, 1e-09"),
    (np.zeros(9), "all 0"),
    (-np.linspace(0, 1, 5), "-1 … 0, mean -0.5"),
])
def test_short_texts(values, text):
    assert trace._short(np.array(values)) == text


# ---- on every backend


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
def test_on_every_backend(backend, kl):
    s = Setting(masked=True)
    host = s.vae(kl=kl, weights=s.weights)
    s.x, s.eta, s.weights = s.x.each(backend.asarray), backend.asarray(s.eta), backend.asarray(s.weights)
    s.theta, s.v = tree.map(backend.asarray, s.theta), tree.map(backend.asarray, s.v)
    t = s.vae(kl=kl, weights=s.weights)
    assert list(t) == list(host) and t.replay()
    assert str(t).count("\n") == str(host).count("\n") and Page(t._repr_html_())
    tolerance = 1e-9 if backend.dtype == "float64" else 1e-4
    for name in t:
        assert namespace(t[name]) is backend.xp and str(t[name].dtype).endswith(backend.dtype), name
        np.testing.assert_allclose(to_numpy(t[name]), host[name], rtol=tolerance, atol=10 * tolerance)


# ---- one update of a fitted model


LINES = datasets.linear_gaussian(n_cases=30, n_visible=D, n_latent=K).x
HOLED = np.where(np.random.default_rng(7).random(LINES.shape) < 0.2, np.nan, LINES)
BITS = (LINES > LINES.mean(axis=0)).astype(float)


@pytest.mark.short
@pytest.mark.parametrize("x, options", [
    (LINES, {}),
    (LINES, {"n_samples": 3, "kl": "sampled", "posterior": "full"}),
    (LINES, {"optimizer": "sgd", "learning_rate": lambda epoch: 1e-3 * epoch, "separate": True}),
    (LINES, {"optimizer": Adam(1e-4), "nodes": "quadrature", "min_noise": 0.9}),
    (LINES, {"optimizer": SGD(1e-4), "learning_rate": lambda epoch: 1e-3 / epoch}),
    (LINES, {"kl_weight": lambda epoch: 0.5 if epoch < 4 else 1.0, "dtype": "float32"}),
    (HOLED, {"missing": "marginalise"}),
    (BITS, {"likelihood": "bernoulli"}),
], ids=["plain", "full q", "schedule", "nodes and a floor", "an optimiser", "warmed up", "holes", "bits"])
def test_the_trace_of_a_vae_is_its_next_update(x, options):
    """`partial_fit` goes on by the very update that was traced; only sums over cases have another order."""
    vae = VAE(K, hidden=(5,), epochs=3, **options).fit(x)
    few, before = x[:6], {name: leaf + 0 for name, leaf in tree.leaves(vae.training_["run"].params)}
    t = vae.trace(few)
    assert same_trees(vae.training_["run"].params, t.before) and t.replay() is not t
    assert all(same_bits(before[name], leaf) for name, leaf in tree.leaves(t.before)), "the model stays"
    again = vae.trace(few)
    assert t.differences(again) == []
    vae.partial_fit(few)
    tight = 1e-5 if options.get("dtype") == "float32" else 1e-11
    moved = 0.0
    for (name, new), (_, traced) in zip(
        tree.leaves(vae.training_["run"].params), tree.leaves(t.after), strict=True
    ):
        np.testing.assert_allclose(traced, new, rtol=tight, atol=tight, err_msg=name)
        moved = max(moved, np.abs(new - before[name]).max())
    assert moved > 1e-4


@pytest.mark.short
def test_a_traced_q_is_that_of_the_data_but_for_the_units():
    """The Q of the fitted model on the η that were drawn, less log |scale| of the columns' standard units."""
    vae = VAE(K, hidden=(5,), epochs=3).fit(LINES)
    t = vae.trace(LINES[:6])
    Q, _ = bound.forward(vae.model_, vae.theta_, vae.encode(LINES[:6]), LINES[:6], t["eta"])
    np.testing.assert_allclose(Q - t["Q"], np.log(LINES.std(axis=0)).sum(), rtol=1e-9)
    np.testing.assert_allclose(t["x"], (LINES[:6] - LINES.mean(axis=0)) / LINES.std(axis=0), rtol=1e-9)


def test_after_lbfgs_a_trace_ends_with_the_gradients():
    vae = VAE(K, hidden=(), optimizer="lbfgs", nodes="sigma").fit(LINES)
    t = vae.trace(LINES)
    np.testing.assert_allclose(t["Q"], vae.bound(LINES), rtol=1e-9)
    assert t.after is None and t.updates() == []
    for path, gradient in tree.leaves(t.gradients):
        assert np.abs(gradient).max() < 1e-4, path                 # it had come to rest
    np.testing.assert_array_equal(t["x"], LINES)


@pytest.mark.short
def test_the_trace_of_variational_em_is_a_step_of_its_m_step():
    vem = VariationalEM(K, hidden=(5,), epochs=3, learning_rate=2e-3).fit(LINES)
    x, run = LINES[:6], vem.training_["run"]
    t = vem.trace(x)
    np.testing.assert_allclose(t["phi"], vem.infer(x))
    model, theta, eta = vem._standard(vem.model_, vem._cases(x), True).model, run.params, t["eta"]
    assert eta.shape == (1, 6, K)
    Q, cache = bound.forward(model, theta, t["phi"], t["x"], eta)
    _, dtheta = bound.backward(model, theta, cache, np.full(6, 1 / 6))
    state = {name: np.array(value) for name, value in run.optimizer.items()}
    flat, state["t"] = tree.flatten(theta) + 0, int(state["t"])
    dtheta["likelihood"]["log_psi"][:] = 0                         # Ψ has a closed form, after the passes
    Adam(2e-3).step(flat, tree.flatten(dtheta, theta), state)
    np.testing.assert_allclose(tree.flatten(t.after["theta"], theta), flat, rtol=1e-12)
    assert list(t.after) == ["theta"] and not np.array_equal(flat, tree.flatten(theta))
    names = [name for name, *_ in t.updates()]
    assert names[-1] == "likelihood.log_psi" and not any("phi" == name for name in names)
    _, before, gradient, after = t.updates()[-1]
    assert (gradient == 0).all() and same_bits(before, after) and np.abs(t["likelihood.dlog_psi"]).max() > 0
    assert t.replay().differences(t) == []
    assert vem.training_["run"] is run and vem.trace(x).differences(t) == []


def test_closed_forms_are_traced_without_a_step():
    vem = VariationalEM(K, hidden=()).fit(LINES)
    t = vem.trace(LINES)
    assert t.after is None and np.abs(t["dphi"]).max() < 1e-10, "φ is the best there is"
    shift = np.log(LINES.std(axis=0)).sum()
    np.testing.assert_allclose(t["Q"] + shift, vem.bound(LINES), rtol=1e-9)


@pytest.mark.short
def test_what_cannot_be_traced_is_said():
    with pytest.raises(ValueError, match="not fitted"):
        VAE(K).trace(LINES)
    iwae = VAE(K, hidden=(3,), epochs=2, objective="iwae", n_samples=4).fit(LINES)
    with pytest.raises(ValueError, match="goes through Q, and objective='iwae' with kl_weight=1 in epoch 3"):
        iwae.trace(LINES)
    warming = VAE(K, hidden=(3,), epochs=2, kl_weight=lambda epoch: epoch / 8).fit(LINES)
    with pytest.raises(ValueError, match="kl_weight=0.375 in epoch 3 minimises something else"):
        warming.trace(LINES)
    vem = VariationalEM(K, hidden=(3,), epochs=2).fit(LINES)
    del vem.training_
    with pytest.raises(ValueError, match="broken off"):
        vem.trace(LINES)
    s = Setting()
    with pytest.raises(ValueError, match="an M-step has φ in a table"):
        s.vae(m_step=True)
