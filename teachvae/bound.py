"""Q, the upper bound on the negative log marginal likelihood, and its gradients: the heart.

    x ──► φ_n ──► z_ns = m_n + s_n η_ns ──► f_w(z) ──► log p(x|z) ──► Q_n
                                                       − KL(q‖p)
          dφ  ◄──── dz                  ◄──── df, dθ ◄──────────────── dQ_n

Who filled φ in (a closed form, a table with one row per data case, a recognition network) is not
this file's business, and that is the point: all three routes go through these lines. The noise η is
an argument. Equations (1.x) are in derivations/equations.md.
"""

from .backend import namespace
from .posteriors import LOG_2PI


def forward(model, theta, phi, x, eta, *, weights=None, kl="analytic", mask=None):
    """The bound Q_n ≥ nlml_n of every data case, in nats, and a cache for `backward`.

    phi (N, n_phi), x (N, D), eta (S, N, K) or (S, 1, K), mask (N, D) or None
    weights  (S,) or (S, N); 1/S where None. With quadrature nodes and weights Q is exact.
    kl       "analytic": −E_q[log p(x|z)] + KL(q ‖ p(z)), the KL in closed form            (1.8)
             "sampled":  −E_q[log p(x, z) − log q(z|φ)], all of it over the samples        (1.9)

    Returns Q (N,) and the cache. Q = −ELBO.
    """
    xp = namespace(phi, x, eta)
    z, sample_cache = model.posterior.sample(phi, eta)             # (S, N, K)            (1.10)
    S, N, K = z.shape
    f, decoder_cache = model.decoder.forward(theta["decoder"], xp.reshape(z, (S * N, K)))
    f = xp.reshape(f, (S, N, model.likelihood.n_f))
    log_p, likelihood_cache = model.likelihood.forward(theta["likelihood"], f, x, mask)

    if weights is None:
        w = xp.zeros_like(log_p) + 1 / S                           # (S, N)
    else:
        w = xp.zeros_like(log_p) + (weights[:, None] if weights.ndim == 1 else weights)

    if kl == "analytic":
        kl_n, q_cache = model.posterior.kl(phi)
        Q = kl_n - xp.sum(w * log_p, axis=0)                       # (N,)                  (1.8)
    elif kl == "sampled":
        log_prior = -0.5 * xp.sum(z * z, axis=2) - 0.5 * K * LOG_2PI
        log_q, q_cache = model.posterior.log_prob(phi, z)
        Q = xp.sum(w * (log_q - log_prior - log_p), axis=0)        # (N,)                  (1.9)
    else:
        raise ValueError(f"kl must be 'analytic' or 'sampled', got {kl!r}")
    return Q, (kl, z, w, sample_cache, decoder_cache, likelihood_cache, q_cache)


def backward(model, theta, cache, dQ, *, need_dphi=True, need_dtheta=True):
    """Gradients of Σ_n dQ_n Q_n, from dQ (N,): dphi (N, n_phi) and dtheta, shaped like theta.

    An E-step needs no dtheta and an M-step no dphi; what is not needed comes back as None.
    """
    xp = namespace(dQ)
    kl, z, w, sample_cache, decoder_cache, likelihood_cache, q_cache = cache
    S, N, K = z.shape

    dlog_p = -w * dQ                                               # (S, N)               (1.11)
    df, dlikelihood = model.likelihood.backward(
        theta["likelihood"], likelihood_cache, dlog_p, need_dparams=need_dtheta
    )
    dz, ddecoder = model.decoder.backward(
        theta["decoder"],
        decoder_cache,
        xp.reshape(df, (S * N, model.likelihood.n_f)),
        need_dx=need_dphi,
        need_dparams=need_dtheta,
    )
    dtheta = {"decoder": ddecoder, "likelihood": dlikelihood} if need_dtheta else None
    if not need_dphi:
        return None, dtheta

    dz = xp.reshape(dz, (S, N, K))
    if kl == "analytic":
        dphi = model.posterior.kl_backward(q_cache, dQ)            # (N, n_phi)           (1.12)
    else:
        dphi, dz_q = model.posterior.log_prob_backward(q_cache, w * dQ)
        dz = dz + dz_q + (w * dQ)[:, :, None] * z                  # (S, N, K)            (1.13)
    return dphi + model.posterior.sample_backward(sample_cache, dz), dtheta
