"""Rounds and seconds to the study's targets, over batches per round, partitions and seeds; simulated, on all cores.

Training and evaluation are real. Seconds are those of the simulated devices, with the batch time of a Raspberry
Pi 4, as the study's are those of its devices; what the simulation itself took is stated beside.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from benchmarks.result import Column, Result, Row, Say
from coordinator.config import RunConfig
from coordinator.demo import DemoSettings, demo_config, load_demo_data
from coordinator.report.plots import Theme
from coordinator.run_folder import RunFolder
from coordinator.study import STUDY
from coordinator.summary import rounds_of, rounds_to_target
from learning.datasets import Dataset
from learning.partition import partition
from learning.threads import num_cores
from schemas.records import RoundRecord
from simulation.runner import World, simulate

HEIGHT_IN = 7.6
TARGETS = {"iid": 0.95, "digit-pairs": 0.85}
TUNED_RATES = {"iid": 0.1, "digit-pairs": 0.05}
"""Found on a validation split, for FedAvg; other strategies have their own."""

COLUMNS = (
    Column("partition", "partition"),
    Column("local_batches", "E"),
    Column("target", "target, %", 0, 100),
    Column("reached", "reached"),
    Column("rounds_mean", "rounds", 1),
    Column("rounds_min", "min"),
    Column("rounds_max", "max"),
    Column("seconds_mean", "device s", 1),
    Column("seconds_min", "min", 1),
    Column("seconds_max", "max", 1),
    Column("study_rounds", "study rounds"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What to run: every combination of these, at most `rounds` rounds each."""

    local_batches: tuple[int, ...] = (10, 20, 30, 40)
    partitions: tuple[str, ...] = ("iid", "digit-pairs")
    seeds: int = 5
    rounds: int = 40
    strategy: str = "fedavg"
    quick: bool = False


@dataclass(frozen=True, slots=True)
class _One:
    """One run: accuracy after each round, the round of the target, and the device seconds until then."""

    accuracy: list[float]
    rounds: int | None
    seconds: float | None


def run(settings: Settings, folder: Path, say: Say) -> Result:
    """One row per partition and E."""
    if settings.quick:
        settings = replace(settings, local_batches=settings.local_batches[:1], seeds=1, rounds=2)
    demo = DemoSettings(runs_folder=folder / "runs", rounds=settings.rounds, strategy=settings.strategy)
    dataset, name = load_demo_data(demo)
    rows = []
    begin_s = time.perf_counter()
    for scheme in settings.partitions:
        for batches in settings.local_batches:
            say(f"{scheme}, E={batches}: {settings.seeds} seeds of at most {settings.rounds} rounds on {name}")
            one = replace(demo, partition=scheme, local_batches=batches, target_accuracy=TARGETS.get(scheme, 0.85))
            if settings.strategy == "fedavg":
                one = replace(one, learning_rate=TUNED_RATES.get(scheme))
            runs = [run_one(replace(one, seed=seed), dataset, name) for seed in range(1, settings.seeds + 1)]
            rows.append(row_of(one, runs))
    return Result(
        settings={"strategy": settings.strategy, "seeds": settings.seeds, "rounds": settings.rounds, "data": name},
        rows=rows,
        columns=COLUMNS,
        summary={"simulated_in_s": round(time.perf_counter() - begin_s, 1)},
        references={
            "study": [f"{s.partition}, E={s.local_batches}: {s.rounds} rounds to {s.accuracy:.0%}" for s in STUDY]
        },
        notes=(
            "device seconds: the simulated devices', 25 ms a batch, which is about what a Raspberry Pi 4 takes;",
            "means over the runs that reached the target",
        ),
    )


def run_one(demo: DemoSettings, dataset: Dataset, name: str) -> _One:
    """One simulated run."""
    parts = partition(dataset.train.labels, demo.devices, demo.partition, demo.seed, demo.alpha)
    rooms = {f"room-{i}": dataset.train.take(indices) for i, indices in enumerate(parts, start=1)}
    run_id = f"{demo.partition}-e{demo.local_batches}-seed{demo.seed}"
    config: RunConfig = demo_config(demo, name, run_id, {})
    # A run of few devices and batches is over before other processes have started.
    processes = num_cores() if demo.local_batches * demo.rounds * demo.devices > 20_000 else 0
    simulate(config, rooms, World(processes=processes))
    rounds = rounds_of(RunFolder.open(demo.runs_folder, run_id).records(("round",)))
    reached = rounds_to_target(rounds, demo.target_accuracy)
    return _One([record.accuracy or 0.0 for record in rounds], reached, _seconds_until(rounds, reached))


