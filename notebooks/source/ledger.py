# %% [markdown]
# # The ledger: where every nat of the bound goes
#
# We train a VAE by minimising an upper bound $Q_n$ on what we want, the negative log marginal likelihood
# (NLML) of data case $n$. When training ends, $Q_n$ is a number in nats. How much of it is the model's, and
# how much is only the price of our approximations?
#
# With $K = 2$ latent variables this question has an answer to many digits, because $\int p(x_n, z)\thinspace dz$ is an
# integral over a plane. So we can keep a ledger for every data case, and check each entry by a second road.
# On the way we meet the methods that estimate the NLML when there is no plane to sum over, and see how each
# of them fails.
#
# A number in parentheses leads to its equation in [derivations/equations.md](../derivations/equations.md).
# The model, the bound and its sign are introduced in [three-routes.ipynb](three-routes.ipynb).
#
# First the settings. Change them and run all cells again; what the words say of results, they say of these.

# %%
K = 2                 # latent variables; beyond 2 there is no plane to sum over, and estimates take its place
hidden = (64, 64)     # widths of the decoder's hidden layers, and of the network's
epochs = 300
cases = 200           # of each part of the data, on which the gaps are measured
S = 1000              # draws of importance sampling
seed = 0

# %%
import warnings

import matplotlib.pyplot as plt
import numpy as np

from teachvae import VAE, FactorAnalysis, ais, bound, datasets, gaps, gradient_estimators, iwae, nlml
from teachvae import infer, linear_gaussian, plots
from teachvae.posteriors import FullGaussian

plt.rcParams["figure.dpi"] = 120
plt.switch_backend(plt.get_backend())            # from here on a figure as the last line of a cell is shown
np.set_printoptions(precision=4, suppress=True)
warnings.filterwarnings("ignore", message="training ended after")  # before Q came to rest, as the text says

# %% [markdown]
# ## 1. Data and two models
#
# The data are 8×8 handwritten digits, $D = 64$. Noise within each grey level makes the pixels continuous, so
# that a density is a sensible model of them. A fifth of the cases is held out. We fit a VAE with two hidden
# layers, and factor analysis as a model whose posterior is known exactly. The VAE's training ends while $Q$
# of its training data still falls. The warning that says so is switched off above; the last exercise asks
# whether to go on. All that follows is measured on the first cases of each part.

# %%
train, held_out = datasets.split(datasets.digits())


def progress(epoch, epochs, Q):
    """Said while the network learns."""
    if epoch % 100 == 0:
        print(f"epoch {epoch} of {epochs}: Q = {Q:.3f}")


vae = VAE(K, hidden=hidden, epochs=epochs, random_state=seed).fit(train.x, progress=progress)
fa = FactorAnalysis(K, random_state=seed).fit(train.x)

parts = {"training": train.x[:cases], "held out": held_out.x[:cases]}
print(f"{len(train.x)} training and {len(held_out.x)} held-out cases, D = {train.x.shape[1]}, K = {K}")
print(f"gaps are measured on {len(parts['training'])} and {len(parts['held out'])} of them")
print(f"VAE: mean Q of the last epoch {vae.q_path_[-1]:.3f}")
print(f"factor analysis: mean NLML {fa.nlml_path_[-1]:.3f}")

# %% [markdown]
# Both numbers are negative, and that is no mistake: they are minus log densities, and a density may be larger
# than one. Lower is better.

# %% [markdown]
# ## 2. The bound and its two gaps
#
# What $Q_n$ misses is a Kullback-Leibler divergence (1.6):
#
# $$
# Q_n(\phi_n) = nlml_n + KL\left(q(z|\phi_n) \Vert p(z|x_n)\right)
# $$
#
# It can be large for two reasons. The family of $q$ may not hold anything close to the posterior: the
# *approximation gap*. Or it does, and the network named another member: the *amortisation gap*. The first has
# two parts again, since a diagonal Gaussian can miss by its shape and by its axes. With $q^{full}$ the best
# Gaussian and $q^{opt}$ the best diagonal one, the ledger is (10.1):
#
# $$
# Q_n = nlml_n +
# \underbrace{Q_n(q^{full}) - nlml_n}_ {\text{not Gaussian}} +
# \underbrace{Q_n(q^{opt}) - Q_n(q^{full})}_ {\text{diagonal}} +
# \underbrace{Q_n(\phi_n) - Q_n(q^{opt})}_ {\text{amortisation}}
# $$
#
# `gaps` measures each term on its own: the NLML by a sum over a grid (7.3), each $Q_n$ by Gauss-Hermite
# quadrature (10.5), the best $q$ by a search from many starts. For factor analysis all of them are closed
# forms. Nothing is clipped at zero.

