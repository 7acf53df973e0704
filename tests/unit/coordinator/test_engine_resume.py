"""A coordinator that is killed in any phase goes on from its last checkpoint, to the same bytes."""

import json
from collections.abc import Callable

import pytest

from coordinator.engine import GATHER_S, Phase
from coordinator.events import Evaluate, Record, ReportArrived, SaveCheckpoint, Started, WorkFailed
from schemas.errors import Reason
from schemas.messages import RoundAnnouncement, Standing
from schemas.records import DeviceRecord
from tests.unit.coordinator.engine_driver import RUN_ID, EngineDriver, checkpoints, resumed, three
from tests.unit.coordinator.test_engine_refusals import REPORT

UPDATES = {1: {"a": three(1, 2, 3), "b": three(3, 2, 1)}, 2: {"a": three(5, 5, 5), "b": three(1, 1, 2)}}
UPDATES[3] = {"a": three(0.1, 0.2, 0.3), "b": three(0.5, 0.25, 0.125)}


def play(driver: EngineDriver, *rounds: int) -> None:
    for number in rounds:
        for agent_id, weights in UPDATES[number].items():
            driver.deliver(agent_id, weights, num_examples=3 if agent_id == "a" else 4)


def undisturbed() -> list[float]:
    driver = EngineDriver(min_agents=2)
    driver.begin("a", "b")
    play(driver, 1, 2, 3)
    return driver.model()


def in_collecting(driver: EngineDriver) -> None:
    driver.deliver("a", UPDATES[2]["a"], num_examples=3)


def in_saving(driver: EngineDriver) -> None:
    driver.hold = True
    play(driver, 2)


def in_saving_with_the_checkpoint_written(driver: EngineDriver) -> None:
    in_saving(driver)
    driver.complete(SaveCheckpoint)


def in_waiting(driver: EngineDriver) -> None:
    driver.disconnect()
    play(driver, 2)


@pytest.mark.parametrize(
    ("kill", "phase", "next_round"),
    [
        (in_collecting, Phase.COLLECTING, 2),
        (in_saving, Phase.SAVING, 2),
        (in_saving_with_the_checkpoint_written, Phase.SAVING, 3),
        (in_waiting, Phase.WAITING, 3),
    ],
)
def test_resumed_run_has_the_same_bytes(kill: Callable[[EngineDriver], None], phase: Phase, next_round: int) -> None:
    driver = EngineDriver(min_agents=2)
    driver.begin("a", "b")
    play(driver, 1)
    kill(driver)
    assert driver.is_in(phase)
    on_disk = [c for c in checkpoints(driver.done) if c.round_number < next_round][-1]
    recorded = on_disk.round_number in {record.round_number for record in driver.records()}
    again = resumed(driver, on_disk, recorded=recorded, min_agents=2)
    again.begin("a", "b")
    assert again.messages(RoundAnnouncement, "a")[0].round_number == next_round
    play(again, *range(next_round, 4))
    assert again.model() == undisturbed()
    rounds = {record.round_number for record in driver.records() + again.records()}
    assert rounds == {1, 2, 3}


def test_snapshot_is_plain_json() -> None:
    driver = EngineDriver()
    driver.begin("a")
    driver.deliver("a")
    snapshot = checkpoints(driver.done)[0].snapshot
    assert json.loads(json.dumps(snapshot, allow_nan=False)) == snapshot


def test_first_round_is_opened_again_when_there_was_no_checkpoint() -> None:
    driver = EngineDriver()
    driver.begin("a")
    first = driver.messages(RoundAnnouncement, "a")[0]
    again = EngineDriver(session="200")
    again.begin("a")
    assert again.messages(RoundAnnouncement, "a")[0].model == first.model


def test_agents_are_told_which_of_their_updates_counted_after_a_crash() -> None:
    driver = EngineDriver(min_agents=2, quorum=1)
    driver.begin("a", "b")
    driver.deliver("a")
    again = resumed(driver, checkpoints(driver.done)[0], recorded=True, min_agents=2)
    again.begin("a", "b")
    accepted = {name: again.messages(RoundAnnouncement, name)[0].last_accepted_round for name in ("a", "b")}
    assert accepted == {"a": 1, "b": 0}


def test_update_of_the_round_before_is_acknowledged_again_after_a_crash() -> None:
    driver = EngineDriver()
    driver.begin("a")
    driver.deliver("a")
    again = resumed(driver, checkpoints(driver.done)[0], recorded=True)
    again.begin("a")
    again.deliver("a", topic_round=1)
    assert again.outcomes("a") == [("accepted", None)]


