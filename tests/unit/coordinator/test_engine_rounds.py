"""When rounds open and close, and what their result is, from hand-made events."""

from itertools import permutations

import pytest

from coordinator.engine import Phase
from coordinator.events import End, Evaluate, Publish, SaveCheckpoint
from schemas.messages import Receipt, RoundAnnouncement, Standing
from schemas.topics import Kind
from tests.unit.coordinator.engine_driver import EngineDriver, checkpoints, three


def test_round_opens_when_the_least_number_of_agents_is_there() -> None:
    driver = EngineDriver(min_agents=2)
    driver.begin("a")
    assert driver.is_in(Phase.WAITING)
    driver.join("b")
    assert driver.is_in(Phase.COLLECTING)
    assert driver.invited() == ["a", "b"]


def test_agent_is_told_to_wait_when_there_are_not_enough() -> None:
    driver = EngineDriver(min_agents=2)
    driver.begin("a")
    assert [s.phase for s in driver.messages(Standing, "a")] == ["waiting"]


def test_round_waits_for_a_required_agent() -> None:
    driver = EngineDriver(required_agents=frozenset({"c"}))
    driver.begin("a", "b")
    assert driver.is_in(Phase.WAITING)
    driver.join("c")
    assert driver.is_in(Phase.COLLECTING)


def test_run_aborts_with_its_reason_when_patience_ends() -> None:
    driver = EngineDriver(min_agents=3, required_agents=frozenset({"c"}), patience_s=20.0)
    driver.begin("a", "b")
    driver.wait(19.9)
    assert driver.is_in(Phase.WAITING)
    driver.wait(0.2)
    end = driver.end()
    assert end is not None
    assert end.outcome == "aborted"
    assert end.detail == "2 of 3 needed agents were there within 20 s; missing: c (there: a, b)"
    assert driver.messages(Standing, "a")[-1].phase == "aborted"
    assert driver.messages(Standing, "a")[-1].detail == end.detail


def test_model_comes_before_its_announcement_when_a_round_opens() -> None:
    driver = EngineDriver()
    driver.begin("a")
    kinds = [action.address.kind for action in driver.seen if isinstance(action, Publish)]
    assert kinds.index(Kind.MODEL) < kinds.index(Kind.ANNOUNCEMENT)


def test_model_is_sent_to_the_selected_alone_when_they_are_few() -> None:
    driver = EngineDriver(min_agents=4, fraction=0.5)
    driver.begin("a", "b", "c", "d")
    assert not driver.payloads(Kind.MODEL)
    assert len(driver.invited()) == 2
    assert all(len(driver.payloads(Kind.AGENT_MODEL, agent_id)) == 1 for agent_id in driver.invited())


def test_mean_is_weighted_by_examples_as_in_algorithm_1() -> None:
    driver = EngineDriver(min_agents=2)
    driver.begin("a", "b")
    driver.deliver("a", three(1, 2, 3), num_examples=1)
    driver.deliver("b", three(3, 2, 7), num_examples=3)
    assert driver.model() == [(1 + 3 * 3) / 4, 2.0, (3 + 3 * 7) / 4]
    assert driver.records()[0].num_examples == 4


def test_order_of_arrival_changes_no_byte() -> None:
    models = set()
    updates = {"a": (three(0.1, 1e-7, -3), 7), "b": (three(0.3, 900, 2), 11), "c": (three(-0.7, -900, 5), 13)}
    for order in permutations(updates):
        driver = EngineDriver(min_agents=3)
        driver.begin("a", "b", "c")
        for agent_id in order:
            driver.deliver(agent_id, *updates[agent_id])
        assert driver.records()[0].accepted == ("a", "b", "c")
        models.add(driver.engine.model["w"].tobytes())
    assert len(models) == 1


def test_next_round_starts_from_the_new_model() -> None:
    driver = EngineDriver()
    driver.begin("a")
    driver.forget()
    driver.deliver("a", three(1, 2, 3))
    announcement = driver.messages(RoundAnnouncement, "a")[0]
    assert announcement.round_number == 2
    assert announcement.last_accepted_round == 1
    assert announcement.model.sha256 == driver.records()[0].model_sha256


