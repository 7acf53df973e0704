"""What codecs cost in accuracy: the same runs with whole `fp32` models and with a codec, round by round.

Experiments in plain calls, as in `benchmarks.learning`. A run's seed settles the division of the data, the first model
and the order of all batches, so that both differ by the codec alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from benchmarks.result import Column, Result, Row, Say
from coordinator.report.plots import Theme
from learning.datasets import load_dataset
from learning.strategies.presets import expand
from learning.threads import use_threads
from simulation.experiment import Experiment
from simulation.experiment import run as run_experiment

HEIGHT_IN = 3.6
WHOLE = "fp32"

COLUMNS = (
    Column("codec", "codec"),
    Column("round", "round"),
    Column("whole_mean", "fp32, %", 2, 100),
    Column("coded_mean", "with the codec, %", 2, 100),
    Column("difference", "points", 2, 100),
    Column("error", "+-", 2, 100),
    Column("lowest", "lowest seed", 2, 100),
    Column("highest", "highest seed", 2, 100),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What to run: each codec beside `fp32`, with the same seeds."""

    strategy: str = "fedavg"
    partition: str = "iid"
    local_batches: int = 10
    codecs: tuple[str, ...] = ("int8",)
    rounds: int = 15
    seeds: int = 5
    first_seed: int = 11
    dataset: str = "mnist"
    quick: bool = False


def run(settings: Settings, folder: Path, say: Say) -> Result:
    """One row per codec and round.

    Raises:
        FederationError: a strategy, codec or partition is unknown.
    """
    del folder
    use_threads(1)
    if settings.quick:
        settings = replace(settings, rounds=2, seeds=1, dataset="digits")
    curves = {codec: accuracies(settings, codec, say) for codec in (WHOLE, *settings.codecs)}
    rows = [row for codec in settings.codecs for row in compare(codec, curves[WHOLE], curves[codec])]
    return Result(
        settings={"strategy": settings.strategy, "partition": settings.partition}
        | {"local_batches": settings.local_batches, "rounds": settings.rounds, "data": settings.dataset}
        | {"seeds": settings.seeds, "first_seed": settings.first_seed, "agents": 5, "batch_size": 16},
        rows=rows,
        columns=COLUMNS,
        summary={f"most_points_{codec}": most_points(rows, codec) for codec in settings.codecs},
        details={"accuracy_by_round": curves},
        notes=(
            "test accuracy after each round, mean over the seeds; points: that of the codec less that of fp32, with",
            "the standard error of the mean, and the seeds that are furthest apart",
        ),
    )


def accuracies(settings: Settings, codec: str, say: Say) -> list[list[float]]:
    """Of each seed, after each round."""
    data = load_dataset(settings.dataset)
    curves = []
    for seed in range(settings.first_seed, settings.first_seed + settings.seeds):
        say(f"{settings.strategy}, {settings.partition}, E={settings.local_batches}, {codec}, seed {seed}")
        experiment = Experiment(
            recipe=expand(settings.strategy, settings.local_batches),
            codec=codec,
            scheme=settings.partition,
            local_batches=settings.local_batches,
            rounds=settings.rounds,
            seed=seed,
        )
        curves.append(run_experiment(experiment, data.train, data.test))
    return curves


def compare(codec: str, whole: Sequence[Sequence[float]], coded: Sequence[Sequence[float]]) -> list[Row]:
    """Seed by seed, one row per round that all of them had."""
    shared = min(len(curve) for curve in (*whole, *coded))
    rows: list[Row] = []
    for number in range(shared):
        apart = [b[number] - a[number] for a, b in zip(whole, coded, strict=True)]
        rows.append(
            {
                "codec": codec,
                "round": number + 1,
                "whole_mean": fmean(curve[number] for curve in whole),
                "coded_mean": fmean(curve[number] for curve in coded),
                "difference": fmean(apart),
                "error": stdev(apart) / len(apart) ** 0.5 if len(apart) > 1 else None,
                "lowest": min(apart),
                "highest": max(apart),
            }
        )
    return rows


def most_points(rows: list[Row], codec: str) -> float | None:
    """The difference of the means in the round where it is largest, whatever its sign, in points."""
    return max((round(100 * row["difference"], 3) for row in rows if row["codec"] == codec), key=abs, default=None)


def draw(figure: Figure, theme: Theme, result: Result) -> None:
    """Points by round, with the standard error and the range over the seeds."""
    axes = figure.subplots()
    colours = (theme.compute, theme.highlight, theme.communication, theme.muted)
    for codec, colour in zip(dict.fromkeys(row["codec"] for row in result.rows), colours * 3, strict=False):
        rows = [row for row in result.rows if row["codec"] == codec]
        numbers = [row["round"] for row in rows]
        low, high = ([100 * row[key] for row in rows] for key in ("lowest", "highest"))
        axes.fill_between(numbers, low, high, color=colour, alpha=0.15, linewidth=0)
        errors = [100 * (row["error"] or 0.0) for row in rows]
        means = [100 * row["difference"] for row in rows]
        axes.errorbar(numbers, means, errors, fmt="o-", ms=4, color=colour, label=f"{codec} less fp32", capsize=2)
    axes.axhspan(-0.2, 0.2, color=theme.muted, alpha=0.2, linewidth=0, label="0.2 points")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    settings = result.settings
    axes.set(
        title=f"{settings['strategy']}, {settings['partition']}, E={settings['local_batches']}: points of accuracy",
        xlabel="round",
    )
    axes.legend(loc="lower right", fontsize=7)
