"""Mistakes that are made with any sum of terms, or with any argument: sentences for `Exercise.mistakes`.

    mistakes = {…} | of_terms(parts) | of_argument(answer, "psi", VARIANCE)
"""

import numpy as np

CHANGES = {
    "which is missing": 0.0,
    "whose sign is turned": -1.0,
    "which is half of what it should be: a ½ too many, or a mean over two where a sum belongs": 0.5,
    "which is twice what it should be: a ½ is missing": 2.0,
}
VARIANCE = {
    "ψ is a variance, and you took it for a standard deviation: it is squared once too often": np.square,
    "ψ is a variance, and its root stands where ψ itself belongs": np.sqrt,
    "ψ multiplies where it should divide: Ψ⁻¹ weighs each variable by 1/ψ_d": np.reciprocal,
    "ψ is left out: Ψ⁻¹ weighs each variable by 1/ψ_d": np.ones_like,
}
OFFSET = {
    "b is left out: the decoder's mean is z W + b": np.zeros_like,
    "b has the wrong sign: the residual is x − b − z W": np.negative,
}


def of_terms(terms, right=""):
    """{sentence: function}: one term of a sum left out, its sign turned, half or twice of it.

    terms  {words: function of the exercise's arguments}, whose sum is the answer
    right  words before each sentence
    """
    def changed(name, factor):
        def made(**given):
            return sum((factor if other == name else 1.0) * term(**given) for other, term in terms.items())

        return made

    return {
        f"{right}right but for {name}, {words}": changed(name, factor)
        for name in terms for words, factor in CHANGES.items()
    }


def of_argument(answer, name, changes):
    """{sentence: function}: the answer with one of its arguments changed by a function."""
    def changed(change):
        return lambda **given: answer(**given | {name: change(given[name])})

    return {sentence: changed(change) for sentence, change in changes.items()}
