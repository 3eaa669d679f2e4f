"""The exercises of notebook 01, autoencoders and factor analysis: the principal plane, the gradient of an
autoencoder, denoising by Bayes' rule, the gradient of a linear probe, and which model can do what.
"""

from dataclasses import replace

import numpy as np

from ..exercise import Exercise, by_choice, by_gradient, by_value


# ---- the principal plane -----------------------------------------------------------------------


def draw_plane(rng, n):
    """Data (N, D) with a mean and, in turned axes, falling spreads; and K."""
    turn, _ = np.linalg.qr(rng.standard_normal((n.D, n.D)))
    x = rng.standard_normal((n.N, n.D)) * 2.0 ** -np.arange(n.D) @ turn + rng.uniform(1, 2, n.D)
    return {"x": x, "K": n.K}


def plane(x, K):
    """The points of the principal plane nearest to x, by the SVD of the centred data."""
    U, spread, V = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    return x.mean(axis=0) + (U[:, :K] * spread[:K]) @ V[:K]


def plane_of_least(x, K):
    """The plane of the K smallest eigenvalues."""
    V = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)[2][-K:]
    return x.mean(axis=0) + (x - x.mean(axis=0)) @ V.T @ V


def plane_of_rows(x, K):
    """The rows of the matrix whose columns are the eigenvectors."""
    V = np.linalg.eigh(np.cov(x.T, bias=True))[1][-K:]
    return x.mean(axis=0) + (x - x.mean(axis=0)) @ V.T @ V


def plane_through_zero(x, K):
    """Data that were not centred at all."""
    V = np.linalg.svd(x, full_matrices=False)[2][:K]
    return x @ V.T @ V


def plane_without_mean(x, K):
    """The projected deviations, to which the mean was not added."""
    return plane(x, K) - x.mean(axis=0)


def plane_about(mean, x, K):
    """The plane through another mean, of the deviations from it."""
    V = np.linalg.svd(x - mean, full_matrices=False)[2][:K]
    return mean + (x - mean) @ V.T @ V


def plane_without_spreads(x, K):
    """U V, the codes all of one spread."""
    U, _, V = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    return x.mean(axis=0) + U[:, :K] @ V[:K]


def plane_of_uncentred(x, K):
    """The right directions, in a plane through 0."""
    V = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)[2][:K]
    return x @ V.T @ V


def plane_of_standardised(x, K, *, undone=True):
    """The plane of columns that were divided by their standard deviations; these multiplied back, or not."""
    mean, scale = x.mean(axis=0), x.std(axis=0)
    u = (x - mean) / scale
    V = np.linalg.svd(u, full_matrices=False)[2][:K]
    return u @ V.T @ V * scale + mean if undone else u @ V.T @ V


def plane_along_standardised(x, K):
    """The deviations, projected on the directions of standardised columns."""
    V = np.linalg.svd((x - x.mean(axis=0)) / x.std(axis=0), full_matrices=False)[2][:K]
    return x.mean(axis=0) + (x - x.mean(axis=0)) @ V.T @ V


def plane_along_uncentred(x, K):
    """The deviations, projected on the directions of the uncentred products."""
    V = np.linalg.svd(x, full_matrices=False)[2][:K]
    return x.mean(axis=0) + (x - x.mean(axis=0)) @ V.T @ V


def plane_through(mean, x, K):
    """The right directions, through another point."""
    V = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)[2][:K]
    return mean + (x - mean) @ V.T @ V


def points_or_codes(arguments, given, sizes):
    """A judge: the points of the plane; codes (N, K) in their place are told what they are."""
    report = by_value(plane, names=("points",))(arguments, given, sizes)
    x, K = arguments["x"], arguments["K"]
    if getattr(given, "shape", None) not in ((len(x), K), (K, len(x))):
        return report
    sentence = (
        f"it has shape {given.shape} where {x.shape} is asked for: this is the code, not the point; multiply "
        "it by the transpose of the K eigenvectors, and add the mean"
    )
    return replace(report, rows=[replace(row, diagnosis=sentence) for row in report.rows])


# ---- the gradient of an autoencoder ------------------------------------------------------------


