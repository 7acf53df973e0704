"""Puts a run's report together: one HTML file that needs nothing else, and its pictures as PNG files beside it.

Everything comes from the run's folder. Secrets are not in there, and where they lie is left out of the report.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from coordinator import summary, tables
from coordinator.durable import replace_file
from coordinator.report import plots
from coordinator.report.facts import Facts, settings_of, target_of
from coordinator.report.pictures import Picture, draw, template
from coordinator.reproducibility import digests
from coordinator.run_folder import RunFolder

_LEGEND = "The diamond is the study's result."

_QUIET_EVENTS = frozenset({"started", "agent-online", "round-opened", "broker-connected"})


@dataclass(frozen=True, slots=True)
class WrittenReport:
    """Where the files are."""

    html: Path
    plots_folder: Path
    plots: list[Path]


def write_report(run: RunFolder, output: Path | None = None) -> WrittenReport:
    """Write the report; one that is there is replaced in one step.

    Args:
        output: the HTML file; by default `report.html` in the run's folder, with `plots/` beside it.

    Raises:
        StorageError: the run cannot be read, or a file cannot be written.
    """
    facts = Facts.read(run)
    html = output or run.path / "report.html"
    folder = html.parent / (f"{html.stem}-plots" if output else "plots")
    embedded, files = draw(pictures(facts), folder)
    replace_file(html, [page(facts, embedded).encode()])
    return WrittenReport(html, folder, files)


def page(facts: Facts, embedded: Sequence[Mapping[str, object]]) -> str:
    """The whole HTML file."""
    rounds = summary.rounds_of(facts.records)
    events = [event for event in summary.events_of(facts.records) if event.name not in _QUIET_EVENTS]
    return template("report.html.j2").render(
        run=facts.run,
        config=facts.run.config,
        state=facts.state,
        state_in_words=tables.state_in_words(facts.state),
        totals=facts.totals,
        rounds=rounds,
        num_refused=summary.num_refused,
        devices=facts.devices,
        warm=any(device.max_cpu_temperature_c is not None for device in facts.devices),
        communication_s=tables.communication_s,
        straggler=tables.straggler_sentence(facts.straggler, len(rounds)),
        refusals=summary.refusals(rounds),
        events=events,
        study=facts.study,
        target=target_of(facts.run.config),
        rounds_to_target=summary.rounds_to_target(rounds, target_of(facts.run.config)),
        pictures=embedded,
        sections=settings_of(facts.run.config),
        environment=facts.run.config.get("environment", {}),
        hardware=facts.run.config.get("hardware", {}),
        digests=digests(facts.run, facts.records),
        levels=summary.levels(rounds, [target_of(facts.run.config)]),
    )


def pictures(facts: Facts) -> list[Picture]:
    """The plots that this run has the numbers for."""
    rounds = summary.rounds_of(facts.records)
    out = []
    if rounds:
        accuracy = f"from {tables.percent(rounds[0].accuracy)} to {tables.percent(rounds[-1].accuracy)}"
        out.append(
            Picture(
                "accuracy",
                "Accuracy and loss",
                f"Test accuracy over {len(rounds)} rounds, {accuracy}, and the losses below it.",
                f"Figure 3 of the study, for this run: accuracy after each round. {_LEGEND if facts.study else ''}",
                plots.accuracy(rounds, target_of(facts.run.config), facts.study),
                3.9,
            )
        )
        out += _level_picture(facts)
    return out + _device_pictures(facts)


def _level_picture(facts: Facts) -> list[Picture]:
    reached = summary.levels(summary.rounds_of(facts.records), [target_of(facts.run.config)])
    if not reached:
        return []
    words = ", ".join(
        f"{level.accuracy:.0%} after {level.rounds} round{'' if level.rounds == 1 else 's'}" for level in reached
    )
    return [
        Picture(
            "levels",
            "Rounds and seconds to each level",
            f"Rounds and seconds until each level of test accuracy was reached: {words}.",
            f"Figure 3 of the study, for this run: rounds and seconds to a target. {_LEGEND if facts.study else ''}",
            plots.levels(reached, facts.study),
            max(1.9, 1.2 + 0.26 * len(reached)),
        )
    ]


def _device_pictures(facts: Facts) -> list[Picture]:
    reporting = [device for device in facts.devices if device.train_s is not None]
    if not reporting:
        return []
    slowest_first = sorted(reporting, key=lambda device: (-(device.latency_s or 0.0), device.agent_id))
    in_bars = sorted(slowest_first[: plots.BAR_DEVICES], key=lambda device: device.agent_id)
    in_timeline = sorted(device.agent_id for device in slowest_first[: plots.TIMELINE_DEVICES])
    bars_note = _selection_note(len(in_bars), len(reporting))
    height_in = plots.height_for_bars(len(in_bars))
    names = [device.agent_id for device in in_bars]
    straggler = tables.straggler_sentence(facts.straggler, facts.totals.rounds_closed)
    return [
        Picture(
            "timeline",
            "Each device, round by round",
            f"Compute, communication and idle seconds of each round for {', '.join(in_timeline)}.",
            "Figure 4 of the study, for this run. Idle is the time since the round before. "
            + _selection_note(len(in_timeline), len(reporting)),
            plots.timeline(summary.reports_of(facts.records), in_timeline, facts.straggler),
            plots.height_for_timeline(len(in_timeline)),
        ),
        Picture(
            "breakdown",
            "Where a round's time goes",
            "Mean seconds of a round per device, by compute, communication and idle.",
            bars_note,
            plots.breakdown(in_bars),
            height_in,
        ),
        Picture(
            "latency",
            "From announcement to counted update",
            f"Latency of every update, by device. {straggler}.",
            f"{straggler[0].upper()}{straggler[1:]}. {bars_note}",
            plots.latency(facts.latencies, names, facts.straggler),
            height_in,
        ),
        Picture(
            "traffic",
            "Bytes per device",
            "Megabytes of MQTT packets that each device sent and received in the whole run.",
            "Whole MQTT packets of every kind, before TLS and TCP. " + bars_note,
            plots.traffic(in_bars),
            height_in,
        ),
    ]


def _selection_note(shown: int, known: int) -> str:
    return f"Of {known} devices, the {shown} with the highest latency." if shown < known else ""
