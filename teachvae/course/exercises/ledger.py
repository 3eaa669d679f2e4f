"""The exercises of notebook 08, the ledger."""

EXERCISES = []
