"""The closed forms of the model whose decoder is linear: x = z W + b + noise, noise ~ N(0, Ψ).

Everything that factor analysis and linear variational EM compute exactly, and what every other
route is held against. Nothing here inverts a D × D matrix: all of it goes through the K × K matrix
M = I + W Ψ⁻¹ Wᵀ. Shapes: W (K, D), b (D,), psi (D,), x (N, D); mask (N, D) holds 1 where x was
observed, 0 where it was not, None where all of it was. Missing entries take their columns of W and Ψ
out of a data case's model. Equations (2.x) are in derivations/equations.md.
"""

from typing import NamedTuple

from ..arrays.backend import identity, namespace
from ..arrays.rows import take_rows
from ..arrays.special import LOG_2PI, diagonal
from ..likelihoods import Gaussian
from ..networks.layers import Linear, Sequential
from .missing import observed_e_step, pattern_precisions


class Statistics(NamedTuple):
    """Expected sufficient statistics, averaged over the data cases: all that an M-step needs.

    x (D,) = E[x]    xx (D,) = E[x²], per column    z (K,) = E[z]    zz (K, K) = E[z zᵀ]
    xz (D, K) = E[x zᵀ], where E is over the data and over q
    """

    x: object
    xx: object
    z: object
    zz: object
    xz: object


def is_linear(network):
    """Whether `network` is one Linear layer, and nothing that inherits from it."""
    layers = network.layers if type(network) is Sequential else (network,)
    return len(layers) == 1 and type(layers[0]) is Linear


def applies(model):
    """Whether `model` is linear-Gaussian: a decoder of one Linear layer and a Gaussian likelihood."""
    return type(model.likelihood) is Gaussian and is_linear(model.decoder)


def gaussian_q_applies(model):
    """Whether beside that the best q has a closed form: its family has `closest` and `covariance`."""
    return applies(model) and hasattr(model.posterior, "closest") and hasattr(model.posterior, "covariance")


def parameters(model, theta):
    """W (K, D), b (D,), psi (D,) of a linear-Gaussian model."""
    layer = theta["decoder"][0] if isinstance(model.decoder, Sequential) else theta["decoder"]
    return layer["W"], layer["b"], model.likelihood.psi(theta["likelihood"], like=layer["W"])


def decoder_params(model, W, b):
    """W (K, D), b (D,) as the parameters of a linear model's decoder, the reverse of `parameters`."""
    layer = {"W": W, "b": b}
    return [layer] if isinstance(model.decoder, Sequential) else layer


def precision(W, psi):
    """M = I + W Ψ⁻¹ Wᵀ (K, K), the precision of the posterior, the same for every x."""
    return identity(W.shape[0], like=W) + (W / psi) @ W.T          # (K, K)                (2.2)


def posterior(W, b, psi, x, mask=None):
    """p(z|x_n) = N(mean_n, M⁻¹): mean (N, K) and the precision M (K, K).

    With a mask the precision is each data case's own, (N, K, K)                           (2.19).
    """
    xp = namespace(W, x)
    if mask is not None:
        M, place = pattern_precisions(W, psi, mask)
        return observed_e_step(W, b, psi, x, mask)[0], take_rows(M, place)
    M = precision(W, psi)
    beta = xp.linalg.solve(M, W / psi)                             # (K, D)                (2.8)
    mean = (x - b) @ beta.T                                        # (N, K)                (2.3)
    return mean, M


def e_step(W, b, psi, x, mask=None):
    """The posterior's mean (N, K) and covariance (K, K), the same for every x, and the nlml (N,), in one go.

    With a mask the covariance is each data case's own, (N, K, K), and nlml that of the entries observed
    alone                                                                          (2.20), (2.21).
    """
    if mask is not None:
        return observed_e_step(W, b, psi, x, mask)
    xp = namespace(W, x)
    mean, M = posterior(W, b, psi, x)
    residual = x - b - mean @ W
    quadratic = xp.sum(residual * residual / psi, axis=1) + xp.sum(mean * mean, axis=1)  # (2.5)
    return mean, xp.linalg.inv(M), 0.5 * (W.shape[1] * LOG_2PI + _log_det(M, psi) + quadratic)  #  (2.6)


