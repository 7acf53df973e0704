"""A connection to an MQTT 5 broker that looks after itself: the only import of paho.

Single-threaded: paho does packets and sockets, `driver.Loop` (or `poll`) says when. Reconnects for ever,
subscribes anew at every connect, respects the broker's packet limit and counts every byte. What a message means,
and what to send again after a connection was lost, is the services' business.
"""

import logging
import math
import random
import selectors
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from schemas.errors import TransportError
from schemas.measures import Traffic
from transport.address import BrokerAddress, explain
from transport.packets import MAX_PACKET_BYTES, publish_bytes
from transport.ports import Connected, Disconnected, Event, Message, Received, SessionSpec

_log = logging.getLogger(__name__)

SESSION_TAKEN_OVER: Final = 0x8E
BATCH_BYTES: Final = 256 * 1024
"""A turn ends after this much, so that messages are worked off one by one instead of piling up in memory."""

_RECEIVE_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Timing:
    """How patient the transport is; the defaults suit a building's network.

    Attributes:
        connect_s: for TCP and again for TLS: the only time for which the thread can be blocked (name resolution
            has the resolver's own limits).
        setup_s: from an open connection until the last subscription is acknowledged.
        close_s: for what was handed over before `close` to be acknowledged.
        first_retry_s, longest_retry_s: the pause before connecting again doubles between these; each is
            multiplied by a random number between 0.5 and 1.5.
    """

    connect_s: float = 3.0
    setup_s: float = 20.0
    close_s: float = 5.0
    first_retry_s: float = 1.0
    longest_retry_s: float = 60.0