def draw_autoencoder(rng, n):
    """Data (N, D), and encoder V (D, K), a (K,) and decoder W (K, D), b (D,)."""
    return {
        "x": rng.standard_normal((n.N, n.D)), "V": 0.6 * rng.standard_normal((n.D, n.K)),
        "a": 0.5 * rng.standard_normal(n.K), "W": rng.standard_normal((n.K, n.D)),
        "b": rng.standard_normal(n.D),
    }


def squared_error(x, V, a, W, b):
    """½ ‖x − f(g(x))‖², the mean over the data cases."""
    return 0.5 * np.sum((np.tanh(x @ V + a) @ W + b - x) ** 2) / len(x)


def autoencoder_gradients(
    x, V, a, W, b, *, bend=lambda z: 1 - z**2, df=lambda residual, x: residual / len(x)
):
    """The four gradients, with the slope of tanh, given z, and that of the loss as they are handed in."""
    z = np.tanh(x @ V + a)
    df = df(z @ W + b - x, x)
    du = df @ W.T * bend(z)
    return x.T @ du, du.sum(axis=0), z.T @ df, df.sum(axis=0)


def bias_left_out(x, V, a, W, b):
    """The residual of z W alone."""
    return autoencoder_gradients(x, V, a, W, b, df=lambda residual, x: (residual - b) / len(x))


def of_shared_code(x, V, a, W, b):
    """dW from the decoder's input before its tanh."""
    dV, da, _, db = autoencoder_gradients(x, V, a, W, b)
    return dV, da, (x @ V + a).T @ (np.tanh(x @ V + a) @ W + b - x) / len(x), db


def in_order(*order):
    """A mistake: the right gradients in this order."""
    def mistake(**given):
        found = dict(zip(("V", "a", "W", "b"), autoencoder_gradients(**given)))
        return tuple(found[name] for name in order)

    return mistake


# ---- denoising by Bayes' rule ------------------------------------------------------------------


def draw_noisy(rng, n):
    """Noisy data (N, D), a model W (K, D), b (D,), ψ (D,), and the noise's variance."""
    return {
        "noisy": 2 * rng.standard_normal((n.N, n.D)), "W": rng.standard_normal((n.K, n.D)),
        "b": rng.uniform(1, 2, n.D), "psi": rng.uniform(0.3, 1.5, n.D), "tau2": rng.uniform(0.3, 0.8),
    }


def denoised(noisy, W, b, psi, tau2):
    """Wiener's filter: the conditional mean of two jointly normal vectors."""
    C = W.T @ W + np.diag(psi)
    return b + (noisy - b) @ np.linalg.solve(C + tau2 * np.eye(len(C)), C)


def decoded(noisy, W, b, psi, tau2=0.0):
    """b + m W, with m the posterior mean of z for noise ψ + τ²."""
    scaled = W / (psi + tau2)
    return b + np.linalg.solve(np.eye(len(W)) + scaled @ W.T, scaled @ (noisy - b).T).T @ W


def decoded_and_weighed(noisy, W, b, psi, tau2):
    """The rest weighed rightly, about what the posterior of clean data decodes to."""
    f = decoded(noisy, W, b, psi)
    return f + psi / (psi + tau2) * (noisy - f)


def decoded_without_psi(noisy, W, b, psi, tau2):
    """The reconstruction of noisy data, by the model of clean ones."""
    return decoded(noisy, W, b, psi)


def weighed_the_other_way(noisy, W, b, psi, tau2):
    """τ² over the sum in place of ψ over the sum."""
    f = decoded(noisy, W, b, psi, tau2)
    return f + tau2 / (psi + tau2) * (noisy - f)


def reconstructed(noisy, W, b, psi, tau2, *, b_of_f=1.0, b_of_m=1.0, more_in_M=1.0, more_in_m=1.0):
    """The two formulas of the notebook, with a share of b and of τ² in each place."""
    M = np.eye(len(W)) + (W / (psi + more_in_M * tau2)) @ W.T
    m = np.linalg.solve(M, (W / (psi + more_in_m * tau2)) @ (noisy - b_of_m * b).T).T
    f = b_of_f * b + m @ W
    return f + psi / (psi + tau2) * (noisy - f)


def filtered_about_zero(noisy, W, b, psi, tau2):
    """Deviations that were filtered, without the mean."""
    return denoised(noisy, W, b, psi, tau2) - b


def column_by_column(noisy, W, b, psi, tau2):
    """A filter for every column by itself."""
    variance = np.sum(W**2, axis=0) + psi
    return b + (noisy - b) * variance / (variance + tau2)


