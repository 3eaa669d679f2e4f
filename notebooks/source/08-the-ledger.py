# %% [markdown]
# # 08 · The ledger
#
# The course has three methods and one bound. Here they meet. First on data for which all three can be exact:
# then they must end on one number. Then on digits, where they cannot: there the question is how many nats
# each of them loses, and where. A *ledger* accounts for every nat between NLML and $Q$, each entry measured
# on its own, and checked on a second road. At the end we ask what to do when NLML cannot be had at all.
#
# A number in parentheses leads to its card, with derivation and proof, in
# [derivations/equations.md](../derivations/equations.md). First the settings. Change them and run all cells
# again; what the words say of results, they say of these.

# %%
K = 2             # latent variables; beyond 2 there is no plane to sum over, and estimates take its place
hidden = (32,)    # widths of the decoder's hidden layers, and of the network's
epochs = 400      # of the VAEs
cases = 400       # digits to train on
few = 20          # of each part of the data, on which the ledger is kept
S = 1000          # draws of importance sampling
seed = 0

# %%
import warnings

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import multivariate_normal

from teachvae import VAE, FactorAnalysis, VariationalEM, ais, bound, datasets, grade, infer, iwae, nlml
from teachvae import optimizers, plots, posteriors, tree
from teachvae.arrays.backend import get_backend
from teachvae.posteriors import FullGaussian
from teachvae.routes.vae import recognition_network

plt.rcParams["figure.dpi"] = 120
plt.switch_backend(plt.get_backend())            # from here on a figure as the last line of a cell is shown
np.set_printoptions(precision=4, suppress=True)
warnings.filterwarnings("ignore", message="training ended after")  # before Q came to rest, as the text says

# %% [markdown]
# ## 1. Three routes, one number
#
# There is one model, $p(z) = \mathcal{N}(0, I)$ and $p(x|z)$ given by a decoder, and one bound. The three
# methods differ in one thing only, **who fills in the table of** $\phi_n$:
#
# | | $\phi_n$ comes from | and $\theta$ from |
# |---|---|---|
# | factor analysis by EM | a closed form (2.3) | a regression, the M-step (2.11) |
# | variational EM | a table, a row per data case, improved by E-steps | M-steps under that table |
# | the VAE | a recognition network, $\phi_n = g_v(x_n)$ | the same gradient steps as $v$ |
#
# With a linear decoder the posterior is Gaussian, and each of them can be exact. If they are right, all
# three must end on the same number: not nearly the same, but to many digits. **What do you expect** of their
# loadings $W$, will they agree as well?

# %%
data = datasets.linear_gaussian(n_cases=500, n_visible=10, n_latent=3, seed=seed).x
routes = {"factor analysis": FactorAnalysis(3, random_state=seed).fit(data)}
routes["variational EM"] = VariationalEM(3, hidden=(), random_state=seed).fit(data)
routes["VAE"] = VAE(3, hidden=(), optimizer="lbfgs", nodes="sigma", random_state=seed).fit(data)

print(f"{'':18}{'rounds':>8}{'mean Q':>14}{'mean NLML':>14}{'largest gap of a case':>24}")
for title, route in routes.items():
    Q, value = route.bound(data), route.nlml(data).values
    print(f"{title:18}{route.n_iter_:8}{Q.mean():14.7f}{value.mean():14.7f}{(Q - value).max():24.1e}")

# %%
paths = {
    "factor analysis: NLML": (routes["factor analysis"].nlml_path_, "-", "#0072B2"),
    "variational EM: Q": (routes["variational EM"].q_path_, "--", "#E69F00"),
    "VAE: Q": (routes["VAE"].q_path_, ":", "#000000"),
}
least = min(path.min() for path, _, _ in paths.values())
fig, ax = plt.subplots(figsize=(7, 3.4))
for title, (path, style, colour) in paths.items():
    ax.plot(np.arange(1, len(path) + 1), np.maximum(path - least, 1e-9), style, label=title, color=colour)
ax.set(xscale="log", yscale="log", ylim=(1e-9, 1e2))
ax.set(xlabel="iteration", ylabel="nats per data case\nabove the optimum")
ax.legend(frameon=False)
ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# Three routes, and one number. The first two curves lie on each other, and that is no accident: with a linear
# decoder the E-step finds the posterior itself, so that variational EM takes the steps of EM. The VAE, which
# has no E-step at all, comes by quite another way. There is a fourth road to the number, which uses no bound
# and no $q$: the marginal of a linear-Gaussian model is a Gaussian with covariance $W^\top W + \Psi$ (2.1), and
# SciPy knows its density.

# %%
fa = routes["factor analysis"]
dense = -multivariate_normal(fa.mean_, fa.get_covariance()).logpdf(data)
off = abs(dense - fa.nlml(data).values).max()
print(f"SciPy: {dense.mean():.7f}, largest difference of a case {off:.1e}")


def loadings(route):
    return route.theta_["decoder"][0]["W"]


def covariance(route):
    return loadings(route).T @ loadings(route) + np.diag(route.noise_variance_)


for title in ("variational EM", "VAE"):
    of_W = abs(loadings(routes[title]) - loadings(fa)).max()
    of_all = abs(covariance(routes[title]) - covariance(fa)).max() / abs(covariance(fa)).max()
    print(f"{title:15} loadings differ from those of EM by up to {of_W:.2f}, "
          f"WᵀW + Ψ by {of_all:.0e} of its size")

# %% [markdown]
# The loadings need not agree: a rotation of $z$, or a change of sign, leaves $p(x)$ as it is (2.35). Whoever
# compares $W$ of two fits finds a difference that means nothing. What is determined is $W^\top W$ and
# $\Psi$. (They agree to fewer digits than the NLML, because at its minimum the NLML is flat: an error
# $\epsilon$ in the parameters costs about $\epsilon^2$ nats.)

# %% [markdown]
# <a id="lecture-compare-the-methods"></a>
#
# ## 2. The three methods on one table
#
# Now digits, and a decoder that bends. No method is exact any more. All three see the same training digits,
# and have as many latent variables; variational EM and the VAE have the same decoder. The pixels were made
# continuous by noise within each grey level, so that a density is a sensible model of them; NLML may be
# negative then, because a density may be larger than one. (Training ends while $Q$ of the VAE still falls a
# little: the warning that says so is switched off above.)

