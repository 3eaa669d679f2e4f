# %% [markdown]
# # 05 · Variational EM
#
# The bound $Q(\theta, \phi)$ is a function of two kinds of numbers: the model's, $\theta$, and those of the
# approximate posteriors, $\phi$. Variational EM lowers it in one kind at a time. Here we take the two steps apart
# on a model where both can be done with pencil and paper, watch $Q$ go down a staircase, see the bound touch what
# it bounds, and find the price of a $q$ that is a product of marginals. At the end the decoder becomes a network.
#
# What you need: the bound of notebook 04, and the posterior of factor analysis of notebook 02. A number in
# parentheses leads to its card, with the full derivation.
#
# First the settings. Change them and run all cells again; what the words say of results, they say of these.

# %%
cases = 200       # data cases
n_visible = 6     # their variables
K = 2             # latent variables
hidden = (16,)    # widths of the hidden layers of the neural decoder, in the last section
angle = 45        # degrees, by which the loadings are turned
rounds = 12       # rounds of variational EM that are shown
seed = 0

# %%
import warnings

import matplotlib.pyplot as plt
from matplotlib.patches import Ellipse
import numpy as np

from teachvae import VAE, FactorAnalysis, VariationalEM, datasets, grade, infer, linear_gaussian
from teachvae import plots, posteriors

plt.rcParams["figure.dpi"] = 120
plt.rcParams["axes.spines.top"] = plt.rcParams["axes.spines.right"] = False
plt.switch_backend(plt.get_backend())            # from here on a figure as the last line of a cell is shown
np.set_printoptions(precision=4, suppress=True)
BLUE, ORANGE, GREEN, RED = plots.COLOURS[:4]

# %% [markdown]
# <a id="lecture-minimise-q"></a>
#
# ## 1. One function, two kinds of arguments
#
# The task is to minimise
#
# $$
# Q(\mathcal{D}, \theta, \phi) = \sum_{n=1}^{N} Q_n(\theta, \phi_n), \qquad
# Q_n(\theta, \phi_n) = -\mathbb{E}_ {q(z \mid \phi_n)} \left[ \log p(x_n, z \mid \theta) - \log q(z \mid \phi_n) \right]
# $$
#
# over $\theta$ *and* over $\phi$ (1.5). Think of a valley: walk to the lowest point along the first axis, then to
# the lowest along the second, then along the first again. Those are the two steps (9.17):
#
# $$
# \begin{aligned}
# \text{E-step:} \quad \phi_n^{t+1} &= \mathrm{argmin}_ {\phi_n} Q_n(\theta^t, \phi_n) \qquad \text{for each } n \cr
# \text{M-step:} \quad \theta^{t+1} &= \mathrm{argmin}_ {\theta} \sum_n Q_n(\theta, \phi_n^{t+1})
# \end{aligned}
# $$
#
# *Neither can raise Q.* Where we stand is itself one of the candidates of a step, and a minimum is no higher than
# any candidate. That is the whole proof, and it holds for every model and every family of $q$.
#
# First the data, the table $\phi$, and a start. The model is linear here, $x = zW + b + \varepsilon$ with
# $\varepsilon \sim \mathcal{N}(0, \Psi)$, and $q_n = \mathcal{N}(m_n, \mathrm{diag}(s_n^2))$. The start is random, but
# for one thing: its loadings are turned, by the angle of the settings, out of the axes that would suit such a $q$.
# What that costs is a theme of this notebook.

# %%
x = datasets.linear_gaussian(n_cases=cases, n_visible=n_visible, n_latent=K, seed=seed).x
D, q = n_visible, posteriors.DiagonalGaussian(K)


def rotation(degrees):
    """R (K, K), which turns the first two latent variables; with K = 1 there is nothing to turn."""
    R, c, s = np.eye(K), np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    if K > 1:
        R[:2, :2] = [[c, s], [-s, c]]
    return R


rng = np.random.default_rng(seed)
directions, _ = np.linalg.qr(rng.standard_normal((D, K)))
strength, psi = 3.0 ** (1 - np.arange(K)), 0.5 * x.var(axis=0)
W = rotation(angle) @ (strength[:, None] * directions.T) * np.sqrt(psi)
start = W, np.zeros(D), psi                      # θ = (W, b, ψ)
prior = np.zeros((cases, 2 * K))                 # φ, a row [m | log s] per data case: here q_n = p(z)

print(f"θ: W {start[0].shape}, b {start[1].shape}, ψ {start[2].shape}")
print(f"φ: a table of {prior.shape[0]} rows and {prior.shape[1]} columns")

# %% [markdown]
# ### The expectation, with a pencil
#
# Variational EM asks that the expectation in $Q$ be computed analytically. For a linear decoder it can be. Sort
# $Q_n$ into reconstruction and price (1.7),
#
# $$
# Q_n = \mathrm{KL}(q_n \parallel p(z)) - \mathbb{E}_ {q_n}[\log p(x_n \mid z)] ,
# $$
#
# and write $z = m_n + e$, where $e$ has mean 0 and variances $s_{nk}^2$. The residual is
# $x_n - b - zW = r_n - eW$ with $r_n = x_n - b - m_n W$. Its square, weighted by $\Psi^{-1}$, has three terms:
#
# $$
# r_n \Psi^{-1} r_n^\top - 2 \thinspace e W \Psi^{-1} r_n^\top + e W \Psi^{-1} W^\top e^\top
# $$
#
# The first does not know of $e$. The second has mean 0. The third has the mean
# $\sum_k s_{nk}^2 \thinspace (W \Psi^{-1} W^\top)_ {kk}$, since $\mathbb{E}[e_k e_j]$ is $s_{nk}^2$ for $j = k$ and 0
# otherwise. With the KL of a normal $q$ (3.4) this is the bound without a sample (2.13):
#
# $$
# Q_n = \sum_k \left( \frac{m_{nk}^2 + s_{nk}^2 - 1}{2} - \log s_{nk} \right) + \frac{1}{2} \left( D \log 2\pi + \log \vert \Psi \vert + r_n \Psi^{-1} r_n^\top + \sum_k s_{nk}^2 (W \Psi^{-1} W^\top)_ {kk} \right)
# $$
#
# **What do you expect?** Suppose we draw $z$ from $q_n$ instead and average $\log q - \log p$. With a hundred times
# as many draws, how much closer does the average come to the formula?

# %%
def Q(theta, phi):
    """Q_n (N,) in closed form; the package has it as a function."""
    return linear_gaussian.bound(*theta, phi, q, x)


def log_joint(theta, z):
    """log p(x_n, z_sn) (S, N)."""
    W, b, psi = theta
    squares = np.sum((x - b - z @ W) ** 2 / psi + np.log(2 * np.pi * psi), axis=2)
    return -0.5 * squares - 0.5 * np.sum(z**2 + np.log(2 * np.pi), axis=2)


