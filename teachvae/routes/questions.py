"""The questions that a fitted model answers, whichever route filled φ in.

`LatentVariableModel` has everything that can be asked of a fitted p(x, z): bound, nlml, transform, decode,
reconstruct, sample, score. A route (factor analysis, variational EM, VAE) adds only how it is fitted and who
fills φ in.
"""

from copy import deepcopy
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..arrays import ranks, tree, workers
from ..arrays.backend import double, namespace, to_numpy
from ..arrays.observed import seen
from ..arrays.rows import as_floats, blocks, collect, extremes, float_type, slices, take_draws
from ..doors import parts
from ..doors.columns import Cases, Columns, Table, columns_for
from ..doors.units import Spread, Standardised, centred, moved
from ..doors.validate import (
    check_data, check_like_training, check_patience, check_positive, check_size, generator
)
from ..evaluation import ais, calibration, divergence, gaps, grid, iwae, laplace, nlml
from ..inference import draws, e_step, expectations, linear_gaussian
from ..likelihoods import Gaussian, relaxed_bernoulli
from ..messages import about_rows, column_names, fixed, shorten, warn
from ..model import Model
from ..networks.convergence import ConvergenceWarning
from ..posteriors.nodes import monte_carlo, own_generators, sigma_points
from .checkpoint import on_backend
from .conventions import LatentCode, in_threads


class NotALikelihoodWarning(UserWarning):
    """A number was asked for that is called a likelihood, of a formula that is none."""


class QuadratureWarning(UserWarning):
    """The finest Gauss–Hermite rule still moved Q of some data cases."""


class Bound(NamedTuple):
    """Q (N,), and by how much quadrature still moved it, (N,), or None."""

    values: object
    certificate: object


SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)                 # of draws, from few to many
MANY = 20_000                                                      # draws of what has no closed form


