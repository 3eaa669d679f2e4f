"""Answers to the exercises of notebook 03, non-linear factor analysis."""

WRONG = {}

RIGHT = {}
