"""The strategy that a plan names, as the round engine uses it, and what puts its updates together."""

from dataclasses import dataclass

from coordinator.aggregation import ExactMean
from coordinator.robust import RULES, RobustAggregate
from coordinator.rules import MIB
from coordinator.strategy import AggregateThenStep, Aggregator, Strategy
from learning.strategies.registry import make_strategy as make_method
from schemas.messages import TrainingPlan
from schemas.weights import Weights

MEAN = "mean"
"""FedAvg's exact mean, weighted by examples, which keeps no updates."""

AGGREGATIONS = (MEAN, *RULES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregation:
    """How a round's updates are put together.

    Attributes:
        rule: one of `AGGREGATIONS`.
        attackers: how many of a round's updates may be wrong or malicious; for rules that need to know.
        max_norm: of norm clipping; None takes the median of the round's norms.
        max_memory_bytes: for the updates that robust rules keep until a round closes.
    """

    rule: str = MEAN
    attackers: int = 1
    max_norm: float | None = None
    max_memory_bytes: int = 1024 * MIB

    def aggregator(self, model: Weights) -> Aggregator:
        """An empty aggregator for updates of this model."""
        if self.rule == MEAN:
            return ExactMean(model)
        most = self.max_updates(model)
        return RobustAggregate(model, RULES[self.rule](self.attackers, self.max_norm), 0 if most is None else most)

    def max_updates(self, model: Weights) -> int | None:
        """How many updates of this model a round may have; None for any number."""
        if self.rule == MEAN:
            return None
        return self.max_memory_bytes // max(1, sum(array.nbytes for array in model.values()))


def make_strategy(plan: TrainingPlan, aggregation: Aggregation = Aggregation()) -> Strategy:
    """The coordinator's half of the plan's strategy.

    Raises:
        ConfigError: there is no such strategy or option; the text lists those there are.
    """
    return AggregateThenStep(make_method(plan.strategy, plan.options), aggregation.aggregator)
