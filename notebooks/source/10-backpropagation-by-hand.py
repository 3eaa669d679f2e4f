# %% [markdown]
# # 10 · Backpropagation by hand
#
# Every gradient of this package was derived with a pencil. In this notebook you do the same: a layer grows from
# three lines to a class, a likelihood of your own is trained in a VAE, the whole bound is differentiated, and a
# program of forty lines does it once more by itself. A gradient that has been derived has to be checked, so the
# other half is about checks: how a finite difference goes wrong, what it proves, and which of the faults that
# others have published it can never see.
#
# A number in parentheses, such as (4.21), leads to its card with the proof and an example in figures.
#
# First the settings. Change them and run all cells again; what the words say of results, they say of these.

# %%
K = 2            # latent variables
hidden = (16,)   # widths of the decoder's hidden layers; (): a linear decoder
S = 5            # samples of z for each data case
cases = 400      # that the VAEs are trained on,
epochs = 300     # and how long
seed = 0

# %%
from dataclasses import dataclass
import math
import warnings

import matplotlib.pyplot as plt
import numpy as np
from scipy import integrate, optimize, stats

from teachvae import VAE, Model, bound, datasets, grade, gradcheck, layers, likelihoods
from teachvae.arrays.backend import get_backend, namespace
from teachvae.arrays.special import softplus
from teachvae.likelihoods import Likelihood
from teachvae.plots import COLOURS

plt.rcParams["figure.dpi"] = 120
plt.rcParams["axes.spines.top"] = plt.rcParams["axes.spines.right"] = False
np.set_printoptions(precision=4, suppress=True)
warnings.filterwarnings("ignore", message="training ended after")  # before Q came to rest: it is compared

# %% [markdown]
# ## 1. What a backward answers
#
# A network is a chain of steps, and at its end stands one number $\mathcal{L}$, for us the bound. Each step is
# asked one question. It is told how much $\mathcal{L}$ changes with its *output*, $dy = \partial \mathcal{L} / \partial y$,
# and answers how much $\mathcal{L}$ changes with its *input* and with its own parameters:
#
# $$
# dx_{ri} = \sum_{j} dy_{rj} \frac{\partial y_{rj}}{\partial x_{ri}}
# $$
#
# (4.21). That is the chain rule, and all there is to backpropagation. A step need not know what $\mathcal{L}$ is,
# nor what stands before or behind it.
#
# Take the step $y = xW + b$ with rows of data, entry by entry $y_{rj} = \sum_i x_{ri} W_{ij} + b_j$ (4.1). Where
# does the weight $W_{ij}$ stand? In column $j$ of $y$, in every row, and each time with the factor $x_{ri}$. So
#
# $$
# dW_{ij} = \sum_r x_{ri} \thinspace dy_{rj},
# \qquad
# dx_{ri} = \sum_j dy_{rj} W_{ij},
# \qquad
# db_j = \sum_r dy_{rj}
# $$
#
# (4.3), (4.2), (4.4): what is shared by the rows is summed over the rows. The shapes alone tell the order of each
# product, for only one order fits. Here are sizes that cannot be confused; the numbers $dy$ are made up, as if
# they had come back from further on.

# %%
rng = np.random.default_rng(seed)
x, W, b = rng.standard_normal((6, 4)), rng.standard_normal((4, 3)), rng.standard_normal(3)
dy = rng.standard_normal((6, 3))

y = x @ W + b
print("forward: x", x.shape, "  W", W.shape, "  b", b.shape, "  y", y.shape)
print("given back: dy", dy.shape)

# %% [markdown]
# **What do you expect?** If $W_{10}$ grows by 0.001, by how much does $\mathcal{L} = \sum_{rj} dy_{rj} y_{rj}$ grow? The
# formula says $0.001 \sum_r x_{r1} dy_{r0}$.

# %%
nudged = W.copy()
nudged[1, 0] += 0.001
print(f"measured: {np.sum(dy * (x @ nudged + b)) - np.sum(dy * y):+.9f}")
print(f"formula:  {0.001 * np.sum(x[:, 1] * dy[:, 0]):+.9f}")

# %% [markdown]
# **Exercise 10-1.** Write the backward of this layer. `dense_backward(x, W, b, dy)` takes rows `x` (N, D), weights `W`
# (D, K), a bias `b` (K,) and `dy` (N, K), and returns the tuple `(dx, dW, db)`. Two thirds of all the arithmetic
# in training a VAE is in these three lines.

# %% tags=["exercise"]
def dense_backward(x, W, b, dy):
    """dx (N, D), dW (D, K) and db (K,) of y = x W + b."""
    dx = ...
    dW = ...
    db = ...
    return dx, dW, db


# %% tags=["check"]
grade.check("10-1", dense_backward)

# %% [markdown] tags=["hint"]
# Write the three shapes down, and the shapes of `x`, `W` and `dy` beside them. For `dW`, (D, K), you have `x`,
# (N, D), and `dy`, (N, K).

# %% [markdown] tags=["hint"]
# `dW` is a product in which the rows, N, are summed over, so they have to stand in the middle: something of shape
# (D, N) times something of shape (N, K). For `dx` it is K that is summed over.

# %% [markdown] tags=["hint"]
# `x.T @ dy`, `dy @ W.T`, and the sum of `dy` over axis 0. No mean: if $\mathcal{L}$ is a mean, the 1/N is in `dy`.

# %% tags=["solution"]
def dense_backward(x, W, b, dy):
    dx = dy @ W.T
    dW = x.T @ dy
    db = np.sum(dy, axis=0)
    return dx, dW, db


# %% [markdown]
# ## 2. A bend, entry by entry
#
# Linear steps in a row are one linear step. What bends a network is a function $y = a(x)$ that is applied to every
# entry for itself. Then $y_{rj}$ depends on $x_{rj}$ alone, of the sum in (4.21) one term is left, and
#
# $$
# dx = dy \odot a'(x)
# $$
#
# (4.23). For $a = \tanh$ the slope can be had from the output: with $u = e^x - e^{-x}$ and $v = e^x + e^{-x}$ there is
# $y = u/v$, $u' = v$, $v' = u$, so $y' = (v^2 - u^2)/v^2 = 1 - y^2$ (4.6). So $y$ is what the forward keeps for the
# backward, its *cache*, and the backward needs no second tanh.
#
# The picture shows two bends with their slopes. Where the slope is near 0, nothing comes back: a unit in the flat
# part of tanh does not learn.

# %%
line = np.linspace(-5, 5, 201)
fig, axes = plt.subplots(1, 2, figsize=(7, 2.6))
for ax, title, value, slope in [
    (axes[0], "tanh", np.tanh(line), 1 - np.tanh(line) ** 2),
    (axes[1], "softplus", np.logaddexp(0, line), 1 / (1 + np.exp(-line))),
]:
    ax.plot(line, value, color=COLOURS[0], label="value")
    ax.plot(line, slope, "--", color=COLOURS[3], label="slope")
    ax.set(title=title, xlabel="x")
    ax.legend(frameon=False, loc="upper left")
fig.tight_layout()
plt.show()

# %% [markdown]
# **Exercise 10-2.** `tanh_backward(y, dy)` takes the cache `y` = tanh x, (N, D), and `dy` (N, D), and returns `dx`
# (N, D). Mind what is in the cache.

# %% tags=["exercise"]
def tanh_backward(y, dy):
    """dx (N, D) of y = tanh x."""
    ...


# %% tags=["check"]
grade.check("10-2", tanh_backward)

# %% [markdown] tags=["hint"]
# What is the slope of tanh at $x$, written with $y$ alone?

# %% [markdown] tags=["hint"]
# $1 - y^2$. There is no tanh to be computed any more; `y` is it.

