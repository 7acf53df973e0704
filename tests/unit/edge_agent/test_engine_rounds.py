"""One round as an agent goes through it: the model, the training, the update until its receipt."""

import math

import numpy as np
import pytest

from edge_agent.events import (
    Announced,
    ConnectionLost,
    ForgetUpdate,
    KeepCarry,
    KeepUpdate,
    ModelArrived,
    PendingUpdate,
    Publish,
    StartTraining,
    StopTraining,
    TrainingFailed,
)
from edge_agent.fetching import MODEL_RETRY_S, MODEL_WAIT_S
from edge_agent.phases import Phase
from edge_agent.polling import MAX_WAIT_S, POLL_S
from edge_agent.sending import RESEND_S
from schemas import wire
from schemas.codecs import CAPABILITIES
from schemas.errors import Reason
from schemas.messages import AgentRequest, BlobHeader, RoundRef
from schemas.topics import Kind
from schemas.weights import decode, digest
from tests.unit.edge_agent.scripted import (
    AGENT,
    RUN,
    Agent,
    accepted,
    announced,
    arrived,
    carry,
    coordinator,
    model,
    model_blob,
    refused,
    stood,
    trained,
)

ASKED_FOR_MODEL = AgentRequest(want="model", round=RoundRef(run_id=RUN, round_number=1), codecs=CAPABILITIES)


def sent_blobs(agent: Agent) -> list[bytes]:
    return [bytes(message.payload) for message in agent.sent(Kind.UPDATE)]


@pytest.mark.parametrize("order", [(announced(), arrived()), (arrived(), announced())])
def test_training_starts_when_announcement_and_model_are_there(order: tuple[Announced | ModelArrived, ...]) -> None:
    agent = Agent()

    agent.take(*order)

    (start,) = agent.of(StartTraining)
    assert start.announcement == announced().announcement
    assert np.array_equal(start.weights["w"], model(1)["w"])
    assert start.carry == {}


def test_model_is_asked_for_when_it_does_not_come_and_asked_for_again() -> None:
    agent = Agent()
    agent.take(announced())

    assert agent.wait(MODEL_WAIT_S - 0.1) == []
    agent.wait(0.1)
    assert agent.requests() == [ASKED_FOR_MODEL]
    assert agent.wait(MODEL_RETRY_S - 0.1) == []
    agent.wait(0.1)
    assert agent.requests() == [ASKED_FOR_MODEL]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (model_blob(model(2)), Reason.WRONG_DIGEST),
        (model_blob(model(1), kind="update"), Reason.MALFORMED),
        (model_blob(model(1), v="2.0"), Reason.UNSUPPORTED_VERSION),
        (model_blob(model(1)) + b"more", Reason.TOO_LARGE),
        (b"", Reason.MALFORMED),
    ],
    ids=["other weights", "an update", "another major", "larger", "empty"],
)
def test_model_is_refused_and_asked_for_when_it_is_not_the_announced_one(payload: bytes, reason: Reason) -> None:
    agent = Agent()
    agent.take(announced(), ModelArrived(RUN, 1, payload))

    assert agent.of(StartTraining) == []
    assert reason.value in agent.told()
    agent.wait(MODEL_WAIT_S)
    assert agent.requests() == [ASKED_FOR_MODEL]
    agent.take(arrived())
    assert len(agent.of(StartTraining)) == 1


def test_round_is_trained_once_when_everything_comes_twice() -> None:
    agent = Agent()

    agent.take(arrived(), announced(), arrived(), announced(attempt=2), arrived())
    assert len(agent.of(StartTraining)) == 1
    agent.take(trained(), trained())
    assert len(agent.of(KeepUpdate)) == 1
    assert len(sent_blobs(agent)) == 1


def test_new_run_is_trained_when_its_model_came_while_the_same_round_of_the_old_run_was_open() -> None:
    agent = Agent()
    agent.through()

    agent.take(arrived(run_id="run-2"), announced(run_id="run-2"))

    assert len(agent.of(StartTraining)) == 1


def test_update_says_what_it_is() -> None:
    agent = Agent()
    agent.take(announced(), arrived())

    agent.take(trained())

    head, weights = decode(sent_blobs(agent)[0])
    header = wire.decode(head, BlobHeader).message
    assert (header.kind, header.sender, header.run_id, header.round_number) == ("update", AGENT, RUN, 1)
    assert (header.num_examples, header.num_batches, header.loss) == (7, 1, 0.5)
    assert header.base_sha256 == digest(model(1))
    assert np.array_equal(weights["w"], model(11)["w"])


