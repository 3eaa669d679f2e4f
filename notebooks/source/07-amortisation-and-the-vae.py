# %% [markdown]
# # 07 · Amortisation and the VAE
#
# Variational EM searches for the best $q_n$ of every data case, again and again, and for every new case
# anew. Here a network takes the place of the search: it names $q_n$ from $x_n$ in one pass. With it the
# variational autoencoder is complete. We build its gradient by hand, train it on digits, ask what it has
# become as a model of data, and count what the network saves. Then we look at what goes wrong: a network
# that over-fits, and latent variables that nobody uses.
#
# A number in parentheses leads to its card, with derivation and proof, in
# [derivations/equations.md](../derivations/equations.md). First the settings. Change them and run all cells
# again; what the words say of results, they say of these.

# %%
K = 2              # latent variables
hidden = (64,)     # widths of the decoder's hidden layers, and of the network's; (): both are linear
epochs = 150       # of training on digits
cases = 1400       # digits to train on, at most
few = 20           # held-out digits whose gaps are measured
small = 60         # digits of the training that goes on for too long
seed = 0

# %%
import warnings

import matplotlib.pyplot as plt
import numpy as np
from scipy.special import erfinv

from teachvae import VAE, FactorAnalysis, Model, bound, datasets, grade, infer, plots, posteriors, tree
from teachvae.arrays.backend import get_backend
from teachvae.routes.vae import recognition_network

plt.rcParams["figure.dpi"] = 120
plt.switch_backend(plt.get_backend())            # from here on a figure as the last line of a cell is shown
np.set_printoptions(precision=4, suppress=True)
warnings.filterwarnings("ignore", message="training ended after")  # before Q came to rest, as the text says

# %% [markdown]
# <a id="lecture-amortisation"></a>
#
# ## 1. The search was a function all along
#
# The bound of data case $n$ is (1.5)
#
# $$
# Q_n(\theta, \phi_n) = -\mathbb{E}_ {q(z|\phi_n)}[\log p(x_n, z|\theta) - \log q(z|\phi_n)] \geq -\log p(x_n|\theta)
# $$
#
# and it holds for **any** $\phi_n$: nothing in its derivation asks where $\phi_n$ comes from. Variational EM
# keeps a table with a row $\phi_n$ for each data case, and an E-step improves the rows by a search,
#
# $$
# \phi_n^{\mathrm{opt}} = \arg\min_{\phi} Q_n(\theta, \phi).
# $$
#
# Read this line once more. On its right stand $\theta$, which all cases share, and $x_n$. So with $\theta$
# fixed, $\phi_n^{\mathrm{opt}}$ is a *function of* $x_n$, whether or not anybody has written it down. A case
# with the same $x$ gets the same $\phi$. Then why search for its values one by one? We can learn the
# function:
#
# $$
# \phi_n = g_v(x_n)
# $$
#
# with one set of parameters $v$ for all data cases (1.17). The cost of the search is paid once, in training,
# and spread over all cases that will ever come. This is called **amortised** inference.
#
# With a linear decoder we know the function. The posterior mean is $(x_n - b) \Psi^{-1} W^\top M^{-1}$
# (2.3), and the width of $q$ is the same for all cases: $\phi_n^{\mathrm{opt}}$ is *linear* in $x_n$. **What
# do you expect**, then, if we fit a plain linear regression from $x_n$ to the rows that E-steps found, and
# ask it about data it has not seen?

# %%
linear_data = datasets.linear_gaussian(n_cases=600, n_visible=8, n_latent=K, seed=seed).x
seen, unseen = linear_data[:500], linear_data[500:]
fa = FactorAnalysis(K, random_state=seed).fit(seen)

table = infer.closed_form(fa.model_, fa.theta_, seen)            # the E-step: a row [m | log s] for each case
with_one = np.column_stack([seen, np.ones(len(seen))])
regression = np.linalg.lstsq(with_one, table, rcond=None)[0]      # from x to φ

guessed = np.column_stack([unseen, np.ones(len(unseen))]) @ regression
searched = infer.closed_form(fa.model_, fa.theta_, unseen)
print(f"the table has {table.size} numbers, the regression {regression.size}")
off = abs(guessed - searched).max()
print(f"new cases: what it says and what a search finds differ by at most {off:.0e}")

# %% [markdown]
# The regression is exact, also for new cases, to rounding. It has found a rule and not a table. This is the
# recognition network of the linear model: one linear layer.
#
# But we let it learn from a search. The lecture does not: $v$ is learned **along with** $\theta$, by going
# down the same $Q$. No E-step is run at all. For the linear model the expectation in $Q$ is exact on 2K
# sigma points (1.14), so nothing is random, and L-BFGS can go to the end.

# %%
linear_vae = VAE(K, hidden=(), optimizer="lbfgs", nodes="sigma", random_state=seed).fit(seen)
said, best = linear_vae.encode(unseen), infer.closed_form(linear_vae.model_, linear_vae.theta_, unseen)
print(f"{linear_vae.n_iter_} iterations; mean Q {linear_vae.q_path_[0]:.3f} → {linear_vae.q_path_[-1]:.6f}")
print(f"factor analysis, mean NLML of the same data: {fa.nlml_path_[-1]:.6f}")
print("φ = [m | log s] of a new case, by the network:", said[0])
print("                              by the search:  ", best[0])
print(f"what the network costs on new cases, at most: "
      f"{(linear_vae.bound(unseen) - linear_vae.bound(unseen, phi=best)).max():.0e} nats")

# %% [markdown]
# Three things at once: the network names the best $q$ of cases that it has never seen; the VAE's bound ends
# on the NLML that exact EM ends on; and no search was made for any $\phi_n$. (Why can a *diagonal* $q$ be
# exact? Because going down $Q$ turns the loadings until the posterior is diagonal: notebook 05.)
#
# For other decoders $\phi_n^{\mathrm{opt}}$ is a curved function of $x$ that no formula gives. Then the
# network has to be larger, and it will be right only more or less. How much that costs has a name, and we
# will measure it.

