"""q(z|φ_n) as a normalising flow: a full Gaussian whose noise is bent before it is placed.

    η ~ N(0, I) ──► u = T_φ(η), layer by layer ──► z = m + L u

With every number of the layers at 0 nothing is bent: the family holds all Gaussians. A layer maps u (N, S, K)
to another, with numbers of its own for every data case, and has

    n_params                                    how many numbers
    forward(params, u)                          the new u (N, S, K) from params (N, n_params), and a cache
    backward(cache, du)                         dparams, and du of what went in
    inverse(params, u)                          what went in, log|det ∂new/∂old| there (N, S), and a cache
    inverse_backward(cache, du, dlog_det)       dparams, and du of the u that was given

So q has a density at any z. Its KL to the prior is no closed form: the family has no `kl`, and the bound
takes it over the samples (1.9). Flexible as it is, it is sought on many nodes only, see `e_step.nodes_for`.
Flows as posteriors are Rezende and Mohamed's (2015), couplings Dinh, Sohl-Dickstein and Bengio's (2017).
Equations (3.x) are in derivations/equations.md.
"""

from dataclasses import dataclass

from ..arrays.backend import constant, namespace
from ..arrays.special import LOG_2PI, exp, tanh
from .full import FullGaussian
from .nodes import e_step_nodes
from .posterior import Posterior


