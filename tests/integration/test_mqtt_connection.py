"""The transport against a real broker and against what is worse than a broker: how it connects, waits and gives up."""

import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from benchmarks.proxy import Proxy
from mosquitto.broker import PrivateBroker, free_port
from schemas.topics import Kind
from tests.integration.mqtt_party import Party, agent_session, coordinator_session, topic
from transport import connection, packets
from transport.address import BrokerAddress
from transport.mqtt import MqttTransport
from transport.ports import Connected, Disconnected, Message
from transport.timing import Timing

QUICK = Timing(connect_s=0.5, setup_s=0.5, close_s=1.0, first_retry_s=0.02, longest_retry_s=0.1)


@pytest.fixture
def make(broker: PrivateBroker) -> Iterator[Callable[..., Party]]:
    """Makes parties that are closed afterwards."""
    parties: list[Party] = []

    def make_party(
        user: str = "pi-1",
        *,
        password: str | None = None,
        port: int = 0,
        host: str = "127.0.0.1",
        timing: Timing = QUICK,
        keep_alive_s: int = 60,
    ) -> Party:
        secret = broker.passwords[user] if password is None else password
        address = BrokerAddress(host, port or broker.port, user, secret, keep_alive_s=keep_alive_s)
        session = coordinator_session() if user == "coordinator" else agent_session(user)
        parties.append(Party(MqttTransport(session, address, timing)))
        return parties[-1]

    yield make_party
    for party in parties:
        party.transport.close()


def test_wrong_password_is_named_as_the_reason(make: Callable[..., Party]) -> None:
    assert "refused the connection: not authorized" in make(password="wrong").first_reason()


def test_closed_port_is_named_as_the_reason(make: Callable[..., Party]) -> None:
    port = free_port()

    assert make(port=port).first_reason() == f"nothing listens at 127.0.0.1:{port}"


def test_unknown_name_is_named_as_the_reason(make: Callable[..., Party]) -> None:
    assert "'broker.invalid' could not be resolved" in make(host="broker.invalid").first_reason()


def test_transport_keeps_trying_until_the_broker_is_there(make: Callable[..., Party], broker: PrivateBroker) -> None:
    port = free_port()
    party = make(port=port)
    party.until(lambda: len(party.reasons()) >= 3)

    with Proxy(broker.port, port):
        party.connect()


