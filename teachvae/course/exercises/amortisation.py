"""The exercises of notebook 07, amortisation and the VAE."""

EXERCISES = []