# %% [markdown]
# <a id="lecture-recognition-networks"></a>
#
# ## 2. The recognition network: $m_k(x)$ and $s_k(x)$
#
# The lecture's $q$ is a product of marginals,
#
# $$
# q(z|x_n) = \prod_{k=1}^K \mathcal{N}(z_k;\thinspace m_k(x_n),\thinspace s_k^2(x_n))
# $$
#
# so $g_v$ has to name 2K numbers for each case. $m_k$ may be any real number, and a linear last layer gives
# any. $s_k$ must be positive: therefore the network names $\log s_k$, and $s_k = \exp(\log s_k)$ is positive
# whatever the network says. (Many programs name $\log s^2$ instead. Both work. Mixed up they do not.)
#
# In the lecture $m$ and $s$ come from two networks. It is common to let them share all layers but the last:
# one *trunk* with two *heads*. The package has both.

# %%
family = posteriors.DiagonalGaussian(K)
one_trunk = recognition_network(64, hidden[::-1], family)                       # from 64 pixels to φ
two_networks = recognition_network(64, hidden[::-1], family, separate=True)     # as in the lecture
for title, network in {"one trunk, two heads": one_trunk, "two networks": two_networks}.items():
    v = network.init(np.random.default_rng(seed), get_backend())
    shapes = [leaf.shape for name, leaf in tree.leaves(v) if name.endswith("W")]
    phi, _ = network.forward(v, np.zeros((3, 64)))
    print(f"{title:22} weights {shapes}, {tree.size(v)} numbers; of 3 cases it makes φ {phi.shape}")
print(f"a table for {cases} cases would have {2 * K * cases} numbers, and nothing to say of one case more")

# %% [markdown]
# **Exercise 07-1.** Write the forward of a recognition network with one hidden layer. `x` is (N, D), the
# hidden layer is $h = \tanh(xA + a)$ with `A` (D, H) and `a` (H,), and $\phi = hB + c$ with `B` (H, 2K) and
# `c` (2K,). Of $\phi = [m \mid \log s]$ return the two arrays $m$ and $s$, each (N, K). Whoever mixes up
# $\log s$, $s$ and $s^2$ here trains something else than he believes, and no error is raised.

# %% tags=["exercise"]
def recognise(x, A, a, B, c):
    """m (N, K) and s (N, K), the mean and the standard deviation of q(z|x)."""
    return ..., ...


# %% tags=["check"]
grade.check("07-1", recognise)

# %% [markdown] tags=["hint"]
# Two layers, each a matrix product and a bias; only the first has a tanh.

# %% [markdown] tags=["hint"]
# K is not an argument. It is half the width of $\phi$: `phi.shape[1] // 2`.

# %% [markdown] tags=["hint"]
# `phi = np.tanh(x @ A + a) @ B + c`, and `m, log_s = phi[:, :K], phi[:, K:]`. What is missing is the way
# from $\log s$ to $s$.

# %% tags=["solution"]
def recognise(x, A, a, B, c):
    phi = np.tanh(x @ A + a) @ B + c
    K = phi.shape[1] // 2
    return phi[:, :K], np.exp(phi[:, K:])


# %% [markdown]
# ### How it learns
#
# $Q$ depends on $v$ only by way of the rows $\phi_n$. So the chain rule has one more link than in
# variational EM (1.18):
#
# $$
# \frac{\partial}{\partial v} \sum_n Q_n = \sum_{n=1}^N d\phi_n \frac{\partial g_v(x_n)}{\partial v},
# \qquad d\phi_n = \frac{\partial Q_n}{\partial \phi_n}
# $$
#
# The rows $d\phi_n$ are the very ones that an E-step would follow; the bound's own backward hands them out.
# What is new is the sum: all rows pull on one $v$. Take the bias of the last layer. It is added to every
# $\phi_n$, so its gradient is $\sum_n d\phi_n$.
#
# **What do you expect** of that sum for a network that has been trained: are its terms small?

# %%
digits, held_out = datasets.split(datasets.digits())
x, x_new, y_new = digits.x[:cases], held_out.x, held_out.labels
print(f"{len(x)} training and {len(x_new)} held-out digits, D = {x.shape[1]} pixels of 8 × 8")

vae = VAE(K, hidden=hidden, epochs=epochs, random_state=seed).fit(x, validation=x_new[:150])
print(f"trained for {epochs} epochs: mean Q {vae.q_path_[0]:.1f} → {vae.q_path_[-1]:.2f} nats per data case")

# %%
S = 20
eta = np.random.default_rng(seed).standard_normal((S, len(x), K))
Q, cache = bound.forward(vae.model_, vae.theta_, vae.encode(x), x, eta)
dphi, _ = bound.backward(vae.model_, vae.theta_, cache, np.ones(len(x)))
pulls = dphi[:, 0]                                                # what each case asks of the bias of m_1
print(f"pulls on the bias of m_1: {np.sum(pulls > 0)} cases pull down, {np.sum(pulls < 0)} up")
print(f"sum of their sizes {abs(pulls).sum():.0f}, size of their sum {abs(pulls.sum()):.0f}")

# %% [markdown]
# The terms are not small, and they point both ways. Of one bias the network can only make what suits the
# sum: what helps one case hurts another, and at the end of training hardly any case has what it asks for. (At
# a minimum of $Q$ the sum is zero, and the pulls are not. Training ended before that, so here they cancel in
# part.) An E-step has no such conflict, because there each row follows its own pull. The difference is the
# price of amortisation.

# %% [markdown]
# **Exercise 07-2.** The backward of the network of exercise 07-1. Given `dphi` (N, 2K), the slope of
# $\sum_n Q_n$ in each entry of $\phi$, return the slopes in the weights: dA (D, H), da (H,), dB (H, 2K), dc
# (2K,), in this order. Mind the shapes: each gradient has the shape of what it belongs to, and that leaves
# little choice of where a transpose stands.

# %% tags=["exercise"]
def encoder_gradient(x, A, a, B, c, dphi):
    """The gradients dA, da, dB, dc of the number whose slope in φ = tanh(xA + a)B + c is dphi."""
    h = np.tanh(x @ A + a)                       # (N, H), forward, as before
    return ..., ..., ..., ...


# %% tags=["check"]
grade.check("07-2", encoder_gradient)

# %% [markdown] tags=["hint"]
# Begin at the end. For the last layer $h$ is what $x$ is for the first: (4.3) and (4.4) give dB and dc.

