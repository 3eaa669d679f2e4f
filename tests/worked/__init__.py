"""The worked examples of derivations/, recomputed by the package: a file for each chapter.

A function eq_1_5 yields the figures under *In numbers.* of the card (1.5), in the order of the text. Figures
are what is written with a decimal point. Everything is taken from `example`, and is computed by the functions
that the card names.
"""
