# %% [markdown]
# # 11 · One core, two machines
#
# The mathematics of this package is written once. It runs on NumPy and, word for word, on a GPU through CuPy. This
# notebook shows what that takes: code that names no array library, noise that is the same everywhere, and care with the
# digits that are left in float32. Then it measures what a training step costs, and works out when a GPU, threads or more
# machines pay, and when they do not.
#
# It runs where there is no GPU. What a GPU alone can show is measured where there is one; elsewhere a sentence says so,
# and no figure is made up. Times are those of the machine that ran the notebook last. A number in parentheses, such as
# (0.16), leads to its card.
#
# First the settings. Change them and run all cells again; what the words say of results, they say of these.

# %%
K = 2              # latent variables
hidden = (64,)     # widths of the hidden layers of decoder and recognition network
S = 1              # samples of z for each data case
cases = 1000       # data cases of most measurements
n_jobs = 2         # threads
seed = 0

# %%
import inspect
import time
import warnings

import matplotlib.pyplot as plt
import numpy as np

from teachvae import VAE, FactorAnalysis, Model, VariationalEM, datasets, grade, layers, likelihoods
from teachvae import moments, tree
from teachvae.arrays import doctor, workers
from teachvae.arrays.backend import Backend, BackendError, get_backend, namespace, to_numpy
from teachvae.arrays.special import softplus
from teachvae.course.exercises.machines import LIBRARY, Elsewhere
from teachvae.plots import COLOURS
from teachvae.routes.vae import amortised

plt.rcParams["figure.dpi"] = 120
plt.rcParams["axes.spines.top"] = plt.rcParams["axes.spines.right"] = False
np.set_printoptions(precision=4, suppress=True)
warnings.filterwarnings("ignore", message="training ended after")  # a few epochs do to compare

# %% [markdown]
# ## 1. What this machine has
#
# `teachvae doctor`, in a terminal, tries every part that the package can compute with, and says what is missing and how it
# is got. The same from Python:

# %%
for finding in doctor.examine():
    print(f"{finding.part:13} {finding.state:8} {finding.found}")

# %% [markdown]
# What is missing is no failure: nothing but NumPy is needed. A GPU is asked for by `backend="cupy"`. If it cannot be had, that is an
# error with its cause and cure, for whoever asks for a GPU wants to know; `backend="auto"` falls back to NumPy, and warns.

# %%
try:
    gpu = get_backend("cupy", "float32")
    print("There is a GPU; it is measured below.")
except BackendError as error:
    gpu = None
    print("BackendError:", error)

# %% [markdown]
# ## 2. One core: the code names no library
#
# How can one text serve both? Compute code never says `np`. It asks its arrays whose they are, `xp = namespace(x)`, and writes
# `xp.exp(x)`. What is used of `xp` is what NumPy, CuPy and the array-API standard have in common. Here is softplus (4.11), as it
# stands in the package:

# %%
print(inspect.getsource(softplus.formula))

# %% [markdown]
# To try it without a GPU we take a stand-in. `Elsewhere` is an array of a library that is not NumPy. It computes with NumPy's
# numbers, bit for bit, but behaves as an array on a GPU does: NumPy's functions refuse it, NumPy's arrays do not mix with it, and `get`
# alone brings the numbers to the host.

# %%
host = np.array([-800.0, -1.0, 0.0, 2.0, 800.0])
there = Elsewhere(host)
print("on the host:", softplus(host))
print("elsewhere:  ", softplus(there))
print("its library:", namespace(there).__name__)

# %% [markdown]
# **What do you expect** of `np.exp(there)`, of `there + np.ones(5)`, and of `namespace(host, there)`? Mixed arrays are the commonest mistake
# with two machines, and on some combinations nothing says so: the numbers travel silently at every step, and the GPU is
# slower than the host. Here each of them is refused.

# %%
for what, attempt in [
    ("np.exp(there)", lambda: np.exp(there)), ("there + np.ones(5)", lambda: there + np.ones(5)),
    ("namespace(host, there)", lambda: namespace(host, there)),
]:
    try:
        attempt()
    except TypeError as error:
        print(f"{what}: {error}\n")

