# %% [markdown]
# # 04 · Jensen and the bound
#
# The likelihood of a bent model is an integral inside a logarithm, and neither a grid nor random draws can
# follow it through learning ([notebook 03](03-non-linear-factor-analysis.ipynb)). This notebook trades that
# number for another one: $Q$, which is never below it, which can be computed, and which has a gradient. One
# inequality does it, Jensen's. We prove it, look at it for densities and for probabilities, then go through the
# derivation of the bound line by line, with the number of each line. Everything after this notebook is about
# making $Q$ small.
#
# A number in parentheses leads to its card in the book of derivations.
#
# First the settings. Change them and run all cells again. What the words say of results holds for the settings
# as they were handed out.

# %%
cases = 500      # of the data,
n_visible = 10   # their variables,
n_latent = 3     # and the latent variables that they are made from
K = 3            # latent variables of the model
hidden = ()      # widths of its decoder's hidden layers; (): a straight decoder
S = 5            # samples in the walk down the bound
components = 3   # of the mixture
seed = 0

# %%
from matplotlib.colors import BoundaryNorm
import matplotlib.pyplot as plt
import numpy as np
from scipy.special import logsumexp
from scipy.stats import norm

from teachvae import GaussianMixture, Model, bound, datasets, grade, grid, jensen, layers
from teachvae import likelihoods, linear_gaussian, nlml
from teachvae.plots import COLOURS

plt.rcParams.update({"figure.dpi": 120, "axes.spines.top": False, "axes.spines.right": False})
np.set_printoptions(precision=4, suppress=True)

# %% [markdown]
# <a id="lecture-approximating-the-nlml"></a>
#
# ## 1. Approximating the NLML
#
# We want $-\log p(x_n)$, and $p(x_n) = \int p(x_n, z) \thinspace dz$ cannot be had. What can be had is
# $p(x_n, z)$ at any point $z$ we like.
#
# The idea is to bring in a density of our own for each data case, $q(z \mid \phi_n)$, from a family that is
# easy: easy to draw from, with a density one can write down. It is called *auxiliary*, because it is no part of
# the model: it changes nothing that the model says of $x$. It is *adjustable* by its parameters $\phi_n$. And
# it is meant to come close to the posterior,
#
# $$
# q(z \mid \phi_n) \approx p(z \mid x_n, \theta) .
# $$
#
# Why to the posterior, of all densities? Look at the ratio $p(x, z) / q(z)$. By the product rule
# $p(x, z) = p(x) \thinspace p(z \mid x)$, so
#
# $$
# \frac{p(x, z)}{q(z)} = p(x) \thinspace \frac{p(z \mid x)}{q(z)} .
# $$
#
# If $q$ is the posterior, then this ratio is the number we want, *at every* $z$. If $q$ is only near to it, the
# ratio varies, and the question is how to average it. The book's running example shows it: $x = (2, 3)$, a
# straight decoder $f(z) = z \thinspace (1, 2) + (0, 1)$, $\psi = (1, 2)$. Its posterior is
# $\mathcal{N}(1, 0.5^2)$ and $-\log p(x) = 3.8776$.
#
# *What do you expect* of the curve $-\log (p(x, z) / q(z))$ for a $q$ that is too wide, one that is too narrow,
# and the posterior?

# %%
x, psi = np.array([2.0, 3.0]), np.array([1.0, 2.0])


def log_joint(z, f=lambda z: z):
    """log p(x, z) of the running example at points z of any shape; with f = np.tanh its decoder is bent."""
    z = np.asarray(z, dtype=float)
    mean = f(z)[..., None] * np.array([1.0, 2.0]) + np.array([0.0, 1.0])
    return norm.logpdf(x, mean, np.sqrt(psi)).sum(axis=-1) + norm.logpdf(z)


z = np.linspace(-1.5, 3.5, 401)
h = z[1] - z[0]
wide_z = np.linspace(-12, 12, 4801)                         # for integrals
true_nlml = -logsumexp(log_joint(wide_z)) - np.log(wide_z[1] - wide_z[0])

fig, axes = plt.subplots(1, 2, figsize=(7, 2.9), layout="constrained")
for (name, m, s), colour, style in zip(
    [("the posterior", 1.0, 0.5), ("too wide", 1.0, 1.0), ("too narrow", 1.0, 0.3), ("beside it", 0.3, 0.5)],
    (COLOURS[6], COLOURS[0], COLOURS[1], COLOURS[4]), ("-", "--", "-.", ":"),
):
    axes[0].plot(z, norm.pdf(z, m, s), color=colour, ls=style, label=f"{name}: N({m}, {s}²)")
    axes[1].plot(z, norm.logpdf(z, m, s) - log_joint(z), color=colour, ls=style)
axes[0].set(xlabel="z", ylabel="q(z), per unit of z", ylim=(0, 1.9))
axes[1].set(xlabel="z", ylabel="−log p(x, z)/q(z), nats", ylim=(0, 10))
axes[0].legend(frameon=False, fontsize=7)
plt.show()
print(f"−log p(x) = {true_nlml:.4f} nats: the level of the black line")

# %% [markdown]
# For the posterior the curve is a level line at $-\log p(x)$. Any other $q$ makes it bend or tilt: above the
# line here, below it there.
#
# So write the integral as an average of this ratio under $q$, which changes nothing:
#
# $$
# p(x) = \int p(x, z) \thinspace dz = \int q(z) \thinspace \frac{p(x, z)}{q(z)} \thinspace dz = \mathbb{E}_ q\left[ \frac{p(x, z)}{q(z)} \right] .
# $$
#
# We want minus the *logarithm of the average* of the ratio. What we can estimate well, with few samples and
# without bias, is the *average of the logarithm*. How do these two differ?
#
# The inequality that tells is about averages of any kind. So what follows holds for latent variables of any
# kind: real numbers, with integrals (sections 2 and 4), or the number of a component, with sums (section 3).

