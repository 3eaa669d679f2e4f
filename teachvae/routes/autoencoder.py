"""The plain autoencoder: the baseline that is not a probabilistic model.

An encoder and a decoder, of the same shapes as a VAE's, trained on the squared error alone. It has no
p(x): no bound, no nlml, and nothing to sample from, and it says so when asked.
"""

from copy import copy
from dataclasses import KW_ONLY, replace
import math
import sys

import numpy as np

from ..arrays import tree
from ..arrays.backend import get_backend, namespace, to_numpy
from ..arrays.rows import collect, extremes, slices
from ..doors import parts
from ..doors.columns import Cases, Columns, Table
from ..doors.units import StandardUnits, centred_encoder, ends_linear, moved, rounded_off, starts_linear
from ..doors.validate import (
    check_data, check_hidden, check_like_training, check_patience, check_positive, check_size, generator
)
from ..likelihoods import Gaussian
from ..likelihoods.checks import refuse_small
from ..messages import column_names
from ..networks.convergence import falling, warn_of_falling
from ..networks.layers import mlp
from ..networks.training import HeldOut, Run, minibatches
from .checkpoint import Checkpoint
from .conventions import (
    ACTIVATION, BACKEND, DTYPE, SEED, LatentCode, estimator, leaving, option, quietly, tell
)


def squared_error(encoder, decoder, params, x, noise=None):
    """½ ‖x_n − f(g(x_n + ε_n))‖², averaged over x (N, D), and its gradient, shaped like params  (1.19).

    noise holds ε (N, D), which the code has to see through; None is 0.
    """
    xp = namespace(x)
    N = x.shape[0]
    z, encoder_cache = encoder.forward(params["encoder"], x if noise is None else x + noise)  # (N, K)
    f, decoder_cache = decoder.forward(params["decoder"], z)       # (N, D)
    residual = f - x
    loss = 0.5 * xp.sum(residual * residual) / N
    dz, ddecoder = decoder.backward(params["decoder"], decoder_cache, residual / N)
    _, dencoder = encoder.backward(params["encoder"], encoder_cache, dz, need_dx=False)
    return loss, {"encoder": dencoder, "decoder": ddecoder}


def in_nats(losses, n_visible):
    """A path of losses as one of nats per data case, but for a constant                        (6.9).

    The noise of the least Q for a loss L is isotropic, σ² = 2 L/D, and that Q is ½ D log L + const.
    """
    return [0.5 * n_visible * math.log(max(loss, sys.float_info.min)) for loss in losses]


def _has_no(name):
    """A property that says why an Autoencoder has no `name`; hasattr is False."""

    def missing(self):
        raise AttributeError(
            f"an Autoencoder has no {name}: it defines no p(x), so there is no density to bound "
            "and no distribution to sample from; use VAE, VariationalEM or FactorAnalysis"
        )

    return property(missing)


