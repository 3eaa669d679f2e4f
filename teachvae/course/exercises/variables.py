"""The exercises of notebook 09: bits, counts, categories, gross errors, and cells that nobody saw."""

import numpy as np
from scipy.special import expit, gammaln, log_expit, log_softmax

from ...inference.linear_gaussian import nlml
from ...likelihoods.categorical import Categorical
from ...likelihoods.poisson import Poisson
from ...likelihoods.student_t import StudentT
from ..exercise import Exercise, by_gradient, by_value
from ..terms import VARIANCE, of_argument, of_terms

LOG_2PI = np.log(2 * np.pi)


# ---- bits ---------------------------------------------------------------------------------------


def draw_logits(rng, n):
    """Logits f (S, N, D) and bits x (N, D), some of them sure, and one of these wrong."""
    f, x = 2 * rng.standard_normal((n.S, n.N, n.D)), (rng.random((n.N, n.D)) < 0.5) * 1.0
    x[0, 0], x[1, 1], x[2, 2] = 1.0, 0.0, 0.0
    f[0, 0, 0], f[1, 1, 1], f[2, 2, 2] = 800.0, -800.0, 60.0
    return {"f": f, "x": x}


def bernoulli_log_p(f, x):
    """(S, N), by the logarithm of the probability of what was seen: σ(f) or σ(−f)."""
    return log_expit((2 * x - 1) * f).sum(axis=-1)


def draw_bits_to_differentiate(rng, n):
    """Logits f (S, N, D), bits x (N, D), and what each log p counts for, dlog_p (S, N)."""
    return {
        "f": rng.standard_normal((n.S, n.N, n.D)), "x": (rng.random((n.N, n.D)) < 0.5) * 1.0,
        "dlog_p": rng.uniform(0.5, 2.0, (n.S, n.N)) * rng.choice([-1.0, 1.0], (n.S, n.N)),
    }


def weighted_bernoulli(f, x, dlog_p):
    """Σ dlog_p log p, one number."""
    return np.sum(dlog_p * bernoulli_log_p(f, x))


LOG_P_OF_BITS = {
    "f is a logit and not the probability itself: that is σ(f)":
        lambda f, x: (x * np.log(f) + (1 - x) * np.log(1 - f)).sum(axis=-1),
    "the probabilities of the pixels are added up: they are multiplied, so their logarithms add up":
        lambda f, x: (x * expit(f) + (1 - x) * expit(-f)).sum(axis=-1),
    "this is a Gaussian's square: of a bit the log likelihood is x f − log(1 + exp(f))":
        lambda f, x: -0.5 * ((x - f) ** 2).sum(axis=-1),
    "the sum goes over the data cases, axis 1: the pixels are the last axis":
        lambda f, x: log_expit((2 * x - 1) * f).sum(axis=1),
    "exp(f) overflows for f = 800: np.logaddexp(0, f) is log(1 + exp(f)) without it":
        lambda f, x: (x * f - np.log(1 + np.exp(f))).sum(axis=-1),
} | of_terms({
    "x f": lambda f, x: (x * f).sum(axis=-1),
    "log(1 + exp(f))": lambda f, x: -np.logaddexp(0, f).sum(axis=-1),
})
SLOPE_OF_BITS = {
    "zeros and ones are exchanged: x − σ(f), and not 1 − x − σ(f)":
        lambda f, x, dlog_p: dlog_p[:, :, None] * (1 - x - expit(f)),
    "only pixels that are 1 are heard of: one that is 0 gives −σ(f)":
        lambda f, x, dlog_p: dlog_p[:, :, None] * x * (1 - expit(f)),
    "x is missing: the residual is x − σ(f)": lambda f, x, dlog_p: -dlog_p[:, :, None] * expit(f),
    "this is the slope for the probability p: for f it is p (1 − p) times that, which leaves x − p":
        lambda f, x, dlog_p: dlog_p[:, :, None] * (x / expit(f) - (1 - x) / expit(-f)),
    "this is the slope of σ itself: asked is that of the logarithm of what was seen":
        lambda f, x, dlog_p: dlog_p[:, :, None] * expit(f) * expit(-f),
    "−1/S is written in: what comes in from above is dlog_p, whatever it is":
        lambda f, x, dlog_p: -(x - expit(f)) / len(f),
    "dlog_p is summed over the samples: each sample has its own":
        lambda f, x, dlog_p: dlog_p.sum(axis=0)[None, :, None] * (x - expit(f)),
    "dlog_p is summed over the data cases: each case has its own":
        lambda f, x, dlog_p: dlog_p.sum(axis=1)[:, None, None] * (x - expit(f)),
}


