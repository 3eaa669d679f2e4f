"""Faults of the estimators of a gradient, and of Jensen's inequality by numbers."""

from .planting import faults_in

estimators = faults_in("course/gradient_estimators.py", "test_gradient_estimators.py")
jensen = faults_in("course/jensen.py", "test_jensen.py")
trace = faults_in(
    "course/trace.py", "test_trace.py::test_the_trace_of_variational_em_is_a_step_of_its_m_step"
)

MUTANTS = [
    estimators(
        "the score function forgets the cost",
        ("score_function", "model.posterior.log_prob_backward(cache, c)",
         "model.posterior.log_prob_backward(cache, 0 * c + 1)"),
    ),
    estimators(
        "the baseline is the mean of all samples, its own among them",
        ("score_function", "(xp.sum(c, axis=0) - c) / (S - 1)", "xp.sum(c, axis=0) / S"),
    ),
    estimators(
        "the baseline is divided by S",
        ("score_function", "(xp.sum(c, axis=0) - c) / (S - 1)", "(xp.sum(c, axis=0) - c) / S"),
    ),
    estimators(
        "the baseline is added",
        ("score_function", "c - (xp.sum(c, axis=0) - c) / (S - 1)", "c + (xp.sum(c, axis=0) - c) / (S - 1)"),
    ),
    estimators(
        "the score term is left in",
        ("without_score_term", "full - naive(model, theta, phi, x, eta, kl='sampled')", "full"),
    ),
    estimators(
        "the score term is taken off twice",
        ("without_score_term", "full - naive(model, theta, phi, x, eta, kl='sampled')",
         "full - 2 * naive(model, theta, phi, x, eta, kl='sampled')"),
    ),
    estimators(
        "the naive estimator weighs its samples",
        ("naive", "model.posterior.log_prob_backward(cache, one[None, :])",
         "model.posterior.log_prob_backward(cache, model.log_prior(z))"),
    ),
    estimators(
        "the reparameterised estimator is of the other objective",
        ("reparameterised", "bound.forward(model, theta, phi, x, eta, kl=kl)",
         "bound.forward(model, theta, phi, x, eta, kl='sampled')"),
    ),
    estimators(
        "a minibatch is not scaled by N/M (M15)",
        ("minibatch", "N / len(chosen) if scale is None else scale", "1 if scale is None else scale"),
    ),
    estimators(
        "a minibatch is scaled by N (M15)",
        ("minibatch", "N / len(chosen) if scale is None else scale", "N if scale is None else scale"),
    ),
    estimators(
        "a minibatch moves the cases that it leaves out",
        ("minibatch", "scale * (n in set(chosen))", "scale * (n not in set(chosen))"),
    ),
    estimators(
        "the variance of an estimator has the divisor S",
        ("summary", "xp.sum(deviation * deviation, axis=0) / (S - 1)",
         "xp.sum(deviation * deviation, axis=0) / S"),
    ),
    estimators(
        "the standard error of an estimator is its standard deviation",
        ("summary", "xp.sqrt(variance / S)", "xp.sqrt(variance)"),
    ),
    estimators(
        "samples of one case are dealt to the others",
        ("_one_case_per_sample",
         "xp.reshape(xp.broadcast_to(eta, (S, N, eta.shape[2])), (1, S * N, eta.shape[2]))",
         "xp.reshape(xp.permute_dims(xp.broadcast_to(eta, (S, N, eta.shape[2])), (1, 0, 2)), (1, S * N, "
         "eta.shape[2]))"),
    ),
    jensen(
        "f of the mean stands on both sides",
        ("jensen_discrete", "math.fsum(pmf * values)", "_call(f, mean)"),
    ),
    jensen(
        "the mean forgets its probabilities",
        ("jensen_discrete", "math.fsum(pmf * g)", "math.fsum(g) / len(g)"),
    ),
    jensen("what has probability 0 is asked", ("jensen_discrete", "(g[pmf > 0], pmf[pmf > 0])", "(g, pmf)")),
    jensen(
        "the nlml of a discrete z leaves out what q leaves out",
        ("nlml_as_jensen_discrete", "math.log(math.fsum(np.exp(log_joint - top)))",
         "math.log(math.fsum(np.exp(log_joint[pmf > 0] - top)))"),
    ),
    jensen(
        "Q of a discrete z forgets q's entropy",
        ("nlml_as_jensen_discrete", "q * (np.log(q) - log_joint)", "-q * log_joint"),
    ),
    jensen(
        "the nlml of a discrete z leaves log space",
        ("nlml_as_jensen_discrete", "-(top + math.log(math.fsum(np.exp(log_joint - top))))",
         "-math.log(math.fsum(np.exp(log_joint)))"),
    ),
    jensen(
        "Q of a real z forgets q's entropy",
        ("nlml_as_jensen_continuous.q_f_of_g", "weight * (math.log(weight) - float(log_joint(z)))",
         "-weight * float(log_joint(z))"),
    ),
    jensen(
        "the nlml of a real z is above Q",
        ("nlml_as_jensen_continuous", "Jensen(Q - gap, Q, gap, Q_error + ratio_error / ratio)",
         "Jensen(Q + gap, Q, gap, Q_error + ratio_error / ratio)"),
    ),
    jensen("a concave f goes through", ("_compare", "lhs > rhs + error", "lhs > rhs + 1e30")),
    jensen("a density's integral near 1 is not divided out", ("jensen_continuous", "(mean / total)", "mean")),
    jensen(
        "an integral that diverges is believed",
        ("_integral", "diverges or not total_error <= 1e-08 * max(1.0, abs(total))",
         "not total_error <= 1e-08 * max(1.0, abs(total))"),
    ),
    jensen("a PMF may sum to anything", ("_check_pmf", "abs(total - 1) > PMF_SUM", "False")),
    trace(
        "an M-step's Adam moves what has a closed form",
        ("Trace._pass", "model.likelihood.by_gradient(dtheta['likelihood'])", "dtheta['likelihood']"),
    ),
]
