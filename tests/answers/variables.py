"""Answers to the exercises of notebook 09, other variables and missing data."""

WRONG = {}

RIGHT = {}
