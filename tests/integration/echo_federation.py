"""A coordinator's process and a process of echo agents on a private broker: whole rounds in milliseconds, no training.

For tests in which the agents only have to be honest and quick, and something else misbehaves.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Self

from mosquitto.broker import PrivateBroker
from tests.integration.federation import Federation

SETTINGS = """
[training]
local_batches = 1
[rounds]
count = 1000000
min_agents = {agents}
min_updates = {agents}
deadline_s = {deadline_s}
max_attempts = 1000
patience_s = 300
quarantine_after = {quarantine_after}
[data]
dataset = "none"
"""


class EchoFederation(Federation):
    """Three honest agents `room-1` to `room-3`, and users for whoever else the test needs.

    Args:
        quarantine_after: as in `[rounds]`; deadline_s: likewise.
    """

    poll_s = 0.5  # the record grows by the hundreds, and each look reads all of it

    def __init__(
        self, folder: Path, broker: PrivateBroker, quarantine_after: int = 20, deadline_s: float = 10.0
    ) -> None:
        self.names = [f"room-{number}" for number in (1, 2, 3)]
        settings = SETTINGS.format(agents=3, deadline_s=deadline_s, quarantine_after=quarantine_after)
        super().__init__(folder, broker, 0, settings)
        self.echo: subprocess.Popen[str] | None = None

    def __exit__(self, *args: object) -> None:
        self.stop_agents()
        super().__exit__(*args)

    def start(self) -> None:
        """Start the honest agents and a new run."""
        self.start_agents()
        self.coordinator.start("run", str(self.config))

    def start_agents(self) -> None:
        """Start the process of the honest agents."""
        command = [sys.executable, "-m", "benchmarks.echo_agents", str(self.broker.port), str(self.folder / "agents")]
        with (self.folder / "agents.log").open("ab") as log:
            self.echo = subprocess.Popen(
                [*command, *self.names], stdin=subprocess.PIPE, stdout=log, stderr=log, text=True
            )
        assert self.echo.stdin is not None
        self.echo.stdin.write(json.dumps({name: self.broker.passwords[name] for name in self.names}) + "\n")
        self.echo.stdin.flush()

    def stop_agents(self) -> None:
        """Kill the process of the honest agents."""
        if self.echo is not None:
            self.echo.kill()
            self.echo.wait()
            assert self.echo.stdin is not None
            self.echo.stdin.close()
            self.echo = None

    def wait_for_rounds(self, more: int) -> None:
        """Wait until so many more rounds are closed."""
        have = len(self.rounds())
        self.wait_until(lambda: len(self.rounds()) >= have + more, f"{more} rounds after the {have}th", 180.0)

    def wait_for_coordinator(self) -> None:
        """Wait until the coordinator is connected; torch takes its time on a busy machine."""
        self.wait_until(self.coordinator_is_ready, "the coordinator", 240.0)

    def __enter__(self) -> Self:
        return self
