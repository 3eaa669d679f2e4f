"""Faults of the mixture of Gaussians."""

from .planting import faults_in

mixture = faults_in("inference/mixture.py", "test_mixture.py")
route = faults_in("routes/mixture.py", "test_mixture.py")

MUTANTS = [
    mixture(
        "the joint forgets the weights π",
        ("log_joint", "log_pmf(theta.weights) + namespace(x).stack(columns, axis=1)",
         "namespace(x).stack(columns, axis=1)"),
    ),
    mixture(
        "a component of weight 0 has density",
        ("log_pmf", "xp.where(on, xp.log(xp.where(on, weights, xp.ones_like(weights))), -xp.inf)",
         "xp.log(xp.where(on, weights, xp.ones_like(weights)))"),
    ),
    mixture(
        "a diagonal Σ's log determinant counts whole",
        ("log_normal", "0.5 * xp.sum(xp.log(covariance))", "xp.sum(xp.log(covariance))"),
    ),
    mixture(
        "a full Σ's log determinant counts half",
        ("log_normal", "xp.sum(xp.log(diagonal(L)))", "0.5 * xp.sum(xp.log(diagonal(L)))"),
    ),
    mixture(
        "residuals are divided by variances",
        ("log_normal", "r / xp.sqrt(covariance)", "r / covariance"),
    ),
    mixture("Q of PMFs leaves their entropy out", ("divergence", "q * (log_q - log_p)", "-q * log_p")),
    mixture("the free PMF is not normalised", ("free", "p / xp.sum(p, axis=1)[:, None]", "p")),
    mixture(
        "the free PMF is tempered",
        ("free", "log_p - xp.max(log_p, axis=1)[:, None]", "0.5 * (log_p - xp.max(log_p, axis=1)[:, None])"),
    ),
    mixture(
        "the hard PMF sits where the joint is least",
        ("hard", "xp.argmax(log_p, axis=1)", "xp.argmin(log_p, axis=1)"),
    ),
    mixture(
        "the tied PMF is of sums where it is of means",
        ("tied", "xp.mean(log_p, axis=0)", "xp.sum(log_p, axis=0)"),
    ),
    mixture(
        "the tied PMF averages probabilities",
        ("tied", "free(xp.mean(log_p, axis=0)[None, :])", "xp.mean(free(log_p), axis=0)[None, :]"),
    ),
    mixture("covariances are about 0", ("m_step.spread", "x - mean", "x")),
    mixture(
        "covariances are about the means of before",
        ("m_step", "spread(shares[k][rows], x, means[k])", "spread(shares[k][rows], x, theta.means[k, :])"),
    ),
    mixture("the M-step divides by all cases", ("m_step", "q[:, k] / n_cases[k]", "q[:, k] / x.shape[0]")),
    mixture("the weights π stay what they were", ("m_step", "n_cases / x.shape[0]", "theta.weights")),
    mixture(
        "the floor lifts each entry, not each direction",
        ("raise_to_floor", "(V * xp.maximum(values, 1)) @ V.T * units",
         "xp.maximum(covariance, xp.zeros_like(units) + lowest * (1 - 0 * units))"),
    ),
    mixture(
        "a full Σ goes through its floor (M16)",
        ("raise_to_floor", "xp.where(xp.min(values) >= 1, covariance, raised)", "covariance"),
    ),
    mixture(
        "the floor of a full Σ turns it the other way",
        ("raise_to_floor", "(V * xp.maximum(values, 1)) @ V.T", "(V.T * xp.maximum(values, 1)) @ V"),
    ),
    mixture(
        "weights of cases do not enter the M-step",
        ("em", "m_step(theta, weights[:, None] * q, x, lowest)", "m_step(theta, q, x, lowest)"),
        first=("test_estimators.py::test_a_weighted_mixture",),
    ),
    mixture(
        "weights of cases do not enter the tied PMF",
        ("em", "weights[:, None] * log_p if pmf == 'tied' else log_p", "log_p"),
        first=("test_estimators.py::test_a_weighted_mixture",),
    ),
    mixture(
        "weights of cases do not enter Q",
        ("em", "weights * divergence(q, log_p)", "divergence(q, log_p)"),
        first=("test_estimators.py::test_a_weighted_mixture",),
    ),
    route(
        "the mixture's nlml is log p",
        ("routes/discrete.py", "DiscreteModel.nlml", "-log_sum_exp(self._log_joint(X))",
         "log_sum_exp(self._log_joint(X))"),
    ),
    route(
        "the mixture's KL is to the joint",
        ("routes/discrete.py", "DiscreteModel.kl_to_posterior", "log_p - log_sum_exp(log_p)[:, None]",
         "log_p"),
    ),
    route(
        "samples of a component have variances for standard deviations",
        ("GaussianMixture.sample", "np.diag(np.sqrt(C))", "np.diag(C)"),
    ),
    route(
        "samples of a component are turned by Lᵀ",
        ("GaussianMixture.sample", "means[k] + x[own] @ spread.T", "means[k] + x[own] @ spread"),
    ),
]
