"""What Mosquitto counts of itself, read from its `$SYS` topics as the monitor, who alone may."""

import secrets
import time
from dataclasses import dataclass

from schemas.errors import FederationError
from schemas.identifiers import MONITOR_ID
from schemas.topics import Address, Kind, Topics
from transport.address import BrokerAddress
from transport.mqtt import MqttTransport
from transport.ports import Message, Received, SessionSpec

_ROOT = "$SYS/broker/"
_COUNTS = {
    "packets_received": "messages/received",
    "packets_sent": "messages/sent",
    "dropped": "publish/messages/dropped",
    "heap_max_bytes": "heap/maximum",
    "connected": "clients/connected",
}
_UPTIME = "uptime"
_LIMIT_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerCounts:
    """Since the broker was started.

    Attributes:
        packets_received, packets_sent: MQTT packets of every kind.
        dropped: messages that found a queue full; their publishers were told that all is well.
        heap_max_bytes: the most that the broker had allocated.
        connected: clients that are there now, the one that asks included.
    """

    packets_received: int
    packets_sent: int
    dropped: int
    heap_max_bytes: int
    connected: int


def read_counts(broker: BrokerAddress) -> BrokerCounts:
    """The counts as they are now; waits for the broker to publish them, every `sys_interval`.

    Raises:
        FederationError: it did not publish them in two minutes.
    """
    name = f"{MONITOR_ID}-{secrets.token_hex(4)}"
    # The access rights let the monitor write nothing, a last will included.
    will = Message(Topics().build(Address(Kind.COORDINATOR_STATUS)), b"")
    filters = tuple(_ROOT + topic for topic in (*_COUNTS.values(), _UPTIME))
    transport = MqttTransport(SessionSpec(name, filters, will, session_expiry_s=0), broker)
    values: dict[str, str] = {}
    uptimes: set[str] = set()
    give_up_s = time.monotonic() + _LIMIT_S
    try:
        # The first uptime is retained, the second begins a publication, the third says that it was complete.
        while len(uptimes) < 3:
            if time.monotonic() > give_up_s:
                raise FederationError(f"{broker} did not publish its counts within {_LIMIT_S:g} s")
            for event in transport.poll(1.0):
                if isinstance(event, Received):
                    topic, text = event.message.topic.removeprefix(_ROOT), bytes(event.message.payload).decode()
                    values[topic] = text
                    if topic == _UPTIME:
                        uptimes.add(text)
    finally:
        transport.close()
    return BrokerCounts(**{name: int(values.get(topic, "0")) for name, topic in _COUNTS.items()})
