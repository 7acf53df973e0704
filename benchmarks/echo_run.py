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
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.broker_counts import BrokerCounts, read_counts
from benchmarks.certificates import make_certificates
from benchmarks.processes import peak_rss_mb
from benchmarks.result import Say
from coordinator.checkpoints import saved_rounds
from coordinator.demo_agents import broker_section
from coordinator.run_folder import RunFolder
from coordinator.summary import reports_of, rounds_of
from mosquitto.broker import PrivateBroker
from mosquitto.render import BrokerSettings
from mosquitto.sizing import BrokerLimits, limits_for
from schemas.errors import FederationError
from schemas.identifiers import COORDINATOR_ID, MONITOR_ID
from schemas.records import DeviceRecord, RoundRecord
from transport.address import BrokerAddress

AGENTS_PER_PROCESS = 50
SYS_INTERVAL_S = 1
"""How often the broker publishes its own counts."""

_CONNECTING_AT_ONCE = 2
_POLL_S = 0.1
_SAY_EVERY_S = 20.0
_STOP_LIMIT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EchoPlan:
    """What to run.

    Attributes:
        model_bytes: of one blob: the broker's limits follow from it.
        agents_per_process: up to `AGENTS_PER_PROCESS` agents have a process each, when not given.
        limit_s: the run fails when it takes longer.
        over_tls: agents connect with certificates; the coordinator as ever.
    """

    num_agents: int
    rounds: int
    model: str
    model_bytes: int
    agents_per_process: int | None = None
    limit_s: float = 900.0
    over_tls: bool = False

    @property
    def limits(self) -> BrokerLimits:
        """The broker's, as documented."""
        return limits_for(2 * self.model_bytes, self.num_agents)

    @property
    def groups(self) -> list[list[str]]:
        """The agents' names, process by process."""
        names = [f"echo-{number:04d}" for number in range(self.num_agents)]
        size = self.agents_per_process or (1 if len(names) <= AGENTS_PER_PROCESS else AGENTS_PER_PROCESS)
        return [names[first : first + size] for first in range(0, len(names), size)]


@dataclass(frozen=True, slots=True)
class EchoRun:
    """The raw measurements of a run.

    Attributes:
        stamps: for each round, when it was on disk and what coordinator and broker had used by then.
        port: of the broker, that the agents connected to.
        agents: what each agents' process had used at the end, see `echo_agents`.
        rounds, reports: the run's records.
        coordinator_rss_mb, broker_rss_mb: peaks.
        broker: what the broker counted, see `BrokerCounts`.
    """

    port: int
    stamps: list[dict[str, Any]]
    agents: list[dict[str, Any]]
    rounds: list[RoundRecord]
    reports: list[DeviceRecord]
    coordinator_rss_mb: float
    broker_rss_mb: float
    broker: BrokerCounts


def run_echo(
    folder: Path, plan: EchoPlan, say: Say = lambda _text: None, at_end: Callable[[], None] = lambda: None
) -> EchoRun:
    """Run rounds with echo agents; the files of the run lie below `folder` while it goes on.

    Args:
        say: is told now and then how far it is.
        at_end: is called when the agents have said what they used, and are still connected.

    Raises:
        FederationError: something is missing on this machine, or a process failed.
    """
    names = [name for group in plan.groups for name in group]
    passwords = {name: secrets.token_urlsafe(8) for name in [COORDINATOR_ID, MONITOR_ID, *names]}
    allow_many_files(plan.num_agents)
    with tempfile.TemporaryDirectory(dir=folder, prefix="echo-") as scratch:
        home = Path(scratch)
        settings = BrokerSettings(limits=plan.limits, sys_interval_s=SYS_INTERVAL_S)
        tls = make_certificates(home / "tls", names) if plan.over_tls else None
        with PrivateBroker(home / "broker", passwords, limits=plan.limits, settings=settings, tls=tls) as broker:
            user = broker_section(home, COORDINATOR_ID, broker.port, passwords[COORDINATOR_ID])
            with _agents(broker.tls_port or broker.port, home, passwords, plan, say) as agents:
                printed = _coordinate(_run_options(home, plan, user), broker.pid, plan.limit_s, say)
                used = [_ask(process) for process in agents]
                at_end()
                counts = read_counts(BrokerAddress(broker.host, broker.port, MONITOR_ID, passwords[MONITOR_ID]))
            broker_rss_mb, port = peak_rss_mb(broker.pid), broker.tls_port or broker.port
        records = RunFolder.open(home, "echo").records()
    return EchoRun(
        port=port,
        stamps=printed["rounds"],
        agents=used,
        rounds=rounds_of(records),
        reports=reports_of(records),
        coordinator_rss_mb=printed["peak_rss_mb"],
        broker_rss_mb=broker_rss_mb,
        broker=counts,
    )


