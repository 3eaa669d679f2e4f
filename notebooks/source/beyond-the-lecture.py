# %% [markdown]
# # Beyond the lecture: better families, tighter bounds, honest draws
#
# The lecture ends with a bound, $Q_n \geq nlml_n$, and three ways to fill in $\phi_n$. Here is what people
# have built on top of it, each on data so small that we can still look behind it: richer families of $q$,
# tighter bounds, draws in place of means, a test of inference on data that the model makes itself, what
# factor analysts print, and a latent variable that is discrete and continuous at once.
#
# A number in parentheses leads to its equation in [derivations/equations.md](../derivations/equations.md).
# The model and the bound are introduced in [three-routes.ipynb](three-routes.ipynb), the gaps in
# [ledger.ipynb](ledger.ipynb).
#
# First the settings. Change them and run all cells again; what the words say of results, they say of these.

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
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import teachvae
from teachvae import VAE, FactorAnalysis, MixtureOfFactorAnalysers
from teachvae import datasets, importance_weighted, iwae, plots, posteriors, schedules, select_n_components

plt.rcParams["figure.dpi"] = 120
plt.switch_backend(plt.get_backend())            # from here on a figure as the last line of a cell is shown
np.set_printoptions(precision=4, suppress=True)

# %% [markdown]
# ## 1. The ladder of families
#
# A VAE for handwritten digits; its training ends when 200 others no longer gain. We then forget its network,
# and ask of some held-out digits how low $Q_n$ can go with the best $q$ of each family. Every family holds
# the one before it:
#
# $$
# nlml_n \leq Q_n(\text{flow}) \leq Q_n(\text{full}) \leq Q_n(\text{diagonal})
# $$
#
# A full covariance *turns* the ellipse, a flow *bends* it (10.12).

# %%
train, held_out = datasets.split(datasets.digits())
x, others, x_new = train.x[:cases], train.x[cases : cases + 200], held_out.x[:n_new]
digits_vae = VAE(K, hidden=hidden, learning_rate=1e-2, epochs=400, random_state=seed)
digits_vae.fit(x, validation=others, patience=20)
print(f"K = {K}, {len(x)} digits, {digits_vae.best_iter_} epochs\n")

ladder = digits_vae.ladder(x_new)
print(ladder)
print()
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


def panels():
    places = {"cheapest": np.argmin(ladder.turned + ladder.bent), "most bent": np.argmax(ladder.bent),
              "most turned": np.argmax(ladder.turned)}
    return plots.ladder_panels([panel(word, n) for word, n in places.items()])


panels() if K == 2 else print(f"A picture takes K = 2, and here K = {K}.")

# %% [markdown]
# Grey holds 50, 90 and 99 % of the posterior, each line 90 % of a $q$. Where the posterior is an upright
# ellipse there is nothing to buy. A slanted one costs the diagonal family up to half a nat, which one more
# number, a correlation, buys back. What a Gaussian misses by its shape is less here, and the flow gets most
# of it, with many numbers and many nodes.

# %% [markdown]
# ## 2. A tighter bound
#
# Richer families make $Q$ fall by a better $q$. The importance-weighted bound (7.8) falls with the $q$ left
# as it is: instead of $-E[\log \omega]$ it takes the logarithm of an average of $k$ weights
# $\omega = p(x, z)/q(z|x)$,
#
# $$
# L_k = -E\left[\log \frac{1}{k} \sum_{s=1}^{k} \omega_{ns}\right],
# \qquad nlml_n \leq L_{k+1} \leq L_k \leq L_1 = Q_n
# $$
#
# It can be what training minimises. Points on a noisy spiral, $D = 2$, where one number $z$ says how far out
# one is; between two windings the posterior has two modes, and no Gaussian has.

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

print("trained by       nlml      L_k      L_1 = Q    L_k − nlml    Q − nlml")
for k in by_k:
    own, Q = L[k][sizes.index(k)], L[k][0]
    print(f"{f'L_{k}':10}{truth[k]:11.3f}{own:9.3f}{Q:13.3f}{own - truth[k]:14.3f}{Q - truth[k]:12.3f}")

# %%
fig, ax = plt.subplots(figsize=(7, 3.4))
for (k, values), colour, marker in zip(L.items(), ("#0072B2", "#E69F00", "#D55E00"), "os^"):
    ax.plot(sizes, values, f"{marker}-", color=colour, label=f"trained by $L_{{{k}}}$")
    ax.axhline(truth[k], color=colour, lw=1, ls="--")