# %%
train, held_out = datasets.split(datasets.digits())
x, y = train.x[:cases], train.labels[:cases]
seen, new = x[:few], held_out.x[:few]

methods = {"factor analysis": FactorAnalysis(K, random_state=seed).fit(x)}
options = dict(hidden=hidden, epochs=epochs, learning_rate=1e-2, random_state=seed)
methods["VAE"] = vae = VAE(K, **options).fit(x)
print("factor analysis and the VAE are trained")
methods["variational EM"] = VariationalEM(K, hidden=hidden, epochs=60, random_state=seed).fit(x)
print("so is variational EM")

# %% [markdown]
# What $Q_n$ misses is one Kullback–Leibler divergence (1.6),
#
# $$
# Q_n(\phi_n) = nlml_n + \mathrm{KL}(q(z|\phi_n) \parallel p(z|x_n)),
# $$
#
# and it can be large for two reasons. The family of $q$ may not hold anything close to the posterior: the
# *approximation gap*. Or it does, and another member was named: the *amortisation gap*. The first has two
# parts again, since a diagonal Gaussian can miss by its shape and by its axes. With $q^{\mathrm{full}}$ the
# best Gaussian and $q^{\mathrm{opt}}$ the best diagonal one, the ledger is (10.1)
#
# $$
# Q_n = nlml_n +
# \underbrace{Q_n(q^{\mathrm{full}}) - nlml_n}_ {\text{not Gaussian}} +
# \underbrace{Q_n(q^{\mathrm{opt}}) - Q_n(q^{\mathrm{full}})}_ {\text{diagonal}} +
# \underbrace{Q_n(\phi_n) - Q_n(q^{\mathrm{opt}})}_ {\text{amortisation}}
# $$
#
# What is added is taken away again, so the sum is an identity. What makes it a ledger is that no share can
# be negative: the first by Jensen's inequality, the second because a diagonal Gaussian is a Gaussian, the
# third because $\phi_n$ names a member of the family.
#
# `gaps` measures each term on its own: NLML by a sum over a grid (7.3), each $Q_n$ by Gauss–Hermite
# quadrature (10.5), the best $q$ by a search from many starts. For factor analysis all of them are closed
# forms. Nothing is clipped at zero: a share below zero by more than its error would be a mistake, and must
# be seen.

# %%
ledgers = {}
for title, model in methods.items():
    for part, images in {"training": seen, "held out": new}.items():
        table = model.phi_[:few] if title == "variational EM" and part == "training" else None
        ledgers[title, part] = model.gaps(images, phi=table, random_state=seed)
        print(f"{title}, {part}: measured, NLML by method {ledgers[title, part].method!r}")

print(f"\n{'':26}{'NLML':>9} +{'not Gaussian':>14} +{'diagonal':>10} +{'amortisation':>14} ={'Q':>10}")
for (title, part), g in ledgers.items():
    print(f"{title + ', ' + part:26}{g.nlml.mean():9.3f}  {g.not_gaussian.mean():z14.3f}  "
          f"{g.diagonal.mean():z10.3f}  {g.amortisation.mean():z14.3f}  {g.q_used.mean():10.3f}")
least = min(share.min() for g in ledgers.values() for share in g.shares.values())
print(f"\nmean nats per data case; the smallest share of any case is {least:.0e}")

# %%
plots.ledger_bars([
    (f"{title}, {part}", {name: values.mean() for name, values in g.shares.items()})
    for (title, part), g in ledgers.items()
])

# %% [markdown]
# Read the table row by row.
#
# - **Factor analysis** has no gap at all: its posterior is Gaussian, and known. Its NLML is the worst. Exact
#   inference in a poor model is still a poor model.
# - **Variational EM** has a much better model, and hardly any amortisation gap: each row of its table was
#   optimised. For held-out digits it runs new E-steps. What is left is the price of the family, mean field.
# - **The VAE** has a model that is about as good, and on training digits its network names good $q$. On
#   held-out digits the share "amortisation" is several times as large. Nobody else pays this share.
#
# So "which method is best?" has no answer of one word. By $Q$ on new data variational EM wins here; by the
# work for a new case the VAE does, by a factor of a thousand; and if that share is paid back by a few
# E-steps for each new case (section 5), it is no loss any more.

# %% [markdown]
# **Exercise 08-1.** Write the shares of the ledger. Given for N data cases `nlml`, `q_full` (the least $Q_n$
# over all Gaussians), `q_optimal` (the least over diagonal ones) and `q_used`, each (N,), return the three
# shares not Gaussian, diagonal and amortisation, in this order, each (N,). The signs are what matters: in
# print one finds the amortisation gap with the wrong one.

# %% tags=["exercise"]
def shares_of_gap(nlml, q_full, q_optimal, q_used):
    """What no Gaussian q saves, what a full covariance saves, what the best φ saves: three arrays (N,)."""
    return ..., ..., ...


# %% tags=["check"]
grade.check("08-1", shares_of_gap)

# %% [markdown] tags=["hint"]
# The four numbers rise from left to right. The shares are the three steps between them.

# %% [markdown] tags=["hint"]
# None of them can be negative. That decides which of two neighbours comes second.

# %% [markdown] tags=["hint"]
# The first step is `q_full - nlml`; the other two go on from `q_full` to `q_optimal` to `q_used`.

# %% tags=["solution"]
def shares_of_gap(nlml, q_full, q_optimal, q_used):
    return q_full - nlml, q_optimal - q_full, q_used - q_optimal


# %% [markdown]
# ## 3. Which gap is whose?
#
# $Q$ of held-out digits is not that of training digits, and $Q$ alone cannot say why. The ledger can, because
# the rise of a sum is the sum of the rises (12.2):

# %%
def rises(title):
    """How much higher each share is on held-out digits, and their sum."""
    a, b = ledgers[title, "training"], ledgers[title, "held out"]
    parts = {"the model, NLML": "nlml", "the family of q": "approximation", "the network": "amortisation"}
    return {name: getattr(b, field).mean() - getattr(a, field).mean() for name, field in parts.items()}


