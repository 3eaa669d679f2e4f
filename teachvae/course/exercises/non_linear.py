"""The exercises of notebook 03, non-linear factor analysis."""

EXERCISES = []
