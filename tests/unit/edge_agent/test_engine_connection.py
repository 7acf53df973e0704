"""How an agent introduces itself, asks what is going on, and ends."""

import json

import pytest

from edge_agent.events import ConnectionGained, ConnectionLost, End, MessageRefused, Publish, StopAsked, StopTraining
from edge_agent.inbox import Inbox
from edge_agent.polling import MAX_WAIT_S, POLL_S
from schemas import wire
from schemas.codecs import CAPABILITIES
from schemas.messages import AgentRequest, AgentStatus
from schemas.topics import Address, Kind, Topics
from schemas.versions import CURRENT
from tests.unit.edge_agent.scripted import (
    AGENT,
    INSTANCE,
    MAX_PACKET_BYTES,
    Agent,
    accepted,
    announced,
    arrived,
    coordinator,
    stood,
    trained,
)


def statuses(agent: Agent) -> list[str]:
    return [wire.decode(message.payload, AgentStatus).message.state for message in agent.sent(Kind.STATUS)]


def test_status_is_the_first_message_when_the_agent_connects() -> None:
    agent = Agent()

    (status,) = agent.of(Publish)
    assert status.address == Address(Kind.STATUS, AGENT)
    assert status.retain
    assert wire.decode(status.payload, AgentStatus).message == AgentStatus(
        state="online", instance=INSTANCE, codecs=CAPABILITIES
    )


def test_status_is_sent_again_when_a_new_coordinator_appears() -> None:
    agent = Agent()

    agent.take(coordinator("first"))
    assert statuses(agent) == ["online"]
    agent.take(coordinator("first"))
    assert statuses(agent) == []
    agent.take(coordinator("second"))
    assert statuses(agent) == ["online"]


@pytest.mark.parametrize("seen", [coordinator("first", "offline"), coordinator("first", claim=True)])
def test_nothing_is_sent_when_a_coordinator_is_gone_or_only_asks_for_others(seen: object) -> None:
    assert Agent().take(seen) == []  # type: ignore[arg-type]


def test_what_one_coordinator_answers_another_one_introduces_nobody() -> None:
    agent = Agent()

    agent.take(coordinator("first", answers="second"))
    assert statuses(agent) == []

    agent.take(coordinator("first"))
    assert statuses(agent) == ["online"]


def test_state_is_asked_for_with_growing_waits_when_nobody_answers() -> None:
    agent = Agent()

    moments: list[float] = []
    for _ in range(6):
        begin_s = agent.now_s
        while not agent.wait(1.0):
            pass
        moments.append(agent.now_s - begin_s)
        assert agent.requests() == [AgentRequest(want="state", codecs=CAPABILITIES)]

    assert moments == [POLL_S, 2 * POLL_S, 4 * POLL_S, MAX_WAIT_S, MAX_WAIT_S, MAX_WAIT_S]


def test_waits_are_short_again_when_the_coordinator_answers() -> None:
    agent = Agent()
    agent.wait(500.0)

    agent.take(stood())

    agent.wait(POLL_S)
    assert agent.requests() == [AgentRequest(want="state", codecs=CAPABILITIES)]


def test_state_is_asked_for_less_and_less_often_when_the_answers_say_nothing_new() -> None:
    agent = Agent()
    agent.take(announced(), arrived())
    moments: list[float] = []

    for _ in range(5):
        begin_s = agent.now_s
        while not agent.wait(1.0):
            pass
        moments.append(agent.now_s - begin_s)
        agent.take(announced())

    assert moments == [POLL_S, 2 * POLL_S, 4 * POLL_S, MAX_WAIT_S, MAX_WAIT_S]


def test_state_is_asked_for_when_nothing_comes_during_a_long_training() -> None:
    agent = Agent()
    agent.take(announced(), arrived())

    agent.wait(POLL_S)

    assert agent.requests() == [AgentRequest(want="state", codecs=CAPABILITIES)]


def test_nothing_is_due_while_the_broker_is_out_of_reach() -> None:
    agent = Agent()
    agent.take(announced())
    agent.take(ConnectionLost())

    assert agent.wait(10_000.0) == []


def versions(messages: list[Publish]) -> set[str]:
    return {json.loads(bytes(message.payload))["v"] for message in messages}


def test_requests_say_our_own_minor_when_the_coordinator_writes_a_lower_one() -> None:
    # It takes the minor of the latest status or request as what we can read: another one would stay for ever.
    agent = Agent()
    agent.take(announced(minor=0))
    agent.wait(POLL_S)
    assert {request.want for request in agent.requests()} == {"model", "state"}
    assert versions(agent.sent(Kind.REQUEST)) == {CURRENT.text}

    agent.take(announced(2, minor=0, in_chunks=True))
    assert [request.want for request in agent.requests()] == ["chunks"]
    assert versions(agent.sent(Kind.REQUEST)) == {CURRENT.text}


def test_report_is_written_in_the_minor_that_the_coordinator_writes() -> None:
    agent = Agent()

    agent.take(announced(minor=0), arrived(), trained(), accepted())

    assert versions(agent.sent(Kind.REPORT)) == {"1.0"}


@pytest.mark.parametrize("kind", [Kind.ANNOUNCEMENT, Kind.STANDING, Kind.RECEIPT, Kind.WANTED, Kind.COORDINATOR_STATUS])
def test_log_says_what_to_do_when_a_message_is_of_another_major(kind: Kind) -> None:
    topics, agent = Topics(), Agent()

    event = Inbox(topics, AGENT).read(topics.build(Address(kind, AGENT)), b'{"v":"2.0"}')
    assert isinstance(event, MessageRefused)
    agent.take(event)

    assert "unsupported-version" in agent.told()
    assert "2.0 cannot be read here: this side speaks 1.x; install" in agent.told()
    assert agent.of(Publish) == []


def test_message_to_another_agent_is_refused() -> None:
    topics = Topics()
    topic = topics.build(Address(Kind.STANDING, "room-2"))

    assert isinstance(Inbox(topics, AGENT).read(topic, b"{}"), MessageRefused)


def test_agent_says_that_it_is_gone_when_it_is_stopped() -> None:
    agent = Agent()
    agent.take(announced(), arrived())

    agent.take(StopAsked())

    assert len(agent.of(StopTraining)) == 1
    assert statuses(agent) == ["offline"]
    assert isinstance(agent.actions[-1], End)
    assert agent.wait(1000.0) == []


def test_nothing_is_done_any_more_when_the_agent_was_stopped() -> None:
    agent = Agent()
    agent.take(announced(), arrived(), StopAsked())

    assert agent.take(trained(), announced(2), ConnectionGained(MAX_PACKET_BYTES)) == []
