# %% [markdown]
# # 06 · Through the sampling
#
# In notebook 05 the expectation in $Q$ was computed. For most decoders it cannot be. Then it is estimated from
# samples of $z$, and the estimate is minimised. Here lies the one real difficulty of the lecture: the parameters
# $\phi$ of $q$ decide where the samples fall, and a sample that has been drawn has forgotten where it came from. We
# see what goes wrong, and derive the ways around it: the score function, and the reparameterisation. Then one update
# is traced value by value, and a model is learnt by stochastic approximation.
#
# What you need: the bound of notebook 04, and the table $\phi$ of notebook 05. A number in parentheses leads to its
# card, with the full derivation.
#
# First the settings. Change them and run all cells again; what the words say of results, they say of these.

# %%
K = 2             # latent variables
hidden = (32,)    # widths of the decoder's hidden layers; (): a linear decoder
cases = 600       # images of digits
S = 10            # samples for each data case, where a picture or a check needs a few
draws = 2000      # samples where a mean is to be compared with the truth
batch = 50        # images of a minibatch
epochs = 60       # passes over the data when the model is learnt from scratch
rate = 0.02       # Adam's step size for θ there
seed = 0

# %%
import warnings

import matplotlib.pyplot as plt
import numpy as np

from teachvae import Model, Trace, VariationalEM, bound, datasets, grade, gradcheck, gradient_estimators
from teachvae import infer, layers, likelihoods, linear_gaussian, optimizers, plots, posteriors, schedules
from teachvae import tree

plt.rcParams["figure.dpi"] = 120
plt.rcParams["axes.spines.top"] = plt.rcParams["axes.spines.right"] = False
plt.switch_backend(plt.get_backend())            # from here on a figure as the last line of a cell is shown
np.set_printoptions(precision=4, suppress=True)
BLUE, ORANGE, GREEN, RED = plots.COLOURS[:4]

# %% [markdown]
# ## A model to work with
#
# Digits of 8×8 pixels, a decoder, and a table $\phi$: three rounds of variational EM, as in notebook 05, will do. At
# the best $\phi$ the gradient is zero, and nothing could be seen of it. So the mean of every $q_n$ is moved by one of
# its standard deviations, and all are made a little wider.

# %%
x = datasets.split(datasets.digits())[0].x[:cases]
N, D = x.shape


def told(round_, rounds, mean_Q):
    """Said while the model learns."""
    print(f"round {round_}: mean Q = {mean_Q:.3f} nats")


with warnings.catch_warnings():
    warnings.simplefilter("ignore")              # three rounds are not the end, and fit says so
    vem = VariationalEM(K, hidden=hidden, epochs=3, random_state=seed).fit(x, progress=told)
model, theta = vem.model_, vem.theta_
phi = vem.phi_.copy()                            # (N, 2K), rows [m | log s]
phi[:, :K] += np.exp(phi[:, K:])
phi[:, K:] += 0.2

few, phi_few = x[:4], phi[:4]
nodes = infer.nodes_for(model.posterior, 20, 4000, x)              # K ≤ 2: quadrature; beyond, draws
Q_few = bound.forward(model, theta, phi_few, few, nodes[0], weights=nodes[1])[0]
print("Q of the first four images:", Q_few)

# %% [markdown]
# Most are negative, and that is no mistake: minus a log density may be, where the density is above one.

# %% [markdown]
# <a id="lecture-s-samples"></a>
#
# ## 1. S samples in the place of an integral
#
# $\mathbb{E}_ {q(z \mid \phi_n)}[\log p(x_n, z) - \log q(z \mid \phi_n)]$ is an integral over $z$, and with a network
# inside it has no closed form. But it is an expectation, so draw $z_{ns} \sim q(z \mid \phi_n)$ and take the mean (1.9):
#
# $$
# \hat{Q}(\mathcal{D}, \theta, \phi) = -\frac{1}{S} \sum_{s=1}^{S} \sum_{n=1}^{N} \left( \log p(x_n, z_{ns} \mid \theta) - \log q(z_{ns} \mid \phi_n) \right)
# $$
#
# *A word on the sign.* On the lecture's slide the minus in front is missing. As printed there the objective estimates
# $-Q$, the ELBO, which is to be made *large*. Everywhere else the lecture minimises an upper bound, and so do we. A
# program that hands the slide's sum to a minimiser unlearns the data.
#
# **What do you expect?** If $S$ grows from 1 to 100, where does the mean of such estimates go, and what happens to
# their spread?

# %%
with warnings.catch_warnings():
    warnings.simplefilter("ignore")              # off its best a q is wide, and quadrature may not settle
    sizes = 1, 2, 5, 10, 20, 50, 100
    figure = plots.q_against_s(vem, few[:2], phi=phi_few[:2], sizes=sizes, n_repeats=60)
figure

# %% [markdown]
# Look at the line of $Q$ first. Its mean stays where it is: *the estimate is unbiased for every S*, also for a single
# sample. Its spread falls with $1/\sqrt{S}$. (The other line, $L_S$, takes the mean before the logarithm. It falls
# towards the NLML as $S$ grows, and belongs to notebook 12.) That one sample is enough for the right answer on
# average is what makes learning cheap: the noise of many small steps averages out.

# %%
rng = np.random.default_rng(seed)
z, _ = model.posterior.sample(phi_few, rng.standard_normal((draws, 4, K)))
log_q, _ = model.posterior.log_prob(phi_few, z)
slide = np.mean(model.log_joint(theta, few, z) - log_q, axis=0)
print("Q, by nodes:               ", Q_few)
print("the slide's sum, as printed:", slide)
print("with the minus in front:   ", -slide)

# %% [markdown]
# **Exercise 06-1.** Write `sampled_bound(x, W, b, psi, m, s, eta)`, the estimate of $Q_n$, shape (N,), for a linear
# decoder $f(z) = zW + b$ with noise variances `psi`, from the samples $z_{ns} = m_n + s_n \eta_{ns}$. All three log
# densities are sampled, also where the KL has a closed form. `x` is (N, D), `W` (K, D), `b` and `psi` (D,), `m` and
# `s` (N, K), `eta` (S, N, K); `s` are standard deviations. Mind the sign.

# %% tags=["exercise"]
def sampled_bound(x, W, b, psi, m, s, eta):
    """Q_n (N,), in nats, from S samples."""
    z = m + s * eta                              # (S, N, K)
    log_p, log_prior, log_q = ..., ..., ...      # (S, N) each
    return ...

# %% tags=["check"]
grade.check("06-1", sampled_bound)

# %% [markdown] tags=["hint"]
# Write the three log densities as arrays of shape (S, N): $\log p(x_n \mid z)$, $\log p(z)$ and $\log q(z \mid \phi_n)$.
# Then one line puts them together.