def test_connection_is_given_up_when_the_broker_accepts_and_says_nothing(make: Callable[..., Party]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        party = make(port=mute.getsockname()[1])

        assert "did not complete the connection in 0.5 s" in party.first_reason()


def test_unanswered_connect_blocks_no_longer_than_its_limit(make: Callable[..., Party]) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        # Linux takes one connection more than the backlog; from then on a SYN is not answered.
        waiting = [socket.socket() for _ in range(3)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(address)

        party = make(port=address[1])

        assert party.first_reason() == f"no answer from 127.0.0.1:{address[1]}"
        for sock in waiting:
            sock.close()


def test_unanswered_pings_end_the_connection_when_the_line_is_dead(
    make: Callable[..., Party], broker: PrivateBroker
) -> None:
    with Proxy(broker.port) as proxy:
        party = make(port=proxy.port, keep_alive_s=1).connect()
        proxy.hold()

        assert "did not answer a ping" in party.first_reason()

        proxy.release()
        party.until(lambda: isinstance(party.events[-1], Connected))


def test_idle_connection_outlives_its_keep_alive(make: Callable[..., Party], broker: PrivateBroker) -> None:
    with Proxy(broker.port) as proxy:
        party = make(port=proxy.port, keep_alive_s=1).connect()
        idle_bytes = party.transport.traffic.packet_bytes_up

        # A PINGREQ has two bytes.
        party.until(lambda: party.transport.traffic.packet_bytes_up >= idle_bytes + 2 * 3)

        assert party.reasons() == []


def test_unacknowledged_messages_are_not_sent_again_when_the_connection_broke(
    make: Callable[..., Party], broker: PrivateBroker
) -> None:
    coordinator = make("coordinator").connect()
    with Proxy(broker.port) as proxy:
        agent = make(port=proxy.port).connect()
        proxy.hold()
        agent.transport.publish(Message(topic(Kind.REPORT), b"never acknowledged"))
        proxy.cut()
        agent.first_reason()
        proxy.release()
        agent.until(lambda: isinstance(agent.events[-1], Connected))
        agent.transport.publish(Message(topic(Kind.REPORT), b"after"))

        coordinator.until(lambda: b"after" in coordinator.received(), agent)

    # What was held went through before the cut, or was lost with it; it never comes a second time.
    assert coordinator.received().count(b"never acknowledged") <= 1
    assert coordinator.received()[-1] == b"after"


def test_thousand_messages_go_out_at_once_over_a_small_window(make: Callable[..., Party]) -> None:
    coordinator, agent = make("coordinator").connect(), make().connect()

    for number in range(1000):
        coordinator.transport.publish(Message(topic(Kind.ANNOUNCEMENT), number.to_bytes(2, "big") * 300))

    agent.until(lambda: len(agent.received()) == 1000, coordinator)
    assert [int.from_bytes(payload[:2], "big") for payload in agent.received()] == list(range(1000))


def test_packet_that_ends_with_pahos_hundredth_read_is_delivered_at_once(
    make: Callable[..., Party], broker: PrivateBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Proxy(broker.port) as proxy:
        coordinator, agent = make("coordinator").connect(), make(port=proxy.port).connect()
        # The header and the packet's first bytes, then 99 reads of the rest.
        monkeypatch.setattr(connection, "_SMALL_READ_BYTES", 16)
        monkeypatch.setattr(connection, "_LARGE_READ_BYTES", 100)
        monkeypatch.setattr(connection, "BATCH_BYTES", 1000)
        packet_bytes = 16 + 99 * 100
        where = topic(Kind.ANNOUNCEMENT)
        payload = bytes(packet_bytes - packets.publish_bytes(where, 9000, expires=False) + 9000)
        all_there = proxy.bytes_down + packet_bytes

        coordinator.transport.publish(Message(where, payload))
        coordinator.until(lambda: proxy.bytes_down >= all_there)

        # Nothing else arrives that would wake the agent again.
        agent.until(lambda: agent.received() == [payload])


def test_close_waits_until_everything_is_acknowledged(make: Callable[..., Party]) -> None:
    coordinator, agent = make("coordinator").connect(), make(timing=Timing()).connect()

    for number in range(200):
        agent.transport.publish(Message(topic(Kind.UPDATE), bytes([number]) * 20_000))
    agent.transport.close()

    coordinator.until(lambda: len(coordinator.received()) == 200)
    assert b"gone" not in coordinator.received()


def test_close_gives_up_when_the_broker_does_not_answer(make: Callable[..., Party], broker: PrivateBroker) -> None:
    with Proxy(broker.port) as proxy:
        coordinator, agent = make("coordinator").connect(), make(port=proxy.port).connect()
        proxy.hold()
        agent.transport.publish(Message(topic(Kind.UPDATE), b"x"))

        agent.transport.close()
        proxy.cut()

        coordinator.until(lambda: b"gone" in coordinator.received())


def test_close_without_goodbye_has_the_will_published(make: Callable[..., Party]) -> None:
    coordinator, agent = make("coordinator").connect(), make().connect()

    agent.transport.close(goodbye=False)

    coordinator.until(lambda: coordinator.received() == [b"gone"])


def test_refused_publish_is_logged_and_changes_nothing_else(
    make: Callable[..., Party], caplog: pytest.LogCaptureFixture
) -> None:
    agent = make().connect()
    forbidden = topic(Kind.UPDATE, "pi-2")

    agent.transport.publish(Message(forbidden, b"forged"))

    agent.until(lambda: f"refused a message on {forbidden}: not authorized" in caplog.text)
    assert agent.reasons() == []


def test_pauses_between_attempts_grow_up_to_their_limit(make: Callable[..., Party]) -> None:
    party = make(port=free_port(), timing=Timing(first_retry_s=0.01, longest_retry_s=0.04))
    begin_s = time.monotonic()

    party.until(lambda: len(party.reasons()) == 6)

    # 0.01 + 0.02 + 0.04 + 0.04 + 0.04, each times at least a half.
    assert time.monotonic() - begin_s >= 0.075
    assert all(isinstance(event, Disconnected) for event in party.events)


def test_connection_works_beyond_the_descriptors_that_select_takes(
    make: Callable[..., Party], many_open_files: None
) -> None:
    make().connect()


@pytest.fixture
def many_open_files() -> Iterator[None]:
    """Every descriptor opened from now on is above 1023, which ends paho's own loop."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2048:
        pytest.skip(f"this process may have {hard} open files only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    with ExitStack() as taken:
        for _ in range(1024):
            taken.enter_context(socket.socket())
        yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
