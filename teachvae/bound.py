"""Q, the upper bound on the negative log marginal likelihood, and its gradients: the heart.

    x ──► φ_n ──► z_ns = m_n + s_n η_ns ──► f_w(z) ──► −log p(x|z) ──► Q_n
                                                       + KL(q‖p)
          dφ  ◄──── dz                  ◄──── df, dθ ◄───────────────── dQ_n

Who filled φ in (a closed form, a table with one row per data case, a recognition network) is not
this file's business, and that is the point: the Q of all three routes is this one. (Of a linear model it is
known in closed form, and then taken from there.) The noise η is an argument. Equations (1.x) are in
derivations/equations.md.
"""

from .arrays.backend import namespace
from .posteriors import has_kl


def forward(model, theta, phi, x, eta, *, weights=None, kl=None):
    """The bound Q_n ≥ nlml_n of every data case (1.5), in nats, and a cache for `backward`.

    By Jensen's inequality (1.4); above nlml_n (1.3) by KL(q ‖ p(z|x_n)) (1.6). Sorted into reconstruction
    and price (1.7) with the analytic KL, left as it is with the sampled one.

    phi (N, n_phi), x (N, D), an array or an `Observed`, eta (S, N, K) or (S, 1, K)
    weights  (S,) or (S, N); 1/S where None. Quadrature makes Q exact where it is exact for log p(x|z).
    kl       "analytic": −E_q[log p(x|z)] + KL(q ‖ p(z)), the KL in closed form            (1.8)
             "sampled":  −E_q[log p(x, z) − log q(z|φ)], all of it over the samples        (1.9)
             None: "analytic" where the family of q has its KL in closed form, else "sampled"

    Returns Q (N,) and the cache. Q = −ELBO. Raises ValueError for another shape, another `kl`, or one that
    the family does not have.
    """
    xp = namespace(phi, x, eta)
    check_shapes(model, phi, x, eta, weights)
    z, sample_cache = model.posterior.sample(phi, eta)             # (S, N, K)            (1.10)
    log_p, likelihood_cache = model.log_likelihood(theta, x, z)    # (S, N)
    w = _weights(weights, log_p)                                   # (S, N)
    kl = kl_for(model.posterior, kl)
    if kl == "analytic":
        kl_n, q_cache = model.posterior.kl(phi)
        Q = kl_n - xp.sum(w * log_p, axis=0)                       # (N,)                  (1.8)
    else:
        log_q, q_cache = model.posterior.log_prob(phi, z)
        Q = xp.sum(w * (log_q - model.log_prior(z) - log_p), axis=0)  # (N,)               (1.9)
    return Q, (kl, z, w, sample_cache, likelihood_cache, q_cache)


def backward(model, theta, cache, dQ, *, need_dphi=True, need_dtheta=True):
    """Gradients of Σ_n dQ_n Q_n, from dQ (N,): dphi (N, n_phi) and dtheta, shaped like theta.

    An E-step needs no dtheta and an M-step no dphi; what is not needed comes back as None.
    """
    kl, z, w, sample_cache, likelihood_cache, q_cache = cache
    dlog_p = -w * dQ                                               # (S, N)               (1.11)
    dz, dtheta = model.log_likelihood_backward(
        theta, likelihood_cache, dlog_p, need_dz=need_dphi, need_dtheta=need_dtheta
    )
    if not need_dphi:
        return None, dtheta
    if kl == "analytic":
        dphi = model.posterior.kl_backward(q_cache, dQ)            # (N, n_phi)           (1.12)
    else:
        dphi, dz_q = model.posterior.log_prob_backward(q_cache, w * dQ)
        # log p(z) enters Q as log p(x|z) does, so its d is dlog_p too.
        dz = dz + dz_q + model.log_prior_backward(z, dlog_p)       # (S, N, K)            (1.13)
    dphi = dphi + model.posterior.sample_backward(sample_cache, dz)  # (N, n_phi)   (1.12), (1.13)
    return dphi, dtheta


def kl_for(posterior, kl=None):
    """`kl`, "analytic" or "sampled"; where None the first that this family of q has. Else ValueError."""
    if kl not in (None, "analytic", "sampled"):
        raise ValueError(f"kl must be 'analytic' or 'sampled', got {kl!r}")
    if kl == "analytic" and not has_kl(posterior):
        raise ValueError(
            f"kl='analytic' needs the KL in closed form, which {type(posterior).__name__} has not: use "
            "kl='sampled', or None"
        )
    return kl or ("analytic" if has_kl(posterior) else "sampled")


def check_shapes(model, phi, x, eta, weights=None):
    """Raise ValueError where these do not have the shapes that go together, saying which has not: phi
    (N, n_phi), x (N, D), eta (S, N, K) or (S, 1, K), weights (S,) or (S, N), or None.
    """
    N, K, S = x.shape[0], model.n_latent, eta.shape[0]
    asked = {
        "x": (x.shape, [(N, model.likelihood.n_visible)], "(N, D)"),
        "phi": (phi.shape, [(N, model.posterior.n_phi)], "(N, n_phi)"),
        "eta": (eta.shape, [(S, N, K), (S, 1, K)], "(S, N, K) or (S, 1, K)"),
    }
    if weights is not None:
        asked["weights"] = weights.shape, [(S,), (S, N)], "(S,) or (S, N)"
    for name, (got, allowed, words) in asked.items():
        if tuple(got) not in allowed:
            raise ValueError(
                f"{name} must have shape {words}, with N = {N} data cases and S = {S} samples here, and D = "
                f"{model.likelihood.n_visible}, K = {K}, n_phi = {model.posterior.n_phi} of the model; got "
                f"{tuple(got)}"
            )


def _weights(weights, log_p):
    """The weights (S, N) of the samples, 1/S where None, beside log_p (S, N)."""
    zeros = namespace(log_p).zeros_like(log_p)
    if weights is None:
        return zeros + 1 / log_p.shape[0]
    return zeros + (weights[:, None] if weights.ndim == 1 else weights)
