"""Why no gradient goes through sampling, and the ways around it: four estimators of ∂Q_n/∂φ_n.

Q_n is an expectation over z ~ q(z|φ_n), so φ_n stands in it twice: in what is averaged, and in the
density that decides where z falls. A sample that has been drawn is a number; it does not remember
the φ_n it came from, and a gradient taken over it sees the first place only:

    ∂/∂φ ∫ q(z|φ) c(z, φ) dz  =  E_q[∂c/∂φ]     +  what q's motion adds
                                 `naive` stops      E_q[c ∂log q/∂φ]        `score_function`
                                 here               E_q[∂c/∂z ∂T/∂φ]        `reparameterised`

with c = log q(z|φ) − log p(x, z) and z = T(φ, η). The first term is 0 on its own, so the naive
estimator is zero plus noise, whatever the data. Every estimator here takes the noise η as an
argument and returns one gradient per sample and data case, (S, N, n_phi), in nats per data case and
unit of φ: their mean over S is the estimate, their spread its variance. `compare` puts them side by
side with the exact gradient. Equations (1.x) are in derivations/equations.md.

Sources: Williams 1992 and Ranganath et al. 2014 (score function), Kingma & Welling 2014
(reparameterisation), Roeder et al. 2017 (without the score term).
"""

from dataclasses import dataclass
from typing import NamedTuple

from .. import bound
from ..arrays.backend import constant, namespace
from ..inference import linear_gaussian
from ..messages import align
from ..posteriors.nodes import gauss_hermite, sigma_points


def naive(model, theta, phi, x, eta, *, kl="sampled"):
    """The wrong one: z is drawn and then held fixed, and only the φ that is still in sight is moved.

    phi (N, n_phi), x (N, D), eta (S, N, K) or (S, 1, K). Returns (S, N, n_phi)           (1.24)

    kl="sampled"   ∂log q(z|φ)/∂φ at fixed z: 0 in expectation, so it points nowhere.
    kl="analytic"  ∂KL/∂φ: no noise at all, and it draws every q_n to the prior.

    Neither reads theta or x. A gradient that does not ask for the data cannot be the right one.
    """
    xp = namespace(phi, x, eta)
    phi, _, eta, shape = _one_case_per_sample(phi, x, eta)
    one = xp.ones_like(phi[:, 0])                                  # (S·N,)
    if bound.kl_for(model.posterior, kl) == "sampled":
        z, _ = model.posterior.sample(phi, eta)
        _, cache = model.posterior.log_prob(phi, z)
        dphi, _ = model.posterior.log_prob_backward(cache, one[None, :])  #               (1.24)
    else:
        _, cache = model.posterior.kl(phi)
        dphi = model.posterior.kl_backward(cache, one)
    return xp.reshape(dphi, shape)


def score_function(model, theta, phi, x, eta, *, baseline=None):
    """The score function (REINFORCE): c(z) ∂log q(z|φ)/∂φ, which moves the density, not the sample.

    phi (N, n_phi), x (N, D), eta (S, N, K) or (S, 1, K). Returns (S, N, n_phi).
    It asks for the value of c = log q(z|φ) − log p(x, z) only, never for its gradient: log p(x|z)
    need not be differentiable, nor z continuous. The price is variance: c may be hundreds of nats,
    and only its differences between samples tell where to go.

    baseline  None: c as it is                                                            (1.25)
              "leave-one-out": less the mean of c over the other samples of the case. That mean
              knows nothing of z_s, so it changes no expectation, and takes out c's size. It ties
              the S samples to each other, which adds ‖∂Q/∂φ‖²/(S − 1)² to their mean's variance,
              beyond the spread/S that `summary` tells                                    (1.26)

    Raises ValueError where the baseline has no other sample to be taken from (S = 1).
    """
    xp = namespace(phi, x, eta)
    phi, x, eta, shape = _one_case_per_sample(phi, x, eta)
    S = shape[0]
    c, _ = bound.forward(model, theta, phi, x, eta, kl="sampled")
    c = xp.reshape(c, shape[:2])                                   # (S, N)
    if baseline == "leave-one-out":
        if S < 2:
            raise ValueError(f"baseline='leave-one-out' needs S >= 2 samples, got {S}")
        c = c - (xp.sum(c, axis=0) - c) / (S - 1)                  # (S, N)               (1.26)
    elif baseline is not None:
        raise ValueError(f"baseline must be None or 'leave-one-out', got {baseline!r}")

    z, _ = model.posterior.sample(phi, eta)
    _, cache = model.posterior.log_prob(phi, z)
    c = xp.reshape(c, (1, -1))
    dphi, _ = model.posterior.log_prob_backward(cache, c)          # c ∂log q/∂φ          (1.25)
    return xp.reshape(dphi, shape)


