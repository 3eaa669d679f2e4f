# %% [markdown]
# # 00 · Start here
#
# This course steps through one lecture: factor analysis, variational EM, and the variational autoencoder. All three
# stand on one model and one bound, and you will write most of the mathematics yourself. This page sets up, shows
# how a check answers, and has one picture that everything else takes apart.
#
# You need probability (densities, expectations, Bayes' rule) and some NumPy. Notebooks 01 to 11 follow the
# lecture in its order, and [12](12-beyond-the-lecture.ipynb) goes on behind it. Each takes an hour or two. You can stop
# anywhere: what is done is kept in your notebooks, and `teachvae course --progress` counts it.
#
# A number in parentheses leads to its equation, with a proof and an example on paper.
#
# First the settings. Every notebook has them in its first cell: change them and run all cells again. What the
# words say of results, they say of these.

# %%
K = 2                # latent variables
hidden = (64, 64)    # widths of the hidden layers
epochs = 60          # of training
cases = 1000         # images to train on
S = 20               # samples of z for each image
seed = 0

# %%
import importlib.util
from pathlib import Path
import subprocess
import sys
import warnings

if importlib.util.find_spec("teachvae") is None:     # install it from the checkout, or else by its name
    where = ".." if Path("../setup.cfg").is_file() else "teachvae"
    subprocess.run([sys.executable, "-m", "pip", "install", where], check=True)

import matplotlib.pyplot as plt
import numpy as np

from teachvae import VAE, Trace, datasets, grade
from teachvae.course.data_flow import data_flow

plt.rcParams["figure.dpi"] = 120
plt.switch_backend(plt.get_backend())            # from here on a figure as the last line of a cell is shown
np.set_printoptions(precision=3, suppress=True)
warnings.filterwarnings("ignore", message="training ended after")  # a short training is enough here

# %% [markdown]
# <a id="lecture-architecture"></a>
#
# ## The one picture
#
# A **variational autoencoder** has two networks. The recognition network $g_v$ looks at a data case $x_n$ and
# says where its latent variables may be: the mean $m$ and the standard deviation $s$ of a Gaussian $q(z|\phi_n)$, with
# $\phi_n = g_v(x_n)$. From it $S$ samples $z_{sn}$ are drawn. The decoder $f_w$ says what data each of them would
# make. Both meet in one number, the **bound** (1.7)
#
# $$
# Q_n = \underbrace{-E_q[\log p(x_n|z)]}_ {\text{how badly x is explained}} +
# \underbrace{KL(q(z|\phi_n) \Vert p(z))}_ {\text{what naming z costs}} \geq -\log p(x_n)
# $$
#
# in **nats per data case**. Training makes it small: the gradient of $Q$ runs the same way back.
#
# We train one for some seconds on handwritten digits.

# %%
digits = datasets.to_unit_interval(datasets.digits())
x = digits.x[:cases]
vae = VAE(K, hidden=hidden, epochs=epochs, random_state=seed).fit(x)
print(f"{len(x)} images of {x.shape[1]} pixels; mean Q {vae.q_path_[0]:.1f} → {vae.q_path_[-1]:.1f} nats per image")

# %% [markdown]
# Now one image goes through it. The blue arrows are the forward: the image, the ellipse of its $q$ with $S$ samples
# in it (the grey circles are the prior, 1 and 2 standard deviations; an ellipse that is small beside them means that
# the image says where its $z$ is), what the decoder makes of the first sample, and $Q_n$. The orange ones are the backward, with the size of the gradient at each place.

# %%
eta = np.random.default_rng(seed).standard_normal((S, 1, K))
trace = Trace(
    vae.model_, vae.theta_, None, x[:1], eta,
    recognition=vae.recognition_, recognition_params=vae.recognition_params_,
)
data_flow(trace, shape=(8, 8))

# %% [markdown]
# Behind the picture stand arrays. Their shapes are the same in the whole course: $N$ data cases, $D$ visible variables,
# $K$ latent ones, $S$ samples.

# %%
for name in ("x", "phi", "eta", "z", "f", "log_p", "kl", "Q"):
    row = trace.row(name)
    print(f"{name:6} {str(np.shape(row.value)):12} equation {row.equation or '–'}")

# %% [markdown]
# A negative $Q$ is no mistake. Pixels are continuous here, and minus the logarithm of a density is negative where the
# density is above one.
#
# ## How an exercise works
#
# You fill in a function and run the check under it. The check calls your function with data drawn afresh and compares
# numbers with another road to them. It says one of three things: *not attempted*, *not yet*, or *right*. With "not yet"
# come the place, both numbers, and, where it is a known one, the mistake. Nothing is sent anywhere, and a check can be
# run as often as you like. Hints and a solution are folded below it.
#
# Here is a wrong answer, so that you have seen one. It forgets the constant of a Gaussian.


# %%
def forgetful(x, mu, sigma2):
    return np.sum((x - mu) ** 2 / (2 * sigma2) + 0.5 * np.log(sigma2), axis=1)


grade.check("00-1", forgetful, seed=seed)

# %% [markdown]
# **Exercise 00-1.** Most of this course is minus the logarithm of a Gaussian. Write it down for $N$ data cases of $D$
# independent variables, with *variances* $\sigma^2_d$: `x` is `(N, D)`, `mu` and `sigma2` are `(D,)`. Return one number
# per data case, `(N,)`, in nats, with every constant.