def shrunk_columns(noisy, W, b, psi, tau2):
    """The rest about b: no z at all."""
    return b + psi / (psi + tau2) * (noisy - b)


def weighed_about_b(noisy, W, b, psi, tau2):
    """f, and beside it the weighed deviation from b."""
    return decoded(noisy, W, b, psi, tau2) + psi / (psi + tau2) * (noisy - b)


def noise_itself(noisy, W, b, psi, tau2):
    """E[ε | x̃]."""
    return noisy - denoised(noisy, W, b, psi, tau2)


# ---- the gradient of a linear probe ------------------------------------------------------------


def draw_probe(rng, n):
    """Codes (N, K), labels (N,) of as many classes as there are columns of data, a probe, and λ."""
    return {
        "z": rng.standard_normal((n.N, n.K)), "y": rng.integers(n.D, size=n.N),
        "W": rng.standard_normal((n.K, n.D)), "b": rng.standard_normal(n.D), "penalty": rng.uniform(0.3, 0.6),
    }


def cross_entropy(z, y, W, b, penalty):
    """The mean of −log p(y_n|z_n)."""
    logits = z @ W + b
    return np.mean(np.logaddexp.reduce(logits, axis=1) - logits[np.arange(len(y)), y])


def weight_decay(z, y, W, b, penalty):
    """λ/2 ‖W‖²."""
    return 0.5 * penalty * np.sum(W**2)


def probe_loss(z, y, W, b, penalty):
    """What the probe minimises."""
    return cross_entropy(z, y, W, b, penalty) + weight_decay(z, y, W, b, penalty)


def probe_gradients(z, y, W, b, penalty, *, p=None, onehot=None, decay_W=1.0, decay_b=0.0, scale=None):
    """The two gradients with these probabilities, labels and decays in place of the right ones."""
    logits = z @ W + b
    right = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
    p = right if p is None else p(logits)
    onehot = np.eye(len(b))[y] if onehot is None else onehot(y, len(b))
    d = (p - onehot) * (1 / len(z) if scale is None else scale)
    return z.T @ d + decay_W * penalty * W, d.sum(axis=0) + decay_b * penalty * b


def over_cases(logits):
    """A softmax over the data cases."""
    e = np.exp(logits)
    return e / e.sum(axis=0)


def each_by_itself(logits):
    """The logistic function of every logit."""
    return 1 / (1 + np.exp(-logits))


# ---- which model can do what -------------------------------------------------------------------

CAN = {
    "give a code z": "both",
    "follow a curved surface": "autoencoder",
    "say how likely x is": "factor analysis",
    "draw new data": "factor analysis",
    "be told the noise when asked to denoise": "factor analysis",
}

BECAUSE = {
    ("give a code z", "autoencoder"):
        "factor analysis gives a code too: the mean of its posterior p(z|x), and with it how sure it is",
    ("give a code z", "factor analysis"): "an autoencoder gives a code too: that is what its encoder is for",
    ("follow a curved surface", "factor analysis"):
        "the mean of factor analysis is z W + b: whatever W is, a plane; it is the autoencoder that bends",
    ("follow a curved surface", "both"):
        "z W + b is a plane, however many latent variables there are: factor analysis does not bend",
    ("say how likely x is", "autoencoder"):
        "a small reconstruction error is no probability: an autoencoder defines no p(x), and one that copies "
        "makes no error for any x",
    ("say how likely x is", "both"):
        "the squared error of an autoencoder is no density: it integrates to nothing, and how likely a code "
        "is "
        "stays open",
    ("draw new data", "autoencoder"):
        "nothing says where its codes lie, so there is no z to draw; decoding the code of a data case is no "
        "draw",
    ("draw new data", "both"):
        "to draw x one draws z first, from p(z): an autoencoder has none; encoding a data case is not "
        "sampling",
    ("be told the noise when asked to denoise", "autoencoder"):
        "it has no variance to which one could be added: its noise is settled when it is trained",
    ("be told the noise when asked to denoise", "both"):
        "a denoising autoencoder is told when it is trained, for one level of noise; when it is asked, "
        "nothing "
        "can be told it any more",
}
BECAUSE |= {(task, "neither"): f"one of the two at the least can {task}" for task in CAN}


