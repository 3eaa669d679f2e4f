"""The ledger of the bound: for every data case, what each approximation costs, in nats.

    Q_n(φ_used)  =  nlml_n                                      what the model is worth
                    + (q_full − nlml)         approximation     posteriors are not Gaussian
                    + (q_optimal − q_full)    approximation     … nor is a Gaussian one diagonal
                    + (q_used − q_optimal)    amortisation      φ_n is not the best for x_n

q_optimal is the least Q_n over the model's own family of q, q_full over all Gaussians, q_used what the
model's own φ gives. Every number is measured on its own and none is clipped: a share below zero by
more than its stated error is a mistake, and must be seen. Equations (10.x) are in
derivations/equations.md; the two gaps have their names from Cremer et al. 2018.
"""

import math
from typing import NamedTuple

import numpy as np

from ..arrays import tree
from ..arrays.backend import constant, double, identity, namespace, to_numpy
from ..arrays.observed import seen
from ..arrays.rows import blocks, put_rows, take_rows
from ..arrays.workers import each
from ..inference import e_step, expectations, linear_gaussian
from ..inference.expectations import quadrature
from ..model import Model
from ..posteriors import DiagonalGaussian, FullGaussian, coupling_flow, has_kl, planar_flow
from ..posteriors.nodes import sigma_points
from ..messages import counted, on_a_page, over_cases
from . import grid, nlml

DRAWS = 256                           # on which φ is sought for K > 2, whitened
FRESH = 1024                          # on which Q is taken for K > 2


class Gaps(NamedTuple):
    """The ledger of N data cases: every field (N,) in nats, but for phi_optimal, phi_full and method.

    nlml, q_full, q_optimal, q_used   see above; they rise from left to right, but for their errors (a family
                         that is not Gaussian, such as a flow, may do better than q_full: then `diagonal` is
                         below 0)
    nlml_error           the grid's certificate, a standard error, or 0 where the value is exact; a standard
                         error is inf where a few draws carry it, and so are those below     (7.15)
    approximation_error  of `approximation`, and about that of either of its parts
    amortisation_error   of `amortisation`; both with what modes that were not tried may save    (10.11)
    gradient_norm        ‖∂Q_n/∂φ_n‖∞ on the nodes of the search, the larger of phi_optimal's and phi_full's
    phi_optimal          (N, n_phi), phi_full (N, K + K(K+1)/2)
    method               how nlml was had: "exact", "grid" or "importance"

    print(gaps) is a table of the means, gaps.figure() a picture of all data cases.
    """

    nlml: object
    q_full: object
    q_optimal: object
    q_used: object
    nlml_error: object
    approximation_error: object
    amortisation_error: object
    gradient_norm: object
    phi_optimal: object
    phi_full: object
    method: str

    @property
    def settled(self):
        """The cases whose nlml is known, and its error, (N,) bool: all means are over these."""
        return _known(self)

    @property
    def approximation(self):
        """q_optimal − nlml: what the family of q costs."""
        return self.q_optimal - self.nlml                          # (N,)                  (10.2)

    @property
    def amortisation(self):
        """q_used − q_optimal: what the φ that was used costs."""
        return self.q_used - self.q_optimal                        # (N,)                  (10.3)

    @property
    def diagonal(self):
        """q_optimal − q_full: the part of `approximation` that a full covariance saves."""
        return self.q_optimal - self.q_full                        # (N,)                  (10.4)

    @property
    def not_gaussian(self):
        """q_full − nlml: the part of `approximation` that no Gaussian q saves."""
        return self.q_full - self.nlml                             # (N,)                  (10.4)

    @property
    def maybe_lesser(self):
        """Where q_optimal may belong to a lesser mode, (N,) bool: another could save nats, and not all were
        tried                                                                              (10.11).
        """
        gap = self.approximation
        return (gap > math.log(2) + 1e-9) & (self.approximation_error >= _what_another_mode_may_save(gap))

    @property
    def shares(self):
        """{name: nats (N,)}, from nlml up to q_used."""
        return {
            "not Gaussian": self.not_gaussian, "diagonal": self.diagonal, "amortisation": self.amortisation,
        }

    def figure(self):
        """The shares of Q − nlml of every settled data case, stacked and one by one: a Matplotlib figure."""
        return _pictured(self, self.approximation_error + self.amortisation_error)

    def __str__(self):
        rows = [
            ("NLML", self.nlml, self.nlml_error),
            ("+ not Gaussian", self.not_gaussian, self.approximation_error),
            ("+ diagonal", self.diagonal, self.approximation_error),
            ("+ amortisation", self.amortisation, self.amortisation_error),
            ("= Q", self.q_used, None),
        ]
        lesser = int(to_numpy(self.maybe_lesser).sum())
        return "\n".join([
            *_told(self, rows),
            "not Gaussian: what the best Gaussian q misses of the posterior; diagonal: what q's family costs",
            "beyond that, 0 if it is all Gaussians; amortisation: what the φ in use costs beyond the best φ",
            *([f"{counted(lesser)} may have been left in a lesser mode: see maybe_lesser"] if lesser else []),
        ])

    def __repr__(self):
        return _short(self, self.q_used, "Q")

    _repr_html_ = on_a_page


