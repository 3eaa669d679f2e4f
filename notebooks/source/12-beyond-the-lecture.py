# %% [markdown]
# # 12 · Beyond the lecture: better families, tighter bounds, honest draws
#
# The lecture ends with a bound, $Q_n \geq nlml_n$, and three ways to fill in $\phi_n$. Here is what people have built on
# top of it, each on data so small that we can still look behind it: richer families of $q$, tighter bounds, draws in place
# of means, and a latent variable that is discrete and continuous at once.
#
# A number in parentheses leads to its card, with the proof and an example on paper. First the settings: change them and run
# all cells again. What the words say of results, they say of the settings as they stand here.

# %%
K = 2             # latent variables of the VAE for digits; its posteriors are drawn for K = 2
hidden = (32,)    # … and widths of its hidden layers
cases = 400       # … and the digits that it is trained on
n_new = 12        # … and the held-out ones for which the best q is sought
n_points = 500    # of the spirals
S = 20            # draws of the tightest bound
J = 8             # components of the largest mixture
seed = 0

# %%
from pathlib import Path
import tempfile

import matplotlib.pyplot as plt
import numpy as np
from scipy import special, stats

import teachvae
from teachvae import VAE, FactorAnalysis, MixtureOfFactorAnalysers
from teachvae import datasets, grade, importance_weighted, iwae, plots, posteriors, schedules

plt.rcParams["figure.dpi"] = 120
plt.switch_backend(plt.get_backend())            # from here on a figure as the last line of a cell is shown
np.set_printoptions(precision=4, suppress=True)

# %% [markdown]
# ## 1. A ladder of families
#
# The gap $Q_n - nlml_n$ is a KL divergence from $q$ to the posterior (1.6). A richer family comes nearer. The first rung is the
# lecture's diagonal Gaussian, $z = m + s \odot \eta$. The second has a full covariance: with a lower triangular matrix $L$
#
# $$
# z = m + \eta L^\top, \qquad \eta \sim \mathcal{N}(0, I), \qquad \mathrm{Cov}[z] = L L^\top .
# $$
#
# It *turns* the ellipse. The gradient still goes through $m$ and $L$, so all of the lecture stays in place, but for the KL to the
# prior. Of a Gaussian with covariance $C$ it is, with the trace and the determinant for what in one dimension were $s^2$ and $s$,
#
# $$
# \mathrm{KL}(q \parallel p) = \frac{1}{2} \left( \mathrm{tr} \thinspace C + m m^\top - K - \log |C| \right) .
# $$
#
# **Exercise 12-1.** Write `kl_full(m, L)` for means `m` (N, K) and lower triangular `L` (N, K, K) with a positive diagonal. Return
# the KL from $\mathcal{N}(m_n, L_n L_n^\top)$ to $\mathcal{N}(0, I)$, (N,), in nats. Two facts spare you every matrix product: what is
# the trace of $L L^\top$ in the entries of $L$, and what is the determinant of a triangular matrix?

# %% tags=["exercise"]
def kl_full(m, L):
    """KL(N(m, L Lᵀ) ‖ N(0, I)) (N,), from m (N, K) and lower triangular L (N, K, K)."""
    ...

# %% tags=["check"]
grade.check("12-1", kl_full)

# %% [markdown] tags=["hint"]
# The entry $(i, i)$ of $L L^\top$ is the sum of the squares of row $i$. Add that up over the rows.

# %% [markdown] tags=["hint"]
# $|L L^\top| = |L|^2$, and the determinant of a triangular matrix is the product of its diagonal. So
# $\frac{1}{2} \log |L L^\top| = \sum_k \log L_{kk}$.

# %% [markdown] tags=["hint"]
# `0.5 * (np.sum(L**2, axis=(1, 2)) + np.sum(m**2, axis=1) - K)` less the sum of the logarithms of
# `np.diagonal(L, axis1=1, axis2=2)` over its axis 1.

# %% [markdown] tags=["solution"]
# For a diagonal $L$ it is the lecture's $\frac{1}{2} \sum_k (s_k^2 + m_k^2 - 1 - 2 \log s_k)$ (3.16).

# %% tags=["solution"]
def kl_full(m, L):
    squares = np.sum(L**2, axis=(1, 2)) + np.sum(m**2, axis=1)
    log_det = np.sum(np.log(np.diagonal(L, axis1=1, axis2=2)), axis=1)
    return 0.5 * (squares - m.shape[1]) - log_det

