"""One connection to an MQTT 5 broker, from CONNECT to its end: the only import of paho.

Single-threaded and non-blocking once it is open; `mqtt.py` says when to read and write, and opens the next
connection when this one is lost. Nothing outlives a connection: not a message, not a packet id.
"""

import logging
import selectors
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.exception import MalformedPacket
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from schemas.errors import TransportError
from schemas.measures import Traffic
from transport.address import BrokerAddress, explain
from transport.large_packets import LargePublish, publish_places
from transport.packets import MAX_PACKET_BYTES, message_bytes, publish_head
from transport.ports import Connected, Disconnected, Event, Message, Received, SessionSpec

_log = logging.getLogger(__name__)

_SESSION_TAKEN_OVER: Final = 0x8E
_DEFAULT_RECEIVE_MAXIMUM: Final = 65_535
_SMALL_READ_BYTES: Final = 4096
_LARGE_READ_BYTES: Final = 256 * 1024

_JOINED_BYTES: Final = 256 * 1024
_QOS: Final = 0x06  # in the first byte of a PUBLISH
_PUBACK_HEAD: Final = bytes([PacketTypes.PUBACK << 4, 2])
_PAHO_ACTS_ON: Final = (PacketTypes.DISCONNECT << 4,)  # when it has sent one

BATCH_BYTES: Final = 256 * 1024
"""A read ends after about this much, so that messages are worked off instead of piling up in memory."""


@dataclass(frozen=True, slots=True)
class Party:
    """Who connects to where, and how long opening a socket may block."""

    session: SessionSpec
    broker: BrokerAddress
    tls: ssl.SSLContext | None
    connect_timeout_s: float


