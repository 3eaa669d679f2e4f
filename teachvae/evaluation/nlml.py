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

from ..arrays import tree
from ..arrays.backend import constant, double, namespace, to_numpy
from ..arrays.observed import seen
from ..arrays.rows import blocks
from ..arrays.workers import each
from ..inference import linear_gaussian
from ..inference.expectations import log_weight
from ..messages import counted, on_a_page, over_cases


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

    print(nlml) is a table of the means.
    """

    values: object
    standard_error: object
    certificate: object
    method: str
    effective_sample_size: object = None

    def __str__(self):
        values, error, stated = _finite(self.values), None, None
        for name, field in (("std. error", self.standard_error), ("certificate", self.certificate)):
            if field is not None:
                error, stated = name, _finite(field)
        N, n = len(self.values), len(values)
        lines = [over_cases("nats per data case", [("NLML", values, stated)], error)]
        lines.append(f"over {counted(n)}; method: {self.method}")
        if n < N:
            lines.append(f"left out: {counted(N - n)} more, whose value is not known")
        if error is not None:
            known = f"{len(stated)} of {N}, at most {stated.max():.1g}" if len(stated) else "none"
            lines.append(f"{error}: the mean of those that are known, {known}")
        if self.effective_sample_size is not None:
            size = to_numpy(self.effective_sample_size)
            lines.append(f"effective sample size: mean {size.mean():.1f}, least {size.min():.1f}")
        return "\n".join(lines)

    def __repr__(self):
        values = _finite(self.values)
        mean = f": mean {values.mean():.4f} nats" if len(values) else ""
        return f"<NLML of {counted(len(self.values))}, {self.method}{mean}>"

    _repr_html_ = on_a_page


def _finite(field):
    values = to_numpy(field)
    return values[abs(values) < float("inf")]


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
    values = linear_gaussian.nlml(*parameters, *seen(double(x)))
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
    parts = [(rows, StreamingLogMeanExp(xp)) for rows in blocks(x.shape[0], 1)]
    for start in range(0, n_samples, CHUNK):
        z = constant(rng.standard_normal((min(CHUNK, n_samples - start), model.n_latent)), like=x)
        f, _ = model.f(theta, z)

        def add(part):
            rows, total = part
            total.add(model.likelihood.cross(theta["likelihood"], f, *seen(x[rows, :])))

        list(each(add, parts))
    found = _collect(xp, [total for _, total in parts], "prior")
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

    def total(rows):
        total = StreamingLogMeanExp(xp)
        for eta in noise:
            eta = constant(eta, like=phi)
            total.add(log_weight(model, theta, phi[rows, :], x[rows, :], eta))
        return total

    return _collect(xp, each(total, blocks(x.shape[0], 64)), "importance")


LARGE, FEW = 0.2, 5  # a standard error above LARGE nats is stated where at least FEW draws carry it
CHUNK = 512        # draws of the prior whose decoder output is held at a time


def _check_samples(what, n_samples):
    if n_samples < 2:
        raise ValueError(f"{what} needs n_samples >= 2, got {n_samples}")


def _collect(xp, totals, method):
    """The `NLML` of the blocks' totals."""
    log_p, error, size = (xp.concat(list(field), axis=0) for field in zip(*(t.result() for t in totals)))
    return NLML(-log_p, error, None, method, size)


def stated(error, squares, fourths):
    """A standard error (N,) in nats, inf where it may not be stated: above `LARGE`, and carried by fewer than
    `FEW` draws, told by the sums (N,) over the draws of the squares in it and of their squares.
    """
    xp = namespace(error)
    hidden = (error > LARGE) & (squares * squares < FEW * fourths)  # (N,)                 (7.15)
    return xp.where(hidden, xp.zeros_like(error) + float("inf"), error)


class StreamingLogMeanExp:
    """log mean exp and its standard error over samples that come in chunks (S, N)."""

    def __init__(self, xp):
        self.xp, self.count, self.top = xp, 0, None

    def add(self, log_w):
        """Take the next samples' log weights (S, N) in, by their largest so far."""
        xp = self.xp
        top = xp.max(log_w, axis=0)
        if self.top is None:
            self.top = top
            self.sum, self.squares, self.fourths = (xp.zeros_like(top) for _ in range(3))
        new_top = xp.maximum(top, self.top)
        shrink = xp.exp(self.top - new_top)
        w = xp.exp(log_w - new_top)
        self.sum = self.sum * shrink + xp.sum(w, axis=0)
        self.squares = self.squares * shrink**2 + xp.sum(w * w, axis=0)
        self.fourths = self.fourths * shrink**4 + xp.sum((w * w) ** 2, axis=0)
        self.top = new_top
        self.count += log_w.shape[0]

    def result(self):
        """log mean exp, its standard error, inf where a few samples carry it, and the effective sample
        size, (N,).
        """
        xp, S = self.xp, self.count
        mean = self.sum / S
        variance = xp.maximum((self.squares / S - mean * mean) * (S / (S - 1)), 0)
        log_mean = xp.log(mean) + self.top                         # (N,)             (7.1), (7.7)
        error = xp.sqrt(variance / S) / mean                       # (N,)                   (7.2)
        size = self.sum * self.sum / self.squares                  # (N,)                   (7.6)
        return log_mean, stated(error, self.squares, self.fourths), size
