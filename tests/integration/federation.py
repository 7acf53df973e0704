"""A whole federation of real processes on a private broker, for tests that break parts of it.

Agents and coordinator are the processes that operators run. Tests wait for what the parts say and record, never
for time to pass.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, Self

import numpy as np

from coordinator.run_folder import RunFolder
from learning.datasets import Examples
from learning.folders import write_folder
from mosquitto.broker import PrivateBroker
from schemas.records import DeviceRecord, RoundRecord, RunEvent

RUN_ID = "crash-test"
LIMIT_S = 100.0
POLL_S = 0.02


def small_digits(seed: int, num_examples: int = 320) -> Examples:
    """Learnable images: each class is a bright bar at its own height, under noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, num_examples)
    images = rng.integers(0, 60, (num_examples, 1, 28, 28), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[0, 2 * label + 2 : 2 * label + 5] += 150
    return Examples(images, labels.astype(np.int64), 10, "bars")


class Running(Protocol):
    """What a test does to a process: as `subprocess.Popen` calls it."""

    @property
    def pid(self) -> int:
        """Its id."""

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended; its exit code."""

    def kill(self) -> None:
        """SIGKILL."""

    def terminate(self) -> None:
        """SIGTERM."""

    def send_signal(self, sig: int) -> None:
        """Any signal."""


class Process:
    """One process of the federation, with its log."""

    def __init__(self, name: str, command: list[str], log: Path) -> None:
        self.name = name
        self.log_file = log
        self.command = command
        self._log_offset = 0
        self._process: Running | None = None

    def start(self, *arguments: str) -> None:
        """Start it (again); its log goes on where it was."""
        self._log_offset = self.log_file.stat().st_size if self.log_file.exists() else 0
        self._process = self._launch([*self.command, *arguments])

    def _launch(self, command: list[str]) -> Running:
        with self.log_file.open("ab") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll() if self._process else None

    def log(self) -> str:
        """What it has said since its last start."""
        return self.log_file.read_bytes()[self._log_offset :].decode(errors="replace")

    def kill(self) -> None:
        """End it as a power cut would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def terminate(self) -> int:
        """Ask it to end; its exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(LIMIT_S)

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self, limit_s: float = LIMIT_S) -> int:
        """Wait until it has ended; its exit code."""
        assert self._process is not None
        return self._process.wait(limit_s)

    def cleanup(self) -> None:
        """End it whatever it does."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


class Federation:
    """A broker, `num_agents` agents named room-1 and so on, and a coordinator, none of them started yet.

    Args:
        broker: is running; its users include the coordinator and the rooms.
        settings: lines of TOML for the coordinator's file, on top of broker and folders.
        process: makes each of the processes.
    """

    poll_s = POLL_S

    def __init__(
        self,
        folder: Path,
        broker: PrivateBroker,
        num_agents: int,
        settings: str,
        process: Callable[[str, list[str], Path], Process] = Process,
    ) -> None:
        self.folder = folder
        self.broker = broker
        self.runs = folder / "runs"
        self._make_process = process
        self.agents = {f"room-{i}": self._agent(i) for i in range(1, num_agents + 1)}
        self.config = folder / "run.toml"
        self.config.write_text(
            f'run_id = "{RUN_ID}"\nruns_folder = "runs"\n{settings}\n{self._broker_lines("coordinator")}'
        )
        command = [sys.executable, "-m", "coordinator.cli"]
        self.coordinator = process("coordinator", command, folder / "coordinator.log")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in (*self.agents.values(), self.coordinator):
            process.cleanup()

    def start(self) -> None:
        """Start all agents and a new run."""
        for agent in self.agents.values():
            agent.start()
        self.coordinator.start("run", str(self.config))

    def resume(self) -> None:
        """Start the coordinator again on the run that it was killed in."""
        self.coordinator.start("resume", RUN_ID, "--runs", str(self.runs))

    def wait_until(self, condition: Callable[[], bool], what: str, limit_s: float = LIMIT_S) -> None:
        """Wait for a condition, or fail saying what was waited for and what the parts said last."""
        deadline_s = time.monotonic() + limit_s
        while not condition():
            if time.monotonic() > deadline_s:
                logs = "\n".join(
                    f"--- {p.name}: {p.log()[-800:]}"
                    for p in (*self.agents.values(), self.coordinator)
                    if p.log_file.exists()
                )
                raise AssertionError(f"waited {limit_s:g} s in vain for: {what}\n{logs}")
            time.sleep(self.poll_s)

    def wait_until_training(self, agent: str, round_number: int) -> None:
        """Wait until an agent says that it trains a round."""
        self.wait_until(
            lambda: f"round_number={round_number}: training" in self.agents[agent].log(),
            f"{agent} to train round {round_number}",
        )

    def finish(self) -> list[RoundRecord]:
        """Wait until the coordinator has ended well; the rounds of the run."""
        code = self.coordinator.wait(120)
        assert code == 0, self.coordinator.log()[-3000:]
        return self.rounds()

    def rounds(self) -> list[RoundRecord]:
        """The closed rounds so far."""
        return [r for r in self.records() if isinstance(r, RoundRecord)]

    def devices(self) -> list[DeviceRecord]:
        """The agents' reports so far."""
        return [r for r in self.records() if isinstance(r, DeviceRecord)]

    def events(self, name: str) -> list[RunEvent]:
        """What happened to the run so far, by name."""
        return [r for r in self.records() if isinstance(r, RunEvent) and r.name == name]

    def coordinator_is_ready(self) -> bool:
        """True once the coordinator waits for agents or has opened a round."""
        return (self.runs / RUN_ID / "config.json").exists() and bool(self.events("broker-connected"))

    def records(self) -> list[RoundRecord | DeviceRecord | RunEvent]:
        """Everything recorded so far."""
        return RunFolder.open(self.runs, RUN_ID).records()

    def _agent(self, number: int) -> Process:
        name = f"room-{number}"
        home = self.folder / name
        write_folder(home / "data", small_digits(number))
        config = home / "agent.toml"
        config.write_text(
            f'agent_id = "{name}"\ndata_folder = "data"\nstate_folder = "state"\n{self._broker_lines(name)}'
        )
        command = [sys.executable, "-m", "edge_agent.cli", "run", str(config)]
        return self._make_process(name, command, home / "agent.log")

    def _broker_lines(self, user: str) -> str:
        secret = self.folder / f"{user}.password"
        secret.touch(mode=0o600)
        secret.write_text(self.broker.passwords[user])
        lines = {
            "port": self.broker.port,
            "username": user,
            "password_file": str(secret),
            "keep_alive_s": 5,
        }
        return "\n".join(["[broker]", *(f"{key} = {json.dumps(value)}" for key, value in lines.items())]) + "\n"
