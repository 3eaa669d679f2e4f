"""The exercises of notebook 09, other variables and missing data."""

EXERCISES = []
