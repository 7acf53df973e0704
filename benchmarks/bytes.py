"""Rounds and bytes to an accuracy for strategies times codecs, by digit pairs, and which of them are worth having.

Simulated with the real engines and codecs. Bytes are every MQTT control packet of a device, both ways: announcements,
models, updates, receipts, reports and acknowledgements. One point can be run again over a real broker.
"""

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import cycle
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from benchmarks.result import Column, Result, Row, Say
from coordinator.demo import DemoSettings, demo_config, load_demo_data, run_demo
from coordinator.observers import Observers
from coordinator.report.plots import Theme
from coordinator.run_folder import RunFolder
from coordinator.summary import reports_of, rounds_of
from learning.datasets import Dataset
from learning.partition import partition
from schemas import wire
from schemas.messages import BriefReport
from schemas.records import DeviceRecord
from schemas.topics import Address, Kind, Topics
from simulation.experiment import rounds_to
from simulation.runner import World, simulate
from transport.packets import PUBACK_BYTES, publish_bytes

HEIGHT_IN = 7.2
CODECS = ("fp32", "int8", "int4,channel", "int4", "ternary:1/int4", "ternary:1.5")
QUICK_TARGETS = (0.3, 0.5)
SHAPES = "oDs^vP"
"""Of codecs in the picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What to run: every combination, each until the last target or for `rounds` rounds.

    Attributes:
        codecs: one for both directions or UP/DOWN.
        targets: accuracies, ascending.
        learning_rate, options: in place of the strategies' own numbers.
        broker: run the first seed of the first combination again over a real broker.
    """

    strategies: tuple[str, ...] = ("fedavg", "best")
    codecs: tuple[str, ...] = CODECS
    local_batches: tuple[int, ...] = (10, 40)
    targets: tuple[float, ...] = (0.85, 0.90, 0.95)
    partition: str = "digit-pairs"
    seeds: int = 5
    first_seed: int = 11
    rounds: int = 25
    learning_rate: float | None = None
    options: Mapping[str, float] = field(default_factory=dict)
    broker: bool = False
    quick: bool = False


@dataclass(frozen=True, slots=True)
class Curve:
    """One run: after each round the accuracy, and the bytes that a device had sent and received by then (mean)."""

    accuracy: list[float]
    packet_bytes: list[float]
    payload_bytes: list[float]


def run(settings: Settings, folder: Path, say: Say) -> Result:
    """One row per strategy, E and codec.

    Raises:
        FederationError: a strategy or codec is unknown, or the broker is missing.
    """
    if settings.quick:
        settings = replace(settings, seeds=1, rounds=3, local_batches=settings.local_batches[:1], targets=QUICK_TARGETS)
    base = DemoSettings(runs_folder=folder / "runs", rounds=settings.rounds, partition=settings.partition)
    base = replace(base, target_accuracy=settings.targets[-1], seed=settings.first_seed)
    base = replace(base, learning_rate=settings.learning_rate, options=settings.options)
    points = [
        replace(base, strategy=strategy, local_batches=batches, codec=codec)
        for strategy in settings.strategies
        for batches in settings.local_batches
        for codec in settings.codecs
    ]
    for point in points:
        demo_config(point, "none", "check", {})
    dataset, name = load_demo_data(base)
    rows = []
    for point in points:
        say(f"{point.strategy}, E={point.local_batches}, {point.codec}: {settings.seeds} seeds on {name}")
        seeds = range(settings.first_seed, settings.first_seed + settings.seeds)
        curves = [simulated(replace(point, seed=seed), dataset, name, say) for seed in seeds]
        rows.append(row_of(point, curves, settings))
    for target in settings.targets:
        mark_front(rows, target)
    details = {}
    if settings.broker:
        say(f"{points[0].strategy}, {points[0].codec}, seed {settings.first_seed} again, over a real broker")
        details["broker"] = beside_a_broker(points[0], dataset, name)
    return Result(
        settings={"partition": settings.partition, "first_seed": settings.first_seed, "seeds": settings.seeds}
        | {"learning_rate": settings.learning_rate, "options": dict(settings.options)}
        | {"rounds": settings.rounds, "targets": list(settings.targets), "data": name, "agents": base.devices},
        rows=rows,
        columns=columns(settings.targets),
        summary={f"broker_{key}": value for key, value in details.get("broker", {}).items() if key != "devices"},
        details=details,
        notes=(
            "means over the seeds that reached the accuracy; kB are 1000 bytes of MQTT packets, up and down, a device,",
            "until it has reported the round, `payload` without the packets' heads;",
            "* marks what nothing else beats in both rounds and bytes",
        ),
    )


