"""A bank of gradients of the whole Q of a small VAE, as students write them: each wrong one by its name.

The right gradient is written out in lines; a wrong answer has other lines in their place, and so has a right
one that goes another way. Every wrong answer has a diagnosis of its own in every leaf that it spoils.
"""

import numpy as np
import pytest

from teachvae.gradcheck import check

S, N, K, D = 3, 5, 2, 4

LINES = {
    "s": "np.exp(log_s)",
    "z": "m + s * eta",
    "f": "z @ W + b",
    "psi": "np.exp(log_psi)",
    "r": "x - f",
    "df": "-r / psi / S",
    "dz": "df @ W.T",
    "dm": "dz.sum(0) + m",
    "dlog_s": "(dz * eta * s).sum(0) + s**2 - 1",
    "dW": "np.einsum('snk,snd->kd', z, df)",
    "db": "df.sum((0, 1))",
    "dlog_psi": "(0.5 * (1 - r**2 / psi) / S).sum((0, 1))",
}
BERNOULLI = {"df": "(1 / (1 + np.exp(-f)) - x) / S"}
ABSENT = {"psi", "dlog_psi"}                                       # of the Bernoulli likelihood


class Small:
    """A VAE with a linear decoder at a random point: Q, its terms, and an answer from lines."""

    def __init__(self, likelihood, seed, sizes=(S, N, K, D)):
        rng = np.random.default_rng(seed)
        self.likelihood, (S, N, K, D) = likelihood, sizes
        self.eta = rng.standard_normal((S, N, K))
        self.params = {
            "m": rng.uniform(0.3, 1.0, (N, K)) * rng.choice([-1, 1], (N, K)),
            "log_s": rng.uniform(-0.7, 0.4, (N, K)),
            "W": rng.standard_normal((K, D)),
            "b": rng.uniform(0.3, 1.0, D) * rng.choice([-1, 1], D),
        }
        if likelihood == "gaussian":
            self.params["log_psi"] = rng.uniform(-0.9, 0.9, D)
            self.x = 2 * rng.standard_normal((N, D))
        else:
            self.x = (rng.random((N, D)) < 0.5).astype(float)
        self.sizes = {"S": S, "N": N, "K": K, "D": D}

    def reconstruction(self, p):
        """(S, N) summands of −1/S Σ_s log p(x_n|z_ns)."""
        f = (p["m"] + np.exp(p["log_s"]) * self.eta) @ p["W"] + p["b"]
        if self.likelihood == "bernoulli":
            return np.sum(np.logaddexp(0, f) - self.x * f, axis=2) / self.sizes["S"]
        squares = np.square(self.x - f) / np.exp(p["log_psi"])
        return 0.5 * np.sum(np.log(2 * np.pi) + p["log_psi"] + squares, axis=2) / self.sizes["S"]

    def kl(self, p):
        """(N,) KL(q(z|φ_n) ‖ p(z))."""
        return 0.5 * np.sum(p["m"] ** 2 + np.exp(2 * p["log_s"]) - 1 - 2 * p["log_s"], axis=1)

    def Q(self, p):
        return self.reconstruction(p).sum() + self.kl(p).sum()

    def names(self, **changes):
        """Every name of LINES, after the lines of an answer."""
        lines = LINES | (BERNOULLI if self.likelihood == "bernoulli" else {}) | changes
        known = {"np": np, "x": self.x, "eta": self.eta, **self.params, **self.sizes}
        for name, line in lines.items():
            if self.likelihood == "gaussian" or name not in ABSENT | {"r"}:
                known[name] = eval(line, known)
        return known

    def answer(self, **changes):
        known = self.names(**changes)
        return {leaf: known[f"d{leaf}"] for leaf in self.params}

    def report(self, grads, terms=True, inputs=("eta", "s", "z", "m", "psi")):
        known = self.names()
        return check(
            self.Q, self.params, grads, counts={"S": self.sizes["S"], "N": self.sizes["N"]},
            terms={"reconstruction": self.reconstruction, "KL": self.kl} if terms else None,
            inputs={name: known[name] for name in inputs if name in known},
        )


# ---- Wrong answers: what stands instead, and of every leaf that is spoilt what its diagnosis says

