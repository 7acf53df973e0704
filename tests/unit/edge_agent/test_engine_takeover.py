"""Two processes under one agent id: the newest one works, the older one ends for good."""

import pytest

from edge_agent.events import Action, ConnectionGained, ConnectionLost, End, Publish, StatusSeen, StopTraining
from edge_agent.identity import CHECK_S, SETTLE_S, VISITOR
from edge_agent.inbox import Inbox
from schemas import wire
from schemas.messages import AgentStatus
from schemas.topics import Address, Kind, Topics
from tests.unit.edge_agent.scripted import AGENT, MAX_PACKET_BYTES, Agent, announced, arrived, status, trained

OTHER = "another-process"
BACK = (ConnectionLost(), ConnectionGained(MAX_PACKET_BYTES))


def introduced(*ended: str) -> Agent:
    """An agent whose first status came back to it; what it did until then is forgotten."""
    agent = Agent(ended=frozenset(ended))
    agent.take(status(retained=False))
    return agent


def gave_way(actions: list[Action]) -> bool:
    return End(taken_over=True) in actions


@pytest.mark.parametrize("state", ["online", "offline"])
@pytest.mark.parametrize("retained", [True, False])
def test_agent_stays_when_it_finds_an_older_process_at_its_first_connect(state: str, retained: bool) -> None:
    agent = Agent()
    assert len(agent.of(Publish)) == 1

    assert agent.take(status(OTHER, state, retained=retained)) == []
    assert not gave_way(agent.wait(1000.0))


@pytest.mark.parametrize("own_will", [[], [status(state="offline", retained=False)]])
def test_restarted_agent_stays_when_its_first_connection_broke_before_its_status_arrived(
    own_will: list[StatusSeen],
) -> None:
    # The process before it was killed: nobody has replaced its retained status.
    agent = Agent()

    agent.take(*BACK, status(OTHER), *own_will)
    assert [message.address.kind for message in agent.of(Publish)] == [Kind.STATUS]
    assert not gave_way(agent.wait(1000.0))


def test_agent_introduces_itself_again_when_its_own_status_is_the_last_one() -> None:
    agent = introduced()

    agent.take(*BACK)
    assert agent.actions == []
    agent.take(status(state="offline"))
    assert [message.address.kind for message in agent.of(Publish)] == [Kind.STATUS]


def test_agent_introduces_itself_again_when_the_broker_has_kept_nothing() -> None:
    agent = introduced()

    agent.take(*BACK)

    assert agent.wait(CHECK_S - 0.01) == []
    agent.wait(0.01)
    assert [message.address.kind for message in agent.of(Publish)] == [Kind.STATUS]


@pytest.mark.parametrize("state", ["online", "offline"])
def test_older_process_ends_without_a_word_when_a_newer_one_was_there(state: str) -> None:
    agent = introduced()
    agent.take(announced(), arrived())

    agent.take(*BACK, status(OTHER, state))
    agent.wait(SETTLE_S)

    assert [type(action) for action in agent.actions] == [StopTraining, End]
    assert gave_way(agent.actions)
    assert agent.wait(1000.0) == []


def test_older_process_ends_when_the_will_of_the_newer_one_is_all_that_it_hears() -> None:
    agent = introduced()

    agent.take(*BACK, status(OTHER, "offline", retained=False))

    assert gave_way(agent.wait(SETTLE_S))


def test_older_process_sends_no_update_that_is_made_while_it_looks() -> None:
    agent = introduced()
    agent.take(announced(), arrived())

    agent.take(*BACK, trained())
    assert agent.of(Publish) == []
    agent.take(status(OTHER))
    agent.wait(SETTLE_S)

    assert agent.of(Publish) == []
    assert gave_way(agent.actions)


def test_update_follows_the_status_when_it_was_made_while_the_agent_looked() -> None:
    agent = introduced()
    agent.take(announced(), arrived())
    agent.take(*BACK, trained())

    agent.take(status())

    assert [message.address.kind for message in agent.of(Publish)] == [Kind.STATUS, Kind.UPDATE]


def test_nothing_held_back_is_sent_later_when_the_connection_is_lost_while_the_agent_looks() -> None:
    agent = introduced()
    agent.take(announced(), arrived())
    agent.take(*BACK, trained())

    agent.take(*BACK, status())

    assert [message.address.kind for message in agent.of(Publish)] == [Kind.STATUS]


def test_agent_stays_when_a_status_from_before_its_start_comes_late() -> None:
    # It was on its way when the first connection broke, so that the broker sends it again, before the kept one.
    agent = introduced()

    agent.take(*BACK, status(OTHER), status(state="offline"))

    assert len(agent.of(Publish)) == 1
    assert not gave_way(agent.wait(100.0))


def test_newer_process_stays_when_the_older_one_has_thrown_it_out() -> None:
    newer = Agent()
    newer.take(status(OTHER), status(OTHER, "offline", retained=False), status(retained=False))

    # The older one connects again to look, and is thrown out in turn before it has ended: its will is what is kept.
    newer.take(*BACK, status(OTHER, "offline"))
    newer.wait(CHECK_S)

    assert not gave_way(newer.actions)
    assert len(newer.of(Publish)) == 1


@pytest.mark.parametrize("state", ["online", "offline"])
@pytest.mark.parametrize("retained", [True, False])
def test_agent_stays_when_a_process_that_has_ended_connects_after_it(state: str, retained: bool) -> None:
    # It was killed while its CONNECT was on its way; all that is ever heard of it is what the broker makes of that.
    agent = introduced(OTHER)

    agent.take(*BACK, status(OTHER, state, retained=retained))
    agent.wait(CHECK_S)

    assert not gave_way(agent.actions)
    assert len(agent.of(Publish)) == 1


def test_agent_decides_nothing_when_the_connection_is_lost_while_it_looks() -> None:
    agent = introduced()

    agent.take(*BACK, status(OTHER), ConnectionLost())
    assert agent.wait(1000.0) == []
    agent.take(ConnectionGained(MAX_PACKET_BYTES), status(OTHER))

    assert gave_way(agent.wait(SETTLE_S))


def test_older_process_ends_when_another_one_introduces_itself_beside_it() -> None:
    agent = introduced()

    assert gave_way(agent.take(status(OTHER, retained=False)))


@pytest.mark.parametrize("seen", [status(OTHER, "offline", retained=False), status(OTHER, retained=True)])
def test_agent_stays_when_another_status_is_not_that_of_a_process_that_is_there(seen: StatusSeen) -> None:
    agent = introduced()

    assert not gave_way(agent.take(seen))


def test_agent_stays_when_somebody_only_looked_around_under_its_id() -> None:
    agent = introduced()

    agent.take(*BACK, status(VISITOR + "1", "offline"))
    agent.wait(CHECK_S)

    assert not gave_way(agent.actions)
    assert len(agent.of(Publish)) == 1


def test_status_on_its_own_topic_is_read_with_its_retain_flag() -> None:
    topics = Topics()
    payload = wire.encode(AgentStatus(state="online", instance=OTHER))

    event = Inbox(topics, AGENT).read(topics.build(Address(Kind.STATUS, AGENT)), payload, retained=True)

    assert event == status(OTHER)


@pytest.mark.parametrize("kind", [Kind.STATUS, Kind.COORDINATOR_STATUS])
def test_status_that_somebody_cleared_means_nothing(kind: Kind) -> None:
    topics = Topics()

    assert Inbox(topics, AGENT).read(topics.build(Address(kind, AGENT)), b"") is None