def reparameterised(model, theta, phi, x, eta, *, kl=None):
    """The one that is trained with: z = T(φ, η) is a function of φ, so the chain rule holds.

    phi (N, n_phi), x (N, D), eta (S, N, K) or (S, 1, K). Returns (S, N, n_phi): what
    `bound.backward` gives, one sample at a time, with kl as in `bound.forward`            (1.27)
    """
    xp = namespace(phi, x, eta)
    phi, x, eta, shape = _one_case_per_sample(phi, x, eta)
    Q, cache = bound.forward(model, theta, phi, x, eta, kl=kl)
    dQ = xp.ones_like(Q)                                           # (S·N,)
    dphi, _ = bound.backward(model, theta, cache, dQ, need_dtheta=False)  #               (1.27)
    return xp.reshape(dphi, shape)


def without_score_term(model, theta, phi, x, eta):
    """The reparameterised gradient with the sampled KL, less its direct term ∂log q(z|φ)/∂φ   (1.28).

    Shapes as in `reparameterised`. The term is the naive estimator, 0 in expectation: to leave it
    out costs no bias. What is left goes through z alone. At the exact posterior c(z) is the same
    for every z, so ∂c/∂z and with it every single sample's gradient is 0, while the full gradient
    still carries the term's noise: a fit that has arrived stays ("sticking the landing").
    Elsewhere the variance may be larger or smaller.
    """
    full = reparameterised(model, theta, phi, x, eta, kl="sampled")
    return full - naive(model, theta, phi, x, eta, kl="sampled")   # (S, N, n_phi)        (1.28)


def exact(model, theta, phi, x, *, order=80):
    """∂Q_n/∂φ_n (N, n_phi) without sampling: sigma points or quadrature in place of random η.

    Sigma points where the model is linear-Gaussian, exact up to rounding; else the Gauss–Hermite
    rule with `order` nodes per latent dimension, which a wide q or a steep decoder asks more of.
    Raises ValueError for K > 2 latent dimensions there: order^K nodes are out of reach.
    """
    eta, weights = nodes(model, order)
    eta, weights = constant(eta, like=phi), constant(weights, like=phi)
    Q, cache = bound.forward(model, theta, phi, x, eta, weights=weights)
    return bound.backward(model, theta, cache, namespace(Q).ones_like(Q), need_dtheta=False)[0]


def nodes(model, order=80):
    """The host nodes eta (S, 1, K) and weights (S,) that `exact` takes for this model."""
    if linear_gaussian.applies(model):
        return sigma_points(model.n_latent)
    if model.n_latent > 2:
        raise ValueError(
            f"the exact gradient of a non-linear model needs order^K nodes, {order}^{model.n_latent} "
            f"here; it is offered for K <= 2, got K = {model.n_latent}"
        )
    return gauss_hermite(model.n_latent, order)


def minibatch(model, theta, phi, x, eta, rows, *, weights=None, kl=None, scale=None):
    """The gradient of Σ_n Q_n over all N data cases, estimated from the cases `rows` alone (1.29).

    rows   places of the M cases in the minibatch, each at most once
    scale  what each of their Q_n counts for; N/M where None, which is what makes the estimate
           unbiased. scale=1 is the fault to see: a gradient M/N times too short
    phi, x, eta, weights, kl   of all N cases, as in `bound.forward`

    Returns dphi (N, n_phi), zero for the cases left out, and dtheta, shaped like theta. A minibatch
    is a dQ with zeros in it; training saves the work by leaving those rows away.
    Raises ValueError for an empty minibatch, or rows that repeat or do not exist.
    """
    N, chosen = x.shape[0], [int(n) for n in rows]
    if not chosen or len(set(chosen)) < len(chosen) or not set(chosen) <= set(range(N)):
        raise ValueError(f"rows must be different places in 0 … {N - 1}, at least one; got {chosen}")
    scale = N / len(chosen) if scale is None else scale
    Q, cache = bound.forward(model, theta, phi, x, eta, weights=weights, kl=kl)
    dQ = constant([scale * (n in set(chosen)) for n in range(N)], like=Q)  # (N,)         (1.29)
    return bound.backward(model, theta, cache, dQ)


class Estimate(NamedTuple):
    """One estimator in the table of `compare`.

    error          ‖mean − exact‖ / ‖exact‖ over all entries of φ; 1 where all of the gradient is missing.
                   None where the exact gradient is 0
    worst          the largest |mean − exact| of an entry, in standard errors of its mean: 1 to 4 for an
                   unbiased estimator, growing as √S for a biased one
    variance       of one sample's gradient: Σ over a row of φ, averaged over the data cases
    passes         decoder passes per sample and data case, forward and backward counted alike
    mean, standard_error   (N, n_phi)
    """

    estimator: str
    error: float
    worst: float
    variance: float
    passes: int
    mean: object
    standard_error: object


