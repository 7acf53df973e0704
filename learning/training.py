"""Local training on one agent: E batches of plain SGD from the global model, on the room's own examples.

This is the client's part of federated averaging (McMahan et al. 2017, "Communication-Efficient Learning of Deep
Networks from Decentralized Data", Algorithm 1, ClientUpdate), counted in batches instead of epochs. Other local
rules hook in through `LocalRule`. It decides nothing about rounds and keeps no state between them.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from learning.datasets import Examples
from learning.parameters import get_weights, set_weights
from learning.sampling import batch_indices
from learning.seeding import stable_seed
from learning.tensors import ExampleTensors
from schemas.weights import Array, Weights


@dataclass(frozen=True)
class LocalTask:
    """What one agent trains in one round.

    Attributes:
        local_batches: E, the number of batches.
        batch_size: B, the examples per batch.
        learning_rate: the step size of SGD.
        first_batch: number of the first batch in the agent's stream: how many it has trained on in accepted rounds.
        seed: the run's seed.
        agent_id: whose stream of shuffled examples it is.
    """

    local_batches: int
    batch_size: int
    learning_rate: float
    first_batch: int
    seed: int
    agent_id: str


@dataclass(frozen=True)
class LocalResult:
    """What came of a task.

    Attributes:
        weights: the whole model after the last batch, C-contiguous arrays by name.
        num_examples: size of the agent's data set, by which federated averaging weights it.
        num_batches: batches trained in this task.
        loss: cross-entropy before each step, mean over the batches; not finite when training diverged.
    """

    weights: dict[str, Array]
    num_examples: int
    num_batches: int
    loss: float


class TrainingStopped(Exception):  # noqa: N818 - not an error: the caller asked for it
    """The caller's `should_stop` said so; the batches done so far are discarded."""


class LocalRule(Protocol):
    """How the gradient of a batch becomes a step: w <- w - rate(step) * corrected gradient.

    A rule is made for one task; `step` counts that task's batches from 0. State that lives from round to round
    belongs to whoever makes the rule.
    """

    def rate(self, step: int) -> float:
        """The step size for this batch."""
        ...

    def correct(self, gradients: Mapping[str, Tensor], parameters: Mapping[str, Tensor], step: int) -> None:
        """Change the gradients in place (momentum, variance reduction, clipping ...); leave the parameters alone."""
        ...


@dataclass(frozen=True)
class PlainSgd:
    """Federated averaging's own rule: a constant rate and the gradient as it is."""

    learning_rate: float

    def rate(self, step: int) -> float:
        """The same for every batch."""
        return self.learning_rate

    def correct(self, gradients: Mapping[str, Tensor], parameters: Mapping[str, Tensor], step: int) -> None:
        """Leave them as they are."""


def never_stop() -> bool:
    """A `should_stop` for callers that always want the whole task."""
    return False


class Trainer:
    """A module and the room's examples, held ready so that a round rebuilds nothing.

    The same weights, task and thread count give the same bytes, whatever was trained before. Several trainers may
    share one module when they train in turn, as in a simulation; not from several threads at once.
    """

    def __init__(self, module: nn.Module, examples: Examples) -> None:
        """Train `module` on `examples`, which are not copied; see `learning.models.check_fits`."""
        self._module = module
        self._tensors = ExampleTensors.of(examples)
        self._parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}

    def train(
        self,
        weights: Weights,
        task: LocalTask,
        should_stop: Callable[[], bool] = never_stop,
        rule: LocalRule | None = None,
        score_offset: Tensor | None = None,
    ) -> LocalResult:
        """Train from `weights`; asks `should_stop` before every batch.

        Args:
            score_offset: float32[classes], added to the model's scores in training alone.

        Raises:
            TrainingStopped: `should_stop` returned True.
            DataError: the weights are not this model's.
        """
        rule = PlainSgd(task.learning_rate) if rule is None else rule
        set_weights(self._module, weights)
        self._module.train()
        losses = []
        with _seeded_global_generator(task):
            for step in range(task.local_batches):
                if should_stop():
                    raise TrainingStopped(f"stopped after {step} of {task.local_batches} batches")
                losses.append(self._step(task, step, rule, score_offset))
        loss = math.fsum(losses) / len(losses) if losses else math.nan
        return LocalResult(get_weights(self._module), self._tensors.num_examples, len(losses), loss)

    def _step(self, task: LocalTask, step: int, rule: LocalRule, score_offset: Tensor | None) -> float:
        indices = batch_indices(
            self._tensors.num_examples, task.batch_size, task.first_batch + step, task.seed, task.agent_id
        )
        features, labels = self._tensors.batch(torch.from_numpy(indices))
        scores = self._module(features)
        if score_offset is not None:
            # A model may tell more classes apart than the data set has.
            scores = scores + functional.pad(score_offset, (0, scores.shape[1] - len(score_offset)))
        loss = functional.cross_entropy(scores, labels)
        # Not backward(): this neither accumulates into .grad nor needs clearing it.
        found = torch.autograd.grad(loss, list(self._parameters.values()), allow_unused=True)
        gradients = {name: g for name, g in zip(self._parameters, found, strict=True) if g is not None}
        with torch.no_grad():
            rule.correct(gradients, self._parameters, step)
            rate = rule.rate(step)
            for name, gradient in gradients.items():
                self._parameters[name].add_(gradient, alpha=-rate)
        return loss.item()


def train(
    module: nn.Module,
    weights: Weights,
    examples: Examples,
    task: LocalTask,
    should_stop: Callable[[], bool] = never_stop,
) -> LocalResult:
    """Carry out one task; see `Trainer`, which is cheaper for more than one."""
    return Trainer(module, examples).train(weights, task, should_stop)


@contextmanager
def _seeded_global_generator(task: LocalTask) -> Iterator[None]:
    """For models that draw (dropout): from the task's seed, leaving torch's global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        seed = stable_seed("training", task.seed, task.agent_id, task.first_batch)
        torch.default_generator.manual_seed(seed % 2**63)
        yield
