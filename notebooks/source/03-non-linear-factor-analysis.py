# %% [markdown]
# # 03 · Non-linear factor analysis
#
# Factor analysis draws a straight line, or a flat sheet, through the data. Here it may bend: the mean of $x$ is
# any function of $z$ that a network can compute. In the model that changes one line. In its likelihood it
# changes everything. This notebook builds the model, draws data from it, looks at what its posteriors become,
# and then tries the two obvious roads to its likelihood, a grid and random draws, until both break. Why they
# break is the reason for all that follows in the course.
#
# You need factor analysis, [notebook 02](02-factor-analysis-by-em.ipynb). A number in parentheses leads to its
# card in the book of derivations: what the equation says, why it holds, and an example in numbers.
#
# First the settings. Change them and run all cells again. What the words say of results holds for the settings
# as they were handed out.

# %%
cases = 500                    # draws of each model
K = 2                          # latent variables of the network
hidden = (16,)                 # widths of its hidden layers; (): a straight decoder
noise = 0.02                   # variance of the noise around spiral and sheet
S = 1000                       # draws of the prior
dimensions = (1, 2, 4, 8, 16)  # latent variables of models that are alike otherwise
seed = 0

# %%
import warnings

import matplotlib.pyplot as plt
import numpy as np
from scipy.special import logsumexp

from teachvae import FactorAnalysis, Model, datasets, grade, grid, layers, likelihoods, nlml
from teachvae.plots import COLOURS

plt.rcParams.update({"figure.dpi": 120, "axes.spines.top": False, "axes.spines.right": False})
np.set_printoptions(precision=4, suppress=True)

# %% [markdown]
# <a id="lecture-non-linear-factor-analysis"></a>
#
# ## 1. One line of the model changes
#
# Both models say how a data case comes about: first $K$ latent numbers $z$, then $D$ visible numbers $x$ around
# a mean that depends on $z$.
#
# | | factor analysis | non-linear factor analysis |
# |---|---|---|
# | latent variables, (1.1) | $z \sim \mathcal{N}(0, I)$ | the same |
# | mean of $x$ given $z$ | $z W + b$ | $f_w(z)$, a network with parameters $w$ |
# | noise around it | $\mathcal{N}(0, \Psi)$, $\Psi$ diagonal | the same |
# | to be learnt | $W$, $b$, $\Psi$ | $w$, $\Psi$ |
#
# The noise stays independent from variable to variable: whatever makes two variables go together must come from
# $z$. What may change is the shape of the set of all means, $f_w(z)$ for every $z$.
#
# *What do you expect?* Lay a square lattice over the plane of $z$. Where does a matrix send its lines, and
# where can a network send them?

# %%
D = 2                                                       # visible variables, so that x can be drawn
rng = np.random.default_rng(seed)
straight = Model(layers.mlp(K, (), D), likelihoods.Gaussian(D), n_latent=K)
bent = Model(layers.mlp(K, hidden, D), likelihoods.Gaussian(D), n_latent=K)


def wide(model):
    """Random parameters, with weights in the first layer that make its tanh bend, and some noise."""
    theta = model.init(rng)
    theta["decoder"][0]["W"] = 1.5 * theta["decoder"][0]["W"]
    theta["likelihood"]["log_psi"] = np.log([0.02, 0.01])   # of the variances, one per variable
    return theta


theta_straight, theta_bent = wide(straight), wide(bent)
side = np.linspace(-2, 2, 9)
along = np.linspace(-2, 2, 101)


def line(k, at):
    """A line of the lattice: z_k runs, the next latent variable stands at `at`, all others at 0."""
    z = np.zeros((len(along), K))
    z[:, k] = along
    if K > 1:
        z[:, 1 - k] = at
    return z


fig, axes = plt.subplots(1, 3, figsize=(7, 2.5))
maps = {"z": lambda z: z, "straight: z W + b": lambda z: straight.f(theta_straight, z)[0],
        "bent: a network": lambda z: bent.f(theta_bent, z)[0]}
for ax, (title, f) in zip(axes, maps.items()):
    for k, colour in zip(range(min(K, 2)), (COLOURS[0], COLOURS[1])):
        for at in side if K > 1 else [0.0]:
            points = f(line(k, at))
            second = points[:, 1] if points.shape[1] > 1 else np.zeros(len(points))
            ax.plot(points[:, 0], second, color=colour, lw=0.9)
    ax.set_title(title, fontsize=9)
    ax.set_xlabel("$z_1$" if title == "z" else "$x_1$", fontsize=9)
    ax.set_ylabel("$z_2$" if title == "z" else "$x_2$", fontsize=9, labelpad=0)
    ax.tick_params(labelsize=7)
fig.tight_layout()
plt.show()
if not hidden:
    print("hidden = (): the network is one matrix, and as straight as the model in the middle.")
if K > 2:
    print(f"K = {K}: the picture is a cut, with all latent variables beyond the second at 0.")

# %% [markdown]
# A matrix keeps straight lines straight and equal steps equal. The network folds the sheet: steps become long
# here and short there, and two different $z$ may end at the same $x$. Both will matter.

# %% [markdown]
# <a id="lecture-decoder"></a>
#
# ## 2. The decoder, $f_w$
#
# The network that computes the mean is called the *decoder*, or generator. It is deterministic: the same $z$
# gives the same $f_w(z)$ always. With one hidden layer of tanh units,
#
# $$
# f_w(z) = \tanh(z W_1 + b_1) \thinspace W_2 + b_2, \qquad w = (W_1, b_1, W_2, b_2) .
# $$
#
# Each further hidden layer is one more tanh of a matrix (4.13). Here it is by hand, beside the package's own.