PLANES = {
    "it is the plane in which the data vary least: eigh sorts its eigenvalues upwards": plane_of_least,
    "eigh hands its eigenvectors over as columns, and you took rows: vectors[:, -K:], not vectors[-K:]":
        plane_of_rows,
    "the data were not centred: the plane of the uncentred products goes through 0, and wastes an axis on "
    "the mean":
        plane_through_zero,
    "right but for the mean, which was taken off and not put back": plane_without_mean,
    "one mean was taken over all numbers: each column has its own, x.mean(axis=0)":
        lambda x, K: plane_about(x.mean(), x, K),
    "the mean was taken over the columns of each data case: it belongs over the data cases, axis=0":
        lambda x, K: plane_about(x.mean(axis=1, keepdims=True), x, K),
    "the singular values are missing between U and V: all codes have the same spread": plane_without_spreads,
    "the directions are right, but x itself was projected: take the mean off before, and put it back after":
        plane_of_uncentred,
    "x was standardised before: that is the plane of other data; here every column keeps its own unit":
        plane_of_standardised,
    "the directions are those of standardised columns: take them from the deviations as they are":
        plane_along_standardised,
    "the directions are those of the uncentred products x.T @ x: take the mean off before":
        plane_along_uncentred,
    "the directions are right, and one mean was taken over all numbers: each column has its own":
        lambda x, K: plane_through(x.mean(), x, K),
    "the mean was put back, and not taken off before the projection":
        lambda x, K: x.mean(axis=0) + plane_of_uncentred(x, K),
    "this is the plane's first axis alone, a line: K axes are asked for":
        lambda x, K: plane(x, 1),
    "x was standardised, and the points were left in these units: columns keep their unit, and their mean":
        lambda x, K: plane_of_standardised(x, K, undone=False),
    "these are the data themselves: all D axes were kept, or nothing was projected; the plane has K of them":
        lambda x, K: x,
}
GRADIENTS = {
    "the decoder's part is right; the encoder's lacks the slope of tanh, 1 − z²": {"bend": np.ones_like},
    "the slope of tanh is 1 − z², with z = tanh(u) as it is: you took tanh a second time":
        {"bend": lambda z: 1 - np.tanh(z) ** 2},
    "the slope of tanh is 1 − z²; 1 − z lacks the square": {"bend": lambda z: 1 - z},
    "the slope z (1 − z) is that of the logistic function; of tanh it is 1 − "
    "z²": {"bend": lambda z: z * (1 - z)},
    "the factor N everywhere: the loss is a mean over the data cases, and its gradient begins with df = (f − "
    "x)/N":
        {"df": lambda residual, x: residual},
    "a mean over all N·D numbers stands where the squared error sums over the columns: all is too small by "
    "the "
    "factor D": {"df": lambda residual, x: residual / x.size},
    "the factor 2 everywhere: the loss has a ½, which takes away the 2 of the square":
        {"df": lambda residual, x: 2 * residual / len(x)},
    "every sign is turned: df is (f − x)/N, and you began with x − "
    "f": {"df": lambda residual, x: -residual / len(x)},
}
DENOISED = {
    "this is a reconstruction, b + m W: what noisy says of x beside z, by way of Ψ, is left out": decoded,
    "this reconstructs noisy as if it were clean: the noise is nowhere; it belongs into Ψ, as ψ + τ²":
        decoded_without_psi,
    "the posterior of z is that of clean data: given noisy, its noise is ψ + τ², in M as "
    "well": decoded_and_weighed,
    "the rest is weighed the wrong way round: the share ψ/(ψ + τ²) of noisy − f is x's own, τ²/(ψ + τ²) the "
    "noise's":
        weighed_the_other_way,
    "right but for b, which has to be added again": filtered_about_zero,
    "this is what the noise was, on average, and not what x was: τ² and C have changed places": noise_itself,
    "right but for the b of f = b + m W, which is missing: the rest is then weighed as noisy − m W":
        lambda **given: reconstructed(**given, b_of_f=0.0),
    "in m stands noisy where noisy − b belongs: m is about deviations from b":
        lambda **given: reconstructed(**given, b_of_m=0.0),
    "right but for M, in which the noise is ψ: given noisy it is ψ + τ² there, too":
        lambda tau2, **given: reconstructed(tau2=tau2, **given, more_in_M=0.0),
    "right but for the mean of z, in which the noise is ψ: given noisy it is ψ + τ² there, too":
        lambda tau2, **given: reconstructed(tau2=tau2, **given, more_in_m=0.0),
    "b is nowhere: the deviations noisy − b are filtered, and b is added again afterwards":
        lambda noisy, b, **given: denoised(noisy, b=0 * b, **given),
    "b was added, and not taken off before: it is the deviations noisy − b that are filtered":
        lambda noisy, b, **given: b + denoised(noisy, b=0 * b, **given),
    "tau2 is a variance already, and was squared": lambda tau2, **given: denoised(tau2=tau2**2, **given),
    "tau2 is a variance, and a root of it was added to Ψ: variances add, standard deviations do not":
        lambda tau2, **given: denoised(tau2=np.sqrt(tau2), **given),
    "z is nowhere: what is weighed is noisy − f, with f = b + m W, and you took b for f": shrunk_columns,
    "what is weighed is noisy − f; you took noisy − b, so that m W is counted twice": weighed_about_b,
    "C is W.T @ W + Ψ, and Ψ is left out of it: x strays from its plane too":
        lambda psi, **given: denoised(psi=1e-12 * psi, **given),
    "each column was filtered by its own variance alone: what the others say of it, by way of W, is left out":
        column_by_column,
}
PROBE_TERMS = {"cross entropy": cross_entropy, "weight decay": weight_decay}
PROBES = {
    "the label is missing: the slope of a logit is p − 1 where it is the label's, and p elsewhere":
        {"onehot": lambda y, C: np.zeros((len(y), C))},
    "the probabilities sum to 1 over the data cases: the softmax goes over the classes, "
    "axis=1": {"p": over_cases},
    "the number of the class was taken off, and not a 1 in its place: labels are names, np.eye(C)[y]":
        {"onehot": lambda y, C: np.repeat(y[:, None], C, axis=1)},
    "each logit went through a logistic function by itself: the softmax has all classes in its denominator":
        {"p": each_by_itself},
    "right except for db: the bias is not penalised": {"decay_b": 1.0},
    "the weight decay is λW, not 2λW: the ½ of λ/2 takes away the 2 of the square": {"decay_W": 2.0},
    "the cross entropy is a mean over the data cases, and its 1/N is missing": {"scale": 1.0},
}