# %%
ledgers = {}
for name, model in [("VAE", vae), ("factor analysis", fa)]:
    for part, x in parts.items():
        g = ledgers[f"{name}, {part}"] = model.gaps(x, random_state=seed)
        print(f"{name}, {part}: measured, NLML by method {g.method!r}")

print(f"\n{'':27}{'NLML':>9} +{'not Gaussian':>14} +{'diagonal':>10} +{'amortisation':>14} ={'Q':>10}")
for title, g in ledgers.items():
    print(f"{title:27}{g.nlml.mean():9.3f}  {g.not_gaussian.mean():z14.3f}  {g.diagonal.mean():z10.3f}  "
          f"{g.amortisation.mean():z14.3f}  {g.q_used.mean():10.3f}")

print()
for title in ("VAE, training", "VAE, held out"):
    g = ledgers[title]
    smallest = min(share.min() for share in (g.not_gaussian, g.diagonal, g.amortisation))
    error = max(g.approximation_error.max(), g.amortisation_error.max())
    print(f"{title}: smallest share of a case {smallest:.1e}, largest error of a share {error:.1e}")


# %%
def shares(g):
    means = {"not Gaussian": g.not_gaussian, "diagonal": g.diagonal, "amortisation": g.amortisation}
    return {name: values.mean() for name, values in means.items()}


plots.ledger_bars([(title, shares(g)) for title, g in ledgers.items()])

# %% [markdown]
# Read the two lines of the VAE against each other. The shares of the family, blue and yellow, hardly differ
# between training and held-out cases. The share of the network is several times as large on cases that it has
# not seen. **The recognition network over-fits.** It names good $q_n$ for cases that it was trained on, and
# worse ones for others.
#
# So the rise of $Q$ from training to held-out data has two causes, which $Q$ alone does not tell apart: the
# model is worse there (NLML), and inference is worse there (amortisation).

# %%
seen, new = ledgers["VAE, training"], ledgers["VAE, held out"]
rise = new.q_used.mean() - seen.q_used.mean()
for title, difference in [
    ("the model, NLML", new.nlml.mean() - seen.nlml.mean()),
    ("the family of q", new.approximation.mean() - seen.approximation.mean()),
    ("the network, amortisation", new.amortisation.mean() - seen.amortisation.mean()),
]:
    print(f"{title:26}{difference:8.3f} nats, {100 * difference / rise:5.1f} % of the rise of Q")

# %%
plots.gap_histograms([
    ("approximation gap", {"training": seen.approximation, "held out": new.approximation}),
    ("amortisation gap", {"training": seen.amortisation, "held out": new.amortisation}),
])

# %% [markdown]
# The axis is logarithmic. On the left both parts of the data have much the same histogram. On the right the
# held-out cases are shifted, and they have a long tail: a few cases for which the network is badly wrong pull
# the mean far above the median.

# %% [markdown]
# ## 3. The certificate
#
# Equation (1.6) can be tested. `kl_to_posterior` computes the divergence without $Q$ and without the grid: it
# sums $\log q - \log p(z|x_n)$ over a lattice around $q_n$, and normalises the posterior by a sum of its own
# over another lattice (10.7). That must equal $Q_n - nlml_n$, which came from Gauss-Hermite quadrature and
# the grid. Twenty cases of each part are enough to see it.

# %%
for title in ("VAE, training", "VAE, held out"):
    if K > 2:
        print(f"{title}: with K = {K} both sides are estimates, and would agree within their errors only")
        continue
    x, g = parts[title.removeprefix("VAE, ")][:20], ledgers[title]
    kl, difference = vae.kl_to_posterior(x), (g.q_used - g.nlml)[:20]
    print(f"{title}: mean KL {kl.mean():.6f}, mean Q − NLML {difference.mean():.6f}, "
          f"largest disagreement of a case {np.abs(kl - difference).max():.1e} nats")

x = parts["held out"]
print(f"factor analysis, held out: largest KL {fa.kl_to_posterior(x).max():.1e}, by the closed form (10.6)")

