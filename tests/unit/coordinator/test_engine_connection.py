"""The broker comes and goes, other coordinators turn up, agents speak other minors, and models come in pieces."""

import hashlib
import json
import math
from collections.abc import Callable
from typing import Any

import pytest

from coordinator.claim import LOST_CLAIMS
from coordinator.engine import CLAIM_AFTER_ONLINE_S, CLAIM_S, MOVES, Phase
from coordinator.events import (
    AgentSeen,
    ChunkArrived,
    Evaluate,
    MessageRefused,
    NoteRefusal,
    Publish,
    ReportArrived,
    Started,
    UpdateArrived,
    UpdateOffered,
)
from schemas import chunks, wire
from schemas.errors import Reason
from schemas.messages import AgentStatus, ChunksWanted, CoordinatorStatus, RoundAnnouncement, Standing, UpdateOffer
from schemas.topics import Kind
from schemas.versions import CURRENT
from tests.unit.coordinator.engine_driver import RUN_ID, EngineDriver, three
from tests.unit.coordinator.test_engine_refusals import REPORT

# -- the broker


def test_outage_does_not_count_towards_the_deadline() -> None:
    driver = EngineDriver(min_agents=2, deadline_s=60.0)
    driver.begin("a", "b")
    driver.wait(50.0)
    driver.disconnect()
    assert driver.engine.wake_at_s() == math.inf
    driver.wait(100.0)
    driver.connect()
    driver.deliver("a")
    driver.wait(9.9)
    assert not driver.records()
    driver.wait(0.2)
    assert driver.records()[0].accepted == ("a",)


def test_open_round_is_announced_again_to_those_who_are_missing_after_an_outage() -> None:
    driver = EngineDriver(min_agents=2, deadline_s=60.0)
    driver.begin("a", "b")
    driver.deliver("a")
    driver.wait(10.0)
    driver.disconnect()
    driver.wait(30.0)
    driver.forget()
    driver.connect()
    assert driver.invited() == ["b"]
    assert driver.messages(RoundAnnouncement, "b")[0].deadline_s == 50.0
    assert [status.state for status in driver.messages(CoordinatorStatus)] == ["online"]


def test_outage_does_not_count_towards_patience() -> None:
    driver = EngineDriver(min_agents=2, patience_s=20.0)
    driver.begin("a")
    driver.wait(15.0)
    driver.disconnect()
    driver.wait(100.0)
    driver.connect()
    driver.wait(4.9)
    assert driver.is_in(Phase.WAITING)
    driver.wait(0.2)
    assert driver.is_in(Phase.OVER)


def test_second_connection_without_an_outage_moves_no_deadline() -> None:
    driver = EngineDriver(deadline_s=60.0)
    driver.begin("a")
    driver.disconnect()
    driver.connect()
    driver.wait(30.0)
    driver.connect()
    assert driver.engine.wake_at_s() == pytest.approx(driver.now_s + 30.0)


def test_no_round_opens_while_the_broker_is_out_of_reach() -> None:
    driver = EngineDriver(hold=True)
    driver.begin("a")
    driver.deliver("a")
    driver.disconnect()
    driver.hold = False
    driver.forget()
    driver.evaluated(1.0)
    driver.wait(5.0)
    assert driver.invited() == []


def test_run_waits_for_the_broker_before_it_says_goodbye() -> None:
    driver = EngineDriver(rounds=1, report_grace_s=3.0)
    driver.begin("a")
    driver.deliver("a")
    driver.disconnect()
    driver.wait(10.0)
    assert driver.is_in(Phase.ENDING)
    driver.connect()
    driver.wait(3.0)
    assert driver.messages(Standing, "a")[-1].phase == "finished"


def test_run_is_aborted_when_the_broker_takes_no_usable_packets() -> None:
    driver = EngineDriver()
    driver.handle(Started())
    driver.connect(max_packet_bytes=4096)
    end = driver.end()
    assert end is not None
    assert end.outcome == "aborted"
    assert "packet" in end.detail