RECONSTRUCTION = "right except for the reconstruction term, which "
KL = "right except for the KL term, which "
ZERO_B = "would be right at every index if b were 0"
TURNED_B = "would be right at every index if b were −b"
WRONG = {
    "s is forgotten": ({"dlog_s": "(dz * eta).sum(0) + s**2 - 1"},
                       {"log_s": RECONSTRUCTION + "lacks the factor s "}),
    "η is forgotten": ({"dlog_s": "(dz * s).sum(0) + s**2 - 1"},
                       {"log_s": RECONSTRUCTION + "lacks the factor eta "}),
    "both are forgotten": ({"dlog_s": "dz.sum(0) + s**2 - 1"}, {"log_s": RECONSTRUCTION + "is that of m "}),
    "s² for s": ({"dlog_s": "(dz * eta * s**2).sum(0) + s**2 - 1"},
                 {"log_s": RECONSTRUCTION + "has the factor s once too often"}),
    "η² for η": ({"dlog_s": "(dz * eta**2 * s).sum(0) + s**2 - 1"},
                 {"log_s": RECONSTRUCTION + "has the factor eta once too often"}),
    "η of the sample before": ({"dlog_s": "(dz * np.roll(eta, 1, 0) * s).sum(0) + s**2 - 1"},
                               {"log_s": RECONSTRUCTION + "takes eta shifted by 1 along axis 0"}),
    "η of the case behind": ({"dlog_s": "(dz * np.roll(eta, -1, 1) * s).sum(0) + s**2 - 1"},
                             {"log_s": RECONSTRUCTION + "takes eta shifted by -1 along axis 1"}),
    "z for η": ({"dlog_s": "(dz * z * s).sum(0) + s**2 - 1"},
                {"log_s": RECONSTRUCTION + "takes z where eta belongs"}),
    "1/S dropped in dm": ({"dm": "S * dz.sum(0) + m"}, {"m": RECONSTRUCTION + "has the factor 3 "}),
    "1/S dropped in dlog_s": ({"dlog_s": "S * (dz * eta * s).sum(0) + s**2 - 1"},
                              {"log_s": RECONSTRUCTION + "has the factor 3 "}),
    "1/S twice": ({"dm": "dz.mean(0) + m"}, {"m": RECONSTRUCTION + "has the factor 0.333333 "}),
    "1/S dropped at the start": ({"dz": "S * df @ W.T", "dW": "S * np.einsum('snk,snd->kd', z, df)",
                                  "db": "S * df.sum((0, 1))"},
                                 {"m": RECONSTRUCTION + "has the factor 3 ",
                                  "log_s": RECONSTRUCTION + "has the factor 3 ",
                                  "W": "analytic = 3 · numeric", "b": "analytic = 3 · numeric"}),
    "mean over cases": ({"dm": "dz.sum(0) / N + m"}, {"m": RECONSTRUCTION + "has the factor 0.2 "}),
    "the sign of dz": ({"dz": "-df @ W.T"}, {"m": RECONSTRUCTION + "has its sign turned",
                                             "log_s": RECONSTRUCTION + "has its sign turned"}),
    "the sign of the KL in dm": ({"dm": "dz.sum(0) - m"}, {"m": KL + "has its sign turned"}),
    "the sign of the KL in dlog_s": ({"dlog_s": "(dz * eta * s).sum(0) - (s**2 - 1)"},
                                     {"log_s": KL + "has its sign turned"}),
    "the ELBO's sign in the KL": ({"dm": "dz.sum(0) - m", "dlog_s": "(dz * eta * s).sum(0) - s**2 + 1"},
                                  {"m": KL + "has its sign turned", "log_s": KL + "has its sign turned"}),
    "½ forgotten in the KL": ({"dm": "dz.sum(0) + 2 * m"}, {"m": KL + "has the factor 2 "}),
    "½ too many in the KL": ({"dlog_s": "(dz * eta * s).sum(0) + 0.5 * (s**2 - 1)"},
                             {"log_s": KL + "has the factor 0.5 "}),
    "½ too many in both": ({"dm": "dz.sum(0) + m / 2", "dlog_s": "(dz * eta * s).sum(0) + (s**2 - 1) / 2"},
                           {"m": KL + "has the factor 0.5 ", "log_s": KL + "has the factor 0.5 "}),
    "the KL over N": ({"dm": "dz.sum(0) + m / N"}, {"m": KL + "has the factor 0.2 "}),
    "the KL over S": ({"dm": "dz.sum(0) + m / S"}, {"m": KL + "has the factor 0.333333 "}),
    "the KL weighted": ({"dm": "dz.sum(0) + 0.3 * m"}, {"m": KL + "has the factor 0.3 "}),
    "no KL in dm": ({"dm": "dz.sum(0)"}, {"m": KL + "is missing"}),
    "no KL in dlog_s": ({"dlog_s": "(dz * eta * s).sum(0)"}, {"log_s": KL + "is missing"}),
    "no KL": ({"dm": "dz.sum(0)", "dlog_s": "(dz * eta * s).sum(0)"},
              {"m": KL + "is missing", "log_s": KL + "is missing"}),
    "no reconstruction in dm": ({"dm": "m"}, {"m": RECONSTRUCTION + "is missing"}),
    "no reconstruction in dlog_s": ({"dlog_s": "s**2 - 1"}, {"log_s": RECONSTRUCTION + "is missing"}),
    "−1 forgotten": ({"dlog_s": "(dz * eta * s).sum(0) + s**2"},
                     {"log_s": "an additive constant is missing, such as the −1 of s² − 1"}),
    "s for s² in the KL": ({"dlog_s": "(dz * eta * s).sum(0) + s - 1"},
                           {"log_s": "s stands where s² belongs"}),
    "the KL of the case before": ({"dm": "dz.sum(0) + np.roll(m, 1, 0)"},
                                  {"m": KL + "is shifted by 1 along axis 0"}),
    "the KL from the end": ({"dm": "dz.sum(0) + m[::-1]"}, {"m": KL + "runs backwards along axis 0"}),
    "the KL's mean over cases": ({"dm": "dz.sum(0) + m.mean(0)"},
                                 {"m": KL + "has its mean over axis 0 at every index"}),
    "the KL's sum over K": ({"dlog_s": "(dz * eta * s).sum(0) + (s**2 - 1).sum(1, keepdims=True)"},
                            {"log_s": KL + "has its sum over axis 1 at every index"}),
    "the last sample left out": ({"dm": "dz[:-1].sum(0) + m"},
                                 {"m": RECONSTRUCTION + "leaves out the last index of axis 0"}),
    "the first sample left out": ({"dlog_s": "(dz * eta * s)[1:].sum(0) + s**2 - 1"},
                                  {"log_s": RECONSTRUCTION + "leaves out the first index of axis 0"}),
    "the last case left out of dW": ({"dW": "np.einsum('snk,snd->kd', z[:, :-1], df[:, :-1])"},
                                     {"W": "the reconstruction term leaves out the last index of axis 1"}),
    "m for z in dW": ({"dW": "np.einsum('nk,snd->kd', m, df)"},
                      {"W": "the reconstruction term takes m where z belongs"}),
    "η for z in dW": ({"dW": "np.einsum('snk,snd->kd', eta, df)"},
                      {"W": "the reconstruction term takes eta where z belongs"}),
    "z forgotten in dW": ({"dW": "np.einsum('snk,snd->kd', z**0, df)"},
                          {"W": "the reconstruction term lacks the factor z "}),
    "the sign of dW": ({"dW": "-np.einsum('snk,snd->kd', z, df)"}, {"W": "the sign is flipped"}),
    "mean for sum in db": ({"db": "df.sum(0).mean(0)"},
                           {"b": "analytic = 0.2 · numeric at every index; the factor is 1/(N = 5)"}),
    "db never made": ({"db": "0 * b"}, {"b": "analytic is exactly zero"}),
    "two gradients exchanged": ({"dm": "(dz * eta * s).sum(0) + s**2 - 1", "dlog_s": "dz.sum(0) + m"},
                                {"m": "analytic is the gradient of log_s", "log_s": "is the gradient of m;"}),
    "weights in the reconstruction": ({"dm": "dz.sum(0) * np.linspace(0.5, 2.5, N)[:, None] + m"},
                                      {"m": RECONSTRUCTION + "has a factor of its own for every index of "
                                            "axis 0"}),
    "η forgotten, and the KL's sign": ({"dlog_s": "(dz * s).sum(0) - (s**2 - 1)"},
                                       {"log_s": "the reconstruction term lacks the factor eta; look at "
                                                 "the chain rule from one line of the forward to the next; "
                                                 "and the KL term has its sign turned"}),
    "η and 1/S are forgotten": ({"dlog_s": "S * (dz * s).sum(0) + s**2 - 1"},
                                {"log_s": RECONSTRUCTION + "lacks the factor eta, and has the factor 3 "}),
    "1/N for 1/S": ({"dm": "S * dz.sum(0) / N + m"},
                    {"m": "the factor is S/N = 3/5: one stands for the other"}),
    "1/S dropped, and no KL": ({"dm": "S * dz.sum(0)"},
                               {"m": "the reconstruction term has the factor 3; the factor is S = 3: a sum "
                                     "stands where a mean belongs; and the KL term is missing"}),
    "dm is not a number": ({"dm": "dz.sum(0) + m * np.array([1.0, np.inf])"},
                           {"m": "the analytic gradient is not finite in columns 1 of 0–1"}),
    "dm is None": ({"dm": "None"}, {"m": "None came back"}),
    "dm is still …": ({"dm": "..."}, {"m": "still the … of the exercise"}),
    "dm is a list": ({"dm": "(dz.sum(0) + m).tolist()"}, {"m": "a list came back"}),
    "dm is float32": ({"dm": "(dz.sum(0) + m).astype('float32')"}, {"m": "it is float32"}),
    "dm summed over K": ({"dm": "(dz.sum(0) + m).sum(1, keepdims=True)"},
                         {"m": "one number along axis 1, where each index has its own"}),
    "dm not summed over S": ({"dm": "dz + m"}, {"m": "axis 0 of length S = 3 is still there"}),
    "db over the wrong axes": ({"db": "df.sum((0, 2))"}, {"b": "it has shape (5,) where (4,) is asked for"}),
    "dW the wrong way round": ({"dW": "np.einsum('snk,snd->dk', z, df)"},
                               {"W": "where (2, 4) is asked for; it is transposed"}),
}
GAUSSIAN = {
    "the bias is forgotten": ({"f": "z @ W"}, dict.fromkeys(("m", "log_s", "W", "b", "log_psi"), ZERO_B)),
    "the bias is taken off": ({"f": "z @ W - b"},
                              dict.fromkeys(("m", "log_s", "W", "b", "log_psi"), TURNED_B)),
    "ψ is forgotten": ({"df": "-r / S"}, {
        "m": "would be right at every index if log_psi were 0",
        "log_s": "would be right at every index if log_psi were 0",
        "W": "the reconstruction term has the factor psi once too often, or is not divided by it",
        "b": "the reconstruction term has the factor psi once too often, or is not divided by it"}),
    "½ forgotten in dlog_psi": ({"dlog_psi": "((1 - r**2 / psi) / S).sum((0, 1))"},
                                {"log_psi": "analytic = 2 · numeric"}),
    "log ψ forgotten": ({"dlog_psi": "(-0.5 * r**2 / psi / S).sum((0, 1))"},
                        {"log_psi": "an additive constant is missing, such as the −1 of s² − 1"}),
    "ψ for log ψ": ({"dlog_psi": "(0.5 * (1 - r**2 / psi) / psi / S).sum((0, 1))"},
                    {"log_psi": "analytic = exp(−p) · numeric"}),
    "the sign of dlog_psi": ({"dlog_psi": "(0.5 * (r**2 / psi - 1) / S).sum((0, 1))"},
                             {"log_psi": "the sign is flipped"}),
    "dlog_psi over S alone": ({"dlog_psi": "(0.5 * (1 - r**2 / psi) / S).sum(0)"},
                              {"log_psi": "axis 0 of length N = 5 is still there"}),
    "the residual the wrong way round": ({"df": "r / psi / S"}, {
        "m": RECONSTRUCTION + "has its sign turned", "log_s": RECONSTRUCTION + "has its sign turned",
        "W": "the sign is flipped", "b": "the sign is flipped"}),
}
ONLY_BERNOULLI = {
    "the bias is taken off": ({"f": "z @ W - b"}, dict.fromkeys(("m", "log_s", "W", "b"), TURNED_B)),
    "the bias is forgotten": ({"f": "z @ W"}, dict.fromkeys(("m", "log_s", "W", "b"), ZERO_B)),
    "x − σ(f)": ({"df": "(x - 1 / (1 + np.exp(-f))) / S"}, {
        "m": RECONSTRUCTION + "has its sign turned", "log_s": RECONSTRUCTION + "has its sign turned",
        "W": "the sign is flipped", "b": "the sign is flipped"}),
}
BANK = (
    [("gaussian", name, *row) for name, row in (WRONG | GAUSSIAN).items()]
    + [("bernoulli", name, *row) for name, row in (WRONG | ONLY_BERNOULLI).items()]
)
SQUARE = [                                                         # N = K = D: axes can be confused
    ({"dm": "dz.sum(0).T + m"}, {"m": RECONSTRUCTION + "is transposed, axes 0 and 1 exchanged"}),
    ({"dm": "dz.sum(0) + m.T"}, {"m": KL + "is transposed, axes 0 and 1 exchanged"}),
    ({"dW": "np.einsum('snk,snd->dk', z, df)"}, {"W": "analytic is numeric with axes 0 and 1 exchanged"}),
    ({"dlog_s": "(dz * eta * s).sum(0).T - (s**2 - 1)"},
     {"log_s": "two mistakes at every index: the reconstruction term is transposed, axes 0 and 1 exchanged"}),
]
EVERY_PHRASE = {phrase for *_, expected in BANK for phrase in expected.values()}