# %% [markdown] tags=["hint"]
# Each is a sum over its last axis of one-dimensional normal log densities,
# $-\frac{1}{2} \log 2\pi\sigma^2 - (y - \mu)^2 / 2\sigma^2$. In `log q` the square is $\eta^2$, and $\sigma = s$.

# %% [markdown] tags=["hint"]
# `np.mean(log_q - log_prior - log_p, axis=0)`, with
# `log_p = -0.5 * np.sum(np.log(2 * np.pi * psi) + (x - z @ W - b)**2 / psi, axis=2)`.

# %% tags=["solution"]
def sampled_bound(x, W, b, psi, m, s, eta):
    """Q_n (N,), in nats, from S samples."""
    z = m + s * eta
    log_p = -0.5 * np.sum(np.log(2 * np.pi * psi) + (x - z @ W - b) ** 2 / psi, axis=2)
    log_prior = -0.5 * np.sum(np.log(2 * np.pi) + z**2, axis=2)
    log_q = -0.5 * np.sum(np.log(2 * np.pi * s**2) + eta**2, axis=2)
    return np.mean(log_q - log_prior - log_p, axis=0)

# %% [markdown]
# <a id="lecture-why-no-gradient"></a>
#
# ## 2. Why no gradient goes through a drawn number
#
# For $\theta$ there is no difficulty. $q$ does not contain $\theta$, so the gradient of the estimate is an estimate
# of the gradient. For $\phi$ the lecture asks: why can the estimate not be used? Write
# $c(z, \phi) = \log q(z \mid \phi) - \log p(x, z)$ for what is averaged. Then $\phi$ stands in two places:
#
# $$
# \frac{\partial Q}{\partial \phi} = \frac{\partial}{\partial \phi} \int q(z \mid \phi) \thinspace c(z, \phi) \thinspace dz = \int q \thinspace \frac{\partial c}{\partial \phi} \thinspace dz + \int \frac{\partial q}{\partial \phi} \thinspace c \thinspace dz
# $$
#
# in what is averaged, and in the density that decides where $z$ falls. Whoever draws $z$ first, and then
# differentiates what is on the paper, has the first integral alone.
#
# Look at it. We take one image and move the mean of $q$ in its first latent variable. The exact $Q$ is a smooth
# curve. We estimate it in three ways: with $z$ drawn once and kept; with $z$ drawn afresh at every place; and with
# the noise $\eta$ drawn once and $z = m + s\eta$ made from it at every place.
#
# **What do you expect** each of the three to look like?

# %%
s_1 = np.exp(phi_few[0, K])
shifts = np.linspace(-1.5, 1.5, 61) * s_1
eta = rng.standard_normal((S, 1, K))
frozen, _ = model.posterior.sample(phi_few[:1], eta)


def cost(row, z):
    """The mean over samples of c(z, φ) = log q(z|φ) − log p(x, z), of the first image."""
    return np.mean(model.posterior.log_prob(row, z)[0] - model.log_joint(theta, few[:1], z))


exact, curves = [], {"z kept": [], "z drawn afresh": [], "η kept": []}
for shift in shifts:
    row = phi_few[:1].copy()
    row[0, 0] += shift
    exact.append(bound.forward(model, theta, row, few[:1], nodes[0], weights=nodes[1])[0][0])
    curves["z kept"].append(cost(row, frozen))
    fresh, _ = model.posterior.sample(row, rng.standard_normal((S, 1, K)))
    curves["z drawn afresh"].append(cost(row, fresh))
    curves["η kept"].append(cost(row, model.posterior.sample(row, eta)[0]))

fig, ax = plt.subplots(figsize=(6.6, 3.8))
ax.plot(shifts / s_1, exact, color="black", lw=2.2, label="exact Q")
for (name, curve), colour, style in zip(curves.items(), (RED, ORANGE, BLUE), ("--", ":", "-.")):
    ax.plot(shifts / s_1, curve, color=colour, ls=style, lw=1.6, label=f"{name}, S = {S}")
ax.set(xlabel="shift of $m_{11}$, in units of $s_{11}$", ylabel="$Q_1$ in nats")
ax.legend(frameon=False, fontsize=9)
plt.show()
middle = len(shifts) // 2
print("slope at the middle, nats per unit of m:")
for name, curve in {"exact": exact, **curves}.items():
    if name == "z drawn afresh":
        print(f"  {name:16} none: every place has its own noise")
    else:
        print(f"  {name:16}{(curve[middle + 1] - curve[middle - 1]) / (2 * (shifts[1] - shifts[0])):9.2f}")

# %% [markdown]
# With $z$ kept the curve has nothing to do with the exact one: the data stand still, and only the density of $q$
# slides over fixed points. With $z$ drawn afresh the heights are right, and there is no slope at all. With $\eta$ kept
# the curve has its own offset, and *moves as the exact one does*: a smooth function with about the right slope. That
# is the whole idea of this notebook in a picture.
#
# ### The first integral alone is nothing
#
# The naive gradient is the mean of $\partial c / \partial \phi$ at fixed samples. In $c$ only $\log q$ has $\phi$. So
# its expectation is (1.24)
#
# $$
# \mathbb{E}_ q\left[ \frac{\partial \log q}{\partial \phi} \right] = \int q \thinspace \frac{1}{q} \frac{\partial q}{\partial \phi} \thinspace dz = \frac{\partial}{\partial \phi} \int q \thinspace dz = \frac{\partial}{\partial \phi} 1 = 0 .
# $$
#
# Zero, plus noise, whatever the data are. *A gradient that does not ask for the data cannot be the right one.*
#
# **Exercise 06-2.** Write `naive_gradient(z, m, log_s)`, which returns the pair `dm, dlog_s`, (N, K) each: the mean
# over the samples `z` (S, N, K) of $\partial \log q(z_{ns} \mid \phi_n)$ by $m_n$ and by $\log s_n$, with $z$ held
# fixed. This derivative has a name, the *score*, and is needed again below.

# %% tags=["exercise"]
def naive_gradient(z, m, log_s):
    """dm, dlog_s (N, K): the mean over samples of the score, z held fixed."""
    ...

# %% tags=["check"]
grade.check("06-2", naive_gradient)

# %% [markdown] tags=["hint"]
# In one dimension $\log q = -\log s - (z - m)^2 / 2 s^2$ plus a constant. Differentiate by $m$ and by $\log s$.

# %% [markdown] tags=["hint"]
# With $u = (z - m)/s$: the derivative by $m$ is $u / s$. By $\log s$ use
# $\partial s / \partial \log s = s$, so that $\partial u / \partial \log s = -u$.

# %% [markdown] tags=["hint"]
# $\partial \log q / \partial \log s = u^2 - 1$. Both are (S, N, K); take the mean over `axis=0`.

