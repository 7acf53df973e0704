"""Watchers of a run: all are told in order, and metrics go out with words about what became of them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from coordinator.events import NoteRefusal
from coordinator.observers import MetricsObserver, Observers
from coordinator.run_folder import RunFolder
from coordinator.shipping import SinkError
from schemas.metrics import Point
from schemas.records import DeviceRecord, RoundRecord, RunEvent
from tests.unit.coordinator.recorded import RUN_ID, closed, happened


class FakeSink:
    """A server that keeps points in memory, or refuses them."""

    target = "server bucket"
    batch_size = 100

    def __init__(self, error: str = "") -> None:
        self.points: list[Point] = []
        self.closed = False
        self._error = error

    def write(self, points: list[Point]) -> None:
        if self._error:
            raise SinkError(self._error, mends_itself=False)
        self.points += points

    def close(self) -> None:
        self.closed = True


class Listener:
    """Writes down what it is told."""

    def __init__(self, name: str, heard: list[str]) -> None:
        self._name = name
        self._heard = heard

    def on_record(self, record: RoundRecord | DeviceRecord | RunEvent) -> None:
        self._heard.append(f"{self._name} record {record.type}")

    def on_refusal(self, refusal: NoteRefusal) -> None:
        self._heard.append(f"{self._name} refusal {refusal.reason}")

    def on_connection(self, connected: bool, reason: str) -> None:
        self._heard.append(f"{self._name} connection {connected} {reason}")


Watch = Callable[[FakeSink], list[str]]


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    """Records a start and a round under a metrics observer, closes it, and returns what was said."""

    def run_once(sink: FakeSink) -> list[str]:
        said: list[str] = []
        observer = MetricsObserver(tmp_path, sink, said.append, " --runs there")
        folder = RunFolder.create(tmp_path, RUN_ID, {})
        with folder.lock():
            for record in (happened("started"), closed(1)):
                folder.append(record)
                observer.on_record(record)
            observer.close()
        return said

    return run_once


def test_every_observer_is_told_everything_in_order() -> None:
    heard: list[str] = []
    observers = Observers([Listener("a", heard), Listener("b", heard)])

    observers.on_connection(False, "gone")
    observers.on_record(closed(1))

    assert heard == ["a connection False gone", "b connection False gone", "a record round", "b record round"]


def test_metrics_are_shipped_by_the_end_and_counted(watch: Watch) -> None:
    sink = FakeSink()

    said = watch(sink)

    assert [point.measurement for point in sink.points] == ["fl_event", "fl_round"]
    assert said[-1] == "metrics: 2 points shipped to server bucket"
    assert sink.closed


def test_metrics_that_were_refused_come_with_the_command_that_ships_them(watch: Watch) -> None:
    said = watch(FakeSink("no right to write"))

    assert said[-1] == (
        "[yellow]metrics:[/] 2 records wait for server bucket (no right to write); ship them with: "
        "coordinator metrics push run-1 --runs there"
    )


def test_server_is_let_go_when_the_run_never_began(tmp_path: Path) -> None:
    sink, said = FakeSink(), list[str]()

    MetricsObserver(tmp_path, sink, said.append).close()

    assert sink.closed
    assert said == []
