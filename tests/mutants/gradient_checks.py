"""Faults of the gradient checker, which would pass over those of everything else."""

from .planting import faults_in

check = faults_in("gradcheck/check.py", "test_gradcheck.py")
differences = faults_in("gradcheck/differences.py", "test_gradcheck.py")
diagnoses = faults_in("gradcheck/diagnoses.py", "test_gradcheck.py")
part = faults_in("gradcheck/part.py", "test_gradcheck.py", "test_own_parts.py")

MUTANTS = [
    check("a gradient may be off by a hundredth (B14)", ("check", "1e-07", "1e-2")),
    check(
        "one index of a leaf is looked at (B14)",
        ("check", "(error >= tolerance) & ~kink",
         "(error >= tolerance) & ~kink & (np.arange(error.size).reshape(error.shape) == 0)"),
    ),
    check(
        "float32 is let in (M14)",
        ("_require_float64", "leaf.dtype != np.float64", "leaf.dtype.kind != 'f'"),
    ),
    check(
        "noise that is redrawn goes unnoticed (M9, M14)",
        ("_redrawn", "not np.allclose(one, two, rtol=1e-12, atol=1e-14, equal_nan=True)", "False"),
    ),
    check(
        "what f writes into its parameters goes unnoticed",
        ("check", "not np.array_equal(flat, before)", "False"),
    ),
    check(
        "gradients are matched by their order, whatever their names",
        ("_vector", "tree.flatten(grads, params)", "tree.flatten(grads)"),
    ),
    check(
        "kinks are drawn away though the gradient is wrong",
        ("check", "probe.on_kink(start + j, abs(a.flat[j] - n.flat[j]))", "True"),
    ),
    check("a mistake that all leaves share is not said", ("_in_common", "len(rows) < 2", "len(rows) < 2000")),
    differences(
        "differences go to one side alone",
        ("Probe.slopes", "np.divide(self._beside(i, high) - self.value, high - here)",
         "np.divide(self.value - self._beside(i, low), here - low)"),
    ),
    differences(
        "the step is the same for large parameters",
        ("Probe.slopes", "self.h * max(1, abs(here)) / shrink", "self.h / shrink"),
    ),
    differences(
        "the step is divided by what was asked, not by what rounding left",
        ("Probe.slopes", "np.divide(self._beside(i, high) - self.value, high - here)",
         "np.divide(self._beside(i, high) - self.value, step)"),
    ),
    differences("an entry is not put back after its step", ("Probe._beside", "self.flat[i] = here", "pass")),
    differences(
        "errors are relative to the sum of the two gradients",
        ("relative_error", "np.abs(a - n) / np.where(scale > 0, scale, 1.0)",
         "np.abs(a - n) / np.where(scale > 0, 2 * scale, 1.0)"),
    ),
    differences("a gradient that is no number is right", ("relative_error", "np.inf", "0.0")),
    differences(
        "steps are joined with the weights of halves",
        ("Probe.refined", "(10 * central[:-1] - central[1:]) / 9", "(4 * central[:-1] - central[1:]) / 3"),
        first=("test_derivations.py::test_8_6_two_steps_joined_leave_an_error_of_the_fourth_order",),
    ),
    diagnoses("a leaf of zeros is right (B15)", ("explain", "('?', nothing)", "('ok', nothing)")),
    diagnoses("a sign that is flipped is not told", ("sign_flipped", "e.explained_by(-e.numeric)", "False")),
    diagnoses(
        "a transpose is not told",
        ("transposed", "swapped.shape == e.p.shape and e.explained_by(swapped)", "False"),
    ),
    diagnoses(
        "2 and ½ are exchanged in words",
        ("meaning_of_factor", "(2, 'a ½ is forgotten, or a term counted twice')",
         "(1 / 2, 'a ½ is forgotten, or a term counted twice')"),
    ),
    diagnoses(
        "sum and mean are exchanged in words (M2)",
        ("meaning_of_factor", "f'the factor is {name}: a sum stands where a mean belongs'",
         "f'the factor is {name}: a mean stands where a sum belongs'"),
    ),
    part(
        "the cotangent is all ones (B15)",
        ("cotangent", "signed(rng, shape, 0.5, 1.5)", "0 * signed(rng, shape, 0.5, 1.5) + 1"),
    ),
]
