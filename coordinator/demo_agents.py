"""The demo's agents: real `edge-agent` processes on this machine, each with its own folder, user and password."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from schemas.errors import FederationError

STOP_LIMIT_S = 120.0
"""An agent that has something to do ends in a second; one on a machine that is busy with other things may not."""

_LOG_TAIL_CHARS = 500


class AgentProcesses:
    """Agents that were started here. One that ends on its own stops us, too: the demo cannot go on without it."""

    def __init__(self) -> None:
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._logs: dict[str, Path] = {}
        self._ending = False

    def start(self, name: str, config_file: Path) -> None:
        """Start one."""
        log = config_file.with_name("agent.log")
        self._logs[name] = log
        command = [sys.executable, "-m", "edge_agent.cli", "run", str(config_file), "--json"]
        with log.open("w") as stderr:
            # Its own process group: Ctrl-C reaches the demo alone, which then ends its parts in order.
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, process_group=0)
        self._processes[name] = process
        threading.Thread(target=self._watch, args=(process,), daemon=True).start()

    def stop(self) -> dict[str, dict[str, int]]:
        """Ask every agent to stop; the total traffic that each of them printed.

        Raises:
            FederationError: an agent had failed; the text holds the end of its log.
        """
        self._ending = True
        for process in self._processes.values():
            process.terminate()
        totals = {}
        for name, process in self._processes.items():
            try:
                printed, _ = process.communicate(timeout=STOP_LIMIT_S)
                totals[name] = json.loads(printed)["traffic"]
            except subprocess.TimeoutExpired as error:
                raise self._failure(name, f"did not end within {STOP_LIMIT_S:g} s") from error
            except ValueError as error:
                raise self._failure(name, "failed") from error
        return totals

    def _failure(self, name: str, what: str) -> FederationError:
        tail = self._logs[name].read_text()[-_LOG_TAIL_CHARS:].strip()
        return FederationError(f"agent {name} {what}; the end of {self._logs[name]}: {tail}")

    def kill(self) -> None:
        """End whatever still runs."""
        self._ending = True
        for process in self._processes.values():
            if process.poll() is None:
                process.kill()
            process.communicate()

    def _watch(self, process: "subprocess.Popen[str]") -> None:
        process.wait()
        if not self._ending:
            os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def agent_processes(
    home: Path, names: Iterable[str], port: int, passwords: Mapping[str, str]
) -> Iterator[AgentProcesses]:
    """Agents that run until the block ends; their data lies in `home`/NAME/data already."""
    agents = AgentProcesses()
    try:
        for name in names:
            folder = home / name
            agents.start(name, write_agent_config(folder, name, broker_section(folder, name, port, passwords[name])))
        yield agents
    finally:
        agents.kill()


def broker_section(folder: Path, user: str, port: int, password: str) -> dict[str, object]:
    """The `[broker]` of a party on this machine, whose password is written to a file in `folder`."""
    password_file = folder / f"{user}.password"
    password_file.touch(mode=0o600)
    password_file.write_text(password + "\n")
    return {"port": port, "username": user, "password_file": str(password_file.resolve())}


def write_agent_config(folder: Path, agent_id: str, broker: Mapping[str, object]) -> Path:
    """Write `agent.toml` for an agent whose data lies in `folder`/data."""
    lines = [
        f'agent_id = "{agent_id}"',
        'data_folder = "data"',
        'state_folder = "state"',
        "[broker]",
        *(f"{key} = {json.dumps(value)}" for key, value in broker.items()),
    ]
    path = folder / "agent.toml"
    path.write_text("\n".join(lines) + "\n")
    return path
