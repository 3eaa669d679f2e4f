"""The examples of chapter 11: the families of q. The full family and the flows have K = 2."""

import numpy as np

from teachvae import bound
from teachvae.posteriors import Coupling, DiagonalGaussian, Flow, FullGaussian, Planar
from teachvae.posteriors.planar import SHIFT
from worked import example

HALF = np.full((2, 2), 0.5)                                        # (S, N): the weights, as dlog_q

# ---- the diagonal family, on the running example ------------------------------------------------

diagonal = DiagonalGaussian(1)
z, sampled = diagonal.sample(example.phi, example.eta)


def dz_of_the_errors():
    """What Q's reconstruction term owes to z (S, N, K): each sample with its weight, one half."""
    model, theta = example.linear()
    _, cache = model.log_likelihood(theta, example.x, z)
    return model.log_likelihood_backward(theta, cache, -HALF, need_dtheta=False)[0]


def eq_3_1():
    (m, _), s = example.m[:, 0], example.s[:, 0]
    yield from (m, s[0], m, s[0], z[0, 0, 0], m, s[0], z[1, 0, 0], s[1], z[0, 1, 0], z[1, 1, 0])


def eq_3_2():
    dz = dz_of_the_errors()[:, :, 0]
    dm = diagonal.sample_backward(sampled, dz_of_the_errors())[:, 0]
    slope = 2 * dz[:, 0]                                           # of each sample, without its weight
    yield from (slope[0], 1.5, slope[1], -0.5, 0.5, 0.5, slope[0], dz[0, 0], 0.5, slope[1], dz[1, 0])
    yield from (dz[0, 0], -dz[1, 0], dm[0], dz[0, 1], dz[1, 1], dm[1])


def eq_3_3():
    dz = dz_of_the_errors()[:, :, 0]
    dlog_s = diagonal.sample_backward(sampled, dz_of_the_errors())[:, 1]
    yield from (1.0, dz[0, 0], dz[1, 0], dlog_s[0], 0.5, dz[0, 1], dz[1, 1], dlog_s[1])


def eq_3_4():
    kl, _ = diagonal.kl(example.phi)
    yield from (0.5**2, 1.0, kl[0], 0.25, np.log(0.5), 0.25, -2 * np.log(0.5), kl[1])


def kl_gradient():
    _, cache = diagonal.kl(example.phi)
    return diagonal.kl_backward(cache, np.ones(2))                 # (N, 2)


def eq_3_5():
    dz, d = dz_of_the_errors(), kl_gradient()
    dm = diagonal.sample_backward(sampled, dz)[:, 0]
    yield from (d[0, 0], d[1, 0], dm[0], d[0, 0], (dm + d[:, 0])[0])


def eq_3_6():
    dz, d = dz_of_the_errors(), kl_gradient()
    dlog_s = diagonal.sample_backward(sampled, dz)[:, 1]
    yield from (1.0, d[0, 1], 0.25, d[1, 1], dlog_s[0], d[0, 1], (dlog_s + d[:, 1])[0], dlog_s[1], 0.75,
                (dlog_s + d[:, 1])[1])


OTHER = np.array([2.5, -0.5])[:, None, None]                       # z that another q has drawn, (S, 1, K)


def density_of_case_1():
    log_q, cache = diagonal.log_prob(example.phi[:1], OTHER)
    dphi, dz = diagonal.log_prob_backward(cache, HALF[:, :1])
    return log_q[:, 0], dphi[0], dz[:, 0, 0], cache[1][:, 0, 0]


def eq_3_7():
    log_q, _, _, u = density_of_case_1()
    constant = 0.5 * np.log(2 * np.pi)
    yield from (0.5, 2.5, 2.5, 0.5, u[0], -0.5, -0.5, 0.5, u[1])
    yield from (constant, constant, log_q[0], constant, log_q[1])


def eq_3_8():
    _, _, dz, u = density_of_case_1()
    yield from (0.5, -0.5, u[0], dz[0], -0.5, u[1], dz[1])