# %%
z = rng.standard_normal((5, K))
layers_of_w = [layer for layer in theta_bent["decoder"] if layer]  # a tanh has no parameters
h = z
for i, layer in enumerate(layers_of_w):
    h = h @ layer["W"] + layer["b"]
    if i < len(layers_of_w) - 1:                            # not behind the last layer
        h = np.tanh(h)
print("f(z) by hand:\n", h)
print(f"largest difference to the package: {np.abs(h - bent.f(theta_bent, z)[0]).max():.0e}")
print("numbers in w:", sum(layer["W"].size + layer["b"].size for layer in layers_of_w), " in Ψ:", D)

# %% [markdown]
# No tanh stands behind the last layer: a mean may be any number. $\Psi$ is not made by the network. It is a
# parameter of its own, $D$ variances, the same for every $z$.

# %% [markdown]
# <a id="lecture-joint"></a>
#
# ## 3. The joint density is easy
#
# By the product rule, and because $x$ depends on $z$ through the decoder alone (1.2),
#
# $$
# p(x, z \mid \theta) = \mathcal{N}(x; f_w(z), \Psi) \thinspace \mathcal{N}(z; 0, I) .
# $$
#
# In logarithms this is a sum of squares, with the constants that make both factors densities:
#
# $$
# \log p(x, z) = -\frac{1}{2} \sum_{d=1}^{D} \left( \frac{(x_d - f_d(z))^2}{\psi_d} + \log \psi_d + \log 2\pi \right) -
# \frac{1}{2} \sum_{k=1}^{K} \left( z_k^2 + \log 2\pi \right)
# $$
#
# All of it can be had for a given pair $(x, z)$ with one pass through the decoder, however deep it is. The
# running example of the book has $K = 1$, $D = 2$ and $f(z) = \tanh(z) \thinspace (1, 2) + (0, 1)$,
# $\psi = (1, 2)$. Take $x = (2, 3)$ and $z = 0.5$, and look at each term.

# %%
x, z, psi = np.array([2.0, 3.0]), 0.5, np.array([1.0, 2.0])
f = np.tanh(z) * np.array([1.0, 2.0]) + np.array([0.0, 1.0])
terms = {
    "squares of x − f over ψ": -0.5 * np.sum((x - f) ** 2 / psi),
    "log ψ": -0.5 * np.sum(np.log(psi)),
    "log 2π, D times": -0.5 * 2 * np.log(2 * np.pi),
    "square of z": -0.5 * z**2,
    "log 2π, K times": -0.5 * np.log(2 * np.pi),
}
for name, value in terms.items():
    print(f"{name:26}{value:9.4f}")
print(f"{'log p(x, z)':26}{sum(terms.values()):9.4f} nats")

# %% [markdown]
# Two of the five terms are constants, of no use for finding the best $z$ or $w$. They are kept all the same:
# without them the number is no log density, and two models, or two programs, could not be compared. $\log \psi$
# is no constant: it is learnt, and it is what keeps the noise from growing.
#
# **Exercise 03-1.** Write `tanh_log_joint(x, z, W1, b1, W2, b2, log_psi)`: the log joint density of a decoder
# with one hidden layer of tanh units. Given are `x` (N, D), `z` (S, N, K), that is S points for each data case,
# the weights `W1` (K, H), `b1` (H,), `W2` (H, D), `b2` (D,), and `log_psi` (D,), logarithms of *variances*.
# Return $\log p(x_n, z_{ns})$ as an array (S, N), all constants kept. Every method of this course calls this
# function, or one like it, in its innermost loop.

# %% tags=["exercise"]
def tanh_log_joint(x, z, W1, b1, W2, b2, log_psi):
    """log p(x_n, z_ns), (S, N)."""
    ...

# %% tags=["check"]
grade.check("03-1", tanh_log_joint)

# %% [markdown] tags=["hint"]
# Three lines: the mean `f`, of shape (S, N, D); the log likelihood, a sum over D; the log prior, a sum over K.
# NumPy lines shapes up from the right, so `x - f` works as it is.

# %% [markdown] tags=["hint"]
# `z @ W1` multiplies along the last axis of `z`, whatever stands before it. For a sum over the last axis write
# `.sum(axis=-1)`. The variance is `np.exp(log_psi)`.

# %% [markdown] tags=["hint"]
# The log likelihood is `-0.5 * ((x - f) ** 2 / np.exp(log_psi) + log_psi + np.log(2 * np.pi)).sum(axis=-1)`.
# The log prior has the same form, with mean 0 and variance 1.

# %% tags=["solution"]
def tanh_log_joint(x, z, W1, b1, W2, b2, log_psi):
    """log p(x_n, z_ns), (S, N)."""
    f = np.tanh(z @ W1 + b1) @ W2 + b2                      # (S, N, D)
    log_2pi = np.log(2 * np.pi)
    log_lik = -0.5 * np.sum((x - f) ** 2 / np.exp(log_psi) + log_psi + log_2pi, axis=-1)
    log_prior = -0.5 * np.sum(z**2 + log_2pi, axis=-1)
    return log_lik + log_prior

# %% [markdown]
# <a id="lecture-generate"></a>
#
# ## 4. Drawing data is easy
#
# Read from right to left, the same product makes data. Draw $z$ from the prior, send it through the decoder,
# add noise (7.24):
#
# $$
# z \sim \mathcal{N}(0, I), \qquad x = f_w(z) + \epsilon \odot \sqrt{\psi}, \qquad \epsilon \sim \mathcal{N}(0, I)
# $$
#
# The pair $(x, z)$ is then a draw of the joint density, and $x$ alone, its $z$ forgotten, a draw of $p(x)$,
# though nobody has computed $p(x)$. This is called ancestral sampling. Three decoders: a spiral (4.17) with
# $K = 1$, a sheet bent around a cylinder (4.19) with two latent variables, and the network from above.