def varied(function, changed):
    """A mistake: the function with something changed."""
    return lambda **given: function(**given, **changed)


EXERCISES = [
    Exercise(
        "01-1", "principal_plane", "8.7", "the points of the principal plane nearest to x, (N, D)",
        draw_plane, points_or_codes, PLANES,
    ),
    Exercise(
        "01-2", "autoencoder_gradients", "1.19", "dV (D, K), da (K,), dW (K, D), db (D,), in this order",
        draw_autoencoder, by_gradient(squared_error, ("V", "a", "W", "b")),
        {sentence: varied(autoencoder_gradients, changed) for sentence, changed in GRADIENTS.items()} | {
            "right except for dW: what the decoder multiplies W by is z = tanh(u), not u": of_shared_code,
            "the decoder's output is f = z W + b, and the residual lacks b": bias_left_out,
            "all four are right, but in another order: dV, da, dW, db is asked for, and the decoder's two "
            "came first": in_order("W", "b", "V", "a"),
            "all four are right, but in another order: dV, da, dW, db is asked for, and the decoder's stand "
            "before the encoder's": in_order("W", "V", "b", "a"),
            "all four are right, but in another order: dV, da, dW, db is asked for, and they came from the "
            "last to the first": in_order("b", "W", "a", "V"),
            "all four are right, but in another order: dV, da, dW, db is asked for, and the weights came "
            "before the biases": in_order("V", "W", "a", "b"),
        },
    ),
    Exercise(
        "01-3", "denoise", "5.28", "E[x | noisy] (N, D), the noise having the variance tau2", draw_noisy,
        by_value(denoised, names=("clean x",)), DENOISED,
    ),
    Exercise(
        "01-4", "probe_gradients", "8.4", "dW (K, C), db (C,), in this order", draw_probe,
        by_gradient(probe_loss, ("W", "b"), terms=PROBE_TERMS),
        {sentence: varied(probe_gradients, changed) for sentence, changed in PROBES.items()},
    ),
    Exercise(
        "01-5", "who_can", "1.19", "for each task: autoencoder, factor analysis, both or neither", None,
        by_choice(CAN, BECAUSE),
    ),
]
