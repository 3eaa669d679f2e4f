"""The layers of a network: each a forward and, right below it, the backward derived by hand.

A layer is a frozen object that holds sizes and nothing else. Its parameters come in as a dict, its
cache goes out as a value:

    y, cache    = layer.forward(params, x)
    dx, dparams = layer.backward(params, cache, dy)

x is (R, n_in): R rows, one per data case and sample. dy = ∂L/∂y, (R, n_out), of any scalar L;
dx = ∂L/∂x and dparams = ∂L/∂params, which has the shape of params. Parameters and gradients are
values, so calling forward twice before a backward, or backward twice, is harmless. The first layer
of a network needs no dx, an E-step no dparams: ask with need_dx=False, need_dparams=False.

A layer of your own needs forward and backward; where it has parameters or changes the width, init(rng,
backend), n_in and n_out too.

Equations (4.x) are in derivations/equations.md.
"""

from dataclasses import dataclass

from ..arrays.backend import namespace
from ..arrays.rows import affine, sum_first
from ..arrays.special import sigmoid, softplus, tanh


@dataclass(frozen=True)
class Linear:
    """y = x W + b. Parameters W (n_in, n_out), b (n_out,); the cache is x.

    W starts from N(0, gain² / n_in): with gain 1 a row keeps the mean square of its entries. b starts from 0.
    """

    n_in: int
    n_out: int
    gain: float = 1.0

    def init(self, rng, backend):
        """W (n_in, n_out), drawn from the host generator rng, and b (n_out,), as arrays of `backend`."""
        scale = self.gain / self.n_in**0.5                         #                       (4.24)
        return {
            "W": backend.normal(rng, (self.n_in, self.n_out)) * scale,
            "b": backend.zeros((self.n_out,)),
        }

    def forward(self, params, x):
        """y (R, n_out) of x (R, n_in), and x as the cache."""
        y = affine(x, params["W"], params["b"])                    # x W + b, (R, n_out)   (4.1)
        return y, x

    def backward(self, params, cache, dy, *, need_dx=True, need_dparams=True):
        """dx (R, n_in), and dW (n_in, n_out) and db (n_out,), from dy (R, n_out)."""
        x = cache
        dx = dy @ params["W"].T if need_dx else None               # (R, n_in)             (4.2)
        if not need_dparams:
            return dx, None
        dW = x.T @ dy                                              # (n_in, n_out)         (4.3)
        db = sum_first(dy)                                         # (n_out,)              (4.4)
        return dx, {"W": dW, "b": db}


@dataclass(frozen=True)
class Tanh:
    """y = tanh x. No parameters; the cache is y."""

    def init(self, rng, backend):
        """No parameters."""
        return {}

    def forward(self, params, x):
        """y (R, n) of x (R, n), and y as the cache."""
        y = tanh(x)                                                #                       (4.5)
        return y, y

    def backward(self, params, cache, dy, *, need_dx=True, need_dparams=True):
        """dx (R, n) from dy (R, n); there are no parameters."""
        y = cache
        dx = dy * (1 - y * y)                                      #                       (4.6)
        return dx, {}


@dataclass(frozen=True)
class ReLU:
    """y = max(x, 0). No parameters; the cache is x. At the kink, x = 0, the slope is taken as 0."""

    def init(self, rng, backend):
        """No parameters."""
        return {}

    def forward(self, params, x):
        """y (R, n) of x (R, n), and x as the cache."""
        y = namespace(x).maximum(x, 0)                             #                       (4.7)
        return y, x

    def backward(self, params, cache, dy, *, need_dx=True, need_dparams=True):
        """dx (R, n) from dy (R, n); there are no parameters."""
        xp = namespace(dy)
        x = cache
        dx = dy * xp.astype(x > 0, dy.dtype)                       #                       (4.8)
        return dx, {}


@dataclass(frozen=True)
class Sigmoid:
    """y = 1 / (1 + exp(−x)). No parameters; the cache is y."""

    def init(self, rng, backend):
        """No parameters."""
        return {}

    def forward(self, params, x):
        """y (R, n) of x (R, n), and y as the cache."""
        y = sigmoid(x)                                             #                       (4.9)
        return y, y

    def backward(self, params, cache, dy, *, need_dx=True, need_dparams=True):
        """dx (R, n) from dy (R, n); there are no parameters."""
        y = cache
        dx = dy * y * (1 - y)                                      #                      (4.10)
        return dx, {}


@dataclass(frozen=True)
class Softplus:
    """y = log(1 + exp x). No parameters; the cache is x."""

    def init(self, rng, backend):
        """No parameters."""
        return {}

    def forward(self, params, x):
        """y (R, n) of x (R, n), and x as the cache."""
        y = softplus(x)                                            #                      (4.11)
        return y, x

    def backward(self, params, cache, dy, *, need_dx=True, need_dparams=True):
        """dx (R, n) from dy (R, n); there are no parameters."""
        x = cache
        dx = dy * sigmoid(x)                                       #                      (4.12)
        return dx, {}