for S in (10, 1000):
    z, _ = q.sample(prior, rng.standard_normal((S, cases, K)))
    sampled = np.mean(q.log_prob(prior, z)[0] - log_joint(start, z), axis=0)
    error = sampled - Q(start, prior)
    print(f"{S:5} draws: root mean square difference {np.sqrt(np.mean(error**2)):.3f} nats per data case")

# %% [markdown]
# A hundred times the draws, a tenth of the error: the formula is what the average tends to. It needs no draws, so
# from here on $Q$ is exact.
#
# **Exercise 05-1.** Write `linear_bound(x, W, b, psi, m, s)`, which returns $Q_n$, shape (N,), by (2.13). `x` is
# (N, D), `W` (K, D), `b` and `psi` (D,); `m` and `s` are (N, K), and `s` are *standard deviations*. Every E-step
# and every M-step of this notebook is a minimum of this one function, so it is worth owning.

# %% tags=["exercise"]
def linear_bound(x, W, b, psi, m, s):
    """Q_n (N,), in nats, of a linear decoder."""
    ...

# %% tags=["check"]
grade.check("05-1", linear_bound)

# %% [markdown] tags=["hint"]
# There are two parts. One is the KL of $q_n$ to the prior, and has only $m$ and $s$ in it. The other is minus the
# expected log likelihood.

# %% [markdown] tags=["hint"]
# In the second part the residual is that of the mean code, `r = x - b - m @ W`. Beside its square stands how much
# the decoder makes of the spread of $q$: `s**2` times the diagonal of $W \Psi^{-1} W^\top$, summed over $k$.

# %% [markdown] tags=["hint"]
# `(W**2 / psi).sum(axis=1)` is that diagonal, (K,). So `s**2 @ (W**2 / psi).sum(axis=1)` is the spread term, (N,).
# All other sums run over `axis=1`, too: over the variables of one data case.

# %% [markdown] tags=["solution"]
# One line per part of (2.13).

# %% tags=["solution"]
def linear_bound(x, W, b, psi, m, s):
    """Q_n (N,), in nats, of a linear decoder."""
    r = x - b - m @ W
    kl = np.sum((m**2 + s**2 - 1) / 2 - np.log(s), axis=1)
    spread = s**2 @ np.sum(W**2 / psi, axis=1)
    return kl + 0.5 * (np.sum(np.log(2 * np.pi * psi) + r**2 / psi, axis=1) + spread)

# %% [markdown]
# <a id="lecture-e-step"></a>
#
# ## 2. The E-step: each data case for itself
#
# $\theta$ is held fixed. In $\sum_n Q_n(\theta, \phi_n)$ each $\phi_n$ stands in one term only, so the search over
# the whole table falls apart into $N$ small ones.
#
# **What do you expect?** We change the first row of the table. How many of the $Q_n$ change?

# %%
changed = prior.copy()
changed[0] += 0.5
difference = Q(start, changed) - Q(start, prior)
print(f"of {cases} values Q_n, {np.count_nonzero(difference)} changed")

# %% [markdown]
# What is the best row? Use the third way to sort the bound, by the posterior (1.6):
#
# $$
# Q_n(\theta, \phi_n) = nlml_n(\theta) + \mathrm{KL}(q(z \mid \phi_n) \parallel p(z \mid x_n, \theta))
# $$
#
# The first term has no $\phi_n$. So *the E-step looks for the $q$ that is closest to the posterior*, and it can do
# so without knowing the posterior, because $Q_n$ never asks for it. Here we do know it: normal, with the precision
# $M = I + W \Psi^{-1} W^\top$ (2.2) and a mean $m_n^{\ast}$ that is linear in $x_n$ (2.3). Twice the KL between the
# two Gaussians is
#
# $$
# \sum_k \left( M_{kk} s_{nk}^2 - \log s_{nk}^2 \right) + (m_n - m_n^{\ast}) M (m_n - m_n^{\ast})^\top - K - \log \vert M \vert .
# $$
#
# The square is least, 0, at $m_n = m_n^{\ast}$. Each summand of the first sum has the derivative
# $M_{kk} - 1/s_{nk}^2$ in $s_{nk}^2$, which vanishes at $s_{nk}^2 = 1/M_{kk}$. Hence the E-step in closed form (2.10):
#
# $$
# m_n = m_n^{\ast} = (x_n - b) \Psi^{-1} W^\top M^{-1}, \qquad s_{nk} = \frac{1}{\sqrt{M_{kk}}}
# $$
#
# The picture shows $Q_1$ of the first data case over the mean and the width of its first latent variable. The other
# entries of the row stand at their best.

# %%
def e_step(theta):
    """The table φ (N, 2K) with the least Q for this θ, in closed form."""
    mean, M = linear_gaussian.posterior(*theta, x)
    return q.closest(mean, M)


phi = e_step(start)
m_axis, s_axis = phi[0, 0] + np.linspace(-1.5, 1.5, 61), phi[0, K] + np.linspace(-1.5, 1.5, 61)
height = np.empty((61, 61))
for i, log_s in enumerate(s_axis):
    for j, m in enumerate(m_axis):
        row = phi[:1].copy()
        row[0, 0], row[0, K] = m, log_s
        height[i, j] = linear_gaussian.bound(*start, row, q, x[:1])[0]

fig, ax = plt.subplots(figsize=(5.6, 3.8))
levels = [0.05, 0.2, 0.5, 1, 2, 4, 8]
lines = ax.contour(m_axis, s_axis, height - height.min(), levels, colors="#666666", linewidths=1)
ax.clabel(lines, fmt="%g", fontsize=7)
ax.plot(phi[0, 0], phi[0, K], "*", ms=14, color=RED, label="the closed form")
ax.set(xlabel="mean $m_{11}$", ylabel="log $s_{11}$", title="$Q_1$ in nats above its least value")
ax.legend(framealpha=1, edgecolor="white")
plt.show()

# %% [markdown]
# The star sits at the bottom. Notice the shape: the valley is steep towards large $s$, where $q$ reaches places
# that the posterior excludes, and gentle towards small $s$, where only entropy is lost. Mean and width have straight
# axes here because no term of $Q_n$ holds both.
#
# **Exercise 05-2.** Write the E-step: `mean_field_e_step(x, W, b, psi)` returns the dict `{"m": m, "s": s}`, both
# (N, K), with the least $Q$. The check does not compare with a formula. It asks whether $Q$ still goes down
# anywhere from your answer.

# %% tags=["exercise"]
def mean_field_e_step(x, W, b, psi):
    """{"m": (N, K), "s": (N, K)} with the least Q for this θ."""
    ...
    return {"m": ..., "s": ...}

# %% tags=["check"]
grade.check("05-2", mean_field_e_step)