# %% tags=["solution"]
def naive_gradient(z, m, log_s):
    """dm, dlog_s (N, K): the mean over samples of the score, z held fixed."""
    s = np.exp(log_s)
    u = (z - m) / s
    return np.mean(u / s, axis=0), np.mean(u**2 - 1.0, axis=0)

# %% [markdown]
# ### First way: move the density
#
# The second integral is no expectation under $q$, as $\partial q / \partial \phi$ is no density. Multiply and divide
# by $q$, and it becomes one: $\partial q / \partial \phi = q \thinspace \partial \log q / \partial \phi$. The first
# integral is 0. So (1.25)
#
# $$
# \frac{\partial Q}{\partial \phi} = \mathbb{E}_ q\left[ c(z, \phi) \thinspace \frac{\partial \log q(z \mid \phi)}{\partial \phi} \right]
# $$
#
# This is the *score function* estimator, also called REINFORCE. The sample stays where it is, and the density is
# pushed away from it, the harder the larger its cost. It asks for the *value* of $c$ only, never for a derivative of
# the decoder; $z$ may even be discrete.
#
# **Exercise 06-3.** Write `score_gradient(z, m, log_s, c)`, which returns `dm, dlog_s`, (N, K) each: the score
# function's estimate from samples `z` (S, N, K) and their costs `c` (S, N).

# %% tags=["exercise"]
def score_gradient(z, m, log_s, c):
    """dm, dlog_s (N, K) by the score function."""
    ...

# %% tags=["check"]
grade.check("06-3", score_gradient)

# %% [markdown] tags=["hint"]
# It is the last exercise with one factor more, *before* the mean over the samples is taken.

# %% [markdown] tags=["hint"]
# `c` is (S, N) and the score (S, N, K): give `c` a third axis.

# %% [markdown] tags=["hint"]
# `c[:, :, None] * u / s` and `c[:, :, None] * (u**2 - 1)`, each with `.mean(axis=0)`.

# %% tags=["solution"]
def score_gradient(z, m, log_s, c):
    """dm, dlog_s (N, K) by the score function."""
    s = np.exp(log_s)
    u, c = (z - m) / s, c[:, :, None]
    return np.mean(c * u / s, axis=0), np.mean(c * (u**2 - 1.0), axis=0)

# %% [markdown]
# It is right on average, and on average is not enough. All of $c$ multiplies a factor of mean 0, also the part of $c$
# that is the same for all $z$ and tells nothing.
#
# **What do you expect?** We add 1000 to every cost, or we take its mean, $Q$, off. What does that do to the expectation
# of the estimate, and what to its spread?

# %%
eta_many = rng.standard_normal((draws, 4, K))
z_many, _ = model.posterior.sample(phi_few, eta_many)
u = eta_many[:, 0, 0]                                              # the score in m_11 is u / s_11
c_many = model.posterior.log_prob(phi_few, z_many)[0] - model.log_joint(theta, few, z_many)
for title, added in {"c": 0, "c + 1000": 1000, "c − Q": -Q_few[0]}.items():
    g = (c_many[:, 0] + added) * u / s_1
    print(f"{title:9} mean {g.mean():7.2f}, standard error {g.std() / np.sqrt(draws):6.2f}")
if K <= 2 or not hidden:
    print(f"exact     mean {gradient_estimators.exact(model, theta, phi_few, few, order=40)[0, 0]:7.2f}")
else:
    print(f"The exact gradient is not offered for K = {K}.")

# %% [markdown]
# All three aim at the same number, and only the last comes near it. So take off what tells nothing: any number that
# does not depend on $z_{ns}$ may be subtracted from $c$, since the score has mean 0. A good one is the mean of $c$. It
# is $Q$, which we do not have in general, but which the *other*
# samples of the same data case estimate: a *baseline* (1.26). The sample itself has to stay out of it. The mean over
# all $S$ contains $c_s$, and $c_s$ times its own score does not average to 0.
#
# **Exercise 06-4.** Write `leave_one_out(c)`: from costs (S, N) the array (S, N) of each cost less the mean of the
# other $S - 1$ costs of the same data case.

# %% tags=["exercise"]
def leave_one_out(c):
    """c (S, N) less the mean of the other samples of the data case."""
    ...

# %% tags=["check"]
grade.check("06-4", leave_one_out)

# %% [markdown] tags=["hint"]
# The sum of the others is the sum of all less one's own.

# %% [markdown] tags=["hint"]
# `total = c.sum(axis=0)` is (N,), and `total - c` is (S, N) by broadcasting.

# %% [markdown] tags=["hint"]
# `c - (total - c) / (len(c) - 1)`.

# %% tags=["solution"]
def leave_one_out(c):
    """c (S, N) less the mean of the other samples of the data case."""
    total = np.sum(c, axis=0)
    return c - (total - c) / (len(c) - 1)

# %% [markdown]
# <a id="lecture-base-distribution"></a>
#
# ## 3. Second way: let the sample remember
#
# Draw noise from a *base distribution* that knows nothing of $\phi$, and make $z$ from it by a deterministic,
# differentiable function (1.10):
#
# $$
# \eta \sim p(\eta), \qquad z = T(\phi, \eta) \sim q(z \mid \phi)
# $$
#
# Then an expectation under $q$ is one under $p(\eta)$, a density that stays where it is when $\phi$ moves, and the
# derivative goes inside, where the chain rule does the rest (1.27):
#
# $$
# \frac{\partial}{\partial \phi} \mathbb{E}_ {q(z \mid \phi)}[c(z, \phi)] = \frac{\partial}{\partial \phi} \mathbb{E}_ {p(\eta)}[c(T(\phi, \eta), \phi)] = \mathbb{E}_ {p(\eta)}\left[ \frac{\partial c}{\partial \phi} + \frac{\partial c}{\partial z} \frac{\partial T}{\partial \phi} \right]
# $$
#
# There is no magic in it. "No gradient goes through sampling" means: not through the *choice* of a random number. The
# choice is made before $\phi$ comes in, and what $\phi$ does to the chosen number is ordinary algebra.
#
# The base need not be normal. An exponential variable with rate $\lambda$ is made from a uniform $u$ by
# $z = -\log(u) / \lambda$. Then $\partial z / \partial \lambda = -z / \lambda$. Its second moment is
# $2 / \lambda^2$, with the slope $-4 / \lambda^3$.
#
# **What do you expect:** how close do the two estimators come to that slope, with the same samples?

# %%
lam = 1.5
z = -np.log(rng.uniform(size=draws)) / lam
through_z = 2 * z * (-z / lam)                                     # ∂z²/∂z · ∂z/∂λ
by_score = z**2 * (1 / lam - z)                                    # z² · ∂log q/∂λ
print(f"exact {-4 / lam**3:.4f}")
for name, g in {"through z": through_z, "by the score": by_score}.items():
    print(f"{name:13}{g.mean():.4f}, standard error {g.std() / np.sqrt(draws):.4f}")

