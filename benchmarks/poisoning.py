"""Accuracy with one malicious agent of five, and with none, for every way to put updates together; simulated.

The agent attacks with what it sends; the coordinator's own engine, checks and aggregation see it as they would a real
one's. The strategy is FedAvg, so that aggregation is all that differs.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from benchmarks.bars import grouped_bars
from benchmarks.convergence import TUNED_RATES
from benchmarks.result import Column, Result, Row, Say
from coordinator.demo import DemoSettings, demo_config, load_demo_data
from coordinator.report.plots import Theme
from coordinator.run_folder import RunFolder
from coordinator.strategies import AGGREGATIONS
from coordinator.summary import rounds_of
from edge_agent.trainer import RoomTrainer, RoundTrainer
from learning.datasets import Dataset
from learning.partition import partition
from simulation.attack import ATTACKS, MaliciousTrainer
from simulation.runner import World, simulate_with

HEIGHT_IN = 5.6
NO_ATTACK = "none"

COLUMNS = (
    Column("partition", "partition"),
    Column("aggregation", "aggregation"),
    Column("none_mean", "no attack, %", 1, 100),
    Column("none_min", "lowest", 1, 100),
    Column("sign-flip_mean", "sign flipped, %", 1, 100),
    Column("sign-flip_min", "lowest", 1, 100),
    Column("scaled_mean", "scaled, %", 1, 100),
    Column("scaled_min", "lowest", 1, 100),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What to run: every rule with every attack on every partition."""

    aggregations: tuple[str, ...] = AGGREGATIONS
    partitions: tuple[str, ...] = ("iid", "digit-pairs")
    seeds: int = 3
    rounds: int = 10
    local_batches: int = 10
    quick: bool = False


def run(settings: Settings, folder: Path, say: Say) -> Result:
    """One row per partition and rule: the accuracy after the last round."""
    if settings.quick:
        settings = replace(settings, seeds=1, rounds=2, partitions=settings.partitions[:1])
    demo = DemoSettings(runs_folder=folder / "runs", rounds=settings.rounds, local_batches=settings.local_batches)
    dataset, name = load_demo_data(demo)
    rows: list[Row] = []
    for scheme in settings.partitions:
        for rule in settings.aggregations:
            say(f"{scheme}, {rule}: {settings.seeds} seeds of {settings.rounds} rounds on {name}, each attack")
            one = replace(demo, partition=scheme, aggregation=rule, learning_rate=TUNED_RATES.get(scheme))
            row: Row = {"partition": scheme, "aggregation": rule}
            for attack in (NO_ATTACK, *ATTACKS):
                found = [final_accuracy(replace(one, seed=s), attack, dataset, name) for s in _seeds(settings)]
                row |= {f"{attack}_mean": fmean(found), f"{attack}_min": min(found), f"{attack}_by_seed": found}
            rows.append(row)
    return Result(
        settings={"strategy": "fedavg", "local_batches": settings.local_batches, "rounds": settings.rounds}
        | {"seeds": settings.seeds, "data": name, "agents": demo.devices, "attackers": 1},
        rows=rows,
        columns=COLUMNS,
        notes=(
            f"test accuracy after round {settings.rounds}, mean and lowest of {settings.seeds} seeds;",
            "one of five agents sends the model less 5 times its step (sign flipped), or plus 20 times (scaled)",
        ),
    )


def _seeds(settings: Settings) -> range:
    return range(1, settings.seeds + 1)


def final_accuracy(demo: DemoSettings, attack: str, dataset: Dataset, name: str) -> float:
    """The accuracy after the last round that came about, with room-1 attacking."""
    parts = partition(dataset.train.labels, demo.devices, demo.partition, demo.seed, demo.alpha)
    trainers: dict[str, RoundTrainer] = {
        f"room-{i}": RoomTrainer(f"room-{i}", dataset.train.take(indices)) for i, indices in enumerate(parts, start=1)
    }
    if attack != NO_ATTACK:
        trainers["room-1"] = MaliciousTrainer(trainers["room-1"], ATTACKS[attack])
    run_id = f"{demo.partition}-{demo.aggregation}-{attack}-seed{demo.seed}"
    simulate_with(demo_config(demo, name, run_id, {}), trainers, World())
    rounds = rounds_of(RunFolder.open(demo.runs_folder, run_id).records(("round",)))
    return rounds[-1].accuracy or 0.0 if rounds else 0.0


def draw(figure: Figure, theme: Theme, result: Result) -> None:
    """Accuracy by rule, with and without an attacker, one picture per partition."""
    schemes = list(dict.fromkeys(row["partition"] for row in result.rows))
    series = (
        ("no attack", "none_mean", theme.muted),
        ("sign flipped", "sign-flip_mean", theme.compute),
        ("scaled", "scaled_mean", theme.highlight),
    )
    for axes, scheme in zip(figure.subplots(len(schemes), 1, squeeze=False)[:, 0], schemes, strict=True):
        rows = [row for row in result.rows if row["partition"] == scheme]
        grouped_bars(axes, rows, [row["aggregation"].replace("-", "-\n") for row in rows], series)
        _label(axes, scheme, result)


def _label(axes: Any, scheme: str, result: Result) -> None:
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_ylim(0, 1.3)
    axes.set_yticks([0.0, 0.25, 0.5, 0.75, 1.0])
    axes.set(title=f"{scheme}: accuracy after round {result.settings['rounds']}, one attacker of five")
