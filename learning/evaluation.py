"""Loss and accuracy of a model on held-out examples."""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from learning.datasets import Examples
from learning.parameters import set_weights
from learning.tensors import ExampleTensors, as_inputs
from schemas.weights import Weights

# Fastest of 16 to 2,000 for the CNN on one x86 core (2,000 takes three times as long), and close for the others.
BATCH_SIZE = 64


@dataclass(frozen=True)
class Evaluation:
    """How good a model is.

    Attributes:
        loss: mean cross-entropy per example, in nats; not finite when the model diverged.
        accuracy: the fraction of examples whose label got the largest output, 0 to 1.
        num_examples: how many were judged.
    """

    loss: float
    accuracy: float
    num_examples: int


def evaluate(module: nn.Module, weights: Weights, examples: Examples, batch_size: int = BATCH_SIZE) -> Evaluation:
    """Put `weights` into `module` and judge it on all examples, in evaluation mode (no dropout).

    Raises:
        DataError: the weights are not this model's.
    """
    tensors = ExampleTensors.of(examples)
    set_weights(module, weights)
    module.eval()
    losses, correct = [], 0
    with torch.inference_mode():
        for start in range(0, tensors.num_examples, batch_size):
            labels = tensors.labels[start : start + batch_size]
            outputs = module(as_inputs(tensors.features[start : start + batch_size]))
            losses.append(functional.cross_entropy(outputs, labels, reduction="sum").item())
            correct += int((outputs.argmax(dim=1) == labels).sum())
    return Evaluation(math.fsum(losses) / tensors.num_examples, correct / tensors.num_examples, tensors.num_examples)
