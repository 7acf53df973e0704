"""Names, options and what is said about wrong ones; resuming, for every strategy there is."""

import pytest

from learning.strategies.presets import expand
from learning.strategies.registry import STRATEGIES, default_options, make_strategy
from schemas.errors import ConfigError
from schemas.messages import TrainingPlan
from tests.unit.learning.strategies.three_numbers import Federation

WHO = ((0, 1, 2), (0, 1, 2), (0, 2), (0, 1, 2), (1, 2), (0, 1, 2))


@pytest.mark.parametrize("name", STRATEGIES)
def test_strategy_fits_a_training_plan(name: str) -> None:
    options = default_options(STRATEGIES[name])

    plan = TrainingPlan(
        model="cnn", local_batches=1, batch_size=1, learning_rate=0.1, seed=1, strategy=name, options=options
    )

    assert make_strategy(plan.strategy, plan.options) == STRATEGIES[name]()


@pytest.mark.parametrize("name", STRATEGIES)
def test_strategy_cites_its_source(name: str) -> None:
    assert STRATEGIES[name].citation


@pytest.mark.parametrize("name", STRATEGIES)
def test_run_restored_from_saved_state_goes_on_with_the_same_bytes(name: str) -> None:
    strategy = make_strategy(name, {})
    undisturbed, first = Federation(strategy), Federation(strategy)
    undisturbed.play_rounds(WHO)
    first.play_rounds(WHO[:3])

    second = Federation.restored(make_strategy(name, {}), first.saved())
    second.play_rounds(WHO[3:])

    assert second.model["w"].tobytes() == undisturbed.model["w"].tobytes()
    assert {k: v.tobytes() for k, v in second.state.items()} == {k: v.tobytes() for k, v in undisturbed.state.items()}


@pytest.mark.parametrize("name", STRATEGIES)
def test_same_run_gives_the_same_bytes_whoever_answers_first(name: str) -> None:
    one, other = Federation(make_strategy(name, {})), Federation(make_strategy(name, {}))
    one.play_rounds(WHO)
    other.play_rounds([tuple(reversed(who)) for who in WHO])

    assert one.model["w"].tobytes() == other.model["w"].tobytes()


def test_unknown_strategy_is_refused_with_a_suggestion() -> None:
    with pytest.raises(ConfigError, match=r"no strategy 'fedavgn'.*did you mean"):
        make_strategy("fedavgn", {})


def test_unknown_option_is_refused_with_a_suggestion() -> None:
    with pytest.raises(ConfigError, match=r"'fedavgm' has no option 'momentum'.*did you mean 'server_momentum'"):
        make_strategy("fedavgm", {"momentum": 0.5})


def test_given_numbers_replace_the_strategys_own() -> None:
    recipe = expand("fedavgm", 10, learning_rate=0.2, options={"server_momentum": 0.1})

    assert (recipe.learning_rate, recipe.options) == (0.2, {"server_momentum": 0.1})


def test_learning_rate_that_is_not_given_is_the_strategys_own() -> None:
    assert expand("fedavg", 10).learning_rate == STRATEGIES["fedavg"].rate