def test_update_has_no_loss_when_training_diverged() -> None:
    agent = Agent()
    agent.take(announced(), arrived())
    result = trained()

    agent.take(type(result)(RUN, 1, result.weights, 7, 1, math.nan))

    assert wire.decode(decode(sent_blobs(agent)[0])[0], BlobHeader).message.loss is None


def test_what_an_update_carries_is_on_the_disk_before_it_is_sent() -> None:
    agent = Agent()
    agent.take(announced(), arrived())

    agent.take(trained(1, carry(1)))

    assert [type(action) for action in agent.actions] == [KeepCarry, Publish, KeepUpdate]


def test_update_that_carries_nothing_is_sent_first_and_kept_then() -> None:
    agent = Agent()
    agent.take(announced(), arrived())

    agent.take(trained(1))

    assert [type(action) for action in agent.actions] == [Publish, KeepUpdate]


def test_same_bytes_are_sent_when_the_round_is_announced_again() -> None:
    agent = Agent()
    agent.take(announced(), arrived())
    agent.take(trained())
    first = sent_blobs(agent)
    agent.take(accepted())

    agent.take(announced(attempt=2))

    assert sent_blobs(agent) == first
    assert agent.of(StartTraining) == []


def test_same_bytes_are_sent_when_the_agent_was_restarted() -> None:
    before = Agent()
    before.take(announced(), arrived())
    before.take(trained())
    kept = before.of(KeepUpdate)[0].update

    agent = Agent(kept, run_id=RUN)
    assert sent_blobs(agent) == []
    agent.take(announced())

    assert sent_blobs(agent) == sent_blobs(before)
    agent.take(arrived())
    assert agent.of(StartTraining) == []
    agent.take(accepted())
    assert agent.reports()[1].train_s == 0.0


def test_same_bytes_are_sent_when_the_connection_was_lost() -> None:
    agent = Agent()
    agent.take(announced(), arrived())
    agent.take(trained())
    first = sent_blobs(agent)

    agent.reconnect()
    agent.take(announced())

    assert sent_blobs(agent) == first


def test_training_goes_on_when_the_connection_is_lost_and_its_update_is_sent_afterwards() -> None:
    agent = Agent()
    agent.take(announced(), arrived(), ConnectionLost())
    agent.take(trained())
    assert len(agent.of(KeepUpdate)) == 1

    agent.reconnect()
    agent.take(announced())

    assert len(sent_blobs(agent)) == 1
    assert agent.of(StartTraining) == []


def test_update_is_dropped_and_trained_again_when_the_round_has_another_model_now() -> None:
    agent = Agent()
    agent.through()

    agent.take(announced(1, model(5)), arrived(1, model(5)))

    assert agent.of(ForgetUpdate) == [ForgetUpdate(RUN, 1, accepted=False)]
    assert len(agent.of(StartTraining)) == 1


def test_update_of_a_later_round_is_not_sent_when_an_earlier_one_with_the_same_model_is_open_again() -> None:
    kept = PendingUpdate(RUN, 2, digest(model(1)), b"of round 2", {})
    agent = Agent(kept, run_id=RUN)

    agent.take(announced(1), arrived(1))

    assert sent_blobs(agent) == []
    assert len(agent.of(StartTraining)) == 1


def test_update_is_sent_again_with_growing_waits_when_no_receipt_comes() -> None:
    agent = Agent()
    agent.take(announced(), arrived())
    agent.take(trained())
    first = sent_blobs(agent)

    waits: list[float] = []
    for _ in range(6):
        begin_s = agent.now_s
        while not sent_blobs(agent) or agent.now_s == begin_s:
            agent.wait(1.0)
        waits.append(agent.now_s - begin_s)
        assert sent_blobs(agent) == first

    assert waits == [RESEND_S, 2 * RESEND_S, 4 * RESEND_S, 8 * RESEND_S, MAX_WAIT_S, MAX_WAIT_S]


def test_update_has_twice_the_time_of_the_last_receipt_before_it_is_sent_again() -> None:
    agent = Agent()
    agent.take(announced(), arrived())
    agent.take(trained())
    agent.wait(25.0)
    agent.take(accepted())

    agent.take(announced(2, last_accepted_round=1), arrived(2))
    agent.take(trained(2))

    agent.wait(49.0)
    assert sent_blobs(agent) == []
    agent.wait(1.0)
    assert len(sent_blobs(agent)) == 1

    agent.take(accepted(2))
    agent.take(announced(3, last_accepted_round=2), arrived(3))
    agent.take(trained(3))
    agent.take(accepted(3))
    agent.take(announced(4, last_accepted_round=3), arrived(4))
    agent.take(trained(4))
    agent.wait(RESEND_S)
    assert len(sent_blobs(agent)) == 1