# %% [markdown]
# <a id="lecture-diagonal-gaussian"></a>
#
# ## 4. The diagonal Gaussian
#
# All dimensions of a diagonal Gaussian are independent, so each is made on its own. Draw
# $\eta_k \sim \mathcal{N}(0, 1)$ and set (3.1)
#
# $$
# z_k = m_k + \eta_k s_k .
# $$
#
# A linear function of a normal variable is normal; its mean is $m_k + s_k \mathbb{E}[\eta_k] = m_k$, its variance
# $s_k^2 \thinspace \mathrm{Var}[\eta_k] = s_k^2$. So $z_k$ is a sample of $\mathcal{N}(m_k, s_k^2)$, and $z$ one of
# $q(z \mid \phi)$. In the picture six values of the noise are made into samples of two different $q$: each keeps its
# number, and goes where $\phi$ sends it. The lines are at one and two standard deviations.

# %%
own = np.array([[-1.3, 0.9], [0.2, 1.5], [1.2, 0.3], [0.7, -1.1], [-0.4, -0.3], [-1.5, -1.2]])
gaussians = {
    "the base": ([0, 0], [1, 1]), "one q": ([0.8, 0.4], [1.0, 0.5]),
    "m and s moved": ([1.2, -0.2], [0.5, 1.1]),
}
fig, axes = plt.subplots(1, 3, figsize=(7, 2.9), sharex=True, sharey=True)
round_ = np.linspace(0, 2 * np.pi, 101)
circle = np.stack([np.cos(round_), np.sin(round_)], axis=1)
for ax, (title, (mean, width)) in zip(axes, gaussians.items()):
    made = np.array(mean) + np.array(width) * own
    for radius in (1, 2):
        ax.plot(*(np.array(mean) + radius * np.array(width) * circle).T, color="#999999", lw=0.8)
    for number, point in enumerate(made, 1):
        ax.text(*point, str(number), color=BLUE, ha="center", va="center", fontweight="bold")
    ax.set(title=title, xlabel="$\\eta_1$" if title == "the base" else "$z_1$", aspect="equal")
axes[0].set(ylabel="$\\eta_2$, $z_2$", xlim=(-2.4, 3.0), ylim=(-2.6, 2.6))
fig.tight_layout()
plt.show()

# %%
m, s = phi_few[0, :K], np.exp(phi_few[0, K:])
print("m of the first image      ", m, "   mean of the samples              ", z_many[:, 0].mean(axis=0))
print("s of the first image      ", s, "   standard deviation of the samples", z_many[:, 0].std(axis=0))
print(f"(the mean should agree within {s.max() / np.sqrt(draws):.4f} or so)")

# %% [markdown]
# Now backwards. Suppose the gradient of some number $\mathcal{L}$ in every sample is known,
# $dz_{ns} = \partial \mathcal{L} / \partial z_{ns}$. All $S$ samples of a data case were made from the same $m_n$ and
# $s_n$, so their contributions add up (3.2), (3.3):
#
# $$
# \frac{\partial z}{\partial m} = 1, \qquad \frac{\partial z}{\partial \log s} = \eta \thinspace s, \qquad
# dm_n = \sum_s dz_{ns}, \qquad d\log s_n = s_n \sum_s dz_{ns} \thinspace \eta_{ns}
# $$
#
# What is learned is $\log s$, so that $s$ stays positive without a constraint. Hence the factor $s$: it is the most
# forgotten one of the field.
#
# **Exercise 06-5.** Write this backward: `sample_backward(m, log_s, eta, dz)` returns `dm, dlog_s`, (N, K) each, with
# `m` and `log_s` (N, K), `eta` and `dz` (S, N, K).

# %% tags=["exercise"]
def sample_backward(m, log_s, eta, dz):
    """dm, dlog_s (N, K) from dz (S, N, K), for z = m + exp(log_s) η."""
    ...

# %% tags=["check"]
grade.check("06-5", sample_backward)

# %% [markdown] tags=["hint"]
# Each $m_{nk}$ stands in all $S$ samples $z_{nsk}$, with the derivative 1. So its gradient is a sum.

# %% [markdown] tags=["hint"]
# For $\log s$ each $dz$ is multiplied by how far its $z$ moves: $\eta \thinspace s$.

# %% [markdown] tags=["hint"]
# `dz.sum(axis=0)` and `(dz * eta).sum(axis=0) * np.exp(log_s)`. No mean: what each sample counts for is in `dz`.

# %% tags=["solution"]
def sample_backward(m, log_s, eta, dz):
    """dm, dlog_s (N, K) from dz (S, N, K), for z = m + exp(log_s) η."""
    return np.sum(dz, axis=0), np.sum(dz * eta, axis=0) * np.exp(log_s)

# %% [markdown]
# ### What each way costs
#
# All estimators on the same noise, for the first four images, against the exact gradient. "error / exact" near 1
# means that all of the gradient is missing. "worst, in s.e." tells bias from noise: an unbiased estimator stays at a
# few standard errors, however many samples there are. "variance" is that of a single sample's gradient, and decides
# how many samples one needs.

# %%
if K <= 2 or not hidden:
    comparison = gradient_estimators.compare(model, theta, phi_few, few, eta_many, order=40)
    print(comparison)
else:
    comparison = None
    print(f"The exact gradient needs order^K nodes and is offered for K ≤ 2; here K = {K}.")

# %%
if comparison is not None:
    shown = [row for row in comparison.rows if not row.estimator.startswith("naive")]
    fig, ax = plt.subplots(figsize=(6.6, 2.6))
    ax.barh([row.estimator for row in shown], [row.variance for row in shown], color=BLUE, height=0.6)
    ax.set(xscale="log", xlabel="variance of one sample's gradient")
    ax.invert_yaxis()
    fig.tight_layout()
    plt.show()
    ratio = comparison["score function"].variance / comparison["reparameterised"].variance
    print(f"the plain score function has {ratio:.0f} times the variance of the reparameterised gradient")

# %% [markdown]
# Both naive estimators are far off; the one with the analytic KL has no noise at all, and draws every $q$ to the
# prior. The plain score function is unbiased, yet needs that many times as many samples for the same error. The
# baseline takes most of it away. The reparameterised gradient uses the *slope* of $c$: each sample says in which
# direction its cost falls. The last one leaves out a term that is zero on average (1.28). For a linear decoder all
# these variances can be had with a pencil (10.16).

