"""A coordinator's process that notes when each round was recorded and what it had used by then.

The run is `coordinator.run.start`, the same that `coordinator run` calls; what is added looks at two clocks once a
round, and at three files in /proc now and then: reading those takes as long as an update, and everybody waits. Run as
`python -m benchmarks.stamped_coordinator BROKER_PID` with the run's configuration as JSON on standard input; prints
one JSON object.
"""

import json
import math
import sys
import time
from typing import Any

from benchmarks.processes import TcpBytes, cpu_seconds_of, peak_rss_mb, rss_mb, tcp_bytes_to
from coordinator.config import RunConfig
from coordinator.events import NoteRefusal
from coordinator.run import start
from schemas.records import DeviceRecord, RoundRecord, RunEvent
from transport.settings import settings_from

WARM_UP_ROUNDS = 2
LOOK_EVERY_S = 0.2


class Stamps:
    """An observer of a run that takes the time whenever a round is on disk.

    Attributes:
        rounds: of each round `at_s`, `cpu_s` and what was last seen of memory and broker, which is of this very round
            for those to warm up and for the last one.
    """

    def __init__(self, broker_pid: int, port: int, last_round: int) -> None:
        self._broker_pid = broker_pid
        self._port = port
        self._last_round = last_round
        self._look_at_s = -math.inf
        self._seen: dict[str, Any] = {}
        self.rounds: list[dict[str, Any]] = []

    def on_record(self, record: RoundRecord | DeviceRecord | RunEvent) -> None:
        """Take the time after a round's record."""
        if not isinstance(record, RoundRecord):
            return
        at_s, is_last = time.monotonic(), record.round_number == self._last_round
        if record.round_number <= WARM_UP_ROUNDS or is_last or at_s >= self._look_at_s:
            self._look_at_s = at_s + LOOK_EVERY_S
            tcp = tcp_bytes_to(self._port) if is_last else TcpBytes(0, 0)
            self._seen = {
                "rss_mb": rss_mb(),
                "broker_cpu_s": cpu_seconds_of(self._broker_pid),
                "broker_rss_mb": rss_mb(self._broker_pid),
                "tcp_bytes_up": tcp.acked,
                "tcp_bytes_down": tcp.received,
            }
        self.rounds.append({"at_s": at_s, "cpu_s": time.process_time()} | self._seen)

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
