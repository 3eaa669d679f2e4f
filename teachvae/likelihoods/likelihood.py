"""What a likelihood is: what a new one has to write, and what it then has by inheritance.

    class Laplace(Likelihood):
        n_visible, n_f                     D, and how many numbers it takes from the decoder for a data case
        init(rng, backend)                 its parameters, a dict of arrays; {} where it has none
        forward(params, f, x, mask=None)   log p(x|f) (S, N) in nats, with every constant, and a cache
        backward(params, cache, dlog_p, *, need_dparams=True)    df (S, N, n_f), and dparams like params
        mean(params, f)                    E[x|f] (…, D)

f is (S, N, n_f), x (N, D); mask (N, D) holds 1 where x was observed, None where all of it was. To draw data:

        draw_noise(rng, shape)             noise for f of this shape (…, n_f), drawn on the host
        sample(params, f, noise)           x ~ p(x|f) (…, D), as a function of that noise

All else below is right for any likelihood, though it may be slow, or says nothing of the data. A likelihood
that knows better writes its own; what stands in one row goes together:

        has_m_step = True, squares, closed_form, by_gradient       squares(params, f, x) is (S, N, D)
        standard_units, units_of_f, rescaled, rescale_params       for training in other units
        noisier, denoised                  noise N(0, variance·I) taken off, as `Gaussian` has it:

noisier(params, variance) is the likelihood, and its params, of x̃ = x + that noise, and
denoised(params, f, x, variance) is E[x|x̃, f] (S, N, D), x being x̃.
"""

from ..arrays.backend import constant, namespace

PAIRS = 2**20                          # numbers (f, x) that `cross` holds at a time


class Likelihood:
    """A likelihood p(x|f): the defaults of all that is not in the list above."""

    normalised = True                  # whether p(x|f) integrates to one
    has_m_step = False                 # whether some parameters have a closed-form M-step

    def init(self, rng, backend):
        """No parameters."""
        return {}

    def cross(self, params, f, x, mask=None):
        """log p(x_n|f_g) for every pair, from f (G, n_f) and x (N, D): (G, N), by `forward`, a few f at a
        time.
        """
        xp, step = namespace(f, x), max(1, PAIRS // (x.shape[0] * max(f.shape[1], x.shape[1])))
        ones = xp.ones_like(x[:, :1])                              # (N, 1)
        parts = [
            self.forward(params, f[g : g + step, None, :] * ones, x, mask)[0]
            for g in range(0, f.shape[0], step)
        ]
        return xp.concat(parts, axis=0)

    # ---- where training starts, and in which units

    def start(self, mean, variance):
        """(f (n_f,), params) to start from, given the columns' mean and variance (D,): f = 0, and None for
        params stands for what `init` draws.
        """
        return constant([0.0] * self.n_f, like=mean), None

    def start_W(self, W):
        """The decoder's last weights (., n_f) to start from, given random ones."""
        return W

    def standard_units(self, mean, variance):
        """shift and scale (D,): the likelihood is given (x − shift)/scale while networks are trained. Here x
        itself, for a likelihood that does not say how its parameters change with the units.
        """
        xp = namespace(mean)
        return xp.zeros_like(mean), xp.ones_like(mean)

    def units_of_f(self, shift, scale):
        """shift and scale (n_f,) that turn f for x into f for x·scale + shift."""
        zero = constant([0.0] * self.n_f, like=shift)
        return zero, zero + 1

    def rescaled(self, scale):
        """This likelihood for x/scale; scale (D,)."""
        return self

    def rescale_params(self, params, scale):
        """The parameters for x·scale from those for x; scale (D,)."""
        return params

    # ---- parameters in closed form, and their floor

    def lower_bounds(self, variance, min_noise):
        """A tree of bounds from below for the parameters, given the columns' variance (D,); None where there
        are none.
        """
        return None

    def closed_form(self, params, mean_square, lower, share=None):
        """params, of which those with a closed-form M-step are replaced by its result.

        squares (D,) is E_q of what squares(params, f, x) → (S, N, D) says, averaged over the data cases that
        have the column; share (D,) how many have it; lower a tree of bounds from `lower_bounds`, or None.
        """
        return params

    def by_gradient(self, dparams):
        """dparams, with 0 for the parameters that `closed_form` replaces: they are not trained by gradients.
        """
        return dparams

    def at_the_floor(self, params, variance, min_noise):
        """Places of the columns whose learnt noise variance ended at its floor, `min_noise` times the
        columns' variance (D,), a list.
        """
        return []

    # ---- what host data it can have

    def check(self, x, names):
        """Raise ValueError where host data x (N, D) cannot be fitted; `names` (D,) for the message."""
        self.check_values(x, names)

    def check_values(self, x, names):
        """Raise ValueError where it has no density for host data x (N, D)."""