# %% [markdown]
# **Exercise 11-1.** Write the logarithm of a sum of exponentials so that it runs anywhere. `log_sum_exp_anywhere(log_p)` takes
# `log_p` (N, D) of any array library and returns $\log \sum_d e^{\ell_{nd}}$, (N,), in that library. Some rows are near 900 and some
# near −900, and one number lies far below the rest of its row, so the largest of each row comes out before the exponential:
#
# $$
# \log \sum_d e^{\ell_d} = t + \log \sum_d e^{\ell_d - t}, \qquad t = \max_d \ell_d
# $$
#
# (0.16). It is the most frequent function of mixtures, importance weights and softmax. `namespace` is imported above.

# %% tags=["exercise"]
def log_sum_exp_anywhere(log_p):
    """log Σ exp of each row (N,), in the library of log_p (N, D)."""
    xp = namespace(log_p)
    ...
    return ...


# %% tags=["check"]
grade.check("11-1", log_sum_exp_anywhere)

# %% [markdown] tags=["hint"]
# Write it with NumPy first, then put `xp` for `np`, and functions for methods: `xp.max(a)`, not `a.max()`. The standard has no
# methods.

# %% [markdown] tags=["hint"]
# `top = xp.max(log_p, axis=1, keepdims=True)` is (N, 1), and can be taken off (N, D). At the end the answer has to be (N,).

# %% [markdown] tags=["hint"]
# `xp.log(xp.sum(xp.exp(log_p - top), axis=1))` is (N,), and `top[:, 0]` is to be added.

# %% tags=["solution"]
def log_sum_exp_anywhere(log_p):
    xp = namespace(log_p)
    top = xp.max(log_p, axis=1, keepdims=True)
    return top[:, 0] + xp.log(xp.sum(xp.exp(log_p - top), axis=1))


# %% [markdown]
# ## 3. The same noise, the same numbers
#
# Random numbers are where two machines part first. A GPU has generators of its own, and no seed makes them draw what NumPy draws. Even
# on one machine: **what do you expect** of `standard_normal(dtype="float32")` beside `standard_normal()` with the same seed?

# %%
print("float64:", np.random.default_rng(seed).standard_normal(4))
print("float32:", np.random.default_rng(seed).standard_normal(4, dtype="float32"))
print("float64, then cast:", np.random.default_rng(seed).standard_normal(4).astype("float32"))

# %% [markdown]
# They are other numbers altogether, not rounded ones. So here noise is drawn in one place, on the host, in float64, then cast and sent:
# every library and every precision sees the same $\eta$. That is one more reason why $\eta$ is an argument of everything (1.10).
#
# Now the whole bound, forward and backward, on three machines, or four: NumPy in float64, NumPy in float32, the stand-in, and the GPU if
# there is one. The same seeds, the same text.

# %%
x_host = datasets.digits().x[:cases]
D = x_host.shape[1]
model = Model(layers.mlp(K, hidden, D), likelihoods.Gaussian(D), n_latent=K)
recognition = layers.mlp(D, hidden, 2 * K)


def started(backend):
    """Parameters, data and noise on a backend, from the same draws."""
    rng = np.random.default_rng(seed)
    params = {"theta": model.init(rng, backend), "recognition": recognition.init(rng, backend)}
    x = backend.asarray(x_host)
    return params, x, backend.normal(rng, (S, len(x_host), K))


def step(params, x, eta, n_cases=None):
    """The mean of Q over x, and its gradient in all parameters as one host vector."""
    mean_Q, grads = amortised(model, recognition, params, x, eta, n_cases=n_cases)
    return float(to_numpy(mean_Q)), to_numpy(tree.flatten(grads))


backends = {
    "NumPy, float64": get_backend("numpy"), "NumPy, float32": get_backend("numpy", "float32"),
    "elsewhere, float64": Backend("elsewhere", LIBRARY),
}
if gpu is not None:
    backends["CuPy, float64"] = get_backend("cupy", "float64")
    backends["CuPy, float32"] = gpu
