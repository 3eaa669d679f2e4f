# %% [markdown]
# # Denoising and representation: what a latent code is good for
#
# Two things are asked of a latent code $z$ of data $x$. It should *represent*: what matters about $x$ should
# be easy to read off $z$. And it should *denoise*: given $x$ with noise on it, it should help to find the $x$
# underneath. An autoencoder is built for the first and is often used for the second. Models with a $p(x, z)$,
# such as factor analysis and the VAE, answer both by Bayes' rule.
#
# Here they meet on the same digits, the same noise and the same labels, all of them held out. A number in
# parentheses leads to its equation in [derivations/equations.md](../derivations/equations.md); the models are
# introduced in [three-routes.ipynb](three-routes.ipynb).
#
# First the settings. Change them and run all cells again; what the words say of results, they say of these.

# %%
few = 2              # latent variables of the small models
many = 10            # … and of the large ones
hidden = (64, 64)    # widths of the hidden layers of all networks
epochs = 150
sigma = 0.2          # standard deviation of the noise
cases = 1438         # to train on, at most; and as many held-out ones, as far as they go
seed = 0

# %%
import warnings

import matplotlib.pyplot as plt
import numpy as np

from teachvae import VAE, Autoencoder, FactorAnalysis, LinearProbe, PrincipalComponents, datasets, plots

plt.rcParams["figure.dpi"] = 120
plt.switch_backend(plt.get_backend())            # from here on a figure as the last line of a cell is shown
np.set_printoptions(precision=4, suppress=True)
warnings.filterwarnings("ignore", message="training ended after")  # before Q came to rest, as the text says

# %% [markdown]
# ## 1. Data and models
#
# 8×8 handwritten digits with grey values in $[0, 1]$, $D = 64$; a fifth of them is held out. The noise is
# known: each pixel of $\tilde x = x + \epsilon$ has had $\epsilon \sim N(0, \sigma^2)$ added to it. The
# labels are used for nothing but the probe of section 4.

# %%
train, held_out = datasets.split(datasets.to_unit_interval(datasets.digits()))
x, x_new = train.x[:cases], held_out.x[:cases]
y, y_new = train.labels[:cases], held_out.labels[:cases]
noisy = x_new + sigma * np.random.default_rng(seed).standard_normal(x_new.shape)


def rmse(a, b):
    return np.sqrt(np.mean((a - b) ** 2))


print(f"{len(x)} training and {len(x_new)} held-out cases; RMSE of the noisy images {rmse(noisy, x_new):.4f}")

# %% [markdown]
# Five models, each with few and with many latent variables. The *denoising autoencoder* is an autoencoder
# that was trained to map $\tilde x$, with fresh noise in every epoch, to $x$. All networks have the same
# hidden layers and are trained for as many epochs. More of them would gain another nat or two on training
# data; the warning that says so is switched off above.

# %%
training = dict(hidden=hidden, epochs=epochs, random_state=seed)
makers = {
    "factor analysis": lambda K: FactorAnalysis(K, random_state=seed),
    "VAE": lambda K: VAE(K, **training),
    "autoencoder": lambda K: Autoencoder(K, **training),
    "denoising autoencoder": lambda K: Autoencoder(K, noise_variance=sigma**2, **training),
    "principal components": lambda K: PrincipalComponents(K),
}
models = {few: {}, many: {}}
for K in models:
    for name, make in makers.items():
        models[K][name] = make(K).fit(x)
        print(f"K = {K}: {name} fitted")

# %% [markdown]
# ## 2. Denoising by Bayes' rule
#
# For factor analysis the question has an exact answer. If $x \sim N(b, C)$ with $C = W^\top W + \Psi$, and
# noise of variance $\sigma^2$ is added, then $x$ and $\tilde x$ are jointly Gaussian and
#
# $$
# E[x \mid \tilde x] = b + C\thinspace (C + \sigma^2 I)^{-1} (\tilde x - b)
# $$
#
# This is Wiener's filter. `denoise` gets there by way of $z$: the noise is added to $\Psi$, the posterior of
# $z$ given $\tilde x$ is found, and what $\tilde x$ says of $x$ beside $z$ is weighed against it (5.27),
# (5.28). Two roads, one number:

# %%
fa = models[many]["factor analysis"]
C = fa.get_covariance()
wiener = fa.mean_ + np.linalg.solve(C + sigma**2 * np.eye(len(C)), (noisy - fa.mean_).T).T @ C
by_z = fa.denoise(noisy, sigma**2)
print(f"largest difference {np.abs(wiener - by_z).max():.1e}; RMSE {rmse(by_z, x_new):.4f}")