# %% [markdown]
# <a id="lecture-final-objective"></a>
#
# ## 5. The final objective, an ordinary function
#
# With $z_{kns} = m_{kn} + \eta_{kns} s_{kn}$ and $\eta_{kns} \sim \mathcal{N}(0, 1)$ the approximate objective is
#
# $$
# \hat{Q}(\mathcal{D}, \theta, \phi) = -\frac{1}{S} \sum_{s=1}^{S} \sum_{n=1}^{N} \left( \log p(x_n, z_{ns} \mid \theta) - \log q(z_{ns} \mid \phi_n) \right) ,
# $$
#
# again with the minus that the slide leaves out. *For given noise* $\eta$ it is an ordinary, differentiable function of
# $\theta$ and $\phi$. Where the KL of $q$ to the prior has a closed form, that term need not be sampled (1.8); this is
# what most programs do, and what the package does if nothing else is said.
#
# An ordinary function can be checked by differences (8.1). **What do you expect** of the check if the noise is drawn
# inside the function?

# %%
eta = rng.standard_normal((S, 4, K))
Q, cache = bound.forward(model, theta, phi_few, few, eta)
dphi, dtheta = bound.backward(model, theta, cache, np.ones(4))


def with_given_noise(row):
    return bound.forward(model, theta, row, few, eta)[0].sum()


def with_fresh_noise(row):
    return bound.forward(model, theta, row, few, rng.standard_normal((S, 4, K)))[0].sum()


print("noise given:\n", gradcheck.check(with_given_noise, phi_few, dphi, names=["phi"]), "\n", sep="")
print("noise drawn inside:\n", gradcheck.check(with_fresh_noise, phi_few, dphi, names=["phi"]), sep="")

# %% [markdown]
# The noise is an argument, here and everywhere in the package. A published program once kept one noise for the
# backward and used another in $z$: its gradient belonged to a sample that was never used.
#
# **Exercise 06-6.** The whole gradient in $\phi$, by hand: `gradient_of_q(x, W, b, psi, m, log_s, eta)` returns
# `dm, dlog_s`, (N, K) each, of $\sum_n Q_n$ for a linear decoder, with the analytic KL (1.12). Shapes as in 06-1, with
# `log_s` in the place of `s`. The check knows the two terms, reconstruction and KL, and says which of them is off.

# %% tags=["exercise"]
def gradient_of_q(x, W, b, psi, m, log_s, eta):
    """dm, dlog_s (N, K) of the sum of Q_n, analytic KL."""
    s = np.exp(log_s)
    z = m + s * eta                              # (S, N, K)
    dz = ...                                     # (S, N, K), of −(1/S) Σ log p(x|z)
    dm, dlog_s = ..., ...
    return dm, dlog_s

# %% tags=["check"]
grade.check("06-6", gradient_of_q)

# %% [markdown] tags=["hint"]
# From the top: $\partial (-\log p) / \partial f = (f - x)/\psi$ with $f = zW + b$. Each sample counts for $1/S$. Then
# through $W$ to $z$.

# %% [markdown] tags=["hint"]
# `dz = ((z @ W + b - x) / psi) @ W.T / len(eta)`. Then the backward of the sample from 06-5.

# %% [markdown] tags=["hint"]
# The KL is $\sum_k \frac{1}{2}(m^2 + s^2 - 1) - \log s$. Its gradient is $m$ in $m$, and $s^2 - 1$ in $\log s$. It does
# not run through the samples: add it once.

# %% tags=["solution"]
def gradient_of_q(x, W, b, psi, m, log_s, eta):
    """dm, dlog_s (N, K) of the sum of Q_n, analytic KL."""
    s = np.exp(log_s)
    z = m + s * eta
    dz = ((z @ W + b - x) / psi) @ W.T / len(eta)
    return np.sum(dz, axis=0) + m, np.sum(dz * eta, axis=0) * s + s**2 - 1.0

# %% [markdown]
# ### One update, value by value
#
# `Trace` runs one pass of the package's own forward and backward, keeps every intermediate, and sets the number of its
# equation beside it. We take the example that the derivations compute with a pencil: two data cases with two variables,
# one latent variable, two samples. Read the table down for the forward; the gradients in it were computed from the
# bottom up.

# %%
small = Model(layers.mlp(1, (), 2), likelihoods.Gaussian(2), n_latent=1)
small_theta = {
    "decoder": [{"W": np.array([[1.0, 2.0]]), "b": np.array([0.0, 1.0])}],
    "likelihood": {"log_psi": np.log([1.0, 2.0])},
}
small_x = np.array([[2.0, 3.0], [-1.0, 0.0]])
small_phi = np.array([[0.5, np.log(1.0)], [0.0, np.log(0.5)]])     # [m | log s]
small_eta = np.array([[[1.0], [1.0]], [[-1.0], [-1.0]]])           # (S, N, K)
step = {"dQ": np.ones(2), "optimizer": optimizers.Adam(0.1)}       # of the sum of Q_n
trace = Trace(small, small_theta, small_phi, small_x, small_eta, **step)
trace

# %% [markdown]
# Follow data case 1 by hand. Each line repeats one row of the table from the rows above it.

# %%
z = trace["m"] + trace["s"] * trace["eta"]
residual = small_x - (z @ small_theta["decoder"][0]["W"] + small_theta["decoder"][0]["b"])
log_p = -0.5 * np.sum(np.log(2 * np.pi * np.array([1.0, 2.0])) + residual**2 / [1.0, 2.0], axis=2)
kl = 0.5 * (trace["m"] ** 2 + trace["s"] ** 2 - 1)[:, 0] - np.log(trace["s"])[:, 0]
Q = kl - log_p.mean(axis=0)
print("forward:")
for name, mine in {"z": z, "log_p": log_p, "kl": kl, "Q": Q}.items():
    print(f"  {name:6} of case 1: {np.ravel(mine[..., :1, 0] if mine.ndim == 3 else mine[..., 0])}, "
          f"as in the table: {np.allclose(mine, trace[name])}")

# %%
dlog_p = -np.full((2, 2), 0.5)                                     # −w dQ: each sample counts for 1/S
df = dlog_p[:, :, None] * residual / [1.0, 2.0]
dz = df @ small_theta["decoder"][0]["W"].T
dm = dz.sum(axis=0) + trace["m"]                                   # through the samples, and the KL's own
dlog_s = (dz * trace["eta"]).sum(axis=0) * trace["s"] + trace["s"] ** 2 - 1
print("backward:")
print(f"  dz of case 1: {dz[:, 0, 0]}, as in the table: {np.allclose(dz, trace['dz'])}")
print(f"  dphi of case 1: dm = {dm[0, 0]}, dlog_s = {dlog_s[0, 0]}, as in the table: "
      f"{np.allclose(np.hstack([dm, dlog_s]), trace['dphi'])}")
print("step:")
for name, before, gradient, after in trace.updates():
    print(f"  {name:26} moved by {np.ravel(after - before)}")

# %% [markdown]
# Every parameter moved by about 0.1, the step size, whatever the size of its gradient, and *against* its sign. (One
# whose gradient is 0 stays.) That is the first step of Adam, and section 6 says why. For a fitted `VAE`,
# `vae.trace(x[:4])` gives the same table of its next training update.