def nlml(W, b, psi, x, mask=None):
    """−log N(x_n; b, WᵀW + Ψ) (2.1) of every data case, (N,), in nats.

    With a mask: of the entries observed alone                                            (2.21).
    """
    return e_step(W, b, psi, x, mask)[2]


def e_step_moments(W, psi, S, posterior_family=None):
    """The E-step from the covariance S (D, D) alone, free of N.

    Returns the `Statistics` of the centred data (their E[x] and E[z] are 0), and the mean nlml of
    (W, psi), which falls out on the way.
    With a posterior_family it is that of variational EM: q is the family's member closest to the posterior,
    and the second value is the mean of Q.
    """
    xp = namespace(W, S)
    D = S.shape[0]
    S_diagonal = diagonal(S)
    A = W / psi                                                    # (K, D)
    M = precision(W, psi)
    beta = xp.linalg.solve(M, A)                                   # (K, D)                (2.8)
    xz = S @ beta.T                                                # (D, K)                (2.8)
    trace = xp.sum(S_diagonal / psi) - xp.sum(A * xz.T)            # tr Σ⁻¹S               (2.7)
    zero_x, zero_z = xp.zeros_like(psi), xp.zeros_like(W[:, 0])
    if posterior_family is None:
        covariance = xp.linalg.inv(M)
        log_det_and_kl = xp.linalg.slogdet(M)[1]
    else:
        phi = posterior_family.closest(zero_z[None, :], M)
        covariance = posterior_family.covariance(phi)[0, :, :]     # in place of M⁻¹
        # log|M| + 2 KL(q ‖ posterior); the posterior itself has KL = 0
        log_det_and_kl = xp.sum(M * covariance) - W.shape[0] - xp.linalg.slogdet(covariance)[1]
    zz = covariance + beta @ xz                                    # (K, K)         (2.8), (2.25)
    mean_Q = 0.5 * (D * LOG_2PI + xp.sum(xp.log(psi)) + log_det_and_kl + trace)  #  (2.7), (2.25)
    return Statistics(zero_x, S_diagonal, zero_z, zz, xz), mean_Q


def statistics(posterior_family, phi, x):
    """The `Statistics` of data x (N, D) under a table φ (N, n_phi).

    The plain form: of a closed-form E-step `e_step_moments` has the same numbers without the table.
    """
    xp = namespace(phi, x)
    N = x.shape[0]
    m = posterior_family.mean(phi)                                 # (N, K)
    covariances = xp.sum(posterior_family.covariance(phi), axis=0)  # Σ_n C_n, (K, K)
    return Statistics(
        x=xp.mean(x, axis=0),
        xx=xp.mean(x * x, axis=0),
        z=xp.mean(m, axis=0),
        zz=(covariances + m.T @ m) / N,                            # (K, K)                (2.9)
        xz=x.T @ m / N,                                            # (D, K)                (2.9)
    )


def m_step(stats):
    """The minimiser of Q over W and b: a linear regression of x on (z, 1).

    Returns W (K, D), b (D,) and the expected squared residual of every column, (D,), from which
    the likelihood takes its Ψ.
    """
    xp = namespace(stats.zz)
    one = xp.ones_like(stats.x[:1])
    z = stats.z[:, None]
    A = xp.concat(
        [xp.concat([stats.zz, z], axis=1), xp.concat([z.T, one[:, None]], axis=1)], axis=0
    )                                                              # E[(z, 1)(z, 1)ᵀ], (K+1, K+1)
    B = xp.concat([stats.xz, stats.x[:, None]], axis=1)            # E[x (z, 1)ᵀ], (D, K+1)
    G = xp.linalg.solve(A, B.T)                                    # (K+1, D)              (2.11)
    mean_square = stats.xx - xp.sum(G * B.T, axis=0)               # (D,)                  (2.12)
    return G[:-1, :], G[-1, :], mean_square