BITS = [
    Exercise(
        "09-1", "bernoulli_log_p", "5.7", "log p(x|f) (S, N) of bits x (N, D) under logits f (S, N, D)",
        draw_logits, by_value(bernoulli_log_p),
        {
            "the mean over the D pixels, where the bound sums them: a mean weighs it anew against the KL":
                lambda f, x: bernoulli_log_p(f, x) / x.shape[1],
            "this is −log p: the likelihood is wanted, and the minus belongs to Q":
                lambda f, x: -bernoulli_log_p(f, x),
            "log(1 + exp(−f)) stands where log(1 + exp(f)) belongs: log(1 − σ(f)) = −log(1 + exp(f))":
                lambda f, x: (x * f - np.logaddexp(0, -f)).sum(axis=-1),
            "log(1 + exp(f)) is added; it is the price of normalising, and has a minus":
                lambda f, x: (x * f + np.logaddexp(0, f)).sum(axis=-1),
            "only pixels that are 1 are counted: one that is 0 has the probability 1 − σ(f)":
                lambda f, x: (x * log_expit(f)).sum(axis=-1),
            "zeros and ones are exchanged: p(x = 1) is σ(f), not 1 − σ(f)":
                lambda f, x: log_expit((1 - 2 * x) * f).sum(axis=-1),
            "one number for every pixel is left: the log likelihood of a case is their sum":
                lambda f, x: log_expit((2 * x - 1) * f),
            "where f is large σ(f) is rounded to 1, and log(1 − σ(f)) is a log of 0: write it by "
            "log(1 + exp(f)), and that so that exp cannot overflow":
                lambda f, x: (x * np.log(expit(f)) + (1 - x) * np.log(1 - expit(f))).sum(axis=-1),
        } | LOG_P_OF_BITS,
    ),
    Exercise(
        "09-2", "bernoulli_backward", "5.8", "df (S, N, D) of Σ dlog_p log p(x|f)",
        draw_bits_to_differentiate, by_gradient(weighted_bernoulli, "f"),
        {
            "right but for dlog_p, which is left out: what comes in multiplies every entry of its case":
                lambda f, x, dlog_p: x - expit(f),
            "the residual, times σ(1 − σ): that belongs to a squared error; in log p it has cancelled":
                lambda f, x, dlog_p: dlog_p[:, :, None] * (x - expit(f)) * expit(f) * expit(-f),
            "x − f is the residual of a Gaussian; f is a logit here, and what is expected is σ(f)":
                lambda f, x, dlog_p: dlog_p[:, :, None] * (x - f),
            "σ(f) − x is the gradient of −log p; the sign belongs to dlog_p, which is −1 in Q":
                lambda f, x, dlog_p: dlog_p[:, :, None] * (expit(f) - x),
            "x alone is left of x − σ(f): the term −log(1 + exp(f)) has a derivative too":
                lambda f, x, dlog_p: dlog_p[:, :, None] * x + 0 * f,
        } | SLOPE_OF_BITS,
    ),
]


# ---- counts and categories ----------------------------------------------------------------------


def draw_counts(rng, n):
    """Logarithms of rates f (N, D) and counts x (N, D), one of them large."""
    f = rng.standard_normal((n.N, n.D))
    x = rng.poisson(np.exp(f)) * 1.0
    f[0, 0], x[0, 0], x[1, 1] = 5.5, 250.0, 0.0
    return {"f": f, "x": x}


def poisson(f, x):
    """log p (N,) and df (N, D), by the package: a peak less a deviance, not x f − exp(f) − log x!."""
    likelihood = Poisson(x.shape[1])
    log_p, cache = likelihood.forward({}, f[None], x)
    df, _ = likelihood.backward({}, cache, np.ones_like(log_p))
    return {"log_p": log_p[0], "df": df[0]}


def poisson_with(log_p, df):
    """A function of f and x that has these two formulas, the first an entry's."""
    return lambda f, x: {"log_p": log_p(f, x).sum(axis=1), "df": df(f, x)}


def log_poisson(f, x):
    """log p of every entry."""
    return x * f - np.exp(f) - gammaln(x + 1)


def draw_categories(rng, n):
    """Logits f (N, D) of D categories, far from zero, and one-hot x (N, D)."""
    f = 2 * rng.standard_normal((n.N, n.D)) + 1000 * rng.standard_normal((n.N, 1))
    return {"f": f, "x": np.eye(n.D)[rng.integers(n.D, size=n.N)]}