def test_update_is_not_sent_once_more_when_the_announcement_answers_our_own_question() -> None:
    # It waits in the queue of a coordinator that is busy with those of thousands.
    agent = Agent()
    agent.take(announced(), arrived())
    agent.take(trained())
    agent.wait(RESEND_S)
    agent.wait(POLL_S - RESEND_S)
    assert [request.want for request in agent.requests()] == ["state"]

    agent.take(announced())
    assert sent_blobs(agent) == []
    assert agent.engine.phase is Phase.SENDING
    agent.wait(2 * RESEND_S)
    assert len(sent_blobs(agent)) == 1


def test_update_is_sent_once_more_when_nobody_asked_for_the_announcement() -> None:
    agent = Agent()
    agent.take(announced(), arrived())
    agent.take(trained())

    agent.take(announced())

    assert len(sent_blobs(agent)) == 1


@pytest.mark.parametrize("change", ["attempt", "connection", "coordinator"])
def test_update_is_sent_once_more_after_a_question_when_something_has_changed(change: str) -> None:
    agent = Agent()
    agent.take(announced(), arrived())
    agent.take(trained())
    agent.wait(POLL_S)
    if change == "connection":
        agent.reconnect()
    elif change == "coordinator":
        agent.take(coordinator("2"))

    agent.take(announced(attempt=2 if change == "attempt" else 1))

    assert len(sent_blobs(agent)) == 1


def test_model_is_asked_for_with_growing_waits_when_nothing_comes() -> None:
    agent = Agent()
    agent.take(announced())

    agent.wait(MODEL_WAIT_S)
    waits: list[float] = []
    for _ in range(6):
        begin_s = agent.now_s
        while ASKED_FOR_MODEL not in agent.requests() or agent.now_s == begin_s:
            agent.wait(1.0)
        waits.append(agent.now_s - begin_s)

    assert waits == [MODEL_RETRY_S, 2 * MODEL_RETRY_S, 4 * MODEL_RETRY_S, 8 * MODEL_RETRY_S, MAX_WAIT_S, MAX_WAIT_S]


def test_waits_for_the_receipt_are_short_again_when_the_round_is_announced_again() -> None:
    agent = Agent()
    agent.take(announced(), arrived())
    agent.take(trained())
    agent.wait(500.0)

    agent.take(announced(attempt=2))

    agent.wait(RESEND_S)
    assert len(sent_blobs(agent)) == 1


def test_update_is_not_sent_again_when_the_receipt_came() -> None:
    agent = Agent()
    agent.through()

    agent.wait(1000.0)

    assert sent_blobs(agent) == []


def test_receipt_of_another_round_or_run_changes_nothing() -> None:
    agent = Agent()
    agent.take(announced(2), arrived(2))
    agent.take(trained(2))

    assert agent.take(accepted(1)) == []
    agent.wait(RESEND_S)
    assert len(sent_blobs(agent)) == 1


def test_update_is_dropped_and_its_reason_said_when_it_is_refused() -> None:
    agent = Agent()
    agent.take(announced(), arrived())
    agent.take(trained(1, carry(1)))

    agent.take(refused(1, Reason.NON_FINITE))

    assert agent.of(ForgetUpdate) == [ForgetUpdate(RUN, 1, accepted=False)]
    assert "non-finite" in agent.told()
    assert agent.engine.pending is None
    agent.wait(1000.0)
    assert sent_blobs(agent) == []


def test_round_is_trained_again_when_it_is_announced_again_after_a_refusal() -> None:
    agent = Agent()
    agent.take(announced(), arrived())
    agent.take(trained(1, carry(1)))
    agent.take(refused())

    agent.take(announced(attempt=2), arrived())

    (start,) = agent.of(StartTraining)
    assert start.carry == {}


@pytest.mark.parametrize("phase", ["finished", "aborted"])
@pytest.mark.parametrize("trained_already", [False, True])
def test_everything_of_the_round_ends_when_the_run_does(phase: str, trained_already: bool) -> None:
    agent = Agent()
    agent.take(announced(), arrived())
    if trained_already:
        agent.take(trained())

    agent.take(stood(0, phase, detail="too few agents"))

    assert len(agent.of(StopTraining)) == (not trained_already)
    assert len(agent.of(ForgetUpdate)) == trained_already
    assert phase in agent.told()
    assert "too few agents" in agent.told()
    agent.wait(1000.0)
    assert sent_blobs(agent) == []


def test_training_is_abandoned_when_its_round_is_over() -> None:
    agent = Agent()
    agent.take(announced(), arrived())

    agent.take(stood(closed_round=1))

    assert len(agent.of(StopTraining)) == 1
    assert "round 1 is over" in agent.told()
    assert agent.take(trained()) == []


