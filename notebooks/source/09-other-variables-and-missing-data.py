# %% [markdown]
# # 09 · Other variables and missing data
#
# So far $x$ was a vector of real numbers with Gaussian noise, and all of it was there. Tables are not like that.
# They have answers of yes or no, counts and categories; some cells have gross errors, some are empty. Here the
# lecture's last remark is carried out: the decoder predicts the parameters of a base distribution that suits the
# variable. None of this touches the bound. Only $\log p(x|z)$ changes, and its gradient in one place.
#
# A number in parentheses leads to its card, with the proof and an example on paper. First the settings: change
# them and run all cells again. What the words say of results, they say of the settings as they stand here.

# %%
K = 2              # latent variables of the models of bits and counts
hidden = (32,)     # … and widths of the hidden layers of those that are not linear
cases = 300        # … and the images that they are trained on
rounds = 15        # … and how many rounds variational EM is given
K_holes = 8        # latent variables of the models of images with holes
n_holes = 1437     # … and how many such images they are trained on, at most 1437
epochs = 200       # … and how long the VAE among them is trained
seed = 0

# %%
import warnings

import matplotlib.pyplot as plt
import numpy as np
from scipy import integrate, special, stats

from teachvae import VAE, FactorAnalysis, VariationalEM, datasets, grade, gradcheck, plots
from teachvae.likelihoods import LIKELIHOODS, Bernoulli, Categorical, Poisson

plt.rcParams["figure.dpi"] = 120
plt.switch_backend(plt.get_backend())            # from here on a figure as the last line of a cell is shown
np.set_printoptions(precision=3, suppress=True)
warnings.filterwarnings("ignore", message="training ended after")  # before Q came to rest, as the text says

# %% [markdown]
# <a id="lecture-other-variables"></a>
#
# ## 1. The decoder predicts the parameters of a distribution
#
# Look at where the data stand in the bound (1.7):
#
# $$
# Q_n = \mathrm{KL}(q(z|\phi_n) \parallel p(z)) - \mathbb{E}_ {q(z|\phi_n)}\left[ \log p(x_n|f_w(z)) \right]
# $$
#
# They stand in $\log p(x_n|f)$ and nowhere else. The decoder gives $f = f_w(z)$, numbers without limits. The
# *likelihood* says what they mean for $x$. For the lecture's Gaussian, $f$ is the mean. For other variables $f$ has
# to be turned into a parameter that is allowed to be what it is:
#
# | variable | base distribution | what $f$ means | so that |
# |---|---|---|---|
# | a real number | Gaussian, variance $\psi_d$ | the mean, $f$ | – |
# | a bit | Bernoulli | $\mathrm{P}(x = 1) = \sigma(f) = 1 / (1 + e^{-f})$ | it lies between 0 and 1 |
# | a count | Poisson | the rate, $\lambda = e^f$ | it is above 0 |
# | one of $C$ categories | categorical | $\pi = \mathrm{softmax}(f)$, $C$ numbers | they add up to 1 |
# | a real number, gross errors | Student's t, scale $\sqrt{\psi_d}$ | the middle, $f$ | – |
#
# Given $z$ the entries of $x$ are independent, so their log likelihoods add up. All that ties them together goes
# through $z$. The next picture draws the four kinds for the same three outputs of a decoder.

# %%
outputs, marks = [-1.0, 0.5, 2.0], "os^"
fig, axes = plt.subplots(1, 4, figsize=(7, 2.3))
t, counts_shown = np.linspace(-4, 5, 200), np.arange(16)
for f, mark, colour in zip(outputs, marks, ["#0072B2", "#E69F00", "#000000"]):
    style = dict(marker=mark, ms=4, color=colour)
    axes[0].plot(t, stats.norm.pdf(t, f), label=f"f = {f:g}", markevery=[np.argmin(np.abs(t - f))], **style)
    axes[1].plot([0, 1], [special.expit(-f), special.expit(f)], ls=":", **style)
    axes[2].plot(counts_shown, stats.poisson.pmf(counts_shown, np.exp(f)), ls=":", lw=0.8, **style)
axes[3].bar([1, 2, 3], special.softmax(outputs), color=["#0072B2", "#E69F00", "#000000"])
titles = ["Gaussian, variance 1", "Bernoulli", "Poisson", "categorical:\nall three at once"]
for ax, title in zip(axes, titles):
    ax.set_title(title, fontsize=9)
    ax.set_ylim(0, 1)
    ax.set_xlabel("x", labelpad=1)
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=8, labelleft=ax is axes[0])
axes[0].set_ylabel("p(x | f)")
axes[1].set_xticks([0, 1])
axes[3].set_xticks([1, 2, 3])
axes[0].legend(frameon=False, fontsize=7, loc="upper left")
fig.tight_layout(w_pad=0.6)
plt.show()
print("the package has:", ", ".join(sorted(LIKELIHOODS)))

# %% [markdown]
# The same three numbers mean three bells, three coins, three rates, or together one die. Everything else of the
# course stays: the encoder, the KL, $z = m + s \eta$, the gradient of the decoder.
#
# ## 2. Bits: the output is a logit
#
# With $p = \sigma(f)$ the log probability of a bit is $x \log p + (1 - x) \log(1 - p)$. The two logarithms have one
# thing in common:
#
# $$
# \log \sigma(f) = \log \frac{e^f}{1 + e^f} = f - \log(1 + e^f), \qquad \log(1 - \sigma(f)) = -\log(1 + e^f)
# $$
#
# so the terms in $x$ meet, and for a whole data case (5.7)
#
# $$
# \log p(x|f) = \sum_d \left( x_d f_d - \log(1 + e^{f_d}) \right) .
# $$
#
# **What do you expect?** On paper the first form and the last are the same. Take a decoder that is very sure that a
# pixel is 1, $f = 40$, and a pixel that is 0. What will `np.log(1 - p)` say?

