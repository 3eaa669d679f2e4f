"""The variational autoencoder: route three, where a recognition network fills φ in.

φ_n = g_v(x_n) is a function of the data case, so no E-step is run: v and θ go down the same bound by
stochastic gradients (Kingma & Welling 2014). Equations (1.x) are in derivations/equations.md.
"""

from copy import copy, deepcopy
from dataclasses import KW_ONLY, replace

import numpy as np

from .. import bound, importance_weighted
from ..arrays import ranks, tree, workers
from ..arrays.backend import get_backend, namespace
from ..arrays.observed import network_input
from ..arrays.rows import CASES, blocks, collect, slices, take_draws
from ..datasets import binarise
from ..doors import parts
from ..doors.columns import Cases
from ..doors.units import (
    PrincipalAxes, Standardised, centred_encoder, ends_linear, moved, rounded_off, starts_linear
)
from ..doors.validate import check_hidden, check_jobs, check_positive, check_size, generator
from ..inference import e_step, expectations, linear_gaussian
from ..inference.latent_axes import LatentAxes
from ..inference.moments import moments_of_input
from ..likelihoods import relaxed_bernoulli
from ..messages import warn
from ..model import Model
from ..networks import schedules
from ..networks.convergence import ConvergenceWarning, falling, warn_of_falling
from ..networks.layers import Parallel, mlp
from ..networks.training import (
    HeldOut, Run, TrainingError, full_batch, minibatches, no_lower_bound, nothing
)
from ..posteriors import has_kl
from ..posteriors.nodes import sigma_points
from .conventions import (
    ACTIVATION, BACKEND, COMM, CONSTANT, DTYPE, LIKELIHOOD, N_JOBS, NOISE, POSTERIOR, SEED, agreed, estimator,
    in_threads, leaving, option, quietly
)
from .checkpoint import Checkpoint
from .questions import LatentVariableModel


def recognition_network(n_visible, hidden, posterior, activation="tanh", separate=False):
    """The network g_v from n_visible numbers, those of `network_input`, to φ (N, n_phi).

    One trunk whose last layer holds both heads side by side, [m | log s]; or, with separate=True, two
    networks m(x) and log s(x) that share nothing, as in the lecture.
    """
    K = posterior.n_latent
    if not separate:
        return mlp(n_visible, hidden, posterior.n_phi, activation)
    return Parallel(
        (
            mlp(n_visible, hidden, K, activation),
            mlp(n_visible, hidden, posterior.n_phi - K, activation),
        )
    )


OBJECTIVES = {"iwae": "plain", "iwae-dreg": "dreg"}  # beside "bound": the estimator of L_k's gradient


def amortised(
    model, recognition, params, x, eta, *, weights=None, kl=None, kl_weight=1.0, objective="bound",
    n_cases=None,
):
    """The mean of the objective over data cases x (N, D), or an `Observed`, with φ = g_v(x), and its gradient
    by hand.

    params = {"theta": θ, "recognition": v}. Returns the mean and gradients shaped like params; where x are
    some of n_cases data cases, what they add to the mean over those.

    objective  "bound": Q, with weights and kl as in `bound.forward`; where kl_weight is not 1, with so many
               times the KL, which is no bound                                            (1.30)
               "iwae", "iwae-dreg": L_k of the k draws in eta, as in `importance_weighted`
    """
    xp = namespace(x)
    theta, v = params["theta"], params["recognition"]
    phi, cache = recognition.forward(v, network_input(x))          # (N, n_phi)            (1.17)
    dQ = xp.ones_like(phi[:, 0]) / (x.shape[0] if n_cases is None else n_cases)  # of the mean
    if objective == "bound":
        Q, bound_cache = bound.forward(model, theta, phi, x, eta, weights=weights, kl=kl)
        dphi, dtheta = bound.backward(model, theta, bound_cache, dQ)
        if kl_weight != 1:
            kl_n, kl_cache = model.posterior.kl(phi)
            Q = Q + (kl_weight - 1) * kl_n                         # (N,)                 (1.30)
            dphi = dphi + model.posterior.kl_backward(kl_cache, (kl_weight - 1) * dQ)  # (1.30)
    else:
        Q, L_cache = importance_weighted.forward(model, theta, phi, x, eta)
        dphi, dtheta = importance_weighted.backward(
            model, theta, L_cache, dQ, estimator=OBJECTIVES[objective]
        )
    _, dv = recognition.backward(v, cache, dphi, need_dx=False)    #                       (1.18)
    return Q @ dQ, {"theta": dtheta, "recognition": dv}


