"""Puts a run's report together: one HTML file that needs nothing else, and its pictures as PNG files beside it.

Everything comes from the run's folder. Secrets are not in there, and where they lie is left out of the report.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from coordinator import summary, tables
from coordinator.durable import make_folder, replace_file
from coordinator.report import plots
from coordinator.run_folder import Record, RunFolder
from coordinator.run_summary import RunSummary, summarise
from coordinator.study import StudyResult, study_result

_LEFT_OUT = frozenset(
    {
        "run_id",
        "environment",
        "username",
        "password_file",
        "ca",
        "cert",
        "key",
        "token_file",
        "user",
        "tls_cert",
        "tls_key",
    }
)
"""Of the configuration: what stands elsewhere in the report, and who has which secret."""

_QUIET_EVENTS = frozenset({"started", "agent-online", "round-opened", "broker-connected"})


@dataclass(frozen=True, slots=True)
class WrittenReport:
    """Where the files are."""

    html: Path
    plots_folder: Path
    plots: list[Path]


@dataclass(frozen=True, slots=True)
class Picture:
    """One plot of the report.

    Attributes:
        name: of its PNG file.
        alt: says in words what the picture shows.
    """

    name: str
    title: str
    alt: str
    note: str
    draw: plots.Draw
    height_in: float


@dataclass(frozen=True, slots=True)
class Facts:
    """What the report is about, read once."""

    run: RunFolder
    state: RunSummary
    records: list[Record]
    devices: list[summary.DeviceSummary]
    totals: summary.RunTotals
    latencies: Mapping[int, Mapping[str, float]]
    straggler: summary.Straggler | None
    study: StudyResult | None

    @classmethod
    def read(cls, run: RunFolder) -> "Facts":
        """Everything about a run.

        Raises:
            StorageError: its files cannot be read.
        """
        records = run.records()
        latencies = summary.latencies_by_round(records)
        return cls(
            run=run,
            state=summarise(run),
            records=records,
            devices=summary.summarise_devices(records),
            totals=summary.total(records),
            latencies=latencies,
            straggler=summary.find_straggler(latencies),
            study=_study_of(run.config),
        )


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
    make_folder(html.parent)
    make_folder(folder)
    embedded, files = [], []
    for picture in pictures(facts):
        light, dark = (plots.render(picture.draw, theme, picture.height_in) for theme in (plots.LIGHT, plots.DARK))
        files.append(folder / f"{picture.name}.png")
        replace_file(files[-1], [light])
        embedded.append({"picture": picture, "light": _data_uri(light), "dark": _data_uri(dark)})
    replace_file(html, [page(facts, embedded).encode()])
    return WrittenReport(html, folder, files)


def page(facts: Facts, embedded: Sequence[Mapping[str, object]]) -> str:
    """The whole HTML file."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("coordinator.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": tables.percent, "number": tables.number, "moment": tables.moment}
    rounds = summary.rounds_of(facts.records)
    events = [event for event in summary.events_of(facts.records) if event.name not in _QUIET_EVENTS]
    return environment.get_template("report.html.j2").render(
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
        target=_target(facts.run.config),
        rounds_to_target=summary.rounds_to_target(rounds, _target(facts.run.config)),
        pictures=embedded,
        sections=_settings(facts.run.config),
        environment=facts.run.config.get("environment", {}),
        hashes=_hashes(facts),
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
                "",
                plots.accuracy(rounds, _target(facts.run.config), facts.study),
                3.9,
            )
        )
    return out + _device_pictures(facts)


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
            "Idle is the time since the round before. " + _selection_note(len(in_timeline), len(reporting)),
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


def _study_of(config: Mapping[str, Any]) -> StudyResult | None:
    """The reference study's result, when this run trains the same model on the same data."""
    training, data = config.get("training", {}), config.get("data", {})
    comparable = (training.get("model"), data.get("dataset"), training.get("batch_size")) == ("cnn", "mnist", 16)
    return study_result(str(data.get("partition"))) if comparable else None


def _target(config: Mapping[str, Any]) -> float | None:
    target = config.get("rounds", {}).get("target_accuracy")
    return float(target) if target is not None else None


def _settings(config: Mapping[str, Any]) -> dict[str, dict[str, object]]:
    """The configuration by section; top-level keys are under an empty name."""
    shown = {key: value for key, value in config.items() if key not in _LEFT_OUT}
    sections: dict[str, dict[str, object]] = {
        "": {key: value for key, value in shown.items() if not isinstance(value, Mapping) and value is not None}
    }
    for name, values in shown.items():
        if isinstance(values, Mapping):
            sections[name] = {key: value for key, value in values.items() if key not in _LEFT_OUT}
    return sections


def _hashes(facts: Facts) -> dict[str, str]:
    rounds = summary.rounds_of(facts.records)
    out = {"model after the last round": rounds[-1].model_sha256} if rounds else {}
    files = {"config.json": facts.run.path / "config.json", "record.jsonl": facts.run.record_path}
    return out | {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
