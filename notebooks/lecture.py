"""The lecture, step by step: what its slides say, which equation proves it, which function does it.

Where a step stands in the course is read off the notebooks: a cell has its anchor, <a id="lecture-joint">.
"""

import re
from typing import NamedTuple


class Step(NamedTuple):
    """One step of a slide: the name of its anchor, what it says, equation, and dotted path in teachvae."""

    name: str
    says: str
    equation: str
    function: str


SLIDES = {
    "Autoencoders and factor analysis": [
        Step("autoencoders-and-factor-analysis", "both denoise and represent", "5.28", "Autoencoder"),
        Step("factor-analysis", "factor analysis is a probabilistic model", "2.1", "FactorAnalysis"),
        Step("em", "EM fits it", "2.36", "inference.em.em"),
        Step("linear-mean", "its mean is linear in z", "8.8", "PrincipalComponents"),
        Step("merge", "what a deep probabilistic model would have to do", "12.1", "VAE"),
    ],
    "Non-linear factor analysis": [
        Step("non-linear-factor-analysis", "z stays standard normal", "1.1", "model.Model.log_prior"),
        Step("decoder", "a network gives the mean of x", "1.32", "model.Model.f"),
        Step("joint", "the joint density can be computed", "1.2", "model.Model.log_joint"),
        Step("generate", "new data: draw z, then x", "7.24", "VAE.sample"),
        Step("marginal", "the marginal is an integral", "7.3", "evaluation.grid.grid"),
        Step("nlml", "learning minimises the NLML", "1.3", "evaluation.nlml.prior"),
    ],
    "An upper bound": [
        Step("approximating-the-nlml", "an adjustable q for each data case", "1.35", "bound.forward"),
        Step("jensen-continuous", "Jensen's inequality with a density", "1.20", "jensen.jensen_continuous"),
        Step("jensen-discrete", "Jensen's inequality with a PMF", "1.21", "jensen.jensen_discrete"),
        Step("upper-bound", "from NLML to Q in five lines", "1.5", "bound.forward"),
    ],
    "Variational EM": [
        Step("minimise-q", "Q is minimised in θ and in φ, by turns", "9.17", "VariationalEM"),
        Step("e-step", "E-step: the best φ of every data case", "6.3", "infer.e_step"),
        Step("m-step", "M-step: the best θ for these φ", "2.11", "linear_gaussian.m_step"),
        Step("tightness", "Q is the NLML and a KL divergence", "1.6", "gaps.gaps"),
        Step("mean-field", "a product of marginals", "2.10", "linear_gaussian.mean_field_gap"),
    ],
    "Amortised learning": [
        Step("amortisation", "a network names φ", "1.17", "VAE.encode"),
        Step("s-samples", "S samples in place of the integral", "1.9", "plots.q_against_s"),
    ],
    "The reparameterisation trick": [
        Step("why-no-gradient", "no gradient through a drawn number", "1.24", "gradient_estimators.naive"),
        Step("base-distribution", "a base distribution without parameters", "1.27",
             "gradient_estimators.reparameterised"),
        Step("diagonal-gaussian", "z = m + ηs", "3.1", "posteriors.DiagonalGaussian.sample"),
        Step("final-objective", "Q of S samples of fixed noise", "1.10", "bound.forward"),
    ],
    "Stochastic approximation": [
        Step("stochastic-approximation", "a step with every set of samples", "1.29",
             "gradient_estimators.minibatch"),
        Step("differentiate-p-and-q", "p and q need only be differentiable", "1.11", "bound.backward"),
    ],
    "The variational autoencoder": [
        Step("vae", "all of it together", "12.1", "VAE"),
        Step("recognition-networks", "m(x) and s(x) are networks", "1.18", "layers.mlp"),
        Step("probabilistic-model", "a full probabilistic model of x", "7.24", "VAE.sample"),
        Step("manifolds", "non-linear manifolds", "7.25", "VAE.interpolate"),
        Step("inference-without-optimisation", "inference without optimisation", "10.3", "VAE.refine"),
        Step("other-variables", "other types of variables", "5.44", "likelihoods.LIKELIHOODS"),
        Step("architecture", "how data flow through it", "12.1", "VAE.trace"),
        Step("compare-the-methods", "the methods of the lecture on one table", "10.1", "compare"),
    ],
}
STEPS = {step.name: step for steps in SLIDES.values() for step in steps}
ANCHOR = re.compile(r'^# <a id="lecture-([\w-]+)"></a>\n#\n# #+ (.+)\n', re.MULTILINE)


def places(sources):
    """{name of a step: [(notebook, the heading under its anchor)]} of {notebook: source}."""
    found = {}
    for notebook, text in sources.items():
        for anchor in ANCHOR.finditer(text):
            found.setdefault(anchor[1], []).append((notebook, anchor[2]))
    return found


def table(sources):
    """The map in Markdown: slide, what it says, where one steps through it, equation, and function."""
    rows = ["| the lecture | says | step through it | proof | in the code |", "|---|---|---|---|---|"]
    found = places(sources)
    for slide, steps in SLIDES.items():
        for step in steps:
            where = "<br>".join(
                f"[{notebook[:2]} · {heading}]({notebook}.ipynb#lecture-{step.name})"
                for notebook, heading in found.get(step.name, [])
            )
            rows.append(f"| {slide} | {step.says} | {where} | ({step.equation}) | `{step.function}` |")
            slide = ""
    return "\n".join(rows)