# %% [markdown] tags=["hint"]
# Then go back through the last layer (4.2): `dh = dphi @ B.T`, (N, H). And through tanh (4.6), whose slope
# is $1 - h^2$.

# %% [markdown] tags=["hint"]
# `d = dh * (1 - h**2)`, (N, H), is the slope in $xA + a$. From there dA and da are to `d` what dB and dc are
# to `dphi`. All sums are over the data cases, axis 0.

# %% tags=["solution"]
def encoder_gradient(x, A, a, B, c, dphi):
    h = np.tanh(x @ A + a)
    d = (dphi @ B.T) * (1 - h**2)
    return x.T @ d, d.sum(axis=0), h.T @ dphi, dphi.sum(axis=0)


# %% [markdown]
# <a id="lecture-vae"></a>
#
# ## 3. The variational autoencoder
#
# Everything in this course so far comes together in one number. The model is non-linear factor analysis
# (notebook 03), the objective is the bound (04), its expectation is estimated on reparameterised samples
# (06), $q$ is a product of marginals (05), and a network fills in $\phi_n$. Written out for a Gaussian
# likelihood (12.1):
#
# $$
# \begin{aligned}
# \frac{1}{N} \sum_n Q_n &= \frac{1}{N} \sum_n (R_n + \mathrm{KL}_ n), \qquad z_{ns} = m(x_n) + \eta_{ns} \odot s(x_n) \cr
# R_n &= \frac{1}{S} \sum_s \frac{1}{2} \sum_d \left( \frac{(x_{nd} - f_d(z_{ns}))^2}{\psi_d} + \log \psi_d + \log 2\pi \right) \cr
# \mathrm{KL}_ n &= \frac{1}{2} \sum_k \left( m_k(x_n)^2 + s_k(x_n)^2 - 1 - 2 \log s_k(x_n) \right)
# \end{aligned}
# $$
#
# It is called an autoencoder because of its shape: from $x$ by the *encoder* $g_v$ to a code, and from the
# code by the *decoder* $f_w$ back to $x$. Set $s = 0$, drop the KL and fix $\Psi = \sigma^2 I$, and what is
# left is the squared error of a plain autoencoder (1.19). So the VAE differs from it by three things: noise
# in the code, a price for being precise, and a noise $\Psi$ that is learned. They are not tricks that were
# added: they are what the bound consists of.
#
# One step of training:
#
# 1. draw a minibatch, and noise $\eta$ for each of its cases;
# 2. forward: $\phi_n = g_v(x_n)$, $z_{ns} = m_n + \eta_{ns} s_n$, $f_w(z_{ns})$, $Q_n$;
# 3. backward, in the other direction: $df$, $dw$ and $d\log\psi$; $dz$; $d\phi$, with the KL's part; $dv$;
# 4. a step of the optimiser on $\theta = (w, \Psi)$ and $v$ together. There is no E-step and no M-step.

# %% [markdown]
# **Exercise 07-3.** Steps 2 and 3 by hand: this is the whole of a VAE. The encoder is that of exercise 07-1;
# the decoder is $f(z) = \tanh(z) W + b$ with `W` (K, D) and `b` (D,); `log_psi` (D,) holds $\log \psi_d$.
# `x` is (N, D) and `eta` (S, N, K). The forward is given. Return the gradients of the **mean** over the data
# cases of $Q_n$, (12.1), in A, a, B, c, W, b and log_psi, in this order.

# %% tags=["exercise"]
def vae_gradient(x, eta, A, a, B, c, W, b, log_psi):
    """The gradients (dA, da, dB, dc, dW, db, dlog_psi) of the mean of Q_n over the data cases."""
    S, N, K = eta.shape
    psi = np.exp(log_psi)

    h = np.tanh(x @ A + a)                       # (N, H)
    phi = h @ B + c                              # (N, 2K)
    m, s = phi[:, :K], np.exp(phi[:, K:])        # (N, K)
    z = m + eta * s                              # (S, N, K)
    t = np.tanh(z)                               # (S, N, K)
    r = x - (t @ W + b)                          # (S, N, D), x − f(z)

    df = ...                                     # (S, N, D), the slope of the mean Q in f
    dW = ...
    db = ...
    dlog_psi = ...
    dz = ...                                     # (S, N, K)
    dm = ...                                     # (N, K): from z, and from the KL
    dlog_s = ...                                 # (N, K): likewise
    dA, da, dB, dc = ..., ..., ..., ...          # as in exercise 07-2
    return dA, da, dB, dc, dW, db, dlog_psi


# %% tags=["check"]
grade.check("07-3", vae_gradient)

# %% [markdown] tags=["hint"]
# Every sample of every case has the weight 1/(S N) in the mean reconstruction, and the KL of every case 1/N.
# Put these weights in at the very start, into df and into the slopes of the KL, and never again.

# %% [markdown] tags=["hint"]
# `df = -r / psi / (S * N)` (5.2). W sees `t` and not `z`: dW is a sum over samples and cases,
# `np.einsum("snk,snd->kd", t, df)`. The slope of $\frac{1}{2}(r^2/\psi + \log\psi)$ in $\log\psi$ is
# $\frac{1}{2}(1 - r^2/\psi)$ (5.3). Back to z: `dz = df @ W.T * (1 - t**2)`.

# %% [markdown] tags=["hint"]
# $z = m + \eta s$, so $\partial z/\partial m = 1$ and $\partial z/\partial \log s = \eta s$ (3.3). The KL
# adds $m/N$ and $(s^2 - 1)/N$ (3.5), (3.6). `dm = dz.sum(axis=0) + m / N`, and
# `dlog_s = (dz * eta).sum(axis=0) * s + (s**2 - 1) / N`; both side by side are `dphi`.

# %% tags=["solution"]
def vae_gradient(x, eta, A, a, B, c, W, b, log_psi):
    S, N, K = eta.shape
    psi = np.exp(log_psi)

    h = np.tanh(x @ A + a)
    phi = h @ B + c
    m, s = phi[:, :K], np.exp(phi[:, K:])
    z = m + eta * s
    t = np.tanh(z)
    r = x - (t @ W + b)

    df = -r / psi / (S * N)
    dW = np.einsum("snk,snd->kd", t, df)
    db = df.sum(axis=(0, 1))
    dlog_psi = 0.5 * (1 - r**2 / psi).sum(axis=(0, 1)) / (S * N)
    dz = df @ W.T * (1 - t**2)
    dm = dz.sum(axis=0) + m / N
    dlog_s = (dz * eta).sum(axis=0) * s + (s**2 - 1) / N
    dphi = np.concatenate([dm, dlog_s], axis=1)
    d = dphi @ B.T * (1 - h**2)
    return x.T @ d, d.sum(axis=0), h.T @ dphi, dphi.sum(axis=0), dW, db, dlog_psi