# %% [markdown]
# <a id="lecture-jensen-continuous"></a>
#
# ## 2. Jensen's inequality for a density
#
# A function $f$ of a real number is *convex* if the chord between any two points of its graph nowhere lies
# below the graph. Equivalently: through each point of the graph goes a straight line that lies nowhere above
# the graph. Where $f$ is smooth this line is the tangent.
#
# **Jensen's inequality** (1.20). For a convex $f$, any density $q$, and any real-valued function $g$ with a
# mean under $q$,
#
# $$
# f\left( \int q(x) \thinspace g(x) \thinspace dx \right) \leq \int q(x) \thinspace f(g(x)) \thinspace dx = \mathbb{E}_ q[f(g(x))] .
# $$
#
# *Proof.* Let $a = \mathbb{E}_ q[g]$, and let $t$ be the slope of the line through $(a, f(a))$. The line lies
# below $f$:
#
# $$
# f(u) \geq f(a) + t \thinspace (u - a) \qquad \text{for every } u .
# $$
#
# Put $u = g(x)$, multiply by $q(x) \geq 0$, integrate. On the right, $\int q = 1$ leaves $f(a)$, and the
# slope's term vanishes, because $\mathbb{E}_ q[g] - a = 0$. That is all. There is equality exactly if $f$ lies
# *on* its line wherever $g(x)$ takes values: for a curved $f$ like $-\log$, only if $g$ is constant where $q$
# is not 0.
#
# A picture of the proof, for $f = -\log$:

# %%
u = np.linspace(0.2, 6.0, 400)
g_drawn = np.exp(np.random.default_rng(seed).uniform(-0.9, 1.7, 12))  # twelve values of g, each as likely
a = g_drawn.mean()
fig, ax = plt.subplots(figsize=(6, 3.2), layout="constrained")
ax.plot(u, -np.log(u), color=COLOURS[6], label="f(u) = −log u")
ax.plot(u, -np.log(a) - (u - a) / a, "--", color=COLOURS[0], label="its tangent at the mean of g")
ax.vlines(g_drawn, -np.log(a) - (g_drawn - a) / a, -np.log(g_drawn), color=COLOURS[1], lw=2,
          label="how far f lies above it")
ax.plot(g_drawn, -np.log(g_drawn), "o", ms=3.5, color=COLOURS[1])
ax.plot(a, -np.log(a), "s", color=COLOURS[0])
ax.plot(a, -np.log(g_drawn).mean(), "D", color=COLOURS[3])
line = {"arrowstyle": "-"}
ax.annotate("mean of f(g)", (a, -np.log(g_drawn).mean()), (a + 0.5, 0.3), fontsize=8, arrowprops=line)
ax.annotate("f of the mean", (a, -np.log(a)), (a - 1.2, -1.8), fontsize=8, arrowprops=line)
ax.set(xlabel="u", ylabel="f(u)", ylim=(-2.4, 2.0))
ax.legend(frameon=False, fontsize=8)
plt.show()
print(f"the mean of the orange lengths is {np.mean(-np.log(g_drawn) + np.log(a) + (g_drawn - a) / a):.4f}, "
      f"and the gap {-np.log(g_drawn).mean() + np.log(a):.4f}")

# %% [markdown]
# The tangent's own average is its value at the mean: a straight line averages out. So the gap is the average of
# how far the curve lies above the tangent, and both printed numbers are one.
#
# Now a case where both sides can be done by hand. Let $q = \mathcal{N}(m, s^2)$, $g(z) = e^z$ and $f = -\log$.
# On the right stands $-\mathbb{E}[z] = -m$, on the left $-\log \mathbb{E}[e^z] = -m - \frac{1}{2} s^2$. *What
# do you expect* of the gap as $s$ goes to 0?

# %%
print(f"{'s':>5}{'f of the mean':>16}{'mean of f':>12}{'gap':>9}{'s²/2':>9}")
for s in (0.01, 0.5, 1.0, 2.0):
    found = jensen.jensen_continuous(
        lambda u: -np.log(u), np.exp, lambda z: norm.pdf(z, 0.3, s), (0.3 - 20 * s, 0.3, 0.3 + 20 * s)
    )
    print(f"{s:5}{found.lhs:16.4f}{found.rhs:12.4f}{found.gap:9.4f}{s**2 / 2:9.4f}")

# %% [markdown]
# The gap is half a variance: the more the logarithm of $g$ varies under $q$, the more is lost, and nothing if
# it does not vary.
#
# Two remarks on the conditions. *Convex*: a concave $f$ turns the inequality round. `jensen_continuous` looks
# at its numbers and refuses:

# %%
try:
    jensen.jensen_continuous(np.log, np.exp, lambda z: norm.pdf(z), interval=(-20, 0, 20))
except ValueError as error:
    print(error)

# %% [markdown]
# *Any real-valued* $g$: that is for an $f$ defined on all real numbers. For $f = -\log$, which the lecture
# takes in its second formula, $g$ must be above 0 wherever $q$ is, or there is no logarithm. Our $g$ is a ratio
# of densities, so it is. The form we need is (1.4):
#
# $$
# -\log \left( \int q(z) \thinspace g(z) \thinspace dz \right) \leq -\int q(z) \log g(z) \thinspace dz, \qquad g \gt 0 .
# $$

# %% [markdown]
# <a id="lecture-jensen-discrete"></a>
#
# ## 3. Jensen's inequality for a PMF
#
# Nothing in the proof needs an integral. Let there be $C$ places $k$, with probabilities $Q_k \geq 0$ that sum
# to 1, and numbers $g_k$. (The lecture lets $k$ run up to $C$ and its sums up to $K$: both are the number of
# places. We write $C$, since $K$ counts latent variables elsewhere. $Q_k$ is a probability here, and not the
# bound.) Then (1.21)
#
# $$
# f\left( \sum_{k=1}^{C} Q_k \thinspace g_k \right) \leq \sum_{k=1}^{C} Q_k \thinspace f(g_k) .
# $$
#
# With two places it is the definition of convexity itself: on the right stands a point of the chord, on the
# left the curve below it.

# %%
pmf, g = np.array([0.25, 0.75]), np.array([1.0, 4.0])
print(f"{'f':8}{'f of the mean':>15}{'mean of f':>12}{'gap':>9}")
for name, f in {"−log u": lambda u: -np.log(u), "u²": np.square, "eᵘ": np.exp,
                "3u − 2": lambda u: 3 * u - 2}.items():
    found = jensen.jensen_discrete(f, g, pmf)
    print(f"{name:8}{found.lhs:15.4f}{found.rhs:12.4f}{found.gap:9.4f}")
