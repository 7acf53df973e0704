"""Presets expand to strategies and numbers that exist, by the number of local batches."""

import pytest

from learning.strategies.presets import PRESETS, expand, names
from learning.strategies.registry import STRATEGIES
from schemas.errors import ConfigError


@pytest.mark.parametrize("local_batches", [1, 10, 40, 1000])
@pytest.mark.parametrize("name", PRESETS)
def test_preset_is_a_strategy_with_valid_options_for_any_number_of_batches(name: str, local_batches: int) -> None:
    recipe = expand(name, local_batches)

    assert recipe.strategy in STRATEGIES
    assert recipe.make().name == recipe.strategy
    assert len(recipe.options) <= 32


@pytest.mark.parametrize("name", PRESETS)
def test_more_batches_never_take_larger_steps(name: str) -> None:
    rates = [expand(name, local_batches).learning_rate for local_batches in (5, 10, 20, 40, 80)]

    assert rates == sorted(rates, reverse=True)


def test_given_number_replaces_the_presets() -> None:
    recipe = expand("best", 10, learning_rate=0.01, options={"whitening": 0.0})

    assert recipe.learning_rate == 0.01
    assert recipe.options == {**expand("best", 10).options, "whitening": 0.0}


def test_option_that_the_presets_strategy_lacks_is_refused() -> None:
    with pytest.raises(ConfigError, match="preset 'best': strategy 'scaffold' has no option 'server_momentum'"):
        expand("best", 10, options={"server_momentum": 0.5})


def test_names_are_those_of_strategies_and_presets() -> None:
    assert names() == sorted({*STRATEGIES, "best", "best-iid"})