# %% [markdown]
# ### Training, and what held-out data say of it
#
# We compare three on the digits, from one start: both networks linear; the VAE from above, which has one
# trunk; and one with two networks for $m$ and $s$, as in the lecture. `validation` notes the mean $Q$ of
# held-out digits after every epoch. (Epochs are few here, and $Q$ still falls when they end. The warning
# that says so is switched off above.)

# %%
options = dict(epochs=epochs, random_state=seed)
race = {"linear": VAE(K, hidden=(), **options).fit(x, validation=x_new[:150]), f"hidden = {hidden}": vae}
print("linear: trained")
race["two networks"] = VAE(K, hidden=hidden, separate=True, **options).fit(x, validation=x_new[:150])
for title, model in race.items():
    print(f"{title:18} {model.n_parameters_:6} numbers; Q of training digits {model.q_path_[-1]:8.3f}, "
          f"held out {model.q_validation_path_[-1]:8.3f}")

# %%
curves = plots.learning_curves(race)
curves.axes[0].set(xscale="linear", xlabel="epoch")
curves

# %% [markdown]
# Solid lines are training digits, dashed lines held-out ones; lower is better, and the first epochs lie
# above the window. With hidden layers $Q$ falls far below the linear pair. (It falls below zero, too, and
# that is no mistake: $Q$ is near to minus the logarithm of a density of 64 continuous pixels, and a density
# may be larger than one.) The dashed lines lie above their solid ones: whether that is the fault of the
# model or of its recognition network, $Q$ alone does not say. We come to it in section 7.

# %% [markdown]
# <a id="lecture-probabilistic-model"></a>
#
# ## 4. A full probabilistic model for X
#
# A plain autoencoder has codes and reconstructions. A VAE has a distribution $p(x)$. Two things follow.
#
# **It says how probable a data case is.** Here are held-out digits, the same upside down, and the same with
# their pixels shuffled, alike for all of them. Every pixel value that occurs, occurs in all three. **What do
# you expect?**

# %%
rng = np.random.default_rng(seed)
test = x_new[:few]
kinds = {"digits": test[:10], "upside down": test[:10, ::-1], "shuffled": test[:10, rng.permutation(64)]}
for title, images in kinds.items():
    nlml = np.sort(vae.nlml(images, "grid" if K <= 2 else None).values)
    print(f"{title:12} NLML: median {np.median(nlml):9.1f} nats, from {nlml[0]:9.1f} to {nlml[-1]:9.1f}")

# %% [markdown]
# Each nat is a factor $e$ of density. The model finds shuffled digits far less probable than digits, and
# digits on their heads in between: a few of them, such as 0 and 8, look much like digits still.
#
# **It makes new data.** Draw $z$ from the prior, then $x$ given $z$ (7.24):
#
# $$
# z \sim \mathcal{N}(0, I), \qquad x \sim \mathcal{N}(f_w(z), \Psi)
# $$
#
# The recognition network has no part in it. This is worth saying, because pictures of "samples" in papers
# are sometimes something else: data cases that were encoded and decoded again. Those are *reconstructions*.
# They look better, and they say nothing of $p(x)$: an autoencoder that copies its input has perfect
# reconstructions.

# %%
one_of_each = np.array([np.flatnonzero(y_new == c)[0] for c in np.unique(y_new)])
shown = x_new[one_of_each]
z = vae.prior_codes(len(shown), seed)
limits = (0.0, float(x.max()))
plots.image_rows(
    [
        ("held-out digits", shown),
        ("reconstructed", vae.reconstruct(shown)),
        ("f(z), z from the prior", vae.decode(z)),
        ("x drawn, with noise Ψ", vae.sample(len(shown), seed)),
    ],
    (8, 8), limits, ink=True,
)

# %% [markdown]
# One digit of each class in the first row, and below it what is left after encoding and decoding. The third
# row has the *means* of new digits; some lie between classes. The fourth has digits as the model makes them,
# with the noise that each pixel has. A sample of $p(x)$ is the fourth row. To show the third and call it
# "samples" leaves out what the model does not explain.
#
# If $q$ were perfect, the codes of the data, taken all together, would look like draws of the prior. Do
# they?

# %%
codes = vae.draw(x, method="q", random_state=seed).z[0]            # a draw of q for every training case
of_prior = rng.standard_normal((10_000, K))
print("prior:           mean 0, standard deviation 1 of every z_k")
print("codes of data:   mean", codes.mean(axis=0), " standard deviation", codes.std(axis=0))
print(f"further than 2.5 from the origin: {100 * np.mean(np.sum(codes**2, axis=1) > 6.25):.1f} % of codes, "
      f"{100 * np.mean(np.sum(of_prior**2, axis=1) > 6.25):.1f} % of draws of the prior")

# %% [markdown]
# Roughly, and not quite: more codes lie far out than the prior has mass there. So some digits are drawn more
# rarely than they are written, and the middle of the plane too often. (With other settings there are holes
# instead, where the prior has mass and the data have no codes: there $f(z)$ has never been asked for a
# digit.) Such samples are honest all the same. They are what $p(x)$ is, and the NLML of data charges for it.

# %% [markdown]
# **Exercise 07-4.** Make new data. On the table lie the codes `m` and `s` (S, K) of S data cases, standard
# normal noise `eta` (S, K) and `epsilon` (S, D), and a decoder $f(z) = \tanh(z) W + b$ with noise variances
# `psi` (D,). Return S new rows (S, D), drawn from the model. You do not need all that lies on the table.

# %% tags=["exercise"]
def new_data(m, s, eta, epsilon, W, b, psi):
    """S rows (S, D) drawn from p(x), with the noise that is handed over."""
    ...


# %% tags=["check"]
grade.check("07-4", new_data)

# %% [markdown] tags=["hint"]
# Which distribution does $z$ come from, when no data case is given?