def gaps(model, theta, phi, x, rng, *, tol=1e-4, first=0):
    """The `Gaps` of data x (N, D) whose φ in use is phi (N, n_phi).

    Linear-Gaussian models: closed forms. K ≤ 2: nlml by the grid, Q by certified quadrature. K > 2:
    nlml by importance sampling from the best Gaussian, Q on fresh draws from rng, the same for every
    φ, each with its standard error. There phi_optimal and phi_full are the best on the DRAWS of the
    search, so q_optimal and q_full lie a little high, q_full by more.

    The optimal φ_n is sought by E-steps from phi, from the prior, and from the best of many points of
    the prior, and finished on fine nodes until ‖∂Q_n/∂φ_n‖∞ < tol. Where no start leads below phi, phi
    is kept; the full covariance starts from what was found, and a flow once more from that. These
    searches are local, so a case whose Q stays far above its nlml starts again from every mode that the grid
    can see; for K > 2 every case starts again from the higher ones of a few peaks. Where modes may be left
    that nobody tried, the errors hold what those could save at the most                   (10.11).
    Computed in float64. Warnings call the first case number `first`.
    """
    theta, phi, x = tree.map(double, theta), double(phi), double(x)
    if linear_gaussian.gaussian_q_applies(model):
        return _closed_form(model, theta, phi, x)
    xp, K = namespace(phi, x), model.n_latent
    nodes = e_step.coarse_and_fine(model.posterior, DRAWS, x)
    z = rng.standard_normal((e_step.SEARCH_POINTS, K))
    starts = [phi, e_step.prior_phi(model, x), e_step.search(model, theta, x, constant(z, like=x))]
    best = e_step.optimal(model, theta, starts, x, *nodes, tol=tol)
    worth = grid.grid(model, theta, x, first=first) if K <= 2 else None
    best, unseen = _sought_again(model, theta, best, worth, x, z, nodes, tol)

    full = Model(model.decoder, model.likelihood, K, FullGaussian(K))
    if isinstance(model.posterior, FullGaussian):
        best_full = best
    else:
        starts = _gaussians_like(model.posterior, best.phi)
        best_full = e_step.optimal(full, theta, starts, x, *nodes, tol=tol)
        best_full, unseen = _sought_again(full, theta, best_full, worth, x, z, nodes, tol)
    if hasattr(model.posterior, "from_full"):                      # it holds the Gaussians: none is better
        starts = [best.phi, model.posterior.from_full(best_full.phi)]
        again = e_step.optimal(model, theta, starts, x, *nodes, tol=tol)
        best = again._replace(phi=_lowest(model, theta, x, [again.phi, *starts]))

    if K <= 2:
        q_used, e_used = quadrature(model, theta, phi, x)
        q_optimal, e_optimal = quadrature(model, theta, best.phi, x)
        q_full, e_full = quadrature(full, theta, best_full.phi, x)
        nlml_error = worth.certificate
        approximation_error = worth.certificate + e_optimal + e_full
        amortisation_error = e_used + e_optimal
    else:
        eta = constant(rng.standard_normal((FRESH, 1, K)), like=x)
        q_used, _ = _sampled(model, theta, phi, x, eta)
        q_optimal, e_optimal = _sampled(model, theta, best.phi, x, eta)
        q_full, _ = _sampled(full, theta, best_full.phi, x, eta)
        _, amortisation_error = _sampled(model, theta, phi, x, eta, less=best.phi)
        worth = nlml.importance(full, theta, best_full.phi, x, rng, n_samples=4 * FRESH)
        nlml_error = worth.standard_error
        approximation_error = xp.sqrt(e_optimal**2 + nlml_error**2)
    missed = unseen * _what_another_mode_may_save(q_optimal - worth.values)
    return Gaps(
        nlml=worth.values,
        q_full=q_full,
        q_optimal=q_optimal,
        q_used=q_used,
        nlml_error=nlml_error,
        approximation_error=approximation_error + missed,
        amortisation_error=amortisation_error + missed,
        gradient_norm=xp.maximum(best.gradient_norm, best_full.gradient_norm),
        phi_optimal=best.phi,
        phi_full=best_full.phi,
        method=worth.method,
    )


