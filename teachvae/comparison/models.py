"""The models of the comparison: what each is called, how it is made, and what it takes.

`ENTRIES` is the table of them; who compares, and whoever shows what came out, asks an entry, and knows no
model by its name.
"""

from collections.abc import Callable
from dataclasses import dataclass

from ..arrays import ranks
from ..routes.autoencoder import Autoencoder
from ..routes.factor_analysis import FactorAnalysis
from ..routes.mixture_of_factor_analysers import MixtureOfFactorAnalysers
from ..routes.principal_components import PrincipalComponents
from ..routes.vae import VAE
from ..routes.variational_em import VariationalEM

DENSITIES = ("gaussian", "gaussian-predicted", "student-t")  # what a Gaussian's NLML can be compared with
ANALYSERS = 5                          # components of the mixture of factor analysers


@dataclass(frozen=True)
class Setting:
    """What one seed asks of every model.

    options         `compare.Options`
    likelihood      that of the options, or one that names all categories
    noise_variance  the denoising task's, or None where noise cannot be added to such data
    n_missing       how many of the n_entries of the data are missing
    comm            of the ranks, from `arrays.ranks`, that share the data cases out
    """

    options: object
    seed: int
    likelihood: object
    noise_variance: float | None
    n_missing: int
    n_entries: int
    comm: object = ranks.SERIAL

    @property
    def linear_gaussian(self):
        """Whether a linear decoder makes a linear-Gaussian model."""
        return self.options.likelihood == "gaussian"

    @property
    def every(self):
        """The keywords of every estimator that is iterated."""
        return {"backend": self.options.backend, "dtype": self.options.dtype, "random_state": self.seed}

    @property
    def generative(self):
        """Those of every one with a bound."""
        missing = "marginalise" if self.n_missing else "error"
        return {**self.every, "constant": "drop", "missing": missing, "comm": self.comm}

    def decoder(self, hidden):
        """Those of every one with a decoder of these hidden sizes."""
        return {**self.generative, "likelihood": self.likelihood, "hidden": hidden}


@dataclass(frozen=True)
class Entry:
    """One model of the comparison.

    key, label  its name in JSON, and what the tables call it
    make        setting → estimator
    ledger      it has a bound, and so NLML, Q and a ledger
    linear      its decoder is linear: with a Gaussian likelihood, all such end on one Q
    discrete    a component is latent too: NLML and Q are sums over it, and no Gaussian q has a ledger
    amortised   a deep recognition network gives its φ: how far it over-fits, the ledger tells
    gaussian    it has a Gaussian likelihood whatever is asked for
    complete    it takes complete data only
    numeric     its error is a square, of numbers that mean amounts
    adds_noise  it trains with noise added to the data, and has no row where none can be
    iterated    its fit reports progress
    stops_early its training can be ended by data set aside
    """

    key: str
    label: str
    make: Callable
    ledger: bool = False
    linear: bool = False
    discrete: bool = False
    amortised: bool = False
    gaussian: bool = False
    complete: bool = False
    numeric: bool = False
    adds_noise: bool = False
    iterated: bool = True
    stops_early: bool = False

    def title(self, setting):
        """The label, and whether what stands in for a likelihood is none."""
        relaxed = setting.options.likelihood == "bernoulli-relaxed" and self.ledger and not self.gaussian
        return f"{self.label} (not a likelihood)" if relaxed else self.label

    def refusal(self, setting):
        """Why the model does not run on these data, in words, or None where it does."""
        likelihood = setting.options.likelihood
        if self.gaussian and likelihood not in DENSITIES:
            name, _, _ = self.label.partition(",")
            return f"{name} has a Gaussian likelihood: its numbers are not those of {likelihood}"
        if self.numeric and likelihood == "categorical":
            return "its error is a square, and the numbers of categories are but names"
        if self.complete and setting.n_missing:
            return (
                f"it takes complete data only, here {setting.n_missing} of {setting.n_entries} entries are "
                "missing"
            )
        return None


def entries(setting):
    """The entries that have a row, whether or not they run."""
    return [entry for entry in ENTRIES if setting.noise_variance is not None or not entry.adds_noise]


def _factor_analysis(setting):
    return FactorAnalysis(setting.options.n_components, **setting.generative)


def _linear_em(setting):
    if not setting.linear_gaussian:
        return _em(setting, hidden=())
    return VariationalEM(setting.options.n_components, **setting.decoder(()))


def _neural_em(setting):
    return _em(setting, hidden=setting.options.hidden)


def _em(setting, hidden):
    rounds = max(1, setting.options.epochs // 5)                   # of five passes each
    return VariationalEM(setting.options.n_components, epochs=rounds, **setting.decoder(hidden))


def _linear_vae(setting):
    if not setting.linear_gaussian:
        return _vae(setting, hidden=())
    return VAE(setting.options.n_components, optimizer="lbfgs", nodes="sigma", **setting.decoder(()))


def _neural_vae(setting):
    return _vae(setting, hidden=setting.options.hidden)


def _vae(setting, hidden):
    options = setting.options
    fresh = "fresh" if options.binarise == "fresh" else None
    return VAE(options.n_components, epochs=options.epochs, binarise=fresh, **setting.decoder(hidden))


def _analysers(setting):
    K = setting.options.n_components
    return MixtureOfFactorAnalysers(ANALYSERS, n_latent=K, constant="drop", **setting.every)


def _autoencoder(setting, **more):
    options = setting.options
    return Autoencoder(
        options.n_components, hidden=options.hidden, epochs=options.epochs, **setting.every, **more
    )


def _denoising_autoencoder(setting):
    return _autoencoder(setting, noise_variance=setting.noise_variance)


def _principal_components(setting):
    return PrincipalComponents(setting.options.n_components)


ENTRIES = (
    Entry("fa", "factor analysis, EM", _factor_analysis, ledger=True, linear=True, gaussian=True),
    Entry("vem-linear", "variational EM, linear", _linear_em, ledger=True, linear=True),
    Entry("vem", "variational EM, neural", _neural_em, ledger=True, stops_early=True),
    Entry("vae-linear", "VAE, linear", _linear_vae, ledger=True, linear=True),
    Entry("vae", "VAE", _neural_vae, ledger=True, amortised=True, stops_early=True),
    Entry(
        "mfa", f"mixture of {ANALYSERS} analysers", _analysers, discrete=True, gaussian=True, complete=True
    ),
    Entry("ae", "autoencoder", _autoencoder, complete=True, numeric=True, stops_early=True),
    Entry(
        "dae", "denoising autoencoder", _denoising_autoencoder, complete=True, numeric=True, adds_noise=True,
        stops_early=True,
    ),
    Entry("pca", "principal components", _principal_components, complete=True, numeric=True, iterated=False),
)
