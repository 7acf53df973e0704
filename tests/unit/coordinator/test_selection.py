"""Which agents a round asks: from seed and round alone."""

from dataclasses import replace

from coordinator.rules import RoundRules
from coordinator.selection import at_most, select
from tests.unit.coordinator.engine_driver import PLAN

RULES = RoundRules(run_id="run-1", plan=PLAN, rounds=3)
TEN = [f"room-{i}" for i in range(10)]


def test_everyone_is_selected_by_default() -> None:
    assert select(TEN, RULES, 1) == TEN


def test_fraction_is_rounded_up() -> None:
    assert len(select(TEN, replace(RULES, fraction=0.21), 1)) == 3


def test_same_agents_are_selected_when_the_round_is_the_same() -> None:
    rules = replace(RULES, fraction=0.5)
    assert select(TEN, rules, 4) == select(list(reversed(TEN)), rules, 4)
    assert len({tuple(select(TEN, rules, number)) for number in range(1, 20)}) > 5


def test_enough_are_selected_for_the_least_number_of_updates() -> None:
    assert len(select(TEN, replace(RULES, fraction=0.1, min_updates=4), 1)) == 4


def test_required_agents_are_always_selected() -> None:
    rules = replace(RULES, fraction=0.2, required_agents=frozenset({"room-7", "room-3"}))
    assert all(select(TEN, rules, number) == ["room-3", "room-7"] for number in range(1, 9))


def test_another_seed_selects_others() -> None:
    other = replace(RULES, fraction=0.5, plan=PLAN.model_copy(update={"seed": 2}))
    chosen = [select(TEN, replace(RULES, fraction=0.5), number) for number in range(1, 9)]
    assert chosen != [select(TEN, other, number) for number in range(1, 9)]


def test_no_more_are_selected_than_there_is_room_for() -> None:
    few = at_most(7)
    assert all(len(few([f"room-{i}" for i in range(count)], RULES, 1)) == min(count, 7) for count in range(1, 60))


def test_required_agents_are_first_when_there_is_little_room() -> None:
    rules = replace(RULES, required_agents=frozenset({"room-7", "room-3"}))
    assert all({"room-3", "room-7"} <= set(at_most(3)(TEN, rules, number)) for number in range(1, 9))


def test_room_for_all_changes_no_selection() -> None:
    rules = replace(RULES, fraction=0.5)
    assert at_most(5)(TEN, rules, 4) == select(TEN, rules, 4)