def test_round_closes_early_at_its_quorum() -> None:
    driver = EngineDriver(min_agents=3, quorum=2)
    driver.begin("a", "b", "c")
    driver.close_round("a", "b")
    record = driver.records()[0]
    assert record.selected == ("a", "b", "c")
    assert record.accepted == ("a", "b")


def test_quorum_is_not_enough_when_a_required_agent_is_missing() -> None:
    driver = EngineDriver(min_agents=3, quorum=2, required_agents=frozenset({"c"}))
    driver.begin("a", "b", "c")
    driver.close_round("a", "b")
    assert driver.is_in(Phase.COLLECTING)
    driver.deliver("c")
    assert driver.records()[0].accepted == ("a", "b", "c")


def test_round_closes_at_its_deadline_with_enough_updates() -> None:
    driver = EngineDriver(min_agents=3, min_updates=2, deadline_s=60.0)
    driver.begin("a", "b", "c")
    driver.close_round("a", "b")
    driver.wait(59.9)
    assert not driver.records()
    driver.wait(0.2)
    assert driver.records()[0].accepted == ("a", "b")


def test_round_is_repeated_with_the_same_model_when_too_few_updates_came() -> None:
    driver = EngineDriver(min_agents=2, min_updates=2, deadline_s=60.0)
    driver.begin("a", "b")
    first = driver.messages(RoundAnnouncement, "a")[0]
    driver.deliver("a")
    driver.forget()
    driver.wait(60.0)
    again = driver.messages(RoundAnnouncement, "a")[0]
    assert (again.round_number, again.attempt) == (1, 2)
    assert again.model == first.model
    assert driver.events("round-repeated")[0].detail == "1 of 2 needed updates in 60 s; no update from b"


def test_update_counts_once_when_it_is_sent_again_in_a_repeated_round() -> None:
    driver = EngineDriver(min_agents=2, min_updates=2, deadline_s=60.0)
    driver.begin("a", "b")
    driver.deliver("a", three(1, 1, 1))
    driver.wait(60.0)
    driver.deliver("a", three(1, 1, 1))
    driver.deliver("b", three(3, 3, 3))
    assert driver.model() == [2, 2, 2]
    assert driver.records()[0].attempt == 2


def test_run_aborts_with_its_reason_when_a_round_cannot_be_met() -> None:
    driver = EngineDriver(min_updates=2, max_attempts=2, deadline_s=10.0)
    driver.begin("a", "b")
    driver.deliver("a")
    driver.wait(10.0)
    driver.wait(10.0)
    end = driver.end()
    assert end is not None
    assert end.outcome == "aborted"
    assert end.detail.startswith("round 1 could not be met in 2 attempts: 0 of 2 needed updates in 10 s")
    assert driver.is_in(Phase.OVER)


def test_attempts_are_counted_anew_when_a_round_was_met() -> None:
    driver = EngineDriver(max_attempts=2, deadline_s=10.0, rounds=2)
    driver.begin("a")
    for _ in range(2):
        driver.wait(10.0)
        driver.join("a")
        driver.deliver("a")
    assert [record.attempt for record in driver.records()] == [2, 2]
    assert driver.is_in(Phase.ENDING, Phase.OVER)


def test_sleeping_agents_cost_one_deadline_when_others_can_take_their_place() -> None:
    driver = EngineDriver(min_agents=6, fraction=0.5, min_updates=3, deadline_s=10.0)
    driver.begin("a", "b", "c", "d", "e", "f")
    asleep = driver.invited()
    driver.forget()
    driver.wait(10.0)
    assert sorted(driver.invited() + asleep) == ["a", "b", "c", "d", "e", "f"]


def test_sleeping_agents_are_asked_once_more_when_nobody_can_take_their_place() -> None:
    driver = EngineDriver(min_agents=2, min_updates=2, deadline_s=10.0)
    driver.begin("a", "b")
    driver.forget()
    driver.wait(10.0)
    assert driver.invited() == ["a", "b"]


