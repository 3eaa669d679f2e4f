"""Tests of the one picture of the course: what it says is what the trace holds, with a network or without."""

import numpy as np
import pytest

from teachvae import Model, Trace, layers, likelihoods
from teachvae.arrays.backend import get_backend
from teachvae.course.data_flow import data_flow


def trace_of(n_latent, network):
    """A trace of three data cases of four variables."""
    rng, backend = np.random.default_rng(0), get_backend("numpy")
    model = Model(layers.mlp(n_latent, (5,), 4), likelihoods.Gaussian(4), n_latent=n_latent)
    theta, x = model.init(rng, backend), rng.standard_normal((3, 4))
    eta = rng.standard_normal((6, 3, n_latent))
    if not network:
        return Trace(model, theta, 0.1 * rng.standard_normal((3, 2 * n_latent)), x, eta)
    g = layers.mlp(4, (5,), 2 * n_latent)
    return Trace(model, theta, None, x, eta, recognition=g, recognition_params=g.init(rng, backend))


def words(figure):
    """All that is written over the panels."""
    return "\n".join(text.get_text() for text in figure.texts)


@pytest.mark.parametrize("network", [True, False])
@pytest.mark.parametrize("n_latent", [1, 2, 3])
def test_the_picture_says_what_the_trace_holds(n_latent, network):
    trace = trace_of(n_latent, network)
    figure = data_flow(trace, case=2)
    assert f"{trace['Q'][2]:.4g}\nnats" in words(figure)
    for name in ("z", "f"):
        assert f"{np.sqrt(np.mean(trace.gradient(name) ** 2)):.2g}" in words(figure)
    assert ("g_v" in words(figure)) == network == ("to $v$" in words(figure))
    samples = figure.axes[1].lines[0].get_xydata()
    assert np.array_equal(samples[:, 0], trace["z"][:, 2, 0]) and len(samples) == 6


def test_an_image_is_drawn_as_one():
    trace = trace_of(2, True)
    figure = data_flow(trace, shape=(2, 2))
    assert np.array_equal(figure.axes[0].images[0].get_array(), trace["x"][0].reshape(2, 2))


@pytest.mark.parametrize("case", [-1, 3])
def test_a_case_that_the_trace_has_not_is_refused(case):
    with pytest.raises(ValueError, match=f"the trace has 3 data cases, got case={case}"):
        data_flow(trace_of(2, True), case=case)