def test_run_ends_without_a_goodbye_when_the_broker_never_comes_back() -> None:
    driver = EngineDriver(rounds=1, patience_s=100.0)
    driver.begin("a")
    driver.deliver("a")
    driver.disconnect()
    assert driver.engine.wake_at_s() == driver.now_s + 100.0
    driver.forget()
    driver.wait(100.0)
    assert driver.is_in(Phase.OVER)
    assert not [action for action in driver.seen if isinstance(action, Publish)]


# -- other coordinators


def test_claim_is_published_and_not_retained() -> None:
    driver = EngineDriver()
    driver.handle(Started())
    driver.connect()
    status = driver.messages(CoordinatorStatus)[0]
    assert (status.state, status.session, status.claim) == ("online", "100", True)
    assert [a.retain for a in driver.done if isinstance(a, Publish)] == [False]


def test_federation_is_taken_when_nobody_answers_the_claim() -> None:
    driver = EngineDriver()
    driver.handle(Started())
    driver.connect()
    driver.wait(CLAIM_S * 0.9)
    assert driver.is_in(Phase.CLAIMING)
    driver.wait(CLAIM_S * 0.2)
    assert driver.is_in(Phase.WAITING)
    assert [a.retain for a in driver.done if isinstance(a, Publish)] == [False, True]


def test_coordinator_ends_when_its_claim_is_answered() -> None:
    driver = EngineDriver()
    driver.handle(Started())
    driver.connect()
    driver.forget()
    driver.hear("050", answers="100", run_id="other-run")
    end = driver.end()
    assert end is not None
    assert end.outcome == "aborted"
    assert "other-run" in end.detail
    assert not [action for action in driver.seen if isinstance(action, Publish)]


def test_answer_to_another_claim_means_nothing() -> None:
    driver = EngineDriver()
    driver.handle(Started())
    driver.connect()
    driver.hear("050", answers="099")
    assert driver.is_in(Phase.CLAIMING)


def test_running_coordinator_answers_a_claim() -> None:
    driver = EngineDriver()
    driver.begin("a")
    driver.forget()
    driver.hear("200", claim=True)
    assert [status.answers for status in driver.messages(CoordinatorStatus)] == ["200"]
    assert driver.is_in(Phase.COLLECTING)


def test_earlier_one_stays_when_two_start_at_once() -> None:
    early, late = EngineDriver(session="100"), EngineDriver(session="101")
    for driver in (early, late):
        driver.handle(Started())
        driver.connect()
    late.hear("100", claim=True)
    early.forget()
    early.hear("101", claim=True)
    assert [status.answers for status in early.messages(CoordinatorStatus)] == ["101"]
    late.hear("100", answers="101")
    assert late.is_in(Phase.OVER)
    early.wait(CLAIM_S)
    assert early.is_in(Phase.WAITING)


def test_retained_status_of_a_dead_coordinator_costs_only_time() -> None:
    driver = EngineDriver()
    driver.handle(Started())
    driver.connect()
    driver.hear("050", retained=True)
    driver.wait(CLAIM_S)
    assert driver.is_in(Phase.CLAIMING)
    driver.wait(CLAIM_AFTER_ONLINE_S)
    assert driver.is_in(Phase.WAITING)


def test_coordinator_that_was_stopped_for_a_while_gives_way_to_a_later_one() -> None:
    driver = EngineDriver(session="100")
    driver.begin("a")
    driver.forget()
    driver.hear("200")
    end = driver.end()
    assert end is not None
    assert end.outcome == "stopped"
    assert "session 200" in end.detail
    assert not [action for action in driver.seen if isinstance(action, Publish)]


def test_coordinator_that_was_away_gives_way_to_a_later_one_that_is_there_now() -> None:
    driver = EngineDriver(session="100")
    driver.begin("a")
    driver.disconnect()
    driver.connect()
    driver.hear("200", retained=True)
    end = driver.end()
    assert end is not None
    assert end.outcome == "stopped"
    assert "session 200" in end.detail