def test_slow_agent_that_was_replaced_may_still_deliver() -> None:
    driver = EngineDriver(min_agents=4, fraction=0.5, min_updates=2, deadline_s=10.0)
    driver.begin("a", "b", "c", "d")
    slow = driver.invited()[0]
    driver.forget()
    driver.wait(10.0)
    quick = driver.invited()[0]
    assert slow not in driver.invited()
    driver.deliver(slow, three(1, 1, 1))
    driver.deliver(quick, three(3, 3, 3))
    assert driver.records()[0].accepted == tuple(sorted([slow, quick]))
    assert set(driver.records()[0].accepted) < set(driver.records()[0].selected)
    assert driver.model() == [2, 2, 2]


def test_silent_agent_is_left_out_until_it_speaks() -> None:
    driver = EngineDriver(min_agents=2, deadline_s=10.0, rounds=9)
    driver.begin("a", "b")
    driver.deliver("a")
    driver.forget()
    driver.wait(10.0)
    assert driver.invited() == ["a"]
    assert driver.events("agent-silent")[0].agent_id == "b"
    driver.ask("b")
    driver.forget()
    driver.deliver("a")
    assert driver.invited() == ["a", "b"]


@pytest.mark.parametrize("round_number", [1, 2])
def test_late_update_brings_a_silent_agent_back(round_number: int) -> None:
    driver = EngineDriver(min_agents=2, deadline_s=10.0, rounds=9)
    driver.begin("a", "b")
    driver.deliver("a")
    driver.wait(10.0)
    driver.deliver("b", topic_round=round_number)
    driver.forget()
    driver.deliver("a")
    assert driver.invited() == ["a", "b"]


def test_agent_left_behind_at_the_quorum_is_told_that_the_round_is_over() -> None:
    driver = EngineDriver(min_agents=2, quorum=1)
    driver.begin("a", "b")
    driver.forget()
    driver.deliver("a")
    standing = driver.messages(Standing, "b")[-1]
    assert (standing.phase, standing.closed_round, standing.last_accepted_round) == ("waiting", 1, 0)


def test_agent_that_goes_costs_one_deadline_and_is_left_out() -> None:
    driver = EngineDriver(min_agents=2, deadline_s=10.0)
    driver.begin("a", "b")
    driver.leave("b")
    driver.deliver("a")
    assert driver.is_in(Phase.COLLECTING)
    driver.forget()
    driver.wait(10.0)
    assert driver.records()[0].accepted == ("a",)
    assert driver.invited() == ["a"]
    assert driver.events("agent-offline")[0].agent_id == "b"


def test_agent_that_comes_back_in_time_is_invited_again() -> None:
    driver = EngineDriver(min_agents=2)
    driver.begin("a", "b")
    driver.leave("b")
    driver.forget()
    driver.join("b", instance="2")
    assert driver.invited() == ["b"]
    driver.close_round("a", "b")
    assert driver.records()[0].accepted == ("a", "b")


def test_will_of_an_earlier_process_is_ignored() -> None:
    driver = EngineDriver(min_agents=2)
    driver.begin("a")
    driver.join("a", instance="2")
    driver.leave("a", instance="1")
    driver.join("b")
    assert driver.invited() == ["a", "b"]


def test_late_joiner_takes_part_from_the_next_round() -> None:
    driver = EngineDriver()
    driver.begin("a")
    driver.forget()
    driver.join("late")
    assert driver.invited() == []
    assert driver.messages(Standing, "late")[0].phase == "waiting"
    driver.deliver("a")
    assert driver.invited() == ["a", "late"]


def test_agent_that_may_not_take_part_is_refused() -> None:
    driver = EngineDriver(allowed=frozenset({"a"}))
    driver.begin("stranger", "a")
    driver.ask("stranger")
    driver.deliver("a")
    assert driver.records()[0].selected == ("a",)
    assert driver.refusals() == {"unknown": {"unknown-agent": 2}}


def test_retained_status_counts_for_nothing_until_the_agent_answers() -> None:
    driver = EngineDriver()
    driver.begin()
    driver.join("a", retained=True)
    assert driver.is_in(Phase.WAITING)
    driver.join("a")
    assert driver.invited() == ["a"]


