"""The exercises of notebook 10, backpropagation by hand: layers, checks, likelihoods, the bound, faults."""

from dataclasses import dataclass
import math

import numpy as np

from ..exercise import Exercise, by_choice, by_gradient, by_value

TINY = 1e-30                                                       # of a complex step, which rounds nothing


def away(rng, shape, low=0.5, high=1.5):
    """Numbers of either sign, of this shape, none of them small."""
    return rng.choice([-1.0, 1.0], shape) * rng.uniform(low, high, shape)


def but(right, **leaves):
    """A mistake: the right answer, a tuple or a dict, with some leaves others.

    leaves  {name or "_place": function of the right answer and of the arguments}
    """
    def mistake(**arguments):
        answer = right(**arguments)
        changed = {name: change(answer, **arguments) for name, change in leaves.items()}
        if isinstance(answer, dict):
            return answer | changed
        return tuple(changed.get(f"_{place}", leaf) for place, leaf in enumerate(answer))

    return mistake


# ---- a dense layer ---------------------------------------------------------------------------


def draw_dense(rng, n):
    """Rows x (N, D), a layer W (D, K), b (K,), and what comes back, dy (N, K)."""
    return {
        "x": rng.standard_normal((n.N, n.D)), "W": rng.standard_normal((n.D, n.K)),
        "b": rng.standard_normal(n.K), "dy": away(rng, (n.N, n.K)),
    }


def dense_sum(x, W, b, dy):
    """The number whose gradient a dense layer's backward is."""
    return np.sum(dy * (x @ W + b))


def dense(x, W, b, dy):
    """dx, dW and db."""
    return dy @ W.T, x.T @ dy, dy.sum(axis=0)


def dense_of_ones(x, W, b, dy):
    """As if every dy were 1."""
    ones = np.ones_like(dy)
    return ones @ W.T, x.T @ ones, ones.sum(axis=0)


def dense_by_means(x, W, b, dy):
    """Means over the rows in dW and db."""
    return dy @ W.T, x.T @ dy / len(x), dy.mean(axis=0)


# ---- activations -----------------------------------------------------------------------------


def draw_tanh(rng, n):
    """The cache y = tanh x (N, D), and dy (N, D)."""
    return {"y": np.tanh(rng.standard_normal((n.N, n.D))), "dy": away(rng, (n.N, n.D))}


def tanh_slope(y, dy):
    """By another formula for the slope, 1 / cosh² x, at x got back from y."""
    return dy / np.cosh(np.arctanh(y)) ** 2


def draw_softplus(rng, n):
    """x (N, D), two of them large and one far below 0, and dy (N, D)."""
    x = 2 * rng.standard_normal((n.N, n.D))
    x[0, 0], x[1, 1], x[2, 2] = 800.0, 710.0, -800.0
    return {"x": x, "dy": away(rng, (n.N, n.D))}


def softplus_both(x, dy):
    """Value and backward of softplus, the slope by a tangent: σ(x) = ½ (1 + tanh ½x)."""
    return {"y": np.logaddexp(0, x), "dx": dy * 0.5 * (1 + np.tanh(0.5 * x))}


def softplus_without_dy(x, dy):
    """dx without what comes back."""
    return softplus_both(x, np.ones_like(dy))


def softplus_mirrored(x, dy):
    """The slope of the other side, 1 − σ(x)."""
    return {"y": np.logaddexp(0, x), "dx": dy * 0.5 * (1 - np.tanh(0.5 * x))}


def rectifier(x, dy):
    """The limit of softplus, with a corner."""
    return {"y": np.maximum(x, 0), "dx": dy * (x > 0)}


# ---- two layers ------------------------------------------------------------------------------


def draw_network(rng, n):
    """x (N, D), W1 (D, S), b1 (S,), W2 (S, K), b2 (K,), and dy (N, K)."""
    return {
        "x": rng.standard_normal((n.N, n.D)), "W1": 0.5 * rng.standard_normal((n.D, n.S)),
        "b1": away(rng, n.S), "W2": rng.standard_normal((n.S, n.K)), "b2": rng.standard_normal(n.K),
        "dy": away(rng, (n.N, n.K)),
    }


def network_sum(x, W1, b1, W2, b2, dy):
    """The number whose gradient the network's backward is."""
    return np.sum(dy * (np.tanh(x @ W1 + b1) @ W2 + b2))


def _network(x, W1, b1, W2, dy, slope, into=lambda a: np.tanh(a)):
    """The five gradients, with a slope for tanh, and what goes into the second layer, as functions of a."""
    a = x @ W1 + b1
    da = (dy @ W2.T) * slope(a)
    return da @ W1.T, x.T @ da, da.sum(axis=0), into(a).T @ dy, dy.sum(axis=0)


def network_right(x, W1, b1, W2, b2, dy):
    """All five."""
    return _network(x, W1, b1, W2, dy, lambda a: 1 - np.tanh(a) ** 2)


def network_slope_h(x, W1, b1, W2, b2, dy):
    """h for 1 − h²."""
    return _network(x, W1, b1, W2, dy, np.tanh)


def network_slope_one_minus_h(x, W1, b1, W2, b2, dy):
    """1 − h for 1 − h²."""
    return _network(x, W1, b1, W2, dy, lambda a: 1 - np.tanh(a))


def network_without_slope(x, W1, b1, W2, b2, dy):
    """No slope of tanh."""
    return _network(x, W1, b1, W2, dy, lambda a: 1.0)


def network_tanh_twice(x, W1, b1, W2, b2, dy):
    """The slope taken at h = tanh a instead of at a."""
    return _network(x, W1, b1, W2, dy, lambda a: 1 - np.tanh(np.tanh(a)) ** 2)


def network_slope_of_a(x, W1, b1, W2, b2, dy):
    """1 − a² for 1 − h²."""
    return _network(x, W1, b1, W2, dy, lambda a: 1 - a**2)


def network_dW2_of_a(x, W1, b1, W2, b2, dy):
    """dW2 of what goes into tanh."""
    return _network(x, W1, b1, W2, dy, lambda a: 1 - np.tanh(a) ** 2, lambda a: a)


def network_without_b1(x, W1, b1, W2, b2, dy):
    """The slopes of another point."""
    return _network(x, W1, 0 * b1, W2, dy, lambda a: 1 - np.tanh(a) ** 2)


def network_of_mean(x, W1, b1, W2, b2, dy):
    """Means over the rows in what is shared by them."""
    dx, *shared = _network(x, W1, b1, W2, dy, lambda a: 1 - np.tanh(a) ** 2)
    return dx, *(d / len(x) for d in shared)


