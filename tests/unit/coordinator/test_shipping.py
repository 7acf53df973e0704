"""Shipping decisions, against a sink that answers as told. Real servers are in tests/integration."""

import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.run_folder import RunFolder
from coordinator.shipping import Pace, Shipper, ShippingStatus, SinkError, push
from schemas.errors import StorageError
from schemas.metrics import Point
from tests.sample_records import device_record
from transport import file_lock

DOWN = SinkError("it is down", mends_itself=True)
BUSY = SinkError("it is busy", mends_itself=True, retry_after_s=0.02)
REFUSED = SinkError("it refuses", mends_itself=False)
TOO_LARGE = SinkError("too large", mends_itself=False, too_large=True)

FAST = Pace(first_retry_s=0.001, longest_retry_s=0.002, refused_retry_s=0.001, idle_s=0.001)
NEVER = Pace(first_retry_s=3600, longest_retry_s=3600, refused_retry_s=3600, idle_s=3600)

LIMIT_S = 30.0


class PlannedSink:
    """Fails as planned, then takes everything; `written` holds the points of every write that it took."""

    target = "planned"

    def __init__(self, *plan: SinkError | None, batch_size: int = 100, largest: int = 10**9) -> None:
        self.batch_size = batch_size
        self.plan = deque(plan)
        self.written: list[list[Point]] = []
        self.attempts = 0
        self.closed = threading.Event()
        self.failed = threading.Event()
        self.took = threading.Semaphore(0)
        self.hold: threading.Event | None = None
        self._largest = largest

    def write(self, points: list[Point]) -> None:
        self.attempts += 1
        if self.hold is not None:
            self.hold.wait(LIMIT_S)
        error = self.plan.popleft() if self.plan else None
        if error is not None:
            self.failed.set()
            raise error
        if len(points) > self._largest:
            raise TOO_LARGE
        self.written.append(points)
        self.took.release()

    def close(self) -> None:
        self.closed.set()

    @property
    def rounds(self) -> list[object]:
        return [point.fields["round_number"] for points in self.written for point in points]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunFolder]:
    """A run with ten records of one point each."""
    folder = RunFolder.create(tmp_path, "run-1", {})
    with folder.lock():
        for number in range(1, 11):
            folder.append(device_record(number))
        yield folder


def test_everything_is_sent_in_batches_when_pushed(run: RunFolder) -> None:
    sink = PlannedSink(batch_size=4)
    seen: list[ShippingStatus] = []

    status = push(run, sink, seen.append)

    assert [len(points) for points in sink.written] == [4, 4, 2]
    assert sink.rounds == list(range(1, 11))
    assert seen == [ShippingStatus(4, 6), ShippingStatus(8, 2), ShippingStatus(10, 0)]
    assert status == ShippingStatus(10, 0)


def test_rest_is_sent_when_push_is_repeated_after_a_failure(run: RunFolder) -> None:
    with pytest.raises(SinkError, match="down"):
        push(run, PlannedSink(None, DOWN, batch_size=4))
    sink = PlannedSink()

    push(run, sink)

    assert sink.rounds == [5, 6, 7, 8, 9, 10]


def test_writes_shrink_when_server_finds_them_too_large(run: RunFolder) -> None:
    sink = PlannedSink(batch_size=8, largest=3)

    push(run, sink)

    assert max(len(points) for points in sink.written) == 2
    assert sink.rounds == list(range(1, 11))


def test_push_fails_when_even_one_point_is_too_large(run: RunFolder) -> None:
    with pytest.raises(SinkError, match="too large"):
        push(run, PlannedSink(largest=0))


def test_push_is_refused_when_another_process_ships_the_run(run: RunFolder) -> None:
    with (
        file_lock.hold(run.shipping_lock_path, "shipping"),
        pytest.raises(StorageError, match=r"metrics of run run-1 is in use by another process, pid \d+"),
    ):
        push(run, PlannedSink())