def categorical(f, x):
    """log p (N,) and df (N, D), by the package's sum over blocks of columns."""
    likelihood = Categorical((x.shape[1],))
    log_p, cache = likelihood.forward({}, f[None], x)
    df, _ = likelihood.backward({}, cache, np.ones_like(log_p))
    return {"log_p": log_p[0], "df": df[0]}


def categorical_with(**other):
    """The right answer with other formulas for some of its parts."""
    return lambda f, x: categorical(f, x) | {name: made(f, x) for name, made in other.items()}


def softmax(f):
    """(N, D), each row adds up to 1."""
    return np.exp(log_softmax(f, axis=1))


def overflowing(f):
    """The softmax as it is written on paper."""
    return np.exp(f) / np.exp(f).sum(axis=1, keepdims=True)


def beside(other, **parts):
    """{sentence: function}: mistakes of one entry of the dict, the others being right."""
    (name, changed), = parts.items()
    return {
        f"right except for {name}: {sentence}": lambda f, x, change=change: (
            other(f, x) | {name: change(f=f, x=x)}
        )
        for sentence, change in changed.items()
    }


POISSON = beside(poisson, log_p={
    sentence.removeprefix("right but for "): function for sentence, function in of_terms({
        "x f": lambda f, x: (x * f).sum(axis=1), "the rate exp(f)": lambda f, x: -np.exp(f).sum(axis=1),
        "log x!": lambda f, x: -gammaln(x + 1).sum(axis=1),
    }).items()
} | {
    "f is taken off where its exp, the rate, should be": lambda f, x: np.sum(
        x * f - f - gammaln(x + 1), axis=1
    ),
    "only x f is left: rate and log x! are missing": lambda f, x: (x * f).sum(axis=1),
    "x log x − x is a first guess of log x!, and not exact: special.gammaln(x + 1) is": lambda f, x: (
        x * f - np.exp(f) - np.where(x > 0, x * np.log(np.maximum(x, 1)) - x, 0)
    ).sum(axis=1),
    "it is infinite where x = 0 and off elsewhere: log x! is gammaln(x + 1)": lambda f, x: (
        x * f - np.exp(f) - gammaln(x)
    ).sum(axis=1),
    "250! is beyond what a floating-point number can hold: gammaln gives its logarithm": lambda f, x: (
        x * f - np.exp(f) - np.where(x > 170, np.inf, gammaln(x + 1))
    ).sum(axis=1),
}) | beside(poisson, df={
    "the slope for f = log λ has no λ in front: (x/λ − 1) λ is x − λ": lambda f, x: (
        (x - np.exp(f)) * np.exp(f)
    ),
    "the rate is missing: −exp(f) has a slope, too": lambda f, x: x + 0 * f,
    "the counts are missing: data minus mean": lambda f, x: -np.exp(f),
    "f stands where the data x belong": lambda f, x: f - np.exp(f),
}) | {
    "both have their sign turned: asked are log p and its gradient": lambda f, x: {
        name: -part for name, part in poisson(f, x).items()
    },
}
CATEGORICAL = beside(categorical, log_p={
    "the normaliser log Σ_j exp(f_j) is missing: the logit alone is no log probability":
        lambda f, x: (x * f).sum(axis=1),
    "the largest logit was taken off, and in one of the two terms only": lambda f, x: (
        (x * f).sum(axis=1) - np.log(np.exp(f - f.max(axis=1, keepdims=True)).sum(axis=1))
    ),
    "it is that of the most probable category: asked is the one that was seen":
        lambda f, x: log_softmax(f, axis=1).max(axis=1),
    "this is Σ π log π, an entropy: x says which category was seen":
        lambda f, x: np.sum(softmax(f) * log_softmax(f, axis=1), axis=1),
    "categories that were not seen have no term of their own: Σ_d x_d log π_d is all": lambda f, x: np.sum(
        x * log_softmax(f, axis=1) + (1 - x) * np.log1p(-softmax(f)), axis=1
    ),
}) | beside(categorical, df={
    "log π stands where π belongs: x − π": lambda f, x: x - log_softmax(f, axis=1),
    "x is missing: the gradient is x − π": lambda f, x: softmax(f),
    "this is the slope of π itself: asked is that of its logarithm": lambda f, x: (
        x * softmax(f) * (1 - softmax(f))
    ),
    "this is the slope for π: for the logits it is x − π": lambda f, x: x / softmax(f),
}) | {
    "the largest logit of the whole table is taken off: it has to be that of each row": lambda f, x: {
        "log_p": (x * np.log(overflowing(f - f.max()))).sum(axis=1), "df": x - overflowing(f - f.max()),
    },
    "the largest logit of the whole table is taken off; it has to be that of each row": lambda f, x: (
        lambda g: {"log_p": (x * (g - np.log(np.exp(g).sum(axis=1, keepdims=True)))).sum(axis=1),
                   "df": x - overflowing(g)}
    )(f - f.max()),
}


