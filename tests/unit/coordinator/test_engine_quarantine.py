"""Agents that send too much that has to be refused are shut out, and cost nobody anything from then on."""

from typing import Any

import pytest

from coordinator.engine import Phase
from coordinator.events import AgentAsked, MessageRefused, NoteRefusal, Released, UpdateArrived
from coordinator.quarantine import FLOOD, LATE, LET_OUT, PUT_IN, quarantined
from schemas.errors import Reason
from schemas.messages import AgentRequest, Receipt, RoundAnnouncement, Standing
from schemas.records import RunEvent
from tests.unit.coordinator.engine_driver import RUN_ID, EngineDriver

MOST = 5


def opened(**rules: Any) -> EngineDriver:
    """A run of a and b whose first round is open."""
    driver = EngineDriver(min_agents=2, quarantine_after=MOST, **rules)
    driver.begin("a", "b")
    return driver


def misbehave(driver: EngineDriver, times: int = MOST) -> None:
    for _ in range(times):
        driver.handle(MessageRefused("b", Reason.MALFORMED, "no report"))


def receipts(driver: EngineDriver, reason: Reason) -> list[Receipt]:
    return [receipt for receipt in driver.messages(Receipt, "b") if receipt.reason == reason]


def test_agent_is_shut_out_when_enough_speaks_against_it() -> None:
    driver = opened()

    misbehave(driver, MOST - 1)
    assert not driver.events(PUT_IN)
    misbehave(driver, 1)

    (event,) = driver.events(PUT_IN)
    assert event.agent_id == "b"
    assert "malformed" in event.detail
    driver.deliver("b")
    assert receipts(driver, Reason.QUARANTINED)
    assert "b" not in driver.engine.open_round.accepted  # type: ignore[union-attr]


def test_round_closes_at_once_when_the_agent_it_waits_for_is_shut_out() -> None:
    driver = opened()
    driver.deliver("a")
    assert driver.engine.round_number == 0

    misbehave(driver)

    assert driver.engine.round_number == 1


def test_agent_in_quarantine_is_not_selected_and_its_status_is_refused() -> None:
    driver = opened()
    driver.deliver("a")
    misbehave(driver)
    driver.deliver("a", round_number=2)

    driver.join("b")

    assert [record.selected for record in driver.records()][1:] == [("a",)]
    assert receipts(driver, Reason.QUARANTINED)
    assert not [e for e in driver.events("agent-silent") if e.agent_id == "b"]


@pytest.mark.parametrize("reason", sorted(LATE - {Reason.QUARANTINED}))
def test_agent_stays_when_its_messages_are_only_late(reason: Reason) -> None:
    driver = opened()

    for _ in range(10 * MOST):
        driver.handle(MessageRefused("b", reason, "late"))

    assert not driver.events(PUT_IN)


def test_agent_is_shut_out_when_it_floods_with_what_is_only_late() -> None:
    driver = opened()

    for _ in range(FLOOD):
        driver.deliver("b", topic_round=7)

    assert [event.agent_id for event in driver.events(PUT_IN)] == ["b"]


def test_agent_is_shut_out_when_it_asks_without_end() -> None:
    driver = opened()

    for _ in range(FLOOD + MOST):
        driver.handle(AgentAsked("b", AgentRequest(want="state"), 1))

    assert len(receipts(driver, Reason.UNSOLICITED)) == MOST
    assert driver.events(PUT_IN)


def test_nobody_is_shut_out_when_that_is_switched_off() -> None:
    driver = EngineDriver(min_agents=2, quarantine_after=0)
    driver.begin("a", "b")

    misbehave(driver, 100)

    assert not driver.events(PUT_IN)


def test_flood_of_an_agent_in_quarantine_is_counted_but_hardly_logged_or_answered() -> None:
    driver = opened()
    misbehave(driver)

    for _ in range(10_000):
        driver.handle(UpdateArrived("b", RUN_ID, 1, b"not a blob"))
    driver.deliver("a")

    assert driver.records()[0].refused["b"] == {"malformed": MOST, "quarantined": 10_000}
    assert len(receipts(driver, Reason.QUARANTINED)) < 120
    assert len([note for note in driver.done if isinstance(note, NoteRefusal)]) < 120


def test_agent_that_is_let_back_takes_part_in_the_open_round() -> None:
    driver = opened(min_updates=2)
    driver.deliver("a")
    misbehave(driver)
    assert driver.engine.phase is Phase.COLLECTING
    invitations = len(driver.messages(RoundAnnouncement, "b"))

    driver.handle(Released("b"))
    assert len(driver.messages(RoundAnnouncement, "b")) == invitations + 1
    driver.deliver("b")

    assert driver.records()[0].accepted == ("a", "b")
    assert [event.agent_id for event in driver.events(LET_OUT)] == ["b"]
    misbehave(driver, MOST - 1)
    assert len(driver.events(PUT_IN)) == 1


def test_nothing_happens_when_an_agent_is_let_back_that_was_never_shut_out() -> None:
    driver = opened()

    driver.handle(Released("b"))
    driver.handle(Released("a-stranger"))

    assert not driver.events(LET_OUT)


def test_agent_is_still_shut_out_when_the_coordinator_was_restarted() -> None:
    driver = EngineDriver(min_agents=1, quarantine_after=MOST)
    driver.engine.shut_out(["b"])

    driver.begin("a", "b")

    assert driver.messages(RoundAnnouncement, "a")
    assert not driver.messages(RoundAnnouncement, "b")
    assert not driver.messages(Standing, "b")


def test_record_tells_who_is_in_quarantine() -> None:
    def event(name: str, agent_id: str) -> RunEvent:
        return RunEvent(run_id=RUN_ID, at=0.0, name=name, round_number=1, agent_id=agent_id)

    events = [event(PUT_IN, "a"), event(PUT_IN, "b"), event(LET_OUT, "a"), event("agent-online", "c")]

    assert list(quarantined(events)) == ["b"]


def test_agent_whose_update_was_refused_is_invited_to_the_next_round_without_a_word_from_it() -> None:
    driver = opened()
    driver.handle(UpdateArrived("b", RUN_ID, 1, b"not a blob"))
    driver.forget()

    driver.deliver("a")

    assert driver.invited() == ["a", "b"]
    assert not driver.events("agent-silent")
