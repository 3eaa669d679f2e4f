"""Faults of the closed forms, of EM, with and without missing entries, of E-steps, and of expectations."""

from .planting import faults_in

DERIVED = "test_derivations.py"
linear = faults_in("inference/linear_gaussian.py", "test_facts.py::test_fact_1_linear")
missing = faults_in("inference/missing.py", "test_missing.py")
moments = faults_in("inference/moments.py", "test_moments.py")
em = faults_in("inference/em.py", "test_facts.py::test_fact_5_never_uphill", "test_published.py")
gaps = faults_in("inference/em.py", "test_missing.py")
e_step = faults_in(
    "inference/e_step.py", "test_facts.py::test_of_several_starts_every_case_keeps_its_best", "test_gaps.py"
)
bfgs = faults_in(
    "inference/bfgs.py", "test_derivations.py::test_6_3_no_entry_moves_by_more_than_2_in_a_step",
    "test_derivations.py::test_6_3_a_step_that_raises_q_is_not_taken_and_the_next_is_half_as_long",
    "test_facts.py::test_an_e_step_never_raises_Q_of_any_case",
    "test_estimators.py::test_infer_reaches_the_minimum",
    "test_estimators.py::test_e_steps_do_not_see_the_unit_of_the_data",
)
expectations = faults_in("inference/expectations.py", "test_nlml.py", "test_gaps.py")


def at(*tests):
    """These tests of the derivations."""
    return tuple(f"{DERIVED}::{test}" for test in tests)


POSTERIOR = at("test_2_2_2_3_the_posterior_is_the_conditional_of_the_joint_gaussian")
DENSITY = at("test_2_4_2_5_2_6_determinant_quadratic_form_and_density_against_dense_algebra")
MOMENTS = at("test_2_7_2_8_moments_of_the_data_against_every_data_case")
TABLE = at("test_2_25_the_moments_of_the_best_table_without_the_table")
M_STEP = at("test_2_9_2_11_2_12_the_m_step_against_a_regression_on_pseudo_data")

