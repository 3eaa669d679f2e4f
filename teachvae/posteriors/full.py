"""q(z|φ_n) with a full covariance.

Equations (3.x) are in derivations/equations.md.
"""

from dataclasses import dataclass

from ..arrays.backend import constant, identity, index, namespace
from ..arrays.special import LOG_2PI
from .posterior import Posterior


@dataclass(frozen=True)
class FullGaussian(Posterior):
    """q(z|φ_n) = N(z; m, L Lᵀ), φ = [m | L], (N, K + K(K+1)/2).

    L is lower triangular, its entries stored row by row; the diagonal is stored as its logarithm.
    """

    n_latent: int

    @property
    def n_phi(self):
        """The length of a row of φ."""
        return self.n_latent + self.n_latent * (self.n_latent + 1) // 2

    def unpack(self, phi):
        """m (N, K) and L (N, K, K)."""
        xp = namespace(phi)
        K = self.n_latent
        _, square = self._places()
        entries = xp.take(phi[:, K:], index(square, phi), axis=1)
        entries = xp.reshape(entries, (-1, K, K))
        eye, below = self._masks(phi)
        return phi[:, :K], entries * below + xp.exp(entries * eye) * eye

    def _pack(self, dm, dL, L):
        """∂/∂φ from ∂/∂m and ∂/∂L; on the diagonal ∂/∂ log L_kk = L_kk ∂/∂L_kk."""
        xp = namespace(dm)
        K = self.n_latent
        packed, _ = self._places()
        eye, below = self._masks(dm)
        entries = xp.reshape(dL * (below + L * eye), (-1, K * K))  # (N, K²)              (3.12)
        return xp.concat([dm, xp.take(entries, index(packed, dm), axis=1)], axis=1)

    def sample(self, phi, eta):
        """z (S, N, K) from noise eta (S, N, K) or (S, 1, K), and a cache."""
        xp = namespace(phi, eta)
        m, L = self.unpack(phi)
        eta_T = xp.permute_dims(eta, (1, 2, 0))                    # (N, K, S) or (1, K, S)
        z = m + xp.permute_dims(L @ eta_T, (2, 0, 1))              # (S, N, K)            (3.13)
        return z, (L, eta_T)

    def sample_backward(self, cache, dz):
        """dphi (N, n_phi) from dz (S, N, K)."""
        xp = namespace(dz)
        L, eta_T = cache
        dm = xp.sum(dz, axis=0)                                    # (N, K)               (3.14)
        dL = xp.permute_dims(dz, (1, 2, 0)) @ xp.permute_dims(eta_T, (0, 2, 1))  # (N, K, K) (3.15)
        dphi = self._pack(dm, dL, L)                               # (N, n_phi)           (3.12)
        return dphi

    def kl(self, phi):
        """KL(q_n ‖ N(0, I)), (N,), in nats, and a cache."""
        xp = namespace(phi)
        m, L = self.unpack(phi)
        squares = xp.sum(L * L, axis=(1, 2)) + xp.sum(m * m, axis=1)  # (N,)
        kl = 0.5 * (squares - self.n_latent) - self.log_det(phi)    # (N,)                 (3.16)
        return kl, (m, L)

    def kl_backward(self, cache, dkl):
        """dphi (N, n_phi) from dkl (N,)."""
        m, L = cache
        dm = dkl[:, None] * m                                      # (N, K)               (3.17)
        dL = dkl[:, None, None] * (L - self._inverse_diagonal(L))  # (N, K, K)            (3.18)
        dphi = self._pack(dm, dL, L)                               # (N, n_phi)           (3.12)
        return dphi

    def log_prob(self, phi, z):
        """log q(z|φ_n) (S, N) at z (S, N, K), and a cache."""
        xp = namespace(phi, z)
        m, L = self.unpack(phi)
        u = xp.linalg.solve(L, xp.permute_dims(z - m, (1, 2, 0)))  # L⁻¹(z − m), (N, K, S)
        squares = xp.permute_dims(xp.sum(u * u, axis=1), (1, 0))   # (S, N)
        log_q = -0.5 * squares - self.log_det(phi) - 0.5 * self.n_latent * LOG_2PI  #      (3.19)
        return log_q, (L, u)

    def log_prob_backward(self, cache, dlog_q):
        """dphi (N, n_phi), z held fixed, and dz (S, N, K), from dlog_q (S, N)."""
        xp = namespace(dlog_q)
        L, u = cache
        total = xp.sum(dlog_q, axis=0)[:, None, None]              # (N, 1, 1)
        du = -xp.permute_dims(dlog_q, (1, 0))[:, None, :] * u      # (N, K, S)
        L_T, u_T = xp.permute_dims(L, (0, 2, 1)), xp.permute_dims(u, (0, 2, 1))
        dz = xp.permute_dims(xp.linalg.solve(L_T, du), (2, 0, 1))  # (S, N, K)            (3.20)
        dm = -xp.sum(dz, axis=0)                                   # (N, K)               (3.21)
        outer = xp.permute_dims(dz, (1, 2, 0)) @ u_T               # Σ_s dzᵀ u, (N, K, K)
        dL = -outer - total * self._inverse_diagonal(L)            # (N, K, K)            (3.22)
        dphi = self._pack(dm, dL, L)                               # (N, n_phi)           (3.12)
        return dphi, dz

    def log_det(self, phi):
        """log|L| = Σ_k log L_kk, (N,): φ holds these logarithms as they are."""
        return phi @ self._log_diagonal(phi)                       # (N,)                 (3.42)

    def log_det_backward(self, dlog_det):
        """dphi (N, n_phi) from dlog_det (N,)                                                (3.42)."""
        return dlog_det[:, None] * self._log_diagonal(dlog_det)    # (N, n_phi)           (3.42)

    def mean(self, phi):
        """E_q[z], (N, K)."""
        return phi[:, : self.n_latent]

    def covariance(self, phi):
        """Cov_q[z] = L Lᵀ, (N, K, K)."""
        _, L = self.unpack(phi)
        return L @ namespace(phi).permute_dims(L, (0, 2, 1))

    def closest(self, mean, precision):
        """The φ (N, n_phi) with q = N(mean_n, precision⁻¹), which this family holds exactly.

        mean (N, K), precision (K, K) or (N, K, K).
        """
        xp = namespace(mean, precision)
        packed, _ = self._places()
        L = xp.linalg.cholesky(xp.linalg.inv(precision))           # (K, K) or (N, K, K)   (2.10)
        eye, below = self._masks(mean)
        entries = xp.reshape(L * below + xp.log(L * eye + (1 - eye)), (-1, self.n_latent**2))
        rows = xp.take(entries, index(packed, mean), axis=1)
        return xp.concat([mean, xp.zeros_like(mean[:, :1]) + rows], axis=1)

    def from_diagonal(self, phi):
        """The φ (N, n_phi) of the same q_n as φ (N, 2K) = [m | log s] of the diagonal family.

        log s_k goes to the place of log L_kk in the packing, and 0 to what lies below the diagonal.
        """
        K = self.n_latent
        spread = [[1.0 if i == j == k else 0.0 for i in range(K) for j in range(i + 1)] for k in range(K)]
        return namespace(phi).concat([phi[:, :K], phi[:, K:] @ constant(spread, like=phi)], axis=1)

    def natural_scale(self, phi):
        """A diagonal stand-in for the inverse Fisher information, (N, n_phi)             (3.23)."""
        xp = namespace(phi)
        K = self.n_latent
        _, L = self.unpack(phi)
        packed, _ = self._places()
        eye, below = self._masks(phi)
        variance = xp.sum(L * L, axis=2)                           # (N, K)
        entries = variance[:, :, None] * below + 0.5 * eye
        entries = xp.take(
            xp.reshape(entries, (-1, K * K)), index(packed, phi), axis=1
        )
        return xp.concat([variance, entries], axis=1)              # (N, n_phi)           (3.23)

    def _inverse_diagonal(self, L):
        """diag(1/L_11, …, 1/L_KK), (N, K, K): 1 stands off the diagonal, where 0/0 would be."""
        eye, _ = self._masks(L)
        return eye / (L * eye + (1 - eye))

    def _log_diagonal(self, like):
        """1 where a row of φ holds a log L_kk, else 0, (n_phi,)."""
        K = self.n_latent
        return constant([0.0] * K + [float(i == j) for i in range(K) for j in range(i + 1)], like=like)

    def _masks(self, like):
        """The identity, and ones strictly below the diagonal, both (K, K)."""
        K = self.n_latent
        below = [[1.0 if j < i else 0.0 for j in range(K)] for i in range(K)]
        return identity(K, like=like), constant(below, like)

    def _places(self):
        """Where the packed entries lie in the flattened square, and the square's in the packing.

        Places above the diagonal point at entry 0; the masks take them out again.
        """
        K = self.n_latent
        packed = [i * K + j for i in range(K) for j in range(i + 1)]
        square = [i * (i + 1) // 2 + j if j <= i else 0 for i in range(K) for j in range(K)]
        return packed, square
