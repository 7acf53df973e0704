"""The two networks on which the contract suite runs, behind one interface: in memory, and a real Mosquitto."""

import math
import selectors
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from benchmarks.proxy import Proxy
from mosquitto.broker import PrivateBroker
from schemas.measures import Instant
from schemas.topics import Address, Kind, Topics
from simulation.network import VirtualNetwork
from transport.address import BrokerAddress
from transport.mqtt import MqttTransport
from transport.ports import Event, Message, Received, SessionSpec, Transport
from transport.timing import Timing

TOPICS = Topics()
LIMIT_S = 30.0


def topic(kind: Kind, agent_id: str = "pi-1", round_number: int = 1) -> str:
    """A topic of the protocol: the real broker's ACL lets nothing else through."""
    return TOPICS.build(Address(kind, agent_id, "run", round_number))


@dataclass
class Peer:
    """A party that only takes notes."""

    user: str
    transport: Transport
    events: list[Event] = field(default_factory=list)

    finished = False

    def on_event(self, event: Event, _now: Instant) -> None:
        self.events.append(event)

    def on_time(self, _now: Instant) -> None:
        """Nothing is ever due."""

    def wake_at_s(self) -> float:
        return math.inf

    def publish(self, where: str, payload: bytes, *, retain: bool = False, expiry_s: int | None = None) -> None:
        self.transport.publish(Message(where, payload, retain, expiry_s))

    def received(self) -> list[bytes]:
        """The payloads so far, in order."""
        return [bytes(message.payload) for message in self.messages()]

    def messages(self) -> list[Message]:
        return [event.message for event in self.events if isinstance(event, Received)]

    def saw(self, kind: type[Event], times: int = 1) -> bool:
        return sum(isinstance(event, kind) for event in self.events) >= times


class World(Protocol):
    """A broker and its peers."""

    def join(self, user: str) -> Peer:
        """A new peer that starts to connect: the coordinator or an agent, with its usual filters and will."""

    def until(self, condition: Callable[[], bool]) -> None:
        """Let time pass until the condition holds; fails when it does not."""

    def cut(self, peer: Peer) -> None:
        """Break the peer's connection."""

    def kill(self, peer: Peer) -> None:
        """End the peer's process: its connection closes without a goodbye."""

    def restart_broker(self) -> None:
        """Stop the broker in good order and start it again."""

    def settle(self) -> None:
        """Let what is on its way arrive."""


def session_of(user: str) -> SessionSpec:
    """What the product's parties say of themselves."""
    if user == "coordinator":
        filters, will = TOPICS.coordinator_filters(), topic(Kind.COORDINATOR_STATUS)
    else:
        filters, will = TOPICS.agent_filters(user), topic(Kind.STATUS, user)
    return SessionSpec(user, tuple(filters), Message(will, b"gone", retain=True))


class VirtualWorld:
    """`simulation.network`."""

    def __init__(self) -> None:
        self._network = VirtualNetwork()
        self._transports = {}  # type: ignore[var-annotated]

    def join(self, user: str) -> Peer:
        transport = self._network.transport(session_of(user), user, _password(user))
        peer = Peer(user, transport)
        self._transports[id(peer)] = transport
        self._network.add(peer, transport, self._network.jobs())
        return peer

    def until(self, condition: Callable[[], bool]) -> None:
        assert self._network.run(condition, max_virtual_s=600)

    def cut(self, peer: Peer) -> None:
        self._network.cut(self._transports[id(peer)])

    def kill(self, peer: Peer) -> None:
        self._network.crash(self._transports[id(peer)])

    def restart_broker(self) -> None:
        self._network.restart_broker()

    def settle(self) -> None:
        self._network.run(lambda: False, max_virtual_s=1)


class RealWorld:
    """A private Mosquitto, with a proxy in front of it for each peer."""

    def __init__(self, broker: PrivateBroker) -> None:
        self._broker = broker
        self._selector = selectors.DefaultSelector()
        self._transports: dict[int, MqttTransport] = {}
        self._peers: list[Peer] = []
        self.proxies: dict[int, Proxy] = {}

    def join(self, user: str) -> Peer:
        proxy = Proxy(self._broker.port)
        address = BrokerAddress("127.0.0.1", proxy.port, user, _password(user))
        transport = MqttTransport(session_of(user), address, Timing(first_retry_s=0.05))
        transport.attach(self._selector)
        peer = Peer(user, transport)
        self._peers.append(peer)
        self._transports[id(peer)], self.proxies[id(peer)] = transport, proxy
        return peer

    def until(self, condition: Callable[[], bool]) -> None:
        give_up_s = time.monotonic() + LIMIT_S
        while not condition():
            assert time.monotonic() < give_up_s, [peer.events for peer in self._peers]
            self._turn()

    def cut(self, peer: Peer) -> None:
        self.proxies[id(peer)].cut()

    def kill(self, peer: Peer) -> None:
        self._peers.remove(peer)
        self.proxies[id(peer)].close()

    def restart_broker(self) -> None:
        self._broker.restart()

    def settle(self) -> None:
        self.until(lambda: all(self._is_settled(peer) for peer in self._peers))

    def close(self) -> None:
        for peer in self._peers:
            peer.transport.close()
        for proxy in self.proxies.values():
            proxy.close()

    def _is_settled(self, peer: Peer) -> bool:
        transport = self._transports[id(peer)]
        return transport.settled and self.proxies[id(peer)].bytes_up == transport.traffic.packet_bytes_up

    def _turn(self) -> None:
        transports = [self._transports[id(peer)] for peer in self._peers]
        wake_at_s = min((transport.wake_at_s() for transport in transports), default=math.inf)
        for key, mask in self._selector.select(min(max(wake_at_s - time.monotonic(), 0.0), 0.02)):
            key.data.handle_io(mask)
        for peer, transport in zip(self._peers, transports, strict=True):
            now_s = time.monotonic()
            if transport.wake_at_s() <= now_s:
                transport.handle_time(now_s)
            peer.events += transport.take_events()
            transport.end_turn()


def _password(user: str) -> str:
    return f"password of {user}"
