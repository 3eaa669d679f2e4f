"""What a model is worth: −log p(x_n|θ) for every data case, by every road, each with its error.

    exact        the closed form of a linear-Gaussian model
    grid.grid    quadrature for K ≤ 3, the referee of non-linear models
    prior        plain Monte Carlo: right on average, and useless once the data say much about z
    importance   samples from q(z|φ_n), which know where to look; `iwae` is its bound for every k
    laplace      a normal distribution around the posterior's mode
    ais.ais      annealed importance sampling, from the prior to the posterior in many small steps

Every road returns an `NLML`: values (N,) in nats, a standard error or a certificate (N,) where it has
one, and its name. Equations (7.x) are in derivations/equations.md.
"""

from typing import NamedTuple

from . import infer, linear_gaussian, tree
from .backend import constant, double, identity, namespace
from .infer import blocks
from .likelihoods import split
from .model import Model
from .posteriors import LOG_2PI


class FewDrawsWarning(UserWarning):
    """A sampled number hangs on a few of its draws: no error can be stated for it."""


class NLML(NamedTuple):
    """−log p(x_n) per data case.

    values                 (N,) in nats
    standard_error         (N,), or None where the method is deterministic; inf where it is large and
                           carried by a few draws, so that it would say nothing                  (7.15)
    certificate            (N,) how far the value moved when it was computed more finely, or None
    method                 the name of the method
    effective_sample_size  (N,) how many equal weights the unequal ones are worth, or None     (7.6)
    """

    values: object
    standard_error: object
    certificate: object
    method: str
    effective_sample_size: object = None


def exact(model, theta, x):
    """The closed form of a linear-Gaussian model, through the K × K matrix                (2.6).

    Computed in float64. Raises ValueError where the model is not linear-Gaussian.
    """
    if not linear_gaussian.applies(model):
        raise ValueError(
            "method='exact' needs a linear decoder and a Gaussian likelihood; "
            "use method='grid' for K <= 3, else 'importance'"
        )
    parameters = linear_gaussian.parameters(model, tree.map(double, theta))
    values = linear_gaussian.nlml(*parameters, *split(model.likelihood, double(x)))
    return NLML(namespace(x).astype(values, x.dtype), None, None, "exact")


def prior(model, theta, x, rng, *, n_samples=10_000):
    """Plain Monte Carlo: −log (1/S) Σ_s p(x_n|z_s), z_s ~ N(0, I), the same for every case     (7.7).

    Without bias in p(x_n), yet hardly any z_s lies where the posterior of x_n is, so the mean hangs on
    one sample: the value is too high, and its standard error (7.2), computed from the same few, would be
    too small. It is then inf, and `effective_sample_size` near 1. Computed in float64          (7.15).
    """
    _check_samples("plain Monte Carlo", n_samples)
    dtype, theta, x = x.dtype, tree.map(double, theta), double(x)
    xp = namespace(x)
    totals = [StreamingLogMeanExp(xp) for _ in blocks(x.shape[0], 1)]
    for start in range(0, n_samples, CHUNK):
        z = constant(rng.standard_normal((min(CHUNK, n_samples - start), model.n_latent)), like=x)
        f, _ = model.decoder.forward(theta["decoder"], z)
        for total, rows in zip(totals, blocks(x.shape[0], 1)):
            total.add(model.likelihood.cross(theta["likelihood"], f, x[rows, :]))
    found = _collect(xp, totals, "prior")
    arrays = {"values", "standard_error", "effective_sample_size"}
    return found._replace(**{name: xp.astype(getattr(found, name), dtype) for name in arrays})


def importance(model, theta, phi, x, rng, *, n_samples=1000):
    """Importance sampling from q(z|φ_n): −log (1/S) Σ_s p(x_n, z_s) / q(z_s|φ_n)           (7.1).

    In expectation the value is an upper bound on −log p(x_n) that falls with n_samples (Burda et
    al. 2016). The standard error is that of log p̂ by the delta method (7.2). Where a few samples dominate
    the weights it would be too small, and never above 1 however wrong the value (7.6): there it is inf,
    and nothing is stated                                                                      (7.15).
    All data cases share the draws η, which are made in chunks, so memory does not grow with n_samples.
    """
    _check_samples("importance sampling", n_samples)
    xp = namespace(phi, x)
    noise = [
        rng.standard_normal((min(64, n_samples - start), 1, model.n_latent))
        for start in range(0, n_samples, 64)
    ]
    totals = []
    for rows in blocks(x.shape[0], 64):
        total = StreamingLogMeanExp(xp)
        for eta in noise:
            eta = constant(eta, like=phi)
            total.add(log_weight(model, theta, phi[rows, :], x[rows, :], eta))
        totals.append(total)
    return _collect(xp, totals, "importance")