print(f"the variance of g: {pmf @ (g - pmf @ g) ** 2:.4f}")

# %%
share = np.linspace(0, 1, 101)                              # probability of the second place
mean = (1 - share) * g[0] + share * g[1]
chord = -(1 - share) * np.log(g[0]) - share * np.log(g[1])
fig, ax = plt.subplots(figsize=(5.6, 3), layout="constrained")
ax.plot(share, chord, color=COLOURS[3], label="mean of −log g")
ax.plot(share, -np.log(mean), "--", color=COLOURS[0], label="−log of the mean of g")
ax.fill_between(share, -np.log(mean), chord, color="#DDDDDD", label="gap")
ax.set(xlabel="probability of the second place", ylabel="nats")
ax.legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# The inequality holds for *every* choice of the PMF, and that is its use: we may choose. The gap is 0 at both
# ends, where one place has all the probability and nothing varies.
#
# A place with $Q_k = 0$ plays no part, even if $g_k = 0$ and its logarithm is infinite. On paper one writes
# $0 \cdot \log 0 = 0$; a program gets NaN, and must look away.
#
# **Exercise 04-1.** Write `jensen_sides(g, pmf)` for $f = -\log$. Given are `g` (N, C) and `pmf` (N, C), a PMF
# in each row. Return a dict with `"lhs"` (N,), $-\log \sum_k Q_k g_k$, and `"rhs"` (N,),
# $-\sum_k Q_k \log g_k$. Where `pmf` is 0, `g` may be 0 too.

# %% tags=["exercise"]
def jensen_sides(g, pmf):
    """{"lhs": −log E[g], "rhs": −E[log g]}, (N,) each."""
    ...

# %% tags=["check"]
grade.check("04-1", jensen_sides)

# %% [markdown] tags=["hint"]
# The left side has one logarithm a row, of a number that is above 0. The right side has $C$ of them, and some
# may be of 0.

# %% [markdown] tags=["hint"]
# `np.where(condition, a, b)` takes from `a` where the condition holds and from `b` elsewhere. Which number can
# stand in for $g$ where the probability is 0, so that its logarithm does no harm?

# %% [markdown] tags=["hint"]
# `log_g = np.log(np.where(pmf > 0, g, 1.0))`. Then both sides are sums over `axis=1`, with a minus.

# %% tags=["solution"]
def jensen_sides(g, pmf):
    """{"lhs": −log E[g], "rhs": −E[log g]}, (N,) each."""
    log_g = np.log(np.where(pmf > 0, g, 1.0))               # any number does where the PMF is 0
    return {"lhs": -np.log(np.sum(pmf * g, axis=1)), "rhs": -np.sum(pmf * log_g, axis=1)}

# %% [markdown]
# ### A mixture is the discrete case
#
# Let $z$ be one of $C$ components, $p(z = k) = \pi_k$ and $p(x \mid z = k) = \mathcal{N}(x; \mu_k, \Sigma_k)$:
# a mixture of Gaussians (9.1). Where other models have an integral it has a sum of $C$ terms, so here
# $-\log p(x)$ *can* be had, and we can watch what the inequality does. A PMF $q_k$ takes the place of $q(z)$,
# and with $g_k = p(x, z = k) / q_k$ (9.3)
#
# $$
# -\log p(x) = -\log \sum_k q_k \thinspace \frac{p(x, z = k)}{q_k} \leq \sum_k q_k \left( \log q_k - \log p(x, z = k) \right) = Q(q) .
# $$
#
# Two components at −1 and 2, and $x = 0$. Since $q$ is $(1 - a, a)$, the whole bound is a curve over $a$. *What
# do you expect:* where is it lowest, and how low?

# %%
log_p = np.log([0.4, 0.6]) + norm.logpdf(0.0, [-1.0, 2.0], [1.0, 1.5])  # log p(x, z = k)
posterior = np.exp(log_p - logsumexp(log_p))
a = np.linspace(0, 1, 201)
Q = np.array([jensen.nlml_as_jensen_discrete(log_p, [1 - a_, a_]).rhs for a_ in a])
fig, ax = plt.subplots(figsize=(5.6, 3), layout="constrained")
ax.plot(a, Q, color=COLOURS[0], label="Q(a)")
ax.axhline(-logsumexp(log_p), color=COLOURS[6], ls="--", label="−log p(x)")
ax.plot(posterior[1], -logsumexp(log_p), "o", color=COLOURS[3], label="posterior, p(z = 2|x)")
ax.set(xlabel="a = q(z = 2)", ylabel="nats")
ax.legend(frameon=False, fontsize=8)
plt.show()
print(f"least Q of the curve {Q.min():.6f}, −log p(x) {-logsumexp(log_p):.6f}; at a = {a[Q.argmin()]:.3f}, "
      f"the posterior has {posterior[1]:.4f}")

# %% [markdown]
# The bound is above $-\log p(x)$ for every $a$, and touches it at one point: the posterior. One can find that
# point without knowing the answer (1.35). With a multiplier $\lambda$ for $\sum_k q_k = 1$ the derivative in
# $q_k$ is
#
# $$
# \log q_k + 1 - \log p(x, z = k) + \lambda = 0 ,
# $$
#
# so $q_k$ is proportional to $p(x, z = k)$, and that, divided by its sum, is the posterior. In a mixture its
# entries are called *responsibilities* (9.4). The ends of the curve are a $q$ that is certain: there $Q$ is
# $-\log p(x, z = k)$ of one component.
#
# EM for a mixture does exactly this for every data case, then improves the components, and so on.
# `GaussianMixture` keeps the table of its PMFs, and can be told to use certain ones only ("hard", as k-means
# does).

# %%
rng = np.random.default_rng(seed)
bumps = [rng.normal(mean, sd, (150, 1)) for mean, sd in ((-3, 0.7), (0, 1.0), (2.5, 0.6))]
bumps = np.concatenate(bumps)
fitted = {pmf: GaussianMixture(components, pmf=pmf, random_state=seed).fit(bumps)
          for pmf in ("free", "hard")}