# %% [markdown]
# For the VAE the same two equations hold at each $z$, and $q(z|\tilde x)$ stands in for the posterior of $z$.
# It is not the recognition network's: that was trained on clean images, and for the model with noise in
# $\Psi$. It is found by E-steps under $\Psi + \sigma^2 I$. An autoencoder has no $\Psi$ and no posterior, so
# the noise's variance is of no use to it. All it can do is to reconstruct $\tilde x$ and hope that the noise
# does not fit through $K$ numbers.

# %%
print(f"{'RMSE, held out':24}{'denoised':>10}{'reconstructed x':>18}{'reconstructed x̃':>18}")
for K in models:
    for name, model in models[K].items():
        print(f"{name:22}{K:2}{rmse(model.denoise(noisy, sigma**2), x_new):10.4f}"
              f"{rmse(model.reconstruct(x_new), x_new):18.4f}{rmse(model.reconstruct(noisy), x_new):18.4f}")
print(f"{'no model':24}{rmse(noisy, x_new):10.4f}")

# %% [markdown]
# Read the first column.
#
# - With few latent variables the plain autoencoder and principal components make the images *worse* than they
#   were. The reconstruction itself loses more than the noise did, and there is no way back to $\tilde x$.
# - Factor analysis reconstructs no better than they do, and denoises well. It knows by $\Psi$ how far each
#   pixel may stray from its mean, and where a pixel tells more than $z$ it keeps the pixel.
# - The VAE is the best of its size: its mean is as flexible as the autoencoder's, and it has a $\Psi$.
# - The denoising autoencoder learnt to do this and nothing else. With many variables it comes close to factor
#   analysis. But its bottleneck is still the only way from $\tilde x$ to $x$.
#
# The last column is what one gets from $q(z|\tilde x)$ of the *clean* model. For the VAE it is the worst
# thing to do: a network that was never shown noise is asked about it.

# %%
rows = slice(10)
shown = {"clean": x_new[rows], "noisy": noisy[rows]}
for name, model in models[many].items():
    shown[name] = model.denoise(noisy[rows], sigma**2)
plots.image_rows(list(shown.items()), (8, 8), (0, 1), ink=True)

# %% [markdown]
# ## 3. When the noise is another
#
# Models with a $\Psi$ are told the noise when the question is asked. The denoising autoencoder was told when
# it was trained. What if the noise changes?

# %%
sigmas = np.array([0.05, 0.1, 0.2, 0.4, 0.8])
some = x_new[:150]
unit_noise = np.random.default_rng(seed + 1).standard_normal(some.shape)

figure, axes = plt.subplots(figsize=(6.5, 4))
for (name, model), colour, marker in zip(models[many].items(), plots.COLOURS, "os^vD"):
    errors = [rmse(model.denoise(some + s * unit_noise, s**2), some) for s in sigmas]
    axes.loglog(sigmas, errors, f"{marker}-", color=colour, label=name)
axes.loglog(sigmas, sigmas, "k:", label="no model")
axes.axhline(rmse(x.mean(axis=0), some), color="k", lw=0.7, ls="--", label="the mean of all digits")
axes.set(xlabel="noise, standard deviation", ylabel=f"RMSE after denoising, K = {many}")
axes.set_xticks(sigmas, sigmas)
axes.set_yticks([0.05, 0.1, 0.2, 0.4, 0.8], [0.05, 0.1, 0.2, 0.4, 0.8])
axes.minorticks_off()
axes.legend(fontsize=8)
plt.show()

# %% [markdown]
# The two curves with a $\Psi$ go with the noise. When there is little of it, they leave the image alone. When
# there is much, they fall back on the mean of all digits, and are never worse than both. The other three end
# on the left at the error of a reconstruction. On the right they take noise for signal. The denoising
# autoencoder sits well where it was trained, at $\sigma$, and at $2\sigma$ it still is level with factor
# analysis, which had to be told.

# %% [markdown]
# ## 4. Representation: what can be read off z
#
# The means of $q(z|x)$, a digit at the place of its image: the first two variables of the small models. No
# model has seen a label.

# %%
panels = [(name, models[few][name].transform(x_new)) for name in makers]
plots.latent_scatter(panels, y_new)