for title in methods:
    print(f"{title:16}", "   ".join(f"{name} {value:+8.3f}" for name, value in rises(title).items()),
          f"   sum {sum(rises(title).values()):+8.3f}")

# %% [markdown]
# (These are means of only a few cases of each kind, and some digits are harder than others, whichever set
# they are in: the model's share may even be negative. The network's share is of another size.)
#
# A mean hides how a share is spread over the cases. The axis below is logarithmic.

# %%
g_seen, g_new = ledgers["VAE", "training"], ledgers["VAE", "held out"]
plots.gap_histograms([
    ("approximation gap", {"training": g_seen.approximation, "held out": g_new.approximation}),
    ("amortisation gap", {"training": g_seen.amortisation, "held out": g_new.amortisation}),
])

# %% [markdown]
# Left, both parts of the data have much the same histogram: what the family of $q$ costs does not depend on
# whether the network has seen a case. Right, the held-out cases are shifted, and they have a tail: for a few
# the network is badly wrong, and they pull the mean far above the median.
#
# **Per class.** Are some digits harder than others? We keep the ledger for some more held-out digits, sorted
# by what they are.

# %%
many, classes = held_out.x[: 4 * few], held_out.labels[: 4 * few]
g_many = vae.gaps(many, random_state=seed)
print("digit   cases     NLML   approximation   amortisation")
for c in np.unique(classes):
    of = classes == c
    print(f"{c:5}{of.sum():8}{g_many.nlml[of].mean():9.1f}{g_many.approximation[of].mean():z16.2f}"
          f"{g_many.amortisation[of].mean():15.2f}")

# %% [markdown]
# Classes differ by tens of nats in NLML, and the network's share goes its own way: a digit may be easy for
# the model and hard for its network. A mean over all classes tells you neither.
#
# **Against the encoder's size.** Would a larger network help? So that nothing else changes we keep the VAE's
# $\theta$ as it is, and train new networks alone, going down $Q$ in $v$ only (1.18). This is what an E-step
# does, but for all cases at once and by one function. The network has no hidden layer, or one of growing
# width. **What do you expect** on training digits, and what on held-out ones?

# %%
def train_alone(network, n_steps=1500, batch=64):
    """Parameters v of a recognition network for the VAE's θ, by steps of Adam on Q."""
    rng, adam = np.random.default_rng(seed), optimizers.Adam(5e-3)
    flat, v = tree.pack(network.init(rng, get_backend()))          # v are views of the vector flat
    state = adam.init(flat)
    for _ in range(n_steps):
        images = x[rng.choice(len(x), batch)]
        phi, cache = network.forward(v, images)
        eta = rng.standard_normal((1, batch, K))
        _, bound_cache = bound.forward(vae.model_, vae.theta_, phi, images, eta)
        dQ = np.full(batch, 1 / batch)                             # of the mean
        dphi, _ = bound.backward(vae.model_, vae.theta_, bound_cache, dQ, need_dtheta=False)
        _, dv = network.backward(v, cache, dphi, need_dx=False)
        adam.step(flat, tree.pack(dv)[0], state)
    return v


sizes = {"linear": (), "8 units": (8,), "32 units": (32,), "128 units": (128,)}
against = {"training": [], "held out": []}
for title, widths in sizes.items():
    network = recognition_network(64, widths, posteriors.DiagonalGaussian(K))
    v = train_alone(network)
    for part, images, g in (("training", seen, g_seen), ("held out", new, g_new)):
        gap = vae.bound(images, phi=network.forward(v, images)[0]) - g.q_optimal
        against[part].append(gap.mean())
    print(f"{title:10} {tree.size(v):6} numbers; amortisation gap: training {against['training'][-1]:6.2f}, "
          f"held out {against['held out'][-1]:6.2f}")

# %%
fig, ax = plt.subplots(figsize=(6.5, 3.2))
for (part, values), colour, marker in zip(against.items(), ("#0072B2", "#D55E00"), "os"):
    ax.plot(range(len(sizes)), values, marker + "-", color=colour, label=part)
ax.set_xticks(range(len(sizes)), sizes)
ax.set(xlabel="the encoder's hidden layer", ylabel="amortisation gap,\nmean nats per data case")
ax.set_ylim(bottom=0)
ax.legend(frameon=False)
ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# On training digits a network that is large enough closes most of the gap. On held-out digits size helps
# less, and the gap stays a few times as large: what is missing there is not width but data. This is
# over-fitting of the plain kind, but of the *inference*. It has the plain cures: more data, and stopping
# earlier. And it has one cure more, E-steps for the new cases.

# %% [markdown]
# **Exercise 08-2.** Who is to blame? `train` (N, 4) and `new` (S, 4) have a row for each data case, with the
# columns $nlml$, $Q(q^{\mathrm{full}})$, $Q(q^{\mathrm{opt}})$ and $Q$ in use. Return three numbers (12.2):
# by how much the mean rises from training cases to new ones for the model, for the family (the whole
# approximation gap), and for the network. They sum to the rise of the mean $Q$.

# %% tags=["exercise"]
def rise_of_q(train, new):
    """(model, family, network): three numbers, in nats per data case."""
    return ..., ..., ...


# %% tags=["check"]
grade.check("08-2", rise_of_q)

# %% [markdown] tags=["hint"]
# There are N rows of one kind and S of the other. What can be compared are means.

# %% [markdown] tags=["hint"]
# The means of the columns are `t = train.mean(axis=0)` and `u = new.mean(axis=0)`. The model's part is
# `u[0] - t[0]`.

# %% [markdown] tags=["hint"]
# The approximation gap is column 2 less column 0; the amortisation gap is column 3 less column 2. Of each
# take the new mean less the training mean.

# %% tags=["solution"]
def rise_of_q(train, new):
    t, u = train.mean(axis=0), new.mean(axis=0)
    return u[0] - t[0], (u[2] - u[0]) - (t[2] - t[0]), (u[3] - u[2]) - (t[3] - t[2])


