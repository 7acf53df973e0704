"""A run's record added up line by line, so that what happened last can be shown without reading the rest again.

Memory grows with devices and rounds, not with their product: reports of earlier rounds are in the devices' tallies.
Pure: takes records, knows no file and no clock.
"""

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from coordinator.quarantine import LET_OUT, PUT_IN
from coordinator.summary import (
    PRESENCE_ENDS,
    DeviceSummary,
    DeviceTally,
    Record,
    Straggler,
    find_straggler,
    latencies_by_round,
    latency_s,
    num_refused,
)
from schemas.identifiers import UNKNOWN_ID
from schemas.records import DeviceRecord, RoundRecord, RunEvent

RECENT_ROUNDS = 20
"""Of so many rounds the reports are kept one by one, for the timeline and to see who is slow now."""

KEPT_EVENTS = 200

_OUTCOMES = frozenset({"finished", "aborted", "stopped"})


@dataclass(slots=True)
class Device:
    """One device, as the record shows it so far.

    Attributes:
        online: it is there, as far as the coordinator knows.
        quarantined: it was shut out and was not let back.
        gone_at: when it was found missing; None while it is there, and after a restart until it is known.
        silent_at: since when it is there without having sent what it was asked for, or None.
        failed_at: when it said that it cannot deliver, or None since it did again; `failure`: why, in its words.
        last_seen_at: when it was last heard of.
        throttled: its latest report says that it slows itself down.
    """

    online: bool = False
    quarantined: bool = False
    gone_at: float | None = None
    silent_at: float | None = None
    failed_at: float | None = None
    failure: str = ""
    last_seen_at: float | None = None
    cpu_temperature_c: float | None = None
    throttled: bool = False
    rounds_selected: int = 0
    rounds_accepted: int = 0
    reported_rounds: int = 0  # a bit for each round, so that a report is never counted twice
    refused: Counter[str] = field(default_factory=Counter)
    tally: DeviceTally = field(default_factory=DeviceTally)


@dataclass(frozen=True, slots=True)
class ClosedRound:
    """What stays of a round: its record without the names."""

    number: int
    attempt: int
    started_at: float
    num_selected: int
    num_accepted: int
    num_refused: int
    duration_s: float
    broadcast_s: float
    wait_s: float
    aggregate_s: float
    checkpoint_s: float
    evaluate_s: float
    train_loss: float | None
    loss: float | None
    accuracy: float | None
    packet_bytes_up: int
    packet_bytes_down: int


@dataclass(frozen=True, slots=True)
class RoundUnderWay:
    """The round that is open."""

    number: int
    opened_at: float


