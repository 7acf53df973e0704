"""Presets: names that stand for a strategy with its numbers and a codec, chosen by the number of local batches.

A preset is expanded by the coordinator before a run, so agents only ever see a strategy and numbers.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from learning.strategies.registry import STRATEGIES, make_strategy
from learning.strategies.strategy import Strategy
from schemas.errors import ConfigError

MANY_BATCHES = 20
"""E from which on the presets have other numbers."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A strategy with everything that a plan says about it, and how its models and updates are encoded.

    Attributes:
        codec: as `schemas.codecs.parse_codecs` reads it.
    """

    strategy: str
    learning_rate: float
    options: Mapping[str, float] = field(default_factory=dict)
    codec: str = "fp32"

    def make(self) -> Strategy:
        """The strategy itself.

        Raises:
            ConfigError: an option is unknown or out of its range.
        """
        return make_strategy(self.strategy, self.options)


def best(local_batches: int) -> Recipe:
    """For data that is divided in any way; knows nothing about how.

    SCAFFOLD with agent momentum, from a structured start, with the last layer's gradient whitened, clipping, and a
    rate that falls to zero in each round and slowly from round to round. The rate is 0.15 for E up to 40, beyond that
    0.15 sqrt(40 / E). It falls by 5 % a round for E below 20. From 20 on agents drift further in a round: it falls by
    10 %, and classes that an agent has no example of are spared. Four bits with a scale for each
    channel cost no rounds.
    """
    many = local_batches >= MANY_BATCHES
    options = {
        "momentum": 0.7,
        "clip": 2.0,
        "rate_end": 0.0,
        "rate_decay": 0.90 if many else 0.95,
        "absent_penalty": 1.0 if many else 0.0,
        "whitening": 64.0,
        "zero_last": 1.0,
        "structured_start": 1.0,
    }
    return Recipe("scaffold", 0.15 * min(1.0, math.sqrt(40 / local_batches)), options, "int4,channel")


def best_iid(local_batches: int) -> Recipe:
    """For data that is spread evenly over the agents.

    Adam on the agents, from a structured start, with the last layer's gradient whitened. For E below 20 the rate is
    0.003; from 20 on it is 0.002, and the mean is good enough for server momentum 0.3. In so few rounds, fewer bits
    than eight cost some.
    """
    many = local_batches >= MANY_BATCHES
    options = {
        "local_beta1": 0.7,
        "local_beta2": 0.99,
        "server_momentum": 0.3 if many else 0.0,
        "whitening": 64.0,
        "zero_last": 1.0,
        "structured_start": 1.0,
    }
    return Recipe("localadam", 0.002 if many else 0.003, options, "int8")


PRESETS: dict[str, Callable[[int], Recipe]] = {"best": best, "best-iid": best_iid}
"""Preset -> its recipe for E local batches."""


def names() -> list[str]:
    """All that can be asked for by name."""
    return sorted({*STRATEGIES, *PRESETS})


def expand(
    name: str, local_batches: int, learning_rate: float | None = None, options: Mapping[str, float] | None = None
) -> Recipe:
    """What a name stands for; a given learning rate or option replaces the recipe's own.

    Raises:
        ConfigError: an unknown name or option, or a value out of its range.
    """
    recipe = PRESETS[name](local_batches) if name in PRESETS else Recipe(name, make_strategy(name, {}).rate)
    recipe = replace(recipe, options={**recipe.options, **(options or {})})
    try:
        recipe.make()
    except ConfigError as error:
        raise ConfigError(f"preset {name!r}: {error}" if name in PRESETS else str(error)) from error
    return recipe if learning_rate is None else replace(recipe, learning_rate=learning_rate)