# %% [markdown]
# A certificate of this kind finds mistakes that a gradient check cannot. If $\exp(\log \sigma^2)$ is taken
# for a standard deviation in the sample and for a variance in the KL, the gradients still belong to the
# value. The value is then no bound, and the two columns above part.

# %% [markdown]
# ## 4. See it
#
# With $K = 2$ the posterior is a picture. We take the held-out cases with the least, the median and the
# largest gap, evaluate $\log p(x_n, z)$ (1.2) on a lattice, and draw the three Gaussians of the ledger over
# it. Grey are the regions that hold 50, 90 and 99 % of the posterior, and each ellipse holds 90 % of its $q$.

# %%
def picture(word, n):
    x, phi = parts["held out"][n : n + 1], vae.encode(parts["held out"][n : n + 1])
    family, full = vae.model_.posterior, FullGaussian(2)
    gaussians = {
        "q in use": (family, phi),
        "best diagonal q": (family, new.phi_optimal[n : n + 1]),
        "best Gaussian q": (full, new.phi_full[n : n + 1]),
    }
    gaussians = {label: (q.mean(p)[0], q.covariance(p)[0]) for label, (q, p) in gaussians.items()}
    title = f"{word}: {new.approximation[n]:.3f} + {new.amortisation[n]:.3f} nats"
    return plots.posterior_panel(title, vae.model_, vae.theta_, x, gaussians)


def pictures():
    order = np.argsort(new.q_used - new.nlml)
    places = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
    return plots.posterior_panels([("VAE", [picture(word, n) for word, n in places.items()])])


pictures() if K == 2 else print(f"A picture takes K = 2, and here K = {K}.")

# %% [markdown]
# Above each panel stand the approximation gap and the amortisation gap. The best diagonal and the best full
# Gaussian lie on the posterior, where a Gaussian can. In the median and the worst case the network's $q$ is
# about as narrow as theirs, and beside it: it is sure of itself where it is wrong. As both are narrow, a miss
# that is small on the scale of the prior costs many nats.

# %% [markdown]
# ## 5. Pay the amortisation gap back
#
# If only $\phi_n$ is at fault, it can be improved case by case, with the model left as it is. Semi-amortised
# inference takes what the network says as a start and does $k$ E-steps from there (Kim et al. 2018). `refine`
# does that by quasi-Newton steps (6.3) with an expectation over 14×14 Gauss-Hermite nodes (other nodes where
# $K$ is not 2).

# %%
x, steps = parts["held out"], (0, 1, 2, 5, 10, 20)
_, (eta, weights) = infer.coarse_and_fine(vae.model_.posterior, 64 + 4 * K, x)    # that refine works with
mean_Q, start = [], new.q_used
start_on_nodes = bound.forward(vae.model_, vae.theta_, vae.encode(x), x, eta, weights=weights)[0]
heads = f"{'largest rise of a Q_n':>25}{'on its own nodes':>18}{'not settled':>13}"
print(f"{'k':>3}{'mean Q':>10}{'to pay':>9}{heads}")
for k in steps:
    phi = vae.refine(x, n_steps=k)
    with warnings.catch_warnings(record=True) as caught:             # a QuadratureWarning names the cases
        warnings.simplefilter("always")
        Q = vae.bound(x, phi=phi)
    unsettled = sum(len(getattr(warning.message, "places", ())) for warning in caught)
    on_nodes = bound.forward(vae.model_, vae.theta_, phi, x, eta, weights=weights)[0]
    mean_Q.append(Q.mean())
    print(f"{k:3}{Q.mean():10.3f}{(Q - new.q_optimal).mean():9.3f}"
          f"{max(0, (Q - start).max()):25.6f}{max(0, (on_nodes - start_on_nodes).max()):18.6f}{unsettled:13}")

stuck = Q - new.q_optimal > 0.1
print(f"\nafter 20 steps {stuck.sum()} of {len(x)} cases are more than 0.1 nats above their best q; "
      f"the mean of the others is {(Q - new.q_optimal)[~stuck].mean():.6f}")