class Connection:
    """A connection that is being set up, ready, or lost.

    Args:
        party: who connects to where.
        traffic: counts every byte, before TLS.
        events: `Connected` and `Received` are appended here.

    Attributes:
        ready: every subscription was acknowledged.
        loss: why the connection ended, once it did; after that only `abandon` makes sense.
    """

    def __init__(self, party: Party, traffic: Traffic, events: list[Event]) -> None:
        self.ready = False
        self.loss: Disconnected | None = None
        self._session, self._broker = party.session, party.broker
        self._traffic = traffic
        self._events = events
        self._early: list[Event] = []  # messages that came before the subscriptions were acknowledged
        self._max_packet_bytes = MAX_PACKET_BYTES
        self._window = 0  # how many more messages the broker takes before it acknowledges one
        self._outbox: deque[Message] = deque()  # waits for the window
        self._unacknowledged: dict[int, str] = {}  # packet id -> topic
        self._paho = _Paho(party, traffic, self._deliver, self._acknowledge)
        self._paho.on_connect = self._on_connect
        self._paho.on_subscribe = self._on_subscribe
        self._paho.on_disconnect = self._on_disconnect

    def open(self) -> None:
        """Connect; blocks at most for the party's time limit, once for TCP and once for TLS."""
        try:
            self._paho.connect(
                self._broker.host,
                self._broker.port,
                keepalive=self._broker.keep_alive_s,
                clean_start=False,
                properties=_properties(PacketTypes.CONNECT, SessionExpiryInterval=self._session.session_expiry_s),
            )
        except OSError as error:
            self.end(explain(error, self._broker, opening=True))

    @property
    def socket(self) -> socket.socket | None:
        """The open socket."""
        return cast("socket.socket | None", self._paho.socket())

    @property
    def interest(self) -> int:
        """What to watch the socket for."""
        return selectors.EVENT_READ | (selectors.EVENT_WRITE if self._paho.want_write() else 0)

    @property
    def has_unread(self) -> bool:
        """True when there are bytes that a selector does not see, because they were taken from the socket."""
        return self.loss is None and self._paho.has_unread

    @property
    def has_more(self) -> bool:
        """True when the last read ended before everything that had arrived was taken."""
        return self.loss is None and not self._paho.drained

    @property
    def settled(self) -> bool:
        """True when everything that was published is acknowledged, and our own acknowledgements are sent."""
        return not self._unacknowledged and not self._outbox and not self._paho.want_write()

    def read(self) -> None:
        """Take what has arrived, up to about `BATCH_BYTES`."""
        stop_at = self._traffic.packet_bytes_down + BATCH_BYTES
        self._paho.expect_data()
        while not self._paho.drained and self.loss is None and self._traffic.packet_bytes_down < stop_at:
            self._paho.loop_read()
        while self._paho.holds_packet and self.loss is None:
            self._paho.loop_read()

    @property
    def has_unsent(self) -> bool:
        """True when packets wait for `write`."""
        return self.loss is None and self._paho.want_write()

    def write(self) -> None:
        """Send as much of what waits as the socket takes."""
        if self._paho.want_write():
            self._paho.join_packets()
            self._paho.loop_write()

    def keep_alive(self) -> None:
        """Ping when it is time; notice when the last ping was not answered."""
        self._paho.loop_misc()

    def publish(self, message: Message) -> None:
        """Queue a message for `write`, or for when the broker has acknowledged others.

        Raises:
            TransportError: the packet is larger than the broker's announced limit.
        """
        size = message_bytes(message)
        if size > self._max_packet_bytes:
            raise TransportError(
                f"a message of {size} bytes on {message.topic} is larger than {self._broker} takes "
                f"({self._max_packet_bytes} bytes)"
            )
        self._outbox.append(message)
        self._send_from_outbox()

    def disconnect(self) -> None:
        """Say goodbye: the broker will not publish the will."""
        self._paho.disconnect()

    def abandon(self) -> None:
        """Close the socket without a goodbye."""
        self._paho.close_socket()

    def end(self, reason: str) -> None:
        """Note why the connection ended. The first reason counts: what paho says afterwards is no news.

        It does nothing else because paho's callbacks use it: closing the socket inside one would wait for ever
        for a lock that paho holds.
        """
        if self.loss is None:
            self.loss = Disconnected(reason)

    def _on_connect(self, paho: Client, _userdata: Any, _flags: Any, code: ReasonCode, properties: Any) -> None:
        if code.is_failure:
            self.end(f"{self._broker} refused the connection: {str(code).lower()}")
            return
        self._max_packet_bytes = getattr(properties, "MaximumPacketSize", MAX_PACKET_BYTES)
        self._window = getattr(properties, "ReceiveMaximum", _DEFAULT_RECEIVE_MAXIMUM)
        paho.subscribe([(topic_filter, 1) for topic_filter in self._session.filters])

    def _on_subscribe(self, _paho: Client, _userdata: Any, _mid: int, codes: list[ReasonCode], _props: Any) -> None:
        for topic_filter, code in zip(self._session.filters, codes, strict=False):
            if code.is_failure:
                self.end(f"{self._broker} refused the subscription to {topic_filter}: {str(code).lower()}")
                return
        self.ready = True
        self._events += [Connected(self._max_packet_bytes), *self._early]
        self._early.clear()

    def _on_disconnect(self, _paho: Client, _userdata: Any, flags: Any, code: ReasonCode, _properties: Any) -> None:
        error = self._paho.error
        if code.value == _SESSION_TAKEN_OVER:
            self.end(f"another client connected to {self._broker} as {self._session.name}")
        elif flags.is_disconnect_packet_from_server:
            self.end(f"{self._broker} ended the connection: {str(code).lower()}")
        elif code.getName() == "Keep alive timeout":
            self.end(f"{self._broker} did not answer a ping")
        elif error is not None:
            self.end(explain(error, self._broker))
        else:
            self.end(f"{self._broker} closed the connection")

    def _deliver(self, topic: str, payload: bytes | memoryview, retain: bool) -> None:
        self._traffic.payload_bytes_down += len(payload)
        received = Received(Message(topic, payload, retain))
        (self._events if self.ready else self._early).append(received)

    def _send_from_outbox(self) -> None:
        while self._outbox and self._window > 0 and self.loss is None:
            message = self._outbox.popleft()
            self._window -= 1
            self._unacknowledged[self._paho.send(message)] = message.topic
            self._traffic.payload_bytes_up += len(message.payload)

    def _acknowledge(self, packet_id: int, code: int) -> None:
        topic = self._unacknowledged.pop(packet_id, None)
        if topic is None:
            return
        if code >= 0x80:
            name = str(ReasonCode(PacketTypes.PUBACK, identifier=code)).lower()
            _log.warning("%s refused a message on %s: %s", self._broker, topic, name)
        self._window += 1
        self._send_from_outbox()