# ---- a numeric gradient ----------------------------------------------------------------------


@dataclass(frozen=True)
class Waves:
    """F(p) = Σ c exp(a p), a function of an array p, whose central differences are a closed form."""

    c: np.ndarray
    a: np.ndarray

    def __call__(self, p):
        """One number."""
        return np.sum(self.c * np.exp(self.a * p))

    def __repr__(self):
        return "F"


def draw_function(rng, n):
    """F, a point p (D, K), some of it well above 1, and a step so long that one sees it."""
    p = away(rng, (n.D, n.K), 0.3, 0.9)
    p[::2] *= 4.0
    return {"F": Waves(away(rng, p.shape), away(rng, p.shape, 0.3, 0.8)), "p": p, "h": 0.1}


def of_waves(F, p, h):
    """The central differences of `Waves`, in closed form."""
    step = h * np.maximum(1.0, np.abs(p))
    return F.c * np.exp(F.a * p) * np.sinh(F.a * step) / step


def exact_slope(F, p, h):
    """The derivative itself."""
    return F.c * F.a * np.exp(F.a * p)


def _stepped(F, p, step):
    """The central differences with another step."""
    return F.c * np.exp(F.a * p) * np.sinh(F.a * step) / step


def one_sided(F, p, h):
    """(F(p + h) − F(p)) / h."""
    step = h * np.maximum(1.0, np.abs(p))
    return F.c * np.exp(F.a * p) * np.expm1(F.a * step) / step


def backward_sided(F, p, h):
    """(F(p) − F(p − h)) / h."""
    step = h * np.maximum(1.0, np.abs(p))
    return -F.c * np.exp(F.a * p) * np.expm1(-F.a * step) / step


def plain_step(F, p, h):
    """h itself, whatever the parameter's size."""
    return F.c * np.exp(F.a * p) * np.sinh(F.a * h) / h


def relative_step(F, p, h):
    """h |p|, however small that is."""
    step = h * np.abs(p)
    return F.c * np.exp(F.a * p) * np.sinh(F.a * step) / step


def over_h(F, p, h):
    """Divided by h, where the points are 2h apart."""
    return 2 * of_waves(F, p, h)


def over_plain_h(F, p, h):
    """The step grows with the parameter, and what it is divided by does not."""
    return of_waves(F, p, h) * np.maximum(1.0, np.abs(p))


def all_at_once(F, p, h):
    """Every entry is moved at once, and all get the same number."""
    step = h * np.maximum(1.0, np.abs(p))
    return (F(p + step) - F(p - step)) / (2 * step)


def not_put_back(F, p, h):
    """The entries before stay where they were moved to."""
    low, high, found = p.copy(), p.copy(), np.zeros_like(p)
    for i in np.ndindex(p.shape):
        step = h * max(1.0, abs(p[i]))
        low[i], high[i] = p[i] - step, p[i] + step
        found[i] = (F(high) - F(low)) / (2 * step)
    return found


# ---- softmax ---------------------------------------------------------------------------------


def draw_softmax(rng, n):
    """Probabilities y (N, D), which sum to 1 in each row, and dy (N, D)."""
    logits = rng.standard_normal((n.N, n.D))
    y = np.exp(logits)
    return {"y": y / y.sum(axis=1, keepdims=True), "dy": away(rng, (n.N, n.D))}


def softmax_by_jacobian(y, dy):
    """By the whole matrix of derivatives of each row, y_i ([i = j] − y_j)."""
    J = np.einsum("ni,ij->nij", y, np.eye(y.shape[1])) - np.einsum("ni,nj->nij", y, y)
    return np.einsum("ni,nij->nj", dy, J)


# ---- likelihoods -----------------------------------------------------------------------------


def draw_gaussian(rng, n):
    """f (S, N, D), log_psi (D,), x (N, D), dlog_p (S, N)."""
    return {
        "f": rng.standard_normal((n.S, n.N, n.D)), "log_psi": away(rng, n.D, 0.3, 0.9),
        "x": rng.standard_normal((n.N, n.D)), "dlog_p": away(rng, (n.S, n.N)),
    }


def squares(f, log_psi, x, dlog_p):
    """The part of log p with residuals in it, (S, N)."""
    return -0.5 * dlog_p * np.sum((x - f) ** 2 / np.exp(log_psi), axis=2)


def logarithms(f, log_psi, x, dlog_p):
    """The part with log ψ, (S, N)."""
    return -0.5 * dlog_p * np.sum(log_psi + math.log(2 * math.pi))


def gaussian_sum(f, log_psi, x, dlog_p):
    """The number whose gradient the Gaussian's backward is."""
    return np.sum(squares(f, log_psi, x, dlog_p) + logarithms(f, log_psi, x, dlog_p))


def _gaussian(f, log_psi, x, dlog_p, one=1.0, half=0.5, by=1.0):
    """df and dlog_psi, with some of their numbers others."""
    r, d = x - f, dlog_p[:, :, None]
    return d * r * np.exp(-by * log_psi), half * np.sum(d * (r**2 * np.exp(-log_psi) - one), axis=(0, 1))


def gaussian_right(f, log_psi, x, dlog_p):
    """df and dlog_psi."""
    return _gaussian(f, log_psi, x, dlog_p)


def _quadratic(f, log_psi, x, dlog_p):
    """The part of dlog_psi that the squares have."""
    return 0.5 * np.sum(dlog_p[:, :, None] * (x - f) ** 2 * np.exp(-log_psi), axis=(0, 1))


GAUSSIAN = {
    "right except for df: the residual itself is asked for, and this is its square":
        but(gaussian_right, _0=lambda right, f, log_psi, x, dlog_p: right[0] * (x - f)),
    "right except for df: it lacks dlog_p, what comes back from above":
        but(gaussian_right, _0=lambda right, f, log_psi, x, dlog_p: (x - f) * np.exp(-log_psi)),
    "right except for dlog_psi: it lacks dlog_p, what comes back from above":
        but(gaussian_right, _1=lambda right, f, log_psi, x, dlog_p:
            _gaussian(f, log_psi, x, np.ones_like(dlog_p))[1]),
    "right except for dlog_psi: the −1 is not multiplied by dlog_p; take it off before the product":
        but(gaussian_right, _1=lambda right, f, log_psi, x, dlog_p:
            _quadratic(f, log_psi, x, dlog_p) - 0.5 * dlog_p.size),
    "right except for dlog_psi: the −½ is taken off once, and belongs to every sample and data case":
        but(gaussian_right, _1=lambda right, f, log_psi, x, dlog_p:
            _quadratic(f, log_psi, x, dlog_p) - 0.5),
    "right except for dlog_psi: the residual stands where its square belongs":
        but(gaussian_right, _1=lambda right, f, log_psi, x, dlog_p:
            0.5 * np.sum(dlog_p[:, :, None] * ((x - f) * np.exp(-log_psi) - 1), axis=(0, 1))),
}


