"""Jobs beside the thread that owns the engine."""

import math
import selectors
import threading
from collections.abc import Iterator

import pytest

from transport.jobs import InlineJobs, ThreadJobs
from transport.ports import Event, JobDone

LIMIT_S = 30.0


class Watched:
    """Jobs, and the selector that their loop would have."""

    def __init__(self) -> None:
        self.jobs = ThreadJobs()
        self.selector = selectors.DefaultSelector()
        self.jobs.attach(self.selector)

    def next_events(self) -> list[Event]:
        """Wait for the selector and take what there is."""
        ready = self.selector.select(LIMIT_S)
        assert ready, "no job ended"
        for key, mask in ready:
            key.data.handle_io(mask)
        return self.jobs.take_events()


@pytest.fixture
def watched() -> Iterator[Watched]:
    watched = Watched()
    yield watched
    watched.jobs.close()


def test_result_comes_back_through_the_selector(watched: Watched) -> None:
    watched.jobs.submit("answer", lambda: 42)

    assert watched.next_events() == [JobDone("answer", result=42)]
    assert watched.jobs.wake_at_s() == math.inf


def test_work_runs_on_another_thread(watched: Watched) -> None:
    watched.jobs.submit("where", threading.get_ident)

    (event,) = watched.next_events()

    assert isinstance(event, JobDone)
    assert event.result != threading.get_ident()


def test_exception_becomes_the_result(watched: Watched) -> None:
    error = ValueError("no")

    def fail() -> None:
        raise error

    watched.jobs.submit("bad", fail)

    assert watched.next_events() == [JobDone("bad", error=error)]


def test_jobs_end_in_the_order_in_which_they_were_submitted(watched: Watched) -> None:
    for number in range(50):
        watched.jobs.submit(str(number), lambda: None)

    events: list[Event] = []
    while len(events) < 50:
        events += watched.next_events()

    assert [event.name for event in events if isinstance(event, JobDone)] == [str(number) for number in range(50)]


def test_close_starts_nothing_that_still_waits(watched: Watched) -> None:
    started, go_on = threading.Event(), threading.Event()
    ran: list[str] = []

    def first() -> None:
        started.set()
        go_on.wait(LIMIT_S)

    watched.jobs.submit("first", first)
    watched.jobs.submit("second", lambda: ran.append("second"))
    started.wait(LIMIT_S)

    watched.jobs.close(goodbye=False)  # does not wait for the first
    go_on.set()
    watched.jobs.close()

    assert ran == []


def test_close_a_second_time_does_nothing(watched: Watched) -> None:
    watched.jobs.close()
    watched.jobs.close()


def test_inline_work_is_done_within_submit_and_reported_later() -> None:
    jobs = InlineJobs()
    ran: list[str] = []

    jobs.submit("now", lambda: ran.append("done"))

    assert ran == ["done"]
    assert jobs.wake_at_s() == -math.inf
    assert jobs.take_events() == [JobDone("now")]
    assert jobs.take_events() == []
    assert jobs.wake_at_s() == math.inf