# %% [markdown] tags=["hint"]
# You need the matrix $M = I + W \Psi^{-1} W^\top$, (K, K). $\Psi$ is diagonal, so $W \Psi^{-1}$ is `W / psi`.

# %% [markdown] tags=["hint"]
# The means solve $m_n M = (x_n - b) \Psi^{-1} W^\top$, for all data cases at once. The widths need only the diagonal
# of $M$, and are the same for every data case.

# %% [markdown] tags=["hint"]
# `np.linalg.solve(M, rhs.T).T` with `rhs = (x - b) @ (W / psi).T` are the means, since $M$ is symmetric.
# `np.diag(M)` is (K,); a root and a reciprocal later, repeat it for every data case, so that `s` is (N, K).

# %% [markdown] tags=["solution"]
# The posterior's own mean, and a width that looks at the diagonal of $M$ alone.

# %% tags=["solution"]
def mean_field_e_step(x, W, b, psi):
    """{"m": (N, K), "s": (N, K)} with the least Q for this θ."""
    M = np.eye(len(W)) + (W / psi) @ W.T
    m = np.linalg.solve(M, (W / psi) @ (x - b).T).T
    s = np.ones_like(m) / np.sqrt(np.diag(M))
    return {"m": m, "s": s}

# %% [markdown]
# ### One coordinate at a time
#
# To solve for all means of a data case at once we needed to invert $M$. Mean field can also be done as it is in
# larger models: take one $m_{nk}$, hold the others, move to the least $Q_n$, take the next. The derivative of the
# square above in $m_{nk}$ is $2 \sum_j (m_{nj} - m_{nj}^{\ast}) M_{jk}$. Set it to 0, and use
# $\sum_j m_{nj}^{\ast} M_{jk} = ((x_n - b) \Psi^{-1} W^\top)_ k$:
#
# $$
# m_{nk} \leftarrow \frac{1}{M_{kk}} \left( \left( (x_n - b) \Psi^{-1} W^\top \right)_ k - \sum_{j \neq k} m_{nj} M_{jk} \right)
# $$
#
# The sum is what the other latent variables explain already. $1/M_{kk}$ is the variance of $z_k$ once the others
# are known (9.18), and turns up again in section 6.
#
# **What do you expect?** We start off the posterior mean, by two standard deviations of the second latent variable.
# In how many moves does a data case with two latent variables arrive?

# %%
W, b, psi = start
M, pull = np.eye(K) + (W / psi) @ W.T, (x[0] - b) @ (W / psi).T
best = np.linalg.solve(M, pull)                  # the posterior mean
m = best + 2 * np.sqrt(np.diag(np.linalg.inv(M))) * (np.arange(K) == min(1, K - 1))
path = [m]
for move in range(6 * K):
    k = move % K
    m = m.copy()
    m[k] = (pull[k] - m @ M[:, k] + m[k] * M[k, k]) / M[k, k]
    path.append(m)
path = np.array(path)

if K == 1:
    print(f"With K = 1 there is one coordinate: {path[1]} after one move, the posterior mean is {best}.")
else:
    reach = 1.2 * np.abs(path[:, :2] - best[:2]).max()
    axes = [best[k] + np.linspace(-reach, reach, 81) for k in (0, 1)]
    offset = np.zeros((81, 81, K))
    offset[..., 0], offset[..., 1] = np.meshgrid(*axes)
    offset[..., :2] -= best[:2]
    height = 0.5 * np.einsum("abj,jk,abk->ab", offset, M, offset)
    fig, ax = plt.subplots(figsize=(5.2, 4.4))
    ax.contour(*axes, height, [0.1, 0.5, 2, 5, 10, 20, 40], colors="#999999", linewidths=1)
    ax.plot(path[:, 0], path[:, 1], "o-", ms=3.5, lw=1.3, color=BLUE, label="one coordinate at a time")
    ax.plot(*best[:2], "*", ms=14, color=RED, label="the posterior mean")
    ax.set(xlabel="$m_{11}$", ylabel="$m_{12}$", aspect="equal", title="Contours of $Q_1$")
    ax.legend(framealpha=1, edgecolor="white")
    plt.show()
    left = np.linalg.norm(path - best, axis=1)
    print(f"distance to the posterior mean: {left[0]:.3f} at the start, {left[K]:.3f} after one sweep, "
          f"{left[-1]:.3f} at the end")

# %% [markdown]
# It never quite arrives: each sweep leaves a fixed share of the distance. The more slanted the ellipse, the more
# the coordinates have to wait for each other. (With `angle = 0` nothing slants, and one sweep is enough.) Remember this picture. Variational EM as a whole does the same with
# $\phi$ and $\theta$ in place of $m_{11}$ and $m_{12}$.
#
# **Exercise 05-3.** Write one such move for all data cases: `coordinate_update(x, W, b, psi, m, k)` returns a new
# `m`, (N, K), whose column `k` is at the least $Q$ while the other columns stay. Leave the argument `m` as it is.

# %% tags=["exercise"]
def coordinate_update(x, W, b, psi, m, k):
    """m (N, K) with column k moved to the least Q, the others as they are."""
    ...

# %% tags=["check"]
grade.check("05-3", coordinate_update)

# %% [markdown] tags=["hint"]
# Take off the data what $b$ and the *other* latent variables explain. What is left is a problem with one latent
# variable.

# %% [markdown] tags=["hint"]
# Copy first: `m = m.copy()`. What the others explain is `m @ W` less the part of column `k`,
# `np.outer(m[:, k], W[k])`.

# %% [markdown] tags=["hint"]
# With `r = x - b - m @ W + np.outer(m[:, k], W[k])` the new column is `r @ (W[k] / psi)` divided by
# `1 + np.sum(W[k]**2 / psi)`.

# %% tags=["solution"]
def coordinate_update(x, W, b, psi, m, k):
    """m (N, K) with column k moved to the least Q, the others as they are."""
    r = x - b - m @ W + np.outer(m[:, k], W[k])
    m = m.copy()
    m[:, k] = r @ (W[k] / psi) / (1 + np.sum(W[k] ** 2 / psi))
    return m

