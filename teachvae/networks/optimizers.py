"""Optimisers on the one flat parameter vector, each written out on its own.

    state = optimizer.init(flat)
    optimizer.step(flat, grad, state)       # changes flat (P,) and state in place

Because the leaves of a parameter tree are views into flat, a step is seen by every layer at once.
`lbfgs` instead runs to a minimum of a deterministic objective. Equations (6.x) are in
derivations/equations.md.
"""

from dataclasses import dataclass

from ..arrays.backend import constant, namespace, to_numpy
from ..arrays.elementwise import elementwise


@dataclass(frozen=True)
class SGD:
    """Gradient descent with momentum (Polyak 1964): v ← μ v − α g, p ← p + v            (6.1)."""

    learning_rate: float = 1e-2
    momentum: float = 0.9

    def init(self, flat):
        """The state before the first step, for flat (P,): v = 0."""
        return {"velocity": namespace(flat).zeros_like(flat)}

    def step(self, flat, grad, state):
        """Changes flat (P,) and the velocity in the state, by the gradient (P,)."""
        v = state["velocity"]
        v *= self.momentum                                         # (P,)                  (6.1)
        v -= self.learning_rate * grad                             # (P,)                  (6.1)
        flat += v                                                  # (P,)                  (6.1)


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma & Ba 2015, Algorithm 1): ε outside the root, both moments start at 0  (6.2)."""

    learning_rate: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def init(self, flat):
        """The state before the first step, for flat (P,): m = v = 0, both (P,), and t = 0."""
        xp = namespace(flat)
        return {"m": xp.zeros_like(flat), "v": xp.zeros_like(flat), "t": 0}

    def step(self, flat, grad, state):
        """Changes flat (P,), and m, v and t in the state, by the gradient (P,)."""
        state["t"] += 1
        m, v = state["m"], state["v"]
        alpha = float(self.learning_rate)                          # NumPy's own numbers would widen float32
        numbers = state["t"], alpha, self.beta1, self.beta2, self.epsilon
        adam.into((0, 2, 3), flat, grad, m, v, *numbers)           # p, m and v


@elementwise
def adam(xp, p, g, m, v, t, alpha, beta1, beta2, epsilon):
    """p, m and v, (P,) each, after step t = 1, 2, … of Adam with the gradient g (P,)."""
    m = beta1 * m + (1 - beta1) * g                                # (P,)                  (6.2)
    v = beta2 * v + (1 - beta2) * g * g                            # (P,)                  (6.2)
    m_hat = m / (1 - beta1**t)                                     # (P,)                  (6.2)
    v_hat = v / (1 - beta2**t)                                     # (P,)                  (6.2)
    p = p - alpha * m_hat / (xp.sqrt(v_hat) + epsilon)             # (P,)                  (6.2)
    return p, m, v


@adam.in_place
def adam_in_place(xp, p, g, m, v, t, alpha, beta1, beta2, epsilon):
    """`adam` with as few passes over the numbers as array code can make."""
    m *= beta1
    m += (1 - beta1) * g
    square = xp.square(g)
    square *= 1 - beta2
    v *= beta2
    v += square
    # √v̂ = √v / correction, and both biases are numbers: they join the rate and ε, not m and v.
    correction = (1 - beta2**t) ** 0.5
    root = xp.sqrt(v)
    root += epsilon * correction
    step = m / root
    step *= alpha * correction / (1 - beta1**t)
    p -= step


OPTIMIZERS = {"sgd": SGD, "adam": Adam}


PATIENCE = 10  # iterations of L-BFGS: in a long valley one alone can gain next to nothing


def lbfgs(objective, flat, *, lower=None, max_iter=1000, tol=1e-9, memory=30, after=None):
    """Minimise a deterministic objective from `flat` (P,) with SciPy's L-BFGS-B.

    objective(flat) → (value, grad): a float and the gradient (P,), on the backend of flat
    lower           (P,) bounds from below, or None
    tol             stop where PATIENCE iterations together lower the value by less than
                    tol · max(|value|, 1); where a step finds nothing lower and one of the last PATIENCE
                    gained less than that; or where the largest entry of the projected gradient is below tol
    memory          how many of the last steps the curvature is read from
    after           (value, vector (P,) on the host) → whether to stop after this iteration, or None

    `flat` holds the minimiser afterwards. Returns (path, converged, message); path lists the value
    after each iteration. The search runs in float64 on the host, whatever the dtype of flat.
    """
    from scipy.optimize import minimize

    path = []
    low = None if lower is None else to_numpy(lower).astype("float64")
    met_a_bound, stopped = False, False

    def host_objective(vector):
        nonlocal met_a_bound
        met_a_bound = met_a_bound or (low is not None and bool((vector <= low).any()))
        value, grad = objective(constant(vector, like=flat))
        return float(value), to_numpy(grad).astype("float64")

    def run(start):
        left, first = max(max_iter - len(path), 1), len(path)

        def gains():
            """What the last iterations of this run gained, in units of the tolerance."""
            last = path[max(first, len(path) - PATIENCE - 1) :]
            return [(a - b) / (tol * max(abs(b), 1)) for a, b in zip(last, last[1:])]

        def note(intermediate_result):
            nonlocal stopped
            path.append(float(intermediate_result.fun))
            stopped = after is not None and after(path[-1], intermediate_result.x)
            if stopped or len(gains()) == PATIENCE and sum(gains()) < 1:
                raise StopIteration                                # SciPy's way to end a search

        result = minimize(
            host_objective,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=None if low is None else [(bound, None) for bound in low],
            callback=note,
            options={"maxiter": left, "maxfun": 2 * left + 20, "maxcor": memory, "ftol": 0, "gtol": tol},
        )
        # Not at its limit (status 1): stopped above, or nothing lower is found, not even along the gradient.
        result.success = result.success or result.status != 1 and min(gains(), default=1) < 1
        return result

    result = run(to_numpy(flat).astype("float64"))
    # Once it has met a bound, L-BFGS-B can stop after a step of next to nothing, far from the
    # minimum. With an empty memory it goes on from there; where it gains nothing, it was the end.
    while met_a_bound and result.success and not stopped:
        again = run(result.x)
        gain, result.x = result.fun - again.fun, again.x           # the gain is never negative
        if gain <= tol * max(abs(again.fun), 1):
            break
        result = again
    flat[...] = constant(result.x, like=flat)
    return path, bool(result.success), str(result.message)
