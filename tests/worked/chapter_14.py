"""The worked examples of derivations/14-gradient-checks.md."""

import re

import numpy as np

from teachvae import bound
from teachvae.gradcheck import check
from teachvae.gradcheck.differences import Probe, relative_error, rounding_of, scale_of
from teachvae.inference import linear_gaussian, mixture
from teachvae.inference.e_step import e_step
from teachvae.model import Model
from teachvae.networks.layers import ReLU
from teachvae.posteriors import DiagonalGaussian
from teachvae.posteriors.nodes import sigma_points
from worked import example

ONE = DiagonalGaussian(1)
EPS, EPS_32 = (float(np.finfo(kind).eps) for kind in ("float64", "float32"))


def kl(phi):
    """The KL of case 2 at φ = (m, log s)."""
    return float(ONE.kl(phi[None, :])[0][0])


def probe(f, point, h, rounding=0.0):
    """A Probe at a point, with steps of h."""
    flat = np.array(point, dtype=float)
    return Probe(f, flat, flat, f(flat), h, rounding)


def central(f, point, i, h):
    """(8.1) at entry i."""
    return 0.5 * sum(probe(f, point, h).slopes(i))


def analytic():
    """dφ (2, 2) of the sum of both KLs."""
    return ONE.kl_backward(ONE.kl(example.phi)[1], np.ones(2))


CASE_2 = example.phi[1]                                            # m = 0, log s = log ½
CURVE = 4 * np.exp(2 * CASE_2[1])                                  # the third derivative in log s


def best(rounding):
    """The best step (11.2) and the bound of the error there."""
    h = (3 * rounding / CURVE) ** (1 / 3)
    return h, 1.5 * rounding / h


def eq_8_1():
    high, low = (CASE_2 + np.array([0, step]) for step in (0.1, -0.1))
    return [0.5, CASE_2[1], 0.1, high[1], kl(high), low[1], kl(low), 0.2, central(kl, CASE_2, 1, 0.1), 0.25,
            analytic()[1, 1], 0.01, 0.03]


def eq_11_1():
    long, short = (central(kl, CASE_2, 1, h) for h in (0.1, 0.01))
    value = kl(CASE_2)
    at_h = [EPS * value / 1e-5, CURVE * 1e-10 / 6]
    return [CURVE, 0.1, CURVE * 0.1**2 / 6, long, long + 0.75, 0.01, short + 0.75, value, EPS * value, *at_h]


def eq_11_2():
    h, error = best(EPS * kl(CASE_2))
    coarse, error_32 = best(EPS_32 * kl(CASE_2))
    return [EPS * kl(CASE_2), CURVE, h, error, EPS_32 * kl(CASE_2), coarse, error_32]


def eq_8_2():
    a, h = analytic(), 0.01

    def f(phi):
        return float(ONE.kl(phi.reshape(2, 2))[0].sum())

    n = np.array([central(f, example.phi.ravel(), i, h) for i in range(4)]).reshape(2, 2)
    error, scale = relative_error(a, n), scale_of(a, n)
    large, small = [a[1, 1] - n[1, 1], a[1, 1], error[1, 1]], [scale[0, 1], n[0, 1], scale[0, 1], error[0, 1]]
    return [*a[:, 0], *a[:, 1], h, *large, n[0, 1], *small]


def eq_8_5():
    p = np.array([0.5])
    found = rounding_of(lambda v: float((v[0] + 1e6) - 1e6), p, p, 0.5)
    digit = float(np.spacing(1e6))
    return [0.5, digit, digit / np.sqrt(12), found, rounding_of(lambda v: 1e9, p, p, 1e9)]


def eq_8_6():
    fine, coarse = central(kl, CASE_2, 1, 0.1), central(kl, CASE_2, 1, 0.1 * np.sqrt(10))
    joined = (10 * fine - coarse) / 9
    slope, doubt = probe(kl, CASE_2, 1e-5, EPS * kl(CASE_2)).refined(1)
    assert abs(slope + 0.75) <= doubt < 1e-11
    return [0.1, fine, np.sqrt(0.1), coarse, fine, coarse, joined, fine + 0.75, joined + 0.75]


def eq_11_3():
    ell = np.array([np.log(3), 0.0])

    def slope(*c):
        return central(lambda p: float(np.sum(c * mixture.free(p[None, :]))), ell, 0, 1e-4)

    one, two = slope(1, 0), slope(0, 1)
    y = mixture.free(ell[None, :])[0]
    return [*y, one, two, slope(1, 1), 1.0, -0.5, one, 0.5, one, slope(1, -0.5)]


def eq_11_4():
    def gap(f, point, i, h):
        left, right = probe(f, point, h).slopes(i)
        return right - left

    def relu(p):
        return float(ReLU().forward({}, p)[0][0])

    left, right = probe(relu, [0.003], 0.01).slopes(0)
    bend = [0.1, gap(kl, CASE_2, 1, 0.1), 0.01, gap(kl, CASE_2, 1, 0.01)]
    kink = [0.003, 0.01, right, 0.003, 0.01, left, gap(relu, [0.003], 0, 0.01)]
    return [2 * np.exp(2 * CASE_2[1]), *bend, *kink, 0.001, gap(relu, [0.003], 0, 0.001),
            central(relu, [0.003], 0, 0.01)]


def eq_11_5():
    log_s = np.log([2.0, 0.5])

    def f(p):
        return float(ONE.kl(np.stack([np.zeros(2), p], axis=1))[0].sum())

    report = check(f, log_s, np.exp(log_s) - 1)                    # s where s² belongs
    diagnosis = report.rows[0].diagnosis
    assert "s stands where s² belongs" in diagnosis and report.verdict == "WRONG"
    numeric = [central(f, log_s, i, 1e-5) for i in (0, 1)]
    s = np.exp(log_s)
    u, v = s - 1 - numeric, s**2 - s
    return [*s, *(s - 1), *numeric, *u, *v, u @ v, v @ v, float(re.search(r"c = (\S+);", diagnosis)[1])]


class VarianceForDeviation(DiagonalGaussian):
    """z = m + η s², exp(log variance) taken for a standard deviation, and a backward that belongs to it; the
    KL is that of s.
    """

    def sample(self, phi, eta):
        m, log_s = self.unpack(phi)
        s2 = np.exp(2 * log_s)
        return m + eta * s2, (s2, eta)

    def sample_backward(self, cache, dz):
        s2, eta = cache
        return np.concatenate([dz.sum(axis=0), 2 * (dz * eta).sum(axis=0) * s2], axis=1)


def eq_11_6():
    sound, theta = example.linear()
    model = Model(sound.decoder, sound.likelihood, 1, VarianceForDeviation(1))
    eta, weights = sigma_points(1)
    c = np.array([0.7, -1.2])

    def forward(phi):
        return bound.forward(model, theta, phi, example.x, eta, weights=weights)

    dphi, _ = bound.backward(model, theta, forward(example.phi)[1], c)
    assert check(lambda phi: np.sum(c * forward(phi)[0]), example.phi, dphi).ok
    end = e_step(model, theta, example.phi, example.x, eta, weights, tol=1e-9)
    exact = np.array([[1.0, np.log(0.5)], [-0.5, np.log(0.5)]])
    nlml = linear_gaussian.nlml(example.W, example.b, example.psi, example.x)
    there = forward(exact)[0]
    return [nlml[0], there[0], nlml[0], there[0] - nlml[0], np.exp(2 * end.phi[0, 1]), end.Q[0],
            end.Q[0] - nlml[0]]
