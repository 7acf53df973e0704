"""A connection to an MQTT 5 broker that looks after itself: reconnects for ever, with jittered back-off.

Single-threaded: `driver.Loop` (or `poll`) says when to read, write and look at the time. What a message means,
and what to send again after a connection was lost, is the services' business.
"""

import math
import selectors
import socket
import time
from collections.abc import Callable
from typing import Final

from schemas.measures import Traffic
from transport.address import BrokerAddress
from transport.connection import Connection, Party
from transport.ports import Disconnected, Event, Message, SessionSpec
from transport.timing import USUAL_TIMING, Backoff, Timing

_LARGE_BYTES: Final = 16 * 1024
"""From this size on a message is sent at once."""


class MqttTransport:
    """`ports.Transport` over a real broker, and a `driver.Source`.

    Messages at QoS 1. Those that were published but not acknowledged when a connection broke are forgotten, as
    are those published while there is none. `Received` comes only between `Connected` and `Disconnected`;
    `Disconnected` also reports every attempt that failed.

    When another client connects under our id, the broker ends our connection, which is a loss like any other: what
    connected may be a killed predecessor of ours whose CONNECT was late. Services find out themselves who gives way.

    Args:
        session: how we introduce ourselves.
        broker: where it is.
        timing: how patient to be.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        session: SessionSpec,
        broker: BrokerAddress,
        timing: Timing = USUAL_TIMING,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.traffic = Traffic()
        self._timing = timing
        self._clock = clock
        self._party = Party(session, broker, broker.tls.context() if broker.tls else None, timing.connect_s)
        self._backoff = Backoff(session.name, timing)
        self._selector: selectors.BaseSelector | None = None
        self._events: list[Event] = []
        self._connection: Connection | None = None
        self._socket: socket.socket | None = None  # as registered with the selector, for these events:
        self._watched = 0
        self._due_s = -math.inf  # next attempt, end of the set-up, or next look at the keep-alive
        self._closed = False
        self._in_loop = self._postponed = False

    def publish(self, message: Message) -> None:
        """Hand over a message; it is on its way when this returns, unless the broker's window is full.

        In a `driver.Loop` small messages wait for the end of the loop's turn, or for `flush`, and leave together:
        each send wakes the broker, which costs more than the message.

        Raises:
            TransportError: the packet is larger than the broker's announced limit.
        """
        if self._connection is not None and self._connection.ready:
            self._connection.publish(message)
            if not self._in_loop or len(message.payload) >= _LARGE_BYTES:
                self._write(self._connection)

    @property
    def settled(self) -> bool:
        """True when the broker has acknowledged everything that was handed over, and we all that we received."""
        return self._connection is None or self._connection.settled

    def close(self, *, goodbye: bool = True) -> None:
        """Wait until what was handed over is acknowledged (at most `close_s`), then disconnect without the will.

        What arrives in the meantime is lost. Without `goodbye` the connection just ends, and the broker publishes
        the will.
        """
        self._closed = True
        if goodbye and self._connection is not None and self._connection.ready:
            self._say_goodbye(self._connection)
        self._drop_connection()
        self._events.clear()

    def poll(self, timeout_s: float) -> list[Event]:
        """Wait until something happens, at most `timeout_s`, and return it: for use without a `driver.Loop`."""
        selector = self._selector
        if selector is None:
            selector = selectors.DefaultSelector()
            self.attach(selector)
            self._in_loop = False
        give_up_s = self._clock() + timeout_s
        while not self._events:
            self._turn(selector, give_up_s)
            if self._clock() >= give_up_s:
                break
        return self.take_events()

    def attach(self, selector: selectors.BaseSelector) -> None:
        """Register every connection's socket with `selector` from now on; to be called before the first one.

        Whoever does that looks at `wake_at_s` after every event, as `driver.Loop` does.
        """
        self._selector = selector
        self._in_loop = True

    def handle_io(self, mask: int) -> None:
        """Read or write what can be read or written without waiting."""
        connection = self._connection
        if connection is None:
            return
        if mask & selectors.EVENT_READ:
            self._read(connection)
        if mask & selectors.EVENT_WRITE:
            self._write(connection)

    def handle_time(self, now_s: float) -> None:
        """Connect, give up on a connection that does not get ready, or keep one alive, as is due."""
        connection = self._connection
        if connection is not None and connection.has_unread:
            self._read(connection)
        if now_s < self._due_s or self._closed:
            return
        if connection is None:
            self._connect(now_s)
            return
        self._due_s = now_s + self._tick_s
        if connection.ready:
            connection.keep_alive()
        else:
            connection.end(f"{self._party.broker} did not complete the connection in {self._timing.setup_s:g} s")
        self._follow_up(connection)

    def wake_at_s(self) -> float:
        """When `handle_time` or `take_events` is due."""
        if self._events or self._has_unsent or (self._connection is not None and self._connection.has_unread):
            return -math.inf
        return math.inf if self._closed else self._due_s

    def end_turn(self) -> None:
        """Send what waits. While there is more to be read, every other turn will do: each send wakes the broker."""
        self._postponed = self._connection is not None and self._connection.has_more and not self._postponed
        if not self._postponed:
            self.flush()

    def flush(self) -> None:
        """Send what waits now."""
        if self._has_unsent and self._connection is not None:
            self._write(self._connection)

    def take_events(self) -> list[Event]:
        """What happened since the last call."""
        events = self._events[:]
        self._events.clear()  # in place: the connection appends to this list
        return events

    @property
    def _tick_s(self) -> float:
        return min(1.0, self._party.broker.keep_alive_s / 4)

    def _connect(self, now_s: float) -> None:
        self._due_s = now_s + self._timing.setup_s
        self._connection = connection = Connection(self._party, self.traffic, self._events)
        connection.open()
        self._follow_up(connection)

    def _read(self, connection: Connection) -> None:
        was_ready = connection.ready
        connection.read()
        if connection.ready and not was_ready:
            self._backoff.reset()
            self._due_s = self._clock() + self._tick_s
        if connection.loss is not None or not self._in_loop:
            self._write(connection)  # the acknowledgements; otherwise they leave with what we answer

    def _write(self, connection: Connection) -> None:
        connection.write()
        self._follow_up(connection)

    @property
    def _has_unsent(self) -> bool:
        """True when something waits for the end of the turn: not when it waits for the socket to take it."""
        connection = self._connection
        return connection is not None and connection.has_unsent and not self._watched & selectors.EVENT_WRITE

    def _follow_up(self, connection: Connection) -> None:
        """After every use of the connection: act on its loss, or watch for what it waits for."""
        if connection.loss is not None:
            self._lose(connection.loss)
        else:
            self._watch(connection.interest)

    def _lose(self, loss: Disconnected) -> None:
        self._drop_connection()
        self._due_s = self._clock() + self._backoff.next_pause_s()
        self._events.append(loss)

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._watch(0)
            self._connection.abandon()
            self._connection = None

    def _watch(self, interest: int) -> None:
        if self._selector is None or interest == self._watched:
            return
        if self._socket is None:
            self._socket = self._connection.socket if self._connection else None
            if self._socket is not None:
                self._selector.register(self._socket, interest, self)
        elif interest:
            self._selector.modify(self._socket, interest, self)
        else:
            self._selector.unregister(self._socket)
            self._socket = None
        self._watched = interest

    def _say_goodbye(self, connection: Connection) -> None:
        """Serve this connection alone until everything is acknowledged, then disconnect."""
        self._watch(0)
        with selectors.DefaultSelector() as own:
            shared, self._selector = self._selector, own
            give_up_s = self._clock() + self._timing.close_s
            self._follow_up(connection)
            while not connection.settled and self._can_go_on(connection, give_up_s):
                self._turn_away(own, give_up_s)
            connection.disconnect()
            self._follow_up(connection)
            while self._can_go_on(connection, give_up_s):
                self._turn_away(own, give_up_s)
            self._watch(0)
            self._selector = shared

    def _can_go_on(self, connection: Connection, until_s: float) -> bool:
        return self._connection is connection and self._clock() < until_s

    def _turn_away(self, selector: selectors.BaseSelector, until_s: float) -> None:
        """A turn whose messages nobody will read: thousands of large ones may still be on their way to us."""
        self._turn(selector, until_s)
        self._events.clear()

    def _turn(self, selector: selectors.BaseSelector, until_s: float) -> None:
        now_s = self._clock()
        if self.wake_at_s() <= now_s:
            self.handle_time(now_s)
        for key, mask in selector.select(max(0.0, min(self.wake_at_s(), until_s) - self._clock())):
            key.data.handle_io(mask)
        self.flush()
