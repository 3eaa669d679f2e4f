# %% [markdown]
# # Other variables, and missing ones
#
# So far $x$ was a vector of real numbers with Gaussian noise, and all of it was there. Tables are not like
# that. They have counts, answers of yes or no, and categories; some columns have gross errors; some cells are
# empty. None of this touches the bound. Only $\log p(x|z)$ changes, and its gradient in one place.
#
# A number in parentheses leads to its equation in [derivations/equations.md](../derivations/equations.md);
# the model and the bound are introduced in [three-routes.ipynb](three-routes.ipynb).
#
# First the settings. Change them and run all cells again; what the words say of results, they say of these.

# %%
K = 2              # latent variables of the models of bits and counts
hidden = (64,)     # … and widths of the hidden layers of the one that is not linear
cases = 300        # … and the images that they are trained on
rounds = 25        # … and how many rounds variational EM is given
K_holes = 8        # latent variables of the models of images with holes
epochs = 150       # … and how long the VAE among them is trained
seed = 0

# %%
import warnings

import matplotlib.pyplot as plt
import numpy as np
from scipy import integrate, stats

from teachvae import VAE, FactorAnalysis, VariationalEM, datasets, gradcheck, plots
from teachvae.likelihoods import LIKELIHOODS, Bernoulli

plt.rcParams["figure.dpi"] = 120
plt.switch_backend(plt.get_backend())            # from here on a figure as the last line of a cell is shown
np.set_printoptions(precision=3, suppress=True)
warnings.filterwarnings("ignore", message="training ended after")  # before Q came to rest, as the text says
print(sorted(LIKELIHOODS))

# %% [markdown]
# ## 1. One bound, any likelihood
#
# The decoder gives $f(z)$, $D$ numbers without limits. A likelihood says what they mean for $x$. For bits
# they are logits, $p(x_d = 1) = \sigma(f_d)$, and with $\log(1 - \sigma(f)) = -\log(1 + e^f)$
#
# $$
# \log p(x|f) = \sum_d x_d f_d - \log(1 + e^{f_d}),
# \qquad
# \frac{\partial \log p}{\partial f_d} = x_d - \sigma(f_d)
# $$
#
# (5.7), (5.8). That is all the decoder ever hears of the data: an error, data minus mean. Written down in
# three lines and checked against finite differences:

# %%
rng = np.random.default_rng(seed)
bits, params = (rng.random((4, 6)) < 0.5) * 1.0, {"f": 2 * rng.normal(size=(4, 6))}


def minus_log_p(p):
    return -np.sum(bits * p["f"] - np.logaddexp(0, p["f"]))


by_hand = {"f": 1 / (1 + np.exp(-params["f"])) - bits}
print(gradcheck.check(minus_log_p, params, by_hand))
log_p, _ = Bernoulli(6).forward({}, params["f"][None], bits)
print(f"the package's value, less ours: {-log_p.sum() - minus_log_p(params):.1e}")

# %% [markdown]
# ## 2. Factor analysis of bits and of counts
#
# Factor analysis is a linear decoder with Gaussian noise. A linear decoder with another likelihood is its
# relative, *exponential-family factor analysis*. Its posterior is no Gaussian any more and EM has no closed
# form, but variational EM and the VAE do not care. Two views of the same digits: bits (is the pixel dark?)
# and counts (16 grey levels, as they came from the scanner). Some of the fits in this notebook end while $Q$
# of their training data still falls; the warning that says so is switched off above.

# %%
train, held_out = datasets.split(datasets.digits(dequantise=False))
counts, counts_new = 16 * train.x[:cases], 16 * held_out.x[:100]
views = {
    "bernoulli": ((counts > 7.5) * 1.0, (counts_new > 7.5) * 1.0),
    "poisson": (counts, counts_new),
}
road = "grid" if K <= 2 else None                                   # beyond 2: by importance sampling
options = dict(random_state=seed)
print(f"{len(counts)} images to train on, {len(counts_new)} held out, K = {K}\n")
print(f"{'held out, nats per case':42}{'Q':>9}{'NLML':>9}{'gap':>9}")
for name, (x, x_new) in views.items():
    for route, model in [
        ("variational EM, linear", VariationalEM(K, hidden=(), likelihood=name, epochs=rounds, **options)),
        ("VAE, linear", VAE(K, hidden=(), likelihood=name, **options)),
        (f"VAE, hidden = {hidden}", VAE(K, hidden=hidden, likelihood=name, **options)),
    ]:
        model.fit(x)
        Q, nlml = model.bound(x_new).mean(), model.nlml(x_new, road).values.mean()
        print(f"{name:14}{route:28}{Q:9.3f}{nlml:9.3f}{Q - nlml:9.3f}")


