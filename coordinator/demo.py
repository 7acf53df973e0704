"""The main job on one machine: a private broker, five agent processes, a coordinator, real training.

Everything runs as it would in a building (its own users, passwords and topic rights), only on loopback. Returns
one result object; printing it is the command line's business.
"""

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from coordinator import summary
from coordinator.config import RunConfig
from coordinator.demo_agents import agent_processes, broker_section
from coordinator.run import RunResult, start
from coordinator.run_folder import RunFolder, new_run_id
from coordinator.service import Observer
from learning.datasets import Dataset, load_dataset
from learning.folders import write_folder
from learning.mnist import DatasetUnavailable
from learning.partition import partition
from mosquitto.broker import PrivateBroker, find_mosquitto
from mosquitto.sizing import limits_for
from schemas.identifiers import COORDINATOR_ID
from transport.settings import settings_from

MODEL_BYTES_AT_MOST = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSettings:
    """What the demo runs.

    Attributes:
        devices: agent processes, named room-1, room-2 and so on.
        data: folder of MNIST; looked for in the usual places when None.
        strategy, codec: how updates are put together, and how updates and models are sent; the codec is the
            strategy's own when None.
        options: the strategy's own numbers, where they differ from its defaults or the preset's.
        aggregation: what puts updates together: `mean`, or a rule that withstands attackers.
        alpha: of the Dirichlet partition.
    """

    runs_folder: Path
    devices: int = 5
    rounds: int = 25
    target_accuracy: float | None = None
    partition: str = "digit-pairs"
    alpha: float = 0.5
    local_batches: int = 10
    batch_size: int = 16
    learning_rate: float | None = None
    model: str = "cnn"
    strategy: str = "fedavg"
    codec: str | None = None
    options: Mapping[str, float] = field(default_factory=dict)
    aggregation: str = "mean"
    seed: int = 1
    data: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """What came of it; the fields of `--json`.

    Attributes:
        rounds_to_target: None when the target was never reached, or none was set.
        wall_s: from the first process started to the result; data and report are made before and after.
        train_s_per_device: mean over the devices of their training seconds in the whole run.
        packet_bytes_per_device: mean over the devices, whole run: MQTT control packets of every kind.
        report: the HTML file.
    """

    dataset: str
    partition: str
    strategy: str
    codec: str
    model: str
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
    report: str = ""


def check_settings(settings: DemoSettings) -> None:
    """Find out what cannot work before anything is started.

    Raises:
        ConfigError: a value is wrong; the text names it.
        BrokerMissingError: Mosquitto is not installed; the text says how to.
    """
    demo_config(settings, "none", "check", {})
    find_mosquitto()


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
        FederationError: something is missing on this machine, or an agent failed; the text says what to do.
    """
    run_id = new_run_id()
    names = [f"room-{i}" for i in range(1, settings.devices + 1)]
    # Agents and broker have their files beside the runs, as they would have them on other machines.
    home = settings.runs_folder / f"{run_id}.demo"
    passwords = {name: secrets.token_urlsafe(24) for name in [COORDINATOR_ID, *names]}
    parts = partition(dataset.train.labels, settings.devices, settings.partition, settings.seed, settings.alpha)
    for name, indices in zip(names, parts, strict=True):
        write_folder(home / name / "data", dataset.train.take(indices))
    limits = limits_for(MODEL_BYTES_AT_MOST, settings.devices)
    begin_s = time.monotonic()
    with PrivateBroker(home / "broker", passwords, limits=limits) as broker:
        user = broker_section(home / "broker", COORDINATOR_ID, broker.port, passwords[COORDINATOR_ID])
        config = demo_config(settings, dataset_name, run_id, user)
        with agent_processes(home, names, broker.port, passwords) as agents:
            with _shown(observe(config)) as observer:
                result = start(config, observer)
            totals = agents.stop()
    return demo_result(settings, dataset_name, result, totals, time.monotonic() - begin_s)


@contextlib.contextmanager
def _shown(observer: Observer) -> Iterator[Observer]:
    with observer if isinstance(observer, contextlib.AbstractContextManager) else contextlib.nullcontext():
        yield observer


def demo_config(settings: DemoSettings, dataset: str, run_id: str, broker: Mapping[str, object]) -> RunConfig:
    """The configuration of the run that the settings describe, on a broker.

    Raises:
        ConfigError: a value is wrong; the text names it.
    """
    return settings_from(
        RunConfig,
        {
            "run_id": run_id,
            "runs_folder": settings.runs_folder,
            "broker": dict(broker),
            "training.model": settings.model,
            "training.local_batches": settings.local_batches,
            "training.batch_size": settings.batch_size,
            "training.learning_rate": settings.learning_rate,
            "training.strategy": settings.strategy,
            "training.codec": settings.codec,
            "training.options": dict(settings.options),
            "training.seed": settings.seed,
            "aggregation.rule": settings.aggregation,
            "rounds.count": settings.rounds,
            "rounds.target_accuracy": settings.target_accuracy,
            "rounds.min_agents": settings.devices,
            "rounds.min_updates": settings.devices,
            "rounds.deadline_s": 300.0,
            "rounds.patience_s": 120.0,
            "data.dataset": dataset,
            "data.folder": settings.data,
            "data.partition": settings.partition,
        },
    )


def demo_result(
    settings: DemoSettings, dataset: str, result: RunResult, totals: Mapping[str, Mapping[str, int]], wall_s: float
) -> DemoResult:
    """Put the result together.

    Args:
        totals: by device, its `packet_bytes_up` and `packet_bytes_down` over the whole run.
    """
    records = RunFolder.open(settings.runs_folder, result.run_id).records()
    rounds = summary.rounds_of(records)
    whole = summary.total(records)
    config = demo_config(settings, "none", result.run_id, {})
    return DemoResult(
        dataset=dataset.removesuffix("-rgb32"),
        partition=settings.partition,
        strategy=settings.strategy,
        codec=str(config.training.codecs),
        model=settings.model,
        local_batches=settings.local_batches,
        batch_size=settings.batch_size,
        devices=settings.devices,
        rounds=whole.rounds_closed,
        final_accuracy=whole.final_accuracy,
        accuracy_by_round=[record.accuracy for record in rounds],
        rounds_to_target=summary.rounds_to_target(rounds, settings.target_accuracy),
        target_accuracy=settings.target_accuracy,
        wall_s=round(wall_s, 3),
        train_s_per_device=round(whole.train_s_per_device, 3),
        packet_bytes_per_device={
            direction: round(sum(total[f"packet_bytes_{direction}"] for total in totals.values()) / len(totals))
            for direction in ("up", "down")
        },
        refused_updates=whole.refused,
        model_sha256=result.model_sha256,
        outcome=result.outcome,
        run_id=result.run_id,
        run_dir=str(result.folder),
    )


def as_dict(result: DemoResult) -> dict[str, object]:
    """The result as plain data."""
    return asdict(result)