def test_training_is_abandoned_when_the_next_round_is_announced() -> None:
    agent = Agent()
    agent.take(announced(1), arrived(1))

    agent.take(announced(2), arrived(2))

    assert [type(action) for action in agent.actions] == [StopTraining, StartTraining]
    assert agent.take(trained(1)) == []
    agent.take(trained(2))
    assert len(sent_blobs(agent)) == 1


def test_training_goes_on_when_the_round_is_still_open() -> None:
    agent = Agent()
    agent.take(announced(), arrived())

    assert agent.take(stood(closed_round=0)) == []
    agent.take(trained())
    assert len(sent_blobs(agent)) == 1


def test_news_are_ignored_when_newer_ones_have_overtaken_them() -> None:
    agent = Agent()
    agent.take(announced(2), arrived(2))

    assert agent.take(announced(1), stood(closed_round=0, phase="finished")) == []


def test_failed_training_is_said_and_tried_again_when_the_round_is_announced_again() -> None:
    agent = Agent()
    agent.take(announced(), arrived())

    agent.take(TrainingFailed(RUN, 1, "no such strategy"))
    assert "no such strategy" in agent.told()
    assert agent.wait(MODEL_WAIT_S) == []

    agent.take(arrived(), announced(attempt=2))
    assert len(agent.of(StartTraining)) == 1


@pytest.mark.parametrize("again", [announced(), announced(attempt=1, recorded_reports=(1,))])
def test_failed_training_is_not_repeated_when_the_same_attempt_is_announced_again(again: Announced) -> None:
    agent = Agent()
    agent.take(announced(), arrived())
    agent.take(TrainingFailed(RUN, 1, "no such strategy"))

    agent.take(again, arrived())

    assert agent.of(StartTraining) == []
    agent.wait(MODEL_WAIT_S)
    assert agent.requests() == []


def test_failed_training_is_tried_again_when_another_coordinator_announces_the_round() -> None:
    agent = Agent()
    agent.take(announced(), arrived())
    agent.take(TrainingFailed(RUN, 1, "out of memory"))

    agent.take(coordinator("another"), announced(), arrived())

    assert len(agent.of(StartTraining)) == 1


def test_refused_update_is_not_made_again_when_the_same_attempt_is_announced_again() -> None:
    agent = Agent()
    agent.take(announced(), arrived())
    agent.take(trained())
    agent.take(refused())

    agent.take(announced(), arrived())

    assert agent.of(StartTraining) == []


@pytest.mark.parametrize(
    "reason",
    [
        Reason.NOT_SELECTED,
        Reason.STALE_ROUND,
        Reason.FUTURE_ROUND,
        Reason.WRONG_RUN,
        Reason.UNKNOWN_AGENT,
        Reason.DUPLICATE,
    ],
)
def test_update_and_carry_are_kept_when_a_refusal_says_nothing_against_them(reason: Reason) -> None:
    agent = Agent()
    agent.take(announced(), arrived())
    agent.take(trained(1, carry(1)))
    agent.take(announced(attempt=2))

    # The answer to the first attempt comes late; the second attempt may already have counted the update.
    agent.take(refused(1, reason))
    agent.take(announced(2, last_accepted_round=1), arrived(2))

    (start,) = agent.of(StartTraining)
    assert set(start.carry) == {"momentum"}


def test_failure_of_an_abandoned_training_changes_nothing() -> None:
    agent = Agent()
    agent.take(announced(1), arrived(1))
    agent.take(announced(2), arrived(2))

    assert agent.take(TrainingFailed(RUN, 1, "stopped")) == []


def test_log_says_so_when_the_update_is_larger_than_what_is_read() -> None:
    agent = Agent()
    small = announced()
    agent.take(Announced(small.announcement.model_copy(update={"max_update_bytes": 10}), small.minor), arrived())

    agent.take(trained())

    assert sent_blobs(agent) == []
    assert "more than" in agent.told()
    agent.wait(1000.0)
    assert agent.told() == ""


def test_refusal_of_something_else_is_said_and_changes_nothing() -> None:
    agent = Agent()
    agent.take(announced(), arrived())
    agent.take(trained())

    agent.take(refused(0, Reason.UNSUPPORTED_VERSION))

    assert "unsupported-version" in agent.told()
    assert agent.engine.pending is not None
    agent.wait(RESEND_S)
    assert len(sent_blobs(agent)) == 1


def test_refusals_of_something_else_are_said_once_when_they_repeat() -> None:
    agent = Agent()
    agent.take(refused(0, Reason.UNKNOWN_AGENT))

    assert agent.take(refused(0, Reason.UNKNOWN_AGENT)) == []
