# %% [markdown]
# # 01 · Autoencoders and factor analysis
#
# The lecture begins with two models for the same tasks: to *represent* data $x$ by a short code $z$, and to
# *denoise* them. An autoencoder can bend and has no density. Factor analysis has a density and cannot bend.
# This notebook lets both work on the same digits, with the same noise and the same labels, all of it on
# digits that were held out. It shows what each can and cannot do, and why one would like to merge them. You
# will write the principal plane, the gradient of an autoencoder, an exact denoiser, and the gradient of a
# linear probe.
#
# A number in parentheses leads to its card, with the proof and an example on paper. First the settings.
# Change them and run all cells again; what the words say of results, they say of these.

# %%
few = 2              # latent variables of the small models
many = 10            # … and of the large ones
hidden = (64, 64)    # widths of the hidden layers of all networks
epochs = 60          # passes of a network over the training digits
sigma = 0.2          # standard deviation of the noise
cases = 1000         # digits to train on, at most
new = 200            # held-out digits, at most,
judged = 100         # … and as many of them are denoised
seed = 0

# %%
import warnings

import matplotlib.pyplot as plt
import numpy as np

from teachvae import VAE, Autoencoder, FactorAnalysis, LinearProbe, PrincipalComponents
from teachvae import datasets, grade, plots

plt.rcParams["figure.dpi"] = 120
plt.switch_backend(plt.get_backend())            # from here on a figure as the last line of a cell is shown
np.set_printoptions(precision=4, suppress=True)
warnings.filterwarnings("ignore", message="training ended after")  # see the text

# %% [markdown]
# <a id="lecture-autoencoders-and-factor-analysis"></a>
#
# ## 1. Two models, the same tasks
#
# Both models have a *code*: $K$ numbers $z$ that stand for the $D$ numbers of $x$, with $K$ much smaller than
# $D$. And both have a *decoder*, which makes an $x$ of a $z$. What they are asked is the same, too.
#
# - *Representation.* What matters about $x$ should be easy to read off $z$.
# - *Denoising.* Given $x$ with noise on it, what was the $x$ underneath?
#
# The data are 8×8 handwritten digits with grey values in $[0, 1]$, so $D = 64$. A fifth of them is held out.
# The noise is known: each pixel of $\tilde x = x + \varepsilon$ has had $\varepsilon \sim N(0, \sigma^2)$
# added to it. The labels are used for nothing but the probe of section 6.

# %%
train, held_out = datasets.split(datasets.to_unit_interval(datasets.digits()))
x, x_new = train.x[:cases], held_out.x[:new]
y, y_new = train.labels[:cases], held_out.labels[:new]
clean = x_new[:judged]
noisy = clean + sigma * np.random.default_rng(seed).standard_normal(clean.shape)


def rmse(a, b):
    """The root of the mean squared difference, in grey values."""
    return np.sqrt(np.mean((a - b) ** 2))


classes = np.unique(y_new[:judged])
first = np.array([np.flatnonzero(y_new == c)[0] for c in classes])     # one held-out digit of each class
print(f"{len(x)} training and {len(x_new)} held-out digits, {len(noisy)} of them with noise: "
      f"RMSE {rmse(noisy, clean):.4f}")
plots.image_rows([("clean", clean[first]), ("noisy", noisy[first])], (8, 8), (0, 1), ink=True)

# %% [markdown]
# ## 2. The autoencoder: a code and a reconstruction
#
# An autoencoder is two networks, an encoder $g$ and a decoder $f$. It is trained to give $x$ back, through a
# code that is too small to copy it (1.19):
#
# $$
# \mathcal{L} = \frac{1}{2N} \sum_{n=1}^{N} \Vert x_n - f(g(x_n)) \Vert^2
# $$
#
# ### The linear autoencoder, and the best plane
#
# Start with networks that do not bend. Then the reconstructions lie in a plane of $K$ dimensions, and one can
# ask which plane is the best, before anything is trained. Let the rows of $V$, (K, D), be orthonormal
# directions in it, and let it go through the mean $\bar x$. The point of the plane nearest to $x_n$ is
# $\bar x + (x_n - \bar x) V^\top V$. Since $I - V^\top V$ is a projection, the mean squared distance is
#
# $$
# \frac{1}{N} \sum_n \Vert (x_n - \bar x)(I - V^\top V) \Vert^2 = \mathrm{tr}(S) - \mathrm{tr}(V S V^\top)
# $$
#
# with the covariance $S$ of the data. $\mathrm{tr}(V S V^\top)$ is the variance of the codes. Written in the
# eigenvectors of $S$, it is a sum of the eigenvalues $\lambda_d$ with weights between 0 and 1 that add up to
# $K$. It is largest with all weight on the $K$ largest. So the best plane is spanned by the leading $K$
# eigenvectors, the *principal components*, and what it misses is the sum of the other eigenvalues (8.7).

