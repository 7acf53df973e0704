"""The in-memory broker: sessions, subscriptions, retained messages, wills and expiry, as Mosquitto does them.

It knows no time but the one that it is told, and no randomness. Delays, losses and what a client sees are
`connection.py`'s; tests/contract holds both together against a real Mosquitto.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

from simulation.filters import FilterTree, selects
from transport.ports import Message, SessionSpec


@dataclass(frozen=True, slots=True)
class Publication:
    """A message that the broker has taken.

    Attributes:
        expires_at_s: not passed on from this moment; None for never.
    """

    publisher: str
    message: Message
    expires_at_s: float | None


@dataclass(slots=True, eq=False)
class Delivery:
    """A publication on its way to one subscriber, with its retain flag as it will be received."""

    session: "Session"
    publication: Publication
    retain: bool


class Link(Protocol):
    """The broker's end of a connection."""

    def send(self, delivery: Delivery) -> None:
        """Send a message; `Broker.acknowledge` follows when it arrived."""

    def end(self, reason: str) -> None:
        """The broker has closed the connection."""


@dataclass(slots=True, eq=False)
class Session:
    """What the broker knows of one client id.

    Attributes:
        number: sessions are served in the order in which they were made.
        link: its connection, None while it is away (since `away_since_s`).
        unacknowledged: sent and not yet acknowledged, in order.
        waiting: not sent because the client is away.
    """

    spec: SessionSpec
    link: Link | None
    number: int
    filters: dict[str, None] = field(default_factory=dict)
    unacknowledged: dict[Delivery, None] = field(default_factory=dict)
    waiting: deque[Delivery] = field(default_factory=deque)
    away_since_s: float = 0.0

    def is_over(self, now_s: float) -> bool:
        """True when the session has expired."""
        return self.link is None and now_s >= self.away_since_s + self.spec.session_expiry_s


class Broker:
    """All sessions and retained messages.

    Args:
        max_queued_messages: for a client that is away; what comes on top is dropped silently.
    """

    def __init__(self, max_queued_messages: int) -> None:
        self._max_queued_messages = max_queued_messages
        self._sessions: dict[str, Session] = {}
        self._sessions_made = 0
        self._retained: dict[str, Publication] = {}
        self._subscriptions: FilterTree[Session] = FilterTree()

    def connect(self, spec: SessionSpec, link: Link, now_s: float) -> Session:
        """Accept a client; whoever was connected under its id is thrown out, without its will being published.

        Nor is it told why, as with Mosquitto before 2.0.15: that is the harder case for services.
        """
        session = self._sessions.get(spec.name)
        if session is None or session.is_over(now_s):
            if session is not None:
                self._subscriptions.remove(session, session.filters)
            self._sessions_made += 1
            session = self._sessions[spec.name] = Session(spec, link, self._sessions_made)
            return session
        if session.link is not None:
            session.link.end("the broker closed the connection")
            self._go_away(session, now_s)
        session.spec, session.link = spec, link
        waiting, session.waiting = session.waiting, deque()
        for delivery in waiting:
            self._send(delivery, now_s)
        return session

    def subscribe(self, session: Session, filters: tuple[str, ...], now_s: float) -> None:
        """Add subscriptions, and send the retained messages that match."""
        for topic_filter in filters:
            if topic_filter not in session.filters:
                session.filters[topic_filter] = None
                self._subscriptions.add(topic_filter, session)
            for topic, publication in self._retained.items():
                if selects(topic_filter, topic):
                    self._send(Delivery(session, publication, retain=True), now_s)

    def publish(self, publisher: str, message: Message, now_s: float) -> bool:
        """Take a message and pass it on; False when nobody has subscribed to it."""
        expires_at_s = None if message.expiry_s is None else now_s + message.expiry_s
        publication = Publication(publisher, message, expires_at_s)
        if message.retain and message.payload:
            self._retained[message.topic] = publication
        elif message.retain:
            self._retained.pop(message.topic, None)
        matched = False
        for session in sorted(self._subscriptions.match(message.topic), key=_number):
            if not session.is_over(now_s):
                matched = True
                self._send(Delivery(session, publication, retain=False), now_s)
        return matched

    def acknowledge(self, delivery: Delivery) -> None:
        """The client has confirmed a message (again)."""
        delivery.session.unacknowledged.pop(delivery, None)

    def lose(self, session: Session, link: Link, now_s: float) -> None:
        """A connection ended without a goodbye: publish the will."""
        if session.link is link:
            self._go_away(session, now_s)
            self.publish(session.spec.name, session.spec.will, now_s)

    def disconnect(self, session: Session, link: Link, now_s: float) -> None:
        """A client said goodbye."""
        if session.link is link:
            self._go_away(session, now_s)

    def shut_down(self, now_s: float, *, keep_retained: bool) -> None:
        """Throw everybody out and forget all sessions: MQTT 5 sessions do not survive a restart of Mosquitto.

        With `keep_retained` the wills are published first, so that they are what is kept.
        """
        connected = [(session, session.link) for session in self._sessions.values() if session.link is not None]
        for session, link in connected:
            link.end("the broker closed the connection")
            self._go_away(session, now_s)
        for session, _ in connected:
            self.publish(session.spec.name, session.spec.will, now_s)
        self._sessions.clear()
        self._subscriptions = FilterTree()
        if not keep_retained:
            self._retained.clear()

    def _send(self, delivery: Delivery, now_s: float) -> None:
        session, expires_at_s = delivery.session, delivery.publication.expires_at_s
        if expires_at_s is not None and now_s >= expires_at_s:
            return
        if session.link is not None:
            session.unacknowledged[delivery] = None
            session.link.send(delivery)
        elif len(session.waiting) < self._max_queued_messages:
            session.waiting.append(delivery)

    def _go_away(self, session: Session, now_s: float) -> None:
        session.link, session.away_since_s = None, now_s
        session.waiting.extendleft(reversed(session.unacknowledged))
        session.unacknowledged.clear()


def _number(session: Session) -> int:
    return session.number