# %% [markdown]
# <a id="lecture-m-step"></a>
#
# ## 3. The M-step: a regression on codes that are not known
#
# Now $\phi$ is held fixed. In $Q$ only $-\mathbb{E}_ q[\log p(x_n \mid z)]$ has $W$, $b$ and $\Psi$ in it:
#
# $$
# \sum_{d=1}^{D} \left( \frac{N}{2} \log 2\pi\psi_d + \frac{1}{2\psi_d} \sum_n \mathbb{E}_ {q_n}\left[ (x_{nd} - b_d - z W_d)^2 \right] \right)
# $$
#
# where $W_d$ is column $d$ of $W$. Whatever $\psi_d$ is, its $W_d$ and $b_d$ minimise a sum of squares: a linear
# regression of $x_d$ on $z$ and a constant. But $z$ is not known. What is known are its moments under $q$, and they
# are all that a regression asks for. With $\tilde{z} = (z, 1)$ and $\mathbb{E}$ over the data and over $q$ (2.11):
#
# $$
# \begin{pmatrix} W \cr b \end{pmatrix} = \mathbb{E}[\tilde{z}^\top \tilde{z}]^{-1} \thinspace \mathbb{E}[\tilde{z}^\top x], \qquad
# \mathbb{E}[z^\top z] = \frac{1}{N} \sum_n \left( m_n^\top m_n + \mathrm{diag}(s_n^2) \right)
# $$
#
# Then each $\psi_d$ minimises $\frac{1}{2} \log \psi_d + v_d / 2\psi_d$, where $v_d$ is the expected squared residual
# (2.12). The derivative vanishes at $\psi_d = v_d$.
#
# **What do you expect?** After the M-step we move $\theta$ at random, two hundred times, by a few per cent. How
# often does $Q$ fall?

# %%
def m_step(phi):
    """θ = (W, b, ψ) with the least Q for this table, in closed form."""
    return linear_gaussian.m_step(linear_gaussian.statistics(q, phi, x))


theta = m_step(phi)
rises = []
for _ in range(200):
    moved = [part * (1 + 0.03 * rng.standard_normal(part.shape)) for part in theta]
    rises.append(Q(moved, phi).mean() - Q(theta, phi).mean())
print(f"mean Q: {Q(start, phi).mean():.4f} before the M-step, {Q(theta, phi).mean():.4f} after it")
lower = sum(rise < 0 for rise in rises)
print(f"of 200 random moves {lower} go lower; the least rise is {min(rises):.1e} nats")

# %% [markdown]
# No move goes lower, as it should be at a minimum. The term $\mathrm{diag}(s_n^2)$ deserves a second look. A common
# program computes the codes $m_n$ and regresses on them, as if they were $z$.
#
# **What do you expect** of its $\psi$: too large or too small? And of its $W$?

# %%
as_if_known = phi.copy()
as_if_known[:, K:] = -40.0                       # s = 0: the means are taken for the truth
forgetful = m_step(as_if_known)
print(f"mean Q: {Q(theta, phi).mean():.4f} with s², {Q(forgetful, phi).mean():.4f} without")
sizes = [np.linalg.norm(found[0]) for found in (forgetful, theta)]
print(f"size of W without s²: {sizes[0] / sizes[1]:.3f} times what it should be")
print(f"sum of ψ without s²:  {forgetful[2].sum() / theta[2].sum():.3f} times what it should be")

# %% [markdown]
# The noise $\psi$ is too small, since the noise of the codes is not counted. $W$ is too large: the means $m_n$ scatter
# less than $z$ does, so their loadings have to stretch. Repeated, the mistake grows, until some noise variance is at 0.
#
# **Exercise 05-4.** Write the M-step: `m_step_of_q(x, m, s)` returns the dict `{"W": W, "b": b, "psi": psi}`, of
# shapes (K, D), (D,) and (D,), with the least $\sum_n Q_n$ for this table. The check looks for a direction in which
# $Q$ still falls.

# %% tags=["exercise"]
def m_step_of_q(x, m, s):
    """{"W": (K, D), "b": (D,), "psi": (D,)} with the least Q for this table."""
    Z = np.hstack([m, np.ones((len(m), 1))])     # (N, K + 1), the means with a place for the constant
    ...
    return {"W": ..., "b": ..., "psi": ...}

# %% tags=["check"]
grade.check("05-4", m_step_of_q)

# %% [markdown] tags=["hint"]
# Write $\sum_n \mathbb{E}[\tilde{z}^\top \tilde{z}]$ as a matrix with K + 1 rows. Its first part is `Z.T @ Z`. Which
# of its entries does the spread of $q$ change?

# %% [markdown] tags=["hint"]
# `A = Z.T @ Z`, and the first K entries of its diagonal get $\sum_n s_{nk}^2$ on top; the constant has no spread.
# Then `G = np.linalg.solve(A, Z.T @ x)`, whose last row is $b$.

# %% [markdown] tags=["hint"]
# $\psi_d$ is the mean over the data of the squared residual of the mean code plus $\sum_k s_{nk}^2 W_{kd}^2$:
# `((x - Z @ G)**2 + s**2 @ G[:-1]**2).mean(axis=0)`.

# %% [markdown] tags=["solution"]
# The spread enters twice, in $\mathbb{E}[z^\top z]$ and in $\psi$.

# %% tags=["solution"]
def m_step_of_q(x, m, s):
    """{"W": (K, D), "b": (D,), "psi": (D,)} with the least Q for this table."""
    Z = np.hstack([m, np.ones((len(m), 1))])
    A = Z.T @ Z + np.diag(np.append(np.sum(s**2, axis=0), 0))
    G = np.linalg.solve(A, Z.T @ x)
    W, b = G[:-1], G[-1]
    psi = np.mean((x - Z @ G) ** 2 + s**2 @ W**2, axis=0)
    return {"W": W, "b": b, "psi": psi}

# %% [markdown]
# ## 4. In turn: the staircase
#
# E-step, M-step, E-step, M-step. We note $Q$ after every half-step, and beside it the mean NLML of the same
# $\theta$, which for this model is known.

# %%
theta, phi = start, prior
half_steps, nlml = [Q(theta, phi).mean()], [linear_gaussian.nlml(*theta, x).mean()]
for t in range(rounds):
    phi = e_step(theta)
    half_steps.append(Q(theta, phi).mean())
    nlml.append(nlml[-1])                        # an E-step leaves θ where it is
    theta = m_step(phi)
    half_steps.append(Q(theta, phi).mean())
    nlml.append(linear_gaussian.nlml(*theta, x).mean())

for t in range(min(3, rounds)):
    E, A = half_steps[2 * t + 1], half_steps[2 * t + 2]
    print(f"round {t + 1}: Q {half_steps[2 * t]:.4f} → E-step → {E:.4f} → M-step → {A:.4f}")
print(f"largest rise in {2 * rounds} half-steps: {max(0.0, np.max(np.diff(half_steps))):.1e}")

# %%
fig, ax = plt.subplots(figsize=(7, 3.6))
shown = min(rounds, 6)
places = np.arange(2 * shown + 2) / 2
for i in range(2 * shown):
    colour, style, name = (BLUE, "-", "E-step") if i % 2 == 0 else (ORANGE, (0, (1.2, 0.5)), "M-step")
    ax.plot([places[i + 1]] * 2, half_steps[i : i + 2], color=colour, ls=style, lw=4,
            solid_capstyle="butt", dash_capstyle="butt", label=name if i < 2 else None)
    ax.plot(places[i : i + 2], [half_steps[i]] * 2, color="#666666", lw=1, label=None if i else "Q")
