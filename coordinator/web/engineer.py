"""The document of the second view: for the engineer, round by round and device by device, while it goes on.

Shows nothing of a device's data: neither how many examples it holds nor how well its own training went.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from coordinator import summary, tables
from coordinator.web import advice, words
from coordinator.web.follower import Sight
from coordinator.web.live_run import ClosedRound, LiveRun
from coordinator.web.overview import thinned, troubles_of
from coordinator.web.pages import Wanted, page_of
from coordinator.web.plan import plan_of
from schemas.records import DeviceRecord, RunEvent

CHART_POINTS = 200
SHOWN_EVENTS = 40
SHOWN_SENDERS = 5
ROUNDS_PAGE = 15
TIMELINE_PAGE = 20

_SORT_KEYS: Mapping[str, Callable[[LiveRun, str], Any]] = {
    "device": lambda live, name: words.natural_key(name),
    "state": lambda live, name: (live.devices[name].online, words.natural_key(name)),
    "latency": lambda live, name: -(live.devices[name].tally.mean("latency_s") or 0.0),
    "bytes": lambda live, name: -live.devices[name].tally.packet_bytes,
    "refused": lambda live, name: -sum(live.devices[name].refused.values()),
    "rounds": lambda live, name: live.devices[name].rounds_accepted,
}
"""What the table of devices can be sorted by, the most interesting first."""

SORTS = tuple(_SORT_KEYS)


@dataclass(frozen=True, slots=True)
class Question:
    """What the second view wants to see.

    Attributes:
        timeline_round: None follows the round under way once there is a report of it, until then the last one.
    """

    devices: Wanted = field(default_factory=Wanted)
    sort: str = "device"
    timeline_round: int | None = None
    timeline_page: int = 1
    rounds_page: int = 1


def engineer(sight: Sight | None, question: Question, now_s: float) -> dict[str, Any]:
    """What the second view shows."""
    if sight is None:
        return {"at": now_s, "version": "", "run": None, "headline": asdict(advice.NO_RUN)}
    live, plan = sight.live, plan_of(sight.run_id, sight.config)
    straggler = live.straggler()
    return {
        "at": now_s,
        "version": sight.version,
        "run": {
            "run_id": sight.run_id,
            "state": advice.state_of(live, sight.running),
            "started_at": live.started_at,
            "last_at": live.last_at,
            "facts": plan.facts,
        },
        "headline": asdict(advice.headline(live, plan, sight.running, troubles_of(sight, plan, now_s), now_s)),
        "totals": _totals(live),
        "straggler": tables.straggler_sentence(straggler, min(len(live.rounds), len(live.recent_rounds))),
        "chart": _chart(live),
        "rounds": _rounds(live, question),
        "timeline": _timeline(live, question),
        "devices": _devices(live, question),
        "refusals": _refusals(live),
        "events": [_event(event) for event in list(live.events)[: -SHOWN_EVENTS - 1 : -1]],
    }


def _totals(live: LiveRun) -> dict[str, Any]:
    devices = live.devices.values()
    rounds = live.rounds.values()
    return {
        "rounds_closed": len(live.rounds),
        "repeated_rounds": live.repeated_rounds,
        "devices": len(live.devices),
        "devices_there": sum(device.online for device in devices),
        "duration_s": sum(r.duration_s for r in rounds),
        "packet_bytes_up": sum(r.packet_bytes_up for r in rounds),
        "packet_bytes_down": sum(r.packet_bytes_down for r in rounds),
        "refused": sum(counts.total() for counts in live.refused.values()),
        "broker_connected": live.broker_connected,
    }


def _chart(live: LiveRun) -> dict[str, list[Any]]:
    kept = [live.rounds[number] for number in thinned(list(live.rounds), CHART_POINTS)]
    names = ("number", "accuracy", "loss", "train_loss", *summary.PHASES, "packet_bytes_up", "packet_bytes_down")
    return {name: [getattr(r, name) for r in kept] for name in names}


def _rounds(live: LiveRun, question: Question) -> dict[str, Any]:
    page = page_of(list(live.rounds.values())[::-1], Wanted(question.rounds_page, size=ROUNDS_PAGE))
    return {**page.document(), "items": [_round(r) for r in page.items]}


def _round(closed: ClosedRound) -> dict[str, Any]:
    return asdict(closed)


def _timeline(live: LiveRun, question: Question) -> dict[str, Any]:
    """When what happened in one round: the coordinator's phases, then each device's."""
    follows = live.last_round
    if live.open_round is not None and live.reports(live.open_round.number):
        follows = live.open_round.number
    number = question.timeline_round if question.timeline_round is not None else follows
    reports, record = live.reports(number), live.recent_rounds.get(number)
    closed = live.rounds.get(number)
    names = sorted({*reports, *(record.selected if record is not None else ())}, key=words.natural_key)
    accepted = frozenset(record.accepted) if record is not None else frozenset()
    page = page_of(names, Wanted(question.timeline_page, size=TIMELINE_PAGE))
    known = sorted({*live.recent_rounds, *([live.open_round.number] if live.open_round is not None else [])})
    return {
        **page.document(),
        "round": number,
        "follows": question.timeline_round is None,
        "open": closed is None and number > 0,
        "rounds": known,
        "coordinator": {phase: getattr(closed, phase) for phase in summary.PHASES} if closed is not None else None,
        "items": [_bar(name, reports.get(name), name in accepted) for name in page.items],
    }


def _bar(agent_id: str, record: DeviceRecord | None, accepted: bool) -> dict[str, Any]:
    if record is None:
        return {"agent_id": agent_id, "accepted": accepted, "latency_s": None}
    report = record.report
    return {
        "agent_id": agent_id,
        "accepted": accepted,
        "download_s": report.download_s,
        "train_s": report.train_s,
        "upload_s": report.upload_s,
        "idle_s": report.idle_s,
        "latency_s": summary.latency_s(record),
        "packet_bytes_up": report.packet_bytes_up,
        "packet_bytes_down": report.packet_bytes_down,
    }


def _devices(live: LiveRun, question: Question) -> dict[str, Any]:
    query = question.devices.query.casefold()
    names = sorted((name for name in live.devices if query in name), key=words.natural_key)
    names.sort(key=lambda name: _SORT_KEYS[question.sort](live, name))
    page = page_of(names, question.devices)
    return {**page.document(), "sort": question.sort, "items": [_device(live, name) for name in page.items]}


def _device(live: LiveRun, agent_id: str) -> dict[str, Any]:
    device, found = live.devices[agent_id], live.summary(agent_id)
    return {
        "agent_id": agent_id,
        "online": found.online,
        "silent": device.silent_at is not None,
        "failing": device.failed_at is not None,
        "quarantined": device.quarantined,
        "last_seen_at": found.last_seen_at,
        "rounds_selected": found.rounds_selected,
        "rounds_accepted": found.rounds_accepted,
        "download_s": found.download_s,
        "train_s": found.train_s,
        "upload_s": found.upload_s,
        "idle_s": found.idle_s,
        "latency_s": found.latency_s,
        "packet_bytes_up": found.packet_bytes_up,
        "packet_bytes_down": found.packet_bytes_down,
        "peak_rss_bytes": found.peak_rss_bytes,
        "cpu_temperature_c": found.cpu_temperature_c,
        "throttled": device.throttled,
        "refused": found.refused,
    }


def _refusals(live: LiveRun) -> list[dict[str, Any]]:
    """By reason, the most frequent first, with those who sent most of them."""

    def one(reason: str, senders: Counter[str]) -> dict[str, Any]:
        most = [(name, count) for name, count in senders.most_common(SHOWN_SENDERS) if count]
        shown = [{"agent_id": name, "count": count} for name, count in most]
        return {"reason": reason, "count": senders.total(), "senders": shown, "all_senders": len(+senders)}

    ordered = sorted(live.refused.items(), key=lambda item: (-item[1].total(), item[0]))
    return [one(reason, senders) for reason, senders in ordered if senders.total()]


def _event(event: RunEvent) -> dict[str, Any]:
    return {
        "at": event.at,
        "name": event.name,
        "round_number": event.round_number,
        "agent_id": event.agent_id,
        "detail": event.detail,
    }
