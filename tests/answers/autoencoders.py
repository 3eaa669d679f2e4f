"""Answers to the exercises of notebook 01, autoencoders and factor analysis."""

WRONG = {}

RIGHT = {}
