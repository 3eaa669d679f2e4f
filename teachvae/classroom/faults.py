"""Mistakes that published code of this field has made, to be planted in a copy of the package for a class.

    teachvae course --break list          # their names, and where each was published
    teachvae course --break B3            # a copy with the fault in it, in teachvae-B3
    teachvae course --break B3 --tell     # what it is, where it stands, and which check sees it

Each is a text that stands exactly once in a file of the package, and what stands there instead. Whoever
changes such a line is told by a test to change it here too.
"""

from dataclasses import dataclass
from pathlib import Path
import shlex
import shutil
import sys

from .checks import CHECKS

PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Fault:
    """A published mistake.

    published  where
    what       what it is, in a sentence
    seen_by    the names of those of `CHECKS` that see it; the others pass
    lesson     why these see it, and the others do not
    changes    (file of the package, what stands there, what stands there instead), one or more
    """

    published: str
    what: str
    seen_by: tuple
    lesson: str
    changes: tuple


FAULTS = {
    "B1": Fault(
        "a VAE in NumPy and CuPy on GitHub",
        "the noise is drawn twice: what is kept for the backward is not the noise that is in z",
        ("gradients",),
        "Q itself is right, so no value gives it away; the gradient in log s belongs to another sample",
        (("posteriors/diagonal.py", "return z, (s, eta)", "return z, (s, eta[::-1, ...])"),),
    ),
    "B3": Fault(
        "the VAEs of two libraries that teach deep learning from scratch, numpy-ml and DeZero",
        "exp(log variance) serves as a standard deviation where z is sampled, and as a variance in the KL",
        ("bound", "moments"),
        "the backward fits the wrong forward, so a gradient check passes; but the q of the samples is not "
        "that of the KL, so Q is no bound and falls below nlml",
        (
            ("posteriors/diagonal.py", "s = xp.exp(log_s)\n        z = m + eta * s  ",
             "s = xp.exp(2 * log_s)\n        z = m + eta * s  "),
            ("posteriors/diagonal.py", "dlog_s = xp.sum(dz * eta, axis=0) * s  ",
             "dlog_s = 2 * xp.sum(dz * eta, axis=0) * s  "),
        ),
    ),
    "B4": Fault(
        "the get_nll of pythae, a library of autoencoders",
        "what is returned under the name of nlml is +log p",
        ("values",),
        "nothing is trained by it, and no gradient is taken of it: only a second road to the number shows "
        "its sign",
        (("evaluation/nlml.py", "return NLML(-log_p,", "return NLML(log_p,"),),
    ),
    "B5": Fault(
        "an example of autograd, whose column \"Test ELBO\" is −ELBO/784",
        "a log likelihood of D pixels is their mean and not their sum, in the value and in its gradient",
        ("values",),
        "gradients fit, and it trains; but exp of it does not sum to one over all x, so it is no log "
        "density, and the KL weighs D times what it should",
        (
            ("likelihoods/bernoulli.py", "log_p = sum_last(terms)  ",
             "log_p = sum_last(terms) / self.n_visible  "),
            ("likelihoods/bernoulli.py", "df = d * (x - sigmoid(f))  ",
             "df = d * (x - sigmoid(f)) / self.n_visible  "),
        ),
    ),
    "B10": Fault(
        "the first VAE among the examples of Keras (reported)",
        "epsilon_std = 0.01: the noise in z is a hundredth of what q says",
        ("bound", "moments"),
        "gradients fit; the reconstruction is nearly that of the mean, while the KL pays for the wide q: the "
        "objective looks far better than any bound could",
        (
            ("posteriors/diagonal.py", "z = m + eta * s  ", "z = m + 0.01 * eta * s  "),
            ("posteriors/diagonal.py", "dlog_s = xp.sum(dz * eta, axis=0) * s  ",
             "dlog_s = 0.01 * xp.sum(dz * eta, axis=0) * s  "),
        ),
    ),
    "B11": Fault(
        "the code of the authors of a well-known bound; the paper says otherwise",
        "Adam's second moment starts at ones instead of zeros, as if all gradients had been about 1 before",
        ("values",),
        "the objective and its gradients are right, and training only looks slow: a first step worked out by "
        "hand shows it",
        (("networks/optimizers.py", '"v": xp.zeros_like(flat)', '"v": xp.ones_like(flat)'),),
    ),
    "B14": Fault(
        "minitorch, a course in which students write an automatic differentiation",
        "the gradient check looks at one index of each leaf",
        ("checker",),
        "all that is right still passes; what has to be checked is whether something wrong is refused",
        ((
            "gradcheck/check.py", "off = (error >= tolerance) & ~kink",
            "off = np.zeros(leaf.shape, dtype=bool)\n"
            "            off.flat[0] = error.flat[0] >= tolerance and not kink.flat[0]",
        ),),
    ),
    "B15": Fault(
        "DeZero and minitorch",
        "the backward is seeded with ones, L = Σ y, and a gradient that is zero everywhere passes",
        ("checker",),
        "the sum of a softmax is constant: 0 is compared with 0, whatever its backward does; random weights "
        "of L, and a verdict that says \"nothing is proved\", see it",
        (
            ("gradcheck/part.py", "return signed(rng, shape, 0.5, 1.5)", "return np.ones(shape)"),
            ("gradcheck/diagnoses.py", 'return "?", nothing', 'return "ok", ""'),
        ),
    ),
    "B17": Fault(
        "a VAE in NumPy on PyPI, released in 2026",
        "z is sampled with half the standard deviation, and the gradient in log s does not know of the half",
        ("gradients", "bound", "moments"),
        "a fault in the forward alone: the backward does not fit it, and q is not what the KL pays for",
        (("posteriors/diagonal.py", "z = m + eta * s  ", "z = m + 0.5 * eta * s  "),),
    ),
}


