"""All exercises of the course, by their names, in the order of the notebooks."""

from . import (
    amortisation, autoencoders, backpropagation, beyond, factor_analysis, jensen, ledger, machines,
    non_linear, sampling, start_here, variables, variational_em,
)

ROOMS = [
    start_here, autoencoders, factor_analysis, non_linear, jensen, variational_em, sampling, amortisation,
    ledger, variables, backpropagation, machines, beyond,
]
EXERCISES = {exercise.name: exercise for room in ROOMS for exercise in room.EXERCISES}
