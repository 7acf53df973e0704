"""Agents that say that they cannot deliver are not waited for, and a person can read why."""

from typing import Any

from schemas.messages import RoundFailure, Standing
from tests.unit.coordinator.engine_driver import RUN_ID, EngineDriver, three

FULL = "the update is made and cannot be sent: No space left on device"


def opened(**rules: Any) -> EngineDriver:
    """A run of a and b whose first round is open."""
    driver = EngineDriver(**{"min_agents": 2, "min_updates": 1} | rules)
    driver.begin("a", "b")
    return driver


def excuse(driver: EngineDriver, number: int = 1, attempt: int = 1, detail: str = FULL, run_id: str = RUN_ID) -> None:
    failed = RoundFailure(run_id=run_id, round_number=number, attempt=attempt, detail=detail)
    driver.ask("b", "state", failed=failed)


def test_round_closes_without_the_agent_that_cannot_deliver() -> None:
    driver = opened()
    driver.deliver("a")
    assert driver.engine.round_number == 0

    excuse(driver)

    assert driver.engine.round_number == 1
    (event,) = driver.events("agent-failed")
    assert (event.agent_id, event.detail, event.round_number) == ("b", FULL, 1)
    assert driver.records()[0].accepted == ("a",)


def test_agent_that_could_not_deliver_is_asked_again_in_the_next_round() -> None:
    driver = opened()
    driver.deliver("a")
    excuse(driver)

    assert driver.engine.open_round is not None
    assert driver.engine.open_round.selected == {"a", "b"}
    assert not driver.events("agent-silent")


def test_update_counts_when_it_comes_after_all_while_the_round_is_open() -> None:
    driver = opened()
    excuse(driver)

    driver.deliver("b")
    driver.deliver("a")

    assert driver.records()[0].accepted == ("a", "b")


def test_agent_is_told_where_the_run_stands_and_said_once_in_the_record() -> None:
    driver = opened()
    driver.forget()

    excuse(driver)
    excuse(driver)

    assert [standing.closed_round for standing in driver.messages(Standing, "b")] == [0, 0]
    assert driver.invited() == []
    assert len(driver.events("agent-failed")) == 1


def test_failure_of_another_attempt_round_or_run_changes_nothing() -> None:
    driver = opened()
    driver.deliver("a")

    excuse(driver, attempt=2)
    excuse(driver, number=2)
    excuse(driver, run_id="run-0")

    assert driver.engine.round_number == 0
    assert driver.events("agent-failed") == []
    assert "b" in driver.invited()


def test_agent_is_asked_again_and_waited_for_when_its_process_was_started_anew() -> None:
    driver = opened()
    excuse(driver)
    driver.forget()

    driver.join("b", instance="2")
    assert "b" in driver.invited()
    driver.deliver("a")
    assert driver.engine.round_number == 0
    driver.deliver("b")

    assert driver.records()[0].accepted == ("a", "b")


def test_agent_is_not_asked_again_when_the_same_process_connects_anew() -> None:
    driver = opened()
    excuse(driver)
    driver.forget()

    driver.join("b")

    assert driver.invited() == []
    driver.deliver("a")
    assert driver.records()[0].accepted == ("a",)


def test_agent_whose_update_was_refused_is_not_asked_again_when_it_was_started_anew() -> None:
    driver = opened()
    driver.deliver("b", three(1, float("nan"), 3))
    driver.forget()

    driver.join("b", instance="2")

    assert driver.invited() == []


def test_counted_update_stays_when_its_agent_says_later_that_it_failed() -> None:
    driver = opened()
    driver.deliver("b")

    excuse(driver)
    driver.deliver("a")

    assert driver.records()[0].accepted == ("a", "b")
    assert driver.events("agent-failed") == []


def test_needed_agent_is_waited_for_until_the_deadline_and_the_round_is_repeated() -> None:
    driver = opened(min_updates=2, deadline_s=30.0, max_attempts=2)
    driver.deliver("a")
    excuse(driver)
    assert driver.engine.round_number == 0

    driver.wait(30.0)
    driver.deliver("a")
    driver.deliver("b")

    assert driver.records()[0].attempt == 2
    assert driver.records()[0].accepted == ("a", "b")


def test_words_of_an_agent_cannot_steer_a_terminal() -> None:
    driver = opened()

    excuse(driver, detail="full\x1b[2Jdisk\nnext line")

    assert driver.events("agent-failed")[0].detail == "full [2Jdisk next line"