reference, exact = step(*started(backends["NumPy, float64"]))
print(f"{'':20}{'mean Q, nats':>18}{'gradient differs by, relative':>32}")
for name, backend in backends.items():
    mean_Q, gradient = step(*started(backend))
    print(f"{name:20}{mean_Q:18.10f}{np.abs(gradient - exact).max() / np.abs(exact).max():32.0e}")

# %% [markdown]
# The stand-in has the bits of NumPy, or all but the last of them where large formulas run as one compiled loop on the host. Single precision
# agrees to about seven digits. And training is nothing but many such steps:

# %%
for name in ("NumPy, float64", "elsewhere, float64"):
    vae = VAE(K, hidden=hidden, epochs=3, random_state=seed, backend=backends[name])
    vae.fit(x_host[:200])
    print(f"{name:20} mean Q after three epochs: {vae.q_path_[-1]:.8f}")

# %% [markdown]
# ## 4. Digits
#
# float32 needs half the memory, and its arithmetic is twice as fast on a processor and much more so on most GPUs. It has
# seven digits. Is that enough? Q is some tens of nats, of which a hundredth matters: four digits. So yes, if none are thrown away on the
# way. Two ways to throw them away:
#
# **A long sum.** Add a tenth a million times, in float32, one after the other. Each sum is rounded to seven digits; at 50 000 the last of
# them stands for 0.004, and a tenth is added with two digits. **What do you expect** for the sum, and for the same numbers added in pairs, then
# pairs of pairs?

# %%
tenths = np.full(1_000_000, 0.1, dtype="float32")
print("one after the other:", np.cumsum(tenths)[-1])
print("in pairs, by np.sum:", np.sum(tenths))

# %% [markdown]
# After $N$ terms one after the other the error may grow as $N$, in pairs as $\log N$. NumPy's and CuPy's sums go in pairs or blocks; a loop
# of one's own does not. What is collected over an epoch is added in float64.
#
# **A difference of nearly equal numbers.** The KL of one latent variable with $m = 0$ is $\frac{1}{2}(s^2 - 1) - \log s$ (3.4). For a unit that is
# hardly used $s$ is near 1, and the two parts are nearly equal: with $l = \log s$,
#
# $$
# \frac{1}{2} \left( e^{2l} - 1 \right) - l = \frac{1}{2} \left( 2l + 2l^2 + \dots \right) - l = l^2 + \frac{2}{3} l^3 + \dots
# $$
#
# The result is of second order, but $e^{2l}$ is a number near 1 and is rounded there, by $\epsilon$, which is $10^{-7}$ or $10^{-16}$. The KL has no correct
# digit left where $l^2$ is below that. What helps is not to make the 1 at all: `expm1(2l)` is $e^{2l} - 1$, rounded by $\epsilon$ of *itself*.

# %%
def as_written(l):
    return 0.5 * (np.exp(2 * l) - 1) - l


def with_expm1(l):
    return 0.5 * np.expm1(2 * l) - l


def by_series(l):
    """Σ 2^(k − 1) l^k / k! from k = 2 on, in float64; for l > 0 nothing cancels in it."""
    l, term, total = l.astype(float), l.astype(float), 0.0
    for k in range(2, 40):
        term = term * 2 * l / k
        total = total + term
    return total


sizes = 10.0 ** np.arange(-9, 0.01, 0.25)
fig, ax = plt.subplots(figsize=(6.6, 3.6))
for dtype, colour in (("float64", COLOURS[0]), ("float32", COLOURS[3])):
    for name, formula, style in (("as written", as_written, "-"), ("with expm1", with_expm1, "--")):
        error = []
        for size in sizes:
            l = (size * np.linspace(0.8, 1.25, 40)).astype(dtype)
            error.append(np.median(np.abs(formula(l) / by_series(l) - 1)))
        ax.loglog(sizes, np.maximum(error, 1e-17), style, color=colour, label=f"{dtype}, {name}")
