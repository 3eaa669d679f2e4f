"""Faults of the likelihoods, and of the special functions that they are made of."""

from .planting import faults_in

CONSTANT = (
    "test_derivations.py::"
    "test_5_41_the_constant_of_students_t_is_that_of_factorials_and_ends_at_the_gaussians"
)
VALUES, GRADIENTS, MORE = "test_components.py", "test_gradients.py", "test_likelihoods.py"
gaussian = faults_in("likelihoods/gaussian.py", VALUES)
predicted = faults_in("likelihoods/predicted_gaussian.py", VALUES, MORE)
bernoulli = faults_in("likelihoods/bernoulli.py", VALUES, MORE)
categorical = faults_in("likelihoods/categorical.py", VALUES, MORE)
poisson = faults_in("likelihoods/poisson.py", VALUES, MORE)
student_t = faults_in("likelihoods/student_t.py", VALUES, MORE)
mixed = faults_in("likelihoods/mixed.py", VALUES, MORE)
special = faults_in("arrays/special.py", VALUES, MORE)

MUTANTS = [
    # ---- Gaussian
    gaussian("½ log 2π is dropped (M4, B4)", ("Gaussian.forward", "xp.log(psi) + LOG_2PI", "xp.log(psi)")),
    gaussian(
        "residuals are divided by standard deviations, in value and gradient alike",
        ("Gaussian.forward", "1 / psi", "1 / xp.sqrt(psi)"),
    ),
    gaussian("log ψ costs twice", ("Gaussian.forward", "xp.log(psi) + LOG_2PI", "2 * xp.log(psi) + LOG_2PI")),
    gaussian(
        "a missing entry costs its log ψ",
        ("Gaussian.forward", "xp.sum(cost) if mask is None else mask @ cost",
         "xp.sum(cost) + 0 * residual[0, :, 0]"),
    ),
    gaussian(
        "what stands under a missing entry is a residual",
        ("Gaussian.forward", "squares * mask", "squares"),
    ),
    gaussian(
        "f is drawn away from x",
        ("Gaussian.backward", "d * (residual * precision)", "-d * (residual * precision)"),
        first=(GRADIENTS,),
    ),
    gaussian(
        "the gradient of log ψ forgets the normaliser",
        ("Gaussian.backward", "0.5 * (weighted * precision - total)", "0.5 * weighted * precision"),
        first=(GRADIENTS,),
    ),
    gaussian(
        "the gradient of ψ stands where that of log ψ belongs",
        ("Gaussian.backward", "0.5 * (weighted * precision - total)",
         "0.5 * (weighted * precision - total) * precision"),
        first=(GRADIENTS,),
    ),
    gaussian(
        "one ψ for all has a column's mean gradient",
        ("Gaussian.backward", "xp.sum(dlog_psi, axis=0, keepdims=True)",
         "xp.mean(dlog_psi, axis=0, keepdims=True)"),
        first=(GRADIENTS,),
    ),
    gaussian(
        "a missing entry moves f",
        ("Gaussian.backward", "dlog_p[:, :, None] if mask is None else dlog_p[:, :, None] * mask",
         "dlog_p[:, :, None]"),
        first=(GRADIENTS,),
    ),
    gaussian(
        "all pairs have twice their cross term",
        ("Gaussian.cross", "scaled @ x.T - 0.5 * (squares + constants)",
         "2 * scaled @ x.T - 0.5 * (squares + constants)"),
    ),
    gaussian(
        "all pairs with missing entries count f's squares whole",
        ("Gaussian.cross", "(f * scaled) @ mask.T + own", "xp.sum(f * scaled, axis=1)[:, None] + own"),
    ),
    gaussian(
        "noise of the variance is drawn where the standard deviation belongs",
        ("Gaussian.sample", "noise * namespace(f).sqrt(self.psi(params, like=f))",
         "noise * self.psi(params, like=f)"),
    ),
    gaussian(
        "the M-step lets Ψ through its floor (M16)",
        ("Gaussian.m_step", "xp.where(mean_square > floor, mean_square, floor)", "mean_square"),
    ),
    gaussian(
        "an isotropic Ψ weighs its columns alike, however much was seen of them",
        ("Gaussian.m_step", "xp.sum(share * mean_square, axis=0, keepdims=True) / xp.sum(share)",
         "xp.mean(mean_square, axis=0, keepdims=True)"),
        first=(MORE,),
    ),
    gaussian(
        "Ψ changes with the scale, not with its square",
        ("Gaussian.rescale_params", "params['log_psi'] + 2 * log_scale", "params['log_psi'] + log_scale"),
    ),
    gaussian(
        "a fixed Ψ changes with the scale, not with its square",
        ("Gaussian.rescaled", "self.noise / scale[0] ** 2", "self.noise / scale[0]"),
    ),
    gaussian(
        "an isotropic Ψ is given a scale for every column",
        ("Gaussian.standard_units", "self.noise != 'diagonal'", "not self.learns_noise"),
    ),
    gaussian(
        "the floor of Ψ is not relative to the variance",
        ("Gaussian.lower_bounds", "min_noise * variance", "min_noise + 0 * variance"),
        first=("test_estimators.py::test_the_floor_is_relative_and_adjustable",),
    ),
    gaussian(
        "Ψ at its floor goes unnoticed",
        ("Gaussian.at_the_floor", "psi <= floor", "psi < 0 * floor"),
        first=("test_estimators.py::test_a_duplicated_column_is_a_heywood_case_with_a_name",),
    ),
    gaussian(
        "known noise is added as a standard deviation",
        ("Gaussian.noisier", "psi + tau2", "psi + xp.sqrt(tau2)"),
        first=(MORE,),
    ),
    gaussian(
        "denoising trusts f with the weight that x deserves",
        ("Gaussian.denoised", "psi / (psi + tau2)", "tau2 / (psi + tau2)"),
        first=(MORE,),
    ),
    # ---- Gaussian, its variances predicted
    predicted(
        "half the predicted log variance costs",
        ("PredictedGaussian.forward", "residual * residual * precision + log_v + LOG_2PI",
         "residual * residual * precision + 0.5 * log_v + LOG_2PI"),
    ),
    predicted(
        "the decoder predicts log standard deviations, in value and gradient alike (M1)",
        ("PredictedGaussian.split", "math.log(self.floor) + softplus(over)",
         "2 * (math.log(self.floor) + softplus(over))"),
        ("PredictedGaussian.split", "sigmoid(over)", "2 * sigmoid(over)"),
    ),
    predicted(
        "the floor is no part of the predicted variance",
        ("PredictedGaussian.split", "math.log(self.floor) + softplus(over)", "over + math.log(self.floor)"),
        ("PredictedGaussian.split", "sigmoid(over)", "1 + 0 * over"),
    ),
    predicted(
        "the floor's bend has no slope",
        ("PredictedGaussian.split", "sigmoid(over)", "1 + 0 * over"),
        first=(GRADIENTS,),
    ),
    predicted(
        "the gradient of a predicted log variance forgets the normaliser",
        ("PredictedGaussian.backward", "0.5 * (dm * residual - d) * slope", "0.5 * dm * residual * slope"),
        first=(GRADIENTS,),
    ),
    predicted(
        "noise of the predicted variance is drawn",
        ("PredictedGaussian.sample", "namespace(f).exp(0.5 * log_v)", "namespace(f).exp(log_v)"),
    ),
    predicted(
        "the floor changes with the scale, not with its square",
        ("PredictedGaussian.rescaled", "self.floor / scale[0] ** 2", "self.floor / scale[0]"),
    ),
    predicted(
        "training starts with predicted variances that hang on z",
        ("PredictedGaussian.start_W", "[W[:, :D], 0 * W[:, D:]]", "[W[:, :D], W[:, D:]]"),
        first=(MORE,),
    ),
    # ---- Bernoulli
    bernoulli(
        "0 and 1 are exchanged, in value and gradient alike",
        ("Bernoulli.forward", "x * f - softplus(f)", "(1 - x) * f - softplus(f)"),
        ("Bernoulli.backward", "x - sigmoid(f)", "1 - x - sigmoid(f)"),
    ),
    bernoulli(
        "the likelihood is a mean over the pixels, in value and gradient alike (M2, B5)",
        ("Bernoulli.forward", "sum_last(terms)", "sum_last(terms) / terms.shape[2]"),
        ("Bernoulli.backward", "d * (x - sigmoid(f))", "d * (x - sigmoid(f)) / f.shape[2]"),
    ),
    bernoulli(
        "the gradient of a logit is that of a Gaussian's mean",
        ("Bernoulli.backward", "x - sigmoid(f)", "x - f"),
        first=(GRADIENTS,),
    ),
    bernoulli("a missing pixel costs", ("Bernoulli.forward", "terms * mask", "terms")),
    bernoulli(
        "all pairs with missing pixels count their cost whole",
        ("Bernoulli.cross", "cost @ mask.T", "sum_last(cost)[:, None]"),
    ),
    bernoulli(
        "pixels are drawn 1 with the probability of 0",
        ("Bernoulli.sample", "noise < sigmoid(f)", "noise > sigmoid(f)"),
    ),
    bernoulli(
        "grey values are taken for bits (M6)",
        ("Bernoulli.check_values", "(x != 0) & (x != 1) & (x == x)", "(x < 0) | (x > 1)"),
        first=("test_bad_input.py::test_bernoulli_needs_binary_data",),
    ),
    bernoulli(
        "grey values are said to have a likelihood (M6)",
        ("Bernoulli.normalised", "not self.relaxed", "True"),
        first=(MORE,),
    ),
    bernoulli(
        "a column of zeros starts with a logit of −∞ (M16)",
        ("Bernoulli.start", "xp.where(mean < 0.01, xp.zeros_like(mean) + 0.01, mean)", "mean"),
    ),
    # ---- categorical
    categorical(
        "the gradient of the softmax forgets Σ_j",
        ("Categorical.backward", "dlog_pi - xp.exp(log_pi) * xp.concat(total, axis=2)", "dlog_pi"),
        first=(GRADIENTS,),
    ),
    categorical("a missing category costs", ("Categorical.forward", "x if mask is None else x * mask", "x")),
    categorical(
        "a category is drawn one too late",
        ("Categorical.sample", "float(i <= j)", "float(i < j)"),
        first=(MORE,),
    ),
    categorical(
        "noise above all cumulated sums leaves no category",
        ("Categorical.sample", "(noise[..., d:d + 1] >= cumulated) & (rest > 0)",
         "noise[..., d:d + 1] >= cumulated"),
        first=(MORE,),
    ),
    categorical(
        "all variables share one softmax",
        ("Categorical.log_pi", "[log_softmax(f[..., block]) for block in self.blocks()]", "[log_softmax(f)]"),
    ),
    # ---- Poisson
    poisson(
        "the Poisson forgets log x!",
        ("Poisson.forward", "log_poisson_peak(x) + math.log(self.unit) - below_peak",
         "log_poisson_peak(x) + math.log(self.unit) - below_peak + log_factorial(x)"),
    ),
    poisson(
        "counts in other units forget the units' volume",
        ("Poisson.forward", "log_poisson_peak(x) + math.log(self.unit) - below_peak",
         "log_poisson_peak(x) - below_peak"),
        first=(MORE,),
    ),
    poisson(
        "beyond the bend the gradient goes on as before it",
        ("Poisson.backward", "x * log_slope - slope", "x - slope"),
        first=(MORE,),
    ),
    poisson(
        "the rate is not bent: it overflows",
        ("Poisson.rate", "(xp.minimum(f, MOST_LOG_RATE), xp.maximum(f - MOST_LOG_RATE, 0))", "(f, 0 * f)"),
        first=(MORE,),
    ),
    poisson(
        "the gradient of the rate is the rate's own",
        ("Poisson.backward", "x * log_slope - slope", "x * log_slope - 1"),
        first=(GRADIENTS,),
    ),
    poisson(
        "all pairs forget log x!",
        ("Poisson.cross", "log_factorial(x) - math.log(self.unit)", "-math.log(self.unit) * xp.ones_like(x)"),
    ),
    poisson(
        "the mean is in counts, whatever the unit",
        ("Poisson.mean", "self.rate(f)[0] / self.unit", "self.rate(f)[0]"),
        first=(MORE,),
    ),
    poisson(
        "the unit of counts is their standard deviation",
        ("Poisson.standard_units", "variance + mean * mean", "variance"),
        first=(MORE,),
    ),
    # ---- Student-t
    student_t(
        "the exponent has ν where ν + 1 belongs, in value and gradient alike",
        ("StudentT.forward", "0.5 * (self.dof + 1) * log1p(u2 / self.dof)",
         "0.5 * self.dof * log1p(u2 / self.dof)"),
        ("StudentT.weight", "(self.dof + 1) / (self.dof + u2)", "self.dof / (self.dof + u2)"),
    ),
    student_t(
        "an outlier weighs as much as under a Gaussian",
        ("StudentT.backward", "self.weight(u2)", "1 + 0 * u2"),
        first=(GRADIENTS,),
    ),
    student_t(
        "log ψ costs twice under Student's t",
        ("StudentT.forward",
         "self.log_constant() - 0.5 * log_psi - 0.5 * (self.dof + 1) * log1p(u2 / self.dof)",
         "self.log_constant() - log_psi - 0.5 * (self.dof + 1) * log1p(u2 / self.dof)"),
    ),
    student_t(
        "the constant of many degrees of freedom loses a term",
        ("StudentT.log_constant", "-0.5 * math.log(2 * math.pi) - w / 8 + w ** 3 / 192 - w ** 5 / 640",
         "-0.5 * math.log(2 * math.pi) - w / 8"),
        first=(CONSTANT,),
    ),
    student_t(
        "the scale starts at the variance",
        ("StudentT.start", "variance * (1 - 2 / self.dof)", "variance"),
        first=(MORE,),
    ),
    student_t(
        "the M-step's squares are not weighted",
        ("StudentT.squares", "self.weight(r2 * xp.exp(-params['log_psi'])) * r2", "r2"),
        first=(MORE,),
    ),
    # ---- mixed
    mixed(
        "the parts' columns are not put back in their places",
        ("Mixed.gather", "sorted(range(len(order)), key=order.__getitem__)", "list(order)"),
    ),
    mixed(
        "every part is given the mask of the first columns",
        ("Mixed.forward", "take(mask, columns)", "None if mask is None else mask[:, :len(columns)]"),
    ),
    mixed("the last part's log p is that of all", ("Mixed.forward", "log_p + part", "part")),
    # ---- special functions
    special(
        "σ(x) is wrong below 0",
        ("sigmoid", "xp.where(x < 0, small, xp.ones_like(x))", "xp.ones_like(x)"),
    ),
    special("log(1 + exp x) has |x| where max(x, 0) belongs", ("softplus", "xp.maximum(x, 0)", "xp.abs(x)")),
    special(
        "the softmax does not take the largest logit off (M16)",
        ("log_softmax", "logits - xp.max(logits, axis=-1, keepdims=True)", "logits"),
    ),
    special(
        "log Σ exp leaves log space",
        ("log_sum_exp", "xp.where(xp.isfinite(top), top, xp.zeros_like(top))",
         "0 * xp.where(xp.isfinite(top), top, xp.zeros_like(top))"),
        ("log_sum_exp", "top + xp.log(total)", "xp.log(total)"),
    ),
    special("log 8! is log 7!", ("log_factorial", "range(2, 9)", "range(2, 8)"), first=(MORE,)),
    special("Stirling's series has +1/360", ("_stirling", "-1 / 360", "1 / 360"), first=(MORE,)),
    special(
        "a count is drawn one too high where the inverse rounds up",
        ("poisson_quantile", "np.where(special.pdtr(below, few) >= u, below, k)", "k"),
        first=(MORE,),
    ),
    special("log 2π is log π", ("", "math.log(2 * math.pi)", "math.log(math.pi)")),
]