def said(diagnosis):
    """Which of the bank's diagnoses stand in this one, but for what is only a part of another that does."""
    found = {phrase for phrase in EVERY_PHRASE if phrase in diagnosis}
    return {phrase for phrase in found if not any(phrase in other for other in found - {phrase})}


@pytest.mark.parametrize(
    "likelihood, name, changes, expected", BANK, ids=[f"{row[0]}: {row[1]}" for row in BANK]
)
def test_a_wrong_gradient_of_Q_is_called_by_its_name(likelihood, name, changes, expected):
    small = Small(likelihood, 0)
    report = small.report(small.answer(**changes))
    assert not report.ok and not report.kinks
    found = {row.path: said(row.diagnosis) for row in report.rows if not row.ok}
    assert found == {leaf: {phrase} for leaf, phrase in expected.items()}, str(report)


def test_the_bank_is_large_enough():
    assert len(WRONG | GAUSSIAN | ONLY_BERNOULLI) >= 60 and len(RIGHT) >= 20


@pytest.mark.parametrize("changes, expected", SQUARE, ids=[str(row[0]) for row in SQUARE])
@pytest.mark.parametrize("seed", range(2))
def test_an_axis_that_was_taken_for_another(changes, expected, seed):
    small = Small("gaussian", seed, (S, 3, 3, 3))
    report = small.report(small.answer(**changes))
    wrong = {row.path: row.diagnosis for row in report.rows if not row.ok}
    assert wrong.keys() == expected.keys()
    for leaf, phrase in expected.items():
        assert phrase in wrong[leaf]


