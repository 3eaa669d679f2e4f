"""q(z|φ_n) with a diagonal covariance, the mean-field family.

How a family is written stands in `posterior`. Equations (3.x) are in derivations/equations.md.
"""

from dataclasses import dataclass

from ..arrays.backend import identity, namespace
from ..arrays.rows import sum_last
from ..arrays.special import LOG_2PI
from .posterior import Posterior


@dataclass(frozen=True)
class DiagonalGaussian(Posterior):
    """The mean-field family: q(z|φ_n) = Π_k N(z_k; m_k, s_k²), φ = [m | log s], (N, 2K).

    s is the standard deviation; its logarithm is what is learned, so s > 0 holds by itself.
    """

    n_latent: int

    @property
    def n_phi(self):
        """The length of a row of φ."""
        return 2 * self.n_latent

    def unpack(self, phi):
        """m (N, K) and log_s (N, K)."""
        return phi[:, : self.n_latent], phi[:, self.n_latent :]

    def sample(self, phi, eta):
        """z (S, N, K) from noise eta (S, N, K) or (S, 1, K), and a cache."""
        xp = namespace(phi, eta)
        m, log_s = self.unpack(phi)
        s = xp.exp(log_s)
        z = m + eta * s                                            # (S, N, K)             (3.1)
        return z, (s, eta)

    def sample_backward(self, cache, dz):
        """dphi (N, n_phi) from dz (S, N, K)."""
        xp = namespace(dz)
        s, eta = cache
        dm = xp.sum(dz, axis=0)                                    # (N, K)                (3.2)
        dlog_s = xp.sum(dz * eta, axis=0) * s                      # (N, K)                (3.3)
        return xp.concat([dm, dlog_s], axis=1)

    def kl(self, phi):
        """KL(q_n ‖ N(0, I)), (N,), in nats, and a cache."""
        m, log_s = self.unpack(phi)
        s2 = namespace(phi).exp(2 * log_s)                         # (N, K)
        kl = 0.5 * sum_last(m * m + s2 - 1 - 2 * log_s)            # (N,)                  (3.4)
        return kl, (m, s2)

    def kl_backward(self, cache, dkl):
        """dphi (N, n_phi) from dkl (N,)."""
        xp = namespace(dkl)
        m, s2 = cache
        dm = dkl[:, None] * m                                      # (N, K)                (3.5)
        dlog_s = dkl[:, None] * (s2 - 1)                           # (N, K)                (3.6)
        return xp.concat([dm, dlog_s], axis=1)

    def log_prob(self, phi, z):
        """log q(z|φ_n) (S, N) at z (S, N, K), and a cache."""
        xp = namespace(phi, z)
        m, log_s = self.unpack(phi)
        s = xp.exp(log_s)
        u = (z - m) / s                                            # (S, N, K)
        constant = 0.5 * self.n_latent * LOG_2PI
        log_q = -0.5 * xp.sum(u * u, axis=2) - xp.sum(log_s, axis=1) - constant  # (S, N)  (3.7)
        return log_q, (s, u)

    def log_prob_backward(self, cache, dlog_q):
        """dphi (N, n_phi), z held fixed, and dz (S, N, K), from dlog_q (S, N)."""
        xp = namespace(dlog_q)
        s, u = cache
        dlog_q = dlog_q[:, :, None]
        dz = -dlog_q * u / s                                       # (S, N, K)             (3.8)
        dm = -xp.sum(dz, axis=0)                                   # (N, K)                (3.9)
        dlog_s = xp.sum(dlog_q * (u * u - 1), axis=0)              # (N, K)               (3.10)
        return xp.concat([dm, dlog_s], axis=1), dz

    def mean(self, phi):
        """E_q[z], (N, K)."""
        return self.unpack(phi)[0]

    def covariance(self, phi):
        """Cov_q[z], (N, K, K)."""
        xp = namespace(phi)
        s2 = xp.exp(2 * self.unpack(phi)[1])
        return s2[:, :, None] * identity(self.n_latent, like=phi)

    def closest(self, mean, precision):
        """The φ (N, 2K) in the family with the least KL(q ‖ N(mean_n, precision⁻¹)).

        mean (N, K), precision (K, K) or (N, K, K). The mean is kept, and s_k² = 1 / precision_kk  (2.10)
        """
        xp = namespace(mean, precision)
        diagonal = xp.sum(precision * identity(self.n_latent, like=precision), axis=-1)
        log_s = xp.zeros_like(mean) - 0.5 * xp.log(diagonal)
        return xp.concat([mean, log_s], axis=1)

    def natural_scale(self, phi):
        """Diagonal of the inverse Fisher information of q, (N, 2K): s² for m, ½ for log s (3.11)."""
        xp = namespace(phi)
        s2 = xp.exp(2 * self.unpack(phi)[1])
        return xp.concat([s2, xp.zeros_like(s2) + 0.5], axis=1)    # (N, 2K)              (3.11)
