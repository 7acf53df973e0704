"""The federation that a soak breaks: real processes, each behind a line of its own that can be cut or held.

Two agents are `edge-agent` processes that train, the others share two processes and echo. One of each kind is never
killed. Everything is loopback, and gone when the `with` block ends.
"""

import contextlib
import json
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from benchmarks.proxy import Proxy
from benchmarks.soak_faults import Targets
from coordinator.demo_agents import broker_section, write_agent_config
from learning.datasets import Examples
from learning.folders import write_folder
from mosquitto.broker import PrivateBroker
from mosquitto.sizing import limits_for
from schemas.errors import FederationError
from schemas.identifiers import COORDINATOR_ID

RUN_ID = "soak"
BROKER = "broker"
SPARED, KILLED = "agent", "agent, killed"
ECHO_SPARED, ECHO_KILLED = "echo agents", "echo agents, killed"
PARTIES = (COORDINATOR_ID, BROKER, SPARED, KILLED, ECHO_SPARED, ECHO_KILLED)
TARGETS = Targets(
    lines=(COORDINATOR_ID, SPARED, KILLED, ECHO_SPARED, ECHO_KILLED),
    agent_lines=(SPARED, KILLED, ECHO_SPARED, ECHO_KILLED),
    agents=(KILLED, ECHO_KILLED),
)
AGENTS = {
    SPARED: ["room-1"],
    KILLED: ["room-2"],
    ECHO_SPARED: [f"echo-a{number}" for number in range(4)],
    ECHO_KILLED: [f"echo-b{number}" for number in range(4)],
}
NUM_AGENTS = sum(len(names) for names in AGENTS.values())

MODEL_BYTES = 200_000
_NUM_EXAMPLES = 64
_KEEP_ALIVE_S = 5
_DEADLINE_S = 3.0
_STOP_LIMIT_S = 60.0
_LOG_TAIL_CHARS = 800


class Party:
    """A process that can be killed and started again; its log goes on."""

    def __init__(self, name: str, command: Sequence[str], log: Path, first_line: str = "") -> None:
        self.name = name
        self._command = list(command)
        self._log = log
        self._first_line = first_line
        self._process: subprocess.Popen[str] | None = None

    def start(self, command: Sequence[str] = ()) -> None:
        """Start it, or start it again."""
        with self._log.open("ab") as log:
            # Its own process group: Ctrl-C reaches the benchmark alone, which then ends its parts in order.
            self._process = subprocess.Popen(
                command or self._command, stdin=subprocess.PIPE, stdout=log, stderr=log, text=True, process_group=0
            )
        if self._first_line and self._process.stdin is not None:
            self._process.stdin.write(self._first_line + "\n")
            self._process.stdin.flush()

    @property
    def pid(self) -> int:
        """Of the process that was started last; 0 before the first."""
        return self._process.pid if self._process is not None else 0

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll() if self._process is not None else None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        if self._process is not None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """End it as a power cut would; a no-op when it has ended."""
        process = self._process
        if process is not None:
            process.kill()
            process.wait(_STOP_LIMIT_S)
            if process.stdin is not None:
                with contextlib.suppress(OSError):  # what was never read
                    process.stdin.close()

    def log_tail(self) -> str:
        """What it said last."""
        return self._log.read_text(errors="replace")[-_LOG_TAIL_CHARS:] if self._log.exists() else ""


