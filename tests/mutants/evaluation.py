"""Faults of the roads to NLML, of their errors and certificates, and of the ledger of gaps."""

from .planting import faults_in

nlml = faults_in("evaluation/nlml.py", "test_nlml.py")
iwae = faults_in("evaluation/iwae.py", "test_nlml.py")
laplace = faults_in("evaluation/laplace.py", "test_nlml.py")
grid = faults_in("evaluation/grid.py", "test_grid.py")
ais = faults_in("evaluation/ais.py", "test_ais.py")
gaps = faults_in("evaluation/gaps.py", "test_gaps.py")
divergence = faults_in("evaluation/divergence.py", "test_gaps.py")
estimates = faults_in("evaluation/iwae.py", "test_pictures.py::test_estimates_of_both_bounds_one_by_one")
printed = faults_in("evaluation/gaps.py", "test_prints.py")
ranks = faults_in("evaluation/calibration.py", "test_prints.py")

MUTANTS = [
    # ---- sampling
    nlml(
        "a sampled nlml is log p (B4)",
        ("_collect", "NLML(-log_p, error, None, method, size)", "NLML(log_p, error, None, method, size)"),
    ),
    nlml(
        "a mean of weights is their sum (M2)",
        ("StreamingLogMeanExp.result", "mean = self.sum / S", "mean = self.sum"),
    ),
    nlml(
        "chunks are added without being brought to one scale",
        ("StreamingLogMeanExp.add", "self.sum * shrink", "self.sum"),
    ),
    nlml(
        "squares of weights are brought to a scale as weights are",
        ("StreamingLogMeanExp.add", "self.squares * shrink ** 2", "self.squares * shrink"),
    ),
    nlml(
        "the last chunk alone is counted",
        ("StreamingLogMeanExp.add", "self.count += log_w.shape[0]", "self.count = log_w.shape[0]"),
    ),
    nlml(
        "the standard error is a standard deviation",
        ("StreamingLogMeanExp.result", "xp.sqrt(variance / S) / mean", "xp.sqrt(variance) / mean"),
    ),
    nlml(
        "the standard error is that of the mean weight, not of its logarithm",
        ("StreamingLogMeanExp.result", "xp.sqrt(variance / S) / mean", "xp.sqrt(variance / S)"),
    ),
    nlml(
        "the variance of the weights has the divisor S",
        ("StreamingLogMeanExp.result", "(self.squares / S - mean * mean) * (S / (S - 1))",
         "self.squares / S - mean * mean"),
    ),
    nlml(
        "the effective sample size forgets a square",
        ("StreamingLogMeanExp.result", "self.sum * self.sum / self.squares", "self.sum / self.squares"),
    ),
    nlml(
        "a large error is stated though few draws carry it",
        ("stated", "(error > LARGE) & (squares * squares < FEW * fourths)", "error > 1e30"),
    ),
    nlml(
        "a large error is never stated",
        ("stated", "(error > LARGE) & (squares * squares < FEW * fourths)", "error > LARGE"),
    ),
    nlml(
        "the draws of the prior are twice as wide",
        ("prior", "rng.standard_normal((min(CHUNK, n_samples - start), model.n_latent))",
         "2 * rng.standard_normal((min(CHUNK, n_samples - start), model.n_latent))"),
    ),
    nlml(
        "the last chunk of the prior's draws is a whole one",
        ("prior", "min(CHUNK, n_samples - start)", "CHUNK"),
    ),
    nlml(
        "importance sampling draws fewer than asked for",
        ("importance", "range(0, n_samples, 64)", "range(0, n_samples - 63, 64)"),
    ),
    iwae(
        "the bound of k samples is of their sum",
        ("_group_means", "math.log(k) - log_sum_exp(log_w, axis=1)", "-log_sum_exp(log_w, axis=1)"),
    ),
    iwae(
        "the bound of k samples is a mean of log weights",
        ("_group_means", "math.log(k) - log_sum_exp(log_w, axis=1)", "-xp.mean(log_w, axis=1)"),
    ),
    iwae(
        "groups of k are gathered across the data cases",
        ("_group_means", "xp.reshape(log_w[:groups * k, :], (groups, k, log_w.shape[1]))",
         "xp.permute_dims(xp.reshape(log_w[:groups * k, :], (k, groups, log_w.shape[1])), (1, 0, 2)) if "
         "groups > 1 else log_w[None, :k, :]"),
    ),
    iwae(
        "the spread of the groups has the divisor of their number",
        ("_group_means", "groups * (groups - 1)", "groups * groups"),
    ),
    laplace(
        "Laplace forgets the prior's curvature",
        ("_around", "0.5 * (H + xp.permute_dims(H, (0, 2, 1))) + identity(K, like=x)",
         "0.5 * (H + xp.permute_dims(H, (0, 2, 1)))"),
    ),
    laplace(
        "Laplace forgets its ½ at the log determinant",
        ("_around", "0.5 * log_det - model.log_joint(theta, x, mode)[0, :] - 0.5 * K * LOG_2PI",
         "log_det - model.log_joint(theta, x, mode)[0, :] - 0.5 * K * LOG_2PI"),
    ),
    laplace(
        "Laplace has log 2π once",
        ("_around", "0.5 * log_det - model.log_joint(theta, x, mode)[0, :] - 0.5 * K * LOG_2PI",
         "0.5 * log_det - model.log_joint(theta, x, mode)[0, :] - 0.5 * LOG_2PI"),
    ),
    laplace(
        "Laplace takes a saddle for a peak",
        ("_around", "xp.min(xp.linalg.eigvalsh(H), axis=1) > 0", "xp.max(xp.linalg.eigvalsh(H), axis=1) > 0"),
        first=("test_nlml.py::test_laplace_says_nan_at_a_saddle",),
    ),
    laplace(
        "Laplace's value stands where no mode was reached",
        ("laplace", "found.gradient_norm < 1e-3", "found.gradient_norm < 1e30"),
        first=("test_nlml.py::test_laplace_says_nan_where_no_mode_was_reached",),
    ),
    # ---- the grid
    grid(
        "the grid's cells have the size of the first mesh",
        ("_shared", "log_fine + K * math.log(h / 2)", "log_fine + K * math.log(h)"),
    ),
    grid("the grid leaves out the ring around its box", ("_shared", "-wider", "-finer")),
    grid(
        "the grid's certificate is halved",
        ("_shared", "np.maximum(np.abs(finer - coarse), wider - finer)",
         "0.5 * np.maximum(np.abs(finer - coarse), wider - finer)"),
        first=("test_grid.py::test_7_4_the_certificate_as_written",),
    ),
    grid(
        "the grid's certificate does not see the ring",
        ("_shared", "np.maximum(np.abs(finer - coarse), wider - finer)", "np.abs(finer - coarse)"),
        first=("test_grid.py::test_7_4_the_certificate_as_written",),
    ),
    grid(
        "the grid's certificate does not see the mesh",
        ("_shared", "np.maximum(np.abs(finer - coarse), wider - finer)", "wider - finer"),
        first=("test_grid.py::test_7_4_the_certificate_as_written",),
    ),
    grid(
        "points of the coarse lattice are counted again on the fine one",
        ("_shared", "np.rint(2 * fine / h) % 2 != 0", "np.rint(2 * fine / h) % 2 != 2"),
    ),
    grid(
        "cases that are not settled are not refused",
        ("grid", "np.where(certificate <= tol, values, np.nan)", "values"),
    ),
    grid("no case gets a lattice of its own", ("_rows", "~(certificate <= tol)", "certificate < 0")),
    grid(
        "an own lattice's cells forget the size of their axes",
        ("_followed", "log_sum_exp(log_p) + K * math.log(h) + log_cell",
         "log_sum_exp(log_p) + K * math.log(h)"),
    ),
    grid(
        "an own lattice's error leaves out what was not looked at",
        ("integral", "change + np.logaddexp(value, log_rest) - value", "change"),
        first=("test_grid.py::test_what_an_own_lattice_does_not_look_at_is_in_its_error",),
    ),
    grid(
        "an own lattice is not grown at its edge",
        ("_grown", "(log_p + rises > floor) & edge", "(log_p + rises > floor) & (edge & False)"),
    ),
    grid("an own lattice ends near its peak", ("", "MARGIN = 22", "MARGIN = 6")),
    grid(
        "an own lattice starts from the lowest peak",
        ("integral", "np.argmax(heights)", "np.argmin(heights)"),
        first=("test_grid.py::test_an_own_lattice_is_that_of_the_highest_peak",),
    ),
    grid("one mode alone is looked at", ("integral", "np.argsort(-hopes)[:PEAKS]", "np.argsort(-hopes)[:1]")),
    # ---- annealing
    ais(
        "annealed weights forget the temperatures' steps",
        ("_run", "float(betas[t] - betas[t - 1]) * at[0]", "float(betas[t]) * at[0]"),
    ),
    ais(
        "temperatures rise evenly",
        ("temperatures", "(np.arange(n_temperatures + 1) / n_temperatures) ** 4",
         "np.arange(n_temperatures + 1) / n_temperatures"),
    ),
    ais(
        "temperatures end before 1",
        ("temperatures", "np.arange(n_temperatures + 1) / n_temperatures",
         "np.arange(n_temperatures + 1) / (n_temperatures + 1)"),
    ),
    ais(
        "the way back moves at the temperature that it comes from",
        ("_run", "t - 1 if backward else t", "t"),
    ),
    ais("the way back has the weights of p(x)", ("_run", "-log_w if backward else log_w", "log_w")),
    ais("every move is accepted", ("_hmc", "log_u < rise", "log_u < rise + 1e30")),
    ais(
        "the energy forgets the momenta",
        ("_hmc.log_density", "model.log_prior(z) + beta * at[0] - 0.5 * xp.sum(p * p, axis=2)",
         "model.log_prior(z) + beta * at[0]"),
    ),
    ais(
        "the energy is that of the posterior at every temperature",
        ("_hmc.log_density", "model.log_prior(z) + beta * at[0] - 0.5 * xp.sum(p * p, axis=2)",
         "model.log_prior(z) + at[0] - 0.5 * xp.sum(p * p, axis=2)"),
    ),
    ais(
        "a rejected move keeps the gradient of where it led",
        ("_hmc", "(xp.where(accept, at_end[0], at[0]), xp.where(accept[:, :, None], at_end[1], at[1]))",
         "at_end"),
    ),
    ais(
        "step sizes are tuned in the run that counts",
        ("_both.run_all",
         "_run(model, theta, x[rows, :], z0, betas, steps, momenta, log_u, run == 'backward')",
         "_run(model, theta, x[rows, :], z0, betas, None, momenta, log_u, run == 'backward')"),
    ),
    ais(
        "the way back starts at the prior",
        ("_both.run_all", "z[None, rows, :] + constant(0 * start, like=x)",
         "0 * z[None, rows, :] + constant(start, like=x)"),
    ),
    ais(
        "the way back's value has the other sign",
        ("sandwich", "_nlml(backward, xp, sign=1)", "_nlml(backward, xp, sign=-1)"),
    ),
    # ---- the ledger
    gaps(
        "the amortisation gap has the other sign (B7)",
        ("Gaps.amortisation", "self.q_used - self.q_optimal", "self.q_optimal - self.q_used"),
    ),
    gaps(
        "the approximation gap is clipped at 0",
        ("Gaps.approximation", "self.q_optimal - self.nlml", "(self.q_optimal - self.nlml).clip(0)"),
        first=("test_gaps.py::test_a_share_of_zero_comes_out_on_both_sides_of_zero",),
    ),
    gaps(
        "the approximation gap is measured from the full Gaussian",
        ("Gaps.approximation", "self.q_optimal - self.nlml", "self.q_full - self.nlml"),
    ),
    gaps(
        "the ledger's Q in use is that of the best φ",
        ("_closed_form", "linear_gaussian.bound(W, b, psi, phi, family, *seen(x))",
         "linear_gaussian.bound(W, b, psi, phi_optimal, family, *seen(x))"),
    ),
    gaps(
        "the full Gaussian's Q is that of the family",
        ("_closed_form", "linear_gaussian.bound(W, b, psi, phi_full, full, *seen(x))",
         "linear_gaussian.bound(W, b, psi, phi_optimal, family, *seen(x))"),
    ),
    gaps(
        "the error of the approximation leaves out the grid's certificate",
        ("gaps", "worth.certificate + e_optimal + e_full", "e_optimal + e_full"),
        first=("test_gaps.py::test_the_errors_of_the_shares_are_those_of_their_parts",),
    ),
    gaps(
        "the error of the amortisation leaves out one of its two Q",
        ("gaps", "e_used + e_optimal", "e_used"),
        first=("test_gaps.py::test_the_errors_of_the_shares_are_those_of_their_parts",),
    ),
    gaps(
        "the amortisation's error is not that of a paired difference",
        ("_sampled.mean_and_error", "costs - _costs(model, theta, less[rows, :], x[rows, :], eta)",
         "costs + _costs(model, theta, less[rows, :], x[rows, :], eta)"),
        first=("test_gaps.py::test_a_sampled_Q_and_its_error_are_a_mean_and_that_of_a_mean",),
    ),
    gaps(
        "a sampled Q's error is a standard deviation",
        ("_sampled.mean_and_error", "total / (S * (S - 1))", "total / (S - 1)"),
        first=("test_gaps.py::test_a_sampled_Q_and_its_error_are_a_mean_and_that_of_a_mean",),
    ),
    gaps(
        "a sampled Q forgets the KL",
        ("_costs", "model.posterior.kl(phi)[0] - model.log_likelihood(theta, x, z)[0]",
         "-model.log_likelihood(theta, x, z)[0]"),
    ),
    gaps(
        "what another mode may save is the whole gap",
        ("_what_another_mode_may_save", "gap + xp.log1p(-xp.exp(-gap))", "gap"),
    ),
    gaps(
        "another mode may save nothing",
        ("gaps", "unseen * _what_another_mode_may_save(q_optimal - worth.values)", "0 * unseen"),
    ),
    gaps("no case is looked at again for its other modes", ("", "RETRY = 0.5", "RETRY = 1e9")),
    divergence(
        "the KL between Gaussians forgets −K",
        ("kl_to_posterior", "xp.sum(C * M, axis=(1, 2)) - K + quadratic - log_det",
         "xp.sum(C * M, axis=(1, 2)) + quadratic - log_det"),
    ),
    divergence(
        "the KL between Gaussians forgets how far apart they lie",
        ("kl_to_posterior", "xp.sum(C * M, axis=(1, 2)) - K + quadratic - log_det",
         "xp.sum(C * M, axis=(1, 2)) - K - log_det"),
    ),
    divergence(
        "the KL by the lattice has its sign turned",
        ("kl_to_posterior.of_case", "log_px - mean", "mean - log_px"),
    ),
    divergence(
        "the KL by the lattice is given where it has not settled",
        ("kl_to_posterior.of_case", "kl if change + moved <= tol + ROUNDING * size else np.nan", "kl"),
    ),
    divergence(
        "the KL's lattice forgets the size of its cells",
        ("_mean_log_weight.terms", "(mesh / np.sqrt(2 * np.pi)) ** K", "mesh / np.sqrt(2 * np.pi)"),
        first=("test_gaps.py::test_the_kl_road_finds_posteriors_that_are_narrow_beside_its_first_look",),
    ),
    divergence(
        "the KL's lattice is not widened",
        ("_mean_log_weight", "(1.5 * box, mesh) if edge > 0.05 * tol else (box, 0.5 * mesh)",
         "(box, 0.5 * mesh)"),
        first=("test_gaps.py::test_the_kl_road_looks_beyond_the_box_of_a_wide_q",),
    ),
    # ---- what is said of them
    estimates(
        "estimates are sums over the data cases",
        ("estimates", "sum(of_case(n, rows) for n in range(N)) / N",
         "sum(of_case(n, rows) for n in range(N))"),
    ),
    estimates(
        "all estimates have the same draws",
        ("estimates.of_case", "(S, rows.stop - rows.start, K)", "(S, 1, K)"),
    ),
    printed(
        "cases whose error is not known have a part in the means",
        ("_known", "xp.isfinite(found.nlml) & xp.isfinite(found.nlml_error)", "xp.isfinite(found.nlml)"),
    ),
    ranks(
        "bins below their band are not counted",
        ("Calibration.outside", "(self.counts < low) | (self.counts > high)", "self.counts > high"),
    ),
]
