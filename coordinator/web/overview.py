"""The document of the first view: is everything all right, which rooms take part, how good the model is.

Every number comes from the run's record, through `LiveRun`; sentences come from `advice.py`.
"""

from dataclasses import asdict
from typing import Any

from coordinator.web import advice, words
from coordinator.web.follower import Sight
from coordinator.web.live_run import Device, LiveRun
from coordinator.web.notices import Notice, notices
from coordinator.web.pages import Wanted, page_of
from coordinator.web.plan import Plan, plan_of
from coordinator.web.troubles import Troubles, find_troubles

SHOWN_NOTICES = 6
CHART_POINTS = 300
"""More rounds than these are thinned out for the curve; its last point is always there."""

TROUBLE_STATES = ("missing", "quarantined", "failing", "silent", "unusable", "other_version", "struggling")
"""Fields of `Troubles`; a room that is in several is shown in the first of them."""


def overview(sight: Sight | None, wanted: Wanted, now_s: float) -> dict[str, Any]:
    """What the first view shows.

    Args:
        sight: the run, or None when there is none yet.
        wanted: which of the rooms.
        now_s: UTC seconds.
    """
    if sight is None:
        return {"at": now_s, "version": "", "run": None, "headline": asdict(advice.NO_RUN)}
    live, plan = sight.live, plan_of(sight.run_id, sight.config)
    state = advice.state_of(live, sight.running)
    troubles = troubles_of(sight, plan, now_s)
    speaks = sight.running and live.broker_connected
    found: list[Notice] = notices(live, troubles, now_s) if speaks else []
    return {
        "at": now_s,
        "version": sight.version,
        "run": {"run_id": sight.run_id, "state": state, "started_at": live.started_at, "last_at": live.last_at},
        "headline": asdict(advice.headline(live, plan, sight.running, troubles, now_s)),
        "notices": [asdict(notice) for notice in found[:SHOWN_NOTICES]],
        "more_notices": max(0, len(found) - SHOWN_NOTICES),
        "progress": _progress(live, plan),
        "rooms": _rooms(sight, troubles, wanted),
        "model": _model(live, plan, sight.running),
    }


def thinned(numbers: list[int], most: int) -> list[int]:
    """Evenly chosen ones of a list, the last one always among them."""
    step = -(-len(numbers) // most) or 1
    return numbers[::-1][::step][::-1]


def _progress(live: LiveRun, plan: Plan) -> dict[str, Any]:
    open_round = live.open_round
    answered = len(live.reports(open_round.number)) if open_round is not None else None
    return {
        "rounds_closed": live.last_round,
        "rounds": plan.rounds,
        "open_round": open_round.number if open_round is not None else None,
        "opened_at": open_round.opened_at if open_round is not None else None,
        "answered": answered,
    }


def troubles_of(sight: Sight, plan: Plan, now_s: float) -> Troubles:
    """What is wrong now; nothing is once a run has ended, and nothing is known without a broker."""
    return find_troubles(sight.live, plan, now_s) if sight.running and sight.live.broker_connected else Troubles()


def _rooms(sight: Sight, troubles: Troubles, wanted: Wanted) -> dict[str, Any]:
    devices = sight.live.devices
    names = sorted({*devices, *troubles.missing}, key=words.natural_key)
    in_trouble = {name: state for state in reversed(TROUBLE_STATES) for name in getattr(troubles, state)}
    states = {name: in_trouble.get(name) or _calm_state(devices[name], sight) for name in names}
    query = wanted.query.casefold()
    matching = [name for name in names if query in name or query in words.room(name).casefold()]
    matching.sort(key=lambda name: name not in in_trouble)  # stable: by name within
    page = page_of(matching, wanted)
    return {
        **page.document(),
        "all": len(names),
        "known": sight.live.broker_connected,
        "there": sum(device.online for device in devices.values()),
        "took_part": sum(device.rounds_accepted > 0 for device in devices.values()),
        "items": [_room(name, states[name], devices.get(name)) for name in page.items],
    }


def _calm_state(device: Device, sight: Sight) -> str:
    """There, or `returning` after a restart, `unknown` without a broker; `took-part` or `idle` once a run is over."""
    if not sight.running:
        return "took-part" if device.rounds_accepted else "idle"
    if not device.online:
        return "returning"
    return "there" if sight.live.broker_connected else "unknown"


def _room(agent_id: str, state: str, device: Device | None) -> dict[str, Any]:
    return {
        "agent_id": agent_id,
        "name": words.room(agent_id),
        "state": state,
        "since": None if device is None else device.gone_at or device.failed_at or device.silent_at,
        "last_seen_at": None if device is None else device.last_seen_at,
        "rounds_accepted": 0 if device is None else device.rounds_accepted,
    }


def _model(live: LiveRun, plan: Plan, running: bool) -> dict[str, Any]:
    scored = [r for r in live.rounds.values() if r.accuracy is not None and plan.measures_accuracy]
    kept = thinned([r.number for r in scored], CHART_POINTS)
    return {
        "accuracy": scored[-1].accuracy if scored else None,
        "first_accuracy": scored[0].accuracy if scored else None,
        "best_accuracy": max((r.accuracy for r in scored if r.accuracy is not None), default=None),
        "target_accuracy": plan.target_accuracy,
        "sentences": advice.model_sentences(live, plan, running),
        "curve": {"rounds": kept, "accuracy": [live.rounds[number].accuracy for number in kept]},
    }