# %% [markdown] tags=["hint"]
# The slope tells how $y$ changes with $x$, and `dy` how $\mathcal{L}$ changes with $y$: multiply them entry by entry.

# %% tags=["solution"]
def tanh_backward(y, dy):
    return dy * (1 - y * y)


# %% [markdown]
# The other bend is softplus, $y = \log(1 + e^x)$ (4.11), with the logistic function $\sigma(x) = 1/(1 + e^{-x})$ as its
# slope (4.12). It stands in the Bernoulli likelihood, and it makes positive numbers, such as scales, out of any. As
# it is written it cannot be computed.
#
# **What do you expect** of $\log(1 + e^{800})$, and of $\log(1 + e^{-40})$, in float64?

# %%
with np.errstate(over="ignore"):
    print("as written, at 800:", np.log(1 + np.exp(800.0)), "    right: 800.0")
print("as written, at -40:", np.log(1 + np.exp(-40.0)), "    right:", np.exp(-40.0))

# %% [markdown]
# **Exercise 10-3.** `softplus_layer(x, dy)` returns a dict with `"y"` (N, D), the softplus of `x` (N, D), and
# `"dx"` (N, D), what comes back of `dy` (N, D). Some of the numbers in `x` are around 800 and −800, and nothing
# may overflow on the way. (An overflow that is not seen becomes a NaN one step later, and after the next step of
# the optimiser all parameters are NaN.)

# %% tags=["exercise"]
def softplus_layer(x, dy):
    """{"y": log(1 + exp x), "dx": …}, both (N, D)."""
    y = ...
    dx = ...
    return {"y": y, "dx": dx}


# %% tags=["check"]
grade.check("10-3", softplus_layer)

# %% [markdown] tags=["hint"]
# For positive $x$ take $e^x$ out of the bracket: $\log(1 + e^x) = x + \log(1 + e^{-x})$. Which exponential is then left, and
# how large can it be?

# %% [markdown] tags=["hint"]
# One form for both signs: $\max(x, 0) + \log(1 + e^{-\vert x \vert})$. For the logarithm of one plus something small there is
# `np.log1p`. (`np.logaddexp(0, x)` does all of it.) The slope $\sigma(x)$ has the same exponential in it.

# %% [markdown] tags=["hint"]
# With `small = np.exp(-np.abs(x))`, $\sigma(x)$ is `1 / (1 + small)` where `x >= 0` and `small / (1 + small)` elsewhere:
# `np.where(x < 0, small, 1) / (1 + small)`. And `dy` is multiplied by it.

# %% tags=["solution"]
def softplus_layer(x, dy):
    small = np.exp(-np.abs(x))
    y = np.maximum(x, 0) + np.log1p(small)
    dx = dy * np.where(x < 0, small, 1) / (1 + small)
    return {"y": y, "dx": dx}


# %% [markdown]
# ## 3. From three lines to a class, under the same gradients
#
# Now put the steps together: $y = \tanh(x W_1 + b_1) W_2 + b_2$. The forward goes down the page, the backward goes up,
# one line for each, in reversed order, and each takes what the one before has handed on (4.14). First as plain
# lines:

# %%
W1, b1 = rng.standard_normal((4, 5)) / 2, rng.standard_normal(5)
W2, b2 = rng.standard_normal((5, 3)) / 2, rng.standard_normal(3)

a = x @ W1 + b1                          # (6, 5)
h = np.tanh(a)                           # (6, 5)
y = h @ W2 + b2                          # (6, 3)

dh, dW2, db2 = dy @ W2.T, h.T @ dy, dy.sum(axis=0)
da = dh * (1 - h * h)
dx, dW1, db1 = da @ W1.T, x.T @ da, da.sum(axis=0)
saved = {"x": dx, "W1": dW1, "b1": db1, "W2": dW2, "b2": db2}
print({name: gradient.shape for name, gradient in saved.items()})

# %% [markdown]
# **Exercise 10-4.** The same as one function, from memory: `two_layer_backward(x, W1, b1, W2, b2, dy)` runs the forward
# for its caches and returns the tuple `(dx, dW1, db1, dW2, db2)`. Here `x` is (N, D), `W1` (D, H), `W2` (H, K) and
# `dy` (N, K).

# %% tags=["exercise"]
def two_layer_backward(x, W1, b1, W2, b2, dy):
    """The gradients of Σ dy·y for y = tanh(x W1 + b1) W2 + b2, in the order of the arguments."""
    h = np.tanh(x @ W1 + b1)
    ...
    return ...


# %% tags=["check"]
grade.check("10-4", two_layer_backward)

# %% [markdown] tags=["hint"]
# Begin at the end. The last step was a dense layer whose input was `h`: write its three gradients, one of which is `dh`.

# %% [markdown] tags=["hint"]
# Then the tanh: from `dh` to `da`, with the cache `h`. Then the first dense layer, whose input was `x` and whose
# output was `a`.

# %% [markdown] tags=["hint"]
# `dh = dy @ W2.T`, `da = dh * (1 - h * h)`, and `da` is to the first layer what `dy` is to the second.

# %% tags=["solution"]
def two_layer_backward(x, W1, b1, W2, b2, dy):
    h = np.tanh(x @ W1 + b1)
    dh, dW2, db2 = dy @ W2.T, h.T @ dy, np.sum(dy, axis=0)
    da = dh * (1 - h * h)
    return da @ W1.T, x.T @ da, np.sum(da, axis=0), dW2, db2


# %% [markdown]
# Lines that are written twice want a name. The first change: each step becomes a pair of functions, of which the
# forward hands out a cache. Nothing may change in the numbers, so they are held against the gradients that we have saved.

# %%
def dense(W, b, x):
    return x @ W + b, x


def dense_back(W, cache, dy):
    return dy @ W.T, cache.T @ dy, dy.sum(axis=0)


def bend(x):
    y = np.tanh(x)
    return y, y


def bend_back(cache, dy):
    return dy * (1 - cache * cache)


a, first = dense(W1, b1, x)
h, middle = bend(a)
y, last = dense(W2, b2, h)
dh, dW2, db2 = dense_back(W2, last, dy)
dx, dW1, db1 = dense_back(W1, first, bend_back(middle, dh))
now = {"x": dx, "W1": dW1, "b1": db1, "W2": dW2, "b2": db2}
print("the same bits as before:", all(np.array_equal(now[name], saved[name]) for name in saved))


# %% [markdown]
# The second change: a class that holds sizes and nothing else. Parameters come in as a dict, the cache goes out as a
# value, and so two calls can never get into each other's way. (Where a layer keeps its cache in itself, a forward
# for another batch between forward and backward gives wrong gradients without a word.) The backward can be asked for
# less: the first layer of a network needs no $dx$, an E-step no gradient of the parameters.

# %%
@dataclass(frozen=True)
class Dense:
    """y = x W + b; the cache is x."""

    n_in: int
    n_out: int

    def init(self, rng, backend):
        W = backend.normal(rng, (self.n_in, self.n_out)) / self.n_in**0.5
        return {"W": W, "b": backend.zeros((self.n_out,))}

    def forward(self, params, x):
        return x @ params["W"] + params["b"], x

    def backward(self, params, cache, dy, *, need_dx=True, need_dparams=True):
        dx = dy @ params["W"].T if need_dx else None
        dparams = {"W": cache.T @ dy, "b": dy.sum(axis=0)} if need_dparams else None
        return dx, dparams


print(gradcheck.part(Dense(4, 3)))

# %% [markdown]
# `gradcheck.part` draws inputs and parameters, and compares every entry of every gradient with a difference. What that
# is worth is the subject of the next section.
#
# The third change: layers in a row are a layer. `Sequential` of the package runs the forwards down and the backwards
# up, and it does not mind whose layers they are. Ours, with its tanh between them:

