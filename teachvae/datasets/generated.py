"""Data whose truth is known: made from a decoder and z of our own.

Equations (4.x) are in derivations/equations.md.
"""

from dataclasses import dataclass

import numpy as np

from ..arrays.backend import get_backend, namespace
from ..doors.validate import check_positive, check_size, generator
from ..networks.layers import Linear
from .dataset import Dataset, Truth


# ---- data whose truth is known ---------------------------------------------------------------


@dataclass(frozen=True)
class Spiral:
    """A logarithmic spiral: f(z) = e^{αz} (cos ωz, sin ωz). No parameters; the cache is f.

    It never crosses itself, and |f'(z)| grows with z: equal steps in z are short ones near the middle.
    """

    alpha: float = 0.4
    omega: float = 2.0
    n_in = 1
    n_out = 2

    def init(self, rng, backend):
        """No parameters."""
        return {}

    def forward(self, params, z):
        """f (R, n_out) of z (R, n_in), and a cache."""
        xp = namespace(z)
        angle = self.omega * z                                     # (R, 1)
        direction = xp.concat([xp.cos(angle), xp.sin(angle)], axis=1)
        f = xp.exp(self.alpha * z) * direction                     # (R, 2)               (4.17)
        return f, f

    def backward(self, params, cache, df, *, need_dx=True, need_dparams=True):
        """dz (R, n_in) from df (R, n_out); there are no parameters."""
        f1, f2 = cache[:, :1], cache[:, 1:]
        df1, df2 = df[:, :1], df[:, 1:]
        a, w = self.alpha, self.omega
        dx = (a * f1 - w * f2) * df1 + (a * f2 + w * f1) * df2     # (R, 1)               (4.18)
        return dx, {}


@dataclass(frozen=True)
class BentSheet:
    """A sheet bent around a cylinder: f(z) = (r sin(z1/r), z2, r (1 − cos(z1/r))), r the radius.

    Bending does not stretch: lengths on the sheet are lengths in z. No parameters; the cache is
    cos(z1/r) and sin(z1/r). The edges meet at |z1| = πr.
    """

    radius: float = 1.5
    n_in = 2
    n_out = 3

    def init(self, rng, backend):
        """No parameters."""
        return {}

    def forward(self, params, z):
        """f (R, n_out) of z (R, n_in), and a cache."""
        xp = namespace(z)
        r = self.radius
        angle = z[:, :1] / r
        cos, sin = xp.cos(angle), xp.sin(angle)                    # (R, 1)
        f = xp.concat([r * sin, z[:, 1:], r * (1 - cos)], axis=1)  # (R, 3)               (4.19)
        return f, (cos, sin)

    def backward(self, params, cache, df, *, need_dx=True, need_dparams=True):
        """dz (R, n_in) from df (R, n_out); there are no parameters."""
        xp = namespace(df)
        cos, sin = cache
        df1, df2, df3 = df[:, :1], df[:, 1:2], df[:, 2:]           # (R, 1)
        dx = xp.concat([cos * df1 + sin * df3, df2], axis=1)       # (R, 2)               (4.20)
        return dx, {}


def linear_gaussian(*, n_cases=1000, n_visible=10, n_latent=3, seed=0):
    """Data of which factor analysis is true: x = z W + b + ψ^½ ε, as a `Dataset` with x (N, D).

    z (N, K) and ε (N, D) are standard normal, b (D,) too, and ψ (D,) is uniform on [0.2, 1]. The
    loadings W (K, D) have W Ψ⁻¹ Wᵀ = D diag(4 … 1), falling by equal factors: no factor can be
    taken for another, W is already in the canonical rotation, and no variable is free of noise. For
    one seed, W, b and ψ do not depend on n_cases. labels: the quartile of z_1, 0..3.

    Raises ValueError where a size is not an integer >= 1 or K > D.
    """
    for name, size in (("n_cases", n_cases), ("n_visible", n_visible), ("n_latent", n_latent)):
        check_size(name, size)
    if n_latent > n_visible:
        raise ValueError(f"n_latent must be <= n_visible, got {n_latent} and {n_visible}")
    rng = generator(seed, "seed")
    psi = rng.uniform(0.2, 1.0, n_visible)                         # (D,)
    directions = np.linalg.qr(rng.standard_normal((n_visible, n_latent))).Q.T  # (K, D), orthonormal
    signal = np.geomspace(4, 1, n_latent)[:, None]                 # (K, 1), per variable, noise = 1
    W = np.sqrt(n_visible * signal) * directions * np.sqrt(psi)    # (K, D)
    b = rng.standard_normal(n_visible)
    return _generate(
        Linear(n_latent, n_visible),
        {"W": W, "b": b},
        psi,
        n_cases,
        rng,
        name="linear",
        call=f"linear_gaussian(n_cases={n_cases}, n_visible={n_visible}, n_latent={n_latent}, seed={seed})",
    )


def spiral(*, n_cases=1000, noise=0.05**2, seed=0, alpha=0.4, omega=2.0):
    """A curve in the plane with noise: x = f(z) + √noise ε, f the `Spiral`, z (N, 1), x (N, 2).

    noise is a variance, the same for both variables. labels: the quartile of z, 0..3, from the
    middle outwards. Raises ValueError where n_cases is not an integer >= 1 or noise not > 0.
    """
    call = f"spiral(n_cases={n_cases}, noise={noise:g}, seed={seed}, alpha={alpha}, omega={omega})"
    return _on_a_surface(Spiral(alpha, omega), n_cases, noise, seed, "spiral", call)


def bent_sheet(*, n_cases=1000, noise=0.05**2, seed=0, radius=1.5):
    """A bent sheet in space with noise: x = f(z) + √noise ε, f the `BentSheet`, z (N, 2), x (N, 3).

    noise is a variance, the same for all three variables. labels: the quartile of z_1, which runs
    around the bend, 0..3. Raises ValueError where n_cases is not an integer >= 1 or noise or radius
    not > 0.
    """
    check_positive("radius", radius)
    call = f"bent_sheet(n_cases={n_cases}, noise={noise:g}, seed={seed}, radius={radius})"
    return _on_a_surface(BentSheet(radius), n_cases, noise, seed, "bent_sheet", call)


def _on_a_surface(decoder, n_cases, noise, seed, name, call):
    check_size("n_cases", n_cases)
    check_positive("noise", noise)
    psi = np.full(decoder.n_out, float(noise))
    return _generate(decoder, {}, psi, n_cases, generator(seed, "seed"), name=name, call=call)


def _generate(decoder, params, psi, n_cases, rng, *, name, call):
    """The data set of N draws z ~ N(0, I), x ~ N(f(z), Ψ)."""
    backend = get_backend()
    z = backend.normal(rng, (n_cases, decoder.n_in))               # (N, K)
    f, _ = decoder.forward(params, z)                              # (N, D)
    x = f + np.sqrt(psi) * backend.normal(rng, f.shape)
    quartile = np.searchsorted(np.quantile(z[:, 0], [0.25, 0.5, 0.75]), z[:, 0])
    return Dataset(
        x,
        name=name,
        note="Generated; labels are the quartile of z_1, 0 the lowest.",
        source=f"teachvae.datasets.{call}",
        labels=quartile,
        truth=Truth(decoder, params, psi, z),
    )
