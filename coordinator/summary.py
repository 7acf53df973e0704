"""Numbers about a run, worked out from its records alone: per device, per phase, refusals, who holds it up.

Pure functions over records. Everything that shows a run (`show`, `devices`, the report, the demo) takes its numbers
from here, so that they agree.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean, median

from coordinator.quarantine import LET_OUT, quarantined
from schemas.identifiers import UNKNOWN_ID
from schemas.records import DeviceRecord, RoundRecord, RunEvent, Tally

Record = RoundRecord | DeviceRecord | RunEvent

PHASES = ("broadcast_s", "wait_s", "aggregate_s", "checkpoint_s", "evaluate_s")
"""The parts of a round, as `RoundRecord` names them; the last two may overlap."""

STRAGGLER_FACTOR = 1.25
"""A device counts as the straggler from this many times the others' median latency on."""

WITHOUT_A_WORD = frozenset({"agent-silent", LET_OUT})
"""Events about an agent that do not mean that it was there."""

PRESENCE_ENDS = frozenset({"started", "resumed"})
"""Events at which the coordinator knows of nobody."""


_MEANS = ("latency_s", "download_s", "train_s", "upload_s", "idle_s")
_TOTALS = ("payload_bytes_up", "payload_bytes_down", "packet_bytes_up", "packet_bytes_down")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSummary:
    """One device over a whole run. Means are over its reports, totals too; None where nothing was reported.

    Attributes:
        online: it was there when the last thing about it was recorded.
        quarantined: it was shut out, and was not let back.
        last_seen_at: UTC seconds on the coordinator's clock.
        rounds_selected, rounds_accepted: asked to take part, and with its update in the model.
        examples: that it holds, by its latest report.
        latency_s: announcement to counted update, mean; see `latency_s`.
        train_total_s: seconds of training in the whole run.
        payload_bytes_*, packet_bytes_*: as the device counted them, up is sent; its last few packets are in no report.
        cpu_temperature_c, max_cpu_temperature_c: the latest and the highest.
        refused: messages by reason.
    """

    agent_id: str
    online: bool
    quarantined: bool
    last_seen_at: float | None
    rounds_selected: int
    rounds_accepted: int
    examples: int | None
    download_s: float | None
    train_s: float | None
    upload_s: float | None
    idle_s: float | None
    latency_s: float | None
    train_total_s: float
    payload_bytes_up: int
    payload_bytes_down: int
    packet_bytes_up: int
    packet_bytes_down: int
    peak_rss_bytes: int | None
    cpu_temperature_c: float | None
    max_cpu_temperature_c: float | None
    throttled_reports: int
    refused: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Straggler:
    """The device that the others wait for.

    Attributes:
        latency_s: its mean; others_latency_s: the median of the other devices' means.
        last_in_rounds: how often its update was the last one.
        since_round: it was the last one in every round from this one on; None when it was not in the latest.
        cost_s: how much sooner all updates would have been there without it, over all rounds.
    """

    agent_id: str
    latency_s: float
    others_latency_s: float
    last_in_rounds: int
    since_round: int | None
    cost_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTotals:
    """A whole run.

    Attributes:
        rounds_closed: how many; a round that was repeated counts once.
        final_accuracy: of the last round that was evaluated; best_accuracy and best_round: the highest.
        duration_s: the sum of the rounds'.
        phase_s: mean seconds of each of `PHASES`.
        refused: messages refused, all reasons.
        train_s_per_device, packet_bytes_*_per_device: means over the devices that reported, whole run.
    """

    rounds_closed: int
    final_accuracy: float | None
    best_accuracy: float | None
    best_round: int | None
    duration_s: float
    phase_s: dict[str, float]
    refused: int
    ignored_fields: int
    devices: int
    train_s_per_device: float
    packet_bytes_up_per_device: float
    packet_bytes_down_per_device: float


