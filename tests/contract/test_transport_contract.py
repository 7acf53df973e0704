"""What services may rely on, held against both networks: the fake stays honest, the real one stays understood."""

import pytest

from schemas.errors import TransportError
from schemas.measures import Traffic
from schemas.topics import Kind
from tests.contract.worlds import Peer, RealWorld, VirtualWorld, World, topic
from transport.ports import Connected, Disconnected, Received

STATUS = topic(Kind.STATUS)
UPDATE = topic(Kind.UPDATE)
REPORT = topic(Kind.REPORT)
ANNOUNCEMENT = topic(Kind.ANNOUNCEMENT)


def joined(world: World, *users: str) -> list[Peer]:
    """Peers that are connected."""
    peers = [world.join(user) for user in users]
    world.until(lambda: all(peer.saw(Connected) for peer in peers))
    return peers


def test_message_is_delivered_to_its_subscriber_only(world: World) -> None:
    coordinator, agent, other = joined(world, "coordinator", "pi-1", "pi-2")

    coordinator.publish(ANNOUNCEMENT, b"your turn")
    coordinator.publish(topic(Kind.ANNOUNCEMENT, "pi-2"), b"and yours")

    world.until(lambda: bool(agent.received() and other.received()))
    assert agent.received() == [b"your turn"]
    assert other.received() == [b"and yours"]
    assert agent.messages()[0].topic == ANNOUNCEMENT
    assert agent.messages()[0].retain is False


def test_broadcast_reaches_every_subscriber(world: World) -> None:
    coordinator, *agents = joined(world, "coordinator", "pi-1", "pi-2", "pi-3")

    coordinator.publish(topic(Kind.MODEL), b"weights")

    world.until(lambda: all(agent.received() for agent in agents))
    assert [agent.received() for agent in agents] == [[b"weights"]] * 3


def test_publisher_receives_its_own_message_when_it_subscribed(world: World) -> None:
    (coordinator,) = joined(world, "coordinator")

    coordinator.publish(topic(Kind.COORDINATOR_STATUS), b"here")

    world.until(lambda: coordinator.received() == [b"here"])


def test_messages_of_one_topic_arrive_in_order(world: World) -> None:
    coordinator, agent = joined(world, "coordinator", "pi-1")
    sent = [str(number).encode() for number in range(300)]

    for payload in sent:
        agent.publish(UPDATE, payload)

    world.until(lambda: len(coordinator.received()) >= len(sent))
    assert coordinator.received() == sent


def test_memoryview_payload_arrives_as_it_was_when_published(world: World) -> None:
    coordinator, agent = joined(world, "coordinator", "pi-1")
    buffer = bytearray(b"before")

    agent.publish(UPDATE, memoryview(buffer))  # type: ignore[arg-type]
    buffer[:] = b"after!"

    world.until(lambda: coordinator.received() == [b"before"])


def test_retained_message_reaches_late_subscriber_with_its_flag(world: World) -> None:
    (agent,) = joined(world, "pi-1")
    agent.publish(STATUS, b"online", retain=True)
    world.settle()

    (coordinator,) = joined(world, "coordinator")

    world.until(lambda: coordinator.received() == [b"online"])
    assert coordinator.messages()[0].retain is True


def test_retained_message_is_gone_when_an_empty_one_was_published(world: World) -> None:
    (agent,) = joined(world, "pi-1")
    agent.publish(STATUS, b"online", retain=True)
    agent.publish(STATUS, b"", retain=True)
    world.settle()

    (coordinator,) = joined(world, "coordinator")
    agent.publish(REPORT, b"marker")

    world.until(lambda: b"marker" in coordinator.received())
    assert coordinator.received() == [b"marker"]


def test_will_is_published_when_a_process_is_killed(world: World) -> None:
    coordinator, agent = joined(world, "coordinator", "pi-1")

    world.kill(agent)

    world.until(lambda: coordinator.received() == [b"gone"])
    assert coordinator.messages()[0].topic == STATUS


def test_will_is_retained_when_it_asks_for_it(world: World) -> None:
    coordinator, agent = joined(world, "coordinator", "pi-1")
    world.kill(agent)
    world.until(lambda: bool(coordinator.received()))

    coordinator.transport.close()
    world.settle()
    (later,) = joined(world, "coordinator")

    world.until(lambda: bool(later.received()))
    assert later.messages()[0].retain is True


def test_will_is_not_published_when_a_party_says_goodbye(world: World) -> None:
    coordinator, agent, other = joined(world, "coordinator", "pi-1", "pi-2")

    agent.publish(STATUS, b"offline", retain=True)
    agent.transport.close()
    world.settle()
    other.publish(topic(Kind.REPORT, "pi-2"), b"marker")

    world.until(lambda: b"marker" in coordinator.received())
    assert coordinator.received() == [b"offline", b"marker"]


def test_party_is_thrown_out_when_a_newer_one_takes_its_id(world: World) -> None:
    (older,) = joined(world, "pi-1")
    (newer,) = joined(world, "pi-1")

    world.until(lambda: any(isinstance(event, Disconnected) for event in older.events))

    assert isinstance(newer.events[0], Connected)


def test_retained_status_names_the_newer_party_when_the_older_one_comes_back_to_look(world: World) -> None:
    (older,) = joined(world, "pi-1")
    older.publish(STATUS, b"older", retain=True)
    world.until(lambda: b"older" in older.received())
    (newer,) = joined(world, "pi-1")
    newer.publish(STATUS, b"newer", retain=True)

    world.until(lambda: b"newer" in older.received())

    assert older.received()[-1] == b"newer"


