# %% [markdown]
# # Three routes, one bound, one number
#
# There is one model, $p(z) = N(0, I)$ and $p(x|z)$ given by a decoder, and one bound on what we want but
# cannot have in general, the negative log marginal likelihood:
#
# $$
# Q_n = -E_{q_n}[\log p(x_n|z)] + KL(q_n \Vert p(z)) \geq -\log p(x_n)
# $$
#
# $q_n = q(z|\phi_n)$ stands in for the posterior of data case $n$. The three methods of the lecture differ
# in one thing only: **who fills in the table of** $\phi_n$.
#
# | | $\phi_n$ comes from |
# |---|---|
# | factor analysis by EM | a closed form |
# | variational EM | a table, one row per data case, improved by E-steps |
# | the VAE | a recognition network, $\phi_n = g_v(x_n)$ |
#
# With a linear decoder the posterior is Gaussian, so each of them can be exact. If they are right, all three
# must end on the same number. This notebook takes the bound apart on four data cases, checks a gradient,
# breaks one on purpose, and then runs the race. A number in parentheses leads to its equation in
# [derivations/equations.md](../derivations/equations.md).
#
# First the settings. Change them and run all cells again; what the words say of results, they say of these.

# %%
cases = 500      # of the data,
n_visible = 10   # their variables,
n_latent = 3     # and the latent variables that they are made from
K = 3            # latent variables of the models
hidden = ()      # widths of the decoder's hidden layers; (): a linear decoder
S = 5            # samples in the walk down the bound
seed = 0

# %%
import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import multivariate_normal

from teachvae import VAE, FactorAnalysis, Model, VariationalEM, bound, datasets, gradcheck, infer
from teachvae import layers, likelihoods
from teachvae.arrays.backend import get_backend

plt.rcParams["figure.dpi"] = 120
np.set_printoptions(precision=4, suppress=True)

# %% [markdown]
# ## The data
#
# They are made by the very model, $x = zW + b + \varepsilon$ with a linear decoder.

# %%
data = datasets.linear_gaussian(n_cases=cases, n_visible=n_visible, n_latent=n_latent, seed=seed)
x = data.x
print(f"{cases} data cases of {n_visible} variables, made from {n_latent} latent ones")

# %% [markdown]
# ## One walk down the bound
#
# A `Model` holds sizes; the arrays live in `theta`, which every function is handed. $\phi$ has a row
# $[m_n \thinspace |\thinspace \log s_n]$ per data case. The noise $\eta$ is an argument: nothing is drawn inside.

# %%
rng, D = np.random.default_rng(seed), n_visible
model = Model(layers.mlp(K, hidden, D), likelihoods.Gaussian(D), n_latent=K)
theta = model.init(rng, get_backend("numpy"))

few = x[:4]
phi = 0.3 * rng.standard_normal((4, 2 * K))     # four rows [m | log s], for now made up
eta = rng.standard_normal((S, 4, K))            # S samples for each of them

Q, cache = bound.forward(model, theta, phi, few, eta)
dphi, dtheta = bound.backward(model, theta, cache, np.ones(4))

print("Q     ", Q.shape, Q)
print("dphi  ", dphi.shape)
print("dW    ", dtheta["decoder"][-1]["W"].shape)
print("dPsi  ", dtheta["likelihood"]["log_psi"].shape)


# %% [markdown]
# `Q` has one value per data case, in nats, and `dphi` is $\partial \sum_n Q_n / \partial \phi$. Is it right?
# A gradient check compares it at every index with a central difference (8.1). The noise is held fixed.

# %%
def total(phi):
    return bound.forward(model, theta, phi, few, eta)[0].sum()


print(gradcheck.check(total, phi, dphi))

# %% [markdown]
# Now plant a mistake: forget that $\log s$ is what is learned, and take the gradient in $s$ for it,
# $\partial Q/\partial s = (\partial Q/\partial \log s)/s$. The checker says what kind of mistake it sees.

# %%
parts = {"m": phi[:, :K], "log_s": phi[:, K:]}


def total_of_parts(p):
    return total(np.concatenate([p["m"], p["log_s"]], axis=1))


wrong = {"m": dphi[:, :K], "log_s": dphi[:, K:] / np.exp(phi[:, K:])}
print(gradcheck.check(total_of_parts, parts, wrong))

# %% [markdown]
# ## Route one: a closed form
#
# With a linear decoder the posterior of every data case is known (2.3), and an E-step of factor analysis
# needs only the covariance of the data. Each M-step is a linear regression (2.11). Two additions to it, a
# wider model (2.24) and longer steps (2.26), spare most of the iterations. EM never raises the NLML (2.7).

# %%
fa = FactorAnalysis(K, random_state=seed).fit(x)
print(f"{fa.n_iter_} iterations, mean nlml {fa.nlml_path_[0]:.6f} → {fa.nlml_path_[-1]:.7f}")
print("largest rise in one iteration:", max(0.0, np.diff(fa.nlml_path_).max()))
print(f"largest gap Q − nlml of a data case: {np.abs(fa.bound(x) - fa.nlml(x).values).max():.1e}")

# %% [markdown]
# ## Route two: a table
#
# Variational EM keeps a row $\phi_n$ for every data case. $q$ is a product of marginals here (mean field), so
# it cannot follow a posterior whose axes are tilted. Then why is there no gap at the end? Loadings can be
# rotated without changing $p(x)$, and the bound is lowest where $W \Psi^{-1} W^T$ is diagonal: there the
# posterior *is* a product of marginals. Minimising Q turns the loadings: E- and M-steps by themselves would
# take more than a thousand rounds to do so, and after each M-step the best rotation is known in closed form
# (2.28).