ax.set(xscale="log", xlabel="k", ylabel="mean of $L_k$, nats")
ax.set_title("Training by $L_k$ lowers nlml (dashed) and raises Q, which is $L_1$", fontsize=11)
ax.set_xticks(sizes, sizes)
ax.minorticks_off()
ax.legend(frameon=False)
ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# From top to bottom of the table nlml falls: the model gets better. $Q$ of the same model gets worse, because
# the encoder has learnt another task. To be good for $L_k$ its $q$ has to *cover* the posterior, so that one
# of $k$ draws hits; to be good for $Q$ it must not stray.
#
# **The encoder's signal drowns.** As $k$ grows $L_k$ comes to depend on $\theta$ alone, so the gradient for
# $\phi$ goes to zero, and faster than its noise does: signal over noise falls as $k^{-1/2}$. The *doubly
# reparameterised* gradient (7.23) has the same expectation as the plain one (7.22), and its signal over noise
# grows as $k^{1/2}$. Both laws ask that the weights have a variance, so that $q$ is not much narrower than
# the posterior. We take a factor analysis, whose posterior is known, move $q$ by half a standard deviation,
# widen it by a half, and draw each gradient 2000 times:

# %%
line = datasets.linear_gaussian(n_cases=200, n_visible=5, n_latent=1, seed=seed).x
fa = FactorAnalysis(1).fit(line)
m, log_s = fa.infer(line[:1])[0]
R, ks = 2000, np.array([4, 16, 64, 256])
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
for estimator, label, colour in [("plain", "iwae", "#D55E00"), ("dreg", "iwae-dreg", "#0072B2")]:
    slope = np.polyfit(np.log(ks), np.log(ratio[estimator]), 1)[0]
    ax.loglog(ks, ratio[estimator], "o-", color=colour, label=f'"{label}": slope {slope:+.2f}')
ax.set(xlabel="k", ylabel="signal / noise")
ax.set_title("The encoder's signal drowns as $k^{-1/2}$, or stands out as $k^{1/2}$", fontsize=11)
ax.set_xticks(ks, ks)
ax.minorticks_off()
ax.legend(frameon=False)
ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %%
dreg = VAE(1, objective="iwae-dreg", n_samples=S, **options).fit(curve_train.x)
print(f"trained by {f'L_{S}':8}nlml, training   held out")
for title, model in [("iwae", by_k[S]), ("iwae-dreg", dreg)]:
    seen, new = (model.nlml(part.x, "grid").values.mean() for part in (curve_train, curve_new))
    print(f"{title:14}{seen:19.3f}{new:11.3f}")

# %% [markdown]
# With one number $z$ and so few draws the signal has not drowned yet, and both end within a hundredth of a
# nat or so.
#
# **A weight on the KL** is another thing that is done to $Q$: small in the first epochs, so that $z$ is used
# before it has to pay, and 1 in the end. It is a way of training and no bound (1.30). A weight that stays
# below 1 shows it: what is minimised ends *below* nlml. (Minimised: as seen by the optimiser in its last
# epoch, on its own draws.)

# %%
print("kl_weight         minimised        Q     nlml")
for title, weight in [("1", 1.0), ("WarmUp(50)", schedules.WarmUp(50)), ("½", 0.5)]:
    model = VAE(1, kl_weight=weight, **options).fit(curve_train.x)
    Q = model.bound(curve_train.x, n_samples=1024).mean()
    nlml = model.nlml(curve_train.x, "grid").values.mean()
    print(f"{title:15}{model.q_path_[-1]:12.3f}{Q:9.3f}{nlml:9.3f}")

# %% [markdown]
# ## 3. Draws instead of means
#
# `draw` gives draws of $z$ given $x$: exact ones where the posterior is Gaussian, else draws of $q$ that are
# kept in proportion to their weights $\omega$. Of the digits of section 1 we take the one with the largest
# amortisation gap: its posterior's mean and standard deviations by a sum over a lattice, by 4000 such draws,
# and by 4000 draws of the network's $q$.

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
        ax.plot(*found.z[:300, 0].T, ".", ms=3, color="#0072B2" if method == "importance" else "#D55E00")
        ax.set_title(titles[method], fontsize=9)
        ax.set_xlabel("$z_1$")
    axes[0].set_ylabel("$z_2$")
    figure.tight_layout()
    plt.show()


draws_over_posterior() if K == 2 else print(f"A picture takes K = 2, and here K = {K}.")

# %% [markdown]
# The candidates come from the network's $q$ after 20 E-steps, which has found the posterior. Weights cannot
# mend a $q$ that does not reach its tails: they would be missing, and a small effective sample size is the
# sign of it.
#
# **Multiple imputation.** A table with holes that is filled with means looks more certain than it is.
# `impute(X, m)` gives $m$ tables. In each the hole holds a draw given the observed cells, noise included
# (7.21). If they are honest, then the middle 90 % of the draws hold the hidden value in 90 % of the cells.
# For factor analysis there is a second road, the conditional Gaussian of $N(b, W^\top W + \Psi)$.

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
# What is computed from each table is pooled by Rubin's rules: its mean, with the mean of the squared standard
# errors and $1 + 1/m$ times the variance between tables. Here for the mean of a column:

# %%
m, column = 20, tables[:20, :, 0]                                  # (m, N)
t, v = column.mean(axis=1), column.var(axis=1, ddof=1) / len(whole)
pooled = np.sqrt(v.mean() + (1 + 1 / m) * t.var(ddof=1))

print("column 0                     s.d.     mean    its s.e.")
for title, values in [("nothing hidden", whole[:, 0]), ("filled with means", means[:, 0])]:
    sd = values.std(ddof=1)
    print(f"{title:24}{sd:9.4f}{values.mean():9.4f}{sd / len(whole) ** 0.5:11.4f}")
print(f"{f'{m} tables, pooled':24}{column.std(axis=1, ddof=1).mean():9.4f}{t.mean():9.4f}{pooled:11.4f}")

# %% [markdown]
# Filled with means the column varies too little, and the standard error is *smaller* than if nothing were
# hidden. Pooled, it is larger, as it has to be.

# %% [markdown]
# ## 4. Is q the posterior? Ask data of the model's own
#
# Draw $\tilde z$ from the prior and $\tilde x$ given $\tilde z$. Then $\tilde z$ is a draw of the posterior
# of $\tilde x$, and among 99 other draws of that posterior each rank is equally frequent (10.13). If they are
# draws of $q$ and the histogram is not flat, $q$ is not the posterior: ∪ where $q$ is too narrow, ∩ where it
# is too wide, a slope where it lies to one side. Four cases, of which we know the answer:

# %%
linear = datasets.linear_gaussian(n_cases=600, n_visible=8, n_latent=2, seed=seed).x
good = VAE(2, hidden=(), optimizer="lbfgs", nodes="sigma", random_state=seed).fit(linear)
hasty = VAE(2, hidden=(), epochs=2, random_state=seed).fit(linear)
checks = {
    "linear VAE,\nto the end": good.calibration(),
    "2 epochs": hasty.calibration(),
    "2 epochs,\nexact posterior": hasty.calibration(method="exact"),
    "digits VAE": digits_vae.calibration(),
}
print(f"{'':31}{'p':16}{'spread'}")
for title, found in checks.items():
    print(f"{title.replace(chr(10), ' '):30}", found.p_value, found.spread)

# %%
plots.rank_histograms(list(checks.items()))

# %% [markdown]
# A linear network that was trained to the end is exact (10.9), and its ranks are flat. After two epochs its
# ranks are piled up at the ends. The third row says who is at fault: it is the *same* model, with its exact
# posterior in place of the network's $q$. So the decoder makes data as it should, and the network does not
# know them. The digits' network was trained until held-out data had nothing to gain, and is much too sure of
# itself all the same. The test needs no grid and no closed form. But it speaks only of data as the model
# makes them.

# %% [markdown]
# ## 5. What factor analysts expect
#
# They often have no data, only a published matrix. Six tests of ability, 112 people (Smith & Stanley 1983; R
# calls it `ability.cov`): general, picture, blocks, maze, reading, vocabulary.

# %%
ability = np.array([
    [24.641, 5.991, 33.520, 6.023, 20.755, 29.701],
    [5.991, 6.700, 18.137, 1.782, 4.936, 7.204],
    [33.520, 18.137, 149.831, 19.424, 31.430, 50.753],
    [6.023, 1.782, 19.424, 12.711, 4.757, 9.075],
    [20.755, 4.936, 31.430, 4.757, 52.604, 66.762],
    [29.701, 7.204, 50.753, 9.075, 66.762, 135.292],
])
sd = np.sqrt(np.diag(ability))
fa = FactorAnalysis(2).fit_covariance(ability / np.outer(sd, sd), n_cases=112)
print(fa.summary("varimax"))

# %% [markdown]
# The rows are numbered in that order, from 0. After the rotation reading and vocabulary (4, 5) load on one
# factor, blocks and pictures (2, 1) on the other. Loadings, uniquenesses and χ² are those that R's `factanal`
# prints. $p(x)$ knows nothing of a rotation: $W^\top W$ is what it was. A diagonal $q$ does know: the
# canonical axes are those for which it is exact, and turning away from them costs it the same number of nats
# for every $x$ (2.10).

# %%
turned = fa.rotate("varimax")
change = np.abs(turned.loadings @ turned.loadings.T - fa.loadings_ @ fa.loadings_.T).max()
print(f"WᵀW moved by {change:.0e}; Q of a diagonal q rises by {turned.diagonal_gap:.4f} nats")
oblique = fa.rotate("promax")
print(f"promax lets the factors correlate, by {oblique.correlations[0, 1]:.3f}")