ax.axhline(1, color="#666666", lw=1, ls=":")
ax.set(xlabel="log s", ylabel="relative error of the KL", ylim=(1e-17, 1e6))
ax.legend(frameon=False, fontsize=8, loc="lower left")
plt.show()

small = np.float32(1e-4)
print("float32, log s = 1e-4, where the KL is 1e-8:")
print(f"as written {as_written(small):.2e}, with expm1 {with_expm1(small):.2e}")

# %% [markdown]
# Above the dotted line the number has nothing to do with the KL; it may be negative, which a KL cannot. To be fair: in nats the error is never more
# than $10^{-7}$, and in a $Q$ of tens of nats nobody is hurt; the package itself writes (3.4) as it stands. It hurts whoever compares KLs of
# collapsed units, takes their logarithm, or divides by them. (The dashed lines rise too: `expm1` loses no digit, but the difference that follows
# still cancels the first order. A factor of $1/l$ is lost, and not of $1/l^2$.)
#
# **Exercise 11-2.** `kl_near_prior(m, log_s)` takes `m` and `log_s` (N, K), all of them about $10^{-7}$ in size, and returns the KL of each
# data case, (N,), in float64, right to six digits.

# %% tags=["exercise"]
def kl_near_prior(m, log_s):
    """KL(N(m, s²) ‖ N(0, 1)), summed over latent variables, (N,)."""
    ...


# %% tags=["check"]
grade.check("11-2", kl_near_prior)

# %% [markdown] tags=["hint"]
# Which part of $\frac{1}{2}(m^2 + s^2 - 1 - 2 \log s)$ is near 1? It must never be computed.

# %% [markdown] tags=["hint"]
# $s^2 - 1 = e^{2 \log s} - 1$, and for $e^x - 1$ there is `np.expm1`.

# %% [markdown] tags=["hint"]
# `0.5 * np.sum(m**2 + np.expm1(2 * log_s) - 2 * log_s, axis=1)`

# %% tags=["solution"]
def kl_near_prior(m, log_s):
    return 0.5 * np.sum(m**2 + np.expm1(2.0 * log_s) - 2.0 * log_s, axis=1)


# %% [markdown]
# ## 5. What a step costs
#
# Count first. A dense layer with $P$ weights takes $2P$ operations, a product and a sum for each, for one row down, and twice that up: $dW$
# and $dx$ are two products of the same size. So a step for $B$ rows takes about $6PB$, and the arithmetic grows in proportion to the batch. But
# each array operation also has a price of its own, the call, whatever the size. So
#
# $$
# T(B) \approx a + t B
# $$
#
# with an overhead $a$ and $t$ seconds for each row. **What do you expect** of a batch of 10 beside one of 100: how much faster?
# (On a processor it is the time of one core that is measured, which other programs hardly disturb.)

# %%
params, x, eta = started(backends["NumPy, float64"])
in_f, in_g = (
    sum(layer["W"].size for layer in net if layer)
    for net in (params["theta"]["decoder"], params["recognition"])
)
operations = 6 * (S * in_f + in_g)                                 # for a row, of which S samples are drawn
rows = [n for n in (10, 30, 100, 300, 1000) if n <= cases]
measured = {}
for name in [name for name in backends if name != "elsewhere, float64"]:
    params, x, eta = started(backends[name])
    has_own = "CuPy" not in name and time.process_time() > 0       # in a browser that clock stands still
    clock = time.process_time if has_own else time.perf_counter
    took = {n: [] for n in rows}
    with workers.threads(1):                                       # BLAS too has one thread
        for _ in range(9):                                         # in turn: a disturbance hits all
            for n in rows:
                begun = clock()
                step(params, x[:n], eta[:, :n])
                took[n].append(clock() - begun)
    measured[name] = np.array([max(min(took[n]), 1e-6) for n in rows])

print("milliseconds for a step, the best of nine:")
print(f"{'rows in a step':18}" + "".join(f"{n:8}" for n in rows))
for name, seconds in measured.items():
    print(f"{name:18}" + "".join(f"{1e3 * s:8.2f}" for s in seconds))