print(f"{'PMFs':6}{'mean Q':>10}{'mean −log p(x)':>17}{'mean gap':>11}{'largest gap':>13}")
for pmf, mixture in fitted.items():
    Q, exact = mixture.bound(bumps), mixture.nlml(bumps).values
    gap = Q - exact
    print(f"{pmf:6}{Q.mean():10.4f}{exact.mean():17.4f}{gap.mean():z11.4f}{gap.max():z13.4f}")

# %%
mixture, t = fitted["free"], np.linspace(-5.5, 4.5, 401)[:, None]
sd = np.sqrt(mixture.covariances_[:, 0])
joint = mixture.weights_ * norm.pdf(t, mixture.means_[:, 0], sd)  # p(x, z = k), (401, components)
fig, axes = plt.subplots(2, 1, figsize=(6, 3.8), sharex=True, layout="constrained")
axes[0].hist(bumps[:, 0], bins=40, density=True, color="#DDDDDD")
for place, k in enumerate(np.argsort(mixture.means_[:, 0])):
    colour, style = COLOURS[(0, 1, 4, 2, 3)[place % 5]], ("-", "--", ":", "-.")[place % 4]
    axes[0].plot(t, joint[:, k], color=colour, ls=style, label=f"component {place + 1} from the left")
    axes[1].plot(t, joint[:, k] / joint.sum(axis=1), color=colour, ls=style)
axes[0].plot(t, joint.sum(axis=1), color=COLOURS[6], lw=1, label="p(x)")
axes[0].set(ylabel="p(x, z = k)", ylim=(0, 1.6 * joint.sum(axis=1).max()))
axes[1].set(xlabel="x", ylabel="responsibility")
axes[0].legend(frameon=False, fontsize=8, ncols=2, loc="upper center")
plt.show()

# %% [markdown]
# With free PMFs the gap is 0 for every data case: the family of $q$ holds the posterior, so the bound is no
# approximation at all. Hard ones cannot say "between two components", and pay for it where the curves below
# cross: up to $\log 2$ nats at a point that two components explain equally well.
#
# **Exercise 04-2.** Write `mixture_bound(x, weights, means, variances, q)` for a mixture whose components have
# independent variables. Given are `x` (N, D), `weights` (C,), `means` and `variances` (C, D), and `q` (N, C), a
# PMF for each data case. Return a dict with `"posterior"` (N, C), the responsibilities; `"nlml"` (N,),
# $-\log p(x_n)$; and `"Q"` (N,), the bound with the `q` that is given. Some $q_{nk}$ are 0, and one data case
# lies so far out that all $p(x_n, z = k)$ are 0 in floating point.

# %% tags=["exercise"]
def mixture_bound(x, weights, means, variances, q):
    """{"posterior": (N, C), "nlml": (N,), "Q": (N,)}."""
    log_p = ...                                             # log p(x_n, z = k), (N, C)
    nlml = ...
    posterior = ...
    Q = ...
    return {"posterior": posterior, "nlml": nlml, "Q": Q}

# %% tags=["check"]
grade.check("04-2", mixture_bound)

# %% [markdown] tags=["hint"]
# Stay in logarithms as long as you can. With `log_p` (N, C) in hand all three are one line each. For the
# differences $x_n - \mu_k$ give `x` an axis: `x[:, None]` is (N, 1, D).

# %% [markdown] tags=["hint"]
# `logsumexp(log_p, axis=1)` is $\log p(x_n)$, and Bayes' rule in logarithms is a difference. In $Q$ there is
# $q \log q$, which is 0 where $q$ is 0.

# %% [markdown] tags=["hint"]
# `log_p = np.log(weights) - 0.5 * np.sum((x[:, None] - means) ** 2 / variances + np.log(2 * np.pi * variances), axis=2)`,
# then `posterior = np.exp(log_p + nlml[:, None])`, and in $Q$ the logarithm of `np.where(q > 0, q, 1.0)`.

# %% tags=["solution"]
def mixture_bound(x, weights, means, variances, q):
    """{"posterior": (N, C), "nlml": (N,), "Q": (N,)}."""
    squares = (x[:, None] - means) ** 2 / variances         # (N, C, D)
    log_p = np.log(weights) - 0.5 * np.sum(squares + np.log(2 * np.pi * variances), axis=2)
    nlml = -logsumexp(log_p, axis=1)
    posterior = np.exp(log_p + nlml[:, None])
    log_q = np.log(np.where(q > 0, q, 1.0))
    Q = np.sum(q * (log_q - log_p), axis=1)
    return {"posterior": posterior, "nlml": nlml, "Q": Q}

# %% [markdown]
# <a id="lecture-upper-bound"></a>
#
# ## 4. An upper bound on the NLML, line by line
#
# Now for a $z$ of real numbers. Everything is in place: the ratio of section 1 is the $g$ of section 2.
#
# $$
# \begin{aligned}
# nlml(\mathcal{D}, \theta) &= -\sum_{n=1}^{N} \log \left( \int p(x_n, z \mid \theta) \thinspace dz \right) & \qquad \text{line 1} \cr
# &= -\sum_{n=1}^{N} \log \left( \int \frac{q(z \mid \phi_n)}{q(z \mid \phi_n)} \thinspace p(x_n, z \mid \theta) \thinspace dz \right) & \qquad \text{line 2} \cr
# &\leq -\sum_{n=1}^{N} \int q(z \mid \phi_n) \log \left( \frac{p(x_n, z \mid \theta)}{q(z \mid \phi_n)} \right) dz & \qquad \text{line 3} \cr
# &= -\sum_{n=1}^{N} \int q(z \mid \phi_n) \left( \log p(x_n, z \mid \theta) - \log q(z \mid \phi_n) \right) dz & \qquad \text{line 4} \cr
# &= -\sum_{n=1}^{N} \mathbb{E}_ {q(z \mid \phi_n)} \left[ \log p(x_n, z \mid \theta) - \log q(z \mid \phi_n) \right] = Q(\mathcal{D}, \theta, \phi) & \qquad \text{line 5}
# \end{aligned}
# $$
#
# | line | why |
# |---|---|
# | 1 | the definition (1.3): data cases are independent, so the logarithm of their density is a sum over $n$ |
# | 2 | a factor 1, allowed where $q$ is not 0 (1.22); now each integral is an average under $q$, of the ratio $g(z) = p(x_n, z) / q(z)$ |
# | 3 | Jensen's inequality for $-\log$, (1.4), for every $n$ by itself: the logarithm moves inside of the average |
# | 4 | the logarithm of a quotient is a difference; no integral of $p$ is left inside of a logarithm |
# | 5 | the same, written as an expectation (1.5): what can be sampled |
#
# One sign of the five is not an equals sign. In numbers, for the running example and a $q$ that is too wide and
# beside the posterior, $\mathcal{N}(0.5, 1)$. *What do you expect* of the five numbers?