# %% [markdown]
# ### A flow bends
#
# No Gaussian is curved. The third rung passes the noise through an invertible function first, $u = T(\eta)$, then
# $z = m + u L^\top$. What is the density of $u$? Probability is carried along: a small piece of line or space around $\eta$ becomes one
# around $u$ that is larger by $|\partial T / \partial \eta|$, and the same probability lies in it. So (3.26)
#
# $$
# \log q(u) = \log \mathcal{N}(\eta; 0, I) - \log \left\vert \frac{\partial T}{\partial \eta} \right\vert
# $$
#
# The simplest such function moves every point along one direction $r$, by how far it lies along another one, $w$ (3.34):
#
# $$
# T(u) = u + r \tanh(u w^\top + b)
# $$
#
# **What do you expect?** In one dimension, with $r = 2$, $w = 1.5$, $b = 0$: points on the right go right, those on the left go left.
# What will the density look like, and what does its integral come to if one forgets the determinant?

# %%
u = np.linspace(-4, 4, 4001)
moved = u + 2.0 * np.tanh(1.5 * u)
slope = np.gradient(moved, u)                                       # ∂T/∂u by differences
density = stats.norm.pdf(u)
drawn = np.random.default_rng(seed).standard_normal(20_000)
drawn = drawn + 2.0 * np.tanh(1.5 * drawn)

fig, ax = plt.subplots(figsize=(6, 2.6))
ax.hist(drawn, bins=80, density=True, color="#CCCCCC", label="draws, moved")
ax.plot(moved, density / slope, color="#0072B2", label="with the determinant")
ax.plot(moved, density, color="#E69F00", ls="--", label="without it")
ax.set(xlabel="T(u)", ylabel="density")
ax.legend(frameon=False, fontsize=9)
ax.spines[["top", "right"]].set_visible(False)
plt.show()
for title, height in [("with", density / slope), ("without", density)]:
    print(f"integral {title} the determinant: {np.sum(height[1:] * np.diff(moved)):.4f}")

# %% [markdown]
# One bell has become two. Without the determinant there is more than one unit of probability: such a $q$ would claim a lower $Q$ than
# it has, and $Q$ would be no bound.
#
# **Exercise 12-2.** Write `planar_log_det(u, r, w, b)`: for points `u` (S, K) and the layer's `r` (K,), `w` (K,) and number `b`, return
# $\log \vert \partial T / \partial u \vert$ at every point, (S,). The Jacobian is the identity and one product of a column and a row.
# A (K, K) determinant costs $K^3$; this one costs $K$.

# %% tags=["exercise"]
def planar_log_det(u, r, w, b):
    """log |∂T/∂u| (S,) of T(u) = u + r tanh(u wᵀ + b), at points u (S, K)."""
    ...

# %% tags=["check"]
grade.check("12-2", planar_log_det)

# %% [markdown] tags=["hint"]
# Move $u$ a little, by $\delta$. Then $u w^\top + b$ moves by $\delta w^\top$, its tanh by $\tanh' \cdot \delta w^\top$, and $T$ by
# $\delta + \tanh' \thinspace (\delta w^\top) \thinspace r = \delta (I + \tanh' \thinspace w^\top r)$.

# %% [markdown] tags=["hint"]
# $|I + p^\top q| = 1 + p q^\top$ for rows $p$ and $q$ (3.44): all directions but one are left as they are.

# %% [markdown] tags=["hint"]
# `np.log(1 + (1 - np.tanh(a) ** 2) * (r @ w))` with `a = u @ w + b`. It can be taken as it is: layers are held so that
# $r w^\top \gt -1$, or two points would meet.

# %% tags=["solution"]
def planar_log_det(u, r, w, b):
    slope = 1.0 - np.tanh(u @ w + b) ** 2
    return np.log(1.0 + slope * (r @ w))

# %% [markdown]
# ### What each rung buys
#
# Every family holds the one before it, so the best $Q_n$ of each can only fall (10.12):
#
# $$
# nlml_n \leq Q_n(\mathrm{flow}) \leq Q_n(\mathrm{full}) \leq Q_n(\mathrm{diagonal})
# $$
#
# A VAE for handwritten digits; its training ends when 200 others no longer gain. We then forget its network, and ask of some held-out
# digits how low $Q_n$ can go with the best $q$ of each family.

# %%
train, held_out = datasets.split(datasets.digits())
x, others, x_new = train.x[:cases], train.x[cases : cases + 200], held_out.x[:n_new]


def progress(epoch, epochs, Q):
    """Said while the network learns."""
    if epoch % 50 == 0:
        print(f"epoch {epoch}: Q = {Q:.3f} nats per data case", flush=True)


digits_vae = VAE(K, hidden=hidden, learning_rate=1e-2, epochs=400, random_state=seed)
digits_vae.fit(x, validation=others, patience=20, progress=progress)
print(f"K = {K}, {len(x)} digits, {digits_vae.best_iter_} epochs")

# %%
ladder = digits_vae.ladder(x_new)
print(ladder)

# %%
for step, saved in [("turned", ladder.turned), ("bent", ladder.bent), ("left", ladder.left)]:
    print(f"{step:8} mean {saved.mean():.4f}, largest of a case {saved.max():.4f} nats")
