"""One coordinator per federation: claims it before it begins, answers others' claims, gives way to a later one.

Sessions sort by their start. Of two that start at once the earlier one stays; one that was stopped for a while and
goes on beside a later one ends.
"""

from dataclasses import dataclass

from coordinator.events import CoordinatorSeen
from coordinator.outbox import Outbox
from coordinator.phases import Phase
from coordinator.run_state import RunState
from schemas.messages import CoordinatorStatus

CLAIM_S = 0.3
"""How long a coordinator that starts listens for another one; longer when a status says that there was one."""

CLAIM_AFTER_ONLINE_S = 2.0

LOST_CLAIMS = 3
"""After so many claims whose connection broke this one gives up: another coordinator throws it out each time.

Where client ids are user names, as with certificates, or when a run's folder was copied, the broker lets only one of
two coordinators be connected, and the one that is there already never hears the claim.
"""


@dataclass(frozen=True, slots=True)
class Defeat:
    """The federation is another coordinator's."""

    outcome: str
    detail: str


class Claim:
    """This coordinator's dealings with others."""

    def __init__(self, state: RunState, out: Outbox) -> None:
        self._state = state
        self._out = out
        self._lost = 0

    def make(self) -> None:
        """Ask whether another one is there, and listen for a while."""
        self._state.until_s = self._state.now_s + CLAIM_S
        self._out.status(claim=True)

    def on_connection_lost(self) -> Defeat | None:
        """The connection broke; says so when this one must end."""
        if self._state.phase is not Phase.CLAIMING:
            return None
        self._lost += 1
        if self._lost < LOST_CLAIMS:
            return None
        return Defeat(
            "aborted",
            f"the broker ended the connection {self._lost} times before it was clear whether another coordinator is "
            "there: one that is running throws this one out, or the broker does not work; stop the other one",
        )

    def on_coordinator_seen(self, event: CoordinatorSeen) -> Defeat | None:
        """Take a coordinator's status; says so when this one must end."""
        if event.status.session == self._state.session:
            return None
        if self._state.phase is Phase.CLAIMING:
            return self._while_claiming(event)
        return self._while_running(event)

    def _while_claiming(self, event: CoordinatorSeen) -> Defeat | None:
        state, other = self._state, event.status
        if event.retained:
            # It may be long dead: give it more time to answer our claim.
            if other.state == "online":
                state.until_s = max(state.until_s, state.now_s + CLAIM_AFTER_ONLINE_S)
        elif other.answers == state.session:
            return Defeat("aborted", _in_the_way(other))
        elif other.claim and other.session > state.session:
            # Both have just started: the earlier one stays.
            self._out.status(answers=other.session)
        return None

    def _while_running(self, event: CoordinatorSeen) -> Defeat | None:
        other = event.status
        if other.claim:
            self._out.status(answers=other.session)
        elif other.state == "online" and other.answers is None and other.session > self._state.session:
            # Retained, it is from while we were away: the last words of one that has gone would say `offline`.
            return Defeat("stopped", f"another coordinator (session {other.session}) took over this federation")
        elif not event.retained and other.answers is None:
            # An earlier one that was stopped for a while, or the last words of one that is gone: ours is the status.
            self._out.status()
        return None


def _in_the_way(other: CoordinatorStatus) -> str:
    run = f", run {other.run_id}" if other.run_id else ""
    return (
        f"another coordinator (session {other.session}{run}) is running on this federation: stop it, or use "
        "another topic prefix"
    )