def eq_3_9():
    _, dphi, dz, _ = density_of_case_1()
    yield from (dz[0], dz[1], dphi[0])


def eq_3_10():
    _, dphi, _, _ = density_of_case_1()
    yield from (0.5, 0.5, dphi[1])


def eq_3_43():
    at, moved = np.zeros((1, 2)), np.full((1, 2), 0.1)
    F = 1 / diagonal.natural_scale(at)[0]
    yield from (0.1, 0.1, 0.01, np.exp(0.2), 0.2, diagonal.kl(moved)[0][0], F[0], F[1])
    yield from (0.01, 0.01, 0.5 * np.sum(F * moved**2))


def gradient_of_q():
    model, theta = example.linear()
    Q, cache = bound.forward(model, theta, example.phi, example.x, example.eta)
    return bound.backward(model, theta, cache, np.ones(2))[0]


def eq_3_11():
    scale, g = diagonal.natural_scale(example.phi), gradient_of_q()
    step = -scale[0] * g[0]
    yield from (scale[0, 0], scale[0, 1], scale[1, 0], scale[1, 1], *g[0], *step, *-g[0])


# ---- the full family: m = (0.5, 0), L with the rows (1, 0) and (1, 0.5) -------------------------

full = FullGaussian(2)
PHI = np.array([[0.5, 0.0, 0.0, 1.0, np.log(0.5)]])
ETA = np.array([[1.0, -1.0], [0.0, 1.0]])[:, None, :]              # (S, 1, K)
Z, placed = full.sample(PHI, ETA)
DZ = np.array([[1.0, 2.0], [0.0, -1.0]])[:, None, :]


def eq_3_12():
    d = full._pack(np.zeros((1, 2)), np.array([[[1.0, -1.0], [2.0, -3.0]]]), full.unpack(PHI)[1])[0, 2:]
    yield from (*PHI[0, 2:], *d)


def eq_3_13():
    first, second = Z[:, 0] - PHI[0, :2]
    yield from (first[0], *first, *Z[0, 0], *second, *Z[1, 0])


def eq_3_14():
    yield from full.sample_backward(placed, DZ)[0, :2]


def eq_3_15():
    yield from full.sample_backward(placed, DZ)[0, 2:]


def eq_3_16():
    L = full.unpack(PHI)[1][0]
    log_det = full.log_det(PHI)[0]
    kl, _ = full.kl(PHI)
    yield from (L[0, 0] ** 2, L[1, 0] ** 2, L[1, 1] ** 2, PHI[0, 0] ** 2, kl[0] + log_det, -log_det, kl[0])


def full_kl_gradient():
    return full.kl_backward(full.kl(PHI)[1], np.ones(1))[0]


def eq_3_17():
    yield from (0.5, *full_kl_gradient()[:2])


def eq_3_18():
    yield from (1.0, 0.5, 0.5 - 1 / 0.5, *full_kl_gradient()[2:])


def full_density():
    log_q, cache = full.log_prob(PHI, Z)
    dphi, dz = full.log_prob_backward(cache, np.ones((2, 1)))
    return log_q[:, 0], dphi[0], dz[:, 0]


def eq_3_19():
    log_q, _, _ = full_density()
    yield from (1.0, 0.5, 1.0, 1.0, -0.5, -1.0, -np.log(0.5), np.log(2 * np.pi), log_q[0], 0.5, log_q[1])


def eq_3_20():
    _, _, dz = full_density()
    yield from (1.0, 2.0, 3.0, -2.0, *dz[0], *dz[1])


def eq_3_21():
    _, dphi, _ = full_density()
    yield from dphi[:2]


def eq_3_22():
    _, dphi, _ = full_density()
    yield from dphi[2:]


def eq_3_42():
    d = full.log_det_backward(np.array([-2.0]))[0]
    yield from (full.log_det(PHI)[0], *d)


def eq_3_23():
    scale = full.natural_scale(PHI)[0]
    _, L = full.unpack(PHI)
    yield from (*scale, 0.5 * L[0, 1, 0] ** 2, L[0, 1, 1] ** 2, 0.5 * L[0, 1, 0] ** 2 + L[0, 1, 1] ** 2)