def gaussian_of_deviation(f, log_psi, x, dlog_p):
    """As if log_psi were the logarithm of a standard deviation."""
    r, d = x - f, dlog_p[:, :, None]
    return d * r * np.exp(-2 * log_psi), np.sum(d * (r**2 * np.exp(-2 * log_psi) - 1), axis=(0, 1))


def gaussian_without_exp(f, log_psi, x, dlog_p):
    """log ψ where ψ belongs."""
    r, d = x - f, dlog_p[:, :, None]
    return d * r / log_psi, 0.5 * np.sum(d * (r**2 / log_psi - 1), axis=(0, 1))


def draw_laplace(rng, n):
    """f (S, N, D), log_b (D,), x (N, D), dlog_p (S, N); no residual is near the kink."""
    x = rng.standard_normal((n.N, n.D))
    return {
        "f": x - away(rng, (n.S, n.N, n.D), 0.2, 2.0), "log_b": away(rng, n.D, 0.3, 0.9),
        "x": x, "dlog_p": away(rng, (n.S, n.N)),
    }


def laplace_by_density(f, log_b, x, dlog_p):
    """The logarithm of the density as it is written; slopes by complex steps on the side where x lies."""
    side = np.sign(x - f)

    def log_p(f, log_b):
        return np.log(np.exp(-side * (x - f) / np.exp(log_b)) / (2 * np.exp(log_b)))

    df = dlog_p[:, :, None] * log_p(f + 1j * TINY, log_b).imag / TINY
    dlog_b = np.einsum("sn,snd->d", dlog_p, log_p(f, log_b + 1j * TINY).imag / TINY)
    return {"log_p": log_p(f, log_b).sum(axis=2), "df": df, "dlog_b": dlog_b}


def _laplace(change):
    """A mistake: the right answer, changed by a function of it and of the arguments."""
    def mistake(f, log_b, x, dlog_p):
        right = laplace_by_density(f, log_b, x, dlog_p)
        return right | change(right, (x - f) / np.exp(log_b), f, log_b, x, dlog_p[:, :, None])

    return mistake


LAPLACE = {
    "right except for log_p: log 2b is missing, the constant that makes the density integrate to one":
        _laplace(lambda right, u, f, log_b, x, d: {"log_p": -np.abs(u).sum(axis=2)}),
    "right except for log_p: the 2 of 2b is missing, log 2 for each variable":
        _laplace(lambda right, u, f, log_b, x, d: {"log_p": -(np.abs(u) + log_b).sum(axis=2)}),
    "right except for log_p: mean where it sums over variables":
        _laplace(lambda right, u, f, log_b, x, d: {"log_p": right["log_p"] / x.shape[1]}),
    "right except for log_p: the square of a residual, as of a Gaussian, and Laplace's has its size":
        _laplace(lambda right, u, f, log_b, x, d: {"log_p": -(u**2 + log_b + math.log(2)).sum(axis=2)}),
    "right except for log_p: log b has its sign turned; a wider density is a lower one":
        _laplace(lambda right, u, f, log_b, x, d: {
            "log_p": -(np.abs(u) - log_b + math.log(2)).sum(axis=2)
        }),
    "right except for log_p: its sign is turned; log p is asked for, and this is −log p":
        _laplace(lambda right, u, f, log_b, x, d: {"log_p": -right["log_p"]}),
    "right except for log_p: u stands where |u| belongs":
        _laplace(lambda right, u, f, log_b, x, d: {"log_p": -(u + log_b + math.log(2)).sum(axis=2)}),
    "right except for df: |u| stands where the sign of u belongs":
        _laplace(lambda right, u, f, log_b, x, d: {"df": d * np.abs(u) * np.exp(-log_b)}),
    "right except for df: its sign is turned; f nearer to x makes x more probable":
        _laplace(lambda right, u, f, log_b, x, d: {"df": -right["df"]}),
    "right except for df: it lacks 1/b, the slope of u = (x − f)/b in f":
        _laplace(lambda right, u, f, log_b, x, d: {"df": d * np.sign(u)}),
    "right except for df: it has the residual itself, as a Gaussian's, and Laplace's has its sign alone":
        _laplace(lambda right, u, f, log_b, x, d: {"df": d * u * np.exp(-log_b)}),
    "right except for df: it lacks dlog_p, what comes back from above":
        _laplace(lambda right, u, f, log_b, x, d: {"df": right["df"] / d}),
    "right except for dlog_b: it lacks the −1 that log 2b leaves":
        _laplace(lambda right, u, f, log_b, x, d: {"dlog_b": np.sum(d * np.abs(u), axis=(0, 1))}),
    "right except for dlog_b: u stands where |u| belongs":
        _laplace(lambda right, u, f, log_b, x, d: {"dlog_b": np.sum(d * (u - 1), axis=(0, 1))}),
    "right except for dlog_b: it is the slope in b; by log b it is b times as much":
        _laplace(lambda right, u, f, log_b, x, d: {"dlog_b": right["dlog_b"] * np.exp(-log_b)}),
    "right except for dlog_b: it lacks dlog_p, what comes back from above":
        _laplace(lambda right, u, f, log_b, x, d: {"dlog_b": np.sum(np.abs(u) - 1, axis=(0, 1))}),
    "right except for log_p: log b is missing; a wider density is a lower one":
        _laplace(lambda right, u, f, log_b, x, d: {"log_p": right["log_p"] + np.sum(log_b)}),
    "right except for log_p: log 2 is there once, and it belongs to every variable":
        _laplace(lambda right, u, f, log_b, x, d: {
            "log_p": right["log_p"] + (x.shape[1] - 1) * math.log(2)
        }),
    "right except for log_p: ½|u| where |u| belongs: the ½ is a Gaussian's":
        _laplace(lambda right, u, f, log_b, x, d: {"log_p": right["log_p"] + 0.5 * np.abs(u).sum(axis=2)}),
    "right except for log_p: this is the logistic density":
        _laplace(lambda right, u, f, log_b, x, d: {
            "log_p": -np.sum(np.abs(u) + 2 * np.log1p(np.exp(-np.abs(u))) + log_b, axis=2)
        }),
    "right except for df: tanh ½u is the logistic density's pull; Laplace's is the sign of u":
        _laplace(lambda right, u, f, log_b, x, d: {"df": d * np.tanh(0.5 * u) * np.exp(-log_b)}),
    "right except for df: multiplied by b, and u = (x − f)/b has the slope −1/b in f":
        _laplace(lambda right, u, f, log_b, x, d: {"df": d * np.sign(u) * np.exp(log_b)}),
    "right except for dlog_b: +1 where −1 belongs, of −log b":
        _laplace(lambda right, u, f, log_b, x, d: {"dlog_b": np.sum(d * (np.abs(u) + 1), axis=(0, 1))}),
    "right except for dlog_b: the 1 is taken off once, and belongs to every sample and data case":
        _laplace(lambda right, u, f, log_b, x, d: {"dlog_b": np.sum(d * np.abs(u), axis=(0, 1)) - 1}),
    "right except for dlog_b: the −1 is not multiplied by dlog_p; take it off before the product":
        _laplace(lambda right, u, f, log_b, x, d: {"dlog_b": np.sum(d * np.abs(u) - 1, axis=(0, 1))}),
    "right except for dlog_b: the sign of u stands where |u| belongs":
        _laplace(lambda right, u, f, log_b, x, d: {"dlog_b": np.sum(d * (np.sign(u) - 1), axis=(0, 1))}),
    "right except for dlog_b: −|u| where |u| belongs: a larger b makes |u| smaller, and log p larger by it":
        _laplace(lambda right, u, f, log_b, x, d: {"dlog_b": -np.sum(d * (np.abs(u) + 1), axis=(0, 1))}),
    "right except for dlog_b: the square of u, as a Gaussian's, where |u| belongs":
        _laplace(lambda right, u, f, log_b, x, d: {"dlog_b": np.sum(d * (u**2 - 1), axis=(0, 1))}),
    "right except for dlog_b: b times too much: log b is what is learned, and nothing is left to multiply":
        _laplace(lambda right, u, f, log_b, x, d: {"dlog_b": right["dlog_b"] * np.exp(log_b)}),
    "right except for log_p and dlog_b: u is multiplied by b, where the residual is divided by it":
        _laplace(lambda right, u, f, log_b, x, d: {
            "log_p": -np.sum(np.abs(u) * np.exp(2 * log_b) + log_b + math.log(2), axis=2),
            "dlog_b": np.sum(d * (np.abs(u) * np.exp(2 * log_b) - 1), axis=(0, 1)),
        }),
}