# %%
network = layers.Sequential((Dense(4, 5), layers.Tanh(), Dense(5, 3)))
params = [{"W": W1, "b": b1}, {}, {"W": W2, "b": b2}]
y, caches = network.forward(params, x)
dx, (first, _, last) = network.backward(params, caches, dy)
now = {"x": dx, "W1": first["W"], "b1": first["b"], "W2": last["W"], "b2": last["b"]}
print("largest difference:", max(np.abs(now[name] - saved[name]).max() for name in saved))

# %% [markdown]
# From three lines to a class, and the numbers have not moved. That is how code should grow: under a net.
#
# ## 4. A second opinion
#
# Where does the net come from, if no saved gradient is there yet? From the forward. Move one parameter a little
# to both sides, and see how the value moves:
#
# $$
# n(h) = \frac{\mathcal{L}(p + h) - \mathcal{L}(p - h)}{2h}
# $$
#
# (8.1). Two errors pull in opposite directions. Taylor's series to both sides,
# $\mathcal{L}(p \pm h) = \mathcal{L} \pm h \mathcal{L}' + \frac{1}{2} h^2 \mathcal{L}'' \pm \frac{1}{6} h^3 \mathcal{L}''' + \dots$, leaves of the
# difference $2h \mathcal{L}' + \frac{1}{3} h^3 \mathcal{L}'''$: the even powers cancel, and the *truncation* is
# $\frac{1}{6} h^2 \mathcal{L}'''$. And each value is rounded by some $\rho$, which divided by $h$ grows as $h$ shrinks. Together
#
# $$
# \vert n(h) - \mathcal{L}' \vert \leq \frac{h^2}{6} \max \vert \mathcal{L}''' \vert + \frac{\rho}{h}
# $$
#
# (11.1), least at $h^{\ast} = (3 \rho / \vert \mathcal{L}''' \vert)^{1/3}$ (11.2). **What do you expect** of the best step in
# float64, where $\rho$ is about $10^{-16}$, and of the error that is left there? And in float32, with $\rho$ about $10^{-7}$?
#
# The number to be differentiated is a piece of the bound, small enough for one line: samples $z = m + s \eta$ with
# noise that is held fixed, half the mean square of $z$, and the KL to the prior. Each point of the curves is the median
# of the error at 25 places.

# %%
eta = np.random.default_rng(seed).standard_normal(S)


def piece(m, log_s, eta):
    s = np.exp(log_s)
    z = m + s * eta
    return 0.5 * np.mean(z**2) + 0.5 * (m**2 + s**2 - 1) - log_s


def slope(m, log_s, eta):
    s = np.exp(log_s)
    return np.mean((m + s * eta) * eta) * s + s**2 - 1


def error_at(log_s, h, dtype, sides):
    """Of the numeric slope in log s at one point, by values in this precision."""
    m, noise = np.asarray(0.7, dtype=dtype), eta.astype(dtype)
    here, step = np.asarray(log_s, dtype=dtype), np.asarray(h, dtype=dtype)
    up, down = here + step, here - step if sides == 2 else here
    apart = float(up - down)                                       # the step that was really made
    exact = slope(0.7, float(here), eta)
    change = float(piece(m, up, noise)) - float(piece(m, down, noise))
    return abs(change / apart - exact) if apart else abs(exact)


steps, points = 10.0 ** np.arange(-14, 0.1, 0.25), np.linspace(-0.9, 0.4, 25)
errors = {
    (dtype, sides): np.array(
        [np.median([error_at(p, h, dtype, sides) for p in points]) for h in steps]
    )
    for dtype in ("float64", "float32") for sides in (2, 1)
}
words = {2: "central", 1: "one side"}

fig, ax = plt.subplots(figsize=(6.4, 3.6))
for (name, sides), colour, style in [
    (("float64", 2), COLOURS[0], "-"), (("float64", 1), COLOURS[0], ":"),
    (("float32", 2), COLOURS[3], "--"),
]:
    ax.loglog(steps, errors[name, sides], style, color=colour, label=f"{name}, {words[sides]}")
ax.set(xlabel="step h", ylabel="error of the numeric slope", ylim=(1e-13, 1e1))
ax.legend(frameon=False)
plt.show()

# %%
for (name, sides), error in errors.items():
    best = np.argmin(error)
    print(f"{name}, {words[sides]:8}: best step {steps[best]:.0e}, error there {error[best]:.0e}")

# %% [markdown]
# Each curve is a V. On the right it is truncation, of slope 2 for the central difference and of slope 1 for
# one side alone; on the left it is rounding, the last digits of $\mathcal{L}$ blown up by $1/h$. In the middle, of the
# sixteen digits of float64 about two thirds are left, enough to call an error of $10^{-7}$ wrong. Of the seven digits
# of float32 five are left at best, for a formula of one line and at the one step that suits it. One step has to
# do for all parameters, though, and a bound that adds up thousands of terms is rounded more: a check in float32 would
# have to let errors of a thousandth pass. That is why `gradcheck.check` takes $h = 10^{-5}$, a tolerance of
# $10^{-7}$, and float64 only.
#
# A step of $10^{-5}$ beside a parameter of a million would be lost among its last digits. So it grows with the
# parameter: $h_i = h \max(1, \vert p_i \vert)$.
#
# **Exercise 10-5.** Write the numeric gradient. `central_difference(F, p, h)` takes a function `F` from an array like `p`
# to one number, the point `p` (of any shape), and the step `h`, and returns an array shaped like `p`:
# $(F(p + h_i e_i) - F(p - h_i e_i)) / 2 h_i$ with $h_i = h \max(1, \vert p_i \vert)$ for each entry $i$. Leave `p` as it was.

# %% tags=["exercise"]
def central_difference(F, p, h):
    """The numeric gradient of F at p, shaped like p."""
    numeric = np.zeros_like(p)
    for i in np.ndindex(p.shape):        # i is (0, 0), (0, 1), …
        numeric[i] = ...
    return numeric


# %% tags=["check"]
grade.check("10-5", central_difference)

# %% [markdown] tags=["hint"]
# One entry at a time, and all others where they were. The surest way is two fresh copies of `p` for every entry.

# %% [markdown] tags=["hint"]
# `step = h * max(1.0, abs(p[i]))`, then `up = p.copy()` and `up[i] += step`; `down` likewise.

# %% [markdown] tags=["hint"]
# `numeric[i] = (F(up) - F(down)) / (2 * step)`: what you divide by is the distance of the two points.

# %% tags=["solution"]
def central_difference(F, p, h):
    numeric = np.zeros_like(p)
    for i in np.ndindex(p.shape):
        step = h * max(1.0, abs(p[i]))
        up, down = p.copy(), p.copy()
        up[i] += step
        down[i] -= step
        numeric[i] = (F(up) - F(down)) / (2 * step)
    return numeric


# %% [markdown]
# ### Four ways to ask a check the wrong question
#
# A check can be run, and mean nothing. Each of the next cells asks it badly on purpose.
#
# **In float32.** As the picture says; so it refuses.

# %%
phi = np.random.default_rng(seed).uniform(0.3, 0.9, 2)             # m and log s, away from 0


def of_phi(phi, noise=eta):
    return piece(phi[0], phi[1], noise)


def by_hand(phi, noise=eta):
    m, s = phi[0], np.exp(phi[1])
    z = m + s * noise
    return np.array([np.mean(z) + m, np.mean(z * noise) * s + s**2 - 1])


print(gradcheck.check(of_phi, phi, by_hand(phi)))
try:
    gradcheck.check(of_phi, phi.astype("float32"), by_hand(phi))