# %%
def five_lines(log_p, m, s, draws=10_000):
    """The number of each line for one data case and q = N(m, s²), by sums over a grid, then by samples."""
    mesh = wide_z[1] - wide_z[0]
    p, q = log_p(wide_z), norm.logpdf(wide_z, m, s)
    z_s = m + s * np.random.default_rng(seed).standard_normal(draws)
    values = norm.logpdf(z_s, m, s) - log_p(z_s)
    error = values.std() / np.sqrt(draws)
    return {
        "1  −log ∫ p(x, z) dz": -np.log(mesh * np.exp(p).sum()),
        "2  −log ∫ q (p / q) dz": -np.log(mesh * (np.exp(q) * np.exp(p - q)).sum()),
        "3  −∫ q log (p / q) dz": -mesh * (np.exp(q) * (p - q)).sum(),
        "4  −∫ q (log p − log q) dz": -mesh * (np.exp(q) * p).sum() + mesh * (np.exp(q) * q).sum(),
        f"5  {draws} samples, ± {error:.3f}": values.mean(),
    }


for line, value in five_lines(log_joint, m=0.5, s=1.0).items():
    print(f"{line:30}{value:9.4f} nats")

# %% [markdown]
# Lines 1 and 2 are one number, 3 and 4 are another, higher one, and line 5 is line 4 but for the scatter of its
# samples. All that was lost was lost in one step, from 2 to 3, when the logarithm went inside.
#
# Note what changed in kind. In line 2 a program must form the average *before* it takes the logarithm, and one
# rare $z$ with a huge ratio can decide it: that is how notebook 03 ended. In line 5 it averages logarithms,
# which are moderate numbers, so a handful of samples is enough, and the estimate has no bias. And a sum over
# $n$ of averages has a gradient that is a sum of averages.
#
# ### Why "upper", and which way round
#
# | | minimised here | maximised elsewhere |
# |---|---|---|
# | the aim | $nlml = -\log p(x)$, a cost | $\log p(x)$, the evidence |
# | the bound | $Q \geq nlml$, from above | ELBO $= -Q \leq \log p(x)$, from below |
#
# It is one statement with both sides negated. What matters is the safe side: a small $Q$ *guarantees* a small
# nlml. A bound from below on a cost would guarantee nothing.
#
# ### When is there equality?
#
# In line 3, if $g = p/q$ is constant where $q$ is not 0: if $q$ is the posterior. In line 2, if $q$ leaves out
# nothing of $p$. Suppose it does: $z$ has three values, $p(x, z) = (0.3, 0.1, 0.1)$, and $q = (0.5, 0.5, 0)$.
# Both steps then cost something (1.22), and the bound holds all the more. But a $q$ must not invent: where it
# is positive and $p(x, z) = 0$, $Q$ is infinite.

# %%
p, q = np.array([0.3, 0.1, 0.1]), np.array([0.5, 0.5, 0.0])
print(f"−log Σ p = {-np.log(p.sum()):.4f},   where q is not 0: −log Σ p = {-np.log(p[q > 0].sum()):.4f},   "
      f"Q = {jensen.nlml_as_jensen_discrete(np.log(p), q).rhs:.4f}")
with np.errstate(divide="ignore"):
    print("a q that invents:", jensen.nlml_as_jensen_discrete(np.log([0.3, 0.2, 0.0]), [0.5, 0.3, 0.2]).rhs)

# %% [markdown]
# ### The bound is adjustable
#
# For a fixed model $Q$ is a function of $\phi = (m, s)$. Here it is over the plane of both, less nlml: how much
# the bound loses. Left the running example with its straight decoder, right with the bent one,
# $f(z) = \tanh(z) \thinspace (1, 2) + (0, 1)$. *What do you expect* at the lowest point of each?

# %%
nodes, weights = np.polynomial.hermite_e.hermegauss(60)
weights = weights / weights.sum()
m, log_s = np.meshgrid(np.linspace(-1.0, 3.0, 121), np.linspace(-2.0, 0.8, 113))
z_nodes = m[..., None] + np.exp(log_s)[..., None] * nodes   # quadrature in place of samples

levels = [0, 0.01, 0.05, 0.2, 0.5, 1, 2, 5, 10, 20]         # nats

fig, axes = plt.subplots(1, 2, figsize=(7, 3.1), sharey=True, layout="constrained")
for ax, (name, f) in zip(axes, [("straight decoder", lambda z: z), ("bent decoder", np.tanh)]):
    entropy = 0.5 * np.log(2 * np.pi * np.e) + log_s
    log_evidence = logsumexp(log_joint(wide_z, f)) + np.log(wide_z[1] - wide_z[0])
    gap = -log_joint(z_nodes, f) @ weights - entropy + log_evidence
    shades = ax.contourf(m, log_s, gap, levels=levels, norm=BoundaryNorm(levels, 256), cmap="cividis_r",
                         extend="max")
    low = np.unravel_index(gap.argmin(), gap.shape)
    ax.plot(m[low], log_s[low], "o", color=COLOURS[3], ms=6)
    ax.set(title=f"{name}: least gap {gap[low]:.4f}", xlabel="m")
    ax.title.set_fontsize(9)
    print(f"{name}: least gap {gap[low]:.4f} nats at m = {m[low]:.2f}, s = {np.exp(log_s[low]):.2f}")
axes[0].set_ylabel("log s")
fig.colorbar(shades, ax=axes, label="Q − nlml, nats")
plt.show()