class DeviceTally:
    """One device's reports, added up one by one, in memory that does not grow with them."""

    def __init__(self) -> None:
        self.num_reports = 0
        self._sums = dict.fromkeys((*_MEANS, *_TOTALS), 0.0)
        self._throttled_reports = 0
        self._examples: int | None = None
        self._peak_rss_bytes: int | None = None
        self._temperature_c: float | None = None
        self._max_temperature_c = -math.inf

    def add(self, record: DeviceRecord) -> None:
        """Count a report."""
        report = record.report
        self._count(record, 1)
        self._examples = report.examples
        self._peak_rss_bytes = max(report.peak_rss_bytes, self._peak_rss_bytes or 0)
        if report.cpu_temperature_c is not None:
            self._temperature_c = report.cpu_temperature_c
            self._max_temperature_c = max(report.cpu_temperature_c, self._max_temperature_c)

    def replace(self, old: DeviceRecord, new: DeviceRecord) -> None:
        """Count a report that was recorded again instead of the first time; the highest of both stays the highest."""
        self._count(old, -1)
        self.add(new)

    def mean(self, name: str) -> float | None:
        """The mean of one of the report's durations, or of `latency_s`."""
        return self._sums[name] / self.num_reports if self.num_reports else None

    @property
    def packet_bytes(self) -> int:
        """Sent and received."""
        return int(self._sums["packet_bytes_up"] + self._sums["packet_bytes_down"])

    def summary(  # noqa: PLR0913 - what is known of a device besides its reports
        self,
        *,
        agent_id: str,
        online: bool,
        quarantined: bool,
        last_seen_at: float | None,
        rounds_selected: int,
        rounds_accepted: int,
        refused: dict[str, int],
    ) -> DeviceSummary:
        """These reports and what else is known."""
        return DeviceSummary(
            agent_id=agent_id,
            online=online,
            quarantined=quarantined,
            last_seen_at=last_seen_at,
            rounds_selected=rounds_selected,
            rounds_accepted=rounds_accepted,
            examples=self._examples,
            download_s=self.mean("download_s"),
            train_s=self.mean("train_s"),
            upload_s=self.mean("upload_s"),
            idle_s=self.mean("idle_s"),
            latency_s=self.mean("latency_s"),
            train_total_s=self._sums["train_s"],
            payload_bytes_up=int(self._sums["payload_bytes_up"]),
            payload_bytes_down=int(self._sums["payload_bytes_down"]),
            packet_bytes_up=int(self._sums["packet_bytes_up"]),
            packet_bytes_down=int(self._sums["packet_bytes_down"]),
            peak_rss_bytes=self._peak_rss_bytes,
            cpu_temperature_c=self._temperature_c,
            max_cpu_temperature_c=self._max_temperature_c if self._temperature_c is not None else None,
            throttled_reports=self._throttled_reports,
            refused=refused,
        )

    def _count(self, record: DeviceRecord, sign: int) -> None:
        self.num_reports += sign
        for name in (*_MEANS[1:], *_TOTALS):
            self._sums[name] += sign * getattr(record.report, name)
        self._sums["latency_s"] += sign * latency_s(record)
        self._throttled_reports += sign * (record.report.throttled is True)


def rounds_of(records: Iterable[Record]) -> list[RoundRecord]:
    """The closed rounds."""
    return [record for record in records if isinstance(record, RoundRecord)]


def reports_of(records: Iterable[Record]) -> list[DeviceRecord]:
    """The devices' reports."""
    return [record for record in records if isinstance(record, DeviceRecord)]


def events_of(records: Iterable[Record]) -> list[RunEvent]:
    """What else happened."""
    return [record for record in records if isinstance(record, RunEvent)]


def refusals(rounds: Iterable[RoundRecord]) -> dict[str, dict[str, int]]:
    """Refused messages as reason -> sender -> count, the most frequent reason first."""
    counted: dict[str, Counter[str]] = {}
    for record in rounds:
        for agent_id, reasons in record.refused.items():
            for reason, count in reasons.items():
                counted.setdefault(reason, Counter())[agent_id] += count
    ordered = sorted(counted.items(), key=lambda item: (-item[1].total(), item[0]))
    return {reason: dict(sorted(by_agent.items())) for reason, by_agent in ordered}


