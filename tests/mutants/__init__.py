"""Faults to be planted in the package, and the program that shows that the suite finds each of them.

A file a room of the package; `python -m tests.mutants` plants them. A new one is a row in its room's file.
PUBLISHED are mistakes that published code of this field has made (B), and those that students make (M), as
far as they can be made in code: the names of their mutants bear the letter and the number.
"""

from . import (
    bound_and_model, course, draws, evaluation, gradient_checks, inference, likelihoods, mixtures, networks,
    persistence, posteriors, rotations, routes, units_and_data
)

ROOMS = (
    bound_and_model, posteriors, likelihoods, networks, inference, rotations, mixtures, evaluation, draws,
    course, gradient_checks, units_and_data, routes, persistence,
)
MUTANTS = [mutant for room in ROOMS for mutant in room.MUTANTS]

PUBLISHED = {
    "B1": "the noise that is stored is not that of the sample",
    "B2": "an optimiser's step for every data case",
    "B3": "exp(log variance) is a standard deviation in the sample and a variance in the KL",
    "B4": "log p under the name of nlml; the last data cases left out; ½ log 2π in one place alone",
    "B5": "a bound that is told in another unit than its name says",
    "B7": "the amortisation gap with the other sign; a diagonal posterior where it is not",
    "B10": "noise a hundredth as large as q says",
    "B11": "an Adam that is not the published one; no shuffling",
    "B14": "a gradient check of one index, to 1e-2",
    "B15": "a gradient check of a plain sum, which can be constant",
    "B16": "a path that may rise",
    "B17": "half the standard deviation in the sample, all of it in the KL",
    "M1": "log variance, log s and s mixed up",
    "M2": "sum and mean, over pixels, cases, samples, latent variables",
    "M3": "the sign of the bound",
    "M4": "½ log 2π dropped",
    "M5": "a density above 1 taken for a mistake",
    "M6": "a Bernoulli likelihood of grey values",
    "M7": "one binarisation taken for another",
    "M8": "trained on one bound, judged on another",
    "M9": "noise redrawn between forward and backward",
    "M10": "no gradient through the sample",
    "M11": "units that collapse, and what is taken for it",
    "M12": "a data case encoded and called a sample",
    "M13": "the free rotation and signs of factor analysis",
    "M14": "gradient checks in float32, or with fresh noise",
    "M15": "the scale of a minibatch",
    "M16": "a variance that runs to 0, an exp that overflows",
    "M17": "arrays of two libraries mixed",
}