@pytest.mark.parametrize("line, words", [
    ("(0.5 * (1 + r**2 / psi) / S).sum((0, 1))", "except for the squares term, which has its sign turned"),
    ("(0.5 * (1 - 2 * r**2 / psi) / S).sum((0, 1))", "except for the squares term, which has the factor 2 "),
    ("(0.5 * (1 - r**2) / S).sum((0, 1))", "except for the squares term, which has the factor psi once too"),
    ("(0.5 * (1 / S - r**2 / psi / S)).sum((0, 1)) / S", "analytic = 0.333333 · numeric"),
    ("0.5 * N * S - (0.5 * r**2 / psi / S).sum((0, 1))", "for the log ψ term, which has the factor 3 "),
    ("-(0.5 * r**2 / psi / S).sum((0, 1))", "except for the log ψ term, which is missing"),
])
def test_the_finer_the_terms_the_finer_the_diagnosis(line, words):
    small = Small("gaussian", 0)

    def squares(p):
        f = (p["m"] + np.exp(p["log_s"]) * small.eta) @ p["W"] + p["b"]
        return 0.5 * np.sum(np.square(small.x - f) / np.exp(p["log_psi"]), axis=2) / S

    def logs(p):
        return 0.5 * N * np.sum(np.log(2 * np.pi) + p["log_psi"])

    terms = {"log ψ": logs, "squares": squares, "KL": small.kl}
    psi = np.exp(small.params["log_psi"])
    report = check(small.Q, small.params, small.answer(dlog_psi=line), terms=terms, inputs={"psi": psi})
    assert [row.path for row in report.rows if not row.ok] == ["log_psi"]
    assert words in report.rows[4].diagnosis


