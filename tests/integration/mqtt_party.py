"""Our transport with everything noted that it reported, for tests that wait for what it does.

Sessions end with their connection: the tests share a broker, and nothing is to be left for the next one.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from schemas.topics import Address, Kind, Topics
from transport.mqtt import MqttTransport
from transport.ports import Connected, Disconnected, Event, Message, Received, SessionSpec

LIMIT_S = 30.0
TOPICS = Topics()


def topic(kind: Kind, agent_id: str = "pi-1") -> str:
    return TOPICS.build(Address(kind, agent_id, "run", 1))


def coordinator_session(*more_filters: str) -> SessionSpec:
    filters = (*TOPICS.coordinator_filters(), *more_filters)
    will = Message(topic(Kind.COORDINATOR_STATUS), b"gone")
    return SessionSpec("coordinator", filters, will, session_expiry_s=0)


def agent_session(agent_id: str = "pi-1") -> SessionSpec:
    will = Message(topic(Kind.STATUS, agent_id), b"gone")
    return SessionSpec(agent_id, tuple(TOPICS.agent_filters(agent_id)), will, session_expiry_s=0)


@dataclass
class Party:
    """A transport and what it reported so far."""

    transport: MqttTransport
    events: list[Event] = field(default_factory=list)

    def turn(self) -> None:
        self.events += self.transport.poll(0.01)

    def until(self, condition: Callable[[], bool], *others: "Party") -> None:
        """Let this party and others work until the condition holds."""
        give_up_s = time.monotonic() + LIMIT_S
        while not condition():
            assert time.monotonic() < give_up_s, [party.events for party in (self, *others)]
            for party in (self, *others):
                party.turn()

    def connect(self) -> "Party":
        self.until(lambda: any(isinstance(event, Connected) for event in self.events))
        return self

    def received(self) -> list[bytes]:
        return [bytes(event.message.payload) for event in self.events if isinstance(event, Received)]

    def reasons(self) -> list[str]:
        return [event.reason for event in self.events if isinstance(event, Disconnected)]

    def first_reason(self) -> str:
        """Why the first connection, or attempt at one, failed."""
        self.until(lambda: bool(self.reasons()))
        return self.reasons()[0]
