"""The exercises of notebook 06, through the sampling."""

EXERCISES = []
