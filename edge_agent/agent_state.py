"""What the participant engine and its parts know of an agent and of its run. No decisions here."""

import math
from dataclasses import dataclass, field

from edge_agent.events import Carry, HeldModel, PendingUpdate
from edge_agent.phases import Phase
from edge_agent.round_in_work import RoundInWork
from schemas.measures import Instant
from schemas.messages import RoundAnnouncement, RoundFailure

START = Instant(0.0, 0.0)


@dataclass(slots=True)
class AgentState:
    """One agent, as it stands.

    Attributes:
        run_id: the run that `pending`, `carries` and `closed_round` belong to.
        pending: the update whose round is not known to be closed.
        carries: round -> what was carried out of it.
        held: the model that the next one may be a difference from.
        closed_round: the last round that is known to be closed.
        work: the round that is being worked on.
        failed: the announcement of work that could not be done.
        failure: what is asked of us and cannot be delivered, as the coordinator is told; None when all is well.
        idle_since_s: monotonic; NaN before the first connect.
        retry_at_s: when what is fetched or sent is asked for or sent again.
    """

    run_id: str = ""
    pending: PendingUpdate | None = None
    carries: dict[int, Carry] = field(default_factory=dict)
    held: HeldModel | None = None
    closed_round: int = 0
    phase: Phase = Phase.IDLE
    work: RoundInWork | None = None
    failed: RoundAnnouncement | None = None
    failure: RoundFailure | None = None
    idle_since_s: float = math.nan
    retry_at_s: float = math.inf
    connected: bool = False
    now: Instant = START

    @property
    def now_s(self) -> float:
        """Monotonic seconds."""
        return self.now.monotonic_s

    def working_on(self, run_id: str, round_number: int, *phases: Phase) -> RoundInWork | None:
        """The round in work, when it is this one and, if any are given, in one of these phases."""
        if self.work is None or not self.work.is_of(run_id, round_number) or (phases and self.phase not in phases):
            return None
        return self.work