class _Paho(Client):
    """paho's client for one connection, with the few methods replaced that every byte passes through.

    They are private to paho, which is why pyproject.toml allows only the versions that were tried, and why
    tests/integration/test_mqtt_traffic.py holds the counted bytes against a proxy's. What they change, for one
    message of 189 KB each way: 450 us of CPU become 155.
    """

    def __init__(
        self,
        party: Party,
        traffic: Traffic,
        deliver: Callable[[str, bytes | memoryview, bool], None],
        acknowledge: Callable[[int, int], None],
    ) -> None:
        super().__init__(CallbackAPIVersion.VERSION2, party.session.name, protocol=MQTTProtocolVersion.MQTTv5)
        self.error: OSError | None = None  # paho itself only says that the connection was lost
        self._socket_drained = False  # the last read took all that there was
        self._keep_alive_s = party.broker.keep_alive_s
        self._traffic = traffic
        self._deliver, self._acknowledge = deliver, acknowledge
        self._small_place = memoryview(bytearray(_SMALL_READ_BYTES))
        self._small_read, self._small_read_at = b"", 0
        self._large: LargePublish | None = None
        self.connect_timeout = party.connect_timeout_s
        self.max_inflight_messages = 0  # the window is ours: paho does not ask for the broker's Receive Maximum
        self.username, self.password = party.broker.username, party.broker.password
        if party.tls is not None:
            self.tls_set_context(party.tls)
        will = party.session.will
        properties = _expiry(will, PacketTypes.WILLMESSAGE)
        self.will_set(will.topic, bytes(will.payload), qos=1, retain=will.retain, properties=properties)
        self.on_socket_open = self._tune

    @property
    def has_unread(self) -> bool:
        """True when bytes were taken from the socket and not yet looked at."""
        encrypted = self._sock.pending() if isinstance(self._sock, ssl.SSLSocket) else 0
        return encrypted > 0 or self._small_read_at < len(self._small_read)

    @property
    def drained(self) -> bool:
        """True when there is probably nothing more to read."""
        return self._socket_drained and self._small_read_at == len(self._small_read)

    def expect_data(self) -> None:
        """The selector says that there is something to read."""
        self._socket_drained = False

    @property
    def holds_packet(self) -> bool:
        """True when a packet is complete and not worked off: paho stops after its hundredth read, even so."""
        return self._in_packet["have_remaining"] == 1 and self._in_packet["to_process"] == 0

    def send(self, message: Message) -> int:
        """Queue a PUBLISH and forget it; the packet id comes back with the acknowledgement.

        paho would keep the message and send it again at every connect until it is acknowledged, for ever if the
        broker ends the connection because of it. It would also take 50 us to encode the head.
        """
        packet_id: int = self._mid_generate()
        head, payload = publish_head(message, packet_id), bytes(message.payload)
        if len(payload) <= _SMALL_READ_BYTES:
            head, payload = head + payload, b""
        self._packet_queue(PacketTypes.PUBLISH << 4, head, packet_id, 1)
        if payload:
            self._packet_queue(PacketTypes.PUBLISH << 4, payload, packet_id, 1)
        return packet_id

    def join_packets(self) -> None:
        """Make one buffer of the small packets that wait: each send wakes the broker, which costs more than a copy."""
        waiting = self._out_packet
        if len(waiting) < 2 or waiting[0]["pos"]:
            return
        parts: list[Any] = []
        size = 0
        while (
            waiting and waiting[0]["command"] not in _PAHO_ACTS_ON and size + waiting[0]["to_process"] <= _JOINED_BYTES
        ):
            size += waiting[0]["to_process"]
            parts.append(waiting.popleft()["packet"])
        if parts:
            waiting.appendleft(_out_packet(PacketTypes.PUBACK << 4, b"".join(parts)))

    def close_socket(self) -> None:
        """Close the socket without a goodbye."""
        self._sock_close()

    def _tune(self, _client: Client, _userdata: Any, sock: Any) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A dead peer is noticed even while we only send: what TCP cannot deliver in this time ends it.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, self._keep_alive_s * 1500)

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        # paho's own counts first how many messages are in flight, of which it never has any.
        code = self._packet_read()
        return self._loop_rc_handle(code) if code > 0 else MQTTErrorCode.MQTT_ERR_SUCCESS

    def _sock_recv(self, bufsize: int) -> bytes:
        """Answer paho's reads of single bytes from one larger read, and its reads of a whole packet in parts."""
        if self._small_read_at == len(self._small_read):
            if bufsize > _SMALL_READ_BYTES:
                place = memoryview(bytearray(min(bufsize, _LARGE_READ_BYTES)))
                return bytes(place[: self._receive_into(place)])
            self._read_small()
        data = self._small_read[self._small_read_at : self._small_read_at + bufsize]
        self._small_read_at += len(data)
        return data

    def _read_small(self) -> None:
        count = self._receive_into(self._small_place)
        self._small_read, self._small_read_at = bytes(self._small_place[:count]), 0

    def _receive_into(self, place: memoryview) -> int:
        """Receive, and keep in mind why that failed; ConnectionError also where the other side closed."""
        if self._sock is None:
            raise ConnectionError("the socket is closed")
        try:
            count = cast("socket.socket", self._sock).recv_into(place)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
            self._socket_drained = True
            raise BlockingIOError from error
        except OSError as error:
            self.error = error
            raise
        if not count:
            raise ConnectionError("the other side closed the connection")
        self._socket_drained = count < len(place)
        self._last_bytes_received = time.monotonic()
        self._traffic.packet_bytes_down += count
        # Any byte proves that the broker lives. Without this, a PINGRESP that waits behind a large message on a
        # slow line counts as missing.
        self._ping_t = 0.0
        return count

    def _sock_send(self, buf: bytes | bytearray) -> int:
        try:
            sent = super()._sock_send(buf)
        except BlockingIOError:
            raise
        except OSError as error:
            self.error = self._last_word() or error
            raise
        self._traffic.packet_bytes_up += sent
        if sent < len(buf):
            self._ping_t = 0.0  # the same for a PINGREQ that waits behind a large message
        return sent

    def _last_word(self) -> OSError | None:
        """Why the broker hung up on us: with TLS 1.3 it refuses our certificate after we began to send."""
        try:
            if isinstance(self._sock, ssl.SSLSocket):
                self._sock.recv(1)
        except (ssl.SSLWantReadError, ssl.SSLEOFError):
            return None
        except ssl.SSLError as error:
            return error
        except OSError:
            return None
        return None

    def _ssl_wrap_socket(self, tcp_sock: socket.socket) -> ssl.SSLSocket:
        # paho's own leaves the socket open when the handshake fails. This one uses the socket's time limit.
        return cast(ssl.SSLContext, self._ssl_context).wrap_socket(tcp_sock, server_hostname=self._host)

    def _packet_queue(self, command: int, packet: Any, mid: int, qos: int, info: Any = None) -> MQTTErrorCode:
        # paho's own would send each packet at once, by itself.
        self._out_packet.append(_out_packet(command, packet, mid, qos, info))
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _packet_read(self) -> MQTTErrorCode:
        """Work off what was read already, as far as it is small, and read the rest in place; paho does neither."""
        try:
            return self._read_packets()
        except BlockingIOError:
            return MQTTErrorCode.MQTT_ERR_AGAIN
        except OSError:
            return MQTTErrorCode.MQTT_ERR_CONN_LOST
        except MalformedPacket:
            return MQTTErrorCode.MQTT_ERR_PROTOCOL

    def _read_packets(self) -> MQTTErrorCode:
        if self._large is None and self._in_packet["command"] == 0:
            if self._small_read_at == len(self._small_read):
                self._read_small()
            self._take_small_packets()
            if self._small_read_at == len(self._small_read):
                return MQTTErrorCode.MQTT_ERR_SUCCESS
            self._large = LargePublish.begin(self._small_read, self._small_read_at)
            if self._large is not None:
                self._small_read_at = len(self._small_read)
        if self._large is None:
            return super()._packet_read()
        self._read_large(self._large)
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _take_small_packets(self) -> None:
        """Take the next PUBLISH and PUBACK packets, all kinds that come often, until one is not there as a whole."""
        data = self._small_read
        while (place := _small_packet(data, self._small_read_at)) is not None:
            command, (begin, end) = data[self._small_read_at], place
            if command >> 4 == PacketTypes.PUBLISH:
                self._take_publish(data[begin:end], command)
            elif command >> 4 == PacketTypes.PUBACK and end - begin >= 2:
                self._acknowledge(
                    int.from_bytes(data[begin : begin + 2], "big"), data[begin + 2] if end - begin > 2 else 0
                )
            else:
                return
            self._small_read_at = end

    def _read_large(self, large: LargePublish) -> None:
        """Read straight into the packet's place, and take it when it is complete."""
        large.fill(self._receive_into(large.missing[:_LARGE_READ_BYTES]))
        if not large.missing:
            self._large = None
            self._take_publish(large.packet, large.command)

    def _handle_publish(self) -> MQTTErrorCode:
        # paho's own copies the payload four times and builds a table of all properties that exist.
        self._take_publish(self._in_packet["packet"], self._in_packet["command"])
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _take_publish(self, packet: bytes | bytearray | memoryview, command: int) -> None:
        try:
            topic_end, payload_at = publish_places(packet, command)
            topic = bytes(packet[2:topic_end]).decode()
        except (IndexError, UnicodeDecodeError) as error:
            raise MalformedPacket(str(error)) from error
        payload = memoryview(packet)[payload_at:].toreadonly()
        # Large payloads stay where they were read to.
        self._deliver(topic, payload if isinstance(packet, memoryview) else bytes(payload), bool(command & 1))
        if command & _QOS:
            acknowledgement = _PUBACK_HEAD + packet[topic_end : topic_end + 2]
            self._packet_queue(PacketTypes.PUBACK << 4, acknowledgement, 0, 1)

    def _handle_pubackcomp(self, cmd: str) -> MQTTErrorCode:
        packet = self._in_packet["packet"]
        self._acknowledge(int.from_bytes(packet[:2], "big"), packet[2] if len(packet) > 2 else 0)
        return MQTTErrorCode.MQTT_ERR_SUCCESS


