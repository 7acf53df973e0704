"""When a closed round is recorded: once agents are at work on the next one, and before anything that rests on it."""

from typing import Any

import pytest

from coordinator.events import CheckpointSaved, End, Proceed, Proceeded, Publish, Record, ReportArrived, SaveCheckpoint
from schemas.measures import Instant, Traffic
from schemas.messages import RoundAnnouncement, Standing
from schemas.records import RoundRecord, RunEvent
from schemas.topics import Kind
from tests.unit.coordinator.engine_driver import RUN_ID, EngineDriver, checkpoints, resumed
from tests.unit.coordinator.test_engine_refusals import REPORT


def named(action: object) -> str:
    """What an action is in the order of things; empty for what does not matter here."""
    match action:
        case Publish(address=address) if address.kind in (Kind.ANNOUNCEMENT, Kind.STANDING):
            return address.kind.name.lower()
        case Record(record=RoundRecord(round_number=number), durable=durable):
            return f"record {number}" if durable else f"record {number}, not durable"
        case Record(record=RunEvent(name=name)):
            return name
        case SaveCheckpoint() | Proceed(hurry=True) | End():
            return type(action).__name__
    return ""


def order(actions: list[Any]) -> list[str]:
    """What was done, in order."""
    return [name for name in map(named, actions) if name]


def saving(**rules: Any) -> EngineDriver:
    """A first round whose checkpoint is being written."""
    driver = EngineDriver(**{"evaluate": False} | rules)
    driver.begin("a")
    driver.hold = True
    driver.deliver("a")
    driver.forget()
    return driver


def test_round_is_recorded_when_the_next_one_is_announced_and_before_that_is_noted() -> None:
    driver = saving()
    driver.complete(SaveCheckpoint)
    assert order(driver.seen) == ["announcement", "Proceed", "record 1", "round-opened"]


def test_round_is_recorded_at_once_when_too_few_agents_are_there_for_the_next_one() -> None:
    driver = saving()
    driver.leave("a")
    driver.complete(SaveCheckpoint)
    assert order(driver.seen) == ["agent-offline", "record 1"]
    driver.join("a", instance="2")
    assert len(driver.records()) == 1


def test_round_is_recorded_at_once_when_the_broker_is_out_of_reach() -> None:
    driver = saving()
    driver.disconnect()
    driver.complete(SaveCheckpoint)
    assert order(driver.seen) == ["broker-lost", "record 1"]


def test_last_round_is_recorded_before_the_run_ends() -> None:
    driver = saving(rounds=1, report_grace_s=0.0)
    driver.complete(SaveCheckpoint)
    assert order(driver.seen) == ["record 1", "finished", "standing", "End"]


def test_round_is_recorded_when_the_next_one_fails_while_it_is_being_announced() -> None:
    driver = saving(max_attempts=1)
    late = Instant(driver.now_s + 100.0, 0.0)  # the deadline passes while announcements are on their way out
    announced = driver.engine.handle(CheckpointSaved(1, 0.25), Instant(driver.now_s, 0.0))
    done = [*announced, *driver.engine.handle(Proceeded(Traffic()), late)]
    assert order(done)[:4] == ["announcement", "Proceed", "record 1", "round-opened"]
    assert order(done)[-1] == "End"


def test_duration_ends_when_the_round_is_complete() -> None:
    driver = saving()
    begun_s = driver.now_s
    driver.now_s += 3.0
    driver.engine.handle(CheckpointSaved(1, 0.25), Instant(begun_s + 3.0, 0.0))
    driver.now_s += 4.0  # spent on the announcements
    driver.handle(Proceeded(Traffic()))
    assert driver.records()[0].duration_s == pytest.approx(3.0)


def test_report_is_not_acknowledged_in_the_announcement_that_leaves_before_it_is_synced() -> None:
    driver = EngineDriver(rounds=9)
    driver.begin("a")
    driver.close_round("a", "a", "a")
    driver.handle(ReportArrived("a", RUN_ID, 1, REPORT))  # appended, and synced with the next record
    driver.forget()
    driver.deliver("a")
    assert [said.recorded_reports for said in driver.messages(RoundAnnouncement, "a")] == [()]
    driver.deliver("a")
    assert [said.recorded_reports for said in driver.messages(RoundAnnouncement, "a")] == [(), (1,)]


def test_last_words_acknowledge_what_the_last_record_synced() -> None:
    driver = saving(rounds=1, report_grace_s=0.0)
    driver.handle(ReportArrived("a", RUN_ID, 1, REPORT))
    driver.complete(SaveCheckpoint)
    assert driver.messages(Standing, "a")[-1].recorded_reports == (1,)


def test_power_cut_between_an_announcement_and_the_record_before_it_changes_nothing() -> None:
    driver = saving()
    driver.handle(ReportArrived("a", RUN_ID, 1, REPORT))
    driver.complete(SaveCheckpoint)

    again = resumed(driver, checkpoints(driver.done)[-1], recorded=False, evaluate=False)
    again.begin("a")

    assert [record.model_sha256 for record in again.records()] == [driver.records()[0].model_sha256]
    announced = driver.messages(RoundAnnouncement, "a")[-1], again.messages(RoundAnnouncement, "a")[0]
    before, after = ((said.round_number, said.model.sha256, said.recorded_reports) for said in announced)
    assert before == after == (2, driver.records()[0].model_sha256, ())
    again.handle(ReportArrived("a", RUN_ID, 1, REPORT))
    assert len(again.device_records()) == 1, "the power cut may have taken it"


def test_report_that_a_power_cut_took_is_taken_again_after_a_second_restart() -> None:
    driver = saving()
    driver.handle(ReportArrived("a", RUN_ID, 1, REPORT))
    driver.complete(SaveCheckpoint)
    second = resumed(driver, checkpoints(driver.done)[-1], recorded=False, evaluate=False)
    second.begin("a")

    third = resumed(second, checkpoints(second.done)[-1], recorded=True, evaluate=False)
    third.begin("a")

    third.handle(ReportArrived("a", RUN_ID, 1, REPORT))
    assert len(third.device_records()) == 1