COUNTS = [
    Exercise(
        "09-3", "poisson", "5.13", "log_p (N,) and df (N, D) of counts x (N, D) with rates exp(f), in a dict",
        draw_counts, by_value(poisson, names=["log_p", "df"]),
        {
            "log x! is left out: it has no f, so the gradient is right, and the value is no probability":
                poisson_with(lambda f, x: x * f - np.exp(f), lambda f, x: x - np.exp(f)),
            "log (x − 1)! stands where log x! belongs: gammaln(k) is log (k − 1)!":
                poisson_with(
                    lambda f, x: x * f - np.exp(f) - gammaln(np.maximum(x, 0.5)), lambda f, x: x - np.exp(f)
                ),
            "f is taken for the rate: it is the rate's logarithm, so that it may be any number":
                poisson_with(lambda f, x: x * np.log(np.abs(f)) - f - gammaln(x + 1), lambda f, x: x / f - 1),
            "right except for df: x/λ − 1 is the derivative for the rate λ; for f = log λ it is λ times that":
                poisson_with(log_poisson, lambda f, x: x * np.exp(-f) - 1),
            "right except for df: x − f is a Gaussian's; the mean of a Poisson variable is its rate, exp(f)":
                poisson_with(log_poisson, lambda f, x: x - f),
            "right except for df, which is that of −log p: data minus mean, x − exp(f), is that of log p":
                poisson_with(log_poisson, lambda f, x: np.exp(f) - x),
        } | POISSON,
    ),
    Exercise(
        "09-4", "categorical", "5.31", "log_p (N,) and df (N, D) of one-hot x (N, D), logits f, in a dict",
        draw_categories, by_value(categorical, names=["log_p", "df"]),
        {
            "right except for df: x (1 − π) is for the logit of the category that was seen; the logits of "
            "the others hear −π": categorical_with(df=lambda f, x: x * (1 - softmax(f))),
            "right except for df: this is the slope of Σ_j π_j, which is 1 whatever f is: asked is that of "
            "the log of the one that was seen": categorical_with(df=lambda f, x: 0 * f),
            "the softmax goes over the data cases: its columns add up to 1, and its rows should":
                lambda f, x: {
                    "log_p": (x * log_softmax(f, axis=0)).sum(axis=1),
                    "df": x - np.exp(log_softmax(f, axis=0)),
                },
            "the softmax goes over all of f at once: without axis=1 it knows nothing of data cases":
                lambda f, x: {
                    "log_p": (x * log_softmax(f)).sum(axis=1), "df": x - np.exp(log_softmax(f)),
                },
            "log π of all categories is added up: of each case the one that was seen counts, as x says":
                categorical_with(log_p=lambda f, x: log_softmax(f, axis=1).sum(axis=1)),
            "D bits with a σ each, which can all be 1 at once: of D categories exactly one is":
                lambda f, x: {"log_p": log_expit((2 * x - 1) * f).sum(axis=1), "df": x - expit(f)},
            "exp of a large logit overflows: first take the largest off each row; the softmax stays the same":
                lambda f, x: {
                    "log_p": (x * np.log(overflowing(f))).sum(axis=1), "df": x - overflowing(f),
                },
            "right except for df: x less the logits; what is expected is their softmax":
                categorical_with(df=lambda f, x: x - f),
            "right except for df, which is that of −log p: π − x, and x − π is asked":
                categorical_with(df=lambda f, x: softmax(f) - x),
        } | CATEGORICAL,
    ),
]


# ---- gross errors -------------------------------------------------------------------------------


def draw_residuals(rng, n):
    """Data x and means f (N, D), squared scales psi (D,), degrees of freedom dof."""
    f = rng.standard_normal((n.N, n.D))
    return {
        "x": f + rng.standard_t(3, (n.N, n.D)), "f": f, "psi": rng.uniform(0.3, 2.0, n.D),
        "dof": float(rng.uniform(2.5, 6.0)),
    }


def student_t_step(x, f, psi, dof):
    """Weights: a complex step through the log density, its slope over a Gaussian's; ψ by the package."""
    u, h = (x - f) / np.sqrt(psi), 1e-30
    slope = np.imag(-0.5 * (dof + 1) * np.log(1 + (u + 1j * h) ** 2 / dof)) / h
    squares = StudentT(x.shape[1], dof).squares({"log_psi": np.log(psi)}, f[None], x)
    return {"weight": -slope / u, "psi": squares[0].mean(axis=0)}