# %%
vem = VariationalEM(K, hidden=hidden, random_state=seed).fit(x)
print(f"table {vem.phi_.shape}, {vem.n_iter_} rounds, mean Q {vem.q_path_[0]:.6f} → {vem.q_path_[-1]:.7f}")
if hidden:
    print("With hidden layers the decoder is no matrix: there is no W to turn, and Q keeps a gap.")
else:
    W, psi = vem.theta_["decoder"][0]["W"], vem.noise_variance_
    print("W Ψ⁻¹ Wᵀ at the end:")
    print((W / psi) @ W.T)

# %% [markdown]
# ## Route three: a recognition network
#
# The linear VAE learns a network $g_v$ that names $\phi_n$ from $x_n$ in one pass, together with
# $\theta$. The posterior mean is linear in $x$ and $s$ is the same for all, so a linear network can be
# exact too. We take L-BFGS and, for the expectation, the 2K sigma points (1.14), which make Q exact for a
# linear decoder: no sampling noise is left.

# %%
exact = {} if hidden else {"optimizer": "lbfgs", "nodes": "sigma"}    # for a network: Adam, and draws of η
vae = VAE(K, hidden=hidden, random_state=seed, **exact).fit(x)
rounds = "epochs" if hidden else "iterations"
print(f"{vae.n_iter_} {rounds}, mean Q {vae.q_path_[0]:.4f} → {vae.q_path_[-1]:.7f}")
print("φ of the first data case, by the network:    ", vae.encode(x[:1])[0])
if hidden:
    print("its best φ, by E-steps from there:           ", vae.refine(x[:1], n_steps=50)[0])
else:
    optimum = infer.closed_form(vae.model_, vae.theta_, x[:1])[0]
    print("its mean field optimum, by the closed form:  ", optimum)

# %% [markdown]
# ## One number

# %%
if hidden:
    print(f"With hidden = {hidden} the last two have decoders of their own, and gaps: three numbers.\n")
routes = {"factor analysis": fa, "variational EM": vem, "VAE": vae}
print(f"{'':26}{'mean Q':>14}{'mean nlml':>14}{'largest gap':>14}")
for title, route in routes.items():
    Q, nlml = route.bound(x), route.nlml(x).values
    print(f"{title:26}{Q.mean():14.7f}{nlml.mean():14.7f}{(Q - nlml).max():14.1e}")

paths = [
    ("factor analysis: nlml", fa.nlml_path_, "-"),
    ("variational EM: Q", vem.q_path_, "--"),
    ("VAE: Q", vae.q_path_, ":"),
]
best = min(path.min() for _, path, _ in paths)
fig, ax = plt.subplots(figsize=(7, 3.4))
for (title, path, style), colour in zip(paths, ("#0072B2", "#E69F00", "#000000")):
    ax.plot(np.arange(1, len(path) + 1), np.maximum(path - best, 1e-9), style, label=title, color=colour)
ax.set(xscale="log", yscale="log", xlabel="iteration", ylabel="nats above the optimum", ylim=(1e-9, 1e2))
ax.legend(frameon=False)
ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# And a fourth road to the same number: the marginal is a Gaussian with covariance $W^T W + \Psi$ (2.1), so
# SciPy can evaluate it, through the $D \times D$ matrix that our closed form never builds.

# %%
dense = -multivariate_normal(fa.mean_, fa.get_covariance()).logpdf(x)
print(f"scipy: {dense.mean():.7f}   largest difference: {np.abs(dense - fa.nlml(x).values).max():.1e}")


# %% [markdown]
# The models are the same, but their loadings are not: any rotation of $z$ explains the data equally well.
# What is determined is $W^T W$ and $\Psi$; and as Q is flat at its minimum, $10^{-8}$ nats leave $10^{-4}$
# there.

# %%
def covariance(route):
    W = route.theta_["decoder"][0]["W"]
    return W.T @ W + np.diag(route.noise_variance_)


if hidden:
    print("With hidden layers there are no loadings to compare.")
else:
    for title in ("variational EM", "VAE"):
        W = routes[title].theta_["decoder"][0]["W"]
        difference = np.abs(covariance(routes[title]) - covariance(fa)).max() / np.abs(covariance(fa)).max()
        print(f"{title:16} loadings differ by {np.abs(W - fa.components_).max():.2f}, "
              f"WᵀW + Ψ by {difference:.1e} of its size")

# %% [markdown]
# ## To try
#
# 1. Rotate the loadings of `fa` by 45° in the plane of the first two factors, keep Ψ, and compute the best
#    mean field Q. By how much does it miss the NLML, and is that the same for every data case?
# 2. Give the network less than it needs: what does the linear VAE lose if $g_v$ sees only the first five
#    variables?

# %% summary="A solution to the first" tags=["solution"]
from teachvae import infer, linear_gaussian

R = np.eye(K)
R[:2, :2] = np.array([[1, 1], [-1, 1]]) / np.sqrt(2)
W, psi, model = R @ fa.components_, fa.noise_variance_, fa.model_
turned = {"decoder": [{"W": W, "b": fa.mean_}], "likelihood": fa.theta_["likelihood"]}
phi = infer.closed_form(model, turned, x)
Q = linear_gaussian.bound(W, fa.mean_, psi, phi, model.posterior, x)
gap = Q - fa.nlml(x).values
print(gap.min(), gap.max(), linear_gaussian.mean_field_gap(W, psi))     # one number, equation (2.10)