# ---- a flow of one coupling, whose middle unit alone speaks -------------------------------------

coupling = Coupling(2, moves_first=False)
PARAMS = np.array([[0.0, 0.0, 0.5, -0.5, 0.0, 0.0]])               # unit by unit: shift, log scale
flow = Flow(2, (coupling,))
FLOW = np.concatenate([PHI, PARAMS], axis=1)
U = np.array([1.0, -1.0])[None, None, :]                           # (N, S, K)
bent, bending = coupling.forward(PARAMS, U)
t, a, (units, V) = coupling._said(PARAMS, U[:, :, :1])


def eq_3_24():
    z, _ = flow.sample(FLOW, U)
    yield from (*bent[0, 0], 0.5, bent[0, 0, 0], bent[0, 0, 0], 0.5, bent[0, 0, 1], *z[0, 0])


def eq_3_25():
    _, L = full.unpack(PHI)
    du = np.array([1.0, 2.0]) @ L[0]
    _, cache = flow.sample(FLOW, U)
    d = flow.sample_backward(cache, np.array([[[1.0, 2.0]]]))[0]
    # what the layer alone is owed for this du is what the flow says
    np.testing.assert_allclose(d[5:], coupling.backward(bending, du[None, None])[0][0])
    yield from (*du, *d[:2], *bent[0, 0], *d[2:5])


def flow_density():
    z, _ = flow.sample(FLOW, U)
    log_q, cache = flow.log_prob(FLOW, z)
    dphi, dz = flow.log_prob_backward(cache, np.ones((1, 1)))
    return log_q[0, 0], dphi[0], dz[0, 0], cache


def eq_3_26():
    log_q, _, _, (u, *_) = flow_density()
    constant, log_det = np.log(2 * np.pi), full.log_det(PHI)[0]
    yield from (*u[0, 0], -1.0, constant, log_det, a[0, 0, 0])
    yield from (-1.0, constant, -log_det, -a[0, 0, 0], log_q)


def eq_3_27():
    _, dphi, dz, (u, L, _, caches) = flow_density()
    _, du = coupling.inverse_backward(caches[0], -u, -np.ones((1, 1)))
    yield from (*-u[0, 0], *du[0, 0], *dz, *dphi[:2], -full.sample_backward(full.sample(PHI, bent)[1],
                dz[None, None])[0, 4], dphi[4])


def eq_3_28():
    yield from (*units[0, 0], V[0, 1, 0], V[0, 1, 1], t[0, 0, 0], a[0, 0, 0])


def eq_3_29():
    dV, du = coupling._said_backward((units, V), np.array([[[1.0]]]), np.array([[[2.0]]]))
    v = V[0, 1, 0]
    yield from (*units[0, 0], *dV[0, :2], v, 1 - v**2, *dV[0, 2:4], v, v, units[0, 0, 1], du[0, 0, 0])


def eq_3_30():
    yield from (np.exp(a[0, 0, 0]), t[0, 0, 0], bent[0, 0, 1], *bent[0, 0])


def eq_3_31():
    du = np.array([[[3.0, 1.0]]])
    dparams, back = coupling.backward(bending, du)
    scale = np.exp(a[0, 0, 0])
    yield from (3.0, 1.0, 1.0, scale, -scale, back[0, 0, 1], back[0, 0, 0] - 3, back[0, 0, 0])


def eq_3_32():
    old, log_det, _ = coupling.inverse(PARAMS, bent)
    yield from (bent[0, 0, 1], t[0, 0, 0], np.exp(a[0, 0, 0]), old[0, 0, 1], log_det[0, 0])


def eq_3_33():
    _, _, cache = coupling.inverse(PARAMS, bent)
    dnew = 1 / np.exp(a[0, 0, 0])
    dparams, back = coupling.inverse_backward(cache, np.array([[[-1.0, 1.0]]]), -np.ones((1, 1)))
    yield from (-1.0, 1.0, dnew, -dnew, -1.0, -1.0, 0.0, back[0, 0, 0], back[0, 0, 1])


