"""All float32 values of a model as one vector, cut into the blocks that share a scale."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.weights import Array, Weights

FloatVector = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Layout:
    """Where each tensor and each block lies: tensors in order of their names, each in C order.

    Attributes:
        shapes: of the float32 tensors, by name, in that order.
        others: names of the tensors of other dtypes, which no codec changes.
        block_sizes: int64[num_blocks]; there are no empty blocks.
    """

    shapes: dict[str, tuple[int, ...]]
    others: tuple[str, ...]
    block_sizes: npt.NDArray[np.int64]

    @classmethod
    def of(cls, weights: Weights, per_channel: bool) -> "Layout":
        """The layout of these tensors, of which only names, shapes and dtypes matter."""
        shapes = {name: weights[name].shape for name in sorted(weights) if is_float32(weights[name])}
        others = tuple(name for name in sorted(weights) if name not in shapes)
        sizes = [size for shape in shapes.values() for size in _block_sizes(shape, per_channel)]
        return cls(shapes, others, np.array(sizes, np.int64))

    @property
    def num_values(self) -> int:
        """How many float32 values there are."""
        return int(self.block_sizes.sum())

    @property
    def num_blocks(self) -> int:
        """How many scales they have."""
        return len(self.block_sizes)

    def blocks(self) -> Iterator[slice]:
        """The place of each block in the vector."""
        ends = np.cumsum(self.block_sizes).tolist()
        return (slice(start, end) for start, end in zip([0, *ends], ends, strict=False))

    def join(self, weights: Weights) -> FloatVector:
        """The float32 values of all tensors as a new vector."""
        joined = np.empty(self.num_values, np.float32)
        start = 0
        for name, shape in self.shapes.items():
            end = start + math.prod(shape)
            np.copyto(joined[start:end].reshape(shape), weights[name])
            start = end
        return joined

    def split(self, values: FloatVector) -> dict[str, Array]:
        """The vector's tensors, as views."""
        tensors: dict[str, Array] = {}
        start = 0
        for name, shape in self.shapes.items():
            end = start + math.prod(shape)
            tensors[name] = values[start:end].reshape(shape)
            start = end
        return tensors

    def spread(self, scales: FloatVector) -> FloatVector:
        """The scale of each value."""
        return np.repeat(scales, self.block_sizes)


def is_float32(array: Array) -> bool:
    """True for tensors that codecs change."""
    return array.dtype.kind == "f" and array.dtype.itemsize == 4


def _block_sizes(shape: tuple[int, ...], per_channel: bool) -> list[int]:
    size = math.prod(shape)
    if size == 0:
        return []
    # A scale for every single bias would cost more than the bias itself.
    channels = shape[0] if per_channel and len(shape) > 1 else 1
    return [size // channels] * channels