class World:
    """Broker, coordinator and agents.

    Attributes:
        runs: the folder of the run.
        lines: of each party but the broker.
    """

    def __init__(self, home: Path, rounds: int) -> None:
        self.runs = home / "runs"
        names = [COORDINATOR_ID, *(name for group in AGENTS.values() for name in group)]
        self._passwords = {name: secrets.token_urlsafe(12) for name in names}
        limits = limits_for(MODEL_BYTES, NUM_AGENTS)
        self._broker = PrivateBroker(home / "broker", self._passwords, limits=limits)
        self._broker.start()
        self.lines = {party: Proxy(self._broker.port) for party in TARGETS.lines}
        self._parties = {
            COORDINATOR_ID: self._coordinator(home, rounds),
            **{party: self._real_agent(home, party) for party in (SPARED, KILLED)},
            **{party: self._echo_agents(home, party) for party in (ECHO_SPARED, ECHO_KILLED)},
        }

    def __enter__(self) -> Self:
        for party in self._parties.values():
            party.start()
        return self

    def __exit__(self, *_: object) -> None:
        for party in self._parties.values():
            party.kill()
        for line in self.lines.values():
            line.close()
        self._broker.stop()

    @property
    def pids(self) -> Iterator[tuple[str, int]]:
        """Every party's process."""
        yield BROKER, self._broker.pid
        for name, party in self._parties.items():
            yield name, party.pid

    @property
    def finished(self) -> bool:
        """True when the coordinator has ended well.

        Raises:
            FederationError: it, an agent or the broker has ended otherwise; the text holds the end of its log.
        """
        for name, party in self._parties.items():
            code = party.exit_code
            if code is not None and (name != COORDINATOR_ID or code != 0):
                raise FederationError(f"{name} ended by itself with code {code}: {party.log_tail()}")
        if not self._broker.running:
            raise FederationError("the broker ended by itself")
        return self._parties[COORDINATOR_ID].exit_code == 0

    def kill_agent(self, party: str) -> None:
        """Kill an agents' process and start it again."""
        self._parties[party].kill()
        self._parties[party].start()

    def suspend(self, party: str) -> None:
        """Freeze a process."""
        self._parties[party].signal(signal.SIGSTOP)

    def wake(self, party: str) -> None:
        """Let it go on."""
        self._parties[party].signal(signal.SIGCONT)

    def kill_coordinator(self) -> None:
        """Kill the coordinator and resume its run; a no-op when it has just ended."""
        coordinator = self._parties[COORDINATOR_ID]
        if coordinator.exit_code is None:
            coordinator.kill()
            command = [sys.executable, "-m", "coordinator.cli", "resume", RUN_ID, "--runs", str(self.runs), "--json"]
            coordinator.start(command)

    def kill_broker(self) -> None:
        """Kill the broker and start it again."""
        self._broker.kill()
        self._broker.start()

    def restart_broker(self) -> None:
        """Let the broker end in good order and start it again."""
        self._broker.restart()

    def log_tails(self) -> str:
        """What everybody said last."""
        return "\n".join(f"--- {name}: {party.log_tail()}" for name, party in self._parties.items())

    def _broker_section(self, folder: Path, party: str, user: str) -> dict[str, object]:
        section = broker_section(folder, user, self.lines[party].port, self._passwords[user])
        return section | {"keep_alive_s": _KEEP_ALIVE_S}

    def _coordinator(self, home: Path, rounds: int) -> Party:
        options: dict[str, dict[str, Any]] = {
            "broker": self._broker_section(home, COORDINATOR_ID, COORDINATOR_ID),
            "training": {"model": "cnn", "local_batches": 1},
            "rounds": {
                "count": rounds,
                "min_agents": NUM_AGENTS,
                "min_updates": NUM_AGENTS // 3,
                "deadline_s": _DEADLINE_S,
                "max_attempts": 1000,
                "patience_s": 600.0,
            },
            "data": {"dataset": "none"},
        }
        lines = [f'run_id = "{RUN_ID}"', f"runs_folder = {json.dumps(str(self.runs))}"]
        for section, values in options.items():
            lines += [f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
        config = home / "run.toml"
        config.write_text("\n".join(lines) + "\n")
        command = [sys.executable, "-m", "coordinator.cli", "run", str(config), "--json"]
        return Party(COORDINATOR_ID, command, home / "coordinator.log")

    def _real_agent(self, home: Path, party: str) -> Party:
        name = AGENTS[party][0]
        folder = home / name
        rng = np.random.default_rng(len(party))
        images = rng.integers(0, 256, (_NUM_EXAMPLES, 1, 28, 28), dtype=np.uint8)
        labels = rng.integers(0, 10, _NUM_EXAMPLES)
        write_folder(folder / "data", Examples(images, labels.astype(np.int64), 10, "noise"))
        config = write_agent_config(folder, name, self._broker_section(folder, party, name))
        return Party(party, [sys.executable, "-m", "edge_agent.cli", "run", str(config)], folder / "agent.log")

    def _echo_agents(self, home: Path, party: str) -> Party:
        names = AGENTS[party]
        port = str(self.lines[party].port)
        command = [sys.executable, "-m", "benchmarks.echo_agents", port, str(home / "agents"), *names]
        first_line = json.dumps({name: self._passwords[name] for name in names})
        return Party(party, command, home / f"{names[0]}.log", first_line)