@dataclass(frozen=True)
class Flow(Posterior):
    """q(z|φ_n) of z = m + L T(η), φ = [m | L | a block per layer], L as in `FullGaussian`.

    layers  a tuple of `Coupling` or `Planar` layers, or of your own, first the one that η meets
    """

    n_latent: int
    layers: tuple

    @property
    def gaussian(self):
        """The family of q where nothing is bent."""
        return FullGaussian(self.n_latent)

    @property
    def n_phi(self):
        """The length of a row of φ: K + K(K+1)/2 and what the layers hold."""
        return self.gaussian.n_phi + sum(layer.n_params for layer in self.layers)

    def unpack(self, phi):
        """The Gaussian's φ (N, K + K(K+1)/2), and a list with the params (N, n_params) of every layer."""
        start, parts = self.gaussian.n_phi, []
        for layer in self.layers:
            parts.append(phi[:, start : start + layer.n_params])
            start = start + layer.n_params
        return phi[:, : self.gaussian.n_phi], parts

    def sample(self, phi, eta):
        """z (S, N, K) from noise eta (S, N, K) or (S, 1, K), and a cache."""
        base, parts = self.unpack(phi)
        u, caches = _swapped(eta), []                              # (N, S, K) or (1, S, K)
        for layer, params in zip(self.layers, parts):
            u, cache = layer.forward(params, u)                    # (N, S, K)
            caches.append(cache)
        z, cache = self.gaussian.sample(base, _swapped(u))         # (S, N, K)            (3.24)
        return z, (base, cache, caches)

    def sample_backward(self, cache, dz):
        """dphi (N, n_phi) from dz (S, N, K)."""
        base, gaussian_cache, caches = cache
        _, L = self.gaussian.unpack(base)
        du, dparts = _swapped(dz) @ L, []                          # (N, S, K)            (3.25)
        for layer, cache in zip(self.layers[::-1], caches[::-1]):
            dparams, du = layer.backward(cache, du)
            dparts.append(dparams)
        dbase = self.gaussian.sample_backward(gaussian_cache, dz)  #                      (3.25)
        return namespace(dz).concat([dbase, *dparts[::-1]], axis=1)

    def log_prob(self, phi, z):
        """log q(z|φ_n) (S, N) at z (S, N, K), and a cache: back through the layers to the η of this z."""
        xp, (base, parts) = namespace(phi, z), self.unpack(phi)
        m, L = self.gaussian.unpack(base)
        u = xp.linalg.solve(L, xp.permute_dims(z - m, (1, 2, 0)))  # (N, K, S)
        _, placed = self.gaussian.sample(base, xp.permute_dims(u, (2, 0, 1)))
        u, log_det, caches = xp.permute_dims(u, (0, 2, 1)), self.gaussian.log_det(base)[:, None], []
        for layer, params in zip(self.layers[::-1], parts[::-1]):
            u, more, cache = layer.inverse(params, u)              # (N, S, K), (N, S)
            log_det = log_det + more
            caches.append(cache)
        squares = xp.sum(u * u, axis=2)                            # ‖η‖², (N, S)
        log_q = -0.5 * squares - log_det - 0.5 * self.n_latent * LOG_2PI  # (N, S)        (3.26)
        return _swapped(log_q), (u, L, placed, caches)

    def log_prob_backward(self, cache, dlog_q):
        """dphi (N, n_phi), z held fixed, and dz (S, N, K), from dlog_q (S, N)."""
        xp, (u, L, placed, caches) = namespace(dlog_q), cache
        dlog_q = _swapped(dlog_q)                                  # (N, S)
        du, dlog_det, dparts = -dlog_q[:, :, None] * u, -dlog_q, []  #                    (3.27)
        for layer, cache in zip(self.layers, caches[::-1]):
            dparams, du = layer.inverse_backward(cache, du, dlog_det)
            dparts.append(dparams)
        dz = xp.linalg.solve(xp.permute_dims(L, (0, 2, 1)), xp.permute_dims(du, (0, 2, 1)))
        dz = xp.permute_dims(dz, (2, 0, 1))                        # du L⁻¹, (S, N, K)    (3.27)
        dbase = self.gaussian.log_det_backward(xp.sum(dlog_det, axis=1))
        dbase = dbase - self.gaussian.sample_backward(placed, dz)  # z is held fixed      (3.27)
        return xp.concat([dbase, *dparts], axis=1), dz

    def mean(self, phi):
        """E_q[z], (N, K): by 20 Gauss–Hermite nodes per dimension for K ≤ 2, else 1024 whitened draws."""
        eta, weights = (constant(a, like=phi) for a in e_step_nodes(self.n_latent, 20, 1024))
        z, _ = self.sample(phi, eta)
        return namespace(phi).sum(weights[:, None, None] * z, axis=0)

    def closest(self, mean, precision):
        """The φ (N, n_phi) with q = N(mean_n, precision⁻¹), which this family holds exactly.

        mean (N, K), precision (K, K) or (N, K, K).
        """
        return self.from_full(self.gaussian.closest(mean, precision))

    def from_full(self, phi):
        """The φ (N, n_phi) of the same q_n as φ (N, K + K(K+1)/2) of the full Gaussian: nothing is bent."""
        xp, rest = namespace(phi), [0.0] * (self.n_phi - self.gaussian.n_phi)
        return xp.concat([phi, xp.zeros_like(phi[:, :1]) + constant(rest, like=phi)], axis=1)

    def natural_scale(self, phi):
        """The full Gaussian's for m and L (3.23), and 1 for the numbers of the layers, (N, n_phi)."""
        xp, (base, parts) = namespace(phi), self.unpack(phi)
        ones = [xp.ones_like(params) for params in parts]
        return xp.concat([self.gaussian.natural_scale(base), *ones], axis=1)