# %%
fits = {}
for name, seconds in measured.items():                             # least squares of relative errors
    design = np.stack([np.ones(len(rows)), rows], axis=1) / seconds[:, None]
    fits[name] = np.maximum(np.linalg.lstsq(design, np.ones(len(rows)), rcond=None)[0], 1e-9)
line = np.geomspace(min(rows), max(rows), 50)
fig, ax = plt.subplots(figsize=(6, 3.4))
looks = zip([COLOURS[i] for i in (0, 3, 6, 4)], ("o", "^", "s", "v"))
for (name, seconds), (colour, marker) in zip(measured.items(), looks):
    a, t = fits[name]
    ax.loglog(rows, 1e3 * seconds, marker, color=colour, label=name)
    ax.loglog(line, 1e3 * (a + t * line), color=colour, lw=1)
ax.set(xlabel="rows in a step, B", ylabel="milliseconds for a step", xticks=rows)
low, high = ax.get_ylim()
ax.set_yticks([v for v in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if low <= v <= high])
ax.xaxis.set_major_formatter("{x:g}")
ax.yaxis.set_major_formatter("{x:g}")
ax.minorticks_off()
ax.legend(frameon=False)
plt.show()
for name, (a, t) in fits.items():
    rate = operations / t / 1e9
    print(f"{name}: a = {1e6 * a:.0f} µs, t = {1e6 * t:.2f} µs for a row")
    print(f"    {rate:.1f} billion operations a second; the overhead is half of a step of {a / t:.0f} rows")

# %% [markdown]
# On the left the curve is flat: a step of few rows costs the overhead, and rows are nearly free. On the right it is a straight line of slope 1. In
# between, at $B = a/t$, half of the time is overhead. A machine that computes faster lowers $t$ and leaves $a$ as it is, or makes it worse, for
# a GPU has to be told of each operation over a bus. How many are there in a step? The stand-in counts them.

# %%
params, x, eta = started(backends["elsewhere, float64"])
before = LIBRARY.calls
amortised(model, recognition, params, x, eta)
print(f"array operations in one step, forward and backward: {LIBRARY.calls - before}")

# %% [markdown]
# That many launches a step, whatever the batch. If one takes $c$ seconds, a step on a GPU takes no less than $c$ times that number, and a batch so
# small that a processor is done by then is better left on the processor. (CuPy makes one operation of many: the package hands it each of its
# elementwise formulas as one kernel.) What $c$ is and from which size on a GPU pays is a property of the card and its driver, to be
# measured, not quoted: `python -m benchmarks gpu` does. As a rule for thinking, not a figure: a GPU pays where products are large, wide
# layers, large batches, many samples $S$, and not on a network of this size.
#
# Two more prices. Data that travel between host and GPU at every step cost more than the step; so data, parameters and optimiser live there for the whole
# fit. And asking for one number, `float(Q)` or `if Q < best`, waits for all that is still being computed; so losses are collected there, and
# fetched once an epoch.
#
# ## 6. Threads
#
# A processor has several cores. Two ways to use them: BLAS splits each product, which pays for large products; or blocks of data cases are dealt
# out to threads, which pays for many small ones: `n_jobs`. Does the result depend on it? In floating point $(a + b) + c$ is not $a + (b + c)$, so it would if
# the sums were split differently. Here the borders of the blocks and the order in which their results are added never depend on the number of
# threads, and BLAS is held at one thread in each. **What do you expect** of the parameters, to the bit?

# %%
fits_of = {}
for threads in (1, n_jobs):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        begun = time.perf_counter()
        em = VariationalEM(K, hidden=hidden, epochs=1, random_state=seed, n_jobs=threads)
        em.fit(x_host[:300])
        fits_of[threads] = em.phi_, time.perf_counter() - begun
    for warning in caught:
        if "threads" in str(warning.message):
            print("warning:", warning.message)
    print(f"{threads} thread(s): {fits_of[threads][1]:.2f} s")
(one, t_one), (many, t_many) = fits_of[1], fits_of[n_jobs]
print("the same bits in every φ:", np.array_equal(one, many))

