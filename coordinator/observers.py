"""Who watches a run besides the person in front of it: several watchers as one, and the one that ships metrics."""

from collections.abc import Callable, Sequence
from pathlib import Path

from coordinator.events import NoteRefusal
from coordinator.run_folder import RunFolder
from coordinator.service import Observer
from coordinator.shipping import Shipper, ShippingStatus, Sink
from schemas.records import DeviceRecord, RoundRecord, RunEvent

Say = Callable[[str], None]


class Observers:
    """Tells everything to each of several observers, in order."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers

    def on_record(self, record: RoundRecord | DeviceRecord | RunEvent) -> None:
        """A record was made."""
        for observer in self._observers:
            observer.on_record(record)

    def on_refusal(self, refusal: NoteRefusal) -> None:
        """A message was refused."""
        for observer in self._observers:
            observer.on_refusal(refusal)

    def on_connection(self, connected: bool, reason: str) -> None:
        """The broker came into reach, or went out of it."""
        for observer in self._observers:
            observer.on_connection(connected, reason)


class MetricsObserver:
    """Ships a run's metrics while it goes on, beginning with its first record, which makes the run's folder certain.

    Args:
        runs_folder: holds the run's folder.
        sink: the server; closed with us.
        say: shows a line to the person.
        where: what a suggested command needs to find the run.
    """

    def __init__(self, runs_folder: Path, sink: Sink, say: Say, where: str = "") -> None:
        self._runs_folder = runs_folder
        self._sink = sink
        self._run_id = ""
        self._where = where
        self._say = say
        self._shipper: Shipper | None = None
        self._error = ""

    def on_record(self, record: RoundRecord | DeviceRecord | RunEvent) -> None:
        """Start at the first record; afterwards there is something new to ship."""
        if self._shipper is None:
            self._run_id = record.run_id
            self._shipper = Shipper(RunFolder.open(self._runs_folder, record.run_id), self._sink)
            self._shipper.start()
        self._shipper.wake()
        if isinstance(record, RoundRecord):
            self._tell_trouble(self._shipper.status())

    def on_refusal(self, refusal: NoteRefusal) -> None:
        """Refusals reach the metrics with the next round's record."""

    def on_connection(self, connected: bool, reason: str) -> None:
        """The broker is not our concern."""

    def close(self) -> None:
        """Ship the rest, for a few seconds at most, and say how it went."""
        if self._shipper is None:
            self._sink.close()
            return
        status = self._shipper.close()
        if status.records_waiting:
            self._say(
                f"[yellow]metrics:[/] {status.records_waiting} records wait for {self._sink.target}"
                f" ({status.error or 'there was no time left'}); ship them with: coordinator metrics push "
                f"{self._run_id}{self._where}"
            )
        else:
            self._say(f"metrics: {status.points_shipped} points shipped to {self._sink.target}")

    def _tell_trouble(self, status: ShippingStatus) -> None:
        if status.error and status.error != self._error:
            self._say(f"[yellow]metrics stay in the run's folder for now:[/] {status.error}")
        elif self._error and not status.error:
            self._say("metrics are shipped again")
        self._error = status.error
