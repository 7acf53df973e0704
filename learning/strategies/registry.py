"""Strategies by name, and their options checked: what a configuration or a plan says becomes an object here."""

import dataclasses
import difflib
from collections.abc import Collection, Mapping

from learning.strategies.agentmomentum import AgentMomentum
from learning.strategies.fedadam import FedAdam
from learning.strategies.fedavg import FedAvg
from learning.strategies.fedavgm import FedAvgM
from learning.strategies.fedprox import FedProx
from learning.strategies.fedyogi import FedYogi
from learning.strategies.localadam import LocalAdam
from learning.strategies.scaffold import Scaffold
from learning.strategies.strategy import Strategy
from schemas.errors import ConfigError

STRATEGIES: dict[str, type[Strategy]] = {
    strategy.name: strategy
    for strategy in (FedAvg, FedAvgM, FedAdam, FedYogi, FedProx, AgentMomentum, Scaffold, LocalAdam)
}


def make_strategy(name: str, options: Mapping[str, float]) -> Strategy:
    """The strategy of this name with these options; those that are not given have its defaults.

    Raises:
        ConfigError: there is no such strategy or option, or a value is out of its range.
    """
    if name not in STRATEGIES:
        raise ConfigError(f"there is no strategy {name!r}{_instead(name, STRATEGIES)}")
    strategy = STRATEGIES[name]
    known = default_options(strategy)
    for option in options:
        if option not in known:
            raise ConfigError(f"strategy {name!r} has no option {option!r}{_instead(option, known)}")
    return strategy(**options)


def default_options(strategy: type[Strategy]) -> dict[str, float]:
    """Its options and their defaults."""
    return {str(field.name): float(str(field.default)) for field in dataclasses.fields(strategy)}


def _instead(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f": expected one of {', '.join(sorted(known))}{hint}"