# %% [markdown]
# <a id="lecture-stochastic-approximation"></a>
#
# ## 6. Learning with stochastic approximation
#
# On each iteration: draw $\eta$, compute the gradient of the approximate objective, take a step against it. All
# integrals are gone, so that automatic differentiation could compute the gradient; here it is written by hand, to be
# seen. It is right on average, and noisy. Three things make this a method.
#
# ### A part of the data
#
# The sum over $n$ can be estimated as well. Take a minibatch $B$ of $M$ of the $N$ data cases, each as likely as any
# other. Then (1.29)
#
# $$
# \mathbb{E}_ B\left[ \frac{N}{M} \sum_{n \in B} \frac{\partial Q_n}{\partial \theta} \right] = \sum_{n=1}^{N} \frac{\partial Q_n}{\partial \theta} ,
# $$
#
# since every case is in the batch with probability $M/N$. Without the factor the gradient is $M/N$ times too short.
# Where *all* of $Q$ is scaled alike, that only changes the step size. It does harm where only a part is scaled: a
# penalty, a prior on $\theta$, or the KL beside an averaged likelihood.
#
# **What do you expect** of the histogram of one entry of the gradient over many minibatches?

# %%
z, _ = model.posterior.sample(phi, rng.standard_normal((1, N, K)))
f, _ = model.f(theta, z)
slopes = (f[0] - x) / model.likelihood.psi(theta["likelihood"], like=x)      # ∂Q_n/∂b, (N, D)
pixel = np.argmax(np.abs(slopes.mean(axis=0)) / slopes.std(axis=0))          # one far from its best
per_case, whole = slopes[:, pixel], slopes[:, pixel].sum()
M = min(batch, N)
sums = np.array([per_case[rng.permutation(N)[:M]].sum() for _ in range(1000)])

fig, ax = plt.subplots(figsize=(6.4, 3))
bins = np.linspace(np.minimum(sums, N / M * sums).min(), np.maximum(sums, N / M * sums).max(), 50)
ax.hist(N / M * sums, bins, color=BLUE, alpha=0.8, label="N/M times the sum over the batch")
ax.hist(sums, bins, color=ORANGE, alpha=0.8, hatch="//", edgecolor="white",
        label="the sum over the batch")
ax.axvline(whole, color="black", lw=2, label="all N data cases")
ax.set(xlabel="gradient of Q in the bias of one pixel", ylabel="minibatches")
ax.legend(frameon=False, fontsize=9)
plt.show()
print(f"all {N}: {whole:.0f};  mean of N/M Σ: {N / M * sums.mean():.0f}, mean of Σ: {sums.mean():.0f}")

# %% [markdown]
# **Exercise 06-7.** Write `minibatch_gradient(x, W, b, psi, z, rows)` for a linear decoder, shapes as in 06-1, with given
# codes `z` (N, K):
# the estimate of $\partial / \partial W$ of $-\sum_{n=1}^{N} \log p(x_n \mid z_n)$, (K, D), that looks only at the data
# cases whose places are in `rows` (M,).

# %% tags=["exercise"]
def minibatch_gradient(x, W, b, psi, z, rows):
    """An estimate of dW (K, D) for all N data cases from those of `rows`."""
    ...

# %% tags=["check"]
grade.check("06-7", minibatch_gradient)

# %% [markdown] tags=["hint"]
# First the gradient for one data case: $-z_n^\top (x_n - z_n W - b) \Psi^{-1}$.

# %% [markdown] tags=["hint"]
# `z[rows].T @ (residual / psi)` sums it over the batch. By which factor does the batch stand for all?

# %% [markdown] tags=["hint"]
# `len(x) / len(rows)`. And $-\log p$ is minimised: the residual is $zW + b - x$, or a minus stands in front.

# %% tags=["solution"]
def minibatch_gradient(x, W, b, psi, z, rows):
    """An estimate of dW (K, D) for all N data cases from those of `rows`."""
    residual = z[rows] @ W + b - x[rows]
    return len(x) / len(rows) * z[rows].T @ (residual / psi)

# %% [markdown]
# ### How long the steps may be
#
# With a noisy gradient a step of constant length never comes to rest. Robbins and Monro (1951) gave the classical
# condition on the lengths $\alpha_t$ of the steps:
#
# $$
# \sum_{t=1}^{\infty} \alpha_t = \infty, \qquad \sum_{t=1}^{\infty} \alpha_t^2 \lt \infty
# $$
#
# The first sum says that the steps can reach any place, however far. The second says that the noise they carry dies
# out. $\alpha_t = \alpha / t$ fulfils both, a constant fails the second, $\alpha / t^2$ fails the first.
#
# We do the E-step of data case 1 of the small example in this way, one sample per step, and start far from its
# minimum. The gap $Q_1 - nlml_1$ is known in closed form (2.10). The lines are means over 40 runs.
#
# **What do you expect** of a constant step, of $1/t$, and of $1/t^2$?

# %%
runs, steps = 40, 1500
schedule = {
    "constant, 0.05": lambda t: 0.05, "2 / (t + 20)": lambda t: 2 / (t + 20),
    "2 / (t + 4)²": lambda t: 2 / (t + 4) ** 2,
}
many_x = np.repeat(small_x[:1], runs, axis=0)
gaps = {}
for name, alpha in schedule.items():
    own, table, path = np.random.default_rng(seed), np.tile([-2.0, 0.5], (runs, 1)), []
    for t in range(1, steps + 1):
        _, cache = bound.forward(small, small_theta, table, many_x, own.standard_normal((1, runs, 1)))
        dtable, _ = bound.backward(small, small_theta, cache, np.ones(runs), need_dtheta=False)
        table = table - alpha(t) * dtable
        m, log_s = table.T
        twice = 4 * np.exp(2 * log_s) - 1 - np.log(4) - 2 * log_s + 4 * (m - 1) ** 2
        path.append(np.mean(twice) / 2)          # M = 4, and the posterior's mean is 1
    gaps[name] = path

fig, ax = plt.subplots(figsize=(6.4, 3.4))
for (name, path), colour, style in zip(gaps.items(), (ORANGE, BLUE, RED), ("-", "--", ":")):
    ax.plot(np.arange(1, steps + 1), path, color=colour, ls=style, lw=1.6, label=f"$\\alpha_t$ = {name}")
ax.set(xscale="log", yscale="log", xlabel="step t", ylabel="$Q_1 - nlml_1$ in nats")
ax.legend(frameon=False)
plt.show()
for name, path in gaps.items():
    print(f"{name:16} {np.mean(path[-50:]):.4f} nats above the minimum in the last 50 steps")

