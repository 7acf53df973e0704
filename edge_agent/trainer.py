"""Local training for the agent: the room's data, loaded once, and the model that a plan names.

Runs on a worker thread, so that the agent keeps answering the broker while it trains.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from edge_agent.events import StartTraining, TrainingFinished
from learning.datasets import Examples
from schemas.errors import ConfigError


class RoundTrainer(Protocol):
    """What the service needs from whoever trains."""

    def train(self, task: StartTraining, should_stop: Callable[[], bool]) -> TrainingFinished:
        """Train one round; raises when it cannot be done."""


class RoomTrainer:
    """Trains the plan's model on the examples of one room.

    Args:
        agent_id: from which, with the run's seed, the order of examples is derived.
        examples: the room's data.
        model_path: the folder of the operator's own models, or None to allow only the built-in ones.
    """

    def __init__(self, agent_id: str, examples: Examples, model_path: Path | None = None) -> None:
        self._agent_id = agent_id
        self._examples = examples
        self._model_path = model_path
        self._model_name = ""
        self._trainer: object = None

    def train(self, task: StartTraining, should_stop: Callable[[], bool]) -> TrainingFinished:
        """E batches from the announced model, going on in the data where the round before stopped.

        McMahan et al. 2017, Algorithm 1, ClientUpdate, with E counted in batches.

        Raises:
            ConfigError: the plan asks for a model or strategy that this agent does not have.
            DataError: the model does not fit the room's data.
            TrainingStopped: `should_stop` said so.
        """
        # torch takes seconds to load: only a process that trains pays for it.
        from learning.training import LocalTask, Trainer  # noqa: PLC0415

        announcement = task.announcement
        plan = announcement.plan
        if plan.strategy != "fedavg":
            raise ConfigError(
                f"the run asks for strategy {plan.strategy!r}, which this agent does not have: upgrade it"
            )
        if plan.model != self._model_name:
            self._trainer = self._build(plan.model)
            self._model_name = plan.model
        local = LocalTask(
            local_batches=plan.local_batches,
            batch_size=plan.batch_size,
            learning_rate=plan.learning_rate,
            first_batch=(announcement.round_number - 1) * plan.local_batches,
            seed=plan.seed,
            agent_id=self._agent_id,
        )
        assert isinstance(self._trainer, Trainer)  # noqa: S101 - for the type checker
        result = self._trainer.train(task.weights, local, should_stop)
        return TrainingFinished(
            run_id=announcement.run_id,
            round_number=announcement.round_number,
            weights=result.weights,
            num_examples=result.num_examples,
            num_batches=result.num_batches,
            loss=result.loss,
        )

    def _build(self, name: str) -> object:
        from learning.models import build_model, check_fits  # noqa: PLC0415
        from learning.training import Trainer  # noqa: PLC0415

        module = build_model(name, seed=0, model_path=self._model_path)
        check_fits(module, self._examples)
        return Trainer(module, self._examples)