def _seconds_until(rounds: list[RoundRecord], reached: int | None) -> float | None:
    if reached is None:
        return None
    return sum(record.duration_s for record in rounds if record.round_number <= reached)


def row_of(demo: DemoSettings, runs: list[_One]) -> Row:
    """What several seeds of one setting came to."""
    rounds = [one.rounds for one in runs if one.rounds is not None]
    seconds = [one.seconds for one in runs if one.seconds is not None]
    study = next((s for s in STUDY if (s.partition, s.local_batches) == (demo.partition, demo.local_batches)), None)
    return {
        "partition": demo.partition,
        "local_batches": demo.local_batches,
        "target": demo.target_accuracy,
        "reached": f"{len(rounds)} of {len(runs)}",
        **_spread("rounds", rounds),
        **_spread("seconds", seconds),
        "rounds_by_seed": [one.rounds for one in runs],
        "accuracy_by_round": [one.accuracy for one in runs],
        "study_rounds": study.rounds if study else None,
    }


def _spread(name: str, values: list[Any]) -> dict[str, float | None]:
    if not values:
        return {f"{name}_{kind}": None for kind in ("mean", "min", "max")}
    return {f"{name}_mean": fmean(values), f"{name}_min": min(values), f"{name}_max": max(values)}


def draw(figure: Figure, theme: Theme, result: Result) -> None:
    """Rounds and seconds to the target as bars with minimum and maximum, and accuracy per round with its spread."""
    schemes = list(dict.fromkeys(row["partition"] for row in result.rows))
    grid = figure.subplots(3, len(schemes), squeeze=False)
    for (above, middle, below), scheme in zip(grid.T, schemes, strict=True):
        rows = [row for row in result.rows if row["partition"] == scheme]
        _draw_bars(above, rows, "rounds", theme.compute, theme.text)
        _draw_study(above, theme, rows)
        above.set(title=f"{scheme}: to {100 * rows[0]['target']:.0f} %", ylabel="rounds")
        _draw_bars(middle, rows, "seconds", theme.communication, theme.text)
        middle.set(xlabel="E", ylabel="device seconds")
        _draw_curves(below, theme, rows)


def _draw_bars(axes: Any, rows: list[Row], what: str, colour: str, edge: str) -> None:
    reached = _reached(rows)
    places = [f"{row['local_batches']}" for row in reached]
    means = [row[f"{what}_mean"] for row in reached]
    low = [row[f"{what}_mean"] - row[f"{what}_min"] for row in reached]
    high = [row[f"{what}_max"] - row[f"{what}_mean"] for row in reached]
    axes.bar(places, means, 0.6, yerr=[low, high], color=colour, ecolor=edge, capsize=3)
    if not reached:
        axes.text(0.5, 0.5, "not reached", transform=axes.transAxes, ha="center")
    axes.margins(y=0.15)


def _draw_study(axes: Any, theme: Theme, rows: list[Row]) -> None:
    for place, row in enumerate(_reached(rows)):
        if row["study_rounds"] is not None:
            axes.plot([place - 0.4, place + 0.4], [row["study_rounds"]] * 2, color=theme.highlight, label="study")
            axes.legend(loc="upper right")


def _reached(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row["rounds_mean"] is not None]


def _draw_curves(axes: Any, theme: Theme, rows: list[Row]) -> None:
    colours = (theme.compute, theme.communication, theme.highlight, theme.muted)
    for row, colour in zip(rows, colours, strict=False):
        # Runs end at the target: only rounds that all seeds had can be averaged.
        shared = min(len(curve) for curve in row["accuracy_by_round"])
        by_round = [[curve[i] for curve in row["accuracy_by_round"]] for i in range(shared)]
        numbers = range(1, shared + 1)
        axes.fill_between(numbers, [min(v) for v in by_round], [max(v) for v in by_round], color=colour, alpha=0.2)
        axes.plot(numbers, [fmean(v) for v in by_round], ".-", color=colour, label=f"E={row['local_batches']}")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(title="accuracy and range", xlabel="round")
    axes.legend(loc="lower right")
