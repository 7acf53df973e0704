"""The limits that a real broker announces and keeps, as `mosquitto.sizing` worked them out."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mosquitto.broker import PrivateBroker
from mosquitto.sizing import limits_for
from schemas.topics import Address, Kind, Topics
from tests.integration.mqtt_probe import Probe

NUM_AGENTS = 40
MODEL_BYTES = 190_000
CHUNK_BYTES = 400_000
AGENTS = [f"pi-{number}" for number in range(NUM_AGENTS)]
TOPICS = Topics()


@pytest.fixture(scope="module")
def sized_broker(mosquitto_program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateBroker]:
    """A broker with limits for 40 agents and the CNN's 190 kB."""
    assert mosquitto_program
    passwords = {user: f"password of {user}" for user in ("coordinator", "monitor", *AGENTS)}
    limits = limits_for(MODEL_BYTES, NUM_AGENTS, CHUNK_BYTES)
    with PrivateBroker(tmp_path_factory.mktemp("sized"), passwords, limits=limits) as broker:
        yield broker


def connect(broker: PrivateBroker, user: str, session_expiry_s: int = 0) -> Probe:
    return Probe(broker.port, user, broker.passwords[user], user, session_expiry_s=session_expiry_s)


def test_connack_announces_the_configured_packet_size_and_window(sized_broker: PrivateBroker) -> None:
    with connect(sized_broker, "pi-1") as agent:
        assert agent.announced["MaximumPacketSize"] == sized_broker.limits.max_packet_bytes
        assert agent.announced["ReceiveMaximum"] == sized_broker.limits.max_inflight_messages


def test_whole_chunk_is_delivered_when_it_has_the_largest_size(sized_broker: PrivateBroker) -> None:
    topic = TOPICS.build(Address(Kind.UPDATE_CHUNK, "pi-1", "r" * 63, 1_000_000, 1_000_000))
    with connect(sized_broker, "coordinator") as coordinator, connect(sized_broker, "pi-1") as agent:
        coordinator.subscribe(*TOPICS.coordinator_filters())

        assert agent.publish(topic, bytes(CHUNK_BYTES + 16 * 1024)) == "Success"

        assert coordinator.next_message()[0] == topic


def test_connection_ends_when_a_packet_is_over_the_limit(sized_broker: PrivateBroker) -> None:
    topic = TOPICS.build(Address(Kind.UPDATE, "pi-1", "run-1", 1))
    with connect(sized_broker, "pi-1") as agent:
        agent.send(topic, bytes(sized_broker.limits.max_packet_bytes))

        assert agent.wait_until_disconnected() == "Packet too large"


def test_no_update_is_dropped_when_all_agents_answer_an_absent_coordinator(sized_broker: PrivateBroker) -> None:
    updates = {TOPICS.build(Address(Kind.UPDATE, agent, "run-1", 1)) for agent in AGENTS}
    with connect(sized_broker, "coordinator", session_expiry_s=600) as coordinator:
        coordinator.subscribe(*TOPICS.coordinator_filters())
    for agent in AGENTS:
        with connect(sized_broker, agent) as probe:
            topic = TOPICS.build(Address(Kind.UPDATE, agent, "run-1", 1))
            assert probe.publish(topic, bytes(2 * MODEL_BYTES)) == "Success"

    with connect(sized_broker, "coordinator", session_expiry_s=600) as coordinator:
        assert {coordinator.next_message()[0] for _ in updates} == updates


def test_monitor_sees_every_retained_status_when_it_subscribes(sized_broker: PrivateBroker) -> None:
    statuses = {TOPICS.build(Address(Kind.STATUS, agent)) for agent in AGENTS}
    for agent in AGENTS:
        with connect(sized_broker, agent) as probe:
            probe.publish(TOPICS.build(Address(Kind.STATUS, agent)), b"online", retain=True)

    with connect(sized_broker, "monitor") as monitor:
        monitor.subscribe(f"{TOPICS.prefix}/v1/agents/+/status")
        assert {monitor.next_message()[0] for _ in statuses} == statuses


def test_limits_for_ten_thousand_agents_are_understood(mosquitto_program: str, tmp_path: Path) -> None:
    assert mosquitto_program
    # A number that the broker cuts off at 32 bits would leave a queue of next to nothing.
    limits = limits_for(MODEL_BYTES, num_agents=10_000)
    topic = TOPICS.build(Address(Kind.STATUS, "pi-1"))
    passwords = {user: f"password of {user}" for user in ("coordinator", "pi-1")}
    with PrivateBroker(tmp_path, passwords, limits=limits) as broker:
        with connect(broker, "coordinator", session_expiry_s=600) as coordinator:
            coordinator.subscribe(topic)
        with connect(broker, "pi-1") as agent:
            for payload in (b"first", b"second"):
                assert agent.publish(topic, payload) == "Success"

        with connect(broker, "coordinator", session_expiry_s=600) as coordinator:
            assert [coordinator.next_message()[1] for _ in range(2)] == [b"first", b"second"]
