"""Variational EM: route two, where φ is a table with one row per data case.

The E-step minimises Q over every φ_n with θ fixed, the M-step over θ with φ fixed. With a linear
decoder and a Gaussian likelihood both are closed forms; with a neural decoder (non-linear factor
analysis) the E-step takes quasi-Newton steps on fixed nodes, and the M-step takes Adam steps on
the decoder and has Ψ in closed form. Equations (2.x), (6.x) are in derivations/equations.md.
"""

from copy import copy, deepcopy
from dataclasses import KW_ONLY, replace
import math

import numpy as np

from .. import bound
from ..arrays import ranks, tree
from ..arrays.backend import get_backend, namespace, to_numpy
from ..arrays.rows import collect, slices, take_draws, take_rows
from ..doors import parts
from ..doors.columns import Cases
from ..doors.units import Standardised, ends_linear, rounded_off
from ..doors.validate import check_hidden, check_positive, check_size, generator
from ..inference import e_step, em, expectations, linear_gaussian
from ..messages import shorten, warn
from ..model import Model
from ..networks.convergence import ConvergenceWarning, falling, warn_of_falling
from ..networks.layers import mlp
from ..networks.optimizers import Adam
from ..networks.training import (
    HeldOut, Run, TrainingError, ended, exhausted, minibatches, not_finite, nothing
)
from ..posteriors import has_kl
from ..posteriors.nodes import matched_draws, sigma_points
from .checkpoint import Checkpoint
from .conventions import (
    ACTIVATION, BACKEND, COMM, CONSTANT, DTYPE, LIKELIHOOD, N_JOBS, NOISE, POSTERIOR, SEED, agreed, estimator,
    in_threads, leaving, leaving_last, option, quietly
)
from .questions import LatentVariableModel


