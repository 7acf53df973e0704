"""Strategies by name."""

from coordinator.strategy import FedAvg, Strategy
from schemas.errors import ConfigError

STRATEGIES: dict[str, type[FedAvg]] = {FedAvg.name: FedAvg}


def make_strategy(name: str) -> Strategy:
    """The strategy of this name; ConfigError lists those there are."""
    if name not in STRATEGIES:
        raise ConfigError(f"training.strategy {name!r} is not known: expected one of {', '.join(sorted(STRATEGIES))}")
    return STRATEGIES[name]()
