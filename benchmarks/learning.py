"""Rounds to an accuracy: strategies; FedAvg and the presets on every split; `best` with one part left out at a time.

Experiments in plain calls, whose models have the bytes of those of a run over a broker (`simulation/experiment.py`).
Numbers and codecs were chosen with seeds from 101 on, on a sixth of the training images; accuracy here is on the test
set.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from benchmarks.result import Column, Result, Row, Say
from coordinator.report.plots import Theme
from learning.datasets import Dataset, load_dataset
from learning.strategies.presets import PRESETS, Recipe, expand
from learning.strategies.registry import STRATEGIES
from learning.threads import use_threads
from schemas.errors import ConfigError
from simulation.experiment import Experiment, all_but_one, everybody, rounds_to
from simulation.experiment import run as run_experiment

HEIGHT_IN = 7.0
ROW_IN = (0.28, 0.38)
"""Of a row in the picture, and of one with a label of two lines."""
REFERENCE = "fedavg"
TARGETS = (0.85, 0.90, 0.95, 0.97)

COLUMNS = (
    Column("name", "name"),
    Column("split", "split"),
    *(Column(f"rounds_to_{target:.0%}", f"{target:.0%}") for target in TARGETS),
    Column("seeds", "seeds"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """How the data is divided, and for how long a run goes on.

    Attributes:
        stop_at: the last of `TARGETS` that is waited for.
        missing: True when in every round after the first another agent is missing.
    """

    scheme: str = "digit-pairs"
    local_batches: int = 10
    rounds: int = 20
    stop_at: float = 0.95
    alpha: float = 0.1
    dataset: str = "mnist"
    missing: bool = False

    @property
    def words(self) -> str:
        """As the table says it."""
        scheme = f"Dirichlet({self.alpha:g})" if self.scheme == "dirichlet" else self.scheme
        extra = ", one agent missing in each round" if self.missing else ""
        data = ", 8x8 digits" if self.dataset == "digits" else ""
        return f"{scheme}, E={self.local_batches}{extra}{data}"


PAIRS = Split()
SPLITS: Mapping[str, Split] = {
    "pairs-10": PAIRS,
    "pairs-40": Split(local_batches=40, rounds=14),
    "iid-10": Split(scheme="iid", rounds=12),
    "iid-40": Split(scheme="iid", local_batches=40, rounds=8, stop_at=0.97),
    "dirichlet": Split(scheme="dirichlet"),
    "missing": Split(missing=True),
    "digits": Split(dataset="digits"),
}

ABLATION: dict[str, dict[str, float]] = {
    "`best`": {},
    "without whitening": {"whitening": 0.0},
    "without the structured start": {"structured_start": 0.0},
    "without the last layer at zero": {"zero_last": 0.0},
    "without agent momentum": {"momentum": 0.0},
    "without the rate falling within a round": {"rate_end": 1.0},
    "without the rate falling from round to round": {"rate_decay": 1.0},
    "without clipping": {"clip": 0.0},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Which tables, and with which seeds: `first_seed` and the following ones.

    Attributes:
        tables: of `presets`, `strategies`, `ablation`.
        splits: those of `SPLITS` that FedAvg and the presets are tried on.
        codec: instead of their own.
    """

    tables: tuple[str, ...] = ("presets", "strategies", "ablation")
    splits: tuple[str, ...] = tuple(SPLITS)
    seeds: int = 5
    first_seed: int = 11
    codec: str | None = None
    quick: bool = False


@dataclass(frozen=True, slots=True)
class _Case:
    table: str
    name: str
    recipe: Recipe
    split: Split
    codec: str | None = None


def run(settings: Settings, folder: Path, say: Say) -> Result:
    """One row per case.

    Raises:
        ConfigError: there is no such table or split.
    """
    del folder
    use_threads(1)
    cases = [case for table in settings.tables for case in _cases(table, settings.splits)]
    cases = [replace(case, codec=case.codec or settings.codec) for case in cases]
    if settings.quick:
        cases = [replace(case, split=replace(case.split, rounds=2, dataset="digits")) for case in cases[:3]]
        settings = replace(settings, seeds=1)
    rows = []
    for number, case in enumerate(cases, 1):
        say(f"{number} of {len(cases)}: {case.name}, {case.split.words}")
        rows.append(row_of(case, range(settings.first_seed, settings.first_seed + settings.seeds)))
    return Result(
        settings={
            "codec": settings.codec,
            "first_seed": settings.first_seed,
            "seeds": settings.seeds,
            "batch_size": 16,
            "agents": 5,
        },
        rows=rows,
        columns=COLUMNS,
        notes=("the first round at or over an accuracy on the test set: mean and range over the seeds",),
    )


