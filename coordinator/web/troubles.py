"""Finds what is wrong with a run's devices: who is missing, silent, refused, of another version, or too warm.

Pure. What to say about it is in `notices.py`.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from coordinator.web import words
from coordinator.web.live_run import Device, LiveRun
from coordinator.web.plan import Plan
from schemas.errors import Reason
from schemas.identifiers import UNKNOWN_ID

SETTLING_S = 20.0
"""After a start, so long nobody is called missing: devices come back one by one."""

HOT_C = 80.0
"""From here on a Raspberry Pi slows itself down."""

UNUSABLE = frozenset(
    {
        Reason.MALFORMED,
        Reason.WRONG_NAMES,
        Reason.WRONG_SHAPE,
        Reason.WRONG_DTYPE,
        Reason.WRONG_EXAMPLES,
        Reason.WRONG_DIGEST,
        Reason.NON_FINITE,
        Reason.NORM_EXCEEDED,
        Reason.OVERFLOW,
        Reason.TOO_LARGE,
    }
)
"""The device, its data or its disk is damaged, or somebody has changed its program."""

OTHER_VERSION = frozenset({Reason.UNSUPPORTED_VERSION, Reason.UNEXPECTED_FIELD, Reason.UNKNOWN_CODEC})
# The other reasons are part of normal life: a device that was away answers an old round, or twice.


@dataclass(frozen=True, slots=True)
class Troubles:
    """Agent ids by what is wrong with them, in the order in which a person reads them.

    Attributes:
        missing: should be there, and are not.
        quarantined: were shut out, and have to be let back by the operator.
        failing: are there, and say that they cannot do their part.
        silent: are there, and have not sent what they were asked for.
        unusable: sent results in recent rounds that could not be used; `other_version`: that another version made.
        struggling: slow themselves down, or are about to.
        strangers: a device that is not on the run's list has tried to take part.
    """

    missing: tuple[str, ...] = ()
    quarantined: tuple[str, ...] = ()
    failing: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    unusable: tuple[str, ...] = ()
    other_version: tuple[str, ...] = ()
    struggling: tuple[str, ...] = ()
    strangers: bool = False

    @property
    def agent_ids(self) -> frozenset[str]:
        """All devices that want a look."""
        return frozenset(
            (
                *self.missing,
                *self.quarantined,
                *self.failing,
                *self.silent,
                *self.unusable,
                *self.other_version,
                *self.struggling,
            )
        )


def find_troubles(live: LiveRun, plan: Plan, now_s: float) -> Troubles:
    """What is wrong with a run that goes on.

    Args:
        now_s: UTC seconds.
    """
    recent = _recently_refused(live)
    shut_out = {agent_id for agent_id, device in live.devices.items() if device.quarantined}
    there = {agent_id: device for agent_id, device in live.devices.items() if device.online}
    return Troubles(
        missing=_ordered(_missing(live, plan, now_s)),
        quarantined=_ordered(shut_out),
        failing=_ordered(agent_id for agent_id, device in there.items() if device.failed_at is not None),
        silent=_ordered(agent_id for agent_id, device in there.items() if device.silent_at is not None),
        unusable=_ordered(set(_with_any(recent, live, UNUSABLE)) - shut_out),
        other_version=_ordered(_with_any(recent, live, OTHER_VERSION)),
        struggling=_ordered(agent_id for agent_id, device in there.items() if is_hot(device) or device.throttled),
        strangers=recent.get(UNKNOWN_ID, Counter())[Reason.UNKNOWN_AGENT] > 0,
    )


def is_hot(device: Device) -> bool:
    """It slows itself down because of its temperature, or is about to."""
    return device.cpu_temperature_c is not None and device.cpu_temperature_c >= HOT_C


def _missing(live: LiveRun, plan: Plan, now_s: float) -> Iterable[str]:
    """Those known to be gone; after a while also those that a start has not brought back or never brought."""
    settling = live.turn is None or now_s - live.turn.at < SETTLING_S
    for agent_id, device in live.devices.items():
        if not device.online and (device.gone_at is not None or not settling):
            yield agent_id
    if not settling:
        yield from (agent_id for agent_id in plan.expected if agent_id not in live.devices)


def _recently_refused(live: LiveRun) -> dict[str, Counter[str]]:
    """Of recent rounds only: what has been put right need not be looked at."""
    found: dict[str, Counter[str]] = {}
    for record in live.recent_rounds.values():
        for agent_id, reasons in record.refused.items():
            found.setdefault(agent_id, Counter()).update(reasons)
    return found


def _with_any(recent: dict[str, Counter[str]], live: LiveRun, reasons: frozenset[Reason]) -> Iterable[str]:
    return (a for a, counts in recent.items() if a in live.devices and any(counts[reason] for reason in reasons))


def _ordered(agent_ids: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(agent_ids, key=words.natural_key))
