"""Examples as tensors: shared, not copied, and scaled only when drawn."""

import numpy as np
import torch

from learning.datasets import Examples
from learning.tensors import ExampleTensors


def test_memory_is_shared_with_the_examples() -> None:
    examples = Examples(np.zeros((3, 2), np.uint8), np.zeros(3, np.int64), 1, "blank")
    tensors = ExampleTensors.of(examples)
    examples.features[1, 1] = 9
    assert tensors.features[1, 1] == 9
    assert tensors.features.dtype == torch.uint8


def test_read_only_and_strided_arrays_are_taken_as_well() -> None:
    features = np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2]
    features.setflags(write=False)
    tensors = ExampleTensors.of(Examples(features, np.zeros(3, np.int64), 1, "strided"))
    assert tensors.features.tolist() == [[0, 2], [4, 6], [8, 10]]


def test_batch_draws_the_named_examples_and_leaves_floats_as_they_are() -> None:
    features = np.array([[0.5], [1.5], [2.5]], np.float32)
    tensors = ExampleTensors.of(Examples(features, np.array([2, 0, 1]), 3, "floats"))
    drawn, labels = tensors.batch(torch.tensor([2, 0, 2]))
    assert drawn.tolist() == [[2.5], [0.5], [2.5]]
    assert labels.tolist() == [1, 2, 1]
