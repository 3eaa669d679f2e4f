"""Faults of rotations to simple structure, of the axes of z, and of tests of fit."""

from .planting import faults_in

rotation = faults_in("inference/simple_structure.py", "test_rotation.py")
axes = faults_in(
    "inference/latent_axes.py",
    "test_training.py::test_6_10_the_axes_of_z_change_no_gradient_s_truth_and_no_optimum",
)
scores = faults_in("inference/linear_gaussian.py", "test_rotation.py")
fit = faults_in("evaluation/goodness.py", "test_summary.py")

MUTANTS = [
    rotation(
        "varimax turns by half its angle",
        ("varimax", "math.atan2(imaginary, real) / 4", "math.atan2(imaginary, real) / 8"),
    ),
    rotation(
        "varimax turns to the least criterion",
        ("varimax", "math.atan2(imaginary, real) / 4", "math.atan2(-imaginary, -real) / 4"),
    ),
    rotation(
        "varimax forgets the means of the squares",
        ("varimax", "float(xp.sum(u * u - v * v)) - (U * U - V * V) / D", "float(xp.sum(u * u - v * v))"),
    ),
    rotation("varimax ends after a sweep", ("", "SWEEPS = 1000", "SWEEPS = 1")),
    rotation("promax aims at third powers", ("", "POWER = 4", "POWER = 3")),
    rotation("promax's factors are not of variance 1", ("promax", "T @ (G * scale)", "T @ G")),
    rotation("the factors' correlations are those of the loadings", ("rotate", "back @ back.T", "T.T @ T")),
    rotation("scores are turned as loadings are", ("Rotation.scores", "z @ back.T", "z @ self.T")),
    rotation(
        "loadings are rotated in the units of x",
        ("rotate", "(W / xp.sqrt(communality + psi)).T", "W.T"),
    ),
    scores(
        "Bartlett's scores have the regression's shrinkage",
        ("bartlett", "mean[:, None, :] @ M @ covariance", "mean[:, None, :] @ M @ xp.linalg.inv(M)"),
    ),
    axes(
        "the gradient is not turned back",
        ("LatentAxes.turned.searched", "self._turned(grads, R.T)", "self._turned(grads, R)"),
    ),
    fit(
        "the statistic is not Bartlett's",
        ("fit_test", "n_cases - 1 - (2 * D + 5) / 6 - 2 * K / 3", "n_cases"),
    ),
    fit(
        "the free rotation counts as parameters",
        ("free_parameters", "D * K - K * (K - 1) // 2 + n_noise + D", "D * K + n_noise + D"),
    ),
    fit(
        "the degrees of freedom are off by one",
        ("degrees_of_freedom", "(D - K) ** 2 - D - K", "(D - K) ** 2 - D - K + 2"),
    ),
    fit(
        "the discrepancy is the nlml's, not twice it",
        ("fit_test", "2 * (nlml - saturated_nlml(S))", "nlml - saturated_nlml(S)"),
    ),
    fit(
        "BIC is AIC",
        ("information_criteria", "deviance + n_parameters * math.log(n_cases)",
         "deviance + 2 * n_parameters"),
    ),
]
