"""Likelihoods p(x|z) = p(x|f): what the decoder's output f means for the data.

    log_p, cache = likelihood.forward(params, f, x, mask=None)     f (S, N, n_f), x (N, D) → (S, N)
    df, dparams  = likelihood.backward(params, cache, dlog_p)

log_p is in nats with every constant kept. mask (N, D) holds 1 where x was observed and 0 where it
was not; unobserved entries (any finite number stands there) leave the sum. A likelihood owns its
parameters: its density, its mean, its sample, its start from data and its closed-form M-step.
`likelihood.py` says what a new one has to write and what it inherits. Each family has a file of its own;
a new one needs a line in the table below.
"""

from .bernoulli import Bernoulli, relaxed_bernoulli
from .categorical import Categorical, Categories
from .gaussian import Gaussian
from .likelihood import Likelihood
from .mixed import Mixed
from .poisson import Poisson
from .predicted_gaussian import PredictedGaussian
from .student_t import StudentT

LIKELIHOODS = {
    "gaussian": Gaussian,
    "bernoulli": Bernoulli,
    "poisson": Poisson,
    "gaussian-predicted": PredictedGaussian,
    "student-t": StudentT,
    "categorical": Categorical,
    "bernoulli-relaxed": relaxed_bernoulli,
}

__all__ = [
    "LIKELIHOODS", "Bernoulli", "Categorical", "Categories", "Gaussian", "Likelihood", "Mixed", "Poisson",
    "PredictedGaussian", "StudentT", "relaxed_bernoulli",
]
