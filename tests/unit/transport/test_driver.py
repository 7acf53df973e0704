"""The loop that drives services, with sources and a clock of the test's own."""

import math
import os
import selectors
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from schemas.measures import Instant
from transport.driver import Loop, drive
from transport.jobs import ThreadJobs
from transport.ports import Connected, Disconnected, Event, JobDone, StopRequested
from transport.systemd import Notifier


def soon_s(milliseconds: float) -> float:
    """A moment so many milliseconds from now."""
    return time.monotonic() + milliseconds / 1000


@dataclass(eq=False)
class ScriptedSource:
    """Yields events at given times, without any file descriptor."""

    script: list[tuple[float, Event]] = field(default_factory=list)
    now_s: float = 0.0
    closed: list[bool] = field(default_factory=list)
    turns: int = 0

    def attach(self, selector: selectors.BaseSelector) -> None:
        """Nothing to watch."""

    def handle_io(self, mask: int) -> None:
        """Nothing to read."""

    def handle_time(self, now_s: float) -> None:
        self.now_s = now_s

    def wake_at_s(self) -> float:
        return self.script[0][0] if self.script else math.inf

    def take_events(self) -> list[Event]:
        due = [event for at_s, event in self.script if at_s <= self.now_s]
        self.script = self.script[len(due) :]
        return due

    def end_turn(self) -> None:
        self.turns += 1

    def close(self, *, goodbye: bool = True) -> None:
        self.closed.append(goodbye)


@dataclass(eq=False)
class Notes:
    """A service that writes down what happens and is finished after so many events."""

    wanted: int
    wake_s: float = math.inf
    events: list[Event] = field(default_factory=list)
    woken_s: list[float] = field(default_factory=list)
    on_each: Callable[[Event], None] = lambda _event: None

    @property
    def finished(self) -> bool:
        return len(self.events) + len(self.woken_s) >= self.wanted

    def on_event(self, event: Event, _now: Instant) -> None:
        self.events.append(event)
        self.on_each(event)

    def on_time(self, now: Instant) -> None:
        self.woken_s.append(now.monotonic_s)
        self.wake_s = math.inf

    def wake_at_s(self) -> float:
        return self.wake_s


CONNECTED, LOST = Connected(1000), Disconnected("gone")


def test_events_are_handed_over_in_order_and_the_party_is_closed_when_it_is_finished() -> None:
    source = ScriptedSource([(soon_s(1), CONNECTED), (soon_s(5), LOST), (soon_s(9), CONNECTED)])
    service = Notes(wanted=2)

    drive(service, source, ThreadJobs())

    assert service.events == [CONNECTED, LOST]
    assert source.closed == [True]


def test_service_is_woken_when_it_is_due_and_not_before() -> None:
    due_s = soon_s(20)
    service = Notes(wanted=1, wake_s=due_s)

    drive(service, ScriptedSource(), ThreadJobs())

    assert service.woken_s[0] >= due_s


def test_nothing_is_handed_over_once_a_service_is_finished() -> None:
    service = Notes(wanted=1)
    loop = Loop()
    loop.add(service, ScriptedSource([(0.0, CONNECTED), (0.0, LOST)]), ScriptedSource([(0.0, LOST)]))

    loop.run()

    assert service.events == [CONNECTED]


def test_job_that_a_service_submits_comes_back_as_an_event() -> None:
    jobs = ThreadJobs()
    service = Notes(wanted=2)
    service.on_each = lambda event: jobs.submit("work", lambda: 42) if isinstance(event, Connected) else None

    drive(service, ScriptedSource([(0.0, CONNECTED)]), jobs)

    assert service.events == [CONNECTED, JobDone("work", result=42)]


def test_many_parties_share_one_thread_and_finish_each_in_its_time() -> None:
    loop = Loop()
    parties = []
    for number in range(200):
        source = ScriptedSource([(soon_s(number % 7), CONNECTED), (soon_s(number % 11), LOST)])
        service = Notes(wanted=2)
        parties.append((service, source))
        loop.add(service, source)

    loop.run()

    assert all(service.events == [CONNECTED, LOST] and source.closed == [True] for service, source in parties)


def test_alarm_that_moves_earlier_is_kept() -> None:
    service = Notes(wanted=2, wake_s=soon_s(1e6))

    def hurry(_event: Event) -> None:
        service.wake_s = soon_s(5)

    service.on_each = hurry
    drive(service, ScriptedSource([(soon_s(1), CONNECTED)]), ThreadJobs())

    assert len(service.woken_s) == 1


def test_alarm_that_moves_later_does_not_go_off_early() -> None:
    service = Notes(wanted=2, wake_s=soon_s(10))
    later_s = soon_s(30)

    def wait(_event: Event) -> None:
        service.wake_s = later_s

    service.on_each = wait
    drive(service, ScriptedSource([(soon_s(1), CONNECTED)]), ThreadJobs())

    assert service.woken_s[0] >= later_s


def test_failing_service_ends_the_loop_without_a_goodbye() -> None:
    source = ScriptedSource([(0.0, CONNECTED)])
    service = Notes(wanted=2)

    def fail(_event: Event) -> None:
        raise ValueError("bug")

    service.on_each = fail

    with pytest.raises(ValueError, match="bug"):
        drive(service, source, ThreadJobs())
    assert source.closed == [False]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_asks_the_service_to_stop(number: signal.Signals) -> None:
    handler = signal.getsignal(number)
    service = Notes(wanted=2)
    service.on_each = lambda event: os.kill(os.getpid(), number) if event == CONNECTED else None

    drive(service, ScriptedSource([(0.0, CONNECTED)]), ThreadJobs())

    assert service.events == [CONNECTED, StopRequested(number.name)]
    assert signal.getsignal(number) is handler


def test_second_interrupt_is_not_caught_any_more() -> None:
    service = Notes(wanted=10)
    service.on_each = lambda _event: os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        drive(service, ScriptedSource([(0.0, CONNECTED)]), ThreadJobs())
    assert service.events == [CONNECTED, StopRequested("SIGINT")]


def test_loop_runs_beside_the_main_thread_without_catching_signals() -> None:
    service = Notes(wanted=1)
    handler = signal.getsignal(signal.SIGTERM)

    thread = threading.Thread(target=drive, args=(service, ScriptedSource([(0.0, CONNECTED)]), ThreadJobs()))
    thread.start()
    thread.join()

    assert service.events == [CONNECTED]
    assert signal.getsignal(signal.SIGTERM) is handler


class Told(Notifier):
    """What systemd would be told, with a watchdog of ten milliseconds."""

    def __init__(self) -> None:
        super().__init__({"NOTIFY_SOCKET": "@nobody", "WATCHDOG_USEC": "10000"})
        self.states: list[str] = []

    def send(self, state: str) -> None:
        self.states.append(state)


def test_systemd_is_told_what_is_going_on() -> None:
    told = Told()
    loop = Loop(notifier=told)
    loop.add(Notes(wanted=2), ScriptedSource([(0.0, CONNECTED), (soon_s(20), LOST)]))

    loop.run()

    assert [state for state in told.states if state != "WATCHDOG=1"] == [
        "READY=1\nSTATUS=connecting to the broker",
        "STATUS=connected to the broker",
        "STATUS=not connected: gone",
        "STOPPING=1",
    ]
    assert "WATCHDOG=1" in told.states


def test_watchdog_is_pinged_while_nothing_happens() -> None:
    told = Told()
    loop = Loop(notifier=told)
    service = Notes(wanted=1, wake_s=soon_s(60))
    loop.add(service, ScriptedSource())

    loop.run()

    assert told.states.count("WATCHDOG=1") > 1