# ---- the bound of a bent decoder -------------------------------------------------------------


def draw_bound(rng, n):
    """x (N, D), W (K, D), b (D,), log_psi (D,), phi (N, 2K), eta (S, N, K)."""
    return {
        "x": rng.standard_normal((n.N, n.D)), "W": rng.standard_normal((n.K, n.D)),
        "b": rng.standard_normal(n.D), "log_psi": away(rng, n.D, 0.3, 0.9),
        "phi": away(rng, (n.N, 2 * n.K), 0.2, 0.8), "eta": rng.standard_normal((n.S, n.N, n.K)),
    }


def _parts(phi, eta):
    """m, log s, s and z = m + s η."""
    m, log_s = np.split(phi, 2, axis=1)
    return m, log_s, np.exp(log_s), m + np.exp(log_s) * eta


def reconstruction(x, W, b, log_psi, phi, eta):
    """−log p(x|z) / S of every sample and data case, (S, N), without what has no z in it."""
    z = _parts(phi, eta)[3]
    return 0.5 * np.sum((x - np.tanh(z) @ W - b) ** 2 / np.exp(log_psi), axis=2) / len(eta)


def constants(x, W, b, log_psi, phi, eta):
    """What has no z in it, (N,)."""
    return np.full(len(x), 0.5 * np.sum(log_psi + math.log(2 * math.pi)))


def bound_sum(**arguments):
    """Σ_n Q_n: a number."""
    m, log_s, s, _ = _parts(arguments["phi"], arguments["eta"])
    kl = 0.5 * np.sum(m**2 + s**2 - 1 - 2 * log_s)
    return np.sum(reconstruction(**arguments)) + np.sum(constants(**arguments)) + kl


BOUND_TERMS = {
    "reconstruction": reconstruction,
    "½ m² (KL)": lambda phi, eta, **_: 0.5 * np.sum(_parts(phi, eta)[0] ** 2, axis=1),
    "½ s² (KL)": lambda phi, eta, **_: 0.5 * np.sum(_parts(phi, eta)[2] ** 2, axis=1),
    "−log s (KL)": lambda phi, eta, **_: -np.sum(_parts(phi, eta)[1], axis=1),
    "constants": lambda phi, eta, **rest: (
        constants(phi=phi, eta=eta, **rest) - 0.5 * _parts(phi, eta)[0].shape[1]
    ),
}
BOUND_INPUTS = {
    "eta": lambda eta, **_: eta,
    "s": lambda phi, eta, **_: _parts(phi, eta)[2],
}


def _bound(x, W, b, log_psi, phi, eta, h=np.tanh, slope=lambda z: 1 - np.tanh(z) ** 2, by=1.0):
    """dW and dphi, with another h for tanh in dW, another slope in dphi, or another power of ψ."""
    m, _, s, z = _parts(phi, eta)
    df = (np.tanh(z) @ W + b - x) * np.exp(-by * log_psi) / len(eta)
    dz = df @ W.T * slope(z)
    kl = np.concatenate([m, s**2 - 1], axis=1)
    both = np.concatenate([dz.sum(axis=0), (dz * eta).sum(axis=0) * s], axis=1)
    return np.einsum("snk,snd->kd", h(z), df), both + kl


def bound_right(x, W, b, log_psi, phi, eta):
    """dW and dphi."""
    return _bound(x, W, b, log_psi, phi, eta)


def _kl_slopes(phi):
    m, log_s = np.split(phi, 2, axis=1)
    return np.concatenate([m, np.exp(2 * log_s) - 1], axis=1)


def bound_with_kl(times):
    """A mistake: the KL's part of dphi so many times, a function of S and N."""
    return but(bound_right, _1=lambda right, phi, eta, **_: (
        right[1] + (times(*eta.shape[:2]) - 1) * _kl_slopes(phi)
    ))