# %%
for f in (5.0, 20.0, 36.0, 40.0, 800.0):
    with np.errstate(divide="ignore"):
        naive = np.log(1 - 1 / (1 + np.exp(-f)))
    print(f"f = {f:5g}   as written on paper {naive:12.6f}   true {special.log_expit(-f):12.6f}")

# %% [markdown]
# From about $f = 37$ on $\sigma(f)$ is rounded to 1, and the bound is infinite. A trained decoder does say such
# numbers: a corner that was never inked has an ever smaller logit. The last form needs no $1 - p$, only
# $\log(1 + e^f)$, and that can be had without overflow.
#
# **Exercise 09-1.** Write `bernoulli_log_p(f, x)`: the logits `f` (S, N, D) are the decoder's outputs for $S$ samples
# of $z$ of $N$ cases, `x` (N, D) holds zeros and ones. Return $\log p(x_n|f_{sn})$, (S, N), in nats. Some of the
# logits in the check are ±800, and your answer must be exact for these too. Whether the $D$ terms are added up or
# averaged decides how much a picture counts beside the KL.

# %% tags=["exercise"]
def bernoulli_log_p(f, x):
    """log p(x|f) (S, N), from logits f (S, N, D) and bits x (N, D)."""
    ...

# %% tags=["check"]
grade.check("09-1", bernoulli_log_p)

# %% [markdown] tags=["hint"]
# `f` has one axis more than `x`. NumPy lines axes up from the right, so `x * f` is (S, N, D).

# %% [markdown] tags=["hint"]
# Of the formula above only $\log(1 + e^f)$ is delicate. NumPy has $\log(e^a + e^b)$ as `np.logaddexp(a, b)`, and 1 is
# $e^0$.

# %% [markdown] tags=["hint"]
# Each entry gives `x * f - np.logaddexp(0, f)`. What is left is a sum over the pixels, the last axis.

# %% [markdown] tags=["solution"]
# `np.logaddexp(0, f)` takes the larger of $0$ and $f$ out of the logarithm, so that no exponential overflows (4.11).

# %% tags=["solution"]
def bernoulli_log_p(f, x):
    return np.sum(x * f - np.logaddexp(0, f), axis=-1)

# %% [markdown]
# ### What the decoder hears
#
# The gradient for $f$ is all that the decoder is ever told about the data. For bits, counts and categories it has
# one form, and there is one reason. All three log likelihoods look like $x f - A(f)$ plus something without $f$, where
# $A$ makes the probabilities add up to one, $\sum_x e^{x f + h(x)} = e^{A(f)}$. Differentiate this sum for $f$:
#
# $$
# \sum_x x \thinspace e^{x f + h(x)} = A'(f) \thinspace e^{A(f)}, \qquad \text{so} \qquad A'(f) = \mathbb{E}[x|f]
# \qquad \text{and} \qquad \frac{\partial \log p}{\partial f} = x - \mathbb{E}[x|f]
# $$
#
# (5.44). What comes back is an error, data minus mean. The cell below asks three likelihoods of the package.

# %%
rng = np.random.default_rng(seed)
f = rng.normal(size=(1, 4, 6))                                      # (S, N, D)
examples = {
    "bernoulli": (Bernoulli(6), (rng.random((4, 6)) < 0.5) * 1.0),
    "poisson": (Poisson(6), rng.poisson(2.0, (4, 6)) * 1.0),
    "categorical": (Categorical((6,)), np.eye(6)[rng.integers(6, size=4)]),
}
for name, (likelihood, x) in examples.items():
    log_p, cache = likelihood.forward({}, f, x)
    df, _ = likelihood.backward({}, cache, np.ones_like(log_p))
    print(f"{name:12} largest |df − (x − mean)| = {np.abs(df - (x - likelihood.mean({}, f))).max():.0e}")

# %% [markdown]
# There is a point in this for learning. Under a squared error of $\sigma(f)$ the gradient would have the factor
# $\sigma(f) (1 - \sigma(f))$, which vanishes where the decoder is sure, also where it is sure and wrong. In the
# logarithm it has cancelled.
#
# **Exercise 09-2.** Write `bernoulli_backward(f, x, dlog_p)`. Each case and sample counts by its own weight: `dlog_p`
# (S, N) is what comes in from above, in the bound $-1/S$ each. Return `df` (S, N, D), the gradient of
# $\sum_{sn} d\log p_{sn} \log p(x_n|f_{sn})$. The check compares it with finite differences.

# %% tags=["exercise"]
def bernoulli_backward(f, x, dlog_p):
    """df (S, N, D), from logits f (S, N, D), bits x (N, D) and weights dlog_p (S, N)."""
    ...

# %% tags=["check"]
grade.check("09-2", bernoulli_backward)

# %% [markdown] tags=["hint"]
# First the derivative of one entry, $x f - \log(1 + e^f)$, for its own $f$. No other entry has this $f$ in it.

# %% [markdown] tags=["hint"]
# The derivative of $\log(1 + e^f)$ is $e^f / (1 + e^f) = \sigma(f)$. So an entry gives $x - \sigma(f)$, times the weight
# of its sample and case.

# %% [markdown] tags=["hint"]
# `dlog_p` needs a last axis of length one, `dlog_p[:, :, None]`, to be the factor of all pixels of its case. SciPy has
# $\sigma$ as `special.expit`.

# %% tags=["solution"]
def bernoulli_backward(f, x, dlog_p):
    return dlog_p[:, :, None] * (x - special.expit(f))

# %% [markdown]
# ## 3. Grey values are no bits
#
# It is tempting to feed grey values to the Bernoulli formula. It runs, and it trains. But it is not a likelihood:
# nothing makes its integral over $[0, 1]$ one. For a single pixel, with $\int_0^1 e^{x f} dx = (e^f - 1) / f$, it is
# (5.45)
#
# $$
# \int_0^1 e^{x f - \log(1 + e^f)} dx = \frac{e^f - 1}{f \thinspace (e^f + 1)} = \frac{\tanh(f / 2)}{f} .
# $$
#
# **What do you expect?** For which $f$ is it largest, and does it ever reach 1?