class LiveRun:
    """Everything that the page shows of one run.

    Attributes:
        devices: by agent id, in the order in which they were first heard of.
        rounds: closed ones by number, ascending; `last_round`: the highest number, 0 before the first.
        events: the latest ones, oldest first.
        open_round: the round under way, or None.
        turn: the last of started, resumed, finished, aborted and stopped; None when nothing has happened yet.
        broker_since: since when the broker is in reach, or out of it (`broker_connected`); None when not yet known.
        strangers: refused messages of senders that are no member, by reason.
    """

    def __init__(self) -> None:
        self.devices: dict[str, Device] = {}
        self.last_round = 0
        self.rounds: dict[int, ClosedRound] = {}
        self.events: deque[RunEvent] = deque(maxlen=KEPT_EVENTS)
        self.open_round: RoundUnderWay | None = None
        self.turn: RunEvent | None = None
        self.started_at: float | None = None
        self.last_at: float | None = None
        self.broker_connected = False
        self.broker_since: float | None = None
        self._tells_broker = False
        self.repeated_rounds = 0
        self.refused: dict[str, Counter[str]] = {}
        self.strangers: Counter[str] = Counter()
        self._recent_rounds: dict[int, RoundRecord] = {}
        self._recent_reports: dict[int, dict[str, DeviceRecord]] = {}

    def add(self, record: Record) -> None:
        """Take the next record."""
        match record:
            case RoundRecord():
                self._add_round(record)
            case DeviceRecord():
                self._add_report(record)
            case RunEvent():
                self._add_event(record)

    @property
    def recent_rounds(self) -> Mapping[int, RoundRecord]:
        """The records of the last `RECENT_ROUNDS` rounds."""
        return self._recent_rounds

    def reports(self, round_number: int) -> Mapping[str, DeviceRecord]:
        """The devices' reports of a recent round, or of the one under way, by agent id."""
        return self._recent_reports.get(round_number, {})

    def straggler(self) -> Straggler | None:
        """Who holds up the recent rounds."""
        reports = (report for reports in self._recent_reports.values() for report in reports.values())
        return find_straggler(latencies_by_round([*self._recent_rounds.values(), *reports]))

    def summary(self, agent_id: str) -> DeviceSummary:
        """One device over the whole run, in the same numbers as `coordinator devices`."""
        device = self.devices[agent_id]
        return device.tally.summary(
            agent_id=agent_id,
            online=device.online,
            quarantined=device.quarantined,
            last_seen_at=device.last_seen_at,
            rounds_selected=device.rounds_selected,
            rounds_accepted=device.rounds_accepted,
            refused=dict(device.refused),
        )

    def _device(self, agent_id: str) -> Device:
        return self.devices.setdefault(agent_id, Device())

    def _saw(self, at: float) -> None:
        self.started_at = at if self.started_at is None else min(at, self.started_at)
        self.last_at = at if self.last_at is None else max(at, self.last_at)

    # -- rounds

    def _add_round(self, record: RoundRecord) -> None:
        number = record.round_number
        if number in self.rounds and number not in self._recent_rounds:
            return  # so old that only its numbers are left, and they were the same
        again = self._recent_rounds.get(number)
        if again is not None:
            self._count_round(again, -1)
        self._count_round(record, 1)
        self.rounds[number] = _closed(record)
        self.last_round = max(number, self.last_round)
        self._recent_rounds[number] = record
        if self.open_round is not None and self.open_round.number <= number:
            self.open_round = None
        self._find_broker(record.started_at)
        self._saw(record.started_at + record.duration_s)
        self._forget_before(self.last_round - RECENT_ROUNDS + 1)

    def _count_round(self, record: RoundRecord, sign: int) -> None:
        for agent_id in record.selected:
            self._device(agent_id).rounds_selected += sign
        for agent_id in record.accepted:
            self._device(agent_id).rounds_accepted += sign
        for agent_id, reasons in record.refused.items():
            tally = self.strangers if agent_id == UNKNOWN_ID else self._device(agent_id).refused
            for reason, count in reasons.items():
                tally[reason] += sign * count
                self.refused.setdefault(reason, Counter())[agent_id] += sign * count

    def _forget_before(self, number: int) -> None:
        for recent in (self._recent_rounds, self._recent_reports):
            for old in [known for known in recent if known < number]:
                del recent[old]

    # -- reports

    def _add_report(self, record: DeviceRecord) -> None:
        device = self._device(record.agent_id)
        reports = self._recent_reports.setdefault(record.round_number, {})
        bit = 1 << record.round_number
        if record.agent_id in reports:
            device.tally.replace(reports[record.agent_id], record)
        elif device.reported_rounds & bit:
            return
        else:
            device.tally.add(record)
        device.reported_rounds |= bit
        reports[record.agent_id] = record
        device.cpu_temperature_c = record.report.cpu_temperature_c
        device.throttled = record.report.throttled is True
        device.silent_at = device.failed_at = None
        self._hear(device, record.started_at + latency_s(record))

    def _hear(self, device: Device, at: float) -> None:
        device.last_seen_at = at if device.last_seen_at is None else max(at, device.last_seen_at)
        self._saw(at)

    # -- events

    def _add_event(self, event: RunEvent) -> None:
        self.events.append(event)
        self._saw(event.at)
        if event.name in PRESENCE_ENDS or event.name in _OUTCOMES:
            self._turn(event)
        elif event.name == "round-opened":
            self.open_round = RoundUnderWay(event.round_number, event.at)
        elif event.name == "round-repeated":
            self.open_round = None
            self.repeated_rounds += 1
        elif event.name in ("broker-connected", "broker-lost"):
            self._tells_broker = True
            self.broker_connected, self.broker_since = event.name == "broker-connected", event.at
        if event.agent_id is not None:
            self._about_device(event, event.agent_id)

    def _turn(self, event: RunEvent) -> None:
        self.turn = event
        self.open_round = None
        self.broker_connected, self.broker_since = False, event.at
        if event.name in PRESENCE_ENDS:
            for device in self.devices.values():
                device.online, device.silent_at, device.gone_at = False, None, None

    def _about_device(self, event: RunEvent, agent_id: str) -> None:
        device = self._device(agent_id)
        if event.name == "agent-silent":
            device.silent_at = device.silent_at or event.at
            return
        if event.name == LET_OUT:
            device.quarantined = False
            return
        self._hear(device, event.at)
        if event.name == "agent-online":
            device.online, device.gone_at, device.silent_at = True, None, None
            self._find_broker(event.at)
        elif event.name == "agent-offline":
            device.online, device.gone_at, device.silent_at = False, event.at, None
        elif event.name == "agent-failed":
            device.failed_at, device.failure = event.at, event.detail
        elif event.name == PUT_IN:
            device.quarantined = True

    def _find_broker(self, at: float) -> None:
        """Records of releases that did not write `broker-connected` prove it all the same."""
        if self._tells_broker or self.broker_connected:
            return
        if self.turn is not None and self.turn.name in PRESENCE_ENDS:
            self.broker_connected, self.broker_since = True, at


def live_run(records: Iterable[Record]) -> LiveRun:
    """All of these records added up."""
    run = LiveRun()
    for record in records:
        run.add(record)
    return run


def _closed(record: RoundRecord) -> ClosedRound:
    return ClosedRound(
        number=record.round_number,
        attempt=record.attempt,
        started_at=record.started_at,
        num_selected=len(record.selected),
        num_accepted=len(record.accepted),
        num_refused=num_refused(record.refused),
        duration_s=record.duration_s,
        broadcast_s=record.broadcast_s,
        wait_s=record.wait_s,
        aggregate_s=record.aggregate_s,
        checkpoint_s=record.checkpoint_s,
        evaluate_s=record.evaluate_s,
        train_loss=record.train_loss,
        loss=record.loss,
        accuracy=record.accuracy,
        packet_bytes_up=record.packet_bytes_up,
        packet_bytes_down=record.packet_bytes_down,
    )