def test_coordinator_that_was_away_goes_on_when_a_later_one_has_come_and_gone() -> None:
    driver = EngineDriver(session="100")
    driver.begin("a")
    driver.disconnect()
    driver.connect()
    driver.hear("200", state="offline", retained=True)
    assert driver.is_in(Phase.COLLECTING)


def test_later_coordinator_stays_when_a_stopped_one_goes_on() -> None:
    driver = EngineDriver(session="200")
    driver.begin("a")
    driver.forget()
    driver.hear("100")
    assert driver.is_in(Phase.COLLECTING)
    assert [(s.session, s.answers) for s in driver.messages(CoordinatorStatus)] == [("200", None)]


def test_last_words_of_another_coordinator_are_replaced_by_our_status() -> None:
    driver = EngineDriver()
    driver.begin("a")
    driver.forget()
    driver.hear("200", state="offline")
    assert [status.state for status in driver.messages(CoordinatorStatus)] == ["online"]
    assert driver.is_in(Phase.COLLECTING)


def test_claim_is_made_again_when_the_connection_broke_meanwhile() -> None:
    driver = EngineDriver()
    driver.handle(Started())
    driver.connect()
    driver.disconnect()
    driver.wait(10.0)
    driver.forget()
    driver.connect()
    assert [status.claim for status in driver.messages(CoordinatorStatus)] == [True]
    assert driver.is_in(Phase.CLAIMING)
    driver.wait(CLAIM_S)
    assert driver.is_in(Phase.WAITING)


def test_coordinator_gives_up_when_each_of_its_claims_is_cut_off() -> None:
    driver = EngineDriver()
    driver.handle(Started())
    for _ in range(LOST_CLAIMS):
        assert driver.end() is None
        driver.connect()
        driver.disconnect()
    end = driver.end()
    assert end is not None
    assert end.outcome == "aborted"
    assert "another coordinator" in end.detail


def test_lost_connections_after_the_claim_end_no_run() -> None:
    driver = EngineDriver()
    driver.begin("a")
    for _ in range(LOST_CLAIMS + 1):
        driver.disconnect()
        driver.connect()
    assert driver.is_in(Phase.COLLECTING)


def test_agents_get_no_answer_while_another_coordinator_may_be_there() -> None:
    driver = EngineDriver()
    driver.handle(Started())
    driver.connect()
    driver.join("a")
    assert not driver.messages(Standing, "a")
    driver.wait(CLAIM_S)
    assert driver.invited() == ["a"]


FOR_ANOTHER: dict[str, Callable[[EngineDriver], object]] = {
    "an update": lambda driver: driver.deliver("a", topic_run="run-0", topic_round=7),
    "an update of a stranger": lambda driver: driver.deliver("z", topic_run="run-0", topic_round=7),
    "an offer": lambda driver: driver.handle(
        UpdateOffered("a", "run-0", 7, UpdateOffer(size_bytes=9, sha256="0" * 64))
    ),
    "a chunk": lambda driver: driver.handle(ChunkArrived("a", "run-0", 7, 0, b"chunk")),
    "a report": lambda driver: driver.handle(ReportArrived("a", "run-0", 7, REPORT)),
    "an unreadable offer": lambda driver: driver.handle(MessageRefused("a", Reason.MALFORMED, "?", "run-0", 7)),
    "an unreadable message": lambda driver: driver.handle(MessageRefused("a", Reason.MALFORMED, "?")),
    "the status of an agent that is not on our list": lambda driver: driver.join("z", retained=True),
}
"""What agents send to the coordinator that is running already, in another run."""


@pytest.mark.parametrize("what", FOR_ANOTHER)
def test_what_may_be_for_another_coordinator_is_neither_answered_nor_counted_while_claiming(what: str) -> None:
    driver = EngineDriver(allowed=frozenset({"a"}), quarantine_after=1)
    driver.handle(Started())
    driver.connect()
    driver.join("a")
    driver.forget()

    FOR_ANOTHER[what](driver)

    assert not [action for action in driver.seen if isinstance(action, Publish | NoteRefusal)]
    driver.wait(CLAIM_S)
    driver.close_round("a")
    assert driver.refusals() == {}