# %% [markdown]
# ## 4. The certificate
#
# Why should one believe the ledger? Because it can be audited. Equation (1.6) says that $Q_n - nlml_n$ is a
# divergence, and `kl_to_posterior` computes that divergence without $Q$ and without the grid: it sums
# $\log q - \log p(z|x_n)$ over a lattice around $q_n$, and normalises the posterior by a sum of its own over
# another lattice (10.7).

# %%
for part, images in {"training": seen[:10], "held out": new[:10]}.items():
    if K > 2:
        print(f"{part}: with K = {K} both sides are estimates, and would agree within their errors only")
        continue
    g = ledgers["VAE", part]
    kl, difference = vae.kl_to_posterior(images), (g.q_used - g.nlml)[:10]
    print(f"VAE, {part:9}: mean KL {kl.mean():.6f}, mean Q − NLML {difference.mean():.6f}, "
          f"largest disagreement of a case {np.abs(kl - difference).max():.0e} nats")
of_fa = methods["factor analysis"].kl_to_posterior(new)
print(f"factor analysis: largest KL {abs(of_fa).max():.0e}, by the closed form (10.6)")

# %% [markdown]
# A certificate of this kind finds mistakes that a gradient check cannot. If $\exp(\log\sigma^2)$ is taken
# for a standard deviation in the sample and for a variance in the KL, which has been published more than
# once, then the gradients still belong to the value. The value is no bound any more, and the two columns
# above part.
#
# With two latent variables the posterior is a picture. We take the held-out digits with the least, the
# median and the largest gap, and draw the three Gaussians of the ledger over the posterior. Grey are the
# regions that hold 50, 90 and 99 % of it, and each ellipse holds 90 % of its $q$.

# %%
def panel(word, n):
    image = new[n : n + 1]
    family, full = vae.model_.posterior, FullGaussian(2)
    gaussians = {
        "q in use": (family, vae.encode(image)),
        "best diagonal q": (family, g_new.phi_optimal[n : n + 1]),
        "best Gaussian q": (full, g_new.phi_full[n : n + 1]),
    }
    gaussians = {label: (q.mean(phi)[0], q.covariance(phi)[0]) for label, (q, phi) in gaussians.items()}
    title = f"{word}, a {held_out.labels[n]}: {g_new.approximation[n]:.2f} + {g_new.amortisation[n]:.2f} nats"
    return plots.posterior_panel(title, vae.model_, vae.theta_, image, gaussians)