# %%
def formula(x, f=1.0):
    return np.exp(x * f - np.logaddexp(0, f))


f = np.linspace(-8, 8, 200)                                         # 0 is not among them
fig, ax = plt.subplots(figsize=(5, 2.4))
ax.axhline(1, color="#E69F00", ls="--", label="sum over 0 and 1")
ax.plot(f, np.tanh(f / 2) / f, color="#0072B2", label="integral over [0, 1]")
ax.set(xlabel="f", ylabel="total probability", ylim=(0, 1.1))
ax.legend(frameon=False, loc=(0.6, 0.6))
ax.spines[["top", "right"]].set_visible(False)
plt.show()
by_rule, _ = integrate.quad(formula, 0, 1)
print(f"f = 1: sum over 0 and 1 {formula(0) + formula(1):.4f}, integral {by_rule:.4f}, formula {np.tanh(0.5):.4f}")

# %% [markdown]
# At most a half of the probability is there, and less the surer the decoder is. So the numbers of two such models
# cannot be compared with each other's *NLML*, nor with those of another likelihood. The package refuses grey values,
# or labels the result.

# %%
train, held_out = datasets.split(datasets.digits(dequantise=False))
try:
    VAE(K, likelihood="bernoulli").fit(train.x)
except ValueError as error:
    print("ValueError:", error)

relaxed = VAE(K, likelihood="bernoulli-relaxed", epochs=20, random_state=seed).fit(train.x[:cases])
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    relaxed.bound(held_out.x[:20])
print(f"\n{caught[0].category.__name__}: {caught[0].message}")

# %% [markdown]
# ## 4. Counts
#
# A Poisson variable has the probabilities $\lambda^x e^{-\lambda} / x!$, and mean and variance $\lambda$. With
# $\lambda = e^f$, so that no output of the decoder is forbidden,
#
# $$
# \log p(x|f) = \sum_d \left( x_d f_d - e^{f_d} - \log x_d! \right)
# $$
#
# (5.13). The factorial has no $f$ in it, and a gradient does not miss it. The value does: without it $e^{\log p}$ does
# not add up to one, and NLML cannot be held against that of any other model.
#
# **Exercise 09-3.** Write `poisson(f, x)` for `f` and counts `x`, both (N, D). Return a dict with `log_p` (N,) and its
# gradient `df` (N, D), $\partial \sum_n \log p(x_n|f_n) / \partial f$. One count in the check is 250, and 250! has 493
# digits: SciPy's `special.gammaln(a)` is $\log (a - 1)!$.

# %% tags=["exercise"]
def poisson(f, x):
    """{"log_p": (N,), "df": (N, D)}, from logarithms of rates f (N, D) and counts x (N, D)."""
    ...

# %% tags=["check"]
grade.check("09-3", poisson)

# %% [markdown] tags=["hint"]
# The logarithm of a product is a sum: $\log(\lambda^x e^{-\lambda} / x!)$ has three terms, with $\log \lambda = f$.

# %% [markdown] tags=["hint"]
# $\log x!$ is `special.gammaln(x + 1)`. For the gradient, which two of the three terms have $f$ in them?

# %% [markdown] tags=["hint"]
# `df` is data minus mean, and the mean is the rate: `x - np.exp(f)`. The value is the sum over axis 1 of
# `x * f - np.exp(f) - special.gammaln(x + 1)`.

# %% tags=["solution"]
def poisson(f, x):
    rate = np.exp(f)
    return {"log_p": np.sum(x * f - rate - special.gammaln(x + 1), axis=1), "df": x - rate}

# %% [markdown]
# ## 5. Categories, and a check that checks nothing
#
# One of $D$ categories is written as a row with a single 1, *one-hot*. The decoder gives $D$ logits, and
#
# $$
# \pi_d = \frac{e^{f_d}}{\sum_j e^{f_j}}, \qquad \log p(x|f) = \sum_d x_d \log \pi_d = \sum_d x_d f_d - \log \sum_j e^{f_j}
# $$
#
# (5.29), (5.30). A number $t$ added to all logits drops out of $\pi$. So the gradient for $f$ adds up to 0 over the
# categories, and so one may take the largest logit off before any exponential is formed (0.16).
#
# That nothing changes along one direction has led people astray. Published libraries test a backward by seeding it
# with ones, that is, they differentiate the *sum* of the outputs. The sum of the $\pi_d$ is 1 whatever $f$ is.
#
# **What do you expect?** Below is a backward of the softmax that is wrong: it has a plain mean where the mean under
# $\pi$ belongs. Which of the two checks sees it?

# %%
def wrong_backward(pi, dpi):
    return pi * (dpi - dpi.mean(axis=1, keepdims=True))             # right is Σ_j π_j dpi_j


rng = np.random.default_rng(seed)
params = {"f": rng.normal(size=(3, 4))}
pi = special.softmax(params["f"], axis=1)
for title, seeds in [("seeded with ones", np.ones((3, 4))), ("seeded at random", rng.normal(size=(3, 4)))]:
    report = gradcheck.check(
        lambda p: np.sum(seeds * special.softmax(p["f"], axis=1)), params, {"f": wrong_backward(pi, seeds)}
    )
    print(f"{title}:\n", *str(report).splitlines(keepends=True)[:2])

# %% [markdown]
# Seeded with ones both gradients are 0, and a check by `np.allclose` would have passed; `gradcheck` marks it by "?", nothing
# is proved. A backward is to be checked with a random cotangent (11.3).
#
# **Exercise 09-4.** Write `categorical(f, x)` for logits `f` (N, D) and one-hot `x` (N, D), one variable of $D$
# categories. Return a dict with `log_p` (N,) and `df` (N, D). The logits in the check are in the thousands.