# %% [markdown]
# **Exercise 01-1.** Write the projection on this plane. `x` is (N, D) and `K` a whole number; return the
# points of the principal plane nearest to `x`, (N, D). It is the best that any linear autoencoder can do, and
# the yardstick for the others.

# %% tags=["exercise"]
def principal_plane(x, K):
    """The points (N, D), nearest to x (N, D), of the plane through the mean along K leading eigenvectors."""
    ...


# %% tags=["check"]
grade.check("01-1", principal_plane)

# %% [markdown] tags=["hint"]
# Three steps: take the mean off, project, put the mean back. For the middle one you need the eigenvectors of
# the covariance of the deviations.

# %% [markdown] tags=["hint"]
# `values, vectors = np.linalg.eigh(S)` sorts the eigenvalues *upwards* and has the eigenvectors as *columns*.
# Which columns belong to the K largest?

# %% [markdown] tags=["hint"]
# `V = vectors[:, -K:].T` has orthonormal rows, (K, D). The codes are `r @ V.T`, (N, K), with the deviations
# `r`, and each code is turned back into a deviation by `… @ V`.

# %% [markdown] tags=["solution"]
# One can also take the right singular vectors of the deviations: they are the same directions, sorted
# downwards.

# %% tags=["solution"]
def principal_plane(x, K):
    """The points (N, D), nearest to x (N, D), of the plane through the mean along K leading eigenvectors."""
    mean = x.mean(axis=0)
    r = x - mean                                     # deviations, (N, D)
    values, vectors = np.linalg.eigh(r.T @ r)        # upwards; N times the covariance has the same vectors
    V = vectors[:, -K:].T                            # (K, D)
    return mean + r @ V.T @ V


# %% [markdown]
# Does a linear autoencoder find this plane? It is trained by gradients, and nobody tells it of eigenvectors.
# *What do you expect of its loss, and of its code?* The loss is convex in the encoder alone and in the
# decoder alone, but not in both; and yet its only minima are the best plane (8.8). The code may be any
# invertible matrix times the principal one, since $g$ may multiply by it and $f$ by its inverse.

# %%
pca = PrincipalComponents(few).fit(x)
linear = Autoencoder(few, hidden=(), epochs=2 * epochs, learning_rate=1e-2, random_state=seed).fit(x)
best = 0.5 * len(x.T) * rmse(pca.reconstruct(x), x) ** 2
reached = 0.5 * len(x.T) * rmse(linear.reconstruct(x), x) ** 2
print(f"½ the sum of the eigenvalues left out: {best:.4f}; loss of the linear autoencoder: {reached:.4f}")
print(f"the two reconstructions differ by {rmse(pca.reconstruct(x), linear.reconstruct(x)):.4f}")
print(f"correlation of the principal codes:\n{np.corrcoef(pca.transform(x).T)}")
print(f"correlation of the autoencoder's codes:\n{np.corrcoef(linear.transform(x).T)}")

# %% [markdown]
# The plane is the same, the axes in it are not: principal components do not correlate, and the autoencoder
# has no reason to care.

# %% [markdown]
# ### Letting it bend
#
# Put a $\tanh$ between: $u_n = x_n V + a$, $z_n = \tanh(u_n)$, $f_n = z_n W + b$. Training needs the gradient
# of $\mathcal{L}$ in all four parameters. Go backwards, one line of the forward at a time, and write
# $d$ + name for the derivative of $\mathcal{L}$ by that name.
#
# - In the last line, $\mathcal{L} = \frac{1}{2N} \sum_n \Vert f_n - x_n \Vert^2$, so $df_n = (f_n - x_n)/N$.
# - $f_n = z_n W + b$ hands $df$ on: $dW = \sum_n z_n^\top df_n$, $db = \sum_n df_n$, and
#   $dz_n = df_n W^\top$.
# - $z = \tanh(u)$ acts number by number, and $\tanh' = 1 - \tanh^2$: $du = dz \odot (1 - z^2)$.
# - The first line is like the second.

