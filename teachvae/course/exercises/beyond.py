"""The exercises of notebook 12, beyond the lecture."""

EXERCISES = []
