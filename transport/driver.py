"""Drives services: one thread, one selector, events handed over one by one.

`drive` is the whole main loop of a process with one party. `Loop` does the same for several parties on one
thread. No decisions are taken here: what an event means is the service's business.
"""

import heapq
import logging
import math
import selectors
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, Self

from schemas.measures import Instant
from transport.ports import Connected, Disconnected, Event, Service, StopRequested
from transport.systemd import Notifier

_log = logging.getLogger(__name__)

Clock = Callable[[], Instant]


class Source(Protocol):
    """Where a party's events come from: a connection, or jobs.

    It registers its file descriptors with itself as the selector key's data. None of its methods blocks, apart
    from `close` and, within a stated bound, a connection attempt in `handle_time`.
    """

    def attach(self, selector: selectors.BaseSelector) -> None:
        """Register with the loop's selector, now and whenever a file descriptor is opened."""

    def handle_io(self, mask: int) -> None:
        """One of the file descriptors is ready."""

    def handle_time(self, now_s: float) -> None:
        """Do what is due."""

    def wake_at_s(self) -> float:
        """When `handle_time` or `take_events` is due; `-math.inf` when events wait already."""

    def take_events(self) -> list[Event]:
        """The events since the last call."""

    def end_turn(self) -> None:
        """The events were worked off: let leave what was said."""

    def close(self, *, goodbye: bool = True) -> None:
        """Let go of everything, bounded in time; without `goodbye` as a crash would, so that the will is published."""


def system_clock() -> Instant:
    """The machine's clocks."""
    return Instant(time.monotonic(), time.time())


def drive(service: Service, transport: Source, jobs: Source, clock: Clock = system_clock) -> None:
    """Run one party until it is finished, with SIGTERM and SIGINT as `StopRequested`, telling systemd about it."""
    loop = Loop(clock)
    loop.add(service, transport, jobs)
    loop.run()


@dataclass(slots=True, eq=False)
class _Party:
    service: Service
    sources: tuple[Source, ...]
    alarm_s: float = math.inf


class Loop:
    """Several parties on one thread. Each turn costs only the parties that something happened to."""

    def __init__(self, clock: Clock = system_clock, notifier: Notifier | None = None) -> None:
        self._clock = clock
        self._notifier = notifier or Notifier()
        self._selector = selectors.DefaultSelector()
        self._parties: dict[Source, _Party] = {}
        # Alarms, soonest first. A party whose time moves later keeps its old alarm and is looked at once for
        # nothing, so that the heap does not grow with the number of events.
        self._alarms: list[tuple[float, int, _Party]] = []
        self._alarms_set = 0
        self._due_now: dict[_Party, None] = {}

    def add(self, service: Service, *sources: Source) -> None:
        """Take on a party; it gets its first turn in `run`."""
        party = _Party(service, sources)
        for source in sources:
            source.attach(self._selector)
            self._parties[source] = party
        self._due_now[party] = None

    def run(self) -> None:
        """Serve all parties until each is finished; each is closed as it finishes.

        Whatever a service raises ends all of them, and the broker publishes their wills.
        """
        with _StopSignals() as signals:
            if signals.socket is not None:
                self._selector.register(signals.socket, selectors.EVENT_READ, signals)
            self._notifier.send("READY=1\nSTATUS=connecting to the broker")
            try:
                while self._parties:
                    self._turn()
            finally:
                self._notifier.send("STOPPING=1")
                for party in dict.fromkeys(self._parties.values()):
                    self._retire(party, goodbye=False)
                self._selector.close()

    def _turn(self) -> None:
        ready = self._selector.select(self._timeout_s())
        touched, self._due_now = self._due_now, {}
        for key, mask in ready:
            if isinstance(key.data, _StopSignals):
                self._request_stop(key.data, touched)
            elif (party := self._parties.get(key.data)) is not None:
                key.data.handle_io(mask)
                touched[party] = None
        now_s = self._clock().monotonic_s
        self._notifier.ping_if_due(now_s)
        while self._alarms and self._alarms[0][0] <= now_s:
            at_s, _, party = heapq.heappop(self._alarms)
            if at_s == party.alarm_s:
                party.alarm_s = math.inf
                touched[party] = None
        for party in touched:
            self._serve(party, now_s)

    def _timeout_s(self) -> float | None:
        if self._due_now:
            return 0.0
        wake_at_s = min(self._alarms[0][0] if self._alarms else math.inf, self._notifier.ping_at_s)
        return None if wake_at_s == math.inf else max(0.0, wake_at_s - self._clock().monotonic_s)

    def _serve(self, party: _Party, turn_s: float) -> None:
        service = party.service
        for source in party.sources:
            if source.wake_at_s() <= turn_s:
                source.handle_time(turn_s)
            for event in source.take_events():
                if service.finished:
                    break
                self._note(event)
                service.on_event(event, self._clock())
        now = self._clock()
        wake_at_s = math.inf if service.finished else service.wake_at_s()
        if wake_at_s <= now.monotonic_s:
            service.on_time(now)
            wake_at_s = service.wake_at_s()
        for source in party.sources:
            source.end_turn()
        if service.finished:
            self._retire(party, goodbye=True)
        else:
            self._schedule(party, wake_at_s, now.monotonic_s)

    def _schedule(self, party: _Party, wake_at_s: float, now_s: float) -> None:
        for source in party.sources:
            wake_at_s = min(wake_at_s, source.wake_at_s())
        if wake_at_s <= now_s:
            self._due_now[party] = None
        elif wake_at_s < party.alarm_s:
            party.alarm_s = wake_at_s
            self._alarms_set += 1
            heapq.heappush(self._alarms, (wake_at_s, self._alarms_set, party))

    def _retire(self, party: _Party, *, goodbye: bool) -> None:
        party.alarm_s = -math.inf
        for source in party.sources:
            source.close(goodbye=goodbye)
            del self._parties[source]

    def _request_stop(self, signals: "_StopSignals", touched: dict[_Party, None]) -> None:
        for reason in signals.take():
            _log.info("stopping because of %s", reason)
            for party in dict.fromkeys(self._parties.values()):
                party.service.on_event(StopRequested(reason), self._clock())
                touched[party] = None

    def _note(self, event: Event) -> None:
        if isinstance(event, Connected):
            self._notifier.send("STATUS=connected to the broker")
        elif isinstance(event, Disconnected):
            self._notifier.send(f"STATUS=not connected: {event.reason}")


class _StopSignals:
    """Turns the first SIGTERM or SIGINT into something to read; the next one acts as it did before.

    Attributes:
        socket: readable when a signal has come; None outside the main thread, where nothing is caught.
    """

    def __init__(self) -> None:
        self.socket: socket.socket | None = None
        self._writer: socket.socket | None = None
        self._previous: dict[signal.Signals, Any] = {}
        self._previous_fd = -1

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self.socket, self._writer = socket.socketpair()
            self.socket.setblocking(False)
            self._writer.setblocking(False)
            self._previous_fd = signal.set_wakeup_fd(self._writer.fileno())
            # Python writes a signal's number to the descriptor only when the signal has a Python handler.
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, lambda *_: None)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()
        if self.socket is not None and self._writer is not None:
            signal.set_wakeup_fd(self._previous_fd)
            self.socket.close()
            self._writer.close()

    def take(self) -> list[str]:
        """The names of the signals that came."""
        self._restore()
        numbers = self.socket.recv(64) if self.socket is not None else b""
        return [signal.Signals(number).name for number in numbers]

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()