# %% [markdown]
# The constant step is quick, and then stays at a height that its own noise keeps up. $1/t$ goes on falling. $1/t^2$
# is spent before it arrives. In practice one takes a constant step for most of the way and lets it fall at the end.

# %% [markdown]
# ### Adam
#
# One step size for all parameters is a problem where their gradients differ by factors of thousands, as those of
# $\log\psi$ and of a weight do. Adam keeps running means of each gradient and of its square (6.2),
#
# $$
# m \leftarrow \beta_1 m + (1 - \beta_1) g, \qquad v \leftarrow \beta_2 v + (1 - \beta_2) g \odot g ,
# $$
#
# and moves by their ratio, which has no unit: a mean over a root mean square. ($m$ and $v$ are the optimiser's here,
# not those of $q$.) Both begin at 0, and so are too small at first. If all gradients had the expectation $g$,
#
# $$
# \mathbb{E}[m_t] = (1 - \beta_1) \sum_{i=1}^{t} \beta_1^{t-i} g = (1 - \beta_1^t) \thinspace g ,
# $$
#
# by the geometric sum. Divide by that factor, and the bias is gone:
#
# $$
# \hat{m} = \frac{m}{1 - \beta_1^t}, \qquad \hat{v} = \frac{v}{1 - \beta_2^t}, \qquad p \leftarrow p - \alpha \frac{\hat{m}}{\sqrt{\hat{v}} + \epsilon}
# $$
#
# **What do you expect** of the first move without the two corrections, $\beta_1 = 0.9$ and $\beta_2 = 0.999$: too long
# or too short?

# %%
alpha, beta1, beta2, m, v = 0.1, 0.9, 0.999, 0.0, 0.0
print(" t   move corrected   not corrected     (a gradient that is 1 in every step)")
for t in range(1, 101):
    m, v = beta1 * m + (1 - beta1), beta2 * v + (1 - beta2)
    if t in (1, 2, 5, 10, 100):
        corrected = alpha * (m / (1 - beta1**t)) / np.sqrt(v / (1 - beta2**t))
        print(f"{t:3}{corrected:15.4f}{alpha * m / np.sqrt(v):16.4f}")

# %% [markdown]
# Corrected, a steady gradient moves its parameter by $\alpha$ in each step. Without, the first moves are more than
# three times as long: the root of $v$ is too small by more than $m$ is.
#
# **Exercise 06-8.** Write `adam_step(p, g, m, v, t, alpha, beta1, beta2, epsilon)`, which returns the new `p, m, v`.
# `p`, the gradient `g`, `m` and `v` are arrays of one shape; `t` counts the steps from 1, and this is step `t`. Leave
# the arguments as they are. $\epsilon$ stands outside the root.

# %% tags=["exercise"]
def adam_step(p, g, m, v, t, alpha, beta1, beta2, epsilon):
    """p, m, v after step t of Adam."""
    ...
    return ..., ..., ...

# %% tags=["check"]
grade.check("06-8", adam_step)

# %% [markdown] tags=["hint"]
# First the two running means with the new gradient. They are what is handed back, uncorrected.

# %% [markdown] tags=["hint"]
# Then `m_hat = m / (1 - beta1**t)` and `v_hat` likewise, from the *new* `m` and `v`.

# %% [markdown] tags=["hint"]
# `p - alpha * m_hat / (np.sqrt(v_hat) + epsilon)`. Write `m = ...` and not `m *= ...`, which changes the argument.

# %% tags=["solution"]
def adam_step(p, g, m, v, t, alpha, beta1, beta2, epsilon):
    """p, m, v after step t of Adam."""
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
    return p - alpha * m_hat / (np.sqrt(v_hat) + epsilon), m, v

# %% [markdown]
# ### All of it: a model from scratch
#
# Random weights, a table $\phi$ of $N$ rows, minibatches, one sample of $\eta$ per data case and step, the gradient
# through the sample, Adam. There is no integral left and no closed form. The loop fits on a page. (A row of the table
# is seen once per epoch, so each row has a clock and running means of its own.)

# %%
def adam(p, g, m, v, t, alpha):
    """The package's formula for one step of Adam, with the usual β and ε."""
    return optimizers.adam(p, g, m, v, t, alpha, 0.9, 0.999, 1e-8)


rng = np.random.default_rng(seed)
ours = Model(layers.mlp(K, hidden, D), likelihoods.Gaussian(D), n_latent=K)
flat, w = tree.pack(ours.init(rng))              # all of θ as one vector, and as a tree of views into it
w["decoder"][-1]["b"][...], w["likelihood"]["log_psi"][...] = x.mean(axis=0), np.log(x.var())
table = np.concatenate([0.5 * rng.standard_normal((N, K)), np.full((N, K), -1.0)], axis=1)
state = np.zeros_like(flat), np.zeros_like(flat)                   # Adam's m and v, of θ
m_rows, v_rows = np.zeros_like(table), np.zeros_like(table)        # and of the table
clock, clocks, noisy = 0, np.zeros((N, 1)), []
falling = schedules.Cosine(rate, epochs)         # constant would do; falling, it comes to rest

for epoch in range(1, epochs + 1):
    order = rng.permutation(N)
    for rows in np.split(order, range(M, N, M)):
        eta = rng.standard_normal((1, len(rows), K))                               # one sample each
        Q, cache = bound.forward(ours, w, table[rows], x[rows], eta)
        dtable, dw = bound.backward(ours, w, cache, np.full(len(rows), 1 / len(rows)))
        clock, clocks[rows] = clock + 1, clocks[rows] + 1
        flat[...], *state = adam(flat, tree.flatten(dw, w), *state, clock, falling(epoch))
        table[rows], m_rows[rows], v_rows[rows] = adam(
            table[rows], len(rows) * dtable, m_rows[rows], v_rows[rows], clocks[rows], 0.05
        )
        noisy.append(Q.mean())
    if epoch % 20 == 0 or epoch == epochs:
        print(f"epoch {epoch:3}: mean Q of its minibatches {np.mean(noisy[-(N // M):]):.3f} nats per data case")