ax.hlines(nlml[: 2 * shown], places[:-2], places[1:-1], color="black", ls=":", label="NLML of the same θ")
ax.set(xlabel="round", ylabel="mean nats per data case", xticks=range(shown + 1))
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# A staircase that never rises. An E-step brings $Q$ down towards the dotted line and leaves that line where it is.
# An M-step lowers both. The steps become short long before the end: that is the zigzag of section 2 again, in more
# dimensions.

# %% [markdown]
# ### The bound touches
#
# Why does lowering $Q$ lower what we are after? Look along one direction of $\theta$: the size of the loadings. We
# put $w \cdot W$ in the place of $W$, with $W$ the loadings of the best fit in a rotation where the posterior *is* a
# product of marginals, and draw the NLML against $w$. ($\Psi$ is held at a larger value than the best, since steps
# are longer where there is more noise.) For each $q$ that was made at some $w_t$ the bound is a parabola in $w$. It
# lies above the NLML everywhere, and touches it at $w_t$, where its slope is the same (1.36).

# %%
fa = FactorAnalysis(K, random_state=seed).fit(x)
W_best, b_best, psi_best = fa.components_, fa.mean_, fa.noise_variance_
noisy = x.var(axis=0)


def scaled(w):
    """θ with loadings of the size w."""
    return w * linear_gaussian.canonical(W_best, noisy), b_best, noisy


sizes = np.linspace(0.02, 1.0, 99)
truth = np.array([linear_gaussian.nlml(*scaled(w), x).mean() for w in sizes])
fig, ax = plt.subplots(figsize=(6.4, 3.8))
ax.plot(sizes, truth, color="black", lw=2, label="NLML")
w = 0.12
for t, colour in zip(range(4), (BLUE, ORANGE, GREEN, RED)):
    phi_w = e_step(scaled(w))                                      # E-step at this w
    parabola = np.array([Q(scaled(v), phi_w).mean() for v in sizes])
    style = ("-", "--", "-.", ":")[t]
    ax.plot(sizes, parabola, color=colour, lw=1.3, ls=style, label=f"Q, with q made at w = {w:.2f}")
    ax.plot(w, Q(scaled(w), phi_w).mean(), "o", color=colour, ms=5)
    a, c, e = (Q(scaled(v), phi_w).mean() for v in (0, 1, 2))
    lowest = (3 * a - 4 * c + e) / (2 * (a - 2 * c + e))           # M-step: the vertex of the parabola
    ax.plot(lowest, Q(scaled(lowest), phi_w).mean(), "x", color=colour, ms=7)
    w = lowest
ax.set(xlabel="size w of the loadings", ylabel="mean nats per data case",
       ylim=(truth.min() - 0.1, truth.min() + 2.2 * (truth[0] - truth.min())))
ax.legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# At a dot the E-step has made the bound touch. The cross is the M-step, the lowest point of that bound. There the
# NLML has fallen *at least* as much as $Q$, since it lies below it and started at the same height:
#
# $$
# nlml(\theta^{t+1}) \leq Q(\theta^{t+1}, \phi^{t+1}) \leq Q(\theta^t, \phi^{t+1}) = nlml(\theta^t)
# $$
#
# The last sign is an equality only where the bound touches. How close it comes is the next question.

# %% [markdown]
# <a id="lecture-tightness"></a>
#
# ## 5. How tight is the bound?
#
# Split the joint density the other way, $p(x_n, z) = p(x_n) \thinspace p(z \mid x_n)$, and take $\log p(x_n)$, which has
# no $z$, out of the expectation:
#
# $$
# \begin{aligned}
# Q &= -\sum_n \mathbb{E}_ {q_n}\left[ \log p(x_n) + \log p(z \mid x_n) - \log q(z \mid \phi_n) \right] \cr
# &= -\sum_n \log p(x_n) + \sum_n \mathbb{E}_ {q_n}\left[ \log \frac{q(z \mid \phi_n)}{p(z \mid x_n)} \right] \cr
# &= nlml(\mathcal{D}, \theta) + \sum_n \mathrm{KL}(q(z \mid \phi_n) \parallel p(z \mid x_n, \theta))
# \end{aligned}
# $$
#
# That is (1.6), summed. What the bound misses is a KL for each data case, never negative, and 0 only where $q_n$ is
# the posterior. (On the lecture's slide the expectation is of $\log p(z \mid x_n) - \log q$, which is minus the KL,
# and its sum has a minus in front: the two cancel.)
#
# An identity between three numbers can be tested if each of them is computed on its own road: the NLML from the
# covariance of $x$ (2.6), the KL between two Gaussians (2.10), and $Q_n$ by (2.13).

# %%
def kl_to_posterior(theta, phi):
    """KL(q_n ‖ p(z|x_n)) (N,), from means and covariances alone."""
    mean, M = linear_gaussian.posterior(*theta, x)
    m, C = q.mean(phi), q.covariance(phi)
    square = np.sum((m - mean) @ M * (m - mean), axis=1)
    log_dets = np.linalg.slogdet(M)[1] + np.linalg.slogdet(C)[1]
    return 0.5 * (np.sum(M * C, axis=(1, 2)) - K + square - log_dets)


stages = {"q is the prior": prior, "after an E-step": e_step(start)}
nlml_n = linear_gaussian.nlml(*start, x)
for title, table in stages.items():
    kl_n, Q_n = kl_to_posterior(start, table), Q(start, table)
    print(f"{title}:\n{'n':>4}{'nlml_n':>10}{'KL_n':>10}{'sum':>10}{'Q_n':>10}")
    for n in range(4):
        print(f"{n:4}{nlml_n[n]:10.4f}{kl_n[n]:10.4f}{nlml_n[n] + kl_n[n]:10.4f}{Q_n[n]:10.4f}")
    print(f"   largest difference of all data cases: {np.abs(nlml_n + kl_n - Q_n).max():.0e}\n")

# %%
shown = np.arange(min(8, cases))
fig, axes = plt.subplots(1, 2, figsize=(7, 3.3), sharey=True)
for ax, (title, table) in zip(axes, stages.items()):
    base = nlml_n[shown].min() - 1               # the bars do not begin at 0
    ax.bar(shown, nlml_n[shown] - base, bottom=base, color="#BBBBBB", label="$nlml_n$")
    ax.bar(shown, kl_to_posterior(start, table)[shown], bottom=nlml_n[shown], color=ORANGE, hatch="//",
           edgecolor="white", label="$KL(q_n \\parallel p(z|x_n))$")
    ax.plot(shown, Q(start, table)[shown], "_", ms=16, mew=2, color="black", label="$Q_n$")
    ax.set(title=title, xlabel="data case n", xticks=shown)
