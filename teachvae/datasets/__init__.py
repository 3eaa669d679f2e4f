"""Data to learn from: a set that comes along, sets whose truth is known, and files of your own.

    digits()            1797 handwritten digits, 8 × 8 pixels                 (1797, 64)
    linear_gaussian()   factor analysis is true of it: x = z W + b + ψ^½ ε    (1000, 10), K = 3
    spiral()            a curve in the plane, with noise                      (1000, 2),  K = 1
    bent_sheet()        a sheet bent around a cylinder, with noise            (1000, 3),  K = 2
    mnist()             70000 handwritten digits, 28 × 28 pixels              (60000, 784)
    images("folder")    images in a folder of IDX files, laid out like MNIST's
    load("data.csv")    .csv, .npy or .npz, such a folder, and by name each of the above

Each returns a `Dataset`; where we made the data, it carries the `Truth`: the decoder and the very z
that made it, so that what a fit finds can be compared with what is the case. Everything here lies on
the host in float64; a seed is what `validate.generator` takes, an integer or a numpy.random.Generator.
"""

from .binarise import binarise, binarised
from .dataset import Dataset, Truth, first, split, to_unit_interval
from .generated import BentSheet, Spiral, bent_sheet, linear_gaussian, spiral
from .images import bits_per_dimension, digits, images, mnist
from .load import DATASETS, load

__all__ = [
    "DATASETS", "BentSheet", "Dataset", "Spiral", "Truth", "bent_sheet", "binarise", "binarised",
    "bits_per_dimension", "digits", "first", "images", "linear_gaussian", "load", "mnist", "spiral", "split",
    "to_unit_interval",
]
