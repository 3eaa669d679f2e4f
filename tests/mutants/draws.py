"""Faults of draws from the posterior, of multiple imputation, and of calibration by ranks."""

from .planting import faults_in

posterior = faults_in("inference/draws.py", "test_draws.py")
rows = faults_in("arrays/rows.py", "test_draws.py")
nodes = faults_in("posteriors/nodes.py", "test_draws.py")
questions = faults_in("routes/questions.py", "test_draws.py", "test_calibration.py")
calibration = faults_in("evaluation/calibration.py", "test_calibration.py")

MUTANTS = [
    # ---- z
    posterior(
        "draws have the posterior's precision for a covariance",
        ("exact", "family.closest(mean, M)", "family.closest(mean, namespace(x).linalg.inv(M))"),
    ),
    posterior(
        "draws take what stands for a missing entry for data",
        ("exact", "linear_gaussian.posterior(*parameters, *seen(double(x)))",
         "linear_gaussian.posterior(*parameters, seen(double(x))[0])"),
    ),
    posterior(
        "candidates are drawn whatever they weigh",
        ("importance", "resample(candidates, w, u)", "resample(candidates, xp.ones_like(w), u)"),
    ),
    posterior(
        "the effective sample size does not square the sum of the weights",
        ("importance", "xp.sum(w, axis=0) ** 2", "xp.sum(w, axis=0)"),
    ),
    rows(
        "a candidate without weight is drawn by u = 0",
        ("resample", "np.searchsorted(up_to[:, n], sought[:, n], side='right')",
         "np.searchsorted(up_to[:, n], sought[:, n], side='left')"),
    ),
    nodes(
        "all data cases draw the same numbers",
        ("own_generators", "(*seed.spawn_key, n)", "(*seed.spawn_key, 0)"),
    ),
    nodes(
        "what a data case draws hangs on its place in a block",
        ("own_generators", "(*seed.spawn_key, n)", "(*seed.spawn_key, n - rows.start)"),
    ),
    questions(
        "candidates come from a q that was not refined",
        ("LatentVariableModel._proposal", "self._refined(theta, cases, 20)", "self._phi(theta, cases)"),
    ),
    questions(
        "a few candidates that carry it all are not said",
        ("_warn_of_few_candidates", "~(size >= FEW_CANDIDATES)", "size < 0"),
    ),
    # ---- imputation
    questions(
        "an imputed entry lacks its noise",
        ("LatentVariableModel._imputations.filled", "likelihood.sample(theta['likelihood'], f, noise)",
         "likelihood.mean(theta['likelihood'], f)"),
    ),
    questions(
        "an imputed entry lies at the origin of centred units",
        ("LatentVariableModel._imputations.filled", "v.swapaxes(0, 1) + cases.origin", "v.swapaxes(0, 1)"),
    ),
    questions(
        "observed entries are drawn too",
        ("LatentVariableModel._imputations.filled", "np.where(np.isnan(x), whole, x)", "whole"),
    ),
    questions(
        "an entry's noise is that of its z",
        ("LatentVariableModel._imputations", "rng.spawn(2)", "rng.spawn(1) * 2"),
    ),
    # ---- calibration
    calibration("ranks are counted from above", ("ranks", "draws < z", "draws > z")),
    calibration(
        "flat ranks have the variance of a continuous number",
        ("calibration", "L * (L + 2) / 12", "L * L / 12"),
    ),
    calibration(
        "χ² has a degree of freedom for every bin",
        ("calibration", "special.chdtrc(B - 1, statistic)", "special.chdtrc(B, statistic)"),
    ),
    calibration("bins are as many as data cases", ("calibration", "N // LEAST_COUNT", "N")),
]
