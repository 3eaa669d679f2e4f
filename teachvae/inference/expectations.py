"""Expectations under q(z|φ_n) of every data case, over nodes or draws, in blocks of bounded memory."""

from .. import bound
from ..arrays import ranks
from ..arrays.backend import constant, double, namespace, to_numpy
from ..arrays.observed import seen
from ..arrays.rows import blocks, put_rows, take_rows
from ..arrays.workers import each
from ..posteriors.nodes import gauss_hermite


def bound_on_nodes(model, theta, phi, x, eta, weights=None):
    """Q_n (N,) on nodes eta (S, 1, K) with weights (S,), in blocks of bounded memory."""
    def Q(rows):
        return bound.forward(model, theta, phi[rows, :], x[rows, :], eta, weights=weights)[0]

    return namespace(phi).concat(list(each(Q, blocks(x.shape[0], eta.shape[0]))), axis=0)


def expected_squares(model, theta, phi, x, eta, weights):
    """E_q of the likelihood's `squares`, (x − f(z))² for a Gaussian, averaged over the data cases that have
    the column, (D,), and the share of those, (D,): what the M-step of its noise needs (5.6). Over all ranks,
    by one message.

    phi (N, n_phi), x (N, D), an array or an `Observed`, eta (S, 1, K), weights (S,)
    """
    xp, likelihood = namespace(phi), model.likelihood
    S, total, count = eta.shape[0], 0.0, 0.0

    def sums(rows):
        z, _ = model.posterior.sample(phi[rows, :], eta)           # (S, n, K)
        f, _ = model.f(theta, z)                                   # (S, n, n_f)
        block, mask = seen(x[rows, :])
        squares = likelihood.squares(theta["likelihood"], f, block)
        mask = xp.ones_like(squares[0, :, :]) if mask is None else mask
        return xp.sum(weights[:, None, None] * squares * mask, axis=(0, 1)), xp.sum(mask, axis=0)

    for part, seen_here in each(sums, blocks(x.shape[0], S)):
        total, count = total + double(part), count + double(seen_here)
    n_cases = constant([x.shape[0]], like=count)
    total, count, n_cases = ranks.total(ranks.of(x), (total, count, n_cases))
    return xp.astype(total / count, phi.dtype), xp.astype(count / n_cases, phi.dtype)


def expected(model, theta, phi, eta, weights, function):
    """E_q[function(f(z), rows)] of every data case, by nodes: (N, V).

    phi (N, n_phi), eta (S, 1, K), weights (S,)
    function takes f (S, n, n_f) and the slice of its n data cases, and returns (S, n, V).
    """
    xp = namespace(phi)

    def mean(rows):
        z, _ = model.posterior.sample(phi[rows, :], eta)           # (S, n, K)
        f, _ = model.f(theta, z)
        return xp.sum(weights[:, None, None] * function(f, rows), axis=0)

    return xp.concat(list(each(mean, blocks(phi.shape[0], eta.shape[0]))), axis=0)


def log_weight(model, theta, phi, x, eta):
    """log ω_sn = log p(x_n, z_ns) − log q(z_ns|φ_n) (S, N) at z = sample(φ, η).

    phi (N, n_phi), x (N, D), an array or an `Observed`, eta (S, N, K) or (S, 1, K)
    """
    z, _ = model.posterior.sample(phi, eta)                        # (S, N, K)
    log_q, _ = model.posterior.log_prob(phi, z)
    return model.log_joint(theta, x, z) - log_q                    # (S, N)                (7.1)


ORDERS = {1: (16, 32, 64, 96), 2: (10, 14, 20, 28, 40, 56, 80)}  # Gauss–Hermite nodes per dimension, by K
UNSETTLED = 3  # times the last change is what the error of a rule that has not settled may be


def quadrature(model, theta, phi, x, *, tol=1e-6):
    """Q_n (N,) by Gauss–Hermite quadrature for K ≤ 2, and its certificate (N,).

    The certificate is the larger change from the two next coarser rules: two rules may err alike by
    accident. Cases that changed by more than tol go on to finer rules, up to the last of `ORDERS`; where
    that still changes them by more, `UNSETTLED` times the change is stated.
    """
    xp, orders = namespace(x), ORDERS[model.n_latent]
    before, values = (bound_on_nodes(model, theta, phi, x, *_rule(model, order, x)) for order in orders[:2])
    change = xp.abs(values - before)
    rows = list(range(x.shape[0]))
    for order in orders[2:]:
        rule = _rule(model, order, x)
        finer = bound_on_nodes(model, theta, take_rows(phi, rows), take_rows(x, rows), *rule)
        last = take_rows(values, rows)
        moved = xp.maximum(xp.abs(finer - last), xp.abs(finer - take_rows(before, rows)))
        before = put_rows(before, rows, last)
        values, change = put_rows(values, rows, finer), put_rows(change, rows, moved)
        rows = [row for row, far in zip(rows, to_numpy(moved > tol)) if far]
        if not rows:
            break
    return values, xp.where(change > tol, UNSETTLED * change, change)  # (N,)              (10.5)


def _rule(model, order, like):
    return tuple(constant(a, like=like) for a in gauss_hermite(model.n_latent, order))
