"""What is missing or slow and what to do about it, in plain words: one notice for each thing, for who runs the home.

Pure. Sentences may hold `{time}`, which the browser fills in with `at` in its own time zone: the server's may be
another one.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from coordinator.web import words
from coordinator.web.live_run import LiveRun
from coordinator.web.troubles import Troubles, is_hot

NOTICEABLE_S = 2.0
"""A device that costs less than this per round is nothing to bother a person with."""

LATE_FACTOR, LATE_S = 3.0, 60.0
"""A round is called late from this many times the usual duration on, and not before this."""

SINGLE_NOTICES = 3
"""More devices than this with the same trouble share one notice."""

_BY_URGENCY = {"bad": 0, "warn": 1, "info": 2}


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing that a person should know.

    Attributes:
        level: `bad` stops the training, `warn` wants a look, `info` does not.
        text: what is the matter; `todo`: what to do about it.
        at: what `{time}` stands for, UTC seconds.
    """

    level: str
    text: str
    todo: str = ""
    at: float | None = None


def notices(live: LiveRun, troubles: Troubles, now_s: float) -> list[Notice]:
    """Everything that there is to say about a run that goes on, the most urgent first."""
    found = [
        *_about_missing(live, troubles.missing),
        *_about_quarantined(troubles.quarantined),
        *_about_failing(live, troubles.failing),
        *_about_silent(live, troubles.silent),
        *_about_unusable(troubles.unusable),
        *_about_versions(troubles.other_version),
        *_about_heat(live, troubles.struggling),
        *_about_lateness(live, now_s),
        *_about_straggler(live),
    ]
    if troubles.strangers:
        found.append(
            Notice(
                "info",
                "A device that is not on the list wanted to take part and was turned away.",
                "If it is yours, ask your technician to add it.",
            )
        )
    return sorted(found, key=lambda notice: _BY_URGENCY[notice.level])


def _about_missing(live: LiveRun, missing: Sequence[str]) -> Iterable[Notice]:
    def since(agent_id: str) -> float | None:
        device = live.devices.get(agent_id)
        return (device.gone_at or device.last_seen_at) if device is not None else None

    def one(agent_id: str) -> Notice:
        at = since(agent_id)
        known = "has not answered since {time}" if at is not None else "has not been heard of in this run"
        return Notice("warn", f"{words.device(agent_id)} {known}.", "Check that it has power and Wi-Fi.", at)

    def many(agent_ids: Sequence[str]) -> Notice:
        first = min((at for at in map(since, agent_ids) if at is not None), default=None)
        when = ", the first of them since {time}" if first is not None else ""
        return Notice(
            "warn",
            f"{len(agent_ids):,} devices do not answer{when}: {words.rooms(agent_ids)}.",
            "When many are missing at once, check the Wi-Fi and the fuse of that part of the building first.",
            first,
        )

    return _one_by_one_or_together(missing, one, many)


def _about_quarantined(quarantined: Sequence[str]) -> Iterable[Notice]:
    return _one_by_one_or_together(
        quarantined,
        lambda agent_id: Notice(
            "warn",
            f"{words.device(agent_id)} has been shut out: too much of what it sent could not be used.",
            "The model is not harmed. Ask your technician to look at it and to let it back with: "
            f"coordinator release {agent_id}",
        ),
        lambda agent_ids: Notice(
            "warn",
            f"{len(agent_ids):,} devices have been shut out: {words.rooms(agent_ids)}.",
            "Too much of what they sent could not be used. Ask your technician to look at them and to let them back "
            "with: coordinator release",
        ),
    )


def _about_failing(live: LiveRun, failing: Sequence[str]) -> Iterable[Notice]:
    return _one_by_one_or_together(
        failing,
        lambda agent_id: Notice(
            "warn",
            f"{words.device(agent_id)} cannot do its part since {{time}}.",
            f"The others go on. Tell your technician what it says: {live.devices[agent_id].failure}",
            live.devices[agent_id].failed_at,
        ),
        lambda agent_ids: Notice(
            "warn",
            f"{len(agent_ids):,} devices cannot do their part: {words.rooms(agent_ids)}.",
            f"Ask your technician. The first of them says: {live.devices[agent_ids[0]].failure}",
        ),
    )


