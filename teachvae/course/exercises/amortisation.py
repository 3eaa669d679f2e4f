"""The exercises of notebook 07, amortisation and the VAE."""

from functools import partial

import numpy as np

from ...networks.layers import Linear, Sequential, Tanh
from ..exercise import Exercise, by_gradient, by_value

# ---- a recognition network ---------------------------------------------------------------------


def _network(rng, n):
    """x (N, D) and the weights of an encoder with S hidden units: A (D, S), a, B (S, 2K), c."""
    return {
        "x": rng.standard_normal((n.N, n.D)),
        "A": 0.6 * rng.standard_normal((n.D, n.S)),
        "a": 0.5 * rng.standard_normal(n.S),
        "B": 0.6 * rng.standard_normal((n.S, 2 * n.K)),
        "c": 0.5 * rng.standard_normal(2 * n.K),
    }


def _layers(x, A, a, B, c):
    """φ (N, 2K) by the package's own layers."""
    (D, H), n_phi = A.shape, B.shape[1]
    network = Sequential((Linear(D, H), Tanh(), Linear(H, n_phi)))
    return network.forward([{"W": A, "b": a}, {}, {"W": B, "b": c}], x)[0]


def _recognised(x, A, a, B, c):
    m, log_s = np.split(_layers(x, A, a, B, c), 2, axis=1)
    return m, np.exp(log_s)


def _heads(read):
    """A mistake: `read` makes (m, s) of the two halves of φ."""
    return lambda x, A, a, B, c: read(*np.split(_layers(x, A, a, B, c), 2, axis=1))


def _bent_by(bend, a_in=1, c_in=1):
    """A mistake: another function than tanh in the hidden layer, or a bias left out."""
    def made(x, A, a, B, c):
        m, log_s = np.split(bend(x @ A + a_in * a) @ B + c_in * c, 2, axis=1)
        return m, np.exp(log_s)

    return made