# %% [markdown]
# **Exercise 01-2.** Write these gradients for a mini autoencoder: `x` (N, D), encoder `V` (D, K), `a` (K,),
# decoder `W` (K, D), `b` (D,). Return `dV, da, dW, db`, in this order, each shaped like its parameter. They
# are compared with differences of the loss. Every network of this course is trained by such a backward; here
# is all of it.

# %% tags=["exercise"]
def autoencoder_gradients(x, V, a, W, b):
    """dV (D, K), da (K,), dW (K, D), db (D,) of the mean over n of ½ ‖tanh(x V + a) W + b − x‖²."""
    z = np.tanh(x @ V + a)                           # (N, K)
    f = z @ W + b                                    # (N, D)
    return ...                                       # dV, da, dW, db


# %% tags=["check"]
grade.check("01-2", autoencoder_gradients)

# %% [markdown] tags=["hint"]
# Begin with `df = (f - x) / len(x)`, (N, D). Then ask of each parameter: in which line of the forward does it
# stand, and what is the gradient of that line's left side?

# %% [markdown] tags=["hint"]
# Shapes lead the way. `dW` is (K, D), and the only product of `z` (N, K) and `df` (N, D) with that shape sums
# over the data cases: `z.T @ df`.

# %% [markdown] tags=["hint"]
# `du = df @ W.T * (1 - z**2)`, (N, K). The encoder's two gradients are made of `du` and `x` as the decoder's
# are of `df` and `z`.

# %% tags=["solution"]
def autoencoder_gradients(x, V, a, W, b):
    """dV (D, K), da (K,), dW (K, D), db (D,) of the mean over n of ½ ‖tanh(x V + a) W + b − x‖²."""
    z = np.tanh(x @ V + a)
    f = z @ W + b
    df = (f - x) / len(x)                            # (N, D)
    du = df @ W.T * (1 - z**2)                       # (N, K)
    return x.T @ du, du.sum(axis=0), z.T @ df, df.sum(axis=0)


# %% [markdown]
# What does bending buy? Take data that lie near an arc in the plane, and one latent variable. *Which
# reconstructions are possible for a linear autoencoder, and which for one with hidden layers?*

# %%
arc = datasets.bent_sheet(n_cases=400, noise=0.08**2, seed=seed).x[:, [0, 2]]    # two of its three columns
bent = Autoencoder(1, hidden=(16,), epochs=200, learning_rate=1e-2, random_state=seed).fit(arc)
straight = PrincipalComponents(1).fit(arc)


def points_of(model):
    """What the model decodes along the codes of the data, from the lowest to the highest."""
    z = model.transform(arc)
    return model.decode(np.linspace(z.min(), z.max(), 200)[:, None])


