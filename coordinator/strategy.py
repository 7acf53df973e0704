"""What the round engine asks of a strategy: an aggregator for the updates, and the step that follows.

The steps themselves are in `learning.strategies`, beside the agents' halves. The state between them is named arrays,
saved with every checkpoint, so that a resumed run goes on exactly where it was.
"""

from typing import Protocol

from coordinator.aggregation import ExactMean, Inspection
from learning.strategies.strategy import State, Step
from learning.strategies.strategy import Strategy as Method
from schemas.weights import Array, Weights


class Aggregator(Protocol):
    """Takes a round's updates one by one; the result does not depend on their order."""

    @property
    def num_updates(self) -> int:
        """How many were added."""

    @property
    def num_examples(self) -> int:
        """The sum of their examples."""

    def add(self, weights: Weights, num_examples: int, inspection: Inspection | None = None) -> None:
        """Add one update, or raise PayloadError and change nothing; its inspection spares reading it once more."""

    def result(self) -> dict[str, Array]:
        """The aggregate, with the reference's dtypes."""


class Strategy(Protocol):
    """One aggregation strategy."""

    @property
    def name(self) -> str:
        """As users and announcements call it."""

    def aggregator(self, model: Weights) -> Aggregator:
        """An empty aggregator for updates of this model."""

    def step(self, model: Weights, aggregate: Weights, state: State) -> Step:
        """Move the global model, given the round's aggregate. The first round has an empty state."""


class MeanThenStep:
    """Every strategy so far: an exact weighted mean of the updates, then the method's own step."""

    def __init__(self, method: Method) -> None:
        self._method = method

    @property
    def name(self) -> str:
        """As announcements call it."""
        return self._method.name

    def aggregator(self, model: Weights) -> Aggregator:
        """An exact weighted mean."""
        return ExactMean(model)

    def step(self, model: Weights, aggregate: Weights, state: State) -> Step:
        """The method's coordinator half."""
        return self._method.step(model, aggregate, state)
