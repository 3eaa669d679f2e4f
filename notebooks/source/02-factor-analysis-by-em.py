# %% [markdown]
# # 02 · Factor analysis by EM
#
# Factor analysis is the model of this lecture in which nothing need be approximated. This notebook derives
# its density and its posterior, fits it by EM one step at a time, and watches the negative log marginal
# likelihood fall. Then it shows what data cannot tell (the axes of $z$), and where the likelihood misbehaves
# (a noise variance on its way to zero). You will write the posterior, the density, both steps of EM and the
# whole algorithm. Every later notebook is held against these numbers: a variational autoencoder with a linear
# decoder has to arrive at them.
#
# A number in parentheses leads to its card, with the proof and an example on paper. First the settings.
# Change them and run all cells again; what the words say of results, they say of these.

# %%
cases = 300      # of the data,
n_visible = 10   # their variables,
n_latent = 3     # and the latent variables that they are made from
K = 3            # latent variables of the models
n_steps = 200    # iterations of plain EM
seed = 0

# %%
import warnings

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import multivariate_normal, norm

from teachvae import FactorAnalysis, datasets, grade, linear_gaussian, plots, select_n_components

plt.rcParams["figure.dpi"] = 120
plt.switch_backend(plt.get_backend())            # from here on a figure as the last line of a cell is shown
np.set_printoptions(precision=4, suppress=True)

# %% [markdown]
# <a id="lecture-factor-analysis"></a>
#
# ## 1. The model
#
# A few hidden causes, each with its own weight in every variable, and some noise of its own in each variable:
# that is factor analysis. A data case is made in two steps. First $K$ numbers $z$ are drawn that nobody sees,
# then
#
# $$
# z \sim N(0, I), \qquad x = z W + b + \varepsilon, \qquad \varepsilon \sim N(0, \Psi)
# $$
#
# with *loadings* $W$, (K, D), and a diagonal $\Psi$ with the entries $\psi_d$. Whatever two variables have in
# common they have through $z$. $W$ explains how variables go together, $\Psi$ what each has to itself.
#
# Both steps can be written down together, and this is the one thing about a model that always can be (2.34):
#
# $$
# \log p(x_n, z) = -\frac{1}{2} \left( (r_n - zW) \Psi^{-1} (r_n - zW)^\top + z z^\top + \sum_d \log \psi_d +
# (D + K) \log 2\pi \right), \qquad r_n = x_n - b
# $$
#
# ### The marginal
#
# Data are $x$ alone. $x$ is a sum of independent normal numbers, so it is normal. Its mean is $b$. For the
# covariance multiply out, and use $\mathbb{E}[z^\top z] = I$,
# $\mathbb{E}[\varepsilon^\top \varepsilon] = \Psi$ and $\mathbb{E}[z^\top \varepsilon] = 0$:
#
# $$
# \mathbb{E}\left[ (zW + \varepsilon)^\top (zW + \varepsilon) \right] = W^\top W + \Psi = \Sigma, \qquad
# p(x) = N(x; b, \Sigma)
# $$
#
# That is (2.1). Here is the smallest example, $D = 2$ and $K = 1$, with numbers that do for paper:
# $W = (1, 2)$, $b = (0, 1)$, $\psi = (1, 2)$, and two data cases. *Before you look: where will the decoder's
# outputs $zW + b$ lie, and which way will the ellipse of $p(x)$ point?*

# %%
small = {"W": np.array([[1.0, 2.0]]), "b": np.array([0.0, 1.0]), "psi": np.array([1.0, 2.0])}
x_small = np.array([[2.0, 3.0], [-1.0, 0.0]])
W, b, psi = small.values()

rng = np.random.default_rng(seed)
z = rng.standard_normal((2000, 1))
made = z @ W + b + np.sqrt(psi) * rng.standard_normal((2000, 2))
print("covariance of 2000 draws:\n", np.cov(made.T, bias=True))
print("Wᵀ W + Ψ:\n", W.T @ W + np.diag(psi))


# %%
def ellipse(center, covariance, deviations=1.0):
    """The points (200, 2) so many standard deviations from the center."""
    angle = np.linspace(0, 2 * np.pi, 200)
    circle = np.column_stack([np.cos(angle), np.sin(angle)])
    return center + deviations * circle @ np.linalg.cholesky(covariance).T