# %%
spiral = datasets.spiral(n_cases=cases, noise=noise, seed=seed)
sheet = datasets.bent_sheet(n_cases=cases, noise=noise, seed=seed)
z = rng.standard_normal((cases, K))
epsilon = rng.standard_normal((cases, D))
x = bent.f(theta_bent, z)[0] + np.exp(0.5 * theta_bent["likelihood"]["log_psi"]) * epsilon

panels = [("spiral", spiral.x, spiral.truth.z, (0, 1)), ("bent sheet", sheet.x, sheet.truth.z, (0, 2)),
          ("the network", x, z, (0, 1))]
fig, axes = plt.subplots(1, 3, figsize=(7, 2.6), layout="constrained")
for ax, (title, points, codes, (i, j)) in zip(axes, panels):
    dots = ax.scatter(points[:, i], points[:, j], c=codes[:, 0], s=5, cmap="cividis", vmin=-2.5, vmax=2.5)
    ax.set_title(title, fontsize=9)
    ax.set_xlabel(f"$x_{i + 1}$", fontsize=9)
    ax.set_ylabel(f"$x_{j + 1}$", fontsize=9)
    ax.tick_params(labelsize=7)
fig.colorbar(dots, ax=axes, label="$z_1$ of the draw", shrink=0.8)
plt.show()

# %% [markdown]
# A round cloud of $z$ has become a spiral. How much of that would a straight model see? A linear Gaussian model
# of $x$ is normal, so mean and covariance are all it can know (7.25):
#
# $$
# \mathbb{E}[x] = \mathbb{E}[f_w(z)], \qquad \mathrm{Cov}[x] = \mathrm{Cov}[f_w(z)] + \Psi
# $$
#
# *What do you expect* of draws from a normal distribution with the spiral's own mean and covariance?

# %%
fig, axes = plt.subplots(1, 2, figsize=(5.6, 2.8), sharex=True, sharey=True, layout="constrained")
normal = rng.multivariate_normal(spiral.x.mean(axis=0), np.cov(spiral.x.T), size=cases)
titles = "draws of the spiral", "normal, same mean and covariance"
for ax, title, points in zip(axes, titles, (spiral.x, normal)):
    ax.plot(points[:, 0], points[:, 1], ".", ms=3, color=COLOURS[0])
    ax.set_title(title, fontsize=9)
    ax.set_xlabel("$x_1$", fontsize=9)
axes[0].set_ylabel("$x_2$", fontsize=9)
plt.show()
scale = np.sqrt(np.linalg.eigvalsh(np.cov(spiral.x.T)))
print(f"standard deviations of the spiral's cloud along its two axes: {scale[0]:.2f} and {scale[1]:.2f}")

# %% [markdown]
# A blob. No choice of $W$, $b$ and $\Psi$ does better, because there is nothing else in a mean and a
# covariance. The bent model shares both with the blob, and is another density.
#
# A common mistake: to take a data case, find a $z$ for it, decode that, and call the result a sample of the
# model. It is a *reconstruction*. A sample begins with a $z$ from the prior, and needs no data case.
#
# **Exercise 03-2.** Write `draw_data(z, epsilon, W1, b1, W2, b2, log_psi)`: one draw `x` (N, D) of the tanh
# network for each row of `z` (N, K). The noise `epsilon` (N, D), standard normal, is handed over, so that the
# same noise gives the same data; `log_psi` (D,) holds logarithms of variances.

# %% tags=["exercise"]
def draw_data(z, epsilon, W1, b1, W2, b2, log_psi):
    """x (N, D), a draw of p(x|z) for each z."""
    ...

# %% tags=["check"]
grade.check("03-2", draw_data)

# %% [markdown] tags=["hint"]
# Nothing random is left to do: $z$ and $\epsilon$ are drawn. Compute the mean of each row, then move it.

# %% [markdown] tags=["hint"]
# What turns a standard normal number into one with variance $\psi$: a factor $\psi$, or its root?

# %% [markdown] tags=["hint"]
# The standard deviation is $\sqrt{\psi} = e^{\frac{1}{2} \log \psi}$, one for each column.

# %% tags=["solution"]
def draw_data(z, epsilon, W1, b1, W2, b2, log_psi):
    """x (N, D), a draw of p(x|z) for each z."""
    f = np.tanh(z @ W1 + b1) @ W2 + b2
    return f + np.exp(0.5 * log_psi) * epsilon

# %% [markdown]
# ## 5. The posterior bends
#
# Now the other direction: $x$ has been seen, and $z$ has not. By Bayes' rule
#
# $$
# p(z \mid x) = \frac{p(x, z)}{p(x)} ,
# $$
#
# so for a fixed $x$ the posterior is the joint density, read as a function of $z$, up to a factor. In factor
# analysis $\log p(x, z)$ is a quadratic in $z$ for every $x$, hence every posterior is normal, and all have the
# same covariance (2.3). With a bent decoder?
#
# *What do you expect* of the spiral's posterior for a point far out on the curve, for one near its middle, and
# for one between two of its arms?

# %%
model, theta = Model(spiral.truth.decoder, likelihoods.Gaussian(2), 1), spiral.truth.theta
grid_z = np.linspace(-6, 6, 4801)                           # a fine grid; h is its mesh
h = grid_z[1] - grid_z[0]


def log_joint(x, z=grid_z):
    """log p(x_n, z_g) at all points z (G,) of a grid, (G, N)."""
    return model.log_joint_of_pairs(theta, x, z[:, None])


def on_curve(z):
    """f(z) of the spiral, (…, 2)."""
    return model.f(theta, np.reshape(z, (-1, 1)))[0]