# ---- a planar layer along the first axis --------------------------------------------------------

layer = Planar(2, 0)
NUMBERS = np.array([[1.0, 0.0, 0.0, 0.0]])                         # [v | b | w₂], before their tanh
r, w, b, (tanhs, v, _, x, square, push) = layer._directions(NUMBERS)
moved, moving = layer.forward(NUMBERS, U)
DU = np.array([[[1.0, 2.0]]])


def eq_3_34():
    yield from (*r[0], *w[0], np.tanh(1), r[0, 0], np.tanh(1), *moved[0, 0])


def eq_3_35():
    g = np.log(1 + (np.e - 1) * np.exp(x[0, 0]))
    e = np.exp(x[0, 0])
    yield from (np.tanh(1), *v[0], x[0, 0], np.e - 1, e, np.e - 1, e, g, g, x[0, 0], push[0, 0], *r[0], g - 1)


def eq_3_44():
    slope = 1 - np.tanh(1) ** 2
    J = np.eye(2) + slope * np.outer(r[0], w[0])
    det = np.exp(layer.inverse(NUMBERS, moved)[1][0, 0])
    yield from (slope, *r[0], slope * r[0, 0], det, slope * r[0, 0], det, np.linalg.inv(J)[0, 0], det)


def eq_3_36():
    slope = 1 - np.tanh(1) ** 2
    _, log_det, _ = layer.inverse(NUMBERS, moved)
    yield from (np.tanh(1), slope, r[0, 0], slope, np.exp(log_det[0, 0]), log_det[0, 0])


def eq_3_37():
    u, r_, w_, h, cache = moving
    da = np.sum(DU * r_, axis=2)[0, 0] * (1 - h[0, 0] ** 2)
    dparams, du = layer.backward(moving, DU)
    yield from (r[0, 0], 1 - h[0, 0] ** 2, da, *(h[0, 0] * DU[0, 0]), *(da * U[0, 0]))
    yield from (dparams[0, 2], *du[0, 0])


def eq_3_38():
    place, x_ = moved[0, 0, 0], r[0, 0]
    first = place / (1 + x_)
    second = first - (first + x_ * np.tanh(first) - place) / (1 + x_ * (1 - np.tanh(first) ** 2))
    old, _, _ = layer.inverse(NUMBERS, moved)
    yield from (x_, place, x_, first, second, old[0, 0, 0], moved[0, 0, 0], r[0, 0], np.tanh(1), old[0, 0, 0],
                old[0, 0, 1])


def inverse_parts():
    _, _, cache = layer.inverse(NUMBERS, moved)
    _, r_, _, h, slope, _ = cache
    rise = 1 - h[0, 0] ** 2
    dx = -rise / slope[0, 0]
    da = -2 * r_[0, 0] * h[0, 0] * dx
    return cache, rise, slope[0, 0], dx, da


def eq_3_39():
    _, rise, slope, dx, da = inverse_parts()
    yield from (rise, slope, dx, r[0, 0], np.tanh(1), dx, da, -1.0, da, -1 + da, 1.0)


def eq_3_40():
    cache, rise, slope, _, da = inverse_parts()
    e = (-1 + da) * r[0, 0] * rise / slope
    dparams, du = layer.inverse_backward(cache, -U, -np.ones((1, 1)))
    yield from (-1 + da, r[0, 0], rise, slope, e, *du[0, 0], da, e, dparams[0, 2])


def eq_3_41():
    u, _, _, h, _ = moving
    dparams, _ = layer.backward(moving, DU)
    dr = h[0, 0] * DU[0, 0]
    slope = 1 / (1 + np.exp(-(x[0, 0] + SHIFT)))
    dx = (slope - 1) * dr[0]
    dv = dr + dx * w[0]
    yield from (*dr, slope, dx, *dv, 1 - np.tanh(1) ** 2, *dparams[0, :2], dparams[0, 3])
