"""Jobs in virtual time: the work is done for real, and takes as long as the model says."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable

from simulation.schedule import Schedule
from transport.jobs import run
from transport.ports import Event, JobDone

Duration = Callable[[str, object], float]
"""How many virtual seconds a job takes, from its name and its result (or its exception)."""


def no_time(_name: str, _result: object) -> float:
    """Every job is done at once."""
    return 0.0


class Deferred(ABC):
    """The result of work that has only been handed on: waited for when virtual time needs it, and not before."""

    @abstractmethod
    def wait(self) -> object:
        """The result itself; raises what the work raised."""


class VirtualJobs:
    """One worker: jobs run one after the other, in the order in which they were submitted.

    A job's side effects happen when it starts, its `JobDone` comes when its time is over. A job may return a
    `Deferred`: then whatever else happens in virtual time meanwhile does not wait for it.
    """

    def __init__(self, schedule: Schedule, duration_s: Duration = no_time) -> None:
        self._schedule = schedule
        self._duration_s = duration_s
        self._waiting: deque[tuple[str, Callable[[], object]]] = deque()
        self._busy = self._closed = False
        self._emit: Callable[[Event], None] | None = None

    def attach(self, emit: Callable[[Event], None]) -> None:
        """Say where results go."""
        self._emit = emit

    def submit(self, name: str, work: Callable[[], object]) -> None:
        """Start `work` as soon as the worker is free, never within this call."""
        self._waiting.append((name, work))
        if not self._busy:
            self._busy = True
            self._schedule.after(0.0, self._start)

    def close(self) -> None:
        """Start nothing more, and keep what still runs to oneself."""
        self._closed = True

    def _start(self) -> None:
        if self._closed:
            return
        if not self._waiting:
            self._busy = False
            return
        name, work = self._waiting.popleft()
        done = run(name, work)
        self._schedule.after(self._duration_s(name, done.error or done.result), self._finish, done)

    def _finish(self, done: JobDone) -> None:
        if not self._closed and self._emit is not None:
            if isinstance(done.result, Deferred):
                done = run(done.name, done.result.wait)
            self._schedule.after(0.0, self._start)
            self._emit(done)
