"""Large PUBLISH packets are gathered where their payload lies as arrays want it; what is none is left alone."""

import numpy as np
import pytest

from transport.large_packets import LargePublish, publish_places
from transport.packets import publish_head
from transport.ports import Message

PAYLOAD = bytes(range(256)) * 40


def packet_of(topic: str, expiry_s: int | None = None) -> bytes:
    return publish_head(Message(topic, PAYLOAD, expiry_s=expiry_s), 7) + PAYLOAD


@pytest.mark.parametrize("topic", ["fl/v1/a", "fl/v1/ab", "fl/v1/abc", "fl/v1/agents/pi-1/updates/run/1"])
@pytest.mark.parametrize("expiry_s", [None, 60])
@pytest.mark.parametrize("first_bytes", [64, 4096, 9000])
def test_packet_is_whole_and_its_payload_aligned(topic: str, expiry_s: int | None, first_bytes: int) -> None:
    data = packet_of(topic, expiry_s)
    large = LargePublish.begin(b"xyz" + data[:first_bytes], 3)

    assert large is not None
    at = first_bytes
    while large.missing:
        piece = data[at : at + 1000]
        large.missing[: len(piece)] = piece
        large.fill(len(piece))
        at += len(piece)
    topic_end, payload_at = publish_places(large.packet, large.command)
    payload = large.packet[payload_at:]
    assert bytes(large.packet[2:topic_end]).decode() == topic
    assert payload == PAYLOAD
    assert np.frombuffer(payload, np.float64).flags.aligned


def test_other_packets_are_left_alone() -> None:
    data = packet_of("fl/v1/a")
    acknowledgement = b"\x40\x02\0\7"
    endless = b"\x32\xff\xff\xff\x7f" + data[3:]

    assert LargePublish.begin(acknowledgement, 0) is None
    assert LargePublish.begin(data, 0) is None, "it is there already"
    assert LargePublish.begin(endless, 0) is None, "nobody sends that much"
    for cut in range(1, data.index(PAYLOAD[:16])):
        assert LargePublish.begin(data[:cut], 0) is None, "where its payload begins is not known yet"