def student_with(weight=lambda u2, dof: (dof + 1) / (dof + u2), psi=lambda w, r2: (w * r2).mean(axis=0)):
    """A function of the arguments with these formulas for the weight and for ψ."""
    def answer(x, f, psi_before, dof):
        r2 = (x - f) ** 2
        made = weight(r2 / psi_before, dof)
        return {"weight": made, "psi": psi(made, r2)}

    return lambda x, f, psi, dof: answer(x, f, psi, dof)


def with_old_psi(psi):
    """The right weights, and ψ by a function of weights, squares and the ψ before."""
    def answer(x, f, psi_before, dof):
        r2 = (x - f) ** 2
        weight = (dof + 1) / (dof + r2 / psi_before)
        return {"weight": weight, "psi": psi(weight, r2, psi_before)}

    return lambda x, f, psi, dof: answer(x, f, psi, dof)


def weight_after(x, f, psi, dof):
    """The weights under the new ψ."""
    made = student_with()(x, f, psi, dof)
    return made | {"weight": student_with()(x, f, made["psi"], dof)["weight"]}


def pull_for_weight(x, f, psi, dof):
    """ω (x − f)/ψ in the place of ω."""
    made = student_with()(x, f, psi, dof)
    return made | {"weight": made["weight"] * (x - f) / psi}


STUDENT = {
    "ψ multiplies where it should divide: u² = (x − f)²/ψ": lambda x, f, psi, dof: (
        student_with()(x, f, 1 / psi, dof)
    ),
    "the residual is divided by √ψ, and its square has to be by ψ": lambda x, f, psi, dof: (
        student_with()(x, f, np.sqrt(psi), dof)
    ),
    "u stands where u² belongs: (ν + 1)/(ν + u²)":
        student_with(weight=lambda u2, dof: (dof + 1) / (dof + np.sqrt(u2))),
    "the weight is (ν + 1)/(ν + u²), and yours has 1 + u² below": student_with(
        weight=lambda u2, dof: (dof + 1) / (1 + u2)
    ),
    "u² is taken off below where it is added": student_with(weight=lambda u2, dof: (dof + 1) / (dof - u2)),
    "D stands where 1 belongs: each entry has a weight of its own, of one variable": student_with(
        weight=lambda u2, dof: (dof + u2.shape[1]) / (dof + u2)
    ),
    "this is one weight for a whole data case, that of Student's t in D dimensions: each entry has its own":
        student_with(
            weight=lambda u2, dof: (dof + u2.shape[1]) / (dof + u2.sum(axis=1, keepdims=True)) + 0 * u2
        ),
    "2 stands where 1 belongs above: (ν + 1)/(ν + u²)": student_with(
        weight=lambda u2, dof: (dof + 2) / (dof + u2)
    ),
    "the weights are divided by their sum: they are precisions, and need not add up to 1": student_with(
        weight=lambda u2, dof: (dof + 1) / (dof + u2) / np.sum((dof + 1) / (dof + u2), axis=0)
    ),
    "this is the pull ω (x − f)/ψ: the weight ω alone is asked": pull_for_weight,
    "the weights are those under the new psi: they are read from the psi that is given": weight_after,
    "right except for psi: the weights are squared in it": student_with(
        psi=lambda w, r2: (w**2 * r2).mean(axis=0)
    ),
    "right except for psi: divided by N − 1, and the step is a mean over N": student_with(
        psi=lambda w, r2: (w * r2).sum(axis=0) / (len(r2) - 1)
    ),
    "right except for psi: you handed back its logarithm": student_with(
        psi=lambda w, r2: np.log((w * r2).mean(axis=0))
    ),
    "right except for psi: it is multiplied by the old one: the new one replaces it": with_old_psi(
        lambda w, r2, psi: psi * (w * r2).mean(axis=0)
    ),
}


