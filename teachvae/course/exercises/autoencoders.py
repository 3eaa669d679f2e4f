"""The exercises of notebook 01, autoencoders and factor analysis."""

EXERCISES = []