def expanded(W, b, z, zz):
    """W and b of the M-step of the wider model z ~ N(a, R), told as a model with z ~ N(0, I).

    W (K, D), b (D,) of the M-step, z (K,) = E[z], zz (K, K) = E[z zᵀ]. The M-step of a and R is the mean and
    the covariance of z; to shift, scale and turn z back costs nothing, and it can save EM most of its
    iterations (PX-EM, Liu, Rubin & Wu 1998).
    """
    R = zz - z[:, None] * z[None, :]
    L = namespace(zz).linalg.cholesky(R)                           # (K, K)               (2.24)
    return L.T @ W, b + z @ W                                      # (K, D), (D,)         (2.24)


def bound(W, b, psi, phi, posterior_family, x, mask=None):
    """Q_n in closed form, (N,): the expectation of the squared error written out."""
    xp = namespace(W, phi, x)
    m = posterior_family.mean(phi)
    r = x - b - m @ W                                              # (N, D)
    kl, _ = posterior_family.kl(phi)
    covariance = posterior_family.covariance(phi)
    terms = r * r / psi + xp.log(psi) + LOG_2PI
    if mask is None:
        curvature = (W / psi) @ W.T                                # WΨ⁻¹Wᵀ, (K, K)
    else:
        M, place = pattern_precisions(W, psi, mask)
        terms, curvature = terms * mask, take_rows(M, place) - identity(W.shape[0], like=W)
    spread = xp.sum(covariance * curvature, axis=(1, 2))           # tr(C_n WΨ⁻¹Wᵀ), (N,)
    return kl + 0.5 * (xp.sum(terms, axis=1) + spread)             # (N,)                 (2.13)


def rotation(W, psi):
    """The rotation R (K, K) of z that makes R W Ψ⁻¹ Wᵀ Rᵀ diagonal, largest entry first."""
    xp = namespace(W)
    _, V = xp.linalg.eigh((W / psi) @ W.T)                         # ascending
    return xp.flip(V, axis=1).T                                    # Vᵀ                   (2.14)


def canonical(W, psi):
    """The rotation of W (K, D) that makes W Ψ⁻¹ Wᵀ diagonal, largest entry first.

    Only WᵀW + Ψ is determined by data; the rotation, and each row's sign, are free. Here the entry
    of largest size in each row is positive.
    """
    W = rotation(W, psi) @ W                                       # (K, D)               (2.14)
    return W * signs(W)[:, None]


def signs(W):
    """±1 for every row of W (K, D), by which its entry of largest size becomes positive, (K,)."""
    xp = namespace(W)
    positive, negative = xp.max(W, axis=1), -xp.min(W, axis=1)
    return xp.where(negative > positive, -xp.ones_like(positive), xp.ones_like(positive))


def mean_field_gap(W, psi):
    """Q − nlml of the best diagonal q, the same for every x                               (2.10)."""
    return diagonal_gap(precision(W, psi))


def diagonal_gap(M):
    """KL(q ‖ posterior) of the best diagonal q where the posterior has the precision M (K, K):
    ½ (Σ_k log M_kk − log|M|)                                                              (2.10).
    """
    xp = namespace(M)
    return 0.5 * (float(xp.sum(xp.log(diagonal(M)))) - float(xp.linalg.slogdet(M)[1]))


def bartlett(mean, M):
    """The weighted least squares estimate of z, without a prior, from the posterior's mean (N, K) and
    precision M, (K, K) or (N, K, K): the estimate (N, K) and its covariance, shaped like M.

    Where M − I is singular the data say nothing of some direction of z, and there is none.
    """
    xp = namespace(M)
    covariance = xp.linalg.inv(M - identity(M.shape[-1], like=M))  #                       (2.33)
    return (mean[:, None, :] @ M @ covariance)[:, 0, :], covariance  #                     (2.33)


def _log_det(M, psi):
    """log|WᵀW + Ψ| = log|Ψ| + log|M|."""
    xp = namespace(M, psi)
    return xp.sum(xp.log(psi)) + xp.linalg.slogdet(M)[1]           #                       (2.4)
