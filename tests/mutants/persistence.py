"""Faults of what is kept: files of values, estimators in them, checkpoints, a comparison's folder."""

from .planting import faults_in

ANSWERS = "test_persistence.py::test_what_comes_back_answers_every_question_bit_for_bit"
HALVES = "test_checkpoint.py::test_ten_epochs_are_five_and_five_more"
values = faults_in("arrays/store.py", "test_persistence.py")
estimators = faults_in("routes/persistence.py", "test_persistence.py")
fits = faults_in("routes/checkpoint.py", HALVES, "test_checkpoint.py")
folders = faults_in("comparison/saved.py", "test_saved.py")
units = faults_in("doors/units.py", "test_persistence.py::test_a_model_changes_its_precision")
training = faults_in("networks/training.py", "test_checkpoint.py")
em = faults_in("inference/em.py", HALVES)
mixture = faults_in("routes/mixture.py", HALVES)

MUTANTS = [
    values(
        "an array is not held against its sum",
        ("_read_zip", "hashlib.sha256(content).hexdigest() != sums[name]", "False"),
        first=("test_persistence.py::test_an_array_that_was_written_anew_is_found",),
    ),
    values(
        "the metadata are not held against their sum",
        ("_read_zip", "hashlib.sha256(metadata).hexdigest().encode() != zipped.comment", "False"),
    ),
    values(
        "a file of the next version is read",
        ("_read_zip", "said['format'] > FORMAT", "said['format'] > FORMAT + 1"),
    ),
    values(
        "a packed file is unpacked",
        ("_read_zip", "declared > size or any(member.compress_type for member in zipped.infolist())",
         "declared > size * 10 ** 9"),
    ),
    values(
        "an array's size is what its header says",
        ("_array", "declared != len(data)", "False"),
    ),
    values(
        "arrays come back in another order of memory",
        ("_array", "'F' if fortran else 'C'", "'C'"),
        first=("test_persistence.py::test_an_array_comes_back_in_its_order_of_memory",),
    ),
    values(
        "a file is written over the old one",
        ("write", "open(part, 'xb')", "open(target, 'wb')"),
    ),
    values(
        "what was half written is left",
        ("_part_of", "part.unlink(missing_ok=True)", "pass"),
    ),
    values(
        "a tuple comes back as a list",
        ("_Encoder.encode", "{'tuple': self._all(value, path)}", "self._all(value, path)"),
    ),
    values(
        "parts of one's own are not asked for",
        ("read", "name not in own", "False"),
    ),
    values(
        "a class of one's own is taken for the package's",
        ("_Encoder._part", "'part' if cls in self.known else 'own part'", "'part'"),
    ),
    values(
        "a generator begins anew",
        ("_Decoder.random", "bits.state = state['state']", "pass"),
    ),
    values(
        "a seed forgets what it has spawned",
        ("_Encoder._random", "'entropy', 'spawn_key', 'pool_size', 'n_children_spawned'",
         "'entropy', 'spawn_key', 'pool_size'"),
    ),
    estimators(
        "a file may replace a method",
        ("restored", "not known.isidentifier() or hasattr(cls, known)", "not known.isidentifier()"),
    ),
    estimators(
        "the precision that is asked for is not heard",
        ("restored", "precision if dtype is None else dtype", "precision"),
    ),
    estimators(
        "the backend that is asked for is not heard",
        ("restored", "was if backend is None else backend", "was"),
    ),
    estimators(
        "a comm goes into the file",
        ("plain_parameters", "parameters['comm'] = None", "pass"),
    ),
    units(
        "what float32 had rounded off is lost on the way to float64",
        ("moved", "tree.map(_whole, kept, rest)", "tree.map(double, kept)"),
    ),
    fits(
        "the random generators begin anew",
        ("Checkpoint.lead_back", "generator.bit_generator.state = "
         "self.state.generators[name].bit_generator.state", "pass"),
    ),
    fits(
        "the optimiser's moments begin anew",
        ("Checkpoint.lead_back",
         "('params', 'optimizer', 'path', 'table', 'held_out_path', 'best', 'converged')",
         "('params', 'path', 'table', 'held_out_path', 'best', 'converged')"),
    ),
    fits(
        "φ begins anew",
        ("Checkpoint.lead_back",
         "('params', 'optimizer', 'path', 'table', 'held_out_path', 'best', 'converged')",
         "('params', 'optimizer', 'path', 'held_out_path', 'best', 'converged')"),
    ),
    fits(
        "the best held-out parameters are forgotten",
        ("Checkpoint.lead_back",
         "('params', 'optimizer', 'path', 'table', 'held_out_path', 'best', 'converged')",
         "('params', 'optimizer', 'path', 'table', 'held_out_path', 'converged')"),
    ),
    fits(
        "what is kept goes on changing",
        ("Checkpoint.kept", "copied(state)", "state"),
        first=("test_checkpoint.py::test_ctrl_c_in_the_midst_of_an_epoch_leaves_a_model_that_answers",),
    ),
    fits(
        "nothing is written until the end",
        ("Checkpoint.kept", "time.monotonic() >= self.pause_until", "False"),
        first=("test_checkpoint.py::test_a_process_that_is_killed_at_any_moment_leaves_a_file_that_goes_on",),
    ),
    fits(
        "the last epochs before Ctrl-C are not written",
        ("Checkpoint.kept", "if waiting:\n    with suppress(OSError):\n        write()", "pass"),
        first=("test_checkpoint.py::test_ctrl_c_leaves_the_last_whole_epoch",),
    ),
    fits(
        "other data are gone on with",
        ("_belongs", "asked | {name: mark_of_data(x) for name, x in data.items() if x is not None}", "asked"),
        first=("test_checkpoint.py::test_a_checkpoint_of_another_fit_is_refused_and_left_as_it_is",),
    ),
    fits(
        "other parameters are gone on with",
        ("_belongs", "name not in MAY_DIFFER", "name == 'the class'"),
        first=("test_checkpoint.py::test_a_checkpoint_of_another_fit_is_refused_and_left_as_it_is",),
    ),
    training(
        "patience waits for one epoch more",
        ("exhausted", "len(run.held_out_path) - run.best.epoch >= held_out.patience",
         "len(run.held_out_path) - run.best.epoch > held_out.patience"),
        first=("test_training.py",),
    ),
    training(
        "half an epoch is left in the parameters",
        ("undone", "flat[...] = before", "pass"),
        first=("test_checkpoint.py::test_ctrl_c_in_the_midst_of_an_epoch_leaves_a_model_that_answers",),
    ),
    em(
        "EM goes on with the last Q twice in its path",
        ("em", "begun.path[:-1]", "begun.path"),
    ),
    em(
        "EM goes on without the length of its steps",
        ("em", "begun.steps", "LongerSteps()"),
    ),
    mixture(
        "a mixture goes on with the last Q twice in its path",
        ("GaussianMixture.fit", "path[:-1]", "path"),
    ),
    folders(
        "a model in training is taken for a trained one",
        ("Folder.model",
         "(persistence.restored(file, values), values['trained']) if 'trained' in values else None",
         "(persistence.restored(file, values), values.get('trained', {}))"),
    ),
    folders(
        "another comparison is gone on with",
        ("Folder.begin", "asked.get(name) != there.get(name)", "False"),
    ),
    folders(
        "a folder that is in use is taken",
        ("Folder.begin",
         "self.path.exists() and any(not name.endswith('.part') for name in os.listdir(self.path))", "False"),
    ),
]