def test_without_terms_an_input_is_tried_in_the_whole():
    small = Small("gaussian", 0)
    report = small.report(small.answer(dm="(dz.sum(0) + m) * s"), terms=False)
    assert "the gradient has the factor s once too often" in report.rows[0].diagnosis


def test_inputs_go_with_the_second_half_of_phi():
    """φ = [m | log s] is one leaf, as the package has it."""
    small = Small("bernoulli", 0)
    apart = {leaf: small.params[leaf] for leaf in ("W", "b")}
    known = small.names(dlog_s="(dz * eta).sum(0) + s**2 - 1")

    def split(p):
        return {"m": p["phi"][:, :K], "log_s": p["phi"][:, K:], "W": p["W"], "b": p["b"]}

    report = check(
        lambda p: small.Q(split(p)),
        {"phi": np.hstack([small.params["m"], small.params["log_s"]])} | apart,
        {"phi": np.hstack([known["dm"], known["dlog_s"]]), "W": known["dW"], "b": known["db"]},
        terms={
            "reconstruction": lambda p: small.reconstruction(split(p)), "KL": lambda p: small.kl(split(p)),
        },
        inputs={"s": known["s"], "eta": small.eta},
    )
    assert RECONSTRUCTION + "lacks the factor s in columns 2–3 of 0–3" in report.rows[0].diagnosis


