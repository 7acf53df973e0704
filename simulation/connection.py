"""A party's connection in virtual time: the transport that services see, and the wire below it.

It behaves like `transport.mqtt.MqttTransport`: when `Connected` comes, what is dropped, how it connects again, and
every byte that it counts.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from schemas.errors import TransportError
from schemas.measures import Traffic
from simulation.broker import Broker, Delivery, Session
from simulation.faults import Adversary, Fate
from simulation.schedule import Schedule
from transport import packets
from transport.ports import Connected, Disconnected, Event, Message, Received, SessionSpec
from transport.timing import USUAL_TIMING, Backoff


@dataclass(slots=True)
class Medium:
    """What all connections share: time, the broker, and what lies between.

    Attributes:
        latency_s: of one hop, between a party and the broker.
        broker_up: False while the broker is restarted.
        contact_at_s: when a party without contact is in reach again, by name.
    """

    schedule: Schedule
    broker: Broker
    adversary: Adversary
    latency_s: float
    keep_alive_s: float
    max_packet_bytes: int
    broker_up: bool = True
    contact_at_s: dict[str, float] = field(default_factory=dict)

    @property
    def silence_limit_s(self) -> float:
        """How long a connection survives without contact."""
        return 1.5 * self.keep_alive_s

    def contact_s(self, name: str) -> float:
        """The next moment at which a party has contact: now, when it has not lost it."""
        now_s = self.schedule.now_s
        return max(now_s, self.contact_at_s[name]) if name in self.contact_at_s else now_s


class Wire:
    """One connection, both directions: carries things to the other end after some time, as long as it is alive."""

    def __init__(self, medium: Medium, transport: "VirtualTransport") -> None:
        self.alive = True
        self.session: Session | None = None  # once the broker has accepted the client
        self._medium = medium
        self._transport = transport
        self._arrivals: dict[object, float] = {}  # the last one of each flow
        self._last_arrival_s = 0.0

    def carry(self, flow: object, arrive: Callable[[], None]) -> None:
        """Have `arrive` happen at the other end; things of one flow stay in order."""
        adversary = self._medium.adversary
        at_s = self._soonest_s() + adversary.delay_s(self._medium.schedule.now_s)
        if adversary.faults.delay_s > 0:
            at_s = self._arrivals[flow] = max(at_s, self._arrivals.get(flow, 0.0))
        self._last_arrival_s = max(self._last_arrival_s, at_s)
        self._medium.schedule.at(at_s, self._arrive, arrive)

    def carry_last(self, arrive: Callable[[], None]) -> None:
        """Have `arrive` happen after everything that is on its way."""
        self._medium.schedule.at(max(self._last_arrival_s, self._soonest_s()), self._arrive, arrive)

    def send(self, delivery: Delivery) -> None:
        """Carry a message from the broker to the client."""
        medium, now_s = self._medium, self._medium.schedule.now_s
        if medium.adversary.drops(now_s):
            medium.broker.acknowledge(delivery)
            return
        flow = (delivery.publication.publisher, delivery.publication.message.topic)
        self.carry(flow, partial(self._transport.receive, self, delivery, medium.adversary.fate(now_s)))
        if medium.adversary.duplicates(now_s):
            self.carry((flow, "again"), partial(self._transport.receive, self, delivery, Fate.ARRIVES))

    def end(self, reason: str) -> None:
        """The broker closed the connection; the client notices when word gets there."""
        self.alive = False
        self._medium.schedule.at(self._soonest_s(), self._transport.notice_loss, self, reason)

    def break_off(self, reason: str) -> None:
        """The connection breaks: the broker publishes the will, the client will connect again."""
        if self.alive:
            self.end(reason)
            self.abandon()

    def abandon(self) -> None:
        """The client is gone without a goodbye, and the broker notices."""
        self.alive = False
        if self.session is not None:
            self._medium.broker.lose(self.session, self, self._medium.schedule.now_s)

    def _soonest_s(self) -> float:
        return self._medium.contact_s(self._transport.name) + self._medium.latency_s

    def _arrive(self, arrive: Callable[[], None]) -> None:
        if self.alive:
            arrive()


class VirtualTransport:
    """`ports.Transport` in virtual time.

    Args:
        medium: shared with all other parties of the network.
        session: how the party introduces itself.
        username, password: only their length matters, for the size of CONNECT.
    """

    def __init__(
        self, medium: Medium, session: SessionSpec, username: str | None = None, password: str | None = None
    ) -> None:
        self.name = session.name
        self._medium = medium
        self._session = session
        self._connect_bytes = packets.connect_bytes(session, username, password)
        self._traffic = Traffic()
        self._backoff = Backoff(session.name, USUAL_TIMING)
        self._emit: Callable[[Event], None] | None = None
        self._wire: Wire | None = None
        self._ready = self._closed = False
        self._early: list[Event] = []
        self._last_up_s = self._last_down_s = 0.0

    @property
    def traffic(self) -> Traffic:
        """Bytes so far, pings included."""
        self._count_pings()
        return self._traffic

    def attach(self, emit: Callable[[Event], None]) -> None:
        """Start to connect, and say where events go."""
        self._emit = emit
        self._medium.schedule.after(0.0, self._connect)

    def publish(self, message: Message) -> None:
        """Hand over a message at QoS 1; dropped while disconnected.

        Raises:
            TransportError: the packet is larger than the broker's announced limit.
        """
        wire, medium = self._wire, self._medium
        if wire is None or not self._ready:
            return
        size = packets.message_bytes(message)
        if size > medium.max_packet_bytes:
            raise TransportError(
                f"a message of {size} bytes on {message.topic} is larger than the broker takes "
                f"({medium.max_packet_bytes} bytes)"
            )
        self._count(up=size)
        self._traffic.payload_bytes_up += len(message.payload)
        taken = Message(message.topic, bytes(message.payload), message.retain, message.expiry_s)
        fate = medium.adversary.fate(medium.schedule.now_s)
        wire.carry(message.topic, partial(self._reach_broker, wire, taken, fate))

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Say goodbye behind everything that is on its way."""
        self._closed = True
        wire, self._wire = self._wire, None
        if wire is None:
            return
        if self._ready and wire.session is not None:
            self._count(up=packets.DISCONNECT_BYTES)
            goodbye = partial(self._medium.broker.disconnect, wire.session, wire)
            wire.carry_last(lambda: goodbye(self._medium.schedule.now_s))
        else:
            wire.abandon()

    def vanish(self, *, silently: bool) -> None:
        """The process is gone: the broker notices at once, or by the keep-alive when the machine is gone too."""
        self._closed = True
        wire, self._wire = self._wire, None
        if wire is not None and silently:
            self._medium.schedule.after(self._medium.silence_limit_s, wire.abandon)
        elif wire is not None:
            wire.abandon()

    def break_off(self, reason: str) -> None:
        """Break the connection, if there is one."""
        if self._wire is not None:
            self._wire.break_off(reason)

    def lose_contact(self, until_s: float) -> None:
        """Nothing gets through until then; the connection ends when that is longer than the keep-alive allows."""
        self._medium.contact_at_s[self.name] = max(until_s, self._medium.contact_s(self.name))
        limit_s = self._medium.schedule.now_s + self._medium.silence_limit_s
        if self._wire is not None and until_s > limit_s:
            self._medium.schedule.at(limit_s, self._give_up, self._wire)

    def receive(self, wire: Wire, delivery: Delivery, fate: Fate) -> None:
        """A message has arrived at the client."""
        if fate is Fate.LOST_BY_CUT:
            wire.break_off("the connection was reset")
        if fate is Fate.LOST_BY_CUT or wire is not self._wire:
            return
        message = delivery.publication.message
        self._count(down=packets.message_bytes(message), up=packets.PUBACK_BYTES)
        self._traffic.payload_bytes_down += len(message.payload)
        if fate is Fate.ARRIVES_BEFORE_CUT:
            wire.break_off("the connection was reset")
        else:
            self._medium.broker.acknowledge(delivery)
        self._hand_over(Received(Message(message.topic, message.payload, delivery.retain)))

    def notice_loss(self, wire: Wire, reason: str) -> None:
        """Word of the connection's end has arrived."""
        if wire is self._wire:
            self._lose(reason)

    def _connect(self) -> None:
        medium = self._medium
        if self._closed or self._wire is not None:
            return
        if medium.contact_s(self.name) > medium.schedule.now_s:
            medium.schedule.after(USUAL_TIMING.connect_s, self._lose, "no answer from the broker")
        elif not medium.broker_up:
            self._lose("nothing listens at the broker's address")
        else:
            wire = self._wire = Wire(medium, self)
            self._count(up=self._connect_bytes)
            wire.carry("control", partial(self._reach_broker_first, wire))

    def _reach_broker_first(self, wire: Wire) -> None:
        """CONNECT is at the broker."""
        medium = self._medium
        if not medium.broker_up:
            wire.end("the broker closed the connection")
            return
        wire.carry("control", partial(self._accepted, wire))
        wire.session = medium.broker.connect(self._session, wire, medium.schedule.now_s)

    def _accepted(self, wire: Wire) -> None:
        """CONNACK is at the client."""
        self._count(down=packets.CONNACK_BYTES, up=packets.subscribe_bytes(self._session.filters))
        wire.carry("control", partial(self._reach_broker_again, wire))

    def _reach_broker_again(self, wire: Wire) -> None:
        """SUBSCRIBE is at the broker."""
        medium = self._medium
        wire.carry("control", partial(self._get_ready, wire))
        if wire.session is not None:
            medium.broker.subscribe(wire.session, self._session.filters, medium.schedule.now_s)

    def _get_ready(self, wire: Wire) -> None:
        """SUBACK is at the client."""
        if wire is not self._wire:
            return
        self._count(down=packets.suback_bytes(self._session.filters))
        self._ready = True
        self._backoff.reset()
        early, self._early = self._early, []
        for event in (Connected(self._medium.max_packet_bytes), *early):
            self._hand_over(event)

    def _reach_broker(self, wire: Wire, message: Message, fate: Fate) -> None:
        if fate is not Fate.LOST_BY_CUT:
            matched = self._medium.broker.publish(self.name, message, self._medium.schedule.now_s)
            if fate is Fate.ARRIVES:
                self._count(down=packets.PUBACK_BYTES if matched else packets.PUBACK_WITH_REASON_BYTES)
        if fate is not Fate.ARRIVES:
            wire.break_off("the connection was reset")

    def _give_up(self, wire: Wire) -> None:
        if wire.alive and self._medium.contact_s(self.name) > self._medium.schedule.now_s:
            wire.abandon()
            self.notice_loss(wire, "the broker did not answer a ping")

    def _lose(self, reason: str) -> None:
        if self._closed:
            return
        self._count_pings()
        self._wire, self._ready = None, False
        self._early.clear()
        self._medium.schedule.after(self._backoff.next_pause_s(), self._connect)
        self._hand_over(Disconnected(reason))

    def _hand_over(self, event: Event) -> None:
        if isinstance(event, Received) and not self._ready:
            self._early.append(event)
        elif self._emit is not None:
            self._emit(event)

    def _count(self, up: int = 0, down: int = 0) -> None:
        self._count_pings()
        now_s = self._medium.schedule.now_s
        if up:
            self._traffic.packet_bytes_up += up
            self._last_up_s = now_s
        if down:
            self._traffic.packet_bytes_down += down
            self._last_down_s = now_s

    def _count_pings(self) -> None:
        """Account for the pings that were due since anything was last sent or received."""
        keep_alive_s = self._medium.keep_alive_s
        now_s = self._medium.schedule.now_s
        if now_s - self._last_up_s < keep_alive_s and now_s - self._last_down_s < keep_alive_s:
            return
        quiet_s = now_s - min(self._last_up_s, self._last_down_s)
        if self._ready:
            pings = int(quiet_s // keep_alive_s)
            self._traffic.packet_bytes_up += pings * packets.PINGREQ_BYTES
            self._traffic.packet_bytes_down += pings * packets.PINGRESP_BYTES
            self._last_up_s = self._last_down_s = min(self._last_up_s, self._last_down_s) + pings * keep_alive_s
        else:
            self._last_up_s = self._last_down_s = self._medium.schedule.now_s
