"""Parts of a model by name, or of your own: what each has to have, and what is said where it has not."""

from ..networks.optimizers import OPTIMIZERS
from ..posteriors import POSTERIORS, has_kl

# What is asked of a part, and where it is written down with its shapes.
PROTOCOLS = {
    "likelihood": (
        ("n_visible", "n_f", "init", "forward", "backward", "mean"),
        "likelihoods/likelihood.py: inherit from teachvae.likelihoods.Likelihood, which has all the rest",
    ),
    "network": (("n_in", "n_out", "init", "forward", "backward"), "networks/layers.py"),
    "activation": (("forward", "backward"), "networks/layers.py"),
    "posterior": (
        ("n_latent", "n_phi", "sample", "sample_backward", "log_prob", "log_prob_backward", "mean"),
        "posteriors/posterior.py: inherit from teachvae.posteriors.Posterior, which has all the rest",
    ),
    "optimizer": (("init", "step"), "networks/optimizers.py"),
}


def require(kind, part):
    """`part`; TypeError where it has not got what a part of this `kind` must have."""
    members, page = PROTOCOLS[kind]
    if isinstance(part, type):
        raise TypeError(f"{kind} must be an object, got the class {part.__name__}: give {part.__name__}(…)")
    missing = [name for name in members if not hasattr(part, name)]
    if kind == "likelihood" and not missing and not hasattr(part, "cross"):
        missing = ["defaults for the rest"]
    if missing:
        raise TypeError(
            f"this {kind}, {type(part).__name__}, has no {', '.join(missing)}; a {kind} needs "
            f"{', '.join(members)}, as written down in {page}"
        )
    return part


def activation(spec):
    """The name of an activation, or a layer of your own."""
    return spec if isinstance(spec, str) else require("activation", spec)


def posterior(spec, n_latent):
    """The family of q: from `POSTERIORS` by name, or an object of your own for the same K."""
    if isinstance(spec, str):
        if spec not in POSTERIORS:
            raise ValueError(f"posterior must be one of {sorted(POSTERIORS)} or an object, got {spec!r}")
        return POSTERIORS[spec](n_latent)
    family = require("posterior", spec)
    if has_kl(family) and not hasattr(family, "kl_backward"):
        raise TypeError(
            f"this posterior, {type(family).__name__}, has kl and no kl_backward: write it, or leave kl out: "
            "the KL is then taken over the samples"
        )
    if family.n_latent != n_latent:
        raise ValueError(
            f"the posterior has {family.n_latent} latent variables, n_components is {n_latent}: give one for "
            "as many"
        )
    return family


def flow(spec, n_latent):
    """A family of flows for this K, as `posterior` takes it, that holds the Gaussians."""
    family = posterior(spec, n_latent)
    if not hasattr(family, "from_full"):
        raise TypeError(
            f"family must be 'flow', 'planar' or a posteriors.Flow, which can start from_full; got {spec!r}"
        )
    return family


def optimizer(spec, learning_rate, beside=()):
    """An optimiser: from `OPTIMIZERS` by name, with this learning rate, or an object of your own. `beside`
    are further names that may be given, for the message.
    """
    if isinstance(spec, str):
        if spec not in OPTIMIZERS:
            names = [*sorted(OPTIMIZERS), *beside]
            raise ValueError(f"optimizer must be one of {names} or an object, got {spec!r}")
        return OPTIMIZERS[spec](learning_rate)
    return require("optimizer", spec)


def network(spec, name, n_in, n_out, default):
    """A network of your own from n_in to n_out numbers, called `name`, or default() where None."""
    if spec is None:
        return default()
    found = require("network", spec)
    if (found.n_in, found.n_out) != (n_in, n_out):
        raise ValueError(
            f"{name} must go from {n_in} to {n_out} numbers, this one goes from {found.n_in} to {found.n_out}"
        )
    return found
