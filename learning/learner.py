"""One agent's learning: its model, its examples and its strategy's half, round by round.

Keeps nothing that a later round depends on: what lives from round to round comes in as the carry and goes out with
the outcome. It knows no messages; `edge_agent.trainer` and experiments call it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from learning.datasets import Examples
from learning.initialisation import initial_model
from learning.models import build_model, check_fits
from learning.strategies.registry import make_strategy
from learning.strategies.strategy import RoundStart, State, Strategy
from learning.training import LocalResult, LocalTask, Trainer, never_stop
from learning.whitening import Damping, measure_damping
from schemas.messages import TrainingPlan
from schemas.weights import Array, Weights

Build = Callable[[str, int, Path | None], nn.Module]
"""Makes a model's module from its name, a seed and the folder of the operator's own models."""


@dataclass(frozen=True, slots=True)
class LocalOutcome:
    """A trained round.

    Attributes:
        result: with the weights that are to be sent.
        carry: for the next round, if this one closes with these weights.
    """

    result: LocalResult
    carry: dict[str, Array]


class Learner:
    """Trains the rounds of any plan on one agent's examples; a model is built once.

    Args:
        agent_id: from which, with the run's seed, the order of examples is derived.
        model_path: the folder of the operator's own models, or None to allow only the built-in ones.
        build: makes a module whose weights do not matter; learners that train in turn may share one.
    """

    def __init__(
        self, agent_id: str, examples: Examples, model_path: Path | None = None, build: Build = build_model
    ) -> None:
        self._agent_id = agent_id
        self._examples = examples
        self._model_path = model_path
        self._build = build
        self._trainer: tuple[str, Trainer] | None = None

    def train(  # noqa: PLR0913, PLR0917 - one round, as the announcement describes it
        self,
        plan: TrainingPlan,
        round_number: int,
        weights: Weights,
        carry: State,
        carried_round: int,
        should_stop: Callable[[], bool] = never_stop,
    ) -> LocalOutcome:
        """E batches from `weights`, going on in the data where the round before stopped.

        Args:
            carry: what this agent carried out of round `carried_round`, the last that closed with its update.

        Raises:
            ConfigError: the plan asks for a model, strategy or option that this agent does not have.
            DataError: the model does not fit the examples.
            TrainingStopped: `should_stop` said so.
        """
        strategy = make_strategy(plan.strategy, plan.options)
        trainer = self._trainer_for(plan.model)
        local = strategy.local_round(
            RoundStart(
                round_number=round_number,
                model=weights,
                carry=carry,
                carried_round=carried_round if carry else 0,
                local_batches=plan.local_batches,
                learning_rate=plan.learning_rate,
                damping=damping_for(plan.model, plan.seed, strategy, self._model_path),
            )
        )
        task = LocalTask(
            local_batches=plan.local_batches,
            batch_size=plan.batch_size,
            learning_rate=plan.learning_rate,
            first_batch=(round_number - 1) * plan.local_batches,
            seed=plan.seed,
            agent_id=self._agent_id,
        )
        result = trainer.train(weights, task, should_stop, local, self._score_offset(strategy))
        sent = LocalResult(local.upload(result.weights), result.num_examples, result.num_batches, result.loss)
        return LocalOutcome(sent, local.carry())

    def _score_offset(self, strategy: Strategy) -> Tensor | None:
        """The penalty on classes that no example here has; None where it changes nothing."""
        counts = np.bincount(self._examples.labels, minlength=self._examples.num_classes)
        if not strategy.absent_penalty or counts.all():
            return None
        return torch.from_numpy(np.where(counts == 0, -strategy.absent_penalty, 0.0).astype(np.float32))

    def _trainer_for(self, model: str) -> Trainer:
        if self._trainer is None or self._trainer[0] != model:
            module = self._build(model, 0, self._model_path)
            check_fits(module, self._examples)
            self._trainer = model, Trainer(module, self._examples)
        return self._trainer[1]


def damping_for(model: str, seed: int, strategy: Strategy, model_path: Path | None = None) -> Damping | None:
    """The strategy's damping for a run's model; None when it wants none or the model has none."""
    return _measured(model, seed, strategy, model_path) if strategy.whitening else None


# The agents of a simulation, and the rounds of a run, share one.
@lru_cache(maxsize=2)
def _measured(model: str, seed: int, strategy: Strategy, model_path: Path | None) -> Damping | None:
    return measure_damping(initial_model(model, seed, strategy, model_path), int(strategy.whitening), seed)