@dataclass(frozen=True)
class Sequential:
    """Layers one after the other. Parameters: a list, one entry per layer; the cache: a list too."""

    layers: tuple

    def __post_init__(self):
        object.__setattr__(self, "layers", tuple(self.layers))
        if not self.layers:
            raise ValueError("Sequential needs at least one layer")
        widths = [n for layer in self.layers if hasattr(layer, "n_in") for n in (layer.n_in, layer.n_out)]
        for given, expected in zip(widths[1::2], widths[2::2]):
            if given != expected:
                raise ValueError(f"a layer with {given} outputs feeds a layer with {expected} inputs")
        if widths:
            object.__setattr__(self, "n_in", widths[0])
            object.__setattr__(self, "n_out", widths[-1])

    def init(self, rng, backend):
        """The layers' parameters, a list, drawn from the host generator rng."""
        return [layer.init(rng, backend) if hasattr(layer, "init") else {} for layer in self.layers]

    def forward(self, params, x):
        """y (R, n_out) of x (R, n_in), and the layers' caches."""
        caches = []
        for layer, p in zip(self.layers, params, strict=True):
            x, cache = layer.forward(p, x)                         # y_l of y_{l−1}       (4.13)
            caches.append(cache)
        return x, caches

    def backward(self, params, cache, dy, *, need_dx=True, need_dparams=True):
        """dx (R, n_in), or None, and the layers' dparams, a list, from dy (R, n_out)."""
        dparams = [None] * len(self.layers)
        for i in reversed(range(len(self.layers))):
            dy, dparams[i] = self.layers[i].backward(              # dy_{l−1} of dy_l     (4.14)
                params[i], cache[i], dy, need_dx=need_dx or i > 0, need_dparams=need_dparams
            )
        return dy, dparams if need_dparams else None


@dataclass(frozen=True)
class Parallel:
    """Several networks on the same x, their outputs side by side: y = [y_1 | y_2 | …].

    Parameters: a list, one entry per branch; the cache: the branches' caches.
    """

    branches: tuple

    def __post_init__(self):
        object.__setattr__(self, "branches", tuple(self.branches))
        if len({branch.n_in for branch in self.branches}) != 1:
            raise ValueError(
                f"all branches must take the same x, got widths {[b.n_in for b in self.branches]}"
            )
        object.__setattr__(self, "n_in", self.branches[0].n_in)
        object.__setattr__(self, "n_out", sum(branch.n_out for branch in self.branches))

    def init(self, rng, backend):
        """The branches' parameters, a list, drawn from the host generator rng."""
        return [branch.init(rng, backend) for branch in self.branches]

    def forward(self, params, x):
        """y (R, n_out) of x (R, n_in), and the branches' caches."""
        xp = namespace(x)
        ys, caches = zip(*(b.forward(p, x) for b, p in zip(self.branches, params, strict=True)))
        y = xp.concat(list(ys), axis=1)                            # (R, n_out)           (4.15)
        return y, caches

    def backward(self, params, cache, dy, *, need_dx=True, need_dparams=True):
        """dx (R, n_in), or None, and the branches' dparams, a list, from dy (R, n_out)."""
        dx, dparams, start = None, [], 0
        for branch, p, c in zip(self.branches, params, cache, strict=True):
            stop = start + branch.n_out
            dx_b, dp = branch.backward(
                p, c, dy[:, start:stop], need_dx=need_dx, need_dparams=need_dparams
            )
            if need_dx:
                dx = dx_b if dx is None else dx + dx_b             # x feeds every branch (4.16)
            dparams.append(dp)
            start = stop
        return dx, dparams if need_dparams else None


ACTIVATIONS = {"tanh": Tanh, "relu": ReLU, "sigmoid": Sigmoid, "softplus": Softplus}


def mlp(n_in, hidden, n_out, activation="tanh"):
    """A network n_in – hidden[0] – … – n_out with `activation` after each hidden layer.

    activation is a name of ACTIVATIONS, or a layer of your own that keeps the width. hidden=() is one Linear
    layer. Raises ValueError for an unknown activation or a size below 1.
    """
    if isinstance(activation, str) and activation not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {sorted(ACTIVATIONS)} or a layer, got {activation!r}")
    bend = ACTIVATIONS[activation]() if isinstance(activation, str) else activation
    sizes = [n_in, *hidden]
    if any(isinstance(n, bool) or int(n) != n or n < 1 for n in (*sizes, n_out)):
        raise ValueError(f"layer sizes must be integers >= 1, got {[*sizes, n_out]}")
    # A ReLU lets half of the second moment through; a gain of √2 makes up for it.
    gain = 2**0.5 if isinstance(bend, ReLU) else 1.0
    stack = []
    for i, width in enumerate(hidden):
        stack += [Linear(sizes[i], width, gain), bend]
    return Sequential((*stack, Linear(sizes[-1], n_out)))