ERRORS = [
    Exercise(
        "09-5", "student_t_step", "5.37", "weight (N, D) of every residual, and the new psi (D,), in a dict",
        draw_residuals, by_value(student_t_step, names=["weight", "psi"]),
        {
            "ψ is a squared scale already: u² = (x − f)²/ψ, and you divide by ψ²":
                lambda x, f, psi, dof: student_with()(x, f, psi**2, dof),
            "the residual is not divided by ψ: whether 3 is far out depends on the column's scale":
                lambda x, f, psi, dof: student_with()(x, f, 1.0 + 0 * psi, dof),
            "the residual is not squared: u² = (x − f)²/ψ":
                lambda x, f, psi, dof: (lambda w: {"weight": w, "psi": (w * (x - f) ** 2).mean(axis=0)})(
                    (dof + 1) / (dof + (x - f) / psi)
                ),
            "right except for psi: the mean is of ω u², which is in units of the old psi: take ω (x − f)²":
                lambda x, f, psi, dof: (lambda right: {"weight": right["weight"], "psi": right["psi"] / psi})(
                    student_with()(x, f, psi, dof)
                ),
            "dof stands where dof + 1 belongs: at u = 0 the weight is (ν + 1)/ν, a little above 1":
                student_with(weight=lambda u2, dof: dof / (dof + u2)),
            "right except for psi: divided by the sum of the weights, and not by the number of cases":
                student_with(psi=lambda w, r2: (w * r2).sum(axis=0) / w.sum(axis=0)),
            "right except for psi: the squares are not weighted, so one gross error is enough to widen it":
                student_with(psi=lambda w, r2: r2.mean(axis=0) + 0 * w[0]),
            "right except for psi: it sums over the cases, where a mean square is asked":
                student_with(psi=lambda w, r2: (w * r2).sum(axis=0)),
            "right except for psi: this is its root; ψ is a squared scale":
                student_with(psi=lambda w, r2: np.sqrt((w * r2).mean(axis=0))),
        } | STUDENT,
    ),
]


# ---- missing cells ------------------------------------------------------------------------------


def draw_holes(rng, shape):
    """(N, D): whether a cell is missing: none of the first case, all of the second, some of the others."""
    hidden = rng.random(shape) < 0.4
    hidden[0], hidden[1], hidden[2:, 0], hidden[2:, 1] = False, True, True, False
    return hidden


def draw_gaussian_with_holes(rng, n):
    """Data x (N, D) with NaN where nothing was seen, means f (N, D), variances psi (D,)."""
    x = rng.standard_normal((n.N, n.D))
    x[draw_holes(rng, x.shape)] = np.nan
    return {"x": x, "f": rng.standard_normal((n.N, n.D)), "psi": rng.uniform(0.3, 2.0, n.D)}


def observed_log_p(x, f, psi):
    """(N,), case by case: the shorter vector, by the package's nlml of a model whose W is 0."""
    found = []
    for row, mean in zip(x, f):
        o = ~np.isnan(row)
        found.append(-nlml(np.zeros((1, o.sum())), mean[o], psi[o], row[o][None])[0] if o.any() else 0.0)
    return np.array(found)


def seen_in(x):
    """How many entries of each case were observed, (N,)."""
    return np.sum(~np.isnan(x), axis=1)


def entries(x, f, psi):
    """log p of every entry, (N, D), NaN where it is missing."""
    return -0.5 * ((x - f) ** 2 / psi + np.log(psi) + LOG_2PI)


def draw_model_with_holes(rng, n):
    """Data x (N, D) with NaN where nothing was seen, and a model W (K, D), b (D,), psi (D,)."""
    W, b, psi = rng.standard_normal((n.K, n.D)), 2 + rng.standard_normal(n.D), rng.uniform(0.3, 2.0, n.D)
    x = rng.standard_normal((n.N, n.K)) @ W + b + np.sqrt(psi) * rng.standard_normal((n.N, n.D))
    x[draw_holes(rng, x.shape)] = np.nan
    return {"x": x, "W": W, "b": b, "psi": psi}


def impute(x, W, b, psi):
    """Means of z (N, K) and the filled x, by the dense conditional of N(b, WᵀW + Ψ)."""
    C, mean, filled = W.T @ W + np.diag(psi), np.zeros((len(x), len(W))), x.copy()
    for n, row in enumerate(x):
        o = ~np.isnan(row)
        pull = np.linalg.solve(C[np.ix_(o, o)], (row - b)[o])
        mean[n] = W[:, o] @ pull
        filled[n, ~o] = b[~o] + C[np.ix_(~o, o)] @ pull
    return {"mean": mean, "x": filled}


def with_mean(mean, **other):
    """A function of the arguments that fills the holes by b + m W from these means m."""
    def answer(x, W, b, psi):
        m = mean(x, W, b, psi)
        filled = other.get("fill", lambda x, m, W, b: np.where(np.isnan(x), b + m @ W, x))
        return {"mean": m, "x": filled(x, m, W, b)}

    return answer


def by_precisions(x, W, b, psi, prior=1.0, filled=False):
    """Means of z (N, K), by the precision of every case; `filled`: that of a case without holes, for all."""
    o = ~np.isnan(x) | filled
    r = np.where(np.isnan(x), 0.0, x - b)
    return np.array([
        np.linalg.lstsq(prior * np.eye(len(W)) + (W * seen / psi) @ W.T, (W / psi) @ row, rcond=None)[0]
        for seen, row in zip(o, r)
    ])