@dataclass(frozen=True)
class Coupling:
    """One half of u is stretched and moved, by how much the other half says, which stays as it is.

    What it says are tanh units at fixed places, `KNOTS` for every variable of the given half, times the
    layer's numbers V, each held between −1 and 1 by a tanh: no layer can bend faster than nodes see.
    params  V, (N, F · 2H) with F units and H variables that are moved: first what each unit says of their
            shifts, then of the logarithms of their scales, unit by unit
    Raises ValueError for K = 1, where there is no other half.
    """

    n_latent: int
    moves_first: bool

    def __post_init__(self):
        if self.n_latent < 2:
            raise ValueError(
                f"a coupling moves one half of the latent variables by the other: it needs K >= 2, got "
                f"{self.n_latent}; posterior='planar' bends a single one too"
            )

    @property
    def n_params(self):
        """The size of V."""
        half = self.n_latent // 2
        return 2 * len(KNOTS) * half * (self.n_latent - half)

    def forward(self, params, u):
        """The new u (N, S, K), and a cache."""
        given, moved = self._halves(u)
        shift, log_scale, cache = self._said(params, given)
        scale = exp(log_scale)
        new = scale * moved + shift                                # (N, S, H)            (3.30)
        given = given + namespace(new).zeros_like(new[:, :, :1])   # (1, S, …) for nodes that all share
        return self._whole(given, new), (moved, scale, cache)

    def backward(self, cache, du):
        """dparams (N, n_params) and du (N, S, K) of what went in."""
        moved, scale, cache = cache
        dgiven, dnew = self._halves(du)
        dparams, more = self._said_backward(cache, dnew, dnew * scale * moved)  #         (3.31)
        return dparams, self._whole(dgiven + more, dnew * scale)   #                      (3.31)

    def inverse(self, params, u):
        """What went in (N, S, K), log|det| (N, S), and a cache."""
        given, new = self._halves(u)
        shift, log_scale, cache = self._said(params, given)
        scale = exp(log_scale)
        moved = (new - shift) / scale                              # (N, S, H)            (3.32)
        log_det = namespace(u).sum(log_scale, axis=2)              # (N, S)               (3.32)
        return self._whole(given, moved), log_det, (moved, scale, cache)

    def inverse_backward(self, cache, du, dlog_det):
        """dparams (N, n_params) and du (N, S, K) of the u that was given."""
        moved, scale, cache = cache
        dgiven, dmoved = self._halves(du)
        dnew = dmoved / scale                                      # (N, S, H)            (3.33)
        dparams, more = self._said_backward(cache, -dnew, dlog_det[:, :, None] - dmoved * moved)
        return dparams, self._whole(dgiven + more, dnew)           #                      (3.33)

    def _said(self, params, given):
        """Shifts and log scales (N, S, H) of what is moved, from the given half (N, S, G), and a cache."""
        xp = namespace(params)
        units = tanh(given[:, :, :, None] - constant(KNOTS, like=given))  # (N, S, G, knots)
        units = xp.reshape(units, (*units.shape[:2], -1))          # (N, S, F)
        V = xp.reshape(xp.tanh(params), (params.shape[0], units.shape[2], -1))  # (N, F, 2H)
        said = units @ V                                           # (N, S, 2H)           (3.28)
        H = V.shape[2] // 2
        return said[:, :, :H], said[:, :, H:], (units, V)

    def _said_backward(self, cache, dshift, dlog_scale):
        """dparams (N, n_params) and the given half's gradient (N, S, G)."""
        units, V = cache
        xp = namespace(V)
        dsaid = xp.concat([dshift, dlog_scale], axis=2)            # (N, S, 2H)
        dV = xp.permute_dims(units, (0, 2, 1)) @ dsaid             # (N, F, 2H)           (3.29)
        dunits = dsaid @ xp.permute_dims(V, (0, 2, 1)) * (1 - units * units)  #           (3.29)
        dgiven = xp.sum(xp.reshape(dunits, (*dunits.shape[:2], -1, len(KNOTS))), axis=3)
        return xp.reshape(dV * (1 - V * V), (dV.shape[0], -1)), dgiven  #                 (3.29)

    def _halves(self, u):
        """The given half of u (N, S, K), and the other, which is moved."""
        half = self.n_latent // 2
        first, second = u[:, :, :half], u[:, :, half:]
        return (second, first) if self.moves_first else (first, second)

    def _whole(self, given, moved):
        """u (N, S, K) from its halves."""
        halves = [moved, given] if self.moves_first else [given, moved]
        return namespace(moved).concat(halves, axis=2)


KNOTS = (-1.0, 0.0, 1.0)               # where the units of a coupling step: η has nodes on either side


def coupling_flow(n_latent):
    """The `Flow` "flow": two couplings, so that each half bends the other.

    n_phi is K + K(K+1)/2 + 12 ⌊K/2⌋ ⌈K/2⌉: 17 for K = 2. Raises ValueError for K = 1.
    """
    return Flow(n_latent, (Coupling(n_latent, moves_first=False), Coupling(n_latent, moves_first=True)))


def _swapped(a):
    """(S, N, …) as (N, S, …), or the reverse."""
    return namespace(a).permute_dims(a, (1, 0, *range(2, a.ndim)))
