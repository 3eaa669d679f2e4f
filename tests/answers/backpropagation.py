"""Answers to the exercises of notebook 10, backpropagation by hand."""

WRONG = {}

RIGHT = {}