def bare(ax):
    """Axes of one scale, without a frame."""
    ax.set(xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
    ax.spines[["top", "right"]].set_visible(False)


fig, ax = plt.subplots(figsize=(5.4, 4.2))
ax.scatter(*made[:400].T, s=6, color="#BBBBBB", lw=0, label="draws")
ax.plot(*(b + np.array([[-2.5], [2.5]]) @ W).T, "k-", lw=1.5, label="z W + b")
for deviations, style, label in ((1, "-", "p(x): one standard deviation"), (2, "--", "two of them")):
    line = ellipse(b, W.T @ W + np.diag(psi), deviations)
    ax.plot(*line.T, style, color=plots.COLOURS[0], lw=1.8, label=label)
ax.scatter(*x_small.T, s=45, color=plots.COLOURS[3], zorder=3, label="the two data cases")
bare(ax)
ax.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
plt.show()

# %% [markdown]
# The means lie on a line, whatever $z$ is. The ellipse is longest in nearly that direction: across it there
# is noise alone, and there is more of it in the second variable.
#
# ### The posterior
#
# Given $x_n$, what was $z$? As a function of $z$ the joint density is $e$ to a quadratic, so the posterior is
# normal, and one square has to be completed. Multiply out and collect by powers of $z$:
#
# $$
# (r_n - zW) \Psi^{-1} (r_n - zW)^\top + z z^\top
# = z M z^\top - 2 r_n \Psi^{-1} W^\top z^\top + r_n \Psi^{-1} r_n^\top, \qquad M = I + W \Psi^{-1} W^\top
# $$
#
# A square $(z - m) M (z - m)^\top = z M z^\top - 2 m M z^\top + \dots$ has the same first two terms if
# $m M = r_n \Psi^{-1} W^\top$. Hence (2.2), (2.3)
#
# $$
# p(z \mid x_n) = N(z; m_n, M^{-1}), \qquad m_n = (x_n - b) \Psi^{-1} W^\top M^{-1}
# $$
#
# Two things to notice. The mean is linear in $x_n$: a recognition network for factor analysis would need no
# hidden layer. And the covariance is the same for every data case: a single (K, K) matrix.

# %% [markdown]
# **Exercise 02-1.** Write the posterior. `x` is (N, D), `W` (K, D), `b` (D,), and `psi` (D,) holds variances.
# Return a dict with `"mean"`, (N, K), and `"cov"`, (K, K), the covariance. It is the E-step of this notebook,
# and later what every approximate posterior is compared with.

# %% tags=["exercise"]
def posterior(x, W, b, psi):
    """The mean (N, K) and the covariance (K, K) of p(z|x) of x = z W + b + noise, in a dict."""
    ...


# %% tags=["check"]
grade.check("02-1", posterior)

# %% [markdown] tags=["hint"]
# Begin with the precision `M`, (K, K). Its first term is the prior's, and $\Psi^{-1}$ divides every column of
# `W` by its own number: `W / psi` does that.

# %% [markdown] tags=["hint"]
# `cov = np.linalg.inv(np.eye(len(W)) + (W / psi) @ W.T)`. For the mean, start from `x - b`, (N, D): which
# products make (N, K) of it?

# %% [markdown] tags=["hint"]
# `mean = (x - b) / psi @ W.T @ cov`, and `return {"mean": mean, "cov": cov}`.

# %% tags=["solution"]
def posterior(x, W, b, psi):
    """The mean (N, K) and the covariance (K, K) of p(z|x) of x = z W + b + noise, in a dict."""
    M = np.eye(len(W)) + (W / psi) @ W.T             # (K, K)
    cov = np.linalg.inv(M)
    return {"mean": (x - b) / psi @ W.T @ cov, "cov": cov}


# %% [markdown]
# Is it right? For one latent variable one can look: put $p(x_1, z)$ at many $z$, divide by its sum, and hold
# the formula against it. In the example $M = 1 + 1^2/1 + 2^2/2 = 4$, so the standard deviation is 0.5. *Where
# will the mean be: where the likelihood is largest, or nearer to 0?*

# %%
grid = np.linspace(-2.5, 3.5, 1201)[:, None]
log_likelihood = norm.logpdf(x_small[0], grid @ W + b, np.sqrt(psi)).sum(axis=1)     # log p(x_1|z)
log_joint = log_likelihood + norm.logpdf(grid[:, 0])
step = grid[1, 0] - grid[0, 0]
on_grid = np.exp(log_joint) / (np.exp(log_joint).sum() * step)
mean, M = linear_gaussian.posterior(W, b, psi, x_small)
formula = norm.pdf(grid[:, 0], mean[0, 0], M[0, 0] ** -0.5)

fig, ax = plt.subplots(figsize=(6, 3))
ax.plot(grid, norm.pdf(grid[:, 0]), ":", color="k", label="prior p(z)")
ax.plot(grid, np.exp(log_likelihood) / (np.exp(log_likelihood).sum() * step), "--", color=plots.COLOURS[1],
        label="likelihood p(x|z), scaled")
ax.plot(grid, on_grid, color="#BBBBBB", lw=6, label="posterior, by the grid")
ax.plot(grid, formula, color=plots.COLOURS[0], label="posterior, by the formula")
ax.set(xlabel="z", ylabel="density", ylim=(0, None))
ax.legend(frameon=False, fontsize=8)
ax.spines[["top", "right"]].set_visible(False)
plt.show()
print(f"mean {mean[0, 0]:.4f}, standard deviation {M[0, 0] ** -0.5:.4f}; "
      f"largest difference of the two curves {np.abs(on_grid - formula).max():.0e}")

# %% [markdown]
# The prior draws the mean towards 0, from $4/3$ to 1. That is the 1 in $M$.
#
# ### The density of a data case, without a (D, D) matrix
#
# Completing the square has split the joint density into the posterior, which integrates to 1, and a rest
# without $z$. The rest is $p(x_n)$. Compare it with $N(x_n; b, \Sigma)$: at $r_n = 0$ one reads off the
# determinant (2.4), and what remains is the quadratic form (2.5):
#
# $$
# \log \vert \Sigma \vert = \sum_d \log \psi_d + \log \vert M \vert, \qquad
# r_n \Sigma^{-1} r_n^\top = (r_n - m_n W) \Psi^{-1} (r_n - m_n W)^\top + m_n m_n^\top
# $$
#
# and with them the negative log marginal likelihood, in nats (2.6):
#
# $$
# nlml_n = \frac{1}{2} \left( D \log 2\pi + \log \vert \Sigma \vert + r_n \Sigma^{-1} r_n^\top \right)
# $$
#
# For images $D$ is in the hundreds and $K$ is small. By these formulas nothing of size D × D is ever
# inverted.

# %% [markdown]
# **Exercise 02-2.** Write $nlml_n$ for every data case, (N,), with every constant kept. The arguments are
# those of exercise 02-1. This is the number that the whole lecture is about; for any other decoder it can
# only be bounded.

# %% tags=["exercise"]
def marginal_nlml(x, W, b, psi):
    """−log p(x_n) (N,) of x (N, D) under x = z W + b + noise, in nats."""
    ...


# %% tags=["check"]
grade.check("02-2", marginal_nlml)

# %% [markdown] tags=["hint"]
# One road: build `Sigma = W.T @ W + np.diag(psi)`, (D, D), and write the normal density down. It is right,
# and dear for large D. The other road goes by `M` and the posterior's mean.

# %% [markdown] tags=["hint"]
# `np.linalg.slogdet(M)[1]` is $\log \vert M \vert$. With `r = x - b` and `e = r - mean @ W`, the quadratic
# form of each case is a sum over columns, `axis=1`.

# %% [markdown] tags=["hint"]
# The quadratic form is `(e**2 / psi).sum(axis=1) + (mean**2).sum(axis=1)`, and what stands before it
# `D * np.log(2 * np.pi) + np.log(psi).sum() + log_det_M`. Half of the sum of both is asked for.

# %% tags=["solution"]
def marginal_nlml(x, W, b, psi):
    """−log p(x_n) (N,) of x (N, D) under x = z W + b + noise, in nats."""
    M = np.eye(len(W)) + (W / psi) @ W.T
    r = x - b
    mean = r / psi @ W.T @ np.linalg.inv(M)          # (N, K)
    e = r - mean @ W                                 # (N, D)
    quadratic = (e**2 / psi).sum(axis=1) + (mean**2).sum(axis=1)
    log_det = np.log(psi).sum() + np.linalg.slogdet(M)[1]
    return 0.5 * (x.shape[1] * np.log(2 * np.pi) + log_det + quadratic)


# %% [markdown]
# The same number by a road that knows nothing of $z$: SciPy's normal density with the (2, 2) covariance.

# %%
ours = linear_gaussian.nlml(W, b, psi, x_small)
scipy = -multivariate_normal(b, W.T @ W + np.diag(psi)).logpdf(x_small)
print("through M:    ", ours)
print("through SciPy:", scipy)

# %% [markdown]
# The second case is the likelier one: it lies nearer to the mean. A density may be larger than 1, so an nlml
# may be negative; that is no mistake. What counts are differences, and a nat is a factor of $e$.

# %% [markdown]
# <a id="lecture-em"></a>
#
# ## 2. EM: learning when z is not seen
#
# $W$, $b$ and $\Psi$ are to make the sum of $nlml_n$ small. With a diagonal $\Psi$ no formula gives the
# minimum. But were $z$ observed, there would be one: $W$ and $b$ by a linear regression of $x$ on $z$, $\Psi$
# by what it leaves. EM turns this into an algorithm. It fills in $z$, not by a guess but by its whole
# posterior, runs the regression, and repeats.
#
# Why may it? With any densities $q_n$ in place of the posteriors, put
# $p(x_n, z) = p(x_n) \thinspace p(z|x_n)$ into
#
# $$
# Q(\theta, q) = \frac{1}{N} \sum_n \mathbb{E}_ {q_n}\left[ \log q_n(z) - \log p(x_n, z \mid \theta) \right]
# = nlml(\theta) + \frac{1}{N} \sum_n \mathrm{KL}(q_n \parallel p(z \mid x_n, \theta))
# $$
#
# Here nlml is the mean over the data. A KL divergence is never negative, and 0 for equal densities. So $Q$ is
# an upper bound on the nlml, and it touches where $q_n$ is the posterior. The two steps are (2.36)
#
# - *E-step:* $q_n \leftarrow p(z \mid x_n, \theta^t)$. Now $Q(\theta^t, q) = nlml(\theta^t)$.
# - *M-step:* $\theta^{t+1} \leftarrow \mathrm{argmin}_ \theta \thinspace Q(\theta, q)$.
#
# and the nlml cannot rise:
#
# $$
# nlml(\theta^{t+1}) \leq Q(\theta^{t+1}, q) \leq Q(\theta^t, q) = nlml(\theta^t)
# $$
#
# The smallest case can be drawn: $D = K = 1$, a known $\psi$, so that the loading $w$ is all there is to
# learn. *Each E-step makes a new bound that touches the curve where we stand. Where will the M-step take us?*

# %%
s, psi_1 = 2.0, 0.5                                  # the data's variance, and the noise


def nlml_of(w):
    """The mean nlml of centred data with variance s."""
    return 0.5 * (np.log(2 * np.pi * (w**2 + psi_1)) + s / (w**2 + psi_1))


def q_of(w_here):
    """The q of the E-step at w_here: E[xz], E[z²] and the variance of z given x."""
    variance = psi_1 / (psi_1 + w_here**2)
    beta = w_here / (w_here**2 + psi_1)
    return beta * s, variance + beta**2 * s, variance


def bound_of(w, q):
    """The mean Q of w with this q."""
    xz, zz, variance = q
    squares = s - 2 * w * xz + w**2 * zz
    return 0.5 * (np.log(2 * np.pi * psi_1) + squares / psi_1 + zz - 1 - np.log(variance))


fig, ax = plt.subplots(figsize=(6, 3.6))
line, w = np.linspace(0.2, 2.2, 300), 0.35
ax.plot(line, nlml_of(line), "k", lw=2, label="nlml(w)")
for t, colour in enumerate(plots.COLOURS[i] for i in (0, 1, 3)):
    q = q_of(w)
    new = q[0] / q[1]                                # the M-step: a regression through 0
    ax.plot(line, bound_of(line, q), "--", color=colour, label=f"Q(w, q) of E-step {t + 1}")
    ax.plot([w, new], [nlml_of(w), bound_of(new, q)], "o", color=colour, ms=5)
    ax.vlines(new, nlml_of(new), bound_of(new, q), color=colour, lw=1)
    print(f"w = {w:.3f}, nlml {nlml_of(w):.4f}; "
          f"M-step to {new:.3f}: Q {bound_of(new, q):.4f}, nlml {nlml_of(new):.4f}")
    w = new
ax.set(xlabel="w", ylabel="nats per data case", ylim=(1.5, 2.6))
ax.legend(frameon=False, fontsize=8, loc="lower left")
ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# Each dashed curve lies above the black one and touches it where its E-step was taken. Its minimum is the
# next $w$. The short line there is what the nlml gains beyond $Q$, the KL between the old posteriors and the
# new.

# %% [markdown]
# ### The E-step, from the covariance alone
#
# The regression of $x$ on $z$ asks for averages of $x^\top z$ and $z^\top z$, over the data and over each
# posterior. Let $b$ be the data's mean, which is its best value whatever the rest is, and let $x$ be centred.
# Given $x$, $z$ has the mean $x \beta^\top$ with $\beta = M^{-1} W \Psi^{-1}$, and the covariance $M^{-1}$.
# So $\mathbb{E}[x^\top z] = x^\top x \thinspace \beta^\top$ for one data case, and $\mathbb{E}[z^\top z]$ is
# the covariance and the outer product of the mean,
# $M^{-1} + \beta \thinspace x^\top x \thinspace \beta^\top$. Both are linear in $x^\top x$, whose average
# over the data is their covariance $S$ (2.8):
#
# $$
# \mathbb{E}[x^\top z] = S \beta^\top, \qquad \mathbb{E}[z^\top z] = M^{-1} + \beta S \beta^\top
# $$
#
# After one pass over the data an iteration costs the same for a hundred cases and for a million.

# %% [markdown]
# **Exercise 02-3.** Write this E-step. `S` is (D, D), `W` (K, D), `psi` (D,). Return a dict with `"xz"`, (D,
# K), and `"zz"`, (K, K).

# %% tags=["exercise"]
def expected_moments(S, W, psi):
    """E[xᵀz] (D, K), E[zᵀz] (K, K) over the posterior and centred data of covariance S (D, D), in a dict."""
    ...


# %% tags=["check"]
grade.check("02-3", expected_moments)

# %% [markdown] tags=["hint"]
# You have $M^{-1}$ from exercise 02-1. $\beta$, (K, D), is the matrix that takes a deviation `r` to the
# posterior's mean, `r @ beta.T`.

# %% [markdown] tags=["hint"]
# `cov = np.linalg.inv(np.eye(len(W)) + (W / psi) @ W.T)` and `beta = cov @ (W / psi)`. The first moment is
# one product.

# %% [markdown] tags=["hint"]
# `{"xz": S @ beta.T, "zz": cov + beta @ S @ beta.T}`. Why `cov`? Because $z$ is not known: its spread is a
# part of its second moment.

# %% tags=["solution"]
def expected_moments(S, W, psi):
    """E[xᵀz] (D, K), E[zᵀz] (K, K) over the posterior and centred data of covariance S (D, D), in a dict."""
    cov = np.linalg.inv(np.eye(len(W)) + (W / psi) @ W.T)
    beta = cov @ (W / psi)                           # (K, D)
    return {"xz": S @ beta.T, "zz": cov + beta @ S @ beta.T}


# %% [markdown]
# ### The M-step: a regression on what is not seen
#
# In $Q$ only $-\mathbb{E}[\log p(x \mid z)]$ has parameters. It falls apart into one problem for each
# variable $d$:
#
# $$
# \frac{1}{2} \sum_d \left( \frac{1}{\psi_d} \mathbb{E}\left[ (x_d - b_d - z W_{\cdot d})^2 \right] +
# \log \psi_d \right) + \dots
# $$
#
# For given $\psi_d$ this is least squares: set the derivative to 0, as in any regression, but with
# $\mathbb{E}[z^\top z]$ where an ordinary one has the sums of the $z$ that it was given (2.11). With centred
# $x$ and $z$ the solution is $W = \mathbb{E}[z^\top z]^{-1} \thinspace \mathbb{E}[z^\top x]$. And for a given
# residual $v_d$ the best variance is $\psi_d = v_d$, since $v/\psi + \log \psi$ has the derivative
# $(\psi - v)/\psi^2$ (2.12), (5.6).
#
# In general the $q_n$ come in a table: data case $n$ has the mean $m_n$, and all share one covariance $C$.
# Then $\mathbb{E}[z] = \bar m$, and $\mathbb{E}[z^\top z] = \frac{1}{N} \sum_n m_n^\top m_n + C$ (2.9).
# Nobody says that $\bar m$ is 0, so the regression has a constant, $b$. Variational EM, in notebook 05, will
# use this M-step as it is.

# %% [markdown]
# **Exercise 02-4.** Write the M-step for a table. `x` is (N, D), `m` (N, K) the means of the $q_n$, `C` (K,
# K) the covariance of each. Return a dict with `"W"`, (K, D), `"b"`, (D,), and `"psi"`, (D,), where $Q$ is
# least. The check does not know your formula: it walks around your answer and looks whether $Q$ can be made
# smaller.

# %% tags=["exercise"]
def m_step(x, m, C):
    """W (K, D), b (D,), psi (D,) of least Q for x (N, D) and q_n = N(m_n, C), in a dict."""
    ...


# %% tags=["check"]
grade.check("02-4", m_step)

# %% [markdown] tags=["hint"]
# Centre first: `dx = x - x.mean(axis=0)` and `dm = m - m.mean(axis=0)`. A regression with a constant is a
# regression without one on deviations from the means, and its constant makes the line go through the means.

# %% [markdown] tags=["hint"]
# The second moment of the centred $z$ is `dm.T @ dm / len(x) + C`, (K, K); that of $z$ with $x$ is
# `dm.T @ dx / len(x)`, (K, D). `np.linalg.solve` makes `W` of them, and
# `b = x.mean(axis=0) - m.mean(axis=0) @ W`.

# %% [markdown] tags=["hint"]
# `psi` is the mean of the expected squares. At the mean of $q_n$ the residual is `x - b - m @ W`; the spread
# of $z$ adds $W_{\cdot d}^\top C \thinspace W_{\cdot d}$, the same for each case:
# `np.sum(W * (C @ W), axis=0)`.

# %% tags=["solution"]
def m_step(x, m, C):
    """W (K, D), b (D,), psi (D,) of least Q for x (N, D) and q_n = N(m_n, C), in a dict."""
    dx, dm = x - x.mean(axis=0), m - m.mean(axis=0)
    W = np.linalg.solve(dm.T @ dm / len(x) + C, dm.T @ dx / len(x))
    b = x.mean(axis=0) - m.mean(axis=0) @ W
    psi = np.mean((x - b - m @ W) ** 2, axis=0) + np.sum(W * (C @ W), axis=0)
    return {"W": W, "b": b, "psi": psi}


# %% [markdown]
# ### One iteration by hand
#
# Three data cases, $(2, 3)$, $(-1, 0)$ and $(-1, 3)$, and the example's $W$ and $\psi$. Every number below
# can be done on paper; on the right is what the package's own two steps say.

# %%
x_three = np.array([[2.0, 3.0], [-1.0, 0.0], [-1.0, 3.0]])
S = np.cov(x_three.T, bias=True)                     # with divisor N
statistics, package_nlml = linear_gaussian.e_step_moments(W, psi, S)
package_W, _, package_psi = linear_gaussian.m_step(statistics)

M = 1 + (W / psi) @ W.T
beta = W / psi / M
xz, zz = S @ beta.T, 1 / M + beta @ S @ beta.T
new_W = (xz / zz).T
new_psi = np.diag(S) - (new_W * xz.T)[0]
rows = {
    "M": (M, linear_gaussian.precision(W, psi)), "E[xᵀz]": (xz, statistics.xz), "E[zᵀz]": (zz, statistics.zz),
    "new W": (new_W, package_W), "new ψ": (new_psi, package_psi),
}
print("S:\n", S)
for name, (by_hand, package) in rows.items():
    print(f"{name:10}{np.ravel(by_hand)!s:20}{np.ravel(package)!s:20}")
after = linear_gaussian.e_step_moments(new_W, new_psi, S)[1]
squares = np.diag(S) - 2 * (new_W * xz.T)[0] + (new_W * (zz @ new_W))[0]            # expected, (D,)
Q = 0.5 * (np.sum(squares / new_psi + np.log(2 * np.pi * new_psi)) + (zz - 1 + np.log(M)).item())
print(f"mean nlml before {package_nlml:.4f} ≥ Q after the M-step {Q:.4f} ≥ mean nlml after {after:.4f}")

# %% [markdown]
# ### All of it
#
# Put the two steps in a loop, and compute on the way what is to fall. With $b$ at the mean, the mean nlml
# needs no more of the data than $S$ either (2.7):
#
# $$
# \frac{1}{N} \sum_n nlml_n
# = \frac{1}{2} \left( D \log 2\pi + \log \vert \Sigma \vert + \mathrm{tr}(\Sigma^{-1} S) \right)
# $$
#
# For centred data $b = 0$ and $\bar m = 0$, and the M-step is short:
# $W \leftarrow \mathbb{E}[z^\top z]^{-1} \mathbb{E}[z^\top x]$, and
# $\psi_d \leftarrow S_{dd} - \mathbb{E}[x_d z] \thinspace W_{\cdot d}$, with the new $W$.

# %% [markdown]
# **Exercise 02-5.** Write EM. `S` is (D, D), `W` and `psi` are the start, `n_steps` a whole number. Return
# the mean nlml at the start and after each iteration, an array of `n_steps + 1` numbers. If you have it, you
# have fitted a latent variable model by maximum likelihood, in ten lines.

# %% tags=["exercise"]
def em_path(S, W, psi, n_steps):
    """The mean nlml at the start and after each of n_steps iterations of EM, (n_steps + 1,)."""
    ...


# %% tags=["check"]
grade.check("02-5", em_path)

# %% [markdown] tags=["hint"]
# A list `path = []` and a loop. In each round: compute the mean nlml of the `W` and `psi` that you have and
# append it, then the moments of exercise 02-3, then the new `W` and `psi`. How many rounds give `n_steps + 1`
# numbers?

# %% [markdown] tags=["hint"]
# For the nlml the (D, D) matrix will do: `C = W.T @ W + np.diag(psi)`, `np.linalg.slogdet(C)[1]`, and
# `np.trace(np.linalg.solve(C, S))`.

# %% [markdown] tags=["hint"]
# `W = np.linalg.solve(zz, xz.T)` and then, with this new `W`, `psi = np.diag(S) - np.sum(W * xz.T, axis=0)`.
# Return `np.array(path)`.

# %% tags=["solution"]
def em_path(S, W, psi, n_steps):
    """The mean nlml at the start and after each of n_steps iterations of EM, (n_steps + 1,)."""
    path = []
    for _ in range(n_steps + 1):
        M = np.eye(len(W)) + (W / psi) @ W.T
        cov = np.linalg.inv(M)
        beta = cov @ (W / psi)
        xz, zz = S @ beta.T, cov + beta @ S @ beta.T
        trace = np.sum(np.diag(S) / psi) - np.sum((W / psi) * xz.T)   # tr Σ⁻¹ S
        log_det = np.sum(np.log(psi)) + np.linalg.slogdet(M)[1]
        path.append(0.5 * (len(S) * np.log(2 * np.pi) + log_det + trace))
        W = np.linalg.solve(zz, xz.T)
        psi = np.diag(S) - np.sum(W * xz.T, axis=0)
    return np.array(path)


# %% [markdown]
# ### Watch it fall
#
# The data are made by the very model. Plain EM starts from random loadings; `FactorAnalysis` is the
# package's, which starts from what the other variables leave of each (2.27) and makes two additions to the
# M-step, a wider model (2.24) and longer steps (2.26). *Which will need fewer iterations? And will the nlml
# ever rise?*

# %%
data = datasets.linear_gaussian(n_cases=cases, n_visible=n_visible, n_latent=n_latent, seed=seed)
x = data.x
S = np.cov(x.T, bias=True)
print(f"{cases} data cases of {n_visible} variables, made from {n_latent} latent ones; models with K = {K}")


def plain_em(S, W, psi, n):
    """W, psi after n iterations of EM, the path of the mean nlml, (n + 1,), and that of psi, (n + 1, D)."""
    path, variances = [], []
    for t in range(n + 1):
        statistics, mean_nlml = linear_gaussian.e_step_moments(W, psi, S)
        path.append(float(mean_nlml))
        variances.append(psi)
        if t < n:
            W, _, psi = linear_gaussian.m_step(statistics)
    return W, psi, np.array(path), np.array(variances)


starts = [np.random.default_rng(seed + i).standard_normal((K, n_visible)) for i in range(3)]
plain = [plain_em(S, start, np.diag(S), n_steps) for start in starts]
fa = FactorAnalysis(K, random_state=seed).fit(x)
print(f"the package: {fa.n_iter_} iterations, mean nlml {fa.nlml_path_[0]:.6f} → {fa.nlml_path_[-1]:.7f}")
for _, _, path, _ in plain:
    print(f"plain EM:    {n_steps} iterations, mean nlml {path[0]:.6f} → {path[-1]:.7f}; "
          f"largest rise in one iteration {max(0.0, np.diff(path).max()):.0e}")

# %%
paths = [path for _, _, path, _ in plain] + [fa.nlml_path_]
best = min(path.min() for path in paths)
fig, ax = plt.subplots(figsize=(6.5, 3.4))
for i, path in enumerate(paths):
    own = i == len(paths) - 1
    look = {"color": plots.COLOURS[0], "lw": 2.2, "label": "the package"}
    if not own:
        look = {"color": "#888888", "ls": (":", "--", "-.")[i], "label": f"plain EM, start {i + 1}"}
    ax.plot(np.arange(1, len(path) + 1), np.maximum(path - best, 1e-9), **look)
ax.set(xscale="log", yscale="log", xlabel="iteration", ylabel="nats per data case\nabove the lowest nlml")
ax.legend(frameon=False, fontsize=8)
ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# It falls fast, then slowly, and never rises beyond rounding. At the end the bound is tight: with the exact
# posterior as $q$, $Q$ and nlml are one number for every data case. SciPy agrees, by the (D, D) matrix.

# %%
Q, nlml = fa.bound(x), fa.nlml(x).values
dense = -multivariate_normal(fa.mean_, fa.get_covariance()).logpdf(x)
print(f"largest gap Q − nlml of a data case: {np.abs(Q - nlml).max():.1e}")
print(f"largest difference from SciPy:       {np.abs(dense - nlml).max():.1e}")

# %% [markdown]
# ### Where EM never arrives
#
# EM goes downhill, and stops where the gradient is 0. That need not be a minimum. *What do you expect of the
# start* $W = 0$? Then $\beta = 0$, no variable has anything to do with $z$, and the regression finds just
# that: EM stays for ever. A subtler trap is a start that is symmetric. Take four variables with the
# correlations $0.4^{\vert i - j \vert}$, which look the same from both ends, and one factor. What is printed
# is twice the nats by which the fit is above the best Gaussian with any covariance at all.

# %%
chain = 0.4 ** np.abs(np.subtract.outer(np.arange(4), np.arange(4)))
alike = np.full((1, 4), 0.5)
three = {"W = 0": 0 * alike, "all loadings alike": alike, "one of them 0.4": alike - [0, 0, 0.1, 0]}
least = 0.5 * (4 * np.log(2 * np.pi) + np.linalg.slogdet(chain)[1] + 4)       # of any Gaussian at all
for name, start in three.items():
    W_end, _, path, _ = plain_em(chain, start, np.full(4, 0.5), 2500)
    print(f"{name:20}2 (nlml − least) = {2 * (path[-1] - least):.7f}   W = {W_end[0]}")

# %% [markdown]
# From loadings that are all alike EM keeps the symmetry that it was given and ends on a saddle; the minimum
# is not symmetric, and a little lower. So starts should be random. `FactorAnalysis` begins from random
# directions, tries several where it is slow, and goes on with the best.

# %% [markdown]
# ## 3. What data cannot tell: the free rotation
#
# $x$ knows of $W$ only through $\Sigma = W^\top W + \Psi$. For every orthogonal $T$, (K, K), a rotation or a
# reflection, (2.35)
#
# $$
# (T W)^\top (T W) = W^\top T^\top T W = W^\top W, \quad m_n \rightarrow m_n T^\top, \quad M \rightarrow T M T^\top
# $$
#
# so $TW$ is the same model of $x$. In two dimensions one can watch it: the arrows are the rows of $W$, and
# turn; the ellipse of $p(x)$ stays.

# %%
W_two, psi_two = np.array([[2.0, -0.4], [1.0, 2.8]]), np.array([1.0, 2.0])
fig, axes = plt.subplots(1, 3, figsize=(7, 2.9), sharex=True, sharey=True)
for ax, degrees in zip(axes, (0, 35, 70)):
    c, sn = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turned = np.array([[c, sn], [-sn, c]]) @ W_two
    ax.plot(*ellipse(np.zeros(2), turned.T @ turned + np.diag(psi_two)).T, color=plots.COLOURS[0], lw=2)
    ax.plot(*ellipse(np.zeros(2), turned.T @ turned).T, "--", color="#888888", lw=1)
    for row, colour in zip(turned, (plots.COLOURS[3], "k")):
        ax.annotate("", xy=row, xytext=(0, 0), arrowprops={"arrowstyle": "->", "color": colour, "lw": 1.8})
    gap = linear_gaussian.mean_field_gap(turned, psi_two)
    ax.set_title(f"T: {degrees}°; a diagonal q misses\n{gap:.3f} nats", fontsize=9)
    bare(ax)
axes[0].set_ylabel("$x_2$")
for ax in axes[1:]:
    ax.set_ylabel("")
fig.tight_layout()
plt.show()

# %% [markdown]
# Solid: one standard deviation of $p(x)$. Dashed: that of $zW$, without noise. The rows of $W$ slide along
# the dashed ellipse, and nothing in $x$ shows where they stand.
#
# So two fits may have quite different loadings, and be the same model. *Compare the three runs of plain EM of
# section 2.*

# %%
C = fa.get_covariance()
print(f"{'':16}{'loadings differ by':>20}{'WᵀW + Ψ by':>16}   after turning to canonical axes")
for i, (W_end, psi_end, _, _) in enumerate(plain):
    off = np.abs(W_end - fa.components_).max()
    of_C = np.abs(W_end.T @ W_end + np.diag(psi_end) - C).max()
    canonical = np.abs(linear_gaussian.canonical(W_end, psi_end) - fa.components_).max()
    print(f"plain EM, start {i + 1}{off:18.4f}{of_C:16.1e}{canonical:19.1e}")

# %% [markdown]
# Never compare loadings of two fits; compare $W^\top W + \Psi$. (What is left there is no mistake: the nlml
# is flat at its minimum, and a fit that is $10^{-8}$ nats above it may be $10^{-4}$ off in an entry.) Or turn
# both to the same axes first. The *canonical* ones are those with a diagonal $W \Psi^{-1} W^\top$ (2.14):
# there the posterior's precision $M$ is diagonal, its $K$ numbers are independent, and a $q$ that is a
# product over $k$ loses nothing. In all other axes it does. The bound sees what the data do not:

# %%
if K == 1:
    print("With K = 1 there is no axis to turn: only the sign of W is free.")
else:
    W_fa, psi_fa = fa.components_, fa.noise_variance_
    angles, gaps, means = np.linspace(0, 180, 91), [], []
    for degrees in angles:
        c, sn = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        T = np.eye(K)
        T[:2, :2] = [[c, sn], [-sn, c]]
        gaps.append(linear_gaussian.mean_field_gap(T @ W_fa, psi_fa))
        means.append(linear_gaussian.nlml(T @ W_fa, fa.mean_, psi_fa, x).mean())
    fig, ax = plt.subplots(figsize=(6, 3))
    ax.plot(angles, gaps, color=plots.COLOURS[3], label="best Q of a diagonal q, less nlml")
    ax.plot(angles, np.array(means) - means[0], "--", color=plots.COLOURS[0], label="nlml, less that at 0°")
    ax.set(xlabel="turn of the first two factors, degrees", ylabel="nats per data case")
    ax.set_xticks([0, 45, 90, 135, 180])
    ax.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    ax.spines[["top", "right"]].set_visible(False)
    plt.show()

# %% [markdown]
# **Exercise 02-6.** Sum up. $T$ is a rotation (neither the identity nor one that merely renames the axes),
# and $TW$ stands in the place of $W$. For each line write `"changes"` or `"stays"`.

# %% tags=["exercise"]
what_a_rotation_changes = {
    "the loadings W": ...,
    "W.T @ W + Psi": ...,
    "nlml of x": ...,
    "the posterior mean of z": ...,
    "the reconstruction m W + b": ...,
    "Q of the best diagonal q": ...,
}

# %% tags=["check"]
grade.check("02-6", what_a_rotation_changes)

# %% [markdown] tags=["hint"]
# Ask of each line: can it be computed from $x$ and $\Sigma$ alone? Then it stays.

# %% [markdown] tags=["hint"]
# The posterior's mean becomes $m T^\top$, and the decoder's matrix $T W$. What is their product?

# %% [markdown] tags=["hint"]
# The last picture answers the third and the sixth line.

# %% tags=["solution"]
what_a_rotation_changes = {
    "the loadings W": "changes",
    "W.T @ W + Psi": "stays",
    "nlml of x": "stays",
    "the posterior mean of z": "changes",
    "the reconstruction m W + b": "stays",
    "Q of the best diagonal q": "changes",
}

# %% [markdown]
# ## 4. Heywood: a noise variance on its way to zero
#
# A variance should be positive, and nothing in the likelihood keeps it away from 0. Take three standardised
# variables and one factor. $\Sigma = S$ asks for $W_1 W_2 = S_{12}$, $W_1 W_3 = S_{13}$ and
# $W_2 W_3 = S_{23}$; multiply two of them and divide by the third (2.39):
#
# $$
# W_1^2 = \frac{S_{12} S_{13}}{S_{23}}, \qquad \psi_1 = S_{11} - W_1^2
# $$
#
# With the correlations 0.8, 0.8 and 0.5 that is $W_1^2 = 1.28$ and $\psi_1 = -0.28$. There is no such model.
# *What will a fit do?*

# %%
R = np.array([[1.0, 0.8, 0.8], [0.8, 1.0, 0.5], [0.8, 0.5, 1.0]])
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    heywood = FactorAnalysis(1).fit_covariance(R, n_cases=100)
for warning in caught:
    print(f"{warning.category.__name__}: {warning.message}\n")
print(f"ψ = {heywood.noise_variance_}, W = {heywood.components_[0]}; at the floor: {heywood.heywood_}")

# %% [markdown]
# The best $\psi_1$ would be 0: the factor *is* the first variable, and the other two are regressions on it.
# The package stops the variance at a floor, says so, and names the column. Often it is a sign of one factor
# too many.
#
# And plain EM? Near 0 an M-step takes off $\psi_1$ no more than a multiple of $\psi_1^2$ (2.38). So
# $1/\psi_1$ grows by about the same number in every iteration, and $\psi_1$ sinks like one over the
# iteration. It never arrives.

# %%
_, _, _, variances = plain_em(R, np.full((1, 3), 0.7), np.full(3, 0.5), 3000)
t = np.arange(1, len(variances) + 1)
fig, ax = plt.subplots(figsize=(6, 3))
ax.loglog(t, variances[:, 0], color=plots.COLOURS[0], label=r"$\psi_1$ of plain EM")
ax.loglog(t[50:], 0.72 / t[50:], ":", color="k", label=r"$0.72 / t$, by the formula")
floor = f"the floor, where the package ends after {heywood.n_iter_} iterations"
ax.axhline(heywood.min_noise, color=plots.COLOURS[3], ls="--", label=floor)
ax.set(xlabel="iteration t", ylabel="noise variance, share of the column's")
ax.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 0.08))
ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# ### What a floor should be
#
# A floor is part of the M-step: the best $\psi_d$ at or above it is the larger of the two, since
# $v/\psi + \log \psi$ rises beyond $v$ (5.6). But a floor of what size? In metres a variable may have the
# variance 1, in kilometres $10^{-6}$. A floor that is one number for all variables would do nothing in the
# one unit, and be all there is in the other. So it is a *share of each variable's own variance*.

