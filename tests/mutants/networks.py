"""Faults of the layers, the optimisers, the training loop, and of when a path has come to rest."""

from .planting import faults_in

layers = faults_in("networks/layers.py", "test_gradients.py", "test_components.py")
values = faults_in("networks/layers.py", "test_components.py")
optimizers = faults_in("networks/optimizers.py", "test_optimizers.py")
convergence = faults_in(
    "networks/convergence.py", "test_derivations.py::test_6_6_the_rest_of_a_geometric_path_is_exact",
    "test_derivations.py::test_6_6_a_path_that_rises_is_not_at_rest",
    "test_estimators.py::test_one_huge_step_is_not_taken_for_the_end",
)
schedules = faults_in("networks/schedules.py", "test_schedules.py")
training = faults_in(
    "networks/training.py", "test_optimizers.py", "test_trace.py::test_two_steps_are_two_epochs_of_training",
    "test_estimators.py::test_full_batch_path", "test_estimators.py::test_autoencoder_goes_downhill",
    "test_estimators.py::test_progress_is_reported_in_order_and_in_the_data_s_units",
    "test_estimators.py::test_no_parameter_falls_on_deaf_ears",
)

MUTANTS = [
    schedules(
        "every stage begins an epoch late", ("Stages.begin", "1 + (3**i - 1) // 2", "2 + (3**i - 1) // 2"),
    ),
    schedules(
        "the stages fall to a tenth in eight steps", ("Stages.__call__", "10 ** (-i / 7)", "10 ** (-i / 8)"),
    ),
    schedules(
        "the cosine begins an epoch late",
        ("Cosine.__call__", "min((epoch - 1) / self.epochs, 1.0)", "min(epoch / self.epochs, 1.0)"),
    ),
    schedules(
        "a warm-up goes on beyond its end",
        ("WarmUp.__call__", "min(epoch / self.epochs, 1.0)", "epoch / self.epochs"),
    ),
    training(
        "the rate of an epoch is that of the one before",
        ("minibatches", "rate(len(run.path) + 1)", "rate(len(run.path))"), first=("test_schedules.py",),
    ),
    layers(
        "the bias is left out",
        ("Linear.forward", "affine(x, params['W'], params['b'])", "x @ params['W']"),
    ),
    layers(
        "the bias counts twice, and its gradient too",
        ("Linear.forward", "affine(x, params['W'], params['b'])", "affine(x, params['W'], 2 * params['b'])"),
        ("Linear.backward", "sum_first(dy)", "2 * sum_first(dy)"),
        first=("test_components.py",),
    ),
    layers(
        "dW has the entries of its transpose",
        ("Linear.backward", "x.T @ dy", "(dy.T @ x).reshape(x.shape[1], dy.shape[1])"),
    ),
    layers(
        "db is a mean over the rows (M2)",
        ("Linear.backward", "sum_first(dy)", "sum_first(dy) / dy.shape[0]"),
    ),
    layers("dx has the other sign", ("Linear.backward", "dy @ params['W'].T", "-dy @ params['W'].T")),
    layers("tanh′ is 1 − y", ("Tanh.backward", "1 - y * y", "1 - y")),
    layers("σ′ is y", ("Sigmoid.backward", "dy * y * (1 - y)", "dy * y")),
    layers("softplus′ is σ(−x)", ("Softplus.backward", "sigmoid(x)", "sigmoid(-x)")),
    layers("ReLU has a slope at its kink", ("ReLU.backward", "x > 0", "x >= 0")),
    layers(
        "ReLU lets everything through on the way back",
        ("ReLU.backward", "dy * xp.astype(x > 0, dy.dtype)", "dy"),
    ),
    layers("of parallel networks the last alone moves x", ("Parallel.backward", "dx + dx_b", "dx_b")),
    layers(
        "the second layer hands no dx on",
        ("Sequential.backward", "need_dx or i > 0", "need_dx or i > 1"),
    ),
    values(
        "W starts with the standard deviation 1/n",
        ("Linear.init", "self.gain / self.n_in ** 0.5", "self.gain / self.n_in"),
    ),
    values(
        "a ReLU network starts as if nothing were cut off",
        ("mlp", "2 ** 0.5 if isinstance(bend, ReLU) else 1.0", "1.0"),
    ),
    # ---- optimisers
    optimizers(
        "SGD climbs",
        ("SGD.step", "v -= self.learning_rate * grad", "v += self.learning_rate * grad"),
    ),
    optimizers(
        "SGD's gradient is damped with its momentum",
        ("SGD.step", "v -= self.learning_rate * grad",
         "v -= self.learning_rate * (1 - self.momentum) * grad"),
    ),
    optimizers(
        "Adam has ε inside the root (B11)",
        ("adam", "xp.sqrt(v_hat) + epsilon", "xp.sqrt(v_hat + epsilon)"),
        ("adam_in_place", "root += epsilon * correction", "root = xp.sqrt(v + epsilon * correction ** 2)"),
    ),
    optimizers(
        "Adam leaves the bias of the first moment in",
        ("adam", "m / (1 - beta1 ** t)", "m"),
        ("adam_in_place", "step *= alpha * correction / (1 - beta1 ** t)", "step *= alpha * correction"),
    ),
    optimizers(
        "Adam leaves the bias of the second moment in",
        ("adam", "v / (1 - beta2 ** t)", "v"),
        ("adam_in_place", "correction = (1 - beta2 ** t) ** 0.5", "correction = 1.0"),
    ),
    optimizers(
        "Adam's second moment starts at one (B11)",
        ("Adam.init", "{'m': xp.zeros_like(flat), 'v': xp.zeros_like(flat), 't': 0}",
         "{'m': xp.zeros_like(flat), 'v': xp.ones_like(flat), 't': 0}"),
    ),
    optimizers(
        "Adam's first step is its second",
        ("Adam.init", "{'m': xp.zeros_like(flat), 'v': xp.zeros_like(flat), 't': 0}",
         "{'m': xp.zeros_like(flat), 'v': xp.zeros_like(flat), 't': 1}"),
    ),
    optimizers("Adam's β₁ is 0.99 (B11)", ("Adam", "beta1: float = 0.9", "beta1: float = 0.99")),
    optimizers("Adam's β₂ is 0.99", ("Adam", "beta2: float = 0.999", "beta2: float = 0.99")),
    optimizers(
        "Adam in place averages gradients where squares belong",
        ("adam_in_place", "square = xp.square(g)", "square = xp.abs(g)"),
    ),
    optimizers(
        "L-BFGS says that it has converged at its limit",
        ("lbfgs", "result.success or (result.status != 1 and min(gains(), default=1) < 1)", "True"),
    ),
    optimizers(
        "L-BFGS goes through its bounds",
        ("lbfgs", "None if low is None else [(bound, None) for bound in low]", "None"),
    ),
    optimizers(
        "L-BFGS is not started again where it met a bound",
        ("lbfgs", "met_a_bound and result.success and not stopped", "False"),
        first=("test_optimizers.py", "test_facts.py::test_fact_3_all_routes_reach_one_optimum"),
    ),
    # ---- training
    convergence("what is left of a path is its last decrease", ("remaining", "d2 * d2 / (d1 - d2)", "d2")),
    convergence("a path that rises is at rest", ("remaining", "d2 < -1e-9 * (1 + abs(path[-1]))", "False")),
    convergence(
        "a path is at rest where its extrapolation is",
        ("settled", "remaining(path) < tol and path[-1 - max(1, len(path) // 4)] - path[-1] < tol",
         "remaining(path) < tol"),
        first=("test_estimators.py::test_one_huge_step_is_not_taken_for_the_end",),
    ),
    training(
        "no epoch looks at the last, smaller minibatch (B4)",
        ("minibatches", "range(0, n_cases, batch_size)", "range(0, n_cases - batch_size + 1, batch_size)"),
    ),
    training(
        "a smaller minibatch counts as a whole one",
        ("minibatches", "len(rows) / n_cases", "batch_size / n_cases"),
    ),
    training(
        "a minibatch holds one case (B2)",
        ("minibatches", "order[start:start + batch_size]", "order[start:start + 1]"),
    ),
    training(
        "minibatches are not shuffled (B11)",
        ("minibatches", "run.generators['shuffle'].permutation(n_cases)",
         "(run.generators['shuffle'].permutation(n_cases) >= 0).cumsum() - 1"),
    ),
    training(
        "training ends an epoch early",
        ("minibatches", "len(run.path) < epochs", "len(run.path) < epochs - 1"),
    ),
    training(
        "Adam goes through the floor of Ψ (M16)",
        ("minibatches", "xp.maximum(flat, flat_lower)", "flat"),
    ),
    training("every M-step forgets the optimiser's state", ("minibatches", "run.optimizer is None", "True")),
    training(
        "L-BFGS weighs every block alike",
        ("full_batch", "(rows.stop - rows.start) / of_all", "1 / len(blocks(n_cases, n_samples))"),
    ),
    training(
        "of a full batch the last block's gradient is that of all",
        ("full_batch", "grad_part if grad is None else grad + grad_part", "grad_part"),
    ),
    training(
        "an objective that is no number trains on to the epoch's end",
        ("minibatches", "is_on_host(value) and not math.isfinite(value)", "False"),
        first=("test_training.py::test_the_loop_stops_at_the_batch_and_gives_back_the_epoch_before",),
    ),
    training(
        "parameters that are no numbers train on",
        ("minibatches", "not sound", "False"),
        first=("test_training.py::test_the_loop_stops_at_the_batch_and_gives_back_the_epoch_before",),
    ),
    training(
        "what diverged is not undone",
        ("undone", "flat[...] = before", "pass"),
        first=("test_training.py::test_the_loop_stops_at_the_batch_and_gives_back_the_epoch_before",),
    ),
    training(
        "the last epoch is kept, not the best",
        ("Run.kept", "self.params if self.best is None else self.best.params", "self.params"),
        first=("test_training.py::test_patience_ends_training_and_the_best_is_kept",),
    ),
    training(
        "patience counts from the epoch before the best",
        ("exhausted", "len(run.held_out_path) - run.best.epoch",
         "len(run.held_out_path) - run.best.epoch + 1"),
        first=("test_training.py::test_patience_ends_training_and_the_best_is_kept",),
    ),
    training(
        "the highest held-out value is the best",
        ("HeldOut.measure", "value < (math.inf if run.best is None else run.best.value)",
         "value > (-math.inf if run.best is None else run.best.value)"),
        first=("test_training.py::test_patience_ends_training_and_the_best_is_kept",),
    ),
]