print(f"error of these differences at most {ladder.error.max():.0e}")

# %%
gaps = digits_vae.gaps(x_new)


def panel(word, n):
    rungs = {
        "best diagonal q": (posteriors.DiagonalGaussian(K), gaps.phi_optimal[n : n + 1]),
        "best Gaussian q": (posteriors.FullGaussian(K), gaps.phi_full[n : n + 1]),
        "best flow": (posteriors.coupling_flow(K), ladder.phi_flow[n : n + 1]),
    }
    title = f"{word}: turning saves {ladder.turned[n]:.3f},\n"
    title += f"bending {ladder.bent[n]:.3f}, {ladder.left[n]:.3f} nats are left"
    return plots.ladder_panel(title, digits_vae.model_, digits_vae.theta_, x_new[n : n + 1], rungs)


def panels(places):
    if K != 2:
        return print(f"A picture takes K = 2, and here K = {K}.")
    return plots.ladder_panels([panel(word, n) for word, n in places.items()])


panels({"cheapest": np.argmin(ladder.turned + ladder.bent), "most turned": np.argmax(ladder.turned)})

# %%
most, *_, next_most = np.argsort(-ladder.bent)[:2].repeat(2)
panels({"most bent": most, "next": next_most})

# %% [markdown]
# Grey holds 50, 90 and 99 % of the posterior, each line 90 % of a $q$. Where the posterior is an upright ellipse there is nothing to
# buy. A slanted one costs the diagonal family up to half a nat, which one more number, a correlation, buys back. What a Gaussian misses
# by its shape is less here, and the flow gets most of it, with many numbers and many nodes.

# %% [markdown]
# ## 2. A tighter bound
#
# Richer families make $Q$ fall by a better $q$. The importance-weighted bound (7.8) falls with the $q$ left as it is. With the weights
# $\omega = p(x, z) / q(z|x)$ of draws of $q$, whose mean is $p(x)$, $Q$ is $-\mathbb{E}[\log \omega]$. Average $k$ weights first, then take the
# logarithm:
#
# $$
# L_k = -\mathbb{E}\left[ \log \frac{1}{k} \sum_{s=1}^{k} \omega_{ns} \right],
# \qquad nlml_n \leq L_{k+1} \leq L_k \leq L_1 = Q_n
# $$
#
# *Why.* The mean $a$ of $k + 1$ weights is the mean of the $k + 1$ means $a_{(i)}$ that leave one weight out. As $-\log$ is convex,
# Jensen's inequality says $-\log a \leq \frac{1}{k+1} \sum_i (-\log a_{(i)})$, and each term on the right has the expectation $L_k$. That all
# lie above $nlml_n = -\log \mathbb{E}[a]$ is Jensen's inequality once more. For large $k$ the distance shrinks as $1/k$ (12.4).
#
# **Exercise 12-3.** Write `iwae_bound(log_w, k)`. `log_w` holds log weights, one column per data case; its rows are independent draws, in
# groups of `k` that follow one another: rows 0 to $k - 1$ are the first group. Return the estimate of $L_k$ of every case, (N,), the mean
# over the groups. Log weights are what one has: in 64 dimensions a weight of $e^{-900}$ is nothing special, and some in the check are so.

# %% tags=["exercise"]
def iwae_bound(log_w, k):
    """L_k (N,), from log weights (groups · k, N)."""
    ...

# %% tags=["check"]
grade.check("12-3", iwae_bound)

# %% [markdown] tags=["hint"]
# First give the groups an axis of their own: `log_w.reshape(-1, k, N)` has the shape (groups, k, N).

# %% [markdown] tags=["hint"]
# $\log \frac{1}{k} \sum_s e^{a_s} = t + \log \sum_s e^{a_s - t} - \log k$ for every $t$. With $t$ the largest $a_s$ of the group no exponential
# overflows, and not all are 0.

# %% [markdown] tags=["hint"]
# `special.logsumexp(groups, axis=1)` does this. Take $\log k$ off, turn the sign, and average over the groups, axis 0. The mean over
# groups stands outside of the logarithm, that over $k$ inside.

# %% tags=["solution"]
def iwae_bound(log_w, k):
    groups = log_w.reshape(-1, k, log_w.shape[1])
    top = groups.max(axis=1, keepdims=True)
    log_mean = top[:, 0] + np.log(np.mean(np.exp(groups - top), axis=1))
    return -np.mean(log_mean, axis=0)

# %% [markdown]
# ### What training by it does
#
# $L_k$ can be what training minimises. Points on a noisy spiral, $D = 2$, where one number $z$ says how far out one is; between two
# windings the posterior has two modes, and no Gaussian has.
#
# **What do you expect?** Models trained by $L_k$ with larger $k$ should have a lower $nlml$. And the gap $Q - nlml$ of their encoders?

