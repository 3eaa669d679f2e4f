"""The plain autoencoder: the baseline that is not a probabilistic model.

An encoder and a decoder, of the same shapes as a VAE's, trained on the squared error alone. It has no
p(x): no bound, no nlml, and nothing to sample from, and it says so when asked.
"""

from copy import copy
from dataclasses import KW_ONLY, replace

import numpy as np

from ..arrays import tree
from ..arrays.backend import get_backend, namespace, to_numpy
from ..arrays.rows import collect
from ..doors import parts
from ..doors.columns import Cases, Columns, Table
from ..doors.units import StandardUnits, centred_encoder, ends_linear, moved, rounded_off, starts_linear
from ..doors.validate import check_data, check_hidden, check_positive, check_size, generator
from ..likelihoods import Gaussian
from ..messages import column_names
from ..networks.layers import mlp
from ..networks.training import minibatches
from .conventions import ACTIVATION, BACKEND, DTYPE, SEED, LatentCode, estimator, option, tell


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
    squared error per data case and epoch, over its minibatches, between which the parameters move on.
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

    def fit(self, X, y=None, *, progress=None):
        """Fit to X (N, D). Returns self. progress(epoch, epochs, loss) is called where given, as in
        `VAE.fit`.

        There is no sample_weight, for the reason that `VAE.fit` gives: repeat the rows.
        """
        x, names = check_data(X, minimum_rows=2)
        (N, D), K, hidden = x.shape, self.n_components, check_hidden(self.hidden)
        for name in ("n_components", "epochs", "batch_size"):
            check_size(name, getattr(self, name))
        check_positive("learning_rate", self.learning_rate)
        if self.noise_variance != 0:
            check_positive("noise_variance, where it is not 0,", self.noise_variance)
        optimizer = parts.optimizer(self.optimizer, self.learning_rate)
        bend = parts.activation(self.activation)
        encoder = parts.network(self.encoder, "encoder", D, K, lambda: mlp(D, hidden[::-1], K, bend))
        decoder = parts.network(self.decoder, "decoder", K, D, lambda: mlp(K, hidden, D, bend))
        backend = self._backend_for(x.dtype)
        init_rng, shuffle_rng, noise_rng = generator(self.random_state).spawn(3)

        cases = Cases(Table(x, Columns(column_names(names, D))), get_backend(self.backend, "float64"))
        # One common scale: a scale per column would weight the squared error by column.
        foldable = starts_linear(encoder) and ends_linear(decoder)
        units = StandardUnits(Gaussian(D, "isotropic"), cases, foldable)
        standard = replace(
            cases, backend=backend, origin=to_numpy(units.shift), scale=to_numpy(units.scale)
        )
        scale2 = float(units.scale[0]) ** 2

        def finish(code, params, path):
            code.loss_path_ = np.array(path) * scale2
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

        def report(epoch, epochs, loss, params):
            return tell(progress, epoch, epochs, loss * scale2, lambda: finish(copy(self), params, [loss]))

        def objective(params, rows):
            x_rows, noise = standard[rows, ...], None
            if self.noise_variance:
                noise = (self.noise_variance / scale2) ** 0.5 * backend.normal(noise_rng, x_rows.shape)
            return squared_error(encoder, decoder, params, x_rows, noise)

        params, path, _ = minibatches(
            objective,
            {"encoder": encoder.init(init_rng, backend), "decoder": decoder.init(init_rng, backend)},
            N,
            optimizer=optimizer,
            epochs=self.epochs,
            batch_size=self.batch_size,
            rng=shuffle_rng,
            progress=report,
        )
        return finish(self, params, path)

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
