"""What the engines' services need from the outside world, as small protocols: messages, connection, time, jobs.

`mqtt.py` implements them over a broker, `simulation/network.py` in memory with virtual time; one contract suite
runs on both. A service is driven by one thread: the driver polls the transport and hands over events one by one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from schemas.measures import Instant, Traffic


@dataclass(frozen=True, slots=True)
class Message:
    """One application message.

    Attributes:
        payload: bytes-like; the receiver treats it as read-only.
        retain: keep as the topic's last value (publishing), or was such a value (receiving).
        expiry_s: the broker drops it undelivered after this time; None for never.
    """

    topic: str
    payload: bytes | memoryview
    retain: bool = False
    expiry_s: int | None = None


@dataclass(frozen=True, slots=True)
class Connected:
    """The broker accepted us and acknowledged every subscription, anew at each connect.

    Attributes:
        max_packet_bytes: the largest MQTT packet that the broker takes.
    """

    max_packet_bytes: int


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection is gone, or an attempt to connect failed, for a `reason` in words; the transport keeps trying."""

    reason: str


@dataclass(frozen=True, slots=True)
class Received:
    """A message arrived; only ever between `Connected` and `Disconnected`."""

    message: Message


@dataclass(frozen=True, slots=True)
class JobDone:
    """A job handed to `Jobs` ended; exactly one of `result` and `error` is meaningful."""

    name: str
    result: object = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class StopRequested:
    """A person or the service manager asked the process to end."""

    reason: str


Event = Connected | Disconnected | Received | JobDone | StopRequested


@dataclass(frozen=True, slots=True)
class SessionSpec:
    """How a party introduces itself to the broker.

    Attributes:
        name: MQTT client id.
        filters: topic filters, subscribed at QoS 1 at every connect.
        will: published by the broker when the connection is lost without a goodbye.
        session_expiry_s: how long the broker keeps the session after a disconnect. With none at all it would publish
            the will of a connection that another one with the same name takes over. Nothing else rests on it, and
            Mosquitto 2.0.11 may crash when it reads its revocation list again while it keeps one: hence so short.
    """

    name: str
    filters: tuple[str, ...]
    will: Message
    session_expiry_s: int = 5


class Transport(Protocol):
    """A connection to a broker that looks after itself."""

    @property
    def traffic(self) -> Traffic:
        """Bytes so far; counted on in place."""

    def publish(self, message: Message) -> None:
        """Hand over a message at QoS 1.

        While disconnected the message is dropped, and so is what was not acknowledged when the connection broke:
        every party brings the other up to date after a connect.

        Raises:
            TransportError: the packet is larger than the broker's announced limit.
        """

    def flush(self) -> None:
        """What was handed over must not wait for more to be said."""

    def close(self) -> None:
        """Say goodbye (the will is not published) after what was handed over has been acknowledged, bounded."""


class Jobs(Protocol):
    """Work too long for the thread that owns the engine; each ends as one `JobDone` event."""

    def submit(self, name: str, work: Callable[[], object]) -> None:
        """Start `work`, or queue it behind what is running."""


class Service(Protocol):
    """A party as its driver sees it."""

    @property
    def finished(self) -> bool:
        """True when the driver should close the transport and return."""

    def on_event(self, event: Event, now: Instant) -> None:
        """Take one event."""

    def on_time(self, now: Instant) -> None:
        """Do what is due."""

    def wake_at_s(self) -> float:
        """Monotonic time of the next thing that becomes due; `math.inf` when there is none."""