class Ladder(NamedTuple):
    """What richer families of q save, for N data cases: all fields (N,) in nats, but for phi_flow and method.

    nlml, q_flow, q_full, q_diagonal   −log p(x_n), and the least Q_n over a family of flows, over all
                         Gaussians and over the diagonal ones; they rise from left to right, but for their
                         errors
    nlml_error           as in `Gaps`
    error                of the differences, about
    phi_flow             (N, n_phi)
    method               how nlml was had, as in `Gaps`

    print(ladder) is a table of the means, ladder.figure() a picture of all data cases.
    """

    nlml: object
    q_flow: object
    q_full: object
    q_diagonal: object
    nlml_error: object
    error: object
    phi_flow: object
    method: str

    @property
    def settled(self):
        """As in `Gaps`."""
        return _known(self)

    @property
    def left(self):
        """q_flow − nlml: what not even the flow follows."""
        return self.q_flow - self.nlml                             # (N,)                 (10.12)

    @property
    def bent(self):
        """q_full − q_flow: what bending the Gaussian saves."""
        return self.q_full - self.q_flow                           # (N,)                 (10.12)

    @property
    def turned(self):
        """q_diagonal − q_full: what a full covariance saves."""
        return self.q_diagonal - self.q_full                       # (N,)                 (10.12)

    @property
    def shares(self):
        """{name: nats (N,)}, from nlml up to q_diagonal."""
        return {"left by the flow": self.left, "bent": self.bent, "turned": self.turned}

    def figure(self):
        """What each rung saves, of every settled data case, stacked and one by one: a Matplotlib figure."""
        return _pictured(self, self.error)

    def __str__(self):
        rows = [
            ("Q, diagonal q", self.q_diagonal, None),
            ("− turned", self.turned, self.error),
            ("= Q, any Gaussian q", self.q_full, None),
            ("− bent", self.bent, self.error),
            ("= Q, flow", self.q_flow, None),
            ("− left", self.left, self.error),
            ("= NLML", self.nlml, self.nlml_error),
        ]
        return "\n".join([
            *_told(self, rows),
            "Q is the least of its family; turned: what a full covariance saves; bent: what the flow saves;",
            "left: what not even the flow follows of the posterior",
        ])

    def __repr__(self):
        return _short(self, self.q_diagonal, "Q of a diagonal q")

    _repr_html_ = on_a_page


def ladder(model, theta, x, rng, *, family=None, tol=1e-4, first=0):
    """The `Ladder` of data x (N, D): `gaps` of a diagonal q, and the best q of a family of flows after it.

    family  a `posteriors.Flow`; where None `coupling_flow(K)`, for K = 1 `planar_flow(1)`

    The flow is sought by E-steps from the best Gaussian, which it holds, on the many nodes that it needs
    (`e_step.nodes_for`), and Q is taken where the search has not looked: by certified quadrature for
    K ≤ 2, where the Gaussian stays if the nodes have flattered the search, on fresh draws beyond. In a
    linear-Gaussian model the best flow is the exact posterior, a Gaussian. What the model's own φ costs, and
    its family, do not enter. tol, rng and first as in `gaps`.
    """
    theta, x, K = tree.map(double, theta), double(x), model.n_latent
    family = (coupling_flow if K > 1 else planar_flow)(K) if family is None else family
    diagonal, bent = (Model(model.decoder, model.likelihood, K, q) for q in (None, family))
    gaussian = gaps(diagonal, theta, e_step.prior_phi(diagonal, x), x, rng, tol=tol, first=first)
    phi, error, q_flow = family.from_full(gaussian.phi_full), gaussian.approximation_error, gaussian.q_full
    if not linear_gaussian.applies(model):
        nodes = e_step.coarse_and_fine(family, DRAWS, x)
        found = e_step.optimal(bent, theta, [phi], x, *nodes, tol=tol)
        phi = _lowest(bent, theta, x, [found.phi, phi])
        if K <= 2:
            q_flow, e_flow = quadrature(bent, theta, phi, x)
            error = error + e_flow
        else:
            eta = constant(rng.standard_normal((FRESH, 1, K)), like=x)
            q_flow, e_flow = _sampled(bent, theta, phi, x, eta)
            error = namespace(x).sqrt(error**2 + e_flow**2)
    return Ladder(
        nlml=gaussian.nlml,
        q_flow=q_flow,
        q_full=gaussian.q_full,
        q_diagonal=gaussian.q_optimal,
        nlml_error=gaussian.nlml_error,
        error=error,
        phi_flow=phi,
        method=gaussian.method,
    )


