"""The exercises of notebook 05, variational EM."""

EXERCISES = []
