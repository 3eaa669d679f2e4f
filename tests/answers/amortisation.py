"""Answers to the exercises of notebook 07, amortisation and the VAE."""

WRONG = {}

RIGHT = {}
