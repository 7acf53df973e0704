"""Ready answers about runs, worked out from their records: who holds up a run, what it costs, how far it is.

Each is also a saved query over the same numbers in InfluxDB (`dashboards/answers/`), and a test holds the two together.
Pure functions; which runs are meant, and how an answer is shown, is the command's (`commands/answering.py`).
"""

import calendar
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from coordinator import summary
from coordinator.summary import Record, Straggler
from schemas.errors import ConfigError
from schemas.records import RoundRecord

DAY_S = 86_400.0
NOW_S = DAY_S
LAST_WEEK_S = 7 * DAY_S
MB = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class StragglerSince:
    """The straggler of a run.

    Attributes:
        since_at: UTC seconds at which the first round of its streak was announced; None without a streak.
    """

    straggler: Straggler
    since_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceMegabytes:
    """What a device sent and received: whole MQTT packets, in 1,000,000 bytes."""

    agent_id: str
    mb_up: float
    mb_down: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long rounds took in a time; None when there were none."""

    rounds: int
    mean_s: float | None
    max_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Messages of one sender that were refused for one reason, and in which rounds."""

    agent_id: str
    reason: str
    messages: int
    first_round: int
    last_round: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is from its target.

    Attributes:
        round_number, accuracy: of the last round that was evaluated.
        missing: target less accuracy; negative once past it, None without a target.
        rounds_left: until the run ends at the latest.
        gain_per_round: of accuracy, mean over the last five rounds that were evaluated.
        rounds_needed: at that pace; None when there is no target or no gain, 0 when it is reached.
    """

    round_number: int
    accuracy: float
    target_accuracy: float | None
    missing: float | None
    rounds_left: int | None
    gain_per_round: float | None
    rounds_needed: int | None


def straggler(records: Iterable[Record]) -> StragglerSince | None:
    """Which device holds up a run, and since when; None when no device stands out."""
    kept = list(records)
    found = summary.find_straggler(summary.latencies_by_round(kept))
    if found is None:
        return None
    starts = {record.round_number: record.started_at for record in summary.rounds_of(kept)}
    since_at = starts.get(found.since_round) if found.since_round is not None else None
    return StragglerSince(straggler=found, since_at=since_at)


def month_bounds(month: str) -> tuple[float, float]:
    """The first moments of a month and of the next, UTC seconds.

    Args:
        month: such as `2026-11`.

    Raises:
        ConfigError: it is none.
    """
    try:
        parsed = time.strptime(month, "%Y-%m")
    except ValueError as error:
        raise ConfigError(f"month {month!r}: expected year and month, such as 2026-11") from error
    year, number = (parsed.tm_year + 1, 1) if parsed.tm_mon == 12 else (parsed.tm_year, parsed.tm_mon + 1)
    return calendar.timegm((parsed.tm_year, parsed.tm_mon, 1, 0, 0, 0)), calendar.timegm((year, number, 1, 0, 0, 0))


def megabytes(runs: Iterable[Iterable[Record]], start_s: float, end_s: float) -> list[DeviceMegabytes]:
    """What each device moved in rounds that began in this time, all runs together, by name."""
    totals: dict[str, tuple[int, int]] = {}
    for records in runs:
        for record in summary.reports_of(records):
            if start_s <= record.started_at < end_s:
                up, down = totals.get(record.agent_id, (0, 0))
                report = record.report
                totals[record.agent_id] = up + report.packet_bytes_up, down + report.packet_bytes_down
    return [
        DeviceMegabytes(agent_id=agent_id, mb_up=up / MB, mb_down=down / MB)
        for agent_id, (up, down) in sorted(totals.items())
    ]


def pace(runs: Iterable[Iterable[Record]], now_s: float) -> tuple[Pace, Pace]:
    """How long rounds took in the last 24 hours, and in the seven days before those; all runs together."""
    rounds = [record for records in runs for record in summary.rounds_of(records)]
    turn_s = now_s - NOW_S
    lately = [r for r in rounds if turn_s < r.started_at]
    before = [r for r in rounds if turn_s - LAST_WEEK_S < r.started_at <= turn_s]
    return _pace(lately), _pace(before)


def refusals(records: Iterable[Record]) -> list[Refusal]:
    """Which messages were refused and why, by sender and reason."""
    counted: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for record in summary.rounds_of(records):
        for agent_id, reasons in record.refused.items():
            for reason, count in reasons.items():
                if count:
                    counted.setdefault((agent_id, reason), []).append((record.round_number, count))
    return [
        Refusal(
            agent_id=agent_id,
            reason=reason,
            messages=sum(count for _, count in hits),
            first_round=min(number for number, _ in hits),
            last_round=max(number for number, _ in hits),
        )
        for (agent_id, reason), hits in sorted(counted.items())
    ]


def progress(records: Iterable[Record]) -> Progress | None:
    """How far a run is from its target; None before its first round was evaluated."""
    evaluated = [(record, record.accuracy) for record in summary.rounds_of(records) if record.accuracy is not None]
    if not evaluated:
        return None
    last, accuracy = evaluated[-1]
    missing = last.target_accuracy - accuracy if last.target_accuracy is not None else None
    gain = _gain_per_round([(record.round_number, value) for record, value in evaluated[-6:]])
    return Progress(
        round_number=last.round_number,
        accuracy=accuracy,
        target_accuracy=last.target_accuracy,
        missing=missing,
        rounds_left=last.rounds_planned - last.round_number if last.rounds_planned is not None else None,
        gain_per_round=gain,
        rounds_needed=_rounds_needed(missing, gain),
    )


def _pace(rounds: Sequence[RoundRecord]) -> Pace:
    durations = [record.duration_s for record in rounds]
    return Pace(
        rounds=len(durations), mean_s=fmean(durations) if durations else None, max_s=max(durations, default=None)
    )


def _gain_per_round(points: Sequence[tuple[int, float]]) -> float | None:
    (first, before), (last, after) = points[0], points[-1]
    return (after - before) / (last - first) if last > first else None


def _rounds_needed(missing: float | None, gain: float | None) -> int | None:
    if missing is not None and missing <= 0:
        return 0
    if missing is None or gain is None or gain <= 0:
        return None
    # Rounded first: 0.2 / 0.05 is a little more than 4.
    return math.ceil(round(missing / gain, 6))
