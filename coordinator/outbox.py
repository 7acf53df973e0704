"""What the round engine and its parts want done: messages, records and refusals, gathered into one list of actions.

As long as the federation may be another coordinator's, what agents send may be for that one: they get no receipts, and
no refusal is counted against them.
"""

from dataclasses import dataclass, field
from typing import Any

from coordinator.events import Action, NoteRefusal, Record
from coordinator.letters import Letters
from coordinator.quarantine import PUT_IN, hold_against, is_worth_telling
from coordinator.run_state import RunState
from schemas.errors import Reason
from schemas.identifiers import UNKNOWN_ID
from schemas.messages import ChunksWanted, CoordinatorStatus, Receipt, Standing
from schemas.records import RunEvent, Tally


@dataclass(slots=True)
class Outbox:
    """Writes what is said of a run as it stands.

    Attributes:
        actions: what is to be done, in this order; the engine hands them out after each event.
        refused, ignored_fields: counted since the last round's record.
    """

    state: RunState
    letters: Letters
    actions: list[Action] = field(default_factory=list)
    refused: Tally = field(default_factory=dict)
    ignored_fields: int = 0

    def add(self, *actions: Action) -> None:
        """Have something done."""
        self.actions += actions

    def status(self, *, claim: bool = False, answers: str | None = None, online: bool = True) -> None:
        """Say that this coordinator is there, or leaves."""
        message = CoordinatorStatus(
            state="online" if online else "offline",
            session=self.state.session,
            claim=claim,
            answers=answers,
            run_id=self.state.rules.run_id,
        )
        self.add(self.letters.status(message))

    def announce(self, agent_id: str) -> None:
        """Invite an agent to the open round."""
        member, open_round = self.state.members.get(agent_id), self.state.open
        if member is not None and open_round is not None and not member.quarantined:
            remaining_s = open_round.deadline_s - self.state.now_s
            self.add(self.letters.invitation(open_round, agent_id, member, remaining_s))

    def standing(self, agent_id: str, phase: Any = "waiting", detail: str | None = None) -> None:
        """Tell an agent where the run stands; never of a round that a crash could still open again."""
        member = self.state.members.get(agent_id)
        if member is not None:
            message = Standing(
                phase=phase,
                run_id=self.state.rules.run_id,
                closed_round=self.state.durable_round,
                detail=detail[:500] if detail else None,
            )
            self.add(self.letters.standing(agent_id, member, message))

    def want_chunks(self, agent_id: str, first: int, count: int) -> None:
        """Ask an agent for pieces of the update that it offered."""
        run_id, number = self.state.rules.run_id, self.state.number
        message = ChunksWanted(run_id=run_id, round_number=number, first=first, count=count)
        self.add(self.letters.wanted(agent_id, message, self.state.members.minor_of(agent_id)))

    def accept(self, agent_id: str, round_number: int) -> None:
        """Tell an agent that its update counts."""
        if self.state.is_ours:
            minor = self.state.members.minor_of(agent_id)
            self.add(self.letters.acceptance(agent_id, round_number, minor))

    def refuse_update(
        self, agent_id: str, round_number: int, reason: Reason, detail: str, run_id: str | None = None
    ) -> None:
        """Count a refusal, and tell the agent."""
        told = self.refuse(agent_id, reason, detail)
        if not told and reason in (Reason.QUARANTINED, Reason.UNKNOWN_AGENT):
            return  # whoever floods us is not answered each time
        receipt = Receipt(
            run_id=run_id or self.state.rules.run_id,
            round_number=round_number,
            outcome="refused",
            reason=reason,
            detail=detail[:500],
        )
        if self.state.is_ours:
            self.add(self.letters.receipt(agent_id, receipt, self.state.members.minor_of(agent_id)))

    def refuse_message(self, agent_id: str, reason: Reason, detail: str) -> None:
        """Count the refusal of something that is no update, and tell the agent, for its log."""
        if agent_id:
            self.refuse_update(agent_id, 0, reason, detail)
        else:
            self.refuse(agent_id, reason, detail)

    def refuse(self, agent_id: str, reason: Reason, detail: str) -> bool:
        """Count a refusal, and have it logged; False when nobody needs to hear of this one."""
        if agent_id and not self.state.is_ours:
            return False
        counted_as = agent_id if self.state.members.get(agent_id) else UNKNOWN_ID
        tally = self.refused.setdefault(counted_as, {})
        count = tally[reason.value] = tally.get(reason.value, 0) + 1
        told = is_worth_telling(count)
        if told:
            self.add(NoteRefusal(agent_id, reason, detail, self.state.number, count))
        why = hold_against(self.state, agent_id, reason, tally)
        if why:
            self.event(PUT_IN, why, agent_id, durable=True)
        return told

    def event(self, name: str, detail: str, agent_id: str | None = None, *, durable: bool = False) -> None:
        """Record something that a person may want to know."""
        event = RunEvent(
            run_id=self.state.rules.run_id,
            at=self.state.now.utc_s,
            name=name,
            round_number=self.state.number,
            agent_id=agent_id,
            detail=detail,
        )
        self.add(Record(event, durable))
