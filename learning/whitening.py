"""Damps the directions of the last layer's gradient that all inputs share, measured without anyone's data.

A device that sees two classes has a last-layer gradient dominated by a few directions of the features that every
image excites. 256 random pen strokes from the run's seed, passed through the initial network, show which those are:
every party works out the same directions for itself, and nothing is sent. (They may differ in the last bits between
kinds of machine. That does no harm: they shape an agent's own steps and are no part of any model.)
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from learning.models import model_spec
from learning.seeding import generator
from learning.tensors import as_inputs

log = logging.getLogger(__name__)

NUM_PICTURES = 256
STROKES_PER_PICTURE = 2
PEN_RADIUS = 0.045
"""As a share of the picture's side: an MNIST digit's stroke is some 2.5 of 28 pixels wide."""

POINTS_PER_STROKE = 24


@dataclass(frozen=True, slots=True, eq=False)
class Damping:
    """How a last layer's gradient is damped.

    Attributes:
        name: of the layer's weights, float32[classes, features].
        directions: float32[features, count], orthonormal.
        losses: float32[count]: the share of the gradient that is taken away along each.
    """

    name: str
    directions: Tensor
    losses: Tensor

    def damp(self, gradients: Mapping[str, Tensor]) -> None:
        """Damp the layer's gradient in place: g <- g - (g V) diag(losses) V^T."""
        gradient = gradients.get(self.name)
        if gradient is not None:
            gradient.sub_(((gradient @ self.directions) * self.losses) @ self.directions.T)


def measure_damping(module: nn.Module, count: int, seed: int) -> Damping | None:
    """The damping for a network in its initial state, or None when it does not apply, which is said in the log.

    With the second moment of the features that enter the last layer, M = mean of f f^T over the pictures, and its
    eigenvalues e_1 >= e_2 ..., the gradient along each of the first `count` eigenvectors is scaled by
    lambda / (lambda + e_i), lambda being eigenvalue number 2/3 count (the 21st of 32).

    Args:
        module: with a `spec` that says the input's shape, and a dense layer as its last module.
        count: how many directions.
        seed: of the pictures, the run's.
    """
    spec, last = model_spec(module), last_layer(module)
    if spec is None or last is None:
        log.warning("%s: no last-layer whitening, as its input shape or a dense last layer is not known", _name(module))
        return None
    name, layer = last
    features = _features(module, layer, as_inputs(torch.from_numpy(draw_strokes(spec.input_shape, seed))))
    # The eigenvectors of M = F^T F / n from the far smaller F F^T / n.
    values, vectors = torch.linalg.eigh(features @ features.T / len(features))
    count = min(count, int((values > values.max() * 1e-9).sum()))
    if count < 1:
        log.warning("%s: no last-layer whitening, as its features are all zero", _name(module))
        return None
    values, vectors = values.flip(0)[:count], vectors.flip(1)[:, :count]
    directions = features.T @ vectors / (values * len(features)).sqrt()
    bend = values[max(2 * count // 3, 1) - 1]
    losses = values / (bend + values)
    return Damping(f"{name}.weight", directions.float(), losses.float())


def last_layer(module: nn.Module) -> tuple[str, nn.Linear] | None:
    """The dense layer that ends the model, with its name; None when the model ends otherwise."""
    leaves = [(name, child) for name, child in module.named_modules() if not any(child.children()) and name]
    name, layer = leaves[-1] if leaves else ("", None)
    return (name, layer) if isinstance(layer, nn.Linear) else None


def draw_strokes(shape: tuple[int, ...], seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Pictures of random pen strokes as uint8[NUM_PICTURES, *shape], alike in all channels.

    A shape of one number is taken as a square picture of one or three channels where that is possible, else as one
    row; one of two numbers as rows and columns. A stroke is a quadratic Bezier curve between random points.
    """
    channels, height, width = _as_picture(shape)
    random = generator("strokes", seed)
    corners = random.random((NUM_PICTURES, STROKES_PER_PICTURE, 3, 2)) * 0.8 + 0.1
    along = np.linspace(0.0, 1.0, POINTS_PER_STROKE)[:, np.newaxis]
    blend = np.concatenate([(1 - along) ** 2, 2 * along * (1 - along), along**2], axis=1)
    points = np.einsum("pk,nskd->nspd", blend, corners).reshape(NUM_PICTURES, -1, 2)
    rows, columns = (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width
    pictures = np.empty((NUM_PICTURES, height, width), np.uint8)
    for picture, dots in zip(pictures, points, strict=True):
        squared = (dots[:, 0, None, None] - rows[:, None]) ** 2 + (dots[:, 1, None, None] - columns) ** 2
        ink = np.clip(2.0 - np.sqrt(squared.min(axis=0)) / PEN_RADIUS, 0.0, 1.0)
        picture[...] = np.rint(ink * 255)
    return np.repeat(pictures[:, np.newaxis], channels, axis=1).reshape(NUM_PICTURES, *shape)


def _as_picture(shape: tuple[int, ...]) -> tuple[int, int, int]:
    if len(shape) == 3:
        return shape
    if len(shape) == 2:
        return 1, *shape
    size = int(np.prod(shape))
    for channels in (1, 3):
        side = round((size / channels) ** 0.5)
        if channels * side * side == size:
            return channels, side, side
    return 1, 1, size


def _features(module: nn.Module, layer: nn.Linear, inputs: Tensor) -> Tensor:
    """What enters `layer`, as float64[pictures, features]."""
    seen: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _layer, given: seen.append(given[0].detach()))
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            module(inputs)
    finally:
        hook.remove()
        module.train(was_training)
    return seen[-1].reshape(len(inputs), -1).double()


def _name(module: nn.Module) -> str:
    return type(module).__name__