# %% tags=["exercise"]
def categorical(f, x):
    """{"log_p": (N,), "df": (N, D)}, from logits f (N, D) and one-hot x (N, D)."""
    ...

# %% tags=["check"]
grade.check("09-4", categorical)

# %% [markdown] tags=["hint"]
# Begin with $\log \pi$, (N, D), and never form an exponential of a large number: take the largest logit of each row
# off first.

# %% [markdown] tags=["hint"]
# `log_pi = g - np.log(np.sum(np.exp(g), axis=1, keepdims=True))` with `g = f - f.max(axis=1, keepdims=True)`.

# %% [markdown] tags=["hint"]
# `log_p` picks the category that was seen, `np.sum(x * log_pi, axis=1)`. Its gradient is data minus mean, and the mean
# of a one-hot row is $\pi$.

# %% [markdown] tags=["solution"]
# With $\partial \log \pi_j / \partial f_d = [j = d] - \pi_d$ the gradient is $\sum_j x_j ([j = d] - \pi_d) = x_d - \pi_d$,
# for the $x_j$ add up to 1 (5.31).

# %% tags=["solution"]
def categorical(f, x):
    g = f - f.max(axis=1, keepdims=True)
    log_pi = g - np.log(np.sum(np.exp(g), axis=1, keepdims=True))
    return {"log_p": np.sum(x * log_pi, axis=1), "df": x - np.exp(log_pi)}

# %% [markdown]
# ## 6. Factor analysis of bits and of counts
#
# Factor analysis is a linear decoder with Gaussian noise. A linear decoder with another likelihood is its relative,
# *exponential-family factor analysis*. Its posterior is no Gaussian any more and EM has no closed form, but variational
# EM and the VAE do not care. Two views of the same digits: bits (is the pixel dark?) and counts (16 grey levels, as
# they came from the scanner).
#
# **What do you expect?** Variational EM searches $\phi_n$ for every held-out case, the VAE's network has seen the
# training cases only. Which of the linear rows has the larger gap $Q - nlml$?

# %%
counts, counts_new = 16 * train.x[:cases], 16 * held_out.x[:40]
views = {
    "bernoulli": ((counts > 7.5) * 1.0, (counts_new > 7.5) * 1.0),
    "poisson": (counts, counts_new),
}
road = "grid" if K <= 2 else None                                   # beyond 2: by importance sampling
options = dict(random_state=seed)
fitted = {}


def compare(name):
    """Fit three models of one view, and print what they make of held-out images."""
    x, x_new = views[name]
    print(f"{len(x)} images to train on, {len(x_new)} held out, K = {K}")
    print(f"{'held out, nats per data case':42}{'Q':>9}{'NLML':>9}{'Q − NLML':>10}")
    for route, model in [
        ("variational EM, linear", VariationalEM(K, hidden=(), likelihood=name, epochs=rounds, **options)),
        ("VAE, linear", VAE(K, hidden=(), likelihood=name, **options)),
        (f"VAE, hidden = {hidden}", VAE(K, hidden=hidden, likelihood=name, **options)),
    ]:
        model.fit(x)
        print(f"{name:14}{route:28}", end="", flush=True)
        Q, nlml = model.bound(x_new).mean(), model.nlml(x_new, road).values.mean()
        print(f"{Q:9.3f}{nlml:9.3f}{Q - nlml:10.3f}", flush=True)
    fitted[name] = model


compare("bernoulli")

# %%
compare("poisson")

# %% [markdown]
# For bits these numbers are what they look like: a lossless code for an image costs NLML nats. The two linear rows have
# the same model family, and differ by who fills in $\phi_n$: a search for each case, or a network, which has seen some
# hundred images and is asked about others. The networks' gaps are larger for counts: 16 grey levels say more about $z$ than
# two, so posteriors are narrower, and a network that is a little beside the mark pays more. Numbers of bits and of counts are
# not comparable: they are about different data. Some of these fits end while $Q$ of their training data still falls; the warning that says so is switched off
# above.
#
# What has the last model of each view learnt? Draw $z$ from the prior, then $x$ from its base distribution. Bits come
# as bits, and counts as counts.

# %%
shown = []
for name, scale in [("bernoulli", 1), ("poisson", 16)]:
    shown.append((f"{name}: data", views[name][0][:8] / scale))
    shown.append(("drawn from the model", fitted[name].sample(8, random_state=seed) / scale))
plots.image_rows(shown, (8, 8), (0, 1), ink=True)

# %% [markdown]
# Given $z$ all pixels are independent, so each draw has its own pepper and salt. What belongs together, the strokes,
# came through $z$. Draws of counts show it most: a Poisson variable with the mean 9 has the standard deviation 3.
#
# ## 7. Gross errors
#
# Gaussian noise has thin tails: an entry at 10 standard deviations costs 50 nats, and the fit will bend for it. Give
# each entry a precision of its own instead: $x \sim \mathcal{N}(f, \psi / g)$, where $g$ is drawn from a gamma
# distribution with mean 1. Now and then $g$ is small and the entry wild. Integrated over $g$ this is Student's t with
# $\nu$ degrees of freedom (5.34),
#
# $$
# \log p(x|f) = c_\nu - \frac{1}{2} \log \psi - \frac{\nu + 1}{2} \log \left( 1 + \frac{u^2}{\nu} \right),
# \qquad u^2 = \frac{(x - f)^2}{\psi}
# $$
#
# where $c_\nu$ has neither $f$ nor $\psi$. Its gradient is that of a Gaussian, $(x - f) / \psi$, times a weight (5.35),
#
# $$
# \frac{\partial \log p}{\partial f} = \omega \thinspace \frac{x - f}{\psi}, \qquad \omega = \frac{\nu + 1}{\nu + u^2},
# $$
#
# and $\omega$ is the posterior mean of $g$: what lies far out was probably wild, and counts less.