def between_arms():
    """A point between the arms z = 0 and z = −π that both explain equally well."""
    share = np.linspace(0.01, 0.99, 99)[:, None]
    x = share * on_curve(0.0) + (1 - share) * on_curve(-np.pi)
    peaks = np.stack([log_joint(x)[np.abs(grid_z - at) < 0.7].max(axis=0) for at in (0.0, -np.pi)])
    return x[[np.argmin(np.abs(peaks[0] - peaks[1]))]]


chosen = np.concatenate([on_curve(1.3), on_curve(-2.2), between_arms()])
names = "far out", "near the middle", "between two arms"
log_p = log_joint(chosen)
posterior = np.exp(log_p - logsumexp(log_p, axis=0)) / h    # (G, 3): the sum is 1/h

fig, axes = plt.subplots(1, 2, figsize=(7, 2.9), layout="constrained")
axes[0].plot(*on_curve(np.linspace(-6, 2.2, 600)).T, color="#AAAAAA", lw=1)
for n, (name, colour, marker) in enumerate(zip(names, (COLOURS[0], COLOURS[1], COLOURS[6]), "os^")):
    axes[0].plot(*chosen[n], marker, color=colour, ms=6, label=name)
    axes[1].plot(grid_z, posterior[:, n], color=colour, label=name, ls=("-", "--", "-.")[n])
axes[0].set(xlabel="$x_1$", ylabel="$x_2$", title="three data cases", aspect="equal")
axes[1].set(xlabel="z", ylabel="p(z|x), per unit of z", title="their posteriors", xlim=(-4.5, 2.5))
axes[0].title.set_fontsize(9)
axes[1].title.set_fontsize(9)
axes[1].legend(frameon=False, fontsize=8)
plt.show()

# %%
def peaks_of(p):
    """How many peaks of a density on the grid are higher than a hundredth of the highest."""
    inner = p[1:-1]
    return int(np.sum((inner > p[:-2]) & (inner > p[2:]) & (inner > 0.01 * p.max())))


print(f"{'':18}{'mean':>8}{'sd':>8}  peaks")
for n, name in enumerate(names):
    mean = h * grid_z @ posterior[:, n]
    sd = np.sqrt(h * (grid_z - mean) ** 2 @ posterior[:, n])
    print(f"{name:18}{mean:8.2f}{sd:8.2f}{peaks_of(posterior[:, n]):5d}")

# %% [markdown]
# One model, one noise, and three kinds of posterior. Far out, equal steps in $z$ are long steps in $x$, so $x$
# tells $z$ sharply. Near the middle they are short, and the posterior is several times as wide. Between two
# arms it has two peaks: two explanations. The mean of $z$ lies between the peaks there, where neither
# explanation is.
#
# That it *must* bend can be proved: $\log p(x, z)$ is a quadratic in $z$ for every $x$ exactly if the decoder
# is $zW + b$ (7.26). A quadratic has third differences of 0. The running example shows it:

# %%
def book_joint(f, x=np.array([2.0, 3.0]), psi=np.array([1.0, 2.0])):
    """log p(x, z) of the running example at z = −1, 0, 1, 2, with f(z) times (1, 2)."""
    z = np.array([-1.0, 0.0, 1.0, 2.0])
    mean = f(z)[:, None] * np.array([1.0, 2.0]) + np.array([0.0, 1.0])
    log_lik = -0.5 * np.sum((x - mean) ** 2 / psi + np.log(2 * np.pi * psi), axis=1)
    return log_lik - 0.5 * (z**2 + np.log(2 * np.pi))


for name, f in [("straight, z", lambda z: z), ("bent, tanh z", np.tanh)]:
    values = book_joint(f)
    print(f"{name:13} log p(x, z) at −1, 0, 1, 2: {values}   third difference {np.diff(values, 3)[0]:z.3f}")

# %% [markdown]
# In two dimensions the posterior of the network can be drawn as well. Grey is the prior; the lines enclose
# half, nine tenths and 99 % of the posterior of one data case, and the cross is the $z$ it was really made
# from.

# %%
def pair_grid(model, theta, x, limit=4.0, points=161):
    """The sides of a grid over the first two latent variables, and log p(x, z) on it, the others at 0."""
    side = np.linspace(-limit, limit, points)
    z = np.zeros((points * points, model.n_latent))
    first, second = np.meshgrid(side, side)
    z[:, 0], z[:, 1] = first.ravel(), second.ravel()
    return side, model.log_joint_of_pairs(theta, x, z)[:, 0].reshape(points, points)


def heights(p, shares=(0.99, 0.9, 0.5)):
    """The heights above which these shares of a density on a grid lie."""
    ordered = np.sort(p.ravel())[::-1]
    return [ordered[np.searchsorted(np.cumsum(ordered) / ordered.sum(), share)] for share in shares]


if K == 1:
    print("K = 1: there is no plane of z to draw; the spiral above is the picture.")