def test_terms_that_are_numbers_and_a_single_sample():
    """With one sample a forgotten η shows in the sum itself."""
    small = Small("gaussian", 1, (1, N, K, D))
    report = check(
        small.Q, small.params, small.answer(dlog_s="(dz * s).sum(0) + s**2 - 1"),
        inputs={"eta": small.eta[0]},
        terms={"reconstruction": lambda p: small.reconstruction(p).sum(), "KL": lambda p: small.kl(p).sum()},
    )
    assert RECONSTRUCTION + "lacks the factor eta " in report.rows[1].diagnosis


def test_terms_and_inputs_are_checked_at_the_door():
    small = Small("gaussian", 0)
    with pytest.raises(ValueError, match=r"the terms KL add up to (.*), and f is (.*) at the same params"):
        check(small.Q, small.params, small.answer(), terms={"KL": small.kl})
    with pytest.raises(TypeError, match="the term 'KL' returned float32"):
        check(small.Q, small.params, small.answer(), terms={"KL": lambda p: np.float32(1)})
    with pytest.raises(TypeError, match="'eta' is <U3"):
        check(small.Q, small.params, small.answer(), inputs={"eta": "eta"})


def test_what_was_handed_in_is_never_an_exception():
    small = Small("gaussian", 0)
    for nothing in (None, ...):
        report = check(small.Q, small.params, nothing)
        assert report.verdict == "WRONG" and report.outcome == "not attempted" and len(report.rows) == 5
        assert check(small.Q, small.params, lambda p: nothing).outcome == "not attempted"
    right = small.answer()
    report = check(small.Q, small.params, [right[leaf] for leaf in small.params])
    assert "a list came back, where a dict with the names m, log_s, W, b, log_psi" in report.rows[0].diagnosis
    report = check(small.Q, small.params, {leaf: right[leaf] for leaf in ("m", "b")} | {"w": right["W"]})
    assert report.outcome == "not yet"
    assert [row.ok for row in report.rows] == [True, False, False, True, False]
    assert "it is not there; what came back has m, b, w" in report.rows[2].diagnosis
    assert "w came back, and nobody asked for it" in report.notes[0]


# ---- Right answers that go another way