def listed():
    """The names of all faults, a line each, with where it was published and not what it is."""
    return "\n".join(f"{name:4} {fault.published}" for name, fault in FAULTS.items())


def told(name):
    """What a fault is, where it stands, and which check sees it."""
    name, fault = _named(name)
    lines = [f"{name}: {fault.what}.", f"Published in: {fault.published}."]
    for file, stands, instead in fault.changes:
        number = _text(PACKAGE / file)[: _place(name, file, stands)].count("\n") + 1
        lines.append(f"teachvae/{file}, line {number}:")
        before, after = stands.splitlines(), instead.splitlines()
        lines += [f"    - {line.strip()}" for line in before if line not in after]
        lines += [f"    + {line.strip()}" for line in after if line not in before]
    others = [check for check in CHECKS if check not in fault.seen_by]
    lines += [f"Seen by: {', '.join(fault.seen_by)}. Not by: {', '.join(others)}.", f"Why: {fault.lesson}."]
    return "\n".join(lines)


def plant(name, folder=None):
    """Copy the package into a new folder with a fault in it, and return what to do there, in words.

    folder  teachvae-NAME where None; the copy is folder/teachvae

    Raises ValueError where there is no such fault, FileExistsError where the folder exists.
    """
    name, fault = _named(name)
    folder = Path(f"teachvae-{name}") if folder is None else Path(folder)
    if folder.exists():
        raise FileExistsError(f"{folder} exists already: remove it, or name another by --output FOLDER")
    for file, stands, _ in fault.changes:                          # before anything is written
        _place(name, file, stands)
    python = shlex.quote(sys.executable)                           # that of an environment, perhaps
    compiled = shutil.ignore_patterns("__pycache__", "*.nbi", "*.nbc")
    shutil.copytree(PACKAGE, folder / "teachvae", ignore=compiled)
    for file, stands, instead in fault.changes:
        path = folder / "teachvae" / file
        path.write_text(_text(path).replace(stands, instead), encoding="utf-8", newline="\n")
    return "\n".join([
        f"{folder / 'teachvae'} is a copy of the package with one fault, {name}, which was published in:",
        f"    {fault.published}",
        "Which check sees it? Python takes the copy where it is started in its folder:",
        f"    cd {folder}",
        f"    {python} -m teachvae gradcheck",
        *(f"    {python} -m teachvae course --check {check}" for check in CHECKS if check != "gradients"),
        f"Then find the line. teachvae course --break {name} --tell gives the answer.",
    ])


def _named(name):
    """A fault's name as it is written, "b3" is B3, and the fault."""
    if name.upper() not in FAULTS:
        raise ValueError(f"there is no fault {name!r}: choose from {', '.join(FAULTS)}, or list")
    return name.upper(), FAULTS[name.upper()]


def _place(name, file, stands):
    """Where in a file of the package a text stands; ValueError where it does not stand there exactly once."""
    text = _text(PACKAGE / file)
    if text.count(stands) != 1:
        raise ValueError(
            f"{name} cannot be planted: {stands!r} stands {text.count(stands)} times in {PACKAGE / file}; is "
            "this a copy that has a fault already?"
        )
    return text.index(stands)


def _text(path):
    return path.read_text(encoding="utf-8")
