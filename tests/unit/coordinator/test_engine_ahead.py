"""The next model goes out while the checkpoint is being written; what rests on the checkpoint waits for it."""

from typing import Any

from coordinator.engine import Phase
from coordinator.events import Publish, SaveCheckpoint, WorkFailed
from schemas.messages import RoundAnnouncement
from schemas.topics import Kind
from tests.unit.coordinator.engine_driver import EngineDriver, three

MODELS = (Kind.MODEL, Kind.AGENT_MODEL)


def models(driver: EngineDriver, *, round_number: int) -> list[str]:
    """To whom that round's model was sent since `forget`; an empty name is everybody."""
    published = (action.address for action in driver.seen if isinstance(action, Publish))
    return [a.agent_id for a in published if a.kind in MODELS and a.round_number == round_number]


def saving(**rules: Any) -> EngineDriver:
    """Two agents, and a first round whose checkpoint is being written."""
    driver = EngineDriver(min_agents=2, **{"evaluate": False} | rules)
    driver.begin("a", "b")
    driver.hold = True
    driver.forget()
    driver.close_round("a", "b")
    assert driver.is_in(Phase.SAVING)
    return driver


def test_model_is_sent_before_the_checkpoint_and_announced_after_it() -> None:
    driver = saving()
    asked = [type(action).__name__ for action in driver.seen if isinstance(action, SaveCheckpoint | Publish)]
    assert models(driver, round_number=2) == [""]
    assert asked[-1] == "SaveCheckpoint"
    assert driver.messages(RoundAnnouncement, "a") == []
    driver.complete(SaveCheckpoint)
    assert [said.round_number for said in driver.messages(RoundAnnouncement, "a")] == [2]
    assert models(driver, round_number=2) == [""], "once is enough"


def test_model_is_sent_while_it_is_being_evaluated() -> None:
    driver = saving(evaluate=True)
    driver.complete(SaveCheckpoint)
    assert driver.is_in(Phase.SAVING)
    assert models(driver, round_number=2) == [""]


def test_no_model_is_sent_ahead_when_its_round_may_not_come() -> None:
    last = saving(rounds=1)
    assert models(last, round_number=2) == []
    reached = saving(evaluate=True, target_accuracy=0.9)
    assert models(reached, round_number=2) == []


def test_no_model_is_sent_ahead_when_too_few_agents_are_there() -> None:
    driver = EngineDriver(min_agents=2, min_updates=2)
    driver.begin("a", "b")
    driver.hold = True
    driver.deliver("a")
    driver.leave("a")
    driver.deliver("b")
    assert models(driver, round_number=2) == []


def test_agent_that_came_back_meanwhile_is_sent_the_model_again() -> None:
    driver = saving()
    driver.join("b", instance="2")
    driver.forget()
    driver.complete(SaveCheckpoint)
    assert models(driver, round_number=2) == ["b"]


def test_agent_that_came_meanwhile_is_sent_the_model_too() -> None:
    driver = saving()
    driver.join("c")
    driver.forget()
    driver.complete(SaveCheckpoint)
    assert models(driver, round_number=2) == ["c"]


def test_model_is_sent_again_when_the_broker_was_out_of_reach_meanwhile() -> None:
    driver = saving()
    driver.disconnect()
    driver.connect()
    driver.forget()
    driver.complete(SaveCheckpoint)
    assert models(driver, round_number=2) == [""]


def test_model_is_written_anew_when_an_agent_of_an_older_minor_came() -> None:
    driver = saving()
    driver.join("c", minor=0)
    driver.forget()
    driver.complete(SaveCheckpoint)
    (payload,) = driver.payloads(Kind.MODEL)
    assert b'\\"v\\":\\"1.0\\"' in bytes(payload)


def test_model_is_sent_to_the_selected_alone_when_they_are_few() -> None:
    driver = EngineDriver(min_agents=4, fraction=0.5, evaluate=False)
    driver.begin("a", "b", "c", "d")
    driver.forget()
    for agent_id in sorted(driver.engine.open_round.selected) if driver.engine.open_round else []:
        driver.deliver(agent_id)
    assert driver.engine.open_round is not None
    assert models(driver, round_number=2) == sorted(driver.engine.open_round.selected)


def test_round_is_repeated_when_power_goes_before_the_checkpoint_is_on_disk() -> None:
    driver = saving()
    assert models(driver, round_number=2) == [""]
    again = EngineDriver(min_agents=2, evaluate=False, session="200")  # nothing of the first round is on the disk
    again.begin("a", "b")
    assert [said.round_number for said in again.messages(RoundAnnouncement, "a")] == [1]
    again.deliver("b", three(1, 2, 3))
    again.deliver("a", three(1, 2, 3))
    assert again.model() == driver.model()


def test_nothing_is_announced_when_the_disk_is_full_after_the_model_has_gone() -> None:
    driver = saving()
    driver.handle(WorkFailed("checkpoint", "no space"))
    assert driver.messages(RoundAnnouncement, "a") == []
    end = driver.end()
    assert end is not None
    assert end.outcome == "stopped"