def _out_packet(command: int, packet: Any, mid: int = 0, qos: int = 1, info: Any = None) -> Any:
    """A packet as paho keeps it until it is sent.

    paho cuts off what is left of a packet for every send. Of a memoryview that copies nothing; of bytes it copies
    2 GiB for one packet of 8 MiB over TLS, which takes 16 KiB at a time.
    """
    return {
        "command": command,
        "mid": mid,
        "qos": qos,
        "pos": 0,
        "to_process": len(packet),
        "packet": memoryview(packet),
        "info": info,
    }


def _small_packet(data: bytes, at: int) -> tuple[int, int] | None:
    """Where the rest of the packet at `at` begins and ends behind its head, when all of it is there."""
    if len(data) - at < 2:
        return None
    begin, length = at + 2, data[at + 1]
    if length & 128:
        if len(data) == begin or data[begin] & 128:
            return None
        length = (length & 127) + (data[begin] << 7)
        begin += 1
    end = begin + length
    return (begin, end) if end <= len(data) else None


def _properties(packet_type: int, **values: int) -> Properties:
    properties = Properties(packet_type)
    for name, value in values.items():
        setattr(properties, name, value)
    return properties


def _expiry(message: Message, packet_type: int) -> Properties | None:
    if message.expiry_s is None:
        return None
    return _properties(packet_type, MessageExpiryInterval=message.expiry_s)