# %% [markdown]
# With the straight decoder the gap is 0 at the posterior (but for the lattice of the picture), $m = 1$ and
# $s = \frac{1}{2}$. With the bent one the posterior is not normal, so no normal $q$ reaches it: the least gap
# is above 0, and it is small. In neither case did we need to know the posterior to find the place. Minimising a
# number that can be computed has led there: an integral has become a search for a minimum.
#
# What exactly the gap is, and how the search is done for every data case, is the matter of
# [notebook 05](05-variational-em.ipynb).
#
# ### A density above one
#
# Nothing says that $Q$ is positive. A density is a probability *per unit of* $x$, and may be larger than one;
# then its logarithm is above 0 and $-\log p(x)$ below. Measure $x$ in metres instead of millimetres: every
# number is divided by 1000, and the density multiplied by 1000 for each variable. *What do you expect* of nlml,
# of $Q$, and of the gap between them?

# %%
W, b = np.array([[1.0, 2.0]]), np.array([0.0, 1.0])
phi = np.array([[0.5, 0.0]])                                # m = 0.5, log s = 0
example = Model(layers.mlp(1, (), 2), likelihoods.Gaussian(2), n_latent=1)
for unit, scale in [("millimetres", 1.0), ("metres", 1000.0)]:
    own = W / scale, b / scale, psi / scale**2
    here = linear_gaussian.nlml(*own, x[None] / scale)[0]
    Q = linear_gaussian.bound(*own, phi, example.posterior, x[None] / scale)[0]
    print(f"{unit:12}  nlml {here:9.4f}   Q {Q:9.4f}   gap {Q - here:.4f}")
print(f"2 log 1000 = {2 * np.log(1000):.4f}")

# %% [markdown]
# Both fall by $D \log 1000$, below 0, and the gap stays. A negative $Q$ of continuous data is no mistake in the
# program; it says in which unit the data are measured. What can be compared are differences, on the same data
# in the same unit.

# %% [markdown]
# ## 5. Sorted: reconstruction and price
#
# Line 5 can be sorted. With $\log p(x, z) = \log p(x \mid z) + \log p(z)$ (1.7),
#
# $$
# Q_n = \underbrace{-\mathbb{E}_ q[\log p(x_n \mid z)]}_ {\text{reconstruction}} + \underbrace{\mathbb{E}_ q[\log q(z) - \log p(z)]}_ {\mathrm{KL}(q \parallel p(z))} .
# $$
#
# The first term asks how well $x$ comes back if one encodes it as $q$ and decodes a sample of it. The second is
# a price: how many nats $q$ says about $z$ beyond what the prior knew. It is a *KL divergence*. It is never
# negative, by Jensen's inequality once more: with $g = p(z)/q(z)$ the left side is
# $-\log \int p(z) \thinspace dz$ over the places where $q$ is not 0, which is at least $-\log 1 = 0$.
#
# For a normal $q$ with mean $m$ and standard deviation $s$ and the standard normal prior the price has a closed
# form. With $u = (z - m)/s$, standard normal under $q$,
#
# $$
# \begin{aligned}
# \mathbb{E}_ q[\log q(z)] &= \mathbb{E}\left[ -\log s - \frac{1}{2} u^2 - \frac{1}{2} \log 2\pi \right] = -\log s - \frac{1}{2} - \frac{1}{2} \log 2\pi \cr
# \mathbb{E}_ q[\log p(z)] &= \mathbb{E}\left[ -\frac{1}{2} z^2 - \frac{1}{2} \log 2\pi \right] = -\frac{1}{2} (m^2 + s^2) - \frac{1}{2} \log 2\pi
# \end{aligned}
# $$
#
# and the difference is $\frac{1}{2} (m^2 + s^2 - 1) - \log s$. With independent $z_k$ it is the sum of these
# over $k$ (3.4). See what each part costs:

# %%
print(f"{'m':>5}{'s':>6}{'½ m²':>8}{'½ (s² − 1) − log s':>21}{'KL':>8}")
for m_, s_ in [(0.0, 1.0), (1.0, 1.0), (2.0, 1.0), (0.0, 0.5), (0.0, 0.1), (0.0, 2.0)]:
    print(f"{m_:5}{s_:6}{0.5 * m_**2:8.3f}{0.5 * (s_**2 - 1) - np.log(s_):21.3f}"
          f"{0.5 * (m_**2 + s_**2 - 1) - np.log(s_):8.3f}")

# %% [markdown]
# A $q$ that is the prior is free. A mean far from 0 costs its square; a narrow $q$ costs $-\log s$, for it says
# more precisely where $z$ is.
#
# **Exercise 04-3.** Write `kl_to_prior(phi)`: $\mathrm{KL}(q_n \parallel \mathcal{N}(0, I))$ of every data
# case, (N,). A row of `phi` (N, 2K) holds $K$ means, then $K$ logarithms of *standard deviations*,
# $[m_n \thinspace |\thinspace \log s_n]$. A program learns $\log s$ rather than $s$: it may be any number, and
# $s$ is above 0 by itself.

# %% tags=["exercise"]
def kl_to_prior(phi):
    """KL(q_n ‖ N(0, I)), (N,), in nats."""
    ...

# %% tags=["check"]
grade.check("04-3", kl_to_prior)

# %% [markdown] tags=["hint"]
# The formula is above, for one $z$. The densities are products over $k$. What does that make of the logarithm
# of their ratio?

# %% [markdown] tags=["hint"]
# `m, log_s = np.split(phi, 2, axis=1)`. Then $s^2$ is `np.exp(2 * log_s)`, and $\log s$ is there already. The
# sum goes over the latent variables.

# %% [markdown] tags=["hint"]
# `0.5 * (m**2 + np.exp(2 * log_s) - 1) - log_s`, summed over `axis=1`. Try it on zeros: $m = 0$ and
# $\log s = 0$ must give 0.

# %% tags=["solution"]
def kl_to_prior(phi):
    """KL(q_n ‖ N(0, I)), (N,), in nats."""
    m, log_s = np.split(phi, 2, axis=1)
    return np.sum(0.5 * (m**2 + np.exp(2.0 * log_s) - 1.0) - log_s, axis=1)

# %% [markdown]
# ## 6. One walk down the bound
#
# From here on data and a model of their own. They are made by the very model of factor analysis,
# $x = zW + b + \varepsilon$.