def test_parties_subscribe_anew_when_the_broker_was_restarted(world: World) -> None:
    coordinator, agent = joined(world, "coordinator", "pi-1")

    world.restart_broker()
    world.until(lambda: coordinator.saw(Connected, 2) and agent.saw(Connected, 2))
    agent.publish(UPDATE, b"update")
    coordinator.publish(ANNOUNCEMENT, b"announcement")

    world.until(lambda: b"update" in coordinator.received() and b"announcement" in agent.received())
    assert agent.saw(Disconnected)


def test_message_waits_in_the_session_while_its_subscriber_is_away(world: World) -> None:
    coordinator, agent = joined(world, "coordinator", "pi-1")
    world.cut(agent)
    world.until(lambda: agent.saw(Disconnected))

    coordinator.publish(ANNOUNCEMENT, b"for later")

    world.until(lambda: b"for later" in agent.received())
    kinds = [type(event) for event in agent.events]
    assert kinds[:4] == [Connected, Disconnected, Connected, Received]
    assert agent.received().count(b"for later") == 1


def test_publish_is_dropped_while_not_connected(world: World) -> None:
    (coordinator,) = joined(world, "coordinator")
    agent = world.join("pi-1")
    agent.publish(REPORT, b"too early")

    world.until(lambda: agent.saw(Connected))
    agent.publish(REPORT, b"in time")

    world.until(lambda: bool(coordinator.received()))
    assert coordinator.received() == [b"in time"]
    assert agent.transport.traffic.payload_bytes_up == len(b"in time")


def test_publish_over_the_announced_limit_is_refused_and_the_connection_goes_on(world: World) -> None:
    coordinator, agent = joined(world, "coordinator", "pi-1")
    connected = agent.events[0]
    assert isinstance(connected, Connected)

    with pytest.raises(TransportError, match="larger than"):
        agent.publish(UPDATE, bytes(connected.max_packet_bytes))
    agent.publish(UPDATE, b"small")

    world.until(lambda: coordinator.received() == [b"small"])
    assert not agent.saw(Disconnected)


def test_packet_of_exactly_the_announced_limit_goes_through(world: World) -> None:
    coordinator, agent = joined(world, "coordinator", "pi-1")
    connected = agent.events[0]
    assert isinstance(connected, Connected)
    # Header 1, remaining length 4, topic behind its length, packet id 2, no properties 1.
    payload = bytes(connected.max_packet_bytes - (1 + 4 + 2 + len(UPDATE) + 2 + 1))

    with pytest.raises(TransportError):
        agent.publish(UPDATE, payload + b"x")
    agent.publish(UPDATE, payload)

    world.until(lambda: bool(coordinator.received()))
    assert len(coordinator.received()[0]) == len(payload)


def test_message_is_dropped_by_the_broker_when_it_has_expired(world: World) -> None:
    coordinator, agent, witness = joined(world, "coordinator", "pi-1", "pi-2")
    world.kill(agent)
    coordinator.publish(ANNOUNCEMENT, b"expired", expiry_s=1)
    coordinator.publish(ANNOUNCEMENT, b"kept", expiry_s=3600)
    coordinator.publish(topic(Kind.COORDINATOR_STATUS), b"retained", retain=True, expiry_s=2)
    world.until(lambda: bool(witness.received()))

    # More than a second has passed when a new subscriber does not get the retained message any more.
    attempt = 0
    while b"retained" in _what_a_new_subscriber_receives(world, coordinator, attempt):
        attempt += 1
    (again,) = joined(world, "pi-1")

    world.until(lambda: b"kept" in again.received())
    assert b"expired" not in again.received()


def _what_a_new_subscriber_receives(world: World, coordinator: Peer, attempt: int) -> list[bytes]:
    (late,) = joined(world, "pi-3")
    # Each time another one: the session may deliver the last one again.
    marker = f"marker {attempt}".encode()
    coordinator.publish(topic(Kind.ANNOUNCEMENT, "pi-3"), marker)
    world.until(lambda: marker in late.received())
    late.transport.close()
    world.settle()
    return late.received()


def script(world: World) -> dict[str, Traffic]:
    """A conversation in which every kind of packet but pings occurs."""
    coordinator, agent = joined(world, "coordinator", "pi-1")
    agent.publish(STATUS, b"online", retain=True)
    for size in (0, 1, 100, 150, 16_500, 3_000_000):
        agent.publish(UPDATE, bytes(size))
    agent.publish(REPORT, b"expires", expiry_s=100)
    coordinator.publish(ANNOUNCEMENT, bytes(200), expiry_s=100)
    coordinator.publish(topic(Kind.MODEL), bytes(189_000))
    coordinator.publish(topic(Kind.ANNOUNCEMENT, "pi-5"), b"nobody has subscribed to this")
    world.until(lambda: len(coordinator.received()) == 8 and len(agent.received()) == 3)
    world.settle()
    world.cut(agent)
    # Its own will waits in the session, and comes once more as the topic's retained message.
    world.until(lambda: agent.saw(Connected, 2) and len(coordinator.received()) == 9 and len(agent.received()) == 5)
    world.settle()
    for peer in (agent, coordinator):
        peer.transport.close()
    world.settle()
    return {peer.user: peer.transport.traffic for peer in (agent, coordinator)}


def test_traffic_is_the_same_to_the_byte_in_memory_and_over_mosquitto(real_world: RealWorld) -> None:
    assert script(VirtualWorld()) == script(real_world)