def bound_of_sums(x, W, b, log_psi, phi, eta):
    """The sum of dz times the sum of η."""
    dW, dphi = bound_right(x, W, b, log_psi, phi, eta)
    _, _, s, _ = _parts(phi, eta)
    K = len(W)
    dz = (dphi - _kl_slopes(phi))[:, :K]
    dlog_s = dz * eta.sum(axis=0) * s + s**2 - 1
    return dW, np.concatenate([dphi[:, :K], dlog_s], axis=1)


def bound_dW_of_m(x, W, b, log_psi, phi, eta):
    """dW at the mean of q, all of df added up before."""
    m, _, _, z = _parts(phi, eta)
    df = (np.tanh(z) @ W + b - x) / np.exp(log_psi) / len(eta)
    return np.tanh(m).T @ df.sum(axis=0), bound_right(x, W, b, log_psi, phi, eta)[1]


def bound_without_slope(x, W, b, log_psi, phi, eta):
    """No slope of tanh."""
    return _bound(x, W, b, log_psi, phi, eta, slope=np.ones_like)


def bound_dW_of_z(x, W, b, log_psi, phi, eta):
    """z, where tanh z is what meets W."""
    return _bound(x, W, b, log_psi, phi, eta, h=lambda z: z)


def bound_without_b(x, W, b, log_psi, phi, eta):
    """The forward of another decoder."""
    return _bound(x, W, 0 * b, log_psi, phi, eta)


def bound_of_deviation(x, W, b, log_psi, phi, eta):
    """As if log_psi were the logarithm of a standard deviation."""
    return _bound(x, W, b, 2 * log_psi, phi, eta)


def bound_of_log_variance(x, W, b, log_psi, phi, eta):
    """As if phi held log s², in the sample and in the KL: half of everything in log s."""
    K = len(W)
    halved = np.concatenate([phi[:, :K], 0.5 * phi[:, K:]], axis=1)
    dW, dphi = _bound(x, W, b, log_psi, halved, eta)
    return dW, np.concatenate([dphi[:, :K], 0.5 * dphi[:, K:]], axis=1)


def bound_kl_of_log_s(slope):
    """A mistake: another slope of the KL in log s, a function of s."""
    def mistake(x, W, b, log_psi, phi, eta):
        dW, dphi = bound_right(x, W, b, log_psi, phi, eta)
        s, K = _parts(phi, eta)[2], len(W)
        return dW, np.concatenate([dphi[:, :K], dphi[:, K:] - (s**2 - 1) + slope(s)], axis=1)

    return mistake


def bound_with_z_for_eta(x, W, b, log_psi, phi, eta):
    """The samples themselves where their noise belongs."""
    dW, dphi = bound_right(x, W, b, log_psi, phi, eta)
    m, _, s, z = _parts(phi, eta)
    df = (np.tanh(z) @ W + b - x) / np.exp(log_psi) / len(eta)
    dz = df @ W.T * (1 - np.tanh(z) ** 2)
    return dW, np.concatenate([dphi[:, : len(W)], (dz * z).sum(axis=0) * s + s**2 - 1], axis=1)


def bound_kl_by_samples(x, W, b, log_psi, phi, eta):
    """The KL as a mean over the samples of log q − log p(z), whose slope in log s is η s z − 1."""
    dW, dphi = bound_right(x, W, b, log_psi, phi, eta)
    _, _, s, z = _parts(phi, eta)
    slopes = np.concatenate([z.mean(axis=0), (z * eta).mean(axis=0) * s - 1], axis=1)
    return dW, dphi - _kl_slopes(phi) + slopes


# ---- which check sees which fault ------------------------------------------------------------

CHECKS = "gradient", "bound", "moments"
SEEN = {
    "B1": (
        "gradient",
        {"gradient": "with η handed over, the backward's own draw belongs to another z, and no entry agrees",
         "bound": "the forward is right, and Q is what it should be: it cannot fall below NLML",
         "moments": "the forward draws z = m + s η as it should: mean and variance are right"},
    ),
    "B3": (
        "bound and moments",
        {"gradient": "the backward is that of the forward as it stands: a gradient check compares the two, "
                     "and passes",
         "bound": "at its lowest this Q lies below NLML, which no bound can",
         "moments": "the draws have the variance s⁴, and the KL speaks of s²"},
    ),
    "B17": (
        "gradient, bound and moments",
        {"gradient": "the ½ and the ¼ of the forward are not in the backward: the entries of log s differ",
         "bound": "the KL lacks log 2 for each latent variable, and the lowest Q lies below NLML by that",
         "moments": "the draws have a quarter of the variance s²"},
    ),
    "constant": (
        "bound",
        {"gradient": "a constant has no slope: with it or without it, the gradient is the same",
         "bound": "½ D log 2π less is less than NLML, which has all its constants",
         "moments": "the draws of z know nothing of the constant in log p(x|z)"},
    ),
    "plus one": (
        "none of them",
        {"gradient": "a constant has no slope: with it or without it, the gradient is the same",
         "bound": "this Q is too high by K, and what is too high stays above NLML: a second road to the KL "
                  "would see it, and nothing else",
         "moments": "the draws of z are right, and know nothing of the KL"},
    ),
}
WORDS = {
    (): "none of them", ("gradient",): "gradient", ("bound",): "bound", ("moments",): "moments",
    ("gradient", "bound"): "gradient and bound", ("gradient", "moments"): "gradient and moments",
    ("bound", "moments"): "bound and moments",
    ("gradient", "bound", "moments"): "gradient, bound and moments",
}


def reasons():
    """{(fault, wrong words): the first check that they have and should not have, or lack, and why}."""
    made = {}
    for fault, (right, why) in SEEN.items():
        seen = next(checks for checks, words in WORDS.items() if words == right)
        for checks, words in WORDS.items():
            for check in CHECKS:
                if (check in checks) != (check in seen):
                    sees = "sees it" if check in seen else "does not see it"
                    made[fault, words] = f"the check of {check} {sees}; {why[check]}"
                    break
    return made


RIGHT = {fault: right for fault, (right, _) in SEEN.items()}


