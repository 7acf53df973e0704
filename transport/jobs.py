"""Runs work that is too long for the thread that owns an engine, and brings the results back to that thread.

`ThreadJobs` has one worker thread and wakes the loop through a file descriptor; `InlineJobs` runs the work at once,
for parties whose work is shorter than a handover (echo agents in benchmarks).
"""

import logging
import math
import os
import queue
import selectors
import threading
from collections import deque
from collections.abc import Callable

from transport.ports import Event, JobDone

_log = logging.getLogger(__name__)

_PATIENCE_S = 5.0


def run(name: str, work: Callable[[], object]) -> JobDone:
    """Do the work now; whatever it raises becomes the result."""
    try:
        return JobDone(name, result=work())
    except Exception as error:  # the service decides what a failed job means
        _log.debug("job %s failed", name, exc_info=True)
        return JobDone(name, error=error)


class ThreadJobs:
    """Jobs on one worker thread, in the order in which they were submitted.

    A `Source` for the driver: its file descriptor becomes readable when a job ended.
    """

    def __init__(self) -> None:
        self._submitted: queue.SimpleQueue[tuple[str, Callable[[], object]] | None] = queue.SimpleQueue()
        self._done: deque[JobDone] = deque()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._selector: selectors.BaseSelector | None = None
        self._closed = False
        # A daemon: a process that is told to stop does not wait for an hour of training.
        self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)
        self._thread.start()

    def submit(self, name: str, work: Callable[[], object]) -> None:
        """Start `work`, or queue it behind what is running."""
        self._submitted.put((name, work))

    def attach(self, selector: selectors.BaseSelector) -> None:
        """Have `selector` notice when a job ends."""
        self._selector = selector
        selector.register(self._wake_fd, selectors.EVENT_READ, self)

    def handle_io(self, _mask: int) -> None:
        """Rearm the file descriptor."""
        try:
            os.eventfd_read(self._wake_fd)
        except BlockingIOError:
            return

    def handle_time(self, now_s: float) -> None:
        """Nothing is ever due."""

    def wake_at_s(self) -> float:
        """At once when a result waits."""
        return -math.inf if self._done else math.inf

    def take_events(self) -> list[Event]:
        """The jobs that ended since the last call, in the order in which they ended."""
        return [self._done.popleft() for _ in range(len(self._done))]

    def end_turn(self) -> None:
        """Nothing is held back."""

    def close(self, *, goodbye: bool = True) -> None:
        """Start no further job, and wait for the running one, but not for ever, and not without `goodbye`."""
        self._closed = True
        self._submitted.put(None)
        self._thread.join(_PATIENCE_S if goodbye else 0.0)
        if self._selector is not None:
            self._selector.unregister(self._wake_fd)
            self._selector = None
        if not self._thread.is_alive() and self._wake_fd >= 0:  # a worker that still works needs it
            os.close(self._wake_fd)
            self._wake_fd = -1

    def _work(self) -> None:
        while (job := self._submitted.get()) is not None and not self._closed:
            self._done.append(run(*job))
            os.eventfd_write(self._wake_fd, 1)


class InlineJobs:
    """Jobs that run within `submit`; the result still arrives as an event of its own."""

    def __init__(self) -> None:
        self._done: list[Event] = []

    def submit(self, name: str, work: Callable[[], object]) -> None:
        """Run `work` now."""
        self._done.append(run(name, work))

    def attach(self, selector: selectors.BaseSelector) -> None:
        """Nothing to watch."""

    def handle_io(self, mask: int) -> None:
        """Nothing to read."""

    def handle_time(self, now_s: float) -> None:
        """Nothing is ever due."""

    def wake_at_s(self) -> float:
        """At once when a result waits."""
        return -math.inf if self._done else math.inf

    def take_events(self) -> list[Event]:
        """The jobs that ended since the last call."""
        done, self._done = self._done, []
        return done

    def end_turn(self) -> None:
        """Nothing is held back."""

    def close(self, *, goodbye: bool = True) -> None:
        """Nothing to end."""