def _about_silent(live: LiveRun, silent: Sequence[str]) -> Iterable[Notice]:
    return _one_by_one_or_together(
        silent,
        lambda agent_id: Notice(
            "warn",
            f"{words.device(agent_id)} is connected, but has sent no result since {{time}}.",
            "If it stays like this, unplug it, wait ten seconds and plug it in again.",
            live.devices[agent_id].silent_at,
        ),
        lambda agent_ids: Notice(
            "warn",
            f"{len(agent_ids):,} devices are connected, but sent no result: {words.rooms(agent_ids)}.",
            "The Wi-Fi may be slow there. If it stays like this, ask your technician.",
        ),
    )


def _about_unusable(unusable: Sequence[str]) -> Iterable[Notice]:
    return _one_by_one_or_together(
        unusable,
        lambda agent_id: Notice(
            "warn",
            f"{words.device(agent_id)} has sent results that cannot be used. They were left out.",
            "The model is not harmed. Ask your technician to look at the device.",
        ),
        lambda agent_ids: Notice(
            "warn",
            f"{len(agent_ids):,} devices have sent results that cannot be used: {words.rooms(agent_ids)}.",
            "They were left out; the model is not harmed. Ask your technician to look at these devices.",
        ),
    )


def _about_versions(other_version: Sequence[str]) -> Iterable[Notice]:
    return _one_by_one_or_together(
        other_version,
        lambda agent_id: Notice(
            "warn",
            f"{words.device(agent_id)} runs another version of the program.",
            "Ask your technician to update it.",
        ),
        lambda agent_ids: Notice(
            "warn",
            f"{len(agent_ids):,} devices run another version of the program: {words.rooms(agent_ids)}.",
            "Ask your technician to update them.",
        ),
    )


def _about_heat(live: LiveRun, struggling: Sequence[str]) -> Iterable[Notice]:
    def one(agent_id: str) -> Notice:
        device = live.devices[agent_id]
        if is_hot(device):
            degrees = f"{device.cpu_temperature_c:.0f}\N{NO-BREAK SPACE}°C"
            return Notice(
                "warn",
                f"{words.device(agent_id)} is too warm ({degrees}) and slows itself down.",
                "Move it away from heaters and sun, and do not cover it.",
            )
        return Notice(
            "warn",
            f"{words.device(agent_id)} slows itself down: it is too warm, or its power supply is too weak.",
            "Uncover it, and use the power supply that it came with.",
        )

    def many(agent_ids: Sequence[str]) -> Notice:
        return Notice(
            "warn",
            f"{len(agent_ids):,} devices slow themselves down: {words.rooms(agent_ids)}.",
            "They are too warm, or their power supplies are too weak. Uncover them and keep them away from heaters.",
        )

    return _one_by_one_or_together(struggling, one, many)


def _about_lateness(live: LiveRun, now_s: float) -> Iterable[Notice]:
    open_round = live.open_round
    if open_round is None or not live.rounds:
        return
    usual_s = median(r.duration_s for r in list(live.rounds.values())[-20:])
    if now_s - open_round.opened_at < max(LATE_S, LATE_FACTOR * usual_s):
        return
    answered = live.reports(open_round.number)
    awaited = [a for a, device in live.devices.items() if device.online and a not in answered]
    who = f" It waits for {words.rooms(awaited)}." if awaited else ""
    yield Notice(
        "info",
        f"Round {open_round.number:,} takes longer than usual; it began at {{time}}.{who}",
        "Nothing is broken. A round ends by itself when its time is up.",
        open_round.opened_at,
    )


def _about_straggler(live: LiveRun) -> Iterable[Notice]:
    straggler = live.straggler()
    if straggler is None or straggler.latency_s - straggler.others_latency_s < NOTICEABLE_S:
        return
    yield Notice(
        "info",
        f"{words.device(straggler.agent_id)} is slow: it needs {words.seconds(straggler.latency_s)} a round, the "
        f"others {words.seconds(straggler.others_latency_s)}, and everybody waits for it.",
        "Nothing is broken. If it stays like this, move it closer to the Wi-Fi, or ask your technician.",
    )


def _one_by_one_or_together(
    agent_ids: Sequence[str], one: Callable[[str], Notice], many: Callable[[Sequence[str]], Notice]
) -> Iterable[Notice]:
    return [many(agent_ids)] if len(agent_ids) > SINGLE_NOTICES else [one(agent_id) for agent_id in agent_ids]
