"""Whether q is the posterior, told from data that the model made: simulation-based calibration.

z̃ ~ p(z), x̃ ~ p(x|z̃): then z̃ is itself a draw of the posterior of x̃, and among L draws of that posterior
it has every rank with the same probability (Talts et al. 2018). Draws of a q that is not the posterior show
how it misses in the shape of the histogram of ranks:

    ∪   q is too narrow: z̃ lies outside of its draws too often
    ∩   q is too wide
    a slope   q lies to one side

Each latent variable is looked at by itself, so a q may pass whose fault is in how they go together. It is
about data as the model makes them: where the real ones are others it says nothing. Everything is on the host.
Equations (10.x) are in derivations/equations.md.
"""

from typing import NamedTuple

import numpy as np

from ..messages import align, counted, on_a_page

INSIDE = 0.99                          # the probability with which a bin's count lies in its band
MOST_BINS, LEAST_COUNT = 20, 20        # bins at the most, and data cases in each at the least


class Calibration(NamedTuple):
    """Ranks of K latent variables, their histograms of B bins, and how far these are from flat.

    ranks      (N, K) how many of the L draws lie below z̃, from 0 to L
    counts     (B, K) the histograms;  expected (B,) what they are on average where q is the posterior
    band       (2, B) the numbers from and to which each count then lies, but for one in a hundred
    statistic  (K,) χ² with B − 1 degrees of freedom, and its p_value (K,)                      (10.14)
    bias       (K,) the mean of rank/L, less ½: above 0 where q lies too low, below z̃
    spread     (K,) the ranks' variance over that of flat ones: above 1 where q is too narrow, ∪, below 1
               where it is too wide, ∩                                                          (10.15)

    print(calibration) is a table, calibration.figure() the histograms.
    """

    ranks: object
    counts: object
    expected: object
    band: object
    statistic: object
    p_value: object
    bias: object
    spread: object

    @property
    def outside(self):
        """How many of the B bins of each histogram lie outside of their band, (K,)."""
        low, high = self.band[:, :, None]                          # (B, 1) each
        return np.sum((self.counts < low) | (self.counts > high), axis=0)

    def figure(self):
        """The histograms of the first six latent variables in their bands: a Matplotlib figure."""
        from .. import plots  # Matplotlib is not imported with teachvae

        return plots.rank_histograms([("", self)])

    def __str__(self):
        (N, K), B = self.ranks.shape, len(self.counts)
        table = [["", "χ²", "p", "bias", "spread", "bins outside"]]
        for k in range(K):
            numbers = [f"{self.statistic[k]:.2f}", f"{self.p_value[k]:.2g}", f"{self.bias[k]:+.4f}"]
            table.append([f"z_{k + 1}", *numbers, f"{self.spread[k]:.3f}", f"{self.outside[k]} of {B}"])
        return "\n".join([
            align(table, left=1, heads=1),
            f"ranks of z among draws of q, of {counted(N)} of the model's own; {B - 1} degrees of freedom",
            "bias: above 0 where q lies too low; spread: above 1 where q is too narrow, below 1 where it is",
            f"too wide; bins outside of their band, which holds {INSIDE:.0%} of counts if q is the posterior",
        ])

    def __repr__(self):
        (N, K), least = self.ranks.shape, self.p_value.min()
        return f"<Calibration of K = {K} latent variables on {counted(N)}: least p {least:.2g}>"

    _repr_html_ = on_a_page


def ranks(z, draws):
    """How many of the draws (L, N, K) lie below z (N, K), (N, K)."""
    return np.sum(draws < z, axis=0)                               # (N, K)              (10.13)


def calibration(ranks, n_draws, n_bins=None):
    """The `Calibration` of ranks (N, K) among L = n_draws draws, whole numbers from 0 to L.

    n_bins  B; None: 20, or fewer, so that each has 20 data cases or more. Where B does not divide L + 1
            some bins have a rank more than others, and are expected to be so much higher
    """
    from scipy import special  # not at import teachvae

    (N, K), L = ranks.shape, n_draws
    B = max(2, min(MOST_BINS, L + 1, N // LEAST_COUNT)) if n_bins is None else n_bins
    bin_of = np.arange(L + 1) * B // (L + 1)                       # of each rank
    p = np.bincount(bin_of, minlength=B) / (L + 1)                 # (B,)
    counts = np.stack([np.bincount(bin_of[ranks[:, k]], minlength=B) for k in range(K)], axis=1)
    statistic = np.sum((counts - N * p[:, None]) ** 2 / (N * p[:, None]), axis=0)  # (K,) (10.14)
    below = special.bdtr(np.arange(N + 1)[:, None], N, p)          # P(count <= i), (N + 1, B)
    band = np.stack([np.sum(below < tail, axis=0) for tail in (0.5 * (1 - INSIDE), 0.5 * (1 + INSIDE))])
    return Calibration(
        ranks=ranks,
        counts=counts,
        expected=N * p,
        band=band,
        statistic=statistic,
        p_value=special.chdtrc(B - 1, statistic),
        bias=ranks.mean(axis=0) / L - 0.5,
        spread=ranks.var(axis=0) / (L * (L + 2) / 12),
    )
