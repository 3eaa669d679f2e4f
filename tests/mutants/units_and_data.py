"""Faults of units, of columns and what is missing of them, and of the data sets."""

from .planting import faults_in

UNITS = "test_estimators.py::test_units_shift_Q_by_their_volume"
ORIGIN = "test_estimators.py::test_nothing_depends_on_where_the_origin_is"
FOLDED = "test_derivations.py::test_6_5_folding_units_changes_q_by_the_log_volume"
AXES = "test_derivations.py::test_6_7_principal_axes_change_the_weights_and_not_phi"
GAPS = "test_derivations.py::test_6_5_with_missing_entries_only_what_was_observed_has_a_volume"
units = faults_in("doors/units.py", FOLDED, GAPS, UNITS)
columns = faults_in("doors/columns.py", "test_columns.py", "test_missing.py")
rows = faults_in("arrays/rows.py", "test_components.py")
arrays = faults_in("arrays/backend.py", "test_backend_tree.py")
tree = faults_in("arrays/tree.py", "test_backend_tree.py")
observed = faults_in("arrays/observed.py", "test_missing.py")
binarise = faults_in("datasets/binarise.py", "test_datasets.py")
images = faults_in("datasets/images.py", "test_datasets.py")
generated = faults_in("datasets/generated.py", "test_datasets.py")
dataset = faults_in("datasets/dataset.py", "test_datasets.py")

