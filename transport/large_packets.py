"""Large PUBLISH packets (3.3 of the standard), gathered in one buffer from which nothing needs to be copied."""

from typing import Final, Self

_PUBLISH: Final = 3
_QOS: Final = 0x06
_ALIGNMENT_BYTES: Final = 16
"""What arrays in a payload want: where they lie askew, NumPy copies them before it counts with them."""

_MOST_BYTES: Final = 32 * 1024 * 1024
"""Nothing is made ready for more: what a packet says of its length is only believed as far as it comes."""


class LargePublish:
    """A PUBLISH of which the beginning is there, and the rest is to be read straight into its place.

    Attributes:
        command: the packet's first byte; `packet`: what follows its length, complete when nothing is `missing`.
    """

    def __init__(self, command: int, remaining_bytes: int, payload_at: int) -> None:
        self.command = command
        skew = -payload_at % _ALIGNMENT_BYTES  # Python's buffers are aligned themselves
        self.packet = memoryview(bytearray(skew + remaining_bytes))[skew:]
        self._filled = 0

    @classmethod
    def begin(cls, data: bytes, at: int) -> Self | None:
        """Take over the packet that begins at `at` and fills the rest of `data`; None when it is of another kind.

        None also while it cannot be seen where its payload begins: such packets are read in another way.
        """
        try:
            if data[at] >> 4 != _PUBLISH:
                return None
            remaining_bytes, begin = read_varint(data, at + 1)
            _, payload_at = publish_places(data[begin:], data[at])
        except IndexError:
            return None
        if payload_at > len(data) - begin or not len(data) - begin < remaining_bytes <= _MOST_BYTES:
            return None
        found = cls(data[at], remaining_bytes, payload_at)
        found.packet[: len(data) - begin] = data[begin:]
        found._filled = len(data) - begin
        return found

    @property
    def missing(self) -> memoryview:
        """Where what is still to come belongs; empty when all is there."""
        return self.packet[self._filled :]

    def fill(self, count: int) -> None:
        """So many bytes were put into `missing`."""
        self._filled += count


def publish_places(packet: bytes | bytearray | memoryview, command: int) -> tuple[int, int]:
    """Where in what follows the length of a PUBLISH its topic ends, and where its payload begins.

    Raises:
        IndexError: it is cut off before that.
    """
    topic_end = 2 + int.from_bytes(packet[:2], "big")
    properties_bytes, at = read_varint(packet, topic_end + (2 if command & _QOS else 0))
    return topic_end, at + properties_bytes


def read_varint(packet: bytes | bytearray | memoryview, at: int) -> tuple[int, int]:
    """The variable byte integer at `at`, and where it ends.

    Raises:
        IndexError: it is cut off.
    """
    value = shift = 0
    while True:
        byte = packet[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return value, at
        shift += 7
