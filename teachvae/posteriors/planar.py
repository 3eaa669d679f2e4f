"""The planar layer of a flow: u moves along one direction, by a tanh of its place along another.

Equations (3.x) are in derivations/equations.md; the layer is that of Rezende and Mohamed 2015.
"""

from dataclasses import dataclass
import math

from ..arrays.backend import namespace
from ..arrays.special import sigmoid, softplus, tanh
from .flow import Flow

NEWTON_STEPS = 12                     # of the inverse: enough for any slope that can be; a test has the worst


@dataclass(frozen=True)
class Planar:
    """u ↦ u + r tanh(u wᵀ + b), with w rᵀ > −1, so that no two points meet.

    params  [v | b | w], (N, 2K), each held between −1 and 1 by a tanh, so that no layer is steeper than nodes
            see; w is 1 at `axis`, without a number; r is v, pushed off the constraint      (3.35)
    """

    n_latent: int
    axis: int

    @property
    def n_params(self):
        """2K: v, all of w but one, b."""
        return 2 * self.n_latent

    def forward(self, params, u):
        """The new u (N, S, K), and a cache."""
        r, w, b, cache = self._directions(params)
        h = tanh(_along(u, w) + b)                                 # (N, S)
        new = u + r[:, None, :] * h[:, :, None]                    # (N, S, K)            (3.34)
        return new, (u, r, w, h, cache)

    def backward(self, cache, du):
        """dparams (N, n_params) and du (N, S, K) of what went in."""
        xp = namespace(du)
        u, r, w, h, cache = cache
        da = _along(du, r) * (1 - h * h)                           # (N, S)               (3.37)
        dr = xp.sum(du * h[:, :, None], axis=1)                    # (N, K)               (3.37)
        dw = xp.sum(da[:, :, None] * u, axis=1)                    # (N, K)               (3.37)
        dparams = self._directions_backward(cache, dr, dw, xp.sum(da, axis=1))
        return dparams, du + da[:, :, None] * w[:, None, :]        #                      (3.37)

    def inverse(self, params, u):
        """What went in (N, S, K), log|det| (N, S), and a cache."""
        xp = namespace(params, u)
        r, w, b, cache = self._directions(params)
        x, place = xp.sum(r * w, axis=1)[:, None], _along(u, w) + b  # (N, 1), (N, S)
        a, reach = xp.zeros_like(place), xp.abs(x)
        for _ in range(NEWTON_STEPS):                              # a + x tanh a = place (3.38)
            h = tanh(a)
            a = a - (a + x * h - place) / (1 + x * (1 - h * h))
            a = xp.minimum(xp.maximum(a, place - reach), place + reach)
        h = tanh(a)
        old = u - r[:, None, :] * h[:, :, None]                    # (N, S, K)            (3.38)
        slope = 1 + x * (1 - h * h)
        return old, xp.log(slope), (old, r, w, h, slope, cache)    #                      (3.36)

    def inverse_backward(self, cache, du, dlog_det):
        """dparams (N, n_params) and du (N, S, K) of the u that was given."""
        xp = namespace(du)
        old, r, w, h, slope, cache = cache
        rise = 1 - h * h                                           # tanh', (N, S)
        x = xp.sum(r * w, axis=1)[:, None]
        dx = dlog_det * rise / slope                               # (N, S)               (3.39)
        da = -2 * x * h * dx                                       # (N, S)               (3.39)
        du = du + da[:, :, None] * w[:, None, :]
        back = _along(du, r) * rise / slope                        # (N, S)               (3.40)
        du = du - back[:, :, None] * w[:, None, :]                 # (N, S, K)            (3.40)
        da = da - back
        dx = xp.sum(dx, axis=1)[:, None]                           # (N, 1)
        dr = dx * w - xp.sum(du * h[:, :, None], axis=1)           # (N, K)               (3.40)
        dw = dx * r + xp.sum(da[:, :, None] * old, axis=1)         # (N, K)               (3.40)
        return self._directions_backward(cache, dr, dw, xp.sum(da, axis=1)), du

    def _directions(self, params):
        """r (N, K), w (N, K), b (N, 1), and a cache: the constraint is met whatever the numbers are."""
        xp, K = namespace(params), self.n_latent
        t = xp.tanh(params)
        v, b = t[:, :K], t[:, K : K + 1]
        w = xp.concat([t[:, K + 1 : K + 1 + self.axis], xp.ones_like(b), t[:, K + 1 + self.axis :]], axis=1)
        x, square = xp.sum(v * w, axis=1)[:, None], xp.sum(w * w, axis=1)[:, None]  # (N, 1)
        push = (softplus(x + SHIFT) - 1 - x) / square              # (N, 1)               (3.35)
        return v + push * w, w, b, (t, v, w, x, square, push)

    def _directions_backward(self, cache, dr, dw, db):
        """dparams (N, n_params) from dr (N, K), dw (N, K), db (N,)."""
        xp = namespace(dr)
        t, v, w, x, square, push = cache
        dpush = xp.sum(dr * w, axis=1)[:, None] / square           # (N, 1)
        dx = dpush * (sigmoid(x + SHIFT) - 1)                      # (N, 1)               (3.41)
        dv = dr + dx * w                                           # (N, K)               (3.41)
        dw = dw + push * dr + dx * v - 2 * dpush * push * w        # (N, K)               (3.41)
        dw = [dw[:, : self.axis], dw[:, self.axis + 1 :]]          # the 1 is no number of params
        return xp.concat([dv, db[:, None], *dw], axis=1) * (1 - t * t)


SHIFT = math.log(math.e - 1)           # softplus(SHIFT) = 1: numbers that are 0 are pushed nowhere


def planar_flow(n_latent):
    """The `Flow` "planar": a layer for every axis. n_phi is K + K(K+1)/2 + 2K²: 4 for K = 1, 13 for K = 2."""
    return Flow(n_latent, tuple(Planar(n_latent, axis) for axis in range(n_latent)))


def _along(u, w):
    """u wᵀ (N, S) of u (N, S, K), and w (N, K) of every data case."""
    return namespace(u).sum(u * w[:, None, :], axis=2)
