"""Moments and byte counts: the two measurements that engines, transports and records share."""

from dataclasses import dataclass
from typing import NamedTuple


class Instant(NamedTuple):
    """A moment: `monotonic_s` for every duration and deadline, `utc_s` only as a label in records."""

    monotonic_s: float
    utc_s: float


@dataclass(slots=True)
class Traffic:
    """Bytes since the transport was made, over all its connections.

    *Payload bytes* are application payloads of PUBLISH packets; *packet bytes* are whole MQTT control packets of
    every kind, both before TLS and TCP.
    """

    payload_bytes_up: int = 0
    payload_bytes_down: int = 0
    packet_bytes_up: int = 0
    packet_bytes_down: int = 0

    def copy(self) -> "Traffic":
        """The counts as they are now."""
        return Traffic(self.payload_bytes_up, self.payload_bytes_down, self.packet_bytes_up, self.packet_bytes_down)

    def since(self, earlier: "Traffic") -> "Traffic":
        """What was added after `earlier` was copied."""
        return Traffic(
            self.payload_bytes_up - earlier.payload_bytes_up,
            self.payload_bytes_down - earlier.payload_bytes_down,
            self.packet_bytes_up - earlier.packet_bytes_up,
            self.packet_bytes_down - earlier.packet_bytes_down,
        )