# %%
curve_train, curve_new = datasets.split(datasets.spiral(n_cases=n_points, noise=0.15**2, seed=seed))
options = dict(hidden=(16,), epochs=200, learning_rate=schedules.Cosine(1e-2, 200), random_state=seed)
by_k = {k: VAE(1, objective="iwae", n_samples=k, **options).fit(curve_train.x) for k in sorted({1, 5, S})}

sizes = sorted({1, 2, 5, 10, 20, 50, 100, S})
L, truth = {}, {}
for k, model in by_k.items():
    rng, phi = np.random.default_rng(seed), model.encode(curve_train.x)
    found = iwae.iwae(model.model_, model.theta_, phi, curve_train.x, rng, sizes=sizes)
    L[k] = found.values.mean(axis=1)
    truth[k] = model.nlml(curve_train.x, "grid").values.mean()

print("nats per data case")
print("trained by       nlml      L_k      L_1 = Q    L_k − nlml    Q − nlml")
for k in by_k:
    own, Q = L[k][sizes.index(k)], L[k][0]
    print(f"{f'L_{k}':10}{truth[k]:11.3f}{own:9.3f}{Q:13.3f}{own - truth[k]:14.3f}{Q - truth[k]:12.3f}")

# %%
fig, ax = plt.subplots(figsize=(7, 3.4))
for (k, values), colour, marker in zip(L.items(), ("#0072B2", "#E69F00", "#000000"), "os^"):
    ax.plot(sizes, values, f"{marker}-", color=colour, label=f"trained by $L_{{{k}}}$")
    ax.axhline(truth[k], color=colour, lw=1, ls="--")
ax.set(xscale="log", xlabel="k", ylabel="mean of $L_k$, nats per data case")
ax.set_title("Training by $L_k$ lowers nlml (dashed) and raises Q, which is $L_1$", fontsize=11)
ax.set_xticks(sizes, sizes)
ax.minorticks_off()
ax.legend(frameon=False)
ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# From top to bottom of the table nlml falls: the model gets better. $Q$ of the same model gets worse, because the encoder has learnt
# another task. To be good for $L_k$ its $q$ has to *cover* the posterior, so that one of $k$ draws hits; to be good for $Q$ it must not
# stray.
#
# ### Its gradient
#
# For given noise $L = -\log \frac{1}{k} \sum_s \omega_s$ is a function of the log weights. For any parameter $a$
#
# $$
# \frac{\partial L}{\partial a} = -\frac{\sum_s \partial \omega_s / \partial a}{\sum_r \omega_r}
# = -\sum_s \frac{\omega_s}{\sum_r \omega_r} \frac{\partial \log \omega_s}{\partial a}
# $$
#
# (7.22). $Q$ has the weight $1/k$ in the place of the fraction. So the rest of the backward, through densities, decoder and encoder, is
# that of $Q$, and all that is new is what comes in at the log weights.
#
# **Exercise 12-4.** Write `iwae_backward(log_w, dL)` for log weights (S, N), all draws of a case being one group, and `dL` (N,), what each
# case's $L_n$ counts for. Return `dlog_w` (S, N), the gradient of $\sum_n dL_n L_n$.

# %% tags=["exercise"]
def iwae_backward(log_w, dL):
    """dlog_w (S, N) of Σ_n dL_n L_n, from log weights (S, N) and dL (N,)."""
    ...

# %% tags=["check"]
grade.check("12-4", iwae_backward)

# %% [markdown] tags=["hint"]
# What does the formula say if $a$ is one of the log weights itself? Then $\partial \log \omega_s / \partial a$ is 1 for this one, and 0 for the
# others.

# %% [markdown] tags=["hint"]
# The fraction is a softmax of the log weights of one case: shares that add up to 1 over axis 0.

# %% [markdown] tags=["hint"]
# `share = np.exp(log_w - special.logsumexp(log_w, axis=0))`, and the answer is `-dL * share`.

# %% tags=["solution"]
def iwae_backward(log_w, dL):
    share = np.exp(log_w - log_w.max(axis=0))
    share = share / np.sum(share, axis=0)
    return -dL * share

# %% [markdown]
# **The encoder's signal drowns.** As $k$ grows $L_k$ comes to depend on $\theta$ alone, so the gradient for $\phi$ goes to zero, and faster
# than its noise does: signal over noise falls as $k^{-1/2}$. The *doubly reparameterised* gradient (7.23) has the same expectation as the
# plain one, and its signal over noise grows as $k^{1/2}$. Both laws ask that the weights have a variance, so that $q$ is not much narrower
# than the posterior. We take a factor analysis, whose posterior is known, move $q$ by half a standard deviation, widen it by a half, and
# draw each gradient 1000 times:

# %%
line = datasets.linear_gaussian(n_cases=200, n_visible=5, n_latent=1, seed=seed).x
fa = FactorAnalysis(1).fit(line)
m, log_s = fa.infer(line[:1])[0]
R, ks = 1000, np.array([4, 16, 64, 256])
case = np.repeat(line[:1], R, axis=0)
phi = np.repeat([[m + 0.5 * np.exp(log_s), log_s + np.log(1.5)]], R, axis=0)

ratio = {"plain": [], "dreg": []}
for k in ks:
    eta = np.random.default_rng(k).standard_normal((k, R, 1))
    _, cache = importance_weighted.forward(fa.model_, fa.theta_, phi, case, eta)
    dphi = {}
    for e in ratio:
        dphi[e], _ = importance_weighted.backward(fa.model_, fa.theta_, cache, np.ones(R), estimator=e)
    signal = np.abs(dphi["dreg"].mean(axis=0))                     # of both: they have one expectation
    for estimator, found in ratio.items():
        found.append((signal / dphi[estimator].std(axis=0))[1])    # of ∂/∂ log s

fig, ax = plt.subplots(figsize=(7, 3))
for estimator, label, colour, marker in [("plain", "iwae", "#D55E00", "s"), ("dreg", "iwae-dreg", "#0072B2", "o")]:
    slope = np.polyfit(np.log(ks), np.log(ratio[estimator]), 1)[0]
    ax.loglog(ks, ratio[estimator], f"{marker}-", color=colour, label=f'"{label}": slope {slope:+.2f}')
ax.set(xlabel="k", ylabel="signal / noise")
ax.set_title("The encoder's signal drowns as $k^{-1/2}$, or stands out as $k^{1/2}$", fontsize=11)
ax.set_xticks(ks, ks)
ax.minorticks_off()
ax.legend(frameon=False)
ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %%
dreg = VAE(1, objective="iwae-dreg", n_samples=S, **options).fit(curve_train.x)
print(f"trained by {f'L_{S}':8}nlml, training   held out   nats per data case")
for title, model in [("iwae", by_k[S]), ("iwae-dreg", dreg)]:
    seen, new = (model.nlml(part.x, "grid").values.mean() for part in (curve_train, curve_new))
    print(f"{title:14}{seen:19.3f}{new:11.3f}")

# %% [markdown]
# With one number $z$ and so few draws the signal has not drowned yet, and both end within a hundredth of a nat or so.
#
# **A weight on the KL** is another thing that is done to $Q$: small in the first epochs, so that $z$ is used before it has to pay, and 1 in
# the end. It is a way of training and no bound (1.30). A weight that stays below 1 shows it: what is minimised ends *below* nlml.
# (Minimised: as seen by the optimiser in its last epoch, on its own draws.)

# %%
print("nats per data case")
print("kl_weight         minimised        Q     nlml")
for title, weight in [("1", 1.0), ("WarmUp(50)", schedules.WarmUp(50)), ("½", 0.5)]:
    model = VAE(1, kl_weight=weight, **options).fit(curve_train.x)
    Q = model.bound(curve_train.x, n_samples=1024).mean()
    nlml = model.nlml(curve_train.x, "grid").values.mean()
    print(f"{title:15}{model.q_path_[-1]:12.3f}{Q:9.3f}{nlml:9.3f}", flush=True)

# %% [markdown]
# ## 3. Draws instead of means
#
# A mean of $z$ answers some questions; draws of the posterior answer all of them, by averages. `draw` gives exact ones where the posterior
# is Gaussian (7.19), else draws of $q$ that are kept in proportion to their weights $\omega$ (7.20): of $S$ candidates each is taken with the
# probability $\omega_s / \sum_r \omega_r$. Of the digits of section 1 we take the one with the largest amortisation gap: its posterior's mean
# and standard deviations by a sum over a lattice, by 4000 such draws, and by 4000 draws of the network's $q$.

# %%
n = np.argmax(gaps.amortisation)
print(f"{'':12}{'mean':>18}{'s.d.':>18}")
if K == 2:
    _, z1, z2, log_p, _ = panel("", n)
    mass = np.exp(log_p - log_p.max())
    mass /= mass.sum()
    m = np.array([mass.sum(axis=0) @ z1, mass.sum(axis=1) @ z2])
    s = np.sqrt([mass.sum(axis=0) @ (z1 - m[0]) ** 2, mass.sum(axis=1) @ (z2 - m[1]) ** 2])
    print(f"{'lattice':14}", m, s)
else:
    print(f"The lattice is in a plane, and here K = {K}.")

clouds = {}
for method in ("importance", "q"):
    clouds[method] = digits_vae.draw(x_new[n : n + 1], 4000, method, n_candidates=20_000, random_state=seed)
    z = clouds[method].z[:, 0]
    print(f"{method:14}", z.mean(axis=0), z.std(axis=0))
worth = clouds["importance"].effective_sample_size[0]
print(f"the 20 000 candidates are worth {worth:.0f} draws of the posterior")

