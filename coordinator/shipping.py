"""Ships a run's metrics from its folder to a server: during the run in a thread of its own, or afterwards at once.

The folder is always written first, by others; nothing here can delay or fail a round. What a server is, and what
its answers mean, is behind `Sink` (`influx.py`).
"""

import contextlib
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from coordinator.backlog import Backlog
from coordinator.run_folder import RunFolder
from schemas.errors import FederationError, StorageError
from schemas.metrics import Point
from transport import file_lock

logger = logging.getLogger(__name__)


class SinkError(FederationError):
    """The server did not take a write; the text says what to do about it.

    Attributes:
        mends_itself: True when trying again soon is all that is needed, as for a server that is down.
        too_large: the same points may pass in smaller writes.
        retry_after_s: how long the server asked to be left alone, or 0.
        status: of its HTTP answer, or 0 when it did not answer.
    """

    def __init__(
        self,
        text: str,
        *,
        mends_itself: bool,
        too_large: bool = False,
        retry_after_s: float = 0.0,
        status: int = 0,
    ) -> None:
        super().__init__(text)
        self.status = status
        self.mends_itself = mends_itself
        self.too_large = too_large
        self.retry_after_s = retry_after_s


class Sink(Protocol):
    """Where points go."""

    @property
    def target(self) -> str:
        """Names server and bucket, without secrets."""

    @property
    def batch_size(self) -> int:
        """The largest number of points for one write."""

    def write(self, points: list[Point]) -> None:
        """Write points; returns when the server has acknowledged all of them, and raises SinkError otherwise."""

    def close(self) -> None:
        """Let go of the connection."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a shipper waits.

    Attributes:
        first_retry_s, longest_retry_s: after a failure that mends itself; doubled each time.
        refused_retry_s: after a failure that a person must mend.
        idle_s: between looks at the record when nobody wakes it.
    """

    first_retry_s: float = 1.0
    longest_retry_s: float = 60.0
    refused_retry_s: float = 120.0
    idle_s: float = 10.0


DEFAULT_PACE = Pace()


@dataclass(frozen=True, slots=True)
class ShippingStatus:
    """How shipping stands.

    Attributes:
        points_shipped: acknowledged since this shipper or push began.
        records_waiting: lines of `record.jsonl` that the server has not acknowledged; None when that is not known.
        error: why records wait, when the last attempt failed.
    """

    points_shipped: int
    records_waiting: int | None
    error: str = ""


class _Delivery:
    """Moves a backlog to a sink, one acknowledged batch at a time."""

    def __init__(self, run: RunFolder, sink: Sink, *, anew: bool = False) -> None:
        self.backlog = Backlog(run, sink.target, anew=anew)
        self.points_shipped = 0
        self._sink = sink
        self._batch_size = sink.batch_size

    def deliver_batch(self) -> bool:
        """Send one batch; False when there was nothing to send. After an error, the next call sends it again."""
        points = self.backlog.next_points(self._batch_size)
        self._send(points)
        self.points_shipped += len(points)
        self.backlog.acknowledge()
        return bool(points)

    def status(self, error: str = "") -> ShippingStatus:
        """How it stands; never raises."""
        try:
            waiting = self.backlog.waiting_lines()
            return ShippingStatus(self.points_shipped, waiting, error if waiting else "")
        except StorageError as unreadable:
            return ShippingStatus(self.points_shipped, None, error or str(unreadable))

    def _send(self, points: list[Point]) -> None:
        sent = 0
        while sent < len(points):
            try:
                self._sink.write(points[sent : sent + self._batch_size])
            except SinkError as error:
                if not error.too_large or self._batch_size == 1:
                    raise
                self._batch_size //= 2
            else:
                sent += self._batch_size


def push(
    run: RunFolder,
    sink: Sink,
    on_progress: Callable[[ShippingStatus], None] | None = None,
    *,
    everything: bool = False,
) -> ShippingStatus:
    """Ship all that a run has recorded and that the server has not acknowledged; harmless to repeat.

    Args:
        on_progress: called after every acknowledged batch.
        everything: send also what was acknowledged before, to fill a server that lost it.

    Raises:
        SinkError: the server did not take it. What it had acknowledged by then is not sent again.
        StorageError: the run cannot be read, or another process is shipping it.
    """
    with _shipping_lock(run):
        delivery = _Delivery(run, sink, anew=everything)
        while delivery.deliver_batch():
            if on_progress is not None:
                on_progress(delivery.status())
        return delivery.status()


