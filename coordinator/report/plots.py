"""Draws a run: accuracy and loss, each device's time, bytes and latency, as PNG for a light and a dark page.

Every picture is drawn about 480 CSS pixels wide, so that its text stays readable on a phone, at twice the density.
Numbers come from `coordinator/summary.py`; nothing here reads files.
"""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, quantiles
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from coordinator.study import StudyResult
from coordinator.summary import DeviceSummary, Level, Straggler
from schemas.records import DeviceRecord, RoundRecord

WIDTH_IN = 4.8
DPI = 200
TIMELINE_DEVICES = 8
TIMELINE_BARS = 120
BAR_DEVICES = 20
"""Pictures of more devices show those with the highest latency, and say so."""


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours that can be told apart by most colour-blind people (after Okabe and Ito)."""

    page: str
    text: str
    muted: str
    grid: str
    compute: str
    communication: str
    idle: str
    highlight: str


LIGHT = Theme("#ffffff", "#1f2328", "#59636e", "#e3e6ea", "#0072b2", "#e69f00", "#c9ced6", "#d55e00")
DARK = Theme("#161b22", "#e6edf3", "#9198a1", "#2d333b", "#56b4e9", "#e69f00", "#4d5561", "#ff8a4c")

Draw = Callable[[Figure, Theme], None]


def render(draw: Draw, theme: Theme, height_in: float) -> bytes:
    """A picture as PNG; the same drawing gives the same bytes."""
    style: Any = {  # Any, as only the newest matplotlib has a type for the names
        "font.size": 9,
        "axes.titlesize": 9,
        "axes.titlelocation": "left",
        "axes.titlecolor": theme.text,
        "axes.facecolor": theme.page,
        "axes.edgecolor": theme.muted,
        "axes.labelcolor": theme.muted,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": theme.grid,
        "xtick.color": theme.muted,
        "ytick.color": theme.muted,
        "text.color": theme.text,
        "legend.frameon": False,
        "legend.fontsize": 8,
        "lines.linewidth": 1.6,
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=(WIDTH_IN, height_in), facecolor=theme.page, layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure, theme)
        out = io.BytesIO()
        figure.savefig(out, format="png", dpi=DPI, metadata={"Software": None})
    return out.getvalue()


def accuracy(rounds: Sequence[RoundRecord], target_accuracy: float | None, study: StudyResult | None) -> Draw:
    """Test accuracy per round, with the target and the reference study's result, and both losses below."""

    def draw(figure: Figure, theme: Theme) -> None:
        upper, lower = figure.subplots(2, sharex=True, height_ratios=(3, 2))
        evaluated = [(r.round_number, r.accuracy) for r in rounds if r.accuracy is not None]
        _line(upper, evaluated, theme.compute, "test accuracy")
        if target_accuracy is not None:
            upper.axhline(target_accuracy, color=theme.highlight, linestyle="--", linewidth=1, label="target")
        if study is not None:
            upper.plot(study.rounds, study.accuracy, "D", color=theme.communication, markersize=5, label="study")
        upper.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
        upper.set_title("Test accuracy")
        if target_accuracy is not None or study is not None:
            upper.legend(loc="lower right")
        test = [(r.round_number, r.loss) for r in rounds if r.loss is not None]
        training = [(r.round_number, r.train_loss) for r in rounds if r.train_loss is not None]
        _line(lower, test, theme.compute, "test set")
        _line(lower, training, theme.communication, "training, on the devices")
        lower.set_title("Loss")
        lower.set_ylim(bottom=0)
        lower.legend(loc="upper right")
        _round_axis(lower, max(rounds[-1].round_number, study.rounds if study is not None else 0))

    return draw