# %% [markdown]
# **Exercise 02-7.** Write it. `v` (D,) is what the regression leaves of each variable, `variance` (D,) are
# the variances of the data, `share` is one number. Return a dict with `"psi"`, (D,), at or above its floor,
# and `"at_floor"`, (D,), an array of `bool`: which variables a warning has to name.

# %% tags=["exercise"]
def floored_noise(v, variance, share):
    """psi (D,): v, but no less than that share of the column's variance; at_floor (D,): where it was less."""
    ...


# %% tags=["check"]
grade.check("02-7", floored_noise)

# %% [markdown] tags=["hint"]
# The floor is an array, (D,), one number for each variable.

# %% [markdown] tags=["hint"]
# `np.maximum` takes the larger of two arrays, entry by entry.

# %% [markdown] tags=["hint"]
# `floor = share * variance`, `psi = np.maximum(v, floor)`, and a comparison such as `v <= floor` is an array
# of `bool`.

# %% tags=["solution"]
def floored_noise(v, variance, share):
    """psi (D,): v, but no less than that share of the column's variance; at_floor (D,): where it was less."""
    floor = share * variance
    return {"psi": np.maximum(v, floor), "at_floor": v <= floor}


# %% [markdown]
# ## 5. What factor analysts expect
#
# They often have no data, only a published matrix. Six tests of ability, 112 people (Smith & Stanley 1983; R
# calls it `ability.cov`): general, picture, blocks, maze, reading, vocabulary.