MUTANTS = [
    units(
        "Q in the data's units forgets their volume (M8)",
        ("Standardised.path", "np.array(values) + self.units.log_volume", "np.array(values)"),
        first=(UNITS,),
    ),
    units(
        "the units' volume is subtracted",
        ("StandardUnits.log_volume_of", "float(xp.sum(share * xp.log(self.scale)))",
         "-float(xp.sum(share * xp.log(self.scale)))"),
    ),
    units(
        "missing entries have a volume",
        ("StandardUnits.log_volume_of", "float(xp.sum(share * xp.log(self.scale)))",
         "float(xp.sum(xp.log(self.scale)))"),
        first=(GAPS,),
    ),
    units(
        "the decoder is folded without its shift",
        ("StandardUnits.fold_decoder", "p['b'] * self.f_scale + self.f_shift", "p['b'] * self.f_scale"),
    ),
    units(
        "the decoder's bias is not scaled",
        ("StandardUnits.fold_decoder", "p['b'] * self.f_scale + self.f_shift", "p['b'] + self.f_shift"),
    ),
    units(
        "the encoder is folded with the scale where its inverse belongs",
        ("fold_encoder.fold", "p['W'][:D, :] / scale[:, None]", "p['W'][:D, :] * scale[:, None]"),
        first=(ORIGIN,),
    ),
    units(
        "the encoder is folded without its shift",
        ("fold_encoder.fold", "p['b'] - shift @ W", "p['b']"),
        first=(ORIGIN,),
    ),
    units(
        "the variance of a column is over all cases, seen or not",
        ("spread", "squares / count", "squares / n_cases"),
        first=("test_missing.py::test_a_change_of_units_changes_nothing", "test_missing.py"),
    ),
    units(
        "the mean of a column counts what is missing as 0",
        ("spread", "total / count", "total / n_cases"),
        first=("test_missing.py",),
    ),
    units(
        "the variance in standard units is divided by the scale",
        ("StandardUnits", "variance / (self.scale * self.scale)", "variance / self.scale"),
        first=(UNITS,),
    ),
    units(
        "what stands for a missing entry reaches the network",
        ("StandardUnits.to_standard", "standard * mask", "standard"),
        first=(GAPS, "test_missing.py"),
    ),
    units(
        "the floor of Ψ is in the data's own units while networks are trained",
        ("Standardised.lower", "self.units.variance", "self.units.column_variance"),
        first=(
            "test_estimators.py::test_a_duplicated_column_is_a_heywood_case_with_a_name",
            "test_estimators.py::test_the_floor_is_relative_and_adjustable",
            UNITS,
        ),
    ),
    units(
        "the origin is taken off the bias twice",
        ("centred.move", "p['b'] - f_shift", "p['b'] - 2 * f_shift"),
        first=(ORIGIN,),
    ),
    units(
        "the rounding of the parameters is forgotten",
        ("_whole", "double(kept) + rest", "double(kept)"),
        first=("test_precision.py", ORIGIN),
    ),
    units(
        "the principal axes have standard deviations for variances",
        ("PrincipalAxes.__init__", "np.sqrt(values[seen] * values[-1])", "values[seen] * values[-1]"),
        first=(AXES,),
    ),
    units(
        "the principal axes' weights are folded by the inverse",
        ("PrincipalAxes.fold_encoder.fold", "self.A @ p['W']", "self.A_inverse.T @ p['W']"),
        first=(AXES,),
    ),
    units(
        "the principal axes forget the mean",
        ("PrincipalAxes.fold_encoder.fold", "p['b'] - self.mean @ W", "p['b']"),
        first=(AXES,),
    ),
    units(
        "the gradient along principal axes forgets the mean",
        ("PrincipalAxes.turned.turn", "self.A.T @ (d['W'] - self.mean[:, None] * d['b'])",
         "self.A.T @ d['W']"),
        first=(AXES, "test_published.py::test_linear_vae_reaches_ppca_of_digits"),
    ),
    units(
        "directions without spread are searched",
        ("PrincipalAxes.__init__", "values > len(values) * np.finfo('float64').eps * values[-1]",
         "values > -np.inf"),
        first=("test_derivations.py::test_6_7_data_without_any_spread_have_no_axes", AXES),
    ),
    units(
        "Ψ starts at the whole variance whatever start_noise says",
        ("start_theta", "start_noise * units.variance", "units.variance"),
        first=("test_likelihoods.py", "test_estimators.py::test_no_parameter_falls_on_deaf_ears"),
    ),
    # ---- columns and what is missing
    columns(
        "the mask holds 1 where nothing was observed",
        ("Columns.complete", "~np.isnan(v)", "np.isnan(v)"),
    ),
    columns(
        "a missing category is one of its own",
        ("Columns.encode", "np.where(unseen, np.nan, hot)", "np.where(unseen, 0.0, hot)"),
    ),
    columns("an unknown category is a row of zeros", ("Columns.encode", "new.any()", "False")),
    columns(
        "the least probable category is decoded",
        ("Columns.decode", "np.argmax(column, axis=-1)", "np.argmin(column, axis=-1)"),
    ),
    columns(
        "constants come back as zeros",
        ("Columns.decode", "np.full((*v.shape[:-1], 1), self.dropped[d])", "np.zeros((*v.shape[:-1], 1))"),
    ),
    columns(
        "data cases are scaled before the origin is taken off",
        ("Cases._in_units", "(v - self.origin) / self.scale", "v / self.scale - self.origin"),
    ),
    columns(
        "the origin is taken off after rounding",
        ("Cases._in_units", "self.backend.asarray((v - self.origin) / self.scale)",
         "(self.backend.asarray(v) - self.backend.asarray(self.origin)) / self.backend.asarray(self.scale)"),
        first=("test_estimators.py::test_a_fit_far_from_the_origin_is_the_fit_there",),
    ),
    columns(
        "blocks of a table all begin with row 0",
        ("Table.__getitem__", "rows.start or 0 if isinstance(rows, slice) else 0", "0"),
        first=("test_blocks.py::test_an_unknown_category_is_named_by_row",),
    ),
    observed(
        "the recognition network does not see the mask",
        ("network_input", "namespace(x).concat([x, mask], axis=1)",
         "namespace(x).concat([x, 0 * mask + 1], axis=1)"),
    ),
    observed(
        "rows of incomplete data are taken with the first rows' mask",
        ("Observed.__getitem__", "self.mask[rows]", "self.mask[:len(self.x[rows])]"),
        first=("test_components.py::test_observed_data_cases_are_taken_row_by_row_as_an_array_is",),
    ),
    # ---- arrays
    rows(
        "the last block is left out where it is small",
        ("slices", "range(0, n_cases, size)",
         "range(0, n_cases - size + 1, size) if n_cases > size else range(0, n_cases, size)"),
        first=("test_blocks.py",),
    ),
    rows(
        "rows are put back in the order of their values",
        ("put_rows", "place[row] = x.shape[0] + i", "place[row] = x.shape[0] + len(rows) - 1 - i"),
    ),
    rows(
        "draws of a minibatch are those of the first cases",
        ("take_draws", "namespace(eta).take(eta, index(rows, eta), axis=1)", "eta[:, :len(rows), :]"),
    ),
    rows(
        "a column's variance has the divisor N − 1",
        ("mean_and_variance", "sums(lambda b: (b - mean) ** 2) / count",
         "sums(lambda b: (b - mean) ** 2) / (count - 1)"),
        first=("test_mixture.py", "test_estimators.py::test_the_floor_is_relative_and_adjustable"),
    ),
    rows(
        "a column's mean forgets its weights",
        ("mean_and_variance", "values if weights is None else weights[rows, None] * values", "values"),
        first=("test_estimators.py::test_integer_weights_are_repeated_rows", "test_probe.py"),
    ),
    arrays("arrays of two libraries are mixed (M17)", ("namespace", "len(found) > 1", "False")),
    tree(
        "leaves are told apart by their order, not by their keys",
        ("map", "{key: map(function, tree[key], *(o[key] for o in others)) for key in tree}",
         "{key: map(function, leaf, *(list(o.values())[i] for o in others)) for i, (key, leaf) in "
         "enumerate(tree.items())}"),
    ),
    tree(
        "a gradient of another shape is broadcast",
        ("write", "tree.shape != into.shape", "False"),
        first=("test_own_parts.py::test_a_gradient_of_another_shape_is_not_broadcast",),
    ),
    tree(
        "leaves are views into the vector, one number late",
        ("views.view", "flat[start:stop]", "flat[len(flat) - stop:len(flat) - start]"),
    ),
    # ---- data sets
    binarise(
        "white turns out black once in 256 (M7)",
        ("binarise", "rng.integers(0, 255, x.shape, dtype=np.uint8)",
         "rng.integers(0, 256, x.shape, dtype=np.uint8)"),
    ),
    binarise(
        "fresh pixels are 1 with the probability of 0 (M7)",
        ("binarise", "rng.integers(0, 255, x.shape, dtype=np.uint8) < x",
         "rng.integers(0, 255, x.shape, dtype=np.uint8) >= x"),
    ),
    binarise(
        "fixed pixels are thresholded (M7)",
        ("binarise", "generator(rng, 'rng').random(x.shape) < grey", "0.5 < grey"),
    ),
    binarise("a grey value of one half is white", ("binarise", "x > 0.5", "x >= 0.5")),
    binarise(
        "the grey value of a byte is x/256",
        ("binarise", "x / 255 if x.dtype == np.uint8 else x", "x / 256 if x.dtype == np.uint8 else x"),
    ),
    images(
        "bits per pixel are nats (B5)",
        ("bits_per_dimension", "(nats / n_visible + math.log(levels)) / math.log(2)",
         "nats / n_visible + math.log(levels)"),
    ),
    images(
        "bits per pixel forget the grey levels (B5)",
        ("bits_per_dimension", "nats / n_visible + math.log(levels)", "nats / n_visible"),
    ),
    dataset("the parts of a split overlap by a case", ("split", "order[n_test:]", "order[n_test - 1:]")),
    dataset(
        "a split is not shuffled",
        ("split", "generator(seed, 'seed').permutation(N)",
         "np.sort(generator(seed, 'seed').permutation(N))"),
    ),
    generated(
        "made data have the variance for their noise (M1)",
        ("_generate", "np.sqrt(psi) * backend.normal(rng, f.shape)", "psi * backend.normal(rng, f.shape)"),
    ),
    generated(
        "the spiral's gradient turns the other way",
        ("Spiral.backward", "(a * f1 - w * f2) * df1 + (a * f2 + w * f1) * df2",
         "(a * f1 + w * f2) * df1 + (a * f2 - w * f1) * df2"),
    ),
    generated(
        "the bent sheet's gradient forgets the radius' height",
        ("BentSheet.backward", "cos * df1 + sin * df3", "cos * df1"),
    ),
    generated(
        "the linear truth's loadings are not in units of the noise",
        ("linear_gaussian", "np.sqrt(n_visible * signal) * directions * np.sqrt(psi)",
         "np.sqrt(n_visible * signal) * directions"),
    ),
]
