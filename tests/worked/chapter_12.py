"""Chapter 12, the gradient of the bound: case 1 of the bent example, traced by `course.Trace`."""

from functools import cache

import numpy as np

from teachvae import bound
from teachvae.course.trace import Trace

from . import example

DQ = np.ones(1)


@cache
def trace(kl):
    """Case 1, both samples."""
    model, theta = example.bent()
    return Trace(model, theta, example.phi[:1], example.x[:1], example.eta[:, :1], kl=kl, dQ=DQ)


def of(name, kl="analytic"):
    """A quantity of the trace as a flat array: by sample, then by column."""
    return trace(kl)[name].ravel()


def eq_1_11():
    f, log_p = of("f").reshape(2, 2), of("log_p")
    yield from (example.m[0, 0], *of("z"), *of("decoder[0].y"), *f.ravel())
    yield from (*(example.x[0] - f).ravel(), *log_p)
    yield from (*of("kl"), *of("kl"), *-log_p, *of("Q"), of("dlog_p")[0])
    model, theta = example.bent()
    yield Trace(model, theta, example.phi, example.x, example.eta)["dlog_p"][0, 0]  # dQ = 1/N


def eq_1_33():
    f, df, dlog_psi = of("f").reshape(2, 2), of("df").reshape(2, 2), of("likelihood.dlog_psi")
    left = example.x[0] - f
    yield from (of("dlog_p")[0], *left[0], *df[0], *df[1])
    yield from (of("dlog_p")[0], *left[:, 0] ** 2, dlog_psi[0], *left[:, 1] ** 2, dlog_psi[1])


def eq_1_32():
    h, df = of("decoder[0].y"), of("df").reshape(2, 2)
    dW, db, back, dz = (of(name) for name in ("decoder[1].dW", "decoder[1].db", "decoder[0].dy", "dz"))
    yield from (h[0], df[0, 0], -h[1], df[1, 0], *dW, *db)
    for s in range(2):
        yield from (*df[s], back[s])
    yield from (*(dz / back), *dz)


def eq_1_12():
    dz, kl, through, dphi = (of(name) for name in ("dz", "dphi_kl", "dphi_z", "dphi"))
    yield from (*kl, dz[0], -dz[1], through[0], dz[0], -dz[1], through[1], *dphi, example.m[0, 0])
    f, df = of("f").reshape(2, 2), of("df").reshape(2, 2)
    yield from (*of("z"), *dz, *of("decoder[0].y"), *of("decoder[0].dy"))
    yield from (*f[:, 0], *df[:, 0], *f[:, 1], *df[:, 1], *of("log_p"), *of("dlog_p"))


def eq_1_31():
    given, z, dz = of("dlog_prior", "sampled"), of("z", "sampled"), of("dz_prior", "sampled")
    yield from (given[0], *z)
    for s in range(2):
        yield from (-given[s], z[s], dz[s])


def eq_1_13():
    names = "dz_f", "dz_prior", "dz_q", "dz", "dphi_q", "dphi_z"
    dz_f, prior, density, dz, direct, through = (of(name, "sampled") for name in names)
    yield from (*dz_f, *prior, *density, *dz, *direct)
    yield from (dz[0], -dz[1], through[0], dz[0], -dz[1], through[1])
    model, theta = example.bent()
    for kl in ("analytic", "sampled"):                             # with the first sample alone
        given = model, theta, example.phi[:1], example.x[:1], example.eta[:1, :1]
        _, cache = bound.forward(*given, kl=kl)
        yield from bound.backward(model, theta, cache, DQ)[0][0]