def test_reports_in_the_checkpoint_are_acknowledged_after_a_crash() -> None:
    driver = EngineDriver(rounds=9)
    driver.begin("a")
    driver.deliver("a")
    driver.handle(ReportArrived("a", RUN_ID, 1, REPORT))
    driver.close_round("a", "a")
    again = resumed(driver, checkpoints(driver.done)[-1], recorded=True, rounds=9)
    again.begin("a")
    assert again.messages(RoundAnnouncement, "a")[0].recorded_reports == (1,)


def test_reports_that_a_power_cut_may_have_taken_are_taken_again() -> None:
    driver = EngineDriver(hold=True)
    driver.begin("a")
    driver.handle(ReportArrived("a", RUN_ID, 1, REPORT))
    driver.deliver("a")
    again = resumed(driver, checkpoints(driver.done)[-1], recorded=False)
    again.begin("a")
    assert all(not message.recorded_reports for message in again.messages(RoundAnnouncement, "a"))
    again.handle(ReportArrived("a", RUN_ID, 1, REPORT))
    reports = [a.record for a in again.done if isinstance(a, Record) and isinstance(a.record, DeviceRecord)]
    assert [(report.agent_id, report.round_number) for report in reports] == [("a", 1)]


def test_report_that_the_broker_kept_over_a_crash_is_recorded_while_the_federation_is_claimed() -> None:
    driver = EngineDriver(rounds=1)
    driver.begin("a")
    driver.deliver("a")
    again = resumed(driver, checkpoints(driver.done)[0], recorded=True, rounds=1)
    again.handle(Started())
    again.connect()

    again.handle(ReportArrived("a", RUN_ID, 1, REPORT))

    assert [(record.agent_id, record.round_number) for record in again.device_records()] == [("a", 1)]


def test_update_that_comes_before_the_round_is_open_again_is_neither_refused_nor_counted() -> None:
    driver = EngineDriver(min_agents=2)
    driver.begin("a", "b")
    play(driver, 1)
    again = resumed(driver, checkpoints(driver.done)[0], recorded=True, min_agents=2)
    again.begin("a")
    play(again, 2)
    assert again.outcomes("a") == []
    assert again.is_in(Phase.WAITING)
    again.join("b")
    play(again, 2)
    assert again.refusals() == {}
    assert again.outcomes("a") == [("accepted", None)]


def test_round_is_evaluated_and_recorded_after_a_crash_between_checkpoint_and_record() -> None:
    driver = EngineDriver(hold=True)
    driver.begin("a")
    driver.deliver("a")
    again = resumed(driver, checkpoints(driver.done)[0], recorded=False)
    again.begin("a")
    assert [action.round_number for action in again.done if isinstance(action, Evaluate)] == [1]
    assert (again.records()[0].round_number, again.records()[0].accuracy) == (1, 0.5)
    assert again.records()[0].accepted == ("a",)


def test_finished_run_ends_again_when_it_is_resumed() -> None:
    driver = EngineDriver(rounds=1)
    driver.begin("a")
    driver.deliver("a")
    again = resumed(driver, checkpoints(driver.done)[0], recorded=True, rounds=1)
    again.begin("a")
    again.wait(3.0)
    assert again.messages(Standing, "a")[-1].phase == "finished"


def test_resumed_run_says_so() -> None:
    driver = EngineDriver()
    driver.begin("a")
    driver.deliver("a")
    again = resumed(driver, checkpoints(driver.done)[0], recorded=True)
    again.begin("a")
    assert [event.detail for event in again.events("resumed")] == ["after round 1"]
    assert not again.events("started")


def test_run_can_be_resumed_when_its_disk_was_full() -> None:
    driver = EngineDriver(hold=True)
    driver.begin("a")
    driver.deliver("a")
    driver.handle(WorkFailed("checkpoint", "no space left on device"))
    end = driver.end()
    assert end is not None
    assert (end.outcome, end.detail) == ("stopped", "checkpoint failed: no space left on device")
    standing = driver.messages(Standing, "a")[-1]
    assert (standing.phase, standing.closed_round) == ("waiting", 0)


def test_late_update_of_a_closed_round_is_refused_after_a_crash() -> None:
    driver = EngineDriver(min_agents=2, quorum=1)
    driver.begin("a", "b")
    driver.deliver("a")
    again = resumed(driver, checkpoints(driver.done)[0], recorded=True, min_agents=2)
    again.begin("a", "b")
    again.deliver("b", topic_round=1)
    assert again.outcomes("b") == [("refused", Reason.STALE_ROUND)]


def test_resumed_run_waits_a_while_for_as_many_agents_as_it_began_with() -> None:
    driver = EngineDriver(min_agents=2)
    driver.begin("a", "b")
    play(driver, 1)
    again = resumed(driver, checkpoints(driver.done)[0], recorded=True, min_agents=2)
    again.begin("a")
    assert again.is_in(Phase.WAITING)
    assert again.engine.wake_at_s() == again.now_s + GATHER_S
    again.wait(GATHER_S)
    assert again.invited() == ["a"]