# %%
ability = np.array([
    [24.641, 5.991, 33.520, 6.023, 20.755, 29.701],
    [5.991, 6.700, 18.137, 1.782, 4.936, 7.204],
    [33.520, 18.137, 149.831, 19.424, 31.430, 50.753],
    [6.023, 1.782, 19.424, 12.711, 4.757, 9.075],
    [20.755, 4.936, 31.430, 4.757, 52.604, 66.762],
    [29.701, 7.204, 50.753, 9.075, 66.762, 135.292],
])
sd = np.sqrt(np.diag(ability))
tests = FactorAnalysis(2).fit_covariance(ability / np.outer(sd, sd), n_cases=112)
print(tests.summary("varimax"))

# %% [markdown]
# The rows are numbered in that order, from 0. After the rotation reading and vocabulary (4, 5) load on one
# factor, blocks and pictures (2, 1) on the other: of all rotations with the same $p(x)$, *varimax* takes the
# one in which each variable has few large loadings (2.30). Loadings, uniquenesses and χ² are those that R's
# `factanal` prints.
#
# The χ² is twice a difference of log likelihoods, nearly: how far the nlml is above that of a Gaussian with
# any covariance at all, times the number of cases (7.16). Where two factors are enough it is about as large
# as its degrees of freedom. A large one, with a small p, says that there is more in the correlations than two
# factors.
#
# $p(x)$ knows nothing of a rotation: $W^\top W$ is what it was. A diagonal $q$ does know, as in section 3
# (2.29):