# %%
data = datasets.linear_gaussian(n_cases=cases, n_visible=n_visible, n_latent=n_latent, seed=seed)
print(f"{cases} data cases of {n_visible} variables, made from {n_latent} latent ones")

# %% [markdown]
# A `Model` holds sizes; the arrays live in `theta`, which every function is handed. $\phi$ has a row
# $[m_n \thinspace |\thinspace \log s_n]$ per data case. The expectation under $q$ becomes a mean over $S$
# samples (1.8), $z_{ns} = m_n + s_n \eta_{ns}$ with standard normal noise $\eta$ (1.10). The noise is an
# argument: nothing is drawn inside. `bound.forward` is the function that all methods of this course share.

# %%
rng, D = np.random.default_rng(seed), n_visible
model = Model(layers.mlp(K, hidden, D), likelihoods.Gaussian(D), n_latent=K)
theta = model.init(rng)

few = data.x[:4]
phi = 0.3 * rng.standard_normal((4, 2 * K))                 # four rows [m | log s], for now made up
eta = rng.standard_normal((S, 4, K))                        # S samples for each of them

Q, cache = bound.forward(model, theta, phi, few, eta)
for name, array in [("x", few), ("phi", phi), ("eta", eta), ("Q", Q)]:
    print(f"{name:4}{str(array.shape):12}")
print("Q_n, nats per data case:", Q)

# %% [markdown]
# `Q` has one value per data case. Step by step, with the names of the exercise below, it is this:

# %%
m, log_s = phi[:, :K], phi[:, K:]
z = m + np.exp(log_s) * eta                                 # (S, N, K)
f, _ = model.f(theta, z)                                    # (S, N, D)
log_psi = theta["likelihood"]["log_psi"]
log_p = -0.5 * np.sum((few - f) ** 2 / np.exp(log_psi) + log_psi + np.log(2 * np.pi), axis=2)
price = np.sum(0.5 * (m**2 + np.exp(2 * log_s) - 1) - log_s, axis=1)
by_hand = price - log_p.mean(axis=0)
print(f"{'data case':>10}{'reconstruction':>16}{'+ price':>9}{'= Q':>9}{'bound.forward':>15}")
for n in range(4):
    print(f"{n:10d}{-log_p[:, n].mean():16.3f}{price[n]:9.3f}{by_hand[n]:9.3f}{Q[n]:15.3f}")

# %% [markdown]
# Is it above nlml? For a straight decoder nlml is known in closed form (2.6), and up to three latent variables
# by a grid (7.3). Since $Q$ is estimated from samples, compare the mean of many estimates.

# %%
many = np.stack([
    bound.forward(model, theta, phi, few, rng.standard_normal((S, 4, K)))[0] for _ in range(400)
])
if not hidden:
    truth = nlml.exact(model, theta, few).values
elif K <= 3:
    truth = grid.grid(model, theta, few).values
else:
    truth = None
    print(f"K = {K} and hidden = {hidden}: no closed form and no grid; there is nothing to compare with.")
if truth is not None:
    print(f"{'data case':>10}{'Q, mean':>10}{'nlml':>9}{'gap':>9}{'scatter of one estimate':>26}")
    for n in range(4):
        mean = many[:, n].mean()
        print(f"{n:10d}{mean:10.3f}{truth[n]:9.3f}{mean - truth[n]:9.3f}{many[:, n].std():26.3f}")

# %% [markdown]
# Each $Q_n$ is above its nlml, by much: this $\phi$ is made up. A single estimate scatters around $Q_n$, and
# where the gap is small it may well fall below nlml; that is scatter, and no broken bound. Over many estimates
# a mean below nlml would be a mistake in the program, and one that no gradient check can see.
#
# With the noise held fixed $Q$ is an ordinary function of $\phi$ and $\theta$, and has a gradient. How it finds its
# way through the sampling is the matter of [notebook 06](06-through-the-sampling.ipynb), and how one checks it that of
# [notebook 10](10-backpropagation-by-hand.ipynb).
#
# **Exercise 04-4.** Write `bound_by_samples(x, m, log_s, eta, W, b, log_psi)`: $Q_n$ of every data case, (N,),
# for the bent decoder $f(z) = \tanh(z) W + b$. Given are `x` (N, D), `m` and `log_s` (N, K), the noise `eta` (S,
# N, K), `W` (K, D), `b` (D,), and `log_psi` (D,), logarithms of variances. Mind that this function takes the two
# halves of $\phi$ one by one, `m` and `log_s`, where exercise 04-3 takes `phi` (N, 2K) in one piece. Take the KL in
# closed form and the reconstruction as a mean over the samples. This is the objective of a variational
# autoencoder, complete.

# %% tags=["exercise"]
def bound_by_samples(x, m, log_s, eta, W, b, log_psi):
    """Q_n, (N,), in nats."""
    ...

# %% tags=["check"]
grade.check("04-4", bound_by_samples)

# %% [markdown] tags=["hint"]
# Four lines: the samples `z` (S, N, K); the means `f` (S, N, D); the log likelihood `log_p` (S, N), a sum over
# D with all constants; the KL (N,). Over which axis goes the mean?

# %% [markdown] tags=["hint"]
# `z = m + np.exp(log_s) * eta`: the shapes (N, K) and (S, N, K) go together. The sum over the variables of $x$
# is a sum and no mean: with a mean the KL would weigh D times too much.

# %% [markdown] tags=["hint"]
# `kl - log_p.mean(axis=0)`, the price added and the log likelihood subtracted, with the `log_p` and the KL of
# the walk above.

# %% tags=["solution"]
def bound_by_samples(x, m, log_s, eta, W, b, log_psi):
    """Q_n, (N,), in nats."""
    z = m + np.exp(log_s) * eta                             # (S, N, K)
    r = x - np.tanh(z) @ W - b                              # (S, N, D)
    log_p = -0.5 * np.sum(r**2 / np.exp(log_psi) + log_psi + np.log(2.0 * np.pi), axis=2)
    kl = np.sum(0.5 * (m**2 + np.exp(2.0 * log_s) - 1.0) - log_s, axis=1)
    return kl - log_p.mean(axis=0)