def _cases(table: str, splits: tuple[str, ...]) -> Iterator[_Case]:
    if table == "presets":
        for split in splits:
            if split not in SPLITS:
                raise ConfigError(f"there is no split {split!r}: expected one of {', '.join(SPLITS)}")
            for name in (REFERENCE, *PRESETS):
                yield _Case(table, f"`{name}`", expand(name, SPLITS[split].local_batches), SPLITS[split])
    elif table == "strategies":
        for name in STRATEGIES:
            yield _Case(table, f"`{name}`", expand(name, 10), replace(PAIRS, stop_at=0.90))
    elif table == "ablation":
        for label, options in ABLATION.items():
            yield _Case(table, label, expand("best", 10, options=options), PAIRS)
        best = expand("best", 10)
        yield _Case(table, "without SCAFFOLD", replace(best, strategy="agentmomentum"), PAIRS)
        yield _Case(table, "without its codec", best, PAIRS, "fp32")
    else:
        raise ConfigError(f"there is no table {table!r}: expected presets, strategies or ablation")


def row_of(case: _Case, seeds: range) -> Row:
    """Several seeds of one case."""
    data, split = _dataset(case.split.dataset), case.split
    curves = [
        run_experiment(
            Experiment(
                recipe=case.recipe,
                codec=case.codec,
                scheme=split.scheme,
                alpha=split.alpha,
                local_batches=split.local_batches,
                rounds=split.rounds,
                seed=seed,
                present=all_but_one(seed) if split.missing else everybody,
                stop_at=split.stop_at,
            ),
            data.train,
            data.test,
        )
        for seed in seeds
    ]
    row: Row = {"table": case.table, "name": case.name, "split": split.words, "seeds": len(curves)}
    row["rounds"] = split.rounds
    for target in TARGETS:
        found = [rounds_to(curve, target) for curve in curves] if target <= split.stop_at else []
        row |= {f"rounds_to_{target:.0%}": _words(found, split.rounds), f"by_seed_{target:.0%}": found}
    return row | {"accuracy_by_round": curves}


@cache
def _dataset(name: str) -> Dataset:
    return load_dataset(name)


def _words(rounds: list[int | None], most: int) -> str | None:
    """Mean and range, or how many seeds came there at all."""
    reached = [number for number in rounds if number is not None]
    if not rounds:
        return None
    if not reached:
        return f"over {most}"
    spread = f"({min(reached)}-{max(reached)})"
    return f"{fmean(reached):.1f} {spread}" if len(reached) == len(rounds) else f"{len(reached)} seeds {spread}"


def draw(figure: Figure, theme: Theme, result: Result) -> None:
    """For each table a row per case, with the mean round and range to every accuracy, or that none came there."""
    tables = list(dict.fromkeys(row["table"] for row in result.rows))
    rows = {table: [row for row in result.rows if row["table"] == table] for table in tables}
    heights_in = [1.0 + ROW_IN[table == "presets"] * len(rows[table]) for table in tables]
    figure.set_figheight(sum(heights_in))
    grid = figure.subplots(len(tables), 1, squeeze=False, height_ratios=heights_in)
    for axes, table in zip(grid[:, 0], tables, strict=True):
        _draw_table(axes, theme, rows[table])
        axes.set(title=f"{table}: rounds to an accuracy")
        axes.title.set_horizontalalignment("left")
    grid[-1][0].set(xlabel="rounds")
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=8)


def _draw_table(axes: Any, theme: Theme, rows: list[Row]) -> None:
    colours = (theme.compute, theme.communication, theme.highlight, theme.muted)
    labels = [f"{row['name'].strip('`')}\n{row['split']}" if row["table"] == "presets" else row["name"] for row in rows]
    for shift, (target, colour) in enumerate(zip(TARGETS, colours, strict=True)):
        for place, row in enumerate(rows):
            found = row[f"by_seed_{target:.0%}"]
            reached = [number for number in found if number is not None]
            height = place + 0.18 * (shift - 1.5)
            if found and not reached:
                axes.plot(row["rounds"] + 0.5, height, ">", ms=4, color=colour, mfc=theme.page)
            if reached:
                # A hollow point is a mean over some of the seeds alone.
                whole = len(reached) == len(found)
                axes.plot([min(reached), max(reached)], [height] * 2, color=colour, linewidth=1.5)
                axes.plot(fmean(reached), height, "o", ms=4, color=colour, mfc=colour if whole else theme.page)
        axes.plot([], [], "o", ms=4, color=colour, label=f"{target:.0%}")
    axes.plot([], [], ">", ms=4, color=theme.muted, mfc=theme.page, label="later than was run")
    axes.set_yticks(range(len(rows)), [label.replace("`", "") for label in labels], fontsize=7)
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
