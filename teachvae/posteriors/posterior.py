"""What a family of q(z|φ_n) is: what a new one has to write, and what it then has by inheritance.

    class MyFamily(Posterior):
        n_latent, n_phi                    K, and the length of a row of φ
        sample(phi, eta)                   z (S, N, K) from φ (N, n_phi) and standard normal η (S, N or 1, K),
                                           and a cache
        sample_backward(cache, dz)         dφ (N, n_phi)
        log_prob(phi, z)                   log q(z_ns|φ_n) (S, N) in nats, and a cache
        log_prob_backward(cache, dlog_q)   dφ (N, n_phi) with z fixed, and dz (S, N, K)
        mean(phi)                          E_q[z] (N, K)

and, where it is a closed form,

        kl(phi)                            KL(q(z|φ_n) ‖ N(0, I)) (N,) in nats, and a cache
        kl_backward(cache, dkl)            dφ (N, n_phi)

Without these two the bound takes the KL over the samples (1.9), and φ is sought on more nodes.
With covariance(phi) (N, K, K) and closest(mean, precision), a Gaussian family has closed forms where the
model is linear-Gaussian. All else below is right for any family, though it may be slow.
"""

from ..arrays.backend import namespace


class Posterior:
    """A family of q(z|φ_n): the defaults of what is not in the list above."""

    def natural_scale(self, phi):
        """Diagonal of an inverse curvature of Q in φ, (N, n_phi), for the first step of an E-step: all 1."""
        return namespace(phi).ones_like(phi)


def has_kl(posterior):
    """Whether the KL to the prior is a closed form of this family."""
    return hasattr(posterior, "kl")
