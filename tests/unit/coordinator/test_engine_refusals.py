"""Every reason to refuse an update: answered, counted in the next record, and never in the round's way."""

from collections.abc import Callable

import numpy as np
import pytest

from coordinator.engine import Phase
from coordinator.events import (
    ChunkArrived,
    FieldsIgnored,
    MessageRefused,
    NoteRefusal,
    Publish,
    ReportArrived,
    UpdateArrived,
    UpdateOffered,
)
from coordinator.inbox import Inbox
from coordinator.opening import UPDATE_SLACK_BYTES
from schemas.errors import Reason
from schemas.messages import AgentReport, Receipt, RoundAnnouncement, UpdateOffer
from schemas.topics import Address, Kind, Topics
from schemas.weights import Array, encode
from tests.unit.coordinator.engine_driver import RUN_ID, EngineDriver, three

Wrong = Callable[[EngineDriver], None]

TOO_LARGE = {f"w{i}": np.zeros(1000, np.float32) for i in range(5)}
REPORT = AgentReport(
    download_s=0.1,
    train_s=1.0,
    upload_s=0.1,
    idle_s=0.5,
    batches=10,
    examples=160,
    loss=0.7,
    payload_bytes_up=1,
    payload_bytes_down=1,
    packet_bytes_up=1,
    packet_bytes_down=1,
    cpu_s=1.0,
    peak_rss_bytes=1,
)


def raw(driver: EngineDriver, payload: bytes) -> None:
    driver.handle(UpdateArrived("b", RUN_ID, 1, payload))


def other_dtype() -> dict[str, Array]:
    return {"w": np.array([1, 2, 3], np.float64)}


WRONG: dict[Reason, Wrong] = {
    Reason.WRONG_RUN: lambda driver: driver.deliver("b", run_id="run-0"),
    Reason.STALE_ROUND: lambda driver: driver.deliver("b", topic_round=1, round_number=0),
    Reason.FUTURE_ROUND: lambda driver: driver.deliver("b", topic_round=2),
    Reason.WRONG_SENDER: lambda driver: driver.deliver("b", sender="a"),
    Reason.WRONG_BASE: lambda driver: driver.deliver("b", base_sha256="0" * 64),
    Reason.WRONG_NAMES: lambda driver: driver.deliver("b", three(1, 2, 3) | {"more": np.zeros(1, np.float32)}),
    Reason.WRONG_SHAPE: lambda driver: driver.deliver("b", three(1, 2)),
    Reason.WRONG_DTYPE: lambda driver: driver.deliver("b", other_dtype()),
    Reason.WRONG_EXAMPLES: lambda driver: driver.deliver("b", num_examples=2**31 + 1),
    Reason.NON_FINITE: lambda driver: driver.deliver("b", three(1, float("nan"), 3)),
    Reason.NORM_EXCEEDED: lambda driver: driver.deliver("b", three(1001, 0, 0)),
    Reason.OVERFLOW: lambda driver: driver.deliver("b", three(1, 2, 3), num_examples=2**31),
    Reason.TOO_LARGE: lambda driver: driver.deliver("b", TOO_LARGE),
    Reason.MALFORMED: lambda driver: raw(driver, b"no blob"),
    Reason.UNSUPPORTED_VERSION: lambda driver: raw(driver, encode(three(1, 2, 3), b'{"v":"2.0"}')),
    Reason.UNEXPECTED_FIELD: lambda driver: raw(driver, driver.update("b", extra={"news": 1})),
    Reason.UNKNOWN_CODEC: lambda driver: driver.deliver("b", codec="int8"),
}
"""One update of agent b with one thing wrong, by the reason for which it is refused."""


@pytest.mark.parametrize("reason", WRONG)
def test_wrong_update_is_answered_with_its_reason_and_counted(reason: Reason) -> None:
    driver = EngineDriver(min_agents=2, max_model_bytes=8192)
    driver.begin("a", "b")
    driver.forget()
    WRONG[reason](driver)
    assert driver.outcomes("b") == [("refused", reason)]
    assert driver.messages(Receipt, "b")[0].detail
    assert [action.reason for action in driver.seen if isinstance(action, NoteRefusal)] == [reason]
    driver.close_round("b", "a")
    assert driver.refusals() == {"b": {reason.value: 1}}
    assert driver.records()[0].accepted == ("a", "b")