def no_b(x, W, b, psi):
    """Means of z from x itself instead of x − b."""
    return by_precisions(x + b, W, b, psi)


def zeros_for_holes(x, W, b, psi):
    """Means of z where a hole is taken for the value 0."""
    return by_precisions(np.where(np.isnan(x), 0.0, x), W, b, psi)


def zeros_too_early(x, W, b, psi):
    """Means of z where the hole leaves M, and 0 − b stays of its deviation."""
    o, r = ~np.isnan(x), np.where(np.isnan(x), 0.0, x) - b
    return np.array([
        np.linalg.solve(np.eye(len(W)) + (W * seen / psi) @ W.T, (W / psi) @ row) for seen, row in zip(o, r)
    ])


def without_mask(x, W, b, psi):
    """Means of z that are NaN wherever a case has a hole."""
    return (x - b) / psi @ W.T @ np.linalg.inv(np.eye(len(W)) + (W / psi) @ W.T)


def of_seen(term):
    """A term of every entry, added up where something was seen."""
    return lambda x, f, psi: np.nansum(term(x, f, psi) + 0 * x, axis=1)


SEEN = of_terms({
    "the squares of the residuals": of_seen(lambda x, f, psi: -0.5 * (x - f) ** 2 / psi),
    "log ψ": of_seen(lambda x, f, psi: -0.5 * np.log(psi)),
    "log 2π": of_seen(lambda x, f, psi: -0.5 * LOG_2PI),
}) | of_terms({
    "the squares": of_seen(lambda x, f, psi: -0.5 * (x - f) ** 2 / psi),
    "log 2πψ": of_seen(lambda x, f, psi: -0.5 * np.log(2 * np.pi * psi)),
}) | {
    "the squares of the residuals are not divided by ψ": of_seen(
        lambda x, f, psi: entries(x, f, psi) + 0.5 * (x - f) ** 2 * (1 / psi - 1)
    ),
    "the sum is scaled up to all D entries: nothing stands for what nobody saw": lambda x, f, psi: (
        observed_log_p(x, f, psi) * x.shape[1] / np.maximum(seen_in(x), 1)
    ),
    "it is a mean over what was seen, and 0/0 where nothing was: asked is the sum": lambda x, f, psi: (
        np.nansum(entries(x, f, psi), axis=1) / seen_in(x)
    ),
    "the holes are filled with their columns' means first: nobody saw those": lambda x, f, psi: (
        entries(np.where(np.isnan(x), np.nanmean(x, axis=0), x), f, psi).sum(axis=1)
    ),
    "½ log 2π is still paid for entries that nobody saw": lambda x, f, psi: (
        np.nansum(entries(x, f, psi) + 0.5 * LOG_2PI, axis=1) - 0.5 * x.shape[1] * LOG_2PI
    ),
    "the sum goes over the data cases, axis 0: asked is one over the variables": lambda x, f, psi: (
        np.nansum(entries(x, f, psi), axis=0)
    ),
} | of_argument(observed_log_p, "psi", VARIANCE)


def other_precision(noise_in_M=True, noise_in_r=True, solved=1):
    """Means of z without ψ in one of its two places, or with M multiplied or not there."""
    def means(x, W, b, psi):
        o, r, ones = ~np.isnan(x), np.where(np.isnan(x), 0.0, x - b), 1.0 + 0 * psi
        M = [np.eye(len(W)) + (W * seen / (psi if noise_in_M else ones)) @ W.T for seen in o]
        pull = (r / (psi if noise_in_r else ones)) @ W.T
        power = {1: np.linalg.solve, 0: lambda M, p: p, -1: np.matmul}[solved]
        return np.array([power(*both) for both in zip(M, pull)])

    return means


def filled_first(x, W, b, psi):
    """Means of z of a table whose holes were filled by their columns' means."""
    return by_precisions(np.where(np.isnan(x), np.nanmean(x, axis=0), x), W, b, psi)


