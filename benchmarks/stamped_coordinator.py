"""A coordinator's process that notes when each round was recorded and what it had used by then.

The run is `coordinator.run.start`, the same that `coordinator run` calls; what is added looks at a clock and at two
files in /proc, once a round. Run as `python -m benchmarks.stamped_coordinator BROKER_PID` with the run's
configuration as JSON on standard input; prints one JSON object.
"""

import json
import sys
import time
from typing import Any

from benchmarks.processes import TcpBytes, cpu_seconds_of, peak_rss_mb, rss_mb, tcp_bytes_to
from coordinator.config import RunConfig
from coordinator.events import NoteRefusal
from coordinator.run import start
from schemas.records import DeviceRecord, RoundRecord, RunEvent
from transport.settings import settings_from


class Stamps:
    """An observer of a run that takes the time whenever a round is on disk."""

    def __init__(self, broker_pid: int, port: int, last_round: int) -> None:
        self._broker_pid = broker_pid
        self._port = port
        self._last_round = last_round
        self.rounds: list[dict[str, Any]] = []

    def on_record(self, record: RoundRecord | DeviceRecord | RunEvent) -> None:
        """Take the time after a round's record."""
        if not isinstance(record, RoundRecord):
            return
        # Looking at every socket takes as long as an update: once, at the end, will do.
        tcp = tcp_bytes_to(self._port) if record.round_number == self._last_round else TcpBytes(0, 0)
        self.rounds.append(
            {
                "at_s": time.monotonic(),
                "cpu_s": time.process_time(),
                "rss_mb": rss_mb(),
                "broker_cpu_s": cpu_seconds_of(self._broker_pid),
                "broker_rss_mb": rss_mb(self._broker_pid),
                "tcp_bytes_up": tcp.acked,
                "tcp_bytes_down": tcp.received,
            }
        )

    def on_refusal(self, refusal: NoteRefusal) -> None:
        """Counted in the records."""

    def on_connection(self, connected: bool, reason: str) -> None:
        """Of no interest."""


def main() -> None:
    """Entry point of the process."""
    config = settings_from(RunConfig, json.load(sys.stdin))
    stamps = Stamps(int(sys.argv[1]), config.broker.port, config.rounds.count)
    result = start(config, stamps)
    outcome = {"outcome": result.outcome, "detail": result.detail, "folder": str(result.folder)}
    sys.stdout.write(json.dumps(outcome | {"rounds": stamps.rounds, "peak_rss_mb": peak_rss_mb()}) + "\n")


if __name__ == "__main__":
    main()