MUTANTS = [
    # ---- closed forms
    linear(
        "the posterior's precision forgets the prior's I",
        ("precision", "identity(W.shape[0], like=W) + (W / psi) @ W.T", "(W / psi) @ W.T"),
        first=POSTERIOR,
    ),
    linear(
        "the posterior's precision has standard deviations for Ψ",
        ("precision", "W / psi", "W / psi ** 0.5"),
        first=POSTERIOR,
    ),
    linear("the posterior's mean forgets b", ("posterior", "x - b", "x"), first=POSTERIOR),
    linear(
        "the posterior's mean is that without a prior",
        ("posterior", "xp.linalg.solve(M, W / psi)",
         "xp.linalg.solve(M - identity(W.shape[0], like=W), W / psi)"),
        first=POSTERIOR,
    ),
    linear(
        "the exact nlml forgets log|M|",
        ("_log_det", "xp.sum(xp.log(psi)) + xp.linalg.slogdet(M)[1]", "xp.sum(xp.log(psi))"),
        first=DENSITY,
    ),
    linear(
        "the exact nlml forgets what the mean costs under the prior",
        ("e_step", "xp.sum(residual * residual / psi, axis=1) + xp.sum(mean * mean, axis=1)",
         "xp.sum(residual * residual / psi, axis=1)"),
        first=DENSITY,
    ),
    linear("the exact nlml has log 2π once", ("e_step", "W.shape[1] * LOG_2PI", "LOG_2PI"), first=DENSITY),
    linear(
        "the exact nlml forgets its ½",
        ("e_step", "0.5 * (W.shape[1] * LOG_2PI + _log_det(M, psi) + quadratic)",
         "1.0 * (W.shape[1] * LOG_2PI + _log_det(M, psi) + quadratic)"),
        first=DENSITY,
    ),
    linear(
        "a density above 1 is taken for a fault (M5)",
        ("e_step", "0.5 * (W.shape[1] * LOG_2PI + _log_det(M, psi) + quadratic)",
         "xp.maximum(0.5 * (W.shape[1] * LOG_2PI + _log_det(M, psi) + quadratic), 0)"),
        first=("test_precision.py",),
    ),
    linear(
        "the E-step from moments adds where tr Σ⁻¹S subtracts",
        ("e_step_moments", "xp.sum(S_diagonal / psi) - xp.sum(A * xz.T)",
         "xp.sum(S_diagonal / psi) + xp.sum(A * xz.T)"),
        first=MOMENTS,
    ),
    linear(
        "EM forgets the posterior's covariance",
        ("e_step_moments", "covariance + beta @ xz", "beta @ xz"),
        first=MOMENTS,
    ),
    linear(
        "the E-step from moments forgets log|Ψ|",
        ("e_step_moments", "D * LOG_2PI + xp.sum(xp.log(psi)) + log_det_and_kl + trace",
         "D * LOG_2PI + log_det_and_kl + trace"),
        first=MOMENTS,
    ),
    linear(
        "the mean field's Q from moments forgets its KL",
        ("e_step_moments", "xp.sum(M * covariance) - W.shape[0] - xp.linalg.slogdet(covariance)[1]",
         "xp.linalg.slogdet(M)[1]"),
        first=TABLE,
    ),
    linear(
        "variational EM's statistics take the posterior's covariance",
        ("e_step_moments", "posterior_family.covariance(phi)[0, :, :]", "xp.linalg.inv(M)"),
        first=TABLE,
    ),
    linear(
        "the statistics of a table forget q's covariances",
        ("statistics", "(covariances + m.T @ m) / N", "m.T @ m / N"),
        first=M_STEP,
    ),
    linear(
        "the statistics of a table sum where they average",
        ("statistics", "x.T @ m / N", "x.T @ m"),
        first=M_STEP,
    ),
    linear(
        "the M-step's Ψ takes off what W explains twice",
        ("m_step", "stats.xx - xp.sum(G * B.T, axis=0)", "stats.xx - 2 * xp.sum(G * B.T, axis=0)"),
        first=M_STEP,
    ),
    linear(
        "the M-step's Ψ is of residuals about the mean of x alone",
        ("m_step", "stats.xx - xp.sum(G * B.T, axis=0)", "stats.xx - stats.x * stats.x"),
        first=M_STEP,
    ),
    linear(
        "the M-step regresses without an intercept",
        ("m_step", "xp.concat([stats.xz, stats.x[:, None]], axis=1)",
         "xp.concat([stats.xz, 0 * stats.x[:, None]], axis=1)"),
        first=M_STEP,
    ),
    linear(
        "the wider model is turned back by L",
        ("expanded", "L.T @ W", "L @ W"),
        first=at("test_2_24_the_wider_model_is_the_same_model"),
    ),
    linear(
        "the wider model keeps its mean",
        ("expanded", "b + z @ W", "b"),
        first=at("test_2_24_the_wider_model_is_the_same_model"),
    ),
    linear(
        "the wider model's R is not about its mean",
        ("expanded", "zz - z[:, None] * z[None, :]", "zz"),
        first=at("test_2_24_the_wider_model_is_the_same_model"),
    ),
    linear(
        "the closed-form Q forgets q's spread",
        ("bound", "xp.sum(terms, axis=1) + spread", "xp.sum(terms, axis=1)"),
        first=at("test_2_13_the_bound_against_quadrature"),
    ),
    linear(
        "the closed-form Q forgets the KL",
        ("bound", "kl + 0.5 * (xp.sum(terms, axis=1) + spread)", "0.5 * (xp.sum(terms, axis=1) + spread)"),
        first=at("test_2_13_the_bound_against_quadrature"),
    ),
    linear(
        "the closed-form Q counts the prior's I into q's spread where entries are missing",
        ("bound", "take_rows(M, place) - identity(W.shape[0], like=W)", "take_rows(M, place)"),
        first=("test_missing.py::test_bound_of_any_q_in_closed_form_is_its_expectation",),
    ),
    linear(
        "the canonical rotation makes WWᵀ diagonal, not WΨ⁻¹Wᵀ (M13)",
        ("rotation", "(W / psi) @ W.T", "W @ W.T"),
        first=at("test_2_14_the_canonical_rotation_changes_nothing_that_data_can_see"),
    ),
    linear(
        "the canonical rotation is turned the other way (M13)",
        ("rotation", "xp.flip(V, axis=1).T", "xp.flip(V, axis=1)"),
        first=at("test_2_14_the_canonical_rotation_changes_nothing_that_data_can_see"),
    ),
    linear(
        "the smallest factor comes first (M13)",
        ("rotation", "xp.flip(V, axis=1).T", "V.T"),
        first=at("test_2_14_the_canonical_rotation_changes_nothing_that_data_can_see"),
    ),
    linear(
        "the canonical signs are left to chance (M13)",
        ("canonical", "W * signs(W)[:, None]", "W"),
        first=("test_estimators.py::test_components_are_canonical",),
    ),
    linear(
        "the mean-field gap forgets its ½",
        ("diagonal_gap", "0.5 * (float(xp.sum(xp.log(diagonal(M)))) - float(xp.linalg.slogdet(M)[1]))",
         "float(xp.sum(xp.log(diagonal(M)))) - float(xp.linalg.slogdet(M)[1])"),
        first=at("test_2_10_the_closest_diagonal_gaussian_and_its_gap"),
    ),
    linear(
        "a network whose first layer is Linear is taken for a linear one",
        ("is_linear", "len(layers) == 1 and type(layers[0]) is Linear", "type(layers[0]) is Linear"),
        first=("test_bad_input.py::test_no_closed_form_for_a_neural_decoder",),
    ),
    # ---- missing entries
    missing(
        "the precision of a case with gaps is that of a whole one",
        ("pattern_precisions", "take_rows(mask, [n for _, n in first.values()]) / psi",
         "(0 * take_rows(mask, [n for _, n in first.values()]) + 1) / psi"),
    ),
    missing(
        "all patterns of gaps have the first one's precision",
        ("pattern_precisions", "first.setdefault(row.tobytes(), (len(first), n))[0]",
         "first.setdefault(row.tobytes(), (len(first), n))[0] * 0"),
    ),
    missing(
        "what stands under a gap is data to the posterior",
        ("observed_e_step", "(x - b) * mask / psi", "(x - b) / psi"),
    ),
    missing(
        "a gap costs its log ψ in the exact nlml",
        ("observed_e_step", "xp.sum((residual * residual / psi + xp.log(psi) + LOG_2PI) * mask, axis=1)",
         "xp.sum(residual * residual / psi * mask + xp.log(psi) + LOG_2PI, axis=1)"),
    ),
    missing(
        "the nlml of cases with gaps forgets log|M|",
        ("observed_e_step", "own + log_det + xp.sum(mean * mean, axis=1)",
         "own + xp.sum(mean * mean, axis=1)"),
    ),
    missing(
        "EM with gaps forgets the posterior's covariance",
        ("observed_statistics", "spread + z[:, :, None] * z[:, None, :]", "z[:, :, None] * z[:, None, :]"),
    ),
    missing(
        "every column's regression is over all cases",
        ("observed_statistics", "mask.T @ zz", "(0 * mask + 1).T @ zz"),
    ),
    missing(
        "Ψ of a column with gaps is divided by all cases",
        ("observed_m_step", "(stats.xx - xp.sum(G * stats.xz, axis=1)) / stats.count",
         "(stats.xx - xp.sum(G * stats.xz, axis=1)) / stats.whole[-1, -1]"),
    ),
    missing(
        "Ψ of a column with gaps is its variance",
        ("observed_m_step", "stats.xx - xp.sum(G * stats.xz, axis=1)", "stats.xx"),
    ),
    missing(
        "weights count twice where entries are missing",
        ("observed_statistics", "weights[:, None] * mask", "weights[:, None] ** 2 * mask"),
        first=("test_estimators.py::test_integer_weights_are_repeated_rows",),
    ),
    missing(
        "the latent moments of cases with gaps are sums",
        ("latent_moments", "stats.whole / stats.whole[-1, -1]", "stats.whole"),
    ),
    # ---- moments
    moments(
        "a covariance has the divisor N − 1",
        ("Moments.covariance", "self.scatter / self.n_cases", "self.scatter / (self.n_cases - 1)"),
    ),
    moments(
        "merged moments forget how far apart their means lie",
        ("Moments.__add__", "self.scatter + other.scatter + between", "self.scatter + other.scatter"),
    ),
    moments(
        "merged means are not weighted by their cases",
        ("Moments.__add__", "self.mean + delta * (other.n_cases / N)", "self.mean + delta * 0.5"),
    ),
    moments(
        "the scatter stays about the first block's mean",
        ("moments", "to_numpy(products) - count * np.outer(shift, shift)", "to_numpy(products)"),
    ),
    moments(
        "weights enter the scatter as their squares",
        ("moments", "counted.T @ (counted if weights is None else double.asarray(centred))",
         "counted.T @ counted"),
        first=("test_estimators.py::test_a_weighted_fit_is_that_to_the_weighted_covariance",),
    ),
    # ---- EM
    em(
        "a longer step that raises Q is kept (B16)",
        ("LongerSteps.accept", "not self.is_longer or Q <= path[-1] + ROUNDING * abs(path[-1])", "True"),
        first=at("test_2_26_a_step_that_is_too_long_is_taken_back"),
    ),
    em(
        "a rise by rounding is taken back",
        ("LongerSteps.accept", "path[-1] + ROUNDING * abs(path[-1])", "path[-1] - ROUNDING * abs(path[-1])"),
        first=at("test_2_26_takes_nothing_back_for_a_rise_by_rounding"),
    ),
    em(
        "a step taken back leaves the next as long",
        ("LongerSteps.taken_back", "(False, 1.0)", "(False, self.length)"),
        first=at("test_2_26_a_step_that_is_too_long_is_taken_back"),
    ),
    em(
        "steps do not grow",
        ("", "LENGTHENING = 1.1", "LENGTHENING = 1.0"),
        first=at(
            "test_2_24_leads_where_plain_em_leads_in_a_tenth_of_its_iterations",
            "test_2_26_arrives_at_a_heywood_case_where_plain_em_crawls",
        ),
    ),
    em(
        "log ψ takes longer steps whichever way it turns",
        ("LongerSteps.take", "xp.where(same_way, LENGTHENING * self.lengths, xp.ones_like(step))",
         "LENGTHENING * self.lengths * xp.ones_like(step)"),
        first=at(
            "test_2_26_a_step_that_is_too_long_is_taken_back",
            "test_2_26_arrives_at_a_heywood_case_where_plain_em_crawls",
        ),
    ),
    em(
        "a longer step goes through Ψ's floor (M16)",
        ("LongerSteps.take", "problem.floored(psi)", "psi"),
        first=(
            "test_facts.py::test_fact_5_under_heywood",
            "test_estimators.py::test_the_floor_is_relative_and_adjustable",
        ),
    ),
    em(
        "EM goes through Ψ's floor (M16)",
        ("Complete.m_step", "self.floored(mean_square)",
         "self.likelihood.psi(self.likelihood.m_step(mean_square, None), like=mean_square)"),
        first=(
            "test_facts.py::test_fact_5_under_heywood",
            "test_estimators.py::test_the_floor_is_relative_and_adjustable",
        ),
    ),
    em(
        "of several starts the first is gone on with",
        ("race", "end.path[-1] < best.path[-1] - tol", "False"),
        first=(
            "test_published.py::test_as_low_as_the_best_of_many_starts",
            "test_published.py::test_more_starts_find_more",
        ),
    ),
    em(
        "of several starts the worst is gone on with",
        ("race", "end.path[-1] < best.path[-1] - tol", "end.path[-1] > best.path[-1] + tol"),
        first=("test_published.py::test_as_low_as_the_best_of_many_starts",),
    ),
    gaps(
        "the mean Q of cases with gaps is a sum",
        ("Incomplete.e_step", "float(total[0]) / self.n_cases", "float(total[0])"),
    ),
    em(
        "Q of cases with gaps forgets their weights",
        ("Incomplete.e_step", "w @ Q", "(0 * w + 1) @ Q"),
        first=("test_estimators.py::test_integer_weights_are_repeated_rows",),
    ),
    em(
        "the closed-form start of an isotropic Ψ keeps σ² in its loadings",
        ("start", "values[:n_latent] - sigma2", "values[:n_latent]"),
        first=at("test_2_16_the_maximum_in_closed_form"),
    ),
    em(
        "the closed-form start of an isotropic Ψ takes the smallest eigenvalue",
        ("start", "values[n_latent:] if n_latent < D else values[-1:]", "values[-1:]"),
        first=at("test_2_16_the_maximum_in_closed_form"),
    ),
    em(
        "the closed-form start has factors below a fixed noise (M11)",
        ("start", "xp.where(excess > 0, excess, xp.zeros_like(excess))", "xp.abs(excess)"),
        first=at("test_2_16_the_maximum_in_closed_form"),
    ),
    em(
        "the closed-form start has eigenvalues for singular values",
        ("start", "vectors[:, :n_latent].T * xp.sqrt(excess)[:, None]",
         "vectors[:, :n_latent].T * excess[:, None]"),
        first=at("test_2_16_the_maximum_in_closed_form"),
    ),
    em(
        "the start's uniquenesses are not in the data's units",
        ("start", "likelihood.psi(likelihood.m_step(uniqueness * variance, lower), like=W)",
         "likelihood.psi(likelihood.m_step(uniqueness, lower), like=W)"),
        first=at("test_2_15_the_start_of_em"),
    ),
    # ---- E-steps
    e_step("an E-step keeps the higher Q of two starts", ("_lower", "a.Q < b.Q", "a.Q > b.Q")),
    e_step(
        "what the coarse nodes were taken in by is kept",
        ("optimal", "Q < lowest", "Q == Q"),
        first=("test_gaps.py::test_phi_is_kept_where_the_coarse_nodes_were_taken_in",),
    ),
    e_step(
        "another mode is taken though it is worse",
        ("from_places", "Q < lowest[rows[i]]", "Q > lowest[rows[i]]"),
        first=("test_gaps.py",),
    ),
    e_step("no other mode is tried", ("from_places", "not places", "True"), first=("test_gaps.py",)),
    e_step(
        "the best point of the prior is the worst",
        ("best_point", "xp.argmax(log_joint, axis=0)", "xp.argmin(log_joint, axis=0)"),
        first=("test_gaps.py::test_the_best_point_of_many_is_where_the_joint_is_largest",),
    ),
    e_step(
        "the search ends on the coarse nodes",
        ("optimal", "e_step(model, theta, phi, x, *fine, max_steps=max_steps, tol=tol)",
         "e_step(model, theta, phi, x, *coarse, max_steps=max_steps, tol=tol)"),
        first=("test_gaps.py",),
    ),
    e_step(
        "the least KL of an own family forgets the precision's pull",
        ("closest.objective", "kl + xp.sum(w * xp.sum(z * (0.5 * pull - pulled), axis=2), axis=0)",
         "kl - xp.sum(w * xp.sum(z * pulled, axis=2), axis=0)"),
        first=("test_gaps.py::test_a_family_without_a_closed_form_finds_its_closest_member",),
    ),
    bfgs("a step that raises Q is accepted", ("minimise", "(fell | flat) & (moving > 0)", "moving > 0")),
    bfgs(
        "backtracking doubles the step",
        ("minimise", "xp.where(accept, xp.ones_like(t), 0.5 * t)",
         "xp.where(accept, xp.ones_like(t), 2.0 * t)"),
        first=("test_estimators.py::test_infer_reaches_the_minimum",),
    ),
    bfgs(
        "the direction climbs",
        ("_direction", "-_times(H, g)", "_times(H, g)"),
        first=("test_estimators.py::test_infer_reaches_the_minimum",),
    ),
    bfgs(
        "the BFGS update forgets a half of its term",
        ("_bfgs_update", "H + sc + xp.permute_dims(sc, (0, 2, 1))", "H + sc"),
        first=at("test_6_4_the_bfgs_update_maps_the_change_of_gradient_to_the_step"),
    ),
    bfgs(
        "the BFGS update has 1 + ρyᵀHy whole",
        ("_bfgs_update", "0.5 * (1 + rho * sum_last(y * Hy))", "1 + rho * sum_last(y * Hy)"),
        first=at("test_6_4_the_bfgs_update_maps_the_change_of_gradient_to_the_step"),
    ),
    bfgs(
        "steps are not shortened",
        ("_direction", "2 / xp.where(longest > 2, longest, xp.zeros_like(longest) + 2)", "1 + 0 * longest"),
        first=("test_estimators.py::test_e_steps_do_not_see_the_unit_of_the_data",),
    ),
    bfgs(
        "a row hangs on the others: all go the first one's step",
        ("minimise", "(t * moving)[:, None] * p", "(t[:1] * moving)[:, None] * p"),
        first=(
            "test_estimators.py::test_no_row_depends_on_other_rows",
            "test_gaps.py::test_no_row_depends_on_the_others",
        ),
    ),
    # ---- expectations
    expectations(
        "importance weights leave log q out",
        ("log_weight", "model.log_joint(theta, x, z) - log_q", "model.log_joint(theta, x, z)"),
    ),
    expectations(
        "expected squares count what was not observed",
        ("expected_squares.sums", "xp.sum(weights[:, None, None] * squares * mask, axis=(0, 1))",
         "xp.sum(weights[:, None, None] * squares, axis=(0, 1))"),
        first=("test_missing.py::test_noise_is_learnt_from_observed_entries",),
    ),
    expectations(
        "expected squares are averaged over all cases",
        ("expected_squares", "total / count", "total / n_cases"),
        first=("test_missing.py::test_noise_is_learnt_from_observed_entries",),
    ),
    expectations(
        "expected squares are taken at q's mean (M8)",
        ("expected_squares.sums", "model.posterior.sample(phi[rows, :], eta)",
         "model.posterior.sample(phi[rows, :], 0 * eta)"),
        first=(
            "test_facts.py::test_fact_5_never_uphill",
            "test_missing.py::test_noise_is_learnt_from_observed_entries",
        ),
    ),
    expectations(
        "an expectation forgets its weights",
        ("expected.mean", "xp.sum(weights[:, None, None] * function(f, rows), axis=0)",
         "xp.mean(function(f, rows), axis=0)"),
        first=("test_missing.py::test_imputed_by_a_network_is_the_mean_under_its_q",),
    ),
    expectations(
        "the certificate of quadrature is halved",
        ("quadrature", "xp.where(change > tol, UNSETTLED * change, change)",
         "0.5 * xp.where(change > tol, UNSETTLED * change, change)"),
        first=("test_gaps.py::test_10_5_the_certificate_as_written",),
    ),
    expectations(
        "a rule that has not settled states its last change",
        ("", "UNSETTLED = 3", "UNSETTLED = 1"),
        first=("test_gaps.py::test_10_5_the_certificate_as_written",),
    ),
    expectations(
        "quadrature is judged by the last rule alone",
        ("quadrature", "xp.maximum(xp.abs(finer - last), xp.abs(finer - take_rows(before, rows)))",
         "xp.abs(finer - last)"),
        first=("test_gaps.py::test_10_5_the_certificate_as_written",),
    ),
    expectations(
        "hard cases keep the coarse rule's value",
        ("quadrature", "put_rows(values, rows, finer)", "values"),
        first=("test_gaps.py",),
    ),
]