axes[0].set_ylabel("nats")
fig.legend(*axes[0].get_legend_handles_labels(), frameon=False, ncols=3, loc="lower center", fontsize=9)
fig.tight_layout(rect=(0, 0.08, 1, 1))
plt.show()

# %% [markdown]
# Left, a $q$ that has not seen the data: the KL differs from case to case. Right, after the E-step, a remainder is
# left, *the same for every data case*. That is what our family cannot do. Where it can represent the posterior for
# every $n$, the bound is perfectly tight. A Gaussian with a full covariance can:

# %%
full = posteriors.FullGaussian(K)
mean, M = linear_gaussian.posterior(*start, x)
Q_full = linear_gaussian.bound(*start, full.closest(mean, M), full, x)
print(f"largest gap of a data case: {np.abs(Q_full - nlml_n).max():.0e} nats with a full covariance, "
      f"{np.abs(Q(start, e_step(start)) - nlml_n).max():.3f} with a diagonal one")

# %% [markdown]
# **Exercise 05-5.** Write `kl_q_to_posterior(m, s, mean, M)`, which returns
# $\mathrm{KL}(q_n \parallel p(z \mid x_n))$, (N,), between the diagonal Gaussian with means `m` and standard deviations
# `s`, (N, K) each, and the posterior with means `mean` (N, K) and the *precision* `M` (K, K), the same for all. It is
# the first line of (2.10), and with it one can certify any bound of a linear model.

# %% tags=["exercise"]
def kl_q_to_posterior(m, s, mean, M):
    """KL(N(m_n, diag s_n²) ‖ N(mean_n, M⁻¹)) (N,), in nats."""
    ...

# %% tags=["check"]
grade.check("05-5", kl_q_to_posterior)

# %% [markdown] tags=["hint"]
# It is the mean of $\log q - \log p$ under $q$. Twice each log density has a log-determinant and a square; what are
# the means of the two squares?

# %% [markdown] tags=["hint"]
# The square of $q$ itself has mean $K$. That of $p$ has the mean $\mathrm{tr}(M C_n) + d_n M d_n^\top$, with
# $d_n = m_n - m_n^{\ast}$ the difference of the means and $C_n = \mathrm{diag}(s_n^2)$, so the trace is
# $\sum_k M_{kk} s_{nk}^2$.

# %% [markdown] tags=["hint"]
# With `d = m - mean`: the trace is `s**2 @ np.diag(M)`, the square `np.sum(d @ M * d, axis=1)`, the determinants
# `np.linalg.slogdet(M)[1]` and `2 * np.log(s).sum(axis=1)`, both with a minus. Then half of it all, less $K/2$.

# %% tags=["solution"]
def kl_q_to_posterior(m, s, mean, M):
    """KL(N(m_n, diag s_n²) ‖ N(mean_n, M⁻¹)) (N,), in nats."""
    d = m - mean
    trace, square = s**2 @ np.diag(M), np.sum(d @ M * d, axis=1)
    return 0.5 * (trace - len(M) + square - np.linalg.slogdet(M)[1]) - np.sum(np.log(s), axis=1)

# %% [markdown]
# <a id="lecture-mean-field"></a>
#
# ## 6. Mean field, and its price
#
# The classical simple family is a product of marginals, $q(z \mid \phi_n) = \prod_k q(z_k \mid \phi_n)$: the
# *variational mean field* approximation. It cannot follow a posterior whose axes are tilted. At its best, by section
# 2, $\mathrm{tr}(M C) = \sum_k M_{kk} / M_{kk} = K$, and of the KL there is left (2.10)
#
# $$
# Q_n - nlml_n = \frac{1}{2} \left( \sum_{k=1}^{K} \log M_{kk} - \log \vert M \vert \right) \geq 0 .
# $$
#
# There is no $x_n$ in it: hence the same remainder for every data case. It is 0 exactly where $M$ is diagonal.
#
# To see it we take the best fit of factor analysis and turn its first two loadings by the angle of the settings.
# $W^\top W$, and so $p(x)$, stays what it was (2.35).

# %%
def turned(degrees):
    """The best fit with the first two latent variables turned: (R W, b, ψ)."""
    return rotation(degrees) @ linear_gaussian.canonical(W_best, psi_best), b_best, psi_best


def ellipse(ax, mean, cov, **style):
    """The region that holds 90 % of a Gaussian in the plane."""
    values, vectors = np.linalg.eigh(cov)
    width, height = 2 * np.sqrt(-2 * np.log(0.1) * values)
    ax.add_patch(Ellipse(mean, width, height, angle=np.degrees(np.arctan2(*vectors[::-1, 0])), **style))


if K == 1:
    print("With K = 1 there is nothing to turn, and mean field misses nothing.")
else:
    fig, axes = plt.subplots(1, 2, figsize=(7, 3.7), sharex=True, sharey=True)
    for ax, degrees in zip(axes, (0, angle)):
        mean, M = linear_gaussian.posterior(*turned(degrees), x[:1])
        cov = np.linalg.inv(M)[:2, :2]
        ellipse(ax, mean[0, :2], cov, color="#BBBBBB", label="the posterior")
        ellipse(ax, mean[0, :2], np.diag(1 / np.diag(M)[:2]), fill=False, ec=RED, lw=2,
                label="the best product of marginals")
        ax.set(title=f"loadings turned by {degrees}°", xlabel="$z_1$", aspect="equal")
        ax.autoscale_view()
    axes[0].set_ylabel("$z_2$")
    fig.legend(*axes[0].get_legend_handles_labels(), frameon=False, ncols=2, loc="lower center")
    fig.tight_layout(rect=(0, 0.08, 1, 1))
    plt.show()

# %% [markdown]
# Each region holds 90 % of its density. Unturned, the two are one. Turned, $q$ has the right mean and is *too
# narrow* in every $z_k$: it does not reach the ends of the grey ellipse. The KL averages under $q$, so it charges $q$
# dearly for standing where the posterior is small, and hardly for leaving out a place where it is large. A $q$
# without correlations stays off the empty sides of a slanted ellipse only by being small. In numbers (9.18): mean
# field takes the variance of $z_k$ *given all other latent variables* for that of $z_k$,
#
# $$
# s_k^2 = \frac{1}{M_{kk}} = \mathrm{Var}[z_k \mid z_j, \thinspace j \neq k, \thinspace x_n] \leq \mathrm{Var}[z_k \mid x_n] = (M^{-1})_ {kk} .
# $$
#
# With two latent variables one number tells all of it, the correlation $\rho$ of the two under the posterior (9.19):
# the variance shrinks by the factor $1 - \rho^2$, and the price is $-\frac{1}{2} \log(1 - \rho^2)$ nats.
#
# **What do you expect** of the price as a function of the angle? Where is it largest, where is it 0?

# %%
if K == 1:
    print("With K = 1 the price is 0 at every angle.")