# %%
turned = tests.rotate("varimax")
change = np.abs(turned.loadings @ turned.loadings.T - tests.loadings_ @ tests.loadings_.T).max()
print(f"WᵀW moved by {change:.0e}; Q of a diagonal q rises by {turned.diagonal_gap:.4f} nats")
oblique = tests.rotate("promax")
print(f"promax lets the factors correlate, by {oblique.correlations[0, 1]:.3f}")

# %% [markdown]
# How many factors? The likelihood alone would take ever more, since a model with one more can do all that the
# smaller one can. BIC counts twice the nats of all data together and adds the logarithm of their number for
# each parameter (7.18). The candidates are all the numbers for which the model has no more parameters than a
# covariance matrix has entries. *The data of section 2: how many will it find?*

# %%
candidates = [k for k in range(1, 7) if k < n_visible and (n_visible - k) ** 2 >= n_visible + k]
if candidates:
    selection = select_n_components(x, candidates)
    print(f"made from {n_latent} latent variables\n{selection}")
else:
    print(f"{n_visible} variables have too few covariances for any number of factors")
selection.figure() if candidates else None

# %% [markdown]
# ## 6. What to remember
#
# - In factor analysis everything is a Gaussian: the marginal with covariance $W^\top W + \Psi$, and the
#   posterior, whose mean is linear in $x$ and whose covariance is the same for all.
# - EM is two steps on one function $Q$: the E-step makes the bound touch, the M-step is a regression on what
#   is not seen. The nlml never rises.
# - $z$ is filled in by a distribution, not by its mean. What is lost by that is the $M^{-1}$ in
#   $\mathbb{E}[z^\top z]$.
# - Data determine $W^\top W + \Psi$, and not $W$.
# - A noise variance may run to 0. The floor belongs to each variable's own variance, and a fit that ends
#   there should say so.