# %%
def draws_over_posterior():
    figure, axes = plt.subplots(1, 2, figsize=(7, 3.2), sharex=True, sharey=True)
    titles = {"importance": "importance: draws fill the posterior", "q": "q: the network's draws are beside it"}
    levels, greys = [-4.6, -2.3, -0.7, 0.1], ["#DDDDDD", "#BBBBBB", "#999999"]
    for ax, (method, found) in zip(axes, clouds.items()):
        ax.contourf(z1, z2, log_p - log_p.max(), levels=levels, colors=greys)
        style = dict(marker="o", color="#0072B2") if method == "importance" else dict(marker="^", color="#D55E00")
        ax.plot(*found.z[:300, 0].T, ls="", ms=2, **style)
        ax.set_title(titles[method], fontsize=9)
        ax.set_xlabel("$z_1$")
    axes[0].set_ylabel("$z_2$")
    figure.tight_layout()
    plt.show()


draws_over_posterior() if K == 2 else print(f"A picture takes K = 2, and here K = {K}.")

# %% [markdown]
# The candidates come from the network's $q$ after 20 E-steps, which has found the posterior. Weights cannot mend a $q$ that does not reach
# its tails: they would be missing, and a small effective sample size is the sign of it.
#
# ### Multiple imputation
#
# A table with holes that is filled with means looks more certain than it is. `impute(X, m)` gives $m$ tables. In each the hole holds a draw
# given the observed cells: first $z$ from its posterior, then $x$ with its noise (7.21). If they are honest, then the middle 90 % of the draws
# hold the hidden value in 90 % of the cells. For factor analysis there is a second road, the conditional Gaussian of
# $\mathcal{N}(b, W^\top W + \Psi)$.
#
# **What do you expect?** An interval of the model's mean ± 1.645 standard deviations of the noise forgets that $z$ is not known. How many of
# the hidden values will it hold?

# %%
table = datasets.linear_gaussian(n_cases=1000, seed=seed).x
fa = FactorAnalysis(3).fit(table[:500])
whole = table[500:]
holes = np.random.default_rng(seed + 1).random(whole.shape) < 0.25
part = np.where(holes, np.nan, whole)

tables = fa.impute(part, 400, random_state=seed)                      # (400, N, D)
low, high = np.quantile(tables, [0.05, 0.95], axis=0)
means, half = fa.impute(part), 1.645 * np.sqrt(fa.noise_variance_)
inside_psi = (np.abs(whole - means) < half)[holes].mean()
inside = ((low < whole) & (whole < high))[holes].mean()
print(f"{holes.sum()} hidden cells; inside their 90 % interval:")
print(f"  draws                                {100 * inside:.1f} %")
print(f"  mean ± 1.645 √Ψ, as if z were known  {100 * inside_psi:.1f} %")

n = int(np.argmax(holes.sum(axis=1)))
h, o = holes[n], ~holes[n]
C = fa.get_covariance()
gain = np.linalg.solve(C[np.ix_(o, o)], C[np.ix_(o, h)]).T
print(f"\nrow {n}, {h.sum()} cells hidden")
print("s.d. of the draws    ", tables[:, n, h].std(axis=0))
print("conditional Gaussian ", np.sqrt(np.diag(C[np.ix_(h, h)] - gain @ C[np.ix_(o, h)])))

# %% [markdown]
# Each table is analysed as if nothing had been hidden, and gives an estimate $t_i$ with a squared standard error $v_i$. Rubin's rules pool
# them. The estimate is the mean of the $t_i$. Its variance has two parts, by the law of total variance: $U$, the mean of the $v_i$, which is
# what a complete table would leave open, and $B$, the variance of the $t_i$ (with the divisor $m - 1$), which is what the holes leave open.
# The mean of $m$ tables is itself off by a variance of $B / m$. Together
#
# $$
# U + \left( 1 + \frac{1}{m} \right) B .
# $$
#
# **Exercise 12-5.** Write `pooled(t, v)`: `t` (m, D) holds what $m$ tables say of $D$ quantities, `v` (m, D) their *squared* standard errors.
# Return a dict with the pooled `mean` (D,) and its standard error `se` (D,).

# %% tags=["exercise"]
def pooled(t, v):
    """{"mean": (D,), "se": (D,)}, from estimates t (m, D) and squared standard errors v (m, D)."""
    ...

# %% tags=["check"]
grade.check("12-5", pooled)

# %% [markdown] tags=["hint"]
# $m$ is the number of tables, `len(t)`. Both $U$ and $B$ are over axis 0.

# %% [markdown] tags=["hint"]
# NumPy's `var` divides by $m$. With `ddof=1` it divides by $m - 1$.

# %% [markdown] tags=["hint"]
# A standard error is the root of a variance: `np.sqrt(U + (1 + 1 / m) * B)`, where `U = v.mean(axis=0)`.