class LatentVariableModel(LatentCode):
    """The questions that every fitted p(x, z) answers, whichever route filled φ in.

    A subclass has the hyper-parameters missing, constant and comm, sets model_, theta_, backend_ and columns_
    in fit, and theta_rest_, what was `units.rounded_off` theta_, and gives `_phi(theta, cases)`: the
    parameters of q(z|φ_n) of data cases, (N, n_phi), on the host. Everything comes back as NumPy arrays.

    Every question goes through the data block by block, in centred units: of x − origin, under the θ for it
    (`units.centred`).

    missing="marginalise" lets NaN stand for an entry that was not observed, in fit and afterwards: it
    is integrated out, not filled in. constant="drop" sets constant training columns aside, with a
    warning, where a learnt diagonal Ψ could not have them; decode and sample put the constants back.
    """

    n_jobs = None                                                  # an option of those with E-steps or draws

    def _open(self, X, likelihood, noise="diagonal", grey=False, **given):
        """Training data through the door: the `Table` of x in the model's columns, X's names or None, and the
        likelihood that was asked for. grey: values between 0 and 1 are probabilities, of which 0 and 1 are
        still to be drawn. given: what else all ranks must agree on, by name.
        """
        if self.missing not in ("error", "marginalise"):
            raise ValueError(f"missing must be 'error' or 'marginalise', got {self.missing!r}")
        comm = self._ranks()
        fewest, holes = 2 if comm.size == 1 else 1, self.missing == "marginalise"
        x, names = check_data(X, fewest, missing=holes, dtype=self._held)
        self._agree(comm, x, names, **given)
        labels = column_names(None if names is None else list(X.columns), x.shape[1])
        everything = Table(x, Columns(labels), comm, self._held)
        empty = [label for label, low in zip(labels, extremes(everything)[0]) if np.isnan(low)]
        if empty:
            raise ValueError(f"nothing was observed of columns {shorten(empty)}: drop them")
        columns, likelihood = columns_for(likelihood, x, labels, noise, self.constant, comm)
        columns.masked = self.missing == "marginalise"
        table = replace(everything, columns=columns)
        (relaxed_bernoulli(likelihood.n_visible) if grey else likelihood).check(table, columns.names)
        if columns.dropped:
            warn(f"constant columns are set aside: {shorten([labels[d] for d in columns.dropped])}")
        return table, names, likelihood

    def _open_part(self, X, likelihood, noise="diagonal", grey=False):
        """`_open` of data that come in parts: of the first, and of a later one, which has its columns."""
        if not hasattr(self, "training_"):
            if hasattr(self, "n_features_in_"):
                raise ValueError(
                    "partial_fit cannot go on from this fit, which left no training, as one by 'lbfgs' or "
                    "one that was broken off: start anew"
                )
            return self._open(X, likelihood, noise, grey=grey)
        comm, columns, likelihood = self._ranks(), self.columns_, self.model_.likelihood
        x, names = self._table(X, missing=columns.masked), getattr(self, "feature_names_in_", None)
        self._agree(comm, x, names, begun=True)
        columns.warn_of_moved(x)
        table = Table(x, columns, comm)
        (relaxed_bernoulli(likelihood.n_visible) if grey else likelihood).check_values(table, columns.names)
        return table, names, likelihood

    def _standard(self, model, cases, foldable):
        """The `Standardised` model of the first part of the data, whichever part the cases are."""
        if not hasattr(self, "training_"):
            return Standardised(model, cases, foldable)
        spread = Spread(*(cases.backend.asarray(to_numpy(part)) for part in self.training_["spread"]))
        return Standardised(model, spread, foldable)

    def _keep_training(self, run, standard):
        """What the next `partial_fit` goes on from: a `Run` in the units of the `Standardised` model."""
        run = replace(run, params=run.kept, table={}, held_out_path=[], best=None)
        self.training_ = {"run": run, "spread": standard.units.spread}

    def _next_draws(self, n_cases, n_samples):
        """The η (n_samples, n_cases, K) that training would draw next for a minibatch of so many data cases,
        in the cases' own order; what it draws from stays as it is.
        """
        generators = deepcopy(self.training_["run"].generators)
        shuffled = generators["shuffle"].permutation(n_cases)
        eta = self.backend_.normal(generators["noise"], (n_samples, n_cases, self.model_.n_latent))
        return take_draws(eta, np.argsort(shuffled))

    def _held_out(self, validation, patience, table, names):
        """The `Table` of the held-out data that a fit is given, or None; on every rank its own rows.

        table, names  of the training data
        """
        check_patience(validation, patience)
        given = table.comm.gather(validation is not None)
        if any(given) and not all(given):
            raise ValueError("some ranks have validation data and some have none: give all of them some")
        if validation is None:
            return None
        x, theirs = check_data(
            validation, name="validation", missing=self.missing == "marginalise", dtype=self._held
        )
        check_like_training(x.shape[1], theirs, len(table.columns.given), names)
        table.columns.warn_of_moved(x)
        return Table(x, table.columns, table.comm)

    def _ranks(self):
        """The comm of the ranks that call fit together."""
        comm = ranks.SERIAL if self.comm is None else self.comm
        if not all(hasattr(comm, name) for name in ("rank", "size", "sum", "gather", "same")):
            raise TypeError(f"comm must be None or ranks.comm('mpi'), got {self.comm!r}")
        if comm.size > 1 and not isinstance(self.random_state, (int, np.integer)):
            raise ValueError(
                f"random_state must be an integer on {comm.size} ranks, so that all draw the same numbers, "
                f"got {self.random_state!r}"
            )
        return comm

    def _agree(self, comm, x, names, **given):
        """Raise RanksError unless all ranks ask for the same fit, of the same columns.

        x, names  the data cases of this rank, checked, and the names of their columns, or None
        given     what else must be the same, by name
        """
        columns = {"how many columns X has": x.shape[1], "their names": names, "X in": float_type(x.dtype)}
        asked = {name: value for name, value in self.get_params().items() if name not in ("comm", "n_jobs")}
        comm.same({"class": type(self).__name__, **asked, **columns, **given}, "before training")

    def _move(self, backend):
        self.theta_, self.theta_rest_ = moved(self.theta_, self.theta_rest_, backend)
        if hasattr(self, "training_"):
            run = on_backend(self.training_["run"], backend, backend.dtype)
            self.training_ = {**self.training_, "run": run}

    def _end(self, comm, *learnt):
        """Raise RanksError unless all ranks have learnt the same trees of parameters."""
        if comm.size > 1:
            comm.same({"the parameters": tree.flatten(learnt)}, "after training")

    def model_input(self, X):
        """X (N, D) as the model takes it: its columns (N, V), without those set aside and with categories as
        one-hot columns, on the backend; an `Observed` where the model takes incomplete cases.
        """
        return self._cases(X)[:, ...]

    @property
    def _n_latent(self):
        """The K that was fitted, whatever n_components has been set to since."""
        return self.model_.n_latent

    def _cases(self, X, density=False, noisy=False, missing=False, origin=0.0):
        """New data X (N, D), checked, as `Cases` of the fitted model.

        density: their values must suit the likelihood, not only their shape; noisy: a constant column
        need not be constant; missing: NaN is let in, as it always is where the model has
        missing="marginalise".
        """
        self._require_fit()
        columns = replace(self.columns_, masked=missing or self.columns_.masked)
        x = self._table(X, missing=columns.masked)
        if not noisy:
            columns.warn_of_moved(x)
        table = Table(x, columns)
        if density:
            self.model_.likelihood.check_values(table, columns.names)
        return Cases(table, self.backend_, origin)

    def _centred(self, X, **how):
        """θ and the `Cases` of new data X, both for x − origin."""
        self._require_fit()
        theta, origin = centred(self.model_, self.theta_, self.theta_rest_)
        return theta, self._cases(X, origin=origin, **how)

    def _observed(self, X):
        """θ and the `Cases` of new data whose density is asked for."""
        theta, cases = self._centred(X, density=True)
        if not self.model_.likelihood.normalised:
            warn(
                "not a likelihood: the relaxed Bernoulli formula on grey values does not integrate to one, "
                "so this number is comparable with nothing but others of its kind",
                NotALikelihoodWarning,
            )
        return theta, cases

    def _ask(self, question, cases, phi):
        """question(x, φ) of every block of the cases and of their phi (N, n_phi), on the backend."""
        return collect(
            cases.shape[0], lambda rows: question(cases[rows, ...], self.backend_.asarray(phi[rows]))
        )

    @in_threads
    def bound(self, X, *, phi=None, n_samples=None, random_state=0):
        """Q_n ≥ −log p(x_n), the bound at the model's own φ, per data case: (N,), in nats.

        phi           (N, n_phi) to be used instead of the model's own
        n_samples     None: the closed form for a linear-Gaussian model, Gauss–Hermite nodes for K ≤ 2
                      (as many as each case needs), else 1024 draws;
                      a number: that many random draws, the same for all data cases
        random_state  seed of the draws

        A `QuadratureWarning` names the cases that the finest nodes do not settle to 1e-4 nats: under a ReLU
        decoder, or a wide q. Draws give an estimate, and as all cases share them its errors do not
        average out over the cases: n_samples takes more.
        """
        if n_samples is not None:
            check_size("n_samples", n_samples)
        theta, cases = self._observed(X)
        draws = _repeated(random_state)
        Q = self._ask(
            lambda x, phi: self._bound(theta, x, phi, n_samples, draws()),
            cases,
            self._given_phi(phi, theta, cases),
        )
        _warn_of_unsettled(Q)
        return Q.values

    def _refined(self, theta, cases, n_steps):
        """φ (N, n_phi) after n_steps E-steps from the model's own, on nodes that suit the model."""
        model, K = self.model_, self.model_.n_latent
        if linear_gaussian.gaussian_q_applies(model):
            nodes = [self.backend_.asarray(a) for a in sigma_points(K)]
        else:
            _, nodes = e_step.coarse_and_fine(model.posterior, 64 + 4 * K, self.backend_.zeros((1,)))
        phi = self.backend_.asarray(self._phi(theta, cases))
        return to_numpy(e_step.e_step(model, theta, phi, cases, *nodes, max_steps=n_steps).phi)

    def _given_phi(self, phi, theta, cases):
        """phi (N, n_phi) of data cases, on the host: the model's own where None, else checked."""
        if phi is None:
            return self._phi(theta, cases)
        phi, expected = to_numpy(phi), (cases.shape[0], self.model_.posterior.n_phi)
        if phi.shape != expected:
            raise ValueError(f"phi must have shape {expected}, got {phi.shape}")
        return phi

    def _bound(self, theta, x, phi, n_samples, rng):
        model = self.model_
        if n_samples is None and linear_gaussian.gaussian_q_applies(model):
            parameters = linear_gaussian.parameters(model, tree.map(double, theta))
            Q = linear_gaussian.bound(*parameters, double(phi), model.posterior, *seen(double(x)))
            return Bound(namespace(x).astype(Q, x.dtype), None)
        if n_samples is None and model.n_latent <= 2:
            doubles = tree.map(double, theta), double(phi), double(x)
            Q, certificate = expectations.quadrature(model, *doubles)
            return Bound(namespace(x).astype(Q, x.dtype), certificate)
        n_samples = 1024 if n_samples is None else n_samples
        eta = self.backend_.asarray(monte_carlo(rng, n_samples, 1, model.n_latent))
        return Bound(expectations.bound_on_nodes(model, theta, phi, x, eta), None)

    @in_threads
    def nlml(self, X, method=None, n_samples=None, random_state=0, *, phi=None, n_chains=16):
        """−log p(x_n) per data case, an `nlml.NLML` with values (N,) in nats.

        method  "exact"       linear decoder and Gaussian likelihood: the closed form
                "grid"        K ≤ 3: quadrature, with a certificate per case
                "importance"  n_samples draws (1000) from q(z|φ_n), with a standard error
                "prior"       n_samples draws (10 000) of the prior: plain Monte Carlo
                "laplace"     a normal distribution around the posterior's mode; NaN where it has no curvature
                              there, or none was reached, as at a kink
                "ais"         n_chains annealed chains from the prior, with a standard error
                None          the exact one where there is one, else importance sampling from φ_n
                              refined by 20 E-steps
        phi     (N, n_phi) of the q that importance sampling draws from, instead of the model's own

        A sampled value that hangs on a few of its draws has the standard error inf, and a
        `nlml.FewDrawsWarning` names its row. Raises ValueError for a method that this model does not have.
        """
        if n_samples is not None:
            check_size("n_samples", n_samples, 2)
            if method == "ais":
                raise ValueError(f"method='ais' runs chains, got n_samples={n_samples}: give n_chains")
        check_size("n_chains", n_chains, 2)
        theta, cases = self._observed(X)
        model, draws = self.model_, _repeated(random_state)
        if method is None:
            method = "exact" if linear_gaussian.applies(model) else "importance"
            phi = self._refined(theta, cases, 20) if method == "importance" and phi is None else phi
        if method == "importance":
            phi = self._given_phi(phi, theta, cases)

        def values(rows):
            x, rng = cases[rows, ...], draws()
            if method == "exact":
                return nlml.exact(model, theta, x)
            if method == "grid":
                return grid.grid(model, theta, x, first=rows.start)
            if method == "importance":
                own = self.backend_.asarray(phi[rows])
                return nlml.importance(model, theta, own, x, rng, n_samples=n_samples or 1000)
            if method == "prior":
                return nlml.prior(model, theta, x, rng, n_samples=n_samples or 10_000)
            if method == "laplace":
                return laplace.laplace(model, theta, x, rng)
            if method == "ais":
                return ais.ais(model, theta, x, rng, n_chains=n_chains)
            raise ValueError(
                "method must be 'exact', 'grid', 'importance', 'prior', 'laplace', 'ais' or None, got "
                f"{method!r}"
            )

        result = collect(cases.shape[0], values)
        _warn_of_few(result.standard_error)
        return result

    @in_threads
    def gaps(self, X, *, phi=None, tol=1e-4, random_state=0):
        """What each approximation costs, per data case: a `gaps.Gaps` of arrays (N,), in nats.

        phi  (N, n_phi) to be used instead of the model's own: for training data under variational
             EM, its table phi_
        tol  the gradient norm to which the optimal φ_n is sought
        """
        check_positive("tol", tol)
        theta, cases = self._observed(X)
        phi, draws = self._given_phi(phi, theta, cases), _repeated(random_state)

        def ledger(rows):
            own = self.backend_.asarray(phi[rows])
            return gaps.gaps(self.model_, theta, own, cases[rows, ...], draws(), tol=tol, first=rows.start)

        result = collect(cases.shape[0], ledger)
        _warn_of_few(result.approximation_error)
        return result

    @in_threads
    def ladder(self, X, *, family=None, tol=1e-4, random_state=0):
        """What richer families of q save, per data case: a `gaps.Ladder` of arrays (N,), in nats, the least Q
        of diagonal Gaussians, of all Gaussians and of flows, and nlml. The family of the fit does not matter.

        family  a `posteriors.Flow` for this K; None: `posteriors.coupling_flow(K)`, for K = 1 a planar one
        tol     as in `gaps`

        For K > 2 the flow is sought on 64 draws for each of its n_phi numbers, which takes its time.
        """
        check_positive("tol", tol)
        theta, cases = self._observed(X)
        family = None if family is None else parts.flow(family, self.model_.n_latent)
        draws = _repeated(random_state)

        def rungs(rows):
            x = cases[rows, ...]
            return gaps.ladder(self.model_, theta, x, draws(), family=family, tol=tol, first=rows.start)

        result = collect(cases.shape[0], rungs)
        _warn_of_few(result.error)
        return result

    def sampled_bounds(self, X, *, sizes=SIZES, n_repeats=100, phi=None, random_state=0):
        """What S draws say of Q, and of the importance-weighted bound L_S, for every S in sizes: n_repeats
        estimates of each, means over data cases X (N, D), best a few: an `iwae.SampledBounds`, in nats per
        data case, which `plots.q_against_s` draws.

        phi as in `gaps`. For K > 2 Q itself is an estimate too, of many more draws.
        """
        for S in sizes:
            check_size("every S in sizes", S)
        check_size("n_repeats", n_repeats, 2)
        theta, cases = self._observed(X)
        model, rng = self.model_, generator(random_state)
        phi = self._given_phi(phi, theta, cases)
        on_backend, x = self.backend_.asarray(phi), cases[:, ...]
        found = [iwae.estimates(model, theta, on_backend, x, rng, S, n_repeats) for S in sizes]
        linear, K = linear_gaussian.gaussian_q_applies(model), model.n_latent
        worth = self.nlml(X, method="grid" if K <= 3 and not linear else None).values
        level = self.bound(X, phi=phi, n_samples=None if K <= 2 or linear else MANY)
        Q, L = np.stack(found, axis=1)
        return iwae.SampledBounds(tuple(sizes), Q, L, float(level.mean()), float(worth.mean()))

    def plot_posterior(self, x, *, phi=None):
        """The posterior p(z|x) of one data case x (D,) for K = 1 or 2, with q over it, the one in use and the
        best of its family: a Matplotlib figure. Its title has NLML, and what the gaps add to it, in nats.

        phi  (1, n_phi) to be used instead of the model's own

        K = 1: densities. K = 2: of the posterior the regions that hold 50, 90 and 99 %, of a q that of 90 %.
        Raises ValueError for K > 2, for more than one data case, and for one that the grid refuses.
        """
        from .. import plots  # Matplotlib is not imported with teachvae

        self._require_fit()
        K, X = self.model_.n_latent, np.asarray(x)[None, :] if np.ndim(x) == 1 else x
        if K > 2:
            raise ValueError(f"plot_posterior draws K = 1 or 2 latent variables, the model has {K}")
        if len(X) != 1:
            raise ValueError(f"plot_posterior draws one data case, got {len(X)}: give a row, such as X[0]")
        theta, cases = self._observed(X)
        phi = self._given_phi(phi, theta, cases)
        found, model = self.gaps(X, phi=phi), self.model_
        (worth,), asarray = found.nlml, self.backend_.asarray
        if not np.isfinite(worth):
            raise ValueError("the grid refused this data case: its NLML, and so its posterior, is not known")
        rungs = {"q in use": phi, "best q of the family": found.phi_optimal}
        rungs = {label: (model.posterior, double(asarray(own))) for label, own in rungs.items()}
        sides, log_p, log_q = plots.densities(model, tree.map(double, theta), double(cases[:, ...]), rungs)
        added = " + ".join(f"{name} {fixed(own[0], 3)}" for name, own in found.shares.items())
        title = f"NLML {worth:.3f} + {added}\n= Q {found.q_used[0]:.3f} nats"
        return plots.posterior(title, sides, log_p + worth, log_q)

    @in_threads
    def kl_to_posterior(self, X, *, phi=None):
        """KL(q_n ‖ p(z|x_n)) (N,), in nats, by a road of its own: what Q − nlml must be.

        phi as in `gaps`. For linear-Gaussian models, and for others with K ≤ 3: within 1e-6 nats and the
        rounding of Q, or NaN, with a `grid.GridWarning`.
        """
        theta, cases = self._observed(X)
        return self._ask(
            lambda x, phi: divergence.kl_to_posterior(self.model_, theta, phi, x),
            cases,
            self._given_phi(phi, theta, cases),
        )

    @in_threads
    def transform(self, X):
        """The means of q(z|φ_n), (N, K): the representation of X."""
        phi = self._phi(*self._centred(X))
        return to_numpy(self.model_.posterior.mean(self.backend_.asarray(phi)))

    @in_threads
    def draw(self, X, n_draws=1, method=None, *, phi=None, n_candidates=1000, random_state=None):
        """Draws of z given each data case, a `draws.Draws` with z (n_draws, N, K).

        method  "exact"       linear decoder and Gaussian likelihood: from the posterior itself
                "importance"  from n_candidates draws of q(z|φ_n), each with the probability that its weight
                              p(x_n, z)/q(z|φ_n) has among them: of the posterior, but for what q is blind to
                "q"           from q(z|φ_n), the model's own
                None          the exact one where there is one, else importance sampling
        phi     (N, n_phi) of the q to be drawn from, instead of the model's own; for "importance" that is
                refined by 20 E-steps

        The draws of different data cases are independent: each draws from a generator of its own, by its
        place in X. Importance sampling draws with replacement; effective_sample_size (N,) tells how many
        different ones there are, and a `nlml.FewDrawsWarning` names rows where these are fewer than 10. Of
        complete data or, with missing="marginalise", of what was observed. Raises ValueError for a method
        that this model does not have.
        """
        check_size("n_draws", n_draws)
        check_size("n_candidates", n_candidates, 2)
        theta, cases = self._centred(X, density=True)
        (rng,) = generator(random_state).spawn(1)
        return self._draws(theta, cases, n_draws, method, rng, phi=phi, n_candidates=n_candidates)

    def _draws(self, theta, cases, n_draws, method, rng, phi=None, n_candidates=1000):
        model, K, N = self.model_, self.model_.n_latent, cases.shape[0]
        if method is None:
            method = "exact" if linear_gaussian.applies(model) else "importance"
        if method not in ("exact", "importance", "q"):
            raise ValueError(f"method must be 'exact', 'importance', 'q' or None, got {method!r}")
        if method == "q" or phi is not None:
            phi = self._given_phi(phi, theta, cases)
        elif method == "importance":
            phi = self._proposal(theta, cases)
        S = n_candidates if method == "importance" else n_draws

        def drawn(rows):
            x, own, size = cases[rows, ...], own_generators(rng, rows), None
            eta = np.stack([case.standard_normal((S, K)) for case in own], axis=1)
            eta = self.backend_.asarray(eta)                       # (S, n, K)
            q = None if phi is None else self.backend_.asarray(phi[rows])
            if method == "exact":
                z = draws.exact(model, theta, x, eta)
            elif method == "importance":
                u = np.stack([case.random(n_draws) for case in own], axis=1)
                z, size = draws.importance(model, theta, q, x, eta, u)
            else:
                z, _ = model.posterior.sample(q, eta)
            return draws.Draws(to_numpy(z).swapaxes(0, 1), size, method)  # z (n, n_draws, K)

        found = collect(N, drawn, workers.each, blocks(N, S))
        _warn_of_few_candidates(found.effective_sample_size, n_candidates)
        return found._replace(z=found.z.swapaxes(0, 1))

    def _proposal(self, theta, cases):
        """φ (N, n_phi) of the q that candidates are drawn from: the model's own after 20 E-steps, or, of
        incomplete data cases that it does not take otherwise, one found by E-steps alone.
        """
        if cases.table.columns.masked and not self.columns_.masked:
            return self._best_phi(self.model_, theta, cases)
        return self._refined(theta, cases, 20)

    @in_threads
    def calibration(self, n_cases=1000, n_draws=99, method="q", random_state=0):
        """Whether q is the posterior, by n_cases data cases of the model's own: a `calibration.Calibration`.

        z̃ ~ N(0, I), x̃ ~ p(x|z̃), and the rank of each z̃_k among n_draws draws of z given x̃: if they are
        draws of the posterior, as those by method="exact" are, all ranks are equally frequent. method is that
        of `draw`. It says nothing of data unlike the model's, on which a network may do worse, or better.
        """
        check_size("n_cases", n_cases, 2)
        check_size("n_draws", n_draws)
        self._require_fit()
        self._require_sampling("calibration")
        data_rng, draw_rng = generator(random_state).spawn(2)
        z = self.prior_codes(n_cases, data_rng)

        def placed(rows):
            x = self._made_from(z[rows], data_rng)
            return calibration.ranks(z[rows], self.draw(x, n_draws, method, random_state=draw_rng).z)

        return calibration.calibration(collect(n_cases, placed), n_draws)

    @in_threads
    def decode(self, Z):
        """E[x|z] for latent points Z (N, K): (N, D); of a column of categories the most probable one."""
        z, model, theta = self._latent_input(Z), self.model_, self.theta_

        def mean(rows):
            f, _ = model.f(theta, self.backend_.asarray(z[rows]))
            return self.columns_.decode(to_numpy(model.likelihood.mean(theta["likelihood"], f)))

        return collect(len(z), mean, workers.each)

    @in_threads
    def impute(self, X, n_draws=None, *, n_candidates=1000, random_state=None):
        """X (N, D) with every NaN replaced by the mean of that entry given the observed ones; with n_draws
        that many tables (n_draws, N, D), in each of which it is a draw given the observed ones.

        Exact for a linear-Gaussian model. Otherwise q(z|φ_n) stands for the posterior: that of the model
        where it was fitted with missing="marginalise", else one found by E-steps on the observed entries.
        The mean is E_q E[x|z], by nodes; of a column of categories the most probable one is taken. A q is
        around one mode: of a posterior with several the others are left out, and for K > 2 the one may be
        a lesser one, as in `VariationalEM.infer`.

        A draw takes z from the posterior, exactly or by importance sampling, as `draw` does without a method,
        for a q is mostly too narrow, and with it the draws would be; and then the entry from p(x|z), its
        noise included: a category is a category, a count a count. What is computed from each of m tables, a
        number t with the squared standard error v, is pooled by Rubin's rules: the mean of the t, with the
        variance mean(v) + (1 + 1/m) var(t, ddof=1). The model's parameters are taken as known.
        """
        theta, cases = self._centred(X, density=True, missing=True)
        if n_draws is not None:
            check_size("n_draws", n_draws)
            check_size("n_candidates", n_candidates, 2)
            self._require_sampling("impute with n_draws")
            return self._imputations(theta, cases, n_draws, n_candidates, generator(random_state))
        model = self.model_
        phi = self._phi(theta, cases) if self.columns_.masked else self._best_phi(model, theta, cases)

        def filled(rows):
            x = as_floats(cases.table.x[rows])
            whole = self._expected(
                model, theta, phi[rows], lambda f, _: model.likelihood.mean(theta["likelihood"], f)
            )
            whole = self.columns_.decode(whole + cases.origin)
            return np.where(np.isnan(x), whole, x).astype(x.dtype)

        return collect(cases.shape[0], filled)

    def _imputations(self, theta, cases, n_draws, n_candidates, rng):
        """n_draws tables (n_draws, N, D) of draws of x_miss given x_obs, the observed entries as they are."""
        model, likelihood, N = self.model_, self.model_.likelihood, cases.shape[0]
        z_rng, x_rng = rng.spawn(2)
        z = self._draws(theta, cases, n_draws, None, z_rng, n_candidates=n_candidates).z  # (n_draws, N, K)

        def filled(rows):
            x = as_floats(cases.table.x[rows])[:, None, :]         # (n, 1, D)
            f, _ = model.f(theta, self.backend_.asarray(z[:, rows]))
            own = own_generators(x_rng, rows)
            noise = [likelihood.draw_noise(case, (n_draws, 1, f.shape[2])) for case in own]
            noise = tree.map(lambda *each: self.backend_.asarray(np.concatenate(each, axis=1)), *noise)
            v = to_numpy(likelihood.sample(theta["likelihood"], f, noise))  # (n_draws, n, V) (7.21)
            whole = self.columns_.decode(v.swapaxes(0, 1) + cases.origin)
            return np.where(np.isnan(x), whole, x).astype(x.dtype)

        return collect(N, filled, workers.each, blocks(N, n_draws)).swapaxes(0, 1)

    @in_threads
    def denoise(self, X, noise_variance):
        """E[x|x̃] for data X = x̃ (N, D) that are x with noise N(0, noise_variance·I) added: (N, D).

        z is inferred with the noise in Ψ, and what x̃ says of x beside z is weighed in (5.27), (5.28).
        Exact for a linear-Gaussian model; otherwise q, found by E-steps, stands for the posterior of z, as
        in `impute`.
        Raises ValueError where the likelihood is not Gaussian.
        """
        check_positive("noise_variance", noise_variance)
        theta, cases = self._centred(X, noisy=True)
        model, likelihood = self.model_, self.model_.likelihood
        if not hasattr(likelihood, "noisier"):
            raise ValueError(
                "denoise takes off Gaussian noise by adding its variance to Ψ of a Gaussian likelihood, for "
                "all columns; it asks for noisier and denoised, as likelihoods.Gaussian has them, and "
                f"{type(likelihood).__name__} has none: use likelihood='gaussian' or 'gaussian-predicted'"
            )
        variance = self.backend_.asarray(noise_variance)
        noisy, params = likelihood.noisier(theta["likelihood"], variance)
        noisy = Model(model.decoder, noisy, model.n_latent, model.posterior)
        noisy_theta = {"decoder": theta["decoder"], "likelihood": params}
        phi = self._best_phi(noisy, noisy_theta, cases)

        def clean(rows):
            x = cases[rows, ...]

            def mean(f, rows):
                block, mask = seen(x[rows, :])
                found = likelihood.denoised(theta["likelihood"], f, block, variance)
                if mask is None:
                    return found
                return mask * found + (1 - mask) * likelihood.mean(theta["likelihood"], f)

            found = self._expected(model, theta, phi[rows], mean)
            return self.columns_.decode((found + cases.origin).astype(found.dtype))

        return collect(cases.shape[0], clean)

    def _best_phi(self, model, theta, cases):
        """φ (N, n_phi) at the minimum of Q, on the host: in closed form, or else by E-steps."""
        if linear_gaussian.gaussian_q_applies(model):
            return self._closed_form(model, theta, cases)
        return to_numpy(self._e_steps(model, theta, cases, self.backend_).phi)

    def _closed_form(self, model, theta, cases):
        def phi(rows):
            return e_step.closed_form(model, theta, cases[rows, ...])

        return collect(cases.shape[0], phi, workers.each)

    def _e_steps(self, model, theta, x, backend, starts=(), nodes=None):
        """The `EStep` at the end of E-steps from `starts`, from the best of many points of the prior, and
        from other modes that `grid.places` leads to. For K > 2 a case may be left in a lesser one.

        nodes: coarse and fine ones, see `e_step.optimal`. Warns of cases that did not get there.
        """
        K, tol = model.n_latent, E_STEP_TOLERANCE[backend.dtype]
        z = np.random.default_rng(0).standard_normal((e_step.SEARCH_POINTS, K))
        starts = [*starts, e_step.search(model, theta, x, backend.asarray(z))]
        if nodes is None:
            nodes = e_step.coarse_and_fine(model.posterior, 64 + 4 * K, backend.zeros((1,)))
        e = e_step.optimal(model, theta, starts, x, *nodes, tol=tol)

        def from_other_modes(rows):
            block, own = x[rows, ...], e_step.EStep(*(field[rows, ...] for field in e))
            places = grid.places(model, theta, block, own.phi, z)
            return e_step.from_places(model, theta, own, block, places, *nodes, tol=tol)

        parts = [from_other_modes(rows) for rows in slices(x.shape[0])]
        e = e_step.EStep(*(namespace(field[0]).concat(list(field), axis=0) for field in zip(*parts)))
        late = np.flatnonzero(to_numpy(e.gradient_norm) >= tol)
        if len(late):
            warn(
                about_rows(
                    ConvergenceWarning,
                    f"the E-step of {len(late)} of {x.shape[0]} data cases did not reach a gradient below "
                    f"{tol:g} (rows {{rows}}; the largest is "
                    f"{float(to_numpy(e.gradient_norm).max()):.1e}): their Q is not quite at its minimum",
                    late.tolist(),
                ),
            )
        return e

    def _expected(self, model, theta, phi, function):
        """E_q[function(f(z), rows)] (n, V) of a block with phi (n, n_phi), on the host, by nodes; at the mean
        alone where it is linear in z.
        """
        phi = self.backend_.asarray(phi)
        if linear_gaussian.applies(model):
            f, _ = model.f(theta, model.posterior.mean(phi))
            return to_numpy(function(f[None, :, :], slice(None))[0, :, :])
        _, nodes = e_step.coarse_and_fine(model.posterior, 64 + 4 * model.n_latent, phi)
        return to_numpy(expectations.expected(model, theta, phi, *nodes, function))

    def prior_codes(self, n_samples=1, random_state=None):
        """Codes z ~ N(0, I), (n_samples, K), to be decoded."""
        self._require_fit()
        check_size("n_samples", n_samples)
        return generator(random_state).standard_normal((n_samples, self.model_.n_latent))

    def sample(self, n_samples=1, random_state=None):
        """New data: z ~ N(0, I), then x ~ p(x|z). Returns (n_samples, D)."""
        self._require_fit()
        check_size("n_samples", n_samples)
        self._require_sampling("sample")
        rng = generator(random_state)
        return self._made_from(self.prior_codes(n_samples, rng), rng)

    def _require_sampling(self, question):
        likelihood = self.model_.likelihood
        lacks = [name for name in ("draw_noise", "sample") if not hasattr(likelihood, name)]
        if lacks:
            raise TypeError(
                f"{question} needs a likelihood that can draw: {type(likelihood).__name__} has no "
                f"{' and no '.join(lacks)}, whose shapes are in likelihoods/likelihood.py: write them"
            )

    def _made_from(self, z, rng):
        """x ~ p(x|z) for latent points z (N, K), as a table (N, D)."""
        model, theta = self.model_, self.theta_

        def drawn(rows):
            f, _ = model.f(theta, self.backend_.asarray(z[rows]))
            noise = tree.map(self.backend_.asarray, model.likelihood.draw_noise(rng, f.shape))
            return self.columns_.decode(to_numpy(model.likelihood.sample(theta["likelihood"], f, noise)))

        return collect(len(z), drawn)

    def score_samples(self, X):
        """log p(x_n) per data case, (N,): scikit-learn's sign, −nlml.

        Exact where the model is linear-Gaussian; otherwise an importance-sampling estimate with a
        fixed seed, which in expectation lies below the truth; `nlml.FewDrawsWarning` as `nlml` has it.
        """
        return -self.nlml(X, random_state=0).values

    def score(self, X, y=None):
        """The mean of `score_samples`: mean log p(x), higher is better."""
        return float(np.mean(self.score_samples(X)))

    @property
    def noise_variance_(self):
        """The diagonal of Ψ, (D,), of a Gaussian likelihood."""
        self._require_fit()
        likelihood = self.model_.likelihood
        if not isinstance(likelihood, Gaussian):
            raise AttributeError(f"{type(likelihood).__name__} has no noise variance")
        _, like = tree.leaves(self.theta_["decoder"])[0]
        return to_numpy(likelihood.psi(self.theta_["likelihood"], like=like)).copy()

    @property
    def n_parameters_(self):
        """How many numbers were learned that are used for new data (φ tables are not)."""
        self._require_fit()
        return tree.size(self.theta_)