# %%
fig, ax = plt.subplots(figsize=(7, 3.4))
ax.plot(range(len(steps)), mean_Q, "o-", color="#D55E00", label="Q after k E-steps from the network's φ")
ax.axhline(new.q_optimal.mean(), color="#0072B2", lw=1.2, label="Q at the best diagonal q")
ax.axhline(new.nlml.mean(), color="#000000", lw=1.2, ls="--", label="NLML")
ax.set_xticks(range(len(steps)), steps)
ax.set(xlabel="E-steps k", ylabel="mean nats per held-out case")
ax.legend(frameon=False)
ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# The first few steps pay most of the debt. Three things are worth a second look.
#
# *No $Q_n$ is raised*, on the nodes that the steps work with: that column is zero by construction. With few
# nodes a step may still raise the true $Q_n$, because a few nodes see only a part of a wide $q$. "No step
# raises the bound" is a statement about the bound that was computed.
#
# *The line ends above the best.* Almost all cases arrive. For a few, $Q_n$ has several minima, the network's
# start leads into a worse one, and more steps do not help. This is why the search inside `gaps` starts from
# many points.
#
# *A few $Q_n$ are not settled.* On its way a step can leave a $q$ so wide that the finest rules of quadrature
# still differ. `bound` then warns with a `QuadratureWarning`, which says for which cases and by how much at
# the most; the last column counts them.

# %% [markdown]
# ## 6. What is the NLML when there is no grid?
#
# A grid needs about $100^K$ points. For large $K$ the integral has to be estimated, and each way of doing so
# has its own way to fail. On 30 held-out cases we hold them against the grid (for $K \gt 2$ against importance
# sampling from the best Gaussian $q$, the best that we have there).
#
# | road | idea | |
# |---|---|---|
# | prior | mean of $p(x_n \mid z_s)$ over $z_s \sim p(z)$ | (7.7) |
# | importance | mean of $\omega_{ns} = p(x_n, z_s) / q(z_s \mid \phi_n)$, $z_s \sim q(z \mid \phi_n)$ | (7.1) |
# | laplace | a Gaussian around the mode of $p(x_n, z)$ | (7.9) |
# | ais | from the prior to the posterior in 500 small steps | (7.11) |
#
# The standard error is that of the logarithm (7.2). The effective sample size says how many equal weights the
# unequal ones are worth, and the two are one statement (7.6):
#
# $$
# S^{eff}_ n = \frac{\left(\sum_s \omega_{ns}\right)^2}{\sum_s \omega_{ns}^2}, \qquad
# se_n^2 = \frac{S / S^{eff}_ n - 1}{S - 1} \leq 1
# $$

# %%
few, truth = parts["held out"][:30], new.nlml[:30]                 # by the grid where K ≤ 2
warnings.simplefilter("ignore", nlml.FewDrawsWarning)                # its cases are counted in the table
roads = {
    "prior, 10 000 draws": lambda: vae.nlml(few, "prior"),
    "importance, network's q": lambda: vae.nlml(few, "importance", S, phi=vae.encode(few)),
    "importance, best q": lambda: vae.nlml(few, "importance", S, phi=new.phi_optimal[:30]),
    "laplace": lambda: vae.nlml(few, "laplace"),
    "ais, 16 chains": lambda: vae.nlml(few, "ais"),
}
print(f"{'':25}{'mean':>9}{'largest':>10}{'mean stated':>13}{'no error':>10}{'more than':>14}{'median':>9}")
print(f"{'':25}{'error':>9}{'error':>10}{'std error':>13}{'stated':>10}{'3 errors off':>14}{'S_eff':>9}")
estimates = {}
for title, road in roads.items():
    r = estimates[title] = road()
    error = r.values - truth
    line = f"{title:25}{error.mean():9.3f}{np.abs(error).max():10.3f}"
    if r.standard_error is None:
        print(line + f"{'none':>13}{len(few):10}{'–':>14}{'–':>9}")
    else:
        off, stated = (np.abs(error) > 3 * r.standard_error).sum(), np.isfinite(r.standard_error)
        print(line + f"{r.standard_error[stated].mean():13.3f}{(~stated).sum():10}{off:14}"
              f"{np.median(r.effective_sample_size):9.1f}")
r = estimates["importance, network's q"]
n = np.abs(r.values - truth).argmax()
print(f"\nworst case of the network's q: error {r.values[n] - truth[n]:.2f}, "
      f"stated error {r.standard_error[n]:.2f}, S_eff {r.effective_sample_size[n]:.1f} of {S}")
print(f"error of the {new.method} itself on these cases: {new.nlml_error[:30].max():.1e} nats")

