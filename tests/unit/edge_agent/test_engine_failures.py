"""What an agent cannot deliver: the coordinator is told, and nothing goes out whose carry is not on the disk."""

import pytest

from edge_agent.events import KeepCarry, KeepUpdate, StartTraining, TrainingFailed
from edge_agent.phases import Phase
from edge_agent.polling import POLL_S
from edge_agent.sending import RESEND_S
from schemas.topics import Kind
from tests.unit.edge_agent.scripted import RUN, Agent, announced, arrived, carry, coordinator, model, stood, trained

FULL = "cannot keep what its training carries on in /state: No space left on device; make room on this disk"


def on_a_full_disk() -> Agent:
    """Trained, and unable to keep what it carries."""
    agent = Agent()
    agent.disk_error = FULL
    agent.take(announced(), arrived())
    agent.take(trained(1, carry(1)))
    return agent


def failures(agent: Agent) -> list[tuple[int, int, str]]:
    """The round, attempt and reason of each failure that was told."""
    told = [request.failed for request in agent.requests() if request.failed is not None]
    return [(failed.round_number, failed.attempt, failed.detail) for failed in told]


def test_update_does_not_go_out_and_the_reason_does_when_its_carry_cannot_be_kept() -> None:
    agent = on_a_full_disk()

    assert agent.sent(Kind.UPDATE) == []
    assert agent.of(KeepUpdate) == []
    assert agent.engine.pending is None
    ((number, attempt, detail),) = failures(agent)
    assert (number, attempt) == (1, 1)
    assert FULL in detail
    assert FULL in agent.told()


def test_same_update_goes_out_without_training_when_there_is_room_again() -> None:
    agent = on_a_full_disk()
    agent.wait(RESEND_S)
    assert len(agent.of(KeepCarry)) == 1
    assert agent.sent(Kind.UPDATE) == []

    agent.disk_error = ""
    agent.wait(2 * RESEND_S)

    assert len(agent.sent(Kind.UPDATE)) == 1
    assert agent.of(StartTraining) == []
    pending = agent.engine.pending
    assert pending is not None
    assert pending.carry["momentum"][0] == 1


def test_each_attempt_is_told_that_it_gets_nothing() -> None:
    agent = on_a_full_disk()

    agent.take(announced(attempt=2))

    assert [(number, attempt) for number, attempt, _ in failures(agent)] == [(1, 2)]
    assert agent.of(StartTraining) == []
    assert agent.take(announced(attempt=2)) == []


def test_next_round_is_trained_when_the_one_with_the_full_disk_is_over() -> None:
    agent = on_a_full_disk()

    agent.take(stood(1))
    assert agent.engine.phase is Phase.IDLE
    agent.disk_error = ""
    agent.take(announced(2), arrived(2))
    agent.take(trained(2, carry(2)))

    assert len(agent.sent(Kind.UPDATE)) == 1


def test_nothing_more_is_tried_when_the_run_has_ended() -> None:
    agent = on_a_full_disk()
    agent.take(stood(0, "aborted"))

    agent.disk_error = ""
    agent.wait(20 * RESEND_S)

    assert agent.of(KeepCarry) == []
    assert agent.sent(Kind.UPDATE) == []


def test_reason_is_told_again_after_a_reconnect_and_whenever_nothing_is_heard() -> None:
    agent = Agent()
    agent.take(announced(), arrived())
    agent.take(TrainingFailed(RUN, 1, "no such model"))
    assert [(number, attempt) for number, attempt, _ in failures(agent)] == [(1, 1)]

    agent.reconnect()
    assert len(failures(agent)) == 1
    agent.wait(POLL_S)
    assert len(failures(agent)) == 1


def test_old_failure_is_not_told_any_more_when_another_round_goes_well() -> None:
    agent = Agent()
    agent.take(announced(), arrived())
    agent.take(TrainingFailed(RUN, 1, "out of memory"))

    agent.take(announced(2), arrived(2))
    agent.wait(3 * POLL_S)

    assert agent.requests() != []
    assert failures(agent) == []


def test_new_coordinator_is_not_told_of_what_failed_before_it_asks_again() -> None:
    agent = Agent()
    agent.take(coordinator("one"), announced(), arrived())
    agent.take(TrainingFailed(RUN, 1, "out of memory"))

    agent.take(coordinator("two"))
    agent.wait(POLL_S)
    assert failures(agent) == []

    agent.take(announced(), arrived())
    assert len(agent.of(StartTraining)) == 1


@pytest.mark.parametrize("carried", [{}, carry(1)])
def test_coordinator_is_told_when_the_update_is_larger_than_it_reads(carried: dict[str, object]) -> None:
    agent = Agent()
    said = announced()
    small = said.announcement.model_copy(update={"max_update_bytes": 10})
    agent.take(type(said)(small, said.minor), arrived())

    agent.take(trained(1, carried))  # type: ignore[arg-type]

    assert agent.sent(Kind.UPDATE) == []
    ((_, _, detail),) = failures(agent)
    assert "more than is read" in detail


def test_work_that_waits_for_room_is_dropped_when_the_round_has_another_model_now() -> None:
    agent = on_a_full_disk()
    agent.disk_error = ""

    agent.take(announced(1, model(5)), arrived(1, model(5)))
    agent.wait(RESEND_S)

    assert agent.sent(Kind.UPDATE) == []
    assert agent.of(KeepCarry) == []
    assert agent.engine.phase is Phase.TRAINING