RIGHT = {
    "as it stands": {},
    "dm by einsum": {"dm": "np.einsum('snk->nk', dz) + m"},
    "dm by a loop": {"dm": "sum(dz[i] for i in range(S)) + m"},
    "dm from the last sample on": {"dm": "m + dz[::-1].sum(0)"},
    "dm as a mean": {"dm": "m + S * np.mean(dz, axis=0)"},
    "dm case by case": {"dm": "np.array([[dz[:, n, k].sum() + m[n, k] for k in range(K)]"
                              " for n in range(N)])"},
    "dlog_s with s outside": {"dlog_s": "s * np.sum(dz * eta, axis=0) + (s - 1) * (s + 1)"},
    "dlog_s from z − m": {"dlog_s": "(dz * (z - m)).sum(0) + np.expm1(2 * log_s)"},
    "dlog_s by einsum": {"dlog_s": "np.einsum('snk,snk,nk->nk', dz, eta, s) - 1 + s * s"},
    "dlog_s by a loop": {"dlog_s": "sum(dz[i] * eta[i] for i in range(S)) * s + np.exp(2 * log_s) - 1"},
    "dW by tensordot": {"dW": "np.tensordot(z, df, axes=([0, 1], [0, 1]))"},
    "dW by rows": {"dW": "z.reshape(-1, K).T @ df.reshape(-1, D)"},
    "dW by outer products": {"dW": "sum(np.outer(z[i, n], df[i, n]) for i in range(S) for n in range(N))"},
    "dW as a stack": {"dW": "(np.swapaxes(z, 1, 2) @ df).sum(0)"},
    "dW of two parts": {"dW": "m.T @ df.sum(0) + np.einsum('snk,snd->kd', s * eta, df)"},
    "dW turned twice": {"dW": "np.einsum('snk,snd->dk', z, df).T"},
    "db in two sums": {"db": "df.sum(1).sum(0)"},
    "db by a product with ones": {"db": "np.ones(S * N) @ df.reshape(-1, D)"},
    "db by means": {"db": "S * N * df.mean((0, 1))"},
    "dz by einsum": {"dz": "np.einsum('snd,kd->snk', df, W)"},
    "dz column by column": {"dz": "sum(df[:, :, [d]] * W[:, d] for d in range(D))"},
    "S divided by at the end": {"dz": "(S * df) @ W.T", "dm": "dz.sum(0) / S + m",
                                "dlog_s": "(dz * eta * s).mean(0) + s**2 - 1"},
    "f with the bias as a row": {"f": "np.concatenate([z, np.ones((S, N, 1))], 2) @ np.vstack([W, b])"},
    "in Fortran's order": {"dm": "np.asfortranarray(dz.sum(0) + m)", "dW": "np.asfortranarray("
                           "np.einsum('snk,snd->kd', z, df))"},
    "as a view": {"dm": "np.repeat(dz.sum(0) + m, 2, axis=1)[:, ::2]"},
}
RIGHT_GAUSSIAN = {
    "precisions for variances": {"df": "(f - x) * np.exp(-log_psi) / S"},
    "dlog_psi in two sums": {"dlog_psi": "0.5 * N - 0.5 * (r**2).mean(0).sum(0) / psi"},
    "dlog_psi by einsum": {"dlog_psi": "0.5 * N - np.einsum('snd,snd,d->d', r, r, 0.5 / psi) / S"},
    "dlog_psi from df": {"dlog_psi": "0.5 * N - 0.5 * S * (df**2 * psi).sum((0, 1))"},
}
RIGHT_BERNOULLI = {
    "σ by tanh": {"df": "(0.5 * (1 + np.tanh(f / 2)) - x) / S"},
    "σ from the other end": {"df": "(np.exp(f) / (np.exp(f) + 1) - x) / S"},
}


@pytest.mark.parametrize("likelihood, changes", [
    *(("gaussian", changes) for changes in (RIGHT | RIGHT_GAUSSIAN).values()),
    *(("bernoulli", changes) for changes in (RIGHT | RIGHT_BERNOULLI).values()),
])
@pytest.mark.parametrize("seed", range(2))
def test_a_right_gradient_of_Q_raises_no_diagnosis(likelihood, changes, seed):
    small = Small(likelihood, seed)
    report = small.report(small.answer(**changes))
    assert report.ok and report.outcome == "right" and report.notes == [], str(report)
    assert all(row.diagnosis == "" and row.error < 1e-7 for row in report.rows)