class MqttTransport:
    """`ports.Transport` over a real broker, and a `driver.Source`.

    Messages at QoS 1. Those that were published but not acknowledged when the connection broke are forgotten,
    as are those published while there is none: each connection is a new paho client, because paho would send
    them again at every connect for ever, too large a packet included. `Received` comes only between `Connected`
    and `Disconnected`; `Disconnected` also reports every attempt that failed.
    """

    def __init__(
        self,
        session: SessionSpec,
        broker: BrokerAddress,
        timing: Timing = Timing(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.traffic = Traffic()
        self._session = session
        self._broker = broker
        self._timing = timing
        self._clock = clock
        self._tls = broker.tls.context() if broker.tls else None
        self._random = random.Random(session.name)  # noqa: S311 - spreads reconnects, guards nothing
        self._selector: selectors.BaseSelector | None = None
        self._events: list[Event] = []
        self._paho: _Paho | None = None
        self._loss: Disconnected | None = None  # seen by a callback, acted upon when paho has returned
        self._ready = False  # every subscription is acknowledged
        self._early: list[Event] = []  # messages that came before that
        self._failures = 0
        self._due_s = -math.inf  # next attempt, end of the set-up, or next look at the keep-alive
        self._closed = False
        self._max_packet_bytes = MAX_PACKET_BYTES
        self._window = 0  # how many more messages the broker takes before it acknowledges one
        self._outbox: deque[Message] = deque()  # waits for the window
        self._unacknowledged: dict[int, str] = {}  # packet id -> topic

    def publish(self, message: Message) -> None:
        """Hand over a message; it is on its way when this returns, unless the broker's window is full.

        Raises:
            TransportError: the packet is larger than the broker's announced limit.
        """
        if not self._ready or self._paho is None:
            return
        size = publish_bytes(message.topic, len(message.payload), expires=message.expiry_s is not None)
        if size > self._max_packet_bytes:
            raise TransportError(
                f"a message of {size} bytes on {message.topic} is larger than {self._broker} takes "
                f"({self._max_packet_bytes} bytes)"
            )
        self._outbox.append(message)
        self._send_from_outbox(self._paho)
        self._flush()

    def close(self) -> None:
        """Wait until what was handed over is acknowledged (at most `close_s`), then disconnect without the will.

        What arrives in the meantime is lost.
        """
        self._closed = True
        paho = self._paho
        if paho is not None and self._ready:
            self._wait_for(paho, lambda: not self._unacknowledged and not self._outbox)
            paho.disconnect()
            self._flush()
            self._wait_for(paho, lambda: False)
        self._forget_connection()
        self._events.clear()

    def poll(self, timeout_s: float) -> list[Event]:
        """Wait until something happens, at most `timeout_s`, and return it: for use without a `driver.Loop`."""
        if self._selector is None:
            self.attach(selectors.DefaultSelector())
        selector = cast(selectors.BaseSelector, self._selector)
        give_up_s = self._clock() + timeout_s
        while True:
            now_s = self._clock()
            if self.wake_at_s() <= now_s:
                self.handle_time(now_s)
            if self._events or now_s >= give_up_s:
                return self.take_events()
            for _key, mask in selector.select(max(0.0, min(self.wake_at_s(), give_up_s) - self._clock())):
                self.handle_io(mask)

    def attach(self, selector: selectors.BaseSelector) -> None:
        """Register this and every later connection's socket with `selector`."""
        self._selector = selector

    def handle_io(self, mask: int) -> None:
        """Read or write what can be read or written without waiting."""
        if mask & selectors.EVENT_WRITE:
            self._flush()
        if mask & selectors.EVENT_READ:
            self._read()

    def handle_time(self, now_s: float) -> None:
        """Connect, give up on a connection that does not get ready, or keep one alive, as is due."""
        if self._paho is not None and self._paho.has_unread:
            self._read()
        if now_s < self._due_s or self._closed:
            return
        if self._paho is None:
            self._connect(now_s)
        elif not self._ready:
            self._note_loss(f"{self._broker} did not complete the connection in {self._timing.setup_s:g} s")
            self._flush()
        else:
            self._due_s = now_s + self._tick_s()
            self._paho.loop_misc()
            self._flush()

    def wake_at_s(self) -> float:
        """When `handle_time` or `take_events` is due."""
        if self._events or (self._paho is not None and self._paho.has_unread):
            return -math.inf
        return math.inf if self._closed else self._due_s

    def take_events(self) -> list[Event]:
        """What happened since the last call."""
        events, self._events = self._events, []
        return events

    # -- connecting

    def _connect(self, now_s: float) -> None:
        paho = _Paho(self._session.name, self.traffic)
        self._paho = paho
        self._due_s = now_s + self._timing.setup_s
        self._introduce(paho)
        try:
            paho.connect(
                self._broker.host,
                self._broker.port,
                keepalive=self._broker.keep_alive_s,
                clean_start=False,
                properties=_properties(PacketTypes.CONNECT, SessionExpiryInterval=self._session.session_expiry_s),
            )
        except (OSError, ssl.CertificateError) as error:
            self._note_loss(explain(error, self._broker))
        self._flush()

    def _introduce(self, paho: "_Paho") -> None:
        """Everything that paho wants to know before it connects."""
        paho.connect_timeout = self._timing.connect_s
        paho.max_inflight_messages = 0  # the window is ours: paho does not know the broker's Receive Maximum
        paho.username, paho.password = self._broker.username, self._broker.password
        if self._tls is not None:
            paho.tls_set_context(self._tls)
        will = self._session.will
        paho.will_set(
            will.topic,
            bytes(will.payload),
            qos=1,
            retain=will.retain,
            properties=_expiry(will, PacketTypes.WILLMESSAGE),
        )
        paho.on_socket_open = self._on_socket_open
        paho.on_socket_close = self._on_socket_close
        paho.on_connect = self._on_connect
        paho.on_subscribe = self._on_subscribe
        paho.on_message = self._on_message
        paho.on_publish = self._on_publish
        paho.on_disconnect = self._on_disconnect

    def _on_socket_open(self, _paho: Client, _userdata: Any, sock: Any) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A dead peer is noticed even while we only send: what TCP could not deliver in this time ends it.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(self._broker.keep_alive_s * 1500))
        if self._selector is not None:
            self._selector.register(sock, selectors.EVENT_READ, self)

    def _on_socket_close(self, _paho: Client, _userdata: Any, sock: Any) -> None:
        if self._selector is not None:
            self._selector.unregister(sock)

    def _on_connect(
        self, paho: Client, _userdata: Any, _flags: Any, code: ReasonCode, properties: Properties | None
    ) -> None:
        if code.is_failure:
            self._note_loss(f"{self._broker} refused the connection: {str(code).lower()}")
            return
        self._max_packet_bytes = getattr(properties, "MaximumPacketSize", MAX_PACKET_BYTES)
        self._window = getattr(properties, "ReceiveMaximum", 65535)
        paho.subscribe([(topic_filter, 1) for topic_filter in self._session.filters])

    def _on_subscribe(
        self, _paho: Client, _userdata: Any, _mid: int, codes: list[ReasonCode], _properties: Any
    ) -> None:
        for topic_filter, code in zip(self._session.filters, codes, strict=False):
            if code.is_failure:
                self._note_loss(f"{self._broker} refused the subscription to {topic_filter}: {str(code).lower()}")
                return
        self._ready = True
        self._failures = 0
        self._due_s = self._clock() + self._tick_s()
        self._events.append(Connected(self._max_packet_bytes))
        self._events += self._early
        self._early = []

    def _tick_s(self) -> float:
        return min(1.0, self._broker.keep_alive_s / 4)

    # -- losing the connection

    def _on_disconnect(self, _paho: Client, _userdata: Any, flags: Any, code: ReasonCode, _properties: Any) -> None:
        error = self._paho.error if self._paho else None
        if code.value == SESSION_TAKEN_OVER:
            self._note_loss(f"another client took over the id {self._session.name}", final=True)
        elif flags.is_disconnect_packet_from_server:
            self._note_loss(f"{self._broker} ended the connection: {str(code).lower()}")
        else:
            self._note_loss(explain(error, self._broker) if error else f"{self._broker} closed the connection")

    def _note_loss(self, reason: str, *, final: bool = False) -> None:
        """Keep the first reason; what paho says afterwards is no news.

        Nothing more, as paho's callbacks call this: closing the socket from within one would wait for a lock
        that paho holds.
        """
        if self._loss is None:
            self._loss = Disconnected(reason, final)

    def _settle_loss(self, loss: Disconnected) -> None:
        self._forget_connection()
        self._closed = self._closed or loss.final
        pause_s = min(self._timing.longest_retry_s, self._timing.first_retry_s * 2.0 ** min(self._failures, 32))
        self._failures += 1
        self._due_s = self._clock() + pause_s * self._random.uniform(0.5, 1.5)
        self._events.append(loss)

    def _forget_connection(self) -> None:
        paho, self._paho = self._paho, None
        self._loss = None
        self._ready = False
        self._early.clear()
        self._outbox.clear()
        self._unacknowledged.clear()
        if paho is not None:
            paho.abandon()

    # -- messages

    def _on_message(self, _paho: Client, _userdata: Any, message: MQTTMessage) -> None:
        self.traffic.payload_bytes_down += len(message.payload)
        try:
            topic = message.topic
        except UnicodeDecodeError:
            _log.warning("ignored a message whose topic is not UTF-8")
            return
        received = Received(Message(topic, cast(bytes, message.payload), message.retain))
        (self._events if self._ready else self._early).append(received)

    def _send_from_outbox(self, paho: Client) -> None:
        while self._outbox and self._window > 0:
            message = self._outbox.popleft()
            self._window -= 1
            info = paho.publish(
                message.topic,
                bytes(message.payload),
                qos=1,
                retain=message.retain,
                properties=_expiry(message, PacketTypes.PUBLISH),
            )
            self._unacknowledged[info.mid] = message.topic
            self.traffic.payload_bytes_up += len(message.payload)

    def _on_publish(self, paho: Client, _userdata: Any, mid: int, code: ReasonCode, _properties: Any) -> None:
        topic = self._unacknowledged.pop(mid, "")
        if code.is_failure:
            _log.warning("%s refused a message on %s: %s", self._broker, topic, str(code).lower())
        self._window += 1
        self._send_from_outbox(paho)

    # -- sockets

    def _read(self) -> None:
        paho = self._paho
        if paho is None:
            return
        paho.begin_batch()
        while self._loss is None and paho.batch_goes_on:
            paho.loop_read()
        self._flush()

    def _flush(self) -> None:
        """Write what can be written, be woken for the rest, and act on a loss: called after all that paho did."""
        paho = self._paho
        if paho is None:
            return
        if paho.want_write():
            paho.loop_write()
        if self._loss is None:
            self._watch(paho)
        else:
            self._settle_loss(self._loss)

    def _watch(self, paho: "_Paho") -> None:
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if paho.want_write() else 0)
        if wanted != paho.watched and self._selector is not None:
            paho.watched = wanted
            self._selector.modify(cast(socket.socket, paho.socket()), wanted, self)

    def _wait_for(self, paho: "_Paho", done: Callable[[], bool]) -> None:
        """Serve this connection alone until `done`, its end, or the time limit."""
        give_up_s = self._clock() + self._timing.close_s
        while self._paho is paho and not done() and (left_s := give_up_s - self._clock()) > 0:
            sock = paho.socket()
            if sock is None:
                return
            with selectors.DefaultSelector() as own:
                own.register(sock, paho.watched)
                for _key, mask in [(None, 0)] if paho.has_unread else own.select(left_s):
                    self.handle_io(mask)


