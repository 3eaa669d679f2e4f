"""Faults of the bound, of the importance-weighted one, and of the model's densities."""

from .planting import faults_in

bound = faults_in("bound.py", "test_components.py")
weighted = faults_in("importance_weighted.py", "test_importance_weighted.py", "test_gradients.py")
model = faults_in("model.py", "test_components.py", "test_nlml.py")

MUTANTS = [
    weighted(
        "L_k is of the sum of the weights (M2)",
        ("forward", "math.log(eta.shape[0]) - total", "-total"),
    ),
    weighted(
        "L_k is log p (M3)",
        ("forward", "math.log(eta.shape[0]) - total", "total - math.log(eta.shape[0])"),
    ),
    weighted(
        "the weights forget log q",
        ("forward", "log_q - model.log_prior(z) - log_p", "-model.log_prior(z) - log_p"),
    ),
    weighted(
        "every sample has the same share of the gradient",
        ("forward", "exp(log_w - total)", "exp(0 * log_w) / eta.shape[0]"),
    ),
    weighted(
        "L_k moves q through the sample alone",
        ("backward", "dphi + model.posterior.sample_backward(sample_cache, dz)",
         "model.posterior.sample_backward(sample_cache, dz)"),
    ),
    weighted(
        "the prior is left out of the gradient of L_k",
        ("backward", "dz + dz_q + model.log_prior_backward(z, dlog_p)", "dz + dz_q"),
    ),
    weighted(
        "the doubly reparameterised gradient has its shares once",
        ("backward", "w[:, :, None] * dz", "dz"),
    ),
    weighted(
        "the doubly reparameterised gradient keeps the direct term",
        ("backward", "model.posterior.sample_backward(sample_cache, w[:, :, None] * dz)",
         "dphi + model.posterior.sample_backward(sample_cache, w[:, :, None] * dz)"),
    ),
    bound(
        "the KL lowers the bound",
        ("forward", "kl_n - xp.sum(w * log_p, axis=0)", "-kl_n - xp.sum(w * log_p, axis=0)"),
    ),
    bound(
        "the reconstruction has the sign of log p (M3)",
        ("forward", "kl_n - xp.sum(w * log_p, axis=0)", "kl_n + xp.sum(w * log_p, axis=0)"),
    ),
    bound(
        "the KL is weighted against the likelihood, in value and gradient alike (M2)",
        ("forward", "kl_n - xp.sum(w * log_p, axis=0)", "0.1 * kl_n - xp.sum(w * log_p, axis=0)"),
        ("backward", "model.posterior.kl_backward(q_cache, dQ)",
         "model.posterior.kl_backward(q_cache, 0.1 * dQ)"),
    ),
    bound(
        "a sum over the samples stands for their mean (M2)",
        ("_weights", "zeros + 1 / log_p.shape[0]", "zeros + 1"),
    ),
    bound(
        "the weights of the nodes are not asked",
        ("_weights", "zeros + (weights[:, None] if weights.ndim == 1 else weights)",
         "zeros + 1 / log_p.shape[0]"),
    ),
    bound(
        "the sampled objective leaves log p(z) out, in value and gradient alike",
        ("forward", "log_q - model.log_prior(z) - log_p", "log_q - log_p"),
        ("backward", "dz + dz_q + model.log_prior_backward(z, dlog_p)", "dz + dz_q"),
    ),
    bound(
        "log q has the other sign in the sampled objective",
        ("forward", "log_q - model.log_prior(z) - log_p", "-log_q - model.log_prior(z) - log_p"),
    ),
    bound(
        "the gradient of log p climbs where Q is to fall",
        ("backward", "-w * dQ", "w * dQ"),
        first=("test_gradients.py",),
    ),
    bound(
        "the sample hands no gradient on to phi (M10)",
        ("backward", "dphi + model.posterior.sample_backward(sample_cache, dz)", "dphi"),
        first=("test_gradients.py",),
    ),
    bound(
        "log q moves phi directly and not through z",
        ("backward", "dz + dz_q + model.log_prior_backward(z, dlog_p)",
         "dz + model.log_prior_backward(z, dlog_p)"),
        first=("test_gradients.py",),
    ),
    bound(
        "log q's gradient counts every sample whole",
        ("backward", "model.posterior.log_prob_backward(q_cache, w * dQ)",
         "model.posterior.log_prob_backward(q_cache, w * 0 + dQ)"),
        first=("test_gradients.py",),
    ),
    bound(
        "a phi of another length is let in",
        ("check_shapes", "tuple(got) not in allowed", "name == 'eta' and tuple(got) not in allowed"),
        first=("test_facts.py::test_the_bound_says_which_shape_is_wrong",),
    ),
    model(
        "the prior's constant is that of one latent variable",
        ("Model.log_prior", "0.5 * self.n_latent * LOG_2PI", "0.5 * LOG_2PI"),
    ),
    model(
        "the prior forgets its ½",
        ("Model.log_prior", "-0.5 * namespace(z).sum(z * z, axis=-1)", "-namespace(z).sum(z * z, axis=-1)"),
    ),
    model(
        "the prior draws z away from 0",
        ("Model.log_prior_backward", "-dlog_prior[..., None] * z", "dlog_prior[..., None] * z"),
        first=("test_gradients.py",),
    ),
    model(
        "log p(x, z) leaves out log p(z)",
        ("Model.log_joint", "self.log_likelihood(theta, x, z)[0] + self.log_prior(z)",
         "self.log_likelihood(theta, x, z)[0]"),
        first=("test_nlml.py",),
    ),
    model(
        "log p(x, z) of all pairs leaves out log p(z)",
        ("Model.log_joint_of_pairs", "log_p + self.log_prior(z)[:, None]", "log_p"),
        first=("test_grid.py",),
    ),
    model(
        "the gradient of log p(x|z) in z is halved",
        ("Model.log_likelihood_gradient", "namespace(log_p).ones_like(log_p)",
         "0.5 * namespace(log_p).ones_like(log_p)"),
        first=("test_nlml.py::test_gradient_in_z_against_central_differences_at_every_index",),
    ),
    model(
        "what was not observed is taken for data",
        ("Model.log_likelihood", "self.likelihood.forward(theta['likelihood'], f, *seen(x))",
         "self.likelihood.forward(theta['likelihood'], f, seen(x)[0])"),
    ),
    model(
        "all pairs forget which entries were observed",
        ("Model.log_joint_of_pairs", "self.likelihood.cross(theta['likelihood'], f, *seen(x))",
         "self.likelihood.cross(theta['likelihood'], f, seen(x)[0])"),
        first=("test_missing.py::test_bound_lies_above_nlml_by_the_divergence",),
    ),
]
