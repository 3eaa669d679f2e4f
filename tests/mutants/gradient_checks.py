"""Faults of the gradient checker, which would pass over those of everything else."""

from .planting import faults_in

check = faults_in("gradcheck/check.py", "test_gradcheck.py")
differences = faults_in("gradcheck/differences.py", "test_gradcheck.py")
diagnoses = faults_in("gradcheck/diagnoses.py", "test_gradcheck.py")
evidence = faults_in("gradcheck/evidence.py", "test_gradcheck.py", "test_gradcheck_terms.py")
terms = faults_in("gradcheck/terms.py", "test_gradcheck_terms.py")
variants = faults_in("gradcheck/variants.py", "test_gradcheck_terms.py")
answers = faults_in("gradcheck/answers.py", "test_gradcheck_values.py", "test_gradcheck_terms.py")
values = faults_in("gradcheck/values.py", "test_gradcheck_values.py")
minima = faults_in("gradcheck/minima.py", "test_gradcheck_minima.py")
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
    answers(
        "gradients are matched by their order, whatever their names",
        ("beside", "beside(branch, found.get(name, absent), below)",
         "beside(branch, list(found.values())[list(names).index(name)], below)"),
        first=("test_gradcheck.py::test_keys_are_matched_by_name_and_may_be_numbers",),
    ),
    answers(
        "float32 is let in as an answer (M14)",
        ("_of_dtype", "dtype == np.float64 if kind == 'f' else dtype.kind in ('iu' if kind == 'i' else kind)",
         "dtype.kind == 'f' if kind == 'f' else dtype.kind in ('iu' if kind == 'i' else kind)"),
    ),
    answers(
        "(5, 1) is let in for (5, 3)",
        ("_of_shape", "got == shape", "all(g in (1, n) for g, n in zip(got, shape))"),
    ),
    terms("terms need not add up to f", ("terms_of", "1e-9 * size", "1e9 * size")),
    terms(
        "the slope of a term goes to one side",
        ("Terms.summands", "(values_of(name, self.functions[name], probe.p) - below) / (high - low)",
         "(values_of(name, self.functions[name], probe.p) - below) / (high - here)"),
    ),
    terms(
        "one of two mistakes is all that is looked for",
        ("within_terms", "_in_two(e, whole, found)", "''"),
    ),
    variants(
        "a factor that is left out and one too many are exchanged in words",
        ("_inputs", "Variant(f'lacks the factor {name}', chain, total(1 / v))",
         "Variant(f'lacks the factor {name}', chain, total(v))"),
    ),
    variants(
        "what was forgotten under the sum over samples is not told",
        ("_side_by_side", "range(depth, -1, -1)", "range(0, -1, -1)"),
    ),
    diagnoses(
        "a forgotten bias is the −1 of s² − 1",
        ("of_other_params",
         "e.explained_by(e.probe.slopes_where(e.place, place, factor).reshape(e.p.shape))", "False"),
        first=("test_gradcheck_terms.py::test_a_wrong_gradient_of_Q_is_called_by_its_name",),
    ),
    values("a value may be off by a hundredth", ("check_value", "1e-9", "1e-2")),
    values(
        "½ log 2π is not recognised (M4)",
        ("_meaning_of_offset", "offset / HALF_LOG_2PI", "offset / (2 * HALF_LOG_2PI)"),
    ),
    values("NaN is right wherever it stands", ("value_error", "np.where(finite, off, np.inf)", "off")),
    minima(
        "a saddle passes for a minimum",
        ("_bends_down", "bends[0] >= -noise", "bends[-1] >= -noise"),
    ),
    minima(
        "what curvature says of the slope is not asked",
        ("_row", "np.maximum(np.abs(curvature), here.curvature_of_noise)", "1e9"),
    ),
    minima(
        "second differences along two axes are those along one",
        ("Place.bends", "(both - alone) / (2 * STEP**2)", "0.0 * (both - alone)"),
    ),
    check(
        "kinks are drawn away though the gradient is wrong",
        ("check", "probe.on_kink(place.start + j, abs(a.flat[j] - n.flat[j]))", "True"),
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
    evidence(
        "2 and ½ are exchanged in words",
        ("readings", "(2, 'a ½ is forgotten, or a term counted twice')",
         "(1 / 2, 'a ½ is forgotten, or a term counted twice')"),
    ),
    evidence(
        "sum and mean are exchanged in words (M2)",
        ("readings", "f'the factor is {name}: a sum stands where a mean belongs'",
         "f'the factor is {name}: a mean stands where a sum belongs'"),
    ),
    part(
        "the cotangent is all ones (B15)",
        ("cotangent", "signed(rng, shape, 0.5, 1.5)", "0 * signed(rng, shape, 0.5, 1.5) + 1"),
    ),
]