EXERCISES = [
    Exercise(
        "10-1", "dense_backward", "4.3", "dx (N, D), dW (D, K) and db (K,) of y = x W + b", draw_dense,
        by_gradient(dense_sum, ("x", "W", "b")),
        {
            "dy is taken for all ones: that is the gradient of the plain sum of y, whatever comes back":
                dense_of_ones,
            "right except for dW and db: mean where they sum over the rows; a mean would be in dy already":
                dense_by_means,
            "right except for db: mean where it sums over the rows":
                but(dense, _2=lambda right, x, W, b, dy: dy.mean(axis=0)),
            "right except for db: it is multiplied by b, which y has no product with":
                but(dense, _2=lambda right, x, W, b, dy: b * right[2]),
            "right except for db: dy is taken for all ones; count no rows, add up what comes back":
                but(dense, _2=lambda right, x, W, b, dy: np.ones_like(b) * len(x)),
            "right except for dx: W's numbers are read in another order; take the transpose, no reshape":
                but(dense, _0=lambda right, x, W, b, dy: dy @ W.reshape(W.T.shape)),
            "right except for dx: dy is taken for all ones, whatever comes back":
                but(dense, _0=lambda right, x, W, b, dy: np.ones_like(dy) @ W.T),
            "right except for dW: dy is taken for all ones, whatever comes back":
                but(dense, _1=lambda right, x, W, b, dy: x.T @ np.ones_like(dy)),
            "right except for dW: it takes y, the output, where dy comes back":
                but(dense, _1=lambda right, x, W, b, dy: x.T @ (x @ W + b)),
            "right except for dW: mean where it sums over the rows":
                but(dense, _1=lambda right, x, W, b, dy: right[1] / len(x)),
            "right except for dW: the sum of x times the sum of dy, where each row's x meets its own dy":
                but(dense, _1=lambda right, x, W, b, dy: np.outer(x.sum(axis=0), dy.sum(axis=0))),
            "right except for dx: it takes y, the output, where dy comes back":
                but(dense, _0=lambda right, x, W, b, dy: (x @ W + b) @ W.T),
            "right except for db: ones, the slope of y in b alone; what comes back has to be added up":
                but(dense, _2=lambda right, x, W, b, dy: np.ones_like(b)),
        },
    ),
    Exercise(
        "10-2", "tanh_backward", "4.6", "dx (N, D) of y = tanh x, from the cache y", draw_tanh,
        by_value(tanh_slope, names=["dx"]),
        {
            "y is taken for x: the cache has the tanh already, and the slope is 1 − y²":
                lambda y, dy: dy * (1 - np.tanh(y) ** 2),
            "dy is left out: this is the slope alone, and the chain rule multiplies it by what comes back":
                lambda y, dy: 1 - y**2,
            "1 − y, where the slope is 1 − y²": lambda y, dy: dy * (1 - y),
            "y (1 − y) is the slope of the logistic function, and tanh has 1 − y²":
                lambda y, dy: dy * y * (1 - y),
            "dy has to be multiplied by the slope, and was added to it": lambda y, dy: dy + 1 - y**2,
            "divided by the slope, where dy is multiplied by it": lambda y, dy: dy / (1 - y**2),
            "dy is multiplied by y, and the slope is 1 − y²": lambda y, dy: dy * y,
            "1 − tanh y: y is the tanh already, and the slope is 1 − y²": lambda y, dy: dy * (1 - np.tanh(y)),
            "1 + y², where the slope is 1 − y²: it falls towards both ends": lambda y, dy: dy * (1 + y**2),
            "the root of the slope: there is none in 1 − y²": lambda y, dy: dy * np.sqrt(1 - y**2),
            "−2y is the slope of 1 − y²: 1 − y² is the slope already": lambda y, dy: -2 * y * dy,
            "dy is inside the square: y is squared, then dy multiplies the slope":
                lambda y, dy: 1 - (y * dy) ** 2,
        },
    ),
    Exercise(
        "10-3", "softplus_layer", "4.11", "y and dx of y = log(1 + exp x), whatever the size of x",
        draw_softplus, by_value(softplus_both),
        {
            "right except for dx: dy is left out, what comes back from above": softplus_without_dy,
            "right except for dx: this is 1 − σ(x), the slope of softplus at −x": softplus_mirrored,
            "this is the rectifier, which softplus follows far from 0 and rounds off near it": rectifier,
            "right except for y: log(1 + exp(−|x|)) is missing; max(x, 0) alone is the rectifier":
                but(softplus_both, y=lambda right, x, dy: np.maximum(x, 0)),
            "right except for y: max(x, 0) is missing, so it is softplus of −|x|":
                but(softplus_both, y=lambda right, x, dy: np.log1p(np.exp(-np.abs(x)))),
            "right except for dx: tanh stands where the slope is σ(x), from 0 to 1":
                but(softplus_both, dx=lambda right, x, dy: dy * np.tanh(x)),
            "right except for dx: σ is taken at y, and the slope at x":
                but(softplus_both, dx=lambda right, x, dy: dy * 0.5 * (1 + np.tanh(0.5 * right["y"]))),
            "right except for dx: this is σ(|x|), right for positive x alone":
                but(softplus_both, dx=lambda right, x, dy: dy * 0.5 * (1 + np.tanh(0.5 * np.abs(x)))),
            "right except for dx: this is σ(−|x|), right for negative x alone":
                but(softplus_both, dx=lambda right, x, dy: dy * 0.5 * (1 - np.tanh(0.5 * np.abs(x)))),
            "right except for dx: this is y itself times dy, and the slope is σ(x)":
                but(softplus_both, dx=lambda right, x, dy: dy * right["y"]),
            "right except for dx: the rectifier's slope, a step, where softplus has σ(x)":
                lambda x, dy: softplus_both(x, dy) | {"dx": dy * (x > 0)},
            "right except for dx: σ(x) (1 − σ(x)) is the slope of σ, and softplus' is σ itself":
                lambda x, dy: softplus_both(x, dy) | {"dx": dy * 0.25 * (1 - np.tanh(0.5 * x) ** 2)},
            "right except for y: |x| stands where max(x, 0) belongs: a negative x is not folded up":
                but(softplus_both, y=lambda right, x, dy: np.abs(x) + np.log1p(np.exp(-np.abs(x)))),
            "right except for y: min(x, 0) stands where max(x, 0) belongs":
                but(softplus_both, y=lambda right, x, dy: np.minimum(x, 0) + np.log1p(np.exp(-np.abs(x)))),
            "right except for y: logaddexp adds exp of both, and the 1 is exp(0): logaddexp(0, x)":
                but(softplus_both, y=lambda right, x, dy: np.logaddexp(1, x)),
        },
    ),
    Exercise(
        "10-4", "two_layer_backward", "4.14", "dx, dW1, db1, dW2, db2 of y = tanh(x W1 + b1) W2 + b2",
        draw_network, by_gradient(network_sum, ("x", "W1", "b1", "W2", "b2")),
        {
            "the slope of tanh is forgotten: dy @ W2.T is dh, and has to become da before it goes on":
                network_without_slope,
            "the slope of tanh is taken at h, as 1 − tanh(h)²: h is the tanh already, and the slope 1 − h²":
                network_tanh_twice,
            "1 − a² with a from before the tanh, where the slope is 1 − h² with h = tanh a":
                network_slope_of_a,
            "right except for dW2: it takes a, what goes into tanh; the second layer was given h":
                network_dW2_of_a,
            "right except for what the rows share: mean where it sums over them": network_of_mean,
            "dh is multiplied by h, and the slope of tanh is 1 − h²": network_slope_h,
            "1 − h, where the slope of tanh is 1 − h²": network_slope_one_minus_h,
            "right except for dx: the slope of tanh is missing on its way, dh stands where da belongs":
                but(network_right, _0=lambda right, x, W1, b1, W2, b2, dy: dy @ W2.T @ W1.T),
            "right except for db1: the slope of tanh is missing on its way, dh stands where da belongs":
                but(network_right, _2=lambda right, x, W1, b1, W2, b2, dy: (dy @ W2.T).sum(axis=0)),
            "right except for dW2: it takes the slope 1 − h²; the second layer was given h":
                but(network_right, _3=lambda right, x, W1, b1, W2, b2, dy:
                    (1 - np.tanh(x @ W1 + b1) ** 2).T @ dy),
            "right except for dW1: the slope of tanh is missing on its way, dh stands where da belongs":
                but(network_right, _1=lambda right, x, W1, b1, W2, b2, dy: x.T @ (dy @ W2.T)),
            "y, the output, stands where dy comes back":
                lambda x, W1, b1, W2, b2, dy: network_right(
                    x, W1, b1, W2, b2, np.tanh(x @ W1 + b1) @ W2 + b2
                ),
            "b1 is left out: the forward adds it before the tanh, and the slope is taken there":
                network_without_b1,
        },
    ),
    Exercise(
        "10-5", "central_difference", "8.1", "the numeric gradient of F at p, entry by entry", draw_function,
        by_value(of_waves, names=["numeric"]),
        {
            "this is F(p + h) − F(p), one side alone; the other side's error cancels what is left in it":
                one_sided,
            "this is F(p) − F(p − h), one side alone; the other side's error cancels what is left in it":
                backward_sided,
            "h is the same for all entries: it should grow with those whose size is above 1": plain_step,
            "the step is h |p|, which shrinks to nothing with p: it is h where |p| is below 1": relative_step,
            "divided by h, where p + h and p − h are 2h apart": over_h,
            "the step grows with |p|, and what you divide by does not": over_plain_h,
            "all entries are moved at once, so that each is given the change that all of them make together":
                all_at_once,
            "an entry that was moved is not put back before the next one is": not_put_back,
            "the size is missing: max(1, p) forgets that a large negative entry is large, too":
                lambda F, p, h: _stepped(F, p, h * np.maximum(1.0, p)),
            "min where max belongs: the step never falls below h": (
                lambda F, p, h: _stepped(F, p, h * np.minimum(1.0, np.abs(p)))
            ),
            "the step is h (1 + |p|), and h max(1, |p|) is asked for": (
                lambda F, p, h: _stepped(F, p, h * (1.0 + np.abs(p)))
            ),
            "every entry has the step of the largest; each has its own": (
                lambda F, p, h: _stepped(F, p, h * max(1.0, np.abs(p).max()))
            ),
            "/ 2 * step divides by 2 and multiplies by the step: brackets are missing": (
                lambda F, p, h: of_waves(F, p, h) * (h * np.maximum(1.0, np.abs(p))) ** 2
            ),
        },
    ),
    Exercise(
        "10-6", "softmax_backward", "4.21", "dx (N, D) of the softmax of each row, from the cache y",
        draw_softmax, by_value(softmax_by_jacobian, names=["dx"]),
        {
            "y ⊙ dy alone: the sum that every probability is divided by depends on x too":
                lambda y, dy: y * dy,
            "y (1 − y) is the diagonal of the matrix of derivatives alone: each x moves all of the row's y":
                lambda y, dy: y * (1 - y) * dy,
            "the sum goes over the data cases, axis 0; a softmax knows of its own row alone":
                lambda y, dy: y * (dy - np.sum(y * dy, axis=0)),
            "the sum goes over all data cases together; a softmax knows of its own row alone":
                lambda y, dy: y * (dy - np.sum(y * dy)),
            "a plain mean of dy is taken off, where it is the mean with the weights y":
                lambda y, dy: y * (dy - dy.mean(axis=1, keepdims=True)),
            "a plain sum of dy is taken off, where it is that of y ⊙ dy":
                lambda y, dy: y * (dy - dy.sum(axis=1, keepdims=True)),
            "the y in front of the bracket is missing":
                lambda y, dy: dy - np.sum(y * dy, axis=1, keepdims=True),
            "y (1 − y), the diagonal of the matrix of derivatives, without dy": lambda y, dy: y * (1 - y),
            "y − dy is what comes of softmax and log likelihood together; here dy is what comes back":
                lambda y, dy: y - dy,
            "the sum is taken off y, and has to be taken off dy":
                lambda y, dy: dy * (y - np.sum(y * dy, axis=1, keepdims=True)),
            "y has to multiply the whole bracket, the sum too":
                lambda y, dy: y * dy - np.sum(y * dy, axis=1, keepdims=True),
            "this is the backward of log softmax": lambda y, dy: dy - y * dy.sum(axis=1, keepdims=True),
            "mean where the sum over the row is taken off": (
                lambda y, dy: y * (dy - np.mean(y * dy, axis=1, keepdims=True))
            ),
            "the sum is added, and has to be taken off": (
                lambda y, dy: y * (dy + np.sum(y * dy, axis=1, keepdims=True))
            ),
            "the softmax is taken of y again: y is the softmax already": (
                lambda y, dy: softmax_by_jacobian(np.exp(y) / np.exp(y).sum(axis=1, keepdims=True), dy)
            ),
            "the part with i = j is missing: y ⊙ dy itself": (
                lambda y, dy: -y * np.sum(y * dy, axis=1, keepdims=True)
            ),
            "the part with i = j is counted twice: the sum over the row has it, 1 − y has it again": (
                lambda y, dy: y * (1 - y) * dy - y * np.sum(y * dy, axis=1, keepdims=True)
            ),
        },
    ),
    Exercise(
        "10-7", "gaussian_backward", "5.3", "df (S, N, D) and dlog_psi (D,) of log N(x; f, Ψ)", draw_gaussian,
        by_gradient(gaussian_sum, ("f", "log_psi"), terms={"squares": squares, "logarithms": logarithms}),
        {
            "log_psi is taken for the logarithm of a standard deviation; ψ is a variance":
                gaussian_of_deviation,
            "right except for df: the residual is divided by √ψ, and −r²/2ψ has the slope r/ψ":
                lambda f, log_psi, x, dlog_p: _gaussian(f, log_psi, x, dlog_p, by=0.5),
            "right except for df: 1/ψ is missing":
                lambda f, log_psi, x, dlog_p: _gaussian(f, log_psi, x, dlog_p, by=0.0),
            "right except for dlog_psi: it lacks the −1 that −½ log ψ leaves":
                lambda f, log_psi, x, dlog_p: _gaussian(f, log_psi, x, dlog_p, one=0.0),
            "right except for dlog_psi: the factor 2 everywhere: is ψ a variance or a standard deviation?":
                lambda f, log_psi, x, dlog_p: _gaussian(f, log_psi, x, dlog_p, half=1.0),
            "right except for dlog_psi: that is the slope in ψ; by log ψ it is ψ times as much":
                lambda f, log_psi, x, dlog_p: _gaussian(
                    f, log_psi, x, dlog_p, half=0.5 * np.exp(-log_psi)
                ),
            "dlog_p is taken for all ones: what comes back from above is left out":
                lambda f, log_psi, x, dlog_p: _gaussian(f, log_psi, x, np.ones_like(dlog_p)),
            "dlog_p is taken for −1/S: a backward takes what comes back, whatever it is":
                lambda f, log_psi, x, dlog_p: _gaussian(f, log_psi, x, np.full_like(dlog_p, -1 / len(f))),
            "right except for df: the residual is divided by ψ², and −r²/2ψ has the slope r/ψ":
                lambda f, log_psi, x, dlog_p: _gaussian(f, log_psi, x, dlog_p, by=2.0),
            "log_psi itself stands where ψ belongs: the exp is missing": gaussian_without_exp,
            "right except for dlog_psi: +1 where −1 belongs, of −½ log ψ":
                lambda f, log_psi, x, dlog_p: _gaussian(f, log_psi, x, dlog_p, one=-1.0),
            **GAUSSIAN,
        },
    ),
    Exercise(
        "10-8", "laplace_likelihood", "1.33", "log_p (S, N), df (S, N, D), dlog_b (D,) of Laplace's density",
        draw_laplace, by_value(laplace_by_density), LAPLACE,
    ),
    Exercise(
        "10-9", "bent_bound_gradients", "1.12", "dW (K, D), dphi (N, 2K) of Σ_n Q_n, f(z) = tanh(z) W + b",
        draw_bound, by_gradient(bound_sum, ("W", "phi"), terms=BOUND_TERMS, inputs=BOUND_INPUTS),
        {
            "right except for dphi: on the way from h = tanh z to z the slope 1 − h² is missing":
                bound_without_slope,
            "right except for dW: it takes z, and what meets W is h = tanh z": bound_dW_of_z,
            "right except for dW: it takes tanh m, without the noise; what met W was tanh z": bound_dW_of_m,
            "right except for dphi: the KL is missing, m and s² − 1": bound_with_kl(lambda S, N: 0),
            "right except for dphi: the KL has its sign turned": bound_with_kl(lambda S, N: -1),
            "right except for dphi: the KL is there S times; it is one a data case, not one a sample":
                bound_with_kl(lambda S, N: S),
            "right except for dphi: the KL is divided by S; the mean over samples is of log p alone":
                bound_with_kl(lambda S, N: 1 / S),
            "right except for dphi: the KL is divided by N; Σ_n Q_n has all of every case's":
                bound_with_kl(lambda S, N: 1 / N),
            "right except for dphi: its halves are exchanged; m comes first, log s second":
                but(bound_right, _1=lambda right, phi, **_: np.roll(right[1], phi.shape[1] // 2, axis=1)),
            "right except for dphi: Σ dz · Σ η, where each sample's dz meets its own η": bound_of_sums,
            "the residual is divided by √ψ, and −r²/2ψ has the slope r/ψ":
                lambda x, W, b, log_psi, phi, eta: _bound(x, W, b, log_psi, phi, eta, by=0.5),
            "the residual is not divided by ψ":
                lambda x, W, b, log_psi, phi, eta: _bound(x, W, b, log_psi, phi, eta, by=0.0),
            "b is left out of f(z) = tanh(z) W + b": bound_without_b,
            "log_psi is taken for the logarithm of a standard deviation; ψ is a variance":
                bound_of_deviation,
            "phi is taken for [m | log s²]; its second half holds log s, of a standard deviation":
                bound_of_log_variance,
            "right except for dphi: the slope of tanh is 1 − h², of the cache, and this is 1 − z²":
                lambda **a: _bound(**a, slope=lambda z: 1 - z**2),
            "right except for dphi: dh is multiplied by h, and the slope of tanh is 1 − h²":
                lambda **a: _bound(**a, slope=np.tanh),
            "right except for dphi: the slope is taken at h, as 1 − tanh(h)²: h is the tanh already":
                lambda **a: _bound(**a, slope=lambda z: 1 - np.tanh(np.tanh(z)) ** 2),
            "right except for dphi: the KL's part of log s is halved; ½ s² − log s has the slope s² − 1":
                bound_kl_of_log_s(lambda s: 0.5 * (s**2 - 1)),
            "right except for dphi: s − 1/s is the KL's slope in s; by log s it is s times as much, s² − 1":
                bound_kl_of_log_s(lambda s: s - 1 / s),
            "right except for dphi: z meets dz where η belongs: z = m + s η has the slope s η in log s":
                bound_with_z_for_eta,
            "right except for dphi: this is the gradient of Q with its KL by samples, log q − log p(z)":
                bound_kl_by_samples,
            "right except for dW: W itself is added; the bound has no penalty on weights":
                but(bound_right, _0=lambda right, W, **_: right[0] + W),
        },
    ),
    Exercise(
        "10-10", "which_check", "11.6", "{fault: the checks that see it}", None, by_choice(RIGHT, reasons()),
    ),
]
