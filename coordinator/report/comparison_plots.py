"""Draws several runs on one picture: accuracy by round, time and traffic, and where a round's time goes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, cycle
from statistics import fmean
from typing import NamedTuple

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from coordinator.report.plots import Draw, Theme, horizontal_bars
from coordinator.summary import DeviceSummary
from schemas.records import RoundRecord


@dataclass(frozen=True, slots=True)
class Curve:
    """How good a run's model was after each round that was evaluated, and what it had cost by then.

    Attributes:
        accuracy: of each; rounds, seconds, megabytes: on the horizontal axis.
    """

    accuracy: list[float]
    rounds: list[float]
    seconds: list[float]
    megabytes: list[float]

    @classmethod
    def of(cls, rounds: Sequence[RoundRecord], mb_per_device: float) -> "Curve":
        """The curve of a run's rounds.

        Args:
            mb_per_device: of the whole run; divided over the rounds as the coordinator's traffic is.
        """
        seconds = list(accumulate(record.duration_s for record in rounds))
        traffic = list(accumulate(record.packet_bytes_up + record.packet_bytes_down for record in rounds))
        shown = [(i, r.accuracy) for i, r in enumerate(rounds) if r.accuracy is not None]
        return cls(
            accuracy=[accuracy for _, accuracy in shown],
            rounds=[float(rounds[i].round_number) for i, _ in shown],
            seconds=[seconds[i] for i, _ in shown],
            megabytes=[mb_per_device * traffic[i] / (traffic[-1] or 1) for i, _ in shown],
        )


def curves(runs: Mapping[str, Curve], axis: str, unit: str) -> Draw:
    """Test accuracy of several runs on one picture.

    Args:
        axis: `rounds`, `seconds` or `megabytes` of each curve; unit: in words.
    """

    def draw(figure: Figure, theme: Theme) -> None:
        axes = figure.subplots()
        for place, ((run_id, curve), (colour, dashes)) in enumerate(zip(runs.items(), cycle(_looks(theme)))):
            # Those behind are wider, as runs with the same models have the same curve.
            width = 1.4 + 2.4 * (len(runs) - 1 - place) / max(1, len(runs) - 1)
            size = width + 1.8 if len(curve.accuracy) <= 40 else 0
            x = getattr(curve, axis)
            axes.plot(x, curve.accuracy, "o", ls=dashes, color=colour, lw=width, markersize=size, label=run_id)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
        axes.set_xlim(left=0)
        axes.set_xlabel(unit)
        if axis == "rounds":
            axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]))
        figure.legend(loc="outside upper center", ncols=2)

    return draw


class Parts(NamedTuple):
    """Mean seconds of a round over a run's devices."""

    compute_s: float
    communication_s: float
    idle_s: float

    @classmethod
    def of(cls, devices: Sequence[DeviceSummary]) -> "Parts | None":
        """Of the devices that reported; None when none did."""
        told = [d for d in devices if d.train_s is not None]
        if not told:
            return None
        return cls(
            fmean(d.train_s or 0.0 for d in told),
            fmean((d.download_s or 0.0) + (d.upload_s or 0.0) for d in told),
            fmean(d.idle_s or 0.0 for d in told),
        )


def parts(runs: Mapping[str, Parts | None]) -> Draw:
    """Mean seconds of a round per run: compute, communication, idle."""

    def draw(figure: Figure, theme: Theme) -> None:
        axes = figure.subplots()
        told = {run_id: found for run_id, found in runs.items() if found is not None}
        bars = [
            ("compute", theme.compute, [found.compute_s for found in told.values()]),
            ("communication", theme.communication, [found.communication_s for found in told.values()]),
            ("idle", theme.idle, [found.idle_s for found in told.values()]),
        ]
        horizontal_bars(axes, list(told), bars, stacked=True)
        axes.set_xlabel("seconds a round, mean over the devices")
        figure.legend(loc="outside upper center", ncols=3)

    return draw


def _looks(theme: Theme) -> list[tuple[str, str]]:
    """Colour and dashes: enough to tell eight curves apart, also in print."""
    colours = (theme.compute, theme.communication, theme.highlight, theme.muted)
    return [(colour, dashes) for dashes in ("-", "--") for colour in colours]