else:
    angles = np.arange(0, 181, 5)
    price = [linear_gaussian.mean_field_gap(*turned(a)[::2]) for a in angles]
    few = angles[::6]
    measured = [Q(turned(a), e_step(turned(a))) - linear_gaussian.nlml(*turned(a), x) for a in few]
    fig, ax = plt.subplots(figsize=(6, 3.2))
    ax.plot(angles, price, color=BLUE, label="the formula")
    ax.plot(few, [gap.mean() for gap in measured], "o", color=RED, label="$Q_n - nlml_n$, measured")
    ax.set(xlabel="angle in degrees", ylabel="nats per data case", xticks=range(0, 181, 45),
           ylim=(-0.05 * max(price), 1.3 * max(price)))
    ax.legend(frameon=False, ncols=2, loc="upper center")
    plt.show()
    M = linear_gaussian.precision(*turned(angle)[::2])
    cov = np.linalg.inv(M)
    gap = Q(turned(angle), e_step(turned(angle))) - linear_gaussian.nlml(*turned(angle), x)
    print(f"at {angle}°: Q − nlml from {gap.min():.10f} to {gap.max():.10f} nats, over {cases} data cases")
    print(f"standard deviation of z_1: {np.sqrt(cov[0, 0]):.4f} under the posterior, "
          f"{M[0, 0] ** -0.5:.4f} under q")
    if K == 2:
        rho = cov[0, 1] / np.sqrt(cov[0, 0] * cov[1, 1])
        print(f"correlation ρ = {rho:.4f}, and −½ log(1 − ρ²) = {-0.5 * np.log(1 - rho**2):.10f}")

# %% [markdown]
# **Exercise 05-6.** Write `gap_of_turned(W, psi, R)`: what the best mean field $q$ misses, one number in nats, where
# the loadings `W` (K, D) have been turned by the rotation `R` (K, K) into `R @ W`. `psi` is (D,). Then try it on
# loadings of your own: can a turn ever *lower* the gap of what `FactorAnalysis` gives?

# %% tags=["exercise"]
def gap_of_turned(W, psi, R):
    """Q_n − nlml_n of the best diagonal q for the loadings R W, one number in nats."""
    ...

# %% tags=["check"]
grade.check("05-6", gap_of_turned)

# %% [markdown] tags=["hint"]
# First the precision of the posterior for the *turned* loadings. The formula then needs its diagonal and its
# determinant.

# %% [markdown] tags=["hint"]
# `V = R @ W` and $M = I + V \Psi^{-1} V^\top$. The determinant of $M$ is the same for every $R$; its diagonal is not.

# %% [markdown] tags=["hint"]
# `0.5 * (np.sum(np.log(np.diag(M))) - np.linalg.slogdet(M)[1])`.

# %% tags=["solution"]
def gap_of_turned(W, psi, R):
    """Q_n − nlml_n of the best diagonal q for the loadings R W, one number in nats."""
    V = R @ W
    M = np.eye(len(V)) + (V / psi) @ V.T
    return 0.5 * (np.sum(np.log(np.diag(M))) - np.linalg.slogdet(M)[1])

# %% [markdown]
# ### A turn that closes the gap
#
# The tilt is no property of the data. They know $W^\top W$ alone, so the model may choose its axes, and $Q$ is least
# where $M$ is diagonal: there the posterior *is* a product of marginals. So mean field loses nothing in the end. But
# E- and M-steps by themselves find that rotation very slowly, each holding on to the axes of the other. After each
# M-step the best rotation is known in closed form (2.28), a third coordinate of the descent. `VariationalEM` takes
# it.

# %%
S_x = np.cov(x.T, bias=True)
W, psi, plain = start[0], start[2], []
for t in range(1000):                            # E- and M-steps alone, from the data's covariance
    statistics, mean_Q = linear_gaussian.e_step_moments(W, psi, S_x, q)
    plain.append(float(mean_Q))
    W, _, psi = linear_gaussian.m_step(statistics)

vem = VariationalEM(K, hidden=(), random_state=seed).fit(x)
best = fa.nlml_path_[-1]
fig, ax = plt.subplots(figsize=(7, 3.4))
for title, path, colour, style in [
    ("E- and M-steps alone: Q", np.array(plain), ORANGE, "-"),
    ("with the turn: Q", vem.q_path_, BLUE, "--"),
    ("factor analysis by EM: NLML", fa.nlml_path_, "black", ":"),
]:
    ax.plot(np.arange(1, len(path) + 1), np.maximum(path - best, 1e-8), color=colour, ls=style, label=title)
ax.set(xscale="log", yscale="log", xlabel="round", ylabel="nats above the optimum", ylim=(1e-8, 1e2))
ax.legend(frameon=False)
plt.show()
print(f"after {len(plain)} rounds without the turn: {plain[-1] - best:.1e} nats above the optimum")
print(f"with it: {vem.n_iter_} rounds, {vem.q_path_[-1] - best:.0e} nats")
print("W Ψ⁻¹ Wᵀ at the end:")
W, psi = vem.theta_["decoder"][0]["W"], vem.noise_variance_
print(np.round((W / psi) @ W.T, 4) + 0.0)

# %% [markdown]
# With the turn the table ends where the closed form of factor analysis ends, on the same number: the last matrix is
# diagonal. (Both also lengthen their steps, (2.26), which spares most of the rounds.)
#
# One warning belongs here. With a family that can not represent the posterior the chain of section 4 has a gap in
# its last link. $Q$ still never rises, but the NLML *may*.
#
# **What do you expect?** We start mean field at the very maximum of the likelihood, in axes that do not suit it, and
# do ordinary E- and M-steps.

# %%
theta = turned(angle)
first = Q(theta, e_step(theta)).mean(), linear_gaussian.nlml(*theta, x).mean()
for t in range(rounds):
    theta = m_step(e_step(theta))
last = Q(theta, e_step(theta)).mean(), linear_gaussian.nlml(*theta, x).mean()
print(f"in {rounds} rounds mean Q changed by {last[0] - first[0]:+.6f} nats, "
      f"mean NLML by {last[1] - first[1]:+.6f}")

# %% [markdown]
# The bound fell, and the NLML had nowhere to go but up. (With $K = 1$ there are no axes, and neither moves.) The model is
# drawn to where its posterior is easy for the family: this is the *bias* of which the lecture speaks (1.37).

# %% [markdown]
# ### The same on digits
#
# Is any of this visible on real data? The 8×8 digits have 64 variables. On held-out images we measure what factor
# analysis loses by the turn. The ledger of `gaps` has a row of its own for what a diagonal $q$ misses.

