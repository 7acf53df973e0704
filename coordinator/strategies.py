"""The strategy that a plan names, as the round engine uses it."""

from coordinator.strategy import MeanThenStep, Strategy
from learning.strategies.registry import make_strategy as make_method
from schemas.messages import TrainingPlan


def make_strategy(plan: TrainingPlan) -> Strategy:
    """The coordinator's half of the plan's strategy.

    Raises:
        ConfigError: there is no such strategy or option; the text lists those there are.
    """
    return MeanThenStep(make_method(plan.strategy, plan.options))