# %%
u, dof = np.linspace(0, 10, 200), 4
fig, axes = plt.subplots(1, 2, figsize=(7, 2.5))
for ax, gauss, student, label in [
    (axes[0], u**2 / 2, (dof + 1) / 2 * np.log1p(u**2 / dof), "cost, nats"),
    (axes[1], u, (dof + 1) / (dof + u**2) * u, "pull on f, ω u"),
]:
    ax.plot(u, gauss, color="#E69F00", ls="--", label="Gaussian")
    ax.plot(u, student, color="#0072B2", label=f"Student's t, ν = {dof}")
    ax.set(xlabel="residual u, in scales", ylabel=label)
    ax.spines[["top", "right"]].set_visible(False)
axes[0].legend(frameon=False)
fig.tight_layout()
plt.show()

# %% [markdown]
# Costs are counted from that of $u = 0$. The pull of the t is strongest near two scales and then falls: there is no residual so large that it could move the model by
# force.
#
# The scale $\psi$ is learnt, too. For the Gaussian its M-step is the mean square of the residuals. Here $\omega$ has
# $\psi$ in it; held at its present value, the M-step is the mean of the *weighted* squares (5.37). The step is EM for
# the hidden $g$, and so it never raises the bound.
#
# **Exercise 09-5.** Write `student_t_step(x, f, psi, dof)` for `x` and `f` (N, D), squared scales `psi` (D,) and degrees
# of freedom `dof`. Return a dict with the `weight` $\omega$ of every residual (N, D) and the new `psi` (D,), where the
# model's means `f` stay as they are.

# %% tags=["exercise"]
def student_t_step(x, f, psi, dof):
    """{"weight": (N, D), "psi": (D,)}: how much each residual counts, and the scales that follow."""
    ...

# %% tags=["check"]
grade.check("09-5", student_t_step)

# %% [markdown] tags=["hint"]
# Two lines: first the weights under the `psi` that you are given, then a mean over the data cases.

# %% [markdown] tags=["hint"]
# `psi` is a squared scale, so $u^2$ is `(x - f) ** 2 / psi`, with no root and no square of `psi`.

# %% [markdown] tags=["hint"]
# The new `psi` is `np.mean(weight * (x - f) ** 2, axis=0)`. It divides by the number of cases: the weights are means of
# the hidden precisions, and no probabilities that have to add up to one.

# %% tags=["solution"]
def student_t_step(x, f, psi, dof):
    square = (x - f) ** 2
    weight = (dof + 1) / (dof + square / psi)
    return {"weight": weight, "psi": np.mean(weight * square, axis=0)}

# %% [markdown]
# Now data of which factor analysis is true, with 2 % of the entries moved by ±15.
#
# **What do you expect?** Held-out data are clean. Which of the three models knows most about them, and whose plane of
# loadings is turned?

# %%
data = datasets.linear_gaussian(n_cases=600, seed=seed + 1)
clean, clean_new = data.x[:400], data.x[400:]
rng = np.random.default_rng(seed)
spoilt, hit = clean.copy(), rng.random(clean.shape) < 0.02
spoilt[hit] += rng.choice([-15.0, 15.0], hit.sum())


def angle(model):
    """The largest angle between the planes of the model's loadings and of the true ones, in degrees."""
    planes = [np.linalg.qr(W.T)[0] for W in (model.theta_["decoder"][0]["W"], data.truth.params["W"])]
    return np.degrees(np.arccos(np.linalg.svd(planes[0].T @ planes[1])[1].min()))


print(f"{'':36}{'NLML held out':>14}{'angle of W':>12}")
for title, model, x in [
    ("Gaussian, from clean data", FactorAnalysis(3), clean),
    ("Gaussian, from spoilt data", FactorAnalysis(3), spoilt),
    ("Student-t, from spoilt data", VariationalEM(3, hidden=(), likelihood="student-t"), spoilt),
]:
    model.fit(x)
    print(f"{title:36}{model.nlml(clean_new).values.mean():14.3f}{angle(model):11.1f}°")

# %% [markdown]
# Student's t finds the loadings as well as the Gaussian does from clean data. What it still pays is for tails that
# these data do not have.
#
# ## 8. A table with columns of four kinds
#
# Each column may have a base distribution of its own: given $z$ they are independent, so the log likelihood of a row is
# the sum of its columns' (5.38). One hidden trait $z$ drives a height, a yes or no, a count and one of three categories.
# We made the table, so we know $z$ and even its exact posterior, by a sum over a grid of $z$.

# %%
rng, N = np.random.default_rng(seed), 600
z = rng.standard_normal(N)
logits = np.outer(z, [-1.5, 0.0, 1.5])
table = np.column_stack([
    170 + 8 * z + 4 * rng.standard_normal(N),                       # height
    rng.random(N) < 1 / (1 + np.exp(-2 * z)),                       # plays: yes or no
    rng.poisson(np.exp(0.5 + 0.7 * z)),                             # visits
    1 + np.argmax(logits + rng.gumbel(size=(N, 3)), axis=1),        # group: 1, 2 or 3
])
kinds = [("gaussian", [0]), ("bernoulli", [1]), ("poisson", [2]), ("categorical", [3])]
x, x_new, z_new = table[:500], table[500:], z[500:]
print("height, plays, visits, group")
print(x[:4])

# %% [markdown]
# **What do you expect?** How well can $z$ be read from one row at best? The posterior mean under the true model says it; its
# correlation with the true $z$ is what no fit can beat by more than luck.