# %% [markdown]
# How much faster may it get? Let a share $\sigma$ of the work be done by one alone: what is not dealt out, and the waiting. The rest is divided by
# the $p$ workers. Then
#
# $$
# \frac{T(1)}{T(p)} = \frac{1}{\sigma + (1 - \sigma)/p} \leq \frac{1}{\sigma}
# $$
#
# which is Amdahl's law: with a tenth done by one alone, no number of workers makes it more than ten times as fast.

# %%
p = np.arange(1, 65)
fig, ax = plt.subplots(figsize=(6, 3.4))
for share, colour, style in [
    (0.0, "#666666", ":"), (0.01, COLOURS[0], "-"), (0.1, COLOURS[3], "--"), (0.3, COLOURS[6], "-."),
]:
    ax.loglog(p, 1 / (share + (1 - share) / p), style, color=colour, label=f"σ = {share:g}")
doubled = 2 ** np.arange(7)
ax.set(xlabel="workers, p", ylabel="times as fast", xticks=doubled, yticks=doubled)
ax.xaxis.set_major_formatter("{x:g}")
ax.yaxis.set_major_formatter("{x:g}")
ax.minorticks_off()
ax.legend(frameon=False)
plt.show()
if n_jobs > 1:
    gain = t_one / t_many
    print(f"measured here with {n_jobs} threads: {gain:.2f} times as fast", end="")
    share = (n_jobs / gain - 1) / (n_jobs - 1)
    print(f", σ = {share:.2f}" if share < 1 else "; there is no second core to spare at the moment")

# %% [markdown]
# A machine on which others work too, or one with fewer cores than threads, shows less, or even a loss. And BLAS' own threads on top, with
# idle ones that spin, can make small steps many times slower. When in doubt: one thread, and measure.
#
# ## 7. Several machines
#
# Data that do not fit one machine are shared out: each *rank*, a process, has rows of its own, and runs the same program. What needs all rows is a sum,
# and sums over rows can be taken in parts. Two cases.
#
# **Factor analysis** needs of the data no more than $N$, the mean and the scatter $T = \sum_n (x_n - \bar{x})^\top (x_n - \bar{x})$ (2.7). Can two ranks get at
# the $T$ of all rows from their own two? Rank $i$'s rows, seen from the common mean, have the scatter $T_i + N_i (\bar{x}_i - \bar{x})^\top (\bar{x}_i - \bar{x})$, as the
# mixed terms vanish: deviations from a mean sum to 0. Insert $\bar{x}_1 - \bar{x} = -\frac{N_2}{N} \delta$ and $\bar{x}_2 - \bar{x} = \frac{N_1}{N} \delta$ with
# $\delta = \bar{x}_2 - \bar{x}_1$, and
#
# $$
# N = N_1 + N_2, \qquad \bar{x} = \bar{x}_1 + \frac{N_2}{N} \delta, \qquad T = T_1 + T_2 + \frac{N_1 N_2}{N} \delta^\top \delta
# $$
#
# (2.18). One message of $D^2$ numbers, whatever $N$ is.
#
# **Exercise 11-3.** `merged_moments(n1, mean1, scatter1, n2, mean2, scatter2)` takes the numbers of rows, the means (D,) and the scatters (D, D) of
# two ranks, and returns a dict with `"n"`, `"mean"` (D,) and `"scatter"` (D, D) of all rows.

# %% tags=["exercise"]
def merged_moments(n1, mean1, scatter1, n2, mean2, scatter2):
    """{"n": …, "mean": (D,), "scatter": (D, D)} of the rows of both."""
    n = ...
    mean = ...
    scatter = ...
    return {"n": n, "mean": mean, "scatter": scatter}


# %% tags=["check"]
grade.check("11-3", merged_moments)

# %% [markdown] tags=["hint"]
# The mean of all lies between the two means, nearer to that of the rank with more rows.

# %% [markdown] tags=["hint"]
# $\delta$ is a row, and $\delta^\top \delta$ a matrix (D, D): `np.outer(delta, delta)`.

