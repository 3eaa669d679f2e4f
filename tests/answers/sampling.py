"""Answers to the exercises of notebook 06, through the sampling."""

WRONG = {}

RIGHT = {}