order = np.argsort(g_new.q_used - g_new.nlml)
places = {"least": order[0], "median": order[len(order) // 2], "largest": order[-1]}
picture = None
if K == 2:
    picture = plots.posterior_panels([("VAE", [panel(word, n) for word, n in places.items()])])
    picture.set_size_inches(7, 2.7)
else:
    print(f"A picture takes K = 2, and here K = {K}.")
picture

# %% [markdown]
# Above each panel stand the approximation gap and the amortisation gap. The best diagonal and the best full
# Gaussian lie on the posterior, where a Gaussian can. In the median and the worst case the network's $q$ is
# hardly wider than theirs, and beside it: it is sure of itself where it is wrong. As all are narrow, a
# miss that is small on the scale of the prior costs many nats.

# %% [markdown]
# ## 5. Pay the amortisation gap back
#
# If only $\phi_n$ is at fault, it can be improved case by case, with the model left as it is.
# *Semi-amortised* inference (Kim et al. 2018) takes what the network says as a start, and does $k$ E-steps from there.
# `refine` does that by quasi-Newton steps (6.3).

# %%
steps, mean_Q = (0, 1, 2, 5, 10, 20), []
_, (eta, weights) = infer.coarse_and_fine(vae.model_.posterior, 64 + 4 * K, new)   # that refine works with


def on_nodes(phi):
    """Q (N,) on the nodes of the E-steps, which are few."""
    return bound.forward(vae.model_, vae.theta_, phi, new, eta, weights=weights)[0]


start, start_on_nodes = vae.bound(new), on_nodes(vae.encode(new))
heads = f"{'largest rise of a Q_n':>24}{'on its nodes':>14}{'not settled':>13}"
print(f"{'':10}{'mean Q':>10}{'to pay':>9}{heads}")
for k in steps:
    phi = vae.refine(new, n_steps=k)
    with warnings.catch_warnings(record=True) as caught:             # a QuadratureWarning names the cases
        warnings.simplefilter("always")
        Q = vae.bound(new, phi=phi)
    mean_Q.append(Q.mean())
    unsettled = sum(len(getattr(warning.message, "places", ())) for warning in caught)
    rise, rise_on_nodes = (max(0, v.max()) for v in (Q - start, on_nodes(phi) - start_on_nodes))
    print(f"{k:2} E-steps{Q.mean():10.3f}{(Q - g_new.q_optimal).mean():9.3f}{rise:24.6f}{rise_on_nodes:14.6f}"
          f"{unsettled:13}")
stuck = Q - g_new.q_optimal > 0.1
print(f"after {steps[-1]} steps {stuck.sum()} of {few} cases are more than 0.1 nats above their best q")

# %%
fig, ax = plt.subplots(figsize=(6.5, 3.2))
ax.plot(range(len(steps)), mean_Q, "o-", color="#D55E00", label="Q after k E-steps from the network's φ")
ax.axhline(g_new.q_optimal.mean(), color="#0072B2", lw=1.2, label="Q at the best diagonal q")
ax.axhline(g_new.nlml.mean(), color="#000000", lw=1.2, ls="--", label="NLML")
ax.set_xticks(range(len(steps)), steps)
ax.set(xlabel="E-steps k", ylabel="mean nats per held-out case")
ax.legend(frameon=False)
ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# The first few steps pay most of the debt. If the line ends above the blue one, that is because for a few
# cases $Q_n$ has several minima, the network's start leads into a worse one, and more steps do not help.
# This is why the search inside `gaps` starts from many points.
#
# Two columns are worth a second look. On the nodes that the steps work with, no step raises any $Q_n$: that
# column is zero by construction. With few nodes a step may still raise the true $Q_n$, because a few nodes see
# only a part of a wide $q$. "No step raises the bound" is a statement about the bound that was computed. And
# where a step leaves a $q$ so wide that the finest rules of quadrature still differ, `bound` warns and says
# for which cases; the last column counts them.

# %% [markdown]
# ## 6. What is the NLML when there is no grid?
#
# A grid needs about $100^K$ points. For large $K$ the integral $\int p(x_n, z)\thinspace dz$ has to be
# estimated, and each way of doing so has its own way to fail. On some held-out digits we hold them against
# the grid (for $K \gt 2$ against importance sampling from the best Gaussian $q$, the best that we have
# there).
#
# | road | idea | |
# |---|---|---|
# | prior | mean of $p(x_n \mid z_s)$ over $z_s \sim p(z)$ | (7.7) |
# | importance | mean of $\omega_{ns} = p(x_n, z_s) / q(z_s \mid \phi_n)$, $z_s \sim q(z \mid \phi_n)$ | (7.1) |
# | Laplace | a Gaussian around the mode of $p(x_n, z)$ | (7.9) |
# | AIS | from the prior to the posterior in many small steps | (7.11) |
#
# Why does importance sampling work? Because the mean of the weights is the integral, whatever $q$ is:
#
# $$
# \mathbb{E}_ q[\omega_n] = \int q(z|\phi_n) \frac{p(x_n, z)}{q(z|\phi_n)}\thinspace dz = p(x_n)
# \qquad \text{and so} \qquad nlml_n \approx -\log \frac{1}{S} \sum_{s=1}^S \omega_{ns}.
# $$
#
# Note the order: *first* the mean, *then* the logarithm. The mean of $-\log \omega$ is an estimate of $Q_n$:
# the same weights, another number, and Jensen's inequality says which is larger. How far the estimate can be
# trusted is told by its standard error, which is that of a logarithm (7.2), and by the effective sample
# size, which says how many equal weights the unequal ones are worth. The two are one statement (7.6):
#
# $$
# S^{\mathrm{eff}}_ n = \frac{\left(\sum_s \omega_{ns}\right)^2}{\sum_s \omega_{ns}^2}, \qquad
# \mathrm{se}_ n^2 = \frac{S / S^{\mathrm{eff}}_ n - 1}{S - 1} \leq 1
# $$

# %%
eight, truth = new[:8], g_new.nlml[:8]                             # by the grid where K ≤ 2
best = g_new.phi_optimal[:8]
warnings.simplefilter("ignore", nlml.FewDrawsWarning)              # its cases are counted in the table
roads = {
    "prior, 10 000 draws": lambda: vae.nlml(eight, "prior"),
    "importance, network's q": lambda: vae.nlml(eight, "importance", S, phi=vae.encode(eight)),
    "importance, best q": lambda: vae.nlml(eight, "importance", S, phi=best),
    "Laplace": lambda: vae.nlml(eight, "laplace"),
    "AIS, 8 chains": lambda: vae.nlml(eight, "ais", n_chains=8),
}
print(f"{'':25}{'mean':>9}{'largest':>10}{'mean stated':>13}{'none':>8}{'median':>9}")
print(f"{'':25}{'error':>9}{'error':>10}{'std error':>13}{'stated':>8}{'S_eff':>9}")
for title, road in roads.items():
    r = road()
    error = r.values - truth
    line = f"{title:25}{error.mean():9.3f}{np.abs(error).max():10.3f}"
    if r.standard_error is None:
        print(line + f"{'–':>13}{len(eight):8}{'–':>9}")
    else:
        stated = np.isfinite(r.standard_error)
        mean = f"{r.standard_error[stated].mean():.3f}" if stated.any() else "–"
        print(line + f"{mean:>13}{(~stated).sum():8}{np.median(r.effective_sample_size):9.1f}")

# %% [markdown]
# - **The prior** asks no encoder, so it cannot be misled by one. In two dimensions 10 000 draws are not
#   hopeless. But where the posterior is small the mean hangs on the single best draw, and the number of
#   draws needed grows exponentially in $K$ (7.28).
# - **Importance sampling from the network's $q$** is only as good as the network. A $q$ that is too narrow
#   and in the wrong place never draws where the mass is, and *the standard error does not notice*: it is
#   computed from the weights that were met, and by (7.6) it cannot exceed one nat, however wrong the value
#   is. So where a few draws carry the value none is stated (7.15).
# - **The same sampler from the best $q$** is excellent. What failed was not importance sampling, but the
#   network.
# - **Laplace** is cheap, and good where the posterior is close to a Gaussian around one mode. It is no bound
#   and has no known error, so without the grid we would not know.
# - **Annealed importance sampling** needs no $q$ and finds its own way. Its price is work. With few chains
#   the value tends to be too high, since $-\log$ of a noisy mean is.
#
# The importance-weighted bound (7.8) lies between $Q$ and NLML, and shows how slowly a bad $q$ is repaired
# by more samples:
#
# $$
# L_k = -\mathbb{E}\left[\log \frac{1}{k} \sum_{s=1}^{k} \omega_{ns}\right],
# \qquad L_1 = Q_n, \qquad nlml_n \leq L_{k+1} \leq L_k
# $$

# %%
ks = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
fig, ax = plt.subplots(figsize=(6.5, 3.2))
for label, phi, colour, marker in [
    ("the network's q", vae.encode(new), "#D55E00", "s"),
    ("the best diagonal q", g_new.phi_optimal, "#0072B2", "o"),
]:
    L = iwae.iwae(vae.model_, vae.theta_, phi, new, np.random.default_rng(seed), sizes=ks, n_samples=2000)
    above = L.values.mean(axis=1) - g_new.nlml.mean()
    ax.plot(ks, above, marker + "-", color=colour, label=label)
    print(f"{label:20}", "  ".join(f"L_{k} − NLML = {above[ks.index(k)]:z.3f}" for k in (1, 50, 1000)))
ax.axhline(0, color="#000000", lw=1.2, ls="--", label=f"NLML by the {g_new.method}")
ax.set(xscale="log", xlabel="k, draws", ylabel="mean of $L_k$ − NLML, nats")
ax.legend(frameon=False)
ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# From the best $q$ a handful of samples is enough. From the network's $q$ the line falls roughly with the
# logarithm of $k$. A published "NLL by importance sampling with 5000 samples" is a statement about the
# encoder, too.

# %% [markdown]
# **Exercise 08-3.** The estimate. Given `log_w` (S, N), $\log \omega_{ns}$ of S draws for each of N data
# cases, return the estimate of $nlml_n$ (N,). The weights of images are as small as $e^{-800}$, which is 0
# in double precision: so a common factor of each case's weights has to be taken out before exp, and put back
# behind the logarithm (0.16).

# %% tags=["exercise"]
def nlml_estimate(log_w):
    """−log of the mean weight of every data case, (N,), from log weights (S, N)."""
    ...


# %% tags=["check"]
grade.check("08-3", nlml_estimate)

# %% [markdown] tags=["hint"]
# $\log \frac{1}{S} \sum_s e^{a_s} = c + \log \frac{1}{S} \sum_s e^{a_s - c}$ for any $c$. Which $c$ keeps
# exp from underflow and overflow?

# %% [markdown] tags=["hint"]
# The largest: `top = log_w.max(axis=0)`. Then one term of the sum is 1, and no term is larger.

# %% [markdown] tags=["hint"]
# `np.mean(np.exp(log_w - top), axis=0)` is the mean weight over $e^{\mathrm{top}}$. Take the logarithm, add
# top, turn the sign.

# %% tags=["solution"]
def nlml_estimate(log_w):
    top = log_w.max(axis=0)
    return -(top + np.log(np.mean(np.exp(log_w - top), axis=0)))


# %% [markdown]
# **Exercise 08-4.** How far to trust it. From the same `log_w` (S, N) return the standard error of the
# estimate (7.2),
#
# $$
# \mathrm{se}_ n = \frac{1}{\bar{\omega}_ n} \sqrt{\frac{1}{S(S-1)} \sum_s (\omega_{ns} - \bar{\omega}_ n)^2}
# $$
#
# and the effective sample size, each (N,). Why the first factor? The error of a logarithm is the *relative*
# error: $\log \bar{\omega}$ moves by $d\bar{\omega}/\bar{\omega}$. This is the delta method.

# %% tags=["exercise"]
def error_and_size(log_w):
    """The standard error of −log of the mean weight, and the effective sample size, each (N,)."""
    return ..., ...


# %% tags=["check"]
grade.check("08-4", error_and_size)

# %% [markdown] tags=["hint"]
# Both are unchanged if all weights of a case are multiplied by the same number. So take the largest
# logarithm out, and leave it out.

# %% [markdown] tags=["hint"]
# With `w = np.exp(log_w - log_w.max(axis=0))` the root is the standard deviation with the divisor S − 1,
# `ddof=1`, over $\sqrt{S}$.

# %% [markdown] tags=["hint"]
# `w.std(axis=0, ddof=1) / np.sqrt(len(w)) / w.mean(axis=0)`; and the square of the sum of the weights over
# the sum of their squares.

# %% tags=["solution"]
def error_and_size(log_w):
    w = np.exp(log_w - log_w.max(axis=0))
    error = w.std(axis=0, ddof=1) / np.sqrt(len(w)) / w.mean(axis=0)
    return error, w.sum(axis=0) ** 2 / (w**2).sum(axis=0)


# %% [markdown]
# ### How does a grid know?
#
# The referee of this notebook is a sum over a lattice (7.3):
# $\int p(x_n, z)\thinspace dz \approx h \sum_g p(x_n, z_g)$, here for one latent variable with the mesh $h$.
# It needs a certificate, or it is no better than the others. The idea (7.4): compute it twice, with the mesh
# $h$ and with every other point, mesh $2h$. If the two agree, the finer one is right, but for what both are
# blind to: mass outside the lattice, and a peak so narrow that it slips between the points. We watch it on
# one digit, along the first latent variable:

# %%
line = np.zeros((1, 1, K)) + vae.transform(new[:1])
for h in (0.8, 0.4, 0.2, 0.1, 0.05):
    z = np.repeat(line, int(12 / h) + 1, axis=0)
    z[:, 0, 0] = h * np.arange(len(z)) - 6
    log_p = vae.model_.log_joint(vae.theta_, new[:1], z)[:, 0]
    fine, coarse = (-np.logaddexp.reduce(log_p[::step]) - np.log(step * h) for step in (1, 2))
    moved = abs(fine - coarse)
    print(f"mesh {h:4}: −log of the integral {fine:10.5f}; by every other point it is {moved:8.1e} nats away")

# %% [markdown]
# While the mesh is coarse, the certificate is no more than the size of the error, and may even be smaller than
# it: two sums that are both wrong can lie near each other. From some mesh on each halving adds many digits, and
# there the two agree because both are right.
#
# **Exercise 08-5.** Write it. `log_p` (N, G) has $\log p(x_n, z_g)$ on G points, an odd number, that are `h`
# apart. Return $nlml_n$ by the sum over all of them, and a certificate: by how much it differs, in size,
# from the sum over every other point, beginning with the first. Both are (N,). (The package's certificate
# also widens the lattice by half, and takes the larger of the two changes.)

# %% tags=["exercise"]
def nlml_on_grid(log_p, h):
    """−log of the integral of exp(log_p), and how far it is from that of every other point, each (N,)."""
    return ..., ...


# %% tags=["check"]
grade.check("08-5", nlml_on_grid)

# %% [markdown] tags=["hint"]
# The logarithm of a sum of exponentials along axis 1, as in exercise 08-3:
# `np.logaddexp.reduce(log_p, axis=1)` does it in one call.

# %% [markdown] tags=["hint"]
# An integral is the sum times the mesh; under the logarithm the mesh is added. What is the mesh of
# `log_p[:, ::2]`?

# %% [markdown] tags=["hint"]
# It is `2 * h`. So `fine = -np.logaddexp.reduce(log_p, axis=1) - np.log(h)`, `coarse` likewise, and
# `abs(fine - coarse)`.

# %% tags=["solution"]
def nlml_on_grid(log_p, h):
    fine = -np.logaddexp.reduce(log_p, axis=1) - np.log(h)
    coarse = -np.logaddexp.reduce(log_p[:, ::2], axis=1) - np.log(2 * h)
    return fine, np.abs(fine - coarse)


# %% [markdown]
# ## 7. Caught between two runs
#
# Is there a check where no grid can be had? For *simulated* data there is. If we draw $z$, then $x$ given
# $z$, we own an exact sample of the posterior of $x$. Annealing forward from the prior gives a value that is
# too high on average, and annealing backward from that $z$ one that is too low on average (7.14):
#
# $$
# \mathbb{E}[\text{backward}] \leq nlml_n \leq \mathbb{E}[\text{forward}]
# $$
#
# We take a few simulated cases, few temperatures so that it stays quick, and widen the interval by two
# standard errors over the chains.

# %%
rng = np.random.default_rng(seed)
caught = ais.sandwich(vae.model_, vae.theta_, 6, rng, vae.backend_, n_temperatures=150)
low, high = caught.interval()
road = "grid" if K <= 2 else "importance"
referee = vae.nlml(caught.x, "grid" if K <= 2 else None).values
print(f"{'from':>10}{'backward':>10}{road:>12}{'forward':>10}{'to':>10}")
for row in zip(low, caught.lower.values, referee, caught.upper.values, high):
    print("".join(f"{value:{width}.2f}" for value, width in zip(row, (10, 10, 12, 10, 10))))
print(f"{road} inside the interval: {((low <= referee) & (referee <= high)).sum()} of {len(referee)}")

# %% [markdown]
# The middle columns need not be in order in every row: "above" and "below" hold on average over the noise,
# which all cases share, so that they tend to be off to one side together. The backward chains of a case all
# start from one $z$: what another would have given does not show in their spread, and the interval may be too
# narrow.
# Where a few of the chains carry all the weight no error is stated (7.15), and the interval is open on that
# side. More temperatures narrow it. And the method speaks of data that the model made, which may be easier
# than real ones.

# %% [markdown]
# ## 8. Is q the posterior? Ask data of the model's own
#
# Here is another question that simulated data can answer, and it takes neither a grid nor a weight. Draw
# $\tilde z$ from the prior and $\tilde x$ given $\tilde z$. Read the pair the other way round, and
# $\tilde z$ *is* a draw of the posterior of $\tilde x$. Now draw $L$ more from $q(z|\tilde x)$. If $q$ is
# the posterior, $\tilde z$ is one of $L + 1$ draws of one distribution, and each rank among them is equally
# likely (10.13):
#
# $$
# r_k = \left| \lbrace l : z_{lk} \lt \tilde z_k \rbrace \right| \qquad \text{is flat on } 0, \dots, L.
# $$
#
# This is **simulation-based calibration**. If the histogram of many ranks is not flat, its shape tells how
# $q$ misses (10.15): like ∪ where $q$ is too narrow (the truth lies outside of its draws too often), like ∩
# where it is too wide, a slope where it lies to one side. One number for ∪ and ∩ is the *spread*, the ranks'
# variance over that of flat ranks, which is $L(L + 2)/12$.
#
# Four cases, of which we know the answer. **What do you expect** of a linear VAE after training to the end,
# and after two epochs?

# %%
linear = datasets.linear_gaussian(n_cases=600, n_visible=8, n_latent=2, seed=seed).x
good = VAE(2, hidden=(), optimizer="lbfgs", nodes="sigma", random_state=seed).fit(linear)
hasty = VAE(2, hidden=(), epochs=2, random_state=seed).fit(linear)
checks = {
    "linear VAE,\nto the end": good.calibration(),
    "2 epochs": hasty.calibration(),
    "2 epochs,\nexact posterior": hasty.calibration(method="exact"),
    "digits VAE": vae.calibration(),
}
print(f"{'':31}{'p':18}spread")
for title, found in checks.items():
    p = " ".join(f"{value:.1g}" for value in found.p_value)
    print(f"{title.replace(chr(10), ' '):31}{p:18}{' '.join(f'{value:.2f}' for value in found.spread)}")

# %%
plots.rank_histograms(list(checks.items()))

# %% [markdown]
# A linear network that was trained to the end is exact (10.9), and its ranks are flat. After two epochs they
# are piled up at the ends. The third row says who is at fault: it is the *same* model, with its exact
# posterior in place of the network's $q$. So the decoder makes data as it should, and the network does not
# know them. The digits' network is much too sure of itself, which is what the pictures of section 4 have
# shown; this test needed no picture.
#
# Two warnings. Each latent variable is looked at by itself, so a $q$ may pass whose fault is in how they go
# together. And a flat histogram does not prove that $q$ is the posterior: take the *prior* for $q$, and the
# ranks are flat, too.

# %% [markdown]
# **Exercise 08-6.** The statistic. `z` (N, K) are the true latent variables of N simulated data cases,
# `draws` (L, N, K) are L draws of $q$ for each. Return the ranks (N, K), whole numbers from 0 to L, and for
# each latent variable the spread (K,): the variance of its ranks over the data cases (divisor N), over the
# variance $L(L + 2)/12$ of flat ranks.

# %% tags=["exercise"]
def ranks_and_spread(z, draws):
    """How many draws lie below z, (N, K), and the ranks' variance over that of flat ones, (K,)."""
    return ..., ...


# %% tags=["check"]
grade.check("08-6", ranks_and_spread)

# %% [markdown] tags=["hint"]
# `draws < z` compares every draw with the truth of its case: (L, N, K) of bool.

# %% [markdown] tags=["hint"]
# The sum of bools over the draws, axis 0, counts them, and is a whole number. Then `.var(axis=0)` of the
# ranks.

# %% [markdown] tags=["hint"]
# `L = len(draws)`; `ranks = (draws < z).sum(axis=0)`; the spread is `ranks.var(axis=0)` over
# `L * (L + 2) / 12`.

# %% tags=["solution"]
def ranks_and_spread(z, draws):
    L = len(draws)
    ranks = (draws < z).sum(axis=0)
    return ranks, ranks.var(axis=0) / (L * (L + 2) / 12)


# %% [markdown]
# ## 9. Sound, or not?
#
# Numbers of this kind fill tables in papers. Most mistakes in them are not in the mathematics but in what is
# compared with what.
#
# **Exercise 08-7.** Five sentences. For each, what is wrong with its numbers? Choose among the words
# `"two bounds"` (one number is another bound than the other), `"two data sets"` (they are about different
# data), `"a constant"` (one lacks a constant that the other has), `"few draws"` (the error that is stated
# cannot be believed), `"nothing"` (the numbers are fine).
#
# - **A.** "On one test set our model reaches 86.4 nats (importance-weighted bound, 5000 draws), and the
#   older one had 87.9 (negative ELBO): an improvement of 1.5 nats." Both models are the same, constants and
#   all.
# - **B.** "The grid says that the mean NLML of 8×8 digits with continuous pixels is −48 nats. A likelihood
#   cannot exceed one: there must be a bug."
# - **C.** "On the same digits (64 pixels, Gaussian likelihood) the training script prints Q = 11.19 nats,
#   and the evaluation script Q = 70.00, and so on for each data case: 58.81 more. The model over-fits."
# - **D.** "Importance sampling with 1000 draws gives an NLML of 101.2 nats for this data case, with a
#   standard error of 0.9 and an effective sample size of 1.2. So the NLML lies between 99 and 103."
# - **E.** "Two models with Bernoulli likelihoods, each tested on 10 000 grey images as zeros and ones: the
#   first drew them anew for the test, the second took the file that was drawn once for all. Q is 90.1 and
#   88.7: the second is better."

# %% tags=["exercise"]
claims = {"A": ..., "B": ..., "C": ..., "D": ..., "E": ...}

# %% tags=["check"]
grade.check("08-7", claims)

# %% [markdown] tags=["hint"]
# Ask of every pair of numbers: the same bound? the same data? every constant? Of a number with an error:
# where does the error come from?

# %% [markdown] tags=["hint"]
# What is 58.81 divided by 64? And which of $Q$ and $L_{5000}$ is lower for one and the same model?

# %% [markdown] tags=["hint"]
# $\frac{1}{2} \log 2\pi = 0.9189$. The density of a continuous pixel may be larger than one. By (7.6) a
# standard error that comes from the weights cannot exceed one nat. What is drawn once and what is drawn anew
# can be nats apart.

# %% tags=["solution"]
claims = {"A": "two bounds", "B": "nothing", "C": "a constant", "D": "few draws", "E": "two data sets"}

# %% [markdown]
# ## To try
#
# 1. *Another family.* Fit `VAE(K, hidden=hidden, posterior="full")`. Which share of the ledger must vanish,
#    and does the largest share get smaller?
# 2. *Rescue the sampler.* Importance sampling from the network's $q$ failed because $q$ is too narrow.
#    Multiply all $s_n$ by 1, 2, 4 and 8 and measure the mean error again. Predict first what happens to
#    $L_1 = Q$, and what to the error with 1000 draws.
# 3. *When does the network start to over-fit?* Train for 100, 200 and 400 epochs and compare NLML and
#    amortisation gap on held-out cases. Would you stop early?
# 4. *Too wide.* Double $s$ of the linear network that was trained to the end, and rank again. Which shape will
#    the histogram take? (`calibration` takes no $\phi$; `draw` does, and `teachvae.calibration` counts.)

# %% [markdown] summary="A solution to the first" tags=["solution"]
# "Diagonal" is zero by definition, as the family is the full one. The amortisation gap stays the largest by
# far: a larger family gives the network more to say, and no reason to be right about new cases.

# %% tags=["solution"]
full_vae = VAE(K, posterior="full", **options).fit(x)
for part, images in {"training": seen, "held out": new}.items():
    shares = full_vae.gaps(images).shares
    print(part, {name: round(float(values.mean()), 3) for name, values in shares.items()})

# %% [markdown] summary="A solution to the second" tags=["solution"]
# $Q$ gets worse with every factor, as more and more draws miss the posterior. The estimate gets better at
# first, as at last some of the draws hit it. Beyond that the effective sample size falls: that is the price.
# A good $q$ for the bound and a good $q$ for importance sampling are different things: the latter must cover
# the posterior.

# %% tags=["solution"]
for factor in (1, 2, 4, 8):
    phi = vae.encode(eight) + np.repeat([0, np.log(factor)], K)            # φ = [m | log s]
    r = vae.nlml(eight, "importance", S, phi=phi)
    error = r.values - truth
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")                                    # of quadrature, under a wide q
        gap = np.mean(vae.bound(eight, phi=phi) - truth)
    size = np.median(r.effective_sample_size)
    print(f"s × {factor}: Q − NLML {gap:9.2f}   mean error {error.mean():6.3f}   "
          f"largest {np.abs(error).max():7.3f}   median S_eff {size:6.1f}")

# %% [markdown] summary="A solution to the third" tags=["solution"]
# Late in training the held-out $Q$ hardly moves, and one might stop. The ledger says more: the model still
# gains, and its network loses about as much. What should stop is the training of the network, or it should
# have help: E-steps, or more data.

# %% tags=["solution"]
for n in (100, 200, 400):
    g = VAE(K, **options | {"epochs": n}).fit(x).gaps(new)
    print(f"{n:4} epochs: NLML {g.nlml.mean():8.3f}   amortisation {g.amortisation.mean():7.3f}   "
          f"Q {g.q_used.mean():8.3f}")

# %% [markdown] summary="A solution to the fourth" tags=["solution"]
# ∩: the truth lies in the middle of draws that reach too far on both sides, and the spread falls well below 1.

# %% tags=["solution"]
from teachvae import calibration

rng = np.random.default_rng(seed)
z = good.prior_codes(1000, rng)
made = good.decode(z) + np.sqrt(good.noise_variance_) * rng.standard_normal((1000, 8))
phi = good.encode(made) + [0, 0, np.log(2), np.log(2)]
ranks = calibration.ranks(z, good.draw(made, 99, "q", phi=phi, random_state=rng).z)
print(calibration.calibration(ranks, 99).spread)

# %% [markdown]
# Before: [07, amortisation and the VAE](07-amortisation-and-the-vae.ipynb). Next:
# [09, other variables and missing data](09-other-variables-and-missing-data.ipynb). Where the course begins:
# [00, start here](00-start-here.ipynb).
