"""Sizes of MQTT 5 control packets as `connection.py` and Mosquitto write them, and the head of a PUBLISH.

The transport holds a publish against the broker's limit with it, and the in-memory network accounts its traffic
by it; tests/contract holds both against a real broker. Section numbers are those of the OASIS standard:
https://docs.oasis-open.org/mqtt/mqtt/v5.0/os/mqtt-v5.0-os.html
"""

from functools import lru_cache
from typing import Final

from transport.ports import Message, SessionSpec

MAX_PACKET_BYTES: Final = 268_435_460
"""The largest packet that MQTT can express: a remaining length of 2**28 - 1 behind a header of five bytes."""

PINGREQ_BYTES: Final = 2
PINGRESP_BYTES: Final = 2
DISCONNECT_BYTES: Final = 2

CONNACK_BYTES: Final = 16
"""From a broker that announces Maximum Packet Size, Receive Maximum and Topic Alias Maximum, as ours does."""

PUBACK_BYTES: Final = 4
PUBACK_WITH_REASON_BYTES: Final = 5
"""Such as "no matching subscribers", which Mosquitto tells the publisher, or "not authorized"."""

# Their identifiers take one byte, their values four (2.2.2).
_EXPIRY_PROPERTY_BYTES: Final = 5
_SESSION_EXPIRY_PROPERTY_BYTES: Final = 5
_PACKET_ID_BYTES: Final = 2

_PUBLISH_QOS_1: Final = 0x32
_EXPIRY_HEAD: Final = b"\5\2"
"""Five bytes of properties, the first of which says message expiry interval."""


@lru_cache(maxsize=4096)
def publish_bytes(topic: str, payload_bytes: int, *, expires: bool) -> int:
    """PUBLISH at QoS 1 (3.3); `expires`: it carries a message expiry interval."""
    properties = _properties_bytes(_EXPIRY_PROPERTY_BYTES if expires else 0)
    return _packet_bytes(_text_bytes(topic) + _PACKET_ID_BYTES + properties + payload_bytes)


def message_bytes(message: Message) -> int:
    """PUBLISH at QoS 1 of a message as it is published."""
    return publish_bytes(message.topic, len(message.payload), expires=message.expiry_s is not None)


def publish_head(message: Message, packet_id: int) -> bytes:
    """PUBLISH at QoS 1 of a message, up to its payload (3.3)."""
    topic = message.topic.encode()
    properties = b"\0" if message.expiry_s is None else _EXPIRY_HEAD + message.expiry_s.to_bytes(4, "big")
    remaining_bytes = 2 + len(topic) + _PACKET_ID_BYTES + len(properties) + len(message.payload)
    first = _PUBLISH_QOS_1 | (1 if message.retain else 0)
    head = bytes([first]) + _varint(remaining_bytes) + len(topic).to_bytes(2, "big")
    return head + topic + packet_id.to_bytes(_PACKET_ID_BYTES, "big") + properties


def connect_bytes(session: SessionSpec, username: str | None, password: str | None) -> int:
    """CONNECT (3.1) with a will and a session expiry interval."""
    will = session.will
    # Protocol name (6), version, flags, keep alive (2).
    size = 10 + _properties_bytes(_SESSION_EXPIRY_PROPERTY_BYTES) + _text_bytes(session.name)
    size += _properties_bytes(_EXPIRY_PROPERTY_BYTES if will.expiry_s is not None else 0)
    size += _text_bytes(will.topic) + 2 + len(will.payload)
    size += sum(_text_bytes(text) for text in (username, password) if text is not None)
    return _packet_bytes(size)


def subscribe_bytes(filters: tuple[str, ...]) -> int:
    """SUBSCRIBE (3.8) to all filters at once."""
    return _packet_bytes(_PACKET_ID_BYTES + _properties_bytes(0) + sum(_text_bytes(text) + 1 for text in filters))


def suback_bytes(filters: tuple[str, ...]) -> int:
    """SUBACK (3.9): a reason code for each filter."""
    return _packet_bytes(_PACKET_ID_BYTES + _properties_bytes(0) + len(filters))


def _packet_bytes(remaining_bytes: int) -> int:
    """A packet with this remaining length (2.1.4)."""
    return 1 + _varint_bytes(remaining_bytes) + remaining_bytes


def _properties_bytes(size: int) -> int:
    """Properties behind their length (2.2.2.1)."""
    return _varint_bytes(size) + size


def _text_bytes(text: str) -> int:
    """A string behind its length (1.5.4)."""
    return 2 + len(text.encode())


def _varint_bytes(value: int) -> int:
    """A variable byte integer (1.5.5)."""
    return 1 if value < 1 << 7 else 2 if value < 1 << 14 else 3 if value < 1 << 21 else 4


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 1 << 7:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
