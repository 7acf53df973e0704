"""The first model of a run, from the run's seed, and the structured start that some strategies ask for.

Coordinator and agents derive the same first model, so that it need not be sent. The structured start uses only raw
64-bit draws and single IEEE additions, multiplications, divisions and square roots in a fixed order (no BLAS, no
reduction, no cosine of the platform's), which every machine rounds alike: it is bit-identical on x86 and ARM. What it
leaves to torch (models without it, and layers it does not know) usually is, but nobody promises that. So an agent
must prove by its model's hash that it derived the announced one, and fetches it otherwise.
"""

import math
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from learning.models import build_model
from learning.parameters import get_weights
from learning.seeding import raw_draws
from learning.strategies.registry import make_strategy
from learning.strategies.strategy import Strategy
from learning.whitening import last_layer
from schemas.messages import TrainingPlan
from schemas.weights import Weights

Matrix = npt.NDArray[np.float64]

GROUP_ROWS = 256
"""Rows are orthogonal to each other within groups of so many, which bounds the work for large layers."""


def initial_model(model: str, seed: int, strategy: Strategy, model_path: Path | None = None) -> nn.Module:
    """The model that round 1 starts from: the same on every party that knows the plan.

    Raises:
        ConfigError: the model is unknown, not allowed or not importable.
    """
    module = build_model(model, seed, model_path)
    if strategy.structured_start:
        start_structured(module, seed)
    if strategy.zero_last:
        start_last_at_zero(module)
    return module


def first_weights(plan: TrainingPlan, model_path: Path | None = None) -> Weights:
    """The weights of `initial_model`, read-only.

    Raises:
        ConfigError: the plan asks for a model, strategy or option that is not known here.
    """
    return _first_weights(plan.model, plan.seed, make_strategy(plan.strategy, plan.options), model_path)


# The agents of a simulation share one.
@lru_cache(maxsize=1)
def _first_weights(model: str, seed: int, strategy: Strategy, model_path: Path | None) -> Weights:
    weights = get_weights(initial_model(model, seed, strategy, model_path))
    for array in weights.values():
        array.flags.writeable = False
    return weights


def start_last_at_zero(module: nn.Module) -> None:
    """Zero the dense layer that ends the model: all classes are equally likely at first. Others are left alone."""
    last = last_layer(module)
    if last is not None:
        for parameter in last[1].parameters():
            nn.init.zeros_(parameter)


def start_structured(module: nn.Module, seed: int) -> None:
    """Give every layer of weights a start of equal strength in all directions, and biases zero.

    - The first convolution's filters are the atoms of the 2-D discrete cosine transform (DCT-II) of the kernel's size,
      flatter ones first, each with a random sign; with more filters than atoms the next ones repeat them with the
      signs turned. They see edges and blobs before any training.
    - All other weights are random orthogonal matrices (Saxe, McClelland, Ganguli 2014, "Exact solutions to the
      nonlinear dynamics of learning in deep linear neural networks"), rows being output channels.
    - Both are scaled by sqrt(2) in convolutional and dense layers, for the ReLU that follows.

    Normalisation layers and parameters that belong to no known layer keep what torch gave them.
    """
    first = next((m for m in module.modules() if isinstance(m, nn.Conv2d)), None)
    for number, (layer, name, parameter) in enumerate(_weights(module)):
        if name.startswith("bias"):
            values: Matrix = np.zeros(tuple(parameter.shape))
        elif layer is first:
            values = _cosine_filters(tuple(parameter.shape), seed) * math.sqrt(2.0)
        else:
            gain = math.sqrt(2.0) if isinstance(layer, _LAYERS) else 1.0
            values = orthogonal(parameter.shape[0], math.prod(parameter.shape[1:]), seed, number) * gain
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(values.reshape(tuple(parameter.shape)).astype(np.float32)))


def orthogonal(num_rows: int, num_columns: int, seed: int, number: int) -> Matrix:
    """A random float64[num_rows, num_columns] with orthonormal rows, or columns when there are fewer of those.

    Gram-Schmidt, each row twice, on draws that are sums of four uniform ones (rotation only needs them to be about
    normal). `number` tells the matrices of one seed apart.
    """
    rows, columns = min(num_rows, num_columns), max(num_rows, num_columns)
    draws = raw_draws(4 * rows * columns, "orthogonal", seed, number).reshape(4, rows, columns)
    # The upper 53 bits are exact in float64.
    uniform = (draws >> np.uint64(11)).astype(np.float64) * 2.0**-53 - 0.5
    matrix: Matrix = uniform[0] + uniform[1] + uniform[2] + uniform[3]
    for begin in range(0, rows, GROUP_ROWS):
        _orthonormalise(matrix[begin : begin + GROUP_ROWS])
    return matrix if num_rows <= num_columns else matrix.T


def _orthonormalise(matrix: Matrix) -> None:
    for number in range(len(matrix)):
        before, row = matrix[:number], matrix[number]
        for _ in range(2 if number else 0):
            row = row - _fold(before * _fold(before * row)[:, np.newaxis], axis=0)
        matrix[number] = row / np.sqrt(_fold(row * row))


def _fold(values: Matrix, axis: int = -1) -> Matrix:
    """A sum along an axis in a fixed order: halves are added until one is left (libraries' sums depend on the CPU)."""
    values = np.moveaxis(values, axis, -1)
    while values.shape[-1] > 1:
        half = values.shape[-1] // 2
        folded = values[..., :half] + values[..., half : 2 * half]
        values = folded if values.shape[-1] % 2 == 0 else np.concatenate([folded, values[..., -1:]], axis=-1)
    return values[..., 0]


def _cosine_filters(shape: tuple[int, ...], seed: int) -> Matrix:
    """float64[filters, channels, height, width]: orthonormal atoms, shared by the input channels."""
    filters, channels, height, width = shape
    order = sorted((u + v, u, v) for u in range(height) for v in range(width))
    atoms = [np.outer(_cosine_atom(u, height), _cosine_atom(v, width)) for _, u, v in order]
    signs = np.where(raw_draws(len(atoms), "cosine-signs", seed) >> np.uint64(63), 1.0, -1.0)
    chosen = [atoms[i % len(atoms)] * signs[i % len(atoms)] * (-1.0) ** (i // len(atoms)) for i in range(filters)]
    return np.repeat(np.stack(chosen)[:, np.newaxis], channels, axis=1) / math.sqrt(channels)


def _cosine_atom(frequency: int, size: int) -> Matrix:
    scale = math.sqrt((1.0 if frequency == 0 else 2.0) / size)
    return np.array([scale * _cosine((2 * i + 1) * frequency, 2 * size) for i in range(size)])


def _cosine(numerator: int, denominator: int) -> float:
    """cos(pi numerator / denominator) by its series, in one order of operations, with the angle folded below pi / 2."""
    numerator %= 2 * denominator
    numerator = min(numerator, 2 * denominator - numerator)
    sign = 1.0
    if 2 * numerator > denominator:
        numerator, sign = denominator - numerator, -1.0
    angle = math.pi * numerator / denominator
    term = total = 1.0
    for i in range(1, 14):
        term *= -angle * angle / ((2 * i - 1) * (2 * i))
        total += term
    return sign * total


_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_RECURRENT = (nn.RNNBase, nn.RNNCellBase)


def _weights(module: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Parameter]]:
    """The parameters that a structured start sets, in the module's order."""
    for layer in module.modules():
        if isinstance(layer, (*_LAYERS, *_RECURRENT)):
            yield from ((layer, name, p) for name, p in layer.named_parameters(recurse=False) if p.numel())
