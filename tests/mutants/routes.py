"""Faults of the routes, and of the questions that a fitted model answers."""

from .planting import faults_in

ASKED = "test_estimators.py::test_no_parameter_falls_on_deaf_ears"
NEURAL = "test_estimators.py::test_every_kind_of_variational_em_goes_downhill_and_stays_above"
vae = faults_in(
    "routes/vae.py", "test_trace.py",
    "test_estimators.py::test_noise_and_grey_values_are_drawn_anew_in_every_step",
    "test_estimators.py::test_every_kind_of_vae_goes_downhill_and_stays_above", ASKED,
)
vem = faults_in(
    "routes/variational_em.py", "test_facts.py::test_fact_5_never_uphill",
    "test_estimators.py::test_the_neural_m_step_leaves_what_has_a_closed_form_to_it", NEURAL, ASKED,
)
fa = faults_in(
    "routes/factor_analysis.py", "test_estimators.py::test_factor_analysis_samples_have_the_models_moments",
    "test_estimators.py::test_linear_answers_are_those_of_a_dense_normal",
    "test_estimators.py::test_components_are_canonical", "test_partial_fit.py",
)
code = faults_in(
    "routes/autoencoder.py", "test_derivations.py::test_1_19_the_autoencoders_loss_and_gradient",
    "test_tasks.py",
)
pca = faults_in("routes/principal_components.py", "test_probe.py")
questions = faults_in(
    "routes/questions.py", "test_estimators.py::test_linear_answers_are_those_of_a_dense_normal",
    "test_estimators.py::test_samples_of_neural_models_have_the_mean_and_variance_of_the_decoder",
    "test_estimators.py::test_factor_analysis_samples_have_the_models_moments",
)
conventions = faults_in("routes/conventions.py", "test_gaps.py", "test_tasks.py")

