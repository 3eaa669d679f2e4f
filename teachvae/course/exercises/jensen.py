"""The exercises of notebook 04, Jensen and the bound."""

EXERCISES = []