class Shipper:
    """Ships a run while it goes on, from a daemon thread; keeps trying for as long as the run lasts.

    `wake` and `status` may be called from any thread at any time and never wait for the server.
    """

    def __init__(self, run: RunFolder, sink: Sink, pace: Pace = DEFAULT_PACE) -> None:
        self._run = run
        self._sink = sink
        self._pace = pace
        self._changed = threading.Condition()
        self._woken = False
        self._closing = False
        self._error = ""
        self._retry_s = pace.first_retry_s
        self._delivery: _Delivery | None = None
        self._thread = threading.Thread(target=self._ship, name="metrics", daemon=True)

    def start(self) -> None:
        """Begin to ship, first what an earlier process has left behind."""
        self._thread.start()

    def wake(self) -> None:
        """Something was recorded. This does not shorten the wait after a failure."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def status(self) -> ShippingStatus:
        """How it stands now."""
        delivery = self._delivery
        return delivery.status(self._error) if delivery else ShippingStatus(0, None, self._error)

    def close(self, timeout_s: float = 5.0) -> ShippingStatus:
        """Try once more to ship the rest, for at most `timeout_s`, and say in the log what is left for `push`."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout_s)
        status = self.status()
        if status.records_waiting != 0:
            logger.warning(
                "run_id=%s %s records wait to be shipped to %s (%s); do so with: coordinator metrics push %s",
                self._run.run_id,
                "some" if status.records_waiting is None else status.records_waiting,
                self._sink.target,
                status.error or "there was no time left",
                self._run.run_id,
            )
        return status

    def _ship(self) -> None:
        try:
            with contextlib.closing(self._sink), contextlib.ExitStack() as held:
                if self._insist(lambda: held.enter_context(_shipping_lock(self._run))):
                    self._keep_shipping()
        except Exception as error:  # the edge of this thread: the run goes on, and its metrics can be pushed
            logger.exception("run_id=%s shipping its metrics has failed", self._run.run_id)
            self._error = f"{type(error).__name__}: {error}"

    def _keep_shipping(self) -> None:
        while True:
            # Read before the delivery: what was recorded before `close` is in the last one.
            last = self._closing
            if not self._insist(self._deliver_all) or last:
                return
            with self._changed:
                self._changed.wait_for(lambda: self._woken or self._closing, self._pace.idle_s)
                self._woken = False

    def _deliver_all(self) -> None:
        if self._delivery is None:
            self._delivery = _Delivery(self._run, self._sink)
        while self._delivery.deliver_batch():
            self._error, self._retry_s = "", self._pace.first_retry_s

    def _insist(self, step: Callable[[], object]) -> bool:
        """Repeat a step until it succeeds; False when the shipper is closing and the last try has failed."""
        while True:
            last = self._closing
            try:
                step()
            except FederationError as error:
                pause_s = self._note(error)
            else:
                self._error, self._retry_s = "", self._pace.first_retry_s
                return True
            if last:
                return False
            with self._changed:
                self._changed.wait_for(lambda: self._closing, pause_s)

    def _note(self, error: FederationError) -> float:
        """Remember a failure, say it once, and return how long to wait."""
        if str(error) != self._error:
            logger.warning("run_id=%s metrics stay in the run's folder for now: %s", self._run.run_id, error)
        self._error = str(error)
        if not isinstance(error, SinkError) or not error.mends_itself:
            return self._pace.refused_retry_s
        pause_s = max(self._retry_s, min(error.retry_after_s, self._pace.refused_retry_s))
        self._retry_s = min(self._retry_s * 2, self._pace.longest_retry_s)
        return pause_s


def _shipping_lock(run: RunFolder) -> contextlib.AbstractContextManager[None]:
    return file_lock.hold(run.shipping_lock_path, f"shipping the metrics of run {run.run_id}")