# %% [markdown]
# ## 7. Which line is wrong?
#
# Most mistakes with the bound are made on paper. Here are five derivations, as they are found in homework. In
# each, find the first line that does not follow from the one before it, or see that all do. Densities may be
# anything for which the integrals exist.
#
# A:
#
# $$
# \begin{aligned}
# -\log p(x) &= -\log \int p(x, z) \thinspace dz & \qquad \text{1} \cr
# &= -\log \int q(z) \thinspace \frac{p(x, z)}{q(z)} \thinspace dz & \qquad \text{2} \cr
# &\leq -\int q(z) \log \frac{p(x, z)}{q(z)} \thinspace dz & \qquad \text{3} \cr
# &= -\mathbb{E}_ q[\log p(x, z) - \log q(z)] & \qquad \text{4} \cr
# &= -\mathbb{E}_ q[\log p(x \mid z)] - \mathrm{KL}(q(z) \parallel p(z)) & \qquad \text{5}
# \end{aligned}
# $$
#
# B:
#
# $$
# \begin{aligned}
# \log p(x) &= \log \int p(x, z) \thinspace dz & \qquad \text{1} \cr
# &= \log \int q(z) \thinspace \frac{p(x, z)}{q(z)} \thinspace dz & \qquad \text{2} \cr
# &\leq \int q(z) \log \frac{p(x, z)}{q(z)} \thinspace dz & \qquad \text{3} \cr
# &= \mathbb{E}_ q[\log p(x, z) - \log q(z)] & \qquad \text{4} \cr
# &= \mathbb{E}_ q[\log p(x \mid z)] - \mathrm{KL}(q(z) \parallel p(z)) & \qquad \text{5}
# \end{aligned}
# $$
#
# C, with a discrete $z$:
#
# $$
# \begin{aligned}
# -\log p(x) &= -\log \sum_k p(x, z = k) & \qquad \text{1} \cr
# &= -\log \sum_k q_k \thinspace \frac{p(x, z = k)}{q_k} & \qquad \text{2} \cr
# &\leq -\sum_k \log \left( q_k \thinspace \frac{p(x, z = k)}{q_k} \right) & \qquad \text{3} \cr
# &= -\sum_k q_k \log \frac{p(x, z = k)}{q_k} & \qquad \text{4} \cr
# &= \sum_k q_k \left( \log q_k - \log p(x, z = k) \right) & \qquad \text{5}
# \end{aligned}
# $$
#
# D, which begins with the bound:
#
# $$
# \begin{aligned}
# Q &= -\mathbb{E}_ q[\log p(x, z) - \log q(z)] & \qquad \text{1} \cr
# &= -\mathbb{E}_ q[\log p(x) + \log p(z \mid x) - \log q(z)] & \qquad \text{2} \cr
# &= -\log p(x) - \mathbb{E}_ q\left[ \log \frac{p(z \mid x)}{q(z)} \right] & \qquad \text{3} \cr
# &= -\log p(x) + \mathrm{KL}(q(z) \parallel p(z \mid x)) & \qquad \text{4} \cr
# &\geq -\log p(x) & \qquad \text{5}
# \end{aligned}
# $$
#
# E, for all data:
#
# $$
# \begin{aligned}
# nlml(\mathcal{D}) &= -\log \left( p(x_1) \cdot \ldots \cdot p(x_N) \right) & \qquad \text{1} \cr
# &= -\sum_n \log \int p(x_n, z) \thinspace dz & \qquad \text{2} \cr
# &\leq -\sum_n \int q(z \mid \phi_n) \log \frac{p(x_n, z)}{q(z \mid \phi_n)} \thinspace dz & \qquad \text{3} \cr
# &= -\sum_n \int q(z \mid \phi_n) \log p(x_n, z) \thinspace dz + \sum_n \int \log q(z \mid \phi_n) \thinspace dz & \qquad \text{4} \cr
# &= -\sum_n \mathbb{E}_ {q(z \mid \phi_n)}[\log p(x_n, z) - \log q(z \mid \phi_n)] & \qquad \text{5}
# \end{aligned}
# $$
#
# **Exercise 04-5.** Fill in `wrong_line`: for each derivation the number of the line, as text, `"2"` to `"5"`,
# or `"none"`.

# %% tags=["exercise"]
wrong_line = {"A": ..., "B": ..., "C": ..., "D": ..., "E": ...}

# %% tags=["check"]
grade.check("04-5", wrong_line)

# %% [markdown] tags=["hint"]
# Compare with the table of section 4 line by line. For A and B mind every sign, of the terms and of the
# comparison.

# %% [markdown] tags=["hint"]
# One of the five is right throughout: it is the proof that the gap is a KL divergence. In C, ask what Jensen's
# inequality averages, and with which weights.

# %% [markdown] tags=["hint"]
# A: $\log p(x, z) = \log p(x \mid z) + \log p(z)$, and $\mathrm{KL} = \mathbb{E}_ q[\log q - \log p(z)]$. B:
# which kind of function is log without its minus? E: by what is the second integral of line 4 an average?

# %% [markdown] tags=["solution"]
# A has the KL with a wrong sign: it is a price, and is added. B: log is concave, so the sign in line 3 is the
# other way round. C: Jensen's inequality leaves the weight $q_k$ outside of the logarithm. D is right. E has
# lost the $q$ in front of $\log q$.

# %% tags=["solution"]
wrong_line = {"A": "5", "B": "3", "C": "3", "D": "none", "E": "4"}

# %% [markdown]
# ## To try
#
# 1. In section 4, call `five_lines` with the posterior for $q$, `m=1.0, s=0.5`. Which of the five numbers still
#    differ, and by how much does line 5 scatter? Why?
# 2. The gap of section 2 is half a variance for a normal $z$. For a small spread this is true of any $g$: show
#    with two terms of the series of log that the gap is about $\frac{1}{2} \mathrm{Var}[g] / \mathbb{E}[g]^2$,
#    and try it.
# 3. Set `hidden = (16,)` and look at the walk again. What has changed in the code, and what has not?
#
# Next: [05, variational EM](05-variational-em.ipynb). Before:
# [03, non-linear factor analysis](03-non-linear-factor-analysis.ipynb). [00, start here](00-start-here.ipynb)
# has the map of the course.
