"""Agents come, go and ask: who is there, and what each is told. Their updates are `deliveries.py`'s."""

from coordinator.dispatch import Dispatch
from coordinator.events import AgentAsked, AgentSeen, Publish, Released
from coordinator.members import Member
from coordinator.outbox import Outbox
from coordinator.quarantine import FLOOD, LET_OUT, SHUT_OUT
from coordinator.run_state import RunState
from schemas.errors import Reason
from schemas.messages import AgentRequest, RoundFailure
from schemas.versions import CURRENT
from schemas.weights import prefix


class Attendance:
    """Keeps the members' presence up to date, and answers whoever speaks."""

    def __init__(self, state: RunState, out: Outbox, dispatch: Dispatch) -> None:
        self._state = state
        self._out = out
        self._dispatch = dispatch

    def on_agent_seen(self, event: AgentSeen) -> None:
        """A status: greet the agent, or note that it is gone."""
        member = self._admit(event.agent_id)
        if member is None:
            return
        online = event.status.state == "online"
        if not online:
            if member.online and event.status.instance == member.instance:
                self._note_absence(event.agent_id, member)
        elif not event.retained:
            # The retained status of an agent is no proof: it will answer our own status if it is there.
            if not member.online or member.instance != event.status.instance:
                self._out.event("agent-online", "", event.agent_id)
            if self._state.open is not None and member.instance != event.status.instance:
                self._state.open.ask_again(event.agent_id)
            member.instance = event.status.instance
            member.codecs, member.holds = frozenset(event.status.codecs), event.status.holds or ""
            self._greet(event.agent_id, member, event.minor)

    def on_released(self, event: Released) -> None:
        """The operator lets an agent out of quarantine: tell it at once what is wanted from it."""
        member = self._state.members.get(event.agent_id)
        if member is None or not member.quarantined:
            return
        self._state.members.let_in(member)
        self._out.event(LET_OUT, "by the operator", event.agent_id, durable=True)
        if self._state.open is not None:
            self._state.open.given_up.discard(event.agent_id)
        if member.online:
            self._greet(event.agent_id, member, member.minor)

    def on_agent_asked(self, event: AgentAsked) -> None:
        """A request: send the model that is asked for, or say what is wanted instead."""
        member = self._admit(event.agent_id)
        if member is None or self._asks_too_much(event, member):
            return
        request = event.request
        if request.codecs is not None:
            member.codecs = frozenset(request.codecs)
            member.holds = request.holds or member.holds
        if request.failed is not None and not member.quarantined:
            self._excuse(event.agent_id, request.failed)
        wanted = self._wanted_model(event.agent_id, member, request)
        if wanted:
            self._arrive(member, event.minor)
            self._out.add(*wanted)
        else:
            self._greet(event.agent_id, member, event.minor)

    def _excuse(self, agent_id: str, failure: RoundFailure) -> None:
        """It cannot deliver: do not wait for it. Should it still do so while the round is open, its update counts."""
        open_round = self._state.open
        if open_round is None or agent_id not in open_round.missing() or agent_id in open_round.given_up:
            return
        asked = (self._state.rules.run_id, open_round.number, open_round.attempt)
        if (failure.run_id, failure.round_number, failure.attempt) == asked:
            open_round.excuse(agent_id)
            open_round.pulls.drop(agent_id)
            detail = "".join(c if c.isprintable() else " " for c in failure.detail)  # it ends up on terminals
            self._out.event("agent-failed", detail, agent_id)

    def _asks_too_much(self, event: AgentAsked, member: Member) -> bool:
        """Refuse the questions of a flood. Four times all pieces of the model are not one."""
        member.questions += max(1, event.request.count)
        open_round = self._state.open
        pieces = open_round.parcels.whole_bytes // self._state.rules.chunk_bytes if open_round is not None else 0
        if member.questions <= FLOOD + 4 * pieces:
            return False
        self._out.refuse_message(event.agent_id, Reason.UNSOLICITED, "more questions in one round than anybody needs")
        return True

    def _wanted_model(self, agent_id: str, member: Member, request: AgentRequest) -> list[Publish]:
        """The model or the pieces of it that a request asks for; none when there is no such thing for this agent."""
        open_round, asked, letters = self._state.open, request.round, self._out.letters
        if open_round is None or asked is None or not open_round.takes_part(agent_id):
            return []
        if (asked.run_id, asked.round_number) != (self._state.rules.run_id, open_round.number):
            return []
        if request.want == "whole":
            open_round.parcels.asked_whole.add(agent_id)
        parcel = open_round.parcels.to(agent_id, member)
        if request.want == "chunks":
            return letters.model_chunks(open_round, parcel, agent_id, request.first, request.count)
        pushed = request.want == "model" and parcel.offer.blob_sha256 is None
        return [letters.model(open_round.number, parcel, agent_id)] if pushed else []

    def _admit(self, agent_id: str) -> Member | None:
        member = self._state.members.admit(agent_id)
        if member is None:
            self._out.refuse_message(agent_id, Reason.UNKNOWN_AGENT, "not on the list of this run's agents")
        return member

    def _note_absence(self, agent_id: str, member: Member) -> None:
        self._state.members.leave(member)
        self._state.unreported.discard(agent_id)
        self._out.letters.minor = self._state.members.lowest_minor(CURRENT.minor)
        self._out.event("agent-offline", "", agent_id)

    def _greet(self, agent_id: str, member: Member, minor: int) -> None:
        """An agent is there: tell it what is wanted from it now."""
        self._arrive(member, minor)
        self._dispatch.forget(agent_id)
        if not self._state.is_ours:
            return
        open_round = self._state.open
        if member.quarantined:
            self._out.refuse_message(agent_id, Reason.QUARANTINED, SHUT_OUT)
        elif open_round is not None and open_round.wants(agent_id):
            parcel = open_round.parcels.to(agent_id, member)
            late = bool(member.holds) and prefix(member.holds) == parcel.offer.base
            if parcel.is_pushed and (late or agent_id in open_round.parcels.asked_whole):
                # It holds what this is the difference from, and missed the broadcast; or it wants the whole model.
                self._out.add(self._out.letters.model(open_round.number, parcel, agent_id))
            self._out.announce(agent_id)
        else:
            self._out.standing(agent_id)

    def _arrive(self, member: Member, minor: int) -> None:
        member.terms = ""
        self._state.members.arrive(member, min(minor, CURRENT.minor))
        self._out.letters.minor = self._state.members.lowest_minor(CURRENT.minor)