# %%
grid = np.linspace(-6, 6, 2001)[:, None]                            # the truth, by a sum over z
log_softmax = special.log_softmax(np.outer(grid, [-1.5, 0.0, 1.5]), axis=1)
log_joint = (
    stats.norm.logpdf(grid)
    + stats.norm.logpdf(x_new[:, 0], 170 + 8 * grid, 4)
    + stats.bernoulli.logpmf(x_new[:, 1], 1 / (1 + np.exp(-2 * grid)))
    + stats.poisson.logpmf(x_new[:, 2], np.exp(0.5 + 0.7 * grid))
    + log_softmax[:, x_new[:, 3].astype(int) - 1]
)
p = np.exp(log_joint) * (grid[1, 0] - grid[0, 0])                   # p(x_n, z) dz
posterior_mean = (p * grid).sum(axis=0) / p.sum(axis=0)
print(f"{'held out':18}{'NLML':>8}{'corr. with z':>14}")
print(f"{'truth':18}{-np.log(p.sum(axis=0)).mean():8.3f}{np.corrcoef(posterior_mean, z_new)[0, 1]:14.3f}")

# %%
for route in (VariationalEM, VAE):
    model = route(1, hidden=(), likelihood=kinds, random_state=seed).fit(x)
    correlation = abs(np.corrcoef(model.transform(x_new)[:, 0], z_new)[0, 1])
    print(f"{route.__name__:18}{model.nlml(x_new, method='grid').values.mean():8.3f}{correlation:14.3f}")
    if route is VariationalEM:
        mixed = model

# %%
print("four samples: height, plays, visits, group")
print(mixed.sample(4, random_state=seed))

# %% [markdown]
# From 500 rows the fit comes within a few hundredths of a nat of the truth, and reads $z$ as well as can be. The
# category went in as one column of numbers and comes back as one. Inside it is three columns, one-hot, with a softmax of
# their own.
#
# A model of all columns together can also predict any of them from the others. Empty a column, and `impute` it:

# %%
for column, title in enumerate(["height", "plays", "visits", "group"]):
    asked = x_new.copy()
    asked[:, column] = np.nan
    guess = mixed.impute(asked)[:, column]
    if title == "group":
        most = np.mean(x_new[:, column] == stats.mode(x[:, column]).mode)
        right = np.mean(guess == x_new[:, column])
        print(f"{title:8} right in {right:.2f} of the rows; the commonest group in {most:.2f}")
    else:
        print(f"{title:8} correlation with the truth {np.corrcoef(guess, x_new[:, column])[0, 1]:.2f}")

# %% [markdown]
# ## 9. Missing cells leave the sum
#
# A cell that nobody saw is one more hidden variable, and hidden variables are integrated out. Given $z$ the entries are
# independent, so the integral of the product is a product of integrals, and that of a missing entry is 1 (5.40):
#
# $$
# \int p(x_n|z) \thinspace dx_n^{\mathrm{mis}} = \prod_{d\ \mathrm{observed}} p(x_{nd}|z)
# $$
#
# Its term leaves the sum $\log p(x|z)$: this is all. Nothing is filled in, no row is dropped, and the bound is that of
# the observed entries. A check by numbers, for the factor analysis of two columns that is the running example of the cards:
# integrate over the second, or leave it out.

# %%
W, b, psi = np.array([[1.0, 2.0]]), np.array([0.0, 1.0]), np.array([1.0, 2.0])
joint = stats.multivariate_normal(b, W.T @ W + np.diag(psi))
over_second, _ = integrate.quad(lambda second: joint.pdf([2.0, second]), -40, 40)
alone = stats.norm(b[0], np.sqrt(W[0, 0] ** 2 + psi[0])).pdf(2.0)
print(f"integrated over the second column {over_second:.10f}")
print(f"the first column alone            {alone:.10f}")

# %% [markdown]
# **Exercise 09-6.** Write `observed_log_p(x, f, psi)`: the Gaussian log likelihood of what was observed. `x` (N, D) is NaN
# where nothing was seen, `f` (N, D) holds the means, `psi` (D,) the variances. Return (N,), in nats. A case of which
# nothing was seen says nothing: its number is 0.

# %% tags=["exercise"]
def observed_log_p(x, f, psi):
    """log p (N,) of the observed entries of x (N, D), under means f (N, D) and variances psi (D,)."""
    ...

# %% tags=["check"]
grade.check("09-6", observed_log_p)

# %% [markdown] tags=["hint"]
# Write down the term of one entry first. It has three parts: the squared residual, $\log \psi_d$ and $\log 2\pi$. Which of
# these does a missing entry take with it?

# %% [markdown] tags=["hint"]
# All three. `np.isnan(x)` says where nothing was seen; a NaN in the residual makes the whole term NaN, which is handy.

# %% [markdown] tags=["hint"]
# Make all terms, (N, D), then add up those that are not NaN: `np.nansum(terms, axis=1)`, or `np.where` and a sum. A sum,
# not a mean: a case with more entries has more to say.

# %% tags=["solution"]
def observed_log_p(x, f, psi):
    terms = -0.5 * ((x - f) ** 2 / psi + np.log(2 * np.pi * psi))
    return np.sum(np.where(np.isnan(x), 0.0, terms), axis=1)

# %% [markdown]
# ### The posterior of factor analysis with holes
#
# For a linear decoder the E-step stays exact. Write $o_{nd} = 1$ where $x_{nd}$ was observed, else 0, and collect the
# terms of $-2 \log p(x_n^{\mathrm{obs}}, z)$ that have $z$ in them:
#
# $$
# \sum_d \frac{o_{nd} (x_{nd} - b_d - z W_{\cdot d})^2}{\psi_d} + z z^\top = z M_n z^\top - 2 \thinspace r_n \Psi^{-1} W^\top z^\top + \dots
# $$
#
# with $r_{nd} = o_{nd} (x_{nd} - b_d)$. Complete the square (2.19), (2.20):
#
# $$
# M_n = I + \sum_d o_{nd} \frac{W_{\cdot d} W_{\cdot d}^\top}{\psi_d}, \qquad
# m_n^{\ast} = r_n \Psi^{-1} W^\top M_n^{-1}
# $$
#
# Each entry that is seen adds to the precision. Where none was, $M_n = I$ and $m_n^{\ast} = 0$: the posterior is the prior.
# Every pattern of holes has a matrix of its own, which is what missing data cost.
#
# Watch it. A factor analysis of the digits is shown one of them pixel by pixel, in an order drawn at random.