# %% [markdown] tags=["hint"]
# `mean1 + n2 / n * delta`, and `scatter1 + scatter2 + n1 * n2 / n * np.outer(delta, delta)`.

# %% tags=["solution"]
def merged_moments(n1, mean1, scatter1, n2, mean2, scatter2):
    n = n1 + n2
    delta = mean2 - mean1
    mean = mean1 + n2 / n * delta
    scatter = scatter1 + scatter2 + n1 * n2 / n * np.outer(delta, delta)
    return {"n": n, "mean": mean, "scatter": scatter}


# %% [markdown]
# Two ranks, played one after the other in this process: each computes the moments of its own rows, they are added, and factor analysis is fitted
# to the sum. It has never seen a row.

# %%
table = datasets.linear_gaussian(n_cases=cases, n_visible=10, n_latent=3, seed=seed).x
first, second = table[: cases // 3], table[cases // 3 :]            # uneven on purpose
both, whole = moments.moments(first) + moments.moments(second), moments.moments(table)
print(f"ranks with {len(first)} and {len(second)} rows; the scatter differs by "
      f"{np.abs(both.scatter - whole.scatter).max() / np.abs(whole.scatter).max():.0e}, relative")

alone = FactorAnalysis(K, random_state=seed).fit(table)
by_parts = FactorAnalysis(K, random_state=seed)
by_parts.fit_covariance(both.covariance, n_cases=cases, mean=both.mean)
for words, fa in (("in one process", alone), ("by parts", by_parts)):
    print(f"mean nlml {words}: {fa.nlml(table).values.mean():.9f}")

# %% [markdown]
# Why not the short formula, $T = \sum_n x_n^\top x_n - N \bar{x}^\top \bar{x}$, whose sums merge by plain addition? Far from the origin it is a difference of nearly equal
# numbers, as in section 4. **What do you expect** if a hundred million is added to all of the data?

# %%
far = table + 1e8
short = far.T @ far - len(far) * np.outer(far.mean(axis=0), far.mean(axis=0))
merged_far = moments.moments(far[: cases // 3]) + moments.moments(far[cases // 3 :])
scale = np.abs(whole.scatter).max()
print(f"short formula: off by {np.abs(short - whole.scatter).max() / scale:.0e}, relative")
print(f"merged:        off by {np.abs(merged_far.scatter - whole.scatter).max() / scale:.0e}")

# %% [markdown]
# **The VAE** needs at each step the gradient of $\sum_n Q_n$ over a minibatch, a sum over its rows. Each rank takes its share of the minibatch and of $\eta$ (every
# rank draws all of it, from the same seed, and keeps its own), and adds its part of the gradient to the others': one message of as many
# numbers as there are parameters. Played with two uneven parts:

# %%
params, x, eta = started(backends["NumPy, float64"])
cut = cases // 3
shares = slice(0, cut), slice(cut, cases)
parts = [step(params, x[rank], eta[:, rank], n_cases=cases) for rank in shares]
together = sum(gradient for _, gradient in parts)
print(f"mean Q: {sum(mean_Q for mean_Q, _ in parts):.10f} by parts, {reference:.10f} in one piece")
difference = np.abs(together - exact).max() / np.abs(exact).max()
print(f"the gradient differs by {difference:.0e}, relative")

# %% [markdown]
# The trap is in the means. Programs usually report the *mean* gradient of a rank's rows. The mean of means is the mean of all only if all ranks have
# equally many rows. And the minibatch itself stands for all data: with $M$ of $N$ cases in it, the unbiased estimate of the gradient of
# $\sum_{n=1}^{N} Q_n$ is $\frac{N}{M}$ times the minibatch's sum (1.29).
#
# **Exercise 11-4.** `gradient_of_parts(means, counts, n_cases)` takes of R ranks the mean gradient over their rows of the minibatch, `means` (R, P), how many
# rows each has, `counts` (R,), and the number N of all data cases. It returns the estimate, (P,), of the gradient of the sum of Q over all N.

# %% tags=["exercise"]
def gradient_of_parts(means, counts, n_cases):
    """The estimate (P,) of the gradient of Σ Q over all data cases."""
    ...


# %% tags=["check"]
grade.check("11-4", gradient_of_parts)

# %% [markdown] tags=["hint"]
# From means back to sums: how many rows stand behind each mean?

# %% [markdown] tags=["hint"]
# The sum over the minibatch is $\sum_r M_r \bar{g}_r$, with $M = \sum_r M_r$ rows in all.

# %% [markdown] tags=["hint"]
# `n_cases / np.sum(counts) * (counts @ means)`

# %% tags=["solution"]
def gradient_of_parts(means, counts, n_cases):
    return n_cases / np.sum(counts) * (counts @ means)


# %% [markdown]
# What does the message cost? Let $t$ be the seconds for a row, as measured above. The gradient of $P$ parameters, 8 bytes each, is summed over $p$ ranks: it goes round
# twice in $p$ pieces, each message with a delay $\alpha$ and a rate of $\beta$ bytes a second. A step with a minibatch of $B$ rows takes
#
# $$
# T(B, p) = \frac{tB}{p} + 2 (p - 1) \left( \alpha + \frac{8P}{p \beta} \right)
# $$
#
# The picture puts in the $t$ of this machine, and a network that is **assumed**, not measured: a delay of 50 µs, and 10 Gbit/s.

# %%
a, t = fits["NumPy, float64"]
alpha, beta, numbers = 50e-6, 1.25e9, exact.size
p = np.arange(1, 65)
fig, ax = plt.subplots(figsize=(6, 3.4))
for batch, colour, style in [
    (128, COLOURS[0], "-"), (4096, COLOURS[3], "--"), (131_072, COLOURS[6], "-."),
]:
    seconds = t * batch / p + 2 * (p - 1) * (alpha + 8 * numbers / (p * beta))
    ax.loglog(p, seconds[0] / seconds, style, color=colour, label=f"minibatch of {batch}")
ax.loglog(p, p, ":", color="#666666", label="p times as fast")
ax.set(xlabel="ranks, p", ylabel="times as fast", xticks=[1, 2, 4, 8, 16, 32, 64])
ax.xaxis.set_major_formatter("{x:g}")
ax.tick_params(axis="x", which="minor", bottom=False)
ax.legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# A small minibatch of a small network is slower on many machines than on one: there is nothing to share out. Large minibatches pay; but then there are fewer
# steps in an epoch, and the search is another one. Factor analysis pays as soon as the data are worth a message at all: it sends one. `docs/ranks.md` has
# the program, `mpiexec -n 2 python -m mpi4py program.py`, and measurements.
#
# ## 8. When what pays
#
# | you have | take | because |
# |---|---|---|
# | a linear model | factor analysis, on one core | it needs the moments alone; one pass over the data |
# | a small network, small minibatches | one core, NumPy | a step is mostly overhead, and nothing to share |
# | E-steps or evaluations of many cases | `n_jobs` | blocks are independent, the bits stay the same |
# | wide layers, large minibatches, many samples | a GPU, float32 | the arithmetic outweighs the launches |
# | data beyond one machine | ranks | the sums are small, the rows are not |
# | doubt | `python -m benchmarks` | figures of other machines say little of yours |
#
# ## To try
#
# 1. Set `hidden = (512,)` and look at $a$ and $t$ again. What has grown, and by how much?
# 2. In section 3 use another likelihood, `likelihoods.StudentT(D)`. Do the bits still agree?
# 3. On which minibatch do two ranks of the picture begin to pay? Solve $T(B, 2) = T(B, 1)$ for $B$.

# %% summary="A solution to the third" tags=["solution"]
print(f"B = {4 * (alpha + 4 * numbers / beta) / t:.0f}: from tB/2 = 2 (α + 8P/2β)")

# %% [markdown]
# Next: [12 · Beyond the lecture](12-beyond-the-lecture.ipynb). Before:
# [10 · Backpropagation by hand](10-backpropagation-by-hand.ipynb). The beginning:
# [00, start here](00-start-here.ipynb).