@estimator
class Autoencoder(LatentCode):
    """Autoencoder with squared error.

    {options}

    After fit: mean_ (D,) of the data; encoder_, decoder_, encoder_params_, decoder_params_; loss_path_ ½
    squared error per data case and epoch, over its minibatches, between which the parameters move on;
    still_falling_, best_iter_ as in `VAE`, and loss_validation_path_, the loss of held-out data, or None.
    """

    n_components: int = option(2, "K, the width of the code")
    _: KW_ONLY
    hidden: object = option(
        (64, 64),
        "sizes of the decoder's hidden layers; the encoder mirrors them; () is linear, which spans the "
        "same subspace as principal components",
    )
    activation: object = option("tanh", ACTIVATION)
    encoder: object = option(
        None,
        "a network of your own in place of the one that hidden describes, from D to K numbers",
    )
    decoder: object = option(None, "likewise, from K to D numbers")
    noise_variance: float = option(
        0.0,
        "above 0: a denoising autoencoder. Each minibatch sees its data with fresh noise N(0, "
        "noise_variance·I) and is to give them back without (Vincent et al. 2008)",
    )
    optimizer: object = option(
        "adam",
        '"adam" or "sgd", or an object with init and step, which has a learning rate of its own',
    )
    epochs: int = option(300, "passes over the data")
    batch_size: int = option(128, "data cases of a minibatch")
    learning_rate: float = option(3e-3, 'of "adam" and "sgd"')
    backend: str = option("numpy", BACKEND)
    dtype: object = option(None, DTYPE)
    random_state: object = option(0, SEED)

    def fit(self, X, y=None, *, validation=None, patience=None, checkpoint=None, progress=None):
        """Fit to X (N, D). Returns self.

        validation, patience, checkpoint and progress(epoch, epochs, loss) are as in `VAE.fit`, with the loss
        for Q, and so are the errors; where there is noise, held-out data have one draw of it. A
        ConvergenceWarning says that the epochs ended while the loss, told in nats (6.9), was still falling
        (6.8).

        There is no sample_weight, for the reason that `VAE.fit` gives: repeat the rows.
        """
        x, names = check_data(X, minimum_rows=2, dtype=self._held)
        (N, D), K, hidden = x.shape, self.n_components, check_hidden(self.hidden)
        for name in ("n_components", "epochs", "batch_size"):
            check_size(name, getattr(self, name))
        check_positive("learning_rate", self.learning_rate)
        check_patience(validation, patience)
        if self.noise_variance != 0:
            check_positive("noise_variance, where it is not 0,", self.noise_variance)
        optimizer = parts.optimizer(self.optimizer, self.learning_rate)
        bend = parts.activation(self.activation)
        encoder = parts.network(self.encoder, "encoder", D, K, lambda: mlp(D, hidden[::-1], K, bend))
        decoder = parts.network(self.decoder, "decoder", K, D, lambda: mlp(K, hidden, D, bend))
        backend = self._backend_for(x.dtype)
        init_rng, shuffle_rng, noise_rng = generator(self.random_state).spawn(3)

        table = Table(x, Columns(column_names(names, D)), held=self._held)
        refuse_small(*extremes(table), table.columns.given, table.dtype, every=True)
        cases = Cases(table, get_backend(self.backend, "float64"))
        held_out = None
        if validation is not None:
            other, theirs = check_data(validation, name="validation", dtype=self._held)
            check_like_training(other.shape[1], theirs, D, names)
            held_out = Table(other, table.columns)
        # One common scale: a scale per column would weight the squared error by column.
        foldable = starts_linear(encoder) and ends_linear(decoder)
        units = StandardUnits(Gaussian(D, "isotropic"), cases, foldable)
        standard = replace(
            cases, backend=backend, origin=to_numpy(units.shift), scale=to_numpy(units.scale)
        )
        scale2 = float(units.scale[0]) ** 2

        run = Run(
            {"encoder": encoder.init(init_rng, backend), "decoder": decoder.init(init_rng, backend)},
            {"shuffle": shuffle_rng, "noise": noise_rng},
        )
        saved = Checkpoint(checkpoint, self, {"X": x, "validation": None if held_out is None else held_out.x})
        saved.lead_back(run, backend)

        def finish(code, run, params):
            code.loss_path_ = np.array(run.path) * scale2
            code.loss_validation_path_ = None if held_out is None else np.array(run.held_out_path) * scale2
            code.best_iter_ = len(run.path) if run.best is None else run.best.epoch
            code.still_falling_ = falling(in_nats(run.judged, D))
            code.encoder_, code.decoder_ = encoder, decoder
            exact = units.fold_encoder(encoder, params["encoder"]) if foldable else params["encoder"]
            code.encoder_params_ = tree.map(backend.asarray, exact)
            code.encoder_rest_ = rounded_off(exact, code.encoder_params_)
            code.decoder_params_ = tree.map(
                backend.asarray, units.fold_decoder(decoder, params["decoder"])
            )
            code.mean_ = to_numpy(units.mean * units.scale + units.shift).astype(backend.dtype)
            code._keep(backend, names, D)
            return code

        def report(run):
            now = replace(run, path=run.path[-1:], best=None)
            return tell(
                progress, len(run.path), self.epochs, run.path[-1] * scale2,
                lambda: finish(copy(self), now, run.params),
            )

        def noise_of(x, rng):
            if not self.noise_variance:
                return None
            return (self.noise_variance / scale2) ** 0.5 * backend.normal(rng, x.shape)

        def objective(params, rows):
            x_rows = standard[rows, ...]
            return squared_error(encoder, decoder, params, x_rows, noise_of(x_rows, noise_rng))

        def held_out_loss(run):
            rng, total = np.random.default_rng(0), 0.0             # the same noise in every epoch
            for rows in slices(len(held_out.x)):
                x_rows = replace(standard, table=held_out)[rows, ...]
                loss, _ = squared_error(encoder, decoder, run.params, x_rows, noise_of(x_rows, rng))
                total = total + loss * (x_rows.shape[0] / len(held_out.x))
            return float(total)

        with (
            saved.kept(lambda run: quietly(finish, copy(self), run, run.kept), report) as after,
            leaving(lambda: finish(self, run, run.params), lambda: len(run.path), "epoch"),
        ):
            minibatches(
                objective,
                run,
                N,
                optimizer=optimizer,
                epochs=self.epochs,
                batch_size=self.batch_size,
                held_out=None if held_out is None else HeldOut(held_out_loss, patience),
                after=after,
            )
        finish(self, run, run.kept)
        saved.write(self)
        if len(run.path) == self.epochs:
            warn_of_falling(in_nats(run.judged, D), "epochs", "raise epochs or learning_rate")
        return self

    def _move(self, backend):
        self.encoder_params_, self.encoder_rest_ = moved(self.encoder_params_, self.encoder_rest_, backend)
        self.decoder_params_ = tree.map(backend.asarray, self.decoder_params_)
        self.mean_ = self.mean_.astype(backend.dtype)

    def transform(self, X):
        """The codes g(x), (N, K)."""
        self._require_fit()
        origin, params = 0.0, self.encoder_params_
        if starts_linear(self.encoder_) and ends_linear(self.decoder_):
            origin = self.mean_                                    # near to the data, as in `units.centred`
            params = centred_encoder(self.encoder_, params, self.encoder_rest_, origin)
        cases = self._cases(X, origin=origin)
        return collect(cases.shape[0], lambda rows: self.encoder_.forward(params, cases[rows, ...])[0])

    def decode(self, Z):
        """f(z) for codes Z (N, K): (N, D)."""
        z = self._latent_input(Z)

        def f(rows):
            return self.decoder_.forward(self.decoder_params_, self.backend_.asarray(z[rows]))[0]

        return collect(len(z), f)

    def denoise(self, X, noise_variance=None):
        """f(g(x̃)) (N, D): what the network makes of noisy data. It cannot be told how noisy they are, only
        be trained with as much noise (`noise_variance` of the estimator).
        """
        return self.reconstruct(X)

    @property
    def _n_latent(self):
        """The K that was fitted, whatever n_components has been set to since."""
        return self.decoder_.n_in

    @property
    def n_parameters_(self):
        """How many numbers were learned."""
        self._require_fit()
        return tree.size(self.encoder_params_) + tree.size(self.decoder_params_)

    bound, nlml, sample = (_has_no(name) for name in ("bound", "nlml", "sample"))
