"""A whole federation of echo agents on loopback: broker, agents' processes, coordinator's process, one run.

Used by every benchmark that measures the system without training. What it gives back are the raw measurements;
`overhead.py` and `wire.py` work out what they mean.
"""

import contextlib
import json
import resource
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.processes import peak_rss_mb
from coordinator.demo_agents import broker_section
from coordinator.run_folder import RunFolder
from coordinator.summary import reports_of, rounds_of
from mosquitto.broker import PrivateBroker
from mosquitto.sizing import limits_for
from schemas.errors import FederationError
from schemas.identifiers import COORDINATOR_ID
from schemas.records import DeviceRecord, RoundRecord

AGENTS_PER_PROCESS = 50
_LIMIT_S = 900.0
_STOP_LIMIT_S = 60.0


@dataclass(frozen=True, slots=True)
class EchoRun:
    """The raw measurements of a run.

    Attributes:
        stamps: for each round, when it was on disk and what coordinator and broker had used by then.
        agents: what each agents' process had used at the end, see `echo_agents`.
        rounds, reports: the run's records.
        coordinator_rss_mb, broker_rss_mb: peaks.
    """

    stamps: list[dict[str, Any]]
    agents: list[dict[str, Any]]
    rounds: list[RoundRecord]
    reports: list[DeviceRecord]
    coordinator_rss_mb: float
    broker_rss_mb: float


def run_echo(folder: Path, num_agents: int, rounds: int, model: str, model_bytes: int) -> EchoRun:
    """Run `rounds` rounds with echo agents; the files of the run lie below `folder` while it goes on.

    Raises:
        FederationError: something is missing on this machine, or a process failed.
    """
    names = [f"echo-{number:04d}" for number in range(num_agents)]
    passwords = {name: secrets.token_urlsafe(8) for name in [COORDINATOR_ID, *names]}
    allow_many_files(num_agents)
    with tempfile.TemporaryDirectory(dir=folder, prefix="echo-") as scratch:
        home = Path(scratch)
        limits = limits_for(2 * model_bytes, num_agents)
        with PrivateBroker(home / "broker", passwords, limits=limits) as broker:
            user = broker_section(home, COORDINATOR_ID, broker.port, passwords[COORDINATOR_ID])
            options = _run_options(home, num_agents, rounds, model, user)
            with _agents(broker.port, home, passwords, names) as agents:
                printed = _coordinate(options, broker.pid)
                used = [_ask(process) for process in agents]
            broker_rss_mb = peak_rss_mb(broker.pid)
        records = RunFolder.open(home, "echo").records()
    return EchoRun(
        stamps=printed["rounds"],
        agents=used,
        rounds=rounds_of(records),
        reports=reports_of(records),
        coordinator_rss_mb=printed["peak_rss_mb"],
        broker_rss_mb=broker_rss_mb,
    )


def allow_many_files(num_agents: int) -> None:
    """Raise our own limit of open files, which children inherit, as far as it is needed and allowed."""
    wanted = 3 * num_agents + 256
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _run_options(
    home: Path, num_agents: int, rounds: int, model: str, broker: Mapping[str, object]
) -> dict[str, object]:
    return {
        "run_id": "echo",
        "runs_folder": str(home),
        "broker": dict(broker),
        "training.model": model,
        "training.local_batches": 1,
        "rounds.count": rounds,
        "rounds.min_agents": num_agents,
        "rounds.min_updates": num_agents,
        "rounds.deadline_s": _LIMIT_S,
        "rounds.patience_s": _LIMIT_S,
        "data.dataset": "none",
    }


def _coordinate(options: Mapping[str, object], broker_pid: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.stamped_coordinator", str(broker_pid)]
    try:
        done = subprocess.run(
            command, input=json.dumps(options), capture_output=True, text=True, check=False, timeout=_LIMIT_S
        )
    except subprocess.TimeoutExpired as error:
        raise FederationError(f"the echo run came to no end within {_LIMIT_S:g} s") from error
    printed: dict[str, Any] = json.loads(done.stdout) if done.stdout.startswith("{") else {}
    if printed.get("outcome") != "finished":
        detail = printed.get("detail") or done.stderr.strip()[-500:]
        raise FederationError(f"the echo run failed: {detail}")
    return printed


@contextlib.contextmanager
def _agents(
    port: int, home: Path, passwords: Mapping[str, str], names: list[str]
) -> Iterator[list["subprocess.Popen[str]"]]:
    size = 1 if len(names) <= AGENTS_PER_PROCESS else AGENTS_PER_PROCESS
    groups = [names[first : first + size] for first in range(0, len(names), size)]
    processes: list[subprocess.Popen[str]] = []
    try:
        for group in groups:
            command = [sys.executable, "-m", "benchmarks.echo_agents", str(port), str(home / "agents"), *group]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            processes.append(process)
            _tell(process, json.dumps({name: passwords[name] for name in group}))
        yield processes
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.communicate(timeout=_STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()


def _tell(process: "subprocess.Popen[str]", line: str) -> None:
    assert process.stdin is not None  # noqa: S101 - for the type checker
    process.stdin.write(line + "\n")
    process.stdin.flush()


def _ask(process: "subprocess.Popen[str]") -> dict[str, Any]:
    assert process.stdout is not None  # noqa: S101 - for the type checker
    _tell(process, "")
    answer = process.stdout.readline()
    if not answer:
        raise FederationError("a process of echo agents ended before its time")
    used: dict[str, Any] = json.loads(answer)
    return used