def columns(targets: Iterable[float]) -> tuple[Column, ...]:
    """The table's: for each target rounds, kilobytes and how many seeds came there."""
    found = [Column("strategy", "strategy"), Column("local_batches", "E"), Column("codec", "codec")]
    for target in targets:
        key = _percent(target)
        found += [Column(f"rounds_{key}", f"rounds to {key}", 1), Column(f"bytes_{key}", "kB", 1, 1e-3)]
        found += [Column(f"most_bytes_{key}", "most", 1, 1e-3), Column(f"payload_bytes_{key}", "payload", 1, 1e-3)]
        found.append(Column(f"front_{key}", ""))
    return (*found, Column("reached", "seeds"))


def simulated(demo: DemoSettings, dataset: Dataset, name: str, say: Say) -> Curve:
    """One run in virtual time."""
    parts = partition(dataset.train.labels, demo.devices, demo.partition, demo.seed, demo.alpha)
    rooms = {f"room-{i}": dataset.train.take(indices) for i, indices in enumerate(parts, start=1)}
    config = demo_config(demo, name, _run_id(demo), {})
    simulate(config, rooms, World())
    curve = curve_of(RunFolder.open(demo.runs_folder, _run_id(demo)))
    spent_kb = curve.packet_bytes[-1] / 1000 if curve.packet_bytes else 0.0
    say(f"  seed {demo.seed}: {max(curve.accuracy, default=0):.1%}, {len(curve.accuracy)} rounds, {spent_kb:.1f} kB")
    return curve


def curve_of(folder: RunFolder) -> Curve:
    """Accuracy and bytes so far, from a run's records."""
    records = list(folder.records())
    rounds, reports = rounds_of(records), reports_of(records)
    packets = payloads = 0.0
    curve = Curve([], [], [])
    for closed in rounds:
        # A report counts all up to itself; it is added here, and part of the next one's count.
        of_round = [record for record in reports if record.round_number == closed.round_number]
        counted = [record.report for record in of_round]
        packets += fmean(report.packet_bytes_up + report.packet_bytes_down for report in counted)
        payloads += fmean(report.payload_bytes_up + report.payload_bytes_down for report in counted)
        curve.accuracy.append(closed.accuracy or 0.0)
        curve.packet_bytes.append(packets + fmean(report_packet_bytes(record) + PUBACK_BYTES for record in of_round))
        curve.payload_bytes.append(payloads + fmean(map(report_payload_bytes, of_round)))
    return curve


def report_payload_bytes(record: DeviceRecord) -> int:
    """The size of a report as agents of this version write it."""
    return len(wire.encode(BriefReport.of(record.report)))


def report_packet_bytes(record: DeviceRecord) -> int:
    """What sending a report takes."""
    topic = Topics().build(Address(Kind.REPORT, record.agent_id, record.run_id, record.round_number))
    return publish_bytes(topic, report_payload_bytes(record), expires=False)


def row_of(point: DemoSettings, curves: list[Curve], settings: Settings) -> Row:
    """Several seeds of one combination."""
    row: Row = {"strategy": point.strategy, "local_batches": point.local_batches, "codec": point.codec}
    for target in settings.targets:
        key = _percent(target)
        reached = [(curve, number) for curve in curves if (number := rounds_to(curve.accuracy, target)) is not None]
        spent = [curve.packet_bytes[number - 1] for curve, number in reached]
        row |= {
            f"rounds_{key}": fmean(number for _, number in reached) if reached else None,
            f"bytes_{key}": fmean(spent) if spent else None,
            f"most_bytes_{key}": max(spent, default=None),
            f"payload_bytes_{key}": fmean(c.payload_bytes[n - 1] for c, n in reached) if reached else None,
            f"reached_{key}": len(reached),
            f"rounds_by_seed_{key}": [rounds_to(curve.accuracy, target) for curve in curves],
        }
    row["reached"] = (
        "/".join(str(row[f"reached_{_percent(target)}"]) for target in settings.targets) + f" of {len(curves)}"
    )
    row["accuracy_by_round"] = [curve.accuracy for curve in curves]
    row["packet_bytes_by_round"] = [curve.packet_bytes for curve in curves]
    return row


def mark_front(rows: list[Row], target: float) -> None:
    """Mark the rows that no other one beats: none has as few rounds and bytes, and less of one."""
    key = _percent(target)
    whole = _reached_by_all(rows, key)
    spent = [(row[f"rounds_{key}"], row[f"bytes_{key}"]) for row in whole]
    for row, own in zip(whole, spent, strict=True):
        beaten = any(other != own and other[0] <= own[0] and other[1] <= own[1] for other in spent)
        row[f"front_{key}"] = None if beaten else "*"


