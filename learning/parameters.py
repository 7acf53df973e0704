"""Moves weights between a torch module and plain NumPy arrays, which is what travels and is stored.

The names are those of the module's state dict, buffers included; encoding them is `schemas.weights`.
"""

import numpy as np
from torch import nn

from schemas.errors import DataError
from schemas.weights import Array, Weights


def get_weights(module: nn.Module) -> dict[str, Array]:
    """C-contiguous copies of all parameters and buffers by name; later training does not change them.

    A 0-d tensor (such as BatchNorm's counter) stays a 0-d array.
    """
    return {name: np.array(tensor.numpy(), order="C") for name, tensor in module.state_dict().items()}


def set_weights(module: nn.Module, weights: Weights) -> None:
    """Copy the arrays into the module, which keeps its own memory layout; nothing is cast or broadcast.

    Raises:
        DataError: a name is missing or unknown, or a shape or dtype differs. The module is then unchanged.
    """
    # These arrays are views of the module's own memory.
    targets = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    _check_same_tensors(targets, weights)
    for name, target in targets.items():
        target[...] = weights[name]


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
