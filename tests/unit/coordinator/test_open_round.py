"""An open round: whom it waits for, and when it may close."""

from dataclasses import replace

from coordinator.broadcast import Broadcast
from coordinator.events import RoundTimes
from coordinator.open_round import OpenRound
from coordinator.parcels import Parcels
from coordinator.pulls import Pulls
from coordinator.rules import RoundRules
from coordinator.strategy import AggregateThenStep
from learning.strategies.fedavg import FedAvg
from schemas.codecs import PLAIN
from schemas.weights import digest
from tests.unit.coordinator.engine_driver import PLAN, three

RULES = RoundRules(run_id="run-1", plan=PLAN, rounds=3)


def opened(*selected: str, welcome: frozenset[str] = frozenset()) -> OpenRound:
    return OpenRound(
        number=4,
        attempt=1,
        selected=frozenset(selected),
        welcome=welcome,
        deadline_s=160.0,
        started_at=1e9,
        parcels=Parcels(Broadcast({}, digest({})), False, PLAIN.down, 1024, bytes, bytes),
        max_update_bytes=0,
        aggregator=AggregateThenStep(FedAvg()).aggregator(three(0, 0, 0)),
        times=RoundTimes(opened_s=100.0),
        pulls=Pulls(1024),
    )


def test_missing_are_those_whose_update_did_not_come() -> None:
    round_ = opened("c", "b", "a")
    round_.accept("b", 1, None, 101.0)
    assert round_.missing() == ["a", "c"]
    assert not round_.wants("b")


def test_round_closes_early_when_as_many_came_as_were_asked() -> None:
    round_ = opened("a", "b", welcome=frozenset({"slow"}))
    round_.accept("a", 1, None, 101.0)
    assert not round_.may_close_early(RULES)
    assert round_.wants("slow")
    round_.accept("slow", 1, None, 102.0)
    assert round_.may_close_early(RULES)
    assert round_.record("run-1", "0" * 64, {}, 0).selected == ("a", "b", "slow")


def test_round_closes_early_at_its_quorum() -> None:
    round_ = opened("a", "b", "c")
    round_.accept("a", 1, None, 101.0)
    assert round_.may_close_early(replace(RULES, quorum=1))
    assert not round_.may_close_early(replace(RULES, quorum=1, min_updates=2))
    assert not round_.may_close_early(replace(RULES, quorum=1, required_agents=frozenset({"b"})))


def test_agent_that_was_given_up_is_not_waited_for_but_may_still_deliver() -> None:
    round_ = opened("a", "b")
    round_.give_up("b")
    assert not round_.wants("b")
    assert round_.takes_part("b")
    assert not round_.may_close_early(RULES)
    round_.accept("b", 1, None, 101.0)
    assert not round_.may_close_early(RULES)
    round_.accept("a", 1, None, 102.0)
    assert round_.may_close_early(RULES)


def test_round_does_not_close_when_everyone_was_given_up() -> None:
    round_ = opened("a")
    round_.give_up("a")
    assert not round_.may_close_early(RULES)


def test_giving_up_somebody_who_was_not_asked_changes_nothing() -> None:
    round_ = opened("a", "b", welcome=frozenset({"c"}))
    round_.give_up("c")
    round_.accept("a", 1, None, 101.0)
    assert not round_.may_close_early(RULES)


def test_quorum_of_more_than_were_asked_waits_for_all_of_them() -> None:
    round_ = opened("a")
    round_.accept("a", 1, None, 101.0)
    assert round_.may_close_early(replace(RULES, quorum=5))


def test_training_loss_is_weighted_by_examples() -> None:
    round_ = opened("a", "b", "c")
    round_.accept("a", 1, 4.0, 101.0)
    round_.accept("b", 3, 2.0, 102.5)
    round_.accept("c", 9, None, 103.0)
    assert round_.record("run-1", "0" * 64, {}, 0).train_loss == 2.5
    assert round_.latencies_s == {"a": 1.0, "b": 2.5, "c": 3.0}


def test_record_names_whose_update_came_last() -> None:
    round_ = opened("a", "b", "c")
    round_.accept("b", 1, None, 109.5)
    round_.accept("a", 1, None, 101.0)

    record = round_.record("run-1", "0" * 64, {}, 0)
    assert (record.slowest_agent_id, record.slowest_latency_s) == ("b", 9.5)


def test_record_names_nobody_when_no_update_came() -> None:
    record = opened("a").record("run-1", "0" * 64, {}, 0)

    assert (record.slowest_agent_id, record.slowest_latency_s) == (None, None)
