"""The main job on one machine: a private broker, five agent processes, a coordinator, real training.

Everything runs as it would in a building (its own users, passwords and topic rights), only on loopback. Returns
one result object; printing it is the command line's business.
"""

import contextlib
import json
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from coordinator.config import RunConfig
from coordinator.run import RunResult, start
from coordinator.run_folder import RunFolder, new_run_id
from coordinator.service import Observer
from learning.datasets import Dataset, load_dataset
from learning.folders import write_folder
from learning.mnist import DatasetUnavailable
from learning.partition import partition
from mosquitto.broker import PrivateBroker
from mosquitto.sizing import limits_for
from schemas.errors import FederationError
from schemas.identifiers import COORDINATOR_ID
from schemas.records import DeviceRecord, RoundRecord

STOP_LIMIT_S = 15.0
MODEL_BYTES_AT_MOST = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSettings:
    """What the demo runs.

    Attributes:
        devices: agent processes, named room-1, room-2 and so on.
        data: folder of MNIST; looked for in the usual places when None.
        strategy, codec: how updates are put together and how they are sent.
    """

    runs_folder: Path
    devices: int = 5
    rounds: int = 25
    target_accuracy: float | None = None
    partition: str = "digit-pairs"
    local_batches: int = 10
    batch_size: int = 16
    learning_rate: float = 0.05
    model: str = "cnn"
    strategy: str = "fedavg"
    codec: str = "fp32"
    seed: int = 1
    data: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """What came of it; the fields of `--json`.

    Attributes:
        rounds_to_target: None when the target was never reached, or none was set.
        wall_s: from the first process started to the result.
        train_s_per_device: mean over the devices of their training seconds in the whole run.
        packet_bytes_per_device: mean over the devices, whole run: MQTT control packets of every kind.
    """

    dataset: str
    partition: str
    strategy: str
    codec: str
    local_batches: int
    batch_size: int
    devices: int
    rounds: int
    final_accuracy: float | None
    accuracy_by_round: list[float | None]
    rounds_to_target: int | None
    target_accuracy: float | None
    wall_s: float
    train_s_per_device: float
    packet_bytes_per_device: dict[str, int]
    refused_updates: int
    model_sha256: str
    outcome: str
    run_id: str
    run_dir: str


def load_demo_data(settings: DemoSettings) -> tuple[Dataset, str]:
    """MNIST, or the bundled 8x8 digits where there is no copy and no network; with the name of the data set."""
    suffix = "-rgb32" if settings.model == "mlp" else ""
    if settings.model == "lstm":
        return load_dataset("sequences"), "sequences"
    try:
        return load_dataset(f"mnist{suffix}", settings.data), f"mnist{suffix}"
    except DatasetUnavailable:
        return load_dataset(f"digits{suffix}"), f"digits{suffix}"


def run_demo(
    settings: DemoSettings, dataset: Dataset, dataset_name: str, observe: Callable[[RunConfig], Observer]
) -> DemoResult:
    """Run the demo to its end.

    Args:
        observe: makes the display of a run from its configuration.

    Raises:
        FederationError: something is missing on this machine; the text says what to do.
    """
    run_id = new_run_id()
    names = [f"room-{i}" for i in range(1, settings.devices + 1)]
    # Agents and broker have their files beside the runs, as they would have them on other machines.
    home = settings.runs_folder / f"{run_id}.demo"
    passwords = {name: secrets.token_urlsafe(24) for name in [COORDINATOR_ID, *names]}
    parts = partition(dataset.train.labels, settings.devices, settings.partition, settings.seed)
    for name, indices in zip(names, parts, strict=True):
        write_folder(home / name / "data", dataset.train.take(indices))
    limits = limits_for(MODEL_BYTES_AT_MOST, settings.devices)
    begin_s = time.monotonic()
    with PrivateBroker(home / "broker", passwords, limits=limits) as broker:
        config = _run_config(settings, dataset_name, run_id, home, broker.port, passwords)
        with _agents(home, names, broker.port, passwords) as agents:
            with _shown(observe(config)) as observer:
                result = start(config, observer)
            totals = agents.stop()
    return _summary(settings, dataset_name, result, totals, time.monotonic() - begin_s)


@contextlib.contextmanager
def _shown(observer: Observer) -> Iterator[Observer]:
    with observer if isinstance(observer, contextlib.AbstractContextManager) else contextlib.nullcontext():
        yield observer