# %% tags=["solution"]
def pooled(t, v):
    B = np.var(t, axis=0, ddof=1)
    return {"mean": np.mean(t, axis=0), "se": np.sqrt(np.mean(v, axis=0) + (1.0 + 1.0 / len(t)) * B)}

# %% [markdown]
# Here for the mean of the first column, from 20 tables, beside two that one would rather not report:

# %%
m, column = 20, tables[:20, :, 0]                                  # (m, N)
t, v = column.mean(axis=1), column.var(axis=1, ddof=1) / len(whole)
se = (v.mean() + t.var(ddof=1) + t.var(ddof=1) / m) ** 0.5

print("column 0                     s.d.     mean    its s.e.")
for title, values in [("nothing hidden", whole[:, 0]), ("filled with means", means[:, 0])]:
    sd = values.std(ddof=1)
    print(f"{title:24}{sd:9.4f}{values.mean():9.4f}{sd / len(whole) ** 0.5:11.4f}")
print(f"{f'{m} tables, pooled':24}{column.std(axis=1, ddof=1).mean():9.4f}{t.mean():9.4f}{se:11.4f}")

# %% [markdown]
# Filled with means the column varies too little, and the standard error is *smaller* than if nothing were hidden. Pooled, it is larger, as it
# has to be.

# %% [markdown]
# ## 4. Discrete and continuous under one bound
#
# A mixture of factor analysers has two latent variables: which component, $j$, and where on its plane, $z$. Given $j$ it is a factor analysis,
# so $z$ can be integrated out:
#
# $$
# p(x) = \sum_j \pi_j\thinspace \mathcal{N}(x;\thinspace b_j,\thinspace C_j), \qquad C_j = W_j^\top W_j + \Psi
# $$
#
# In the bound $q$ is over both, $q(j, z) = q_j \thinspace q_j(z)$. Its least over $q_j(z)$ is where that is the component's own posterior, and
# then what is left (9.11) is the bound of a discrete latent variable,
#
# $$
# Q_n = \sum_j q_{nj} \left( \log q_{nj} - \log p(x_n, j) \right), \qquad p(x_n, j) = \pi_j\thinspace \mathcal{N}(x_n;\thinspace b_j,\thinspace C_j),
# $$
#
# which is least at the *responsibilities* $q_{nj} = p(j|x_n)$. Both are exact, so EM ends with $Q = nlml$.
#
# **Exercise 12-6.** Write `responsibilities(x, pi, b, W, psi)` for `x` (N, D), probabilities `pi` (J,), means `b` (J, D), loadings `W` (J, K, D)
# and noise variances `psi` (D,), which all components share. Return $p(j|x_n)$, (N, J). One case in the check lies so far out that its
# density is 0 in floating point under every component; its responsibilities are well defined all the same.

# %% tags=["exercise"]
def responsibilities(x, pi, b, W, psi):
    """p(j|x_n) (N, J) of a mixture of factor analysers."""
    ...

# %% tags=["check"]
grade.check("12-6", responsibilities)

# %% [markdown] tags=["hint"]
# Make a table of $\log p(x_n, j)$, (N, J), one column per component: $\log \pi_j$ and the log density of a Gaussian with mean $b_j$ and
# covariance $C_j$.

# %% [markdown] tags=["hint"]
# A log density has $-\frac{1}{2} (x - b_j) C_j^{-1} (x - b_j)^\top$ and $-\frac{1}{2} \log |C_j|$. What is the same for all components, such as
# $\log 2\pi$, drops out. `np.linalg.solve` and `np.linalg.slogdet` do it, or `stats.multivariate_normal.logpdf`.

# %% [markdown] tags=["hint"]
# Then each row is normalised: $p(j|x) = e^{a_j} / \sum_i e^{a_i}$ with $a = \log p(x, \cdot)$. Take the largest $a_j$ of the row off first, or use
# `special.softmax(a, axis=1)`.

# %% tags=["solution"]
def responsibilities(x, pi, b, W, psi):
    log_p = np.empty((len(x), len(pi)))
    for j in range(len(pi)):
        C = W[j].T @ W[j] + np.diag(psi)
        r = x - b[j]
        squares = np.sum(r * np.linalg.solve(C, r.T).T, axis=1)
        log_p[:, j] = np.log(pi[j]) - 0.5 * (squares + np.linalg.slogdet(C)[1])
    shares = np.exp(log_p - log_p.max(axis=1, keepdims=True))
    return shares / np.sum(shares, axis=1, keepdims=True)

# %% [markdown]
# Some short lines are nearly a curve. The spiral again, with a third of the noise's standard deviation:

