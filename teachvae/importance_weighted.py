"""L_k, the importance-weighted bound between Q and nlml, and its gradients: the heart, k samples at a time.

    x ──► φ_n ──► z_ns = m_n + s_n η_ns ──► f_w(z) ──► log ω_ns ──► L_n = −log (1/k) Σ_s ω_ns
          dφ  ◄──── dz                  ◄──── df, dθ ◄── ω̃_ns = ω_ns / Σ_r ω_nr ◄────── dL_n

Where Q averages −log ω_ns over samples, L_k takes −log of their average (Burda, Grosse & Salakhutdinov 2016).
So its gradient is that of Q with the sampled KL, each sample weighted by its share ω̃ of the sum instead of
1/k; for k = 1 they are the same. Equations (1.x) and (7.x) are in derivations/equations.md.
"""

import math

from .arrays.special import exp, log_sum_exp
from .bound import check_shapes

ESTIMATORS = ("plain", "dreg")


def forward(model, theta, phi, x, eta):
    """L_n of every data case, (N,), in nats, and a cache for `backward`.

    phi (N, n_phi), x (N, D), an array or an `Observed`, eta (k, N, K) or (k, 1, K), independent draws: of
    quadrature nodes L_k would be no bound. Its expectation over them lies between nlml_n and Q_n, and falls
    with k (7.8). Raises ValueError for another shape.
    """
    check_shapes(model, phi, x, eta)
    z, sample_cache = model.posterior.sample(phi, eta)             # (k, N, K)            (1.10)
    log_p, likelihood_cache = model.log_likelihood(theta, x, z)    # (k, N)
    log_q, q_cache = model.posterior.log_prob(phi, z)              # (k, N)
    log_w = -(log_q - model.log_prior(z) - log_p)                  # (k, N)                (7.1)
    total = log_sum_exp(log_w, axis=0)                             # (N,)
    L = math.log(eta.shape[0]) - total                             # (N,)                  (7.8)
    return L, (z, exp(log_w - total), sample_cache, likelihood_cache, q_cache)


def backward(model, theta, cache, dL, *, estimator="plain"):
    """Gradients of Σ_n dL_n L_n, from dL (N,): dphi (N, n_phi) and dtheta, shaped like theta.

    estimator  "plain": the gradient of `forward`                                        (7.22)
               "dreg":  of φ the doubly reparameterised one (Tucker et al. 2019), another number with the same
                        expectation over η, whose noise does not drown it as k grows       (7.23)

    Raises ValueError for another estimator.
    """
    if estimator not in ESTIMATORS:
        raise ValueError(f"estimator must be one of {list(ESTIMATORS)}, got {estimator!r}")
    z, w, sample_cache, likelihood_cache, q_cache = cache
    dlog_p = -w * dL                                               # (k, N)               (7.22)
    dz, dtheta = model.log_likelihood_backward(theta, likelihood_cache, dlog_p)
    dphi, dz_q = model.posterior.log_prob_backward(q_cache, w * dL)
    dz = dz + dz_q + model.log_prior_backward(z, dlog_p)           # (k, N, K)            (7.22)
    if estimator == "dreg":
        return model.posterior.sample_backward(sample_cache, w[:, :, None] * dz), dtheta  # (7.23)
    return dphi + model.posterior.sample_backward(sample_cache, dz), dtheta  #            (7.22)