# %% [markdown]
# For bits these numbers are what they look like: a lossless code for an image costs NLML nats. The two linear
# rows have the same model family, and differ by who fills in $\phi_n$: a search for each case, or a network,
# which has seen some hundred images and is asked about others. Numbers of bits and of counts are not
# comparable: they are about different data.
#
# It is tempting to feed grey values to the Bernoulli formula. It runs, and it trains. But it is not a
# likelihood. For one pixel with $f = 1$, the sum over $\lbrace 0, 1 \rbrace$ is 1, and the integral over $[0, 1]$ is not:

# %%
def formula(x, f=1.0):
    return np.exp(x * f - np.logaddexp(0, f))


integral, _ = integrate.quad(formula, 0, 1)
print(f"sum over 0 and 1: {formula(0) + formula(1):.4f}   integral over [0, 1]: {integral:.4f}")

try:
    VAE(K, likelihood="bernoulli").fit(train.x)
except ValueError as error:
    print("ValueError:", error)

relaxed = VAE(K, likelihood="bernoulli-relaxed", epochs=20, random_state=seed).fit(train.x)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    relaxed.bound(held_out.x)
print(f"{caught[0].category.__name__}: {caught[0].message}")

# %% [markdown]
# ## 3. Gross errors
#
# Gaussian noise has thin tails: an entry at 10 standard deviations costs 50 nats, and the fit will bend for
# it. Under a Student-t with 4 degrees of freedom a residual $u$ counts with the weight $5/(4 + u^2)$ (5.35),
# so what is far out pulls less and less. Data of which factor analysis is true, and 2 % of the entries moved
# by ±15:

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
    print(f"{title:36}{model.nlml(clean_new).values.mean():14.3f}{angle(model):12.1f}")

# %% [markdown]
# The held-out data are clean. Student-t noise finds the loadings as well as the Gaussian does from clean
# data; what it still pays is for tails that these data do not have.

# %% [markdown]
# ## 4. A table with columns of four kinds
#
# One hidden trait $z$ drives a height, a yes or no, a count and one of three categories. We made the table,
# so we know $z$ and even its exact posterior.

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

grid = np.linspace(-6, 6, 2001)[:, None]                            # the truth, by a sum over z
log_softmax = np.outer(grid, [-1.5, 0.0, 1.5])
log_softmax -= np.log(np.exp(log_softmax).sum(axis=1, keepdims=True))
log_joint = (
    stats.norm.logpdf(grid)
    + stats.norm.logpdf(x_new[:, 0], 170 + 8 * grid, 4)
    + stats.bernoulli.logpmf(x_new[:, 1], 1 / (1 + np.exp(-2 * grid)))
    + stats.poisson.logpmf(x_new[:, 2], np.exp(0.5 + 0.7 * grid))
    + log_softmax[:, x_new[:, 3].astype(int) - 1]
)
p = np.exp(log_joint) * (grid[1, 0] - grid[0, 0])
print(f"{'':18}{'NLML':>8}{'corr. with z':>14}")
posterior_mean = (p * grid).sum(axis=0) / p.sum(axis=0)
print(f"{'truth':18}{-np.log(p.sum(axis=0)).mean():8.3f}{np.corrcoef(posterior_mean, z_new)[0, 1]:14.3f}")
for route in (VariationalEM, VAE):
    model = route(1, hidden=(), likelihood=kinds, random_state=seed).fit(x)
    correlation = abs(np.corrcoef(model.transform(x_new)[:, 0], z_new)[0, 1])
    print(f"{route.__name__:18}{model.nlml(x_new, method='grid').values.mean():8.3f}{correlation:14.3f}")
    if route is VariationalEM:
        mixed = model
print("\nfour samples: height, plays, visits, group")
print(mixed.sample(4, random_state=seed))

# %% [markdown]
# From 500 rows the fit comes within a few hundredths of a nat of the truth, and reads $z$ as well as can be.
# The category went in as one column of numbers and comes back as one. Inside it is three columns, one-hot,
# with a softmax of their own (5.29).
#
# A model of all columns together can also predict any of them from the others. Empty a column, and `impute`
# it:

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
# ## 5. Missing cells
#
# A NaN is an error, until you say what it means. `missing="marginalise"` says: it was not observed. Then it
# is integrated out, and since entries are independent given $z$, this is the plainest thing in the world: its
# term leaves the sum (5.40).
#
# $$
# \int p(x_n|z)\thinspace dx_n^{mis} = \prod_{d\ \mathrm{observed}} p(x_{nd}|z)
# $$
#
# Half of the training cells and a fifth of the held-out ones are hidden at random.

# %%
train, held_out = datasets.split(datasets.to_unit_interval(datasets.digits()))
rng = np.random.default_rng(seed)
holes = rng.random(held_out.x.shape) < 0.2
holes_train = rng.random(train.x.shape) < 0.5
x_part = np.where(holes_train, np.nan, train.x)
new_part = np.where(holes, np.nan, held_out.x)

try:
    FactorAnalysis(K_holes).fit(x_part)
except ValueError as error:
    print("ValueError:", error)

# %% [markdown]
# For factor analysis the E-step stays exact (2.17), and what a row with holes is worth can be checked with
# SciPy: it is the density of a smaller Gaussian, without those rows and columns of $W^\top W + \Psi$.