@pytest.mark.parametrize("reason", WRONG)
def test_wrong_update_changes_nothing_for_the_others(reason: Reason) -> None:
    driver = EngineDriver(min_agents=2, deadline_s=10.0, max_model_bytes=8192)
    driver.begin("a", "b")
    WRONG[reason](driver)
    driver.deliver("a", three(1, 2, 3), num_examples=5)
    driver.wait(10.0)
    assert driver.records()[0].accepted == ("a",)
    assert driver.model() == [1, 2, 3]


OUTDATED = (Reason.WRONG_RUN, Reason.WRONG_BASE, Reason.STALE_ROUND, Reason.FUTURE_ROUND)


@pytest.mark.parametrize("reason", [reason for reason in WRONG if reason not in OUTDATED])
def test_agent_is_not_waited_for_when_its_update_was_refused_for_what_is_in_it(reason: Reason) -> None:
    driver = EngineDriver(min_agents=2, max_model_bytes=8192)
    driver.begin("a", "b")
    driver.deliver("a")
    driver.forget()
    WRONG[reason](driver)
    assert driver.records()[0].accepted == ("a",)


@pytest.mark.parametrize("reason", OUTDATED)
def test_agent_is_waited_for_when_its_update_was_made_for_something_else(reason: Reason) -> None:
    driver = EngineDriver(min_agents=2)
    driver.begin("a", "b")
    driver.deliver("a")
    WRONG[reason](driver)
    assert driver.is_in(Phase.COLLECTING)
    driver.forget()
    driver.ask("b")
    assert driver.invited() == ["b"]


def test_agent_is_not_invited_again_in_the_attempt_in_which_its_update_was_refused() -> None:
    driver = EngineDriver(min_agents=2, min_updates=2, deadline_s=10.0)
    driver.begin("a", "b")
    driver.deliver("b", three(1, 2))
    driver.forget()
    driver.ask("b")
    assert driver.invited() == []
    driver.wait(10.0)
    assert driver.invited() == ["a", "b"]


def test_reasons_are_counted_by_agent() -> None:
    driver = EngineDriver(min_agents=2)
    driver.begin("a", "b")
    for weights in (three(1, 2), three(1, 2), three(float("inf"), 2, 3)):
        driver.deliver("b", weights)
    driver.deliver("a", three(1, 2))
    driver.close_round("a", "b")
    assert driver.refusals() == {"b": {"wrong-shape": 2, "non-finite": 1}, "a": {"wrong-shape": 1}}


def test_refusals_are_counted_once_when_the_next_round_is_recorded() -> None:
    driver = EngineDriver()
    driver.begin("a")
    driver.deliver("a", three(1, 2))
    driver.deliver("a")
    driver.deliver("a")
    assert [dict(record.refused) for record in driver.records()] == [{"a": {"wrong-shape": 1}}, {}]


def test_update_of_an_unknown_agent_is_answered_and_counted() -> None:
    driver = EngineDriver()
    driver.begin("a")
    driver.forget()
    driver.deliver("stranger")
    receipt = driver.messages(Receipt, "stranger")[0]
    # Round 0: it is for the agent's log, and no reason to drop the update.
    assert (receipt.round_number, receipt.reason) == (0, Reason.UNKNOWN_AGENT)
    assert driver.engine.members.get("stranger") is None
    driver.deliver("a")
    assert driver.refusals() == {"unknown": {"unknown-agent": 1}}


def test_update_of_an_agent_that_was_not_selected_is_refused() -> None:
    driver = EngineDriver()
    driver.begin("a")
    driver.join("late")
    driver.deliver("late")
    assert driver.outcomes("late") == [("refused", Reason.NOT_SELECTED)]


def test_update_of_another_run_is_answered_under_that_run() -> None:
    driver = EngineDriver()
    driver.begin("a")
    driver.deliver("a", topic_run="run-0", topic_round=7)
    receipt = driver.messages(Receipt, "a")[0]
    assert (receipt.run_id, receipt.round_number, receipt.reason) == ("run-0", 7, Reason.WRONG_RUN)


def test_duplicate_is_counted_once_and_acknowledged_again() -> None:
    driver = EngineDriver(min_agents=2)
    driver.begin("a", "b")
    driver.deliver("a", three(2, 2, 2))
    driver.deliver("a", three(9, 9, 9))
    assert driver.outcomes("a") == [("accepted", None), ("accepted", None)]
    driver.deliver("b", three(4, 4, 4))
    assert driver.model() == [3, 3, 3]
    assert driver.refusals() == {"a": {"duplicate": 1}}