def _lowest(model, theta, x, found):
    """Row by row the φ (N, n_phi) with the lowest Q by quadrature, of those `found`, of a family that fits
    the nodes it is sought on; for K > 2, where there is no such referee, the first.
    """
    phi, *others = found
    if model.n_latent > 2:
        return phi
    xp, lowest = namespace(x), quadrature(model, theta, phi, x)[0]
    for other in others:
        Q, _ = quadrature(model, theta, other, x)
        lower = Q < lowest
        phi, lowest = xp.where(lower[:, None], other, phi), xp.where(lower, Q, lowest)
    return phi


def _gaussians_like(posterior, phi):
    """Full Gaussians (N, K + K(K+1)/2) to start from: the diagonal q(z|φ_n) itself, or, around the mean of
    any other, a narrow and a wide one.
    """
    full = FullGaussian(posterior.n_latent)
    if isinstance(posterior, DiagonalGaussian):
        return [full.from_diagonal(phi)]
    one = identity(posterior.n_latent, like=phi)
    return [full.closest(posterior.mean(phi), precision * one) for precision in (400, 1)]


def _sought_again(model, theta, best, worth, x, z, nodes, tol):
    """`best`, where cases have started from more modes; and 1 for those that may have others yet, (N,).

    worth is the grid's `NLML`, or None where there is no grid. No mode elsewhere is better where Q lies
    less than log 2 above nlml (10.11): only the other cases are looked at, but then from all their peaks.
    """
    xp, rows, far = namespace(x), np.arange(x.shape[0]), e_step.REACH
    if worth is not None:
        rows, far = np.flatnonzero(to_numpy(~(best.Q - worth.values <= RETRY))), FAR
    if not len(rows):
        return best, xp.zeros_like(best.Q)
    few, found = take_rows(x, rows), e_step.EStep(*(take_rows(field, rows) for field in best))
    places = grid.places(model, theta, few, found.phi, z, far)
    tried = e_step.TRIED if worth is None else grid.PEAKS
    again = e_step.from_places(
        model, theta, found, few, places, *nodes, reach=far, tried=tried, max_steps=500, tol=tol
    )
    best = e_step.EStep(*(put_rows(field, rows, better) for field, better in zip(best, again)))
    many = np.bincount([row for row, _ in places], minlength=len(rows)) >= grid.PEAKS
    unseen = constant(many if worth is not None else np.ones(len(rows)), like=x)
    return best, put_rows(xp.zeros_like(best.Q), rows, unseen)


def _what_another_mode_may_save(gap):
    """How much lower Q can be elsewhere, (N,), from Q − nlml: log(eᵍᵃᵖ − 1), nothing up to log 2."""
    xp = namespace(gap)
    least = xp.zeros_like(gap) + math.log(2)
    gap = xp.where(gap > least, gap, least)                        # and nothing where nlml was refused, NaN
    return gap + xp.log1p(-xp.exp(-gap))                           # (N,)                 (10.11)


RETRY = 0.5   # nats between Q and nlml above which a case is looked at again: a little below log 2
FAR = 30.0    # nats that a peak may lie below another and still be tried


