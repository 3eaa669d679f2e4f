"""Answers to the exercises of notebook 08, the ledger."""

WRONG = {}

RIGHT = {}