def test_duplicate_is_acknowledged_when_its_round_has_closed() -> None:
    driver = EngineDriver()
    driver.begin("a")
    driver.deliver("a")
    driver.forget()
    driver.deliver("a", topic_round=1)
    assert driver.outcomes("a") == [("accepted", None)]


def test_update_of_round_zero_is_refused() -> None:
    driver = EngineDriver()
    driver.begin("a")
    driver.deliver("a", topic_round=0)
    assert driver.outcomes("a") == [("refused", Reason.STALE_ROUND)]


def test_update_of_a_closed_round_is_refused_when_it_was_not_counted() -> None:
    driver = EngineDriver(min_agents=2, quorum=1)
    driver.begin("a", "b")
    driver.deliver("a")
    driver.deliver("b", topic_round=1)
    assert driver.outcomes("b") == [("refused", Reason.STALE_ROUND)]


def test_update_counts_when_it_follows_a_refused_one() -> None:
    driver = EngineDriver()
    driver.begin("a")
    driver.deliver("a", three(1, 2))
    driver.deliver("a", three(1, 2, 3))
    assert driver.outcomes("a") == [("refused", Reason.WRONG_SHAPE), ("accepted", None)]


def test_round_is_repeated_when_every_update_was_refused() -> None:
    driver = EngineDriver(deadline_s=10.0)
    driver.begin("a")
    driver.deliver("a", three(1, 2))
    driver.wait(10.0)
    assert driver.is_in(Phase.COLLECTING)
    driver.deliver("a")
    assert driver.records()[0].attempt == 2
    assert driver.refusals() == {"a": {"wrong-shape": 1}}


def test_sum_that_would_overflow_refuses_the_update_that_makes_it_so() -> None:
    driver = EngineDriver(min_agents=2, min_updates=2)
    driver.begin("a", "b")
    driver.deliver("a", three(1, 1, 1), num_examples=2**30)
    driver.deliver("b", three(1, 1, 1), num_examples=2**30)
    assert driver.outcomes("a") == [("accepted", None)]
    assert driver.outcomes("b") == [("refused", Reason.OVERFLOW)]
    driver.deliver("b", three(3, 3, 3), num_examples=2**28)
    assert driver.model() == [np.float32(1.4)] * 3


def test_unreadable_message_is_counted_and_answered_for_the_agents_log() -> None:
    driver = EngineDriver()
    driver.begin("a")
    driver.forget()
    driver.handle(MessageRefused("a", Reason.MALFORMED, "not JSON"))
    driver.handle(MessageRefused("", Reason.UNKNOWN_TOPIC, "fl/v1/nonsense"))
    assert [(r.round_number, r.reason) for r in driver.messages(Receipt, "a")] == [(0, Reason.MALFORMED)]
    assert len([action for action in driver.seen if isinstance(action, Publish)]) == 1
    driver.deliver("a")
    assert driver.refusals() == {"a": {"malformed": 1}, "unknown": {"unknown-topic": 1}}


def test_agent_of_another_major_hears_of_it() -> None:
    driver = EngineDriver()
    driver.begin("a")
    topic = Topics().build(Address(Kind.STATUS, "newer"))
    for event in Inbox(Topics()).read(topic, b'{"v":"2.0","state":"online","instance":"1"}', retained=False):
        driver.handle(event)
    receipt = driver.messages(Receipt, "newer")[0]
    assert receipt.reason is Reason.UNSUPPORTED_VERSION
    assert "2.0" in str(receipt.detail)


def test_offer_that_cannot_be_read_is_refused_as_the_update_that_it_is_about() -> None:
    driver = EngineDriver()
    driver.begin("a")
    topic = Topics().build(Address(Kind.OFFER, "a", RUN_ID, 1))
    for event in Inbox(Topics()).read(topic, b"{}", retained=False):
        driver.handle(event)
    receipt = driver.messages(Receipt, "a")[0]
    assert (receipt.run_id, receipt.round_number, receipt.reason) == (RUN_ID, 1, Reason.MALFORMED)


@pytest.mark.parametrize("sender", ["stranger", "late"])
def test_chunk_report_and_status_of_whoever_may_not_send_them_are_answered(sender: str) -> None:
    driver = EngineDriver(allowed=frozenset({"a", "late"}))
    driver.begin("a")
    driver.forget()
    report(driver, sender, 1)
    driver.handle(ChunkArrived(sender, RUN_ID, 1, 0, b""))
    assert driver.outcomes(sender) == [("refused", Reason.UNKNOWN_AGENT)] * 2