IMPUTE = {
    "M is not divided by: m M = r Ψ⁻¹ Wᵀ has to be solved": with_mean(other_precision(solved=0)),
    "M is multiplied where m M = r Ψ⁻¹ Wᵀ has to be solved": with_mean(other_precision(solved=-1)),
    "Ψ is left out of M: each entry adds W Wᵀ/ψ": with_mean(other_precision(noise_in_M=False)),
    "Ψ is left out of r Ψ⁻¹ Wᵀ, and is in M": with_mean(other_precision(noise_in_r=False)),
    "the mean of what was seen of x stands where the model's b belongs": lambda x, W, b, psi: with_mean(
        by_precisions
    )(x, W, np.nanmean(x, axis=0), psi),
    "the holes are filled with their columns' means before z is read: they should leave the sums":
        with_mean(filled_first),
    "right except for x: the holes are 0": with_mean(
        by_precisions, fill=lambda x, m, W, b: np.where(np.isnan(x), 0.0, x)
    ),
    "right except for x: the holes have the means of what was seen of their columns; z says more": with_mean(
        by_precisions, fill=lambda x, m, W, b: np.where(np.isnan(x), np.nanmean(x, axis=0), x)
    ),
    "right except for x: np.where has its two branches exchanged": with_mean(
        by_precisions, fill=lambda x, m, W, b: np.where(np.isnan(x), x, b + m @ W)
    ),
} | of_argument(with_mean(by_precisions), "psi", VARIANCE)


MISSING = [
    Exercise(
        "09-6", "observed_log_p", "5.40", "log p (N,) of what was observed of x (N, D), holes being NaN",
        draw_gaussian_with_holes, by_value(observed_log_p),
        {
            "the mean over the observed entries, where their sum is asked: who shows more counts more":
                lambda x, f, psi: np.nansum(entries(x, f, psi), axis=1) / np.maximum(seen_in(x), 1),
            "½ log 2πψ is still paid for entries that nobody saw: the whole term leaves the sum":
                lambda x, f, psi: entries(np.where(np.isnan(x), f, x), f, psi).sum(axis=1),
            "a hole is taken for the value 0: nobody saw a 0 there":
                lambda x, f, psi: entries(np.nan_to_num(x), f, psi).sum(axis=1),
            "½ log ψ is still paid for columns that nobody saw: it leaves with the residual":
                lambda x, f, psi: (
                    np.nansum(entries(x, f, psi) + 0.5 * np.log(psi), axis=1) - 0.5 * np.log(psi).sum()
                ),
            "log 2π stands where ½ log 2π belongs":
                lambda x, f, psi: np.nansum(entries(x, f, psi) - 0.5 * LOG_2PI, axis=1),
            "a case with a hole is dropped altogether: what was seen of it still counts":
                lambda x, f, psi: ~np.isnan(x).any(axis=1) * np.nansum(entries(x, f, psi), axis=1),
            "NaN and anything make NaN: the holes have to leave the sum before it is taken":
                lambda x, f, psi: entries(x, f, psi).sum(axis=1),
            "½ log 2π is left out for every entry, and cases have different numbers of entries":
                lambda x, f, psi: np.nansum(entries(x, f, psi) + 0.5 * LOG_2PI, axis=1),
            "ψ is a variance: (x − f)²/ψ, and you divide by its square":
                lambda x, f, psi: np.nansum(entries(x, f, psi**2), axis=1),
        } | SEEN,
    ),
    Exercise(
        "09-7", "impute", "2.20", "mean (N, K) of z given what was seen, and x with holes filled, in a dict",
        draw_model_with_holes, by_value(impute, names=["mean", "x"]),
        {
            "the precision is that of a complete case: where nothing was seen, the column leaves M too":
                with_mean(lambda x, W, b, psi: by_precisions(x, W, b, psi, filled=True)),
            "a hole is taken for the value 0: it should leave the sum, in the residual and in M":
                with_mean(zeros_for_holes),
            "the deviation of a hole is 0, not 0 − b: set it to 0 after b was taken off":
                with_mean(zeros_too_early),
            "NaN and anything make NaN: the holes have to leave the sums before these are taken":
                with_mean(without_mask),
            "b is not taken off x: z is about deviations from the mean":
                with_mean(no_b),
            "Ψ is left out: an entry counts by 1/ψ, in M and in the residual":
                with_mean(lambda x, W, b, psi: by_precisions(x, W, b, 1.0 + 0 * psi)),
            "M lacks the 1 of the prior: where nothing was seen the posterior is the prior":
                with_mean(lambda x, W, b, psi: by_precisions(x, W, b, psi, prior=0.0)),
            "right except for x: seen entries are replaced too; they are known, only the holes are filled":
                with_mean(by_precisions, fill=lambda x, m, W, b: b + m @ W),
            "right except for x: b is missing in what is filled in":
                with_mean(by_precisions, fill=lambda x, m, W, b: np.where(np.isnan(x), m @ W, x)),
            "right except for x: the holes have their columns' means b; z says more":
                with_mean(by_precisions, fill=lambda x, m, W, b: np.where(np.isnan(x), b, x)),
        } | IMPUTE,
    ),
]

EXERCISES = [*BITS, *COUNTS, *ERRORS, *MISSING]