except TypeError as error:
    print("\nTypeError:", error)

# %% [markdown]
# **At a zero.** Forget the factor $s$ that $\partial z / \partial \log s = s \eta$ has. At $\log s = 0$, where many a network starts,
# $s$ is 1, and nothing is seen. **What do you expect** of the same mistake away from 0?

# %%
def without_s(phi):
    m, s = phi[0], np.exp(phi[1])
    z = m + s * eta
    return np.array([np.mean(z) + m, np.mean(z * eta) + s**2 - 1])


start = np.array([0.4, 0.0])
print("at log s = 0:", gradcheck.check(of_phi, start, without_s(start)).verdict)
print("away from 0: ", gradcheck.check(of_phi, phi, without_s(phi)).verdict)

# %% [markdown]
# **With fresh noise.** Where $\eta$ is drawn inside the function, the two values of a difference belong to two
# functions, and their difference has nothing to do with a slope. (It is the noise between the two, divided by $2h$:
# a number of the size of a hundred thousand.) So noise is an argument, everywhere in this package.

# %%
fresh = np.random.default_rng(seed)
report = gradcheck.check(lambda phi: of_phi(phi, fresh.standard_normal(S)), phi, by_hand(phi))
print(report.verdict)
print(report.notes[0])

# %% [markdown]
# **At a kink.** A rectifier has no slope at 0: to the right it is 1, to the left 0, and the difference quotient says
# ½. The check looks at both sides (11.4) and says "?", neither right nor wrong. Draw another point.

# %%
corner = np.array([1.3, 0.0, -0.8])
print(gradcheck.check(lambda p: np.sum(np.maximum(p, 0)), corner, (corner > 0) * 1.0))

# %% [markdown]
# ### Which number?
#
# A layer has many outputs, and a check needs one number. The obvious choice is their sum, which amounts to
# $dy = 1$ for all of them. Take a softmax, $y_i = e^{x_i} / \sum_j e^{x_j}$. Its outputs sum to 1 whatever $x$ is. So the slope of
# the sum is 0, and a backward that returns nothing but zeros is "right". Two teaching libraries check like that (trap
# B15); one of them looks at one index, drawn at random, with a tolerance of a hundredth (trap B14).
#
# **What do you expect** of a backward that forgets that the denominator depends on $x$ too, and returns
# $y \odot dy$? With all $dy = 1$ that is $y$ itself, and with random $dy$?

