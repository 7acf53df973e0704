"""The models that a run can train, by name, and the operator's own by `module:callable`.

A name may arrive over the wire, so it is a key into the registry below or points into the one folder that the
operator of this machine allowed; nothing else is ever imported.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from learning.custom_models import build_custom
from learning.datasets import Examples
from learning.tensors import ExampleTensors, as_inputs
from schemas.errors import ConfigError, DataError


@dataclass(frozen=True)
class ModelSpec:
    """What a model takes and gives: float32[batch, *input_shape] to float32[batch, num_classes]."""

    input_shape: tuple[int, ...]
    num_classes: int


class Cnn(nn.Module):
    """Two 4x4 convolutions (16, 32), pooling and one dense layer for 28x28 images; 47,226 parameters."""

    spec = ModelSpec((1, 28, 28), 10)

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 4)
        self.conv2 = nn.Conv2d(16, 32, 4)
        self.fc = nn.Linear(32 * 11 * 11, 10)
        # Channels last, with pooling before the second ReLU, took 3.1 ms a training batch of 16 instead of 4.0 ms
        # (x86, one core); either alone gains little. The weights' layout decides that of everything after them.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's annotations

    def forward(self, images: Tensor) -> Tensor:
        """Class scores of float32[batch, 1, 28, 28]."""
        hidden = functional.relu(self.conv1(images))
        # ReLU and pooling commute, values and gradients alike, and this way ReLU sees a quarter of the numbers.
        hidden = functional.relu(functional.max_pool2d(self.conv2(hidden), 2))
        scores: Tensor = self.fc(hidden.flatten(1))
        return scores


class Lstm(nn.Module):
    """Two LSTM layers (128, 64) and one dense layer on 8 steps of 1,024 values; 641,032 parameters."""

    spec = ModelSpec((8, 1024), 8)

    def __init__(self) -> None:
        super().__init__()
        # One bias pair per gate, as torch keeps them: 590,848 + 49,664 + 520 parameters.
        self.lstm1 = nn.LSTM(1024, 128, batch_first=True)
        self.lstm2 = nn.LSTM(128, 64, batch_first=True)
        self.fc = nn.Linear(64, 8)

    def forward(self, sequences: Tensor) -> Tensor:
        """Class scores of float32[batch, 8, 1024], from the last step."""
        hidden, _ = self.lstm1(sequences)
        hidden, _ = self.lstm2(hidden)
        scores: Tensor = self.fc(hidden[:, -1])
        return scores


class Mlp(nn.Module):
    """Dense layers 3072-512-256-10 with ReLU, for flat 32x32 colour images; 1,707,274 parameters."""

    spec = ModelSpec((3072,), 10)

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(3072, 512)
        self.fc2 = nn.Linear(512, 256)
        self.fc3 = nn.Linear(256, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Class scores of float32[batch, 3072]."""
        hidden = functional.relu(self.fc1(images))
        hidden = functional.relu(self.fc2(hidden))
        scores: Tensor = self.fc3(hidden)
        return scores


MODELS: dict[str, Callable[[], nn.Module]] = {"cnn": Cnn, "lstm": Lstm, "mlp": Mlp}


def build_model(name: str, seed: int, model_path: Path | None = None) -> nn.Module:
    """A fresh model: the same name and seed give the same initial weights, on every machine of a kind.

    Args:
        name: one of `MODELS`, or `module:callable`, a file in `model_path` and a callable in it without arguments.
        seed: of the initial weights. A callable that draws from torch gets it too; from NumPy or `random` not.
        model_path: the folder that the operator allows own models from; None allows none.

    Raises:
        ConfigError: unknown name, not allowed, not importable, or not a model.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed % 2**63)
        if name in MODELS:
            return MODELS[name]()
        if ":" in name:
            return build_custom(name, model_path)
    known = ", ".join(sorted(MODELS))
    raise ConfigError(f"unknown model {name!r}: expected one of {known}, or module:callable from the model path")


def num_parameters(module: nn.Module) -> int:
    """How many trained numbers the model has; buffers are not counted."""
    return sum(parameter.numel() for parameter in module.parameters())


def model_spec(module: nn.Module) -> ModelSpec | None:
    """What the model says about itself; None for an own model without a `spec`."""
    spec = getattr(module, "spec", None)
    return spec if isinstance(spec, ModelSpec) else None


def check_fits(module: nn.Module, examples: Examples) -> None:
    """Make sure that the model can be trained on these examples, before any round depends on it.

    A model without a `spec` is tried on one example.

    Raises:
        DataError: it cannot; the text names both shapes.
    """
    spec = model_spec(module)
    if spec is None:
        _try_one(module, examples)
    elif examples.shape != spec.input_shape or examples.num_classes > spec.num_classes:
        raise DataError(
            f"model {type(module).__name__} takes inputs of shape {list(spec.input_shape)} and tells "
            f"{spec.num_classes} classes apart, but {examples.name} has examples of shape "
            f"{list(examples.shape)} in {examples.num_classes} classes: choose another model or data set"
        )


def _try_one(module: nn.Module, examples: Examples) -> None:
    model, shape = type(module).__name__, list(examples.shape)
    was_training = module.training
    module.eval()
    try:
        with torch.inference_mode():
            outputs = module(as_inputs(ExampleTensors.of(examples).features[:1]))
    except Exception as error:  # an operator's own code may raise anything
        raise DataError(f"model {model} cannot take an example of {examples.name}, shape {shape}: {error}") from error
    finally:
        module.train(was_training)
    got = list(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
    if not isinstance(outputs, Tensor) or outputs.ndim != 2 or outputs.shape[1] < examples.num_classes:
        raise DataError(
            f"model {model} answers one example of {examples.name}, shape {shape}, with {got}: "
            f"expected scores of shape [1, {examples.num_classes}]"
        )