RECOGNISE = Exercise(
    "07-1", "recognise", "1.17", "mean and standard deviation of q(z|x) for every data case, by a network",
    _network, by_value(_recognised, names=["m", "s"]),
    {
        "the halves of φ are exchanged: the first K columns are m, the last K are log s":
            _heads(lambda m, log_s: (log_s, np.exp(m))),
        "s came back as its logarithm: the network names log s, so that exp makes it positive":
            _heads(lambda m, log_s: (m, log_s)),
        "exp(½ ·) is for a log-variance: here the network names log s, the logarithm of a standard deviation":
            _heads(lambda m, log_s: (m, np.exp(0.5 * log_s))),
        "s came back as the variance s²: a standard deviation is asked for":
            _heads(lambda m, log_s: (m, np.exp(2 * log_s))),
        "the output layer is linear: with a tanh around it no mean could leave the interval from −1 to 1":
            _heads(lambda m, log_s: (np.tanh(m), np.exp(np.tanh(log_s)))),
        "the columns of φ are taken in turn; φ = [m | log s] has all of m first":
            lambda **arguments: (_layers(**arguments)[:, ::2], np.exp(_layers(**arguments)[:, 1::2])),
        "the hidden layer's tanh is left out: without it both layers are one linear map":
            lambda x, A, a, B, c: (
                ((x @ A + a) @ B + c)[:, : len(c) // 2], np.exp(((x @ A + a) @ B + c)[:, len(c) // 2 :])
            ),
        "a rectifier bends the hidden layer, where tanh is asked for": _bent_by(lambda v: np.maximum(v, 0)),
        "the logistic function bends the hidden layer, where tanh is asked for":
            _bent_by(lambda v: 0.5 * (1 + np.tanh(0.5 * v))),
        "the bias a of the hidden layer is left out": _bent_by(np.tanh, a_in=0),
        "the bias c of the output layer is left out": _bent_by(np.tanh, c_in=0),
        "s came first: the mean is asked for first, the standard deviation second":
            _heads(lambda m, log_s: (np.exp(log_s), m)),
        "softplus makes positive numbers, too, but φ holds log s: exp brings s back":
            _heads(lambda m, log_s: (m, np.logaddexp(0, log_s))),
        "the size of log s is no standard deviation: exp brings s back":
            _heads(lambda m, log_s: (m, np.abs(log_s))),
    },
)

# ---- its gradient ------------------------------------------------------------------------------


def _network_and_slope(rng, n):
    """The network, and a slope of Q in every entry of its output."""
    return _network(rng, n) | {"dphi": rng.standard_normal((n.N, 2 * n.K))}


def _seen_through_dphi(x, A, a, B, c, dphi):
    """The number whose slope in φ is dphi."""
    return float(np.sum(dphi * _layers(x, A, a, B, c)))


def _encoder_slip(slope=lambda dh, h, before: dh * (1 - h**2), share=lambda N: 1, bias=1, last=np.tanh):
    """A mistake: in front of tanh is what `slope` says, all is times `share` of N, a is left out, or dB sees
    `last` of what is inside of tanh.
    """
    def made(x, A, a, B, c, dphi):
        before = x @ A + bias * a
        h, k = np.tanh(before), share(len(x))
        d = slope(dphi @ B.T, h, before)
        return k * x.T @ d, k * d.sum(axis=0), k * last(before).T @ dphi, k * dphi.sum(axis=0)

    return made


def _encoder_half(place):
    """A mistake: in this place of the four the slope of tanh is left out."""
    def made(**arguments):
        right = list(_encoder_slip()(**arguments))
        right[place] = _encoder_slip(lambda dh, h, before: dh)(**arguments)[place]
        return tuple(right)

    return made


ENCODER_GRADIENT = Exercise(
    "07-2", "encoder_gradient", "1.18", "the gradient of the bound in the network's weights, from that in φ",
    _network_and_slope,
    by_gradient(_seen_through_dphi, ("A", "a", "B", "c"), inputs={
        "1 − h²": lambda x, A, a, B, c, dphi: 1 - np.tanh(x @ A + a) ** 2,
    }),
    {
        "dB and dc are right; on the way back to A the slope of tanh, 1 − h², is left out":
            _encoder_slip(lambda dh, h, before: dh),
        "the slope of tanh is 1 − h² with h = tanh(xA + a), and not with what stands inside of tanh":
            _encoder_slip(lambda dh, h, before: dh * (1 - before**2)),
        "the slope of tanh is 1 − h², and h² alone is taken":
            _encoder_slip(lambda dh, h, before: dh * h**2),
        "the mean over the data cases is taken: all of them pull on one v, and their pulls add up; a mean of "
        "Q is in dphi already":
            _encoder_slip(share=lambda N: 1 / N),
        "all but dB is right: what enters the last layer is h, with its tanh":
            _encoder_slip(last=lambda before: before),
        "the forward forgets the bias a, and with it h is another":
            _encoder_slip(bias=0),
        "the slope of tanh is 1 − h², and 1 − h is taken":
            _encoder_slip(lambda dh, h, before: dh * (1 - h)),
        "dh is multiplied by h, and the slope of tanh is 1 − h²":
            _encoder_slip(lambda dh, h, before: dh * h),
        "the slope is taken at h, as 1 − tanh(h)²: h is the tanh already":
            _encoder_slip(lambda dh, h, before: dh * (1 - np.tanh(h) ** 2)),
        "all but dA is right: the slope of tanh is missing on its way": _encoder_half(0),
        "all but da is right: the slope of tanh is missing on its way": _encoder_half(1),
    },
)

# ---- a whole step of the VAE -------------------------------------------------------------------


def _vae(rng, n):
    """Everything of a VAE: the encoder, the decoder f(z) = tanh(z) W + b, log ψ, and the noise η."""
    return {
        "x": rng.standard_normal((n.N, n.D)),
        "eta": rng.standard_normal((n.S, n.N, n.K)),
        "A": 0.6 * rng.standard_normal((n.D, 2 * n.K - 1)),
        "a": 0.5 * rng.standard_normal(2 * n.K - 1),
        "B": 0.4 * rng.standard_normal((2 * n.K - 1, 2 * n.K)),
        "c": np.concatenate([0.5 * rng.standard_normal(n.K), -0.3 - 0.5 * rng.random(n.K)]),
        "W": rng.standard_normal((n.K, n.D)),
        "b": 0.5 * rng.standard_normal(n.D),
        "log_psi": -0.2 - 0.5 * rng.random(n.D),
    }


def _reconstruction(x, eta, A, a, B, c, W, b, log_psi):
    """(S, N): what each sample adds to the mean reconstruction term."""
    m, log_s = np.split(_layers(x, A, a, B, c), 2, axis=1)
    f = np.tanh(m + np.exp(log_s) * eta) @ W + b
    cost = 0.5 * np.sum((x - f) ** 2 / np.exp(log_psi) + log_psi + np.log(2 * np.pi), axis=2)
    return cost / (len(eta) * len(x))


def _price(x, eta, A, a, B, c, W, b, log_psi):
    """(N,): what each data case adds to the mean KL."""
    m, log_s = np.split(_layers(x, A, a, B, c), 2, axis=1)
    return 0.5 * np.sum(m**2 + np.exp(2 * log_s) - 1 - 2 * log_s, axis=1) / len(x)


def _mean_Q(**arguments):
    return float(_reconstruction(**arguments).sum() + _price(**arguments).sum())


def _vae_slip(x, eta, A, a, B, c, W, b, log_psi, *, slip):
    """The gradient by hand, with one mistake."""
    N, S, K = len(x), len(eta), len(W)
    h = np.tanh(x @ A + a)
    m, log_s = (h @ B + c)[:, :K], (h @ B + c)[:, K:]
    s, psi = np.exp(log_s), np.exp(log_psi)
    z = m + s * eta
    t = np.tanh(z)
    r = x - (t @ W + b)
    df = -r / psi / (N * (1 if slip == "S" else S))
    dW = np.einsum("snk,snd->kd", z if slip == "z" else t, df)
    dlog_psi = 0.5 * np.sum((0 if slip == "log psi" else 1) - r**2 / psi, axis=(0, 1)) / (N * S)
    dz = df @ W.T * (1 if slip == "tanh" else 1 - (z if slip == "1 - z" else t) ** 2)
    price = {"no KL": 0, "KL of all": 1}.get(slip, 1 / N)
    dm = dz.sum(axis=0) + price * m
    ds = dz.sum(axis=0) if slip == "eta" else (dz * eta).sum(axis=0)
    slope = {"-1": s**2, "half": 0.5 * (s**2 - 1), "in s": s - 1 / s}.get(slip, s**2 - 1)
    dlog_s = ds * (1 if slip == "s" else s) + price * slope
    dphi = np.concatenate([dm, dlog_s], axis=1)
    before = dphi @ B.T * (1 - h**2)
    return x.T @ before, before.sum(axis=0), h.T @ dphi, dphi.sum(axis=0), dW, df.sum(axis=(0, 1)), dlog_psi


VAE_GRADIENT = Exercise(
    "07-3", "vae_gradient", "12.1", "the gradient of the mean Q in all that a variational autoencoder learns",
    _vae,
    by_gradient(
        _mean_Q, ("A", "a", "B", "c", "W", "b", "log_psi"),
        terms={"reconstruction": _reconstruction, "KL": _price},
    ),
    {sentence: partial(_vae_slip, slip=slip) for slip, sentence in {
        "no KL": "the decoder is right; the encoder's gradient lacks the KL, which pulls m to 0 and s to 1",
        "KL of all": "right except for the KL term: it is a sum over the data cases, where Q is their mean",
        "-1": "right except for the KL term: its slope in log s is s² − 1, and the −1, of −log s, is missing",
        "half": "right except for the KL term: its slope in log s is s² − 1 without a ½, as ∂s²/∂log s = 2s²",
        "in s": "right except for the KL term: s − 1/s is its slope in s, and in log s it is s times that",
        "s": "the decoder is right; on the way to log s the factor s is left out: ∂s/∂log s = s",
        "eta": "the decoder is right; on the way to s the noise is left out: ∂z/∂s = η",
        "tanh": "the decoder's own gradient is right; on the way back to z the slope 1 − tanh²z is left out",
        "1 - z": "on the way back to z the slope is 1 − z², and the slope of tanh z is 1 − tanh²z",
        "z": "all but dW is right: the linear layer sees tanh(z), and dW was taken with z",
        "S": "the reconstruction is a sum over the samples, where it is their mean: its df lacks 1/S",
        "log psi": "all but dlog_psi is right: the ½ log ψ of the density, whose slope is ½, is left out",
    }.items()},
)

# ---- new data ----------------------------------------------------------------------------------


def _ingredients(rng, n):
    """What a fitted model and some data leave on the table: codes m, s (S, K), noise, and the decoder."""
    return {
        "m": rng.standard_normal((n.S, n.K)),
        "s": 0.2 + 0.3 * rng.random((n.S, n.K)),
        "eta": rng.standard_normal((n.S, n.K)),
        "epsilon": rng.standard_normal((n.S, n.D)),
        "W": rng.standard_normal((n.K, n.D)),
        "b": rng.standard_normal(n.D),
        "psi": 0.3 + rng.random(n.D),
    }


def _drawn(m, s, eta, epsilon, W, b, psi):
    """New rows, number by number."""
    S, D = epsilon.shape
    return np.array([
        [sum(np.tanh(z) * w for z, w in zip(eta[i], W[:, d])) + b[d] + psi[d] ** 0.5 * epsilon[i, d]
         for d in range(D)] for i in range(S)
    ])


NEW_DATA = Exercise(
    "07-4", "new_data", "7.24", "rows that the model makes, and no encodings of rows that there were",
    _ingredients, by_value(_drawn, names=["x"]),
    {
        "these are reconstructions, z = m + sη: they encode data that there were; a new row draws z from the "
        "prior":
            lambda m, s, eta, epsilon, W, b, psi: np.tanh(m + s * eta) @ W + b + np.sqrt(psi) * epsilon,
        "these are decoded means of codes: neither z nor x was drawn":
            lambda m, s, eta, epsilon, W, b, psi: np.tanh(m) @ W + b,
        "these are decoded draws of q: z = m + sη encodes data that there were, and x has no noise":
            lambda m, s, eta, epsilon, W, b, psi: np.tanh(m + s * eta) @ W + b,
        "z is drawn, x is not: f(z) is the mean of p(x|z), and a row has noise of variance ψ around it":
            lambda m, s, eta, epsilon, W, b, psi: np.tanh(eta) @ W + b,
        "ψ is a variance: the noise is times its root":
            lambda m, s, eta, epsilon, W, b, psi: np.tanh(eta) @ W + b + psi * epsilon,
        "the prior is N(0, I): its draws are η itself, without the s of any data case":
            lambda m, s, eta, epsilon, W, b, psi: np.tanh(s * eta) @ W + b + np.sqrt(psi) * epsilon,
        "the decoder's tanh is left out":
            lambda m, s, eta, epsilon, W, b, psi: eta @ W + b + np.sqrt(psi) * epsilon,
        "the codes' means are decoded, and noise is added: z has to be drawn from the prior":
            lambda m, s, eta, epsilon, W, b, psi: np.tanh(m) @ W + b + np.sqrt(psi) * epsilon,
        "the prior is N(0, I): its draws are η itself, without the m of any data case":
            lambda m, s, eta, epsilon, W, b, psi: np.tanh(m + eta) @ W + b + np.sqrt(psi) * epsilon,
        "the noise of x has the variance 1 here, and its variance is ψ":
            lambda m, s, eta, epsilon, W, b, psi: np.tanh(eta) @ W + b + epsilon,
        "psi holds variances, and it was taken for their logarithms":
            lambda m, s, eta, epsilon, W, b, psi: np.tanh(eta) @ W + b + np.exp(psi / 2) * epsilon,
        "the noise is divided by the root of the variance, and multiplied is right":
            lambda m, s, eta, epsilon, W, b, psi: np.tanh(eta) @ W + b + epsilon / np.sqrt(psi),
        "the noise is taken off: it would be a draw as well, but here ε is given to be added":
            lambda m, s, eta, epsilon, W, b, psi: np.tanh(eta) @ W + b - np.sqrt(psi) * epsilon,
        "b is left out of f(z) = tanh(z) W + b":
            lambda m, s, eta, epsilon, W, b, psi: np.tanh(eta) @ W + np.sqrt(psi) * epsilon,
        "the tanh goes around all of the decoder: f(z) = tanh(z) W + b has it around z alone":
            lambda m, s, eta, epsilon, W, b, psi: np.tanh(eta @ W + b) + np.sqrt(psi) * epsilon,
    },
)

# ---- the amortisation gap ----------------------------------------------------------------------


def _named_and_exact(rng, n):
    """What a network says, m, s (N, K), and the exact posterior, its mean (N, K) and precision M (K, K)."""
    half = rng.standard_normal((n.K, n.K))
    return {
        "m": rng.standard_normal((n.N, n.K)),
        "s": 0.3 + rng.random((n.N, n.K)),
        "mean": rng.standard_normal((n.N, n.K)),
        "M": np.eye(n.K) + 0.2 * half @ half.T + 2 * np.ones((n.K, n.K)),
    }


def _kl(m, C, mean, M):
    """KL(N(m, C) ‖ N(mean, M⁻¹)), through determinants."""
    r, log_dets = m - mean, np.linalg.slogdet(C)[1] + np.linalg.slogdet(M)[1]
    return 0.5 * (np.trace(C @ M) - len(m) + r @ M @ r - log_dets)


def _excess(m, s, mean, M):
    """The KL of every q to its posterior, less that of the best diagonal q."""
    best = np.diag(1 / np.diag(M))
    return np.array([
        _kl(m_n, np.diag(s_n**2), mean_n, M) - _kl(mean_n, best, mean_n, M)
        for m_n, s_n, mean_n in zip(m, s, mean)
    ])


AMORTISATION_GAP = Exercise(
    "07-5", "amortisation_gap", "10.3", "what a network's q costs beyond the best q of its family, in nats",
    _named_and_exact, by_value(_excess, names=["gap"]),
    {
        "the sign: Q is minimised, so the gap is Q of the network less the least Q, and never below 0":
            lambda m, s, mean, M: -_excess(m, s, mean, M),
        "this is all of Q − nlml: what even the best diagonal q misses is the approximation gap, and not the "
        "network's":
            lambda m, s, mean, M: np.array([
                _kl(m_n, np.diag(s_n**2), mean_n, M) for m_n, s_n, mean_n in zip(m, s, mean)
            ]),
        "the widths are right; of the means only their own precision M_kk is asked, and M couples them: the "
        "quadratic form is (m − m*) M (m − m*)ᵀ":
            lambda m, s, mean, M: 0.5 * np.sum(
                np.diag(M) * (s**2 + (m - mean) ** 2) - 1 - np.log(np.diag(M) * s**2), axis=1
            ),
        "right except for the widths, which cost something too wherever M_kk s² is not 1":
            lambda m, s, mean, M: 0.5 * np.einsum("nk,kj,nj->n", m - mean, M, m - mean),
        "the means are left out: q pays for lying beside the posterior, too":
            lambda m, s, mean, M: _excess(m, s, m, M),
        "right except for the ½ of the quadratic form in m − m*, which is forgotten":
            lambda m, s, mean, M: 2 * _excess(m, s, mean, M) - _excess(m, s, m, M),
        "right except for a constant: the best widths are 1/√M_kk, so under the log stands M_kk s², not s²":
            lambda m, s, mean, M: _excess(m, s, mean, M) + 0.5 * np.sum(np.log(np.diag(M))),
        "s is a standard deviation: s² belongs beside M_kk":
            lambda m, s, mean, M: _excess(m, np.sqrt(s), mean, M),
        "M is a precision, and it was taken for a covariance":
            lambda m, s, mean, M: _excess(m, s, mean, np.linalg.inv(M)),
        "mean where the bound sums over the latent variables":
            lambda m, s, mean, M: _excess(m, s, mean, M) / m.shape[1],
        "right except for the widths: the best are 1/√M_kk, and the marginals' from M⁻¹ are wider":
            lambda m, s, mean, M: _excess(m, s, m, np.diag(1 / np.diag(np.linalg.inv(M))))
            + _excess(m, s, mean, M) - _excess(m, s, m, M),
        "right except for the means: M⁻¹ stands in the quadratic form, where the precision M belongs":
            lambda m, s, mean, M: _excess(m, s, m, M)
            + 0.5 * np.einsum("nk,kj,nj->n", m - mean, np.linalg.inv(M), m - mean),
        "right except for the means: the distance is not measured by M, the precision":
            lambda m, s, mean, M: _excess(m, s, m, M) + 0.5 * np.sum((m - mean) ** 2, axis=1),
        "right except for the logarithm: under it stands M_kk s², with s squared":
            lambda m, s, mean, M: _excess(m, s, mean, M) + 0.5 * np.sum(np.log(s), axis=1),
        "right except for the logarithm: it is taken off, and here it is added":
            lambda m, s, mean, M: _excess(m, s, mean, M) + np.sum(np.log(np.diag(M) * s**2), axis=1),
        "right except for the widths: they are upside down, as in KL(p ‖ q); Q has KL(q ‖ p)":
            lambda m, s, mean, M: _excess(m, 1 / (s * np.diag(M)), mean, M),
    },
)

# ---- when to stop ------------------------------------------------------------------------------


def _held_out_path(rng, n):
    """Q of held-out data after every epoch: it falls, waits one epoch less than the patience, falls to its
    best, waits for as long as the patience and longer, and would fall again.
    """
    patience = n.K + 1
    down = [3.0, 2.2, 1.6]
    wait = [1.9, *np.linspace(1.85, 1.7, patience - 2)]            # falls again, but to no new lowest
    best = [1.0]
    end = [1.4, 1.2, *np.linspace(1.5, 1.8, n.S)]
    later = [0.2, 0.1]                                             # what is never seen
    path = 50 + np.array([*down, *wait, *best, *end, *later])
    path += 0.02 * rng.random(len(path))
    lowest = len(down) + len(wait)
    path[lowest + patience - 1] = path[lowest]                     # as low, and no new lowest
    return {"path": path, "patience": patience}


def _stopped(path, patience):
    lowest = np.minimum.accumulate(path)
    best_of = np.array([int(np.flatnonzero(path == low)[0]) + 1 for low in lowest])
    ends = np.flatnonzero(np.arange(1, len(path) + 1) - best_of >= patience)
    n_epochs = int(ends[0]) + 1 if len(ends) else len(path)
    return n_epochs, int(best_of[n_epochs - 1])


def _stops_where(path, patience, waits):
    """A mistake: epochs without a fall are counted by `waits` (waited, path, e, lowest so far)."""
    waited = 0
    for e in range(1, len(path)):
        waited = waits(waited, path, e, path[:e].min())
        if waited >= patience:
            break
    return e + 1, int(np.argmin(path[: e + 1])) + 1


def _ties_are_new(path, patience):
    """A mistake: a value as low as the lowest counts for a new one."""
    n_epochs, _ = _stops_where(path, patience, lambda w, p, e, low: 0 if p[e] <= low else w + 1)
    return n_epochs, n_epochs - patience


STOP_EARLY = Exercise(
    "07-6", "stop_early", "12.2", "after which epoch training ends, and the epoch whose parameters are kept",
    _held_out_path, by_value(_stopped, names=["n_epochs", "best"]),
    {
        "the whole path was looked at: when training ends, the epochs after it have not happened":
            lambda path, patience: (len(path), int(np.argmin(path)) + 1),
        "it ends at the first epoch that is no lower: the patience was not had":
            lambda path, patience: _stops_where(path, 1, lambda w, p, e, low: 0 if p[e] < low else w + 1),
        "epochs are counted from 1, and here they are counted from 0":
            lambda path, patience: tuple(v - 1 for v in _stopped(path, patience)),
        "one epoch too many: it ends as soon as `patience` epochs in a row have brought no new lowest":
            lambda path, patience: (_stopped(path, patience)[0] + 1, _stopped(path, patience)[1]),
        "one epoch too few: `patience` epochs without a new lowest come after the best one":
            lambda path, patience: (_stopped(path, patience)[0] - 1, _stopped(path, patience)[1]),
        "each epoch is compared with the one before it: what counts is the lowest of all so far":
            lambda path, patience: _stops_where(
                path, patience, lambda w, p, e, low: 0 if p[e] < p[e - 1] else w + 1
            ),
        "a new lowest sets the counter back to 0: here it goes on counting":
            lambda path, patience: _stops_where(path, patience, lambda w, p, e, low: w + (p[e] >= low)),
        "training ends rightly, and the last parameters are kept: keep those of the best epoch":
            lambda path, patience: (_stopped(path, patience)[0],) * 2,
        "a value that is equal to the lowest is no new lowest: < and not ≤":
            _ties_are_new,
        "training ends rightly, and the best is looked for on the whole path: later epochs have not happened":
            lambda path, patience: (_stopped(path, patience)[0], int(np.argmin(path)) + 1),
        "the two are exchanged: first how many epochs were run, then the best of them":
            lambda path, patience: _stopped(path, patience)[::-1],
        "the best epoch is right; training went on after it, until the patience was at its end":
            lambda path, patience: (_stopped(path, patience)[1],) * 2,
        "the best epoch is right, and training did not go on to the end of the path":
            lambda path, patience: (len(path), _stopped(path, patience)[1]),
        "the number of epochs is right; the best epoch is counted from 0, and from 1 is asked for":
            lambda path, patience: (_stopped(path, patience)[0], _stopped(path, patience)[1] - 1),
    },
)

# ---- which latent variables are used -------------------------------------------------------------


def _means(rng, n):
    """The means of q (N, K), of units that the data move much and little, and a threshold between them."""
    deviation = np.where(np.arange(n.K) % 2 == 0, 0.8, 0.05) * (1 + 0.1 * rng.random(n.K))
    m = rng.standard_normal((n.N, n.K))
    m = (m - m.mean(axis=0)) / m.std(axis=0) * deviation + 0.3 + 0.2 * rng.random(n.K)
    return {"m": m, "threshold": 0.01}


def _activity(m, threshold):
    variance = np.array([sum((v - sum(u) / len(u)) ** 2 for v in u) / len(u) for u in m.T.tolist()])
    return variance, variance > threshold


def _by(statistic):
    """A mistake: another statistic (K,) than the variance of the means."""
    return lambda m, threshold: (statistic(m), statistic(m) > threshold)


ACTIVE_UNITS = Exercise(
    "07-7", "active_units", "10.8", "which latent variables the data move, and by how much",
    _means, by_value(_activity, names=["variance", "active"]),
    {
        "the mean square is taken: a unit that says 0.4 of every x has one, and tells nothing of x; subtract "
        "the mean over the data first":
            _by(lambda m: np.mean(m**2, axis=0)),
        "the standard deviation is taken, and the threshold is one of a variance":
            _by(lambda m: np.std(m, axis=0)),
        "the variance is over the latent variables of a case: how a unit moves with the data is over axis 0":
            _by(lambda m: np.var(m, axis=1)),
        "the divisor is N − 1: with N − 1 it is an estimate for other data, and N is asked for":
            _by(lambda m: np.var(m, axis=0, ddof=1)),
        "the variances are right; these are the units at rest: active is above the threshold":
            lambda m, threshold: (np.var(m, axis=0), np.var(m, axis=0) < threshold),
        "the variances are right; which units are active is asked for, and not how many":
            lambda m, threshold: (np.var(m, axis=0), int(np.sum(np.var(m, axis=0) > threshold))),
        "the variances are right; active is a variance above the threshold, and not a standard deviation":
            lambda m, threshold: (np.var(m, axis=0), np.std(m, axis=0) > threshold),
        "the mean over all units is subtracted: each unit has a mean of its own, over the data cases":
            _by(lambda m: np.mean((m - m.mean()) ** 2, axis=0)),
    },
)


def _covariance(rng, n):
    """A covariance S (D, D), and a noise variance below K − 1 of its eigenvalues."""
    turn = np.linalg.qr(rng.standard_normal((n.D, n.D)))[0]
    eigenvalues = np.sort(0.4 + np.arange(n.D) + 0.5 * rng.random(n.D))[::-1]
    sigma2 = 0.7 * eigenvalues[n.K - 1] + 0.3 * eigenvalues[n.K - 2]
    return {"S": turn * eigenvalues @ turn.T, "sigma2": float(sigma2), "K": n.K}


def _moved(S, sigma2, K):
    """Var_n[m_nk] of the model at its optimum, by its posterior: M⁻¹ W S Wᵀ M⁻¹ / σ⁴."""
    U, values, _ = np.linalg.svd(S)
    W = np.sqrt(np.maximum(values[:K] - sigma2, 0))[:, None] * U[:, :K].T
    beta = np.linalg.solve(np.eye(K) + W @ W.T / sigma2, W / sigma2)
    return np.diag(beta @ S @ beta.T).copy()


def _of_eigenvalues(function):
    """A mistake: another function of the K largest eigenvalues λ and σ²."""
    return lambda S, sigma2, K: function(np.linalg.eigvalsh(S)[::-1][:K], sigma2)


VARIANCE_OF_MEANS = Exercise(
    "07-8", "variance_of_means", "10.10", "which units of a linear VAE collapse, how much the others move",
    _covariance, by_value(_moved, names=["variance"]),
    {
        "a unit below the noise has collapsed, its variance is 0: here it is below 0":
            _of_eigenvalues(lambda v, sigma2: 1 - sigma2 / v),
        "no unit is active here: are these the K largest eigenvalues, which eigvalsh has last, and is it σ²?":
            lambda S, sigma2, K: np.maximum(0, 1 - sigma2 / np.linalg.eigvalsh(S)[:K]),
        "the right numbers from the smallest eigenvalue to the largest: the largest comes first":
            lambda S, sigma2, K: np.maximum(0, 1 - sigma2 / np.linalg.eigvalsh(S)[-K:]),
        "λ − σ² is the squared length of a row of W: the mean of its posterior varies by that over λ":
            _of_eigenvalues(lambda v, sigma2: np.maximum(0, v - sigma2)),
        "σ² is given, and its root was taken":
            _of_eigenvalues(lambda v, sigma2: np.maximum(0, 1 - sigma2**0.5 / v)),
        "σ² is given, and was squared once more":
            _of_eigenvalues(lambda v, sigma2: np.maximum(0, 1 - sigma2**2 / v)),
        "this is σ²/λ, the variance that is left to the posterior: the means have the rest of 1":
            _of_eigenvalues(lambda v, sigma2: np.minimum(1, sigma2 / v)),
        "1 for an active unit and 0 for the others came back: how much the mean moves is asked for":
            _of_eigenvalues(lambda v, sigma2: (v > sigma2).astype(float)),
    },
)

EXERCISES = [
    RECOGNISE, ENCODER_GRADIENT, VAE_GRADIENT, NEW_DATA, AMORTISATION_GAP, STOP_EARLY, ACTIVE_UNITS,
    VARIANCE_OF_MEANS,
]