# %%
thin, thin_new = datasets.split(datasets.spiral(n_cases=n_points, seed=seed))
print("nats per data case")
print("components     nlml, training   held out    Q − nlml    EM steps")
for n in sorted({1, J // 2, J} - {0}):
    mixture = MixtureOfFactorAnalysers(n, n_latent=1, tol=1e-6, random_state=seed).fit(thin.x)
    seen, new = mixture.nlml(thin.x).values, mixture.nlml(thin_new.x).values
    gap = np.abs(mixture.bound(thin.x) - seen).max()
    print(f"{n:10}{seen.mean():19.3f}{new.mean():11.3f}{gap:12.0e}{mixture.n_iter_:12}", flush=True)

# %% [markdown]
# In the picture a line is as thick as its component is frequent:

# %%
fig, ax = plt.subplots(figsize=(5, 4.4))
of = mixture.infer(thin.x).argmax(axis=1)                          # (N,) each point's most probable one
for j in range(J):
    ax.scatter(*thin.x[of == j].T, marker=f"${j}$", s=16, lw=0.2, color=plots.COLOURS[j % 8])
for weight, b, W in zip(mixture.weights_, mixture.means_, mixture.components_):
    ax.plot(*(b + np.outer([-1.7, 1.7], W[0])).T, "k-", lw=0.5 + 10 * weight, alpha=0.5)
ax.set(xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
follow = "factor analysers follow" if J > 1 else "factor analyser cannot follow"
ax.set_title(f"{J} {follow} the spiral; a point\nis the number of its most probable one", fontsize=11)
ax.spines[["top", "right"]].set_visible(False)
plt.show()


# %% [markdown]
# ## 5. Keep it
#
# A model is saved as plain arrays, without a pickle, and comes back to the same bits. A fit with a `checkpoint` that is broken off goes on
# where it stood, and ends as if it had never stopped.

# %%
def break_off(epoch, epochs, value):
    if epoch == 70:
        raise KeyboardInterrupt                                    # Ctrl-C


with tempfile.TemporaryDirectory() as folder:
    mixture.save(Path(folder, "mixture.npz"))
    again = teachvae.load(Path(folder, "mixture.npz"))
    print("same Q to the last bit:", np.array_equal(again.bound(thin_new.x), mixture.bound(thin_new.x)))

    file = Path(folder, "fit.npz")
    try:
        VAE(1, **options).fit(curve_train.x, checkpoint=file, progress=break_off)
    except KeyboardInterrupt:
        print("broken off; on disk:", teachvae.load(file).n_iter_, "epochs")
    led_on = VAE(1, **options).fit(curve_train.x, checkpoint=file)
    straight = VAE(1, **options).fit(curve_train.x)
    print("same path as a fit that never stopped:", np.array_equal(led_on.q_path_, straight.q_path_))

# %% [markdown]
# ## To try
#
# 1. *Which rung does a network reach?* Fit the VAE of section 1 with `posterior="full"`. How much of what the
#    ladder promises does its network get on held-out digits?
# 2. *How many tables?* Pool 2, 5, 20, 100 and 400 of them. By how much does the standard error still move?
# 3. *How many lines?* Fit mixtures of 2, 4, 8, 16 and 32 factor analysers to the spiral. Which would you choose, and by which number?

# %% [markdown] summary="A solution to the first" tags=["solution"]
# The approximation gap falls by the rung, 0.05 nats. The amortisation gap stays a hundred times as large: a
# network that names the wrong place does not gain by naming it with a correlation.

# %% tags=["solution"]
for posterior in ("diagonal", "full"):
    vae = VAE(K, hidden=hidden, posterior=posterior, learning_rate=1e-2, epochs=400, random_state=seed)
    g = vae.fit(x, validation=others, patience=20).gaps(held_out.x[:100])
    print(posterior, g.nlml.mean(), g.approximation.mean(), g.amortisation.mean())

# %% [markdown] summary="A solution to the second" tags=["solution"]
# By no more than a few per cent. With a quarter of the cells hidden, the variance between tables is a small
# part of the whole.

# %% tags=["solution"]
for m in (2, 5, 20, 100, 400):
    t, v = tables[:m, :, 0].mean(axis=1), tables[:m, :, 0].var(axis=1, ddof=1) / len(whole)
    print(m, np.sqrt(v.mean() + (1 + 1 / m) * t.var(ddof=1)))

# %% [markdown] summary="A solution to the third" tags=["solution"]
# NLML of the training data falls with every component, and says nothing. That of held-out data falls at first, and with too
# many components, each with few points, it rises again. One stops at its least.

# %% tags=["solution"]
for n in (2, 4, 8, 16, 32):
    many = MixtureOfFactorAnalysers(n, n_latent=1, tol=1e-6, random_state=seed).fit(thin.x)
    print(n, many.nlml(thin.x).values.mean(), many.nlml(thin_new.x).values.mean())

# %% [markdown]
# This is the last notebook. Before: [11, one core, two machines](11-one-core-two-machines.ipynb). The course begins in
# [00, start here](00-start-here.ipynb), which says, too, where each step of the lecture stands.
