"""Answers to the exercises of notebook 12, beyond the lecture."""

WRONG = {}

RIGHT = {}