# %%
fa = FactorAnalysis(K_holes, missing="marginalise").fit(x_part)
seen = ~holes[0]
small = stats.multivariate_normal(fa.mean_[seen], fa.get_covariance()[np.ix_(seen, seen)])
print(f"row 0, {seen.sum()} of 64 observed: {fa.nlml(new_part[:1]).values[0]:.10f}")
print(f"the smaller Gaussian:      {-small.logpdf(held_out.x[0, seen]):.10f}")

# %% [markdown]
# What people do instead is to fill the holes with the columns' means. Compare. NLML is measured on complete
# held-out images, the imputation error on the hidden fifth.

# %%
means = np.nanmean(x_part, axis=0)
filled = np.where(holes_train, means, train.x)
models = {
    "FA, all training cells": FactorAnalysis(K_holes).fit(train.x),
    "FA, half, filled by means": FactorAnalysis(K_holes).fit(filled),
    "FA, half, marginalised": fa,
    "VAE, half, marginalised": VAE(
        K_holes, hidden=(64, 64), epochs=epochs, missing="marginalise", random_state=seed
    ).fit(x_part),
}


def error(x):
    return np.sqrt(np.mean((x - held_out.x)[holes] ** 2))


imputed = {name: model.impute(new_part) for name, model in models.items()}
print(f"{'':28}{'NLML or Q':>10}{'RMSE of hidden cells':>22}")
for name, model in models.items():
    print(f"{name:28}{model.bound(held_out.x).mean():10.3f}{error(imputed[name]):22.4f}")
print(f"{'columns’ means':38}{error(np.broadcast_to(means, held_out.x.shape)):22.4f}")

# %% [markdown]
# Marginalising loses almost nothing, although half of the training cells are gone. Filling loses 8 nats per
# image: cells at the mean tell the model that pixels hardly vary and hardly go together. For the VAE the
# first column is $Q$, an upper bound on NLML; its recognition network sees the holes as a mask beside the
# data.

# %%
rows = np.arange(10)
unseen = np.where(holes, np.nan, held_out.x)
shown = [("clean", held_out.x[rows]), ("hidden cells in blue", unseen[rows])]
shown += [(name, images[rows]) for name, images in imputed.items()]
plots.image_rows(shown, (8, 8), (0, 1), ink=True)

# %% [markdown]
# One assumption is silent in all of this: *whether* a cell is missing does not depend on what it would have
# been, given what was observed. Our holes were drawn at random, so it is true here. Where people with high
# incomes leave the income empty, it is false, and then no likelihood of the observed cells alone is right
# (Rubin 1976).

# %% [markdown]
# ## To try
#
# 1. *A gradient of your own.* Write value and gradient of the Poisson likelihood, $x f - e^f - \log x!$, and
#    check them as in section 1. What does the decoder hear now?
# 2. *Not at random.* Hide every training pixel above 0.8. What does factor analysis with
#    `missing="marginalise"` make of the mean, and why?
# 3. *How many columns can go?* Hide 80 % of the training cells, and compare filling with marginalising again.
#    What goes wrong at 95 %?

# %% [markdown] summary="A solution to the first" tags=["solution"]
# The derivative is $x - e^f$: data minus mean again. It is so for every exponential family in its natural
# parameter.

# %% tags=["solution"]
from scipy.special import gammaln
counts, params = rng.poisson(3.0, (4, 6)) * 1.0, {"f": rng.normal(size=(4, 6))}
def minus_log_p(p):
    return -np.sum(counts * p["f"] - np.exp(p["f"]) - gammaln(counts + 1))
print(gradcheck.check(minus_log_p, params, {"f": np.exp(params["f"]) - counts}))

# %% [markdown] summary="A solution to the second" tags=["solution"]
# All that is left is below 0.8, so the means come out too low, and no likelihood of what was observed can
# know it.

# %% tags=["solution"]
dark = np.where(train.x > 0.8, np.nan, train.x)
mean = FactorAnalysis(K_holes, missing="marginalise").fit(dark).mean_
print(mean.mean(), train.x.mean())

# %% [markdown] summary="A solution to the third" tags=["solution"]
# At 80 % marginalising gives −34 nats where filling gives +23. With one cell in twenty left, two columns are
# seen together in three or four rows. That is too little for eight factors: noise variances sink to their
# floor, which the fit warns of, and held-out images are worth millions of nats, by either road too many.

# %% tags=["solution"]
for share in (0.5, 0.8):
    gone = np.random.default_rng(seed + 1).random(train.x.shape) < share
    part = np.where(gone, np.nan, train.x)
    a = FactorAnalysis(K_holes, missing="marginalise").fit(part)
    b = FactorAnalysis(K_holes).fit(np.where(gone, np.nanmean(part, axis=0), train.x))
    print(share, a.nlml(held_out.x).values.mean(), b.nlml(held_out.x).values.mean())
