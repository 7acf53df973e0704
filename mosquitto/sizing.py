"""How large the broker's limits must be for a model and a number of agents: one pure function.

A limit that is too small loses messages silently (Mosquitto answers the publisher with success), one that is
missing lets a single device fill the memory. `mosquitto/README.md` explains each line for operators.
"""

from dataclasses import dataclass

from schemas.errors import ConfigError
from schemas.pacing import WINDOW_CHUNKS

DEFAULT_CHUNK_BYTES = 8 * 1024 * 1024
"""One comfortable packet; paho is known to fail on 80 MB packets over TLS on a Pi."""

_KIB = 1024
_MIB = 1024 * 1024

# Around the payload of the largest message: MQTT header, topic, properties, the header of a chunk.
_ENVELOPE_BYTES = 64 * _KIB
# An update may carry a strategy's state beside the weights (SCAFFOLD's control variate is as large as they are).
_BLOBS_PER_UPDATE = 2
# Status, request, offer, report and a window of chunks; twice, as everything unacknowledged is sent again.
_MESSAGES_PER_AGENT = 2 * (4 + WINDOW_CHUNKS)
_JSON_BYTES_PER_AGENT = 32 * _KIB
_MONITOR_MESSAGES = 1000
_SPARE_CONNECTIONS = 16
_FILES_BESIDE_SOCKETS = 64
_INFLIGHT_MESSAGES = 100
# Mosquitto 2.0.11 reads max_queued_bytes into 32 bits: 2**32 + 1 would be a queue of one byte.
_LONGEST_QUEUE_BYTES = 2**31 - 1
# MQTT's longest packet is 256 MiB and a few bytes.
_LARGEST_CHUNK_BYTES = 255 * _MIB
_BASE_MEMORY_BYTES = 64 * _MIB
_MEMORY_PER_CONNECTION_BYTES = 64 * _KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerLimits:
    """Every limit that is written into the configuration, plus what the operating system must allow.

    Attributes:
        max_packet_bytes: largest MQTT packet taken from anyone; announced to every client.
        max_inflight_messages: unacknowledged messages on their way to (and from) one client.
        max_inflight_bytes: the same in bytes; each message in flight is a copy in the broker's memory.
        max_queued_messages: waiting for one client; what comes on top is dropped silently.
        max_queued_bytes: the same in bytes.
        max_connections: per listener.
        memory_bytes: heap of the whole broker.
        open_files: file descriptors that the process needs (LimitNOFILE of its unit).
    """

    max_packet_bytes: int
    max_inflight_messages: int
    max_inflight_bytes: int
    max_queued_messages: int
    max_queued_bytes: int
    max_connections: int
    memory_bytes: int
    open_files: int


def limits_for(model_bytes: int, num_agents: int, chunk_bytes: int = DEFAULT_CHUNK_BYTES) -> BrokerLimits:
    """The limits with which no message of a correct federation is refused or, below 2 GiB of queue, dropped.

    With m = model_bytes, n = num_agents, c = chunk_bytes and a window of w chunks:

    - largest packet = c + 64 KiB: whoever has more to send cuts it into chunks of c.
    - data on its way from (or to) one agent, d = min(2m, w c): a whole update, or a window of its chunks.
    - the longest queue is the coordinator's while it is away or busy: n (d + 32 KiB of JSON) bytes, and never
      less than one packet nor more than 2 GiB; 16 n + 1000 messages, which also holds every retained status
      for a monitor.
    - in flight to one client: (w + 1) packets, at most 100 messages.
    - connections = n + n/4 + 16: devices that come back before the broker has noticed that they left.
    - memory = 64 MiB + twice (the coordinator's queue + n (min(m, w c) + 64 KiB) going out).

    Raises:
        ConfigError: one of the numbers is not positive, or a chunk would not fit an MQTT packet.
    """
    for name, value in (
        ("model_bytes", model_bytes),
        ("num_agents", num_agents),
        ("chunk_bytes", chunk_bytes),
    ):
        if value <= 0:
            raise ConfigError(f"{name} = {value}: the broker's limits need a positive number")
    if chunk_bytes > _LARGEST_CHUNK_BYTES:
        raise ConfigError(f"chunk_bytes = {chunk_bytes}: an MQTT packet holds at most {_LARGEST_CHUNK_BYTES}")
    packet_bytes = chunk_bytes + _ENVELOPE_BYTES
    window_bytes = WINDOW_CHUNKS * chunk_bytes
    upward_bytes = min(_BLOBS_PER_UPDATE * model_bytes, window_bytes)
    downward_bytes = min(model_bytes, window_bytes)
    queued_bytes = max(num_agents * (upward_bytes + _JSON_BYTES_PER_AGENT), packet_bytes)
    queued_bytes = min(queued_bytes, _LONGEST_QUEUE_BYTES)
    outgoing_bytes = num_agents * (downward_bytes + _MEMORY_PER_CONNECTION_BYTES)
    connections = num_agents + num_agents // 4 + _SPARE_CONNECTIONS
    return BrokerLimits(
        max_packet_bytes=packet_bytes,
        max_inflight_messages=_INFLIGHT_MESSAGES,
        max_inflight_bytes=(WINDOW_CHUNKS + 1) * packet_bytes,
        max_queued_messages=_MESSAGES_PER_AGENT * num_agents + _MONITOR_MESSAGES,
        max_queued_bytes=queued_bytes,
        max_connections=connections,
        memory_bytes=_BASE_MEMORY_BYTES + 2 * (queued_bytes + outgoing_bytes),
        open_files=connections + _FILES_BESIDE_SOCKETS,
    )