# %%
train, held_out = datasets.split(datasets.digits())
images = held_out.x[:100]
digits_fa = FactorAnalysis(K, random_state=seed).fit(train.x)
linear_vae = VAE(K, hidden=(), optimizer="lbfgs", nodes="sigma", random_state=seed).fit(train.x)
g = linear_vae.gaps(images)
print(f"a linear VAE, trained: largest approximation gap {g.approximation.max():.0e}, "
      f"amortisation gap {g.amortisation.max():.0e} nats")

# %%
if K == 1:
    print("With K = 1 there is nothing to turn.")
else:
    psi = digits_fa.noise_variance_
    tilted = rotation(angle) @ linear_gaussian.canonical(digits_fa.components_, psi), digits_fa.mean_, psi
    mean, M = linear_gaussian.posterior(*tilted, images)
    nlml_digits = linear_gaussian.nlml(*tilted, images)
    gap = linear_gaussian.bound(*tilted, q.closest(mean, M), q, images) - nlml_digits
    moved = np.abs(nlml_digits - digits_fa.nlml(images).values).max()
    print(f"loadings turned by {angle}°: NLML moved by at most {moved:.0e} nats")
    print(f"Q − NLML from {gap.min():.8f} to {gap.max():.8f} nats")
    print(f"the formula:  {linear_gaussian.mean_field_gap(tilted[0], psi):.8f}")

# %% [markdown]
# The trained linear VAE has no approximation gap, although its $q$ is diagonal: training has turned its loadings
# until $M$ is diagonal. Turn those of factor analysis away from there, and every image pays the same price, to all
# digits, that the formula names.

# %% [markdown]
# ## 7. A decoder that bends
#
# With a network for a decoder neither step has a closed form. The E-step becomes a search: each data case takes
# quasi-Newton steps (6.3) in its few numbers $\phi_n$, on fixed nodes in place of the expectation. The M-step becomes
# a few passes of gradient steps on the network, with $\Psi$ still in closed form. That is non-linear factor analysis
# by variational EM. The data are a bent sheet in space.
#
# The E-step first. **What do you expect** of $Q$ with the number of its steps?

# %%
bent = datasets.bent_sheet(n_cases=cases, seed=seed).x
if not hidden:
    print("With hidden = () this decoder does not bend: the search below finds what the closed form knows.")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")              # few rounds: Q still falls when they end, and fit says so
    vem = VariationalEM(K, hidden=hidden, epochs=25, random_state=seed).fit(bent)

start_phi = infer.prior_phi(vem.model_, bent)
print("E-steps from the prior, with the learnt decoder, on the first data case:")
eta, weights = infer.nodes_for(vem.model_.posterior, 8, 64, bent)
for steps in (0, 1, 2, 4, 8, 16):
    found = infer.e_step(vem.model_, vem.theta_, start_phi[:1], bent[:1], eta, weights, max_steps=steps)
    print(f"{steps:4} steps: Q_1 = {found.Q[0]:9.4f}, largest slope left {found.gradient_norm[0]:.1e}")

# %% [markdown]
# No step raises $Q_1$: a step that would is tried again at half its length. A handful of steps for *one* data case,
# and again after each M-step, for every case in the data. This is the cost that amortisation will spare us.

# %%
fig, ax = plt.subplots(figsize=(6, 3.2))
ax.plot(np.arange(1, len(vem.q_path_) + 1), vem.q_path_, "o-", ms=3, color=BLUE)
ax.set(xlabel="round", ylabel="mean Q, nats per data case",
       title=f"With hidden = {hidden}, after each E-step")
plt.show()
rises = np.diff(vem.q_path_)
times = np.count_nonzero(rises > 0)
print(f"{len(vem.q_path_)} E-steps; Q rose {times} times, by {max(0, rises.max()):.3f} nats at the most")

# %% [markdown]
# Here $Q$ may rise a little now and then. The theorem of section 1 asks that the M-step find the minimum, or at least
# no higher place; a few stochastic gradient steps promise neither. What do the posteriors look like?

# %%
if K <= 2:
    figure = vem.plot_posterior(bent[0], phi=vem.phi_[:1])
else:
    figure = None
    print(f"A picture takes K ≤ 2, and here K = {K}.")
figure

# %%
print(vem.gaps(bent[:20], phi=vem.phi_[:20]))

# %% [markdown]
# The line of the NLML, what a Gaussian $q$ misses, what a diagonal one misses beyond that, and what the table in use
# misses beyond its best: they add up to $Q$. For a table the last is small, since every row was searched for. With
# a bent decoder no rotation makes all posteriors upright at once, as each slants in its own way: the price of mean
# field is real here, though not the largest item. (With $K = 1$ there is none, and with `hidden = ()` neither of the two.)

# %% [markdown]
# ## To try
#
# 1. *Another family.* Fit `VariationalEM(K, hidden=(), posterior="full")` to `x`. How many rounds does it take, and
#    how large is the gap for *any* rotation?
# 2. *A forgotten s².* Repeat E-step and the forgetful M-step of section 3 for 200 rounds. Where does $\psi$ go? Does
#    $Q$ fall?

# %% [markdown] summary="A solution to the first" tags=["solution"]
# A full covariance follows any tilt, so every E-step touches and there is nothing to turn: variational EM is then
# the EM of factor analysis, step by step.

# %% tags=["solution"]
whole = VariationalEM(K, hidden=(), posterior="full", random_state=seed).fit(x)
print(f"{whole.n_iter_} rounds, mean Q {whole.q_path_[-1]:.7f}, factor analysis {fa.nlml_path_[-1]:.7f}")
print(f"largest gap of a data case: {np.abs(whole.bound(x) - whole.nlml(x).values).max():.0e}")

# %% [markdown] summary="A solution to the second" tags=["solution"]
# The codes are taken for known, so the noise that is left is too small, the next codes follow the data more closely,
# and the noise is smaller still: a few $\psi$ run down to the floor, and the codes copy these variables. $Q$ falls at
# first, and then rises, which a step that minimised it could not do.

# %% tags=["solution"]
theta = start
for t in range(200):
    phi = e_step(theta)
    if t in (1, 4, 5, 6, 199):
        print(f"after {t:3} rounds: smallest ψ {theta[2].min():.1e}, mean Q {Q(theta, phi).mean():.3f}")
    phi[:, K:] = -40.0
    W, b, psi = m_step(phi)
    theta = W, b, np.maximum(psi, 1e-6)
print(f"with s², by factor analysis: {fa.nlml_path_[-1]:.3f}")

# %% [markdown]
# ## What is left open
#
# Two things made this notebook easy. The expectation in $Q$ was analytic, or few nodes replaced it. And there were
# few enough data cases for a search each. The next notebook takes away the first, and notebook 07 the second.
#
# Back: [04, Jensen and the bound](04-jensen-and-the-bound.ipynb).
# Next: [06, through the sampling](06-through-the-sampling.ipynb). From anywhere:
# [00, start here](00-start-here.ipynb).
