"""The exercises of notebook 10, backpropagation by hand."""

EXERCISES = []
