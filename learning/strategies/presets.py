"""Presets: names that stand for a strategy with its numbers, chosen by the number of local batches.

A preset is expanded by the coordinator before a run, so agents only ever see a strategy and numbers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from learning.strategies.registry import STRATEGIES, make_strategy
from learning.strategies.strategy import Strategy


@dataclass(frozen=True, slots=True)
class Recipe:
    """A strategy with everything that a plan says about it."""

    strategy: str
    learning_rate: float
    options: Mapping[str, float] = field(default_factory=dict)

    def make(self) -> Strategy:
        """The strategy itself.

        Raises:
            ConfigError: an option is unknown or out of its range.
        """
        return make_strategy(self.strategy, self.options)


PRESETS: dict[str, Callable[[int], Recipe]] = {}
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
    recipe.make()
    return recipe if learning_rate is None else replace(recipe, learning_rate=learning_rate)
