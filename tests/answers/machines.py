"""Answers to the exercises of notebook 11, one core, two machines."""

WRONG = {}

RIGHT = {}
