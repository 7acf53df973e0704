"""A blocking MQTT 5 client for tests of the broker itself: publish, see the reason code, see what is delivered.

It shares no code with `transport`, so that a mistake there cannot hide one in the broker's configuration.
"""

import queue
import socket
import ssl
from types import TracebackType
from typing import Any, Self

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from mosquitto.broker import LOOPBACK

WAIT_LIMIT_S = 20.0


class Probe:
    """One connection; the `with` block opens and closes it.

    Attributes:
        announced: the CONNACK's properties by name, such as MaximumPacketSize.
    """

    def __init__(
        self,
        port: int,
        user: str = "",
        password: str = "",
        client_id: str = "",
        *,
        tls: ssl.SSLContext | None = None,
        session_expiry_s: int = 0,
    ) -> None:
        self._port = port
        self._session = Properties(PacketTypes.CONNECT)
        self._session.SessionExpiryInterval = session_expiry_s
        self._client = Client(
            CallbackAPIVersion.VERSION2,
            client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
        )
        if user:
            self._client.username_pw_set(user, password)
        if tls is not None:
            self._client.tls_set_context(tls)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_publish = self._on_publish
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        self._connacks: queue.Queue[tuple[ReasonCode, Properties | None]] = queue.Queue()
        self._pubacks: queue.Queue[ReasonCode] = queue.Queue()
        self._subacks: queue.Queue[list[ReasonCode]] = queue.Queue()
        self._messages: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self._ends: queue.Queue[ReasonCode] = queue.Queue()
        self.announced: dict[str, Any] = {}

    def __enter__(self) -> Self:
        reason = self.connect()
        assert not reason.is_failure, f"the broker refused the connection: {reason}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def set_will(self, topic: str, payload: bytes) -> None:
        """What the broker is to say for us when the connection breaks; call before `connect`."""
        self._client.will_set(topic, payload, qos=1)

    def connect(self) -> ReasonCode:
        """Open the connection and return the CONNACK's reason code."""
        self._open()
        self._client.loop_start()
        reason, properties = self._connacks.get(timeout=WAIT_LIMIT_S)
        self.announced = properties.json() if properties is not None else {}
        return reason

    def connect_or_end(self) -> str:
        """Open the connection and wait for the CONNACK or for the end, whichever comes: the reason in words."""
        self._open()
        while self._connacks.empty() and self._ends.empty():
            if self._client.loop(timeout=WAIT_LIMIT_S) != MQTTErrorCode.MQTT_ERR_SUCCESS:
                break
        return "ended" if self._connacks.empty() else str(self._connacks.get()[0])

    def close(self) -> None:
        """Disconnect; a no-op when the connection is gone."""
        self._client.disconnect()
        self._stop()

    def break_off(self) -> None:
        """Lose the connection without saying goodbye."""
        connection = self._client.socket()
        assert isinstance(connection, socket.socket)
        connection.shutdown(socket.SHUT_RDWR)
        self._stop()

    def _stop(self) -> None:
        self._client.loop_stop()
        # paho closes its sockets when it is deleted: not in a circle with us, in which they may be deleted before it.
        self._client.on_connect = self._client.on_disconnect = self._client.on_publish = None
        self._client.on_subscribe = self._client.on_message = None

    def publish(self, topic: str, payload: bytes = b"x", retain: bool = False) -> str:
        """Publish at QoS 1 and return the PUBACK's reason in words."""
        self.send(topic, payload, retain)
        return self.next_reason()

    def send(self, topic: str, payload: bytes = b"x", retain: bool = False) -> None:
        """Publish at QoS 1 without waiting for the answer."""
        self._client.publish(topic, payload, qos=1, retain=retain)

    def next_reason(self) -> str:
        """Wait for the next PUBACK: its reason in words."""
        return str(self._pubacks.get(timeout=WAIT_LIMIT_S))

    @property
    def acknowledged(self) -> bool:
        """True when a PUBACK came that nobody has read."""
        return not self._pubacks.empty()

    def subscribe(self, *topic_filters: str) -> list[str]:
        """Subscribe at QoS 1 and return the SUBACK's reasons in words."""
        self._client.subscribe([(topic_filter, 1) for topic_filter in topic_filters])
        return [str(reason) for reason in self._subacks.get(timeout=WAIT_LIMIT_S)]

    def next_message(self) -> tuple[str, bytes]:
        """Wait for the next message: topic and payload."""
        return self._messages.get(timeout=WAIT_LIMIT_S)

    def has_message(self) -> bool:
        """True when something has arrived that was not looked at; after an answer, all that was sent before it."""
        return not self._messages.empty()

    def messages_until(self, topic: str) -> list[str]:
        """The topics of everything delivered up to and including `topic`."""
        topics: list[str] = []
        while not topics or topics[-1] != topic:
            topics.append(self.next_message()[0])
        return topics

    def wait_until_disconnected(self) -> str:
        """Wait until the broker ends the connection and return the reason in words."""
        return str(self._ends.get(timeout=WAIT_LIMIT_S))

    def _open(self) -> None:
        self._client.connect(LOOPBACK, self._port, 30, clean_start=False, properties=self._session)

    def _on_connect(
        self, _: Client, __: Any, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        self._connacks.put((reason, properties))

    def _on_disconnect(
        self, client: Client, _: Any, flags: DisconnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        self._ends.put(reason)

    def _on_publish(self, _: Client, __: Any, mid: int, reason: ReasonCode, properties: Properties | None) -> None:
        self._pubacks.put(reason)

    def _on_subscribe(
        self, _: Client, __: Any, mid: int, reasons: list[ReasonCode], properties: Properties | None
    ) -> None:
        self._subacks.put(reasons)

    def _on_message(self, _: Client, __: Any, message: MQTTMessage) -> None:
        self._messages.put((message.topic, bytes(message.payload)))
