"""What all test files share: hypothesis's profile, and the array libraries that the package runs on."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:                            # there is a worker for every core
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")             # said before NumPy is imported

import array_api_strict  # noqa: E402
from hypothesis import settings  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

from teachvae.arrays.backend import Backend  # noqa: E402

settings.register_profile("teachvae", derandomize=True, deadline=None)
settings.load_profile("teachvae")


def pytest_configure(config):
    # Most models here are hardly trained, and their q wide; test_estimators sees to the warning itself.
    config.addinivalue_line("filterwarnings", "ignore:Q of .* data cases may be off:UserWarning")


def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("short"):
            item.add_marker(pytest.mark.filterwarnings("ignore:training ended after:UserWarning"))


class ReadOnly(Backend):
    """NumPy arrays that cannot be written: a component that changes its inputs fails."""

    def asarray(self, values, dtype=None):
        array = np.array(Backend.asarray(self, values, dtype))
        array.flags.writeable = False
        return array


# On its default device array-api-strict lets np.exp(x) and np.ones(3) * x pass; on device1 both raise.
BACKENDS = {
    "numpy-float64": Backend("numpy", np, "float64"),
    "numpy-float32": Backend("numpy", np, "float32"),
    "numpy-readonly": ReadOnly("numpy", np, "float64"),
    "strict-device1": Backend(
        "array_api_strict", array_api_strict, "float64", array_api_strict.Device("device1")
    ),
}


@pytest.fixture(params=BACKENDS.values(), ids=BACKENDS.keys())
def backend(request):
    """Each backend in turn; its asarray makes the arrays, and what comes out must be of its kind."""
    return request.param


@pytest.fixture
def rng():
    return np.random.default_rng(20240229)
