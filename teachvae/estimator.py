"""What all estimators share: parameters by name, checked data, and the questions a model answers.

`Estimator` follows scikit-learn's conventions by duck typing. `LatentVariableModel` adds everything
that can be asked of a fitted p(x, z): bound, nlml, transform, decode, reconstruct, sample, score. A
route (factor analysis, variational EM, VAE) adds only how it is fitted and who fills φ in.
"""

import inspect
import warnings

import numpy as np

from . import ais, gaps, grid, infer, linear_gaussian, nlml, noise, tree
from .backend import double, get_backend, namespace, to_numpy
from .columns import columns_for
from .fit import ConvergenceWarning
from .likelihoods import Gaussian, Observed, bare, join, split
from .model import Model
from .names import column_names, shorten
from .validate import check_data, check_positive, check_size


class NotFittedError(ValueError, AttributeError):
    """A fitted estimator was needed; call fit first."""


class NotALikelihoodWarning(UserWarning):
    """A number was asked for that is called a likelihood, of a formula that is none."""


class Estimator:
    """Hyper-parameters as keyword arguments, stored as given; get_params, set_params, repr."""

    @classmethod
    def _parameter_names(cls):
        return list(inspect.signature(cls.__init__).parameters)[1:]

    def get_params(self, deep=True):
        """The hyper-parameters, {name: value}."""
        return {name: getattr(self, name) for name in self._parameter_names()}

    def set_params(self, **params):
        """Change hyper-parameters by name; returns self. Raises ValueError for an unknown name."""
        known = self._parameter_names()
        for name in params:
            if name not in known:
                raise ValueError(
                    f"{type(self).__name__} has no parameter {name!r}; it has {', '.join(known)}"
                )
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def __repr__(self):
        signature = inspect.signature(type(self).__init__).parameters
        changed = [
            f"{name}={value!r}"
            for name, value in self.get_params().items()
            if not (signature[name].default is value or repr(signature[name].default) == repr(value))
        ]
        return f"{type(self).__name__}({', '.join(changed)})"

    def fit_transform(self, X, y=None):
        """fit(X), then transform(X): (N, K)."""
        return self.fit(X).transform(X)

    def active_units(self, X, threshold=0.01):
        """Which latent variables the data move: Var_n of `transform`'s columns above threshold, (K,) bool.

        The statistic of Burda et al. (2016). A collapsed unit's mean stays at 0, whatever x is
        (10.10). It looks at one axis at a time: a rotation of z, to which p(x) may be blind, changes it
        (10.8).
        """
        return self.transform(X).var(axis=0) > threshold

    def __sklearn_tags__(self):
        """What scikit-learn's tools ask of an estimator; it is imported only if they do."""
        from sklearn.utils import InputTags, Tags, TargetTags, TransformerTags

        return Tags(
            estimator_type=None,
            target_tags=TargetTags(required=False),
            transformer_tags=TransformerTags(),
            input_tags=InputTags(),
        )

    def _require_fit(self):
        if not hasattr(self, "n_features_in_"):
            raise NotFittedError(
                f"this {type(self).__name__} is not fitted yet: call fit(X) before asking it anything"
            )

    def _backend_for(self, dtype):
        """The backend asked for, in the dtype asked for (dtype=None: that of the data)."""
        return get_backend(self.backend, self.dtype if self.dtype is not None else dtype)

    def _table(self, X, missing=False):
        """New data X (N, D) on the host, checked against what was fitted; with `missing`, NaN is let in."""
        self._require_fit()
        x, names = check_data(X, missing=missing)
        expected = self.n_features_in_
        if x.shape[1] != expected:
            raise ValueError(
                f"X has {x.shape[1]} features, but {type(self).__name__} is expecting {expected} "
                "features as input: give the columns that it was fitted on"
            )
        fitted = getattr(self, "feature_names_in_", None)
        if fitted is not None and names is not None and list(names) != list(fitted):
            raise ValueError(
                "the feature names should match those that were passed during fit: expected "
                f"{shorten(list(fitted))}, got {shorten(list(names))}"
            )
        return x

    def _input(self, X):
        """New data X (N, D), checked, as an array of the fitted backend."""
        x = self._table(X)
        return self.backend_.asarray(x)

    def _latent_input(self, Z):
        """Latent points Z (N, K), checked, as an array of the fitted backend."""
        self._require_fit()
        z, _ = check_data(Z, name="Z")
        if z.shape[1] != self._n_latent:
            raise ValueError(
                f"Z has {z.shape[1]} columns, but this {type(self).__name__} was fitted with K = "
                f"{self._n_latent}: give one column per latent variable"
            )
        return self.backend_.asarray(z)

    def _keep(self, backend, names, n_visible):
        """The last lines of every fit: from here on the estimator counts as fitted."""
        self.backend_ = backend
        if names is not None:
            self.feature_names_in_ = np.asarray(names, dtype=object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        self.n_features_in_ = n_visible


class LatentCode(Estimator):
    """What every model with a code z for x can be asked: a subclass has transform(X) and decode(Z)."""

    def get_feature_names_out(self, input_features=None):
        """Names (K,) of `transform`'s columns, the class's name and a number, as scikit-learn gives them."""
        self._require_fit()
        return np.array([f"{type(self).__name__.lower()}{k}" for k in range(self._n_latent)], dtype=object)

    def reconstruct(self, X):
        """decode(transform(X)), (N, D)."""
        return self.decode(self.transform(X))

    def interpolate(self, a, b, n_steps=8):
        """decode on the straight line between the codes of data cases a and b, each (D,): (n_steps, D)."""
        check_size("n_steps", n_steps, 2)
        a, b = np.asarray(a), np.asarray(b)
        if a.ndim != 1 or a.shape != b.shape:
            raise ValueError(
                f"interpolate takes two data cases, each (D,), got shapes {a.shape} and {b.shape}: give rows "
                "such as X[0] and X[1]"
            )
        a, b = self.transform(np.stack([a, b]))
        t = np.linspace(0, 1, n_steps, dtype=a.dtype)[:, None]
        return self.decode((1 - t) * a + t * b)


class LatentVariableModel(LatentCode):
    """The questions that every fitted p(x, z) answers, whichever route filled φ in.

    A subclass has the hyper-parameters missing and constant, sets model_, theta_, backend_ and columns_
    in fit, and gives `_phi(x)`: the parameters of q(z|φ_n) for data on the backend, (N, n_phi).
    Everything comes back as NumPy arrays.

    missing="marginalise" lets NaN stand for an entry that was not observed, in fit and afterwards: it
    is integrated out, not filled in. constant="drop" sets constant training columns aside, with a
    warning, where a learnt diagonal Ψ could not have them; decode and sample put the constants back.
    """

    def _open(self, X, likelihood, noise="diagonal"):
        """Training data through the door: x (N, V) on the host in the model's columns, NaN where nothing
        was observed, X's names or None, `Columns`, and the likelihood that was asked for.
        """
        if self.missing not in ("error", "marginalise"):
            raise ValueError(f"missing must be 'error' or 'marginalise', got {self.missing!r}")
        x, names = check_data(X, minimum_rows=2, missing=self.missing == "marginalise")
        labels = column_names(names, x.shape[1])
        empty = [label for label, unseen in zip(labels, np.isnan(x).all(axis=0)) if unseen]
        if empty:
            raise ValueError(f"nothing was observed of columns {shorten(empty)}: drop them")
        columns, likelihood = columns_for(likelihood, x, labels, noise, self.constant)
        x = columns.encode(x)
        likelihood.check(x, columns.names)
        if columns.dropped:
            warnings.warn(
                f"constant columns are set aside: {shorten([labels[d] for d in columns.dropped])}",
                stacklevel=3,
            )
        return x, names, columns, Observed(likelihood) if self.missing == "marginalise" else likelihood

    @property
    def _n_latent(self):
        """The K that was fitted, whatever n_components has been set to since."""
        return self.model_.n_latent

    def _input(self, X, density=False, noisy=False):
        """New data X (N, D), checked, as the fitted model takes them, on its backend.

        density: their values must suit the likelihood, not only their shape; noisy: a constant column
        need not be constant.
        """
        self._require_fit()
        incomplete = isinstance(self.model_.likelihood, Observed)
        x = self._table(X, missing=incomplete)
        if not noisy:
            self.columns_.warn_of_moved(x)
        v = self.columns_.encode(x)
        if density:
            self.model_.likelihood.check_values(v, self.columns_.names)
        if incomplete:
            v = join(*self.columns_.complete(v))
        return self.backend_.asarray(v)

    def _observed(self, X):
        """New data whose density is asked for."""
        x = self._input(X, density=True)
        if not self.model_.likelihood.normalised:
            warnings.warn(
                "not a likelihood: the relaxed Bernoulli formula on grey values does not integrate to one, "
                "so this number is comparable with nothing but others of its kind",
                NotALikelihoodWarning,
                stacklevel=3,
            )
        return x

    def bound(self, X, *, phi=None, n_samples=None, random_state=0):
        """Q_n ≥ −log p(x_n), the bound at the model's own φ, per data case: (N,), in nats.

        phi           (N, n_phi) to be used instead of the model's own
        n_samples     None: the closed form for a linear-Gaussian model, Gauss–Hermite nodes for K ≤ 2
                      (as many as each case needs), else 1024 draws;
                      a number: that many random draws, the same for all data cases
        random_state  seed of the draws
        """
        if n_samples is not None:
            check_size("n_samples", n_samples)
        x = self._observed(X)
        return to_numpy(self._bound(x, self._given_phi(phi, x), n_samples, random_state))

    def _refined(self, x, n_steps):
        """φ (N, n_phi) after n_steps E-steps from the model's own, on nodes that suit the model."""
        model, K = self.model_, self.model_.n_latent
        if linear_gaussian.applies(model):
            nodes = [self.backend_.asarray(a) for a in noise.sigma_points(K)]
        else:
            _, nodes = infer.nodes(K, 64 + 4 * K, x)
        return infer.e_step(model, self.theta_, self._phi(x), x, *nodes, max_steps=n_steps).phi

    def _given_phi(self, phi, x):
        """phi (N, n_phi) for data x (N, D) on the backend: the model's own where None, else checked."""
        if phi is None:
            return self._phi(x)
        phi = self.backend_.asarray(phi)
        if phi.shape != (x.shape[0], self.model_.posterior.n_phi):
            raise ValueError(
                f"phi must have shape {(x.shape[0], self.model_.posterior.n_phi)}, got {phi.shape}"
            )
        return phi

    def _bound(self, x, phi, n_samples, random_state):
        model, theta = self.model_, self.theta_
        if n_samples is None and linear_gaussian.applies(model):
            parameters = linear_gaussian.parameters(model, theta)
            return linear_gaussian.bound(*parameters, phi, model.posterior, *split(model.likelihood, x))
        if n_samples is None and model.n_latent <= 2:
            Q, _ = gaps.quadrature(model, tree.map(double, theta), double(phi), double(x))
            return namespace(x).astype(Q, x.dtype)
        n_samples = 1024 if n_samples is None else n_samples
        rng = np.random.default_rng(random_state)
        eta = self.backend_.asarray(noise.monte_carlo(rng, n_samples, 1, model.n_latent))
        return infer.q(model, theta, phi, x, eta)

    def nlml(self, X, method=None, n_samples=None, random_state=0, *, phi=None):
        """−log p(x_n) per data case, an `nlml.NLML` with values (N,) in nats.

        method  "exact"       linear decoder and Gaussian likelihood: the closed form
                "grid"        K ≤ 3: quadrature, with a certificate per case
                "importance"  n_samples draws (1000) from q(z|φ_n), with a standard error
                "prior"       n_samples draws (10 000) of the prior: plain Monte Carlo
                "laplace"     a normal distribution around the posterior's mode
                "ais"         n_samples annealed chains (16) from the prior, with a standard error
                None          the exact one where there is one, else importance sampling from φ_n
                              refined by 20 E-steps
        phi     (N, n_phi) of the q that importance sampling draws from, instead of the model's own

        A sampled value that hangs on a few of its draws has the standard error inf, and a
        `nlml.FewDrawsWarning` names its row. Raises ValueError for a method that this model does not have.
        """
        if n_samples is not None:
            check_size("n_samples", n_samples, 2)
        x = self._observed(X)
        model, theta, rng = self.model_, self.theta_, np.random.default_rng(random_state)
        if method is None:
            method = "exact" if linear_gaussian.applies(model) else "importance"
            phi = self._refined(x, 20) if method == "importance" and phi is None else phi
        if method == "exact":
            result = nlml.exact(model, theta, x)
        elif method == "grid":
            result = grid.grid(model, theta, x)
        elif method == "importance":
            phi = self._given_phi(phi, x)
            result = nlml.importance(model, theta, phi, x, rng, n_samples=n_samples or 1000)
        elif method == "prior":
            result = nlml.prior(model, theta, x, rng, n_samples=n_samples or 10_000)
        elif method == "laplace":
            result = nlml.laplace(model, theta, x, rng)
        elif method == "ais":
            result = ais.ais(model, theta, x, rng, n_chains=n_samples or 16)
        else:
            raise ValueError(
                "method must be 'exact', 'grid', 'importance', 'prior', 'laplace', 'ais' or None, got "
                f"{method!r}"
            )
        result = _on_host(result)
        _warn_of_few(result.standard_error)
        return result

    def gaps(self, X, *, phi=None, tol=1e-4, random_state=0):
        """What each approximation costs, per data case: a `gaps.Gaps` of arrays (N,), in nats.

        phi  (N, n_phi) to be used instead of the model's own: for training data under variational
             EM, its table phi_
        tol  the gradient norm to which the optimal φ_n is sought
        """
        check_positive("tol", tol)
        x = self._observed(X)
        phi = self._given_phi(phi, x)
        rng = np.random.default_rng(random_state)
        result = _on_host(gaps.gaps(self.model_, self.theta_, phi, x, rng, tol=tol))
        _warn_of_few(result.approximation_error)
        return result

    def kl_to_posterior(self, X, *, phi=None):
        """KL(q_n ‖ p(z|x_n)) (N,), in nats, by a road of its own: what Q − nlml must be.

        phi as in `gaps`. For linear-Gaussian models, and for others with K ≤ 3: within 1e-6 nats and the
        rounding of Q, or NaN, with a `grid.GridWarning`.
        """
        x = self._observed(X)
        phi = self._given_phi(phi, x)
        return to_numpy(gaps.kl_to_posterior(self.model_, self.theta_, phi, x))

    def transform(self, X):
        """The means of q(z|φ_n), (N, K): the representation of X."""
        x = self._input(X)
        return to_numpy(self.model_.posterior.mean(self._phi(x)))

    def decode(self, Z):
        """E[x|z] for latent points Z (N, K): (N, D); of a column of categories the most probable one."""
        z = self._latent_input(Z)
        f, _ = self.model_.decoder.forward(self.theta_["decoder"], z)
        return self.columns_.decode(to_numpy(self.model_.likelihood.mean(self.theta_["likelihood"], f)))

    def impute(self, X):
        """X (N, D) with every NaN replaced by the mean of that entry given the observed ones.

        Exact for a linear-Gaussian model. Otherwise q(z|φ_n) stands for the posterior: that of the model
        where it was fitted with missing="marginalise", else one found by E-steps on the observed entries.
        The mean is E_q E[x|z], by nodes; of a column of categories the most probable one is taken. A q is
        around one mode: of a posterior with several the others are left out, and for K > 2 the one may be
        a lesser one, as in `VariationalEM.infer`.
        """
        x = self._table(X, missing=True)
        self.columns_.warn_of_moved(x)
        v = self.columns_.encode(x)
        bare(self.model_.likelihood).check_values(v, self.columns_.names)
        data = self.backend_.asarray(join(*self.columns_.complete(v)))
        model, theta = self.model_, self.theta_
        if isinstance(model.likelihood, Observed):
            phi = self._phi(data)
        else:
            model = Model(model.decoder, Observed(model.likelihood), model.n_latent, model.posterior)
            phi = self._best_phi(model, theta, data)

        def mean(f, rows):
            return model.likelihood.mean(theta["likelihood"], f)

        whole = self.columns_.decode(to_numpy(self._expected(model, theta, phi, data, mean)))
        return np.where(np.isnan(x), whole, x).astype(x.dtype)

    def denoise(self, X, noise_variance):
        """E[x|x̃] for data X = x̃ (N, D) that are x with noise N(0, noise_variance·I) added: (N, D).

        z is inferred with the noise in Ψ, and what x̃ says of x beside z is weighed in (5.27), (5.28).
        Exact for a linear-Gaussian model; otherwise q, found by E-steps, stands for the posterior of z, as
        in `impute`.
        Raises ValueError where the likelihood is not Gaussian.
        """
        check_positive("noise_variance", noise_variance)
        x = self._input(X, noisy=True)
        model, theta, likelihood = self.model_, self.theta_, bare(self.model_.likelihood)
        if not hasattr(likelihood, "noisier"):
            raise ValueError(
                "denoise takes off Gaussian noise by adding its variance to Ψ of a Gaussian likelihood, for "
                f"all columns; this model's likelihood is {type(likelihood).__name__}: use "
                "likelihood='gaussian' or 'gaussian-predicted'"
            )
        variance = self.backend_.asarray(noise_variance)
        noisy, params = likelihood.noisier(theta["likelihood"], variance)
        noisy = Observed(noisy) if isinstance(model.likelihood, Observed) else noisy
        noisy = Model(model.decoder, noisy, model.n_latent, model.posterior)
        noisy_theta = {"decoder": theta["decoder"], "likelihood": params}
        phi = self._best_phi(noisy, noisy_theta, x)

        def clean(f, rows):
            seen, mask = split(model.likelihood, x[rows, :])
            found = likelihood.denoised(theta["likelihood"], f, seen, variance)
            if mask is None:
                return found
            return mask * found + (1 - mask) * likelihood.mean(theta["likelihood"], f)

        return self.columns_.decode(to_numpy(self._expected(model, theta, phi, x, clean)))

    def _best_phi(self, model, theta, x):
        """φ (N, n_phi) at the minimum of Q: in closed form where there is one, else by E-steps."""
        if linear_gaussian.applies(model):
            return infer.closed_form(model, theta, x)
        return self._e_steps(model, theta, x, self.backend_).phi

    def _e_steps(self, model, theta, x, backend, starts=(), nodes=None):
        """The `EStep` at the end of E-steps from `starts`, from the best of many points of the prior, and
        from other modes that `grid.places` leads to. For K > 2 a case may be left in a lesser one.

        nodes: coarse and fine ones, see `infer.optimal`. Warns of cases that did not get there.
        """
        K, tol = model.n_latent, E_STEP_TOLERANCE[backend.dtype]
        z = np.random.default_rng(0).standard_normal((infer.SEARCH_POINTS, K))
        starts = [*starts, infer.search(model, theta, x, backend.asarray(z))]
        nodes = infer.nodes(K, 64 + 4 * K, x) if nodes is None else nodes
        e = infer.optimal(model, theta, starts, x, *nodes, tol=tol)
        places = grid.places(model, theta, x, e.phi, z)
        e = infer.from_places(model, theta, e, x, places, *nodes, tol=tol)
        late = np.flatnonzero(to_numpy(e.gradient_norm) >= tol)
        if len(late):
            warnings.warn(
                f"the E-step of {len(late)} of {x.shape[0]} data cases did not reach a gradient below "
                f"{tol:g} (rows {shorten(late.tolist())}; the largest is "
                f"{float(to_numpy(e.gradient_norm).max()):.1e}): their Q is not quite at its minimum",
                ConvergenceWarning,
                stacklevel=5,
            )
        return e

    def _expected(self, model, theta, phi, x, function):
        """E_q[function(f(z), rows)] (N, V), by nodes; at the mean alone where it is linear in z."""
        if linear_gaussian.applies(model):
            f, _ = model.decoder.forward(theta["decoder"], model.posterior.mean(phi))
            return function(f[None, :, :], slice(None))[0, :, :]
        _, nodes = infer.nodes(model.n_latent, 64 + 4 * model.n_latent, x)
        return infer.expected(model, theta, phi, *nodes, function)

    def sample(self, n_samples=1, random_state=None):
        """New data: z ~ N(0, I), then x ~ p(x|z). Returns (n_samples, D)."""
        self._require_fit()
        check_size("n_samples", n_samples)
        rng = np.random.default_rng(random_state)
        z = self.backend_.normal(rng, (n_samples, self.model_.n_latent))
        f, _ = self.model_.decoder.forward(self.theta_["decoder"], z)
        noise_ = tree.map(self.backend_.asarray, self.model_.likelihood.draw_noise(rng, f.shape))
        return self.columns_.decode(
            to_numpy(self.model_.likelihood.sample(self.theta_["likelihood"], f, noise_))
        )

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
        likelihood = bare(self.model_.likelihood)
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
        warnings.warn(
            f"the sampled −log p(x) of {len(rows)} of {len(error)} data cases hangs on a few of its "
            f"draws (rows {shorten(rows)}): its error is unknown (inf), and the value probably too high; "
            "take more draws, or method='grid' for K <= 3",
            nlml.FewDrawsWarning,
            stacklevel=3,
        )


E_STEP_TOLERANCE = {"float64": 1e-6, "float32": 1e-3}  # float32's rounding of Q hides what is below


def _on_host(result):
    """A named tuple with its arrays on the host."""
    return type(result)(*(f if f is None or isinstance(f, str) else to_numpy(f) for f in result))
