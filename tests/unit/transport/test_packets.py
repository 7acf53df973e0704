"""Sizes of packets, against packets written out by hand from the standard."""

import pytest

from transport import packets
from transport.ports import Message, SessionSpec


def with_length(first: int, rest: bytes) -> bytes:
    """A packet whose remaining length takes one byte."""
    return bytes([first, len(rest)]) + rest


def text(value: str) -> bytes:
    return len(value).to_bytes(2, "big") + value.encode()


def test_publish_has_the_size_of_its_bytes() -> None:
    packet = with_length(0x32, text("a/b") + b"\x00\x01" + b"\x00" + b"payload")

    assert packets.publish_bytes("a/b", 7, expires=False) == len(packet)


def test_publish_with_expiry_has_the_size_of_its_bytes() -> None:
    packet = with_length(0x32, text("a/b") + b"\x00\x01" + b"\x05\x02\x00\x00\x00\x1e" + b"payload")

    assert packets.message_bytes(Message("a/b", b"payload", expiry_s=30)) == len(packet)


@pytest.mark.parametrize("retain", [True, False])
@pytest.mark.parametrize("expiry_s", [None, 30])
@pytest.mark.parametrize("payload_bytes", [0, 100, 20_000, 3_000_000])
def test_head_of_publish_and_payload_make_a_packet_of_that_size(
    retain: bool, expiry_s: int | None, payload_bytes: int
) -> None:
    message = Message("a/b", bytes(payload_bytes), retain, expiry_s)

    head = packets.publish_head(message, 7)

    assert head[0] == (0x33 if retain else 0x32)
    assert head.endswith(b"\x00\x07\x00" if expiry_s is None else b"\x00\x07\x05\x02\x00\x00\x00\x1e")
    assert len(head) + payload_bytes == packets.message_bytes(message)


def test_topic_counts_in_bytes_and_not_in_characters() -> None:
    assert packets.publish_bytes("ü", 0, expires=False) == packets.publish_bytes("uu", 0, expires=False)


@pytest.mark.parametrize(
    ("remaining", "header"),
    [(127, 2), (128, 3), (16_383, 3), (16_384, 4), (2_097_151, 4), (2_097_152, 5), (268_435_455, 5)],
)
def test_header_grows_with_the_remaining_length(remaining: int, header: int) -> None:
    rest = 2 + len("t") + 2 + 1  # topic, packet id, no properties

    assert packets.publish_bytes("t", remaining - rest, expires=False) == header + remaining


def test_largest_packet_is_what_a_header_can_express() -> None:
    assert packets.MAX_PACKET_BYTES == 5 + 2**28 - 1


@pytest.mark.parametrize(
    ("username", "password", "credentials"),
    [(None, None, b""), ("pi-1", None, text("pi-1")), ("pi-1", "secret", text("pi-1") + text("secret"))],
)
def test_connect_has_the_size_of_its_bytes(username: str | None, password: str | None, credentials: bytes) -> None:
    session = SessionSpec("pi-1", ("a/#",), Message("will", b"gone", expiry_s=5), session_expiry_s=60)
    start = text("MQTT") + b"\x05\xec\x00\x3c" + b"\x05\x11\x00\x00\x00\x3c" + text("pi-1")
    will = b"\x05\x02\x00\x00\x00\x05" + text("will") + text("gone")

    assert packets.connect_bytes(session, username, password) == len(with_length(0x10, start + will + credentials))


def test_will_that_never_expires_has_no_property() -> None:
    for_ever = SessionSpec("pi-1", (), Message("will", b"gone"))
    a_while = SessionSpec("pi-1", (), Message("will", b"gone", expiry_s=5))

    assert packets.connect_bytes(a_while, None, None) == packets.connect_bytes(for_ever, None, None) + 5


def test_subscribe_and_suback_have_the_size_of_their_bytes() -> None:
    subscribe = with_length(0x82, b"\x00\x01\x00" + text("a/#") + b"\x01" + text("b/+") + b"\x01")
    suback = with_length(0x90, b"\x00\x01\x00" + b"\x01\x01")

    assert packets.subscribe_bytes(("a/#", "b/+")) == len(subscribe)
    assert packets.suback_bytes(("a/#", "b/+")) == len(suback)