# %% [markdown]
# ## To try
#
# 1. *What the rotation costs.* Rotate the loadings of `fa` by 45° in the plane of the first two factors, keep
#    Ψ, and compute the best mean field $Q$ of every data case. By how much does it miss the NLML, and is that
#    the same for all?
# 2. *Another unit.* Multiply the first column of `x` by 10 and fit again. What happens to $W$, to $\psi$ and
#    to the nlml? Find the answer on paper first.
# 3. *EM in the fog.* Take `n_latent = 1` and `K = 3`. Which of the fit's numbers tell that two factors are
#    too many?

# %% summary="A solution to the first" tags=["solution"]
from teachvae import infer

R45 = np.eye(K)
if K > 1:
    R45[:2, :2] = np.array([[1, 1], [-1, 1]]) / np.sqrt(2)
turned_W, psi_fa, model = R45 @ fa.components_, fa.noise_variance_, fa.model_
theta = {"decoder": [{"W": turned_W, "b": fa.mean_}], "likelihood": fa.theta_["likelihood"]}
phi = infer.closed_form(model, theta, x)
Q = linear_gaussian.bound(turned_W, fa.mean_, psi_fa, phi, model.posterior, x)
gap = Q - fa.nlml(x).values
print(gap.min(), gap.max(), linear_gaussian.mean_field_gap(turned_W, psi_fa))     # equation (2.10)