def test_what_is_for_another_coordinator_is_refused_once_the_federation_is_ours() -> None:
    driver = EngineDriver(allowed=frozenset({"a"}))
    driver.begin("a")
    driver.forget()

    FOR_ANOTHER["an update"](driver)
    FOR_ANOTHER["the status of an agent that is not on our list"](driver)

    assert driver.outcomes("a") == [("refused", Reason.WRONG_RUN)]
    assert driver.outcomes("z") == [("refused", Reason.UNKNOWN_AGENT)]


# -- phases


@pytest.mark.parametrize("begin", Phase)
@pytest.mark.parametrize("end", Phase)
def test_move_is_made_when_the_table_allows_it_and_only_then(begin: Phase, end: Phase) -> None:
    allowed = {
        (Phase.OFFLINE, Phase.CLAIMING),
        (Phase.CLAIMING, Phase.WAITING),
        (Phase.CLAIMING, Phase.SAVING),
        (Phase.CLAIMING, Phase.ENDING),
        (Phase.WAITING, Phase.COLLECTING),
        (Phase.COLLECTING, Phase.CLOSING),
        (Phase.COLLECTING, Phase.WAITING),
        (Phase.CLOSING, Phase.SAVING),
        (Phase.SAVING, Phase.WAITING),
        (Phase.SAVING, Phase.ENDING),
    } | {(phase, Phase.OVER) for phase in Phase if phase is not Phase.OVER}
    assert (end in MOVES[begin]) == ((begin, end) in allowed)


def test_nothing_happens_any_more_when_the_run_is_over() -> None:
    driver = EngineDriver()
    driver.begin("a")
    driver.stop()
    driver.forget()
    driver.join("b")
    driver.connect()
    driver.hear("300", claim=True)
    assert driver.seen == []
    assert driver.engine.wake_at_s() == math.inf


# -- versions


def minors(driver: EngineDriver, kind: Kind, agent_id: str) -> list[str]:
    return [json.loads(bytes(payload))["v"] for payload in driver.payloads(kind, agent_id)]


def test_agents_of_two_minors_take_part_in_one_round_that_each_reads_in_its_own() -> None:
    driver = EngineDriver(min_agents=2)
    driver.begin()
    driver.join("new", minor=CURRENT.minor)
    driver.join("old", minor=0)
    assert minors(driver, Kind.ANNOUNCEMENT, "new") == [CURRENT.text]
    assert minors(driver, Kind.ANNOUNCEMENT, "old") == ["1.0"]
    for agent_id, minor in (("old", 0), ("new", 1)):
        payload = driver.update(agent_id, three(1, 2, 3), minor=minor)
        driver.handle(UpdateArrived(agent_id, RUN_ID, 1, payload))
    assert driver.records()[0].accepted == ("new", "old")


def test_receipts_are_written_in_the_minor_of_the_agent_that_they_go_to() -> None:
    driver = EngineDriver(min_agents=2)
    driver.begin()
    driver.join("old", minor=0)
    driver.join("new", minor=CURRENT.minor)
    driver.close_round("new", "old")
    assert minors(driver, Kind.RECEIPT, "new") == [CURRENT.text]
    assert minors(driver, Kind.RECEIPT, "old") == ["1.0"]


def test_agent_of_a_higher_minor_is_written_to_in_ours() -> None:
    driver = EngineDriver()
    driver.begin()
    driver.join("a", minor=7)
    assert minors(driver, Kind.ANNOUNCEMENT, "a") == [CURRENT.text]


def test_update_of_another_major_is_refused_in_clear_words() -> None:
    driver = EngineDriver()
    driver.begin("a")
    driver.handle(UpdateArrived("a", RUN_ID, 1, driver.update("a", extra={"v": "2.0"})))
    assert driver.outcomes("a") == [("refused", Reason.UNSUPPORTED_VERSION)]
    refused = [a for a in driver.payloads(Kind.RECEIPT, "a")]
    assert b"2.0" in bytes(refused[0])


