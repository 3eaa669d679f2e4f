"""Answers to the exercises of notebook 00, start here."""

WRONG = {}

RIGHT = {}