# %%
steps = np.arange(1, len(noisy) + 1)
width = max(1, N // M)
smooth = np.convolve(noisy, np.ones(width) / width, mode="valid")
eta, weights = infer.nodes_for(ours.posterior, 7, 200, x)
settled = bound.forward(ours, w, table, x, eta, weights=weights)[0].mean()
fig, ax = plt.subplots(figsize=(6.6, 3.4))
ax.plot(steps, noisy, ".", ms=2, color="#999999", label="Q of a minibatch, one sample each")
ax.plot(steps[width - 1 :], smooth, color=BLUE, lw=1.8, label="mean over an epoch")
ax.axhline(settled, color=RED, ls="--", lw=1.4, label="Q at the end, all data, by nodes")
tail = np.quantile(noisy, [0.0, 0.9])
ax.set(xlabel="step", ylabel="nats per data case", ylim=(tail[0] - 3, tail[1] + 3))
ax.legend(frameon=False, fontsize=9)
plt.show()
print(f"mean Q at the end: {settled:.3f} nats; after the variational EM above it was {vem.q_path_[-1]:.3f}")

# %%
decoded, _ = ours.f(w, table[:10, :K])
imagined, _ = ours.f(w, rng.standard_normal((10, K)))
rows = [("data $x_n$", x[:10]), ("decoder at $m_n$", decoded), ("at z from the prior", imagined)]
plots.image_rows(rows, (8, 8), (0, 1), ink=True)

# %% [markdown]
# Each grey point is one noisy step, and the path has a clear direction all the same. Everything in that loop is a
# density that can be evaluated and a sample that can be differentiated. Nothing asked for the decoder to be of a
# special form. That is the freedom of which the lecture speaks: as long as $q$ can be sampled by reparameterisation,
# and $p$ and $q$ are differentiable, the same loop applies.

# %% [markdown]
# ## 7. Find the fault
#
# A gradient check proves that a backward belongs to its forward. It does not prove that the forward is right. Several
# published programs, one of them released in 2026, sample with the wrong width: $\exp(\log s^2)$ taken for a standard
# deviation, or half of it. Here is such a sampler, with a backward that fits it. It has a quarter of the variance that
# its KL pays for.

# %%
class NarrowSampler(posteriors.DiagonalGaussian):
    """A diagonal Gaussian whose samples are m + ½ s η: the fault to be found."""

    def sample(self, phi, eta):
        m, log_s = self.unpack(phi)
        s = 0.5 * np.exp(log_s)
        return m + s * eta, (s, eta)             # sample_backward takes this s: it fits


right = small
narrow = Model(layers.mlp(1, (), 2), likelihoods.Gaussian(2), n_latent=1, posterior=NarrowSampler(1))
nlml = linear_gaussian.nlml(*linear_gaussian.parameters(small, small_theta), small_x)

# %% [markdown]
# Four checks, first on the sampler that is right: a gradient check with fixed noise; whether $Q$ falls in E-steps;
# whether $Q$, at the best $\phi$, is still above the NLML; and the moments of many samples.

# %%
def checks(model):
    """Print what four checks say of a model's sampler, on the small example."""
    noise = np.random.default_rng(seed).standard_normal((200, 2, 1))
    _, cache = bound.forward(model, small_theta, small_phi, small_x, noise)
    dphi, _ = bound.backward(model, small_theta, cache, np.ones(2))

    def total(table):
        return bound.forward(model, small_theta, table, small_x, noise)[0].sum()

    report = gradcheck.check(total, small_phi, dphi)
    eta, weights = infer.nodes_for(model.posterior, 20, 200, small_x)
    before = bound.forward(model, small_theta, small_phi, small_x, eta, weights=weights)[0]
    best = infer.e_step(model, small_theta, small_phi, small_x, eta, weights)
    z, _ = model.posterior.sample(small_phi, np.random.default_rng(seed).standard_normal((10**5, 2, 1)))
    print(f"gradient check: largest error {report.worst.error:.0e}")
    print(f"falling Q:      {before.mean():.4f} → {best.Q.mean():.4f}")
    print(f"Q against nlml: Q − nlml = {np.round(best.Q - nlml, 6) + 0.0}")
    print(f"moments of z:   standard deviation {z.std(axis=0)[:, 0]}, s = {np.exp(small_phi[:, 1])}")


checks(right)

# %% [markdown]
# All as it should be. The family holds the posterior here, so the best $Q$ touches the NLML.
#
# **Exercise 06-9.** *Before* you run `checks(narrow)` in a cell of your own: which of the four sees the fault? Put
# `"passes"` or `"fails"` for each into the dict below, `"passes"` where the check finds nothing wrong.

# %% tags=["exercise"]
narrow_sampler = {
    "gradient check": ...,
    "falling Q": ...,
    "Q against nlml": ...,
    "moments of z": ...,
}

# %% tags=["check"]
grade.check("06-9", narrow_sampler)

# %% [markdown] tags=["hint"]
# What does each check compare with what? Which of them has something outside the program to compare with?

# %% [markdown] tags=["hint"]
# The backward uses the same halved $s$ as the forward. And the function that is minimised is smooth, only not a bound.

# %% [markdown] tags=["hint"]
# The KL pays for a $q$ of the width $s$, and the reconstruction sees one of $s/2$. Which way does that move $Q$ at its
# minimum? Now run `checks(narrow)`.

# %% [markdown] tags=["solution"]
# The gradient check passes, and $Q$ falls beautifully: below the NLML, where no bound can be. Only what compares with
# a number from outside sees it: the NLML, or the moments that the samples should have. (In one of the published
# programs the gradient of the log variance is wrong as well. That a gradient check would have found.)

# %% tags=["solution"]
narrow_sampler = {
    "gradient check": "passes",
    "falling Q": "passes",
    "Q against nlml": "fails",
    "moments of z": "fails",
}

# %% [markdown]
# ## To try
#
# 1. *Leave the mean field.* Which line of the loop in section 6 would change if $q$ had a full covariance, $z = m + L \eta$
#    with a triangular $L$? Try it: `Model(…, posterior=posteriors.FullGaussian(K))`.
# 2. *More samples or more steps?* Give the loop 10 samples per step and a tenth of the epochs. Which is better for the
#    same number of decoder passes?

# %% [markdown] summary="A solution to the first" tags=["solution"]
# None: the family brings its own `sample`, its KL and their backwards. Only the table has more columns, `n_phi` of the
# family in the place of 2K, and its start has to be one that the family understands.

# %% tags=["solution"]
full = posteriors.FullGaussian(K)
print(f"numbers in a row of the table: {full.n_phi} in the place of {2 * K}")
print("a row for the prior:", infer.prior_phi(Model(ours.decoder, ours.likelihood, K, full), x[:1])[0])

# %% [markdown] summary="A solution to the second" tags=["solution"]
# Set `epochs` to a tenth and draw `eta` with ten samples in the loop. Early in training one sample and more steps win:
# the noise of the minibatch is larger than that of $\eta$, and a step that is only roughly right is still a step. Close
# to the end, where the gradient is small beside its noise, more samples (or smaller steps) are worth more.

# %% [markdown]
# ## What is left open
#
# One thing remains from notebook 05: a table with a row for every data case. It has to be learned row by row, and says
# nothing of a new image. The next notebook puts a network in its place, and with that the variational autoencoder is
# complete.
#
# Back: [05, variational EM](05-variational-em.ipynb).
# Next: [07, amortisation and the VAE](07-amortisation-and-the-vae.ipynb). From anywhere:
# [00, start here](00-start-here.ipynb).
