"""Moves weights between a torch module and plain NumPy arrays, which is what travels and is stored.

The names are those of the module's state dict, buffers included; encoding them is `schemas.weights`.
"""

import numpy as np
import torch
from torch import Tensor, nn

from schemas.errors import DataError
from schemas.weights import Array, Weights


def get_weights(module: nn.Module) -> dict[str, Array]:
    """C-contiguous copies of all parameters and buffers by name; later training does not change them.

    A 0-d tensor (such as BatchNorm's counter) stays a 0-d array.
    """
    # torch copies with all of its threads: with two, a round of ten batches of the MLP takes 2 to 3 % less than with
    # NumPy's copies in and out.
    return {
        name: tensor.clone(memory_format=torch.contiguous_format).numpy()
        for name, tensor in module.state_dict().items()
    }


def set_weights(module: nn.Module, weights: Weights) -> None:
    """Copy the arrays into the module, which keeps its own memory layout; nothing is cast or broadcast.

    Raises:
        DataError: a name is missing or unknown, or a shape or dtype differs. The module is then unchanged.
    """
    targets = module.state_dict()
    _check_same_tensors({name: tensor.numpy() for name, tensor in targets.items()}, weights)
    for name, target in targets.items():
        target.copy_(_tensor_of(weights[name]))


class _Unlocked:
    """An array that passes for one that may be written to."""

    def __init__(self, array: Array) -> None:
        interface = array.__array_interface__
        self.__array_interface__ = interface | {"data": (interface["data"][0], False)}
        self._keeps = array  # the memory is the array's


def _tensor_of(array: Array) -> Tensor:
    """The array's own memory, only to be read from: torch has no such tensors and warns of an array that is locked."""
    return torch.from_numpy(array if array.flags.writeable else np.asarray(_Unlocked(array)))


def _check_same_tensors(targets: Weights, weights: Weights) -> None:
    missing, unknown = sorted(targets.keys() - weights.keys()), sorted(weights.keys() - targets.keys())
    if missing or unknown:
        raise DataError(f"the weights do not fit the model: missing {missing}, not in the model {unknown}")
    for name, target in targets.items():
        given = weights[name]
        if given.shape != target.shape or given.dtype != target.dtype:
            raise DataError(
                f"the weights do not fit the model: {name} is {_describe(given)}, the model has {_describe(target)}"
            )


def _describe(array: Array) -> str:
    return f"{array.dtype}{list(array.shape)}"