def num_refused(refused: Tally) -> int:
    """How many messages a tally holds."""
    return sum(sum(reasons.values()) for reasons in refused.values())


def rounds_to_target(rounds: Iterable[RoundRecord], target_accuracy: float | None) -> int | None:
    """The first round that reached the target; None when there is none, or it was never reached."""
    if target_accuracy is None:
        return None
    reached = [r.round_number for r in rounds if r.accuracy is not None and r.accuracy >= target_accuracy]
    return min(reached, default=None)


LEVELS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.97, 0.98, 0.99)
"""Shares of the test set by which runs are compared."""


@dataclass(frozen=True, slots=True)
class Level:
    """When a model first got so much of the test set right: after how many rounds, and seconds of all rounds."""

    accuracy: float
    rounds: int
    seconds: float


def levels(rounds: Iterable[RoundRecord], more: Iterable[float | None] = ()) -> list[Level]:
    """The levels that a run reached, in order.

    Args:
        more: besides `LEVELS`, such as the run's target.
    """
    kept = list(rounds)
    found = []
    for level in sorted({*LEVELS, *(share for share in more if share is not None)}):
        number = rounds_to_target(kept, level)
        if number is not None:
            seconds = sum(record.duration_s for record in kept if record.round_number <= number)
            found.append(Level(level, number, seconds))
    return found


def latency_s(record: DeviceRecord) -> float:
    """Announcement to counted update; where the coordinator did not measure it, as the device's own parts add up."""
    if record.latency_s is not None:
        return record.latency_s
    return record.report.download_s + record.report.train_s + record.report.upload_s


def latencies_by_round(records: Iterable[Record]) -> dict[int, dict[str, float]]:
    """Round -> device -> latency, of the updates that were accepted."""
    kept = list(records)
    accepted = {record.round_number: frozenset(record.accepted) for record in rounds_of(kept)}
    out: dict[int, dict[str, float]] = {number: {} for number in sorted(accepted)}
    for record in reports_of(kept):
        if record.agent_id in accepted.get(record.round_number, ()):
            out[record.round_number][record.agent_id] = latency_s(record)
    return out


def find_straggler(latencies: Mapping[int, Mapping[str, float]]) -> Straggler | None:
    """The device with the highest mean latency, when it stands out by `STRAGGLER_FACTOR`; else None.

    Args:
        latencies: round -> device -> seconds, as `latencies_by_round` gives them.
    """
    by_device: dict[str, list[float]] = {}
    for values in latencies.values():
        for agent_id, value in values.items():
            by_device.setdefault(agent_id, []).append(value)
    if len(by_device) < 2:
        return None
    means = {agent_id: fmean(values) for agent_id, values in by_device.items()}
    slowest = max(sorted(means), key=lambda agent_id: means[agent_id])
    others_s = median(mean for agent_id, mean in means.items() if agent_id != slowest)
    if means[slowest] < STRAGGLER_FACTOR * others_s:
        return None
    contested = {number: values for number, values in sorted(latencies.items()) if len(values) > 1}
    last = [number for number, values in contested.items() if max(values, key=lambda a: values[a]) == slowest]
    return Straggler(
        agent_id=slowest,
        latency_s=means[slowest],
        others_latency_s=others_s,
        last_in_rounds=len(last),
        since_round=_start_of_streak(list(contested), last),
        cost_s=sum(_lead_s(contested[number]) for number in last),
    )