else:
    greys = ["#EEEEEE", "#DDDDDD", "#CCCCCC"]
    fig, axes = plt.subplots(1, 3, figsize=(7, 2.5), sharex=True, sharey=True, layout="constrained")
    for ax, n in zip(axes, np.argsort(np.abs(z[:, 0]))[[0, cases // 3, 9 * cases // 10]]):
        side, log_p = pair_grid(bent, theta_bent, x[n : n + 1])
        p = np.exp(log_p - log_p.max())
        circle = np.exp(-0.5 * (side[:, None] ** 2 + side**2))
        ax.contourf(side, side, circle, levels=[*heights(circle), 1.01], colors=greys)
        ax.contour(side, side, p, levels=np.unique(heights(p)), colors=COLOURS[0], linewidths=1)
        ax.plot(z[n, 0], z[n, 1], "x", color=COLOURS[3], ms=7, mew=2)
        ax.set_title(f"data case {n}", fontsize=9)
        ax.set_xlabel("$z_1$", fontsize=9)
        ax.tick_params(labelsize=7)
    axes[0].set_ylabel("$z_2$", fontsize=9)
    plt.show()
    if K > 2:
        print(f"K = {K}: each picture is a cut, with the latent variables beyond the second at 0.")

# %% [markdown]
# Horns, and a second piece of the plane that explains $x$ too: no mean and covariance describe such a thing.
#
# To find a peak of such a density, or to walk through it, one needs its slope in $z$. By the chain rule through
# the decoder (7.10),
#
# $$
# \frac{\partial \log p(x, z)}{\partial z_k} = \sum_{d=1}^{D} \frac{x_d - f_d(z)}{\psi_d} \thinspace \frac{\partial f_d(z)}{\partial z_k} - z_k .
# $$
#
# The first part pulls $z$ to where the decoder gives $x$, the second, that of the prior, back to 0.
#
# **Exercise 03-3.** Write `slope_in_z(x, z, W1, b1, W2, b2, log_psi)`: the gradient of $\log p(x_n, z_n)$ in
# $z_n$ for the tanh network. Here `x` is (N, D) and `z` (N, K), one point for each data case; return (N, K). It
# is a backward pass: the same lines, one layer at a time, later give the gradient of the bound.

# %% tags=["exercise"]
def slope_in_z(x, z, W1, b1, W2, b2, log_psi):
    """∂ log p(x_n, z_n) / ∂z_n, (N, K)."""
    h = np.tanh(z @ W1 + b1)                                # (N, H)
    f = h @ W2 + b2                                         # (N, D)
    df = ...                                                # ∂ log p(x|f) / ∂f
    dh = ...                                                # ∂ log p(x|f) / ∂h
    dz = ...
    return dz

# %% tags=["check"]
grade.check("03-3", slope_in_z)

# %% [markdown] tags=["hint"]
# Go through the forward lines from the last to the first. Each line has a derivative of its own, and the
# gradient of its input has the shape of its input: `df` (N, D), `dh` (N, H), `dz` (N, K).

# %% [markdown] tags=["hint"]
# $\log p(x \mid f)$ has $-\frac{1}{2} (x_d - f_d)^2 / \psi_d$, with the slope $(x_d - f_d) / \psi_d$ in $f_d$.
# Back through `h @ W2` goes `@ W2.T`. The derivative of $\tanh a$ is $1 - \tanh^2 a$.

# %% [markdown] tags=["hint"]
# `df = (x - f) / np.exp(log_psi)`, then `dh = df @ W2.T`, then `(dh * (1 - h**2)) @ W1.T`. One term is still
# missing: $\log p(z)$ depends on $z$, too.

# %% tags=["solution"]
def slope_in_z(x, z, W1, b1, W2, b2, log_psi):
    """∂ log p(x_n, z_n) / ∂z_n, (N, K)."""
    h = np.tanh(z @ W1 + b1)                                # (N, H)
    f = h @ W2 + b2                                         # (N, D)
    df = (x - f) / np.exp(log_psi)
    dh = df @ W2.T
    dz = (dh * (1 - h**2)) @ W1.T                           # of the likelihood
    return dz - z                                           # and of the prior

# %% [markdown]
# <a id="lecture-marginal"></a>
#
# ## 6. The marginal density is an integral
#
# What the model says of $x$ alone is the joint density with $z$ integrated out,
#
# $$
# p(x \mid \theta) = \int p(x, z \mid \theta) \thinspace dz = \int \mathcal{N}(x; f_w(z), \Psi) \thinspace \mathcal{N}(z; 0, I) \thinspace dz .
# $$
#
# With $f_w(z) = zW + b$ the exponent is a quadratic, one completes the square, and the integral is that of a
# normal density (2.6). A bent decoder has no square to complete (7.26). For the small example with
# $f(z) = \tanh(z) W + b$ one can even prove that no antiderivative exists among the functions one can write
# down (7.27). That alone is no disaster: there are two roads to the *number* that need no formula.
#
# ### A grid
#
# In one dimension the integral is an area. Cut it into strips, one around each point of a grid, and add them up
# (7.3). Here for the point between two arms, with a coarse grid and one with half its mesh.

# %%
fig, axes = plt.subplots(1, 2, figsize=(7, 2.5), sharey=True, layout="constrained")
for ax, points in zip(axes, (25, 49)):
    z_of = np.linspace(-6, 6, points)
    strips = np.exp(log_joint(chosen[2:], z_of)[:, 0])
    width = z_of[1] - z_of[0]
    ax.bar(z_of, strips, width=width, color="#CCCCCC", edgecolor="white", lw=0.5)
    ax.plot(grid_z, np.exp(log_joint(chosen[2:])[:, 0]), color=COLOURS[0], lw=1.2)
    ax.set(xlabel="z", xlim=(-4.5, 1.5), title=f"{points} points: p(x) ≈ {width * strips.sum():.5f}")
    ax.title.set_fontsize(9)
axes[0].set_ylabel("p(x, z), the integrand")
plt.show()
print(f"the area: {h * np.exp(log_joint(chosen[2:])).sum():.5f}")

# %% [markdown]
# *What do you expect:* how many points does it take for six digits of $-\log p(x)$, and does each halving of
# the mesh help by the same factor?

# %%
def by_sum(x, points, limit=6.0):
    """−log p(x_n) by a plain sum over a grid of so many points, (N,), and the grid."""
    z = np.linspace(-limit, limit, points)
    return -logsumexp(log_joint(x, z), axis=0) - np.log(z[1] - z[0]), z


fine = by_sum(chosen, 9601)[0]
print(f"{'points':>8}{'mesh':>9}   error of −log p(x), nats: {',  '.join(names)}")
for points in (13, 25, 49, 97, 193, 385, 769):
    value, z_of = by_sum(chosen, points)
    print(f"{points:8d}{z_of[1] - z_of[0]:9.4f}   " + "".join(f"{e:14.1e}" for e in value - fine))

# %% [markdown]
# Once the mesh is as fine as the posterior is wide, two more halvings take the error from a tenth of a nat to
# nothing: for a smooth function that dies out, a plain sum is astonishingly good. (What is left in the last
# lines comes from the ends of the grid.) With the narrow posterior, "far out", this begins later: until the
# grid meets its peak at all, the error is many nats.
#
# Nothing changes in a plane, but for the number of points. The package's `grid` does this for up to three
# latent variables. It halves the mesh and widens the grid until the value rests, and states how much it still
# moved: a *certificate* (7.4). For the first data cases of the network:

# %%
if K > 3:
    print(f"K = {K}: more than three latent variables are too many for a grid.")
else:
    found = grid.grid(bent, theta_bent, x[:4])
    print("−log p(x):", found.values, "nats")
    print(f"largest certificate: {np.max(found.certificate):.0e} nats")

# %% [markdown]
# The points need not be equally far apart. In general each stands for half the distance to either neighbour:
# the trapezoidal rule. That is what you need where a grid is fine only where it matters.
#
# **Exercise 03-4.** Write `integrate_over_grid(z, log_p)`. Given are points `z` (G,) in rising order, *not*
# equally far apart, and `log_p` (G, N), $\log p(x_n, z_g)$. Return a dict with `"nlml"` (N,), $-\log p(x_n)$ by
# the trapezoidal rule, and `"posterior"` (G, N), the density $p(z_g \mid x_n)$ whose integral over the same
# grid is 1. Some data cases lie so far out that $e^{\log p}$ is 0 in floating point; $-\log p(x)$ is not
# infinite for that.

# %% tags=["exercise"]
def integrate_over_grid(z, log_p):
    """{"nlml": (N,), "posterior": (G, N)} by the trapezoidal rule."""
    ...

# %% tags=["check"]
grade.check("03-4", integrate_over_grid)

# %% [markdown] tags=["hint"]
# An area under straight pieces is $\sum_g w_g \thinspace p_g$ with a width $w_g$ for each point. Which widths
# do an inner point, the first and the last one have?

# %% [markdown] tags=["hint"]
# With `gaps = np.diff(z)` each point has half of the gap to its left and half of that to its right; the first
# and the last have one gap only.

# %% [markdown] tags=["hint"]
# Against the underflow: let $t$ be the largest $\log p$ of a data case. Then
# $\log \sum_g w_g e^{\log p_g} = t + \log \sum_g w_g e^{\log p_g - t}$, and the largest exponential is 1. The
# posterior is $e^{\log p_g - \log p(x)}$.

# %% tags=["solution"]
def integrate_over_grid(z, log_p):
    """{"nlml": (N,), "posterior": (G, N)} by the trapezoidal rule."""
    gaps = np.diff(z)
    w = 0.5 * (np.append(gaps, 0.0) + np.append(0.0, gaps))  # (G,)
    top = log_p.max(axis=0)
    log_p_x = top + np.log(w @ np.exp(log_p - top))
    return {"nlml": -log_p_x, "posterior": np.exp(log_p - log_p_x)}

# %% [markdown]
# ### Draws of the prior
#
# The other road reads the integral as an average: $p(x) = \mathbb{E}_ {p(z)}[p(x \mid z)]$. So draw $S$ times
# from the prior and average the likelihood (7.7),
#
# $$
# \hat{p}(x) = \frac{1}{S} \sum_{s=1}^{S} p(x \mid f_w(z_s)), \qquad z_s \sim \mathcal{N}(0, I) .
# $$
#
# Its expectation is $p(x)$, whatever $S$ is, and its error falls as $1 / \sqrt{S}$ whatever $K$ is. We want
# $-\log \hat{p}$, though.
#
# *What do you expect:* is $-\log \hat{p}$, over many repetitions, too high, too low, or right on average?

# %%
repeats = 1000
print(f"{'draws':>7}   of p: mean of p̂ / p      of nlml: mean of −log p̂, less the truth    its spread")
for draws in (10, 100, 1000):
    z_s = rng.standard_normal((draws * repeats, 1))
    log_lik = model.likelihood.cross(theta["likelihood"], on_curve(z_s), chosen[1:2])[:, 0]
    log_p_hat = logsumexp(log_lik.reshape(draws, repeats), axis=0) - np.log(draws)  # one per repetition
    ratio, off = np.exp(log_p_hat + fine[1]), -log_p_hat - fine[1]
    print(f"{draws:7d}{ratio.mean():22.3f}{off.mean():38.3f} nats{off.std():14.3f}")

# %% [markdown]
# The estimate $\hat{p}$ is right on average at any $S$, but for the scatter of the repetitions, and
# $-\log \hat{p}$ is too high: the logarithm of an average is not the average of the logarithm. The next
# notebook makes a method of exactly this.
#
# **Exercise 03-5.** Write `nlml_by_prior_draws(x, z, f, log_psi)`. Given are data `x` (N, D), draws `z` (S, K)
# of the prior, the decoder's output `f` (S, D) at each of them, and `log_psi` (D,). Return
# $-\log \hat{p}(x_n)$, (N,). All data cases use the same draws. Again some likelihoods are 0 in floating point.
# Ask yourself whether $p(z_s)$ has a place in the average.

# %% tags=["exercise"]
def nlml_by_prior_draws(x, z, f, log_psi):
    """−log of the mean of p(x_n|z_s) over s, (N,)."""
    ...

# %% tags=["check"]
grade.check("03-5", nlml_by_prior_draws)

# %% [markdown] tags=["hint"]
# Two steps: $\log p(x_n \mid z_s)$ for all pairs, (S, N); then the logarithm of a mean over s. For the first,
# give `x` and `f` an axis each: `x[None]` is (1, N, D), `f[:, None]` is (S, 1, D).

# %% [markdown] tags=["hint"]
# The draws come from the prior already: where it is high there are many of them. That *is* its weight.

# %% [markdown] tags=["hint"]
# `logsumexp(log_p, axis=0)` is $\log \sum_s e^{\log p_s}$ without underflow. Of a sum to a mean it lacks
# $-\log S$. And mind the sign in front.

# %% tags=["solution"]
def nlml_by_prior_draws(x, z, f, log_psi):
    """−log of the mean of p(x_n|z_s) over s, (N,)."""
    r = x[None] - f[:, None]                                # (S, N, D)
    log_p = -0.5 * np.sum(r**2 / np.exp(log_psi) + log_psi + np.log(2 * np.pi), axis=2)
    return np.log(len(f)) - logsumexp(log_p, axis=0)

# %% [markdown]
# <a id="lecture-nlml"></a>
#
# ## 7. Learning needs this number for all data, at every step
#
# Maximum likelihood minimises the negative log marginal likelihood of all data (1.3),
#
# $$
# nlml(\mathcal{D}, \theta) = -\sum_{n=1}^{N} \log \left( \int p(x_n, z \mid \theta) \thinspace dz \right) .
# $$
#
# The sum over $n$ is harmless. The trouble is the order of the other two: a logarithm of a product falls apart
# into terms, a logarithm of an integral does not. Each data case has an integral of its own, and each changes
# with every step of $\theta$. So the question is no longer whether *one* integral can be had with patience, but
# what they cost.
#
# ### What the grid costs
#
# A grid with $G$ points on each side has $G^K$ points, and the decoder must be asked at every one of them.

# %%
G = 40                                                    # a coarse grid
per_second = 1e6                                          # passes through a small decoder
print(f"{'K':>4}{'points':>12}   at a million decoder passes a second")
for k in (1, 2, 3, 4, 6, 10, 20):
    seconds = float(G) ** k / per_second
    units = [(1, "seconds"), (3600, "hours"), (86400 * 365.25, "years")]
    size, unit = max((u for u in units if seconds >= u[0]), default=units[0])
    print(f"{k:4d}{float(G) ** k:12.1e}   {seconds / size:.2g} {unit}")

# %% [markdown]
# That is for one evaluation of $nlml$. Learning makes thousands of steps. Up to $K = 3$ a grid is this
# package's referee, the number against which all other roads are tested; beyond, it is out of the question, and
# no faster computer will change that.
#
# ### What draws of the prior cost
#
# They do not ask for $K$, at first sight. Watch them in a family of models that differ in nothing but $K$, and
# whose nlml is known exactly: $K$ copies of a small linear model side by side, each with two visible variables.
# Given the data, each $z_k$ is half as uncertain as before. That is little. With each model we draw data, and
# estimate their nlml from the same number of draws.
#
# *What do you expect* as $K$ grows: does the error grow, and does the standard error that the method states
# tell you?

# %%
def copies(k):
    """The linear running example k times side by side: model, parameters, and data drawn from it."""
    copied = Model(layers.mlp(k, (), 2 * k), likelihoods.Gaussian(2 * k), n_latent=k)
    W, psi = np.kron(np.eye(k), [[1.0, 2.0]]), np.tile([1.0, 2.0], k)
    own = {"decoder": [{"W": W, "b": np.zeros(2 * k)}], "likelihood": {"log_psi": np.log(psi)}}
    draw = np.random.default_rng([seed, k])
    z_true, epsilon = draw.standard_normal((cases, k)), draw.standard_normal((cases, 2 * k))
    return copied, own, z_true @ W + np.sqrt(psi) * epsilon


estimates = {}
print(f"{S} draws of the prior, medians over {cases} data cases")
print(f"{'K':>4}{'draws that count':>18}{'too high by':>14}{'naive std. error':>18}"
      f"{'error stated for':>18}")
for k in dimensions:
    copied, own, data = copies(k)
    truth = nlml.exact(copied, own, data).values
    z_s = np.random.default_rng([seed, k, 1]).standard_normal((S, k))
    log_lik = copied.likelihood.cross(own["likelihood"], copied.f(own, z_s)[0], data)  # (S, N)
    share = np.exp(log_lik - logsumexp(log_lik, axis=0))    # of the sum, by each draw
    naive = np.sqrt(np.maximum(np.sum(share**2, axis=0) - 1 / S, 0.0))
    found = nlml.prior(copied, own, data, np.random.default_rng([seed, k, 1]), n_samples=S)
    estimates[k] = np.sort(share, axis=0)[::-1]
    off, size = found.values - truth, found.effective_sample_size
    print(f"{k:4d}{np.median(size):18.1f}{np.median(off):9.3f} nats{np.median(naive):18.2f}"
          f"{100 * np.isfinite(found.standard_error).mean():16.0f} %")

# %%
fig, ax = plt.subplots(figsize=(6, 3.2), layout="constrained")
for i, (k, share) in enumerate(estimates.items()):
    typical = np.median(share, axis=1)
    ax.plot(np.arange(1, S + 1), 100 * np.cumsum(typical) / np.sum(typical),
            color=COLOURS[(0, 1, 4, 3, 6)[i % 5]], ls=("-", "--", "-.", ":", "-")[i % 5], label=f"K = {k}")
ax.set(xscale="log", ylim=(0, 103), xlabel=f"the best draws, of {S}",
       ylabel="% of the estimate, median case")
ax.legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# In one dimension hundreds of draws share the work. In sixteen the best one or two carry the whole estimate,
# and it is several nats too high for the median case. Watch such an estimate while it is made: one data case of
# the largest model, five runs, each with more and more draws.

# %%
k = max(dimensions)
copied, own, data = copies(k)
truth = nlml.exact(copied, own, data[:1]).values[0]
fig, ax = plt.subplots(figsize=(6, 3), layout="constrained")
for run, colour in enumerate((COLOURS[0], COLOURS[1], COLOURS[4], COLOURS[3], COLOURS[5])):
    z_s = np.random.default_rng([seed, run]).standard_normal((20 * S, k))
    log_lik = copied.likelihood.cross(own["likelihood"], copied.f(own, z_s)[0], data[:1])[:, 0]
    draws = np.arange(1, len(log_lik) + 1)
    ax.plot(draws, np.log(draws) - np.logaddexp.accumulate(log_lik), color=colour, lw=1.2)
ax.axhline(truth, color=COLOURS[6], ls="--", label=f"−log p(x) = {truth:.1f}")
ax.set(xscale="log", xlabel="draws so far", ylabel="−log p̂(x), nats", ylim=(truth - 4, truth + 20),
       title=f"K = {k}, five runs")
ax.title.set_fontsize(9)
ax.legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# A run creeps up for a long while, by the logarithm of the number of draws. Then one draw falls nearer to the
# posterior than all before, and the estimate drops. Nothing in a run tells whether another drop is to come.
# With twenty times the draws of the table the five begin to agree, in this model; with each further latent
# variable it takes about twice as many.
#
# The reason is geometry. A draw counts if it falls into the posterior. Here that is half as wide as the prior
# in each direction, so the chance falls by about a constant factor with each further dimension, and so does
# what $S$ draws are worth: $S / \rho^K$, with $\rho \approx 2.3$ in this family (7.28). To keep the error where
# it is, $S$ must grow as $\rho^K$: the grid's curse in another coat. With posteriors a tenth as wide as the
# prior, $\rho$ is about 12 for a typical data case.
#
# The column "naive std. error" is the worse news. It is computed from the same few draws, and it can never
# exceed 1, however wrong the value is: where one draw carries all, the spread among those that count is
# unknown. The package counts how many draws carry the estimate (7.6), states no error where they are too few
# (7.15), and warns. On digits, with posteriors much sharper than in our family:

# %%
digits = datasets.digits()
fa = FactorAnalysis(10, random_state=seed).fit(digits.x[:cases])
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    estimate = fa.nlml(digits.x[:20], method="prior", n_samples=S, random_state=seed)
truth = fa.nlml(digits.x[:20]).values
for warning in caught:
    print(f"{warning.category.__name__}: {warning.message}\n")
off = np.mean(estimate.values - truth)
print(f"20 digits, K = {fa.n_components}: too high by {off:.0f} nats on average, "
      f"{np.median(estimate.effective_sample_size):.1f} draws count")

# %% [markdown]
# Each of these values is made of little more than one draw, and not one of them can be trusted.
#
# ### Where we stand
#
# | | cost | works |
# |---|---|---|
# | complete the square (2.6) | nothing | straight decoders with Gaussian noise only |
# | grid (7.3) | $G^K$ points | any decoder, up to about three latent variables |
# | draws of the prior (7.7) | $\rho^K$ draws | any decoder, where $x$ says little of $z$ |
#
# What learning needs is a number that is cheap for any $K$, that has a gradient in $\theta$, and that errs on
# the safe side if it errs. Better draws, from where the posterior is, are one part of it (7.1). The other is to
# give up the integral for a bound on it.
#
# **Exercise 03-6.** Which road works where? Fill in the dict `road` with one of the words `"closed form"`,
# `"grid"`, `"prior draws"`, `"none"` for each model: a straight decoder with Gaussian noise and 20 latent
# variables; a bent one with 2; a bent one with 20 whose posteriors are nearly as wide as the prior ("vague"); a
# bent one with 20 whose posteriors are a tenth as wide ("sharp"). Name the best of the roads that work.

# %% tags=["exercise"]
road = {
    "straight 20-d": ...,
    "bent 2-d": ...,
    "bent 20-d vague": ...,
    "bent 20-d sharp": ...,
}

# %% tags=["check"]
grade.check("03-6", road)

# %% [markdown] tags=["hint"]
# Each of the four words is needed once.

# %% [markdown] tags=["hint"]
# How many points has a grid with 40 on each side, in 2 and in 20 dimensions? How often does a draw of the prior
# fall into a posterior that is nearly the prior?

# %% [markdown] tags=["hint"]
# A straight decoder is factor analysis: every $K$ has a closed form. And a tenth of the width in 20 directions
# is a share of about $10^{-20}$ of the volume.

# %% tags=["solution"]
road = {
    "straight 20-d": "closed form",
    "bent 2-d": "grid",
    "bent 20-d vague": "prior draws",
    "bent 20-d sharp": "none",
}

# %% [markdown]
# ## To try
#
# 1. Make the noise of the spiral larger, `noise = 0.1`, and predict what becomes of the three posteriors before
#    you run the cell.
# 2. Set `S = 100000`. Up to which $K$ do the draws of the prior hold now, and does that fit $S / \rho^K$?
# 3. In section 6 the error of a grid falls faster than any power of the mesh. Replace the Gaussian noise by one
#    with a kink, or the decoder by one with ReLU units, and look again.
#
# Next: [04, Jensen and the bound](04-jensen-and-the-bound.ipynb). Before:
# [02, factor analysis by EM](02-factor-analysis-by-em.ipynb). [00, start here](00-start-here.ipynb) has the map
# of the course.
