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

from typing import NamedTuple

import numpy as np

from . import bound, grid, infer, linear_gaussian, nlml, noise, tree
from .backend import constant, double, namespace, take_rows, to_numpy
from .likelihoods import split
from .model import Model
from .posteriors import DiagonalGaussian, FullGaussian

ORDERS = {1: (16, 32, 64, 96), 2: (10, 14, 20, 28, 40, 56, 80)}  # Gauss–Hermite nodes per dimension, by K
DRAWS = 256                           # on which φ is sought for K > 2, whitened
FRESH = 1024                          # on which Q is taken for K > 2


class Gaps(NamedTuple):
    """The ledger of N data cases: every field (N,) in nats, but for phi_optimal, phi_full and method.

    nlml, q_full, q_optimal, q_used   see above; they rise from left to right, but for their errors
    nlml_error           the grid's certificate, a standard error, or 0 where the value is exact
    approximation_error  of `approximation`, and about that of either of its parts
    amortisation_error   of `amortisation`
    gradient_norm        ‖∂Q_n/∂φ_n‖∞ on the nodes of the search, the larger of phi_optimal's and phi_full's
    phi_optimal          (N, n_phi), phi_full (N, K + K(K+1)/2)
    method               how nlml was had: "exact", "grid" or "importance"
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
    def approximation(self):
        """q_optimal − nlml: what the family of q costs                                   (10.2)."""
        return self.q_optimal - self.nlml

    @property
    def amortisation(self):
        """q_used − q_optimal: what the φ that was used costs                             (10.3)."""
        return self.q_used - self.q_optimal

    @property
    def diagonal(self):
        """q_optimal − q_full: the part of `approximation` that a full covariance saves   (10.4)."""
        return self.q_optimal - self.q_full

    @property
    def not_gaussian(self):
        """q_full − nlml: the part of `approximation` that no Gaussian q saves            (10.4)."""
        return self.q_full - self.nlml


def gaps(model, theta, phi, x, rng, *, tol=1e-4, first=0):
    """The `Gaps` of data x (N, D) whose φ in use is phi (N, n_phi).

    Linear-Gaussian models: closed forms. K ≤ 2: nlml by the grid, Q by certified quadrature. K > 2:
    nlml by importance sampling from the best Gaussian, Q on fresh draws from rng, the same for every
    φ, each with its standard error. There phi_optimal and phi_full are the best on the DRAWS of the
    search, so q_optimal and q_full lie a little high, q_full by more.

    The optimal φ_n is sought by E-steps from phi, from the prior, and from the best of many points of
    the prior, and finished on fine nodes until ‖∂Q_n/∂φ_n‖∞ < tol. Where no start leads below phi, phi
    is kept; the full covariance starts from what was found. All these searches are local: of a posterior
    with several modes a still lower Q may remain unfound. Computed in float64. Warnings call the first case
    number `first`.
    """
    theta, phi, x = tree.map(double, theta), double(phi), double(x)
    if linear_gaussian.applies(model):
        return _closed_form(model, theta, phi, x)
    xp, K = namespace(phi, x), model.n_latent
    nodes = infer.nodes(K, DRAWS, x)
    z = constant(rng.standard_normal((infer.SEARCH_POINTS, K)), like=x)
    starts = [phi, infer.prior_phi(model, x), infer.search(model, theta, x, z)]
    best = infer.optimal(model, theta, starts, x, *nodes, tol=tol)
    if K <= 2:
        worth = grid.grid(model, theta, x, first=first)
        best = _sought_again(model, theta, best, worth.values, x, rng, nodes, tol)

    full = Model(model.decoder, model.likelihood, K, FullGaussian(K))
    if isinstance(model.posterior, DiagonalGaussian):
        starts = [full.posterior.from_diagonal(best.phi)]
        best_full = infer.optimal(full, theta, starts, x, *nodes, tol=tol)
    else:
        best_full = best

    if K <= 2:
        (q_used, e_used), (q_optimal, e_optimal), (q_full, e_full) = (
            quadrature(m, theta, p, x) for m, p in ((model, phi), (model, best.phi), (full, best_full.phi))
        )
        nlml_error, e_approximation = worth.certificate, worth.certificate + e_optimal + e_full
        e_amortisation = e_used + e_optimal
    else:
        eta = constant(rng.standard_normal((FRESH, 1, K)), like=x)
        (q_used, _), (q_optimal, e_optimal), (q_full, _), (_, e_amortisation) = (
            _sampled(theta, x, eta, *pairs)
            for pairs in (
                [(model, phi)], [(model, best.phi)], [(full, best_full.phi)],
                [(model, phi), (model, best.phi)],
            )
        )
        worth = nlml.importance(full, theta, best_full.phi, x, rng, n_samples=4 * FRESH)
        nlml_error = worth.standard_error
        e_approximation = xp.sqrt(e_optimal**2 + nlml_error**2)
    return Gaps(
        worth.values, q_full, q_optimal, q_used, nlml_error, e_approximation, e_amortisation,
        xp.maximum(best.gradient_norm, best_full.gradient_norm), best.phi, best_full.phi, worth.method,
    )


def _sought_again(model, theta, best, nlml_values, x, rng, nodes, tol):
    """`best`, where cases more than RETRY nats above their nlml have started from more modes.

    So large a gap may be that of a second-best mode: small sets of points lead to others.
    """
    rows = np.flatnonzero(to_numpy(best.Q - nlml_values > RETRY))
    if not len(rows):
        return best
    few = take_rows(x, rows)
    starts = [take_rows(best.phi, rows)]
    for _ in range(RETRIES):
        z = constant(rng.standard_normal((64, model.n_latent)), like=x)
        starts.append(infer.search(model, theta, few, z))
    again = infer.optimal(model, theta, starts, few, *nodes, tol=tol)
    return infer.EStep(*(_put(field, rows, better) for field, better in zip(best, again)))


RETRY, RETRIES = 0.5, 8


def _closed_form(model, theta, phi, x):
    """The `Gaps` of a linear-Gaussian model: every number in closed form, every error 0."""
    xp, K = namespace(phi, x), model.n_latent
    W, b, psi = linear_gaussian.parameters(model, theta)
    seen = split(model.likelihood, x)
    family, full = model.posterior, FullGaussian(K)
    phi_optimal = infer.closed_form(model, theta, x)
    phi_full = full.closest(*linear_gaussian.posterior(W, b, psi, *seen))
    q_full, q_optimal, q_used = (
        linear_gaussian.bound(W, b, psi, p, q, *seen)
        for p, q in ((phi_full, full), (phi_optimal, family), (phi, family))
    )
    eta, weights = (constant(a, like=x) for a in noise.sigma_points(K))
    norm = _gradient_norm(model, theta, phi_optimal, x, eta, weights)
    none = xp.zeros_like(q_used)
    values = linear_gaussian.nlml(W, b, psi, *seen)
    return Gaps(values, q_full, q_optimal, q_used, none, none, none, norm, phi_optimal, phi_full, "exact")


def quadrature(model, theta, phi, x, *, tol=1e-6):
    """Q_n (N,) by Gauss–Hermite quadrature for K ≤ 2, and its certificate (N,)             (10.5).

    The certificate is the larger change from the two next coarser rules: two rules may err alike by
    accident. Cases that changed by more than tol go on to finer rules, up to the last of `ORDERS`.
    """
    xp, orders = namespace(x), ORDERS[model.n_latent]
    before, values = (infer.q(model, theta, phi, x, *_rule(model, order, x)) for order in orders[:2])
    change = xp.abs(values - before)
    rows = list(range(x.shape[0]))
    for order in orders[2:]:
        finer = infer.q(model, theta, take_rows(phi, rows), take_rows(x, rows), *_rule(model, order, x))
        last = take_rows(values, rows)
        moved = xp.maximum(xp.abs(finer - last), xp.abs(finer - take_rows(before, rows)))
        before = _put(before, rows, last)
        values, change = _put(values, rows, finer), _put(change, rows, moved)
        rows = [row for row, far in zip(rows, to_numpy(moved > tol)) if far]
        if not rows:
            break
    return values, change


def _rule(model, order, like):
    return tuple(constant(a, like=like) for a in noise.gauss_hermite(model.n_latent, order))


def _put(array, rows, values):
    """`array` (N, …) with `values` at the places `rows`."""
    xp, N = namespace(array), array.shape[0]
    place = list(range(N))
    for i, row in enumerate(rows):
        place[row] = N + i
    return take_rows(xp.concat([array, values], axis=0), place)


def _sampled(theta, x, eta, first, second=None):
    """Q_n of (model, φ) on draws eta (S, 1, K), or the difference of two such, and its standard error."""
    xp, S = namespace(x), eta.shape[0]
    means, errors = [], []
    for rows in infer.blocks(x.shape[0], S):
        costs = _costs(theta, *first, x, eta, rows)                # (S, n)
        if second is not None:
            costs = costs - _costs(theta, *second, x, eta, rows)
        mean = xp.mean(costs, axis=0)
        means.append(mean)
        errors.append(xp.sqrt(xp.sum((costs - mean) ** 2, axis=0) / (S * (S - 1))))
    return xp.concat(means, axis=0), xp.concat(errors, axis=0)


def _costs(theta, model, phi, x, eta, rows):
    """KL − log p(x_n|z_ns) (S, n) of the cases `rows`: their mean over s is Q_n                (1.8)."""
    phi = phi[rows, :]
    z, _ = model.posterior.sample(phi, eta)
    return model.posterior.kl(phi)[0] - nlml.log_likelihood(model, theta, x[rows, :], z)[0]


def _gradient_norm(model, theta, phi, x, eta, weights):
    """‖∂Q_n/∂φ_n‖∞ (N,) on nodes."""
    xp = namespace(x)
    norms = []
    for rows in infer.blocks(x.shape[0], eta.shape[0]):
        Q, cache = bound.forward(model, theta, phi[rows, :], x[rows, :], eta, weights=weights)
        dphi, _ = bound.backward(model, theta, cache, xp.ones_like(Q), need_dtheta=False)
        norms.append(xp.max(xp.abs(dphi), axis=1))
    return xp.concat(norms, axis=0)


def kl_to_posterior(model, theta, phi, x):
    """KL(q_n ‖ p(z|x_n)) (N,), by a road of its own: what Q − nlml must be.

    Linear-Gaussian models: the closed form between two normal distributions             (10.6). K ≤ 3:
    log q − log p(z|x) summed over a lattice around q, with p(z|x) normalised by its own sum over a
    lattice around the posterior: neither Q nor `grid` is asked                          (10.7). Raises
    ValueError for other models with K > 3. Computed in float64.
    """
    theta, phi, x = tree.map(double, theta), double(phi), double(x)
    xp, K = namespace(phi, x), model.n_latent
    if linear_gaussian.applies(model):
        parameters = linear_gaussian.parameters(model, theta)
        mean, M = linear_gaussian.posterior(*parameters, *split(model.likelihood, x))
        C, r = model.posterior.covariance(phi), model.posterior.mean(phi) - mean
        log_det = xp.linalg.slogdet(C)[1] + xp.linalg.slogdet(M)[1]
        quadratic = xp.sum(M * r[:, :, None] * r[:, None, :], axis=(1, 2))
        return 0.5 * (xp.sum(C * M, axis=(1, 2)) - K + quadratic - log_det)
    if K > 3:
        raise ValueError(f"the KL divergence by a lattice needs K <= 3 latent variables, the model has {K}")
    eta = grid.lattice(8.0, {1: 0.02, 2: 0.2, 3: 0.8}[K], K)
    weights = constant(eta, like=x)
    weights = xp.exp(nlml.log_prior(weights))
    weights = weights / xp.sum(weights, axis=0)                    # q's own mass at the nodes, (S,)
    eta = constant(eta[:, None, :], like=x)
    log_px = _log_normalisers(model, theta, x)
    parts = []
    for n in range(x.shape[0]):
        one = slice(n, n + 1)
        log_w = nlml.log_weight(model, theta, phi[one, :], x[one, :], eta)[:, 0]
        parts.append(log_px[one] - xp.sum(weights * log_w, axis=0, keepdims=True))
    return xp.concat(parts, axis=0)


def _log_normalisers(model, theta, x):
    """log p(x_n) (N,), each by one sum over the box that holds its posterior's mass.

    A first look, the same for all cases, gives a box. A posterior that is narrow beside the look's mesh
    fills only a part of it, and may have its peak between the points: then the box shrinks to that part.
    """
    K = model.n_latent
    look = grid.lattice(8.0, {1: 0.01, 2: 0.08, 3: 0.5}[K], K)
    points = {1: 8001, 2: 241, 3: 41}[K]                           # along each axis
    found = []
    for n, log_p in enumerate(_log_joint_on(model, theta, x, look).T):
        inside = look[log_p > log_p.max() - 60]
        low, high, width = inside.min(axis=0) - 0.3, inside.max(axis=0) + 0.3, np.inf
        while (high - low < 0.7 * width).any():
            width, mesh = high - low, (high - low) / (points - 1)
            sides = [np.linspace(a, b, points) for a, b in zip(low, high)]
            z = np.stack([axis.ravel() for axis in np.meshgrid(*sides, indexing="ij")], axis=1)
            log_p = _log_joint_on(model, theta, x[n : n + 1, :], z)[:, 0]
            inside = z[log_p > log_p.max() - 60]
            low, high = inside.min(axis=0) - 2 * mesh, inside.max(axis=0) + 2 * mesh
        cell, top = np.prod(mesh), log_p.max()
        found.append(top + np.log(np.exp(log_p - top).sum() * cell))
    return constant(found, like=x)


def _log_joint_on(model, theta, x, z):
    """log p(x_n, z_g) of every pair at host nodes z (G, K), in blocks: (G, N) on the host."""
    step = max(1, 2**20 // x.shape[1])
    parts = []
    for start in range(0, len(z), step):
        nodes = constant(z[start : start + step], like=x)
        f, _ = model.decoder.forward(theta["decoder"], nodes)
        log_px = model.likelihood.cross(theta["likelihood"], f, x)
        parts.append(to_numpy(log_px + nlml.log_prior(nodes)[:, None]))
    return np.concatenate(parts)