# %% tags=["exercise"]
def minus_log_normal(x, mu, sigma2):
    """−log N(x_n; μ, diag σ²) of every data case, (N,)."""
    ...


# %% tags=["check"]
grade.check("00-1", minus_log_normal)

# %% [markdown] tags=["hint"]
# The density of one variable is $(2\pi\sigma^2)^{-1/2} \exp(-(x - \mu)^2 / 2\sigma^2)$. What is minus its logarithm?

# %% [markdown] tags=["hint"]
# There are three terms for each variable: a square, half the logarithm of the variance, half the logarithm of $2\pi$.

# %% [markdown] tags=["hint"]
# Independent variables: the densities are multiplied, so their logarithms are added up over $d$, which is `axis=1`.

# %% tags=["solution"]
def minus_log_normal(x, mu, sigma2):
    return 0.5 * np.sum((x - mu) ** 2 / sigma2 + np.log(sigma2) + np.log(2.0 * np.pi), axis=1)


# %% [markdown]
# **Exercise 00-2.** A gradient by hand. Let $L = \sum_n -\log N(x_n; \mu, \mathrm{diag}\thinspace \sigma^2)$ and let $\log \sigma^2$
# be what is learned, so that a variance can never become negative. Return $\partial L/\partial \mu$ and
# $\partial L/\partial \log \sigma^2$, both `(D,)`. The check compares them with finite differences at every index (8.1).

# %% tags=["exercise"]
def gradient_of_normal(x, mu, log_sigma2):
    """dmu and dlog_sigma2 (D,) of Σ_n −log N(x_n; μ, diag σ²)."""
    dmu = ...
    dlog_sigma2 = ...
    return dmu, dlog_sigma2


# %% tags=["check"]
grade.check("00-2", gradient_of_normal)

# %% [markdown] tags=["hint"]
# Only two of the three terms of 00-1 depend on $\mu$ or $\sigma^2$. Differentiate them for one variable first.

# %% [markdown] tags=["hint"]
# With $l = \log \sigma^2$ the terms are $\frac{1}{2}(x - \mu)^2 e^{-l}$ and $\frac{1}{2} l$.

# %% [markdown] tags=["hint"]
# $\partial/\partial l$ gives $\frac{1}{2} - \frac{1}{2}(x - \mu)^2 e^{-l}$. Both gradients are then added up over the data cases, `axis=0`.

# %% tags=["solution"]
def gradient_of_normal(x, mu, log_sigma2):
    sigma2 = np.exp(log_sigma2)
    dmu = -np.sum((x - mu) / sigma2, axis=0)
    dlog_sigma2 = 0.5 * np.sum(1.0 - (x - mu) ** 2 / sigma2, axis=0)
    return dmu, dlog_sigma2


# %% [markdown]
# **Exercise 00-3.** Which shape has what? Fill in the picture's stations for $N$ data cases and $S$ samples of each: put one of
# the words `"N"`, `"N, D"`, `"N, 2K"`, `"S, N, K"`, `"S, N, D"` in every place.

# %% tags=["exercise"]
shapes = {"phi": ..., "eta": ..., "f": ..., "Q": ...}

# %% tags=["check"]
grade.check("00-3", shapes)

# %% [markdown] tags=["hint"]
# The cell above that prints shapes was run with one image.

# %% [markdown] tags=["hint"]
# What is drawn anew for every sample has an axis for it. $\phi_n$ is not drawn.

# %% [markdown] tags=["hint"]
# $\phi_n = [m_n \thinspace | \thinspace \log s_n]$ has a mean and a width for each latent variable; $Q$ is one number for each data case.

# %% tags=["solution"]
shapes = {"phi": "N, 2K", "eta": "S, N, K", "f": "S, N, D", "Q": "N"}

# %% [markdown]
# ## The lecture, and where you step through it

# %% [markdown]
# [the lecture]

# %% [markdown]
# ## The notebooks
#
# | | |
# |---|---|
# | [01](01-autoencoders-and-factor-analysis.ipynb) | autoencoders and factor analysis: what each can and cannot do |
# | [02](02-factor-analysis-by-em.ipynb) | factor analysis by EM |
# | [03](03-non-linear-factor-analysis.ipynb) | non-linear factor analysis, and the integral that nobody can do |
# | [04](04-jensen-and-the-bound.ipynb) | Jensen's inequality and the bound |
# | [05](05-variational-em.ipynb) | variational EM: one $\phi_n$ for each data case |
# | [06](06-through-the-sampling.ipynb) | a gradient through the sampling |
# | [07](07-amortisation-and-the-vae.ipynb) | amortisation and the variational autoencoder |
# | [08](08-the-ledger.ipynb) | the ledger: which gap is whose |
# | [09](09-other-variables-and-missing-data.ipynb) | other variables, and missing ones |
# | [10](10-backpropagation-by-hand.ipynb) | backpropagation by hand, and a likelihood of your own |
# | [11](11-one-core-two-machines.ipynb) | one core, two machines |
# | [12](12-beyond-the-lecture.ipynb) | beyond the lecture |
#
# Next: [01, autoencoders and factor analysis](01-autoencoders-and-factor-analysis.ipynb).