def test_shipper_sends_the_same_points_again_when_server_was_down(run: RunFolder) -> None:
    sink = PlannedSink(DOWN, BUSY, REFUSED, None, DOWN, batch_size=6)
    shipper = Shipper(run, sink, FAST)

    shipper.start()
    for _ in range(2):
        assert sink.took.acquire(timeout=LIMIT_S)

    assert shipper.close(LIMIT_S) == ShippingStatus(10, 0)
    assert sink.rounds == list(range(1, 11))
    assert sink.attempts == 6


def test_shipper_does_not_hurry_when_woken_after_a_failure(run: RunFolder) -> None:
    sink = PlannedSink(DOWN)
    shipper = Shipper(run, sink, NEVER)
    shipper.start()
    assert sink.failed.wait(LIMIT_S)

    for _ in range(100):
        shipper.wake()

    assert not sink.took.acquire(timeout=0.1)
    assert shipper.status() == ShippingStatus(0, 10, "it is down")
    shipper.close(LIMIT_S)


def test_one_last_try_is_made_when_closing_after_a_failure(run: RunFolder) -> None:
    sink = PlannedSink(*[DOWN] * 10)
    shipper = Shipper(run, sink, NEVER)
    shipper.start()
    assert sink.failed.wait(LIMIT_S)

    status = shipper.close(LIMIT_S)

    assert sink.attempts == 2
    assert status == ShippingStatus(0, 10, "it is down")


def test_failure_is_logged_once_when_it_stays_the_same(run: RunFolder, caplog: pytest.LogCaptureFixture) -> None:
    sink = PlannedSink(*[DOWN] * 5, *[REFUSED] * 5)
    shipper = Shipper(run, sink, FAST)
    shipper.start()
    assert sink.took.acquire(timeout=LIMIT_S)
    shipper.close(LIMIT_S)

    assert [message.rpartition(": ")[2] for message in caplog.messages] == ["it is down", "it refuses"]


def test_close_returns_when_server_never_answers(run: RunFolder, caplog: pytest.LogCaptureFixture) -> None:
    sink = PlannedSink()
    sink.hold = threading.Event()
    shipper = Shipper(run, sink)
    shipper.start()

    status = shipper.close(timeout_s=0.01)

    assert "ship" in caplog.text
    assert "coordinator metrics push run-1" in caplog.text
    assert status.points_shipped == 0
    sink.hold.set()
    assert sink.closed.wait(LIMIT_S)


def test_records_of_the_last_moment_are_sent_when_closing(run: RunFolder) -> None:
    sink = PlannedSink()
    shipper = Shipper(run, sink, NEVER)
    shipper.start()
    assert sink.took.acquire(timeout=LIMIT_S)
    run.append(device_record(11))

    status = shipper.close(LIMIT_S)

    assert status == ShippingStatus(11, 0)
    assert sink.closed.is_set()


def test_shipper_waits_its_turn_when_a_push_is_under_way(run: RunFolder) -> None:
    sink = PlannedSink()
    shipper = Shipper(run, sink, FAST)
    with file_lock.hold(run.shipping_lock_path, "shipping"):
        shipper.start()
        while "in use" not in shipper.status().error:
            assert shipper._thread.is_alive()

    assert sink.took.acquire(timeout=LIMIT_S)
    assert shipper.close(LIMIT_S).records_waiting == 0


def test_run_goes_on_when_shipping_has_a_defect(run: RunFolder, caplog: pytest.LogCaptureFixture) -> None:
    class Defective(PlannedSink):
        def write(self, points: list[Point]) -> None:
            raise ZeroDivisionError("a defect")

    shipper = Shipper(run, Defective())
    shipper.start()

    status = shipper.close(LIMIT_S)

    assert status == ShippingStatus(0, 10, "ZeroDivisionError: a defect")
    assert "Traceback" in caplog.text