# %%
train, held_out = datasets.split(datasets.to_unit_interval(datasets.digits()))
train_x = train.x[:n_holes]
complete = FactorAnalysis(K_holes).fit(train_x)

order = np.random.default_rng(seed).permutation(64)
digit = held_out.x[2]
numbers = [1, 4, 8, 16, 32, 64]                                     # of pixels that are seen
part = np.full((len(numbers), 64), np.nan)
for row, n in zip(part, numbers):
    row[order[:n]] = digit[order[:n]]
theta = complete.theta_["decoder"][0]
M = np.eye(K_holes) + np.einsum("kd,jd,nd->nkj", theta["W"], theta["W"], ~np.isnan(part) / complete.noise_variance_)
spread = np.sqrt(np.diagonal(np.linalg.inv(M), axis1=1, axis2=2))   # (…, K) standard deviations of z
print("pixels seen                       " + "".join(f"{n:7}" for n in numbers))
print("mean s.d. of z, 1 under the prior " + "".join(f"{s:7.3f}" for s in spread.mean(axis=1)))

# %%
plots.image_rows(
    [("what was seen", part), ("filled by the model", complete.impute(part)), ("the digit", np.tile(digit, (6, 1)))],
    (8, 8), (0, 1), ink=True,
)

# %% [markdown]
# With few pixels the model fills in the mean digit, with more it leans towards this one. The posterior narrows with each
# pixel, whatever is on it: $M_n$ depends on which entries were observed, and not on what they are.
#
# **Exercise 09-7.** Write `impute(x, W, b, psi)` for `x` (N, D) with NaN where nothing was seen, and a factor analysis with
# loadings `W` (K, D), mean `b` (D,) and noise variances `psi` (D,). Return a dict with the posterior `mean` of $z$, (N, K),
# and `x` (N, D) in which each hole has its mean given what was seen, $(b + m_n^{\ast} W)_ d$. What was seen stays as it is.

# %% tags=["exercise"]
def impute(x, W, b, psi):
    """{"mean": (N, K), "x": (N, D)}: E[z | what was seen], and the table without holes."""
    ...

# %% tags=["check"]
grade.check("09-7", impute)

# %% [markdown] tags=["hint"]
# A loop over the data cases is the plainest way. In each, `o = ~np.isnan(x[n])` chooses the columns of `W`, `b` and `psi`
# that count.

# %% [markdown] tags=["hint"]
# With `V = W[:, o] / psi[o]` the precision is `np.eye(K) + V @ W[:, o].T`, with `K = len(W)`, and the mean solves
# $M_n m = W \Psi^{-1} r$: `np.linalg.solve(M, V @ (x[n] - b)[o])`.

# %% [markdown] tags=["hint"]
# Once all means are there, `np.where(np.isnan(x), b + mean @ W, x)` fills the holes, and only these.

# %% tags=["solution"]
def impute(x, W, b, psi):
    mean = np.zeros((len(x), len(W)))
    for n, row in enumerate(x):
        o = ~np.isnan(row)
        V = W[:, o] / psi[o]
        M = np.eye(len(W)) + V @ W[:, o].T
        mean[n] = np.linalg.solve(M, V @ (row - b)[o])
    return {"mean": mean, "x": np.where(np.isnan(x), b + mean @ W, x)}

# %% [markdown]
# ## 10. Half of the cells are gone
#
# A NaN is an error, until you say what it means. `missing="marginalise"` says: it was not observed, and its term leaves
# the sum. Half of the training cells and a fifth of the held-out ones are hidden at random. What a row with holes is worth
# can be checked with SciPy: it is the density of a smaller Gaussian, without those rows and columns of $W^\top W + \Psi$
# (2.21).

# %%
rng = np.random.default_rng(seed)
holes = rng.random(held_out.x.shape) < 0.2
holes_train = rng.random(train_x.shape) < 0.5
x_part = np.where(holes_train, np.nan, train_x)
new_part = np.where(holes, np.nan, held_out.x)

try:
    FactorAnalysis(K_holes).fit(x_part)
except ValueError as error:
    print("ValueError:", error)

# %%
def progress(iteration, most, nlml):
    """Said while EM runs: every pattern of holes has a matrix of its own, and that takes its time."""
    if iteration % 20 == 0:
        print(f"EM, iteration {iteration}: NLML = {nlml:.3f} nats per data case", flush=True)


fa = FactorAnalysis(K_holes, tol=1e-4, missing="marginalise").fit(x_part, progress=progress)
seen = ~holes[0]
small = stats.multivariate_normal(fa.mean_[seen], fa.get_covariance()[np.ix_(seen, seen)])
print(f"\nrow 0, {seen.sum()} of 64 observed: {fa.nlml(new_part[:1]).values[0]:.10f}")
print(f"the smaller Gaussian:      {-small.logpdf(held_out.x[0, seen]):.10f}")

# %% [markdown]
# What people do instead is to fill the holes with the columns' means.
#
# **What do you expect?** A cell at its column's mean looks harmless. What does it tell the model about how much a pixel
# varies, and about how pixels go together? NLML is measured on complete held-out images, the imputation error on the hidden
# fifth.

# %%
means = np.nanmean(x_part, axis=0)
filled = np.where(holes_train, means, train_x)
models = {
    "FA, all training cells": complete,
    "FA, half, filled by means": FactorAnalysis(K_holes).fit(filled),
    "FA, half, marginalised": fa,
    "VAE, half, marginalised": VAE(
        K_holes, hidden=hidden, epochs=epochs, missing="marginalise", random_state=seed
    ).fit(x_part),
}