# %% [markdown]
# - **The prior** asks no encoder, so it cannot be misled by one. In two dimensions 10 000 draws are not
#   hopeless. But where the posterior is small the mean hangs on the single best draw. The number of draws
#   needed grows like the volume of the prior over that of the posterior, which is exponential in $K$.
# - **Importance sampling from the network's $q$** does worse than the prior here. A $q$ that is too narrow
#   and in the wrong place never draws where the mass is. *The standard error does not notice.* It is computed
#   from the weights that were met, and by (7.6) it cannot exceed one nat, however wrong the value is. So
#   where a few draws carry the value none is stated (7.15): it is infinite, a `FewDrawsWarning` names the
#   case, and the table counts it. By how much the value is off nobody can say.
# - **The same sampler from the best $q$** is excellent. What failed was not importance sampling, but the
#   network.
# - **Laplace** is cheap, and good where the posterior is close to a Gaussian around one mode. It is neither a
#   bound nor of known error, so without the grid we would not know.
# - **Annealed importance sampling** needs no $q$ and finds its own way. Its price is work, and where it
#   states an error, the error is of about that size. With few chains the value tends to be too high, since
#   $-\log$ of a noisy mean is.
#
# The importance-weighted bound (7.8) shows how slowly a bad $q$ is repaired by more samples:
#
# $$
# L_k = -E\left[\log \frac{1}{k} \sum_{s=1}^{k} \omega_{ns}\right],
# \qquad L_1 = Q_n, \qquad nlml_n \leq L_{k+1} \leq L_k
# $$

# %%
sizes = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
fig, ax = plt.subplots(figsize=(7, 3.4))
for label, phi, colour in [
    ("the network's q", vae.encode(few), "#D55E00"),
    ("the best diagonal q", new.phi_optimal[:30], "#0072B2"),
]:
    L = iwae.iwae(vae.model_, vae.theta_, phi, few, np.random.default_rng(seed), sizes=sizes)
    above = L.values.mean(axis=1) - truth.mean()
    ax.plot(sizes, above, "o-", color=colour, label=label)
    print(f"{label:20}", "  ".join(f"L_{k} = NLML + {above[sizes.index(k)]:.3f}" for k in (1, 50, 5000)))
ax.axhline(0, color="#000000", lw=1.2, ls="--", label=f"NLML by the {new.method}")
ax.set(xscale="log", xlabel="k", ylabel="mean of $L_k$ − NLML, nats")
ax.legend(frameon=False)
ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# From the best $q$ a handful of samples is enough. From the network's $q$ the line falls roughly with the
# logarithm of $k$, and thousands of samples leave nats over. A published "NLL by importance sampling with
# 5000 samples" is a statement about the encoder, too.

# %% [markdown]
# ## 7. Caught between two runs
#
# Is there a check when there is no grid? For *simulated* data there is. If we draw $z$, then $x$ given $z$,
# we own an exact sample of the posterior of $x$. Annealing forward from the prior gives a value that is too
# high on average, and annealing backward from that $z$ one that is too low on average (7.14):
#
# $$
# E[\text{backward}] \leq nlml_n \leq E[\text{forward}]
# $$
#
# We take 8 simulated cases, few temperatures so that it stays quick, and widen the interval by two standard
# errors over the chains on both sides.

# %%
rng = np.random.default_rng(seed)
caught = ais.sandwich(vae.model_, vae.theta_, 8, rng, vae.backend_, n_temperatures=200)
low, high = caught.interval()
road = "grid" if K <= 2 else "importance"
referee = vae.nlml(caught.x, "grid" if K <= 2 else None).values
print(f"{'from':>10}{'backward':>10}{road:>12}{'forward':>10}{'to':>10}")
for row in zip(low, caught.lower.values, referee, caught.upper.values, high):
    print("".join(f"{value:{width}.2f}" for value, width in zip(row, (10, 10, 12, 10, 10))))
print(f"{road} inside the interval: {((low <= referee) & (referee <= high)).sum()} of {len(referee)}; "
      f"mean backward − {road} {np.mean(caught.lower.values - referee):.3f}, "
      f"mean forward − {road} {np.mean(caught.upper.values - referee):.3f}")

# %% [markdown]
# The middle columns need not be in order in every row: "above" and "below" hold on average over the noise,
# and all cases share their noise, so that they tend to be off to the same side. The backward chains of a case
# all start from one $z$, and what another $z$ would have given does not show in their spread. Where a few of
# the chains carry all the weight no error is stated (7.15), and the interval is open on that side: it holds
# the value without saying anything. More temperatures narrow the interval. And the method speaks of data that
# the model made, which may be easier than real ones.

