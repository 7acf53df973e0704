"""A tiny data set whose numbers can be checked by hand."""

import numpy as np
import pytest

from learning.datasets import Examples


@pytest.fixture
def four_points() -> Examples:
    """Four points on a plane, two in each class."""
    features = np.array([[1, 0], [0, 1], [2, 1], [-1, 1]], np.float32)
    return Examples(features, np.array([0, 1, 0, 1]), num_classes=2, name="four points")