def _drawn(grey, rng):
    """A draw of 0 and 1 with the probabilities `grey`, to the nearest 1/255."""
    return binarise(np.rint(255 * grey).astype("uint8"), "fresh", rng)


@estimator
class VAE(LatentVariableModel):
    """Variational autoencoder.

    {options}

    After fit: model_, theta_; recognition_ the network and recognition_params_ its v; q_path_ the mean of the
    objective per epoch, in nats per data case, as seen by the optimiser: of "adam" and "sgd" over an epoch's
    minibatches, between which the parameters move on, so that the last is not quite that of what is returned,
    of "lbfgs" after each iteration, the last that of what is returned; heywood_; noise_variance_ (D,);
    n_iter_ epochs, of "lbfgs" iterations; converged_ (for "lbfgs", else None); still_falling_ by how many
    nats it was still falling when the epochs ended, 0.0 where by no more than noise and a tolerance, None of
    fewer than three epochs (6.8); q_validation_path_ the mean of held-out data, or None, and best_iter_ the
    epoch whose parameters were kept, the last where there are none; columns_ what is known of the columns,
    their names among it; training_ what `partial_fit` goes on from.

    What these paths hold is Q with objective="bound", and L_k, which is below Q, with the other two: `bound`,
    `gaps` and all else that is asked of the fitted model are about Q whatever it was trained by. With a
    kl_weight other than 1, q_path_ holds the objective with that weight, which is no bound on anything;
    q_validation_path_ holds Q even then.
    """

    n_components: int = option(2, "K")
    _: KW_ONLY
    hidden: object = option(
        (64, 64),
        "sizes of the decoder's hidden layers, from z to x; the recognition network mirrors them; () is "
        "the linear VAE, whose best encoder leaves no amortisation gap (10.9)",
    )
    activation: object = option("tanh", ACTIVATION)
    decoder: object = option(
        None,
        "a network of your own in place of the one that hidden describes, such as a `layers.Sequential`, "
        "from K to what the likelihood takes. Where it does not end with `layers.Linear`, the data are "
        "taken in their own units",
    )
    recognition: object = option(
        None,
        "likewise, from the model's columns (and their mask) to φ. Where it does not begin with "
        "`layers.Linear`, the data are taken in their own units",
    )
    likelihood: object = option("gaussian", LIKELIHOOD)
    noise: object = option("diagonal", NOISE)
    missing: str = option(
        "error",
        '"error", or "marginalise": NaN stands for an entry that was not observed; the recognition '
        "network sees the mask beside the data",
    )
    constant: str = option("error", CONSTANT)
    binarise: object = option(
        None,
        'None, or "fresh": X are grey values in [0, 1], and every minibatch sees a new draw of 0 and 1 '
        'with these probabilities, to the nearest 1/255 (for likelihood="bernoulli"; what is asked of the '
        "fitted model takes binary data)",
    )
    posterior: object = option("diagonal", POSTERIOR)
    separate: bool = option(False, "False: one trunk and two heads; True: two networks m(x) and log s(x)")
    objective: str = option(
        "bound",
        'what is minimised: "bound", Q; "iwae", the importance-weighted bound L_k of k = n_samples draws '
        "(7.8), nearer to NLML, whose encoder is better for sampling than it is for Q (Burda et al. 2016); "
        '"iwae-dreg", the same with a gradient for the encoder that is less noise as k grows (7.23)',
    )
    kl: object = option(
        None,
        'of objective="bound": "analytic" (1.8) or "sampled" (1.9); None: analytic where the KL is a closed '
        "form of the family",
    )
    kl_weight: object = option(
        1.0,
        'of objective="bound": a number, or a function of the epoch, counted from 1, such as '
        "`schedules.WarmUp(100)`, by which the KL is multiplied. With another one than 1 what is minimised "
        "is no bound (1.30)",
    )
    nodes: str = option(
        "random",
        'where η comes from: "random", n_samples fresh draws for every case and step; "sigma", the 2K '
        'sigma points, exact for a linear-Gaussian model and refused for any other; "quadrature", 7 '
        "Gauss–Hermite nodes per dimension, 10 for a flow, for K ≤ 2",
    )
    n_samples: int = option(
        1, 'fresh draws for every case and step, with nodes="random": the k of objective="iwae"'
    )
    optimizer: object = option(
        "adam",
        '"adam" or "sgd" on minibatches, or an object with init and step, which has a learning rate of '
        'its own; "lbfgs": full batch, for nodes that are deterministic',
    )
    epochs: object = option(
        None,
        'passes over the data; with "lbfgs" the most iterations. None: 300, or 5000 for "lbfgs"',
    )
    batch_size: int = option(128, "data cases of a minibatch")
    learning_rate: object = option(
        None,
        'of "adam" and "sgd", a number, or a function of the epoch, counted from 1, such as '
        "`schedules.Stages()`; an optimiser that is an object takes the latter where it is a dataclass with "
        'a learning_rate, and has else its own. None: 3e-3, or for "adam" 1e-2 where both networks are one '
        "Linear layer: a step of Adam moves a weight by about learning_rate, whatever its gradient, and "
        "there are no hidden layers whose steps add up",
    )
    tol: float = option(
        1e-12,
        'for "lbfgs", see optimizers.lbfgs. Where the recognition network is one Linear '
        "layer that search runs in float64, along the principal axes of what it sees (6.7), and of a "
        "linear model along the axes of z that suit its q (6.10)",
    )
    start_noise: float = option(
        0.1,
        "where a learnt Ψ starts, as a share of each column's variance. Started at the whole variance, "
        "noise explains all there is, and the decoder may never be asked for more",
    )
    min_noise: float = option(1e-6, "the floor of Ψ, as such a share")
    backend: str = option("numpy", BACKEND)
    dtype: object = option(None, DTYPE)
    random_state: object = option(0, SEED)
    n_jobs: object = option(None, N_JOBS)
    comm: object = option(None, COMM)

    def fit(self, X, y=None, *, validation=None, patience=None, checkpoint=None, progress=None):
        """Fit to X (N, D). Returns self.

        validation (M, D) are held-out data. After each epoch (with "lbfgs" iteration) their mean Q is noted
        in q_validation_path_, on nodes that stay the same, or their mean L_k where that is the objective, of
        draws that stay the same, and the parameters with the lowest are kept, those of epoch best_iter_. With
        a patience training ends after so many epochs without a new lowest.

        checkpoint is a file for the model, and for its training, as they stand after the last whole epoch: it
        is written every few seconds, and when fit is left in whatever way, by Ctrl-C too. Where it is there
        already the fit goes on from it, and ends on the same bits as one that never stopped (with "lbfgs" in
        the same minimum: the curvature seen so far is not kept). `teachvae.load` reads it. One that belongs
        to other data or parameters is refused, by ValueError; epochs and n_jobs may differ: with more epochs
        it goes on for longer, with fewer than there were it is what is there.

        progress(epoch, epochs, value), the last of q_path_, is called after each epoch where given; where it
        returns True, training ends. With a parameter called now it is handed a function that returns the
        model as it stands.

        Raises ValueError for data or parameters that cannot be fitted. Where training diverges it raises
        `fit.TrainingError`, and the estimator holds the model as it stood after the last whole epoch, if
        there was one. A ConvergenceWarning says that an "lbfgs" did not reach tol, or that the epochs ended
        while Q, that of validation where there is one, was still_falling_ (6.8).

        There is no sample_weight: minibatches of weighted cases are another stochastic search, in which
        integer weights do not give the fit to repeated rows. Repeat the rows.
        """
        self._check_parameters()
        table, names, likelihood = self._open(X, self.likelihood, self.noise, grey=bool(self.binarise))
        held_out = self._held_out(validation, patience, table, names)
        if held_out is not None:
            if self.binarise:                                      # one draw, the same in every epoch
                relaxed_bernoulli(likelihood.n_visible).check_values(held_out, table.columns.names)
                held_out = replace(held_out, x=_drawn(held_out[:], np.random.default_rng(0)))
            likelihood.check_values(held_out, table.columns.names)
        cases = Cases(table, get_backend(self.backend, "float64"))
        n_in = likelihood.n_visible * (2 if table.columns.masked else 1)
        model, recognition = self._parts(likelihood, n_in)
        kept = self._backend_for(table.x.dtype)
        # The last decreases of a search that goes to the end are lost in float32.
        linear = self.optimizer == "lbfgs" and linear_gaussian.is_linear(recognition)
        backend = get_backend(self.backend, "float64") if linear else kept
        standard = Standardised(model, cases, ends_linear(model.decoder) and starts_linear(recognition))
        table.columns.fill = standard.shift
        x, comm = standard.cases(cases, backend), table.comm
        run, nodes = self._begun(standard, recognition, backend), self._nodes(model.posterior, backend)
        params = run.params
        objective = self._objective(run, standard.model, recognition, x, nodes)
        axes, latent, tell = None, None, agreed(comm, progress)
        unit, epochs = "iteration" if self.optimizer == "lbfgs" else "epoch", self._epochs()
        if linear:
            stats = moments_of_input(x)
            axes = PrincipalAxes(stats.mean, stats.covariance, like=tree.leaves(params["theta"])[0][1])
            params["recognition"] = axes.unfold_encoder(recognition, params["recognition"])
            objective = axes.turned(objective, recognition)
            if linear_gaussian.applies(model) and LatentAxes.apply(model, table.columns.masked):
                latent = LatentAxes(standard.model)
                objective = latent.turned(objective)
        lower = self._lower(standard, params)

        def natural(params):
            """What the search is for as the parameters of networks."""
            params = params if latent is None else latent.fold(params)
            if axes is None:
                return params
            return {**params, "recognition": axes.fold_encoder(recognition, params["recognition"])}

        given = {"X": table.x, "validation": None if held_out is None else held_out.x}
        saved = Checkpoint(checkpoint, self, given, comm)
        saved.lead_back(run, backend)

        def finish(vae, run, params, converged=None):
            vars(vae).pop("training_", None)                       # of an earlier fit
            vae._finish(run, natural(params), converged, standard, recognition, table.columns, kept, names)
            vae.q_validation_path_ = None if held_out is None else volume + np.array(run.held_out_path)
            return vae

        def report(run):
            (Q,) = standard.path(run.path[-1:])
            now = replace(run, path=run.path[-1:], best=None)
            return tell(
                len(run.path), epochs, float(Q), lambda: quietly(finish, copy(self), now, run.params)
            )

        watched = None
        if held_out is not None:
            own = Cases(held_out, cases.backend)
            volume, own = standard.log_volume(own), standard.cases(own, backend)
            on = self._held_out_q if self.objective == "bound" else self._held_out_l
            watched = HeldOut(on(standard.model, recognition, own, natural), patience)
        common = {"lower": lower, "held_out": watched, "comm": comm}
        with (
            saved.kept(lambda run: quietly(finish, copy(self), run, run.kept), tell and report) as after,
            leaving(lambda: finish(self, run, run.params), lambda: len(run.path), unit),
        ):
            if self.optimizer == "lbfgs":
                converged = full_batch(
                    objective,
                    run,
                    len(table.x),
                    max_iter=epochs,
                    tol=self.tol,
                    n_samples=nodes[1].shape[0],
                    memory=100 if linear else 30,                  # a long valley, and cheap to remember
                    after=after,
                    **common,
                )
            else:
                converged = None
                self._lead(run, objective, standard.model, recognition, x, epochs, after=after, **common)
        finish(self, run, run.kept, converged)
        if self.optimizer != "lbfgs":
            self._keep_training(run, standard)
        saved.write(self, run)
        self._end(comm, self.theta_, self.recognition_params_)
        if converged is False:
            warn(
                f"L-BFGS stopped after {len(run.path)} iterations without reaching tol={self.tol:g}: the "
                "bound can still be lowered, or is at odds with rounding; raise epochs or tol",
                ConvergenceWarning,
            )
        elif converged is None and len(run.path) == epochs:
            to_the_end = (
                ", or let optimizer='lbfgs' with nodes='sigma' go to the end"
                if linear_gaussian.gaussian_q_applies(model) else ""
            )
            warn_of_falling(run.judged, unit + "s", f"raise epochs or learning_rate{to_the_end}")
        return self

    def partial_fit(self, X, y=None, *, epochs=1):
        """Lead the training on by so many passes over X (n, D), a part of the data. Returns self.

        A first call begins it, as `fit` does, unless fit was called before, which it goes on from. What is
        kept between calls are the parameters, the optimiser's state and the random generators, not the data.
        What `fit` reads off all data is read off the first part: the columns' standard units, and so the
        floor of Ψ, which constant columns are set aside, and what categories there are; let it be a fair
        sample. q_path_ goes on by the objective of this part, once per pass, and a schedule counts
        all passes as epochs. learning_rate, batch_size, n_samples and objective may be changed between
        calls; what the model is made of is that of the first. `save` keeps what the next call needs.

        A part that is given over and over pulls the model its way: give parts that are alike, in turn.
        Raises ValueError as `fit` does, and for "lbfgs", which wants all of the data; after an error or
        Ctrl-C the estimator is as it was before the call.
        """
        self._check_parameters()
        check_size("epochs", epochs)
        if self.optimizer == "lbfgs":
            raise ValueError("partial_fit takes minibatches of each part: use optimizer='adam' or 'sgd'")
        table, names, likelihood = self._open_part(X, self.likelihood, self.noise, bool(self.binarise))
        begun = getattr(self, "training_", None)
        if begun is None:
            n_in = likelihood.n_visible * (2 if table.columns.masked else 1)
            (model, recognition), backend = self._parts(likelihood, n_in), self._backend_for(table.x.dtype)
        else:
            model, recognition, backend = self.model_, self.recognition_, self.backend_
        cases = Cases(table, get_backend(self.backend, "float64"))
        standard = self._standard(model, cases, ends_linear(model.decoder) and starts_linear(recognition))
        if begun is None:
            table.columns.fill = standard.shift
        run = self._begun(standard, recognition, backend) if begun is None else deepcopy(begun["run"])
        done, x = len(run.path), standard.cases(cases, backend)
        for name, zero in (("learning_rate", False), ("kl_weight", True)):
            if getattr(self, name) is not None:
                schedules.check(name, getattr(self, name), done + epochs, zero)
        nodes = self._nodes(model.posterior, backend)
        objective = self._objective(run, standard.model, recognition, x, nodes)
        lower = self._lower(standard, run.params)
        try:
            most, comm = done + epochs, table.comm
            self._lead(run, objective, standard.model, recognition, x, most, lower=lower, comm=comm)
        except TrainingError as error:
            raise TrainingError(f"{error}. The estimator is as it was before this part") from error
        volume = standard.log_volume(cases) - standard.units.log_volume
        run.path[done:] = [value + volume for value in run.path[done:]]
        self._finish(run, run.params, None, standard, recognition, table.columns, backend, names)
        self._keep_training(run, standard)
        self.still_falling_, self.q_validation_path_ = None, None
        self._end(table.comm, self.theta_, self.recognition_params_)
        return self

    def _begun(self, standard, recognition, backend):
        """The `Run` before its first epoch."""
        init_rng, shuffle_rng, noise_rng = generator(self.random_state).spawn(3)
        params = {
            "theta": standard.start(init_rng, backend, self.start_noise),
            "recognition": recognition.init(init_rng, backend),
        }
        return Run(params, {"shuffle": shuffle_rng, "noise": noise_rng})

    def _lead(self, run, objective, model, recognition, x, epochs, **common):
        """Lead a run on over minibatches of the data cases x until it has so many epochs."""
        rate = self._rate(model, recognition)
        minibatches(
            objective,
            run,
            ranks.places(x).n_cases,
            optimizer=parts.optimizer(self.optimizer, schedules.at(rate, 1)),
            epochs=epochs,
            batch_size=self.batch_size,
            rate=rate if callable(rate) else None,
            **common,
        )

    def _rate(self, model, recognition):
        """The learning rate: a number, or a function of the epoch."""
        if self.learning_rate is not None:
            return self.learning_rate
        shallow = linear_gaussian.is_linear(model.decoder) and linear_gaussian.is_linear(recognition)
        return 1e-2 if shallow and self.optimizer == "adam" else 3e-3

    def _lower(self, standard, params):
        """Bounds from below for params in standard units, a tree like them."""
        return {
            "theta": standard.lower(params["theta"], self.min_noise),
            "recognition": no_lower_bound(params["recognition"]),
        }

    def _parts(self, likelihood, n_in):
        """The model, and the recognition network from n_in numbers to φ."""
        K, hidden = self.n_components, check_hidden(self.hidden)
        activation = parts.activation(self.activation)
        posterior = parts.posterior(self.posterior, K)
        decoder = parts.network(
            self.decoder, "decoder", K, likelihood.n_f, lambda: mlp(K, hidden, likelihood.n_f, activation)
        )
        recognition = parts.network(
            self.recognition, "recognition", n_in, posterior.n_phi,
            lambda: recognition_network(n_in, hidden[::-1], posterior, activation, self.separate),
        )
        model = Model(decoder, likelihood, K, posterior)
        bound.kl_for(posterior, self.kl)
        if not has_kl(posterior) and (callable(self.kl_weight) or self.kl_weight != 1):
            raise ValueError(
                f"kl_weight={self.kl_weight!r} needs the KL in closed form, which {type(posterior).__name__} "
                "has not: leave it at 1"
            )
        if self.nodes == "sigma" and not linear_gaussian.gaussian_q_applies(model):
            raise ValueError(
                "nodes='sigma' is exact for a linear-Gaussian model only (hidden=(), likelihood='gaussian', "
                "posterior='diagonal' or 'full'); elsewhere its Q is no bound: use nodes='random', or "
                "'quadrature' for K <= 2"
            )
        return model, recognition

    def _finish(self, run, params, converged, standard, recognition, columns, kept, names):
        """What was learnt in standard units, told in the data's own, on the backend `kept`."""
        exact = standard.fold(params["theta"])
        exact_encoder = standard.fold_encoder(recognition, params["recognition"])
        theta, encoder = (tree.map(kept.asarray, tree_) for tree_ in (exact, exact_encoder))
        self.heywood_ = standard.heywood(theta["likelihood"], self.min_noise, columns.names)
        self.columns_ = columns
        self.q_path_, self.n_iter_, self.converged_ = standard.path(run.path), len(run.path), converged
        self.best_iter_ = len(run.path) if run.best is None else run.best.epoch
        self.still_falling_ = 0.0 if converged else falling(run.judged)
        self.model_, self.theta_, self.theta_rest_ = standard.own, theta, rounded_off(exact, theta)
        self.recognition_ = recognition
        self.recognition_params_, self.encoder_rest_ = encoder, rounded_off(exact_encoder, encoder)
        self._keep(kept, names, len(columns.given))

    def _check_parameters(self):
        check_size("n_components", self.n_components)
        check_jobs("n_jobs", self.n_jobs)                          # for the questions: a step has no blocks
        for name in ("batch_size", "n_samples"):
            check_size(name, getattr(self, name))
        if self.epochs is not None:
            check_size("epochs", self.epochs)
        for name in ("start_noise", "min_noise", "tol"):
            check_positive(name, getattr(self, name))
        if self.optimizer != "lbfgs":
            optimizer = parts.optimizer(self.optimizer, 1.0, beside=["lbfgs"])
            if callable(self.learning_rate) and "learning_rate" not in getattr(
                optimizer, "__dataclass_fields__", {}
            ):
                raise ValueError(
                    f"learning_rate is a function of the epoch, {self.learning_rate!r}, and the optimizer "
                    f"{type(optimizer).__name__} takes none: make it a dataclass with a field learning_rate"
                )
        if self.learning_rate is not None:
            schedules.check("learning_rate", self.learning_rate, self._epochs())
        schedules.check("kl_weight", self.kl_weight, self._epochs(), zero=True)
        choices = {
            "objective": ["bound", *OBJECTIVES],
            "kl": ["analytic", "sampled", None],
            "nodes": ["random", "sigma", "quadrature"],
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {allowed}, got {getattr(self, name)!r}")
        if self.binarise is not None:
            if self.binarise != "fresh" or self.likelihood != "bernoulli" or self.missing != "error":
                raise ValueError(
                    "binarise must be None or, with likelihood='bernoulli' and complete data, 'fresh', got "
                    f"{self.binarise!r} with likelihood={self.likelihood!r}, missing={self.missing!r}"
                )
            if self._ranks().size > 1:
                raise ValueError(
                    "binarise='fresh' would draw the data of every rank by themselves, not as one fit to all "
                    "does: binarise before the fit, by datasets.binarise(x, 'fixed', seed), or fit on one "
                    "rank"
                )
            if self.optimizer == "lbfgs":
                raise ValueError("binarise='fresh' draws anew in every step, optimizer='lbfgs' cannot")
        if self.optimizer == "lbfgs" and self.nodes == "random":
            raise ValueError(
                "optimizer='lbfgs' needs a deterministic objective: use it with nodes='sigma' where the "
                "model is linear-Gaussian, or nodes='quadrature' for K <= 2"
            )
        if self.optimizer == "lbfgs" and callable(self.kl_weight):
            raise ValueError(
                "optimizer='lbfgs' needs an objective that stays the same: give kl_weight a number, or take "
                "optimizer='adam'"
            )
        if self.objective != "bound":
            if self.nodes != "random":
                raise ValueError(
                    f"objective={self.objective!r} is a bound for independent draws only, got nodes="
                    f"{self.nodes!r}: use nodes='random', with n_samples for k"
                )
            if callable(self.kl_weight) or self.kl_weight != 1:
                raise ValueError(
                    f"kl_weight belongs to objective='bound': in L_k there is no KL to be weighted, got "
                    f"kl_weight={self.kl_weight!r} with objective={self.objective!r}"
                )
        if self.nodes == "quadrature" and self.n_components > 2:
            raise ValueError(
                f"nodes='quadrature' is for K <= 2, got n_components={self.n_components}: use "
                "nodes='random'"
            )

    def _epochs(self):
        """The most epochs, or iterations, that there may be."""
        return self.epochs or (5000 if self.optimizer == "lbfgs" else 300)

    def _nodes(self, posterior, backend):
        """Deterministic nodes and weights, or None where η is drawn anew."""
        if self.nodes == "random":
            return None
        K = self.n_components
        if self.nodes == "quadrature":
            return e_step.nodes_for(posterior, 7, 0, backend.zeros((1,)))
        return tuple(backend.asarray(a) for a in sigma_points(K))

    def _held_out_q(self, model, recognition, x, natural):
        """run → the mean Q of held-out data cases x, of all ranks, on `e_step.steady_nodes`."""
        nodes = e_step.steady_nodes(model, x.backend.zeros((1,)))

        def Q(theta, phi, rows):
            return expectations.bound_on_nodes(model, theta, phi, x[rows, ...], *nodes)

        return self._mean(Q, slices(x.shape[0]), recognition, x, natural)

    def _held_out_l(self, model, recognition, x, natural):
        """run → the mean L_k of held-out data cases x, of all ranks, on draws that stay the same: those of
        the first `CASES` serve the next as well.
        """
        size = (self.n_samples, CASES, self.n_components)
        eta, first = x.backend.normal(np.random.default_rng(0), size), ranks.places(x).first

        def L(theta, phi, rows):
            where = (first + np.arange(rows.start, rows.stop)) % CASES
            return importance_weighted.forward(model, theta, phi, x[rows, ...], take_draws(eta, where))[0]

        return self._mean(L, blocks(x.shape[0], self.n_samples), recognition, x, natural)

    def _mean(self, value_of, blocks, recognition, x, natural):
        """run → the mean over the data cases x, of all ranks, of value_of(θ, φ, rows), (n,), in blocks."""
        n_cases, xp = ranks.places(x).n_cases, x.backend.xp

        def value(run):
            params = natural(run.params)
            total = x.backend.zeros(())
            for rows in blocks:
                phi, _ = recognition.forward(params["recognition"], network_input(x[rows, ...]))
                total = total + xp.sum(value_of(params["theta"], phi, rows))
            (total,) = ranks.total(x.comm, (total,))
            return float(total) / n_cases

        return value

    def _objective(self, run, model, recognition, x, nodes):
        """objective(params, rows) → what the data cases x on this rank add to the mean objective of all
        `rows`, and to its gradient. Every rank draws the η of all; with binarise="fresh" x are drawn too.
        """
        backend, places, noise_rng = x.backend, ranks.places(x), run.generators["noise"]

        def objective(params, rows):
            own, where = places.own(rows)
            # 0 and 1 are their own standard units.
            batch = backend.asarray(_drawn(x.table[own], noise_rng)) if self.binarise else x[own, ...]
            n_cases = batch.shape[0] if isinstance(rows, slice) else len(rows)
            if nodes is None:
                eta = backend.normal(noise_rng, (self.n_samples, n_cases, model.n_latent))
                eta, weights = take_draws(eta, where), None
            else:
                eta, weights = nodes
            if batch.shape[0] == 0:
                return nothing(params)
            return amortised(
                model, recognition, params, batch, eta, weights=weights, kl=self.kl, n_cases=n_cases,
                kl_weight=schedules.at(self.kl_weight, len(run.path) + 1), objective=self.objective,
            )

        return objective

    def _move(self, backend):
        super()._move(backend)
        self.recognition_params_, self.encoder_rest_ = moved(
            self.recognition_params_, self.encoder_rest_, backend
        )

    def _phi(self, theta, cases):
        params = self.recognition_params_
        if starts_linear(self.recognition_):
            params = centred_encoder(self.recognition_, params, self.encoder_rest_, cases.origin)
        else:                                                      # no shift can be folded in: it sees x
            cases = replace(cases, origin=0.0)

        def phi(rows):
            return self.recognition_.forward(params, network_input(cases[rows, ...]))[0]

        return collect(cases.shape[0], phi, workers.each)

    @in_threads
    def encode(self, X):
        """φ (N, n_phi) = g_v(x_n), [m | log s]: what the recognition network says, in one pass."""
        return self._phi(*self._centred(X))

    @in_threads
    def refine(self, X, n_steps=10):
        """φ (N, n_phi) after n_steps E-steps from `encode`: semi-amortised inference (Kim et al. 2018).

        A step is one try of a quasi-Newton step with backtracking, each case for itself, on fixed nodes,
        so none raises its Q_n on them: the sigma points of a linear-Gaussian model, else 32 Gauss–Hermite
        nodes for K = 1, 14 × 14 for K = 2 and 64 + 4K whitened draws beyond. Raises ValueError for
        n_steps < 0.
        """
        check_size("n_steps", n_steps, 0)
        return self._refined(*self._observed(X), n_steps)

    def trace(self, X):
        """One more update of the training, on the data cases X (n, D), value by value: a `Trace`.

        It begins where training ended, with the optimiser's state and the η that training would draw next,
        and the model stays as it is: `partial_fit(X)` makes this update where batch_size is n or more. As
        training does, it computes in standard units, in which Q is another by a constant. After
        "lbfgs", which takes no such steps, it ends with the gradients, and is in the data's own units.

        Raises ValueError where something else than Q is minimised: objective="iwae", or a kl_weight.
        """
        from ..course.trace import Trace  # not at import teachvae

        cases = self._cases(X, density=True)
        model, recognition, backend = self.model_, self.recognition_, self.backend_
        n_cases, run = cases.shape[0], self.training_["run"] if hasattr(self, "training_") else None
        epoch = 1 + (self.n_iter_ if run is None else len(run.path))
        weight = schedules.at(self.kl_weight, epoch)
        if self.objective != "bound" or weight != 1:
            raise ValueError(
                f"a trace goes through Q, and objective={self.objective!r} with kl_weight={weight:g} in "
                f"epoch {epoch} minimises something else: trace a VAE with objective='bound', kl_weight=1"
            )
        nodes, common = self._nodes(model.posterior, backend), {"kl": self.kl, "recognition": recognition}
        if run is None:
            fresh = backend.normal(generator(self.random_state), (self.n_samples, n_cases, model.n_latent))
            eta, weights = (fresh, None) if nodes is None else nodes
            common |= {"recognition_params": self.recognition_params_, "weights": weights}
            return Trace(model, self.theta_, None, cases[:, ...], eta, **common)
        standard = self._standard(model, cases, ends_linear(model.decoder) and starts_linear(recognition))
        eta, weights = (self._next_draws(n_cases, self.n_samples), None) if nodes is None else nodes
        rate = self._rate(model, recognition)
        optimizer = parts.optimizer(self.optimizer, schedules.at(rate, epoch))
        return Trace(
            standard.model,
            run.params["theta"],
            None,
            standard.cases(cases, backend)[:, ...],
            eta,
            weights=weights,
            recognition_params=run.params["recognition"],
            optimizer=replace(optimizer, learning_rate=rate(epoch)) if callable(rate) else optimizer,
            state=run.optimizer,
            lower=self._lower(standard, run.params),
            **common,
        )

    @property
    def n_parameters_(self):
        """How many numbers were learned: θ and the recognition network."""
        self._require_fit()
        return tree.size(self.theta_) + tree.size(self.recognition_params_)