def test_update_is_bounded_by_the_size_of_the_model() -> None:
    driver = EngineDriver()
    driver.begin("a")
    announcement = driver.messages(RoundAnnouncement, "a")[0]
    assert announcement.max_update_bytes == 2 * 3 * 4 + UPDATE_SLACK_BYTES
    driver.deliver("a", three(1, 2, 3) | {"junk": np.zeros(announcement.max_update_bytes, np.uint8)})
    offer = UpdateOffer(size_bytes=announcement.max_update_bytes + 1, sha256="0" * 64)
    driver.handle(UpdateOffered("a", RUN_ID, 1, offer))
    assert driver.outcomes("a") == [("refused", Reason.TOO_LARGE)] * 2


def test_fields_of_a_newer_minor_are_counted() -> None:
    driver = EngineDriver()
    driver.begin("a")
    driver.handle(FieldsIgnored(2))
    driver.handle(UpdateArrived("a", RUN_ID, 1, driver.update("a", extra={"v": "1.9", "news": 1})))
    assert driver.records()[0].ignored_fields == 3


# -- reports


def report(driver: EngineDriver, agent_id: str, round_number: int, run_id: str = RUN_ID) -> None:
    driver.handle(ReportArrived(agent_id, run_id, round_number, REPORT))


def test_report_is_recorded_with_what_only_the_coordinator_sees() -> None:
    driver = EngineDriver()
    driver.begin("a")
    started_at = driver.now_s
    driver.now_s += 2.5
    driver.deliver("a")
    report(driver, "a", 1)
    record = driver.device_records()[0]
    assert record.latency_s == pytest.approx(2.5)
    assert record.started_at - 1_700_000_000.0 == pytest.approx(started_at)


def test_latency_is_known_when_the_report_comes_while_others_still_train() -> None:
    driver = EngineDriver(min_agents=2)
    driver.begin("a", "b")
    driver.now_s += 2.5
    driver.deliver("a")
    report(driver, "a", 1)
    report(driver, "b", 1)
    assert [record.latency_s for record in driver.device_records()] == [pytest.approx(2.5), None]


def test_report_is_recorded_once_when_it_comes_twice() -> None:
    driver = EngineDriver()
    driver.begin("a")
    driver.deliver("a")
    report(driver, "a", 1)
    report(driver, "a", 1)
    assert len(driver.device_records()) == 1


def test_report_is_acknowledged_once_it_is_on_disk() -> None:
    driver = EngineDriver(rounds=9)
    driver.begin("a")
    driver.deliver("a")
    report(driver, "a", 1)
    driver.ask("a")
    assert driver.messages(RoundAnnouncement, "a")[-1].recorded_reports == ()
    driver.deliver("a")
    assert driver.messages(RoundAnnouncement, "a")[-1].recorded_reports == ()
    driver.deliver("a")
    assert driver.messages(RoundAnnouncement, "a")[-1].recorded_reports == (1,)


@pytest.mark.parametrize(
    ("run_id", "round_number", "reason"),
    [
        ("run-0", 1, "wrong-run"),
        ("run-0", 3, "wrong-run"),
        (RUN_ID, 9, "future-round"),
        (RUN_ID, 0, "stale-round"),
    ],
)
def test_report_that_fits_nothing_is_counted(run_id: str, round_number: int, reason: str) -> None:
    driver = EngineDriver()
    driver.begin("a")
    driver.deliver("a")
    report(driver, "a", round_number, run_id)
    driver.deliver("a")
    assert driver.device_records() == []
    assert driver.refusals() == {"a": {reason: 1}}


def test_report_of_an_unknown_agent_is_counted() -> None:
    driver = EngineDriver()
    driver.begin("a")
    report(driver, "stranger", 1)
    driver.deliver("a")
    assert driver.refusals() == {"unknown": {"unknown-agent": 1}}


def test_report_of_a_round_long_ago_is_refused() -> None:
    driver = EngineDriver(rounds=99)
    driver.begin("a")
    for _ in range(66):
        driver.deliver("a")
    report(driver, "a", 3)
    report(driver, "a", 1)
    driver.deliver("a")
    assert [record.round_number for record in driver.device_records()] == [3]
    assert driver.refusals() == {"a": {"stale-round": 1}}


def test_run_ends_at_once_when_every_report_is_there() -> None:
    driver = EngineDriver(rounds=1, min_agents=2, report_grace_s=3.0)
    driver.begin("a", "b")
    driver.close_round("a", "b")
    report(driver, "a", 1)
    assert driver.is_in(Phase.ENDING)
    report(driver, "b", 1)
    assert driver.is_in(Phase.OVER)
