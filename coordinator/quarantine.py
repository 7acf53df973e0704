"""When an agent is shut out: what it sends is counted against it, until it is too much. Pure decisions.

An agent in quarantine is refused, not selected and not waited for. It stays there over restarts of the coordinator,
as the record says so, until the operator lets it back (`coordinator release`).
"""

from collections.abc import Iterable, Mapping

from coordinator.run_state import RunState
from schemas.errors import Reason
from schemas.records import RunEvent

PUT_IN, LET_OUT = "agent-quarantined", "agent-released"
"""The names of the events."""

LATE = frozenset(
    {
        Reason.UNKNOWN_AGENT,
        Reason.WRONG_RUN,
        Reason.STALE_ROUND,
        Reason.FUTURE_ROUND,
        Reason.NOT_SELECTED,
        Reason.DUPLICATE,
        Reason.WRONG_BASE,
        Reason.UNSUPPORTED_VERSION,
        Reason.QUARANTINED,
    }
)
"""Refusals that say nothing against an agent: its message was late, or its software is old."""

SHUT_OUT = "in quarantine, until the operator lets it back with `coordinator release`"

FLOOD = 1000
"""So many refusals or questions of an agent in one round are too many, whatever they are."""


def hold_against(state: RunState, agent_id: str, reason: Reason, refused: Mapping[str, int]) -> str:
    """Count a refusal against its agent, and shut it out when it was one too many.

    Args:
        refused: of this agent since the last round's record, by reason.

    Returns:
        Why it is shut out now, in words; empty when it is not, or was before.
    """
    member, most = state.members.get(agent_id), state.rules.quarantine_after
    if member is None or member.quarantined or not most:
        return ""
    member.offences += reason not in LATE
    if member.offences >= most:
        why = f"{member.offences} messages of it had to be refused, the last one because: {reason}"
    elif sum(refused.values()) >= FLOOD:
        why = f"{FLOOD} messages of it had to be refused in one round, the last one because: {reason}"
    else:
        return ""
    state.members.shut_out(member)
    if state.open is not None:
        state.open.give_up(agent_id)
        state.open.pulls.drop(agent_id)
    return why


def is_worth_telling(count: int) -> bool:
    """True for the first hundred of a kind and then ever more rarely, so that a flood fills no log and no queue."""
    return count <= 100 or count & (count - 1) == 0


def quarantined(events: Iterable[RunEvent]) -> dict[str, RunEvent]:
    """Who is in quarantine, as the record says: agent -> the event that put it there."""
    inside: dict[str, RunEvent] = {}
    for event in events:
        if event.agent_id is not None and event.name == PUT_IN:
            inside[event.agent_id] = event
        elif event.agent_id is not None and event.name == LET_OUT:
            inside.pop(event.agent_id, None)
    return inside