def levels(reached: Sequence[Level], study: StudyResult | None) -> Draw:
    """Rounds and seconds until the model was so good for the first time, with the reference study's rounds."""

    def draw(figure: Figure, theme: Theme) -> None:
        left, right = figure.subplots(1, 2, sharey=True)
        marked = study.accuracy if study is not None else None
        shares = sorted({*(level.accuracy for level in reached), *([marked] if marked is not None else [])})
        rows = {share: row for row, share in enumerate(shares)}
        places = [rows[level.accuracy] for level in reached]
        rounds, seconds = [level.rounds for level in reached], [level.seconds for level in reached]
        for axes, values, form in ((left, rounds, "{:.0f}"), (right, seconds, "{:.1f}")):
            bars = axes.barh(places, values, 0.6, color=theme.compute, label="this run", linewidth=0)
            axes.bar_label(bars, fmt=form, padding=3, color=theme.text, fontsize=8)
            axes.set_xlim(0, max([*values, 1.0]) * 1.3)
            axes.grid(visible=False, axis="y")
        left.set_yticks(list(rows.values()), [f"{share:.0%}" for share in shares])
        left.set_ylabel("test accuracy")
        left.set_xlabel("rounds")
        right.set_xlabel("seconds of all rounds")
        left.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        if study is not None:
            left.plot(
                [study.rounds], [rows[study.accuracy]], "D", color=theme.communication, markersize=6, label="study"
            )
            left.set_xlim(0, max(*rounds, study.rounds) * 1.2)
            figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=2)

    return draw


def timeline(reports: Sequence[DeviceRecord], names: Sequence[str], straggler: Straggler | None) -> Draw:
    """Compute, communication and idle of each named device, round by round, as stacked bars on one scale."""

    def draw(figure: Figure, theme: Theme) -> None:
        panels = figure.subplots(len(names), sharex=True, sharey=True, squeeze=False)[:, 0]
        bars = {name: _bars([r for r in reports if r.agent_id == name]) for name in names}
        limit_s, cut = _common_limit([sum(parts) for device in bars.values() for _, parts in device])
        width = 0.86 * _bin_size(reports)
        for axes, name in zip(panels, names, strict=True):
            _stack(axes, bars[name], width, theme)
            is_straggler = straggler is not None and straggler.agent_id == name
            axes.set_title(
                f"{name}, the straggler" if is_straggler else name,
                color=theme.highlight if is_straggler else theme.text,
            )
            axes.grid(visible=False, axis="x")
            axes.yaxis.set_major_locator(MaxNLocator(3))
        panels[0].set_ylim(0, limit_s)
        figure.supylabel("seconds" + (" (longer bars are cut)" if cut else ""), fontsize=9, color=theme.muted)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=3)
        _round_axis(panels[-1], max(report.round_number for report in reports))

    return draw


def breakdown(devices: Sequence[DeviceSummary]) -> Draw:
    """Mean seconds of a round per device: compute, communication, idle."""

    def draw(figure: Figure, theme: Theme) -> None:
        axes = figure.subplots()
        parts = [
            ("compute", theme.compute, [d.train_s or 0.0 for d in devices]),
            ("communication", theme.communication, [(d.download_s or 0.0) + (d.upload_s or 0.0) for d in devices]),
            ("idle", theme.idle, [d.idle_s or 0.0 for d in devices]),
        ]
        horizontal_bars(axes, [d.agent_id for d in devices], parts, stacked=True)
        axes.set_xlabel("seconds a round, mean")
        figure.legend(loc="outside upper center", ncols=3)

    return draw


def traffic(devices: Sequence[DeviceSummary]) -> Draw:
    """Bytes of MQTT packets per device over the whole run, sent and received."""

    def draw(figure: Figure, theme: Theme) -> None:
        axes = figure.subplots()
        parts = [
            ("sent", theme.compute, [d.packet_bytes_up / 1e6 for d in devices]),
            ("received", theme.communication, [d.packet_bytes_down / 1e6 for d in devices]),
        ]
        horizontal_bars(axes, [d.agent_id for d in devices], parts, stacked=False)
        axes.set_xlabel("MB of MQTT packets, whole run")
        figure.legend(loc="outside upper center", ncols=2)

    return draw


def latency(latencies: Mapping[int, Mapping[str, float]], names: Sequence[str], straggler: Straggler | None) -> Draw:
    """Announcement to counted update per device: every round a dot, and the mean."""

    def draw(figure: Figure, theme: Theme) -> None:
        axes = figure.subplots()
        for place, name in enumerate(names):
            values = [by_agent[name] for by_agent in latencies.values() if name in by_agent]
            if not values:
                continue
            is_straggler = straggler is not None and straggler.agent_id == name
            colour = theme.highlight if is_straggler else theme.compute
            axes.plot(values, _spread(place, len(values)), "o", color=colour, markersize=3, alpha=0.55, mew=0)
            axes.plot([fmean(values)] * 2, [place - 0.38, place + 0.38], color=theme.text, linewidth=1.6)
        _name_axis(axes, names)
        axes.set_xlim(left=0)
        axes.set_xlabel("seconds; a dot a round, the line is the mean")

    return draw