# -- chunks


def offered(driver: EngineDriver, agent_id: str, blob: bytes) -> None:
    offer = UpdateOffer(size_bytes=len(blob), sha256=hashlib.sha256(blob).hexdigest())
    driver.handle(UpdateOffered(agent_id, RUN_ID, 1, offer))


def send_wanted(driver: EngineDriver, agent_id: str, blob: bytes, chunk_bytes: int) -> None:
    sha256 = hashlib.sha256(blob).hexdigest()
    while wanted := driver.messages(ChunksWanted, agent_id):
        driver.forget()
        first, count = wanted[-1].first, wanted[-1].count
        for index in range(first, first + count):
            payload = chunks.cut(blob, sha256, chunk_bytes, index, 1)
            driver.handle(ChunkArrived(agent_id, RUN_ID, 1, index, payload))


def test_large_model_is_not_sent_unasked_and_comes_in_chunks() -> None:
    driver = EngineDriver(weights={"w": three(*range(3000))["w"]}, chunk_bytes=4096)
    driver.begin("a")
    assert not driver.payloads(Kind.MODEL)
    offer = driver.messages(RoundAnnouncement, "a")[0].model
    assert offer.blob_sha256 is not None
    driver.ask("a", "chunks", 1, first=0, count=9)
    assembly = chunks.Assembly(offer.size_bytes, 4096, offer.blob_sha256)
    for index, payload in enumerate(driver.payloads(Kind.MODEL_CHUNK, "a")):
        assembly.add(payload, index)
    assert hashlib.sha256(assembly.blob()).hexdigest() == offer.blob_sha256


def test_offered_update_is_fetched_in_chunks_and_counts() -> None:
    weights = {"w": three(*([1.0] * 3000))["w"]}
    driver = EngineDriver(weights={"w": three(*([0.0] * 3000))["w"]}, chunk_bytes=4096)
    driver.begin("a")
    blob = driver.update("a", weights)
    driver.forget()
    offered(driver, "a", blob)
    send_wanted(driver, "a", blob, 4096)
    assert driver.records()[0].accepted == ("a",)
    assert (driver.engine.model["w"] == 1).all()


def test_offer_that_lies_about_its_hash_is_refused_once_it_is_whole() -> None:
    weights = {"w": three(*([1.0] * 3000))["w"]}
    driver = EngineDriver(weights={"w": three(*([0.0] * 3000))["w"]}, chunk_bytes=4096, min_agents=2)
    driver.begin("a", "b")
    blob = driver.update("a", weights)
    driver.forget()
    driver.handle(UpdateOffered("a", RUN_ID, 1, UpdateOffer(size_bytes=len(blob), sha256="0" * 64)))
    while wanted := driver.messages(ChunksWanted, "a"):
        driver.forget()
        for index in range(wanted[-1].first, wanted[-1].first + wanted[-1].count):
            driver.handle(ChunkArrived("a", RUN_ID, 1, index, chunks.cut(blob, "0" * 64, 4096, index, 1)))
    assert driver.outcomes("a") == [("refused", Reason.WRONG_DIGEST)]
    assert not driver.messages(ChunksWanted, "a")


def test_chunks_are_asked_for_at_once_when_the_broker_is_back() -> None:
    driver = EngineDriver(weights={"w": three(*([0.0] * 3000))["w"]}, chunk_bytes=4096)
    driver.begin("a")
    offered(driver, "a", driver.update("a", {"w": three(*([1.0] * 3000))["w"]}))
    driver.disconnect()
    driver.forget()
    driver.reconnect()
    assert [(w.first, w.count) for w in driver.messages(ChunksWanted, "a")] == [(0, 1)]


def test_offer_that_is_too_large_is_refused() -> None:
    driver = EngineDriver(max_model_bytes=100_000)
    driver.begin("a")
    driver.handle(UpdateOffered("a", RUN_ID, 1, UpdateOffer(size_bytes=100_001, sha256="0" * 64)))
    assert driver.outcomes("a") == [("refused", Reason.TOO_LARGE)]