@dataclass(frozen=True)
class Comparison:
    """The estimators against the exact gradient (N, n_phi); str(comparison) is a table.

    comparison["naive"] is the `Estimate` of that estimator. exact_error is the largest change of an entry
    of `exact` when the rule has a quarter fewer nodes per dimension; 0 with sigma points.
    """

    rows: list
    exact: object
    exact_error: float
    n_samples: int
    n_nodes: int

    def __getitem__(self, estimator):
        found = {row.estimator: row for row in self.rows}
        if estimator not in found:
            raise KeyError(f"no estimator {estimator!r}; there are {list(found)}")
        return found[estimator]

    def __str__(self):
        head = ("estimator", "error / exact", "worst, in s.e.", "variance", "decoder passes")
        cells = [head]
        for row in self.rows:
            error = "–" if row.error is None else f"{row.error:.3f}"
            cost = f"{row.passes} × {self.n_samples}"
            cells.append((row.estimator, error, f"{row.worst:.1f}", f"{row.variance:.3g}", cost))
        cells.append(("exact", "0", "0", "0", f"2 × {self.n_nodes}"))
        widths = [max(len(row[k]) for row in cells) for k in range(len(head))]
        lines = [[row[0], *(row[k].rjust(widths[k]) for k in range(1, len(head)))] for row in cells]
        N, n_phi = self.exact.shape
        return (
            f"∂Q_n/∂φ_n: N = {N} data cases, {n_phi} numbers each, from S = {self.n_samples} samples\n"
            f"{align(lines)}\nexact to {self.exact_error:.0e}"
        )


def compare(model, theta, phi, x, eta, *, order=80):
    """Every estimator on the same noise eta (S, N, K), against the exact gradient; a `Comparison`.

    order  as in `exact`. Raises ValueError for S < 2: one sample has no spread.
    """
    if eta.shape[0] < 2:
        raise ValueError(f"a comparison needs S >= 2 samples, got {eta.shape[0]}")
    truth = exact(model, theta, phi, x, order=order)
    coarser = exact(model, theta, phi, x, order=3 * order // 4)
    xp = namespace(truth)
    given = (model, theta, phi, x, eta)
    estimates = [
        ("naive", 0, naive(*given)),
        ("naive, analytic KL", 0, naive(*given, kl="analytic")),
        ("score function", 1, score_function(*given)),
        ("score function, baseline", 1, score_function(*given, baseline="leave-one-out")),
        ("reparameterised", 2, reparameterised(*given, kl="sampled")),
        ("reparameterised, analytic KL", 2, reparameterised(*given)),
        ("without score term", 2, without_score_term(*given)),
    ]
    rows = [_row(name, passes, g, truth) for name, passes, g in estimates]
    exact_error = float(xp.max(xp.abs(truth - coarser)))
    return Comparison(rows, truth, exact_error, eta.shape[0], len(nodes(model, order)[1]))


def summary(g):
    """Mean, standard error of the mean, and variance over the samples of g (S, …), each (…)."""
    xp = namespace(g)
    S = g.shape[0]
    spread = g - g[:1, ...]                                        # of a constant: exactly 0
    centre = xp.mean(spread, axis=0)
    deviation = spread - centre
    variance = xp.sum(deviation * deviation, axis=0) / (S - 1)
    return g[0, ...] + centre, xp.sqrt(variance / S), variance


def _row(name, passes, g, truth):
    xp = namespace(g, truth)
    mean, error, variance = summary(g)
    off = xp.abs(mean - truth)
    # What is within rounding of the truth is right; what has no spread and is off is infinitely off.
    rounding = 1e4 * float(xp.finfo(g.dtype).eps) * (1 + float(xp.max(xp.abs(g))))
    inf = xp.zeros_like(off) + float("inf")
    worst = xp.where(error > rounding, off / xp.where(error > 0, error, xp.ones_like(error)), inf)
    worst = xp.where(off > rounding, worst, xp.zeros_like(off))
    length = float(xp.sqrt(xp.sum(truth * truth)))
    relative = float(xp.sqrt(xp.sum(off * off))) / length if length > rounding else None
    total = float(xp.sum(variance)) / truth.shape[0]
    return Estimate(name, relative, float(xp.max(worst)), total, passes, mean, error)


def _one_case_per_sample(phi, x, eta):
    """Every sample as a data case of its own: phi (S·N, n_phi), x (S·N, D), eta (1, S·N, K).

    What the bound and its backward return per data case is then per sample. Also gives the shape
    (S, N, n_phi) to which the rows go back.
    """
    xp = namespace(phi, x, eta)
    S, (N, n_phi) = eta.shape[0], phi.shape
    phi = xp.reshape(xp.broadcast_to(phi, (S, N, n_phi)), (S * N, n_phi))
    x = xp.reshape(xp.broadcast_to(x, (S, *x.shape)), (S * N, x.shape[1]))
    eta = xp.reshape(xp.broadcast_to(eta, (S, N, eta.shape[2])), (1, S * N, eta.shape[2]))
    return phi, x, eta, (S, N, n_phi)