def beside_a_broker(demo: DemoSettings, dataset: Dataset, name: str) -> dict[str, Any]:
    """The same run over Mosquitto with agent processes: are the models and the bytes of every round the same?

    The first round is left out, in which agents log in with passwords and come one after the other, and so are
    reports, whose text is as long as the digits of what was measured.
    """
    over = run_demo(demo, dataset, name, lambda _config: Observers([]))
    folders = RunFolder.open(demo.runs_folder, _run_id(demo)), RunFolder.open(demo.runs_folder, over.run_id)
    here, there = ([*folder.records()] for folder in folders)
    ours, theirs = bytes_by_device(reports_of(here)), bytes_by_device(reports_of(there))
    apart = [
        [b - a for a, b in zip(x, y, strict=True)] for d in theirs for x, y in zip(ours[d], theirs[d], strict=True)
    ]
    return {
        "same_models": [r.model_sha256 for r in rounds_of(here)] == [r.model_sha256 for r in rounds_of(there)],
        "most_bytes_apart_up": max((up for up, _ in apart), key=abs, default=None),
        "most_bytes_apart_down": max((down for _, down in apart), key=abs, default=None),
        "device_rounds_compared": len(apart),
        "device_rounds_the_same": sum(not any(pair) for pair in apart),
        "bytes_compared": sum(map(sum, (pair for device in theirs.values() for pair in device))),
        "rounds": over.rounds,
        "devices": {device: {"simulated": ours[device], "broker": theirs[device]} for device in theirs},
    }


def bytes_by_device(reports: Iterable[DeviceRecord]) -> dict[str, list[tuple[int, int]]]:
    """Packet bytes up and down of each round after the first, less the report of the round before."""
    found: dict[str, list[tuple[int, int]]] = {}
    before: dict[str, int] = {}
    for record in sorted(reports, key=lambda record: record.round_number):
        report = record.report
        if record.agent_id in before:
            up = report.packet_bytes_up - before[record.agent_id]
            found.setdefault(record.agent_id, []).append((up, report.packet_bytes_down))
        before[record.agent_id] = report_packet_bytes(record)
    return found


def _percent(target: float) -> str:
    return f"{100 * target:.4g}%"


def _run_id(demo: DemoSettings) -> str:
    """As long as those that a demo makes, as it is part of many messages."""
    point = f"{demo.strategy} {demo.local_batches} {demo.codec}".encode()
    return f"bench-{zlib.crc32(point):08x}-{demo.seed:05d}"


def draw(figure: Figure, theme: Theme, result: Result) -> None:
    """Bytes over rounds to the first and last target: strategies by colour, codecs by shape, the front as a line."""
    targets, rows = result.settings["targets"], result.rows
    colours = dict(zip(dict.fromkeys(map(_series, rows)), _colours(theme), strict=False))
    shapes = dict(zip(dict.fromkeys(row["codec"] for row in rows), cycle(SHAPES), strict=False))
    chosen = dict.fromkeys((targets[0], targets[-1]))
    for axes, target in zip(figure.subplots(len(chosen), 1, squeeze=False)[:, 0], chosen, strict=True):
        _draw_front(axes, theme, rows, _percent(target))
        for row in _reached_by_all(rows, _percent(target)):
            place = _place(row, _percent(target))
            axes.plot(*place, shapes[row["codec"]], ms=6, color=colours[_series(row)], mec=theme.page, mew=0.5)
        axes.set_xlim(left=0)
    named = [Line2D([], [], ls="", marker="o", color=colour, label=name) for name, colour in colours.items()]
    named += [Line2D([], [], ls="", marker=shape, color=theme.text, label=name) for name, shape in shapes.items()]
    named.append(Line2D([], [], color=theme.muted, linewidth=1, label="best of both"))
    figure.legend(handles=named, loc="outside lower center", ncols=3, fontsize=8)


def _draw_front(axes: Any, theme: Theme, rows: list[Row], key: str) -> None:
    front = sorted(_place(row, key) for row in _reached_by_all(rows, key) if row[f"front_{key}"])
    axes.plot([r for r, _ in front], [b for _, b in front], "-", color=theme.muted, linewidth=1)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.margins(y=0.15)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(title=f"to {key}: kB per device, all packets, both ways", xlabel="rounds", ylabel="kB")


def _reached_by_all(rows: list[Row], key: str) -> list[Row]:
    """The rows of which every seed came there."""
    return [row for row in rows if row[f"reached_{key}"] == len(row["accuracy_by_round"])]


def _place(row: Row, key: str) -> tuple[float, float]:
    return row[f"rounds_{key}"], row[f"bytes_{key}"] / 1e3


def _series(row: Row) -> str:
    return f"{row['strategy']}, E={row['local_batches']}"


def _colours(theme: Theme) -> Iterable[str]:
    return cycle((theme.muted, theme.compute, theme.highlight, theme.communication))