# %% [markdown]
# ## 8. The linear model: where the ledger is known in advance
#
# With a linear decoder, $f(z) = zW + b$, every entry has a closed form. The posterior is Gaussian with
# precision $M = I + W \Psi^{-1} W^T$ (2.2), so "not Gaussian" is zero. Its mean is linear in $x$ (2.3), so a
# linear encoder can be exact, for held-out cases as well: it has found a rule, not a table (10.9).

# %%
linear = VAE(K, hidden=(), optimizer="lbfgs", nodes="sigma", random_state=seed).fit(train.x)
g = linear.gaps(parts["held out"])
print("linear VAE, held out, largest of a case:")
print(f"  amortisation gap {g.amortisation.max():.1e}, approximation gap {g.approximation.max():.1e} nats")

# %% [markdown]
# Why is the approximation gap zero, too, with a *diagonal* $q$? Because training has turned the loadings
# until $M$ is diagonal. Turn the first two by 45° and $p(x)$ stays as it was, but the best diagonal $q$ now
# misses, by the same number for every $x$ (2.10):
#
# $$
# Q_n - nlml_n = \frac{1}{2} \left( \sum_k \log M_{kk} - \log |M| \right)
# $$

# %%
def turn(R):
    """The ledger of factor analysis with loadings R W, held out, and what formula (2.10) says of them."""
    W, psi, x = R @ fa.components_, fa.noise_variance_, parts["held out"]
    theta = {"decoder": [{"W": W, "b": fa.mean_}], "likelihood": fa.theta_["likelihood"]}
    phi = infer.closed_form(fa.model_, theta, x)
    g = gaps.gaps(fa.model_, theta, phi, x, np.random.default_rng(seed))
    return g, linear_gaussian.mean_field_gap(W, psi)


if K == 1:
    print("With K = 1 there is nothing to turn.")
else:
    R = np.eye(K)
    R[:2, :2] = np.array([[1, 1], [-1, 1]]) / np.sqrt(2)
    g, formula = turn(R)
    print(f"NLML moved by at most {np.abs(g.nlml - fa.nlml(parts['held out']).values).max():.1e}")
    print(f"Q − NLML from {g.approximation.min():.10f} to {g.approximation.max():.10f}, "
          f"all of it 'diagonal': {g.diagonal.mean():.10f}")
    print(f"the formula:  {formula:.10f}")

# %% [markdown]
# **Active units.** A latent variable that the data do not move is called collapsed. In a linear model with a
# fixed noise variance $\Psi = \sigma^2 I$ the cause is known: exactly the directions in which the data vary
# by more than $\sigma^2$ are used (10.10), however many latent variables there are,
#
# $$
# \text{active} = \left| \lbrace i : \lambda_i \gt \sigma^2 \rbrace \right|,
# \qquad Var_n[m_{nk}] = 1 - \frac{\sigma^2}{\lambda_k}
# $$
#
# with $\lambda_i$ the eigenvalues of the data's covariance. We offer six latent variables and put $\sigma^2$
# half way between the third and the fourth eigenvalue.

# %%
eigenvalues = np.linalg.eigvalsh(np.cov(train.x.T, bias=True))[::-1]
sigma2 = float(eigenvalues[2:4].mean())
six = VAE(6, hidden=(), noise=sigma2, optimizer="lbfgs", nodes="sigma", random_state=seed).fit(train.x)

print(f"σ² = {sigma2:.4f}; active units: {six.active_units(train.x).sum()} of 6")
print("eigenvalues   ", eigenvalues[:6])
print("1 − σ²/λ, or 0", np.maximum(0, 1 - sigma2 / eigenvalues[:6]))
print("Var of means  ", np.sort(six.transform(train.x).var(axis=0))[::-1])

# %% [markdown]
# The three others are at rest, and neither encoder, KL nor optimiser is to blame. The noise explains those
# directions already.

