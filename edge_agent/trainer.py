"""Local training for the agent: the room's data, loaded once, and the model that a plan names.

Runs on a worker thread, so that the agent keeps answering the broker while it trains.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edge_agent.events import StartTraining, TrainingFinished
from learning.datasets import Examples
from schemas.messages import TrainingPlan
from schemas.weights import Weights

if TYPE_CHECKING:
    from learning.learner import Build, Learner


class RoundTrainer(Protocol):
    """What the service needs from whoever trains."""

    def first_model(self, plan: TrainingPlan) -> Weights:
        """The model that a run of this plan starts from; raises when it cannot be made here."""

    def train(self, task: StartTraining, should_stop: Callable[[], bool]) -> TrainingFinished:
        """Train one round; raises when it cannot be done."""


class RoomTrainer:
    """Trains the plan's model, as its strategy says, on the examples of one room.

    Args:
        agent_id: from which, with the run's seed, the order of examples is derived.
        examples: the room's data.
        model_path: the folder of the operator's own models, or None to allow only the built-in ones.
        build: see `Learner`.
    """

    def __init__(
        self, agent_id: str, examples: Examples, model_path: Path | None = None, build: "Build | None" = None
    ) -> None:
        self._agent_id = agent_id
        self._examples = examples
        self._model_path = model_path
        self._build = build
        self._learner: Learner | None = None

    def first_model(self, plan: TrainingPlan) -> Weights:
        """The plan's model, its parameters derived from the run's seed.

        Raises:
            ConfigError: the plan asks for a model, strategy or option that this agent does not have.
        """
        from learning.initialisation import first_weights  # noqa: PLC0415

        return first_weights(plan, self._model_path)

    def train(self, task: StartTraining, should_stop: Callable[[], bool]) -> TrainingFinished:
        """E batches from the announced model, going on in the data where the round before stopped.

        Raises:
            ConfigError: the plan asks for a model, strategy or option that this agent does not have.
            DataError: the model does not fit the room's data.
            TrainingStopped: `should_stop` said so.
        """
        # torch takes seconds to load: only a process that trains pays for it.
        from learning.learner import Learner  # noqa: PLC0415
        from learning.models import build_model  # noqa: PLC0415

        if self._learner is None:
            build = self._build or build_model
            self._learner = Learner(self._agent_id, self._examples, self._model_path, build)
        announcement = task.announcement
        outcome = self._learner.train(
            announcement.plan,
            announcement.round_number,
            task.weights,
            task.carry,
            announcement.last_accepted_round,
            should_stop,
        )
        result = outcome.result
        return TrainingFinished(
            run_id=announcement.run_id,
            round_number=announcement.round_number,
            weights=result.weights,
            num_examples=result.num_examples,
            num_batches=result.num_batches,
            loss=result.loss,
            carry=outcome.carry,
        )