# %%
def soft(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


rng = np.random.default_rng(seed)
logits, random_dy = rng.standard_normal((3, 4)), rng.uniform(0.5, 1.5, (3, 4))
backwards = {"returns zeros": lambda y, dy: 0 * y, "forgets the denominator": lambda y, dy: y * dy}
for name, backward in backwards.items():
    for what, weights in [("the plain sum", np.ones((3, 4))), ("random weights", random_dy)]:
        given = backward(soft(logits), weights)
        report = gradcheck.check(lambda x: np.sum(weights * soft(x)), logits, given)
        print(f"{name}, {what}: {report.verdict}")

# %% [markdown]
# With the plain sum the zeros are not called right: both gradients vanish at every index, so the check says "?",
# it has nothing to compare. A check that only asks whether two numbers are close would have passed. With random
# weights (11.3) both are wrong.
#
# And the one index, drawn at random? Forget the slope in one column of four, and let that check be run a thousand times.

# %%
def one_index(numeric, analytic, rng):
    """The check of trap B14: one index, and a tolerance of a hundredth."""
    place = tuple(rng.integers(n) for n in numeric.shape)
    one, two = numeric[place], analytic[place]
    return abs(one - two) <= 1e-2 * max(abs(one), abs(two))


right_dx = random_dy * (1 - np.tanh(logits) ** 2)
wrong_dx = right_dx.copy()
wrong_dx[:, 3] = random_dy[:, 3]
passed = np.mean([one_index(right_dx, wrong_dx, rng) for _ in range(1000)])
print(f"one index at random: passed in {passed:.0%} of the runs")
report = gradcheck.check(lambda x: np.sum(random_dy * np.tanh(x)), logits, wrong_dx)
print("every index:", report.verdict)

# %% [markdown]
# Now the right one. The derivative of $y_i$ by $x_j$ is $y_i ([i = j] - y_j)$: its own share, less what the
# denominator takes. So $dx_j = \sum_i dy_i y_i ([i = j] - y_j)$, and with the sum carried out little is left of it.
#
# **Exercise 10-6.** `softmax_backward(y, dy)` takes the cache `y` (N, D), whose rows sum to 1, and `dy` (N, D), and
# returns `dx` (N, D). No matrix of derivatives is needed.

# %% tags=["exercise"]
def softmax_backward(y, dy):
    """dx (N, D) of y = softmax(x), row by row."""
    ...


# %% tags=["check"]
grade.check("10-6", softmax_backward)

# %% [markdown] tags=["hint"]
# Split the sum over $i$: the part with $[i = j]$ leaves one term. In the other part, what depends on $j$, and what on $i$?

# %% [markdown] tags=["hint"]
# $dx_j = dy_j y_j - y_j \sum_i dy_i y_i$. The sum is one number for each row.

# %% [markdown] tags=["hint"]
# `np.sum(y * dy, axis=1, keepdims=True)` is that number, as (N, 1), so that it can be taken off `dy`; then all of
# it times `y`.

# %% tags=["solution"]
def softmax_backward(y, dy):
    return y * (dy - np.sum(y * dy, axis=1, keepdims=True))


# %% [markdown]
# ## 5. The last step: a likelihood
#
# At the end of the decoder stands $\log p(x|f)$, and there the data come in. It is a step like the others: it has
# an input $f$, parameters, and an output, one number for every sample $s$ and data case $n$. The Gaussian is
#
# $$
# \log p(x_n|f_{sn}) = -\frac{1}{2} \sum_d \left( \frac{(x_{nd} - f_{snd})^2}{\psi_d} + \log \psi_d + \log 2\pi \right)
# $$
#
# (5.1), with $\log \psi$ as what is learned. Two derivatives:
#
# - $f_{snd}$ stands in one square alone, and $\partial (x - f) / \partial f = -1$ takes the minus away (5.2): what goes back into
#   the network is the residual, in units of the noise.
# - $\psi_d$ is shared by all samples and cases, so its gradient is a sum over both. As a function of $\log \psi$ the square
#   is multiplied by $e^{-\log \psi}$, whose derivative is minus itself (5.3).
#
# **Exercise 10-7.** `gaussian_backward(f, log_psi, x, dlog_p)` takes `f` (S, N, D), `log_psi` (D,), `x` (N, D) and
# `dlog_p` (S, N), and returns the tuple `(df, dlog_psi)`, (S, N, D) and (D,). For the bound `dlog_p` will be −1/S
# everywhere, but a backward must not count on it.

# %% tags=["exercise"]
def gaussian_backward(f, log_psi, x, dlog_p):
    """df (S, N, D) and dlog_psi (D,) of Σ dlog_p · log p(x|f)."""
    psi = np.exp(log_psi)
    residual = x - f
    d = dlog_p[:, :, None]               # (S, N, 1), so that it meets (S, N, D)
    df = ...
    dlog_psi = ...
    return df, dlog_psi


# %% tags=["check"]
grade.check("10-7", gaussian_backward)

# %% [markdown] tags=["hint"]
# Differentiate one term, $-\frac{1}{2} (r^2 / \psi + \log \psi)$ with $r = x - f$, once by $f$ and once by $\log \psi$.

# %% [markdown] tags=["hint"]
# By $f$: $r / \psi$. By $\log \psi$: $\frac{1}{2} (r^2 / \psi - 1)$. Each is multiplied by $d$.

# %% [markdown] tags=["hint"]
# `df` keeps all three axes. `dlog_psi` is summed over samples and data cases, axes 0 and 1.

# %% tags=["solution"]
def gaussian_backward(f, log_psi, x, dlog_p):
    psi = np.exp(log_psi)
    residual = x - f
    d = dlog_p[:, :, None]
    df = d * residual / psi
    dlog_psi = 0.5 * np.sum(np.sum(d * (residual**2 / psi - 1), axis=0), axis=0)
    return df, dlog_psi


# %% [markdown]
# ## 6. A likelihood of your own
#
# A Gaussian pays for a residual by its square. Data with gross errors want a density with heavier tails. Take the
# *logistic* density, with a scale $b_d$ for each variable and $u = (x - f) / b$:
#
# $$
# p(x|f) = \prod_d \frac{1}{b_d} \frac{e^{-u_d}}{(1 + e^{-u_d})^2}
# $$
#
# It is the slope of the logistic function, so it integrates to one. Its logarithm is $-u - 2 \log(1 + e^{-u}) - \log b$. The
# density is even, so $u$ may be replaced by its size, and then nothing can overflow:
#
# $$
# \log p(x|f) = -\sum_d \left( \vert u_d \vert + 2 \log(1 + e^{-\vert u_d \vert}) + \log b_d \right)
# $$
#
# The derivatives. By $u$ the bracket has $-1 + 2 e^{-u} / (1 + e^{-u}) = -\tanh(u/2)$; check it at $u = 0$ and at
# $u = \infty$. By $f$, $u$ has the slope $-1/b$, and by $\log b$ the slope $-u$. So
#
# $$
# df = d \odot \frac{1}{b} \tanh \frac{u}{2},
# \qquad
# d \log b = \sum_{sn} d \odot \left( u \tanh \frac{u}{2} - 1 \right)
# $$
#
# where $d$ is what comes back to $\log p$ (1.33). The pull of a residual on the decoder never exceeds $1/b$, however far
# out it lies.
#
# Here it is as a part of the package: sizes, a forward, a backward, and how to draw. `mask` is 0 where an entry is
# missing.

# %%
@dataclass(frozen=True)
class Logistic(Likelihood):
    """p(x|f) = Π_d logistic(u_d)/b_d with u = (x − f)/b. Parameters: log_b (D,)."""

    n_visible: int

    @property
    def n_f(self):
        return self.n_visible

    def init(self, rng, backend):
        return {"log_b": backend.zeros((self.n_visible,))}

    def forward(self, params, f, x, mask=None):
        xp = namespace(f, x)
        mask = xp.ones_like(x) if mask is None else mask
        u = (x - f) * xp.exp(-params["log_b"])                     # (S, N, D)
        terms = xp.abs(u) + 2 * softplus(-xp.abs(u)) + params["log_b"]
        return -xp.sum(mask * terms, axis=2), (u, mask)            # (S, N)

    def backward(self, params, cache, dlog_p, *, need_dparams=True):
        (u, mask), xp = cache, namespace(dlog_p)
        d = dlog_p[:, :, None] * mask                              # (S, N, D)
        pull = xp.tanh(0.5 * u)
        df = d * pull * xp.exp(-params["log_b"])
        return df, {"log_b": xp.sum(d * (u * pull - 1), axis=(0, 1))} if need_dparams else None

    def mean(self, params, f):
        return f

    def draw_noise(self, rng, shape):
        return rng.logistic(size=shape)

    def sample(self, params, f, noise):
        return f + noise * namespace(f).exp(params["log_b"])


print(gradcheck.part(Logistic(3)))

# %% [markdown]
# The gradients belong to the forward, with and without missing entries. Is the forward right? A gradient check has
# nothing to say about that, so it needs a second road: the density has to integrate to one, and SciPy has it too.

# %%
logistic, own = Logistic(1), {"log_b": np.array([0.3])}


def density(v):
    return np.exp(logistic.forward(own, np.zeros((1, 1, 1)), np.array([[v]]))[0].item())


total, _ = integrate.quad(density, -60, 60)
print(f"integral: {total:.10f}")
print(f"at 2: {density(2.0):.12f}, by SciPy {stats.logistic(scale=math.exp(0.3)).pdf(2.0):.12f}")

# %% [markdown]
# Networks learn faster in standard units. A likelihood may say how its parameters change with them, and then the VAE
# is trained on $(x - \mathrm{mean}) / \mathrm{deviation}$ and handed back in the units of the data. Three lines, and `gradcheck.part`
# says whether they are a change of units at all:

# %%
class LogisticInUnits(Logistic):
    """The same, trained in standard units."""

    def standard_units(self, mean, variance):
        return mean, variance**0.5

    def units_of_f(self, shift, scale):
        return shift, scale

    def rescale_params(self, params, scale):
        return {"log_b": params["log_b"] + namespace(scale).log(scale)}


print("all right:", gradcheck.part(LogisticInUnits(3)).ok)

# %% [markdown]
# Now train it. The data are of two factors; for training, three in a hundred entries are moved by ±15, as if someone had
# slipped on the keyboard. Held-out data are clean. **What do you expect** of a Gaussian likelihood: will it ignore the
# few, or fit them?

# %%
data = datasets.linear_gaussian(n_cases=cases + 200, n_visible=8, n_latent=2, seed=seed + 1)
clean, held_out = data.x[:cases], data.x[cases:]
rng = np.random.default_rng(seed)
spoilt, hit = clean.copy(), rng.random(clean.shape) < 0.03
spoilt[hit] += rng.choice([-15.0, 15.0], hit.sum())

rows = [
    ("Gaussian, clean data", "gaussian", clean), ("Gaussian, spoilt data", "gaussian", spoilt),
    ("logistic, spoilt data", LogisticInUnits(8), spoilt),
]
for title, likelihood, training in rows:
    vae = VAE(K, hidden=hidden, likelihood=likelihood, epochs=epochs, random_state=seed)
    vae.fit(training)
    print(f"{title:24} held-out Q = {vae.bound(held_out).mean():.2f} nats per data case")

# %% [markdown]
# With the committed settings the gross errors cost the Gaussian nearly three nats on clean data, and the logistic density
# wins back about half of them. Nothing else was changed: not the decoder, not the recognition network, not the
# bound. All of them meet the data through $df$ alone, and the picture shows it: the pull of a residual on the decoder.

# %%
u = np.linspace(-8, 8, 401)
fig, axes = plt.subplots(1, 2, figsize=(7, 2.8))
for title, log_p, pull, colour, style in [
    ("Gaussian", stats.norm.logpdf(u), u, COLOURS[0], "-"),
    ("logistic", stats.logistic.logpdf(u), np.tanh(u / 2), COLOURS[3], "--"),
    ("Laplace", stats.laplace.logpdf(u), np.sign(u), COLOURS[6], ":"),
]:
    axes[0].plot(u, log_p, style, color=colour, label=title)
    axes[1].plot(u, pull, style, color=colour)
axes[0].set(xlabel="residual, in units of the scale", ylabel="log density", ylim=(-20, 1))
axes[1].set(xlabel="residual, in units of the scale", ylabel="pull on f", ylim=(-5, 5))
axes[0].legend(frameon=False, loc="lower center")
fig.tight_layout()
plt.show()

# %% [markdown]
# The third curve is yours. Laplace's density is $p(x|f) = \prod_d e^{-\vert u_d \vert} / 2 b_d$ with $u = (x - f) / b$: its tails are as heavy
# as the logistic's, and its pull jumps where $x = f$. (A check right there says "?".)
#
# **Exercise 10-8.** `laplace_likelihood(f, log_b, x, dlog_p)` takes `f` (S, N, D), `log_b` (D,), `x` (N, D) and `dlog_p`
# (S, N), and returns a dict: `"log_p"` (S, N), with every constant, `"df"` (S, N, D) and `"dlog_b"` (D,).

# %% tags=["exercise"]
def laplace_likelihood(f, log_b, x, dlog_p):
    """{"log_p": (S, N), "df": (S, N, D), "dlog_b": (D,)} of Laplace's density."""
    u = (x - f) * np.exp(-log_b)         # (S, N, D)
    d = dlog_p[:, :, None]
    log_p = ...
    df = ...
    dlog_b = ...
    return {"log_p": log_p, "df": df, "dlog_b": dlog_b}


# %% tags=["check"]
grade.check("10-8", laplace_likelihood)

# %% [markdown] tags=["hint"]
# $\log p = -\sum_d (\vert u_d \vert + \log b_d + \log 2)$. What is the slope of $\vert u \vert$?

# %% [markdown] tags=["hint"]
# `np.sign(u)`, away from 0. By $f$, $u$ has the slope $-1/b$; by $\log b$ it has the slope $-u$, and $u \thinspace \mathrm{sign}(u) = \vert u \vert$.

# %% [markdown] tags=["hint"]
# `df` is `d * np.sign(u) * np.exp(-log_b)`; `dlog_b` is the sum of `d * (np.abs(u) - 1)` over samples and data cases.

# %% tags=["solution"]
def laplace_likelihood(f, log_b, x, dlog_p):
    u = (x - f) * np.exp(-log_b)
    d = dlog_p[:, :, None]
    log_p = -np.sum(np.abs(u) + log_b + np.log(2.0), axis=2)
    df = d * np.sign(u) * np.exp(-log_b)
    dlog_b = np.sum(np.sum(d * (np.abs(u) - 1), axis=0), axis=0)
    return {"log_p": log_p, "df": df, "dlog_b": dlog_b}


# %% [markdown]
# <a id="lecture-differentiate-p-and-q"></a>
#
# ## 7. One walk down the bound, and up again
#
# The lecture: as all integrals are gone, $p$ and $q$ need only be differentiable, and $q$ must be one that can be sampled by
# reparameterisation; then gradients can be had by automatic differentiation, whatever the two are. First by hand.
#
# Down: $\phi \to z = m + s \eta \to f(z) \to \log p(x|z) \to Q$. The bound of a data case is
#
# $$
# Q_n = \mathrm{KL}(q_n \parallel p(z)) - \frac{1}{S} \sum_s \log p(x_n|z_{sn})
# $$
#
# (1.8). Up, starting from $dQ_n = 1$: to $\log p$ goes $-1/S$ (1.11); the likelihood makes $df$ of it, the decoder $dz$ and the
# gradients of its own parameters (1.33), (1.32); and at $\phi$ two roads meet, through the samples and through the KL,
#
# $$
# dm_n = \sum_s dz_{sn} + m_n,
# \qquad
# d \log s_n = \sum_s dz_{sn} \odot \eta_{sn} \odot s_n + s_n^2 - 1
# $$
#
# (1.12). A `Model` holds sizes; the arrays live in `theta`, which every function is handed. $\phi$ has a row
# $[m_n \mid \log s_n]$ for each data case. The noise is an argument: nothing is drawn inside.

# %%
rng, D = np.random.default_rng(seed), 8
model = Model(layers.mlp(K, hidden, D), likelihoods.Gaussian(D), n_latent=K)
theta = model.init(rng, get_backend("numpy"))
theta["likelihood"]["log_psi"] = rng.uniform(0.2, 0.6, D)          # away from 0: a factor could hide
few = held_out[:4]
phi = 0.5 * rng.standard_normal((4, 2 * K))                        # four rows [m | log s], made up
eta = rng.standard_normal((S, 4, K))

Q, cache = bound.forward(model, theta, phi, few, eta)
dphi, dtheta = bound.backward(model, theta, cache, np.ones(4))
print("Q     ", Q.shape, Q, "nats")
print("dphi  ", dphi.shape)
print("dW    ", dtheta["decoder"][-1]["W"].shape, "of the last layer")
print("dlog ψ", dtheta["likelihood"]["log_psi"].shape)


# %% [markdown]
# `Q` has one value per data case, and `dphi` is $\partial \sum_n Q_n / \partial \phi$. Is it right? The check compares every index
# with a difference, with the noise held fixed.

# %%
def total(phi):
    return bound.forward(model, theta, phi, few, eta)[0].sum()


print(gradcheck.check(total, phi, dphi))

# %% [markdown]
# Now plant a mistake: forget that $\log s$ is what is learned, and take the gradient in $s$ for it,
# $\partial Q/\partial s = (\partial Q/\partial \log s)/s$. The checker says what kind of mistake it sees (11.5).

# %%
parts = {"m": phi[:, :K], "log_s": phi[:, K:]}


def total_of_parts(p):
    return total(np.concatenate([p["m"], p["log_s"]], axis=1))


wrong = {"m": dphi[:, :K], "log_s": dphi[:, K:] / np.exp(phi[:, K:])}
print(gradcheck.check(total_of_parts, parts, wrong))

# %% [markdown]
# **Exercise 10-9.** All of it, for a small bent decoder $f(z) = \tanh(z) W + b$ and Gaussian noise.
# `bent_bound_gradients(x, W, b, log_psi, phi, eta)` takes `x` (N, D), `W` (K, D), `b` (D,), `log_psi` (D,), `phi` (N, 2K) and
# `eta` (S, N, K), and returns the tuple `(dW, dphi)`, (K, D) and (N, 2K), the gradients of $\sum_n Q_n$ with
# the mean over S samples and the KL in closed form. This is a training step of a VAE, less the recognition
# network: whoever has written it has written a VAE.

# %% tags=["exercise"]
def bent_bound_gradients(x, W, b, log_psi, phi, eta):
    """dW (K, D) and dphi (N, 2K) of Σ_n Q_n, for f(z) = tanh(z) W + b."""
    S = len(eta)
    m, log_s = np.split(phi, 2, axis=1)
    s = np.exp(log_s)
    z = m + s * eta                      # (S, N, K)
    h = np.tanh(z)
    f = h @ W + b                        # (S, N, D)
    dW = ...
    dphi = ...
    return dW, dphi


# %% tags=["check"]
grade.check("10-9", bent_bound_gradients)

# %% [markdown] tags=["hint"]
# Go up the lines of the forward. $Q$ has $-\frac{1}{S} \log p$, so $df$ is $-\frac{1}{S}$ times the residual over $\psi$. Then `dh`, then
# `dz`, then the two halves of `dphi`.

# %% [markdown] tags=["hint"]
# `dz = (df @ W.T) * (1 - h * h)`. `dW` is a sum over samples and data cases: `np.einsum("snk,snd->kd", h, df)`.

# %% [markdown] tags=["hint"]
# `dm = dz.sum(axis=0) + m` and `dlog_s = (dz * eta).sum(axis=0) * s + s**2 - 1`; side by side by
# `np.concatenate([dm, dlog_s], axis=1)`.

# %% tags=["solution"]
def bent_bound_gradients(x, W, b, log_psi, phi, eta):
    S = len(eta)
    m, log_s = np.split(phi, 2, axis=1)
    s = np.exp(log_s)
    z = m + s * eta
    h = np.tanh(z)
    f = h @ W + b
    df = -(x - f) / np.exp(log_psi) / S
    dW = np.einsum("snk,snd->kd", h, df)
    dz = (df @ W.T) * (1 - h * h)
    dm = np.sum(dz, axis=0) + m
    dlog_s = np.sum(dz * eta, axis=0) * s + s**2 - 1.0
    return dW, np.concatenate([dm, dlog_s], axis=1)


# %% [markdown]
# ## 8. Automatic differentiation is this bookkeeping
#
# What you have done is mechanical, so a machine can do it. Let every number remember what it was made of, and for each of
# these what it hands back: that is a *tape*. The rules on it are those of sections 1 and 2, one for each operation.
# All that has to be added is a rule for broadcasting: what was shared in the forward is summed in the backward (4.22).

# %%
class Taped:
    """An array that remembers what it was made of: [(of what, d of the result → d of that)]."""

    tape = []

    def __init__(self, value, made_of=()):
        self.value, self.made_of, self.d = np.asarray(value, dtype=float), made_of, 0.0
        Taped.tape.append(self)

    def __add__(self, other):
        return Taped(self.value + other.value, [(self, lambda d: d), (other, lambda d: d)])

    def __sub__(self, other):
        return Taped(self.value - other.value, [(self, lambda d: d), (other, lambda d: -d)])

    def __mul__(self, other):
        return Taped(self.value * other.value, [
            (self, lambda d: d * other.value), (other, lambda d: d * self.value),
        ])

    def __matmul__(self, other):
        rows = self.value.reshape(-1, self.value.shape[-1])
        return Taped(self.value @ other.value, [
            (self, lambda d: d @ other.value.T),
            (other, lambda d: rows.T @ d.reshape(-1, d.shape[-1])),
        ])

    def exp(self):
        y = np.exp(self.value)
        return Taped(y, [(self, lambda d: d * y)])

    def tanh(self):
        y = np.tanh(self.value)
        return Taped(y, [(self, lambda d: d * (1 - y * y))])

    def sum(self):
        return Taped(self.value.sum(), [(self, lambda d: d * np.ones_like(self.value))])


def summed_to(d, shape):
    """d, with every axis summed along which an array of this shape was shared."""
    d = d.sum(axis=tuple(range(d.ndim - len(shape))))
    return d.sum(axis=tuple(k for k, n in enumerate(shape) if n == 1), keepdims=True)


def differentiate(result):
    """Walk the tape back from one number; every array on it then has its d."""
    result.d = np.ones(())
    for array in reversed(Taped.tape):
        for source, rule in array.made_of:
            source.d = source.d + summed_to(rule(array.d), source.value.shape)


# %% [markdown]
# Only the forward has to be written now. The bound of section 7, with the same numbers:

# %%
Taped.tape.clear()
m, log_s = Taped(phi[:, :K]), Taped(phi[:, K:])
w = [{name: Taped(array) for name, array in layer.items()} for layer in theta["decoder"]]
log_psi = Taped(theta["likelihood"]["log_psi"])
half, one, shares = Taped(0.5), Taped(1.0), Taped(0.5 / S)

s = log_s.exp()
f = m + s * Taped(eta)
for layer in w:
    f = f @ layer["W"] + layer["b"] if layer else f.tanh()
residual = Taped(few) - f
squares = residual * residual * (Taped(0.0) - log_psi).exp()
minus_twice_log_p = squares + (log_psi + Taped(math.log(2 * math.pi)))
kl = half * (m * m + s * s - one) - log_s
Q_total = kl.sum() + shares * minus_twice_log_p.sum()
differentiate(Q_total)

print(f"Σ Q: {Q_total.value:.10f} by the tape, {Q.sum():.10f} by the package")
by_tape = {
    "dphi": (np.concatenate([m.d, log_s.d], axis=1), dphi),
    "dW": (w[-1]["W"].d, dtheta["decoder"][-1]["W"]),
    "dlog ψ": (log_psi.d, dtheta["likelihood"]["log_psi"]),
}
for name, (tape, hand) in by_tape.items():
    difference = np.abs(tape - hand).max() / np.abs(hand).max()
    print(f"{name:7} largest difference, relative: {difference:.0e}")

# %% [markdown]
# The same numbers to the last digits. So what is by hand good for? To know what the machine does: which arrays it has to
# keep, what a step costs, why a gradient vanishes. One thing can be read off at once. The tape is walked back
# once, whatever the number of parameters, and each step back costs about as much as the step down, so that **all**
# derivatives of one number cost a few evaluations of it. Differences cost two evaluations for each parameter.

# %%
n_parameters = sum(a.size for layer in theta["decoder"] for a in layer.values()) + D + phi.size
print(f"{n_parameters} parameters here: {2 * n_parameters} evaluations of Q by differences")
print(f"the tape: {len(Taped.tape)} arrays, walked down once and back once")

# %% [markdown]
# And what neither of them is good for: telling whether $Q$ is what it should be. A tape differentiates a wrong forward as
# faithfully as a right one. That is the last subject.
#
# ## 9. Faults that were published
#
# Here is a VAE's bound by hand in twenty lines, for a linear decoder $f(z) = zW + b$. Its loadings are such that the best $q$ in
# the mean field family is the posterior itself, so that the lowest $Q_n$ *is* NLML, which for a linear decoder can be had
# by SciPy.

# %%
class Right:
    """Q of a linear decoder and its gradient in φ = [m | log s]."""

    def sample(self, m, log_s, eta):
        return m + np.exp(log_s) * eta

    def kl(self, m, log_s):
        return 0.5 * np.sum(m**2 + np.exp(2 * log_s) - 1 - 2 * log_s, axis=1)

    def log_p(self, z):
        return -0.5 * np.sum((x - z @ W - b) ** 2 / psi + np.log(2 * np.pi * psi), axis=2)

    def Q(self, phi, eta):
        m, log_s = np.split(phi, 2, axis=1)
        return self.kl(m, log_s) - self.log_p(self.sample(m, log_s, eta)).mean(axis=0)

    def dphi(self, phi, eta):
        m, log_s = np.split(phi, 2, axis=1)
        z = self.sample(m, log_s, eta)
        dz = -((x - z @ W - b) / psi) @ W.T / len(eta)
        return np.concatenate(self.home(m, log_s, eta, dz), axis=1)

    def home(self, m, log_s, eta, dz):
        s = np.exp(log_s)
        return dz.sum(axis=0) + m, (dz * eta).sum(axis=0) * s + s**2 - 1


rng = np.random.default_rng(seed)
D = K + 2
W = 1.5 * np.linalg.qr(rng.standard_normal((D, K)))[0].T           # rows at right angles, Ψ = I/2
b, psi = rng.standard_normal(D), np.full(D, 0.5)
x = rng.standard_normal((3, K)) @ W + b + np.sqrt(psi) * rng.standard_normal((3, D))
nlml = -stats.multivariate_normal(b, W.T @ W + np.diag(psi)).logpdf(x)
print("NLML of three data cases:", nlml)


# %% [markdown]
# And five that are not. Each changes a line or two; read them, the mistakes are as small as that in print.
#
# - **B1**, from a NumPy and CuPy VAE: the noise is drawn twice. The one that was used in $z$ is not the one that the backward uses.
# - **B3**, in more than one library: the network gives log variances, and the sample takes $e^{\log s^2}$ for a standard
#   deviation. (Here with $\log s$ as what is learned: $s^2$ stands where $s$ belongs.) The backward was derived from that very line.
# - **B17**, after a NumPy VAE published in 2026: half the noise in the sample, a quarter of $s^2$ in the KL, and a backward that has
#   neither.
# - **constant**: $\frac{1}{2} \log 2\pi$ for each variable is dropped, "as it does not matter for training".
# - **plus one**: a slip in the KL, +1 where −1 belongs.

# %%
class B1(Right):
    def dphi(self, phi, eta):
        return super().dphi(phi, np.random.default_rng(1).standard_normal(eta.shape))


class B3(Right):
    def sample(self, m, log_s, eta):
        return m + np.exp(2 * log_s) * eta

    def home(self, m, log_s, eta, dz):
        s2 = np.exp(2 * log_s)
        return dz.sum(axis=0) + m, (dz * eta).sum(axis=0) * 2 * s2 + s2 - 1


class B17(Right):
    def sample(self, m, log_s, eta):
        return m + 0.5 * np.exp(log_s) * eta

    def kl(self, m, log_s):
        return 0.5 * np.sum(m**2 + 0.25 * np.exp(2 * log_s) - 1 - 2 * log_s, axis=1)


class Constant(Right):
    def log_p(self, z):
        return -0.5 * np.sum((x - z @ W - b) ** 2 / psi + np.log(psi), axis=2)


class PlusOne(Right):
    def kl(self, m, log_s):
        return 0.5 * np.sum(m**2 + np.exp(2 * log_s) + 1 - 2 * log_s, axis=1)


faults = {"B1": B1(), "B3": B3(), "B17": B17(), "constant": Constant(), "plus one": PlusOne()}


# %% [markdown]
# Three checks. Each returns True where it finds nothing.
#
# - **gradient**: every entry of the gradient against a central difference, the noise held fixed and handed over.
# - **bound**: $Q$ at its lowest over $\phi$, which must not lie below NLML. The mean over samples is taken by sigma points
#   (1.14), with which it is exact for a linear decoder, so that no luck of a draw is in it.
# - **moments**: the variance of many draws of $z$, which must be $s^2$.

# %%
def gradient(code):
    rng = np.random.default_rng(2)
    phi, eta = rng.uniform(0.2, 0.8, (len(x), 2 * K)), rng.standard_normal((S, len(x), K))
    return gradcheck.check(lambda phi: code.Q(phi, eta).sum(), phi, code.dphi(phi, eta)).ok


def lowest(code):
    points = math.sqrt(K) * np.concatenate([np.eye(K), -np.eye(K)])[:, None, :]

    def total(flat):
        return code.Q(flat.reshape(len(x), 2 * K), points).sum()

    found = optimize.minimize(total, np.full(2 * K * len(x), 0.1))
    return code.Q(found.x.reshape(len(x), 2 * K), points)


def bound_holds(code):
    return bool(np.all(lowest(code) >= nlml - 1e-6))


def moments(code):
    m, log_s = np.full((1, K), 0.3), np.full((1, K), -0.5)
    z = code.sample(m, log_s, np.random.default_rng(3).standard_normal((100_000, 1, K)))
    return bool(np.allclose(z.var(axis=0), np.exp(2 * log_s), rtol=0.05))


right = Right()
for check in (gradient, bound_holds, moments):
    print(f"the right code, {check.__name__}: {'nothing found' if check(right) else 'FOUND'}")
print("its lowest Q, less NLML:", lowest(right) - nlml)

# %% [markdown]
# **Exercise 10-10.** Which of the three checks sees which fault? Predict first: which line is compared with which? Then run
# `gradient(faults["B1"])` and so on in a cell of your own. `which_check` is a dict: for every fault the checks that find
# something, as one text, such as `"gradient"`, `"bound and moments"`, `"gradient, bound and moments"` (in this order),
# or `"none of them"`.

# %% tags=["exercise"]
which_check = {
    "B1": ...,
    "B3": ...,
    "B17": ...,
    "constant": ...,
    "plus one": ...,
}

# %% tags=["check"]
grade.check("10-10", which_check)

# %% [markdown] tags=["hint"]
# A gradient check compares the backward with the forward *as it stands*. Of which fault was the backward derived from the
# wrong forward? Which faults change nothing but a constant?

# %% [markdown] tags=["hint"]
# The draws of $z$ are wrong in two of the five. A bound that is too low falls below NLML; one that is too high does not.

# %% [markdown] tags=["hint"]
# One of the five passes all three checks. What would see it is a second road to the value itself.

# %% tags=["solution"]
which_check = {
    "B1": "gradient",
    "B3": "bound and moments",
    "B17": "gradient, bound and moments",
    "constant": "bound",
    "plus one": "none of them",
}

# %% summary="The table, by running all of them" tags=["solution"]
print(f"{'':10}{'gradient':>10}{'bound':>10}{'moments':>10}")
for name, code in faults.items():
    found = ["passes" if check(code) else "SEES IT" for check in (gradient, bound_holds, moments)]
    print(f"{name:10}" + "".join(f"{word:>10}" for word in found))

# %% [markdown]
# B3 deserves a picture. For one data case, with $m$ at the mean of the posterior, $Q$ over the standard deviation $s$ (the same in
# all latent variables): the right one touches NLML from above at the posterior's own $s$. The faulty one dips below, by as
# much as (11.6) says. A lower "bound" looks like a better model in every table in which it is printed.

# %%
points = math.sqrt(K) * np.concatenate([np.eye(K), -np.eye(K)])[:, None, :]
precision = np.eye(K) + (W / psi) @ W.T
mean = (x - b) @ (W / psi).T @ np.linalg.inv(precision)
widths = np.linspace(0.15, 0.9, 120)
fig, ax = plt.subplots(figsize=(6.2, 3.4))
for code, title, colour, style in [
    (Right(), "Q", COLOURS[0], "-"), (B3(), "Q with s² for s in the sample", COLOURS[3], "--"),
]:
    phis = [np.concatenate([mean, np.full_like(mean, np.log(s))], axis=1) for s in widths]
    curve = [code.Q(phi, points)[0] for phi in phis]
    ax.plot(widths, curve, style, color=colour, label=title)
ax.axhline(nlml[0], color="#666666", lw=1, ls=":", label="NLML")
ax.set(xlabel="standard deviation s", ylabel="nats, of one data case")
ax.set_ylim(nlml[0] - 0.6 * K, nlml[0] + 0.8 * K)
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# Some faults are in no formula at all, and none of the three checks is about them. One published VAE (B2) takes its step of Adam
# after *every data case* rather than after the mean gradient of a minibatch: each gradient is right, the bound is right, and
# the search is another one. Another reports −ELBO/784 in a column called "ELBO" (B5). Such faults are seen by reading, and by
# running against something known. `teachvae course --break list` names more of them, and `--break B3` plants one in a copy of the
# package, for a class to find.
#
# ## 10. What is proved by what
#
# | check | says | does not say |
# |---|---|---|
# | gradient (8.1) | this backward belongs to this forward, at this point | that the forward is right |
# | random weights (11.3) | … in every output | |
# | a second road to the value | the forward is right | |
# | $Q \geq$ NLML at its lowest (11.6) | nothing is too low | whether something is too high |
# | moments of draws | samples are of $q$ | |
#
# `teachvae gradcheck` runs every gradient of the package like this, with a second road for every value.
#
# ## To try
#
# 1. Give `Logistic` a tail of your own choice: Student's t has the pull $(\nu + 1) u / (\nu + u^2)$ (5.35). Which residual pulls most?
# 2. Add `log` to the tape, and differentiate the logistic likelihood with it.
# 3. In `Dense.backward`, exchange `cache.T @ dy` for `dy.T @ cache` with as many inputs as outputs. What does `gradcheck.part` say?
# 4. At which $s$ would B3 do the least harm, and why does a VAE that is trained with it still make good pictures?

# %% [markdown]
# Next: [11 · One core, two machines](11-one-core-two-machines.ipynb). Before:
# [09 · Other variables and missing data](09-other-variables-and-missing-data.ipynb). The beginning:
# [00, start here](00-start-here.ipynb).
