"""How things are called on the first view: rooms by their devices' names, numbers and lists as one says them."""

import re
from collections.abc import Sequence

_MACHINE = re.compile(r"^(pi|rpi|raspberry|agent|device|node|edge|sensor)(-|\d|$)")

NAMED_AT_MOST = 3
"""Longer lists of rooms end in "and 9 more"."""


def room(agent_id: str) -> str:
    """What a person calls it: `room-3` is Room 3."""
    words = agent_id.replace("-", " ").strip() or agent_id
    return words[0].upper() + words[1:]


def device(agent_id: str) -> str:
    """The device of a room: Room 3's device; one that is named as a device is called by its name."""
    name = room(agent_id)
    return name if _MACHINE.match(agent_id) else f"{name}'s device"


def natural_key(agent_id: str) -> tuple[tuple[int, int, str], ...]:
    """Sorts room-2 before room-10."""
    parts = re.findall(r"\d+|\D+", agent_id)
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts)


def rooms(agent_ids: Sequence[str]) -> str:
    """Room 1, Room 2 and 9 more."""
    names = [room(agent_id) for agent_id in sorted(agent_ids, key=natural_key)]
    shown, more = names[:NAMED_AT_MOST], len(names) - NAMED_AT_MOST
    if more > 1:
        return f"{', '.join(shown)} and {more} more"
    if more == 1:
        shown = names
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def count(number: int, one: str, many: str | None = None) -> str:
    """1 room, 2 rooms, 1,000 rooms."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def seconds(duration_s: float) -> str:
    """A duration, with as many digits as one would say."""
    if duration_s < 10:
        return f"{duration_s:.1f} seconds"
    if duration_s < 100:
        return f"{duration_s:.0f} seconds"
    return f"{duration_s / 60:.0f} minutes"


def of_hundred(share: float) -> str:
    """An accuracy as a person counts: 91 of 100."""
    return f"{share * 100:.0f} of 100"