@estimator
class VariationalEM(LatentVariableModel):
    """Latent variable model fitted by variational EM.

    {options}

    After fit: phi_ (N, n_phi) the table, of the data cases on this rank; model_, theta_; q_path_ mean Q after
    every E-step, in nats per data case, the last that of phi_ and theta_ (with E-steps by quasi-Newton on
    more nodes than the others; `bound` has yet finer ones); n_iter_ rounds; converged_ (closed forms);
    still_falling_, q_validation_path_, best_iter_ and training_ as in `VAE`, of rounds; heywood_;
    noise_variance_ (D,).
    """

    n_components: int = option(2, "K")
    _: KW_ONLY
    hidden: object = option((64, 64), "sizes of the decoder's hidden layers; () is the linear decoder")
    activation: object = option("tanh", ACTIVATION)
    decoder: object = option(
        None,
        "a network of your own in place of the one that hidden describes, from K to what the likelihood "
        "takes. Where it does not end with `layers.Linear`, the data are taken in their own units",
    )
    likelihood: object = option("gaussian", LIKELIHOOD)
    noise: object = option("diagonal", NOISE)
    missing: str = option(
        "error",
        '"error", or "marginalise": NaN stands for an entry that was not observed',
    )
    constant: str = option("error", CONSTANT)
    posterior: object = option("diagonal", POSTERIOR)
    epochs: object = option(
        None,
        "rounds of one E-step and one M-step; None: 100, or with closed forms as many as tol asks for, at "
        "most 20000",
    )
    tol: float = option(
        1e-8,
        "with closed forms: end when less than tol nats per data case are to be gained, and were gained "
        "in the last quarter of the rounds (6.6)",
    )
    n_starts: object = option(
        None,
        "with closed forms: from how many starts a hundred rounds are gone, to go on from the best. None: "
        "4, or the first alone where it arrives within them. There can be several minima of Q, as in "
        "`FactorAnalysis`",
    )
    e_steps: int = option(3, "quasi-Newton steps of an E-step")
    m_steps: int = option(5, "passes over the data of an M-step")
    n_samples: object = option(
        None,
        "nodes of an E-step's expectation; None: Gauss–Hermite with 3 per dimension for K ≤ 2, else 4K "
        "whitened draws; for a flow 10 per dimension, else 64 draws for each number of a row of φ",
    )
    batch_size: int = option(128, "data cases of a minibatch of the M-step's Adam")
    learning_rate: float = option(5e-3, "of the M-step's Adam")
    min_noise: float = option(1e-6, "the floor of Ψ as a share of each column's variance")
    backend: str = option("numpy", BACKEND)
    dtype: object = option(None, DTYPE)
    random_state: object = option(0, SEED)
    n_jobs: object = option(None, N_JOBS)
    comm: object = option(None, COMM)

    @in_threads
    def fit(self, X, y=None, *, validation=None, patience=None, checkpoint=None, progress=None):
        """Fit to X (N, D). Returns self.

        validation (M, D) are held-out data, for a neural decoder. After each round E-steps with θ fixed lead
        on a table of theirs, their mean Q is noted in q_validation_path_, and θ and phi_ of the round with
        the lowest are kept, best_iter_. With a patience training ends after so many rounds without a new
        lowest.

        checkpoint is a file, as in `VAE.fit`, of rounds; with closed forms from when one of the starts is
        chosen.

        progress(round, rounds, mean_Q) is called after each round where given; where it returns True,
        training ends. With a parameter called now it is handed a function that returns the model as it
        stands.

        Raises ValueError for data or parameters that cannot be fitted, and for validation with closed forms,
        which go to the lowest Q of the training data at once. Where training diverges it raises
        `fit.TrainingError`, and the estimator holds the model as it stood after the last whole round, if
        there was one. A ConvergenceWarning says that the rounds ended while Q, that of validation where there
        is one, was still_falling_ (6.8), or closed forms before they were at rest.

        There is no sample_weight: φ is a table of the data cases, and minibatches of weighted cases would be
        another stochastic search. Repeat the rows, or take `FactorAnalysis`, which has the maximum of
        posterior="full".
        """
        table, names, likelihood = self._open(X, self.likelihood, self.noise)
        self._check_parameters()
        model = self._model(likelihood)
        closed = linear_gaussian.gaussian_q_applies(model)
        if closed:
            D = likelihood.n_visible
            check_size("n_components", self.n_components, 1, D, f" where hidden=() (X has {D} columns)")
        held_out = self._held_out(validation, patience, table, names)
        if held_out is not None:
            if closed:
                raise ValueError(
                    "validation is for neural decoders: with hidden=() and closed forms training is no path "
                    "that could be left early, leave validation out and ask bound(validation) afterwards"
                )
            likelihood.check_values(held_out, table.columns.names)
        kept, double = self._backend_for(table.x.dtype), get_backend(self.backend, "float64")
        cases = Cases(table, double)
        standard = Standardised(model, cases, ends_linear(model.decoder))
        table.columns.fill, tell = standard.shift, agreed(table.comm, progress)

        # Closed forms run in float64, as EM does: their last decreases are lost in float32.
        backend = double if closed else kept
        x, watched = standard.cases(cases, backend), None
        if held_out is not None:
            own = Cases(held_out, double)
            volume, own = standard.log_volume(own), standard.cases(own, backend)
            watched = HeldOut(self._held_out_q(standard.model, own), patience)

        def finish(vem, run, n_iter, converged=None):
            vars(vem).pop("training_", None)                       # of an earlier fit
            vem._finish(run, n_iter, converged, standard, table.columns, kept, names)
            vem.q_validation_path_ = None if held_out is None else volume + np.array(run.held_out_path)
            return vem

        def report(done, rounds, mean_Q, run):
            """run is a function: what it holds is made where it is asked for."""
            (Q,) = standard.path([mean_Q])
            now = lambda: finish(copy(self), replace(run(), path=[mean_Q], best=None), 0)  # noqa: E731
            return tell(done, rounds, float(Q), lambda: quietly(now))

        given = {"X": table.x, "validation": None if held_out is None else held_out.x}
        saved, rounds = Checkpoint(checkpoint, self, given, table.comm), self._rounds(closed)
        if closed:
            run, converged = self._fit_closed_form(standard, backend, x, tell and report, saved, finish)
            finish(self, run, len(run.path) - 1, converged)
            theta, begun = tree.map(kept.asarray, run.params), self._begun(standard, kept, x)
            self._keep_training(replace(begun, params=theta, path=run.path), standard)
        else:
            run = self._begun(standard, backend, x)
            saved.lead_back(run, backend)

            def told(run):
                return report(len(run.path), rounds, run.path[-1], lambda: run)

            def now(run):
                return quietly(finish, copy(self), run, len(run.path))

            with (
                saved.kept(now, tell and told) as after,
                leaving(lambda: finish(self, run, len(run.path)), lambda: len(run.path), "round"),
            ):
                last = self._fit_by_steps(run, standard, backend, x, watched, after, rounds)
            finish(self, last, len(run.path))
            self._keep_training(run, standard)
        saved.write(self)
        self._end(table.comm, self.theta_)
        if closed and converged is False:
            warn(
                f"variational EM stopped after {rounds} rounds with more than tol={self.tol} nats per "
                "data case still to be gained: raise epochs or tol",
                ConvergenceWarning,
            )
        elif not closed and len(run.path) == rounds:
            warn_of_falling(run.judged, "rounds", "raise epochs, or m_steps or learning_rate")
        return self

    @in_threads
    def partial_fit(self, X, y=None, *, epochs=1):
        """Lead the training on by so many rounds on X (n, D), a part of the data. Returns self.

        A first call begins it, as `fit` does, unless fit was called before, which it goes on from. The new
        rows get a φ of their own, led from the prior by at most 20 steps, then every round is an
        E-step and an M-step on these rows alone. What is kept between calls are θ, the M-step's Adam and the
        random generators, not the data, nor φ: phi_ is that of the last part, and `infer` has those of
        others. What `fit` reads off all data is read off the first part, as in `VAE.partial_fit`. q_path_ has
        Q of each part in each round, and at the end that of phi_.

        Ψ is that of the last part, and what the others said of θ is slowly forgotten: give parts that are
        alike, in turn. With hidden=() it goes by steps as well, for the closed forms want all of the data;
        `FactorAnalysis.partial_fit` has them in moments that add up. Raises ValueError as `fit` does; after
        an error or Ctrl-C the estimator is as it was before the call.
        """
        self._check_parameters()
        check_size("epochs", epochs)
        table, names, likelihood = self._open_part(X, self.likelihood, self.noise)
        begun = getattr(self, "training_", None)
        model = self._model(likelihood) if begun is None else self.model_
        backend = self._backend_for(table.x.dtype) if begun is None else self.backend_
        cases = Cases(table, get_backend(self.backend, "float64"))
        standard = self._standard(model, cases, ends_linear(model.decoder))
        if begun is None:
            table.columns.fill = standard.shift
        x = standard.cases(cases, backend)
        run = self._begun(standard, backend, x) if begun is None else deepcopy(begun["run"])
        done, where = len(run.path), (standard.model, run.params)
        starts = [
            e_step.prior_phi(standard.model, backend.zeros((x.shape[0], 1))),
            e_step.search(*where, x, backend.normal(run.generators["noise"], (256, model.n_latent))),
        ]
        e = e_step.from_starts(*where, starts, x, *self._round_nodes(model, backend), max_steps=20)
        run.table = {"phi": e.phi}
        try:
            last = self._fit_by_steps(run, standard, backend, x, None, None, done + epochs)
        except TrainingError as error:
            raise TrainingError(f"{error}. The estimator is as it was before this part") from error
        volume = standard.log_volume(cases) - standard.units.log_volume
        last.path[done:] = [value + volume for value in last.path[done:]]
        self._finish(last, len(run.path), None, standard, table.columns, backend, names)
        self._keep_training(replace(run, path=last.path[:-1]), standard)
        self.still_falling_, self.q_validation_path_ = None, None
        self._end(table.comm, self.theta_)
        return self

    def _model(self, likelihood):
        """The model with this likelihood."""
        K, hidden = self.n_components, check_hidden(self.hidden)
        activation = parts.activation(self.activation)
        decoder = parts.network(
            self.decoder, "decoder", K, likelihood.n_f, lambda: mlp(K, hidden, likelihood.n_f, activation)
        )
        model = Model(decoder, likelihood, K, parts.posterior(self.posterior, K))
        least = SOUND_DRAWS * model.posterior.n_phi
        if not (has_kl(model.posterior) or self.n_samples is None or self.n_samples >= least):
            raise ValueError(
                f"n_samples={self.n_samples} draws are too few for posterior={self.posterior!r}: a family "
                f"without a KL in closed form fits the draws it is sought on; give {least} or more, or None"
            )
        return model

    def _finish(self, run, n_iter, converged, standard, columns, kept, names):
        """What was learnt in standard units, told in the data's own, on the backend `kept`."""
        exact = standard.fold(run.kept)
        theta = tree.map(kept.asarray, exact)
        self.heywood_ = standard.heywood(theta["likelihood"], self.min_noise, columns.names)
        self.columns_ = columns
        self.q_path_, self.n_iter_, self.converged_ = standard.path(run.path), n_iter, converged
        self.best_iter_ = n_iter if run.best is None else run.best.epoch
        self.still_falling_ = 0.0 if converged else falling((run.held_out_path or run.path)[:n_iter])
        self.model_, self.theta_, self.theta_rest_ = standard.own, theta, rounded_off(exact, theta)
        self.phi_ = np.asarray(to_numpy(run.kept_table["phi"]), dtype=kept.dtype)
        self._keep(kept, names, len(columns.given))

    def _rounds(self, closed):
        """The most rounds that there may be."""
        return self.epochs if self.epochs is not None else 20000 if closed else 100

    def _check_parameters(self):
        check_size("n_components", self.n_components)
        for name in ("e_steps", "m_steps", "batch_size"):
            check_size(name, getattr(self, name))
        for name in ("epochs", "n_starts", "n_samples"):
            if getattr(self, name) is not None:
                check_size(name, getattr(self, name))
        for name in ("learning_rate", "min_noise", "tol"):
            check_positive(name, getattr(self, name))

    def _fit_closed_form(self, standard, backend, x, report, saved, finish):
        """Coordinate descent on Q, both halves exact: Q never rises. EM with a family of q."""
        model, likelihood = standard.model, standard.model.likelihood
        lower = likelihood.lower_bounds(standard.units.variance, self.min_noise)
        if x.table.columns.masked:
            problem = em.Incomplete(x, likelihood, lower, model.posterior)
        else:
            products = sum(x[rows, ...].T @ x[rows, ...] for rows in slices(x.shape[0]))
            (products,) = ranks.total(ranks.of(x), (products,))
            S = products / ranks.places(x).n_cases
            problem = em.Complete(S, likelihood, lower, model.posterior)
        rng, size = generator(self.random_state), (likelihood.n_visible, self.n_components)
        most = self._rounds(closed=True)

        def theta(p):
            decoder = linear_gaussian.decoder_params(model, p.W, p.b)
            return {"decoder": decoder, "likelihood": likelihood.m_step(p.psi, None)}

        def table(p):
            return collect(x.shape[0], lambda rows: e_step.closed_form(model, theta(p), x[rows, ...]))

        def run(p, path):
            return Run(theta(p), path=path, table={"phi": table(p)})

        def told(iteration, most, Q, p):
            return report(iteration, most, Q, lambda: run(p, [Q]))

        def now(fit):
            return quietly(finish, copy(self), run(fit.p, fit.path), len(fit.path) - 1, fit.converged)

        with saved.kept(now) as after, leaving_last(self, now, saved):
            found = em.fit(
                problem,
                self.n_components,
                (backend.normal(rng, size) for _ in range(self.n_starts or em.STARTS)),
                tol=self.tol,
                max_iter=most,
                every=self.n_starts is not None,
                progress=None if report is None else told,
                begun=saved.begun(backend),
                after=after,
            )
        return run(found.p, found.path), found.converged           # the last Q is of this θ and its table

    def _begun(self, standard, backend, x):
        """The `Run` of steps before its first round."""
        init_rng, shuffle_rng, noise_rng = generator(self.random_state).spawn(3)
        theta = standard.start(init_rng, backend)
        phi = e_step.prior_phi(standard.model, backend.zeros((x.shape[0], 1)))
        return Run(theta, {"shuffle": shuffle_rng, "noise": noise_rng}, table={"phi": phi})

    def _fit_by_steps(self, run, standard, backend, x, held_out, after, rounds):
        """E-steps by quasi-Newton steps on the table, M-steps by Adam on θ, up to so many rounds, which `run`
        keeps, with after(run) at the end of each. Returns a run of what is to be kept, with φ led to the end
        and its Q at the end of the path.
        """
        model, noise_rng = standard.model, run.generators["noise"]
        phi, xp = run.table["phi"], backend.xp
        coarse = self._round_nodes(model, backend)
        likelihood = model.likelihood
        lower, optimizer = standard.lower(run.params, self.min_noise), Adam(self.learning_rate)
        comm, places = ranks.of(x), ranks.places(x)

        def objective(theta, rows):
            """What the cases here among `rows` add to their mean Q, φ fixed, and to its gradient in θ, 0 in
            what has an M-step of its own.
            """
            eta = backend.normal(noise_rng, (1, len(rows), self.n_components))
            own, where = places.own(rows)
            if len(own) == 0:
                return nothing(theta)
            Q, cache = bound.forward(model, theta, take_rows(phi, own), x[own, ...], take_draws(eta, where))
            dQ = xp.ones_like(Q) / len(rows)
            _, dtheta = bound.backward(model, theta, cache, dQ, need_dphi=False)
            dtheta["likelihood"] = likelihood.by_gradient(dtheta["likelihood"])
            return xp.sum(Q) / len(rows), dtheta

        while len(run.path) < rounds and not exhausted(run, held_out):
            done, starts = len(run.path) + 1, [phi]
            if done % SEARCH_EVERY == 0:  # a row may be sitting in the wrong mode of its posterior
                z = backend.normal(noise_rng, (256, self.n_components))
                starts.append(e_step.search(model, run.params, x, z))
            e = e_step.from_starts(model, run.params, starts, x, *coarse, max_steps=self.e_steps)  # E-step
            phi, Q = e.phi, _mean(e.Q, x)
            if not math.isfinite(Q):
                wrong = np.flatnonzero(~np.isfinite(to_numpy(e.Q))).tolist()
                raise TrainingError(
                    f"Q became {Q} in the E-step of round {done} of {rounds}, here in rows {shorten(wrong)}: "
                    f"{not_finite(run.params) or 'no parameter of θ'} is not finite; a smaller "
                    "learning_rate may help, and `gradcheck.part` tries a part of your own"
                )
            try:
                step = minibatches(                                                          # M-step
                    objective,
                    replace(run, path=[]),
                    places.n_cases,
                    optimizer=optimizer,
                    epochs=self.m_steps,
                    batch_size=self.batch_size,
                    lower=lower,
                    comm=comm,
                )
            except TrainingError as error:
                raise TrainingError(f"in the M-step of round {done} of {rounds} {error}") from error
            theta = step.params
            if likelihood.has_m_step:
                squares, share = expectations.expected_squares(model, theta, phi, x, *coarse)
                theta["likelihood"] = likelihood.closed_form(
                    theta["likelihood"], squares, lower["likelihood"], share
                )
            run.params, run.optimizer, run.table["phi"] = theta, step.optimizer, phi
            run.path.append(Q)
            if ended(run, held_out, after):
                break

        e = self._infer(model, run.kept, x, backend, [run.kept_table["phi"]])
        last = replace(run, params=run.kept, table={"phi": e.phi}, path=[*run.path, _mean(e.Q, x)])
        return last if run.best is None else replace(
            last, best=run.best._replace(table={"phi": e.phi})
        )

    def _held_out_q(self, model, x):
        """run → the mean Q of held-out data cases x on `e_step.steady_nodes`, after at most 20 steps of their
        E-steps, θ being fixed, which start from run.table["held_out"], where those of the last round ended.
        """
        nodes = e_step.steady_nodes(model, x.backend.zeros((1,)))

        def value(run):
            phi = run.table.get("held_out")
            starts = [e_step.prior_phi(model, x.backend.zeros((x.shape[0], 1))) if phi is None else phi]
            if phi is None or len(run.path) % SEARCH_EVERY == 0:
                z = x.backend.normal(np.random.default_rng(0), (256, model.n_latent))
                starts.append(e_step.search(model, run.params, x, z))
            e = e_step.from_starts(model, run.params, starts, x, *nodes, max_steps=20, tol=e_step.COARSE_TOL)
            run.table["held_out"] = e.phi
            return _mean(e.Q, x)

        return value

    def _round_nodes(self, model, backend):
        """Nodes and weights for the E-steps of the rounds, the same for all data cases and calls."""
        K = model.n_latent
        if self.n_samples is None:
            return e_step.nodes_for(model.posterior, 3, 4 * K, backend.zeros((1,)))
        eta, weights = matched_draws(np.random.default_rng(0), self.n_samples, K)
        return backend.asarray(eta), backend.asarray(weights)

    def _infer(self, model, theta, x, backend, starts=()):
        """E-steps to the end, on n_samples nodes where that is given."""
        nodes = None if self.n_samples is None else (self._round_nodes(model, backend),) * 2
        return self._e_steps(model, theta, x, backend, starts, nodes)

    def _move(self, backend):
        super()._move(backend)
        self.phi_ = self.phi_.astype(backend.dtype)

    def _phi(self, theta, cases):
        if linear_gaussian.gaussian_q_applies(self.model_):
            return self._closed_form(self.model_, theta, cases)
        return to_numpy(self._infer(self.model_, theta, cases, self.backend_).phi)

    @in_threads
    def infer(self, X):
        """φ (N, n_phi) of new data: E-steps with θ fixed, until ‖∂Q_n/∂φ_n‖∞ < 1e-6 for every case
        (1e-3 in float32), Q_n being taken on fixed nodes: 32 Gauss–Hermite nodes for K = 1, 14 × 14 for
        K = 2, else 64 + 4K whitened draws; where n_samples is given, that many draws.

        Warns, naming rows, where some did not get there. The closed form where there is one. A posterior may
        have several modes: for K ≤ 2 the search starts from all that a lattice shows which may be the
        better; beyond, from the best of three sets of points only, so a case may be left in a lesser mode,
        and `gaps` says for which ones, and by how much at the most (`maybe_lesser`).
        """
        return self._phi(*self._centred(X))

    def trace(self, X):
        """One step of an M-step on the data cases X (n, D), value by value: a `Trace`.

        φ are those that `infer` finds for X, where ∂Q/∂φ is about 0, and stay. The step begins where training
        ended, with Adam's state and a draw of η for each case, and the model stays as it is. What the
        likelihood finds in closed form, as Ψ of a Gaussian, is not Adam's and stays too. As training does, it
        computes in standard units, in which Q is another by a constant. With closed forms there is no
        such step: the trace is on the sigma points, exact, and ends with the gradients.

        Raises ValueError after a fit that was broken off.
        """
        from ..course.trace import Trace  # not at import teachvae

        cases, model, backend = self._cases(X, density=True), self.model_, self.backend_
        if not hasattr(self, "training_"):
            raise ValueError("this fit was broken off and left no training to be traced: fit again")
        run, standard = self.training_["run"], self._standard(model, cases, ends_linear(model.decoder))
        phi, x = backend.asarray(self.infer(X)), standard.cases(cases, backend)[:, ...]
        where = standard.model, run.params, phi, x
        if linear_gaussian.gaussian_q_applies(model):
            eta, weights = (backend.asarray(a) for a in sigma_points(model.n_latent))
            return Trace(*where, eta, weights=weights)
        return Trace(
            *where,
            self._next_draws(cases.shape[0], 1),
            optimizer=Adam(self.learning_rate),
            state=run.optimizer,
            lower={"theta": standard.lower(run.params, self.min_noise)},
            m_step=True,
        )


def _mean(Q, x):
    """The mean of Q (n,) of the data cases x, over those of all ranks."""
    (total,) = ranks.total(ranks.of(x), (namespace(Q).sum(Q),))
    return float(total) / ranks.places(x).n_cases


SOUND_DRAWS = 16      # for each number of φ, at the least, where the KL is sampled          (6.11)
SEARCH_EVERY = 10