# %% [markdown] tags=["hint"]
# From $\mathcal{N}(0, I)$, of which `eta` is a draw as it stands. `m` and `s` belong to data that there were
# already.

# %% [markdown] tags=["hint"]
# Decode `eta`, and add noise of the variance `psi` (5.5): a standard normal number times the root of the
# variance.

# %% tags=["solution"]
def new_data(m, s, eta, epsilon, W, b, psi):
    return np.tanh(eta) @ W + b + np.sqrt(psi) * epsilon


# %% [markdown]
# <a id="lecture-manifolds"></a>
#
# ## 5. A curved surface in the space of images
#
# $f_w$ takes K numbers to D pixels. Its values are a surface of K dimensions in a space of 64. For factor
# analysis the surface is a plane. A network bends it. The lecture says that it "can model complex non-linear
# manifolds": how much is that worth? How many *flat* dimensions does it take to describe the digits as well
# as one bent surface of K dimensions does?

# %%
bent = vae.nlml(x_new[:60], "grid" if K <= 2 else None).values.mean()
print(f"VAE, K = {K}: held-out NLML {bent:8.2f}")
if not hidden:
    print("With hidden = () the decoder is linear, and its surface as flat as the others.")
for flat in (K, K + 2, 8, 12, 16, 20):
    plane = FactorAnalysis(flat, random_state=seed).fit(x)
    value = plane.nlml(x_new[:60]).values.mean()
    beats = "   lower than the bent surface" if value < bent else ""
    print(f"factor analysis, K = {flat:2}: {value:8.2f}{beats}")

# %% [markdown]
# It takes a plane of many times as many dimensions. Where do the digits lie on the surface? Each held-out
# digit is drawn at the mean of its $q$, left by factor analysis and right by the VAE. No label was used in
# training.

# %%
flat_fa = FactorAnalysis(K, random_state=seed).fit(x)
plots.latent_scatter(
    [("factor analysis", flat_fa.transform(x_new)), (f"VAE, hidden = {hidden}", vae.transform(x_new))], y_new
)

# %% [markdown]
# Both put like digits together; the network has more room to pull the classes apart. Walk over the same
# plane, and decode where you stand: the map of what $f_w$ says at every place. The lattice has the quantiles
# of the prior on its axes, so each picture stands for an equal share of $p(z)$.

# %%
side = 12
quantiles = np.sqrt(2) * erfinv(2 * (np.arange(side) + 0.5) / side - 1)        # of N(0, 1)
lattice = np.zeros((side * side, K))
lattice[:, 0] = np.tile(quantiles, side)
if K > 1:
    lattice[:, 1] = np.repeat(quantiles[::-1], side)
if K > 2:
    print(f"The first two of K = {K} latent variables move, the others are 0.")
tiles = vae.decode(lattice).reshape(side, side, 8, 8)
fig, ax = plt.subplots(figsize=(5, 5))
ax.imshow(np.pad(tiles, ((0, 0), (0, 0), (1, 0), (1, 0))).transpose(0, 2, 1, 3).reshape(side * 9, -1),
          cmap="gray_r", vmin=limits[0], vmax=limits[1])
ax.set_xticks(9 * np.array([0, 3, 6, 8, 11]) + 4.5, [f"{quantiles[i]:.1f}" for i in (0, 3, 6, 8, 11)])
ax.set_yticks(9 * np.array([0, 3, 6, 8, 11]) + 4.5, [f"{quantiles[::-1][i]:.1f}" for i in (0, 3, 6, 8, 11)])
ax.set(xlabel="$z_1$", ylabel="$z_2$" if K > 1 else "the same in every row")
plt.show()

# %% [markdown]
# The map has no gaps. One digit turns into its neighbour, and on the way there are shapes that nobody has
# written.
#
# **Interpolation.** Two digits, and what lies between them: on the straight line between their pixels, and
# on the image of the straight line between their codes. **What do you expect** half way?

# %%
a, b = shown[0], shown[min(7, len(shown) - 1)]
t = np.linspace(0, 1, 9)[:, None]
paths = [("between pixels", (1 - t) * a + t * b), ("between codes", vae.interpolate(a, b, 9))]
plots.image_rows(paths, (8, 8), limits, ink=True)

# %% [markdown]
# Half way between the pixels lie two faint digits on top of each other. Half way between the codes lies one
# digit, if perhaps another one: the path stays on the surface. How far from the surface are the blends of
# pixels? We measure the part of an image that its own reconstruction leaves over, in units of the noise (1
# is what the model expects).