def test_offer_of_too_many_chunks_is_refused() -> None:
    driver = EngineDriver(max_model_bytes=2**47, chunk_bytes=1024)
    driver.begin("a")
    driver.handle(UpdateOffered("a", RUN_ID, 1, UpdateOffer(size_bytes=2**46, sha256="0" * 64)))
    assert driver.outcomes("a") == [("refused", Reason.TOO_LARGE)]


def test_model_is_sent_to_one_agent_when_it_asks() -> None:
    driver = EngineDriver()
    driver.begin("a")
    driver.forget()
    driver.ask("a", "model", 1)
    assert driver.payloads(Kind.AGENT_MODEL, "a") == [
        driver.engine.open_round.parcels.plain.blob if driver.engine.open_round else b""
    ]


@pytest.mark.parametrize("number", [0, 2])
def test_agent_that_asks_for_the_model_of_another_round_is_told_what_is_wanted(number: int) -> None:
    driver = EngineDriver()
    driver.begin("a")
    driver.forget()
    driver.ask("a", "model", number)
    assert not driver.payloads(Kind.AGENT_MODEL, "a")
    assert driver.invited() == ["a"]


@pytest.mark.parametrize(
    ("chunk_bytes", "asked"),
    [
        (4096, {"want": "model"}),  # it comes in chunks
        (4096, {"want": "chunks", "first": 0, "count": 0}),
        (4096, {"want": "chunks", "first": 99, "count": 1}),  # behind the last one
        (2**20, {"want": "chunks", "first": 0, "count": 1}),  # it comes whole
    ],
)
def test_agent_that_asks_for_what_is_not_there_is_told_what_is(chunk_bytes: int, asked: dict[str, Any]) -> None:
    driver = EngineDriver(weights={"w": three(*range(3000))["w"]}, chunk_bytes=chunk_bytes)
    driver.begin("a")
    driver.forget()
    driver.ask("a", round_number=1, **asked)
    assert not driver.payloads(Kind.AGENT_MODEL, "a")
    assert not driver.payloads(Kind.MODEL_CHUNK, "a")
    assert driver.invited() == ["a"]


def test_agent_that_was_given_up_is_selected_again_when_it_asks_for_the_model() -> None:
    driver = EngineDriver(min_agents=1, max_attempts=9)
    driver.begin("a")
    driver.leave("a")
    driver.ask("a", "model", 1)
    assert driver.engine.members.eligible() == ["a"]


def test_status_is_answered_with_the_invitation_while_the_update_is_wanted() -> None:
    driver = EngineDriver(min_agents=2)
    driver.begin("a", "b")
    driver.deliver("a")
    driver.forget()
    driver.join("a", "b")
    assert driver.invited() == ["b"]
    assert driver.messages(Standing, "a")[0].phase == "waiting"


def test_status_in_a_newer_minor_is_read() -> None:
    payload = json.dumps({"v": "1.9", "state": "online", "instance": "1", "news": 1}).encode()
    decoded = wire.decode(payload, AgentStatus)
    driver = EngineDriver()
    driver.begin()
    driver.handle(AgentSeen("a", decoded.message, decoded.version.minor))
    assert driver.invited() == ["a"]
    assert not [action for action in driver.done if isinstance(action, Evaluate)]


def test_record_says_when_the_broker_went_and_came_and_when_a_round_opened() -> None:
    driver = EngineDriver(min_agents=2, deadline_s=60.0)
    driver.begin("a", "b")
    (opened,) = driver.events("round-opened")
    driver.wait(5.0)
    driver.disconnect()
    driver.disconnect()
    driver.wait(5.0)
    driver.connect()
    driver.connect()

    assert (opened.round_number, opened.detail) == (1, "2 devices asked")
    assert len(driver.events("broker-connected")) == 2
    (lost,) = driver.events("broker-lost")
    assert driver.events("broker-connected")[1].at == lost.at + 5.0