# %% [markdown] summary="A solution to the second" tags=["solution"]
# The first column of $W$ is multiplied by 10 and $\psi_1$ by 100, the posteriors are the same, and every nlml
# rises by $\log 10 = 2.303$ nats, by the determinant (8.10). Units are a choice, and factor analysis does not
# mind.

# %% tags=["solution"]
scaled = FactorAnalysis(K, random_state=seed).fit(x * np.append(10.0, np.ones(n_visible - 1)))
print(scaled.components_[:, 0] / fa.components_[:, 0], scaled.noise_variance_[0] / fa.noise_variance_[0])
print(scaled.nlml_path_[-1] - fa.nlml_path_[-1], np.log(10))

# %% [markdown] summary="A solution to the third" tags=["solution"]
# BIC, first of all. The rows of the canonical $W$ beyond the first are small in units of $\sqrt{\psi}$; the
# diagonal of $W \Psi^{-1} W^\top$ says how much each factor explains. And it may end in a Heywood case: a
# factor that has nothing to explain takes a single variable for itself.

# %% tags=["solution"]
print(np.diag((fa.components_ / fa.noise_variance_) @ fa.components_.T), fa.heywood_)

# %% [markdown]
# **Next:** [03, non-linear factor analysis](03-non-linear-factor-analysis.ipynb), where the decoder bends and
# the integral over $z$ has no formula any more. Before:
# [01, autoencoders and factor analysis](01-autoencoders-and-factor-analysis.ipynb);
# [00, start here](00-start-here.ipynb).