def on_the_arc(curves, title):
    """The data, and curves {label: points (n, 2)} over them."""
    fig, ax = plt.subplots(figsize=(5.6, 2.9))
    ax.scatter(*arc.T, s=6, color="#BBBBBB", lw=0, label="data")
    looks = (plots.COLOURS[0], "-"), (plots.COLOURS[3], "--"), ("k", ":")
    for (label, points), (colour, style) in zip(curves.items(), looks):
        ax.plot(*points.T, style, color=colour, lw=2, label=label)
    ax.set(xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
    ax.set_title(title, fontsize=10)
    ax.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    ax.spines[["top", "right"]].set_visible(False)
    return fig, ax


curves = {"principal axis": points_of(straight), "autoencoder": points_of(bent)}
on_the_arc(curves, "all that one number can be decoded to")
plt.show()
print(f"RMSE of the reconstruction: on the axis {rmse(straight.reconstruct(arc), arc):.3f}, "
      f"on the curve {rmse(bent.reconstruct(arc), arc):.3f};")
print("the data were made with noise of standard deviation 0.08 in each column")

# %% [markdown]
# With hidden layers a single number is enough for this curve, up to the noise. The lecture says: deep
# autoencoders represent data from complex manifolds by highly non-linear representations.
#
# ### What an autoencoder does not say
#
# How likely is this $x$? Draw me a new one. How sure are you of $z$? None of these has an answer.
# $\mathcal{L}$ measures how far $x$ is from the curve, and says nothing about *where on the curve* data lie,
# nor how far from it they stray. Ask, and it says so itself:

# %%
for question in ("sample", "nlml", "bound"):
    try:
        getattr(bent, question)
    except AttributeError as error:
        print(error)

# %% [markdown]
# A small reconstruction error is no probability. An autoencoder with $K \geq D$ could copy every $x$, digit
# or not, and would make no error at all.

# %% [markdown]
# <a id="lecture-linear-mean"></a>
#
# ## 3. Factor analysis: a density, on a plane
#
# Factor analysis says how data come about. First $z$ is drawn, then $x$ is computed from it, with noise of
# its own in every column, so that $\Psi$ is diagonal:
#
# $$
# z \sim N(0, I), \qquad x = z W + b + \varepsilon, \qquad \varepsilon \sim N(0, \Psi)
# $$
#
# So $p(x|z) = N(x; zW + b, \Psi)$, and without $z$ the data are normal with the covariance
# $C = W^\top W + \Psi$ (2.1). Every question about probabilities now has an answer: how likely $x$ is, what
# $z$ was (a posterior, not a point), what other $x$ there are. Notebook 02 derives all of it. But look at the
# mean of $x$ given $z$: it is $zW + b$, linear in $z$. Whatever $W$ is, this is a plane. *What will factor
# analysis make of the arc?*

# %%
flat = FactorAnalysis(1, noise="isotropic", random_state=seed).fit(arc)    # one ψ for both columns
W, b, C = flat.components_, flat.mean_, flat.get_covariance()
z = np.linspace(-2.5, 2.5, 50)[:, None]
circle = np.column_stack([np.cos(t := np.linspace(0, 2 * np.pi, 200)), np.sin(t)]) @ np.linalg.cholesky(C).T
draws = flat.sample(400, random_state=seed)

fig, ax = on_the_arc({"mean of x given z": z @ W + b, "p(x): one standard deviation": b + circle,
                      "two of them": b + 2 * circle}, "factor analysis with one factor")
ax.scatter(*draws.T, s=9, marker="x", color="k", lw=0.5, alpha=0.5, label="draws from the model")
ax.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
plt.show()
print(f"mean nlml of the data, in nats per data case: {flat.nlml(arc).values.mean():.3f}")

# %% [markdown]
# It gives every point of the plane a density, and its draws look like no arc: the ellipses cover what the
# data avoid, above the arc and at its ends. The best line is all that one factor can have. More factors do
# not help: two of them would fill the plane.
#
# The same by numbers, on digits. A linear decoder takes the middle of two codes to the middle of the two
# images, whatever the codes are. Both kinds of models are fitted now, with few and with many latent
# variables, as they are needed in the rest of the notebook. The *denoising autoencoder* was trained to map
# $\tilde x$, with fresh noise in every epoch, to $x$. The VAE is the model that this course leads to; take it
# for a factor analysis that bends, until section 8. All networks have the same hidden layers and are trained
# for as many epochs, in single precision, which does them no harm. More epochs would gain something still;
# the warning that says so is switched off above.

# %%
training = dict(hidden=hidden, epochs=epochs, learning_rate=6e-3, dtype="float32", random_state=seed)
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
    print(f"K = {K}: {', '.join(models[K])} fitted")

# %%
print(f"{'K = ' + str(many):24}distance of f(middle of two codes) from the middle of f of both, RMSE")
for name in ("factor analysis", "principal components", "autoencoder", "VAE"):
    model = models[many][name]
    z1, z2 = (model.transform(x_new[first[i]][None]) for i in (0, -1))
    middle = 0.5 * (model.decode(z1) + model.decode(z2))
    print(f"{name:24}{rmse(model.decode(0.5 * (z1 + z2)), middle):.4f}")

# %% [markdown]
# ## 4. Denoising by Bayes' rule
#
# For factor analysis the question of denoising has an exact answer. What is asked for is
# $\mathbb{E}[x \mid \tilde x]$. Take it in two steps.
#
# *Given $z$*, $x_d$ and $\tilde x_d$ share the mean $f_d = b_d + z W_{\cdot d}$; $x_d$ strays from it with
# the variance $\psi_d$, and $\tilde x_d$ with $\psi_d + \sigma^2$. Of what $\tilde x_d$ is off, the share
# $\psi_d / (\psi_d + \sigma^2)$ is $x_d$'s own and the rest is noise:
#
# $$
# \mathbb{E}[x_d \mid \tilde x, z] = f_d + \frac{\psi_d}{\psi_d + \sigma^2} (\tilde x_d - f_d)
# $$
#
# *Over $z$.* Given $\tilde x$, $z$ has a posterior: that of factor analysis with the noise
# $\Psi + \sigma^2 I$ in place of $\Psi$ (5.27). All that stands above is linear in $z$, so its mean may be
# put in:
#
# $$
# m = (\tilde x - b)\thinspace (\Psi + \sigma^2 I)^{-1} W^\top M^{-1}, \qquad
# M = I + W (\Psi + \sigma^2 I)^{-1} W^\top
# $$
#
# So: decode $m$, and keep of each pixel the share that is likelier to be ink than noise (5.28). An
# autoencoder can do the first half of this at best.

# %% [markdown]
# **Exercise 01-3.** Write this denoiser. `noisy` is (N, D), the model `W` (K, D), `b` (D,), `psi` (D,), all
# of them known, and `tau2` is the noise's variance, one number. Return $\mathbb{E}[x \mid \tilde x]$, (N, D).

# %% tags=["exercise"]
def denoise(noisy, W, b, psi, tau2):
    """The mean (N, D) of x given noisy (N, D), where x = z W + b + noise(psi), noisy = x + noise(tau2)."""
    ...


# %% tags=["check"]
grade.check("01-3", denoise)

# %% [markdown] tags=["hint"]
# The formulas above are the whole of it: the posterior's mean `m` (N, K) of $z$, then `f = b + m @ W`, then
# the rest is weighed column by column.

# %% [markdown] tags=["hint"]
# `total = psi + tau2` is the noise of `noisy` given $z$, (D,). In the posterior it stands wherever `psi`
# stands in factor analysis, in `M` too.

# %% [markdown] tags=["hint"]
# `M = np.eye(len(W)) + (W / total) @ W.T` and `m = (noisy - b) / total @ W.T @ np.linalg.inv(M)`. The last
# line is `f + psi / total * (noisy - f)`.

# %% [markdown] tags=["solution"]
# There is a second road. $x$ and $\tilde x$ are jointly normal, with covariance $C$ between them and
# $C + \sigma^2 I$ of $\tilde x$, so
# $\mathbb{E}[x \mid \tilde x] = b + (\tilde x - b)(C + \sigma^2 I)^{-1} C$. This is *Wiener's filter*. It
# takes a (D, D) matrix where the solution below takes a (K, K) one.

# %% tags=["solution"]
def denoise(noisy, W, b, psi, tau2):
    """The mean (N, D) of x given noisy (N, D), where x = z W + b + noise(psi), noisy = x + noise(tau2)."""
    total = psi + tau2                               # of noisy given z, (D,)
    M = np.eye(len(W)) + (W / total) @ W.T           # (K, K)
    m = (noisy - b) / total @ W.T @ np.linalg.inv(M)  # (N, K)
    f = b + m @ W
    return f + psi / total * (noisy - f)


# %% [markdown]
# Two roads, one number: Wiener's filter, the conditional mean of two jointly normal vectors (0.11), and the
# model's own `denoise`, which goes by way of $z$.

# %%
fa = models[many]["factor analysis"]
C = fa.get_covariance()
wiener = fa.mean_ + np.linalg.solve(C + sigma**2 * np.eye(len(C)), (noisy - fa.mean_).T).T @ C
by_z = fa.denoise(noisy, sigma**2)
print(f"largest difference {np.abs(wiener - by_z).max():.1e}; RMSE {rmse(by_z, clean):.4f}")

# %% [markdown]
# For the VAE the same two equations hold at each $z$, and $q(z|\tilde x)$ stands in for the posterior of $z$.
# It is not the recognition network's: that was trained on clean images, and for the model with noise in
# $\Psi$. It is found by E-steps under $\Psi + \sigma^2 I$. An autoencoder has no $\Psi$ and no posterior, so
# the noise's variance is of no use to it. All it can do is to reconstruct $\tilde x$ and hope that the noise
# does not fit through $K$ numbers. *Before you run the next cell: which of the five will make the images
# better than they were, with so few numbers?*

# %%
denoised = {}
print(f"{'RMSE, held out':25}{'denoised':>10}{'reconstructed x':>18}{'reconstructed x̃':>18}")
for K in models:
    for name, model in models[K].items():
        denoised[name, K] = model.denoise(noisy, sigma**2)
        print(f"{name:22}{K:3}{rmse(denoised[name, K], clean):10.4f}"
              f"{rmse(model.reconstruct(clean), clean):18.4f}{rmse(model.reconstruct(noisy), clean):18.4f}")
print(f"{'no model':25}{rmse(noisy, clean):10.4f}")

# %% [markdown]
# Read the first column.
#
# - With few latent variables the plain autoencoder and principal components make the images *worse* than they
#   were. The reconstruction itself loses more than the noise did, and there is no way back to $\tilde x$.
# - Factor analysis reconstructs no better than they do, and denoises well. It knows by $\Psi$ how far each
#   pixel may stray from its mean, and where a pixel tells more than $z$ it keeps the pixel.
# - The VAE is the best of its size: its mean is as flexible as the autoencoder's, and it has a $\Psi$.
# - The denoising autoencoder learnt to do this and nothing else (8.11). With many variables it comes close to
#   factor analysis. But its bottleneck is still the only way from $\tilde x$ to $x$.
#
# The last column is what one gets from the code of the *clean* model. For the VAE it is the worst thing to
# do: a network that was never shown noise is asked about it.

# %%
shown = {"clean": clean[first], "noisy": noisy[first]}
for name in models[many]:
    shown[name] = denoised[name, many][first]
plots.image_rows(list(shown.items()), (8, 8), (0, 1), ink=True)

# %% [markdown]
# ## 5. When the noise is another
#
# Models with a $\Psi$ are told the noise when the question is asked. The denoising autoencoder was told when
# it was trained. *What do you expect of each where there is hardly any noise, and where there is nothing but
# noise?*

# %%
sigmas = np.array([0.05, 0.1, 0.2, 0.4, 0.8])
some = x_new[:40]
unit_noise = np.random.default_rng(seed + 1).standard_normal(some.shape)

figure, axes = plt.subplots(figsize=(6.5, 4))
for (name, model), colour, marker in zip(models[many].items(), plots.COLOURS, "os^vD"):
    errors = [rmse(model.denoise(some + s * unit_noise, s**2), some) for s in sigmas]
    axes.loglog(sigmas, errors, f"{marker}-", color=colour, label=name)
axes.loglog(sigmas, sigmas, "k:", label="no model")
axes.axhline(rmse(x.mean(axis=0), some), color="k", lw=0.7, ls="--", label="the mean of all digits")
axes.set(xlabel="noise, standard deviation in grey values", ylabel=f"RMSE after denoising, K = {many}")
axes.set_xticks(sigmas, sigmas)
axes.set_yticks([0.05, 0.1, 0.2, 0.4, 0.8], [0.05, 0.1, 0.2, 0.4, 0.8])
axes.minorticks_off()
axes.legend(fontsize=8, loc="lower right")
axes.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# The two curves with a $\Psi$ go with the noise. When there is little of it, they leave the image alone. When
# there is much, they fall back on the mean of all digits, and are never worse than both. The other three end
# on the left at the error of a reconstruction. On the right they take noise for signal. The denoising
# autoencoder sits well where it was trained, at $\sigma$, and at $2\sigma$ it still is about level with
# factor analysis, which had to be told.

# %% [markdown]
# ## 6. Representation: what can be read off z
#
# The codes of the small models, a digit at the place of its image. No model has seen a label.

# %%
panels = [(name, models[few][name].transform(x_new)) for name in makers]
plots.latent_scatter(panels, y_new)

# %% [markdown]
# How much of the label is in $z$? A *linear probe* is a softmax regression from $z$ to the labels. It is a
# plain reader, so that what it finds has to lie open. With the logits $\ell_n = z_n W + b$, (C,), it says
# $p(y = c \mid z_n) = \exp \ell_{nc} / \sum_j \exp \ell_{nj}$, and its loss is the mean of
# $-\log p(y_n \mid z_n)$ and a little weight decay, without which $W$ could grow for ever (8.3):
#
# $$
# \mathcal{L} = -\frac{1}{N} \sum_{n=1}^{N} \left( \ell_{n y_n} - \log \sum_j \exp \ell_{nj} \right) +
# \frac{\lambda}{2} \Vert W \Vert^2
# $$
#
# The derivative of $\log \sum_j \exp \ell_{nj}$ by $\ell_{nc}$ is $\exp \ell_{nc} / \sum_j \exp \ell_{nj}$,
# which is $p(y = c \mid z_n)$ again. So the gradient of a logit is what the probe says, less what is true.

# %% [markdown]
# **Exercise 01-4.** Write the gradient of this loss. `z` is (N, K), `y` (N,) holds whole numbers from 0 to C
# − 1, `W` is (K, C), `b` (C,), and `penalty` is $\lambda$. Return `dW, db`. With it, and any optimiser, you
# have a classifier.

# %% tags=["exercise"]
def probe_gradients(z, y, W, b, penalty):
    """dW (K, C), db (C,) of the mean of −log p(y|z) and ½ penalty ‖W‖², p = softmax(z W + b)."""
    logits = z @ W + b                               # (N, C)
    return ...                                       # dW, db


# %% tags=["check"]
grade.check("01-4", probe_gradients)

# %% [markdown] tags=["hint"]
# Find `dlogits`, (N, C), first: the derivative of $\mathcal{L}$ by every logit. From there on it is the
# decoder's half of exercise 01-2, with `z` as it is.

# %% [markdown] tags=["hint"]
# The probabilities are `np.exp(logits)`, divided by their sum over the classes (`axis=1`, `keepdims=True`).
# What is true is a 1 in the place of the label: `np.eye(len(b))[y]`, (N, C).

# %% [markdown] tags=["hint"]
# `dlogits = (p - np.eye(len(b))[y]) / len(z)`. `dW` has the weight decay's own slope beside it,
# `penalty * W`; the bias is not penalised.

# %% tags=["solution"]
def probe_gradients(z, y, W, b, penalty):
    """dW (K, C), db (C,) of the mean of −log p(y|z) and ½ penalty ‖W‖², p = softmax(z W + b)."""
    logits = z @ W + b
    p = np.exp(logits - logits.max(axis=1, keepdims=True))         # the largest taken off: no overflow
    p = p / p.sum(axis=1, keepdims=True)
    dlogits = (p - np.eye(len(b))[y]) / len(z)       # (N, C)
    return z.T @ dlogits + penalty * W, dlogits.sum(axis=0)


# %% [markdown]
# The probe of the package is fitted on training codes and scored on held-out ones. "Pixels" is the probe on
# $x$ itself.

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
# With few numbers, the networks with a bent decoder carry more of the label than the linear models. With
# many, all come near the pixels, and the VAE, which knows the density best, is behind the autoencoders and
# even behind principal components. So a better density model is not a better representation. The objective
# never heard of labels: factor analysis spends its variables on what pixels share, weighed by $\Psi^{-1}$,
# principal components on where the variance is, and neither is "which digit".

# %% [markdown]
# ## 7. On the way from one digit to another
#
# `interpolate` decodes the straight line between two codes.

# %%
start, end = first[0], first[min(1, len(first) - 1)]
lines = {
    name: models[many][name].interpolate(x_new[start], x_new[end], n_steps=10)
    for name in ("factor analysis", "autoencoder", "VAE")
}
lines["fade of pixels"] = np.linspace(x_new[start], x_new[end], 10)
plots.image_rows(list(lines.items()), (8, 8), (0, 1), ink=True)

# %% [markdown]
# The decoder of factor analysis is linear, so that its line is a fade of two reconstructions. The others
# bend. But is a point on that line a *likely* $z$? Only a model with a $p(z)$ can say.

# %% [markdown]
# <a id="lecture-merge"></a>
#
# ## 8. What if one could have both?
#
# Here is what the models of this notebook offer, as they say it themselves:

# %%
methods = {
    "code": "transform", "denoise": "denoise", "told σ": "", "bends": "", "draws": "sample", "nlml": "nlml",
}
print(f"{'':24}" + "".join(f"{task:>9}" for task in methods))
for name, model in models[few].items():
    z1, z2 = model.transform(x_new[:1]), model.transform(x_new[1:2])
    bend = rmse(model.decode(0.5 * (z1 + z2)), 0.5 * (model.decode(z1) + model.decode(z2)))
    told = rmse(model.denoise(noisy[:3], 0.01), model.denoise(noisy[:3], 1.0))
    can = {task: hasattr(model, method) for task, method in methods.items()}
    can |= {"told σ": told > 1e-6, "bends": bend > 1e-6}
    print(f"{name:24}" + "".join(f"{'yes' if can[task] else '–':>9}" for task in methods))

# %% [markdown]
# One line has a yes in every column (though its nlml is no formula: it takes an integral over $z$, found by
# numbers). It takes the density from factor analysis and the curve from the autoencoder, and its recipe is
# one change to section 3: where factor analysis has $zW + b$, put a network (1.2):
#
# $$
# z \sim N(0, I), \qquad p(x|z) = N(x; f_w(z), \Psi)
# $$
#
# This is *non-linear factor analysis*, and the variational autoencoder is one way to learn it. On the arc,
# with one latent variable again:

# %%
vae = VAE(1, hidden=(16,), noise="isotropic", epochs=200, learning_rate=1e-2, random_state=seed).fit(arc)
draws = vae.sample(400, random_state=seed)
mean = vae.decode(np.linspace(-2.5, 2.5, 200)[:, None])
fig, ax = on_the_arc({"mean of x given z": mean}, "a VAE with one latent variable")
ax.scatter(*draws.T, s=9, marker="x", color="k", lw=0.5, alpha=0.5, label="draws from the model")
ax.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
plt.show()
print(f"nats per data case: factor analysis, nlml {flat.nlml(arc).values.mean():.3f}; "
      f"VAE, an upper bound on its nlml {vae.bound(arc).mean():.3f}")

# %% [markdown]
# The mean follows the arc, and the draws lie where data lie. Lower is better, and the VAE's bound is lower
# than factor analysis's nlml: a nat is a factor of $e$ in the density of each data case. That the VAE has a
# *bound* and not its nlml is the price, and most of this course is about it.
#
# And drawn digits. An autoencoder has nothing to draw from. If one decodes $z \sim N(0, I)$ all the same, as
# if its codes lay there, one gets the second row.

# %%
rng = np.random.default_rng(seed)
samples = {
    "factor analysis": models[many]["factor analysis"].sample(10, random_state=seed),
    "autoencoder, z ~ N(0, I)": models[many]["autoencoder"].decode(rng.standard_normal((10, many))),
    "VAE": models[many]["VAE"].sample(10, random_state=seed),
}
codes = models[many]["autoencoder"].transform(x)
spread = codes.std(axis=0)
print(f"standard deviations of the autoencoder's codes: {spread.min():.1f} to {spread.max():.1f}")
plots.image_rows(list(samples.items()), (8, 8), (0, 1), ink=True)

# %% [markdown]
# The draws of factor analysis and the VAE are grainy because they are draws of $x$, with the noise $\Psi$ in
# it, and not means.

# %% [markdown]
# **Exercise 01-5.** Sum up. For each of the five tasks write who can do it: `"autoencoder"`,
# `"factor analysis"`, `"both"` or `"neither"`. Plain factor analysis and a plain or a denoising autoencoder
# are meant.

# %% tags=["exercise"]
who_can = {
    "give a code z": ...,
    "follow a curved surface": ...,
    "say how likely x is": ...,
    "draw new data": ...,
    "be told the noise when asked to denoise": ...,
}

# %% tags=["check"]
grade.check("01-5", who_can)

# %% [markdown] tags=["hint"]
# Three of the five need a density. Which model of the two has one?

# %% [markdown] tags=["hint"]
# To draw $x$, one has to draw $z$ first. Is it said anywhere how the codes of an autoencoder are distributed?

# %% [markdown] tags=["hint"]
# The table above has the answers, but for one thing: its column "told σ" asks whether the answer depends on
# the $\sigma$ that one names when one asks.

# %% tags=["solution"]
who_can = {
    "give a code z": "both",
    "follow a curved surface": "autoencoder",
    "say how likely x is": "factor analysis",
    "draw new data": "factor analysis",
    "be told the noise when asked to denoise": "factor analysis",
}

# %% [markdown]
# ## 9. What to remember
#
# - Autoencoders and factor analysis can be given the same tasks. One bends, the other has a density; neither
#   does both.
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
# With $C = W^\top W$, $(C + \sigma^2 I)^{-1} C$ has the eigenvalues $\lambda/(\lambda + \sigma^2)$, which
# tend to 1 on the span of $W$'s rows and are 0 off it. This is the projection of principal components, if $W$
# holds the leading ones (8.9).

# %% [markdown] summary="A solution to the second" tags=["solution"]
# Both cost about as much, 0.140 and 0.145 where the right variance gives 0.125. Too little leaves noise in,
# too much blurs what was there; either is far better than the 0.199 of no model.

# %% tags=["solution"]
for told in (sigma / 2, sigma, 2 * sigma):
    print(told, rmse(models[many]["factor analysis"].denoise(noisy, told**2), clean))

# %% [markdown] summary="A solution to the third" tags=["solution"]
# More noise fits through thirty numbers than through ten, so one may expect the plain autoencoder to get
# worse. It gets better: what ten numbers forget of the image is still the larger loss. The denoising one is
# ahead at both sizes.

# %% tags=["solution"]
for variance in (0.0, sigma**2):
    wide = Autoencoder(30, noise_variance=variance, **training).fit(x)
    print(variance, rmse(wide.denoise(noisy), clean))

# %% [markdown]
# **Next:** [02, factor analysis by EM](02-factor-analysis-by-em.ipynb), where the density of section 3 is
# derived and fitted. Before: [00, start here](00-start-here.ipynb).