# %% [markdown]
# How much of the label is in $z$? A *linear probe* is a softmax regression from $z$ to the labels: a plain
# reader, so that what it finds has to lie open. It is fitted on training codes and scored on held-out ones.
# "Pixels" is the probe on $x$ itself.

# %%
print(f"{'accuracy of a linear probe':30}" + "".join(f"{f'K = {K}':>8}" for K in models))
for name in makers:
    accuracy = []
    for K in models:
        z, z_new = models[K][name].transform(x), models[K][name].transform(x_new)
        accuracy.append(LinearProbe().fit(z, y).score(z_new, y_new))
    print(f"{name:30}" + "".join(f"{a:8.3f}" for a in accuracy))
print(f"{'pixels':38}{LinearProbe().fit(x, y).score(x_new, y_new):8.3f}")

# %% [markdown]
# With few numbers, the networks with a bent decoder carry more of the label than the linear ones. With many,
# all but factor analysis are close to the pixels, and the autoencoders come out ahead of the VAE. So a better
# density model is not a better representation. The objective never heard of labels: factor analysis spends
# its variables on what pixels share, weighed by $\Psi^{-1}$, principal components on where the variance is,
# and neither is "which digit".

# %% [markdown]
# ## 5. On the way from one digit to another
#
# `interpolate` decodes the straight line between two codes.

# %%
zero, one = (int(np.flatnonzero(y_new == k)[0]) for k in (0, 1))
lines = {
    name: models[many][name].interpolate(x_new[zero], x_new[one], n_steps=10)
    for name in ("factor analysis", "autoencoder", "VAE")
}
lines["fade of pixels"] = np.linspace(x_new[zero], x_new[one], 10)
plots.image_rows(list(lines.items()), (8, 8), (0, 1), ink=True)

# %% [markdown]
# The decoder of factor analysis is linear, so that its line is a fade of two reconstructions. The others
# bend. But is a point on that line a *likely* $z$? Only a model with a $p(z)$ can say, and only such a model
# can be sampled from. The autoencoder says so itself:

# %%
try:
    models[many]["autoencoder"].sample(10)
except AttributeError as error:
    print(error)

samples = {name: models[many][name].sample(10, random_state=seed) for name in ("factor analysis", "VAE")}
plots.image_rows(list(samples.items()), (8, 8), (0, 1), ink=True)

# %% [markdown]
# ## 6. What to remember
#
# - To denoise, a model must know two things: where data lie, and how far they stray from there. The second is
#   $\Psi$.
# - Noise that is known belongs in the model when the question is asked, and then no new training is needed.
# - A reconstruction is not a denoised image. It forgets what its $K$ numbers cannot hold.
# - Likelihood, reconstruction and a probe rank the same models in different orders. Say which one you need.

# %% [markdown]
# ## To try
#
# 1. *Two ways to the same filter.* Show that for $\Psi = 0$ and $\sigma^2 \to 0$ Wiener's filter becomes a
#    projection. Which of the five models is that?
# 2. *Told the wrong noise.* Give `denoise` of factor analysis $(\sigma/2)^2$ and $(2\sigma)^2$ for noise of
#    $\sigma^2$. Which mistake costs more?
# 3. *More bottleneck.* Denoise with the autoencoders at $K = 30$. What do you expect of the plain one?

# %% [markdown] summary="A solution to the first" tags=["solution"]
# With $C = W^\top W$, $C (C + \sigma^2 I)^{-1}$ has the eigenvalues $\lambda/(\lambda + \sigma^2)$, which
# tend to 1 on the span of $W$'s rows and are 0 off it. This is the projection of principal components, if $W$
# holds the leading ones.

# %% [markdown] summary="A solution to the second" tags=["solution"]
# Both cost about as much, 0.139 and 0.143 where the right variance gives 0.123. Too little leaves noise in,
# too much blurs what was there; either is far better than the 0.199 of no model.

# %% tags=["solution"]
for told in (sigma / 2, sigma, 2 * sigma):
    print(told, rmse(models[many]["factor analysis"].denoise(noisy, told**2), x_new))

# %% [markdown] summary="A solution to the third" tags=["solution"]
# More noise fits through thirty numbers than through ten, so one may expect the plain autoencoder to get
# worse. It gets better: what ten numbers forget of the image is still the larger loss. The denoising one is
# ahead at both sizes.

# %% tags=["solution"]
for variance in (0.0, sigma**2):
    wide = Autoencoder(30, noise_variance=variance, **training).fit(x)
    print(variance, rmse(wide.denoise(noisy), x_new))
