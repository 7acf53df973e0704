"""Lays several runs side by side: what was set differently, what came of it, and whether the models are the same.

`compare` works the numbers out, `write_comparison` makes one HTML file of them; the terminal has them from `tables.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coordinator import summary, tables
from coordinator.durable import make_folder, replace_file
from coordinator.report import comparison_plots, plots
from coordinator.report.facts import Facts, settings_of, target_of
from coordinator.report.page import WrittenReport
from coordinator.report.pictures import Picture, draw, template
from coordinator.reproducibility import Digests, digests, same_models_until
from coordinator.run_folder import RunFolder
from coordinator.summary import Level


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One run.

    Attributes:
        facts: everything about it.
        mb_per_device: sent and received, mean over the devices.
        levels: when each level of accuracy was reached; to_target: the one of its target, None when it was not.
    """

    facts: Facts
    digests: Digests
    mb_per_device: float
    levels: list[Level]
    to_target: int | None

    @property
    def run_id(self) -> str:
        """The run."""
        return self.facts.run.run_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Several runs.

    Attributes:
        different: setting to its value in each run, where they are not all the same.
        levels: that any of the runs reached.
        same_until: the last round up to which all models are the same, bit for bit; 0 when none is.
    """

    columns: list[Column]
    different: dict[str, list[object]]
    levels: list[float]
    same_until: int


def compare(runs: Sequence[RunFolder]) -> Comparison:
    """Read and compare runs.

    Raises:
        StorageError: the files of one cannot be read.
    """
    columns = [_column(Facts.read(run)) for run in runs]
    return Comparison(
        columns=columns,
        different=_different([column.facts.run.config for column in columns]),
        levels=sorted({level.accuracy for column in columns for level in column.levels}),
        same_until=same_models_until([summary.rounds_of(column.facts.records) for column in columns]),
    )


def result_rows(comparison: Comparison) -> dict[str, list[str]]:
    """What came of each run, a row per number."""
    columns = comparison.columns
    totals = [column.facts.totals for column in columns]
    rows = {
        "state": [column.facts.state.state for column in columns],
        "rounds": [str(one.rounds_closed) for one in totals],
        "devices": [str(one.devices) for one in totals],
        "test accuracy": [tables.percent(one.final_accuracy) for one in totals],
        "best accuracy": [
            f"{tables.percent(one.best_accuracy)} (round {one.best_round})" if one.best_round else tables.NOTHING
            for one in totals
        ],
        "rounds to its target": [str(column.to_target or tables.NOTHING) for column in columns],
        "seconds, all rounds": [tables.number(one.duration_s, 1) for one in totals],
        "MB per device": [tables.number(column.mb_per_device, 2) for column in columns],
        "training s per device": [tables.number(one.train_s_per_device, 1) for one in totals],
        "messages refused": [str(one.refused) for one in totals],
        "straggler": [one.facts.straggler.agent_id if one.facts.straggler else "none" for one in columns],
    }
    for accuracy in comparison.levels:
        found = [next((x for x in column.levels if x.accuracy == accuracy), None) for column in columns]
        rows[f"to {accuracy:.0%}"] = [_of_level(level) if level else tables.NOTHING for level in found]
    rows["models as in the first"] = [tables.NOTHING, *(_same_as(columns[0], column) for column in columns[1:])]
    return rows


def _of_level(level: Level) -> str:
    return f"{level.rounds} round{'' if level.rounds == 1 else 's'}, {level.seconds:.1f} s"


def _same_as(first: Column, other: Column) -> str:
    last = same_models_until([summary.rounds_of(column.facts.records) for column in (first, other)])
    if not last:
        return "no"
    return "round 1" if last == 1 else f"rounds 1 to {last}"


def same_models_sentence(comparison: Comparison) -> str:
    """Whether the runs made the same models."""
    shortest = min(column.facts.totals.rounds_closed for column in comparison.columns)
    if not comparison.same_until and len(comparison.columns) > 2:
        return "Not all runs have the same models: the last line of the results says which do"
    if not comparison.same_until:
        return "The models differ from the first round on"
    if comparison.same_until >= shortest:
        return f"The models are the same, bit for bit, in all {shortest} rounds that the runs have in common"
    return f"The models are the same, bit for bit, until round {comparison.same_until}, and differ after it"


def as_document(comparison: Comparison) -> dict[str, Any]:
    """The comparison for machines."""
    return {
        "runs": [
            {
                "run_id": column.run_id,
                "state": column.facts.state.state,
                "rounds": column.facts.totals.rounds_closed,
                "final_accuracy": column.facts.totals.final_accuracy,
                "best_accuracy": column.facts.totals.best_accuracy,
                "rounds_to_target": column.to_target,
                "duration_s": column.facts.totals.duration_s,
                "mb_per_device": column.mb_per_device,
                "train_s_per_device": column.facts.totals.train_s_per_device,
                "refused": column.facts.totals.refused,
                "seed": column.digests.seed,
                "plan_sha256": column.digests.plan_sha256,
                "models_sha256": column.digests.models_sha256,
                "levels": [
                    {"accuracy": level.accuracy, "rounds": level.rounds, "seconds": level.seconds}
                    for level in column.levels
                ],
            }
            for column in comparison.columns
        ],
        "different": comparison.different,
        "same_models_until_round": comparison.same_until,
    }


def write_comparison(comparison: Comparison, output: Path) -> WrittenReport:
    """Write the HTML file, with its pictures as PNG files beside it; one that is there is replaced.

    Raises:
        StorageError: a file cannot be written.
    """
    folder = output.parent / f"{output.stem}-plots"
    make_folder(output.parent)
    embedded, files = draw(pictures(comparison), folder)
    replace_file(output, [page(comparison, embedded).encode()])
    return WrittenReport(output, folder, files)


def page(comparison: Comparison, embedded: Sequence[Mapping[str, object]]) -> str:
    """The whole HTML file."""
    return template("compare.html.j2").render(
        columns=comparison.columns,
        rows=result_rows(comparison),
        different=comparison.different,
        same_models=same_models_sentence(comparison),
        pictures=embedded,
    )


def pictures(comparison: Comparison) -> list[Picture]:
    """The plots that these runs have the numbers for."""
    names = ", ".join(column.run_id for column in comparison.columns)
    curves = {
        column.run_id: comparison_plots.Curve.of(summary.rounds_of(column.facts.records), column.mb_per_device)
        for column in comparison.columns
    }
    out = []
    if any(curve.accuracy for curve in curves.values()):
        for name, title, unit in (
            ("rounds", "Accuracy by round", "round"),
            ("seconds", "Accuracy by time", "seconds of all rounds"),
            ("megabytes", "Accuracy by traffic", "MB per device, sent and received"),
        ):
            alt = f"Test accuracy of {names} by {unit}."
            out.append(Picture(name, title, alt, "", comparison_plots.curves(curves, name, unit), 3.0))
    parts = {column.run_id: comparison_plots.Parts.of(column.facts.devices) for column in comparison.columns}
    if any(parts.values()):
        alt = f"Mean seconds of a round by compute, communication and idle, for {names}."
        height_in = plots.height_for_bars(len(parts))
        out.append(
            Picture(
                "parts",
                "Where a round's time goes",
                alt,
                "",
                comparison_plots.parts(parts),
                height_in,
            )
        )
    return out


def _column(facts: Facts) -> Column:
    rounds, totals = summary.rounds_of(facts.records), facts.totals
    target = target_of(facts.run.config)
    return Column(
        facts=facts,
        digests=digests(facts.run, facts.records),
        mb_per_device=(totals.packet_bytes_up_per_device + totals.packet_bytes_down_per_device) / tables.MB,
        levels=summary.levels(rounds),
        to_target=summary.rounds_to_target(rounds, target),
    )


def _different(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[object]]:
    """Settings, machine and versions that are not the same in all runs."""
    flat = [_flat(config) for config in configs]
    keys = dict.fromkeys(key for one in flat for key in one)
    rows = {key: [one.get(key) for one in flat] for key in keys}
    return {key: values for key, values in rows.items() if any(value != values[0] for value in values)}


def _flat(config: Mapping[str, Any]) -> dict[str, object]:
    sections = settings_of(config)
    sections |= {name: dict(config.get(name, {})) for name in ("hardware", "environment")}
    # What the plan says is what training and strategy say, worked out.
    return {
        f"{section}.{key}".lstrip("."): value
        for section, values in sections.items()
        for key, value in values.items()
        if section != "plan" and (section, key) not in _OF_THE_PLACE
    }


_OF_THE_PLACE = {("", "runs_folder"), ("broker", "host"), ("broker", "port"), ("data", "folder")}
"""Says where a run was, not what it was."""
