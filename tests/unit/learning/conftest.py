"""Real MNIST for the tests that learn from it, and a tiny data set whose numbers can be checked by hand."""

import os

import numpy as np
import pytest

from learning.datasets import Dataset, Examples, load_dataset
from learning.mnist import find_mnist


@pytest.fixture(scope="session")
def mnist() -> Dataset:
    """MNIST as found on this machine. Where there is none the test is skipped, but in CI it fails."""
    if find_mnist() is None:
        if os.environ.get("CI"):
            pytest.fail("no copy of MNIST: set FEDERATION_DATA")
        pytest.skip("no copy of MNIST: set FEDERATION_DATA or put one into ../shared/data")
    return load_dataset("mnist")


@pytest.fixture
def four_points() -> Examples:
    """Four points on a plane, two in each class."""
    features = np.array([[1, 0], [0, 1], [2, 1], [-1, 1]], np.float32)
    return Examples(features, np.array([0, 1, 0, 1]), num_classes=2, name="four points")