class IWAE(NamedTuple):
    """The importance-weighted bounds: sizes, the list of k; values and standard_error (len(sizes), N)."""

    sizes: tuple
    values: object
    standard_error: object


def iwae(model, theta, phi, x, rng, *, sizes=(1, 5, 50, 500, 5000), n_samples=5000):
    """L_k = −E[log (1/k) Σ_{s≤k} w_s] for every k in sizes, in nats per data case             (7.8).

    L_1 is Q, L_k falls with k, and tends to nlml (Burda et al. 2016). The n_samples draws are used for
    every k, as n_samples // k groups of k, whose mean is the value and whose spread its standard error
    (NaN for a single group). Returns an `IWAE`; raises ValueError for no k or one outside 1 … n_samples.
    """
    sizes = tuple(sizes)
    if not sizes or not all(1 <= k <= n_samples for k in sizes):
        raise ValueError(f"every k must lie in 1 … n_samples = {n_samples}, got sizes={sizes}")
    xp = namespace(phi, x)
    eta = rng.standard_normal((n_samples, 1, model.n_latent))
    values, errors = [], []
    step = max(1, min(128, PAIRS // n_samples))
    for start in range(0, x.shape[0], step):
        rows = slice(start, min(start + step, x.shape[0]))
        log_w = xp.concat(
            [
                log_weight(model, theta, phi[rows, :], x[rows, :], constant(eta[s : s + 64], like=phi))
                for s in range(0, n_samples, 64)
            ],
            axis=0,
        )                                                          # (n_samples, n)
        columns = [_group_means(log_w, k) for k in sizes]
        values.append(xp.stack([mean for mean, _ in columns]))
        errors.append(xp.stack([error for _, error in columns]))
    return IWAE(sizes, xp.concat(values, axis=1), xp.concat(errors, axis=1))


def laplace(model, theta, x, rng):
    """Laplace's approximation: p(x_n, z) as a normal distribution around its mode ẑ_n          (7.9).

    The mode is sought from 0 and from the best of many draws of the prior, the better kept; its
    curvature H_n is the central difference of the hand-derived gradient. Exact for a linear-Gaussian
    model; elsewhere neither a bound nor of known error. NaN where H_n is not positive definite or no mode
    was reached (kinks, of ReLU, have none). Computed in float64.
    """
    theta, x = tree.map(double, theta), double(x)
    xp, K = namespace(x), model.n_latent
    # Q at the single node η = 0 is −log p(x|m) + KL, and its minimiser over m is the mode.
    point = Model(model.decoder, model.likelihood, K)
    z = constant(rng.standard_normal((infer.SEARCH_POINTS, K)), like=x)
    starts = [infer.prior_phi(point, x), infer.search(point, theta, x, z)]
    eta, weights = xp.zeros_like(z[:1, :])[None, :, :], xp.ones_like(z[:1, 0])
    found = infer.from_starts(point, theta, starts, x, eta, weights, max_steps=500)
    mode = found.phi[:, :K]
    parts = [_around(model, theta, x[rows, :], mode[None, rows, :]) for rows in blocks(x.shape[0], 1)]
    values = xp.concat(parts, axis=0)
    values = xp.where(found.gradient_norm < 1e-3, values, xp.zeros_like(values) + float("nan"))
    return NLML(values, None, None, "laplace")


def _around(model, theta, x, mode):
    """Laplace's value (N,) around the modes (1, N, K); NaN where H is not positive definite."""
    xp, K = namespace(x), model.n_latent
    h = 1e-5
    columns = []
    for k in range(K):
        e = constant([h if j == k else 0.0 for j in range(K)], like=x)
        _, up = log_likelihood_gradient(model, theta, x, mode + e)
        _, down = log_likelihood_gradient(model, theta, x, mode - e)
        columns.append((down - up)[0, :, :] / (2 * h))             # (N, K)
    H = xp.stack(columns, axis=2)
    H = 0.5 * (H + xp.permute_dims(H, (0, 2, 1))) + identity(K, like=x)  # + that of −log p(z)
    curved = xp.min(xp.linalg.eigvalsh(H), axis=1) > 0
    _, log_det = xp.linalg.slogdet(H)
    values = 0.5 * log_det - log_joint(model, theta, x, mode)[0, :] - 0.5 * K * LOG_2PI
    return xp.where(curved, values, xp.zeros_like(values) + float("nan"))


def log_likelihood(model, theta, x, z):
    """log p(x_n|z_ns) (S, N) at latent points z (S, N, K), and the caches for its gradient."""
    S, N, K = z.shape
    xp = namespace(x, z)
    f, decoder_cache = model.decoder.forward(theta["decoder"], xp.reshape(z, (S * N, K)))
    f = xp.reshape(f, (S, N, model.likelihood.n_f))
    log_px, likelihood_cache = model.likelihood.forward(theta["likelihood"], f, x)
    return log_px, (decoder_cache, likelihood_cache)


def log_likelihood_gradient(model, theta, x, z):
    """log p(x_n|z_ns) (S, N) and its gradient in z (S, N, K): the likelihood's backward, then the
    decoder's                                                                              (7.10).
    """
    xp = namespace(x, z)
    S, N, K = z.shape
    log_px, (decoder_cache, likelihood_cache) = log_likelihood(model, theta, x, z)
    df, _ = model.likelihood.backward(
        theta["likelihood"], likelihood_cache, xp.ones_like(log_px), need_dparams=False
    )
    df = xp.reshape(df, (S * N, model.likelihood.n_f))
    dz, _ = model.decoder.backward(theta["decoder"], decoder_cache, df, need_dparams=False)
    return log_px, xp.reshape(dz, (S, N, K))


def log_prior(z):
    """log N(z; 0, I) at latent points z (…, K)."""
    return -0.5 * namespace(z).sum(z * z, axis=-1) - 0.5 * z.shape[-1] * LOG_2PI


def log_joint(model, theta, x, z):
    """log p(x_n, z_ns) (S, N) at latent points z (S, N, K)                                 (1.2)."""
    return log_likelihood(model, theta, x, z)[0] + log_prior(z)


def log_weight(model, theta, phi, x, eta):
    """log p(x_n, z_ns) − log q(z_ns|φ_n) (S, N) at z = sample(φ, η)."""
    z, _ = model.posterior.sample(phi, eta)                        # (S, N, K)
    log_q, _ = model.posterior.log_prob(phi, z)
    return log_joint(model, theta, x, z) - log_q


LARGE, FEW = 0.2, 5  # a standard error above LARGE nats is stated where at least FEW draws carry it
CHUNK = 512        # draws of the prior whose decoder output is held at a time
PAIRS = 2**20      # log weights held at a time by `iwae`


def _check_samples(what, n_samples):
    if n_samples < 2:
        raise ValueError(f"{what} needs n_samples >= 2, got {n_samples}")


def _collect(xp, totals, method):
    """The `NLML` of the blocks' totals."""
    log_p, error, size = (xp.concat(list(field), axis=0) for field in zip(*(t.result() for t in totals)))
    return NLML(-log_p, error, None, method, size)


def _group_means(log_w, k):
    """L_k (n,) from log weights (S, n) in S // k groups of k, and its standard error (n,)."""
    xp = namespace(log_w)
    groups = log_w.shape[0] // k
    log_w = xp.reshape(log_w[: groups * k, :], (groups, k, log_w.shape[1]))
    top = xp.max(log_w, axis=1)
    bounds = -xp.log(xp.mean(xp.exp(log_w - top[:, None, :]), axis=1)) - top  # (groups, n)
    mean = xp.mean(bounds, axis=0)
    if groups == 1:
        return mean, xp.zeros_like(mean) + float("nan")
    return mean, xp.sqrt(xp.sum((bounds - mean) ** 2, axis=0) / (groups * (groups - 1)))


def stated(error, squares, fourths):
    """A standard error (N,) in nats, inf where it may not be stated: above `LARGE`, and carried by fewer than
    `FEW` draws, told by the sums (N,) over the draws of the squares in it and of their squares    (7.15).
    """
    xp = namespace(error)
    hidden = (error > LARGE) & (squares * squares < FEW * fourths)
    return xp.where(hidden, xp.zeros_like(error) + float("inf"), error)


class StreamingLogMeanExp:
    """log mean exp and its standard error over samples that come in chunks (S, N)."""

    def __init__(self, xp):
        self.xp, self.count, self.top = xp, 0, None

    def add(self, log_w):
        xp = self.xp
        top = xp.max(log_w, axis=0)
        if self.top is None:
            self.top = top
            self.sum, self.squares, self.fourths = (xp.zeros_like(top) for _ in range(3))
        new_top = xp.where(top > self.top, top, self.top)
        shrink = xp.exp(self.top - new_top)
        w = xp.exp(log_w - new_top)
        self.sum = self.sum * shrink + xp.sum(w, axis=0)
        self.squares = self.squares * shrink**2 + xp.sum(w * w, axis=0)
        self.fourths = self.fourths * shrink**4 + xp.sum((w * w) ** 2, axis=0)
        self.top = new_top
        self.count += log_w.shape[0]

    def result(self):
        """log mean exp, its standard error, inf where a few samples carry it, and the effective sample
        size, (N,)                                                    (7.1), (7.2), (7.6), (7.15).
        """
        xp, S = self.xp, self.count
        mean = self.sum / S
        variance = (self.squares / S - mean * mean) * (S / (S - 1))
        variance = xp.where(variance > 0, variance, xp.zeros_like(variance))
        log_mean = xp.log(mean) + self.top
        error = xp.sqrt(variance / S) / mean
        return log_mean, stated(error, self.squares, self.fourths), self.sum * self.sum / self.squares