# %% [markdown]
# How many factors? For data that were made by three, BIC finds three. The likelihood alone would take ever
# more.

# %%
selection = select_n_components(table[:500], range(1, 7))
print(selection)
selection.figure()

# %% [markdown]
# ## 6. Discrete and continuous under one bound
#
# A mixture of factor analysers has two latent variables: which component, and where on its plane.
#
# $$
# p(x) = \sum_j \pi_j\thinspace N(x;\thinspace b_j,\thinspace W_j^\top W_j + \Psi)
# $$
#
# $q(j, z|x)$ can be exact in both, so EM ends with $Q = nlml$, as for one factor analyser. Some short lines
# are nearly a curve; in the picture a line is as thick as its component is frequent:

# %%
thin, thin_new = datasets.split(datasets.spiral(n_cases=n_points, seed=seed))    # a third of the noise's s.d.
print("components     nlml, training   held out    Q − nlml    EM steps")
for n in sorted({1, J // 2, J} - {0}):
    mixture = MixtureOfFactorAnalysers(n, n_latent=1, tol=1e-6, random_state=seed).fit(thin.x)
    seen, new = mixture.nlml(thin.x).values, mixture.nlml(thin_new.x).values
    gap = np.abs(mixture.bound(thin.x) - seen).max()
    print(f"{n:10}{seen.mean():19.3f}{new.mean():11.3f}{gap:12.0e}{mixture.n_iter_:12}")

# %%
fig, ax = plt.subplots(figsize=(5, 4.4))
of = mixture.infer(thin.x).argmax(axis=1)                          # (N,) each point's most probable component
for j in range(J):
    ax.scatter(*thin.x[of == j].T, marker=f"${j}$", s=16, lw=0.2, color=plots.COLOURS[j % 8])
for weight, b, W in zip(mixture.weights_, mixture.means_, mixture.components_):
    ax.plot(*(b + np.outer([-1.7, 1.7], W[0])).T, "k-", lw=0.5 + 10 * weight, alpha=0.5)
ax.set(xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
ax.set_title(f"{J} factor analysers follow the spiral; a point\nis the number of its most probable one", fontsize=11)
ax.spines[["top", "right"]].set_visible(False)
plt.show()


# %% [markdown]
# ## 7. Keep it
#
# A model is saved as plain arrays, without a pickle, and comes back to the same bits. A fit with a
# `checkpoint` that is broken off goes on where it stood, and ends as if it had never stopped.

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
# 2. *Too wide.* Double $s$ of the linear network that was trained to the end, and rank again. Which shape
#    will the histogram take? (`calibration` takes no $\phi$; `draw` does, and `teachvae.calibration` counts.)
# 3. *How many tables?* Pool 2, 5, 20, 100 and 400 of them. By how much does the standard error still move?

# %% [markdown] summary="A solution to the first" tags=["solution"]
# The approximation gap falls by the rung, 0.05 nats. The amortisation gap stays a hundred times as large: a
# network that names the wrong place does not gain by naming it with a correlation.

# %% tags=["solution"]
for posterior in ("diagonal", "full"):
    vae = VAE(K, hidden=hidden, posterior=posterior, learning_rate=1e-2, epochs=400, random_state=seed)
    g = vae.fit(x, validation=others, patience=20).gaps(held_out.x[:100])
    print(posterior, g.nlml.mean(), g.approximation.mean(), g.amortisation.mean())

# %% [markdown] summary="A solution to the second" tags=["solution"]
# ∩: $\tilde z$ lies in the middle of draws that reach too far on both sides, and the spread falls well below
# 1.

# %% tags=["solution"]
rng = np.random.default_rng(seed)
z = good.prior_codes(1000, rng)
made = good.decode(z) + np.sqrt(good.noise_variance_) * rng.standard_normal((1000, 8))
phi = good.encode(made) + [0, 0, np.log(2), np.log(2)]
ranks = teachvae.calibration.ranks(z, good.draw(made, 99, "q", phi=phi, random_state=rng).z)
print(teachvae.calibration.calibration(ranks, 99).spread)

# %% [markdown] summary="A solution to the third" tags=["solution"]
# By no more than a few per cent. With a quarter of the cells hidden, the variance between tables is a small
# part of the whole.

# %% tags=["solution"]
for m in (2, 5, 20, 100, 400):
    t, v = tables[:m, :, 0].mean(axis=1), tables[:m, :, 0].var(axis=1, ddof=1) / len(whole)
    print(m, np.sqrt(v.mean() + (1 + 1 / m) * t.var(ddof=1)))