class _Paho(Client):
    """paho's client for one connection, watched where it reads and writes its socket.

    The three methods that it overrides are private to paho: the version range in pyproject.toml is narrow for
    this reason, and tests/integration/test_mqtt_traffic.py holds the counts against the kernel's.
    """

    def __init__(self, name: str, traffic: Traffic) -> None:
        super().__init__(CallbackAPIVersion.VERSION2, name, protocol=MQTTProtocolVersion.MQTTv5)
        self.error: OSError | None = None  # paho itself only says "connection lost"
        self.watched = selectors.EVENT_READ
        self._traffic = traffic
        self._drained = True
        self._batch_ends_at = 0

    def begin_batch(self) -> None:
        self._drained = False
        self._batch_ends_at = self._traffic.packet_bytes_down + BATCH_BYTES

    @property
    def batch_goes_on(self) -> bool:
        return not self._drained and self._traffic.packet_bytes_down < self._batch_ends_at

    @property
    def has_unread(self) -> bool:
        """True when there are bytes that the selector does not see, because TLS has taken them from the socket."""
        return not self._drained and isinstance(self._sock, ssl.SSLSocket) and self._sock.pending() > 0

    def abandon(self) -> None:
        """Close the socket without a goodbye."""
        self._sock_close()

    def _sock_recv(self, bufsize: int) -> bytes:
        try:
            # paho asks for the whole packet each time, and Python reserves what is asked for.
            data = super()._sock_recv(min(bufsize, _RECEIVE_BYTES))
        except BlockingIOError:
            self._drained = True
            raise
        except OSError as error:
            self.error = error
            raise
        self._traffic.packet_bytes_down += len(data)
        # Any byte proves that the broker lives. Without this, a PINGRESP that waits behind a large message on a
        # slow line counts as missing.
        self._ping_t = 0.0
        return data

    def _sock_send(self, buf: bytes | bytearray) -> int:
        try:
            sent = super()._sock_send(buf)
        except BlockingIOError:
            raise
        except OSError as error:
            self.error = error
            raise
        self._traffic.packet_bytes_up += sent
        if sent < len(buf):
            self._ping_t = 0.0  # the same for a PINGREQ that waits behind a large message
        return sent

    def _packet_queue(self, command: int, packet: bytes | bytearray, *rest: Any) -> MQTTErrorCode:
        # paho cuts what is left of a packet off for every send: of a memoryview that copies nothing, of bytes it
        # copies 2 GiB for one packet of 8 MiB over TLS, which takes 16 KiB at a time.
        return super()._packet_queue(command, cast(bytes, memoryview(packet)), *rest)


def _properties(packet_type: int, **values: int) -> Properties:
    properties = Properties(packet_type)
    for name, value in values.items():
        setattr(properties, name, value)
    return properties


def _expiry(message: Message, packet_type: int) -> Properties | None:
    if message.expiry_s is None:
        return None
    return _properties(packet_type, MessageExpiryInterval=message.expiry_s)
