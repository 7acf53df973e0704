"""The difference between two models, and a model moved by one: the same bits everywhere, as both are one float32 step.

Tensors that are not float32 have no difference: the new ones travel whole and take the place of the old.
"""

import numpy as np

from schemas.codecs.blocks import is_float32
from schemas.weights import Array, Weights


def difference(weights: Weights, base: Weights) -> dict[str, Array]:
    """weights - base."""
    with np.errstate(over="ignore", invalid="ignore"):
        return {n: weights[n] - base[n] if is_float32(base[n]) else weights[n] for n in base}


def apply(base: Weights, change: Weights) -> dict[str, Array]:
    """base + change; what leaves float32's range becomes infinite."""
    with np.errstate(over="ignore", invalid="ignore"):
        return {n: base[n] + change[n] if is_float32(base[n]) else change[n] for n in base}
