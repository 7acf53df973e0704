"""Sizes of MQTT 5 control packets as `mqtt.py` and the broker write them, without encoding anything.

The transport checks a publish against the broker's limit with it, and the in-memory network accounts its traffic
by it. Section numbers are those of the OASIS standard:
https://docs.oasis-open.org/mqtt/mqtt/v5.0/os/mqtt-v5.0-os.html
"""

from typing import Final

MAX_PACKET_BYTES: Final = 268_435_460
"""The largest packet that MQTT can express: a remaining length of 2**28 - 1 behind a header of five bytes."""

PING_BYTES: Final = 2
DISCONNECT_BYTES: Final = 2


def packet_bytes(remaining_bytes: int) -> int:
    """The size of a packet with this remaining length (2.1.4)."""
    return 1 + _varint_bytes(remaining_bytes) + remaining_bytes


def publish_bytes(topic: str, payload_bytes: int, *, expires: bool) -> int:
    """PUBLISH at QoS 1 (3.3); `expires`: with a message expiry interval."""
    properties = 5 if expires else 0
    return packet_bytes(_text_bytes(topic) + 2 + 1 + properties + payload_bytes)


def _text_bytes(text: str) -> int:
    return 2 + len(text.encode())


def _varint_bytes(value: int) -> int:
    return 1 if value < 1 << 7 else 2 if value < 1 << 14 else 3 if value < 1 << 21 else 4