# %%
pairs = rng.permutation(len(x_new))[: 2 * (min(len(x_new), 200) // 2)].reshape(2, -1)
pairs = pairs[:, y_new[pairs[0]] != y_new[pairs[1]]]                            # of different classes
blends = 0.5 * (x_new[pairs[0]] + x_new[pairs[1]])


def left_over(images):
    """The mean over pixels of the squared residual, in units of Ψ."""
    return np.mean((images - vae.reconstruct(images)) ** 2 / vae.noise_variance_)


print(f"held-out digits {left_over(x_new):.2f}, blends of two of them {left_over(blends):.2f}")

# %% [markdown]
# Blending averages the noise of two images, which alone would *halve* what is left over. Blends have more
# left over than that half, because they lie beside the surface.

# %% [markdown]
# <a id="lecture-inference-without-optimisation"></a>
#
# ## 6. Inference without optimisation
#
# What does the network save? Clocks differ from machine to machine, so we count. The unit is one latent
# point sent through the decoder: an E-step does little else. We wrap the decoder of the trained VAE in a
# layer that counts.

# %%
class Counted:
    """A network that counts the rows that go through it, forward and backward."""

    def __init__(self, network):
        self.network, self.n_in, self.n_out, self.rows = network, network.n_in, network.n_out, 0

    def forward(self, params, x):
        self.rows += len(x)
        return self.network.forward(params, x)

    def backward(self, params, cache, dy, **asked):
        self.rows += len(dy)
        return self.network.backward(params, cache, dy, **asked)


def counted(search):
    """What search(model) gives, and how many rows per data case it sent through the decoder."""
    decoder = Counted(vae.model_.decoder)
    found = search(Model(decoder, vae.model_.likelihood, K))
    return found, decoder.rows / len(test)


# %%
named = vae.encode(test)                                           # by the network
nothing_known = infer.prior_phi(vae.model_, test)                  # q = p(z)
draws = rng.standard_normal((infer.SEARCH_POINTS, K))
coarse, fine = infer.coarse_and_fine(vae.model_.posterior, 64 + 4 * K, test)


def e_steps(start, steps):
    return counted(lambda model: infer.e_step(model, vae.theta_, start, test, *fine, max_steps=steps).phi)


def search(model):
    starts = [nothing_known, infer.search(model, vae.theta_, test, draws)]
    return infer.optimal(model, vae.theta_, starts, test, coarse, fine, tol=1e-4).phi


ways = {
    "nothing, q = p(z)": (nothing_known, 0),
    "the network's one pass": (named, 0),
    "5 E-steps from q = p(z)": e_steps(nothing_known, 5),
    "50 E-steps from q = p(z)": e_steps(nothing_known, 50),
    "a search from the best of many points": counted(search),
    "5 E-steps from the network's": e_steps(named, 5),
}
with warnings.catch_warnings():
    warnings.simplefilter("ignore")                                # of quadrature, under a q as wide as p(z)
    lowest = min(vae.bound(test, phi=phi, random_state=seed).mean() for phi, _ in ways.values())
    for title, (phi, rows) in ways.items():
        above = vae.bound(test, phi=phi, random_state=seed).mean() - lowest
        print(f"{title:38} {rows:9.0f} rows per case   Q is {above:10.2f} nats above the lowest")

# %% [markdown]
# The network sends nothing through the decoder, and one row per case through itself. A search sends
# thousands. This is what the lecture means by *optimization-free approximate inference during and after
# learning*: during, because each step of training has one pass of $g_v$ where variational EM has a search;
# and after, because a new case costs one pass.
#
# It is *approximate* in two ways. $q$ is a diagonal Gaussian, which the posterior is not. And the network's
# is not the best of them: the difference in the last column is the **amortisation gap** (10.3),
#
# $$
# \mathrm{amortisation}_ n = Q_n(\phi_n) - Q_n(\phi_n^{\mathrm{opt}}) \geq 0.
# $$
#
# Mind the sign. $Q$ is minimised, so the best comes second. (A well-known course page has it the other way
# round, and calls a number that is never positive a gap.) The last line combines both: the network gives the
# start, and a few E-steps from there pay most of the gap back. `vae.refine(x, n_steps=5)` does that.
#
# With one or two latent variables we can look. The posterior of one digit, shaded, under the network's $q$
# and the best one:

# %%
if K <= 2:
    of_network = vae.bound(test) - vae.bound(test, phi=vae.refine(test, 20))
    chosen = test[np.argsort(of_network)[len(test) // 2]]          # the digit with the median gap
    picture = vae.plot_posterior(chosen)
else:
    print(f"A picture takes K = 1 or 2, and here K = {K}.")
    picture = None
picture

# %% [markdown]
# The title is a ledger: NLML, and what each approximation adds until $Q$ is reached. The best $q$ (dashed)
# follows the posterior as well as its family can. The network's is about as narrow, and beside it. As both
# are narrow, a miss that is small on the scale of the prior costs nats. The next notebook keeps this ledger
# for whole sets of data.

# %% [markdown]
# **Exercise 07-5.** The amortisation gap on paper. In a linear-Gaussian model the posterior is
# $\mathcal{N}(m_n^{\ast}, M^{-1})$, with the mean `mean` (N, K) and one precision `M` (K, K) for all cases.
# A network names `m` and `s` (N, K). Return the gap (N,) in nats: how far $Q_n$ is above that of the best
# **diagonal** $q$. Two facts: by (1.6) $Q_n$ is $nlml_n$ plus the KL from $q_n$ to the posterior, for which
# there is a formula (10.6); and the best diagonal $q$ has the mean $m_n^{\ast}$ and the variances $1/M_{kk}$
# (2.10).

# %% tags=["exercise"]
def amortisation_gap(m, s, mean, M):
    """Q of N(m_n, diag(s_n²)) above Q of the best diagonal q, (N,) in nats."""
    ...


# %% tags=["check"]
grade.check("07-5", amortisation_gap)

# %% [markdown] tags=["hint"]
# nlml cancels, so the gap is a difference of two KLs to the same posterior, the network's less the best
# one's.

# %% [markdown] tags=["hint"]
# $2\thinspace\mathrm{KL} = \sum_k (M_{kk} s_k^2 - 1 - \log s_k^2) + (m - m^{\ast}) M (m - m^{\ast})^\top - \log|M|$.
# Put $s_k^2 = 1/M_{kk}$ and $m = m^{\ast}$ in for the best one, and subtract: $\log|M|$ cancels, too.

# %% [markdown] tags=["hint"]
# What is left is
# $\frac{1}{2} \sum_k (M_{kk} s_k^2 - 1 - \log(M_{kk} s_k^2)) + \frac{1}{2} (m - m^{\ast}) M (m - m^{\ast})^\top$.
# For the last term of all cases at once: `np.sum((r @ M) * r, axis=1)`.

# %% tags=["solution"]
def amortisation_gap(m, s, mean, M):
    r, t = m - mean, np.diag(M) * s**2
    return 0.5 * np.sum(t - 1 - np.log(t), axis=1) + 0.5 * np.sum((r @ M) * r, axis=1)


# %% [markdown]
# ## 7. A network that over-fits, and when to stop
#
# A table of $\phi$ cannot over-fit: each row is the best for its case, and a new case gets a search of its
# own. A recognition network can. It is fitted to the cases it was trained on, and for others it guesses
# between them. So there are *two* reasons why $Q$ of new data is higher than that of training data (12.2):
#
# $$
# \bar{Q}^{\mathrm{new}} - \bar{Q}^{\mathrm{train}} =
# \underbrace{\overline{nlml}^{\mathrm{new}} - \overline{nlml}^{\mathrm{train}}}_ {\text{the model}} +
# \underbrace{\overline{\mathrm{appr}}^{\mathrm{new}} - \overline{\mathrm{appr}}^{\mathrm{train}}}_ {\text{the family}} +
# \underbrace{\overline{\mathrm{amort}}^{\mathrm{new}} - \overline{\mathrm{amort}}^{\mathrm{train}}}_ {\text{the network}}
# $$
#
# To see it at its worst we train on very few digits, with long steps, and for too long. `validation` gives
# the dashed line, and the parameters of its lowest point are kept.

# %%
too_few, watch = x[:small], x_new[-80:]
long = dict(hidden=hidden, epochs=300, learning_rate=2e-2, random_state=seed)
to_the_end = VAE(K, **long).fit(too_few)
stopped = VAE(K, **long).fit(too_few, validation=watch)
print(f"held-out Q was lowest after epoch {stopped.best_iter_} of {stopped.n_iter_}: "
      f"{stopped.q_validation_path_.min():.1f}; at the end it is {stopped.q_validation_path_[-1]:.1f}")
if stopped.best_iter_ == stopped.n_iter_:
    print("It has not turned: with these settings nothing over-fits in so many epochs.")
curves = plots.learning_curves({f"{len(too_few)} digits": stopped})
curves.axes[0].set(xscale="linear", xlabel="epoch")
curves

# %% [markdown]
# The solid line goes on falling. The dashed one falls, and then turns. Who is to blame, the model or its network?

# %%
with warnings.catch_warnings():
    warnings.simplefilter("ignore")                                # of a q that is too wide for quadrature
    print(f"{'':34}{'NLML':>9}{'approximation':>15}{'amortisation':>14}{'Q':>9}")
    for title, model in {"kept at the lowest point": stopped, "at the end": to_the_end}.items():
        for part, images in {"training": too_few[: few // 2], "held out": test[: few // 2]}.items():
            g = model.gaps(images, random_state=seed)
            print(f"{title + ', ' + part:34}{g.nlml.mean():9.1f}{g.approximation.mean():z15.2f}"
                  f"{g.amortisation.mean():14.1f}{g.q_used.mean():9.1f}")

# %% [markdown]
# Read the held-out rows. On training digits the network is good, and it stays good. On held-out digits it is
# worse many times over, and from the lowest point to the end it is the network that gets worse: its share
# grows by many nats, and the NLML moves by less than one. $Q$ alone would have accused the wrong one. A model
# whose network has over-fitted can be rescued: E-steps for new cases need no new training. A model that has
# over-fitted itself cannot.
#
# The usual cure is to stop in time. **Early stopping** watches held-out $Q$ and ends training when it has
# not fallen for `patience` epochs.

# %%
patient = VAE(K, **long).fit(too_few, validation=watch, patience=40)
print(f"with a patience of 40, training ended after epoch {patient.n_iter_}; "
      f"the parameters of epoch {patient.best_iter_} are kept")
print(f"its lowest held-out Q is {patient.q_validation_path_.min():.1f}; "
      f"with all epochs it was {stopped.q_validation_path_.min():.1f}")

# %% [markdown]
# If the two numbers differ, patience ran out in front of a valley that lay further on. That is the price of
# not knowing the future. And one more thing is easily forgotten: data that decided when to stop are no
# longer held out. What is reported at the end should be measured on others.

# %% [markdown]
# **Exercise 07-6.** Write the rule. `path` holds held-out $Q$ after epoch 1, 2, …; training ends as soon as
# `patience` epochs in a row have brought no new lowest value (a value equal to the lowest is not a new one),
# or when the path is at its end. Return how many epochs were run, and the epoch whose parameters are kept,
# both as whole numbers counted from 1.

# %% tags=["exercise"]
def stop_early(path, patience):
    """(n_epochs, best): after how many epochs training ends, and the epoch with the lowest Q until then."""
    return ..., ...


# %% tags=["check"]
grade.check("07-6", stop_early)

# %% [markdown] tags=["hint"]
# Go through the path epoch by epoch, as training does. What has to be remembered are the lowest value so
# far, and its epoch.

# %% [markdown] tags=["hint"]
# `for epoch, Q in enumerate(path, start=1)`. A counter is not needed: since the best epoch, `epoch - best`
# epochs have passed.

# %% [markdown] tags=["hint"]
# Inside the loop: if `Q < lowest`, then `lowest, best = Q, epoch`; else, if `epoch - best >= patience`,
# `break`. Start with `lowest = np.inf`.

# %% tags=["solution"]
def stop_early(path, patience):
    lowest, best = np.inf, 0
    for epoch, Q in enumerate(path, start=1):
        if Q < lowest:
            lowest, best = Q, epoch
        elif epoch - best >= patience:
            break
    return epoch, best


# %% [markdown]
# ## 8. Latent variables that nobody uses
#
# After training some latent variables may be at rest: $q(z_k|x_n)$ is the prior, whatever $x_n$ is. They are
# called *collapsed*, the others *active*. How are they told apart? A unit that says something of $x$ has a
# mean that moves with $x$ (10.8):
#
# $$
# \mathrm{active}_ k = \left[ \mathrm{Var}_ n[m_{nk}] \gt \tau \right], \qquad \tau = 0.01 \text{ by custom}
# $$
#
# The KL is often blamed ("it pushes $q$ to the prior"), or the encoder, or the optimiser. Before one blames,
# one should know a case in which the cause is certain. It is the linear VAE with a *fixed* noise variance,
# $\Psi = \sigma^2 I$. Its optimum is known: with $\lambda_1 \geq \lambda_2 \geq \dots$ the eigenvalues of
# the data's covariance, row $k$ of $W$ has the squared length $\max(\lambda_k - \sigma^2, 0)$ (2.16).
# Therefore (10.10)
#
# $$
# \mathrm{active} = \left| \lbrace i : \lambda_i \gt \sigma^2 \rbrace \right|, \qquad
# \mathrm{Var}_ n[m_{nk}] = 1 - \frac{\sigma^2}{\lambda_k}
# $$
#
# A direction in which the data vary by less than the noise is explained by the noise already. *Exact*
# maximum likelihood, with no $q$ and no KL, drops it too. We offer six latent variables, and put $\sigma^2$
# half way between the third and the fourth eigenvalue. **How many will be active?**

# %%
some = x[:500]                                                     # fewer digits, so that it is quick
eigenvalues = np.linalg.eigvalsh(np.cov(some.T, bias=True))[::-1]
sigma2 = float(eigenvalues[2:4].mean())
six = VAE(6, hidden=(), noise=sigma2, optimizer="lbfgs", nodes="sigma", random_state=seed).fit(some)

falling = np.argsort(-six.transform(some).var(axis=0))               # the units, the most active first
print(f"σ² = {sigma2:.3f}; active units: {six.active_units(some).sum()} of 6")
print("eigenvalues λ        ", eigenvalues[:6])
print("1 − σ²/λ, or 0       ", np.maximum(0, 1 - sigma2 / eigenvalues[:6]))
print("Var of the means     ", six.transform(some).var(axis=0)[falling])
print("mean s of these units", np.exp(six.encode(some)[:, 6:]).mean(axis=0)[falling])

# %% [markdown]
# Three are at rest, with $s = 1$ and a mean that does not move: the prior. Encoder, KL and optimiser are all
# without fault. Now change nothing but $\sigma^2$:

# %%
levels = [float(eigenvalues[i : i + 2].mean()) for i in (0, 4)]
for level in levels:
    model = VAE(6, hidden=(), noise=level, optimizer="lbfgs", nodes="sigma", random_state=seed).fit(some)
    print(f"σ² = {level:6.3f}: {np.sum(eigenvalues[:6] > level)} eigenvalues above it, "
          f"{model.active_units(some).sum()} units active")

# %%
fig, ax = plt.subplots(figsize=(6, 3.2))
ten, of_noise = np.arange(1, 11), np.minimum(eigenvalues[:10], sigma2)
ax.bar(ten, eigenvalues[:10], color=plots.COLOURS[5], label="variance of the data along it, $\\lambda_i$")
ax.bar(ten, of_noise, color=plots.COLOURS[1], hatch="//", edgecolor="white",
       label="of this, explained by the noise")
ax.axhline(sigma2, color="#000000", lw=1.2, ls="--", label=f"$\\sigma^2$ = {sigma2:.2f}")
ax.set(xlabel="principal direction i", ylabel="variance")
ax.set_xticks(ten)
ax.legend(frameon=False)
ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# What stands above the line is left for $W$ to explain. So before the KL is blamed for collapse, look at the
# noise: a fixed $\sigma^2$ that is too large collapses units even in the linear case, and a squared error
# *without* a noise variance is a fixed $\sigma^2 = \frac{1}{2}$ or 1, chosen without thinking. A weight
# $\beta$ on the KL acts as a noise of $\beta \sigma^2$ (12.3). If $\sigma^2$ is learned, units stay active
# in this model. In deep models there can be other causes besides, such as a decoder that does without $z$,
# or a search that ended early; then one has to look.

# %% [markdown]
# **Exercise 07-7.** Count the active units. Given the means `m` (N, K) of $q$ for N data cases and a
# `threshold`, return the variance of each unit's mean over the data, (K,), with divisor N, and whether the
# unit is active, (K,) of bool.

# %% tags=["exercise"]
def active_units(m, threshold):
    """The variances (K,) of the means over the data cases, and which are above the threshold, (K,) bool."""
    return ..., ...


# %% tags=["check"]
grade.check("07-7", active_units)

# %% [markdown] tags=["hint"]
# A unit moves if its column of `m` has different numbers in it for different data cases.

# %% [markdown] tags=["hint"]
# Subtract each column's mean, square, and take the mean over the cases.

# %% [markdown] tags=["hint"]
# `variance = np.mean((m - m.mean(axis=0)) ** 2, axis=0)`. The comparison `variance > threshold` is an array
# of bool.

# %% tags=["solution"]
def active_units(m, threshold):
    variance = np.mean((m - m.mean(axis=0)) ** 2, axis=0)
    return variance, variance > threshold


# %% [markdown]
# **Exercise 07-8.** Predict the collapse before anything is trained. Given the covariance `S` (D, D) of the
# data, the fixed noise variance `sigma2` and the number `K` of latent variables, return
# $\mathrm{Var}_ n[m_{nk}]$ (K,) of the linear VAE at its optimum, from the largest to the smallest; 0 for a
# unit at rest.

# %% tags=["exercise"]
def variance_of_means(S, sigma2, K):
    """The variances (K,) of the units' means at the optimum, falling; 0 for a collapsed unit."""
    ...


# %% tags=["check"]
grade.check("07-8", variance_of_means)

# %% [markdown] tags=["hint"]
# Everything that is needed of S are its eigenvalues: `np.linalg.eigvalsh(S)`.

# %% [markdown] tags=["hint"]
# `eigvalsh` sorts them from the smallest on. The K largest, the largest first, are
# `np.linalg.eigvalsh(S)[::-1][:K]`.

# %% [markdown] tags=["hint"]
# (10.10) for $\lambda_k \gt \sigma^2$, and 0 otherwise, which `np.maximum` with 0 gives.

# %% tags=["solution"]
def variance_of_means(S, sigma2, K):
    largest = np.linalg.eigvalsh(S)[::-1][:K]
    return np.maximum(0.0, 1 - sigma2 / largest)


# %% [markdown]
# ## To try
#
# 1. Set `hidden = ()` and run all cells again. Which of the pictures are still the same for factor analysis
#    and the VAE, and why?
# 2. Give the network less than it needs: let the linear VAE's network see only the first four of its eight
#    variables. What does it lose, and on how many cases?

# %% [markdown] summary="A solution to the second" tags=["solution"]
# The best such network names the mean of $m_n^{\ast}$ given what it sees. We fit it by regression, as in
# section 1, and measure what its $q$ costs. It loses on nearly all cases, new ones and old ones alike: it
# lacks information, it has not over-fitted.

# %% tags=["solution"]
half = np.column_stack([seen[:, :4], np.ones(len(seen))])
targets = infer.closed_form(linear_vae.model_, linear_vae.theta_, seen)
phi_half = half @ np.linalg.lstsq(half, targets, rcond=None)[0]
lost = linear_vae.bound(seen, phi=phi_half) - linear_vae.bound(seen, phi=targets)
print(f"mean loss {lost.mean():.3f} nats, least {lost.min():.4f}, largest {lost.max():.3f}")

# %% [markdown]
# Before: [06, through the sampling](06-through-the-sampling.ipynb). Next:
# [08, the ledger](08-the-ledger.ipynb), where every nat between NLML and Q is accounted for. Where the
# course begins: [00, start here](00-start-here.ipynb).