def test_record_waits_for_checkpoint_and_evaluation() -> None:
    for first, second in permutations([SaveCheckpoint, Evaluate]):
        driver = EngineDriver(hold=True)
        driver.begin("a")
        driver.deliver("a")
        driver.complete(first)
        assert not driver.records()
        assert driver.is_in(Phase.SAVING)
        driver.complete(second)
        record = driver.records()[0]
        assert (record.loss, record.accuracy) == (1.5, 0.5)
        assert (record.checkpoint_s, record.evaluate_s) == (0.25, 0.5)


def test_nothing_is_evaluated_when_the_rules_say_so() -> None:
    driver = EngineDriver(evaluate=False)
    driver.begin("a")
    driver.deliver("a")
    assert not [action for action in driver.done if isinstance(action, Evaluate)]
    assert driver.records()[0].accuracy is None


def test_nobody_is_told_that_a_round_is_closed_when_its_checkpoint_is_not_on_disk() -> None:
    driver = EngineDriver(min_agents=2, quorum=1, hold=True)
    driver.begin("a", "b")
    driver.deliver("a")
    driver.ask("a")
    driver.join("b", instance="2")
    told = driver.messages(Standing, "a") + driver.messages(Standing, "b")
    assert told
    assert {(s.closed_round, s.last_accepted_round) for s in told} == {(0, 0)}
    driver.forget()
    driver.complete(SaveCheckpoint)
    driver.ask("a")
    told = driver.messages(Standing, "a")[-1:]
    assert [(s.closed_round, s.last_accepted_round) for s in told] == [(1, 1)]


def test_agents_keep_their_updates_when_the_run_is_stopped_before_its_checkpoint_is_on_disk() -> None:
    driver = EngineDriver(hold=True)
    driver.begin("a")
    driver.deliver("a")
    driver.stop()
    standing = driver.messages(Standing, "a")[-1]
    assert (standing.phase, standing.closed_round, standing.last_accepted_round) == ("waiting", 0, 0)


def test_update_that_comes_again_is_acknowledged_when_its_round_is_being_saved() -> None:
    driver = EngineDriver(hold=True)
    driver.begin("a")
    driver.deliver("a")
    driver.forget()
    driver.deliver("a", topic_round=1)
    assert [r.outcome for r in driver.messages(Receipt, "a")] == ["accepted"]


def test_run_ends_after_its_last_round_and_says_so() -> None:
    driver = EngineDriver(rounds=1, report_grace_s=3.0)
    driver.begin("a")
    driver.deliver("a")
    assert driver.is_in(Phase.ENDING)
    driver.wait(3.0)
    assert driver.end() == End("finished", "after round 1, test accuracy 50.00%")
    assert driver.messages(Standing, "a")[-1].phase == "finished"


def test_run_ends_at_the_round_that_reaches_its_target() -> None:
    driver = EngineDriver(rounds=9, target_accuracy=0.9)
    driver.begin("a")
    driver.deliver("a")
    driver.accuracy = 0.95
    driver.deliver("a")
    driver.wait(3.0)
    assert [record.round_number for record in driver.records()] == [1, 2]
    assert [(record.target_accuracy, record.rounds_planned) for record in driver.records()] == [(0.9, 9)] * 2
    assert driver.events("target-reached")
    assert len(checkpoints(driver.done)) == 2


def test_agents_keep_everything_when_the_run_is_stopped() -> None:
    driver = EngineDriver()
    driver.begin("a")
    driver.deliver("a")
    driver.stop()
    standing = driver.messages(Standing, "a")[-1]
    assert (standing.phase, standing.closed_round) == ("waiting", 1)
    assert driver.end() == End("stopped", "SIGTERM")


def test_update_with_an_absurd_loss_does_not_stop_the_round() -> None:
    driver = EngineDriver(min_agents=2)
    driver.begin("a", "b")
    driver.deliver("a", num_examples=2**20, loss=1.7e308)
    driver.deliver("b", loss=1.0)
    assert driver.records()[0].accepted == ("a", "b")


def test_round_is_recorded_when_the_new_model_has_no_finite_loss() -> None:
    driver = EngineDriver(hold=True)
    driver.begin("a")
    driver.deliver("a")
    driver.complete(SaveCheckpoint)
    driver.evaluated(loss=float("nan"))
    assert driver.records()[0].loss is None
