"""What the round engine asks of a strategy: an aggregator for the updates, and the step that follows.

The steps themselves are in `learning.strategies`, beside the agents' halves. The state between them is named arrays,
saved with every checkpoint, so that a resumed run goes on exactly where it was.
"""

from collections.abc import Callable
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


class AggregateThenStep:
    """Every strategy so far: the updates put together, then the method's own step.

    Args:
        method: the strategy.
        aggregator: makes an empty aggregator for a round's model.
    """

    def __init__(self, method: Method, aggregator: Callable[[Weights], Aggregator] = ExactMean) -> None:
        self._method = method
        self._aggregator = aggregator

    @property
    def name(self) -> str:
        """As announcements call it."""
        return self._method.name

    def aggregator(self, model: Weights) -> Aggregator:
        """An empty aggregator: FedAvg's exact weighted mean unless another one was asked for."""
        return self._aggregator(model)

    def step(self, model: Weights, aggregate: Weights, state: State) -> Step:
        """The method's coordinator half."""
        return self._method.step(model, aggregate, state)