def allow_many_files(num_agents: int) -> None:
    """Raise our own limit of open files, which children inherit, as far as it is needed and allowed."""
    wanted = 3 * num_agents + 256
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _run_options(home: Path, plan: EchoPlan, broker: Mapping[str, object]) -> dict[str, object]:
    return {
        "run_id": "echo",
        "runs_folder": str(home),
        "broker": dict(broker),
        "training.model": plan.model,
        "training.local_batches": 1,
        "rounds.count": plan.rounds,
        "rounds.min_agents": plan.num_agents,
        "rounds.min_updates": plan.num_agents,
        "rounds.deadline_s": plan.limit_s,
        "rounds.patience_s": plan.limit_s,
        "data.dataset": "none",
    }


def _coordinate(options: Mapping[str, Any], broker_pid: int, limit_s: float, say: Say) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.stamped_coordinator", str(broker_pid)]
    checkpoints = Path(options["runs_folder"]) / "echo" / "checkpoints"
    give_up_s = time.monotonic() + limit_s
    pipe = subprocess.PIPE
    settings: str | None = json.dumps(options)
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            while True:
                try:
                    out, errors = process.communicate(settings, timeout=_SAY_EVERY_S)
                    break
                except subprocess.TimeoutExpired as error:
                    settings = None  # it is on its way
                    say(f"{max(saved_rounds(checkpoints), default=0)} of {options['rounds.count']} rounds are closed")
                    if time.monotonic() > give_up_s:
                        raise FederationError(f"the echo run came to no end within {limit_s:g} s") from error
        finally:
            process.kill()
    printed: dict[str, Any] = json.loads(out) if out.startswith("{") else {}
    if printed.get("outcome") != "finished":
        detail = printed.get("detail") or errors.strip()[-500:]
        raise FederationError(f"the echo run failed: {detail}")
    return printed


@contextlib.contextmanager
def _agents(
    port: int, home: Path, passwords: Mapping[str, str], plan: EchoPlan, say: Say
) -> Iterator[list["subprocess.Popen[str]"]]:
    processes: list[subprocess.Popen[str]] = []
    try:
        for group in plan.groups:
            if len(group) > 1 and len(processes) >= _CONNECTING_AT_ONCE:
                # A thousand agents that knock all at once keep each other waiting beyond their patience.
                _wait_until_connected(processes[-_CONNECTING_AT_ONCE], plan.limit_s)
                connected = sum(len(done) for done in plan.groups[: len(processes) - _CONNECTING_AT_ONCE + 1])
                say(f"{connected:,} of {plan.num_agents:,} agents are connected")
            tls = ["--tls", str(home / "tls")] if plan.over_tls else []
            command = [sys.executable, "-m", "benchmarks.echo_agents", str(port), str(home / "agents"), *tls, *group]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            processes.append(process)
            _tell(process, json.dumps({name: passwords[name] for name in group}))
        yield processes
    finally:
        for process in processes:
            process.terminate()
        give_up_s = time.monotonic() + _STOP_LIMIT_S
        for process in processes:
            try:
                process.communicate(timeout=max(0.0, give_up_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()


def _wait_until_connected(process: "subprocess.Popen[str]", limit_s: float) -> None:
    give_up_s = time.monotonic() + limit_s
    while (used := _ask(process))["connected"] < used["agents"]:
        if time.monotonic() > give_up_s:
            raise FederationError(
                f"{used['connected']} of a process's {used['agents']} agents connected in {limit_s:g} s"
            )
        time.sleep(_POLL_S)


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