def _run_config(
    settings: DemoSettings, dataset: str, run_id: str, home: Path, port: int, passwords: Mapping[str, str]
) -> RunConfig:
    return RunConfig.model_validate(
        {
            "run_id": run_id,
            "runs_folder": settings.runs_folder,
            "broker": _broker_section(home / "broker", COORDINATOR_ID, port, passwords),
            "training": {
                "model": settings.model,
                "local_batches": settings.local_batches,
                "batch_size": settings.batch_size,
                "learning_rate": settings.learning_rate,
                "strategy": settings.strategy,
                "seed": settings.seed,
            },
            "rounds": {
                "count": settings.rounds,
                "target_accuracy": settings.target_accuracy,
                "min_agents": settings.devices,
                "min_updates": settings.devices,
                "deadline_s": 300.0,
                "patience_s": 120.0,
            },
            "data": {"dataset": dataset, "folder": settings.data},
        }
    )


def _broker_section(folder: Path, user: str, port: int, passwords: Mapping[str, str]) -> dict[str, object]:
    password_file = folder / f"{user}.password"
    password_file.touch(mode=0o600)
    password_file.write_text(passwords[user] + "\n")
    return {"port": port, "username": user, "password_file": str(password_file.resolve())}


class _Agents:
    """The agent processes of a demo."""

    def __init__(self) -> None:
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._logs: dict[str, Path] = {}

    def start(self, name: str, config_file: Path) -> None:
        log = config_file.with_name("agent.log")
        self._logs[name] = log
        command = [sys.executable, "-m", "edge_agent.cli", "run", str(config_file), "--json"]
        with log.open("w") as stderr:
            self._processes[name] = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)

    def stop(self) -> dict[str, dict[str, int]]:
        """Ask every agent to stop; the total traffic that each of them printed.

        Raises:
            FederationError: an agent had failed; the text holds the end of its log.
        """
        for process in self._processes.values():
            process.terminate()
        totals = {}
        for name, process in self._processes.items():
            try:
                printed, _ = process.communicate(timeout=STOP_LIMIT_S)
                totals[name] = json.loads(printed)["traffic"]
            except (subprocess.TimeoutExpired, ValueError) as error:
                tail = self._logs[name].read_text()[-500:]
                raise FederationError(f"agent {name} did not end as it should: {tail}") from error
        return totals

    def kill(self) -> None:
        """End whatever still runs."""
        for process in self._processes.values():
            if process.poll() is None:
                process.kill()
            process.communicate()


@contextlib.contextmanager
def _agents(home: Path, names: list[str], port: int, passwords: Mapping[str, str]) -> Iterator[_Agents]:
    agents = _Agents()
    try:
        for name in names:
            agents.start(
                name, write_agent_config(home / name, name, _broker_section(home / name, name, port, passwords))
            )
        yield agents
    finally:
        agents.kill()


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


def _summary(
    settings: DemoSettings, dataset: str, result: RunResult, totals: Mapping[str, Mapping[str, int]], wall_s: float
) -> DemoResult:
    records = RunFolder.open(settings.runs_folder, result.run_id).records()
    rounds = [record for record in records if isinstance(record, RoundRecord)]
    devices = [record for record in records if isinstance(record, DeviceRecord)]
    accuracies = [record.accuracy for record in rounds]
    target = settings.target_accuracy
    reached = [
        record.round_number
        for record in rounds
        if target is not None and record.accuracy is not None and record.accuracy >= target
    ]
    return DemoResult(
        dataset=dataset.removesuffix("-rgb32"),
        partition=settings.partition,
        strategy=settings.strategy,
        codec=settings.codec,
        local_batches=settings.local_batches,
        batch_size=settings.batch_size,
        devices=settings.devices,
        rounds=len(rounds),
        final_accuracy=accuracies[-1] if accuracies else None,
        accuracy_by_round=accuracies,
        rounds_to_target=min(reached, default=None),
        target_accuracy=target,
        wall_s=round(wall_s, 3),
        train_s_per_device=round(sum(record.report.train_s for record in devices) / settings.devices, 3),
        packet_bytes_per_device={
            direction: round(sum(total[f"packet_bytes_{direction}"] for total in totals.values()) / len(totals))
            for direction in ("up", "down")
        },
        refused_updates=sum(sum(sum(r.values()) for r in record.refused.values()) for record in rounds),
        model_sha256=result.model_sha256,
        outcome=result.outcome,
        run_id=result.run_id,
        run_dir=str(result.folder),
    )


def as_dict(result: DemoResult) -> dict[str, object]:
    """The result as plain data."""
    return asdict(result)
