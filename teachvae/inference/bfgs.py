"""Quasi-Newton steps on every row of a table at once: each row has a curvature, a step and an end of its own.

Equations (6.x) are in derivations/equations.md.
"""

from ..arrays.backend import constant, identity, index, namespace, to_numpy
from ..arrays.rows import sum_last, take_rows


def minimise(objective, phi, scale, x, *, max_steps, tol):
    """The least Q_n of each row of phi (R, P) by BFGS with backtracking, one evaluation per step       (6.3).

    objective  (phi, x) → Q (R,) and its gradient (R, P), of each row by itself
    scale      (R, P) the first inverse Hessians' diagonals
    x          (R, …) what belongs to each row: it is handed on with the rows that are still under way
    tol        a row is done when ‖gradient‖∞ < tol, or after max_steps

    Each row proposes φ + t p. Where Q fell enough the row moves and updates its inverse Hessian H;
    where it did not the row stays and halves t. Returns phi (R, P), Q (R,) and ‖gradient‖∞ (R,).
    """
    xp = namespace(phi)
    rows = list(range(x.shape[0]))          # places in the block of the rows still under way
    done = []                               # (places, their φ, Q and norm) of those that have ended
    Q, g = objective(phi, x)
    H = scale[:, :, None] * identity(phi.shape[1], like=phi)       # (R, P, P)
    p, slope = _direction(H, g)
    norm, t = _largest(g), xp.ones_like(Q)
    rounding = 1e-13 if str(phi.dtype).endswith("float64") else 1e-5

    for step in range(max_steps + 1):
        # A row whose t has shrunk to nothing sits at the rounding error of Q.
        under_way = to_numpy((norm >= tol) & (t > 1e-12))
        if step == max_steps or not under_way.any():
            done.append((rows, (phi, Q, norm)))
            break
        if under_way.sum() <= 0.75 * len(rows):
            stay = [i for i in range(len(rows)) if under_way[i]]
            end = [i for i in range(len(rows)) if not under_way[i]]
            pick = _picker(end, phi)
            done.append(([rows[i] for i in end], (pick(phi), pick(Q), pick(norm))))
            pick = _picker(stay, phi)
            rows = [rows[i] for i in stay]
            phi, Q, g, norm, H, p, slope, t = [pick(a) for a in (phi, Q, g, norm, H, p, slope, t)]
            x = take_rows(x, stay)
            under_way = under_way[stay]

        moving = constant(under_way, like=Q)
        s = (t * moving)[:, None] * p                              # the step tried, (R, P)
        Q_new, g_new = objective(phi + s, x)
        norm_new = _largest(g_new)
        slack = rounding * (1 + xp.abs(Q))
        fell = Q_new <= Q + 1e-4 * t * slope                       # Armijo
        flat = (Q_new <= Q + slack) & (norm_new < norm)
        accept = (fell | flat) & (moving > 0)                      # a NaN compares as False

        H_new = _bfgs_update(H, s, g_new - g)
        phi = xp.where(accept[:, None], phi + s, phi)
        Q, g = xp.where(accept, Q_new, Q), xp.where(accept[:, None], g_new, g)
        norm = xp.where(accept, norm_new, norm)
        H = xp.where(accept[:, None, None], H_new, H)
        p_new, slope_new = _direction(H, g)
        p, slope = xp.where(accept[:, None], p_new, p), xp.where(accept, slope_new, slope)
        t = xp.where(accept, xp.ones_like(t), 0.5 * t)

    order = [place for places, _ in done for place in places]
    back = _picker([order.index(i) for i in range(len(order))], phi)
    return tuple(back(xp.concat(list(parts), axis=0)) for parts in zip(*(found for _, found in done)))


def _direction(H, g):
    """p = −H g, shortened where it would change any entry of φ by more than 2, and gᵀp."""
    xp = namespace(H, g)
    p = -_times(H, g)                                              # (R, P)
    longest = _largest(p)
    p = p * (2 / xp.where(longest > 2, longest, xp.zeros_like(longest) + 2))[:, None]
    return p, sum_last(g * p)


def _bfgs_update(H, s, y):
    """The BFGS update of the inverse Hessian H (R, P, P); left alone where sᵀy is not positive."""
    xp = namespace(H)
    sy = sum_last(s * y)
    good = sy > 1e-12 * xp.sqrt(sum_last(s * s) * sum_last(y * y))
    rho = xp.where(good, 1 / xp.where(good, sy, xp.ones_like(sy)), xp.zeros_like(sy))
    Hy = _times(H, y)                                              # (R, P)
    half = 0.5 * (1 + rho * sum_last(y * Hy))
    c = half[:, None] * s - Hy
    sc = (rho[:, None] * s)[:, :, None] * c[:, None, :]            # ρ s cᵀ
    return H + sc + xp.permute_dims(sc, (0, 2, 1))                 # (R, P, P)              (6.4)


def _times(H, v):
    """H_n v_n (R, P) of every row, from H (R, P, P) and v (R, P)."""
    return (H @ v[:, :, None])[:, :, 0]


def _largest(v):
    """‖v_n‖∞ (R,) of every row of v (R, P)."""
    xp = namespace(v)
    return xp.max(xp.abs(v), axis=1)


def _picker(places, like):
    """A function that takes the rows at `places` out of an array, the places uploaded once."""
    xp = namespace(like)
    places = index(places, like)
    return lambda array: xp.take(array, places, axis=0)
