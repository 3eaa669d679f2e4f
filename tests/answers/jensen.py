"""Answers to the exercises of notebook 04, Jensen and the bound."""

WRONG = {}

RIGHT = {}