def summarise_devices(records: Iterable[Record]) -> list[DeviceSummary]:
    """Every device that was selected, reported, or was seen, by name."""
    kept = list(records)
    rounds, reports, events = rounds_of(kept), reports_of(kept), events_of(kept)
    selected = Counter(agent_id for record in rounds for agent_id in record.selected)
    accepted = Counter(agent_id for record in rounds for agent_id in record.accepted)
    refused = _refused_by_agent(rounds)
    tallies: dict[str, DeviceTally] = {}
    for report in reports:
        tallies.setdefault(report.agent_id, DeviceTally()).add(report)
    present, shut_out = _present(events), quarantined(events)
    names = {*selected, *tallies, *refused, *present} - {UNKNOWN_ID}
    last_seen_at = _last_seen(events, reports)
    return [
        tallies.get(name, DeviceTally()).summary(
            agent_id=name,
            online=present.get(name, False),
            quarantined=name in shut_out,
            last_seen_at=last_seen_at.get(name),
            rounds_selected=selected[name],
            rounds_accepted=accepted[name],
            refused=refused.get(name, {}),
        )
        for name in sorted(names)
    ]


def total(records: Iterable[Record]) -> RunTotals:
    """The whole run in a few numbers."""
    kept = list(records)
    rounds = rounds_of(kept)
    evaluated = [(r.accuracy, -r.round_number) for r in rounds if r.accuracy is not None]
    best = max(evaluated, default=None)
    devices = [device for device in summarise_devices(kept) if device.train_s is not None]
    return RunTotals(
        rounds_closed=len(rounds),
        final_accuracy=evaluated[-1][0] if evaluated else None,
        best_accuracy=best[0] if best else None,
        best_round=-best[1] if best else None,
        duration_s=sum(r.duration_s for r in rounds),
        phase_s={phase: _mean(getattr(r, phase) for r in rounds) or 0.0 for phase in PHASES},
        refused=sum(num_refused(r.refused) for r in rounds),
        ignored_fields=sum(r.ignored_fields for r in rounds),
        devices=len(devices),
        train_s_per_device=_mean(device.train_total_s for device in devices) or 0.0,
        packet_bytes_up_per_device=_mean(device.packet_bytes_up for device in devices) or 0.0,
        packet_bytes_down_per_device=_mean(device.packet_bytes_down for device in devices) or 0.0,
    )


def _refused_by_agent(rounds: Iterable[RoundRecord]) -> dict[str, dict[str, int]]:
    out: dict[str, dict[str, int]] = {}
    for reason, by_agent in refusals(rounds).items():
        for agent_id, count in by_agent.items():
            out.setdefault(agent_id, {})[reason] = count
    return out


def _present(events: Iterable[RunEvent]) -> dict[str, bool]:
    """Who was there at the end of the record; a coordinator that starts knows of nobody."""
    present: dict[str, bool] = {}
    for event in events:
        if event.name in PRESENCE_ENDS:
            present = dict.fromkeys(present, False)
        elif event.agent_id is not None and event.name in ("agent-online", "agent-offline"):
            present[event.agent_id] = event.name == "agent-online"
    return present


def _last_seen(events: Iterable[RunEvent], reports: Iterable[DeviceRecord]) -> dict[str, float]:
    """When each device was last heard of: an update's arrival, or an event that it caused itself."""
    seen: dict[str, float] = {}
    moments = [(e.agent_id, e.at) for e in events if e.agent_id is not None and e.name not in WITHOUT_A_WORD]
    moments += [(r.agent_id, r.started_at + latency_s(r)) for r in reports]
    for agent_id, at in moments:
        seen[agent_id] = max(at, seen.get(agent_id, at))
    return seen


def _start_of_streak(rounds: list[int], hits: list[int]) -> int | None:
    """The first of the unbroken run of hits at the end."""
    start = None
    for number in reversed(rounds):
        if number not in hits:
            break
        start = number
    return start


def _lead_s(latencies: Mapping[str, float]) -> float:
    """From the last but one to the last."""
    last, before = sorted(latencies.values(), reverse=True)[:2]
    return last - before


def _mean(values: Iterable[float]) -> float | None:
    kept = list(values)
    return fmean(kept) if kept else None