def error(x):
    return np.sqrt(np.mean((x - held_out.x)[holes] ** 2))


imputed = {name: model.impute(new_part) for name, model in models.items()}
print(f"{'nats per data case':28}{'NLML or Q':>10}{'RMSE of hidden cells':>22}")
for name, model in models.items():
    print(f"{name:28}{model.bound(held_out.x).mean():10.3f}{error(imputed[name]):22.4f}")
print(f"{'columns’ means':38}{error(np.broadcast_to(means, held_out.x.shape)):22.4f}")

# %% [markdown]
# Marginalising loses little, although half of the training cells are gone. Filling loses several nats per image: cells at
# the mean tell the model that pixels hardly vary and hardly go together. For the VAE the first column is $Q$, an upper bound
# on NLML; its recognition network sees the holes as a mask beside the data.

# %%
rows = np.arange(8)
unseen = np.where(holes, np.nan, held_out.x)
shown = [("clean", held_out.x[rows]), ("hidden cells in blue", unseen[rows])]
shown += [(name, images[rows]) for name, images in imputed.items()]
plots.image_rows(shown, (8, 8), (0, 1), ink=True)

# %% [markdown]
# ### The assumption that nobody states
#
# One thing was silent in all of this: *whether* a cell is missing may depend on what was observed, and on nothing else. Then
# the factor that says which cells are missing has no $\theta$ in it and drops out of the likelihood (Rubin 1976). Three ways
# to lose cells of the first column of a table, each half of the time:
#
# | the cell is missing | name | |
# |---|---|---|
# | by the toss of a coin | completely at random | ignorable |
# | where a column that we see is high | at random | ignorable, given that column |
# | where the cell itself is high | not at random | not ignorable |
#
# **What do you expect?** We ask for the mean of that column: of the cells that are left, and by a factor analysis that
# marginalises. Which of the six numbers will be near the truth?

# %%
data = datasets.linear_gaussian(n_cases=2000, n_visible=6, n_latent=1, seed=seed).x
tied = 1 + np.argmax(np.abs(np.corrcoef(data.T)[0, 1:]))            # the column that goes with the first most
coin = np.random.default_rng(seed).random(len(data))
lost = {"a coin": coin, "a column that we see": data[:, tied], "the cell itself": data[:, 0]}
print(f"mean of the first column, complete {data[:, 0].mean():9.3f}, standard error {data[:, 0].std() / 2000**0.5:.3f}\n")
print(f"{'lost by':24}{'cells left':>12}{'marginalised':>14}")
for title, cause in lost.items():
    torn = data.copy()
    torn[cause > np.median(cause), 0] = np.nan
    marginalised = FactorAnalysis(1, missing="marginalise").fit(torn).mean_[0]
    print(f"{title:24}{np.nanmean(torn[:, 0]):12.3f}{marginalised:14.3f}")

# %% [markdown]
# By a coin both roads are right. Where an observed column decides, the cells that are left are a biased lot, and the
# marginalised mean is right all the same: what we see of the other columns says which kind of row it is. Where the cell itself
# decides, no likelihood of the observed cells alone is right; where people with high incomes leave the income empty, one
# has to model *that*.

# %% [markdown]
# ## To try
#
# 1. *A bit is a category.* Show by numbers that a categorical variable with the logits $(0, f)$ has the log likelihood of
#    a bit with the logit $f$.
# 2. *Not at random.* Hide every training pixel above 0.8. What does factor analysis with
#    `missing="marginalise"` make of the mean, and why?
# 3. *How many columns can go?* Hide 80 % of the training cells, and compare filling with marginalising again.
#    What goes wrong at 95 %?

# %% [markdown] summary="A solution to the first" tags=["solution"]
# $f x_2 - \log(e^0 + e^f)$, where $x_2$ is 1 for the second category: the bit is "is it the second?".

# %% tags=["solution"]
f, bit = np.random.default_rng(seed).normal(size=(1, 5, 1)), np.array([[0.0], [1.0], [1.0], [0.0], [1.0]])
two, _ = Categorical((2,)).forward({}, np.concatenate([0 * f, f], axis=2), np.hstack([1 - bit, bit]))
print(np.abs(two - Bernoulli(1).forward({}, f, bit)[0]).max())

# %% [markdown] summary="A solution to the second" tags=["solution"]
# All that is left is below 0.8, so the means come out too low, and no likelihood of what was observed can
# know it.

# %% tags=["solution"]
dark = np.where(train_x > 0.8, np.nan, train_x)
mean = FactorAnalysis(K_holes, tol=1e-4, missing="marginalise").fit(dark).mean_
print(mean.mean(), train_x.mean())

# %% [markdown] summary="A solution to the third" tags=["solution"]
# At 80 % marginalising still ends far below filling. With one cell in twenty left, two columns are seen together in very
# few rows. That is too little for so many factors: noise variances sink to their floor, which the fit warns of, and held-out
# images are worth nats beyond any sense, by either road.

# %% tags=["solution"]
for share in (0.5, 0.8):
    gone = np.random.default_rng(seed + 1).random(train_x.shape) < share
    part = np.where(gone, np.nan, train_x)
    a = FactorAnalysis(K_holes, tol=1e-4, missing="marginalise").fit(part)
    b = FactorAnalysis(K_holes).fit(np.where(gone, np.nanmean(part, axis=0), train_x))
    print(share, a.nlml(held_out.x).values.mean(), b.nlml(held_out.x).values.mean())

# %% [markdown]
# Next: [10, backpropagation by hand](10-backpropagation-by-hand.ipynb). Before: [08, the ledger](08-the-ledger.ipynb). The
# course begins in [00, start here](00-start-here.ipynb).
