"""Grey values made 0 and 1, for the Bernoulli likelihood."""

from dataclasses import replace

import numpy as np

from ..doors.validate import generator


def binarise(x, how, rng=None):
    """Grey values made 0 and 1, for the Bernoulli likelihood, float64 of the shape of x.

    x    bytes (uint8), of which the grey value is x/255, or floats, themselves grey values in [0, 1].
         For images(…, dequantise=False).x, np.rint(255 * x).astype(np.uint8) are the bytes again
    how  "threshold"  1 where the grey value is above one half; rng has no say
         "fixed"      1 with probability the grey value, one uniform number per pixel: drawn once,
                      before training, and kept
         "fresh"      the same probability, drawn anew for every epoch or minibatch; bytes only. One
                      random integer r, uniform on 0..254, per pixel: 1 where r < x, so with probability
                      x/255 exactly. Of r on 0..255 it would be x/256, and white would turn out black
    rng  a numpy.random.Generator, or a seed for "fixed"

    Models trained on fixed and on fresh binarisation differ by nats: never compare the two.

    Raises ValueError for another `how`, for x that are no grey values, and where rng is missing.
    """
    x = np.asarray(x)
    if how not in ("fixed", "threshold", "fresh"):
        raise ValueError(f"how must be 'fixed', 'threshold' or 'fresh', got {how!r}")
    if x.dtype != np.uint8 and (x.dtype.kind != "f" or not ((x >= 0) & (x <= 1)).all()):
        span = f", from {x.min():g} to {x.max():g}" if x.dtype.kind in "iuf" and x.size else ""
        raise ValueError(
            f"x is {x.dtype}{span}; expected grey values: bytes (uint8, 0 to 255), or finite floats from 0 "
            "to 1: scale it first"
        )
    if how == "threshold":
        return (x > 127 if x.dtype == np.uint8 else x > 0.5).astype(np.float64)
    if how == "fresh":
        if x.dtype != np.uint8 or not isinstance(rng, np.random.Generator):
            raise ValueError(
                f"how='fresh' got x of {x.dtype} and rng {type(rng).__name__}; expected uint8 and a "
                "numpy.random.Generator, since a seed would draw the same pixels in every epoch: hand over "
                "the bytes, and one generator for the whole training"
            )
        return (rng.integers(0, 255, x.shape, dtype=np.uint8) < x).astype(np.float64)
    if rng is None:
        raise ValueError(
            "how='fixed' got no rng; expected a seed or a numpy.random.Generator, so that the draw can be "
            "repeated"
        )
    grey = x / 255 if x.dtype == np.uint8 else x
    return (generator(rng, "rng").random(x.shape) < grey).astype(np.float64)


def binarised(dataset, how, rng=None):
    """A `Dataset` of grey values in [0, 1] made 0 and 1: "threshold" or "fixed", as in `binarise`."""
    words = {"threshold": "1 where the grey value is above one half",
             "fixed": "1 with probability the grey value, drawn once"}
    x = binarise(dataset.x, how, rng)
    return replace(dataset, x=x, note=f"{dataset.note} Made binary: {words[how]}.", levels=None)
