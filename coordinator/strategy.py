"""What the round engine asks of an aggregation strategy, and FedAvg, the reference.

A strategy says how updates are put together (`aggregator`) and how the global model moves (`step`). Its state is
named arrays, saved with every checkpoint, so that a resumed run goes on exactly where it was.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from coordinator.aggregation import ExactMean
from schemas.weights import Array, Weights

State = Mapping[str, Array]


class Aggregator(Protocol):
    """Takes a round's updates one by one; the result does not depend on their order."""

    @property
    def num_updates(self) -> int:
        """How many were added."""

    @property
    def num_examples(self) -> int:
        """The sum of their examples."""

    def add(self, weights: Weights, num_examples: int) -> None:
        """Add one update, or raise PayloadError and change nothing."""

    def result(self) -> dict[str, Array]:
        """The aggregate, with the reference's dtypes."""


@dataclass(frozen=True, slots=True)
class Step:
    """A new global model and the strategy state that goes with it."""

    weights: Weights
    state: State


class Strategy(Protocol):
    """One aggregation strategy."""

    @property
    def name(self) -> str:
        """As users and announcements call it."""

    def aggregator(self, model: Weights) -> Aggregator:
        """An empty aggregator for updates of this model."""

    def step(self, model: Weights, aggregate: Weights, state: State) -> Step:
        """Move the global model, given the round's aggregate. The first round has an empty state."""


class FedAvg:
    """Federated averaging: the new model is the mean of the updates, weighted by their examples.

    McMahan, Moore, Ramage, Hampson, Aguera y Arcas, "Communication-Efficient Learning of Deep Networks from
    Decentralized Data", AISTATS 2017, Algorithm 1: w_{t+1} = sum over k of (n_k / n) w^k_{t+1}, n being the sum
    over the agents that answered.
    """

    name = "fedavg"

    def aggregator(self, model: Weights) -> Aggregator:
        """An exact weighted mean."""
        return ExactMean(model)

    def step(self, model: Weights, aggregate: Weights, state: State) -> Step:
        """The aggregate is the new model; there is no state."""
        del model
        return Step(aggregate, state)
