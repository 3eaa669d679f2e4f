"""The running example of derivations/00-notation.md: two data cases, D = 2, K = 1, small enough for paper."""

import numpy as np

from teachvae.arrays.backend import get_backend
from teachvae.likelihoods import Gaussian
from teachvae.model import Model
from teachvae.networks.layers import Linear, Sequential, Tanh
from teachvae.posteriors import DiagonalGaussian

x = np.array([[2.0, 3.0], [-1.0, 0.0]])                            # (N, D)
W = np.array([[1.0, 2.0]])                                         # (K, D)
b = np.array([0.0, 1.0])                                           # (D,)
psi = np.array([1.0, 2.0])                                         # (D,)
r = x - b                                                          # (2, 2) and (-1, -1)

m = np.array([[0.5], [0.0]])                                       # of a q that is not the posterior
s = np.array([[1.0], [0.5]])
phi = np.concatenate([m, np.log(s)], axis=1)                       # (N, 2K)

eta = np.array([1.0, -1.0])[:, None, None] * np.ones((2, 2, 1))    # (S, N, K): also K = 1's sigma points
z = m + eta * s                                                    # (S, N, K): 1.5, 0.5 and -0.5, -0.5


def linear():
    """(model, theta): f(z) = z W + b, and Ψ."""
    model = Model(Linear(1, 2), Gaussian(2), 1, DiagonalGaussian(1))
    return model, {"decoder": {"W": W, "b": b}, "likelihood": {"log_psi": np.log(psi)}}


def bent():
    """(model, theta): f(z) = tanh(z) W + b, and Ψ."""
    decoder = Sequential([Tanh(), Linear(1, 2)])
    model = Model(decoder, Gaussian(2), 1, DiagonalGaussian(1))
    theta = model.init(np.random.default_rng(0), get_backend())
    theta["decoder"][1] = {"W": W, "b": b}
    theta["likelihood"] = {"log_psi": np.log(psi)}
    return model, theta
