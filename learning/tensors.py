"""Examples as torch tensors, turned into the models' float32 inputs batch by batch.

Kept apart from `datasets`, so that partitioning and writing folders does not load torch.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from learning.datasets import Examples

_BYTE_MEAN = 0.1307 * 255
_BYTE_DEVIATION = 0.3081 * 255


@dataclass(frozen=True)
class ExampleTensors:
    """Features as stored (uint8 or float32) and int64 labels, sharing memory with the arrays they came from.

    Bytes stay bytes until a batch is drawn: scaling 16 images costs some 10 microseconds of a 4,000 microsecond
    step, and a room's 12,000 digits take 9 MB of a Pi's memory instead of 38.
    """

    features: Tensor
    labels: Tensor

    @classmethod
    def of(cls, examples: Examples) -> "ExampleTensors":
        """Wrap the arrays; copies only those that torch cannot share (read-only or strided ones)."""
        features = np.require(examples.features, requirements=["C", "W"])
        labels = np.require(examples.labels, requirements=["C", "W"])
        return cls(torch.from_numpy(features), torch.from_numpy(labels))

    @property
    def num_examples(self) -> int:
        """How many there are."""
        return len(self.labels)

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Model inputs (float32[B, *shape]) and labels (int64[B]) of the examples at `indices`."""
        return as_inputs(self.features.index_select(0, indices)), self.labels.index_select(0, indices)


def as_inputs(features: Tensor) -> Tensor:
    """Bytes as float32 (byte/255 - 0.1307) / 0.3081; float32 as it is.

    The two numbers are the mean and deviation of MNIST's training pixels. They are constants for every data set of
    bytes, as agents that each measured their own room would train on different inputs; own data that wants another
    scale is stored as float32. Why not plain [0, 1]: see `learning.datasets`.
    """
    if features.dtype != torch.uint8:
        return features
    return features.to(torch.float32).sub_(_BYTE_MEAN).mul_(1 / _BYTE_DEVIATION)