def height_for_bars(num_devices: int) -> float:
    """Inches for one horizontal bar, or pair, per device."""
    return max(1.9, 1.0 + 0.3 * num_devices)


def height_for_timeline(num_devices: int) -> float:
    """Inches for one panel per device."""
    return 0.8 + 0.95 * num_devices


def _line(axes: Axes, points: Sequence[tuple[int, float]], colour: str, label: str) -> None:
    style = "o-" if len(points) <= 40 else "-"
    axes.plot([x for x, _ in points], [y for _, y in points], style, color=colour, markersize=3, label=label)


def _round_axis(axes: Axes, last_round: int) -> None:
    axes.set_xlabel("round")
    margin = 0.5 + 0.01 * last_round
    axes.set_xlim(1 - margin, last_round + margin)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]))


_Bar = tuple[float, float, float]


def _bars(records: Sequence[DeviceRecord]) -> list[tuple[float, _Bar]]:
    """Place and (compute, communication, idle) of each bar; many rounds share one, as their mean."""
    size = _bin_size(records)
    groups: dict[int, list[_Bar]] = {}
    for record in records:
        report = record.report
        parts = (report.train_s, report.download_s + report.upload_s, report.idle_s)
        groups.setdefault((record.round_number - 1) // size, []).append(parts)
    return [
        (1 + group * size + (size - 1) / 2, (fmean(p[0] for p in g), fmean(p[1] for p in g), fmean(p[2] for p in g)))
        for group, g in sorted(groups.items())
    ]


def _bin_size(records: Sequence[DeviceRecord]) -> int:
    return math.ceil(max((r.round_number for r in records), default=1) / TIMELINE_BARS)


def _stack(axes: Axes, bars: Sequence[tuple[float, _Bar]], width: float, theme: Theme) -> None:
    places = [place for place, _ in bars]
    bottom = [0.0] * len(bars)
    for i, (label, colour) in enumerate(
        (("compute", theme.compute), ("communication", theme.communication), ("idle", theme.idle))
    ):
        heights = [parts[i] for _, parts in bars]
        axes.bar(places, heights, width, bottom=bottom, color=colour, label=label, linewidth=0)
        bottom = [a + b for a, b in zip(bottom, heights, strict=True)]


def _common_limit(totals_s: Sequence[float]) -> tuple[float, bool]:
    """The axis's end, and whether bars are longer: one round that waited for a dead device must not flatten all."""
    highest_s = max(totals_s, default=0.0)
    if len(totals_s) < 10 or highest_s == 0.0:
        return highest_s * 1.05 or 1.0, False
    usual_s = 1.4 * quantiles(totals_s, n=20)[-1]
    return (usual_s, True) if highest_s > usual_s > 0 else (highest_s * 1.05, False)


def horizontal_bars(
    axes: Axes, names: Sequence[str], parts: Sequence[tuple[str, str, list[float]]], *, stacked: bool
) -> None:
    """Bars for each name, of parts with their label, colour and values: on top of each other, or beside."""
    left = [0.0] * len(names)
    thickness = 0.7 if stacked else 0.7 / len(parts)
    for i, (label, colour, values) in enumerate(parts):
        shift = 0.0 if stacked else (i - (len(parts) - 1) / 2) * thickness
        places = [place + shift for place in range(len(names))]
        axes.barh(places, values, thickness, left=left, color=colour, label=label, linewidth=0)
        if stacked:
            left = [a + b for a, b in zip(left, values, strict=True)]
    _name_axis(axes, names)


def _name_axis(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")


def _spread(place: int, count: int) -> list[float]:
    """Dots beside each other instead of on top of each other, the same way every time."""
    return [place + 0.28 * (((i * 0.618) % 1.0) * 2 - 1) for i in range(count)]
