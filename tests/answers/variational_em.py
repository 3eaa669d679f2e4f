"""Answers to the exercises of notebook 05, variational EM."""

WRONG = {}

RIGHT = {}