MUTANTS = [
    vae(
        "the weight on the KL is added to the one that is there",
        ("amortised", "Q + (kl_weight - 1) * kl_n", "Q + kl_weight * kl_n"), first=("test_schedules.py",),
    ),
    vae(
        "the weight on the KL is in the value alone",
        ("amortised", "dphi + model.posterior.kl_backward(kl_cache, (kl_weight - 1) * dQ)", "dphi"),
        first=("test_schedules.py",),
    ),
    vae(
        "the KL's weight is that of the epoch before",
        ("VAE._objective.objective", "schedules.at(self.kl_weight, len(run.path) + 1)",
         "schedules.at(self.kl_weight, len(run.path))"), first=("test_schedules.py",),
    ),
    vae(
        "held-out data are judged by Q whatever was trained (M8)",
        ("VAE.fit", "self._held_out_q if self.objective == 'bound' else self._held_out_l",
         "self._held_out_q"),
        first=("test_importance_weighted.py",),
    ),
    vae(
        "a part begins its training anew",
        ("VAE.partial_fit", "self._begun(standard, recognition, backend) if begun is None else "
         "deepcopy(begun['run'])", "self._begun(standard, recognition, backend)"),
        first=("test_training_in_parts.py",),
    ),
    vae(
        "a part that is broken off has moved the model",
        ("VAE.partial_fit", "deepcopy(begun['run'])", "begun['run']"), first=("test_training_in_parts.py",),
    ),
    vae(
        "a part's Q has the volume of the first",
        ("VAE.partial_fit", "value + volume", "value"), first=("test_training_in_parts.py",),
    ),
    questions(
        "every part has standard units of its own",
        ("LatentVariableModel._standard", "Standardised(model, spread, foldable)",
         "Standardised(model, cases, foldable)"), first=("test_training_in_parts.py",),
    ),
    questions(
        "parts go on from the last epoch, whichever was kept",
        ("LatentVariableModel._keep_training", "run.kept", "run.params"),
        first=("test_training_in_parts.py",),
    ),
    vem(
        "φ of a part stays at the prior's",
        ("VariationalEM.partial_fit", "{'phi': e.phi}", "{'phi': starts[0]}"),
        first=("test_training_in_parts.py",),
    ),
    vae(
        "the VAE's gradient is of a sum, its Q of a mean (M2, M15)",
        ("amortised", "xp.ones_like(phi[:, 0]) / (x.shape[0] if n_cases is None else n_cases)",
         "xp.ones_like(phi[:, 0])"),
    ),
    vae(
        "a part of a minibatch is averaged over itself (M15)",
        ("amortised", "xp.ones_like(phi[:, 0]) / (x.shape[0] if n_cases is None else n_cases)",
         "xp.ones_like(phi[:, 0]) / x.shape[0]"),
        first=("test_gradient_estimators.py::test_parts_of_a_minibatch_add_up_to_its_mean",),
    ),
    vae(
        "the recognition network learns nothing",
        ("amortised", "{'theta': dtheta, 'recognition': dv}",
         "{'theta': dtheta, 'recognition': tree.map(lambda leaf: 0 * leaf, dv)}"),
    ),
    vae(
        "the VAE is trained on the analytic KL whatever was asked for (M8)",
        ("amortised", "bound.forward(model, theta, phi, x, eta, weights=weights, kl=kl)",
         "bound.forward(model, theta, phi, x, eta, weights=weights)"),
    ),
    vae(
        "the VAE forgets the nodes' weights",
        ("amortised", "bound.forward(model, theta, phi, x, eta, weights=weights, kl=kl)",
         "bound.forward(model, theta, phi, x, eta, kl=kl)"),
        first=("test_gradient_estimators.py::test_the_training_objective_has_its_scale_right",),
    ),
    vae(
        "every minibatch sees the same noise (M9)",
        ("VAE._objective.objective",
         "backend.normal(noise_rng, (self.n_samples, n_cases, model.n_latent))",
         "backend.normal(generator(0), (self.n_samples, n_cases, model.n_latent))"),
    ),
    vae(
        "the VAE draws one sample whatever was asked for",
        ("VAE._objective.objective", "(self.n_samples, n_cases, model.n_latent)",
         "(1, n_cases, model.n_latent)"),
        first=(ASKED,),
    ),
    vae(
        "the two heads of the recognition network are one",
        ("recognition_network", "not separate", "True"),
        first=("test_estimators.py::test_number_of_parameters_counted_by_hand",),
    ),
    vae(
        "the VAE lets Ψ through its floor (M16)",
        ("VAE._lower", "standard.lower(params['theta'], self.min_noise)", "no_lower_bound(params['theta'])"),
        first=(
            "test_estimators.py::test_a_duplicated_column_is_a_heywood_case_with_a_name",
            "test_estimators.py::test_the_floor_is_relative_and_adjustable",
        ),
    ),
    vae(
        "grey values are binarised once (M7)",
        ("VAE._objective.objective", "_drawn(x.table[own], noise_rng)", "_drawn(x.table[own], generator(0))"),
    ),
    vem(
        "φ of the M-step is fixed at the start",
        ("VariationalEM._fit_by_steps", "(e.phi, _mean(e.Q, x))", "(phi, _mean(e.Q, x))"),
    ),
    vem(
        "the neural M-step is of a sum",
        ("VariationalEM._fit_by_steps.objective", "xp.ones_like(Q) / len(rows)", "xp.ones_like(Q)"),
    ),
    vem(
        "the neural M-step leaves Ψ to the gradient too",
        ("VariationalEM._fit_by_steps.objective", "likelihood.by_gradient(dtheta['likelihood'])",
         "dtheta['likelihood']"),
    ),
    vem(
        "Ψ has no M-step in neural variational EM",
        ("VariationalEM._fit_by_steps", "likelihood.has_m_step", "False"),
    ),
    vem(
        "the M-step takes the φ of other cases",
        ("VariationalEM._fit_by_steps.objective", "take_rows(phi, own)", "take_rows(phi, sorted(own))"),
    ),
    vem(
        "linear variational EM is told the posterior's family",
        ("VariationalEM._fit_closed_form", "em.Complete(S, likelihood, lower, model.posterior)",
         "em.Complete(S, likelihood, lower)"),
        first=("test_facts.py::test_fact_3_all_routes_reach_one_optimum",),
    ),
    vem(
        "linear variational EM's covariance has the divisor N − 1",
        ("VariationalEM._fit_closed_form", "products / ranks.places(x).n_cases",
         "products / (ranks.places(x).n_cases - 1)"),
        first=("test_facts.py::test_fact_3_all_routes_reach_one_optimum",),
    ),
    fa(
        "factor analysis forgets the mean of the data",
        ("FactorAnalysis._finish", "mean + to_numpy(found.p.b)", "to_numpy(found.p.b)"),
    ),
    fa(
        "factor analysis is not turned into its canonical rotation (M13)",
        ("FactorAnalysis._finish", "linear_gaussian.canonical(found.p.W, found.p.psi)", "found.p.W"),
    ),
    fa(
        "a part is fitted by itself",
        ("FactorAnalysis.partial_fit", "new if seen is None else seen + new", "new"),
        first=("test_partial_fit.py",),
    ),
    fa(
        "the model's covariance forgets Ψ",
        ("FactorAnalysis.get_covariance", "W.T @ W + np.diag(self.noise_variance_)", "W.T @ W"),
    ),
    fa(
        "the model's covariance has standard deviations for Ψ",
        ("FactorAnalysis.get_covariance", "np.diag(self.noise_variance_)",
         "np.diag(np.sqrt(self.noise_variance_))"),
    ),
    code(
        "the autoencoder's loss forgets its ½",
        ("squared_error", "0.5 * xp.sum(residual * residual) / N", "xp.sum(residual * residual) / N"),
    ),
    code(
        "the autoencoder's gradient is of a sum (M2)",
        ("squared_error", "decoder.backward(params['decoder'], decoder_cache, residual / N)",
         "decoder.backward(params['decoder'], decoder_cache, residual)"),
    ),
    code(
        "a denoising autoencoder is to give the noise back",
        ("squared_error", "f - x", "f - (x if noise is None else x + noise)"),
        first=("test_tasks.py::test_gradient_of_the_squared_error_with_noise",),
    ),
    code(
        "the denoising noise is in standard units",
        ("Autoencoder.fit.noise_of", "(self.noise_variance / scale2) ** 0.5", "self.noise_variance ** 0.5"),
        first=("test_tasks.py::test_its_noise_is_fresh_and_of_the_variance_asked_for",),
    ),
    code(
        "the loss is told in standard units",
        ("Autoencoder.fit.finish", "np.array(run.path) * scale2", "np.array(run.path)"),
        first=("test_estimators.py::test_units_of_the_autoencoder",),
    ),
    pca(
        "principal components are about 0",
        ("PrincipalComponents.fit", "as_floats(x[rows]) - mean", "as_floats(x[rows])"),
    ),
    pca(
        "a component's variance is its singular value",
        ("PrincipalComponents.fit", "spread[:K] ** 2 / N", "spread[:K] / N"),
    ),
    pca(
        "a component's variance has the divisor N − 1",
        ("PrincipalComponents.fit", "spread[:K] ** 2 / N", "spread[:K] ** 2 / (N - 1)"),
    ),
    pca(
        "the components' signs are left to chance",
        ("PrincipalComponents.fit", "components * np.sign(largest)", "components"),
    ),
    questions(
        "the score is the nlml",
        ("LatentVariableModel.score_samples", "-self.nlml(X, random_state=0).values",
         "self.nlml(X, random_state=0).values"),
    ),
    questions(
        "new data are decoded data cases (M12)",
        ("LatentVariableModel.prior_codes",
         "generator(random_state).standard_normal((n_samples, self.model_.n_latent))",
         "0 * generator(random_state).standard_normal((n_samples, self.model_.n_latent))"),
    ),
    questions(
        "new data are means without noise",
        ("LatentVariableModel._made_from.drawn", "model.likelihood.sample(theta['likelihood'], f, noise)",
         "model.likelihood.mean(theta['likelihood'], f)"),
    ),
    questions(
        "what was observed is imputed too",
        ("LatentVariableModel.impute.filled", "np.where(np.isnan(x), whole, x)", "whole"),
        first=("test_missing.py::test_what_was_observed_comes_back_bit_for_bit",),
    ),
    questions(
        "imputed values stay where the origin was moved",
        ("LatentVariableModel.impute.filled", "whole + cases.origin", "whole"),
        first=("test_missing.py",),
    ),
    questions(
        "z is inferred without the noise that is known",
        ("LatentVariableModel.denoise", "self._best_phi(noisy, noisy_theta, cases)",
         "self._best_phi(model, theta, cases)"),
        first=("test_tasks.py",),
    ),
    questions(
        "a missing entry of noisy data is weighed as if it were seen",
        ("LatentVariableModel.denoise.clean.mean",
         "mask * found + (1 - mask) * likelihood.mean(theta['likelihood'], f)",
         "found"),
        first=("test_tasks.py::test_denoise_with_gaps",),
    ),
    questions(
        "blocks of data cases see draws of their own",
        ("_repeated.again", "rng.bit_generator.state = state", "pass"),
        first=("test_blocks.py",),
    ),
    questions(
        "Q that has not settled is not said",
        ("_warn_of_unsettled", "~(Q.certificate <= SETTLED + rounding)", "Q.certificate < 0"),
        first=("test_estimators.py::test_the_bound_says_where_quadrature_does_not_settle",),
    ),
    questions(
        "a sampled nlml that hangs on few draws is not said",
        ("_warn_of_few", "np.flatnonzero(np.isinf(error)).tolist()", "[]"),
        first=("test_nlml.py::test_an_estimator_names_the_rows_of_which_nothing_can_be_stated",),
    ),
    questions(
        "E-steps that did not arrive are not said",
        ("LatentVariableModel._e_steps", "to_numpy(e.gradient_norm) >= tol", "to_numpy(e.gradient_norm) < 0"),
        first=("test_estimators.py::test_infer_names_the_rows_that_did_not_get_there",),
    ),
    questions(
        "a given φ is not the one whose bound is told",
        ("LatentVariableModel._given_phi", "phi is None", "True"),
        first=("test_estimators.py::test_bound_at_another_phi",),
    ),
    conventions(
        "a unit is active by its standard deviation (M11)",
        ("Transformer.active_units", "self.transform(X).var(axis=0, dtype='float64')",
         "self.transform(X).std(axis=0, dtype='float64')"),
        first=("test_gaps.py::test_a_unit_is_active_by_the_variance_of_its_codes",),
    ),
    conventions(
        "a straight line between codes runs the other way",
        ("LatentCode.interpolate", "(1 - t) * a + t * b", "t * a + (1 - t) * b"),
        first=("test_tasks.py::test_interpolation_goes_from_one_reconstruction_to_the_other",),
    ),
    questions(
        "a trace's draws are those of other data cases",
        ("LatentVariableModel._next_draws", "np.argsort(shuffled)", "shuffled"),
        first=("test_trace.py::test_the_trace_of_a_vae_is_its_next_update",),
    ),
    questions(
        "a posterior is drawn without its NLML",
        ("LatentVariableModel.plot_posterior", "log_p + worth", "log_p"),
        first=("test_pictures.py::test_one_latent_variable_by_the_closed_form",),
    ),
]