def _warn_of_few(error):
    """Warn of the cases whose standard error (N,) is inf; None where there is none."""
    rows = [] if error is None else np.flatnonzero(np.isinf(error)).tolist()
    if rows:
        warn(
            f"the sampled −log p(x) of {len(rows)} of {len(error)} data cases hangs on a few of its "
            f"draws (rows {shorten(rows)}): its error is unknown (inf), and the value probably too high; "
            "take more draws, or method='grid' for K <= 3",
            nlml.FewDrawsWarning,
        )


FEW_CANDIDATES = 10                                     # of which draws that are to show a spread come


def _warn_of_few_candidates(size, n_candidates):
    """Warn of the cases whose effective sample size (N,) is small; None where there is none."""
    rows = [] if size is None else np.flatnonzero(~(size >= FEW_CANDIDATES)).tolist()
    if rows:
        warn(
            about_rows(
                nlml.FewDrawsWarning,
                f"the draws of {len(rows)} of {len(size)} data cases come from a few of {n_candidates} "
                f"candidates, at worst worth {size[rows].min():.1f} draws (rows {{rows}}): they repeat "
                "one another, and their spread may be too small; take more n_candidates",
                rows,
            )
        )


SETTLED = 1e-4                                          # nats, of Q by quadrature: what a table shows


def _warn_of_unsettled(Q):
    """Warn of the cases of a `Bound` that quadrature has not settled, beyond the rounding of Q."""
    if Q.certificate is None:
        return
    rounding = np.finfo(Q.values.dtype).eps * np.abs(Q.values)
    rows = np.flatnonzero(~(Q.certificate <= SETTLED + rounding)).tolist()
    if rows:
        warn(
            about_rows(
                QuadratureWarning,
                f"Q of {len(rows)} of {len(Q.values)} data cases may be off by up to "
                f"{Q.certificate[rows].max():.1e} nats, by more than {SETTLED:g} (rows {{rows}}): the finest "
                "rules of quadrature still differ, as under kinks, of a ReLU decoder or of the likelihood, "
                "or where q is wide for the bends of f; n_samples= takes random draws instead",
                rows,
            )
        )


E_STEP_TOLERANCE = {"float64": 1e-6, "float32": 1e-3}  # float32's rounding of Q hides what is below


def _repeated(random_state):
    """A function that returns the generator of random_state, and each time in the state it was given in: all
    blocks of data cases see the same draws.
    """
    rng = generator(random_state)
    state = rng.bit_generator.state

    def again():
        rng.bit_generator.state = state
        return rng

    return again
