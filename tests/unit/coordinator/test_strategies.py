"""From a configuration's strategy to the plan that agents get and the engine's own half."""

import numpy as np
import pytest

from coordinator.config import RunConfig
from coordinator.strategies import make_strategy
from learning.strategies.presets import expand
from schemas.errors import ConfigError
from transport.settings import settings_from

MODEL = {"w": np.zeros(3, np.float32)}


def configured(**training: object) -> RunConfig:
    return settings_from(RunConfig, {f"training.{key}": value for key, value in training.items()})


def test_preset_reaches_agents_as_a_strategy_with_numbers() -> None:
    plan = configured(strategy="best", local_batches=40).plan

    recipe = expand("best", 40)
    assert (plan.strategy, plan.learning_rate, plan.options) == ("scaffold", recipe.learning_rate, recipe.options)


def test_fedavg_travels_without_options() -> None:
    plan = configured(strategy="fedavg").plan

    assert (plan.strategy, plan.options) == ("fedavg", {})


def test_given_learning_rate_and_option_win_over_the_presets() -> None:
    plan = configured(strategy="best", learning_rate=0.01, options={"whitening": 0}).plan

    assert plan.learning_rate == 0.01
    assert plan.options["whitening"] == 0


def test_unknown_option_is_refused_before_anything_starts() -> None:
    with pytest.raises(ConfigError, match="has no option 'wand'"):
        configured(strategy="fedavg", options={"wand": 1.0})


def test_option_out_of_its_range_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'server_momentum' of strategy 'fedavgm' must be from 0 to 0.999, not 2"):
        configured(strategy="fedavgm", options={"server_momentum": 2.0})


def test_engines_half_takes_the_exact_mean_and_then_the_strategys_step() -> None:
    strategy = make_strategy(configured(strategy="fedavgm", options={"server_momentum": 0.5}).plan)
    mean = strategy.aggregator(MODEL)
    mean.add({"w": np.array([1, 2, 3], np.float32)}, 3)
    mean.add({"w": np.array([5, 2, -1], np.float32)}, 1)

    step = strategy.step(MODEL, mean.result(), {"momentum/w": np.array([-2, 0, 0], np.float32)})

    # The mean is (2, 2, 2): v = 0.5 (-2, 0, 0) - (2, 2, 2).
    assert strategy.name == "fedavgm"
    assert step.weights["w"].tolist() == [3, 2, 2]