# %% [markdown]
# ## 9. Why no gradient goes through sampling
#
# Training moved $\phi_n$ by a gradient of $Q_n$, which is an expectation under $q(z|\phi_n)$. So $\phi_n$
# stands in it twice: in what is averaged, and in the density that decides where $z$ falls. With
# $c = \log q(z|\phi) - \log p(x, z)$,
#
# $$
# \frac{\partial}{\partial \phi} \int q(z|\phi)\thinspace c(z, \phi)\thinspace dz =
# \underbrace{E_q\left[\frac{\partial c}{\partial \phi}\right]}_{0} +
# \text{what the motion of } q \text{ adds}
# $$
#
# A sample that has been drawn is a number, and has forgotten the $\phi$ it came from. The *naive* estimator
# (1.24) differentiates what is still in sight, and gets the first term: zero plus noise. The *score function*
# (1.25) supplies the second term as $E_q[c\thinspace \partial \log q / \partial \phi]$, a *baseline* (1.26) takes the
# size of $c$ out of it, and *reparameterisation* (1.27) writes $z = T(\phi, \eta)$, so that the chain rule
# sees all. All of them on the same noise, for four training cases, against the exact gradient:

# %%
x = train.x[:4]
eta = np.random.default_rng(seed).standard_normal((2000, 4, K))
if K <= 2:
    print(gradient_estimators.compare(vae.model_, vae.theta_, vae.encode(x), x, eta))
else:
    print(f"The exact gradient is a sum over a plane, and here K = {K}.")

# %% [markdown]
# "error / exact" near 1 means that the whole gradient is missing: that is the naive estimator. "worst, in
# s.e." tells bias from noise: unbiased estimators stay at a few standard errors. Both naive estimators are
# far off, the one with the analytic KL (its gradient has no noise at all) infinitely so. The plain score
# function is unbiased, yet its variance is thousands of times that of reparameterisation, so its estimate
# from 2000 samples is of no use. The last estimator of the table leaves a term out of the reparameterised
# gradient that is zero on average (1.28), which saves variance where $q$ is close to the posterior.

# %% [markdown]
# ## To try
#
# 1. *Another family.* Fit `VAE(K, hidden=hidden, posterior="full")`. Which share of the ledger must vanish,
#    and does the largest share get smaller?
# 2. *Rescue the sampler.* Importance sampling from the network's $q$ failed because $q$ is too narrow.
#    Multiply all $s_n$ by 1, 2, 4 and 8 and measure the mean error again. Predict first what happens to
#    $L_1 = Q$, and what to the error with 1000 samples.
# 3. *When does the network start to over-fit?* Train for 50, 150 and 300 epochs and compare NLML and
#    amortisation gap on held-out cases. Would you stop early?

# %% [markdown] summary="A solution to the first" tags=["solution"]
# "Diagonal" is zero by definition, as the family is the full one. The amortisation gap stays the largest by
# far: a larger family gives the network more to say, and no reason to be right about new cases.

# %% tags=["solution"]
full = VAE(K, hidden=hidden, epochs=epochs, posterior="full", random_state=seed).fit(train.x)
for part, x in parts.items():
    g = full.gaps(x[:100])
    print(part, {name: round(float(value), 3) for name, value in shares(g).items()})

# %% [markdown] summary="A solution to the second" tags=["solution"]
# $Q$ gets worse with every factor, as more and more draws miss the posterior. The estimate gets better, as at
# last some of the 1000 hit it. Beyond the factor 2 the effective sample size falls: that is the price. A good
# $q$ for the bound and a good $q$ for importance sampling are different things: the latter must cover the
# posterior.

# %% tags=["solution"]
for factor in (1, 2, 4, 8):
    phi = vae.encode(few) + np.repeat([0, np.log(factor)], K)            # φ = [m | log s]
    r = vae.nlml(few, "importance", S, phi=phi)
    error = r.values - truth
    print(f"s × {factor}: Q − NLML {np.mean(vae.bound(few, phi=phi) - truth):9.2f}   "
          f"mean error {error.mean():6.3f}   largest {np.abs(error).max():7.3f}   "
          f"median S_eff {np.median(r.effective_sample_size):6.1f}")

# %% [markdown] summary="A solution to the third" tags=["solution"]
# From 150 to 300 epochs the held-out $Q$ hardly moves, and one might stop. The ledger says otherwise: the
# model still gains, and its network loses about as much. What should stop is the training of the network, or
# it should have help: the E-steps of section 5, or more data.

# %% tags=["solution"]
for n in (50, 150, 300):
    g = VAE(K, hidden=hidden, epochs=n, random_state=seed).fit(train.x).gaps(held_out.x[:100])
    print(f"{n:4} epochs: NLML {g.nlml.mean():8.3f}   amortisation {g.amortisation.mean():7.3f}   "
          f"Q {g.q_used.mean():8.3f}")