def _closed_form(model, theta, phi, x):
    """The `Gaps` of a linear-Gaussian model: every number in closed form, every error 0."""
    xp, K = namespace(phi, x), model.n_latent
    W, b, psi = linear_gaussian.parameters(model, theta)
    family, full = model.posterior, FullGaussian(K)
    phi_optimal = e_step.closed_form(model, theta, x)
    phi_full = full.closest(*linear_gaussian.posterior(W, b, psi, *seen(x)))
    eta, weights = (constant(a, like=x) for a in sigma_points(K))
    values = linear_gaussian.nlml(W, b, psi, *seen(x))
    none = xp.zeros_like(values)
    return Gaps(
        nlml=values,
        q_full=linear_gaussian.bound(W, b, psi, phi_full, full, *seen(x)),
        q_optimal=linear_gaussian.bound(W, b, psi, phi_optimal, family, *seen(x)),
        q_used=linear_gaussian.bound(W, b, psi, phi, family, *seen(x)),
        nlml_error=none,
        approximation_error=none,
        amortisation_error=none,
        gradient_norm=e_step.e_step(model, theta, phi_optimal, x, eta, weights, max_steps=0).gradient_norm,
        phi_optimal=phi_optimal,
        phi_full=phi_full,
        method="exact",
    )


def _sampled(model, theta, phi, x, eta, *, less=None):
    """Q_n on draws eta (S, 1, K), minus that of the φ `less` where given, and its standard error: inf where
    a few draws carry it                                                                   (7.15).
    """
    xp, S = namespace(x), eta.shape[0]

    def mean_and_error(rows):
        costs = _costs(model, theta, phi[rows, :], x[rows, :], eta)                       # (S, n)
        if less is not None:
            costs = costs - _costs(model, theta, less[rows, :], x[rows, :], eta)
        mean = xp.mean(costs, axis=0)
        squares = (costs - mean) ** 2
        total = xp.sum(squares, axis=0)
        fourths = xp.sum(squares * squares, axis=0)
        return mean, nlml.stated(xp.sqrt(total / (S * (S - 1))), total, fourths)

    parts = zip(*each(mean_and_error, blocks(x.shape[0], S)))
    return tuple(xp.concat(list(field), axis=0) for field in parts)


def _costs(model, theta, phi, x, eta):
    """What every draw says of Q_n, (S, n): KL − log p(x_n|z_ns) (1.8), or with the KL over the draws too
    where that is no closed form                                                            (1.9).
    """
    if not has_kl(model.posterior):
        return -expectations.log_weight(model, theta, phi, x, eta)
    z, _ = model.posterior.sample(phi, eta)
    return model.posterior.kl(phi)[0] - model.log_likelihood(theta, x, z)[0]


# ---- on the page


ERROR = {"exact": None, "grid": "certificate", "importance": "std. error"}  # what is stated, by method
ROADS = {"exact": "in closed form", "grid": "by the grid", "importance": "by importance sampling"}


def _known(found):
    """The cases (N,) bool of a `Gaps` or a `Ladder` whose nlml is known, and its error."""
    xp = namespace(found.nlml)
    return xp.isfinite(found.nlml) & xp.isfinite(found.nlml_error)


def _told(found, rows):
    """Lines of text: the table of the rows (name, values (N,), errors (N,) or None), and what it is of."""
    known, error = to_numpy(found.settled), ERROR[found.method]
    rows = [
        (name, to_numpy(values)[known], None if errors is None else to_numpy(errors)[known])
        for name, values, errors in rows
    ]
    yield over_cases("nats per data case", rows, error)
    yield f"over {counted(int(known.sum()))}; NLML {ROADS[found.method]}" + (
        "" if error is None else f"; {error}: the mean of the cases', as stated"
    )
    if not known.all():
        why = "a few draws carry" if found.method == "importance" else "the grid refused"
        yield f"left out: {counted(int((~known).sum()))} more, whose NLML {why}"


def _short(found, Q, name):
    known = to_numpy(found.settled)
    worth, Q = to_numpy(found.nlml)[known], to_numpy(Q)[known]
    means = f": mean NLML {worth.mean():.4f}, {name} {Q.mean():.4f} nats" if len(Q) else ""
    return f"<{type(found).__name__} of {counted(len(known))}, {found.method}{means}>"


def _pictured(found, error):
    """The picture of the shares of a `Gaps` or a `Ladder`; error (N,) of their sum."""
    from .. import plots  # Matplotlib is not imported with teachvae

    known = to_numpy(found.settled)
    if not known.any():
        raise ValueError(f"there is nothing to draw: of none of {len(known)} data cases NLML is known")
    shares = {name: to_numpy(values)[known] for name, values in found.shares.items()}
    return plots.shares_by_case(shares, to_numpy(error)[known], ERROR[found.method])
