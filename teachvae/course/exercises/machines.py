"""The exercises of notebook 11, one core, two machines."""

EXERCISES = []
